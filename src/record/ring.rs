//! The ring file: how a worker's journal stands in memory, and how to read one that was left.
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `WGRING01` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | worker |
//! | 16 | 8 | bytes of the ring, a multiple of 4096 |
//! | 24 | 8 | most bytes of a segment file |
//! | 32 | 16 | stream id, random |
//! | 48 | 16 | boot id |
//! | 64 | 8 | process id of the writer |
//! | 508 | 4 | CRC32C of bytes 0..508 |
//! | 1024 | 8 | **tail**: all before it is wiped and may be written again |
//! | 1088 | 8 | **generation**: bit 0 names the valid one of the two cursors |
//! | 1152 | 32 | cursor 0: position, segment number, offset in the segment, sequence to come |
//! | 1216 | 32 | cursor 1 |
//! | 1280 | 8 | **shut**: not 0 when the drain has ended; nothing may be appended |
//! | 4096 | .. | entries; position `p` of the stream stands at `4096 + p % bytes` |
//!
//! The cursor says up to where entries are in segment files. The drain writes the cursor that is
//! not valid, stores the generation, wipes what it drained, and only then stores the tail. So at
//! any instant: what lies from the cursor to `tail + bytes` is entries that are committed, then a
//! zero commit word. A reader needs nothing else, whenever the process was killed.

use crate::record::segment::{
    self, ENTRIES_START, ENTRY_LEN_MAX, Entry, EntryError, SegmentId, array_at, put, u32_at, u64_at,
};
use crate::record::{Kind, Position};

/// Where the entries of a ring file begin.
pub const DATA_START: usize = 4096;
/// Smallest ring: it must hold a long body in parts.
pub const RING_BYTES_MIN: u64 = 1 << 20;
/// Smallest segment file.
pub const SEGMENT_BYTES_MIN: u64 = 256 << 10;
/// Place of the tail.
pub const TAIL_PLACE: usize = 1024;
/// Place of the generation.
pub const GENERATION_PLACE: usize = 1088;
/// Places of the two cursors.
pub const CURSOR_PLACES: [usize; 2] = [1152, 1216];
/// Place of the mark that the drain has ended.
pub const SHUT_PLACE: usize = 1280;

const MAGIC: &[u8; 8] = b"WGRING01";
const CRC_PLACE: usize = 508;

/// What a ring is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSetup {
    /// Whose ring.
    pub worker: u32,
    /// Bytes of the ring: a multiple of 4096, at least [`RING_BYTES_MIN`].
    pub ring_bytes: u64,
    /// Most bytes of a segment file: a multiple of 4096, at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// Random; segment ids follow from it.
    pub stream: [u8; 16],
    /// The machine's boot.
    pub boot: [u8; 16],
    /// The writing process.
    pub process: u64,
}

/// A place in the stream of one worker and in its segment files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Bytes since the ring was made.
    pub position: Position,
    /// The segment that the next entry belongs to.
    pub number: u64,
    /// Its place there.
    pub offset: u64,
    /// Sequence of the next entry.
    pub sequence: u64,
}

impl Cursor {
    /// The start of a stream whose first segment is `number`.
    #[must_use]
    pub fn start(number: u64, sequence: u64) -> Self {
        Self { position: Position(0), number, offset: ENTRIES_START, sequence }
    }

    /// Behind an entry of `whole` bytes; behind a roll entry is the start of the next segment.
    #[must_use]
    pub fn after(self, whole: u64, kind: Kind) -> Self {
        let position = Position(self.position.0 + whole);
        let sequence = self.sequence + 1;
        if kind == Kind::Roll {
            Self { position, number: self.number + 1, offset: ENTRIES_START, sequence }
        } else {
            Self { position, offset: self.offset + whole, sequence, ..self }
        }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        put(&mut bytes, 0, &self.position.0.to_le_bytes());
        put(&mut bytes, 8, &self.number.to_le_bytes());
        put(&mut bytes, 16, &self.offset.to_le_bytes());
        put(&mut bytes, 24, &self.sequence.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], place: usize) -> Self {
        Self {
            position: Position(u64_at(bytes, place)),
            number: u64_at(bytes, place + 8),
            offset: u64_at(bytes, place + 16),
            sequence: u64_at(bytes, place + 24),
        }
    }
}

