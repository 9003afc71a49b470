//! The meaning of a policy, rule by rule, in the plainest form; the table must equal it.
//!
//! Written from the design's words and sharing no code with the table: own matching of
//! patterns, own walk over rules.

use super::approval::{Scope, Terms};
use super::pattern::tests::naive;
use super::*;
use crate::base::{CredentialId, IssuerId, MaskId, MaskSet, ResourceId};

/// What the interpreter says: the obligations of a permit with the approval that it takes and what
/// breaking the glass takes, or the kind of a refusal. Of two conflicts either may be named.
pub(super) type Said = Result<(Obligations, [Option<Terms>; 2]), DenialKind>;

fn any(list: &[Pattern], value: &[u8]) -> bool {
    list.iter().any(|pattern| naive(pattern.text(), value))
}

fn attr(rule: &RuleSpec, list: Option<&Vec<Pattern>>, value: Attr<'_>) -> bool {
    let Some(list) = list else { return true };
    match value {
        Attr::Absent => false,
        Attr::Unreadable => rule.effect != Effect::Allow,
        Attr::Value(value) => any(list, value),
    }
}

/// What a caller says of itself: what cannot be read is met, since the rule only narrows.
fn asserted(list: Option<&Vec<Pattern>>, value: Attr<'_>) -> bool {
    match (list, value) {
        (None, _) | (Some(_), Attr::Unreadable) => true,
        (Some(_), Attr::Absent) => false,
        (Some(list), Attr::Value(value)) => any(list, value),
    }
}

/// Whether a rule that matches permits, too: one that asks does where it would as an allow.
fn permits(rule: &RuleSpec, who: &Who<'_>, action: &Action<'_>) -> bool {
    let allowing = RuleSpec { effect: Effect::Allow, ..rule.clone() };
    !names_said(rule) && (rule.effect == Effect::Allow || matches(&allowing, who, action))
}

/// The terms that keep both.
fn both(one: &Terms, other: &Terms) -> Result<Terms, DenialKind> {
    let shared = one.approvers.iter().filter(|group| other.approvers.contains(group));
    // The narrowest first: a session is one on a resource.
    let scopes = [Scope::Exact, Scope::Shape, Scope::Session, Scope::Resource];
    let named = |scope: &Scope| [one.scope, other.scope].contains(scope);
    let scope = scopes.into_iter().find(named).unwrap_or_default();
    let terms = Terms {
        approvers: shared.cloned().collect(),
        count: one.count.max(other.count),
        distinct_groups: one.distinct_groups || other.distinct_groups,
        wait_ns: one.wait_ns.min(other.wait_ns),
        ttl_ns: one.ttl_ns.min(other.ttl_ns),
        uses: one.uses.min(other.uses),
        scope,
        reason: one.reason || other.reason,
        break_glass: one.break_glass,
        estimate: one.estimate && other.estimate,
        reveal: one.reveal.iter().filter(|group| other.reveal.contains(group)).cloned().collect(),
    };
    let few = terms.distinct_groups && (terms.approvers.len() as u32) < terms.count;
    match terms.approvers.is_empty() || few {
        true => Err(DenialKind::ConflictingCredential),
        false => Ok(terms),
    }
}

fn names_said(rule: &RuleSpec) -> bool {
    rule.who.node.is_some() || rule.who.run.is_some() || rule.who.thread.is_some()
}

fn text(value: Option<&str>) -> Attr<'_> {
    value.map_or(Attr::Absent, |value| Attr::Value(value.as_bytes()))
}

fn bytes(value: &[u8]) -> Attr<'_> {
    if value.is_empty() { Attr::Absent } else { Attr::Value(value) }
}

