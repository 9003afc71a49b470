//! The verifiers: does a value begin exactly here?
//!
//! Each takes a [`View`] of a text and a place, and answers from the bytes alone. The answer is
//! [`Found::More`] exactly when bytes that have not come could change it, so no answer depends on
//! how the text was cut: that is the whole of the engine's split invariance. How far a verifier
//! may look before it must answer bounds what is ever held ([`HOLD_MAX`]).

mod email;
mod iban;
mod number;
mod secret;

pub(super) use email::{LOCAL_MAX, domain_end};
pub(super) use number::is_pan;

use super::detector::Detector;
use crate::scan::class;
use crate::scan::opening::{Bytes, Opening, Openings};

/// No value is shorter: `a@b.co`.
pub(super) const VALUE_MIN: usize = 6;
/// No verifier answers `More` with this many bytes in view behind its place.
pub(super) const HOLD_MAX: usize = 512;

/// What a verifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No value begins here, whatever follows.
    No,
    /// That depends on what follows.
    More,
    /// A value from here to this end (exclusive).
    Value(usize),
    /// A value for certain, this far; it goes on as long as the tail lasts.
    Swallow(usize, Tail),
}

/// The rest of a value without a bounded length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// While bytes are of these classes.
    Class(u8),
    /// While bytes are of these classes, or a dot.
    Dotted(u8),
    /// Up to the end line of a PEM block.
    Pem,
}

/// A text with what stands before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) text: &'a [u8],
    /// The two bytes before `text`, the nearer last; 0 at the start.
    pub(super) left: [u8; 2],
    /// Nothing follows `text`.
    pub(super) end: bool,
}

/// A byte of a view, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peek {
    Byte(u8),
    More,
    End,
}

impl View<'_> {
    #[inline]
    pub(super) fn peek(&self, at: usize) -> Peek {
        match self.text.get(at) {
            Some(byte) => Peek::Byte(*byte),
            None if self.end => Peek::End,
            None => Peek::More,
        }
    }

    /// The byte `back` (1 or 2) places before `at`.
    #[inline]
    pub(super) fn before(&self, at: usize, back: usize) -> u8 {
        match at.checked_sub(back) {
            Some(place) => self.text.get(place).copied().unwrap_or(0),
            None if back - at == 1 => self.left[1],
            None => self.left[0],
        }
    }

    /// No word goes on at `at` from the left.
    #[inline]
    fn starts_word(&self, at: usize) -> bool {
        !class::is(self.before(at, 1), class::WORD) || self.follows_escape(at)
    }

    /// Whether `\n` or the like stands before `at`: text within text, as the arguments of a tool
    /// call are, has its line ends so, and their letter is no part of the word behind it.
    #[inline]
    pub(super) fn follows_escape(&self, at: usize) -> bool {
        is_escape(self.before(at, 1)) && self.before(at, 2) == b'\\'
    }

    /// Neither a word nor a decimal number goes on at `at` from the left.
    fn starts_number(&self, at: usize) -> bool {
        let near = self.before(at, 1);
        if near == b'.' {
            return !self.before(at, 2).is_ascii_digit();
        }
        self.starts_word(at)
    }

    /// What the number that ends before `at` is followed by: `Some(true)` when it is over,
    /// `Some(false)` when a word or a decimal number goes on, `None` when that is not known.
    fn ends_number(&self, at: usize) -> Option<bool> {
        match self.peek(at) {
            Peek::Byte(b'.') => match self.peek(at + 1) {
                Peek::Byte(byte) => Some(!byte.is_ascii_digit()),
                Peek::End => Some(true),
                Peek::More => None,
            },
            Peek::Byte(byte) => Some(!class::is(byte, class::WORD)),
            Peek::End => Some(true),
            Peek::More => None,
        }
    }

    /// Whether `literal` stands at `at`: [`Found::Value`] with its end, or not, or perhaps.
    fn literal(&self, at: usize, literal: &[u8]) -> Found {
        for (place, expected) in (at..).zip(literal) {
            match self.peek(place) {
                Peek::Byte(byte) if byte == *expected => {}
                Peek::More => return Found::More,
                _ => return Found::No,
            }
        }
        Found::Value(at + literal.len())
    }
}

/// Which bytes can begin a value of which detectors; what the engine's loop looks up.
#[derive(Clone, Debug)]
pub(super) struct Triggers {
    table: Box<[u8; 256]>,
    openings: Openings,
    email: bool,
}

const PAN: u8 = 1;
const IBAN: u8 = 2;
const SSN: u8 = 4;
const PHONE: u8 = 8;
const SECRET: u8 = 16;

