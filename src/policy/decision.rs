//! What a table answers. A [`Grant`] is the proof that an action is permitted, a [`Need`] that it
//! would be if a person approved.

use super::approval::Use;
use super::hold::{Hold, Holds};
use super::rule::{Durable, RecordLevel, Then};
use crate::base::{CredentialId, MaskSet, ResourceId, RuleId};

/// The answer to one action.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Decision {
    /// Refuse.
    Deny(Denial),
    /// Ask a person, and go on if it is approved.
    Hold(Need),
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
    /// Matching rules name different credentials; to pick one would be a guess.
    ConflictingCredential,
    /// Matching rules take approvals of different groups; nobody could give the one that is right.
    ConflictingApproval,
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
            Self::ConflictingApproval => "conflicting_approval",
            Self::StaleRow => "stale_row",
        }
    }
}

/// What an allowed exchange owes: the union over all matching rules.
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
    /// What approval it takes before it goes on.
    pub holds: Holds,
}

impl Obligations {
    /// The weakest ones, from which a union starts.
    pub(super) const NONE: Self = Self {
        masks: MaskSet::EMPTY,
        record: RecordLevel::Meta,
        credential: None,
        durable: Durable::Window,
        holds: Holds { approval: None, break_glass: None },
    };

    /// The decision that an action with these obligations comes to.
    pub(super) fn decision(self, rule: RuleId, resource: ResourceId) -> Decision {
        match self.holds.is_empty() {
            true => Decision::Permit(Grant::new(rule, resource, self)),
            false => Decision::Hold(Need { rule, resource, obligations: self }),
        }
    }

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

/// What a table permits once somebody approved. Not `Clone`, as the grant that it becomes is not.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Need {
    rule: RuleId,
    resource: ResourceId,
    obligations: Obligations,
}

impl Need {
    /// The rule that permits it then, and is named in the record.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// What it is asked for.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    /// What it will owe.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The terms that count: those of breaking the glass for a caller that gives a reason, where a
    /// rule lets it. `None`: only breaking the glass would do, and no reason was given.
    #[must_use]
    pub fn hold(&self, reason: bool) -> Option<&Hold> {
        let Holds { approval, break_glass } = &self.obligations.holds;
        break_glass.as_ref().filter(|_| reason).or(approval.as_ref())
    }

    /// The permit, for an approval of which a use was spent on what `binding` stands for, under the
    /// rule of that name.
    ///
    /// # Errors
    /// Itself, when the use is for something else.
    #[expect(clippy::result_large_err, reason = "the need is what was passed in")]
    pub fn grant(self, spent: &Use, binding: &[u8; 32], rule: &str) -> Result<Grant, Self> {
        match spent.covers(binding, rule) {
            true => Ok(Grant::new(self.rule, self.resource, self.obligations)),
            false => Err(self),
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

    /// The rule that is named in the record: the first in compiled order of those that permit.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// What it was granted for.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    /// All that the exchange owes.
    #[must_use]
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
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
