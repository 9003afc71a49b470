//! One transport connection, and the operations on it as values that own what they touch.

use super::buffer::Buffer;
use super::shared::{Place, Shared};
use super::sys::{self, Gather, ReadHalf, WriteHalf};
use super::tls::Tls;
use crate::session::io::UpstreamFault;
use monoio::io::{AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller, Splitable};
use monoio::net::TcpStream;
use monoio::time::{Instant, timeout};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::time::Duration;

/// A connection of a caller or to an upstream. A half is away while an operation has it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: RawFd,
    pub(super) read: Option<ReadHalf>,
    pub(super) write: Option<WriteHalf>,
    pub(super) tls: Option<Box<Tls>>,
    /// What counts it against the limit of its resource.
    pub(super) place: Option<Place>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Small messages go out at once; a peer that is gone already shows at the first read.
        let _ = stream.set_nodelay(true);
        let fd = stream.as_raw_fd();
        let (read, write) = stream.into_split();
        Self { fd, read: Some(read), write: Some(write), tls: None, place: None }
    }

    /// Whether no operation is in flight on it.
    pub(super) fn is_whole(&self) -> bool {
        self.read.is_some() && self.write.is_some()
    }
}

/// What a read waits for.
pub(super) enum ReadJob {
    /// Anything to read; no buffer is held.
    Wait(ReadHalf),
    /// Bytes into the room of a buffer, until the handle's owner cancels it.
    Fill(ReadHalf, Buffer, CancelHandle),
}

/// What came of a [`ReadJob`]; a `Wait` yields `Ok(0)` and no buffer.
pub(super) struct ReadDone {
    pub(super) half: ReadHalf,
    pub(super) buffer: Option<Buffer>,
    pub(super) result: io::Result<usize>,
}

/// A wait of its own, which outlives the operations around it.
pub(super) type Wait = Pin<Box<dyn Future<Output = ReadDone>>>;

/// See [`ReadJob::Wait`].
pub(super) fn wait(half: ReadHalf) -> Wait {
    Box::pin(read(ReadJob::Wait(half)))
}

/// Runs one read.
pub(super) async fn read(job: ReadJob) -> ReadDone {
    match job {
        ReadJob::Wait(half) => {
            let result = sys::readable(&half).await.map(|()| 0);
            ReadDone { half, buffer: None, result }
        }
        ReadJob::Fill(mut half, buffer, cancel) => {
            let (result, buffer) = half.cancelable_read(buffer, cancel).await;
            ReadDone { half, buffer: Some(buffer), result }
        }
    }
}

/// A message and the half that it goes out by.
pub(super) struct WriteJob {
    pub(super) half: WriteHalf,
    pub(super) gather: Box<Gather>,
}

/// What came of a [`WriteJob`]. The write may be short.
pub(super) struct WriteDone {
    pub(super) half: WriteHalf,
    pub(super) gather: Box<Gather>,
    pub(super) result: io::Result<usize>,
}

/// Runs one write of what is left of the message.
pub(super) async fn write(job: WriteJob) -> WriteDone {
    let WriteJob { mut half, mut gather } = job;
    gather.aim();
    let (result, gather) =
        if gather.is_single() { half.write(gather).await } else { half.writev(gather).await };
    WriteDone { half, gather, result }
}

/// Drives the handshake of `socket.tls` to its end.
///
/// # Errors
/// The socket's, or `InvalidData` for what the peer sent; the alert was written then.
pub(super) async fn handshake(shared: &Shared, socket: &mut Socket) -> io::Result<()> {
    let never = Canceller::new();
    loop {
        flush(socket).await?;
        let Some(tls) = socket.tls.as_mut() else { return Ok(()) };
        if !tls.is_handshaking() {
            return Ok(());
        }
        if tls.is_ended() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(half) = socket.read.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let done = read(ReadJob::Fill(half, shared.take_small(), never.handle())).await;
        socket.read = Some(done.half);
        let Some(buffer) = done.buffer else { return Err(io::ErrorKind::NotConnected.into()) };
        if !matches!(done.result, Ok(count) if count > 0) {
            shared.put(buffer);
            return Err(done.result.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        }
        tls.take_sealed(buffer);
        let opened = tls.open();
        if let Some(buffer) = tls.spent() {
            shared.put(buffer);
        }
        if let Err(error) = opened {
            tracing::debug!(%error, "handshake refused");
            flush(socket).await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// Writes the records that wait.
async fn flush(socket: &mut Socket) -> io::Result<()> {
    let Some(tls) = socket.tls.as_mut().filter(|tls| tls.wants_write()) else { return Ok(()) };
    let mut gather = Box::<Gather>::default();
    tls.seal(&mut gather)?;
    while !gather.is_empty() {
        let Some(half) = socket.write.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let done = write(WriteJob { half, gather }).await;
        socket.write = Some(done.half);
        gather = done.gather;
        match done.result {
            Ok(count) if count > 0 => gather.advance(count),
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whom to connect to.
pub(super) struct ConnectJob {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<Box<Tls>>,
    pub(super) place: Place,
    pub(super) within: Duration,
}

/// Makes a connection: the addresses in turn, then the handshake, all within one deadline.
pub(super) async fn connect(
    shared: std::rc::Rc<Shared>,
    job: ConnectJob,
) -> Result<Socket, UpstreamFault> {
    let ConnectJob { addresses, tls, place, within } = job;
    let start = Instant::now();
    let attempt = async {
        let mut last = UpstreamFault::Unresolved;
        let mut turns = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // An address that swallows everything leaves time for those behind it.
            let share = within.saturating_sub(start.elapsed()) / turns.max(1);
            turns = turns.saturating_sub(1);
            let Ok(tried) = timeout(share, TcpStream::connect_addr(address)).await else {
                last = UpstreamFault::TimedOut;
                continue;
            };
            match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    tracing::debug!(%address, kind = ?error.kind(), "connect failed");
                    last = match error.kind() {
                        io::ErrorKind::TimedOut => UpstreamFault::TimedOut,
                        _ => UpstreamFault::Refused,
                    };
                }
            }
        }
        Err(last)
    };
    let whole = async {
        let mut socket = Socket::new(attempt.await?);
        socket.tls = tls;
        handshake(&shared, &mut socket).await.map_err(|_| UpstreamFault::Tls)?;
        Ok(socket)
    };
    match timeout(within, whole).await {
        Ok(made) => made.map(|mut socket| {
            socket.place = Some(place);
            socket
        }),
        Err(_) => Err(UpstreamFault::TimedOut),
    }
}
