//! The books: which exchange bytes belong to, and what the record says of each.

use super::judge::Analysis;
use super::refuse::Denied;
use super::{Session, refuse};
use crate::base::{ExchangeId, Now};
use crate::credential::Credential;
use crate::policy::{Durable, Grant, Need, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Full, Journal, Kind};
use crate::session::gate::{self, Subject};
use crate::session::worker::Worker;
use std::collections::VecDeque;
use std::rc::Rc;

/// What goes up to one Sync or simple query, and its answers up to ready for query.
pub(super) struct Cycle {
    /// `None` as long as no statement is in it: its bytes belong to connecting then.
    exchange: Option<ExchangeId>,
    level: RecordLevel,
    durable: Durable,
    started_ns: u64,
    /// So long it waited for people.
    pub(super) held_ns: u64,
    /// What ends it went up.
    complete: bool,
    /// Something of it went up.
    pub(super) begun: bool,
    /// Something of it was bound: more than names went up.
    pub(super) bound: bool,
    /// So many Executes and simple queries of it went up.
    pub(super) runs: u32,
    /// What of it may change what stands behind it.
    pub(super) sways: Sways,
    /// The statement that was noted last, and whether its own comment said what it is for.
    noted: Option<(Rc<Analysis>, usize, bool)>,
    pub(super) rows: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) sqlstate: Option<[u8; 5]>,
}

impl Cycle {
    fn new(now: Now) -> Self {
        Self {
            exchange: None,
            level: RecordLevel::Full,
            durable: Durable::Window,
            started_ns: now.mono_ns,
            held_ns: 0,
            complete: false,
            begun: false,
            bound: false,
            runs: 0,
            sways: Sways::default(),
            noted: None,
            rows: 0,
            bytes_in: 0,
            bytes_out: 0,
            sqlstate: None,
        }
    }
}

impl Cycle {
    /// What is recorded of it, and how surely, is the most that a statement of it asks for.
    pub(super) fn raise(&mut self, level: RecordLevel, durable: Durable) {
        self.level = self.level.max(level);
        self.durable = self.durable.max(durable);
    }
}

/// What statements may change of how those behind them are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sways {
    /// Settings of the session, by code that is not seen.
    pub(super) settings: bool,
    /// Definitions that masks go by.
    pub(super) definitions: bool,
    /// How literals are read, by a setting that anybody may choose.
    pub(super) forms: bool,
}

/// Cycles under way, the one that is answered first.
#[derive(Default)]
pub(super) struct Cycles(VecDeque<Cycle>);

impl Cycles {
    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Since when the first one is, less what it waited for people.
    pub(super) fn since_ns(&self) -> Option<u64> {
        self.0.front().map(|cycle| cycle.started_ns.saturating_add(cycle.held_ns))
    }

    /// The one that the caller's next message belongs to.
    pub(super) fn current(&mut self, now: Now) -> &mut Cycle {
        if self.0.back().is_none_or(|cycle| cycle.complete) {
            self.0.push_back(Cycle::new(now));
        }
        self.0.back_mut().expect("one was pushed if there was none")
    }

    /// The one that was begun last, which data of a COPY belongs to.
    pub(super) fn last(&mut self) -> Option<&mut Cycle> {
        self.0.back_mut()
    }

    /// Whether the upstream is where it was at the last ready for query, as far as it was sent to.
    pub(super) fn is_quiet(&self) -> bool {
        self.0.iter().all(|cycle| !cycle.complete && !cycle.begun)
    }

    /// Whether the one that the caller's next message belongs to is begun.
    pub(super) fn is_begun(&self) -> bool {
        self.0.back().is_some_and(|cycle| cycle.begun && !cycle.complete)
    }

    /// What went up of it is over.
    pub(super) fn settled(&mut self) {
        if let Some(cycle) = self.0.back_mut() {
            cycle.begun = false;
        }
    }

    /// Whether that one has more than names.
    pub(super) fn has_run(&self) -> bool {
        self.0.back().is_some_and(|cycle| !cycle.complete && (cycle.bound || cycle.runs > 0))
    }

