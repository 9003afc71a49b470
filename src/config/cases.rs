//! Cases of a loaded config, and what a decision looks like to a person.

use super::report::{Diagnostic, Place};
use super::types::Config;
use crate::policy::{
    Action, Attr, Columns, DenialKind, Dimension, Explanation, Functions, Parameters, RecordLevel,
    RuleSpec, Sql, Who,
};

impl Config {
    /// Runs all cases; returns those that fail, each at its place. A reload asks for none.
    #[must_use]
    pub fn failed_cases(&self) -> Vec<Diagnostic> {
        let cases: Vec<_> = self.cases.iter().map(|(case, _)| case.clone()).collect();
        let failures = self.table.run(&cases);
        let failures = failures.iter().filter_map(|failure| {
            let (case, place) = self.cases.get(failure.case)?;
            let by = case.rule.as_ref().map(|rule| format!(" by rule `{rule}`"));
            let message = format!(
                "the case expects {}{}, the policy says: {}",
                case.expect.name(),
                by.unwrap_or_default(),
                self.outcome(&failure.explanation)
            );
            let help = self.nearest(&failure.explanation).unwrap_or_default();
            Some(place.says(message, help))
        });
        failures.collect()
    }

    /// Where a rule stands in the files.
    #[must_use]
    pub fn rule_place(&self, id: &str) -> Option<&Place> {
        self.rule_places.iter().find(|(name, _)| name == id).map(|(_, place)| place)
    }

    /// A decision in one line.
    #[must_use]
    pub fn outcome(&self, explanation: &Explanation) -> String {
        let rule = |id| format!("rule `{}`{}", self.table.rule_name(id), self.at(id));
        match &explanation.outcome {
            Ok(id) => format!("{}, {}", explanation.said().name(), rule(*id)),
            Err(denial) => match (denial.kind, denial.rule) {
                (DenialKind::Rule, Some(id)) => format!("deny, {}", rule(id)),
                (DenialKind::ConflictingCredential, Some(id)) => {
                    format!("deny, {} names another credential than other rules", rule(id))
                }
                (DenialKind::ConflictingApproval, Some(id)) => {
                    format!("deny, {}: nobody could approve for it and the other rules", rule(id))
                }
                (DenialKind::NoRule, _) => "deny, no rule allows it".to_owned(),
                (kind, _) => format!("deny, {}", kind.label()),
            },
        }
    }

    /// The allow rule that came nearest, and what kept it from a match.
    #[must_use]
    pub fn nearest(&self, explanation: &Explanation) -> Option<String> {
        let nearest = explanation.nearest.as_ref()?;
        let failed: Vec<&str> = nearest.failed.iter().map(|one| one.name()).collect();
        let (name, at) = (self.table.rule_name(nearest.rule), self.at(nearest.rule));
        Some(format!("nearest: rule `{name}`{at}; does not fit: {}", failed.join(", ")))
    }

    fn at(&self, id: crate::base::RuleId) -> String {
        let place = self.rule_place(self.table.rule_name(id));
        place
            .map_or_else(String::new, |place| format!(" ({}:{})", place.file.display(), place.line))
    }

