//! Opaque bytes between a caller and one resource.
//!
//! The caller is who its client certificate says (`identity`); the connection as a whole is the
//! one exchange that is decided, recorded and relayed. A mask cannot be kept on bytes that are
//! not understood: `config` refuses it, and a grant with one is refused here too.
//!
//! ```text
//! New --first Timer or bytes--> Relaying --both ends, or any failure--> Closed
//! ```

use super::gate::{self, Subject, Wrap};
use super::io::{Act, Ending, Input, Interest, Out};
use super::refusal::Refusal;
use super::stall::Stall;
use super::waiting::Waiting;
use super::worker::Worker;
use crate::base::{ConnectionId, CredentialId, ExchangeId, ListenerId, Now, Pieces};
use crate::identity::Principal;
use crate::mask::Cleared;
use crate::policy::{Action, Asserted, Attr, Decision, Durable, Grant, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind, Position};

/// One relayed connection.
pub struct Session {
    listener: ListenerId,
    connection: ConnectionId,
    peer: String,
    principal: Option<Principal>,
    state: State,
    exchange: ExchangeId,
    /// Its first entry is recorded.
    opened: bool,
    stage: Pieces,
    caller_ended: bool,
    upstream_ended: bool,
    bytes: [u64; 2],
    started_ns: u64,
    last_ns: u64,
    stall: Stall,
    waiting: Waiting,
}

enum State {
    New,
    Relaying(Grant),
    Closed,
}

impl Session {
    /// A session for a connection whose client certificate was verified by the listener.
    #[must_use]
    pub fn new(
        listener: ListenerId,
        connection: ConnectionId,
        peer: String,
        principal: Option<Principal>,
        now: Now,
    ) -> Self {
        Self {
            listener,
            connection,
            peer,
            principal,
            state: State::New,
            exchange: ExchangeId(0),
            opened: false,
            stage: Pieces::new(),
            caller_ended: false,
            upstream_ended: false,
            bytes: [0; 2],
            started_ns: now.mono_ns,
            last_ns: now.mono_ns,
            stall: Stall::default(),
            waiting: Waiting::default(),
        }
    }

    /// Advances by one input; see [`super::http::Session::handle`].
    pub fn handle<J: Journal>(
        &mut self,
        input: Input<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let source = match &input {
            Input::Caller(bytes) | Input::Upstream(_, bytes) => *bytes,
            _ => b"",
        };
        let used = self.step(input, now, worker, out);
        self.waiting.settle(source, now, out);
        used
    }

    fn step<J: Journal>(
        &mut self,
        input: Input<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        match input {
            Input::Durable(position) => {
                self.waiting.reached(position, out);
                return 0;
            }
            Input::CallerGone => self.waiting.forget(),
            Input::Timer if self.waiting.is_late(now) => {
                tracing::error!(connection = self.connection.0, "the disk does not get there");
                worker.count(Refusal::Unrecordable);
                self.waiting.forget();
                self.end(true, now, worker, out);
                return 0;
            }
            Input::Caller(_) | Input::Upstream(..) if self.waiting.is_waiting() => return 0,
            _ => {}
        }
        if matches!(self.state, State::New) {
            self.open(now, worker, out);
        }
        if matches!(self.state, State::Closed) {
            return match input {
                Input::Caller(bytes) | Input::Upstream(_, bytes) => bytes.len(),
                _ => 0,
            };
        }
        if let Input::Caller(bytes) | Input::Upstream(_, bytes) = input
            && self.stall.must_wait(bytes.len(), now, worker)
        {
            return 0;
        }
        match input {
            Input::Caller(bytes) => self.relay(bytes, false, now, worker, out),
            Input::Upstream(_, bytes) => self.relay(bytes, true, now, worker, out),
            Input::CallerEnd => {
                self.caller_ended = true;
                out.act(Act::EndUpstream { exchange: self.exchange });
                self.end_if_both(now, worker, out);
                0
            }
            Input::UpstreamEnd(_, Ending::Clean) => {
                self.upstream_ended = true;
                out.act(Act::EndCaller);
                self.end_if_both(now, worker, out);
                0
            }
            Input::CallerGone | Input::UpstreamEnd(_, Ending::Cut) | Input::ConnectFailed(..) => {
                self.end(true, now, worker, out);
                0
            }
            Input::Timer if self.stall.wake(now) => 0,
            Input::Timer => {
                if self.deadline(worker).is_some_and(|at| at <= now.mono_ns) {
                    self.end(true, now, worker, out);
                }
                0
            }
            Input::Connected(..)
            | Input::Durable(_)
            | Input::Drain
            | Input::Cancel
            | Input::News
            | Input::Verdict(..)
            | Input::Shown(..) => 0,
        }
    }

