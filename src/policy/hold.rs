//! What the approval of an operation takes, united over all rules that ask for one.
//!
//! Every rule that matches is kept: who approves must be in a group that all of them take, as many
//! people as the largest `count` says, in the shortest times, for the fewest uses, in the narrowest
//! scope. Where no group is left, no approval could be right, and the operation is refused.

use super::approval::{Scope, Terms};
use super::rule::{APPROVER_GROUPS_MAX, RuleFault, RuleSpec};
use crate::base::RuleId;

/// Terms of one rule, or of several that were united. Groups are bits, so that it can be copied
/// and united without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The first rule that asks, in compiled order.
    pub(super) rule: RuleId,
    approvers: u64,
    reveal: u64,
    count: u32,
    distinct_groups: bool,
    wait_ns: u64,
    ttl_ns: u64,
    uses: u32,
    scope: Scope,
    reason: bool,
    break_glass: bool,
    estimate: bool,
}

impl Hold {
    /// The rule that is named where it is asked.
    #[must_use]
    pub fn rule(&self) -> RuleId {
        self.rule
    }

    /// What an approval covers.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// How long it may take until it is decided, in nanoseconds.
    #[must_use]
    pub fn wait_ns(&self) -> u64 {
        self.wait_ns
    }

    /// Adds those of one more rule; `false` when nobody could approve for both.
    pub(super) fn unite(&mut self, other: &Self) -> bool {
        self.approvers &= other.approvers;
        self.reveal &= other.reveal;
        self.count = self.count.max(other.count);
        self.distinct_groups |= other.distinct_groups;
        self.wait_ns = self.wait_ns.min(other.wait_ns);
        self.ttl_ns = self.ttl_ns.min(other.ttl_ns);
        self.uses = self.uses.min(other.uses);
        self.scope = narrower(self.scope, other.scope);
        self.reason |= other.reason;
        self.estimate &= other.estimate;
        let groups = self.approvers.count_ones();
        self.approvers != 0 && (!self.distinct_groups || groups >= self.count)
    }
}

/// The scope that covers less: a session is one on a resource.
fn narrower(one: Scope, other: Scope) -> Scope {
    let width = |scope| match scope {
        Scope::Exact => 0,
        Scope::Shape => 1,
        Scope::Session => 2,
        Scope::Resource => 3,
    };
    if width(one) <= width(other) { one } else { other }
}

/// The groups that approve in one policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Approvers {
    names: Vec<Box<str>>,
}

impl Approvers {
    /// Of all rules.
    pub(super) fn of(rules: &[RuleSpec]) -> Result<Self, RuleFault> {
        let groups = rules.iter().filter_map(|rule| rule.then.approval.as_ref());
        let mut names: Vec<Box<str>> =
            groups.flat_map(|terms| terms.approvers.iter().chain(&terms.reveal).cloned()).collect();
        names.sort();
        names.dedup();
        if names.len() > APPROVER_GROUPS_MAX {
            return Err(RuleFault::TooManyApprovers);
        }
        Ok(Self { names })
    }

    /// The terms of a rule with their groups as bits.
    pub(super) fn hold(&self, rule: RuleId, terms: &Terms) -> Hold {
        let bit = |name: &str| self.names.binary_search_by(|one| (**one).cmp(name)).ok();
        let bits = |groups: &[Box<str>]| {
            groups.iter().filter_map(|name| bit(name)).fold(0, |all, bit| all | 1 << bit)
        };
        Hold {
            rule,
            approvers: bits(&terms.approvers),
            reveal: bits(&terms.reveal),
            count: terms.count,
            distinct_groups: terms.distinct_groups,
            wait_ns: terms.wait_ns,
            ttl_ns: terms.ttl_ns,
            uses: terms.uses,
            scope: terms.scope,
            reason: terms.reason,
            break_glass: terms.break_glass,
            estimate: terms.estimate,
        }
    }

