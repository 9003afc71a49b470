//! What is refused, how it is told, and that the server is where a failure would leave it.

use super::*;
use crate::session::postgres::refuse::POISON;

fn told(line: &Line) -> String {
    String::from_utf8_lossy(&line.down).into_owned()
}

fn is_poisoned(line: &Line) -> bool {
    memchr::memmem::find(&line.up, POISON).is_some()
}

#[test]
fn where_nothing_is_under_way_a_refusal_needs_no_server() {
    let mut line = Line::login(&["readers"]);
    line.caller(&query("delete from t where id = 1"));
    assert!(line.up.is_empty());
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("42501") && told(&line).contains("request "));
    assert!(line.recorded(Kind::Open).contains("delete from t where id = 1"));
    assert!(line.recorded(Kind::Open).contains("deny"));
    line.down.clear();
    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "Q");
}

#[test]
fn in_a_transaction_the_refused_statement_fails_at_the_server() {
    let mut line = Line::login(&["readers"]);
    line.caller(&query("begin"));
    line.server(&message(|to| write::complete(b"BEGIN", to)));
    line.server(&ready(TxStatus::Transaction));
    line.up.clear();
    line.down.clear();
    line.caller(&query("drop table t"));
    assert!(is_poisoned(&line));
    assert!(!String::from_utf8_lossy(&line.up).contains("drop"));
    assert!(line.down.is_empty());
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Failed));
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("42501") && !told(&line).contains("syntax"));
}

#[test]
fn a_pipeline_fails_at_the_refused_message_and_skips_to_its_sync() {
    let mut line = Line::login(&["readers"]);
    let allowed = parse("", "insert into t values ($1)");
    line.caller(&[allowed.clone(), bind_execute("")].concat());
    line.caller(&[parse("", "drop table t"), bind_execute(""), sync()].concat());
    let names: String = tags(&line.up);
    assert_eq!(names, "PBEPS", "the rest of the refused batch does not go");
    assert!(is_poisoned(&line));
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"INSERT 0 1", to);
    }));
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.down), "12CEZ");
    assert!(told(&line).contains("42501"));
    line.up.clear();
    line.down.clear();
    line.caller(&[allowed, bind_execute(""), sync()].concat());
    assert_eq!(tags(&line.up), "PBES");
}

#[test]
fn an_error_of_the_server_before_the_refused_message_is_told_as_it_is() {
    let mut line = Line::login(&["readers"]);
    line.caller(&[parse("", "insert into t values ($1)"), bind_execute("")].concat());
    line.caller(&[parse("", "drop table t"), sync()].concat());
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::error("ERROR", "23505", "duplicate key", None, None, to);
    }));
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.down), "12EZ");
    assert!(told(&line).contains("23505") && !told(&line).contains("42501"));
}

#[test]
fn a_prepared_statement_is_judged_by_the_rules_of_its_execution() {
    let mut line = Line::login(&["writers"]);
    line.caller(&[parse("s", "delete from t where id = $1"), sync()].concat());
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    line.up.clear();
    line.down.clear();
    let mut stricter = rules();
    let mut deny = RuleSpec::new("no-delete", Effect::Deny);
    deny.what.statement = patterns(&["delete"]);
    stricter.push(deny);
    line.worker.reload(Arc::new(snapshot(stricter, 2)));
    line.caller(&[bind_execute("s"), sync()].concat());
    assert!(line.up.is_empty());
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("no-delete"));
}

#[test]
fn what_was_permitted_once_is_judged_anew_after_a_reload() {
    let mut line = Line::login(&["writers"]);
    for _ in 0..3 {
        line.caller(&query("delete from t where id = 1"));
        line.server(&message(|to| write::complete(b"DELETE 1", to)));
        line.server(&ready(TxStatus::Idle));
    }
    assert_eq!(tags(&line.up), "QQQ");
    let mut stricter = rules();
    let mut deny = RuleSpec::new("no-delete", Effect::Deny);
    deny.what.statement = patterns(&["delete"]);
    stricter.push(deny);
    line.worker.reload(Arc::new(snapshot(stricter, 2)));
    line.down.clear();
    line.caller(&query("delete from t where id = 1"));
    assert_eq!((tags(&line.up).as_str(), tags(&line.down).as_str()), ("QQQ", "EZ"));
}

#[test]
fn a_name_keeps_its_statement_where_the_server_would_not_give_it_anew() {
    let mut line = Line::login(&["readers"]);
    line.caller(&[parse("s", "select * from t where id = $1"), sync()].concat());
    line.server(&message(write::parse_done));
    line.server(&ready(TxStatus::Idle));
    // It fails at the server, since the name is taken; what it was meant for never counts.
    line.caller(&[parse("s", "insert into t values ($1)"), sync()].concat());
    line.server(&message(|to| {
        write::error("ERROR", "42P05", "prepared statement exists", None, None, to);
    }));
    line.server(&ready(TxStatus::Idle));
    line.caller(&[bind_execute("s"), sync()].concat());
    let last = line.recorded(Kind::Open);
    assert!(last.ends_with("deny") || last.rfind("select * from t") > last.rfind("insert into t"));
}

