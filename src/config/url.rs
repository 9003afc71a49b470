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
    /// Decoded; empty but for [`Scheme::Postgres`].
    pub(super) database: String,
    /// `host:port` as it was meant, in lower case, with brackets.
    pub(super) authority: String,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoScheme,
    UnknownScheme,
    NotAscii,
    UserInfo,
    Query,
    OpenBracket,
    NoIpv6,
    NoPort,
    NoHost,
    Path,
    NoDatabase,
    ManyDatabases,
    Database,
    LongDatabase,
}

impl Fault {
    /// The end of a sentence that begins with the URL. It repeats nothing of what is written.
    pub(super) fn says(self) -> &'static str {
        match self {
            Self::NoScheme => "has no scheme",
            Self::UnknownScheme => "has a scheme that is not known here",
            Self::NotAscii => "has a blank or a character that is not ASCII",
            Self::UserInfo => "holds a user or a password; write a credential instead",
            Self::Query => "has a query or a fragment",
            Self::OpenBracket => "has a bracket that is not closed",
            Self::NoIpv6 => "has no IPv6 address in its brackets",
            Self::NoPort => "has no port number after its host",
            Self::NoHost => "has no host name",
            Self::Path => "has a path with `%`, `\\`, an empty segment, `.` or `..`",
            Self::NoDatabase => "names no database",
            Self::ManyDatabases => "has a second `/` behind the database's name",
            Self::Database => "has a database's name that is not UTF-8, percent-encoded",
            Self::LongDatabase => "has a database's name of more than 63 bytes",
        }
    }
}

/// Takes a URL apart. The path of a [`Scheme::Postgres`] is the database's name.
///
/// # Errors
/// [`Fault`]
pub(super) fn parse(text: &str) -> Result<Url, Fault> {
    let (scheme, rest) = text.split_once("://").ok_or(Fault::NoScheme)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "tcp" => Scheme::Tcp,
        "postgres" | "postgresql" => Scheme::Postgres,
        _ => return Err(Fault::UnknownScheme),
    };
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::NotAscii);
    }
    let slash = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(slash);
    // A password with a slash in it puts the `@` behind the first one.
    if authority.contains('@') || (scheme == Scheme::Postgres && rest.contains('@')) {
        return Err(Fault::UserInfo);
    }
    if rest.contains(['?', '#']) {
        return Err(Fault::Query);
    }
    let authority = authority.to_ascii_lowercase();
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, tail) = inner.split_once(']').ok_or(Fault::OpenBracket)?;
            if host.parse::<core::net::Ipv6Addr>().is_err() {
                return Err(Fault::NoIpv6);
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
            Some(number.filter(|port| *port > 0).ok_or(Fault::NoPort)?)
        }
    };
    if !authority.starts_with('[') && !is_host(host) {
        return Err(Fault::NoHost);
    }
    let (path, database) = match scheme {
        Scheme::Postgres => (String::new(), database(path)?),
        _ => (plain_path(path)?, String::new()),
    };
    Ok(Url { scheme, host: host.to_owned(), port, path, database, authority: authority.clone() })
}

/// A database and who logs in to it, as a command line names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseUrl {
    /// The user.
    pub user: String,
    /// DNS name in lower case, or an IP address without brackets.
    pub host: String,
    /// Port, 5432 where none is written.
    pub port: u16,
    /// The database's name.
    pub database: String,
}

impl DatabaseUrl {
    /// Reads `postgres://USER@HOST:PORT/DATABASE`.
    ///
    /// # Errors
    /// The end of a sentence that begins with the URL; it repeats nothing of it, since a password
    /// may stand there.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or(Fault::NoScheme.says())?;
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (user, host) = authority.rsplit_once('@').ok_or("names no user")?;
        if user.contains(':') {
            return Err("holds a password, which others can see there");
        }
        let user = decoded(user).map_err(|_| "has a user that is no name, percent-encoded")?;
        let url = parse(&format!("{scheme}://{host}{path}")).map_err(Fault::says)?;
        if url.scheme != Scheme::Postgres {
            return Err("is of another protocol");
        }
        if user.is_empty() {
            return Err("names no user");
        }
        let port = url.port.unwrap_or(5432);
        Ok(Self { user, host: url.host, port, database: url.database })
    }

    /// Whether what is sent there stays on the machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

fn plain_path(path: &str) -> Result<String, Fault> {
    let path = path.trim_end_matches('/');
    let plain = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    if path.contains(['%', '\\']) || !path.split('/').skip(1).all(plain) {
        return Err(Fault::Path);
    }
    Ok(path.to_owned())
}

/// The name behind the only slash, decoded (RFC 3986, section 2.1).
fn database(path: &str) -> Result<String, Fault> {
    let name = path.strip_prefix('/').filter(|name| !name.is_empty()).ok_or(Fault::NoDatabase)?;
    if name.contains('/') {
        return Err(Fault::ManyDatabases);
    }
    decoded(name)
}

