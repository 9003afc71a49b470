//! The query: forwarded byte for byte, less the credentials that a caller put into it.

use super::path::unescape;

/// Names of query parameters that are taken for a credential of the caller, in lower case.
///
/// They never go upstream: the gateway puts its own credential in, and one of the caller's must
/// neither win against it nor be seen by a service that it was not made for.
pub const CREDENTIAL_KEYS: &[&[u8]] = &[
    b"access_key",
    b"access_token",
    b"accesstoken",
    b"api-key",
    b"api_key",
    b"api_token",
    b"apikey",
    b"auth",
    b"auth_token",
    b"authorization",
    b"bearer_token",
    b"client_secret",
    b"id_token",
    b"jwt",
    b"key",
    b"private_token",
    b"refresh_token",
    b"subscription-key",
    b"token",
    b"x-api-key",
    b"x-goog-api-key",
];

/// Appends `?` and `query` without the parameters named in [`CREDENTIAL_KEYS`] or `more`
/// (lower case); nothing if none is left. Returns how many were left out.
///
/// Names are compared after decoding escapes and `+`, in any case of letters. `&` separates; as some
/// servers also split at `;`, a parameter that holds a credential behind one goes whole.
pub fn write_query(query: &[u8], more: &[&[u8]], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let mut dropped = 0;
    for part in query.split(|byte| *byte == b'&') {
        if part.split(|byte| *byte == b';').any(|pair| is_credential(pair, more)) {
            dropped += 1;
            continue;
        }
        out.push(if out.len() == start { b'?' } else { b'&' });
        out.extend_from_slice(part);
    }
    dropped
}

/// The value of the one parameter named `name` (lower or upper case matters), escaped as it came.
///
/// # Errors
/// `Err(())` when there is more than one: a rule that reads it would see one, the upstream another.
#[expect(clippy::result_unit_err, reason = "there is one way to fail")]
pub fn query_value<'b>(query: &'b [u8], name: &[u8]) -> Result<Option<&'b [u8]>, ()> {
    let mut found = None;
    for part in query.split(|byte| *byte == b'&') {
        let end = memchr::memchr(b'=', part).unwrap_or(part.len());
        let Some((key, value)) = part.split_at_checked(end) else { continue };
        if !decoded(key).eq(name.iter().copied()) {
            continue;
        }
        if found.is_some() {
            return Err(());
        }
        found = Some(value.strip_prefix(b"=").unwrap_or(value));
    }
    Ok(found)
}

fn is_credential(pair: &[u8], more: &[&[u8]]) -> bool {
    let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
    let key = pair.get(..end).unwrap_or_default();
    CREDENTIAL_KEYS
        .iter()
        .chain(more)
        .any(|name| decoded(key).map(|byte| byte.to_ascii_lowercase()).eq(name.iter().copied()))
}

/// The bytes of `text` with escapes decoded and `+` as space.
fn decoded(mut text: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (byte, rest) = match text {
            [b'%', high, low, rest @ ..] => match unescape(*high, *low) {
                Some(byte) => (byte, rest),
                None => (b'%', text.get(1..)?),
            },
            [b'+', rest @ ..] => (b' ', rest),
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        text = rest;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(query: &str) -> (String, usize) {
        let mut out = b"/p".to_vec();
        let dropped = write_query(query.as_bytes(), &[b"sig"], &mut out);
        (String::from_utf8_lossy(&out).into_owned(), dropped)
    }

    #[test]
    fn credentials_go_and_all_else_stays_as_it_was() {
        for (query, expected, dropped) in [
            ("a=1&b=%2f&&c", "/p?a=1&b=%2f&&c", 0),
            ("", "/p?", 0),
            ("key=x", "/p", 1),
            ("a=1&key=x&b=2&KEY=y", "/p?a=1&b=2", 2),
            ("api%5Fkey=x&a", "/p?a", 1),
            ("%6bey=x", "/p", 1),
            ("a=1;token=x&b", "/p?b", 1),
            ("keys=1&monkey=2&a=key=3", "/p?keys=1&monkey=2&a=key=3", 0),
            ("sig=1&access_token", "/p", 2),
            ("=&=x", "/p?=&=x", 0),
        ] {
            assert_eq!(written(query), (expected.to_owned(), dropped), "{query}");
        }
    }

    #[test]
    fn a_parameter_that_is_read_is_unique() {
        assert_eq!(query_value(b"a=1&b=2", b"b"), Ok(Some(&b"2"[..])));
        assert_eq!(query_value(b"a=1&b", b"b"), Ok(Some(&b""[..])));
        assert_eq!(query_value(b"a=1", b"b"), Ok(None));
        assert_eq!(query_value(b"b=1&%62=2", b"b"), Err(()));
    }
}
