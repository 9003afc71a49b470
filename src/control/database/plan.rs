//! What a statement would touch, by the server's own estimate: EXPLAIN without ANALYZE.
//!
//! The statement is planned and not run. A planner does run functions that claim to change nothing,
//! so that only statements of plain functions are asked for, in a transaction that may only read and
//! is never committed. Of the plan come kinds of nodes, names of tables and numbers back, and no
//! condition: those hold values that the summary has masked.

use super::{Answer, Database, DatabaseError, Target, Times};
use crate::base::Secret;
use crate::credential::OperatorLogin;
use crate::policy::approval::Statement;
use crate::sql::{self, Act, Kind, SqlLimits};
use crate::wire::postgres::{Backend, Cells, backend, write};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// By whom a server is asked.
pub struct Login {
    /// User.
    pub user: String,
    /// Password.
    pub secret: Secret,
    /// A role that is taken on.
    pub role: Option<String>,
}

/// The estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Rows that are read to the caller, or changed.
    pub rows: f64,
    /// Cost of all, in the server's own unit.
    pub cost: f64,
    /// One line for each node of the plan, indented by its depth.
    pub plan: String,
}

/// Why there is none.
#[derive(Debug)]
#[non_exhaustive]
pub enum NoEstimate {
    /// It is not one SELECT, INSERT, UPDATE, DELETE or MERGE.
    Kind,
    /// It calls a function that a planner might run, and which is not known to have no effect.
    Function,
    /// The text cannot be read.
    Unread,
    /// The server could not be asked.
    Database(DatabaseError),
    /// The server refused to plan it: its SQLSTATE.
    Refused(String),
    /// What it answered is no plan.
    Answer,
}

impl fmt::Display for NoEstimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => {
                f.write_str("only one SELECT, INSERT, UPDATE, DELETE or MERGE is planned")
            }
            Self::Function => f.write_str("it calls a function that planning might run"),
            Self::Unread => f.write_str("its text cannot be read"),
            Self::Database(error) => error.fmt(f),
            Self::Refused(code) => write!(f, "the server does not plan it (SQLSTATE {code})"),
            Self::Answer => f.write_str("the server's answer is no plan"),
        }
    }
}

