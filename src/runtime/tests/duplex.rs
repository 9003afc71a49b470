//! A session that lasts: both sides speak when they like, messages follow each other without a
//! wait, and the session takes whole messages only. A database's sessions are like that.
//!
//! A message is four bytes of length (big-endian, of what follows) and the body. From a caller, one
//! that begins with `q` goes on to the upstream, and one that begins with `r` is refused by the
//! session itself, with as many bytes as the caller wants it to be: its last four.

use super::opening::secured;
use super::peers::{PATIENCE, Stream, dial, pattern};
use super::secure::{Authority, shown};
use super::{at, eventually, on_both_drivers, plan, start};
use crate::base::{CredentialId, ExchangeId, ListenerId, Now, ResourceId};
use crate::runtime::{CallerLink, Opening, Published, Session, Sessions, Upstream, Upstreams};
use crate::session::io::{Act, Input, Interest, Out, WHOLE_MAX};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const EXCHANGE: ExchangeId = ExchangeId(11);
const SOCKET_BUFFER: usize = 64 << 10;

#[derive(Clone, Default)]
struct Wires {
    log: Arc<Mutex<Vec<String>>>,
    /// Bytes of refusals.
    refused: Arc<AtomicUsize>,
}

impl Wires {
    fn has(&self, text: &str) -> bool {
        self.log.lock().expect("log").iter().any(|line| line == text)
    }
}

impl Sessions for Wires {
    type S = Wire;

    fn open(&self, _: SocketAddr, _: ListenerId, _: CallerLink) -> Wire {
        Wire { wires: self.clone(), stage: Stage::New, waits_for: 0 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Connecting,
    Live,
    Closed,
}

struct Wire {
    wires: Wires,
    stage: Stage,
    /// Messages that went on and are not answered.
    waits_for: usize,
}

/// The first whole message.
fn message(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (head, rest) = bytes.split_first_chunk()?;
    let len = u32::from_be_bytes(*head) as usize;
    Some((rest.get(..len)?, 4 + len))
}

fn sealed(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).expect("short");
    [&len.to_be_bytes()[..], body].concat()
}

impl Wire {
    fn note(&self, text: &str) {
        self.wires.log.lock().expect("log").push(text.to_owned());
    }

    fn caller(&mut self, bytes: &[u8], out: &mut Out) -> usize {
        let mut at = 0;
        while let Some((body, len)) = message(&bytes[at..]) {
            if body.first() == Some(&b'q') {
                self.waits_for += 1;
                out.test_upstream().source(at..at + len);
            } else {
                let wanted = body.last_chunk().map_or(0, |wanted| u32::from_be_bytes(*wanted));
                let mut answer = body.to_vec();
                answer.resize(wanted as usize, b'.');
                self.wires.refused.fetch_add(answer.len(), Ordering::SeqCst);
                out.test_caller().text(&sealed(&answer));
            }
            at += len;
        }
        at
    }

    fn upstream(&mut self, bytes: &[u8], out: &mut Out) -> usize {
        let mut at = 0;
        while let Some((body, len)) = message(&bytes[at..]) {
            self.waits_for -= usize::from(body.first() == Some(&b'q'));
            out.test_caller().source(at..at + len);
            at += len;
        }
        at
    }

    fn close(&mut self, text: &str, out: &mut Out) -> usize {
        self.note(text);
        self.stage = Stage::Closed;
        out.test_act(Act::Release { exchange: EXCHANGE, reuse: false });
        out.test_act(Act::CloseCaller { linger: false });
        0
    }
}

impl Session for Wire {
    fn handle(&mut self, input: Input<'_>, _now: Now, out: &mut Out) -> usize {
        match input {
            Input::Timer if self.stage == Stage::New => {
                self.stage = Stage::Connecting;
                out.test_act(Act::Connect {
                    exchange: EXCHANGE,
                    resource: ResourceId(0),
                    credential: CredentialId(0),
                    generation: 1,
                    fresh: true,
                });
            }
            Input::Connected(..) => self.stage = Stage::Live,
            Input::Caller(bytes) => return self.caller(bytes, out),
            Input::Upstream(_, bytes) => return self.upstream(bytes, out),
            Input::UpstreamEnd(_, ending) => {
                return self.close(&format!("upstream {ending:?}"), out);
            }
            Input::CallerEnd => return self.close("caller end", out),
            Input::CallerGone => return self.close("caller gone", out),
            Input::Drain => return self.close("drain", out),
            _ => {}
        }
        0
    }

