//! Gap entries: how much was not recorded, where it would stand.
//!
//! | field | what |
//! |---|---|
//! | `count` | entries that were left out |
//! | `bytes_in` | body bytes of them that came from the caller |
//! | `bytes_out` | body bytes of them that went to the caller |
//! | `failure` | why: `no_room` |
//!
//! A gap of an exchange carries its id; one of exchange 0 stands for several. The first gap entry
//! of a run stands before anything of it is let go, except under `on_full = "drop"`.

use super::fields::{Reader, Tag, Writer};

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Entries.
    pub entries: u64,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
}

impl Gap {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Body bytes in both directions.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    /// Both.
    pub fn add(&mut self, other: &Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
    }

    /// The body of the entry.
    pub fn write(&self, to: &mut Vec<u8>) {
        Writer::new(to)
            .number(Tag::Count, self.entries)
            .number(Tag::BytesIn, self.bytes_in)
            .number(Tag::BytesOut, self.bytes_out)
            .text(Tag::Failure, NO_ROOM);
    }

    /// Reads the body of an entry; what is missing there counts as nothing.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let of = |tag| Reader::find(body, tag).and_then(|field| field.as_number()).unwrap_or(0);
        Self { entries: of(Tag::Count), bytes_in: of(Tag::BytesIn), bytes_out: of(Tag::BytesOut) }
    }
}

/// Why entries are missing: neither ring nor disk had room.
const NO_ROOM: &str = "no_room";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_reads_back_and_adds_up() {
        let gap = Gap { entries: 3, bytes_in: 1, bytes_out: u64::MAX };
        let mut body = vec![1, 2, 3];
        gap.write(&mut body);
        assert_eq!(Gap::read(&body), gap);
        assert_eq!(Gap::read(b"nonsense"), Gap::default());
        let mut sum = gap;
        sum.add(&gap);
        assert_eq!((sum.entries, sum.bytes_in, sum.bytes()), (6, 2, u64::MAX));
    }
}
