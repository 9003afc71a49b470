//! PostgreSQL between one caller and one resource (protocol 3.0 and 3.2).
//!
//! The caller shows its token as the password, the gateway logs in to the server by itself, and
//! every statement is decided before it goes. One caller connection has one upstream connection
//! for its life, since a session of PostgreSQL has state that others must not see, and another one
//! for each credential that a rule asks for by itself (`beside`).
//!
//! ```text
//! Opening --start-up packet--> Token --password--> Connecting --link--> Login --ready--> Ready
//!    \--client certificate ------------------------/                                      |
//! any of them --refusal, end, deadline--> Closed <--end of the server-- Ending <--Terminate-/
//! ```
//!
//! An exchange of the record is a cycle: what goes up to a Sync or a simple query, and its answers
//! up to ready for query. Connecting is an exchange of its own, which ends with the connection.
//!
//! A refused statement leaves the upstream where a failed one would: what cannot be parsed goes in
//! its place (`refuse::POISON`), and the error that comes is told in our words. Where nothing is
//! under way, the refusal needs no upstream.

mod atoms;
mod attribution;
mod beside;
mod binary;
mod bound;
mod caller;
mod cancel;
mod catalog;
mod columns;
mod copying;
mod cycle;
mod denial;
mod hold;
mod judge;
mod kin;
mod leg;
mod literals;
mod login;
mod long;
mod masking;
mod moved;
mod oauth;
mod passage;
mod passing;
mod question;
mod queue;
mod refresh;
mod refuse;
mod rows;
mod ruling;
mod seat;
mod settings;
mod standing;
mod start;
mod statements;
mod sway;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
mod texts;
mod upstream;
mod values;
mod verdicts;

pub use catalog::{CatalogQuery, Found, MissingColumn, MovedColumn};
pub use judge::{Asked, asked};
pub use refuse::POISON;
pub(super) use texts::Texts;

use super::asserted::Asserted;
use super::cancels::{Cancels, Key};
use super::gate::{self, Subject};
use super::io::{Act, Ending, Input, Interest, Out};
use super::refusal::Refusal;
use super::stall::Stall;
use super::waiting::Waiting;
use super::worker::{Held, Identified, Worker};
use crate::base::{
    ConnectionId, CredentialId, ExchangeId, ListenerId, Now, Pieces, ResourceId, Secret,
};
use crate::identity::Principal;
use crate::policy::{Durable, Grant, RecordLevel};
use crate::record::{Journal, Position};
use crate::wire::postgres::TxStatus;
use beside::{Beside, Serves, Wanted};
use copying::Ended;
use core::net::SocketAddr;
use cycle::Cycles;
use hold::{Hold, InUse};
use leg::Leg;
use login::Login;
use masking::Masking;
use queue::Queue;
use refuse::Denied;
use start::Start;
use std::rc::Rc;
use std::sync::Arc;
use sway::Sway;
use verdicts::Verdicts;

/// Where a connection stands; see the module.
enum Phase {
    Opening,
    Token(Start),
    Connecting(Start),
    Login(Box<Login>),
    Ready,
    /// Another of its upstream sessions is taken in hand.
    Turning,
    /// The caller said that it is done, and so does the gateway to the server; until it ends.
    Ending,
    Closed,
}

/// What becomes of the caller's messages up to its next Sync, behind a refused one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skip {
    /// The upstream knows nothing of it: the Sync is answered here.
    Here,
    /// The upstream fails at what went in the place of the refused one, and skips by itself.
    Upstream,
}

/// What a session is made for.
pub struct Opened {
    /// Where the caller connected.
    pub listener: ListenerId,
    /// The caller's connection.
    pub connection: ConnectionId,
    /// Its address.
    pub caller: SocketAddr,
    /// Its connection is encrypted.
    pub secure: bool,
    /// Who its client certificate says that it is.
    pub principal: Option<Principal>,
    /// Random bytes: of the key that cancels, and the logins' nonces. Without them nobody gets in.
    pub random: Option<[u8; RANDOM_LEN]>,
    /// Where keys that cancel are known, and what this session is called there: its worker and its
    /// id.
    pub cancels: Option<(Arc<Cancels>, (u32, u64))>,
}

