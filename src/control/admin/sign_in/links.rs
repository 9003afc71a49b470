//! One-time links: a token, handed over to a browser without being seen by it.

use super::secret::{self, Key};
use crate::base::{Now, Secret};
use crate::control::admin::Person;
use crate::policy::approval::Party;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Links that nobody has used.
#[derive(Debug, Default)]
pub(super) struct Links(Mutex<HashMap<Key, Link>>);

/// What a link is for.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) token: Arc<Secret>,
    pub(super) party: Arc<Party>,
    made_ns: u64,
}

/// Why there is no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkFault {
    /// There are [`LINKS_MAX`].
    Full,
    /// The system has no random numbers.
    NoRandom,
}

impl Links {
    /// Makes one; it lives for [`LIFE_S`]. A person with [`PERSON_MAX`] loses the oldest.
    pub(super) fn make(
        &self,
        token: Arc<Secret>,
        person: &Person,
        now: Now,
    ) -> Result<String, LinkFault> {
        let (text, key) = secret::make().ok_or(LinkFault::NoRandom)?;
        let party = Arc::clone(&person.party);
        let mut table = self.living(now);
        let own = table
            .iter()
            .filter(|(_, one)| (&one.party.iss, &one.party.sub) == (&party.iss, &party.sub));
        if own.clone().count() >= PERSON_MAX {
            let oldest = own.min_by_key(|(_, one)| one.made_ns).map(|(key, _)| *key);
            oldest.map(|key| table.remove(&key));
        }
        if table.len() >= LINKS_MAX {
            return Err(LinkFault::Full);
        }
        table.insert(key, Link { token, party, made_ns: now.mono_ns });
        Ok(text)
    }

    /// Whom it is for. It stays as it is.
    pub(super) fn look(&self, text: &str, now: Now) -> Option<Link> {
        self.living(now).get(&secret::key(text)?).cloned()
    }

    /// Uses it up: of all that come with it one gets it.
    pub(super) fn take(&self, text: &str, now: Now) -> Option<Link> {
        self.living(now).remove(&secret::key(text)?)
    }

    /// Takes those of a person back.
    pub(super) fn drop_all_of(&self, iss: &str, sub: &str) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, one| *one.party.iss != *iss || *one.party.sub != *sub);
    }

    fn living(&self, now: Now) -> MutexGuard<'_, HashMap<Key, Link>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, one| now.mono_ns.saturating_sub(one.made_ns) < LIFE_S * 1_000_000_000);
        table
    }
}

/// How long a link waits for its click.
pub(super) const LIFE_S: u64 = 120;
/// Most links.
const LINKS_MAX: usize = 256;
/// Most links of one person.
const PERSON_MAX: usize = 4;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::control::admin::sign_in::kit::{at, person};

    fn make(links: &Links, sub: &str, now: Now) -> Result<String, LinkFault> {
        links.make(Arc::new(Secret::new(b"token".to_vec())), &person(sub, 1_000), now)
    }

    #[test]
    fn a_link_is_used_once_and_within_two_minutes() {
        let links = Links::default();
        let text = make(&links, "ana", at(0)).unwrap();
        assert_eq!(&*links.look(&text, at(119)).unwrap().party.sub, "ana");
        assert!(links.look(&text, at(119)).is_some(), "a look uses nothing");
        assert_eq!(links.take(&text, at(119)).unwrap().token.expose(), b"token");
        assert!(links.take(&text, at(119)).is_none() && links.look(&text, at(119)).is_none());
        let late = make(&links, "ana", at(0)).unwrap();
        assert!(links.take(&late, at(120)).is_none());
        assert!(links.take("", at(0)).is_none());
    }

    #[test]
    fn of_two_that_race_for_a_link_one_gets_it() {
        let links = Links::default();
        for _ in 0..200 {
            let text = make(&links, "ana", at(0)).unwrap();
            let taken: usize = std::thread::scope(|scope| {
                let racers: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| usize::from(links.take(&text, at(1)).is_some())))
                    .collect();
                racers.into_iter().map(|racer| racer.join().unwrap()).sum()
            });
            assert_eq!(taken, 1);
        }
    }

    #[test]
    fn links_are_bounded_for_all_and_for_each() {
        let links = Links::default();
        let first = make(&links, "ana", at(0)).unwrap();
        for second in 1..=4 {
            make(&links, "ana", at(second)).unwrap();
        }
        assert!(links.look(&first, at(4)).is_none(), "the oldest gave way");
        let made = (0..LINKS_MAX).filter(|n| make(&links, &format!("p{n}"), at(5)).is_ok());
        assert_eq!(made.count(), LINKS_MAX - PERSON_MAX);
        assert_eq!(make(&links, "eve", at(5)), Err(LinkFault::Full));
    }
}
