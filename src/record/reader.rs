//! Reading entries: of one segment with exact error offsets, joined from parts, merged over workers.

use crate::record::segment::{self, ENTRIES_START, Entry, EntryError, SegmentHeader};
use crate::record::{EntryMeta, Flags, Kind};

/// Walks the entries of a segment file; ends after the first error.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    header: SegmentHeader,
    offset: u64,
    sequence: u64,
    time_ns: u64,
    rolled: bool,
    failed: bool,
}

/// Where and why a walk stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEntry {
    /// Where the bad entry begins in the segment file.
    pub offset: u64,
    /// The sequence that should stand there.
    pub sequence: u64,
    /// What is wrong.
    pub what: EntryError,
}

impl<'a> Entries<'a> {
    /// Over a whole segment file with its header read before.
    #[must_use]
    pub fn new(bytes: &'a [u8], header: &SegmentHeader) -> Self {
        Self {
            bytes,
            header: header.clone(),
            offset: ENTRIES_START,
            sequence: header.first_sequence,
            time_ns: 0,
            rolled: false,
            failed: false,
        }
    }

    /// Behind the last good entry.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence that must follow.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Time of the last good entry, 0 before the first.
    #[must_use]
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// Whether the walk came to the roll entry, behind which nothing may stand.
    #[must_use]
    pub fn rolled(&self) -> bool {
        self.rolled
    }

    fn step(&self) -> Result<Option<(Entry<'a>, usize)>, EntryError> {
        let start = usize::try_from(self.offset).map_err(|_| EntryError::Cut)?;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let read = segment::decode_entry(self.header.id, self.offset, rest)?;
        if let Some((entry, _)) = &read {
            if entry.sequence != self.sequence {
                return Err(EntryError::Sequence);
            }
            if entry.time_ns <= self.time_ns {
                return Err(EntryError::Time);
            }
        }
        Ok(read)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, BadEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.rolled {
            return None;
        }
        match self.step() {
            Ok(None) => None,
            Ok(Some((entry, whole))) => {
                self.offset += whole as u64;
                self.sequence = self.sequence.saturating_add(1);
                self.time_ns = entry.time_ns;
                self.rolled = entry.meta.kind == Kind::Roll;
                Some(Ok(entry))
            }
            Err(what) => {
                self.failed = true;
                Some(Err(BadEntry { offset: self.offset, sequence: self.sequence, what }))
            }
        }
    }
}

/// An entry that stands on its own, its parts joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedEntry {
    /// Whose journal.
    pub worker: u32,
    /// Sequence of the (first) entry.
    pub sequence: u64,
    /// Hybrid clock of the (first) entry.
    pub time_ns: u64,
    /// What the session said.
    pub meta: EntryMeta,
    /// The body.
    pub body: Vec<u8>,
}

/// Joins the entries of one worker, in order, into whole ones.
#[derive(Debug, Default)]
pub struct Joiner {
    open: Option<OwnedEntry>,
}

impl Joiner {
    /// With nothing in hand.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry; yields one that is whole by it.
    ///
    /// A body whose later parts never came (the process died there) is dropped: it was not
    /// acknowledged. Roll entries may stand between parts and are skipped.
    pub fn push(&mut self, worker: u32, entry: &Entry<'_>) -> Option<OwnedEntry> {
        let flags = entry.meta.flags;
        if entry.meta.kind == Kind::Roll {
            return None;
        }
        let mut whole = if flags.has(Flags::CONTINUED) {
            let mut open = self.open.take()?;
            if open.meta.exchange != entry.meta.exchange || open.meta.kind != entry.meta.kind {
                return None;
            }
            open.body.extend_from_slice(entry.body);
            open
        } else {
            OwnedEntry {
                worker,
                sequence: entry.sequence,
                time_ns: entry.time_ns,
                meta: entry.meta,
                body: entry.body.to_vec(),
            }
        };
        if flags.has(Flags::MORE) {
            self.open = Some(whole);
            return None;
        }
        self.open = None;
        whole.meta.flags = Flags(whole.meta.flags.0 & !Flags::MORE.0);
        Some(whole)
    }
}