pub(super) fn matches(rule: &RuleSpec, who: &Who<'_>, action: &Action<'_>) -> bool {
    let RuleSpec { who: of, what, .. } = rule;
    let in_groups = |list: &[Pattern]| who.groups.iter().any(|group| any(list, group.as_bytes()));
    let actors = match rule.effect {
        Effect::Deny | Effect::RequireApproval => who.actors,
        Effect::Allow => who.actors.get(..1).unwrap_or_default(),
    };
    of.iss.as_ref().is_none_or(|list| list.iter().any(|one| Some(*one) == who.issuer))
        && attr(rule, of.sub.as_ref(), text(who.sub))
        && of.groups.as_ref().is_none_or(|list| in_groups(list))
        && of.not_groups.as_ref().is_none_or(|list| !in_groups(list))
        && attr(rule, of.client_id.as_ref(), text(who.client_id))
        && of
            .actor
            .as_ref()
            .is_none_or(|list| actors.iter().any(|actor| any(list, actor.as_bytes())))
        && asserted(of.node.as_ref(), action.asserted.node)
        && asserted(of.run.as_ref(), action.asserted.run)
        && asserted(of.thread.as_ref(), action.asserted.thread)
        && what.resource.as_ref().is_none_or(|list| list.contains(&action.resource))
        && attr(rule, what.method.as_ref(), bytes(action.method))
        && attr(rule, what.path.as_ref(), bytes(action.path))
        && attr(rule, what.model.as_ref(), action.model)
        && match &action.sql {
            Some(sql) => matches_sql(rule, sql),
            None => {
                let lists = [&what.statement, &what.table, &what.reads, &what.writes, &what.column];
                lists.iter().all(|list| list.is_none())
                    && what.function.is_none()
                    && !what.missing_where
                    && !what.multi_statement
                    && what.parameters.is_empty()
            }
        }
}

fn matches_sql(rule: &RuleSpec, sql: &Sql<'_>) -> bool {
    let RuleSpec { what, effect, .. } = rule;
    let unknown = sql.statement == b"unknown";
    // The word in full lets an allow rule meet what is not understood, and nothing else does.
    let statement = match (effect, unknown, &what.statement) {
        (Effect::Allow, true, None) => false,
        (Effect::Allow, true, Some(list)) => list.contains(&Pattern::new("unknown")),
        (_, _, None) => true,
        (_, _, Some(list)) => any(list, sql.statement),
    };
    let used = |list: &Option<Vec<Pattern>>, write: bool| match (list, sql.table) {
        (None, _) => true,
        (Some(_), Attr::Absent) => false,
        (Some(_), Attr::Unreadable) => *effect != Effect::Allow,
        (Some(list), Attr::Value(table)) => sql.write == write && any(list, table),
    };
    let function = match (effect, &what.function, sql.functions) {
        (Effect::Deny | Effect::RequireApproval, _, Functions::Unreadable)
        | (Effect::Deny | Effect::RequireApproval, None, _) => true,
        (Effect::Allow, Some(_), Functions::Unreadable) => false,
        (Effect::Allow, None, Functions::Unreadable) => unknown,
        (Effect::Deny | Effect::RequireApproval, Some(list), Functions::Known(all)) => {
            all.iter().any(|function| any(list, function.name))
        }
        (Effect::Allow, None, Functions::Known(all)) => !all.iter().any(|function| !function.plain),
        (Effect::Allow, Some(list), Functions::Known(all)) => {
            let outside = |one: &SqlFunction<'_>| !any(list, one.name);
            all.iter().any(|one| !outside(one)) && !all.iter().any(|one| !one.plain && outside(one))
        }
    };
    let column_of = |table, columns| match (effect, &what.column, columns) {
        (_, None, _) => true,
        (Effect::Allow, Some(_), Columns::Unreadable) => false,
        (_, Some(list), Columns::Unreadable) => match table {
            Attr::Value(table) => list.iter().any(|one| could_be(one.text(), table)),
            _ => true,
        },
        (Effect::Deny | Effect::RequireApproval, Some(list), Columns::Known(all)) => {
            all.iter().any(|column| any(list, column.as_bytes()))
        }
        (Effect::Allow, Some(list), Columns::Known(all)) => {
            let inside = all.iter().filter(|column| any(list, column.as_bytes())).count();
            inside > 0 && inside == all.len()
        }
    };
    // What is denied of a table is denied of its partitions, and what is allowed is not.
    let mut column = column_of(sql.table, sql.columns);
    for parent in sql.parents.iter().filter(|_| *effect != Effect::Allow) {
        let columns = match &parent.columns {
            Some(columns) => Columns::Known(columns),
            None => Columns::Unreadable,
        };
        column |= column_of(Attr::Value(parent.table.as_bytes()), columns);
    }
    let missing = match (what.missing_where, unknown) {
        (false, _) => true,
        (true, true) => *effect != Effect::Allow,
        (true, false) => sql.missing_where,
    };
    let multi = match (what.multi_statement, unknown) {
        (false, _) => true,
        (true, true) => *effect != Effect::Allow,
        (true, false) => sql.multi_statement,
    };
    let value = |number: u16| match sql.parameters {
        Parameters::Pending => Attr::Absent,
        Parameters::Known { count, .. } if count < number => Attr::Absent,
        Parameters::Known { read, .. } => read
            .iter()
            .find(|one| one.0 == number)
            .map_or(Attr::Unreadable, |(_, text)| Attr::Value(text)),
    };
    // Values that are still to come may be those that permit, and are none that deny.
    let values = match (sql.parameters, effect) {
        (Parameters::Pending, Effect::Allow | Effect::RequireApproval) => true,
        _ => what.parameters.iter().all(|(number, list)| attr(rule, Some(list), value(*number))),
    };
    statement
        && attr(rule, what.table.as_ref(), sql.table)
        && used(&what.reads, false)
        && used(&what.writes, true)
        && column
        && function
        && missing
        && multi
        && values
}

