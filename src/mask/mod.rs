//! Masks sensitive values in bodies: by what they look like, and by where they stand.
//!
//! ```text
//!   MaskSpec --compile--> Plan --Filter::new--> Filter --push--> Cleared
//!                                                |
//!             Text: Channel     Json, Ndjson: JsonMask     Sse: EventMask
//! ```
//!
//! The invariant of all of it: what comes out depends on what went in and not on how it was cut.
//! Bytes that are held back are never let go unmasked, not at an abort either: a [`Filter`] that
//! is dropped takes them along. What cannot be read under a mask is an error, never passed.
//! Masking knows JSON, text and two vendors' events, but no protocol. The cells of a database's rows
//! come each for itself, and whole where only that tells what becomes of them: [`CellMask`].

mod ahead;
mod cell;
mod column;
mod content;
mod detector;
mod error;
mod event;
mod filter;
mod find;
mod follow;
mod json;
mod operator;
mod path;
mod plan;
mod slot;
mod stencil;
mod tail;
mod tape;
mod text;
mod vendor;

pub use cell::{Ahead, Cell, CellMask, CellShape};
pub use column::{ColumnName, ColumnRule, Level};
pub use content::{Content, Shape};
pub use detector::{Detector, Finds, What, detectors};
pub use error::MaskError;
pub use filter::{Cleared, Filter, clear_value};
pub use follow::{TextReader, Told};
pub use operator::Operator;
pub use path::JsonPath;
pub use plan::{MaskSpec, Operators, Plan, Plans};

#[cfg(test)]
mod tests;
