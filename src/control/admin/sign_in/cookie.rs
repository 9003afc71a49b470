//! The session's cookie (RFC 6265), read strictly and written one way.

use crate::control::admin::site::Site;
use axum::http::{HeaderMap, HeaderValue, header};

/// What a request brings of one cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control::admin) enum Cookie<'h> {
    /// Nothing.
    None,
    /// One value.
    One(&'h str),
    /// Several, or one that is no text: another page of the host may have put one beside ours, and
    /// nothing tells which is which.
    Several,
}

/// The cookie named `name`.
pub(in crate::control::admin) fn read<'h>(headers: &'h HeaderMap, name: &str) -> Cookie<'h> {
    let mut found = Cookie::None;
    for line in headers.get_all(header::COOKIE) {
        for pair in line.as_bytes().split(|byte| *byte == b';') {
            let Some(equals) = pair.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = pair.split_at(equals);
            if key.trim_ascii() != name.as_bytes() {
                continue;
            }
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            match std::str::from_utf8(value) {
                Ok(value) if found == Cookie::None => found = Cookie::One(value),
                _ => return Cookie::Several,
            }
        }
    }
    found
}

/// The `Set-Cookie` of one that lives for `seconds`; 0 takes it away.
///
/// `SameSite=Strict`: no page of another site sends it along, not even by a link. What a link of
/// a notification opens is static, and asks for its data from here.
pub(super) fn set(site: &Site, name: &str, value: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = if site.is_secure() { "; Secure" } else { "" };
    let text =
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(header::COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        map
    }

    #[test]
    fn one_cookie_of_the_name_counts_and_no_more() {
        let of = |lines: &[&str]| match read(&headers(lines), "weirgate") {
            Cookie::None => "none".to_owned(),
            Cookie::One(value) => format!("one {value}"),
            Cookie::Several => "several".to_owned(),
        };
        for (lines, wanted) in [
            (&[][..], "none"),
            (&["a=b"], "none"),
            (&["weirgate"], "none"),
            (&["Weirgate=x"], "none"),
            (&["__Host-weirgate=x"], "none"),
            (&["x-weirgate=x; weirgate2=y"], "none"),
            (&["weirgate=x"], "one x"),
            (&["a=b;weirgate=x ;c=d"], "one x"),
            (&["weirgate="], "one "),
            (&["weirgate=a=b"], "one a=b"),
            (&["weirgate=x; weirgate=x"], "several"),
            (&["weirgate=x", "weirgate=y"], "several"),
            (&["weirgate=x; a=\u{e9}"], "one x"),
        ] {
            assert_eq!(of(lines), wanted, "{lines:?}");
        }
    }

    #[test]
    fn a_cookie_is_set_for_scripts_and_other_sites_out_of_reach() {
        let site = |url: Option<&str>| Site {
            public_url: url.map(ToOwned::to_owned),
            bound: ([127, 0, 0, 1], 1).into(),
        };
        let text = |site: &Site| {
            let value = set(site, site.cookie(), "x", 60).unwrap();
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(
            text(&site(Some("https://gw.example.com"))),
            "__Host-weirgate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
        );
        let plain = "weirgate=x; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(text(&site(None)), plain);
    }
}
