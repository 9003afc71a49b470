//! What a table answers. A [`Grant`] is the proof that an action is permitted.

use super::rule::{Durable, RecordLevel, Then};
use crate::base::{CredentialId, MaskSet, ResourceId, RuleId};

/// The answer to one action.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Decision {
    /// Refuse.
    Deny(Denial),
    /// Go on, under the obligations of the grant.
    Permit(Grant),
}

/// Why an action is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The deny rule that matched; of a conflict, the allow rule that does not fit the others.
    pub rule: Option<RuleId>,
    /// The kind of reason.
    pub kind: DenialKind,
}

/// The kind of reason of a [`Denial`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialKind {
    /// A deny rule matched.
    Rule,
    /// No allow rule matched.
    NoRule,
    /// Matching allow rules name different credentials; to pick one would be a guess.
    ConflictingCredential,
    /// The row belongs to another generation of the table: an error of the caller of `decide`.
    StaleRow,
}

impl DenialKind {
    /// A fixed word for metrics and records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::NoRule => "no_rule",
            Self::ConflictingCredential => "conflicting_credential",
            Self::StaleRow => "stale_row",
        }
    }
}

/// What an allowed exchange owes: the union over all matching allow rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obligations {
    /// All masks of all rules.
    pub masks: MaskSet,
    /// Full if one rule says full.
    pub record: RecordLevel,
    /// The credential that a rule names in place of the resource's own.
    pub credential: Option<CredentialId>,
    /// Each if one rule says each.
    pub durable: Durable,
}

impl Obligations {
    /// The weakest ones, from which a union starts.
    pub(super) const NONE: Self = Self {
        masks: MaskSet::EMPTY,
        record: RecordLevel::Meta,
        credential: None,
        durable: Durable::Window,
    };

    /// Adds those of one more rule; `false` when the credentials contradict each other.
    pub(super) fn unite(&mut self, then: &Then) -> bool {
        self.masks = self.masks.union(then.masks);
        self.record = self.record.max(then.record);
        self.durable = self.durable.max(then.durable);
        match (self.credential, then.credential) {
            (Some(one), Some(other)) => one == other,
            (None, Some(other)) => {
                self.credential = Some(other);
                true
            }
            (_, None) => true,
        }
    }
}

/// Proof that a table permitted an action. Not `Clone`: one grant serves one exchange.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Grant {
    rule: RuleId,
    resource: ResourceId,
    obligations: Obligations,
}

impl Grant {
    /// Only the table makes one.
    pub(super) fn new(rule: RuleId, resource: ResourceId, obligations: Obligations) -> Self {
        Self { rule, resource, obligations }
    }

    /// The allow rule that is named in the record: the first in compiled order of those that matched.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// What it was granted for.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    /// Masks that the exchange goes through.
    #[must_use]
    pub fn masks(&self) -> MaskSet {
        self.obligations.masks
    }

    /// Level of the record.
    #[must_use]
    pub fn record(&self) -> RecordLevel {
        self.obligations.record
    }

    /// The credential in place of the resource's own.
    #[must_use]
    pub fn credential(&self) -> Option<CredentialId> {
        self.obligations.credential
    }

    /// When the record must be on stable storage.
    #[must_use]
    pub fn durable(&self) -> Durable {
        self.obligations.durable
    }
}
