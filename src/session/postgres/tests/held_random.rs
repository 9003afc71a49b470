//! Whatever the order of things: nothing of a statement that waits goes before a use was spent on it.

use super::held::{Held, allows, asks, terms};
use super::*;
use crate::base::ApprovalId;
use crate::policy::approval::{Refused, State, Verdict};
use crate::session::Petition;
use crate::session::postgres::refuse::POISON;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The caller sends this statement.
    Send(Sent, u8),
    /// The server reads and answers so many of the messages that came.
    Serve(usize),
    /// A person decides about a request, and whoever waits hears of it.
    Decide(usize, bool),
    /// Word comes of a request that nobody here may wait for.
    Stray(usize, u8),
    Later(u64),
    Cancel,
    Reload,
}

#[derive(Clone, Copy, Debug)]
enum Sent {
    Select,
    Delete,
    Bound,
    Pipeline,
    Begin,
    Commit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sent = prop_oneof![
        Just(Sent::Select),
        Just(Sent::Delete),
        Just(Sent::Bound),
        Just(Sent::Pipeline),
        Just(Sent::Begin),
        Just(Sent::Commit),
    ];
    let step = prop_oneof![
        6 => (sent, 0..3u8).prop_map(|(sent, mark)| Step::Send(sent, mark)),
        6 => (1..9usize).prop_map(Step::Serve),
        4 => (0..4usize, any::<bool>()).prop_map(|(which, yes)| Step::Decide(which, yes)),
        2 => (0..4usize, 0..5u8).prop_map(|(which, word)| Step::Stray(which, word)),
        2 => prop_oneof![Just(100), Just(9_000), Just(40_000), Just(130_000)].prop_map(Step::Later),
        1 => Just(Step::Cancel),
        1 => Just(Step::Reload),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What a statement of this mark is known by wherever it goes.
fn mark(number: u8) -> String {
    format!("held-{number}")
}

fn message_of(sent: Sent, number: u8) -> Vec<u8> {
    let bound = |to: &mut Vec<u8>| {
        write::parse(b"", b"delete from t where a = $1", &[], to);
        write::bind(b"", b"", &[], &[Some(mark(number).as_bytes())], &[], to);
        write::execute(b"", 0, to);
    };
    match sent {
        Sent::Select => query("select 1"),
        Sent::Delete => query(&format!("delete from t where a = '{}'", mark(number))),
        Sent::Bound => message(|to| {
            bound(to);
            write::sync(to);
        }),
        Sent::Pipeline => message(|to| {
            write::parse(b"", b"insert into t values (1)", &[], to);
            write::bind(b"", b"", &[], &[], &[], to);
            write::execute(b"", 0, to);
            bound(to);
            write::sync(to);
        }),
        Sent::Begin => query("begin"),
        Sent::Commit => query("commit"),
    }
}

/// A server that knows transactions and failures.
struct Server {
    read: usize,
    tx: TxStatus,
    skips: bool,
}

impl Server {
    fn answer(&mut self, up: &[u8], count: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..count {
            let rest = &up[self.read..];
            let Ok(Some(head)) = frame(rest) else { break };
            let body = &rest[FRAME_HEAD..FRAME_HEAD + head.len];
            self.read += FRAME_HEAD + head.len;
            self.one(head.tag, body, &mut out);
        }
        out
    }

    fn fail(&mut self, code: &str, out: &mut Vec<u8>) {
        write::error("ERROR", code, "it failed", None, None, out);
        if self.tx == TxStatus::Transaction {
            self.tx = TxStatus::Failed;
        }
    }

    fn one(&mut self, tag: u8, body: &[u8], out: &mut Vec<u8>) {
        let poisoned = memchr::memmem::find(body, POISON).is_some();
        match tag {
            b'S' => {
                self.skips = false;
                write::ready(self.tx, out);
            }
            b'H' => {}
            _ if self.skips => {}
            b'Q' => {
                if poisoned {
                    self.fail("42601", out);
                } else if body.starts_with(b"commit") {
                    self.tx = TxStatus::Idle;
                    write::complete(b"COMMIT", out);
                } else if self.tx == TxStatus::Failed {
                    self.fail("25P02", out);
                } else {
                    if body.starts_with(b"begin") {
                        self.tx = TxStatus::Transaction;
                    }
                    write::complete(b"DONE", out);
                }
                write::ready(self.tx, out);
            }
            b'P' if poisoned || self.tx == TxStatus::Failed => {
                self.fail(if poisoned { "42601" } else { "25P02" }, out);
                self.skips = true;
            }
            b'P' => write::parse_done(out),
            b'B' => write::bind_done(out),
            b'E' => write::complete(b"DONE", out),
            other => panic!("the server does not know {}", char::from(other)),
        }
    }
}

/// So often a statement of each mark went up to be run.
fn went(up: &[u8]) -> BTreeMap<String, usize> {
    let (mut rest, mut found) = (up, BTreeMap::new());
    while let Some(head) = frame(rest).unwrap() {
        let (message, more) = rest.split_at(FRAME_HEAD + head.len);
        for number in (0..3).map(mark) {
            if memchr::memmem::find(message, number.as_bytes()).is_some() {
                assert!(matches!(head.tag, b'Q' | b'B'));
                *found.entry(number).or_insert(0) += 1;
            }
        }
        rest = more;
    }
    found
}

/// So many uses were spent on statements of each mark.
fn spent(held: &Held) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for petition in &held.told {
        let Petition::Spend { id, .. } = petition else { continue };
        let Some(request) = held.book.get(*id) else { continue };
        for number in (0..3).map(mark) {
            if request.ask.summary.contains(&number) {
                *found.entry(number).or_insert(0) += 1;
            }
        }
    }
    found
}

fn check(held: &Held) {
    let spent = spent(held);
    for (mark, count) in went(&held.line.up) {
        let uses = spent.get(&mark).copied().unwrap_or(0);
        assert!(count <= uses, "{mark} went {count} times, by {uses} uses");
    }
    assert!(held.places() <= 1, "one session holds one statement");
    assert!(!held.line.session.is_closed(), "{}", held.heard());
}

fn take(held: &mut Held, server: &mut Server, step: Step, generation: &mut u64) {
    match step {
        Step::Send(sent, number) => held.caller(&message_of(sent, number)),
        Step::Serve(count) => {
            let answer = server.answer(&held.line.up, count);
            held.server(&answer);
        }
        Step::Decide(which, yes) => {
            let pending = held.book.requests().filter(|one| one.state == State::Pending);
            let mut pending: Vec<ApprovalId> = pending.map(|one| one.id).collect();
            pending.sort();
            let Some(id) = pending.get(which % pending.len().max(1)).copied() else { return };
            held.vote(id.0, yes);
            let word = match yes {
                true => Verdict::Approved { id },
                false => Verdict::Denied { id, reason: None },
            };
            held.say(held.asked(), word);
        }
        Step::Stray(which, word) => {
            if held.ids == 0 {
                return;
            }
            let id = ApprovalId(1 + which as u128 % held.ids);
            let word = match word {
                0 => Verdict::Approved { id },
                1 => Verdict::Cancelled { id },
                2 => Verdict::Expired { id },
                3 => Verdict::Pending { id, deadline_ns: u64::MAX },
                _ => Verdict::Refused(Refused::UsedUp),
            };
            held.say(held.asked(), word);
        }
        Step::Later(ms) => {
            held.later(ms);
            held.book.expire(held.line.now.wall_ns);
        }
        Step::Cancel => held.tell(Input::Cancel),
        Step::Reload => {
            *generation += 1;
            let made = snapshot(vec![asks(terms()), allows()], *generation);
            held.line.worker.reload(Arc::new(made));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_of_a_held_statement_goes_before_a_use_was_spent_on_it(steps in steps()) {
        let mut held = Held::new(vec![asks(terms()), allows()]);
        let mut server = Server { read: 0, tx: TxStatus::Idle, skips: false };
        let mut generation = 2;
        for step in steps {
            take(&mut held, &mut server, step, &mut generation);
            check(&held);
        }
        // Whatever waits is denied in the end, and everything is answered.
        for _ in 0..60 {
            take(&mut held, &mut server, Step::Serve(64), &mut generation);
            take(&mut held, &mut server, Step::Decide(0, false), &mut generation);
            held.line.caller(b"");
            held.answer();
            check(&held);
        }
        assert_eq!(held.places(), 0);
    }
}
