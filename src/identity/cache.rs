//! Tokens that a worker has verified or refused before, so that each costs one signature check.
//!
//! Keyed hash, then a compare of every byte: two tokens that differ only in the signature never
//! meet. Refusals live in a part of their own, so that a flood of forged tokens pushes out no good
//! one. Each part evicts by CLOCK: a hand goes round, spares what was used since its last visit,
//! and takes the rest.
//!
//! The two generations must cover everything that a verification rests on: the key generation the
//! sets of all issuers, the policy generation the issuers' rules as well as the table of rules.

use super::{Principal, TokenError};
use crate::base::{Now, Secret};
use ahash::RandomState;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// How long a refusal is kept.
const REFUSED_S: u64 = 30;
/// Refusals get this part of the entries and bytes, on top.
const REFUSED_PART: usize = 4;

/// What the cache knows of a token.
#[derive(Debug)]
pub enum Cached<'c, V> {
    /// It was verified, and everything that this rested on still holds.
    Verified(&'c Rc<Principal>, &'c V),
    /// It was refused for good under the same keys and rules.
    Refused(TokenError),
}

/// A worker's verified-token cache. `V` is what the caller keeps beside the principal: its rows of
/// the policy.
#[derive(Debug)]
pub struct TokenCache<V> {
    hasher: RandomState,
    verified: Part<(Rc<Principal>, V)>,
    refused: Part<TokenError>,
}

impl<V> TokenCache<V> {
    /// A cache of at most so many entries and bytes of tokens and principals. `seed` is drawn at
    /// random for each process: whoever knows it can make entries meet in the index (which costs
    /// time, never a wrong answer).
    #[must_use]
    pub fn new(entries: usize, bytes: usize, seed: [u64; 4]) -> Self {
        let [a, b, c, d] = seed;
        Self {
            hasher: RandomState::with_seeds(a, b, c, d),
            verified: Part::new(entries, bytes),
            refused: Part::new(entries / REFUSED_PART, bytes / REFUSED_PART),
        }
    }

    /// What is known of a token that came without a client certificate.
    pub fn get(
        &mut self,
        token: &[u8],
        now: Now,
        key_generation: u64,
        policy_generation: u64,
    ) -> Option<Cached<'_, V>> {
        self.get_bound(token, None, now, key_generation, policy_generation)
    }

    /// What is known of a token on a connection with this client certificate. A token that is
    /// bound to another one is not found here, so that verifying it again tells why.
    pub fn get_bound(
        &mut self,
        token: &[u8],
        certificate: Option<&[u8; 32]>,
        now: Now,
        key_generation: u64,
        policy_generation: u64,
    ) -> Option<Cached<'_, V>> {
        let hash = self.hasher.hash_one(token);
        let life = Life { now_s: now.wall_s(), key_generation, policy_generation };
        if let Some(index) = self.verified.find(hash, token, life) {
            let (principal, value) = self.verified.value(index)?;
            let bound = principal.certificate();
            return (bound.is_none() || bound == certificate)
                .then_some(Cached::Verified(principal, value));
        }
        let index = self.refused.find(hash, token, life)?;
        self.refused.value(index).map(|error| Cached::Refused(*error))
    }

    /// Keeps a verified token until the principal's `valid_until_s`.
    pub fn insert(
        &mut self,
        token: &[u8],
        principal: Rc<Principal>,
        value: V,
        now: Now,
        key_generation: u64,
        policy_generation: u64,
    ) {
        let hash = self.hasher.hash_one(token);
        let life = Life { now_s: now.wall_s(), key_generation, policy_generation };
        let (until_s, extra) = (principal.valid_until_s(), principal.len_bytes());
        self.verified.insert(hash, token, (principal, value), extra, until_s, life);
    }

    /// Keeps a refusal for a while, if it is one that time and circumstances do not change.
    pub fn insert_refused(
        &mut self,
        token: &[u8],
        error: TokenError,
        now: Now,
        key_generation: u64,
        policy_generation: u64,
    ) {
        if !error.is_final() {
            return;
        }
        let hash = self.hasher.hash_one(token);
        let life = Life { now_s: now.wall_s(), key_generation, policy_generation };
        let until_s = life.now_s.saturating_add(REFUSED_S);
        self.refused.insert(hash, token, error, 0, until_s, life);
    }

    /// Verified tokens in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.verified.index.len()
    }

    /// Whether there is no verified token in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that count against its bound, refusals not among them.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.verified.bytes
    }

    /// Refusals in it.
    #[must_use]
    pub fn refused_len(&self) -> usize {
        self.refused.index.len()
    }
}

