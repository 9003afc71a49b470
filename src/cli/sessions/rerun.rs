//! Runs recorded statements on a server, one after the other on one connection.
//!
//! Each message goes alone, with a Flush behind it, and its answer is read before the next one:
//! nothing is in flight twice, so that every answer is known to be whose it is. A cycle ends with
//! its Sync, as it did then. Where a transaction had failed then, by a statement that is not run or
//! does not fail now, it is made to fail here as well: what was rolled back then is not committed.
//! A statement alone, in no transaction but its own, is what it is now.

use super::answers::{End, Part};
use super::compare::{Comparison, compare};
use super::harmless::only_reads;
use super::statements::{Cycle, Sent, Unit, What};
use crate::control::database::{Database, DatabaseError, Message};
use crate::session::postgres::POISON;
use crate::wire::postgres::{Backend, TxStatus, backend, write};
use std::collections::HashSet;

/// What may be run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct May {
    /// Statements that write, or that are not known to only read.
    pub(super) write: bool,
    /// The masked form, where that is all that was recorded.
    pub(super) masked: bool,
}

/// What came of one statement.
pub(super) enum Outcome {
    Ran { is: Vec<Part>, found: Comparison },
    NotRun(&'static str),
}

/// See the module.
pub(super) struct Rerun<'d> {
    database: &'d mut Database,
    may: May,
    /// Names of statements that the server knows.
    prepared: HashSet<Vec<u8>>,
}

impl<'d> Rerun<'d> {
    pub(super) fn new(database: &'d mut Database, may: May) -> Self {
        Self { database, may, prepared: HashSet::new() }
    }

    /// Runs one cycle; `each` hears of its statements in order.
    pub(super) fn cycle(
        &mut self,
        cycle: &Cycle,
        mut each: impl FnMut(&Unit, Outcome),
    ) -> Result<(), DatabaseError> {
        let (mut failed, mut open) = (false, false);
        for unit in &cycle.units {
            if let Some(why) = self.cannot(unit) {
                each(unit, Outcome::NotRun(why));
                continue;
            }
            self.database.begin();
            let is = match unit.sent.first() {
                Some(Sent { what: What::Query, bytes, .. }) => self.simple(bytes, unit)?,
                _ if failed => vec![Part { end: skipped(), ..Part::default() }],
                _ => {
                    open = true;
                    let mut part = self.extended(unit)?;
                    part.show(|text| self.database.words(text.as_bytes()));
                    failed = part.is_error();
                    vec![part]
                }
            };
            if !unit.is_aside() {
                let found = compare(&unit.parts, &is);
                each(unit, Outcome::Ran { is, found });
            }
        }
        let mut packet = Vec::new();
        self.database.begin();
        if open {
            if cycle.failed() && !failed {
                write::parse(POISON_NAME, POISON, &[], &mut packet);
            }
            write::sync(&mut packet);
            self.database.send(&packet)?;
            self.until_ready()?;
            packet.clear();
        }
        let failed_then = cycle.status == Some(TxStatus::Failed);
        if failed_then && self.database.status() == TxStatus::Transaction {
            write::query(POISON, &mut packet);
            self.database.send(&packet)?;
            self.until_ready()?;
        }
        Ok(())
    }

