//! A statement that waits for a person.
//!
//! ```text
//! judged --Need--> Asked --Approved--> judged again --same question--> Spending --Spent--> judged again
//!                    |                      \--another question--> Asked              redeemed: it goes
//!                    |--Denied, Expired, end of the wait--> refused; the request stays
//!                    \--cancel, the caller leaves--> taken back
//! ```
//!
//! The message that would run it is parked: nothing of it goes to the server, and nothing behind it is
//! read but to notice the caller's end. Whatever is heard of the request, the parked message goes
//! through all of its way again, by what is in force then; so what goes is what was asked about,
//! byte for byte. In the extended protocol that is Bind: it has the values, and the server plans by
//! them, which may run functions. Parse only names a statement, and goes. The portal that an approved
//! Bind makes is executed under the same approval, however often it takes to read all of its rows,
//! and so is a cursor that an approved DECLARE opens, as long as its transaction lasts.
//!
//! What goes by an approval is cut when that is revoked: until its cycle is answered and no transaction
//! is open.

use super::refuse::Denied;
use super::{Phase, Session};
use crate::base::{ApprovalId, ExchangeId, Now, RuleId};
use crate::policy::approval::{Ask, Party, Refused, Use, Verdict as Word};
use crate::policy::{Grant, Need};
use crate::record::Journal;
use crate::session::approving::{Petition, Place};
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::postgres::{TxStatus, write};
use std::rc::Rc;

/// How far it is.
pub(super) enum Stage {
    /// It was asked.
    Asked,
    /// It was approved, and is to be judged again.
    Approved,
    /// No use of the approval was left: it is to be judged, and asked about, again.
    Again,
    /// A use is being spent.
    Spending,
    /// That was done, and it is to be judged once more.
    Spent(Use),
    /// It may go, by the policy of this generation, and waits for the session that it goes to.
    Redeemed(Rc<Grant>, u64),
}

/// See the module.
pub(super) struct Hold {
    pub(super) stage: Stage,
    /// It takes one of the worker's places, as this caller's.
    pub(super) place: Option<Place>,
    pub(super) id: Option<ApprovalId>,
    /// A request that was given up, of which word may come yet.
    pub(super) left: Option<ApprovalId>,
    pub(super) exchange: ExchangeId,
    pub(super) rule: RuleId,
    pub(super) asked: Asked,
    pub(super) since_ns: u64,
    pub(super) until_ns: u64,
    /// Until when the owner of approvals has to say something; 0: it said it.
    pub(super) answer_ns: u64,
    pub(super) beat_ns: u64,
    /// What of the caller was read ahead.
    pub(super) ahead: usize,
}

/// The question that was put.
pub(super) struct Asked {
    pub(super) key: [u8; 32],
    pub(super) binding: [u8; 32],
    pub(super) rule: Box<str>,
    pub(super) who: Box<Party>,
}

impl Asked {
    pub(super) fn of(ask: &Ask) -> Self {
        let (rule, who) = (ask.rule.clone(), Box::new(ask.who.clone()));
        Self { key: ask.key(), binding: ask.binding, rule, who }
    }
}

/// An approval that what is under way goes by.
pub(super) struct InUse {
    pub(super) id: ApprovalId,
    pub(super) exchange: ExchangeId,
    pub(super) rule: Box<str>,
}

impl Hold {
    /// One that is asked about: what is known of it before it is.
    pub(super) fn new(
        (ask, rule): (&Ask, RuleId),
        (place, exchange): (Option<Place>, ExchangeId),
        (since_ns, until_ns): (u64, u64),
    ) -> Self {
        Self {
            stage: Stage::Asked,
            place,
            id: None,
            left: None,
            exchange,
            rule,
            asked: Asked::of(ask),
            since_ns,
            until_ns,
            answer_ns: 0,
            beat_ns: u64::MAX,
            ahead: 0,
        }
    }

