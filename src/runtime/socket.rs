//! One transport connection, and the operations on it as values that own what they touch.

use super::buffer::{Buffer, Class};
use super::opening::{self, Opening};
use super::reactor::{Descriptor, Op};
use super::shared::{Place, Shared};
use super::sys::{Done, Gather, Work};
use super::tls::Tls;
use super::{CallerLink, clock};
use crate::session::io::UpstreamFault;
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// What keeps a descriptor open; an operation in flight on one of its ways has one of the two.
pub(super) type Half = Rc<Descriptor>;

/// A connection of a caller or to an upstream. A half is away while an operation has it.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: RawFd,
    pub(super) read: Option<Half>,
    pub(super) write: Option<Half>,
    pub(super) tls: Option<Box<Tls>>,
    /// What counts it against the limit of its resource.
    pub(super) place: Option<Place>,
}

impl Socket {
    pub(super) fn new(descriptor: Descriptor) -> Self {
        let fd = descriptor.raw();
        let half = Rc::new(descriptor);
        Self { fd, read: Some(Rc::clone(&half)), write: Some(half), tls: None, place: None }
    }

    /// See [`Descriptor::peek`]; an error while operations have both halves.
    pub(super) fn peek(&self) -> io::Result<usize> {
        let half = self.read.as_ref().or(self.write.as_ref());
        half.map_or_else(|| Err(io::ErrorKind::NotConnected.into()), |half| half.peek())
    }

    /// What a session may know of it, once its handshake is over.
    pub(super) fn link(&self) -> CallerLink {
        let tls = self.tls.as_ref();
        CallerLink {
            certificate: tls.and_then(|tls| tls.peer_certificate()).map(<[u8]>::to_vec),
            server_name: tls.and_then(|tls| tls.server_name()),
            secure: tls.is_some(),
            id: 0,
        }
    }

    /// Whether no operation is in flight on it.
    pub(super) fn is_whole(&self) -> bool {
        self.read.is_some() && self.write.is_some()
    }
}

/// Small messages go out at once. A peer that is gone already shows at the first read.
pub(super) fn send_at_once(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_tcp_nodelay(true);
}

/// A peer that vanished is found out also where a session lasts for hours and nobody speaks, and
/// what stands between is kept from forgetting the connection.
pub(super) fn keep_alive(socket: &impl AsFd) {
    let settings = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEP_ALIVE_S))
        .with_interval(Duration::from_secs(KEEP_ALIVE_S));
    let _ = SockRef::from(socket).set_tcp_keepalive(&settings);
}

/// A read in flight. A drop gives it up first, and the half after it.
pub(super) struct Reading {
    op: Op,
    half: Half,
}

/// What came of a [`Reading`]; a wait yields `Ok(0)` and no buffer.
pub(super) struct ReadDone {
    pub(super) half: Half,
    pub(super) buffer: Option<Buffer>,
    pub(super) result: io::Result<usize>,
    /// It was for bytes, and not for there to be any.
    pub(super) for_bytes: bool,
}

impl Reading {
    /// For bytes, into a buffer that is taken when they come.
    pub(super) fn receive(half: Half, class: Class) -> Self {
        Self { op: half.start(Work::Receive(class)), half }
    }

    /// For there to be bytes, or an end.
    pub(super) fn readable(half: Half) -> Self {
        Self { op: half.start(Work::Readable), half }
    }

    /// What came of it, once.
    pub(super) fn outcome(slot: &mut Option<Self>) -> Option<ReadDone> {
        let Done { work, buffer, result, .. } = slot.as_mut()?.op.outcome(false)?;
        let half = slot.take()?.half;
        let for_bytes = matches!(work, Work::Receive(_));
        Some(ReadDone { half, buffer, result, for_bytes })
    }
}

/// A write in flight.
pub(super) struct Writing {
    op: Op,
    half: Half,
}

/// What came of a [`Writing`]. It may be short.
pub(super) struct WriteDone {
    pub(super) half: Half,
    pub(super) gather: Box<Gather>,
    pub(super) result: io::Result<usize>,
}

impl Writing {
    /// Writes what is left of the message.
    pub(super) fn start(half: Half, gather: Box<Gather>) -> Self {
        Self { op: half.start(Work::Send(gather)), half }
    }

