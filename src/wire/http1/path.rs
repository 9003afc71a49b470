//! The canonical path: the one that is judged, recorded and sent.
//!
//! Escapes of unreserved characters are decoded, other escapes get upper-case digits, then dot
//! segments are removed (RFC 3986, section 6.2.2). Whatever a server behind us could still read in
//! another way is refused: an encoded `/`, `\` or control, an escape of an escape, overlong UTF-8,
//! a dot segment with a parameter, `..` above the root or over an empty segment.
//! Empty segments are kept.

use super::error::HeadFault;

/// Writes the canonical form of `raw`, which starts with `/`, to `out` in place of what is there.
///
/// # Errors
/// [`HeadFault::TargetByte`] outside of the grammar, [`HeadFault::PathAmbiguous`] as above.
pub fn canonical_path(raw: &[u8], out: &mut Vec<u8>) -> Result<(), HeadFault> {
    out.clear();
    if raw.first() != Some(&b'/') {
        return Err(HeadFault::TargetByte);
    }
    // Paths are short: a searcher costs more than the walk.
    if raw.iter().all(|byte| is_plain(*byte)) && !raw.windows(2).any(|pair| pair == b"/.") {
        out.extend_from_slice(raw);
        return Ok(());
    }
    decode(raw, out)?;
    check_escapes(out)?;
    remove_dots(out)
}

/// Splits a canonical path into its first segment and the rest, which starts with `/`.
///
/// `/a/b` gives `a` and `/b`; `/a` gives `a` and `/`; `/` and `//b` give an empty segment.
#[must_use]
pub fn route(path: &[u8]) -> (&[u8], &[u8]) {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let end = memchr::memchr(b'/', inner).unwrap_or(inner.len());
    match inner.split_at_checked(end) {
        Some((first, rest)) if !rest.is_empty() => (first, rest),
        _ => (inner, b"/"),
    }
}

/// A `pchar` or `/` that is no escape and means the same to everyone. `;` is looked at closer.
fn is_plain(byte: u8) -> bool {
    PLAIN.get(usize::from(byte)).copied().unwrap_or(false)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within 256 entries")]
static PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0usize;
    while at < 256 {
        table[at] = is_path_byte(at as u8) && at as u8 != b';';
        at += 1;
    }
    table
};

/// `pchar` without escapes, and `/` (RFC 3986, section 3.3).
const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// A byte that a query may hold as it is (RFC 3986, section 3.4).
pub(super) fn is_query_byte(byte: u8) -> bool {
    is_path_byte(byte) || byte == b'?'
}

/// The value of a hex digit.
pub(super) fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte that an escape stands for, its two digits being given.
pub(super) fn unescape(high: u8, low: u8) -> Option<u8> {
    Some(hex(high)? << 4 | hex(low)?)
}

fn decode(mut raw: &[u8], out: &mut Vec<u8>) -> Result<(), HeadFault> {
    loop {
        match raw {
            [] => return Ok(()),
            [b'%', high, low, rest @ ..] => {
                let byte = unescape(*high, *low).ok_or(HeadFault::TargetByte)?;
                match byte {
                    byte if is_unreserved(byte) => out.push(byte),
                    b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(HeadFault::PathAmbiguous),
                    _ => out.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                }
                raw = rest;
            }
            [byte, rest @ ..] if is_path_byte(*byte) => {
                out.push(*byte);
                raw = rest;
            }
            _ => return Err(HeadFault::TargetByte),
        }
    }
}

/// Refuses escapes that a second decoding or a lenient UTF-8 decoder would turn into others.
fn check_escapes(path: &[u8]) -> Result<(), HeadFault> {
    for place in memchr::memchr_iter(b'%', path) {
        let tail = path.get(place..).unwrap_or_default();
        let bad = match tail {
            [b'%', b'2', b'5', high, low, ..] => unescape(*high, *low).is_some(),
            // Never part of UTF-8: overlong two-byte forms, and bytes above U+10FFFF.
            [b'%', b'C', b'0' | b'1', ..] => true,
            [b'%', b'F', low, ..] if hex(*low).is_some_and(|low| low >= 5) => true,
            // Overlong three-byte and four-byte forms.
            [b'%', b'E', b'0', b'%', high, _, ..] => matches!(high, b'8' | b'9'),
            [b'%', b'F', b'0', b'%', high, _, ..] => *high == b'8',
            _ => false,
        };
        if bad {
            return Err(HeadFault::PathAmbiguous);
        }
    }
    Ok(())
}

