//! Tables, columns and views that somebody else changes under a mask.

use super::masked::{TABLE, answer, column, masked_snapshot, shown};
use super::*;
use crate::mask::Level;
use crate::session::relations::Relations;

const COLUMN: &str = "public.t.email";
const PLACE: &str = "db.internal:5432/orders_prod";

/// An answer of the catalog: rows with their cells between bars, an empty one for NULL.
pub(super) fn says(rows: &[&str], status: TxStatus) -> Vec<u8> {
    message(|to| {
        write::row_description(&[], to);
        for row in rows {
            let cells = row.split('|').map(|cell| (!cell.is_empty()).then_some(cell.as_bytes()));
            write::data_row(&cells.collect::<Vec<_>>(), to);
        }
        write::complete(b"SELECT", to);
        write::ready(status, to);
    })
}

pub(super) const USUAL: &[&str] =
    &["rule|0|20000|2|||", "column|0|20000|2|public|t|email", "newest||20010||||"];

/// A caller who logs in where the catalog says `rows`. Returns what the catalog was asked, too.
pub(super) fn login(level: Level, relations: &Arc<Relations>, rows: &[&str]) -> (Line, String) {
    let mut line = Line::new();
    line.worker.relations = Arc::clone(relations);
    line.worker.reload(Arc::new(masked_snapshot(2, level)));
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["any"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_cleartext));
    line.server(&message(write::auth_ok));
    line.up.clear();
    line.server(&ready(TxStatus::Idle));
    let asked = String::from_utf8_lossy(&line.up).into_owned();
    line.server(&says(rows, TxStatus::Idle));
    line.up.clear();
    (line, asked)
}

/// What the caller gets of one row.
fn gets(line: &mut Line, text: &str, columns: &[(u32, i16)]) -> String {
    line.down.clear();
    line.caller(&query(text));
    let columns: Vec<_> = columns.iter().map(|(table, number)| column(*table, *number)).collect();
    let cells = vec![Some(&b"ana@x.org"[..]); columns.len()];
    line.server(&answer(&columns, &cells));
    shown(line)
}

#[test]
fn a_mask_follows_a_table_that_somebody_renames() {
    let relations = Arc::new(Relations::default());
    let (mut before, asked) = login(Level::DerivedClosed, &relations, USUAL);
    assert!(!asked.contains("20000"));
    assert!(gets(&mut before, "select email from t", &[(TABLE, 2)]).contains("[REDACTED]"));
    let renamed = [
        "rule|0|||||",
        "kept|0|20000|2|other|clients|mail",
        "column|0|20000|2|other|clients|mail",
        "newest||20010||||",
    ];
    let (mut line, asked) = login(Level::DerivedClosed, &relations, &renamed);
    assert!(asked.contains("(0, 20000, 2)"), "{asked}");
    let told =
        gets(&mut line, "select mail, upper(mail) from other.clients", &[(TABLE, 2), (0, 0)]);
    assert!(told.contains("[REDACTED]") && !told.contains("ana@x.org"), "{told:?}");
    line.down.clear();
    line.caller(&query("create table x as select * from other.clients"));
    assert!(shown(&line).contains("42501"), "it is known by its name of today");
    // Another table that has the name is masked, too, and the one before stays so.
    let both = [
        "rule|0|20020|1|||",
        "kept|0|20000|2|other|clients|mail",
        "column|0|20000|2|other|clients|mail",
        "column|0|20020|1|public|t|email",
        "newest||20020||||",
    ];
    let (mut line, _) = login(Level::Direct, &relations, &both);
    let told = gets(&mut line, "select 1", &[(TABLE, 2), (20_020, 1)]);
    assert!(!told.contains("ana@x.org"), "{told:?}");
    let known = relations.known(PLACE, COLUMN);
    assert_eq!(known, Some(vec![(20_000, 2), (20_020, 1)]));
}

#[test]
fn a_masked_column_that_is_nowhere_any_more_lets_nobody_in() {
    let gone = ["rule|0|||||", "newest||20010||||"];
    let relations = Arc::new(Relations::default());
    let (line, _) = login(Level::DerivedClosed, &relations, &gone);
    assert!(!line.session.is_closed(), "it never was there: the mask is of another database");
    let _known = login(Level::DerivedClosed, &relations, USUAL);
    let (line, _) = login(Level::DerivedClosed, &relations, &gone);
    assert!(line.session.is_closed() && shown(&line).contains("FATAL"));
    let (line, _) = login(Level::DerivedClosed, &relations, USUAL);
    assert!(!line.session.is_closed(), "it is there again");
    // Another table has the name, and the column may be any of its own.
    let other = [
        "rule|0|20020||||",
        "kept|0|20000|2|public|t_old|email",
        "column|0|20000|2|public|t_old|email",
        "newest||20020||||",
    ];
    let (line, _) = login(Level::DerivedClosed, &relations, &other);
    assert!(line.session.is_closed());
}