impl RingSetup {
    /// The first 512 bytes of a ring file.
    #[must_use]
    pub fn encode(&self) -> [u8; 512] {
        let mut bytes = [0; 512];
        put(&mut bytes, 0, MAGIC);
        put(&mut bytes, 8, &segment::VERSION.to_le_bytes());
        put(&mut bytes, 12, &self.worker.to_le_bytes());
        put(&mut bytes, 16, &self.ring_bytes.to_le_bytes());
        put(&mut bytes, 24, &self.segment_bytes.to_le_bytes());
        put(&mut bytes, 32, &self.stream);
        put(&mut bytes, 48, &self.boot);
        put(&mut bytes, 64, &self.process.to_le_bytes());
        let crc = crc32c::crc32c(bytes.get(..CRC_PLACE).unwrap_or_default());
        put(&mut bytes, CRC_PLACE, &crc.to_le_bytes());
        bytes
    }

    /// Whether the sizes are possible.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.ring_bytes >= RING_BYTES_MIN
            && self.ring_bytes.is_multiple_of(4096)
            && self.segment_bytes >= SEGMENT_BYTES_MIN
            && self.segment_bytes.is_multiple_of(4096)
    }
}

/// Why a ring file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// Shorter than its header says; so is a ring that was never finished.
    Short,
    /// Not a ring.
    Magic,
    /// A version that this build does not know.
    Version(u32),
    /// The header's CRC does not fit.
    Crc,
    /// Header or cursor values that cannot be.
    Values,
}

/// A copy of a ring file: of a dead process, or taken while one runs.
#[derive(Clone, Copy, Debug)]
pub struct RingImage<'a> {
    bytes: &'a [u8],
    setup: RingSetup,
    cursor: Cursor,
    end: u64,
}

impl<'a> RingImage<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`RingError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RingError> {
        let head = bytes.get(..DATA_START).ok_or(RingError::Short)?;
        if head.get(..8) != Some(MAGIC) {
            return Err(RingError::Magic);
        }
        if crc32c::crc32c(head.get(..CRC_PLACE).unwrap_or_default()) != u32_at(head, CRC_PLACE) {
            return Err(RingError::Crc);
        }
        let version = u32_at(head, 8);
        if version != segment::VERSION {
            return Err(RingError::Version(version));
        }
        let setup = RingSetup {
            worker: u32_at(head, 12),
            ring_bytes: u64_at(head, 16),
            segment_bytes: u64_at(head, 24),
            stream: array_at(head, 32),
            boot: array_at(head, 48),
            process: u64_at(head, 64),
        };
        let generation = u64_at(head, GENERATION_PLACE);
        let [even, odd] = CURSOR_PLACES;
        let cursor = Cursor::decode(head, if generation & 1 == 0 { even } else { odd });
        let end = u64_at(head, TAIL_PLACE).checked_add(setup.ring_bytes);
        let end = end.ok_or(RingError::Values)?;
        let sound = setup.is_sound()
            && cursor.position.0.is_multiple_of(64)
            && cursor.position.0 <= end
            && cursor.offset.is_multiple_of(64)
            && cursor.offset >= ENTRIES_START
            && cursor.offset <= setup.segment_bytes
            && end < 1 << 62
            && cursor.number < 1 << 62
            && cursor.sequence < 1 << 62;
        if !sound {
            return Err(RingError::Values);
        }
        if (bytes.len() as u64) < setup.ring_bytes + DATA_START as u64 {
            return Err(RingError::Short);
        }
        Ok(Self { bytes, setup, cursor, end })
    }

    /// What the ring was made with.
    #[must_use]
    pub fn setup(&self) -> &RingSetup {
        &self.setup
    }

    /// Up to where the drain had come.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The entries that are not in a segment file yet, in order.
    #[must_use]
    pub fn entries(&self) -> RingEntries<'a> {
        RingEntries { image: *self, cursor: self.cursor, scratch: Vec::new() }
    }

    /// Bytes of the stream from `position` on, `len` of them, by way of `out`.
    fn copy(&self, position: u64, len: usize, out: &mut Vec<u8>) {
        out.clear();
        let data = self.bytes.get(DATA_START..).unwrap_or_default();
        let place = usize::try_from(position % self.setup.ring_bytes).unwrap_or(0);
        let size = usize::try_from(self.setup.ring_bytes).unwrap_or(0);
        let first = len.min(size - place);
        out.extend_from_slice(data.get(place..place + first).unwrap_or_default());
        out.extend_from_slice(data.get(..len - first).unwrap_or_default());
    }
}

