//! An incremental, strict JSON tokenizer (RFC 8259).
//!
//! ```text
//!            value                     , ]
//!   Value ----------> AfterValue ----------------> Value | Key | Done
//!     | {  --> KeyOrEnd --"..."--> Colon --:--> Value
//!     | [  --> ValueOrEnd
//!     | "  --> String <-> Escape ;  digit --> Number ;  t f n --> Literal
//! ```
//!
//! Tokens name ranges of the input of the current call; what is between two tokens of a string is
//! nothing, so that all ranges together are the input without a gap. Strict: no trailing commas,
//! no comments, no bare control characters, no leading zeros, no bytes that UTF-8 never holds.

use super::run;
use std::ops::Range;

/// Nested objects and arrays; deeper input is an error.
pub const DEPTH_MAX: u8 = 128;

/// Why the input is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonError {
    /// A byte that cannot stand where it stands.
    Unexpected,
    /// More than [`DEPTH_MAX`] open objects and arrays.
    TooDeep,
    /// The input ended within a value.
    Truncated,
}

/// One step of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// White space, commas and colons.
    Gap(Range<usize>),
    /// An opening brace or bracket at this place.
    Open {
        /// Place of the byte.
        at: usize,
        /// An array, not an object.
        array: bool,
    },
    /// A closing brace or bracket at this place.
    Close(usize),
    /// An opening quote at this place; `key` when the string is a member's name.
    Quote {
        /// Place of the quote.
        at: usize,
        /// The string names a member.
        key: bool,
    },
    /// Bytes of a string without an escape, maybe none.
    Text {
        /// The bytes.
        range: Range<usize>,
        /// The closing quote follows right behind `range`, and is part of this token.
        closes: bool,
    },
    /// One escape of a string.
    Escape(Escape),
    /// Bytes of a number or a literal, maybe none.
    Scalar {
        /// The bytes.
        range: Range<usize>,
        /// The first bytes of this scalar.
        first: bool,
        /// The last bytes of this scalar.
        last: bool,
    },
}

/// One escape sequence: what it means, and how it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Escape {
    decoded: [u8; 3],
    decoded_len: u8,
    raw: [u8; 6],
    raw_len: u8,
    whole: bool,
}

impl Escape {
    /// The character in UTF-8. Each half of a surrogate pair is U+FFFD by itself.
    #[must_use]
    pub fn decoded(&self) -> &[u8] {
        self.decoded.get(..usize::from(self.decoded_len)).unwrap_or_default()
    }

    /// The escape as it was written.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        self.raw.get(..usize::from(self.raw_len)).unwrap_or_default()
    }

    /// Whether all of it stood in the input of this call, right before the place reached.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    AfterValue,
    String,
    Escape,
    Number(Digits),
    Literal(&'static [u8]),
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// The tokenizer's state between two inputs.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    state: State,
    many: bool,
    key: bool,
    /// One bit for each open container, the innermost lowest: 1 is an array.
    arrays: u128,
    depth: u8,
    raw: [u8; 6],
    raw_len: u8,
    raw_fresh: bool,
}

impl Tokenizer {
    /// Expects one value; with `many`, any number of them with white space between (NDJSON).
    #[must_use]
    pub fn new(many: bool) -> Self {
        Self {
            state: State::Value,
            many,
            key: false,
            arrays: 0,
            depth: 0,
            raw: [0; 6],
            raw_len: 0,
            raw_fresh: true,
        }
    }