/// What an entry's life hangs on.
#[derive(Clone, Copy, Debug)]
struct Life {
    now_s: u64,
    key_generation: u64,
    policy_generation: u64,
}

#[derive(Debug)]
struct Slot<T> {
    hash: u64,
    token: Secret,
    bytes: usize,
    until_s: u64,
    key_generation: u64,
    policy_generation: u64,
    used: bool,
    value: T,
}

impl<T> Slot<T> {
    fn lives(&self, life: Life) -> bool {
        life.now_s < self.until_s
            && self.key_generation == life.key_generation
            && self.policy_generation == life.policy_generation
    }
}

/// The hash is keyed already; hashing it again would add nothing.
#[derive(Debug, Default)]
struct Keep(u64);

impl Hasher for Keep {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[derive(Debug)]
struct Part<T> {
    slots: Vec<Option<Slot<T>>>,
    free: Vec<usize>,
    index: HashMap<u64, usize, BuildHasherDefault<Keep>>,
    hand: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
}

impl<T> Part<T> {
    fn new(entries_max: usize, bytes_max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            hand: 0,
            bytes: 0,
            entries_max,
            bytes_max,
        }
    }

    fn value(&self, index: usize) -> Option<&T> {
        self.slots.get(index)?.as_ref().map(|slot| &slot.value)
    }

    /// The slot of a token that lives; one that does not is removed.
    fn find(&mut self, hash: u64, token: &[u8], life: Life) -> Option<usize> {
        let index = *self.index.get(&hash)?;
        let slot = self.slots.get_mut(index)?.as_mut()?;
        if slot.token.expose() != token {
            return None;
        }
        if !slot.lives(life) {
            self.remove(index);
            return None;
        }
        slot.used = true;
        Some(index)
    }

