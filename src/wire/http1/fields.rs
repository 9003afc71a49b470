//! Fields of a head, and what both directions share: framing, `Connection`, doubled fields.

use super::error::HeadFault;
use super::names::FieldId;
use std::ops::Range;

/// Most fields that a head may have, whatever the limits say.
pub const FIELDS_MAX: usize = 256;

/// Most tokens of all `Connection` lines together, so that marking stays cheap.
const CONNECTION_TOKENS_MAX: u32 = 32;

/// One field of a head, as ranges of the buffer that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as it came.
    pub name: Range<u32>,
    /// The value without white space around it; empty as `0..0`.
    pub value: Range<u32>,
    /// Which field it is.
    pub id: FieldId,
    /// Never goes on to the other side: hop by hop, named by `Connection`, a name with `_`, an
    /// override of method or path, of the forwarded family, or the gateway's own.
    ///
    /// `Host`, `Content-Length` and credentials are not marked: whoever writes the next head
    /// writes its own instead of them.
    pub drop: bool,
}

impl Field {
    /// The name as it came.
    #[must_use]
    pub fn name<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        slice(buf, &self.name)
    }

    /// The value without white space around it.
    #[must_use]
    pub fn value<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        slice(buf, &self.value)
    }

    /// Appends the field as a line in canonical form: the name in lower case, the value trimmed.
    pub fn write(&self, buf: &[u8], out: &mut Vec<u8>) {
        self.write_name(buf, out);
        out.extend_from_slice(self.value(buf));
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the name in lower case, a colon and a space.
    pub fn write_name(&self, buf: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.name(buf));
        if let Some(name) = out.get_mut(start..) {
            name.make_ascii_lowercase();
        }
        out.extend_from_slice(b": ");
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked,
    /// Until the connection ends; responses only.
    UntilClose,
}

/// The bytes of `range` in `buf`; nothing if it is not within.
#[must_use]
pub fn slice<'b>(buf: &'b [u8], range: &Range<u32>) -> &'b [u8] {
    buf.get(range.start as usize..range.end as usize).unwrap_or_default()
}

/// The range of `part`, which is a slice of `buf`. Empty parts are `0..0`.
pub(super) fn range_of(buf: &[u8], part: &[u8]) -> Result<Range<u32>, HeadFault> {
    if part.is_empty() {
        return Ok(0..0);
    }
    let start = part.as_ptr().addr().checked_sub(buf.as_ptr().addr());
    let range = start.and_then(|start| Some(start..start.checked_add(part.len())?));
    let range = range.filter(|range| range.end <= buf.len());
    debug_assert!(range.is_some(), "a slice of another buffer");
    range.and_then(narrow).ok_or(HeadFault::HeadTooLong)
}

pub(super) fn narrow(range: Range<usize>) -> Option<Range<u32>> {
    Some(u32::try_from(range.start).ok()?..u32::try_from(range.end).ok()?)
}

/// Which direction a head goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// The ids that the fields of a head have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Present(u64);

impl Present {
    pub(super) fn has(self, id: FieldId) -> bool {
        self.0 & bit(id) != 0
    }
}

/// The ids fit a set of 64 bits.
fn bit(id: FieldId) -> u64 {
    1u64 << (id as u8 & 63)
}

/// Takes in the fields of one head.
pub(super) struct Filler<'f> {
    fields: &'f mut Vec<Field>,
    direction: Direction,
    present: Present,
}

impl<'f> Filler<'f> {
    pub(super) fn new(fields: &'f mut Vec<Field>, direction: Direction) -> Self {
        fields.clear();
        Self { fields, direction, present: Present::default() }
    }

    /// Takes in a field whose name is of letters, digits and `-` only; a doubled one is refused.
    #[inline]
    pub(super) fn add(
        &mut self,
        buf: &[u8],
        name: Range<u32>,
        value: Range<u32>,
        id: FieldId,
    ) -> Result<(), HeadFault> {
        let drop = match self.direction {
            Direction::Request => id.is_dropped_from_request(),
            Direction::Response => id.is_dropped_from_response(),
        };
        self.add_as(buf, Field { name, value, id, drop })
    }

    #[inline]
    fn add_as(&mut self, buf: &[u8], field: Field) -> Result<(), HeadFault> {
        let id = field.id;
        let single = match self.direction {
            Direction::Request => id.is_single_in_request(),
            Direction::Response => id.is_single_in_response(),
        };
        let again = single && self.present.has(id) && {
            let name = field.name(buf);
            let same =
                |other: &&Field| other.id == id && other.name(buf).eq_ignore_ascii_case(name);
            !id.is_family() || self.fields.iter().find(same).is_some()
        };
        if again {
            return Err(HeadFault::DuplicateField);
        }
        self.present.0 |= bit(id);
        self.fields.push(field);
        Ok(())
    }

    pub(super) fn present(&self) -> Present {
        self.present
    }
}

