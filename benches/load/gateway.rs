//! The gateway as a subject: its two configurations, bare and everything on.

use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::args::Args;
use crate::counted;
use crate::drive::Target;
use crate::material::{ISSUER, Material};
use crate::process::{Running, free_ports};
use crate::upstream::Addresses;

/// Rules of the policy with everything on.
const RULES: usize = 1_000;
/// What is kept of the record: minutes of full record are tens of gigabytes. The oldest segments
/// go while the load runs, as they would in service, and the drain is charged for it.
const RETAIN: &str = "1GiB";

/// Starts `weirgate serve` with a configuration of its own; `full` is everything on. With `counts`
/// it is this program as a gateway that counts its allocations, and tells them on that socket.
///
/// # Errors
/// A file that cannot be written, or a process that cannot be started.
pub(crate) fn start(
    args: &Args,
    full: bool,
    relays: bool,
    counts: Option<&Path>,
    material: &Material,
    upstream: &Addresses,
) -> Outcome<(Running, Target)> {
    let name = match (full, counts) {
        (false, None) => "weirgate-bare",
        (true, None) => "weirgate-full",
        (false, Some(_)) => "weirgate-bare-counted",
        (true, Some(_)) => "weirgate-full-counted",
    };
    let directory = tempfile::Builder::new().prefix(name).tempdir_in(material.directory())?;
    let ring = tempfile::Builder::new().prefix("weirgate-bench-").tempdir_in("/dev/shm")?;
    let [admin, plain, tls, echo, source, sink] = free_ports::<6>()?;
    let file = |name: &str| material.path(name).display().to_string();

    let mut text = format!(
        r#"include = ["policy.toml"]

[gateway]
workers = 1
data_dir = "data"
ring_dir = "{ring}"

[admin]
address = "{admin}"

[record]
retain = {{ bytes = "{RETAIN}" }}

# The memory rows hold thousands of streams, and are read after a while.
[limits]
# All callers are at one address.
address_handshakes_max = 1000000
address_handshakes_burst = 1000000
address_handshakes_per_s = 1000000
upstream_connections_max = 8192
idle_ms = 120000
answer_idle_ms = 120000
drain_ms = 1000

[[issuer]]
name = "bench"
issuer = "{ISSUER}"
audience = ["weirgate"]
algorithms = ["EdDSA"]
profile = "rfc9068"
groups_claim = "groups"
jwks_file = "{jwks}"

[[credential]]
name = "key"
kind = "bearer"
secret = "file:{key}"

[[listener]]
name = "plain"
address = "{plain}"
protocol = "http"

[[listener]]
name = "tls"
address = "{tls}"
protocol = "http"
resource = "bench-tls"
tls = {{ cert = "{cert}", key = "{cert_key}" }}

[[resource]]
name = "bench"
protocol = "http"
upstream = "http://{http}"
shape = "openai"
credential = "key"

[[resource]]
name = "bench-tls"
protocol = "http"
upstream = "https://localhost:{https_port}"
shape = "openai"
credential = "key"
tls = {{ ca = "{ca}", server_name = "localhost" }}
"#,
        ring = ring.path().display(),
        jwks = file("jwks.json"),
        key = file("upstream.key"),
        cert = file("server.crt"),
        cert_key = file("server.key"),
        ca = file("ca.pem"),
        http = upstream.http,
        https_port = upstream.https.port(),
    );
    if relays {
        let ca = file("ca.pem");
        write!(text, "\n[[issuer]]\nname = \"callers\"\nkind = \"x509\"\nca = \"{ca}\"\n")?;
        for (name, address, target) in [
            ("echo", echo, upstream.echo),
            ("source", source, upstream.source),
            ("sink", sink, upstream.sink),
        ] {
            write!(
                text,
                "\n[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\nprotocol = \"tcp\"\n\
                 resource = \"{name}\"\n\
                 tls = {{ cert = \"{cert}\", key = \"{key}\", client_ca = \"{ca}\" }}\n\
                 \n[[resource]]\nname = \"{name}\"\nprotocol = \"tcp\"\nupstream = \"tcp://{target}\"\n\
                 credential = {{ kind = \"none\" }}\n",
                cert = file("server.crt"),
                key = file("server.key"),
            )?;
        }
    }
    if full {
        text.push_str(
            "\n[[mask]]\nname = \"pii\"\n\
             detect = [\"email\", \"pan\", \"iban\", \"us_ssn\", \"secrets\"]\n\
             fields = [\"$..ssn\"]\noperator = { default = \"redact\" }\n",
        );
    }
    let config = directory.path().join("gateway.toml");
    fs::write(&config, text)?;
    fs::write(directory.path().join("policy.toml"), policy(full, relays))?;
    if let Some(keep) = &args.keep {
        fs::create_dir_all(keep)?;
        for file in ["gateway.toml", "policy.toml"] {
            fs::copy(directory.path().join(file), keep.join(format!("{name}-{file}")))?;
        }
    }
    let log = match &args.keep {
        Some(keep) => keep.join(format!("{name}.log")),
        None => directory.path().join("log"),
    };
    let mut program = args.weirgate.clone();
    let mut arguments: Vec<&OsStr> = Vec::new();
    let traces = args.origins.to_string();
    if let Some(socket) = counts {
        program = std::env::current_exe()?;
        arguments.extend([counted::FLAG.as_ref(), socket.as_os_str(), traces.as_ref()]);
    }
    arguments.extend(["serve".as_ref(), "-c".as_ref(), config.as_os_str()]);
    let process = Running::start(program, arguments, args.proxy_core, log, vec![directory, ring])?;
    let target = Target::new(
        [plain, tls],
        relays.then_some([echo, source, sink]),
        &material.token,
        material,
    );
    Ok((process, target))
}

