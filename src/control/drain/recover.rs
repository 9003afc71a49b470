//! What a start does with the record of a process that died: rings drained, segments closed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DrainError;
use super::files::{Reopened, SegmentFile, Spare, WRITE_MAX, segment_name, segments};
use super::home::{Home, boot_id, ring_paths};
use super::storage::{Files, Storage};
use crate::base::Now;
use crate::record::Kind;
use crate::record::proof::{CHECKPOINT_LEN, Checkpoint, Record, Records, State};
use crate::record::ring::{DATA_START, RingImage};
use crate::record::segment::{self, SegmentHeader, SegmentId};
use crate::record::tree::Digest;

/// Where a worker's next segment begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Next {
    pub(super) number: u64,
    pub(super) sequence: u64,
    pub(super) previous_root: Digest,
}

impl Next {
    pub(super) const FIRST: Self = Self { number: 0, sequence: 1, previous_root: [0; 32] };

    pub(super) fn behind(checkpoint: &Checkpoint) -> Self {
        Self {
            number: checkpoint.number + 1,
            sequence: checkpoint.next_sequence,
            previous_root: checkpoint.root,
        }
    }
}

/// What a recovery did, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Entries that were only in a ring.
    pub ring_entries: u64,
    /// Segments that were closed.
    pub closed: u64,
    /// Bytes behind the last entries that were cut off (torn by a power loss).
    pub dropped: u64,
    /// Segments and rings that are damaged and were left as they are.
    pub damaged: u64,
    /// Rings of a process that was killed that are not there any more.
    pub lost_rings: u64,
}

/// The closing checkpoint of a segment, without reading the segment.
pub(super) fn closing_checkpoint(dir: &Path, worker: u32, number: u64) -> Option<Checkpoint> {
    let file = File::open(dir.join(format!("{}.proof", segment_name(worker, number)))).ok()?;
    let start = file.metadata().ok()?.len().checked_sub(CHECKPOINT_LEN as u64)?;
    let mut bytes = [0; CHECKPOINT_LEN];
    file.read_exact_at(&mut bytes, start).ok()?;
    match Records::new(&bytes).next()?.ok()? {
        Record::Checkpoint(checkpoint, _) if checkpoint.state != State::Open => Some(checkpoint),
        _ => None,
    }
}

/// The last tombstone of a worker.
fn last_tomb(dir: &Path, worker: u32) -> Option<Checkpoint> {
    let bytes = std::fs::read(tombs_path(dir, worker)).ok()?;
    let mut last = None;
    for record in Records::new(&bytes).map_while(Result::ok) {
        if let Record::Checkpoint(checkpoint, _) = record {
            last = Some(checkpoint);
        }
    }
    last
}

/// The file of a worker's tombstones.
#[must_use]
pub fn tombs_path(dir: &Path, worker: u32) -> PathBuf {
    dir.join(format!("w{worker:02}.tombs"))
}

