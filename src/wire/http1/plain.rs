//! The quick way through a head that is whole and usual: one pass over marks of its bytes.
//!
//! Usual means: CRLF at the end of each line, names of letters, digits and `-`, no control byte in
//! a value, no bound broken, no field twice that may come once. What such a head means is not open
//! to doubt, and the strict way reads it the same; of any other head nothing is said here, and the
//! strict way decides. So this may be too careful and never too bold: whole heads come this way
//! and split ones the other, and the tests and the fuzz target compare them.

use super::fields::{Direction, Field, Filler, Present, narrow, trim};
use super::names::FieldId;
use super::scan::Bounds;
use crate::scan::marks::{BLOCK, Marker, Marks};
use std::ops::Range;

/// A usual head whose fields were read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// Length of the start line, which is not read, without its end.
    pub(super) line: u32,
    /// Length of the head.
    pub(super) head: u32,
    pub(super) present: Present,
}

/// Reads the fields of the head that `buf` starts with. `None`: it is not whole, or not usual.
pub(super) fn read(
    fields: &mut Vec<Field>,
    buf: &[u8],
    bounds: &Bounds,
    direction: Direction,
) -> Option<Usual> {
    let marker = Marker::detect()?;
    let text = buf.get(..bounds.head_max as usize).unwrap_or(buf);
    let mut reader = Reader {
        text,
        bounds,
        filler: Filler::new(fields, direction),
        start_line: None,
        line: 0,
        colon: None,
        fields: 0,
        return_before: 0,
        end: None,
    };
    marker.walk(text, |place, marks| reader.block(place, marks) == Some(Next::Block));
    let (line, head) = (reader.start_line?, reader.end?);
    Some(Usual {
        line: u32::try_from(line).ok()?,
        head: u32::try_from(head).ok()?,
        present: reader.filler.present(),
    })
}

#[derive(PartialEq, Eq)]
enum Next {
    Block,
    /// The end of the head was found.
    Nothing,
}

struct Reader<'b, 'f> {
    text: &'b [u8],
    bounds: &'b Bounds,
    filler: Filler<'f>,
    /// Length of the start line, once it is over.
    start_line: Option<usize>,
    /// Where the line that is being read begins.
    line: usize,
    /// Its first colon.
    colon: Option<usize>,
    fields: u32,
    /// 1 when the last byte of the block before was a CR.
    return_before: u64,
    end: Option<usize>,
}

impl Reader<'_, '_> {
    /// Goes through the block at `place`. `None`: the head is not usual.
    #[inline]
    fn block(&mut self, place: usize, marks: &Marks) -> Option<Next> {
        let mut feeds = marks.feeds;
        let mut from = 0;
        let mut seen = u64::MAX;
        while feeds != 0 && self.end.is_none() {
            let feed = feeds.trailing_zeros();
            feeds &= feeds - 1;
            self.part(place, marks, from..feed)?;
            self.line_end(place + feed as usize)?;
            from = feed + 1;
        }
        if self.end.is_some() {
            seen = below(from);
        } else {
            self.part(place, marks, from..BLOCK as u32)?;
        }
        // Each CR stands before an LF, and each LF behind a CR.
        let returns = marks.returns << 1 | self.return_before;
        self.return_before = marks.returns >> (BLOCK - 1);
        if (returns ^ marks.feeds) & seen != 0 || marks.controls & seen != 0 {
            self.end = None;
            return None;
        }
        Some(if self.end.is_some() { Next::Nothing } else { Next::Block })
    }

    /// Looks for the colon of the line in a part of a block without LF.
    #[inline]
    fn part(&mut self, place: usize, marks: &Marks, part: Range<u32>) -> Option<()> {
        if self.colon.is_some() || self.start_line.is_none() {
            return Some(());
        }
        let within = below(part.end) & !below(part.start);
        let colons = marks.colons & within;
        let name = if colons == 0 {
            within
        } else {
            let colon = colons.trailing_zeros();
            self.colon = Some(place + colon as usize);
            within & below(colon)
        };
        // A line that begins with CR may be the end of the head.
        let at = self.line.checked_sub(place).filter(|at| *at < BLOCK);
        let first = at.map_or(0, |at| marks.returns & 1 << at);
        (name & !(marks.names | first) == 0).then_some(())
    }

    /// Takes in the line whose LF is at `feed`.
    #[inline]
    fn line_end(&mut self, feed: usize) -> Option<()> {
        let line = std::mem::replace(&mut self.line, feed + 1);
        let end = feed.checked_sub(1).filter(|end| *end >= line)?;
        if self.start_line.is_none() {
            let fits = end > line && end - line <= self.bounds.line_max as usize;
            self.start_line = fits.then_some(end);
            return self.start_line.map(|_| ());
        }
        if end == line {
            self.end = Some(feed + 1);
            return Some(());
        }
        let colon = self.colon.take().filter(|colon| *colon > line)?;
        self.fields += 1;
        if self.fields > self.bounds.fields_max || end - line > self.bounds.field_max as usize {
            return None;
        }
        let name = self.text.get(line..colon).filter(|name| name.first() != Some(&b'\r'))?;
        let value = self.text.get(colon + 1..end)?;
        let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let (start, len) = (colon + 1 + blanks, trim(value).len());
        let value = if len == 0 { 0..0 } else { narrow(start..start + len)? };
        self.filler.add(self.text, narrow(line..colon)?, value, FieldId::of_plain(name)).ok()
    }
}

/// The bits below bit `n`, 64 at most.
#[inline]
fn below(n: u32) -> u64 {
    1u64.checked_shl(n).map_or(u64::MAX, |bit| bit - 1)
}
