//! The rows of PostgreSQL: one server, and direct, PgBouncer, and the gateway bare and full to it.
//!
//! All plain text on loopback. Toward callers all four ask for a password in clear text, the
//! gateway for a token in its place; both proxies log in to the server by SCRAM-SHA-256. Logging in
//! is not part of what is measured.

mod client;
mod gateway;
mod pgbench;
mod pgbouncer;
mod result;
mod server;
mod table;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use pgbench::cell as pgbench;
pub(crate) use pgbouncer::version;
pub(crate) use result::cell as result;
pub(crate) use server::Server;
pub(crate) use table::{Line, write as table};

use crate::Outcome;
use crate::args::Args;
use crate::material::Material;
use crate::process::Running;
use crate::rows::Subject;
use client::Client;

/// The database, and by that the resource, of all subjects.
const DATABASE: &str = "bench";
/// Whom the proxies are to the server.
const PROXY: &str = "app";
/// Who comes without a proxy.
const ALONE: &str = "alone";
/// The password of both.
const SECRET: &str = "the-servers-password-0123456789";

/// Where a subject listens and who comes there.
#[derive(Clone)]
pub(crate) struct Target {
    address: SocketAddr,
    user: &'static str,
    password: String,
}

/// Starts a subject in front of the server and proves that it answers right.
///
/// # Errors
/// It is not installed, does not start, or answers wrong.
pub(crate) async fn bring_up(
    args: &Args,
    subject: Subject,
    material: &Material,
    server: &Server,
) -> Outcome<(Option<Running>, Target)> {
    let (process, target) = start(args, subject, material, server)?;
    if let Some(process) = &process {
        process.wait_ready(&[target.address], Duration::from_secs(20)).await?;
    }
    match (probe(&target, subject).await, &process) {
        (Ok(()), _) => Ok((process, target)),
        (Err(error), None) => Err(error),
        (Err(error), Some(process)) => {
            Err(format!("{error}; its log ends: {}", process.log_tail()).into())
        }
    }
}

fn start(
    args: &Args,
    subject: Subject,
    material: &Material,
    server: &Server,
) -> Outcome<(Option<Running>, Target)> {
    let (process, target) = match subject {
        Subject::Direct => {
            let (address, password) = (server.address(), SECRET.to_owned());
            return Ok((None, Target { address, user: ALONE, password }));
        }
        Subject::Pgbouncer => pgbouncer::start(args, server)?,
        Subject::GatewayBare => gateway::start(args, false, material, server)?,
        Subject::GatewayFull => gateway::start(args, true, material, server)?,
        _ => return Err("does not speak PostgreSQL".into()),
    };
    Ok((Some(process), target))
}

/// Proves that a row is answered, and that a policy which should refuse does.
async fn probe(target: &Target, subject: Subject) -> Outcome<()> {
    let target = target.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&target).map_err(|error| error.to_string())?;
        let mut ask = |statement: &str| client.ask(statement).map_err(|error| error.to_string());
        let row = ask("select abalance from pgbench_accounts where aid = 4711")?;
        let other = ask("select tbalance from pgbench_tellers where tid = 1")?;
        Ok::<_, String>((row, other))
    });
    let (row, other) = work.await??;
    if row.rows != 1 || row.error.is_some() {
        return Err(format!("a row by its key is not answered: {row:?}").into());
    }
    let refused = other.rows == 0 && other.error.as_deref() == Some("42501");
    let answered = other.rows == 1 && other.error.is_none();
    // No rule of everything on names this table.
    let right = if subject == Subject::GatewayFull { refused } else { answered };
    if right { Ok(()) } else { Err(format!("a table that no rule names: {other:?}").into()) }
}
