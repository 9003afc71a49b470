//! The commands, one file each.

pub mod sessions;
pub mod verify;
