//! Which settings of its session a caller may choose, at the start and by SET.
//!
//! Everything else stays as the gateway pinned it: what a statement means (`search_path`, how
//! strings are read), whose rights it has (`role`), and what runs before it. Names are compared as
//! PostgreSQL compares them, without regard to case.

/// What is to be done with a setting that a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    /// It goes on to the upstream.
    Free,
    /// It is what it is already.
    Held,
    /// Not through this gateway.
    Refused,
}

/// Settings that change how answers look or how long they may take, and nothing of their meaning.
const FREE: [&str; 19] = [
    "application_name",
    "bytea_output",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "timezone",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "transaction_timeout",
    "client_min_messages",
    "jit",
    "geqo",
    "default_transaction_isolation",
    "default_transaction_deferrable",
    "default_transaction_read_only",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_deferrable",
];

/// The schemas in which a name without one is looked up, as pinned toward the upstream.
pub(super) const SEARCH_PATH: &str = "public";

/// What the gateway pins in its own start-up packet, so that RESET and DISCARD fall back to it.
pub(super) const PINNED: [(&[u8], &[u8]); 3] = [
    (b"client_encoding", b"UTF8"),
    (b"standard_conforming_strings", b"on"),
    (b"search_path", SEARCH_PATH.as_bytes()),
];

/// What becomes of `name = value`; `None` is the default, or a value that is no literal.
pub(super) fn judge(name: &[u8], value: Option<&[u8]>) -> Setting {
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if FREE.iter().any(|known| is(known)) {
        return Setting::Free;
    }
    let held = match value {
        // Back to what is pinned; a setting without a literal is not understood.
        None => return Setting::Refused,
        Some(value) if is("client_encoding") => is_utf8(value),
        Some(value) if is("standard_conforming_strings") => is_on(value),
        Some(value) if is("search_path") => is_search_path(value),
        Some(_) => false,
    };
    if held { Setting::Held } else { Setting::Refused }
}

/// Whether the gateway holds the setting.
pub(super) fn is_pinned(name: &[u8]) -> bool {
    PINNED.iter().any(|(known, _)| name.eq_ignore_ascii_case(known))
}

/// Whether `name` may be set back to its default: everything that may be set, and what is pinned.
pub(super) fn may_reset(name: &[u8]) -> bool {
    is_pinned(name) || judge(name, None) == Setting::Free
}

/// An encoding's name as the server reads it: letters and digits only, in any case.
fn is_utf8(value: &[u8]) -> bool {
    let letters = value.iter().filter(|byte| byte.is_ascii_alphanumeric());
    let name: Vec<u8> = letters.map(u8::to_ascii_lowercase).collect();
    matches!(name.as_slice(), b"utf8" | b"unicode")
}

fn is_on(value: &[u8]) -> bool {
    ["on", "true", "yes", "1"].iter().any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

fn is_search_path(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    bare.unwrap_or(value) == SEARCH_PATH.as_bytes()
}

/// Walks the settings of the start-up parameter `options`: `-c name=value` and `--name=value`,
/// a backslash keeping the byte behind it (PostgreSQL manual, 55.2.1). `None` ends it for anything
/// else, which is not understood and so refused.
pub(super) fn options(text: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut words = words(text).into_iter();
    while let Some(word) = words.next() {
        let pair = if word == b"-c" {
            words.next()?
        } else if let Some(rest) = word.strip_prefix(b"--").or_else(|| word.strip_prefix(b"-c")) {
            rest.to_vec()
        } else {
            return None;
        };
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        // The server reads `-` in a name of the long form as `_`.
        let name = name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect();
        found.push((name, value.get(1..).unwrap_or_default().to_vec()));
    }
    Some(found)
}

fn words(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => words.extend(word.take()),
            b'\\' => word.get_or_insert_default().extend(bytes.next()),
            _ => word.get_or_insert_default().push(*byte),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_the_meaning_or_the_rights_is_refused() {
        for name in ["role", "session_authorization", "row_security", "local_preload_libraries"] {
            assert_eq!(judge(name.as_bytes(), Some(b"x")), Setting::Refused, "{name}");
            assert!(!may_reset(name.as_bytes()), "{name}");
        }
        assert_eq!(judge(b"search_path", Some(b"evil, public")), Setting::Refused);
        assert_eq!(judge(b"Search_Path", Some(b"public")), Setting::Held);
        assert_eq!(judge(b"search_path", Some(b"\"public\"")), Setting::Held);
        assert_eq!(judge(b"standard_conforming_strings", Some(b"off")), Setting::Refused);
        assert_eq!(judge(b"client_encoding", Some(b"'utf-8'")), Setting::Held);
        assert_eq!(judge(b"client_encoding", Some(b"SJIS")), Setting::Refused);
        assert_eq!(judge(b"client_encoding", None), Setting::Refused);
        assert_eq!(judge(b"DateStyle", Some(b"ISO")), Setting::Free);
        assert!(may_reset(b"client_encoding") && may_reset(b"timezone"));
    }

    #[test]
    fn options_are_read_as_the_server_reads_them() {
        let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        assert_eq!(
            options(b" -c  datestyle=ISO,\\ MDY --statement-timeout=5s -cjit=off"),
            Some(vec![
                pair("datestyle", "ISO, MDY"),
                pair("statement_timeout", "5s"),
                pair("jit", "off")
            ])
        );
        assert_eq!(options(b""), Some(Vec::new()));
        for bad in [&b"-c"[..], b"-d 5", b"-c role", b"x", b"--", b"-c a b=c"] {
            assert_eq!(options(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }
}
