//! The drain's half of a ring.

use std::sync::atomic::Ordering;

use super::{Ring, store_cursor};
use crate::record::Kind;
use crate::record::ring::{Cursor, DATA_START, RingSetup, SHUT_PLACE, TAIL_PLACE};
use crate::record::segment::{self, ENTRY_HEADER_LEN, ENTRY_LEN_MAX};

/// The drain's half.
#[derive(Debug)]
pub struct Tail {
    ring: Ring,
    setup: RingSetup,
    cursor: Cursor,
    generation: u64,
}

/// What [`Tail::read`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Behind the entries that were read.
    pub end: Cursor,
    /// The last of them is a roll entry: the rest belongs to the next segment.
    pub rolled: bool,
}

impl Tail {
    /// Begins at `start`.
    pub(super) fn new(ring: Ring, setup: &RingSetup, start: Cursor) -> Self {
        Self { ring, setup: *setup, cursor: start, generation: 0 }
    }

    /// What the ring was made with.
    #[must_use]
    pub fn setup(&self) -> &RingSetup {
        &self.setup
    }

    /// Up to where entries were released.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Appends whole committed entries from the cursor on to `out`, up to about `max` bytes (at
    /// least one entry) and not beyond a roll entry, and the bytes that each takes to `spans`.
    /// Nothing is released.
    ///
    /// # Errors
    /// A commit word that no journal writes: the memory was damaged from outside.
    pub fn read(
        &self,
        max: usize,
        out: &mut Vec<u8>,
        spans: &mut Vec<usize>,
    ) -> Result<Batch, segment::EntryError> {
        let mut end = self.cursor;
        let limit = self.cursor.position.0 + self.ring.bytes;
        let first = out.len();
        let mut len = self.length_at(end.position.0, limit);
        while len != 0 && out.len() - first < max {
            let whole = len.next_multiple_of(ENTRY_HEADER_LEN);
            if !(ENTRY_HEADER_LEN..=ENTRY_LEN_MAX).contains(&len)
                || whole as u64 > limit - end.position.0
            {
                return Err(segment::EntryError::Length);
            }
            let (place, room) = self.ring.place(end.position.0);
            len = self.length_at(end.position.0 + whole as u64, limit);
            let start = out.len();
            self.ring.mapping.read(place, whole.min(room), out);
            self.ring.mapping.read(DATA_START, whole - whole.min(room), out);
            spans.push(whole);
            let rolled = out.get(start + segment::KIND_PLACE) == Some(&(Kind::Roll as u8));
            end = end.after(whole as u64, if rolled { Kind::Roll } else { Kind::Data });
            if rolled {
                return Ok(Batch { end, rolled });
            }
        }
        Ok(Batch { end, rolled: false })
    }

    /// The commit word at `position`; 0 from `limit` on, where the cursor's lap ends.
    fn length_at(&self, position: u64, limit: u64) -> usize {
        if position >= limit {
            return 0;
        }
        self.ring.commit_word(position).load(Ordering::Acquire) as usize
    }

    /// Ends the journal: every append from here on is [`Full`](crate::record::Full). Read once more after it.
    pub fn shut(&self) {
        self.ring.mapping.word64(SHUT_PLACE).store(1, Ordering::Release);
    }

    /// Gives everything before `end` back to the writer, wiped. Call it when the bytes are on disk.
    pub fn release(&mut self, end: Cursor) {
        let from = self.cursor.position.0;
        let len = end.position.0.saturating_sub(from);
        assert!(len <= self.ring.bytes, "nothing was read beyond the ring");
        self.generation += 1;
        store_cursor(&self.ring.mapping, self.generation, end);
        let (place, room) = self.ring.place(from);
        // At most the ring's bytes, which fit.
        let first = room.min(len as usize);
        self.ring.mapping.wipe(place, first);
        self.ring.mapping.wipe(DATA_START, len as usize - first);
        self.cursor = end;
        self.ring.advance(end.position.0);
        // Release: the wipe happens before the writer sees the room.
        self.ring.mapping.word64(TAIL_PLACE).store(end.position.0, Ordering::Release);
    }
}
