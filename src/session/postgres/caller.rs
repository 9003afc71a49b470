//! The caller's messages: what goes up, what is decided before, and what goes in the place of what
//! is refused.

use super::attribution;
use super::cycle::Told;
use super::denial::Nameless;
use super::judge::{Analysis, Court, Names, Prepared, Verdict};
use super::leg::Next;
use super::queue::{Expect, Named, key};
use super::refuse::{self, Denied, POISON_NAME};
use super::{Phase, Session, Skip};
use crate::base::Now;
use crate::mask::Cleared;
use crate::policy::{Decision, Grant};
use crate::record::{Journal, Kind};
use crate::session::asserted::Asserted;
use crate::session::gate::{self, Wrap};
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::SqlLimits;
use crate::wire::postgres::{Bind, FRAME_HEAD, Frontend, Types, frontend, write};
use std::rc::Rc;

/// Where the bytes of a message stand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bytes<'a> {
    /// In the input of the call, from this offset on.
    Shown(&'a [u8], usize),
    /// Elsewhere: they are copied.
    Kept(&'a [u8]),
}

/// Bytes of answers of the gateway's own that one call may make.
const TOLD_MAX: usize = 64 << 10;

impl<'a> Bytes<'a> {
    pub(super) fn get(self) -> &'a [u8] {
        match self {
            Self::Shown(bytes, _) | Self::Kept(bytes) => bytes,
        }
    }
}

