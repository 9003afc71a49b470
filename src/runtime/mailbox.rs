//! Letters to sessions: that they are to cancel what they do, or that there is news of what they
//! asked the owner of approvals.
//!
//! A caller asks for a cancel by another connection, which may be any worker's; what was asked of a
//! person is answered by another thread. Whoever knows the session posts its id to its worker: a
//! lock and a byte into a socket, for such letters and never for anything else. The worker's own
//! task reads them and wakes the session's connection, which tells it
//! [`Input::Cancel`](crate::session::io::Input::Cancel) or
//! [`Input::News`](crate::session::io::Input::News). One that is over hears nothing, and no other
//! has its id.

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

/// What is to be delivered, by session.
#[derive(Debug, Default)]
pub(super) struct Letters(Mutex<AHashMap<u64, Said>>);

/// What letters to one session say; said twice is said once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// It is to cancel what is in hand.
    pub(super) cancel: bool,
    /// There is word of what it asked.
    pub(super) news: bool,
}

impl Said {
    const CANCEL: Self = Self { cancel: true, news: false };
    const NEWS: Self = Self { cancel: false, news: true };

    fn and(self, other: Self) -> Self {
        Self { cancel: self.cancel | other.cancel, news: self.news | other.news }
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Letters {
    /// Returns whether there was room for it. Of strangers' cancels there is only so much; news is
    /// for sessions that asked, and there are no more of them than connections.
    fn add(&self, id: u64, said: Said) -> bool {
        let mut letters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = letters.get_mut(&id) {
            *known = known.and(said);
            return true;
        }
        let fits = said.news || letters.len() < LETTERS_MAX;
        if fits {
            letters.insert(id, said);
        }
        fits
    }

    fn take(&self) -> AHashMap<u64, Said> {
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
        self.say(worker, id, Said::CANCEL)
    }

    /// Has the session `id` of a worker told that there is news for it.
    pub fn news(&self, worker: usize, id: u64) -> bool {
        self.say(worker, id, Said::NEWS)
    }

    fn say(&self, worker: usize, id: u64, said: Said) -> bool {
        let Some(slot) = self.workers.get(worker) else { return false };
        let added = slot.letters.add(id, said);
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
    called: Cell<Said>,
}

impl Posts {
    /// A place for the connection whose task runs.
    pub(super) fn open(shared: &Rc<Shared>) -> Rc<Post> {
        let posts = &shared.posts;
        let id = posts.last.get().wrapping_add(1);
        posts.last.set(id);
        let (task, called) = (shared.reactor.current(), Cell::default());
        let post = Rc::new(Post { shared: Rc::clone(shared), id, task, called });
        posts.open.borrow_mut().insert(id, Rc::downgrade(&post));
        post
    }

    fn deliver(&self, id: u64, said: Said) {
        let found = self.open.borrow().get(&id).and_then(Weak::upgrade);
        let Some(post) = found else { return };
        post.called.set(post.called.get().and(said));
        post.shared.reactor.wake(post.task);
    }
}

impl Post {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_called(&self) -> bool {
        !self.called.get().is_nothing()
    }

    /// What it was told since the last time.
    pub(super) fn take(&self) -> Said {
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
        for (id, said) in letters.take() {
            shared.posts.deliver(id, said);
        }
    }
}

/// Sessions of one worker that may be told to cancel at a time.
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
        // News is never in the way of a cancel, nor lost for the number of them.
        for id in 0..10_000 {
            assert!(mailbox.news(0, id));
        }
        assert!(mailbox.post(0, 7) && !mailbox.post(0, 10_001));
        let letters = first.letters.take();
        assert_eq!(letters.len(), 10_000);
        assert_eq!(letters.get(&7), Some(&Said { cancel: true, news: true }));
        drop(ends);
        mailbox.post(0, 1);
    }
}
