//! The workers: sockets, TLS, upstream connections and time, around sessions that know none of it.
//!
//! A worker is a thread with its own driver (io_uring, or epoll where that is refused; `sys`) and
//! its own tasks (`reactor`). Nothing above them knows which driver it is. Workers share only what
//! is published whole: see [`Published`].
//!
//! Cost of an exchange on a kept connection: two turns and four transfers, no allocation, no lock;
//! two looks at the clocks for each turn, and two or three for each exchange (`latency`).

mod accept;
mod bell;
mod buffer;
mod certificates;
mod clock;
mod connection;
mod counters;
mod drive;
mod driver;
mod flow;
mod latency;
mod mailbox;
pub mod map;
mod opening;
mod park;
mod published;
mod reactor;
mod shared;
mod side;
mod signal;
mod socket;
mod sys;
mod tls;
mod upstreams;
mod worker;

#[cfg(test)]
mod tests;

pub use certificates::{CertificateError, listener_tls, upstream_tls};
pub use clock::now;
pub use counters::{BUFFER_SIZES, Count, Counters};
pub use driver::{DriverKind, Probe, probe};
pub use latency::{BOUNDS, Histogram, Latency, Stage};
pub use mailbox::{Mail, Mailbox};
pub use opening::Opening;
pub use published::Published;
pub use upstreams::{Addresses, Upstream, Upstreams};
pub use worker::{ListenerPlan, Worker, WorkerPlan};

use crate::base::{ExchangeId, ListenerId, Now};
use crate::record::Position;
use crate::session::Petition;
use crate::session::io::{Input, Interest, Out};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

/// One caller connection as a pure function of its inputs; see [`crate::session::io`].
///
/// Its journal is inside of it.
pub trait Session {
    /// Advances by one input; returns how many of the input's bytes were consumed.
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Out) -> usize;
    /// Which sides it wants to hear from.
    fn interest(&self) -> Interest;
    /// When it wants [`Input::Timer`], in [`Now::mono_ns`].
    fn deadline(&self) -> Option<u64>;
    /// Whether it is done: what is queued is written, then the connection ends.
    fn is_closed(&self) -> bool;
    /// Gives back room that only exchanges need: the connection is idle, and was for a while.
    fn tidy(&mut self) {}
    /// Whether it waits for its record to be on the disk.
    fn disk(&self) -> Disk {
        Disk::Idle
    }
    /// Puts something to the owner of approvals. What comes of it is told by [`Mailbox::news`] to
    /// `id`, and the session hears [`Input::News`].
    fn petition(&mut self, exchange: ExchangeId, petition: Petition, id: u64) {
        let _ = (exchange, petition, id);
    }
    /// Asks for the disk to get on, and for a ring of [`Sessions::bell`] when it has.
    fn hurry(&self) {}
}

/// What a session wants of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Nothing.
    Idle,
    /// It waits.
    Waits,
    /// It waited, and the record is durable up to there.
    Reached(Position),
}

/// What is known of a caller's connection when its session begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallerLink {
    /// The caller's leaf certificate in DER, verified.
    pub certificate: Option<Vec<u8>>,
    /// The name that it asked for (SNI).
    pub server_name: Option<String>,
    /// Whether it is under TLS.
    pub secure: bool,
    /// What [`Mailbox::post`] names the session by on its worker, also when it is over. 0: nothing
    /// reaches it.
    pub id: u64,
}

/// Makes the sessions of one worker, on that worker's thread.
pub trait Sessions {
    /// What it makes.
    type S: Session;

    /// A session for a connection that was accepted, after its handshake.
    fn open(&self, peer: SocketAddr, listener: ListenerId, link: CallerLink) -> Self::S;

    /// What tells, by a byte for each time, that the disk got further; asked for once. Blocking.
    fn bell(&self) -> Option<UnixStream> {
        None
    }

    /// What brings letters to this worker's sessions; asked for once.
    fn mail(&self) -> Option<Mail> {
        None
    }

    /// Called about four times a second, for what is due by time and not by a connection.
    fn tick(&self, now: Now) {
        let _ = now;
    }
}

/// No core dumps, and no attaching by other processes of the same user: memory holds secrets.
///
/// # Errors
/// What the system refused.
pub fn protect_memory() -> std::io::Result<()> {
    sys::protect_memory()
}

/// Bytes that may still be written to the file system that `path` is on.
///
/// # Errors
/// What the system said.
pub fn free_bytes(path: &std::path::Path) -> std::io::Result<u64> {
    sys::free_bytes(path)
}

/// The cores that this process may use.
#[must_use]
pub fn cores() -> Vec<usize> {
    sys::allowed_cores()
}
