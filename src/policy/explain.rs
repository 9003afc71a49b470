//! Why a table decides as it does: for people, off the hot path.

use super::asserted;
use super::case::Expect;
use super::decision::{Decision, Denial, Obligations};
use super::parameters;
use super::pattern::Pattern;
use super::rule::{Effect, RuleSpec};
use super::sql::{self, Sql};
use super::table::{Action, Attr, Table};
use super::who::Who;
use crate::base::RuleId;
use crate::identity::Principal;
use std::fmt;

/// One thing that a rule may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dimension {
    /// `who.iss`
    Iss,
    /// `who.sub`
    Sub,
    /// `who.groups`
    Groups,
    /// `who.not_groups`
    NotGroups,
    /// `who.client_id`
    ClientId,
    /// `who.actor`
    Actor,
    /// `who.node`
    Node,
    /// `who.run`
    Run,
    /// `who.thread`
    Thread,
    /// `what.resource`
    Resource,
    /// `what.method`
    Method,
    /// `what.path`
    Path,
    /// `what.model`
    Model,
    /// `what.statement`
    Statement,
    /// `what.table`
    Table,
    /// `what.reads`
    Reads,
    /// `what.writes`
    Writes,
    /// `what.column`
    Column,
    /// `what.function`
    Function,
    /// `what.where`
    Where,
    /// `what.multi_statement`
    MultiStatement,
    /// `what.parameters`
    Parameters,
}

impl Dimension {
    /// All of them, who before what.
    pub const ALL: [Self; 22] = [
        Self::Iss,
        Self::Sub,
        Self::Groups,
        Self::NotGroups,
        Self::ClientId,
        Self::Actor,
        Self::Node,
        Self::Run,
        Self::Thread,
        Self::Resource,
        Self::Method,
        Self::Path,
        Self::Model,
        Self::Statement,
        Self::Table,
        Self::Reads,
        Self::Writes,
        Self::Column,
        Self::Function,
        Self::Where,
        Self::MultiStatement,
        Self::Parameters,
    ];

    /// The key in a rule.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Iss => "who.iss",
            Self::Sub => "who.sub",
            Self::Groups => "who.groups",
            Self::NotGroups => "who.not_groups",
            Self::ClientId => "who.client_id",
            Self::Actor => "who.actor",
            Self::Node => "who.node",
            Self::Run => "who.run",
            Self::Thread => "who.thread",
            Self::Resource => "what.resource",
            Self::Method => "what.method",
            Self::Path => "what.path",
            Self::Model => "what.model",
            Self::Statement => "what.statement",
            Self::Table => "what.table",
            Self::Reads => "what.reads",
            Self::Writes => "what.writes",
            Self::Column => "what.column",
            Self::Function => "what.function",
            Self::Where => "what.where",
            Self::MultiStatement => "what.multi_statement",
            Self::Parameters => "what.parameters",
        }
    }

    /// Whether `rule` is satisfied in this dimension: the plain definition, one value at a time.
    pub(super) fn fits(self, rule: &RuleSpec, who: &Who<'_>, action: &Action<'_>) -> bool {
        let scalar = |list: Option<&[Pattern]>, attr: Attr<'_>| attr.fits(list, rule.effect);
        let text = |value: Option<&'_ str>, list: &Option<Vec<Pattern>>| {
            let attr = value.map_or(Attr::Absent, |value| Attr::Value(value.as_bytes()));
            scalar(list.as_deref(), attr)
        };
        let set = |list: &[Pattern], mut values: &mut dyn Iterator<Item = &str>| {
            (&mut values).any(|value| list.iter().any(|one| one.matches(value.as_bytes())))
        };
        let what = &rule.what;
        let statement = |named: bool, fits: fn(&RuleSpec, &Sql<'_>) -> bool| {
            action.sql.as_ref().map_or(!named, |sql| fits(rule, sql))
        };
        let groups = || who.groups.iter().map(|group| &**group);
        match self {
            Self::Iss => rule
                .who
                .iss
                .as_ref()
                .is_none_or(|list| who.issuer.is_some_and(|issuer| list.contains(&issuer))),
            Self::Sub => text(who.sub, &rule.who.sub),
            Self::ClientId => text(who.client_id, &rule.who.client_id),
            Self::Groups => rule.who.groups.as_ref().is_none_or(|list| set(list, &mut groups())),
            Self::NotGroups => {
                rule.who.not_groups.as_ref().is_none_or(|list| !set(list, &mut groups()))
            }
            Self::Actor => {
                let seen = if rule.effect.is_strict() { usize::MAX } else { 1 };
                let mut actors = who.actors.iter().copied().take(seen);
                rule.who.actor.as_ref().is_none_or(|list| set(list, &mut actors))
            }
            Self::Node => asserted::met(rule.who.node.as_deref(), action.asserted.node),
            Self::Run => asserted::met(rule.who.run.as_deref(), action.asserted.run),
            Self::Thread => asserted::met(rule.who.thread.as_deref(), action.asserted.thread),
            Self::Resource => {
                rule.what.resource.as_ref().is_none_or(|list| list.contains(&action.resource))
            }
            Self::Method => scalar(rule.what.method.as_deref(), action.method()),
            Self::Path => scalar(rule.what.path.as_deref(), action.path()),
            Self::Model => scalar(rule.what.model.as_deref(), action.model),
            Self::Statement => statement(what.statement.is_some(), sql::statement),
            Self::Table => statement(what.table.is_some(), sql::table),
            Self::Reads => statement(what.reads.is_some(), sql::reads),
            Self::Writes => statement(what.writes.is_some(), sql::writes),
            Self::Column => statement(what.column.is_some(), sql::column),
            Self::Function => statement(what.function.is_some(), sql::function),
            Self::Where => statement(what.missing_where, sql::missing_where),
            Self::MultiStatement => statement(what.multi_statement, parameters::multi_statement),
            Self::Parameters => statement(!what.parameters.is_empty(), parameters::parameters),
        }
    }
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rule that permits and came nearest to a match, and what kept it from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The rule.
    pub rule: RuleId,
    /// The dimensions that failed, who before what; most often one.
    pub failed: Vec<Dimension>,
}

