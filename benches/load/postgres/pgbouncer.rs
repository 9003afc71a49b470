//! PgBouncer as Debian packages it: session pooling, no TLS, no log of connections.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::{DATABASE, PROXY, SECRET, Server, Target};
use crate::Outcome;
use crate::args::Args;
use crate::process::{Running, free_ports, pinned};

/// Where Debian puts it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// Starts it in front of the server.
///
/// # Errors
/// It is not installed, or a file cannot be written.
pub(super) fn start(args: &Args, server: &Server) -> Outcome<(Running, Target)> {
    let program = program().ok_or("is not installed (scripts/bench.sh does it)")?;
    let directory = tempfile::Builder::new().prefix("weirgate-bench-pgbouncer-").tempdir()?;
    let [address] = free_ports::<1>()?;
    let at = |name: &str| directory.path().join(name);
    // `plain` asks for the password in clear text, as the gateway asks for the token. The same
    // entry, since it is in clear text, serves for SCRAM to the server.
    let config = format!(
        "[databases]
{DATABASE} = host={host} port={port} dbname={DATABASE}
[pgbouncer]
listen_addr = {listen}
listen_port = {listen_port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = session
default_pool_size = 100
max_client_conn = 200
client_tls_sslmode = disable
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
log_stats = 0
",
        host = server.address().ip(),
        port = server.address().port(),
        listen = address.ip(),
        listen_port = address.port(),
        users = at("users").display(),
    );
    fs::write(at("pgbouncer.ini"), &config)?;
    fs::write(at("users"), format!("\"{PROXY}\" \"{SECRET}\"\n"))?;
    fs::set_permissions(at("users"), fs::Permissions::from_mode(0o600))?;
    if let Some(account) = server.account() {
        for path in [directory.path().to_owned(), at("pgbouncer.ini"), at("users")] {
            account.own(&path)?;
        }
    }
    let log = match &args.keep {
        Some(keep) => {
            fs::create_dir_all(keep)?;
            fs::write(keep.join("pgbouncer.ini"), &config)?;
            keep.join("pgbouncer.log")
        }
        None => at("log"),
    };
    let mut command = pinned(program, args.proxy_core, server.account());
    command.arg(at("pgbouncer.ini")).current_dir("/");
    // SIGINT ends it when its callers are gone, SIGTERM at once.
    let process = Running::spawn(command, log, vec![directory])?;
    Ok((process, Target { address, user: PROXY, password: SECRET.to_owned() }))
}

/// Its version as it prints it.
pub(crate) fn version() -> Option<String> {
    let out = Command::new(program()?).arg("--version").output().ok()?;
    String::from_utf8_lossy(&out.stdout).lines().next().map(str::to_owned)
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join("pgbouncer"))
        .chain([PROGRAM.into()])
        .find(|path| path.is_file())
}
