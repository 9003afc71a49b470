//! `Host` and the authority of a target (RFC 9110, sections 4.2 and 7.2).

use std::io::Write;
use std::str::FromStr;

/// Longest host name, as in DNS.
const HOST_MAX: usize = 255;

/// A host with an optional port, both as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'b> {
    /// A name, an address in digits and dots, or an address in brackets.
    pub host: &'b [u8],
    /// At most 65535.
    pub port: Option<u16>,
}

impl<'b> Authority<'b> {
    /// Reads `host [":" port]`.
    ///
    /// A name is letters, digits, `-`, `_` and dots between, with one dot allowed at its end. That is
    /// less than the grammar of URIs, whose escapes and punctuation no host has. No user
    /// information, no empty port, no zone of an address.
    #[must_use]
    pub fn parse(text: &'b [u8]) -> Option<Self> {
        let (host, port) = match text {
            [b'[', ..] => {
                let end = memchr::memchr(b']', text)? + 1;
                let (host, port) = text.split_at_checked(end)?;
                let inner = host.strip_prefix(b"[")?.strip_suffix(b"]")?;
                core::net::Ipv6Addr::from_str(std::str::from_utf8(inner).ok()?).ok()?;
                (host, port)
            }
            _ => {
                let end = memchr::memchr(b':', text).unwrap_or(text.len());
                let (host, port) = text.split_at_checked(end)?;
                if !is_name(host) {
                    return None;
                }
                (host, port)
            }
        };
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        Some(Self { host, port })
    }
}

/// Writes the canonical form of a `Host` value behind what is in `out`: lower case, without a dot
/// at the end, without the port if it is `default_port`. `false`, and nothing written, if
/// `text` is no host.
pub fn canonical_host(text: &[u8], default_port: u16, out: &mut Vec<u8>) -> bool {
    let Some(Authority { host, port }) = Authority::parse(text) else { return false };
    let host = host.strip_suffix(b".").unwrap_or(host);
    out.extend(host.iter().map(u8::to_ascii_lowercase));
    if let Some(port) = port.filter(|port| *port != default_port) {
        // Writing to a vector does not fail.
        let _ = write!(out, ":{port}");
    }
    true
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn is_name(host: &[u8]) -> bool {
    let name = host.strip_suffix(b".").unwrap_or(host);
    (1..=HOST_MAX).contains(&name.len())
        && name.split(|byte| *byte == b'.').all(|label| {
            !label.is_empty()
                && label
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_form() {
        for (text, expected) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("example.com:443", "example.com"),
            ("example.com.:8443", "example.com:8443"),
            ("localhost:00443", "localhost"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:443", "[::1]"),
            ("[FE80::1]", "[fe80::1]"),
            ("my_service", "my_service"),
        ] {
            let mut out = Vec::new();
            assert!(canonical_host(text.as_bytes(), 443, &mut out), "{text}");
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a:",
            "a:b",
            "a:65536",
            "a:123456",
            "a:-1",
            "a:+1",
            "a:80:80",
            "u@a",
            "a/b",
            "a,b",
            "a b",
            "a?b",
            "a#b",
            "a%41",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "[]",
            "a\\b",
            "\u{e9}",
            ":80",
            "a..",
            "a;b",
            "a=b",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
        let long = "a".repeat(256);
        assert_eq!(Authority::parse(long.as_bytes()), None);
    }
}
