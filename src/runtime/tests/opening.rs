//! What is said before the handshake, as PostgreSQL's callers and servers do.

use super::fake::Fakes;
use super::peers::{Peer, Stream, ask, dial, pattern, upstream, upstream_with};
use super::secure::{Authority, shown};
use super::{at, eventually, on_both_drivers, plan, start};
use crate::runtime::{Opening, Published, Upstream, Upstreams, Worker, WorkerPlan};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const SSL: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A plan whose callers may ask for encryption; `ca` signs what is shown to them.
fn asking(peer: &Peer, legacy: bool, ca: Option<&Authority>) -> WorkerPlan {
    let mut plan = plan(peer.address, legacy);
    plan.listeners[0].opening = Opening::Postgres;
    if let Some(ca) = ca {
        shown(&mut plan, ca.server("gate.example", None, Opening::Postgres));
    }
    plan
}

fn request(stream: &mut TcpStream, bytes: &[u8]) -> u8 {
    stream.write_all(bytes).expect("sent");
    let mut answer = [0];
    stream.read_exact(&mut answer).expect("an answer");
    answer[0]
}

pub(super) fn secured(
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("gate.example").expect("a name");
    StreamOwned::new(ClientConnection::new(config, name).expect("a connection"), stream)
}

/// What the peer sends before it ends, be that by a FIN or a reset.
fn rest(stream: &mut dyn Stream) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

fn sessions(fakes: &Fakes) -> Vec<String> {
    let log = fakes.log.lock().expect("log");
    log.iter().filter(|line| ["plain", "secure"].contains(&line.as_str())).cloned().collect()
}

fn ended(worker: &Worker) {
    eventually("no connection is left", || worker.counters().open.get() == 0);
}

#[test]
fn a_caller_that_asks_is_served_under_tls() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, Some(&ca)), &fakes);
        // With the protocol named, as PostgreSQL 17 does, and without.
        let mut unnamed = (*ca.caller(Opening::Postgres)).clone();
        unnamed.alpn_protocols.clear();
        for config in [ca.caller(Opening::Postgres), Arc::new(unnamed)] {
            let mut stream = dial(address);
            assert_eq!(request(&mut stream, &SSL), b'S');
            let mut caller = secured(stream, config);
            let body = pattern(100_000);
            assert!(ask(&mut caller, 'e', &body).expect("an answer") == body);
        }
        assert_eq!(sessions(&fakes), ["secure", "secure"]);
        assert!(fakes.log.lock().expect("log").contains(&"sni gate.example".to_owned()));
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_asks_for_nothing_is_left_unread() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        for ca in [None, Some(&ca)] {
            let (worker, address) = start(asking(&peer, legacy, ca), &fakes);
            let body = pattern(40_000);
            assert!(ask(&mut dial(address), 'e', &body).expect("an answer") == body);
            assert!(worker.stop());
        }
        assert_eq!(sessions(&fakes), ["plain", "plain"]);
    });
}

#[test]
fn what_cannot_be_granted_is_answered_and_may_be_asked_again() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, None), &fakes);
        let mut caller = dial(address);
        assert_eq!(request(&mut caller, &GSS), b'N');
        assert_eq!(request(&mut caller, &SSL), b'N');
        assert_eq!(ask(&mut caller, 'e', b"plain").expect("an answer"), b"plain");
        drop(caller);
        assert!(worker.stop());

        let (worker, address) = start(asking(&peer, legacy, Some(&ca)), &fakes);
        let mut caller = dial(address);
        assert_eq!(request(&mut caller, &GSS), b'N');
        assert_eq!(request(&mut caller, &SSL), b'S');
        let mut caller = secured(caller, ca.caller(Opening::Postgres));
        assert_eq!(ask(&mut caller, 'e', b"sealed").expect("an answer"), b"sealed");
        drop(caller);
        assert_eq!(sessions(&fakes), ["plain", "secure"]);
        assert!(worker.stop());
    });
}

