//! The operations of a connection: what is to be started, and what came of it.

use super::Connection;
use crate::base::Now;
use crate::runtime::park::HOT_MS;
use crate::runtime::socket::{ConnectJob, ReadDone, ReadJob, WriteDone, WriteJob};
use crate::runtime::{Session, sys};
use crate::session::io::Ending;

impl<S: Session> Connection<S> {
    /// The read to start on the caller.
    ///
    /// One is in flight nearly always, also when nobody wants bytes: a caller that goes must be
    /// heard of, and what it sends ahead is bounded by the buffer. One that gets nothing for a
    /// while becomes a wait, which holds no buffer; so is every one of a connection that is not hot.
    pub(in crate::runtime) fn caller_read_job(&mut self, now: Now) -> Option<ReadJob> {
        self.caller.read.as_ref()?;
        if self.lingering.is_some() {
            let mut buffer = self.up.buffer.take().unwrap_or_else(|| self.shared.take_small());
            let count = buffer.filled().len();
            buffer.consume(count);
            buffer.compact();
            let cancel = self.caller_cancel.handle();
            return self.caller.read.take().map(|half| ReadJob::Fill(half, buffer, cancel));
        }
        if self.up.end.is_some() || self.closing.is_some() {
            return None;
        }
        let wanted = self.interest.caller;
        // Between requests that are far apart, and while the caller only listens.
        let cold = !self.hot && (!wanted || self.interest.idle);
        let buffer = match &self.caller.tls {
            Some(tls) if !tls.is_drained() => return None,
            _ if (self.up.quiet || cold) && !self.up.ready => {
                return self.caller.read.take().map(ReadJob::Wait);
            }
            Some(_) => self.up.sealed_room(&self.shared),
            None if !wanted && (self.up.lent || !self.up.rest().is_empty()) => {
                // Away with a write to an upstream, the buffer is soon back; else wait without.
                let soon = self.up.lent && self.upstream.is_some();
                if soon || self.up.ready {
                    return None;
                }
                return self.caller.read.take().map(ReadJob::Wait);
            }
            None if wanted && !self.up.is_hungry() => return None,
            None => match self.up.room(&self.shared) {
                Some(buffer) => buffer,
                None => {
                    tracing::warn!("a session takes nothing of a full buffer; its caller is cut");
                    self.gone(now);
                    return None;
                }
            },
        };
        self.up.filling_ns = Some(now.mono_ns);
        let cancel = self.caller_cancel.handle();
        self.caller.read.take().map(|half| ReadJob::Fill(half, buffer, cancel))
    }

    /// The read to start on the upstream.
    pub(in crate::runtime) fn upstream_read_job(&mut self, now: Now) -> Option<ReadJob> {
        let wanted = self.interest.upstream || self.up.dead;
        if !wanted || self.upstream_reading || self.down.end.is_some() {
            return None;
        }
        let upstream = self.upstream.as_mut()?;
        upstream.read.as_ref()?;
        let buffer = match &upstream.tls {
            Some(tls) if !tls.is_drained() => return None,
            None if !self.down.is_hungry() => return None,
            _ if self.down.quiet && !self.down.ready => {
                self.upstream_reading = true;
                return upstream.read.take().map(ReadJob::Wait);
            }
            Some(_) => self.down.sealed_room(&self.shared),
            None => match self.down.room(&self.shared) {
                Some(buffer) => buffer,
                None => {
                    tracing::warn!("a session takes nothing of a full buffer; its upstream is cut");
                    self.down.end = Some(Ending::Cut);
                    return None;
                }
            },
        };
        self.upstream_reading = true;
        self.down.filling_ns = Some(now.mono_ns);
        let cancel = self.upstream_cancel.handle();
        upstream.read.take().map(|half| ReadJob::Fill(half, buffer, cancel))
    }

    /// The write to start on the caller.
    pub(in crate::runtime) fn caller_write_job(&mut self, now: Now) -> Option<WriteJob> {
        let job = self.down.write_job(&mut self.caller, now);
        self.lap.written(job.is_some(), &self.shared.counters.latency);
        job
    }

    /// The write to start on the upstream.
    pub(in crate::runtime) fn upstream_write_job(&mut self, now: Now) -> Option<WriteJob> {
        if self.upstream_writing {
            return None;
        }
        let job = self.up.write_job(self.upstream.as_mut()?, now);
        self.upstream_writing = job.is_some();
        job
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
        let ReadDone { half, buffer, result } = done;
        self.caller.read = Some(half);
        if self.interest.idle {
            let gap_ns = now.mono_ns.saturating_sub(self.idle_ns);
            self.hot = result.is_ok() && gap_ns < HOT_MS.saturating_mul(1_000_000);
        }
        let Some(buffer) = buffer else { return self.on_caller_ready(&result) };
        if let Some(linger) = self.lingering.as_mut() {
            let cancelled = |error: &std::io::Error| error.raw_os_error() == Some(libc::ECANCELED);
            if result.as_ref().is_err_and(cancelled) {
                return self.shared.put(buffer);
            }
            let count = result.unwrap_or(0);
            linger.left = linger.left.saturating_sub(count);
            self.over |= linger.left == 0 || count == 0;
            self.shared.put(buffer);
        } else {
            self.up.filled(&mut self.caller, buffer, result, &self.shared);
        }
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
        match sys::receive_now(self.caller.fd, &mut [0], true) {
            Ok(0) => self.up.end = Some(Ending::Clean),
            Ok(_) => self.up.ready = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.up.end = Some(Ending::Cut),
        }
    }

    pub(in crate::runtime) fn on_upstream_read(&mut self, done: ReadDone) {
        self.upstream_reading = false;
        let ReadDone { half, buffer, result } = done;
        let Some(upstream) = self.upstream.as_mut() else {
            // It was released meanwhile; the half closes with this drop.
            return buffer.into_iter().for_each(|buffer| self.shared.put(buffer));
        };
        upstream.read = Some(half);
        let Some(buffer) = buffer else {
            // A wait that fails is followed by a read that says why.
            self.down.ready = true;
            return;
        };
        self.down.filled(upstream, buffer, result, &self.shared);
    }

    pub(in crate::runtime) fn on_caller_write(&mut self, done: WriteDone) {
        self.caller.write = self.down.wrote(done, false);
    }

    pub(in crate::runtime) fn on_upstream_write(&mut self, done: WriteDone) {
        self.upstream_writing = false;
        let half = self.up.wrote(done, self.upstream.is_none());
        if let Some(upstream) = self.upstream.as_mut() {
            upstream.write = half;
        }
    }
}
