//! What a rule asks of an approval.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What a grant covers beside the operation that was asked for. The approver sees which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// This operation, byte for byte.
    #[default]
    Exact,
    /// The same statement or request with other literals.
    Shape,
    /// Everything on the resource that the rule is about.
    Resource,
    /// Everything in this session that the rule is about.
    Session,
}

impl Scope {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 4] = [Self::Exact, Self::Shape, Self::Resource, Self::Session];

    /// The word of the config, the record and the API.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Shape => "shape",
            Self::Resource => "resource",
            Self::Session => "session",
        }
    }

    /// Reads what [`Self::label`] writes.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.label() == label)
    }
}

/// Under which terms somebody may approve, and what the grant is then good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Groups of the admin issuer; a member of any of them may decide.
    pub approvers: Box<[Box<str>]>,
    /// How many people must approve.
    pub count: u32,
    /// Each of them for another one of the groups.
    pub distinct_groups: bool,
    /// From asking to the decision.
    pub wait_ns: u64,
    /// From the approval to the last use.
    pub ttl_ns: u64,
    /// How often the grant may be used.
    pub uses: u32,
    /// What the grant covers.
    pub scope: Scope,
    /// Whoever decides must say why.
    pub reason: bool,
    /// The grant is there at once: the caller says why, and a person reviews it after.
    pub break_glass: bool,
    /// Groups whose members may see what the masks took out of the summary; nobody where it is
    /// empty.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub reveal: Box<[Box<str>]>,
    /// Whoever sees the request may have the database plan it, for an estimate of its rows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimate: bool,
}

impl Terms {
    /// Why nothing could be asked under these terms, or more would be granted than is allowed.
    #[must_use]
    pub fn fault(&self) -> Option<TermsFault> {
        let (names, times) = (&self.approvers, [self.wait_ns, self.ttl_ns]);
        if names.is_empty() || names.iter().any(|name| name.is_empty()) {
            Some(TermsFault::NoApprovers)
        } else if names.len() > APPROVERS_MAX {
            Some(TermsFault::TooManyApprovers)
        } else if has_twice(names) {
            Some(TermsFault::ApproverTwice)
        } else if self.reveal.len() > APPROVERS_MAX
            || self.reveal.iter().any(|name| name.is_empty())
            || has_twice(&self.reveal)
        {
            Some(TermsFault::Reveal)
        } else if self.count == 0 || self.count > COUNT_MAX {
            Some(TermsFault::Count)
        } else if self.distinct_groups && self.count as usize > names.len() {
            Some(TermsFault::DistinctGroups)
        } else if times.iter().any(|ns| *ns == 0 || *ns > HOURS_24_NS) {
            Some(TermsFault::Time)
        } else if self.break_glass && self.ttl_ns > BREAK_GLASS_NS_MAX {
            Some(TermsFault::BreakGlassTime)
        } else if self.uses == 0 || self.uses > USES_MAX {
            Some(TermsFault::Uses)
        } else {
            None
        }
    }
}

fn has_twice(names: &[Box<str>]) -> bool {
    names.iter().enumerate().any(|(place, name)| names.iter().take(place).any(|one| one == name))
}

/// Why [`Terms`] are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TermsFault {
    /// Nobody could decide, or review.
    NoApprovers,
    /// More than [`APPROVERS_MAX`] groups.
    TooManyApprovers,
    /// One group stands there twice.
    ApproverTwice,
    /// `count` is not 1 to [`COUNT_MAX`].
    Count,
    /// More people from distinct groups than there are groups.
    DistinctGroups,
    /// `wait` or `ttl` is zero or above [`HOURS_24_NS`].
    Time,
    /// `ttl` of a break-glass rule is above [`BREAK_GLASS_NS_MAX`].
    BreakGlassTime,
    /// `uses` is not 1 to [`USES_MAX`].
    Uses,
    /// `reveal` names more than [`APPROVERS_MAX`] groups, one twice, or an empty one.
    Reveal,
}

impl fmt::Display for TermsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoApprovers => f.write_str("`approvers` names no group"),
            Self::TooManyApprovers => {
                write!(f, "`approvers` names more than {APPROVERS_MAX} groups")
            }
            Self::ApproverTwice => f.write_str("`approvers` names a group twice"),
            Self::Count => write!(f, "`count` is not between 1 and {COUNT_MAX}"),
            Self::DistinctGroups => {
                f.write_str("`count` is above the number of `approvers`, which must be distinct")
            }
            Self::Time => f.write_str("`wait` and `ttl` are more than zero and at most 24 hours"),
            Self::BreakGlassTime => {
                f.write_str("`ttl` of a break-glass rule is at most 15 minutes")
            }
            Self::Uses => write!(f, "`uses` is not between 1 and {USES_MAX}"),
            Self::Reveal => {
                write!(f, "`reveal` names at most {APPROVERS_MAX} groups, each of them once")
            }
        }
    }
}

/// Most of `wait` and of `ttl`.
pub const HOURS_24_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Most of `ttl` under break-glass.
pub const BREAK_GLASS_NS_MAX: u64 = 15 * 60 * 1_000_000_000;
/// Groups of one rule.
pub const APPROVERS_MAX: usize = 32;
/// People of one request.
pub const COUNT_MAX: u32 = 16;
/// Uses of one grant.
pub const USES_MAX: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            approvers: ["dba".into(), "lead".into()].into(),
            count: 2,
            distinct_groups: true,
            wait_ns: HOURS_24_NS,
            ttl_ns: HOURS_24_NS,
            uses: 1,
            scope: Scope::Exact,
            reason: false,
            break_glass: false,
            reveal: [].into(),
            estimate: false,
        }
    }

    #[test]
    fn terms_at_their_bounds_are_taken_and_beyond_are_not() {
        assert_eq!(terms().fault(), None);
        type Change = fn(&mut Terms);
        let wrong: [(Change, TermsFault); 14] = [
            (|t| t.approvers = [].into(), TermsFault::NoApprovers),
            (|t| t.approvers = ["".into()].into(), TermsFault::NoApprovers),
            (
                |t| t.approvers = (0..33).map(|n: u32| n.to_string().into()).collect(),
                TermsFault::TooManyApprovers,
            ),
            (|t| t.approvers = ["a".into(), "a".into()].into(), TermsFault::ApproverTwice),
            (|t| t.count = 0, TermsFault::Count),
            (|t| t.count = COUNT_MAX + 1, TermsFault::Count),
            (|t| t.count = 3, TermsFault::DistinctGroups),
            (|t| t.wait_ns = 0, TermsFault::Time),
            (|t| t.ttl_ns = HOURS_24_NS + 1, TermsFault::Time),
            (
                |t| (t.break_glass, t.ttl_ns) = (true, BREAK_GLASS_NS_MAX + 1),
                TermsFault::BreakGlassTime,
            ),
            (|t| t.uses = 0, TermsFault::Uses),
            (|t| t.reveal = ["".into()].into(), TermsFault::Reveal),
            (|t| t.reveal = ["a".into(), "a".into()].into(), TermsFault::Reveal),
            (|t| t.uses = USES_MAX + 1, TermsFault::Uses),
        ];
        for (change, fault) in wrong {
            let mut changed = terms();
            change(&mut changed);
            assert_eq!(changed.fault(), Some(fault));
        }
    }

    #[test]
    fn a_scope_reads_back_its_label() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.label()), Some(scope));
            assert_eq!(serde_json::to_value(scope).ok(), Some(scope.label().into()));
        }
        assert_eq!(Scope::parse("Exact"), None);
    }
}
