//! A PostgreSQL server of the demo's own, where the machine has the programs of one.
//!
//! It listens on loopback, lets nobody in without a password, keeps its data in a folder that only
//! its account can read, and is gone with the demo: [`Server`] stops and removes it when it is
//! dropped, and [`Watch`] does where the demo is killed. It is a process group of its own, so that Ctrl-C on the terminal ends the demo and not
//! the server under it.

use super::setup::random;
use super::watch::Watch;
use crate::base::Secret;
use crate::control::database::{Database, Target, Times};
use crate::credential::{AuthMethods, OperatorLogin};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The running server.
pub(super) struct Server {
    programs: PathBuf,
    account: Option<(u32, u32)>,
    place: PathBuf,
    child: Child,
    watch: Option<Watch>,
    pub(super) port: u16,
    /// The password of [`USER`].
    pub(super) secret: Secret,
}

/// Whom the gateway logs in as.
pub(super) const USER: &str = "app";
/// The database, and the resource.
pub(super) const DATABASE: &str = "shop";
/// Somebody who is in it.
pub(super) const EMAIL: &str = "carla@example.com";

/// The newest server's programs on this machine.
pub(super) fn programs() -> Option<PathBuf> {
    let has_all = |bin: &PathBuf| {
        ["initdb", "postgres", "pg_ctl"].iter().all(|name| bin.join(name).is_file())
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<(u32, PathBuf)> = packaged
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| has_all(bin))
        .collect();
    packaged.sort();
    std::env::split_paths(&path).find(has_all).or_else(|| packaged.pop().map(|(_, bin)| bin))
}

