//! A word to an upstream beside its connection, and the letter that makes a session say it.

use super::opening::answering;
use super::peers::{PATIENCE, dial};
use super::secure::Authority;
use super::{at, eventually, on_both_drivers, plan, start};
use crate::base::{CredentialId, ExchangeId, ListenerId, Now, ResourceId};
use crate::runtime::{
    Addresses, CallerLink, Mail, Mailbox, Opening, Published, Session, Sessions, Upstream,
    Upstreams,
};
use crate::session::io::{Act, Input, Interest, Out};
use rustls::pki_types::ServerName;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const EXCHANGE: ExchangeId = ExchangeId(23);
const WORD: &[u8] = b"!cancel what you do";

/// Relays, but for a first `.`, which is for nobody; a `k` of the caller's, a letter and a drain make it say the word.
#[derive(Clone, Default)]
struct Holds {
    log: Arc<Mutex<Vec<String>>>,
    mail: Arc<Mutex<Option<Mail>>>,
}

impl Holds {
    fn count(&self, text: &str) -> usize {
        self.log.lock().expect("log").iter().filter(|line| *line == text).count()
    }

    fn id(&self) -> Option<u64> {
        let log = self.log.lock().expect("log");
        log.iter().rev().find_map(|line| line.strip_prefix("id ")?.parse().ok())
    }
}

impl Sessions for Holds {
    type S = Hold;

    fn open(&self, _: SocketAddr, _: ListenerId, link: CallerLink) -> Hold {
        self.log.lock().expect("log").push(format!("id {}", link.id));
        Hold { holds: self.clone(), stage: Stage::New }
    }

    fn mail(&self) -> Option<Mail> {
        self.mail.lock().expect("mail").take()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Connecting,
    Live,
    Closed,
}

struct Hold {
    holds: Holds,
    stage: Stage,
}

impl Hold {
    fn say(&self, out: &mut Out) {
        out.test_side().text(WORD);
        out.test_act(Act::Cancel { exchange: EXCHANGE });
    }

    fn close(&mut self, out: &mut Out) {
        self.stage = Stage::Closed;
        out.test_act(Act::Release { exchange: EXCHANGE, reuse: false });
        out.test_act(Act::CloseCaller { linger: false });
    }
}

impl Session for Hold {
    fn handle(&mut self, input: Input<'_>, _now: Now, out: &mut Out) -> usize {
        match input {
            Input::Caller(b".") if self.stage == Stage::New => return 1,
            Input::Caller(bytes) if self.stage == Stage::New => {
                self.stage = Stage::Connecting;
                out.test_act(Act::Connect {
                    exchange: EXCHANGE,
                    resource: ResourceId(0),
                    credential: CredentialId(0),
                    generation: 1,
                    fresh: true,
                });
                out.test_upstream().source(0..bytes.len());
                return bytes.len();
            }
            Input::Caller(bytes) => {
                if bytes.starts_with(b"k") {
                    self.say(out);
                    return 1;
                }
                out.test_upstream().source(0..bytes.len());
                return bytes.len();
            }
            Input::Upstream(_, bytes) => {
                out.test_caller().source(0..bytes.len());
                return bytes.len();
            }
            Input::Connected(..) => self.stage = Stage::Live,
            Input::Cancel => {
                self.holds.log.lock().expect("log").push("cancel".to_owned());
                if self.stage == Stage::Live {
                    self.say(out);
                }
            }
            Input::Timer | Input::Durable(_) => {}
            _ => {
                if self.stage == Stage::Live {
                    self.say(out);
                }
                self.close(out);
            }
        }
        0
    }

    fn interest(&self) -> Interest {
        let (new, live) = (self.stage == Stage::New, self.stage == Stage::Live);
        Interest { caller: new || live, upstream: live, idle: new }
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn is_closed(&self) -> bool {
        self.stage == Stage::Closed
    }
}

/// An upstream that echoes, and tells of each word; it ends the word's connection when it may.
struct Peer {
    address: SocketAddr,
    words: mpsc::Receiver<Vec<u8>>,
    may_end: mpsc::Sender<()>,
}

fn peer() -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (sender, words) = mpsc::channel();
    let (may_end, told) = mpsc::channel::<()>();
    let told = Arc::new(Mutex::new(told));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (sender, told) = (sender.clone(), Arc::clone(&told));
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if bytes[0] == WORD[0] {
                        let _ = sender.send(bytes[..count].to_vec());
                        let _ = told.lock().expect("told").recv();
                        return;
                    }
                    if stream.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Peer { address, words, may_end }
}

impl Peer {
    fn hears(&self) {
        assert_eq!(self.words.recv_timeout(PATIENCE).expect("a word"), WORD);
    }

