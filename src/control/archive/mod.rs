//! Looking things up in the record of a running gateway: which exchanges there were, and one whole.
//!
//! It is read beside the drain, from the files that `weirgate sessions` reads, and nothing on the path
//! of a request knows of it. [`search`] goes from the newest entry backwards and stops at its
//! [`Budget`], with a mark where to go on; [`find`] reads one exchange from its first entry on; [`Running`] follows
//! what is recorded, and knows what has no end yet.
//!
//! Cost: a CRC32C pass over the segments that are read (64 MiB, about 50 ms each), and the rows of one
//! segment in memory. It blocks: not for a thread that serves others.

mod exchange;
mod filter;
mod running;
mod search;
mod shelf;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
mod text;
mod transcript;

pub use crate::base::time_text;
pub use exchange::{Found, find, is_database, replay, whole};
pub use filter::{Filter, row_json};
pub use running::Running;
pub use search::{Page, Place, search};
pub use shelf::{ArchiveError, Budget};
pub use text::{clean, escape, field_name, field_value, fields_json, parse_time};
pub use transcript::Transcript;
