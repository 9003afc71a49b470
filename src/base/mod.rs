//! What every layer may use: ids, bounds, time as a value, secrets, pieces of a buffer.
//!
//! Nothing here knows a protocol, a policy or an operating system.

mod ids;
mod limits;
mod now;
mod pieces;
mod secret;

pub use ids::{
    ConnectionId, CredentialId, ExchangeId, IssuerId, ListenerId, MaskId, MaskSet, ResourceId,
    RuleId,
};
pub use limits::Limits;
pub use now::Now;
pub use pieces::{Piece, Pieces};
pub use secret::Secret;
