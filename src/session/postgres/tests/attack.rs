//! What a hostile caller or server would try; what the server does in each was seen on
//! PostgreSQL 15.

use super::*;
use crate::policy::RecordLevel;

pub(super) fn told(line: &Line) -> String {
    String::from_utf8_lossy(&line.down).into_owned()
}

pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(|to| write::bind(portal.as_bytes(), statement.as_bytes(), &[], &[], &[], to))
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    message(|to| write::execute(portal.as_bytes(), 0, to))
}

pub(super) fn close(name: &str) -> Vec<u8> {
    message(|to| write::close(false, name.as_bytes(), to))
}

pub(super) fn error(code: &str) -> Vec<u8> {
    message(|to| write::error("ERROR", code, "failed", None, None, to))
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    message(|to| write::complete(tag.as_bytes(), to))
}

pub(super) fn copy_in() -> Vec<u8> {
    b"G\0\0\0\x09\0\0\x01\0\0".to_vec()
}

/// What went up but for the gateway's own Flush: how often it asks is not the point.
fn unflushed(line: &Line) -> String {
    tags(&line.up).replace('H', "")
}

pub(super) const COPY_DONE: &[u8] = b"c\0\0\0\x04";

pub(super) fn copy_data(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len() + 4).unwrap();
    [b"d", &len.to_be_bytes()[..], text.as_bytes()].concat()
}

/// `readers` may do anything with `public.t`, of which the record keeps bodies, and read
/// `public.dull`, of which it does not.
fn with_a_dull_table() -> Line {
    let mut line = Line::login(&["readers"]);
    let mut rules = rules();
    let mut dull = RuleSpec::new("dull", Effect::Allow);
    dull.what.statement = patterns(&["select"]);
    dull.what.table = patterns(&["public.dull"]);
    dull.then.record = RecordLevel::Meta;
    rules.push(dull);
    line.worker.reload(Arc::new(snapshot(rules, 2)));
    line
}

fn answer(line: &mut Line, messages: &[&[u8]]) {
    line.server(&messages.concat());
    // What waited for the answers goes on.
    line.caller(b"");
}

#[test]
fn behind_an_error_the_server_skips_simple_queries_too() {
    let mut line = with_a_dull_table();
    let dull = query("select * from dull");
    line.caller(&[parse("", "select x from t"), dull.clone(), dull, sync()].concat());
    answer(&mut line, &[&error("42703"), &ready(TxStatus::Idle)]);
    assert_eq!(tags(&line.down), "EZ");
    assert!(
        line.worker.journal.entries().iter().filter(|e| e.meta.kind == Kind::Close).count() >= 2
    );
    line.caller(&query("select 'secret' from t"));
    let row = message(|to| write::data_row(&[Some(b"a secret row")], to));
    answer(&mut line, &[&row, &complete("SELECT 1"), &ready(TxStatus::Idle)]);
    assert!(!line.session.is_closed());
    assert!(line.recorded(Kind::ResponseBody).contains("a secret row"));
}

#[test]
fn what_comes_behind_an_error_is_skipped_up_to_a_sync() {
    let mut line = Line::login(&["readers"]);
    line.caller(&[parse("", "select x from t"), message(write::flush)].concat());
    line.server(&error("42703"));
    line.up.clear();
    line.caller(&[parse("s", "select 1"), query("select 2"), sync()].concat());
    assert_eq!(tags(&line.up), "S");
    line.server(&ready(TxStatus::Idle));
    line.caller(&bind("", "s"));
    assert!(told(&line).contains("26000"), "it was never prepared");
    assert!(!line.session.is_closed());
}

#[test]
fn a_long_message_that_began_to_go_goes_to_its_end() {
    let mut line = Line::login(&["writers"]);
    line.caller(&[parse("", "copy t from stdin"), bind("", ""), execute("")].concat());
    answer(&mut line, &[&message(write::parse_done), &message(write::bind_done), &copy_in()]);
    line.up.clear();
    let data = copy_data(&"x".repeat(100_000));
    let (one, two) = data.split_at(50_000);
    line.caller(one);
    line.server(&error("22P04"));
    line.caller(two);
    line.caller(&copy_data("more"));
    line.caller(&sync());
    assert_eq!(line.up, [data, sync()].concat());
}

