//! An immutable value that one thread replaces and many read.
//!
//! A reader keeps the `Arc` that it has and compares one number for each request; it takes the
//! lock only when the number moved, and the lock is held for a pointer's copy.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The place where a value is published.
#[derive(Debug)]
pub struct Published<T> {
    slot: Mutex<Arc<T>>,
    generation: AtomicU64,
}

impl<T> Published<T> {
    /// Publishes `first` as generation 1.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self { slot: Mutex::new(Arc::new(first)), generation: AtomicU64::new(1) }
    }

    /// The number of the current value; it only grows. One atomic load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current value with its number.
    #[must_use]
    pub fn current(&self) -> (u64, Arc<T>) {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Stored under the same lock, so the two belong together.
        (self.generation.load(Ordering::Acquire), Arc::clone(&slot))
    }

    /// Replaces the value by what `change` makes of it, and returns the new number. Two writers
    /// follow one another. The value before is dropped by its last reader.
    pub fn update(&self, change: impl FnOnce(&T) -> T) -> u64 {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(change(&slot));
        let last = std::mem::replace(&mut *slot, next);
        let number = self.generation.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        drop(slot);
        drop(last);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_value_and_number_together() {
        let place = Published::new(1u64);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        place.update(|value| value + 1);
                    }
                });
            }
            for _ in 0..1000 {
                let (number, value) = place.current();
                assert_eq!(number, *value);
            }
        });
        assert_eq!(place.generation(), 1001);
        assert_eq!(*place.current().1, 1001);
    }
}
