//! A statement that waits for a person, with the real book of approvals behind it.

use super::*;
use crate::base::{ApprovalId, MaskId, MaskSet};
use crate::mask::{Detector, MaskSpec, Operators};
use crate::policy::What;
use crate::policy::approval::{
    Ballot, Book, Bounds, Party, Revoker, Scope, Selector, Staged, State, Synced, Terms, Verdict,
    shown_digest,
};
use crate::session::Petition;
use crate::session::postgres::refuse::POISON;

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn terms() -> Terms {
    Terms {
        approvers: ["lead".into()].into(),
        count: 1,
        distinct_groups: false,
        wait_ns: 900 * SECOND,
        ttl_ns: 900 * SECOND,
        uses: 1,
        scope: Scope::Exact,
        reason: false,
        break_glass: false,
        reveal: [].into(),
        estimate: false,
    }
}

/// Asks about deletes and updates of anybody.
pub(super) fn asks(terms: Terms) -> RuleSpec {
    let mut rule = RuleSpec::new("ask-first", Effect::RequireApproval);
    rule.what.statement = patterns(&["delete", "update", "do", "copy_in"]);
    rule.then.approval = Some(terms);
    rule
}

pub(super) fn allows() -> RuleSpec {
    let mut rule = RuleSpec::new("read", Effect::Allow);
    rule.what.statement = patterns(&["select", "insert"]);
    rule
}

/// A caller, the gateway, and the owner of approvals.
pub(super) struct Held {
    pub(super) line: Line,
    pub(super) book: Book,
    pub(super) ids: u128,
    /// Acts that were looked at.
    seen: usize,
    pub(super) told: Vec<Petition>,
}

pub(super) fn open<T>(staged: Staged<T>) -> T {
    staged.open(Synced::up_to(u64::MAX)).unwrap()
}

impl Held {
    pub(super) fn new(rules: Vec<RuleSpec>) -> Self {
        Self::of(snapshot(rules, 2))
    }

    pub(super) fn of(snapshot: Snapshot) -> Self {
        let book = Book::new(Bounds::of(&snapshot.limits));
        let mut line = Line::login(&["any", "readers", "writers"]);
        line.worker.reload(Arc::new(snapshot));
        line.acts.clear();
        Self { line, book, ids: 0, seen: 0, told: Vec::new() }
    }

    /// The rule that asks, beside one that allows to read.
    pub(super) fn asking(terms: Terms) -> Self {
        Self::new(vec![asks(terms), allows()])
    }

    pub(super) fn caller(&mut self, bytes: &[u8]) {
        self.line.caller(bytes);
        self.answer();
    }

    pub(super) fn server(&mut self, bytes: &[u8]) {
        self.line.server(bytes);
        self.line.caller(b"");
        self.answer();
    }

    pub(super) fn tell(&mut self, input: Input<'_>) {
        self.line.tell(input);
        self.line.caller(b"");
        self.answer();
    }

    /// Lets the owner answer everything that was put to it.
    pub(super) fn answer(&mut self) {
        while let Some(act) = self.line.acts.get(self.seen).cloned() {
            self.seen += 1;
            let Act::Petition { exchange, petition } = act else { continue };
            self.told.push((*petition).clone());
            if let Some(verdict) = self.put(*petition) {
                self.say(exchange, verdict);
            }
        }
    }

    /// A session that was opened under this snapshot.
    fn fresh(snapshot: Snapshot) -> Self {
        let book = Book::new(Bounds::of(&snapshot.limits));
        let mut line = Line::new();
        line.worker.reload(Arc::new(snapshot));
        let mut line = line.enter(&["any"]);
        line.acts.clear();
        Self { line, book, ids: 0, seen: 0, told: Vec::new() }
    }

    pub(super) fn put(&mut self, petition: Petition) -> Option<Verdict> {
        let now_ns = self.line.now.wall_ns;
        match petition {
            Petition::Ask(ask) => {
                self.ids += 1;
                Some(open(self.book.ask(*ask, ApprovalId(self.ids), now_ns).1))
            }
            Petition::Spend { id, binding, who } => {
                Some(open(self.book.spend(id, &binding, &who, now_ns)))
            }
            Petition::Void { id } => {
                self.book.void(id, None, now_ns);
                None
            }
            Petition::Leave { id, cancel: true } => {
                let by = crate::policy::approval::By::Caller;
                self.book.cancel(id, by, None, now_ns);
                None
            }
            _ => None,
        }
    }

    pub(super) fn say(&mut self, exchange: ExchangeId, verdict: Verdict) {
        self.line.tell(Input::Verdict(exchange, verdict));
        // What was not read meanwhile is shown again.
        self.line.caller(b"");
        self.answer();
    }

    pub(super) fn asked(&self) -> ExchangeId {
        let exchange = self.line.acts.iter().rev().find_map(|act| match act {
            Act::Petition { exchange, .. } => Some(*exchange),
            _ => None,
        });
        exchange.unwrap()
    }

    pub(super) fn vote(&mut self, id: u128, approve: bool) {
        let id = ApprovalId(id);
        let lead = Party {
            iss: ISSUER.into(),
            sub: "lea".into(),
            client_id: None,
            actors: [].into(),
            groups: ["lead".into()].into(),
        };
        let digest = shown_digest(self.book.get(id).unwrap());
        let ballot = Ballot { approve, reason: None, digest, via: None };
        open(self.book.vote(id, &lead, ballot, self.line.now.wall_ns)).unwrap();
    }

    pub(super) fn approve(&mut self) {
        self.vote(self.ids, true);
        let id = ApprovalId(self.ids);
        self.say(self.asked(), Verdict::Approved { id });
    }

    pub(super) fn state(&self, id: u128) -> State {
        self.book.get(ApprovalId(id)).unwrap().state
    }

