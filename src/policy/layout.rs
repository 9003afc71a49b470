//! From a list of rules to the bits and rows of a table, and to its digest.

use super::approval::Terms;
use super::index::{Index, set};
use super::pattern::Pattern;
use super::rule::{Effect, RuleSpec};
use crate::base::IssuerId;
use ring::digest::{Context, SHA256};
use std::collections::BTreeMap;

/// How rules stand in the words: strict rules from bit 0, allow rules from the next whole word.
pub(super) struct Layout<'r> {
    pub(super) rules: &'r [RuleSpec],
    pub(super) strict: usize,
    pub(super) strict_words: usize,
    pub(super) words: usize,
}

impl<'r> Layout<'r> {
    fn bit(&self, place: usize) -> usize {
        if place < self.strict { place } else { self.strict_words * 64 + place - self.strict }
    }

    /// The index of one dimension. Bits without a rule count as not naming it; they are set in
    /// no resource row.
    pub(super) fn index(&self, of: impl Fn(&'r RuleSpec) -> Option<&'r [Pattern]>) -> Index {
        let mut list = vec![None; self.words * 64];
        for (place, rule) in self.rules.iter().enumerate() {
            if let Some(slot) = list.get_mut(self.bit(place)) {
                *slot = of(rule);
            }
        }
        Index::build(self.words, self.strict_words, &list)
    }

    /// For each resource the words that hold rules about it, with the bits of those rules.
    pub(super) fn resources(&self, count: usize) -> Vec<Vec<(usize, u64)>> {
        let mut rows: Vec<Vec<(usize, u64)>> = vec![Vec::new(); count];
        let put = |row: &mut Vec<(usize, u64)>, bit: usize| match row.last_mut() {
            // Bits come in rising order.
            Some((word, bits)) if *word == bit / 64 => *bits |= 1 << (bit % 64),
            _ => row.push((bit / 64, 1 << (bit % 64))),
        };
        for (place, rule) in self.rules.iter().enumerate() {
            let bit = self.bit(place);
            match &rule.what.resource {
                None => rows.iter_mut().for_each(|row| put(row, bit)),
                Some(list) => {
                    for id in list {
                        if let Some(row) = rows.get_mut(id.index()) {
                            put(row, bit);
                        }
                    }
                }
            }
        }
        rows
    }

    /// The rules that name no issuer.
    pub(super) fn unnamed_issuer(&self) -> Vec<u64> {
        self.naming(|rule| rule.who.iss.is_none())
    }

    /// The rules that `named` holds for.
    pub(super) fn naming(&self, named: impl Fn(&RuleSpec) -> bool) -> Vec<u64> {
        let mut row = vec![0; self.words];
        for (place, rule) in self.rules.iter().enumerate() {
            if named(rule) {
                set(&mut row, self.bit(place));
            }
        }
        row
    }

    /// The numbers of the parameters that some rule names, each once, in rising order.
    pub(super) fn parameters(&self) -> Vec<u16> {
        let named = self.rules.iter().flat_map(|rule| &rule.what.parameters);
        let mut numbers: Vec<u16> = named.map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// One row for each issuer that some rule names.
    pub(super) fn issuers(&self) -> BTreeMap<IssuerId, Vec<u64>> {
        let mut rows = BTreeMap::new();
        for (place, rule) in self.rules.iter().enumerate() {
            for id in rule.who.iss.iter().flatten() {
                let row = rows.entry(*id).or_insert_with(|| self.unnamed_issuer());
                set(row, self.bit(place));
            }
        }
        rows
    }
}

/// An effect in the digest: those that were there first keep their numbers.
fn code(effect: Effect) -> u8 {
    match effect {
        Effect::Deny => 0,
        Effect::Allow => 1,
        Effect::RequireApproval => 2,
    }
}

/// Tag of what `then.approval` says.
const APPROVAL: u8 = 0x81;

fn feed_approval(terms: &Terms, mut feed: impl FnMut(&[u8])) {
    terms.approvers.iter().for_each(|group| feed(group.as_bytes()));
    let Terms { count, uses, wait_ns, ttl_ns, .. } = *terms;
    [u64::from(count), u64::from(uses), wait_ns, ttl_ns]
        .iter()
        .for_each(|number| feed(&number.to_le_bytes()));
    feed(terms.scope.label().as_bytes());
    let Terms { distinct_groups, reason, break_glass, estimate, .. } = *terms;
    feed(&[distinct_groups, reason, break_glass, estimate].map(u8::from));
    terms.reveal.iter().for_each(|group| feed(group.as_bytes()));
}

/// Tag of `where = "missing"`, far behind those of the lists of patterns.
const MISSING_WHERE: u8 = 0x80;
/// The same of `multi_statement`.
const MULTI_STATEMENT: u8 = 0x81;
/// The same of a number in `parameters`, and of each pattern behind it.
const PARAMETER: u8 = 0x82;
const PARAMETER_PATTERN: u8 = 0x83;

/// Every field is tagged and has its length, so that no two policies feed the same bytes.
pub(super) fn digest(rules: &[RuleSpec]) -> [u8; 32] {
    fn feed(context: &mut Context, tag: u8, bytes: &[u8]) {
        context.update(&[tag]);
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(bytes);
    }
    let mut context = Context::new(&SHA256);
    for rule in rules {
        feed(&mut context, 0, rule.id.as_bytes());
        feed(
            &mut context,
            1,
            &[code(rule.effect), rule.then.record as u8, rule.then.durable as u8],
        );
        for mask in rule.then.masks.iter() {
            feed(&mut context, 2, &mask.0.to_le_bytes());
        }
        if let Some(credential) = rule.then.credential {
            feed(&mut context, 3, &credential.0.to_le_bytes());
        }
        for id in rule.who.iss.iter().flatten() {
            feed(&mut context, 4, &id.0.to_le_bytes());
        }
        for id in rule.what.resource.iter().flatten() {
            feed(&mut context, 5, &id.0.to_le_bytes());
        }
        for (tag, (_, list)) in (6..).zip(rule.patterns()) {
            list.into_iter().flatten().for_each(|pattern| feed(&mut context, tag, pattern.text()));
        }
        if let Some(terms) = &rule.then.approval {
            feed_approval(terms, |bytes| feed(&mut context, APPROVAL, bytes));
        }
        if rule.what.missing_where {
            feed(&mut context, MISSING_WHERE, &[]);
        }
        if rule.what.multi_statement {
            feed(&mut context, MULTI_STATEMENT, &[]);
        }
        for (number, list) in &rule.what.parameters {
            feed(&mut context, PARAMETER, &number.to_le_bytes());
            list.iter().for_each(|pattern| feed(&mut context, PARAMETER_PATTERN, pattern.text()));
        }
    }
    let mut digest = [0; 32];
    let made = context.finish();
    digest.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
    digest
}
