//! The stand-in for a provider: one thread, HTTP/1.1 with keep-alive, plain text and TLS; and three
//! raw TCP services for the relays.
//!
//! It does as little as it can per request, but it does check that the caller's token was replaced:
//! a proxy that forwards it gets 403 and spoils its own cell.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;

use crate::Outcome;
use crate::material::{Kind, Material, UPSTREAM_KEY};

/// Pause between two events of a stream.
const EVENT_PAUSE: Duration = Duration::from_millis(2);
/// One write of the bulk source.
const BLOCK_LEN: usize = 64 * 1024;
/// Connects that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// Longest head and body that are read; a proxy sends far less.
const REQUEST_LEN_MAX: usize = 64 * 1024;

/// Where the services listen.
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) echo: SocketAddr,
    pub(crate) source: SocketAddr,
    pub(crate) sink: SocketAddr,
}

/// What every HTTP connection answers with.
struct Script {
    answer: Vec<u8>,
    stream_head: Vec<u8>,
    events: Arc<[Vec<u8>]>,
    key: memmem::Finder<'static>,
    stream: memmem::Finder<'static>,
    hold: memmem::Finder<'static>,
}

/// Binds all services and runs them in one thread until the process ends.
///
/// # Errors
/// A socket that cannot be bound.
pub(crate) fn start(material: &Material) -> Outcome<Addresses> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    // The backlog of the standard library (128) drops connects when 256 come at once.
    let bind = || -> io::Result<(TcpListener, SocketAddr)> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let (http, http_at) = bind()?;
    let (https, https_at) = bind()?;
    let (echo, echo_at) = bind()?;
    let (source, source_at) = bind()?;
    let (sink, sink_at) = bind()?;
    let acceptor = TlsAcceptor::from(Arc::clone(&material.upstream_tls));
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        material.answer.len()
    )
    .into_bytes();
    answer.extend_from_slice(&material.answer);
    let events = Arc::clone(&material.events);
    drop(entered);
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        let script = std::rc::Rc::new(Script {
            answer,
            stream_head: b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                           Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_vec(),
            events,
            key: memmem::Finder::new(UPSTREAM_KEY),
            stream: memmem::Finder::new("\"stream\":true"),
            hold: memmem::Finder::new("\"hold\":true"),
        });
        LocalSet::new().block_on(&runtime, async move {
            let plain = std::rc::Rc::clone(&script);
            let services = [
                tokio::task::spawn_local(accept(http, move |io| {
                    let script = std::rc::Rc::clone(&plain);
                    async move { http_connection(io, &script).await }
                })),
                tokio::task::spawn_local(accept(https, move |io| {
                    let (script, acceptor) = (std::rc::Rc::clone(&script), acceptor.clone());
                    async move { http_connection(acceptor.accept(io).await?, &script).await }
                })),
                tokio::task::spawn_local(accept(echo, echo_connection)),
                tokio::task::spawn_local(accept(source, source_connection)),
                tokio::task::spawn_local(accept(sink, sink_connection)),
            ];
            for service in services {
                if let Ok(Err(error)) = service.await {
                    eprintln!("load: the upstream stand-in failed: {error}");
                }
            }
        });
    })?;
    Ok(Addresses {
        http: http_at,
        https: https_at,
        echo: echo_at,
        source: source_at,
        sink: sink_at,
    })
}