    pub(super) fn summary(&self, id: u128) -> String {
        self.book.get(ApprovalId(id)).unwrap().ask.summary.to_string()
    }

    pub(super) fn later(&mut self, ms: u64) {
        let ns = ms * 1_000_000;
        let now = self.line.now;
        self.line.now = Now { mono_ns: now.mono_ns + ns, wall_ns: now.wall_ns + ns };
        self.tell(Input::Timer);
    }

    pub(super) fn heard(&self) -> String {
        String::from_utf8_lossy(&self.line.down).into_owned()
    }

    pub(super) fn sent(&self) -> String {
        String::from_utf8_lossy(&self.line.up).into_owned()
    }

    pub(super) fn forget(&mut self) {
        (self.line.up, self.line.down) = (Vec::new(), Vec::new());
    }

    pub(super) fn places(&self) -> u32 {
        self.line.worker.places.taken()
    }

    pub(super) fn done(&mut self, tag: &str, status: TxStatus) {
        self.server(&message(|to| {
            write::complete(tag.as_bytes(), to);
            write::ready(status, to);
        }));
    }
}

const DELETE: &str = "delete from t where id = 7";

#[test]
fn nothing_goes_before_it_is_approved_and_then_the_very_bytes() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    assert_eq!((held.sent().as_str(), tags(&held.line.down).as_str()), ("", "N"));
    let heard = held.heard();
    let id = ApprovalId(1).to_string();
    for part in ["SNOTICE\0", "C00000\0", &id, "(rule ask-first"] {
        assert!(heard.contains(part), "{heard:?}");
    }
    assert_eq!((held.state(1), held.places()), (State::Pending, 1));
    let ask = held.book.get(ApprovalId(1)).unwrap().ask.clone();
    assert_eq!((&*ask.protocol, &*ask.resource, &*ask.who.sub), ("postgres", "orders", "ana"));
    assert_eq!(
        &*ask.summary,
        "-- database orders_prod, credential orders-app, role readonly\n-- the statement:\n\
         delete from t where id = 7"
    );
    held.approve();
    assert_eq!(held.line.up, query(DELETE));
    assert_eq!((held.state(1), held.places()), (State::Consumed, 0));
    held.done("DELETE 1", TxStatus::Idle);
    assert_eq!(tags(&held.line.down), "NCZ");
    assert_eq!(held.told.last(), Some(&Petition::Leave { id: ApprovalId(1), cancel: false }));
    let opened = held.line.recorded(Kind::Open);
    assert!(opened.contains("hold") && opened.contains(DELETE), "{opened}");
    let facts = held.line.recorded(Kind::Decision);
    assert!(facts.contains("permit") && facts.contains(&id) && facts.contains("lea"), "{facts}");
    // The connection goes on; the same again is another operation.
    held.forget();
    held.caller(&query(DELETE));
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
}

#[test]
fn a_refusal_says_which_request_and_the_connection_lives() {
    for (verdict, title) in [
        (Verdict::Denied { id: ApprovalId(1), reason: None }, "refused"),
        (Verdict::Expired { id: ApprovalId(1) }, ""),
        (Verdict::Cancelled { id: ApprovalId(1) }, ""),
        (Verdict::Revoked { id: ApprovalId(1) }, ""),
    ] {
        let mut held = Held::asking(terms());
        held.caller(&query(DELETE));
        held.say(held.asked(), verdict);
        let heard = held.heard();
        assert_eq!(tags(&held.line.down), "NEZ", "{heard}");
        let id = ApprovalId(1).to_string();
        for part in ["C42501\0", "SERROR\0", "HApproval request", &id, "rule ask-first", title] {
            assert!(heard.contains(part), "{heard:?}");
        }
        assert_eq!((held.sent().as_str(), held.places()), ("", 0));
        held.forget();
        held.caller(&query("select 1"));
        assert_eq!(held.line.up, query("select 1"));
    }
}

#[test]
fn the_end_of_the_wait_leaves_the_request_and_the_same_statement_finds_it() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    for beat in 1..=11 {
        held.later(10_000);
        assert_eq!(tags(&held.line.down), "N".repeat(beat + 1));
    }
    held.later(10_001);
    assert_eq!(tags(&held.line.down), format!("{}EZ", "N".repeat(12)));
    let heard = held.heard();
    assert!(heard.contains("C42501\0") && heard.contains("send the same statement again"));
    assert_eq!((held.state(1), held.places()), (State::Pending, 0));
    // Approved while nobody waits.
    held.vote(1, true);
    held.forget();
    held.caller(&query(DELETE));
    assert_eq!(held.line.up, query(DELETE));
    assert_eq!((tags(&held.line.down).as_str(), held.state(1)), ("", State::Consumed));
}

#[test]
fn what_is_pipelined_behind_it_is_not_read_until_it_goes() {
    let mut held = Held::asking(terms());
    let behind = [query("select 2"), query("select 3")].concat();
    held.caller(&[query("select 1"), query(DELETE), behind.clone()].concat());
    // What stands before it is answered first.
    assert_eq!(held.line.up, query("select 1"));
    assert_eq!(held.told.len(), 0);
    held.server(&[rows(1), ready(TxStatus::Idle)].concat());
    assert_eq!(tags(&held.line.down), "DCZN");
    assert_eq!((held.state(1), tags(&held.line.up).as_str()), (State::Pending, "Q"));
    assert!(held.line.session.interest().caller, "its end would be noticed");
    held.forget();
    held.approve();
    assert_eq!(held.line.up, [query(DELETE), behind].concat());
}

#[test]
fn the_wait_is_no_time_of_the_statement() {
    let mut made = snapshot(vec![asks(terms()), allows()], 2);
    made.limits.exchange_ms = 30_000;
    let mut held = Held::of(made);
    held.caller(&query(DELETE));
    held.later(60_000);
    held.approve();
    held.later(20_000);
    assert!(!held.line.session.is_closed());
    held.later(10_001);
    assert!(held.line.session.is_closed() && held.heard().contains("ran for too long"));
}

