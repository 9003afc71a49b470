//! HTTP/1.1 between one caller and the upstreams of its exchanges.
//!
//! One exchange at a time (RFC 9112, section 9.3.2); later requests of a pipeline wait unread.
//! The two legs of an exchange are two small machines:
//!
//! ```text
//! request:  Head -> Gather -> Forward -> Done        Head -> Discard -> Done (refused, body dropped)
//!              \-> Forward, when no rule asks for an attribute of the body
//!            \-> Collect -> Held -> Forward, when a rule asks for an approval (`hold`)
//! answer:   None -> Head -> Body -> Done             None -> Done (our own answer)
//! ```
//!
//! When both are `Done` the exchange is closed and both begin anew, or the connection ends.

mod answer;
mod body;
mod end;
mod escape;
mod head;
mod hold;
mod own;
mod question;
mod request;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]
mod tests;

use super::approving::Petition;
use super::asserted::Asserted;
use super::gate::Subject;
use super::io::{Act, Input, Interest, Out, UpstreamFault};
use super::model::ModelScan;
use super::refusal::Refusal;
use super::stall::Stall;
use super::waiting::Waiting;
use super::watch::Watch;
use super::worker::{Held, Identified, Snapshot, Worker};
use crate::base::{
    ConnectionId, CredentialId, ExchangeId, ListenerId, Now, Pieces, ResourceId, RuleId,
};
use crate::credential::EchoState;
use crate::mask::Filter;
use crate::policy::{Durable, Grant, RecordLevel};
use crate::record::{Journal, Position};
use crate::wire::coding::Decoder;
use crate::wire::http1::{BodyDecoder, HeadScan, RequestHead, ResponseHead};
use core::net::SocketAddr;
use hold::Hold;
use own::Own;

/// Where the request leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Waiting for a complete head.
    Head,
    /// Reading the body until the decision can be made.
    Gather,
    /// Reading the whole body, which a person has to approve of.
    Collect,
    /// The whole request is at hand and waits for a person.
    Held,
    /// Permitted; the body goes on as it comes.
    Forward,
    /// Refused; the rest of a short body is read and dropped.
    Discard,
    /// The whole request was read.
    Done,
}

/// Where the answer leg stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// No upstream is asked.
    None,
    /// Waiting for a final head.
    Head,
    /// The head is out, the body follows.
    Body,
    /// The whole answer is out.
    Done,
}

/// How the body of the answer stands toward the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framed {
    /// By the length in the head.
    Length,
    /// In chunks.
    Chunks,
    /// By the end of the connection.
    Close,
}

/// One request and its answer.
struct Exchange {
    id: ExchangeId,
    snapshot: Held,
    who: Option<Identified>,
    resource: Option<ResourceId>,
    grant: Option<Grant>,
    credential: CredentialId,
    rule: Option<RuleId>,
    started_ns: u64,
    sent_ns: u64,
    /// How long it waited for a person.
    held_ns: u64,
    version_minor: u8,
    keep_alive: bool,
    is_head: bool,
    /// May be sent again on another connection: no body, idempotent, nothing answered.
    repeatable: bool,
    /// Its first entry is written.
    opened: bool,
    /// `100 Continue` went out.
    welcomed: bool,
    model_scan: bool,
    body_left: Option<u64>,
    upstream_chunked: bool,
    upstream_open: bool,
    upstream_keep: bool,
    framed: Framed,
    interim: u32,
    status: u16,
    bytes_in: u64,
    /// Source bytes of the body that went upstream.
    bytes_sent: u64,
    bytes_out: u64,
    cut: bool,
}

