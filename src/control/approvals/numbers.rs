//! What the owner counts, for `/metrics`.

use crate::policy::approval::{Act, Entry, Levels, State};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Written by the owner, read by whoever asks.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pending: AtomicU64,
    grants: AtomicU64,
    reviews: AtomicU64,
    oldest_ns: AtomicU64,
    events: [AtomicU64; EVENTS.len()],
    refused: AtomicU64,
    syncs: AtomicU64,
    log_bytes: AtomicU64,
    waiters: AtomicU64,
    broken: AtomicBool,
}

/// What may happen to a request, by the labels of `/metrics`.
const EVENTS: [&str; 10] = [
    "asked",
    "voted",
    "approved",
    "denied",
    "used",
    "expired",
    "cancelled",
    "revoked",
    "reviewed",
    "revealed",
];

/// A reading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests that wait for a person.
    pub pending: u64,
    /// Grants with uses left.
    pub grants: u64,
    /// Break-glass grants that nobody has looked at.
    pub reviews: u64,
    /// When the oldest request that waits was asked, wall nanoseconds; 0 where none waits.
    pub oldest_ns: u64,
    /// How often each thing happened since the start.
    pub events: Vec<(&'static str, u64)>,
    /// Asks and uses that got no verdict of a person.
    pub refused: u64,
    /// How often the log waited for the disk.
    pub syncs: u64,
    /// Length of the log.
    pub log_bytes: u64,
    /// Sessions that wait for a word, or run under a grant.
    pub waiters: u64,
    /// The log cannot be written: everything is refused.
    pub broken: bool,
}

impl Numbers {
    pub(super) fn set_waiters(&self, waiters: usize) {
        self.waiters.store(waiters as u64, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn happened(&self, entry: &Entry) {
        let (first, second) = match &entry.act {
            Act::Voted { state: State::Approved, .. } => ("voted", Some("approved")),
            Act::Voted { state: State::Denied, .. } => ("voted", Some("denied")),
            // Break-glass is granted by asking.
            Act::Asked { until_ns: Some(_), .. } => ("asked", Some("approved")),
            act => (act.label(), None),
        };
        for label in std::iter::once(first).chain(second) {
            let place = EVENTS.iter().position(|event| *event == label);
            if let Some(count) = place.and_then(|place| self.events.get(place)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn synced(&self, log_bytes: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.log_bytes.store(log_bytes, Ordering::Relaxed);
    }

    pub(super) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    pub(super) fn set_levels(&self, levels: Levels) {
        self.pending.store(levels.pending, Ordering::Relaxed);
        self.grants.store(levels.grants, Ordering::Relaxed);
        self.reviews.store(levels.reviews, Ordering::Relaxed);
        self.oldest_ns.store(levels.oldest_ns.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn reading(&self) -> Reading {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Reading {
            pending: of(&self.pending),
            grants: of(&self.grants),
            reviews: of(&self.reviews),
            oldest_ns: of(&self.oldest_ns),
            events: EVENTS.iter().zip(&self.events).map(|(name, n)| (*name, of(n))).collect(),
            refused: of(&self.refused),
            syncs: of(&self.syncs),
            log_bytes: of(&self.log_bytes),
            waiters: of(&self.waiters),
            broken: self.broken.load(Ordering::Relaxed),
        }
    }
}
