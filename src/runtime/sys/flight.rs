//! Operations that were handed to a driver, and what they own until it is done with them.
//!
//! Whoever started an operation holds its [`Key`] alone. What the kernel reads or writes lies here,
//! and stays here until the completion came, also when nobody waits for it any more.

use super::Gather;
use crate::runtime::buffer::{Buffer, Class};
use crate::runtime::reactor::TaskId;
use socket2::SockAddr;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// Names an operation; of its own generation, so that a late completion hits no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As the number that travels through the kernel.
    pub(super) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        // The two halves of it.
        Self { index: (bits & u64::from(u32::MAX)) as u32, generation: (bits >> 32) as u32 }
    }
}

/// What is to be done on a descriptor.
#[derive(Debug)]
pub(in crate::runtime) enum Work {
    /// Takes bytes that come into a buffer of the pool; none is held before they do.
    Receive(Class),
    /// Waits until there is something to read, or an end.
    Readable,
    /// Writes what is left of a message.
    Send(Box<Gather>),
    /// Takes a connection that comes.
    Accept,
    /// Connects; boxed, so that the address stays where it is.
    Connect(Box<SockAddr>),
}

/// What came of an operation.
#[derive(Debug)]
pub(in crate::runtime) struct Done {
    pub(in crate::runtime) work: Work,
    /// The bytes of a [`Work::Receive`] that got any.
    pub(in crate::runtime) buffer: Option<Buffer>,
    /// The connection of a [`Work::Accept`].
    pub(in crate::runtime) accepted: Option<OwnedFd>,
    /// Bytes, where bytes were moved.
    pub(in crate::runtime) result: io::Result<usize>,
}

#[derive(Debug)]
enum State {
    Vacant,
    Flying(Work),
    /// In flight, and nobody waits.
    Abandoned(Work),
    Done(Done),
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    fd: RawFd,
    state: State,
    waits: Option<Waits>,
}

/// Who waits for an operation.
#[derive(Clone, Copy, Debug)]
pub(in crate::runtime) struct Waits {
    pub(in crate::runtime) task: TaskId,
    /// A complete success is no news: it is found when the task comes by for another reason.
    pub(in crate::runtime) quiet: bool,
}

/// All operations of one driver.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
    flying: usize,
}

impl Flights {
    /// How many are in flight, abandoned ones included.
    pub(super) fn flying(&self) -> usize {
        self.flying
    }

