//! The compiled table: rows, and the AND of them.
//!
//! Rules about the same resource stand side by side, and a resource knows which words hold rules
//! about it: a decision looks at those words only. Estimate: three walks over short values and a
//! few ANDs, about 100 ns; rules with an inner `*` that survive them cost one more walk together,
//! and 30 ns for each that is left then. The keys about statements have no row: they are looked at
//! on rules that survive, at some 30 ns each; a session asks once for each text. Measured
//! (bench `policy`, 50 resources, a quarter of the paths with an inner `*`): 120 ns with 100
//! rules, 300 ns with 1,000, 1.7 us with 10,000. No allocation.

use super::approval::Terms;
use super::asserted::{self, Asserted};
use super::decision::{Decision, Denial, DenialKind, Grant, Obligations};
use super::fragment::Found;
use super::hold::{Approvers, Hold};
use super::index::Index;
use super::layout::{Layout, digest};
use super::pattern::Pattern;
use super::rule::{Effect, RULES_MAX, RecordLevel, RuleError, RuleFault, RuleSpec};
use super::sql::{self, Sql};
use super::who::Who;
use crate::base::{IssuerId, MaskSet, ResourceId, RuleId};
use crate::identity::Principal;
use std::collections::BTreeMap;

/// An attribute of an action that may not be there, or not be readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attr<'a> {
    /// The request has none. No rule that names the attribute matches.
    Absent,
    /// There may be one, and it could not be read. Deny rules that name it match.
    Unreadable,
    /// The value.
    Value(&'a [u8]),
}

impl Attr<'_> {
    /// Whether it satisfies what a rule of this effect names; `None`: the rule does not name it.
    pub(super) fn fits(self, list: Option<&[Pattern]>, effect: Effect) -> bool {
        match (list, self) {
            (None, _) => true,
            (Some(_), Self::Absent) => false,
            (Some(_), Self::Unreadable) => effect.is_strict(),
            (Some(list), Self::Value(value)) => list.iter().any(|one| one.matches(value)),
        }
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Action<'a> {
    /// On which resource.
    pub resource: ResourceId,
    /// Request method; empty counts as absent (a protocol without methods).
    pub method: &'a [u8],
    /// Canonical path after the resource segment; empty counts as absent.
    pub path: &'a [u8],
    /// Model that the body names.
    pub model: Attr<'a>,
    /// What a statement does. `None`: the protocol has no statements, and no rule that names
    /// anything of them matches.
    pub sql: Option<Sql<'a>>,
    /// What the caller says of the work that it does.
    pub asserted: Asserted<'a>,
}

impl<'a> Action<'a> {
    pub(super) fn method(&self) -> Attr<'a> {
        if self.method.is_empty() { Attr::Absent } else { Attr::Value(self.method) }
    }

    pub(super) fn path(&self) -> Attr<'a> {
        if self.path.is_empty() { Attr::Absent } else { Attr::Value(self.path) }
    }
}

/// The rules that one caller satisfies: made once per token, kept beside it.
///
/// It fits the table generation that made it only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    generation: u64,
    words: Box<[u64]>,
    /// Of the words of strict rules, those that the caller meets by its current actor: what an
    /// approval may permit.
    current: Box<[u64]>,
}