/// Whether a pattern may be about columns of this table, by what stands before its first wildcard.
fn could_be(pattern: &[u8], table: &[u8]) -> bool {
    let begin = [table, b"."].concat();
    match pattern.iter().position(|byte| matches!(byte, b'*' | b'?')) {
        None => pattern.starts_with(&begin),
        Some(at) => {
            let literal = pattern.get(..at).unwrap_or_default();
            literal.iter().zip(&begin).all(|(one, other)| one == other)
        }
    }
}

pub(super) fn interpret(rules: &[RuleSpec], who: &Who<'_>, action: &Action<'_>) -> Said {
    interpret_all(rules, who, std::slice::from_ref(action))
}

/// Of several actions: a deny rule on one of them, else what stops the first that is stopped.
pub(super) fn interpret_all(rules: &[RuleSpec], who: &Who<'_>, actions: &[Action<'_>]) -> Said {
    let of = |action| rules.iter().filter(move |rule| matches(rule, who, action));
    let all: Vec<Vec<&RuleSpec>> = actions.iter().map(|action| of(action).collect()).collect();
    if all.iter().flatten().any(|rule| rule.effect == Effect::Deny) {
        return Err(DenialKind::Rule);
    }
    let mut known = None;
    let mut asked: [Option<Terms>; 2] = [None, None];
    for (matching, action) in all.iter().zip(actions) {
        for terms in matching.iter().filter_map(|rule| rule.then.approval.as_ref()) {
            let [approval, glass] = &mut asked;
            let slot = if terms.break_glass { glass } else { approval };
            *slot = Some(slot.take().map_or_else(|| Ok(terms.clone()), |one| both(&one, terms))?);
        }
        for credential in matching.iter().filter_map(|rule| rule.then.credential) {
            if *known.get_or_insert(credential) != credential {
                return Err(DenialKind::ConflictingCredential);
            }
        }
        if !matching.iter().any(|rule| permits(rule, who, action)) {
            return Err(DenialKind::NoRule);
        }
    }
    let matching: Vec<&RuleSpec> = all.into_iter().flatten().collect();
    if matching.is_empty() {
        return Err(DenialKind::NoRule);
    }
    let full = matching.iter().any(|rule| rule.then.record == RecordLevel::Full);
    let each = matching.iter().any(|rule| rule.then.durable == Durable::Each);
    let obligations = Obligations {
        masks: matching.iter().fold(MaskSet::EMPTY, |all, rule| all.union(rule.then.masks)),
        record: if full { RecordLevel::Full } else { RecordLevel::Meta },
        credential: known,
        durable: if each { Durable::Each } else { Durable::Window },
        holds: Holds::default(),
    };
    for terms in asked.iter_mut().flatten() {
        terms.approvers.sort();
    }
    Ok((obligations, asked))
}

