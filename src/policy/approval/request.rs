//! One request: where it stands, who voted, what is left of its grant.

use super::ask::Ask;
use super::originals::Originals;
use super::{hex32, id_text};
use crate::base::ApprovalId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a person.
    Pending,
    /// It is a grant that nobody used yet.
    Approved,
    /// It is a grant that was used and has uses left.
    Active,
    /// A person said no.
    Denied,
    /// Nobody decided in time, or the grant's time is over.
    Expired,
    /// It was taken back before a decision.
    Cancelled,
    /// Every use of the grant was spent.
    Consumed,
    /// The grant was taken back.
    Revoked,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Pending,
        Self::Approved,
        Self::Active,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Consumed,
        Self::Revoked,
    ];

    /// The word of the record, the API and the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Active => "active",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
            Self::Revoked => "revoked",
        }
    }

    /// Reads what [`Self::label`] writes.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.label() == label)
    }

    /// Whether it is a grant that can be used.
    #[must_use]
    pub fn is_grant(self) -> bool {
        matches!(self, Self::Approved | Self::Active)
    }

    /// Whether it never changes again.
    #[must_use]
    pub fn is_final(self) -> bool {
        self != Self::Pending && !self.is_grant()
    }
}

/// What one person said of a request.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// Issuer of the person's token.
    pub iss: Box<str>,
    /// The person.
    pub sub: Box<str>,
    /// Those of the person's groups that may decide.
    pub groups: Box<[Box<str>]>,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<Box<str>>,
    /// Digest of what the person was shown.
    #[serde(with = "hex32")]
    pub digest: [u8; 32],
    /// By what it came, where that is not the API itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Box<str>>,
    /// When, wall nanoseconds.
    pub at_ns: u64,
}

impl fmt::Debug for Vote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Vote");
        debug.field("approve", &self.approve).field("at_ns", &self.at_ns).finish_non_exhaustive()
    }
}

/// Who ended a request or a grant, or looked at it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum By {
    /// Who asked.
    Caller,
    /// The policy, which denies meanwhile.
    Policy,
    /// Whoever holds the admin token.
    Script,
    /// A person, by its token.
    Person {
        /// Issuer of the token.
        iss: Box<str>,
        /// Subject.
        sub: Box<str>,
    },
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Caller => "Caller",
            Self::Policy => "Policy",
            Self::Script => "Script",
            Self::Person { .. } => "Person(..)",
        })
    }
}

/// Who ended it, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Who.
    pub by: By,
    /// Why, for people.
    pub why: Option<Box<str>>,
}

/// A person looked at what was done under break-glass.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Issuer of the person's token.
    pub iss: Box<str>,
    /// The person.
    pub sub: Box<str>,
    /// What the person says of it.
    pub reason: Option<Box<str>>,
    /// When, wall nanoseconds.
    pub at_ns: u64,
}

impl fmt::Debug for Review {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Review").field("at_ns", &self.at_ns).finish_non_exhaustive()
    }
}

/// A person looked at what the masks took out of the summary.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Look {
    /// Issuer of the person's token.
    pub iss: Box<str>,
    /// The person.
    pub sub: Box<str>,
    /// When, wall nanoseconds.
    pub at_ns: u64,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").field("at_ns", &self.at_ns).finish_non_exhaustive()
    }
}

/// One request, with everything that happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Its id.
    #[serde(with = "id_text")]
    pub id: ApprovalId,
    /// What was asked.
    pub ask: Ask,
    /// When, wall nanoseconds.
    pub requested_ns: u64,
    /// Until when it may be decided.
    pub deadline_ns: u64,
    /// Where it stands.
    pub state: State,
    /// Who said what, in the order of saying it.
    pub votes: Vec<Vote>,
    /// Until when the grant may be used.
    pub until_ns: Option<u64>,
    /// How often it was.
    pub used: u32,
    /// When it ended.
    pub ended_ns: Option<u64>,
    /// Who ended it, where somebody took it back.
    pub end: Option<End>,
    /// Of break-glass.
    pub review: Option<Review>,
    /// Who looked at the originals, each person with the last time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looks: Vec<Look>,
}

impl Request {
    /// The same with no more of the summary than `max` bytes, for lists: the rest is not copied.
    #[must_use]
    pub fn brief(&self, max: usize) -> Self {
        let ask = &self.ask;
        let summary = ask.summary.get(..ask.summary.floor_char_boundary(max));
        let ask = Ask {
            who: ask.who.clone(),
            resource: ask.resource.clone(),
            protocol: ask.protocol.clone(),
            rule: ask.rule.clone(),
            credential: ask.credential.clone(),
            generation: ask.generation,
            binding: ask.binding,
            fingerprint: ask.fingerprint,
            retry: ask.retry,
            summary: summary.unwrap_or_default().into(),
            terms: ask.terms.clone(),
            asserted: ask.asserted.clone(),
            reason: ask.reason.clone(),
            exchange: ask.exchange.clone(),
            originals: Originals::default(),
        };
        Self {
            id: self.id,
            ask,
            requested_ns: self.requested_ns,
            deadline_ns: self.deadline_ns,
            state: self.state,
            votes: self.votes.clone(),
            until_ns: self.until_ns,
            used: self.used,
            ended_ns: self.ended_ns,
            end: self.end.clone(),
            review: self.review.clone(),
            looks: self.looks.clone(),
        }
    }

    /// Uses that are left.
    #[must_use]
    pub fn uses_left(&self) -> u32 {
        if self.state.is_grant() { self.ask.terms.uses.saturating_sub(self.used) } else { 0 }
    }

    /// Whether a person must look at it yet: it was granted before anybody did.
    #[must_use]
    pub fn owes_review(&self) -> bool {
        self.ask.terms.break_glass && self.review.is_none()
    }

    /// Whether it takes one of the places of the table.
    #[must_use]
    pub(super) fn takes_place(&self) -> bool {
        !self.state.is_final() || self.owes_review()
    }

    /// When it ends by itself.
    #[must_use]
    pub(super) fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Pending => Some(self.deadline_ns),
            state if state.is_grant() => self.until_ns,
            _ => None,
        }
    }

    /// Why it was denied, in the words of whoever did.
    #[must_use]
    pub fn denial(&self) -> Option<&Vote> {
        self.votes.iter().find(|vote| !vote.approve)
    }

    /// Those who said yes.
    pub fn approvals(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter(|vote| vote.approve)
    }
}
