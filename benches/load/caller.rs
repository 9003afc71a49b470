//! One connection of a caller: plain text or TLS, requests out, answers read and counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use memchr::{memchr, memmem};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::upstream::field;

/// A byte stream, whatever carries it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// How long a connect with its handshake may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A connected caller.
pub(crate) struct Caller {
    io: Box<dyn Io>,
    buf: BytesMut,
}

/// One answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body_len: u64,
    /// When the first byte of the body was there.
    pub(crate) first: Option<Instant>,
    /// The server will close.
    pub(crate) close: bool,
}

impl Caller {
    /// Connects; `tls` names the roots and, for a relay, the certificate that is shown.
    ///
    /// # Errors
    /// No connection, or no handshake, in time.
    pub(crate) async fn connect(
        address: SocketAddr,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> io::Result<Self> {
        let connect = async {
            let plain = TcpStream::connect(address).await?;
            plain.set_nodelay(true)?;
            let io: Box<dyn Io> = match tls {
                None => Box::new(plain),
                Some(config) => {
                    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                    Box::new(TlsConnector::from(Arc::clone(config)).connect(name, plain).await?)
                }
            };
            Ok(Self { io, buf: BytesMut::with_capacity(4 * 1024) })
        };
        tokio::time::timeout(CONNECT_MAX, connect).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// Sends a whole request.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.io.write_all(request).await?;
        self.io.flush().await
    }

    /// Reads one answer. `on_body` hears the bytes of the body as they come.
    ///
    /// # Errors
    /// A broken answer, or one that ends early.
    pub(crate) async fn answer(&mut self, mut on_body: impl FnMut(&[u8])) -> io::Result<Answer> {
        let (head, mut answer, framing) = loop {
            if let Some(end) = memmem::find(&self.buf, b"\r\n\r\n") {
                let head = self.buf.split_to(end + 4);
                // A sign of life.
                if head.starts_with(b"HTTP/1.1 1") {
                    continue;
                }
                let (answer, framing) = parse(&head)?;
                break (head, answer, framing);
            }
            self.fill().await?;
        };
        drop(head);
        match framing {
            Framing::Length(len) => self.take(len, &mut answer, &mut on_body).await?,
            Framing::Chunked => loop {
                let size = self.chunk_size().await?;
                if size == 0 {
                    self.skip_line().await?;
                    break;
                }
                self.take(size, &mut answer, &mut on_body).await?;
                self.skip_line().await?;
            },
        }
        Ok(answer)
    }

    /// Reads until the head and the first bytes of the body are there, and leaves the rest unread.
    ///
    /// # Errors
    /// A broken answer, or one that ends early.
    pub(crate) async fn first_bytes(&mut self) -> io::Result<u16> {
        loop {
            if let Some(end) = memmem::find(&self.buf, b"\r\n\r\n")
                && self.buf.len() > end + 4
            {
                let (answer, _) = parse(self.buf.get(..end + 4).unwrap_or_default())?;
                // An idle caller of the bench holds no buffer either.
                self.buf = BytesMut::new();
                return Ok(answer.status);
            }
            self.fill().await?;
        }
    }

    /// Reads exactly `len` bytes of a relay and forgets them.
    ///
    /// # Errors
    /// The connection ended early.
    pub(crate) async fn take_raw(&mut self, len: usize) -> io::Result<()> {
        while self.buf.len() < len {
            self.fill().await?;
        }
        self.buf.advance(len);
        Ok(())
    }

    /// Reads what is there, at most 64 KiB, and returns how much.
    ///
    /// # Errors
    /// The connection ended.
    pub(crate) async fn take_some(&mut self) -> io::Result<usize> {
        self.buf.clear();
        self.buf.reserve(64 * 1024);
        self.fill().await?;
        Ok(self.buf.len())
    }

    /// Ends the connection the clean way.
    pub(crate) async fn close(mut self) {
        let _ = tokio::time::timeout(Duration::from_millis(200), self.io.shutdown()).await;
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.buf.reserve(2 * 1024);
        if self.io.read_buf(&mut self.buf).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended early"));
        }
        Ok(())
    }

    async fn take(
        &mut self,
        len: u64,
        answer: &mut Answer,
        on_body: &mut impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut left = len;
        while left > 0 {
            if self.buf.is_empty() {
                self.fill().await?;
            }
            let here = self.buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            answer.first.get_or_insert_with(Instant::now);
            on_body(self.buf.get(..here).unwrap_or_default());
            self.buf.advance(here);
            left -= here as u64;
            answer.body_len += here as u64;
        }
        Ok(())
    }

    async fn chunk_size(&mut self) -> io::Result<u64> {
        loop {
            if let Some(end) = memchr(b'\n', &self.buf) {
                let line = self.buf.split_to(end + 1);
                return std::str::from_utf8(&line)
                    .ok()
                    .and_then(|line| u64::from_str_radix(line.trim(), 16).ok())
                    .ok_or_else(|| io::Error::other("bad chunk size"));
            }
            self.fill().await?;
        }
    }

    async fn skip_line(&mut self) -> io::Result<()> {
        while self.buf.len() < 2 {
            self.fill().await?;
        }
        if self.buf.starts_with(b"\r\n") {
            self.buf.advance(2);
            Ok(())
        } else {
            Err(io::Error::other("a chunk does not end where it should"))
        }
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

fn parse(head: &[u8]) -> io::Result<(Answer, Framing)> {
    let status = head
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| io::Error::other("no status line"))?;
    let close = field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let framing = if let Some(value) = field(head, "content-length") {
        Framing::Length(value.parse().map_err(io::Error::other)?)
    } else if field(head, "transfer-encoding").is_some() {
        Framing::Chunked
    } else {
        return Err(io::Error::other("an answer without a length"));
    };
    Ok((Answer { status, body_len: 0, first: None, close }, framing))
}
