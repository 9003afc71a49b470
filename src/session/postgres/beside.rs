//! Upstream sessions of rules' own credentials, beside the one of connecting.
//!
//! The session of connecting is *home*. What a rule permits by another credential has a session of
//! that credential, which the grant of the first such statement opens, and which is kept for later
//! ones until the caller's connection ends. One session is in hand at a time: it has the fields of
//! [`Session`], the others stand in `beside`, with the names that live in them and nothing under way.
//! A statement that is to be elsewhere waits, parked, until its session is in hand; behind the last
//! answer of another one home is taken in hand again, so that what comes unasked is home's.
//!
//! ```text
//! Ready --parked--> Connecting --link--> Login --ready--> Ready     another session is opened
//!   \-----parked--> Turning --in hand--> Ready                      it is there, or home is turned to
//! any of the first three --refusal, end, deadline--> Turning (home), and the statement is refused
//! ```
//!
//! Where a session beside home ends, what was under way in it fails and home goes on.

use super::judge::Analysis;
use super::queue::{Named, Queue};
use super::refuse::Denied;
use super::start::Start;
use super::sway::Sway;
use super::{Phase, Session, Skip};
use crate::base::{CredentialId, ExchangeId, Now};
use crate::policy::{Durable, Grant};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Subject};
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::{Snapshot, Worker};
use crate::sql;
use crate::wire::postgres::{TxStatus, frame, write};
use std::rc::Rc;

/// Which upstream session is meant.
pub(super) struct Serves {
    /// What the runtime knows it by, and its exchange in the record.
    pub(super) exchange: ExchangeId,
    /// `None`: home, by the credential of connecting.
    pub(super) credential: Option<CredentialId>,
    /// What opened it; `None`: the grant of connecting.
    pub(super) grant: Option<Rc<Grant>>,
}

impl Serves {
    pub(super) fn home(exchange: ExchangeId) -> Self {
        Self { exchange, credential: None, grant: None }
    }
}

/// An upstream session that is not in hand.
pub(super) struct Beside {
    pub(super) serves: Serves,
    login: Option<gate::Opened>,
    key: Option<(u32, Box<[u8]>)>,
    pub(super) queue: Queue,
    tx: TxStatus,
    /// What ran there may have changed its settings alone.
    sway: Sway,
    down: super::leg::Leg,
}

/// A session that a parked message is to go to.
pub(super) struct Wanted {
    pub(super) credential: Option<CredentialId>,
    /// What may open it.
    pub(super) grant: Option<Rc<Grant>>,
}

/// What a name stands for, and in which session.
pub(super) fn find(
    (queue, beside): (&Queue, &[Beside]),
    portal: bool,
    name: &[u8],
) -> (Named, Option<usize>) {
    let of = |queue: &Queue| if portal { queue.portal(name) } else { queue.statement(name) };
    let here = of(queue);
    if !matches!(here, Named::Nothing) {
        return (here, None);
    }
    let mut there = beside.iter().enumerate().map(|(place, one)| (of(&one.queue), Some(place)));
    there.find(|(named, _)| !matches!(named, Named::Nothing)).unwrap_or((Named::Nothing, None))
}

impl Session {
    /// Whether the session in hand is that of connecting.
    pub(super) fn is_home(&self) -> bool {
        self.serves.credential.is_none()
    }

    /// As [`find`], with the credential of the session that the name lives in; of one that nothing
    /// stands for, of the one in hand.
    pub(super) fn find(&self, portal: bool, name: &[u8]) -> (Named, Option<CredentialId>) {
        let (named, place) = find((&self.queue, &self.beside), portal, name);
        let serves = place.and_then(|place| self.beside.get(place)).map(|one| &one.serves);
        (named, serves.unwrap_or(&self.serves).credential)
    }

    /// What opens the session in hand: a grant, and the credential that it opens.
    pub(super) fn opener(&self) -> Option<(Rc<Grant>, CredentialId)> {
        match (&self.serves.grant, self.serves.credential) {
            (Some(grant), Some(credential)) => Some((Rc::clone(grant), credential)),
            _ => Some((self.connect.clone()?, self.credential)),
        }
    }

    /// The subject of what opens the session in hand.
    pub(super) fn opening_subject(&self) -> Subject {
        let link = self.link_subject();
        let durable = self.serves.grant.as_ref().map_or(Durable::Window, |grant| grant.durable());
        let exchange = self.serves.exchange;
        Subject { exchange, durable: durable.max(link.durable), ..link }
    }

    /// What sways the session of connecting.
    pub(super) fn sway_of_home(&self) -> &Sway {
        let home = self.beside.iter().find(|one| one.serves.credential.is_none());
        home.filter(|_| !self.is_home()).map_or(&self.sway, |home| &home.sway)
    }

    fn swap(&mut self, place: usize) {
        let Some(other) = self.beside.get_mut(place) else { return };
        std::mem::swap(&mut self.serves, &mut other.serves);
        std::mem::swap(&mut self.login, &mut other.login);
        std::mem::swap(&mut self.upstream_key, &mut other.key);
        std::mem::swap(&mut self.queue, &mut other.queue);
        std::mem::swap(&mut self.tx, &mut other.tx);
        std::mem::swap(&mut self.sway, &mut other.sway);
        std::mem::swap(&mut self.down, &mut other.down);
    }