impl Row {
    /// Of which table it is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// All rules, compiled. Immutable; published to workers by generation.
#[derive(Clone, Debug)]
pub struct Table {
    /// Strict rules (those that deny, then those that ask), then allow rules; each by resource,
    /// then by id.
    rules: Vec<RuleSpec>,
    strict: usize,
    strict_words: usize,
    words: usize,
    /// For each resource the words that hold rules about it, with the bits of those rules.
    resources: Vec<Vec<(usize, u64)>>,
    /// One row for each issuer that a rule names, and the row of all others.
    issuers: BTreeMap<IssuerId, Vec<u64>>,
    no_issuer: Vec<u64>,
    sub: Index,
    groups: Index,
    not_groups: Index,
    client_id: Index,
    actor: Index,
    method: Index,
    path: Index,
    model: Index,
    /// Rules that name what only statements have.
    names_sql: Vec<u64>,
    /// Rules that name what a caller only says: those that allow permit nothing.
    names_asserted: Vec<u64>,
    /// Rules that ask for an approval; they have their terms in `asking`, one for each strict rule.
    asks: Vec<u64>,
    asking: Vec<Option<Asking>>,
    approvers: Approvers,
    /// Rules that name values of parameters, and which numbers they name.
    names_parameters: Vec<u64>,
    parameters: Vec<u16>,
    /// Rules that do not allow and name columns.
    denies_columns: Vec<u64>,
    generation: u64,
    digest: [u8; 32],
}

impl Table {
    /// Compiles `rules` for a config with `resources` resources. Order does not matter.
    ///
    /// # Errors
    /// Every fault of every rule.
    pub fn compile(
        mut rules: Vec<RuleSpec>,
        resources: usize,
        generation: u64,
    ) -> Result<Self, Vec<RuleError>> {
        let mut errors = faults(&rules, resources);
        let approvers = Approvers::of(&rules).unwrap_or_else(|fault| {
            errors.push(RuleError { rule: 0, fault });
            Approvers::default()
        });
        if !errors.is_empty() {
            return Err(errors);
        }
        rules.sort_by(|one, other| {
            let key = |rule: &RuleSpec| (rule.effect, rule.what.resource.clone(), rule.id.clone());
            key(one).cmp(&key(other))
        });
        let strict = rules.iter().filter(|rule| rule.effect.is_strict()).count();
        let strict_words = strict.div_ceil(64);
        let words = strict_words + (rules.len() - strict).div_ceil(64);
        let layout = Layout { rules: &rules, strict, strict_words, words };
        Ok(Self {
            strict,
            strict_words,
            words,
            resources: layout.resources(resources),
            issuers: layout.issuers(),
            no_issuer: layout.unnamed_issuer(),
            sub: layout.index(|rule| rule.who.sub.as_deref()),
            groups: layout.index(|rule| rule.who.groups.as_deref()),
            not_groups: layout.index(|rule| rule.who.not_groups.as_deref()),
            client_id: layout.index(|rule| rule.who.client_id.as_deref()),
            actor: layout.index(|rule| rule.who.actor.as_deref()),
            method: layout.index(|rule| rule.what.method.as_deref()),
            path: layout.index(|rule| rule.what.path.as_deref()),
            model: layout.index(|rule| rule.what.model.as_deref()),
            names_sql: layout.naming(|rule| rule.what.names_sql()),
            names_asserted: layout.naming(|rule| rule.who.names_asserted()),
            asks: layout.naming(|rule| rule.effect == Effect::RequireApproval),
            asking: Asking::of(&rules, strict, &approvers),
            approvers,
            names_parameters: layout.naming(|rule| !rule.what.parameters.is_empty()),
            parameters: layout.parameters(),
            denies_columns: layout
                .naming(|rule| rule.effect != Effect::Allow && rule.what.column.is_some()),
            generation,
            digest: digest(&rules),
            rules,
        })
    }

    /// A table without rules: it denies everything.
    #[must_use]
    pub fn empty() -> Self {
        let layout = Layout { rules: &[], strict: 0, strict_words: 0, words: 0 };
        let index = || layout.index(|_| None);
        Self {
            rules: Vec::new(),
            strict: 0,
            strict_words: 0,
            words: 0,
            resources: Vec::new(),
            issuers: BTreeMap::new(),
            no_issuer: Vec::new(),
            sub: index(),
            groups: index(),
            not_groups: index(),
            client_id: index(),
            actor: index(),
            method: index(),
            path: index(),
            model: index(),
            names_sql: Vec::new(),
            names_asserted: Vec::new(),
            asks: Vec::new(),
            asking: Vec::new(),
            approvers: Approvers::default(),
            names_parameters: Vec::new(),
            parameters: Vec::new(),
            denies_columns: Vec::new(),
            generation: 0,
            digest: digest(&[]),
        }
    }

    /// The row of a caller. Made once per token and kept beside it; allocates.
    #[must_use]
    pub fn row(&self, principal: &Principal) -> Row {
        Who::lend(principal, |who| self.row_of(who))
    }