    /// For each dimension in which a rule fails: what it wants and what is there.
    #[must_use]
    pub fn mismatches(
        &self,
        rule: &RuleSpec,
        failed: &[Dimension],
        who: &Who<'_>,
        action: &Action<'_>,
    ) -> Vec<(Dimension, String, String)> {
        let list = |patterns: &Option<Vec<crate::policy::Pattern>>| {
            let patterns = patterns.iter().flatten().map(ToString::to_string);
            patterns.collect::<Vec<_>>().join(", ")
        };
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        let text = |text: Option<&str>| text.unwrap_or("none").to_owned();
        let bytes = |bytes: &[u8]| or_none(lossy(bytes));
        let said = |attr: Attr<'_>| match attr {
            Attr::Absent => "none".to_owned(),
            Attr::Unreadable => "unreadable".to_owned(),
            Attr::Value(value) => bytes(value),
        };
        let sql = |of: fn(&Sql<'_>) -> String| action.sql.as_ref().map_or("none".to_owned(), of);
        let pair = |dimension| match dimension {
            Dimension::Iss => (
                rule.who
                    .iss
                    .iter()
                    .flatten()
                    .map(|id| self.issuer_name(*id))
                    .collect::<Vec<_>>()
                    .join(", "),
                who.issuer.map_or("none", |id| self.issuer_name(id)).to_owned(),
            ),
            Dimension::Sub => (list(&rule.who.sub), text(who.sub)),
            Dimension::Groups => (list(&rule.who.groups), or_none(who.groups.join(", "))),
            Dimension::NotGroups => {
                (format!("none of {}", list(&rule.who.not_groups)), who.groups.join(", "))
            }
            Dimension::ClientId => (list(&rule.who.client_id), text(who.client_id)),
            Dimension::Actor => (list(&rule.who.actor), or_none(who.actors.join(" for "))),
            Dimension::Node => (list(&rule.who.node), said(action.asserted.node)),
            Dimension::Run => (list(&rule.who.run), said(action.asserted.run)),
            Dimension::Thread => (list(&rule.who.thread), said(action.asserted.thread)),
            Dimension::Resource => (
                (rule.what.resource.iter().flatten())
                    .filter_map(|id| self.resources.get(id.index()))
                    .map(|resource| resource.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                self.resources
                    .get(action.resource.index())
                    .map_or_else(|| "none".to_owned(), |resource| resource.name.clone()),
            ),
            Dimension::Method => (list(&rule.what.method), bytes(action.method)),
            Dimension::Path => (list(&rule.what.path), bytes(action.path)),
            Dimension::Model => (list(&rule.what.model), said(action.model)),
            Dimension::Statement => {
                let wants = match rule.what.statement {
                    Some(_) => list(&rule.what.statement),
                    // Only what is not understood fails where nothing is named.
                    None => "the word `unknown`".to_owned(),
                };
                (wants, sql(|sql| lossy(sql.statement)))
            }
            Dimension::Table => (list(&rule.what.table), sql(table_of)),
            Dimension::Reads => (list(&rule.what.reads), sql(table_of)),
            Dimension::Writes => (list(&rule.what.writes), sql(table_of)),
            Dimension::Column => (list(&rule.what.column), sql(columns_of)),
            Dimension::Function => {
                let wants = match rule.what.function {
                    Some(_) => list(&rule.what.function),
                    None => "plain functions only".to_owned(),
                };
                (wants, sql(functions_of))
            }
            Dimension::Where => ("missing".to_owned(), sql(where_of)),
            Dimension::MultiStatement => ("a text of several".to_owned(), sql(multi_of)),
            Dimension::Parameters => {
                let wants = rule.what.parameters.iter().map(|(number, patterns)| {
                    format!("${number} = {}", list(&Some(patterns.clone())))
                });
                (wants.collect::<Vec<_>>().join("; "), sql(parameters_of))
            }
        };
        failed
            .iter()
            .map(|dimension| {
                let (wants, is) = pair(*dimension);
                (*dimension, wants, is)
            })
            .collect()
    }

    /// What an allowed exchange owes, in words: masks, level of the record, credential.
    #[must_use]
    pub fn obligations(
        &self,
        explanation: &Explanation,
    ) -> Option<(Vec<&str>, &'static str, Option<&str>)> {
        let owed = explanation.obligations?;
        let masks = owed.masks.iter().filter_map(|id| self.masks.get(id.index()));
        let record = match owed.record {
            RecordLevel::Full => "full",
            RecordLevel::Meta => "meta",
        };
        let credential = owed.credential.and_then(|id| self.credentials.get(id.index()));
        Some((
            masks.map(|mask| mask.name.as_str()).collect(),
            record,
            credential.map(|credential| credential.name.as_str()),
        ))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The table that a statement touches, and how.
fn table_of(sql: &Sql<'_>) -> String {
    match sql.table {
        Attr::Absent => "none".to_owned(),
        Attr::Unreadable => "unreadable".to_owned(),
        Attr::Value(table) => {
            format!("{}, which is {}", lossy(table), if sql.write { "written" } else { "read" })
        }
    }
}

/// The columns that a statement may touch in the table.
fn columns_of(sql: &Sql<'_>) -> String {
    match sql.columns {
        Columns::Unreadable => "unreadable".to_owned(),
        Columns::Known([]) => "none".to_owned(),
        Columns::Known(columns) => columns.join(", "),
    }
}

/// The functions that a statement calls.
fn functions_of(sql: &Sql<'_>) -> String {
    let Functions::Known(functions) = sql.functions else { return "unreadable".to_owned() };
    if functions.is_empty() {
        return "none".to_owned();
    }
    functions.iter().map(|function| lossy(function.name)).collect::<Vec<_>>().join(", ")
}

fn where_of(sql: &Sql<'_>) -> String {
    let unknown = sql.statement == Sql::UNREADABLE.statement;
    if unknown { "unreadable" } else { "nothing missing" }.to_owned()
}

fn multi_of(sql: &Sql<'_>) -> String {
    let unknown = sql.statement == Sql::UNREADABLE.statement;
    if unknown { "unreadable" } else { "one statement" }.to_owned()
}

/// The values that a statement is run with.
fn parameters_of(sql: &Sql<'_>) -> String {
    let Parameters::Known { count, read } = sql.parameters else { return "to come".to_owned() };
    let values = read.iter().map(|(number, text)| format!("${number} = {}", lossy(text)));
    let values = values.collect::<Vec<_>>().join("; ");
    match (count, read.is_empty()) {
        (0, _) => "none".to_owned(),
        (_, true) => "unreadable".to_owned(),
        (_, false) => values,
    }
}