#[test]
fn so_much_is_read_ahead_and_no_more() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.caller(&vec![0; 60_000]);
    assert!(held.line.session.interest().caller);
    held.caller(&vec![0; 6_000]);
    assert!(!held.line.session.interest().caller);
    assert_eq!(held.sent(), "");
}

fn prepared(name: &str) -> Vec<u8> {
    parse(name, "delete from t where id = $1")
}

#[test]
fn parse_names_a_statement_and_bind_waits_with_its_values() {
    let mut held = Held::asking(terms());
    held.caller(&[prepared(""), bind_execute(""), sync()].concat());
    // Settled by a Sync of the gateway's own, so that the server waits outside of a transaction.
    assert_eq!(tags(&held.line.up), "PS");
    assert_eq!(held.told.len(), 0);
    held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    assert_eq!(tags(&held.line.down), "1N");
    assert!(held.summary(1).contains("-- $1 = '17'\n-- the statement:\ndelete from"));
    held.forget();
    held.approve();
    assert_eq!(held.line.up, [bind_execute(""), sync()].concat());
    assert_eq!(held.state(1), State::Consumed);
    held.server(&message(|to| {
        write::bind_done(to);
        write::complete(b"DELETE 1", to);
        write::ready(TxStatus::Idle, to);
    }));
    assert_eq!(tags(&held.line.down), "2CZ");
    // Another value is another operation.
    held.forget();
    let bind = message(|to| {
        write::bind(b"", b"", &[], &[Some(b"18")], &[], to);
        write::execute(b"", 0, to);
    });
    held.caller(&[prepared(""), bind, sync()].concat());
    held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    assert_eq!((held.state(2), tags(&held.line.up).as_str()), (State::Pending, "PS"));
}

#[test]
fn a_refused_bind_skips_to_the_sync_as_a_failed_one_would() {
    let mut held = Held::asking(terms());
    held.caller(&[prepared("s"), bind_execute("s"), sync(), query("select 1")].concat());
    held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    held.vote(1, false);
    held.say(held.asked(), Verdict::Denied { id: ApprovalId(1), reason: None });
    assert_eq!(tags(&held.line.down), "1NEZ");
    assert_eq!(tags(&held.line.up), "PSQ");
    // The name stands, and the next try is another operation.
    held.server(&[rows(1), ready(TxStatus::Idle)].concat());
    held.later(301_000);
    held.forget();
    held.caller(&[bind_execute("s"), sync()].concat());
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
}

#[test]
fn in_a_transaction_it_waits_for_a_shorter_time_and_fails_it() {
    let mut held = Held::asking(terms());
    held.caller(&query("begin"));
    held.done("BEGIN", TxStatus::Transaction);
    held.forget();
    held.caller(&query(DELETE));
    assert_eq!(tags(&held.line.down), "N");
    held.later(29_000);
    assert!(!tags(&held.line.down).contains('E'));
    held.later(1_001);
    // It fails at the server, too, as behind any refused statement.
    assert_eq!(held.line.up, message(|to| write::query(POISON, to)));
    held.server(&[syntax_error(), ready(TxStatus::Failed)].concat());
    assert!(tags(&held.line.down).ends_with("EZ"), "{}", held.heard());
    let heard = held.heard();
    assert!(heard.contains("C42501\0") && heard.contains(&ApprovalId(1).to_string()));
    assert_eq!(held.state(1), State::Pending);
    // There nothing is asked.
    held.forget();
    held.caller(&query("delete from t where id = 8"));
    held.server(&[syntax_error(), ready(TxStatus::Failed)].concat());
    assert!(held.heard().contains("C25P02\0"), "{}", held.heard());
    assert_eq!(held.ids, 1);
}

#[test]
fn what_ran_before_it_in_a_pipeline_is_a_transaction() {
    let mut held = Held::asking(terms());
    let insert = [parse("", "insert into t values ($1)"), bind_execute("")].concat();
    held.caller(&[insert, prepared(""), bind_execute(""), sync()].concat());
    // It is asked at once, and the server for the answers that it has.
    assert_eq!(tags(&held.line.up), "PBEPH");
    assert_eq!(held.state(1), State::Pending);
    held.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"INSERT 0 1", to);
        write::parse_done(to);
    }));
    assert_eq!(tags(&held.line.down), "N12C1");
    held.later(30_001);
    assert_eq!(tags(&held.line.up), "PBEPHPS");
    assert!(memchr::memmem::find(&held.line.up, POISON).is_some());
    held.server(&[syntax_error(), ready(TxStatus::Idle)].concat());
    assert!(tags(&held.line.down).ends_with("EZ") && held.heard().contains("C42501\0"));
}

#[test]
fn what_the_server_skips_is_taken_back() {
    let mut held = Held::asking(terms());
    let insert = [parse("", "insert into t values ($1)"), bind_execute("")].concat();
    held.caller(&[insert, prepared(""), bind_execute(""), sync()].concat());
    assert_eq!(held.state(1), State::Pending);
    held.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::error("ERROR", "23505", "duplicate", None, None, to);
    }));
    assert_eq!((held.state(1), held.places()), (State::Cancelled, 0));
    held.line.caller(b"");
    held.server(&ready(TxStatus::Idle));
    assert_eq!((tags(&held.line.up).as_str(), tags(&held.line.down).as_str()), ("PBEPHS", "N12EZ"));
}

