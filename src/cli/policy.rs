//! `weirgate policy explain|test`: why a decision comes out as it does, and the policy's own cases.

use super::check::print_one;
use crate::config::{Config, Diagnostic, Protocol, Source, load};
use crate::policy::{
    Case, CaseAction, CaseParameters, CaseSql, CaseWho, DenialKind, Effect, Expect, Explanation,
    Parameter, STATEMENTS, Who,
};
use crate::session::postgres::asked;
use crate::sql::SqlLimits;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What `policy explain` was asked. Nothing here is verified: it is a question, not a request.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    /// The config.
    pub config: PathBuf,
    /// Issuer, by name or by `iss`; may be left out where there is one only.
    pub iss: Option<String>,
    /// Subject.
    pub sub: Option<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// OAuth client.
    pub client_id: Option<String>,
    /// Actor chain, current actor first.
    pub actors: Vec<String>,
    /// Node that the caller says it runs.
    pub node: Option<String>,
    /// Run that it says it is.
    pub run: Option<String>,
    /// Thread that it says it belongs to.
    pub thread: Option<String>,
    /// Resource, by name.
    pub resource: String,
    /// Request method.
    pub method: Option<String>,
    /// Path after the resource segment.
    pub path: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// The model, or the table, is there and cannot be read.
    pub unreadable: bool,
    /// Kind of statement.
    pub statement: Option<String>,
    /// Table, as `schema.name`.
    pub table: Option<String>,
    /// `read` or `write`; `None`: what the kind of statement does most.
    pub access: Option<String>,
    /// Columns of the table, as `schema.table.column`.
    pub columns: Vec<String>,
    /// Functions that do more than to give a result.
    pub functions: Vec<String>,
    /// A `WHERE` is missing.
    pub missing_where: bool,
    /// The text has more than one statement.
    pub multi_statement: bool,
    /// Values of parameters, as `1=eu-1`.
    pub parameters: Vec<String>,
    /// Text of a recorded statement, which is asked about in the place of all that.
    pub recorded: Option<String>,
    /// What a part of it does.
    pub asked: Option<CaseSql>,
    /// One JSON object, or one for each thing that a recorded statement does.
    pub json: bool,
}

/// What `policy test` was asked.
#[derive(Clone, Debug, Default)]
pub struct Test {
    /// The config.
    pub config: PathBuf,
    /// One JSON object a line.
    pub json: bool,
}

/// Explains and prints. Returns 0: allowed; 1: denied; 2: it could not run.
pub fn explain(
    options: &Explain,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let Some(config) = loaded(&options.config, source, options.json, errors) else { return 2 };
    if let Some(text) = &options.recorded {
        return explain_text(text, options, &config, out, errors);
    }
    let case = match question(options, &config) {
        Ok(case) => case,
        Err(message) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(errors, "error: {message}");
            return 2;
        }
    };
    let explanation = case.explain(&config.table);
    let printed = if options.json {
        writeln!(out, "{}", object(&config, &explanation))
    } else {
        print_explanation(&config, &case, &explanation, out)
    };
    finish(printed, u8::from(explanation.outcome.is_err()), errors)
}

