//! `weirgate sessions replay ID --to postgres://USER@HOST:PORT/DATABASE`: the recorded statements
//! once more, on a server that the user names, and how its answers differ.
//!
//! Without `--write` the connection is read-only (`default_transaction_read_only`), and a statement
//! that is not known to only read is not sent at all. TLS is verified in full; plain text goes to a
//! loopback address only. The password comes from where `--credential` says, or PGPASSWORD.

use super::answers::Part;
use super::rerun::{May, Outcome, Rerun};
use super::resend::credential;
use super::statements::{Recorded, Unit, is_connect};
use super::{each_whole, entries_of, finish, missing, unwritten, warn};
use crate::base::{ExchangeId, Secret};
use crate::config::{DatabaseUrl, Source};
use crate::control::archive::{clean, is_database};
use crate::control::database::{Database, Target, Times};
use crate::credential::{AuthMethod, AuthMethods, OperatorLogin};
use crate::record::reader::{OwnedEntry, merge};
use crate::runtime::{Opening, upstream_tls};
use rustls_pki_types::ServerName;
use serde_json::json;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which server, and what may run there.
#[derive(Clone, Debug, Default)]
pub struct ToDatabase {
    /// `postgres://USER@HOST:PORT/DATABASE`.
    pub url: String,
    /// `env:NAME` or `file:PATH`; else PGPASSWORD, or no password.
    pub credential: Option<String>,
    /// Authorities to trust in place of the system's; makes it TLS on loopback, too.
    pub ca: Option<PathBuf>,
    /// Ways to ask for the password that are allowed beside SCRAM-SHA-256.
    pub auth: Vec<String>,
    /// All statements of the connection that the session belongs to.
    pub connection: bool,
    /// Run what writes, too.
    pub write: bool,
    /// Send the masked form, where that is all that was recorded.
    pub masked: bool,
    /// Print one JSON object a line.
    pub json: bool,
}

/// Runs the statements of a session. Returns 0 where what ran answered as recorded, 1 where something
/// differs or the session is not in the record, 2 where nothing could be run.
pub fn rerun(
    data: &Path,
    id: &str,
    to: &ToDatabase,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let found = entries_of(data, id, errors);
    let outcome = found.and_then(|entries| {
        let Some(first) = entries.first() else { return missing(id, errors) };
        if !is_database(&entries) {
            return Err("this session is of another protocol: --to is an http(s) URL".into());
        }
        let whole = to.connection || entries.iter().any(is_connect);
        let only = (!whole).then_some(first.meta.exchange);
        let recorded = connection(data, first, only, errors)?;
        if recorded.cycles.is_empty() {
            return Err("no statement of it is recorded".into());
        }
        let (target, login) = (target(to, source)?, login(to, source)?);
        let mut settings = vec![
            ("application_name", "weirgate replay"),
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
            ("search_path", "public"),
        ];
        if !to.write {
            settings.push(("default_transaction_read_only", "on"));
        }
        settings.extend(recorded.settings.iter().map(|(name, value)| (*name, value.as_str())));
        let failed = |error| format!("--to {}:{}: {error}", target.host, target.port);
        let mut database =
            Database::connect(&target, &login, &settings, Times::of(SILENCE)).map_err(failed)?;
        let mut report = Report { json: to.json, out, counts: [0; 3] };
        let may = May { write: to.write, masked: to.masked };
        let ran = run(&recorded, &mut Rerun::new(&mut database, may), &mut report);
        database.end();
        ran.map_err(|error| match error {
            Failure::Written(error) => unwritten(error),
            Failure::Database(error) => failed(error),
        })?;
        report.finish().map_err(unwritten)
    });
    finish(outcome, errors)
}

enum Failure {
    Written(io::Error),
    Database(crate::control::database::DatabaseError),
}

fn run(recorded: &Recorded, rerun: &mut Rerun<'_>, report: &mut Report<'_>) -> Result<(), Failure> {
    for cycle in &recorded.cycles {
        let mut written = Ok(());
        let told = rerun.cycle(cycle, |unit, outcome| {
            if written.is_ok() {
                written = report.unit(cycle.id, unit, &outcome);
            }
        });
        written.map_err(Failure::Written)?;
        told.map_err(Failure::Database)?;
    }
    Ok(())
}

/// What is recorded of the connection that `of` belongs to. Connections are counted by worker, from
/// one on at each start, which the high half of an exchange's id tells apart.
fn connection(
    data: &Path,
    of: &OwnedEntry,
    only: Option<ExchangeId>,
    errors: &mut dyn Write,
) -> Result<Recorded, String> {
    let mut entries = Vec::new();
    let bad = each_whole(data, |entry| {
        let (this, that) = (entry.meta, of.meta);
        let same = entry.worker == of.worker
            && this.connection == that.connection
            && this.exchange.0 >> 64 == that.exchange.0 >> 64;
        if same {
            entries.push(entry);
        }
    })?;
    warn(&bad, errors);
    let entries = merge(vec![entries]);
    let link = entries.iter().find(|entry| is_connect(entry));
    let link = link.map_or(ExchangeId(0), |entry| entry.meta.exchange);
    Ok(Recorded::of(&entries, link, only))
}

