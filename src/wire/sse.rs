//! Event streams on the wire; see [`crate::scan::sse`], which `mask` shares.

pub use crate::scan::sse::{Event, SseError, SseParser, write_data};
