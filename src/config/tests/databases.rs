//! Databases: what a config says of them, and what it is told when that cannot be.

use super::{Memory, broken, check};
use crate::base::{CredentialId, Limits, ResourceId};
use crate::config::{CredentialKind, Protocol, SecretFrom};
use crate::credential::{AuthMethod, AuthMethods};
use std::path::Path;

const GOOD: &str = r#"[[issuer]]
name = "mesh"
kind = "x509"
ca = "ca.pem"

[[listener]]
name = "sql"
address = "0.0.0.0:5432"
protocol = "postgres"
tls = { cert = "ca.pem", key = "key.pem", client_ca = "ca.pem" }

[[listener]]
name = "pinned"
address = "127.0.0.1:5433"
protocol = "postgres"
tls = { cert = "ca.pem", key = "key.pem" }
resource = "orders"

[[listener]]
name = "api"
address = "127.0.0.1:8080"
protocol = "http"

[[credential]]
name = "app"
kind = "password"
user = "app"
role = "reader"
secret = "env:PASSWORD"

[[credential]]
name = "key"
kind = "bearer"
secret = "env:KEY"

[[resource]]
name = "orders"
protocol = "postgres"
upstream = "postgres://db.internal/orders"
tls = { ca = "ca.pem" }
credential = "app"

[[resource]]
name = "local"
protocol = "postgres"
upstream = "postgresql://[::1]:6000/caf%C3%A9"
credential = { kind = "password", user = "dev", secret = "file:dev.password" }

[[resource]]
name = "wiki"
protocol = "http"
upstream = "https://wiki.example.com"
credential = "key"
"#;

