//! Buffers of the worker: one size for heads and small bodies, one for long bodies.
//!
//! A buffer is owned by whoever may touch it: the connection, a read in flight, or a write in
//! flight. It goes by value, so that the kernel never writes to memory that someone else reads.

use super::counters::BUFFER_SIZES;
use super::sys::Pages;
use crate::session::io::WHOLE_MAX;
use std::cell::Cell;

/// The size of a buffer for heads and small bodies.
pub(super) const SMALL: usize = 16 << 10;
/// The size of a buffer once a body is long, or a head did not fit.
pub(super) const LARGE: usize = 64 << 10;
/// Above this no buffer grows; a session that still cannot consume anything is broken off.
pub(super) const MAX: usize = 256 << 10;
// What a session leaves unconsumed is shown again with as much as a read yields behind it.
const _: () = assert!(WHOLE_MAX + (LARGE - FRONT) <= MAX - FRONT);

/// Room kept in front of what is read, so that what was left of the read before can be put there.
const FRONT: usize = 256;

/// Which buffers a read is to fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// [`SMALL`].
    Small,
    /// [`LARGE`].
    Large,
}

impl Class {
    /// The number of its ring of buffers.
    pub(super) const fn group(self) -> u16 {
        match self {
            Self::Small => 0,
            Self::Large => 1,
        }
    }
}

/// How many free buffers of each size a worker keeps.
const KEEP_SMALL: usize = 256;
const KEEP_LARGE: usize = 32;

/// A run of memory with unconsumed bytes at `start..end`.
///
/// All of `mem` is zero or written from the start, so no read of it can be undefined.
#[derive(Debug)]
pub(super) struct Buffer {
    mem: Pages,
    start: usize,
    end: usize,
}

/// The buffers that there are, wherever they are: each counts itself in and out. A worker is a
/// thread, and a pointer in each buffer would cost more than all of the counts.
struct Tally {
    counts: [Cell<usize>; BUFFER_SIZES.len()],
    bytes: Cell<usize>,
}

thread_local! {
    static TALLY: Tally = const {
        Tally { counts: [const { Cell::new(0) }; BUFFER_SIZES.len()], bytes: Cell::new(0) }
    };
}

impl Tally {
    fn of(&self, size: usize) -> &Cell<usize> {
        let [small, large, huge] = &self.counts;
        match size {
            SMALL => small,
            LARGE => large,
            _ => huge,
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let size = self.mem.len();
        TALLY.with(|tally| {
            let (count, bytes) = (tally.of(size), &tally.bytes);
            count.set(count.get().saturating_sub(1));
            bytes.set(bytes.get().saturating_sub(size));
        });
    }
}

impl Buffer {
    fn with_size(size: usize) -> Self {
        TALLY.with(|tally| {
            let (count, bytes) = (tally.of(size), &tally.bytes);
            count.set(count.get().saturating_add(1));
            bytes.set(bytes.get().saturating_add(size));
        });
        Self { mem: Pages::new(size), start: FRONT, end: FRONT }
    }

    /// The unconsumed bytes.
    pub(super) fn filled(&self) -> &[u8] {
        self.mem.get(self.start..self.end).unwrap_or_default()
    }

    /// The bytes from `base` on, consumed ones included: what pieces made at `base` name.
    pub(super) fn from(&self, base: usize) -> &[u8] {
        self.mem.get(base..self.end).unwrap_or_default()
    }

    /// Writes `bytes` up to the place `at`, over what was consumed; returns where they start.
    /// `None`: there is no room for them, or it is not consumed.
    pub(super) fn write_before(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let start = at.checked_sub(bytes.len()).filter(|_| at <= self.start)?;
        self.mem.get_mut(start..at)?.copy_from_slice(bytes);
        Some(start)
    }

    /// Where the unconsumed bytes start in the memory.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    pub(super) fn is_of(&self, class: Class) -> bool {
        let size = match class {
            Class::Small => SMALL,
            Class::Large => LARGE,
        };
        self.size() >= size
    }

    fn size(&self) -> usize {
        self.mem.len()
    }

