//! Wakes the connections of a worker that wait for the disk, and no others.
//!
//! The drain writes a byte into a socket when a worker's record has got further; one task of the
//! worker reads it and wakes who is on the list. One thread: no lock, no atomic.

use super::shared::Shared;
use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

/// Who waits. A ring empties the list; who waits on registers anew.
#[derive(Debug, Default)]
pub(super) struct Bell {
    round: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Bell {
    /// Puts `waker` on the list, once between two rings; `heard` is the caller's memory of it.
    /// Returns whether it was put there.
    pub(super) fn register(&self, waker: &Waker, heard: &mut Option<u64>) -> bool {
        let round = self.round.get();
        if heard.replace(round) == Some(round) {
            return false;
        }
        self.wakers.borrow_mut().push(waker.clone());
        true
    }

    fn ring(&self) {
        self.round.set(self.round.get().wrapping_add(1));
        // Taken out first: a waker may run code that registers.
        let mut woken = self.wakers.take();
        woken.drain(..).for_each(Waker::wake);
        let mut wakers = self.wakers.borrow_mut();
        if wakers.is_empty() {
            *wakers = woken;
        }
    }
}

/// Rings the bell for every byte that comes, until the worker stops.
pub(super) async fn listen(mut stream: UnixStream, shared: Rc<Shared>) {
    let mut buffer = Vec::with_capacity(BYTES_MAX);
    loop {
        let Some((result, back)) = shared.signal.unless_stopped(stream.read(buffer)).await else {
            return;
        };
        buffer = back;
        buffer.clear();
        match result {
            Ok(count) if count > 0 => shared.bell.ring(),
            // Whoever rang is gone: the record is over, and the sessions' own bound holds.
            _ => return,
        }
    }
}

/// Rings that are heard as one.
const BYTES_MAX: usize = 64;
