//! A strict reader of JSON (RFC 8259) for documents that decide who somebody is.
//!
//! Two readers that see different documents are how a token gets past one of them, so there is one
//! reading only: UTF-8, no name twice in any object, no lone surrogate, no raw control character,
//! a bound on depth, nothing after the value. The result is a flat list of nodes over the text;
//! strings are ranges of it and are copied only where they hold escapes.

mod parser;

use parser::Parser;
use std::borrow::Cow;

/// Why a text is not a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonFault {
    /// Not UTF-8.
    Utf8,
    /// Not the grammar of RFC 8259, or something after the value.
    Syntax,
    /// Deeper than allowed.
    Depth,
    /// One name twice in one object.
    Duplicate,
    /// The document is not an object.
    NotObject,
}

/// What to do about a name that an object has twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duplicates {
    /// The document is refused.
    Refuse,
    /// The reader goes on; [`Value::has_duplicates`] tells.
    Keep,
}

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    /// Its range is what stands between the quotes.
    Text {
        escaped: bool,
    },
    Number,
    True,
    False,
    Null,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    start: u32,
    end: u32,
    /// Index of the first node that is not below this one.
    next: u32,
}

/// A document that was read in full.
#[derive(Debug)]
pub(super) struct Doc<'t> {
    text: &'t str,
    nodes: Vec<Node>,
}

/// One value of a [`Doc`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'d> {
    doc: &'d Doc<'d>,
    index: u32,
}

impl<'t> Doc<'t> {
    /// Reads an object. Cost: one pass, and a sort of the names of objects with many.
    ///
    /// # Errors
    /// The first [`JsonFault`] found.
    pub(super) fn parse(
        bytes: &'t [u8],
        depth_max: u32,
        duplicates: Duplicates,
    ) -> Result<Self, JsonFault> {
        let text = std::str::from_utf8(bytes).map_err(|_| JsonFault::Utf8)?;
        if u32::try_from(text.len()).is_err() {
            return Err(JsonFault::Syntax);
        }
        let doc = Doc { text, nodes: Vec::with_capacity(64) };
        let mut parser = Parser { doc, at: 0, depth_max, duplicates };
        parser.blank();
        if parser.peek() != Some(b'{') {
            // Told apart from bad syntax only so that an operator sees an array or a string.
            parser.value(0)?;
            return Err(JsonFault::NotObject);
        }
        parser.value(0)?;
        parser.blank();
        if parser.at != text.len() {
            return Err(JsonFault::Syntax);
        }
        Ok(parser.doc)
    }

    pub(super) fn root(&self) -> Value<'_> {
        Value { doc: self, index: 0 }
    }

    fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    fn slice(&self, node: &Node) -> &str {
        self.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    /// [`Self::slice`] where no `str` is needed; it checks no character boundary.
    fn bytes(&self, node: &Node) -> &[u8] {
        self.text.as_bytes().get(node.start as usize..node.end as usize).unwrap_or_default()
    }

    fn decoded(&self, node: &Node) -> Cow<'_, str> {
        match node.kind {
            Kind::Text { escaped: true } => Cow::Owned(unescape(self.slice(node))),
            _ => Cow::Borrowed(self.slice(node)),
        }
    }

    fn same_name(&self, a: &Node, b: &Node) -> bool {
        match (a.kind, b.kind) {
            (Kind::Text { escaped: false }, Kind::Text { escaped: false }) => {
                self.bytes(a) == self.bytes(b)
            }
            _ => self.decoded(a) == self.decoded(b),
        }
    }

    fn names(&self, object: u32) -> impl Iterator<Item = &Node> + Clone {
        Children { doc: self, at: object + 1, end: self.node(object).map_or(0, |n| n.next) }
            .step_by(2)
            .filter_map(|index| self.node(index))
    }

    fn has_duplicates(&self, object: u32) -> bool {
        /// Up to here comparing all pairs is cheaper than a list.
        const PAIRS_MAX: usize = 24;
        if self.names(object).nth(PAIRS_MAX).is_none() {
            return self.names(object).enumerate().any(|(place, name)| {
                self.names(object).take(place).any(|n| self.same_name(n, name))
            });
        }
        let mut names: Vec<Cow<'_, str>> = self.names(object).map(|n| self.decoded(n)).collect();
        names.sort_unstable();
        names.iter().zip(names.iter().skip(1)).any(|(a, b)| a == b)
    }
}

