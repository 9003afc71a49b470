//! `[[case]]`: what a policy is expected to say, kept beside it and run at every reload.

use super::asserted::Asserted;
use super::explain::Explanation;
use super::parameters::{Parameter, Parameters};
use super::sql::{Columns, Functions, Parent, STATEMENTS, Sql, SqlFunction};
use super::table::{Action, Attr, Table};
use super::who::Who;
use crate::base::{IssuerId, ResourceId};

/// What a case expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// The action is permitted.
    Allow,
    /// The action is refused.
    Deny,
    /// The action is permitted once a person approved of it.
    RequireApproval,
}

impl Expect {
    /// The word in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::RequireApproval => "require_approval",
        }
    }
}

/// Attributes of a caller, owned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaseWho {
    /// Whose token.
    pub issuer: Option<IssuerId>,
    /// Subject.
    pub sub: Option<String>,
    /// Groups.
    pub groups: Vec<Box<str>>,
    /// The OAuth client.
    pub client_id: Option<String>,
    /// The actor chain, current actor first.
    pub actors: Vec<String>,
    /// Node that the caller says it runs.
    pub node: Option<String>,
    /// Run that it says it is.
    pub run: Option<String>,
    /// Thread that it says it belongs to.
    pub thread: Option<String>,
}

/// An action, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseAction {
    /// On which resource.
    pub resource: ResourceId,
    /// Request method; empty is absent.
    pub method: String,
    /// Canonical path after the resource segment; empty is absent.
    pub path: String,
    /// Model.
    pub model: Option<String>,
    /// The model cannot be read; `model` is not looked at.
    pub unreadable: bool,
    /// What a statement does, on a resource that has statements.
    pub sql: Option<CaseSql>,
}

/// What a statement does, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseSql {
    /// Kind of statement.
    pub statement: &'static str,
    /// Table, as `schema.name`.
    pub table: Option<String>,
    /// Which table it is cannot be found out; `table` is not looked at.
    pub table_unreadable: bool,
    /// The table is written; else it is read.
    pub write: bool,
    /// Columns of the table, as `schema.table.column`.
    pub columns: Vec<Box<str>>,
    /// Which columns there are cannot be found out; `columns` is not looked at.
    pub columns_unreadable: bool,
    /// Tables that the table is a partition or an inheritance child of.
    pub parents: Vec<Parent>,
    /// Functions, and whether each is plain.
    pub functions: Vec<(String, bool)>,
    /// Which functions there are cannot be found out; `functions` is not looked at.
    pub functions_unreadable: bool,
    /// Every row is changed or deleted.
    pub missing_where: bool,
    /// The text has more than one statement.
    pub multi_statement: bool,
    /// The values that it is run with.
    pub parameters: CaseParameters,
}

/// The values of a statement's parameters, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaseParameters {
    /// They come later: the statement is only prepared.
    Pending,
    /// None of them can be read.
    Unreadable,
    /// The values by their numbers; those below the highest that are not there cannot be read.
    Known(Vec<Parameter>),
}

impl CaseParameters {
    fn lend(&self) -> Parameters<'_> {
        match self {
            Self::Pending => Parameters::Pending,
            Self::Unreadable => Parameters::UNREADABLE,
            Self::Known(read) => {
                let count = read.iter().map(|(number, _)| *number).max().unwrap_or(0);
                Parameters::Known { count, read }
            }
        }
    }
}

impl CaseSql {
    /// A statement of a kind, without tables, columns and functions; `None` for a word that is no kind.
    /// Of an `unknown` one none can be read. Whether it writes is what its kind does most.
    #[must_use]
    pub fn new(statement: &str) -> Option<Self> {
        let statement = STATEMENTS.into_iter().find(|one| *one == statement)?;
        let unknown = statement.as_bytes() == Sql::UNREADABLE.statement;
        let writes = ["insert", "update", "delete", "merge", "copy_in", "ddl"];
        Some(Self {
            statement,
            table: None,
            table_unreadable: unknown,
            write: unknown || writes.contains(&statement),
            columns: Vec::new(),
            columns_unreadable: unknown,
            parents: Vec::new(),
            functions: Vec::new(),
            functions_unreadable: unknown,
            missing_where: false,
            multi_statement: false,
            parameters: match unknown {
                true => CaseParameters::Unreadable,
                false => CaseParameters::Known(Vec::new()),
            },
        })
    }

