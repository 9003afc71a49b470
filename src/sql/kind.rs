//! The kinds of work that a statement does, and sets of them.

/// What a statement, or a part of one, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads rows: SELECT, TABLE, VALUES.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows; also `ON CONFLICT DO UPDATE`.
    Update,
    /// Removes rows; also TRUNCATE.
    Delete,
    /// MERGE; the kinds of its actions stand beside it.
    Merge,
    /// Changes definitions, rights or roles; also CREATE TABLE AS and SELECT INTO.
    Ddl,
    /// COPY from the caller into a table.
    CopyIn,
    /// COPY of a table or a query to the caller.
    CopyOut,
    /// CALL of a procedure.
    Call,
    /// A DO block, whose text is opaque here.
    Do,
    /// SET and RESET of a setting.
    Set,
    /// BEGIN, COMMIT, savepoints, two-phase commit, SET TRANSACTION.
    Transaction,
    /// SHOW, EXPLAIN, cursors, LISTEN, LOCK, VACUUM, ...
    Utility,
    /// Not known to this build, or never to be let through by a pattern: see the module.
    Unknown,
}

impl Kind {
    /// Every kind, in the order of the bits.
    pub const ALL: [Self; 14] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Merge,
        Self::Ddl,
        Self::CopyIn,
        Self::CopyOut,
        Self::Call,
        Self::Do,
        Self::Set,
        Self::Transaction,
        Self::Utility,
        Self::Unknown,
    ];

    /// The word that rules and records use.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Ddl => "ddl",
            Self::CopyIn => "copy_in",
            Self::CopyOut => "copy_out",
            Self::Call => "call",
            Self::Do => "do",
            Self::Set => "set",
            Self::Transaction => "transaction",
            Self::Utility => "utility",
            Self::Unknown => "unknown",
        }
    }

    /// The kind that a rule's word names.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }

    fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Kinds(u16);

impl Kinds {
    /// The set of `kind` alone.
    #[must_use]
    pub fn one(kind: Kind) -> Self {
        Self(kind.bit())
    }

    /// Adds `kind`.
    pub fn insert(&mut self, kind: Kind) {
        self.0 |= kind.bit();
    }

    /// Whether `kind` is in it.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its kinds, in the order of [`Kind::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(Kind::label)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_label(kind.label()), Some(kind));
        }
        assert_eq!(Kind::from_label("SELECT"), None);
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_no_more() {
        let mut kinds = Kinds::default();
        assert!(kinds.is_empty());
        kinds.insert(Kind::Unknown);
        kinds.insert(Kind::Select);
        kinds.insert(Kind::Select);
        assert_eq!(kinds.iter().collect::<Vec<_>>(), [Kind::Select, Kind::Unknown]);
        assert!(!kinds.contains(Kind::Insert));
        assert_eq!(Kinds::one(Kind::Do).iter().collect::<Vec<_>>(), [Kind::Do]);
    }
}
