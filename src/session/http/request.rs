//! The request leg up to the forwarded head: who, decision, record, credential.

use super::escape::{clear_escaped, clear_head};
use super::head::{self, Slots};
use super::hold::Hold;
use super::own::{Own, is_own};
use super::{Answer, Exchange, Framed, Request, Session};
use crate::base::{CredentialId, Now, ResourceId, RuleId};
use crate::mask::{Cleared, Content, Plan, Shape};
use crate::policy::{Action, Attr, Decision, Durable, Grant, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::asserted::Said;
use crate::session::gate;
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::{Snapshot, Unidentified, Worker};
use crate::wire::http1::{BodyDecoder, FieldId, Form, Framing, parse_request, route};
use std::rc::Rc;
use std::sync::Arc;

/// The fields by which a caller says what it works for.
const ASSERTED: [(&[u8], Said); 3] = [
    (b"x-weirgate-node", Said::Node),
    (b"x-weirgate-run", Said::Run),
    (b"x-weirgate-thread", Said::Thread),
];

/// What a step of the request leg came to.
pub(super) enum Flow {
    /// There may be more in the bytes at hand.
    On,
    /// Wait for more bytes, or for the answer.
    Wait,
    /// The exchange is refused.
    Refuse(Refusal),
}

impl Session {
    pub(super) fn on_caller<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let flow = match self.request {
                Request::Head if self.exchange.is_none() => self.on_head(rest, now, worker, out),
                Request::Gather | Request::Collect | Request::Forward | Request::Discard => {
                    self.on_body(rest, used, now, worker, out)
                }
                Request::Held => {
                    if let Some(hold) = self.hold.as_mut().filter(|_| !rest.is_empty()) {
                        hold.on_stray();
                    }
                    (0, Flow::Wait)
                }
                Request::Head | Request::Done => (0, Flow::Wait),
            };
            used += flow.0;
            match flow.1 {
                Flow::On if !self.closed => {}
                Flow::On | Flow::Wait => return used,
                Flow::Refuse(refusal) => {
                    self.refuse(refusal, now, worker, out);
                    // What follows in the pipeline is looked at in a call of its own.
                    return if self.closed { bytes.len() } else { used };
                }
            }
        }
    }

    fn on_head<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> (usize, Flow) {
        if bytes.is_empty() {
            return (0, Flow::Wait);
        }
        let since = *self.head_since_ns.get_or_insert(now.mono_ns);
        let snapshot = Rc::clone(&worker.snapshot);
        match parse_request(&mut self.head, &mut self.head_scan, bytes, &snapshot.limits) {
            Ok(false) => (0, Flow::Wait),
            Err(error) => {
                tracing::info!(connection = self.connection.0, reason = error.label(), "bad head");
                (bytes.len(), Flow::Refuse(head::refusal_of(error.status())))
            }
            Ok(true) => {
                let used = self.head.head_len as usize;
                let id = worker.next_exchange();
                self.exchange = Some(Exchange {
                    id,
                    snapshot: Rc::clone(&snapshot),
                    who: None,
                    resource: None,
                    grant: None,
                    credential: CredentialId(0),
                    rule: None,
                    started_ns: since,
                    sent_ns: 0,
                    held_ns: 0,
                    version_minor: self.head.version_minor,
                    keep_alive: self.head.keep_alive,
                    is_head: self.head.method(bytes) == b"HEAD",
                    repeatable: false,
                    opened: false,
                    welcomed: false,
                    model_scan: false,
                    body_left: match self.head.framing {
                        Framing::Length(length) => Some(length),
                        Framing::None => Some(0),
                        _ => None,
                    },
                    upstream_chunked: self.head.framing == Framing::Chunked,
                    upstream_open: false,
                    upstream_keep: true,
                    framed: Framed::Length,
                    interim: 0,
                    status: 0,
                    bytes_in: 0,
                    bytes_sent: 0,
                    bytes_out: 0,
                    cut: false,
                });
                self.body = Some(BodyDecoder::new(self.head.framing, &snapshot.limits));
                let head_bytes = bytes.get(..used).unwrap_or_default();
                let began = self.begin(head_bytes, &snapshot, now, worker);
                self.head_since_ns = None;
                if began.is_ok() && self.could_ask(&snapshot) {
                    self.hold = Some(Box::new(Hold::new(head_bytes)));
                }
                let flow = match (began, self.own.take()) {
                    (Err(refusal), _) => Flow::Refuse(refusal),
                    (Ok(()), Some(own)) => self.ask_own(own, &snapshot, now, worker, out),
                    (Ok(()), None) if self.request == Request::Gather => {
                        out.head_read();
                        self.welcome(out)
                    }
                    (Ok(()), None) => self.decide(Attr::Absent, &snapshot, now, worker, out),
                };
                (used, flow)
            }
        }
    }

    /// Who calls what: everything that the head alone tells. Leaves the leg in `Gather` when a
    /// rule asks for the model of a body, in `Forward` otherwise.
    pub(super) fn begin<J: Journal>(
        &mut self,
        bytes: &[u8],
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(), Refusal> {
        self.request = Request::Forward;
        if worker.refuses_work() {
            return Err(Refusal::Unrecordable);
        }
        if self.head.upgrade {
            return Err(Refusal::NotImplemented);
        }
        // Nothing of an exchange before may stand in the record of this one.
        self.path.clear();
        self.method.clear();
        self.asserted.clear();
        if self.head.value(bytes, FieldId::Weirgate).is_some() {
            for (name, said) in ASSERTED {
                let value = self.head.single(bytes, name).map_err(|_| Refusal::BadRequest)?;
                self.asserted.set(said, value.unwrap_or_default());
            }
        }
        let listener = snapshot.listener(self.listener).ok_or(Refusal::NoResource)?;
        let host = head::host_name(&self.head, bytes);
        if !head::is_served(host, self.server_name.as_deref(), &listener.hosts) {
            return Err(Refusal::Misdirected);
        }
        let token = match head::token(&self.head, bytes) {
            Slots::One(token) => token,
            Slots::None | Slots::Several => return Err(Refusal::Unauthenticated),
        };
        let identified = match worker.identify(token, self.caller.ip(), now) {
            Ok(identified) => identified,
            Err(Unidentified::Token(error)) => {
                let (connection, reason) = (self.connection.0, error.label());
                tracing::info!(connection, reason, "token refused");
                return Err(Refusal::Unauthenticated);
            }
            Err(Unidentified::Spent) => return Err(Refusal::TooManyFailures),
        };
        self.method.extend_from_slice(self.head.method(bytes));
        if self.head.target.form == Form::Asterisk && listener.resource.is_none() {
            self.set_who(identified);
            return Err(Refusal::BadRequest);
        }
        if is_own(&self.head.target.path) {
            self.set_who(identified);
            self.path.extend_from_slice(&self.head.target.path);
            self.own = Some(Own::of(&self.method, &self.path, self.head.framing)?);
            return Ok(());
        }
        let (resource, path) = match listener.resource {
            Some(resource) => (resource, self.head.target.path.as_slice()),
            None => {
                let (name, path) = route(self.head.target.path.as_slice());
                let name = std::str::from_utf8(name).unwrap_or_default();
                let found = snapshot.names.get(name).copied();
                let Some(found) = found else {
                    self.set_who(identified);
                    self.path.extend_from_slice(self.head.target.path.as_slice());
                    return Err(Refusal::NoResource);
                };
                (found, path)
            }
        };
        // Servers read these in more than one way (merged, cut at `;`), rules in one.
        self.path.extend_from_slice(path);
        if head::is_ambiguous(path) {
            self.set_who(identified);
            return Err(Refusal::BadRequest);
        }
        let reads_model = snapshot.policy.reads_model(&identified.1.row, resource);
        self.set_who(identified);
        let view = snapshot.resource(resource).ok_or(Refusal::NoResource)?;
        if let Some(exchange) = &mut self.exchange {
            exchange.resource = Some(resource);
            if exchange.body_left.is_some_and(|length| length > view.body_max) {
                return Err(Refusal::BodyTooLarge);
            }
            exchange.repeatable =
                exchange.body_left == Some(0) && head::is_idempotent(&self.method);
        }
        self.content_type.clear();
        self.content_type.extend_from_slice(head::content_type(&self.head, bytes));
        self.content_coded = self.head.value(bytes, FieldId::ContentEncoding).is_some();
        head::write_upstream(
            &self.head,
            bytes,
            &self.path,
            view,
            &snapshot.credentials,
            &mut self.head_out,
            &mut self.range_out,
        );
        if reads_model && self.head.framing != Framing::None {
            self.model.reset();
            self.held.clear();
            self.request = Request::Gather;
        }
        Ok(())
    }

    /// Whether some rule could ask for an approval of what this caller asks of the resource.
    fn could_ask(&self, snapshot: &Snapshot) -> bool {
        let Some(exchange) = &self.exchange else { return false };
        let known = exchange.who.as_ref().zip(exchange.resource);
        known.is_some_and(|((_, known), resource)| snapshot.policy.could_ask(&known.row, resource))
    }

    fn set_who(&mut self, who: crate::session::worker::Identified) {
        if let Some(exchange) = &mut self.exchange {
            exchange.who = Some(who);
        }
    }

    /// Says `100 Continue` to a caller that waits for it.
    pub(super) fn welcome(&mut self, out: &mut Out) -> Flow {
        let Some(exchange) = &mut self.exchange else { return Flow::On };
        if self.head.expect_continue && exchange.version_minor == 1 && !exchange.welcomed {
            exchange.welcomed = true;
            let text = b"HTTP/1.1 100 Continue\r\n\r\n";
            out.push_caller(gate::release_framing(&mut self.stage, text));
        }
        Flow::On
    }

    /// Step two of the gate, and with a permit all that follows up to the forwarded head.
    pub(super) fn decide<J: Journal>(
        &mut self,
        model: Attr<'_>,
        snapshot: &Arc<Snapshot>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let Some(decision) = self.weigh(model, snapshot) else {
            return Flow::Refuse(Refusal::Unauthenticated);
        };
        let grant = match decision {
            Decision::Hold(need) => {
                return self.hold_back(need, model, snapshot, now, worker, out);
            }
            Decision::Permit(grant) => grant,
            Decision::Deny(denial) => {
                return Flow::Refuse(self.denied(denial.rule, model, snapshot, now, worker));
            }
        };
        self.hold = None;
        let plan = snapshot.plans.united(grant.masks());
        let gone = self
            .hand_over(grant, snapshot, worker)
            .and_then(|()| self.note_open("permit", model, &plan, now, worker))
            .and_then(|()| self.set_off(&plan, snapshot, now, worker, out));
        match gone {
            Err(refusal) => Flow::Refuse(refusal),
            Ok(()) if self.request == Request::Forward => self.welcome(out),
            Ok(()) => Flow::On,
        }
    }

    /// What the policy says to the request, as far as it is known who calls what.
    pub(super) fn weigh(&self, model: Attr<'_>, snapshot: &Snapshot) -> Option<Decision> {
        let exchange = self.exchange.as_ref()?;
        let ((principal, known), resource) = exchange.who.as_ref().zip(exchange.resource)?;
        let action = Action {
            resource,
            method: &self.method,
            path: &self.path,
            model,
            sql: None,
            asserted: self.asserted.lend(),
        };
        Some(gate::decide(&snapshot.policy, principal, &known.row, &action))
    }

    fn denied<J: Journal>(
        &mut self,
        rule: Option<RuleId>,
        model: Attr<'_>,
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Refusal {
        let Some(exchange) = &mut self.exchange else { return Refusal::BadRequest };
        exchange.rule = rule;
        let Some(((_, known), resource)) = exchange.who.as_ref().zip(exchange.resource) else {
            return Refusal::Unauthenticated;
        };
        worker.counts.decided(resource, false);
        let masks = snapshot.policy.masks_of(&known.row, Some(resource));
        let plan = snapshot.plans.united(masks);
        self.note_open("deny", model, &plan, now, worker).err().unwrap_or(Refusal::Denied)
    }

    /// A grant is the exchange's from here on.
    fn hand_over<J>(
        &mut self,
        grant: Grant,
        snapshot: &Snapshot,
        worker: &mut Worker<J>,
    ) -> Result<(), Refusal> {
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadRequest) };
        let resource = grant.resource();
        worker.counts.decided(resource, true);
        // The disk would never get to where the rule wants it.
        if grant.durable() == Durable::Each && worker.record_full {
            return Err(Refusal::Unrecordable);
        }
        exchange.rule = Some(grant.rule());
        let view = snapshot.resource(resource).ok_or(Refusal::NoResource)?;
        exchange.credential = grant.credential().unwrap_or(view.credential);
        exchange.grant = Some(grant);
        Ok(())
    }

    /// Filters, then the head.
    fn set_off<J: Journal>(
        &mut self,
        plan: &Arc<Plan>,
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let grant = self.exchange.as_ref().and_then(|exchange| exchange.grant.as_ref());
        let Some((level, resource)) = grant.map(|grant| (grant.record(), grant.resource())) else {
            return Err(Refusal::Denied);
        };
        let view = snapshot.resource(resource).ok_or(Refusal::NoResource)?;
        self.arm(plan, view.shape, level, snapshot, worker)?;
        self.send_head(plan, snapshot, now, worker, out)
    }

    /// All that follows the permit of a request that was held, up to the forwarded head.
    pub(super) fn permitted<J: Journal>(
        &mut self,
        grant: Grant,
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        let plan = snapshot.plans.united(grant.masks());
        self.hand_over(grant, snapshot, worker)?;
        self.set_off(&plan, snapshot, now, worker, out)
    }

    /// Who, what, why: the entry that every exchange of a known caller begins with, written
    /// once. `Denied` when the mask blocks what would be written of a permitted one; of a refused
    /// one it says only that it was blocked.
    pub(super) fn note_open<J: Journal>(
        &mut self,
        decision: &str,
        model: Attr<'_>,
        plan: &Arc<Plan>,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(), Refusal> {
        let subject = self.subject();
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        let Some((_, known)) = &exchange.who else { return Ok(()) };
        if exchange.opened {
            return Ok(());
        }
        let snapshot = Rc::clone(&exchange.snapshot);
        self.text.clear();
        let mut blocked = clear_escaped(plan, &self.path, false, &mut self.text).is_err();
        let path_len = self.text.len();
        if let Attr::Value(name) = model {
            blocked |= crate::mask::clear_value(plan, name, &mut self.text).is_err();
        }
        if blocked {
            if exchange.grant.take().is_some() {
                // The refusal that follows writes the entry.
                return Err(Refusal::Denied);
            }
            self.text.clear();
        }
        let path_len = path_len.min(self.text.len());
        let as_it_came = |text: &[u8]| match model {
            Attr::Value(name) => text.strip_prefix(self.path.as_slice()) == Some(name),
            _ => text == self.path.as_slice(),
        };
        let mut shows = blocked || !as_it_came(&self.text);
        let (path, model) = self.text.split_at_checked(path_len).unwrap_or_default();
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.fields(&known.facts);
        writer.text(Tag::Peer, &self.peer);
        if let Some(listener) = snapshot.listener(self.listener) {
            writer.text(Tag::Listener, &listener.name);
        }
        if let Some(view) = exchange.resource.and_then(|id| snapshot.resource(id)) {
            writer.text(Tag::Resource, &view.name);
        }
        writer.text(Tag::Protocol, "http");
        shows |= self.asserted.write(plan, &mut self.decoded, &mut writer);
        writer.bytes(Tag::Method, &self.method);
        writer.bytes(Tag::Path, if blocked { BLOCKED } else { path });
        if !model.is_empty() {
            writer.bytes(Tag::Model, model);
        }
        writer.text(Tag::Decision, decision);
        if let Some(rule) = exchange.rule {
            writer.text(Tag::Rule, snapshot.policy.rule_name(rule));
        }
        if exchange.grant.is_some()
            && let Some(credential) = snapshot.credential(exchange.credential)
        {
            writer.text(Tag::Credential, credential.name());
        }
        if subject.level != RecordLevel::Full {
            writer.text(Tag::Level, "meta");
        }
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        gate::note(subject, Kind::Open, &self.facts, shows, worker.books(), now)
            .map_err(|_| Refusal::Unrecordable)?;
        exchange.opened = true;
        Ok(())
    }

    /// Makes the filters of the exchange ready, or says that its mask cannot be kept.
    fn arm<J: Journal>(
        &mut self,
        plan: &Arc<Plan>,
        shape: Shape,
        level: RecordLevel,
        snapshot: &Snapshot,
        worker: &mut Worker<J>,
    ) -> Result<(), Refusal> {
        debug_assert!(self.request_filter.is_none() && self.answer_filter.is_none());
        if plan.is_pass() || level != RecordLevel::Full || self.head.framing == Framing::None {
            return Ok(());
        }
        if self.content_coded {
            return Err(Refusal::UnsupportedBody);
        }
        let content = Content::of(&self.content_type, shape);
        let filter = worker.take_filter(plan, content, &snapshot.limits);
        self.request_filter = Some(filter.map_err(|_| Refusal::UnsupportedBody)?);
        Ok(())
    }

    /// Steps three to six: the head is recorded in its cleared form, the credential is put in,
    /// and it goes.
    fn send_head<J: Journal>(
        &mut self,
        plan: &Arc<Plan>,
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Result<(), Refusal> {
        if plan.is_pass() {
            self.head_out.extend_from_slice(&self.range_out);
        }
        let subject = self.subject();
        let Some(exchange) = &mut self.exchange else { return Err(Refusal::BadRequest) };
        let (Some(grant), Some(resource)) = (&exchange.grant, exchange.resource) else {
            return Err(Refusal::Denied);
        };
        let credential = snapshot.credential(exchange.credential).ok_or(Refusal::Denied)?;
        self.text.clear();
        clear_head(plan, &self.head_out, &mut self.text).map_err(|_| Refusal::Denied)?;
        self.stage.clear();
        self.stage.text(&self.text);
        let changed = self.text != self.head_out;
        let cleared = Cleared::generated_masked(&mut self.stage, changed);
        let books = worker.books();
        let admission = gate::admit(grant, subject, Kind::RequestHead, cleared, b"", books, now)
            .map_err(|_| Refusal::Unrecordable)?;
        out.act(Act::Connect {
            exchange: exchange.id,
            resource,
            credential: exchange.credential,
            generation: snapshot.generation,
            fresh: false,
        });
        out.push_upstream(admission.forward_head(
            &self.head_out,
            grant,
            credential,
            &mut self.stage,
        ));
        exchange.upstream_open = true;
        exchange.sent_ns = now.mono_ns;
        self.answer = Answer::Head;
        self.answer_scan = crate::wire::http1::HeadScan::default();
        if self.head.framing == Framing::None {
            self.request = Request::Done;
        }
        Ok(())
    }

    /// Sends the head once more, on a fresh connection, after a pooled one died unused.
    pub(super) fn repeat<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        let subject = self.subject();
        let Some(exchange) = &mut self.exchange else { return false };
        if !exchange.repeatable || self.answer != Answer::Head || self.request != Request::Done {
            return false;
        }
        exchange.repeatable = false;
        let snapshot = Rc::clone(&exchange.snapshot);
        let (Some(grant), Some(resource), Some(credential)) =
            (&exchange.grant, exchange.resource, snapshot.credential(exchange.credential))
        else {
            return false;
        };
        let plan = snapshot.plans.united(grant.masks());
        self.text.clear();
        if clear_head(&plan, &self.head_out, &mut self.text).is_err() {
            return false;
        }
        self.answer_scan = crate::wire::http1::HeadScan::default();
        self.stage.clear();
        self.stage.text(&self.text);
        let changed = self.text != self.head_out;
        let cleared = Cleared::generated_masked(&mut self.stage, changed);
        let kind = Kind::RequestHead;
        let Ok(admission) = gate::admit(grant, subject, kind, cleared, b"", worker.books(), now)
        else {
            return false;
        };
        out.act(Act::Release { exchange: exchange.id, reuse: false });
        out.act(Act::Connect {
            exchange: exchange.id,
            resource,
            credential: exchange.credential,
            generation: snapshot.generation,
            fresh: true,
        });
        out.push_upstream(admission.forward_head(
            &self.head_out,
            grant,
            credential,
            &mut self.stage,
        ));
        exchange.sent_ns = now.mono_ns;
        true
    }

    /// The resource of the exchange in hand.
    pub(super) fn resource(&self) -> Option<ResourceId> {
        self.exchange.as_ref().and_then(|exchange| exchange.resource)
    }
}

/// Stands for a path that the mask blocks.
const BLOCKED: &[u8] = b"[BLOCKED]";
