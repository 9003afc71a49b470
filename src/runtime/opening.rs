//! How a connection begins: with a handshake at once, or with a word in the clear before it.
//!
//! PostgreSQL's callers ask for encryption by a packet of eight bytes and are answered by one byte
//! (PostgreSQL manual, "Message Flow", "SSL Session Encryption" and "GSSAPI Session Encryption").
//! Whatever else comes first belongs to the session and is left in the socket, unread.
//!
//! ```text
//! caller:  (look) --0x16--> handshake, `postgresql` asked for by ALPN --> session
//!          (look) --SSLRequest, TLS here--> `S`, handshake --> session
//!          (look) --SSLRequest without TLS here, GSSENCRequest--> `N`, (look)
//!          (look) --anything else--> session, in plain text
//! upstream: SSLRequest --`S`--> handshake --> session; any other answer: no connection
//! ```
//!
//! Exactly the request is taken from the socket, and bytes that stand behind one that is granted end
//! the connection: they were sent in the clear by whoever could, and must never be taken for what
//! the peer said under TLS (CVE-2021-23214, CVE-2021-23222).
//!
//! Cost: two system calls for a caller that asks for nothing, and one peek more for each answer.

use super::shared::Shared;
use super::socket::{self, Socket};
use super::sys::{self, Gather};
use std::io;
use std::time::Duration;

/// How connections of a listener or to an upstream begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opening {
    /// With the TLS handshake, or without any where there is no TLS.
    #[default]
    Direct,
    /// As PostgreSQL's do.
    Postgres,
}

impl Opening {
    /// Whether connections last, also without a word for hours.
    pub(super) fn lasts(self) -> bool {
        self == Self::Postgres
    }

    /// The name of what is spoken under TLS (RFC 7301).
    pub(super) fn alpn(self) -> &'static [u8] {
        match self {
            Self::Direct => b"http/1.1",
            Self::Postgres => b"postgresql",
        }
    }
}

/// What a caller and this end agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    /// The session begins in plain text.
    Plain,
    /// The caller began a handshake unasked; it has to name the protocol.
    Direct,
    /// It asked for one, and waits for [`grant`].
    Asked,
}

/// What stands first in a caller's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Handshake,
    Ssl,
    Gss,
    Session,
}

impl Wish {
    /// `None`: more bytes are needed.
    fn of(seen: &[u8]) -> Option<Self> {
        match seen {
            [HANDSHAKE, ..] => Some(Self::Handshake),
            seen if *seen == SSL_REQUEST => Some(Self::Ssl),
            seen if *seen == GSS_REQUEST => Some(Self::Gss),
            seen if SSL_REQUEST.starts_with(seen) || GSS_REQUEST.starts_with(seen) => None,
            _ => Some(Self::Session),
        }
    }
}

