//! One dimension of the table: from a value to the row of rules that it satisfies.
//!
//! The literal parts of all patterns (whole literals, and what stands before the first `*` or
//! `?`) are the keys of a compressed trie. A node has two rows: for values that end there, and
//! for values that go on. A row has the rules that do not name the dimension, those whose literal
//! or `prefix*` matches, and, as a maybe, those with a pattern whose literal prefix fits; the
//! `residual` bits say which rules need a look at their patterns when they survive the AND.
//! So a lookup is one walk over the value, and yields one row without a union.
//!
//! Rules with an inner `*` are told apart by a literal run behind it ([`Fragments`]): a second
//! walk over the value finds which runs stand in it, and only rules of those are looked at.

use super::fragment::{Found, Fragments};
use super::pattern::Pattern;
use std::collections::BTreeMap;

/// The index of one dimension.
#[derive(Clone, Debug)]
pub(super) struct Index {
    words: usize,
    /// Rows of `words` words each; row 0 has the rules that do not name the dimension.
    rows: Vec<u64>,
    nodes: Vec<Node>,
    edges: Vec<(u8, u32)>,
    labels: Vec<u8>,
    /// Rules that name the dimension.
    named: Vec<u64>,
    /// Rules of which a row is only a maybe.
    residual: Vec<u64>,
    /// Row 0 with the strict rules that name the dimension.
    unreadable: Vec<u64>,
    /// What a value must hold for a maybe to be more.
    fragments: Fragments,
}

#[derive(Clone, Debug)]
struct Node {
    /// Bytes that lead into the node, in `labels`.
    label: (u32, u32),
    /// Its children, in `edges`, ordered by byte.
    edges: (u32, u32),
    /// Row of a value that ends here.
    ends: u32,
    /// Row of a value that goes on from here and meets no child.
    goes_on: u32,
}

/// What ends at one key.
#[derive(Clone, Debug, Default)]
struct Marks {
    exact: Vec<usize>,
    prefix: Vec<usize>,
}

type Keys<'a> = [(&'a [u8], Marks)];

impl Index {
    /// Builds the index; `list` has one entry for each bit, `None` where a rule (or no rule) does
    /// not name the dimension. Bits below `strict_words * 64` are strict rules.
    pub(super) fn build(words: usize, strict_words: usize, list: &[Option<&[Pattern]>]) -> Self {
        let mut wild = vec![0; words];
        let mut named = vec![0; words];
        let mut residual = vec![0; words];
        let mut keys: BTreeMap<&[u8], Marks> = BTreeMap::new();
        for (bit, patterns) in list.iter().enumerate() {
            let Some(patterns) = patterns else {
                set(&mut wild, bit);
                continue;
            };
            set(&mut named, bit);
            for pattern in *patterns {
                let marks = keys.entry(pattern.prefix()).or_default();
                if pattern.is_exact() {
                    marks.exact.push(bit);
                } else {
                    marks.prefix.push(bit);
                }
                if pattern.is_glob() {
                    set(&mut residual, bit);
                }
            }
        }
        let denied =
            named.iter().enumerate().map(|(w, bits)| if w < strict_words { *bits } else { 0 });
        let unreadable = wild.iter().zip(denied).map(|(wild, denied)| wild | denied).collect();
        let mut index = Self {
            words,
            rows: wild,
            nodes: Vec::new(),
            edges: Vec::new(),
            labels: Vec::new(),
            named,
            residual,
            unreadable,
            fragments: Fragments::build(words, list),
        };
        let keys: Vec<(&[u8], Marks)> = keys.into_iter().collect();
        index.node(&keys, 0, 0, 0);
        index
    }

    /// Adds the node whose label starts at `start` of all `keys`, at least up to `end`.
    fn node(&mut self, keys: &Keys<'_>, start: usize, end: usize, above: u32) -> u32 {
        let place = self.nodes.len();
        let first = keys.first().map_or(&[][..], |(key, _)| *key);
        let last = keys.last().map_or(&[][..], |(key, _)| *key);
        // The root has no label, so that every value enters it. The keys are sorted: what the
        // first and the last share, all share.
        let shared = first.iter().zip(last).take_while(|(one, other)| one == other).count();
        let end = if start == end && place == 0 { 0 } else { shared.max(end) };
        let label_at = self.labels.len();
        self.labels.extend_from_slice(first.get(start..end).unwrap_or_default());
        let label = (narrow(label_at), narrow(self.labels.len()));
        let (ending, rest) = match keys.split_first() {
            Some(((key, marks), rest)) if key.len() == end => (Some(marks), rest),
            _ => (None, keys),
        };
        let goes_on = self.row(above, ending.map_or(&[][..], |marks| &marks.prefix));
        let ends = self.row(goes_on, ending.map_or(&[][..], |marks| &marks.exact));
        self.nodes.push(Node { label, edges: (0, 0), ends, goes_on });
        let mut edges = Vec::new();
        for group in rest.chunk_by(|(one, _), (other, _)| one.get(end) == other.get(end)) {
            if let Some(byte) = group.first().and_then(|(key, _)| key.get(end)) {
                edges.push((*byte, self.node(group, end, end + 1, goes_on)));
            }
        }
        let edges_at = self.edges.len();
        self.edges.append(&mut edges);
        let range = (narrow(edges_at), narrow(self.edges.len()));
        if let Some(node) = self.nodes.get_mut(place) {
            node.edges = range;
        }
        narrow(place)
    }

