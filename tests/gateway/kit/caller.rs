//! A caller that knows of each byte whether it came.

use super::PATIENCE;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

/// One connection to a gateway, plain or TLS.
pub(crate) struct Caller<S> {
    pub(crate) stream: S,
    rest: Vec<u8>,
}

/// A head that came.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The request id, 32 hex digits.
    pub(crate) id: String,
    pub(crate) text: String,
    framing: Framing,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    UntilEnd,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Caller<TcpStream> {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: Read + Write> Caller<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, rest: Vec::new() }
    }

    /// Sends a request; `body` with its content type.
    pub(crate) fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: Option<(&str, &[u8])>,
    ) -> io::Result<()> {
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
        )
        .into_bytes();
        if let Some((kind, body)) = body {
            let len = body.len();
            let fields = format!("content-type: {kind}\r\ncontent-length: {len}\r\n");
            bytes.extend_from_slice(fields.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.map_or(&[], |(_, body)| body));
        self.stream.write_all(&bytes)
    }

    /// Waits for a head.
    pub(crate) fn head(&mut self) -> io::Result<Head> {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&self.rest, b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let text = String::from_utf8_lossy(&self.rest[..end]).to_ascii_lowercase();
        self.rest.drain(..end);
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let framing = match (field("transfer-encoding"), field("content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(len)) => Framing::Length(len.parse().unwrap()),
            (None, None) => Framing::UntilEnd,
        };
        Ok(Head {
            status: text.split(' ').nth(1).unwrap_or_default().parse().unwrap(),
            id: field("x-request-id").unwrap_or_default().to_owned(),
            framing,
            text,
        })
    }

    /// Appends the body to `to` as it comes, so that `to` is right when it is cut, too.
    pub(crate) fn body(&mut self, head: &Head, to: &mut Vec<u8>) -> io::Result<()> {
        match head.framing {
            Framing::Length(len) => self.take(len, to),
            Framing::Chunked => loop {
                let line = self.line()?;
                let len = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
                self.take(len, to)?;
                self.line()?;
                if len == 0 {
                    return Ok(());
                }
            },
            Framing::UntilEnd => loop {
                to.append(&mut self.rest);
                match self.more() {
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    more => more?,
                }
            },
        }
    }

    /// Waits for a whole answer.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let mut body = Vec::new();
        self.body(&head, &mut body)?;
        Ok(Answer { status: head.status, id: head.id, body })
    }

    /// Exactly `len` bytes of a body.
    pub(crate) fn take(&mut self, len: usize, to: &mut Vec<u8>) -> io::Result<()> {
        let mut left = len;
        loop {
            let now = left.min(self.rest.len());
            to.extend(self.rest.drain(..now));
            left -= now;
            if left == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let line = self.rest.drain(..=end).collect::<Vec<u8>>();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 << 10];
        let read = loop {
            match self.stream.read(&mut piece) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        match read {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            len => {
                self.rest.extend_from_slice(&piece[..len]);
                Ok(())
            }
        }
    }
}

/// One GET over a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str, token: &str) -> io::Result<Answer> {
    let mut caller = Caller::open(address)?;
    caller.send("GET", path, token, None)?;
    caller.answer()
}
