//! Claims about single rules.

use super::*;
use crate::base::{CredentialId, IssuerId, MaskId, MaskSet, Now, ResourceId, RuleId};
use crate::identity::Verifier;
use crate::identity::dev::{DevClaims, DevKey};

fn patterns(list: &[&str]) -> Option<Vec<Pattern>> {
    Some(list.iter().map(Pattern::new).collect())
}

fn groups(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|group| (*group).into()).collect()
}

fn who<'a>(groups: &'a [Box<str>], actors: &'a [&'a str]) -> Who<'a> {
    Who { issuer: None, sub: Some("ana"), groups, client_id: None, actors }
}

fn chat(model: Attr<'_>) -> Action<'_> {
    let path = b"/v1/chat/completions";
    Action {
        resource: ResourceId(0),
        method: b"POST",
        path,
        model,
        sql: None,
        asserted: Asserted::NONE,
    }
}

fn analysts() -> RuleSpec {
    let mut rule = RuleSpec::new("analysts-chat", Effect::Allow);
    rule.who.groups = patterns(&["analysts"]);
    rule.what.resource = Some(vec![ResourceId(0)]);
    rule.what.method = patterns(&["POST"]);
    rule.what.path = patterns(&["/v1/chat/*"]);
    rule.what.model = patterns(&["gpt-*"]);
    rule
}

fn table(rules: Vec<RuleSpec>) -> Table {
    Table::compile(rules, 2, 1).unwrap()
}

#[test]
fn an_unreadable_model_matches_a_deny_and_no_allow() {
    let own = groups(&["analysts"]);
    let who = who(&own, &[]);
    let mut any = analysts();
    any.id = "any-model".to_owned();
    any.what.model = None;
    let mut deny = RuleSpec::new("no-gpt-5", Effect::Deny);
    deny.what.model = patterns(&["gpt-5*"]);

    let named = table(vec![analysts()]);
    assert!(named.explain(&who, &chat(Attr::Value(b"gpt-4"))).outcome.is_ok());
    assert!(named.explain(&who, &chat(Attr::Unreadable)).outcome.is_err());
    assert!(named.explain(&who, &chat(Attr::Absent)).outcome.is_err());

    let both = table(vec![any, deny]);
    assert!(both.explain(&who, &chat(Attr::Value(b"gpt-4"))).outcome.is_ok());
    assert!(both.explain(&who, &chat(Attr::Absent)).outcome.is_ok());
    let unreadable = both.explain(&who, &chat(Attr::Unreadable)).outcome.unwrap_err();
    assert_eq!(unreadable.kind, DenialKind::Rule);
    assert_eq!(unreadable.rule.map(|rule| both.rule_name(rule)), Some("no-gpt-5"));
}

#[test]
fn a_denial_names_the_nearest_allow_and_what_failed() {
    let own = groups(&["analysts"]);
    let mut other = RuleSpec::new("dba-all", Effect::Allow);
    other.who.groups = patterns(&["dba"]);
    other.what.method = patterns(&["GET"]);
    let table = table(vec![other, analysts()]);
    let said = table.explain(&who(&own, &[]), &chat(Attr::Value(b"claude-9")));
    let nearest = said.nearest.unwrap();
    assert_eq!(table.rule_name(nearest.rule), "analysts-chat");
    assert_eq!(nearest.failed, [Dimension::Model]);
}

#[test]
fn earlier_actors_cannot_earn_an_allow_but_can_meet_a_deny() {
    let mut allow = RuleSpec::new("agent-x", Effect::Allow);
    allow.who.actor = patterns(&["x"]);
    let table_allow = table(vec![allow]);
    let may = |actors: &[&str]| {
        table_allow.explain(&who(&[], actors), &chat(Attr::Absent)).outcome.is_ok()
    };
    assert!(may(&["x"]) && may(&["x", "y"]));
    assert!(!may(&["y", "x"]) && !may(&[]));

    let mut deny = RuleSpec::new("never-x", Effect::Deny);
    deny.who.actor = patterns(&["x"]);
    let table_deny = table(vec![RuleSpec::new("all", Effect::Allow), deny]);
    let may = |actors: &[&str]| {
        table_deny.explain(&who(&[], actors), &chat(Attr::Absent)).outcome.is_ok()
    };
    assert!(may(&[]) && may(&["y"]));
    assert!(!may(&["x"]) && !may(&["y", "x"]));
}

#[test]
fn obligations_of_all_matching_allows_unite() {
    let mut one = RuleSpec::new("one", Effect::Allow);
    one.then.masks = MaskSet::EMPTY.with(MaskId(3));
    one.then.record = RecordLevel::Meta;
    let mut other = RuleSpec::new("other", Effect::Allow);
    other.then.masks = MaskSet::EMPTY.with(MaskId(5));
    other.then.credential = Some(CredentialId(9));
    let table_two = table(vec![one.clone(), other.clone()]);
    let said = table_two.explain(&who(&[], &[]), &chat(Attr::Absent));
    let owed = said.obligations.unwrap();
    assert_eq!(owed.masks, MaskSet::EMPTY.with(MaskId(3)).with(MaskId(5)));
    assert_eq!(owed.record, RecordLevel::Full);
    assert_eq!(owed.credential, Some(CredentialId(9)));

    one.then.credential = Some(CredentialId(8));
    let table_torn = table(vec![one, other]);
    let said = table_torn.explain(&who(&[], &[]), &chat(Attr::Absent));
    assert_eq!(said.outcome.unwrap_err().kind, DenialKind::ConflictingCredential);
}

#[test]
fn a_row_of_another_generation_decides_nothing() {
    let old = table(vec![RuleSpec::new("all", Effect::Allow)]);
    let row = old.row_of(&who(&[], &[]));
    assert!(matches!(old.decide(&row, &chat(Attr::Absent)), Decision::Permit(_)));
    let new = old.with_generation(2);
    let Decision::Deny(denial) = new.decide(&row, &chat(Attr::Absent)) else {
        panic!("a stale row was taken");
    };
    assert_eq!(denial.kind, DenialKind::StaleRow);
    assert!(!new.could_match(&row, ResourceId(0)));
}

#[test]
fn faults_of_rules_are_all_named() {
    let mut empty = RuleSpec::new("", Effect::Allow);
    empty.who.groups = Some(vec![]);
    empty.what.resource = Some(vec![ResourceId(2)]);
    let mut deny = RuleSpec::new("twice", Effect::Deny);
    deny.then.record = RecordLevel::Meta;
    let mut long = RuleSpec::new("twice", Effect::Allow);
    long.what.path = patterns(&["x".repeat(PATTERN_LEN_MAX + 1).as_str()]);
    let mut mixed = RuleSpec::new("mixed", Effect::Deny);
    mixed.what.path = patterns(&["*"]);
    mixed.what.missing_where = true;
    let mut both = RuleSpec::new("both", Effect::Deny);
    both.what.reads = patterns(&["*"]);
    both.what.writes = Some(vec![]);
    let errors = Table::compile(vec![empty, deny, long, mixed, both], 2, 0).unwrap_err();
    let found: Vec<(usize, RuleFault)> =
        errors.into_iter().map(|error| (error.rule, error.fault)).collect();
    assert_eq!(
        found,
        [
            (0, RuleFault::NoId),
            (0, RuleFault::EmptyList("groups")),
            (0, RuleFault::UnknownResource),
            (1, RuleFault::DenyWithObligations),
            (2, RuleFault::PatternTooLong("path")),
            (2, RuleFault::DuplicateId),
            (3, RuleFault::MixedKeys),
            (4, RuleFault::EmptyList("writes")),
            (4, RuleFault::ReadsAndWrites),
        ]
    );
}

#[test]
fn cases_run_and_a_failing_one_is_named() {
    let table = table(vec![analysts()]);
    let case = |group: &str, expect, rule: Option<&str>| Case {
        who: CaseWho { groups: groups(&[group]), ..CaseWho::default() },
        action: CaseAction {
            resource: ResourceId(0),
            method: "POST".to_owned(),
            path: "/v1/chat/completions".to_owned(),
            model: Some("gpt-4".to_owned()),
            unreadable: false,
            sql: None,
        },
        expect,
        rule: rule.map(str::to_owned),
    };
    let failures = table.run(&[
        case("analysts", Expect::Allow, None),
        case("analysts", Expect::Allow, Some("analysts-chat")),
        case("analysts", Expect::Deny, None),
        case("analysts", Expect::Allow, Some("other")),
        case("dev", Expect::Deny, None),
    ]);
    assert_eq!(failures.iter().map(|failure| failure.case).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn an_empty_table_denies() {
    let table = Table::empty();
    let row = table.row_of(&who(&[], &[]));
    assert!(matches!(table.decide(&row, &chat(Attr::Absent)), Decision::Deny(_)));
    assert_eq!(table.rule_name(RuleId(0)), "");
}

#[test]
fn rule_and_word_borders_hold() {
    for count in [1, 63, 64, 65, 127, 128, 129] {
        let rules = (0..count)
            .flat_map(|place| {
                let mut deny = RuleSpec::new(format!("d{place:03}"), Effect::Deny);
                deny.who.sub = patterns(&[format!("bad{place}").as_str()]);
                let mut allow = RuleSpec::new(format!("a{place:03}"), Effect::Allow);
                allow.who.sub = patterns(&[format!("good{place}").as_str()]);
                [deny, allow]
            })
            .collect();
        let table = table(rules);
        for place in 0..count {
            for (sub, expected) in
                [("bad", format!("d{place:03}")), ("good", format!("a{place:03}"))]
            {
                let sub = format!("{sub}{place}");
                let who = Who { sub: Some(&sub), ..who(&[], &[]) };
                let said = table.explain(&who, &chat(Attr::Absent));
                let rule = match said.outcome {
                    Ok(rule) => Some(rule),
                    Err(denial) => denial.rule,
                };
                assert_eq!(rule.map(|rule| table.rule_name(rule)), Some(expected.as_str()));
            }
        }
    }
}

#[test]
fn a_verified_principal_gives_its_row_all_its_attributes() {
    let key = DevKey::generate().unwrap();
    let verifier = Verifier::new(vec![DevKey::rules("dev", "https://dev", "gate")]);
    let token = key.mint(&DevClaims {
        issuer: "https://dev".to_owned(),
        subject: "ana".to_owned(),
        audience: vec!["gate".to_owned()],
        client_id: "chat-app".to_owned(),
        groups: vec!["analysts".to_owned()],
        actors: vec!["agent-2".to_owned(), "agent-1".to_owned()],
        issued_s: 1_000,
        lifetime_s: 60,
    });
    let now = Now { mono_ns: 0, wall_ns: 1_001_000_000_000 };
    let principal = verifier.verify(token.as_bytes(), &key.snapshot(1), now).unwrap();

    let mut rule = RuleSpec::new("all-of-it", Effect::Allow);
    rule.who = WhoRule {
        iss: Some(vec![IssuerId(0)]),
        sub: patterns(&["ana"]),
        groups: patterns(&["analysts"]),
        not_groups: patterns(&["dev"]),
        client_id: patterns(&["chat-*"]),
        actor: patterns(&["agent-2"]),
        ..WhoRule::default()
    };
    let permits = |rule: &RuleSpec| {
        let table = table(vec![rule.clone()]);
        let decision = table.decide(&table.row(&principal), &chat(Attr::Absent));
        let explained = table.explain_principal(&principal, &chat(Attr::Absent));
        assert_eq!(matches!(decision, Decision::Permit(_)), explained.outcome.is_ok());
        explained.outcome.is_ok()
    };
    assert!(permits(&rule));
    let changes: [fn(&mut WhoRule); 6] = [
        |who| who.iss = Some(vec![IssuerId(1)]),
        |who| who.sub = patterns(&["bob"]),
        |who| who.groups = patterns(&["dba"]),
        |who| who.not_groups = patterns(&["analysts"]),
        |who| who.client_id = patterns(&["cli"]),
        |who| who.actor = patterns(&["agent-1"]),
    ];
    for change in changes {
        let mut other = rule.clone();
        change(&mut other.who);
        assert!(!permits(&other), "{:?}", other.who);
    }
}
