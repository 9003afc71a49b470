//! Rows, words and records under masks, against a server that answers for its catalog.

use super::*;
use crate::base::{MaskId, MaskSet};
use crate::mask::{ColumnName, Level, MaskSpec, Operator, Operators};
use crate::wire::postgres::Column;

pub(super) const TABLE: u32 = 20_000;

pub(super) fn masked_snapshot(generation: u64, level: Level) -> Snapshot {
    let spec = MaskSpec {
        name: "pii".to_owned(),
        columns: vec![ColumnName::parse("public.t.email").unwrap()],
        level,
        operators: Operators {
            columns: Some(Operator::parse("redact").unwrap()),
            ..Operators::default()
        },
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    let mut all = RuleSpec::new("masked", Effect::Allow);
    all.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut made = snapshot(vec![all], generation);
    made.plans = Plans::new(vec![spec]).unwrap();
    made
}

/// What the catalog says: `public.t` is 20000, `email` its second column, and `v.mail` shows it.
pub(super) fn catalog(newest: &[u8]) -> Vec<u8> {
    let email = |kind: &'static [u8]| -> Vec<Option<&[u8]>> {
        let named = kind == b"column";
        let name = |text: &'static [u8]| named.then_some(text);
        let names = [name(b"public"), name(b"t"), name(b"email")];
        [&[Some(kind), Some(b"0"), Some(b"20000"), Some(b"2")], names.as_slice()].concat()
    };
    let view: [Option<&[u8]>; 7] = [
        Some(b"column"),
        Some(b"0"),
        Some(b"20001"),
        Some(b"1"),
        Some(b"public"),
        Some(b"v"),
        Some(b"mail"),
    ];
    message(|to| {
        write::row_description(&[], to);
        write::data_row(&email(b"rule"), to);
        write::data_row(&email(b"column"), to);
        write::data_row(&view, to);
        write::data_row(&[Some(b"newest"), None, Some(newest), None, None, None, None], to);
        write::complete(b"SELECT 4", to);
        write::ready(TxStatus::Idle, to);
    })
}

fn login() -> Line {
    login_at(Level::DerivedClosed)
}

pub(super) fn login_at(level: Level) -> Line {
    login_with(masked_snapshot(2, level))
}

/// Lets the caller in, who has asked for `email` of `t` then.
pub(super) fn login_with(made: Snapshot) -> Line {
    let mut line = Line::new();
    line.worker.reload(Arc::new(made));
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["any"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.up.clear();
    line.server(&ready(TxStatus::Idle));
    // The catalog is read before the caller is let in.
    assert_eq!((tags(&line.up).as_str(), tags(&line.down).as_str()), ("Q", "R"));
    line.caller(&query("select email from t"));
    assert_eq!(tags(&line.up), "Q", "a caller that is early waits");
    line.server(&catalog(b"20010"));
    assert_eq!(tags(&line.down), "RRZ");
    line.caller(b"");
    line.up.clear();
    line.down.clear();
    line
}

pub(super) fn column(table: u32, attribute: i16) -> Column<'static> {
    Column { name: b"c", table, attribute, kind: 25, kind_len: -1, modifier: -1, format: 0 }
}

pub(super) fn answer(columns: &[Column<'_>], cells: &[Option<&[u8]>]) -> Vec<u8> {
    message(|to| {
        write::row_description(columns, to);
        write::data_row(cells, to);
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Idle, to);
    })
}

pub(super) fn shown(line: &Line) -> String {
    String::from_utf8_lossy(&line.down).into_owned()
}

#[test]
fn a_column_is_masked_by_its_number_and_what_is_computed_is_null() {
    let mut line = login();
    let columns = [column(TABLE, 2), column(TABLE, 1), column(0, 0), column(20_011, 1)];
    let cells: [Option<&[u8]>; 4] =
        [Some(b"ana@x.org"), Some(b"plain"), Some(b"computed"), Some(b"unknown")];
    line.server(&answer(&columns, &cells));
    assert_eq!(tags(&line.down), "TDCZ");
    let told = shown(&line);
    assert!(told.contains("[REDACTED]") && told.contains("plain"), "{told:?}");
    for hidden in ["ana@x.org", "computed", "unknown"] {
        assert!(!told.contains(hidden), "{told:?}");
    }
    let recorded = line.recorded(Kind::ResponseBody);
    assert!(!recorded.contains("ana@x.org") && recorded.contains("[REDACTED]"));
}