    /// Marks `count` bytes at the front as consumed.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.filled().len(), "consumed more than was shown");
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// Room behind the bytes.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.mem.get_mut(self.end..).unwrap_or_default()
    }

    /// Notes that `count` bytes were put into the room.
    pub(super) fn extend(&mut self, count: usize) {
        debug_assert!(count <= self.mem.len().saturating_sub(self.end));
        self.end = self.end.saturating_add(count).min(self.mem.len());
    }

    /// Moves the unconsumed bytes to the front.
    pub(super) fn compact(&mut self) {
        if self.start >= self.end {
            self.clear();
        } else if self.start > FRONT {
            self.mem.copy_within(self.start..self.end, FRONT);
            self.end = self.end.saturating_sub(self.start).saturating_add(FRONT);
            self.start = FRONT;
        }
    }

    /// Puts `bytes` before the unconsumed ones. Returns whether there was room for them.
    fn put_before(&mut self, bytes: &[u8]) -> bool {
        let Some(start) = self.start.checked_sub(bytes.len()) else { return false };
        let Some(room) = self.mem.get_mut(start..self.start) else { return false };
        room.copy_from_slice(bytes);
        self.start = start;
        true
    }

    /// As [`Self::add`]; makes room of what was consumed.
    fn put_behind(&mut self, bytes: &[u8]) -> bool {
        if self.room().len() < bytes.len() {
            self.compact();
        }
        self.add(bytes)
    }

    /// Puts `bytes` behind the unconsumed ones. Returns whether there was room for them.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        let Some(room) = self.room().get_mut(..bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.extend(bytes.len());
        true
    }

    fn clear(&mut self) {
        self.start = FRONT;
        self.end = FRONT;
    }
}

/// The worker's free buffers.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    small: Vec<Buffer>,
    large: Vec<Buffer>,
    /// What the driver has in hand to be filled, by class.
    provided: [usize; 2],
}

/// How many buffers there are, by size as in [`BUFFER_SIZES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) free: [usize; BUFFER_SIZES.len()],
    pub(super) lent: [usize; BUFFER_SIZES.len()],
    pub(super) bytes: usize,
}

impl Buffers {
    /// A buffer for heads and small bodies.
    pub(super) fn take_small(&mut self) -> Buffer {
        self.small.pop().unwrap_or_else(|| Buffer::with_size(SMALL))
    }

    /// A buffer for a long body.
    pub(super) fn take_large(&mut self) -> Buffer {
        self.large.pop().unwrap_or_else(|| Buffer::with_size(LARGE))
    }

    /// A buffer of a class.
    pub(super) fn take(&mut self, class: Class) -> Buffer {
        match class {
            Class::Small => self.take_small(),
            Class::Large => self.take_large(),
        }
    }

    /// Notes that the driver has taken `count` of a class, and always has as many.
    pub(super) fn note_provided(&mut self, class: Class, count: usize) {
        let [small, large] = &mut self.provided;
        match class {
            Class::Small => *small = count,
            Class::Large => *large = count,
        }
    }

    /// One buffer with the unconsumed bytes of both. The few of `first` are moved, where `second`
    /// has room in front of its own.
    ///
    /// # Errors
    /// No buffer may be as large.
    pub(super) fn join(&mut self, first: Buffer, mut second: Buffer) -> Result<Buffer, Buffer> {
        if second.put_before(first.filled()) {
            self.put(first);
            return Ok(second);
        }
        let mut whole = first;
        while !whole.put_behind(second.filled()) {
            whole = self.grow(whole)?;
        }
        self.put(second);
        Ok(whole)
    }

    /// A larger buffer with the same bytes, or `None` when `from` is as large as any may be.
    pub(super) fn grow(&mut self, from: Buffer) -> Result<Buffer, Buffer> {
        let mut to = match from.size() {
            size if size < LARGE => self.take_large(),
            size if size < MAX => Buffer::with_size(size.saturating_mul(2).min(MAX)),
            _ => return Err(from),
        };
        let bytes = from.filled();
        let count = bytes.len();
        if let Some(room) = to.room().get_mut(..count) {
            room.copy_from_slice(bytes);
        }
        to.extend(count);
        self.put(from);
        Ok(to)
    }