    fn interest(&self) -> Interest {
        let live = self.stage == Stage::Live;
        Interest { caller: live, upstream: live, idle: live && self.waits_for == 0 }
    }

    fn deadline(&self) -> Option<u64> {
        // Hours away, as a database session's is.
        if self.stage == Stage::New { Some(0) } else { Some(u64::MAX / 2) }
    }

    fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }
}

fn receive(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn query(number: u32) -> Vec<u8> {
    [b"q", &number.to_be_bytes()[..], &[b'.'; 200]].concat()
}

fn refused(number: u32, len: u32) -> Vec<u8> {
    [b"r", &number.to_be_bytes()[..], &len.to_be_bytes()[..]].concat()
}

/// An upstream that serves each connection with `serve`.
fn peer(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let _ = stream.set_write_timeout(Some(PATIENCE));
                let _ = stream.set_nodelay(true);
                let _ = serve(stream);
            });
        }
    });
    address
}

/// Whether the kernel has a keep-alive timer running (proc_net_tcp(5)) for the connection of this
/// process from port `local`, or any, to port `remote`.
fn is_kept_alive(local: Option<u16>, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("proc");
    let port = |field: &str| u16::from_str_radix(field.split_once(':')?.1, 16).ok();
    let mut found = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let here = port(fields[1])?;
        let wanted = port(fields[2])? == remote && local.is_none_or(|local| local == here);
        // Established, and the kind of the timer.
        (wanted && fields[3] == "01").then(|| fields[5].starts_with("02:"))
    });
    found.next().expect("the connection")
}

/// Smaller than what is on its way; much smaller ones make the kernel wait for timers.
fn with_small_buffers(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SOCKET_BUFFER).expect("a send buffer");
    socket.set_recv_buffer_size(SOCKET_BUFFER).expect("a receive buffer");
}

