//! The owner of all approval requests: one thread, one log on the disk, a desk for everybody else.
//!
//! ```text
//! workers --ask, spend, leave--> | desk: a bounded queue | --> owner: book, log --> waiters
//! admin API --vote, revoke, ...->|                       |         one fdatasync for all
//! ```
//!
//! The owner takes what is queued, lets the [`Book`](crate::policy::approval::Book) decide, writes
//! all entries of the round to the record and to the log, waits for the disk once, and only then
//! answers. A use that somebody holds was counted down on the disk; one that was counted down
//! when the process died counts as spent.
//!
//! A caller never waits for the owner: a full queue and an owner that is gone are refusals at once.
//!
//! Cost: a round is one write, one `fdatasync` (about 1 ms on a data-centre SSD) and another small
//! write, for up to [`ROUND_MAX`] messages.

mod apart;
mod audit;
mod change;
mod desk;
mod log;
mod numbers;
mod owner;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use change::Change;
pub use desk::{Brief, Desk, Seen, Waiter};
pub use log::LogError;
pub(in crate::control) use log::{frame, promised, whole};
pub use numbers::Reading;
pub use owner::{Approvals, ROUND_MAX};

/// Where the log is, below `data_dir`.
pub const DIR: &str = "approvals";
