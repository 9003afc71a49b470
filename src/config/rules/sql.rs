//! The keys of rules and cases that are about statements of a database.
//!
//! A word or a name that can match nothing is an error: in a deny rule it would be a hole.

use super::{parameters, patterns};
use crate::config::reader::{Section, Text, choose};
use crate::config::report::{Report, suggestion};
use crate::policy::{CaseSql, Effect, Pattern, STATEMENTS, What};

/// Reads the keys of a rule; all others of the result are empty.
pub(super) fn rule(table: &mut Section<'_>, effect: Effect, report: &mut Report) -> What {
    let statement = table.texts("statement", report);
    for text in statement.iter().flatten() {
        kind(*text, effect, report);
    }
    let mut tables = |key| {
        let texts = table.texts(key, report);
        for text in texts.iter().flatten() {
            check("table", *text, table_fault(text.text), report);
        }
        patterns(texts)
    };
    let (named, reads, writes) = (tables("table"), tables("reads"), tables("writes"));
    let function = table.texts("function", report);
    for text in function.iter().flatten() {
        check("function", *text, function_fault(text.text), report);
    }
    let column = table.texts("column", report);
    for text in column.iter().flatten() {
        check("column", *text, column_fault(text.text), report);
    }
    What {
        statement: patterns(statement),
        table: named,
        reads,
        writes,
        column: patterns(column),
        function: patterns(function),
        missing_where: missing_where(table, report),
        multi_statement: multi_statement(table, report),
        parameters: parameters::rule(table, report),
        ..What::default()
    }
}

/// Reads the keys of a case. `unreadable` names what of it cannot be read.
pub(super) fn case(
    table: &mut Section<'_>,
    unreadable: &[&str],
    report: &mut Report,
) -> Option<CaseSql> {
    let statement = table.text("statement", report);
    let named = table.text("table", report);
    let access = table
        .text("access", report)
        .and_then(|text| choose("`access`", text, &[("read", false), ("write", true)], report));
    let functions = table.texts("function", report);
    let missing_where = missing_where(table, report);
    let multi_statement = multi_statement(table, report);
    let values = table.has("parameters");
    let parameters = parameters::case(table, unreadable.contains(&"parameters"), report);
    let columns = table.texts("column", report);
    for key in ["reads", "writes"] {
        if let Some(field) = table.field(key) {
            report.error(
                field.spot,
                format!("a case has no `{key}`"),
                "write `table`, and `access = \"read\"` or `access = \"write\"`",
            );
        }
    }
    let Some(statement) = statement else {
        let keys =
            ["table", "access", "column", "function", "where", "multi_statement", "parameters"];
        for key in keys {
            if let Some(field) = table.field(key) {
                report.error(
                    field.spot,
                    format!("`{key}` needs `statement`"),
                    "say what is done, as in `statement = \"select\"`",
                );
            }
        }
        return None;
    };
    let Some(mut sql) = CaseSql::new(statement.text) else {
        no_kind(statement, report);
        return None;
    };
    if let Some(text) = named {
        check("table", text, table_fault(text.text), report);
        sql.table = Some(text.text.to_owned());
        sql.table_unreadable = false;
    } else if table.has("access") && !unreadable.contains(&"table") {
        report.error(table.spot_of("access"), "`access` needs `table`", "to what is the access?");
    }
    if let Some(texts) = columns {
        for text in &texts {
            let within = sql.table.as_ref().and_then(|table| text.text.strip_prefix(&**table));
            let fault = match within.and_then(|rest| rest.strip_prefix('.')) {
                Some(_) => column_fault(text.text),
                None => Some("a case names columns of its `table`: `public.orders.card`"),
            };
            check("column", *text, fault, report);
        }
        sql.columns = texts.iter().map(|text| text.text.into()).collect();
        sql.columns_unreadable = false;
    }
    if let Some(texts) = functions {
        for text in &texts {
            check("function", *text, function_fault(text.text), report);
        }
        // Which functions are plain is known to those who read statements.
        sql.functions = texts.iter().map(|text| (text.text.to_owned(), false)).collect();
        sql.functions_unreadable = false;
    }
    sql.write = access.unwrap_or(sql.write);
    sql.table_unreadable |= unreadable.contains(&"table");
    sql.columns_unreadable |= unreadable.contains(&"column");
    sql.functions_unreadable |= unreadable.contains(&"function");
    sql.missing_where = missing_where;
    sql.multi_statement = multi_statement;
    if values || unreadable.contains(&"parameters") {
        sql.parameters = parameters;
    }
    Some(sql)
}

fn kind(text: Text<'_>, effect: Effect, report: &mut Report) {
    let pattern = Pattern::new(text.text);
    let mut met = STATEMENTS.iter().filter(|word| pattern.matches(word.as_bytes())).peekable();
    if met.peek().is_none() {
        no_kind(text, report);
    } else if effect == Effect::Allow && !pattern.is_exact() && met.all(|word| *word == "unknown") {
        report.error(
            text.spot,
            format!("`{}` allows nothing", text.text.escape_default()),
            "write `unknown` in full to allow statements that are not understood",
        );
    }
}

fn no_kind(text: Text<'_>, report: &mut Report) {
    report.error(
        text.spot,
        format!("`{}` is no kind of statement", text.text.escape_default()),
        suggestion(&text.text.to_ascii_lowercase(), &STATEMENTS),
    );
}

fn check(what: &str, text: Text<'_>, fault: Option<&str>, report: &mut Report) {
    if let Some(help) = fault {
        let message = format!("`{}` matches no {what}", text.text.escape_default());
        report.error(text.spot, message, help);
    }
}

const UNQUOTED: &str = "names are written as the catalog has them, without quotes";

/// What a table's name, or a pattern of names, cannot be.
fn table_fault(text: &str) -> Option<&'static str> {
    if text.contains('"') {
        Some(UNQUOTED)
    } else if !text.contains(['.', '*', '?']) {
        Some("a table is named with its schema: `public.orders`")
    } else {
        None
    }
}

/// The same of a column's.
fn column_fault(text: &str) -> Option<&'static str> {
    if text.contains('"') {
        Some(UNQUOTED)
    } else if !text.contains(['*', '?']) && text.split('.').count() < 3 {
        Some("a column is named with its table and schema: `public.orders.card`")
    } else {
        None
    }
}

/// The same of a function's.
fn function_fault(text: &str) -> Option<&'static str> {
    if text.contains('"') {
        Some(UNQUOTED)
    } else if text.contains(['(', ')']) {
        Some("a function is named without parentheses: `pg_sleep`")
    } else if text.starts_with("pg_catalog.") {
        Some("functions of pg_catalog are named without it: `pg_sleep`")
    } else if text.is_empty() {
        Some("`*` is any function")
    } else {
        None
    }
}

fn missing_where(table: &mut Section<'_>, report: &mut Report) -> bool {
    let text = table.text("where", report);
    text.is_some_and(|text| choose("`where`", text, &[("missing", ())], report).is_some())
}

fn multi_statement(table: &mut Section<'_>, report: &mut Report) -> bool {
    let spot = table.spot_of("multi_statement");
    let flag = table.flag("multi_statement", report);
    if flag == Some(false) {
        report.error(spot, "`multi_statement = false` says nothing", "leave it out");
    }
    flag == Some(true)
}
