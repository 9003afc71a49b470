//! Databases, from a config to what runs.

use super::compile::{names, server, snapshot, upstream};
use super::restart;
use crate::base::{Protocol, ResourceId};
use crate::config::{Config, Source, load};
use crate::credential::{AuthMethod, AuthMethods};
use crate::runtime::{Opening, Upstream};
use ahash::AHashMap;
use std::io;
use std::path::Path;

/// One config and one self-signed certificate, which is its own authority.
struct Memory {
    text: String,
    certificate: String,
    key: String,
}

impl Source for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("gw.toml") => Ok(self.text.clone().into()),
            Some("cert.pem") => Ok(self.certificate.clone().into()),
            Some("key.pem") => Ok(self.key.clone().into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        self.read(path).is_ok()
    }

    fn mode(&self, _: &Path) -> Option<u32> {
        None
    }

    fn env(&self, name: &str) -> Option<String> {
        (name == "PASSWORD").then(|| "dev-password".to_owned())
    }
}

const DATABASES: &str = r#"
    [[listener]]
    name = "sql"
    address = "127.0.0.1:5432"
    protocol = "postgres"
    insecure = true

    [[listener]]
    name = "sql-tls"
    address = "127.0.0.1:5433"
    protocol = "postgres"
    tls = { cert = "cert.pem", key = "key.pem" }
    resource = "orders"

    [[listener]]
    name = "api"
    address = "127.0.0.1:8443"
    protocol = "http"
    tls = { cert = "cert.pem", key = "key.pem" }

    [[credential]]
    name = "app"
    kind = "password"
    user = "app"
    role = "reader"
    secret = "env:PASSWORD"

    [[resource]]
    name = "wiki"
    protocol = "http"
    upstream = "https://wiki.internal"
    tls = { ca = "cert.pem" }

    [[resource]]
    name = "orders"
    protocol = "postgres"
    upstream = "postgres://db.internal/or%20ders"
    tls = { ca = "cert.pem" }
    auth = ["scram-sha-256", "md5"]
    credential = "app"
    limits = { sql_text_max = 4096 }

    [[resource]]
    name = "local"
    protocol = "postgres"
    upstream = "postgres://127.0.0.1/x"
    credential = "app""#;

fn made(text: &str) -> (Config, Memory) {
    let made = rcgen::generate_simple_self_signed(["db.internal".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let source = Memory { text: text.to_owned(), certificate, key };
    (load(Path::new("gw.toml"), &source).unwrap(), source)
}

fn databases() -> (Config, Memory) {
    made(DATABASES)
}

#[test]
fn a_session_sees_what_the_config_says_of_a_database() {
    let (config, source) = databases();
    let secrets = config.resolve_secrets(&source).unwrap();
    let snapshot = snapshot(&config, &secrets, 7).unwrap();
    let [wiki, orders, local] = snapshot.resources.as_slice() else { panic!("three") };
    assert_eq!((orders.protocol, orders.database.as_str()), (Protocol::Postgres, "or ders"));
    assert!(orders.auth.allows(AuthMethod::Md5) && !orders.auth.allows(AuthMethod::Cleartext));
    assert_eq!((orders.sql_text_max, local.sql_text_max), (4 << 10, 64 << 10));
    assert_eq!((orders.message_max, local.auth), (16 << 20, AuthMethods::default()));
    assert_eq!((wiki.protocol, wiki.database.as_str()), (Protocol::Http, ""));
    assert_eq!(snapshot.credentials[orders.credential.index()].name(), "app");
    let shown: Vec<_> =
        snapshot.listeners.iter().map(|one| (one.protocol, one.secure, one.resource)).collect();
    assert_eq!(
        shown,
        [
            (Protocol::Postgres, false, None),
            (Protocol::Postgres, true, Some(ResourceId(1))),
            (Protocol::Http, true, None)
        ]
    );
}

#[test]
fn a_caller_of_one_protocol_finds_no_resource_of_another() {
    let (config, source) = databases();
    let secrets = config.resolve_secrets(&source).unwrap();
    let snapshot = snapshot(&config, &secrets, 1).unwrap();
    assert_eq!(snapshot.names, AHashMap::from([("wiki".to_owned(), ResourceId(0))]));
    let databases = [("orders".to_owned(), ResourceId(1)), ("local".to_owned(), ResourceId(2))];
    assert_eq!(snapshot.databases, AHashMap::from(databases));
}

#[test]
fn tls_with_a_database_begins_in_its_own_way_and_names_its_protocol() {
    let (config, source) = databases();
    let made: Vec<Upstream> =
        config.resources.iter().map(|one| upstream(one, &source).unwrap()).collect();
    assert_eq!(
        made.iter().map(|one| one.opening).collect::<Vec<_>>(),
        [Opening::Direct, Opening::Postgres, Opening::Postgres]
    );
    let alpn = |one: &Upstream| one.tls.as_ref().map(|tls| tls.0.alpn_protocols.clone());
    assert_eq!(alpn(&made[0]), Some(vec![b"http/1.1".to_vec()]));
    assert_eq!(alpn(&made[1]), Some(vec![b"postgresql".to_vec()]));
    assert!(made[2].tls.is_none(), "plain text on loopback");
    assert_eq!((made[1].host.as_str(), made[1].port), ("db.internal", 5432));
    let shown = |place: usize| server(&config.listeners[place], &source).unwrap();
    assert!(shown(0).is_none());
    assert_eq!(shown(1).unwrap().alpn_protocols, [b"postgresql"]);
    assert_eq!(shown(2).unwrap().alpn_protocols, [b"http/1.1"]);
}

#[test]
fn names_of_databases_are_resolved() {
    let (config, _) = databases();
    assert_eq!(names(&config), ["wiki.internal", "db.internal", "127.0.0.1"]);
}

#[test]
fn a_reload_takes_over_databases_and_their_bounds_but_not_how_callers_connect() {
    let (old, _) = databases();
    let needed = |from: &str, to: &str| {
        let text = DATABASES.replacen(from, to, 1);
        assert_ne!(text, DATABASES, "{from}");
        restart::needed(&old, &made(&text).0)
    };
    for (from, to) in [
        ("db.internal/or%20ders", "other.internal:6000/x"),
        ("auth = [\"scram-sha-256\", \"md5\"]", ""),
        ("role = \"reader\"", ""),
        ("user = \"app\"", "user = \"other\""),
        ("sql_text_max = 4096", "message_max = 65536"),
        ("resource = \"orders\"", "resource = \"local\""),
        (
            "[[listener]]",
            "[limits]\nsql_text_max = 4096\nmessage_max = 65536\nsession_idle_ms = 5\n\
             token_grace_ms = 5\n[[listener]]",
        ),
    ] {
        assert_eq!(needed(from, to), [""; 0], "{to}");
    }
    let tls = "tls = { cert = \"cert.pem\", key = \"key.pem\" }";
    for (from, to, key) in [
        ("insecure = true", tls, "[[listener]] `sql` tls"),
        (
            "protocol = \"postgres\"\n    insecure = true",
            "protocol = \"http\"",
            "[[listener]] `sql` protocol",
        ),
        ("5432", "5434", "[[listener]] `sql` address"),
    ] {
        assert_eq!(needed(from, to), [key]);
    }
}
