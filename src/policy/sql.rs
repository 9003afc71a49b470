//! What a statement of a database does, and whether the keys of a rule about it fit.
//!
//! One statement is several actions: one for each kind of statement inside it and each table that
//! it reads or writes. All of them say which functions the whole statement calls and whether a
//! `WHERE` is missing anywhere in it. A session decides a text once and keeps the answer, so these
//! keys have no index: the patterns of the rules that survive the rows are looked at, one by one.
//!
//! What cannot be read is never taken for what is harmless: a deny rule that names it matches, an
//! allow rule that names it does not, and nothing but the whole word `unknown` allows a statement
//! that nobody understands.

use super::parameters::{self, Parameters};
use super::pattern::Pattern;
use super::rule::{Effect, RuleSpec};
use super::table::Attr;

/// The kinds of statement that a rule may name; the last one is what is not understood.
pub const STATEMENTS: [&str; 14] = [
    "select",
    "insert",
    "update",
    "delete",
    "merge",
    "ddl",
    "copy_in",
    "copy_out",
    "call",
    "do",
    "set",
    "transaction",
    "utility",
    UNKNOWN,
];

/// The kind of a statement that does not parse, or that the parser gives no meaning.
const UNKNOWN: &str = "unknown";

/// What a statement does with one table, or without any.
#[derive(Clone, Copy, Debug)]
pub struct Sql<'a> {
    /// Kind of the statement, or of the one inside it that touches the table: one of
    /// [`STATEMENTS`].
    pub statement: &'a [u8],
    /// `schema.name`, each as the catalog has it. Absent: no table. Unreadable: there may be one,
    /// and which one could not be found out.
    pub table: Attr<'a>,
    /// The table is written; else it is read.
    pub write: bool,
    /// The columns that the statement may read or write in the table.
    pub columns: Columns<'a>,
    /// Tables whose rows hold those of the table: rules that deny columns are about them, too.
    pub parents: &'a [Parent],
    /// The functions of the whole statement.
    pub functions: Functions<'a>,
    /// An `UPDATE` or `DELETE` of the whole statement has no `WHERE`. Nobody can tell of an
    /// `unknown` statement, of which this is not looked at.
    pub missing_where: bool,
    /// The text has more than one statement.
    pub multi_statement: bool,
    /// The values that the statement is run with.
    pub parameters: Parameters<'a>,
}

/// A table that the one in hand is a partition or an inheritance child of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// `schema.name`
    pub table: Box<str>,
    /// The columns that the statement names, as those of this table; `None`: not to be told.
    pub columns: Option<Box<[Box<str>]>>,
}

/// The columns of a table that a statement names.
#[derive(Clone, Copy, Debug)]
pub enum Columns<'a> {
    /// Which ones could not be found out.
    Unreadable,
    /// These and no others, as `schema.table.column`. None at all: no rule that names columns is about it.
    Known(&'a [Box<str>]),
}

/// The functions that a statement calls.
#[derive(Clone, Copy, Debug)]
pub enum Functions<'a> {
    /// Which ones could not be found out.
    Unreadable,
    /// These and no others.
    Known(&'a [SqlFunction<'a>]),
}

/// A function that a statement calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlFunction<'a> {
    /// `name` of a function of `pg_catalog`, `schema.name` of any other.
    pub name: &'a [u8],
    /// A built-in that does nothing but to give a result. Any other is special: no rule allows it
    /// that does not name it.
    pub plain: bool,
}

impl Sql<'_> {
    /// A statement that does not parse.
    pub const UNREADABLE: Sql<'static> = Sql {
        statement: UNKNOWN.as_bytes(),
        table: Attr::Unreadable,
        write: true,
        columns: Columns::Unreadable,
        parents: &[],
        functions: Functions::Unreadable,
        missing_where: true,
        multi_statement: true,
        parameters: Parameters::UNREADABLE,
    };

    pub(super) fn is_unknown(&self) -> bool {
        self.statement == UNKNOWN.as_bytes()
    }
}

/// Whether every key of `rule` about statements fits.
pub(super) fn fits(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    statement(rule, sql)
        && table(rule, sql)
        && reads(rule, sql)
        && writes(rule, sql)
        && column(rule, sql)
        && function(rule, sql)
        && missing_where(rule, sql)
        && parameters::multi_statement(rule, sql)
        && parameters::parameters(rule, sql)
}

