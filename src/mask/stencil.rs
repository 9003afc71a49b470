//! The event before as a stencil for the next one.
//!
//! Events of a stream are mostly the same but for a string or two. What stands around those is
//! masked each string for itself, so where it is the same byte by byte it becomes the same: an
//! event that fits the stencil has the same members, belongs to the same texts, and only its own
//! parts of them are looked at. A stencil is made of an event of which no text ended and of which
//! nothing was found but in those parts, and it is forgotten with every event that does not fit:
//! so the texts that it names are open, and their places are theirs. Estimate for an event of
//! 250 bytes: 40 ns, and what the parts cost.

use crate::scan::json::text_len;
use std::ops::Range;

/// One event: its data without the strings that vary, and what that became.
#[derive(Debug, Default)]
pub(super) struct Stencil {
    data: Vec<u8>,
    masked: Vec<u8>,
    values: Vec<Value>,
    /// The strings of the event in hand: where each stands, and where what stands for it.
    found: Vec<(Range<usize>, Range<usize>, Option<usize>)>,
    /// The event in hand serves as no stencil.
    spoilt: bool,
}

/// A string that varies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    /// How many bytes of the stencil's data are before it, its opening quote among them.
    data_until: usize,
    /// How many bytes of the masked form are before what stands for it.
    pub(super) masked_until: usize,
    /// The text that it is a part of; `None` for padding, which becomes empty.
    pub(super) slot: Option<usize>,
}

/// Strings of one event that may vary.
const VALUES_MAX: usize = 4;

/// Where the strings of an event stand that fits.
pub(super) type Parts = [(usize, usize); VALUES_MAX];

impl Stencil {
    /// Nothing fits from here on, and the next event may become the stencil.
    pub(super) fn forget(&mut self) {
        self.data.clear();
        self.masked.clear();
        self.values.clear();
        self.found.clear();
        self.spoilt = false;
    }

    /// The event in hand serves as no stencil.
    pub(super) fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// The string at `range` of the event's data varies; `new` of its masked form stands for it,
    /// quotes included in both. Called in the order of the event.
    pub(super) fn value(&mut self, range: Range<usize>, new: Range<usize>, slot: Option<usize>) {
        self.found.push((range, new, slot));
    }

    /// The event is over: from here on it is the stencil, if it serves as one.
    pub(super) fn finish(&mut self, data: &[u8], masked: &[u8]) {
        if self.spoilt || self.found.is_empty() || self.found.len() > VALUES_MAX {
            return self.forget();
        }
        let Self { data: before, masked: became, values, found, .. } = self;
        let (mut from, mut masked_from) = (0, 0);
        for (range, new, slot) in found.drain(..) {
            let quoted = data.get(range.start) == Some(&b'"') && range.len() >= 2;
            let parts = (data.get(from..range.start + 1), masked.get(masked_from..new.start + 1));
            let ((Some(same), Some(same_masked)), true) = (parts, quoted && new.len() >= 2) else {
                // A number, say: what stands there next need not be one.
                values.clear();
                return;
            };
            before.extend_from_slice(same);
            became.extend_from_slice(same_masked);
            values.push(Value { data_until: before.len(), masked_until: became.len(), slot });
            (from, masked_from) = (range.end - 1, new.end - 1);
        }
        before.extend_from_slice(data.get(from..).unwrap_or_default());
        became.extend_from_slice(masked.get(masked_from..).unwrap_or_default());
    }

    /// Where the strings of `data` stand, if it is the stencil with other ones that are written
    /// without an escape.
    pub(super) fn parts(&self, data: &[u8]) -> Option<Parts> {
        if self.values.is_empty() {
            return None;
        }
        let mut parts = Parts::default();
        let (mut at, mut from) = (0, 0);
        for (value, part) in self.values.iter().zip(&mut parts) {
            let before = self.data.get(from..value.data_until)?;
            let rest = data.get(at..)?.strip_prefix(before)?;
            at += before.len();
            let len = text_len(rest);
            *part = (at, at + len);
            at += len;
            from = value.data_until;
        }
        (data.get(at..)? == self.data.get(from..)?).then_some(parts)
    }

    /// The string at this place of the order.
    pub(super) fn at(&self, place: usize) -> Option<Value> {
        self.values.get(place).copied()
    }

    /// What the event became from `from` on, up to `until` or its end.
    pub(super) fn masked(&self, from: usize, until: Option<usize>) -> &[u8] {
        self.masked.get(from..until.unwrap_or(self.masked.len())).unwrap_or_default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_event_fits_that_differs_in_its_strings_alone() {
        let data = br#"{"a":"one","n":1,"p":"xx","b":"two"}"#;
        let masked = br#"{"a":"ONE!","n":1,"p":"","b":"two"}"#;
        let mut stencil = Stencil::default();
        stencil.forget();
        stencil.value(5..10, 5..11, Some(3));
        stencil.value(21..25, 22..24, None);
        stencil.finish(data, masked);
        let parts = stencil.parts(data).unwrap();
        assert_eq!(&data[parts[0].0..parts[0].1], b"one");
        assert_eq!(&data[parts[1].0..parts[1].1], b"xx");
        let until = |place: usize| stencil.at(place).unwrap().masked_until;
        assert_eq!(stencil.masked(0, Some(until(0))), br#"{"a":""#);
        assert_eq!(stencil.masked(until(0), Some(until(1))), br#"","n":1,"p":""#);
        assert_eq!(stencil.masked(until(1), None), br#"","b":"two"}"#);
        for (other, fits) in [
            (&br#"{"a":"","n":1,"p":"","b":"two"}"#[..], true),
            (br#"{"a":"o\"e","n":1,"p":"xx","b":"two"}"#, false),
            (b"{\"a\":\"o\xffe\",\"n\":1,\"p\":\"xx\",\"b\":\"two\"}", false),
            (b"{\"a\":\"o\ne\",\"n\":1,\"p\":\"xx\",\"b\":\"two\"}", false),
            (br#"{"a":"one","n":1,"p":"xx","b":"twi"}"#, false),
            (br#"{"a":"one","n":1,"p":"xx","b":"two"} "#, false),
            (br#"{"a":"one","n":1,"p":"xx","b":"two""#, false),
            (br#"{"a":"one"#, false),
            (b"", false),
        ] {
            let text = String::from_utf8_lossy(other);
            assert_eq!(stencil.parts(other).is_some(), fits, "{text}");
        }
        stencil.forget();
        assert!(stencil.parts(data).is_none());
    }
}
