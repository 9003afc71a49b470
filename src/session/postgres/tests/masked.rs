//! Rows, words and records under masks, against a server that answers for its catalog.

use super::*;
use crate::base::{MaskId, MaskSet};
use crate::mask::{ColumnName, MaskSpec, Operator, Operators};
use crate::wire::postgres::Column;

const TABLE: u32 = 20_000;

fn masked_snapshot(generation: u64) -> Snapshot {
    let spec = MaskSpec {
        name: "pii".to_owned(),
        columns: vec![ColumnName::parse("public.t.email").unwrap()],
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

/// What the catalog says: `public.t` is 20000, `email` its second column.
fn catalog(newest: &[u8]) -> Vec<u8> {
    let email = |kind: &'static [u8]| -> Vec<Option<&[u8]>> {
        let named = kind == b"column";
        let name = |text: &'static [u8]| named.then_some(text);
        vec![Some(kind), Some(b"0"), Some(b"20000"), Some(b"2"), name(b"public"), name(b"t")]
    };
    message(|to| {
        write::row_description(&[], to);
        write::data_row(&email(b"rule"), to);
        write::data_row(&email(b"column"), to);
        write::data_row(&[Some(b"newest"), None, Some(newest), None, None, None], to);
        write::complete(b"SELECT 3", to);
        write::ready(TxStatus::Idle, to);
    })
}

fn login() -> Line {
    let mut line = Line::new();
    line.worker.reload(Arc::new(masked_snapshot(2)));
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

fn column(table: u32, attribute: i16) -> Column<'static> {
    Column { name: b"c", table, attribute, kind: 25, kind_len: -1, modifier: -1, format: 0 }
}

fn answer(columns: &[Column<'_>], cells: &[Option<&[u8]>]) -> Vec<u8> {
    message(|to| {
        write::row_description(columns, to);
        write::data_row(cells, to);
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Idle, to);
    })
}

fn shown(line: &Line) -> String {
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
        line.worker.reload(Arc::new(masked_snapshot(2)));
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
