//! Reading the catalog for a session that masks, and what masks mean for its statements.

use super::judge::{self, Analysis, Names};
use super::literals;
use super::masking::Masking;
use super::queue::Named;
use super::refuse::Denied;
use super::sway::only_ends;
use super::{Phase, Session};
use crate::base::Now;
use crate::mask::Cleared;
use crate::policy::Grant;
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Wrap};
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::{Held, Worker};
use crate::sql::{Act, Kind as Sort, Statement};
use crate::wire::postgres::{Backend, TxStatus, write};
use std::rc::Rc;

/// What a database is known by among those that masks were read for.
pub(super) fn place(authority: &str, database: &str) -> String {
    format!("{authority}/{database}")
}

impl Session {
    /// Makes ready what the connection may owe.
    pub(super) fn arm(&mut self, snapshot: &Held) {
        let masks = self.connect.as_ref().map(|grant| grant.masks()).unwrap_or_default();
        let row = self.who.as_ref().map(|(_, known)| &known.row).zip(self.resource);
        let asks_kin = row.is_some_and(|(row, of)| snapshot.policy.denies_columns(row, of));
        if masks.is_empty() && !asks_kin {
            self.masking = None;
            return;
        }
        let plan = snapshot.plans.united(masks);
        match &mut self.masking {
            Some(masking) => masking.replace(plan, asks_kin),
            None => self.masking = Some(Box::new(Masking::new(plan, asks_kin))),
        }
    }

    /// Whether the server is asked something by the gateway itself, and everything waits for it.
    pub(super) fn is_refreshing(&self) -> bool {
        self.sway.is_asking()
            || self.masking.as_ref().is_some_and(|masking| masking.refresh.is_some())
    }

    /// Whether rows under this grant are masked.
    pub(super) fn owes_mask(&self, grant: &Grant) -> bool {
        !grant.masks().is_empty()
    }

    /// Why a statement that owes a mask cannot keep it.
    pub(super) fn cannot_mask<S, P>(
        &self,
        analysis: &Rc<Analysis>,
        place: Option<usize>,
        names: &Names<S, P>,
    ) -> Option<&'static str>
    where
        S: Fn(&[u8]) -> Named,
        P: Fn(&[u8]) -> Named,
    {
        let Some(masking) = &self.masking else { return Some("No mask is ready.") };
        let untold = "What it gives out cannot be told, and so not be masked.";
        if analysis.unread.is_some() {
            return Some(untold);
        }
        if !masking.is_ready() {
            return Some("The masks have just changed, and are not ready: send it again.");
        }
        // What stands behind a definition in one text runs before the catalog is read again.
        let defines = |statement: &Statement| statement.kinds.contains(Sort::Ddl);
        if masking.plan.has_columns()
            && analysis.statements.len() > 1
            && analysis.statements.iter().any(defines)
        {
            return Some("Beside other statements a definition cannot be followed: send it alone.");
        }
        // It goes before the catalog can be read again, for that takes a Sync.
        if masking.defined && !only_ends(analysis) {
            return Some("Behind a definition it cannot be followed: send it behind a Sync.");
        }
        let mut statements = analysis.statements.iter().enumerate();
        statements.find_map(|(at, statement)| {
            if place.is_some_and(|place| place != at) {
                return None;
            }
            // What a name stands for may have been permitted under other masks.
            let runs = matches!(statement.act, Act::Execute { .. } | Act::Fetch { .. });
            let parts = if runs { judge::parts(analysis, at, names) } else { Some(Vec::new()) };
            let Some(parts) = parts else { return Some(untold) };
            let mut run = parts.iter().filter_map(|part| part.analysis.statements.get(part.place));
            run.find_map(|part| masking.forbids(part)).or_else(|| masking.forbids(statement))
        })
    }

    /// A text as the record may hold it; `None`: as it is.
    pub(super) fn recorded_text(&self, analysis: &Analysis, masked: bool) -> Option<Vec<u8>> {
        let masking = self.masking.as_ref().filter(|_| masked)?;
        let mut cleared = Vec::new();
        let mut changed = masking.plan.clear_statement(&analysis.text, &mut cleared);
        if masking.is_of_columns(analysis) {
            let mut bare = Vec::new();
            literals::without(&cleared, &mut bare);
            changed |= bare != cleared;
            cleared = bare;
        }
        changed.then_some(cleared)
    }

    /// The value of a setting as it may be told and recorded; `None`: as it is.
    pub(super) fn cleared_status(&self, value: &[u8]) -> Option<Vec<u8>> {
        let masking = self.masking.as_ref()?;
        let mut cleared = Vec::new();
        masking.plan.clear_statement(value, &mut cleared).then_some(cleared)
    }

