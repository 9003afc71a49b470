//! The writer's half of a ring.

use std::sync::atomic::Ordering;

use super::{BLOCK, Ring};
use crate::base::Now;
use crate::record::ring::{Cursor, RingSetup, SHUT_PLACE, TAIL_PLACE};
use crate::record::segment::{self, ENTRY_HEADER_LEN, EntryHeader, SegmentId, padded};
use crate::record::{BODY_MAX, EntryMeta, Flags, Full, Journal, Kind, Position};

/// The part of a ring that is one share of its reserve; see [`Kind::shares_kept`].
const SHARE_PART: u64 = 16;

/// The writer's half: a worker's journal. There is one for each ring.
#[derive(Debug)]
pub struct RingJournal {
    ring: Ring,
    stream: [u8; 16],
    segment_bytes: u64,
    cursor: Cursor,
    id: SegmentId,
    /// The drain's tail as last seen.
    tail: u64,
    time_ns: u64,
    share: u64,
    /// When the segment's first entry was appended; 0 before it.
    began_ns: u64,
    roll_ns: u64,
}

impl RingJournal {
    /// Begins at `start`.
    pub(super) fn new(ring: Ring, setup: &RingSetup, start: Cursor) -> Self {
        Self {
            ring,
            stream: setup.stream,
            segment_bytes: setup.segment_bytes,
            cursor: start,
            id: SegmentId::of(setup.stream, start.number),
            tail: 0,
            time_ns: 0,
            share: setup.ring_bytes / SHARE_PART,
            began_ns: 0,
            roll_ns: u64::MAX,
        }
    }

    /// Goes on in the next segment when the present one is older than `ms`; retention by age needs
    /// segments that end.
    pub fn roll_after_ms(&mut self, ms: u64) {
        self.roll_ns = ms.saturating_mul(1_000_000);
    }

    /// Behind the last entry.
    #[must_use]
    pub fn position(&self) -> Position {
        self.cursor.position
    }

    fn free(&mut self) -> u64 {
        // Acquire: the drain's wipe of what lies before the tail happened before.
        self.tail = self.ring.mapping.word64(TAIL_PLACE).load(Ordering::Acquire);
        self.ring.bytes - (self.cursor.position.0 - self.tail)
    }

    /// Makes sure that `need` bytes are free; looks at the shared tail only when it has to.
    fn take(&mut self, kind: Kind, need: u64) -> Result<(), Full> {
        let need = need + kind.shares_kept() * self.share;
        // Without a drain nothing would ever leave the ring: the record is over.
        if self.ring.mapping.word64(SHUT_PLACE).load(Ordering::Acquire) != 0 {
            return Err(Full);
        }
        if self.ring.bytes - (self.cursor.position.0 - self.tail) >= need || self.free() >= need {
            Ok(())
        } else {
            Err(Full)
        }
    }

    /// Writes one entry whose room is sure; `source` yields its `body` bytes.
    fn put<'a, I>(&mut self, header: &EntryHeader, body: usize, source: &mut Source<'a, I>)
    where
        I: Iterator<Item = &'a [u8]>,
    {
        let head = header.encode();
        // At most ENTRY_LEN_MAX.
        let len = (ENTRY_HEADER_LEN + body) as u32;
        let start = self.cursor.position.0;
        let mut crc = segment::crc_start(self.id, self.cursor.offset, len, &head);
        let mut at = start + ENTRY_HEADER_LEN as u64;
        let mut left = body;
        while left > 0 {
            let block = source.next_block(left);
            if block.is_empty() {
                debug_assert!(false, "the body is shorter than it said");
                break;
            }
            crc = crc32c::crc32c_append(crc, block);
            self.ring.write(at, block);
            at += block.len() as u64;
            left -= block.len();
        }
        // A position is a multiple of 64 and so is the ring, so a header never wraps.
        self.ring.write(start + 4, &crc.to_le_bytes());
        self.ring.write(start + 8, head.get(8..).unwrap_or_default());
        self.ring.commit_word(start).store(len, Ordering::Release);
        self.cursor = self.cursor.after(padded(body) as u64, header.meta.kind);
        self.ring.advance(self.cursor.position.0);
    }

    fn header(&mut self, meta: EntryMeta, part: u32, now: Now) -> EntryHeader {
        self.time_ns = now.wall_ns.max(self.time_ns + 1);
        EntryHeader { sequence: self.cursor.sequence, time_ns: self.time_ns, meta, part }
    }

    #[cold]
    fn roll(&mut self, now: Now) {
        let meta =
            EntryMeta::new(Kind::Roll, crate::base::ConnectionId(0), crate::base::ExchangeId(0));
        let header = self.header(meta, 0, now);
        self.put(&header, 0, &mut Source::new(std::iter::empty()));
        self.id = SegmentId::of(self.stream, self.cursor.number);
        self.began_ns = 0;
    }
}

/// The body as blocks of at most [`BLOCK`] bytes.
struct Source<'a, I> {
    slices: I,
    rest: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Source<'a, I> {
    fn new(slices: I) -> Self {
        Self { slices, rest: &[] }
    }

    fn next_block(&mut self, max: usize) -> &'a [u8] {
        while self.rest.is_empty() {
            match self.slices.next() {
                Some(slice) => self.rest = slice,
                None => return &[],
            }
        }
        let len = self.rest.len().min(BLOCK).min(max);
        let (block, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        block
    }
}

impl Journal for RingJournal {
    fn room(&mut self, kind: Kind) -> u64 {
        self.free().saturating_sub(kind.shares_kept() * self.share)
    }

    fn append<'a, I>(&mut self, meta: EntryMeta, body: I, now: Now) -> Result<Position, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let total: usize = body.clone().map(<[u8]>::len).sum();
        let parts = total.div_ceil(BODY_MAX).max(1);
        // Every part but the last is full; each may need a roll entry before it.
        let last = total - (parts - 1) * BODY_MAX;
        let need = (parts - 1) * padded(BODY_MAX) + padded(last) + parts * ENTRY_HEADER_LEN;
        self.take(meta.kind, need as u64)?;
        let mut source = Source::new(body);
        for part in 0..parts {
            let len = if part + 1 < parts { BODY_MAX } else { last };
            let mut meta = meta;
            if part > 0 {
                meta.flags = meta.flags.with(Flags::CONTINUED);
            }
            if part + 1 < parts {
                meta.flags = meta.flags.with(Flags::MORE);
            }
            // Room for the roll entry stays at the end of each segment.
            let end = self.cursor.offset + (padded(len) + ENTRY_HEADER_LEN) as u64;
            let old = self.began_ns.saturating_add(self.roll_ns) <= now.wall_ns;
            if end > self.segment_bytes || (old && self.began_ns > 0) {
                self.roll(now);
            }
            if self.began_ns == 0 {
                self.began_ns = now.wall_ns;
            }
            let header = self.header(meta, u32::try_from(part).unwrap_or(u32::MAX), now);
            self.put(&header, len, &mut source);
        }
        Ok(self.cursor.position)
    }
}