#[derive(Clone)]
struct Children<'d> {
    doc: &'d Doc<'d>,
    at: u32,
    end: u32,
}

impl Iterator for Children<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if self.at >= self.end {
            return None;
        }
        let index = self.at;
        self.at = self.doc.node(index)?.next;
        Some(index)
    }
}

impl<'d> Value<'d> {
    pub(super) fn kind(self) -> Kind {
        self.doc.node(self.index).map_or(Kind::Null, |node| node.kind)
    }

    pub(super) fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    fn children(self) -> Children<'d> {
        let end = self.doc.node(self.index).map_or(0, |node| node.next);
        Children { doc: self.doc, at: self.index + 1, end }
    }

    /// The members of an object; nothing for another kind.
    pub(super) fn members(self) -> impl Iterator<Item = (Cow<'d, str>, Self)> {
        let object = self.is_object();
        let mut children = self.children();
        std::iter::from_fn(move || {
            let name = children.next().filter(|_| object)?;
            let index = children.next()?;
            Some((self.doc.decoded(self.doc.node(name)?), Self { doc: self.doc, index }))
        })
    }

    /// The member of an object by its decoded name.
    pub(super) fn member(self, name: &str) -> Option<Self> {
        if !self.is_object() {
            return None;
        }
        let mut children = self.children();
        while let (Some(found), Some(index)) = (children.next(), children.next()) {
            let node = self.doc.node(found)?;
            let same = match node.kind {
                Kind::Text { escaped: true } => self.doc.decoded(node) == name,
                _ => self.doc.bytes(node) == name.as_bytes(),
            };
            if same {
                return Some(Self { doc: self.doc, index });
            }
        }
        None
    }

    /// The items of an array; nothing for another kind.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let array = self.kind() == Kind::Array;
        self.children().filter(move |_| array).map(move |index| Self { doc: self.doc, index })
    }

    /// The text of a string, escapes decoded.
    pub(super) fn text(self) -> Option<Cow<'d, str>> {
        match self.doc.node(self.index) {
            Some(node) if matches!(node.kind, Kind::Text { .. }) => Some(self.doc.decoded(node)),
            _ => None,
        }
    }

    /// An integer from 0 to 2^53, without sign, fraction or exponent.
    pub(super) fn integer(self) -> Option<u64> {
        let node = self.doc.node(self.index).filter(|node| node.kind == Kind::Number)?;
        let digits = self.doc.slice(node);
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok().filter(|value| *value <= 1 << 53)
    }

    /// Whether the object has one name twice; only under [`Duplicates::Keep`] can it be true.
    pub(super) fn has_duplicates(self) -> bool {
        self.is_object() && self.doc.has_duplicates(self.index)
    }
}

/// Decodes what the parser has checked; anything else stands for itself.
fn unescape(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let mut chars = after.chars();
        let (plain, used) = match chars.next() {
            Some('b') => ('\u{8}', 1),
            Some('f') => ('\u{c}', 1),
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some('u') => unescape_unit(after),
            Some(c) => (c, c.len_utf8()),
            None => ('\\', 0),
        };
        text.push(plain);
        rest = after.get(used..).unwrap_or_default();
    }
    text.push_str(rest);
    text
}

