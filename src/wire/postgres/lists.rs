//! Lists within messages. Each is checked when its message is parsed; walking one cannot fail.

use super::WireError;
use super::cursor::Cursor;
use std::fmt;

/// The format code of text.
pub const TEXT: i16 = 0;
/// The format code of a type's binary form.
pub const BINARY: i16 = 1;

/// Type OIDs of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Types<'a>(&'a [[u8; 4]]);

impl<'a> Types<'a> {
    /// A count and so many OIDs, up to the end.
    pub(super) fn parse(mut cursor: Cursor<'a>) -> Result<Self, WireError> {
        let count = cursor.u16()?;
        let oids = cursor.units(usize::from(count))?;
        cursor.end()?;
        Ok(Self(oids))
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.0.as_flattened()
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The OID at this place; 0 leaves the type to the server.
    #[must_use]
    pub fn get(self, index: usize) -> Option<u32> {
        self.0.get(index).copied().map(u32::from_be_bytes)
    }

    /// All of them in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().copied().map(u32::from_be_bytes)
    }
}

/// Format codes, each [`TEXT`] or [`BINARY`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Formats<'a>(&'a [[u8; 2]]);

impl<'a> Formats<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>, count: u16) -> Result<Self, WireError> {
        let codes = Self(cursor.units(usize::from(count))?);
        codes.iter().try_for_each(known)?;
        Ok(codes)
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.0.as_flattened()
    }

    /// How many codes stand there, which may be none or one for any number of values.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// Whether no code stands there: all values are text.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The format of the value at this place: no code is text for all, one code is the format of
    /// all, else each has its own. `None` past the codes: the server refuses such a message.
    #[must_use]
    pub fn of(self, index: usize) -> Option<i16> {
        match self.0 {
            [] => Some(TEXT),
            [all] => Some(i16::from_be_bytes(*all)),
            each => each.get(index).copied().map(i16::from_be_bytes),
        }
    }

    /// The codes as they stand.
    pub fn iter(self) -> impl ExactSizeIterator<Item = i16> + use<'a> {
        self.0.iter().copied().map(i16::from_be_bytes)
    }
}

/// Refuses a format code that no server knows.
pub(super) fn known(format: i16) -> Result<(), WireError> {
    if matches!(format, TEXT | BINARY) { Ok(()) } else { Err(WireError::Format) }
}

/// Values of a Bind or a FunctionCall; `None` is NULL.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Values<'a> {
    count: u16,
    body: &'a [u8],
}

impl<'a> Values<'a> {
    pub(super) fn parse(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let count = cursor.u16()?;
        let start = cursor.rest();
        for _ in 0..count {
            cursor.value()?;
        }
        let len = start.len() - cursor.rest().len();
        Ok(Self { count, body: start.get(..len).unwrap_or_default() })
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.body
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// All of them in order.
    #[must_use]
    pub fn iter(self) -> ValuesIter<'a> {
        ValuesIter(Cursor::new(self.body))
    }
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({})", self.count)
    }
}

/// Walks [`Values`].
pub struct ValuesIter<'a>(Cursor<'a>);

impl<'a> Iterator for ValuesIter<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.rest().is_empty() { None } else { self.0.value().ok() }
    }
}

/// Strings one after the other, each without its zero byte.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    /// `body` must end with a zero byte, or be empty.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, WireError> {
        match body.last() {
            None | Some(0) => Ok(Self(body)),
            Some(_) => Err(WireError::Terminator),
        }
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let mut cursor = Cursor::new(self.0);
        let text = cursor.string().ok()?;
        self.0 = cursor.rest();
        Some(text)
    }
}

impl fmt::Debug for Strings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Strings({} bytes)", self.0.len())
    }
}
