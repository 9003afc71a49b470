//! What every layer may use: ids, the names of protocols, bounds, budgets by address, time as a
//! value, secrets, pieces of a buffer.
//!
//! Nothing here knows how a protocol works, a policy or an operating system.

mod budgets;
mod ids;
mod limits;
mod now;
mod pieces;
mod protocol;
mod secret;
mod time;

pub use budgets::{Budgets, Hold, Pace};
pub use ids::{
    ApprovalId, ConnectionId, CredentialId, ExchangeId, IssuerId, ListenerId, MaskId, MaskSet,
    ResourceId, RuleId,
};
pub use limits::Limits;
pub use now::Now;
pub use pieces::{Piece, Pieces};
pub use protocol::Protocol;
pub use secret::Secret;
pub use time::{civil, time_text};