    /// What came of it, once; with `quiet` a complete one wakes nobody.
    pub(super) fn outcome(slot: &mut Option<Self>, quiet: bool) -> Option<WriteDone> {
        let Done { work, result, .. } = slot.as_mut()?.op.outcome(quiet)?;
        let half = slot.take()?.half;
        let Work::Send(gather) = work else { return None };
        Some(WriteDone { half, gather, result })
    }
}

/// Drives the handshake of `socket.tls` to its end.
///
/// # Errors
/// The socket's, or `InvalidData` for what the peer sent; the alert was written then.
pub(super) async fn handshake(shared: &Shared, socket: &mut Socket) -> io::Result<()> {
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
        let done = half.start(Work::Receive(Class::Small)).await;
        socket.read = Some(half);
        let Some(buffer) = done.buffer else {
            return Err(done.result.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        };
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
    if !socket.tls.as_ref().is_some_and(|tls| tls.wants_write()) {
        return Ok(());
    }
    send(socket, Box::default()).await
}

/// Waits until there is something to read, or an end.
///
/// # Errors
/// The socket's.
pub(super) async fn readable(socket: &mut Socket) -> io::Result<()> {
    let Some(half) = socket.read.take() else { return Err(io::ErrorKind::NotConnected.into()) };
    let done = half.start(Work::Readable).await;
    socket.read = Some(half);
    done.result.map(drop)
}

/// Writes a message whole, and the records that wait before it.
///
/// # Errors
/// The socket's.
pub(super) async fn send(socket: &mut Socket, mut gather: Box<Gather>) -> io::Result<()> {
    if let Some(tls) = socket.tls.as_mut() {
        tls.seal(&mut gather)?;
    }
    while !gather.is_empty() {
        let Some(half) = socket.write.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let done = half.start(Work::Send(gather)).await;
        socket.write = Some(half);
        let Work::Send(back) = done.work else { return Err(io::ErrorKind::NotConnected.into()) };
        gather = back;
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
    pub(super) opening: Opening,
    pub(super) place: Place,
    pub(super) within: Duration,
}

/// Makes a connection: the addresses in turn, then the handshake, all within one deadline. Where
/// there is to be TLS there is TLS or no connection.
pub(super) async fn connect(shared: Rc<Shared>, job: ConnectJob) -> Result<Socket, UpstreamFault> {
    let ConnectJob { addresses, tls, opening, place, within } = job;
    let reactor = &shared.reactor;
    let until_ns = clock::mono_ns().saturating_add(nanos(within));
    let attempt = async {
        let mut last = UpstreamFault::Unresolved;
        let mut turns = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
        for address in addresses {
            // An address that swallows everything leaves time for those behind it.
            let share_ns = until_ns.saturating_sub(clock::mono_ns()) / turns.max(1);
            turns = turns.saturating_sub(1);
            let share = Duration::from_nanos(share_ns);
            match reactor.within(share, dial(&shared, address, opening)).await {
                None => last = UpstreamFault::TimedOut,
                Some(Ok(descriptor)) => return Ok(descriptor),
                Some(Err(error)) => {
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
        encrypt(&shared, &mut socket, tls, opening).await.map_err(|error| {
            tracing::debug!(%error, "an upstream's handshake failed");
            UpstreamFault::Tls
        })?;
        Ok(socket)
    };
    match reactor.within(within, whole).await {
        Some(made) => made.map(|mut socket| {
            socket.place = Some(place);
            socket
        }),
        None => Err(UpstreamFault::TimedOut),
    }
}

/// Asks for encryption where that is the custom, and shakes hands.
async fn encrypt(
    shared: &Shared,
    socket: &mut Socket,
    tls: Option<Box<Tls>>,
    opening: Opening,
) -> io::Result<()> {
    if tls.is_some() && opening == Opening::Postgres {
        opening::ask(socket).await?;
    }
    socket.tls = tls;
    handshake(shared, socket).await
}

/// Connects to one address.
async fn dial(shared: &Shared, address: SocketAddr, opening: Opening) -> io::Result<Descriptor> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    send_at_once(&socket);
    if opening.lasts() {
        keep_alive(&socket);
    }
    let descriptor = shared.reactor.adopt(OwnedFd::from(socket));
    descriptor.start(Work::Connect(Box::new(address.into()))).await.result?;
    Ok(descriptor)
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How long a connection is silent before its peer is asked, and between two tries of that.
const KEEP_ALIVE_S: u64 = 30;
