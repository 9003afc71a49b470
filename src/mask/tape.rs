//! One small JSON text as a flat list of its values, to look members up by name.

use crate::scan::json::{JsonError, Token, Tokenizer};
use std::ops::Range;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Scalar,
}

#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    /// Un-escaped name, in `names`; nothing for an element.
    name: Range<usize>,
    /// The value's bytes, quotes and brackets included.
    range: Range<usize>,
    /// Place of the first node that is not below this one.
    next: usize,
}

/// The values of one JSON text, in its order; reused from text to text.
#[derive(Debug, Default)]
pub(super) struct Tape {
    nodes: Vec<Node>,
    names: Vec<u8>,
    open: Vec<usize>,
}

impl Tape {
    /// Reads `data` whole.
    pub(super) fn read(&mut self, data: &[u8]) -> Result<(), JsonError> {
        self.nodes.clear();
        self.names.clear();
        self.open.clear();
        let mut tokens = Tokenizer::new(false);
        let mut at = 0;
        let mut name = 0..0;
        let mut in_key = false;
        while let Some(token) = tokens.next(data, &mut at)? {
            match token {
                Token::Gap(_) => {}
                Token::Open { at, array } => {
                    self.open.push(self.nodes.len());
                    self.add(if array { Kind::Array } else { Kind::Object }, &mut name, at..at + 1);
                }
                Token::Close(at) => {
                    let next = self.nodes.len();
                    if let Some(node) = self.open.pop().and_then(|i| self.nodes.get_mut(i)) {
                        node.range.end = at + 1;
                        node.next = next;
                    }
                }
                Token::Quote { at, key } => {
                    in_key = key;
                    if key {
                        name = self.names.len()..self.names.len();
                    } else {
                        self.add(Kind::Text, &mut name, at..at + 1);
                    }
                }
                Token::Text { range, closes } => {
                    if in_key {
                        self.names.extend_from_slice(data.get(range).unwrap_or_default());
                        name.end = self.names.len();
                    } else if closes && let Some(node) = self.nodes.last_mut() {
                        node.range.end = at;
                    }
                }
                Token::Escape(escape) => {
                    if in_key {
                        self.names.extend_from_slice(escape.decoded());
                        name.end = self.names.len();
                    }
                }
                Token::Scalar { range, .. } => self.add(Kind::Scalar, &mut name, range),
            }
        }
        tokens.finish()?;
        if self.nodes.is_empty() { Err(JsonError::Truncated) } else { Ok(()) }
    }

    fn add(&mut self, kind: Kind, name: &mut Range<usize>, range: Range<usize>) {
        let next = self.nodes.len() + 1;
        self.nodes.push(Node { kind, name: std::mem::take(name), range, next });
    }

    pub(super) fn kind(&self, at: usize) -> Option<Kind> {
        self.nodes.get(at).map(|node| node.kind)
    }

    pub(super) fn name(&self, at: usize) -> &[u8] {
        let name = self.nodes.get(at).map(|node| node.name.clone()).unwrap_or_default();
        self.names.get(name).unwrap_or_default()
    }

    /// Where the value stands in the text that was read.
    pub(super) fn range(&self, at: usize) -> Range<usize> {
        self.nodes.get(at).map(|node| node.range.clone()).unwrap_or_default()
    }

    /// The members or elements of `at`, in order, duplicates too.
    pub(super) fn children(&self, at: usize) -> impl Iterator<Item = usize> {
        let end = self.nodes.get(at).map_or(0, |node| node.next);
        let first = (at + 1 < end).then_some(at + 1);
        std::iter::successors(first, move |at| {
            let next = self.nodes.get(*at)?.next;
            (next < end).then_some(next)
        })
    }

    /// The children of all members of `at` that are `kind` and have this name.
    pub(super) fn below(
        &self,
        at: usize,
        name: &'static [u8],
        kind: Kind,
    ) -> impl Iterator<Item = usize> {
        self.members(at, name)
            .filter(move |member| self.kind(*member) == Some(kind))
            .flat_map(move |member| self.children(member))
    }

    /// All members of `at` with this name.
    pub(super) fn members(&self, at: usize, name: &'static [u8]) -> impl Iterator<Item = usize> {
        self.children(at).filter(move |member| self.name(*member) == name)
    }

    /// The last member of this name as a number; of duplicates most readers take the last.
    pub(super) fn number(&self, at: usize, name: &'static [u8], data: &[u8]) -> Option<u64> {
        let member = self.members(at, name).last()?;
        let text = std::str::from_utf8(data.get(self.range(member))?).ok()?;
        text.parse().ok()
    }

    /// The last member of this name as text, its escapes left as they are.
    pub(super) fn text<'d>(&self, at: usize, name: &'static [u8], data: &'d [u8]) -> &'d [u8] {
        let found = self.members(at, name).filter(|m| self.kind(*m) == Some(Kind::Text)).last();
        found.map_or(b"", |member| inside(data, self.range(member)))
    }
}

/// What stands between the quotes of a string.
pub(super) fn inside(data: &[u8], range: Range<usize>) -> &[u8] {
    data.get(range.start + 1..range.end.saturating_sub(1)).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_name_and_keep_their_order() {
        let data = br#" {"a":[{"x":1},"s\n"],"\u0061":[2],"b":"t","n":17} "#;
        let mut tape = Tape::default();
        tape.read(data).unwrap();
        let items: Vec<_> =
            tape.below(0, b"a", Kind::Array).map(|i| &data[tape.range(i)]).collect();
        assert_eq!(items, [&br#"{"x":1}"#[..], br#""s\n""#, b"2"]);
        assert_eq!(tape.text(0, b"b", data), b"t");
        assert_eq!(tape.number(0, b"n", data), Some(17));
        assert_eq!(tape.children(0).count(), 4);
        assert!(tape.read(b"").is_err() && tape.read(b"{").is_err());
    }
}