#[test]
fn a_cancel_takes_it_back_and_so_does_a_caller_that_leaves() {
    let mut held = Held::asking(terms());
    held.caller(&[query(DELETE), query("select 1")].concat());
    held.tell(Input::Cancel);
    held.line.caller(b"");
    assert_eq!((held.state(1), held.places()), (State::Cancelled, 0));
    assert_eq!(tags(&held.line.down), "NEZ");
    assert!(held.heard().contains("C57014\0"), "{}", held.heard());
    assert_eq!(held.line.up, query("select 1"), "the connection lives");
    for input in [Input::CallerGone, Input::CallerEnd] {
        let mut held = Held::asking(terms());
        held.caller(&[query(DELETE), query("select 1")].concat());
        held.tell(input);
        assert_eq!((held.state(1), held.places()), (State::Cancelled, 0));
        // Not even when the server has something to say.
        held.server(&message(|to| write::status(b"TimeZone", b"UTC", to)));
        assert!(!held.sent().contains("delete"), "{}", held.sent());
        assert_eq!(held.ids, 1);
    }
}

#[test]
fn a_word_that_comes_late_is_not_for_the_next_statement() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    let before = held.asked();
    held.tell(Input::Cancel);
    held.forget();
    held.line.caller(&query(DELETE));
    held.line.tell(Input::Verdict(before, Verdict::Cancelled { id: ApprovalId(1) }));
    assert_eq!(held.heard(), "");
    held.answer();
    assert_eq!((held.state(2), tags(&held.line.down).as_str()), (State::Pending, "N"));
    held.approve();
    assert_eq!(held.line.up, query(DELETE));
}

#[test]
fn at_the_end_of_the_gateway_or_of_the_server_the_request_stays() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.tell(Input::Drain);
    assert!(held.line.session.is_closed());
    let heard = held.heard();
    assert!(heard.contains("C57P03\0") && heard.contains(&ApprovalId(1).to_string()), "{heard}");
    assert_eq!((held.state(1), held.places()), (State::Pending, 0));
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    let link = held.line.exchange;
    held.tell(Input::UpstreamEnd(link, Ending::Clean));
    assert!(held.line.session.is_closed());
    assert_eq!((held.state(1), held.places()), (State::Pending, 0));
}

#[test]
fn when_it_is_approved_the_policy_in_force_and_the_token_decide() {
    // Denied by now.
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    let mut no = RuleSpec::new("no", Effect::Deny);
    no.what.statement = patterns(&["delete"]);
    held.line.worker.reload(Arc::new(snapshot(vec![asks(terms()), allows(), no], 3)));
    held.approve();
    assert_eq!((held.sent().as_str(), held.state(1)), ("", State::Revoked));
    assert!(held.heard().contains("C42501\0"));
    // No rule asks any more.
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.line.worker.reload(Arc::new(snapshot(vec![RuleSpec::new("all", Effect::Allow)], 3)));
    held.approve();
    assert_eq!(held.line.up, query(DELETE));
    assert_eq!(held.told.iter().filter(|it| matches!(it, Petition::Spend { .. })).count(), 0);
    // Under other terms it is another question.
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    let other = Terms { count: 2, ..terms() };
    held.line.worker.reload(Arc::new(snapshot(vec![asks(other), allows()], 3)));
    held.approve();
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
    // The same rules of another generation.
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.line.worker.reload(Arc::new(snapshot(vec![asks(terms()), allows()], 3)));
    held.approve();
    assert_eq!(held.line.up, query(DELETE));
    // The token is no more; the session may have some time yet, and the statement has none.
    let mut made = snapshot(vec![asks(Terms { wait_ns: 86_400 * SECOND, ..terms() }), allows()], 2);
    made.limits.token_grace_ms = 10_000_000;
    let mut held = Held::of(made);
    held.line.now = at(3_500_000);
    held.caller(&query(DELETE));
    let late = at(3_630_000 - 10_000 + 50_000);
    held.line.now = late;
    held.vote(1, true);
    held.say(held.asked(), Verdict::Approved { id: ApprovalId(1) });
    assert_eq!(held.sent(), "");
    assert!(held.heard().contains("C28000\0"), "{}", held.heard());
}

#[test]
fn a_word_out_of_order_moves_nothing() {
    let mut held = Held::asking(Terms { uses: 2, ..terms() });
    held.line.caller(&query(DELETE));
    let Some(Act::Petition { exchange, petition }) = held.line.acts.last().cloned() else {
        panic!()
    };
    let Petition::Ask(ask) = *petition else { panic!() };
    let (binding, who) = (ask.binding, ask.who.clone());
    let verdict = held.put(Petition::Ask(ask)).unwrap();
    held.vote(1, true);
    // A use that nobody asked to spend.
    let id = ApprovalId(1);
    let spend = |held: &mut Held| open(held.book.spend(id, &binding, &who, held.line.now.wall_ns));
    let stray = spend(&mut held);
    held.line.tell(Input::Verdict(exchange, stray));
    assert_eq!(held.sent(), "");
    held.line.tell(Input::Verdict(exchange, verdict));
    held.line.tell(Input::Verdict(exchange, Verdict::Approved { id }));
    held.line.tell(Input::Verdict(exchange, Verdict::Approved { id }));
    let spends = |held: &Held| {
        let spend = |act: &&Act| match act {
            Act::Petition { petition, .. } => matches!(**petition, Petition::Spend { .. }),
            _ => false,
        };
        held.line.acts.iter().filter(spend).count()
    };
    assert_eq!((spends(&held), held.sent().as_str()), (1, ""));
    let spent = spend(&mut held);
    held.line.tell(Input::Verdict(exchange, spent));
    assert_eq!(held.line.up, query(DELETE));
    held.line.tell(Input::Verdict(exchange, Verdict::Denied { id, reason: None }));
    assert_eq!(held.line.up, query(DELETE));
    assert!(!held.line.session.is_closed());
}