/// How the values of some detectors begin. Each verifier says no to anything else, so that
/// nothing else need be shown to it.
const OPENINGS: [(&[Detector], Opening); 8] = [
    (&[Detector::Pan, Detector::UsSsn, Detector::Phone], [Bytes::DIGITS, Bytes::ANY, Bytes::ANY]),
    (&[Detector::Phone], [Bytes::of(b"+("), Bytes::ANY, Bytes::ANY]),
    (&[Detector::Iban], [Bytes::LETTERS, Bytes::LETTERS, Bytes::DIGITS]),
    (&[Detector::Secrets], [Bytes::of(b"A"), Bytes::of(b"KS"), Bytes::of(b"I")]),
    (&[Detector::Secrets], [Bytes::of(b"g"), Bytes::of(b"hi"), Bytes::of(b"poustr")]),
    (&[Detector::Secrets], [Bytes::of(b"s"), Bytes::of(b"k"), Bytes::of(b"-")]),
    (&[Detector::Secrets], [Bytes::of(b"e"), Bytes::of(b"y"), Bytes::of(b"J")]),
    (&[Detector::Secrets], [Bytes::of(b"-"), Bytes::of(b"-"), Bytes::of(b"-")]),
];

impl Default for Triggers {
    fn default() -> Self {
        Self::new(|_| false)
    }
}

impl Triggers {
    pub(super) fn new(on: impl Fn(Detector) -> bool) -> Self {
        let mut table = Box::new([0; 256]);
        for (byte, slot) in (0..=255u8).zip(table.iter_mut()) {
            let digit = byte.is_ascii_digit();
            let mut set = |detector, bit, may: bool| {
                if may && on(detector) {
                    *slot |= bit;
                }
            };
            set(Detector::Pan, PAN, digit);
            set(Detector::UsSsn, SSN, digit);
            set(Detector::Phone, PHONE, digit || matches!(byte, b'+' | b'('));
            set(Detector::Iban, IBAN, byte.is_ascii_alphabetic());
            set(Detector::Secrets, SECRET, matches!(byte, b'A' | b'g' | b's' | b'e' | b'-'));
        }
        let wanted = |detectors: &[Detector]| detectors.iter().any(|detector| on(*detector));
        let openings: Vec<Opening> = OPENINGS
            .iter()
            .filter(|(detectors, _)| wanted(detectors))
            .map(|(_, opening)| *opening)
            .collect();
        Self { table, openings: Openings::new(&openings), email: on(Detector::Email) }
    }

    /// Whether e-mail addresses are looked for; they are found from their `@`, not from here.
    pub(super) fn email(&self) -> bool {
        self.email
    }

    /// The first place from `from` to before `to` at which something may begin.
    #[inline]
    pub(super) fn next(&self, view: &View<'_>, from: usize, to: usize) -> Option<usize> {
        let before = [view.before(from, 2), view.before(from, 1)];
        self.openings.next(view.text, from, to, before, |place| is_long_enough(view, place))
    }

    #[inline]
    fn of(&self, byte: u8) -> u8 {
        self.table.get(usize::from(byte)).copied().unwrap_or(0)
    }

    /// Secrets at `at`: they win over everything else that begins here.
    pub(super) fn secret(&self, view: &View<'_>, at: usize) -> Found {
        match view.text.get(at) {
            Some(byte) if self.of(*byte) & SECRET != 0 => secret::find(view, at),
            _ => Found::No,
        }
    }

    /// The longest value at `at` but for secrets and e-mail addresses.
    pub(super) fn other(&self, view: &View<'_>, at: usize) -> Result<Option<Hit>, NeedMore> {
        let bits = view.text.get(at).map_or(0, |byte| self.of(*byte));
        let mut best: Option<Hit> = None;
        let mut take = |detector, found| match found {
            Found::More => Err(NeedMore),
            Found::Value(end) | Found::Swallow(end, _) => {
                if best.is_none_or(|hit| end > hit.end) {
                    best = Some(Hit { detector, end });
                }
                Ok(())
            }
            Found::No => Ok(()),
        };
        if bits & PAN != 0 {
            take(Detector::Pan, number::pan(view, at))?;
        }
        if bits & IBAN != 0 {
            take(Detector::Iban, iban::find(view, at))?;
        }
        if bits & SSN != 0 {
            take(Detector::UsSsn, number::ssn(view, at))?;
        }
        if bits & PHONE != 0 {
            take(Detector::Phone, number::phone(view, at))?;
        }
        Ok(best)
    }
}

/// The letters of `\b`, `\f`, `\n`, `\r` and `\t`.
#[inline]
pub(super) fn is_escape(byte: u8) -> bool {
    matches!(byte, b'b' | b'f' | b'n' | b'r' | b't')
}

/// Bytes of every number that is a value: a social security number without its last two digits,
/// a card or a phone number without more of them.
const NUMBER_MIN: usize = 9;

/// Whether a number at `place` goes on long enough to be a value, as far as that is known: most
/// are counts, years and ids of a few digits.
#[inline]
fn is_long_enough(view: &View<'_>, place: usize) -> bool {
    let rest = view.text.get(place..).unwrap_or_default();
    if !rest.first().is_some_and(u8::is_ascii_digit) {
        return true;
    }
    let joins =
        |byte: &u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'.' | b'(' | b')');
    match rest.get(..NUMBER_MIN) {
        Some(start) => start.iter().all(joins),
        None => !view.end && rest.iter().all(joins),
    }
}

/// A value that begins where it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) detector: Detector,
    pub(super) end: usize,
}

/// Bytes that have not come could change the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeedMore;
