//! A rule as data: what the config hands to the compiler of the table.

use super::approval::{Terms, TermsFault};
use super::pattern::Pattern;
use crate::base::{CredentialId, IssuerId, MaskSet, ResourceId};
use std::fmt;

/// What a matching rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Effect {
    /// Refuses, whatever else matches.
    Deny,
    /// Permits once a person approved of the operation; wins over every allow.
    RequireApproval,
    /// Permits, with its obligations, unless one of the others matches too.
    Allow,
}

impl Effect {
    /// Whether it holds something back: then what cannot be read meets its rule.
    pub(super) fn is_strict(self) -> bool {
        self != Self::Allow
    }
}

/// How much of an exchange is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordLevel {
    /// Heads, decision, timings, sizes; no bodies.
    Meta,
    /// Everything that was released. Wins over [`Self::Meta`].
    #[default]
    Full,
}

/// When an exchange's record must be on stable storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durable {
    /// Within the drain window.
    #[default]
    Window,
    /// Before anything of it is released. Wins over [`Self::Window`].
    Each,
}

/// Who a rule is about. `None`: everybody, also where the attribute is absent.
///
/// The alternatives inside one key are ORed, the keys are ANDed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhoRule {
    /// Issuers of the token.
    pub iss: Option<Vec<IssuerId>>,
    /// Subject.
    pub sub: Option<Vec<Pattern>>,
    /// At least one group of the caller matches at least one of these.
    pub groups: Option<Vec<Pattern>>,
    /// No group of the caller matches any of these. A caller without groups passes.
    pub not_groups: Option<Vec<Pattern>>,
    /// The OAuth client.
    pub client_id: Option<Vec<Pattern>>,
    /// Who acts for the subject (RFC 8693, `act`). What a rule permits, it permits by the current
    /// actor only, since section 4.1 forbids to grant by earlier ones; what it holds back, by the
    /// whole chain.
    pub actor: Option<Vec<Pattern>>,
    /// Node of the graph that the caller says it runs; see [`Asserted`](super::Asserted).
    pub node: Option<Vec<Pattern>>,
    /// Run that it says it is.
    pub run: Option<Vec<Pattern>>,
    /// Thread that it says it belongs to.
    pub thread: Option<Vec<Pattern>>,
}

impl WhoRule {
    /// Whether it names what a caller only says: then the rule permits nothing.
    #[must_use]
    pub fn names_asserted(&self) -> bool {
        [&self.node, &self.run, &self.thread].iter().any(|list| list.is_some())
    }
}

/// What a rule is about. `None`: anything, also where the attribute is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct What {
    /// Resources.
    pub resource: Option<Vec<ResourceId>>,
    /// Request method, case-sensitive (RFC 9110, section 9.1).
    pub method: Option<Vec<Pattern>>,
    /// Canonical path after the resource segment.
    pub path: Option<Vec<Pattern>>,
    /// Model that the request asks for.
    pub model: Option<Vec<Pattern>>,
    /// Kind of a statement; see [`STATEMENTS`](super::STATEMENTS). `unknown` is allowed by that
    /// word only.
    pub statement: Option<Vec<Pattern>>,
    /// Table that a statement reads or writes, as `schema.name`.
    pub table: Option<Vec<Pattern>>,
    /// Table that a statement reads.
    pub reads: Option<Vec<Pattern>>,
    /// Table that a statement writes.
    pub writes: Option<Vec<Pattern>>,
    /// Column that a statement reads or writes, as `schema.table.column`. A deny rule matches by any
    /// column of the table in hand, an allow rule when it names all of them, and there is one.
    pub column: Option<Vec<Pattern>>,
    /// Function that a statement calls: `name` of `pg_catalog`, else `schema.name`. A deny rule
    /// matches by any function of the statement, an allow rule when it names all special ones,
    /// and one at least.
    pub function: Option<Vec<Pattern>>,
    /// `where = "missing"`: a statement that changes or deletes every row.
    pub missing_where: bool,
    /// A text of more than one statement.
    pub multi_statement: bool,
    /// Values that a statement is run with, by the number of the parameter: each must match one of
    /// its patterns.
    pub parameters: Vec<(u16, Vec<Pattern>)>,
}