#[test]
fn a_use_of_something_else_redeems_nothing() {
    let mut held = Held::asking(Terms { uses: 2, ..terms() });
    held.line.caller(&query("delete from t where id = 8"));
    let ask = |held: &Held| match held.line.acts.last().cloned() {
        Some(Act::Petition { exchange, petition }) => match *petition {
            Petition::Ask(ask) => (exchange, ask),
            _ => panic!(),
        },
        _ => panic!(),
    };
    let (exchange, other) = ask(&held);
    let _ = held.put(Petition::Ask(other.clone()));
    held.vote(1, true);
    held.line.tell(Input::Cancel);
    held.line.tell(Input::Verdict(exchange, Verdict::Cancelled { id: ApprovalId(1) }));
    held.forget();
    held.line.caller(&query(DELETE));
    let (exchange, mine) = ask(&held);
    let verdict = held.put(Petition::Ask(mine)).unwrap();
    held.line.tell(Input::Verdict(exchange, verdict));
    held.vote(2, true);
    held.line.tell(Input::Verdict(exchange, Verdict::Approved { id: ApprovalId(2) }));
    let now_ns = held.line.now.wall_ns;
    let spent = open(held.book.spend(ApprovalId(1), &other.binding, &other.who, now_ns));
    assert!(matches!(spent, Verdict::Spent(_)));
    held.line.tell(Input::Verdict(exchange, spent));
    assert_eq!(held.sent(), "");
    assert!(held.heard().contains("C42501\0"), "{}", held.heard());
}

#[test]
fn what_was_used_up_meanwhile_is_asked_for_once_more() {
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    let ask = held.book.get(ApprovalId(1)).unwrap().ask.clone();
    held.vote(1, true);
    // Another connection was faster.
    let now_ns = held.line.now.wall_ns;
    let _ = open(held.book.spend(ApprovalId(1), &ask.binding, &ask.who, now_ns));
    held.say(held.asked(), Verdict::Approved { id: ApprovalId(1) });
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
    held.approve();
    assert_eq!(held.line.up, query(DELETE));
}

#[test]
fn a_revoked_grant_cuts_what_runs_under_it_until_its_transaction_is_over() {
    let revoke = |held: &mut Held| {
        let now_ns = held.line.now.wall_ns;
        let _ = held.book.revoke(&Selector::All, &Revoker::Script, None, now_ns);
        held.say(held.asked(), Verdict::Revoked { id: ApprovalId(1) });
    };
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.approve();
    revoke(&mut held);
    assert!(held.line.acts.iter().any(|act| matches!(act, Act::Cancel { .. })));
    assert!(held.line.session.is_closed());
    assert!(held.heard().contains("SFATAL\0"), "{}", held.heard());
    // Done, and not committed.
    let mut held = Held::asking(terms());
    held.caller(&query("begin"));
    held.done("BEGIN", TxStatus::Transaction);
    held.caller(&query(DELETE));
    held.approve();
    held.done("DELETE 1", TxStatus::Transaction);
    revoke(&mut held);
    assert!(held.line.session.is_closed());
    // Over.
    let mut held = Held::asking(terms());
    held.caller(&query(DELETE));
    held.approve();
    held.done("DELETE 1", TxStatus::Idle);
    revoke(&mut held);
    assert!(!held.line.session.is_closed());
}

#[test]
fn every_part_of_a_statement_is_a_part_of_the_question() {
    let extended = |text: &str, types: &[u32], formats: &[i16], value: Option<&[u8]>| {
        message(|to| {
            write::parse(b"", text.as_bytes(), types, to);
            write::bind(b"", b"", formats, &[value], &[], to);
            write::execute(b"", 0, to);
            write::sync(to);
        })
    };
    let text = "delete from t where id = $1";
    let base = extended(text, &[23], &[0], Some(b"7"));
    for (bytes, same) in [
        (base.clone(), true),
        (extended(&format!("{text} /*node='x',run='9'*/"), &[23], &[0], Some(b"7")), true),
        (extended("delete from t where id = $1 ", &[23], &[0], Some(b"7")), false),
        (extended(text, &[20], &[0], Some(b"7")), false),
        (extended(text, &[23], &[1], Some(b"7")), false),
        (extended(text, &[23], &[0], Some(b"8")), false),
        (extended(text, &[23], &[0], None), false),
        (query("delete from t where id = 7"), false),
    ] {
        let mut held = Held::asking(terms());
        for bytes in [&base, &bytes] {
            held.caller(bytes);
            held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
            held.later(121_000);
        }
        assert_eq!(held.book.requests().len(), if same { 1 } else { 2 }, "{bytes:?}");
    }
    // As whom it is done, and where.
    type Change = fn(&mut Snapshot);
    let changes: [Change; 3] = [
        |it| it.resources[0].database = "other".to_owned(),
        |it| it.resources[0].authority = "other:5432".to_owned(),
        |it| {
            let form = Form::Password {
                user: "app".to_owned(),
                secret: Secret::new(PASSWORD.to_vec()),
                role: Some("other".to_owned()),
            };
            it.credentials[0] = Credential::new("orders-app".to_owned(), &form);
        },
    ];
    for change in changes {
        let made = || snapshot(vec![asks(terms()), allows()], 2);
        let mut held = Held::fresh(made());
        held.caller(&query(DELETE));
        let mut other = made();
        change(&mut other);
        let mut again = Held::fresh(other);
        again.caller(&query(DELETE));
        let binding = |held: &Held| held.book.get(ApprovalId(1)).map(|it| it.ask.binding);
        assert!(binding(&again).is_some() && binding(&held) != binding(&again));
    }
}

