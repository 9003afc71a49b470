//! The start of a connection: the start-up packet, the caller's token, the decision to connect.
//!
//! No parameter of the packet has any effect before the token was verified.

use super::attribution;
use super::beside::Serves;
use super::oauth;
use super::refuse::{self, Denied};
use super::settings::{self, Setting};
use super::{Phase, Session};
use crate::base::{Now, Secret};
use crate::mask::{Cleared, clear_value};
use crate::policy::{Decision, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::asserted::Asserted;
use crate::session::gate::{self, Wrap};
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::{Held, Identified, Unidentified, Worker};
use crate::wire::postgres::{FRAME_HEAD, Frontend, Opening, Startup, WireError};
use crate::wire::postgres::{frame, frontend, opening, write};
use std::rc::Rc;
use std::sync::Arc;

/// What the start-up packet asked for.
#[derive(Debug, Default)]
pub(super) struct Start {
    user: Vec<u8>,
    database: Vec<u8>,
    application: Vec<u8>,
    /// What `options` say of the work of the session.
    said: Asserted,
    /// Settings that go on to the upstream.
    pub(super) settings: Vec<(Vec<u8>, Vec<u8>)>,
    /// Why it cannot be kept, told once it is known who asks.
    refused: Option<&'static str>,
    /// The token comes by OAUTHBEARER.
    oauth: bool,
    /// It did not hold, and the caller is to confirm that it heard so.
    failed: Option<Refusal>,
}

impl Start {
    /// For another login with the same settings.
    pub(super) fn again(settings: &[(Vec<u8>, Vec<u8>)]) -> Self {
        Self { settings: settings.to_vec(), ..Self::default() }
    }

    fn read(packet: &Startup<'_>) -> Self {
        let mut start = Self::default();
        for (name, value) in packet.params() {
            start.take(name, value);
        }
        if start.database.is_empty() {
            start.database.clone_from(&start.user);
        }
        start
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"user" => self.user = value.to_vec(),
            b"database" => self.database = value.to_vec(),
            b"options" => match settings::options(value) {
                Some(pairs) => pairs.iter().for_each(|(name, value)| self.set(name, value)),
                None => self.refused = Some("The start-up parameter `options` is not understood."),
            },
            b"replication" => {
                if !matches!(value, b"false" | b"off" | b"no" | b"0") {
                    self.refused = Some("Replication is not offered.");
                }
            }
            // Options of the protocol were answered by its negotiation.
            name if name.starts_with(b"_pq_.") => {}
            name => self.set(name, value),
        }
    }

    fn set(&mut self, name: &[u8], value: &[u8]) {
        if let Some(said) = attribution::setting(name) {
            return self.said.set(said, value);
        }
        if name.eq_ignore_ascii_case(b"application_name") {
            self.application = value.to_vec();
        }
        match settings::judge(name, Some(value)) {
            Setting::Free => self.settings.push((name.to_vec(), value.to_vec())),
            Setting::Held => {}
            Setting::Refused => {
                self.refused = Some("A start-up parameter cannot be set through the gateway.");
            }
        }
    }
}

