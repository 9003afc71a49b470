//! A request that waits for a person.
//!
//! ```text
//! decide --Need--> Collect --whole--> Held --Approved--> decided again --Spent--> goes on as permitted
//!                                      |  \--Denied, Expired, end of the wait--> 403
//!                                      \--the caller leaves--> detached: the request stays
//! ```
//!
//! While it is held there is no upstream connection and no credential. Head and body are kept as
//! they came; when it is approved, the whole way is gone again by them: the token is verified, the
//! policy in force decides. Only what comes to the same question as was approved is redeemed, and
//! the bytes that go are those that were kept.

use super::request::Flow;
use super::{Request, Session};
use crate::base::{ApprovalId, Now, ResourceId, RuleId, Secret};
use crate::policy::approval::{Party, Refused, Use, Verdict};
use crate::policy::{Attr, Decision, Durable, Grant, Need, Obligations, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::approving::{Petition, Place};
use crate::session::gate;
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::{Held, Snapshot, Worker};
use crate::wire::http1::{Framing, LAST_CHUNK};
use std::rc::Rc;
use std::sync::Arc;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has to be asked yet.
    Kept,
    /// It was asked.
    Asked,
    /// A use is being spent.
    Spending,
    /// It went on under the grant, which may be revoked.
    Used,
    /// It is no request for a resource: it asks about one that is held.
    Own,
}

/// What is kept of a request that a rule may ask about.
pub(super) struct Hold {
    /// The head as it came, with the caller's token.
    head: Secret,
    stage: Stage,
    /// It takes one of the worker's places, as this caller's.
    place: Option<Place>,
    need: Option<Need>,
    id: Option<ApprovalId>,
    /// A request that was given up, of which word may come yet.
    left: Option<ApprovalId>,
    asked: Option<Asked>,
    since_ns: u64,
    until_ns: u64,
    /// Until when the owner of approvals has to say something; 0: it said it.
    answer_ns: u64,
    beat: Option<&'static [u8]>,
    beat_ns: u64,
    /// Bytes of a next request came; nothing more is read.
    stray: bool,
}

/// The question that was put.
struct Asked {
    key: [u8; 32],
    binding: [u8; 32],
    rule: Box<str>,
    who: Box<Party>,
}

impl Hold {
    pub(super) fn new(head: &[u8]) -> Self {
        Self {
            head: Secret::new(head.to_vec()),
            stage: Stage::Kept,
            place: None,
            need: None,
            id: None,
            left: None,
            asked: None,
            since_ns: 0,
            until_ns: 0,
            answer_ns: 0,
            beat: None,
            beat_ns: u64::MAX,
            stray: false,
        }
    }

    /// The head as it came; nothing once the request went on.
    pub(super) fn head(&self) -> &[u8] {
        self.head.expose()
    }

    /// For a question about approvals, which is answered until then.
    pub(super) fn of_own(until_ns: u64) -> Self {
        Self { stage: Stage::Own, until_ns, answer_ns: until_ns, ..Self::new(b"") }
    }

    pub(super) fn is_own(&self) -> bool {
        self.stage == Stage::Own
    }

    /// The request that it waits for.
    pub(super) fn id(&self) -> Option<ApprovalId> {
        self.id
    }

    /// When something is due.
    pub(super) fn deadline(&self) -> u64 {
        self.end_ns().min(self.beat_ns)
    }

    /// When the wait is over. Who asked, or spends a use, has an answer of the owner to wait for,
    /// however short the rest of the wait is.
    fn end_ns(&self) -> u64 {
        if self.answer_ns == 0 { self.until_ns } else { self.answer_ns }
    }

    fn expects_answer(&mut self, now: Now) {
        self.answer_ns = now.after_ms(ANSWER_MS);
    }

    /// Whether more bytes may be read, to notice the caller's end.
    pub(super) fn listens(&self) -> bool {
        !self.stray
    }

    pub(super) fn on_stray(&mut self) {
        self.stray = true;
    }
}

