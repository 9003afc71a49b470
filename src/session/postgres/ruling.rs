//! What becomes of a statement that was judged, where a rule wants a person to approve: it waits, is
//! what was approved, or is refused. See [`hold`](super::hold) for the way that it goes.

use super::Session;
use super::bound::{Bound, Kinds};
use super::cycle::Told;
use super::hold::{ANSWER_MS, DRAINS, Hold, InUse, Stage, put};
use super::judge::{Analysis, Prepared, Verdict};
use super::queue::Named;
use super::refuse::{self, Denied};
use super::seat::About;
use super::values::Values;
use crate::base::{ApprovalId, Now};
use crate::credential::Credential;
use crate::policy::approval::Use;
use crate::policy::{Durable, Grant, Need, RecordLevel};
use crate::record::Journal;
use crate::record::fields::{Tag, Writer};
use crate::session::approving::Petition;
use crate::session::gate;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql;
use crate::wire::postgres::{Bind, TxStatus};
use std::rc::Rc;

/// By whose approval a portal or cursor was made.
pub(super) struct Approved {
    grant: Rc<Grant>,
    generation: u64,
    id: ApprovalId,
}

/// A statement that a person may be asked about.
pub(super) struct Matter<'m> {
    pub(super) analysis: &'m Rc<Analysis>,
    /// Which statement of the text; without: all.
    pub(super) place: Option<usize>,
    pub(super) about: About<'m>,
    pub(super) bound: &'m Bound,
    pub(super) runs: Runs<'m>,
}

/// What runs it.
pub(super) enum Runs<'m> {
    /// It is a text.
    Text,
    /// A portal is made, with these values.
    Bind(&'m Bind<'m>, &'m Kinds),
    /// The portal that runs it.
    Portal(&'m Prepared),
}

impl Matter<'_> {
    fn statements(&self) -> impl Iterator<Item = &sql::Statement> {
        let all = self.analysis.statements.iter().enumerate();
        all.filter(|(at, _)| self.place.is_none_or(|place| place == *at)).map(|(_, one)| one)
    }

    fn only(&self) -> Option<&sql::Act> {
        let mut all = self.statements();
        all.next().filter(|_| all.next().is_none()).map(|one| &one.act)
    }

    /// The values that it runs with.
    ///
    /// # Errors
    /// They are not at hand, or more than a person can be shown.
    pub(super) fn values(&self) -> Result<Option<Rc<Values>>, Denied> {
        match &self.runs {
            Runs::Text => Ok(None),
            Runs::Bind(bind, kinds) => match Values::of(bind, kinds) {
                Some(values) => Ok(Some(Rc::new(values))),
                None => Err(Denied::of(Refusal::BodyTooLarge, TOO_LONG)),
            },
            Runs::Portal(portal) => match (&portal.values, &portal.bound) {
                (Some(values), _) => Ok(Some(Rc::clone(values))),
                (None, bound) if *bound == Bound::NOTHING => Ok(None),
                _ => Err(Denied::hinted(NOT_KEPT, BIND_AGAIN)),
            },
        }
    }
}

/// What a statement may do in the end.
pub(super) enum Ruling {
    /// It goes, by an approval or without.
    Go(Rc<Grant>, Option<Rc<Approved>>),
    /// A portal is made that is asked about when it is executed.
    Later,
    Deny(Denied),
    /// It waits.
    Open,
}

impl Session {
    /// What becomes of a statement that was judged: where a rule wants a person to approve, it waits,
    /// or is what was approved.
    pub(super) fn rule_on<J: Journal>(
        &mut self,
        verdict: Verdict,
        matter: &Matter<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        match (verdict, self.hold.take()) {
            (Verdict::Hold(need), None) => self.begin_hold(&need, matter, now, worker, out),
            (Verdict::Hold(need), Some(hold)) => {
                self.go_on_held(*need, hold, matter, now, worker, out)
            }
            (Verdict::Open, hold) => {
                self.hold = hold;
                Ruling::Open
            }
            (Verdict::Permit(grant), hold) => {
                if let Some(hold) = hold {
                    // No rule asks any more.
                    self.give_up(*hold, true, worker, out);
                }
                Ruling::Go(grant, None)
            }
            (Verdict::Deny(denied), hold) => {
                if let Some(hold) = hold {
                    if let Some(id) = hold.id.filter(|_| denied.by_policy) {
                        put(hold.exchange, Petition::Void { id }, out);
                    }
                    self.give_up(*hold, false, worker, out);
                }
                Ruling::Deny(denied)
            }
        }
    }