/// One rule, or a thousand of which a few speak of this caller.
fn policy(full: bool, relays: bool) -> String {
    let mut text = String::new();
    let mut rule = |id: &str, effect: &str, who: &str, what: &str, then: &str| {
        let then = if then.is_empty() { String::new() } else { format!("then = {{ {then} }}\n") };
        let _ = write!(
            text,
            "[[rule]]\nid = \"{id}\"\neffect = \"{effect}\"\nwho = {{ {who} }}\nwhat = {{ {what} }}\n{then}\n"
        );
    };
    let resources = "resource = [\"bench\", \"bench-tls\"]";
    let here = format!("{resources}, method = [\"POST\"], path = [\"*/v1/*\"]");
    let record = if full { "record = \"full\"" } else { "record = \"meta\"" };
    if full {
        let what = format!("{here}, model = [\"gpt-4o*\", \"gpt-5*\"]");
        rule(
            "agents-chat",
            "allow",
            "groups = [\"agents\"]",
            &what,
            "mask = [\"pii\"], record = \"full\"",
        );
    } else {
        rule("agents-chat", "allow", "groups = [\"agents\"]", &here, record);
    }
    if relays {
        let what = "resource = [\"echo\", \"source\", \"sink\"]";
        rule("relays", "allow", "sub = [\"spiffe://bench.test/caller\"]", what, record);
    }
    if !full {
        return text;
    }
    for index in 0..RULES.saturating_sub(1) {
        let id = format!("rule-{index}");
        match index % 10 {
            // Rules of this caller's own groups that do not fit the action.
            0 => rule(
                &id,
                "deny",
                "groups = [\"analysts\"]",
                &format!("{resources}, path = [\"*/v1/files/{index}/*\"]"),
                "",
            ),
            1 => rule(
                &id,
                "deny",
                "groups = [\"agents\"]",
                &format!("{resources}, model = [\"o{index}-*\"]"),
                "",
            ),
            // A named person.
            2 => rule(&id, "allow", &format!("sub = [\"person-{index}\"]"), &here, ""),
            // Other teams.
            _ => {
                let who = format!("groups = [\"team-{}\"]", index / 3);
                let what = format!("{here}, model = [\"model-{}-*\"]", index % 50);
                rule(&id, if index % 7 == 0 { "deny" } else { "allow" }, &who, &what, "");
            }
        }
    }
    text
}
