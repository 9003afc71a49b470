//! Does a config compile, and does a broken one say what is wrong and where?

mod databases;

use super::broken::BROKEN;
use super::load::load_with;
use super::report::Report;
use super::*;
use crate::base::{CredentialId, Limits, ResourceId};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Files and variables in memory.
#[derive(Default)]
struct Memory {
    files: BTreeMap<PathBuf, Vec<u8>>,
    modes: BTreeMap<PathBuf, u32>,
    variables: BTreeMap<String, String>,
}

impl Memory {
    fn with(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.as_bytes().to_vec());
        self
    }
}

impl Source for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(path).cloned();
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.contains_key(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        self.modes.get(path).copied()
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

const REFERENCE: &str = include_str!("../../config/reference.toml");

fn reference() -> Memory {
    let pem = ["ca.pem", "cert.pem"];
    pem.iter().fold(Memory::default().with("reference.toml", REFERENCE), |memory, name| {
        memory.with(name, "")
    })
}

const GOOD: &str = r#"[[issuer]]
name = "corp"
issuer = "https://idp.example.com"
audience = ["weirgate"]
algorithms = ["ES256"]
profile = "rfc9068"

[[issuer]]
name = "mesh"
kind = "x509"
ca = "ca.pem"

[[listener]]
name = "api"
address = "127.0.0.1:8080"
protocol = "http"

[[credential]]
name = "key"
kind = "bearer"
secret = "env:KEY"

[[resource]]
name = "llm"
protocol = "http"
upstream = "https://api.example.com/v1"
shape = "openai"
credential = "key"

[[resource]]
name = "raw"
protocol = "tcp"
upstream = "tcp://127.0.0.1:7000"

[[resource]]
name = "wiki"
protocol = "http"
upstream = "http://127.0.0.1:80/wiki"

[[mask]]
name = "pii"
detect = ["email"]

[[rule]]
id = "chat"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = ["llm"], path = ["/chat"], model = ["gpt-*"] }
then = { mask = ["pii"] }

[[case]]
who = { groups = ["analysts"] }
what = { resource = "llm", path = "/chat", model = "gpt-4" }
expect = "allow"
"#;

fn check(text: &str) -> Result<Config, Vec<Diagnostic>> {
    let source = Memory::default().with("dir/gw.toml", text).with("dir/ca.pem", "");
    load(Path::new("dir/gw.toml"), &source)
}

fn line_of(text: &str, part: &str) -> u32 {
    let found = text.lines().position(|line| line.contains(part));
    u32::try_from(found.unwrap() + 1).unwrap()
}

#[test]
fn the_reference_config_compiles_and_its_cases_hold() {
    let config = load(Path::new("reference.toml"), &reference()).unwrap();
    assert_eq!(config.limits, Limits::default(), "the reference shows the defaults");
    assert!(
        config
            .warnings
            .iter()
            .all(|one| one.message.contains("insecure") || one.message.is_empty())
    );
    let cases: Vec<_> = config.cases.iter().map(|(case, _)| case.clone()).collect();
    assert_eq!(config.table.run(&cases), []);
    assert_eq!(config.table.len(), 14);
    let openai = &config.resources[config.resource_id("openai").unwrap().index()];
    assert_eq!(openai.limits, Limits { body_max: 32 << 20, ..Limits::default() });
    assert_eq!(openai.tls.as_ref().unwrap().server_name, "api.openai.com");
    assert_eq!(config.gateway.data_dir, Path::new("data"));
}

#[test]
fn the_reference_config_names_every_key() {
    let mut report = Report::default();
    load_with(Path::new("reference.toml"), &reference(), &mut report).unwrap();
    assert!(report.asked.len() > 100);
    for (section, key) in report.asked {
        // What this build refuses is not offered.
        let refused = ["approval", "when"];
        if refused.contains(&key) {
            continue;
        }
        let named = REFERENCE.lines().any(|line| {
            let line = line.trim_start_matches("# ");
            line.starts_with(&format!("{key} ="))
                || line.contains(&format!("{{ {key} ="))
                || line.contains(&format!(", {key} ="))
                || line.starts_with(&format!("[{key}]"))
                || line.starts_with(&format!("[[{key}]]"))
                || line.starts_with(&format!("[resource.{key}]"))
        });
        assert!(named, "config/reference.toml does not name `{key}` of {section}");
    }
}