/// How many random bytes a session is made with.
pub const RANDOM_LEN: usize = 68;

/// One caller connection.
pub struct Session {
    opened: Opened,
    peer: String,
    phase: Phase,
    /// Of connecting; it ends with the connection.
    link: ExchangeId,
    /// The first entry of connecting is recorded.
    noted: bool,
    who: Option<Identified>,
    token: Option<Secret>,
    /// The generations of policy and keys that `who` was made by.
    known_by: (u64, u64),
    /// The generation that connecting was decided by: the upstream's ids are of it.
    snapshot: Option<Held>,
    /// What the caller may cancel by, and the server's own key.
    key: Option<Key>,
    upstream_key: Option<(u32, Box<[u8]>)>,
    /// The credential was opened, as the record says.
    login: Option<gate::Opened>,
    resource: Option<ResourceId>,
    credential: CredentialId,
    connect: Option<Rc<Grant>>,
    /// The upstream session in hand, and those that are not.
    serves: Serves,
    beside: Vec<Beside>,
    /// The session that what is parked is to go to, and why that cannot be had.
    wanted: Option<Wanted>,
    failed: Option<Denied>,
    /// What is parked waits for names to be settled.
    settles: bool,
    /// Settings of the start, for each session.
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    logins: u64,
    /// What is owed to statements that owe a mask.
    masking: Option<Box<Masking>>,
    /// What the caller said of its work at the start.
    said: Asserted,
    /// What it says of the statement in hand; with a comment of its own or without.
    saying: Asserted,
    saying_own: bool,
    minor: u16,
    tx: TxStatus,
    queue: Queue,
    verdicts: Verdicts,
    cycles: Cycles,
    skip: Option<Skip>,
    /// The COPY that was ended last.
    ended: Ended,
    /// Whether what is sent may change what comes behind it.
    sway: Sway,
    /// A message of the caller that waits for answers: what it names is open, or a COPY may be
    /// under way. Nothing behind it is read.
    parked: Option<Vec<u8>>,
    /// What `parked` waits for a person to approve of.
    hold: Option<Box<Hold>>,
    /// Approvals that what is under way goes by.
    uses: Vec<InUse>,
    /// The server was asked for the answer that `parked` waits for.
    asked: bool,
    /// The message that passes in parts goes up; else it is skipped.
    passing: bool,
    up: Leg,
    down: Leg,
    /// Home said its last word: the caller heard so, and nothing goes on.
    fatal: bool,
    draining: bool,
    caller_ended: bool,
    stage: Pieces,
    facts: Vec<u8>,
    started_ns: u64,
    last_ns: u64,
    stall: Stall,
    waiting: Waiting,
}

