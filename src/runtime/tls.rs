//! A TLS connection without a socket: sealed bytes in and out of buffers that others move.

use super::buffer::Buffer;
use super::sys::Gather;
use rustls::Connection;
use rustls_pki_types::ServerName;
use std::io::{self, IoSlice, Read, Write};

/// One TLS connection of either side.
#[derive(Debug)]
pub(super) struct Tls {
    connection: Connection,
    /// Sealed bytes that came and are not opened yet.
    sealed: Option<Buffer>,
    /// Opened bytes that `connection` holds.
    opened: usize,
    ended: bool,
    notified: bool,
}

impl Tls {
    pub(super) fn new(mut connection: Connection) -> Self {
        // What is sealed at a time is bounded by the buffers; a second bound would cut messages.
        connection.set_buffer_limit(None);
        Self { connection, sealed: None, opened: 0, ended: false, notified: false }
    }

    /// Whether the handshake still needs bytes of the peer.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Takes over sealed bytes that came; gives the buffer back through [`Self::spent`].
    pub(super) fn take_sealed(&mut self, buffer: Buffer) {
        debug_assert!(self.sealed.is_none());
        self.sealed = Some(buffer);
    }

    /// The buffer of sealed bytes, once all of them are opened.
    pub(super) fn spent(&mut self) -> Option<Buffer> {
        self.sealed.take_if(|buffer| buffer.is_empty())
    }

    /// Gives up what is sealed and opened.
    pub(super) fn abandon(&mut self) -> Option<Buffer> {
        self.opened = 0;
        self.sealed.take()
    }

    /// Whether another read makes sense: nothing sealed or opened waits.
    pub(super) fn is_drained(&self) -> bool {
        self.opened == 0 && self.sealed.is_none()
    }

    /// Opens sealed bytes until opened ones stand ready or nothing is left.
    ///
    /// # Errors
    /// The peer's records or handshake are not acceptable; an alert waits to be written.
    pub(super) fn open(&mut self) -> Result<(), rustls::Error> {
        while self.opened == 0 && !self.ended {
            let Some(buffer) = self.sealed.as_mut().filter(|buffer| !buffer.is_empty()) else {
                break;
            };
            let mut bytes = buffer.filled();
            let count = self.connection.read_tls(&mut bytes).unwrap_or(0);
            if count == 0 {
                // Only with plain text or a close_notify in hand, and then we are not here.
                return Err(rustls::Error::General("no room for records".into()));
            }
            buffer.consume(count);
            let state = self.connection.process_new_packets()?;
            self.opened = state.plaintext_bytes_to_read();
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// Bytes that are opened and not taken.
    pub(super) fn opened(&self) -> usize {
        self.opened
    }

    /// Whether the peer's `close_notify` came and all before it was taken.
    pub(super) fn is_ended(&self) -> bool {
        self.ended && self.opened == 0
    }

    /// Moves opened bytes into the room of `to`; returns how many.
    pub(super) fn read(&mut self, to: &mut Buffer) -> usize {
        let mut total = 0usize;
        while self.opened > 0 {
            let count = match self.connection.reader().read(to.room()) {
                Ok(count) if count > 0 => count,
                _ => break,
            };
            to.extend(count);
            self.opened = self.opened.saturating_sub(count);
            total = total.saturating_add(count);
        }
        total
    }

    /// Whether records wait to be written.
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Seals the pieces of `gather` in place; returns the buffer that they named.
    ///
    /// Several pieces go into one record, since each record costs its 22 bytes, a pass of the
    /// cipher's set-up and two allocations of rustls, which makes records nowhere but on the heap.
    pub(super) fn seal(&mut self, gather: &mut Gather) -> io::Result<Option<Buffer>> {
        let mut writer = self.connection.writer();
        let mut slices = gather.slices().filter(|slice| !slice.is_empty()).map(IoSlice::new);
        loop {
            let mut some = [IoSlice::new(&[]); SLICES];
            let (mut count, mut len) = (0usize, 0usize);
            for (place, slice) in some.iter_mut().zip(&mut slices) {
                (count, len) = (count + 1, len.saturating_add(slice.len()));
                *place = slice;
            }
            if count == 0 {
                break;
            }
            if writer.write_vectored(some.get(..count).unwrap_or_default())? != len {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        drop(slices);
        let source = gather.reclaim();
        gather.clear();
        let connection = &mut self.connection;
        let mut result = Ok(());
        gather.pieces_mut().write_with(|arena| {
            while connection.wants_write() && result.is_ok() {
                result = connection.write_tls(arena).map(drop);
            }
        });
        result.map(|()| source)
    }

    /// Says that nothing more will be sent; once.
    pub(super) fn close(&mut self) {
        if !self.notified {
            self.notified = true;
            self.connection.send_close_notify();
        }
    }

    /// Certificate of the peer, DER.
    pub(super) fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.connection.peer_certificates()?;
        chain.first().map(|certificate| certificate.as_ref())
    }

    /// Whether both ends named `protocol` in the handshake (RFC 7301).
    pub(super) fn speaks(&self, protocol: &[u8]) -> bool {
        self.connection.alpn_protocol() == Some(protocol)
    }

    /// The name that a caller asked for.
    pub(super) fn server_name(&self) -> Option<String> {
        match &self.connection {
            Connection::Server(server) => server.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        }
    }
}

/// A client's connection to `name`.
pub(super) fn client(
    config: &std::sync::Arc<rustls::ClientConfig>,
    name: &ServerName<'static>,
) -> Result<Tls, rustls::Error> {
    let connection = rustls::ClientConnection::new(config.clone(), name.clone())?;
    Ok(Tls::new(connection.into()))
}

/// A server's connection.
pub(super) fn server(config: &std::sync::Arc<rustls::ServerConfig>) -> Result<Tls, rustls::Error> {
    Ok(Tls::new(rustls::ServerConnection::new(config.clone())?.into()))
}

/// Pieces that are sealed at a time; 512 bytes of stack.
const SLICES: usize = 32;
