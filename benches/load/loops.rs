//! What each connection of a timed cell does until the cell ends.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::drive::{Tally, nanos};
use crate::material::EVENTS;
use crate::rows::Load;

/// Length of one message of the echo rows.
pub(crate) const ECHO_LEN: usize = 64;
const BLOCK_LEN: usize = 64 * 1024;

/// Starts the connections of a cell. Each ends after the answer that is under way when the cell
/// stops; bulk ones never end by themselves.
///
/// # Errors
/// The load is not a timed one, or a thread cannot be started.
pub(crate) fn spawn(load: &Load, tally: &Rc<Tally>) -> Outcome<JoinSet<io::Result<()>>> {
    let mut tasks = JoinSet::new();
    match *load {
        Load::Closed { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(closed(Rc::clone(tally)));
            }
        }
        Load::Open { connections, rate } => {
            let mut senders = Vec::with_capacity(connections);
            for _ in 0..connections {
                let (sender, due) = mpsc::unbounded_channel();
                senders.push(sender);
                tasks.spawn_local(open(Rc::clone(tally), due));
            }
            std::thread::Builder::new()
                .name("ticker".to_owned())
                .spawn(move || tick(&senders, rate))?;
        }
        Load::Stream { connections } => {
            for index in 0..connections {
                tasks.spawn_local(streams(Rc::clone(tally), index));
            }
        }
        Load::Handshake { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(handshakes(Rc::clone(tally)));
            }
        }
        Load::Echo { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(echo(Rc::clone(tally)));
            }
        }
        Load::BulkDown { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(bulk_down(Rc::clone(tally)));
            }
        }
        Load::BulkUp { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(bulk_up(Rc::clone(tally)));
            }
        }
        Load::IdleKeepAlive { .. }
        | Load::IdleStream { .. }
        | Load::Count { .. }
        | Load::Held { .. } => {
            return Err("this row is not timed".into());
        }
        Load::Pgbench { .. } | Load::Result { .. } => {
            return Err("this row is not of HTTP".into());
        }
    }
    Ok(tasks)
}

async fn closed(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, started);
        tally.check(&answer, tally.target.answer_len)?;
        if answer.close {
            // nginx and others end a connection after so many requests: part of their price.
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

/// Sends each connection its due times, in turn, until they are gone. A thread of its own: the
/// runtime's timers are a millisecond coarse and would send in bursts.
fn tick(senders: &[mpsc::UnboundedSender<Instant>], rate: u32) {
    let step = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now() + step;
    for sender in senders.iter().cycle() {
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        // From when the tick was sent: lateness of this thread is not the proxy's.
        if sender.send(Instant::now()).is_err() {
            return;
        }
        due += step;
    }
}

async fn open(tally: Rc<Tally>, mut due: mpsc::UnboundedReceiver<Instant>) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    while !tally.stop.get() {
        let Some(at) = due.recv().await else { break };
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, at);
        tally.check(&answer, tally.target.answer_len)?;
        if answer.close {
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

async fn streams(tally: Rc<Tally>, index: usize) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    // Spread the starts: callers of a model do not begin in step.
    let step = u32::try_from(index).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(5).saturating_mul(step)).await;
    let total = u32::try_from(EVENTS).map_or(1.0, f64::from) + 1.0;
    let len = tally.target.stream_len;
    let per_byte = total / u32::try_from(len).map_or(1.0, f64::from).max(1.0);
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&tally.target.stream).await?;
        let counted = &tally;
        let read = caller.answer(|bytes| {
            if counted.on.get() {
                // Streams outlast the measured time: count events by their bytes.
                let events = per_byte * u32::try_from(bytes.len()).map_or(0.0, f64::from);
                counted.count.set(counted.count.get() + events);
            }
        });
        let answer = read.await?;
        if let (true, Some(first)) = (tally.on.get(), answer.first) {
            tally.first.borrow_mut().saturating_record(nanos(first - started));
        }
        tally.add(0.0, started);
        tally.check(&answer, len)?;
        if answer.close {
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

async fn handshakes(tally: Rc<Tally>) -> io::Result<()> {
    tally.ready();
    while !tally.stop.get() {
        let started = Instant::now();
        let mut caller = tally.target.connect(true).await?;
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, started);
        tally.check(&answer, tally.target.answer_len)?;
        caller.close().await;
    }
    Ok(())
}

async fn echo(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(0).await?;
    tally.ready();
    let message = [b'e'; ECHO_LEN];
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&message).await?;
        caller.take_raw(ECHO_LEN).await?;
        tally.add(1.0, started);
    }
    caller.close().await;
    Ok(())
}

async fn bulk_down(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(1).await?;
    tally.ready();
    caller.send(b"g").await?;
    loop {
        let started = Instant::now();
        let len = caller.take_some().await?;
        tally.add(u32::try_from(len).map_or(0.0, f64::from), started);
    }
}

async fn bulk_up(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(2).await?;
    tally.ready();
    let block = vec![b'u'; BLOCK_LEN];
    loop {
        let started = Instant::now();
        caller.send(&block).await?;
        tally.add(u32::try_from(BLOCK_LEN).map_or(0.0, f64::from), started);
        // A socket that always takes more would never let the clock run.
        tokio::task::consume_budget().await;
    }
}
