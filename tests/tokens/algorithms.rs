//! Is a token of every allowed algorithm accepted with a real key, and with that key only?

use crate::issuer::{AUDIENCE, ISSUER, Issuer, NOW_S, check, claims, encode, now_at, rules};
use serde_json::json;
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::identity::{Algorithm, KeySet, KeySnapshot, Profile, TokenError, Verifier};

#[test]
fn every_algorithm_is_accepted_with_its_key() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    for algorithm in Algorithm::ALL {
        let header =
            json!({"alg": algorithm.name(), "typ": "at+jwt", "kid": Issuer::kid(algorithm)});
        let token = issuer.sign(algorithm, &header.to_string(), &claims().to_string());
        let principal = check(rules(Profile::Rfc9068), &keys, &token);
        let principal = principal.unwrap_or_else(|error| panic!("{algorithm:?}: {error}"));
        assert_eq!((principal.iss(), principal.sub()), (ISSUER, "alice"));
        assert_eq!(principal.client_id(), Some("agent"));
        assert_eq!(principal.groups(), ["dev".into(), "ops".into()]);
        assert_eq!(principal.expires_s(), NOW_S + 600);
        assert_eq!(principal.valid_until_s(), NOW_S + 630);
        assert_eq!(principal.actors().len(), 0);
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        assert_eq!(principal.token_digest(), digest.as_ref());
    }
}

#[test]
fn an_algorithm_off_the_list_is_refused_though_the_signature_is_good() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    for algorithm in Algorithm::ALL {
        let header =
            json!({"alg": algorithm.name(), "typ": "at+jwt", "kid": Issuer::kid(algorithm)});
        let token = issuer.sign(algorithm, &header.to_string(), &claims().to_string());
        let mut rules = rules(Profile::Rfc9068);
        rules.algorithms.retain(|allowed| *allowed != algorithm);
        assert_eq!(check(rules, &keys, &token), Err(TokenError::Algorithm));
    }
}

#[test]
fn no_key_and_no_algorithm_stand_in_for_another() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    for signed in Algorithm::ALL {
        for said in Algorithm::ALL {
            for kid in ["rsa", "p256", "p384", "ed"] {
                let header = json!({"alg": said.name(), "typ": "at+jwt", "kid": kid});
                let token = issuer.sign(signed, &header.to_string(), &claims().to_string());
                let result = check(rules(Profile::Rfc9068), &keys, &token);
                let sound = signed == said && kid == Issuer::kid(signed);
                assert_eq!(result.is_ok(), sound, "{signed:?} as {said:?} with {kid}");
                if let Err(error) = result {
                    assert!(matches!(error.label(), "signature" | "key_mismatch"), "{error}");
                }
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_token_is_refused() {
    let issuer = Issuer::new();
    let keys = issuer.snapshot();
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068)]);
    let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed"}).to_string();
    let token = issuer.sign(Algorithm::EdDsa, &header, &claims().to_string()).into_bytes();
    assert!(verifier.verify(&token, &keys, now_at(NOW_S)).is_ok());
    for place in 0..token.len() {
        for bit in 0..8 {
            let mut hurt = token.clone();
            hurt[place] ^= 1 << bit;
            assert!(verifier.verify(&hurt, &keys, now_at(NOW_S)).is_err(), "{place}.{bit}");
        }
        assert!(verifier.verify(&token[..place], &keys, now_at(NOW_S)).is_err(), "{place}");
    }
}

#[test]
fn a_development_token_is_accepted_and_its_key_comes_back() {
    let key = DevKey::generate().expect("random bytes");
    let again = DevKey::from_pkcs8(key.pkcs8().expose()).expect("its own document");
    assert_eq!(key.jwks(), again.jwks());
    let (set, skipped) = KeySet::from_jwks(key.jwks().as_bytes()).expect("a key set");
    assert!(skipped.is_empty() && set.has_kid(key.kid()));
    let keys = KeySnapshot { generation: 1, sets: vec![Some(std::sync::Arc::new(set))] };
    let minted = DevClaims {
        issuer: ISSUER.to_owned(),
        subject: "alice \"x\" \u{e9}".to_owned(),
        audience: vec![AUDIENCE.to_owned()],
        client_id: "demo".to_owned(),
        groups: vec!["dev".to_owned()],
        actors: vec!["agent".to_owned(), "app".to_owned()],
        issued_s: NOW_S,
        lifetime_s: 300,
    };
    let token = again.mint(&minted);
    let principal = check(rules(Profile::Rfc9068), &keys, &token).expect("a sound token");
    assert_eq!(principal.sub(), "alice \"x\" \u{e9}");
    assert_eq!(principal.actors().collect::<Vec<_>>(), ["agent", "app"]);
    assert_ne!(key.mint(&minted), token);
    let secret = encode(key.pkcs8().expose());
    assert!(!format!("{key:?}").contains(&secret[..8]));
}