/// Closes everything that is open, drains rings first, and removes them.
pub(super) fn recover(
    home: &Home,
    now: Now,
) -> Result<(BTreeMap<u32, Next>, Recovered), DrainError> {
    let dir = &home.dir;
    let list = |e| DrainError::io("list", dir, e);
    let mut workers: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for (worker, number) in segments(dir).map_err(list)? {
        workers.entry(worker).or_default().push(number);
    }
    for entry in std::fs::read_dir(dir).map_err(list)?.flatten() {
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if let Some(stem) = name.strip_suffix(".next") {
            std::fs::remove_file(entry.path()).map_err(list)?;
            tracing::debug!(spare = stem, "a spare segment of a dead process is removed");
        } else if let Some(worker) = name.strip_suffix(".tombs").and_then(|w| w.strip_prefix('w')) {
            workers.entry(worker.parse().unwrap_or(0)).or_default();
        }
    }
    let mut done = Recovered::default();
    let mut rings: BTreeMap<u32, (PathBuf, Vec<u8>)> = BTreeMap::new();
    for path in ring_paths(dir) {
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // After a stop in order, the worker's segments are closed and its ring removed.
                let worker = ring_worker(&path);
                let last = worker.and_then(|worker| Some((worker, *workers.get(&worker)?.last()?)));
                done.lost_rings += u64::from(last.is_some_and(|(worker, number)| {
                    closing_checkpoint(dir, worker, number).is_none()
                }));
                continue;
            }
            Err(e) => return Err(DrainError::io("read the ring", &path, e)),
        };
        match RingImage::parse(&bytes) {
            Ok(image) => {
                let worker = image.setup().worker;
                workers.entry(worker).or_default();
                rings.insert(worker, (path, bytes));
            }
            // The process died while it made the ring: nothing was ever committed.
            Err(_) if bytes.iter().skip(DATA_START).all(|byte| *byte == 0) => {
                remove_ring(&path)?;
            }
            Err(e) => {
                tracing::error!(path = %path.display(), error = ?e, "a ring cannot be read");
                set_aside(&path)?;
                done.damaged += 1;
            }
        }
    }
    let mut next = BTreeMap::new();
    for (worker, numbers) in workers {
        let image = match rings.get(&worker) {
            Some((_, bytes)) => RingImage::parse(bytes).ok(),
            None => None,
        };
        let mut one = Worker { home, worker, now, next: Next::FIRST, done: &mut done };
        if let Some(tomb) = last_tomb(dir, worker) {
            one.next = Next::behind(&tomb);
        }
        let clean = one.run(&numbers, image)?;
        next.insert(worker, one.next);
        if let Some((path, _)) = rings.get(&worker) {
            if clean { remove_ring(path)? } else { set_aside(path)? }
        }
    }
    Ok((next, done))
}

/// Whose ring a file is, by its name.
fn ring_worker(path: &Path) -> Option<u32> {
    path.file_stem()?.to_str()?.rsplit_once("-w")?.1.parse().ok()
}

/// Keeps a ring that could not be drained as a whole, under another name.
fn set_aside(path: &Path) -> Result<(), DrainError> {
    let aside = path.with_extension("damaged");
    std::fs::rename(path, &aside).map_err(|e| DrainError::io("set aside", path, e))
}

fn remove_ring(path: &Path) -> Result<(), DrainError> {
    std::fs::remove_file(path).map_err(|e| DrainError::io("remove the drained ring", path, e))
}

/// The recovery of one worker's record.
struct Worker<'a> {
    home: &'a Home,
    worker: u32,
    now: Now,
    next: Next,
    done: &'a mut Recovered,
}

