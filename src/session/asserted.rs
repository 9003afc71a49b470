//! What a caller says of the work that it does: node, run and thread of a graph, and of a statement
//! why it is to be.
//!
//! Nobody verifies it, so rules may only narrow by it; see [`crate::policy::Asserted`]. The reason
//! is for people, and no rule is about it.

use crate::mask::{Plan, clear_value};
use crate::policy;
use crate::policy::Attr;
use crate::policy::approval::REASON_MAX;
use crate::record::fields::{Tag, Writer};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Node,
    Run,
    Thread,
    Reason,
}

impl Said {
    /// By its key, in any case of letters.
    pub(super) fn of(key: &[u8]) -> Option<Self> {
        let all = [
            (&b"node"[..], Self::Node),
            (b"run", Self::Run),
            (b"thread", Self::Thread),
            (b"reason", Self::Reason),
        ];
        all.into_iter().find(|(name, _)| key.eq_ignore_ascii_case(name)).map(|(_, said)| said)
    }
}

/// The values. A session keeps one and its room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asserted {
    node: Value,
    run: Value,
    thread: Value,
    reason: Value,
}

/// An empty text is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Value {
    text: Vec<u8>,
    /// There is one that is too long, or not fit to be shown; the text is empty then.
    unreadable: bool,
}

impl Value {
    fn attr(&self) -> Attr<'_> {
        match (self.unreadable, self.text.as_slice()) {
            (true, _) => Attr::Unreadable,
            (false, []) => Attr::Absent,
            (false, text) => Attr::Value(text),
        }
    }
}

/// Longest value in bytes.
const VALUE_MAX: usize = 128;

impl Asserted {
    /// Nothing is said.
    pub(super) fn clear(&mut self) {
        for value in [&mut self.node, &mut self.run, &mut self.thread, &mut self.reason] {
            value.text.clear();
            value.unreadable = false;
        }
    }

    /// The caller says it; what it said before is forgotten. An empty text says nothing.
    pub(super) fn set(&mut self, said: Said, text: &[u8]) {
        let (value, max) = match said {
            Said::Node => (&mut self.node, VALUE_MAX),
            Said::Run => (&mut self.run, VALUE_MAX),
            Said::Thread => (&mut self.thread, VALUE_MAX),
            Said::Reason => (&mut self.reason, REASON_MAX),
        };
        value.text.clear();
        value.unreadable = text.len() > max || text.iter().any(u8::is_ascii_control);
        if !value.unreadable {
            value.text.extend_from_slice(text);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attrs().into_iter().all(|(_, attr)| attr == Attr::Absent)
    }

    /// These values, and those of `base` where nothing is said here.
    pub(super) fn over(&self, base: &Self) -> Self {
        let pick = |own: &Value, other: &Value| match own.attr() {
            Attr::Absent => other.clone(),
            _ => own.clone(),
        };
        Self {
            node: pick(&self.node, &base.node),
            run: pick(&self.run, &base.run),
            thread: pick(&self.thread, &base.thread),
            reason: pick(&self.reason, &base.reason),
        }
    }

    /// As rules see it.
    pub(super) fn lend(&self) -> policy::Asserted<'_> {
        policy::Asserted {
            node: self.node.attr(),
            run: self.run.attr(),
            thread: self.thread.attr(),
        }
    }

    /// Why it is to be, where that is a text that people can read.
    pub(super) fn reason(&self) -> Option<&[u8]> {
        let Attr::Value(text) = self.reason.attr() else { return None };
        std::str::from_utf8(text).ok().map(|text| text.trim().as_bytes()).filter(|s| !s.is_empty())
    }

    fn attrs(&self) -> [(Tag, Attr<'_>); 4] {
        [
            (Tag::Node, self.node.attr()),
            (Tag::Run, self.run.attr()),
            (Tag::Thread, self.thread.attr()),
            (Tag::Reason, self.reason.attr()),
        ]
    }

    /// Writes what is said as the record may hold it, by way of `room`. Returns whether a mask
    /// changed or blocked anything.
    pub(super) fn write(&self, plan: &Plan, room: &mut Vec<u8>, writer: &mut Writer<'_>) -> bool {
        let mut changed = false;
        for (tag, attr) in self.attrs() {
            let Attr::Value(text) = attr else { continue };
            room.clear();
            let blocked = clear_value(plan, text, room).is_err();
            writer.bytes(tag, if blocked { b"[BLOCKED]" } else { room });
            changed |= blocked || room != text;
        }
        room.clear();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_of_bounded_length_or_unreadable() {
        let mut asserted = Asserted::default();
        assert!(asserted.is_empty());
        asserted.set(Said::Node, b"plan");
        asserted.set(Said::Run, &[b'x'; VALUE_MAX + 1]);
        asserted.set(Said::Thread, b"a\nb");
        let lent = asserted.lend();
        assert_eq!(lent.node, Attr::Value(b"plan"));
        assert_eq!((lent.run, lent.thread), (Attr::Unreadable, Attr::Unreadable));
        asserted.set(Said::Run, &[b'x'; VALUE_MAX]);
        asserted.set(Said::Thread, b"");
        assert_eq!(asserted.lend().run, Attr::Value(&[b'x'; VALUE_MAX]));
        assert_eq!(asserted.lend().thread, Attr::Absent);
        let mut base = Asserted::default();
        base.set(Said::Node, b"other");
        base.set(Said::Thread, b"t1");
        let both = asserted.over(&base);
        assert_eq!(both.lend().node, Attr::Value(b"plan"));
        assert_eq!(both.lend().thread, Attr::Value(b"t1"));
        asserted.clear();
        assert_eq!(asserted, Asserted::default());
    }
}