    fn insert(
        &mut self,
        hash: u64,
        token: &[u8],
        value: T,
        extra: usize,
        until_s: u64,
        life: Life,
    ) {
        let bytes = size_of::<Slot<T>>() + token.len() + extra;
        if self.entries_max == 0 || bytes > self.bytes_max || life.now_s >= until_s {
            return;
        }
        if let Some(index) = self.index.get(&hash).copied() {
            self.remove(index);
        }
        while self.index.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.evict(life);
        }
        let slot = Slot {
            hash,
            token: Secret::new(token.to_vec()),
            bytes,
            until_s,
            key_generation: life.key_generation,
            policy_generation: life.policy_generation,
            // A token has to come again before it is spared: a flood of tokens that come once
            // does not push out those that are in use.
            used: false,
            value,
        };
        self.bytes += bytes;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
            self.index.insert(hash, index);
        }
        debug_assert!(self.slots.len() <= self.entries_max && self.bytes <= self.bytes_max);
    }

    /// Takes one entry out; ends within two rounds, since the first clears every mark.
    fn evict(&mut self, life: Life) {
        debug_assert!(!self.index.is_empty(), "the bounds allow one entry");
        for _ in 0..=self.slots.len().saturating_mul(2) {
            let index = self.hand;
            self.hand = if index + 1 >= self.slots.len() { 0 } else { index + 1 };
            let Some(Some(slot)) = self.slots.get_mut(index) else { continue };
            if slot.used && slot.lives(life) {
                slot.used = false;
            } else {
                self.remove(index);
                return;
            }
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::take) {
            self.index.remove(&slot.hash);
            self.bytes -= slot.bytes;
            self.free.push(index);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::dev::{DevClaims, DevKey};
    use crate::identity::{KeySnapshot, Verifier};

    const START_S: u64 = 1_800_000_000;
    const SEED: [u64; 4] = [1, 2, 3, 4];

    fn at(seconds: u64) -> Now {
        Now { mono_ns: 0, wall_ns: (START_S + seconds) * 1_000_000_000 }
    }

    struct Bench {
        key: DevKey,
        keys: KeySnapshot,
        verifier: Verifier,
    }

    impl Bench {
        fn new() -> Self {
            let key = DevKey::generate().unwrap();
            let keys = key.snapshot(1);
            Self { key, keys, verifier: Verifier::new(vec![DevKey::rules("dev", "iss", "gate")]) }
        }

        fn token(&self, subject: &str) -> (Vec<u8>, Rc<Principal>) {
            let token = self.key.mint(&DevClaims {
                issuer: "iss".to_owned(),
                subject: subject.to_owned(),
                audience: vec!["gate".to_owned()],
                client_id: "c".to_owned(),
                issued_s: START_S,
                lifetime_s: 100,
                ..DevClaims::default()
            });
            let principal = self.verifier.verify(token.as_bytes(), &self.keys, at(0)).unwrap();
            (token.into_bytes(), Rc::new(principal))
        }
    }

    fn sub<V>(found: Option<Cached<'_, V>>) -> Option<String> {
        match found? {
            Cached::Verified(principal, _) => Some(principal.sub().to_owned()),
            Cached::Refused(error) => Some(error.label().to_owned()),
        }
    }

    #[test]
    fn a_token_is_found_until_the_second_it_would_be_refused() {
        let bench = Bench::new();
        let (token, principal) = bench.token("alice");
        let mut cache = TokenCache::new(8, 1 << 20, SEED);
        assert!(cache.get(&token, at(0), 1, 1).is_none());
        cache.insert(&token, principal, 7, at(0), 1, 1);
        assert!(matches!(cache.get(&token, at(0), 1, 1), Some(Cached::Verified(_, 7))));
        for second in [99, 100, 129] {
            assert!(bench.verifier.verify(&token, &bench.keys, at(second)).is_ok());
            assert_eq!(sub(cache.get(&token, at(second), 1, 1)).as_deref(), Some("alice"));
        }
        assert!(bench.verifier.verify(&token, &bench.keys, at(130)).is_err());
        assert!(cache.get(&token, at(130), 1, 1).is_none());
        assert_eq!((cache.len(), cache.len_bytes()), (0, 0), "the dead entry is gone");
        // Not even an insert brings it back.
        let (_, principal) = bench.token("alice");
        cache.insert(&token, principal, 7, at(130), 1, 1);
        assert!(cache.is_empty());
    }

    #[test]
    fn another_generation_of_keys_or_policy_ends_an_entry() {
        let bench = Bench::new();
        let (token, principal) = bench.token("alice");
        let mut cache = TokenCache::new(8, 1 << 20, SEED);
        for (keys, policy) in [(2, 1), (1, 2), (0, 1)] {
            cache.insert(&token, Rc::clone(&principal), (), at(0), 1, 1);
            assert!(cache.get(&token, at(0), keys, policy).is_none());
            assert!(cache.get(&token, at(0), 1, 1).is_none(), "it stays dead");
        }
        cache.insert_refused(&token, TokenError::Signature, at(0), 1, 1);
        assert!(cache.get(&token, at(0), 1, 1).is_some());
        assert!(cache.get(&token, at(0), 2, 1).is_none());
    }

    #[test]
    fn tokens_that_differ_in_one_byte_never_meet() {
        let bench = Bench::new();
        let (token, principal) = bench.token("alice");
        let mut cache = TokenCache::new(1 << 12, 1 << 24, SEED);
        cache.insert(&token, principal, (), at(0), 1, 1);
        for place in 0..token.len() {
            for bit in 0..8 {
                let mut other = token.clone();
                *other.get_mut(place).unwrap() ^= 1 << bit;
                assert!(cache.get(&other, at(0), 1, 1).is_none(), "{place}.{bit}");
            }
            assert!(cache.get(token.get(..place).unwrap(), at(0), 1, 1).is_none());
        }
        assert!(cache.get(&[&token[..], b"A"].concat(), at(0), 1, 1).is_none());
        assert_eq!(sub(cache.get(&token, at(0), 1, 1)).as_deref(), Some("alice"));
    }

    #[test]
    fn two_tokens_with_one_hash_do_not_answer_for_each_other() {
        let life = Life { now_s: 0, key_generation: 1, policy_generation: 1 };
        let mut part = Part::new(8, 1 << 20);
        part.insert(42, b"one", 1, 0, 10, life);
        assert_eq!(part.find(42, b"two", life), None);
        part.insert(42, b"two", 2, 0, 10, life);
        assert_eq!(part.find(42, b"one", life), None);
        let found = part.find(42, b"two", life).unwrap();
        assert_eq!(part.value(found), Some(&2));
        assert_eq!((part.index.len(), part.free.len()), (1, 0));
    }

    #[test]
    fn a_flood_of_forged_tokens_pushes_out_no_good_one() {
        let bench = Bench::new();
        let (token, principal) = bench.token("alice");
        let mut cache = TokenCache::new(16, 1 << 20, SEED);
        cache.insert(&token, principal, (), at(0), 1, 1);
        for forged in 0..10_000u32 {
            cache.insert_refused(&forged.to_be_bytes(), TokenError::Signature, at(0), 1, 1);
        }
        assert_eq!(cache.refused_len(), 4);
        assert_eq!(sub(cache.get(&token, at(0), 1, 1)).as_deref(), Some("alice"));
        let last = 9_999u32.to_be_bytes();
        assert_eq!(sub(cache.get(&last, at(29), 1, 1)).as_deref(), Some("signature"));
        assert!(cache.get(&last, at(30), 1, 1).is_none(), "a refusal ends too");
    }

    #[test]
    fn what_may_change_by_itself_is_not_kept() {
        let mut cache: TokenCache<()> = TokenCache::new(16, 1 << 20, SEED);
        let issuer = crate::base::IssuerId(0);
        for error in [
            TokenError::NoKeys { issuer },
            TokenError::UnknownKey { issuer, kid_hash: 1 },
            TokenError::NotYetValid,
            TokenError::IssuedInFuture,
            TokenError::Bound,
        ] {
            cache.insert_refused(b"t", error, at(0), 1, 1);
            assert!(cache.get(b"t", at(0), 1, 1).is_none(), "{error}");
        }
    }

    #[test]
    fn a_bound_principal_is_found_with_its_certificate_only() {
        let bench = Bench::new();
        let (token, principal) = bench.token("alice");
        let bound = Principal { certificate: Some([7; 32]), ..(*principal).clone() };
        let mut cache = TokenCache::new(8, 1 << 20, SEED);
        cache.insert(&token, Rc::new(bound), (), at(0), 1, 1);
        assert!(cache.get(&token, at(0), 1, 1).is_none());
        assert!(cache.get_bound(&token, Some(&[8; 32]), at(0), 1, 1).is_none());
        assert!(cache.get_bound(&token, Some(&[7; 32]), at(0), 1, 1).is_some());
    }

    #[test]
    fn bounds_hold_and_what_is_used_is_spared() {
        let bench = Bench::new();
        let (hot, principal) = bench.token("hot");
        let mut cache = TokenCache::new(4, 1 << 20, SEED);
        cache.insert(&hot, Rc::clone(&principal), (), at(0), 1, 1);
        for place in 0..100u32 {
            assert!(cache.get(&hot, at(0), 1, 1).is_some(), "{place}");
            cache.insert(&place.to_be_bytes(), Rc::clone(&principal), (), at(0), 1, 1);
            assert!(cache.len() <= 4);
        }
        // Bytes: an entry costs its token, its principal and its slot.
        let mut small = TokenCache::new(1_000, 4_096, SEED);
        for place in 0..100u32 {
            let token = [&hot[..], &place.to_be_bytes()].concat();
            small.insert(&token, Rc::clone(&principal), (), at(0), 1, 1);
            assert!(small.len_bytes() <= 4_096 && !small.is_empty());
        }
        small.insert(&[b'x'; 5_000], Rc::clone(&principal), (), at(0), 1, 1);
        assert!(small.get(&[b'x'; 5_000], at(0), 1, 1).is_none(), "above the bound by itself");
        let mut none = TokenCache::new(0, 1 << 20, SEED);
        none.insert(&hot, principal, (), at(0), 1, 1);
        assert!(none.is_empty());
    }
}
