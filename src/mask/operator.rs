//! What is put in the place of a value: the operators, and their streaming form.
//!
//! A value may be far longer than what is ever held (a swallowed token, a field of megabytes), so
//! every operator works on a stream: `begin`, any number of `feed`, `end`. What it writes does not
//! depend on how the value was cut. All output is of a safe alphabet that is the same in plain
//! text, in a JSON string and in a JSON string within one.

use super::{MaskError, What};
use crate::scan::class;
use ring::hmac;
use std::fmt;

/// What is put in the place of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operator {
    /// A fixed label: `[EMAIL]` for an entity, `[REDACTED]` for a field or a column.
    Redact,
    /// A text of the config.
    Replace(String),
    /// Stars, but for the last n letters or digits; separators stay.
    KeepLast(u8),
    /// Stars, but for the first n letters or digits; separators stay.
    KeepFirst(u8),
    /// As many stars as the value has bytes in the message.
    SameLength,
    /// 16 characters of base32 of an HMAC-SHA256, so that equal values stay equal.
    Hash,
    /// JSON `null` for a field, NULL for a column, nothing for an entity.
    Null,
    /// As [`Operator::Null`].
    Drop,
    /// The exchange ends with an error.
    Block,
}

/// The most that `keep_last` and `keep_first` may keep.
const KEEP_MAX: u8 = 8;

impl Operator {
    /// Reads `redact`, `replace("...")`, `keep_last(4)`, `keep_first(6)`, `same_length`, `hash`,
    /// `null`, `drop` or `block`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, argument) = match text.split_once('(') {
            Some((name, rest)) => {
                let inner = rest
                    .strip_suffix(')')
                    .ok_or_else(|| format!("operator `{text}`: the closing `)` is missing"))?;
                (name.trim(), Some(inner.trim()))
            }
            None => (text, None),
        };
        let keep = || {
            argument
                .and_then(|n| n.parse::<u8>().ok())
                .filter(|n| (1..=KEEP_MAX).contains(n))
                .ok_or_else(|| format!("operator `{name}` takes a number from 1 to {KEEP_MAX}"))
        };
        let plain = |operator| match argument {
            None => Ok(operator),
            Some(_) => Err(format!("operator `{name}` takes no argument")),
        };
        match name {
            "redact" => plain(Self::Redact),
            "same_length" => plain(Self::SameLength),
            "hash" => plain(Self::Hash),
            "null" => plain(Self::Null),
            "drop" => plain(Self::Drop),
            "block" => plain(Self::Block),
            "keep_last" => Ok(Self::KeepLast(keep()?)),
            "keep_first" => Ok(Self::KeepFirst(keep()?)),
            "replace" => {
                let inner = argument
                    .and_then(|a| a.strip_prefix('"')?.strip_suffix('"'))
                    .ok_or("operator `replace` takes a text in quotes: replace(\"***\")")?;
                if inner.chars().any(|c| matches!(c, '"' | '\\') || c.is_control()) {
                    return Err("operator `replace`: the text must hold no quote, no backslash \
                                and no control character"
                        .to_owned());
                }
                Ok(Self::Replace(inner.to_owned()))
            }
            _ => Err(format!(
                "there is no operator `{name}`; there are redact, replace(\"...\"), keep_last(n), \
                 keep_first(n), same_length, hash, null, drop, block"
            )),
        }
    }

    /// Orders operators by how little they leave of a value.
    pub(super) fn strictness(&self) -> u8 {
        match self {
            Self::Block => 255,
            Self::Null | Self::Drop => 90,
            Self::Redact => 80,
            Self::Replace(_) => 70,
            Self::SameLength => 60,
            Self::Hash => 50,
            Self::KeepLast(n) => 40 - n.min(&KEEP_MAX),
            Self::KeepFirst(n) => 30 - n.min(&KEEP_MAX),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redact => f.write_str("redact"),
            Self::Replace(text) => write!(f, "replace(\"{text}\")"),
            Self::KeepLast(n) => write!(f, "keep_last({n})"),
            Self::KeepFirst(n) => write!(f, "keep_first({n})"),
            Self::SameLength => f.write_str("same_length"),
            Self::Hash => f.write_str("hash"),
            Self::Null => f.write_str("null"),
            Self::Drop => f.write_str("drop"),
            Self::Block => f.write_str("block"),
        }
    }
}

/// An operator with all that it needs, as a plan holds it.
#[derive(Clone)]
pub(super) struct Act {
    pub(super) operator: Operator,
    pub(super) text: Box<[u8]>,
    pub(super) key: Option<hmac::Key>,
    /// Whether what it masks is counted as found.
    pub(super) counted: bool,
}

