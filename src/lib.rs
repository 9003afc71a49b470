//! Weirgate: an identity-aware gateway in the data path of LLM, HTTP and database traffic.
//!
//! The crate starts a gateway in-process; see [`gateway::Gateway`].

pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod credential;
pub mod gateway;
pub mod identity;
pub mod mask;
pub mod policy;
pub mod record;
pub mod runtime;
pub mod scan;
pub mod session;
pub mod sql;
pub mod wire;
