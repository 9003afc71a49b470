//! URLs as a config may write them: scheme, host, port, path; nothing else.

/// What stands before `://`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    Tcp,
    Postgres,
}

/// A URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: Scheme,
    /// Lower case, without brackets.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    /// Empty, or with a slash at its start and none at its end.
    pub(super) path: String,
    /// `host:port` as it was meant, in lower case, with brackets.
    pub(super) authority: String,
}

/// Takes a URL apart.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the URL.
pub(super) fn parse(text: &str) -> Result<Url, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("has no scheme")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "tcp" => Scheme::Tcp,
        "postgres" | "postgresql" => Scheme::Postgres,
        _ => return Err("has a scheme that is not known here"),
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a blank or a character that is not ASCII");
    }
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    if authority.contains('@') {
        return Err("holds a user or a password; write a credential instead");
    }
    if rest.contains(['?', '#']) {
        return Err("has a query or a fragment");
    }
    let authority = authority.to_ascii_lowercase();
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, tail) = inner.split_once(']').ok_or("has a bracket that is not closed")?;
            if host.parse::<core::net::Ipv6Addr>().is_err() {
                return Err("has no IPv6 address in its brackets");
            }
            (host, tail)
        }
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority.as_str(), ""),
        },
    };
    let port = match port {
        "" => None,
        _ => {
            let digits = port.strip_prefix(':').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse::<u16>().ok());
            Some(number.filter(|port| *port > 0).ok_or("has no port number after its host")?)
        }
    };
    if !authority.starts_with('[') && !is_host(host) {
        return Err("has no host name");
    }
    let path = path.trim_end_matches('/');
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if path.contains(['%', '\\']) || !path.split('/').skip(1).all(plain) {
        return Err("has a path with `%`, `\\`, an empty segment, `.` or `..`");
    }
    Ok(Url {
        scheme,
        host: host.to_owned(),
        port,
        path: path.to_owned(),
        authority: authority.clone(),
    })
}

/// Whether this could be a DNS name or an IPv4 address, in lower case.
pub(super) fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// Whether traffic to this host stays on the machine. A name other than `localhost` may be anything.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = parse("https://API.Example.com/v1/").unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.path.as_str()),
            ("api.example.com", None, "/v1")
        );
        let url = parse("tcp://[::1]:5432").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", Some(5432)));
        assert_eq!(url.authority, "[::1]:5432");
        assert!(is_loopback("::1") && is_loopback("127.9.9.9") && is_loopback("localhost"));
        assert!(!is_loopback("10.0.0.1") && !is_loopback("localhost.example.com"));
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for (text, says) in [
            ("api.example.com", "scheme"),
            ("ftp://x", "scheme"),
            ("http://", "host"),
            ("http://-x", "host"),
            ("http://a..b", "host"),
            ("http://a_b c", "blank"),
            ("http://user:pw@h", "credential"),
            ("http://h?x=1", "query"),
            ("http://h/a#b", "query"),
            ("http://h:", "port"),
            ("http://h:0", "port"),
            ("http://h:+80", "port"),
            ("http://h:99999", "port"),
            ("http://[::1", "bracket"),
            ("http://[x]", "IPv6"),
            ("http://[::1]80", "port"),
            ("http://h/a/../b", "segment"),
            ("http://h/a%2fb", "segment"),
            ("http://h//a", "segment"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }
}