impl What {
    /// Whether it names anything that only statements have.
    #[must_use]
    pub fn names_sql(&self) -> bool {
        let lists =
            [&self.statement, &self.table, &self.reads, &self.writes, &self.column, &self.function];
        self.missing_where
            || self.multi_statement
            || !self.parameters.is_empty()
            || lists.iter().any(|list| list.is_some())
    }

    /// Whether it names anything that only requests have.
    #[must_use]
    pub fn names_http(&self) -> bool {
        [&self.method, &self.path, &self.model].iter().any(|list| list.is_some())
    }
}

/// Obligations of an allow rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Then {
    /// Masks that the exchange goes through.
    pub masks: MaskSet,
    /// Level of the record; full where nothing is said.
    pub record: RecordLevel,
    /// A credential in place of the resource's own.
    pub credential: Option<CredentialId>,
    /// When the record must be on stable storage.
    pub durable: Durable,
    /// What the approval of a `require_approval` rule takes.
    pub approval: Option<Terms>,
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// Unique name; goes to the record and to refusals.
    pub id: String,
    /// What it does when it matches.
    pub effect: Effect,
    /// Who.
    pub who: WhoRule,
    /// What.
    pub what: What,
    /// Obligations; must be the default on a deny rule.
    pub then: Then,
}

impl RuleSpec {
    /// A rule about everybody and everything, without obligations.
    #[must_use]
    pub fn new(id: impl Into<String>, effect: Effect) -> Self {
        Self {
            id: id.into(),
            effect,
            who: WhoRule::default(),
            what: What::default(),
            then: Then::default(),
        }
    }

    /// The lists of patterns with their keys.
    pub(super) fn patterns(&self) -> [(&'static str, Option<&[Pattern]>); 17] {
        [
            ("sub", self.who.sub.as_deref()),
            ("groups", self.who.groups.as_deref()),
            ("not_groups", self.who.not_groups.as_deref()),
            ("client_id", self.who.client_id.as_deref()),
            ("actor", self.who.actor.as_deref()),
            ("method", self.what.method.as_deref()),
            ("path", self.what.path.as_deref()),
            ("model", self.what.model.as_deref()),
            ("statement", self.what.statement.as_deref()),
            ("table", self.what.table.as_deref()),
            ("reads", self.what.reads.as_deref()),
            ("writes", self.what.writes.as_deref()),
            ("function", self.what.function.as_deref()),
            ("node", self.who.node.as_deref()),
            ("run", self.who.run.as_deref()),
            ("thread", self.who.thread.as_deref()),
            ("column", self.what.column.as_deref()),
        ]
    }

    /// What is wrong with this rule alone.
    pub(super) fn faults(&self, resources: usize) -> Vec<RuleFault> {
        let mut faults = Vec::new();
        if self.id.is_empty() {
            faults.push(RuleFault::NoId);
        }
        for (key, list) in self.patterns() {
            let Some(list) = list else { continue };
            if list.is_empty() {
                faults.push(RuleFault::EmptyList(key));
            }
            if list.iter().any(|pattern| pattern.text().len() > PATTERN_LEN_MAX) {
                faults.push(RuleFault::PatternTooLong(key));
            }
        }
        for (number, list) in &self.what.parameters {
            if *number == 0 {
                faults.push(RuleFault::NoParameter);
            }
            if list.is_empty() {
                faults.push(RuleFault::EmptyList("parameters"));
            }
            if list.iter().any(|pattern| pattern.text().len() > PATTERN_LEN_MAX) {
                faults.push(RuleFault::PatternTooLong("parameters"));
            }
        }
        if self.who.iss.as_ref().is_some_and(Vec::is_empty) {
            faults.push(RuleFault::EmptyList("iss"));
        }
        if let Some(list) = &self.what.resource {
            if list.is_empty() {
                faults.push(RuleFault::EmptyList("resource"));
            }
            if list.iter().any(|id| id.index() >= resources) {
                faults.push(RuleFault::UnknownResource);
            }
        }
        if self.what.names_http() && self.what.names_sql() {
            faults.push(RuleFault::MixedKeys);
        }
        if self.what.reads.is_some() && self.what.writes.is_some() {
            faults.push(RuleFault::ReadsAndWrites);
        }
        if self.effect == Effect::Deny && self.then != Then::default() {
            faults.push(RuleFault::DenyWithObligations);
        }
        if (self.effect == Effect::RequireApproval) != self.then.approval.is_some() {
            faults.push(RuleFault::ApprovalWithoutEffect);
        }
        if let Some(fault) = self.then.approval.as_ref().and_then(Terms::fault) {
            faults.push(RuleFault::Approval(fault));
        }
        if self.who.names_asserted() && self.then.credential.is_some() {
            faults.push(RuleFault::AssertedCredential);
        }
        if !self.what.parameters.is_empty() && self.then.credential.is_some() {
            faults.push(RuleFault::ParameterCredential);
        }
        faults
    }
}

/// How many groups approve in one policy.
pub const APPROVER_GROUPS_MAX: usize = 64;
/// How many rules one table holds.
pub const RULES_MAX: usize = 1 << 14;
/// Longest pattern in bytes; it bounds the depth of the index that is built from them.
pub const PATTERN_LEN_MAX: usize = 512;

/// A rule that the table cannot be built with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Position in the list that was given.
    pub rule: usize,
    /// Why.
    pub fault: RuleFault,
}

