//! The socket to a server, in plain text or in TLS.

use super::DatabaseError;
use crate::wire::postgres::write::SSL_REQUEST;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// TLS towards a server: who is trusted, and the name that its certificate must have.
pub type DatabaseTls = (Arc<ClientConfig>, ServerName<'static>);

/// See the module.
pub(super) enum Link {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

/// A socket whose peer may say nothing for only so long, and must be done by a time, however often it
/// says a little.
pub(super) struct Timed {
    socket: TcpStream,
    silence: Duration,
    until: Instant,
}

impl Timed {
    /// How long the next call may take.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now()).min(self.silence);
        // A timeout of nothing means none.
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        self.socket.read(to)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(self.left()?))?;
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Link {
    /// Connects, and begins TLS where it is asked for. A server that refuses TLS is not spoken to. Until
    /// [`give`](Self::give) is called all of it has `login` of time.
    pub(super) fn open(
        host: &str,
        port: u16,
        tls: Option<&DatabaseTls>,
        login: Duration,
    ) -> Result<Self, DatabaseError> {
        let until = Instant::now() + login;
        let mut socket = Timed { socket: connect(host, port)?, silence: CONNECT, until };
        let Some((config, name)) = tls else { return Ok(Self::Plain(socket)) };
        socket.write_all(&SSL_REQUEST)?;
        // One byte and no more: what stood behind it would have come in plain text.
        let mut answer = [0];
        socket.read_exact(&mut answer)?;
        if answer != *b"S" {
            return Err(DatabaseError::NoTls);
        }
        let failed = |error: rustls::Error| DatabaseError::Tls(error.to_string());
        let mut connection =
            ClientConnection::new(Arc::clone(config), name.clone()).map_err(failed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(|error| match error.get_ref() {
                Some(inner) if inner.is::<rustls::Error>() => DatabaseError::Tls(inner.to_string()),
                _ => DatabaseError::from(error),
            })?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// The server's certificate, DER.
    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.conn.peer_certificates()?.first()?.to_vec()),
        }
    }

    /// How it is encrypted, for people.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Plain(_) => "plain text".to_owned(),
            Self::Tls(stream) => match stream.conn.protocol_version() {
                Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
                Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
                _ => "TLS".to_owned(),
            },
        }
    }

    /// How long the server may say nothing from here on, and how long all may take.
    pub(super) fn give(&mut self, silence: Duration, all: Duration) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        };
        (socket.silence, socket.until) = (silence, Instant::now() + all);
    }

    pub(super) fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(to),
            Self::Tls(stream) => stream.read(to),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes),
            Self::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }
}

/// The first address that answers.
fn connect(host: &str, port: u16) -> Result<TcpStream, DatabaseError> {
    let addresses = (host, port).to_socket_addrs()?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last.into())
}

/// For the connection, and for each step of a login.
const CONNECT: Duration = Duration::from_secs(10);