    /// How many there are on this thread, which is the worker's. Those that the driver may fill are
    /// free: they are nobody's.
    pub(super) fn held(&self) -> Held {
        let [small, large] = self.provided;
        let free = [self.small.len() + small, self.large.len() + large, 0];
        let (mut lent, bytes) =
            TALLY.with(|tally| (tally.counts.each_ref().map(Cell::get), tally.bytes.get()));
        for (lent, free) in lent.iter_mut().zip(free) {
            *lent = lent.saturating_sub(free);
        }
        Held { free, lent, bytes }
    }

    /// Gives a buffer back.
    pub(super) fn put(&mut self, mut buffer: Buffer) {
        buffer.clear();
        let (shelf, keep) = match buffer.size() {
            SMALL => (&mut self.small, KEEP_SMALL),
            LARGE => (&mut self.large, KEEP_LARGE),
            _ => return,
        };
        if shelf.len() < keep {
            shelf.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconsumed_bytes_survive_compaction_and_growth() {
        let mut buffers = Buffers::default();
        let mut buffer = buffers.take_small();
        buffer.room().fill(7);
        buffer.extend(SMALL - FRONT);
        buffer.consume(SMALL - FRONT - 3);
        buffer.compact();
        assert_eq!(buffer.filled(), [7, 7, 7]);
        let mut buffer = buffers.grow(buffer).expect("small grows");
        assert_eq!((buffer.size(), buffer.filled()), (LARGE, [7, 7, 7].as_slice()));
        while let Ok(larger) = {
            let fill = buffer.room().len();
            buffer.extend(fill);
            buffers.grow(buffer)
        } {
            buffer = larger;
            assert!(buffer.size() <= MAX);
        }
        assert_eq!((buffers.small.len(), buffers.large.len()), (1, 1));
    }

    #[test]
    fn two_buffers_become_one_whatever_is_left_in_the_first() {
        for left in [0, 1, FRONT, FRONT + 1, 9_000, SMALL - FRONT] {
            let mut buffers = Buffers::default();
            let (mut first, mut second) = (buffers.take_small(), buffers.take_small());
            first.room().fill(1);
            first.extend(SMALL - FRONT);
            first.consume(SMALL - FRONT - left);
            second.room().fill(2);
            second.extend(8_000);
            let whole = buffers.join(first, second).expect("it fits");
            assert_eq!(whole.filled().len(), left + 8_000);
            assert!(whole.filled().iter().take(left).all(|byte| *byte == 1));
            assert!(whole.filled().iter().skip(left).all(|byte| *byte == 2));
        }
        let mut buffers = Buffers::default();
        let mut whole = buffers.take_small();
        whole.extend(1);
        let refused = loop {
            let mut more = buffers.take_large();
            let fill = more.room().len();
            more.extend(fill);
            // It has no room in front once something was put there.
            more.put_before(&[0; FRONT]);
            match buffers.join(whole, more) {
                Ok(joined) => whole = joined,
                Err(left) => break left,
            }
        };
        assert_eq!(refused.size(), MAX);
    }

    #[test]
    fn every_buffer_is_counted_until_it_is_dropped() {
        let mut buffers = Buffers::default();
        let (one, two) = (buffers.take_small(), buffers.take_large());
        let mut three = buffers.take_large();
        three.extend(LARGE - FRONT);
        let three = buffers.grow(three).expect("large grows");
        assert!(three.size() > LARGE);
        let bytes = SMALL + 2 * LARGE + three.size();
        assert_eq!(buffers.held(), Held { free: [0, 1, 0], lent: [1, 1, 1], bytes });
        // One that a failed connection drops, one of a size that is not kept, one that comes back.
        drop(one);
        buffers.put(three);
        buffers.put(two);
        assert_eq!(buffers.held(), Held { free: [0, 2, 0], lent: [0; 3], bytes: 2 * LARGE });
    }

    #[test]
    fn a_buffer_that_comes_back_is_lent_again_empty() {
        let mut buffers = Buffers::default();
        let mut buffer = buffers.take_small();
        buffer.extend(100);
        buffers.put(buffer);
        assert_eq!(buffers.small.len(), 1);
        assert!(buffers.take_small().is_empty());
    }
}
