//! Who calls: tokens and certificates in, a [`Principal`] or a refusal out.
//!
//! Everything is a function of its inputs: control fetches key sets and publishes a
//! [`KeySnapshot`], a worker verifies against it and keeps what it found in a [`TokenCache`].
//! A step that cannot be decided is a refusal. What a caller hears is only that the token was not
//! accepted; [`TokenError::label`] is for counters and operators.
//!
//! Cost of a miss: two base64 decodes, two passes over JSON of about 1 KiB, one signature check
//! (24 us for RS256, 60 us for ES256), one SHA-256 of the token. Cost of a hit: one keyed hash and
//! one compare of the token's bytes.

mod algorithm;
mod answer;
mod cache;
mod certificate;
mod claims;
mod compact;
pub mod dev;
mod error;
mod inspect;
mod json;
mod jwk;
mod keys;
mod principal;
mod profile;
mod rules;
mod verify;

pub use algorithm::Algorithm;
pub use answer::Question;
pub use cache::{Cached, TokenCache};
pub use certificate::{CertificateRules, from_certificate};
pub use error::TokenError;
pub use inspect::Check;
pub use json::JsonFault;
pub use jwk::SkipReason;
pub use keys::{KeySet, KeySetError, KeySnapshot, Skipped};
pub use principal::Principal;
pub use profile::Profile;
pub use rules::{IssuerRules, RuleFault, SKEW_S_DEFAULT, SKEW_S_MAX, faults};
pub use verify::{TOKEN_LEN_MAX, Verifier};