/// Explains each thing that a recorded statement does. Returns 1 where one is refused.
fn explain_text(
    text: &str,
    options: &Explain,
    config: &Config,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let limits = SqlLimits { text_max: config.limits.sql_text_max, ..SqlLimits::default() };
    let asked = match asked(text.as_bytes(), &limits) {
        Ok(asked) => asked,
        Err(why) => return finish(writeln!(out, "deny: {why}"), 1, errors),
    };
    let parameters = match values(&options.parameters) {
        Ok(values) if values.is_empty() => CaseParameters::Pending,
        Ok(values) => CaseParameters::Known(values),
        Err(message) => return finish(writeln!(errors, "error: {message}"), 2, errors),
    };
    let mut code = 0;
    for one in asked {
        let harmless = one.harmless;
        // The words of the two are the same; a test holds them together.
        let Some(mut sql) = CaseSql::new(one.statement) else { continue };
        (sql.table, sql.table_unreadable) = (one.table.clone(), false);
        (sql.write, sql.missing_where) = (one.write, one.missing_where);
        (sql.functions, sql.functions_unreadable) = (one.functions, false);
        sql.columns_unreadable = one.columns.is_none();
        sql.columns = one.columns.unwrap_or_default();
        sql.multi_statement = one.multi_statement;
        sql.parameters = match one.prepares {
            true => CaseParameters::Pending,
            false => parameters.clone(),
        };
        let pending = sql.parameters == CaseParameters::Pending;
        let about = Explain { asked: Some(sql), recorded: None, ..options.clone() };
        let case = match question(&about, config) {
            Ok(case) => case,
            Err(message) => {
                let _ = writeln!(errors, "error: {message}");
                return 2;
            }
        };
        let explanation = case.explain(&config.table);
        let no_rule =
            matches!(&explanation.outcome, Err(denial) if denial.kind == DenialKind::NoRule);
        let table = one
            .table
            .as_deref()
            .map(|table| format!(" {} {table}", if one.write { "writes" } else { "reads" }));
        let printed = if options.json {
            let mut line = object(config, &explanation);
            if let Some(fields) = line.as_object_mut() {
                fields.insert("statement".to_owned(), json!(one.statement));
                fields.insert("table".to_owned(), json!(one.table));
                fields.insert("needs_rule".to_owned(), json!(!harmless));
            }
            writeln!(out, "{line}")
        } else {
            let head = writeln!(out, "{}{}:", one.statement, table.unwrap_or_default());
            head.and_then(|()| {
                if harmless && no_rule {
                    return writeln!(out, "allow: it has no effect beyond its session");
                }
                print_explanation(config, &case, &explanation, out)?;
                match pending && asks_for_values(config, &explanation) {
                    true => {
                        writeln!(out, "  as it is prepared; its values count: --parameter 1=VALUE")
                    }
                    false => Ok(()),
                }
            })
        };
        if explanation.outcome.is_err() && !(harmless && no_rule) {
            code = 1;
        }
        if printed.is_err() {
            return finish(printed, 2, errors);
        }
    }
    code
}

/// Whether a rule that could decide names values of parameters.
fn asks_for_values(config: &Config, explanation: &Explanation) -> bool {
    let mut rules = config.table.rules();
    rules.any(|(id, rule)| {
        let counts = explanation.matched.contains(&id) || rule.effect == Effect::Deny;
        counts && !rule.what.parameters.is_empty()
    })
}

/// Runs all cases and prints. Returns 0: all hold; 1: one fails; 2: it could not run.
pub fn test(
    options: &Test,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let Some(config) = loaded(&options.config, source, options.json, errors) else { return 2 };
    let failed = config.failed_cases();
    let printed = print_cases(&config, &failed, options.json, out);
    finish(printed, u8::from(!failed.is_empty()), errors)
}

fn finish(printed: io::Result<()>, code: u8, errors: &mut dyn Write) -> u8 {
    match printed {
        Ok(()) => code,
        Err(error) => {
            let _ = writeln!(errors, "error: cannot write the answer: {error}");
            2
        }
    }
}

fn loaded(path: &Path, source: &dyn Source, json: bool, errors: &mut dyn Write) -> Option<Config> {
    match load(path, source) {
        Ok(config) => Some(config),
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                let _ = print_one("error", diagnostic, json, errors);
            }
            None
        }
    }
}