async fn accept<F, S>(listener: TcpListener, serve: S) -> io::Result<()>
where
    S: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<()>> + 'static,
{
    loop {
        match listener.accept().await {
            Ok((io, _)) => {
                io.set_nodelay(true)?;
                tokio::task::spawn_local(serve(io));
            }
            // Out of descriptors: the caller's cell fails by itself; do not spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn http_connection<T>(mut io: T, script: &Script) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut buf = BytesMut::with_capacity(4 * 1024);
    loop {
        let Some(kind) = request(&mut io, &mut buf, script).await? else { return Ok(()) };
        match kind {
            Ok(Kind::Answer) => io.write_all(&script.answer).await?,
            Ok(Kind::Stream) => stream(&mut io, script).await?,
            Ok(Kind::Hold) => {
                io.write_all(&script.stream_head).await?;
                for event in script.events.iter().take(2) {
                    io.write_all(event).await?;
                }
                io.flush().await?;
                drop(buf);
                let mut end = [0; 1];
                // Silent until the proxy goes away.
                while io.read(&mut end).await? > 0 {}
                return Ok(());
            }
            Err(()) => {
                let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
                io.write_all(refusal).await?;
            }
        }
        io.flush().await?;
    }
}

/// Reads one whole request. `None` when the connection ended; `Err` inside when the caller's token
/// was not replaced.
async fn request<T>(
    io: &mut T,
    buf: &mut BytesMut,
    script: &Script,
) -> io::Result<Option<Result<Kind, ()>>>
where
    T: AsyncRead + Unpin,
{
    loop {
        if let Some(whole) = whole_request(buf)? {
            let bytes = buf.split_to(whole);
            if script.key.find(&bytes).is_none() {
                return Ok(Some(Err(())));
            }
            let kind = if script.stream.find(&bytes).is_none() {
                Kind::Answer
            } else if script.hold.find(&bytes).is_none() {
                Kind::Stream
            } else {
                Kind::Hold
            };
            return Ok(Some(Ok(kind)));
        }
        if buf.len() > REQUEST_LEN_MAX {
            return Err(io::Error::other("request too long"));
        }
        buf.reserve(2 * 1024);
        if io.read_buf(buf).await? == 0 {
            return Ok(None);
        }
    }
}

/// Length of the first request in `buf`, head and body, when it is all there.
fn whole_request(buf: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = memmem::find(buf, b"\r\n\r\n") else { return Ok(None) };
    let (head, rest) = buf.split_at(end);
    let body = rest.get(4..).unwrap_or_default();
    let body_len = if let Some(value) = field(head, "content-length") {
        let len: usize = value.parse().map_err(|_| io::Error::other("bad content-length"))?;
        (body.len() >= len).then_some(len)
    } else if field(head, "transfer-encoding").is_some() {
        chunked_len(body)
    } else {
        Some(0)
    };
    Ok(body_len.map(|len| end + 4 + len))
}

/// Length of a chunked body up to its end, when it is all there.
fn chunked_len(body: &[u8]) -> Option<usize> {
    let mut rest = body;
    loop {
        let line = memmem::find(rest, b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..line)?).ok()?;
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = rest.get(line.checked_add(2)?.checked_add(size)?.checked_add(2)?..)?;
        if size == 0 {
            return Some(body.len() - rest.len());
        }
    }
}

/// The value of a field of a head, by its lower-case name.
pub(crate) fn field<'h>(head: &'h [u8], name: &str) -> Option<&'h str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (left, right) = line.split_at_checked(name.len())?;
        if !left.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        std::str::from_utf8(right.strip_prefix(b":")?).ok().map(str::trim)
    })
}

async fn stream<T>(io: &mut T, script: &Script) -> io::Result<()>
where
    T: AsyncWrite + Unpin,
{
    io.write_all(&script.stream_head).await?;
    io.flush().await?;
    let mut ticks = interval(EVENT_PAUSE);
    // A late tick must not make two events go out at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for event in script.events.iter() {
        ticks.tick().await;
        io.write_all(event).await?;
        io.flush().await?;
    }
    io.write_all(b"0\r\n\r\n").await
}

async fn echo_connection(mut io: TcpStream) -> io::Result<()> {
    let mut buf = BytesMut::with_capacity(4 * 1024);
    while io.read_buf(&mut buf).await? > 0 {
        io.write_all(&buf).await?;
        let len = buf.len();
        buf.advance(len);
        buf.reserve(1024);
    }
    Ok(())
}

/// Sends until the other side closes. Waits for one byte first: a relay may connect ahead.
async fn source_connection(mut io: TcpStream) -> io::Result<()> {
    let block = vec![b'd'; BLOCK_LEN];
    io.read_u8().await?;
    loop {
        io.write_all(&block).await?;
    }
}

async fn sink_connection(mut io: TcpStream) -> io::Result<()> {
    let mut buf = vec![0; BLOCK_LEN];
    while io.read(&mut buf).await? > 0 {}
    Ok(())
}
