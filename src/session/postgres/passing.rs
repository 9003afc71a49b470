//! The way of a message to the server: recorded, and let go under a grant.

use super::Session;
use super::caller::Bytes;
use crate::base::Now;
use crate::mask::Cleared;
use crate::policy::Grant;
use crate::record::{Journal, Kind};
use crate::session::gate::{self, Wrap};
use crate::session::io::Out;
use crate::session::worker::Worker;
use std::rc::Rc;

impl Session {
    /// Lets a message go that needs no decision of its own, in the cycle that it may begin.
    pub(super) fn pass<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.cycles.current(now);
        self.pass_link(message, now, worker, out);
    }

    /// Lets a message go that belongs to what was sent before.
    pub(super) fn pass_link<J: Journal>(
        &mut self,
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some((grant, _)) = self.opener() else { return };
        self.pass_under(&grant, message, None, now, worker, out);
    }

    /// Records a message, as `shown` where a mask changes what is recorded, and lets it go as it is
    /// under a grant. It counts for the cycle that was begun last.
    pub(super) fn pass_under<J: Journal>(
        &mut self,
        grant: &Rc<Grant>,
        message: Bytes<'_>,
        shown: Option<Vec<u8>>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let bytes = message.get();
        if let Some(cycle) = self.cycles.last() {
            cycle.begun = true;
            cycle.bytes_in += bytes.len() as u64;
        }
        let subject = self.subject(true);
        self.stage.clear();
        let cleared = match &shown {
            None => Cleared::pass(bytes.len(), &mut self.stage),
            Some(shown) => {
                self.stage.text(shown);
                Cleared::generated_masked(&mut self.stage, true)
            }
        };
        let kind = Kind::RequestBody;
        let books = worker.books();
        match gate::admit(grant, subject, kind, cleared, bytes, books, now) {
            Ok(admission) => {
                self.stage.clear();
                self.stage.source(0..bytes.len());
                let offset = match message {
                    Bytes::Shown(_, offset) => offset,
                    Bytes::Kept(bytes) => {
                        self.stage.detach(bytes);
                        0
                    }
                };
                let wrap = Wrap { offset, ..Wrap::default() };
                out.push_upstream(admission.forward(&mut self.stage, wrap));
            }
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// A message of the gateway's own goes up, in the cycle that was begun last.
    pub(super) fn say_last<J: Journal>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let Some((grant, _)) = self.opener() else { return };
        let subject = self.subject(true);
        self.stage.clear();
        self.stage.write_with(write);
        let cleared = Cleared::generated(&mut self.stage);
        let kind = Kind::RequestBody;
        match gate::admit(&grant, subject, kind, cleared, b"", worker.books(), now) {
            Ok(admission) => {
                out.push_upstream(admission.forward(&mut self.stage, Wrap::default()));
            }
            Err(_) => self.unrecordable(now, worker, out),
        }
    }

    /// A message of the gateway's own goes up.
    pub(super) fn say_up<J: Journal>(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>),
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        self.cycles.current(now).begun = true;
        self.say_last(write, now, worker, out);
    }
}

/// A message of the gateway's own writing.
pub(super) fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}
