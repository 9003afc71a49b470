//! Where a head ends: one pass over each byte, however the bytes arrive.
//!
//! httparse cannot resume, so a head that came byte by byte would be parsed again from its start
//! each time. It also takes a bare LF for a line end. Both are met here: line ends are looked for
//! in new bytes only, each must be CRLF, and sizes are bounded before anything is parsed.

use super::error::HeadFault;
use std::ops::Range;

/// How far the head at the start of a buffer was looked through.
///
/// The buffer must only grow between calls; a finished or refused head resets the scan.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    /// First byte that was not looked at.
    seen: usize,
    /// Start of the line that is being read.
    line: usize,
    /// Start of the start line: behind the one empty line that may precede a request.
    start: usize,
    /// Whole lines so far, the start line included.
    lines: u32,
}

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) line_max: u32,
    pub(super) field_max: u32,
    pub(super) head_max: u32,
    pub(super) fields_max: u32,
    /// Whether one empty line may come first (RFC 9112, section 2.2: requests only).
    pub(super) empty_first: bool,
}

/// A whole head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// From the start line to the empty line, which is included.
    pub(super) head: Range<usize>,
    pub(super) fields: usize,
}

impl HeadScan {
    /// A scan at the start of a buffer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the head, as when the buffer holds other bytes.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether no byte of a head was seen: the connection is idle.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.seen == 0
    }

    /// Looks through what is new in `buf`.
    ///
    /// Faults do not depend on how the bytes were split: of two bounds that a line breaks, the one
    /// whose byte comes first counts.
    pub(super) fn find(&mut self, buf: &[u8], bounds: &Bounds) -> Result<Option<Found>, HeadFault> {
        debug_assert!(self.seen <= buf.len(), "the buffer only grows");
        let found = self.step(buf, bounds);
        if !matches!(found, Ok(None)) {
            self.reset();
        }
        found
    }

    fn step(&mut self, buf: &[u8], bounds: &Bounds) -> Result<Option<Found>, HeadFault> {
        while let Some(next) = memchr::memchr(b'\n', buf.get(self.seen..).unwrap_or_default()) {
            let feed = self.seen + next;
            self.check_length(feed, true, bounds)?;
            let before = feed.checked_sub(1).filter(|place| *place >= self.line);
            if before.and_then(|place| buf.get(place)) != Some(&b'\r') {
                return Err(HeadFault::BareLineFeed);
            }
            let empty = before == Some(self.line);
            self.seen = feed + 1;
            self.line = feed + 1;
            match (empty, self.lines) {
                (true, 0) if bounds.empty_first && self.start == 0 => self.start = feed + 1,
                (true, 0) => return Err(HeadFault::EmptyLine),
                (true, lines) => {
                    let fields = (lines - 1) as usize;
                    return Ok(Some(Found { head: self.start..feed + 1, fields }));
                }
                // `lines` counts the start line too, so here it is the number of fields.
                (false, lines) if lines > bounds.fields_max => {
                    return Err(HeadFault::TooManyFields);
                }
                (false, lines) => self.lines = lines + 1,
            }
        }
        self.seen = buf.len();
        if let Some(last) = buf.len().checked_sub(1).filter(|last| *last >= self.line) {
            self.check_length(last, false, bounds)?;
        }
        Ok(None)
    }

    /// Bounds of the line whose last byte so far is at `last`: an LF if `ended`.
    fn check_length(&self, last: usize, ended: bool, bounds: &Bounds) -> Result<(), HeadFault> {
        let (line_max, fault) = match self.lines {
            0 => (bounds.line_max, HeadFault::LineTooLong),
            _ => (bounds.field_max, HeadFault::FieldTooLong),
        };
        // The first byte that may only be the LF, and the first that may be no part of the head.
        let line_end = self.line.saturating_add(line_max as usize).saturating_add(1);
        let head_end = self.start.saturating_add(bounds.head_max as usize);
        let line_broken = if ended { last > line_end } else { last >= line_end };
        match (line_broken, last >= head_end) {
            (true, false) => Err(fault),
            (true, true) if line_end <= head_end => Err(fault),
            (_, true) => Err(HeadFault::HeadTooLong),
            (false, false) => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { line_max: 12, field_max: 6, head_max: 40, fields_max: 3, empty_first: true };

    fn whole(text: &[u8]) -> Result<Option<Found>, HeadFault> {
        HeadScan::new().find(text, &BOUNDS)
    }

    fn bytewise(text: &[u8]) -> Result<Option<Found>, HeadFault> {
        let mut scan = HeadScan::new();
        for len in 0..=text.len() {
            let found = scan.find(&text[..len], &BOUNDS);
            if !matches!(found, Ok(None)) {
                return found;
            }
        }
        Ok(None)
    }

    #[test]
    fn a_head_is_found_and_bounded_the_same_in_any_split() {
        type Fields = Result<Option<usize>, HeadFault>;
        let cases: &[(&[u8], Fields)] = &[
            (b"", Ok(None)),
            (b"GET / H\r\n\r\n", Ok(Some(0))),
            (b"\r\nGET / H\r\n\r\nrest", Ok(Some(0))),
            (b"\r\n\r\nGET / H\r\n\r\n", Err(HeadFault::EmptyLine)),
            (b"\n", Err(HeadFault::BareLineFeed)),
            (b"G\r\na:b\nc:d\r\n\r\n", Err(HeadFault::BareLineFeed)),
            (b"G\r\na:b\r\n\n", Err(HeadFault::BareLineFeed)),
            (b"123456789012\r\n\r\n", Ok(Some(0))),
            (b"1234567890123\r\n\r\n", Err(HeadFault::LineTooLong)),
            (b"12345678901234\n", Err(HeadFault::LineTooLong)),
            (b"123456789012\n", Err(HeadFault::BareLineFeed)),
            (b"G\r\na:2345\r\n\r\n", Ok(Some(1))),
            (b"G\r\na:23456\r\n\r\n", Err(HeadFault::FieldTooLong)),
            (b"G\r\na\r\na\r\na\r\n\r\n", Ok(Some(3))),
            (b"G\r\na\r\na\r\na\r\na\r\n\r\n", Err(HeadFault::TooManyFields)),
            (b"123456789012\r\n123456\r\n123456\r\n123456\r\n\r\n", Ok(Some(3))),
            (b"123456789012\r\n123456\r\n123456\r\n1234567\r\n", Err(HeadFault::FieldTooLong)),
        ];
        for (text, expected) in cases {
            let found = whole(text);
            assert_eq!(found.clone().map(|f| f.map(|f| f.fields)), *expected, "{text:?}");
            assert_eq!(bytewise(text), found, "{text:?}");
        }
        let tight = Bounds { head_max: 20, ..BOUNDS };
        let text = b"123456789012\r\n12345678901234\r\n\r\n";
        let mut scan = HeadScan::new();
        assert_eq!(scan.find(text, &tight), Err(HeadFault::HeadTooLong));
        let first = (0..=text.len()).find_map(|len| scan.find(&text[..len], &tight).err());
        assert_eq!(first.unwrap(), HeadFault::HeadTooLong);
    }
}