    /// Takes the session in hand that a parked message is to go to; opens it where there is none.
    pub(super) fn turn<J: Journal>(
        &mut self,
        wanted: Wanted,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        debug_assert!(self.queue.is_empty(), "nothing is under way in the one before");
        let there = self.beside.iter().position(|one| one.serves.credential == wanted.credential);
        match (there, wanted) {
            (Some(place), _) => {
                self.swap(place);
                self.resume(now, out);
            }
            (None, Wanted { credential: Some(credential), grant: Some(grant) }) => {
                self.open_beside(credential, grant, now, worker, out);
            }
            // What lived in a session that is gone.
            (None, _) => self.unpark(now, worker, out),
        }
    }

    fn resume(&mut self, now: Now, out: &mut Out) {
        out.act(Act::Resume { exchange: self.serves.exchange });
        self.phase = Phase::Turning;
        self.last_ns = now.mono_ns;
    }

    fn open_beside<J: Journal>(
        &mut self,
        credential: CredentialId,
        grant: Rc<Grant>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let snapshot = Rc::clone(&worker.snapshot);
        let (Some(resource), Some((_, known))) = (self.resource, self.who.clone()) else { return };
        if self.beside.len() >= snapshot.limits.session_credentials_max as usize {
            self.failed = Some(Denied::of(Refusal::Denied, TOO_MANY));
            return self.unpark(now, worker, out);
        }
        let exchange = worker.next_exchange();
        let rule = grant.rule();
        self.beside.push(Beside {
            serves: Serves { exchange, credential: Some(credential), grant: Some(grant) },
            login: None,
            key: None,
            queue: Queue::default(),
            tx: TxStatus::Idle,
            sway: Sway::default(),
            down: super::leg::Leg::default(),
        });
        self.swap(self.beside.len() - 1);
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.fields(&known.facts);
        writer.text(Tag::Peer, &self.peer);
        if let Some(listener) = snapshot.listener(self.opened.listener) {
            writer.text(Tag::Listener, &listener.name);
        }
        writer.maybe(Tag::Resource, snapshot.resource(resource).map(|view| view.name.as_str()));
        writer.text(Tag::Protocol, "postgres");
        writer.text(Tag::Method, "connect");
        writer.text(Tag::Decision, "permit");
        writer.text(Tag::Rule, snapshot.policy.rule_name(rule));
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        let subject = self.opening_subject();
        if gate::note(subject, Kind::Open, &self.facts, false, worker.books(), now).is_err() {
            return self.unrecordable(now, worker, out);
        }
        let generation = snapshot.generation;
        out.act(Act::Beside { exchange, resource, credential, generation });
        self.phase = Phase::Connecting(Start::again(&self.settings));
        self.last_ns = now.mono_ns;
    }

