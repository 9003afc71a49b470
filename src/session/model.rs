//! Reads the top-level `model` of a JSON request body as it passes.
//!
//! Strict JSON (RFC 8259), so that no upstream can read another name out of the same bytes: a
//! second top-level `model`, escaped or not, and any syntax error are [`ModelError`]. Memory is
//! one bit for each level of depth and the name itself. Estimate: 0.5 ns a byte inside strings, 2 ns
//! elsewhere.

use crate::scan::run;

/// What became of the attribute so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// Not seen yet, and the body is not at its end.
    Pending,
    /// The body is at its end, and there is none.
    Absent,
    /// It stands in [`ModelScan::name`].
    Found,
    /// There is one that is no string, or longer than [`NAME_MAX`].
    Unreadable,
}

/// Why the body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModelError {
    /// No valid JSON, or deeper than [`DEPTH_MAX`].
    Syntax,
    /// A second top-level `model`.
    Duplicate,
}

/// Levels of arrays and objects.
pub(super) const DEPTH_MAX: u32 = 128;
/// Bytes of a model name.
pub(super) const NAME_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Value,
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    Text { key: bool },
    Escape { key: bool },
    Hex { key: bool, left: u8 },
    Word(&'static [u8]),
    Number(Num),
    Done,
}

/// Where a number stands (RFC 8259, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Num {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exp,
    ExpSign,
    ExpDigits,
}

/// The scan of one body; feed it every byte in order.
#[derive(Debug)]
pub(super) struct ModelScan {
    at: At,
    objects: u128,
    depth: u32,
    collect: Vec<u8>,
    collecting: bool,
    code: u16,
    high: Option<u16>,
    utf8_left: u8,
    utf8_min: u8,
    utf8_max: u8,
    model_next: bool,
    seen: bool,
    found: Model,
    name: Vec<u8>,
}

impl Default for ModelScan {
    fn default() -> Self {
        Self {
            at: At::Value,
            objects: 0,
            depth: 0,
            collect: Vec::new(),
            collecting: false,
            code: 0,
            high: None,
            utf8_left: 0,
            utf8_min: 0x80,
            utf8_max: 0xbf,
            model_next: false,
            seen: false,
            found: Model::Pending,
            name: Vec::new(),
        }
    }
}

impl ModelScan {
    /// Makes it ready for the next body and keeps the room.
    pub(super) fn reset(&mut self) {
        let (mut collect, mut name) =
            (std::mem::take(&mut self.collect), std::mem::take(&mut self.name));
        collect.clear();
        name.clear();
        *self = Self { collect, name, ..Self::default() };
    }

    /// What is known of the attribute.
    #[must_use]
    pub(super) fn model(&self) -> Model {
        self.found
    }

