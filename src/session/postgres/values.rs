//! The values that a statement runs with, kept for a person who is asked about it.
//!
//! A person approves of what it is shown, so a value is shown in a form that people read: a text as
//! it is, in the quotes of SQL, and the binary forms of usual types as the server prints them. What
//! has no such form here is shown by its bytes.

use super::binary;
use super::bound::{self, Kinds, SHOWN_MAX};
use crate::base::Secret;
use crate::policy::approval::SUMMARY_MAX;
use crate::session::approving::Fingerprint;
use crate::wire::postgres::{BINARY, Bind};
use std::fmt::Write as _;

/// See the module.
pub(super) struct Values {
    /// The types that Parse declared.
    declared: Box<[(u16, u32)]>,
    all: Box<[Value]>,
}

/// See [`Values::raw`].
type Raw = (Box<[u32]>, Box<[u16]>, Box<[Option<Secret>]>);

struct Value {
    /// Its type, where it is known.
    kind: Option<u32>,
    format: i16,
    /// Nothing: NULL.
    bytes: Option<Box<[u8]>>,
}

impl Values {
    /// The values of a Bind. `None`: they are more than a person can be shown, or not such.
    pub(super) fn of(bind: &Bind<'_>, kinds: &Kinds) -> Option<Self> {
        let mut bytes = 0usize;
        let mut all = Vec::new();
        for (place, value) in bind.values.iter().enumerate() {
            let number = u16::try_from(place + 1).ok().filter(|number| *number <= SHOWN_MAX)?;
            bytes = bytes.saturating_add(LINE_MIN + value.map_or(0, <[u8]>::len));
            if bytes > SUMMARY_MAX {
                return None;
            }
            let (kind, format) = (kinds.of(number), bind.formats.of(place)?);
            all.push(Value { kind, format, bytes: value.map(Into::into) });
        }
        Some(Self { declared: kinds.of_parse().into(), all: all.into() })
    }

    /// Adds all that the server sees of them; with `whole` the values themselves.
    pub(super) fn digest(&self, whole: bool, into: &mut Fingerprint) {
        into.part(b"values");
        into.part(&self.all.len().to_le_bytes());
        for (number, kind) in &self.declared {
            into.part(&number.to_le_bytes());
            into.part(&kind.to_le_bytes());
        }
        into.part(b"are");
        for value in self.all.iter().filter(|_| whole) {
            into.part(&value.format.to_le_bytes());
            into.part(if value.bytes.is_some() { b"value" } else { b"null" });
            into.part(value.bytes.as_deref().unwrap_or_default());
        }
    }

    /// Appends a line for each of them, by way of `clear`, which masks a value.
    pub(super) fn show(&self, clear: impl Fn(&[u8]) -> Vec<u8>, to: &mut String) {
        for (place, value) in self.all.iter().enumerate() {
            let _ = write!(to, "-- ${} = ", place + 1);
            match &value.bytes {
                None => to.push_str("NULL"),
                Some(bytes) => value.show(bytes, &clear, to),
            }
            to.push('\n');
        }
    }

    /// Their types, formats and bytes, as the server has them of a Bind.
    pub(super) fn raw(&self) -> Raw {
        let last = self.declared.last().map_or(0, |(number, _)| *number);
        let declares = |number: u16| {
            let found = self.declared.iter().find(|(one, _)| *one == number);
            found.map_or(0, |(_, kind)| *kind)
        };
        let formats = self.all.iter().map(|one| u16::try_from(one.format).unwrap_or(0));
        let values = self.all.iter().map(|one| one.bytes.as_deref());
        (
            (1..=last).map(declares).collect(),
            formats.collect(),
            values.map(|bytes| bytes.map(|bytes| Secret::new(bytes.to_vec()))).collect(),
        )
    }

    /// About how many bytes of memory they are.
    pub(super) fn weight(&self) -> usize {
        let bytes = self.all.iter().map(|one| one.bytes.as_ref().map_or(0, |bytes| bytes.len()));
        size_of_val(&*self.declared) + size_of_val(&*self.all) + bytes.sum::<usize>()
    }
}

impl Value {
    fn show(&self, bytes: &[u8], clear: impl Fn(&[u8]) -> Vec<u8>, to: &mut String) {
        let readable = match self.format {
            BINARY => bound::text(self.kind, BINARY, bytes)
                .or_else(|| binary::text(self.kind?, bytes).map(|text| text.into_bytes().into())),
            _ => Some(bytes.into()),
        };
        let cleared = clear(readable.as_deref().unwrap_or(bytes));
        match (readable, std::str::from_utf8(&cleared)) {
            (Some(_), Ok(text)) => quote(text, to),
            _ => {
                to.push_str("'\\x");
                for byte in &cleared {
                    let _ = write!(to, "{byte:02x}");
                }
                to.push('\'');
                if self.format == BINARY {
                    let _ = write!(to, " (binary, type {})", self.kind.unwrap_or(0));
                }
            }
        }
    }
}