/// Why a rule is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleFault {
    /// The id is empty.
    NoId,
    /// Another rule has the same id.
    DuplicateId,
    /// A list without an entry would match nothing.
    EmptyList(&'static str),
    /// Longer than [`PATTERN_LEN_MAX`].
    PatternTooLong(&'static str),
    /// A resource id outside the config.
    UnknownResource,
    /// Keys of requests and keys of statements: nothing has both.
    MixedKeys,
    /// `reads` and `writes`: a statement does one thing with one table at a time.
    ReadsAndWrites,
    /// A deny has nothing to oblige.
    DenyWithObligations,
    /// A credential by what the caller only says of itself.
    AssertedCredential,
    /// `then.approval` without `require_approval`, or the other way round.
    ApprovalWithoutEffect,
    /// Terms under which nothing can be asked.
    Approval(TermsFault),
    /// More than [`APPROVER_GROUPS_MAX`] different groups approve.
    TooManyApprovers,
    /// A credential by values that come when the statement is prepared already.
    ParameterCredential,
    /// Parameters are counted from 1.
    NoParameter,
    /// More than [`RULES_MAX`] rules.
    TooMany,
}

impl fmt::Display for RuleFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoId => f.write_str("the rule has an empty id"),
            Self::DuplicateId => f.write_str("another rule has the same id"),
            Self::EmptyList(key) => write!(f, "`{key}` is an empty list and would match nothing"),
            Self::PatternTooLong(key) => {
                write!(f, "a pattern of `{key}` is longer than {PATTERN_LEN_MAX} bytes")
            }
            Self::UnknownResource => f.write_str("the rule names a resource that does not exist"),
            Self::MixedKeys => f.write_str(
                "the rule names `method`, `path` or `model` and what only statements have, so it \
                 would match nothing",
            ),
            Self::ReadsAndWrites => f.write_str(
                "the rule names `reads` and `writes` and would match nothing: write two rules, or \
                 `table`",
            ),
            Self::DenyWithObligations => {
                f.write_str("a deny rule has `then`, but nothing happens after a deny")
            }
            Self::AssertedCredential => f.write_str(
                "the rule names `node`, `run` or `thread`, which the caller only asserts, and gives \
                 a credential by it",
            ),
            Self::ApprovalWithoutEffect => f.write_str(
                "`then.approval` and `effect = \"require_approval\"` belong together",
            ),
            Self::Approval(fault) => fault.fmt(f),
            Self::TooManyApprovers => {
                write!(f, "the rules name more than {APPROVER_GROUPS_MAX} groups of approvers")
            }
            Self::ParameterCredential => f.write_str(
                "the rule names `parameters` and a credential, but a statement is prepared, by a \
                 credential, before its values are known",
            ),
            Self::NoParameter => f.write_str("parameters are counted from 1"),
            Self::TooMany => write!(f, "more than {RULES_MAX} rules"),
        }
    }
}
