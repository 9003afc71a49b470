//! The ID token that answers a sign-in (OpenID Connect Core 1.0, section 3.1.3.7).

use super::TokenError;
use super::algorithm::Algorithm;
use super::claims;
use super::compact::{self, Compact};
use super::json::{Doc, Duplicates};
use super::keys::KeySnapshot;
use super::principal::Principal;
use super::profile::Profile;
use super::rules::IssuerRules;
use super::verify::{CLAIMS_DEPTH_MAX, Header, Verifier};
use crate::base::{IssuerId, Now};
use ring::digest::{self, SHA256, SHA384, SHA512};

/// To what an ID token must be the answer.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// `nonce`, as it was sent along.
    pub nonce: &'a str,
    /// The access token that came with it, which `at_hash` is about where there is one.
    pub access_token: Option<&'a [u8]>,
}

impl Verifier {
    /// A verifier of the ID tokens that `issuer` gives out to `client_id`, and of nothing else:
    /// no token that a caller may show is one of these, and none of these is a caller's. Groups
    /// are read where `groups` says so.
    #[must_use]
    pub fn of_id_tokens(&self, issuer: IssuerId, client_id: &str, groups: bool) -> Self {
        let of = |rules: &IssuerRules, audience: Vec<String>| IssuerRules {
            profile: Profile::IdToken,
            clients: audience.clone(),
            audience,
            groups_claim: if groups { rules.groups_claim.clone() } else { String::new() },
            ..rules.clone()
        };
        let rules = self.rules().iter().enumerate().map(|(place, rules)| {
            let wanted = place == issuer.index();
            of(rules, if wanted { vec![client_id.to_owned()] } else { Vec::new() })
        });
        Self::new(rules.collect()).with_token_max(self.token_max)
    }

    /// Checks an ID token, and that it is the answer to `question`.
    ///
    /// # Errors
    /// The first step that fails; [`TokenError::Answer`] for a token that answers another sign-in.
    pub fn verify_answer(
        &self,
        token: &[u8],
        keys: &KeySnapshot,
        now: Now,
        question: Question<'_>,
    ) -> Result<Principal, TokenError> {
        let principal = self.verify(token, keys, now)?;
        // It is the issuer's: what only a sign-in asks of it is read once more.
        let compact = Compact::split(token, self.token_max)?;
        let algorithm = Header::read(&compact.header()?)?.algorithm;
        let bytes = compact.claims()?;
        let doc = Doc::parse(&bytes, CLAIMS_DEPTH_MAX, Duplicates::Refuse)
            .map_err(TokenError::ClaimsJson)?;
        let root = doc.root();
        if claims::required(root, "nonce")? != question.nonce {
            return Err(TokenError::Answer("nonce"));
        }
        let hash = claims::text(root, "at_hash")?;
        if let (Some(hash), Some(access)) = (hash, question.access_token)
            && hash != half_hash(algorithm, access)
        {
            return Err(TokenError::Answer("at_hash"));
        }
        Ok(principal)
    }
}

