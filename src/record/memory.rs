//! A journal in memory, for tests of sessions.

use crate::base::Now;
use crate::record::{BODY_MAX, EntryMeta, Flags, Full, Journal, Kind, Position, segment};

/// One entry that a [`MemoryJournal`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryEntry {
    /// Counts from 1.
    pub sequence: u64,
    /// What the session said.
    pub meta: EntryMeta,
    /// When.
    pub now: Now,
    /// The whole body of this entry.
    pub body: Vec<u8>,
}

/// Keeps entries in a list. Bodies are split as in a real journal.
#[derive(Clone, Debug, Default)]
pub struct MemoryJournal {
    entries: Vec<MemoryEntry>,
    /// Of the last entry that was appended.
    sequence: u64,
    position: u64,
    room: Option<u64>,
    share: u64,
}

impl MemoryJournal {
    /// Without a bound.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `bytes` and is full then.
    #[must_use]
    pub fn with_room(bytes: u64) -> Self {
        Self { room: Some(bytes), ..Self::default() }
    }

    /// Sets the room that is left; `None`: no bound.
    pub fn set_room(&mut self, bytes: Option<u64>) {
        self.room = bytes;
    }

    /// Keeps shares of `bytes` free, as [`Kind::shares_kept`] says.
    pub fn set_share(&mut self, bytes: u64) {
        self.share = bytes;
    }

    /// Behind the last entry.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// What was appended, in order.
    #[must_use]
    pub fn entries(&self) -> &[MemoryEntry] {
        &self.entries
    }

    /// Forgets the entries; sequences and positions go on.
    pub fn take(&mut self) -> Vec<MemoryEntry> {
        std::mem::take(&mut self.entries)
    }
}

impl Journal for MemoryJournal {
    fn append<'a, I>(&mut self, meta: EntryMeta, body: I, now: Now) -> Result<Position, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let bytes: Vec<u8> = body.flatten().copied().collect();
        let parts: Vec<&[u8]> =
            if bytes.is_empty() { vec![&[]] } else { bytes.chunks(BODY_MAX).collect() };
        let need: u64 = parts.iter().map(|part| segment::padded(part.len()) as u64).sum();
        if let Some(room) = &mut self.room {
            let left = room.checked_sub(need).ok_or(Full)?;
            if left < self.share * meta.kind.shares_kept() {
                return Err(Full);
            }
            *room = left;
        }
        let last = parts.len() - 1;
        for (index, part) in parts.into_iter().enumerate() {
            let mut meta = meta;
            if index > 0 {
                meta.flags = meta.flags.with(Flags::CONTINUED);
            }
            if index < last {
                meta.flags = meta.flags.with(Flags::MORE);
            }
            self.sequence += 1;
            let sequence = self.sequence;
            self.entries.push(MemoryEntry { sequence, meta, now, body: part.to_vec() });
        }
        self.position += need;
        Ok(Position(self.position))
    }

    fn room(&mut self, kind: Kind) -> u64 {
        let kept = self.share * kind.shares_kept();
        self.room.map_or(u64::MAX, |room| room.saturating_sub(kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ConnectionId, ExchangeId};

    #[test]
    fn sequences_and_positions_go_on_when_the_entries_are_taken() {
        let meta = EntryMeta::new(Kind::Open, ConnectionId(1), ExchangeId(2));
        let mut journal = MemoryJournal::new();
        let append = |journal: &mut MemoryJournal| {
            journal.append(meta, [&b"x"[..]].into_iter(), Now::default())
        };
        let first = append(&mut journal).map(|position| position.0);
        assert_eq!(append(&mut journal).map(|position| position.0), first.map(|at| 2 * at));
        assert_eq!(journal.take().last().map(|entry| entry.sequence), Some(2));
        assert!(journal.entries().is_empty() && journal.take().is_empty());
        assert_eq!(append(&mut journal).map(|position| position.0), first.map(|at| 3 * at));
        assert_eq!(journal.entries().last().map(|entry| entry.sequence), Some(3));
    }

    #[test]
    fn long_bodies_are_split_and_a_full_journal_takes_nothing() {
        let meta = EntryMeta::new(Kind::RequestBody, ConnectionId(1), ExchangeId(2));
        let long = vec![7u8; 2 * BODY_MAX + 1];
        let mut journal = MemoryJournal::new();
        let end = journal.append(meta, [&long[..]].into_iter(), Now::default());
        assert!(end.is_ok());
        let flags: Vec<u16> = journal.entries().iter().map(|e| e.meta.flags.0).collect();
        assert_eq!(flags, [2, 3, 1]);
        assert_eq!(journal.entries().iter().map(|e| e.body.len()).sum::<usize>(), long.len());
        let mut small = MemoryJournal::with_room(128);
        assert_eq!(small.append(meta, [&b"x"[..]].into_iter(), Now::default()), Ok(Position(128)));
        assert_eq!(small.append(meta, std::iter::empty(), Now::default()), Err(Full));
        assert_eq!(small.entries().len(), 1);
        small.set_room(Some(300));
        small.set_share(110);
        let mut takes = |kind| {
            let meta = EntryMeta { kind, ..meta };
            small.append(meta, std::iter::empty(), Now::default()).is_ok()
        };
        let kinds = [Kind::Data, Kind::Data, Kind::Open, Kind::Open, Kind::Gap, Kind::Gap];
        assert_eq!(kinds.map(&mut takes), [true, false, true, false, true, true]);
    }
}
