//! A connection between requests that are far apart: a socket, a session, and one wait.
//!
//! Everything that operations need (slots, gathers, buffers) was given back; it is made anew when
//! the wait is over, and after a longer while the session gives its room back, too. So an idle
//! connection costs a task of some hundred bytes beside its session. One whose requests follow
//! each other closely is not put aside: it keeps a read with a buffer in flight, which saves an
//! operation for each request.

use super::shared::Shared;
use super::socket::{self, Socket, Wait};
use super::{Session, clock};
use std::future::poll_fn;
use std::task::Poll;

/// What is left of a connection between two stretches of service.
pub(super) struct Seat<S> {
    pub(super) caller: Socket,
    pub(super) session: S,
    /// The wait for the caller that is in flight.
    pub(super) wait: Option<Wait>,
    /// The caller's socket has something to read, or its end.
    pub(super) ready: bool,
    /// What came, came soon.
    pub(super) hot: bool,
    pub(super) idle_ns: u64,
}

impl<S> Seat<S> {
    pub(super) fn new(caller: Socket, session: S) -> Self {
        let idle_ns = clock::now().mono_ns;
        Self { caller, session, wait: None, ready: false, hot: false, idle_ns }
    }
}

/// Returns when there is something to do: bytes or an end from the caller, the session's
/// deadline, a stop.
pub(super) async fn wait<S: Session>(shared: &Shared, seat: &mut Seat<S>) {
    let half = seat.caller.read.take();
    let Some(mut readable) = seat.wait.take().or_else(|| half.map(socket::wait)) else { return };
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
        let woken = poll_fn(|cx| {
            listener.register(cx.waker());
            if let Poll::Ready(done) = readable.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let due = clock::now().mono_ns >= until_ns;
            if due || shared.signal.phase() != phase { Poll::Ready(None) } else { Poll::Pending }
        })
        .await;
        let now = clock::now();
        if let Some(done) = woken {
            // What came of the wait shows in the read that follows.
            seat.caller.read = Some(done.half);
            seat.ready = true;
            let gap_ns = now.mono_ns.saturating_sub(seat.idle_ns);
            seat.hot = gap_ns < HOT_MS.saturating_mul(1_000_000);
            return;
        }
        if shared.signal.phase() != phase || due_ns <= now.mono_ns {
            seat.wait = Some(readable);
            return;
        }
    }
}

/// Requests that follow each other within this make a connection hot.
pub(super) const HOT_MS: u64 = 50;
/// How long a connection is idle before its session gives its room back.
const TIDY_MS: u64 = if cfg!(test) { 60 } else { 2_000 };
