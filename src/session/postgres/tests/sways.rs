//! What a statement may change of those behind it, and data that comes long after its decision.

use super::attack::{
    COPY_DONE, bind, close, complete, copy_data, copy_in, error, execute, stricter, told,
};
use super::moved::{self, USUAL, says};
use super::*;
use crate::mask::{Detector, Level, MaskSpec};

pub(super) const ASKS: &str = "current_setting";

fn asked(line: &Line) -> String {
    String::from_utf8_lossy(&line.up).into_owned()
}

pub(super) fn path(value: &str, status: TxStatus) -> Vec<u8> {
    message(|to| {
        write::row_description(&[], to);
        write::data_row(&[Some(value.as_bytes())], to);
        write::complete(b"SELECT 1", to);
        write::ready(status, to);
    })
}

/// Who may do anything, functions included.
fn caller() -> Line {
    let mut line = Line::login(&["writers"]);
    permit_functions(&mut line);
    line
}

fn permit_functions(line: &mut Line) {
    let mut functions = RuleSpec::new("functions", Effect::Allow);
    functions.what.function = patterns(&["*"]);
    let rules = [rules(), vec![functions]].concat();
    line.worker.reload(Arc::new(snapshot(rules, 2)));
}

/// A caller whose server reports its search path.
fn reporting() -> Line {
    let mut line = Line::new();
    permit_functions(&mut line);
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["writers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.server(&message(|to| write::status(b"search_path", b"public", to)));
    line.server(&ready(TxStatus::Idle));
    line.up.clear();
    line.down.clear();
    line
}

#[test]
fn what_comes_behind_unseen_code_waits_until_settings_are_known() {
    for text in ["do 'opaque'", "call p()", "select f()", "select 1 from t where s.f(a)"] {
        let mut line = caller();
        line.caller(&[query(text), query("select * from t")].concat());
        assert_eq!(tags(&line.up), "Q", "{text}");
        line.server(&[complete("DONE"), ready(TxStatus::Idle)].concat());
        assert!(asked(&line).contains(ASKS) && !asked(&line).contains("from t\0"), "{text}");
        line.server(&path("public", TxStatus::Idle));
        assert!(asked(&line).ends_with("select * from t\0"), "{text}");
        assert_eq!(tags(&line.down), "CZ", "the caller hears nothing of it");
        // It is asked once.
        line.server(&[rows(1), ready(TxStatus::Idle)].concat());
        line.up.clear();
        line.caller(&query("select * from t"));
        assert_eq!(tags(&line.up), "Q");
        let mut line = caller();
        line.caller(&query(text));
        line.server(&[complete("DONE"), ready(TxStatus::Transaction)].concat());
        line.caller(&query("select * from t"));
        line.server(&path("evil", TxStatus::Transaction));
        assert!(line.session.is_closed() && !asked(&line).contains("from t\0"), "{text}");
    }
    // A server that reports it need not be asked.
    let mut line = reporting();
    line.caller(&[query("do 'opaque'"), query("select * from t")].concat());
    assert_eq!(tags(&line.up), "Q");
    line.server(&[complete("DO"), ready(TxStatus::Idle)].concat());
    assert!(asked(&line).ends_with("select * from t\0") && !asked(&line).contains(ASKS));
    let mut line = reporting();
    line.caller(&[query("do 'opaque'"), query("select * from t")].concat());
    let changed = message(|to| write::status(b"search_path", b"evil", to));
    line.server(&[complete("DO"), changed, ready(TxStatus::Idle)].concat());
    assert!(line.session.is_closed() && !asked(&line).contains("from t\0"));
}

#[test]
fn a_text_that_a_setting_makes_another_is_refused_behind_unseen_code() {
    let call = [parse("", "select f()"), bind("", ""), execute("")].concat();
    for text in ["select 'a\\'", "select '\u{e9}'", "select 1 /* \\ */"] {
        let mut line = caller();
        line.caller(&[call.clone(), parse("", text), sync()].concat());
        assert!(!asked(&line).contains(text), "{text}");
        assert_eq!(tags(&line.up), "PBEPS", "it fails in its place");
        // By itself it is as good as any.
        let mut line = caller();
        line.caller(&query(text));
        assert_eq!(tags(&line.up), "Q");
    }
    let mut line = caller();
    line.caller(&[call.clone(), parse("", "select 1"), bind("", ""), execute(""), sync()].concat());
    assert_eq!(tags(&line.up), "PBEPBES");
    // A pipeline cannot be begun by what is not judged, so that nothing is asked.
    let mut line = caller();
    line.caller(&[call, sync()].concat());
    let done = [message(write::parse_done), message(write::bind_done), complete("SELECT 1")];
    line.caller(&[close("x"), parse("", "select * from t"), sync()].concat());
    line.server(&[done.concat(), ready(TxStatus::Idle)].concat());
    assert!(!asked(&line).contains("from t"), "{:?}", asked(&line));
}

#[test]
fn a_failed_transaction_can_be_ended_before_anything_is_asked() {
    let mut line = caller();
    line.caller(&query("select f()"));
    line.server(&[error("22000"), ready(TxStatus::Failed)].concat());
    line.up.clear();
    line.down.clear();
    line.caller(&query("rollback; select * from t"));
    assert!(!asked(&line).contains("from t"));
    line.server(&[syntax_error(), ready(TxStatus::Failed)].concat());
    line.up.clear();
    line.caller(&query("rollback"));
    assert!(asked(&line).contains("rollback"));
    line.server(&[complete("ROLLBACK"), ready(TxStatus::Idle)].concat());
    line.caller(&query("select * from t"));
    assert!(asked(&line).contains(ASKS));
}

/// At `direct` a caller may define other relations.
#[test]
fn what_comes_behind_a_definition_is_judged_by_the_catalog_behind_it() {
    let define = "create or replace view v2 as select email as x from t";
    let login = || moved::login(Level::Direct, &Arc::default(), USUAL).0;
    let mut line = login();
    line.caller(&[query(define), query("select x from v2")].concat());
    assert_eq!(tags(&line.up), "Q");
    line.server(&[complete("CREATE VIEW"), ready(TxStatus::Idle)].concat());
    assert!(asked(&line).contains("pg_catalog") && !asked(&line).contains("select x"));
    let masked = [USUAL, &["column|0|20003|1|public|v2|x"]].concat();
    line.server(&says(&masked, TxStatus::Idle));
    assert!(asked(&line).ends_with("select x from v2\0"));
    let run = |text: &str| [parse("", text), bind("", ""), execute("")].concat();
    // Before the Sync the catalog cannot be read.
    let mut line = login();
    line.caller(&[run(define), run("select x from v2"), sync()].concat());
    assert!(!asked(&line).contains("select x"));
    let mut line = login();
    line.caller(&[run("begin"), run(define), run("commit"), sync()].concat());
    assert_eq!(
        tags(&line.up).matches('P').count(),
        3,
        "the end of a transaction gives out nothing"
    );
    // Nor where the next pipeline begins with what is not judged.
    let mut line = login();
    line.caller(&[query(define), close("x"), parse("", "select x from v2"), sync()].concat());
    line.server(&[complete("CREATE VIEW"), ready(TxStatus::Idle)].concat());
    assert!(!asked(&line).contains("select x"));
}

#[test]
fn what_a_transaction_undoes_is_read_again() {
    let (mut line, _) = moved::login(Level::Direct, &Arc::default(), USUAL);
    line.caller(&query("begin"));
    line.server(&[complete("BEGIN"), ready(TxStatus::Transaction)].concat());
    line.caller(&query("create view v2 as select 1"));
    line.server(&[complete("CREATE VIEW"), ready(TxStatus::Transaction)].concat());
    line.caller(&query("rollback"));
    line.server(&says(USUAL, TxStatus::Transaction));
    line.caller(b"");
    assert!(asked(&line).ends_with("rollback\0"));
    line.server(&[complete("ROLLBACK"), ready(TxStatus::Idle)].concat());
    line.up.clear();
    line.caller(&query("select 1"));
    assert!(asked(&line).contains("pg_catalog"));
}

#[test]
fn data_of_a_copy_ends_with_the_rule_that_let_it_in() {
    let simple = query("copy t from stdin");
    let extended = [parse("", "copy t from stdin"), bind("", ""), execute(""), sync()].concat();
    for (begin, is_simple) in [(simple, true), (extended, false)] {
        let mut line = caller();
        line.caller(&begin);
        if !is_simple {
            line.server(&[message(write::parse_done), message(write::bind_done)].concat());
        }
        line.server(&copy_in());
        line.caller(&copy_data("one\n"));
        assert!(asked(&line).contains("one"));
        stricter(&mut line, 3);
        line.up.clear();
        line.down.clear();
        line.caller(&copy_data("two\n"));
        assert!(tags(&line.up) == "f" && !asked(&line).contains("two"));
        line.caller(&copy_data("three\n"));
        line.caller(COPY_DONE);
        if !is_simple {
            line.caller(&sync());
        }
        assert_eq!(tags(&line.up).replace('H', ""), "f");
        line.server(&error("57014"));
        assert!(told(&line).contains("42501") && told(&line).contains("no-t"), "{}", told(&line));
        line.server(&ready(TxStatus::Idle));
        assert_eq!(tags(&line.down), "EZ");
        assert!(line.recorded(Kind::Decision).contains("no-t"));
        line.up.clear();
        line.caller(&query("select 1"));
        assert_eq!(tags(&line.up), "Q", "the connection goes on");
        line.server(&[rows(1), ready(TxStatus::Idle)].concat());
        let whole = line.recorded(Kind::RequestBody);
        assert!(whole.contains("one") && !whole.contains("two") && !whole.contains("three"));
    }
}

#[test]
fn data_of_a_copy_goes_on_under_rules_that_permit_it_and_a_token_that_holds() {
    let mut line = caller();
    line.caller(&query("copy t from stdin"));
    line.server(&copy_in());
    line.worker.reload(Arc::new(snapshot(rules(), 3)));
    line.up.clear();
    line.caller(&copy_data("one\n"));
    assert_eq!(tags(&line.up), "d");
    line.now = at(4_000_000);
    line.caller(&copy_data("two\n"));
    assert!(line.session.is_closed() && !asked(&line).contains("two"));
    assert!(told(&line).contains("28000"));
    // A long message is let go or dropped as a whole.
    let mut line = caller();
    line.caller(&query("copy t from stdin"));
    line.server(&copy_in());
    stricter(&mut line, 3);
    line.up.clear();
    let long = copy_data(&"x".repeat(100_000));
    long.chunks(7_000).for_each(|part| line.caller(part));
    assert_eq!(tags(&line.up), "f");
}

#[test]
fn what_a_caller_calls_itself_is_told_back_as_the_record_may_hold_it() {
    let mut line = Line::new();
    let mut all = RuleSpec::new("masked", Effect::Allow);
    all.then.masks = crate::base::MaskSet::EMPTY.with(crate::base::MaskId(0));
    let mut made = snapshot(vec![all], 2);
    let spec =
        MaskSpec { name: "found".to_owned(), detect: vec![Detector::Email], ..MaskSpec::default() };
    made.plans = Plans::new(vec![spec]).unwrap();
    line.worker.reload(Arc::new(made));
    let name = "app of ana@x.org";
    line.caller(&startup(&[("user", "x"), ("database", "orders"), ("application_name", name)]));
    let token = line.token("ana", &["any"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    let status = message(|to| write::status(b"application_name", name.as_bytes(), to));
    line.server(&[status.clone(), ready(TxStatus::Idle)].concat());
    assert!(told(&line).contains("app of "));
    line.caller(&query("set application_name to 'app of ana@x.org'"));
    line.server(&[complete("SET"), status, ready(TxStatus::Idle)].concat());
    let plain = message(|to| write::status(b"TimeZone", b"UTC", to));
    line.caller(&query("select 1"));
    line.server(&[plain, complete("SELECT 0"), ready(TxStatus::Idle)].concat());
    assert!(told(&line).contains("UTC") && !told(&line).contains("ana@x.org"), "{:?}", told(&line));
    let entries = format!("{:?}", line.worker.journal.entries());
    let raw = format!("{:?}", b"ana@x.org").trim_matches(['[', ']']).to_owned();
    assert!(!entries.contains(&raw));
}
