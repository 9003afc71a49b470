//! Weirgate: an identity-aware gateway in the data path of LLM, HTTP and database traffic.

pub mod base;


pub mod cli;
pub mod control;
pub mod credential;

pub mod identity;
pub mod mask;
pub mod policy;
pub mod record;
pub mod runtime;
pub mod config;
pub mod identity;
pub mod mask;
pub mod policy;
pub mod scan;
pub mod session;
pub mod wire;
