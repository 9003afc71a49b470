//! What goes only after its record is on the disk (`durable = "each"`).
//!
//! The gate marks what it lets go with the position that must be durable before. At the end of
//! [`handle`](super::http::Session::handle) a session puts what is so marked aside, with all that
//! follows it, copied out of the input; it wants no input meanwhile, and hands it out at
//! [`Input::Durable`](super::Input::Durable). So nothing blocks, the order stays, and at most what
//! one input led to is held. A disk that does not get there in time ends the connection.

use super::io::Out;
use crate::base::Now;
use crate::record::Position;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Made at the first wait: most sessions never have one.
    held: Option<Box<Out>>,
    until: Option<Position>,
    since_ns: u64,
}

impl Waiting {
    /// What must be durable before anything goes on.
    pub(super) fn until(&self) -> Option<Position> {
        self.until
    }

    /// Whether something waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.until.is_some()
    }

    /// Takes what `handle` made of the input `source`, where it must wait.
    pub(super) fn settle(&mut self, source: &[u8], now: Now, out: &mut Out) {
        let after = out.take_after();
        if self.until.is_none() {
            if after.is_none() {
                return;
            }
            self.since_ns = now.mono_ns;
        }
        self.until = self.until.max(after);
        out.move_to(self.held.get_or_insert_default(), source);
    }

    /// The record is on the disk up to `position`.
    pub(super) fn reached(&mut self, position: Position, out: &mut Out) {
        if self.until.is_some_and(|until| until <= position) {
            self.until = None;
            if let Some(held) = &mut self.held {
                held.move_to(out, b"");
            }
        }
    }

    /// When the wait is given up.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.until.map(|_| self.since_ns.saturating_add(WAIT_NS))
    }

    /// Whether the disk did not get there in time.
    pub(super) fn is_late(&self, now: Now) -> bool {
        self.deadline().is_some_and(|at| at <= now.mono_ns)
    }

    /// Drops what waits, as [`Self::forget`] does, but for what is said to the owner of approvals: that
    /// is no byte of anybody's.
    pub(super) fn forget_bytes(&mut self, out: &mut Out) {
        if let Some(held) = &mut self.held {
            held.move_petitions(out);
        }
        self.forget();
    }

    /// Drops what waits: nobody is there for it, or it will never be recorded.
    pub(super) fn forget(&mut self) {
        self.until = None;
        self.held = None;
    }
}

/// The longest wait: as long as for room in the journal.
const WAIT_NS: u64 = 5_000_000_000;
