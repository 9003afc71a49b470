//! Where a resource is, and the TLS that is spoken with it.

use super::issuers::readable;
use super::reader::{Section, Text};
use super::report::Report;
use super::settings::plain_beyond_loopback;
use super::source::Source;
use super::types::{Protocol, Upstream};
use super::url::{self, Scheme, is_host};

/// The upstream, and whether TLS is spoken with it.
pub(super) fn upstream(
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

pub(super) type Tls = (Option<std::path::PathBuf>, Option<String>);

pub(super) fn upstream_tls(mut tls: Section<'_>, source: &dyn Source, report: &mut Report) -> Tls {
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