    fn lets_go(&self) {
        self.may_end.send(()).expect("the upstream is there");
    }
}

fn echo(stream: &mut (impl Read + Write), word: &[u8]) {
    stream.write_all(word).expect("sent");
    let mut back = vec![0; word.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, word);
}

#[test]
fn a_word_goes_beside_the_exchange_and_one_at_a_time() {
    on_both_drivers(|legacy| {
        let peer = peer();
        let mut wanted = plan(peer.address, legacy);
        wanted.limits.upstream_connections_max = 2;
        let (worker, address) = start(wanted, &Holds::default());
        let mut caller = dial(address);
        for round in 1..=3 {
            echo(&mut caller, b"mine");
            caller.write_all(b"k").expect("sent");
            peer.hears();
            // The exchange goes on meanwhile, and a second word is not said beside the first.
            echo(&mut caller, b"still mine");
            caller.write_all(b"k").expect("sent");
            echo(&mut caller, b"still mine");
            peer.lets_go();
            // Its place is given back, or the next round would have none.
            eventually("it is over", || worker.counters().sides.get() == round);
        }
        assert!(peer.words.try_recv().is_err());
        assert_eq!(worker.counters().sides_failed.get(), 0);
        drop(caller);
        peer.hears();
        peer.lets_go();
        assert!(worker.stop());
    });
}

#[test]
fn a_word_needs_a_place_among_the_resources_connections() {
    on_both_drivers(|legacy| {
        let peer = peer();
        let mut wanted = plan(peer.address, legacy);
        wanted.limits.upstream_connections_max = 1;
        let (worker, address) = start(wanted, &Holds::default());
        let mut caller = dial(address);
        echo(&mut caller, b"mine");
        caller.write_all(b"k").expect("sent");
        eventually("it has no place", || worker.counters().sides_failed.get() == 1);
        echo(&mut caller, b"still mine");
        assert!(peer.words.try_recv().is_err());
        assert!(worker.kill());
    });
}

#[test]
fn a_word_goes_where_the_exchange_is() {
    on_both_drivers(|legacy| {
        let peer = peer();
        let mut wanted = plan(peer.address, legacy);
        let there = Upstream { host: "db.example".to_owned(), ..at(peer.address) };
        wanted.upstreams = Published::new(Upstreams::new(1, vec![there]));
        let known = |address: &str| {
            let mut known = Addresses::default();
            known.insert("db.example", vec![address.parse().expect("literal")]);
            Arc::new(known)
        };
        wanted.addresses.publish(known("127.0.0.1"));
        let addresses = Arc::clone(&wanted.addresses);
        let (worker, address) = start(wanted, &Holds::default());
        let mut caller = dial(address);
        echo(&mut caller, b"mine");
        // The name moved on; the server that has the exchange did not.
        addresses.publish(known("127.0.0.77"));
        caller.write_all(b"k").expect("sent");
        peer.hears();
        peer.lets_go();
        assert!(worker.kill());
    });
}

#[test]
fn a_word_is_said_also_when_its_caller_goes_or_the_worker_drains() {
    on_both_drivers(|legacy| {
        let peer = peer();
        let (worker, address) = start(plan(peer.address, legacy), &Holds::default());
        let mut caller = dial(address);
        echo(&mut caller, b"mine");
        drop(caller);
        peer.hears();
        peer.lets_go();
        let mut caller = dial(address);
        echo(&mut caller, b"mine");
        worker.drain();
        assert_eq!(caller.read(&mut [0; 1]).expect("a clean end"), 0);
        peer.hears();
        // The worker waits for it.
        thread::sleep(Duration::from_millis(300));
        assert!(worker.is_running());
        peer.lets_go();
        assert!(worker.stop());
    });
}

#[test]
fn a_word_is_sealed_where_the_exchange_is() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let server = answering(b"S", ca.server("up.example", None, Opening::Postgres));
        let mut wanted = plan(server.address, legacy);
        let name = ServerName::try_from("up.example").expect("a name");
        let tls = Some((ca.caller(Opening::Postgres), name));
        let there = Upstream { tls, opening: Opening::Postgres, ..at(server.address) };
        wanted.upstreams = Published::new(Upstreams::new(1, vec![there]));
        let (worker, address) = start(wanted, &Holds::default());
        let mut caller = dial(address);
        // The protocol of that upstream: eight digits, a kind, a body.
        caller.write_all(b"00000004emine").expect("sent");
        let mut back = [0; 13];
        caller.read_exact(&mut back).expect("an echo");
        assert_eq!(&back, b"00000004emine");
        caller.write_all(b"k").expect("sent");
        // It takes the word for no message of its own, and ends that connection.
        server.cancelled.recv_timeout(PATIENCE).expect("a second connection");
        eventually("it is over", || worker.counters().sides.get() == 1);
        assert_eq!(server.accepted.load(std::sync::atomic::Ordering::SeqCst), 2);
        assert!(worker.kill());
    });
}

#[test]
fn a_letter_reaches_one_session_of_one_worker() {
    on_both_drivers(|legacy| {
        let peer = peer();
        let (mailbox, ends) = Mailbox::new(2).expect("sockets");
        let workers: Vec<_> = ends
            .into_iter()
            .map(|mail| {
                let holds = Holds { mail: Arc::new(Mutex::new(Some(mail))), ..Holds::default() };
                let mut wanted = plan(peer.address, legacy);
                wanted.listeners[0].opening = Opening::Postgres;
                let (worker, address) = start(wanted, &holds);
                (worker, address, holds)
            })
            .collect();
        let (_, address, holds) = &workers[1];
        let mut first = dial(*address);
        echo(&mut first, b"first");
        let gone = holds.id().expect("an id");
        let mut caller = dial(*address);
        echo(&mut caller, b"mine");
        let id = holds.id().expect("an id");
        assert_ne!(gone, id);
        assert!(mailbox.post(1, id));
        peer.hears();
        assert_eq!(holds.count("cancel"), 1);
        peer.lets_go();
        drop(first);
        peer.hears();
        peer.lets_go();
        // One that is over, and the same number at another worker.
        mailbox.post(1, gone);
        mailbox.post(0, id);
        // One that is put aside hears it before it goes on.
        let mut idle = dial(*address);
        idle.write_all(b".").expect("sent");
        eventually("it is there", || holds.id() != Some(id));
        assert_ne!(holds.id(), Some(0));
        thread::sleep(Duration::from_millis(100));
        mailbox.post(1, holds.id().expect("an id"));
        eventually("told", || holds.count("cancel") == 2);
        echo(&mut idle, b"idle");
        assert_eq!((holds.count("cancel"), workers[0].2.count("cancel")), (2, 0));
        for (worker, ..) in workers {
            assert!(worker.kill());
        }
    });
}
