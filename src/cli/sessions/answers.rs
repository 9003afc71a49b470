//! What statements answered: as the record has it, and as a server says it now.

use crate::control::database::code;
use crate::wire::postgres::{Backend, Columns, TxStatus, backend};
use std::collections::VecDeque;

/// The answer to one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Where columns were told.
    pub(super) columns: Option<Vec<Column>>,
    pub(super) rows: Vec<Row>,
    pub(super) end: End,
    /// Rows that came, which may be more than are kept.
    pub(super) count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// OID of its type.
    pub(super) kind: u32,
}

/// The body of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) body: Vec<u8>,
    /// Masks changed what is in it.
    pub(super) masked: bool,
}

/// How an answer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing was executed.
    #[default]
    Prepared,
    Complete(String),
    Empty,
    /// More rows wait.
    Suspended,
    /// SQLSTATE.
    Error(String),
}

impl End {
    /// For people and scripts.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Prepared => "prepared".to_owned(),
            Self::Complete(tag) => tag.clone(),
            Self::Empty => "empty".to_owned(),
            Self::Suspended => "more rows wait".to_owned(),
            Self::Error(code) => format!("error {code}"),
        }
    }
}

impl Part {
    pub(super) fn row(&mut self, body: &[u8], masked: bool) {
        self.count += 1;
        self.rows.push(Row { body: body.to_vec(), masked });
    }

    pub(super) fn describe(&mut self, columns: Columns<'_>) {
        let told = columns.iter().map(|column| Column {
            name: String::from_utf8_lossy(column.name).into_owned(),
            kind: column.kind,
        });
        self.columns = Some(told.collect());
    }

    /// Takes what ends an execution; `false`: it does not.
    pub(super) fn ends(&mut self, message: &Backend<'_>) -> bool {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.end = match message {
            Backend::Complete(tag) => End::Complete(text(tag)),
            Backend::Empty => End::Empty,
            Backend::Suspended => End::Suspended,
            Backend::Error(fields) => End::Error(code(fields.get(b'C').unwrap_or_default())),
            _ => return false,
        };
        true
    }

    /// Puts the words of a server as they may be shown.
    pub(super) fn show(&mut self, words: impl Fn(&str) -> String) {
        if let End::Complete(tag) = &mut self.end {
            *tag = words(tag);
        }
        for column in self.columns.iter_mut().flatten() {
            column.name = words(&column.name);
        }
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self.end, End::Error(_))
    }
}

/// A recorded message of the server.
pub(super) struct Told {
    pub(super) tag: u8,
    pub(super) body: Vec<u8>,
    pub(super) masked: bool,
}

/// The recorded messages of one cycle, taken off from the front.
#[derive(Default)]
pub(super) struct Answers {
    pub(super) messages: VecDeque<Told>,
    /// COPY data was among them.
    pub(super) copied: bool,
}

impl Answers {
    fn tag(&self) -> Option<u8> {
        self.messages.front().map(|told| told.tag)
    }

    /// Takes the next one off if its tag is among `tags`.
    fn take(&mut self, tags: &[u8]) -> Option<Told> {
        self.messages.pop_front_if(|told| tags.contains(&told.tag))
    }

    /// Everything up to ready for query: the answers to a simple query.
    pub(super) fn simple(&mut self) -> Vec<Part> {
        let (mut parts, mut part, mut begun) = (Vec::new(), Part::default(), false);
        while self.tag().is_some_and(|tag| tag != b'Z') {
            let Some(told) = self.messages.pop_front() else { break };
            begun = true;
            if told.tag == b'D' {
                part.row(&told.body, told.masked);
                continue;
            }
            self.copied |= matches!(told.tag, b'G' | b'H');
            match backend(told.tag, &told.body) {
                Ok(Backend::RowDescription(columns)) => part.describe(columns),
                Ok(message) if part.ends(&message) => {
                    parts.push(std::mem::take(&mut part));
                    begun = false;
                }
                _ => {}
            }
        }
        if begun {
            parts.push(part);
        }
        parts
    }

    /// The answer to a message that has one of a single message, `tag`. `Err`: an error came in its
    /// place; `None`: nothing did.
    pub(super) fn one(&mut self, tag: u8, part: &mut Part) -> Option<Result<(), ()>> {
        let told = self.take(&[tag, b'E'])?;
        if told.tag == tag {
            return Some(Ok(()));
        }
        if let Ok(message) = backend(told.tag, &told.body) {
            part.ends(&message);
        }
        Some(Err(()))
    }

    /// The answer to Describe, which the gateway's own have none of.
    pub(super) fn described(&mut self, part: &mut Part) -> Option<Result<(), ()>> {
        self.take(b"t");
        let Some(told) = self.take(b"Tn") else { return Some(Ok(())) };
        if let Ok(Backend::RowDescription(columns)) = backend(told.tag, &told.body) {
            part.describe(columns);
        }
        Some(Ok(()))
    }

    /// The answer to Execute.
    pub(super) fn executed(&mut self, part: &mut Part) -> Option<Result<(), ()>> {
        while let Some(told) = self.take(b"DGHdc") {
            if told.tag == b'D' {
                part.row(&told.body, told.masked);
            } else {
                self.copied = true;
            }
        }
        let told = self.take(b"CIsE")?;
        let message = backend(told.tag, &told.body).ok()?;
        part.ends(&message);
        Some(if part.is_error() { Err(()) } else { Ok(()) })
    }

    /// Where ready for query says that the transaction stands; `None`: it is not there.
    pub(super) fn status(&self) -> Option<TxStatus> {
        let last = self.messages.iter().rev().find(|told| told.tag == b'Z')?;
        match backend(last.tag, &last.body) {
            Ok(Backend::Ready(status)) => Some(status),
            _ => None,
        }
    }
}
