//! How an exchange ends: by a refusal, by its whole answer, or cut; and what the connection does
//! then.

use super::{Answer, Request, Session, head};
use crate::base::{MaskSet, Now};
use crate::mask::{Cleared, Plan};
use crate::policy::{Attr, RecordLevel};
use crate::record::fields::{Tag, Writer};
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Subject, Wrap};
use crate::session::io::{Act, Out};
use crate::session::refusal::{Refusal, write_problem};
use crate::session::worker::Worker;
use crate::wire::http1::HeadScan;
use std::sync::Arc;

impl Session {
    /// Answers with a refusal, or cuts the answer when its head is out already.
    pub(super) fn refuse<J: Journal>(
        &mut self,
        refusal: Refusal,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        if self.answer == Answer::Body || self.answer == Answer::Done {
            worker.count(refusal);
            worker.counts.cuts += 1;
            tracing::warn!(connection = self.connection.0, refusal = refusal.label(), "answer cut");
            return self.abandon(now, worker, out);
        }
        let plan = self.plan_of_refusal(worker);
        if self.note_open("refuse", Attr::Absent, &plan, now, worker).is_err() {
            worker.count(Refusal::Unrecordable);
            return self.abandon(now, worker, out);
        }
        let id = match &mut self.exchange {
            Some(exchange) => {
                exchange.status = refusal.status();
                exchange.id
            }
            None => worker.next_exchange(),
        };
        let known = self.exchange.as_ref().is_some_and(|exchange| exchange.who.is_some());
        let linger = self.request != Request::Done;
        self.settle_request(worker);
        let keeps = known && self.may_discard(worker);
        let decided = self.exchange.as_ref().map(|exchange| (&exchange.snapshot, exchange.rule));
        let rule = decided.and_then(|(snapshot, rule)| Some(snapshot.policy.rule_name(rule?)));
        self.text.clear();
        let approval = self.hold.as_ref().and_then(|hold| hold.id());
        write_problem(refusal, &id.hex(), rule, approval, &mut self.text);
        self.stage.clear();
        let (text, is_head) =
            (&self.text, self.exchange.as_ref().is_some_and(|exchange| exchange.is_head));
        self.stage.write_with(|to| {
            head::write_refusal(refusal, id, approval, text.len(), keeps, to);
            if !is_head {
                to.extend_from_slice(text);
            }
        });
        tracing::info!(
            request = %id,
            refusal = refusal.label(),
            rule = rule.unwrap_or("-"),
            "refused; `weirgate policy explain --request {id}` tells why"
        );
        let subject = Subject { exchange: id, level: RecordLevel::Full, ..self.subject() };
        let cleared = Cleared::generated(&mut self.stage);
        if known {
            worker.count(refusal);
            let kind = Kind::ResponseHead;
            let wrap = Wrap::default();
            match gate::release(cleared, subject, kind, b"", wrap, worker.books(), now) {
                Ok(released) => out.push_caller(released),
                // Not even the refusal can be recorded: nothing is said.
                Err(_) => {
                    worker.count(Refusal::Unrecordable);
                    return self.abandon(now, worker, out);
                }
            }
        } else {
            let counted = worker.count_unknown(refusal, now);
            out.push_caller(gate::release_counted(cleared, counted));
        }
        self.answer = Answer::Done;
        if let Some(exchange) = &mut self.exchange {
            exchange.keep_alive &= keeps;
            exchange.upstream_keep = false;
        }
        if keeps && self.request != Request::Done {
            self.leave(worker, out);
            self.held.clear();
            self.count_held(worker);
            self.release_upstream(out);
            self.request = Request::Discard;
            return;
        }
        self.end_exchange(now, worker, out);
        if !keeps || self.draining {
            self.close(linger, out);
        } else {
            self.begin_anew(now);
        }
    }

    /// A request whose last byte came before its refusal is whole, whatever step refused it:
    /// there is nothing to discard, and its exchange ends with the refusal.
    pub(super) fn settle_request<J>(&mut self, worker: &mut Worker<J>) {
        let whole = self.exchange.as_ref().is_some_and(|exchange| exchange.body_left == Some(0));
        let held = self.request == Request::Held;
        let whole =
            whole && matches!(self.request, Request::Gather | Request::Collect | Request::Forward);
        if held || whole {
            self.held.clear();
            self.count_held(worker);
            self.request = Request::Done;
        }
    }