/// Removes dot segments in place (RFC 3986, section 5.2.4).
fn remove_dots(path: &mut Vec<u8>) -> Result<(), HeadFault> {
    let (mut read, mut write) = (0usize, 0usize);
    // `path[read]` is the `/` before the next segment, and `write <= read`.
    while read < path.len() {
        let after = path.get(read + 1..).unwrap_or_default();
        let len = memchr::memchr(b'/', after).unwrap_or(after.len());
        let end = read + 1 + len;
        let segment = after.get(..len).unwrap_or_default();
        let bare = before_parameter(segment);
        let dots = match bare {
            b"." => 1,
            b".." => 2,
            _ => 0,
        };
        if dots > 0 && bare.len() != segment.len() {
            return Err(HeadFault::PathAmbiguous);
        }
        if dots == 0 {
            path.copy_within(read..end, write);
            write += end - read;
        } else {
            if dots == 2 {
                let kept = path.get(..write).unwrap_or_default();
                // Nothing to go up from, or a segment that other servers do not count.
                match memchr::memrchr(b'/', kept) {
                    Some(slash) if slash + 1 < write => write = slash,
                    _ => return Err(HeadFault::PathAmbiguous),
                }
            }
            if end == path.len()
                && let Some(slash) = path.get_mut(write)
            {
                *slash = b'/';
                write += 1;
            }
        }
        read = end;
    }
    path.truncate(write);
    debug_assert!(path.first() == Some(&b'/'));
    Ok(())
}

/// The segment up to what some servers cut off: a parameter, or white space at the end.
fn before_parameter(segment: &[u8]) -> &[u8] {
    let mark =
        |rest: &[u8]| matches!(rest, [b';', ..] | [b'%', b'3', b'B', ..] | [b'%', b'2', b'0', ..]);
    let end = (0..segment.len()).find(|place| segment.get(*place..).is_some_and(mark));
    end.and_then(|end| segment.get(..end)).unwrap_or(segment)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn canonical(raw: &str) -> Result<String, HeadFault> {
        let mut out = b"old".to_vec();
        canonical_path(raw.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn equal_paths_have_one_form() {
        for (raw, expected) in [
            ("/", "/"),
            ("/v1/chat/completions", "/v1/chat/completions"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/%61%7e%2D", "/a~-"),
            ("/a%2cb%c3%a9", "/a%2Cb%C3%A9"),
            ("/a//b", "/a//b"),
            ("/a//b/../c", "/a//c"),
            ("//a", "//a"),
            ("/a;x=1/b", "/a;x=1/b"),
            ("/...", "/..."),
            ("/..a/.b", "/..a/.b"),
            ("/a%25", "/a%25"),
            ("/100%25%20sure", "/100%25%20sure"),
            ("/%3f%23", "/%3F%23"),
            ("/x/y/z/../../w", "/x/w"),
        ] {
            assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
            assert_eq!(canonical(expected).as_deref(), Ok(expected), "{raw}: twice");
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        for raw in [
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a%00",
            "/a%0a",
            "/a%0D%0A",
            "/a%7f",
            "/%252e",
            "/a%252Fb",
            "/a%25%32%46",
            "/%25%32%65",
            "/..",
            "/../a",
            "/a/../../b",
            "/a//..",
            "/a//../b",
            "/a//b/../../c",
            "/..;/a",
            "/a/..;x/b",
            "/a/.;/b",
            "/a/%2e%2e%3b/b",
            "/a/..%20/b",
            "/%c0%af",
            "/%C0%AE",
            "/%c1%9c",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%ff",
        ] {
            assert_eq!(canonical(raw), Err(HeadFault::PathAmbiguous), "{raw}");
        }
        for raw in [
            "", "a", "/a\\b", "/%", "/%4", "/%zz", "/a b", "/a#b", "/a\"", "/a<b>", "/a[1]", "/a^",
            "/a`", "/a{b}", "/a|b", "/\u{e9}", "/a?b",
        ] {
            assert_eq!(canonical(raw), Err(HeadFault::TargetByte), "{raw}");
        }
    }

    #[test]
    fn the_first_segment_names_the_resource() {
        assert_eq!(route(b"/openai/v1/models"), (&b"openai"[..], &b"/v1/models"[..]));
        assert_eq!(route(b"/openai/"), (&b"openai"[..], &b"/"[..]));
        assert_eq!(route(b"/openai"), (&b"openai"[..], &b"/"[..]));
        assert_eq!(route(b"/openai//x"), (&b"openai"[..], &b"//x"[..]));
        assert_eq!(route(b"/"), (&b""[..], &b"/"[..]));
        assert_eq!(route(b"//x"), (&b""[..], &b"/x"[..]));
        assert_eq!(route(b""), (&b""[..], &b"/"[..]));
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_is_its_own(raw in "/([a-c./;%0-9A-F]|%2[eEfF5]|/\\.\\.|//){0,24}") {
            if let Ok(once) = canonical(&raw) {
                proptest::prop_assert_eq!(canonical(&once), Ok(once.clone()));
                for segment in once.split('/') {
                    proptest::prop_assert!(segment != "." && segment != "..");
                }
            }
        }
    }
}
