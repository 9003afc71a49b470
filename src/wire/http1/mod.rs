//! HTTP/1.1 and 1.0 as the gateway reads it (RFC 9110, RFC 9112), strictly and in both directions.
//!
//! A head is parsed once, when its end is found ([`HeadScan`] remembers how far it looked), into a
//! [`RequestHead`] or [`ResponseHead`] of ranges of the buffer. Both are reused from message to
//! message: in steady state nothing is allocated but growth of the canonical path and field list.
//! Bodies are split by [`BodyDecoder`] into ranges of the input, without a copy.
//!
//! Refuse, never repair: where the RFC lets a recipient mend a message, the mended one would no
//! longer be the one that was decided and recorded. Every refusal has a fixed label.
//!
//! A head that is whole and usual is read in one pass over marks of its bytes (`plain`); every
//! other one by the strict way, which alone says what is wrong: one `memchr` pass for line ends, one
//! pass of httparse, one pass over names.

mod body;
mod error;
mod fields;
mod host;
mod names;
mod path;
mod plain;
mod query;
mod request;
mod response;
mod scan;

pub use body::{BodyDecoder, BodyStep, CHUNK_END, LAST_CHUNK, chunk_head};
pub use error::{BodyError, HeadError, HeadFault};
pub use fields::{FIELDS_MAX, Field, Framing, slice};
pub use host::{Authority, canonical_host};
pub use names::FieldId;
pub use path::{canonical_path, route};
pub use query::{CREDENTIAL_KEYS, query_value, write_query};
pub use request::{Form, RequestHead, Target, parse_request};
pub use response::{ResponseHead, parse_response};
pub use scan::HeadScan;

#[cfg(test)]
mod tests;
