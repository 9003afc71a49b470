//! Tells the connections of a worker that it stops. One thread: no lock, no atomic.

use super::reactor::{Reactor, TaskId};
use crate::base::Now;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// How far a worker's stop went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// It serves.
    #[default]
    Open,
    /// It takes no connection, and those that are open finish the exchange in hand.
    Draining,
    /// Every connection ends at once.
    Stopped,
}

/// The phase, and who wants to hear of a change.
pub(super) struct Signal {
    reactor: Rc<Reactor>,
    phase: Cell<Phase>,
    places: RefCell<Vec<Place>>,
    free: RefCell<Vec<usize>>,
}

/// Where one task is waiting.
#[derive(Debug)]
struct Place {
    task: Option<TaskId>,
    /// When it wants to be woken whatever happens.
    due_ns: u64,
}

const VACANT: Place = Place { task: None, due_ns: u64::MAX };

impl Signal {
    pub(super) fn new(reactor: Rc<Reactor>) -> Self {
        let (places, free) = (RefCell::default(), RefCell::default());
        Self { reactor, phase: Cell::default(), places, free }
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Moves on to `phase` and wakes everyone.
    pub(super) fn advance(&self, phase: Phase) {
        if phase <= self.phase() {
            return;
        }
        self.phase.set(phase);
        self.wake_all();
    }

    /// Wakes everyone without a change of phase.
    pub(super) fn wake_all(&self) {
        self.wake_where(|_| true);
    }

    /// Wakes those whose time has come. The worker's tick calls it, so it is as coarse.
    pub(super) fn wake_due(&self, now: Now) {
        self.wake_where(|place| place.due_ns <= now.mono_ns);
    }

    fn wake_where(&self, which: impl Fn(&Place) -> bool) {
        let places = self.places.borrow();
        let chosen = places.iter().filter(|place| which(place));
        chosen.filter_map(|place| place.task).for_each(|task| self.reactor.wake(task));
    }

    /// Runs `task`, but gives up when everything stops.
    pub(super) async fn unless_stopped<F: Future>(&self, task: F) -> Option<F::Output> {
        let listener = self.listen();
        let mut task = pin!(task);
        poll_fn(|cx| {
            listener.register();
            if self.phase() == Phase::Stopped {
                return Poll::Ready(None);
            }
            task.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// A place for one task.
    pub(super) fn listen(&self) -> Listener<'_> {
        let mut places = self.places.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(VACANT);
            places.len().saturating_sub(1)
        });
        Listener { signal: self, index, set: Cell::new(false) }
    }
}

/// One task's place; given back when dropped.
pub(super) struct Listener<'s> {
    signal: &'s Signal,
    index: usize,
    set: Cell<bool>,
}

impl Listener<'_> {
    /// Notes that the task that runs is to be woken; it stays the same, so this is done once.
    pub(super) fn register(&self) {
        if self.set.replace(true) {
            return;
        }
        if let Some(place) = self.signal.places.borrow_mut().get_mut(self.index) {
            place.task = Some(self.signal.reactor.current());
        }
    }

    /// Asks to be woken at the first tick from `due_ns` on.
    pub(super) fn set_due(&self, due_ns: u64) {
        if let Some(place) = self.signal.places.borrow_mut().get_mut(self.index) {
            place.due_ns = due_ns;
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.signal.places.borrow_mut().get_mut(self.index) {
            *place = VACANT;
        }
        self.signal.free.borrow_mut().push(self.index);
    }
}