#[test]
fn a_config_is_typed_owned_and_by_id() {
    let config = check(GOOD).unwrap();
    assert_eq!(config.warnings, []);
    assert_eq!(config.issuer_id("corp"), config.issuer_id("https://idp.example.com"));
    assert_eq!(config.issuer_id("mesh").unwrap().index(), 1);
    assert_eq!(config.issuer_name(config.issuer_id("mesh").unwrap()), "mesh");
    assert_eq!(config.verifier().rules().len(), 1);
    let llm = &config.resources[0];
    assert_eq!(llm.upstream.host, "api.example.com");
    assert_eq!((llm.upstream.port, llm.upstream.base_path.as_str()), (443, "/v1"));
    assert_eq!(llm.upstream.authority, "api.example.com");
    assert_eq!(llm.credential, CredentialId(0));
    assert!(llm.tls.is_some());
    let wiki = &config.resources[2];
    assert_eq!(wiki.upstream.authority, "127.0.0.1", "the scheme's own port is left out");
    assert_eq!(config.credentials[wiki.credential.index()].kind, CredentialKind::None);
    assert_eq!(config.listeners[0].resource, None::<ResourceId>);
    assert_eq!(config.certificate_issuers[0].ca, Path::new("dir/ca.pem"));
    assert_eq!(config.gateway.data_dir, Path::new("dir/data"));
    assert_eq!(config.rule_places[0].1.line, line_of(GOOD, "id = \"chat\""));
}

#[test]
fn a_broken_config_says_what_is_wrong_and_where() {
    broken(GOOD, BROKEN);
}

