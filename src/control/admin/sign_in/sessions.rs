//! Browser sessions: who signed in, until when.
//!
//! A session holds the token that it came of, and each request verifies that token again: a key
//! that is removed, an issuer or viewers that a reload takes away count from the next request on.
//! The browser has a random id, of which only the digest is kept here. Nothing is written to a
//! disk; a restart ends all sessions.

use super::Kind;
use super::secret::{self, Key};
use crate::base::{Now, Secret};
use crate::control::admin::Person;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<Key, Session>>);

#[derive(Debug)]
struct Session {
    token: Arc<Secret>,
    kind: Kind,
    iss: Box<str>,
    sub: Box<str>,
    csrf: Arc<str>,
    made_ns: u64,
    used_ns: u64,
    until_s: u64,
}

/// A session that lives.
#[derive(Clone, Debug)]
pub(in crate::control::admin) struct Found {
    pub(in crate::control::admin) key: Key,
    pub(in crate::control::admin) token: Arc<Secret>,
    pub(in crate::control::admin) kind: Kind,
    pub(in crate::control::admin) csrf: Arc<str>,
    /// Wall-clock second at which it ends, whatever it is used for.
    pub(in crate::control::admin) until_s: u64,
}

/// A session that was begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// What the browser is given.
    pub(super) id: String,
    pub(super) until_s: u64,
}

/// Why no session was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeginFault {
    /// There are [`SESSIONS_MAX`].
    Full,
    /// The token is over.
    Expired,
    /// The system has no random numbers.
    NoRandom,
}

impl Session {
    fn lives(&self, now: Now) -> bool {
        now.wall_s() < self.until_s
            && now.mono_ns.saturating_sub(self.made_ns) < LIFE_NS
            && now.mono_ns.saturating_sub(self.used_ns) < IDLE_NS
    }

    fn is_of(&self, iss: &str, sub: &str) -> bool {
        *self.iss == *iss && *self.sub == *sub
    }
}

impl Sessions {
    /// Begins one. A person with [`PERSON_MAX`] loses the one that was not used for longest.
    pub(super) fn begin(
        &self,
        (token, kind): (Arc<Secret>, Kind),
        person: &Person,
        now: Now,
    ) -> Result<Begun, BeginFault> {
        let (id, key) = secret::make().ok_or(BeginFault::NoRandom)?;
        let (csrf, _) = secret::make().ok_or(BeginFault::NoRandom)?;
        let until_s = person.expires_s.min(now.wall_s().saturating_add(LIFE_NS / SECOND_NS));
        if until_s <= now.wall_s() {
            return Err(BeginFault::Expired);
        }
        let (iss, sub) = (person.party.iss.clone(), person.party.sub.clone());
        let mut table = self.living(now);
        let own = table.iter().filter(|(_, one)| one.is_of(&iss, &sub));
        if own.clone().count() >= PERSON_MAX {
            let oldest = own.min_by_key(|(_, one)| one.used_ns).map(|(key, _)| *key);
            oldest.map(|key| table.remove(&key));
        }
        if table.len() >= SESSIONS_MAX {
            return Err(BeginFault::Full);
        }
        let (made_ns, used_ns) = (now.mono_ns, now.mono_ns);
        let session =
            Session { token, kind, iss, sub, csrf: csrf.into(), made_ns, used_ns, until_s };
        table.insert(key, session);
        Ok(Begun { id, until_s })
    }

    /// The session of an id. `used` is whether a person does something with it.
    pub(super) fn find(&self, id: &str, used: bool, now: Now) -> Option<Found> {
        let key = secret::key(id)?;
        let mut table = self.living(now);
        let session = table.get_mut(&key)?;
        if used {
            session.used_ns = session.used_ns.max(now.mono_ns);
        }
        let (token, csrf) = (Arc::clone(&session.token), Arc::clone(&session.csrf));
        Some(Found { key, token, kind: session.kind, csrf, until_s: session.until_s })
    }

    /// Whether it has not ended.
    pub(super) fn holds(&self, key: &Key, now: Now) -> bool {
        self.living(now).contains_key(key)
    }

    /// Ends it; says whose it was.
    pub(super) fn end(&self, key: &Key) -> Option<(Box<str>, Box<str>)> {
        self.table().remove(key).map(|one| (one.iss, one.sub))
    }

    /// Ends all of a person; says how many.
    pub(super) fn end_all_of(&self, iss: &str, sub: &str) -> usize {
        let mut table = self.table();
        let before = table.len();
        table.retain(|_, one| !one.is_of(iss, sub));
        before - table.len()
    }