    /// And back.
    pub(super) fn terms(&self, hold: &Hold) -> Terms {
        let named = |bits: u64| {
            let named = self.names.iter().enumerate();
            named.filter(move |(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name.clone())
        };
        Terms {
            approvers: named(hold.approvers).collect(),
            reveal: named(hold.reveal).collect(),
            count: hold.count,
            distinct_groups: hold.distinct_groups,
            wait_ns: hold.wait_ns,
            ttl_ns: hold.ttl_ns,
            uses: hold.uses,
            scope: hold.scope,
            reason: hold.reason,
            break_glass: hold.break_glass,
            estimate: hold.estimate,
        }
    }
}

/// What the rules that match ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// A person's approval.
    pub approval: Option<Hold>,
    /// That the caller breaks the glass with a reason; it stands in the place of `approval`.
    pub break_glass: Option<Hold>,
}

impl Holds {
    /// Adds those of one more rule; `false` when nobody could approve for all.
    pub(super) fn unite(&mut self, other: &Hold) -> bool {
        let slot = if other.break_glass { &mut self.break_glass } else { &mut self.approval };
        match slot {
            Some(hold) => hold.unite(other),
            None => {
                *slot = Some(*other);
                true
            }
        }
    }

    /// Whether nobody has to be asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.approval.is_none() && self.break_glass.is_none()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::ResourceId;
    use crate::policy::*;

    fn terms(approvers: &[&str]) -> Terms {
        Terms {
            approvers: approvers.iter().map(|name| (*name).into()).collect(),
            count: 1,
            distinct_groups: false,
            wait_ns: 9,
            ttl_ns: 9,
            uses: 3,
            scope: Scope::Resource,
            reason: false,
            break_glass: false,
            reveal: [].into(),
            estimate: false,
        }
    }

    fn asks(id: &str, terms: Terms, what: What) -> RuleSpec {
        let mut rule = RuleSpec::new(id, Effect::RequireApproval);
        (rule.then.approval, rule.what) = (Some(terms), what);
        rule
    }

    fn list(texts: &[&str]) -> Option<Vec<Pattern>> {
        Some(texts.iter().map(Pattern::new).collect())
    }

    /// What the rules say to a POST for `model` by a caller with these actors.
    fn said(rules: &[RuleSpec], model: Attr<'_>, actors: &[&str]) -> Result<Holds, DenialKind> {
        let table = Table::compile(rules.to_vec(), 1, 1).unwrap();
        let who = Who { issuer: None, sub: Some("ana"), groups: &[], client_id: None, actors };
        let (resource, asserted) = (ResourceId(0), Asserted::NONE);
        let action = Action { resource, method: b"POST", path: b"/x", model, sql: None, asserted };
        match table.decide(&table.row_of(&who), &action) {
            Decision::Permit(_) => Ok(Holds::default()),
            Decision::Hold(need) => Ok(need.obligations().holds),
            Decision::Deny(denial) => Err(denial.kind),
        }
    }

    #[test]
    fn it_holds_back_what_could_be_meant_and_permits_what_it_names() {
        let model = || What { model: list(&["gpt-*"]), ..What::default() };
        let (ask, all) =
            (asks("ask", terms(&["dba"]), model()), RuleSpec::new("all", Effect::Allow));
        let held = |said: Result<Holds, DenialKind>| said.map(|holds| holds.approval.is_some());
        for (with_all, model, expected) in [
            (false, Attr::Value(b"gpt-4".as_slice()), Ok(true)),
            (false, Attr::Value(b"claude"), Err(DenialKind::NoRule)),
            (false, Attr::Unreadable, Err(DenialKind::NoRule)),
            (true, Attr::Value(b"gpt-4"), Ok(true)),
            (true, Attr::Value(b"claude"), Ok(false)),
            (true, Attr::Unreadable, Ok(true)),
            (true, Attr::Absent, Ok(false)),
        ] {
            let mut rules = vec![ask.clone()];
            rules.extend(with_all.then(|| all.clone()));
            assert_eq!(held(said(&rules, model, &[])), expected, "{with_all} {model:?}");
        }
        let deny = RuleSpec::new("no", Effect::Deny);
        assert_eq!(said(&[ask, all, deny], Attr::Absent, &[]), Err(DenialKind::Rule));
    }

