//! `[[listener]]`: where callers come in.

use super::issuers::readable;
use super::names::Names;
use super::reader::{Section, choose};
use super::report::{Report, Spot};
use super::settings::{path, plain_beyond_loopback, socket_address};
use super::source::Source;
use super::types::{CertificateIssuer, Listener, Login, PROTOCOLS, Protocol, Resource, ServerTls};
use super::url::is_host;
use crate::base::ResourceId;
use core::net::SocketAddr;
use std::path::Path;

/// What a listener is checked against.
pub(super) struct Around<'c, 'a> {
    pub(super) names: &'c Names<'a>,
    pub(super) resource_names: &'c Names<'a>,
    /// By id; `None` where a resource has errors of its own.
    pub(super) resources: &'c [Option<Resource>],
    pub(super) certificate_issuers: &'c [CertificateIssuer],
    pub(super) admin: Option<SocketAddr>,
    pub(super) source: &'c dyn Source,
}

pub(super) fn listeners(
    sections: Vec<Section<'_>>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let spot = section.spot_of("address");
        let Some(listener) = listener(&mut section, around.names.name(place), around, report)
        else {
            continue;
        };
        section.finish(report);
        let address = listener.address;
        let twin = listeners.iter().find(|one| one.address == address).map(|one| &one.name);
        let taken = match twin {
            Some(name) => Some(format!("[[listener]] `{name}`")),
            None if around.admin == Some(address) => Some("[admin]".to_owned()),
            None => None,
        };
        if let Some(taken) = taken.filter(|_| address.port() != 0) {
            report.error(spot, format!("{address} is taken by {taken}"), "choose another port");
        }
        listeners.push(listener);
    }
    listeners
}