/// One caller connection that speaks HTTP/1.
pub struct Session {
    listener: ListenerId,
    connection: ConnectionId,
    caller: SocketAddr,
    peer: String,
    /// The name that the caller asked for in its TLS handshake.
    server_name: Option<String>,
    closed: bool,
    draining: bool,
    caller_ended: bool,
    request: Request,
    answer: Answer,
    exchange: Option<Exchange>,
    head: RequestHead,
    head_scan: HeadScan,
    answer_head: ResponseHead,
    answer_scan: HeadScan,
    body: Option<BodyDecoder>,
    answer_body: Option<BodyDecoder>,
    coding: Option<Decoder>,
    request_filter: Option<Box<Filter>>,
    answer_filter: Option<Box<Filter>>,
    echo: EchoState,
    /// Follows the texts of an event stream that might bring the credential in parts.
    watch: Option<Box<Watch>>,
    model: ModelScan,
    stage: Pieces,
    forwarded: Pieces,
    /// The head toward the upstream, without the credential and the blank line.
    head_out: Vec<u8>,
    range_out: Vec<u8>,
    path: Vec<u8>,
    method: Vec<u8>,
    /// What the caller says of the work that the request is for.
    asserted: Asserted,
    content_type: Vec<u8>,
    content_coded: bool,
    /// Body bytes before the decision, or that the filter has not settled.
    held: Vec<u8>,
    /// What a rule may ask a person about, and what came of it.
    hold: Option<Box<Hold>>,
    /// What is asked of the gateway itself.
    own: Option<Own>,
    /// How many of them the worker's look-ahead budget was told of.
    counted: u64,
    facts: Vec<u8>,
    text: Vec<u8>,
    decoded: Vec<u8>,
    /// Bytes of the answer that were held and go on.
    before: Vec<u8>,
    stall: Stall,
    waiting: Waiting,
    last_ns: u64,
    head_since_ns: Option<u64>,
}

impl Session {
    /// A session for a connection that was just accepted. `server_name` is what the caller asked
    /// for in its TLS handshake (RFC 6066, section 3), if it did.
    #[must_use]
    pub fn new(
        listener: ListenerId,
        connection: ConnectionId,
        caller: SocketAddr,
        server_name: Option<String>,
        now: Now,
    ) -> Self {
        Self {
            listener,
            connection,
            caller,
            peer: caller.to_string(),
            server_name,
            closed: false,
            draining: false,
            caller_ended: false,
            request: Request::Head,
            answer: Answer::None,
            exchange: None,
            head: RequestHead::default(),
            head_scan: HeadScan::default(),
            answer_head: ResponseHead::default(),
            answer_scan: HeadScan::default(),
            body: None,
            answer_body: None,
            coding: None,
            request_filter: None,
            answer_filter: None,
            echo: EchoState::default(),
            watch: None,
            model: ModelScan::default(),
            stage: Pieces::new(),
            forwarded: Pieces::new(),
            head_out: Vec::new(),
            range_out: Vec::new(),
            path: Vec::new(),
            method: Vec::new(),
            asserted: Asserted::default(),
            content_type: Vec::new(),
            content_coded: false,
            held: Vec::new(),
            hold: None,
            own: None,
            counted: 0,
            facts: Vec::new(),
            text: Vec::new(),
            decoded: Vec::new(),
            before: Vec::new(),
            stall: Stall::default(),
            waiting: Waiting::default(),
            last_ns: now.mono_ns,
            head_since_ns: None,
        }
    }