#[test]
fn a_request_in_single_bytes_is_understood() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, Some(&ca)), &fakes);
        let mut caller = dial(address);
        for byte in &SSL[..7] {
            caller.write_all(&[*byte]).expect("sent");
            thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(request(&mut caller, &SSL[7..]), b'S');
        let mut caller = secured(caller, ca.caller(Opening::Postgres));
        assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
        // What begins as a request and is none is the session's.
        let mut other = dial(address);
        other.write_all(&SSL[..6]).expect("sent");
        thread::sleep(Duration::from_millis(3));
        other.write_all(b"no request").expect("sent");
        eventually("a session", || sessions(&fakes) == ["secure", "plain"]);
        drop((caller, other));
        assert!(worker.stop());
    });
}

#[test]
fn bytes_behind_a_request_that_is_granted_end_the_connection() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, Some(&ca)), &fakes);
        for stuffed in [&b"\x16"[..], b"00000001ex", &SSL] {
            let mut caller = dial(address);
            caller.write_all(&[&SSL[..], stuffed].concat()).expect("sent");
            assert_eq!(rest(&mut caller), b"");
        }
        assert!(sessions(&fakes).is_empty());
        assert_eq!(worker.counters().handshakes_failed.get(), 3);
        ended(&worker);
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_may_not_ask_for_ever() {
    on_both_drivers(|legacy| {
        let (peer, fakes) = (upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, None), &fakes);
        let mut caller = dial(address);
        for bytes in [GSS, SSL, GSS, SSL] {
            assert_eq!(request(&mut caller, &bytes), b'N');
        }
        assert_eq!(rest(&mut caller), b"");
        // TLS where there is none to speak.
        let mut caller = dial(address);
        caller.write_all(b"\x16\x03\x01").expect("sent");
        assert_eq!(rest(&mut caller), b"");
        assert!(sessions(&fakes).is_empty());
        ended(&worker);
        assert!(worker.stop());
    });
}

#[test]
fn tls_at_once_must_name_the_protocol() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let (worker, address) = start(asking(&peer, legacy, Some(&ca)), &fakes);
        let mut caller = secured(dial(address), ca.caller(Opening::Postgres));
        assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
        let mut unnamed = (*ca.caller(Opening::Postgres)).clone();
        unnamed.alpn_protocols.clear();
        for config in [Arc::new(unnamed), ca.caller(Opening::Direct)] {
            let mut stranger = secured(dial(address), config);
            assert!(ask(&mut stranger, 'e', b"x").is_err());
        }
        drop(caller);
        assert_eq!(sessions(&fakes), ["secure"]);
        ended(&worker);
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_does_not_get_to_the_point_is_cut() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let mut wanted = asking(&peer, legacy, Some(&ca));
        wanted.limits.handshake_ms = 200;
        let (worker, address) = start(wanted, &fakes);
        let (mut silent, mut partial, mut granted) = (dial(address), dial(address), dial(address));
        partial.write_all(&SSL[..3]).expect("sent");
        assert_eq!(request(&mut granted, &SSL), b'S');
        for caller in [&mut silent, &mut partial, &mut granted] {
            assert_eq!(rest(caller), b"");
        }
        assert_eq!(worker.counters().handshakes_failed.get(), 3);
        assert!(worker.stop());

        // One that goes is not waited for, whatever it left behind.
        let mut wanted = asking(&peer, legacy, Some(&ca));
        wanted.limits.handshake_ms = 600_000;
        let (worker, address) = start(wanted, &fakes);
        drop(dial(address));
        dial(address).write_all(&SSL[..3]).expect("sent");
        eventually("both were there", || worker.counters().accepted.get() == 2);
        ended(&worker);
        let _silent = dial(address);
        eventually("it is there", || worker.counters().open.get() == 1);
        assert!(sessions(&fakes).is_empty());
        assert!(worker.kill());
    });
}

