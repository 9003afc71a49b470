//! What the tests of sign-in share.

use super::oidc::Settings;
use crate::base::Now;
use crate::control::admin::Person;
use crate::policy::approval::Party;
use std::sync::Arc;

/// A moment, by both clocks.
pub(in crate::control::admin) fn at(seconds: u64) -> Now {
    Now { mono_ns: seconds * 1_000_000_000, wall_ns: seconds * 1_000_000_000 }
}

/// A public client of `issuer`.
pub(in crate::control::admin) fn settings(issuer: &str) -> Settings {
    Settings {
        issuer: issuer.to_owned(),
        client_id: "page".to_owned(),
        client_secret: None,
        scope: "openid".to_owned(),
        by_access_token: true,
        resource: None,
    }
}

/// A person of issuer `i`.
pub(in crate::control::admin) fn person(sub: &str, expires_s: u64) -> Person {
    let none = || [].into();
    let party =
        Party { iss: "i".into(), sub: sub.into(), client_id: None, actors: none(), groups: none() };
    Person { party: Arc::new(party), viewer: true, expires_s }
}