/// Makes each change to a good config, and looks for what must be said then.
fn broken(good: &str, changes: &[(&str, &str, &str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (from, to, at, message, help) in changes {
        assert!(good.contains(from), "`{from}` is not in the good config");
        let text = good.replacen(from, to, 1);
        let errors = check(&text).expect_err(&format!("accepted: {to}"));
        let at = text
            .lines()
            .enumerate()
            .filter(|(_, line)| line.contains(at))
            .map(|(place, _)| u32::try_from(place + 1).unwrap());
        let at: Vec<u32> = at.collect();
        let found = errors.iter().any(|error| {
            error.message.contains(message)
                && error.help.contains(help)
                && error.file == Path::new("dir/gw.toml")
                && at.contains(&error.line)
        });
        if !found {
            wrong.push(format!("{to}\nexpected {at:?}: {message} / {help}\nfound {errors:#?}"));
        }
        assert!(errors.iter().all(|error| !error.to_string().contains("sk-1234")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_rule_may_name_the_model_of_any_http_resource() {
    // Sessions read it out of any JSON body, whatever the resource's shape.
    assert!(check(&GOOD.replace("resource = [\"llm\"]", "resource = [\"wiki\", \"llm\"]")).is_ok());
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_file() {
    let text = GOOD
        .replace("profile = \"rfc9068\"", "profile = \"x\"")
        .replace("upstream = \"tcp://127.0.0.1:7000\"", "upstream = \"tcp://\"")
        .replace("expect = \"allow\"", "expect = \"x\"");
    let lines: Vec<u32> = check(&text).unwrap_err().iter().map(|error| error.line).collect();
    assert_eq!(
        lines,
        [
            line_of(&text, "profile = \"x\""),
            line_of(&text, "upstream = \"tcp://\""),
            line_of(&text, "expect = \"x\"")
        ]
    );
}

#[test]
fn included_files_join_and_are_named_in_errors() {
    let split = GOOD.find("[[rule]]").unwrap();
    let (main, policy) = GOOD.split_at(split);
    let main = format!("include = [\"p/policy.toml\"]\n{main}");
    let source = |policy: &str| {
        Memory::default()
            .with("dir/gw.toml", &main)
            .with("dir/p/policy.toml", policy)
            .with("dir/ca.pem", "")
    };
    let config = load(Path::new("dir/gw.toml"), &source(policy)).unwrap();
    assert_eq!(config.files.len(), 2);
    assert_eq!(config.table.len(), 1);
    let broken = format!("include = [\"x\"]\n{policy}\nextra = 1\n");
    let errors = load(Path::new("dir/gw.toml"), &source(&broken)).unwrap_err();
    assert!(errors.iter().all(|error| error.file == Path::new("dir/p/policy.toml")));
    assert_eq!(errors[0].line, 1);
    assert!(errors[0].message.contains("an included file includes"));
    let errors = load(Path::new("dir/none.toml"), &source(policy)).unwrap_err();
    assert_eq!(errors[0].to_string().lines().next(), Some("dir/none.toml:1: no such file"));
}

#[test]
fn a_sign_in_fits_its_issuer_and_its_secret_is_opened_with_the_others() {
    let admin = "[admin]\naddress = \"127.0.0.1:1\"\nissuer = \"corp\"\n\
        public_url = \"https://gw.example.com/ops/\"\nsign_in = { client_id = \"page\", TOKEN }\n\
        [[issuer]]\nname = \"corp\"";
    let text =
        |token: &str| GOOD.replace("[[issuer]]\nname = \"corp\"", &admin.replace("TOKEN", token));
    let config = check(&text("client_secret = \"env:PAGE\"")).unwrap();
    let settings = config.admin.as_ref().unwrap().sign_in.clone().unwrap();
    assert_eq!((settings.client_id.as_str(), settings.scope.as_str()), ("page", "openid"));
    assert_eq!(settings.token, SignInToken::Access);
    let mut source = Memory::default();
    source.variables.insert("KEY".to_owned(), "sk-12345678".to_owned());
    let errors = config.resolve_secrets(&source).unwrap_err();
    assert!(errors[0].message.contains("the variable PAGE is not set"), "{errors:?}");
    source.variables.insert("PAGE".to_owned(), "a secret \u{e9}".to_owned());
    let secrets = config.resolve_secrets(&source).unwrap();
    assert_eq!(secrets.sign_in().unwrap().expose(), "a secret \u{e9}".as_bytes());
    // By its ID token whoever the issuer knows; by its access token where that is one.
    let id_tokens = |text: String| text.replace("\"rfc9068\"", "\"id_token\"");
    assert!(check(&id_tokens(text("token = \"id\""))).is_ok());
    let clients = |text: String| {
        text.replace("profile = \"rfc9068\"", "profile = \"rfc9068\"\nclients = [\"app\"]")
    };
    assert!(check(&clients(text("token = \"id\""))).is_ok());
    for (text, says) in [
        (id_tokens(text("token = \"access\"")), "are no access tokens of people"),
        (clients(text("token = \"access\"")), "`page` is not among `clients`"),
    ] {
        let errors = check(&text).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].message.contains(says), "{errors:?}");
        assert_eq!(errors[0].line, line_of(&text, "sign_in"));
    }
}

#[test]
fn secrets_open_only_when_they_are_fit() {
    let text = GOOD.replace("secret = \"env:KEY\"", "secret = \"file:key\"").replace(
        "detect = [\"email\"]",
        "detect = [\"email\"]\noperator = { email = \"hash\" }\nkey = \"env:MASK\"",
    );
    let config = check(&text).unwrap();
    let source = |key: &str, mode: u32, mask: &str| {
        let mut memory = Memory::default().with("dir/key", key);
        memory.modes.insert("dir/key".into(), mode);
        memory.variables.insert("MASK".to_owned(), mask.to_owned());
        memory
    };
    let good = config.resolve_secrets(&source("sk-12345678\n", 0o600, "mask-key")).unwrap();
    assert_eq!(good.credential(CredentialId(0)).unwrap().expose(), b"sk-12345678");
    assert_eq!(good.masks()[0].key.expose(), b"mask-key");
    assert!(good.admin_token().is_none());
    for (source, says) in [
        (source("sk-12345678", 0o640, "mask-key"), "is open to others"),
        (source("sk-1234\r\n", 0o600, "mask-key"), "holds 7 bytes"),
        (source("sk-1234\n5678", 0o600, "mask-key"), "cannot be in a header"),
        (source("sk-12345678", 0o600, "m"), "holds 1 bytes"),
        (Memory::default(), "no such file"),
    ] {
        let errors = config.resolve_secrets(&source).unwrap_err();
        let all = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(all.contains(says), "{says}: {all}");
        assert!(!all.contains("sk-1234"), "{all}");
        let lines = [line_of(&text, "file:key"), line_of(&text, "env:MASK")];
        assert!(errors.iter().all(|error| lines.contains(&error.line)));
    }
    let errors = config.resolve_secrets(&Memory::default()).unwrap_err();
    assert_eq!(errors.len(), 2, "all at once");
}

#[test]
fn keys_of_webhooks_open_only_when_they_are_long_enough() {
    let hook = "[[webhook]]\nname = \"chat\"\nurl = \"env:URL\"\nsecret = \"env:HOOK\"\n\
        previous_secret = \"env:OLD\"\n[[rule]]";
    let text = GOOD.replacen("[[rule]]", hook, 1);
    let config = check(&text).unwrap();
    assert_eq!(config.webhooks[0].events.len(), 7, "all but `voted` and `reviewed`");
    assert!(config.webhooks[0].covers("llm", "chat"));
    let source = |url: &str, key: &str, old: &str| {
        let mut memory = Memory::default();
        for (name, value) in [("KEY", "sk-12345678"), ("URL", url), ("HOOK", key), ("OLD", old)] {
            memory.variables.insert(name.to_owned(), value.to_owned());
        }
        memory
    };
    let long = "k".repeat(KEY_LEN_MIN);
    let encoded = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let secrets = config.resolve_secrets(&source("https://x/a?sig=b", encoded, &long)).unwrap();
    let found = &secrets.webhooks()[0];
    assert_eq!(found.keys[0].expose(), (0..32).collect::<Vec<u8>>(), "decoded");
    assert_eq!(found.keys[1].expose(), long.as_bytes());
    for (source, says) in [
        (source("https://x/a", &long[1..], &long), "a key of 31 bytes"),
        (source("https://x/a", &long, "whsec_AAECAwQFBgcICQoLDA0ODw=="), "a key of 16 bytes"),
        (
            source("https://x/a", "whsec_no base64 at all, however long it may be", &long),
            "no base64",
        ),
        (source("http://chat.example.com/sk-1234", &long, &long), "in plain text beyond loopback"),
        (source("https://u:sk-1234@x/a", &long, &long), "holds a user or a password"),
        (source("https://x/a#sk-1234", &long, &long), "has a query or a fragment"),
    ] {
        let errors = config.resolve_secrets(&source).unwrap_err();
        let all = errors.iter().map(ToString::to_string).collect::<String>();
        assert!(all.contains(says) && errors.len() == 1, "{says}: {all}");
        assert!(!all.contains("sk-1234"), "{all}");
    }
}

#[test]
fn no_input_makes_it_panic() {
    // Each good config cut at every byte, and with every byte turned into another.
    let bytes = GOOD.as_bytes();
    for place in (0..bytes.len()).step_by(7) {
        let cut = String::from_utf8_lossy(&bytes[..place]).into_owned();
        let _ = check(&cut);
        let mut turned = bytes.to_vec();
        for with in [b'"', b']', b'\n', b'0', b'='] {
            turned[place] = with;
            let _ = check(&String::from_utf8_lossy(&turned));
        }
    }
}
