//! Temporary: the contract only.

pub mod gate;
pub mod io;