fn target(to: &ToDatabase, source: &dyn Source) -> Result<Target, String> {
    let url = DatabaseUrl::parse(&to.url).map_err(|fault| {
        format!("--to: the URL {fault}; write `postgres://USER@HOST:PORT/DATABASE`")
    })?;
    let tls = if url.is_loopback() && to.ca.is_none() {
        None
    } else {
        let read = |path: &PathBuf| {
            source.read(path).map_err(|error| format!("--ca {}: {error}", path.display()))
        };
        let pem = to.ca.as_ref().map(read).transpose()?;
        let config = upstream_tls(pem.as_deref(), Opening::Postgres)
            .map_err(|error| format!("--ca: {error}"))?;
        let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
        Some((config, name))
    };
    let mut auth = AuthMethods::default();
    for word in &to.auth {
        let method = AuthMethod::ALL.into_iter().find(|method| method.label() == word);
        auth = auth.with(method.ok_or("--auth: write `md5` or `cleartext`")?);
    }
    Ok(Target { host: url.host, port: url.port, database: url.database, tls, auth })
}

fn login(to: &ToDatabase, source: &dyn Source) -> Result<OperatorLogin, String> {
    let url = DatabaseUrl::parse(&to.url).map_err(str::to_owned)?;
    let secret = match &to.credential {
        Some(from) => credential(from, source)?,
        None => Secret::new(source.env("PGPASSWORD").unwrap_or_default().into_bytes()),
    };
    if secret.expose().contains(&0) {
        return Err("the password holds a zero byte".into());
    }
    Ok(OperatorLogin::new(url.user, secret, None))
}

/// A line for each statement, and one for all of them.
struct Report<'o> {
    json: bool,
    out: &'o mut dyn Write,
    /// The same, differing, not run.
    counts: [u64; 3],
}

impl Report<'_> {
    fn unit(&mut self, id: ExchangeId, unit: &Unit, outcome: &Outcome) -> io::Result<()> {
        let none = (Vec::new(), Vec::new());
        let (place, verdict, (differences, not_compared), why) = match outcome {
            Outcome::NotRun(why) => (2, "not_run", none, Some(*why)),
            Outcome::Ran { found, .. } => {
                let told = (found.differences.clone(), found.not_compared.clone());
                let differs = !found.differences.is_empty();
                (usize::from(differs), if differs { "differs" } else { "same" }, told, None)
            }
        };
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        let (was, is) = (
            summary(&unit.parts),
            match outcome {
                Outcome::Ran { is, .. } => summary(is),
                Outcome::NotRun(_) => Vec::new(),
            },
        );
        let text = String::from_utf8_lossy(&unit.text).into_owned();
        if self.json {
            let told = |parts: &[(String, u64)]| -> Vec<serde_json::Value> {
                parts.iter().map(|(end, rows)| json!({ "outcome": end, "rows": rows })).collect()
            };
            return writeln!(
                self.out,
                "{}",
                json!({
                    "id": id.to_string(), "statement": text, "verdict": verdict, "why": why,
                    "differences": differences, "not_compared": not_compared,
                    "recorded": told(&was), "replayed": told(&is), "request_masked": unit.masked,
                })
            );
        }
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut shown: String = clean(&line).chars().take(LINE).collect();
        if line.chars().count() > LINE {
            shown.push_str("...");
        }
        let said = |parts: &[(String, u64)]| {
            let said = parts.iter().map(|(end, rows)| format!("{}, {rows} rows", clean(end)));
            said.collect::<Vec<_>>().join("; ")
        };
        write!(self.out, "{:<8} {shown}", verdict.replace('_', " "))?;
        writeln!(self.out)?;
        if let Some(why) = why {
            return writeln!(self.out, "         {why}");
        }
        if differences.is_empty() {
            writeln!(self.out, "         {}", said(&is))?;
        } else {
            writeln!(
                self.out,
                "         {}: was {}; is {}",
                differences.join(", "),
                said(&was),
                said(&is)
            )?;
        }
        if not_compared.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = not_compared.iter().map(|name| clean(name)).collect();
        writeln!(self.out, "         masked in the record, not compared: {}", names.join(", "))
    }

    /// The last line, and the exit code.
    fn finish(self) -> Result<u8, io::Error> {
        let [same, differs, not_run] = self.counts;
        if !self.json {
            let total = same + differs + not_run;
            writeln!(
                self.out,
                "{total} statements: {same} same, {differs} differ, {not_run} not run"
            )?;
        }
        Ok(match (same, differs) {
            (_, 1..) => 1,
            (1.., 0) => 0,
            (0, 0) => 2,
        })
    }
}

fn summary(parts: &[Part]) -> Vec<(String, u64)> {
    parts.iter().map(|part| (part.end.text(), part.count)).collect()
}

/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(300);
/// Characters of a statement in its line.
const LINE: usize = 100;