    /// A value that is bound to a statement, as the record may hold it.
    pub(super) fn recorded_value(&self, analysis: &Analysis, value: &[u8]) -> Vec<u8> {
        let mut cleared = Vec::new();
        match &self.masking {
            Some(masking) if masking.is_of_columns(analysis) => {
                cleared.extend_from_slice(b"[REDACTED]");
            }
            Some(masking) => {
                masking.plan.clear_statement(value, &mut cleared);
            }
            None => cleared.extend_from_slice(value),
        }
        cleared
    }

    /// Reads the catalog before the caller is let in, where masks need it.
    pub(super) fn refresh_first<J: Journal>(
        &mut self,
        statuses: &[u8],
        status: TxStatus,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        let place = self.place();
        let due = self.masking.as_mut().filter(|masking| masking.is_due(now));
        let first = Some((statuses.to_vec(), status));
        let text = due.and_then(|masking| masking.begin(first, &place, &worker.relations));
        let Some(text) = text else { return false };
        self.say_link(&text, now, worker, out);
        true
    }

    /// What the database is known by among those that masks were read for.
    fn place(&self) -> String {
        let snapshot = self.snapshot.as_ref();
        let view = self.resource.and_then(|id| snapshot.and_then(|one| one.resource(id)));
        view.map(|view| place(&view.authority, &view.database)).unwrap_or_default()
    }

    /// Asks the session in hand what is to be known of its settings, and home for the catalog where
    /// that is due, if nothing is under way.
    pub(super) fn refresh_if_due<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        let quiet = self.is_between() && self.tx != TxStatus::Failed;
        // Other rules may owe other masks, whose columns are to be known before a statement is judged.
        if quiet && !self.is_of_now(worker) && !self.still_known(now, worker, out) {
            return true;
        }
        if quiet && let Some(text) = self.sway.ask() {
            self.say_link(text, now, worker, out);
            return true;
        }
        if !quiet || !self.masking.as_ref().is_some_and(|masking| masking.is_due(now)) {
            return false;
        }
        if !self.is_home() {
            // What waits comes back when the catalog was read there.
            self.turn_home(now, worker, out);
            return true;
        }
        let place = self.place();
        let masking = self.masking.as_mut();
        let text = masking.and_then(|masking| masking.begin(None, &place, &worker.relations));
        let Some(text) = text else { return false };
        self.say_link(&text, now, worker, out);
        true
    }

    /// A query of the gateway's own in the session in hand, recorded with what opened that.
    pub(super) fn say_link<J: Journal>(
        &mut self,
        text: &str,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some((grant, _)) = self.opener() else { return };
        let subject = self.opening_subject();
        self.stage.clear();
        self.stage.write_with(|to| write::query(text.as_bytes(), to));
        let cleared = Cleared::generated(&mut self.stage);
        let kind = Kind::RequestBody;
        match gate::admit(&grant, subject, kind, cleared, b"", worker.books(), now) {
            Ok(admission) => {
                out.push_upstream(admission.forward(&mut self.stage, Wrap::default()));
            }
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// A message of the catalog's answer, which is the gateway's business.
    pub(super) fn on_refresh<J: Journal>(
        &mut self,
        message: &Backend<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.sway.is_asking() {
            return self.on_path(message, now, worker, out);
        }
        let Some(masking) = &mut self.masking else { return };
        let Some(mut refresh) = masking.refresh.take() else { return };
        let Some(status) = refresh.take(message) else {
            masking.refresh = Some(refresh);
            return;
        };
        self.tx = status;
        let (place, relations) = (self.place(), std::sync::Arc::clone(&worker.relations));
        let Some(masking) = &mut self.masking else { return };
        let kept = (place.as_str(), status == TxStatus::Idle);
        let read = masking.finish(&refresh, now, kept, &relations);
        if refresh.asks_kin {
            // What was permitted before may be of a table that belongs to another now.
            self.verdicts.clear();
        }
        let gone = masking.columns.missing().iter().any(|missing| missing.table);
        let lost = read.is_ok() && masking.is_lost(&place, &relations);
        masking.warn(self.link);
        // A column that goes by another name would be given out unmasked.
        if read.is_err() || gone || lost {
            let detail = if read.is_err() {
                "What masks and rules by column need cannot be read from the catalog."
            } else if gone {
                "A masked column is not in its table any more: the masks must be looked at."
            } else {
                "A masked table that was there is gone: the masks must be looked at."
            };
            tracing::error!(request = %self.link, detail, "the masks cannot be kept");
            return self.refuse_all(&Denied::of(Refusal::Unmaskable, detail), now, worker, out);
        }
        if let Some((statuses, status)) = refresh.first {
            self.tell_in(&statuses, status, now, worker, out);
        }
        debug_assert!(matches!(self.phase, Phase::Ready | Phase::Closed));
    }
}