/// A small generator (xorshift64*); the seed of a failing run replays it.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        drawn as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        let place = self.below(from.len());
        from.get(place).copied().unwrap_or_default()
    }

    fn patterns(&mut self, named_one_in: usize, from: &[&str]) -> Option<Vec<Pattern>> {
        if !self.one_in(named_one_in) {
            return None;
        }
        let count = 1 + self.below(3);
        Some((0..count).map(|_| Pattern::new(self.pick(from))).collect())
    }
}

const RESOURCES: usize = 4;
const SUBS: &[&str] = &["ana", "bob", "eve", "svc:ns:app", "svc:ns:job", ""];
const GROUPS: &[&str] = &["analysts", "dba", "dev", "dev-ops", "sec", "x"];
const APPROVERS: &[&str] = &["dba", "leads", "sec"];
const CLIENTS: &[&str] = &["cli", "web", "web-2"];
const METHODS: &[&str] = &["GET", "POST", "PUT", "get", ""];
const PATHS: &[&str] = &[
    "/",
    "/v1",
    "/v1/",
    "/v1/chat",
    "/v1/chat/completions",
    "/v1/chat/completions/7",
    "/v1/files/a/b",
    "/v2/files",
    "/x",
    "",
];
const MODELS: &[&str] = &["gpt-4", "gpt-4-mini", "gpt-5", "claude", ""];
const COLUMNS: &[&str] = &["public.orders.id", "public.orders.ssn", "secret.cards.ssn"];
const TABLES: &[&str] = &["public.orders", "public.items", "secret.cards", "pg_catalog.pg_class"];
const FUNCTIONS: &[&str] = &["lower", "pg_sleep", "lo_get", "public.pay", "secret.open"];
const VALUES: &[&str] = &["eu-1", "us-1", "1", ""];
const SAID: &[&str] = &["plan", "act", "act-2", "t1"];
const SAID_PATTERNS: &[&str] = &["*", "act*", "plan", "?1"];
const PATTERNS: &[&str] = &[
    "*",
    "?",
    "a*",
    "ana",
    "bob",
    "svc:*",
    "svc:*:app",
    "dev*",
    "dev",
    "dba",
    "analysts",
    "*s",
    "web*",
    "cli",
    "GET",
    "POST",
    "P*",
    "/v1/*",
    "/v1",
    "/v1/chat*",
    "/v1/chat/completions",
    "/v?/files*",
    "*/b",
    "/*",
    "/v1/*/completions",
    "gpt-*",
    "gpt-?",
    "gpt-4",
    "claude",
    "**4*",
];
const SQL_PATTERNS: &[&str] = &[
    "*",
    "unknown",
    "un*",
    "select",
    "delete",
    "*t*",
    "copy_?n",
    "public.*",
    "public.orders",
    "public.orders.*",
    "*.ssn",
    "*.orders",
    "secret.*",
    "pg_*",
    "lo_*",
    "lower",
];
const VALUE_PATTERNS: &[&str] = &["*", "eu-*", "??-1", "1", "us-1"];

pub(super) fn random_rules(dice: &mut Dice, count: usize) -> Vec<RuleSpec> {
    (0..count)
        .map(|place| {
            let effect = match dice.below(12) {
                0 | 1 => Effect::Deny,
                2 | 3 => Effect::RequireApproval,
                _ => Effect::Allow,
            };
            let deny = effect == Effect::Deny;
            let mut rule = RuleSpec::new(format!("r{place}"), effect);
            if dice.one_in(5) {
                rule.who.iss = Some(vec![IssuerId(dice.below(3) as u16)]);
            }
            rule.who.sub = dice.patterns(4, PATTERNS);
            rule.who.groups = dice.patterns(3, PATTERNS);
            rule.who.not_groups = dice.patterns(8, PATTERNS);
            rule.who.client_id = dice.patterns(8, PATTERNS);
            rule.who.actor = dice.patterns(8, PATTERNS);
            rule.who.node = dice.patterns(8, SAID_PATTERNS);
            rule.who.run = dice.patterns(12, SAID_PATTERNS);
            rule.who.thread = dice.patterns(12, SAID_PATTERNS);
            if !dice.one_in(4) {
                rule.what.resource = Some(
                    (0..=dice.below(2)).map(|_| ResourceId(dice.below(RESOURCES) as u16)).collect(),
                );
            }
            if dice.one_in(3) {
                random_sql(dice, &mut rule.what);
            } else {
                rule.what.method = dice.patterns(3, PATTERNS);
                rule.what.path = dice.patterns(2, PATTERNS);
                rule.what.model = dice.patterns(4, PATTERNS);
            }
            if effect == Effect::RequireApproval {
                // Nothing that has values is held.
                rule.what.parameters.clear();
                rule.then.approval = Some(random_terms(dice));
            }
            if !deny {
                if dice.one_in(3) {
                    rule.then.masks = MaskSet::EMPTY.with(MaskId(dice.below(64) as u16));
                }
                if dice.one_in(2) {
                    rule.then.record = RecordLevel::Meta;
                }
                let later = rule.who.names_asserted() || !rule.what.parameters.is_empty();
                if dice.one_in(10) && !later {
                    rule.then.credential = Some(CredentialId(dice.below(2) as u16));
                }
                if dice.one_in(10) {
                    rule.then.durable = Durable::Each;
                }
            }
            rule
        })
        .collect()
}