#[test]
fn each_execution_is_described_anew_and_the_caller_does_not_hear_it() {
    let mut line = login();
    line.server(&answer(&[column(TABLE, 2)], &[Some(b"a@b.org")]));
    line.down.clear();
    // An unknown column was none; nothing is due, and the statement goes at once.
    line.caller(
        &[parse("", "select email from t where id = $1"), bind_execute(""), sync()].concat(),
    );
    assert_eq!(tags(&line.up), "PBDES");
    line.server(&message(|to| {
        write::parse_done(to);
        write::bind_done(to);
        write::row_description(&[column(TABLE, 2)], to);
        write::data_row(&[Some(b"b@c.org")], to);
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Idle, to);
    }));
    assert_eq!(tags(&line.down), "12DCZ");
    assert!(!shown(&line).contains("b@c.org"));
    // Rows that were not described are not given out.
    line.caller(&[bind_execute(""), sync()].concat());
    line.server(&message(|to| {
        write::bind_done(to);
        write::no_data(to);
        write::data_row(&[Some(b"c@d.org")], to);
    }));
    assert!(line.session.is_closed() && !shown(&line).contains("c@d.org"));
}

#[test]
fn words_of_the_server_are_withheld() {
    let mut line = login();
    line.server(&message(|to| {
        write::notice("NOTICE", "00000", "said ana@x.org", None, None, to);
        write::error("ERROR", "22P02", "bad \"ana@x.org\"", Some("ana@x.org"), None, to);
        write::ready(TxStatus::Idle, to);
    }));
    assert_eq!(tags(&line.down), "NEZ");
    assert!(shown(&line).contains("22P02") && !shown(&line).contains("ana@x.org"));
}

#[test]
fn the_catalog_is_read_again_after_a_change_of_definitions() {
    let mut line = login();
    line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
    line.caller(&query("create table u (a text)"));
    line.server(&message(|to| write::complete(b"CREATE TABLE", to)));
    line.server(&ready(TxStatus::Idle));
    line.up.clear();
    line.down.clear();
    line.caller(&query("select a from u"));
    let asked = String::from_utf8_lossy(&line.up).into_owned();
    assert!(asked.contains("pg_catalog") && !asked.contains("select a from u"));
    line.server(&catalog(b"20011"));
    line.caller(b"");
    line.server(&answer(&[column(20_011, 1)], &[Some(b"known by now")]));
    assert!(shown(&line).contains("known by now"));
}

#[test]
fn a_catalog_that_cannot_be_read_lets_nobody_in() {
    for answer in [
        message(|to| write::error("ERROR", "42501", "no", None, None, to)),
        message(|to| write::complete(b"SELECT 0", to)),
    ] {
        let mut line = Line::new();
        line.worker.reload(Arc::new(masked_snapshot(2, Level::default())));
        line.caller(&startup(&[("user", "x"), ("database", "orders")]));
        let token = line.token("ana", &["any"]);
        line.caller(&message(|to| write::secret(token.as_bytes(), to)));
        let link = line.exchange;
        line.tell(Input::Connected(link, None));
        line.server(&message(write::auth_cleartext));
        line.server(&message(write::auth_ok));
        line.server(&ready(TxStatus::Idle));
        line.server(&answer);
        line.server(&ready(TxStatus::Idle));
        assert!(line.session.is_closed());
        assert!(shown(&line).contains("FATAL"));
    }
}

#[test]
fn any_split_of_masked_rows_gives_the_same() {
    let columns = [column(TABLE, 2), column(TABLE, 1)];
    let wide = vec![b'w'; 30_000];
    let mut bytes = message(|to| write::row_description(&columns, to));
    for _ in 0..40 {
        write::data_row(&[Some(b"ana@x.org"), Some(&wide)], &mut bytes);
    }
    write::complete(b"SELECT 40", &mut bytes);
    write::ready(TxStatus::Idle, &mut bytes);
    let run = |step: usize| {
        let mut line = login();
        bytes.chunks(step).for_each(|part| line.server(part));
        assert!(!line.session.is_closed());
        (line.down.clone(), line.recorded(Kind::ResponseBody))
    };
    let whole = run(usize::MAX);
    assert!(!String::from_utf8_lossy(&whole.0).contains("ana@x.org"));
    for step in [7, 1_000, 8_191, 40_000] {
        assert!(run(step) == whole, "{step}");
    }
}

