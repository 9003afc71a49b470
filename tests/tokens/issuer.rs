//! A test issuer with a key of every kind, and the rules and snapshot to check its tokens with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use serde_json::{Value, json};
use std::sync::Arc;
use weirgate::base::Now;
use weirgate::identity::{
    Algorithm, IssuerRules, KeySet, KeySnapshot, Principal, Profile, TokenError, Verifier,
};

pub(crate) const ISSUER: &str = "https://id.example.com/realms/main";
pub(crate) const AUDIENCE: &str = "https://gate.example.com";
pub(crate) const NOW_S: u64 = 1_800_000_000;

pub(crate) fn now_at(seconds: u64) -> Now {
    Now { mono_ns: 1, wall_ns: seconds * 1_000_000_000 }
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) struct Issuer {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let random = SystemRandom::new();
        let ec = |kind| {
            let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
            EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key")
        };
        let ed = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        Self {
            rsa: RsaKeyPair::from_pkcs8(include_bytes!("../data/rsa2048-test-key.pk8"))
                .expect("the test key"),
            p256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).expect("a key"),
        }
    }

    pub(crate) fn jwks(&self) -> Value {
        let rsa: PublicKeyComponents<Vec<u8>> = self.rsa.public().into();
        let point = |pair: &EcdsaKeyPair, len: usize| {
            let point = pair.public_key().as_ref().to_vec();
            (encode(&point[1..=len]), encode(&point[1 + len..]))
        };
        let (x256, y256) = point(&self.p256, 32);
        let (x384, y384) = point(&self.p384, 48);
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": encode(&rsa.n), "e": encode(&rsa.e),
                "x5c": ["MIIB"], "x5t": "abc"},
            {"kty": "EC", "crv": "P-256", "kid": "p256", "x": x256, "y": y256},
            {"kty": "EC", "crv": "P-384", "kid": "p384", "alg": "ES384", "x": x384, "y": y384},
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "use": "sig",
                "x": encode(self.ed.public_key().as_ref())},
        ]})
    }

    pub(crate) fn snapshot(&self) -> KeySnapshot {
        snapshot_of(&self.jwks())
    }

    /// The name of the key that `algorithm` goes with.
    pub(crate) fn kid(algorithm: Algorithm) -> &'static str {
        match algorithm {
            Algorithm::Es256 => "p256",
            Algorithm::Es384 => "p384",
            Algorithm::EdDsa => "ed",
            _ => "rsa",
        }
    }

    pub(crate) fn signature(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &random, message, &mut signature).expect("a signature");
            signature
        };
        let ec = |pair: &EcdsaKeyPair| {
            pair.sign(&random, message).expect("a signature").as_ref().to_vec()
        };
        match algorithm {
            Algorithm::Rs256 => rsa(&RSA_PKCS1_SHA256),
            Algorithm::Rs384 => rsa(&RSA_PKCS1_SHA384),
            Algorithm::Rs512 => rsa(&RSA_PKCS1_SHA512),
            Algorithm::Ps256 => rsa(&RSA_PSS_SHA256),
            Algorithm::Ps384 => rsa(&RSA_PSS_SHA384),
            Algorithm::Ps512 => rsa(&RSA_PSS_SHA512),
            Algorithm::Es256 => ec(&self.p256),
            Algorithm::Es384 => ec(&self.p384),
            Algorithm::EdDsa => self.ed.sign(message).as_ref().to_vec(),
        }
    }

    /// Signs header and claims as they stand.
    pub(crate) fn sign(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.signature(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// A sound RS256 token of RFC 9068 after `change` has had a go at it.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({"alg": "RS256", "typ": "at+jwt", "kid": "rsa"});
        let mut claims = claims();
        change(&mut header, &mut claims);
        self.sign(Algorithm::Rs256, &header.to_string(), &claims.to_string())
    }
}

pub(crate) fn snapshot_of(jwks: &Value) -> KeySnapshot {
    let (set, skipped) = KeySet::from_jwks(jwks.to_string().as_bytes()).expect("a key set");
    assert!(skipped.is_empty(), "{skipped:?}");
    KeySnapshot { generation: 1, sets: vec![Some(Arc::new(set))] }
}

pub(crate) fn claims() -> Value {
    json!({"iss": ISSUER, "aud": [AUDIENCE, "other"], "sub": "alice", "client_id": "agent",
        "iat": NOW_S - 60, "nbf": NOW_S - 60, "exp": NOW_S + 600, "jti": "j-1",
        "groups": ["dev", "ops"]})
}

pub(crate) fn rules(profile: Profile) -> IssuerRules {
    IssuerRules {
        name: "main".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: vec![AUDIENCE.to_owned()],
        algorithms: Algorithm::ALL.to_vec(),
        profile,
        groups_claim: "groups".to_owned(),
        clients: Vec::new(),
        skew_s: 30,
        age_max_s: None,
    }
}

pub(crate) fn check(
    rules: IssuerRules,
    keys: &KeySnapshot,
    token: &str,
) -> Result<Principal, TokenError> {
    Verifier::new(vec![rules]).verify(token.as_bytes(), keys, now_at(NOW_S))
}
