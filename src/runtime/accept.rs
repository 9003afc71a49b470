//! From a listening socket to a session: accept, count, shake hands, serve.
//!
//! An accept is never dropped in flight: the loop ends because its listening socket is shut down.

use super::mailbox::Posts;
use super::opening::{self, Agreed, Opening};
use super::park::{self, Seat};
use super::published::Watch;
use super::reactor::Descriptor;
use super::shared::{Handshake, Shared};
use super::socket::{self, Socket};
use super::sys::Work;
use super::worker::ListenerPlan;
use super::{CallerLink, Sessions, drive, sys, tls};
use crate::base::ListenerId;
use rustls::ServerConfig;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// Accepts until the listening socket is shut down.
pub(super) async fn accept_loop<K: Sessions + 'static>(
    listener: Descriptor,
    plan: ListenerPlan,
    shared: Rc<Shared>,
    sessions: Rc<K>,
) {
    let mut settings = plan.tls.clone().map(Watch::new);
    let mut accepts = 0u32;
    loop {
        // Where the next one is there at once, a flood of them would keep the worker from all else.
        accepts = accepts.wrapping_add(1);
        if accepts.is_multiple_of(ACCEPTS_MAX) {
            shared.reactor.yield_now().await;
        }
        let done = listener.start(Work::Accept).await;
        if shared.signal.is_draining() {
            return;
        }
        let accepted = match done.accepted.map(TcpStream::from) {
            Some(stream) => stream.peer_addr().map(|peer| (stream, peer)),
            None => Err(done.result.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into())),
        };
        match accepted {
            Ok((stream, peer)) => {
                let open = shared.connections.get();
                if open >= shared.limits.connections_max {
                    tracing::warn!(open, "as many connections as the limit allows; one is refused");
                    shared.counters.refused.add();
                    sys::reset(stream.as_raw_fd());
                    continue;
                }
                let settings = settings.as_mut().map(|watch| Arc::clone(watch.get().0));
                let Some(entry) = Entry::of(settings, plan.opening, &shared, peer.ip()) else {
                    // Not louder: it is said for each connection of a flood.
                    tracing::debug!(%peer, "too many handshakes of an address");
                    shared.counters.handshakes_spent.add();
                    sys::reset(stream.as_raw_fd());
                    continue;
                };
                shared.connections.set(open.saturating_add(1));
                shared.counters.accepted.add();
                shared.counters.open.set(u64::from(open.saturating_add(1)));
                let open = Open { shared: Rc::clone(&shared), counted: Cell::new(true) };
                let sessions = Rc::clone(&sessions);
                let task = admit(stream, peer, plan.id, entry, open, sessions);
                shared.reactor.spawn(caught(Rc::clone(&shared), Box::pin(task)));
            }
            Err(error) if is_shortage(&error) => {
                tracing::error!(%error, "no connection can be accepted for now");
                shared.reactor.sleep(Duration::from_millis(SHORTAGE_MS)).await;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted");
                if error.raw_os_error() == Some(libc::EINVAL) {
                    shared.reactor.sleep(Duration::from_millis(SHORTAGE_MS)).await;
                }
            }
        }
    }
}

/// Counts an open connection; the last one of a worker that drains wakes it.
struct Open {
    shared: Rc<Shared>,
    counted: Cell<bool>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.counted.replace(false) {
            let left = self.shared.connections.get().saturating_sub(1);
            self.shared.connections.set(left);
            self.shared.counters.open.set(u64::from(left));
            if left == 0 && self.shared.signal.is_draining() {
                self.shared.signal.wake_all();
            }
        }
    }
}

/// How a connection that was accepted begins.
enum Entry {
    Plain,
    /// Its handshake counts from the accept on.
    Tls(Arc<ServerConfig>, Handshake),
    /// Its handshake counts once there is one.
    Postgres(Option<Arc<ServerConfig>>),
}

impl Entry {
    /// `None`: the address makes too many handshakes.
    fn of(
        settings: Option<Arc<ServerConfig>>,
        opening: Opening,
        shared: &Rc<Shared>,
        from: IpAddr,
    ) -> Option<Self> {
        match (opening, settings) {
            (Opening::Postgres, settings) => Some(Self::Postgres(settings)),
            (Opening::Direct, None) => Some(Self::Plain),
            (Opening::Direct, Some(settings)) => {
                shared.handshake(from).map(|in_flight| Self::Tls(settings, in_flight))
            }
        }
    }
}

