//! A word to an upstream by a connection of its own, beside the one that serves the exchange.
//!
//! PostgreSQL takes a cancel as the first and only packet of another connection (manual, "Canceling
//! Requests in Progress"), made as the first was and to the same server, of which a name may have
//! several. It acts and ends the connection without an answer. So this is started and left alone:
//! it holds a place among the resource's connections, and lasts no longer than a connect and
//! [`WAIT_MS`].

use super::buffer::Class;
use super::shared::{Key, Shared};
use super::socket::{self, ConnectJob};
use super::sys::{self, Gather, Work};
use crate::session::io::UpstreamFault;
use std::cell::Cell;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

/// A word on its way; whoever sent it sees whether it still is.
#[derive(Debug)]
pub(super) struct UnderWay(Rc<Cell<bool>>);

impl UnderWay {
    pub(super) fn is_on(&self) -> bool {
        self.0.get()
    }
}

/// Counts a word on its way, to whoever sent it and to the worker, until it is dropped.
struct Way {
    on: Rc<Cell<bool>>,
    shared: Rc<Shared>,
}

impl Drop for Way {
    fn drop(&mut self) {
        self.on.set(false);
        let left = self.shared.sides.get().saturating_sub(1);
        self.shared.sides.set(left);
        if left == 0 && self.shared.signal.is_draining() {
            self.shared.signal.wake_all();
        }
    }
}

/// Starts to say `word` to the peer of `fd`, as `key` says.
///
/// # Errors
/// The peer is gone, the resource has as many connections as it may, or the word names an input.
pub(super) fn start(
    shared: &Rc<Shared>,
    key: Key,
    fd: RawFd,
    word: Box<Gather>,
) -> io::Result<UnderWay> {
    debug_assert!(!word.is_empty(), "there is something to say");
    if word.names_source() {
        debug_assert!(false, "a word aside stands by itself");
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let address = sys::peer_address(fd)?;
    let job = shared.job(key, Some(address)).map_err(|fault| match fault {
        UpstreamFault::Exhausted => io::ErrorKind::QuotaExceeded,
        _ => io::ErrorKind::NotConnected,
    })?;
    let on = Rc::new(Cell::new(true));
    shared.sides.set(shared.sides.get().saturating_add(1));
    let way = Way { on: Rc::clone(&on), shared: Rc::clone(shared) };
    shared.reactor.spawn(go(way, job, word));
    Ok(UnderWay(on))
}

async fn go(way: Way, job: ConnectJob, word: Box<Gather>) {
    let shared = &way.shared;
    let said = say(shared, job, word);
    match shared.signal.unless_stopped(said).await {
        Some(Ok(())) => shared.counters.sides.add(),
        Some(Err(error)) => {
            shared.counters.sides_failed.add();
            tracing::debug!(%error, "nothing is said aside");
        }
        None => {}
    }
}

/// Says it, and waits for the upstream to end the connection: it has acted then.
async fn say(shared: &Rc<Shared>, job: ConnectJob, word: Box<Gather>) -> io::Result<()> {
    let made = socket::connect(Rc::clone(shared), job).await;
    let mut socket = made.map_err(|_| io::ErrorKind::NotConnected)?;
    let within = Duration::from_millis(WAIT_MS);
    let sent = shared.reactor.within(within, socket::send(&mut socket, word)).await;
    sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
    let ended = async {
        // An end under TLS is some bytes and an end; more than that is nobody's business.
        for _ in 0..READS_MAX {
            let Some(half) = socket.read.as_ref() else { return };
            let done = half.start(Work::Receive(Class::Small)).await;
            let Some(buffer) = done.buffer else { return };
            shared.put(buffer);
        }
    };
    // It was said, whatever the upstream makes of it.
    let _ = shared.reactor.within(within, ended).await;
    Ok(())
}

/// How long the word may take to go, and the upstream to act on it.
const WAIT_MS: u64 = 5_000;
/// Reads that may come to something before the end.
const READS_MAX: u32 = 8;