/// As in the other table: what is replaced by what, the line, message and help.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &str, &str, &str)] = &[
    // Listeners.
    ("tls = { cert = \"ca.pem\", key = \"key.pem\", client_ca = \"ca.pem\" }", "", "0.0.0.0", "listener `sql` would take tokens in plain text beyond loopback", "write `tls = {"),
    ("tls = { cert = \"ca.pem\", key = \"key.pem\", client_ca = \"ca.pem\" }", "insecure = true", "0.0.0.0", "listener `sql` would take tokens in plain text beyond loopback", "`insecure` does not allow it"),
    ("tls = { cert = \"ca.pem\", key = \"key.pem\" }", "", "127.0.0.1:5433", "listener `pinned` would take tokens in plain text", "or `insecure = true`"),
    ("tls = { cert = \"ca.pem\", key = \"key.pem\" }", "insecure = false", "127.0.0.1:5433", "listener `pinned` would take tokens in plain text", "or `insecure = true`"),
    ("client_ca = \"ca.pem\"", "client_ca = \"gw.toml\"", "gw.toml", "no [[issuer]] vouches", "kind = \"x509\""),
    ("resource = \"orders\"", "resource = \"wiki\"", "resource = \"wiki\"", "`wiki` does not speak what this listener speaks", "protocol"),
    ("protocol = \"http\"", "protocol = \"http\"\nresource = \"orders\"", "resource = \"orders\"", "`orders` does not speak what this listener speaks", "protocol"),
    ("resource = \"orders\"", "hosts = [\"gw.example.com\"]", "hosts", "a postgres listener has no `hosts`", "only http"),
    ("resource = \"orders\"", "sslmode = \"require\"", "sslmode", "unknown key `sslmode` in [[listener]]", "known:"),
    ("protocol = \"postgres\"", "protocol = \"postgresql\"", "postgresql", "`postgresql` is no protocol", "did you mean `postgres`"),
    // Where a database is.
    ("postgres://db.internal/orders", "postgres://db.internal", "postgres://db.internal\"", "the upstream of `orders` names no database", "postgres://HOST:PORT/DATABASE"),
    ("postgres://db.internal/orders", "postgres://db.internal/orders/", "orders/\"", "has a second `/`", "percent-encoded"),
    ("postgres://db.internal/orders", "postgres://db.internal/%zz", "%zz", "not UTF-8, percent-encoded", "postgres://HOST"),
    ("postgres://db.internal/orders", "postgres://app:sk-1234@db.internal/orders", "sk-1234", "holds a user or a password", "kind = \"password\", user = "),
    ("postgres://db.internal/orders", "postgres://app:sk/1234@db.internal/orders", "sk/1234", "holds a user or a password", "`%40`"),
    ("postgres://db.internal/orders", "postgres://db.internal/orders?sslmode=require", "sslmode", "has a query or a fragment", "write `tls = {}`"),
    ("postgres://db.internal/orders", "postgres://db.internal/orders#a", "orders#a", "has a query or a fragment", "`%23`"),
    ("postgres://db.internal/orders", "postgres://%2Frun%2Fpg/orders", "%2Frun", "has no host name", "postgres://HOST"),
    ("postgres://db.internal/orders", "https://db.internal/orders", "https://db", "has a scheme of another protocol", "postgres://HOST"),
    ("https://wiki.example.com", "postgres://wiki.example.com/a", "postgres://wiki", "has a scheme of another protocol", "https://HOST"),
    ("tls = { ca = \"ca.pem\" }", "", "postgres://db", "the upstream of `orders` would be in plain text beyond loopback", "use `tls = {}`"),
    ("tls = { ca = \"ca.pem\" }", "tls = { ca = \"ca.pem\", verify = false }", "verify", "unknown key `verify` in `tls`", "known: ca, server_name"),
    // How it asks for the password.
    ("tls = { ca = \"ca.pem\" }", "insecure = true\nauth = [\"cleartext\"]", "auth", "the password of `orders` would be sent in plain text", "leave `cleartext` out"),
    ("tls = { ca = \"ca.pem\" }", "tls = {}\nauth = [\"trust\"]", "trust", "`trust` is no `auth` method", "known: scram-sha-256, md5, cleartext"),
    ("tls = { ca = \"ca.pem\" }", "tls = {}\nauth = [\"scram-sha-256-plus\"]", "plus", "channel binding is not chosen by name", "write `scram-sha-256`"),
    ("tls = { ca = \"ca.pem\" }", "tls = {}\nauth = []", "auth", "`auth` is an empty list", "leave `auth` out"),
    ("credential = \"key\"", "auth = [\"md5\"]", "auth", "resource `wiki` speaks http and has no `auth`", "leave it out"),
    // Its credential.
    ("credential = \"app\"", "", "[[resource]]", "resource `orders` needs `credential`", "kind = \"password\""),
    ("credential = \"app\"", "credential = { kind = \"none\" }", "\"none\"", "takes a credential of kind `password` only", "kind = \"password\""),
    ("credential = \"app\"", "credential = \"key\"", "credential = \"key\"", "takes a credential of kind `password` only", "kind = \"password\""),
    ("credential = \"key\"", "credential = \"app\"", "credential = \"app\"", "an http resource has no place for a credential of kind `password`", "bearer"),
    ("user = \"app\"", "", "[[credential]]", "[[credential]] needs `user`", "user = ..."),
    ("user = \"app\"", "user = \"\"", "user = \"\"", "`user` is no name of a database user", "63 bytes"),
    ("user = \"app\"", "user = \"a\\u0000b\"", "u0000", "`user` is no name of a database user", "control"),
    ("role = \"reader\"", "role = \"None\"", "None", "`none` is no role", "leave `role` out"),
    ("role = \"reader\"", "role = \"a234567890123456789012345678901234567890123456789012345678901234\"", "role", "`role` is no name of a database user", "63 bytes"),
    ("role = \"reader\"", "roles = \"reader\"", "roles", "unknown key `roles` in [[credential]]", "did you mean `role`"),
    ("secret = \"env:PASSWORD\"", "password = \"sk-1234\"", "password = ", "unknown key `password`", ""),
    ("secret = \"env:KEY\"", "secret = \"env:KEY\"\nrole = \"reader\"", "role = \"reader\"", "unknown key `role`", ""),
    // What it has no place for, and its bounds.
    ("credential = \"app\"", "credential = \"app\"\nshape = \"plain\"", "shape", "a postgres resource has no shape", "leave `shape` out"),
    ("credential = \"app\"", "credential = \"app\"\nlimits = { body_max = 5 }", "body_max", "`body_max` cannot be set for one resource that speaks postgres", "sql_text_max, message_max"),
    ("credential = \"app\"", "credential = \"app\"\nlimits = { session_idle_ms = 5 }", "session_idle_ms", "`session_idle_ms` cannot be set for one resource", "[limits]"),
    ("credential = \"app\"", "credential = \"app\"\nlimits = { sql_text_max = 5 }", "sql_text_max", "`sql_text_max` is out of range", "from 64"),
    ("credential = \"app\"", "credential = \"app\"\nlimits = { sql_text_max = 4096, message_max = 2048 }", "limits", "`sql_text_max` (4096) is above `message_max` (2048)", "lower"),
    ("credential = \"key\"", "limits = { sql_text_max = 4096 }", "sql_text_max", "`sql_text_max` cannot be set for one resource that speaks http", "such a resource has body_max"),
    ("[[issuer]]", "[limits]\nmessage_max = 4096\n[[issuer]]", "message_max", "`sql_text_max` (65536) is above `message_max` (4096)", "raise"),
];