    /// The row of a caller whose attributes are `who`. Private to the module: a row that decides
    /// is made from a verified principal only.
    pub(super) fn row_of(&self, who: &Who<'_>) -> Row {
        let issuer = who.issuer.and_then(|issuer| self.issuers.get(&issuer));
        let mut words = issuer.unwrap_or(&self.no_issuer).clone();
        let mut side = vec![0; self.words];
        let scalars =
            [(&self.sub, who.sub, Part::Sub), (&self.client_id, who.client_id, Part::ClientId)];
        for (index, value, part) in scalars {
            side.copy_from_slice(index.absent());
            if let Some(value) = value {
                self.unite(index, value.as_bytes(), part, &mut side);
            }
            and(&mut words, &side);
        }

        side.copy_from_slice(self.groups.absent());
        for group in who.groups {
            self.unite(&self.groups, group.as_bytes(), Part::Groups, &mut side);
        }
        and(&mut words, &side);

        side.fill(0);
        for group in who.groups {
            self.unite(&self.not_groups, group.as_bytes(), Part::NotGroups, &mut side);
        }
        for (word, (found, named)) in words.iter_mut().zip(side.iter().zip(self.not_groups.named()))
        {
            *word &= !(found & named);
        }

        // What permits sees the current actor only, what holds back the whole chain.
        side.copy_from_slice(self.actor.absent());
        let mut earlier = side.clone();
        for (place, actor) in who.actors.iter().enumerate() {
            let into = if place == 0 { &mut side } else { &mut earlier };
            self.unite(&self.actor, actor.as_bytes(), Part::Actor, into);
        }
        let mut current = words.clone();
        current.truncate(self.strict_words);
        and(&mut current, &side);
        for (into, word) in side.iter_mut().zip(&earlier).take(self.strict_words) {
            *into |= word;
        }
        and(&mut words, &side);
        Row { generation: self.generation, words: words.into(), current: current.into() }
    }

    /// Adds the rules that `value` satisfies in one dimension, maybes looked at.
    fn unite(&self, index: &Index, value: &[u8], part: Part, into: &mut [u64]) {
        for (place, (into, found)) in into.iter_mut().zip(index.find(value)).enumerate() {
            let maybe = found & index.residual(place);
            *into |= found & !maybe;
            for bit in bits(maybe) {
                let rule = self.rule_at(place, bit);
                if rule.is_some_and(|(_, rule)| any(part.of(rule), value)) {
                    *into |= 1 << bit;
                }
            }
        }
    }

    /// Decides. Cost: one walk over method, path and model each, and the AND of five rows.
    pub fn decide(&self, row: &Row, action: &Action<'_>) -> Decision {
        let mut obligations = Obligations::NONE;
        match self.weigh(row, action, &mut obligations) {
            Ok(rule) => obligations.decision(rule, action.resource),
            Err(denial) => Decision::Deny(denial),
        }
    }

    /// Decides on something that is several actions on one resource, as a statement is: it is
    /// permitted when each of them is, under the obligations of all. A deny rule that one of them
    /// meets is what a denial names, else it is what stopped the first that is not permitted.
    /// Nothing at all is not permitted. The rule of the grant is that of the first action.
    ///
    /// Cost: that of [`Self::decide`] for each action. No allocation.
    pub fn decide_all<'a>(
        &self,
        row: &Row,
        actions: impl IntoIterator<Item = Action<'a>>,
    ) -> Decision {
        let no_rule = Denial { rule: None, kind: DenialKind::NoRule };
        let mut obligations = Obligations::NONE;
        let mut first = None;
        let mut denied = None;
        for action in actions {
            match self.weigh(row, &action, &mut obligations) {
                Err(denial) if denial.kind == DenialKind::Rule => return Decision::Deny(denial),
                Err(denial) => denied = denied.or(Some(denial)),
                Ok(rule) => {
                    let (_, resource) = *first.get_or_insert((rule, action.resource));
                    // A grant is for one resource.
                    if action.resource != resource {
                        denied = denied.or(Some(no_rule));
                    }
                }
            }
        }
        match (first, denied) {
            (Some((rule, resource)), None) => obligations.decision(rule, resource),
            (_, denied) => Decision::Deny(denied.unwrap_or(no_rule)),
        }
    }

