//! Moves one caller connection: a fixed set of operations, each owning what it touches.
//!
//! The operations stand in slots on this function's own frame, so that an exchange allocates
//! nothing. None is dropped while in flight, but at the end of the connection: the sockets are shut
//! down first, so that what is in flight completes, and is then awaited.

use super::connection::Connection;
use super::park::Seat;
use super::reactor::Sleep;
use super::shared::Shared;
use super::socket::{self, Reading, Socket, Writing};
use super::{Disk, Session};
use super::{clock, signal};
use crate::base::Now;
use crate::session::io::UpstreamFault;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The operations of one connection.
#[derive(Default)]
struct Slots {
    caller_read: Option<Reading>,
    caller_write: Option<Writing>,
    upstream_read: Option<Reading>,
    upstream_write: Option<Writing>,
    /// Rare and large, so it is not part of the frame.
    connect: Option<Connect>,
}

type Connect = Pin<Box<dyn Future<Output = Result<Socket, UpstreamFault>>>>;

impl Slots {
    /// Starts what `connection` wants.
    fn start<S: Session>(&mut self, connection: &mut Connection<S>, shared: &Rc<Shared>, now: Now) {
        // Each only where there is none: the connection knows which halves are away.
        if let Some(write) = connection.start_caller_write(now) {
            self.caller_write = Some(write);
        }
        if let Some(write) = connection.start_upstream_write(now) {
            self.upstream_write = Some(write);
        }
        if let Some(read) = connection.start_upstream_read() {
            self.upstream_read = Some(read);
        }
        if let Some(read) = connection.start_caller_read() {
            self.caller_read = Some(read);
        }
        if let Some(job) = connection.connect_job() {
            self.connect = Some(Box::pin(socket::connect(Rc::clone(shared), job)));
        } else if !connection.is_connecting() && self.connect.is_some() {
            self.connect = None;
        }
    }

    /// Takes in what is done; returns when, if anything is. Writes come first: what they made room
    /// for is there when what was read is shown.
    fn collect<S: Session>(
        &mut self,
        connection: &mut Connection<S>,
        cx: &mut Context<'_>,
    ) -> Option<Now> {
        let mut now = None;
        let quiet = connection.is_quiet_to_caller();
        if let Some(done) = Writing::outcome(&mut self.caller_write, quiet) {
            now.get_or_insert_with(clock::now);
            connection.on_caller_write(done);
        }
        let quiet = connection.is_quiet_to_upstream();
        if let Some(done) = Writing::outcome(&mut self.upstream_write, quiet) {
            now.get_or_insert_with(clock::now);
            connection.on_upstream_write(done);
        }
        if let Some(done) = Reading::outcome(&mut self.upstream_read) {
            now.get_or_insert_with(clock::now);
            connection.on_upstream_read(done);
        }
        if let Some(done) = Reading::outcome(&mut self.caller_read) {
            let now = *now.get_or_insert_with(clock::now);
            connection.on_caller_read(done, now);
        }
        if let Some(connect) = self.connect.as_mut()
            && let Poll::Ready(result) = connect.as_mut().poll(cx)
        {
            self.connect = None;
            let now = *now.get_or_insert_with(clock::now);
            connection.on_connect(result, now);
        }
        now
    }

    fn are_empty(&self) -> bool {
        self.caller_read.is_none()
            && self.caller_write.is_none()
            && self.upstream_read.is_none()
            && self.upstream_write.is_none()
    }
}

/// Serves the caller of `seat` until its connection is over, or idle and not hot: then the seat
/// comes back.
pub(super) async fn serve<S: Session>(shared: Rc<Shared>, mut seat: Seat<S>) -> Option<Seat<S>> {
    let listener = shared.signal.listen();
    let mut phase = shared.signal.phase();
    let mut slots = Slots { caller_read: seat.reading.take(), ..Slots::default() };
    let read = seat.read.take();
    let mut connection = Connection::new(Rc::clone(&shared), seat);
    let mut now = clock::now();
    if let Some(read) = read {
        connection.on_caller_read(*read, now);
    }
    let mut timer = None::<Sleep>;
    let mut armed_ns = u64::MAX;
    let mut turns = 0u32;
    let mut heard = None;
    loop {
        connection.advance(&mut slots.upstream_read, now);
        if connection.may_park(slots.caller_read.is_some()) {
            connection.finish();
            return Some(connection.park(slots.caller_read));
        }
        slots.start(&mut connection, &shared, now);
        if connection.is_over() {
            break;
        }
        if let Some(at) = connection.deadline(now).filter(|at| *at < armed_ns) {
            // A timer that is early is left to fire: most deadlines move back before they pass.
            armed_ns = at;
            match timer.as_mut() {
                Some(timer) => timer.reset(at),
                None => timer = Some(shared.reactor.sleep_until(at)),
            }
        }
        let mut waited = false;
        now = poll_fn(|cx| {
            listener.register();
            let mut happened = false;
            if shared.signal.phase() != phase {
                phase = shared.signal.phase();
                happened = true;
            }
            match connection.disk() {
                Disk::Idle => {}
                // On the list before the disk is asked: its ring is heard then.
                Disk::Waits => {
                    if shared.bell.register(shared.reactor.current(), &mut heard) {
                        connection.hurry();
                    }
                }
                Disk::Reached(_) => happened = true,
            }
            happened |= connection.is_called();
            if let Some(now) = slots.collect(&mut connection, cx) {
                return Poll::Ready(now);
            }
            if armed_ns != u64::MAX && timer.as_mut().is_some_and(Sleep::is_over) {
                armed_ns = u64::MAX;
                happened = true;
            }
            if happened {
                return Poll::Ready(clock::now());
            }
            waited = true;
            Poll::Pending
        })
        .await;
        turns = if waited { 0 } else { turns.saturating_add(1) };
        if turns >= TURNS_MAX {
            shared.reactor.yield_now().await;
            turns = 0;
        }
    }
    slots.connect = None;
    drop(timer);
    connection.hang_up(now);
    poll_fn(|cx| {
        slots.collect(&mut connection, cx);
        if slots.are_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    connection.finish();
    drop(listener);
    debug_assert!(phase <= signal::Phase::Stopped);
    None
}

/// Events in a row without a wait, after which others have their turn.
const TURNS_MAX: u32 = 256;