/// Answers a caller's requests until it is clear how the session begins; `tls`: there is a
/// certificate to show. Whoever calls it bounds its time.
///
/// # Errors
/// The socket's; `InvalidData` for a caller that asks too often, wants TLS where there is none, or
/// sends something in the clear behind a request that is to be granted.
pub(super) async fn agree(shared: &Shared, socket: &mut Socket, tls: bool) -> io::Result<Agreed> {
    for _ in 0..REQUESTS_MAX {
        match wish(shared, socket).await? {
            Wish::Session => return Ok(Agreed::Plain),
            Wish::Handshake if tls => return Ok(Agreed::Direct),
            Wish::Handshake => return Err(io::ErrorKind::InvalidData.into()),
            Wish::Ssl if tls => {
                take_request(socket)?;
                refuse_more(socket)?;
                return Ok(Agreed::Asked);
            }
            Wish::Ssl | Wish::Gss => {
                take_request(socket)?;
                say(socket, b"N").await?;
            }
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Tells a caller that asked for it to begin the handshake.
///
/// # Errors
/// The socket's.
pub(super) async fn grant(socket: &mut Socket) -> io::Result<()> {
    say(socket, b"S").await
}

/// Asks an upstream for a handshake, and reads its one byte.
///
/// # Errors
/// The socket's; `InvalidData` for any answer but `S` alone. An error text of the server's is not
/// read: it came in the clear, from anybody.
pub(super) async fn ask(socket: &mut Socket) -> io::Result<()> {
    say(socket, &SSL_REQUEST).await?;
    let mut answer = [0];
    loop {
        socket::readable(socket).await?;
        match sys::receive_now(socket.fd, &mut answer, false) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    if answer != *b"S" {
        return Err(io::ErrorKind::InvalidData.into());
    }
    refuse_more(socket)
}

/// Waits until enough stands in the socket to tell what it is, and takes nothing.
async fn wish(shared: &Shared, socket: &mut Socket) -> io::Result<Wish> {
    let (mut pause_ms, mut over) = (PAUSE_MS_MIN, false);
    loop {
        socket::readable(socket).await?;
        let mut bytes = [0; SSL_REQUEST.len()];
        match sys::receive_now(socket.fd, &mut bytes, true) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                if let Some(wish) = bytes.get(..count).and_then(Wish::of) {
                    return Ok(wish);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if over {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What came before the end may have come behind the look.
        over = sys::is_hung_up(socket.fd);
        // The socket stays readable for as long as a part is in it, so its word is no use.
        shared.reactor.sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = pause_ms.saturating_mul(2).min(PAUSE_MS_MAX);
    }
}

/// Takes the request that [`wish`] saw: all of it is there, and nothing behind it is touched.
fn take_request(socket: &Socket) -> io::Result<()> {
    let mut request = [0; SSL_REQUEST.len()];
    let count = sys::receive_now(socket.fd, &mut request, false)?;
    debug_assert_eq!(count, request.len(), "what was seen is there");
    if count == request.len() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// An error if anything stands in the socket where the peer must wait for an answer.
fn refuse_more(socket: &Socket) -> io::Result<()> {
    match sys::receive_now(socket.fd, &mut [0], true) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) => Err(error),
    }
}

/// Writes in the clear.
async fn say(socket: &mut Socket, bytes: &'static [u8]) -> io::Result<()> {
    debug_assert!(socket.tls.is_none(), "the word before the handshake");
    let mut gather = Box::<Gather>::default();
    gather.pieces_mut().literal(bytes);
    socket::send(socket, gather).await
}

/// The first byte of a TLS record that begins a handshake (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
/// A length of 8 and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// A length of 8 and the code 80877104.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
/// Requests of one caller that are answered: libpq makes two at most.
const REQUESTS_MAX: u32 = 4;
/// How soon a part of a request is looked at again, doubled each time.
const PAUSE_MS_MIN: u64 = 1;
/// See [`PAUSE_MS_MIN`].
const PAUSE_MS_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_request_waits_and_all_else_does_not() {
        for (request, code) in [(SSL_REQUEST, 80_877_103u32), (GSS_REQUEST, 80_877_104)] {
            let (len, rest) = request.split_at(4);
            assert_eq!((len, rest), (&8u32.to_be_bytes()[..], &code.to_be_bytes()[..]));
            for (count, byte) in (0..).zip(request) {
                let (seen, _) = request.split_at(count);
                assert_eq!(Wish::of(seen), None);
                let mut other = seen.to_vec();
                other.push(byte ^ 0x80);
                assert_eq!(Wish::of(&other), Some(Wish::Session), "{other:?}");
            }
        }
        assert_eq!(Wish::of(&SSL_REQUEST), Some(Wish::Ssl));
        assert_eq!(Wish::of(&GSS_REQUEST), Some(Wish::Gss));
        assert_eq!(Wish::of(&[HANDSHAKE]), Some(Wish::Handshake));
        // A start-up packet and a cancel of 3.0, as far as eight bytes of them go.
        assert_eq!(Wish::of(&[0, 0, 0, 8 + 1, 0, 3, 0, 0]), Some(Wish::Session));
        assert_eq!(Wish::of(&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e]), Some(Wish::Session));
    }
}
