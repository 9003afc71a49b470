//! Data of a COPY FROM STDIN, which may come for hours under one decision.
//!
//! Each message of it is let go by whether the session still stands; rules that changed meanwhile judge
//! the statement once more. What they refuse ends as a COPY that its caller gives up (CopyFail), and the
//! error that comes back is told in our words. What the caller still sends for it is dropped: it cannot
//! know so far.

use super::bound::Bound;
use super::judge::Verdict;
use super::refuse::Denied;
use super::seat::About;
use super::{Phase, Session};
use crate::base::Now;
use crate::record::fields::{Tag, Writer};
use crate::record::{Full, Journal, Kind};
use crate::session::gate;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::postgres::{Frontend, write};
use std::rc::Rc;

/// A COPY that was ended here.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// What its error stands for, until that comes.
    denied: Option<Denied>,
    /// The caller has not sent anything else so far.
    drops: bool,
}

impl Ended {
    /// Another message came: whether it belongs to the COPY that was ended, and is dropped.
    pub(super) fn takes(&mut self, parsed: &Frontend<'_>) -> bool {
        let of_copy = matches!(
            parsed,
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) | Frontend::Flush
        );
        self.drops &= of_copy;
        self.drops && !matches!(parsed, Frontend::Flush)
    }

    /// The server's session ended, in the middle of a COPY or not: its error does not come, and what
    /// the caller still sends for it has nowhere to go.
    pub(super) fn cut(&mut self, copies: bool) {
        self.denied = None;
        self.drops |= copies;
    }

    /// An error came: the refusal that it stands for.
    pub(super) fn told(&mut self, code: &[u8]) -> Option<Denied> {
        self.denied.take().filter(|_| code == CANCELED)
    }
}

impl Session {
    /// Whether data of a COPY may go on to the server.
    pub(super) fn copy_goes_on<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        if self.ended.drops {
            return false;
        }
        let judged = self.is_of_now(worker);
        if !self.still_known(now, worker, out) || !matches!(self.phase, Phase::Ready) {
            return false;
        }
        let Some((analysis, place)) = self.queue.copying().filter(|_| !judged) else { return true };
        // No value is bound to a COPY.
        let what = (&analysis, place);
        let denied = match self.judge(what, About::Runs, &Bound::NOTHING, worker) {
            Verdict::Permit(_) => return true,
            // It was approved, and the rules ask no more than they did.
            Verdict::Hold(need) if self.is_approved(&need, worker) => return true,
            Verdict::Hold(need) => {
                Denied { rule: Some(need.rule()), ..Denied::of(Refusal::ApprovalRequired, "") }
            }
            Verdict::Deny(denied) => denied,
            Verdict::Open => Denied::of(Refusal::Denied, "What it runs is not known any more."),
        };
        if self.note_denial(analysis.label(), &denied, now, worker).is_err() {
            self.unrecordable(now, worker, out);
            return false;
        }
        self.log_refusal(&denied, worker);
        self.say_last(|to| write::copy_fail(REFUSED, to), now, worker, out);
        self.queue.end_copy();
        self.ended = Ended { denied: Some(denied), drops: true };
        false
    }

    /// Writes down that what was permitted is not any more, in the cycle that it is in.
    fn note_denial<J: Journal>(
        &mut self,
        label: &str,
        denied: &Denied,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(), Full> {
        let snapshot = Rc::clone(&worker.snapshot);
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.text(Tag::Method, label);
        writer.text(Tag::Decision, "deny");
        writer.text(Tag::Refusal, denied.refusal.label());
        writer.maybe(Tag::Rule, denied.rule.map(|rule| snapshot.policy.rule_name(rule)));
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        let subject = self.subject(true);
        gate::note(subject, Kind::Decision, &self.facts, false, worker.books(), now)
    }
}

/// What the server says of a COPY that its caller gave up (`query_canceled`).
const CANCELED: &[u8] = b"57014";
const REFUSED: &[u8] = b"weirgate refused this statement";
