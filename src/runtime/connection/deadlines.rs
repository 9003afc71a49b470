//! What a connection does because time passes.

use super::Connection;
use crate::base::Now;
use crate::runtime::park::HOT_MS;
use crate::runtime::{Session, sys};
use crate::session::io::Input;

impl<S: Session> Connection<S> {
    pub(super) fn check_deadlines(&mut self, now: Now) {
        if now.mono_ns < self.due_ns {
            return;
        }
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
        let collect_ns = COLLECT_MS.saturating_mul(1_000_000);
        for flow in [&mut self.up, &mut self.down] {
            flow.overdue = now.mono_ns >= flow.since_ns.saturating_add(collect_ns);
        }
        if self.cools_ns().is_some_and(|at| at <= now.mono_ns) {
            self.hot = false;
        }
        let due = self.session.deadline().is_some_and(|at| at <= now.mono_ns);
        if due && !self.over && self.closing.is_none() {
            self.tell(Input::Timer, now);
        }
    }

    /// The next time at which [`Self::advance`] has something to do without an event.
    pub(in crate::runtime) fn deadline(&mut self, now: Now) -> Option<u64> {
        let write_ns = self.shared.limits.write_ms.saturating_mul(1_000_000);
        let mut due_ns = u64::MAX;
        let mut sooner = |at: u64| due_ns = due_ns.min(at);
        if let (None, Some(at)) = (self.closing, self.session.deadline()) {
            // One that was told already and names the past again shall not spin.
            sooner(at.max(now.after_ms(1)));
        }
        // A write that is over and was no news has a buffer that others could use.
        let collect_ns = COLLECT_MS.saturating_mul(1_000_000);
        let written = |since_ns: u64| match since_ns.saturating_add(collect_ns) {
            soon if soon > now.mono_ns => soon,
            _ => since_ns.saturating_add(write_ns),
        };
        if self.caller.write.is_none() {
            sooner(written(self.down.since_ns));
        }
        if self.upstream_writing && !self.up.dead {
            sooner(written(self.up.since_ns));
        }
        if let Some(linger) = &self.lingering {
            sooner(linger.until_ns);
        }
        self.cools_ns().into_iter().for_each(sooner);
        self.due_ns = due_ns;
        (due_ns != u64::MAX).then_some(due_ns)
    }

    /// When the next request was waited for so long that it is not expected soon.
    fn cools_ns(&self) -> Option<u64> {
        let waits = self.hot && self.interest.idle;
        waits.then(|| self.idle_ns.saturating_add(HOT_MS.saturating_mul(1_000_000)))
    }
}

/// How soon a write that is over is looked for.
const COLLECT_MS: u64 = 50;