fn question(options: &Explain, config: &Config) -> Result<Case, String> {
    let issuer = match &options.iss {
        Some(name) => {
            let id = config.issuer_id(name);
            Some(id.ok_or_else(|| format!("no [[issuer]] is named `{name}`"))?)
        }
        None => config.only_issuer(),
    };
    let resource = config.resource_id(&options.resource).ok_or_else(|| {
        let known: Vec<&str> = config.resources.iter().map(|one| one.name.as_str()).collect();
        format!("no [[resource]] is named `{}`; known: {}", options.resource, known.join(", "))
    })?;
    let protocol = config.resources.get(resource.index()).map(|one| one.protocol);
    let sql = match &options.asked {
        Some(asked) => Some(asked.clone()),
        None => statement(options)?,
    };
    match (protocol, &sql) {
        (Some(Protocol::Postgres), None) if options.method.as_deref() == Some("connect") => {
            return Err(
                "connecting is refused where no rule could allow the caller any statement on the \
                 resource, or a rule denies it all; ask with --statement about one of them"
                    .to_owned(),
            );
        }
        (Some(Protocol::Postgres), None) => {
            let known = STATEMENTS.join(", ");
            return Err(format!("`{}` needs --statement KIND: {known}", options.resource));
        }
        (Some(Protocol::Postgres), _) | (_, None) => {}
        _ => return Err(format!("`{}` has no statements", options.resource)),
    }
    let who = CaseWho {
        issuer,
        sub: options.sub.clone(),
        groups: options.groups.iter().map(|group| group.as_str().into()).collect(),
        client_id: options.client_id.clone(),
        actors: options.actors.clone(),
        node: options.node.clone(),
        run: options.run.clone(),
        thread: options.thread.clone(),
    };
    let action = CaseAction {
        resource,
        method: options.method.clone().unwrap_or_default(),
        path: options.path.clone().unwrap_or_default(),
        model: options.model.clone(),
        unreadable: options.unreadable && sql.is_none(),
        sql,
    };
    Ok(Case { who, action, expect: Expect::Allow, rule: None })
}

/// What is asked about a statement.
fn statement(options: &Explain) -> Result<Option<CaseSql>, String> {
    let Some(kind) = &options.statement else {
        let more = options.table.is_some()
            || options.access.is_some()
            || !options.columns.is_empty()
            || !options.functions.is_empty()
            || options.missing_where
            || options.multi_statement
            || !options.parameters.is_empty();
        let fault = "--table, --access, --column, --function, --missing-where, --multi-statement and \
                     --parameter need --statement";
        return if more { Err(fault.to_owned()) } else { Ok(None) };
    };
    let known = || STATEMENTS.join(", ");
    let mut sql = CaseSql::new(kind)
        .ok_or_else(|| format!("`{kind}` is no kind of statement; known: {}", known()))?;
    if let Some(table) = &options.table {
        sql.table = Some(table.clone());
        sql.table_unreadable = false;
    }
    sql.table_unreadable |= options.unreadable;
    sql.write = match options.access.as_deref() {
        None => sql.write,
        Some("read") => false,
        Some("write") => true,
        Some(other) => return Err(format!("`{other}` is no access: read or write")),
    };
    if !options.columns.is_empty() {
        sql.columns = options.columns.iter().map(|name| name.as_str().into()).collect();
        sql.columns_unreadable = false;
    }
    if !options.functions.is_empty() {
        sql.functions = options.functions.iter().map(|name| (name.clone(), false)).collect();
        sql.functions_unreadable = false;
    }
    sql.missing_where = options.missing_where;
    sql.multi_statement = options.multi_statement;
    if !options.parameters.is_empty() {
        sql.parameters = CaseParameters::Known(values(&options.parameters)?);
    }
    Ok(Some(sql))
}

/// `1=eu-1` for each parameter.
fn values(options: &[String]) -> Result<Vec<Parameter>, String> {
    let value = |option: &String| {
        let (number, value) = option.split_once('=')?;
        let number = number.trim_start_matches('$').parse::<u16>().ok().filter(|one| *one > 0)?;
        Some((number, value.as_bytes().into()))
    };
    let read = |option| {
        value(option)
            .ok_or_else(|| format!("`{option}` is no parameter: write --parameter 1=VALUE"))
    };
    options.iter().map(read).collect()
}

