//! The one server of all subjects: a cluster of its own in a temporary directory, on the load core.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{ALONE, DATABASE, PROXY, SECRET};
use crate::Outcome;
use crate::account::Account;
use crate::args::Args;
use crate::process::{Running, free_ports, pinned};

/// Where Debian keeps the programs of a server.
const DEBIAN: &str = "/usr/lib/postgresql";
/// pgbench's `-s`: a million accounts, all of which stay in shared buffers.
const SCALE: &str = "10";
/// Its own superuser, on a socket that none but its account and root reach.
const OWNER: &str = "postgres";
/// How long it may take to be there.
const READY_MAX: Duration = Duration::from_secs(20);

/// Nothing is written, so durability costs nothing; no maintenance comes in between.
const SETTINGS: [&str; 7] = [
    "shared_buffers=256MB",
    "max_connections=200",
    "fsync=off",
    "autovacuum=off",
    "jit=off",
    "logging_collector=off",
    "client_min_messages=warning",
];

/// A server that runs; dropping it ends it.
pub(crate) struct Server {
    address: SocketAddr,
    programs: PathBuf,
    account: Option<Account>,
    core: usize,
    /// Its socket is here.
    directory: PathBuf,
    process: Running,
}

impl Server {
    /// Makes a cluster, starts it and fills it.
    ///
    /// # Errors
    /// No server is installed, or one of its programs fails.
    pub(crate) async fn start(args: &Args) -> Outcome<Self> {
        let programs = programs().ok_or("no PostgreSQL is installed (scripts/bench.sh does it)")?;
        let account = Account::of_servers()?;
        // Not among the other files of the bench: those are for no other account.
        let directory = tempfile::Builder::new().prefix("weirgate-bench-postgres-").tempdir()?;
        let place = directory.path().to_owned();
        if let Some(account) = account {
            account.own(&place)?;
        }
        let data = place.join("data");
        let core = args.load_core;
        let mut command = pinned(programs.join("initdb"), core, account);
        command.arg("-D").arg(&data).args(["-U", OWNER, "-A", "trust", "-E", "UTF8", "-N"]);
        done(command.arg("--no-locale").current_dir("/"))?;
        fs::write(data.join("pg_hba.conf"), rules())?;

        let [address] = free_ports::<1>()?;
        let mut command = pinned(programs.join("postgres"), core, account);
        command.arg("-D").arg(&data).arg("-k").arg(&place).current_dir("/");
        command.args(["-p", &address.port().to_string(), "-c", "listen_addresses=127.0.0.1"]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let log = match &args.keep {
            Some(keep) => {
                fs::create_dir_all(keep)?;
                keep.join("postgres.log")
            }
            None => place.join("log"),
        };
        // A fast end: connections that PgBouncer keeps must not hold it up.
        let process = Running::spawn(command, log, vec![directory])?.ended_by("-INT");
        let server = Self { address, programs, account, core, directory: place, process };
        server.process.wait_ready(&[address], READY_MAX).await?;
        // It accepts before it serves.
        let end = Instant::now() + READY_MAX;
        while let Err(error) = server.owner("pg_isready", ["-q"]) {
            if Instant::now() > end {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.fill().map_err(|error| format!("{error}: {}", server.process.log_tail()))?;
        Ok(server)
    }

    fn fill(&self) -> Outcome<()> {
        let sql = format!(
            "create role {PROXY} login password '{SECRET}';
             create role {ALONE} login password '{SECRET}';
             create database {DATABASE}"
        );
        // Each statement by itself: a database is not made in a transaction.
        for statement in sql.split(";\n") {
            self.owner("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, OWNER])?;
        }
        self.owner("pgbench", ["-i", "-q", "-s", SCALE, DATABASE])?;
        let grant = format!("grant select on all tables in schema public to {PROXY}, {ALONE}");
        self.owner("psql", ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &grant, DATABASE])
    }

    /// Runs one of its programs as its owner.
    fn owner<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Outcome<()> {
        let mut command = pinned(self.program(program), self.core, self.account);
        command.arg("-h").arg(&self.directory);
        command.args(["-p", &self.address.port().to_string(), "-U", OWNER]);
        done(command.args(arguments).current_dir("/"))
    }

    /// Its version as it prints it.
    pub(crate) fn version(&self) -> Option<String> {
        let out = Command::new(self.program("postgres")).arg("--version").output().ok()?;
        Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whose it is.
    pub(super) fn account(&self) -> Option<Account> {
        self.account
    }

    /// The path of one of its programs. Debian's `/usr/bin/pgbench` is a script that looks for it.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}

/// `pg_hba.conf`: what each must prove.
fn rules() -> String {
    format!(
        "local all {OWNER} trust\n\
         host {DATABASE} {PROXY} 127.0.0.1/32 scram-sha-256\n\
         host {DATABASE} {ALONE} 127.0.0.1/32 password\n"
    )
}

/// Waits for a program, whose complaints are the error.
fn done(command: &mut Command) -> Outcome<()> {
    let out = command.output()?;
    if out.status.success() {
        return Ok(());
    }
    let program = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    Err(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim()).into())
}

/// The directory of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir(DEBIAN).ok().into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
        .map(|(version, path)| (version, path.join("bin")))
        .filter(|(_, bin)| has_all(bin))
        .max();
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest.map(|(_, bin)| bin).or_else(|| std::env::split_paths(&path).find(|bin| has_all(bin)))
}

fn has_all(bin: &Path) -> bool {
    ["initdb", "postgres", "pg_isready", "psql", "pgbench"]
        .iter()
        .all(|name| bin.join(name).is_file())
}
