//! Moves one caller connection: a fixed set of operations, each owning what it touches.
//!
//! The operations stand in slots on this function's own frame, so that an exchange allocates
//! nothing. None is dropped while in flight, but at the end of the connection: the sockets are shut
//! down first, so that what is in flight completes, and is then awaited.

use super::connection::Connection;
use super::park::Seat;
use super::shared::Shared;
use super::socket::{self, ReadDone, ReadJob, Socket, Wait, WriteDone};
use super::{Disk, Session};
use super::{clock, signal};
use crate::session::io::UpstreamFault;
use monoio::time::Sleep;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What completed.
enum Event {
    CallerRead(ReadDone),
    CallerWrite(WriteDone),
    UpstreamRead(ReadDone),
    UpstreamWrite(WriteDone),
    Connected(Result<Socket, UpstreamFault>),
    Timer,
    Signal,
}

/// Serves the caller of `seat` until its connection is over, or idle and not hot: then the seat
/// comes back.
pub(super) async fn serve<S: Session>(shared: Rc<Shared>, mut seat: Seat<S>) -> Option<Seat<S>> {
    let listener = shared.signal.listen();
    let mut phase = shared.signal.phase();
    let mut caller_wait = seat.wait.take();
    let mut connection = Connection::new(Rc::clone(&shared), seat);
    let mut caller_read = pin!(empty(socket::read));
    let mut caller_write = pin!(empty(socket::write));
    let mut upstream_read = pin!(empty(socket::read));
    let mut upstream_write = pin!(empty(socket::write));
    // Rare and large, so it is not part of the frame.
    let mut connect: Pin<&mut Option<Pin<Box<_>>>> = pin!(None);
    let mut timer = pin!(None::<Sleep>);
    let mut armed_ns = u64::MAX;
    let mut turns = 0u32;
    let mut heard = None;
    let mut now = clock::now();
    loop {
        connection.advance(now);
        if connection.may_park(caller_wait.is_some()) {
            connection.finish();
            return Some(connection.park(caller_wait));
        }
        if let Some(job) = connection.caller_write_job(now) {
            caller_write.set(Some(socket::write(job)));
        }
        if let Some(job) = connection.upstream_write_job(now) {
            upstream_write.set(Some(socket::write(job)));
        }
        if let Some(job) = connection.upstream_read_job(now) {
            upstream_read.set(Some(socket::read(job)));
        }
        match connection.caller_read_job(now) {
            Some(ReadJob::Wait(half)) => caller_wait = Some(socket::wait(half)),
            Some(job) => caller_read.set(Some(socket::read(job))),
            None => {}
        }
        if let Some(job) = connection.connect_job() {
            connect.set(Some(Box::pin(socket::connect(Rc::clone(&shared), job))));
        } else if !connection.is_connecting() && connect.is_some() {
            connect.set(None);
        }
        if connection.is_over() {
            break;
        }
        if let Some(at) = connection.deadline(now).filter(|at| *at < armed_ns) {
            // A timer that is early is left to fire: most deadlines move back before they pass.
            armed_ns = at;
            arm(&mut timer, at);
        }
        let mut waited = false;
        let event = poll_fn(|cx| {
            listener.register(cx.waker());
            if shared.signal.phase() != phase {
                phase = shared.signal.phase();
                return Poll::Ready(Event::Signal);
            }
            match connection.disk() {
                Disk::Idle => {}
                // On the list before the disk is asked: its ring is heard then.
                Disk::Waits => {
                    if shared.bell.register(cx.waker(), &mut heard) {
                        connection.hurry();
                    }
                }
                Disk::Reached(_) => return Poll::Ready(Event::Signal),
            }
            if let Some(done) = poll_slot(&mut caller_write, cx) {
                return Poll::Ready(Event::CallerWrite(done));
            }
            if let Some(done) = poll_slot(&mut upstream_write, cx) {
                return Poll::Ready(Event::UpstreamWrite(done));
            }
            if let Some(done) = poll_slot(&mut upstream_read, cx) {
                return Poll::Ready(Event::UpstreamRead(done));
            }
            if let Some(done) = poll_slot(&mut caller_read, cx) {
                return Poll::Ready(Event::CallerRead(done));
            }
            if let Some(done) = poll_wait(&mut caller_wait, cx) {
                return Poll::Ready(Event::CallerRead(done));
            }
            if let Some(done) = poll_slot(&mut connect, cx) {
                return Poll::Ready(Event::Connected(done));
            }
            if poll_slot(&mut timer, cx).is_some() {
                return Poll::Ready(Event::Timer);
            }
            waited = true;
            Poll::Pending
        })
        .await;
        turns = if waited { 0 } else { turns.saturating_add(1) };
        if turns >= TURNS_MAX {
            // A task that wakes itself goes to the front of the queue; a timer lets others run.
            Box::pin(monoio::time::sleep(Duration::from_millis(1))).await;
            turns = 0;
        }
        now = clock::now();
        match event {
            Event::CallerRead(done) => connection.on_caller_read(done, now),
            Event::CallerWrite(done) => connection.on_caller_write(done),
            Event::UpstreamRead(done) => connection.on_upstream_read(done),
            Event::UpstreamWrite(done) => connection.on_upstream_write(done),
            Event::Connected(result) => connection.on_connect(result, now),
            Event::Timer => armed_ns = u64::MAX,
            Event::Signal => {}
        }
    }
    connect.set(None);
    timer.set(None);
    connection.hang_up(now);
    poll_fn(|cx| {
        let read = poll_slot(&mut caller_read, cx).or_else(|| poll_wait(&mut caller_wait, cx));
        if let Some(done) = read {
            connection.on_caller_read(done, now);
        }
        if let Some(done) = poll_slot(&mut caller_write, cx) {
            connection.on_caller_write(done);
        }
        if let Some(done) = poll_slot(&mut upstream_read, cx) {
            connection.on_upstream_read(done);
        }
        if let Some(done) = poll_slot(&mut upstream_write, cx) {
            connection.on_upstream_write(done);
        }
        let left = caller_read.is_some()
            || caller_wait.is_some()
            || caller_write.is_some()
            || upstream_read.is_some()
            || upstream_write.is_some();
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    connection.finish();
    drop(listener);
    debug_assert!(phase <= signal::Phase::Stopped);
    None
}

/// An empty slot for the future that `make` makes.
fn empty<A, F: Future>(_make: impl Fn(A) -> F) -> Option<F> {
    None
}

fn poll_slot<F: Future>(slot: &mut Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Option<F::Output> {
    let future = slot.as_mut().as_pin_mut()?;
    let Poll::Ready(output) = future.poll(cx) else { return None };
    slot.set(None);
    Some(output)
}

fn poll_wait(slot: &mut Option<Wait>, cx: &mut Context<'_>) -> Option<ReadDone> {
    let Poll::Ready(done) = slot.as_mut()?.as_mut().poll(cx) else { return None };
    *slot = None;
    Some(done)
}

fn arm(timer: &mut Pin<&mut Option<Sleep>>, at_ns: u64) {
    let at = clock::instant(at_ns);
    match timer.as_mut().as_pin_mut() {
        Some(sleep) => sleep.reset(at),
        None => timer.set(Some(monoio::time::sleep_until(at))),
    }
}

/// Events in a row without a wait, after which others have their turn.
const TURNS_MAX: u32 = 256;