fn print_explanation(
    config: &Config,
    case: &Case,
    explanation: &Explanation,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "{}", config.outcome(explanation))?;
    if let Some((masks, record, credential)) = config.obligations(explanation) {
        if !masks.is_empty() {
            writeln!(out, "  mask: {}", masks.join(", "))?;
        }
        writeln!(out, "  record: {record}")?;
        if let Some(credential) = credential {
            writeln!(out, "  credential: {credential}")?;
        }
    }
    if explanation.matched.len() > 1 {
        let names: Vec<&str> =
            explanation.matched.iter().map(|id| config.table.rule_name(*id)).collect();
        writeln!(out, "  matching rules: {}", names.join(", "))?;
    }
    let (Some(text), Some(nearest)) = (config.nearest(explanation), &explanation.nearest) else {
        return Ok(());
    };
    writeln!(out, "  {text}")?;
    let Some((_, rule)) = config.table.rules().find(|(id, _)| *id == nearest.rule) else {
        return Ok(());
    };
    let lines =
        case.lend(|who: &Who<'_>, action| config.mismatches(rule, &nearest.failed, who, action));
    for (dimension, wants, is) in lines {
        writeln!(out, "    {dimension}: the rule wants {wants}; there is {is}")?;
    }
    Ok(())
}

fn object(config: &Config, explanation: &Explanation) -> serde_json::Value {
    let name = |id| config.table.rule_name(id);
    let (decision, rule, kind) = match &explanation.outcome {
        Ok(rule) => (explanation.said().name(), Some(name(*rule)), None),
        Err(denial) => ("deny", denial.rule.map(name), Some(denial.kind.label())),
    };
    let nearest = explanation.nearest.as_ref().map(|nearest| {
        let failed: Vec<&str> = nearest.failed.iter().map(|one| one.name()).collect();
        json!({ "rule": name(nearest.rule), "failed": failed })
    });
    let owed = config.obligations(explanation).map(|(masks, record, credential)| {
        json!({ "mask": masks, "record": record, "credential": credential })
    });
    let matched: Vec<&str> = explanation.matched.iter().map(|id| name(*id)).collect();
    json!({
        "decision": decision, "rule": rule, "kind": kind, "matched": matched,
        "obligations": owed, "nearest": nearest,
    })
}

