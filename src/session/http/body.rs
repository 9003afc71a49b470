//! The body of a request: looked ahead into while a rule asks for its model, then forwarded as
//! far as its masked form is recorded.

use super::request::Flow;
use super::{Answer, Request, Session};
use crate::base::Now;
use crate::mask::{Cleared, Content, Shape};
use crate::policy::Attr;
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Wrap};
use crate::session::io::Out;
use crate::session::model::{Model, ModelError, ModelScan};
use crate::session::refusal::Refusal;
use crate::session::worker::{Snapshot, Worker};
use crate::wire::http1::BodyStep;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    pub(super) fn on_body<J: Journal>(
        &mut self,
        bytes: &[u8],
        offset: usize,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> (usize, Flow) {
        let Some(body) = &mut self.body else { return (0, Flow::Refuse(Refusal::BadRequest)) };
        match body.next(bytes) {
            Err(error) => {
                tracing::info!(connection = self.connection.0, reason = error.label(), "bad body");
                (bytes.len(), Flow::Refuse(Refusal::BadRequest))
            }
            Ok(BodyStep::NeedMore { consumed }) => (consumed, Flow::Wait),
            Ok(BodyStep::End { consumed }) => (consumed, self.body_end(now, worker, out)),
            Ok(BodyStep::Data { range, consumed }) => {
                let at = offset + range.start;
                let data = bytes.get(range).unwrap_or_default();
                (consumed, self.body_data(data, at, now, worker, out))
            }
        }
    }

    fn body_data<J: Journal>(
        &mut self,
        data: &[u8],
        offset: usize,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let Some(exchange) = &mut self.exchange else { return Flow::Refuse(Refusal::BadRequest) };
        exchange.bytes_in += data.len() as u64;
        if self.request == Request::Discard {
            return Flow::On;
        }
        if let Some(left) = &mut exchange.body_left {
            *left = left.saturating_sub(data.len() as u64);
        }
        let snapshot = Rc::clone(&exchange.snapshot);
        let max = exchange
            .resource
            .and_then(|id| snapshot.resource(id))
            .map_or(snapshot.limits.body_max, |view| view.body_max);
        if exchange.bytes_in > max {
            return Flow::Refuse(Refusal::BodyTooLarge);
        }
        let whole = exchange.body_left == Some(0);
        match self.request {
            Request::Gather => self.gather(data, offset, whole, &snapshot, now, worker, out),
            Request::Collect => match self.scan_model(data, whole) {
                Ok(()) => self.collect(data, whole, &snapshot, now, worker, out),
                Err(refusal) => Flow::Refuse(refusal),
            },
            _ => {
                if let Err(refusal) = self.scan_model(data, whole) {
                    return Flow::Refuse(refusal);
                }
                match self.forward_body(data, Some(offset), whole, now, worker, out) {
                    Ok(()) => Flow::On,
                    Err(refusal) => Flow::Refuse(refusal),
                }
            }
        }
    }

    /// A body whose model was decided on is read to its end: what does not hold up to the last
    /// byte is not sent to the last byte.
    fn scan_model(&mut self, data: &[u8], whole: bool) -> Result<(), Refusal> {
        let Some(exchange) = &self.exchange else { return Ok(()) };
        if !exchange.model_scan {
            return Ok(());
        }
        let end = |scan: &mut ModelScan| {
            if whole { scan.finish() } else { Ok(()) }
        };
        self.model
            .push(data)
            .and_then(|()| end(&mut self.model))
            .map_err(|_: ModelError| Refusal::BadRequest)
    }

    #[expect(clippy::too_many_arguments, reason = "one step of the leg, called from one place")]
    fn gather<J: Journal>(
        &mut self,
        data: &[u8],
        offset: usize,
        whole: bool,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let scanned =
            self.model.push(data).and_then(|()| if whole { self.model.finish() } else { Ok(()) });
        match scanned {
            Err(ModelError::Duplicate) => return Flow::Refuse(Refusal::BadRequest),
            Ok(()) if self.model.model() == Model::Pending => {
                let held = (self.held.len() + data.len()) as u64;
                if held > u64::from(snapshot.limits.lookahead_max)
                    || worker.lookahead + data.len() as u64 > snapshot.limits.lookahead_worker_max
                {
                    return Flow::Refuse(Refusal::BodyTooLarge);
                }
                self.held.extend_from_slice(data);
                self.count_held(worker);
                return Flow::On;
            }
            _ => {}
        }
        let readable = scanned.is_ok();
        if let Some(exchange) = &mut self.exchange {
            exchange.model_scan = readable && !whole;
        }
        self.request = Request::Forward;
        let flow = self.decide_on_model(readable, snapshot, now, worker, out);
        if matches!(flow, Flow::Refuse(_)) {
            return flow;
        }
        if self.request == Request::Collect {
            return self.collect(data, whole, snapshot, now, worker, out);
        }
        let mut before = std::mem::take(&mut self.held);
        let mut sent = Ok(());
        if !before.is_empty() {
            sent = self.forward_body(&before, None, false, now, worker, out);
        }
        before.clear();
        // Nothing else may be held between: the filter's own remainder went in there.
        if self.held.is_empty() {
            self.held = before;
        }
        match sent.and_then(|()| self.forward_body(data, Some(offset), whole, now, worker, out)) {
            Ok(()) => Flow::On,
            Err(refusal) => Flow::Refuse(refusal),
        }
    }

    fn decide_on_model<J: Journal>(
        &mut self,
        readable: bool,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let scan = std::mem::take(&mut self.model);
        let model = self.model_of(&scan, readable);
        let flow = self.decide(model, snapshot, now, worker, out);
        self.model = scan;
        flow
    }

    /// The model as an attribute of the request.
    pub(super) fn model_of<'s>(&self, scan: &'s ModelScan, readable: bool) -> Attr<'s> {
        // What the head calls something else, an upstream may read as something else.
        let json = Content::of(&self.content_type, Shape::Plain) == Content::Json;
        let readable = readable && !self.content_coded && (json || self.content_type.is_empty());
        match scan.model() {
            Model::Found if readable => Attr::Value(scan.name()),
            Model::Absent if readable => Attr::Absent,
            _ => Attr::Unreadable,
        }
    }

    /// Records body bytes in their cleared form and sends the bytes themselves, as far as the
    /// filter has settled them. `offset` is where `data` stands in the input of this call;
    /// without one it is copied.
    pub(super) fn forward_body<J: Journal>(
        &mut self,
        data: &[u8],
        offset: Option<usize>,
        whole: bool,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let subject = self.subject();
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadRequest) };
        let Some(grant) = &exchange.grant else { return Err(Refusal::Denied) };
        self.forwarded.clear();
        let forwarded = &mut self.forwarded;
        let admission = {
            self.stage.clear();
            let cleared = match &mut self.request_filter {
                Some(filter) => filter
                    .push(data, whole, &mut self.stage)
                    .map_err(|_| Refusal::UnsupportedBody)?,
                None => Cleared::pass(data.len(), &mut self.stage),
            };
            gate::admit(grant, subject, Kind::RequestBody, cleared, data, worker.books(), now)
                .map_err(|_| Refusal::Unrecordable)?
        };
        let wrap =
            Wrap { offset: offset.unwrap_or(0), chunked: exchange.upstream_chunked, detach: false };
        let settled = match &self.request_filter {
            None => data.len(),
            Some(_) if whole => data.len(),
            Some(filter) => {
                let fresh = filter.cleared().saturating_sub(exchange.bytes_sent);
                let fresh = usize::try_from(fresh).unwrap_or(usize::MAX);
                let from_held = fresh.min(self.held.len());
                forwarded.text(self.held.get(..from_held).unwrap_or_default());
                self.held.drain(..from_held);
                if self.held.is_empty() { (fresh - from_held).min(data.len()) } else { 0 }
            }
        };
        if whole && self.request_filter.is_some() {
            forwarded.text(&self.held);
            self.held.clear();
        }
        match offset {
            Some(_) => forwarded.source(0..settled),
            None => forwarded.text(data.get(..settled).unwrap_or_default()),
        }
        self.held.extend_from_slice(data.get(settled..).unwrap_or_default());
        let limits = &exchange.snapshot.limits;
        let (each, all) = (u64::from(limits.lookahead_max), limits.lookahead_worker_max);
        exchange.bytes_sent += forwarded.len() as u64;
        out.push_upstream(admission.forward(forwarded, wrap));
        let before = self.counted;
        self.count_held(worker);
        // Whoever holds less than before is let go on, also where all hold too much.
        let more = self.counted > before;
        if self.counted > each || (more && worker.lookahead > all) {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(())
    }

    fn body_end<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) -> Flow {
        if self.request == Request::Discard {
            self.request = Request::Done;
            self.finish(now, worker, out);
            return Flow::On;
        }
        let Some(exchange) = &mut self.exchange else { return Flow::Refuse(Refusal::BadRequest) };
        let snapshot = Rc::clone(&exchange.snapshot);
        // A counted body was finished with its last data; any other is whole from here on.
        let counted = exchange.body_left.replace(0) == Some(0);
        if self.request == Request::Gather {
            // Chunked: only the last chunk says that the body is whole.
            let readable = self.model.finish().is_ok();
            self.request = Request::Forward;
            let flow = self.decide_on_model(readable, &snapshot, now, worker, out);
            if matches!(flow, Flow::Refuse(_)) {
                return flow;
            }
            if self.request == Request::Collect {
                return self.petition(&snapshot, now, worker, out);
            }
            let before = std::mem::take(&mut self.held);
            if let Err(refusal) = self.forward_body(&before, None, true, now, worker, out) {
                return Flow::Refuse(refusal);
            }
        } else {
            if exchange.model_scan && !counted && self.model.finish().is_err() {
                return Flow::Refuse(Refusal::BadRequest);
            }
            if self.request == Request::Collect {
                return self.petition(&snapshot, now, worker, out);
            }
            if !counted
                && self.request_filter.is_some()
                && let Err(refusal) = self.forward_body(b"", None, true, now, worker, out)
            {
                return Flow::Refuse(refusal);
            }
        }
        let Some(exchange) = &mut self.exchange else { return Flow::Wait };
        if exchange.upstream_chunked
            && let Some(grant) = &exchange.grant
        {
            let text = crate::wire::http1::LAST_CHUNK;
            out.push_upstream(gate::admit_framing(grant, &mut self.stage, text));
        }
        exchange.sent_ns = now.mono_ns;
        self.request = Request::Done;
        if self.answer == Answer::Done {
            self.finish(now, worker, out);
        }
        Flow::On
    }
}
