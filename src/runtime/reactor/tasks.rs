//! The tasks of a worker, and which of them are to run next.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;

/// Names a task; of its own generation, so that a late wake hits no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct TaskId {
    index: u32,
    generation: u32,
}

impl TaskId {
    /// The worker's own, which is no part of [`Tasks`].
    pub(in crate::runtime) const MAIN: Self = Self { index: u32::MAX, generation: 0 };
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

struct Place {
    generation: u32,
    /// Away while it runs.
    task: Option<Task>,
    queued: bool,
    /// Who waits for its end.
    waiter: Option<TaskId>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Tasks {
    places: Vec<Place>,
    free: Vec<u32>,
    ready: VecDeque<TaskId>,
    main_ready: bool,
}

impl Tasks {
    pub(super) fn add(&mut self, task: Task) -> TaskId {
        let index = self.free.pop().unwrap_or_else(|| {
            let vacant = Place { generation: 0, task: None, queued: false, waiter: None };
            self.places.push(vacant);
            u32::try_from(self.places.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let mut id = TaskId { index, generation: 0 };
        if let Some(place) = self.places.get_mut(index as usize) {
            place.task = Some(task);
            id.generation = place.generation;
        }
        self.wake(id);
        id
    }

    fn place(&mut self, id: TaskId) -> Option<&mut Place> {
        let place = self.places.get_mut(id.index as usize)?;
        (place.generation == id.generation).then_some(place)
    }

    /// Has a task run at the next turn; once, however often it is called.
    pub(super) fn wake(&mut self, id: TaskId) {
        if id == TaskId::MAIN {
            self.main_ready = true;
            return;
        }
        let Some(place) = self.place(id).filter(|place| !place.queued) else { return };
        place.queued = true;
        self.ready.push_back(id);
    }

    pub(super) fn take_main(&mut self) -> bool {
        std::mem::take(&mut self.main_ready)
    }

    pub(super) fn is_ready(&self) -> bool {
        self.main_ready || !self.ready.is_empty()
    }

    /// How many wait for their turn.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The next one to run; [`Self::put_back`] or [`Self::end`] follows.
    pub(super) fn next(&mut self) -> Option<(TaskId, Task)> {
        while let Some(id) = self.ready.pop_front() {
            let Some(place) = self.place(id) else { continue };
            place.queued = false;
            if let Some(task) = place.task.take() {
                return Some((id, task));
            }
        }
        None
    }

    pub(super) fn put_back(&mut self, id: TaskId, task: Task) {
        if let Some(place) = self.place(id) {
            place.task = Some(task);
        }
    }

    pub(super) fn end(&mut self, id: TaskId) {
        let Some(place) = self.place(id) else { return };
        place.generation = place.generation.wrapping_add(1);
        place.queued = false;
        let waiter = place.waiter.take();
        self.free.push(id.index);
        if let Some(waiter) = waiter {
            self.wake(waiter);
        }
    }

    /// Whether a task is over; until then `waiter` is woken at its end.
    pub(super) fn is_over(&mut self, id: TaskId, waiter: TaskId) -> bool {
        self.place(id).is_none_or(|place| {
            place.waiter = Some(waiter);
            false
        })
    }

    /// All that is left, to be dropped.
    pub(super) fn drain(&mut self) -> Vec<Task> {
        self.ready.clear();
        self.free.clear();
        self.places.drain(..).filter_map(|place| place.task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Task {
        Box::pin(std::future::pending())
    }

    #[test]
    fn a_task_runs_once_however_often_it_is_woken() {
        let mut tasks = Tasks::default();
        let (one, two) = (tasks.add(idle()), tasks.add(idle()));
        tasks.wake(one);
        let mut order = Vec::new();
        while let Some((id, task)) = tasks.next() {
            order.push(id);
            tasks.put_back(id, task);
        }
        assert_eq!(order, [one, two]);
        tasks.wake(two);
        tasks.wake(two);
        assert!(tasks.next().is_some_and(|(id, _)| id == two) && tasks.next().is_none());
    }

    #[test]
    fn a_wake_of_a_task_that_is_over_hits_no_other() {
        let mut tasks = Tasks::default();
        let one = tasks.add(idle());
        assert!(tasks.next().is_some());
        assert!(!tasks.is_over(one, TaskId::MAIN));
        tasks.end(one);
        assert!(tasks.is_over(one, TaskId::MAIN) && tasks.take_main() && !tasks.take_main());
        let two = tasks.add(idle());
        assert_eq!(two.index, one.index);
        let (_, task) = tasks.next().expect("the new one");
        tasks.put_back(two, task);
        tasks.wake(one);
        assert!(!tasks.is_ready());
        assert_eq!(tasks.drain().len(), 1);
    }
}