fn random_terms(dice: &mut Dice) -> Terms {
    let approvers = (0..3).map(|_| dice.pick(APPROVERS).into()).collect();
    let scopes = [Scope::Exact, Scope::Shape, Scope::Resource, Scope::Session];
    let mut terms = Terms {
        approvers,
        count: 1 + dice.below(2) as u32,
        distinct_groups: dice.one_in(4),
        wait_ns: 1 + dice.below(3) as u64,
        ttl_ns: 1 + dice.below(3) as u64,
        uses: 1 + dice.below(3) as u32,
        scope: scopes.get(dice.below(4)).copied().unwrap_or(Scope::Exact),
        reason: dice.one_in(3),
        break_glass: dice.one_in(4),
        estimate: dice.one_in(2),
        reveal: (0..2).map(|_| dice.pick(APPROVERS).into()).collect(),
    };
    terms.reveal = std::collections::BTreeSet::from_iter(terms.reveal).into_iter().collect();
    terms.approvers = std::collections::BTreeSet::from_iter(terms.approvers).into_iter().collect();
    terms.distinct_groups &= terms.approvers.len() > 1;
    terms
}

fn random_sql(dice: &mut Dice, what: &mut What) {
    what.statement = dice.patterns(2, SQL_PATTERNS);
    what.table = dice.patterns(4, SQL_PATTERNS);
    if dice.one_in(2) {
        what.reads = dice.patterns(3, SQL_PATTERNS);
    } else {
        what.writes = dice.patterns(3, SQL_PATTERNS);
    }
    what.column = dice.patterns(4, SQL_PATTERNS);
    what.function = dice.patterns(4, SQL_PATTERNS);
    what.missing_where = dice.one_in(6);
    what.multi_statement = dice.one_in(8);
    for number in 1..=3 {
        let list = dice.patterns(5, VALUE_PATTERNS);
        what.parameters.extend(list.map(|list| (number, list)));
    }
}

fn random_values(dice: &mut Dice) -> CaseParameters {
    match dice.below(8) {
        0 => CaseParameters::Pending,
        1 => CaseParameters::Unreadable,
        _ => {
            let mut read = Vec::new();
            for number in 1..=3 {
                if dice.one_in(2) {
                    read.push((number, dice.pick(VALUES).as_bytes().into()));
                }
            }
            CaseParameters::Known(read)
        }
    }
}

fn random_statement(dice: &mut Dice) -> CaseSql {
    let mut sql = CaseSql::new(dice.pick(&STATEMENTS)).expect("a kind");
    sql.table = (!dice.one_in(4)).then(|| dice.pick(TABLES).to_owned());
    sql.table_unreadable = dice.one_in(5);
    sql.write = dice.one_in(2);
    sql.columns = (0..dice.below(3)).map(|_| dice.pick(COLUMNS).into()).collect();
    sql.columns_unreadable = dice.one_in(5);
    if dice.one_in(4) {
        let columns = (0..dice.below(3)).map(|_| dice.pick(COLUMNS).into()).collect();
        let columns = (!dice.one_in(3)).then_some(columns);
        sql.parents = vec![Parent { table: dice.pick(TABLES).into(), columns }];
    }
    sql.functions =
        (0..dice.below(3)).map(|_| (dice.pick(FUNCTIONS).to_owned(), dice.one_in(2))).collect();
    sql.functions_unreadable = dice.one_in(5);
    sql.missing_where = dice.one_in(3);
    sql.multi_statement = dice.one_in(3);
    sql.parameters = random_values(dice);
    sql
}