/// The left half of the hash that belongs to the signature's algorithm.
fn half_hash(algorithm: Algorithm, token: &[u8]) -> String {
    let hash = match algorithm {
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 => &SHA256,
        Algorithm::Rs384 | Algorithm::Ps384 | Algorithm::Es384 => &SHA384,
        // Ed25519 signs by SHA-512.
        Algorithm::Rs512 | Algorithm::Ps512 | Algorithm::EdDsa => &SHA512,
    };
    let whole = digest::digest(hash, token);
    let half = whole.as_ref().len() / 2;
    compact::encode(whole.as_ref().get(..half).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::identity::dev::DevKey;
    use serde_json::{Value, json};

    const NOW_S: u64 = 1_800_000_000;
    const ISSUER: IssuerId = IssuerId(0);

    fn verify(change: impl FnOnce(&mut Value)) -> Result<Principal, TokenError> {
        let key = DevKey::generate().unwrap();
        let mut claims = json!({"iss": "iss", "sub": "ana", "aud": "page", "iat": NOW_S,
            "exp": NOW_S + 60, "nonce": "n-1", "groups": ["dba"],
            "at_hash": half_hash(Algorithm::EdDsa, b"access")});
        change(&mut claims);
        let header = json!({"alg": "EdDSA", "kid": key.kid()}).to_string();
        let token = key.sign(&header, &claims.to_string());
        let bearer = Verifier::new(vec![DevKey::rules("dev", "iss", "gate")]);
        let now = Now { mono_ns: 0, wall_ns: NOW_S * 1_000_000_000 };
        let keys = key.snapshot(1);
        assert!(bearer.verify(token.as_bytes(), &keys, now).is_err(), "no caller shows one");
        let question = Question { nonce: "n-1", access_token: Some(b"access") };
        let verifier = bearer.of_id_tokens(ISSUER, "page", true);
        verifier.verify_answer(token.as_bytes(), &keys, now, question)
    }

    #[test]
    fn an_id_token_counts_for_its_client_and_its_question_only() {
        let principal = verify(|_| ()).unwrap();
        assert_eq!((principal.sub(), principal.groups().len()), ("ana", 1));
        let without = verify(|claims| drop(claims.as_object_mut().unwrap().remove("at_hash")));
        assert!(without.is_ok(), "at_hash may be left out");
        let two = json!(["page", "other"]);
        for (name, value, wanted) in [
            ("nonce", json!("n-2"), TokenError::Answer("nonce")),
            ("nonce", json!(7), TokenError::ClaimType("nonce")),
            ("at_hash", json!("AAAA"), TokenError::Answer("at_hash")),
            ("aud", json!("gate"), TokenError::Audience),
            ("aud", json!("other"), TokenError::Audience),
            ("aud", two.clone(), TokenError::MissingClaim("azp")),
            ("azp", json!("other"), TokenError::Party),
            ("exp", json!(NOW_S - 60), TokenError::Expired),
            ("scope", json!("openid"), TokenError::Profile("scope")),
            ("iss", json!("else"), TokenError::UnknownIssuer),
        ] {
            let found = verify(|claims| {
                claims.as_object_mut().unwrap().insert(name.to_owned(), value.clone());
            });
            assert_eq!(found.unwrap_err(), wanted, "{name} {value}");
        }
        let missing = verify(|claims| drop(claims.as_object_mut().unwrap().remove("nonce")));
        assert_eq!(missing.unwrap_err(), TokenError::MissingClaim("nonce"));
        let named = verify(|claims| {
            let members = claims.as_object_mut().unwrap();
            members.insert("aud".to_owned(), two);
            members.insert("azp".to_owned(), json!("page"));
        });
        assert!(named.is_ok());
    }

    #[test]
    fn an_access_token_answers_nothing() {
        let key = DevKey::generate().unwrap();
        let claims = json!({"iss": "iss", "sub": "ana", "aud": "page", "iat": NOW_S,
            "exp": NOW_S + 60, "nonce": "n", "jti": "1"});
        let header = json!({"alg": "EdDSA", "kid": key.kid(), "typ": "at+jwt"}).to_string();
        let token = key.sign(&header, &claims.to_string());
        let verifier = Verifier::new(vec![DevKey::rules("dev", "iss", "gate")]);
        let verifier = verifier.of_id_tokens(ISSUER, "page", false);
        let now = Now { mono_ns: 0, wall_ns: NOW_S * 1_000_000_000 };
        let question = Question { nonce: "n", access_token: None };
        let found = verifier.verify_answer(token.as_bytes(), &key.snapshot(1), now, question);
        assert_eq!(found.unwrap_err(), TokenError::Profile("typ"));
    }

    #[test]
    fn the_hash_of_a_token_is_that_of_the_standard() {
        // OpenID Connect Core 1.0, appendix A.3.
        let token = b"jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(half_hash(Algorithm::Rs256, token), "77QmUPtjPfzWtF2AnpK9RQ");
    }
}