#[test]
fn what_an_open_transaction_says_is_not_kept_for_others() {
    let relations = Arc::new(Relations::default());
    let (mut line, _) = login(Level::Direct, &relations, USUAL);
    for text in ["begin", "create table u (a int)"] {
        line.caller(&query(text));
        line.server(&message(|to| {
            write::complete(b"DONE", to);
            write::ready(TxStatus::Transaction, to);
        }));
    }
    line.caller(&query("select 1"));
    let inside = ["rule|0|20011|2|||", "column|0|20011|2|public|t|email", "newest||20011||||"];
    line.server(&says(&inside, TxStatus::Transaction));
    assert!(!line.session.is_closed());
    assert_eq!(relations.known(PLACE, COLUMN), Some(vec![(20_000, 2)]));
}

#[test]
fn a_column_that_somebody_added_is_null_until_the_catalog_is_read_again() {
    let wide = [USUAL, &["width||20000|2|||", "width||20003|1|||", "view||20004|1|||"]].concat();
    for level in [Level::Direct, Level::DerivedClosed] {
        let (mut line, _) = login(level, &Arc::default(), &wide);
        for (table, number) in [(TABLE, 3), (20_003, 2), (20_004, 2), (20_003, 0)] {
            let told = gets(&mut line, "select 1", &[(table, number)]);
            assert!(tags(&line.down).starts_with("TD") && !told.contains("ana@x.org"), "{number}");
            line.up.clear();
            line.caller(&query("select 1"));
            let asked = String::from_utf8_lossy(&line.up).into_owned();
            assert_eq!(asked.contains("pg_catalog"), number != 0, "{table} {number}");
            line.server(&if number == 0 {
                answer(&[column(TABLE, 1)], &[Some(b"x")])
            } else {
                says(&wide, TxStatus::Idle)
            });
            line.caller(b"");
            if number != 0 {
                line.server(&answer(&[column(TABLE, 1)], &[Some(b"x")]));
            }
        }
        for (table, number) in [(TABLE, 1), (20_003, 1), (20_004, 1), (20_004, 0), (20_005, 9)] {
            assert!(gets(&mut line, "select 1", &[(table, number)]).contains("ana@x.org"));
        }
    }
}

#[test]
fn what_a_rewrite_rule_gives_out_for_a_write_is_withheld() {
    let ruled = [USUAL, &["ruled||20006||public|r|"]].concat();
    for level in [Level::Direct, Level::DerivedClosed] {
        let (mut line, _) = login(level, &Arc::default(), &ruled);
        for text in [
            "insert into r values (1)",
            "delete from u where id = 1",
            "with q as (select 1) update u set a = 1 where id = 2",
        ] {
            let told = gets(&mut line, text, &[(0, 0), (20_005, 1)]);
            assert!(!told.contains("ana@x.org"), "{level:?} {text}");
        }
        let told = gets(&mut line, "insert into r values (1) returning a", &[(20_006, 1)]);
        assert!(!told.contains("ana@x.org"), "{level:?}");
        let told = gets(&mut line, "delete from u where id = 1 returning a", &[(20_005, 1)]);
        assert!(told.contains("ana@x.org"), "{level:?}");
        assert!(gets(&mut line, "select a from r", &[(20_006, 1)]).contains("ana@x.org"));
        // By a name that is prepared before, or in the same text.
        for text in ["prepare w as insert into r values (1)", "prepare s as select 1"] {
            line.caller(&query(text));
            line.server(&message(|to| {
                write::complete(b"PREPARE", to);
                write::ready(TxStatus::Idle, to);
            }));
        }
        let told = gets(&mut line, "execute w", &[(0, 0), (20_005, 1)]);
        assert!(!told.contains("ana@x.org"), "{level:?}");
        assert!(gets(&mut line, "execute s", &[(20_005, 1)]).contains("ana@x.org"));
        // What the name stands for behind it is not what runs.
        line.down.clear();
        line.caller(&[query("execute w"), query("deallocate w"), query("execute s")].concat());
        line.server(&answer(&[column(0, 0)], &[Some(b"ana@x.org")]));
        assert!(!shown(&line).contains("ana@x.org"), "{level:?}");
    }
    let (mut line, _) = login(Level::DerivedClosed, &Arc::default(), &ruled);
    let computed = gets(&mut line, "insert into r values (1) returning upper(a)", &[(0, 0)]);
    assert!(!computed.contains("ana@x.org"));
    let computed = gets(&mut line, "insert into u values (1) returning upper(a)", &[(0, 0)]);
    assert!(computed.contains("ana@x.org"));
}