/// A decision with its reasons. It permits nothing: only a `Grant` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Permitted (of its own, or once it is approved, as the obligations say), or why not.
    pub outcome: Result<RuleId, Denial>,
    /// All rules that matched, in compiled order: deny rules first.
    pub matched: Vec<RuleId>,
    /// What an allowed exchange owes.
    pub obligations: Option<Obligations>,
    /// For a deny: the nearest rule that permits, if there is any.
    pub nearest: Option<Nearest>,
}

impl Explanation {
    fn permitted(rule: RuleId, matched: Vec<RuleId>, obligations: Obligations) -> Self {
        Self { outcome: Ok(rule), matched, obligations: Some(obligations), nearest: None }
    }

    /// The answer in the words of a case.
    #[must_use]
    pub fn said(&self) -> Expect {
        match &self.obligations {
            None => Expect::Deny,
            Some(owed) if owed.holds.is_empty() => Expect::Allow,
            Some(_) => Expect::RequireApproval,
        }
    }
}

impl Table {
    /// Explains what `decide` says to a verified caller.
    #[must_use]
    pub fn explain_principal(&self, principal: &Principal, action: &Action<'_>) -> Explanation {
        Who::lend(principal, |who| self.explain(who, action))
    }

    /// Explains what `decide` says to a caller with these attributes.
    ///
    /// The attributes may be asserted (by an operator who asks), which is why this yields no
    /// grant. Cost: linear in the rules.
    #[must_use]
    pub fn explain(&self, who: &Who<'_>, action: &Action<'_>) -> Explanation {
        let failed = |rule: &RuleSpec| -> Vec<Dimension> {
            Dimension::ALL.into_iter().filter(|one| !one.fits(rule, who, action)).collect()
        };
        let matched: Vec<RuleId> =
            self.rules().filter(|(_, rule)| failed(rule).is_empty()).map(|(id, _)| id).collect();
        match self.decide(&self.row_of(who), action) {
            Decision::Permit(grant) => {
                Explanation::permitted(grant.rule(), matched, *grant.obligations())
            }
            Decision::Hold(need) => {
                Explanation::permitted(need.rule(), matched, *need.obligations())
            }
            Decision::Deny(denial) => {
                // A rule about requests is not near to a statement, nor the other way round.
                let other = |rule: &RuleSpec| match action.sql {
                    Some(_) => rule.what.names_http(),
                    None => rule.what.names_sql(),
                };
                let nearest = self
                    .rules()
                    .filter(|(_, rule)| rule.effect != Effect::Deny && !rule.who.names_asserted())
                    .map(|(rule, spec)| (other(spec), Nearest { rule, failed: failed(spec) }))
                    .filter(|(_, nearest)| !nearest.failed.is_empty())
                    // Fewest failures; of equals the one that knows the resource and the caller.
                    .min_by_key(|(other, nearest)| {
                        let alien = nearest.failed.contains(&Dimension::Resource);
                        let strange = nearest.failed.iter().any(|one| *one < Dimension::Resource);
                        (*other, nearest.failed.len(), alien, strange)
                    })
                    .map(|(_, nearest)| nearest);
                Explanation { outcome: Err(denial), matched, obligations: None, nearest }
            }
        }
    }
}