#[test]
fn an_upstream_speaks_while_its_caller_is_silent() {
    on_both_drivers(|legacy| {
        let there = peer(|mut stream| {
            loop {
                let body = receive(&mut stream)?;
                stream.write_all(&sealed(&body))?;
                for pause_ms in [0, 30, 150, 400] {
                    thread::sleep(Duration::from_millis(pause_ms));
                    stream.write_all(&sealed(b"notice"))?;
                }
            }
        });
        let (worker, address) = start(plan(there, legacy), &Wires::default());
        let mut caller = dial(address);
        for number in 0..2 {
            caller.write_all(&sealed(&query(number))).expect("sent");
            assert_eq!(receive(&mut caller).expect("an answer"), query(number));
            for _ in 0..4 {
                assert_eq!(receive(&mut caller).expect("a notice"), b"notice");
            }
        }
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn many_small_messages_both_ways_at_once_do_not_stop_each_other() {
    // More than all buffers of the kernel hold.
    const COUNT: u32 = 60_000;
    on_both_drivers(|legacy| {
        // It reads the next message only when it has answered the one before, as a server does.
        let there = peer(|mut stream| {
            with_small_buffers(&stream);
            let mut input = io::BufReader::new(stream.try_clone()?);
            loop {
                let mut head = [0; 4];
                input.read_exact(&mut head)?;
                let mut body = vec![0; u32::from_be_bytes(head) as usize];
                input.read_exact(&mut body)?;
                stream.write_all(&[sealed(&body), sealed(b"notice")].concat())?;
            }
        });
        let (worker, address) = start(plan(there, legacy), &Wires::default());
        let mut caller = dial(address);
        with_small_buffers(&caller);
        let mut twin = caller.try_clone().expect("clone");
        let writer = thread::spawn(move || {
            for number in 0..COUNT {
                let mut bytes = sealed(&query(number));
                if number % 3 == 0 {
                    bytes.extend(sealed(&refused(number, 40)));
                }
                twin.write_all(&bytes).expect("sent");
            }
        });
        let (mut answers, mut refusals, mut notices) = (0, 0, 0);
        let mut input = io::BufReader::new(&mut caller);
        while answers < COUNT || refusals < COUNT.div_ceil(3) || notices < COUNT {
            let mut head = [0; 4];
            input.read_exact(&mut head).expect("a message");
            let mut body = vec![0; u32::from_be_bytes(head) as usize];
            input.read_exact(&mut body).expect("a message");
            match body.first() {
                Some(b'q') => {
                    assert_eq!(body, query(answers));
                    answers += 1;
                }
                Some(b'r') => {
                    assert_eq!(body[..9], refused(refusals * 3, 40));
                    refusals += 1;
                }
                _ => notices += 1,
            }
        }
        writer.join().expect("the writer is content");
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn an_upstream_that_ends_while_nothing_is_asked_is_told_at_once() {
    on_both_drivers(|legacy| {
        let there = peer(|mut stream| {
            let body = receive(&mut stream)?;
            stream.write_all(&sealed(&body))?;
            thread::sleep(Duration::from_millis(200));
            Ok(())
        });
        let wires = Wires::default();
        let (worker, address) = start(plan(there, legacy), &wires);
        let mut caller = dial(address);
        caller.write_all(&sealed(&query(1))).expect("sent");
        assert_eq!(receive(&mut caller).expect("an answer"), query(1));
        assert_eq!(caller.read(&mut [0; 1]).expect("a clean end"), 0);
        assert!(wires.has("upstream Clean"));
        assert!(worker.stop());
    });
}

#[test]
fn refusals_that_nobody_reads_are_not_piled_up() {
    on_both_drivers(|legacy| {
        const LEN: u32 = 1_024;
        let there = peer(|mut stream| receive(&mut stream).map(drop));
        let wires = Wires::default();
        let (worker, address) = start(plan(there, legacy), &wires);
        let caller = dial(address);
        let mut twin = caller.try_clone().expect("clone");
        let count = 40_000;
        let writer = thread::spawn(move || {
            let flood: Vec<u8> = (0..count).flat_map(|n| sealed(&refused(n, LEN))).collect();
            twin.write_all(&flood).expect("sent");
        });
        // Until nothing moves any more.
        let mut before = usize::MAX;
        eventually("it waits for its reader", || {
            thread::sleep(Duration::from_millis(100));
            let there = wires.refused.load(Ordering::SeqCst);
            std::mem::replace(&mut before, there) == there && there > 0
        });
        // What the kernel holds, and what two buffers full of messages lead to.
        let most = wires.refused.load(Ordering::SeqCst);
        assert!(most < 24 << 20, "{most} bytes of {}", count * LEN);
        let mut input = io::BufReader::new(&caller);
        for number in 0..count {
            let mut message = vec![0; 4 + LEN as usize];
            input.read_exact(&mut message).expect("a refusal");
            assert_eq!(message[4..13], refused(number, LEN));
        }
        writer.join().expect("the writer is content");
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_message_may_be_left_until_it_is_whole_up_to_a_bound() {
    on_both_drivers(|legacy| {
        let there = peer(|mut stream| {
            loop {
                let body = receive(&mut stream)?;
                stream.write_all(&sealed(&body))?;
            }
        });
        let ca = Authority::new();
        for tls in [false, true] {
            let mut wanted = plan(there, legacy);
            if tls {
                shown(&mut wanted, ca.server("gate.example", None, Opening::Direct));
            }
            let wires = Wires::default();
            let (worker, address) = start(wanted, &wires);
            let mut caller: Box<dyn Stream> = Box::new(dial(address));
            if tls {
                caller = Box::new(secured(dial(address), ca.caller(Opening::Direct)));
            }
            // Without a wait, so that more comes with the last bytes of each.
            let mut body = pattern(WHOLE_MAX - 4);
            body[0] = b'q';
            caller.write_all(&sealed(&body).repeat(3)).expect("sent");
            for _ in 0..3 {
                assert!(receive(&mut *caller).expect("an answer") == body);
            }
            assert!(!wires.has("caller gone"));
            let _ = caller.write_all(&sealed(&vec![b'q'; 2 * WHOLE_MAX]));
            assert!(receive(&mut *caller).is_err());
            eventually("cut", || wires.has("caller gone"));
            assert!(worker.stop());
        }
    });
}

#[test]
fn connections_that_last_are_kept_alive() {
    on_both_drivers(|legacy| {
        let there = peer(|mut stream| receive(&mut stream).map(drop));
        for opening in [Opening::Direct, Opening::Postgres] {
            let mut wanted = plan(there, legacy);
            wanted.listeners[0].opening = opening;
            let upstream = Upstream { opening, ..at(there) };
            wanted.upstreams = Published::new(Upstreams::new(1, vec![upstream]));
            let wires = Wires::default();
            let (worker, address) = start(wanted, &wires);
            let mut caller = dial(address);
            caller.write_all(&sealed(&refused(1, 9))).expect("sent");
            assert_eq!(receive(&mut caller).expect("a refusal"), refused(1, 9));
            let ours = caller.local_addr().expect("address").port();
            for (local, remote) in [(Some(address.port()), ours), (None, there.port())] {
                assert_eq!(is_kept_alive(local, remote), opening == Opening::Postgres);
            }
            drop(caller);
            assert!(worker.stop());
        }
    });
}
