//! The parts of the demo, started and written to one directory.

use super::Options;
use super::server::{self, DATABASE, Server, USER};
use crate::base::Secret;
use crate::cli::cert;
use crate::cli::source::System;
use crate::config;
use crate::control::stand_in::{self, StandIn};
use crate::gateway::Gateway;
use crate::identity::dev::{DevClaims, DevKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::json;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The running demo.
pub(super) struct Setup {
    pub(super) dir: PathBuf,
    pub(super) gateway: Option<Gateway>,
    pub(super) stand_in: Option<StandIn>,
    pub(super) plain: SocketAddr,
    pub(super) secure: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    pub(super) ca: PathBuf,
    pub(super) ana: String,
    pub(super) bob: String,
    /// Approves of what ana asks for.
    pub(super) lea: String,
    /// Where the gateway listens for callers of the database, where there is one.
    pub(super) database: Option<SocketAddr>,
    /// Why there is none.
    pub(super) no_database: String,
    server: Option<Server>,
}

const ISSUER: &str = "https://dev-issuer.weirgate.invalid";

impl Setup {
    pub(super) async fn start(options: &Options) -> Result<Self, String> {
        let dir = directory(options)?;
        let made = cert::make(&cert::Dev {
            dir: dir.join("certs"),
            names: Vec::new(),
            client: None,
            days: 30,
            force: false,
            json: false,
        })?;
        let issuer = DevKey::generate().map_err(|error| format!("{error:?}"))?;
        write(&dir.join("jwks.json"), issuer.jwks().as_bytes())?;
        write(&dir.join("issuer.p8"), issuer.pkcs8().expose())?;
        let (upstream, key, stand_in) = provider(options).await?;
        write(&dir.join("provider.key"), key.expose())?;
        write(&dir.join("admin.token"), random("admin-")?.expose())?;
        let (server, no_database) = database().await?;
        let (mut toml, mut policy) = (gateway_toml(&upstream, &made), POLICY.to_owned());
        if let Some(server) = &server {
            write(&dir.join("database.key"), server.secret.expose())?;
            toml.push_str(&database_toml(server.port));
            policy.push_str(DATABASE_POLICY);
        }
        write(&dir.join("gateway.toml"), toml.as_bytes())?;
        write(&dir.join("policy.toml"), policy.as_bytes())?;
        let path = dir.join("gateway.toml");
        let config = config::load(&path, &System).map_err(|errors| {
            errors.iter().map(|error| format!("{error}\n")).collect::<String>()
        })?;
        let gateway = tokio::task::spawn_blocking(move || Gateway::start(config, Arc::new(System)))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let address = |name: &str| gateway.address(name).ok_or("a listener is missing");
        let (plain, secure) = (address("api")?, address("api-tls")?);
        let token = |sub: &str, groups: &[&str]| {
            issuer.mint(&DevClaims {
                issuer: ISSUER.into(),
                subject: sub.into(),
                audience: vec!["weirgate".into()],
                client_id: "weirgate-demo".into(),
                groups: groups.iter().map(|group| (*group).to_owned()).collect(),
                actors: Vec::new(),
                issued_s: crate::runtime::now().wall_s(),
                lifetime_s: 12 * 3_600,
            })
        };
        Ok(Self {
            admin: gateway.admin_address(),
            database: gateway.address("db"),
            no_database,
            server,
            ana: token("ana", &["analysts"]),
            bob: token("bob", &["interns"]),
            lea: token("lea", &["leads"]),
            ca: made.ca,
            gateway: Some(gateway),
            stand_in,
            plain,
            secure,
            dir,
        })
    }

    /// Where the record is.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// One line for scripts.
    pub(super) fn facts(&self) -> String {
        json!({
            "gateway_url": format!("http://{}", self.plain),
            "gateway_tls_url": format!("https://localhost:{}", self.secure.port()),
            "ca": self.ca,
            "tokens": { "ana": self.ana, "bob": self.bob, "lea": self.lea },
            "stand_in_url": self.stand_in.as_ref().map(StandIn::url),
            "database_url": self.database.map(|address| format!("postgres://{address}/{DATABASE}")),
            "admin_url": self.admin.map(|address| format!("http://{address}")),
            "admin_token_file": self.dir.join("admin.token"),
            "config": self.dir.join("gateway.toml"),
            "data_dir": self.data(),
        })
        .to_string()
    }

    /// What to paste into another terminal.
    pub(super) fn print_commands(&self, options: &Options) {
        let (dir, model) = (self.dir.display(), &options.model);
        let base = format!("http://{}/openai/v1", self.plain);
        println!("\nThe gateway stays up; Ctrl-C ends it. In another terminal:\n");
        println!("export TOKEN={}\n", self.ana);
        println!("curl -N {base}/chat/completions -H \"authorization: Bearer $TOKEN\" \\");
        println!("  -H 'content-type: application/json' \\");
        println!(
            "  -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"hello\"}}]}}'\n"
        );
        println!("python3 - <<'END'    # pip install openai");
        println!("import os, openai");
        println!("client = openai.OpenAI(base_url='{base}', api_key=os.environ['TOKEN'])");
        println!(
            "print(client.chat.completions.create(model='{model}', messages=[{{'role': 'user', 'content': 'hello'}}]))"
        );
        println!("END\n");
        if let Some(database) = self.database {
            println!(
                "PGPASSWORD=$TOKEN psql 'host={} port={} dbname={DATABASE} sslmode=disable' \\",
                database.ip(),
                database.port()
            );
            println!("  -c 'select * from customers'\n");
        }
        println!("weirgate sessions list -c {dir}/gateway.toml");
        println!("weirgate policy explain -c {dir}/gateway.toml --request ID");
        println!("weirgate verify {dir}/data");
        if let Some(admin) = self.admin {
            println!("curl http://{admin}/metrics");
            println!("\nThe page, as lea, who approves (a link for two minutes, used once):\n");
            println!("WEIRGATE_TOKEN={} weirgate approvals open --admin http://{admin}", self.lea);
        }
        println!("\nOver TLS: https://localhost:{}/openai/v1 with", self.secure.port());
        println!("export SSL_CERT_FILE={}", self.ca.display());
    }

    /// Stops everything; with `remove`, also deletes the directory.
    pub(super) async fn stop(mut self, remove: bool) {
        if let Some(gateway) = self.gateway.take() {
            // The drain of the gateway must not block this thread: the stand-in runs on it.
            let _ = tokio::task::spawn_blocking(move || gateway.stop()).await;
        }
        if let Some(stand_in) = self.stand_in.take() {
            stand_in.stop().await;
        }
        if let Some(server) = self.server.take() {
            let _ = tokio::task::spawn_blocking(move || drop(server)).await;
        }
        if remove {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Where it all goes that was not told where.
pub(super) fn own_directory() -> PathBuf {
    std::env::temp_dir().join(format!("weirgate-demo-{}", std::process::id()))
}

fn directory(options: &Options) -> Result<PathBuf, String> {
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => own_directory(),
    };
    std::fs::create_dir_all(&dir)
        .and_then(|()| dir.canonicalize())
        .map_err(|error| format!("{}: {error}", dir.display()))
}

/// The upstream's address and key, and the stand-in where it is one.
async fn provider(options: &Options) -> Result<(String, Secret, Option<StandIn>), String> {
    match &options.upstream {
        Some(url) => {
            let key = std::env::var("OPENAI_API_KEY")
                .map_err(|_| "--upstream needs the provider's key in OPENAI_API_KEY")?;
            Ok((url.trim_end_matches('/').to_owned(), Secret::new(key.into_bytes()), None))
        }
        None => {
            let key = random("sk-stand-in-")?;
            let mut stand = stand_in::Options::new(key.clone());
            stand.delay = std::time::Duration::from_millis(2);
            let stand_in = StandIn::start(stand).await.map_err(|error| error.to_string())?;
            Ok((stand_in.url(), key, Some(stand_in)))
        }
    }
}

/// A database, where this machine has a server for one; else what to say of that.
async fn database() -> Result<(Option<Server>, String), String> {
    let Some(programs) = server::programs() else {
        let how = "no PostgreSQL server is on this machine, so the tour leaves databases out; \
                   `apt-get install postgresql` brings one";
        return Ok((None, how.to_owned()));
    };
    let started = tokio::task::spawn_blocking(move || Server::start(programs));
    let started = started.await.map_err(|error| error.to_string())?;
    Ok(match started {
        Ok(server) => (Some(server), String::new()),
        Err(error) => {
            (None, format!("the tour leaves databases out: no server could be started ({error})"))
        }
    })
}

pub(super) fn random(prefix: &str) -> Result<Secret, String> {
    let mut bytes = [0u8; 24];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system has no random numbers")?;
    let mut text = prefix.to_owned();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Secret::new(text.into_bytes()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn gateway_toml(upstream: &str, made: &cert::Made) -> String {
    let (cert, key) = (made.cert.display(), made.key.display());
    format!(
        r#"include = ["policy.toml"]

[gateway]
data_dir = "data"

[admin]
address = "127.0.0.1:0"
issuer = "dev"
viewers = ["leads"]
token = "file:admin.token"

[[issuer]]
name = "dev"
issuer = "{ISSUER}"
audience = ["weirgate"]
algorithms = ["EdDSA"]
profile = "rfc9068"
jwks_file = "jwks.json"

[[listener]]
name = "api"
address = "127.0.0.1:0"
protocol = "http"

[[listener]]
name = "api-tls"
address = "127.0.0.1:0"
protocol = "http"
tls = {{ cert = "{cert}", key = "{key}" }}

[[resource]]
name = "openai"
protocol = "http"
upstream = "{upstream}"
shape = "openai"
credential = {{ kind = "bearer", secret = "file:provider.key" }}

[[resource]]
name = "anthropic"
protocol = "http"
upstream = "{upstream}"
shape = "anthropic"
credential = {{ kind = "header", name = "x-api-key", secret = "file:provider.key" }}

[[mask]]
name = "pii"
detect = ["email", "pan", "iban", "us_ssn", "secrets"]
fields = ["$..ssn"]
"#
    )
}

fn database_toml(port: u16) -> String {
    format!(
        r#"
[[listener]]
name = "db"
address = "127.0.0.1:0"
protocol = "postgres"
insecure = true

[[resource]]
name = "{DATABASE}"
protocol = "postgres"
upstream = "postgres://127.0.0.1:{port}/{DATABASE}"
credential = {{ kind = "password", user = "{USER}", secret = "file:database.key" }}

[[mask]]
name = "customers"
columns = ["public.customers.email", "public.customers.card"]
operator = {{ columns = "redact" }}
"#
    )
}

const DATABASE_POLICY: &str = r#"
[[rule]]
id = "analysts-read"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = ["shop"], statement = ["select"], table = ["public.customers", "pg_catalog.*"] }
then = { mask = ["customers"] }

[[rule]]
id = "no-deletes"
effect = "deny"
what = { resource = ["shop"], statement = ["delete"] }

[[case]]
who = { sub = "ana", groups = ["analysts"] }
what = { resource = "shop", statement = "delete", table = "public.customers" }
expect = "deny"
"#;

/// The model that needs a person.
pub(super) const ASKED_MODEL: &str = "o3-pro";

const POLICY: &str = r#"# The demo's rules: analysts may chat, and see no personal data; nobody else may do anything.
# What the dearest model is asked, somebody of `leads` approves of first.

[[rule]]
id = "analysts-chat"
effect = "allow"
who = { groups = ["analysts"] }
what = { resource = ["openai", "anthropic"] }
then = { mask = ["pii"], record = "full" }

[[rule]]
id = "dear-models-need-a-lead"
effect = "require_approval"
who = { groups = ["analysts"] }
what = { resource = ["openai"], model = ["o3-pro*"] }
then = { mask = ["pii"], approval = { approvers = ["leads"], reveal = ["leads"] } }

[[rule]]
id = "no-image-models"
effect = "deny"
what = { model = ["dall-e-*", "gpt-image-*"] }

[[case]]
who = { sub = "ana", groups = ["analysts"] }
what = { resource = "openai", method = "POST", path = "/v1/chat/completions", model = "gpt-4o" }
expect = "allow"

[[case]]
who = { sub = "bob", groups = ["interns"] }
what = { resource = "openai", method = "POST", path = "/v1/chat/completions", model = "gpt-4o" }
expect = "deny"
"#;
