//! Digests as text: 64 lower-case hex digits.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

/// The text of a digest.
#[must_use]
pub fn text(digest: &[u8; 32]) -> String {
    digest.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(digit).collect()
}

fn digit(nibble: u8) -> char {
    char::from_digit(nibble.into(), 16).unwrap_or('0')
}

/// Reads what [`text`] writes.
#[must_use]
pub fn parse(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(digest)
}

pub(super) fn serialize<S: Serializer>(digest: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&text(digest))
}

pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<[u8; 32], D::Error> {
    let found = <std::borrow::Cow<'a, str>>::deserialize(from)?;
    parse(&found).ok_or_else(|| D::Error::custom("a digest is 64 hex digits"))
}

/// A digest that may be missing; what is written is one that is there.
pub(super) mod maybe {
    use super::{Deserializer, Serializer};

    pub(in crate::policy::approval) fn serialize<S: Serializer>(
        digest: &Option<[u8; 32]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => super::serialize(digest, to),
            None => to.serialize_none(),
        }
    }

    pub(in crate::policy::approval) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        super::deserialize(from).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest: [u8; 32] = std::array::from_fn(|place| (place * 37) as u8);
        assert_eq!(parse(&text(&digest)), Some(digest));
        assert_eq!(parse(&text(&digest).to_uppercase()), Some(digest));
        for wrong in [&text(&digest)[1..], "", &"g".repeat(64), &"0".repeat(65), "\u{e9}"] {
            assert_eq!(parse(wrong), None);
        }
    }
}
