//! Rules that ask for the values of parameters, and for texts of several statements.

use super::*;
use crate::policy::What;
use crate::session::postgres::refuse::POISON;

fn told(line: &Line) -> String {
    String::from_utf8_lossy(&line.down).into_owned()
}

fn is_poisoned(line: &Line) -> bool {
    memchr::memmem::find(&line.up, POISON).is_some()
}

fn rule(id: &str, effect: Effect, what: What) -> RuleSpec {
    RuleSpec { what, ..RuleSpec::new(id, effect) }
}

fn values(list: &[&str]) -> Vec<(u16, Vec<Pattern>)> {
    vec![(1, patterns(list).unwrap())]
}

/// Everything with `public.t`, where the first parameter is of Europe; the settings of a session.
fn europe() -> Vec<RuleSpec> {
    let what =
        What { table: patterns(&["public.t"]), parameters: values(&["eu-*"]), ..What::default() };
    vec![rule("europe", Effect::Allow, what)]
}

fn reload(line: &mut Line, rules: Vec<RuleSpec>, generation: u64) {
    line.worker.reload(Arc::new(snapshot(rules, generation)));
}

fn under(rules: Vec<RuleSpec>) -> Line {
    let mut line = Line::login(&["readers"]);
    reload(&mut line, rules, 2);
    line
}

fn parse_typed(text: &str, types: &[u32]) -> Vec<u8> {
    message(|to| write::parse(b"s", text.as_bytes(), types, to))
}

fn bind(statement: &str, format: i16, value: Option<&[u8]>) -> Vec<u8> {
    message(|to| {
        write::bind(b"", statement.as_bytes(), &[format], &[value], &[], to);
        write::execute(b"", 0, to);
    })
}

fn complete(tag: &str) -> Vec<u8> {
    message(|to| write::complete(tag.as_bytes(), to))
}

/// A session in which `s` is prepared; the server was asked for its types where `types` are told.
fn prepared(rules: Vec<RuleSpec>, declared: &[u32], told: Option<&[u32]>) -> Line {
    let mut line = under(rules);
    let describe = message(|to| write::describe(false, b"s", to));
    let parse = parse_typed("select a from t where a = $1", declared);
    match told {
        Some(types) => {
            line.caller(&[parse, describe, sync()].concat());
            line.server(&message(|to| {
                write::parse_done(to);
                write::parameters(types, to);
                write::no_data(to);
            }));
        }
        None => {
            line.caller(&[parse, sync()].concat());
            line.server(&message(write::parse_done));
        }
    }
    line.server(&ready(TxStatus::Idle));
    assert!(!line.session.is_closed());
    line.up.clear();
    line.down.clear();
    line
}

/// Whether the value goes to the server, and what the caller is told else.
fn goes(line: &mut Line, format: i16, value: Option<&[u8]>) -> bool {
    line.up.clear();
    line.down.clear();
    line.caller(&[bind("s", format, value), sync()].concat());
    if tags(&line.up) == "BES" {
        line.server(&message(write::bind_done));
        line.server(&[rows(1), ready(TxStatus::Idle)].concat());
        assert_eq!(tags(&line.down), "2DCZ");
        return true;
    }
    assert!(line.up.is_empty(), "{:?}", tags(&line.up));
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(line).contains("42501"));
    false
}

const TEXT: u32 = 25;
const INT4: u32 = 23;

#[test]
fn a_statement_is_prepared_before_and_decided_with_each_set_of_values() {
    let mut line = prepared(europe(), &[], None);
    for _ in 0..3 {
        assert!(goes(&mut line, 0, Some(b"eu-1")));
    }
    assert!(!goes(&mut line, 0, Some(b"us-1")), "what was permitted once is no reason");
    assert!(told(&line).contains("for the values of its parameters"), "{}", told(&line));
    assert!(goes(&mut line, 0, Some(b"eu-2")));
    assert!(!goes(&mut line, 0, None), "NULL is compared with nothing");
    let mut line = under(europe());
    line.caller(&query("select a from t where a = 'eu-1'"));
    assert!(line.up.is_empty(), "no parameter, no value");
    line.caller(&parse("", "select a from u where a = $1"));
    assert!(line.up.is_empty(), "no value permits another table");
}

