//! A person approves one operation of a caller before it is done.
//!
//! A caller's operation becomes an [`Ask`]. The [`Book`] has all of them, and every change of one:
//!
//! ```text
//! pending -> approved | denied | expired | cancelled
//!            approved -> active -> consumed | expired | revoked
//! ```
//!
//! Pure, as all of policy: times and random ids are passed in, and what changes is an [`Entry`]
//! that its owner writes to the disk **before** anybody hears of it ([`Staged`]). The same
//! entries, applied in their order, make the same book again.
//!
//! Times are wall nanoseconds, since they outlive the process. Whoever passes them in sees to it
//! that they never run backwards.

mod ask;
mod book;
mod entry;
pub mod hex32;
mod id_text;
mod originals;
mod people;
mod request;
mod reveal;
mod shown;
mod terms;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
mod verdict;

pub use crate::base::ApprovalId;
pub use ask::{Ask, AskFault, Claims, Party, REASON_MAX, SUMMARY_MAX};
pub use book::{Book, Bounds, Levels, Misplaced, Revoker, Selector, TakenBack};
pub use entry::{Act, Entry, Staged, Synced};
pub use originals::{Originals, Statement};
pub use people::{ActFault, Ballot, is_another};
pub use request::{By, End, Look, Request, Review, State, Vote};
pub use reveal::LOOKS_MAX;
pub use shown::{shown, shown_digest};
pub use terms::{
    APPROVERS_MAX, BREAK_GLASS_NS_MAX, COUNT_MAX, HOURS_24_NS, Scope, Terms, TermsFault, USES_MAX,
};
pub use verdict::{Refused, Use, Verdict};