pub(super) fn random_case(dice: &mut Dice) -> Case {
    let who = CaseWho {
        issuer: [None, Some(IssuerId(0)), Some(IssuerId(1)), Some(IssuerId(9))]
            .get(dice.below(4))
            .copied()
            .flatten(),
        sub: (!dice.one_in(5)).then(|| dice.pick(SUBS).to_owned()),
        groups: (0..dice.below(4)).map(|_| dice.pick(GROUPS).into()).collect(),
        client_id: dice.one_in(2).then(|| dice.pick(CLIENTS).to_owned()),
        actors: (0..dice.below(3)).map(|_| dice.pick(SUBS).to_owned()).collect(),
        node: dice.one_in(2).then(|| dice.pick(SAID).to_owned()),
        run: dice.one_in(2).then(|| dice.pick(SAID).to_owned()),
        thread: dice.one_in(2).then(|| dice.pick(SAID).to_owned()),
    };
    let action = CaseAction {
        resource: ResourceId(dice.below(RESOURCES + 1) as u16),
        method: dice.pick(METHODS).to_owned(),
        path: dice.pick(PATHS).to_owned(),
        model: dice.one_in(2).then(|| dice.pick(MODELS).to_owned()),
        unreadable: dice.one_in(6),
        sql: None,
    };
    let action = match dice.one_in(2) {
        true => CaseAction {
            method: String::new(),
            path: String::new(),
            model: None,
            unreadable: false,
            sql: Some(random_statement(dice)),
            ..action
        },
        false => action,
    };
    Case { who, action, expect: Expect::Allow, rule: None }
}

/// The table's answer in the interpreter's form.
pub(super) fn said(table: &Table, case: &Case) -> Said {
    case.lend(|who, action| told(table, table.decide(&table.row_of(who), action)))
}

