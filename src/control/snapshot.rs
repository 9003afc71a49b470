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
    pub fn new(first: T) -> Arc<Self> {
        Arc::new(Self { slot: Mutex::new(Arc::new(first)), generation: AtomicU64::new(1) })
    }

    /// The number of the current value; it only grows. One atomic load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The current value with its number.
    #[must_use]
    pub fn load(&self) -> (Arc<T>, u64) {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        // Stored under the same lock, so the two belong together.
        (Arc::clone(&slot), self.generation.load(Ordering::Acquire))
    }

    /// Replaces the value. The one before is dropped by its last reader.
    pub fn publish(&self, next: Arc<T>) {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut *slot, next);
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(slot);
        drop(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_value_and_number_together() {
        let place = Published::new(1u64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in 2..=1000 {
                    place.publish(Arc::new(value));
                }
            });
            for _ in 0..1000 {
                let (value, number) = place.load();
                assert_eq!(number, *value);
            }
        });
        assert_eq!(place.generation(), 1000);
        assert_eq!(*place.load().0, 1000);
    }
}
