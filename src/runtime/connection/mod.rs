//! One caller connection as a state that completions move on; it does no input or output itself.
//!
//! `advance` shows the session what stands ready until nothing changes; the `*_job` calls say what
//! is to be started; the `on_*` calls take what came of it. A direction's buffer is shown again
//! only after what was made of it is written, and that is the back-pressure.

mod aside;
mod deadlines;
mod jobs;

use super::flow::{Flow, HalfClose};
use super::latency::Lap;
use super::mailbox::{Post, Posts};
use super::park::Seat;
use super::shared::{Found, Key, Shared};
use super::side::UnderWay;
use super::signal::Phase;
use super::socket::{ConnectJob, Reading, Socket};
use super::sys::Gather;
use super::{Disk, Session, side, sys};
use crate::base::{CredentialId, ExchangeId, Now, ResourceId};
use crate::session::io::{Act, Ending, Input, Interest, Out, UpstreamFault};
use aside::{Aside, Next};
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
    generation: u64,
    fresh: bool,
}

struct Lingering {
    until_ns: u64,
    left: usize,
}

/// See the module.
pub(in crate::runtime) struct Connection<S> {
    shared: Rc<Shared>,
    session: S,
    interest: Interest,
    out: Out,
    caller: Socket,
    upstream: Option<Socket>,
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
    /// Upstream connections that are not in hand, and which one is to be.
    aside: Vec<Aside>,
    next: Option<Next>,
    /// One was taken up again, and the session is to hear so.
    resumed: bool,
    /// It has bytes or an end that were not read.
    hears: bool,
    /// Operations on the upstream that are in flight, also of one that was released.
    upstream_reading: bool,
    upstream_writing: bool,
    lap: Lap,
    post: Option<Rc<Post>>,
    /// What it said aside and is not through with.
    side: Option<UnderWay>,
    closing: Option<Close>,
    lingering: Option<Lingering>,
    /// Since when it is idle.
    idle_ns: u64,
    /// Nothing is due before; see [`Self::deadline`].
    due_ns: u64,
    /// Its requests follow each other closely: the next one is waited for with a buffer in hand.
    hot: bool,
    drain_told: bool,
    over: bool,
}

impl<S: Session> Connection<S> {
    /// Goes on where `seat` was left.
    pub(in crate::runtime) fn new(shared: Rc<Shared>, seat: Seat<S>) -> Self {
        let Seat { caller, session, hot, idle_ns, post, .. } = seat;
        let interest = session.interest();
        Self {
            shared,
            session,
            interest,
            out: Out::new(),
            caller,
            upstream: None,
            up: Flow::new(),
            down: Flow::new(),
            exchange: None,
            key: None,
            want: None,
            connect_job: None,
            connecting: false,
            connected: None,
            aside: Vec::new(),
            next: None,
            resumed: false,
            hears: false,
            upstream_reading: false,
            upstream_writing: false,
            lap: Lap::default(),
            post,
            side: None,
            closing: None,
            lingering: None,
            idle_ns,
            due_ns: 0,
            hot,
            drain_told: false,
            over: false,
        }
    }

    pub(in crate::runtime) fn is_over(&self) -> bool {
        self.over
    }

