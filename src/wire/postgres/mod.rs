//! PostgreSQL's frontend/backend protocol 3.0 to 3.2, both directions (manual, "Frontend/Backend
//! Protocol", sections "Message Flow" and "Message Formats").
//!
//! A connection begins with packets without a tag ([`opening`]); from then on every message is a
//! tag and a length ([`frame`]) and a body, which [`frontend`] reads when the caller sent it and
//! [`backend`] when the upstream did. [`frame`] needs the first [`FRAME_HEAD`] bytes only, so that
//! a body of any size can go on while it comes; [`RowWalk`] reads a DataRow in such parts,
//! [`Cells`] a whole one.
//!
//! Parsers give slices of the body and allocate nothing. They are exact: a byte too many or too
//! few, a string without its end, a count or code that the manual does not know is an error, never
//! a guess. What was parsed is written again byte for byte ([`Frontend::write`],
//! [`Backend::write`]): there is one encoding of a message, so nobody behind can read another one
//! out of it.
//!
//! Counts are unsigned where the server reads them so (up to 65535 bind values), although the
//! manual calls them Int16. Estimate: a message is one pass over its body, with `memchr` for the
//! strings; a DataRow is a few ns a cell.

mod backend;
mod cursor;
mod error;
mod frame;
mod frontend;
mod lists;
mod opening;
mod row;
pub mod write;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use backend::{
    Auth, Backend, Column, Columns, CopyFormat, FieldIter, Fields, TxStatus, backend,
};
pub use error::WireError;
pub use frame::{FRAME_HEAD, FRAME_LEN_MAX, Frame, frame, frontend_len_max};
pub use frontend::{Bind, Call, Frontend, SaslInitial, frontend, password, sasl_initial};
pub use lists::{BINARY, Formats, Strings, TEXT, Types, Values, ValuesIter};
pub use opening::{
    MINOR_MAX, OPENING_LEN_MAX, Opening, PARAMS_MAX, SECRET_LEN_MAX, SECRET_LEN_MIN, Startup,
    opening,
};
pub use row::{Cells, RowStep, RowWalk};
