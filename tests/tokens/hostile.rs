//! Is every hostile token refused, and for the right reason?

use crate::issuer::{
    AUDIENCE, ISSUER, Issuer, NOW_S, check, claims, encode, now_at, rules, snapshot_of,
};
use serde_json::{Value, json};
use weirgate::identity::{
    Algorithm, IssuerRules, KeySnapshot, Principal, Profile, TokenError, Verifier,
};

struct Bench {
    issuer: Issuer,
    keys: KeySnapshot,
}

impl Bench {
    fn new() -> Self {
        let issuer = Issuer::new();
        let keys = issuer.snapshot();
        Self { issuer, keys }
    }

    fn check(&self, token: &str) -> Result<Principal, TokenError> {
        check(rules(Profile::Rfc9068), &self.keys, token)
    }

    /// A signed token whose claims or header were changed is refused with `label`.
    #[track_caller]
    fn refuses(&self, label: &str, change: impl FnOnce(&mut Value, &mut Value)) {
        let token = self.issuer.token(change);
        let error = self.check(&token).expect_err(label);
        assert_eq!(error.label(), label, "{error}");
    }

    /// A signed token with these very texts is refused with `label`.
    #[track_caller]
    fn refuses_text(&self, label: &str, header: &str, claims: &str) {
        let token = self.issuer.sign(Algorithm::Rs256, header, claims);
        let error = self.check(&token).expect_err(label);
        assert_eq!(error.label(), label, "{error}");
    }

    #[track_caller]
    fn refuses_raw(&self, label: &str, token: &str) {
        let error = self.check(token).expect_err(label);
        assert_eq!(error.label(), label, "{error}");
    }
}

const HEADER: &str = r#"{"alg":"RS256","typ":"at+jwt","kid":"rsa"}"#;

/// Sound claims as text with `more` members.
fn claims_with(more: &str) -> String {
    let claims = claims().to_string();
    format!("{},{more}}}", claims.trim_end_matches('}'))
}

