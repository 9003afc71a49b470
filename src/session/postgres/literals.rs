//! Statement text without its literals, for the record of statements on masked columns: the value
//! that a column is compared with, or set to, is the column's.
//!
//! This is a reader of PostgreSQL's lexical rules (manual, 4.1) as far as literals and comments go,
//! with `standard_conforming_strings` on, as it is pinned. Where it and the server's reader differ,
//! it must take away more and never less: what does not end is taken away to the end of the text.

/// Appends `text` with `[REDACTED]` in every string literal, without the words of its comments, and
/// with long numbers as `0`.
pub(super) fn without(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    let mut before = b' ';
    while let Some(&byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        let word = is_word(before);
        let len = match byte {
            b'\'' => {
                let escapes = matches!(before, b'e' | b'E') && !is_word(second(text, at));
                out.extend_from_slice(b"'[REDACTED]'");
                let mut len = quoted(rest, escapes);
                while let Some(gap) = gap(rest.get(len..).unwrap_or_default()) {
                    len += gap;
                    len += quoted(rest.get(len..).unwrap_or_default(), escapes);
                }
                len
            }
            b'"' => {
                let len = identifier(rest);
                out.extend_from_slice(rest.get(..len).unwrap_or_default());
                len
            }
            b'$' if !word && tag(rest).is_some() => {
                out.extend_from_slice(b"'[REDACTED]'");
                dollar(rest)
            }
            b'-' if rest.starts_with(b"--") => {
                out.extend_from_slice(b"--");
                let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                end.unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => {
                out.extend_from_slice(b"/* */");
                comment(rest)
            }
            b'0'..=b'9' if !word && before != b'$' => {
                let len = rest.iter().take_while(|byte| is_word(**byte) || **byte == b'.').count();
                let number = rest.get(..len).unwrap_or_default();
                let shown = if len >= NUMBER_LEN { b"0" } else { number };
                out.extend_from_slice(shown);
                len
            }
            _ => {
                out.push(byte);
                1
            }
        };
        at += len.max(1);
        before = text.get(at.saturating_sub(1)).copied().unwrap_or(b' ');
    }
}

/// The byte before the one before `at`.
fn second(text: &[u8], at: usize) -> u8 {
    at.checked_sub(2).and_then(|at| text.get(at)).copied().unwrap_or(b' ')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The length of the literal that `text` begins with, its quotes included.
fn quoted(text: &[u8], escapes: bool) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\\' if escapes => at += 2,
            b'\'' if text.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// How long it is to where a literal goes on: behind a line end and white space, comments to the
/// line's end included. The rules of escapes are those that it began by.
fn gap(text: &[u8]) -> Option<usize> {
    let (mut at, mut line) = (0, false);
    loop {
        let rest = text.get(at..)?;
        match rest.first()? {
            b'\n' | b'\r' => {
                line = true;
                at += 1;
            }
            b' ' | b'\t' | 0x0b | 0x0c => at += 1,
            b'-' if rest.starts_with(b"--") => {
                at += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
            }
            b'\'' if line => return Some(at),
            _ => return None,
        }
    }
}

fn identifier(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' if text.get(at + 1) == Some(&b'"') => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// `$tag$`, where `text` begins with one.
fn tag(text: &[u8]) -> Option<&[u8]> {
    let inner = text.get(1..)?;
    let len = inner.iter().position(|byte| *byte == b'$')?;
    let name = inner.get(..len)?;
    let starts = name.first().is_none_or(|byte| !byte.is_ascii_digit());
    (starts && name.iter().all(|byte| is_word(*byte))).then(|| text.get(..len + 2))?
}

fn dollar(text: &[u8]) -> usize {
    let Some(tag) = tag(text) else { return text.len() };
    let rest = text.get(tag.len()..).unwrap_or_default();
    match memchr::memmem::find(rest, tag) {
        Some(end) => tag.len() + end + tag.len(),
        None => text.len(),
    }
}

/// The length of the comment that `text` begins with; comments nest.
fn comment(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0u32);
    while let Some(two) = text.get(at..at + 2) {
        match two {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    text.len()
}

/// A number of so many bytes may be a value that is worth hiding.
const NUMBER_LEN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut out = Vec::new();
        without(text.as_bytes(), &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn literals_go_in_every_form_and_names_stay() {
        for (text, expected) in [
            ("select 'a''b', \"x'y\" from t", "select '[REDACTED]', \"x'y\" from t"),
            ("where e = E'it\\'s' and n = 1", "where e = E'[REDACTED]' and n = 1"),
            ("select E''\n'\\' x ' , 'y'", "select E'[REDACTED]' , '[REDACTED]'"),
            ("select 'a'\n -- b\n 'c' or x", "select '[REDACTED]' or x"),
            ("select 'a' 'b'", "select '[REDACTED]' '[REDACTED]'"),
            ("select type'x\\', 'y'", "select type'[REDACTED]', '[REDACTED]'"),
            ("select $$a'b$$, $q$ $$ $q$, $1", "select '[REDACTED]', '[REDACTED]', $1"),
            ("select a$b$c from t", "select a$b$c from t"),
            ("-- secret\nselect 1 /* s /* t */ u */ x", "--\nselect 1 /* */ x"),
            ("where ssn = 536904399 and a1234567 = 12", "where ssn = 0 and a1234567 = 12"),
            ("select 'no end", "select '[REDACTED]'"),
            ("select $x$ no end", "select '[REDACTED]'"),
            ("/* no end", "/* */"),
            ("select U&'\\0041' || B'101'", "select U&'[REDACTED]' || B'[REDACTED]'"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_literal_never_shows_wherever_it_stands() {
        let secret = "c17@example.com";
        for text in [
            format!("select '{secret}'"),
            format!("select e'{secret}'"),
            format!("select $t${secret}$t$"),
            format!("select 1--{secret}"),
            format!("select 1/*{secret}*/"),
            format!("select ''''||'{secret}'"),
            format!("select 'a' '{secret}'"),
        ] {
            assert!(!shown(&text).contains("c17"), "{text}");
        }
    }
}