#[test]
fn a_database_is_typed_by_id_and_by_its_name() {
    let config = check(GOOD).unwrap();
    assert_eq!(config.warnings, []);
    let [sql, pinned, _] = config.listeners.as_slice() else { panic!("three") };
    assert_eq!((sql.protocol, sql.resource), (Protocol::Postgres, None));
    assert_eq!(sql.tls.as_ref().unwrap().client_ca.as_deref(), Some(Path::new("dir/ca.pem")));
    assert_eq!(pinned.resource, Some(ResourceId(0)));
    assert!(!sql.insecure && !pinned.insecure);
    let [orders, local, wiki] = config.resources.as_slice() else { panic!("three") };
    assert_eq!(orders.protocol, Protocol::Postgres);
    assert_eq!((orders.upstream.host.as_str(), orders.upstream.port), ("db.internal", 5432));
    assert_eq!(orders.upstream.authority, "db.internal");
    assert_eq!(orders.database, "orders");
    assert_eq!(orders.tls.as_ref().unwrap().server_name, "db.internal");
    assert_eq!(orders.auth, AuthMethods::NONE.with(AuthMethod::ScramSha256));
    assert_eq!(orders.credential, CredentialId(0));
    assert_eq!(orders.limits, Limits::default());
    assert_eq!((local.upstream.host.as_str(), local.upstream.port), ("::1", 6000));
    assert_eq!(local.upstream.authority, "[::1]:6000");
    assert_eq!((local.database.as_str(), &local.tls), ("caf\u{e9}", &None));
    assert_eq!(wiki.database, "");
    let CredentialKind::Password { user, secret, role } = &config.credentials[0].kind else {
        panic!("{:?}", config.credentials)
    };
    assert_eq!((user.as_str(), role.as_deref()), ("app", Some("reader")));
    assert_eq!(secret.from, SecretFrom::Env("PASSWORD".to_owned()));
    let inline = &config.credentials[local.credential.index()];
    assert_eq!(inline.name, "local.credential");
    assert!(matches!(&inline.kind, CredentialKind::Password { role: None, .. }));
}