#[test]
fn the_bench_accepts_what_is_sound() {
    let bench = Bench::new();
    assert!(bench.check(&bench.issuer.token(|_, _| {})).is_ok());
    let token = bench.issuer.sign(Algorithm::Rs256, HEADER, &claims_with(r#""x":1"#));
    assert!(bench.check(&token).is_ok());
}

#[test]
fn broken_forms_are_refused() {
    let bench = Bench::new();
    let token = bench.issuer.token(|_, _| {});
    let parts: Vec<&str> = token.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    bench.refuses_raw("segments", "");
    bench.refuses_raw("segments", "placeholder");
    bench.refuses_raw("segments", "sk-not-a-token-at-all");
    bench.refuses_raw("segments", "..");
    bench.refuses_raw("segments", &format!("{header}.{body}"));
    bench.refuses_raw("segments", &format!("{header}.{body}."));
    bench.refuses_raw("segments", &format!("{token}.{signature}"));
    bench.refuses_raw("segments", &format!("{header}.{body}.{signature}.{body}.{signature}"));
    bench.refuses_raw("encoding", &format!(" {token}"));
    bench.refuses_raw("encoding", &format!("Bearer {token}"));
    bench.refuses_raw("encoding", &format!("{token}="));
    bench.refuses_raw("encoding", &format!("{token}\n"));
    bench.refuses_raw("encoding", &format!("{header}=.{body}.{signature}"));
    bench.refuses_raw("encoding", &format!("{header}.{body}==.{signature}"));
    bench.refuses_raw("encoding", &format!("{header}.{body}.+/{}", &signature[2..]));
    bench.refuses_raw("encoding", &format!("{header}\u{e9}.{body}.{signature}"));
    bench.refuses_raw("encoding", &format!("{header}\0.{body}.{signature}"));
    bench.refuses_raw("too_long", &format!("{token}{}", "A".repeat(16 << 10)));
    bench.refuses_raw("too_long", &bench.issuer.token(|_, c| c["x"] = json!("a".repeat(17_000))));
}

#[test]
fn a_second_encoding_of_a_good_signature_is_refused() {
    // 256 bytes leave unused bits in the last character; the canonical one has them zero.
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bench = Bench::new();
    let token = bench.issuer.token(|_, _| {});
    let last = ALPHABET.find(token.chars().last().expect("one")).expect("base64url");
    for other in 1..16 {
        let twin = ALPHABET.as_bytes()[last ^ other] as char;
        bench.refuses_raw("encoding", &format!("{}{twin}", &token[..token.len() - 1]));
    }
}

#[test]
fn signatures_that_are_not_the_keys_are_refused() {
    let bench = Bench::new();
    let token = bench.issuer.token(|_, _| {});
    let other = bench.issuer.token(|_, c| c["sub"] = json!("bob"));
    let (signed, signature) = token.rsplit_once('.').expect("dots");
    let (other_signed, other_signature) = other.rsplit_once('.').expect("dots");
    bench.refuses_raw("signature", &format!("{signed}.{other_signature}"));
    bench.refuses_raw("signature", &format!("{other_signed}.{signature}"));
    bench.refuses_raw("signature", &format!("{signed}.{}", encode([0; 256])));
    bench.refuses_raw("signature", &format!("{signed}.{}", encode([0xff; 256])));
    bench.refuses_raw("signature", &format!("{signed}.{}", encode([0; 1])));
    bench.refuses_raw("signature", &format!("{signed}.{}", &signature[..340]));
    // An ECDSA signature of zeros (CVE-2022-21449), and one in DER.
    let header = r#"{"alg":"ES256","typ":"at+jwt","kid":"p256"}"#;
    let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
    bench.refuses_raw("signature", &format!("{signed}.{}", encode([0; 64])));
    let good = bench.issuer.signature(Algorithm::Es256, signed.as_bytes());
    let number = |bytes: &[u8]| [&[2, 33, 0][..], bytes].concat();
    let der = [&[0x30, 70][..], &number(&good[..32]), &number(&good[32..])].concat();
    bench.refuses_raw("signature", &format!("{signed}.{}", encode(der)));
    // Ed25519 with all zeros.
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#;
    let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
    bench.refuses_raw("signature", &format!("{signed}.{}", encode([0; 64])));
}

#[test]
fn no_algorithm_and_swapped_families_are_refused() {
    let bench = Bench::new();
    for name in ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS256", "HS384", "HS512"] {
        bench.refuses("algorithm", |header, _| header["alg"] = json!(name));
    }
    for name in ["ES256K", "ES512", "Ed448", "RS1", "RSA-OAEP", "dir", "A128KW"] {
        bench.refuses("algorithm", |header, _| header["alg"] = json!(name));
    }
    bench.refuses("header_field", |header, _| header["alg"] = json!(null));
    bench.refuses("header_field", |header, _| header["alg"] = json!(["RS256"]));
    bench.refuses("header_field", |header, _| header["alg"] = json!({"RS256": 1}));
    bench.refuses_text("algorithm", r#"{"typ":"at+jwt","kid":"rsa"}"#, &claims().to_string());
    // HS256 keyed with the RSA key's public modulus, as a confused verifier would check it.
    let modulus = bench.issuer.jwks()["keys"][0]["n"].to_string();
    let header = r#"{"alg":"HS256","typ":"at+jwt","kid":"rsa"}"#;
    let signed = format!("{}.{}", encode(header), encode(claims().to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, modulus.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    bench.refuses_raw("algorithm", &format!("{signed}.{}", encode(tag)));
    // A PSS signature shown as PKCS #1, and a key of another curve.
    let token = bench.issuer.sign(Algorithm::Ps256, HEADER, &claims().to_string());
    bench.refuses_raw("signature", &token);
    bench.refuses("key_mismatch", |header, _| header["kid"] = json!("p256"));
    bench.refuses("key_mismatch", |header, _| header["kid"] = json!("ed"));
}

#[test]
fn key_names_mean_something_in_the_issuers_set_only() {
    let bench = Bench::new();
    bench.refuses("unknown_key", |header, _| header["kid"] = json!("rsa2"));
    bench.refuses("unknown_key", |header, _| header["kid"] = json!("RSA"));
    bench.refuses("unknown_key", |header, _| header["kid"] = json!("../../../dev/null"));
    bench.refuses("unknown_key", |header, _| header["kid"] = json!("' OR 1=1 --"));
    bench.refuses("header_field", |header, _| header["kid"] = json!(""));
    bench.refuses("header_field", |header, _| header["kid"] = json!("rsa\0"));
    bench.refuses("header_field", |header, _| header["kid"] = json!(0));
    bench.refuses("header_field", |header, _| header["kid"] = json!(["rsa"]));
    bench.refuses("header_field", |header, _| header["kid"] = json!("k".repeat(257)));
    // Another issuer's key, named by the same word, is not taken.
    let other = Issuer::new();
    let mut second = rules(Profile::Rfc9068);
    second.issuer = "https://other.example.com".to_owned();
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068), second]);
    let header = r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#;
    let keys = KeySnapshot {
        generation: 1,
        sets: vec![bench.keys.sets[0].clone(), other.snapshot().sets[0].clone()],
    };
    let token = other.sign(Algorithm::EdDsa, header, &claims().to_string());
    let result = verifier.verify(token.as_bytes(), &keys, now_at(NOW_S));
    assert_eq!(result, Err(TokenError::Signature));
    let mut own = claims();
    own["iss"] = json!("https://other.example.com");
    let token = other.sign(Algorithm::EdDsa, header, &own.to_string());
    let principal = verifier.verify(token.as_bytes(), &keys, now_at(NOW_S)).expect("its own");
    assert_eq!(principal.issuer().index(), 1);
    // Without keys nothing is accepted.
    let none = KeySnapshot::default();
    let result = verifier.verify(token.as_bytes(), &none, now_at(NOW_S));
    assert_eq!(result.expect_err("no keys").label(), "no_keys");
}

#[test]
fn a_token_without_a_key_name_is_taken_only_when_one_key_can_be_meant() {
    let bench = Bench::new();
    let token = bench.issuer.token(|header, _| {
        header.as_object_mut().expect("an object").remove("kid");
    });
    assert!(bench.check(&token).is_ok());
    let mut jwks = bench.issuer.jwks();
    let mut twin = Issuer::new().jwks()["keys"][0].clone();
    twin["kid"] = json!("rsa-2");
    jwks["keys"].as_array_mut().expect("an array").push(twin);
    let result = check(rules(Profile::Rfc9068), &snapshot_of(&jwks), &token);
    assert_eq!(result, Err(TokenError::AmbiguousKey));
}

#[test]
fn keys_in_the_header_are_never_used() {
    let bench = Bench::new();
    let stranger = Issuer::new();
    let jwk = stranger.jwks()["keys"][3].clone();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://evil.example.com/jwks")),
        ("x5u", json!("https://evil.example.com/chain.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        let header = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "ed", name: value});
        let token = stranger.sign(Algorithm::EdDsa, &header.to_string(), &claims().to_string());
        bench.refuses_raw("signature", &token);
        // A sound token is not made worse by it, but it shows.
        let token = bench.issuer.sign(Algorithm::EdDsa, &header.to_string(), &claims().to_string());
        assert!(bench.check(&token).expect("its own key").carried_key());
    }
}

#[test]
fn header_extensions_are_refused() {
    let bench = Bench::new();
    bench.refuses("crit", |header, _| header["crit"] = json!(["b64"]));
    bench.refuses("crit", |header, _| header["crit"] = json!([]));
    bench.refuses("crit", |header, _| header["crit"] = json!(null));
    bench.refuses("crit", |header, _| header["crit"] = json!("exp"));
    bench.refuses("header_field", |header, _| header["b64"] = json!(false));
    bench.refuses("header_field", |header, _| header["zip"] = json!("DEF"));
    bench.refuses("header_field", |header, _| header["enc"] = json!("A256GCM"));
    bench.refuses("header_field", |header, _| header["typ"] = json!(1));
}

#[test]
fn json_that_two_readers_could_read_differently_is_refused() {
    let bench = Bench::new();
    let sound = claims().to_string();
    let claims = "claims_json";
    bench.refuses_text("header_json", r#"{"alg":"RS256","alg":"none"}"#, &sound);
    bench.refuses_text("header_json", r#"{"alg":"RS256","\u0061lg":"none"}"#, &sound);
    bench.refuses_text("header_json", r#"{"alg":"RS256","a":[[[[1]]]]}"#, &sound);
    bench.refuses_text("header_json", r#"["RS256"]"#, &sound);
    bench.refuses_text("header_json", &format!("{HEADER}{HEADER}"), &sound);
    bench.refuses_text("header_json", &format!("{HEADER}\0"), &sound);
    bench.refuses_text(claims, HEADER, "[]");
    bench.refuses_text(claims, HEADER, "null");
    bench.refuses_text(claims, HEADER, &format!("{sound} x"));
    bench.refuses_text(claims, HEADER, &format!("\u{feff}{sound}"));
    bench.refuses_text(claims, HEADER, &claims_with(r#""sub":"root""#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""s\u0075b":"root""#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""exp":9999999999"#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""x":{"y":[{"a":1,"a":2}]}"#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""x":"\ud800""#));
    bench.refuses_text(claims, HEADER, &claims_with("\"x\":\"a\tb\""));
    bench.refuses_text(claims, HEADER, &claims_with(r#""x":01"#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""x":NaN"#));
    bench.refuses_text(claims, HEADER, &claims_with(r#""x":1,"#));
    let deep = format!(r#""x":{}1{}"#, "[".repeat(200), "]".repeat(200));
    bench.refuses_text(claims, HEADER, &claims_with(&deep));
    let deep = format!(r#""x":{}1{}"#, r#"{"a":"#.repeat(1500), "}".repeat(1500));
    bench.refuses_text(claims, HEADER, &claims_with(&deep));
    // Bytes that are not UTF-8, signed.
    let signed = format!("{}.{}", encode(HEADER), encode(b"{\"iss\":\"\xff\"}"));
    let signature = bench.issuer.signature(Algorithm::Rs256, signed.as_bytes());
    bench.refuses_raw(claims, &format!("{signed}.{}", encode(signature)));
}

#[test]
fn claims_of_a_wrong_type_are_refused() {
    let bench = Bench::new();
    for wrong in [json!(1), json!(null), json!([]), json!({}), json!(true), json!("")] {
        for name in ["iss", "sub", "client_id", "jti"] {
            bench.refuses("claim_type", |_, claims| claims[name] = wrong.clone());
        }
    }
    bench.refuses("claim_type", |_, claims| claims["iss"] = json!([ISSUER]));
    bench.refuses("claim_type", |_, claims| claims["sub"] = json!(["alice"]));
    for wrong in [json!(1), json!(null), json!([]), json!({}), json!([1]), json!([AUDIENCE, null])]
    {
        bench.refuses("claim_type", |_, claims| claims["aud"] = wrong);
    }
    for wrong in [json!({"a": 1}), json!([["dev"]]), json!(7), json!(null)] {
        bench.refuses("claim_type", |_, claims| claims["groups"] = wrong);
    }
    for name in ["exp", "nbf", "iat"] {
        for wrong in [
            json!("1900000000"),
            json!(null),
            json!([1_900_000_000]),
            json!(1_900_000_000.5),
            json!(-1),
            json!(9_007_199_254_740_993_u64),
            json!(true),
        ] {
            bench.refuses("claim_type", |_, claims| claims[name] = wrong);
        }
        let sound = claims().to_string();
        let texts = sound.split(&format!("\"{name}\":")).collect::<Vec<_>>();
        let rest = texts[1].trim_start_matches(|c: char| c.is_ascii_digit());
        for wrong in ["1e10", "1.9E9", "1900000000.0", "-0", "18446744073709551616"] {
            let text = format!("{}\"{name}\":{wrong}{rest}", texts[0]);
            bench.refuses_text("claim_type", HEADER, &text);
        }
    }
}

#[test]
fn claims_that_are_missing_are_refused() {
    let bench = Bench::new();
    for name in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        bench.refuses("missing_claim", |_, claims| {
            claims.as_object_mut().expect("an object").remove(name);
        });
    }
}

#[test]
fn control_characters_in_names_are_refused() {
    let bench = Bench::new();
    for bad in ["alice\0", "\0", "alice\nroot", "alice\r", "a\u{7f}", "a\u{85}b", "\u{1b}[31m"] {
        for name in ["sub", "client_id"] {
            bench.refuses("control_character", |_, claims| claims[name] = json!(bad));
        }
        bench.refuses("control_character", |_, claims| claims["aud"] = json!([AUDIENCE, bad]));
        bench.refuses("control_character", |_, claims| claims["groups"] = json!(["dev", bad]));
    }
    let iss = format!("{ISSUER}\0");
    bench.refuses("control_character", |_, claims| claims["iss"] = json!(iss));
}

#[test]
fn issuers_and_audiences_match_byte_for_byte() {
    let bench = Bench::new();
    for wrong in [
        "https://evil.example.com",
        "https://id.example.com/realms/main/",
        "https://ID.example.com/realms/main",
        "http://id.example.com/realms/main",
        " https://id.example.com/realms/main",
        "https://id.example.com/realms/main#",
        "https://id.example.com:443/realms/main",
    ] {
        bench.refuses("unknown_issuer", |_, claims| claims["iss"] = json!(wrong));
    }
    for wrong in [
        json!("other"),
        json!(["other"]),
        json!(format!("{AUDIENCE}/")),
        json!(AUDIENCE.to_uppercase()),
        json!([format!("{AUDIENCE}.evil.com")]),
        json!(&AUDIENCE[..10]),
    ] {
        bench.refuses("audience", |_, claims| claims["aud"] = wrong);
    }
    let mut none = rules(Profile::Rfc9068);
    none.audience.clear();
    let token = bench.issuer.token(|_, _| {});
    assert_eq!(check(none, &bench.keys, &token), Err(TokenError::Audience));
    let mut blank = rules(Profile::Rfc9068);
    blank.audience = vec![String::new()];
    assert_eq!(check(blank, &bench.keys, &token), Err(TokenError::Audience));
}

#[test]
fn times_hold_to_the_second() {
    let bench = Bench::new();
    let token = bench.issuer.token(|_, _| {});
    let at = |rules: IssuerRules, seconds: u64| {
        let result =
            Verifier::new(vec![rules]).verify(token.as_bytes(), &bench.keys, now_at(seconds));
        result.err().map_or("ok", |error| error.label())
    };
    // exp is NOW + 600, nbf and iat are NOW - 60, skew is 30.
    let plain = || rules(Profile::Rfc9068);
    assert_eq!(at(plain(), NOW_S + 629), "ok");
    assert_eq!(at(plain(), NOW_S + 630), "expired");
    assert_eq!(at(plain(), NOW_S - 90), "ok");
    assert_eq!(at(plain(), NOW_S - 91), "not_yet_valid");
    let wide = IssuerRules { skew_s: 100_000, ..plain() };
    assert_eq!(at(wide.clone(), NOW_S + 719), "ok");
    assert_eq!(at(wide, NOW_S + 720), "expired");
    let young = IssuerRules { age_max_s: Some(300), ..plain() };
    assert_eq!(at(young.clone(), NOW_S + 269), "ok");
    assert_eq!(at(young, NOW_S + 270), "too_old");
    bench.refuses("issued_in_future", |_, claims| claims["iat"] = json!(NOW_S + 31));
    bench.refuses("not_yet_valid", |_, claims| claims["nbf"] = json!(NOW_S + 31));
    bench.refuses("expired", |_, claims| claims["exp"] = json!(0));
    bench.refuses("expired", |_, claims| claims["exp"] = json!(NOW_S - 30));
}

#[test]
fn other_parties_and_bindings_are_refused() {
    let bench = Bench::new();
    let token = bench.issuer.token(|_, _| {});
    let only =
        |client: &str| IssuerRules { clients: vec![client.to_owned()], ..rules(Profile::Rfc9068) };
    assert!(check(only("agent"), &bench.keys, &token).is_ok());
    assert_eq!(check(only("Agent"), &bench.keys, &token), Err(TokenError::Party));
    bench.refuses("party", |_, claims| claims["azp"] = json!("another"));
    bench.refuses("bound", |_, claims| claims["cnf"] = json!({"jkt": "abc"}));
    bench.refuses("bound", |_, claims| claims["cnf"] = json!({}));
    bench.refuses("bound", |_, claims| claims["cnf"] = json!({"x5t#S256": encode([7; 32])}));
    bench.refuses("actor", |_, claims| claims["act"] = json!("agent"));
    bench.refuses("actor", |_, claims| claims["act"] = json!({"sub": "alice"}));
    bench.refuses("actor", |_, claims| {
        claims["act"] = json!({"sub": "a", "act": {"sub": "b", "act": {"sub": "a"}}});
    });
}

#[test]
fn a_bound_token_needs_its_certificate() {
    let bench = Bench::new();
    let token =
        bench.issuer.token(|_, claims| claims["cnf"] = json!({"x5t#S256": encode([7; 32])}));
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068)]);
    let with = |print: Option<&[u8; 32]>| {
        verifier.verify_bound(token.as_bytes(), &bench.keys, now_at(NOW_S), print)
    };
    assert_eq!(with(Some(&[7; 32])).expect("its own").certificate(), Some(&[7; 32]));
    assert_eq!(with(Some(&[8; 32])), Err(TokenError::Bound));
    assert_eq!(with(None), Err(TokenError::Bound));
}

#[test]
fn tokens_made_for_another_use_are_refused() {
    let bench = Bench::new();
    for typ in ["JWT", "jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "at+jwt2", "JOSE"] {
        bench.refuses("profile", |header, _| header["typ"] = json!(typ));
    }
    bench.refuses("profile", |header, _| {
        header.as_object_mut().expect("an object").remove("typ");
    });
    bench.refuses("profile", |_, claims| {
        claims["events"] = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    });
    bench.refuses("profile", |_, claims| claims["kubernetes.io"] = json!({}));
}

#[test]
fn inspection_tells_what_fails_and_shows_nothing_of_the_token() {
    let bench = Bench::new();
    let verifier = Verifier::new(vec![rules(Profile::Rfc9068)]);
    let token = bench.issuer.token(|_, claims| {
        claims["aud"] = json!("secret-audience");
        claims["sub"] = json!("secret-subject");
        claims["exp"] = json!(NOW_S - 500);
    });
    let checks = verifier.inspect(token.as_bytes(), &bench.keys, now_at(NOW_S));
    let failed: Vec<&str> = checks.iter().filter(|c| !c.ok).map(|c| c.name).collect();
    assert_eq!(failed, ["times", "audience", "verdict"]);
    let text = format!("{checks:?}");
    assert!(!text.contains("secret"), "{text}");
    for part in token.split('.') {
        assert!(!text.contains(&part[..8]), "{text}");
    }
    let fits = checks.iter().find(|check| check.name == "fits profiles").expect("the line");
    assert_eq!(fits.detail, "rfc9068, oidc_access, mcp");
    let garbage = verifier.inspect(b"\xff.\0.x", &bench.keys, now_at(NOW_S));
    assert!(garbage.iter().skip(1).all(|check| !check.ok));
    let sound = bench.issuer.token(|_, _| {});
    let checks = verifier.inspect(sound.as_bytes(), &bench.keys, now_at(NOW_S));
    assert!(checks.iter().all(|check| check.ok), "{checks:?}");
}
