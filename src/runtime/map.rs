//! The mapped ring: a worker's journal in a named, preallocated, prefaulted file.
//!
//! One [`RingJournal`] writes, one [`Tail`] reads; they share the mapping and nothing else. What
//! is not an entry is zero, so a writer that is killed anywhere leaves a zero commit word behind
//! the last entry it acknowledged (layout: [`record::ring`](crate::record::ring)).
//!
//! Estimate per append of 256 B: CRC of 84 bytes and of the body about 30 ns, copies 10 ns, two
//! cache lines of header and tail; no system call, lock or allocation.
#![expect(unsafe_code, reason = "the mapping is shared with the drain and outlives the process")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::base::Now;
use crate::record::ring::{
    CURSOR_PLACES, Cursor, DATA_START, GENERATION_PLACE, RingSetup, SHUT_PLACE, TAIL_PLACE,
};
use crate::record::segment::{
    self, ENTRY_HEADER_LEN, ENTRY_LEN_MAX, EntryHeader, SegmentId, padded,
};
use crate::record::{BODY_MAX, EntryMeta, Flags, Full, Journal, Kind, Position};

/// Copies go in blocks of this size: from about 2.7 KiB on, the C library copies with
/// `rep movsb`, which is some hundred times slower when target and source differ by 1..31 modulo
/// 4096, and sources lie anywhere.
const BLOCK: usize = 2048;

/// The part of a ring that is one share of its reserve; see [`Kind::shares_kept`].
const SHARE_PART: u64 = 16;

/// A mapping of a whole file. Not `Clone`: whoever holds it shares it by `Arc`.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory that lives until the drop; all access goes through the
// methods below, whose contracts say who may touch which bytes.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned and was given, and nobody else is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl Mapping {
    fn of(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        let mapping = Self { base, len };
        mapping.advise()?;
        Ok(mapping)
    }

    /// Faults every page in for writing and keeps the mapping out of core dumps.
    fn advise(&self) -> io::Result<()> {
        // SAFETY: the range is the whole mapping; DONTDUMP changes no byte.
        let dumped =
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_DONTDUMP) };
        if dumped != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range is the whole mapping; populating changes no byte.
        let populated = unsafe {
            libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_POPULATE_WRITE)
        };
        if populated != 0 {
            // Before Linux 5.14: one store to each page of the file, which is all zeros so far.
            for place in (0..self.len).step_by(4096) {
                self.word32(place).store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn word32(&self, place: usize) -> &AtomicU32 {
        assert!(place.is_multiple_of(4) && place + 4 <= self.len);
        // SAFETY: inside the mapping, aligned (the base is a page), and only ever accessed as an
        // atomic while both halves may touch it: commit words at the place of the next entry.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(place).cast()) }
    }

    fn word64(&self, place: usize) -> &AtomicU64 {
        assert!(place.is_multiple_of(8) && place + 8 <= self.len);
        // SAFETY: inside the mapping, aligned, and only ever accessed as an atomic: the tail, the
        // generation and the cursors, which no copy below reaches (`place` of those starts at
        // `DATA_START`, but for the setup, written before the mapping is shared).
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(place).cast()) }
    }

    /// Copies `bytes` to `place`.
    ///
    /// The caller is the writer and the bytes lie between head and `tail + ring_bytes`, where the
    /// drain looks at nothing but the next commit word, which the copy leaves out.
    fn write(&self, place: usize, bytes: &[u8]) {
        assert!(place <= self.len && bytes.len() <= self.len - place);
        // SAFETY: the range is inside the mapping; source and target cannot overlap, since nobody
        // forms a slice over the mapping; no other thread touches the target (above).
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.base.as_ptr().add(place),
                bytes.len(),
            );
        }
    }

    /// Appends the `len` bytes at `place` to `out`.
    ///
    /// The caller is the drain and the bytes lie between tail and head: committed, seen through an
    /// Acquire of their commit word, and not written again before the tail has passed them.
    fn read(&self, place: usize, len: usize, out: &mut Vec<u8>) {
        assert!(place <= self.len && len <= self.len - place);
        out.reserve(len);
        let old = out.len();
        let mut done = 0;
        while done < len {
            let step = BLOCK.min(len - done);
            // SAFETY: the source is inside the mapping, the target inside the reserved room; the
            // writer does not touch the source (above).
            unsafe {
                std::ptr::copy_nonoverlapping(
                    self.base.as_ptr().add(place + done),
                    out.as_mut_ptr().add(old + done),
                    step,
                );
            }
            done += step;
        }
        // SAFETY: exactly `len` bytes behind `old` were written by the loop.
        unsafe { out.set_len(old + len) };
    }

    /// Zeroes the `len` bytes at `place`; the caller is the drain, as in [`Self::read`].
    fn wipe(&self, place: usize, len: usize) {
        assert!(place <= self.len && len <= self.len - place);
        // SAFETY: inside the mapping; the writer waits for the tail before it writes there.
        unsafe { std::ptr::write_bytes(self.base.as_ptr().add(place), 0, len) };
    }
}

