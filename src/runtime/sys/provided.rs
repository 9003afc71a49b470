//! Buffers that the kernel has in hand and fills when bytes come (io_uring_register_buf_ring(3)).
//!
//! ```text
//! entry, 16 bytes:  address u64 | length u32 | id u16 | reserved u16
//! ```
//!
//! The reserved field of the first entry is the tail: entries up to it are the kernel's. A buffer's
//! id is its place in `lent`; it is taken out by value when the kernel says that it filled it, and
//! another one is lent in its place at once.

use super::Pages;
use crate::runtime::buffer::{Buffer, Buffers, Class};
use io_uring::types::BufRingEntry;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU16, Ordering};

/// See the module.
pub(super) struct Provided {
    class: Class,
    /// The entries.
    ring: ManuallyDrop<Pages>,
    count: u16,
    tail: u16,
    lent: Vec<Buffer>,
}

impl Provided {
    /// `count` buffers of a class, a power of two of them.
    pub(super) fn new(class: Class, count: u16, pool: &mut Buffers) -> Self {
        debug_assert!(count.is_power_of_two());
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let ring = ManuallyDrop::new(Pages::new(bytes));
        let lent = (0..count).map(|_| pool.take(class)).collect();
        pool.note_provided(class, usize::from(count));
        let mut made = Self { class, ring, count, tail: 0, lent };
        (0..count).for_each(|id| made.publish(id));
        made
    }

    /// Address of the entries, their count, and the number that operations name the ring by.
    pub(super) fn registration(&self) -> (u64, u16, u16) {
        (self.ring.as_ptr() as u64, self.count, self.class.group())
    }

    /// Takes out the buffer `id` and lends another one in its place. `None`: there is no such id.
    pub(super) fn replace(&mut self, id: u16, pool: &mut Buffers) -> Option<Buffer> {
        let place = self.lent.get_mut(usize::from(id))?;
        let taken = std::mem::replace(place, pool.take(self.class));
        self.publish(id);
        Some(taken)
    }

    /// Gives the buffer `id` to the kernel.
    fn publish(&mut self, id: u16) {
        let Some(buffer) = self.lent.get_mut(usize::from(id)) else { return };
        let room = buffer.room();
        let (address, len) = (room.as_mut_ptr() as u64, room.len());
        let index = usize::from(self.tail & self.count.wrapping_sub(1));
        let entries = self.ring.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: `index` is below `count`, and the pages have that many entries; all zeroes is a
        // valid one. The kernel does not read it before the tail names it. Field by field, since
        // the first one's reserved field is the tail.
        unsafe {
            let entry = &mut *entries.add(index);
            entry.set_addr(address);
            entry.set_len(u32::try_from(len).unwrap_or(u32::MAX));
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the first entry lies within the pages, which are aligned to more than it; the
        // kernel only reads its tail, and nobody else writes it.
        let tail = unsafe { AtomicU16::from_ptr(entries.cast::<u16>().add(TAIL)) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Never frees what the kernel may still write to.
    pub(super) fn leak(&mut self) {
        std::mem::forget(std::mem::take(&mut self.lent));
        self.count = 0;
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        if self.count > 0 {
            // SAFETY: it is dropped here only and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        }
    }
}

/// Where the tail is, in units of its size.
const TAIL: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(provided: &Provided) -> u16 {
        let entries = provided.ring.as_ptr().cast::<BufRingEntry>();
        // SAFETY: the first entry of the ring.
        unsafe { *BufRingEntry::tail(entries) }
    }

    #[test]
    fn a_buffer_that_was_filled_is_replaced_by_another() {
        let mut pool = Buffers::default();
        let mut provided = Provided::new(Class::Small, 4, &mut pool);
        assert_eq!(tail(&provided), 4);
        for turn in 0..70_000u32 {
            let id = u16::try_from(turn % 4).expect("small");
            let before = provided.lent.get(usize::from(id)).map(|one| one.from(0).as_ptr());
            let taken = provided.replace(id, &mut pool).expect("an id that there is");
            assert_eq!(before, Some(taken.from(0).as_ptr()));
            assert_ne!(before, provided.lent.get(usize::from(id)).map(|one| one.from(0).as_ptr()));
            pool.put(taken);
        }
        // It went around its sixteen bits.
        assert_eq!(u32::from(tail(&provided)), (4 + 70_000) % (1 << 16));
        assert!(provided.replace(4, &mut pool).is_none());
    }
}
