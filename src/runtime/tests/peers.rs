//! Callers and upstreams on blocking sockets and threads.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// Long enough for a machine that is busy; no test waits for it when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Any byte stream: plain or TLS.
pub(crate) trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub(crate) fn pattern(count: usize) -> Vec<u8> {
    // A prime length, so that no shift by a buffer's size goes unseen.
    let unit: Vec<u8> = (0..4_099usize).map(|place| (place.wrapping_mul(31) >> 3) as u8).collect();
    let mut bytes = unit.repeat(count.div_ceil(unit.len()));
    bytes.truncate(count);
    bytes
}

pub(crate) fn send(stream: &mut dyn Stream, kind: char, body: &[u8]) -> io::Result<()> {
    let mut message = format!("{:08}{kind}", body.len()).into_bytes();
    message.extend_from_slice(body);
    stream.write_all(&message)?;
    stream.flush()
}

pub(crate) fn receive(stream: &mut dyn Stream) -> io::Result<(char, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let text = std::str::from_utf8(&head).map_err(io::Error::other)?;
    let (digits, kind) = text.split_at(8);
    let mut body = vec![0; digits.parse().map_err(io::Error::other)?];
    stream.read_exact(&mut body)?;
    Ok((kind.chars().next().unwrap_or(' '), body))
}

pub(crate) fn ask(stream: &mut dyn Stream, kind: char, body: &[u8]) -> io::Result<Vec<u8>> {
    send(stream, kind, body)?;
    receive(stream).map(|(_, body)| body)
}

pub(crate) fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the worker listens");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
    stream
}

/// An upstream that speaks the fake protocol.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Hears of every connection that the gateway ended.
    pub(crate) cancelled: mpsc::Receiver<()>,
}

pub(crate) fn upstream() -> Peer {
    upstream_with(|stream| Some(Box::new(stream)))
}

pub(crate) fn upstream_with(
    wrap: impl Fn(TcpStream) -> Option<Box<dyn Stream>> + Send + Sync + 'static,
) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let accepted = Arc::new(AtomicUsize::new(0));
    let (sender, cancelled) = mpsc::channel();
    let count = Arc::clone(&accepted);
    let wrap = Arc::new(wrap);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let (sender, wrap) = (sender.clone(), Arc::clone(&wrap));
            std::thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let _ = stream.set_write_timeout(Some(PATIENCE));
                let _ = stream.set_nodelay(true);
                if let Some(mut stream) = wrap(stream) {
                    let _ = answer(&mut *stream, &sender);
                }
            });
        }
    });
    Peer { address, accepted, cancelled }
}

fn answer(stream: &mut dyn Stream, cancelled: &mpsc::Sender<()>) -> io::Result<()> {
    loop {
        let (kind, body) = receive(stream).inspect_err(|_| cancelled.send(()).unwrap_or(()))?;
        match kind {
            'e' => send(stream, 'e', &body)?,
            'g' => {
                let count = String::from_utf8_lossy(&body).parse().map_err(io::Error::other)?;
                if let Err(error) = send(stream, 'g', &pattern(count)) {
                    let _ = cancelled.send(());
                    return Err(error);
                }
            }
            'w' => {
                let ms = String::from_utf8_lossy(&body).parse().map_err(io::Error::other)?;
                stream.write_all(b"00000006wone")?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(ms));
                stream.write_all(b"two")?;
                stream.flush()?;
            }
            'h' => {
                stream.write_all(b"00001000hhalf")?;
                stream.flush()?;
                return Ok(());
            }
            's' => {
                let ended = stream.read(&mut [0; 1]);
                if !matches!(ended, Ok(count) if count > 0) {
                    let _ = cancelled.send(());
                }
                return Ok(());
            }
            _ => return Ok(()),
        }
    }
}