impl Act {
    /// `key` is the secret of the mask; the entity's own key is derived from it by its name.
    pub(super) fn new(operator: &Operator, label: &str, entity: &str, key: &[u8]) -> Self {
        let text = match operator {
            Operator::Redact => label.as_bytes().into(),
            Operator::Replace(text) => text.as_bytes().into(),
            _ => Box::default(),
        };
        let key = (*operator == Operator::Hash).then(|| {
            let of_mask = hmac::Key::new(hmac::HMAC_SHA256, key);
            let of_entity = hmac::sign(&of_mask, format!("weirgate mask 1 {entity}").as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, of_entity.as_ref())
        });
        Self { operator: operator.clone(), text, key, counted: true }
    }

    pub(super) fn uncounted(self) -> Self {
        Self { counted: false, ..self }
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Act({})", self.operator)
    }
}

/// One value on its way through an operator.
#[derive(Default)]
pub(super) struct Replacer {
    run: Run,
    /// Letters and digits seen so far.
    seen: usize,
    /// Bytes whose fate is open, at most [`QUEUE_MAX`].
    queue: Vec<u8>,
    /// The digest of a value so far.
    digest: Option<hmac::Context>,
}

impl fmt::Debug for Replacer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Replacer({:?}, seen: {})", self.run, self.seen)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Run {
    #[default]
    Nothing,
    Stars,
    KeepLast(usize),
    /// The queue holds the start until it is clear that the value is long enough.
    KeepFirst(usize),
    Hash,
}

const QUEUE_MAX: usize = 64;
/// Characters of [`Operator::Hash`].
pub(super) const HASH_LEN: usize = 16;

impl Replacer {
    pub(super) fn begin(
        &mut self,
        act: &Act,
        what: What,
        mut put: impl FnMut(&[u8]),
    ) -> Result<(), MaskError> {
        self.seen = 0;
        self.queue.clear();
        self.run = match &act.operator {
            Operator::Block => return Err(MaskError::Blocked(what)),
            Operator::Redact | Operator::Replace(_) => {
                put(&act.text);
                Run::Nothing
            }
            Operator::Null | Operator::Drop => Run::Nothing,
            Operator::SameLength => Run::Stars,
            Operator::KeepLast(n) => Run::KeepLast(usize::from(*n)),
            Operator::KeepFirst(n) => Run::KeepFirst(usize::from(*n)),
            Operator::Hash => {
                self.digest = act.key.as_ref().map(hmac::Context::with_key);
                Run::Hash
            }
        };
        Ok(())
    }

    /// `raw_len` is how many bytes of the message `value` takes, escapes included.
    pub(super) fn feed(&mut self, value: &[u8], raw_len: usize, mut put: impl FnMut(&[u8])) {
        match self.run {
            Run::Nothing => {}
            Run::Stars => stars(raw_len, put),
            Run::Hash => {
                if let Some(digest) = &mut self.digest {
                    digest.update(value);
                }
            }
            Run::KeepLast(n) => {
                for &byte in value {
                    let Some(byte) = shown(byte) else { continue };
                    self.seen += usize::from(byte.is_ascii_alphanumeric());
                    self.queue.push(byte);
                    let kept = |q: &[u8]| q.iter().filter(|b| b.is_ascii_alphanumeric()).count();
                    while self.queue.len() > QUEUE_MAX || kept(&self.queue) > n {
                        put(&[hidden(self.queue.remove(0))]);
                    }
                }
            }
            Run::KeepFirst(n) => {
                for &byte in value {
                    let Some(byte) = shown(byte) else { continue };
                    self.seen += usize::from(byte.is_ascii_alphanumeric());
                    if self.seen > 2 * n || (self.queue.is_empty() && self.seen == 2 * n) {
                        put(&[hidden(byte)]);
                        continue;
                    }
                    self.queue.push(byte);
                    if self.seen == 2 * n {
                        let mut left = n;
                        for byte in self.queue.drain(..) {
                            let keep = left > 0 || !byte.is_ascii_alphanumeric();
                            left = left.saturating_sub(usize::from(byte.is_ascii_alphanumeric()));
                            put(&[if keep { byte } else { hidden(byte) }]);
                        }
                    } else if self.queue.len() > QUEUE_MAX {
                        // So few letters among so many separators: nothing of it is shown.
                        put(&[hidden(self.queue.remove(0))]);
                    }
                }
            }
        }
    }

    pub(super) fn end(&mut self, mut put: impl FnMut(&[u8])) {
        match std::mem::take(&mut self.run) {
            Run::Nothing | Run::Stars => {}
            Run::KeepLast(n) => {
                // A short value would show most of itself.
                let keep = self.seen >= 2 * n;
                self.queue.drain(..).for_each(|b| put(&[if keep { b } else { hidden(b) }]));
            }
            Run::KeepFirst(_) => self.queue.drain(..).for_each(|byte| put(&[hidden(byte)])),
            Run::Hash => {
                if let Some(digest) = self.digest.take() {
                    put(&base32(digest.sign().as_ref()));
                }
            }
        }
    }