    /// Whether no ready for query is due, so that what the last one said is where the server is.
    pub(super) fn is_known(&self) -> bool {
        self.0.iter().all(|cycle| !cycle.complete)
    }

    /// Whether what ends the one that is answered went up; `None`: nothing is under way.
    pub(super) fn answered_is_complete(&self) -> Option<bool> {
        self.0.front().map(|cycle| cycle.complete)
    }

    /// Whether one that is to be answered may change what a message in the next one means.
    pub(super) fn sway_next(&self) -> bool {
        let sways = |one: Sways| one.settings || one.definitions;
        self.0.iter().any(|cycle| cycle.complete && sways(cycle.sways))
    }

    /// What the one that the caller's next message belongs to may have changed so far.
    pub(super) fn sways(&self) -> Sways {
        let open = self.0.back().filter(|cycle| !cycle.complete);
        open.map(|cycle| cycle.sways).unwrap_or_default()
    }

    /// What ends the current one went up.
    pub(super) fn complete(&mut self, now: Now) {
        self.current(now).complete = true;
    }

    /// The one that is answered.
    pub(super) fn answered(&mut self) -> Option<&mut Cycle> {
        self.0.front_mut()
    }
}

/// What the record says of a statement.
pub(super) enum Told<'a> {
    Permit(&'a Rc<Grant>),
    /// A person is asked, or will be when it runs.
    Hold(&'a Need),
    Deny(&'a Denied),
}

impl Session {
    /// The subject of bytes of the cycle that is sent (`up`), or of the one that is answered.
    pub(super) fn subject(&self, up: bool) -> Subject {
        let cycle = if up { self.cycles.0.back() } else { self.cycles.0.front() };
        let link = self.link_subject();
        match cycle {
            Some(cycle) => Subject {
                exchange: cycle.exchange.unwrap_or(self.link),
                level: cycle.level,
                durable: cycle.durable.max(link.durable),
                ..link
            },
            None => link,
        }
    }

    /// The exchange that a message of the caller belongs to.
    pub(super) fn exchange(&self) -> ExchangeId {
        self.cycles.0.back().and_then(|cycle| cycle.exchange).unwrap_or(self.link)
    }

    /// Writes what the statement is and what was decided, once for each statement of a cycle.
    ///
    /// # Errors
    /// [`Full`]: it may not go then.
    pub(super) fn note_statement<J: Journal>(
        &mut self,
        analysis: &Rc<Analysis>,
        place: usize,
        told: &Told<'_>,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(), Full> {
        let cycle = self.cycles.current(now);
        let same = |(noted, at, own): &(Rc<Analysis>, usize, bool)| {
            Rc::ptr_eq(noted, analysis) && *at == place && !own
        };
        let known = cycle.noted.as_ref().is_some_and(same) && !self.saying_own;
        if known && matches!(told, Told::Permit(_)) {
            return Ok(());
        }
        let kind = if cycle.exchange.is_some() { Kind::Decision } else { Kind::Open };
        if kind == Kind::Open {
            cycle.exchange = Some(worker.next_exchange());
            cycle.level = RecordLevel::Meta;
        }
        match told {
            Told::Permit(grant) => {
                cycle.raise(grant.record(), grant.durable());
            }
            Told::Hold(need) => cycle.raise(need.obligations().record, need.obligations().durable),
            Told::Deny(_) => cycle.level = RecordLevel::Full,
        }
        // What comes of a question is written down, too.
        let noted = (Rc::clone(analysis), place, self.saying_own);
        cycle.noted = Some(noted).filter(|_| !matches!(told, Told::Hold(_)));
        let full = cycle.level == RecordLevel::Full;
        let snapshot = Rc::clone(&worker.snapshot);
        let rule = match told {
            Told::Permit(grant) => Some(grant.rule()),
            Told::Hold(need) => Some(need.rule()),
            Told::Deny(denied) => denied.rule,
        };
        let masked = match told {
            Told::Permit(grant) => self.owes_mask(grant),
            Told::Hold(need) => !need.obligations().masks.is_empty(),
            Told::Deny(_) => true,
        };
        let text = self.recorded_text(analysis, masked);
        let mut shows = text.is_some();
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        if let (Kind::Open, Some((_, known))) = (kind, &self.who) {
            writer.fields(&known.facts);
            writer.text(Tag::Peer, &self.peer);
            if let Some(listener) = snapshot.listener(self.opened.listener) {
                writer.text(Tag::Listener, &listener.name);
            }
            if let Some(view) = self.resource.and_then(|id| snapshot.resource(id)) {
                writer.text(Tag::Resource, &view.name);
            }
            writer.text(Tag::Protocol, "postgres");
        }
        if let (false, Some((_, known))) = (self.saying.is_empty(), &self.who) {
            let masks = snapshot.policy.masks_of(&known.row, self.resource);
            let plan = snapshot.plans.united(masks);
            shows |= self.saying.write(&plan, &mut Vec::new(), &mut writer);
        }
        writer.text(Tag::Method, analysis.label());
        if full {
            writer.bytes(Tag::Statement, text.as_deref().unwrap_or(&analysis.text));
        } else {
            writer.text(Tag::Level, "meta");
        }
        match told {
            Told::Permit(_) => writer.text(Tag::Decision, "permit"),
            Told::Hold(_) => writer.text(Tag::Decision, "hold"),
            Told::Deny(denied) => {
                let decision = if denied.refusal == refuse::DENIED { "deny" } else { "refuse" };
                writer.text(Tag::Decision, decision);
                writer.text(Tag::Refusal, denied.refusal.label());
                let asked = denied.approval.map(|id| id.to_string());
                writer.maybe(Tag::Approval, asked.as_deref())
            }
        };
        writer.maybe(Tag::Rule, rule.map(|rule| snapshot.policy.rule_name(rule)));
        if let (Told::Permit(_), Some(other)) = (told, self.serves.credential) {
            writer.maybe(Tag::Credential, snapshot.credential(other).map(Credential::name));
        }
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        let subject = self.subject(true);
        gate::note(subject, kind, &self.facts, shows, worker.books(), now)
    }

    /// The cycle that is answered came to its end.
    pub(super) fn finish_cycle<J: Journal>(&mut self, cut: bool, now: Now, worker: &mut Worker<J>) {
        let subject = self.subject(false);
        let Some(cycle) = self.cycles.0.pop_front() else { return };
        worker.counts.bytes[0] += cycle.bytes_in;
        worker.counts.bytes[1] += cycle.bytes_out;
        worker.counts.cuts += u64::from(cut);
        if cycle.exchange.is_none() {
            return;
        }
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        if let Some(code) = cycle.sqlstate.as_ref().and_then(|code| std::str::from_utf8(code).ok())
        {
            writer.text(Tag::SqlState, code);
        }
        writer.number(Tag::Rows, cycle.rows);
        writer.number(Tag::BytesIn, cycle.bytes_in);
        writer.number(Tag::BytesOut, cycle.bytes_out);
        writer.number(Tag::TotalNs, now.mono_ns.saturating_sub(cycle.started_ns));
        writer.text(Tag::Ending, if cut { "cut" } else { "whole" });
        // It is over: where there is no room, its totals are lost, not its bytes.
        let _ = gate::note(subject, Kind::Close, &self.facts, false, worker.books(), now);
    }

    /// Ends all cycles that are under way, and connecting.
    pub(super) fn close_books<J: Journal>(&mut self, cut: bool, now: Now, worker: &mut Worker<J>) {
        while !self.cycles.is_empty() {
            self.finish_cycle(true, now, worker);
        }
        if !std::mem::take(&mut self.noted) {
            return;
        }
        self.close_books_beside(cut, now, worker);
        let subject = self.link_subject();
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.number(Tag::TotalNs, now.mono_ns.saturating_sub(self.started_ns));
        writer.text(Tag::Ending, if cut { "cut" } else { "whole" });
        let _ = gate::note(subject, Kind::Close, &self.facts, false, worker.books(), now);
    }
}
