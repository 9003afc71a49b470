//! Small ids by which modules name each other's things without importing their types.

use std::fmt;

macro_rules! small_id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $int);

        impl $name {
            /// The id as an index into the table that it was made for.
            #[must_use]
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

small_id!(
    /// A `[[resource]]`, by its position in the compiled config.
    ResourceId(u16)
);
small_id!(
    /// A `[[listener]]`, by its position in the compiled config.
    ListenerId(u16)
);
small_id!(
    /// An `[[issuer]]`, by its position in the compiled config.
    IssuerId(u16)
);
small_id!(
    /// A credential (named or inline), by its position in the compiled config.
    CredentialId(u16)
);
small_id!(
    /// A `[[mask]]`, by its position in the compiled config; below [`MaskSet::CAPACITY`].
    MaskId(u16)
);
small_id!(
    /// A `[[rule]]`, by its position in the compiled policy.
    RuleId(u32)
);

/// A set of masks, as the obligations of several rules unite them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MaskSet(u64);

impl MaskSet {
    /// How many masks a config may name.
    pub const CAPACITY: usize = 64;
    /// No mask.
    pub const EMPTY: Self = Self(0);

    /// Adds `id`; ids at or above [`Self::CAPACITY`] cannot be made by a compiled config.
    #[must_use]
    pub fn with(self, id: MaskId) -> Self {
        debug_assert!(id.index() < Self::CAPACITY);
        Self(self.0 | 1u64.checked_shl(u32::from(id.0)).unwrap_or(0))
    }

    /// Both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether no mask is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, lowest id first.
    pub fn iter(self) -> impl Iterator<Item = MaskId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            // 64 at most, for none.
            let lowest = left.trailing_zeros() as u16;
            left &= left.wrapping_sub(1);
            (lowest < 64).then_some(MaskId(lowest))
        })
    }
}

/// One transport connection of a caller; unique in the life of a gateway process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// One request and its answer. Unique over restarts: the high half is drawn at random for each
/// worker at each start, the low half counts. It is the request id that callers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId(pub u128);

impl ExchangeId {
    /// The id's text, 32 lower-case hex digits, without an allocation.
    #[must_use]
    pub fn hex(self) -> [u8; 32] {
        hex(self.0)
    }

    /// Reads what [`Self::hex`] and `Display` write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A request that a person approve something, and the grant that it may become. Drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApprovalId(pub u128);

impl ApprovalId {
    /// The id's text, 32 lower-case hex digits, without an allocation.
    #[must_use]
    pub fn hex(self) -> [u8; 32] {
        hex(self.0)
    }

    /// Reads what [`Self::hex`] and `Display` write.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

fn hex(number: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 32];
    for (place, byte) in text.iter_mut().enumerate() {
        let nibble = (number >> (124 - 4 * place)) & 0xf;
        *byte = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
    }
    text
}

fn unhex(text: &str) -> Option<u128> {
    if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes() {
        for value in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            let id = ExchangeId(value);
            assert_eq!(String::from_utf8_lossy(&id.hex()), id.to_string());
            assert_eq!(ExchangeId::parse(&id.to_string()), Some(id));
            let id = ApprovalId(value);
            assert_eq!(String::from_utf8_lossy(&id.hex()), id.to_string());
            assert_eq!(ApprovalId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(ExchangeId::parse("+0000000000000000000000000000001"), None);
        assert_eq!(ExchangeId::parse(""), None);
    }

    #[test]
    fn a_mask_set_lists_its_members_once() {
        let set = MaskSet::EMPTY.with(MaskId(63)).with(MaskId(0)).with(MaskId(63));
        assert_eq!(set.iter().collect::<Vec<_>>(), [MaskId(0), MaskId(63)]);
        assert!(!set.is_empty() && MaskSet::EMPTY.is_empty());
        assert_eq!(set.union(MaskSet::EMPTY.with(MaskId(5))).iter().count(), 3);
    }
}