    /// Drops a value that was begun.
    pub(super) fn forget(&mut self) {
        self.run = Run::Nothing;
        self.queue.clear();
        self.digest = None;
    }

    /// Whether bytes of the value wait for what comes.
    pub(super) fn is_holding(&self) -> bool {
        !self.queue.is_empty() || self.run == Run::Hash
    }
}

/// What a byte of a value looks like where it is kept; `None` for the rest of a character.
fn shown(byte: u8) -> Option<u8> {
    match byte {
        0x80..=0xbf => None,
        b'"' | b'\\' | 0..=0x1f | 0x7f.. => Some(b'*'),
        _ => Some(byte),
    }
}

fn hidden(byte: u8) -> u8 {
    if class::is(byte, class::DIGIT | class::LETTER) { b'*' } else { byte }
}

pub(super) fn stars(len: usize, mut put: impl FnMut(&[u8])) {
    fill(b"****************************************************************", len, &mut put);
}

pub(super) fn spaces(len: usize, mut put: impl FnMut(&[u8])) {
    fill(b"                                                                ", len, &mut put);
}

fn fill(with: &[u8], len: usize, put: &mut impl FnMut(&[u8])) {
    let mut left = len;
    while left > 0 {
        let now = left.min(with.len());
        put(with.get(..now).unwrap_or_default());
        left -= now;
    }
}

/// The first 80 bits, 5 at a time, in the lower-case alphabet of RFC 4648.
fn base32(digest: &[u8]) -> [u8; HASH_LEN] {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bits = digest.iter().take(10).fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
    let mut text = [b'a'; HASH_LEN];
    for (place, slot) in text.iter_mut().enumerate() {
        let index = (bits >> (75 - 5 * place)) & 31;
        *slot = ALPHABET.get(index as usize).copied().unwrap_or(b'a');
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn apply(operator: &str, parts: &[&str]) -> String {
        let act = Act::new(&Operator::parse(operator).unwrap(), "[X]", "x", b"key");
        let mut out = Vec::new();
        let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
        let mut replacer = Replacer::default();
        replacer.begin(&act, What::Field, &mut put).unwrap();
        parts.iter().for_each(|p| replacer.feed(p.as_bytes(), p.len(), &mut put));
        replacer.end(&mut put);
        assert!(!replacer.is_holding());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_operator_leaves_what_it_says() {
        let pan = "4111-1111 11111234";
        assert_eq!(apply("redact", &[pan]), "[X]");
        assert_eq!(apply("replace(\"hidden (it)\")", &[pan]), "hidden (it)");
        assert_eq!(apply("keep_last(4)", &[pan]), "****-**** ****1234");
        assert_eq!(apply("keep_first(6)", &[pan]), "4111-11** ********");
        assert_eq!(apply("same_length", &[pan]), "******************");
        assert_eq!(apply("null", &[pan]), "");
        assert_eq!(apply("hash", &[pan]).len(), 16);
        assert_ne!(apply("hash", &[pan]), apply("hash", &["4111"]));
    }

    #[test]
    fn short_values_are_not_shown() {
        assert_eq!(apply("keep_last(4)", &["1234567"]), "*******");
        assert_eq!(apply("keep_first(4)", &["123-4567"]), "***-****");
        assert_eq!(apply("keep_last(4)", &["12345678"]), "****5678");
        assert_eq!(apply("keep_first(4)", &["12345678"]), "1234****");
        assert_eq!(apply("keep_last(2)", &["\u{e9}a\"b\u{1f600}cde"]), "******de");
    }

    #[test]
    fn the_cut_of_a_value_does_not_matter() {
        let value =
            "ab-12 \u{e9}cd..................................................................ef34";
        for operator in ["redact", "keep_last(3)", "keep_first(3)", "same_length", "hash"] {
            let whole = apply(operator, &[value]);
            for cut in (0..=value.len()).filter(|cut| value.is_char_boundary(*cut)) {
                assert_eq!(apply(operator, &[&value[..cut], &value[cut..]]), whole, "{operator}");
            }
        }
    }

    #[test]
    fn unclear_operators_are_explained() {
        for (text, says) in [
            ("keep_last", "number from 1 to 8"),
            ("keep_last(9)", "number from 1 to 8"),
            ("keep_last(4", "closing `)`"),
            ("redact(1)", "no argument"),
            ("replace(x)", "in quotes"),
            ("replace(\"a\\b\")", "no backslash"),
            ("mask", "there is no operator `mask`"),
        ] {
            let message = Operator::parse(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
        for text in ["redact", "replace(\"x\")", "keep_last(4)", "hash", "drop", "block"] {
            assert_eq!(Operator::parse(text).unwrap().to_string(), text);
        }
    }
}
