//! The values that a statement is run with, as texts that rules can ask for.
//!
//! Only parameters that some rule names are read, and nothing is where no rule does. A value has one
//! text whatever form it comes in, as far as its type tells: whole numbers in digits, `true` and
//! `false`, a UUID in lower case with hyphens, texts as they are. The type is the one that Parse
//! declares, else the one that the server told when it was asked to describe the statement; a text
//! of a type that is not known is taken as it is written, and binary bytes of one cannot be read.
//! NULL cannot be compared, and a long value is not looked at.

use crate::policy::{Parameter, Parameters};
use crate::wire::postgres::{BINARY, Bind, TEXT, Types};
use std::cell::OnceCell;
use std::rc::Rc;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// They come later: the statement is only prepared.
    Later,
    /// There are so many, and these could be read; any other of them could not.
    Known(u16, Option<Rc<[Parameter]>>),
}

impl Bound {
    /// A statement without parameters.
    pub(super) const NOTHING: Self = Self::Known(0, None);
    /// Nobody kept what it runs with.
    pub(super) const UNREAD: Self = Self::Known(u16::MAX, None);

    /// The values of a Bind, of the parameters that are `named`.
    pub(super) fn of(bind: &Bind<'_>, kinds: &Kinds, named: &[u16]) -> Self {
        let count = u16::try_from(bind.values.len()).unwrap_or(u16::MAX);
        let mut read = Vec::new();
        // An inclusive range: there may be as many values as the numbers count.
        let mut values = (1..=u16::MAX).zip(bind.values.iter());
        for number in named.iter().take_while(|number| **number <= count) {
            let Some((_, value)) = values.by_ref().find(|(at, _)| at == number) else { break };
            let format = bind.formats.of(usize::from(*number) - 1);
            let text = value
                .zip(format)
                .and_then(|(value, format)| text(kinds.of(*number), format, value));
            read.extend(text.map(|text| (*number, text)));
        }
        Self::Known(count, (!read.is_empty()).then(|| read.into()))
    }

    /// The arguments of an EXECUTE, of the parameters that are `named`.
    pub(super) fn of_arguments(arguments: &[Option<Box<str>>], named: &[u16]) -> Self {
        let count = u16::try_from(arguments.len()).unwrap_or(u16::MAX);
        let read: Vec<Parameter> = (1..=u16::MAX)
            .zip(arguments)
            .filter(|(number, _)| named.contains(number))
            .filter_map(|(number, argument)| Some((number, argument.as_deref()?)))
            .filter(|(_, text)| text.len() <= TEXT_LEN_MAX)
            .map(|(number, text)| (number, text.as_bytes().into()))
            .collect();
        Self::Known(count, (!read.is_empty()).then(|| read.into()))
    }

    /// What a portal runs with: where nobody asked when it was made, nobody can tell.
    pub(super) fn of_portal(&self) -> Self {
        match self {
            Self::Later => Self::UNREAD,
            known => known.clone(),
        }
    }

    pub(super) fn lend(&self) -> Parameters<'_> {
        match self {
            Self::Later => Parameters::Pending,
            Self::Known(count, read) => {
                Parameters::Known { count: *count, read: read.as_deref().unwrap_or_default() }
            }
        }
    }

    /// About how many bytes of memory it is.
    pub(super) fn weight(&self) -> usize {
        let Self::Known(_, Some(read)) = self else { return 0 };
        read.iter().map(|(_, text)| size_of::<Parameter>() + text.len()).sum()
    }
}

/// The types of a statement's parameters, as far as somebody asks for them; in rising order.
#[derive(Clone, Debug, Default)]
pub(super) struct Kinds {
    declared: Vec<(u16, u32)>,
    told: OnceCell<Vec<(u16, u32)>>,
    /// A person may be shown the values: all of them, and not only those that rules name.
    all: bool,
}

impl Kinds {
    /// Those that a Parse declares.
    pub(super) fn declared(types: Types<'_>, named: &[u16]) -> Self {
        Self { declared: pick(types, named), ..Self::default() }
    }

    /// All that a Parse declares.
    pub(super) fn all(types: Types<'_>) -> Self {
        Self { declared: pick(types, &every(types)), all: true, ..Self::default() }
    }

    /// Whether somebody asks for those of `named`.
    pub(super) fn asks(&self, named: &[u16]) -> bool {
        self.all || !named.is_empty()
    }