    fn lend<'a>(&'a self, functions: &'a [SqlFunction<'a>]) -> Sql<'a> {
        let table = match &self.table {
            _ if self.table_unreadable => Attr::Unreadable,
            None => Attr::Absent,
            Some(table) => Attr::Value(table.as_bytes()),
        };
        let functions = match self.functions_unreadable {
            true => Functions::Unreadable,
            false => Functions::Known(functions),
        };
        let columns = match self.columns_unreadable {
            true => Columns::Unreadable,
            false => Columns::Known(&self.columns),
        };
        Sql {
            statement: self.statement.as_bytes(),
            table,
            write: self.write,
            columns,
            parents: &self.parents,
            functions,
            missing_where: self.missing_where,
            multi_statement: self.multi_statement,
            parameters: self.parameters.lend(),
        }
    }
}

/// One `[[case]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Who.
    pub who: CaseWho,
    /// What.
    pub action: CaseAction,
    /// What must come out.
    pub expect: Expect,
    /// The rule that must decide, by id.
    pub rule: Option<String>,
}

impl Case {
    /// Lends it in the form that a table takes.
    pub fn lend<R>(&self, with: impl FnOnce(&Who<'_>, &Action<'_>) -> R) -> R {
        let actors: Vec<&str> = self.who.actors.iter().map(String::as_str).collect();
        let who = Who {
            issuer: self.who.issuer,
            sub: self.who.sub.as_deref(),
            groups: &self.who.groups,
            client_id: self.who.client_id.as_deref(),
            actors: &actors,
        };
        let model = match &self.action.model {
            _ if self.action.unreadable => Attr::Unreadable,
            None => Attr::Absent,
            Some(model) => Attr::Value(model.as_bytes()),
        };
        let sql = self.action.sql.as_ref();
        let functions: Vec<SqlFunction<'_>> = (sql.iter().flat_map(|sql| &sql.functions))
            .map(|(name, plain)| SqlFunction { name: name.as_bytes(), plain: *plain })
            .collect();
        let CaseWho { node, run, thread, .. } = &self.who;
        let [node, run, thread] = [node, run, thread]
            .map(|said| said.as_ref().map_or(Attr::Absent, |said| Attr::Value(said.as_bytes())));
        let asserted = Asserted { node, run, thread };
        let action = Action {
            asserted,
            resource: self.action.resource,
            method: self.action.method.as_bytes(),
            path: self.action.path.as_bytes(),
            model,
            sql: sql.map(|sql| sql.lend(&functions)),
        };
        with(&who, &action)
    }

    /// Explains what the table says to it.
    #[must_use]
    pub fn explain(&self, table: &Table) -> Explanation {
        self.lend(|who, action| table.explain(who, action))
    }
}

/// A case that did not come out as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseFailure {
    /// Position in the list that was given.
    pub case: usize,
    /// What the table says.
    pub explanation: Explanation,
}

impl Table {
    /// Runs `cases`; returns those that fail.
    #[must_use]
    pub fn run(&self, cases: &[Case]) -> Vec<CaseFailure> {
        let mut failures = Vec::new();
        for (place, case) in cases.iter().enumerate() {
            let explanation = case.explain(self);
            let said = explanation.said();
            let rule = match &explanation.outcome {
                Ok(rule) => Some(*rule),
                Err(denial) => denial.rule,
            };
            // A named rule must have matched and be of the deciding effect; which of several
            // equal ones decided is no promise.
            let by_rule = case.rule.as_ref().is_none_or(|name| {
                rule.is_some_and(|rule| self.rule_name(rule) == name)
                    || explanation.matched.iter().any(|rule| {
                        self.rule_name(*rule) == name && self.effect(*rule) == Some(case.expect)
                    })
            });
            if said != case.expect || !by_rule {
                failures.push(CaseFailure { case: place, explanation });
            }
        }
        failures
    }

    fn effect(&self, rule: crate::base::RuleId) -> Option<Expect> {
        self.rules().find(|(id, _)| *id == rule).map(|(_, spec)| match spec.effect {
            super::rule::Effect::Allow => Expect::Allow,
            super::rule::Effect::Deny => Expect::Deny,
            super::rule::Effect::RequireApproval => Expect::RequireApproval,
        })
    }
}