    /// The session is in hand: what waits for it goes, or home is turned to.
    pub(super) fn on_in_hand<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.phase = Phase::Ready;
        if self.caller_ended {
            return self.on_terminate(now, worker, out);
        }
        self.unpark(now, worker, out);
        self.go_home(now, worker, out);
    }

    /// Turns to home where nothing is under way elsewhere.
    pub(super) fn go_home<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        let waits = self.parked.is_some() || self.is_refreshing();
        let stays = self.is_home() || self.caller_ended || waits;
        if stays || !matches!(self.phase, Phase::Ready) || !self.is_between() {
            return;
        }
        self.turn_home(now, worker, out);
    }

    pub(super) fn turn_home<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.turn(Wanted { credential: None, grant: None }, now, worker, out);
    }

    /// Whether nothing is under way in the session in hand.
    pub(super) fn is_between(&self) -> bool {
        self.queue.is_empty() && self.cycles.is_quiet() && self.skip.is_none()
    }

    /// Bytes of a session that is being turned to: of home they are as any others. One beside home
    /// that has an error to tell has ended, and the next statement opens another.
    pub(super) fn on_turning<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        if self.is_home() {
            self.on_in_hand(now, worker, out);
            return self.on_upstream(bytes, now, worker, out);
        }
        let mut rest = bytes;
        while let Ok(Some(head)) = frame(rest) {
            if head.tag == b'E' {
                self.leave(now, worker, out);
                return bytes.len();
            }
            rest = rest.get(1 + 4 + head.len..).unwrap_or_default();
        }
        0
    }

    /// A session beside home could not be had: what waits for it is refused.
    pub(super) fn beside_failed<J: Journal>(
        &mut self,
        denied: Denied,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.failed = Some(denied);
        self.leave(now, worker, out);
    }

    /// The session in hand, which is not home, is no more: home is taken in hand.
    pub(super) fn leave<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        let Some(home) = self.beside.iter().position(|one| one.serves.credential.is_none()) else {
            return self.end(true, now, worker, out);
        };
        self.swap(home);
        let gone = self.beside.swap_remove(home);
        self.close_beside(&gone.serves, true, now, worker);
        out.act(Act::Release { exchange: gone.serves.exchange, reuse: false });
        self.resume(now, out);
    }

    /// The server ended a session beside home. What was under way in it fails, as far as the caller
    /// has not heard so; a message that it has half of cannot be taken back.
    pub(super) fn on_beside_end<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        match self.phase {
            Phase::Ready => {}
            Phase::Turning => return self.leave(now, worker, out),
            _ => {
                let denied = Denied::of(Refusal::Unreachable, "The login was ended.");
                return self.beside_failed(denied, now, worker, out);
            }
        }
        if self.caller_ended || self.is_told_in_part() {
            return self.end(true, now, worker, out);
        }
        tracing::warn!(request = %self.serves.exchange, "the resource ended a session beside");
        // What is left of a message that passes in parts has nowhere to go.
        self.passing = false;
        self.ended.cut(self.queue.may_copy());
        self.forget_result();
        self.leave(now, worker, out);
        let denied = Denied::of(Refusal::Unreachable, ENDED);
        while let Some(complete) = self.cycles.answered_is_complete() {
            let told = self.cycles.answered().is_some_and(|cycle| cycle.sqlstate.is_some());
            if !told {
                worker.count(denied.refusal);
                self.tell_refusal(&denied, now, worker, out);
            }
            if !complete {
                self.skip = Some(Skip::Here);
                break;
            }
            let status = self.tx;
            self.tell(|to| write::ready(status, to), now, worker, out);
            self.finish_cycle(true, now, worker);
        }
    }

    fn close_beside<J: Journal>(
        &mut self,
        serves: &Serves,
        cut: bool,
        now: Now,
        worker: &mut Worker<J>,
    ) {
        if serves.credential.is_none() {
            return;
        }
        let subject = Subject { exchange: serves.exchange, ..self.link_subject() };
        self.facts.clear();
        Writer::new(&mut self.facts).text(Tag::Ending, if cut { "cut" } else { "whole" });
        let _ = gate::note(subject, Kind::Close, &self.facts, false, worker.books(), now);
    }

    /// Ends all sessions, that in hand and those beside it.
    pub(super) fn release_all(&mut self, out: &mut Out) {
        for one in self.beside.drain(..) {
            out.act(Act::EndAside { exchange: one.serves.exchange });
        }
        out.act(Act::Release { exchange: self.serves.exchange, reuse: false });
    }

    /// The books of all sessions that are not home.
    pub(super) fn close_books_beside<J: Journal>(
        &mut self,
        cut: bool,
        now: Now,
        worker: &mut Worker<J>,
    ) {
        let beside = std::mem::take(&mut self.beside);
        let in_hand = Serves { grant: None, ..self.serves };
        for serves in beside.iter().map(|one| &one.serves).chain([&in_hand]) {
            self.close_beside(serves, cut, now, worker);
        }
        self.beside = beside;
    }

    /// A simple query or a Parse without a name ends the statement without a name, wherever it is.
    pub(super) fn unname(&mut self) {
        for one in &mut self.beside {
            one.queue.deallocate(b"");
        }
    }

    /// What undoes all names of a session ends those beside home, since it reaches only home.
    pub(super) fn end_if_reset<J: Journal>(
        &mut self,
        (analysis, place): (&Analysis, Option<usize>),
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let resets = |act: &sql::Act| {
            matches!(act, sql::Act::Deallocate { name: None } | sql::Act::Discard { .. })
        };
        if self.beside.is_empty() || !self.is_home() {
            return;
        }
        let mut all = analysis.statements.iter().enumerate();
        if !all.any(|(at, one)| place.is_none_or(|place| place == at) && resets(&one.act)) {
            return;
        }
        for one in std::mem::take(&mut self.beside) {
            self.close_beside(&one.serves, false, now, worker);
            out.act(Act::EndAside { exchange: one.serves.exchange });
        }
    }

    /// Numbers the credentials of other sessions as the configuration in force does. `None`: one that
    /// is in hand is gone from it.
    pub(super) fn number_again(&mut self, old: &Snapshot, new: &Snapshot) -> Option<()> {
        let again = |credential: CredentialId| {
            let was = old.credential(credential)?;
            let is = new.credentials.iter().position(|is| {
                (is.name(), is.user(), is.role()) == (was.name(), was.user(), was.role())
            })?;
            u16::try_from(is).ok().map(CredentialId)
        };
        for one in &mut self.beside {
            if let Some(credential) = one.serves.credential {
                // One that is gone is nobody's any more; it ends with the connection.
                one.serves.credential = Some(again(credential).unwrap_or(GONE));
            }
        }
        if let Some(credential) = self.serves.credential {
            self.serves.credential = Some(again(credential)?);
        }
        Some(())
    }
}

/// No credential has this number.
const GONE: CredentialId = CredentialId(u16::MAX);
const TOO_MANY: &str = "The connection has sessions by as many credentials as [limits] session_credentials_max allows.";
const ENDED: &str = "The server ended the session of the rule's own credential; whether the \
                     statement took effect is not known. The connection goes on.";