#[test]
fn in_a_copy_the_server_reads_past_sync() {
    // libpq sends a Sync with the Execute and another one behind the data.
    let mut line = Line::login(&["writers"]);
    let begin = [parse("", "copy t from stdin"), bind("", ""), execute(""), sync()];
    line.caller(&begin.concat());
    assert_eq!(unflushed(&line), "PBE");
    answer(&mut line, &[&message(write::parse_done), &message(write::bind_done), &copy_in()]);
    line.caller(&[copy_data("1\n"), sync(), COPY_DONE.to_vec(), sync()].concat());
    assert_eq!(unflushed(&line), "PBEdc");
    answer(&mut line, &[&complete("COPY 1")]);
    assert_eq!(unflushed(&line), "PBEdcS");
    line.server(&ready(TxStatus::Idle));
    line.caller(&query("select 1"));
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    assert!(!line.session.is_closed());
    // One that fails before it begins.
    line.caller(&begin.concat());
    line.up.clear();
    answer(&mut line, &[&message(write::parse_done), &error("42P01")]);
    assert_eq!(tags(&line.up), "S");
    line.server(&ready(TxStatus::Idle));
    assert!(!line.session.is_closed());
    // A statement within is no message of a COPY.
    line.caller(&query("copy t from stdin"));
    line.server(&copy_in());
    line.caller(&query("select 1"));
    assert!(line.session.is_closed() && told(&line).contains("08P01"));
}

#[test]
fn data_of_a_copy_may_come_before_it_is_asked_for() {
    let mut line = Line::login(&["writers"]);
    let text = "copy t from stdin; copy t from stdin";
    let data = [copy_data("1\n"), COPY_DONE.to_vec()].concat();
    line.caller(&[query(text), data.clone(), data, query("select 1")].concat());
    assert_eq!(unflushed(&line), "Qdcdc");
    answer(&mut line, &[&copy_in(), &complete("COPY 1"), &copy_in(), &complete("COPY 1")]);
    assert_eq!(unflushed(&line), "Qdcdc");
    line.server(&ready(TxStatus::Idle));
    assert_eq!(unflushed(&line), "QdcdcQ");
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    assert!(!line.session.is_closed());
}

#[test]
fn a_copy_that_was_prepared_may_be_run_by_sql() {
    let mut line = Line::login(&["writers"]);
    line.caller(&[parse("w", "copy t from stdin"), sync()].concat());
    answer(&mut line, &[&message(write::parse_done), &ready(TxStatus::Idle)]);
    line.up.clear();
    line.caller(&[query("execute w"), sync()].concat());
    assert_eq!(unflushed(&line), "Q");
    answer(&mut line, &[&copy_in()]);
    line.caller(COPY_DONE);
    answer(&mut line, &[&complete("COPY 0"), &ready(TxStatus::Idle)]);
    line.caller(&query("select 1"));
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    assert!(!line.session.is_closed());
    assert_eq!(unflushed(&line), "QcQ");
}

#[test]
fn a_server_that_asks_for_data_of_no_copy_is_out_of_order() {
    let mut line = Line::login(&["readers"]);
    line.caller(&query("select * from t"));
    line.server(&copy_in());
    assert!(line.session.is_closed());
}

#[test]
fn a_name_counts_as_far_as_the_server_reads_it() {
    let mut line = with_a_dull_table();
    let (one, other) = ("n".repeat(63) + "1", "n".repeat(63) + "2");
    line.caller(&[parse(&one, "select * from dull"), sync()].concat());
    answer(&mut line, &[&message(write::parse_done), &ready(TxStatus::Idle)]);
    line.caller(&[close(&other), parse(&other, "select * from t"), sync()].concat());
    let done = [message(write::close_done), message(write::parse_done)].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    line.caller(&[bind("", &one), execute(""), sync()].concat());
    let row = message(|to| write::data_row(&[Some(b"a secret row")], to));
    let done = [message(write::bind_done), row, complete("SELECT 1")].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    assert!(line.recorded(Kind::ResponseBody).contains("a secret row"));
}