    /// A row that has `bits` beside those of row `base`; `base` itself when there are none.
    fn row(&mut self, base: u32, bits: &[usize]) -> u32 {
        if bits.is_empty() {
            return base;
        }
        let mut row = self.row_at(base).to_vec();
        bits.iter().for_each(|bit| set(&mut row, *bit));
        let place = self.rows.len() / self.words.max(1);
        self.rows.append(&mut row);
        narrow(place)
    }

    fn row_at(&self, row: u32) -> &[u64] {
        let start = row as usize * self.words;
        self.rows.get(start..start + self.words).unwrap_or_default()
    }

    /// The rules that do not name the dimension: the row of an absent value.
    pub(super) fn absent(&self) -> &[u64] {
        self.row_at(0)
    }

    /// The row of a value that is there and cannot be read.
    pub(super) fn unreadable(&self) -> &[u64] {
        &self.unreadable
    }

    /// The rules that name the dimension.
    pub(super) fn named(&self) -> &[u64] {
        &self.named
    }

    /// Whether the row of a value is only a maybe for the rules of some word.
    pub(super) fn residual(&self, word: usize) -> u64 {
        self.residual.get(word).copied().unwrap_or(0)
    }

    /// Which fragments stand in `value`; what a maybe is judged by.
    pub(super) fn fragments(&self, value: &[u8]) -> Found {
        self.fragments.find(value)
    }

    /// The maybes of a word that a value with these fragments may still match.
    pub(super) fn possible(&self, word: usize, found: &Found) -> u64 {
        self.fragments.possible(word, found)
    }

    /// The row of `value`. Cost: one walk over the value at most.
    pub(super) fn find(&self, value: &[u8]) -> &[u64] {
        let mut rest = value;
        let mut best = 0;
        let mut node = self.nodes.first();
        while let Some(here) = node {
            let label = self.labels.get(here.label.0 as usize..here.label.1 as usize);
            let Some(tail) = rest.strip_prefix(label.unwrap_or_default()) else { break };
            rest = tail;
            let Some(byte) = rest.first() else { return self.row_at(here.ends) };
            best = here.goes_on;
            let edges = self.edges.get(here.edges.0 as usize..here.edges.1 as usize);
            node = child(edges.unwrap_or_default(), *byte)
                .and_then(|child| self.nodes.get(child as usize));
        }
        self.row_at(best)
    }
}

fn child(edges: &[(u8, u32)], byte: u8) -> Option<u32> {
    if edges.len() <= 8 {
        return edges.iter().find(|(edge, _)| *edge == byte).map(|(_, node)| *node);
    }
    let place = edges.binary_search_by_key(&byte, |(edge, _)| *edge).ok()?;
    edges.get(place).map(|(_, node)| *node)
}

/// Sets one bit of a row.
pub(super) fn set(row: &mut [u64], bit: usize) {
    if let Some(word) = row.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Sizes are bounded by rules times patterns; beyond 4 Gi the last one is repeated and the
/// index would only lose matches, which the bound on rules and lengths rules out.
fn narrow(place: usize) -> u32 {
    debug_assert!(u32::try_from(place).is_ok());
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(row: &[u64], bit: usize) -> bool {
        row.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    #[test]
    fn a_value_finds_the_rules_whose_literals_and_prefixes_fit() {
        let texts: [&[&str]; 8] = [
            &["/v1/chat"],
            &["/v1/*"],
            &["/v1/chat*"],
            &["*"],
            &["/v2", "/v1/files/*"],
            &["*/raw"],
            &["/v?/chat"],
            &[""],
        ];
        let patterns: Vec<Vec<Pattern>> =
            texts.iter().map(|list| list.iter().map(Pattern::new).collect()).collect();
        let mut list: Vec<Option<&[Pattern]>> =
            patterns.iter().map(|list| Some(list.as_slice())).collect();
        list.push(None);
        let index = Index::build(1, 0, &list);
        for value in [
            "/v1/chat",
            "/v1/chats",
            "/v1/",
            "/v1",
            "",
            "/",
            "/v2",
            "/v1/files/raw",
            "zz",
            "/v3/chat",
        ] {
            let row = index.find(value.as_bytes());
            for (bit, list) in patterns.iter().enumerate() {
                let expected = list.iter().any(|pattern| pattern.matches(value.as_bytes()));
                let found = has(row, bit);
                if has(&[index.residual(0)], bit) {
                    assert!(found || !expected, "{value}: a maybe lost {bit}");
                } else {
                    assert_eq!(found, expected, "{value} {bit}");
                }
            }
            assert!(has(row, 8), "a rule that does not name it always stays");
        }
        assert_eq!(index.absent(), [1 << 8]);
    }
}
