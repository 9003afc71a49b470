//! `[[resource]]`: what is behind the gateway.

use super::credentials;
use super::issuers::readable;
use super::limits;
use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Report, Spot};
use super::settings::plain_beyond_loopback;
use super::source::Source;
use super::types::{CredentialKind, CredentialSpec, Protocol, Resource, Upstream, UpstreamTls};
use super::url::{self, Scheme, is_host};
use crate::base::{CredentialId, Limits};
use crate::mask::Shape;
use toml::de::DeValue;

/// What resources are checked against; inline credentials are added to it.
pub(super) struct Around<'c, 'a> {
    pub(super) names: &'c Names<'a>,
    pub(super) credential_names: &'c mut Names<'a>,
    pub(super) credentials: &'c mut Vec<CredentialSpec>,
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
        if let Some(text) = protocol.filter(|text| text.text == "postgres") {
            report.error(
                text.spot,
                "protocol `postgres` is not in this build",
                "http and tcp are; leave the resource out",
            );
            resources.push(None);
            continue;
        }
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
    let words = [("http", Protocol::Http), ("tcp", Protocol::Tcp)];
    let protocol = protocol.and_then(|text| choose("protocol", text, &words, report));
    let tls = section.table("tls", report).map(|tls| upstream_tls(tls, around.source, report));
    let insecure = section.flag("insecure", report).unwrap_or(false);
    let written = section.required("upstream", report);
    let upstream = written.zip(protocol).and_then(|(text, protocol)| {
        upstream(text, protocol, name, tls.is_some(), insecure, report)
    });
    let shape = shape(section, protocol, report);
    let credential = credential(section, name, protocol, around, report);
    let own = section.table("limits", report);
    let limits = limits::of_resource(own, around.limits, report);
    let (upstream, is_tls) = upstream?;
    let tls = is_tls.then(|| {
        let (ca, server_name) = tls.unwrap_or_default();
        let server_name = server_name.unwrap_or_else(|| upstream.host.clone());
        UpstreamTls { ca, server_name }
    });
    Some(Resource {
        name: name.to_owned(),
        protocol: protocol?,
        upstream,
        shape: shape?,
        credential: credential?,
        tls,
        limits,
    })
}

/// The upstream, and whether TLS is spoken with it.
fn upstream(
    text: Text<'_>,
    protocol: Protocol,
    name: &str,
    has_tls: bool,
    insecure: bool,
    report: &mut Report,
) -> Option<(Upstream, bool)> {
    let example = match protocol {
        Protocol::Http => "write `https://HOST`, `https://HOST:PORT/PATH` or `http://...`",
        Protocol::Tcp => "write `tcp://HOST:PORT`; `tls = {}` makes it TLS",
        Protocol::Postgres => "write `postgres://HOST:PORT/DATABASE`",
    };
    let mut wrong = |fault: &str| {
        report.error(text.spot, format!("the upstream of `{name}` {fault}"), example);
    };
    let url = match url::parse(text.text) {
        Ok(url) => url,
        Err(fault) => {
            wrong(fault);
            return None;
        }
    };
    let (is_tls, port) = match (protocol, url.scheme) {
        (Protocol::Http, Scheme::Https) => (true, url.port.unwrap_or(443)),
        (Protocol::Http, Scheme::Http) if has_tls => {
            wrong("is http, but has `tls`");
            return None;
        }
        (Protocol::Http, Scheme::Http) => (false, url.port.unwrap_or(80)),
        (Protocol::Tcp, Scheme::Tcp) => match url.port {
            Some(port) if url.path.is_empty() => (has_tls, port),
            Some(_) => {
                wrong("has a path");
                return None;
            }
            None => {
                wrong("has no port");
                return None;
            }
        },
        _ => {
            wrong("has a scheme of another protocol");
            return None;
        }
    };
    if !is_tls && !url::is_loopback(&url.host) {
        plain_beyond_loopback(text.spot, insecure, &format!("the upstream of `{name}`"), report);
    }
    // The scheme's own port is left out of `Host` (RFC 9110, section 4.2.3).
    let own = if is_tls { 443 } else { 80 };
    let authority = match url.port {
        Some(port) if port == own && protocol == Protocol::Http => {
            let end = url.authority.rfind(':').unwrap_or(url.authority.len());
            url.authority.get(..end).unwrap_or_default().to_owned()
        }
        _ => url.authority,
    };
    Some((Upstream { host: url.host, port, base_path: url.path, authority }, is_tls))
}

type Tls = (Option<std::path::PathBuf>, Option<String>);

fn upstream_tls(mut tls: Section<'_>, source: &dyn Source, report: &mut Report) -> Tls {
    let ca = readable(&mut tls, "ca", source, report);
    let server_name = tls.text("server_name", report).and_then(|text| {
        let name = text.text.to_ascii_lowercase();
        let good = is_host(&name) || name.parse::<core::net::IpAddr>().is_ok();
        if !good {
            report.error(text.spot, "`server_name` is no host name", "as in `db.internal`");
        }
        good.then_some(name)
    });
    tls.finish(report);
    (ca, server_name)
}

fn shape(
    section: &mut Section<'_>,
    protocol: Option<Protocol>,
    report: &mut Report,
) -> Option<Shape> {
    let Some(text) = section.text("shape", report) else { return Some(Shape::Plain) };
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
        None => inline(name, CredentialKind::None, spot, around, report),
    };
    let kind = around.credentials.get(usize::from(id)).map(|credential| &credential.kind);
    if protocol == Some(Protocol::Tcp) && kind.is_some_and(|kind| *kind != CredentialKind::None) {
        report.error(
            spot,
            "a tcp resource has no place for a credential",
            "leave `credential` out, or write { kind = \"none\" }",
        );
    }
    Some(CredentialId(id))
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
