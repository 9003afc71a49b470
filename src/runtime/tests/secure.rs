//! TLS on either side and on both.

use super::fake::Fakes;
use super::peers::{PATIENCE, Stream, ask, dial, pattern, receive, send, upstream, upstream_with};
use super::{eventually, on_both_drivers, plan, start};
use crate::runtime::{
    Opening, Published, Upstream, Upstreams, WorkerPlan, listener_tls, upstream_tls,
};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A certificate authority of one test.
pub(super) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Certificate and key for `name`.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn listener(&self, name: &str, client_ca: Option<&Self>) -> Arc<ServerConfig> {
        self.server(name, client_ca, Opening::Direct)
    }

    pub(super) fn server(
        &self,
        name: &str,
        client_ca: Option<&Self>,
        opening: Opening,
    ) -> Arc<ServerConfig> {
        let (certificate, key) = self.issue(name);
        let client_ca = client_ca.map(|ca| ca.pem.as_bytes());
        listener_tls(certificate.as_bytes(), key.as_bytes(), client_ca, opening).expect("settings")
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.caller(Opening::Direct)
    }

    pub(super) fn caller(&self, opening: Opening) -> Arc<ClientConfig> {
        upstream_tls(Some(self.pem.as_bytes()), opening).expect("settings")
    }
}

fn dial_tls(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from(name).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
    StreamOwned::new(connection, dial(address))
}

fn upstream_over_tls(config: Arc<ServerConfig>) -> super::peers::Peer {
    upstream_with(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).ok()?;
        Some(Box::new(StreamOwned::new(connection, stream)) as Box<dyn Stream>)
    })
}

fn over_tls(plan: &mut WorkerPlan, address: SocketAddr, ca: &Authority, name: &'static str) {
    let name = ServerName::try_from(name).expect("a name");
    let tls = Some((ca.client(), name));
    let there = Upstream { tls, ..super::at(address) };
    plan.upstreams = Published::new(Upstreams::new(1, vec![there]));
}

pub(super) fn shown(
    plan: &mut WorkerPlan,
    config: Arc<ServerConfig>,
) -> Arc<Published<ServerConfig>> {
    let published = Published::from_arc(config);
    plan.listeners[0].tls = Some(Arc::clone(&published));
    published
}

#[test]
fn both_legs_carry_short_and_long_messages() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream_over_tls(ca.listener("up.example", None));
        let mut plan = plan(peer.address, legacy);
        over_tls(&mut plan, peer.address, &ca, "up.example");
        shown(&mut plan, ca.listener("gate.example", None));
        let fakes = Fakes::new();
        let (worker, address) = start(plan, &fakes);
        let mut caller = dial_tls(address, &ca.client(), "gate.example");
        for round in 0..30 {
            let body = pattern(round * 1_111);
            assert!(ask(&mut caller, 'e', &body).expect("an answer") == body);
        }
        let long = ask(&mut caller, 'g', b"5000000").expect("an answer");
        assert!(long == pattern(5_000_000));
        let body = pattern(200_000);
        assert!(ask(&mut caller, 'e', &body).expect("an answer") == body);
        assert_eq!(peer.accepted.load(std::sync::atomic::Ordering::SeqCst), 1);
        assert!(fakes.log.lock().expect("log").contains(&"sni gate.example".to_owned()));
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn the_end_of_a_connection_is_told_under_tls() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        shown(&mut plan, ca.listener("gate.example", None));
        let fakes = Fakes::new();
        let (worker, address) = start(plan, &fakes);
        let mut caller = dial_tls(address, &ca.client(), "gate.example");
        assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
        worker.drain();
        // A FIN without close_notify would be an error here.
        assert_eq!(caller.read(&mut [0; 8]).expect("a close_notify"), 0);
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_goes_under_tls_cancels_its_upstream() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        shown(&mut plan, ca.listener("gate.example", None));
        let fakes = Fakes::new();
        let (worker, address) = start(plan, &fakes);
        let mut caller = dial_tls(address, &ca.client(), "gate.example");
        send(&mut caller, 's', b"").expect("sent");
        eventually("connected", || {
            fakes.log.lock().expect("log").contains(&"connected".to_owned())
        });
        drop(caller);
        peer.cancelled.recv_timeout(PATIENCE).expect("the upstream hears of it");
        assert!(worker.stop());
    });
}

