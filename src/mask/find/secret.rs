//! Secrets with a fixed start: certain after a bounded prefix, then swallowed to their end.

use super::{Found, Peek, Tail, View};
use crate::scan::class;

/// A secret at `at`.
pub(super) fn find(view: &View<'_>, at: usize) -> Found {
    match view.text.get(at) {
        Some(b'-') => pem(view, at),
        _ if !view.starts_word(at) => Found::No,
        Some(b'A') => aws(view, at),
        Some(b'g') => github(view, at),
        Some(b's') => sk(view, at),
        Some(b'e') => jwt(view, at),
        _ => Found::No,
    }
}

/// Places from `from` on that hold bytes of `classes`, up to `max`; `Err` when more could come.
fn run(view: &View<'_>, from: usize, classes: u8, max: usize) -> Result<usize, Found> {
    for len in 0..max {
        match view.peek(from + len) {
            Peek::Byte(byte) if class::is(byte, classes) => {}
            Peek::More => return Err(Found::More),
            _ => return Ok(len),
        }
    }
    Ok(max)
}

/// `AKIA` or `ASIA` and 16 capitals or digits.
fn aws(view: &View<'_>, at: usize) -> Found {
    for index in 0..20 {
        match (index, view.peek(at + index)) {
            (_, Peek::More) => return Found::More,
            (0 | 3, Peek::Byte(b'A')) | (1, Peek::Byte(b'K' | b'S')) | (2, Peek::Byte(b'I')) => {}
            (4.., Peek::Byte(b'A'..=b'Z' | b'0'..=b'9')) => {}
            _ => return Found::No,
        }
    }
    match view.peek(at + 20) {
        Peek::Byte(byte) if class::is(byte, class::WORD) => Found::No,
        Peek::More => Found::More,
        _ => Found::Value(at + 20),
    }
}

const GITHUB_MIN: usize = 36;
const GITHUB_PAT_MIN: usize = 22;

/// `ghp_`, `gho_`, `ghu_`, `ghs_`, `ghr_` or `github_pat_` and its body.
fn github(view: &View<'_>, at: usize) -> Found {
    let (start, min) = match view.peek(at + 2) {
        Peek::More => return starts_with(view, at, b"gh").and_more(),
        Peek::Byte(b'p' | b'o' | b'u' | b's' | b'r') => {
            match (view.literal(at, b"gh"), view.literal(at + 3, b"_")) {
                (Found::Value(_), Found::Value(end)) => (end, GITHUB_MIN),
                (Found::Value(_), found) => return found,
                _ => return Found::No,
            }
        }
        _ => match view.literal(at, b"github_pat_") {
            Found::Value(end) => (end, GITHUB_PAT_MIN),
            found => return found,
        },
    };
    match run(view, start, class::WORD, min) {
        Ok(len) if len == min => Found::Swallow(start + min, Tail::Class(class::WORD)),
        Ok(_) => Found::No,
        Err(found) => found,
    }
}

/// Whether what there is of the text agrees with `literal`.
fn starts_with(view: &View<'_>, at: usize, literal: &[u8]) -> Found {
    // `gi` begins `github_pat_` as well.
    match view.literal(at, literal) {
        Found::No => view.literal(at, b"github_pat_"),
        found => found,
    }
}

impl Found {
    /// A literal that is there so far, but more of the text is needed.
    fn and_more(self) -> Self {
        match self {
            Self::No => Self::No,
            _ => Self::More,
        }
    }
}

const SK_MIN: usize = 20;

/// `sk-` and at least 20 of base64url, not all of them small letters and hyphens.
fn sk(view: &View<'_>, at: usize) -> Found {
    let start = match view.literal(at, b"sk-") {
        Found::Value(end) => end,
        found => return found,
    };
    match run(view, start, class::BASE64URL, SK_MIN) {
        Ok(SK_MIN) => {
            let body = view.text.get(start..start + SK_MIN).unwrap_or_default();
            if body.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
                Found::Swallow(start + SK_MIN, Tail::Class(class::BASE64URL))
            } else {
                Found::No
            }
        }
        Ok(_) => Found::No,
        Err(found) => found,
    }
}

/// A longer JWT header is not looked into for its `alg`.
const JWT_HEADER_MAX: usize = 256;
/// Bytes of the second segment that make it certain.
const JWT_PAYLOAD_MIN: usize = 4;

