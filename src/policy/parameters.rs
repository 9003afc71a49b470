//! The values that a statement is run with, and whether a rule that asks for them is met.
//!
//! A statement is decided when it is prepared and again with each set of values. Before they are
//! there, a rule that asks for values counts as met by some where it allows or wants an approval,
//! and as met by none where it denies: nothing runs by that decision, and nothing that some values
//! permit is refused for want of them.

use super::rule::{Effect, RuleSpec};
use super::sql::Sql;
use super::table::Attr;

/// The values of a statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameters<'a> {
    /// They come later: the statement is only prepared.
    Pending,
    /// `$1` to `$count`.
    Known {
        /// How many there are; any above are absent.
        count: u16,
        /// The texts of those that could be read; any other up to `count` could not.
        read: &'a [Parameter],
    },
}

/// A parameter by its number, and the text of its value.
pub type Parameter = (u16, Box<[u8]>);

impl Parameters<'_> {
    /// The statement has none.
    pub const NONE: Self = Self::Known { count: 0, read: &[] };
    /// There may be any, and none could be read.
    pub const UNREADABLE: Self = Self::Known { count: u16::MAX, read: &[] };
}

/// `what.parameters`
pub(super) fn parameters(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    let named = &rule.what.parameters;
    match sql.parameters {
        Parameters::Pending => named.is_empty() || rule.effect != Effect::Deny,
        Parameters::Known { count, read } => named.iter().all(|(number, list)| {
            let found = read.iter().find(|(one, _)| one == number);
            let value = match found {
                Some((_, text)) => Attr::Value(text),
                None if *number > count => Attr::Absent,
                None => Attr::Unreadable,
            };
            value.fits(Some(list), rule.effect)
        }),
    }
}

