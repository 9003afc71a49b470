//! A folder with everything that a gateway needs, removed with the test.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use tempfile::TempDir;
use weirgate::cli::source::System;
use weirgate::config::{self, Config};
use weirgate::gateway::{Gateway, SharedSource};
use weirgate::identity::dev::{DevClaims, DevKey};

const ISSUER: &str = "https://issuer.test.invalid";

/// What the upstream must hear instead of the caller's token.
pub(crate) const KEY: &str = "the-upstream-key";

/// Config, keys and record of one gateway.
pub(crate) struct Home {
    dir: TempDir,
    rings: TempDir,
    issuer: DevKey,
}

/// Readers may read `plain` and, without personal data, `masked`. `/plain/closed` is nobody's.
pub(crate) const POLICY: &str = r#"
[[rule]]
id = "readers"
effect = "allow"
who = { groups = ["readers"] }
what = { resource = ["plain"] }

[[rule]]
id = "readers-masked"
effect = "allow"
who = { groups = ["readers"] }
what = { resource = ["masked"] }
then = { mask = ["pii"] }

[[rule]]
id = "closed"
effect = "deny"
what = { resource = ["plain"], path = ["/closed*"] }
"#;

impl Home {
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let rings = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        let home = Self {
            dir: TempDir::new().unwrap(),
            rings: rings.unwrap(),
            issuer: DevKey::generate().unwrap(),
        };
        home.write("jwks.json", &home.issuer.jwks());
        home.write("upstream.key", KEY);
        home.write("policy.toml", POLICY);
        home
    }

    /// The issuer has another key from here on, and its key set no other.
    pub(crate) fn rotate(&mut self) {
        self.issuer = DevKey::generate().unwrap();
        self.write("jwks.json", &self.issuer.jwks());
    }

    /// Writes the config: one plain listener `api`, and what `more` says.
    pub(crate) fn configure(&self, upstream: SocketAddr, more: &str) {
        let (data, rings) = (self.data(), self.rings.path().to_owned());
        self.configure_at(upstream, &data, &rings, more);
    }

    /// The same, with the record elsewhere.
    pub(crate) fn configure_at(&self, to: SocketAddr, data: &Path, rings: &Path, more: &str) {
        let resource = |name: &str| {
            format!(
                "[[resource]]\nname = \"{name}\"\nprotocol = \"http\"\nupstream = \"http://{to}\"\n\
                 credential = {{ kind = \"bearer\", secret = \"file:upstream.key\" }}\n"
            )
        };
        let text = format!(
            "include = [\"policy.toml\"]\n\
             [gateway]\nworkers = 2\ndata_dir = \"{}\"\nring_dir = \"{}\"\n\
             [[issuer]]\nname = \"dev\"\nissuer = \"{ISSUER}\"\naudience = [\"weirgate\"]\n\
             algorithms = [\"EdDSA\"]\nprofile = \"rfc9068\"\njwks_file = \"jwks.json\"\n\
             [[listener]]\nname = \"api\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
             {}{}\
             [[mask]]\nname = \"pii\"\ndetect = [\"email\"]\nfields = [\"$..ssn\"]\n{more}",
            data.display(),
            rings.display(),
            resource("plain"),
            resource("masked"),
        );
        self.write("gateway.toml", &text);
    }

    /// The config as it is, less the place of the rings.
    pub(crate) fn leave_rings_to_the_gateway(&self) {
        let text = fs::read_to_string(self.config()).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("ring_dir")).collect();
        self.write("gateway.toml", &lines.join("\n"));
    }

    /// A file in the home that only its owner reads, replaced whole as an operator's tools do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let (path, beside) = (self.path(name), self.path("beside.new"));
        fs::write(&beside, text).unwrap();
        fs::set_permissions(&beside, Permissions::from_mode(0o600)).unwrap();
        fs::rename(beside, path).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("gateway.toml")
    }

    pub(crate) fn load(&self) -> Config {
        config::load(&self.config(), &System).unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    pub(crate) fn start(&self) -> Gateway {
        self.start_from(Arc::new(System))
    }

    /// The same, with files and environment from elsewhere.
    pub(crate) fn start_from(&self, source: SharedSource) -> Gateway {
        Gateway::start(self.load(), source).unwrap_or_else(|error| panic!("{error}"))
    }

    /// A token of a subject that is one of the readers.
    pub(crate) fn reader(&self, subject: &str) -> String {
        self.token(subject, &["readers"])
    }

    pub(crate) fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.issuer.mint(&DevClaims {
            issuer: ISSUER.to_owned(),
            subject: subject.to_owned(),
            audience: vec!["weirgate".to_owned()],
            client_id: "tests".to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            actors: Vec::new(),
            issued_s: weirgate::runtime::now().wall_s(),
            lifetime_s: 3_600,
        })
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirgate"));
        command.args(arguments).current_dir(self.dir.path()).output().unwrap()
    }

    /// `sessions show` of one request, a JSON object a line.
    #[track_caller]
    pub(crate) fn show(&self, data: &Path, id: &str) -> Vec<serde_json::Value> {
        let output =
            self.run(&["sessions", "show", id, "--json", "--data", data.to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `weirgate verify` says that the record is whole.
    #[track_caller]
    pub(crate) fn verify(&self, data: &Path) {
        let output = self.run(&["verify", data.to_str().unwrap()]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{out}\n{errors}");
    }
}