    pub(super) fn count(&self, now: Now) -> usize {
        self.living(now).len()
    }

    /// The table without what has ended: a token is wiped when its session is over.
    fn living(&self, now: Now) -> MutexGuard<'_, HashMap<Key, Session>> {
        let mut table = self.table();
        table.retain(|_, one| one.lives(now));
        table
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SECOND_NS: u64 = 1_000_000_000;
/// Longest life, however long the token lives.
const LIFE_NS: u64 = 8 * 3_600 * SECOND_NS;
/// Longest time without use.
const IDLE_NS: u64 = 3_600 * SECOND_NS;
/// Most sessions.
const SESSIONS_MAX: usize = 1_024;
/// Most sessions of one person.
const PERSON_MAX: usize = 16;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::control::admin::sign_in::kit::{at, person};

    fn token() -> (Arc<Secret>, Kind) {
        (Arc::new(Secret::new(b"token".to_vec())), Kind::Bearer)
    }

    #[test]
    fn a_session_ends_with_its_token_after_eight_hours_or_an_hour_of_rest() {
        let table = Sessions::default();
        let begin = |expires_s, now| table.begin(token(), &person("ana", expires_s), now);
        let begun = begin(1_000, at(900)).unwrap();
        assert_eq!(begun.until_s, 1_000);
        assert!(table.find(&begun.id, true, at(999)).is_some());
        assert!(table.find(&begun.id, true, at(1_000)).is_none());
        assert_eq!(begin(1_000, at(1_000)).unwrap_err(), BeginFault::Expired);
        // Used every half hour.
        let long = begin(1_000_000, at(0)).unwrap();
        for half in 1..16 {
            assert!(table.find(&long.id, true, at(half * 1_800)).is_some(), "{half}");
        }
        assert!(table.find(&long.id, true, at(8 * 3_600)).is_none());
        // What only looks does not keep it.
        let idle = begin(1_000_000, at(0)).unwrap();
        assert!(table.find(&idle.id, false, at(3_599)).is_some());
        assert!(table.find(&idle.id, true, at(3_600)).is_none());
        assert_eq!(table.count(at(3_600)), 0, "and its token is gone");
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_session_live_longer_than_eight_hours() {
        let table = Sessions::default();
        let begun = table.begin(token(), &person("ana", 1_000_000), at(100_000)).unwrap();
        for half in 1..=16 {
            let now = Now { wall_ns: 0, ..at(100_000 + half * 1_800) };
            assert_eq!(table.find(&begun.id, true, now).is_some(), half < 16, "{half}");
        }
    }

    #[test]
    fn the_table_is_bounded_for_all_and_for_each() {
        let table = Sessions::default();
        let begin = |sub: &str, now| table.begin(token(), &person(sub, 1_000_000), now);
        let first = begin("ana", at(0)).unwrap();
        let second = begin("ana", at(1)).unwrap();
        assert!(table.find(&first.id, true, at(2)).is_some());
        for place in 0..PERSON_MAX as u64 - 2 {
            begin("ana", at(3 + place)).unwrap();
        }
        let last = begin("ana", at(30)).unwrap();
        assert_eq!(table.count(at(30)), PERSON_MAX);
        assert!(table.find(&second.id, true, at(30)).is_none(), "unused for longest");
        assert!(table.find(&first.id, true, at(30)).is_some());
        assert!(table.find(&last.id, true, at(30)).is_some());
        let mut people = 0;
        let fault = loop {
            match begin(&format!("p{people}"), at(31)) {
                Ok(_) => people += 1,
                Err(fault) => break fault,
            }
        };
        assert_eq!((fault, people + PERSON_MAX), (BeginFault::Full, SESSIONS_MAX));
        assert_eq!(table.end_all_of("i", "ana"), PERSON_MAX);
        assert!(begin("bob", at(31)).is_ok());
    }

    #[test]
    fn an_ended_session_is_found_no_more() {
        let table = Sessions::default();
        let begun = table.begin(token(), &person("ana", 1_000), at(0)).unwrap();
        let found = table.find(&begun.id, true, at(0)).unwrap();
        assert_ne!(*found.csrf, *begun.id);
        assert!(table.holds(&found.key, at(0)));
        assert_eq!(table.end(&found.key), Some(("i".into(), "ana".into())));
        assert_eq!(table.end(&found.key), None);
        assert!(!table.holds(&found.key, at(0)) && table.find(&begun.id, true, at(0)).is_none());
        let digest = format!("{:?}", found.key);
        assert!(table.find(&digest, true, at(0)).is_none(), "the key is not the id");
    }
}