fn told(table: &Table, decision: Decision) -> Said {
    let owed = match &decision {
        Decision::Deny(denial) if denial.kind == DenialKind::ConflictingApproval => {
            return Err(DenialKind::ConflictingCredential);
        }
        Decision::Deny(denial) => return Err(denial.kind),
        Decision::Permit(grant) => *grant.obligations(),
        Decision::Hold(need) => *need.obligations(),
    };
    assert_eq!(owed.holds.is_empty(), matches!(decision, Decision::Permit(_)));
    let terms = [owed.holds.approval, owed.holds.break_glass].map(|hold| Some(table.terms(&hold?)));
    Ok((Obligations { holds: Holds::default(), ..owed }, terms))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SEED: u64 = 0x5EED_0001;

    /// Each table with its rules and some cases.
    fn for_each(tables: usize, cases: usize, mut check: impl FnMut(&mut Dice, &[RuleSpec], Case)) {
        let mut dice = Dice(SEED);
        for _ in 0..tables {
            let most = [3, 20, 150].get(dice.below(3)).copied().unwrap_or(3);
            let count = dice.below(most);
            let rules = random_rules(&mut dice, count);
            for _ in 0..cases {
                let case = random_case(&mut dice);
                check(&mut dice, &rules, case);
            }
        }
    }

    #[test]
    fn the_table_says_what_the_rules_mean() {
        let mut dice = Dice(SEED);
        let (mut permits, mut decisions) = (0, 0);
        for round in 0..400 {
            let count = dice.below([4, 30, 200].get(round % 3).copied().unwrap_or(4));
            let rules = random_rules(&mut dice, count);
            let table = Table::compile(rules.clone(), RESOURCES, 7).unwrap();
            for _ in 0..300 {
                let case = random_case(&mut dice);
                let known = case.action.resource.index() < RESOURCES;
                let expected = match known {
                    true => case.lend(|who, action| interpret(&rules, who, action)),
                    false => Err(DenialKind::NoRule),
                };
                let found = said(&table, &case);
                assert_eq!(found, expected, "seed {SEED:#x} round {round}\n{case:#?}\n{rules:#?}");
                decisions += 1;
                permits += usize::from(found.is_ok());
                // A refusal is recorded under all masks that any permit could ask for.
                case.lend(|who, action| {
                    let row = table.row_of(who);
                    let [here, anywhere] =
                        [Some(action.resource), None].map(|of| table.masks_of(&row, of));
                    let meets = |rule: &&RuleSpec| {
                        let anything =
                            What { resource: rule.what.resource.clone(), ..What::default() };
                        let mut rule = RuleSpec { what: anything, ..(*rule).clone() };
                        (rule.who.node, rule.who.run, rule.who.thread) = (None, None, None);
                        let anything = Action { sql: None, ..*action };
                        known && rule.effect != Effect::Deny && matches(&rule, who, &anything)
                    };
                    let met = rules.iter().filter(meets);
                    let all = met.fold(MaskSet::EMPTY, |all, rule| all.union(rule.then.masks));
                    assert_eq!((here, here.union(anywhere)), (all, anywhere), "seed {SEED:#x}");
                });
            }
        }
        assert!(decisions >= 100_000);
        assert!((10_000..110_000).contains(&permits), "the draw is not one-sided: {permits}");
    }

    /// Lends the actions of all cases at once.
    fn lend_all(cases: &[Case], so_far: &[Action<'_>], check: &mut dyn FnMut(&[Action<'_>])) {
        let Some((case, rest)) = cases.split_first() else { return check(so_far) };
        case.lend(|_, action| {
            let all: Vec<Action<'_>> = so_far.iter().copied().chain([*action]).collect();
            lend_all(rest, &all, check);
        });
    }

    #[test]
    fn several_actions_are_permitted_when_each_of_them_is() {
        let (mut permits, mut mixed) = (0, 0);
        for_each(200, 60, |dice, rules, case| {
            let table = Table::compile(rules.to_vec(), RESOURCES, 1).unwrap();
            let resource = ResourceId(dice.below(RESOURCES) as u16);
            let count = dice.below(4);
            let mut cases: Vec<Case> = (0..count).map(|_| random_case(dice)).collect();
            cases.iter_mut().for_each(|case| case.action.resource = resource);
            case.lend(|who, _| {
                let row = table.row_of(who);
                lend_all(&cases, &[], &mut |actions| {
                    let expected = interpret_all(rules, who, actions);
                    let found = told(&table, table.decide_all(&row, actions.iter().copied()));
                    assert_eq!(found, expected, "seed {SEED:#x}\n{cases:#?}\n{rules:#?}");
                    let one = |action| told(&table, table.decide(&row, action)).is_ok();
                    let each = actions.iter().filter(|action| one(action)).count();
                    assert!(found.is_err() || each == actions.len() && each > 0);
                    permits += usize::from(found.is_ok() && each > 1);
                    mixed += usize::from(found.is_err() && each > 0);
                });
            });
        });
        assert!(permits > 200 && mixed > 200, "the draw is not one-sided: {permits} {mixed}");
    }

    #[test]
    fn the_order_of_rules_does_not_matter() {
        for_each(60, 20, |dice, rules, case| {
            let mut shuffled = rules.to_vec();
            for place in (1..shuffled.len()).rev() {
                shuffled.swap(place, dice.below(place + 1));
            }
            let one = Table::compile(rules.to_vec(), RESOURCES, 1).unwrap();
            let other = Table::compile(shuffled, RESOURCES, 1).unwrap();
            assert_eq!(one.digest(), other.digest());
            case.lend(|who, action| {
                let (one, other) = (one.explain(who, action), other.explain(who, action));
                assert_eq!(one, other, "seed {SEED:#x}");
            });
        });
    }

    #[test]
    fn a_deny_more_or_an_allow_less_never_widens() {
        for_each(60, 20, |dice, rules, case| {
            let before = said(&Table::compile(rules.to_vec(), RESOURCES, 1).unwrap(), &case);
            let mut denied = rules.to_vec();
            let mut more = random_rules(dice, 1);
            for rule in &mut more {
                rule.id = "one-more".to_owned();
                rule.effect = Effect::Deny;
                rule.then = Then::default();
            }
            denied.append(&mut more);
            let after = said(&Table::compile(denied, RESOURCES, 1).unwrap(), &case);
            assert!(after.is_err() || after == before, "seed {SEED:#x}");
            // Without one allow, a permit stays one or ends; a conflict may be solved by it.
            let allows: Vec<usize> = (0..rules.len())
                .filter(|place| rules.get(*place).is_some_and(|r| r.effect == Effect::Allow))
                .collect();
            if let Some(place) = allows.first() {
                let mut fewer = rules.to_vec();
                fewer.remove(*place);
                let after = said(&Table::compile(fewer, RESOURCES, 1).unwrap(), &case);
                let widened =
                    after.is_ok() && matches!(before, Err(DenialKind::Rule | DenialKind::NoRule));
                assert!(!widened, "seed {SEED:#x}");
            }
        });
    }

    /// A statement is prepared before its values are known: that refuses none that some values
    /// permit, and owes every mask that they could owe.
    #[test]
    fn what_some_values_permit_may_be_prepared() {
        let (mut met, mut run) = (0, 0);
        for_each(120, 40, |dice, rules, case| {
            let Some(sql) = &case.action.sql else { return };
            let with = |parameters| {
                let sql = Some(CaseSql { parameters, ..sql.clone() });
                Case { action: CaseAction { sql, ..case.action.clone() }, ..case.clone() }
            };
            let table = Table::compile(rules.to_vec(), RESOURCES, 1).unwrap();
            let prepared = said(&table, &with(CaseParameters::Pending));
            for _ in 0..4 {
                let Ok((owed, terms)) = said(&table, &with(random_values(dice))) else { continue };
                let (before, asked) = prepared.clone().expect("what is run was prepared");
                assert_eq!(before.masks.union(owed.masks), before.masks, "seed {SEED:#x}");
                assert_eq!(before.credential, owed.credential, "seed {SEED:#x}");
                run += 1;
                met += usize::from((before, asked) != (owed, terms));
            }
            // Where no rule names values, they change nothing.
            case.lend(|who, action| {
                let row = table.row_of(who);
                if !table.reads_parameters(&row, action.resource) {
                    let other = said(&table, &with(random_values(dice)));
                    assert_eq!(other, said(&table, &case), "seed {SEED:#x}");
                }
            });
        });
        assert!(run > 200 && met > 10, "{run} {met}");
    }

    #[test]
    fn fewer_groups_never_gain_through_rules_that_ask_for_groups() {
        for_each(60, 20, |_, rules, case| {
            // A deny on a group, or `not_groups`, is what a group can cost.
            let asking = rules.iter().filter(|rule| {
                rule.who.not_groups.is_none()
                    && (rule.effect == Effect::Allow || rule.who.groups.is_none())
            });
            let table = Table::compile(asking.cloned().collect(), RESOURCES, 1).unwrap();
            let before = said(&table, &case);
            for place in 0..case.who.groups.len() {
                let mut fewer = case.clone();
                fewer.who.groups.remove(place);
                let widened = said(&table, &fewer).is_ok() && before == Err(DenialKind::NoRule);
                assert!(!widened, "seed {SEED:#x}");
            }
        });
    }

    #[test]
    fn reading_the_model_is_asked_for_exactly_where_it_can_matter() {
        for_each(60, 30, |_, rules, case| {
            let table = Table::compile(rules.to_vec(), RESOURCES, 1).unwrap();
            case.lend(|who, action| {
                let row = table.row_of(who);
                if table.reads_model(&row, action.resource) {
                    return;
                }
                let with = |model| table.decide(&row, &Action { model, ..*action });
                let absent = with(Attr::Absent);
                assert_eq!(absent, with(Attr::Unreadable));
                assert_eq!(absent, with(Attr::Value(b"gpt-4")));
            });
        });
    }

    #[test]
    fn what_could_not_match_is_never_permitted() {
        for_each(60, 30, |_, rules, case| {
            let table = Table::compile(rules.to_vec(), RESOURCES, 1).unwrap();
            case.lend(|who, action| {
                let row = table.row_of(who);
                let never = match action.sql {
                    Some(_) => !table.could_match_sql(&row, action.resource),
                    None => !table.could_match(&row, action.resource),
                };
                if never {
                    assert!(matches!(table.decide(&row, action), Decision::Deny(_)));
                }
            });
        });
    }
}