    /// Looks for the rules that match, and adds what the allow rules among them oblige to.
    /// Returns the first of those.
    #[inline]
    fn weigh(
        &self,
        row: &Row,
        action: &Action<'_>,
        obligations: &mut Obligations,
    ) -> Result<RuleId, Denial> {
        if row.generation != self.generation || row.words.len() != self.words {
            return Err(Denial { rule: None, kind: DenialKind::StaleRow });
        }
        let no_rule = Denial { rule: None, kind: DenialKind::NoRule };
        let resource = self.resources.get(action.resource.index()).ok_or(no_rule)?;
        let mut dimensions = [
            Look::new(&self.method, action.method(), Part::Method),
            Look::new(&self.path, action.path(), Part::Path),
            Look::new(&self.model, action.model, Part::Model),
        ];
        let rows = dimensions.each_ref().map(|look| look.row);
        let mut first = None;
        for (place, about) in resource {
            let place = *place;
            let at = |row: &[u64]| row.get(place).copied().unwrap_or(0);
            let mut fits = rows.iter().fold(about & at(&row.words), |fits, row| fits & at(row));
            if fits == 0 {
                continue;
            }
            if action.sql.is_none() {
                fits &= !at(&self.names_sql);
            }
            for look in &mut dimensions {
                fits = look.narrow(place, fits);
            }
            for bit in bits(fits) {
                let Some((id, rule)) = self.rule_at(place, bit) else { continue };
                if !dimensions.iter().all(|look| look.confirms(place, bit, rule))
                    || !action.sql.as_ref().is_none_or(|sql| sql::fits(rule, sql))
                    || !asserted::fits(rule, &action.asserted)
                {
                    continue;
                }
                let permits = match rule.effect {
                    Effect::Deny => {
                        return Err(Denial { rule: Some(id), kind: DenialKind::Rule });
                    }
                    Effect::RequireApproval => {
                        let asking = self.asking.get(id.index()).and_then(Option::as_ref);
                        if !asking.is_some_and(|asking| obligations.holds.unite(&asking.hold)) {
                            let kind = DenialKind::ConflictingApproval;
                            return Err(Denial { rule: Some(id), kind });
                        }
                        at(&row.current) >> bit & 1 == 1
                            && asking.is_some_and(|asking| asking.permits(action))
                    }
                    Effect::Allow => true,
                };
                if permits && at(&self.names_asserted) >> bit & 1 == 0 {
                    first = first.or(Some(id));
                }
                if !obligations.unite(&rule.then) {
                    let kind = DenialKind::ConflictingCredential;
                    return Err(Denial { rule: Some(id), kind });
                }
            }
        }
        first.ok_or(no_rule)
    }

    /// Whether some rule that may match for this caller and resource names `model`, so that the
    /// body must be read before a decision.
    #[must_use]
    pub fn reads_model(&self, row: &Row, resource: ResourceId) -> bool {
        let Some(resource) = self.resources.get(resource.index()) else { return false };
        let at = |row: &[u64], place: usize| row.get(place).copied().unwrap_or(0);
        let named = self.model.named();
        resource
            .iter()
            .any(|(place, about)| about & at(&row.words, *place) & at(named, *place) != 0)
    }

    /// Whether some rule names what a caller only says, so that it must be at hand.
    #[must_use]
    pub fn reads_asserted(&self) -> bool {
        self.names_asserted.iter().any(|word| *word != 0)
    }

    /// What an approval takes, with the names of its groups.
    #[must_use]
    pub fn terms(&self, hold: &Hold) -> Terms {
        self.approvers.terms(hold)
    }

    /// Whether some rule could ask for an approval of what this caller asks of the resource.
    #[must_use]
    pub fn could_ask(&self, row: &Row, resource: ResourceId) -> bool {
        let Some(resource) = self.resources.get(resource.index()) else { return false };
        let at = |row: &[u64], place: usize| row.get(place).copied().unwrap_or(0);
        let mut strict = resource.iter().take_while(|(place, _)| *place < self.strict_words);
        strict.any(|(place, about)| about & at(&row.words, *place) & at(&self.asks, *place) != 0)
    }

