//! An issuer for the demo and for tests: one Ed25519 key, tokens of RFC 9068.
//!
//! It is no way to run a real issuer: the key is wherever the demo put it.

use super::compact::encode;
use super::verify::sha256;
use super::{Algorithm, IssuerRules, KeySet, KeySnapshot, Profile, SKEW_S_DEFAULT};
use crate::base::Secret;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use std::fmt;
use std::sync::Arc;

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DevKeyError {
    /// The system gave no random bytes.
    Random,
    /// Not a PKCS #8 document of an Ed25519 key.
    Document,
}

/// A signing key of a development issuer.
pub struct DevKey {
    pair: Ed25519KeyPair,
    document: Secret,
    kid: String,
}

/// What a minted token says.
#[derive(Clone, Debug, Default)]
pub struct DevClaims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audience: Vec<String>,
    /// `client_id`.
    pub client_id: String,
    /// `groups`; left out when empty.
    pub groups: Vec<String>,
    /// Chain of `act`, the last to act first.
    pub actors: Vec<String>,
    /// `iat`, in seconds since the epoch.
    pub issued_s: u64,
    /// Seconds from `iat` to `exp`.
    pub lifetime_s: u64,
}

impl DevKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`DevKeyError::Random`].
    pub fn generate() -> Result<Self, DevKeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        Self::from_pkcs8(document.map_err(|_| DevKeyError::Random)?.as_ref())
    }

    /// The key that [`Self::pkcs8`] wrote.
    ///
    /// # Errors
    /// [`DevKeyError::Document`].
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, DevKeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(document).map_err(|_| DevKeyError::Document)?;
        // The name is the key's thumbprint (RFC 7638, with the members of RFC 8037).
        let x = encode(pair.public_key().as_ref());
        let print = sha256(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#).as_bytes());
        Ok(Self { pair, document: Secret::new(document.to_vec()), kid: encode(&print) })
    }

    /// The private key as a PKCS #8 document.
    #[must_use]
    pub fn pkcs8(&self) -> &Secret {
        &self.document
    }

    /// The key's name.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half as a key set.
    #[must_use]
    pub fn jwks(&self) -> String {
        let x = encode(self.pair.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.kid, "x": x}]})
        .to_string()
    }

    /// A snapshot in which the key's set is that of issuer 0, the only one.
    #[must_use]
    pub fn snapshot(&self, generation: u64) -> KeySnapshot {
        let set = KeySet::from_jwks(self.jwks().as_bytes()).ok();
        KeySnapshot { generation, sets: vec![set.map(|(set, _)| Arc::new(set))] }
    }

    /// Rules under which what [`Self::mint`] writes is accepted, groups in `groups`.
    #[must_use]
    pub fn rules(name: &str, issuer: &str, audience: &str) -> IssuerRules {
        IssuerRules {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            audience: vec![audience.to_owned()],
            algorithms: vec![Algorithm::EdDsa],
            profile: Profile::Rfc9068,
            groups_claim: "groups".to_owned(),
            clients: Vec::new(),
            skew_s: SKEW_S_DEFAULT,
            age_max_s: None,
        }
    }

    /// A token of the profile `rfc9068`.
    #[must_use]
    pub fn mint(&self, claims: &DevClaims) -> String {
        let mut id = [0u8; 16];
        // `jti` only has to differ from token to token; the signature covers the rest.
        if SystemRandom::new().fill(&mut id).is_err() {
            let told = sha256(format!("{claims:?}").as_bytes());
            id.iter_mut().zip(told).for_each(|(to, from)| *to = from);
        }
        let mut body = json!({
            "iss": claims.issuer, "sub": claims.subject, "aud": claims.audience,
            "client_id": claims.client_id, "iat": claims.issued_s,
            "exp": claims.issued_s.saturating_add(claims.lifetime_s), "jti": encode(&id),
        });
        if let Some(body) = body.as_object_mut() {
            if !claims.groups.is_empty() {
                body.insert("groups".to_owned(), json!(claims.groups));
            }
            let chain = claims.actors.iter().rev().fold(None, |inner: Option<Value>, actor| {
                Some(match inner {
                    Some(inner) => json!({"sub": actor, "act": inner}),
                    None => json!({"sub": actor}),
                })
            });
            if let Some(chain) = chain {
                body.insert("act".to_owned(), chain);
            }
        }
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid});
        self.sign(&header.to_string(), &body.to_string())
    }

    /// Signs any header and claims as they stand, sound or not.
    #[must_use]
    pub fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature.as_ref()))
    }
}

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}
