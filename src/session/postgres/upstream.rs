//! The server's messages: which answer each is, and how it goes to the caller.
//!
//! Messages that go as they are stand in one run of the input, which is recorded and released in
//! one piece. What is swallowed or told in other words ends a run.

use super::caller::Bytes;
use super::judge::{Analysis, Prepared};
use super::leg::Next;
use super::login::is_told;
use super::passage::Way;
use super::passing::written;
use super::queue::{Expect, Own};
use super::refuse::{self, Denied};
use super::settings::{self, Setting};
use super::{Phase, Session, Skip};
use crate::base::Now;
use crate::mask::Cleared;
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Wrap};
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::Act;
use crate::wire::postgres::{Backend, FRAME_HEAD, Fields, TxStatus, backend, write};
use std::rc::Rc;

/// What becomes of one message.
pub(super) enum Fate {
    /// It goes as it is.
    Pass,
    /// It goes, and the cycle that it belongs to is over.
    /// So do cycles that the server skipped.
    Ends(usize),
    /// It is the gateway's business.
    Swallow,
    /// A row that was masked and waits among those that were.
    Masked,
    /// It is told in these words.
    Words(Vec<u8>),
    /// It is the gateway's business, and the transaction must fail.
    Poison,
    /// A row that cannot be given out.
    Unmaskable,
    /// An error that stands for a refusal.
    Refused(Denied),
}

/// The server did what the protocol has no place for.
pub(super) struct OutOfOrder;

