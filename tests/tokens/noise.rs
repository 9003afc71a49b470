//! Does noise ever do more than be refused? The seed is fixed; a failure names its round.

use crate::issuer::{ISSUER, Issuer, NOW_S, claims, now_at, rules};
use serde_json::json;
use std::sync::Arc;
use weirgate::base::IssuerId;
use weirgate::identity::{
    Algorithm, CertificateRules, KeySet, KeySnapshot, Profile, Verifier, from_certificate,
};

struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// `bytes` with one to four bytes changed, added, dropped or doubled.
    fn hurt(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let place = self.below(bytes.len());
            match self.below(5) {
                0 => bytes[place] ^= 1 << self.below(8),
                1 => bytes[place] = self.below(256) as u8,
                2 => bytes.insert(place, b"\"{}[],:\\0"[self.below(9)]),
                3 => drop(bytes.remove(place)),
                _ => {
                    let end = (place + 1 + self.below(40)).min(bytes.len());
                    let copy = bytes[place..end].to_vec();
                    bytes.splice(place..place, copy);
                }
            }
        }
        bytes
    }
}

#[test]
fn changed_tokens_are_refused() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068)]);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}).to_string();
    let token = issuer.sign(Algorithm::EdDsa, &header, &claims().to_string());
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    for round in 0..4_000 {
        let hurt = noise.hurt(token.as_bytes());
        let accepted = verifier.verify(&hurt, &keys, now_at(NOW_S)).is_ok();
        assert!(!accepted || hurt == token.as_bytes(), "round {round}");
        assert!(verifier.inspect(&hurt, &keys, now_at(NOW_S)).len() >= 2);
    }
}

#[test]
fn signed_noise_never_names_another_issuer_or_outlives_its_time() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let verifier = Verifier::new(vec![rules(Profile::OidcAccess)]);
    let mut own = claims();
    own["act"] = json!({"sub": "agent", "act": {"sub": "app"}});
    own["cnf"] = json!({"x5t#S256": crate::issuer::encode([7; 32])});
    let text = own.to_string();
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for round in 0..4_000 {
        let hurt = String::from_utf8_lossy(&noise.hurt(text.as_bytes())).into_owned();
        let token =
            issuer.sign(Algorithm::EdDsa, r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#, &hurt);
        let found = verifier.verify_bound(token.as_bytes(), &keys, now_at(NOW_S), Some(&[7; 32]));
        let Ok(principal) = found else { continue };
        accepted += 1;
        assert_eq!(principal.iss(), ISSUER, "round {round}");
        assert!(principal.valid_until_s() > NOW_S, "round {round}");
        assert!(!principal.sub().is_empty() && principal.actors().len() <= 4, "round {round}");
        assert!(principal.sub().chars().all(|c| !c.is_control()), "round {round}");
    }
    assert!(accepted > 100, "enough noise leaves a sound token: {accepted}");
}

#[test]
fn noisy_key_sets_and_certificates_do_no_harm() {
    let issuer = Issuer::new();
    let jwks = issuer.jwks().to_string();
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068)]);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}).to_string();
    let token = issuer.sign(Algorithm::EdDsa, &header, &claims().to_string());
    let stranger = Issuer::new().sign(Algorithm::EdDsa, &header, &claims().to_string());
    let certificate = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]);
    let der = certificate.expect("a certificate").cert.der().to_vec();
    let authority =
        CertificateRules { issuer: IssuerId(0), iss: "mtls".to_owned(), trust_domain: None };
    let mut noise = Noise(0xdead_beef_cafe_f00d);
    for round in 0..4_000 {
        if let Ok((set, _)) = KeySet::from_jwks(&noise.hurt(jwks.as_bytes())) {
            assert!(!set.is_empty() && set.len() <= 4, "round {round}");
            let keys = KeySnapshot { generation: 1, sets: vec![Some(Arc::new(set))] };
            let _ = verifier.verify(token.as_bytes(), &keys, now_at(NOW_S));
            let forged = verifier.verify(stranger.as_bytes(), &keys, now_at(NOW_S));
            assert!(forged.is_err(), "round {round}");
        }
        if let Ok(principal) = from_certificate(&authority, &noise.hurt(&der), now_at(NOW_S)) {
            assert!(principal.sub().bytes().all(|b| b.is_ascii_graphic()), "round {round}");
        }
    }
}
