//! What a caller says of the work that it does, which nobody verifies: it may only narrow.
//!
//! A rule that names such a value denies by it, or adds what it obliges to; it permits nothing.
//! Whoever leaves the value out, or says another, gains nothing by it but what the rules without
//! such names give anybody.

use super::pattern::Pattern;
use super::rule::RuleSpec;
use super::table::Attr;

/// What a caller says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Asserted<'a> {
    /// Node of the graph that runs.
    pub node: Attr<'a>,
    /// Run of the graph.
    pub run: Attr<'a>,
    /// Thread, which is the conversation that runs belong to.
    pub thread: Attr<'a>,
}

impl Asserted<'_> {
    /// Nothing is said.
    pub const NONE: Self = Self { node: Attr::Absent, run: Attr::Absent, thread: Attr::Absent };
}

/// Whether `attr` satisfies a list. What cannot be read does: the rule can only narrow.
pub(super) fn met(list: Option<&[Pattern]>, attr: Attr<'_>) -> bool {
    match (list, attr) {
        (None, _) | (Some(_), Attr::Unreadable) => true,
        (Some(_), Attr::Absent) => false,
        (Some(list), Attr::Value(value)) => list.iter().any(|one| one.matches(value)),
    }
}

/// Whether all that the rule names of it is met.
pub(super) fn fits(rule: &RuleSpec, asserted: &Asserted<'_>) -> bool {
    let who = &rule.who;
    met(who.node.as_deref(), asserted.node)
        && met(who.run.as_deref(), asserted.run)
        && met(who.thread.as_deref(), asserted.thread)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::base::{MaskId, MaskSet, ResourceId};
    use crate::policy::*;

    fn list(text: &str) -> Option<Vec<Pattern>> {
        Some(vec![Pattern::new(text)])
    }

    fn said(node: Attr<'_>) -> Action<'_> {
        let asserted = Asserted { node, ..Asserted::NONE };
        let (resource, model) = (ResourceId(0), Attr::Absent);
        Action { resource, method: b"GET", path: b"/", model, sql: None, asserted }
    }

    fn who() -> Who<'static> {
        Who { issuer: None, sub: None, groups: &[], client_id: None, actors: &[] }
    }

    #[test]
    fn a_rule_that_names_it_denies_or_obliges_and_permits_nothing() {
        let mut deny = RuleSpec::new("no-tools", Effect::Deny);
        deny.who.node = list("tool:*");
        let mut oblige = RuleSpec::new("mask-research", Effect::Allow);
        oblige.who.node = list("research");
        oblige.then.masks = MaskSet::EMPTY.with(MaskId(3));
        let all = RuleSpec::new("all", Effect::Allow);
        let decide = |rules: &[RuleSpec], node| {
            let table = Table::compile(rules.to_vec(), 1, 1).unwrap();
            match table.decide(&table.row_of(&who()), &said(node)) {
                Decision::Permit(grant) => Ok(grant.masks()),
                Decision::Hold(need) => panic!("{need:?}"),
                Decision::Deny(denial) => Err(denial.kind),
            }
        };
        let rules = [deny.clone(), oblige.clone(), all];
        assert_eq!(decide(&rules, Attr::Absent), Ok(MaskSet::EMPTY));
        assert_eq!(decide(&rules, Attr::Value(b"plan")), Ok(MaskSet::EMPTY));
        assert_eq!(decide(&rules, Attr::Value(b"research")), Ok(oblige.then.masks));
        assert_eq!(decide(&rules, Attr::Value(b"tool:rm")), Err(DenialKind::Rule));
        // What cannot be read may be any of them.
        assert_eq!(decide(&rules, Attr::Unreadable), Err(DenialKind::Rule));
        let alone = [oblige];
        assert_eq!(decide(&alone, Attr::Value(b"research")), Err(DenialKind::NoRule));
        let mut rules = rules;
        rules[0].who.node = None;
        rules[0].who.thread = list("t*");
        assert_eq!(decide(&rules, Attr::Unreadable), Ok(rules[1].then.masks));
    }

    #[test]
    fn connecting_hears_neither_its_denials_nor_its_permits() {
        let mut deny = RuleSpec::new("no-tools", Effect::Deny);
        deny.who.node = list("*");
        let mut oblige = RuleSpec::new("mask", Effect::Allow);
        oblige.who.run = list("*");
        oblige.then.masks = MaskSet::EMPTY.with(MaskId(1));
        let all = RuleSpec::new("all", Effect::Allow);
        let connect = |rules: Vec<RuleSpec>| {
            let table = Table::compile(rules, 1, 1).unwrap();
            let row = table.row_of(&who());
            (table.decide_connect(&row, ResourceId(0)), table.could_match(&row, ResourceId(0)))
        };
        let (decision, could) = connect(vec![deny.clone(), oblige.clone(), all]);
        let Decision::Permit(grant) = decision else { panic!("{decision:?}") };
        assert!(could && grant.masks() == oblige.then.masks, "a statement could owe it");
        let (decision, could) = connect(vec![deny, oblige]);
        assert!(matches!(decision, Decision::Deny(_)) && !could);
    }

    #[test]
    fn a_credential_is_no_narrowing() {
        let mut rule = RuleSpec::new("r", Effect::Allow);
        rule.who.node = list("*");
        rule.then.credential = Some(crate::base::CredentialId(0));
        let errors = Table::compile(vec![rule], 1, 1).unwrap_err();
        assert_eq!(errors.first().map(|error| error.fault), Some(RuleFault::AssertedCredential));
    }
}
