//! From a listening socket to a session: accept, count, shake hands, serve.
//!
//! An accept is never dropped in flight: the loop ends because its listening socket is shut down.

use super::park::{self, Seat};
use super::published::Watch;
use super::reactor::Descriptor;
use super::shared::{Handshake, Shared};
use super::socket::{self, Socket};
use super::sys::Work;
use super::worker::ListenerPlan;
use super::{Sessions, drive, sys, tls};
use crate::base::ListenerId;
use rustls::ServerConfig;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream};
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
                let settings = match settings {
                    None => None,
                    Some(settings) => match shared.handshake(peer.ip()) {
                        Some(handshake) => Some((settings, handshake)),
                        None => {
                            // Not louder: it is said for each connection of a flood.
                            tracing::debug!(%peer, "too many handshakes of an address");
                            shared.counters.handshakes_spent.add();
                            sys::reset(stream.as_raw_fd());
                            continue;
                        }
                    },
                };
                shared.connections.set(open.saturating_add(1));
                shared.counters.accepted.add();
                shared.counters.open.set(u64::from(open.saturating_add(1)));
                let open = Open { shared: Rc::clone(&shared), counted: Cell::new(true) };
                let sessions = Rc::clone(&sessions);
                let task = admit(stream, peer, plan.id, settings, open, sessions);
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

/// Handshake, then the session.
async fn admit<K: Sessions>(
    stream: TcpStream,
    peer: SocketAddr,
    listener: ListenerId,
    settings: Option<(Arc<ServerConfig>, Handshake)>,
    open: Open,
    sessions: Rc<K>,
) {
    let shared = Rc::clone(&open.shared);
    socket::send_at_once(&stream);
    let mut socket = Socket::new(shared.reactor.adopt(stream));
    let (mut certificate, mut name) = (None, None);
    if let Some((settings, in_flight)) = settings {
        let Ok(made) = tls::server(&settings) else { return };
        socket.tls = Some(Box::new(made));
        let within = Duration::from_millis(shared.limits.handshake_ms);
        // Boxed, so that it takes no room of the connection once it is over.
        let handshake = socket::handshake(&shared, &mut socket);
        let handshake = Box::pin(shared.reactor.within(within, handshake));
        match shared.signal.unless_stopped(handshake).await {
            Some(Some(Ok(()))) => {}
            Some(Some(Err(error))) => {
                shared.counters.handshakes_failed.add();
                tracing::debug!(%peer, %error, "a caller's handshake failed");
                return;
            }
            Some(None) => {
                shared.counters.handshakes_failed.add();
                tracing::debug!(%peer, "a caller's handshake took too long");
                return;
            }
            None => return,
        }
        drop(in_flight);
        certificate = socket.tls.as_ref().and_then(|tls| tls.peer_certificate());
        name = socket.tls.as_ref().and_then(|tls| tls.server_name());
    }
    let session = sessions.open(peer, listener, certificate, name);
    drop(sessions);
    let mut seat = Seat::new(socket, session);
    // Boxed, so that a connection that is idle for long holds no room for operations.
    while let Some(left) = Box::pin(drive::serve(Rc::clone(&shared), seat)).await {
        seat = left;
        park::wait(&shared, &mut seat).await;
    }
    drop(open);
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
