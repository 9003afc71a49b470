//! What a caller's session hears of its request.

use super::ask::AskFault;
use crate::base::ApprovalId;

/// What became of a request, as whoever waits for it is told.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Verdict {
    /// It waits for a person. Told at once, and once.
    Pending {
        /// The request.
        id: ApprovalId,
        /// Until when, wall nanoseconds.
        deadline_ns: u64,
    },
    /// It was approved, and the grant has uses left at the moment: ask to spend one.
    Approved {
        /// The request.
        id: ApprovalId,
    },
    /// A person said no.
    Denied {
        /// The request.
        id: ApprovalId,
        /// Why, in the person's words.
        reason: Option<Box<str>>,
    },
    /// Nobody decided in time, or the grant's time is over.
    Expired {
        /// The request.
        id: ApprovalId,
    },
    /// The caller, the policy or an operator took it back before a decision.
    Cancelled {
        /// The request.
        id: ApprovalId,
    },
    /// The grant was taken back. What runs under it ends.
    Revoked {
        /// The request.
        id: ApprovalId,
    },
    /// One use was counted down, and that is on the disk.
    Spent(Use),
    /// Nothing was asked, or nothing was spent.
    Refused(Refused),
}

impl Verdict {
    /// The request that it is about.
    #[must_use]
    pub fn id(&self) -> Option<ApprovalId> {
        match self {
            Self::Pending { id, .. }
            | Self::Approved { id }
            | Self::Denied { id, .. }
            | Self::Expired { id }
            | Self::Cancelled { id }
            | Self::Revoked { id } => Some(*id),
            Self::Spent(spent) => Some(spent.id()),
            Self::Refused(_) => None,
        }
    }
}

/// Why a session gets no verdict of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The owner of the requests is gone, or cannot write its log.
    Unavailable,
    /// The table, or the way to its owner, is full.
    Full,
    /// This caller has as many open requests and grants as it may.
    CallerFull,
    /// The request is not one that can be asked.
    Fault(AskFault),
    /// There is no such request.
    Unknown,
    /// It is another caller's, or covers another operation.
    Foreign,
    /// It waits for a person yet.
    NotApproved,
    /// Every use was spent.
    UsedUp,
}

impl Refused {
    /// A fixed word for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Full => "full",
            Self::CallerFull => "caller_full",
            Self::Fault(AskFault::NoReason) => "no_reason",
            Self::Fault(_) => "fault",
            Self::Unknown => "unknown",
            Self::Foreign => "foreign",
            Self::NotApproved => "not_approved",
            Self::UsedUp => "used_up",
        }
    }
}

/// Proof that one use of a grant was counted down on the disk. Not `Clone`: it opens one operation.
///
/// Only the book makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Use {
    pub(super) id: ApprovalId,
    pub(super) binding: [u8; 32],
    pub(super) rule: Box<str>,
    pub(super) credential: Option<Box<str>>,
    pub(super) number: u32,
    pub(super) approvers: Box<[Box<str>]>,
}

impl Use {
    /// The request.
    #[must_use]
    pub fn id(&self) -> ApprovalId {
        self.id
    }

    /// Whether it is for what `binding` stands for, under this rule.
    #[must_use]
    pub fn covers(&self, binding: &[u8; 32], rule: &str) -> bool {
        self.binding == *binding && *self.rule == *rule
    }

    /// Id of the rule.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The credential that it opens in place of the resource's own.
    #[must_use]
    pub fn credential(&self) -> Option<&str> {
        self.credential.as_deref()
    }

    /// Which use of the grant it is, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Subjects of those who approved; nobody under break-glass.
    pub fn approvers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.approvers.iter().map(AsRef::as_ref)
    }
}