/// Gives `file` `len` bytes on its file system.
///
/// # Errors
/// ENOSPC among others; a sparse file would be a SIGBUS at some later store.
pub fn preallocate(file: &File, len: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(len).map_err(io::Error::other)?;
    // SAFETY: a call on a descriptor that `file` keeps open; it touches no memory of ours.
    let refused = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) };
    if refused == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(refused)) }
}

/// Makes the ring file `path`, which must not exist, and maps it.
///
/// # Errors
/// No room, no right, or a setup that is not [sound](RingSetup::is_sound).
pub fn create(path: &Path, setup: &RingSetup, start: Cursor) -> io::Result<(RingJournal, Tail)> {
    if !setup.is_sound() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "impossible ring sizes"));
    }
    let bytes = setup.ring_bytes + DATA_START as u64;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path)?;
    let made = preallocate(&file, bytes)
        .and_then(|()| Mapping::of(&file, usize::try_from(bytes).map_err(io::Error::other)?));
    let mapping = match made {
        Ok(mapping) => Arc::new(mapping),
        Err(e) => {
            std::fs::remove_file(path)?;
            return Err(e);
        }
    };
    store_cursor(&mapping, 0, start);
    mapping.write(0, &setup.encode());
    let journal = RingJournal {
        ring: Ring { mapping: Arc::clone(&mapping), bytes: setup.ring_bytes, lap: 0 },
        stream: setup.stream,
        segment_bytes: setup.segment_bytes,
        cursor: start,
        id: SegmentId::of(setup.stream, start.number),
        tail: 0,
        time_ns: 0,
        share: setup.ring_bytes / SHARE_PART,
        began_ns: 0,
        roll_ns: u64::MAX,
    };
    let ring = Ring { mapping, bytes: setup.ring_bytes, lap: 0 };
    Ok((journal, Tail { ring, setup: *setup, cursor: start, generation: 0 }))
}

fn store_cursor(mapping: &Mapping, generation: u64, cursor: Cursor) {
    let [even, odd] = CURSOR_PLACES;
    let place = if generation & 1 == 0 { even } else { odd };
    let values = [cursor.position.0, cursor.number, cursor.offset, cursor.sequence];
    for (index, value) in values.into_iter().enumerate() {
        mapping.word64(place + 8 * index).store(value, Ordering::Relaxed);
    }
    mapping.word64(GENERATION_PLACE).store(generation, Ordering::Release);
}

#[derive(Debug)]
struct Ring {
    mapping: Arc<Mapping>,
    bytes: u64,
    /// Position of the ring's first byte in the present lap: spares a division for each access.
    lap: u64,
}