#[test]
fn how_a_date_is_read_is_a_part_of_the_question() {
    let german = message(|to| write::status(b"DateStyle", b"ISO, DMY", to));
    let text = "delete from t where day < '01/02/2024'";
    let mut held = Held::asking(terms());
    held.caller(&query(text));
    held.later(121_000);
    held.caller(&query("set datestyle = 'ISO, DMY'"));
    held.server(&german);
    held.done("SET", TxStatus::Idle);
    held.forget();
    held.caller(&query(text));
    assert_eq!((held.sent().as_str(), held.ids), ("", 2));
    assert_eq!(held.book.requests().len(), 2);
    assert!(held.summary(2).contains("\n-- DateStyle 'ISO, DMY'\n"), "{}", held.summary(2));
    // Where the answer is not in, nobody knows.
    let mut held = Held::asking(terms());
    let set = message(|to| {
        write::parse(b"", b"set datestyle = 'ISO, DMY'", &[], to);
        write::bind(b"", b"", &[], &[], &[], to);
        write::execute(b"", 0, to);
    });
    held.caller(&[set, prepared(""), bind_execute(""), sync()].concat());
    assert_eq!(held.ids, 0);
    assert!(memchr::memmem::find(&held.line.up, POISON).is_some(), "{}", held.sent());
    held.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"SET", to);
        write::parse_done(to);
    }));
    held.server(&[syntax_error(), ready(TxStatus::Idle)].concat());
    assert!(held.heard().contains("Send it behind a Sync"), "{}", held.heard());
}

#[test]
fn scopes_cover_what_they_say() {
    for (scope, first, second, covers) in [
        (Scope::Exact, "delete from t where id = 1", "delete from t where id = 2", false),
        (Scope::Shape, "delete from t where id = 1", "delete from t where id = 2", true),
        (Scope::Shape, "delete from t where id = 1", "delete from t where id < 2", false),
        (Scope::Shape, "delete from t where id = 1", "delete from u where id = 1", false),
        (Scope::Shape, "delete from t where id = 1 -- a", "delete from t where id = 2 -- a", false),
        (Scope::Session, "delete from t where id = 1", "update u set a = 2 where b = 3", true),
        (Scope::Resource, "delete from t where id = 1", "update u set a = 2 where b = 3", true),
    ] {
        let mut what = allows();
        what.what.function = patterns(&["*"]);
        let mut held = Held::new(vec![asks(Terms { scope, uses: 9, ..terms() }), what]);
        held.caller(&query(first));
        held.approve();
        held.done("DONE", TxStatus::Idle);
        held.forget();
        held.caller(&query(second));
        assert_eq!(held.line.up == query(second), covers, "{scope:?} {second}");
        assert!(covers || held.sent().is_empty());
    }
}

#[test]
fn the_glass_is_broken_by_a_reason_in_the_comment_or_of_the_session() {
    let glass = || Terms { break_glass: true, ttl_ns: 60 * SECOND, ..terms() };
    let mut held = Held::asking(glass());
    held.caller(&query(DELETE));
    let heard = held.heard();
    assert!(heard.contains("C42501\0") && heard.contains("/*reason='...'*/"), "{heard}");
    assert_eq!((held.ids, held.sent().as_str()), (0, ""));
    held.forget();
    let said = format!("{DELETE} /*reason='ticket%204711'*/");
    held.caller(&query(&said));
    assert_eq!(held.line.up, query(&said), "{}", held.heard());
    let ask = &held.book.get(ApprovalId(1)).unwrap().ask;
    assert_eq!(ask.reason.as_deref(), Some("ticket 4711"));
    assert!(held.line.recorded(Kind::Open).contains("ticket 4711"));
}

#[test]
fn there_are_so_many_places_and_a_text_that_cannot_be_shown_is_refused() {
    let mut made = snapshot(vec![asks(terms()), allows()], 2);
    made.limits.held_max = 0;
    let mut held = Held::of(made);
    held.caller(&query(DELETE));
    assert!(held.heard().contains("C57P03\0"), "{}", held.heard());
    let mut made = snapshot(vec![asks(terms()), allows()], 2);
    made.resources[0].sql_text_max = 1 << 20;
    let mut held = Held::of(made);
    held.caller(&query(&format!("delete from t where a = '{}'", "x".repeat(65 << 10))));
    assert!(held.heard().contains("C54000\0"), "{}", held.heard());
    let long = vec![b'x'; 65 << 10];
    let bind = message(|to| {
        write::bind(b"", b"", &[], &[Some(&long)], &[], to);
        write::execute(b"", 0, to);
    });
    held.forget();
    held.caller(&[prepared(""), bind, sync()].concat());
    held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    assert!(held.heard().contains("C54000\0"), "{}", held.heard());
    assert_eq!((held.ids, held.places()), (0, 0));
}

#[test]
fn an_owner_that_says_nothing_or_is_full_is_no_permit() {
    let mut held = Held::asking(terms());
    held.line.caller(&query(DELETE));
    held.later(4_000);
    held.seen = usize::MAX;
    assert_eq!(held.sent(), "");
    let mut silent = Held::asking(terms());
    silent.line.caller(&query(DELETE));
    silent.seen = usize::MAX;
    silent.later(5_001);
    assert!(silent.heard().contains("C57P03\0"), "{}", silent.heard());
    let mut full = Held::asking(terms());
    full.line.caller(&query(DELETE));
    let refused = crate::policy::approval::Refused::CallerFull;
    full.say(full.asked(), Verdict::Refused(refused));
    assert!(full.heard().contains("C57P03\0"), "{}", full.heard());
    assert_eq!((full.sent().as_str(), full.places()), ("", 0));
}

