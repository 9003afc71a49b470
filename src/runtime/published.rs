//! An immutable value that one thread swaps whole and the workers look at by generation.
//!
//! A look costs one atomic load while nothing changed; the lock is taken once for each change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The writer's side; shared by `Arc`.
#[derive(Debug)]
pub struct Published<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T> Published<T> {
    /// Starts at generation 1.
    #[must_use]
    pub fn new(value: T) -> Arc<Self> {
        Self::from_arc(Arc::new(value))
    }

    /// As [`Self::new`], for a value that is shared already.
    #[must_use]
    pub fn from_arc(value: Arc<T>) -> Arc<Self> {
        Arc::new(Self { generation: AtomicU64::new(1), value: Mutex::new(value) })
    }

    /// Puts `value` in place of the one before; what is in use stays alive until it is dropped.
    pub fn publish(&self, value: Arc<T>) {
        let mut place = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        *place = value;
        // Under the lock, so that a generation never stands for an older value.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The generation in force; it only grows. One atomic load.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The value and its generation.
    pub fn load(&self) -> (Arc<T>, u64) {
        let place = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&place), self.generation.load(Ordering::Acquire))
    }
}

/// A worker's look at a [`Published`] value.
#[derive(Debug)]
pub(super) struct Watch<T> {
    source: Arc<Published<T>>,
    value: Arc<T>,
    generation: u64,
}

impl<T> Watch<T> {
    pub(super) fn new(source: Arc<Published<T>>) -> Self {
        let (value, generation) = source.load();
        Self { source, value, generation }
    }

    /// The newest value, with its generation.
    pub(super) fn get(&mut self) -> (&Arc<T>, u64) {
        if self.source.generation.load(Ordering::Acquire) != self.generation {
            (self.value, self.generation) = self.source.load();
        }
        (&self.value, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_sees_the_last_published_value() {
        let published = Published::new(1);
        let mut watch = Watch::new(Arc::clone(&published));
        assert_eq!(**watch.get().0, 1);
        let before = watch.get().1;
        published.publish(Arc::new(2));
        published.publish(Arc::new(3));
        assert_eq!(**watch.get().0, 3);
        assert!(watch.get().1 > before);
    }
}
