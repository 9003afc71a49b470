//! Rules by column: what a statement names decides, and what it does not name is refused.

use super::*;

/// `public.t`: all but `ssn` may be read, and `name` written; nobody touches its `pin`.
fn login() -> Line {
    let mut line = Line::login(&["readers"]);
    let mut read = RuleSpec::new("read", Effect::Allow);
    read.what.statement = patterns(&["select"]);
    read.what.column = patterns(&["public.t.id", "public.t.name", "public.t.pin", "public.u.id"]);
    let mut write = RuleSpec::new("write", Effect::Allow);
    write.what.statement = patterns(&["insert", "update"]);
    write.what.column = patterns(&["public.t.id", "public.t.name"]);
    let mut count = RuleSpec::new("open", Effect::Allow);
    count.what.table = patterns(&["public.free", "public.closed"]);
    let mut pins = RuleSpec::new("no-pins", Effect::Deny);
    pins.what.column = patterns(&["public.t.pin", "public.f*.pin"]);
    line.worker.reload(Arc::new(snapshot(vec![read, write, count, pins], 2)));
    line
}

/// The catalog: `public.f_1` is a partition of `public.free`.
fn catalog() -> Vec<u8> {
    let text = |text: &'static str| Some(text.as_bytes());
    message(|to| {
        write::row_description(&[], to);
        let child =
            [text("child"), None, None, None, text("public"), text("g"), text("public.free")];
        write::data_row(&child, to);
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Idle, to);
    })
}

/// Answers for the catalog, which is read before a statement is decided.
fn read_catalog(line: &mut Line) {
    assert_eq!(tags(&line.up), "Q");
    assert!(String::from_utf8_lossy(&line.up).contains("pg_inherits"));
    line.up.clear();
    line.server(&catalog());
    line.caller(b"");
}

fn goes(text: &str) -> bool {
    let mut line = login();
    line.up.clear();
    line.down.clear();
    line.caller(&query(text));
    read_catalog(&mut line);
    let told = String::from_utf8_lossy(&line.down).into_owned();
    match tags(&line.up).as_str() {
        "Q" => true,
        up => {
            assert_eq!(up, "", "{text}");
            assert!(told.contains("42501"), "{text}: {told}");
            assert!(!line.session.is_closed(), "{text}");
            false
        }
    }
}

#[test]
fn every_column_must_be_allowed() {
    for text in [
        "select id, name from t where id = 1 order by name",
        "select x.id as y from t x order by y",
        "select t.name, u.id from t join u on u.id = t.id",
        "with q as (select t.name as n from t) select q.n from q",
        "insert into t (id, name) values (1, 'x') returning id",
        "insert into t (id) values (1) on conflict (id) do update set name = 'x'",
        "update t set name = 'x' where id = 1",
        "select free.ssn from free",
        "select * from closed",
        "select 1",
    ] {
        assert!(goes(text), "{text}");
    }
    for text in [
        "select ssn from t",
        "select id from t where ssn = 'x'",
        "select id from t order by ssn",
        "select id, (select t.ssn from t limit 1) from t",
        "with q as (select t.ssn as id from t) select q.id from q",
        "explain select t.ssn from t",
        "prepare p as select t.ssn from t",
        "insert into t (id, ssn) values (1, 'x')",
        "update t set ssn = 'x' where id = 1",
        "update t set name = ssn where id = 1",
        "insert into t (id) values (1) on conflict (id) do update set name = excluded.ssn",
        // Not to be told, or none.
        "select * from t",
        "select t::text from t",
        "select t.to_json from t",
        "select id from t natural join u",
        "insert into t values (1)",
        "select count(*) from t",
        // A bare name may be either table's.
        "select name, u.id from t join u on u.id = t.id",
        // A deny rule.
        "select id, pin from t",
        "select * from free",
        "select closed.id, t.pin from closed, t",
        "select free.pin from free",
    ] {
        assert!(!goes(text), "{text}");
    }
}

#[test]
fn a_partition_by_its_own_name_is_denied_what_its_parent_is() {
    let rules = |line: &mut Line, deny: bool, generation| {
        let mut rules = vec![RuleSpec::new("all", Effect::Allow)];
        if deny {
            let mut pins = RuleSpec::new("no-pins", Effect::Deny);
            pins.what.column = patterns(&["public.free.pin"]);
            rules.push(pins);
        }
        line.worker.reload(Arc::new(snapshot(rules, generation)));
    };
    let mut line = Line::login(&["readers"]);
    rules(&mut line, true, 2);
    line.caller(&query("select g.id from g"));
    read_catalog(&mut line);
    assert_eq!(tags(&line.up), "Q");
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    for text in ["select g.pin from g", "select * from g", "analyze g (pin)", "analyze"] {
        line.up.clear();
        line.down.clear();
        line.caller(&query(text));
        assert!(line.up.is_empty(), "{text}");
        assert!(String::from_utf8_lossy(&line.down).contains("no-pins"), "{text}");
    }
    // Where no rule asks, nothing is read.
    rules(&mut line, false, 3);
    line.caller(&query("select g.pin from g"));
    assert!(!String::from_utf8_lossy(&line.up).contains("pg_inherits"));
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    // In a pipeline that began before, nobody can tell.
    line.up.clear();
    line.down.clear();
    line.caller(&parse("", "select g.id from g"));
    rules(&mut line, true, 4);
    line.caller(&[parse("", "select g.id from g"), sync()].concat());
    line.server(&message(write::parse_done));
    line.server(&[syntax_error(), ready(TxStatus::Idle)].concat());
    let told = String::from_utf8_lossy(&line.down).into_owned();
    assert!(told.contains("send it again"), "{told} {}", tags(&line.up));
    line.up.clear();
    line.caller(&query("select g.id from g"));
    read_catalog(&mut line);
    assert_eq!(tags(&line.up), "Q");
}
