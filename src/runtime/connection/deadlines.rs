//! What a connection does because time passes: deadlines, and giving buffers back.

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
        if self.caller_quiet_ns().is_some_and(|at| at <= now.mono_ns) {
            self.up.filling_ns = None;
            self.caller_cancel = std::mem::take(&mut self.caller_cancel).cancel();
        }
        if self.upstream_quiet_ns().is_some_and(|at| at <= now.mono_ns) {
            self.down.filling_ns = None;
            self.upstream_cancel = std::mem::take(&mut self.upstream_cancel).cancel();
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
        if self.caller.write.is_none() {
            sooner(self.down.since_ns.saturating_add(write_ns));
        }
        if self.upstream_writing && !self.up.dead {
            sooner(self.up.since_ns.saturating_add(write_ns));
        }
        if let Some(linger) = &self.lingering {
            sooner(linger.until_ns);
        }
        let quiet = [self.caller_quiet_ns(), self.upstream_quiet_ns()];
        quiet.into_iter().flatten().for_each(sooner);
        self.due_ns = due_ns;
        (due_ns != u64::MAX).then_some(due_ns)
    }

    /// When the caller's read that holds a buffer, and gets nothing, gives it back.
    fn caller_quiet_ns(&self) -> Option<u64> {
        let since = self.up.filling_ns?;
        let (since, bound) = match self.interest.idle {
            true => (since.max(self.idle_ns), HOT_MS),
            false => (since, QUIET_MS),
        };
        Some(since.saturating_add(bound.saturating_mul(1_000_000)))
    }

    /// As [`Self::caller_quiet_ns`], for the upstream's.
    fn upstream_quiet_ns(&self) -> Option<u64> {
        let since = self.down.filling_ns?;
        Some(since.saturating_add(QUIET_MS.saturating_mul(1_000_000)))
    }
}

/// How long a read within an exchange holds a buffer for nothing.
const QUIET_MS: u64 = if cfg!(test) { 60 } else { 200 };
