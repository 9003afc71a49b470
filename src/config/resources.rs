//! `[[resource]]`: what is behind the gateway.

use super::credentials;
use super::databases::{self, PASSWORD};
use super::limits;
use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Report, Spot};
use super::source::Source;
use super::types::{CredentialKind, CredentialSpec, PROTOCOLS, Protocol, Resource, UpstreamTls};
use super::upstreams::{Found, upstream, upstream_tls};
use crate::base::{CredentialId, Limits};
use crate::mask::Shape;
use toml::de::DeValue;

/// What resources are checked against; inline credentials are added to it.
pub(super) struct Around<'c, 'a> {
    pub(super) names: &'c Names<'a>,
    pub(super) credential_names: &'c mut Names<'a>,
    pub(super) credentials: &'c mut Vec<CredentialSpec>,
    /// Credentials that have errors of their own.
    pub(super) broken_credentials: &'c [u16],
    pub(super) limits: &'c Limits,
    pub(super) source: &'c dyn Source,
}

/// One entry for each section; `None` where it has errors.
pub(super) fn resources<'a>(
    sections: Vec<Section<'a>>,
    around: &mut Around<'_, 'a>,
    report: &mut Report,
) -> Vec<Option<Resource>> {
    let mut resources = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let name = around.names.name(place).to_owned();
        let protocol = section.required("protocol", report);
        resources.push(resource(&mut section, &name, protocol, around, report));
        section.finish(report);
    }
    resources
}

fn resource<'a>(
    section: &mut Section<'a>,
    name: &str,
    protocol: Option<Text<'a>>,
    around: &mut Around<'_, 'a>,
    report: &mut Report,
) -> Option<Resource> {
    let protocol = protocol.and_then(|text| choose("protocol", text, &PROTOCOLS, report));
    let tls = section.table("tls", report).map(|tls| upstream_tls(tls, around.source, report));
    let insecure = section.flag("insecure", report).unwrap_or(false);
    let written = section.required("upstream", report);
    let found = written.zip(protocol).and_then(|(text, protocol)| {
        upstream(text, protocol, name, tls.is_some(), insecure, report)
    });
    if protocol == Some(Protocol::Postgres)
        && insecure
        && found.as_ref().is_some_and(|found| !found.is_exposed())
    {
        report.warn(
            section.spot_of("insecure"),
            format!("`insecure` changes nothing for the upstream of `{name}`"),
            "with `tls` its certificate is verified all the same; on loopback no key is needed",
        );
    }
    let exposed = found.as_ref().is_some_and(Found::is_exposed);
    let auth = protocol.map(|protocol| databases::auth(section, name, protocol, exposed, report));
    let shape = shape(section, protocol, report);
    let credential = credential(section, name, protocol, around, report);
    let own = section.table("limits", report);
    let limits = protocol.map(|protocol| limits::of_resource(own, protocol, around.limits, report));
    let Found { upstream, database, is_tls } = found?;
    let tls = is_tls.then(|| {
        let (ca, server_name) = tls.unwrap_or_default();
        let server_name = server_name.unwrap_or_else(|| upstream.host.clone());
        UpstreamTls { ca, server_name }
    });
    Some(Resource {
        name: name.to_owned(),
        protocol: protocol?,
        upstream,
        database,
        shape: shape?,
        credential: credential?,
        auth: auth?,
        tls,
        limits: limits?,
    })
}

fn shape(
    section: &mut Section<'_>,
    protocol: Option<Protocol>,
    report: &mut Report,
) -> Option<Shape> {
    let Some(text) = section.text("shape", report) else { return Some(Shape::Plain) };
    if protocol == Some(Protocol::Postgres) {
        report.error(text.spot, "a postgres resource has no shape", "leave `shape` out");
        return None;
    }
    if let "gemini" | "mcp" = text.text {
        report.error(
            text.spot,
            format!("shape `{}` is not in this build", text.text),
            "known: openai, anthropic, plain",
        );
        return None;
    }
    let words =
        [("openai", Shape::OpenAi), ("anthropic", Shape::Anthropic), ("plain", Shape::Plain)];
    let shape = choose("shape", text, &words, report)?;
    if protocol == Some(Protocol::Tcp) && shape != Shape::Plain {
        report.error(text.spot, "a tcp resource has no shape", "leave `shape` out");
    }
    Some(shape)
}

fn credential<'a>(
    section: &mut Section<'a>,
    name: &str,
    protocol: Option<Protocol>,
    around: &mut Around<'_, 'a>,
    report: &mut Report,
) -> Option<CredentialId> {
    let spot = section.spot_of("credential");
    let id = match section.field("credential").map(|field| field.value) {
        Some(DeValue::Table(_)) => {
            let table = section.table("credential", report)?;
            let kind = credentials::kind(table, report)?;
            inline(name, kind, spot, around, report)
        }
        Some(_) => {
            let text = section.text("credential", report)?;
            around.credential_names.refer(text, report)?
        }
        None if protocol == Some(Protocol::Postgres) => {
            report.error(spot, format!("resource `{name}` needs `credential`"), PASSWORD);
            return None;
        }
        None => inline(name, CredentialKind::None, spot, around, report),
    };
    if around.broken_credentials.contains(&id) {
        return None;
    }
    let kind = around.credentials.get(usize::from(id)).map(|credential| &credential.kind);
    if let (Some(protocol), Some(kind)) = (protocol, kind)
        && !kind.suits(protocol)
    {
        unsuited(spot, protocol, report);
    }
    Some(CredentialId(id))
}

/// Says what a resource takes in place of a credential that has no place in its protocol.
fn unsuited(spot: Spot<'_>, protocol: Protocol, report: &mut Report) {
    let (message, help) = match protocol {
        Protocol::Http => (
            "an http resource has no place for a credential of kind `password`",
            "it takes bearer, header, basic or none",
        ),
        Protocol::Tcp => (
            "a tcp resource has no place for a credential",
            "leave `credential` out, or write { kind = \"none\" }",
        ),
        Protocol::Postgres => {
            ("a postgres resource takes a credential of kind `password` only", PASSWORD)
        }
    };
    report.error(spot, message, help);
}

fn inline<'a>(
    resource: &str,
    kind: CredentialKind,
    spot: Spot<'a>,
    around: &mut Around<'_, 'a>,
    report: &mut Report,
) -> u16 {
    let name = format!("{resource}.credential");
    let id = around.credential_names.add(&name, spot, report);
    around.credentials.push(CredentialSpec { name, kind });
    id
}