    /// The server tells them all.
    pub(super) fn tell(&self, types: Types<'_>, named: &[u16]) {
        let told = if self.all { pick(types, &every(types)) } else { pick(types, named) };
        // It tells the same each time.
        let _ = self.told.set(told);
    }

    pub(super) fn of(&self, number: u16) -> Option<u32> {
        let find = |list: &Vec<(u16, u32)>| {
            let place = list.binary_search_by_key(&number, |(one, _)| *one).ok()?;
            list.get(place).map(|(_, kind)| *kind)
        };
        find(&self.declared).or_else(|| self.told.get().and_then(find))
    }

    /// About how many bytes of memory those of Parse are.
    pub(super) fn weight(&self) -> usize {
        self.declared.len() * size_of::<(u16, u32)>()
    }

    /// The type that Parse declared of one; 0: none.
    pub(super) fn declares(&self, number: u16) -> u32 {
        let found = self.declared.binary_search_by_key(&number, |(one, _)| *one);
        found.ok().and_then(|place| self.declared.get(place)).map_or(0, |(_, kind)| *kind)
    }

    /// Those that Parse declared.
    pub(super) fn of_parse(&self) -> &[(u16, u32)] {
        &self.declared
    }
}

fn every(types: Types<'_>) -> Vec<u16> {
    (1..=u16::try_from(types.len()).unwrap_or(u16::MAX).min(SHOWN_MAX)).collect()
}

fn pick(types: Types<'_>, named: &[u16]) -> Vec<(u16, u32)> {
    let kind = |number: &u16| types.get(usize::from(*number).checked_sub(1)?);
    let known = named.iter().filter_map(|number| Some((*number, kind(number)?)));
    // Neither says anything: the server finds the type out.
    known.filter(|(_, kind)| !matches!(*kind, 0 | UNKNOWN)).collect()
}

/// The text of a value; `None`: it cannot be read.
pub(super) fn text(kind: Option<u32>, format: i16, value: &[u8]) -> Option<Box<[u8]>> {
    if value.len() > TEXT_LEN_MAX {
        return None;
    }
    let printed = |text: String| Some(text.into_bytes().into());
    match (kind, format) {
        (Some(BOOL), TEXT) => boolean(value),
        (Some(INT2), TEXT) => whole(value, i16::MIN.into(), i16::MAX.into()).and_then(printed),
        (Some(INT4), TEXT) => whole(value, i32::MIN.into(), i32::MAX.into()).and_then(printed),
        (Some(INT8), TEXT) => whole(value, i64::MIN, i64::MAX).and_then(printed),
        (Some(UUID), TEXT) => uuid(value).and_then(printed),
        (Some(BOOL), BINARY) => match value {
            [0] => Some(Box::from(&b"false"[..])),
            [1] => Some(Box::from(&b"true"[..])),
            _ => None,
        },
        (Some(INT2), BINARY) => printed(i16::from_be_bytes(value.try_into().ok()?).to_string()),
        (Some(INT4), BINARY) => printed(i32::from_be_bytes(value.try_into().ok()?).to_string()),
        (Some(INT8), BINARY) => printed(i64::from_be_bytes(value.try_into().ok()?).to_string()),
        (Some(UUID), BINARY) if value.len() == 16 => printed(hyphened(&hex(value))),
        // Spaces behind it do not count.
        (Some(BPCHAR), _) => Some(unpadded(value).into()),
        // The server would cut it.
        (Some(NAME), _) => (value.len() <= NAME_LEN_MAX).then(|| value.into()),
        (Some(STRING | VARCHAR), BINARY) | (_, TEXT) => Some(value.into()),
        _ => None,
    }
}

fn unpadded(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    value.get(..end).unwrap_or_default()
}

/// A whole number as the server prints it; `None` for what is not in plain digits.
fn whole(value: &[u8], min: i64, max: i64) -> Option<String> {
    let text = std::str::from_utf8(trimmed(value)).ok()?;
    let number = text.parse::<i64>().ok().filter(|number| (min..=max).contains(number))?;
    Some(number.to_string())
}

/// As the server reads a boolean (`boolin`).
fn boolean(value: &[u8]) -> Option<Box<[u8]>> {
    let text = trimmed(value).to_ascii_lowercase();
    let begins = |word: &[u8], least: usize| text.len() >= least && word.starts_with(&text);
    let on = begins(b"true", 1) || begins(b"yes", 1) || text == b"on" || text == b"1";
    let off = begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || text == b"0";
    match (on, off) {
        (true, false) => Some(Box::from(&b"true"[..])),
        (false, true) => Some(Box::from(&b"false"[..])),
        _ => None,
    }
}

