//! The operations of a connection: what is to be started, and what came of it.

use super::Connection;
use crate::base::Now;
use crate::runtime::Session;
use crate::runtime::park::HOT_MS;
use crate::runtime::socket::{ConnectJob, ReadDone, Reading, Socket, WriteDone, Writing};
use crate::session::io::Ending;

impl<S: Session> Connection<S> {
    /// Starts a read on the caller, where there is none and one makes sense.
    ///
    /// One is in flight nearly always, also when nobody wants bytes: a caller that goes must be
    /// heard of, and what it sends ahead is bounded by a buffer. It holds none until bytes come.
    pub(in crate::runtime) fn start_caller_read(&mut self) -> Option<Reading> {
        self.caller.read.as_ref()?;
        if self.lingering.is_none() {
            if self.up.end.is_some() || self.closing.is_some() {
                return None;
            }
            let wanted = self.interest.caller;
            match &self.caller.tls {
                Some(tls) if !tls.is_drained() => return None,
                Some(_) => {}
                None if !wanted && (self.up.lent_rest() || !self.up.rest().is_empty()) => {
                    // Away with a write to an upstream, the buffer is soon back; else wait without.
                    let soon = self.up.lent && self.upstream.is_some();
                    if soon || self.up.ready {
                        return None;
                    }
                    return self.caller.read.take().map(Reading::readable);
                }
                None if wanted && !self.up.is_hungry() => return None,
                None => {}
            }
        }
        let class = self.up.class();
        self.caller.read.take().map(|half| Reading::receive(half, class))
    }

    /// Starts a read on the upstream, where there is none and bytes are wanted.
    pub(in crate::runtime) fn start_upstream_read(&mut self) -> Option<Reading> {
        let wanted = self.interest.upstream || self.up.dead;
        if !wanted || self.upstream_reading || self.down.end.is_some() {
            return None;
        }
        let upstream = self.upstream.as_mut()?;
        upstream.read.as_ref()?;
        // Not ahead of what waits to be shown: a read in flight at the end of an exchange keeps the
        // connection from another one.
        if !is_drained(upstream) || !self.down.is_hungry() {
            return None;
        }
        self.upstream_reading = true;
        let class = self.down.class();
        upstream.read.take().map(|half| Reading::receive(half, class))
    }

    /// Starts a write to the caller, where there is none and something to write.
    pub(in crate::runtime) fn start_caller_write(&mut self, now: Now) -> Option<Writing> {
        let writing = self.down.start_write(&mut self.caller, &self.shared, now);
        self.lap.written(writing.is_some(), &self.shared.counters.latency);
        writing
    }

    /// As [`Self::start_caller_write`], to the upstream.
    pub(in crate::runtime) fn start_upstream_write(&mut self, now: Now) -> Option<Writing> {
        if self.upstream_writing {
            return None;
        }
        let writing = self.up.start_write(self.upstream.as_mut()?, &self.shared, now);
        self.upstream_writing = writing.is_some();
        writing
    }

    /// Whether the end of the write to the caller is no news, should it come off whole: nothing
    /// can go on because of it, and it is looked for when anything else happens.
    pub(in crate::runtime) fn is_quiet_to_caller(&self) -> bool {
        !self.is_ending()
            && !self.down.awaits_write()
            && is_sealed_whole(&self.caller)
            && self.upstream.as_ref().is_none_or(is_drained)
    }

    /// As [`Self::is_quiet_to_caller`], of the write to the upstream.
    pub(in crate::runtime) fn is_quiet_to_upstream(&self) -> bool {
        !self.is_ending()
            && !self.up.awaits_write()
            && self.next.is_none()
            && self.upstream.as_ref().is_some_and(is_sealed_whole)
            && is_drained(&self.caller)
    }

    /// Whether the connection or its time of service ends.
    fn is_ending(&self) -> bool {
        let is_to_park = self.interest.idle && !self.hot && self.exchange.is_none();
        is_to_park
            || self.over
            || self.closing.is_some()
            || self.drain_told
            || self.session.is_closed()
    }

    /// The connect to start.
    pub(in crate::runtime) fn connect_job(&mut self) -> Option<ConnectJob> {
        self.connect_job.take()
    }

    /// Whether a connect in flight is still wanted.
    pub(in crate::runtime) fn is_connecting(&self) -> bool {
        self.connecting
    }

    pub(in crate::runtime) fn on_caller_read(&mut self, done: ReadDone, now: Now) {
        let ReadDone { half, buffer, result, for_bytes } = done;
        self.caller.read = Some(half);
        if self.interest.idle {
            let gap_ns = now.mono_ns.saturating_sub(self.idle_ns);
            self.hot = result.is_ok() && gap_ns < HOT_MS.saturating_mul(1_000_000);
        }
        if !for_bytes {
            return self.on_caller_ready(&result);
        }
        let Some(linger) = self.lingering.as_mut() else {
            if !self.up.filled(&mut self.caller, buffer, &result, &self.shared) {
                self.caller_stuck(now);
            }
            return;
        };
        let count = result.unwrap_or(0);
        linger.left = linger.left.saturating_sub(count);
        self.over |= linger.left == 0 || count == 0;
        buffer.into_iter().for_each(|buffer| self.shared.put(buffer));
    }

    fn on_caller_ready(&mut self, result: &std::io::Result<usize>) {
        if result.is_err() {
            self.up.end = Some(Ending::Cut);
            return;
        }
        if self.interest.caller || self.caller.tls.is_some() {
            self.up.ready = true;
            return;
        }
        match self.caller.peek() {
            Ok(0) => self.up.end = Some(Ending::Clean),
            Ok(_) => self.up.ready = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.up.end = Some(Ending::Cut),
        }
    }

    pub(in crate::runtime) fn on_upstream_read(&mut self, done: ReadDone) {
        (self.upstream_reading, self.hears) = (false, false);
        let ReadDone { half, buffer, result, .. } = done;
        let Some(upstream) = self.upstream.as_mut() else {
            // It was released meanwhile; the half closes with this drop.
            return buffer.into_iter().for_each(|buffer| self.shared.put(buffer));
        };
        upstream.read = Some(half);
        if !self.down.filled(upstream, buffer, &result, &self.shared) {
            self.upstream_stuck();
        }
    }

    pub(in crate::runtime) fn on_caller_write(&mut self, done: WriteDone) {
        self.caller.write = self.down.wrote(done, false, &self.shared);
    }

    pub(in crate::runtime) fn on_upstream_write(&mut self, done: WriteDone) {
        self.upstream_writing = false;
        let half = self.up.wrote(done, self.upstream.is_none(), &self.shared);
        if let Some(upstream) = self.upstream.as_mut() {
            upstream.write = half;
        }
    }
}

/// Whether no records wait behind those that are on their way.
fn is_sealed_whole(socket: &Socket) -> bool {
    socket.tls.as_ref().is_none_or(|tls| !tls.wants_write())
}

/// Whether nothing that came under TLS waits to be opened or taken.
fn is_drained(socket: &Socket) -> bool {
    socket.tls.as_ref().is_none_or(|tls| tls.is_drained())
}
