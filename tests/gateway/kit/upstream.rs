//! An upstream of plain blocking sockets, that does what the test says.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A connection over TLS.
pub(crate) type Secure = StreamOwned<ServerConnection, TcpStream>;

/// One request as it came.
pub(crate) struct Heard {
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// Stops, closes everything and joins its threads when dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Upstream {
    /// Serves HTTP: `answer` writes the whole answer. An error of it ends the connection.
    pub(crate) fn start<F>(answer: F) -> Self
    where
        F: Fn(&Heard, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        Self::raw(move |mut stream| {
            let mut rest = Vec::new();
            while let Some(heard) = hear(&mut stream, &mut rest)? {
                answer(&heard, &mut stream)?;
            }
            Ok(())
        })
    }

    /// The same over TLS, with a certificate and its key in PEM.
    pub(crate) fn secure<F>(certificate: &Path, key: &Path, answer: F) -> Self
    where
        F: Fn(&Heard, &mut Secure) -> io::Result<()> + Send + Sync + 'static,
    {
        let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
        let key = PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        Self::raw(move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config));
            let mut stream = StreamOwned::new(connection.map_err(io::Error::other)?, stream);
            let mut rest = Vec::new();
            while let Some(heard) = hear(&mut stream, &mut rest)? {
                answer(&heard, &mut stream)?;
            }
            Ok(())
        })
    }

    /// Answers each request with its path and the credential that came with it, spelled backward:
    /// as it is, the gateway would not let it through.
    pub(crate) fn echo() -> Self {
        Self::start(|heard, stream| {
            let key = heard.head.lines().find(|line| line.starts_with("authorization: "));
            let key: String = key.unwrap_or_default().trim_end().chars().rev().collect();
            let body = format!("{key} {}", heard.path);
            answer(stream, "text/plain", body.as_bytes())
        })
    }

    /// Hands each connection to `serve`.
    pub(crate) fn raw<F>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (known, serve) = (Arc::clone(&shared), Arc::new(serve));
        let accept = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if known.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let _ = stream.set_nodelay(true);
                known.open.lock().unwrap().extend(stream.try_clone());
                let serve = Arc::clone(&serve);
                let thread = std::thread::spawn(move || {
                    let seen = stream.try_clone();
                    // The end of a connection, in whatever way, is the test's to judge.
                    let _ = serve(stream);
                    let _ = seen.map(|stream| stream.shutdown(Shutdown::Both));
                });
                known.threads.lock().unwrap().push(thread);
            }
        });
        Self { address, shared, accept: Some(accept) }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
        let _ = self.accept.take().map(JoinHandle::join);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.shared.threads.lock().unwrap().drain(..) {
            let _ = thread.join();
        }
    }
}

/// Reads one request; `None` at a clean end.
fn hear(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<Option<Heard>> {
    let end = loop {
        if let Some(end) = memchr::memmem::find(rest, b"\r\n\r\n") {
            break end + 4;
        }
        if more(stream, rest)? == 0 {
            return if rest.is_empty() {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
    };
    let head = String::from_utf8_lossy(&rest[..end]).into_owned();
    rest.drain(..end);
    let lower = head.to_ascii_lowercase();
    assert!(!lower.contains("transfer-encoding"), "these tests send bodies of known length");
    let len = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let len: usize = len.unwrap_or(0);
    while rest.len() < len {
        if more(stream, rest)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = rest.drain(..len).collect();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Some(Heard { path, head, body }))
}

fn more(stream: &mut impl Read, rest: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; 16 << 10];
    let len = stream.read(&mut piece)?;
    rest.extend_from_slice(&piece[..len]);
    Ok(len)
}

/// A whole answer of known length.
pub(crate) fn answer(stream: &mut impl Write, kind: &str, body: &[u8]) -> io::Result<()> {
    let len = body.len();
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes)
}

/// One chunk of a chunked answer; an empty one is the last.
pub(crate) fn chunk(stream: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let mut bytes = format!("{:x}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(b"\r\n");
    stream.write_all(&bytes)
}

/// The head of a chunked answer.
pub(crate) fn chunked_head(stream: &mut impl Write, kind: &str) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes())
}