#[test]
fn an_address_pays_for_handshakes_only() {
    on_both_drivers(|legacy| {
        let (ca, peer, fakes) = (Authority::new(), upstream(), Fakes::new());
        let mut wanted = asking(&peer, legacy, Some(&ca));
        wanted.limits.address_handshakes_max = 1;
        let (worker, address) = start(wanted, &fakes);
        let mut first = dial(address);
        assert_eq!(request(&mut first, &SSL), b'S');
        let mut second = dial(address);
        second.write_all(&SSL).expect("sent");
        assert_eq!(rest(&mut second), b"");
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"x");
        assert_eq!(worker.counters().handshakes_spent.get(), 1);
        let mut first = secured(first, ca.caller(Opening::Postgres));
        assert_eq!(ask(&mut first, 'e', b"x").expect("an answer"), b"x");
        let mut third = dial(address);
        assert_eq!(request(&mut third, &SSL), b'S');
        drop((first, third));
        assert!(worker.stop());
    });
}

/// An upstream that reads a request and answers it with `answer`.
pub(super) fn answering(answer: &'static [u8], config: Arc<ServerConfig>) -> Peer {
    upstream_with(move |mut stream| {
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).ok().filter(|()| asked == SSL)?;
        stream.write_all(answer).ok()?;
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.flush().ok()?;
        let named = stream.conn.alpn_protocol() == Some(b"postgresql");
        named.then(|| Box::new(stream) as Box<dyn Stream>)
    })
}

fn sealed(plan: &mut WorkerPlan, address: SocketAddr, ca: &Authority) {
    let name = ServerName::try_from("up.example").expect("a name");
    let tls = Some((ca.caller(Opening::Postgres), name));
    let there = Upstream { tls, opening: Opening::Postgres, ..at(address) };
    plan.upstreams = Published::new(Upstreams::new(1, vec![there]));
}

#[test]
fn an_upstream_is_asked_and_its_certificate_shown() {
    on_both_drivers(|legacy| {
        let (ca, fakes) = (Authority::new(), Fakes::new());
        let config = ca.server("up.example", None, Opening::Postgres);
        let peer = answering(b"S", config);
        let mut plan = plan(peer.address, legacy);
        sealed(&mut plan, peer.address, &ca);
        let (worker, address) = start(plan, &fakes);
        let body = pattern(100_000);
        assert!(ask(&mut dial(address), 'e', &body).expect("an answer") == body);
        let log = fakes.log.lock().expect("log").clone();
        let certificate = log.iter().find_map(|line| line.strip_prefix("connected to "));
        // A DER sequence with a length of two bytes.
        assert!(certificate.is_some_and(|der| der.starts_with("[30, 82, ")), "{log:?}");
        assert!(worker.stop());
    });
}

#[test]
fn an_upstream_that_grants_no_encryption_gets_nothing() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        // The last one stuffs a byte behind its word.
        for answer in [&b"N"[..], b"E\0\0\0\x05\0", b"G", b"", b"S\x16"] {
            let config = ca.server("up.example", None, Opening::Postgres);
            let peer = match answer {
                b"" => upstream_with(|_| None),
                answer => answering(answer, config),
            };
            let mut plan = plan(peer.address, legacy);
            sealed(&mut plan, peer.address, &ca);
            let (worker, address) = start(plan, &Fakes::new());
            assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"Tls");
            assert!(worker.stop());
        }
        let silent = upstream_with(|stream| {
            thread::sleep(Duration::from_millis(1_000));
            drop(stream);
            None
        });
        let mut plan = plan(silent.address, legacy);
        sealed(&mut plan, silent.address, &ca);
        plan.limits.connect_ms = 200;
        let (worker, address) = start(plan, &Fakes::new());
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"TimedOut");
        assert!(worker.stop());
    });
}

#[test]
fn an_upstream_without_tls_is_asked_for_nothing() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        let there = Upstream { opening: Opening::Postgres, ..at(peer.address) };
        plan.upstreams = Published::new(Upstreams::new(1, vec![there]));
        let (worker, address) = start(plan, &Fakes::new());
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"x");
        assert!(worker.stop());
    });
}
