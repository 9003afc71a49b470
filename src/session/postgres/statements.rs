//! Statements of the caller: read, decided, noted, and passed on, as text or by their names.

use super::Session;
use super::attribution;
use super::beside::{self, Wanted};
use super::bound::{Bound, Kinds};
use super::caller::Bytes;
use super::cycle::Told;
use super::denial::Nameless;
use super::judge::{Analysis, Court, Names, Prepared, Verdict};
use super::passing::written;
use super::queue::{Expect, Named, key};
use super::refuse::{self, Denied, POISON_NAME};
use super::seat::{About, Seat};
use crate::base::{CredentialId, Now};
use crate::policy::Grant;
use crate::record::Journal;
use crate::session::asserted::Asserted;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::SqlLimits;
use crate::wire::postgres::{Bind, Types, write};
use std::rc::Rc;

impl Session {
    pub(super) fn on_query<J: Journal>(
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
        if self.must_wait() {
            return self.park(message);
        }
        let (analysis, own) = self.read(text, worker);
        self.speak(&own);
        let verdict = if let Some(denied) = self.cannot_stand(text, &analysis) {
            Verdict::Deny(denied)
        } else if analysis.makes_names() && self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge((&analysis, None), About::Text, &Bound::NOTHING, worker)
        };
        match verdict {
            Verdict::Permit(grant) => {
                let told = Told::Permit(&grant);
                if self.note_statement(&analysis, 0, &told, now, worker).is_err() {
                    return self.unrecordable(now, worker, out);
                }
                self.unname();
                self.end_if_reset((&analysis, None), now, worker, out);
                let masked = self.owes_mask(&grant);
                self.notice(&analysis, None);
                let shown = self.recorded_message(text, &analysis, masked);
                let shown = shown.map(|text| written(|to| write::query(&text, to)));
                self.queue.push(Expect::Simple { analysis, complete: 0, masked });
                self.cycles.current(now).runs += 1;
                self.pass_under(&grant, message, shown, now, worker, out);
                self.cycles.complete(now);
            }
            Verdict::Open => self.park(message),
            Verdict::Deny(denied) => self.refuse_simple(denied, &analysis, now, worker, out),
        }
    }

    pub(super) fn on_parse<J: Journal>(
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
        if self.must_wait() {
            return self.park(message);
        }
        let (analysis, said) = self.read(text, worker);
        self.speak(&said);
        let kinds = Kinds::declared(types, self.asked(worker));
        let (place, parsed, bound) = (0, true, Bound::Later);
        let text_of = Rc::clone(&analysis);
        let prepared = Rc::new(Prepared { analysis: text_of, place, said, parsed, kinds, bound });
        let verdict = if let Some(denied) = self.cannot_stand(text, &analysis) {
            Verdict::Deny(denied)
        } else if self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge((&analysis, None), About::Makes(name), &Bound::Later, worker)
        };
        match verdict {
            Verdict::Permit(grant) => {
                let told = Told::Permit(&grant);
                if self.note_statement(&analysis, 0, &told, now, worker).is_err() {
                    return self.unrecordable(now, worker, out);
                }
                let shown = self.recorded_message(text, &analysis, self.owes_mask(&grant));
                let shown = shown.map(|text| {
                    let types: Vec<u32> = types.iter().collect();
                    written(|to| write::parse(name, &text, &types, to))
                });
                if name.is_empty() {
                    self.unname();
                }
                self.queue.push(Expect::Parse { name: key(name).into(), prepared });
                self.pass_under(&grant, message, shown, now, worker, out);
            }
            Verdict::Open => self.park(message),
            Verdict::Deny(denied) => {
                self.refuse_extended(denied, &prepared, name, now, worker, out);
            }
        }
    }

    /// Its values go, and are recorded, under the statement's own decision.
    pub(super) fn on_bind<J: Journal>(
        &mut self,
        bind: &Bind<'_>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let (named, lives) = self.find(false, bind.statement);
        let prepared = match named {
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
        let named = self.asked(worker);
        let prepared = match named.is_empty() {
            true => prepared,
            false => prepared.with(Bound::of(bind, &prepared.kinds, named)),
        };
        if let Some(grant) = self.decide_prepared(&prepared, lives, message, now, worker, out) {
            let shown = self
                .owes_mask(&grant)
                .then(|| self.recorded_bind(bind, &prepared.analysis))
                // What no mask changed is recorded as it is, and can be replayed.
                .filter(|shown| shown != message.get());
            self.cycles.current(now).bound = true;
            self.queue.push(Expect::Bind { name: key(bind.portal).into(), prepared });
            self.pass_under(&grant, message, shown, now, worker, out);
        }
    }

    pub(super) fn on_execute<J: Journal>(
        &mut self,
        portal: &[u8],
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let (named, lives) = self.find(true, portal);
        let prepared = match named {
            Named::Is(prepared) => prepared,
            Named::Open => return self.park(message),
            Named::Nothing => return self.refuse_nameless(Nameless::Portal, now, worker, out),
        };
        if let Some(grant) = self.decide_prepared(&prepared, lives, message, now, worker, out) {
            let masked = self.owes_mask(&grant);
            self.notice(&prepared.analysis, Some(prepared.place));
            let what = (&*prepared.analysis, Some(prepared.place));
            self.end_if_reset(what, now, worker, out);
            if masked {
                // What its columns are now, whatever was described before.
                self.queue.push(Expect::OwnDescribe { prepared: Rc::clone(&prepared) });
                self.say_up(|to| write::describe(true, portal, to), now, worker, out);
            }
            self.queue.push(Expect::Execute { prepared, masked });
            self.cycles.current(now).runs += 1;
            self.pass_under(&grant, message, None, now, worker, out);
        }
    }

    /// The statement that a Describe is about, where rules ask for values of its parameters: the
    /// server tells their types.
    pub(super) fn described<J: Journal>(
        &self,
        name: &[u8],
        worker: &Worker<J>,
    ) -> Option<Rc<Prepared>> {
        match self.queue.statement(name) {
            Named::Is(prepared) if !self.asked(worker).is_empty() => Some(prepared),
            _ => None,
        }
    }

    /// The parameters whose values count for this caller.
    fn asked<'w, J: Journal>(&self, worker: &'w Worker<J>) -> &'w [u16] {
        let policy = &worker.snapshot.policy;
        match (&self.who, self.resource) {
            (Some((_, known)), Some(resource)) if policy.reads_parameters(&known.row, resource) => {
                policy.parameters()
            }
            _ => &[],
        }
    }

    /// Decides, by the rules of now, a statement that was read before, with the values that its portal
    /// runs it with, and notes it. `None`: it was refused, or waits.
    fn decide_prepared<J: Journal>(
        &mut self,
        prepared: &Rc<Prepared>,
        lives: Option<CredentialId>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Option<Rc<Grant>> {
        if !self.still_known(now, worker, out) {
            return None;
        }
        if self.must_wait() {
            self.park(message);
            return None;
        }
        self.speak(&prepared.said);
        let what = (&prepared.analysis, Some(prepared.place));
        let bound = prepared.runs_with(prepared.bound.of_portal());
        let verdict = match self.cannot_resolve(&prepared.analysis) {
            Some(denied) => Verdict::Deny(denied),
            None => self.judge(what, About::Lives(lives), &bound, worker),
        };
        match verdict {
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

    /// The text of a message as the record may hold it; `None`: as it came. A comment that was taken
    /// off was not looked at for what masks are for.
    fn recorded_message(&self, text: &[u8], analysis: &Analysis, masked: bool) -> Option<Vec<u8>> {
        let bare = || (masked && text != &*analysis.text).then(|| analysis.text.to_vec());
        self.recorded_text(analysis, masked).or_else(bare)
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

    pub(super) fn judge<J: Journal>(
        &mut self,
        (analysis, place): (&Rc<Analysis>, Option<usize>),
        about: About<'_>,
        bound: &Bound,
        worker: &Worker<J>,
    ) -> Verdict {
        if let Some(denied) = self.failed.take() {
            return Verdict::Deny(denied);
        }
        let nobody = || Verdict::Deny(Denied::of(Refusal::Unauthenticated, ""));
        let (Some((principal, known)), Some(resource), Some(connect)) =
            (&self.who, self.resource, &self.connect)
        else {
            return nobody();
        };
        let masking = self.masking.as_deref();
        if masking.is_some_and(|masking| !masking.knows_kin()) {
            let detail = "Which tables belong to others is not read yet: send it again.";
            return Verdict::Deny(Denied::of(refuse::DENIED, detail));
        }
        let court = Court {
            policy: &worker.snapshot.policy,
            row: &known.row,
            principal,
            resource,
            connect,
            asserted: self.saying.lend(),
            multi_statement: place.is_none() && analysis.statements.len() > 1,
            kin: masking.map(|masking| &masking.columns.kin),
        };
        // What is kept was judged by what the caller said at the start, and holds for all values.
        let kept = (!self.saying_own || !court.policy.reads_asserted())
            && !court.policy.reads_parameters(court.row, resource);
        let names = Names {
            statement: |name: &[u8]| beside::find((&self.queue, &self.beside), false, name).0,
            portal: |name: &[u8]| beside::find((&self.queue, &self.beside), true, name).0,
        };
        let found = self.verdicts.find(analysis, place).filter(|_| kept);
        let verdict = match found {
            Some(grant) => Verdict::Permit(grant),
            None => {
                let verdict = court.judge(analysis, place, bound, &names);
                if let (true, Verdict::Permit(grant)) = (kept, &verdict) {
                    self.verdicts.keep(analysis, place, grant);
                }
                verdict
            }
        };
        let alone = |at: usize| match court.judge(analysis, Some(at), bound, &names) {
            Verdict::Permit(grant) => grant.credential(),
            Verdict::Deny(_) | Verdict::Open => None,
        };
        let seat = match &verdict {
            Verdict::Permit(grant) => self.seat(grant, (analysis, place), about, alone),
            Verdict::Deny(_) | Verdict::Open => Ok(Seat::Here),
        };
        let verdict = match (verdict, seat) {
            (verdict, Ok(Seat::Here)) => verdict,
            (_, Ok(Seat::Wait)) => return Verdict::Open,
            (_, Ok(Seat::Settle)) => {
                self.settles = true;
                return Verdict::Open;
            }
            (verdict, Ok(Seat::Turn(credential))) => {
                let grant = if let Verdict::Permit(grant) = verdict { Some(grant) } else { None };
                self.wanted = Some(Wanted { credential, grant });
                return Verdict::Open;
            }
            (_, Err(denied)) => return Verdict::Deny(denied),
        };
        match verdict {
            Verdict::Permit(grant) if !grant.masks().is_empty() => {
                match self.cannot_mask(analysis, place, &names) {
                    Some(detail) => Verdict::Deny(Denied::of(refuse::DENIED, detail)),
                    None => Verdict::Permit(grant),
                }
            }
            other => other,
        }
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
}

const NAMES_FULL: &str = "Too many prepared statements or portals.";
