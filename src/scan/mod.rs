//! Incremental scanners of bytes: JSON tokens, event-stream events, byte classes.
//!
//! A scanner is fed input in pieces of any size and yields the same tokens however it was split.
//! It knows no policy and changes nothing; `mask` and `wire` build on it.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod class;
pub mod json;
pub mod marks;
pub mod opening;
pub mod run;
pub mod sse;
