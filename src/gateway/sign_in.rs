//! Who a token of the admin issuer names: a caller's own, or one of a sign-in at the issuer.

use super::Live;
use super::keys::Jwks;
use crate::base::IssuerId;
use crate::config::{AdminSettings, SignInToken};
use crate::control::admin::{Oidc, OidcSettings, Person, Shown};
use crate::control::keys::{Asked, Keys, WAIT_MAX};
use crate::control::tls;
use crate::identity::{KeySnapshot, Principal, TokenError, Verifier};
use crate::policy::approval::Party;
use crate::runtime;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Who shows a token in `Authorization`.
pub(super) fn bearer(live: &Live, keys: &Arc<Keys<Jwks>>, token: &[u8]) -> Shown {
    let config = live.config();
    let Some(settings) = &config.admin else { return Shown::Unknown };
    let (snapshot, _) = live.snapshot.load();
    let (known, _) = keys.published().load();
    shown(settings, keys, snapshot.verifier.verify(token, &known, runtime::now()))
}

/// Sign-in at the issuer, as the config says at each moment.
pub(super) fn oidc(live: &Arc<Live>, keys: &Arc<Keys<Jwks>>) -> Result<Oidc, String> {
    let [set, answering, holding] = std::array::from_fn(|_| Arc::clone(live));
    let [answer_keys, held_keys] = std::array::from_fn(|_| Arc::clone(keys));
    Oidc::new(
        Box::new(move || settings(&set)),
        Box::new(move |token, question| {
            by_id_token(&answering, &answer_keys, false, |verifier, known| {
                let found = verifier.verify_answer(token, known, runtime::now(), question);
                if let Err(error) = &found {
                    tracing::warn!("the ID token of a sign-in is refused: {error}");
                }
                found
            })
        }),
        Box::new(move |token| {
            by_id_token(&holding, &held_keys, true, |verifier, known| {
                verifier.verify(token, known, runtime::now())
            })
        }),
        tls::client_config(&[])?,
    )
}

fn settings(live: &Live) -> Option<OidcSettings> {
    let config = live.config();
    let admin = config.admin.as_ref()?;
    let (settings, issuer) = (admin.sign_in.as_ref()?, admin.issuer?);
    Some(OidcSettings {
        issuer: config.token_issuers.get(issuer.index())?.rules.issuer.clone(),
        client_id: settings.client_id.clone(),
        client_secret: live.admin_secrets().sign_in,
        scope: settings.scope.clone(),
        by_access_token: settings.token == SignInToken::Access,
        resource: settings.resource.clone(),
    })
}

/// Whom an ID token of the gateway's own client names. `counts`: as what a session holds, which
/// it is only while the config says that ID tokens tell who somebody is.
fn by_id_token(
    live: &Live,
    keys: &Arc<Keys<Jwks>>,
    counts: bool,
    verify: impl FnOnce(&Verifier, &KeySnapshot) -> Result<Principal, TokenError>,
) -> Shown {
    let config = live.config();
    let Some(admin) = &config.admin else { return Shown::Unknown };
    let (Some(settings), Some(issuer)) = (&admin.sign_in, admin.issuer) else {
        return Shown::Unknown;
    };
    let tells = settings.token == SignInToken::Id;
    if counts && !tells {
        return Shown::Unknown;
    }
    let (snapshot, _) = live.snapshot.load();
    let (known, _) = keys.published().load();
    let verifier = snapshot.verifier.of_id_tokens(issuer, &settings.client_id, tells);
    shown(admin, keys, verify(&verifier, &known))
}

/// What was found, as the admin surface takes it.
fn shown(
    settings: &AdminSettings,
    keys: &Arc<Keys<Jwks>>,
    found: Result<Principal, TokenError>,
) -> Shown {
    match found {
        Ok(principal) if settings.issuer == Some(principal.issuer()) => {
            let viewer = |group: &str| settings.viewers.iter().any(|viewer| viewer == group);
            let viewer = principal.groups().iter().any(|group| viewer(group));
            let expires_s = principal.expires_s();
            Shown::Person(Person { party: Arc::new(Party::of(&principal)), viewer, expires_s })
        }
        Err(TokenError::UnknownKey { issuer, kid_hash }) if settings.issuer == Some(issuer) => {
            fetching(keys, issuer, kid_hash)
        }
        _ => Shown::Unknown,
    }
}

/// The issuer may have begun to use a new key: its set is fetched once for all that ask, and they
/// wait as long as a caller does.
fn fetching(keys: &Arc<Keys<Jwks>>, issuer: IssuerId, kid_hash: u64) -> Shown {
    let asker = keys.asker();
    match asker.ask(issuer, kid_hash) {
        Asked::Present => Shown::Fetching(Box::pin(std::future::ready(()))),
        Asked::Fetching(attempt) => Shown::Fetching(Box::pin(async move {
            let until = Instant::now() + WAIT_MAX;
            while asker.attempts(issuer) < attempt && Instant::now() < until {
                tokio::time::sleep(KEY_LOOK).await;
            }
        })),
        Asked::Later | Asked::Absent => Shown::Unknown,
    }
}

/// How often a request that waits for a key looks whether it is there.
const KEY_LOOK: Duration = Duration::from_millis(20);