/// A name of a database or a user.
fn decoded(name: &str) -> Result<String, Fault> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut parts = name.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(Fault::Database)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Fault::Database);
        }
        decoded.push(u8::from_str_radix(digits, 16).map_err(|_| Fault::Database)?);
        decoded.extend_from_slice(rest.as_bytes());
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Fault::Database)?;
    if decoded.chars().any(char::is_control) {
        return Err(Fault::Database);
    }
    if decoded.len() > POSTGRES_NAME_LEN_MAX {
        return Err(Fault::LongDatabase);
    }
    Ok(decoded)
}

/// Longest name of a database or role. PostgreSQL cuts a longer one, silently, and what is left
/// may be the name of another (NAMEDATALEN - 1).
pub(super) const POSTGRES_NAME_LEN_MAX: usize = 63;

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
            let fault = parse(text).unwrap_err().says();
            assert!(fault.contains(says), "{text}: {fault}");
        }
    }

    #[test]
    fn the_path_of_a_database_is_its_name() {
        let long = "x".repeat(POSTGRES_NAME_LEN_MAX);
        for (text, host, port, database) in [
            ("postgres://db.internal/orders", "db.internal", None, "orders"),
            ("postgresql://DB:5433/Orders", "db", Some(5433), "Orders"),
            ("postgres://[::1]:6000/a.b", "::1", Some(6000), "a.b"),
            ("postgres://h/a%20b%2Fc%40d", "h", None, "a b/c@d"),
            ("postgres://h/caf%C3%A9+%25", "h", None, "caf\u{e9}+%"),
            (&format!("postgres://h/{long}"), "h", None, &long),
        ] {
            let url = parse(text).unwrap();
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!((url.database.as_str(), url.path.as_str()), (database, ""), "{text}");
        }
        assert_eq!(parse("http://h/x").unwrap().database, "");
    }

    #[test]
    fn a_command_line_names_the_user_and_never_the_password() {
        let url = DatabaseUrl::parse("postgres://a%40b@DB.internal/orders").unwrap();
        let named = (url.user.as_str(), url.host.as_str(), url.port, url.database.as_str());
        assert_eq!(named, ("a@b", "db.internal", 5432, "orders"));
        assert!(DatabaseUrl::parse("postgres://u@[::1]:6000/d").unwrap().is_loopback());
        for (text, says) in [
            ("postgres://u:secret@h/d", "password"),
            ("postgres://h/d", "no user"),
            ("postgres://@h/d", "no user"),
            ("postgres://u@h", "no database"),
            ("postgres://u@h/d?sslmode=disable", "query"),
            ("http://u@h/d", "protocol"),
            ("u@h/d", "scheme"),
            ("postgres://u%0A@h/d", "percent"),
        ] {
            let fault = DatabaseUrl::parse(text).unwrap_err();
            assert!(fault.contains(says) && !fault.contains("secret"), "{text}: {fault}");
        }
    }

    #[test]
    fn what_names_no_database_is_refused() {
        for (text, fault) in [
            ("postgres://h", Fault::NoDatabase),
            ("postgres://h/", Fault::NoDatabase),
            ("postgres://h:5432", Fault::NoDatabase),
            ("postgres://h/a/", Fault::ManyDatabases),
            ("postgres://h/a/b", Fault::ManyDatabases),
            ("postgres://h//a", Fault::ManyDatabases),
            ("postgres://h/a%", Fault::Database),
            ("postgres://h/a%2", Fault::Database),
            ("postgres://h/a%+2", Fault::Database),
            ("postgres://h/%C3", Fault::Database),
            ("postgres://h/a%00", Fault::Database),
            ("postgres://h/a%0Ab", Fault::Database),
            (&format!("postgres://h/{}", "x".repeat(64)), Fault::LongDatabase),
            (&format!("postgres://h/{}", "%C3%A9".repeat(32)), Fault::LongDatabase),
            ("postgres:///a", Fault::NoHost),
            ("postgres://%2Fvar%2Frun/a", Fault::NoHost),
            ("postgres://a,b/c", Fault::NoHost),
            ("postgres://a:1,b:2/c", Fault::NoPort),
            ("postgres://app@h/a", Fault::UserInfo),
            ("postgres://app:p/w@h/a", Fault::UserInfo),
            ("postgres://app/pw@h", Fault::UserInfo),
            ("postgres://h/a?sslmode=require", Fault::Query),
            ("postgres://h/a#b", Fault::Query),
            ("postgres://h/caf\u{e9}", Fault::NotAscii),
        ] {
            assert_eq!(parse(text), Err(fault), "{text}");
        }
    }
}