#[test]
fn an_upstream_with_another_name_or_authority_is_refused() {
    on_both_drivers(|legacy| {
        let (ca, other) = (Authority::new(), Authority::new());
        for (signer, name) in [(&other, "up.example"), (&ca, "elsewhere.example")] {
            let peer = upstream_over_tls(signer.listener(name, None));
            let mut plan = plan(peer.address, legacy);
            over_tls(&mut plan, peer.address, &ca, "up.example");
            let (worker, address) = start(plan, &Fakes::new());
            assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"Tls");
            assert!(worker.stop());
        }
    });
}

#[test]
fn an_upstream_cut_without_close_notify_is_a_cut() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream_over_tls(ca.listener("up.example", None));
        let mut plan = plan(peer.address, legacy);
        over_tls(&mut plan, peer.address, &ca, "up.example");
        let (worker, address) = start(plan, &Fakes::new());
        // The peer's stream is dropped without a close_notify.
        assert_eq!(ask(&mut dial(address), 'c', b"").expect("an answer"), b"upstream Cut");
        assert!(worker.stop());
    });
}

#[test]
fn a_certificate_is_asked_of_callers_and_shown_to_the_session() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        shown(&mut plan, ca.listener("gate.example", Some(&ca)));
        let fakes = Fakes::new();
        let (worker, address) = start(plan, &fakes);
        let mut without = dial_tls(address, &ca.client(), "gate.example");
        assert!(ask(&mut without, 'e', b"x").is_err());
        let (certificate, key) = ca.issue("caller.example");
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).expect("a certificate"))
            .expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("one")],
                PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
            )
            .expect("settings");
        let mut caller = dial_tls(address, &Arc::new(config), "gate.example");
        assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
        assert!(fakes.log.lock().expect("log").contains(&"certificate".to_owned()));
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_swapped_certificate_is_shown_to_the_next_caller_and_drops_nobody() {
    on_both_drivers(|legacy| {
        let (old, new) = (Authority::new(), Authority::new());
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        let published = shown(&mut plan, old.listener("gate.example", None));
        let (worker, address) = start(plan, &Fakes::new());
        let mut before = dial_tls(address, &old.client(), "gate.example");
        assert_eq!(ask(&mut before, 'e', b"1").expect("an answer"), b"1");
        published.publish(new.listener("gate.example", None));
        let mut after = dial_tls(address, &new.client(), "gate.example");
        assert_eq!(ask(&mut after, 'e', b"2").expect("an answer"), b"2");
        assert!(ask(&mut dial_tls(address, &old.client(), "gate.example"), 'e', b"3").is_err());
        assert_eq!(ask(&mut before, 'e', b"4").expect("an answer"), b"4");
        drop((before, after));
        assert!(worker.stop());
    });
}

#[test]
fn a_handshake_that_does_not_move_ends() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        plan.limits.handshake_ms = 200;
        shown(&mut plan, ca.listener("gate.example", None));
        let (worker, address) = start(plan, &Fakes::new());
        let mut silent = dial(address);
        assert_eq!(silent.read(&mut [0; 8]).unwrap_or(0), 0);
        let mut plain = dial(address);
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        let mut got = Vec::new();
        let _ = plain.read_to_end(&mut got);
        assert!(got.first().is_none_or(|byte| *byte == 21), "an alert at most");
        assert!(worker.stop());
    });
}