fn print_cases(
    config: &Config,
    failed: &[Diagnostic],
    json: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    for diagnostic in failed {
        print_one("failed", diagnostic, json, out)?;
    }
    let (total, failed) = (config.cases.len(), failed.len());
    if json {
        let line = json!({ "level": "summary", "cases": total, "failed": failed });
        return writeln!(out, "{line}");
    }
    match (total, failed) {
        (0, _) => writeln!(out, "there is no [[case]]: write what the policy must say beside it"),
        (_, 0) => writeln!(out, "{total} cases hold"),
        _ => writeln!(out, "{failed} of {total} cases fail"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::source::System;

    const CONFIG: &str = r#"
[[issuer]]
name = "corp"
issuer = "https://idp.example.com"
audience = ["weirgate"]
algorithms = ["ES256"]
profile = "rfc9068"
[[listener]]
name = "api"
address = "127.0.0.1:0"
protocol = "http"
[[resource]]
name = "llm"
protocol = "http"
upstream = "http://127.0.0.1:1"
shape = "openai"
[[mask]]
name = "pii"
detect = ["email"]
[[rule]]
id = "chat"
effect = "allow"
who = { iss = ["corp"], groups = ["analysts"] }
what = { resource = ["llm"], method = ["POST"], path = ["/v1/*"], model = ["gpt-*"] }
then = { mask = ["pii"] }
[[case]]
who = { groups = ["analysts"] }
what = { resource = "llm", method = "POST", path = "/v1/chat", model = "gpt-4" }
expect = "allow"
"#;

    fn with(
        text: &str,
        run: impl FnOnce(PathBuf, &mut Vec<u8>, &mut Vec<u8>) -> u8,
    ) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gw.toml");
        std::fs::write(&path, text).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = run(path, &mut out, &mut errors);
        out.append(&mut errors);
        (code, String::from_utf8(out).unwrap().replace(dir.path().to_str().unwrap(), "DIR"))
    }

    fn ask(config: PathBuf) -> Explain {
        Explain {
            config,
            sub: Some("ana".to_owned()),
            groups: vec!["analysts".to_owned()],
            resource: "llm".to_owned(),
            method: Some("POST".to_owned()),
            path: Some("/v1/chat".to_owned()),
            model: Some("gpt-4".to_owned()),
            ..Explain::default()
        }
    }

    #[test]
    fn explain_says_what_decided_and_what_it_owes() {
        let (code, text) =
            with(CONFIG, |path, out, errors| explain(&ask(path), &System, out, errors));
        assert_eq!(code, 0, "{text}");
        assert_eq!(text, "allow, rule `chat` (DIR/gw.toml:21)\n  mask: pii\n  record: full\n");
    }

    #[test]
    fn explain_says_what_kept_the_nearest_rule_from_a_match() {
        let asked = |path| Explain { model: Some("claude".to_owned()), ..ask(path) };
        let (code, text) =
            with(CONFIG, |path, out, errors| explain(&asked(path), &System, out, errors));
        assert_eq!(code, 1);
        assert_eq!(
            text,
            "deny, no rule allows it\n  \
             nearest: rule `chat` (DIR/gw.toml:21); does not fit: what.model\n    \
             what.model: the rule wants gpt-*; there is claude\n"
        );
        let (_, text) = with(CONFIG, |path, out, errors| {
            explain(&Explain { json: true, ..asked(path) }, &System, out, errors)
        });
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["decision"], "deny");
        assert_eq!(line["nearest"]["failed"], json!(["what.model"]));
    }

    /// The config with a database in the place of the model's provider.
    fn database() -> (tempfile::TempDir, Config) {
        let rules = r#"
[[rule]]
id = "reports"
effect = "allow"
who = { groups = ["analysts"] }
what = { statement = ["select"], reads = ["public.*"] }
[[rule]]
id = "purge"
effect = "allow"
who = { groups = ["analysts"] }
what = { statement = ["delete"], writes = ["public.old"], function = ["public.age"] }
[[rule]]
id = "names"
effect = "allow"
who = { groups = ["clerks"] }
what = { statement = ["select"], column = ["public.people.name"] }
"#;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gw.toml");
        let text = CONFIG.split("[[rule]]").next().unwrap().to_owned() + rules;
        std::fs::write(&path, text).unwrap();
        let mut config = load(&path, &System).unwrap();
        config.resources[0].protocol = Protocol::Postgres;
        (dir, config)
    }

    #[test]
    fn values_of_parameters_are_given_or_to_come() {
        let (_dir, mut config) = database();
        let eu = crate::policy::Pattern::new("eu-*");
        let mut rules: Vec<_> = config.table.rules().map(|(_, rule)| rule.clone()).collect();
        for rule in &mut rules {
            rule.what.parameters = vec![(1, vec![eu.clone()])];
        }
        config.table = crate::policy::Table::compile(rules, 1, 1).unwrap();
        let text = |parameters: &[&str]| {
            let options = Explain {
                groups: vec!["analysts".to_owned()],
                resource: "llm".to_owned(),
                parameters: parameters.iter().map(|one| (*one).to_owned()).collect(),
                ..Explain::default()
            };
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let query = "select a from public.orders where a = $1";
            let code = explain_text(query, &options, &config, &mut out, &mut errors);
            out.append(&mut errors);
            (code, String::from_utf8(out).unwrap())
        };
        let (code, said) = text(&[]);
        assert!(code == 0 && said.contains("as it is prepared; its values count"), "{said}");
        let (code, said) = text(&["1=eu-1"]);
        assert!(code == 0 && !said.contains("prepared"), "{said}");
        let (code, said) = text(&["$1=us-1"]);
        assert!(code == 1, "{said}");
        assert!(
            said.contains("what.parameters: the rule wants $1 = eu-*; there is $1 = us-1"),
            "{said}"
        );
        let (code, said) = text(&["eu-1"]);
        assert!(code == 2 && said.contains("`eu-1` is no parameter"), "{said}");
    }

    #[test]
    fn a_statement_is_explained_by_what_it_does() {
        let (_dir, config) = database();
        let asked = |statement: &str, table: Option<&str>| Explain {
            groups: vec!["analysts".to_owned()],
            resource: "llm".to_owned(),
            statement: Some(statement.to_owned()),
            table: table.map(str::to_owned),
            ..Explain::default()
        };
        let said = |asked: &Explain| {
            let case = question(asked, &config).unwrap();
            let explanation = case.explain(&config.table);
            let mut out = Vec::new();
            print_explanation(&config, &case, &explanation, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert!(said(&asked("select", Some("public.orders"))).starts_with("allow, rule `reports`"));
        let text = said(&Explain {
            access: Some("write".to_owned()),
            functions: vec!["public.pay".to_owned()],
            ..asked("select", Some("public.orders"))
        });
        assert!(text.contains(
            "what.reads: the rule wants public.*; there is public.orders, which is written\n    \
             what.function: the rule wants plain functions only; there is public.pay\n"
        ));
        let text = said(&asked("unknown", None));
        assert!(text.contains("what.statement: the rule wants select; there is unknown\n"));
        assert!(text.contains("what.reads: the rule wants public.*; there is unreadable\n"));
        let text = said(&asked("delete", Some("public.old")));
        assert!(text.contains("what.function: the rule wants public.age; there is none\n"));

        let columns = |columns: &[&str]| Explain {
            groups: vec!["clerks".to_owned()],
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            ..asked("select", Some("public.people"))
        };
        assert!(said(&columns(&["public.people.name"])).starts_with("allow, rule `names`"));
        let text = said(&columns(&["public.people.name", "public.people.pin"]));
        let fault = "what.column: the rule wants public.people.name; there is public.people.name, \
                     public.people.pin\n";
        assert!(text.contains(fault), "{text}");
        let text = said(&columns(&[]));
        assert!(text.contains("what.column: the rule wants public.people.name; there is none\n"));

        let fault = |asked: Explain| question(&asked, &config).unwrap_err();
        assert!(
            fault(Explain { statement: None, ..asked("", None) }).contains("needs --statement")
        );
        assert!(
            fault(asked("drop", None)).starts_with("`drop` is no kind of statement; known: se")
        );
        let access = Some("append".to_owned());
        assert!(fault(Explain { access, ..asked("select", None) }).contains("read or write"));
        let table = Explain { statement: None, ..asked("", Some("public.old")) };
        assert!(fault(table).contains("need --statement"));
    }

    #[test]
    fn a_question_about_nothing_cannot_run() {
        let asked = |path| Explain { resource: "x".to_owned(), ..ask(path) };
        let (code, text) =
            with(CONFIG, |path, out, errors| explain(&asked(path), &System, out, errors));
        assert_eq!((code, text.as_str()), (2, "error: no [[resource]] is named `x`; known: llm\n"));
        let asked = |path| Explain { statement: Some("select".to_owned()), ..ask(path) };
        let (code, text) =
            with(CONFIG, |path, out, errors| explain(&asked(path), &System, out, errors));
        assert_eq!((code, text.as_str()), (2, "error: `llm` has no statements\n"));
    }

    #[test]
    fn test_names_the_case_that_fails() {
        let run = |text: &str| {
            with(text, |config, out, errors| {
                test(&Test { config, json: false }, &System, out, errors)
            })
        };
        assert_eq!(run(CONFIG), (0, "1 cases hold\n".to_owned()));
        let (code, text) = run(&CONFIG.replace("model = \"gpt-4\"", "model = \"o9\""));
        assert_eq!(code, 1);
        assert!(text.starts_with("DIR/gw.toml:26: failed: the case expects allow"), "{text}");
        assert!(text.contains("does not fit: what.model") && text.ends_with("1 of 1 cases fail\n"));
        assert_eq!(run(&CONFIG.replace("\"llm\"", "\"\"")).0, 2);
    }
}