impl Server {
    /// Makes a cluster with a table of personal data, and starts it.
    pub(super) fn start(programs: PathBuf) -> Result<Self, String> {
        let account = account()?;
        let (owner, secret) = (random("owner-")?, random("app-")?);
        let name = format!("weirgate-demo-pg-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        let wrong = |error: std::io::Error| format!("{}: {error}", place.display());
        // A folder that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&place).map_err(wrong)?;
        let made = Self::make(&programs, account, &place, &owner);
        let (child, watch, port) = made.inspect_err(|_| {
            let _ = fs::remove_dir_all(&place);
        })?;
        let watch = Some(watch);
        let mut server = Self { programs, account, place, child, watch, port, secret };
        server.fill(&owner)?;
        Ok(server)
    }

    fn make(
        programs: &Path,
        account: Option<(u32, u32)>,
        place: &Path,
        owner: &Secret,
    ) -> Result<(Child, Watch, u16), String> {
        let wrong = |error: std::io::Error| format!("{}: {error}", place.display());
        let (data, password) = (place.join("data"), place.join("owner"));
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&password).map_err(wrong)?;
        file.write_all(owner.expose()).map_err(wrong)?;
        for path in [place, &password] {
            own(path, account).map_err(wrong)?;
        }
        let shell = |error: std::io::Error| format!("/bin/sh: {error}");
        let sh = command(Path::new("/bin/sh"), None);
        let mut watch = Watch::start(sh, place).map_err(shell)?;
        let mut initdb = command(&programs.join("initdb"), account);
        initdb.arg("-D").arg(&data).arg(format!("--pwfile={}", password.display()));
        initdb.args(["-U", OWNER, "-A", "scram-sha-256", "-E", "UTF8", "-N", "--no-locale"]);
        let told = initdb.output().map_err(|error| format!("initdb: {error}"))?;
        if !told.status.success() {
            let said = String::from_utf8_lossy(&told.stderr);
            return Err(format!("initdb: {}", said.lines().last().unwrap_or_default()));
        }
        fs::remove_file(&password).map_err(wrong)?;
        let port = free_port().map_err(wrong)?;
        let log = File::create(place.join("log")).map_err(wrong)?;
        let mut postgres = command(&programs.join("postgres"), account);
        postgres.arg("-D").arg(&data).arg("-k").arg(place).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        postgres.stdout(log.try_clone().map_err(wrong)?).stderr(log);
        let mut child = postgres.spawn().map_err(|error| format!("postgres: {error}"))?;
        if let Err(error) = watch.guard(child.id()) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(shell(error));
        }
        Ok((child, watch, port))
    }

    /// Waits until it serves, and makes what the tour looks at.
    fn fill(&mut self, owner: &Secret) -> Result<(), String> {
        let login = || OperatorLogin::new(OWNER.to_owned(), owner.clone(), None);
        let end = Instant::now() + READY_MAX;
        let mut database = loop {
            match Database::connect(&self.target("postgres"), &login(), &[], Times::of(SILENCE)) {
                Ok(database) => break database,
                Err(error) if Instant::now() > end => return Err(format!("postgres: {error}")),
                Err(_) if self.child.try_wait().is_ok_and(|ended| ended.is_some()) => {
                    return Err("postgres ended".to_owned());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        // It is hex digits and a dash.
        let secret = String::from_utf8_lossy(self.secret.expose()).into_owned();
        run(&mut database, &format!("create role {USER} login password '{secret}'"))?;
        run(&mut database, &format!("create database {DATABASE}"))?;
        database.end();
        let target = self.target(DATABASE);
        let mut database = Database::connect(&target, &login(), &[], Times::of(SILENCE))
            .map_err(|error| format!("postgres: {error}"))?;
        run(&mut database, SCHEMA)?;
        database.end();
        Ok(())
    }

    fn target(&self, database: &str) -> Target {
        Target {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            database: database.to_owned(),
            tls: None,
            auth: AuthMethods::default(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = command(&self.programs.join("pg_ctl"), self.account);
        stop.arg("-D").arg(self.place.join("data")).args(["-m", "immediate", "-w", "stop"]);
        let stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !stopped.is_ok_and(|status| status.success()) {
            // The processes below it end when they see that it is gone.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        if let Some(watch) = self.watch.take() {
            watch.rest();
        }
        if let Err(error) = fs::remove_dir_all(&self.place) {
            tracing::warn!(%error, "{} could not be removed", self.place.display());
        }
    }
}

/// A server refuses to be root's: then the account of PostgreSQL's package, or nobody's.
fn account() -> Result<Option<(u32, u32)>, String> {
    let own = fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
    if own.uid() != 0 {
        return Ok(None);
    }
    let known =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
    let of = |name: &str| {
        known.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some((uid, gid))
        })
    };
    let found = of("postgres").or_else(|| of("nobody"));
    found.map(Some).ok_or_else(|| "there is no account `postgres` to run a server by".to_owned())
}

fn own(path: &Path, account: Option<(u32, u32)>) -> std::io::Result<()> {
    account.map_or(Ok(()), |(uid, gid)| chown(path, Some(uid), Some(gid)))
}

/// A program of the server, by its account, out of reach of the terminal's signals. It sees nothing
/// of our environment, where keys may be.
fn command(program: &Path, account: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn run(database: &mut Database, text: &str) -> Result<(), String> {
    let answers = database.query(text).map_err(|error| format!("postgres: {error}"))?;
    let failed = answers.into_iter().find_map(|answer| answer.outcome.err());
    failed.map_or(Ok(()), |error| Err(format!("postgres: {error}")))
}

const OWNER: &str = "weirgate";

const SCHEMA: &str = "
create table customers (id int primary key, name text not null, email text, card text, born date);
insert into customers values
  (1, 'Carla', 'carla@example.com', '4111111111111111', '1984-02-29'),
  (2, 'Deniz', 'deniz@example.org', '5500005555555559', '1990-07-01'),
  (3, 'Emile', null, '340000000000009', null);
grant select, delete on customers to app;
";

const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "max_connections=20",
    "shared_buffers=16MB",
    "dynamic_shared_memory_type=posix",
];
/// From its start to the first login.
const READY_MAX: Duration = Duration::from_secs(30);
/// How long it may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
