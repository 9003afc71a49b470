//! Sign-ins that were sent to the issuer and have not come back.

use super::Settings;
use crate::base::Now;
use crate::control::admin::sign_in::secret::{self, Key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All of them, by the digest of their state.
#[derive(Debug, Default)]
pub(super) struct Pendings(Mutex<HashMap<Key, Pending>>);

/// What the gateway remembers of one.
#[derive(Clone)]
pub(super) struct Pending {
    /// Digest of the browser's cookie.
    browser: Key,
    pub(super) nonce: String,
    /// PKCE's (RFC 7636).
    pub(super) verifier: String,
    /// Which issuer was asked, by which client, and where it sends the browser.
    pub(super) issuer: String,
    pub(super) client_id: String,
    pub(super) redirect_uri: String,
    /// The page that the browser came for.
    pub(super) next: Option<String>,
    made_ns: u64,
}

/// What goes to the issuer and to the browser.
#[derive(Clone)]
pub(super) struct Started {
    pub(super) state: String,
    pub(super) nonce: String,
    /// PKCE's, by S256.
    pub(super) challenge: String,
    /// For the browser's cookie.
    pub(super) browser: String,
    pub(super) redirect_uri: String,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Pendings {
    /// Begins one; `None` when the system has no random numbers. Whoever reaches the surface may
    /// begin some, so that at [`PENDING_MAX`] the oldest goes: a flood of them costs a sign-in
    /// that takes long its place, and no memory.
    pub(super) fn start(
        &self,
        settings: &Settings,
        base: &str,
        next: Option<String>,
        now: Now,
    ) -> Option<Started> {
        let (state, key) = secret::make()?;
        let (browser_text, browser) = secret::make()?;
        let (nonce, _) = secret::make()?;
        let (verifier, hash) = secret::make()?;
        let redirect_uri = format!("{base}/sign-in/callback");
        let started = Started {
            state,
            nonce: nonce.clone(),
            challenge: URL_SAFE_NO_PAD.encode(hash),
            browser: browser_text,
            redirect_uri: redirect_uri.clone(),
        };
        let (issuer, client_id) = (settings.issuer.clone(), settings.client_id.clone());
        let made_ns = now.mono_ns;
        let mut table = self.living(now);
        if table.len() >= PENDING_MAX {
            let oldest = table.iter().min_by_key(|(_, one)| one.made_ns).map(|(key, _)| *key);
            oldest.map(|key| table.remove(&key));
        }
        let pending =
            Pending { browser, nonce, verifier, issuer, client_id, redirect_uri, next, made_ns };
        table.insert(key, pending);
        Some(started)
    }

    /// Uses one up, if `browser` is the cookie of the browser that began it. Another browser's
    /// answer leaves it as it is: its own may still come.
    pub(super) fn take(&self, state: &str, browser: &str, now: Now) -> Option<Pending> {
        let (key, browser) = (secret::key(state)?, secret::key(browser)?);
        let mut table = self.living(now);
        if table.get(&key)?.browser != browser {
            return None;
        }
        table.remove(&key)
    }

    fn living(&self, now: Now) -> MutexGuard<'_, HashMap<Key, Pending>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, one| now.mono_ns.saturating_sub(one.made_ns) < LIFE_S * 1_000_000_000);
        table
    }
}

/// How long the issuer's pages may take.
pub(super) const LIFE_S: u64 = 600;
/// Most of them.
const PENDING_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::control::admin::sign_in::kit::{at, settings};

    fn start(table: &Pendings, now: Now) -> Started {
        table.start(&settings("https://idp.example"), "https://gw.example", None, now).unwrap()
    }

    #[test]
    fn an_answer_is_taken_once_in_time_and_from_its_own_browser() {
        let table = Pendings::default();
        let one = start(&table, at(0));
        let other = start(&table, at(0));
        assert!(table.take(&one.state, &other.browser, at(1)).is_none(), "another browser");
        assert!(table.take(&one.browser, &one.browser, at(1)).is_none());
        assert!(table.take("", &one.browser, at(1)).is_none());
        let pending = table.take(&one.state, &one.browser, at(599)).unwrap();
        assert_eq!(pending.redirect_uri, "https://gw.example/sign-in/callback");
        assert_eq!(pending.nonce, one.nonce);
        assert!(table.take(&one.state, &one.browser, at(599)).is_none(), "replayed");
        assert!(table.take(&other.state, &other.browser, at(600)).is_none(), "too late");
        let texts = [&one.state, &one.nonce, &one.browser, &pending.verifier];
        let different: std::collections::HashSet<_> = texts.into_iter().collect();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn the_challenge_is_the_hash_of_the_verifier() {
        let table = Pendings::default();
        let one = start(&table, at(0));
        let pending = table.take(&one.state, &one.browser, at(0)).unwrap();
        let hash = ring::digest::digest(&ring::digest::SHA256, pending.verifier.as_bytes());
        assert_eq!(one.challenge, URL_SAFE_NO_PAD.encode(hash));
        assert!((43..=128).contains(&pending.verifier.len()));
    }

    #[test]
    fn a_flood_takes_the_oldest_places_and_no_more() {
        let table = Pendings::default();
        let first = start(&table, at(0));
        let second = start(&table, at(1));
        for _ in 0..PENDING_MAX - 1 {
            start(&table, at(2));
        }
        assert_eq!(table.living(at(2)).len(), PENDING_MAX);
        assert!(table.take(&first.state, &first.browser, at(2)).is_none());
        assert!(table.take(&second.state, &second.browser, at(2)).is_some());
    }
}
