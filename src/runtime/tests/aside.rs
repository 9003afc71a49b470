//! One caller with two upstream connections, of which one is in hand.
//!
//! A caller's byte is a message: `h` is for the first connection, any other for the second. An
//! upstream answers with the number of its connection and the byte.

use super::peers::{PATIENCE, dial};
use super::{eventually, on_both_drivers, plan, start};
use crate::base::{CredentialId, ExchangeId, ListenerId, Now, ResourceId};
use crate::runtime::{CallerLink, Session, Sessions};
use crate::session::io::{Act, Input, Interest, Out};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const HOME: ExchangeId = ExchangeId(21);
const OTHER: ExchangeId = ExchangeId(22);

#[derive(Clone, Default)]
struct Pairs(Arc<Mutex<Vec<String>>>);

impl Sessions for Pairs {
    type S = Pair;

    fn open(&self, _: SocketAddr, _: ListenerId, _: CallerLink) -> Pair {
        Pair {
            log: Arc::clone(&self.0),
            begun: false,
            other: false,
            hand: HOME,
            turns: true,
            over: false,
        }
    }
}

struct Pair {
    log: Arc<Mutex<Vec<String>>>,
    begun: bool,
    /// The second connection stands.
    other: bool,
    hand: ExchangeId,
    /// What is to be in hand is not so far.
    turns: bool,
    over: bool,
}

impl Pair {
    fn turn(&mut self, wanted: ExchangeId, out: &mut Out) {
        (self.hand, self.turns) = (wanted, true);
        if wanted == OTHER && !std::mem::replace(&mut self.other, true) {
            let (resource, credential) = (ResourceId(0), CredentialId(1));
            out.test_act(Act::Beside { exchange: OTHER, resource, credential, generation: 1 });
        } else {
            out.test_act(Act::Resume { exchange: wanted });
        }
    }

    fn close(&mut self, text: String, out: &mut Out) {
        self.log.lock().expect("log").push(text);
        self.over = true;
        out.test_act(Act::Release { exchange: self.hand, reuse: false });
        out.test_act(Act::CloseCaller { linger: false });
    }
}

impl Session for Pair {
    fn handle(&mut self, input: Input<'_>, _: Now, out: &mut Out) -> usize {
        match input {
            Input::Timer if !self.begun => {
                self.begun = true;
                out.test_act(Act::Connect {
                    exchange: HOME,
                    resource: ResourceId(0),
                    credential: CredentialId(0),
                    generation: 1,
                    fresh: true,
                });
            }
            Input::Connected(id, _) => {
                assert_eq!((id, self.turns), (self.hand, true));
                self.turns = false;
            }
            Input::Caller(bytes) => {
                let wanted = if bytes.first() == Some(&b'h') { HOME } else { OTHER };
                if wanted != self.hand {
                    self.turn(wanted, out);
                    return 0;
                }
                out.test_upstream().source(0..1);
                return 1;
            }
            Input::Upstream(id, bytes) => {
                assert_eq!(id, self.hand, "what is aside is not shown");
                out.test_caller().source(0..bytes.len());
                return bytes.len();
            }
            Input::UpstreamEnd(id, _) => {
                self.close(format!("end of {}", id.0), out);
            }
            Input::CallerEnd | Input::CallerGone => self.close("caller".to_owned(), out),
            _ => {}
        }
        0
    }

    fn interest(&self) -> Interest {
        Interest { caller: self.begun && !self.turns, upstream: self.begun, idle: false }
    }

    fn deadline(&self) -> Option<u64> {
        if self.begun { None } else { Some(0) }
    }

    fn is_closed(&self) -> bool {
        self.over
    }
}

/// Answers; behind `n` it says something more a little later, behind `x` it ends a little later.
fn upstream(open: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let open = Arc::clone(&open);
            open.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                let _ = stream.set_read_timeout(Some(PATIENCE));
                let number = b'0' + u8::try_from(number).unwrap_or(9);
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    let _ = stream.write_all(&[number, byte[0]]);
                    if byte[0] == b'n' || byte[0] == b'x' {
                        thread::sleep(Duration::from_millis(60));
                        let _ = stream.write_all(b"++");
                    }
                    if byte[0] == b'x' {
                        break;
                    }
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    address
}

#[test]
fn one_of_two_upstreams_is_in_hand_and_the_other_stays_as_it_is() {
    on_both_drivers(|legacy| {
        let open = Arc::new(AtomicUsize::new(0));
        let pairs = Pairs::default();
        let (worker, address) = start(plan(upstream(Arc::clone(&open)), legacy), &pairs);
        let mut caller = dial(address);
        let mut ask = |byte: u8, wanted: &[u8]| {
            caller.write_all(&[byte]).expect("sent");
            let mut answer = vec![0; wanted.len()];
            caller.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, wanted, "{}", char::from(byte));
        };
        for _ in 0..100 {
            ask(b'h', b"0h");
            ask(b'o', b"1o");
            ask(b'o', b"1o");
        }
        assert_eq!(open.load(Ordering::SeqCst), 2);
        // What it says while it is aside is shown when it is in hand, before anything goes to it.
        ask(b'n', b"1n");
        ask(b'h', b"0h");
        thread::sleep(Duration::from_millis(150));
        ask(b'h', b"0h");
        ask(b'o', b"++1o");
        drop(caller);
        eventually("both are ended", || open.load(Ordering::SeqCst) == 0);
        assert!(worker.stop());
    });
}

#[test]
fn an_end_that_came_while_it_was_aside_is_told_when_it_is_resumed() {
    on_both_drivers(|legacy| {
        let open = Arc::new(AtomicUsize::new(0));
        let pairs = Pairs::default();
        let (worker, address) = start(plan(upstream(Arc::clone(&open)), legacy), &pairs);
        let mut caller = dial(address);
        let mut answer = [0; 2];
        for (byte, wanted) in [(b'x', b"1x"), (b'h', b"0h")] {
            caller.write_all(&[byte]).expect("sent");
            caller.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, wanted);
        }
        eventually("the upstream ended", || open.load(Ordering::SeqCst) == 1);
        thread::sleep(Duration::from_millis(20));
        caller.write_all(b"o").expect("sent");
        let mut rest = Vec::new();
        caller.read_to_end(&mut rest).expect("an end");
        assert_eq!(rest, b"++");
        let log = pairs.0.lock().expect("log").clone();
        assert_eq!(log[0], "end of 22");
        eventually("home is ended with it", || open.load(Ordering::SeqCst) == 0);
        assert!(worker.stop());
    });
}