#[test]
fn names_of_sql_run_by_an_approval_of_what_they_stand_for() {
    let mut held = Held::asking(terms());
    // Nothing is done by it.
    held.caller(&query("prepare p as delete from t where id = $1"));
    assert_eq!(tags(&held.line.up), "Q");
    held.done("PREPARE", TxStatus::Idle);
    held.forget();
    held.caller(&query("execute p(7)"));
    assert_eq!(held.sent(), "");
    let summary = held.summary(1);
    let named = "-- it runs by a name:\n--     prepare p as delete from t where id = $1\n";
    assert!(summary.contains(named) && summary.ends_with("-- the statement:\nexecute p(7)"));
    held.approve();
    assert_eq!(held.line.up, query("execute p(7)"));
    held.done("DELETE 1", TxStatus::Idle);
    // The name stands for something else: another operation.
    held.caller(&query("deallocate p"));
    held.done("DEALLOCATE", TxStatus::Idle);
    held.caller(&query("prepare p as delete from t where id <> $1"));
    held.done("PREPARE", TxStatus::Idle);
    held.forget();
    held.caller(&query("execute p(7)"));
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
}

#[test]
fn a_cursor_is_read_under_the_approval_that_opened_it() {
    let mut rule = asks(terms());
    rule.what.statement = patterns(&["select"]);
    let mut held = Held::new(vec![rule]);
    held.caller(&query("begin"));
    held.done("BEGIN", TxStatus::Transaction);
    held.forget();
    held.caller(&query("declare c cursor for select * from t"));
    assert_eq!(held.sent(), "");
    held.approve();
    held.done("DECLARE CURSOR", TxStatus::Transaction);
    for _ in 0..3 {
        held.forget();
        held.caller(&query("fetch 10 from c"));
        assert_eq!(held.line.up, query("fetch 10 from c"));
        held.server(&[rows(1), ready(TxStatus::Transaction)].concat());
    }
    assert_eq!(held.ids, 1);
    held.caller(&query("commit"));
    held.done("COMMIT", TxStatus::Idle);
    // Behind its transaction nothing goes by it.
    held.forget();
    held.caller(&query("declare c cursor with hold for select * from t"));
    assert_eq!((held.sent().as_str(), held.state(2)), ("", State::Pending));
    held.approve();
    held.done("DECLARE CURSOR", TxStatus::Idle);
    held.forget();
    held.caller(&query("fetch 10 from c"));
    assert_eq!((held.sent().as_str(), held.state(3)), ("", State::Pending));
    let summary = held.summary(3);
    assert!(summary.contains("--     declare c cursor with hold for select * from t"), "{summary}");
}

#[test]
fn a_portal_is_read_under_the_approval_that_bound_it() {
    let mut rule = asks(terms());
    rule.what.statement = patterns(&["select"]);
    let mut held = Held::new(vec![rule]);
    held.caller(&query("begin"));
    held.done("BEGIN", TxStatus::Transaction);
    held.forget();
    let execute = message(|to| write::execute(b"", 2, to));
    let bind = message(|to| write::bind(b"", b"", &[], &[], &[], to));
    held.caller(&[parse("", "select a from t"), bind, execute.clone(), sync()].concat());
    held.server(&message(write::parse_done));
    held.approve();
    held.server(&message(|to| {
        write::bind_done(to);
        write::data_row(&[None], to);
        write::suspended(to);
        write::ready(TxStatus::Transaction, to);
    }));
    held.forget();
    held.caller(&[execute, sync()].concat());
    assert_eq!(tags(&held.line.up), "ES");
    assert_eq!(held.ids, 1);
}

#[test]
fn a_text_of_several_statements_is_one_question() {
    let mut held = Held::asking(terms());
    let text = "begin; delete from t where id = 7; select 1; commit";
    held.caller(&query(text));
    assert_eq!(held.sent(), "");
    assert!(held.summary(1).ends_with(text));
    held.approve();
    assert_eq!(held.line.up, query(text));
    assert_eq!(held.ids, 1);
}

#[test]
fn data_of_an_approved_copy_goes_on_while_the_rules_ask_the_same() {
    let copying = || {
        let mut held = Held::asking(terms());
        held.caller(&query("copy t from stdin"));
        held.approve();
        held.server(&attack::copy_in());
        held.forget();
        held
    };
    let data = message(|to| crate::wire::postgres::Frontend::CopyData(b"1\n").write(to));
    let mut held = copying();
    held.caller(&data);
    held.line.worker.reload(Arc::new(snapshot(vec![asks(terms()), allows()], 3)));
    held.caller(&data);
    assert_eq!(tags(&held.line.up), "dd");
    let mut other = asks(terms());
    other.id = "other".to_owned();
    held.line.worker.reload(Arc::new(snapshot(vec![other, allows()], 4)));
    held.caller(&data);
    assert_eq!(tags(&held.line.up), "ddf");
}

#[test]
fn values_decide_when_they_are_bound() {
    let mut rule = asks(terms());
    let parameters = vec![(1, patterns(&["1*"]).unwrap())];
    rule.what = What { statement: patterns(&["delete"]), parameters, ..What::default() };
    let mut allow = allows();
    allow.what.statement = None;
    for allowed in [true, false] {
        let rules = if allowed { vec![rule.clone(), allow.clone()] } else { vec![rule.clone()] };
        let mut held = Held::new(rules);
        let run = |value: &[u8]| {
            message(|to| {
                write::bind(b"", b"s", &[], &[Some(value)], &[], to);
                write::execute(b"", 0, to);
                write::sync(to);
            })
        };
        held.caller(&[prepared("s"), sync()].concat());
        held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
        assert_eq!(tags(&held.line.up), "PS", "some values could be approved of");
        held.forget();
        held.caller(&run(b"17"));
        assert_eq!((held.sent().as_str(), held.state(1)), ("", State::Pending));
        held.approve();
        assert_eq!(held.line.up, run(b"17"));
        held.server(&message(|to| {
            write::bind_done(to);
            write::complete(b"DELETE 1", to);
            write::ready(TxStatus::Idle, to);
        }));
        held.forget();
        held.caller(&run(b"27"));
        assert_eq!((tags(&held.line.up) == "BES", held.ids), (allowed, 1), "{}", held.heard());
    }
}

