//! What all configurations of a gateway share: its files, the head of its configuration, its start.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::Outcome;
use crate::args::Args;
use crate::counted;
use crate::material::{ISSUER, Material};
use crate::process::Running;

/// Rules of the policy with everything on.
pub(crate) const RULES: usize = 1_000;
/// What is kept of the record: minutes of full record are tens of gigabytes. The oldest segments
/// go while the load runs, as they would in service, and the drain is charged for it.
const RETAIN: &str = "1GiB";

/// A gateway before it runs.
pub(crate) struct Site {
    name: &'static str,
    directory: tempfile::TempDir,
    ring: tempfile::TempDir,
}

impl Site {
    /// Directories of its own.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub(crate) fn make(name: &'static str, material: &Material) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix(name).tempdir_in(material.directory())?;
        let ring = tempfile::Builder::new().prefix("weirgate-bench-").tempdir_in("/dev/shm")?;
        Ok(Self { name, directory, ring })
    }

    /// The configuration up to the issuer: one worker, a record that is kept short, limits that
    /// thousands of connections from one address stay below.
    pub(crate) fn head(&self, admin: SocketAddr, material: &Material) -> String {
        format!(
            r#"include = ["policy.toml"]

[gateway]
workers = 1
data_dir = "data"
ring_dir = "{ring}"

[admin]
address = "{admin}"
issuer = "bench"

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
# The rows of held requests.
connections_max = 16384
held_max = 16384
held_caller_max = 16384
approvals_max = 16384
approvals_caller_max = 16384
hold_ms = 300000
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
"#,
            ring = self.ring.path().display(),
            jwks = material.path("jwks.json").display(),
        )
    }

    /// Starts `weirgate serve` with this configuration and policy. With `counts` it is this program
    /// as a gateway that counts its allocations, and tells them on that socket.
    ///
    /// # Errors
    /// A file that cannot be written, or a process that cannot be started.
    pub(crate) fn start(
        self,
        args: &Args,
        counts: Option<&Path>,
        text: &str,
        policy: &str,
    ) -> Outcome<Running> {
        let Self { name, directory, ring } = self;
        let config = directory.path().join("gateway.toml");
        fs::write(&config, text)?;
        fs::write(directory.path().join("policy.toml"), policy)?;
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
        Running::start(program, arguments, args.proxy_core, log, vec![directory, ring])
    }
}

/// Writes rules of a policy one after the other.
#[derive(Default)]
pub(crate) struct Policy(pub(crate) String);

impl Policy {
    /// One more rule; `then` may be empty.
    pub(crate) fn rule(&mut self, id: &str, effect: &str, who: &str, what: &str, then: &str) {
        let then = if then.is_empty() { String::new() } else { format!("then = {{ {then} }}\n") };
        self.0.push_str(&format!(
            "[[rule]]\nid = \"{id}\"\neffect = \"{effect}\"\nwho = {{ {who} }}\n\
             what = {{ {what} }}\n{then}\n"
        ));
    }
}