/// `what.statement`. No allow rule meets `unknown` by a wildcard or by saying nothing.
pub(super) fn statement(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    let list = rule.what.statement.as_deref();
    if sql.is_unknown() && rule.effect == Effect::Allow {
        let mut list = list.unwrap_or_default().iter();
        return list.any(|pattern| pattern.text() == UNKNOWN.as_bytes());
    }
    Attr::Value(sql.statement).fits(list, rule.effect)
}

/// `what.table`
pub(super) fn table(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    sql.table.fits(rule.what.table.as_deref(), rule.effect)
}

/// `what.reads`
pub(super) fn reads(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    access(rule, rule.what.reads.as_deref(), sql, false)
}

/// `what.writes`
pub(super) fn writes(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    access(rule, rule.what.writes.as_deref(), sql, true)
}

fn access(rule: &RuleSpec, list: Option<&[Pattern]>, sql: &Sql<'_>, write: bool) -> bool {
    // Of a table that is not known it is not known either how it is used.
    let other = matches!(sql.table, Attr::Value(_)) && sql.write != write;
    list.is_none() || !other && sql.table.fits(list, rule.effect)
}

/// `what.column`: of a deny rule, any column; of an allow rule every one, and there is one. Where it
/// is not known which, a deny rule is met by what could be a column of the table. What a deny rule
/// says of a table it says of partitions and children by their own names, too.
pub(super) fn column(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    let of_parent = |parent: &Parent| {
        let columns = parent.columns.as_deref().map_or(Columns::Unreadable, Columns::Known);
        column_of(rule, Attr::Value(parent.table.as_bytes()), columns)
    };
    column_of(rule, sql.table, sql.columns)
        || rule.effect != Effect::Allow && sql.parents.iter().any(of_parent)
}

fn column_of(rule: &RuleSpec, table: Attr<'_>, columns: Columns<'_>) -> bool {
    let Some(list) = rule.what.column.as_deref() else { return true };
    let Columns::Known(columns) = columns else {
        let could = |table| list.iter().any(|pattern| could_be_of(pattern, table));
        return rule.effect.is_strict() && !matches!(table, Attr::Value(table) if !could(table));
    };
    let named = |column: &str| list.iter().any(|pattern| pattern.matches(column.as_bytes()));
    match rule.effect {
        Effect::Deny | Effect::RequireApproval => columns.iter().any(|column| named(column)),
        Effect::Allow => !columns.is_empty() && columns.iter().all(|column| named(column)),
    }
}

/// Whether a pattern could match a column of the table; never no where it could.
fn could_be_of(pattern: &Pattern, table: &[u8]) -> bool {
    let within = |name: &[u8]| name.strip_prefix(table).is_some_and(|rest| rest.starts_with(b"."));
    let prefix = pattern.prefix();
    let shorter = || {
        let mut name = table.iter().chain(b".");
        prefix.iter().all(|byte| name.next() == Some(byte))
    };
    within(prefix) || !pattern.is_exact() && shorter()
}

/// `what.function`: of a deny rule, any function; of an allow rule, one at least and every
/// special one. An allow rule without it allows plain functions only.
pub(super) fn function(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    let list = rule.what.function.as_deref();
    let Functions::Known(functions) = sql.functions else {
        // Who allows statements that nobody understands allows what they call.
        return rule.effect.is_strict() || list.is_none() && sql.is_unknown();
    };
    let named = |function: &SqlFunction<'_>| {
        list.is_some_and(|list| list.iter().any(|pattern| pattern.matches(function.name)))
    };
    let met = list.is_none() || functions.iter().any(named);
    met && (rule.effect.is_strict() || functions.iter().all(|one| one.plain || named(one)))
}

