//! When whom to wake: a heap, in which what was given up stays until it would be too much.

use super::TaskId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Names a timer; of its own generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerKey {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Armed(TaskId),
    Fired,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    state: Option<State>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, TimerKey)>>,
    places: Vec<Place>,
    free: Vec<u32>,
    armed: usize,
}

impl Timers {
    /// Has `task` woken at `at_ns`.
    pub(super) fn arm(&mut self, at_ns: u64, task: TaskId) -> TimerKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, state: None });
            // So a timer that is set anew never makes the heap grow.
            let most = self.places.len().saturating_mul(2).saturating_add(SIFT_MIN);
            self.heap.reserve(most.saturating_sub(self.heap.len()));
            u32::try_from(self.places.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let mut key = TimerKey { index, generation: 0 };
        if let Some(place) = self.places.get_mut(index as usize) {
            key.generation = place.generation;
            place.state = Some(State::Armed(task));
        }
        self.armed = self.armed.saturating_add(1);
        self.heap.push(Reverse((at_ns, key)));
        self.sift();
        key
    }

    fn place(&mut self, key: TimerKey) -> Option<&mut Place> {
        let place = self.places.get_mut(key.index as usize)?;
        (place.generation == key.generation).then_some(place)
    }

    /// Whether its time came; until then `task` is whom it wakes.
    pub(super) fn is_fired(&mut self, key: TimerKey, task: TaskId) -> bool {
        let Some(place) = self.place(key) else { return true };
        match &mut place.state {
            Some(State::Armed(whom)) => {
                *whom = task;
                false
            }
            _ => true,
        }
    }

    pub(super) fn give_up(&mut self, key: TimerKey) {
        let Some(place) = self.place(key) else { return };
        place.generation = place.generation.wrapping_add(1);
        if let Some(State::Armed(_)) = place.state.take() {
            self.armed = self.armed.saturating_sub(1);
        }
        self.free.push(key.index);
    }

    fn is_armed(&self, key: TimerKey) -> bool {
        self.places.get(key.index as usize).is_some_and(|place| {
            place.generation == key.generation && matches!(place.state, Some(State::Armed(_)))
        })
    }

    /// Drops what was given up once it is most of the heap.
    fn sift(&mut self) {
        if self.heap.len() < SIFT_MIN || self.heap.len() / 2 < self.armed {
            return;
        }
        let mut heap = std::mem::take(&mut self.heap);
        heap.retain(|Reverse((_, key))| self.is_armed(*key));
        self.heap = heap;
    }

    /// The time of the first one.
    pub(super) fn next(&mut self) -> Option<u64> {
        while let Some(Reverse((at_ns, key))) = self.heap.peek().copied() {
            if self.is_armed(key) {
                return Some(at_ns);
            }
            self.heap.pop();
        }
        None
    }

    /// The task of one whose time has come, as often as there is one.
    pub(super) fn fire(&mut self, now_ns: u64) -> Option<TaskId> {
        self.next().filter(|at_ns| *at_ns <= now_ns)?;
        let Reverse((_, key)) = self.heap.pop()?;
        let place = self.place(key)?;
        let Some(State::Armed(task)) = place.state.replace(State::Fired) else { return None };
        self.armed = self.armed.saturating_sub(1);
        Some(task)
    }
}

/// Below this many a heap is not looked through.
const SIFT_MIN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_what_was_given_up_never() {
        let mut timers = Timers::default();
        let keys @ [third, first, second, _] =
            [30, 10, 20, 40].map(|at| timers.arm(at, TaskId::MAIN));
        timers.give_up(first);
        assert_eq!(timers.next(), Some(20));
        assert!(timers.fire(19).is_none());
        assert_eq!(timers.fire(35), Some(TaskId::MAIN));
        assert!(timers.is_fired(second, TaskId::MAIN) && !timers.is_fired(third, TaskId::MAIN));
        assert!(timers.fire(35).is_some() && timers.fire(35).is_none());
        assert_eq!((timers.next(), timers.armed), (Some(40), 1));
        keys.iter().for_each(|key| timers.give_up(*key));
        assert_eq!((timers.next(), timers.armed, timers.free.len()), (None, 0, 4));
    }

    #[test]
    fn a_heap_of_what_was_given_up_does_not_grow() {
        let mut timers = Timers::default();
        let kept = timers.arm(u64::MAX, TaskId::MAIN);
        for at in 0..10_000 {
            let key = timers.arm(1_000_000 + at, TaskId::MAIN);
            timers.give_up(key);
        }
        assert!(timers.heap.len() <= SIFT_MIN && timers.places.len() == 2);
        assert!(timers.is_armed(kept));
        assert_eq!(timers.next(), Some(u64::MAX));
    }
}
