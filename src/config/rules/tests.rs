//! Rules and cases about statements, on resources of all protocols.
//!
//! The resources are read as http and tcp ones and made databases afterwards: how a database is
//! written in a config is not the question here.

use super::*;
use crate::config::report::File;
use crate::config::{Config, CredentialKind, Protocol, SecretFrom, SecretRef, Source, load};
use std::io;
use std::path::Path;
use toml::de::DeTable;

const BASE: &str = r#"
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
[[credential]]
name = "bearer"
kind = "bearer"
secret = "env:KEY"
[[credential]]
name = "writer"
kind = "none"
[[credential]]
name = "none"
kind = "none"
[[resource]]
name = "llm"
protocol = "http"
upstream = "http://127.0.0.1:1"
[[resource]]
name = "orders"
protocol = "http"
upstream = "http://127.0.0.1:2"
[[resource]]
name = "raw"
protocol = "tcp"
upstream = "tcp://127.0.0.1:3"
[[mask]]
name = "pii"
detect = ["email"]
"#;

struct Base;

impl Source for Base {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(BASE.as_bytes().to_vec())
    }
    fn exists(&self, _: &Path) -> bool {
        true
    }
    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }
    fn env(&self, _: &str) -> Option<String> {
        None
    }
}

fn base() -> Config {
    let mut config = load(Path::new("gw.toml"), &Base).unwrap();
    let orders = config.resource_id("orders").unwrap();
    config.resources.get_mut(orders.index()).unwrap().protocol = Protocol::Postgres;
    let writer = config.credential_id("writer").unwrap();
    let secret = SecretRef {
        from: SecretFrom::Env("WRITER".to_owned()),
        place: Place { file: "gw.toml".into(), line: 1 },
    };
    config.credentials.get_mut(writer.index()).unwrap().kind =
        CredentialKind::Password { user: "writer".to_owned(), secret, role: None };
    config
}

/// The errors of `text`, and the cases that do not hold when there are none.
fn errors(text: &str) -> Vec<String> {
    let config = base();
    let file = File { path: "policy.toml".into(), text: text.to_owned() };
    let (document, faults) = DeTable::parse_recoverable(&file.text);
    assert!(faults.is_empty(), "{faults:?}");
    let mut report = Report::default();
    let mut root = Section::new(&file, "the file", 0, document.get_ref());
    let mut rules = root.tables("rule", &mut report);
    let sections = root.tables("case", &mut report);
    let rule_names = Names::read("rule", "id", &mut rules, &mut report);
    let spot = root.spot();
    let mut named = |kind, names: Vec<&str>| {
        let mut all = Names::new(kind);
        for name in names {
            all.add(name, spot, &mut report);
        }
        all
    };
    let resource_names =
        named("resource", config.resources.iter().map(|one| one.name.as_str()).collect());
    let mask_names = named("mask", config.masks.iter().map(|one| one.name.as_str()).collect());
    let credential_names =
        named("credential", config.credentials.iter().map(|one| one.name.as_str()).collect());
    let resources: Vec<Option<Resource>> = config.resources.iter().cloned().map(Some).collect();
    let around = Around {
        token_issuers: &config.token_issuers,
        certificate_issuers: &[],
        resource_names: &resource_names,
        resources: &resources,
        mask_names: &mask_names,
        credential_names: &credential_names,
        credentials: &config.credentials,
        people: true,
    };
    let (table, _) = table(rules, &rule_names, &around, &mut report);
    let cases = cases(sections, &rule_names, &around, &mut report);
    if !report.errors.is_empty() {
        return report.errors.iter().map(ToString::to_string).collect();
    }
    let cases: Vec<_> = cases.into_iter().map(|(case, _)| case).collect();
    let failed = table.run(&cases);
    failed.iter().map(|failure| format!("case {} does not hold", failure.case)).collect()
}

