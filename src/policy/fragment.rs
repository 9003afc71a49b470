//! Which patterns with an inner `*` a value may match: those of which a literal run stands in it.
//!
//! Every pattern that the trie cannot settle gives its longest literal run to one Aho-Corasick
//! automaton. One walk over the value yields the runs that stand in it, and each run has the row
//! of the rules that it speaks for. Estimate: 1 ns for each byte of the value and 1 ns for each
//! run that is found and word that is looked at. No allocation.

use super::index::set;
use super::pattern::Pattern;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, automaton::OverlappingState};
use std::collections::BTreeMap;

/// Runs of one value that are kept apart; with more, every rule is looked at.
const FOUND_MAX: usize = 12;

/// The automaton of one dimension.
#[derive(Clone, Debug)]
pub(super) struct Fragments {
    /// `None`: no pattern has a run, or the automaton would be too large.
    automaton: Option<AhoCorasick>,
    words: usize,
    /// Row 0 has the rules with a pattern without a run, row `n + 1` those of run `n`.
    rows: Vec<u64>,
}

/// The runs that stand in a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    runs: [u32; FOUND_MAX],
    count: usize,
    /// All runs count as found.
    all: bool,
}

impl Found {
    const NONE: Self = Self { runs: [0; FOUND_MAX], count: 0, all: false };
    const ALL: Self = Self { all: true, ..Self::NONE };

    fn add(&mut self, run: u32) {
        let known = self.runs.get(..self.count).unwrap_or_default();
        if known.contains(&run) {
            return;
        }
        match self.runs.get_mut(self.count) {
            Some(slot) => *slot = run,
            None => self.all = true,
        }
        self.count = (self.count + 1).min(FOUND_MAX);
    }
}

impl Fragments {
    /// Of the patterns that the literal prefix does not settle; `list` has one entry for each bit.
    pub(super) fn build(words: usize, list: &[Option<&[Pattern]>]) -> Self {
        let mut none = vec![0; words];
        let mut runs: BTreeMap<&[u8], Vec<u64>> = BTreeMap::new();
        for (bit, patterns) in list.iter().enumerate() {
            for pattern in patterns.unwrap_or_default() {
                match pattern.fragment() {
                    // What is exact or a prefix is settled, but its rule may have a glob as well.
                    _ if !pattern.is_glob() => set(&mut none, bit),
                    [] => set(&mut none, bit),
                    run => set(runs.entry(run).or_insert_with(|| vec![0; words]), bit),
                }
            }
        }
        let keys: Vec<&[u8]> = runs.keys().copied().collect();
        let automaton = if keys.is_empty() {
            None
        } else {
            // Limits of the automaton are far above what the bounds on rules let in.
            AhoCorasick::builder()
                .match_kind(MatchKind::Standard)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(&keys)
                .ok()
        };
        let mut rows = none;
        rows.extend(runs.into_values().flatten());
        Self { automaton, words, rows }
    }

    /// The runs that stand in `value`.
    pub(super) fn find(&self, value: &[u8]) -> Found {
        let mut found = Found::NONE;
        let Some(automaton) = &self.automaton else { return Found::ALL };
        let mut state = OverlappingState::start();
        while !found.all {
            if automaton.try_find_overlapping(value, &mut state).is_err() {
                return Found::ALL;
            }
            let Some(hit) = state.get_match() else { break };
            found.add(hit.pattern().as_u32());
        }
        found
    }

    /// The rules of a word that a value with these runs may match by a pattern of this kind, and
    /// all that have another.
    pub(super) fn possible(&self, word: usize, found: &Found) -> u64 {
        if found.all {
            return u64::MAX;
        }
        let row = |row: usize| self.rows.get(row * self.words + word).copied().unwrap_or(0);
        let runs = found.runs.get(..found.count).unwrap_or_default();
        runs.iter().fold(row(0), |all, run| all | row(*run as usize + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_whose_run_stands_in_the_value_are_possible() {
        let texts: [&[&str]; 6] = [
            &["*/v1/files/7/*"],
            &["*/v1/files/8/*"],
            &["/v1/*/edit", "*/drafts/?"],
            &["*?*"],
            &["/exact"],
            &["*/v1/files/7/*", "/exact"],
        ];
        let patterns: Vec<Vec<Pattern>> =
            texts.iter().map(|list| list.iter().map(Pattern::new).collect()).collect();
        let list: Vec<Option<&[Pattern]>> =
            patterns.iter().map(|list| Some(list.as_slice())).collect();
        let fragments = Fragments::build(1, &list);
        let possible = |value: &str| fragments.possible(0, &fragments.find(value.as_bytes()));
        let settled = 0b111_000 & !(1 << 5) | 1 << 5;
        assert_eq!(possible("/x/v1/files/7/y"), settled | 0b001);
        assert_eq!(possible("/x/v1/files/8/y"), settled | 0b010);
        assert_eq!(possible("/v1/a/edit"), settled | 0b100);
        assert_eq!(possible("/v1/drafts/7"), settled | 0b100);
        assert_eq!(possible(""), settled);
        let many: String = (0..40).map(|n| format!("*/{n}/*,")).collect();
        let many: Vec<Pattern> = many.split_terminator(',').map(Pattern::new).collect();
        let fragments = Fragments::build(1, &[Some(&many)]);
        let value: String = (0..40).map(|n| format!("/{n}/")).collect();
        assert!(fragments.find(value.as_bytes()).all);
    }
}
