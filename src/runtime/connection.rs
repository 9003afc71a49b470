//! One caller connection as a state that completions move on; it does no input or output itself.
//!
//! `advance` shows the session what stands ready until nothing changes; the `*_job` calls say what
//! is to be started; the `on_*` calls take what came of it. A direction's buffer is shown again
//! only after what was made of it is written, and that is the back-pressure.

use super::flow::{Flow, HalfClose};
use super::shared::{Found, Key, Shared};
use super::signal::Phase;
use super::socket::{ConnectJob, ReadDone, ReadJob, Socket, WriteDone, WriteJob};
use super::{Session, sys};
use crate::base::{CredentialId, ExchangeId, Now, Pieces, ResourceId};
use crate::session::io::{Act, Ending, Input, Interest, Out, UpstreamFault};
use monoio::io::Canceller;
use std::rc::Rc;

/// How the caller's connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Close {
    Clean,
    Linger,
    Abort,
}

/// Where an input came from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Caller(usize),
    Upstream(usize),
    Other,
}

struct Want {
    resource: ResourceId,
    credential: CredentialId,
    fresh: bool,
}

struct Lingering {
    until_ns: u64,
    left: usize,
}

/// See the module.
pub(super) struct Connection<S> {
    shared: Rc<Shared>,
    session: S,
    interest: Interest,
    out: Out,
    caller: Socket,
    caller_cancel: Canceller,
    upstream: Option<Socket>,
    upstream_cancel: Canceller,
    /// From the caller to the upstream.
    up: Flow,
    /// From the upstream to the caller.
    down: Flow,
    exchange: Option<ExchangeId>,
    key: Option<Key>,
    want: Option<Want>,
    connect_job: Option<ConnectJob>,
    connecting: bool,
    connected: Option<Socket>,
    /// Operations on the upstream that are in flight, also of one that was released.
    upstream_reading: bool,
    upstream_writing: bool,
    closing: Option<Close>,
    lingering: Option<Lingering>,
    /// When the room that an idle connection holds is given back.
    tidy_ns: Option<u64>,
    drain_told: bool,
    over: bool,
}

