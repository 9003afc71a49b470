//! Statements that a person approved of, in the session of the rule's own credential.

use super::beside::{let_in, turned};
use super::held::{Held, allows, asks, terms};
use super::*;
use crate::base::ApprovalId;
use crate::policy::approval::{State, Verdict};

const DELETE: &str = "delete from t where id = 7";

fn narrow() -> Snapshot {
    let mut rule = asks(terms());
    rule.then.credential = Some(CredentialId(1));
    let mut made = snapshot(vec![rule, allows()], 2);
    let form = Form::Password {
        user: "writer".to_owned(),
        secret: Secret::new(b"the-other-password-0123456789".to_vec()),
        role: None,
    };
    made.credentials.push(Credential::new("orders-writer".to_owned(), &form));
    made
}

fn held() -> Held {
    Held::of(narrow())
}

/// The runtime's acts of the other session, without what was put to the owner of approvals.
fn enter(held: &mut Held) {
    held.line.acts.retain(|act| !matches!(act, Act::Petition { .. }));
    let_in(&mut held.line);
}

#[test]
fn the_other_session_is_opened_when_it_was_approved_and_not_before() {
    let mut held = held();
    held.caller(&query(DELETE));
    assert!(held.line.acts.iter().all(|act| matches!(act, Act::Petition { .. })));
    let ask = held.book.get(ApprovalId(1)).unwrap().ask.clone();
    assert_eq!(ask.credential.as_deref(), Some("orders-writer"));
    assert!(ask.summary.contains("credential orders-writer\n"), "{}", ask.summary);
    held.approve();
    assert!(held.sent().is_empty());
    held.forget();
    enter(&mut held);
    assert_eq!(held.line.up, query(DELETE));
    held.done("DELETE 1", TxStatus::Idle);
    assert_eq!(tags(&held.line.down), "CZ");
}

#[test]
fn a_statement_that_was_prepared_at_home_is_made_known_there() {
    let mut held = held();
    let run = |value: &[u8]| {
        message(|to| {
            write::bind(b"", b"s", &[1], &[Some(value)], &[1], to);
            write::describe(true, b"", to);
            write::execute(b"", 0, to);
            write::sync(to);
        })
    };
    let text = "delete from t where id = $1";
    let parse = message(|to| write::parse(b"s", text.as_bytes(), &[23], to));
    let describe = message(|to| write::describe(false, b"s", to));
    held.caller(&[parse, describe, sync()].concat());
    assert_eq!(tags(&held.line.up), "PDS", "at home");
    held.server(&message(|to| {
        write::parse_done(to);
        write::parameters(&[23], to);
        write::no_data(to);
        write::ready(TxStatus::Idle, to);
    }));
    assert_eq!(tags(&held.line.down), "1tnZ");
    held.forget();
    held.caller(&run(&7i32.to_be_bytes()));
    assert!(held.summary(1).contains("-- $1 = '7'\n"), "{}", held.summary(1));
    assert_eq!(held.sent(), "");
    held.approve();
    held.forget();
    enter(&mut held);
    held.line.caller(b"");
    assert_eq!(tags(&held.line.up), "CPBDES");
    let sent = held.sent();
    assert!(sent.contains(text) && sent.matches("weirgate held\0").count() == 3, "{sent:?}");
    held.server(&message(|to| {
        write::close_done(to);
        write::parse_done(to);
        write::bind_done(to);
        write::no_data(to);
        write::complete(b"DELETE 1", to);
        write::ready(TxStatus::Idle, to);
    }));
    assert_eq!(tags(&held.line.down), "2nCZ", "the caller hears of its own messages only");
    turned(&mut held.line);
    held.line.acts.retain(|act| !matches!(act, Act::Petition { .. }));
    assert_eq!(held.state(1), State::Consumed);
}

#[test]
fn in_a_transaction_it_is_refused_before_anybody_is_asked() {
    let mut held = held();
    held.caller(&query("begin"));
    held.done("BEGIN", TxStatus::Transaction);
    held.forget();
    held.caller(&query(DELETE));
    held.server(&[syntax_error(), ready(TxStatus::Failed)].concat());
    let heard = held.heard();
    assert!(heard.contains("C42501\0") && heard.contains("outside of a transaction"), "{heard}");
    assert_eq!(held.ids, 0);
}

#[test]
fn what_runs_by_a_name_of_sql_is_refused_with_a_hint() {
    let mut held = held();
    held.caller(&query("prepare p as delete from t where id = $1"));
    let heard = held.heard();
    assert!(heard.contains("C42501\0") && heard.contains("Parse and Bind"), "{heard}");
    assert_eq!((held.ids, held.sent().as_str()), (0, ""));
}

#[test]
fn rules_that_change_while_the_session_is_opened_let_nothing_go() {
    let mut held = held();
    held.caller(&query(DELETE));
    held.approve();
    held.forget();
    let mut again = narrow();
    again.generation = 3;
    let rules = again.policy.rules().map(|(_, rule)| rule.clone()).collect();
    again.policy = Table::compile(rules, 1, 3).unwrap();
    held.line.worker.reload(Arc::new(again));
    held.line.acts.retain(|act| !matches!(act, Act::Petition { .. }));
    held.line.tell(Input::Connected(held.line.exchange, None));
    held.line.server(&message(write::auth_cleartext));
    held.line.server(&message(write::auth_ok));
    held.line.server(&ready(TxStatus::Idle));
    assert!(!held.sent().contains("delete"), "{:?}", held.sent());
    assert_eq!(held.places(), 0);
}

#[test]
fn a_grant_that_is_revoked_while_the_session_is_opened_lets_nothing_go() {
    let mut held = held();
    held.caller(&query(DELETE));
    held.approve();
    held.forget();
    held.say(held.asked(), Verdict::Revoked { id: ApprovalId(1) });
    held.line.acts.retain(|act| !matches!(act, Act::Petition { .. }));
    held.line.tell(Input::Connected(held.line.exchange, None));
    held.line.server(&message(write::auth_cleartext));
    held.line.server(&message(write::auth_ok));
    held.line.server(&ready(TxStatus::Idle));
    assert!(!held.sent().contains("delete"), "{:?}", held.sent());
    assert_eq!(held.places(), 0);
}

#[test]
fn names_of_the_gateways_own_are_nobody_elses() {
    for made in [
        [parse("weirgate held", "select 1 from t"), sync()].concat(),
        query("prepare \"weirgate held\" as select 1 from t"),
        query("declare \"weirgate held\" cursor for select 1 from t"),
    ] {
        let mut held = Held::of(narrow());
        held.caller(&made);
        let heard = held.heard() + &held.sent();
        assert!(!heard.contains("select 1"), "{heard}");
        assert_eq!(held.ids, 0);
    }
}

#[test]
fn the_types_that_parse_declared_are_a_part_of_what_a_name_stands_for() {
    let asked = |oid: u32| {
        let mut held = Held::asking(terms());
        let text = "delete from t where id = $1";
        held.caller(
            &[message(|to| write::parse(b"p", text.as_bytes(), &[oid], to)), sync()].concat(),
        );
        held.server(&[message(write::parse_done), ready(TxStatus::Idle)].concat());
        held.caller(&query("execute p('5')"));
        held.book.get(ApprovalId(1)).unwrap().ask.fingerprint
    };
    assert_eq!(asked(23), asked(23));
    assert_ne!(asked(23), asked(25));
}