impl Session {
    /// Takes what the caller sent, as far as it stands whole. Returns how much.
    pub(super) fn on_caller<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match self.phase {
                Phase::Opening if !rest.is_empty() => {
                    let used = self.on_opening(rest, now, worker, out);
                    at += used;
                    if used == 0 {
                        return at;
                    }
                }
                Phase::Token(_) if !rest.is_empty() => {
                    let used = self.on_token(rest, now, worker, out);
                    at += used;
                    if used == 0 {
                        return at;
                    }
                }
                // Behind its farewell the server reads nothing more, and neither is it read here.
                Phase::Ready if self.caller_ended => return bytes.len(),
                // Answers of the gateway's own are queued in memory; the rest waits for them to go.
                Phase::Ready if out.caller().len() > TOLD_MAX => return at,
                Phase::Ready if self.takes_messages() => {
                    let (used, more) = self.on_message(rest, at, now, worker, out);
                    at += used;
                    if !more {
                        return at;
                    }
                }
                Phase::Closed => return bytes.len(),
                _ => return at,
            }
        }
    }

    /// One message of a session that is ready. Returns what it took, and whether to go on.
    fn on_message<J: Journal>(
        &mut self,
        rest: &[u8],
        at: usize,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> (usize, bool) {
        if !self.up.is_within() && !rest.is_empty() && self.refresh_if_due(now, worker, out) {
            return (0, false);
        }
        let len_max = self.message_max(worker);
        let next = self.up.next(rest, |tag| tag == b'd', len_max);
        let part = |len: usize| rest.get(..len).unwrap_or_default();
        match next {
            Ok(Next::More) => (0, false),
            Ok(next @ (Next::Part(len) | Next::Begins { len, .. })) => {
                // Data of a COPY, or of one that the upstream skips; all of a message or nothing.
                if matches!(next, Next::Begins { .. }) {
                    self.passing = self.skip.is_none();
                }
                if self.passing {
                    self.pass_link(Bytes::Shown(part(len), at), now, worker, out);
                }
                (len, true)
            }
            Ok(Next::Kept(len)) => (len, true),
            Ok(Next::Completes(len)) => {
                let whole = self.up.take();
                self.on_whole(Bytes::Kept(&whole), now, worker, out);
                (len, true)
            }
            Ok(Next::Whole { len, .. }) => {
                self.on_whole(Bytes::Shown(part(len), at), now, worker, out);
                (len, true)
            }
            Err(error) => {
                let denied = match error {
                    crate::wire::postgres::WireError::TooLong => Denied::of(
                        Refusal::BodyTooLarge,
                        "A message is longer than [limits] message_max.",
                    ),
                    _ => Denied::of(Refusal::BadRequest, ""),
                };
                self.refuse_all(&denied, now, worker, out);
                (rest.len(), false)
            }
        }
    }

    /// Takes what waited for answers, now that some came; it may have to wait for more.
    pub(super) fn unpark<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        if matches!(self.phase, Phase::Ready)
            && let Some(message) = self.parked.take()
        {
            self.on_whole(Bytes::Kept(&message), now, worker, out);
            self.asked &= self.parked.is_some();
        }
    }

    fn park(&mut self, message: Bytes<'_>) {
        self.parked = Some(message.get().to_vec());
    }

    fn on_whole<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.on_message_whole(message, now, worker, out);
        // The answers that are due may stand in a buffer of the server's.
        if matches!(self.phase, Phase::Ready) && self.queue.is_full() && self.parked.is_none() {
            self.flush(out);
        }
    }

    /// Asks the server for the answers that it has.
    fn flush(&mut self, out: &mut Out) {
        if let Some(grant) = &self.connect {
            let flush = b"H\0\0\0\x04";
            out.push_upstream(gate::admit_framing(grant, &mut self.stage, flush));
        }
    }

    fn on_message_whole<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let bytes = message.get();
        let tag = bytes.first().copied().unwrap_or_default();
        let body = bytes.get(FRAME_HEAD..).unwrap_or_default();
        let Ok(parsed) = frontend(tag, body) else {
            return self.refuse_all(&Denied::of(Refusal::BadRequest, ""), now, worker, out);
        };
        if let Some(skip) = self.skip {
            return self.on_skipped(&parsed, skip, message, now, worker, out);
        }
        if self.queue.may_copy() && !self.goes_with_copy(&parsed) {
            return self.on_behind_copy(&parsed, message, now, worker, out);
        }
        match parsed {
            Frontend::Query(text) => self.on_query(text, message, now, worker, out),
            Frontend::Parse { name, text, types } => {
                self.on_parse((name, text, types), message, now, worker, out);
            }
            Frontend::Bind(bind) => self.on_bind(&bind, message, now, worker, out),
            Frontend::Execute { portal, .. } => {
                self.on_execute(portal, message, now, worker, out);
            }
            Frontend::Describe { .. } => {
                self.queue.push(Expect::Describe);
                self.pass(message, now, worker, out);
            }
            Frontend::Close { portal, name } => {
                self.queue.push(Expect::Close { portal, name: key(name).into() });
                self.pass(message, now, worker, out);
            }
            Frontend::Flush | Frontend::CopyData(_) => {
                self.pass_link(message, now, worker, out);
            }
            Frontend::CopyDone | Frontend::CopyFail(_) => {
                self.queue.end_copy();
                self.pass_link(message, now, worker, out);
            }
            Frontend::Sync => {
                self.queue.push(Expect::Sync);
                self.pass(message, now, worker, out);
                self.cycles.complete(now);
            }
            Frontend::Terminate => {
                self.on_terminate(now, worker, out);
            }
            // A function by its number says nothing that a rule could be about.
            Frontend::FunctionCall(_) => {
                let denied =
                    Denied::of(refuse::DENIED, "Function calls by number are not offered.");
                let analysis = worker.texts.find(b"", &SqlLimits::default());
                self.refuse_simple(denied, &analysis, now, worker, out);
            }
            Frontend::Secret(_) => {
                self.refuse_all(&Denied::of(Refusal::BadRequest, ""), now, worker, out);
            }
        }
    }

    fn goes_with_copy(&self, parsed: &Frontend<'_>) -> bool {
        matches!(
            parsed,
            Frontend::CopyData(_)
                | Frontend::CopyDone
                | Frontend::CopyFail(_)
                | Frontend::Flush
                | Frontend::Terminate
        )
    }

    /// What comes behind a COPY FROM STDIN waits until the server does no more read data: there
    /// it reads past Sync, and ends the connection at anything else.
    fn on_behind_copy<J: Journal>(
        &mut self,
        parsed: &Frontend<'_>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        match (self.queue.is_copying(), parsed) {
            (true, Frontend::Sync) => {}
            (true, _) => {
                let denied = Denied::of(Refusal::BadRequest, "This is no message of a COPY.");
                self.refuse_all(&denied, now, worker, out);
            }
            (false, _) => {
                self.park(message);
                // Where it is no COPY, the server keeps its answer until it is asked.
                if !std::mem::replace(&mut self.asked, true) {
                    self.flush(out);
                }
            }
        }
    }

    /// Behind a refused message everything up to the next Sync is skipped, as the server would.
    fn on_skipped<J: Journal>(
        &mut self,
        parsed: &Frontend<'_>,
        skip: Skip,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        match parsed {
            Frontend::Sync => {
                self.skip = None;
                if skip == Skip::Upstream {
                    self.queue.push(Expect::Sync);
                    self.pass(message, now, worker, out);
                    self.cycles.complete(now);
                } else {
                    let status = self.tx;
                    self.tell(|to| write::ready(status, to), now, worker, out);
                    self.finish_cycle(false, now, worker);
                    self.end_if_drained(now, worker, out);
                }
            }
            Frontend::Terminate => {
                self.on_terminate(now, worker, out);
            }
            _ => {}
        }
    }

    fn on_query<J: Journal>(
        &mut self,
        text: &[u8],
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if !self.still_known(now, worker, out) {
            return;
        }
        let (analysis, own) = self.read(text, worker);
        self.speak(&own);
        let verdict = if analysis.makes_names() && self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge(&analysis, None, worker)
        };
        match verdict {
            Verdict::Permit(grant) => {
                let told = Told::Permit(&grant);
                if self.note_statement(&analysis, 0, &told, now, worker).is_err() {
                    return self.unrecordable(now, worker, out);
                }
                let masked = self.owes_mask(&grant);
                self.notice(&analysis, None);
                let shown = self.recorded_text(&analysis, masked);
                let shown = shown.map(|text| written(|to| write::query(&text, to)));
                self.queue.push(Expect::Simple { analysis, complete: 0, masked });
                self.pass_under(&grant, message, shown, now, worker, out);
                self.cycles.complete(now);
            }
            Verdict::Open => self.park(message),
            Verdict::Deny(denied) => self.refuse_simple(denied, &analysis, now, worker, out),
        }
    }

    fn on_parse<J: Journal>(
        &mut self,
        (name, text, types): (&[u8], &[u8], Types<'_>),
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if !self.still_known(now, worker, out) {
            return;
        }
        let (analysis, said) = self.read(text, worker);
        self.speak(&said);
        let prepared = Rc::new(Prepared { analysis: Rc::clone(&analysis), place: 0, said });
        let verdict = if self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge(&analysis, None, worker)
        };
        match verdict {
            Verdict::Permit(grant) => {
                let told = Told::Permit(&grant);
                if self.note_statement(&analysis, 0, &told, now, worker).is_err() {
                    return self.unrecordable(now, worker, out);
                }
                let shown = self.recorded_text(&analysis, self.owes_mask(&grant));
                let shown = shown.map(|text| {
                    let types: Vec<u32> = types.iter().collect();
                    written(|to| write::parse(name, &text, &types, to))
                });
                self.queue.push(Expect::Parse { name: key(name).into(), prepared });
                self.pass_under(&grant, message, shown, now, worker, out);
            }
            Verdict::Open => self.park(message),
            Verdict::Deny(denied) => {
                self.refuse_extended(denied, &prepared, name, now, worker, out);
            }
        }
    }

    /// Its values are what a rule may ask for; so they go under the statement's own decision.
    fn on_bind<J: Journal>(
        &mut self,
        bind: &Bind<'_>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let prepared = match self.queue.statement(bind.statement) {
            Named::Is(prepared) => prepared,
            Named::Open => return self.park(message),
            Named::Nothing => {
                return self.refuse_nameless(Nameless::Statement, now, worker, out);
            }
        };
        if !bind.portal.is_empty() && self.queue.names_full() {
            let denied = Denied::of(Refusal::Overloaded, NAMES_FULL);
            return self.refuse_extended(denied, &prepared, POISON_NAME, now, worker, out);
        }
        if let Some(grant) = self.decide_prepared(&prepared, message, now, worker, out) {
            let shown = self
                .owes_mask(&grant)
                .then(|| self.recorded_bind(bind, &prepared.analysis))
                // What no mask changed is recorded as it is, and can be replayed.
                .filter(|shown| shown != message.get());
            self.queue.push(Expect::Bind { name: key(bind.portal).into(), prepared });
            self.pass_under(&grant, message, shown, now, worker, out);
        }
    }

    fn on_execute<J: Journal>(
        &mut self,
        portal: &[u8],
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let prepared = match self.queue.portal(portal) {
            Named::Is(prepared) => prepared,
            Named::Open => return self.park(message),
            Named::Nothing => return self.refuse_nameless(Nameless::Portal, now, worker, out),
        };
        if let Some(grant) = self.decide_prepared(&prepared, message, now, worker, out) {
            let masked = self.owes_mask(&grant);
            self.notice(&prepared.analysis, Some(prepared.place));
            if masked {
                // What its columns are now, whatever was described before.
                self.queue.push(Expect::OwnDescribe { prepared: Rc::clone(&prepared) });
                self.say_up(|to| write::describe(true, portal, to), now, worker, out);
            }
            self.queue.push(Expect::Execute { prepared, masked });
            self.pass_under(&grant, message, None, now, worker, out);
        }
    }

    /// Decides, by the rules of now, a statement that was read before, and notes it. `None`: it
    /// was refused, or waits.
    fn decide_prepared<J: Journal>(
        &mut self,
        prepared: &Rc<Prepared>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Option<Rc<Grant>> {
        if !self.still_known(now, worker, out) {
            return None;
        }
        self.speak(&prepared.said);
        match self.judge(&prepared.analysis, Some(prepared.place), worker) {
            Verdict::Permit(grant) => {
                let told = Told::Permit(&grant);
                let place = prepared.place;
                if self.note_statement(&prepared.analysis, place, &told, now, worker).is_err() {
                    self.unrecordable(now, worker, out);
                    return None;
                }
                Some(grant)
            }
            Verdict::Deny(denied) => {
                self.refuse_extended(denied, prepared, POISON_NAME, now, worker, out);
                None
            }
            Verdict::Open => {
                self.park(message);
                None
            }
        }
    }

    /// The longest message that is looked at whole.
    pub(super) fn message_max<J>(&self, worker: &Worker<J>) -> usize {
        let view = self.resource.and_then(|id| worker.snapshot.resource(id));
        view.map_or(0, |view| view.message_max as usize)
    }

    /// What a text does, and what its comment says of the work that it is for.
    fn read<J: Journal>(&self, text: &[u8], worker: &mut Worker<J>) -> (Rc<Analysis>, Asserted) {
        let view = self.resource.and_then(|id| worker.snapshot.resource(id));
        let text_max = view.map_or(0, |view| view.sql_text_max);
        let limits = SqlLimits { text_max, ..SqlLimits::default() };
        let (text, own) = attribution::split(text);
        (worker.texts.find(text, &limits), own)
    }

    /// The statement in hand is one whose comment says `own`.
    fn speak(&mut self, own: &Asserted) {
        if self.saying_own || !own.is_empty() {
            self.saying = own.over(&self.said);
            self.saying_own = !own.is_empty();
        }
    }

    fn judge<J: Journal>(
        &mut self,
        analysis: &Rc<Analysis>,
        place: Option<usize>,
        worker: &Worker<J>,
    ) -> Verdict {
        let nobody = || Verdict::Deny(Denied::of(Refusal::Unauthenticated, ""));
        let (Some((principal, known)), Some(resource), Some(connect)) =
            (&self.who, self.resource, &self.connect)
        else {
            return nobody();
        };
        let court = Court {
            policy: &worker.snapshot.policy,
            row: &known.row,
            principal,
            resource,
            connect,
            asserted: self.saying.lend(),
        };
        // What is kept was judged by what the caller said at the start.
        let kept = !self.saying_own || !court.policy.reads_asserted();
        let names = Names {
            statement: |name: &[u8]| self.queue.statement(name),
            portal: |name: &[u8]| self.queue.portal(name),
        };
        let found = self.verdicts.find(analysis, place).filter(|_| kept);
        let verdict = match found {
            Some(grant) => Verdict::Permit(grant),
            None => {
                let verdict = court.judge(analysis, place, &names);
                if let (true, Verdict::Permit(grant)) = (kept, &verdict) {
                    self.verdicts.keep(analysis, place, grant);
                }
                verdict
            }
        };
        match verdict {
            Verdict::Permit(grant)
                if grant.credential().is_some_and(|other| other != self.credential) =>
            {
                let detail = "The rule asks for another credential than this session has.";
                Verdict::Deny(Denied::of(refuse::DENIED, detail))
            }
            Verdict::Permit(grant) if !grant.masks().is_empty() => {
                match self.cannot_mask(analysis, place, &names) {
                    Some(detail) => Verdict::Deny(Denied::of(refuse::DENIED, detail)),
                    None => Verdict::Permit(grant),
                }
            }
            other => other,
        }
    }

    /// Whether rules and keys are those that the caller was last known by.
    pub(super) fn is_of_now<J: Journal>(&self, worker: &Worker<J>) -> bool {
        self.known_by == (worker.snapshot.generation, worker.keys.generation)
    }

    /// Whether the caller's token still holds, and its rules are of the policy in force. Ends the
    /// session where it does not.
    pub(super) fn still_known<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        let generations = (worker.snapshot.generation, worker.keys.generation);
        let fresh = self.is_of_now(worker);
        let until_s = self.who.as_ref().map_or(0, |(principal, _)| principal.valid_until_s());
        let grace_s = worker.snapshot.limits.token_grace_ms / 1_000;
        if fresh && now.wall_ns / 1_000_000_000 < until_s.saturating_add(grace_s) {
            return true;
        }
        let again = match (&self.token, &self.who) {
            (Some(token), _) => worker.identify(token.expose(), self.opened.caller.ip(), now).ok(),
            // Known by a certificate: as long as it is valid.
            (None, Some((principal, _))) if now.wall_ns / 1_000_000_000 < until_s => {
                Some(worker.know_again(principal))
            }
            _ => None,
        };
        let known = again.is_some();
        if known {
            self.who = again;
            self.known_by = generations;
            self.verdicts.clear();
            if self.stands_again(worker).is_some() {
                return true;
            }
        }
        let denied = if known {
            Denied::of(Refusal::Overloaded, "The configuration changed; connect again.")
        } else {
            Denied::of(Refusal::Unauthenticated, "The token is no longer valid.")
        };
        self.refuse_all(&denied, now, worker, out);
        false
    }

    /// Connecting by the configuration in force. A reload may number resources and credentials
    /// anew, so they are known by their names. `None`: the server, or who the session is there, is
    /// not what it would be for a new session.
    fn stands_again<J: Journal>(&mut self, worker: &Worker<J>) -> Option<()> {
        let (old, new) = (self.snapshot.clone()?, &worker.snapshot);
        if old.generation == new.generation {
            return Some(());
        }
        let before = old.resource(self.resource?)?;
        let resource = new.databases.get(before.name.as_str()).copied()?;
        let view = new.resource(resource)?;
        let (principal, known) = self.who.as_ref()?;
        let decision = gate::decide_connect(&new.policy, principal, &known.row, resource);
        let Decision::Permit(grant) = decision else { return None };
        let credential = grant.credential().unwrap_or(view.credential);
        let (was, is) = (old.credential(self.credential)?, new.credential(credential)?);
        let stands = view.authority == before.authority
            && view.database == before.database
            && (is.name(), is.user(), is.role()) == (was.name(), was.user(), was.role());
        if !stands {
            return None;
        }
        (self.resource, self.credential) = (Some(resource), credential);
        self.connect = Some(Rc::new(grant));
        let new = Rc::clone(new);
        self.arm(&new);
        self.snapshot = Some(new);
        Some(())
    }

    /// Lets a message go that needs no decision of its own, in the cycle that it may begin.
    fn pass<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.cycles.current(now);
        self.pass_link(message, now, worker, out);
    }

    /// Lets a message go that belongs to what was sent before.
    fn pass_link<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(grant) = self.connect.clone() else { return };
        self.pass_under(&grant, message, None, now, worker, out);
    }

    /// Bind as the record may hold it.
    fn recorded_bind(&self, bind: &Bind<'_>, analysis: &Analysis) -> Vec<u8> {
        let values: Vec<Option<Vec<u8>>> = bind
            .values
            .iter()
            .map(|value| value.map(|value| self.recorded_value(analysis, value)))
            .collect();
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let formats: Vec<i16> = bind.formats.iter().collect();
        let results: Vec<i16> = bind.results.iter().collect();
        written(|to| write::bind(bind.portal, bind.statement, &formats, &values, &results, to))
    }

    /// Records a message, as `shown` where a mask changes what is recorded, and lets it go as it is
    /// under a grant. It counts for the cycle that was begun last.
    fn pass_under<J: Journal>(
        &mut self,
        grant: &Rc<Grant>,
        message: Bytes<'_>,
        shown: Option<Vec<u8>>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let bytes = message.get();
        if let Some(cycle) = self.cycles.last() {
            cycle.begun = true;
            cycle.bytes_in += bytes.len() as u64;
        }
        let subject = self.subject(true);
        self.stage.clear();
        let cleared = match &shown {
            None => Cleared::pass(bytes.len(), &mut self.stage),
            Some(shown) => {
                self.stage.text(shown);
                Cleared::generated_masked(&mut self.stage, true)
            }
        };
        let kind = Kind::RequestBody;
        let books = worker.books();
        match gate::admit(grant, subject, kind, cleared, bytes, books, now) {
            Ok(admission) => {
                self.stage.clear();
                self.stage.source(0..bytes.len());
                let offset = match message {
                    Bytes::Shown(_, offset) => offset,
                    Bytes::Kept(bytes) => {
                        self.stage.detach(bytes);
                        0
                    }
                };
                let wrap = Wrap { offset, ..Wrap::default() };
                out.push_upstream(admission.forward(&mut self.stage, wrap));
            }
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// A message of the gateway's own goes up.
    pub(super) fn say_up<J: Journal>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(grant) = self.connect.clone() else { return };
        self.cycles.current(now).begun = true;
        let subject = self.subject(true);
        self.stage.clear();
        self.stage.write_with(write);
        let cleared = Cleared::generated(&mut self.stage);
        let kind = Kind::RequestBody;
        match gate::admit(&grant, subject, kind, cleared, b"", worker.books(), now) {
            Ok(admission) => {
                out.push_upstream(admission.forward(&mut self.stage, Wrap::default()));
            }
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// The caller is done: the server hears so. What it sent before is still answered.
    pub(super) fn on_terminate<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let grant = self.connect.clone();
        let (Some(grant), Phase::Ready) = (grant, &self.phase) else {
            return self.end(true, now, worker, out);
        };
        self.caller_ended = true;
        // In the middle of a message it would be read as a part of that.
        if !self.up.is_within() {
            out.push_upstream(gate::admit_framing(&grant, &mut self.stage, b"X\0\0\0\x04"));
        }
        out.act(Act::EndUpstream { exchange: self.link });
        self.wait_for_end(now, worker);
    }

    /// Behind the last answer nothing is due but the server's end.
    pub(super) fn wait_for_end<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>) {
        if self.caller_ended && self.cycles.is_empty() && matches!(self.phase, Phase::Ready) {
            self.close_books(false, now, worker);
            self.phase = Phase::Ending;
        }
    }
}

const NAMES_FULL: &str = "Too many prepared statements or portals.";

/// A message of the gateway's own writing.
fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}