/// An entry that was found in a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The segment that it belongs to.
    pub id: SegmentId,
    /// Where the cursor stands before it.
    pub cursor: Cursor,
    /// Its bytes as they will stand in the segment file, zeros included.
    pub bytes: Vec<u8>,
}

impl Found {
    /// The entry.
    #[must_use]
    pub fn entry(&self) -> Option<Entry<'_>> {
        segment::decode_entry(self.id, self.cursor.offset, &self.bytes)
            .ok()?
            .map(|(entry, _)| entry)
    }
}

/// Walks a ring image. After the end, [`RingEntries::cursor`] is behind the last entry.
#[derive(Clone, Debug)]
pub struct RingEntries<'a> {
    image: RingImage<'a>,
    cursor: Cursor,
    scratch: Vec<u8>,
}

impl RingEntries<'_> {
    /// Behind the entries that were yielded so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next entry. `None` at the end.
    ///
    /// # Errors
    /// A commit word is set, but what stands there is no entry: memory was damaged, or the image
    /// was taken while the drain wiped.
    pub fn step(&mut self) -> Result<Option<Found>, EntryError> {
        let room = self.image.end - self.cursor.position.0;
        if room < 64 {
            return Ok(None);
        }
        let look = usize::try_from(room).unwrap_or(usize::MAX).min(ENTRY_LEN_MAX);
        self.image.copy(self.cursor.position.0, 64, &mut self.scratch);
        let len = u32_at(&self.scratch, 0) as usize;
        if len == 0 {
            return Ok(None);
        }
        if len < 64 || len.next_multiple_of(64) > look {
            return Err(EntryError::Length);
        }
        self.image.copy(self.cursor.position.0, len.next_multiple_of(64), &mut self.scratch);
        let id = SegmentId::of(self.image.setup.stream, self.cursor.number);
        let read = segment::decode_entry(id, self.cursor.offset, &self.scratch)?;
        let Some((entry, whole)) = read else { return Ok(None) };
        if entry.sequence != self.cursor.sequence {
            return Err(EntryError::Sequence);
        }
        let kind = entry.meta.kind;
        let found = Found { id, cursor: self.cursor, bytes: self.scratch.clone() };
        self.cursor = self.cursor.after(whole as u64, kind);
        Ok(Some(found))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_nonsense_is_refused() {
        let setup = RingSetup {
            worker: 3,
            ring_bytes: RING_BYTES_MIN,
            segment_bytes: SEGMENT_BYTES_MIN,
            stream: [1; 16],
            boot: [2; 16],
            process: 77,
        };
        let mut file = vec![0u8; DATA_START + RING_BYTES_MIN as usize];
        file[..512].copy_from_slice(&setup.encode());
        file[CURSOR_PLACES[0]..][..32].copy_from_slice(&Cursor::start(4, 9).encode());
        let image = RingImage::parse(&file).unwrap();
        assert_eq!((*image.setup(), image.cursor()), (setup, Cursor::start(4, 9)));
        assert!(image.entries().step().unwrap().is_none());
        assert_eq!(RingImage::parse(&file[..5000]).unwrap_err(), RingError::Short);
        file[13] ^= 1;
        assert_eq!(RingImage::parse(&file).unwrap_err(), RingError::Crc);
        file[13] ^= 1;
        file[CURSOR_PLACES[0]] = 1;
        assert_eq!(RingImage::parse(&file).unwrap_err(), RingError::Values);
        file[DATA_START] = 9;
        file[CURSOR_PLACES[0]] = 0;
        assert_eq!(RingImage::parse(&file).unwrap().entries().step(), Err(EntryError::Length));
    }
}