    /// Why a statement is not run.
    fn cannot(&self, unit: &Unit) -> Option<&'static str> {
        if unit.cannot.is_some() {
            return unit.cannot;
        }
        if unit.masked && !self.may.masked {
            return Some(
                "its text or values were recorded masked; --masked sends them as they are",
            );
        }
        if self.may.write { None } else { only_reads(&unit.text).err() }
    }

    fn simple(&mut self, query: &[u8], unit: &Unit) -> Result<Vec<Part>, DatabaseError> {
        // The server drops its unnamed statement at every simple query.
        self.prepared.remove(&b""[..]);
        self.database.send(query)?;
        let (mut parts, mut part) = (Vec::new(), Part::default());
        let mut room = Room::of(unit);
        loop {
            let message = self.database.next()?;
            if message.tag == b'D' {
                room.take(&message, &mut part);
                continue;
            }
            match self.read(&message)? {
                Backend::Ready(_) => return Ok(parts),
                Backend::RowDescription(columns) => part.describe(columns),
                message if part.ends(&message) => {
                    let mut part = std::mem::take(&mut part);
                    part.show(|text| self.database.words(text.as_bytes()));
                    // One more than there were tells that they differ.
                    if parts.len() <= unit.parts.len() {
                        parts.push(part);
                    }
                }
                _ => {}
            }
        }
    }

    fn extended(&mut self, unit: &Unit) -> Result<Part, DatabaseError> {
        let mut part = Part::default();
        let own = unit.sent.iter().any(|sent| sent.what == What::Parse);
        if let Some(prepared) = unit.needs.as_ref().filter(|one| !own && !self.knows(&one.name)) {
            self.ask(&prepared.parse, b"1", &mut part)?;
            if part.is_error() {
                return Ok(part);
            }
            self.prepared.insert(prepared.name.clone());
        }
        let described = unit.sent.iter().any(|sent| sent.what == What::DescribePortal);
        for sent in &unit.sent {
            match sent.what {
                What::Query => {}
                What::Parse => {
                    if !sent.name.is_empty() && self.prepared.remove(&sent.name) {
                        let mut close = Vec::new();
                        write::close(false, &sent.name, &mut close);
                        self.ask(&close, b"3", &mut part)?;
                    }
                    self.ask(&sent.bytes, b"1", &mut part)?;
                    if !part.is_error() {
                        self.prepared.insert(sent.name.clone());
                    }
                }
                What::Bind => self.ask(&sent.bytes, b"2", &mut part)?,
                What::DescribeStatement | What::DescribePortal => {
                    self.ask(&sent.bytes, b"Tn", &mut part)?;
                }
                What::Execute => {
                    if !described {
                        // The names and types of what comes, which tell what a mask could change.
                        let mut describe = Vec::new();
                        write::describe(true, &sent.name, &mut describe);
                        self.ask(&describe, b"Tn", &mut part)?;
                    }
                    if !part.is_error() {
                        self.execute(&sent.bytes, unit, &mut part)?;
                    }
                }
                What::CloseStatement => {
                    self.prepared.remove(&sent.name);
                    self.ask(&sent.bytes, b"3", &mut part)?;
                }
                What::ClosePortal => self.ask(&sent.bytes, b"3", &mut part)?,
            }
            if part.is_error() {
                break;
            }
        }
        Ok(part)
    }

    fn knows(&self, name: &[u8]) -> bool {
        self.prepared.contains(name)
    }

    /// Sends one message and reads up to its answer, one of `tags`, or an error.
    fn ask(&mut self, message: &[u8], tags: &[u8], part: &mut Part) -> Result<(), DatabaseError> {
        self.flushed(message)?;
        loop {
            let message = self.database.next()?;
            let parsed = backend(message.tag, &message.body)?;
            if let Backend::RowDescription(columns) = parsed {
                part.describe(columns);
            }
            if tags.contains(&message.tag) || matches!(parsed, Backend::Error(_)) {
                if matches!(parsed, Backend::Error(_)) {
                    part.ends(&parsed);
                }
                return Ok(());
            }
            if message.tag != b't' {
                return Err(DatabaseError::Order("no answer to what was asked"));
            }
        }
    }

    fn execute(
        &mut self,
        message: &[u8],
        unit: &Unit,
        part: &mut Part,
    ) -> Result<(), DatabaseError> {
        self.flushed(message)?;
        let mut room = Room::of(unit);
        loop {
            let message = self.database.next()?;
            if message.tag == b'D' {
                room.take(&message, part);
                continue;
            }
            let parsed = self.read(&message)?;
            if part.ends(&parsed) {
                return Ok(());
            }
        }
    }

    /// Reads a message; a COPY that was not expected is ended.
    fn read<'m>(&mut self, message: &'m Message) -> Result<Backend<'m>, DatabaseError> {
        let parsed = backend(message.tag, &message.body)?;
        match parsed {
            Backend::CopyIn(_) => {
                let mut fail = Vec::new();
                write::copy_fail(b"data of COPY is not replayed", &mut fail);
                self.database.send(&fail)?;
            }
            Backend::ParseDone | Backend::BindDone | Backend::CloseDone | Backend::Auth(_) => {
                return Err(DatabaseError::Order("no answer to what was asked"));
            }
            _ => {}
        }
        Ok(parsed)
    }

    fn flushed(&mut self, message: &[u8]) -> Result<(), DatabaseError> {
        let mut packet = message.to_vec();
        write::flush(&mut packet);
        self.database.send(&packet)
    }

    fn until_ready(&mut self) -> Result<(), DatabaseError> {
        while self.database.next()?.tag != b'Z' {}
        Ok(())
    }
}

