//! Key sets of issuers, and the snapshot of them that workers verify against.

use super::TokenError;
use super::algorithm::Algorithm;
use super::json::{Doc, Duplicates, JsonFault, Kind};
use super::jwk::{self, Key, SkipReason};
use crate::base::IssuerId;
use ring::digest;
use std::sync::Arc;

/// Largest key set document.
const SET_LEN_MAX: usize = 512 << 10;
/// Most keys of a set.
const KEYS_MAX: usize = 64;
/// `x5c` and vendors' extensions nest a little.
const SET_DEPTH_MAX: u32 = 8;

/// Why a document is no key set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeySetError {
    /// Above 512 KiB.
    TooLong,
    /// Not strict JSON.
    Json(JsonFault),
    /// No `keys`, or it is not an array.
    NoKeys,
    /// More than 64 keys.
    TooManyKeys,
    /// Not one key of it can be used.
    NothingUsable,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its place in `keys`.
    pub index: usize,
    /// Its `kid`, cut to a sane length, for the operator.
    pub kid: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

/// The usable public keys of one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Names that two usable keys share: a token that names one is refused, not looked for.
    shared: Vec<Box<str>>,
}

/// All key sets at one moment. Control makes them, workers only read.
#[derive(Clone, Debug, Default)]
pub struct KeySnapshot {
    /// Raised whenever any set changes; cached tokens of another generation are dead.
    pub generation: u64,
    /// By [`IssuerId`]; `None` while an issuer's keys were never fetched or are too old.
    pub sets: Vec<Option<Arc<KeySet>>>,
}

impl KeySnapshot {
    /// The set of one issuer.
    #[must_use]
    pub fn set(&self, issuer: IssuerId) -> Option<&KeySet> {
        self.sets.get(issuer.index())?.as_deref()
    }
}

impl KeySet {
    /// Reads a JWK Set (RFC 7517, section 5). A key that cannot be used is left out and reported;
    /// it does not spoil the others.
    ///
    /// # Errors
    /// [`KeySetError`] when the document as a whole is no use; keep the set before it then.
    pub fn from_jwks(bytes: &[u8]) -> Result<(Self, Vec<Skipped>), KeySetError> {
        if bytes.len() > SET_LEN_MAX {
            return Err(KeySetError::TooLong);
        }
        let doc = Doc::parse(bytes, SET_DEPTH_MAX, Duplicates::Keep).map_err(KeySetError::Json)?;
        if doc.root().has_duplicates() {
            return Err(KeySetError::Json(JsonFault::Duplicate));
        }
        let list = doc.root().member("keys").filter(|keys| keys.kind() == Kind::Array);
        let list = list.ok_or(KeySetError::NoKeys)?;
        if list.items().count() > KEYS_MAX {
            return Err(KeySetError::TooManyKeys);
        }
        let mut found: Vec<(usize, Key)> = Vec::new();
        let mut skipped = Vec::new();
        for (index, value) in list.items().enumerate() {
            match jwk::read(value) {
                Ok(key) => found.push((index, key)),
                Err(reason) => {
                    let kid = value.member("kid").and_then(|kid| kid.text());
                    let kid = kid.map(|kid| kid.chars().take(64).collect());
                    skipped.push(Skipped { index, kid, reason });
                }
            }
        }
        let mut shared: Vec<Box<str>> = Vec::new();
        for (place, (_, key)) in found.iter().enumerate() {
            let same = |other: &(usize, Key)| other.1.kid == key.kid;
            if let Some(kid) = &key.kid
                && !shared.contains(kid)
                && found.iter().skip(place + 1).any(same)
            {
                shared.push(kid.clone());
            }
        }
        let is_shared = |key: &Key| key.kid.as_ref().is_some_and(|kid| shared.contains(kid));
        skipped.extend(found.iter().filter(|(_, key)| is_shared(key)).map(|(index, key)| {
            Skipped {
                index: *index,
                kid: key.kid.as_deref().map(|kid| kid.chars().take(64).collect()),
                reason: SkipReason::SameKid,
            }
        }));
        let mut keys: Vec<Key> =
            found.into_iter().map(|(_, key)| key).filter(|key| !is_shared(key)).collect();
        // Some issuers shuffle; equal sets have to compare equal, or each fetch would look like a
        // rotation and empty the caches.
        keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        shared.sort();
        if keys.is_empty() {
            return Err(KeySetError::NothingUsable);
        }
        skipped.sort_by_key(|one| one.index);
        Ok((Self { keys, shared }, skipped))
    }

    /// How many keys can be used.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none; a set that was read has one at least.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key has this name.
    #[must_use]
    pub fn has_kid(&self, kid: &str) -> bool {
        self.keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// The names of the keys, for operators.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter_map(|key| key.kid.as_deref())
    }

