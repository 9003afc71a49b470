//! The files of a record, as they lie: for each worker its segments by number, and its ring.

use crate::control::drain::{read_ring, ring_paths, segment_name, segments};
use crate::record::reader::Entries;
use crate::record::ring::RingImage;
use crate::record::segment::{ENTRIES_START, Entry, SegmentHeader};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Why nothing was found.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The folder cannot be read.
    Io(io::Error),
    /// The budget was used up before it was known.
    Spent,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the record cannot be read: {error}"),
            Self::Spent => f.write_str("the record is too long to be searched at once"),
        }
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How much one look may read, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    bytes: u64,
    until: Instant,
}

impl Budget {
    /// From now on.
    #[must_use]
    pub fn new(bytes: u64, time: Duration) -> Self {
        Self { bytes, until: Instant::now() + time }
    }

    fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    /// Whether nothing is left.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes == 0 || Instant::now() >= self.until
    }
}

/// One segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    number: u64,
    first_sequence: u64,
    /// When its first entry was made.
    pub(super) first_ns: u64,
}

/// What one worker recorded.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) worker: u32,
    /// By number, so by time.
    pub(super) parts: Vec<Part>,
    ring: Option<usize>,
}

impl Lane {
    pub(super) fn has_ring(&self) -> bool {
        self.ring.is_some()
    }

    /// Where the segment of that number stands.
    pub(super) fn place(&self, number: u64) -> Option<usize> {
        self.parts.iter().position(|part| part.number == number)
    }

    /// The last segment that begins with the entry `sequence` or before it.
    pub(super) fn with(&self, sequence: u64) -> usize {
        self.parts.partition_point(|part| part.first_sequence <= sequence).saturating_sub(1)
    }

    /// Whether the entry `sequence` is in its segments, or follows them.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        self.parts.first().is_some_and(|part| part.first_sequence <= sequence)
    }

    /// The number of the segment there.
    pub(super) fn number(&self, place: usize) -> Option<u64> {
        self.parts.get(place).map(|part| part.number)
    }

    /// How many pieces it has: its segments, the ring with the last of them.
    pub(super) fn pieces(&self) -> usize {
        self.parts.len().max(usize::from(self.ring.is_some()))
    }

    /// The last piece that begins at or before `ns`, or the first.
    pub(super) fn at(&self, ns: u64) -> usize {
        self.parts.partition_point(|part| part.first_ns <= ns).saturating_sub(1)
    }

    /// When a piece begins; 0 for the first, before which there is nothing.
    pub(super) fn begins(&self, piece: usize) -> u64 {
        let part = self.parts.get(piece).filter(|_| piece > 0);
        part.map_or(0, |part| part.first_ns)
    }
}

/// The files of a record, looked at once.
pub(super) struct Shelf {
    dir: PathBuf,
    pub(super) lanes: Vec<Lane>,
    rings: Vec<Vec<u8>>,
}

impl Shelf {
    pub(super) fn open(dir: &Path, budget: &mut Budget) -> Result<Self, ArchiveError> {
        // Rings before segments: what moves meanwhile is then seen twice, not missed.
        let rings: Vec<Vec<u8>> =
            ring_paths(dir).iter().filter_map(|path| read_ring(path).ok()).collect();
        rings.iter().for_each(|ring| budget.take(ring.len()));
        let mut lanes: Vec<Lane> = Vec::new();
        for (worker, number) in segments(dir)? {
            let first = first_entry(&path_of(dir, worker, number));
            let Some((first_sequence, first_ns)) = first else { continue };
            let part = Part { number, first_sequence, first_ns };
            match lanes.last_mut().filter(|lane| lane.worker == worker) {
                Some(lane) => lane.parts.push(part),
                None => lanes.push(Lane { worker, parts: vec![part], ring: None }),
            }
        }
        for (place, bytes) in rings.iter().enumerate() {
            let Ok(image) = RingImage::parse(bytes) else { continue };
            let worker = image.setup().worker;
            match lanes.iter_mut().find(|lane| lane.worker == worker) {
                Some(lane) => lane.ring = Some(place),
                None => lanes.push(Lane { worker, parts: Vec::new(), ring: Some(place) }),
            }
        }
        Ok(Self { dir: dir.to_owned(), lanes, rings })
    }

    /// Hands the entries of one piece of a lane to `each`, in their order. A segment ends at its
    /// first bad entry, which may be one that is being written.
    pub(super) fn read(
        &self,
        lane: &Lane,
        piece: usize,
        budget: &mut Budget,
        mut each: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        let mut next = 0;
        if let Some(part) = lane.parts.get(piece) {
            let bytes = match read_segment(&path_of(&self.dir, lane.worker, part.number)) {
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                read => read?,
            };
            budget.take(bytes.len());
            if let Ok(header) = SegmentHeader::of_file(&bytes) {
                for entry in Entries::new(&bytes, &header).map_while(Result::ok) {
                    next = entry.sequence.saturating_add(1);
                    if each(&entry).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        if piece + 1 >= lane.parts.len() {
            let mut done = false;
            self.ring(lane, |entry| {
                done = done || entry.sequence >= next && each(entry).is_break();
            });
        }
        Ok(())
    }

    /// Hands the entries of a lane's ring to `each`, also those that a segment has meanwhile.
    pub(super) fn ring(&self, lane: &Lane, mut each: impl FnMut(&Entry<'_>)) {
        let bytes = lane.ring.and_then(|place| self.rings.get(place));
        let Some(Ok(image)) = bytes.map(|bytes| RingImage::parse(bytes)) else { return };
        let mut walk = image.entries();
        while let Ok(Some(found)) = walk.step() {
            if let Some(entry) = found.entry() {
                each(&entry);
            }
        }
    }

    /// The file of a segment.
    pub(super) fn path(&self, lane: &Lane, place: usize) -> PathBuf {
        path_of(&self.dir, lane.worker, lane.number(place).unwrap_or_default())
    }
}

fn path_of(dir: &Path, worker: u32, number: u64) -> PathBuf {
    dir.join(format!("{}.seg", segment_name(worker, number)))
}

/// Sequence and time of a segment's first entry, where it has one. Nothing is checked: they only say
/// where to look.
fn first_entry(path: &Path) -> Option<(u64, u64)> {
    let mut head = [0; 24];
    File::open(path).ok()?.read_exact_at(&mut head, ENTRIES_START).ok()?;
    let [sequence, time] = [head.get(8..16)?, head.get(16..)?]
        .map(|bytes| bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)));
    (time > 0).then_some((sequence, time))
}

/// A segment without the zeros that an open one ends with.
fn read_segment(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    loop {
        let from = bytes.len();
        (&mut file).take(STRIDE).read_to_end(&mut bytes)?;
        // No entry is as long as this many zeros: behind them stands none.
        let tail = bytes.len().saturating_sub(ZEROS);
        let fresh = bytes.get(tail.max(from)..).unwrap_or_default();
        if fresh.len() < ZEROS || fresh.iter().all(|byte| *byte == 0) {
            return Ok(bytes);
        }
    }
}

/// How much of a segment is read at a time.
const STRIDE: u64 = 1 << 20;
/// More than the longest entry.
const ZEROS: usize = 128 << 10;
