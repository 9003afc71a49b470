//! The commands, one file each.

pub mod check;
pub mod policy;
pub mod source;
pub mod token;
