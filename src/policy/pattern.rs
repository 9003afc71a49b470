//! Patterns: `*` is any run of bytes, `/` included, `?` is one byte, all else is itself.

use std::fmt;

/// A pattern, parsed. There is no pattern that does not parse.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: Box<[u8]>,
    /// Length of the part before the first `*` or `?`.
    prefix_len: usize,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Kind {
    /// Nothing special in it.
    Exact,
    /// One or more `*` at the end and nothing else.
    Prefix,
    /// Anything else.
    Glob,
}

impl Pattern {
    /// Parses `text`.
    #[must_use]
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let text: Box<[u8]> = text.as_ref().into();
        let special = text.iter().position(|byte| matches!(byte, b'*' | b'?'));
        let prefix_len = special.unwrap_or(text.len());
        let tail = text.get(prefix_len..).unwrap_or_default();
        let kind = match (tail.is_empty(), tail.iter().all(|byte| *byte == b'*')) {
            (true, _) => Kind::Exact,
            (false, true) => Kind::Prefix,
            (false, false) => Kind::Glob,
        };
        Self { text, prefix_len, kind }
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The bytes before the first `*` or `?`.
    pub(super) fn prefix(&self) -> &[u8] {
        self.text.get(..self.prefix_len).unwrap_or_default()
    }

    /// The longest run of literal bytes behind the first special one: a value without it does
    /// not match. Empty where there is none.
    pub(super) fn fragment(&self) -> &[u8] {
        let tail = self.text.get(self.prefix_len..).unwrap_or_default();
        let runs = tail.split(|byte| matches!(byte, b'*' | b'?'));
        runs.max_by_key(|run| run.len()).unwrap_or_default()
    }

    /// Whether it stands for exactly one value.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.kind == Kind::Exact
    }

    /// Whether the literal prefix alone does not decide.
    pub(super) fn is_glob(&self) -> bool {
        self.kind == Kind::Glob
    }

    /// Whether `value` as a whole matches. Cost: length of the value; times the length of the
    /// pattern at worst, for a `Glob` only.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        match self.kind {
            Kind::Exact => *self.text == *value,
            Kind::Prefix => value.starts_with(self.prefix()),
            Kind::Glob => {
                value.starts_with(self.prefix())
                    && glob(
                        self.text.get(self.prefix_len..).unwrap_or_default(),
                        value.get(self.prefix_len..).unwrap_or_default(),
                    )
            }
        }
    }
}

/// Matches with one place to come back to: after a later `*` an earlier one need not grow.
fn glob(pattern: &[u8], value: &[u8]) -> bool {
    let (mut p, mut v) = (0, 0);
    // Where to go on after the last star, and how much of the value that star has eaten.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = value.get(v) {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                retry = Some((p, v));
            }
            Some(expected) if *expected == b'?' || expected == byte => {
                p += 1;
                v += 1;
            }
            _ => {
                let Some((after, eaten)) = retry else { return false };
                retry = Some((after, eaten + 1));
                (p, v) = (after, eaten + 1);
            }
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.text))
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
pub(super) mod tests {
    use super::*;

    /// The definition, word for word; exponential, for short input only.
    pub(in crate::policy) fn naive(pattern: &[u8], value: &[u8]) -> bool {
        match pattern.first() {
            None => value.is_empty(),
            Some(b'*') => (0..=value.len()).any(|eaten| naive(&pattern[1..], &value[eaten..])),
            Some(b'?') => !value.is_empty() && naive(&pattern[1..], &value[1..]),
            Some(byte) => value.first() == Some(byte) && naive(&pattern[1..], &value[1..]),
        }
    }

    #[test]
    fn a_star_takes_any_run_and_a_question_mark_one_byte() {
        for (pattern, value, expected) in [
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1/a/b", true),
            ("/v1/*", "/v1", false),
            ("/v1/*/x", "/v1/a/b/x", true),
            ("/v1/*/x", "/v1//xy", false),
            ("gpt-?", "gpt-4", true),
            ("gpt-?", "gpt-", false),
            ("gpt-?", "gpt-40", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a[b]", "ab", false),
            ("*mini", "gpt-mini-mini", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(value.as_bytes()), expected, "{pattern}");
        }
    }

    #[test]
    fn all_short_patterns_match_like_the_definition() {
        let words = |letters: &[u8], len: usize| -> Vec<Vec<u8>> {
            let mut all = vec![Vec::new()];
            let mut last = all.clone();
            for _ in 0..len {
                last = last
                    .iter()
                    .flat_map(|word| {
                        letters.iter().map(move |letter| {
                            word.iter().copied().chain([*letter]).collect::<Vec<u8>>()
                        })
                    })
                    .collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        let values = words(b"ab", 5);
        for text in words(b"ab*?", 5) {
            let pattern = Pattern::new(&text);
            for value in &values {
                assert_eq!(
                    pattern.matches(value),
                    naive(&text, value),
                    "{pattern} on {:?}",
                    String::from_utf8_lossy(value)
                );
            }
        }
    }
}