/// `what.where`
pub(super) fn missing_where(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    match (rule.what.missing_where, sql.is_unknown()) {
        (false, _) => true,
        (true, true) => rule.effect.is_strict(),
        (true, false) => sql.missing_where,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{CredentialId, MaskId, MaskSet, ResourceId};
    use crate::policy::{Action, Asserted, Decision, DenialKind, Dimension, Row, Table, What, Who};

    const WHO: Who<'_> =
        Who { issuer: None, sub: Some("ana"), groups: &[], client_id: None, actors: &[] };

    fn list(texts: &[&str]) -> Option<Vec<Pattern>> {
        Some(texts.iter().map(Pattern::new).collect())
    }

    fn rule(id: &str, effect: Effect, what: What) -> RuleSpec {
        RuleSpec { what, ..RuleSpec::new(id, effect) }
    }

    fn on(resource: u16, sql: Sql<'_>) -> Action<'_> {
        let resource = ResourceId(resource);
        Action {
            resource,
            method: b"",
            path: b"",
            model: Attr::Absent,
            sql: Some(sql),
            asserted: Asserted::NONE,
        }
    }

    const SELECT: Sql<'_> = Sql {
        statement: b"select",
        table: Attr::Value(b"public.orders"),
        write: false,
        columns: Columns::Known(&[]),
        parents: &[],
        functions: Functions::Known(&[]),
        missing_where: false,
        multi_statement: false,
        parameters: Parameters::NONE,
    };

    fn compiled(rules: Vec<RuleSpec>) -> (Table, Row) {
        let table = Table::compile(rules, 2, 1).unwrap();
        let row = table.row_of(&WHO);
        (table, row)
    }

    /// Whether an allow rule about `what` matches, and whether a deny rule does.
    fn meets(what: &What, sql: Sql<'_>) -> (bool, bool) {
        let (table, row) = compiled(vec![rule("a", Effect::Allow, what.clone())]);
        let allowed = matches!(table.decide(&row, &on(0, sql)), Decision::Permit(_));
        assert_eq!(table.explain(&WHO, &on(0, sql)).matched.len(), usize::from(allowed));
        let (table, row) = compiled(vec![rule("d", Effect::Deny, what.clone())]);
        let Decision::Deny(denial) = table.decide(&row, &on(0, sql)) else { panic!("permitted") };
        let denied = denial.kind == DenialKind::Rule;
        assert_eq!(table.explain(&WHO, &on(0, sql)).matched.len(), usize::from(denied));
        (allowed, denied)
    }

    #[test]
    fn what_nobody_understands_is_allowed_by_the_whole_word_only() {
        let what = |statement| What { statement, ..What::default() };
        for sql in [Sql::UNREADABLE, Sql { statement: b"unknown", ..SELECT }] {
            assert_eq!(meets(&what(None), sql), (false, true));
            assert_eq!(meets(&what(list(&["*"])), sql), (false, true));
            assert_eq!(meets(&what(list(&["unknow?", "unknown*"])), sql), (false, true));
            assert_eq!(meets(&what(list(&["select", "unknown"])), sql), (true, true));
            assert_eq!(meets(&what(list(&["select"])), sql), (false, false));
        }
        assert_eq!(meets(&what(list(&["s*"])), SELECT), (true, true));
        assert_eq!(meets(&what(list(&["unknown", "Select"])), SELECT), (false, false));
        // The word does not say what else the statement may be.
        let word = || list(&["unknown"]);
        let table = What { statement: word(), table: list(&["*"]), ..What::default() };
        assert_eq!(meets(&table, Sql::UNREADABLE), (false, true));
        let function = What { statement: word(), function: list(&["*"]), ..What::default() };
        assert_eq!(meets(&function, Sql::UNREADABLE), (false, true));
        let missing = What { statement: word(), missing_where: true, ..What::default() };
        assert_eq!(meets(&missing, Sql::UNREADABLE), (false, true));
        assert_eq!(meets(&missing, Sql { statement: b"unknown", ..SELECT }), (false, true));
    }

    #[test]
    fn a_table_is_met_by_what_is_done_with_it() {
        let orders = || list(&["public.ord*"]);
        let any = What { table: orders(), ..What::default() };
        let reads = What { reads: orders(), ..What::default() };
        let writes = What { writes: orders(), ..What::default() };
        let write = Sql { write: true, ..SELECT };
        assert_eq!([&any, &reads, &writes].map(|what| meets(what, SELECT).0), [true, true, false]);
        assert_eq!([&any, &reads, &writes].map(|what| meets(what, write).0), [true, false, true]);
        for (table, said) in [
            (Attr::Value(b"public.items"), (false, false)),
            (Attr::Absent, (false, false)),
            (Attr::Unreadable, (false, true)),
        ] {
            for what in [&any, &reads, &writes] {
                assert_eq!(meets(what, Sql { table, ..SELECT }), said, "{what:?} {table:?}");
                assert_eq!(meets(what, Sql { table, ..write }), said, "{what:?} {table:?}");
            }
        }
    }

    #[test]
    fn every_column_is_allowed_and_one_is_enough_to_deny() {
        let cards = || list(&["public.orders.card", "public.orders.k*"]);
        let what = What { column: cards(), ..What::default() };
        let names = |names: &[&str], what: &What| {
            let names: Vec<Box<str>> =
                names.iter().map(|name| format!("public.orders.{name}").into()).collect();
            meets(what, Sql { columns: Columns::Known(&names), ..SELECT })
        };
        assert_eq!(names(&[], &what), (false, false));
        assert_eq!(names(&["id"], &what), (false, false));
        assert_eq!(names(&["card"], &what), (true, true));
        assert_eq!(names(&["card", "key"], &what), (true, true));
        assert_eq!(names(&["card", "id"], &what), (false, true));
        let unreadable = Sql { columns: Columns::Unreadable, ..SELECT };
        assert_eq!(meets(&what, unreadable), (false, true));
        for (pattern, could) in [
            ("public.orders.card", true),
            ("public.orders.", true),
            ("public.orders", false),
            ("public.ord*", true),
            ("public.orders?*", true),
            ("*.card", true),
            ("public.order.card", false),
            ("public.orders2.card", false),
            ("public.items.*", false),
            ("secret*", false),
        ] {
            let what = What { column: list(&[pattern]), ..What::default() };
            assert_eq!(meets(&what, unreadable), (false, could), "{pattern}");
            for table in [Attr::Absent, Attr::Unreadable] {
                assert_eq!(meets(&what, Sql { table, ..unreadable }), (false, true), "{pattern}");
            }
        }
        let any = What { column: list(&["*"]), ..What::default() };
        assert_eq!(meets(&any, unreadable), (false, true));
        assert_eq!(names(&[], &any), (false, false));
        assert_eq!(meets(&What::default(), unreadable), (true, true));
    }

    #[test]
    fn a_special_function_is_allowed_by_its_name_only() {
        let lower = SqlFunction { name: b"lower", plain: true };
        let sleep = SqlFunction { name: b"pg_sleep", plain: false };
        let pay = SqlFunction { name: b"public.pay", plain: false };
        let what = |function| What { function, ..What::default() };
        let calls = |functions: &[SqlFunction<'_>], what: &What| {
            let functions = Functions::Known(functions);
            meets(what, Sql { functions, ..SELECT })
        };
        let none = what(None);
        assert_eq!(calls(&[], &none), (true, true));
        assert_eq!(calls(&[lower], &none), (true, true));
        assert_eq!(calls(&[lower, pay], &none), (false, true));
        let pays = what(list(&["public.*"]));
        assert_eq!(calls(&[], &pays), (false, false));
        assert_eq!(calls(&[lower], &pays), (false, false), "it is about what it names");
        assert_eq!(calls(&[lower, pay], &pays), (true, true));
        assert_eq!(calls(&[pay, sleep], &pays), (false, true));
        assert_eq!(calls(&[pay, sleep], &what(list(&["public.pay", "pg_sleep"]))), (true, true));
        let unreadable = Sql { functions: Functions::Unreadable, ..SELECT };
        assert_eq!(meets(&none, unreadable), (false, true));
        assert_eq!(meets(&pays, unreadable), (false, true));
    }

    #[test]
    fn a_partition_by_its_own_name_meets_what_denies_columns_of_its_parent() {
        let what = What { column: list(&["public.orders.card"]), ..What::default() };
        let says = |columns: Option<&[&str]>| {
            let names = |table: &str| -> Option<Box<[Box<str>]>> {
                let name = |column: &&str| format!("{table}.{column}").into();
                Some(columns?.iter().map(name).collect())
            };
            let own = names("public.orders_1");
            let parents =
                [Parent { table: "public.orders".into(), columns: names("public.orders") }];
            let sql = Sql {
                table: Attr::Value(b"public.orders_1"),
                columns: own.as_deref().map_or(Columns::Unreadable, Columns::Known),
                ..SELECT
            };
            assert_eq!(meets(&what, sql), (false, false));
            meets(&what, Sql { parents: &parents, ..sql })
        };
        assert_eq!(says(Some(&["card"])), (false, true));
        assert_eq!(says(Some(&["id"])), (false, false));
        assert_eq!(says(Some(&[])), (false, false));
        assert_eq!(says(None), (false, true));
        // What is allowed of the parent is not allowed by another name, nor the other way round.
        let allow = What { column: list(&["public.orders_1.card"]), ..What::default() };
        let names: [Box<str>; 1] = ["public.orders_1.card".into()];
        let parents = [Parent { table: "public.orders".into(), columns: None }];
        let columns = Columns::Known(&names);
        assert!(meets(&allow, Sql { columns, parents: &parents, ..SELECT }).0);
    }

    #[test]
    fn a_missing_where_is_met_by_the_rule_that_asks() {
        let what = What { missing_where: true, ..What::default() };
        assert_eq!(meets(&what, SELECT), (false, false));
        assert_eq!(meets(&what, Sql { missing_where: true, ..SELECT }), (true, true));
    }

    #[test]
    fn rules_about_statements_and_about_requests_never_meet() {
        let request = Action {
            resource: ResourceId(0),
            method: b"POST",
            path: b"/x",
            model: Attr::Unreadable,
            sql: None,
            asserted: Asserted::NONE,
        };
        let changes: [fn(&mut What); 11] = [
            |what| what.statement = list(&["*"]),
            |what| what.table = list(&["*"]),
            |what| what.reads = list(&["*"]),
            |what| what.writes = list(&["*"]),
            |what| what.column = list(&["*"]),
            |what| what.function = list(&["*"]),
            |what| what.missing_where = true,
            |what| what.multi_statement = true,
            |what| what.parameters = vec![(1, list(&["*"]).unwrap())],
            |what| what.parameters = vec![(2, list(&["*"]).unwrap())],
            |what| what.parameters = vec![(1, list(&["a*"]).unwrap())],
        ];
        let mut digests = vec![compiled(vec![rule("r", Effect::Deny, What::default())]).0.digest()];
        for change in changes {
            let mut what = What::default();
            change(&mut what);
            let allow = rule("a", Effect::Allow, What::default());
            let (table, row) = compiled(vec![allow, rule("d", Effect::Deny, what.clone())]);
            assert!(matches!(table.decide(&row, &request), Decision::Permit(_)));
            let unread = table.decide(&row, &on(0, Sql::UNREADABLE));
            let Decision::Deny(denial) = unread else { panic!("permitted") };
            assert_eq!(denial.kind, DenialKind::Rule);
            let (table, row) = compiled(vec![rule("a", Effect::Allow, what.clone())]);
            assert!(matches!(table.decide(&row, &request), Decision::Deny(_)));
            digests.push(compiled(vec![rule("r", Effect::Deny, what)]).0.digest());
        }
        let path = What { path: list(&["*"]), ..What::default() };
        assert_eq!(meets(&path, SELECT), (false, false));
        let count = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), count, "each key is in the digest");
    }

    #[test]
    fn one_action_that_is_not_permitted_stops_the_statement() {
        let select = What { statement: list(&["select"]), ..What::default() };
        let mut reads = rule("reads", Effect::Allow, select);
        reads.then.masks = MaskSet::EMPTY.with(MaskId(1));
        let insert = What { statement: list(&["insert"]), ..What::default() };
        let mut writes = rule("writes", Effect::Allow, insert);
        writes.then.credential = Some(CredentialId(3));
        let deny = What { table: list(&["secret.*"]), ..What::default() };
        let rules = vec![reads, writes, rule("no-secrets", Effect::Deny, deny)];
        let (table, row) = compiled(rules.clone());
        let insert = Sql { statement: b"insert", write: true, ..SELECT };
        let delete = Sql { statement: b"delete", write: true, ..SELECT };
        let secret = Sql { table: Attr::Value(b"secret.cards"), ..SELECT };
        let said = |actions: &[Action<'_>]| match table.decide_all(&row, actions.iter().copied()) {
            Decision::Permit(grant) => Ok((
                table.rule_name(grant.rule()).to_owned(),
                grant.masks(),
                grant.credential(),
                grant.resource(),
            )),
            Decision::Hold(need) => panic!("{need:?}"),
            Decision::Deny(denial) => Err((
                denial.kind,
                denial.rule.map_or_else(String::new, |rule| table.rule_name(rule).to_owned()),
            )),
        };
        let mask = MaskSet::EMPTY.with(MaskId(1));
        let granted =
            |rule: &str, masks, credential| Ok((rule.to_owned(), masks, credential, ResourceId(1)));
        let one = Some(CredentialId(3));
        assert_eq!(said(&[on(1, SELECT)]), granted("reads", mask, None));
        assert_eq!(said(&[on(1, SELECT), on(1, insert)]), granted("reads", mask, one));
        assert_eq!(said(&[on(1, insert), on(1, SELECT)]), granted("writes", mask, one));
        let no_rule = Err((DenialKind::NoRule, String::new()));
        assert_eq!(said(&[]), no_rule);
        assert_eq!(said(&[on(1, SELECT), on(1, delete)]), no_rule);
        assert_eq!(said(&[on(1, delete), on(1, SELECT)]), no_rule);
        assert_eq!(said(&[on(1, SELECT), on(0, SELECT)]), no_rule, "a grant is for one resource");
        let denied = Err((DenialKind::Rule, "no-secrets".to_owned()));
        assert_eq!(said(&[on(1, SELECT), on(1, secret)]), denied);
        assert_eq!(said(&[on(1, delete), on(1, secret)]), denied, "a deny rule is what is named");

        let mut torn = rules;
        torn.iter_mut().filter(|rule| rule.id == "reads").for_each(|rule| {
            rule.then.credential = Some(CredentialId(4));
        });
        let (torn, of_torn) = compiled(torn);
        let both = [on(1, SELECT), on(1, insert)];
        let Decision::Deny(denial) = torn.decide_all(&of_torn, both) else { panic!("permitted") };
        assert_eq!(denial.kind, DenialKind::ConflictingCredential);
        let stale = torn.with_generation(2).decide_all(&of_torn, [on(1, SELECT)]);
        let Decision::Deny(denial) = stale else { panic!("a stale row was taken") };
        assert_eq!(denial.kind, DenialKind::StaleRow);
    }

    #[test]
    fn who_may_run_no_statement_may_not_connect() {
        let could = |rules| {
            let (table, row) = compiled(rules);
            let resource = ResourceId(0);
            (table.could_match(&row, resource), table.could_match_sql(&row, resource))
        };
        let about = |id: &str, effect, change: fn(&mut What)| {
            let mut what = What::default();
            change(&mut what);
            rule(id, effect, what)
        };
        let requests = || about("requests", Effect::Allow, |what| what.path = list(&["/x"]));
        let selects = || about("selects", Effect::Allow, |what| what.statement = list(&["select"]));
        let no_cards = || about("no-cards", Effect::Deny, |what| what.table = list(&["*"]));
        let no_where = || about("no-where", Effect::Deny, |what| what.missing_where = true);
        let nothing = || about("nothing", Effect::Deny, |_| ());
        assert_eq!(could(vec![requests()]), (true, false));
        assert_eq!(could(vec![selects()]), (true, true));
        assert_eq!(could(vec![selects(), no_cards(), no_where()]), (true, true));
        assert_eq!(could(vec![selects(), requests(), nothing()]), (false, false));
        let (table, row) = compiled(vec![selects()]);
        assert!(!table.with_generation(2).could_match_sql(&row, ResourceId(0)));
    }

    #[test]
    fn the_nearest_rule_is_about_what_was_asked() {
        let path = What { path: list(&["/x"]), ..What::default() };
        let both = What {
            statement: list(&["insert"]),
            writes: list(&["public.items"]),
            ..What::default()
        };
        let rules = vec![rule("path", Effect::Allow, path), rule("sql", Effect::Allow, both)];
        let (table, _) = compiled(rules);
        let nearest = table.explain(&WHO, &on(0, SELECT)).nearest.unwrap();
        assert_eq!(table.rule_name(nearest.rule), "sql");
        assert_eq!(nearest.failed, [Dimension::Statement, Dimension::Writes]);
        let path = b"/y";
        let request = Action { path, sql: None, ..on(0, SELECT) };
        let nearest = table.explain(&WHO, &request).nearest.unwrap();
        assert_eq!(table.rule_name(nearest.rule), "path");
    }
}