    /// The numbers of the parameters whose values some rule names, in rising order.
    #[must_use]
    pub fn parameters(&self) -> &[u16] {
        &self.parameters
    }

    /// Whether some rule that may match for this caller and resource names values of parameters, so
    /// that a statement is decided anew with each set of them.
    #[must_use]
    pub fn reads_parameters(&self, row: &Row, resource: ResourceId) -> bool {
        !self.parameters.is_empty() && self.meets(&self.names_parameters, row, resource)
    }

    /// Whether some rule that may match for this caller and resource, and does not allow, names
    /// columns: then it must be known whose partitions and children tables are.
    #[must_use]
    pub fn denies_columns(&self, row: &Row, resource: ResourceId) -> bool {
        self.meets(&self.denies_columns, row, resource)
    }

    /// Whether some rule of a row may match for this caller and resource. A row of another table
    /// could meet all.
    fn meets(&self, rules: &[u64], row: &Row, resource: ResourceId) -> bool {
        let fresh = row.generation == self.generation && row.words.len() == self.words;
        let at = |row: &[u64], place: usize| row.get(place).copied().unwrap_or(0);
        let own = |place| if fresh { at(&row.words, place) } else { u64::MAX };
        let about = self.resources.get(resource.index()).map(Vec::as_slice).unwrap_or_default();
        about.iter().any(|(place, about)| about & own(*place) & at(rules, *place) != 0)
    }

    /// The masks of all rules that this caller could meet on the resource, or on any: what
    /// the record of a refusal goes through, since it may hold what those masks are for. A row of
    /// another table could meet all rules.
    #[must_use]
    pub fn masks_of(&self, row: &Row, resource: Option<ResourceId>) -> MaskSet {
        let fresh = row.generation == self.generation && row.words.len() == self.words;
        let about =
            resource.map(|id| self.resources.get(id.index()).map_or(&[][..], Vec::as_slice));
        let mut masks = MaskSet::EMPTY;
        for place in 0..self.words {
            let word = if fresh { row.words.get(place).copied().unwrap_or(0) } else { u64::MAX };
            let about = about.map_or(u64::MAX, |about| {
                about.iter().find(|(at, _)| *at == place).map_or(0, |(_, bits)| *bits)
            });
            for bit in bits(word & about) {
                if let Some((_, rule)) = self.rule_at(place, bit) {
                    masks = masks.union(rule.then.masks);
                }
            }
        }
        masks
    }

    /// Whether this caller may do anything at all on the resource: some allow rule could match,
    /// and no deny rule matches whatever is done.
    #[must_use]
    pub fn could_match(&self, row: &Row, resource: ResourceId) -> bool {
        self.could(row, resource, false)
    }

    /// Whether this caller may run any statement at all on the resource: the question that
    /// connecting to a database asks. Unlike [`Self::could_match`] it does not count the rules
    /// about requests, which no statement meets.
    #[must_use]
    pub fn could_match_sql(&self, row: &Row, resource: ResourceId) -> bool {
        self.could(row, resource, true)
    }