impl Worker<'_> {
    /// Returns whether the ring is drained as a whole.
    fn run(&mut self, numbers: &[u64], ring: Option<RingImage<'_>>) -> Result<bool, DrainError> {
        let from = ring.map_or(u64::MAX, |ring| ring.cursor().number);
        let damaged = self.done.damaged;
        let mut open = None;
        for number in numbers.iter().copied() {
            // A segment that has a follower gets no more, whatever the ring says.
            if let Some((segment, dropped)) = open.take() {
                self.close(segment, dropped)?;
            }
            if let Some(checkpoint) = closing_checkpoint(&self.home.dir, self.worker, number) {
                self.next = Next::behind(&checkpoint);
                continue;
            }
            match self.reopen(number)? {
                Some(found) if number >= from => open = Some(found),
                Some((segment, dropped)) => self.close(segment, dropped)?,
                None => {}
            }
        }
        let Some(ring) = ring else { return Ok(true) };
        if self.done.damaged > damaged {
            // The ring may belong behind what is damaged: it is kept beside it.
            return Ok(false);
        }
        self.replay(&ring, open)
    }

    fn reopen(&mut self, number: u64) -> Result<Option<(Box<SegmentFile>, u64)>, DrainError> {
        let dir = &self.home.dir;
        let path = dir.join(segment_name(self.worker, number));
        let read = SegmentFile::reopen(dir, self.worker, number);
        match read.map_err(|e| DrainError::io("recover", &path, e))? {
            Reopened::Open(segment, dropped) => Ok(Some((segment, dropped))),
            Reopened::Closed(checkpoint) => {
                self.next = Next::behind(&checkpoint);
                Ok(None)
            }
            Reopened::Damaged { root, next_sequence } => {
                tracing::error!(path = %path.display(), "damaged: run `weirgate verify`");
                self.done.damaged += 1;
                self.next =
                    Next { number: number + 1, sequence: next_sequence, previous_root: root };
                Ok(None)
            }
        }
    }

    fn close(&mut self, mut segment: Box<SegmentFile>, dropped: u64) -> Result<(), DrainError> {
        let state = if segment.rolled() && dropped == 0 { State::Closed } else { State::Recovered };
        let number = segment.header().number;
        let closed = segment.close(&self.home.pair, self.now.wall_ns, state, dropped);
        let checkpoint = closed.map_err(|e| {
            let name = segment_name(self.worker, number);
            DrainError::io("close", &self.home.dir.join(name), e)
        })?;
        self.next = Next::behind(&checkpoint);
        self.done.closed += 1;
        self.done.dropped += dropped;
        Ok(())
    }

    fn replay(
        &mut self,
        ring: &RingImage<'_>,
        mut open: Option<(Box<SegmentFile>, u64)>,
    ) -> Result<bool, DrainError> {
        let mut entries = ring.entries();
        let mut batch: Vec<u8> = Vec::new();
        let mut clean = true;
        loop {
            let found = match entries.step() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(e) if ring.setup().boot != boot_id() => {
                    // A ring on a disk, and the machine went down: its last pages were never
                    // written. Beyond the drain window nothing was promised for that.
                    tracing::warn!(worker = self.worker, error = e.text(), "a ring ends torn");
                    break;
                }
                Err(e) => {
                    tracing::error!(worker = self.worker, error = e.text(), "a ring is damaged");
                    self.done.damaged += 1;
                    clean = false;
                    break;
                }
            };
            let at = found.cursor;
            if at.number < self.next.number {
                // Its segment is closed: a drain or a recovery that died was further than the
                // cursor, perhaps by some segments.
                continue;
            }
            if open.is_none() {
                open = Some((self.create(ring, at.number)?, 0));
            }
            let Some((segment, dropped)) = &mut open else { continue };
            let end = segment.end() + batch.len() as u64;
            if segment.header().number != at.number || at.offset > end {
                tracing::error!(worker = self.worker, "the ring does not follow its segment");
                self.done.damaged += 1;
                clean = false;
                break;
            }
            if at.offset == end {
                // What stood behind the end is written over by the entry itself.
                *dropped = 0;
                batch.extend_from_slice(&found.bytes);
                self.done.ring_entries += 1;
            }
            let rolled = found.entry().is_some_and(|entry| entry.meta.kind == Kind::Roll);
            if rolled || batch.len() >= WRITE_MAX / 2 {
                self.flush(segment, &mut batch)?;
            }
            if rolled && let Some((segment, dropped)) = open.take() {
                self.close(segment, dropped)?;
            }
        }
        if let Some((mut segment, dropped)) = open {
            self.flush(&mut segment, &mut batch)?;
            self.close(segment, dropped)?;
        }
        Ok(clean)
    }

    fn flush(&self, segment: &mut SegmentFile, batch: &mut Vec<u8>) -> Result<(), DrainError> {
        if !batch.is_empty() {
            let fail = |e| DrainError::io("drain a dead process into", &self.home.dir, e);
            let (room, spans) = segment.room();
            room.extend_from_slice(batch);
            spans.extend(segment::spans(batch));
            segment.commit().map_err(fail)?;
            batch.clear();
        }
        Ok(())
    }

    /// The segment that the dead process was about to make.
    fn create(&self, ring: &RingImage<'_>, number: u64) -> Result<Box<SegmentFile>, DrainError> {
        let setup = ring.setup();
        let header = SegmentHeader {
            worker: self.worker,
            id: SegmentId::of(setup.stream, number),
            number,
            first_sequence: self.next.sequence,
            boot: boot_id(),
            anchor: self.now,
            policy: [0; 32],
            key: self.home.key,
            previous_root: self.next.previous_root,
            segment_bytes: setup.segment_bytes,
        };
        let storage: Arc<dyn Storage> = Arc::new(Files);
        Spare::create(&self.home.dir, self.worker, setup.segment_bytes, true, &storage)
            .and_then(|spare| SegmentFile::create(&self.home.dir, spare, header))
            .map(Box::new)
            .map_err(|e| DrainError::io("make a segment in", &self.home.dir, e))
    }
}