impl Ring {
    /// Where `position` stands in the mapping, and how many bytes follow before the wrap.
    /// `position` is in the present lap or the next.
    fn place(&self, position: u64) -> (usize, usize) {
        debug_assert!(position >= self.lap && position - self.lap < 2 * self.bytes);
        let ahead = position - self.lap;
        let into = if ahead < self.bytes { ahead } else { ahead - self.bytes };
        // Both are below the mapping's length, which is a usize.
        (DATA_START + into as usize, (self.bytes - into) as usize)
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        let (place, room) = self.place(position);
        let (first, second) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.mapping.write(place, first);
        self.mapping.write(DATA_START, second);
    }

    /// The half that owns this stands at `position` from here on.
    fn advance(&mut self, position: u64) {
        if position - self.lap >= self.bytes {
            self.lap += self.bytes;
        }
    }

    fn commit_word(&self, position: u64) -> &AtomicU32 {
        self.mapping.word32(self.place(position).0)
    }
}

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

    /// Ends the journal: every append from here on is [`Full`]. Read once more after it.
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{ConnectionId, ExchangeId};
    use crate::record::reader::Entries;
    use crate::record::ring::{RING_BYTES_MIN, RingImage, SEGMENT_BYTES_MIN};
    use crate::record::segment::{ENTRIES_START, SegmentHeader};

    fn setup() -> RingSetup {
        RingSetup {
            worker: 2,
            ring_bytes: RING_BYTES_MIN,
            segment_bytes: SEGMENT_BYTES_MIN,
            stream: [3; 16],
            boot: [4; 16],
            process: 5,
        }
    }

    fn body(seed: usize, len: usize) -> Vec<u8> {
        (0..len).map(|i| ((i * 7 + seed * 13) % 251) as u8).collect()
    }

    fn meta() -> EntryMeta {
        EntryMeta::new(Kind::ResponseBody, ConnectionId(1), ExchangeId(9))
    }

    fn header(number: u64, first_sequence: u64) -> SegmentHeader {
        SegmentHeader {
            worker: 2,
            id: SegmentId::of([3; 16], number),
            number,
            first_sequence,
            boot: [4; 16],
            anchor: Now::default(),
            policy: [0; 32],
            key: [0; 32],
            previous_root: [0; 32],
            segment_bytes: SEGMENT_BYTES_MIN,
        }
    }

    #[test]
    fn what_is_appended_comes_out_over_wraps_and_rolls() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ring");
        let (mut journal, mut tail) = create(&path, &setup(), Cursor::start(0, 1)).unwrap();
        let mut segments: Vec<Vec<u8>> = vec![Vec::new()];
        let mut sent: Vec<u8> = Vec::new();
        let mut appended = 0;
        for round in 0..600usize {
            let one = body(round, (round * 977) % 9_000);
            let (a, b) = one.split_at(one.len() / 3);
            let now = Now { mono_ns: 0, wall_ns: 100 };
            appended = journal.append(meta(), [a, b].into_iter(), now).unwrap().0;
            sent.extend_from_slice(&one);
            if round % 7 == 0 {
                loop {
                    let current = segments.last_mut().unwrap();
                    let batch = tail.read(50_000, current, &mut Vec::new()).unwrap();
                    if batch.end == tail.cursor() {
                        break;
                    }
                    tail.release(batch.end);
                    if batch.rolled {
                        segments.push(Vec::new());
                    }
                }
            }
        }
        loop {
            let current = segments.last_mut().unwrap();
            let mut spans = Vec::new();
            let before = current.len();
            let batch = tail.read(usize::MAX, current, &mut spans).unwrap();
            assert_eq!(spans.iter().sum::<usize>(), current.len() - before);
            if batch.end == tail.cursor() {
                break;
            }
            tail.release(batch.end);
            if batch.rolled {
                segments.push(Vec::new());
            }
        }
        assert_eq!(tail.cursor().position.0, appended);
        assert!(segments.len() > 8);
        let mut got: Vec<u8> = Vec::new();
        let mut sequence = 1;
        for (number, entries) in segments.iter().enumerate() {
            let head = header(number as u64, sequence);
            let file = [vec![0; ENTRIES_START as usize], entries.clone()].concat();
            assert!(file.len() as u64 <= SEGMENT_BYTES_MIN);
            let mut walk = Entries::new(&file, &head);
            walk.by_ref().for_each(|entry| got.extend_from_slice(entry.unwrap().body));
            assert_eq!(walk.offset(), file.len() as u64);
            sequence = walk.sequence();
        }
        assert!(got == sent, "drained bytes differ from appended ones");
        // Everything was wiped.
        let image = std::fs::read(&path).unwrap();
        assert!(image[DATA_START..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_full_ring_refuses_whole_bodies_and_takes_them_after_a_release() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ring");
        let (mut journal, mut tail) = create(&path, &setup(), Cursor::start(0, 1)).unwrap();
        let long = body(1, 150_000);
        let mut count = 0;
        while journal.append(meta(), [&long[..]].into_iter(), Now::default()).is_ok() {
            count += 1;
        }
        assert_eq!(count, 6);
        let before = journal.position();
        assert_eq!(journal.append(meta(), [&long[..]].into_iter(), Now::default()), Err(Full));
        assert_eq!(journal.position(), before);
        let of = |kind| EntryMeta::new(kind, ConnectionId(1), ExchangeId(9));
        let (head, close) = (of(Kind::RequestHead), of(Kind::Close));
        while journal.append(meta(), std::iter::once(&long[..64]), Now::default()).is_ok() {}
        assert!(journal.room(Kind::RequestHead) > journal.room(Kind::ResponseBody));
        while journal.append(head, std::iter::once(&long[..64]), Now::default()).is_ok() {}
        assert!(journal.append(close, std::iter::empty(), Now::default()).is_ok(), "reserve");
        // What was not drained reads back from the file, as after a kill.
        let image = std::fs::read(&path).unwrap();
        let mut walk = RingImage::parse(&image).unwrap().entries();
        while let Some(found) = walk.step().unwrap() {
            assert!(found.entry().is_some());
        }
        assert_eq!(walk.cursor().position, journal.position());
        let mut out = Vec::new();
        // Two segments: what one body needs beside the reserve.
        for _ in 0..2 {
            let batch = tail.read(usize::MAX, &mut out, &mut Vec::new()).unwrap();
            tail.release(batch.end);
        }
        assert!(journal.append(meta(), [&long[..]].into_iter(), Now::default()).is_ok());
        let image = std::fs::read(&path).unwrap();
        let parsed = RingImage::parse(&image).unwrap();
        assert_eq!(parsed.cursor(), tail.cursor());
        tail.shut();
        assert_eq!(journal.append(close, std::iter::empty(), Now::default()), Err(Full));
    }

    #[test]
    fn every_relation_of_source_and_target_copies_right() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut tail) =
            create(&dir.path().join("x.ring"), &setup(), Cursor::start(0, 1)).unwrap();
        let source = body(3, 16_384);
        let mut out = Vec::new();
        for shift in 0..4096 {
            let one = &source[shift..shift + 5_000];
            journal.append(meta(), std::iter::once(one), Now::default()).unwrap();
            out.clear();
            let batch = tail.read(1, &mut out, &mut Vec::new()).unwrap();
            if batch.rolled {
                tail.release(batch.end);
                out.clear();
            }
            let batch = tail.read(1, &mut out, &mut Vec::new()).unwrap();
            assert!(&out[64..5_064] == one, "shift {shift}");
            tail.release(batch.end);
        }
    }

    #[test]
    fn a_second_ring_of_the_same_name_and_impossible_sizes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.ring");
        let start = Cursor::start(0, 1);
        let first = create(&path, &setup(), start).unwrap();
        assert!(create(&path, &setup(), start).is_err());
        drop(first);
        let small = RingSetup { ring_bytes: 4096, ..setup() };
        assert!(create(&dir.path().join("y.ring"), &small, start).is_err());
    }
}
