//! The caller's messages, one by one: which wait, which are skipped, and who takes each.

use super::leg::Next;
use super::queue::{Expect, key};
use super::refuse::{self, Denied};
use super::{Phase, Session, Skip};
use crate::base::Now;
use crate::record::Journal;
use crate::session::gate;
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::SqlLimits;
use crate::wire::postgres::{FRAME_HEAD, Frontend, frontend, write};

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
        let next = self.up.next(rest, |tag, _| tag == b'd', len_max);
        let part = |len: usize| rest.get(..len).unwrap_or_default();
        match next {
            Ok(Next::More) => (0, false),
            Ok(next @ (Next::Part(len) | Next::Begins { len, .. })) => {
                // Data of a COPY, or of one that the upstream skips; all of a message or nothing.
                if matches!(next, Next::Begins { .. }) {
                    self.passing = self.skip.is_none() && self.copy_goes_on(now, worker, out);
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
        if self.hold.is_some() && self.skip.is_some() {
            // Something before it failed, and the server would skip it.
            self.forget_hold(true, worker, out);
        }
        if self.is_held() {
            return;
        }
        let waits =
            self.parked.is_some() && matches!(self.phase, Phase::Ready) && !self.is_settling();
        if !waits || self.is_refreshing() || self.refresh_if_due(now, worker, out) {
            return;
        }
        if let Some(message) = self.parked.take() {
            self.on_whole(Bytes::Kept(&message), now, worker, out);
            self.asked &= self.parked.is_some();
            if self.parked.is_none() {
                // It was about this message, whatever that was refused for.
                self.failed = None;
            }
        }
    }

    pub(super) fn park(&mut self, message: Bytes<'_>) {
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
        if std::mem::take(&mut self.settles) && matches!(self.phase, Phase::Ready) {
            self.queue.push(Expect::OwnSync);
            return self.say_up(write::sync, now, worker, out);
        }
        if let Some(wanted) = self.wanted.take()
            && matches!(self.phase, Phase::Ready)
        {
            return self.turn(wanted, now, worker, out);
        }
        // The answers that are due may stand in a buffer of the server's.
        if matches!(self.phase, Phase::Ready) && self.queue.is_full() && self.parked.is_none() {
            self.flush(out);
        }
    }

    /// Asks the server for the answers that it has.
    pub(super) fn flush(&mut self, out: &mut Out) {
        if let Some((grant, _)) = self.opener() {
            let flush = b"H\0\0\0\x04";
            out.push_upstream(gate::admit_framing(&grant, &mut self.stage, flush));
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
        if self.ended.takes(&parsed) {
            return;
        }
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
            Frontend::Describe { portal, name } => {
                if !self.is_at((portal, name), message, now, worker, out) {
                    return;
                }
                let of = if portal { None } else { self.described(name, worker) };
                self.queue.push(Expect::Describe { of });
                self.pass(message, now, worker, out);
            }
            Frontend::Close { portal, name } => {
                if !self.is_at((portal, name), message, now, worker, out) {
                    return;
                }
                self.queue.push(Expect::Close { portal, name: key(name).into() });
                self.pass(message, now, worker, out);
            }
            Frontend::Flush => self.pass_link(message, now, worker, out),
            Frontend::CopyData(_) => {
                if self.copy_goes_on(now, worker, out) {
                    self.pass_link(message, now, worker, out);
                }
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
                    self.go_home(now, worker, out);
                }
            }
            Frontend::Terminate => {
                self.on_terminate(now, worker, out);
            }
            _ => {}
        }
    }

    /// The longest message that is looked at whole.
    pub(super) fn message_max<J>(&self, worker: &Worker<J>) -> usize {
        let view = self.resource.and_then(|id| worker.snapshot.resource(id));
        view.map_or(0, |view| view.message_max as usize)
    }

    /// The caller is done: the server hears so. What it sent before is still answered.
    pub(super) fn on_terminate<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        // What is turned to hears of it when it is in hand.
        self.caller_ended |= matches!(self.phase, Phase::Turning);
        let (Some((grant, _)), Phase::Ready) = (self.opener(), &self.phase) else {
            if !matches!(self.phase, Phase::Turning) {
                self.end(true, now, worker, out);
            }
            return;
        };
        self.caller_ended = true;
        // In the middle of a message it would be read as a part of that.
        if !self.up.is_within() {
            out.push_upstream(gate::admit_framing(&grant, &mut self.stage, b"X\0\0\0\x04"));
        }
        out.act(Act::EndUpstream { exchange: self.serves.exchange });
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