impl From<DatabaseError> for NoEstimate {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

/// Asks the server. It blocks, for [`PATIENCE`] three times over at most.
///
/// # Errors
/// [`NoEstimate`]; nothing was run then, either.
pub fn estimate(
    target: &Target,
    login: Login,
    statement: &Statement,
) -> Result<Estimate, NoEstimate> {
    may_plan(statement.text.expose())?;
    let login = OperatorLogin::new(login.user, login.secret, login.role);
    let times = Times { login: PATIENCE, silence: PATIENCE, statement: PATIENCE };
    let path = statement.search_path.as_deref().unwrap_or("public");
    let settings = [
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("search_path", path),
        ("application_name", "weirgate estimate"),
    ];
    let mut database = Database::connect(target, &login, &settings, times)?;
    let answer = explain(&mut database, statement);
    database.end();
    let text = answer?;
    read(&serde_json::from_slice(&text).map_err(|_| NoEstimate::Answer)?)
}

/// Whether planning it has no effect.
fn may_plan(text: &[u8]) -> Result<(), NoEstimate> {
    let limits = SqlLimits::default();
    let statements = sql::parse(text, &limits).map_err(|_| NoEstimate::Unread)?;
    let [one] = statements.as_slice() else { return Err(NoEstimate::Kind) };
    let kinds = [Kind::Select, Kind::Insert, Kind::Update, Kind::Delete, Kind::Merge];
    let known = one.kinds.iter().all(|kind| kinds.contains(&kind)) && one.kinds.iter().count() > 0;
    if !known || one.act != Act::None || !one.settings.is_empty() {
        return Err(NoEstimate::Kind);
    }
    let plain = one.functions.iter().all(|function| function.plain);
    if plain { Ok(()) } else { Err(NoEstimate::Function) }
}

/// The plan as the server writes it.
fn explain(database: &mut Database, statement: &Statement) -> Result<Vec<u8>, NoEstimate> {
    let begun = database.query(
        "begin read only; set local statement_timeout = '2s'; \
                                set local lock_timeout = '500ms'",
    )?;
    refused(&begun)?;
    let mut packet = Vec::new();
    // A new line, for a text that ends in a comment has no other end.
    let text = [b"explain (format json) ".as_slice(), statement.text.expose(), b"\n"].concat();
    let formats: Vec<i16> = statement.formats.iter().map(|one| i16::from(*one == 1)).collect();
    let values = statement.values.iter().map(|value| value.as_ref().map(Secret::expose));
    let values: Vec<Option<&[u8]>> = values.collect();
    write::parse(b"", &text, &statement.types, &mut packet);
    write::bind(b"", b"", &formats, &values, &[], &mut packet);
    write::execute(b"", 0, &mut packet);
    write::sync(&mut packet);
    let text = Secret::new(text);
    database.begin();
    let sent = database.send(&packet);
    drop((Secret::new(packet), text));
    sent?;
    let mut plan = Vec::new();
    let mut fault = None;
    loop {
        let message = database.next()?;
        match backend(message.tag, &message.body).map_err(DatabaseError::from)? {
            Backend::DataRow(row) => {
                let mut cells = Cells::new(row).map_err(DatabaseError::from)?;
                let cell = cells.next().map_err(DatabaseError::from)?.flatten();
                plan.extend_from_slice(cell.unwrap_or_default());
                if plan.len() > PLAN_MAX {
                    return Err(NoEstimate::Answer);
                }
            }
            Backend::Error(fields) => {
                let code = super::code(fields.get(b'C').unwrap_or_default());
                fault.get_or_insert(NoEstimate::Refused(code));
            }
            Backend::Ready(_) => break,
            _ => {}
        }
    }
    fault.map_or(Ok(plan), Err)
}

fn refused(answers: &[Answer]) -> Result<(), NoEstimate> {
    let mut failed = answers.iter().filter_map(|answer| answer.outcome.as_ref().err());
    failed.next().map_or(Ok(()), |error| Err(NoEstimate::Refused(error.code.clone())))
}

fn read(answer: &Value) -> Result<Estimate, NoEstimate> {
    let top = answer.get(0).and_then(|one| one.get("Plan")).ok_or(NoEstimate::Answer)?;
    let number = |node: &Value, key: &str| node.get(key).and_then(Value::as_f64);
    let mut plan = String::new();
    lines(top, 0, &mut plan);
    // What changes rows says 0 of itself, where it returns none: its input says how many.
    let changes = top.get("Node Type").and_then(Value::as_str) == Some("ModifyTable");
    let input = || top.get("Plans")?.as_array()?.iter().find(|node| is_input(node));
    let counted = if changes { input().unwrap_or(top) } else { top };
    Ok(Estimate {
        rows: number(counted, "Plan Rows").ok_or(NoEstimate::Answer)?,
        cost: number(top, "Total Cost").ok_or(NoEstimate::Answer)?,
        plan,
    })
}

/// Whether a node feeds the one above it, and is no CTE or subquery beside.
fn is_input(node: &Value) -> bool {
    let relation = node.get("Parent Relationship").and_then(Value::as_str);
    matches!(relation, Some("Outer" | "Member") | None)
}

fn lines(node: &Value, depth: usize, to: &mut String) {
    use fmt::Write as _;
    if depth > DEPTH_MAX || to.len() > PLAN_MAX {
        return;
    }
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let kind = text("Operation").or(text("Node Type")).unwrap_or("?");
    let number = |key: &str| node.get(key).and_then(Value::as_f64).unwrap_or_default();
    let _ = write!(to, "{:indent$}{kind}", "", indent = depth * 2);
    if let Some(name) = text("Relation Name") {
        let _ = write!(to, " on {name}");
    }
    if let Some(name) = text("Index Name") {
        let _ = write!(to, " by {name}");
    }
    let _ = writeln!(to, "  ({} rows, cost {})", number("Plan Rows"), number("Total Cost"));
    let below = node.get("Plans").and_then(Value::as_array);
    below.into_iter().flatten().for_each(|one| lines(one, depth + 1, to));
}

/// How long the server may take for the login, without a word, and for the plan.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// Bytes of a plan.
const PLAN_MAX: usize = 256 << 10;
/// Levels of a plan that are shown.
const DEPTH_MAX: usize = 64;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_has_no_effect_is_planned() {
        for fine in [
            "select 1",
            "delete from t where a = $1",
            "update t set a = lower(b)",
            "insert into t values (1) returning a",
            "with x as (delete from t returning a) select * from x",
        ] {
            assert!(may_plan(fine.as_bytes()).is_ok(), "{fine}");
        }
        for wrong in [
            "",
            "select 1; select 2",
            "select my_function()",
            "select set_config('role', 'x', false)",
            "select pg_read_file('x')",
            "explain analyze delete from t",
            "create table x as select 1",
            "select 1 into x",
            "do $$ begin end $$",
            "copy t to stdout",
            "select (",
        ] {
            assert!(may_plan(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_plan_tells_numbers_and_tables_and_no_condition() {
        let plan = json!([{"Plan": {
            "Node Type": "ModifyTable", "Operation": "Delete", "Relation Name": "orders",
            "Plan Rows": 0, "Total Cost": 35.5,
            "Plans": [
                {"Node Type": "CTE Scan", "Parent Relationship": "InitPlan", "Plan Rows": 7,
                 "Total Cost": 1.0},
                {"Node Type": "Seq Scan", "Parent Relationship": "Outer",
                 "Relation Name": "orders", "Plan Rows": 12, "Total Cost": 35.5,
                 "Filter": "(ssn = '078-05-1120'::text)"},
            ],
        }}]);
        let found = read(&plan).unwrap();
        assert_eq!((found.rows, found.cost), (12.0, 35.5));
        assert!(found.plan.starts_with("Delete on orders"), "{}", found.plan);
        assert!(found.plan.contains("  Seq Scan on orders") && !found.plan.contains("078"));
        assert!(read(&json!([{"Plan": {"Node Type": "Result"}}])).is_err());
        assert!(read(&json!({})).is_err());
    }
}
