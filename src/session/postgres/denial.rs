//! What is refused of the caller's messages: where the refusal is told, and what goes to the server
//! in the place of what was refused.

use super::cycle::Told;
use super::judge::{Analysis, Prepared};
use super::queue::Expect;
use super::refuse::{Denied, POISON, POISON_NAME};
use super::{Session, Skip};
use crate::base::Now;
use crate::record::Journal;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::SqlLimits;
use crate::wire::postgres::{TxStatus, write};
use std::rc::Rc;

/// What a name was meant for.
#[derive(Clone, Copy)]
pub(super) enum Nameless {
    Statement,
    Portal,
}

impl Session {
    /// Refuses what ends by ready for query by itself.
    pub(super) fn refuse_simple<J: Journal>(
        &mut self,
        denied: Denied,
        analysis: &Rc<Analysis>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.note_statement(analysis, 0, &Told::Deny(&denied), now, worker).is_err() {
            return self.unrecordable(now, worker, out);
        }
        self.log_refusal(&denied, worker);
        if self.is_quiet() {
            // The server drops its unnamed statement at every simple query, failed ones too.
            self.queue.deallocate(b"");
            self.tell_refusal(&denied, now, worker, out);
            self.tell(|to| write::ready(TxStatus::Idle, to), now, worker, out);
            self.finish_cycle(false, now, worker);
            return self.end_if_drained(now, worker, out);
        }
        self.queue.push(Expect::PoisonSimple { denied });
        self.say_up(|to| write::query(POISON, to), now, worker, out);
        self.cycles.complete(now);
    }

    /// Refuses a message of the extended protocol. `name`: of the statement that fails instead.
    pub(super) fn refuse_extended<J: Journal>(
        &mut self,
        denied: Denied,
        prepared: &Rc<Prepared>,
        name: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let place = prepared.place;
        let told = Told::Deny(&denied);
        if self.note_statement(&prepared.analysis, place, &told, now, worker).is_err() {
            return self.unrecordable(now, worker, out);
        }
        self.log_refusal(&denied, worker);
        self.fail_extended(denied, name, now, worker, out);
    }

    /// A name that nothing stands for: the server would say so, and nothing goes to it.
    pub(super) fn refuse_nameless<J: Journal>(
        &mut self,
        what: Nameless,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let (code, detail) = match what {
            Nameless::Portal => ("34000", "The portal does not exist"),
            Nameless::Statement => ("26000", "The prepared statement does not exist"),
        };
        let denied = Denied { code: Some(code), ..Denied::of(Refusal::BadRequest, detail) };
        let analysis = worker.texts.find(b"", &SqlLimits::default());
        let prepared = Prepared::new(analysis, 0);
        self.refuse_extended(denied, &prepared, POISON_NAME, now, worker, out);
    }

    fn fail_extended<J: Journal>(
        &mut self,
        denied: Denied,
        name: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.is_quiet() {
            // A Parse without a name that fails ends the one before.
            if name.is_empty() {
                self.queue.deallocate(b"");
            }
            self.tell_refusal(&denied, now, worker, out);
            self.skip = Some(Skip::Here);
            return;
        }
        self.queue.push(Expect::Poison { denied });
        self.skip = Some(Skip::Upstream);
        self.say_up(|to| write::parse(name, POISON, &[], to), now, worker, out);
    }

    /// Whether a refusal needs no upstream: it is where no failure would change anything.
    fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.cycles.is_quiet() && self.tx == TxStatus::Idle
    }

    pub(super) fn log_refusal<J: Journal>(&self, denied: &Denied, worker: &mut Worker<J>) {
        worker.count(denied.refusal);
        if let Some(resource) = self.resource {
            worker.counts.decided(resource, false);
        }
        let id = self.exchange();
        let rule = denied.rule.map(|rule| worker.snapshot.policy.rule_name(rule));
        tracing::info!(
            request = %id,
            refusal = denied.refusal.label(),
            rule = rule.unwrap_or("-"),
            "refused; `weirgate policy explain --request {id}` tells why"
        );
    }

    /// What cannot be recorded does not go, and the session cannot go on.
    pub(super) fn unrecordable<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.refuse_all(&Denied::of(Refusal::Unrecordable, ""), now, worker, out);
    }
}
