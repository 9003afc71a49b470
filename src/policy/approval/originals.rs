//! What is asked for as the caller said it, before masks took anything out.
//!
//! It travels beside the question to the owner of the book, who takes it off and keeps it in memory
//! as long as somebody may have to look at it: no log, no record and no list has it.

use crate::base::Secret;
use std::fmt;

/// Beside a question. Empty where the masks took nothing out and there is no statement.
#[derive(Clone, Default)]
pub struct Originals {
    /// The summary with nothing masked, where that is another text.
    pub summary: Option<Secret>,
    /// The statement of a database, of which the plan can be asked.
    pub statement: Option<Statement>,
}

/// A statement with its values, as it would go to the server.
#[derive(Clone)]
pub struct Statement {
    /// Its text.
    pub text: Secret,
    /// The types of its parameters, by OID; 0 or none where the server finds them out.
    pub types: Box<[u32]>,
    /// The formats of the values: 0 text, 1 binary; one for all or one for each.
    pub formats: Box<[u16]>,
    /// Its values; `None` is NULL.
    pub values: Box<[Option<Secret>]>,
    /// Where names without a schema are looked up, where it is not the server's own default.
    pub search_path: Option<Box<str>>,
}

impl Originals {
    /// Bytes of it.
    #[must_use]
    pub fn len(&self) -> usize {
        let summary = self.summary.as_ref().map_or(0, Secret::len);
        let statement = self.statement.as_ref().map_or(0, |one| {
            one.text.len() + one.values.iter().flatten().map(Secret::len).sum::<usize>()
        });
        summary.saturating_add(statement)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.summary.is_none() && self.statement.is_none()
    }
}

impl fmt::Debug for Originals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Originals").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statement").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

/// Two asks are the same question whatever travels beside them.
impl PartialEq for Originals {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Originals {}