    /// Bytes of an escape that is cut by the end of the input so far.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.state == State::Escape { usize::from(self.raw_len) } else { 0 }
    }

    /// Whether no value is open: at the start, or behind a complete one.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.depth == 0 && matches!(self.state, State::Value | State::Done)
    }

    /// Tells that a fresh input begins, so that a cut escape is not named as part of it.
    pub fn fresh_input(&mut self) {
        self.raw_fresh = false;
    }

    /// Yields the next token of `input` from `at` on and moves `at` behind it; `None` at its end.
    ///
    /// # Errors
    /// [`JsonError`] when the input cannot be the start of JSON. The tokenizer stays there.
    pub fn next(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Token>, JsonError> {
        match self.state {
            State::String => return self.string(input, at),
            State::Escape => return self.escape(input, at),
            State::Number(_) | State::Literal(_) => return self.scalar(input, at, false),
            _ => {}
        }
        let start = *at;
        let mut place = start;
        while let Some(&byte) = input.get(place) {
            match (byte, self.state) {
                (b' ' | b'\t' | b'\n' | b'\r', _) => {}
                (b':', State::Colon) => self.state = State::Value,
                (b',', State::AfterValue) => {
                    self.state = if self.in_array() { State::Value } else { State::Key };
                }
                _ => break,
            }
            place += 1;
        }
        if place > start {
            *at = place;
            return Ok(Some(Token::Gap(start..place)));
        }
        let Some(&byte) = input.get(place) else { return Ok(None) };
        if self.state == State::Done && self.many {
            self.state = State::Value;
        }
        match (byte, self.state) {
            (b'"', State::Key | State::KeyOrEnd) => {
                self.key = true;
                self.state = State::String;
            }
            (b'"', State::Value | State::ValueOrEnd) => {
                self.key = false;
                self.state = State::String;
            }
            (b'{' | b'[', State::Value | State::ValueOrEnd) => {
                let array = byte == b'[';
                self.open(array)?;
                *at = place + 1;
                return Ok(Some(Token::Open { at: place, array }));
            }
            (b'}', State::KeyOrEnd) | (b']', State::ValueOrEnd) => return Ok(self.close(at)),
            (b'}', State::AfterValue) if !self.in_array() => return Ok(self.close(at)),
            (b']', State::AfterValue) if self.in_array() => return Ok(self.close(at)),
            (_, State::Value | State::ValueOrEnd) => {
                self.state = match byte {
                    b'-' => State::Number(Digits::Minus),
                    b'0' => State::Number(Digits::Zero),
                    b'1'..=b'9' => State::Number(Digits::Integer),
                    b't' => State::Literal(b"rue"),
                    b'f' => State::Literal(b"alse"),
                    b'n' => State::Literal(b"ull"),
                    _ => return Err(JsonError::Unexpected),
                };
                return self.scalar(input, at, true);
            }
            _ => return Err(JsonError::Unexpected),
        }
        *at = place + 1;
        Ok(Some(Token::Quote { at: place, key: self.key }))
    }

    /// Ends the input. `true` when that ended a number, whose last token was not marked as such.
    ///
    /// # Errors
    /// [`JsonError::Truncated`] within a value. No value at all is no error.
    pub fn finish(&mut self) -> Result<bool, JsonError> {
        match self.state {
            State::Value | State::Done if self.depth == 0 => Ok(false),
            State::Number(digits) if self.depth == 0 && ends(digits) => {
                self.after_value();
                Ok(true)
            }
            _ => Err(JsonError::Truncated),
        }
    }

    fn in_array(&self) -> bool {
        self.arrays & 1 == 1
    }

    fn open(&mut self, array: bool) -> Result<(), JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.arrays = self.arrays << 1 | u128::from(array);
        self.state = if array { State::ValueOrEnd } else { State::KeyOrEnd };
        Ok(())
    }

    fn close(&mut self, at: &mut usize) -> Option<Token> {
        debug_assert!(self.depth > 0);
        self.depth = self.depth.saturating_sub(1);
        self.arrays >>= 1;
        self.after_value();
        let place = *at;
        *at += 1;
        Some(Token::Close(place))
    }

    fn after_value(&mut self) {
        self.state = if self.depth == 0 { State::Done } else { State::AfterValue };
    }

    fn string(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Token>, JsonError> {
        let start = *at;
        let rest = input.get(start..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let len = text_len(rest);
        let range = start..start + len;
        let closes = match rest.get(len) {
            Some(b'"') => {
                self.state = if self.key { State::Colon } else { State::AfterValue };
                if !self.key {
                    self.after_value();
                }
                true
            }
            Some(b'\\') if len == 0 => {
                self.state = State::Escape;
                self.raw_len = 0;
                self.raw_fresh = true;
                return self.escape(input, at);
            }
            Some(b'\\') | None => false,
            Some(_) => return Err(JsonError::Unexpected),
        };
        *at = range.end + usize::from(closes);
        Ok(Some(Token::Text { range, closes }))
    }

    fn escape(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Token>, JsonError> {
        while let Some(&byte) = input.get(*at) {
            *at += 1;
            if let Some(slot) = self.raw.get_mut(usize::from(self.raw_len)) {
                *slot = byte;
            }
            self.raw_len += 1;
            let plain = match (self.raw_len, byte) {
                (1, _) => continue,
                (2, b'"' | b'\\' | b'/') => byte,
                (2, b'b') => 8,
                (2, b'f') => 12,
                (2, b'n') => b'\n',
                (2, b'r') => b'\r',
                (2, b't') => b'\t',
                (2, b'u') => continue,
                (3..=5, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => continue,
                (6, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    return Ok(Some(self.escaped(hex_char(&self.raw))));
                }
                _ => return Err(JsonError::Unexpected),
            };
            return Ok(Some(self.escaped(char::from(plain))));
        }
        Ok(None)
    }

    fn escaped(&mut self, char: char) -> Token {
        let mut decoded = [0; 3];
        // At most four hex digits: never beyond the basic plane, so three bytes hold it.
        let mut wide = [0; 4];
        let text = char.encode_utf8(&mut wide).as_bytes();
        for (slot, &byte) in decoded.iter_mut().zip(text) {
            *slot = byte;
        }
        self.state = State::String;
        Token::Escape(Escape {
            decoded,
            decoded_len: text.len() as u8,
            raw: self.raw,
            raw_len: self.raw_len,
            whole: self.raw_fresh,
        })
    }

    fn scalar(
        &mut self,
        input: &[u8],
        at: &mut usize,
        first: bool,
    ) -> Result<Option<Token>, JsonError> {
        let start = *at;
        let mut place = start + usize::from(first);
        let mut last = false;
        while let Some(&byte) = input.get(place) {
            match self.state {
                State::Literal([next, rest @ ..]) if *next == byte => {
                    place += 1;
                    self.state = State::Literal(rest);
                    if rest.is_empty() {
                        last = true;
                        break;
                    }
                }
                State::Number(digits) => match after(digits, byte) {
                    Some(digits) => {
                        self.state = State::Number(digits);
                        place += 1;
                    }
                    None if ends(digits) => {
                        last = true;
                        break;
                    }
                    None => return Err(JsonError::Unexpected),
                },
                _ => return Err(JsonError::Unexpected),
            }
        }
        if last {
            self.after_value();
        } else if place == start {
            return Ok(None);
        }
        *at = place;
        Ok(Some(Token::Scalar { range: start..place, first, last }))
    }
}

/// Whether `text` is exactly one JSON value.
#[must_use]
pub fn is_valid(text: &[u8]) -> bool {
    let mut tokens = Tokenizer::new(false);
    let mut at = 0;
    loop {
        match tokens.next(text, &mut at) {
            Ok(Some(_)) => {}
            Ok(None) => return tokens.finish().is_ok() && tokens.state != State::Value,
            Err(_) => return false,
        }
    }
}

/// Appends the text that a string means; `raw` is what stands between its quotes, already found
/// valid. Surrogate pairs become one character, lone halves U+FFFD.
pub fn unescape(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(len) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(len);
        out.extend_from_slice(plain);
        let (char, used) = match escape {
            [_, b'u', ..] => wide_char(escape),
            [_, b'b', ..] => ('\u{8}', 2),
            [_, b'f', ..] => ('\u{c}', 2),
            [_, b'n', ..] => ('\n', 2),
            [_, b'r', ..] => ('\r', 2),
            [_, b't', ..] => ('\t', 2),
            [_, byte, ..] => (char::from(*byte), 2),
            _ => ('\\', 1),
        };
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        rest = escape.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}

/// Appends `text` as the inside of a JSON string.
pub fn escape_into(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut rest = text;
    loop {
        // Most texts have nothing to escape.
        let (plain, behind) = rest.split_at(run::plain_ascii(rest));
        out.extend_from_slice(plain);
        let Some((&byte, behind)) = behind.split_first() else { return };
        rest = behind;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => {
                out.extend_from_slice(b"\\u00");
                let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
}

fn wide_char(escape: &[u8]) -> (char, usize) {
    let unit = |at: usize| escape.get(at..at + 6).and_then(hex_unit);
    let Some(first) = unit(0) else { return (char::REPLACEMENT_CHARACTER, escape.len()) };
    if (0xd800..0xdc00).contains(&first)
        && let Some(second) = unit(6)
        && (0xdc00..0xe000).contains(&second)
    {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6)
}

fn hex_unit(raw: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = raw else { return None };
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn hex_char(raw: &[u8; 6]) -> char {
    hex_unit(raw).and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Bytes at the start of `rest` that are inside of a string and mean themselves.
#[inline]
#[must_use]
pub fn text_len(rest: &[u8]) -> usize {
    let mut len = 0;
    loop {
        len += run::plain_ascii(rest.get(len..).unwrap_or_default());
        let wide = rest.get(len..).unwrap_or_default();
        let count = wide.iter().take_while(|byte| !byte.is_ascii() && !stops(**byte)).count();
        if count == 0 {
            return len;
        }
        len += count;
    }
}

#[inline]
fn stops(byte: u8) -> bool {
    STOPS.get(usize::from(byte)).copied().unwrap_or(true)
}

static STOPS: [bool; 256] = stop_table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within 256 entries")]
const fn stop_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < 256 {
        // 0xc0, 0xc1 and 0xf5..=0xff are in no UTF-8 text.
        table[at] = at < 0x20
            || at == b'"' as usize
            || at == b'\\' as usize
            || at == 0xc0
            || at == 0xc1
            || at >= 0xf5;
        at += 1;
    }
    table
}

fn after(digits: Digits, byte: u8) -> Option<Digits> {
    Some(match (digits, byte) {
        (Digits::Minus, b'0') => Digits::Zero,
        (Digits::Minus, b'1'..=b'9') | (Digits::Integer, b'0'..=b'9') => Digits::Integer,
        (Digits::Zero | Digits::Integer, b'.') => Digits::Point,
        (Digits::Point | Digits::Fraction, b'0'..=b'9') => Digits::Fraction,
        (Digits::Zero | Digits::Integer | Digits::Fraction, b'e' | b'E') => Digits::E,
        (Digits::E, b'+' | b'-') => Digits::Sign,
        (Digits::E | Digits::Sign | Digits::Exponent, b'0'..=b'9') => Digits::Exponent,
        _ => return None,
    })
}

fn ends(digits: Digits) -> bool {
    matches!(digits, Digits::Zero | Digits::Integer | Digits::Fraction | Digits::Exponent)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn it_accepts_what_serde_accepts() {
        let cases: &[&str] = &[
            "{}",
            "[]",
            "0",
            "-0",
            "01",
            "1.",
            "1.5e+3",
            "1e",
            "-",
            "tru",
            "true",
            "truex",
            "\"a",
            "\"a\\u00e9\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "{} {}",
            " {\"a\":[null,false,{\"b\":\"c\"}]} ",
            "\"\u{1}\"",
            "]",
            "}",
            "[}",
            "{]",
            "",
            " ",
            "{1:2}",
            "[\"a\",\"b\"]",
            "\u{feff}{}",
            "nul",
            "nulll",
            "[[[[]]]]",
            "{\"a\":{\"a\":{}}}",
            "/**/1",
            "'a'",
            "NaN",
            "+1",
            ".5",
            "1.5.5",
            "--1",
        ];
        for case in cases {
            let expected = serde_json::from_str::<serde_json::Value>(case).is_ok();
            assert_eq!(is_valid(case.as_bytes()), expected, "{case}");
        }
    }

    #[test]
    fn every_byte_is_in_one_token_for_every_split() {
        let text = br#" {"k\u0041" : [1.25e-3, true,null ,"x\n\"y\ud83d\ude00z",{}], "":-7}"#;
        for cut in 0..=text.len() {
            let mut tokens = Tokenizer::new(false);
            let mut seen = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                tokens.fresh_input();
                let mut at = 0;
                while let Some(token) = tokens.next(part, &mut at).unwrap() {
                    match token {
                        Token::Gap(r) | Token::Scalar { range: r, .. } => {
                            seen.extend_from_slice(&part[r]);
                        }
                        Token::Open { at, .. } | Token::Close(at) | Token::Quote { at, .. } => {
                            seen.push(part[at]);
                        }
                        Token::Text { range, closes } => {
                            let end = range.end + usize::from(closes);
                            seen.extend_from_slice(&part[range.start..end]);
                        }
                        Token::Escape(escape) => {
                            seen.extend_from_slice(escape.raw());
                            if escape.is_whole() {
                                assert_eq!(&part[at - escape.raw().len()..at], escape.raw());
                            }
                        }
                    }
                }
            }
            assert_eq!(tokens.finish(), Ok(false));
            assert_eq!(seen, text, "cut at {cut}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(is_valid(&[vec![b'['; 128], vec![b']'; 128]].concat()));
        assert!(!is_valid(&[vec![b'['; 129], vec![b']'; 129]].concat()));
    }

    #[test]
    fn escapes_read_back() {
        let text = "a\"\\\n\r\t\u{1}\u{1f}\u{e9}\u{1f600}/";
        let mut raw = Vec::new();
        escape_into(text.as_bytes(), &mut raw);
        let mut back = Vec::new();
        unescape(&raw, &mut back);
        assert_eq!(back, text.as_bytes());
        back.clear();
        unescape(br"\ud83d\ude00\ud83d\/\b", &mut back);
        assert_eq!(back, "\u{1f600}\u{fffd}/\u{8}".as_bytes());
    }
}