/// Decodes `uXXXX` or `uXXXX\uXXXX` at the start of `after`; also returns its length.
fn unescape_unit(after: &str) -> (char, usize) {
    let unit = |from: usize| after.as_bytes().get(from..from + 4).and_then(hex);
    let high = unit(1).unwrap_or(0xfffd);
    if let (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) = (high, unit(7)) {
        let point = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(point).unwrap_or('\u{fffd}'), 11);
    }
    (char::from_u32(high).unwrap_or('\u{fffd}'), 5)
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| {
        char::from(*digit).to_digit(16).map(|digit| value << 4 | digit)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn fault(text: &[u8]) -> Option<JsonFault> {
        Doc::parse(text, 4, Duplicates::Refuse).err()
    }

    #[test]
    fn what_is_not_strict_json_is_refused() {
        let bad: &[(&[u8], JsonFault)] = &[
            (b"", JsonFault::Syntax),
            (b"{", JsonFault::Syntax),
            (b"{}x", JsonFault::Syntax),
            (b"{}{}", JsonFault::Syntax),
            (b"[]", JsonFault::NotObject),
            (b"\"a\"", JsonFault::NotObject),
            (b"\xef\xbb\xbf{}", JsonFault::Syntax),
            (b"{\"a\":1,}", JsonFault::Syntax),
            (b"{\"a\":[1,]}", JsonFault::Syntax),
            (b"{\"a\" 1}", JsonFault::Syntax),
            (b"{a:1}", JsonFault::Syntax),
            (b"{'a':1}", JsonFault::Syntax),
            (b"{\"a\":01}", JsonFault::Syntax),
            (b"{\"a\":+1}", JsonFault::Syntax),
            (b"{\"a\":1.}", JsonFault::Syntax),
            (b"{\"a\":.1}", JsonFault::Syntax),
            (b"{\"a\":1e}", JsonFault::Syntax),
            (b"{\"a\":NaN}", JsonFault::Syntax),
            (b"{\"a\":tru}", JsonFault::Syntax),
            (b"{\"a\":\"\x01\"}", JsonFault::Syntax),
            (b"{\"a\":\"\n\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\x\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\u12\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\u12g4\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\ud800\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\ud800\\u0041\"}", JsonFault::Syntax),
            (b"{\"a\":\"\\udc00\"}", JsonFault::Syntax),
            (b"{\"a\":\"\xff\"}", JsonFault::Utf8),
            (b"{\"a\":1 /* c */}", JsonFault::Syntax),
            (b"{\"a\":[[[[1]]]]}", JsonFault::Depth),
            (b"{\"a\":1,\"a\":1}", JsonFault::Duplicate),
            (b"{\"a\":1,\"\\u0061\":1}", JsonFault::Duplicate),
            (b"{\"b\":[{\"a\":1,\"c\":{},\"a\":2}]}", JsonFault::Duplicate),
        ];
        for (text, expected) in bad {
            assert_eq!(fault(text), Some(*expected), "{}", String::from_utf8_lossy(text));
        }
        assert_eq!(fault(b" {\"a\":[[[1]]], \"b\" : -0.5e+3 }\r\n"), None);
    }

    #[test]
    fn values_read_back() {
        let text = br#"{"s":"a\"\u00e9\ud83d\ude00\/","n":17,"big":9007199254740993,
            "f":1.0,"m":-1,"o":{"x":[1,"two",{"y":null}],"z":true},"e":{},"ea":[]}"#;
        let doc = Doc::parse(text, 8, Duplicates::Refuse).unwrap();
        let root = doc.root();
        assert_eq!(root.member("s").unwrap().text().unwrap(), "a\"\u{e9}\u{1f600}/");
        assert_eq!(root.member("n").unwrap().integer(), Some(17));
        for name in ["big", "f", "m", "s"] {
            assert_eq!(root.member(name).unwrap().integer(), None, "{name}");
        }
        let list = root.member("o").unwrap().member("x").unwrap();
        assert_eq!(list.items().count(), 3);
        assert_eq!(list.members().count(), 0);
        assert_eq!(root.items().count(), 0);
        assert_eq!(root.member("o").unwrap().member("z").unwrap().kind(), Kind::True);
        assert_eq!(root.members().count(), 8);
        assert_eq!(root.member("e").unwrap().members().count(), 0);
        assert!(root.member("nope").is_none());
    }

    #[test]
    fn a_duplicate_among_many_names_is_found() {
        let mut text = String::from("{");
        for place in 0..100 {
            text.push_str(&format!("\"n{place}\":{place},"));
        }
        let unique = format!("{text}\"last\":0}}");
        let twice = format!("{text}\"n\\u0037\":0}}");
        assert_eq!(fault(unique.as_bytes()), None);
        assert_eq!(fault(twice.as_bytes()), Some(JsonFault::Duplicate));
        let doc = Doc::parse(twice.as_bytes(), 4, Duplicates::Keep).unwrap();
        assert!(doc.root().has_duplicates());
    }

    #[test]
    fn every_prefix_of_a_document_is_refused() {
        let text = br#"{"a":[1,{"b":"\u00e9"}],"c":-1.5e3,"d":null}"#;
        for len in 0..text.len() {
            assert!(fault(text.get(..len).unwrap()).is_some(), "{len}");
        }
        assert_eq!(fault(text), None);
    }

    /// Whether two readings are of one document; numbers by value, names in any order.
    fn same(ours: Value<'_>, theirs: &serde_json::Value) -> bool {
        match theirs {
            serde_json::Value::Object(map) => {
                ours.is_object()
                    && ours.members().count() == map.len()
                    && ours.members().all(|(name, value)| {
                        map.get(name.as_ref()).is_some_and(|theirs| same(value, theirs))
                    })
            }
            serde_json::Value::Array(list) => {
                ours.kind() == Kind::Array
                    && ours.items().count() == list.len()
                    && ours.items().zip(list).all(|(ours, theirs)| same(ours, theirs))
            }
            serde_json::Value::String(text) => ours.text().as_deref() == Some(text),
            serde_json::Value::Number(number) => {
                ours.kind() == Kind::Number
                    && number
                        .as_u64()
                        .filter(|value| *value <= 1 << 53)
                        .is_none_or(|value| ours.integer() == Some(value))
            }
            serde_json::Value::Bool(true) => ours.kind() == Kind::True,
            serde_json::Value::Bool(false) => ours.kind() == Kind::False,
            serde_json::Value::Null => ours.kind() == Kind::Null,
        }
    }

    #[test]
    fn what_is_accepted_is_what_another_reader_sees() {
        const ALPHABET: &[u8] = b"{}[]\",:\\u0dD8ceE+-.1 \n\tatrufalsn\xc3\xa9\x00/";
        let sound: &[u8] =
            br#"{"a":[1,-2.5e3,{"b":"\u00e9\ud83d\ude00\n"},[]],"c":null,"d":{"e":true,
            "f":false,"g":""},"h":10000000000,"i":"plain"}"#;
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % bound as u64) as usize
        };
        let mut accepted = 0;
        for round in 0..60_000 {
            let mut text = sound.to_vec();
            for _ in 0..=below(3) {
                let (place, byte) =
                    (below(text.len()), *ALPHABET.get(below(ALPHABET.len())).unwrap());
                match below(3) {
                    0 => *text.get_mut(place).unwrap() = byte,
                    1 => text.insert(place, byte),
                    _ => drop(text.remove(place)),
                }
            }
            let shown = || format!("round {round}: {}", String::from_utf8_lossy(&text));
            let theirs = serde_json::from_slice::<serde_json::Value>(&text);
            match (Doc::parse(&text, 8, Duplicates::Refuse), theirs) {
                (Ok(ours), Ok(theirs)) => {
                    accepted += 1;
                    assert!(same(ours.root(), &theirs), "{}", shown());
                }
                // A number too large for a float is in the grammar, and no integer of ours.
                (Ok(_), Err(error)) => assert!(error.to_string().contains("range"), "{}", shown()),
                (Err(JsonFault::Duplicate | JsonFault::NotObject), Ok(_)) | (Err(_), Err(_)) => {}
                (Err(fault), Ok(_)) => panic!("{fault:?} {}", shown()),
            }
        }
        assert!(accepted > 5_000, "the mutations leave enough sound: {accepted}");
    }
}
