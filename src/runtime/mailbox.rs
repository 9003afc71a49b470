//! Letters to sessions of other workers: that they are to cancel what they do.
//!
//! A caller asks for that by another connection, which may be any worker's. Whoever knows the
//! session posts its id to its worker: a lock and a byte into a socket, once for a cancel and never
//! for anything else. The worker's own task reads them and wakes the session's connection, which
//! tells it [`Input::Cancel`](crate::session::io::Input::Cancel). One that is over hears nothing,
//! and no other has its id.

use super::buffer::Class;
use super::reactor::{Descriptor, Reactor, TaskId};
use super::shared::Shared;
use super::sys::Work;
use ahash::AHashMap;
use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, PoisonError};

/// The letter boxes of all workers; shared by `Arc`.
#[derive(Debug)]
pub struct Mailbox {
    workers: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    letters: Arc<Letters>,
    /// Nonblocking: one that is full is heard anyway.
    ring: UnixStream,
}

/// What is to be delivered.
#[derive(Debug, Default)]
pub(super) struct Letters(Mutex<Vec<u64>>);

impl Letters {
    /// Returns whether there was room for it.
    fn add(&self, id: u64) -> bool {
        let mut letters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Said twice is said once; so the bound is on sessions.
        let known = letters.contains(&id);
        if !known && letters.len() < LETTERS_MAX {
            letters.push(id);
            return true;
        }
        known
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The end of a [`Mailbox`] that is one worker's; see [`Sessions::mail`](super::Sessions::mail).
#[derive(Debug)]
pub struct Mail {
    letters: Arc<Letters>,
    bell: UnixStream,
}

impl Mail {
    pub(super) fn split(self, reactor: &Rc<Reactor>) -> (Arc<Letters>, Descriptor) {
        (self.letters, reactor.adopt(self.bell))
    }
}

impl Mailbox {
    /// Boxes for so many workers, and each one's end.
    ///
    /// # Errors
    /// The system's: no sockets.
    pub fn new(workers: usize) -> io::Result<(Arc<Self>, Vec<Mail>)> {
        let (mut slots, mut ends) = (Vec::with_capacity(workers), Vec::with_capacity(workers));
        for _ in 0..workers {
            let (bell, ring) = UnixStream::pair()?;
            ring.set_nonblocking(true)?;
            let letters = Arc::<Letters>::default();
            slots.push(Slot { letters: Arc::clone(&letters), ring });
            ends.push(Mail { letters, bell });
        }
        Ok((Arc::new(Self { workers: slots }), ends))
    }

    /// Has the session `id` of a worker told to cancel. Returns whether the letter is on its way;
    /// it may find nobody.
    pub fn post(&self, worker: usize, id: u64) -> bool {
        let Some(slot) = self.workers.get(worker) else { return false };
        let added = slot.letters.add(id);
        // A worker that is gone needs no ring, and one with rings to hear will come by.
        let _ = (&slot.ring).write(b"m");
        added
    }
}

/// The connections of one worker that letters reach.
#[derive(Debug, Default)]
pub(super) struct Posts {
    last: Cell<u64>,
    open: RefCell<AHashMap<u64, Weak<Post>>>,
}

/// Where letters for one connection come, for as long as it is there.
pub(super) struct Post {
    shared: Rc<Shared>,
    id: u64,
    task: TaskId,
    called: Cell<bool>,
}

impl Posts {
    /// A place for the connection whose task runs.
    pub(super) fn open(shared: &Rc<Shared>) -> Rc<Post> {
        let posts = &shared.posts;
        let id = posts.last.get().wrapping_add(1);
        posts.last.set(id);
        let (task, called) = (shared.reactor.current(), Cell::new(false));
        let post = Rc::new(Post { shared: Rc::clone(shared), id, task, called });
        posts.open.borrow_mut().insert(id, Rc::downgrade(&post));
        post
    }

    fn deliver(&self, id: u64) {
        let found = self.open.borrow().get(&id).and_then(Weak::upgrade);
        let Some(post) = found else { return };
        post.called.set(true);
        post.shared.reactor.wake(post.task);
    }
}

impl Post {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_called(&self) -> bool {
        self.called.get()
    }

    /// Whether it was called since the last time.
    pub(super) fn take(&self) -> bool {
        self.called.take()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.shared.posts.open.borrow_mut().remove(&self.id);
    }
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Post").field(&self.id).finish()
    }
}

/// Delivers letters until the worker stops.
pub(super) async fn listen(letters: Arc<Letters>, stream: Descriptor, shared: Rc<Shared>) {
    loop {
        let read = stream.start(Work::Receive(Class::Small));
        let Some(done) = shared.signal.unless_stopped(read).await else { return };
        // Without bytes nobody is left who could post.
        let Some(buffer) = done.buffer else { return };
        shared.put(buffer);
        letters.take().into_iter().for_each(|id| shared.posts.deliver(id));
    }
}

/// Sessions of one worker that may be written to at a time.
const LETTERS_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_bounded_and_one_session_takes_one_place() {
        let (mailbox, ends) = Mailbox::new(2).expect("sockets");
        assert!(mailbox.post(0, 7) && mailbox.post(0, 7) && mailbox.post(1, 8));
        assert!(!mailbox.post(2, 7), "there is no such worker");
        for end in &ends {
            assert_eq!(end.letters.0.lock().expect("letters").len(), 1);
        }
        for id in 0..10_000 {
            mailbox.post(0, id);
        }
        let first = ends.first().expect("an end");
        assert_eq!(first.letters.take().len(), LETTERS_MAX);
        assert!(first.letters.take().is_empty());
        drop(ends);
        mailbox.post(0, 1);
    }
}