impl<S: Session> Connection<S> {
    pub(super) fn new(shared: Rc<Shared>, caller: Socket, session: S) -> Self {
        let interest = session.interest();
        Self {
            shared,
            session,
            interest,
            out: Out::new(),
            caller,
            caller_cancel: Canceller::new(),
            upstream: None,
            upstream_cancel: Canceller::new(),
            up: Flow::new(),
            down: Flow::new(),
            exchange: None,
            key: None,
            want: None,
            connect_job: None,
            connecting: false,
            connected: None,
            upstream_reading: false,
            upstream_writing: false,
            closing: None,
            lingering: None,
            tidy_ns: None,
            drain_told: false,
            over: false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Shows the session everything that it can take.
    pub(super) fn advance(&mut self, now: Now) {
        self.check_signal(now);
        self.check_deadlines(now);
        while !self.over {
            self.pump();
            if self.closing.is_some() {
                break;
            }
            let moved = self.step_connect(now)
                || self.show_upstream(now)
                || self.show_caller(now)
                || self.tell_upstream_end(now)
                || self.tell_caller_end(now);
            if !moved {
                break;
            }
        }
        if self.session.is_closed() && self.closing.is_none() {
            self.closing = Some(Close::Clean);
        }
        if self.upstream.is_none() {
            self.down.return_buffer(&self.shared);
        }
        if self.interest.idle && self.up.quiet {
            self.up.return_buffer(&self.shared);
        }
        self.step_close(now);
    }

    /// Notes that an exchange begins or ended; one that stays idle gives its room back.
    fn note_idle(&mut self, was_idle: bool, now: Now) {
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

    fn check_signal(&mut self, now: Now) {
        match self.shared.signal.phase() {
            Phase::Open => {}
            Phase::Draining if !self.drain_told => {
                self.drain_told = true;
                self.tell(Input::Drain, now);
            }
            Phase::Draining => {}
            Phase::Stopped => self.gone(now),
        }
    }

    fn check_deadlines(&mut self, now: Now) {
        let write_ns = self.shared.limits.write_ms.saturating_mul(1_000_000);
        let late = |since: u64| now.mono_ns >= since.saturating_add(write_ns);
        if self.caller.write.is_none() && late(self.down.since_ns) {
            tracing::warn!("a caller takes no bytes");
            self.gone(now);
        }
        if self.upstream_writing && !self.up.dead && late(self.up.since_ns) {
            tracing::warn!("an upstream takes no bytes");
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
    pub(super) fn deadline(&self, now: Now) -> Option<u64> {
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

    fn pump(&mut self) {
        let lingering = self.lingering.is_some();
        self.up.pump(&mut self.caller, self.interest.caller && !lingering, &self.shared);
        if let Some(upstream) = self.upstream.as_mut() {
            let wanted = self.interest.upstream || self.up.dead;
            self.down.pump(upstream, wanted, &self.shared);
        }
    }

    fn show_caller(&mut self, now: Now) -> bool {
        if !self.interest.caller || !self.up.fresh || !self.up.is_idle() {
            return false;
        }
        let Some(buffer) = self.up.buffer.as_mut().filter(|buffer| !buffer.is_empty()) else {
            return false;
        };
        let base = buffer.start();
        let consumed = self.session.handle(Input::Caller(buffer.filled()), now, &mut self.out);
        buffer.consume(consumed);
        self.after(From::Caller(base), consumed, now);
        true
    }

    fn show_upstream(&mut self, now: Now) -> bool {
        let Some(exchange) = self.exchange.filter(|_| self.upstream.is_some()) else {
            return false;
        };
        if !self.interest.upstream || !self.down.fresh || !self.down.is_idle() {
            return false;
        }
        let Some(buffer) = self.down.buffer.as_mut().filter(|buffer| !buffer.is_empty()) else {
            return false;
        };
        let base = buffer.start();
        let input = Input::Upstream(exchange, buffer.filled());
        let consumed = self.session.handle(input, now, &mut self.out);
        buffer.consume(consumed);
        self.after(From::Upstream(base), consumed, now);
        true
    }

    fn tell_upstream_end(&mut self, now: Now) -> bool {
        let (Some(upstream), Some(exchange)) = (self.upstream.as_ref(), self.exchange) else {
            return false;
        };
        let Some(ending) = self.down.end.filter(|_| !self.down.told && !self.down.lent) else {
            return false;
        };
        let opened = upstream.tls.as_ref().map_or(0, |tls| tls.opened());
        let stuck = self.interest.upstream && !self.down.fresh;
        if !stuck && (opened > 0 || !self.down.rest().is_empty()) {
            return false;
        }
        self.down.told = true;
        let ending = if self.up.dead { Ending::Cut } else { ending };
        if ending == Ending::Cut {
            self.up.forget();
        }
        self.tell(Input::UpstreamEnd(exchange, ending), now);
        true
    }

    fn tell_caller_end(&mut self, now: Now) -> bool {
        if self.down.dead {
            self.gone(now);
            return true;
        }
        match self.up.end {
            Some(Ending::Cut) => self.gone(now),
            Some(Ending::Clean) if !self.up.told && !self.up.lent => {
                let opened = self.caller.tls.as_ref().map_or(0, |tls| tls.opened());
                let stuck = self.interest.caller && !self.up.fresh;
                if !stuck && (opened > 0 || !self.up.rest().is_empty()) {
                    return false;
                }
                self.up.told = true;
                self.tell(Input::CallerEnd, now);
            }
            _ => return false,
        }
        true
    }

    /// The caller is gone: whatever the session makes of it, the connection is over.
    fn gone(&mut self, now: Now) {
        if self.over {
            return;
        }
        self.over = true;
        if self.closing.is_none() && !self.session.is_closed() {
            self.tell(Input::CallerGone, now);
        }
    }

    fn tell(&mut self, input: Input<'_>, now: Now) {
        self.session.handle(input, now, &mut self.out);
        self.after(From::Other, 0, now);
    }

    /// Takes everything that a call of `handle` produced.
    fn after(&mut self, from: From, consumed: usize, now: Now) {
        let interest = self.session.interest();
        let moved = consumed > 0
            || !self.out.is_empty()
            || interest != self.interest
            || from == From::Other;
        let was_idle = std::mem::replace(&mut self.interest, interest).idle;
        self.note_idle(was_idle, now);
        match from {
            _ if moved => {
                self.up.fresh = true;
                self.down.fresh = true;
            }
            From::Caller(_) => self.up.fresh = false,
            From::Upstream(_) => self.down.fresh = false,
            From::Other => {}
        }
        // Acts first: a release clears the way that pieces for a next exchange go.
        while let Some(act) = self.out.next_act() {
            self.act(act, now);
        }
        let (mut up_base, mut down_base) = (None, None);
        match from {
            From::Caller(base) => up_base = Some(base),
            From::Upstream(base) => down_base = Some(base),
            From::Other => {}
        }
        let mut sound = true;
        if !self.out.upstream().list().is_empty() {
            let out = &mut self.out;
            sound &= self.up.take(up_base, |to| out.swap_upstream(to));
            if self.exchange.is_none() {
                self.up.forget();
            }
        }
        if !self.out.caller().list().is_empty() {
            let out = &mut self.out;
            sound &= self.down.take(down_base, |to| out.swap_caller(to));
        }
        if !sound {
            debug_assert!(false, "pieces name an input that was not shown");
            tracing::error!("a session named bytes that it was not shown; its connection ends");
            self.closing = Some(Close::Abort);
            self.over = true;
        }
        if self.down.lent && self.upstream.is_none() {
            self.down.drop_rest();
        }
    }

    fn act(&mut self, act: Act, now: Now) {
        match act {
            Act::Connect { exchange, resource, credential, fresh } => {
                if self.exchange.is_some() {
                    self.release(false, now);
                }
                self.exchange = Some(exchange);
                self.want = Some(Want { resource, credential, fresh });
            }
            Act::Release { exchange, reuse } => {
                if self.exchange == Some(exchange) {
                    self.release(reuse, now);
                }
            }
            Act::EndUpstream { exchange } => {
                if self.exchange == Some(exchange) && self.up.half_close == HalfClose::Open {
                    self.up.half_close = HalfClose::Wanted;
                }
            }
            Act::EndCaller => {
                if self.down.half_close == HalfClose::Open {
                    self.down.half_close = HalfClose::Wanted;
                }
            }
            Act::CloseCaller { linger } => {
                self.closing = Some(if linger { Close::Linger } else { Close::Clean });
            }
            Act::AbortCaller => self.closing = Some(Close::Abort),
        }
    }

    /// Ends the bond of exchange and upstream connection.
    fn release(&mut self, reuse: bool, now: Now) {
        self.exchange = None;
        self.want = None;
        self.connect_job = None;
        self.connecting = false;
        self.connected = None;
        let key = self.key.take();
        let quiet = !self.upstream_reading && !self.upstream_writing && self.up.is_idle();
        if let Some(upstream) = self.upstream.take() {
            let drained = upstream.tls.as_ref().is_none_or(|tls| tls.is_drained());
            let whole = self.up.half_close == HalfClose::Open
                && self.down.end.is_none()
                && self.down.rest().is_empty()
                && !self.down.lent;
            match key.filter(|_| reuse && quiet && drained && whole && !self.up.dead) {
                Some(key) => self.shared.keep(key, upstream, now),
                None => sys::shutdown_both(upstream.fd),
            }
        }
        self.up.forget();
        self.up.restart_out();
        self.down.drop_rest();
    }

    fn step_connect(&mut self, now: Now) -> bool {
        let Some(exchange) = self.exchange else { return false };
        if let Some(want) = self.want.take() {
            let key = self.shared.key(want.resource, want.credential);
            self.key = Some(key);
            match self.shared.find(key, want.fresh, now) {
                Ok(Found::Pooled(socket)) => self.connected = Some(socket),
                Ok(Found::Connect(job)) => {
                    self.connect_job = Some(job);
                    self.connecting = true;
                }
                Err(fault) => self.connect_failed(exchange, fault, now),
            }
            return true;
        }
        if self.upstream_reading || self.upstream_writing || self.upstream.is_some() {
            return false;
        }
        let Some(socket) = self.connected.take() else { return false };
        self.upstream = Some(socket);
        self.up.dead = false;
        self.down.restart_in();
        self.tell(Input::Connected(exchange), now);
        true
    }

    fn connect_failed(&mut self, exchange: ExchangeId, fault: UpstreamFault, now: Now) {
        self.release(false, now);
        self.tell(Input::ConnectFailed(exchange, fault), now);
    }

    /// Ends directions and the connection once everything queued is out.
    fn step_close(&mut self, now: Now) {
        if self.over {
            return;
        }
        if let Some(upstream) = self.upstream.as_mut()
            && self.up.half_close == HalfClose::Wanted
            && self.up.is_idle()
            && is_told(upstream)
        {
            self.up.half_close = HalfClose::Done;
            sys::shutdown_write(upstream.fd);
        }
        let ends = self.closing.is_some() || self.down.half_close == HalfClose::Wanted;
        if self.closing.is_some() && (self.upstream.is_some() || self.exchange.is_some()) {
            self.release(false, now);
        }
        if self.down.dead && self.closing.is_some() {
            self.over = true;
            return;
        }
        if !ends || self.lingering.is_some() || !self.down.is_idle() {
            return;
        }
        if self.closing == Some(Close::Abort) {
            sys::reset(self.caller.fd);
            self.over = true;
            return;
        }
        if !is_told(&mut self.caller) {
            return;
        }
        if self.down.half_close != HalfClose::Done {
            self.down.half_close = HalfClose::Done;
            sys::shutdown_write(self.caller.fd);
        }
        match self.closing {
            Some(Close::Linger) if self.up.end.is_none() => {
                let left = usize::try_from(self.shared.limits.linger_max).unwrap_or(usize::MAX);
                let until_ns = now.after_ms(self.shared.limits.linger_ms);
                self.lingering = Some(Lingering { until_ns, left });
            }
            Some(_) => self.over = true,
            None => {}
        }
    }

    /// The read to start on the caller.
    ///
    /// One is in flight nearly always, also when nobody wants bytes: a caller that goes must be
    /// heard of, and what it sends ahead is bounded by the buffer. One that gets nothing for a
    /// while becomes a wait, which holds no buffer.
    pub(super) fn caller_read_job(&mut self, now: Now) -> Option<ReadJob> {
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
        let buffer = match &self.caller.tls {
            Some(tls) if !tls.is_drained() => return None,
            _ if self.up.quiet && !self.up.ready => {
                return self.caller.read.take().map(ReadJob::Wait);
            }
            Some(_) => self.shared.take_small(),
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
    pub(super) fn upstream_read_job(&mut self, now: Now) -> Option<ReadJob> {
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
            Some(_) => self.shared.take_small(),
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
    pub(super) fn caller_write_job(&mut self, now: Now) -> Option<WriteJob> {
        self.down.write_job(&mut self.caller, now)
    }

    /// The write to start on the upstream.
    pub(super) fn upstream_write_job(&mut self, now: Now) -> Option<WriteJob> {
        if self.upstream_writing {
            return None;
        }
        let job = self.up.write_job(self.upstream.as_mut()?, now);
        self.upstream_writing = job.is_some();
        job
    }

    /// The connect to start.
    pub(super) fn connect_job(&mut self) -> Option<ConnectJob> {
        self.connect_job.take()
    }

    /// Whether a connect in flight is still wanted.
    pub(super) fn is_connecting(&self) -> bool {
        self.connecting
    }

    pub(super) fn on_caller_read(&mut self, done: ReadDone) {
        let ReadDone { half, buffer, result } = done;
        self.caller.read = Some(half);
        let Some(buffer) = buffer else { return self.on_caller_ready(&result) };
        if let Some(linger) = self.lingering.as_mut() {
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

    pub(super) fn on_upstream_read(&mut self, done: ReadDone) {
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

    pub(super) fn on_caller_write(&mut self, done: WriteDone) {
        self.caller.write = self.down.wrote(done, false);
    }

    pub(super) fn on_upstream_write(&mut self, done: WriteDone) {
        self.upstream_writing = false;
        let half = self.up.wrote(done, self.upstream.is_none());
        if let Some(upstream) = self.upstream.as_mut() {
            upstream.write = half;
        }
    }

    pub(super) fn on_connect(&mut self, result: Result<Socket, UpstreamFault>, now: Now) {
        self.connecting = false;
        let Some(exchange) = self.exchange else { return };
        match result {
            Ok(socket) => self.connected = Some(socket),
            Err(fault) => self.connect_failed(exchange, fault, now),
        }
    }

    /// Ends both sides, so that every operation in flight completes soon.
    pub(super) fn hang_up(&mut self, now: Now) {
        self.over = true;
        self.release(false, now);
        sys::shutdown_both(self.caller.fd);
    }

    /// Gives the buffers back, once nothing is in flight.
    pub(super) fn finish(&mut self) {
        self.up.finish(&self.shared);
        self.down.finish(&self.shared);
        if let Some(buffer) = self.caller.tls.as_mut().and_then(|tls| tls.abandon()) {
            self.shared.put(buffer);
        }
    }
}

/// Whether the peer heard, under TLS by a `close_notify`, that nothing more will come.
fn is_told(socket: &mut Socket) -> bool {
    match socket.tls.as_mut() {
        None => true,
        Some(tls) => {
            tls.close();
            !tls.wants_write()
        }
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
