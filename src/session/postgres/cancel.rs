//! Cancelling: the key that a caller is given, and what is done when it is shown.
//!
//! The key is the gateway's own, so that the server's never leaves it. Who shows it by another
//! connection cancels what its session has in hand, and nothing else: the server hears of it by a
//! connection beside the session's, with the key that it gave the gateway.

use super::refuse::Denied;
use super::{Phase, Session};
use crate::base::Now;
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::cancels::SECRET_LEN;
use crate::session::gate;
use crate::session::io::{Act, Out};
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::postgres::write;

impl Session {
    /// Gives the caller its key, where the server gave one; appends the message.
    pub(super) fn give_key(&mut self, to: &mut Vec<u8>) {
        let (Some((cancels, name)), Some(random)) = (&self.opened.cancels, self.opened.random)
        else {
            return;
        };
        if self.upstream_key.is_none() {
            return;
        }
        let Some((near, secret)) = random.split_first_chunk::<4>() else { return };
        let Some(secret) = secret.first_chunk::<SECRET_LEN>() else { return };
        let len = if self.minor >= 2 { SECRET_LEN } else { SHORT_LEN };
        let key = cancels.give(u32::from_be_bytes(*near), *secret, len, *name);
        write::key(key.pid(), secret.get(..len).unwrap_or_default(), to);
        self.key = Some(key);
    }

    /// A request to cancel: says nothing, whether there is such a session or not.
    pub(super) fn ask_cancel<J: Journal>(
        &mut self,
        pid: u32,
        secret: &[u8],
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let from = self.opened.caller.ip();
        let known = !worker.is_spent(from, now)
            && self.opened.cancels.as_ref().is_some_and(|(cancels, _)| cancels.ask(pid, secret));
        if !known {
            worker.spend(from, now);
        }
        tracing::debug!(connection = self.opened.connection.0, known, "asked to cancel");
        self.phase = Phase::Closed;
        out.act(Act::CloseCaller { linger: false });
    }

    /// Somebody showed this session's key: what is in hand is cancelled at the server.
    pub(super) fn on_cancel<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.is_held() {
            let detail = "The statement was canceled while it waited for an approval";
            let denied = Denied { code: Some("57014"), ..Denied::of(Refusal::BadRequest, detail) };
            return self.end_hold(denied, true, now, worker, out);
        }
        // It waits for a session of its own.
        if self.parked.is_some() && !self.is_home() && !matches!(self.phase, Phase::Ready) {
            let detail = "The statement was canceled before it was sent";
            let denied = Denied { code: Some("57014"), ..Denied::of(Refusal::BadRequest, detail) };
            return self.beside_failed(denied, now, worker, out);
        }
        if matches!(self.phase, Phase::Ready) && !self.cycles.is_empty() {
            self.cancel_at_server(now, worker, out);
        }
    }

    /// Asks the server to cancel what it runs.
    pub(super) fn cancel_at_server<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let (Some(login), Some((pid, secret))) = (&self.login, &self.upstream_key) else { return };
        let subject = self.subject(false);
        self.facts.clear();
        Writer::new(&mut self.facts).text(Tag::Method, "cancel");
        let noted = gate::note(subject, Kind::Admin, &self.facts, false, worker.books(), now);
        let said = login.say(&mut self.stage, |to| {
            write::cancel(*pid, secret, to);
            noted
        });
        if let Ok(admitted) = said {
            out.push_side(admitted);
            out.act(Act::Cancel { exchange: self.serves.exchange });
        }
    }
}

/// Bytes of a secret in protocol 3.0.
const SHORT_LEN: usize = 4;