    /// Whether this caller may connect to a database: where it could run any statement. The grant
    /// owes every mask that a statement of the caller could owe, and has the credential that all
    /// rules that could permit it something name alike; else the resource's own.
    pub fn decide_connect(&self, row: &Row, resource: ResourceId) -> Decision {
        if row.generation != self.generation || row.words.len() != self.words {
            return Decision::Deny(Denial { rule: None, kind: DenialKind::StaleRow });
        }
        let met = self.met_by_statements(row, resource);
        // What names a statement, or what the caller says of one, is decided when it comes.
        let denies = |rule: &&(RuleId, &RuleSpec)| {
            let later = rule.1.what.names_sql() || rule.1.who.names_asserted();
            rule.1.effect == Effect::Deny && !later
        };
        if let Some((rule, _)) = met.iter().find(denies) {
            return Decision::Deny(Denial { rule: Some(*rule), kind: DenialKind::Rule });
        }
        let allow = |rule: &&(RuleId, &RuleSpec)| rule.1.effect != Effect::Deny;
        let permits = |rule: &&(RuleId, &RuleSpec)| allow(rule) && !rule.1.who.names_asserted();
        let allows: Vec<_> = met.iter().filter(permits).collect();
        let Some((first, rule)) = allows.first() else {
            return Decision::Deny(Denial { rule: None, kind: DenialKind::NoRule });
        };
        let alike = allows.iter().all(|other| other.1.then.credential == rule.then.credential);
        let masks = met.iter().filter(allow);
        let masks = masks.fold(MaskSet::EMPTY, |all, rule| all.union(rule.1.then.masks));
        let obligations = Obligations {
            masks,
            credential: rule.then.credential.filter(|_| alike),
            record: RecordLevel::Full,
            ..Obligations::NONE
        };
        Decision::Permit(Grant::new(*first, resource, obligations))
    }

    /// The rules that a statement of this caller could meet.
    fn met_by_statements(&self, row: &Row, resource: ResourceId) -> Vec<(RuleId, &RuleSpec)> {
        let about = self.resources.get(resource.index()).map(Vec::as_slice).unwrap_or_default();
        let met = about.iter().flat_map(|(place, about)| {
            let fits = about & row.words.get(*place).copied().unwrap_or(0);
            bits(fits).filter_map(|bit| self.rule_at(*place, bit))
        });
        met.filter(|(_, rule)| !rule.what.names_http()).collect()
    }

    fn could(&self, row: &Row, resource: ResourceId, sql: bool) -> bool {
        if row.generation != self.generation {
            return false;
        }
        let Some(resource) = self.resources.get(resource.index()) else { return false };
        let mut allowed = false;
        for (place, about) in resource {
            let place = *place;
            let at = |row: &[u64]| row.get(place).copied().unwrap_or(0);
            let fits = about & at(&row.words);
            let http = at(self.method.named()) | at(self.path.named()) | at(self.model.named());
            let said = at(&self.names_asserted);
            let asks = at(&self.asks);
            let permits = if place < self.strict_words { asks } else { u64::MAX };
            allowed |= fits & permits & !said & !(if sql { http } else { 0 }) != 0;
            if fits & !permits & !(http | said | at(&self.names_sql)) != 0 {
                return false;
            }
        }
        allowed
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule, so that all is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rule's `id`; empty for a rule of another table.
    #[must_use]
    pub fn rule_name(&self, rule: RuleId) -> &str {
        self.rules.get(rule.index()).map_or("", |rule| &rule.id)
    }

    /// All rules in compiled order, which does not depend on their order in the files.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &RuleSpec)> {
        self.rules.iter().enumerate().map(|(place, rule)| (rule_id(place), rule))
    }

    /// Number of the snapshot.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Gives the table its number before it is published; rows of another number are refused.
    #[must_use]
    pub fn with_generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// SHA-256 over all rules in compiled order: equal for equal policies in any file order.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The rule whose bit stands at this place.
    fn rule_at(&self, word: usize, bit: u32) -> Option<(RuleId, &RuleSpec)> {
        let bit = word * 64 + bit as usize;
        let place =
            if word < self.strict_words { bit } else { bit - self.strict_words * 64 + self.strict };
        self.rules.get(place).map(|rule| (rule_id(place), rule))
    }
}

/// A rule that asks for an approval.
#[derive(Clone, Debug)]
struct Asking {
    hold: Hold,
    /// The rule as one that allows: it asks about all that could be meant, and once approved it
    /// permits what it names.
    allowing: RuleSpec,
}

impl Asking {
    fn of(rules: &[RuleSpec], strict: usize, approvers: &Approvers) -> Vec<Option<Self>> {
        let rules = rules.iter().enumerate().take(strict);
        let asking = rules.map(|(place, rule)| {
            let hold = approvers.hold(rule_id(place), rule.then.approval.as_ref()?);
            Some(Self { hold, allowing: RuleSpec { effect: Effect::Allow, ..rule.clone() } })
        });
        asking.collect()
    }