    #[test]
    fn an_earlier_actor_is_held_back_and_permits_nothing() {
        let mut ask = asks("ask", terms(&["dba"]), What::default());
        ask.who.actor = list(&["bot"]);
        let held = |rules: &[RuleSpec], actors: &[&str]| {
            said(rules, Attr::Absent, actors).map(|holds| holds.approval.is_some())
        };
        let alone = [ask.clone()];
        assert_eq!(held(&alone, &["bot", "tool"]), Ok(true));
        assert_eq!(held(&alone, &["tool", "bot"]), Err(DenialKind::NoRule));
        let with = [ask, RuleSpec::new("all", Effect::Allow)];
        assert_eq!(held(&with, &["tool", "bot"]), Ok(true));
        assert_eq!(held(&with, &["tool"]), Ok(false));
    }

    #[test]
    fn the_strictest_terms_of_all_rules_count_and_none_is_left_out() {
        let reveal = |groups: [&str; 2]| groups.map(Into::into).into();
        let one = Terms {
            count: 2,
            wait_ns: 5,
            reveal: reveal(["eyes", "lead"]),
            ..terms(&["dba", "lead"])
        };
        let other = Terms {
            uses: 1,
            scope: Scope::Exact,
            reason: true,
            reveal: reveal(["dba", "eyes"]),
            ..terms(&["sec", "dba"])
        };
        let rules = [asks("a", one, What::default()), asks("b", other, What::default())];
        let hold = said(&rules, Attr::Absent, &[]).unwrap().approval.unwrap();
        let table = Table::compile(rules.to_vec(), 1, 1).unwrap();
        let expected = Terms {
            count: 2,
            wait_ns: 5,
            uses: 1,
            scope: Scope::Exact,
            reason: true,
            reveal: ["eyes".into()].into(),
            ..terms(&["dba"])
        };
        assert_eq!((table.terms(&hold), table.rule_name(hold.rule())), (expected, "a"));
        // Nobody is in a group of both; or too few groups are left.
        let [a, b] = rules;
        let strange = asks("c", terms(&["boss"]), What::default());
        let conflict = Err(DenialKind::ConflictingApproval);
        assert_eq!(said(&[a.clone(), b.clone(), strange], Attr::Absent, &[]), conflict);
        let two = Terms { distinct_groups: true, count: 2, ..terms(&["dba", "lead"]) };
        let two = asks("d", two, What::default());
        assert_eq!(said(&[two, b], Attr::Absent, &[]), conflict);
    }

    #[test]
    fn the_glass_is_broken_by_a_reason_and_by_its_rule_only() {
        let glass = Terms { break_glass: true, uses: 2, ..terms(&["sec"]) };
        let glass = asks("glass", glass, What::default());
        let ask = asks("ask", terms(&["dba"]), What::default());
        let need = |rules: Vec<RuleSpec>, reason: bool| {
            let table = Table::compile(rules, 1, 1).unwrap();
            let who = Who { issuer: None, sub: None, groups: &[], client_id: None, actors: &[] };
            let action = Action {
                resource: ResourceId(0),
                method: b"GET",
                path: b"/",
                model: Attr::Absent,
                sql: None,
                asserted: Asserted::NONE,
            };
            let Decision::Hold(need) = table.decide(&table.row_of(&who), &action) else {
                panic!("not held")
            };
            need.hold(reason).map(|hold| table.rule_name(hold.rule()).to_owned())
        };
        let both = || vec![glass.clone(), ask.clone()];
        assert_eq!(need(both(), true).as_deref(), Some("glass"));
        assert_eq!(need(both(), false).as_deref(), Some("ask"));
        assert_eq!(need(vec![glass.clone()], false), None);
        assert_eq!(need(vec![ask.clone()], true).as_deref(), Some("ask"));
    }
}