#[test]
fn cases_about_statements_hold() {
    let text = r#"
[[rule]]
id = "reads"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = ["orders"], statement = ["select", "copy_out"], reads = ["public.*"] }
[[rule]]
id = "writes"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = ["orders"], statement = ["insert", "delete"], writes = ["public.orders"] }
then = { credential = "writer" }
[[rule]]
id = "large-objects"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = "orders", statement = ["select"], reads = ["public.*"], function = ["lo_*"] }
[[rule]]
id = "names"
effect = "allow"
who = { groups = ["clerks"] }
what = { statement = ["select"], table = ["public.people"], column = ["*.id", "public.people.n*"] }
[[rule]]
id = "no-pins"
effect = "deny"
who = { groups = ["clerks"] }
what = { column = ["*.pin"] }
[[rule]]
id = "anything"
effect = "allow"
who = { groups = ["dba"] }
what = { resource = "orders", statement = ["*", "unknown"] }
[[rule]]
id = "not-every-row"
effect = "deny"
what = { statement = ["update", "delete", "unknown"], where = "missing" }
"#;
    let cases = [
        ("analysts", r#"statement = "select", table = "public.orders""#, "allow", "reads"),
        ("analysts", r#"statement = "copy_out", table = "public.orders""#, "allow", "reads"),
        ("analysts", r#"statement = "select", table = "secret.cards""#, "deny", ""),
        (
            "analysts",
            r#"statement = "select", table = "public.orders", access = "write""#,
            "deny",
            "",
        ),
        ("analysts", r#"statement = "select""#, "deny", ""),
        ("analysts", r#"statement = "select", unreadable = ["table"]"#, "deny", ""),
        ("analysts", r#"statement = "insert", table = "public.orders""#, "allow", "writes"),
        ("analysts", r#"statement = "delete", table = "public.orders""#, "allow", "writes"),
        (
            "analysts",
            r#"statement = "delete", table = "public.orders", access = "read""#,
            "deny",
            "",
        ),
        (
            "analysts",
            r#"statement = "delete", table = "public.orders", where = "missing""#,
            "deny",
            "not-every-row",
        ),
        (
            "analysts",
            r#"statement = "select", table = "public.a", function = ["lo_get"]"#,
            "allow",
            "large-objects",
        ),
        (
            "analysts",
            r#"statement = "select", table = "public.a", function = ["lo_get", "pg_sleep"]"#,
            "deny",
            "",
        ),
        (
            "analysts",
            r#"statement = "select", table = "public.a", unreadable = ["function"]"#,
            "deny",
            "",
        ),
        (
            "clerks",
            r#"statement = "select", table = "public.people", column = ["public.people.name"]"#,
            "allow",
            "names",
        ),
        (
            "clerks",
            r#"statement = "select", table = "public.people", column = ["public.people.id", "public.people.age"]"#,
            "deny",
            "",
        ),
        (
            "clerks",
            r#"statement = "select", table = "public.people", column = ["public.people.id", "public.people.pin"]"#,
            "deny",
            "no-pins",
        ),
        ("clerks", r#"statement = "select", table = "public.people""#, "deny", ""),
        (
            "clerks",
            r#"statement = "select", table = "public.people", unreadable = ["column"]"#,
            "deny",
            "no-pins",
        ),
        ("dba", r#"statement = "ddl", table = "public.orders""#, "allow", "anything"),
        ("dba", r#"statement = "unknown""#, "deny", "not-every-row"),
    ];
    let mut policy = text.to_owned();
    for (group, what, expect, rule) in cases {
        policy += &format!(
            "[[case]]\nwho = {{ groups = [\"{group}\"] }}\n\
             what = {{ resource = \"orders\", {what} }}\nexpect = \"{expect}\"\n"
        );
        if !rule.is_empty() {
            policy += &format!("rule = \"{rule}\"\n");
        }
    }
    assert_eq!(errors(&policy), Vec::<String>::new());
    // Each expectation is one that could fail.
    let turned = policy.replace("expect = \"allow\"", "expect = \"\"");
    let turned = turned.replace("expect = \"deny\"", "expect = \"allow\"");
    let turned = turned.replace("expect = \"\"", "expect = \"deny\"");
    assert_eq!(errors(&turned).len(), cases.len());
}

#[test]
fn what_a_protocol_does_not_have_or_keep_is_refused() {
    let none: &[&str] = &[];
    let rule = |effect: &str, body: &str| {
        format!("[[rule]]\nid = \"r\"\neffect = \"{effect}\"\nwho = {{}}\n{body}\n")
    };
    let case = |what: &str| format!("[[case]]\nwhat = {{ {what} }}\nexpect = \"deny\"\n");
    for (text, expected) in [
        (
            rule("deny", "what = { resource = [\"orders\"], path = [\"/x\"] }"),
            &["rule `r`: `orders` has no `path`\n    it speaks postgres: leave"][..],
        ),
        (
            rule("deny", "what = { resource = [\"orders\", \"raw\"], statement = [\"ddl\"] }"),
            &["rule `r`: `raw` has no `statement`\n    it speaks tcp: leave"],
        ),
        (rule("deny", "what = { statement = [\"ddl\"] }"), none),
        (rule("deny", "what = { resource = [\"*\"], where = \"missing\" }"), none),
        // Masks.
        (rule("allow", "what = { resource = [\"orders\"] }\nthen = { mask = [\"pii\"] }"), none),
        (rule("allow", "what = { statement = [\"select\"] }\nthen = { mask = [\"pii\"] }"), none),
        (
            rule("allow", "then = { mask = [\"pii\"] }"),
            &["rule `r`: `mask` cannot be enforced on the tcp resource `raw`"],
        ),
        (rule("allow", "what = { path = [\"/x\"] }\nthen = { mask = [\"pii\"] }"), none),
        // Credentials.
        (
            rule("allow", "what = { resource = [\"orders\"] }\nthen = { credential = \"writer\" }"),
            none,
        ),
        (
            rule("allow", "what = { statement = [\"ddl\"] }\nthen = { credential = \"writer\" }"),
            none,
        ),
        (
            rule("allow", "what = { resource = [\"orders\"] }\nthen = { credential = \"none\" }"),
            &["rule `r`: `credential` must be of kind `password` on the postgres resource"],
        ),
        (
            rule("allow", "then = { credential = \"bearer\" }"),
            &["rule `r`: `credential` must be of kind `password` on the postgres resource"],
        ),
        (
            rule("allow", "what = { resource = [\"llm\"] }\nthen = { credential = \"writer\" }"),
            &["rule `r`: `credential` of kind `password` has no place on the http resource `llm`"],
        ),
        (rule("allow", "what = { path = [\"*\"] }\nthen = { credential = \"bearer\" }"), none),
        // Cases.
        (case("resource = \"orders\""), &["needs `statement`"]),
        (
            case("resource = \"orders\", statement = \"select\", method = \"GET\""),
            &["the case asks for `method`, which `orders` does not have\n    it speaks postgres"],
        ),
        (
            case("resource = \"orders\", statement = \"select\", unreadable = [\"model\"]"),
            &["the case asks for `model`, which `orders` does not have"],
        ),
        (
            case("resource = \"orders\", statement = \"select\", column = [\"public.a.b\"]"),
            &["`public.a.b` matches no column\n    a case names columns of its `table`"],
        ),
        (
            case("resource = \"llm\", unreadable = [\"table\"]"),
            &["the case asks for `table`, which `llm` does not have\n    it speaks http"],
        ),
    ] {
        let found = errors(&text);
        let all = found.len() == expected.len();
        let each = expected.iter().zip(&found).all(|(part, error)| error.contains(part));
        assert!(all && each, "{text}\n{found:#?}");
    }
}

#[test]
fn what_a_caller_only_says_may_narrow_and_nothing_else() {
    let rule = |effect: &str, who: &str, body: &str| {
        format!("[[rule]]\nid = \"r\"\neffect = \"{effect}\"\nwho = {{ {who} }}\n{body}\n")
    };
    let none: &[&str] = &[];
    let llm = "what = { resource = [\"llm\"] }\n";
    for (text, expected) in [
        (rule("deny", "node = [\"tool:*\"]", ""), none),
        (rule("allow", "run = [\"*\"]", &format!("{llm}then = {{ mask = [\"pii\"] }}")), none),
        (
            rule("allow", "thread = [\"t\"]", llm),
            &[
                "rule `r` would do nothing\n    `node`, `run` and `thread` are what the caller only says",
            ][..],
        ),
        (
            rule("allow", "node = [\"x\"]", &format!("{llm}then = {{ credential = \"bearer\" }}")),
            &["which the caller only asserts, and gives a credential by it"],
        ),
        (
            rule("deny", "node = [\"x\"]", "what = { resource = [\"raw\"] }"),
            &["rule `r`: nobody says node, run or thread on `raw`"],
        ),
        (rule("deny", "node = []", ""), &["`node` is an empty list"]),
    ] {
        let found = errors(&text);
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}\n{expected}");
        }
    }
    let case = |node: &str, expect: &str| {
        format!(
            "[[case]]\nwho = {{ node = \"{node}\" }}\nwhat = {{ resource = \"llm\" }}\n\
             expect = \"{expect}\"\n"
        )
    };
    let rules = rule("deny", "node = [\"tool:*\"]", "")
        + "[[rule]]\nid = \"all\"\neffect = \"allow\"\nwho = {}\n";
    let held = format!("{rules}{}{}", case("tool:rm", "deny"), case("plan", "allow"));
    assert_eq!(errors(&held), Vec::<String>::new());
    let broken = format!("{rules}{}{}", case("tool:rm", "allow"), case("plan", "deny"));
    assert_eq!(errors(&broken).len(), 2);
}

#[test]
fn values_of_parameters_and_texts_of_several_statements_are_rules_and_cases() {
    let none: &[&str] = &[];
    let rule = |effect: &str, what: &str| {
        format!(
            "[[rule]]\nid = \"r\"\neffect = \"{effect}\"\nwho = {{}}\n\
             what = {{ resource = [\"orders\"], {what} }}\n"
        )
    };
    for (what, expected) in [
        (r#"parameters = { "1" = ["eu-*", "ch"], "12" = "x" }"#, none),
        ("multi_statement = true", none),
        ("multi_statement = false", &["`multi_statement = false` says nothing"][..]),
        ("multi_statement = \"yes\"", &["must be true or false"]),
        ("parameters = {}", &["`parameters` names none"]),
        ("parameters = [\"eu-*\"]", &["`parameters` must be a table"]),
        (r#"parameters = { "0" = ["x"] }"#, &["`0` is no number of a parameter"]),
        (r#"parameters = { "01" = ["x"] }"#, &["`01` is no number of a parameter"]),
        (r#"parameters = { "$1" = ["x"] }"#, &["`$1` is no number of a parameter"]),
        (r#"parameters = { "65536" = ["x"] }"#, &["`65536` is no number of a parameter"]),
        (r#"parameters = { "1" = [] }"#, &["`parameters` says nothing of $1", "an empty list"]),
        (r#"parameters = { "1" = [1] }"#, &["`1` must be a list of strings"]),
        (
            r#"path = ["/x"], parameters = { "1" = ["x"] }"#,
            &["has no `path`", "would match nothing"],
        ),
    ] {
        let found = errors(&rule("deny", what));
        let each = expected.iter().all(|part| found.iter().any(|error| error.contains(part)));
        assert!(found.len() == expected.len() && each, "{what}\n{found:#?}");
    }
    let bound = r#"parameters = { "1" = ["x"] }"#;
    let found = errors(&(rule("allow", bound) + "then = { credential = \"writer\" }\n"));
    assert!(
        found.len() == 1 && found.concat().contains("before its values are known"),
        "{found:#?}"
    );
    let case = |what: &str, expect: &str| {
        format!("[[case]]\nwhat = {{ resource = \"orders\", {what} }}\nexpect = \"{expect}\"\n")
    };
    let rules = rule("allow", r#"parameters = { "2" = ["eu-*"] }"#)
        + &rule("deny", "multi_statement = true").replace("\"r\"", "\"one\"");
    let held = [
        (r#"statement = "select""#, "deny"),
        (r#"statement = "select", parameters = { "2" = "eu-1" }"#, "allow"),
        (r#"statement = "select", parameters = { "1" = "eu-1" }"#, "deny"),
        (r#"statement = "select", parameters = { "2" = "us-1" }"#, "deny"),
        (r#"statement = "select", unreadable = ["parameters"]"#, "deny"),
        (r#"statement = "select", multi_statement = true, parameters = { "2" = "eu-1" }"#, "deny"),
    ];
    let cases = |turn: bool| -> String {
        let turned = |expect| if turn == (expect == "allow") { "deny" } else { "allow" };
        held.iter().map(|(what, expect)| case(what, turned(*expect))).collect()
    };
    assert_eq!(errors(&format!("{rules}{}", cases(false))), Vec::<String>::new());
    assert_eq!(errors(&format!("{rules}{}", cases(true))).len(), held.len());
    for (what, expected) in [
        (r#"statement = "select", parameters = { "1" = ["a", "b"] }"#, "$1 of a case is one value"),
        (r#"parameters = { "1" = "a" }"#, "`parameters` needs `statement`"),
    ] {
        let found = errors(&case(what, "deny"));
        assert!(found.iter().any(|error| error.contains(expected)), "{what}\n{found:#?}");
    }
    let http =
        "[[case]]\nwhat = { resource = \"llm\", multi_statement = true }\nexpect = \"deny\"\n";
    assert!(errors(http).iter().any(|error| error.contains("the case asks for `multi_statement`")));
}