/// Fills `fields` with what httparse found.
pub(super) fn fill(
    fields: &mut Vec<Field>,
    buf: &[u8],
    parsed: &[httparse::Header<'_>],
    direction: Direction,
) -> Result<Present, HeadFault> {
    let mut filler = Filler::new(fields, direction);
    for header in parsed {
        let name = header.name.as_bytes();
        let (id, odd) = FieldId::read(name);
        let (range, value) = (range_of(buf, name)?, range_of(buf, header.value)?);
        if !odd || direction == Direction::Response {
            filler.add(buf, range, value, id)?;
            continue;
        }
        // Behind us CGI-style servers read `_` as `-`, and some every other punctuation too.
        let alias = alias(name);
        if alias.is_refused_as_alias() {
            return Err(HeadFault::UnderscoreAlias);
        }
        let drop = alias.is_dropped_from_request() || memchr::memchr(b'_', name).is_some();
        filler.add_as(buf, Field { name: range, value, id: FieldId::Other, drop })?;
    }
    Ok(filler.present())
}

/// What is read as `-`.
fn is_alias_of_dash(byte: u8) -> bool {
    !byte.is_ascii_alphanumeric() && byte != b'-'
}

/// What `name` is when its punctuation is read as `-`.
fn alias(name: &[u8]) -> FieldId {
    let mut mapped = [0u8; 64];
    // A longer name can only be of a family, whose beginning is enough.
    let name = name.get(..mapped.len()).unwrap_or(name);
    for (to, from) in mapped.iter_mut().zip(name) {
        *to = if is_alias_of_dash(*from) { b'-' } else { *from };
    }
    FieldId::of(mapped.get(..name.len()).unwrap_or_default())
}

/// The value of the first field with `id`.
pub(super) fn value<'b>(fields: &[Field], buf: &'b [u8], id: FieldId) -> Option<&'b [u8]> {
    fields.iter().find(|field| field.id == id).map(|field| slice(buf, &field.value))
}

/// What the framing fields say (RFC 9112, section 6.3); `None` when there are none.
pub(super) fn framing(
    fields: &[Field],
    present: Present,
    buf: &[u8],
    version_minor: u8,
) -> Result<Option<Framing>, HeadFault> {
    let of = |id| if present.has(id) { value(fields, buf, id) } else { None };
    let coding = of(FieldId::TransferEncoding);
    let length = of(FieldId::ContentLength);
    match (coding, length) {
        (Some(_), Some(_)) => Err(HeadFault::AmbiguousLength),
        (Some(_), None) if version_minor == 0 => Err(HeadFault::TransferEncoding),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(Framing::Chunked))
        }
        (Some(coding), None) if !coding.is_empty() && coding.iter().all(|b| is_token(*b)) => {
            Err(HeadFault::UnknownCoding)
        }
        (Some(_), None) => Err(HeadFault::TransferEncoding),
        (None, Some(length)) => decimal(length)
            .map(|length| Some(Framing::Length(length)))
            .ok_or(HeadFault::ContentLength),
        (None, None) => Ok(None),
    }
}

/// `1*DIGIT` that fits 64 bits.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// What `Connection` asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wishes {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

impl Wishes {
    /// Whether the connection may serve another exchange (RFC 9112, section 9.3).
    pub(super) fn persists(self, version_minor: u8) -> bool {
        !self.close && (version_minor >= 1 || self.keep_alive)
    }
}

/// Reads all `Connection` lines and marks every field that they name (RFC 9110, section 7.6.1).
pub(super) fn connection(
    fields: &mut [Field],
    present: Present,
    buf: &[u8],
) -> Result<Wishes, HeadFault> {
    let mut wishes = Wishes::default();
    if !present.has(FieldId::Connection) {
        return Ok(wishes);
    }
    let mut tokens = 0u32;
    for line in 0..fields.len() {
        let Some(field) = fields.get(line).filter(|field| field.id == FieldId::Connection) else {
            continue;
        };
        for token in list(slice(buf, &field.value)) {
            tokens += 1;
            if tokens > CONNECTION_TOKENS_MAX || !token.iter().all(|byte| is_token(*byte)) {
                return Err(HeadFault::Connection);
            }
            if token.eq_ignore_ascii_case(b"close") {
                wishes.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                wishes.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"upgrade") {
                wishes.upgrade = true;
            } else if FieldId::of(token).is_end_to_end_by_force() {
                return Err(HeadFault::ConnectionNames);
            } else {
                for named in fields.iter_mut() {
                    named.drop |= slice(buf, &named.name).eq_ignore_ascii_case(token);
                }
            }
        }
    }
    Ok(wishes)
}

/// Members of a comma-separated list without white space around them; empty ones are left out.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Without SP and HTAB at both ends.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A `tchar` (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What an error of httparse means.
pub(super) fn fault_of(error: httparse::Error) -> HeadFault {
    match error {
        httparse::Error::HeaderName => HeadFault::FieldName,
        httparse::Error::HeaderValue => HeadFault::FieldValue,
        httparse::Error::NewLine => HeadFault::LineEnd,
        httparse::Error::TooManyHeaders => HeadFault::TooManyFields,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            HeadFault::StartLine
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_plain_decimals_of_64_bits() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [&b""[..], b"18446744073709551616", b"+1", b"-1", b"1 ", b"1,1", b"0x1", b"1_0"]
        {
            assert_eq!(decimal(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn lists_are_split_at_commas_only() {
        let members: Vec<_> = list(b" close ,, x-a\t, ").collect();
        assert_eq!(members, [&b"close"[..], b"x-a"]);
        assert_eq!(list(b"").count(), 0);
        assert_eq!(trim(b" \t "), b"");
    }
}
