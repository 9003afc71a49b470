//! The mapped ring: a worker's journal in a named, preallocated, prefaulted file.
//!
//! One [`RingJournal`] writes, one [`Tail`] reads; they share the mapping and nothing else. What
//! is not an entry is zero, so a writer that is killed anywhere leaves a zero commit word behind
//! the last entry it acknowledged (layout: [`record::ring`](crate::record::ring)).
//!
//! Estimate per append of 256 B: CRC of 84 bytes and of the body about 30 ns, copies 10 ns, two
//! cache lines of header and tail; no system call, lock or allocation.
#![expect(unsafe_code, reason = "the mapping is shared with the drain and outlives the process")]

mod journal;
mod tail;

pub use journal::RingJournal;
pub use tail::{Batch, Tail};

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::record::ring::{CURSOR_PLACES, Cursor, DATA_START, GENERATION_PLACE, RingSetup};

/// Copies go in blocks of this size: from about 2.7 KiB on, the C library copies with
/// `rep movsb`, which is some hundred times slower when target and source differ by 1..31 modulo
/// 4096, and sources lie anywhere.
const BLOCK: usize = 2048;

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
    let ring = |mapping| Ring { mapping, bytes: setup.ring_bytes, lap: 0 };
    let journal = RingJournal::new(ring(Arc::clone(&mapping)), setup, start);
    Ok((journal, Tail::new(ring(mapping), setup, start)))
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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{ConnectionId, ExchangeId, Now};
    use crate::record::reader::Entries;
    use crate::record::ring::{RING_BYTES_MIN, RingImage, SEGMENT_BYTES_MIN};
    use crate::record::segment::{ENTRIES_START, SegmentHeader, SegmentId};
    use crate::record::{EntryMeta, Full, Journal, Kind};

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