    /// A rule asks for an approval, and nobody was asked so far.
    fn begin_hold<J: Journal>(
        &mut self,
        need: &Need,
        matter: &Matter<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        if let Some(approved) = self.approved_before(matter, worker) {
            let grant = Rc::clone(&approved.grant);
            return self.seat_approved(grant, matter, worker, |_, grant| {
                Ruling::Go(grant, Some(approved))
            });
        }
        if let Some(ruling) = self.runs_later(need, matter, worker) {
            return ruling;
        }
        // What is under way may change where this one stands.
        if !self.cycles.is_known() || self.queue.is_settling() {
            return Ruling::Open;
        }
        if let Err(denied) = self.may_ask(need, worker) {
            return Ruling::Deny(Denied { rule: Some(need.rule()), ..denied });
        }
        // Names alone are settled, so that the server waits outside of any transaction.
        let alone = self.tx == TxStatus::Idle && !self.cycles.has_run();
        if alone && self.cycles.is_begun() {
            self.settles = true;
            return Ruling::Open;
        }
        match self.ask(need, matter, alone, now, worker, out) {
            Ok(()) => Ruling::Open,
            Err(denied) => Ruling::Deny(Denied { rule: Some(need.rule()), ..denied }),
        }
    }

    /// What only makes a name, or a portal of what runs by a name, is not asked about itself: what
    /// the name stands for is, when it runs.
    fn runs_later<J: Journal>(
        &mut self,
        need: &Need,
        matter: &Matter<'_>,
        worker: &Worker<J>,
    ) -> Option<Ruling> {
        let prepares = match (matter.only()?, &matter.runs) {
            (sql::Act::Prepare { .. }, _) => true,
            (sql::Act::Execute { .. } | sql::Act::Fetch { .. }, Runs::Bind(..)) => false,
            _ => return None,
        };
        let own = need.obligations().credential.filter(|named| *named != self.credential);
        Some(match (own, self.connect.clone()) {
            (None, Some(connect)) if prepares => {
                let go = |_: &mut Self, grant| Ruling::Go(grant, None);
                self.seat_approved(connect, matter, worker, go)
            }
            (None, _) if !prepares => Ruling::Later,
            _ => {
                let denied = Denied::hinted(PREPARED, SEND_ITSELF);
                Ruling::Deny(Denied { rule: Some(need.rule()), ..denied })
            }
        })
    }

    /// Whether anybody can be asked now.
    fn may_ask<J: Journal>(&self, need: &Need, worker: &Worker<J>) -> Result<(), Denied> {
        if self.tx == TxStatus::Failed {
            let failed = "The transaction has failed already";
            let denied = Denied::of(Refusal::ApprovalRequired, failed);
            return Err(Denied { code: Some("25P02"), ..denied });
        }
        if need.hold(self.saying.reason().is_some()).is_none() {
            let denied = Denied::of(Refusal::ReasonRequired, "");
            return Err(Denied { hint: Some(SAY_WHY), ..denied });
        }
        if need.obligations().durable == Durable::Each && worker.record_full {
            return Err(Denied::of(Refusal::Unrecordable, ""));
        }
        // Until its answer is in, nobody knows how literals will be read.
        let sways = self.cycles.sways();
        if sways.forms || sways.settings {
            return Err(Denied::hinted(BEHIND_SET, SEND_BEHIND));
        }
        match self.draining {
            true => Err(Denied::of(Refusal::Overloaded, DRAINS)),
            false => Ok(()),
        }
    }