#[test]
fn a_person_is_shown_what_the_record_has() {
    let mut rule = asks(terms());
    rule.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut made = snapshot(vec![rule, allows()], 2);
    let spec = MaskSpec {
        name: "pii".into(),
        detect: vec![Detector::parse("email").unwrap()],
        operators: Operators::default(),
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    made.plans = Plans::new(vec![spec]).unwrap();
    let mut held = Held::of(made);
    let text = "delete from t where mail = 'ana@example.com' and id = $1";
    let bind = message(|to| {
        write::bind(b"", b"", &[], &[Some(b"bob@example.com")], &[], to);
        write::execute(b"", 0, to);
    });
    held.caller(&[parse("", text), bind, sync()].concat());
    held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
    let summary = held.summary(1);
    assert!(
        summary.contains("-- $1 = '[EMAIL]'") && summary.contains("mail = '[EMAIL]'"),
        "{summary}"
    );
    held.approve();
    assert!(held.sent().contains("bob@example.com"), "the very bytes go");
    let record = [Kind::Open, Kind::Decision, Kind::RequestBody].map(|k| held.line.recorded(k));
    assert!(!record.concat().contains("@example.com"), "{record:?}");
}

#[test]
fn what_masks_took_out_and_what_can_be_planned_travels_beside_the_question() {
    let made = || {
        let mut rule = asks(Terms { reveal: ["lead".into()].into(), estimate: true, ..terms() });
        rule.then.masks = MaskSet::EMPTY.with(MaskId(0));
        let mut made = snapshot(vec![rule, allows()], 2);
        let spec = MaskSpec {
            name: "pii".into(),
            detect: vec![Detector::parse("email").unwrap()],
            operators: Operators::default(),
            key: Secret::new(b"0123456789abcdef".to_vec()),
            ..MaskSpec::default()
        };
        made.plans = Plans::new(vec![spec]).unwrap();
        made
    };
    let asked = |bytes: &[u8]| {
        let mut held = Held::of(made());
        held.caller(bytes);
        held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
        let ask = held.told.into_iter().find_map(|it| match it {
            Petition::Ask(ask) => Some(ask),
            _ => None,
        });
        ask.unwrap().originals
    };
    let text = "delete from t where mail = $1 /*node='x'*/";
    let bind = message(|to| {
        write::parse(b"", text.as_bytes(), &[25, 0, 23], to);
        write::bind(b"", b"", &[1], &[Some(b"bob@example.com")], &[], to);
        write::execute(b"", 0, to);
        write::sync(to);
    });
    let originals = asked(&bind);
    let summary = originals.summary.unwrap();
    assert!(String::from_utf8_lossy(summary.expose()).contains("bob@example.com"));
    let statement = originals.statement.unwrap();
    assert_eq!(statement.text.expose(), b"delete from t where mail = $1");
    assert_eq!((&*statement.types, &*statement.formats), (&[25, 0, 23][..], &[1][..]));
    assert_eq!(statement.values[0].as_ref().unwrap().expose(), b"bob@example.com");
    let plain = asked(&query(DELETE));
    assert!(plain.summary.is_none() && plain.statement.is_some());
    assert!(asked(&query("delete from t where id = 7; select 1")).statement.is_none());
}

#[test]
fn the_link_of_the_page_is_in_the_notice() {
    let mut made = snapshot(vec![asks(terms()), allows()], 2);
    made.public_url = Some("https://gw.example.com".to_owned());
    let mut held = Held::of(made);
    held.caller(&query(DELETE));
    let link = format!("Hhttps://gw.example.com/approvals/{}\0", ApprovalId(1));
    assert!(held.heard().contains(&link), "{}", held.heard());
}

/// The whole way, with what either side sends cut in parts of `step`.
fn run(step: usize) -> (Vec<u8>, Vec<u8>, usize) {
    let mut held = Held::asking(terms());
    let asked = [
        query("select 1"),
        query(DELETE),
        prepared(""),
        bind_execute(""),
        sync(),
        query("select 2"),
    ];
    let parts = |held: &mut Held, bytes: &[u8], up: bool| {
        for part in bytes.chunks(step) {
            if up { held.caller(part) } else { held.server(part) }
        }
    };
    parts(&mut held, &asked.concat(), true);
    parts(&mut held, &[rows(1), ready(TxStatus::Idle)].concat(), false);
    held.approve();
    parts(
        &mut held,
        &message(|to| {
            write::complete(b"DELETE 1", to);
            write::ready(TxStatus::Idle, to);
        }),
        false,
    );
    parts(&mut held, &[message(write::parse_done), ready(TxStatus::Idle)].concat(), false);
    held.line.caller(b"");
    held.answer();
    held.approve();
    parts(
        &mut held,
        &message(|to| {
            write::bind_done(to);
            write::complete(b"DELETE 1", to);
            write::ready(TxStatus::Idle, to);
        }),
        false,
    );
    parts(&mut held, &[rows(1), ready(TxStatus::Idle)].concat(), false);
    assert!(!held.line.session.is_closed());
    let asks = held.told.iter().filter(|it| matches!(it, Petition::Ask(_))).count();
    (held.line.up, held.line.down, asks)
}

#[test]
fn any_split_gives_the_same_questions_and_bytes() {
    let whole = run(usize::MAX);
    assert_eq!(tags(&whole.0), "QQPSBESQ");
    assert_eq!(tags(&whole.1), "DCZNCZ1N2CZDCZ");
    assert_eq!(whole.2, 2);
    for step in [1, 2, 3, 5, 7, 13, 29] {
        let other = run(step);
        assert_eq!(
            (other.0 == whole.0, tags(&other.1), other.2),
            (true, tags(&whole.1), 2),
            "{step}"
        );
    }
}