#[test]
fn bytes_in_small_pieces_open_as_well() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        shown(&mut plan, ca.listener("gate.example", None));
        let (worker, address) = start(plan, &Fakes::new());
        let name = ServerName::try_from("gate.example").expect("a name");
        let mut connection = ClientConnection::new(ca.client(), name).expect("a connection");
        let mut socket = dial(address);
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).expect("a handshake");
        }
        connection.writer().write_all(b"00000005ehello").expect("memory");
        let mut sealed = Vec::new();
        while connection.wants_write() {
            connection.write_tls(&mut sealed).expect("memory");
        }
        for byte in sealed {
            socket.write_all(&[byte]).expect("sent");
            thread::sleep(Duration::from_micros(300));
        }
        let mut stream = StreamOwned::new(connection, socket);
        assert_eq!(receive(&mut stream).expect("an answer").1, b"hello");
        drop(stream);
        assert!(worker.stop());
    });
}

#[test]
fn a_connection_that_was_silent_goes_on_under_tls() {
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        let peer = upstream_over_tls(ca.listener("up.example", None));
        let mut plan = plan(peer.address, legacy);
        over_tls(&mut plan, peer.address, &ca, "up.example");
        shown(&mut plan, ca.listener("gate.example", None));
        let (worker, address) = start(plan, &Fakes::new());
        let mut caller = dial_tls(address, &ca.client(), "gate.example");
        for _ in 0..3 {
            assert_eq!(ask(&mut caller, 'e', b"x").expect("an answer"), b"x");
            thread::sleep(Duration::from_millis(150));
            assert_eq!(ask(&mut caller, 'w', b"150").expect("an answer"), b"onetwo");
        }
        drop(caller);
        assert!(worker.stop());
    });
}

/// Small, seeded and good enough to vary sizes.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn size(&mut self) -> usize {
        let bound = 1 << self.below(19);
        self.below(bound) as usize
    }
}

/// Speaks to the gateway in pieces and pauses of any size; everything must come back whole.
fn converse(stream: &mut dyn Stream, dice: &mut Dice) {
    for _ in 0..25 {
        let size = dice.size();
        if dice.below(3) == 0 {
            let got = ask(stream, 'g', size.to_string().as_bytes()).expect("an answer");
            assert!(got == pattern(size));
            continue;
        }
        let mut message = format!("{size:08}e").into_bytes();
        message.extend_from_slice(&pattern(size));
        let mut rest = message.as_slice();
        while !rest.is_empty() {
            let count = (dice.size() + 1).min(rest.len());
            let (piece, later) = rest.split_at(count);
            stream.write_all(piece).expect("sent");
            stream.flush().expect("sent");
            if dice.below(8) == 0 {
                thread::sleep(Duration::from_millis(dice.below(90)));
            }
            rest = later;
        }
        assert!(receive(stream).expect("an answer").1 == pattern(size));
    }
}

#[test]
fn conversations_of_any_shape_are_whole() {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| crate::runtime::now().wall_ns | 1);
    println!("SEED={seed}");
    on_both_drivers(|legacy| {
        let ca = Authority::new();
        for sealed in [false, true] {
            let peer = if sealed {
                upstream_over_tls(ca.listener("up.example", None))
            } else {
                upstream()
            };
            let mut plan = plan(peer.address, legacy);
            if sealed {
                over_tls(&mut plan, peer.address, &ca, "up.example");
                shown(&mut plan, ca.listener("gate.example", None));
            }
            let (worker, address) = start(plan, &Fakes::new());
            let config = ca.client();
            thread::scope(|scope| {
                for who in 0..6u64 {
                    let config = &config;
                    scope.spawn(move || {
                        let mut dice = Dice(seed.wrapping_add(who << 32) | 1);
                        if sealed {
                            let mut stream = dial_tls(address, config, "gate.example");
                            converse(&mut stream, &mut dice);
                        } else {
                            converse(&mut dial(address), &mut dice);
                        }
                    });
                }
            });
            assert!(worker.stop());
        }
    });
}
