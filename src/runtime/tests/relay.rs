//! A session that passes bytes both ways at once and each end on its own, as a TCP relay does.

use super::peers::{PATIENCE, dial, pattern};
use super::{on_both_drivers, plan, start};
use crate::base::{CredentialId, ExchangeId, ListenerId, Now, ResourceId};
use crate::runtime::{CallerLink, Session, Sessions};
use crate::session::io::{Act, Ending, Input, Interest, Out};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

const EXCHANGE: ExchangeId = ExchangeId(7);

#[derive(Clone)]
struct Relays;

impl Sessions for Relays {
    type S = Relay;

    fn open(&self, _: SocketAddr, _: ListenerId, _: CallerLink) -> Relay {
        Relay { started: false, connected: false, caller: true, upstream: true, closed: false }
    }
}

struct Relay {
    started: bool,
    connected: bool,
    caller: bool,
    upstream: bool,
    closed: bool,
}

impl Relay {
    fn finish(&mut self, out: &mut Out) {
        if !self.caller && !self.upstream {
            self.closed = true;
            out.test_act(Act::Release { exchange: EXCHANGE, reuse: false });
            out.test_act(Act::CloseCaller { linger: false });
        }
    }
}

impl Session for Relay {
    fn handle(&mut self, input: Input<'_>, _now: Now, out: &mut Out) -> usize {
        match input {
            Input::Timer => {
                self.started = true;
                out.test_act(Act::Connect {
                    exchange: EXCHANGE,
                    resource: ResourceId(0),
                    credential: CredentialId(0),
                    generation: 1,
                    fresh: true,
                });
            }
            Input::Connected(..) => self.connected = true,
            Input::Caller(bytes) => {
                out.test_upstream().source(0..bytes.len());
                return bytes.len();
            }
            Input::Upstream(_, bytes) => {
                out.test_caller().source(0..bytes.len());
                return bytes.len();
            }
            Input::CallerEnd => {
                self.caller = false;
                out.test_act(Act::EndUpstream { exchange: EXCHANGE });
                self.finish(out);
            }
            Input::UpstreamEnd(_, Ending::Clean) => {
                self.upstream = false;
                out.test_act(Act::EndCaller);
                self.finish(out);
            }
            _ => {
                self.closed = true;
                out.test_act(Act::Release { exchange: EXCHANGE, reuse: false });
                out.test_act(Act::AbortCaller);
            }
        }
        0
    }

    fn interest(&self) -> Interest {
        let live = self.connected && !self.closed;
        Interest { caller: live && self.caller, upstream: live && self.upstream, idle: false }
    }

    fn deadline(&self) -> Option<u64> {
        (!self.started).then_some(0)
    }

    fn is_closed(&self) -> bool {
        self.closed
    }
}

/// An upstream that serves one connection with `serve`; the second value hears of its end.
fn once(serve: impl FnOnce(TcpStream) + Send + 'static) -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
        serve(stream);
        let _ = sender.send(());
    });
    (address, done)
}

#[test]
fn an_upstream_may_speak_first() {
    on_both_drivers(|legacy| {
        let (there, done) = once(|mut stream| {
            stream.write_all(b"welcome").expect("sent");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the end");
            assert_eq!(got, b"thanks");
        });
        let (worker, address) = start(plan(there, legacy), &Relays);
        let mut caller = dial(address);
        let mut got = [0; 7];
        caller.read_exact(&mut got).expect("a word");
        assert_eq!(&got, b"welcome");
        caller.write_all(b"thanks").expect("sent");
        drop(caller);
        done.recv_timeout(PATIENCE).expect("the upstream is content");
        assert!(worker.stop());
    });
}

#[test]
fn each_direction_ends_on_its_own() {
    on_both_drivers(|legacy| {
        const LEN: usize = 3_000_000;
        // The caller ends first, then the other way round; what follows still arrives.
        let (there, done) = once(|mut stream| {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the end");
            assert!(got == pattern(LEN));
            stream.write_all(&pattern(LEN)).expect("sent");
        });
        let (worker, address) = start(plan(there, legacy), &Relays);
        let mut caller = dial(address);
        caller.write_all(&pattern(LEN)).expect("sent");
        caller.shutdown(Shutdown::Write).expect("half-close");
        let mut got = Vec::new();
        caller.read_to_end(&mut got).expect("the end");
        assert!(got == pattern(LEN));
        done.recv_timeout(PATIENCE).expect("the upstream is content");
        assert!(worker.stop());

        let (there, done) = once(|mut stream| {
            stream.write_all(b"that is all").expect("sent");
            stream.shutdown(Shutdown::Write).expect("half-close");
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the end");
            assert!(got == pattern(LEN));
        });
        let (worker, address) = start(plan(there, legacy), &Relays);
        let mut caller = dial(address);
        let mut got = Vec::new();
        caller.read_to_end(&mut got).expect("the end");
        assert_eq!(got, b"that is all");
        caller.write_all(&pattern(LEN)).expect("sent");
        caller.shutdown(Shutdown::Write).expect("half-close");
        done.recv_timeout(PATIENCE).expect("the upstream is content");
        assert!(worker.stop());
    });
}

#[test]
fn both_directions_flow_at_once() {
    on_both_drivers(|legacy| {
        const LEN: usize = 20_000_000;
        let (there, done) = once(|mut stream| {
            let mut twin = stream.try_clone().expect("clone");
            let writer = thread::spawn(move || {
                twin.write_all(&pattern(LEN)).expect("sent");
                twin.shutdown(Shutdown::Write).expect("half-close");
            });
            let mut got = Vec::new();
            stream.read_to_end(&mut got).expect("the end");
            assert!(got == pattern(LEN));
            writer.join().expect("the writer is content");
        });
        let (worker, address) = start(plan(there, legacy), &Relays);
        let mut caller = dial(address);
        let mut twin = caller.try_clone().expect("clone");
        let writer = thread::spawn(move || {
            twin.write_all(&pattern(LEN)).expect("sent");
            twin.shutdown(Shutdown::Write).expect("half-close");
        });
        let mut got = Vec::new();
        caller.read_to_end(&mut got).expect("the end");
        assert!(got == pattern(LEN));
        writer.join().expect("the writer is content");
        done.recv_timeout(PATIENCE).expect("the upstream is content");
        assert!(worker.stop());
    });
}

#[test]
fn a_reset_of_the_upstream_resets_the_caller() {
    on_both_drivers(|legacy| {
        let (there, done) = once(|mut stream| {
            stream.read_exact(&mut [0; 1]).expect("a byte");
            crate::runtime::sys::reset(std::os::fd::AsRawFd::as_raw_fd(&stream));
        });
        let (worker, address) = start(plan(there, legacy), &Relays);
        let mut caller = dial(address);
        caller.write_all(b"x").expect("sent");
        assert!(caller.read(&mut [0; 8]).is_err());
        done.recv_timeout(PATIENCE).expect("the upstream is content");
        assert!(worker.stop());
    });
}
