//! A connection between requests that are far apart: a socket, a session, and one read, which holds
//! no buffer until bytes come.
//!
//! Everything that operations need (slots, gathers) was given back; it is made anew when bytes
//! came, and after a longer while the session gives its room back, too. So an idle connection
//! costs a task of some hundred bytes beside its session. One whose requests follow each other
//! closely is not put aside.

use super::buffer::Class;
use super::mailbox::Post;
use super::shared::Shared;
use super::socket::{ReadDone, Reading, Socket};
use super::{Session, clock};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

/// What is left of a connection between two stretches of service.
pub(super) struct Seat<S> {
    pub(super) caller: Socket,
    pub(super) session: S,
    /// The read of the caller that is in flight.
    pub(super) reading: Option<Reading>,
    /// What came of it.
    pub(super) read: Option<Box<ReadDone>>,
    /// What came, came soon.
    pub(super) hot: bool,
    pub(super) idle_ns: u64,
    /// Where letters for the session come.
    pub(super) post: Option<Rc<Post>>,
}

impl<S> Seat<S> {
    pub(super) fn new(caller: Socket, session: S, post: Option<Rc<Post>>) -> Self {
        let idle_ns = clock::now().mono_ns;
        Self { caller, session, reading: None, read: None, hot: false, idle_ns, post }
    }
}

/// Returns when there is something to do: bytes or an end from the caller, the session's
/// deadline, a letter, a stop.
pub(super) async fn wait<S: Session>(shared: &Shared, seat: &mut Seat<S>) {
    if let Some(half) = seat.caller.read.take() {
        seat.reading = Some(Reading::receive(half, Class::Small));
    }
    let phase = shared.signal.phase();
    let listener = shared.signal.listen();
    let mut tidy_ns = Some(clock::now().after_ms(TIDY_MS));
    loop {
        let now = clock::now();
        if tidy_ns.take_if(|at| *at <= now.mono_ns).is_some() {
            seat.session.tidy();
        }
        // One that was told already and names the past again shall not spin.
        let due_ns = seat.session.deadline().map_or(u64::MAX, |at| at.max(now.after_ms(1)));
        let until_ns = due_ns.min(tidy_ns.unwrap_or(u64::MAX));
        listener.set_due(until_ns);
        let read = poll_fn(|_| {
            listener.register();
            if let Some(done) = Reading::outcome(&mut seat.reading) {
                return Poll::Ready(Some(done));
            }
            let due = clock::mono_ns() >= until_ns;
            let called = seat.post.as_ref().is_some_and(|post| post.is_called());
            if due || called || shared.signal.phase() != phase {
                Poll::Ready(None)
            } else {
                Poll::Pending
            }
        })
        .await;
        if read.is_some() {
            seat.read = read.map(Box::new);
            return;
        }
        let called = seat.post.as_ref().is_some_and(|post| post.is_called());
        if called || shared.signal.phase() != phase || due_ns <= clock::mono_ns() {
            return;
        }
    }
}

/// Requests that follow each other within this make a connection hot.
pub(super) const HOT_MS: u64 = 50;
/// How long a connection is idle before its session gives its room back.
const TIDY_MS: u64 = if cfg!(test) { 60 } else { 2_000 };
