//! A protocol that is as small as can be, for both ends and the session between them.
//!
//! A message is eight digits of length, a kind, and the body. Kinds: `e` is answered with the same
//! body, `g` with as many bytes as the body says, `c` by a close, `h` by half an answer and a
//! close, `s` never, `p` fails the session, `w` by
//! `onetwo` with a pause of as many milliseconds as the body says.

use crate::base::{CredentialId, ExchangeId, ListenerId, Now, Pieces, ResourceId};
use crate::runtime::{CallerLink, Session, Sessions};
use crate::session::io::{Act, Input, Interest, Out};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

const HEAD: usize = 9;

/// What happened to the sessions, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
pub(crate) struct Fakes {
    pub(crate) log: Log,
    pub(crate) answer_ms: Option<u64>,
}

impl Fakes {
    pub(crate) fn new() -> Self {
        Self { log: Log::default(), answer_ms: None }
    }
}

impl Sessions for Fakes {
    type S = Fake;

    fn open(&self, _peer: SocketAddr, _listener: ListenerId, link: CallerLink) -> Fake {
        if let Some(name) = link.server_name {
            self.log.lock().expect("log").push(format!("sni {name}"));
        }
        if link.certificate.is_some() {
            self.log.lock().expect("log").push("certificate".to_owned());
        }
        let word = if link.secure { "secure" } else { "plain" };
        self.log.lock().expect("log").push(word.to_owned());
        Fake {
            log: Arc::clone(&self.log),
            state: State::Idle,
            exchange: 0,
            draining: false,
            answer_ms: self.answer_ms,
            deadline: None,
        }
    }
}

enum State {
    Idle,
    Request(u64),
    Answer,
    AnswerBody(u64),
    Closed,
}

pub(crate) struct Fake {
    log: Log,
    state: State,
    exchange: u128,
    draining: bool,
    answer_ms: Option<u64>,
    deadline: Option<u64>,
}

fn head(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.get(..HEAD)?.get(..HEAD - 1)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Forwards what belongs to the body; returns how many bytes, and how many are left.
fn body(pieces: &mut Pieces, from: usize, there: usize, left: u64) -> (usize, u64) {
    let count = there.min(usize::try_from(left).unwrap_or(usize::MAX));
    pieces.source(0..from + count);
    (from + count, left - count as u64)
}

impl Fake {
    fn id(&self) -> ExchangeId {
        ExchangeId(self.exchange)
    }

    fn note(&self, text: impl Into<String>) {
        self.log.lock().expect("log").push(text.into());
    }

    fn caller(&mut self, bytes: &[u8], now: Now, out: &mut Out) -> usize {
        let (consumed, left) = match self.state {
            State::Idle => {
                let Some(left) = head(bytes) else { return 0 };
                assert_ne!(bytes.get(HEAD - 1), Some(&b'p'), "a bug, as a test asked for");
                self.exchange += 1;
                out.test_act(Act::Connect {
                    exchange: self.id(),
                    resource: ResourceId(0),
                    credential: CredentialId(0),
                    generation: 1,
                    fresh: false,
                });
                body(out.test_upstream(), HEAD, bytes.len() - HEAD, left)
            }
            State::Request(left) => body(out.test_upstream(), 0, bytes.len(), left),
            _ => return 0,
        };
        self.state = if left == 0 { State::Answer } else { State::Request(left) };
        if left == 0 {
            self.deadline = self.answer_ms.map(|ms| now.after_ms(ms));
        }
        consumed
    }

    fn upstream(&mut self, bytes: &[u8], out: &mut Out) -> usize {
        let (consumed, left) = match self.state {
            State::Answer => {
                let Some(left) = head(bytes) else { return 0 };
                self.deadline = None;
                body(out.test_caller(), HEAD, bytes.len() - HEAD, left)
            }
            State::AnswerBody(left) => body(out.test_caller(), 0, bytes.len(), left),
            _ => return 0,
        };
        if left > 0 {
            self.state = State::AnswerBody(left);
            return consumed;
        }
        self.state = State::Idle;
        out.test_act(Act::Release { exchange: self.id(), reuse: true });
        if self.draining {
            self.close(out);
        }
        consumed
    }

    fn close(&mut self, out: &mut Out) {
        self.state = State::Closed;
        out.test_act(Act::CloseCaller { linger: true });
    }

    fn fail(&mut self, text: &str, out: &mut Out) {
        self.note(text);
        out.test_act(Act::Release { exchange: self.id(), reuse: false });
        if matches!(self.state, State::AnswerBody(_)) {
            self.state = State::Closed;
            out.test_act(Act::AbortCaller);
            return;
        }
        out.test_caller().text(format!("{:08}x{text}", text.len()).as_bytes());
        self.close(out);
    }
}

impl Session for Fake {
    fn handle(&mut self, input: Input<'_>, now: Now, out: &mut Out) -> usize {
        match input {
            Input::Caller(bytes) => return self.caller(bytes, now, out),
            Input::Upstream(exchange, bytes) => {
                assert_eq!(exchange, self.id());
                return self.upstream(bytes, out);
            }
            Input::Durable(_)
            | Input::Cancel
            | Input::News
            | Input::Verdict(..)
            | Input::Shown(..) => {}
            Input::Connected(_, None) => self.note("connected"),
            Input::Connected(_, Some(certificate)) => {
                self.note(format!("connected to {certificate:02x?}"));
            }
            Input::ConnectFailed(_, fault) => self.fail(&format!("{fault:?}"), out),
            Input::UpstreamEnd(_, ending) => self.fail(&format!("upstream {ending:?}"), out),
            Input::CallerEnd => {
                self.note("caller end");
                self.draining = true;
                if matches!(self.state, State::Idle | State::Request(_)) {
                    out.test_act(Act::Release { exchange: self.id(), reuse: false });
                    self.close(out);
                }
            }
            Input::CallerGone => {
                self.note("caller gone");
                out.test_act(Act::Release { exchange: self.id(), reuse: false });
                self.state = State::Closed;
            }
            Input::Timer => {
                if self.deadline.take_if(|at| *at <= now.mono_ns).is_some() {
                    self.fail("late", out);
                }
            }
            Input::Drain => {
                self.draining = true;
                if matches!(self.state, State::Idle) {
                    self.close(out);
                }
            }
        }
        0
    }

    fn interest(&self) -> Interest {
        match self.state {
            State::Idle => Interest { caller: true, upstream: false, idle: true },
            State::Request(_) => Interest { caller: true, upstream: true, idle: false },
            State::Answer | State::AnswerBody(_) => {
                Interest { caller: false, upstream: true, idle: false }
            }
            State::Closed => Interest::default(),
        }
    }

    fn deadline(&self) -> Option<u64> {
        self.deadline
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn tidy(&mut self) {
        assert!(matches!(self.state, State::Idle), "only an idle session is put aside");
        self.note("tidy");
    }
}
