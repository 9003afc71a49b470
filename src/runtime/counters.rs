//! What a worker counts for the operator. One thread writes, any may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the worker's start, but [`Counters::open`], which is a level.
#[derive(Debug, Default)]
pub struct Counters {
    /// Caller connections that are open.
    pub open: Count,
    /// Caller connections that were taken.
    pub accepted: Count,
    /// Caller connections above the limit, which were reset.
    pub refused: Count,
    /// Callers' handshakes that failed or took too long.
    pub handshakes_failed: Count,
    /// Connections that a bug ended. Each is worth an alarm.
    pub failed: Count,
    /// Callers or upstreams that took no bytes for `limits.write_ms`.
    pub stalled: Count,
    /// Exchanges that found an idle upstream connection.
    pub upstream_reused: Count,
    /// Upstream connections that were made.
    pub upstream_made: Count,
    /// Wishes for an upstream connection that came to nothing.
    pub upstream_failed: Count,
}

/// One number.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// The number as it is; no other is in step with it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one. A load and a store, since only the worker's thread writes.
    pub(super) fn add(&self) {
        self.0.store(self.get().wrapping_add(1), Ordering::Relaxed);
    }

    pub(super) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }
}
