//! What the command line does, as functions that a test can call.

pub mod token;