    /// The name, un-escaped, when [`Model::Found`].
    #[must_use]
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Looks at the next bytes.
    ///
    /// # Errors
    /// See [`ModelError`]; the scan is then void.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), ModelError> {
        let mut rest = bytes;
        while let Some((byte, tail)) = rest.split_first() {
            rest = tail;
            self.step(*byte)?;
            if self.is_plain() {
                // Most of a body is the inside of strings.
                let (plain, behind) = rest.split_at(run::plain_ascii(rest));
                if self.collecting {
                    let room = (NAME_MAX + 1).saturating_sub(self.collect.len()).min(plain.len());
                    self.collect.extend_from_slice(plain.get(..room).unwrap_or_default());
                }
                rest = behind;
            }
        }
        Ok(())
    }

    /// Whether plain bytes are kept, if anything: inside a string, between two characters.
    fn is_plain(&self) -> bool {
        matches!(self.at, At::Text { .. }) && self.utf8_left == 0 && self.high.is_none()
    }

    /// The body is at its end.
    ///
    /// # Errors
    /// [`ModelError::Syntax`] when a value is not finished.
    pub(super) fn finish(&mut self) -> Result<(), ModelError> {
        if let At::Number(num) = self.at {
            self.end_number(num)?;
        }
        if self.at != At::Done {
            return Err(ModelError::Syntax);
        }
        if self.found == Model::Pending {
            self.found = Model::Absent;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8) -> Result<(), ModelError> {
        match self.at {
            At::Text { key } => self.text(byte, key),
            At::Escape { key } => self.escape(byte, key),
            At::Hex { key, left } => self.hex(byte, key, left),
            At::Word(rest) => match rest.split_first() {
                Some((first, rest)) if *first == byte => {
                    self.at = if rest.is_empty() { self.after_value() } else { At::Word(rest) };
                    Ok(())
                }
                _ => Err(ModelError::Syntax),
            },
            At::Number(num) => self.number(num, byte),
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Ok(()),
            at => self.structure(at, byte),
        }
    }

    fn structure(&mut self, at: At, byte: u8) -> Result<(), ModelError> {
        match (at, byte) {
            (At::Value | At::ValueOrEnd, b'"') => {
                self.collecting = self.model_next;
                self.collect.clear();
                self.at = At::Text { key: false };
            }
            (At::Value | At::ValueOrEnd, b'{' | b'[') => {
                self.not_a_name();
                if self.depth >= DEPTH_MAX {
                    return Err(ModelError::Syntax);
                }
                let object = byte == b'{';
                self.objects = self.objects << 1 | u128::from(object);
                self.depth += 1;
                self.at = if object { At::KeyOrEnd } else { At::ValueOrEnd };
            }
            (At::ValueOrEnd, b']') | (At::KeyOrEnd, b'}') => self.close(),
            (At::Value | At::ValueOrEnd, b't') => self.word(b"rue"),
            (At::Value | At::ValueOrEnd, b'f') => self.word(b"alse"),
            (At::Value | At::ValueOrEnd, b'n') => self.word(b"ull"),
            (At::Value | At::ValueOrEnd, b'-' | b'0'..=b'9') => {
                self.not_a_name();
                self.at = At::Number(match byte {
                    b'-' => Num::Minus,
                    b'0' => Num::Zero,
                    _ => Num::Digits,
                });
            }
            (At::KeyOrEnd | At::Key, b'"') => {
                self.collecting = self.depth == 1;
                self.collect.clear();
                self.at = At::Text { key: true };
            }
            (At::Colon, b':') => self.at = At::Value,
            (At::CommaOrEnd, b',') => {
                self.at = if self.in_object() { At::Key } else { At::Value };
            }
            (At::CommaOrEnd, b'}') if self.in_object() => self.close(),
            (At::CommaOrEnd, b']') if !self.in_object() => self.close(),
            _ => return Err(ModelError::Syntax),
        }
        Ok(())
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    fn close(&mut self) {
        debug_assert!(self.depth > 0, "only an open level closes");
        self.objects >>= 1;
        self.depth = self.depth.saturating_sub(1);
        self.at = self.after_value();
    }

    fn after_value(&self) -> At {
        if self.depth == 0 { At::Done } else { At::CommaOrEnd }
    }

    fn word(&mut self, rest: &'static [u8]) {
        self.not_a_name();
        self.at = At::Word(rest);
    }

    /// A value starts that is no string; was it the model's?
    fn not_a_name(&mut self) {
        if std::mem::take(&mut self.model_next) {
            self.found = Model::Unreadable;
        }
    }

    fn number(&mut self, num: Num, byte: u8) -> Result<(), ModelError> {
        let next = match (num, byte) {
            (Num::Minus, b'0') => Num::Zero,
            (Num::Minus, b'1'..=b'9') | (Num::Digits, b'0'..=b'9') => Num::Digits,
            (Num::Zero | Num::Digits, b'.') => Num::Point,
            (Num::Point | Num::Fraction, b'0'..=b'9') => Num::Fraction,
            (Num::Zero | Num::Digits | Num::Fraction, b'e' | b'E') => Num::Exp,
            (Num::Exp, b'+' | b'-') => Num::ExpSign,
            (Num::Exp | Num::ExpSign | Num::ExpDigits, b'0'..=b'9') => Num::ExpDigits,
            _ => {
                self.end_number(num)?;
                return self.step(byte);
            }
        };
        self.at = At::Number(next);
        Ok(())
    }

    fn end_number(&mut self, num: Num) -> Result<(), ModelError> {
        if !matches!(num, Num::Zero | Num::Digits | Num::Fraction | Num::ExpDigits) {
            return Err(ModelError::Syntax);
        }
        self.at = self.after_value();
        Ok(())
    }

    fn text(&mut self, byte: u8, key: bool) -> Result<(), ModelError> {
        if self.utf8_left > 0 {
            if !(self.utf8_min..=self.utf8_max).contains(&byte) {
                return Err(ModelError::Syntax);
            }
            (self.utf8_left, self.utf8_min, self.utf8_max) = (self.utf8_left - 1, 0x80, 0xbf);
            self.keep(byte);
            return Ok(());
        }
        if self.high.is_some() && byte != b'\\' {
            return Err(ModelError::Syntax);
        }
        match byte {
            b'"' => return self.end_text(key),
            b'\\' => self.at = At::Escape { key },
            0..0x20 => return Err(ModelError::Syntax),
            0x20..0x80 => self.keep(byte),
            _ => {
                // Table 3-7 of the Unicode Standard: no overlong forms, no surrogates.
                (self.utf8_left, self.utf8_min, self.utf8_max) = match byte {
                    0xc2..=0xdf => (1, 0x80, 0xbf),
                    0xe0 => (2, 0xa0, 0xbf),
                    0xed => (2, 0x80, 0x9f),
                    0xe1..=0xef => (2, 0x80, 0xbf),
                    0xf0 => (3, 0x90, 0xbf),
                    0xf1..=0xf3 => (3, 0x80, 0xbf),
                    0xf4 => (3, 0x80, 0x8f),
                    _ => return Err(ModelError::Syntax),
                };
                self.keep(byte);
            }
        }
        Ok(())
    }

    fn escape(&mut self, byte: u8, key: bool) -> Result<(), ModelError> {
        if self.high.is_some() && byte != b'u' {
            return Err(ModelError::Syntax);
        }
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.code = 0;
                self.at = At::Hex { key, left: 4 };
                return Ok(());
            }
            _ => return Err(ModelError::Syntax),
        };
        self.keep(plain);
        self.at = At::Text { key };
        Ok(())
    }

    fn hex(&mut self, byte: u8, key: bool, left: u8) -> Result<(), ModelError> {
        let digit = char::from(byte).to_digit(16).ok_or(ModelError::Syntax)?;
        self.code = self.code << 4 | u16::try_from(digit).unwrap_or(0);
        if left > 1 {
            self.at = At::Hex { key, left: left - 1 };
            return Ok(());
        }
        self.at = At::Text { key };
        match (self.high.take(), self.code) {
            (None, 0xd800..=0xdbff) => self.high = Some(self.code),
            // The second half of a pair, and nothing else, follows the first.
            (Some(high), low @ 0xdc00..=0xdfff) => {
                let code = 0x1_0000 + (u32::from(high - 0xd800) << 10) + u32::from(low - 0xdc00);
                self.keep_char(code);
            }
            (Some(_), _) | (None, 0xdc00..=0xdfff) => return Err(ModelError::Syntax),
            (None, code) => self.keep_char(u32::from(code)),
        }
        Ok(())
    }

    fn keep_char(&mut self, code: u32) {
        if let Some(c) = char::from_u32(code) {
            let mut utf8 = [0; 4];
            for byte in c.encode_utf8(&mut utf8).bytes() {
                self.keep(byte);
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.collecting && self.collect.len() <= NAME_MAX {
            self.collect.push(byte);
        }
    }

    fn end_text(&mut self, key: bool) -> Result<(), ModelError> {
        let collected = std::mem::take(&mut self.collecting);
        if key {
            // Some readers (Go's encoding/json) take a key in any case.
            if collected && self.collect.eq_ignore_ascii_case(b"model") {
                if self.seen {
                    return Err(ModelError::Duplicate);
                }
                self.seen = true;
                if self.collect == b"model" {
                    self.model_next = true;
                } else {
                    self.found = Model::Unreadable;
                }
            }
            self.at = At::Colon;
            return Ok(());
        }
        if std::mem::take(&mut self.model_next) {
            if self.collect.len() > NAME_MAX {
                self.found = Model::Unreadable;
            } else {
                self.found = Model::Found;
                std::mem::swap(&mut self.name, &mut self.collect);
            }
        }
        self.at = self.after_value();
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn whole(text: &[u8]) -> Result<(Model, Vec<u8>), ModelError> {
        let mut scan = ModelScan::default();
        scan.push(text)?;
        scan.finish()?;
        Ok((scan.model(), scan.name().to_vec()))
    }

    #[test]
    fn the_name_is_read_whatever_stands_around_it() {
        let found = |text: &str| {
            let bytes = text.as_bytes();
            let expected = whole(bytes).unwrap();
            for cut in 0..=bytes.len() {
                let mut scan = ModelScan::default();
                scan.push(&bytes[..cut]).unwrap();
                scan.push(&bytes[cut..]).unwrap();
                scan.finish().unwrap();
                assert_eq!((scan.model(), scan.name().to_vec()), expected, "{text} at {cut}");
            }
            expected
        };
        let name = |text: &[u8]| (Model::Found, text.to_vec());
        assert_eq!(found(r#"{"messages":[{"model":"no"}],"model":"gpt-4"}"#), name(b"gpt-4"));
        assert_eq!(
            found(r#" { "mo\u0064el" : "g\"\u00e9\ud83d\ude00" } "#),
            name("g\"é😀".as_bytes())
        );
        assert_eq!(found(r#"{"model":7,"x":-1.5e+3}"#), (Model::Unreadable, vec![]));
        assert_eq!(found(r#"{"model":{"model":"x"}}"#), (Model::Unreadable, vec![]));
        assert_eq!(found(r#"[{"model":"x"},0,true]"#), (Model::Absent, vec![]));
        assert_eq!(found(r#"{"a":{"model":"x"},"b":[]}"#), (Model::Absent, vec![]));
        assert_eq!(found("12"), (Model::Absent, vec![]));
        assert_eq!(found(r#"{"Model":"x"}"#), (Model::Unreadable, vec![]));
        let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(NAME_MAX + 1));
        assert_eq!(whole(long.as_bytes()).unwrap().0, Model::Unreadable);
    }

    #[test]
    fn a_second_model_is_refused_before_the_last_byte() {
        for text in [
            r#"{"model":"a","model""#,
            r#"{"model":1,"\u006d\u006fdel""#,
            r#"{"model":"a","MODEL""#,
        ] {
            let mut scan = ModelScan::default();
            assert_eq!(scan.push(text.as_bytes()), Err(ModelError::Duplicate), "{text}");
        }
    }

    #[test]
    fn what_serde_json_refuses_is_refused_and_what_it_takes_is_taken() {
        let seeds: [&[u8]; 8] = [
            br#"{"model":"a","n":[1,-0,0.5,1e9,2E-3],"t":true,"f":false,"z":null}"#,
            br#"{"a":"\ud83d\ude00\n\\","b":{"c":[[],{}]}}"#,
            "{\"é\":\"ü😀\"}".as_bytes(),
            b"[]",
            b"{}",
            b"\"x\"",
            b"-1",
            b"[1,2,3]",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap()
        };
        let alphabet = b"{}[]\",:\\u0019dDeE+-.tfn \xc3\xa9\xed\xa0\x80\x1f/b";
        for round in 0..60_000 {
            let mut text = seeds[round % seeds.len()].to_vec();
            for _ in 0..next() % 3 {
                let place = next() % (text.len() + 1);
                let byte = alphabet[next() % alphabet.len()];
                match next() % 3 {
                    0 if place < text.len() => text[place] = byte,
                    1 if place < text.len() => drop(text.remove(place)),
                    _ => text.insert(place, byte),
                }
            }
            let ours = whole(&text);
            let theirs = match serde_json::from_slice::<serde_json::Value>(&text) {
                Ok(_) => true,
                // A float that overflows ends its reading early, whatever follows.
                Err(error) if error.to_string().starts_with("number out of range") => continue,
                Err(_) => false,
            };
            match ours {
                Err(ModelError::Duplicate) => {}
                _ => assert_eq!(ours.is_ok(), theirs, "{}", String::from_utf8_lossy(&text)),
            }
        }
    }
}