    /// The one key that a token with this header may be checked with. `svid`: the token is a
    /// JWT-SVID, for which keys of that use are good too.
    pub(super) fn choose(
        &self,
        issuer: IssuerId,
        kid: Option<&str>,
        algorithm: Algorithm,
        svid: bool,
    ) -> Result<&Key, TokenError> {
        let fits = |key: &&Key| {
            algorithm.agrees_with(&key.material)
                && key.algorithm.is_none_or(|named| named == algorithm)
                && (svid || !key.svid)
        };
        let Some(kid) = kid else {
            let mut fitting = self.keys.iter().filter(fits);
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                (Some(_), Some(_)) => Err(TokenError::AmbiguousKey),
                (None, _) => Err(TokenError::UnknownKey { issuer, kid_hash: 0 }),
            };
        };
        if self.shared.iter().any(|name| **name == *kid) {
            return Err(TokenError::AmbiguousKey);
        }
        let key = self.keys.iter().find(|key| key.kid.as_deref() == Some(kid));
        let key = key.ok_or_else(|| TokenError::UnknownKey { issuer, kid_hash: kid_hash(kid) })?;
        if fits(&key) { Ok(key) } else { Err(TokenError::KeyMismatch) }
    }
}

/// A short name of a `kid` for the cache of names that no fetch brought.
fn kid_hash(kid: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, kid.as_bytes());
    let (head, _) = digest.as_ref().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*head)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::compact::encode;

    const ISSUER: IssuerId = IssuerId(0);

    fn ed(kid: &str, byte: u8) -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{}"}}"#, encode(&[byte; 32]))
    }

    fn set(keys: &[String]) -> Result<(KeySet, Vec<Skipped>), KeySetError> {
        KeySet::from_jwks(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    #[test]
    fn one_bad_key_does_not_spoil_the_set() {
        let odd = r#"{"kty":"EC","crv":"P-521","kid":"b"}"#.to_owned();
        let (keys, skipped) = set(&[odd, "17".to_owned(), ed("a", 7)]).unwrap();
        assert_eq!((keys.len(), skipped.len()), (1, 2));
        assert!(keys.has_kid("a") && !keys.has_kid("b"));
        assert_eq!(skipped.first().unwrap().kid.as_deref(), Some("b"));
        assert_eq!(skipped.get(1).unwrap().reason, SkipReason::Shape);
    }

    #[test]
    fn two_keys_with_one_name_are_both_unusable() {
        let (keys, skipped) = set(&[ed("a", 7), ed("b", 8), ed("a", 9)]).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(skipped.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 2]);
        let chosen = keys.choose(ISSUER, Some("a"), Algorithm::EdDsa, false);
        assert_eq!(chosen.err(), Some(TokenError::AmbiguousKey));
        assert!(keys.choose(ISSUER, Some("b"), Algorithm::EdDsa, false).is_ok());
    }

    #[test]
    fn a_token_without_a_name_needs_exactly_one_candidate() {
        let (one, _) = set(&[ed("a", 7)]).unwrap();
        assert!(one.choose(ISSUER, None, Algorithm::EdDsa, false).is_ok());
        let none = one.choose(ISSUER, None, Algorithm::Rs256, false);
        assert_eq!(none.err().unwrap().label(), "unknown_key");
        let (two, _) = set(&[ed("a", 7), ed("b", 8)]).unwrap();
        let many = two.choose(ISSUER, None, Algorithm::EdDsa, false);
        assert_eq!(many.err(), Some(TokenError::AmbiguousKey));
    }

    #[test]
    fn the_order_of_a_document_does_not_matter() {
        let (one, _) = set(&[ed("a", 7), ed("b", 8)]).unwrap();
        let (two, _) = set(&[ed("b", 8), ed("a", 7)]).unwrap();
        let (other, _) = set(&[ed("b", 8), ed("a", 9)]).unwrap();
        assert_eq!(one, two);
        assert_ne!(one, other);
        assert_eq!(one.kids().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn documents_that_are_no_key_set() {
        let fault = |text: &str| KeySet::from_jwks(text.as_bytes()).err().unwrap();
        assert_eq!(fault("{}"), KeySetError::NoKeys);
        assert_eq!(fault(r#"{"keys":{}}"#), KeySetError::NoKeys);
        assert_eq!(fault(r#"{"keys":[]}"#), KeySetError::NothingUsable);
        assert_eq!(fault("<html>"), KeySetError::Json(JsonFault::Syntax));
        assert_eq!(fault(r#"{"keys":[],"keys":[]}"#), KeySetError::Json(JsonFault::Duplicate));
        let many: Vec<String> = (0..65).map(|n| ed(&format!("k{n}"), 7)).collect();
        assert_eq!(set(&many).err(), Some(KeySetError::TooManyKeys));
        let long = format!(r#"{{"keys":[]{}}}"#, " ".repeat(SET_LEN_MAX));
        assert_eq!(fault(&long), KeySetError::TooLong);
    }

    #[test]
    fn a_key_for_svids_checks_nothing_else() {
        let key = ed("s", 7).replace("\"kid\"", "\"use\":\"jwt-svid\",\"kid\"");
        let (keys, _) = set(&[key]).unwrap();
        let plain = keys.choose(ISSUER, Some("s"), Algorithm::EdDsa, false);
        assert_eq!(plain.err(), Some(TokenError::KeyMismatch));
        assert!(keys.choose(ISSUER, Some("s"), Algorithm::EdDsa, true).is_ok());
    }
}