    /// The masks that a refusal's record goes through: all that any rule asks for on this caller
    /// and resource. What is refused is recorded as it would be if it were permitted.
    pub(super) fn plan_of_refusal<J>(&self, worker: &Worker<J>) -> Arc<Plan> {
        let known = self.exchange.as_ref().and_then(|exchange| {
            let (_, known) = exchange.who.as_ref()?;
            let masks = exchange.snapshot.policy.masks_of(&known.row, exchange.resource);
            Some((&exchange.snapshot, masks))
        });
        match known {
            Some((snapshot, masks)) => snapshot.plans.united(masks),
            None => worker.snapshot.plans.united(MaskSet::EMPTY),
        }
    }

    /// Whether the connection can go on behind a refusal: the framing is certain and what is
    /// left of the body is short.
    pub(super) fn may_discard<J>(&self, worker: &Worker<J>) -> bool {
        let Some(exchange) = &self.exchange else { return false };
        if !exchange.keep_alive || self.draining || self.caller_ended {
            return false;
        }
        // A caller that waits for `100 Continue` may send the body or not (RFC 9110, 10.1.1).
        if self.head.expect_continue && exchange.body_left != Some(0) && exchange.bytes_in == 0 {
            return false;
        }
        match self.request {
            Request::Done => true,
            Request::Head | Request::Discard | Request::Held => false,
            Request::Gather | Request::Collect | Request::Forward => {
                let max = u64::from(worker.snapshot.limits.linger_max);
                exchange.body_left.is_some_and(|left| left <= max)
            }
        }
    }

    pub(super) fn release_upstream(&mut self, out: &mut Out) {
        if let Some(exchange) = &mut self.exchange
            && exchange.upstream_open
        {
            exchange.upstream_open = false;
            let whole = self.request == Request::Done && self.answer == Answer::Done;
            out.act(Act::Release {
                exchange: exchange.id,
                reuse: exchange.upstream_keep && whole && !exchange.cut,
            });
        }
    }

    /// Writes the exchange's last entry and lets its upstream go.
    pub(super) fn end_exchange<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.leave(worker, out);
        self.release_upstream(out);
        self.held.clear();
        self.count_held(worker);
        // What no budget counts any more is not kept for the life of the connection either.
        self.held.shrink_to(HELD_KEPT);
        for pieces in [&mut self.stage, &mut self.forwarded] {
            pieces.clear();
            pieces.shrink_arena(HELD_KEPT);
        }
        self.echo.reset();
        worker.give_watch(self.watch.take());
        let subject = self.subject();
        let Some(exchange) = self.exchange.take() else { return };
        worker.counts.bytes[0] += exchange.bytes_in;
        worker.counts.bytes[1] += exchange.bytes_out;
        if let Some(filter) = &self.answer_filter {
            worker.counts.masked += filter.finds().total();
        }
        worker.give_filter(self.answer_filter.take());
        worker.give_filter(self.request_filter.take());
        if exchange.who.is_none() {
            return;
        }
        self.facts.clear();
        let mut writer = Writer::new(&mut self.facts);
        writer.number(Tag::Status, u64::from(exchange.status));
        writer.number(Tag::BytesIn, exchange.bytes_in);
        writer.number(Tag::BytesOut, exchange.bytes_out);
        writer.number(Tag::TotalNs, now.mono_ns.saturating_sub(exchange.started_ns));
        let whole = !exchange.cut && self.request == Request::Done;
        writer.text(Tag::Ending, if whole { "whole" } else { "cut" });
        // The exchange is over: where there is no room, its totals are lost, not its bytes.
        let _ = gate::note(subject, Kind::Close, &self.facts, false, worker.books(), now);
    }

    /// Both legs are done: close the books, then the connection, or begin anew.
    pub(super) fn finish<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        debug_assert!(self.answer == Answer::Done, "an exchange ends with its answer");
        let keep = self.request == Request::Done
            && !self.draining
            && !self.caller_ended
            && self.exchange.as_ref().is_some_and(|exchange| exchange.keep_alive);
        let linger = self.request != Request::Done;
        self.end_exchange(now, worker, out);
        if keep { self.begin_anew(now) } else { self.close(linger, out) }
    }

    pub(super) fn begin_anew(&mut self, now: Now) {
        self.request = Request::Head;
        self.answer = Answer::None;
        self.head_since_ns = None;
        self.last_ns = now.mono_ns;
        self.head_scan = HeadScan::default();
        self.body = None;
    }

    pub(super) fn close(&mut self, linger: bool, out: &mut Out) {
        self.closed = true;
        out.act(Act::CloseCaller { linger });
    }
}

/// Room for held bytes that a connection keeps between exchanges.
const HELD_KEPT: usize = 64 << 10;