#[test]
fn names_that_nothing_stands_for_are_refused_as_the_server_would() {
    let mut line = Line::login(&["writers"]);
    line.caller(&[bind_execute("never"), sync()].concat());
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("26000"));
    line.down.clear();
    line.caller(&query("execute never(1)"));
    assert!(told(&line).contains("42501"));
    assert!(line.up.is_empty());
}

#[test]
fn execute_runs_what_prepare_named_and_is_judged_by_it() {
    let mut line = Line::login(&["readers"]);
    line.caller(&query("prepare p as select * from t where id = $1"));
    assert_eq!(tags(&line.up), "Q");
    line.server(&message(|to| write::complete(b"PREPARE", to)));
    line.server(&ready(TxStatus::Idle));
    line.caller(&query("execute p(1)"));
    assert_eq!(tags(&line.up), "QQ");
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    line.caller(&query("deallocate p"));
    line.server(&message(|to| write::complete(b"DEALLOCATE", to)));
    line.server(&ready(TxStatus::Idle));
    line.caller(&query("execute p(1)"));
    assert_eq!(tags(&line.up), "QQQ");
}

#[test]
fn what_the_gateway_holds_for_a_session_cannot_be_changed() {
    for text in [
        "set role postgres",
        "SET  SESSION AUTHORIZATION DEFAULT",
        "reset session authorization",
        "set local search_path to evil",
        "set standard_conforming_strings = off",
        "discard all",
        "select 1; set role x",
        "copy t to program 'cat'",
        "copy t from '/etc/passwd'",
        "select set_config('role', 'postgres', false)",
    ] {
        let mut line = Line::login(&["writers"]);
        line.caller(&query(text));
        assert_eq!(tags(&line.down), "EZ", "{text}");
        assert!(line.up.is_empty(), "{text}");
    }
    for text in [
        "set datestyle to iso",
        "set search_path = public",
        "set search_path = default",
        "reset all",
        "show all",
    ] {
        let mut line = Line::login(&["readers"]);
        line.caller(&query(text));
        assert_eq!(tags(&line.up), "Q", "{text}");
    }
}

#[test]
fn a_deny_rule_is_heard_and_named() {
    let mut line = Line::login(&["writers"]);
    line.caller(&query("with x as (delete from t returning *) select * from x"));
    assert!(told(&line).contains("no-mass-delete"), "{}", told(&line));
    assert!(line.up.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused() {
    for text in ["selec 1", "select 'a", "select 1; !", "\u{0}"] {
        let mut line = Line::login(&["writers"]);
        line.caller(&query(text));
        assert!(line.up.is_empty(), "{text}");
        assert!(tags(&line.down).starts_with('E'), "{text}");
    }
    let mut line = Line::login(&["writers"]);
    line.caller(&query(&format!("select '{}'", "x".repeat(70_000))));
    assert!(told(&line).contains("54000"));
}

#[test]
fn function_calls_by_number_are_refused_and_an_unknown_message_ends_it() {
    let mut line = Line::login(&["writers"]);
    line.caller(b"F\0\0\0\x0e\0\0\0\x01\0\0\0\0\0\0");
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("42501"));
    line.caller(b"y\0\0\0\x04");
    assert!(line.session.is_closed());
    assert!(line.up.is_empty());
}

#[test]
fn nobody_is_let_in_without_a_token_a_database_and_a_rule() {
    let refused = |params: &[(&str, &str)], groups: &[&str], token: Option<&str>| {
        let mut line = Line::new();
        line.caller(&startup(params));
        let own = line.token("ana", groups);
        let token = token.unwrap_or(&own);
        line.caller(&message(|to| write::secret(token.as_bytes(), to)));
        assert!(line.session.is_closed(), "{params:?}");
        assert!(line.acts.iter().all(|act| !matches!(act, Act::Connect { .. })));
        told(&line)
    };
    let good = [("user", "x"), ("database", "orders")];
    assert!(refused(&good, &["readers"], Some("no token")).contains("28000"));
    assert!(refused(&good, &["strangers"], None).contains("42501"));
    assert!(refused(&[("user", "x")], &["readers"], None).contains("3D000"));
    for bad in [
        ("search_path", "evil"),
        ("options", "-c role=postgres"),
        ("options", "-d 5"),
        ("replication", "database"),
        ("client_encoding", "LATIN1"),
    ] {
        let params = [good[0], good[1], bad];
        assert!(refused(&params, &["readers"], None).contains("42501"), "{bad:?}");
    }
}