impl Unit {
    /// Nothing but names that are closed: no statement that anything could be said of.
    pub(super) fn is_aside(&self) -> bool {
        let closes = |sent: &Sent| matches!(sent.what, What::CloseStatement | What::ClosePortal);
        self.cannot.is_none() && self.sent.iter().all(closes)
    }
}

impl Cycle {
    /// Whether what went up to its Sync was rolled back, or may have been.
    fn failed(&self) -> bool {
        let errs = |unit: &Unit| {
            let refused = unit.sent.is_empty() && unit.cannot.is_some();
            refused || unit.parts.iter().any(Part::is_error)
        };
        self.status.is_none() || self.units.iter().any(errs)
    }
}

/// What stands for a statement that the server skipped behind an error.
fn skipped() -> End {
    End::Error("skipped".to_owned())
}

/// How many bytes of rows are kept: what was recorded, and some more. Whatever is longer differs.
struct Room(usize);

impl Room {
    fn of(unit: &Unit) -> Self {
        let rows = unit.parts.iter().flat_map(|part| &part.rows);
        let bytes: usize = rows.map(|row| row.body.len()).sum();
        Self(bytes.saturating_mul(2).saturating_add(ROOM))
    }

    fn take(&mut self, message: &Message, part: &mut Part) {
        match self.0.checked_sub(message.body.len()) {
            Some(left) => {
                self.0 = left;
                part.row(&message.body, false);
            }
            None => {
                self.0 = 0;
                part.count += 1;
            }
        }
    }
}

/// The statement that a text has which cannot be parsed.
const POISON_NAME: &[u8] = b"weirgate replay";
/// See [`Room`].
const ROOM: usize = 16 << 20;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::control::database::{Target, Times};
    use crate::credential::{AuthMethod, AuthMethods, OperatorLogin};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    const SECRET: &str = "hunter2-hunter2";

    /// A connection to a server that lets `SECRET` in and says `then` to what comes first.
    fn database(then: Vec<u8>) -> Database {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut room = [0; 4096];
            let (mut ask, mut login) = (Vec::new(), Vec::new());
            write::auth_cleartext(&mut ask);
            write::auth_ok(&mut login);
            write::ready(TxStatus::Idle, &mut login);
            for answer in [ask, login, then] {
                if matches!(socket.read(&mut room), Err(_) | Ok(0)) {
                    return;
                }
                let _gone = socket.write_all(&answer);
            }
        });
        let auth = AuthMethods::NONE.with(AuthMethod::Cleartext);
        let (host, database) = ("127.0.0.1".to_owned(), "d".to_owned());
        let target = Target { host, port, database, tls: None, auth };
        let login = OperatorLogin::new("app".to_owned(), Secret::new(SECRET.into()), None);
        Database::connect(&target, &login, &[], Times::of(Duration::from_secs(5))).unwrap()
    }

    fn ask() -> Vec<u8> {
        let mut query = Vec::new();
        write::query(b"select 1", &mut query);
        query
    }

    #[test]
    fn of_more_answers_than_were_recorded_one_is_kept() {
        let mut then = Vec::new();
        for _ in 0..10_000 {
            write::complete(b"SELECT 1", &mut then);
        }
        write::ready(TxStatus::Idle, &mut then);
        let mut database = database(then);
        let mut rerun = Rerun::new(&mut database, May::default());
        let unit = Unit { parts: vec![Part::default(); 2], ..Unit::default() };
        let parts = rerun.simple(&ask(), &unit).unwrap();
        assert_eq!(parts.len(), 3);
        assert_eq!(compare(&unit.parts, &parts).differences, ["results", "outcome"]);
    }

    #[test]
    fn a_tag_that_tells_the_password_is_withheld() {
        let mut then = Vec::new();
        write::complete(SECRET.as_bytes(), &mut then);
        write::ready(TxStatus::Idle, &mut then);
        let mut database = database(then);
        let mut rerun = Rerun::new(&mut database, May::default());
        let parts = rerun.simple(&ask(), &Unit::default()).unwrap();
        let told: Vec<_> = parts.iter().map(|part| part.end.text()).collect();
        assert!(told.len() == 1 && told.iter().all(|text| text.contains("withheld")), "{told:?}");
    }
}