#[test]
fn what_cannot_be_masked_is_refused() {
    for text in [
        "copy t to stdout",
        "copy t from stdin",
        "insert into u select email from t",
        "create table u as select * from t",
        "prepare p as select email from t; create table u as execute p",
        "update v set name = mail",
        "update t set name = t.to_json::text where id = 1",
        "do $$ begin end $$",
        "listen x",
        "merge into t using u on t.id = u.id when matched then update set name = email",
    ] {
        let mut line = login();
        assert!(line.session.masking.is_some());
        line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
        line.down.clear();
        line.up.clear();
        line.caller(&query(text));
        assert!(line.up.is_empty(), "{text}");
        assert_eq!(tags(&line.down), "EZ", "{text}");
    }
}

/// At the level `no-use` a masked column is an output, or is not there.
#[test]
fn a_masked_column_is_an_output_or_is_refused() {
    for text in [
        "select email from t where email = 'x'",
        "select id from t where t.email like $1",
        "select x.id from public.t x where exists (select 1 from u where x.email = u.email)",
        "select u.x from u x, t where x.email = 'x' and exists (select 1 from t x where x.id = 1)",
        "select id from t order by email",
        "select email as x, id from t order by x",
        "select email, count(*) from t group by 1",
        "select id from t group by id having max(email) > 'x'",
        "select distinct email from t",
        "select distinct on (email) id from t",
        "select upper(email) from t",
        "select email::text from t",
        "select email || '' from t",
        "select rank() over (partition by email) from t",
        "select id, rank() over w from t window w as (order by email)",
        "select count(*) filter (where email > 'x') from t",
        "select id from t join u on t.email = u.x",
        "select id from t join u using (email)",
        "select id from t natural join u",
        "select 1 from t where t::text like '%x%'",
        "select 1 from t where t.*::text like '%x%'",
        "select 1 from t where t.row_to_json::text like '%x%'",
        "select 1 from public.t as r where (r).email = 'x'",
        "select * from (select email as x from t) q where x = '1'",
        "select x from (select * from t) q (x)",
        "with q as (table t) select 1 from q where x = '1'",
        "with q as (update t set id = id returning email) select * from q",
        "select (select email from t limit 1)",
        "select 1 where exists (select 1 from t where email = 'x')",
        "select email from t union select x from u",
        "select email from t intersect select x from u",
        "select email from t union all select x from u order by 1",
        "select mail from v where mail = 'x'",
        "select mail from public.v order by mail",
        "explain select id from t where email = 'x'",
        "prepare p as select id from t where email = $1",
        "declare c cursor for select id from t order by email",
        "delete from t where email = 'x'",
        "delete from u using t where t.email = u.x",
        "update t set id = 1 where email = 'x'",
        "update t set id = 1 returning upper(email)",
        "insert into t (id) values (1) returning email = 'x'",
        "insert into t (id) values (1) on conflict (email) do nothing",
        "insert into t (id, email) values (1, 'x') on conflict do nothing",
        "insert into t (id) values (1) on conflict on constraint k do update set id = 2",
        "insert into t (id) values (1) on conflict (id) do update set id = 2 where t.email = 'x'",
        "merge into t using u on t.email = u.x when matched then delete",
        "merge into t using u on t.id = u.x when matched and t.email = 'x' then delete",
        "alter table t add check (email > 'x')",
        "create unique index on t (email)",
    ] {
        let mut line = login_at(Level::NoUse);
        line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
        line.down.clear();
        line.up.clear();
        line.caller(&query(text));
        assert!(line.up.is_empty(), "{text}");
        assert_eq!(tags(&line.down), "EZ", "{text}");
        assert!(shown(&line).contains("42501"), "{text}");
    }
    for text in [
        "select email from t",
        "select * from t",
        "select t.email as x, id from t where id = 1 order by id",
        "select t.*, u.x from t join u on t.id = u.x order by u.x limit 3",
        "select mail from v where id = 1",
        "select id from t where id in (select x from u where email = 1)",
        "select t.email, u.x from t join u on u.email = 'x' and t.id = u.id order by u.email",
        "select t.email, q.email from t, (select u.x as email from u) q where q.email = 'x'",
        "select email from u where email = 'x'",
        "select count(*) from t",
        "insert into t (id, email) values (1, 'x') on conflict (id) do nothing returning email",
        "update t set email = 'x' where id = 1 returning email, id",
        "delete from t where id = 1 returning *",
        "prepare p as select email from t",
        "declare c cursor for select email from t",
        "create table u (email text)",
    ] {
        // A bare name counts for every table of the statement.
        let refused = text.contains(" in (select");
        let mut line = login_at(Level::NoUse);
        line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
        line.down.clear();
        line.up.clear();
        line.caller(&query(text));
        assert_eq!(tags(&line.up), if refused { "" } else { "Q" }, "{text}");
    }
}

