//! Waiting for the journal: back-pressure before refusal.
//!
//! A burst can fill the ring faster than the drain empties it. A session then leaves its input
//! unconsumed and tries again a moment later; only a journal that stays full is a reason to refuse.

use super::worker::Worker;
use crate::base::Now;
use crate::record::{Journal, OnFull};

/// How long one session has been waiting for room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    since_ns: Option<u64>,
    retry_ns: Option<u64>,
}

impl Stall {
    /// Whether `len` bytes of input must wait. Not beyond [`WAIT_NS`], and not where the disk is
    /// full: what cannot be recorded then is refused.
    pub(super) fn must_wait<J: Journal>(
        &mut self,
        len: usize,
        now: Now,
        worker: &mut Worker<J>,
    ) -> bool {
        if worker.record_full || worker.has_room(len) {
            *self = Self::default();
            return false;
        }
        let since_ns = *self.since_ns.get_or_insert(now.mono_ns);
        let wait_ns = match worker.snapshot.on_full {
            OnFull::Refuse => WAIT_NS,
            OnFull::ShedBodies | OnFull::Drop => SHED_WAIT_NS,
        };
        if now.mono_ns.saturating_sub(since_ns) > wait_ns {
            return false;
        }
        self.retry_ns = Some(now.mono_ns.saturating_add(RETRY_NS));
        true
    }

    /// Whether no input is wanted for the moment.
    pub(super) fn is_waiting(&self) -> bool {
        self.retry_ns.is_some()
    }

    /// When to look again.
    pub(super) fn retry_ns(&self) -> Option<u64> {
        self.retry_ns
    }

    /// A timer: `true` when it was this one's, and input is wanted again.
    pub(super) fn wake(&mut self, now: Now) -> bool {
        let due = self.retry_ns.is_some_and(|at| at <= now.mono_ns);
        if due {
            self.retry_ns = None;
        }
        due
    }
}

/// The longest wait.
const WAIT_NS: u64 = 5_000_000_000;
/// The longest wait where what finds no room is left out: whoever asks for that wants the pace.
const SHED_WAIT_NS: u64 = 250_000_000;
/// Between two looks: the drain comes by every 20 ms, unless the config says otherwise.
const RETRY_NS: u64 = 2_000_000;