impl Session {
    /// Takes what the server sent, as far as it stands whole. Returns how much.
    pub(super) fn on_upstream<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let mut at = 0;
        if matches!(self.phase, Phase::Login(_)) {
            at = self.on_login(bytes, now, worker, out);
        }
        match self.phase {
            Phase::Ready => {}
            Phase::Ending | Phase::Closed => return bytes.len(),
            _ => return at,
        }
        if !self.release_paced(now, worker, out) {
            return at;
        }
        if self.is_in_row() && !self.down.is_passing() {
            // All of it was there when it had to wait.
            self.on_row_part(bytes, at..at, now, worker, out);
        }
        let len_max = self.message_max(worker);
        // Where the run of bytes that go as they are begins.
        let mut run = at;
        while matches!(self.phase, Phase::Ready) {
            let rest = bytes.get(at..).unwrap_or_default();
            let way = self.way();
            let streams = |tag, len| way.streams(tag, len, len_max);
            let (len, kept) = match self.down.next(rest, streams, len_max) {
                Ok(Next::More) => break,
                Ok(next) if self.masks_in_parts(&next, way, len_max) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    let Ok((used, waits)) =
                        self.mask_next(bytes, at, next, len_max, now, worker, out)
                    else {
                        return self.out_of_order(bytes, run..at, now, worker, out);
                    };
                    at += used;
                    run = at;
                    if waits {
                        return at;
                    }
                    continue;
                }
                // The masks that the row was begun under are gone.
                Ok(Next::Part(len)) if way == Way::Never => {
                    self.down.unread(len);
                    self.unmaskable(now, worker, out);
                    return bytes.len();
                }
                // What is left of a row that was refused.
                Ok(Next::Part(len)) if way == Way::Drop => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    continue;
                }
                Ok(Next::Part(len)) => {
                    at += len;
                    continue;
                }
                Ok(Next::Begins { tag, len, .. }) => {
                    if self.begins(tag).is_err() {
                        return self.out_of_order(bytes, run..at, now, worker, out);
                    }
                    if tag == b'D' && way == Way::Drop {
                        self.release_run(bytes, run..at, now, worker, out);
                        run = at + len;
                    }
                    at += len;
                    continue;
                }
                Ok(Next::Kept(len)) => {
                    // What is kept goes when it is whole; what stood before it goes first.
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    continue;
                }
                Ok(Next::Completes(len)) => (len, Some(self.down.take())),
                Ok(Next::Whole { len, .. }) => (len, None),
                Err(_) => return self.out_of_order(bytes, run..at, now, worker, out),
            };
            let message = kept.as_deref().unwrap_or(rest.get(..len).unwrap_or_default());
            if self.is_refreshing() {
                self.release_run(bytes, run..at, now, worker, out);
                at += len;
                run = at;
                let tag = message.first().copied().unwrap_or_default();
                let body = message.get(FRAME_HEAD..).unwrap_or_default();
                let Ok(parsed) = backend(tag, body) else {
                    return self.out_of_order(bytes, run..at, now, worker, out);
                };
                self.on_refresh(&parsed, now, worker, out);
                continue;
            }
            let Ok(fate) = self.fate(message, worker.snapshot.policy.parameters()) else {
                return self.out_of_order(bytes, run..at, now, worker, out);
            };
            if !matches!(fate, Fate::Masked) {
                self.release_rows(now, worker, out);
            }
            let ends = if let Fate::Ends(count) = fate { count } else { 0 };
            match (fate, &kept) {
                (Fate::Pass | Fate::Ends(_), None) => at += len,
                (Fate::Pass | Fate::Ends(_), Some(whole)) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    self.release(Bytes::Kept(whole), now, worker, out);
                    at += len;
                    run = at;
                }
                (Fate::Swallow, _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                }
                (Fate::Masked, _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    if self.masking.as_ref().is_some_and(|one| one.written.len() > ROWS_MAX) {
                        self.release_rows(now, worker, out);
                    }
                }
                (Fate::Words(words), _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    self.release_masked(&words, now, worker, out);
                }
                (Fate::Poison, _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    self.poison(now, worker, out);
                }
                (Fate::Unmaskable, _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    self.unmaskable(now, worker, out);
                    return bytes.len();
                }
                (Fate::Refused(denied), _) => {
                    self.release_run(bytes, run..at, now, worker, out);
                    at += len;
                    run = at;
                    self.tell_refusal(&denied, now, worker, out);
                }
            }
            if ends > 0 {
                self.release_run(bytes, run..at, now, worker, out);
                run = at;
                for _ in 0..ends {
                    self.finish_cycle(false, now, worker);
                }
                self.end_if_drained(now, worker, out);
                self.wait_for_end(now, worker);
            }
        }
        if matches!(self.phase, Phase::Closed) {
            return bytes.len();
        }
        self.release_rows(now, worker, out);
        self.release_run(bytes, run..at, now, worker, out);
        self.unpark(now, worker, out);
        self.settle_uses(false, out);
        self.go_home(now, worker, out);
        at
    }

    /// A message of data that passes in parts begins.
    fn begins(&mut self, tag: u8) -> Result<(), OutOfOrder> {
        if tag == b'D' && self.way() != Way::Drop { self.row() } else { self.running() }
    }

    /// Whether what stands next is a row, or a part of one, that is masked while it comes. One that
    /// is too long to be kept is, even if all of it is there.
    fn masks_in_parts(&self, next: &Next, way: Way, len_max: usize) -> bool {
        match *next {
            Next::Part(_) => self.is_in_row(),
            Next::Begins { tag: b'D', .. } => way == Way::Mask,
            Next::Whole { tag: b'D', len } => way == Way::Mask && len > len_max,
            _ => false,
        }
    }

    /// Masks what [`Self::masks_in_parts`] is about, from `at` on. Returns how much it took, and
    /// whether the journal must be waited for.
    #[expect(clippy::too_many_arguments, reason = "what a message needs, and where it stands")]
    fn mask_next<J: Journal>(
        &mut self,
        bytes: &[u8],
        at: usize,
        next: Next,
        len_max: usize,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(usize, bool), OutOfOrder> {
        let (head, len) = match next {
            Next::Part(len) => (0, len),
            Next::Begins { len, body, .. } => {
                self.begin_row(body, len_max)?;
                (FRAME_HEAD, len)
            }
            Next::Whole { len, .. } => {
                self.begin_row(len.saturating_sub(FRAME_HEAD), len_max)?;
                (FRAME_HEAD, len)
            }
            _ => return Err(OutOfOrder),
        };
        if head > 0 {
            self.release_rows(now, worker, out);
        }
        let (used, waits) = self.on_row_part(bytes, at + head..at + len, now, worker, out);
        let used = head + used;
        self.down.unread(len.saturating_sub(used));
        Ok((used, waits))
    }

    /// What becomes of a whole message, and what it answers. `named`: parameters that rules ask for.
    fn fate(&mut self, message: &[u8], named: &[u16]) -> Result<Fate, OutOfOrder> {
        match self.way() {
            Way::Drop => self.fate_refused(message, named),
            _ => self.fate_plain(message, named),
        }
    }

    pub(super) fn fate_plain(&mut self, message: &[u8], named: &[u16]) -> Result<Fate, OutOfOrder> {
        let tag = message.first().copied().unwrap_or_default();
        let body = message.get(FRAME_HEAD..).unwrap_or_default();
        // The most frequent ones need no look inside.
        match tag {
            b'D' => {
                self.row()?;
                return Ok(self.mask_row(message));
            }
            b'd' => return self.running().map(|()| Fate::Pass),
            _ => {}
        }
        let parsed = backend(tag, body).map_err(|_| OutOfOrder)?;
        let answered = |session: &mut Self, fits: fn(&Expect) -> bool| {
            let expect = session.queue.answered(fits).ok_or(OutOfOrder)?;
            session.queue.confirm(expect);
            Ok(Fate::Pass)
        };
        match parsed {
            Backend::ParseDone if self.queue.take_own(Own::Parse) => Ok(Fate::Swallow),
            Backend::CloseDone if self.queue.take_own(Own::Close) => Ok(Fate::Swallow),
            Backend::ParseDone => answered(self, |e| matches!(e, Expect::Parse { .. })),
            Backend::BindDone => answered(self, |e| matches!(e, Expect::Bind { .. })),
            Backend::CloseDone => answered(self, |e| matches!(e, Expect::Close { .. })),
            Backend::NoData if self.is_own_describe() => {
                self.queue.answered(|_| true);
                self.forget_rows();
                Ok(Fate::Swallow)
            }
            Backend::NoData => answered(self, |e| matches!(e, Expect::Describe { .. })),
            Backend::Parameters(types) => match self.queue.front() {
                Some(Expect::Describe { of }) => {
                    if let Some(prepared) = of {
                        prepared.kinds.tell(types, named);
                    }
                    Ok(Fate::Pass)
                }
                _ => Err(OutOfOrder),
            },
            Backend::RowDescription(columns) if self.is_own_describe() => {
                if let Some(Expect::OwnDescribe { prepared }) = self.queue.answered(|_| true) {
                    let runs = self.executed(&prepared.analysis, prepared.place);
                    if let Some(masking) = &mut self.masking {
                        let runs = runs.as_ref().and_then(|one| one.statement());
                        masking.plan_rows(columns, prepared.statement(), runs);
                    }
                }
                Ok(Fate::Swallow)
            }
            Backend::RowDescription(columns) => match self.queue.front() {
                Some(Expect::Simple { analysis, complete, masked: true, .. }) => {
                    let (analysis, place) = (Rc::clone(analysis), *complete);
                    let runs = self.executed(&analysis, place);
                    let Some(masking) = &mut self.masking else { return Err(OutOfOrder) };
                    let runs = runs.as_ref().and_then(|one| one.statement());
                    masking.plan_rows(columns, analysis.statements.get(place), runs);
                    Ok(Fate::Pass)
                }
                Some(Expect::Describe { .. }) => {
                    answered(self, |e| matches!(e, Expect::Describe { .. }))
                }
                Some(Expect::Simple { .. }) => Ok(Fate::Pass),
                _ => Err(OutOfOrder),
            },
            Backend::Complete(_) | Backend::Empty => match self.queue.front() {
                Some(Expect::Execute { .. }) => {
                    self.forget_rows();
                    answered(self, |e| matches!(e, Expect::Execute { .. }))
                }
                Some(Expect::Simple { .. }) => {
                    self.forget_rows();
                    self.queue.complete_simple();
                    Ok(Fate::Pass)
                }
                _ => Err(OutOfOrder),
            },
            Backend::Suspended => {
                self.forget_rows();
                let fits = |expect: &Expect| matches!(expect, Expect::Execute { .. });
                self.queue.answered(fits).map(|_| Fate::Pass).ok_or(OutOfOrder)
            }
            Backend::CopyIn(_) => {
                self.running()?;
                if self.queue.begin_copy() { Ok(Fate::Pass) } else { Err(OutOfOrder) }
            }
            Backend::CopyOut(_) | Backend::CopyDone => self.running().map(|()| Fate::Pass),
            Backend::Error(fields) => {
                let code = fields.get(b'C').unwrap_or_default();
                // A server that shuts down says so, whatever was under way.
                let fatal = fields.get(b'V').is_some_and(|v| v == b"FATAL" || v == b"PANIC");
                if fatal && !self.is_home() {
                    // Its end comes next, and is not that of the connection.
                    return Ok(Fate::Swallow);
                }
                if let Some(cycle) = self.cycles.answered() {
                    cycle.sqlstate = code.try_into().ok();
                }
                if fatal {
                    self.fatal = true;
                    return Ok(Fate::Pass);
                }
                self.forget_rows();
                let ended = self.ended.told(code);
                let failure = self.queue.failed();
                if failure.skips && self.skip.is_none() {
                    self.skip = Some(Skip::Upstream);
                }
                // The caller's own Sync is still to come.
                if self.queue.is_settling() {
                    self.skip = Some(Skip::Here);
                }
                match failure.denied {
                    None if ended.is_some() => Ok(ended.map_or(Fate::Pass, Fate::Refused)),
                    Some(denied) if code == SYNTAX_ERROR => Ok(Fate::Refused(denied)),
                    _ => Ok(self.words(true, fields)),
                }
            }
            Backend::Ready(status) => {
                if !self.is_home() && status != TxStatus::Idle {
                    return Err(OutOfOrder);
                }
                let settled = matches!(self.queue.front(), Some(Expect::OwnSync));
                let ended = self.queue.ready(status == TxStatus::Idle).ok_or(OutOfOrder)?;
                self.tx = status;
                if let Some(masking) = self.masking.as_mut().filter(|_| status == TxStatus::Idle) {
                    masking.settled();
                }
                if settled {
                    self.cycles.settled();
                    return Ok(Fate::Swallow);
                }
                Ok(Fate::Ends(ended))
            }
            Backend::Notice(fields) => Ok(self.words(false, fields)),
            Backend::Notification { .. } => Ok(Fate::Pass),
            Backend::Status { name, value } => {
                self.sway.reports(name, value);
                // Code on the server changed what the gateway reads statements by.
                if settings::is_pinned(name) && settings::judge(name, Some(value)) != Setting::Held
                {
                    return Err(OutOfOrder);
                }
                let told = is_told(name) && self.is_home();
                Ok(if told { self.status(name, value) } else { Fate::Swallow })
            }
            // A key that the server changes is of no use to the caller.
            Backend::Key { .. } => Ok(Fate::Swallow),
            _ => Err(OutOfOrder),
        }
    }

    fn is_own_describe(&mut self) -> bool {
        matches!(self.queue.front(), Some(Expect::OwnDescribe { .. }))
    }

    /// What runs in the end where a statement is an EXECUTE; `None`: nobody knows, and so nothing of
    /// its rows is known, either.
    fn executed(&self, analysis: &Rc<Analysis>, place: usize) -> Option<Rc<Prepared>> {
        let mut runs = Prepared::new(Rc::clone(analysis), place);
        for _ in 0..RUNS_MAX {
            let Some(Act::Execute { name, .. }) = runs.statement().map(|one| &one.act) else {
                return Some(runs);
            };
            let name = name.as_bytes();
            let earlier = runs.analysis.prepared_before(runs.place, name);
            runs = earlier.or_else(|| self.queue.confirmed(name).map(Rc::clone))?;
        }
        None
    }

    pub(super) fn forget_rows(&mut self) {
        if let Some(masking) = &mut self.masking {
            masking.rows = None;
        }
    }

    /// Masks a row that owes it.
    fn mask_row(&mut self, message: &[u8]) -> Fate {
        match (self.way(), &mut self.masking) {
            (Way::Pass, _) => Fate::Pass,
            (Way::Mask, Some(masking)) => match masking.row(message) {
                Ok(()) => Fate::Masked,
                Err(()) => Fate::Unmaskable,
            },
            _ => Fate::Unmaskable,
        }
    }

    /// An error or notice, without what a mask withholds.
    fn words(&self, is_error: bool, fields: Fields<'_>) -> Fate {
        let masking = self.masking.as_ref();
        let words = masking.and_then(|masking| masking.complaint(is_error, fields));
        words.map_or(Fate::Pass, Fate::Words)
    }

    /// A setting that is told, as the detectors leave it: the caller chose some of them.
    fn status(&self, name: &[u8], value: &[u8]) -> Fate {
        match self.cleared_status(value) {
            Some(cleared) => Fate::Words(written(|to| write::status(name, &cleared, to))),
            None => Fate::Pass,
        }
    }

    /// A row is due only while a statement runs.
    fn row(&mut self) -> Result<(), OutOfOrder> {
        self.running()?;
        if let Some(cycle) = self.cycles.answered() {
            cycle.rows += 1;
        }
        Ok(())
    }

    pub(super) fn running(&mut self) -> Result<(), OutOfOrder> {
        match self.queue.front() {
            Some(Expect::Execute { .. } | Expect::Simple { .. }) => Ok(()),
            _ => Err(OutOfOrder),
        }
    }

    pub(super) fn release_run<J: Journal>(
        &mut self,
        bytes: &[u8],
        run: std::ops::Range<usize>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let offset = run.start;
        let shown = bytes.get(run).unwrap_or_default();
        if !shown.is_empty() && !matches!(self.phase, Phase::Closed) {
            self.release(Bytes::Shown(shown, offset), now, worker, out);
        }
    }

    /// Records bytes of the server and lets them go to the caller.
    fn release<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let bytes = message.get();
        if let Some(cycle) = self.cycles.answered() {
            cycle.bytes_out += bytes.len() as u64;
        }
        let subject = self.subject(false);
        self.stage.clear();
        let cleared = Cleared::pass(bytes.len(), &mut self.stage);
        let wrap = match message {
            Bytes::Shown(_, offset) => Wrap { offset, ..Wrap::default() },
            Bytes::Kept(_) => Wrap { detach: true, ..Wrap::default() },
        };
        let kind = Kind::ResponseBody;
        match gate::release(cleared, subject, kind, bytes, wrap, worker.books(), now) {
            Ok(released) => out.push_caller(released),
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// Lets the rows go that were masked.
    pub(super) fn release_rows<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some(masking) = &mut self.masking else { return };
        if masking.written.is_empty() {
            return;
        }
        worker.counts.masked += masking.take_finds();
        let mut rows = std::mem::take(&mut masking.written);
        self.release_masked(&rows, now, worker, out);
        rows.clear();
        if let Some(masking) = &mut self.masking {
            masking.written = rows;
        }
    }

    pub(super) fn release_masked<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        if let Some(cycle) = self.cycles.answered() {
            cycle.bytes_out += bytes.len() as u64;
        }
        let subject = self.subject(false);
        self.stage.clear();
        self.stage.text(bytes);
        let cleared = Cleared::generated_masked(&mut self.stage, true);
        let (kind, wrap) = (Kind::ResponseBody, Wrap::default());
        match gate::release(cleared, subject, kind, b"", wrap, worker.books(), now) {
            Ok(released) => out.push_caller(released),
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// Tells the caller something of the gateway's own, in the cycle that is answered.
    pub(super) fn tell<J: Journal>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let subject = self.subject(false);
        self.stage.clear();
        self.stage.write_with(write);
        let cleared = Cleared::generated(&mut self.stage);
        let kind = Kind::ResponseBody;
        match gate::release(cleared, subject, kind, b"", Wrap::default(), worker.books(), now) {
            Ok(released) => out.push_caller(released),
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// Tells the caller that something was refused.
    pub(super) fn tell_refusal<J: Journal>(
        &mut self,
        denied: &Denied,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let snapshot = std::sync::Arc::clone(&worker.snapshot);
        let rule = denied.rule.map(|rule| snapshot.policy.rule_name(rule));
        let id = self.subject(false).exchange;
        if let Some(cycle) = self.cycles.answered() {
            cycle.sqlstate = refuse::code(denied).as_bytes().try_into().ok();
        }
        self.tell(|to| refuse::error(denied, false, rule, id, to), now, worker, out);
    }

    /// Ends a connection whose server is out of order: what it means cannot be told.
    fn out_of_order<J: Journal>(
        &mut self,
        bytes: &[u8],
        run: std::ops::Range<usize>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        tracing::warn!(request = %self.link, "the resource answered out of order");
        // What stands before it goes: the end of a message may be in it.
        self.release_rows(now, worker, out);
        self.release_run(bytes, run, now, worker, out);
        self.refuse_all(&Denied::of(Refusal::BadUpstream, ""), now, worker, out);
        bytes.len()
    }
}

/// So many names one EXECUTE may go through.
const RUNS_MAX: usize = 6;
/// Bytes of masked rows that go out together.
const ROWS_MAX: usize = 32 << 10;
/// What the server says of the text that stands in the place of a refused statement.
const SYNTAX_ERROR: &[u8] = b"42601";