    /// Advances by one input and returns how many of its bytes were consumed (0 for inputs
    /// without bytes). Everything that must happen stands in `out` afterwards.
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
        self.check_invariants();
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
            Input::CallerGone => self.waiting.forget_bytes(out),
            Input::Timer if self.waiting.is_late(now) => {
                tracing::error!(connection = self.connection.0, "the disk does not get there");
                worker.count(Refusal::Unrecordable);
                self.waiting.forget_bytes(out);
                self.abandon(now, worker, out);
                return 0;
            }
            Input::Caller(_) | Input::Upstream(..) if self.waiting.is_waiting() => return 0,
            _ => {}
        }
        if self.closed {
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
            Input::Caller(bytes) => {
                self.last_ns = now.mono_ns;
                self.on_caller(bytes, now, worker, out)
            }
            Input::Upstream(id, bytes) if self.is_current(id) => {
                self.last_ns = now.mono_ns;
                self.on_upstream(bytes, now, worker, out)
            }
            // Of an exchange that is over: drop it.
            Input::Upstream(_, bytes) => bytes.len(),
            Input::CallerEnd => {
                self.on_caller_end(now, worker, out);
                0
            }
            Input::CallerGone => {
                self.abandon(now, worker, out);
                0
            }
            Input::Connected(..) => {
                self.last_ns = now.mono_ns;
                0
            }
            Input::ConnectFailed(id, fault) => {
                if self.is_current(id) {
                    self.on_connect_failed(fault, now, worker, out);
                }
                0
            }
            Input::UpstreamEnd(id, ending) => {
                if self.is_current(id) {
                    self.on_upstream_end(ending, now, worker, out);
                }
                0
            }
            Input::Timer if self.stall.wake(now) => 0,
            Input::Timer => {
                if self.deadline_of(&worker.snapshot).is_some_and(|at| at <= now.mono_ns) {
                    self.on_deadline(now, worker, out);
                }
                0
            }
            Input::Drain => {
                self.draining = true;
                if self.exchange.is_none() && self.head_since_ns.is_none() {
                    self.close(false, out);
                } else if self.request == Request::Held {
                    // The request stays; another gateway may answer the next try.
                    self.refuse(Refusal::Overloaded, now, worker, out);
                }
                0
            }
            Input::Verdict(id, verdict) => {
                if self.exchange.as_ref().is_some_and(|exchange| exchange.id == id) {
                    self.on_verdict(verdict, now, worker, out);
                } else if let Some(about) = verdict.id() {
                    // It ended before it knew what it waits for.
                    let petition = Box::new(Petition::Leave { id: about, cancel: false });
                    out.act(Act::Petition { exchange: id, petition });
                }
                0
            }
            Input::Shown(id, found) => {
                if self.exchange.as_ref().is_some_and(|exchange| exchange.id == id) {
                    self.on_shown(found, now, worker, out);
                }
                0
            }
            Input::Durable(_) | Input::Cancel | Input::News => 0,
        }
    }

    /// Which bytes it can use.
    #[must_use]
    pub fn interest(&self) -> Interest {
        if self.stall.is_waiting() || self.waiting.is_waiting() {
            return Interest::default();
        }
        let caller = !self.closed
            && !self.caller_ended
            && match self.request {
                Request::Head => self.exchange.is_none(),
                Request::Gather | Request::Collect | Request::Forward | Request::Discard => true,
                Request::Held => self.hold.as_ref().is_some_and(|hold| hold.listens()),
                Request::Done => false,
            };
        Interest {
            caller,
            upstream: !self.closed && matches!(self.answer, Answer::Head | Answer::Body),
            idle: caller && self.exchange.is_none() && self.head_since_ns.is_none(),
        }
    }

    /// Monotonic nanoseconds at which [`Input::Timer`] is due.
    #[must_use]
    pub fn deadline<J: Journal>(&self, worker: &Worker<J>) -> Option<u64> {
        self.deadline_of(&worker.snapshot)
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed && !self.waiting.is_waiting()
    }

    /// What must be on the disk before anything goes on; [`Input::Durable`] says that it is.
    #[must_use]
    pub fn waits_for(&self) -> Option<Position> {
        self.waiting.until()
    }

    /// Gives back the room that only exchanges need; a connection that stays idle is told so.
    pub fn tidy(&mut self) {
        let waits = self.waiting.is_waiting();
        if self.exchange.is_some() || self.head_since_ns.is_some() || waits {
            return;
        }
        self.waiting.forget();
        debug_assert!(self.held.is_empty() && self.request_filter.is_none());
        self.head = RequestHead::default();
        self.answer_head = ResponseHead::default();
        self.answer_body = None;
        self.coding = None;
        self.echo = EchoState::default();
        self.model = ModelScan::default();
        for pieces in [&mut self.stage, &mut self.forwarded] {
            *pieces = Pieces::new();
        }
        for room in [
            &mut self.head_out,
            &mut self.range_out,
            &mut self.path,
            &mut self.method,
            &mut self.content_type,
            &mut self.held,
            &mut self.facts,
            &mut self.text,
            &mut self.decoded,
        ] {
            *room = Vec::new();
        }
    }

    fn deadline_of(&self, snapshot: &Snapshot) -> Option<u64> {
        if let Some(late_ns) = self.waiting.deadline() {
            return Some(late_ns);
        }
        if self.closed {
            return None;
        }
        if let Some(retry_ns) = self.stall.retry_ns() {
            return Some(retry_ns);
        }
        let limits = &snapshot.limits;
        let after = |ns: u64, ms: u64| ns.saturating_add(ms.saturating_mul(1_000_000));
        let Some(exchange) = &self.exchange else {
            return Some(match self.head_since_ns {
                Some(since) => after(since, limits.head_ms),
                None => after(self.last_ns, limits.idle_ms),
            });
        };
        if self.request == Request::Held {
            return self.hold.as_ref().map(|hold| hold.deadline());
        }
        let step = match (self.request, self.answer) {
            (Request::Done, Answer::Head) => {
                after(exchange.sent_ns.max(exchange.started_ns), limits.first_byte_ms)
            }
            (Request::Done, _) => after(self.last_ns, limits.answer_idle_ms),
            _ => after(self.last_ns, limits.body_idle_ms),
        };
        let began_ns = exchange.started_ns.saturating_add(exchange.held_ns);
        Some(step.min(after(began_ns, limits.exchange_ms)))
    }

    fn is_current(&self, id: ExchangeId) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.id == id && exchange.upstream_open)
    }

    fn subject(&self) -> Subject {
        let exchange = self.exchange.as_ref();
        let grant = exchange.and_then(|exchange| exchange.grant.as_ref());
        Subject {
            connection: self.connection,
            exchange: exchange.map_or(ExchangeId(0), |exchange| exchange.id),
            level: grant.map_or(RecordLevel::Full, Grant::record),
            durable: grant.map_or(Durable::Window, Grant::durable),
        }
    }

    fn on_caller_end<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.caller_ended = true;
        match self.request {
            // A caller that is done sending may still read; one that ends while it is answered, or
            // long after it asked, is gone. TCP shows both in the same way.
            Request::Done => {
                let sent_ns = self.exchange.as_ref().map_or(0, |exchange| exchange.sent_ns);
                let late = now.mono_ns.saturating_sub(sent_ns) > HALF_CLOSE_NS;
                if self.answer == Answer::Body || late {
                    self.abandon(now, worker, out);
                }
            }
            Request::Head => self.close(false, out),
            Request::Gather
            | Request::Collect
            | Request::Held
            | Request::Forward
            | Request::Discard => {
                self.abandon(now, worker, out);
            }
        }
    }

    /// The caller is gone or its request will never be whole: the upstream is let go at once.
    fn abandon<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        if let Some(exchange) = &mut self.exchange {
            exchange.cut = true;
        }
        self.end_exchange(now, worker, out);
        self.closed = true;
        out.act(Act::AbortCaller);
    }

    fn on_connect_failed<J: Journal>(
        &mut self,
        fault: UpstreamFault,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upstream_open = false;
        }
        let refusal = match fault {
            UpstreamFault::TimedOut => Refusal::UpstreamTimeout,
            UpstreamFault::Exhausted => Refusal::Overloaded,
            _ => Refusal::Unreachable,
        };
        tracing::warn!(connection = self.connection.0, ?fault, "no upstream connection");
        self.refuse(refusal, now, worker, out);
    }

    fn on_deadline<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        match (&self.exchange, self.request) {
            (None, _) if self.head_since_ns.is_none() => self.close(false, out),
            (Some(_), Request::Held) => self.on_held_deadline(now, worker, out),
            (_, Request::Done) => self.refuse(Refusal::UpstreamTimeout, now, worker, out),
            _ => self.refuse(Refusal::RequestTimeout, now, worker, out),
        }
    }

    /// Tells the worker's look-ahead budget how much is held; call it where `held` changed.
    fn count_held<J>(&mut self, worker: &mut Worker<J>) {
        let held = self.held.len() as u64;
        worker.lookahead = worker.lookahead.saturating_sub(self.counted).saturating_add(held);
        self.counted = held;
    }

    fn check_invariants(&self) {
        debug_assert!(self.exchange.is_some() || self.request == Request::Head || self.closed);
        debug_assert!(self.answer != Answer::Body || self.exchange.is_some() || self.closed);
        debug_assert!(
            self.exchange
                .as_ref()
                .is_none_or(|exchange| !exchange.upstream_open || exchange.grant.is_some()),
            "no upstream without a grant"
        );
    }
}

/// How soon after its request an end of the caller still counts as a half-close.
const HALF_CLOSE_NS: u64 = 1_000_000_000;