/// Appends a text in quotes, on one line whatever is in it, so that no value can look like another
/// line of what a person is shown.
pub(super) fn quote(text: &str, to: &mut String) {
    let plain = !text.contains(|one: char| one == '\\' || is_hidden(one));
    to.push_str(if plain { "'" } else { "E'" });
    for one in text.chars() {
        match one {
            '\'' => to.push_str("''"),
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '\t' => to.push_str("\\t"),
            one if is_hidden(one) => {
                let _ = write!(to, "\\U{:08x}", u32::from(one));
            }
            one => to.push(one),
        }
    }
    to.push('\'');
}

/// Whether a character is none that is seen where it stands: control characters, ends of lines, and
/// those that turn the direction of writing.
pub(super) fn is_hidden(one: char) -> bool {
    let turns =
        matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}');
    one.is_control() || turns || one == '\u{feff}' || one == '\u{61c}'
}

/// Bytes that the line of a value takes at least.
const LINE_MIN: usize = 12;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::wire::postgres::{FRAME_HEAD, Frontend, TEXT, Types, frontend, write};

    fn types(kinds: &[u32], then: impl FnOnce(Types<'_>)) {
        let mut parse = Vec::new();
        write::parse(b"", b"", kinds, &mut parse);
        match frontend(b'P', parse.get(FRAME_HEAD..).unwrap()) {
            Ok(Frontend::Parse { types, .. }) => then(types),
            _ => panic!("no Parse"),
        }
    }

    fn of(kinds: &[u32], formats: &[i16], values: &[Option<&[u8]>]) -> Option<Values> {
        let mut message = Vec::new();
        write::bind(b"", b"", formats, values, &[], &mut message);
        let Ok(Frontend::Bind(bind)) = frontend(b'B', message.get(FRAME_HEAD..).unwrap()) else {
            panic!("no Bind");
        };
        let mut made = None;
        types(kinds, |types| made = Values::of(&bind, &Kinds::all(types)));
        made
    }

    fn shown(values: &Values) -> String {
        let mut to = String::new();
        values.show(<[u8]>::to_vec, &mut to);
        to
    }

    fn digest(values: &Values, whole: bool) -> [u8; 32] {
        let mut made = Fingerprint::new("postgres", "r");
        values.digest(whole, &mut made);
        made.finish()
    }

    #[test]
    fn a_value_is_one_line_that_people_read() {
        let seven = 7i32.to_be_bytes();
        let values: [Option<&[u8]>; 6] = [
            Some(b"it's"),
            None,
            Some(&seven),
            Some(b"a\n-- $9 = 'b'\\"),
            Some(&[0xff]),
            Some(b"\x01\x02"),
        ];
        let values = of(&[0, 0, 23], &[0, 0, 1, 0, 0, 1], &values).unwrap();
        let lines = shown(&values);
        let lines: Vec<_> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "-- $1 = 'it''s'",
                "-- $2 = NULL",
                "-- $3 = '7'",
                "-- $4 = E'a\\n-- $9 = ''b''\\\\'",
                "-- $5 = '\\xff'",
                "-- $6 = '\\x0102' (binary, type 0)",
            ]
        );
    }

    #[test]
    fn every_part_of_a_value_counts_and_nothing_of_it_where_the_shape_does() {
        let base = || of(&[25], &[TEXT], &[Some(b"a"), None]).unwrap();
        let others = [
            of(&[25], &[TEXT], &[Some(b"b"), None]),
            of(&[25], &[TEXT], &[None, Some(b"a")]),
            of(&[25], &[TEXT], &[Some(b"a"), Some(b"")]),
            of(&[25], &[BINARY, TEXT], &[Some(b"a"), None]),
            of(&[23], &[TEXT], &[Some(b"a"), None]),
            of(&[0, 25], &[TEXT], &[Some(b"a"), None]),
            of(&[25], &[TEXT], &[Some(b"a")]),
        ];
        assert_eq!(digest(&base(), true), digest(&base(), true));
        for (place, other) in others.iter().flatten().enumerate() {
            assert_ne!(digest(&base(), true), digest(other, true), "{place}");
            assert_eq!(digest(&base(), false) == digest(other, false), place < 4, "{place}");
        }
        assert_eq!(others.iter().flatten().count(), 7);
    }

    #[test]
    fn what_is_too_long_to_be_shown_is_not_kept() {
        let long = vec![b'x'; SUMMARY_MAX - LINE_MIN];
        assert!(of(&[], &[], &[Some(&long)]).is_some_and(|values| values.weight() > long.len()));
        assert!(of(&[], &[], &[Some(&long), None]).is_none());
    }
}