impl Session {
    /// The first packet. Returns how many bytes it was; 0: more are needed, or it is over.
    pub(super) fn on_opening<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let (packet, len) = match opening(bytes) {
            Ok(Some(found)) => found,
            Ok(None) => return 0,
            Err(error) => {
                let refusal = match error {
                    WireError::Version => Refusal::BadVersion,
                    _ => Refusal::BadRequest,
                };
                self.refuse_unknown(refusal, "", now, worker, out);
                return bytes.len();
            }
        };
        match packet {
            Opening::Startup(startup) => {
                let start = Start::read(&startup);
                self.negotiate(&startup, out);
                self.on_startup(start, now, worker, out);
            }
            // Encryption was negotiated before the session began.
            Opening::Ssl | Opening::Gss => {
                self.refuse_unknown(Refusal::BadRequest, "", now, worker, out);
            }
            Opening::Cancel { pid, secret } => self.ask_cancel(pid, secret, now, worker, out),
        }
        len
    }

    /// Tells a caller that speaks a later minor, or asks for options, what is spoken here.
    fn negotiate(&mut self, startup: &Startup<'_>, out: &mut Out) {
        self.minor = if startup.minor >= 2 { 2 } else { 0 };
        let mut options = startup.options_unknown().peekable();
        if startup.minor == self.minor && options.peek().is_none() {
            return;
        }
        let options: Vec<&[u8]> = options.collect();
        let minor = self.minor;
        out.push_caller(gate::release_negotiation(&mut self.stage, |to| {
            write::negotiate(minor, &options, to);
        }));
    }

    fn on_startup<J: Journal>(
        &mut self,
        mut start: Start,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let snapshot = Rc::clone(&worker.snapshot);
        let Some(listener) = snapshot.listener(self.opened.listener) else {
            return self.refuse_unknown(Refusal::NoResource, "", now, worker, out);
        };
        if listener.secure && !self.opened.secure {
            let detail = "This listener speaks TLS only; use sslmode=require or stronger.";
            return self.refuse_unknown(Refusal::Unauthenticated, detail, now, worker, out);
        }
        if let Some(principal) = self.opened.principal.take() {
            let who = worker.know(principal);
            return self.connect(start, who, now, worker, out);
        }
        // AuthenticationCleartextPassword.
        let plain: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
        let text = if listener.oauth { oauth::OFFER } else { plain };
        start.oauth = listener.oauth;
        out.push_caller(gate::release_framing(&mut self.stage, text));
        self.phase = Phase::Token(start);
    }

    /// The caller's token, as its password.
    pub(super) fn on_token<J: Journal>(
        &mut self,
        bytes: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> usize {
        let len_max = worker.snapshot.limits.token_max as usize + 64;
        let head = match frame(bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return 0,
            Err(_) => {
                self.refuse_unknown(Refusal::BadRequest, "", now, worker, out);
                return bytes.len();
            }
        };
        if head.tag != b'p' || head.len > len_max {
            self.refuse_unknown(Refusal::BadRequest, "", now, worker, out);
            return bytes.len();
        }
        let len = FRAME_HEAD + head.len;
        let Some(body) = bytes.get(FRAME_HEAD..len) else { return 0 };
        let Phase::Token(start) = &self.phase else { return bytes.len() };
        let (by_oauth, failed) = (start.oauth, start.failed);
        if let Some(refusal) = failed {
            let refusal = if body == oauth::CONFIRMED { refusal } else { Refusal::BadRequest };
            self.refuse_unknown(refusal, "", now, worker, out);
            return bytes.len();
        }
        let token = match frontend(head.tag, body) {
            Ok(Frontend::Secret(body)) if by_oauth => oauth::token(body),
            Ok(Frontend::Secret(text)) => text.strip_suffix(b"\0").filter(|t| !t.contains(&0)),
            _ => None,
        };
        let Some(token) = token else {
            self.refuse_unknown(Refusal::BadRequest, "", now, worker, out);
            return bytes.len();
        };
        if by_oauth && token.is_empty() {
            self.fail_oauth(Refusal::Unauthenticated, worker, out);
            return len;
        }
        match worker.identify(token, self.opened.caller.ip(), now) {
            Ok(who) => {
                self.token = Some(Secret::new(token.to_vec()));
                let Phase::Token(start) = std::mem::replace(&mut self.phase, Phase::Closed) else {
                    return bytes.len();
                };
                self.connect(start, who, now, worker, out);
            }
            Err(unidentified) => {
                let refusal = match unidentified {
                    Unidentified::Token(error) => {
                        let (connection, reason) = (self.opened.connection.0, error.label());
                        tracing::info!(connection, reason, "token refused");
                        Refusal::Unauthenticated
                    }
                    Unidentified::Spent => Refusal::TooManyFailures,
                };
                if by_oauth {
                    self.fail_oauth(refusal, worker, out);
                } else {
                    let detail = "The password is the token of your identity provider.";
                    self.refuse_unknown(refusal, detail, now, worker, out);
                }
            }
        }
        len
    }

    /// Tells a caller by OAUTHBEARER where it gets a token that holds; it confirms, and is refused.
    fn fail_oauth<J>(&mut self, refusal: Refusal, worker: &Worker<J>, out: &mut Out) {
        let snapshot = Rc::clone(&worker.snapshot);
        let issuer = snapshot.verifier.rules().first().map_or("", |rules| rules.issuer.as_str());
        let text = oauth::failure(issuer);
        out.push_caller(gate::release_negotiation(&mut self.stage, |to| {
            write::auth_continue(text.as_bytes(), to);
        }));
        if let Phase::Token(start) = &mut self.phase {
            start.failed = Some(refusal);
        }
    }

    /// Decides whether the caller may connect, records it, and asks for the upstream.
    fn connect<J: Journal>(
        &mut self,
        start: Start,
        who: Identified,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let snapshot = Rc::clone(&worker.snapshot);
        self.known_by = (snapshot.generation, worker.keys.generation);
        self.link = worker.next_exchange();
        self.serves = Serves::home(self.link);
        self.settings.clone_from(&start.settings);
        self.who = Some(who);
        let mut named = Asserted::default();
        attribution::application(&start.application, &mut named);
        self.said = start.said.over(&named);
        self.saying.clone_from(&self.said);
        if let Err(denied) = self.decide_connect(&start, &snapshot, now, worker) {
            return self.refuse_all(&denied, now, worker, out);
        }
        self.snapshot = Some(Rc::clone(&snapshot));
        if let Some(resource) = self.resource {
            out.act(Act::Connect {
                exchange: self.link,
                resource,
                credential: self.credential,
                generation: snapshot.generation,
                fresh: true,
            });
        }
        self.phase = Phase::Connecting(start);
    }

    fn decide_connect<J: Journal>(
        &mut self,
        start: &Start,
        snapshot: &Held,
        now: Now,
        worker: &mut Worker<J>,
    ) -> Result<(), Denied> {
        if worker.refuses_work() {
            return Err(Denied::of(Refusal::Unrecordable, ""));
        }
        if self.draining {
            return Err(Denied::of(Refusal::Overloaded, ""));
        }
        let pinned = snapshot.listener(self.opened.listener).and_then(|one| one.resource);
        let resource = pinned.or_else(|| {
            let name = std::str::from_utf8(&start.database).ok()?;
            snapshot.databases.get(name).copied()
        });
        let Some((principal, known)) = self.who.clone() else {
            return Err(Denied::of(Refusal::Unauthenticated, ""));
        };
        let decision = resource.map(|resource| {
            self.resource = Some(resource);
            gate::decide_connect(&snapshot.policy, &principal, &known.row, resource)
        });
        if let Some(resource) = resource {
            let permitted = matches!(decision, Some(Decision::Permit(_)));
            worker.counts.decided(resource, permitted);
        }
        let (grant, denied) = match decision {
            None => (None, Some(Denied::of(Refusal::NoResource, "No such database here."))),
            Some(Decision::Deny(denial)) => {
                (None, Some(Denied { rule: denial.rule, ..Denied::of(refuse::DENIED, "") }))
            }
            // No rule asks about connecting: it is asked about statements.
            Some(Decision::Hold(need)) => {
                let denied = Denied::of(refuse::DENIED, "");
                (None, Some(Denied { rule: Some(need.rule()), ..denied }))
            }
            Some(Decision::Permit(grant)) => match start.refused {
                Some(detail) => (None, Some(Denied::of(refuse::DENIED, detail))),
                None => (Some(grant), None),
            },
        };
        let rule = grant.as_ref().map(crate::policy::Grant::rule);
        let rule = rule.or_else(|| denied.as_ref().and_then(|denied| denied.rule));
        let view = resource.and_then(|id| snapshot.resource(id));
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.fields(&known.facts);
        writer.text(Tag::Peer, &self.peer);
        if let Some(listener) = snapshot.listener(self.opened.listener) {
            writer.text(Tag::Listener, &listener.name);
        }
        if let Some(view) = view {
            writer.text(Tag::Resource, &view.name);
        }
        writer.text(Tag::Protocol, "postgres");
        writer.text(Tag::Method, "connect");
        writer.bytes(Tag::Path, &start.database);
        writer.bytes(Tag::User, &start.user);
        let plan = snapshot.plans.united(snapshot.policy.masks_of(&known.row, resource));
        let mut shows = self.said.write(&plan, &mut Vec::new(), &mut writer);
        if !start.application.is_empty() {
            let mut name = Vec::new();
            let blocked = clear_value(&plan, &start.application, &mut name).is_err();
            writer.bytes(Tag::Application, if blocked { b"[BLOCKED]" } else { &name });
            shows |= blocked || name != start.application;
        }
        let decision = match &denied {
            None => "permit",
            Some(denied) if denied.refusal == refuse::DENIED => "deny",
            Some(_) => "refuse",
        };
        writer.text(Tag::Decision, decision);
        if let Some(denied) = &denied {
            writer.text(Tag::Refusal, denied.refusal.label());
        }
        writer.maybe(Tag::Rule, rule.map(|rule| snapshot.policy.rule_name(rule)));
        writer.bytes(Tag::PolicyDigest, &snapshot.policy.digest());
        self.connect = grant.map(Rc::new);
        self.arm(snapshot);
        let subject = self.link_subject();
        gate::note(subject, Kind::Open, &self.facts, shows, worker.books(), now)
            .map_err(|_| Denied::of(Refusal::Unrecordable, ""))?;
        self.noted = true;
        if let Some(denied) = denied {
            return Err(denied);
        }
        let view = view.ok_or_else(|| Denied::of(Refusal::NoResource, ""))?;
        let named = self.connect.as_ref().and_then(|grant| grant.credential());
        self.credential = named.unwrap_or(view.credential);
        Ok(())
    }

    /// Ends the connection of a caller that is not known, with an error that is only counted.
    pub(super) fn refuse_unknown<J: Journal>(
        &mut self,
        refusal: Refusal,
        detail: &'static str,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let id = worker.next_exchange();
        tracing::info!(request = %id, refusal = refusal.label(), "connection refused");
        let counted = worker.count_unknown(refusal, now);
        self.stage.clear();
        let denied = Denied::of(refusal, detail);
        self.stage.write_with(|to| refuse::error(&denied, true, None, id, to));
        let cleared = Cleared::generated(&mut self.stage);
        out.push_caller(gate::release_counted(cleared, counted));
        self.phase = Phase::Closed;
        out.act(Act::CloseCaller { linger: true });
    }

    /// Ends the whole connection with a fatal error, recorded.
    pub(super) fn refuse_all<J: Journal>(
        &mut self,
        denied: &Denied,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.who.is_none() {
            return self.refuse_unknown(denied.refusal, denied.detail, now, worker, out);
        }
        worker.count(denied.refusal);
        let snapshot = Arc::clone(&worker.snapshot);
        let rule = denied.rule.map(|rule| snapshot.policy.rule_name(rule));
        let id = self.link;
        tracing::info!(
            request = %id,
            refusal = denied.refusal.label(),
            rule = rule.unwrap_or("-"),
            "connection refused; `weirgate policy explain --request {id}` tells why"
        );
        let subject = gate::Subject { level: RecordLevel::Full, ..self.link_subject() };
        // A caller in the middle of a message would read the error as a part of it.
        let within = self.is_told_in_part();
        self.stage.clear();
        self.stage.write_with(|to| refuse::error(denied, true, rule, id, to));
        let cleared = Cleared::generated(&mut self.stage);
        let kind = Kind::ResponseBody;
        match gate::release(cleared, subject, kind, b"", Wrap::default(), worker.books(), now) {
            Ok(released) if !within => out.push_caller(released),
            Ok(_) | Err(_) => return self.end(true, now, worker, out),
        }
        self.end(false, now, worker, out);
    }
}