#[test]
fn binary_values_are_read_by_the_type_of_parse_or_of_the_server() {
    let seven = || {
        let mut rules = europe();
        rules[0].what.parameters = values(&["7"]);
        rules
    };
    let (seven_bytes, eight) = (7i32.to_be_bytes(), 8i32.to_be_bytes());
    for (declared, told) in [(&[INT4][..], None), (&[][..], Some(&[INT4][..]))] {
        let mut line = prepared(seven(), declared, told);
        assert!(goes(&mut line, 1, Some(&seven_bytes)));
        assert!(!goes(&mut line, 1, Some(&eight)));
        assert!(goes(&mut line, 0, Some(b"007")));
    }
    let mut line = prepared(seven(), &[], None);
    assert!(!goes(&mut line, 1, Some(&seven_bytes)), "nobody knows the type");
    let mut line = prepared(europe(), &[TEXT], None);
    assert!(goes(&mut line, 1, Some(b"eu-1")) && !goes(&mut line, 1, Some(b"us-1")));
}

#[test]
fn a_refused_bind_fails_where_a_failed_one_would() {
    let mut line = under(europe());
    let text = parse("", "select a from t where a = $1");
    line.caller(&[text.clone(), bind("", 0, Some(b"eu-1")), bind("", 0, Some(b"us-1"))].concat());
    line.caller(&[bind("", 0, Some(b"eu-2")), sync()].concat());
    assert_eq!(tags(&line.up), "PBEPS");
    assert!(is_poisoned(&line) && memchr::memmem::find(&line.up, b"us-1").is_none());
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"SELECT 0", to);
    }));
    line.server(&[syntax_error(), ready(TxStatus::Idle)].concat());
    assert_eq!(tags(&line.down), "12CEZ");
    assert!(told(&line).contains("42501") && !told(&line).contains("syntax"));
    // In a transaction, which fails by it.
    let mut line = prepared(europe(), &[], None);
    line.caller(&query("begin"));
    line.server(&[complete("BEGIN"), ready(TxStatus::Transaction)].concat());
    line.up.clear();
    line.down.clear();
    line.caller(&[bind("s", 0, Some(b"us-1")), sync()].concat());
    assert_eq!(tags(&line.up), "PS");
    line.server(&[syntax_error(), ready(TxStatus::Failed)].concat());
    assert_eq!(tags(&line.down), "EZ");
    assert!(told(&line).contains("42501"));
}

#[test]
fn execute_by_text_is_decided_by_its_literals() {
    let mut line = under(europe());
    line.caller(&query("prepare p as select a from t where a = $1"));
    line.server(&[complete("PREPARE"), ready(TxStatus::Idle)].concat());
    for (text, expected) in [
        ("execute p('eu-1')", true),
        ("explain execute p('eu-1')", true),
        ("execute p('us-1')", false),
        ("explain analyze execute p('us-1')", false),
        ("create table x as execute p('us-1')", false),
        ("execute p('eu-' || '1')", false),
        ("execute p('eu-1'::text)", false),
        ("execute p(null)", false),
        ("execute p", false),
        ("prepare q as select a from t where a = $1; execute q('eu-1')", true),
        ("prepare q as select a from t where a = $1; execute q('us-1')", false),
    ] {
        line.up.clear();
        line.caller(&query(text));
        assert_eq!(tags(&line.up) == "Q", expected, "{text} {}", told(&line));
        if expected {
            line.server(&[rows(1), ready(TxStatus::Idle)].concat());
        }
        assert!(!line.session.is_closed(), "{text}");
    }
    for (value, expected) in [(&b"eu-1"[..], true), (b"us-1", false)] {
        line.up.clear();
        line.caller(&[bind("p", 0, Some(value)), sync()].concat());
        assert_eq!(!line.up.is_empty(), expected, "what PREPARE named is bound by wire");
        if expected {
            line.server(&message(write::bind_done));
            line.server(&[rows(1), ready(TxStatus::Idle)].concat());
        }
    }
}

#[test]
fn a_prepare_that_is_parsed_runs_nothing_and_what_it_holds_is_decided() {
    let mut line = under(europe());
    let run = message(|to| {
        write::bind(b"", b"", &[], &[], &[], to);
        write::execute(b"", 0, to);
    });
    let prepare = parse("", "prepare p as select a from t where a = $1");
    line.caller(&[prepare, run].concat());
    assert_eq!(tags(&line.up), "PBE");
    // In the same pipeline the name counts already.
    line.caller(&bind("p", 0, Some(b"us-1")));
    assert!(is_poisoned(&line) && tags(&line.up) == "PBEP", "{}", tags(&line.up));
}

