//! Tells others of approvals, and hears from them.
//!
//! ```text
//! approvals --change--> scout: the table --> | outbox, on the disk | --> courier --> receivers
//! receivers --signed callback, signed link--> admin surface --> who, by their own token --> desk
//! ```
//!
//! The scout never trusts that it heard everything: a change is a reason to look at the request, and
//! a start, or a change that was missed, one to look through the table. What is to be said of a
//! request follows from what stands there, under an id that follows from it too, so that it is said
//! once. Nothing here is waited for by approvals.
//!
//! Who runs a receiver votes for nobody: a callback holds the approver's own token, and a link opens
//! the page, where the approver signs in.

mod backoff;
mod courier;
mod frames;
mod happened;
mod hook;
mod link;
mod message;
mod notifier;
mod numbers;
mod outbox;
mod pace;
pub(in crate::control) use pace::Budget;
mod scout;
pub mod signature;
mod slack;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use frames::OutboxError;
pub use hook::{Hook, HookError};
pub use link::{Link, LinkError};
pub use notifier::Notifier;
pub use numbers::HookReading;
pub(in crate::control) use slack::only_to_you;
pub use slack::{NoPayload, Press, press};

/// Does something to its end, also where nobody waits for it any more: a peer that hangs up between
/// the using up of what it showed and the vote must not leave one without the other.
pub(in crate::control) async fn to_its_end<T: Send + 'static>(
    act: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    // A panic there was logged there.
    tokio::spawn(act).await.ok()
}

/// Where the outbox and the key of links are, below `data_dir`.
pub const DIR: &str = "notify";
