//! Wakes the connections of a worker that wait for the disk, and no others.
//!
//! The drain writes a byte into a socket when a worker's record has got further; one task of the
//! worker reads it and wakes who is on the list. One thread: no lock, no atomic.

use super::buffer::Class;
use super::reactor::{Descriptor, Reactor, TaskId};
use super::shared::Shared;
use super::sys::Work;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Who waits. A ring empties the list; who waits on registers anew.
#[derive(Debug, Default)]
pub(super) struct Bell {
    round: Cell<u64>,
    waiting: RefCell<Vec<TaskId>>,
}

impl Bell {
    /// Puts `task` on the list, once between two rings; `heard` is the caller's memory of it.
    /// Returns whether it was put there.
    pub(super) fn register(&self, task: TaskId, heard: &mut Option<u64>) -> bool {
        let round = self.round.get();
        if heard.replace(round) == Some(round) {
            return false;
        }
        self.waiting.borrow_mut().push(task);
        true
    }

    fn ring(&self, reactor: &Reactor) {
        self.round.set(self.round.get().wrapping_add(1));
        self.waiting.borrow_mut().drain(..).for_each(|task| reactor.wake(task));
    }
}

/// Rings the bell for whatever comes, until the worker stops. Many rings may be heard as one.
pub(super) async fn listen(stream: Descriptor, shared: Rc<Shared>) {
    loop {
        let read = stream.start(Work::Receive(Class::Small));
        let Some(done) = shared.signal.unless_stopped(read).await else { return };
        // Without bytes whoever rang is gone: the record is over, and the sessions' own bound holds.
        let Some(buffer) = done.buffer else { return };
        shared.put(buffer);
        shared.bell.ring(&shared.reactor);
    }
}
