//! Wire formats as pure parsers and writers: bytes in, ranges and values out.
//!
//! Nothing here knows a policy, a session or a socket. Both sides of the gateway are strangers:
//! what two parsers could read in two ways is refused, never repaired.

pub mod coding;
pub mod http1;
pub mod postgres;
pub mod sse;
