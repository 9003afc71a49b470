//! What happened to a request: the entries of the log, and the proof that they are there.

use super::ask::Ask;
use super::id_text;
use super::request::{By, Look, Request, Review, State, Vote};
use crate::base::ApprovalId;
use serde::{Deserialize, Serialize};

/// One change of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// When, wall nanoseconds.
    pub at_ns: u64,
    /// Of which request.
    #[serde(with = "id_text")]
    pub id: ApprovalId,
    /// What.
    pub act: Act,
}

/// What changes. An entry says what becomes of the request, so that a build with other rules for
/// votes reads the same states out of an old log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Act {
    /// It was asked.
    Asked {
        /// What.
        ask: Box<Ask>,
        /// Until when it may be decided.
        deadline_ns: u64,
        /// Of break-glass, which is granted by asking: until when.
        until_ns: Option<u64>,
    },
    /// A person voted.
    Voted {
        /// How.
        vote: Vote,
        /// Where the request stands after it: pending, approved or denied.
        state: State,
        /// Where that is approved: until when.
        until_ns: Option<u64>,
    },
    /// One use was counted down.
    Used {
        /// Which, from 1.
        number: u32,
    },
    /// Its time is over.
    Expired {},
    /// It was taken back while pending.
    Cancelled {
        /// By whom.
        by: By,
        /// Why.
        why: Option<Box<str>>,
    },
    /// The grant was taken back.
    Revoked {
        /// By whom.
        by: By,
        /// Why.
        why: Option<Box<str>>,
    },
    /// A person looked at what was done under break-glass.
    Reviewed {
        /// Who.
        review: Review,
    },
    /// A person looked at what the masks took out.
    Revealed {
        /// Who.
        look: Look,
    },
    /// It stands as it is here: the beginning of a log that was written anew.
    Kept {
        /// All of it.
        request: Box<Request>,
    },
}

impl Entry {
    /// The bytes of the log: JSON on one line.
    ///
    /// # Panics
    /// Never: there is no map with keys that are no texts, and no writer that fails.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("plain structs are written to memory")
    }

    /// Reads what [`Self::encode`] writes; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

impl Act {
    /// A fixed word for the record and the metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Asked { .. } => "asked",
            Self::Voted { .. } => "voted",
            Self::Used { .. } => "used",
            Self::Expired {} => "expired",
            Self::Cancelled { .. } => "cancelled",
            Self::Revoked { .. } => "revoked",
            Self::Reviewed { .. } => "reviewed",
            Self::Revealed { .. } => "revealed",
            Self::Kept { .. } => "kept",
        }
    }
}

/// That every entry up to a number is on the disk. Whoever owns the log says so, and nobody else.
#[derive(Clone, Copy, Debug)]
pub struct Synced(u64);

impl Synced {
    /// After the disk took the first `count` entries that the book gave out.
    #[must_use]
    pub fn up_to(count: u64) -> Self {
        Self(count)
    }
}

/// An answer that holds once the entries that it rests on are on the disk.
#[derive(Debug)]
#[must_use = "nobody hears the answer"]
pub struct Staged<T> {
    value: T,
    after: u64,
}

impl<T> Staged<T> {
    pub(super) fn new(value: T, after: u64) -> Self {
        Self { value, after }
    }

    /// The same with another answer made of it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Staged<U> {
        Staged { value: change(self.value), after: self.after }
    }

    /// The answer; `None` where the disk did not get that far.
    #[must_use]
    pub fn open(self, synced: Synced) -> Option<T> {
        (synced.0 >= self.after).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_entries_it_rests_on() {
        assert_eq!(Staged::new(7, 3).open(Synced::up_to(2)), None);
        assert_eq!(Staged::new(7, 3).open(Synced::up_to(3)), Some(7));
    }

    #[test]
    fn an_entry_is_read_as_it_was_written_and_nothing_else_is() {
        let id = ApprovalId(u128::MAX / 3);
        let by = By::Person { iss: "https://i".into(), sub: "\u{e9}\"\n".into() };
        for act in [
            Act::Used { number: 3 },
            Act::Expired {},
            Act::Cancelled { by: By::Caller, why: None },
            Act::Revoked { by, why: Some("x".into()) },
        ] {
            let entry = Entry { at_ns: u64::MAX, id, act };
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
        for wrong in [
            r#"{"at_ns":1,"id":"00","act":{"expired":{}}}"#,
            r#"{"at_ns":1,"id":"00000000000000000000000000000001","act":{"lost":{}}}"#,
            r#"{"at_ns":1,"id":"00000000000000000000000000000001","act":{"expired":{}},"x":1}"#,
            r#"{"at_ns":-1,"id":"00000000000000000000000000000001","act":{"expired":{}}}"#,
            "",
        ] {
            assert_eq!(Entry::decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