/// Brings the entries of several workers into one order: hybrid clock, worker, sequence.
///
/// Each list must be in its own order, as every journal is. What one exchange did stays in order,
/// since it lives on one worker.
#[must_use]
pub fn merge(workers: Vec<Vec<OwnedEntry>>) -> Vec<OwnedEntry> {
    let mut all: Vec<OwnedEntry> = workers.into_iter().flatten().collect();
    all.sort_by_key(|entry| (entry.time_ns, entry.worker, entry.sequence));
    all
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{ConnectionId, ExchangeId, Now};
    use crate::record::segment::{EntryHeader, HEADER_LEN, SegmentId, encode_entry};

    fn segment(bodies: &[&[u8]]) -> (Vec<u8>, SegmentHeader) {
        let header = SegmentHeader {
            worker: 0,
            id: SegmentId([4; 16]),
            number: 1,
            first_sequence: 10,
            boot: [0; 16],
            anchor: Now::default(),
            policy: [0; 32],
            key: [0; 32],
            previous_root: [0; 32],
            segment_bytes: 1 << 20,
        };
        let mut bytes = [header.encode(), header.encode()].concat();
        for (sequence, body) in (10..).zip(bodies) {
            let meta = EntryMeta::new(Kind::Data, ConnectionId(1), ExchangeId(2));
            let entry = EntryHeader { sequence, time_ns: sequence * 5, meta, part: 0 };
            let offset = bytes.len() as u64;
            encode_entry(header.id, offset, &entry, body, &mut bytes);
        }
        (bytes, header)
    }

    #[test]
    fn a_segment_cut_at_any_byte_yields_its_whole_entries_and_names_the_cut_one() {
        let (bytes, header) = segment(&[b"one", &[7; 100], b"", b"four"]);
        let whole = Entries::new(&bytes, &header).count();
        assert_eq!(whole, 4);
        for cut in 2 * HEADER_LEN..bytes.len() {
            let mut walk = Entries::new(&bytes[..cut], &header);
            let read: Vec<_> = walk.by_ref().collect();
            let good = read.iter().filter(|r| r.is_ok()).count();
            assert!(good < 4);
            match read.last() {
                Some(Err(bad)) => {
                    assert_eq!(bad.what, EntryError::Cut);
                    assert_eq!(bad.offset, walk.offset());
                    assert_eq!(bad.sequence, 10 + good as u64);
                }
                _ => assert_eq!(walk.offset(), cut as u64, "only a cut between entries is clean"),
            }
        }
    }

    #[test]
    fn a_removed_or_repeated_entry_is_found() {
        let (bytes, header) = segment(&[b"a", b"b", b"c"]);
        let mut gone = bytes.clone();
        gone.drain(8192 + 128..8192 + 256);
        let bad = Entries::new(&gone, &header).find_map(Result::err).unwrap();
        assert_eq!((bad.offset, bad.sequence, bad.what), (8192 + 128, 11, EntryError::Crc));
        let id = header.id;
        let meta = EntryMeta::new(Kind::Data, ConnectionId(1), ExchangeId(2));
        let mut twice = bytes;
        let offset = twice.len() as u64;
        let entry = EntryHeader { sequence: 12, time_ns: 99, meta, part: 0 };
        encode_entry(id, offset, &entry, b"c", &mut twice);
        let bad = Entries::new(&twice, &header).find_map(Result::err).unwrap();
        assert_eq!(bad.what, EntryError::Sequence);
    }

    #[test]
    fn parts_join_and_workers_merge_by_time() {
        let (bytes, header) = segment(&[b"ab", b"cd", b"ef"]);
        let mut joiner = Joiner::new();
        let mut out = Vec::new();
        let flags = [Flags::MORE, Flags::CONTINUED.with(Flags::MORE), Flags::CONTINUED];
        for (entry, flags) in Entries::new(&bytes, &header).zip(flags) {
            let mut entry = entry.unwrap();
            entry.meta.flags = flags;
            out.extend(joiner.push(0, &entry));
        }
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].body.as_slice(), out[0].sequence), (&b"abcdef"[..], 10));
        let mut later = out[0].clone();
        later.worker = 1;
        later.time_ns -= 1;
        let merged = merge(vec![out.clone(), vec![later.clone()]]);
        assert_eq!(merged, [later, out[0].clone()]);
    }
}