/// `eyJ...` that decodes to a header with `alg`, a dot, and a second segment.
fn jwt(view: &View<'_>, at: usize) -> Found {
    let start = match view.literal(at, b"eyJ") {
        Found::Value(end) => end,
        found => return found,
    };
    let len = match run(view, start, class::BASE64URL, JWT_HEADER_MAX) {
        Ok(len) => len,
        Err(found) => return found,
    };
    let dot = start + len;
    let tail = Tail::Dotted(class::BASE64URL);
    if len == JWT_HEADER_MAX {
        return Found::Swallow(dot, tail);
    }
    if view.peek(dot) != Peek::Byte(b'.') {
        return if view.peek(dot) == Peek::More { Found::More } else { Found::No };
    }
    if !has_alg(view.text.get(at..dot).unwrap_or_default()) {
        return Found::No;
    }
    match run(view, dot + 1, class::BASE64URL, JWT_PAYLOAD_MIN) {
        Ok(JWT_PAYLOAD_MIN) => Found::Swallow(dot + 1 + JWT_PAYLOAD_MIN, tail),
        // An encrypted token with a direct key has an empty second segment.
        Ok(0) if view.peek(dot + 1) == Peek::Byte(b'.') => Found::Swallow(dot + 2, tail),
        Ok(0) if view.peek(dot + 1) == Peek::More => Found::More,
        Ok(_) => Found::No,
        Err(found) => found,
    }
}

/// Whether base64url text decodes to bytes with `"alg"` in them.
fn has_alg(segment: &[u8]) -> bool {
    let mut decoded = [0u8; JWT_HEADER_MAX];
    let mut len = 0;
    let (mut bits, mut count) = (0u32, 0);
    for &byte in segment {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            if let Some(slot) = decoded.get_mut(len) {
                *slot = (bits >> count & 0xff) as u8;
                len += 1;
            }
        }
    }
    decoded.get(..len).unwrap_or_default().windows(5).any(|window| window == b"\"alg\"")
}

const PEM_LABEL_MAX: usize = 40;

/// `-----BEGIN ... PRIVATE KEY`; the rest of the block is swallowed.
fn pem(view: &View<'_>, at: usize) -> Found {
    let start = match view.literal(at, b"-----BEGIN ") {
        Found::Value(end) => end,
        found => return found,
    };
    for len in 0..PEM_LABEL_MAX {
        match view.literal(start + len, b"PRIVATE KEY") {
            Found::Value(end) => return Found::Swallow(end, Tail::Pem),
            Found::More => return Found::More,
            _ => {}
        }
        match view.peek(start + len) {
            Peek::Byte(b'A'..=b'Z' | b'0'..=b'9' | b' ') => {}
            _ => return Found::No,
        }
    }
    Found::No
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_start(text: &str) -> Found {
        find(&View { text: text.as_bytes(), left: [0; 2], end: true }, 0)
    }

    #[test]
    fn each_kind_is_certain_after_its_least_body() {
        assert_eq!(at_start("AKIAIOSFODNN7EXAMPLE"), Found::Value(20));
        assert_eq!(at_start("ASIAIOSFODNN7EXAMPLE."), Found::Value(20));
        assert_eq!(at_start("AKIAIOSFODNN7EXAMPLEX"), Found::No);
        assert_eq!(at_start("AKIAiosfodnn7example"), Found::No);
        let word = |end| Found::Swallow(end, Tail::Class(class::WORD));
        let body = "0123456789abcdefghijklmnopqrstuvwxyzAB";
        assert_eq!(at_start(&format!("ghp_{body}")), word(40));
        assert_eq!(at_start(&format!("github_pat_{body}")), word(33));
        assert_eq!(at_start("ghp_short"), Found::No);
        assert_eq!(at_start("ghost_in_the_shell_of_a_very_long_name_is_here"), Found::No);
        assert!(matches!(at_start("sk-ant-api03-abcdefgh-ijk"), Found::Swallow(23, _)));
        assert_eq!(at_start("sk-learn-is-a-library-for-machine-learning"), Found::No);
        assert!(matches!(
            at_start("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x"),
            Found::Swallow(25, _)
        ));
        assert_eq!(at_start("eyJzdWIiOiIxIn0.eyJzdWIiOiIxIn0.x"), Found::No);
        assert_eq!(at_start("eyJhbGciOiJIUzI1NiJ9"), Found::No);
        assert_eq!(at_start("-----BEGIN RSA PRIVATE KEY-----"), Found::Swallow(26, Tail::Pem));
        assert_eq!(at_start("-----BEGIN CERTIFICATE-----"), Found::No);
        assert_eq!(at_start("-----BEGIN rsa PRIVATE KEY-----"), Found::No);
    }
}