impl Session {
    /// A rule asks for an approval: it is seen to that the whole request will be at hand.
    pub(super) fn hold_back<J: Journal>(
        &mut self,
        need: Need,
        model: Attr<'_>,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        if let Some(exchange) = &mut self.exchange {
            exchange.rule = Some(need.rule());
        }
        let reason = self.reason();
        if need.hold(reason.is_some()).is_none() {
            return Flow::Refuse(Refusal::ReasonRequired);
        }
        if need.obligations().durable == Durable::Each && worker.record_full {
            return Flow::Refuse(Refusal::Unrecordable);
        }
        let plan = snapshot.plans.united(need.obligations().masks);
        if let Err(refusal) = self.note_open("hold", model, &plan, now, worker) {
            return Flow::Refuse(refusal);
        }
        if self.content_coded {
            return Flow::Refuse(Refusal::UnsupportedBody);
        }
        let limits = &snapshot.limits;
        let Some(exchange) = &self.exchange else { return Flow::Refuse(Refusal::BadRequest) };
        let left = exchange.body_left.unwrap_or(0);
        if exchange.bytes_in.saturating_add(left) > u64::from(limits.held_body_max) {
            return Flow::Refuse(Refusal::BodyTooLarge);
        }
        let Some(hold) = &mut self.hold else { return Flow::Refuse(Refusal::Denied) };
        let who = exchange.who.as_ref().map(|(principal, _)| principal);
        hold.place = who.and_then(|who| worker.places.take(who, limits));
        if hold.place.is_none() {
            return Flow::Refuse(Refusal::Overloaded);
        }
        hold.need = Some(need);
        // What was looked ahead into is bounded by the places from here on.
        worker.lookahead = worker.lookahead.saturating_sub(self.counted);
        self.counted = 0;
        self.request = Request::Collect;
        if self.head.framing == Framing::None {
            return self.petition(snapshot, now, worker, out);
        }
        self.welcome(out)
    }

    /// Keeps a part of the body; asks when it is whole.
    pub(super) fn collect<J: Journal>(
        &mut self,
        data: &[u8],
        whole: bool,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let limits = &snapshot.limits;
        let held = (self.held.len() + data.len()) as u64;
        if held > u64::from(limits.held_body_max) {
            return Flow::Refuse(Refusal::BodyTooLarge);
        }
        self.held.extend_from_slice(data);
        if whole { self.petition(snapshot, now, worker, out) } else { Flow::On }
    }

    /// Puts the question, and waits from here on.
    pub(super) fn petition<J: Journal>(
        &mut self,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let Some(need) = self.hold.as_mut().and_then(|hold| hold.need.take()) else {
            return Flow::Refuse(Refusal::Denied);
        };
        if self.draining {
            return Flow::Refuse(Refusal::Overloaded);
        }
        let ask = match self.question(&need, snapshot, worker) {
            Ok(ask) => ask,
            Err(refusal) => return Flow::Refuse(refusal),
        };
        let (prefers, beat) = (self.preferred_wait(), self.heartbeat());
        let (Some(hold), Some(exchange)) = (&mut self.hold, &self.exchange) else {
            return Flow::Refuse(Refusal::Denied);
        };
        hold.need = Some(need);
        hold.stage = Stage::Asked;
        hold.expects_answer(now);
        hold.asked = Some(Asked {
            key: ask.key(),
            binding: ask.binding,
            rule: ask.rule.clone(),
            who: Box::new(ask.who.clone()),
        });
        if hold.since_ns == 0 {
            hold.since_ns = now.mono_ns;
            let wait_ms = prefers.unwrap_or(snapshot.limits.hold_ms).min(HOLD_MS_MAX);
            hold.until_ns = now.after_ms(wait_ms);
            hold.beat = beat;
            hold.beat_ns = beat.map_or(u64::MAX, |_| now.after_ms(FIRST_BEAT_MS));
        }
        self.request = Request::Held;
        out.act(Act::Petition {
            exchange: exchange.id,
            petition: Box::new(Petition::Ask(Box::new(ask))),
        });
        Flow::Wait
    }

    /// The owner of approvals says something.
    pub(super) fn on_verdict<J: Journal>(
        &mut self,
        verdict: Verdict,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(stage) = self.hold.as_ref().map(|hold| hold.stage) else { return };
        if stage == Stage::Used {
            if let Verdict::Revoked { .. } = verdict {
                worker.counts.cuts += 1;
                tracing::warn!(connection = self.connection.0, "a grant was revoked: answer cut");
                self.abandon(now, worker, out);
            }
            return;
        }
        if self.request != Request::Held {
            return;
        }
        let Some(hold) = &mut self.hold else { return };
        // Two words for one question, or one for a question that was given up.
        let stale = match &verdict {
            Verdict::Approved { .. } => stage != Stage::Asked,
            Verdict::Spent(_) => stage != Stage::Spending,
            _ => false,
        };
        if stale || stage == Stage::Own || hold.left.is_some() && verdict.id() == hold.left {
            return;
        }
        hold.answer_ns = 0;
        let refusal = match verdict {
            Verdict::Pending { id, .. } => {
                self.named(id);
                // Who does not want to wait hears the id at once.
                if self.hold.as_ref().is_some_and(|hold| hold.until_ns <= now.mono_ns) {
                    self.refuse(Refusal::ApprovalRequired, now, worker, out);
                }
                return;
            }
            Verdict::Approved { id } => {
                self.named(id);
                return self.reconsider(id, now, worker, out);
            }
            Verdict::Spent(spent) => return self.redeem(&spent, now, worker, out),
            Verdict::Denied { id, .. } => {
                self.named(id);
                Refusal::ApprovalDenied
            }
            Verdict::Expired { id } | Verdict::Cancelled { id } | Verdict::Revoked { id } => {
                self.named(id);
                Refusal::ApprovalExpired
            }
            // Others were faster: what is left is to ask once more.
            Verdict::Refused(Refused::UsedUp | Refused::Unknown) if stage == Stage::Spending => {
                let snapshot = Rc::clone(&worker.snapshot);
                match self.petition(&snapshot, now, worker, out) {
                    Flow::Refuse(refusal) => refusal,
                    Flow::On | Flow::Wait => return,
                }
            }
            Verdict::Refused(Refused::Unavailable | Refused::Full | Refused::CallerFull) => {
                Refusal::Overloaded
            }
            _ => Refusal::Denied,
        };
        self.refuse(refusal, now, worker, out);
    }

    fn named(&mut self, id: ApprovalId) {
        if let Some(hold) = &mut self.hold {
            hold.id = Some(id);
        }
    }

    /// What is due while it waits: a sign of life, or the end of the wait.
    pub(super) fn on_held_deadline<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(hold) = &mut self.hold else { return };
        if hold.end_ns() <= now.mono_ns {
            // The owner of approvals is not there.
            let refusal = match hold.answer_ns {
                0 => Refusal::ApprovalRequired,
                _ => Refusal::Overloaded,
            };
            return self.refuse(refusal, now, worker, out);
        }
        if let Some(beat) = hold.beat {
            hold.beat_ns = now.after_ms(BEAT_MS);
            out.push_caller(gate::release_framing(&mut self.stage, beat));
        }
    }

    /// It was approved: everything is looked at again, by what is in force now.
    fn reconsider<J: Journal>(
        &mut self,
        id: ApprovalId,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let snapshot = Rc::clone(&worker.snapshot);
        match self.decide_again(&snapshot, now, worker) {
            Err(refusal) => self.refuse(refusal, now, worker, out),
            Ok(Decision::Deny(denial)) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.rule = denial.rule;
                }
                self.tell(Petition::Void { id }, out);
                self.refuse(Refusal::Denied, now, worker, out);
            }
            Ok(Decision::Permit(grant)) => {
                // No rule asks any more.
                self.tell(Petition::Leave { id, cancel: true }, out);
                if let Some(hold) = &mut self.hold {
                    hold.id = None;
                }
                let (rule, resource) = (grant.rule(), grant.resource());
                self.facts_of_release(rule, resource, grant.obligations(), &snapshot);
                let (subject, facts) = (self.subject(), &self.facts);
                let books = worker.books();
                let noted = gate::note(subject, Kind::Decision, facts, false, books, now);
                let gone = match noted {
                    Ok(()) => self.go_on(grant, &snapshot, now, worker, out),
                    Err(_) => Err(Refusal::Unrecordable),
                };
                self.refuse_if(gone, now, worker, out);
            }
            Ok(Decision::Hold(need)) => self.spend_or_ask(id, need, &snapshot, now, worker, out),
        }
    }

    fn refuse_if<J: Journal>(
        &mut self,
        gone: Result<(), Refusal>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if let Err(refusal) = gone {
            self.refuse(refusal, now, worker, out);
        }
    }

    /// Spends a use where the question is still the one that was approved; else asks the new one.
    fn spend_or_ask<J: Journal>(
        &mut self,
        id: ApprovalId,
        need: Need,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let asked = self.question(&need, snapshot, worker);
        if let Some(exchange) = &mut self.exchange {
            exchange.rule = Some(need.rule());
        }
        let Some(hold) = &mut self.hold else { return };
        hold.need = Some(need);
        let refusal = match (asked, &hold.asked) {
            (Err(refusal), _) => refusal,
            (Ok(ask), Some(asked)) if ask.key() == asked.key => {
                let (binding, who) = (asked.binding, asked.who.clone());
                hold.stage = Stage::Spending;
                hold.expects_answer(now);
                return self.tell(Petition::Spend { id, binding, who }, out);
            }
            _ => {
                (hold.id, hold.left) = (None, Some(id));
                self.tell(Petition::Leave { id, cancel: false }, out);
                self.tell(Petition::Void { id }, out);
                match self.petition(snapshot, now, worker, out) {
                    Flow::Refuse(refusal) => refusal,
                    Flow::On | Flow::Wait => return,
                }
            }
        };
        self.refuse(refusal, now, worker, out);
    }

    /// The way up to the decision, by the kept head and body and what is in force now.
    fn decide_again<J: Journal>(
        &mut self,
        snapshot: &Held,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<Decision, Refusal> {
        let Some(head) = self.hold.as_ref().map(|hold| hold.head.clone()) else {
            return Err(Refusal::Denied);
        };
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadRequest) };
        exchange.snapshot = Rc::clone(snapshot);
        let before = (exchange.who.take(), exchange.resource.take());
        exchange.rule = None;
        let held = std::mem::take(&mut self.held);
        let began = self.begin(head.expose(), snapshot, now, worker);
        let gathers = self.request == Request::Gather;
        self.held = held;
        self.request = Request::Held;
        // Who is refused is recorded as who asked.
        if let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.who.is_none()) {
            (exchange.who, exchange.resource) = before;
        }
        began?;
        let max =
            self.resource().and_then(|id| snapshot.resource(id)).map_or(0, |view| view.body_max);
        if self.held.len() as u64 > max {
            return Err(Refusal::BodyTooLarge);
        }
        let mut scan = std::mem::take(&mut self.model);
        scan.reset();
        let readable = gathers && scan.push(&self.held).and_then(|()| scan.finish()).is_ok();
        let model = if gathers { self.model_of(&scan, readable) } else { Attr::Absent };
        let decision = self.weigh(model, snapshot);
        self.model = scan;
        decision.ok_or(Refusal::Unauthenticated)
    }

    /// A use was spent: the request goes on as one that is permitted.
    fn redeem<J: Journal>(&mut self, spent: &Use, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        let Some(exchange) = &self.exchange else { return };
        let who = exchange.who.as_ref();
        let late = who.is_none_or(|(who, _)| who.valid_until_s() < now.wall_ns / 1_000_000_000);
        let changed = exchange.snapshot.generation != worker.snapshot.generation;
        let found =
            self.hold.as_mut().and_then(|hold| Some((hold.need.take()?, hold.asked.take()?)));
        let Some((mut need, asked)) = found else {
            return self.refuse(Refusal::Denied, now, worker, out);
        };
        if late || changed {
            // What was decided when it was approved is old by now.
            match self.same_need(&asked, now, worker) {
                Ok(again) => need = again,
                Err(refusal) => return self.refuse(refusal, now, worker, out),
            }
        }
        let Some(exchange) = &self.exchange else { return };
        let snapshot = Rc::clone(&exchange.snapshot);
        self.facts_of_release(need.rule(), need.resource(), need.obligations(), &snapshot);
        let mut writer = Writer::new(&mut self.facts);
        writer.text(Tag::Approval, &spent.id().to_string());
        writer.number(Tag::Count, u64::from(spent.number()));
        for who in spent.approvers() {
            writer.text(Tag::Operator, who);
        }
        let subject = self.subject();
        let covers = (&asked.binding, &*asked.rule);
        let facts = &self.facts;
        let redeemed = gate::redeem(need, spent, covers, subject, facts, worker.books(), now);
        let gone = match redeemed {
            Ok(grant) => self.go_on(grant, &snapshot, now, worker, out),
            Err(gate::Unredeemed::Foreign) => Err(Refusal::Denied),
            Err(gate::Unredeemed::Full) => Err(Refusal::Unrecordable),
        };
        self.refuse_if(gone, now, worker, out);
    }

    /// What is in force now, where it still asks what was asked.
    fn same_need<J: Journal>(
        &mut self,
        asked: &Asked,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<Need, Refusal> {
        let snapshot = Rc::clone(&worker.snapshot);
        let Decision::Hold(need) = self.decide_again(&snapshot, now, worker)? else {
            return Err(Refusal::Denied);
        };
        let same = self.question(&need, &snapshot, worker)?.key() == asked.key;
        same.then_some(need).ok_or(Refusal::Denied)
    }

    /// What the record says before a held request goes on.
    fn facts_of_release(
        &mut self,
        rule: RuleId,
        resource: ResourceId,
        owed: &Obligations,
        snapshot: &Snapshot,
    ) {
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.text(Tag::Decision, "permit");
        writer.text(Tag::Rule, snapshot.policy.rule_name(rule));
        let own = snapshot.resource(resource).map(|view| view.credential);
        let credential = owed.credential.or(own).and_then(|id| snapshot.credential(id));
        writer.maybe(Tag::Credential, credential.map(|one| one.name()));
        if owed.record != RecordLevel::Full {
            writer.text(Tag::Level, "meta");
        }
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
    }

    /// From the permit to the last byte of the request, all of which is at hand.
    fn go_on<J: Journal>(
        &mut self,
        grant: Grant,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        if let Some(hold) = &mut self.hold {
            worker.places.give(hold.place.take());
            hold.stage = Stage::Used;
            hold.head = Secret::new(Vec::new());
            if let Some(exchange) = &mut self.exchange {
                exchange.held_ns = now.mono_ns.saturating_sub(hold.since_ns);
            }
        }
        self.last_ns = now.mono_ns;
        self.request = Request::Forward;
        self.permitted(grant, snapshot, now, worker, out)?;
        if self.head.framing == Framing::None {
            return Ok(());
        }
        let body = std::mem::take(&mut self.held);
        self.forward_body(&body, None, true, now, worker, out)?;
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        // All of it came before it was decided, but it is a body.
        exchange.repeatable = false;
        if exchange.upstream_chunked
            && let Some(grant) = &exchange.grant
        {
            out.push_upstream(gate::admit_framing(grant, &mut self.stage, LAST_CHUNK));
        }
        exchange.sent_ns = now.mono_ns;
        self.request = Request::Done;
        Ok(())
    }

    /// Nobody waits any more. What was asked stays, so that the next try finds it.
    pub(super) fn leave<J>(&mut self, worker: &mut Worker<J>, out: &mut Out) {
        let Some(hold) = self.hold.as_mut() else { return };
        worker.places.give(hold.place.take());
        if let Some(id) = hold.id {
            self.tell(Petition::Leave { id, cancel: false }, out);
        }
        self.hold = None;
    }

    fn tell(&mut self, petition: Petition, out: &mut Out) {
        if let Some(exchange) = &self.exchange {
            out.act(Act::Petition { exchange: exchange.id, petition: Box::new(petition) });
        }
    }
}

/// How long the owner of approvals may take for a word.
const ANSWER_MS: u64 = 5_000;
/// The longest that a caller may ask to be held.
const HOLD_MS_MAX: u64 = 300_000;
const FIRST_BEAT_MS: u64 = 2_000;
const BEAT_MS: u64 = 5_000;