#[test]
fn what_may_be_asked_for_is_taken_and_warned_of() {
    let tls = "tls = { cert = \"ca.pem\", key = \"key.pem\" }";
    let config = check(&GOOD.replace(tls, "insecure = true")).unwrap();
    assert!(config.listeners[1].insecure && config.listeners[1].tls.is_none());
    let said: Vec<&str> = config.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(said, ["listener `pinned` takes tokens in plain text"]);

    let config = check(&GOOD.replace(tls, &format!("{tls}\ninsecure = true"))).unwrap();
    assert_eq!(config.warnings[0].message, "`insecure` changes nothing for listener `pinned`");

    let ca = "tls = { ca = \"ca.pem\" }";
    let config = check(&GOOD.replace(ca, "insecure = true\nauth = \"md5\"")).unwrap();
    let orders = &config.resources[0];
    assert_eq!((&orders.tls, orders.auth), (&None, AuthMethods::NONE.with(AuthMethod::Md5)));
    let said = &config.warnings[0].message;
    assert_eq!(said, "the upstream of `orders` is in plain text beyond loopback");

    let config = check(&GOOD.replace(ca, &format!("{ca}\ninsecure = true"))).unwrap();
    assert!(config.resources[0].tls.is_some(), "verified all the same");
    let said = &config.warnings[0].message;
    assert_eq!(said, "`insecure` changes nothing for the upstream of `orders`");
}

#[test]
fn a_password_in_clear_text_needs_tls_or_loopback() {
    let every = "auth = [\"scram-sha-256\", \"md5\", \"cleartext\", \"md5\"]";
    let all = AuthMethod::ALL.into_iter().fold(AuthMethods::NONE, AuthMethods::with);
    let over_tls = GOOD.replace("credential = \"app\"", &format!("credential = \"app\"\n{every}"));
    assert_eq!(check(&over_tls).unwrap().resources[0].auth, all);
    let inline = "credential = { kind";
    let loopback = GOOD.replace(inline, &format!("{every}\n{inline}"));
    assert_eq!(check(&loopback).unwrap().resources[1].auth, all);
}

#[test]
fn a_broken_database_says_what_is_wrong_and_where() {
    broken(GOOD, BROKEN);
}

#[test]
fn one_mistake_in_a_credential_is_one_error() {
    // What refers to it is not told that it has the wrong kind.
    let errors = check(&GOOD.replace("kind = \"password\"\nuser", "kind = \"pasword\"\nuser"));
    let errors = errors.unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].help.contains("did you mean `password`"), "{errors:#?}");
}

#[test]
fn bounds_of_one_database_go_over_those_of_the_gateway() {
    let text = format!(
        "[limits]\nmessage_max = 4194304\n{}",
        GOOD.replace("\"app\"\n\n[[res", "\"app\"\nlimits = { sql_text_max = 4096 }\n\n[[res")
    );
    let config = check(&text).unwrap();
    let [orders, local, _] = config.resources.as_slice() else { panic!("three") };
    assert_eq!((orders.limits.sql_text_max, orders.limits.message_max), (4 << 10, 4 << 20));
    assert_eq!((local.limits.sql_text_max, local.limits.message_max), (64 << 10, 4 << 20));
}

#[test]
fn a_password_has_no_zero_byte_and_may_be_any_text() {
    let config = check(GOOD).unwrap();
    let source = |password: &str| {
        let mut memory = Memory::default().with("dir/dev.password", password);
        memory.variables.insert("PASSWORD".to_owned(), "p\u{e4}ssw\u{f6}rter\n".to_owned());
        memory.variables.insert("KEY".to_owned(), "12345678".to_owned());
        memory
    };
    let secrets = config.resolve_secrets(&source("dev-password\n")).unwrap();
    let secret = |place: usize| secrets.credential(config.resources[place].credential).unwrap();
    assert_eq!(secret(0).expose(), "p\u{e4}ssw\u{f6}rter\n".as_bytes());
    assert_eq!(secret(1).expose(), b"dev-password");
    let errors = config.resolve_secrets(&source("dev\0password")).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("holds a zero byte"), "{errors:?}");
    assert!(!errors[0].to_string().contains("dev\0"), "{errors:?}");
}