impl Session {
    /// A session for a connection whose encryption was negotiated.
    #[must_use]
    pub fn new(opened: Opened, now: Now) -> Self {
        Self {
            peer: opened.caller.to_string(),
            opened,
            phase: Phase::Opening,
            link: ExchangeId(0),
            noted: false,
            who: None,
            token: None,
            known_by: (0, 0),
            snapshot: None,
            key: None,
            upstream_key: None,
            login: None,
            resource: None,
            credential: CredentialId(0),
            connect: None,
            serves: Serves::home(ExchangeId(0)),
            beside: Vec::new(),
            wanted: None,
            failed: None,
            settles: false,
            settings: Vec::new(),
            logins: 0,
            masking: None,
            said: Asserted::default(),
            saying: Asserted::default(),
            saying_own: false,
            minor: 0,
            tx: TxStatus::Idle,
            queue: Queue::default(),
            verdicts: Verdicts::default(),
            cycles: Cycles::default(),
            skip: None,
            ended: Ended::default(),
            sway: Sway::default(),
            parked: None,
            hold: None,
            uses: Vec::new(),
            asked: false,
            passing: false,
            up: Leg::default(),
            down: Leg::default(),
            fatal: false,
            draining: false,
            caller_ended: false,
            stage: Pieces::new(),
            facts: Vec::new(),
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
            Input::CallerGone => self.waiting.forget_bytes(out),
            Input::Timer if self.waiting.is_late(now) => {
                tracing::error!(connection = self.opened.connection.0, "the disk is too late");
                worker.count(Refusal::Unrecordable);
                self.waiting.forget();
                self.end(true, now, worker, out);
                return 0;
            }
            Input::Caller(_) | Input::Upstream(..) if self.waiting.is_waiting() => return 0,
            _ => {}
        }
        if matches!(self.phase, Phase::Closed) {
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
                if self.is_held() {
                    self.read_ahead(bytes.len());
                    return 0;
                }
                return self.on_caller(bytes, now, worker, out);
            }
            Input::Upstream(id, bytes) => {
                if id != self.serves.exchange {
                    return bytes.len();
                }
                // A login has its time, however much is said in it.
                if !matches!(self.phase, Phase::Login(_)) {
                    self.last_ns = now.mono_ns;
                }
                if matches!(self.phase, Phase::Turning) {
                    return self.on_turning(bytes, now, worker, out);
                }
                return self.on_upstream(bytes, now, worker, out);
            }
            Input::CallerEnd => self.on_caller_end(now, worker, out),
            Input::CallerGone => {
                self.forget_hold(true, worker, out);
                self.end(true, now, worker, out);
            }
            Input::Connected(id, certificate) if id == self.serves.exchange => {
                if matches!(self.phase, Phase::Turning) {
                    self.on_in_hand(now, worker, out);
                } else {
                    self.on_connected(certificate, now, worker, out);
                }
            }
            Input::ConnectFailed(id, fault) if id == self.serves.exchange => {
                tracing::warn!(request = %id, ?fault, "the resource cannot be reached");
                let denied = Denied::of(Refusal::Unreachable, "");
                self.refuse_login(denied, now, worker, out);
            }
            Input::UpstreamEnd(id, ending) if id == self.serves.exchange => {
                self.on_upstream_end(ending, now, worker, out);
            }
            Input::Timer if self.stall.wake(now) => {
                self.release_paced(now, worker, out);
            }
            Input::Timer => {
                if self.deadline(worker).is_some_and(|at| at <= now.mono_ns) {
                    self.on_deadline(now, worker, out);
                }
            }
            Input::Cancel => self.on_cancel(now, worker, out),
            Input::Verdict(exchange, word) => {
                self.on_word(exchange, word, now, worker, out);
            }
            Input::Drain => {
                self.draining = true;
                self.drain_held(now, worker, out);
                self.end_if_drained(now, worker, out);
            }
            Input::Connected(..)
            | Input::ConnectFailed(..)
            | Input::UpstreamEnd(..)
            | Input::Durable(_)
            | Input::News
            | Input::Shown(..) => {}
        }
        0
    }

    /// Which bytes it can use.
    #[must_use]
    pub fn interest(&self) -> Interest {
        if self.stall.is_waiting() || self.waiting.is_waiting() {
            return Interest::default();
        }
        let (caller, upstream) = match self.phase {
            Phase::Opening | Phase::Token(_) => (true, false),
            Phase::Connecting(_) | Phase::Closed => (false, false),
            Phase::Login(_) | Phase::Turning | Phase::Ending => (false, true),
            Phase::Ready => (self.takes_messages() || self.listens(), true),
        };
        Interest { caller: caller && !self.caller_ended, upstream, idle: false }
    }

    fn takes_messages(&self) -> bool {
        let waits = self.is_refreshing() || self.is_settling() || self.fatal;
        self.parked.is_none() && !self.queue.is_full() && !waits
    }

    /// When [`Input::Timer`] is due, in monotonic nanoseconds.
    #[must_use]
    pub fn deadline<J: Journal>(&self, worker: &Worker<J>) -> Option<u64> {
        if let Some(late_ns) = self.waiting.deadline() {
            return Some(late_ns);
        }
        if let Some(retry_ns) = self.stall.retry_ns() {
            return Some(retry_ns);
        }
        let limits = &worker.snapshot.limits;
        let after = |ns: u64, ms: u64| Some(ns.saturating_add(ms.saturating_mul(1_000_000)));
        match self.phase {
            Phase::Opening | Phase::Token(_) => after(self.started_ns, limits.head_ms),
            Phase::Connecting(_) | Phase::Login(_) | Phase::Turning => {
                after(self.last_ns, limits.connect_ms.saturating_mul(2))
            }
            Phase::Ready if self.is_held() => self.held_until(),
            Phase::Ready => match self.cycles.since_ns() {
                Some(since_ns) => after(since_ns, limits.exchange_ms),
                None => after(self.last_ns, limits.session_idle_ms),
            },
            Phase::Ending => after(self.last_ns, limits.linger_ms),
            Phase::Closed => None,
        }
    }

    /// Whether nothing more will come of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed) && !self.waiting.is_waiting()
    }

    /// What must be on the disk before anything goes on; [`Input::Durable`] says that it is.
    #[must_use]
    pub fn waits_for(&self) -> Option<Position> {
        self.waiting.until()
    }

    /// The subject of what belongs to connecting, and to no statement.
    fn link_subject(&self) -> Subject {
        let grant = self.connect.as_ref();
        Subject {
            connection: self.opened.connection,
            exchange: self.link,
            level: grant.map_or(RecordLevel::Full, |grant| grant.record()),
            durable: grant.map_or(Durable::Window, |grant| grant.durable()),
        }
    }

    fn on_caller_end<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.caller_ended = true;
        if self.hold.is_some() {
            // Nobody is there whom it could be for.
            self.forget_hold(true, worker, out);
            self.parked = None;
        }
        // A driver that is done may close without a word.
        self.on_terminate(now, worker, out);
    }

    fn on_upstream_end<J: Journal>(
        &mut self,
        ending: Ending,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if matches!(self.phase, Phase::Ending) {
            return self.end(false, now, worker, out);
        }
        if !self.is_home() {
            return self.on_beside_end(now, worker, out);
        }
        if !matches!(self.phase, Phase::Ready | Phase::Turning) {
            tracing::warn!(request = %self.link, "the resource ended the login");
            let denied = Denied::of(Refusal::Unreachable, "");
            return self.refuse_all(&denied, now, worker, out);
        }
        // In the middle of an answer the caller must not see a clean end.
        let open = !self.cycles.is_empty() && !self.caller_ended;
        let cut = ending == Ending::Cut || self.down.is_within() || open;
        self.end(cut, now, worker, out);
    }

    fn on_deadline<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        let (refusal, detail) = match self.phase {
            Phase::Ending => return self.end(true, now, worker, out),
            Phase::Ready if self.is_held() => {
                return self.on_held_deadline(now, worker, out);
            }
            Phase::Connecting(_) | Phase::Login(_) | Phase::Turning => {
                (Refusal::UpstreamTimeout, "The login did not come to its end in time.")
            }
            Phase::Ready if self.cycles.is_empty() => {
                (Refusal::RequestTimeout, "The session was idle for too long.")
            }
            Phase::Ready => (Refusal::UpstreamTimeout, "The statement ran for too long."),
            _ => (Refusal::RequestTimeout, "The start-up did not come in time."),
        };
        let denied = Denied::of(refusal, detail);
        if matches!(self.phase, Phase::Ready) {
            self.refuse_all(&denied, now, worker, out);
        } else {
            self.refuse_login(denied, now, worker, out);
        }
    }

    /// A session that drains ends where nothing is under way.
    fn end_if_drained<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        let quiet = self.cycles.is_empty() && self.tx == TxStatus::Idle;
        if self.draining && quiet && !matches!(self.phase, Phase::Closed) {
            let denied = Denied::of(Refusal::Overloaded, "The gateway shuts down.");
            self.refuse_all(&denied, now, worker, out);
        }
    }

    /// Ends the connection and the books of all that is open.
    fn end<J: Journal>(&mut self, cut: bool, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.close_books(cut, now, worker);
        self.forget_hold(false, worker, out);
        self.settle_uses(true, out);
        self.phase = Phase::Closed;
        (self.token, self.key, self.upstream_key) = (None, None, None);
        self.parked = None;
        if self.connect.is_some() {
            self.release_all(out);
        }
        out.act(if cut { Act::AbortCaller } else { Act::CloseCaller { linger: false } });
    }
}
