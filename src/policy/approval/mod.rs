//! A person approves one operation of a caller before it is done.
//!
//! A caller's operation becomes an [`Ask`]. The book has all of them, and every change of one:
//!
//!     pending -> approved | denied | expired | cancelled
//!                approved -> active -> consumed | expired | revoked
//!
//! Pure, as all of policy: times and random ids are passed in, and what changes is an entry
//! that its owner writes to the disk **before** anybody hears of it. The same entries, applied in
//! their order, make the same book again.

mod ask;
pub mod hex32;
mod terms;
mod verdict;

pub use crate::base::ApprovalId;
pub use ask::{Ask, AskFault, Claims, Party, REASON_MAX, SUMMARY_MAX};
pub use terms::{
    APPROVERS_MAX, BREAK_GLASS_NS_MAX, COUNT_MAX, HOURS_24_NS, Scope, Terms, TermsFault, USES_MAX,
};
pub use verdict::{Refused, Use, Verdict};