/// In any of the spellings that the server takes: upper case, braces, hyphens behind four digits.
fn uuid(value: &[u8]) -> Option<String> {
    let inner = match value.strip_prefix(b"{") {
        Some(rest) => rest.strip_suffix(b"}")?,
        None => value,
    };
    let mut digits = String::with_capacity(32);
    for byte in inner {
        match byte {
            b'-' if digits.len().is_multiple_of(4) => {}
            byte if byte.is_ascii_hexdigit() => digits.push(char::from(byte.to_ascii_lowercase())),
            _ => return None,
        }
    }
    (digits.len() == 32).then(|| hyphened(&digits))
}

fn hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 32 digits as a UUID is printed.
fn hyphened(digits: &str) -> String {
    let mut text = String::with_capacity(36);
    for (place, digit) in digits.chars().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

/// Without the white space that the server drops (`isspace`).
fn trimmed(value: &[u8]) -> &[u8] {
    let space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let from = value.iter().position(|byte| !space(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !space(byte)).map_or(from, |last| last + 1);
    value.get(from..to).unwrap_or_default()
}

// OIDs of `pg_type.dat`.
const BOOL: u32 = 16;
const NAME: u32 = 19;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const STRING: u32 = 25;
const UNKNOWN: u32 = 705;
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const UUID: u32 = 2950;

/// More values than a person can be shown: a line takes that much.
pub(super) const SHOWN_MAX: u16 = 5_461;
/// A longer value cannot be read: portals keep the texts.
const TEXT_LEN_MAX: usize = 512;
/// `NAMEDATALEN` without the zero byte.
const NAME_LEN_MAX: usize = 63;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::wire::postgres::{FRAME_HEAD, Frontend, frontend, write};

    fn read(kind: u32, format: i16, value: &[u8]) -> Option<String> {
        let found = text((kind != 0).then_some(kind), format, value)?;
        Some(String::from_utf8(found.to_vec()).unwrap())
    }

    #[test]
    fn a_value_has_one_text_in_either_form() {
        let same = |kind, texts: &[&str], binary: &[u8], expected: &str| {
            for text in texts {
                assert_eq!(read(kind, TEXT, text.as_bytes()).as_deref(), Some(expected), "{text}");
            }
            assert_eq!(read(kind, BINARY, binary).as_deref(), Some(expected));
        };
        same(INT2, &["-7", " -07\t", "-0007"], &(-7i16).to_be_bytes(), "-7");
        same(INT4, &["17", "+17", "\x0b17 "], &17i32.to_be_bytes(), "17");
        same(
            INT8,
            &["9007199254740993"],
            &9_007_199_254_740_993i64.to_be_bytes(),
            "9007199254740993",
        );
        same(BOOL, &["t", "TRUE", "yes", "y", "on", "1", " tr "], &[1], "true");
        same(BOOL, &["f", "False", "n", "no", "of", "off", "0"], &[0], "false");
        let id = "0123abcd-4567-89ab-cdef-0123456789ab";
        let spelled = [
            "{0123ABCD-4567-89ab-CDEF-0123456789ab}",
            "0123abcd456789abcdef0123456789ab",
            "0123-abcd-4567-89ab-cdef-0123-4567-89ab",
            id,
        ];
        let bytes: Vec<u8> = id
            .replace('-', "")
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        same(UUID, &spelled, &bytes, id);
        same(STRING, &[" eu-1 "], b" eu-1 ", " eu-1 ");
        same(VARCHAR, &["eu-1"], b"eu-1", "eu-1");
        same(BPCHAR, &["eu-1  ", "eu-1"], b"eu-1 ", "eu-1");
        same(NAME, &["eu-1"], b"eu-1", "eu-1");
    }

    #[test]
    fn what_has_no_text_here_cannot_be_read() {
        for (kind, format, value) in [
            (0, BINARY, &b"eu-1"[..]),
            (1700, BINARY, b"\0\x01\0\0\0\0\0\0\0\x11"),
            (INT4, BINARY, b"\0\0\x11"),
            (INT4, BINARY, b"\0\0\0\0\x11"),
            (INT4, TEXT, b"0x11"),
            (INT4, TEXT, b"1_7"),
            (INT4, TEXT, b"3000000000"),
            (INT4, TEXT, b""),
            (INT2, TEXT, b"40000"),
            (BOOL, TEXT, b"o"),
            (BOOL, TEXT, b""),
            (BOOL, TEXT, b"truex"),
            (BOOL, BINARY, b"\x02"),
            (UUID, TEXT, b"012"),
            (UUID, TEXT, b"0-123abcd456789abcdef0123456789ab"),
            (UUID, BINARY, b"0123"),
            (NAME, TEXT, &[b'x'; 64]),
            (STRING, TEXT, &[b'x'; TEXT_LEN_MAX + 1]),
        ] {
            assert_eq!(read(kind, format, value), None, "{kind} {format} {value:?}");
        }
        assert_eq!(read(0, TEXT, b" 17").as_deref(), Some(" 17"), "as it is written");
        assert_eq!(read(1700, TEXT, b"1.50").as_deref(), Some("1.50"));
    }

    fn bound(
        declared: &[u32],
        told: Option<&[u32]>,
        formats: &[i16],
        values: &[Option<&[u8]>],
        named: &[u16],
    ) -> Bound {
        let mut parse = Vec::new();
        write::parse(b"", b"", declared, &mut parse);
        let Ok(Frontend::Parse { types, .. }) = frontend(b'P', parse.get(FRAME_HEAD..).unwrap())
        else {
            panic!("no Parse");
        };
        let kinds = Kinds::declared(types, named);
        let mut message = Vec::new();
        if let Some(told) = told {
            write::parse(b"", b"", told, &mut message);
            let body = message.get(FRAME_HEAD..).unwrap();
            let Ok(Frontend::Parse { types, .. }) = frontend(b'P', body) else { panic!() };
            kinds.tell(types, named);
        }
        let mut message = Vec::new();
        write::bind(b"", b"", formats, values, &[], &mut message);
        let Ok(Frontend::Bind(bind)) = frontend(b'B', message.get(FRAME_HEAD..).unwrap()) else {
            panic!("no Bind");
        };
        Bound::of(&bind, &kinds, named)
    }

    #[test]
    fn the_type_is_that_of_parse_else_what_the_server_told() {
        let known = |read: &[(u16, &str)]| {
            let read: Vec<Parameter> =
                read.iter().map(|(number, text)| (*number, text.as_bytes().into())).collect();
            Bound::Known(2, Some(read.into()))
        };
        let (seven, eu) = (7i32.to_be_bytes(), &b"eu-1"[..]);
        let values = [Some(eu), Some(&seven[..])];
        let both = known(&[(1, "eu-1"), (2, "7")]);
        assert_eq!(bound(&[STRING, INT4], None, &[BINARY], &values, &[1, 2, 9]), both);
        assert_eq!(bound(&[0], Some(&[STRING, INT4]), &[BINARY], &values, &[1, 2]), both);
        assert_eq!(bound(&[UNKNOWN, INT4], None, &[BINARY], &values, &[1, 2]), known(&[(2, "7")]));
        assert_eq!(bound(&[], None, &[BINARY], &values, &[1, 2]), Bound::Known(2, None));
        assert_eq!(bound(&[], None, &[TEXT, BINARY], &values, &[1, 2]), known(&[(1, "eu-1")]));
        assert_eq!(bound(&[0, INT4], None, &[TEXT, BINARY], &values, &[2]), known(&[(2, "7")]));
        assert_eq!(bound(&[], None, &[], &[None, None], &[1, 2]), Bound::Known(2, None));
        assert_eq!(bound(&[], None, &[], &[], &[1]), Bound::NOTHING);
    }

    #[test]
    fn there_may_be_as_many_values_as_can_be_counted() {
        let values = vec![Some(&b"x"[..]); usize::from(u16::MAX)];
        let last: Rc<[Parameter]> = [(u16::MAX, Box::from(&b"x"[..]))].into();
        let found = bound(&[], None, &[], &values, &[u16::MAX]);
        assert_eq!(found, Bound::Known(u16::MAX, Some(last)));
        let arguments = vec![Some("x".into()); usize::from(u16::MAX) + 2];
        let found = Bound::of_arguments(&arguments, &[u16::MAX]);
        assert_eq!(found.weight(), size_of::<Parameter>() + 1);
    }
}
