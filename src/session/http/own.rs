//! The gateway's own paths on a data listener: what a caller sees of its requests for approval.
//!
//! `GET /.weirgate/approvals/ID` says where a request stands, `DELETE` takes it back. Only who asked
//! for it is told that there is one.

use super::head::{write_length, write_status};
use super::hold::Hold;
use super::request::Flow;
use super::{Answer, Request, Session};
use crate::base::{ApprovalId, MaskSet, Now, time_text};
use crate::mask::Cleared;
use crate::policy::Attr;
use crate::policy::approval::{self, Party};
use crate::record::{Journal, Kind};
use crate::session::approving::Petition;
use crate::session::gate::{self, Wrap};
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::{Snapshot, Worker};
use crate::wire::http1::Framing;
use serde_json::json;

/// What is asked of the gateway itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Own {
    id: ApprovalId,
    /// Take it back, do not only tell.
    take_back: bool,
}

/// Whether a canonical path is the gateway's own, on whatever listener.
pub(super) fn is_own(path: &[u8]) -> bool {
    path == b"/.weirgate" || path.starts_with(b"/.weirgate/")
}

impl Own {
    /// What a method and a path of the gateway's own ask for.
    pub(super) fn of(method: &[u8], path: &[u8], framing: Framing) -> Result<Self, Refusal> {
        let id = path.strip_prefix(b"/.weirgate/approvals/").and_then(|id| {
            let id = std::str::from_utf8(id).ok()?;
            ApprovalId::parse(id)
        });
        let id = id.ok_or(Refusal::NoResource)?;
        if !matches!(framing, Framing::None | Framing::Length(0)) {
            return Err(Refusal::BadRequest);
        }
        match method {
            b"GET" | b"HEAD" => Ok(Self { id, take_back: false }),
            b"DELETE" => Ok(Self { id, take_back: true }),
            _ => Err(Refusal::MethodNotAllowed),
        }
    }
}

impl Session {
    /// Asks the owner of approvals, who answers soon or not at all.
    pub(super) fn ask_own<J: Journal>(
        &mut self,
        own: Own,
        snapshot: &Snapshot,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> Flow {
        let plan = snapshot.plans.united(MaskSet::EMPTY);
        if let Err(refusal) = self.note_open("permit", Attr::Absent, &plan, now, worker) {
            return Flow::Refuse(refusal);
        }
        let exchange = self.exchange.as_ref();
        let Some((id, (principal, _))) =
            exchange.and_then(|exchange| Some((exchange.id, exchange.who.as_ref()?)))
        else {
            return Flow::Refuse(Refusal::Unauthenticated);
        };
        let petition = match own.take_back {
            true => Petition::TakeBack { id: own.id, who: Box::new(Party::of(principal)) },
            false => Petition::Look { id: own.id },
        };
        out.act(Act::Petition { exchange: id, petition: Box::new(petition) });
        self.hold = Some(Box::new(Hold::of_own(now.after_ms(ANSWER_MS))));
        self.request = Request::Held;
        Flow::Wait
    }

    /// What the owner of approvals has of the request that was asked about.
    pub(super) fn on_shown<J: Journal>(
        &mut self,
        found: Option<&approval::Request>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let asks = self.hold.as_ref().is_some_and(|hold| hold.is_own());
        if self.request != Request::Held || !asks {
            return;
        }
        let who = self.exchange.as_ref().and_then(|exchange| exchange.who.as_ref());
        let found = found.zip(who).filter(|(request, (principal, _))| {
            request.ask.who.is_same_caller(&Party::of(principal))
        });
        match found {
            None => self.refuse(Refusal::NoResource, now, worker, out),
            Some((request, _)) => self.tell_own(&view(request), now, worker, out),
        }
    }

    fn tell_own<J: Journal>(
        &mut self,
        text: &str,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let subject = self.subject();
        let keeps = !self.draining && !self.caller_ended;
        let Some(exchange) = &mut self.exchange else { return };
        exchange.keep_alive &= keeps;
        exchange.status = 200;
        let (keeps, is_head, id) = (exchange.keep_alive, exchange.is_head, exchange.id);
        self.stage.clear();
        self.stage.write_with(|to| {
            write_status(200, to);
            to.extend_from_slice(b"content-type: application/json\r\ncache-control: no-store\r\n");
            to.extend_from_slice(b"x-request-id: ");
            to.extend_from_slice(&id.hex());
            to.extend_from_slice(b"\r\n");
            write_length(text.len() as u64, to);
            if !keeps {
                to.extend_from_slice(b"connection: close\r\n");
            }
            to.extend_from_slice(b"\r\n");
            if !is_head {
                to.extend_from_slice(text.as_bytes());
            }
        });
        let cleared = Cleared::generated(&mut self.stage);
        let (kind, wrap) = (Kind::ResponseHead, Wrap::default());
        match gate::release(cleared, subject, kind, b"", wrap, worker.books(), now) {
            Ok(released) => out.push_caller(released),
            Err(_) => {
                worker.count(Refusal::Unrecordable);
                return self.abandon(now, worker, out);
            }
        }
        self.request = Request::Done;
        self.answer = Answer::Done;
        self.finish(now, worker, out);
    }
}

/// A request as its own caller sees it.
fn view(request: &approval::Request) -> String {
    let denial = request.denial().and_then(|vote| vote.reason.as_deref());
    json!({
        "id": request.id.to_string(),
        "state": request.state.label(),
        "resource": request.ask.resource,
        "rule": request.ask.rule,
        "scope": request.ask.terms.scope.label(),
        "summary": request.ask.summary,
        "requested_at": time_text(request.requested_ns),
        "deadline": time_text(request.deadline_ns),
        "uses_left": request.uses_left(),
        "reason": denial,
    })
    .to_string()
}

/// How long the owner of approvals may take to tell.
const ANSWER_MS: u64 = 5_000;