#[test]
fn a_cursor_keeps_the_values_that_it_was_opened_with() {
    let open = |value: &[u8]| {
        let mut line = under(europe());
        let text = "declare c cursor with hold for select a from t where a = $1";
        line.caller(&[parse("", text), bind("", 0, Some(value)), sync()].concat());
        line
    };
    assert!(is_poisoned(&open(b"us-1")));
    let mut line = open(b"eu-1");
    assert_eq!(tags(&line.up), "PBES");
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"DECLARE CURSOR", to);
    }));
    line.server(&ready(TxStatus::Idle));
    line.caller(&query("fetch 1 from c"));
    assert_eq!(tags(&line.up), "PBESQ");
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    // By other rules the same cursor may not be read.
    let mut other = europe();
    other[0].what.parameters = values(&["ch-*"]);
    reload(&mut line, other, 3);
    line.caller(&query("fetch 1 from c"));
    assert_eq!(tags(&line.up), "PBESQ");
}

#[test]
fn where_nobody_asked_for_values_they_are_not_known_later() {
    let all = vec![rule("all", Effect::Allow, What::default())];
    let mut line = under(all.clone());
    let text = "declare c cursor with hold for select a from t where a = $1";
    line.caller(&[parse("", text), bind("", 0, Some(b"eu-1")), sync()].concat());
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::complete(b"DECLARE CURSOR", to);
    }));
    line.server(&ready(TxStatus::Idle));
    line.up.clear();
    reload(&mut line, europe(), 3);
    line.caller(&query("fetch 1 from c"));
    assert!(line.up.is_empty(), "an allow rule is not met by what cannot be read");
    let deny = What { parameters: values(&["us-*"]), ..What::default() };
    let denied = [all, vec![rule("no-us", Effect::Deny, deny)]].concat();
    reload(&mut line, denied, 4);
    line.caller(&query("fetch 1 from c"));
    assert!(line.up.is_empty() && told(&line).contains("no-us"), "a deny rule is");
}

#[test]
fn a_deny_rule_by_value_is_heard_at_bind() {
    let deny = What { parameters: values(&["us-*"]), ..What::default() };
    let rules =
        vec![rule("all", Effect::Allow, What::default()), rule("no-us", Effect::Deny, deny)];
    let mut line = prepared(rules, &[], None);
    assert!(goes(&mut line, 0, Some(b"eu-1")));
    assert!(!goes(&mut line, 0, Some(b"us-1")));
    assert!(told(&line).contains("no-us"));
    assert!(!goes(&mut line, 0, None), "NULL may be anything");
}

#[test]
fn a_text_of_several_statements_meets_the_rule_that_asks() {
    let several = What { multi_statement: true, ..What::default() };
    let rules =
        vec![rule("all", Effect::Allow, What::default()), rule("one", Effect::Deny, several)];
    let mut line = under(rules);
    for (text, expected) in [
        ("select 1", true),
        ("select 1;;", true),
        ("; ;", true),
        ("select 1; select 2", false),
        ("begin; delete from t where a = 1; commit", false),
        ("select ';select 2'", true),
    ] {
        line.up.clear();
        line.down.clear();
        line.caller(&query(text));
        assert_eq!(!line.up.is_empty(), expected, "{text}");
        if expected {
            line.server(&[complete("SELECT 0"), ready(TxStatus::Idle)].concat());
        } else {
            assert!(told(&line).contains("rule one"), "{text}");
        }
    }
    // What PREPARE left of such a text is one statement when it runs.
    let mut line = under(vec![rule("all", Effect::Allow, What::default())]);
    line.caller(&query("prepare p as select a from t; prepare q as select a from t"));
    line.server(&[complete("PREPARE"), complete("PREPARE"), ready(TxStatus::Idle)].concat());
    let several = What { multi_statement: true, ..What::default() };
    let all = rule("all", Effect::Allow, What::default());
    reload(&mut line, vec![all, rule("one", Effect::Deny, several)], 3);
    line.up.clear();
    line.caller(&query("execute q"));
    assert_eq!(tags(&line.up), "Q");
}