/// `what.multi_statement`. Nobody can tell of an `unknown` statement.
pub(super) fn multi_statement(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    match (rule.what.multi_statement, sql.is_unknown()) {
        (false, _) => true,
        (true, true) => rule.effect.is_strict(),
        (true, false) => sql.multi_statement,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{CredentialId, ResourceId};
    use crate::policy::{
        Action, Asserted, Columns, Decision, Functions, Pattern, RuleFault, Table, What, Who,
    };

    const SELECT: Sql<'_> = Sql {
        statement: b"select",
        table: Attr::Value(b"public.orders"),
        write: false,
        columns: Columns::Known(&[]),
        parents: &[],
        functions: Functions::Known(&[]),
        missing_where: false,
        multi_statement: false,
        parameters: Parameters::NONE,
    };

    fn list(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(Pattern::new).collect()
    }

    fn rule(effect: Effect, what: What) -> RuleSpec {
        RuleSpec { what, ..RuleSpec::new("r", effect) }
    }

    /// Whether an allow rule about `what` permits, and whether a deny rule denies.
    fn meets(what: &What, sql: Sql<'_>) -> (bool, bool) {
        let who = Who { issuer: None, sub: Some("ana"), groups: &[], client_id: None, actors: &[] };
        let action = Action {
            resource: ResourceId(0),
            method: b"",
            path: b"",
            model: Attr::Absent,
            sql: Some(sql),
            asserted: Asserted::NONE,
        };
        let permits = |rules| {
            let table = Table::compile(rules, 1, 1).unwrap();
            let row = table.row_of(&who);
            let asks = !what.parameters.is_empty();
            assert_eq!(table.reads_parameters(&row, ResourceId(0)), asks);
            assert!(!table.reads_parameters(&row, ResourceId(1)));
            matches!(table.decide(&row, &action), Decision::Permit(_))
        };
        let allowed = permits(vec![rule(Effect::Allow, what.clone())]);
        let mut deny = rule(Effect::Deny, what.clone());
        deny.id = "d".to_owned();
        (allowed, !permits(vec![rule(Effect::Allow, What::default()), deny]))
    }

    #[test]
    fn a_value_is_met_when_it_is_there_and_can_be_read() {
        let regions = What { parameters: vec![(2, list(&["eu-*", "ch"]))], ..What::default() };
        let said = |count, read: &[(u16, &str)]| {
            let read: Vec<Parameter> =
                read.iter().map(|(number, text)| (*number, text.as_bytes().into())).collect();
            let parameters = Parameters::Known { count, read: &read };
            meets(&regions, Sql { parameters, ..SELECT })
        };
        assert_eq!(said(2, &[(1, "us-1"), (2, "eu-1")]), (true, true));
        assert_eq!(said(2, &[(2, "ch")]), (true, true));
        assert_eq!(said(2, &[(1, "eu-1"), (2, "us-1")]), (false, false));
        assert_eq!(said(1, &[(1, "eu-1")]), (false, false), "absent");
        assert_eq!(said(2, &[(1, "eu-1")]), (false, true), "unreadable");
        assert_eq!(meets(&regions, SELECT), (false, false));
        let unread = Sql { parameters: Parameters::UNREADABLE, ..SELECT };
        assert_eq!(meets(&regions, unread), (false, true));
        assert_eq!(meets(&regions, Sql::UNREADABLE), (false, true));
    }

    #[test]
    fn every_parameter_that_a_rule_names_must_fit() {
        let both =
            What { parameters: vec![(1, list(&["a"])), (3, list(&["c"]))], ..What::default() };
        let said = |read: &[Parameter]| {
            meets(&both, Sql { parameters: Parameters::Known { count: 3, read }, ..SELECT })
        };
        let value = |number, text: &str| (number, text.as_bytes().into());
        assert_eq!(said(&[value(1, "a"), value(3, "c")]), (true, true));
        assert_eq!(said(&[value(1, "a"), value(3, "x")]), (false, false));
        assert_eq!(said(&[value(1, "a")]), (false, true));
    }

    #[test]
    fn before_the_values_are_there_some_may_permit_and_none_deny() {
        let what = What { parameters: vec![(1, list(&["a"]))], ..What::default() };
        let pending = Sql { parameters: Parameters::Pending, ..SELECT };
        assert_eq!(meets(&what, pending), (true, false));
        assert_eq!(meets(&What::default(), pending), (true, true));
    }

    #[test]
    fn a_text_of_several_statements_is_met_by_the_rule_that_asks() {
        let what = What { multi_statement: true, ..What::default() };
        assert_eq!(meets(&what, SELECT), (false, false));
        assert_eq!(meets(&what, Sql { multi_statement: true, ..SELECT }), (true, true));
        let unknown =
            What { statement: Some(list(&["unknown"])), multi_statement: true, ..What::default() };
        assert_eq!(meets(&unknown, Sql::UNREADABLE), (false, true));
    }

    #[test]
    fn rules_about_values_are_checked() {
        let of = |parameters, change: fn(&mut RuleSpec)| {
            let what = What { parameters, ..What::default() };
            let mut rule = rule(Effect::Allow, what);
            change(&mut rule);
            let errors = Table::compile(vec![rule], 1, 1).err().unwrap_or_default();
            errors.into_iter().map(|error| error.fault).collect::<Vec<_>>()
        };
        assert_eq!(of(vec![(1, list(&["a"]))], |_| ()), []);
        assert_eq!(of(vec![(1, vec![])], |_| ()), [RuleFault::EmptyList("parameters")]);
        assert_eq!(of(vec![(0, list(&["a"]))], |_| ()), [RuleFault::NoParameter]);
        let long = "x".repeat(crate::policy::PATTERN_LEN_MAX + 1);
        let long = vec![(1, list(&[&long]))];
        assert_eq!(of(long, |_| ()), [RuleFault::PatternTooLong("parameters")]);
        let credential = of(vec![(1, list(&["a"]))], |rule| {
            rule.then.credential = Some(CredentialId(1));
        });
        assert_eq!(credential, [RuleFault::ParameterCredential]);
    }
}
