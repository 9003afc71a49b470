//! What a worker counts for the operator. One thread writes, any may read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::Latency;

/// Counts since the worker's start, and levels. A level but [`Counters::open`] is as old as the
/// worker's last tick, a quarter of a second at most.
#[derive(Debug, Default)]
pub struct Counters {
    /// Caller connections that are open. A level.
    pub open: Count,
    /// Upstream connections that serve an exchange, or are being made. A level.
    pub upstream_busy: Count,
    /// Upstream connections that wait for work. A level.
    pub upstream_idle: Count,
    /// Buffers that wait for work, by size as in [`BUFFER_SIZES`]. Levels.
    pub buffers_free: [Count; BUFFER_SIZES.len()],
    /// Buffers with bytes or a read in them. Levels.
    pub buffers_lent: [Count; BUFFER_SIZES.len()],
    /// Bytes of all buffers. A level.
    pub buffer_bytes: Count,
    /// What the gateway added to the time of its exchanges.
    pub latency: Latency,
    /// Caller connections that were taken.
    pub accepted: Count,
    /// Caller connections above the limit, which were reset.
    pub refused: Count,
    /// Callers whose address had too many handshakes in flight or in a second.
    pub handshakes_spent: Count,
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
    /// Words to upstreams that needed a connection of their own, and got it.
    pub sides: Count,
    /// Those that did not.
    pub sides_failed: Count,
}

/// Labels of the sizes of buffers.
pub const BUFFER_SIZES: [&str; 3] = ["small", "large", "huge"];

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
        self.add_many(1);
    }

    pub(super) fn add_many(&self, by: u64) {
        self.0.store(self.get().wrapping_add(by), Ordering::Relaxed);
    }

    pub(super) fn set(&self, to: u64) {
        self.0.store(to, Ordering::Relaxed);
    }
}
