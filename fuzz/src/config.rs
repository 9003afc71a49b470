//! Configs: any text compiles or says what is wrong with file and line; what compiles decides as
//! it explains, and permits nothing without an allow rule.
//!
//! What stands behind a line `# policy.toml` is another file that the main one may include.

use super::token;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use weirgate::base::ResourceId;
use weirgate::config::{self, Config, Source};
use weirgate::identity::dev::DevKey;
use weirgate::identity::{Principal, Verifier};
use weirgate::policy::{
    Action, Asserted, Attr, Columns, Decision, Effect, Functions, Parameters, STATEMENTS, Sql,
    SqlFunction,
};

struct Memory<'a> {
    main: &'a [u8],
    policy: Option<&'a [u8]>,
}

impl Source for Memory<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match (path.file_name().and_then(|name| name.to_str()), self.policy) {
            (Some("main.toml"), _) => Ok(self.main.to_vec()),
            (Some("policy.toml"), Some(policy)) => Ok(policy.to_vec()),
            (Some("jwks.json"), _) => Ok(token::key().jwks().into_bytes()),
            (Some(name), _) if name.ends_with(".key") => Ok(b"a secret of 24 bytes\n".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        path.extension().is_some_and(|extension| extension != "none")
    }

    fn mode(&self, _path: &Path) -> Option<u32> {
        Some(0o600)
    }

    fn env(&self, name: &str) -> Option<String> {
        (name != "NONE").then(|| "a secret of the environment".to_owned())
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    const MARK: &[u8] = b"\n# policy.toml\n";
    let mark = data.windows(MARK.len()).position(|part| part == MARK);
    let source = match mark.map(|at| data.split_at(at)) {
        Some((main, policy)) => Memory { main, policy: Some(policy) },
        None => Memory { main: data, policy: None },
    };
    match config::load(Path::new("main.toml"), &source) {
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "refused without a reason");
            for one in diagnostics {
                assert!(one.line >= 1 && !one.message.is_empty());
                let file = if one.file.ends_with("policy.toml") {
                    source.policy.unwrap_or_default()
                } else {
                    source.main
                };
                let lines = file.split(|byte| *byte == b'\n').count();
                assert!(one.line as usize <= lines + 1, "{one}");
            }
        }
        Ok(config) => check(&config, &source),
    }
}

fn check(config: &Config, source: &dyn Source) {
    let _ = config.failed_cases();
    let _ = config.resolve_secrets(source);
    let allows = config.table.rules().any(|(_, rule)| rule.effect == Effect::Allow);
    let row = config.table.row(principal());
    for place in 0..config.resources.len().min(4) {
        let Ok(place) = u16::try_from(place) else { return };
        let resource = ResourceId(place);
        let decided = |action: &Action<'_>| {
            let explained = config.table.explain_principal(principal(), action);
            match config.table.decide(&row, action) {
                Decision::Permit(grant) => {
                    assert!(allows, "permitted without an allow rule");
                    assert!(config.table.could_match(&row, action.resource));
                    assert!(
                        action.sql.is_none() || config.table.could_match_sql(&row, action.resource)
                    );
                    assert_eq!(explained.outcome, Ok(grant.rule()));
                    assert!(explained.matched.contains(&grant.rule()));
                    let told = explained.obligations.expect("a permit has obligations");
                    assert_eq!(told.masks, grant.masks());
                    assert_eq!(told.credential, grant.credential());
                    assert_eq!(told.record, grant.record());
                }
                Decision::Deny(denial) => assert_eq!(explained.outcome, Err(denial)),
                _ => {}
            }
        };
        for (method, path) in [("POST", "/v1/chat/completions"), ("GET", "/"), ("PUT", "/a/b")] {
            for model in [Attr::Absent, Attr::Unreadable, Attr::Value(b"gpt-4")] {
                let (method, path) = (method.as_bytes(), path.as_bytes());
                decided(&Action {
                    resource,
                    method,
                    path,
                    model,
                    sql: None,
                    asserted: Asserted::NONE,
                });
            }
        }
        for statement in STATEMENTS {
            for (table, write) in [
                (Attr::Absent, false),
                (Attr::Unreadable, true),
                (Attr::Value(b"public.orders"), false),
                (Attr::Value(b"secret.cards"), true),
            ] {
                let calls = [SqlFunction { name: b"lo_get", plain: write }];
                let calls: &[SqlFunction<'_>] = if place % 2 == 0 { &[] } else { &calls };
                let (statement, functions) = (statement.as_bytes(), Functions::Known(calls));
                let named = [Box::from("public.orders.id")];
                let columns = if write { Columns::Unreadable } else { Columns::Known(&named) };
                let read = [(1, Box::from(&b"eu-1"[..]))];
                let parameters = match place % 3 {
                    0 => Parameters::Pending,
                    1 => Parameters::Known { count: 2, read: &read },
                    _ => Parameters::NONE,
                };
                let sql = Sql {
                    statement,
                    table,
                    write,
                    columns,
                    parents: &[],
                    functions,
                    missing_where: write,
                    multi_statement: write,
                    parameters,
                };
                decided(&statement_on(resource, sql));
            }
        }
        decided(&statement_on(resource, Sql::UNREADABLE));
    }
}

fn statement_on(resource: ResourceId, sql: Sql<'_>) -> Action<'_> {
    Action {
        resource,
        method: b"",
        path: b"",
        model: Attr::Absent,
        sql: Some(sql),
        asserted: Asserted::NONE,
    }
}

fn principal() -> &'static Principal {
    static ONE: OnceLock<Principal> = OnceLock::new();
    ONE.get_or_init(|| {
        let key = token::key();
        let claims = format!(
            r#"{{"iss":"{}","sub":"ana","aud":"weirgate","client_id":"chat-app","iat":{},"exp":{},
            "jti":"1","groups":["analysts","staff"],"act":{{"sub":"agent-1"}}}}"#,
            token::ISSUER,
            token::NOW_S - 10,
            token::NOW_S + 60
        );
        let token = key
            .sign(&format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key.kid()), &claims);
        let verifier = Verifier::new(vec![DevKey::rules("corp", token::ISSUER, "weirgate")]);
        verifier.verify(token.as_bytes(), &key.snapshot(1), token::now()).expect("a sound token")
    })
}