    /// Which bytes it can use.
    #[must_use]
    pub fn interest(&self) -> Interest {
        let waits = self.stall.is_waiting() || self.waiting.is_waiting();
        let open = !matches!(self.state, State::Closed) && !waits;
        Interest {
            caller: open && !self.caller_ended,
            upstream: open && !self.upstream_ended && matches!(self.state, State::Relaying(_)),
            idle: false,
        }
    }

    /// When [`Input::Timer`] is due, in monotonic nanoseconds.
    #[must_use]
    pub fn deadline<J: Journal>(&self, worker: &Worker<J>) -> Option<u64> {
        if let Some(late_ns) = self.waiting.deadline() {
            return Some(late_ns);
        }
        match self.state {
            State::New => Some(self.started_ns),
            State::Relaying(_) if self.stall.is_waiting() => self.stall.retry_ns(),
            State::Relaying(_) => {
                let ms = worker.snapshot.limits.exchange_ms;
                Some(self.last_ns.saturating_add(ms.saturating_mul(1_000_000)))
            }
            State::Closed => None,
        }
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed) && !self.waiting.is_waiting()
    }

    /// What must be on the disk before anything goes on; [`Input::Durable`] says that it is.
    #[must_use]
    pub fn waits_for(&self) -> Option<Position> {
        self.waiting.until()
    }

    fn subject(&self, grant: Option<&Grant>) -> Subject {
        Subject {
            connection: self.connection,
            exchange: self.exchange,
            level: grant.map_or(RecordLevel::Full, Grant::record),
            durable: grant.map_or(Durable::Window, Grant::durable),
        }
    }

    fn open<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.exchange = worker.next_exchange();
        let refusal = match self.decide(now, worker) {
            Ok((grant, credential)) => {
                out.act(Act::Connect {
                    exchange: self.exchange,
                    resource: grant.resource(),
                    credential,
                    generation: worker.snapshot.generation,
                    fresh: true,
                });
                self.state = State::Relaying(grant);
                return;
            }
            Err(refusal) => refusal,
        };
        // Nothing can be said in a protocol that is not known.
        if self.principal.is_some() {
            worker.count(refusal);
        } else {
            drop(worker.count_unknown(refusal, now));
        }
        if self.opened {
            // Reset without a word: what was asked for never was.
            self.note_close(true, now, worker);
        }
        tracing::info!(request = %self.exchange, refusal = refusal.label(), "connection refused");
        self.state = State::Closed;
        out.act(Act::AbortCaller);
    }

    fn decide<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(Grant, CredentialId), Refusal> {
        if worker.refuses_work() {
            return Err(Refusal::Unrecordable);
        }
        let snapshot = std::sync::Arc::clone(&worker.snapshot);
        let principal = self.principal.as_ref().ok_or(Refusal::Unauthenticated)?;
        let listener = snapshot.listener(self.listener).ok_or(Refusal::NoResource)?;
        let resource = listener.resource.ok_or(Refusal::NoResource)?;
        let view = snapshot.resource(resource).ok_or(Refusal::NoResource)?;
        let row = snapshot.policy.row(principal);
        let action = Action {
            resource,
            method: b"",
            path: b"",
            model: Attr::Absent,
            sql: None,
            asserted: Asserted::NONE,
        };
        let (grant, rule) = match gate::decide(&snapshot.policy, principal, &row, &action) {
            Decision::Permit(grant) if grant.masks().is_empty() => {
                let rule = grant.rule();
                (Some(grant), Some(rule))
            }
            Decision::Permit(grant) => (None, Some(grant.rule())),
            // Nobody can be asked on a connection that is passed on as it is.
            Decision::Hold(need) => (None, Some(need.rule())),
            Decision::Deny(denial) => (None, denial.rule),
        };
        worker.counts.decided(resource, grant.is_some());
        // The disk would never get to where the rule wants it.
        if grant.as_ref().is_some_and(|grant| grant.durable() == Durable::Each)
            && worker.record_full
        {
            return Err(Refusal::Unrecordable);
        }
        let mut facts = Vec::with_capacity(256);
        let mut writer = Writer::new(&mut facts);
        writer.text(Tag::Iss, principal.iss());
        writer.text(Tag::Sub, principal.sub());
        writer.text(Tag::Peer, &self.peer);
        writer.text(Tag::Listener, &listener.name);
        writer.text(Tag::Resource, &view.name);
        writer.text(Tag::Protocol, "tcp");
        writer.text(Tag::Decision, if grant.is_some() { "permit" } else { "deny" });
        writer.maybe(Tag::Rule, rule.map(|rule| snapshot.policy.rule_name(rule)));
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        let subject = self.subject(grant.as_ref());
        gate::note(subject, Kind::Open, &facts, false, worker.books(), now)
            .map_err(|_| Refusal::Unrecordable)?;
        self.opened = true;
        grant.map(|grant| (grant, view.credential)).ok_or(Refusal::Denied)
    }

    fn relay<J: Journal>(
        &mut self,
        bytes: &[u8],
        to_caller: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let State::Relaying(grant) = &self.state else { return bytes.len() };
        self.last_ns = now.mono_ns;
        let subject = self.subject(Some(grant));
        self.stage.clear();
        let cleared = Cleared::pass(bytes.len(), &mut self.stage);
        let books = worker.books();
        let wrap = Wrap::default();
        let sent = if to_caller {
            gate::release(cleared, subject, Kind::Data, bytes, wrap, books, now)
                .map(|released| out.push_caller(released))
        } else {
            gate::admit(grant, subject, Kind::Data, cleared, bytes, books, now)
                .map(|admission| out.push_upstream(admission.forward(&mut self.stage, wrap)))
        };
        match sent {
            Ok(()) => {
                let len = bytes.len() as u64;
                let ([from, to], [all_from, all_to]) = (&mut self.bytes, &mut worker.counts.bytes);
                let (own, all) = if to_caller { (to, all_to) } else { (from, all_from) };
                (*own, *all) = (*own + len, *all + len);
            }
            Err(_) => {
                worker.count(Refusal::Unrecordable);
                self.end(true, now, worker, out);
            }
        }
        bytes.len()
    }

    fn end_if_both<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        if self.caller_ended && self.upstream_ended {
            self.end(false, now, worker, out);
        }
    }

    fn end<J: Journal>(&mut self, cut: bool, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.note_close(cut, now, worker);
        self.state = State::Closed;
        out.act(Act::Release { exchange: self.exchange, reuse: false });
        out.act(if cut { Act::AbortCaller } else { Act::CloseCaller { linger: false } });
    }

    fn note_close<J: Journal>(&self, cut: bool, now: Now, worker: &mut Worker<J>) {
        let mut facts = Vec::with_capacity(64);
        let mut writer = Writer::new(&mut facts);
        writer.number(Tag::BytesIn, self.bytes[0]);
        writer.number(Tag::BytesOut, self.bytes[1]);
        writer.number(Tag::TotalNs, now.mono_ns.saturating_sub(self.started_ns));
        writer.text(Tag::Ending, if cut { "cut" } else { "whole" });
        let subject = self.subject(None);
        // The bytes are recorded; only their totals are lost where there is no room.
        let _ = gate::note(subject, Kind::Close, &facts, false, worker.books(), now);
    }
}