    /// Puts the question, and waits from here on. `alone`: no transaction is open.
    fn ask<J: Journal>(
        &mut self,
        need: &Need,
        matter: &Matter<'_>,
        alone: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Denied> {
        let place = matter.place.unwrap_or(0);
        let told = Told::Hold(need);
        let unrecordable = |_| Denied::of(Refusal::Unrecordable, "");
        self.note_statement(matter.analysis, place, &told, now, worker).map_err(unrecordable)?;
        let ask = self.question(need, matter, worker)?;
        let limits = &worker.snapshot.limits;
        let who = self.who.as_ref().map(|(principal, _)| principal);
        let place = who.and_then(|who| worker.places.take(who, limits));
        if place.is_none() {
            return Err(Denied::of(Refusal::Overloaded, TOO_MANY));
        }
        let wait_ms = match alone {
            true => limits.hold_ms,
            false => limits.hold_ms.min(limits.hold_transaction_ms),
        };
        if self.cycles.is_begun() {
            // The answers to what goes before may stand in a buffer of the server's.
            self.flush(out);
        }
        let until_ns = now.after_ms(wait_ms);
        let times = (now.mono_ns, until_ns);
        let hold = Hold::new((&ask, need.rule()), (place, self.exchange()), times);
        self.put_question(ask, hold, now, out);
        Ok(())
    }

    /// A rule still asks, of a statement that somebody was asked about.
    fn go_on_held<J: Journal>(
        &mut self,
        need: Need,
        mut hold: Box<Hold>,
        matter: &Matter<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        hold.rule = need.rule();
        if matches!(hold.stage, Stage::Asked | Stage::Spending) {
            self.hold = Some(hold);
            return Ruling::Open;
        }
        if let Stage::Redeemed(grant, generation) = &hold.stage {
            let grant = Rc::clone(grant);
            if *generation != worker.snapshot.generation {
                self.give_up(*hold, false, worker, out);
                return Ruling::Deny(Denied::hinted(CHANGED, SEND_AGAIN));
            }
            return self.go_approved(grant, *hold, matter, worker, out);
        }
        let who = self.who.as_ref();
        if who.is_none_or(|(who, _)| who.valid_until_s() <= now.wall_ns / 1_000_000_000) {
            self.give_up(*hold, false, worker, out);
            let detail = "The token expired while the statement waited.";
            return Ruling::Deny(Denied::of(Refusal::Unauthenticated, detail));
        }
        let ask = match self.question(&need, matter, worker) {
            Ok(ask) => ask,
            Err(denied) => {
                self.give_up(*hold, false, worker, out);
                return Ruling::Deny(denied);
            }
        };
        let same = ask.key() == hold.asked.key;
        match (std::mem::replace(&mut hold.stage, Stage::Spending), hold.id) {
            (Stage::Approved, Some(id)) if same => {
                let (binding, who) = (hold.asked.binding, hold.asked.who.clone());
                hold.answer_ns = now.after_ms(ANSWER_MS);
                put(hold.exchange, Petition::Spend { id, binding, who }, out);
                self.hold = Some(hold);
                Ruling::Open
            }
            (Stage::Approved, Some(id)) => {
                (hold.id, hold.left) = (None, Some(id));
                put(hold.exchange, Petition::Leave { id, cancel: false }, out);
                put(hold.exchange, Petition::Void { id }, out);
                self.put_question(ask, *hold, now, out);
                Ruling::Open
            }
            (Stage::Again, _) => {
                self.put_question(ask, *hold, now, out);
                Ruling::Open
            }
            (Stage::Spent(spent), _) if same => {
                self.redeem(need, &spent, *hold, matter, now, worker, out)
            }
            _ => {
                self.give_up(*hold, false, worker, out);
                Ruling::Deny(Denied::hinted(CHANGED, SEND_AGAIN))
            }
        }
    }

    /// A use was spent on what this still is.
    #[expect(clippy::too_many_arguments, reason = "what a decision needs, and where it stands")]
    fn redeem<J: Journal>(
        &mut self,
        need: Need,
        spent: &Use,
        mut hold: Hold,
        matter: &Matter<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        self.facts_of_release(&need, spent, worker);
        let level = need.obligations().record;
        self.cycles.current(now).raise(level, need.obligations().durable);
        let covers = (&hold.asked.binding, &*hold.asked.rule);
        let (subject, facts) = (self.subject(true), &self.facts);
        let redeemed = gate::redeem(need, spent, covers, subject, facts, worker.books(), now);
        match redeemed {
            Ok(grant) => {
                let grant = Rc::new(grant);
                let generation = worker.snapshot.generation;
                hold.id = Some(spent.id());
                hold.stage = Stage::Redeemed(Rc::clone(&grant), generation);
                self.count_wait(&hold, now);
                self.go_approved(grant, hold, matter, worker, out)
            }
            Err(fault) => {
                self.give_up(hold, false, worker, out);
                Ruling::Deny(match fault {
                    gate::Unredeemed::Foreign => Denied::hinted(CHANGED, SEND_AGAIN),
                    gate::Unredeemed::Full => Denied::of(Refusal::Unrecordable, ""),
                })
            }
        }
    }

    /// What the record says before a held statement goes.
    fn facts_of_release<J: Journal>(&mut self, need: &Need, spent: &Use, worker: &Worker<J>) {
        let snapshot = &worker.snapshot;
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.text(Tag::Decision, "permit");
        writer.text(Tag::Rule, snapshot.policy.rule_name(need.rule()));
        let owed = need.obligations();
        let credential = snapshot.credential(owed.credential.unwrap_or(self.credential));
        writer.maybe(Tag::Credential, credential.map(Credential::name));
        if owed.record != RecordLevel::Full {
            writer.text(Tag::Level, "meta");
        }
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        writer.text(Tag::Approval, &spent.id().to_string());
        writer.number(Tag::Count, u64::from(spent.number()));
        for who in spent.approvers() {
            writer.text(Tag::Operator, who);
        }
    }

    /// A redeemed statement goes, or waits for the session that it goes to.
    fn go_approved<J: Journal>(
        &mut self,
        grant: Rc<Grant>,
        hold: Hold,
        matter: &Matter<'_>,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        let verdict = self.seated(Verdict::Permit(grant), matter, worker);
        match verdict {
            Verdict::Permit(grant) => {
                let Some(id) = hold.id else { return Ruling::Deny(Denied::of(refuse::DENIED, "")) };
                worker.places.give(hold.place);
                let (exchange, rule) = (hold.exchange, hold.asked.rule);
                self.uses.push(InUse { id, exchange, rule });
                let generation = worker.snapshot.generation;
                let approved = Approved { grant: Rc::clone(&grant), generation, id };
                Ruling::Go(grant, Some(Rc::new(approved)))
            }
            Verdict::Deny(denied) => {
                self.give_up(hold, false, worker, out);
                Ruling::Deny(denied)
            }
            Verdict::Open | Verdict::Hold(_) => {
                self.hold = Some(Box::new(hold));
                Ruling::Open
            }
        }
    }

    /// What approved of the portal or cursor that this reads.
    fn approved_before<J: Journal>(
        &self,
        matter: &Matter<'_>,
        worker: &Worker<J>,
    ) -> Option<Rc<Approved>> {
        let of = |prepared: &Prepared| prepared.approved.clone();
        let found = match (&matter.runs, matter.only()?) {
            // The name is looked up by the server when it runs.
            (_, sql::Act::Execute { .. }) => None,
            (Runs::Text | Runs::Portal(_), sql::Act::Fetch { name, .. }) => {
                match self.find(true, name.as_bytes()).0 {
                    Named::Is(cursor) => of(&cursor),
                    Named::Nothing | Named::Open => None,
                }
            }
            (Runs::Portal(portal), _) => of(portal),
            _ => None,
        }?;
        let runs = self.uses.iter().any(|one| one.id == found.id);
        (runs && found.generation == worker.snapshot.generation).then_some(found)
    }

    fn seat_approved<J: Journal>(
        &mut self,
        grant: Rc<Grant>,
        matter: &Matter<'_>,
        worker: &Worker<J>,
        then: impl FnOnce(&mut Self, Rc<Grant>) -> Ruling,
    ) -> Ruling {
        match self.seated(Verdict::Permit(grant), matter, worker) {
            Verdict::Permit(grant) => then(self, grant),
            Verdict::Deny(denied) => Ruling::Deny(denied),
            Verdict::Open | Verdict::Hold(_) => Ruling::Open,
        }
    }
}

pub(super) const TOO_LONG: &str =
    "The statement and its values are more than a person can be shown (64 KiB).";
pub(super) const NOT_KEPT: &str =
    "The rules changed since its values were bound, and nobody kept them.";
pub(super) const BIND_AGAIN: &str = "Bind it again.";
const PREPARED: &str = "The rule wants an approval and a credential of its own, and what runs by a \
                        name of PREPARE or of a cursor cannot be moved to that.";
const SEND_ITSELF: &str = "Send the statement itself, as text or by Parse and Bind.";
const SAY_WHY: &str = "Say why in a comment at its end, /*reason='...'*/, percent-encoded, or by \
                       options=-c weirgate.reason=...";
const TOO_MANY: &str =
    "Too many statements wait for an approval ([limits] held_max, held_caller_max).";
const BEHIND_SET: &str =
    "Behind a SET, a function or a block in the same pipeline it may be read otherwise.";
const SEND_BEHIND: &str = "Send it behind a Sync.";
const CHANGED: &str = "The rules changed when it was about to go.";
const SEND_AGAIN: &str = "Send it again.";