fn listener(
    section: &mut Section<'_>,
    name: &str,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Option<Listener> {
    let protocol = section.required("protocol", report)?;
    let protocol = choose("protocol", protocol, &PROTOCOLS, report);
    let address = section.required("address", report);
    let address = address.and_then(|text| socket_address(text, report));
    let tls = section.table("tls", report).map(|tls| server_tls(tls, around.source, report));
    let insecure = section.flag("insecure", report).unwrap_or(false);
    let spot = section.spot_of("address");
    match (address, &tls) {
        (Some(address), None) if protocol == Some(Protocol::Postgres) => {
            plain_password(spot, address, insecure, name, report);
        }
        (Some(address), None) if !address.ip().is_loopback() => {
            plain_beyond_loopback(spot, insecure, &format!("listener `{name}`"), "`tls`", report);
        }
        _ if insecure => {
            let spot = section.spot_of("insecure");
            report.warn(spot, format!("`insecure` changes nothing for listener `{name}`"), "");
        }
        _ => {}
    }
    let resource = pinned(section, protocol, around, report);
    match protocol {
        Some(Protocol::Tcp) => tcp_needs(section, tls.as_ref(), around, report),
        Some(Protocol::Postgres) => {
            if let Some(ca) = tls.as_ref().and_then(|tls| tls.client_ca.as_ref()) {
                vouched(section, ca, around, report);
            }
        }
        _ => {}
    }
    let login = login(section, protocol, report);
    let hosts = hosts(section, protocol, report);
    Some(Listener {
        name: name.to_owned(),
        address: address?,
        protocol: protocol?,
        tls,
        insecure,
        login,
        resource,
        hosts,
    })
}

fn login(section: &mut Section<'_>, protocol: Option<Protocol>, report: &mut Report) -> Login {
    let Some(text) = section.text("login", report) else { return Login::default() };
    if protocol != Some(Protocol::Postgres) {
        report.error(text.spot, "`login` is of postgres listeners", "leave it out");
        return Login::default();
    }
    let words = [("password", Login::Password), ("oauthbearer", Login::OauthBearer)];
    choose("login", text, &words, report).unwrap_or_default()
}

/// A token comes as a password in clear text: without TLS whoever hears it holds it. On this machine
/// that can be asked for; beyond it nothing makes it right.
fn plain_password(
    spot: Spot<'_>,
    address: SocketAddr,
    insecure: bool,
    name: &str,
    report: &mut Report,
) {
    const TLS: &str = "write `tls = { cert = \"..\", key = \"..\" }`";
    if !address.ip().is_loopback() {
        report.error(
            spot,
            format!("listener `{name}` would take tokens in plain text beyond loopback"),
            format!("{TLS}; `insecure` does not allow it on postgres"),
        );
    } else if insecure {
        report.warn(spot, format!("listener `{name}` takes tokens in plain text"), "");
    } else {
        report.error(
            spot,
            format!("listener `{name}` would take tokens in plain text"),
            format!("{TLS}, or `insecure = true` where all of this machine is trusted"),
        );
    }
}

fn server_tls(mut tls: Section<'_>, source: &dyn Source, report: &mut Report) -> ServerTls {
    for key in ["cert", "key"] {
        if !tls.has(key) {
            tls.missing(key, report);
        }
    }
    let cert = readable(&mut tls, "cert", source, report).unwrap_or_default();
    // The key is a secret: whether it can be read is found out by `serve`.
    let key = path(&mut tls, "key", report).unwrap_or_default();
    let client_ca = readable(&mut tls, "client_ca", source, report);
    tls.finish(report);
    ServerTls { cert, key, client_ca }
}

fn pinned(
    section: &mut Section<'_>,
    protocol: Option<Protocol>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Option<ResourceId> {
    let text = section.text("resource", report)?;
    let id = around.resource_names.refer(text, report)?;
    let resource = around.resources.get(usize::from(id)).and_then(Option::as_ref);
    if let (Some(protocol), Some(resource)) = (protocol, resource)
        && resource.protocol != protocol
    {
        report.error(
            text.spot,
            format!("resource `{}` does not speak what this listener speaks", text.text),
            "listener and resource must have the same `protocol`",
        );
    }
    Some(ResourceId(id))
}

/// A tcp caller has no place for a token: its certificate says who it is.
fn tcp_needs(
    section: &mut Section<'_>,
    tls: Option<&ServerTls>,
    around: &Around<'_, '_>,
    report: &mut Report,
) {
    if !section.has("resource") {
        report.error(
            section.spot(),
            "a tcp listener needs `resource`",
            "nothing in the bytes names one: write `resource = \"NAME\"`",
        );
    }
    let Some(ca) = tls.and_then(|tls| tls.client_ca.as_ref()) else {
        return report.error(
            section.spot_of("tls"),
            "a tcp listener needs `tls` with `client_ca`",
            "a tcp caller is known by its certificate only: \
             tls = { cert = \"..\", key = \"..\", client_ca = \"..\" }",
        );
    };
    vouched(section, ca, around, report);
}

/// A certificate of an authority that no issuer has says nothing about a caller.
fn vouched(section: &mut Section<'_>, ca: &Path, around: &Around<'_, '_>, report: &mut Report) {
    if !around.certificate_issuers.iter().any(|issuer| issuer.ca == *ca) {
        report.error(
            section.spot_of("tls"),
            "no [[issuer]] vouches for certificates of this `client_ca`",
            "add an [[issuer]] with kind = \"x509\" and the same file as `ca`",
        );
    }
}

fn hosts(
    section: &mut Section<'_>,
    protocol: Option<Protocol>,
    report: &mut Report,
) -> Vec<String> {
    let Some(texts) = section.texts("hosts", report) else { return Vec::new() };
    if let Some(protocol) = protocol.filter(|protocol| *protocol != Protocol::Http) {
        report.error(
            section.spot_of("hosts"),
            format!("a {} listener has no `hosts`", protocol.label()),
            "leave it out: only http names a host",
        );
    }
    let mut hosts = Vec::new();
    for text in texts {
        let host = text.text.to_ascii_lowercase();
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let address = inner.is_some_and(|inner| inner.parse::<core::net::Ipv6Addr>().is_ok());
        if address || is_host(&host) {
            hosts.push(host);
        } else {
            report.error(
                text.spot,
                format!("`{}` is no host name", text.text.escape_default()),
                "write names without scheme and port, as in `gw.example.com`",
            );
        }
    }
    hosts
}
