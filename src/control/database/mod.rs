//! A connection to a PostgreSQL server for the commands of an operator: `sessions replay --to`,
//! `check --connect`, `demo`.
//!
//! It blocks, holds one answer at a time, and has nothing to do with the path of callers, where
//! `session::postgres` speaks to servers. Parsers, writers and the login's proofs are the same.
//! TLS is verified in full wherever it is asked for. What a server sends is bounded, in bytes and in
//! time, and out of order is the end of the connection. A server may have been told the password, so
//! its words are looked through before they are shown.

mod answer;
mod error;
mod link;
mod login;
pub mod plan;

pub use answer::{Answer, ServerError, code};
pub use error::DatabaseError;
pub use link::DatabaseTls;

use crate::credential::{AuthMethods, Echo, OperatorLogin};
use crate::wire::postgres::{Backend, FRAME_HEAD, Fields, TxStatus, backend, frame, write};
use link::Link;
use std::time::Duration;

/// Which server, and how.
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// TLS; plain text without. Who fills this in sees to it that plain text stays on the machine.
    pub tls: Option<DatabaseTls>,
    /// How the server may ask for the password.
    pub auth: AuthMethods,
}

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For all of a login.
    pub login: Duration,
    /// Without a byte, behind the login.
    pub silence: Duration,
    /// For all of a statement, whatever it says meanwhile.
    pub statement: Duration,
}

impl Times {
    /// Half a minute for a login, so much silence, and an hour for a statement.
    #[must_use]
    pub fn of(silence: Duration) -> Self {
        let (login, statement) = (Duration::from_secs(30), Duration::from_secs(3_600));
        Self { login, silence, statement }
    }
}

/// A message of the server.
pub struct Message {
    /// The kind of message.
    pub tag: u8,
    /// Its body.
    pub body: Vec<u8>,
}

/// See the module.
pub struct Database {
    link: Link,
    input: Vec<u8>,
    /// How much of `input` was taken.
    at: usize,
    status: TxStatus,
    version: String,
    /// The password as a server could tell it back, where there is one.
    secret: Option<Echo>,
    times: Times,
}

impl Database {
    /// Connects and logs in. `settings` are names and values of the start-up packet.
    ///
    /// # Errors
    /// [`DatabaseError`]: the server cannot be reached, is not who it should be, or lets nobody in.
    pub fn connect(
        target: &Target,
        login: &OperatorLogin,
        settings: &[(&str, &str)],
        times: Times,
    ) -> Result<Self, DatabaseError> {
        login::connect(target, login, settings, times)
    }

    fn over(link: Link, secret: Option<Echo>, times: Times) -> Self {
        let (status, version) = (TxStatus::Idle, String::new());
        Self { link, input: Vec::new(), at: 0, status, version, secret, times }
    }

    /// A statement begins: what it takes is counted from here.
    pub fn begin(&mut self) {
        self.link.give(self.times.silence, self.times.statement);
    }

    /// Words of the server as they may be shown: without what steers a terminal, and withheld where
    /// they hold the password.
    #[must_use]
    pub fn words(&self, bytes: &[u8]) -> String {
        let told = self.secret.as_ref().is_some_and(|secret| secret.in_text(bytes));
        if told { WITHHELD.to_owned() } else { answer::text(bytes) }
    }

    /// The version that the server reports.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How the connection is encrypted, for people.
    #[must_use]
    pub fn encryption(&self) -> String {
        self.link.describe()
    }

    /// Where the transaction stands, by the last ready for query.
    #[must_use]
    pub fn status(&self) -> TxStatus {
        self.status
    }

    /// Sends whole messages.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, messages: &[u8]) -> Result<(), DatabaseError> {
        if messages.is_empty() { Ok(()) } else { Ok(self.link.write(messages)?) }
    }

    /// The next message that answers something: what the server says of its own accord (settings,
    /// notices, notifications) is left out.
    ///
    /// # Errors
    /// The connection is broken, or what comes is no message.
    #[expect(clippy::should_implement_trait, reason = "a broken connection is not an end")]
    pub fn next(&mut self) -> Result<Message, DatabaseError> {
        loop {
            let message = self.next_any()?;
            match message.tag {
                b'S' | b'N' | b'A' | b'K' => {}
                b'Z' => {
                    let Backend::Ready(status) = backend(message.tag, &message.body)? else {
                        return Err(DatabaseError::Order("no ready for query"));
                    };
                    self.status = status;
                    return Ok(message);
                }
                _ => return Ok(message),
            }
        }
    }

    fn next_any(&mut self) -> Result<Message, DatabaseError> {
        loop {
            let rest = self.input.get(self.at..).unwrap_or_default();
            if let Some(head) = frame(rest)? {
                if head.len > MESSAGE_LEN_MAX {
                    return Err(DatabaseError::TooLong);
                }
                let len = FRAME_HEAD + head.len;
                if let Some(body) = rest.get(FRAME_HEAD..len) {
                    let message = Message { tag: head.tag, body: body.to_vec() };
                    self.at += len;
                    return Ok(message);
                }
            }
            self.input.drain(..self.at);
            self.at = 0;
            let mut room = [0; 16 << 10];
            let count = self.link.read(&mut room)?;
            if count == 0 {
                return Err(DatabaseError::Ended);
            }
            self.input.extend_from_slice(room.get(..count).unwrap_or_default());
        }
    }

    /// An error of the server as it may be shown.
    fn error(&self, fields: &Fields<'_>) -> ServerError {
        let of = |code| fields.get(code).map(|text| self.words(text));
        ServerError {
            code: code(fields.get(b'C').unwrap_or_default()),
            message: of(b'M').unwrap_or_default(),
            detail: of(b'D'),
        }
    }

    /// Runs a text by the simple protocol and gives the answer to each of its statements.
    ///
    /// # Errors
    /// The connection is broken, the answer is longer than is kept, or COPY was asked for.
    pub fn query(&mut self, text: &str) -> Result<Vec<Answer>, DatabaseError> {
        let mut packet = Vec::new();
        write::query(text.as_bytes(), &mut packet);
        self.begin();
        self.send(&packet)?;
        answer::read(self)
    }

    /// Says farewell. A connection that is dropped without it ends as well.
    pub fn end(mut self) {
        let mut packet = Vec::new();
        write::terminate(&mut packet);
        // The server may be gone: then there is nobody to say it to.
        let _ = self.send(&packet);
    }
}

/// What stands for words that hold the password.
const WITHHELD: &str = "(withheld: the server told the password back)";
/// The longest message that is taken from a server.
const MESSAGE_LEN_MAX: usize = 256 << 20;

#[cfg(test)]
mod tests;
