//! The admin listener's sockets: so many at a time, and none that stands still.
//!
//! What is open here takes descriptors of the process that the data listeners need too, and anybody
//! who reaches the address can open it.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
pub(super) struct Doors {
    listener: TcpListener,
    places: Arc<Semaphore>,
    /// How long a connection may stand still.
    still: Duration,
}

impl Doors {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(OPEN_MAX)), still: STILL }
    }
}

impl Listener for Doors {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        loop {
            // What is above the bound waits in the system's own queue.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.listener.accept().await {
                Ok((stream, from)) => return (Bounded::new(stream, place, self.still), from),
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A socket that ends when nothing moved on it for a while.
pub(super) struct Bounded {
    stream: TcpStream,
    patience: Duration,
    still: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Bounded {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, patience: Duration) -> Self {
        let still = Box::pin(sleep_until(Instant::now() + patience));
        Self { stream, patience, still, _place: place }
    }

    /// Something moved, or nothing did for too long.
    fn after<T>(
        &mut self,
        moved: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if moved.is_ready() {
            let until = Instant::now() + self.patience;
            self.still.as_mut().reset(until);
            return moved;
        }
        match self.still.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let moved = Pin::new(&mut self.stream).poll_read(cx, to);
        self.after(moved, cx)
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let moved = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.after(moved, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Most connections at a time.
const OPEN_MAX: usize = 256;
/// How long a connection may stand still; a stream of events has a heartbeat well within it.
const STILL: Duration = Duration::from_secs(60);
/// Until it is tried again when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn what_stands_still_ends_and_gives_its_place_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let still = Duration::from_millis(200);
        let mut doors = Doors { listener, places: Arc::new(Semaphore::new(1)), still };
        let mut caller = TcpStream::connect(address).await.unwrap();
        let (mut bounded, _) = doors.accept().await;
        caller.write_all(b"GET").await.unwrap();
        let mut room = [0; 8];
        assert_eq!(bounded.read(&mut room).await.unwrap(), 3);
        // No second one is let in, and the first ends by itself.
        let _waits = TcpStream::connect(address).await.unwrap();
        let ended = bounded.read(&mut room).await.unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(doors.places.available_permits(), 0);
        drop(bounded);
        doors.accept().await;
    }
}
