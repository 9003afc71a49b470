//! A connection that is idle for a while: a socket, a session, and one wait without a buffer.
//!
//! Everything that operations need (slots, gathers, buffers) was given back; it is made anew when
//! the wait is over. So an idle connection costs a task of some hundred bytes beside its session.

use super::shared::Shared;
use super::socket::Socket;
use super::{Session, clock, sys};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Returns when there is something to do: bytes or an end from the caller, the session's
/// deadline, a stop.
pub(super) async fn wait<S: Session>(shared: &Shared, caller: &Socket, session: &S) {
    let Some(half) = caller.read.as_ref() else { return };
    let phase = shared.signal.phase();
    let listener = shared.signal.listen();
    let mut readable = pin!(sys::readable(half));
    let mut deadline = pin!(session.deadline().map(clock::instant).map(monoio::time::sleep_until));
    poll_fn(|cx| {
        listener.register(cx.waker());
        let due = deadline.as_mut().as_pin_mut().is_some_and(|at| at.poll(cx).is_ready());
        // What came of the wait shows in the read that follows.
        if due || shared.signal.phase() != phase || readable.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}
