//! Statements of the caller: read, decided, noted, and passed on, as text or by their names.

use super::Session;
use super::attribution;
use super::beside::{self, Wanted};
use super::bound::{Bound, Kinds};
use super::caller::Bytes;
use super::cycle::Told;
use super::denial::Nameless;
use super::judge::{Analysis, Court, Names, Prepared, Verdict};
use super::moved::takes_own_name;
use super::passing::written;
use super::queue::{Expect, Named, key};
use super::refuse::{self, Denied, POISON_NAME};
use super::ruling::{Matter, Ruling, Runs};
use super::seat::{About, Seat};
use super::values::Values;
use crate::base::{CredentialId, Now};
use crate::policy::Need;
use crate::record::Journal;
use crate::session::asserted::Asserted;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::SqlLimits;
use crate::wire::postgres::{Bind, FRAME_HEAD, Frontend, Types, frontend, write};
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
        let own_name = takes_own_name(b"", &analysis);
        let verdict = if let Some(denied) = own_name.or_else(|| self.cannot_stand(text, &analysis))
        {
            Verdict::Deny(denied)
        } else if analysis.makes_names() && self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge((&analysis, None), About::Text, &Bound::NOTHING, worker)
        };
        let (about, bound) = (About::Text, &Bound::NOTHING);
        let matter = Matter { analysis: &analysis, place: None, about, bound, runs: Runs::Text };
        match self.rule_on(verdict, &matter, now, worker, out) {
            Ruling::Go(grant, approved) => {
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
                self.queue.push(Expect::Simple { analysis, complete: 0, masked, approved });
                self.cycles.current(now).runs += 1;
                self.pass_under(&grant, message, shown, now, worker, out);
                self.cycles.complete(now);
            }
            Ruling::Open | Ruling::Later => self.park(message),
            Ruling::Deny(denied) => self.refuse_simple(denied, &analysis, now, worker, out),
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
        let own_name = takes_own_name(name, &analysis);
        let verdict = if let Some(denied) = own_name.or_else(|| self.cannot_stand(text, &analysis))
        {
            Verdict::Deny(denied)
        } else if self.queue.names_full() {
            Verdict::Deny(Denied::of(Refusal::Overloaded, NAMES_FULL))
        } else {
            self.judge((&analysis, None), About::Makes(name), &Bound::Later, worker)
        };
        let asks = matches!(verdict, Verdict::Hold(_));
        let prepared = Rc::new(Prepared {
            analysis: Rc::clone(&analysis),
            place: 0,
            said,
            parsed: true,
            kinds: match asks {
                true => Kinds::all(types),
                false => Kinds::declared(types, self.asked(worker)),
            },
            bound: Bound::Later,
            asks,
            values: None,
            approved: None,
        });
        match verdict {
            // Nothing is done by it.
            Verdict::Hold(need) => {
                let shown =
                    self.recorded_message(text, &analysis, !need.obligations().masks.is_empty());
                let shown = shown.map(|text| {
                    let types: Vec<u32> = types.iter().collect();
                    written(|to| write::parse(name, &text, &types, to))
                });
                self.name_at_home((need, name, prepared), message, shown, now, worker, out);
            }
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
        let stands = match named.is_empty() {
            true => Rc::clone(&prepared),
            false => prepared.with(Bound::of(bind, &prepared.kinds, named)),
        };
        let runs = Runs::Bind(bind, &prepared.kinds);
        match self.decide_prepared(&stands, lives, runs, message, now, worker, out) {
            Ruling::Go(grant, approved) => {
                let moves = prepared.asks && lives != self.serves.credential;
                let moved =
                    moves.then(|| self.move_here(&prepared, bind, &grant, now, worker, out));
                let goes = moved.as_deref().map_or(message, Bytes::Kept);
                let shown = self
                    .owes_mask(&grant)
                    .then(|| self.recorded_bind(goes, &prepared.analysis))
                    .flatten()
                    // What no mask changed is recorded as it is, and can be replayed.
                    .filter(|shown| shown != goes.get());
                let stands = match approved {
                    None => stands,
                    // It was asked about with these values.
                    approved => stands.kept(values_of(bind, &prepared.kinds), approved),
                };
                self.cycles.current(now).bound = true;
                let name = key(bind.portal).into();
                self.queue.push(Expect::Bind { name, prepared: stands });
                self.pass_under(&grant, goes, shown, now, worker, out);
            }
            Ruling::Later => {
                let Some((grant, _)) = self.opener() else { return };
                let stands = stands.kept(values_of(bind, &prepared.kinds), None);
                let masked = self.masking.is_some();
                let shown = masked.then(|| self.recorded_bind(message, &prepared.analysis));
                self.cycles.current(now).bound = true;
                let name = key(bind.portal).into();
                self.queue.push(Expect::Bind { name, prepared: stands });
                self.pass_under(&grant, message, shown.flatten(), now, worker, out);
            }
            Ruling::Open | Ruling::Deny(_) => {}
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
        let runs = Runs::Portal(&prepared);
        let ruling = self.decide_prepared(&prepared, lives, runs, message, now, worker, out);
        if let Ruling::Go(grant, approved) = ruling {
            let masked = self.owes_mask(&grant);
            self.notice(&prepared.analysis, Some(prepared.place));
            let what = (&*prepared.analysis, Some(prepared.place));
            self.end_if_reset(what, now, worker, out);
            if masked {
                // What its columns are now, whatever was described before.
                self.queue.push(Expect::OwnDescribe { prepared: Rc::clone(&prepared) });
                self.say_up(|to| write::describe(true, portal, to), now, worker, out);
            }
            let prepared = match &prepared.approved {
                None if approved.is_some() => prepared.kept(prepared.values.clone(), approved),
                _ => prepared,
            };
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
            Named::Is(prepared) if prepared.kinds.asks(self.asked(worker)) => Some(prepared),
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
    /// runs it with, and notes it. Where it does not go, it was refused, or is parked.
    #[expect(clippy::too_many_arguments, reason = "what a message needs, and what runs by it")]
    fn decide_prepared<J: Journal>(
        &mut self,
        prepared: &Rc<Prepared>,
        lives: Option<CredentialId>,
        runs: Runs<'_>,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Ruling {
        if !self.still_known(now, worker, out) {
            return Ruling::Open;
        }
        if self.must_wait() {
            self.park(message);
            return Ruling::Open;
        }
        self.speak(&prepared.said);
        let what = (&prepared.analysis, Some(prepared.place));
        // What was prepared at home for want of an approval may run elsewhere.
        let about = match &runs {
            Runs::Bind(..) if prepared.asks && lives.is_none() => About::Text,
            _ => About::Lives(lives),
        };
        let bound = prepared.runs_with(prepared.bound.of_portal());
        let verdict = match self.cannot_resolve(&prepared.analysis) {
            Some(denied) => Verdict::Deny(denied),
            None => self.judge(what, about, &bound, worker),
        };
        let (analysis, place) = (&prepared.analysis, Some(prepared.place));
        let matter = Matter { analysis, place, about, bound: &bound, runs };
        let ruling = self.rule_on(verdict, &matter, now, worker, out);
        match &ruling {
            Ruling::Go(grant, _) => {
                let told = Told::Permit(grant);
                let place = prepared.place;
                if self.note_statement(&prepared.analysis, place, &told, now, worker).is_err() {
                    self.unrecordable(now, worker, out);
                    return Ruling::Open;
                }
            }
            Ruling::Deny(denied) => {
                self.refuse_extended(denied.clone(), prepared, POISON_NAME, now, worker, out);
            }
            Ruling::Open => self.park(message),
            Ruling::Later => {}
        }
        ruling
    }

    /// Lets a Parse go to home whose statement a person may have to approve of: it is asked about
    /// when its values are bound.
    fn name_at_home<J: Journal>(
        &mut self,
        (need, name, prepared): (Box<Need>, &[u8], Rc<Prepared>),
        message: Bytes<'_>,
        shown: Option<Vec<u8>>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let what = (&prepared.analysis, None);
        match self.seat((need.rule(), None), what, About::Makes(name), |_| None) {
            Ok(Seat::Here) => {}
            Ok(Seat::Wait) => return self.park(message),
            Ok(Seat::Settle) => {
                self.settles = true;
                return self.park(message);
            }
            Ok(Seat::Turn(credential)) => {
                self.wanted = Some(Wanted { credential, grant: None });
                return self.park(message);
            }
            Err(denied) => {
                return self.refuse_extended(denied, &prepared, name, now, worker, out);
            }
        }
        let told = Told::Hold(&need);
        if self.note_statement(&prepared.analysis, 0, &told, now, worker).is_err() {
            return self.unrecordable(now, worker, out);
        }
        let Some((grant, _)) = self.opener() else { return };
        if name.is_empty() {
            self.unname();
        }
        self.queue.push(Expect::Parse { name: key(name).into(), prepared });
        self.pass_under(&grant, message, shown, now, worker, out);
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
        let Some(court) = self.court((analysis, place), worker) else {
            return Verdict::Deny(Denied::of(Refusal::Unauthenticated, ""));
        };
        if self.masking.as_deref().is_some_and(|masking| !masking.knows_kin()) {
            let detail = "Which tables belong to others is not read yet: send it again.";
            return Verdict::Deny(Denied::of(refuse::DENIED, detail));
        }
        // What is kept was judged by what the caller said at the start, and holds for all values.
        let kept = (!self.saying_own || !court.policy.reads_asserted())
            && !court.policy.reads_parameters(court.row, court.resource);
        let found = self.verdicts.find(analysis, place).filter(|_| kept);
        let verdict = match found {
            Some(grant) => Verdict::Permit(grant),
            None => {
                let verdict = court.judge(analysis, place, bound, &self.names());
                if let (true, Verdict::Permit(grant)) = (kept, &verdict) {
                    self.verdicts.keep(analysis, place, grant);
                }
                verdict
            }
        };
        let matter = Matter { analysis, place, about, bound, runs: Runs::Text };
        self.seated(verdict, &matter, worker)
    }

    /// Whether a statement that is permitted, or would be, can run where it is to, and keep its masks.
    pub(super) fn seated<J: Journal>(
        &mut self,
        verdict: Verdict,
        matter: &Matter<'_>,
        worker: &Worker<J>,
    ) -> Verdict {
        let (rule, named, masks) = match &verdict {
            Verdict::Permit(grant) => (grant.rule(), grant.credential(), grant.masks()),
            Verdict::Hold(need) => {
                (need.rule(), need.obligations().credential, need.obligations().masks)
            }
            Verdict::Deny(_) | Verdict::Open => return verdict,
        };
        let what = (matter.analysis, matter.place);
        let alone = |at: usize| self.alone(matter, at, worker);
        let seat = self.seat((rule, named), what, matter.about, alone);
        let verdict = match (verdict, seat) {
            (_, Err(denied)) => return Verdict::Deny(denied),
            // It goes nowhere before it is approved.
            (verdict @ Verdict::Hold(_), Ok(_)) | (verdict, Ok(Seat::Here)) => verdict,
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
        };
        if masks.is_empty() {
            return verdict;
        }
        match self.cannot_mask(matter.analysis, matter.place, &self.names()) {
            Some(detail) => Verdict::Deny(Denied::of(refuse::DENIED, detail)),
            None => verdict,
        }
    }

    /// Who judges; `None`: nobody is known.
    fn court<'s, J: Journal>(
        &'s self,
        (analysis, place): (&Analysis, Option<usize>),
        worker: &'s Worker<J>,
    ) -> Option<Court<'s>> {
        let (principal, known) = self.who.as_ref()?;
        Some(Court {
            policy: &worker.snapshot.policy,
            row: &known.row,
            principal,
            resource: self.resource?,
            connect: self.connect.as_ref()?,
            asserted: self.saying.lend(),
            multi_statement: place.is_none() && analysis.statements.len() > 1,
            kin: self.masking.as_deref().map(|masking| &masking.columns.kin),
        })
    }

    /// The credential that one statement of a text asks for by itself.
    fn alone<J: Journal>(
        &self,
        matter: &Matter<'_>,
        at: usize,
        worker: &Worker<J>,
    ) -> Option<CredentialId> {
        let court = self.court((matter.analysis, matter.place), worker)?;
        match court.judge(matter.analysis, Some(at), matter.bound, &self.names()) {
            Verdict::Permit(grant) => grant.credential(),
            Verdict::Hold(need) => need.obligations().credential,
            Verdict::Deny(_) | Verdict::Open => None,
        }
    }

    /// What names stand for, in whichever session they live.
    pub(super) fn names(&self) -> Names<impl Fn(&[u8]) -> Named, impl Fn(&[u8]) -> Named> {
        Names {
            statement: |name: &[u8]| beside::find((&self.queue, &self.beside), false, name).0,
            portal: |name: &[u8]| beside::find((&self.queue, &self.beside), true, name).0,
        }
    }

    /// Bind as the record may hold it.
    fn recorded_bind(&self, message: Bytes<'_>, analysis: &Analysis) -> Option<Vec<u8>> {
        let body = message.get().get(FRAME_HEAD..)?;
        let Ok(Frontend::Bind(bind)) = frontend(b'B', body) else { return None };
        let values: Vec<Option<Vec<u8>>> = bind
            .values
            .iter()
            .map(|value| value.map(|value| self.recorded_value(analysis, value)))
            .collect();
        let values: Vec<Option<&[u8]>> = values.iter().map(Option::as_deref).collect();
        let formats: Vec<i16> = bind.formats.iter().collect();
        let results: Vec<i16> = bind.results.iter().collect();
        let (portal, statement) = (bind.portal, bind.statement);
        Some(written(|to| write::bind(portal, statement, &formats, &values, &results, to)))
    }
}

fn values_of(bind: &Bind<'_>, kinds: &Kinds) -> Option<Rc<Values>> {
    Values::of(bind, kinds).map(Rc::new)
}

const NAMES_FULL: &str = "Too many prepared statements or portals.";
