//! The answer leg: head, echo, mask, body.

use super::{Answer, Framed, Request, Session, head};
use crate::base::{MaskSet, Now};
use crate::credential::{Echo, EchoFound};
use crate::mask::{Cleared, Content, Shape};
use crate::policy::Grant;
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Wrap};
use crate::session::io::{Act, Ending, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::coding::Decoder;
use crate::wire::http1::{BodyDecoder, BodyStep, Framing, HeadScan, LAST_CHUNK, parse_response};
use std::rc::Rc;

impl Session {
    pub(super) fn on_upstream<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let step = match self.answer {
                Answer::Head => self.on_answer_head(rest, now, worker, out),
                Answer::Body => self.on_answer_body(rest, used, now, worker, out),
                Answer::None | Answer::Done => return bytes.len(),
            };
            match step {
                Ok(Some(consumed)) => used += consumed,
                Ok(None) => return used,
                Err((consumed, None)) => return used + consumed,
                Err((_, Some(refusal))) => {
                    self.refuse(refusal, now, worker, out);
                    return bytes.len();
                }
            }
            if self.exchange.is_none() || self.closed {
                return bytes.len();
            }
        }
    }

    /// The upstream's connection ended.
    pub(super) fn on_upstream_end<J: Journal>(
        &mut self,
        ending: Ending,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upstream_keep = false;
        }
        match self.answer {
            Answer::Head => {
                if !self.repeat(now, worker, out) {
                    self.refuse(Refusal::BadUpstream, now, worker, out);
                }
            }
            Answer::Body => {
                let whole = ending == Ending::Clean
                    && self.answer_body.as_ref().is_some_and(|body| body.on_eof().is_ok());
                let ended = if whole {
                    self.answer_data(b"", None, true, now, worker, out)
                        .and_then(|()| self.answer_end(now, worker, out))
                } else {
                    // A cut answer must look cut to the caller too.
                    Err(Refusal::BadUpstream)
                };
                if let Err(refusal) = ended {
                    self.refuse(refusal, now, worker, out);
                }
            }
            Answer::None | Answer::Done => {}
        }
    }

    /// `Ok(Some(consumed))` goes on, `Ok(None)` needs more, `Err((consumed, None))` needs more
    /// and has consumed some.
    fn on_answer_head<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<Option<usize>, (usize, Option<Refusal>)> {
        let bad = |refusal| (0, Some(refusal));
        if bytes.is_empty() {
            return Ok(None);
        }
        let Some(exchange) = &mut self.exchange else { return Err(bad(Refusal::BadUpstream)) };
        // Something was answered: from here the request was perhaps acted upon.
        exchange.repeatable = false;
        let snapshot = Rc::clone(&exchange.snapshot);
        let parsed = parse_response(
            &mut self.answer_head,
            &mut self.answer_scan,
            bytes,
            &snapshot.limits,
            exchange.is_head,
        );
        match parsed {
            Ok(false) => return Ok(None),
            Err(error) => {
                tracing::warn!(request = %exchange.id, reason = error.label(), "bad answer head");
                return Err(bad(Refusal::BadUpstream));
            }
            Ok(true) => {}
        }
        let used = self.answer_head.head_len as usize;
        if (100..200).contains(&self.answer_head.status) {
            exchange.interim += 1;
            if self.answer_head.status == 101 || exchange.interim > snapshot.limits.interim_max {
                return Err(bad(Refusal::BadUpstream));
            }
            self.answer_scan = HeadScan::default();
            return Ok(Some(used));
        }
        let head_bytes = bytes.get(..used).unwrap_or_default();
        exchange.status = self.answer_head.status;
        exchange.upstream_keep &= self.answer_head.keep_alive && self.request == Request::Done;
        let credential = snapshot.credential(exchange.credential);
        if credential
            .and_then(|credential| credential.echo())
            .is_some_and(|echo| echo.in_text(head_bytes))
        {
            tracing::error!(request = %exchange.id, "the upstream sent the credential back");
            return Err(bad(Refusal::BadUpstream));
        }
        let plan =
            snapshot.plans.united(exchange.grant.as_ref().map_or(MaskSet::EMPTY, Grant::masks));
        let framing = self.answer_head.framing;
        // A body without a byte needs no type by which it could be masked.
        let empty = matches!(framing, Framing::None | Framing::Length(0));
        let coded = head::content_coding(&self.answer_head, head_bytes)
            .map_err(|()| bad(Refusal::BadUpstream))?;
        self.coding = match coded {
            Some(coding) if !empty => Some(Decoder::new(coding, u64::MAX)),
            _ => None,
        };
        let view = self.resource().and_then(|id| snapshot.resource(id));
        let Some(view) = view else { return Err(bad(Refusal::BadUpstream)) };
        let kind =
            Content::of(head::answer_content_type(&self.answer_head, head_bytes), view.shape);
        if let Content::Sse(shape @ (Shape::OpenAi | Shape::Anthropic)) = kind
            && framing != Framing::None
            && credential.is_some_and(|credential| credential.echo().is_some())
        {
            self.watch = Some(worker.take_watch(shape, &snapshot.limits));
        }
        if !plan.is_pass() && !empty {
            let filter = worker.take_filter(&plan, kind, &snapshot.limits);
            self.answer_filter = Some(filter.map_err(|_| bad(Refusal::Unmaskable))?);
        }
        let Some(exchange) = &mut self.exchange else { return Err(bad(Refusal::BadUpstream)) };
        let changed = self.coding.is_some() || !plan.is_pass();
        exchange.framed = match framing {
            Framing::None | Framing::Length(0) => Framed::Length,
            Framing::Length(_) if !changed => Framed::Length,
            _ if exchange.version_minor == 1 => Framed::Chunks,
            _ => Framed::Close,
        };
        if exchange.framed == Framed::Close {
            exchange.keep_alive = false;
        }
        if self.request != Request::Done || self.draining || self.caller_ended {
            exchange.keep_alive = false;
        }
        self.text.clear();
        let shows = head::write_answer(
            &self.answer_head,
            head_bytes,
            &head::AnswerForm {
                id: exchange.id,
                keep_alive: exchange.keep_alive,
                version_minor: exchange.version_minor,
                framed: exchange.framed,
                is_head: exchange.is_head,
                changed,
                masked: !plan.is_pass(),
                cookies: view.cookies,
            },
            &plan,
            &mut self.text,
        )
        .map_err(|_| bad(Refusal::Unmaskable))?;
        let subject = self.subject();
        self.stage.clear();
        self.stage.text(&self.text);
        let cleared = Cleared::generated_masked(&mut self.stage, shows);
        let kind = Kind::ResponseHead;
        let released =
            gate::release(cleared, subject, kind, b"", Wrap::default(), worker.books(), now)
                .map_err(|_| bad(Refusal::Unrecordable))?;
        out.push_caller(released);
        self.answer_body = Some(BodyDecoder::for_response(framing, &snapshot.limits));
        self.answer = Answer::Body;
        self.echo.reset();
        if framing == Framing::None {
            if bytes.len() > used
                && let Some(exchange) = &mut self.exchange
            {
                exchange.upstream_keep = false;
            }
            self.answer_end(now, worker, out).map_err(bad)?;
        }
        Ok(Some(used))
    }

    fn on_answer_body<J: Journal>(
        &mut self,
        bytes: &[u8],
        offset: usize,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<Option<usize>, (usize, Option<Refusal>)> {
        let bad = |refusal| (0, Some(refusal));
        let Some(body) = &mut self.answer_body else { return Err(bad(Refusal::BadUpstream)) };
        match body.next(bytes) {
            Err(error) => {
                tracing::warn!(
                    connection = self.connection.0,
                    reason = error.label(),
                    "bad answer"
                );
                Err(bad(Refusal::BadUpstream))
            }
            Ok(BodyStep::NeedMore { consumed: 0 }) => Ok(None),
            Ok(BodyStep::NeedMore { consumed }) => Err((consumed, None)),
            Ok(BodyStep::Data { range, consumed }) => {
                let at = offset + range.start;
                let data = bytes.get(range).unwrap_or_default();
                self.answer_data(data, Some(at), false, now, worker, out).map_err(bad)?;
                Ok(Some(consumed))
            }
            Ok(BodyStep::End { consumed }) => {
                self.answer_data(b"", None, true, now, worker, out).map_err(bad)?;
                if bytes.len() > consumed
                    && let Some(exchange) = &mut self.exchange
                {
                    // More than was asked for: whatever it is, this connection is done.
                    exchange.upstream_keep = false;
                }
                self.answer_end(now, worker, out).map_err(bad)?;
                Ok(Some(consumed))
            }
        }
    }

    /// Body bytes as they came, through the content coding.
    fn answer_data<J: Journal>(
        &mut self,
        data: &[u8],
        offset: Option<usize>,
        end: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        if self.coding.is_none() {
            return self.answer_plain(data, offset, end, now, worker, out);
        }
        let Some(exchange) = &self.exchange else { return Err(Refusal::BadUpstream) };
        let snapshot = Rc::clone(&exchange.snapshot);
        let mut coding = self.coding.take();
        let mut decoded = std::mem::take(&mut self.decoded);
        let mut sent = Ok(());
        // In small slices, so that what comes out of each is small too.
        let slices = data.chunks(CODED_SLICE).map(|slice| (slice, false));
        for (slice, last) in slices.chain(end.then_some((&b""[..], true))) {
            let Some(coding) = &mut coding else { break };
            decoded.clear();
            let result = coding
                .push(slice, &mut decoded, &snapshot.limits)
                .and_then(|()| if last { coding.finish() } else { Ok(()) });
            sent = match result {
                Ok(()) => self.answer_plain(&decoded, None, last, now, worker, out),
                Err(error) => {
                    let connection = self.connection.0;
                    tracing::warn!(connection, reason = error.label(), "bad coding");
                    Err(Refusal::BadUpstream)
                }
            };
            if sent.is_err() {
                break;
            }
        }
        self.coding = coding;
        // A bomb's room is not kept for the life of the connection.
        self.decoded = if decoded.capacity() > DECODED_KEPT { Vec::new() } else { decoded };
        sent
    }

    /// Decoded body bytes: no echo, as they are written; then the texts of a stream.
    fn answer_plain<J: Journal>(
        &mut self,
        data: &[u8],
        offset: Option<usize>,
        end: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let Some(exchange) = &self.exchange else { return Err(Refusal::BadUpstream) };
        let snapshot = Rc::clone(&exchange.snapshot);
        let echo = snapshot.credential(exchange.credential).and_then(|found| found.echo());
        let Some(echo) = echo else {
            return self.answer_clear(data, offset, end, now, worker, out);
        };
        let step = echo.push(&mut self.echo, data, end).map_err(|found| self.echoed(found))?;
        let clear = data.get(..step.data).unwrap_or_default();
        if step.held > 0 {
            let mut before = std::mem::take(&mut self.before);
            before.clear();
            self.echo.take(step.held, &mut before);
            let last = end && clear.is_empty();
            let sent = self.answer_watched(echo, &before, None, last, now, worker, out);
            self.before = before;
            if last || sent.is_err() {
                return sent;
            }
        }
        if clear.is_empty() && !end {
            return Ok(());
        }
        self.answer_watched(echo, clear, offset, end, now, worker, out)
    }

    /// No echo in the texts of a stream either, where they come in many events; then the mask,
    /// the record and the caller.
    #[expect(clippy::too_many_arguments, reason = "one step of the leg")]
    fn answer_watched<J: Journal>(
        &mut self,
        echo: &Echo,
        data: &[u8],
        offset: Option<usize>,
        end: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let Some(mut watch) = self.watch.take() else {
            return self.answer_clear(data, offset, end, now, worker, out);
        };
        let sent = match watch.push(echo, data, end) {
            Err(found) => Err(self.echoed(found)),
            Ok(step) => {
                let clear = data.get(..step.data).unwrap_or_default();
                let last = end && clear.is_empty();
                let held = if step.held > 0 || last {
                    self.answer_clear(watch.held(step.held), None, last, now, worker, out)
                } else {
                    Ok(())
                };
                watch.let_go(step.held);
                match held {
                    Ok(()) if !clear.is_empty() => {
                        self.answer_clear(clear, offset, end, now, worker, out)
                    }
                    held => held,
                }
            }
        };
        self.watch = Some(watch);
        sent
    }

    #[cold]
    fn echoed(&self, _: EchoFound) -> Refusal {
        tracing::error!(connection = self.connection.0, "the upstream sent the credential back");
        Refusal::BadUpstream
    }

    fn answer_clear<J: Journal>(
        &mut self,
        data: &[u8],
        offset: Option<usize>,
        end: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let subject = self.subject();
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadUpstream) };
        self.stage.clear();
        let cleared = match &mut self.answer_filter {
            Some(filter) => filter.push(data, end, &mut self.stage).map_err(|error| {
                tracing::warn!(request = %exchange.id, ?error, "the answer cannot be masked");
                Refusal::Unmaskable
            })?,
            None => Cleared::pass(data.len(), &mut self.stage),
        };
        exchange.bytes_out += cleared.pieces().len() as u64;
        let wrap = Wrap {
            offset: offset.unwrap_or(0),
            chunked: exchange.framed == Framed::Chunks,
            detach: offset.is_none(),
        };
        let kind = Kind::ResponseBody;
        let released = gate::release(cleared, subject, kind, data, wrap, worker.books(), now)
            .map_err(|_| Refusal::Unrecordable)?;
        out.push_caller(released);
        Ok(())
    }

    fn answer_end<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadUpstream) };
        if exchange.framed == Framed::Chunks {
            out.push_caller(gate::release_framing(&mut self.stage, LAST_CHUNK));
        }
        self.answer = Answer::Done;
        if self.request == Request::Done {
            self.finish(now, worker, out);
        } else {
            // An early final answer: the rest of the request is not sent.
            exchange.keep_alive = false;
            let id = exchange.id;
            exchange.upstream_open = false;
            out.act(Act::Release { exchange: id, reuse: false });
            self.finish(now, worker, out);
        }
        Ok(())
    }
}

/// Room for decoded bytes that a connection keeps.
const DECODED_KEPT: usize = 64 << 10;
/// Coded bytes that are decoded at a time.
const CODED_SLICE: usize = 1 << 10;
