//! What SQL text does, by PostgreSQL's own grammar: kinds, tables, functions. No policy.
//!
//! [`parse`] hands the text to libpg_query, the server's parser as a library, and walks the raw
//! tree where C built it; nothing is copied but names. One text gives a [`Statement`] for each statement in it; a text that
//! the grammar refuses gives none. What the walk does not know is [`Kind::Unknown`], never
//! skipped.
//!
//! What a text cannot tell, and who must see to it:
//!
//! - The grammar is that of PostgreSQL 18 with `standard_conforming_strings = on`. An older
//!   server refuses what it does not know; the setting must be pinned. libpg_query refuses a
//!   literal that goes on behind a comment and a line end, which the server takes.
//!   What has become syntax since (`json_value(...)`) is a call of a function on an older one.
//! - Names are as written. Which table or function an unqualified one means is the
//!   `search_path`'s business, and a view, a trigger, a rule, a default or a cast runs code that
//!   no text shows. `t.f` may be the call `f(t)` of a function that takes a row of the table `t`
//!   (of anything else, see `walk::attribute`), and an operator without a schema may be one of an extension's.
//! - The text of a DO block or of a function body is opaque, and so is what a special
//!   [`Function`] runs. EXECUTE, FETCH and the portals of the protocol run what was named before.
//!
//! Estimate for a point SELECT of 52 bytes: 1 us for the parse, under 1 us for the walk with
//! three small allocations; see the bench `sql`.

mod builtins;
mod error;
mod kind;
mod relations;
mod shape;
mod statement;
mod walk;

pub use builtins::is_plain;
pub use error::SqlError;
pub use kind::{Kind, Kinds};
pub use relations::is_system_table;
pub use shape::shape;
pub use statement::{Access, Act, Columns, Function, Name, Setting, Statement};

use std::panic::catch_unwind;
use walk::Walk;

#[cfg(test)]
mod tests;

/// The bounds of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlLimits {
    /// Bytes of a text.
    pub text_max: u32,
    /// Levels of nesting.
    pub depth_max: u32,
}

impl Default for SqlLimits {
    fn default() -> Self {
        Self { text_max: 64 << 10, depth_max: 256 }
    }
}

/// What each statement of `text` does, in the order of the text. An empty text has none.
///
/// Cost: one parse and one walk of the tree, 1-10 us for usual statements.
///
/// # Errors
/// See [`SqlError`]; whatever it is, no statement of the text may run.
pub fn parse(text: &[u8], limits: &SqlLimits) -> Result<Vec<Statement>, SqlError> {
    let len = u32::try_from(text.len()).map_err(|_| SqlError::TooLong)?;
    if len > limits.text_max {
        return Err(SqlError::TooLong);
    }
    if memchr::memchr(0, text).is_some() {
        return Err(SqlError::Nul);
    }
    let text = std::str::from_utf8(text).map_err(|_| SqlError::Encoding)?;
    // Nothing of the closure outlives a panic, and the crate's own guards free the tree.
    catch_unwind(|| walk_all(text, len, limits.depth_max)).unwrap_or(Err(SqlError::Tree))
}

/// The crate's accessors assert that the tree is as the headers of C say, and panic where it is
/// not: what a text could bring about by that is a refusal.
fn walk_all(text: &str, text_len: u32, depth_max: u32) -> Result<Vec<Statement>, SqlError> {
    let tree = pg_raw_parse::parse(text).map_err(SqlError::from_parser)?;
    let mut statements = Vec::with_capacity(tree.len());
    for raw in tree.iter() {
        let start = u32::try_from(raw.stmt_location).map_err(|_| SqlError::Tree)?;
        let rest = text_len.checked_sub(start).ok_or(SqlError::Tree)?;
        // Nothing: up to the end of the text.
        let len = match u32::try_from(raw.stmt_len).map_err(|_| SqlError::Tree)? {
            0 => rest,
            len if len <= rest => len,
            _ => return Err(SqlError::Tree),
        };
        let mut walk = Walk::new(start, len, depth_max);
        walk.run(raw.stmt())?;
        statements.push(walk.finish());
    }
    Ok(statements)
}