/// Handshake, then the session.
async fn admit<K: Sessions>(
    stream: TcpStream,
    peer: SocketAddr,
    listener: ListenerId,
    entry: Entry,
    open: Open,
    sessions: Rc<K>,
) {
    let shared = Rc::clone(&open.shared);
    socket::send_at_once(&stream);
    let lasts = matches!(entry, Entry::Postgres(_));
    if lasts {
        socket::keep_alive(&stream);
    }
    let mut socket = Socket::new(shared.reactor.adopt(stream));
    if !matches!(entry, Entry::Plain) {
        // Boxed, so that it takes no room of the connection once it is over.
        let entered = Box::pin(enter(&shared, &mut socket, peer, entry));
        if !entered.await {
            return;
        }
    }
    let post = lasts.then(|| Posts::open(&shared));
    let id = post.as_ref().map_or(0, |post| post.id());
    let session = sessions.open(peer, listener, CallerLink { id, ..socket.link() });
    drop(sessions);
    let mut seat = Seat::new(socket, session, post);
    // Boxed, so that a connection that is idle for long holds no room for operations.
    while let Some(left) = Box::pin(drive::serve(Rc::clone(&shared), seat)).await {
        seat = left;
        park::wait(&shared, &mut seat).await;
    }
    drop(open);
}

/// Everything before the session, within one time. Returns whether there is to be a session.
async fn enter(shared: &Rc<Shared>, socket: &mut Socket, peer: SocketAddr, entry: Entry) -> bool {
    let within = Duration::from_millis(shared.limits.handshake_ms);
    let opened = shared.reactor.within(within, secure(shared, socket, peer.ip(), entry));
    let Some(opened) = shared.signal.unless_stopped(opened).await else { return false };
    let error = match opened {
        Some(Ok(())) => return true,
        Some(Err(error)) => error,
        None => io::ErrorKind::TimedOut.into(),
    };
    if error.kind() == io::ErrorKind::QuotaExceeded {
        tracing::debug!(%peer, "too many handshakes of an address");
        shared.counters.handshakes_spent.add();
        sys::reset(socket.fd);
    } else {
        shared.counters.handshakes_failed.add();
        tracing::debug!(%peer, %error, "a caller's handshake failed");
    }
    false
}

/// Agrees on encryption where that is the custom, and shakes hands.
///
/// # Errors
/// `QuotaExceeded` where the address makes too many handshakes; else see [`opening::agree`] and
/// [`socket::handshake`].
async fn secure(
    shared: &Rc<Shared>,
    socket: &mut Socket,
    from: IpAddr,
    entry: Entry,
) -> io::Result<()> {
    let (settings, in_flight, direct) = match entry {
        Entry::Plain => return Ok(()),
        Entry::Tls(settings, in_flight) => (settings, in_flight, false),
        Entry::Postgres(settings) => {
            let agreed = opening::agree(shared, socket, settings.is_some()).await?;
            let Some(settings) = settings.filter(|_| agreed != Agreed::Plain) else {
                return Ok(());
            };
            let in_flight = shared.handshake(from).ok_or(io::ErrorKind::QuotaExceeded)?;
            if agreed == Agreed::Asked {
                opening::grant(socket).await?;
            }
            (settings, in_flight, agreed == Agreed::Direct)
        }
    };
    socket.tls = Some(Box::new(tls::server(&settings).map_err(io::Error::other)?));
    socket::handshake(shared, socket).await?;
    drop(in_flight);
    // Whoever began without a word may speak any protocol under TLS; ours must be named, or an
    // attacker could bring a browser to speak to a database (ALPACA).
    let named = Opening::Postgres.alpn();
    if direct && !socket.tls.as_ref().is_some_and(|tls| tls.speaks(named)) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

/// Bytes that a connection takes between requests, beside its session.
#[cfg(test)]
pub(super) fn admitted_size<K: Sessions + 'static>() -> usize {
    fn size<A, B, C, D, E, F, G>(_make: impl FnOnce(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }
    size(admit::<K>)
}

/// A panic ends its connection, not the worker.
async fn caught(shared: Rc<Shared>, task: Pin<Box<impl Future<Output = ()>>>) {
    let mut task = Some(task);
    poll_fn(|cx| {
        let Some(running) = task.as_mut() else { return Poll::Ready(()) };
        let running = std::panic::AssertUnwindSafe(|| running.as_mut().poll(cx));
        let polled = std::panic::catch_unwind(running);
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(()),
            Err(_) => {
                shared.counters.failed.add();
                tracing::error!("a connection failed by a bug and was closed");
                task = None;
                Poll::Ready(())
            }
        }
    })
    .await;
}

fn is_shortage(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Connections that are taken in a row.
const ACCEPTS_MAX: u32 = 16;
/// Pause after a shortage of descriptors or memory.
const SHORTAGE_MS: u64 = 50;
