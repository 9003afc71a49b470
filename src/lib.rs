//! Weirgate: an identity-aware gateway in the data path of LLM, HTTP and database traffic.

pub mod base;
pub mod cli;
pub mod control;
pub mod record;
pub mod runtime;
