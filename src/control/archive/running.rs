//! What runs: exchanges of a running gateway that have a beginning in its record, and no end yet.
//!
//! The record is followed: a look reads what came since the look before, so that to look every second
//! costs what is recorded in a second, and the rings. A follower that is far behind, since nobody
//! looked, begins anew near the end, and says from when on it knows everything.

use super::search::Page;
use super::shelf::{ArchiveError, Budget, Lane, Shelf};
use crate::record::reader::Joiner;
use crate::record::segment::{self, ENTRIES_START, Entry, EntryError, SegmentHeader};
use crate::record::summary::Summaries;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// A follower of one record.
#[derive(Debug, Default)]
pub struct Running {
    lanes: HashMap<u32, Followed>,
}

/// One worker's.
#[derive(Debug, Default)]
struct Followed {
    /// The segment that is read, and up to where.
    number: Option<u64>,
    offset: u64,
    /// Sequence of the entry that follows.
    next: u64,
    /// Everything that began since is known.
    since_ns: u64,
    joiner: Joiner,
    open: Summaries,
}

impl Running {
    /// The newest `count` of them that began at `since_ns` or later; `next` says that there are more.
    ///
    /// # Errors
    /// [`ArchiveError::Io`].
    pub fn look(&mut self, dir: &Path, since_ns: u64, count: usize) -> Result<Page, ArchiveError> {
        // What is read is bounded by what is followed.
        let shelf = Shelf::open(dir, &mut Budget::new(u64::MAX, Duration::MAX / 4))?;
        // A worker without a ring is one of an earlier run.
        let lanes = || shelf.lanes.iter().filter(|lane| lane.has_ring());
        self.lanes.retain(|worker, _| lanes().any(|lane| lane.worker == *worker));
        let mut page = Page::default();
        for lane in lanes() {
            let followed = self.lanes.entry(lane.worker).or_default();
            followed.catch_up(&shelf, lane)?;
            page.reached_ns = page.reached_ns.max(followed.since_ns);
            let rows = followed.open.rows();
            let rows = rows.filter(|row| row.opened && row.start_ns >= since_ns);
            page.rows.extend(rows.cloned());
        }
        if page.reached_ns <= since_ns {
            page.reached_ns = 0;
        }
        page.finish(count);
        Ok(page)
    }
}

impl Followed {
    fn catch_up(&mut self, shelf: &Shelf, lane: &Lane) -> Result<(), ArchiveError> {
        if let Some(last) = lane.parts.len().checked_sub(1) {
            // What was seen in the ring need not be read again, be it before there was a segment.
            let known = self.number.and_then(|number| lane.place(number));
            let seen = (known.is_some() || lane.holds(self.next)).then(|| lane.with(self.next));
            let mut at = match seen.map(|seen| seen.max(known.unwrap_or(0))) {
                Some(to) if last - to <= BEHIND_MAX => {
                    if known != Some(to) {
                        self.enter(lane, to);
                    }
                    to
                }
                _ => {
                    let at = last.saturating_sub(BEHIND_MAX);
                    *self = Self { since_ns: lane.begins(at), ..Self::default() };
                    self.enter(lane, at);
                    at
                }
            };
            loop {
                match self.read(&shelf.path(lane, at)) {
                    // Retention was faster.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    read => read?,
                }
                if at >= last {
                    break;
                }
                at += 1;
                self.enter(lane, at);
            }
        }
        shelf.ring(lane, |entry| self.take(lane.worker, entry));
        self.open.forget_closed();
        if self.open.len() > OPEN_MAX {
            // Not what a worker can have at once: what is wrong is not followed further.
            *self = Self {
                since_ns: u64::MAX,
                number: self.number,
                offset: self.offset,
                next: self.next,
                ..Self::default()
            };
        }
        Ok(())
    }

    fn enter(&mut self, lane: &Lane, at: usize) {
        self.number = lane.number(at);
        self.offset = ENTRIES_START;
    }

    /// Reads a segment from where it was left.
    fn read(&mut self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        let mut head = vec![0; usize::try_from(ENTRIES_START).unwrap_or_default()];
        file.read_exact_at(&mut head, 0)?;
        let Ok(header) = SegmentHeader::of_file(&head) else { return Ok(()) };
        let mut bytes = vec![0; STRIDE];
        loop {
            let len = read_at(&file, &mut bytes, self.offset)?;
            let mut rest = bytes.get(..len).unwrap_or_default();
            let mut moved = false;
            let ended = loop {
                match segment::decode_entry(header.id, self.offset, rest) {
                    Ok(Some((entry, whole))) => {
                        self.take(header.worker, &entry);
                        self.offset = self.offset.saturating_add(whole as u64);
                        moved = true;
                        rest = rest.get(whole..).unwrap_or_default();
                    }
                    // It goes on behind what was read.
                    Err(EntryError::Cut) => break !moved,
                    // The end, or an entry that is being written.
                    Ok(None) | Err(_) => break true,
                }
            };
            if ended {
                return Ok(());
            }
        }
    }

    /// Each entry once, though the ring has it before the segment does.
    fn take(&mut self, worker: u32, entry: &Entry<'_>) {
        if entry.sequence < self.next {
            return;
        }
        self.next = entry.sequence.saturating_add(1);
        if let Some(whole) = self.joiner.push(worker, entry) {
            self.open.push(&whole);
            if self.open.len().is_multiple_of(SWEEP) {
                self.open.forget_closed();
            }
        }
    }
}

/// As much as is there.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset.saturating_add(len as u64)) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

/// Segments that a follower reads to catch up.
const BEHIND_MAX: usize = 1;
/// How much of a segment is read at a time: more than the longest entry.
const STRIDE: usize = 1 << 20;
/// After so many exchanges the ended ones are let go.
const SWEEP: usize = 1_024;
/// Exchanges of one worker that are followed.
const OPEN_MAX: usize = 100_000;