/// What was prepared under another level is judged by the one in force when it runs.
#[test]
fn what_was_prepared_before_is_looked_at_when_it_runs() {
    let mut line = login();
    line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
    line.caller(&query("prepare p as select id from t where email = $1"));
    line.server(&message(|to| write::complete(b"PREPARE", to)));
    line.server(&ready(TxStatus::Idle));
    line.worker.reload(Arc::new(masked_snapshot(3, Level::NoUse)));
    line.up.clear();
    line.down.clear();
    line.caller(&query("execute p('x')"));
    // The catalog is read for the other plan first.
    let asked = String::from_utf8_lossy(&line.up).into_owned();
    assert!(asked.contains("pg_catalog") && !asked.contains("execute p"));
    line.up.clear();
    line.server(&catalog(b"20010"));
    line.caller(b"");
    assert!(line.up.is_empty());
    assert!(shown(&line).contains("42501"), "{:?}", shown(&line));
}

/// In the midst of a pipeline the catalog cannot be read: what comes under other masks has to wait.
#[test]
fn nothing_goes_under_masks_whose_columns_are_not_known() {
    let mut line = login();
    line.server(&answer(&[column(TABLE, 2)], &[Some(b"x")]));
    line.caller(&parse("a", "select id from t"));
    line.worker.reload(Arc::new(masked_snapshot(3, Level::default())));
    line.up.clear();
    line.down.clear();
    line.caller(&[parse("b", "insert into u select email from t"), sync()].concat());
    assert!(!String::from_utf8_lossy(&line.up).contains("insert"));
    line.server(&message(write::parse_done));
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Idle));
    assert!(shown(&line).contains("send it again"), "{:?}", shown(&line));
}

/// Whether a text is refused, after the first answer is in.
fn is_refused(level: Level, text: &str) -> bool {
    let mut line = login_at(level);
    line.server(&answer(&[column(TABLE, 1)], &[Some(b"plain")]));
    line.up.clear();
    line.down.clear();
    line.caller(&query(text));
    let refused = shown(&line).contains("42501");
    assert_ne!(refused, tags(&line.up).contains('Q'), "{text}");
    refused
}

#[test]
fn a_definition_takes_no_masked_column_anywhere() {
    for level in [Level::Direct, Level::DerivedClosed, Level::NoUse] {
        for text in [
            "alter table t rename to u",
            "alter table t set schema other",
            "alter table t alter column name type text using email",
            "alter table t add column h text generated always as (email) stored",
            "create or replace view w as select 1; select * from w",
        ] {
            assert!(is_refused(level, text), "{level:?} {text}");
        }
        for text in ["alter table u rename to w", "create view w as select a from u"] {
            assert!(!is_refused(level, text), "{level:?} {text}");
        }
    }
    let lock = "select pg_advisory_lock(ascii(email)) from t";
    assert!(is_refused(Level::DerivedClosed, lock) && is_refused(Level::NoUse, lock));
    assert!(!is_refused(Level::DerivedClosed, "select pg_advisory_lock(id) from u"));
}

#[test]
fn a_comment_that_was_taken_off_is_not_in_the_record() {
    let mut line = login();
    line.server(&answer(&[column(TABLE, 1)], &[Some(b"plain")]));
    line.up.clear();
    let text = "select id from t /*node='plan',x='c17@example.com'*/";
    line.caller(&query(text));
    assert!(String::from_utf8_lossy(&line.up).contains("c17@example.com"), "the server has it");
    let entries = line.worker.journal.entries();
    let has =
        |what: &[u8]| entries.iter().any(|entry| memchr::memmem::find(&entry.body, what).is_some());
    assert!(has(b"plan") && has(b"select id from t") && !has(b"c17@example.com"));
}