    pub(super) fn add(&mut self, fd: RawFd, work: Work) -> Key {
        self.flying = self.flying.saturating_add(1);
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, fd, state: State::Vacant, waits: None });
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let key = |generation| Key { index, generation };
        let Some(slot) = self.slots.get_mut(index as usize) else { return key(0) };
        slot.state = State::Flying(work);
        slot.fd = fd;
        slot.waits = None;
        key(slot.generation)
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation).then_some(slot)
    }

    /// What an operation in flight owns, and what it is on. Its memory stays where it is.
    pub(super) fn work(&mut self, key: Key) -> Option<(&mut Work, RawFd)> {
        let slot = self.slot(key)?;
        match &mut slot.state {
            State::Flying(work) | State::Abandoned(work) => Some((work, slot.fd)),
            State::Vacant | State::Done(_) => None,
        }
    }

    /// Whether somebody waits for an operation in flight.
    pub(super) fn is_wanted(&mut self, key: Key) -> bool {
        self.slot(key).is_some_and(|slot| matches!(slot.state, State::Flying(_)))
    }

    /// Notes what came of an operation; returns whom to wake. What nobody waits for is dropped.
    pub(super) fn complete(
        &mut self,
        key: Key,
        buffer: Option<Buffer>,
        accepted: Option<OwnedFd>,
        result: io::Result<usize>,
    ) -> Option<TaskId> {
        let slot = self.slot(key)?;
        match std::mem::replace(&mut slot.state, State::Vacant) {
            State::Flying(work) => {
                let whole = match (&work, &result) {
                    (Work::Send(gather), Ok(count)) => gather.left() == *count,
                    _ => false,
                };
                slot.state = State::Done(Done { work, buffer, accepted, result });
                let woken = slot.waits.take_if(|waits| !(waits.quiet && whole));
                self.flying = self.flying.saturating_sub(1);
                woken.map(|waits| waits.task)
            }
            State::Abandoned(_) => {
                self.flying = self.flying.saturating_sub(1);
                self.vacate(key);
                None
            }
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// What came of an operation, once it is over; until then notes who waits.
    pub(super) fn take(&mut self, key: Key, waits: Waits) -> Option<Done> {
        let slot = self.slot(key)?;
        let State::Done(_) = slot.state else {
            slot.waits = Some(waits);
            return None;
        };
        let State::Done(done) = std::mem::replace(&mut slot.state, State::Vacant) else {
            return None;
        };
        self.vacate(key);
        Some(done)
    }

    /// Nobody waits any more. Returns whether it is in flight still.
    pub(super) fn abandon(&mut self, key: Key) -> bool {
        let Some(slot) = self.slot(key) else { return false };
        match std::mem::replace(&mut slot.state, State::Vacant) {
            State::Flying(work) => {
                slot.state = State::Abandoned(work);
                true
            }
            State::Done(_) => {
                self.vacate(key);
                false
            }
            other => {
                slot.state = other;
                false
            }
        }
    }

    fn vacate(&mut self, key: Key) {
        if let Some(slot) = self.slot(key) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.waits = None;
            self.free.push(key.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOUD: Waits = Waits { task: TaskId::MAIN, quiet: false };
    const QUIET: Waits = Waits { task: TaskId::MAIN, quiet: true };

    #[test]
    fn a_key_survives_its_way_through_the_kernel() {
        let key = Key { index: 7, generation: u32::MAX - 1 };
        assert_eq!(Key::from_bits(key.to_bits()), key);
    }

    #[test]
    fn a_late_completion_hits_no_other_operation() {
        let mut flights = Flights::default();
        let one = flights.add(0, Work::Readable);
        assert!(flights.take(one, LOUD).is_none());
        assert_eq!(flights.complete(one, None, None, Ok(0)), Some(TaskId::MAIN));
        assert!(flights.take(one, LOUD).is_some());
        let two = flights.add(0, Work::Accept);
        assert_eq!(two.index, one.index);
        assert_eq!(flights.complete(one, None, None, Ok(3)), None);
        assert!(flights.take(one, LOUD).is_none() && flights.take(two, LOUD).is_none());
        assert_eq!(flights.flying(), 1);
    }

    #[test]
    fn what_is_abandoned_stays_until_its_completion_came() {
        let mut flights = Flights::default();
        let one = flights.add(0, Work::Send(Box::default()));
        assert!(flights.abandon(one));
        assert!(matches!(flights.work(one), Some((Work::Send(_), 0))));
        assert_ne!(flights.add(0, Work::Readable).index, one.index);
        assert_eq!(flights.complete(one, None, None, Ok(1)), None);
        assert!(flights.work(one).is_none() && flights.flying() == 1);
        // One that is done already gives its place back at once.
        let two = flights.add(0, Work::Readable);
        flights.complete(two, None, None, Ok(0));
        assert!(!flights.abandon(two) && !flights.abandon(two));
        assert_eq!(flights.free.len(), 1);
    }

    #[test]
    fn a_quiet_write_wakes_when_it_is_short_or_fails() {
        let wakes = |result: io::Result<usize>, waits| {
            let mut flights = Flights::default();
            let mut gather = Box::<Gather>::default();
            gather.pieces_mut().text(b"12345");
            let key = flights.add(0, Work::Send(gather));
            assert!(flights.take(key, waits).is_none());
            let woken = flights.complete(key, None, None, result).is_some();
            assert!(flights.take(key, waits).is_some());
            woken
        };
        assert!(!wakes(Ok(5), QUIET));
        assert!(wakes(Ok(4), QUIET) && wakes(Ok(5), LOUD));
        assert!(wakes(Err(io::ErrorKind::BrokenPipe.into()), QUIET));
    }
}
