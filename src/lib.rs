//! Weirgate: an identity-aware gateway in the data path of LLM, HTTP and database traffic.

pub mod base;
pub mod cli;
pub mod config;
pub mod identity;
pub mod mask;
pub mod policy;
pub mod scan;
pub mod wire;