#[test]
fn a_name_that_is_closed_and_given_anew_in_flight_waits_for_the_answer() {
    let mut line = with_a_dull_table();
    line.caller(&[parse("s", "select * from dull"), sync()].concat());
    answer(&mut line, &[&message(write::parse_done), &ready(TxStatus::Idle)]);
    line.up.clear();
    let run = [bind("", "s"), execute(""), sync()].concat();
    line.caller(&[close("s"), parse("s", "select * from t"), sync(), run].concat());
    assert_eq!(tags(&line.up), "CPS", "which of the two `s` is, nobody knows so far");
    let done = [message(write::close_done), message(write::parse_done)].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    assert_eq!(tags(&line.up), "CPSBES");
    let row = message(|to| write::data_row(&[Some(b"a secret row")], to));
    let done = [message(write::bind_done), row, complete("SELECT 1")].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    assert!(line.recorded(Kind::ResponseBody).contains("a secret row"));
}

#[test]
fn a_pipeline_of_whole_batches_does_not_wait() {
    let mut line = Line::login(&["readers"]);
    let batch = [parse("", "select * from t"), bind("", ""), execute(""), sync()].concat();
    line.caller(&[batch.clone(), batch.clone(), batch].concat());
    assert_eq!(tags(&line.up), "PBESPBESPBES");
}

pub(super) fn stricter(line: &mut Line, generation: u64) {
    let mut rules = rules();
    let mut deny = RuleSpec::new("no-t", Effect::Deny);
    deny.what.table = patterns(&["public.t"]);
    rules.push(deny);
    line.worker.reload(Arc::new(snapshot(rules, generation)));
}

#[test]
fn execute_of_execute_is_judged_by_what_runs_in_the_end() {
    let mut line = Line::login(&["writers"]);
    let names = [parse("s", "select * from t"), parse("e", "execute s"), sync()].concat();
    line.caller(&names);
    let done = [message(write::parse_done), message(write::parse_done)].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    stricter(&mut line, 2);
    line.up.clear();
    line.caller(&query("execute e"));
    assert!(line.up.is_empty() && told(&line).contains("no-t"));
}

#[test]
fn an_open_cursor_is_judged_by_the_rules_of_each_fetch() {
    let mut line = Line::login(&["writers"]);
    line.caller(&query("begin; declare c cursor for select * from t"));
    let done = [complete("BEGIN"), complete("DECLARE CURSOR")].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Transaction)]);
    line.caller(&query("fetch 1 from c"));
    line.server(&[rows(1), ready(TxStatus::Transaction)].concat());
    stricter(&mut line, 2);
    line.up.clear();
    line.caller(&query("fetch 1 from c"));
    assert!(!String::from_utf8_lossy(&line.up).contains("fetch"));
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Failed));
    assert!(told(&line).contains("no-t"));
}

#[test]
fn a_portal_ends_with_its_transaction() {
    let mut line = Line::login(&["writers"]);
    line.caller(&[parse("", "select * from t"), bind("c", ""), sync()].concat());
    let done = [message(write::parse_done), message(write::bind_done)].concat();
    answer(&mut line, &[&done, &ready(TxStatus::Idle)]);
    line.up.clear();
    line.caller(&[execute("c"), sync()].concat());
    assert!(line.up.is_empty() && told(&line).contains("34000"));
}

#[test]
fn names_are_bounded_by_what_their_texts_weigh() {
    let mut line = Line::login(&["writers"]);
    let mut count = 0;
    while line.down.is_empty() || !told(&line).contains("57P03") {
        line.down.clear();
        let text = format!("select 1 /* {} */", "x".repeat(60_000));
        line.caller(&[parse(&count.to_string(), &text), sync()].concat());
        if line.up.is_empty() {
            continue;
        }
        line.up.clear();
        answer(&mut line, &[&message(write::parse_done), &ready(TxStatus::Idle)]);
        count += 1;
        assert!(count < 2_000, "{count} names");
    }
    // What is in flight counts, too.
    let mut line = Line::login(&["writers"]);
    let text = format!("select 1 /* {} */", "x".repeat(60_000));
    for count in 0..1_000 {
        line.caller(&parse(&count.to_string(), &text));
    }
    assert!(line.up.len() < 20 << 20, "{}", line.up.len());
    // The server may keep its answers until it is asked: without a Sync nothing would go on.
    assert!(tags(&line.up).ends_with("PH"), "{}", tags(&line.up));
}