    /// Whether it matches as a rule that allows. What names a method or a path is never unreadable.
    fn permits(&self, action: &Action<'_>) -> bool {
        action.model.fits(self.allowing.what.model.as_deref(), Effect::Allow)
            && action.sql.as_ref().is_none_or(|sql| sql::fits(&self.allowing, sql))
    }
}

/// One what-dimension of one decision.
struct Look<'t> {
    index: &'t Index,
    row: &'t [u64],
    value: Option<&'t [u8]>,
    part: Part,
    /// Which fragments stand in the value; found when the first maybe survives.
    found: Option<Found>,
}

impl<'t> Look<'t> {
    fn new(index: &'t Index, attr: Attr<'t>, part: Part) -> Self {
        let (row, value) = match attr {
            Attr::Absent => (index.absent(), None),
            Attr::Unreadable => (index.unreadable(), None),
            Attr::Value(value) => (index.find(value), Some(value)),
        };
        Self { index, row, value, part, found: None }
    }

    /// Drops the maybes of a word whose fragment does not stand in the value.
    fn narrow(&mut self, word: usize, fits: u64) -> u64 {
        let maybe = fits & self.index.residual(word);
        let Some(value) = self.value.filter(|_| maybe.count_ones() > LOOKS_MAX) else {
            return fits;
        };
        let found = self.found.get_or_insert_with(|| self.index.fragments(value));
        fits & (!maybe | self.index.possible(word, found))
    }

    /// Whether a surviving bit is no mere maybe.
    fn confirms(&self, word: usize, bit: u32, rule: &RuleSpec) -> bool {
        match self.value {
            Some(value) if self.index.residual(word) >> bit & 1 == 1 => {
                any(self.part.of(rule), value)
            }
            _ => true,
        }
    }
}

/// So many maybes of a word are looked at faster than the value is walked.
const LOOKS_MAX: u32 = if cfg!(test) { 0 } else { 2 };

/// Which list of patterns of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Sub,
    Groups,
    NotGroups,
    ClientId,
    Actor,
    Method,
    Path,
    Model,
}

impl Part {
    fn of(self, rule: &RuleSpec) -> Option<&[Pattern]> {
        match self {
            Self::Sub => rule.who.sub.as_deref(),
            Self::Groups => rule.who.groups.as_deref(),
            Self::NotGroups => rule.who.not_groups.as_deref(),
            Self::ClientId => rule.who.client_id.as_deref(),
            Self::Actor => rule.who.actor.as_deref(),
            Self::Method => rule.what.method.as_deref(),
            Self::Path => rule.what.path.as_deref(),
            Self::Model => rule.what.model.as_deref(),
        }
    }
}

fn faults(rules: &[RuleSpec], resources: usize) -> Vec<RuleError> {
    let mut errors = Vec::new();
    if rules.len() > RULES_MAX {
        return vec![RuleError { rule: RULES_MAX, fault: RuleFault::TooMany }];
    }
    let mut seen = BTreeMap::new();
    for (place, rule) in rules.iter().enumerate() {
        let own = rule.faults(resources).into_iter();
        errors.extend(own.map(|fault| RuleError { rule: place, fault }));
        if seen.insert(rule.id.as_str(), place).is_some() {
            errors.push(RuleError { rule: place, fault: RuleFault::DuplicateId });
        }
    }
    errors
}

fn any(patterns: Option<&[Pattern]>, value: &[u8]) -> bool {
    patterns.is_none_or(|list| list.iter().any(|pattern| pattern.matches(value)))
}

fn and(into: &mut [u64], other: &[u64]) {
    into.iter_mut().zip(other).for_each(|(word, other)| *word &= other);
}

/// The set bits of a word, lowest first.
fn bits(mut word: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros();
        (word != 0).then(|| {
            word &= word - 1;
            bit
        })
    })
}

/// `RULES_MAX` is far below the range of the id.
fn rule_id(place: usize) -> RuleId {
    RuleId(u32::try_from(place).unwrap_or(u32::MAX))
}
