//! The flow of each protocol as a pure function, and the one order of checks.
//!
//! A session knows policy, masks, the record and its protocol; it knows no socket, no clock and
//! no thread. [`gate`] is the only place where the order of checks is written.

mod approving;
mod asserted;
pub mod cancels;
mod gaps;
pub mod gate;
pub mod http;
pub mod io;
mod json;
#[cfg(test)]
mod kit;
mod model;
#[cfg(test)]
mod multiplex;
pub mod postgres;
mod refusal;
pub mod relations;
mod stall;
pub mod tcp;
mod waiting;
mod watch;
mod worker;

pub use approving::Petition;
pub use gaps::Books;
pub use io::{Act, Ending, Input, Interest, Out, UpstreamFault};
pub use refusal::Refusal;
pub use worker::{
    Counts, Held, Identified, Known, ListenerView, ResourceView, Snapshot, Unidentified, Worker,
};
