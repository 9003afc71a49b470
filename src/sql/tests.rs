//! What statements do: one line a statement.

use super::*;
use std::collections::BTreeSet;

/// Kinds, tables (`+` where written, `@` the kind), functions (`!` where special), in one line.
fn shown(statement: &Statement) -> String {
    let mut words: Vec<String> =
        statement.kinds.iter().map(|kind| kind.label().to_owned()).collect();
    words.push("|".to_owned());
    words.extend(statement.accesses.iter().map(|access| {
        let write = if access.write { "+" } else { "" };
        format!("{write}{}@{}", access.table, access.kind.label())
    }));
    words.push("|".to_owned());
    words.extend(
        statement
            .functions
            .iter()
            .map(|function| format!("{}{}", if function.plain { "" } else { "!" }, function.name)),
    );
    if statement.missing_where {
        words.push("| missing".to_owned());
    }
    words.join(" ")
}

fn one(text: &str) -> Statement {
    let mut statements = parse(text.as_bytes(), &SqlLimits::default())
        .unwrap_or_else(|error| panic!("{text}: {error:?}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0)
}

/// The statements of `cases.txt` with what they do.
fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("cases.txt").lines();
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    std::iter::from_fn(move || {
        let text = lines.next()?;
        Some((
            text,
            lines.next().and_then(|line| line.strip_prefix("    ")).expect("a second line"),
        ))
    })
}

fn check(cases: impl IntoIterator<Item = (&'static str, &'static str)>) {
    let mut wrong = String::new();
    for (text, expected) in cases {
        let found = shown(&one(text));
        if found != expected {
            wrong.push_str(&format!("{text}\n  is      {found}\n  not     {expected}\n"));
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn each_case_does_what_it_says() {
    assert!(cases().count() > 200);
    check(cases());
}

#[test]
fn copies() {
    assert_eq!(one("COPY t TO STDOUT").act, Act::Copy { out: true, program: false, file: false });
    assert_eq!(one("COPY t FROM '/x'").act, Act::Copy { out: false, program: false, file: true });
    assert_eq!(
        one("COPY t FROM PROGRAM 'x'").act,
        Act::Copy { out: false, program: true, file: true }
    );
}

#[test]
fn acts() {
    let some = |text: &str| Some(Box::from(text));
    let set = |name: &str, value: &str| Act::Set {
        name: name.into(),
        value: Some(value.into()),
        local: false,
    };
    for (text, act) in [
        ("BEGIN", Act::Begin { read_only: None }),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            Act::Begin { read_only: Some(true) },
        ),
        ("BEGIN READ WRITE", Act::Begin { read_only: Some(false) }),
        ("END", Act::Commit { chain: false }),
        ("COMMIT AND CHAIN", Act::Commit { chain: true }),
        ("ABORT", Act::Rollback { chain: false }),
        ("ROLLBACK AND CHAIN", Act::Rollback { chain: true }),
        ("SAVEPOINT A", Act::Savepoint { name: "a".into() }),
        ("RELEASE \"A\"", Act::Release { name: "A".into() }),
        ("ROLLBACK TO SAVEPOINT a", Act::RollbackTo { name: "a".into() }),
        ("PREPARE TRANSACTION 'x'", Act::PrepareTransaction),
        ("COMMIT PREPARED 'x'", Act::EndPrepared { commit: true }),
        ("ROLLBACK PREPARED 'x'", Act::EndPrepared { commit: false }),
        (
            "SET TRANSACTION READ ONLY",
            Act::SetTransaction { session: false, read_only: Some(true), snapshot: false },
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
            Act::SetTransaction { session: true, read_only: Some(false), snapshot: false },
        ),
        (
            "SET TRANSACTION SNAPSHOT 'x'",
            Act::SetTransaction { session: false, read_only: None, snapshot: true },
        ),
        ("SET Statement_Timeout = 5000", set("statement_timeout", "5000")),
        ("SET \"Statement_Timeout\" TO '5s'", set("statement_timeout", "5s")),
        ("SET x = -1.5", set("x", "-1.5")),
        ("SET x TO on", set("x", "on")),
        ("SET x TO true", set("x", "true")),
        ("SET app.name = 'ana'", set("app.name", "ana")),
        ("SET datestyle TO iso, mdy", set("datestyle", "iso, mdy")),
        ("SET search_path TO a, \"B\", '$user'", set("search_path", "a, \"B\", \"$user\"")),
        ("SET search_path = 'a, b'", set("search_path", "\"a, b\"")),
        ("SET LOCAL x = 'y'", Act::Set { name: "x".into(), value: some("y"), local: true }),
        ("SET ROLE ana", set("role", "ana")),
        ("SET ROLE NONE", set("role", "none")),
        ("RESET ROLE", Act::Reset { name: some("role") }),
        ("SET SESSION AUTHORIZATION ana", set("session_authorization", "ana")),
        ("SET SESSION AUTHORIZATION DEFAULT", Act::Reset { name: some("session_authorization") }),
        ("SET NAMES 'utf8'", set("client_encoding", "utf8")),
        ("SET TIME ZONE 'UTC'", set("timezone", "UTC")),
        ("SET TIME ZONE LOCAL", Act::Reset { name: some("timezone") }),
        (
            "SET TIME ZONE INTERVAL '1' HOUR TO MINUTE",
            Act::Set { name: "timezone".into(), value: None, local: false },
        ),
        ("SET x TO DEFAULT", Act::Reset { name: some("x") }),
        ("RESET ALL", Act::Reset { name: None }),
        ("SHOW Search_Path", Act::Show { name: some("search_path") }),
        ("SHOW ALL", Act::Show { name: None }),
        ("PREPARE P AS SELECT 1", Act::Prepare { name: "p".into() }),
        ("EXECUTE p", Act::Execute { name: "p".into(), arguments: [].into() }),
        ("EXPLAIN EXECUTE p", Act::Execute { name: "p".into(), arguments: [].into() }),
        ("DEALLOCATE PREPARE p", Act::Deallocate { name: some("p") }),
        ("DEALLOCATE ALL", Act::Deallocate { name: None }),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Act::Declare { name: "c".into(), hold: true }),
        ("FETCH ALL IN c", Act::Fetch { name: "c".into(), skip: false }),
        ("MOVE 5 FROM c", Act::Fetch { name: "c".into(), skip: true }),
        ("CLOSE c", Act::ClosePortal { name: some("c") }),
        ("CLOSE ALL", Act::ClosePortal { name: None }),
        ("DISCARD ALL", Act::Discard { all: true }),
        ("DISCARD PLANS", Act::Discard { all: false }),
        ("LISTEN c", Act::Listen { channel: "c".into() }),
        ("UNLISTEN c", Act::Unlisten { channel: some("c") }),
        ("UNLISTEN *", Act::Unlisten { channel: None }),
        ("NOTIFY c, 'x'", Act::Notify { channel: "c".into() }),
        ("EXPLAIN SELECT 1", Act::Explain { analyze: false }),
        ("EXPLAIN ANALYZE SELECT 1", Act::Explain { analyze: true }),
        ("EXPLAIN (ANALYZE false) SELECT 1", Act::Explain { analyze: false }),
        ("EXPLAIN (ANALYZE false, ANALYZE) SELECT 1", Act::Explain { analyze: true }),
        ("SELECT 1", Act::None),
        ("CREATE TABLE t ()", Act::Other),
    ] {
        assert_eq!(one(text).act, act, "{text}");
    }
}

#[test]
fn the_same_statement_in_other_letters() {
    check([
        ("sElEcT/**/*\tFrOm\r\n\u{b}\u{c}T", "select | t@select |"),
        (
            "/* SELECT 1; */ DELETE /* /* nested */ WHERE */ FROM t -- WHERE true",
            "delete | +t@delete | | missing",
        ),
        ("-- x\nTABLE t", "select | t@select |"),
        (
            "SELECT $$ ; DELETE FROM t; $$, $a$ $$ $b$ $a$, 'it''s -- no', E'\\'; DELETE FROM t; --'",
            "select | |",
        ),
        ("SELECT 'a'\n'b', U&'\\0041', B'01', X'ff', N'x'", "select | |"),
        ("SELECT \"select\", \"delete from t\" FROM \"update\"", "select | update@select |"),
        ("SELECT delete, update, insert, copy FROM t", "select | t@select |"),
        ("SELECT 1 AS delete", "select | |"),
        ("SELECT * FROM U&\"\\0064\\0061t\" , U&\"d!0061t\" UESCAPE '!'", "select | dat@select |"),
        (
            "SELECT * FROM \"T\", T, \"a.b\", \"a\".\"b\"",
            "select | T@select a.b@select t@select a.b@select |",
        ),
        ("SELECT * FROM \"\u{e9}\u{c9}\", \u{c9}", "select | \u{c9}@select \u{e9}\u{c9}@select |"),
        ("DELETE FROM t WHERE a = 'x' OR 1 = 1", "delete | +t@delete |"),
        ("SELECT 1 WHERE 'DELETE' = 'DELETE FROM t'", "select | |"),
        ("((((SELECT * FROM t))))", "select | t@select |"),
        (
            "SELECT * FROM aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggggggggg",
            "select | aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg@select |",
        ),
    ]);
    // A backslash is a letter of a plain literal: the quote behind it ends the literal.
    let found = parse(br"SELECT 'a\'; DELETE FROM t; --'", &SqlLimits::default());
    assert_eq!(found.map(|all| all.len()), Ok(2));
}

#[test]
fn each_statement_has_its_place() {
    let text = " SELECT 1 ; ;DELETE FROM t;/* x */ TABLE u";
    let found = parse(text.as_bytes(), &SqlLimits::default()).expect("it parses");
    let parts: Vec<_> = found
        .iter()
        .map(|one| (one.start as usize, (one.start + one.len) as usize))
        .map(|(from, to)| text.get(from..to).expect("within the text").trim())
        .collect();
    assert_eq!(parts, ["SELECT 1", "DELETE FROM t", "TABLE u"]);
    let missing: Vec<_> = found.iter().map(|one| one.missing_where).collect();
    assert_eq!(missing, [false, true, false]);
    for empty in ["", " ", ";", " ;; ", "-- x", "/* x */ ;"] {
        assert_eq!(parse(empty.as_bytes(), &SqlLimits::default()), Ok(vec![]), "{empty}");
    }
}

#[test]
fn types_are_named_with_their_schema() {
    let found =
        one("SELECT a::s.x, CAST(b AS pg_catalog.int4), c::y, d::regclass, e::s.z[] FROM t");
    assert_eq!(found.types.iter().map(ToString::to_string).collect::<Vec<_>>(), ["s.x", "s.z"]);
}

#[test]
fn a_column_is_used_unless_it_comes_out_as_it_is() {
    for (text, used, whole) in [
        ("SELECT a, t.b, c AS d FROM t", "", false),
        ("SELECT *, x.* FROM t x", "", false),
        ("SELECT a FROM t WHERE b = 1 AND t.c > $1", "b c", false),
        ("SELECT upper(a), b || 'x', (c), d::text FROM t", "a b d", false),
        ("SELECT a FROM t ORDER BY b", "b", false),
        ("SELECT a FROM t ORDER BY a", "a", false),
        ("SELECT a, b AS x FROM t ORDER BY c, lower(x), t.x", "c x", false),
        ("SELECT a, b AS c FROM t ORDER BY c", "a b c", false),
        ("SELECT a AS x FROM t GROUP BY b, x", "a b x", false),
        ("SELECT a, b AS x FROM t GROUP BY (c, x)", "a b c x", false),
        ("SELECT a, b FROM t GROUP BY (1, 2)", "a b", false),
        ("SELECT DISTINCT ON (b) a FROM t", "a b", false),
        ("SELECT a FROM t ORDER BY 1", "a", false),
        // The rows before and behind, as PostgreSQL 18 has them.
        ("UPDATE t SET a = 1 RETURNING old::text", "", true),
        ("UPDATE t SET a = 1 RETURNING id, new AS n", "", false),
        ("WITH x AS (UPDATE t SET a = 1 RETURNING id, old AS o) SELECT id FROM x", "id", true),
        ("UPDATE t SET a = 1 RETURNING WITH (old AS o) o::text", "", true),
        ("SELECT * FROM t ORDER BY 1", "", true),
        ("SELECT a, count(*) FROM t GROUP BY 1", "a", false),
        ("SELECT a, count(*) FROM t GROUP BY ROLLUP (1)", "a", false),
        ("SELECT DISTINCT a FROM t", "a", false),
        ("SELECT a FROM t UNION ALL SELECT b FROM u", "", false),
        ("SELECT a FROM t UNION SELECT b FROM u", "a b", false),
        ("SELECT a AS x FROM t UNION ALL SELECT b FROM u ORDER BY x", "a b x", false),
        ("SELECT a FROM (SELECT b AS a FROM t) x", "b", false),
        ("WITH x (a) AS (SELECT b FROM t) SELECT a FROM x", "b", false),
        ("SELECT a FROM (SELECT * FROM t) x", "", true),
        ("SELECT a FROM t AS x (b, a)", "", true),
        ("SELECT a FROM t JOIN u USING (b)", "b", false),
        ("SELECT a FROM t NATURAL JOIN u", "", true),
        ("SELECT a FROM t WHERE t::text LIKE 'x'", "t", true),
        ("SELECT a FROM t x WHERE (x).b = 1", "x", true),
        ("SELECT row_to_json(x) FROM t x", "x", true),
        ("SELECT count(x.*) FROM t x", "", true),
        ("SELECT a FROM t x WHERE x.to_json::text LIKE 'x'", "to_json", true),
        ("SELECT a FROM t x WHERE s.x.max > 1 AND max > 1", "max", true),
        ("SELECT x.concat FROM t x WHERE concat > 1 AND x.name > 1", "concat name", false),
        ("SELECT a FROM t WHERE EXISTS (SELECT b FROM u)", "b", false),
        ("UPDATE t SET a = b WHERE c RETURNING d, e + 1", "b c e", false),
        ("DELETE FROM t x WHERE x.a = 1 RETURNING *", "a", false),
        ("INSERT INTO t (a) SELECT b FROM u RETURNING c", "b", false),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING", "a", false),
        ("INSERT INTO t (a) VALUES (1) ON CONFLICT (d) DO UPDATE SET b = excluded.c", "c d", false),
        (
            "MERGE INTO t USING u ON a = b WHEN MATCHED AND c THEN UPDATE SET d = e",
            "a b c e",
            false,
        ),
        ("CREATE TABLE x AS SELECT a FROM t", "a", false),
        ("EXPLAIN SELECT a FROM t", "a", false),
        ("PREPARE p AS SELECT a FROM t WHERE b", "b", false),
        ("DECLARE c CURSOR FOR SELECT a FROM t", "", false),
        ("COPY t TO STDOUT", "", true),
        ("COPY (SELECT a FROM t) TO STDOUT", "a", false),
        ("SELECT max(a) OVER (PARTITION BY b ORDER BY c) FROM t", "a b c", false),
    ] {
        let columns = one(text).columns;
        let names: BTreeSet<&str> = columns.used.iter().map(|(_, name)| &**name).collect();
        let told = names.into_iter().collect::<Vec<_>>().join(" ");
        // Of a whole row nothing else is told.
        let used = if columns.whole && told.is_empty() { "" } else { used };
        assert_eq!((&*told, columns.whole), (used, whole), "{text}");
    }
}

#[test]
fn a_used_column_is_of_the_table_that_stands_before_it() {
    let used = one("SELECT x.a FROM t x JOIN u ON x.b = u.c, (SELECT 1) q WHERE d AND q.e").columns;
    let told: Vec<_> = used
        .used
        .iter()
        .map(|(table, name)| (table.as_ref().map(ToString::to_string), &**name))
        .collect();
    let table = |name: &str| Some(name.to_owned());
    assert_eq!(told, [(None, "d"), (table("t"), "b"), (table("u"), "c")]);
}

#[test]
fn a_conflict_without_its_columns_is_told() {
    for (text, conflicts) in [
        ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", true),
        ("INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT k DO UPDATE SET a = 1", true),
        ("WITH x AS (INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING) SELECT 1", true),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO NOTHING", false),
        ("INSERT INTO t VALUES (1)", false),
    ] {
        assert_eq!(one(text).columns.conflicts, conflicts, "{text}");
    }
}

#[test]
fn an_output_is_independent_when_no_row_is_in_it() {
    for (text, outputs) in [
        ("SELECT 1, 'x'::text, $1, count(*), now(), current_user", "yyyyyy"),
        ("SELECT a, a + 1, count(a), max(a), (SELECT 1), pg_read_file('x') FROM t", "nnnnnn"),
        ("SELECT count(*) FILTER (WHERE a), count(*) OVER (), s.count(*), s.now() FROM t", "nnnn"),
        ("SELECT 1, a FROM t UNION ALL SELECT 2, 3 UNION ALL SELECT a, 4 FROM u", "nn"),
        ("SELECT 1, a FROM t UNION SELECT 2, 3", "yn"),
        ("INSERT INTO t VALUES (1) RETURNING a, 1", "ny"),
        ("PREPARE p AS SELECT count(*) FROM t", "y"),
        ("WITH x AS (SELECT 1, 2) SELECT count(*) FROM x", "y"),
        ("SELECT", ""),
    ] {
        let found = one(text).columns.outputs.expect("outputs");
        let told: String = found.iter().map(|one| if *one { 'y' } else { 'n' }).collect();
        assert_eq!(told, outputs, "{text}");
    }
    for text in [
        "SELECT * FROM t",
        "SELECT 1, t.* FROM t",
        "SELECT (f(1)).*, 1",
        "SELECT 1, (x).b.* FROM t x",
        "SELECT 1 UNION ALL SELECT * FROM t",
        "SELECT 1 UNION ALL VALUES (1)",
        "VALUES (1)",
        "TABLE t",
        "DELETE FROM t",
        "EXPLAIN SELECT 1",
        "COPY (SELECT 1) TO STDOUT",
        "SHOW x",
    ] {
        assert_eq!(one(text).columns.outputs, None, "{text}");
    }
}

#[test]
fn a_write_without_returning_has_no_outputs() {
    for text in [
        "DELETE FROM t",
        "INSERT INTO t SELECT * FROM u",
        "WITH x AS (SELECT 1) UPDATE t SET a = 1",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        "EXPLAIN SELECT 1",
    ] {
        assert!(!one(text).columns.returns, "{text}");
    }
    for text in [
        "DELETE FROM t RETURNING *",
        "INSERT INTO t VALUES (1) RETURNING a",
        "WITH x AS (DELETE FROM t) SELECT 1",
        "TABLE t",
        "VALUES (1)",
        "SELECT",
    ] {
        assert!(one(text).columns.returns, "{text}");
    }
}

#[test]
fn set_config_is_a_set_by_another_name() {
    let found = one(
        "SELECT set_config('JIT', 'off', false), f(pg_catalog.set_config('x' || a, b, true)), \
         set_config(new_value => 'a', setting_name => 'b', is_local => true), \
         s.set_config('c', 'd', true) FROM t",
    );
    let told: Vec<_> = found
        .settings
        .iter()
        .map(|setting| (setting.name.as_deref(), setting.value.as_deref()))
        .collect();
    assert_eq!(told, [(Some("jit"), Some("off")), (None, None), (None, None)]);
    assert!(found.functions.iter().filter(|function| !function.plain).count() == 4);
}

#[test]
fn what_cannot_be_read_has_no_statements() {
    let limits = SqlLimits { text_max: 100, ..SqlLimits::default() };
    assert_eq!(parse(&[b' '; 101], &limits), Err(SqlError::TooLong));
    assert_eq!(parse(b"SELECT 1\0; DELETE FROM t", &limits), Err(SqlError::Nul));
    assert_eq!(parse(b"SELECT '\xff'", &limits), Err(SqlError::Encoding));
    for text in [
        "SELEC 1",
        "SELECT 1; DELETE FORM t",
        "SELECT 'open",
        "SELECT /* open",
        "SELECT $a$ open $b$",
        "SELECT E'\\xff'",
        "SELECT E'\\000'",
        "SELECT U&'\\d800'",
        "SELECT 1)",
        "'",
    ] {
        let found = parse(text.as_bytes(), &limits);
        assert!(matches!(found, Err(SqlError::Syntax { .. })), "{text}: {found:?}");
    }
    let Err(error @ SqlError::Syntax { .. }) = parse(b"SELECT 1 FRM secret x", &limits) else {
        panic!("no syntax error");
    };
    assert_eq!(format!("{error:?}"), "Syntax");
    let SqlError::Syntax { message } = error else { panic!("no syntax error") };
    assert_eq!(&*message, "syntax error at or near \"secret\"");
}

#[test]
fn depth_is_bounded_and_chains_are_not_deep() {
    let limits = SqlLimits::default();
    let nested = |open: &str, close: &str, count: usize| {
        format!("SELECT {}a{}", open.repeat(count), close.repeat(count))
    };
    for (open, close) in
        [("f(", ")"), ("(SELECT ", ")"), ("- ", ""), ("NOT ", ""), ("ARRAY[", "]"), ("x[", "]")]
    {
        let text = nested(open, close, 2_000);
        let found = parse(text.as_bytes(), &limits);
        assert_eq!(found, Err(SqlError::TooDeep), "{open}");
        assert!(parse(nested(open, close, 20).as_bytes(), &limits).is_ok(), "{open}");
    }
    // The grammar's own bound, or the walk's: an error either way.
    for text in [
        nested("(", ")", 30_000),
        "SELECT * FROM ".to_owned() + &"(SELECT * FROM ".repeat(3_000) + "t" + &") x".repeat(3_000),
        "WITH a AS (".repeat(3_000) + "SELECT 1" + &") SELECT 1".repeat(3_000),
        "SELECT ".to_owned() + &"CASE WHEN ".repeat(3_000) + "a" + &" THEN 1 END".repeat(3_000),
        "EXPLAIN ".repeat(3_000) + "SELECT 1",
        "PREPARE x AS ".repeat(3_000) + "SELECT 1",
    ] {
        assert!(parse(text.as_bytes(), &limits).is_err(), "{}", text.split_at(30).0);
    }
    for text in [
        "SELECT 1".to_owned() + &" + 1".repeat(15_000),
        "SELECT 'a'".to_owned() + &" || f()".repeat(9_000),
        "SELECT 1 WHERE a".to_owned() + &" AND a".repeat(10_000),
        "SELECT 1 WHERE a".to_owned() + &" OR a AND b".repeat(5_000),
        "SELECT 1".to_owned() + &" UNION ALL SELECT 1".repeat(3_000),
        "SELECT * FROM t".to_owned() + &" JOIN u ON true".repeat(4_000),
        "SELECT ".to_owned() + &"1,".repeat(30_000) + "1",
        "SELECT 1;".repeat(7_000),
    ] {
        assert!(parse(text.as_bytes(), &limits).is_ok(), "{}", text.split_at(30).0);
    }
}

/// xorshift64; the same draw in every run.
struct Dice(u64);

impl Dice {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_be_bytes()[3]
    }
}

#[test]
fn no_bytes_make_it_panic() {
    const WORDS: [&str; 48] = [
        "SELECT", "FROM", "WHERE", "t", "s.t", "(", ")", ",", ";", "*", "WITH", "AS", "DELETE",
        "UPDATE", "SET", "=", "INSERT", "INTO", "VALUES", "'x'", "1", "\"Q\"", "$1", "$$", "--\n",
        "/*", "*/", "JOIN", "ON", "UNION", "ORDER", "BY", "LIMIT", "E'\\", "U&\"", "::", "[", "]",
        "CREATE", "TABLE", "ALTER", "DROP", "COPY", "TO", "STDOUT", "EXPLAIN", "\u{e9}", "f(",
    ];
    for seed in 1..=20_000u64 {
        let mut dice = Dice(seed);
        let text: Vec<u8> = if seed % 4 == 0 {
            (0..dice.byte() % 64).map(|_| dice.byte()).collect()
        } else {
            let mut word = || WORDS.get(usize::from(dice.byte() % 48)).copied().unwrap_or_default();
            (0..seed % 17).map(|_| word()).collect::<Vec<_>>().join(" ").into_bytes()
        };
        let found = parse(&text, &SqlLimits::default());
        assert_ne!(found, Err(SqlError::Tree), "seed {seed}");
    }
}

/// The crate prints the whole of a tree; what it prints and what the walk met must agree.
#[test]
fn nothing_of_a_tree_is_missed() {
    for (text, _) in cases() {
        complete(text);
    }
}

/// Panics when the walk misses a table, a call or a query of `text`.
fn complete(text: &str) {
    let tree = pg_raw_parse::parse(text).expect("it parses");
    for raw in tree.iter() {
        let mut walk = Walk::new(0, 0, 10_000);
        walk.run(raw.stmt()).expect("it is not deep");
        let met = walk.met;
        // What is unknown is not walked on; the crate cannot print a GRANT on a schema.
        if walk.finish().is_unknown() || matches!(raw.stmt(), pg_raw_parse::Node::GrantStmt(_)) {
            continue;
        }
        // FOR UPDATE OF names items of FROM, not tables.
        let mut print = format!("{:?}", raw.stmt());
        while let Some(from) = print.find("locked_rels: [RangeVar") {
            let len = print.split_at(from).1.find(']').expect("a list ends");
            print.replace_range(from..from + len, "");
        }
        let count = |name: &str| print.matches(&format!("{name} {{")).count();
        let queries = ["SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"];
        let there = walk::Met {
            tables: count("RangeVar"),
            functions: count("FuncCall"),
            queries: queries.iter().map(|name| count(name)).sum(),
        };
        // Each column of `(a, b) = (...)` prints the whole right side.
        let (few, many) = (format!("{met:?}"), format!("{there:?}"));
        assert!(few == many || print.contains("MultiAssignRef"), "{text}\n{few}\n{many}\n{print}");
    }
}

#[test]
fn a_call_that_looks_like_a_column_is_a_call() {
    for (text, called) in [
        ("select ('select 1').ts_stat", "ts_stat"),
        ("select ($1).pay", "pay"),
        ("select (t).pay from (select 7 as t) t", "pay"),
        ("select ((a.b).c).lo_get from a", "lo_get"),
        ("select a[1].pay from a", "pay"),
        ("select (lower(b)).pay from a", "pay"),
        ("select q.ts_stat from concat('select 1') q", "ts_stat"),
        ("select concat.ts_stat from concat('select 1')", "ts_stat"),
        ("select q.ts_stat from coalesce('select 1'::text) q", "ts_stat"),
        ("select x.pay from current_user", "pay"),
        ("select 1 from a, lateral lower(a.b) as g where g.pay = 1", "pay"),
        ("select q.ts_stat from own.f() q", "ts_stat"),
        ("update a set b = g.pay from generate_series(5, 5) g", "pay"),
        ("insert into a select g.pay from generate_series(5, 5) g", "pay"),
        ("select (select g.pay) from generate_series(5, 5) g order by g.pay", "pay"),
        ("select g.pay from rows from (generate_series(5, 5)) g", "pay"),
    ] {
        let found = one(text).functions;
        let seen = found.iter().any(|one| !one.plain && &*one.name.name == called);
        assert!(seen, "{text}: {found:?}");
    }
    for text in [
        "select (information_schema._pg_expandarray(a.b)).n from a",
        "select (aclexplode(a.acl)).grantee from a",
        "select ('abc').length",
        "select (a.b).*, a.c, own.a.d from a",
        "select g.n, g.g from generate_series(1, 2) as g(n)",
        "select g, g.g, generate_series.generate_series from generate_series(1, 2) g, generate_series(1, 2)",
        "select j.key, j.value, j.ordinality from json_each('{}') with ordinality j",
        "select r.a from json_to_record('{}') as r(a int)",
        "select r.a from jsonb_populate_record(null::a, '{}') r",
        "select t.anything from (select 1) t",
    ] {
        let found = one(text).functions;
        assert!(found.iter().all(|one| one.plain), "{text}: {found:?}");
    }
}

/// The named columns, with their tables where these are told; `*` behind them where others may be meant.
fn named(text: &str) -> String {
    let columns = one(text).columns;
    let mut words: Vec<String> = columns
        .named
        .iter()
        .map(|(table, name)| match table {
            Some(table) => format!("{table}.{name}"),
            None => name.to_string(),
        })
        .collect();
    words.extend(columns.unnamed.then(|| "*".to_owned()));
    words.join(" ")
}

#[test]
fn a_column_is_of_the_table_that_stands_before_it() {
    for (text, found) in [
        ("SELECT a FROM t", "a"),
        ("SELECT t.a, b FROM t WHERE t.c > d", "b d t.a t.c"),
        ("SELECT x.a, u.b FROM s.t x JOIN u ON x.c = u.c", "s.t.a s.t.c u.b u.c"),
        ("SELECT s.t.a, db.s.t.b FROM s.t", "s.t.a s.t.b"),
        ("SELECT a AS x, b FROM t ORDER BY x, b", "a b"),
        ("SELECT a AS x FROM t ORDER BY lower(x)", "a x"),
        ("SELECT a AS x FROM t GROUP BY x", "a x"),
        ("SELECT x.a FROM (SELECT t.b AS a FROM t) x", "t.b"),
        ("WITH x AS (SELECT t.b AS a FROM t) SELECT x.a, y.a FROM x, x y", "t.b"),
        ("SELECT g.g FROM generate_series(1, 2) g, t WHERE t.a = g", "t.a g"),
        // Two things of one name, in scopes of their own: both count.
        ("SELECT x.a FROM t x WHERE EXISTS (SELECT x.b FROM u x)", "t.a t.b u.a u.b"),
        ("SELECT x.a FROM t x WHERE EXISTS (SELECT FROM (SELECT 1) x)", "t.a"),
        ("SELECT y.a FROM t x", "a"),
        ("SELECT j.a FROM (t JOIN u ON true) AS j", "a"),
        ("SELECT t.a FROM t JOIN u USING (b)", "b t.a"),
        ("SELECT count(*) FROM t", ""),
        ("DELETE FROM t", ""),
        ("DELETE FROM t x USING u WHERE x.a = u.b RETURNING x.c", "t.a t.c u.b"),
        ("INSERT INTO s.t (a, b) SELECT u.c, 1 FROM u RETURNING d", "d s.t.a s.t.b u.c"),
        (
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (b) DO UPDATE SET c = excluded.d",
            "d t.a t.b t.c",
        ),
        (
            "INSERT INTO t (a) SELECT excluded.x FROM (SELECT 1 AS x) excluded \
             ON CONFLICT (a) DO UPDATE SET b = excluded.c",
            "c x t.a t.b",
        ),
        ("UPDATE t SET a = u.b, (c, d) = (SELECT 1, 2) FROM u", "t.a t.c t.d u.b"),
        (
            "MERGE INTO t x USING u ON x.a = u.b WHEN MATCHED THEN UPDATE SET c = u.d \
             WHEN NOT MATCHED THEN INSERT (e) VALUES (u.f)",
            "t.a t.c t.e u.b u.d u.f",
        ),
        ("UPDATE t SET a = 1 RETURNING WITH (OLD AS t) t.b, new.c", "b c t.a t.b"),
        ("COPY t (a, b) TO STDOUT", "t.a t.b"),
        ("COPY (SELECT t.a FROM t) TO STDOUT", "t.a"),
        ("EXPLAIN SELECT t.a FROM t", "t.a"),
        ("ANALYZE s.t (a, b), u (c)", "s.t.a s.t.b u.c"),
        ("VACUUM (FULL, ANALYZE) t (a)", "t.a"),
        ("VACUUM t", ""),
        ("VACUUM (ANALYZE off) t", ""),
        ("SELECT v.x FROM (VALUES (1)) AS v (x)", ""),
    ] {
        let mut wanted: Vec<&str> = found.split_whitespace().collect();
        let found = named(text);
        let mut told: Vec<&str> = found.split_whitespace().collect();
        wanted.sort_unstable();
        told.sort_unstable();
        assert_eq!(told, wanted, "{text}");
    }
    for text in [
        "SELECT * FROM t",
        "SELECT t.* FROM t",
        "TABLE t",
        "SELECT count(t.*) FROM t",
        "SELECT t FROM t",
        "SELECT x::text FROM t x",
        "SELECT (x).a FROM t x",
        "SELECT x.to_json FROM t x",
        "SELECT 1 FROM t x WHERE x.to_json IS NULL",
        "SELECT 1 FROM (SELECT * FROM t) x",
        "SELECT a FROM t NATURAL JOIN u",
        "SELECT b FROM t AS x (b)",
        "SELECT b FROM (t JOIN u ON true) AS x (b)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT ON CONSTRAINT k DO NOTHING",
        "UPDATE t SET a = 1 RETURNING *",
        "MERGE INTO t USING u ON true WHEN NOT MATCHED THEN INSERT VALUES (1)",
        "COPY t FROM STDIN",
        "COPY t TO STDOUT",
        "ANALYZE t",
        "ANALYZE t (a), u",
        "VACUUM ANALYZE t",
        "VACUUM (ANALYZE true) t",
        "ANALYZE",
        "VACUUM ANALYZE",
    ] {
        assert!(one(text).columns.unnamed, "{text}");
    }
    // What a short text could make of two lists is bounded.
    let list = |one: &str| (0..200).map(|at| format!("{one}{at}")).collect::<Vec<_>>();
    let text = format!("SELECT {} FROM {} x", list("x.c").join(","), list("t").join(" x,"));
    let columns = one(&text).columns;
    assert!(columns.unnamed && columns.named.is_empty());
}

#[test]
fn arguments_of_execute_are_texts_where_they_are_literals() {
    let arguments = |text: &str| match one(text).act {
        Act::Execute { arguments, .. } => arguments
            .iter()
            .map(|argument| argument.as_deref().unwrap_or("?").to_owned())
            .collect::<Vec<_>>()
            .join("|"),
        other => panic!("{other:?}"),
    };
    for (text, expected) in [
        ("EXECUTE p('it''s', E'\\x41', $$b$$, U&'\\0043')", "it's|A|b|C"),
        ("EXECUTE p(7, -7, 007, 3000000000, -3000000000)", "7|-7|7|3000000000|-3000000000"),
        ("EXECUTE p(true, FALSE)", "true|false"),
        ("EXECUTE p(NULL, 1.5, 1e3, B'1', X'1f')", "?|?|?|?|?"),
        ("EXECUTE p('a'::text, text 'a', 'a' || 'b', f(), $1, (SELECT 'a'))", "?|?|?|?|?|?"),
        ("EXPLAIN ANALYZE EXECUTE p('a')", "a"),
        ("CREATE TABLE x AS EXECUTE p('a')", "a"),
    ] {
        assert_eq!(arguments(text), expected, "{text}");
    }
}
