//! What a connection does because time passes: deadlines, and giving room back.

use super::Connection;
use crate::base::{Now, Pieces};
use crate::runtime::flow::Flow;
use crate::runtime::{Session, sys};
use crate::session::io::Input;

impl<S: Session> Connection<S> {
    pub(super) fn check_deadlines(&mut self, now: Now) {
        let write_ns = self.shared.limits.write_ms.saturating_mul(1_000_000);
        let late = |since: u64| now.mono_ns >= since.saturating_add(write_ns);
        if self.caller.write.is_none() && late(self.down.since_ns) {
            tracing::warn!("a caller takes no bytes");
            self.shared.counters.stalled.add();
            self.gone(now);
        }
        if self.upstream_writing && !self.up.dead && late(self.up.since_ns) {
            tracing::warn!("an upstream takes no bytes");
            self.shared.counters.stalled.add();
            self.up.dead = true;
            if let Some(upstream) = &self.upstream {
                sys::shutdown_both(upstream.fd);
            }
        }
        if self.lingering.as_ref().is_some_and(|linger| now.mono_ns >= linger.until_ns) {
            self.over = true;
        }
        if is_quiet(&self.up, now) {
            self.up.filling_ns = None;
            self.caller_cancel = std::mem::take(&mut self.caller_cancel).cancel();
        }
        if is_quiet(&self.down, now) {
            self.down.filling_ns = None;
            self.upstream_cancel = std::mem::take(&mut self.upstream_cancel).cancel();
        }
        if self.tidy_ns.is_some_and(|at| at <= now.mono_ns) {
            self.tidy();
        }
        let due = self.session.deadline().is_some_and(|at| at <= now.mono_ns);
        if due && !self.over && self.closing.is_none() {
            self.tell(Input::Timer, now);
        }
    }

    /// The next time at which [`Self::advance`] has something to do without an event.
    pub(in crate::runtime) fn deadline(&self, now: Now) -> Option<u64> {
        let write_ns = self.shared.limits.write_ms.saturating_mul(1_000_000);
        let session = match self.closing {
            // One that was told already and names the past again shall not spin.
            None => self.session.deadline().map(|at| at.max(now.after_ms(1))),
            Some(_) => None,
        };
        let caller = self.caller.write.is_none().then_some(self.down.since_ns);
        let upstream = (self.upstream_writing && !self.up.dead).then_some(self.up.since_ns);
        let linger = self.lingering.as_ref().map(|linger| linger.until_ns);
        let writes = [caller, upstream].map(|at| at.map(|at| at.saturating_add(write_ns)));
        let quiet = [&self.up, &self.down].map(|flow| flow.filling_ns.map(quiet_at));
        [session, linger, self.tidy_ns].into_iter().chain(quiet).chain(writes).flatten().min()
    }

    /// Notes that an exchange begins or ended; one that stays idle gives its room back.
    pub(super) fn note_idle(&mut self, was_idle: bool, now: Now) {
        if self.interest.idle != was_idle {
            self.tidy_ns = self.interest.idle.then(|| now.after_ms(TIDY_MS));
        }
    }

    fn tidy(&mut self) {
        self.tidy_ns = None;
        self.up.tidy();
        self.down.tidy();
        self.out.swap_caller(&mut Pieces::new());
        self.out.swap_upstream(&mut Pieces::new());
    }
}

/// When a read that holds a buffer and gets nothing gives it back.
fn quiet_at(filling_ns: u64) -> u64 {
    filling_ns.saturating_add(TIDY_MS.saturating_mul(1_000_000))
}

fn is_quiet(flow: &Flow, now: Now) -> bool {
    flow.filling_ns.is_some_and(|at| quiet_at(at) <= now.mono_ns)
}

/// How long a connection is idle before it gives back the room of its lists.
const TIDY_MS: u64 = if cfg!(test) { 60 } else { 2_000 };
