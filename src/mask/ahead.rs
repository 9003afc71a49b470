//! What is known of an input ahead of the string in hand: up to where no value begins.
//!
//! A JSON text has a string every dozen bytes, and few of them hold a value. So the search for
//! openings goes once over the input, from string to string and beyond their quotes, and a whole
//! string before the next opening needs none of its own. It sees more openings than there are in
//! the strings, never fewer: before a string stands its quote, which joins no word, and no value
//! is so short that bytes behind its string would be taken for its opening.

use super::find::{Triggers, View};
use std::ops::Range;

/// The search in one input.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    openings: Known,
    signs: Known,
}

/// No hit at `from..to`; one at `to`, or the input ended there when it was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    from: usize,
    to: usize,
    ended: bool,
}

impl Known {
    /// Whether there is no hit in `range`; `next` finds the first from a place on.
    fn is_clear(
        &mut self,
        len: usize,
        range: &Range<usize>,
        next: impl FnOnce(usize) -> Option<usize>,
    ) -> bool {
        let stale = range.start < self.from
            || range.start >= self.to
            || (self.ended && range.end > self.to);
        if stale {
            let hit = next(range.start);
            *self = Self { from: range.start, to: hit.unwrap_or(len), ended: hit.is_none() };
        }
        range.end <= self.to
    }
}

impl Ahead {
    /// Whether no value begins in the text at `range` of `input`, which is a whole string: its
    /// quotes stand on both sides.
    pub(super) fn is_clear(
        &mut self,
        triggers: &Triggers,
        input: &[u8],
        range: &Range<usize>,
    ) -> bool {
        debug_assert!(input.get(range.end) == Some(&b'"') && range.start > 0);
        let view = View { text: input, left: [0; 2], end: false };
        self.openings.is_clear(input.len(), range, |from| triggers.next(&view, from, input.len()))
            && (!triggers.email()
                || self.signs.is_clear(input.len(), range, |from| {
                    let rest = input.get(from..).unwrap_or_default();
                    memchr::memchr(b'@', rest).map(|found| from + found)
                }))
    }
}
