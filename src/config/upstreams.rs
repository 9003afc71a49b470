//! Where a resource is, and the TLS that is spoken with it.

use super::databases::PASSWORD;
use super::issuers::readable;
use super::reader::{Section, Text};
use super::report::Report;
use super::settings::plain_beyond_loopback;
use super::source::Source;
use super::types::{Protocol, Upstream};
use super::url::{self, Fault, Scheme, is_host};

/// What an `upstream` says.
pub(super) struct Found {
    pub(super) upstream: Upstream,
    /// Empty but for a database.
    pub(super) database: String,
    pub(super) is_tls: bool,
}

impl Found {
    /// Whether what is sent there can be read on its way.
    pub(super) fn is_exposed(&self) -> bool {
        !self.is_tls && !url::is_loopback(&self.upstream.host)
    }
}

/// Reads where the resource `name` is.
pub(super) fn upstream(
    text: Text<'_>,
    protocol: Protocol,
    name: &str,
    has_tls: bool,
    insecure: bool,
    report: &mut Report,
) -> Option<Found> {
    let mut wrong = |fault: &str, instead: &str| {
        report.error(text.spot, format!("the upstream of `{name}` {fault}"), instead);
        None
    };
    let url = match url::parse(text.text) {
        Ok(url) => url,
        Err(fault) => return wrong(fault.says(), &instead(protocol, Some(fault))),
    };
    let example = instead(protocol, None);
    let (is_tls, port) = match (protocol, url.scheme) {
        (Protocol::Http, Scheme::Https) => (true, url.port.unwrap_or(443)),
        (Protocol::Http, Scheme::Http) if has_tls => {
            return wrong("is http, but has `tls`", &example);
        }
        (Protocol::Http, Scheme::Http) => (false, url.port.unwrap_or(80)),
        (Protocol::Tcp, Scheme::Tcp) => match url.port {
            Some(port) if url.path.is_empty() => (has_tls, port),
            Some(_) => return wrong("has a path", &example),
            None => return wrong("has no port", &example),
        },
        (Protocol::Postgres, Scheme::Postgres) => (has_tls, url.port.unwrap_or(POSTGRES_PORT)),
        _ => return wrong("has a scheme of another protocol", &example),
    };
    // The scheme's own port is left out of `Host` (RFC 9110, section 4.2.3).
    let own = match protocol {
        Protocol::Http if is_tls => Some(443),
        Protocol::Http => Some(80),
        Protocol::Postgres => Some(POSTGRES_PORT),
        Protocol::Tcp => None,
    };
    let authority = if url.port.is_some() && url.port == own {
        let end = url.authority.rfind(':').unwrap_or(url.authority.len());
        url.authority.get(..end).unwrap_or_default().to_owned()
    } else {
        url.authority
    };
    let upstream = Upstream { host: url.host, port, base_path: url.path, authority };
    let found = Found { upstream, database: url.database, is_tls };
    if found.is_exposed() {
        let how = if protocol == Protocol::Http { "https" } else { "`tls = {}`" };
        plain_beyond_loopback(
            text.spot,
            insecure,
            &format!("the upstream of `{name}`"),
            how,
            report,
        );
    }
    Some(found)
}

/// What to write in place of an `upstream` that cannot be read, or is another protocol's.
fn instead(protocol: Protocol, fault: Option<Fault>) -> String {
    match (protocol, fault) {
        (Protocol::Http, _) => {
            "write `https://HOST`, `https://HOST:PORT/PATH` or `http://...`".to_owned()
        }
        (Protocol::Tcp, _) => "write `tcp://HOST:PORT`; `tls = {}` makes it TLS".to_owned(),
        (Protocol::Postgres, Some(Fault::UserInfo)) => {
            format!("{PASSWORD}; an `@` in the database's name is `%40`")
        }
        (Protocol::Postgres, Some(Fault::Query)) => {
            "leave it out, and write `tls = {}` for `sslmode=verify-full`; \
             in the database's name `?` is `%3F`, `#` is `%23`"
                .to_owned()
        }
        (Protocol::Postgres, _) => "write `postgres://HOST:PORT/DATABASE`, the name \
                                    percent-encoded; `tls = {}` makes it TLS"
            .to_owned(),
    }
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

const POSTGRES_PORT: u16 = 5432;