    /// Whether somebody else has to say something before anything goes on.
    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Asked | Stage::Spending)
    }

    fn due_ns(&self) -> u64 {
        let end_ns = if self.answer_ns == 0 { self.until_ns } else { self.answer_ns };
        end_ns.min(self.beat_ns)
    }
}
impl Session {
    /// Whether a statement waits for a person, or for the owner of approvals.
    pub(super) fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.waits())
    }

    /// Whether bytes are read ahead, to notice the caller's end.
    pub(super) fn listens(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.waits() && hold.ahead < AHEAD_MAX)
    }

    /// So many bytes stand unread.
    pub(super) fn read_ahead(&mut self, len: usize) {
        if let Some(hold) = &mut self.hold {
            hold.ahead = len;
        }
    }

    /// When something is due of a statement that waits.
    pub(super) fn held_until(&self) -> Option<u64> {
        self.hold.as_ref().filter(|hold| hold.waits()).map(|hold| hold.due_ns())
    }

    /// Whether what runs does so by an approval under the rule that is asked for.
    pub(super) fn is_approved<J>(&self, need: &Need, worker: &Worker<J>) -> bool {
        let rule = worker.snapshot.policy.rule_name(need.rule());
        self.uses.iter().any(|one| *one.rule == *rule)
    }

    /// The gateway shuts down: what waits is told so, and the request stays.
    pub(super) fn drain_held<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.is_held() {
            let approval = self.hold.as_ref().and_then(|hold| hold.id);
            self.forget_hold(false, worker, out);
            let denied = Denied { approval, ..Denied::of(Refusal::Overloaded, DRAINS) };
            self.refuse_all(&denied, now, worker, out);
        }
    }

    pub(super) fn put_question(&mut self, ask: Ask, mut hold: Hold, now: Now, out: &mut Out) {
        hold.stage = Stage::Asked;
        hold.answer_ns = now.after_ms(ANSWER_MS);
        hold.asked = Asked::of(&ask);
        put(hold.exchange, Petition::Ask(Box::new(ask)), out);
        self.hold = Some(Box::new(hold));
    }

    /// Nobody waits here any more. With `cancel` the request is taken back, else it stays.
    pub(super) fn give_up<J>(
        &mut self,
        hold: Hold,
        cancel: bool,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        worker.places.give(hold.place);
        if let Some(id) = hold.id {
            put(hold.exchange, Petition::Leave { id, cancel }, out);
        }
    }

    /// The caller is gone, or what it waited for will not run.
    pub(super) fn forget_hold<J>(&mut self, cancel: bool, worker: &mut Worker<J>, out: &mut Out) {
        if let Some(hold) = self.hold.take() {
            self.give_up(*hold, cancel, worker, out);
        }
    }

    /// Nothing goes by an approval any more, where nothing is under way and no transaction open.
    pub(super) fn settle_uses(&mut self, ends: bool, out: &mut Out) {
        if ends || self.cycles.is_empty() && self.tx == TxStatus::Idle {
            for one in self.uses.drain(..) {
                put(one.exchange, Petition::Leave { id: one.id, cancel: false }, out);
            }
        }
    }

    /// The owner of approvals says something.
    pub(super) fn on_word<J: Journal>(
        &mut self,
        exchange: ExchangeId,
        word: Word,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if let Word::Revoked { id } = word
            && self.uses.iter().any(|one| one.id == id)
        {
            return self.cut_revoked(id, now, worker, out);
        }
        // A word for a question of a cycle before is not for this one.
        let Some(hold) = self.hold.as_mut().filter(|hold| hold.exchange == exchange) else {
            return;
        };
        // Two words for one question, or one for a question that was given up.
        let fits = match (&word, &hold.stage) {
            (Word::Spent(_), stage) => matches!(stage, Stage::Spending),
            (Word::Approved { .. } | Word::Pending { .. }, stage) => matches!(stage, Stage::Asked),
            // A use was spent, and nothing went yet.
            (Word::Revoked { id }, Stage::Spent(_) | Stage::Redeemed(..)) => hold.id == Some(*id),
            (_, stage) => matches!(stage, Stage::Asked | Stage::Spending),
        };
        if !fits || hold.left.is_some() && word.id() == hold.left {
            return;
        }
        hold.answer_ns = 0;
        hold.id = word.id().or(hold.id);
        match word {
            Word::Pending { .. } => {
                hold.beat_ns = now.mono_ns;
                self.on_held_deadline(now, worker, out);
            }
            Word::Approved { .. } => {
                hold.stage = Stage::Approved;
                self.unpark(now, worker, out);
            }
            Word::Spent(spent) => {
                hold.stage = Stage::Spent(spent);
                self.unpark(now, worker, out);
            }
            Word::Refused(Refused::UsedUp | Refused::Unknown)
                if matches!(hold.stage, Stage::Spending) =>
            {
                // Others were faster: what is left is to ask once more.
                let (gone, exchange) = (hold.id.take(), hold.exchange);
                (hold.stage, hold.left) = (Stage::Again, gone);
                if let Some(id) = gone {
                    put(exchange, Petition::Leave { id, cancel: false }, out);
                }
                self.unpark(now, worker, out);
            }
            other => {
                let refusal = match other {
                    Word::Denied { .. } => Refusal::ApprovalDenied,
                    Word::Expired { .. } | Word::Cancelled { .. } | Word::Revoked { .. } => {
                        Refusal::ApprovalExpired
                    }
                    Word::Refused(Refused::Unavailable | Refused::Full | Refused::CallerFull) => {
                        Refusal::Overloaded
                    }
                    _ => Refusal::Denied,
                };
                self.end_hold(Denied::of(refusal, ""), false, now, worker, out);
            }
        }
    }

    /// The wait is over, and the statement is refused where it stands.
    pub(super) fn end_hold<J: Journal>(
        &mut self,
        denied: Denied,
        cancel: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(hold) = self.hold.take() else { return };
        self.count_wait(&hold, now);
        let (rule, approval) = (Some(hold.rule), hold.id.filter(|_| !cancel));
        self.give_up(*hold, cancel, worker, out);
        self.failed = Some(Denied { rule, approval, ..denied });
        self.unpark(now, worker, out);
        self.go_home(now, worker, out);
    }

    /// What it waited does not count as time of the statement.
    pub(super) fn count_wait(&mut self, hold: &Hold, now: Now) {
        self.cycles.current(now).held_ns += now.mono_ns.saturating_sub(hold.since_ns);
    }

    /// What is due while it waits: a notice, or the end of the wait.
    pub(super) fn on_held_deadline<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(hold) = &mut self.hold else { return };
        if hold.answer_ns != 0 && hold.answer_ns <= now.mono_ns {
            // The owner of approvals is not there.
            let denied = Denied::of(Refusal::Overloaded, "");
            return self.end_hold(denied, false, now, worker, out);
        }
        if hold.answer_ns == 0 && hold.until_ns <= now.mono_ns {
            let denied = Denied::of(Refusal::ApprovalRequired, "");
            return self.end_hold(denied, false, now, worker, out);
        }
        let Some(id) = hold.id.filter(|_| hold.beat_ns <= now.mono_ns) else { return };
        // In the middle of a message it would be read as a part of that.
        if self.is_told_in_part() {
            if let Some(hold) = &mut self.hold {
                hold.beat_ns = now.after_ms(SOON_MS);
            }
            return;
        }
        if let Some(hold) = &mut self.hold {
            hold.beat_ns = now.after_ms(BEAT_MS);
        }
        let snapshot = Rc::clone(&worker.snapshot);
        let rule = self.hold.as_ref().map_or("", |hold| &hold.asked.rule);
        let text =
            format!("weirgate: the statement waits for an approval (rule {rule}, request {id})");
        let link = snapshot.public_url.as_ref().map(|url| format!("{url}/approvals/{id}"));
        let hint = link.unwrap_or_else(|| format!("`weirgate approvals show {id}` tells more."));
        self.tell(
            |to| write::notice("NOTICE", "00000", &text, None, Some(&hint), to),
            now,
            worker,
            out,
        );
    }

    /// The grant was revoked that something goes by: the server is asked to cancel, and everything ends.
    fn cut_revoked<J: Journal>(
        &mut self,
        id: ApprovalId,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        worker.counts.cuts += 1;
        tracing::warn!(request = %self.link, approval = %id, "a grant was revoked: connection cut");
        if matches!(self.phase, Phase::Ready) && !self.cycles.is_empty() {
            self.cancel_at_server(now, worker, out);
        }
        let detail = "The approval of a statement that was under way was revoked.";
        let denied = Denied { approval: Some(id), ..Denied::of(Refusal::ApprovalExpired, detail) };
        self.refuse_all(&denied, now, worker, out);
    }
}

pub(super) fn put(exchange: ExchangeId, petition: Petition, out: &mut Out) {
    out.act(Act::Petition { exchange, petition: Box::new(petition) });
}

/// How long the owner of approvals may take for a word.
pub(super) const ANSWER_MS: u64 = 5_000;
/// Between two notices.
const BEAT_MS: u64 = 10_000;
/// Until a message that is told in parts may be over.
const SOON_MS: u64 = 200;
/// Bytes that are read ahead, to notice the caller's end.
const AHEAD_MAX: usize = 64 << 10;
pub(super) const DRAINS: &str = "The gateway shuts down.";
