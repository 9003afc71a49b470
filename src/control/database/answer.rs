//! The answers to a simple query.

use super::{Database, DatabaseError};
use crate::wire::postgres::{Backend, Fields, backend, write};
use std::fmt;

/// What one statement answered.
#[derive(Debug)]
pub struct Answer {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Bodies of the rows, as [`Cells`](crate::wire::postgres::Cells) reads them.
    pub rows: Vec<Vec<u8>>,
    /// The command's tag, or the server's error.
    pub outcome: Result<String, ServerError>,
}

/// An error of the server, in its words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    /// What it says.
    pub message: String,
    /// More of it.
    pub detail: Option<String>,
}

impl Default for Answer {
    fn default() -> Self {
        Self { columns: Vec::new(), rows: Vec::new(), outcome: Ok(String::new()) }
    }
}

impl From<&Fields<'_>> for ServerError {
    fn from(fields: &Fields<'_>) -> Self {
        let of = |code| fields.get(code).map(text);
        Self {
            code: code(fields.get(b'C').unwrap_or_default()),
            message: of(b'M').unwrap_or_default(),
            detail: of(b'D'),
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

/// A SQLSTATE: five letters and digits (PostgreSQL manual, appendix A). Anything else a server could
/// choose to say more by, the password that it was told included.
pub fn code(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let fits = bytes.len() == 5 && bytes.iter().all(plain);
    if fits { String::from_utf8_lossy(bytes).into_owned() } else { "?????".to_owned() }
}

/// Words of a server, without what steers a terminal.
pub(super) fn text(bytes: &[u8]) -> String {
    let mut shown = String::new();
    for letter in String::from_utf8_lossy(bytes).chars() {
        if letter.is_control() && letter != '\t' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Reads up to ready for query.
pub(super) fn read(database: &mut Database) -> Result<Vec<Answer>, DatabaseError> {
    let (mut answers, mut answer, mut bytes) = (Vec::new(), Answer::default(), 0);
    let mut close = |answer: &mut Answer, outcome| {
        answers.push(Answer { outcome, ..std::mem::take(answer) });
    };
    loop {
        let message = database.next()?;
        bytes += message.body.len();
        if bytes > ANSWER_MAX {
            return Err(DatabaseError::TooLong);
        }
        match backend(message.tag, &message.body)? {
            Backend::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| database.words(column.name)).collect();
            }
            Backend::DataRow(row) => answer.rows.push(row.to_vec()),
            Backend::Complete(tag) => close(&mut answer, Ok(database.words(tag))),
            Backend::Empty => close(&mut answer, Ok(String::new())),
            Backend::Error(fields) => close(&mut answer, Err(database.error(&fields))),
            Backend::CopyIn(_) => {
                let mut packet = Vec::new();
                write::copy_fail(b"no data is sent here", &mut packet);
                database.send(&packet)?;
            }
            Backend::CopyOut(_) | Backend::CopyData(_) | Backend::CopyDone => {}
            Backend::Ready(_) => return Ok(answers),
            _ => return Err(DatabaseError::Order("no answer to a query")),
        }
    }
}

/// Bytes of an answer that are kept.
const ANSWER_MAX: usize = 64 << 20;