    /// Shows the session everything that it can take. `reading` is the read of the upstream in
    /// flight: it stays with its connection where another one is taken in hand.
    pub(in crate::runtime) fn advance(&mut self, reading: &mut Option<Reading>, now: Now) {
        self.check_signal(now);
        self.check_deadlines(now);
        while !self.over {
            self.pump(now);
            if self.over || self.closing.is_some() {
                break;
            }
            let moved = self.tell_durable(now)
                || self.tell_called(now)
                || self.step_aside(reading, now)
                || self.step_connect(now)
                || self.show_upstream(now)
                || self.show_caller(now)
                || self.tell_upstream_end(now)
                || self.tell_resumed(now)
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
        // Between requests, and while the caller only listens to its answer.
        if !self.hot && (self.interest.idle || !self.interest.caller) {
            self.up.return_buffer(&self.shared);
        }
        self.step_close(now);
    }

    /// Whether the session waits for the disk.
    pub(in crate::runtime) fn disk(&self) -> Disk {
        if self.over { Disk::Idle } else { self.session.disk() }
    }

    pub(in crate::runtime) fn hurry(&self) {
        self.session.hurry();
    }

    fn tell_durable(&mut self, now: Now) -> bool {
        let Disk::Reached(position) = self.session.disk() else { return false };
        self.tell(Input::Durable(position), now);
        true
    }

    /// Whether somebody else has a word for the session.
    pub(in crate::runtime) fn is_called(&self) -> bool {
        self.closing.is_none() && self.post.as_ref().is_some_and(|post| post.is_called())
    }

    fn tell_called(&mut self, now: Now) -> bool {
        let Some(letters) = self.post.as_ref().filter(|_| self.is_called()).map(|post| post.take())
        else {
            return false;
        };
        if letters.cancel {
            self.tell(Input::Cancel, now);
        }
        if letters.news {
            self.tell(Input::News, now);
        }
        true
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

    fn pump(&mut self, now: Now) {
        let lingering = self.lingering.is_some();
        let wanted = self.interest.caller && !lingering;
        if !self.up.pump(&mut self.caller, wanted, &self.shared) {
            self.caller_stuck(now);
        }
        if let Some(upstream) = self.upstream.as_mut() {
            let wanted = self.interest.upstream || self.up.dead;
            if !self.down.pump(upstream, wanted, &self.shared) && self.down.end.is_none() {
                self.upstream_stuck();
            }
        }
    }

    fn caller_stuck(&mut self, now: Now) {
        tracing::warn!("a session takes nothing of a full buffer; its caller is cut");
        self.gone(now);
    }

    fn upstream_stuck(&mut self) {
        tracing::warn!("a session takes nothing of a full buffer; its upstream is cut");
        self.down.end = Some(Ending::Cut);
    }

    fn show_caller(&mut self, now: Now) -> bool {
        if !self.interest.caller || !self.up.fresh || !self.up.is_idle() {
            return false;
        }
        // What the session itself answers needs no upstream to hold it back: its reader does.
        if self.down.is_backed_up() {
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
        let leaves = self.next.is_some();
        if leaves || !self.interest.upstream || !self.down.fresh || !self.down.is_idle() {
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
        let fits = !self.down.told && !self.down.lent && self.next.is_none();
        let Some(ending) = self.down.end.filter(|_| fits) else {
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
            self.up.forget(&self.shared);
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
        if self.interest.idle && !was_idle {
            self.idle_ns = now.mono_ns;
        }
        match from {
            _ if moved => {
                self.up.fresh = true;
                self.down.fresh = true;
            }
            From::Caller(_) => self.up.fresh = false,
            From::Upstream(_) => self.down.fresh = false,
            From::Other => {}
        }
        if self.out.take_head_read() {
            self.lap.head_read(now);
        }
        // Acts first: a release clears the way that pieces for a next exchange go.
        while let Some(act) = self.out.next_act() {
            self.act(act, now);
        }
        debug_assert!(self.out.side().is_empty(), "bytes aside without an act");
        let (mut up_base, mut down_base) = (None, None);
        match from {
            From::Caller(base) => up_base = Some(base),
            From::Upstream(base) => down_base = Some(base),
            From::Other => {}
        }
        let mut sound = true;
        if !self.out.upstream().list().is_empty() {
            // It would go to the connection that is to be kept aside.
            sound &= self.next.is_none();
            let out = &mut self.out;
            sound &= self.up.take(up_base, &self.shared, |to| out.swap_upstream(to));
            if self.exchange.is_none() {
                self.up.forget(&self.shared);
            }
        }
        if !self.out.caller().list().is_empty() {
            if matches!(from, From::Upstream(_)) {
                self.lap.answering(now);
            }
            let out = &mut self.out;
            sound &= self.down.take(down_base, &self.shared, |to| out.swap_caller(to));
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
            Act::Connect { exchange, resource, credential, generation, fresh } => {
                if self.exchange.is_some() {
                    self.release(false, now);
                }
                self.lap.admitted(exchange, now, &self.shared.counters.latency);
                self.exchange = Some(exchange);
                self.want = Some(Want { resource, credential, generation, fresh });
            }
            Act::Beside { exchange, resource, credential, generation } => {
                let want = Want { resource, credential, generation, fresh: true };
                self.next = Some(Next::Connect(exchange, want));
            }
            Act::Resume { exchange } => self.next = Some(Next::Resume(exchange)),
            Act::Release { exchange, reuse } => {
                if self.exchange == Some(exchange) {
                    self.release(reuse, now);
                }
            }
            Act::EndAside { exchange } => self.drop_aside(|aside| aside == exchange),
            Act::EndUpstream { exchange } => {
                if self.exchange == Some(exchange) && self.up.half_close == HalfClose::Open {
                    self.up.half_close = HalfClose::Wanted;
                }
            }
            Act::Cancel { exchange } => self.say_aside(exchange),
            Act::Petition { exchange, petition } => {
                let post = self.post.get_or_insert_with(|| Posts::open(&self.shared));
                self.session.petition(exchange, *petition, post.id());
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

    /// Sends what is queued aside on its way, to the upstream that serves `exchange`.
    fn say_aside(&mut self, exchange: ExchangeId) {
        let mut word = Box::<Gather>::default();
        self.out.swap_side(word.pieces_mut());
        let busy = self.side.as_ref().is_some_and(UnderWay::is_on);
        if word.is_empty() || busy || self.exchange != Some(exchange) {
            return;
        }
        let (Some(upstream), Some(key)) = (&self.upstream, self.key) else { return };
        match side::start(&self.shared, key, upstream.fd, word) {
            Ok(under_way) => self.side = Some(under_way),
            Err(error) => {
                self.shared.counters.sides_failed.add();
                tracing::debug!(%error, "nothing is said aside");
            }
        }
    }

    /// Ends the bond of exchange and upstream connection.
    fn release(&mut self, reuse: bool, now: Now) {
        self.exchange = None;
        (self.resumed, self.hears) = (false, false);
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
        self.up.forget(&self.shared);
        self.up.restart_out();
        self.down.drop_rest();
    }

    fn step_connect(&mut self, now: Now) -> bool {
        let Some(exchange) = self.exchange else { return false };
        if let Some(want) = self.want.take() {
            let Want { resource, credential, generation, .. } = want;
            let key = Key { resource, credential, generation };
            self.key = Some(key);
            match self.shared.find(key, want.fresh, now) {
                Ok(Found::Pooled(socket)) => {
                    self.shared.counters.upstream_reused.add();
                    self.connected = Some(socket);
                }
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
        let socket = self.upstream.insert(socket);
        self.lap.connected(now, &self.shared.counters.latency);
        self.up.dead = false;
        self.down.restart_in();
        let certificate = socket.tls.as_ref().and_then(|tls| tls.peer_certificate());
        let input = Input::Connected(exchange, certificate);
        self.session.handle(input, now, &mut self.out);
        self.after(From::Other, 0, now);
        true
    }

    fn connect_failed(&mut self, exchange: ExchangeId, fault: UpstreamFault, now: Now) {
        self.shared.counters.upstream_failed.add();
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
        if self.closing.is_some() {
            self.drop_aside(|_| true);
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

    pub(in crate::runtime) fn on_connect(
        &mut self,
        result: Result<Socket, UpstreamFault>,
        now: Now,
    ) {
        self.connecting = false;
        let Some(exchange) = self.exchange else { return };
        match result {
            Ok(socket) => {
                self.shared.counters.upstream_made.add();
                self.connected = Some(socket);
            }
            Err(fault) => self.connect_failed(exchange, fault, now),
        }
    }

    /// Ends both sides, so that every operation in flight completes soon.
    pub(in crate::runtime) fn hang_up(&mut self, now: Now) {
        self.over = true;
        self.release(false, now);
        self.drop_aside(|_| true);
        sys::shutdown_both(self.caller.fd);
    }

    /// Whether nothing is in hand and nothing in flight but a read for bytes, and none are expected
    /// soon.
    pub(in crate::runtime) fn may_park(&self, reading: bool) -> bool {
        let quiet = self.interest.idle && !self.hot;
        let nothing_to_do = self.exchange.is_none()
            && self.aside.is_empty()
            && self.next.is_none()
            && self.closing.is_none()
            && self.up.end.is_none()
            && self.up.rest().is_empty()
            && self.down.is_idle()
            && !self.down.dead;
        let nothing_in_flight = (reading || self.caller.read.is_some())
            && self.caller.write.is_some()
            && !self.upstream_reading
            && !self.upstream_writing
            && self.caller.tls.as_ref().is_none_or(|tls| tls.is_drained() && !tls.wants_write());
        quiet && nothing_to_do && nothing_in_flight && !self.over
    }

    /// What is left of a connection that [`Self::may_park`].
    pub(in crate::runtime) fn park(self, reading: Option<Reading>) -> Seat<S> {
        debug_assert!(self.upstream.is_none() && self.connected.is_none());
        let idle_ns = self.idle_ns;
        Seat { reading, idle_ns, ..Seat::new(self.caller, self.session, self.post) }
    }

    /// Gives the buffers back, once nothing is in flight.
    pub(in crate::runtime) fn finish(&mut self) {
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