#[test]
fn settings_cannot_be_changed_by_way_of_their_view() {
    for text in [
        "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'",
        "with x as (update pg_catalog.pg_settings set setting = 'a' returning 1) select 1",
    ] {
        let mut line = Line::login(&["writers"]);
        line.caller(&query(text));
        assert!(line.up.is_empty() && tags(&line.down) == "EZ", "{text}");
    }
}

#[test]
fn a_held_setting_that_changed_all_the_same_ends_the_session() {
    for (name, value) in [
        ("standard_conforming_strings", "off"),
        ("search_path", "evil"),
        ("client_encoding", "SJIS"),
    ] {
        let mut line = Line::login(&["writers"]);
        line.caller(&query("do 'opaque'"));
        let status = message(|to| write::status(name.as_bytes(), value.as_bytes(), to));
        answer(&mut line, &[&complete("DO"), &status, &ready(TxStatus::Idle)]);
        assert!(line.session.is_closed(), "{name}");
    }
}

#[test]
fn what_reaches_beyond_the_session_needs_a_rule() {
    for text in [
        "select nextval('s')",
        "select query from pg_stat_get_activity(null)",
        "select ('select 1').ts_stat",
        "select q.ts_stat from concat('select 1') q",
        "listen x",
        "notify x",
        "checkpoint",
        "lock table t",
    ] {
        let mut line = Line::login(&["readers"]);
        line.caller(&query(text));
        assert!(line.up.is_empty() && told(&line).contains("42501"), "{text}");
    }
}

fn logging_in() -> Line {
    let mut line = Line::new();
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["readers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line
}

#[test]
fn a_server_that_never_ends_its_login_is_left() {
    let mut line = logging_in();
    let due = line.session.deadline(&line.worker).unwrap();
    for ms in 0..10 {
        line.now = at(ms * 1_000);
        line.server(&message(|to| write::notice("NOTICE", "00000", "wait", None, None, to)));
        assert!(line.session.deadline(&line.worker).is_none_or(|at| at <= due));
    }
    line.now = Now { mono_ns: due, ..line.now };
    line.tell(Input::Timer);
    assert!(line.session.is_closed());
    let mut line = logging_in();
    for _ in 0..100 {
        let value = vec![b'v'; 10_000];
        line.server(&message(|to| write::status(b"server_version", &value, to)));
    }
    assert!(line.session.is_closed(), "settings are kept up to a bound");
}

/// A configuration whose only credential has another name and user.
fn with_another_credential(generation: u64) -> Snapshot {
    let form = Form::Password {
        user: "powerful".to_owned(),
        secret: Secret::new(PASSWORD.to_vec()),
        role: None,
    };
    Snapshot {
        public_url: None,
        credentials: vec![Credential::new("powerful".to_owned(), &form)],
        ..snapshot(rules(), generation)
    }
}

#[test]
fn a_reload_that_changes_who_a_session_would_be_ends_it() {
    let mut line = Line::login(&["readers"]);
    line.worker.reload(Arc::new(with_another_credential(2)));
    line.caller(&query("select * from t"));
    assert!(line.session.is_closed() && line.up.is_empty());
    // So does one that moves the database, and one by which nobody may connect.
    let mut line = Line::login(&["readers"]);
    let mut moved = snapshot(rules(), 2);
    moved.resources[0].authority = "other.internal:5432".to_owned();
    line.worker.reload(Arc::new(moved));
    line.caller(&query("select * from t"));
    assert!(line.session.is_closed() && line.up.is_empty());
    let mut line = Line::login(&["readers"]);
    line.worker.reload(Arc::new(snapshot(Vec::new(), 2)));
    line.caller(&query("select 1"));
    assert!(line.session.is_closed() && line.up.is_empty());
    let mut line = Line::login(&["readers"]);
    line.worker.reload(Arc::new(snapshot(rules(), 2)));
    line.caller(&query("select * from t"));
    assert_eq!(tags(&line.up), "Q");
}

#[test]
fn a_refused_parse_without_a_name_ends_the_one_before() {
    let mut line = Line::login(&["readers"]);
    line.caller(&[parse("", "select * from t"), sync()].concat());
    answer(&mut line, &[&message(write::parse_done), &ready(TxStatus::Idle)]);
    line.caller(&[parse("", "drop table t"), sync()].concat());
    line.up.clear();
    line.down.clear();
    line.caller(&[bind("", ""), sync()].concat());
    assert!(line.up.is_empty() && told(&line).contains("26000"));
}
