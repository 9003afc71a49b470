//! One function for each input surface: `run` takes any bytes and panics when a claim about the
//! surface does not hold.
//!
//! libFuzzer calls them by the binaries of `fuzz_targets/`; `tests/fuzz_corpus.rs` of the gateway
//! includes this file and replays the corpora. Seeds are text where the surface is text; a first
//! byte that chooses a mode is a letter, so that seeds can be written by hand.

pub mod coding;
pub mod config;
pub mod cuts;
pub mod exchange;
pub mod http1_body;
pub mod http1_head;
pub mod json;
pub mod mask;
pub mod notify;
pub mod postgres;
pub mod segment;
pub mod session;
pub mod session_postgres;
mod session_rows;
pub mod sql;
pub mod sse;
pub mod token;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("coding", coding::run),
    ("config", config::run),
    ("exchange", exchange::run),
    ("http1_body", http1_body::run),
    ("http1_head", http1_head::run),
    ("json", json::run),
    ("mask", mask::run),
    ("notify", notify::run),
    ("postgres", postgres::run),
    ("segment", segment::run),
    ("session", session::run),
    ("session_postgres", session_postgres::run),
    ("sql", sql::run),
    ("sse", sse::run),
    ("token", token::run),
];
