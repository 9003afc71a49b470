//! Tokens: `verify` and `inspect` agree on any bytes, and what is accepted says what the rules ask.
//!
//! First byte: `r` the rest is a token; `s` a header and claims, with a line end between, are
//! signed first; `j` a key set; `x` a certificate.

use super::cuts;
use std::sync::OnceLock;
use weirgate::base::{IssuerId, Now};
use weirgate::identity::dev::DevKey;
use weirgate::identity::{
    CertificateRules, IssuerRules, KeySet, KeySnapshot, Profile, Verifier, from_certificate,
};

/// Time of every check, in seconds.
pub const NOW_S: u64 = 1_800_000_000;
/// The issuer of every sound token.
pub const ISSUER: &str = "https://idp.test";

/// That time as both clocks read it.
#[must_use]
pub fn now() -> Now {
    Now { mono_ns: 1, wall_ns: NOW_S * 1_000_000_000 }
}

/// The key of RFC 8032, section 7.1, test 1, as PKCS #8 (RFC 8410): no secret.
#[must_use]
pub fn key() -> DevKey {
    const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let document = format!("3051020101300506032b657004220420{SEED}812100{PUBLIC}");
    let pair =
        |at: usize| document.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let document: Vec<u8> = (0..document.len()).step_by(2).filter_map(pair).collect();
    DevKey::from_pkcs8(&document).expect("a key of the RFC")
}

struct Kit {
    key: DevKey,
    keys: KeySnapshot,
    verifiers: Vec<Verifier>,
}

fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let key = key();
        let profiles = ["rfc9068", "oidc_access", "id_token", "k8s_sa", "github_actions", "mcp"];
        let verifier = |name: &&str| {
            let profile = Profile::parse(name).expect("a profile");
            let sound = DevKey::rules("corp", ISSUER, "weirgate");
            Verifier::new(vec![IssuerRules { profile, ..sound }])
        };
        let keys = key.snapshot(1);
        Kit { keys, verifiers: profiles.iter().map(verifier).collect(), key }
    })
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, rest)) = cuts::mode(data) else { return };
    match mode {
        b'j' => key_set(rest),
        b'x' => certificate(rest),
        b's' => {
            let text = String::from_utf8_lossy(rest);
            let (header, claims) = text.split_once('\n').unwrap_or((&text, "{}"));
            let token = kit().key.sign(header, claims);
            check(token.as_bytes(), Some(claims));
        }
        _ => check(rest, None),
    }
}

fn check(token: &[u8], signed: Option<&str>) {
    for verifier in &kit().verifiers {
        let verdict = verifier.verify(token, &kit().keys, now());
        let checks = verifier.inspect(token, &kit().keys, now());
        let last = checks.last().expect("a verdict");
        assert_eq!((last.name, last.ok), ("verdict", verdict.is_ok()));
        if verdict.is_ok() {
            assert!(
                checks.iter().all(|check| check.ok),
                "accepted with a failed check: {checks:?}"
            );
        }
        let Ok(principal) = verdict else { continue };
        assert_eq!(principal.issuer(), IssuerId(0));
        assert_eq!(principal.iss(), ISSUER);
        assert!(!principal.sub().is_empty());
        assert!(principal.valid_until_s() + 120 >= NOW_S, "it is over");
        // Nobody has the key but `s`; a raw token that holds was signed before.
        let Some(claims) = signed else { continue };
        let claims: serde_json::Value = serde_json::from_str(claims).expect("accepted claims");
        assert_eq!(claims.get("iss").and_then(|iss| iss.as_str()), Some(ISSUER));
        let audience = claims.get("aud").expect("an audience").to_string();
        assert!(audience.contains("weirgate"), "{audience}");
        let expires = claims.get("exp").and_then(serde_json::Value::as_f64).expect("an expiry");
        assert!(expires + 120.0 >= NOW_S as f64);
        assert_eq!(DevKey::rules("", "", "").skew_s, weirgate::identity::SKEW_S_DEFAULT);
        let alone = KeySnapshot { generation: 2, sets: vec![None] };
        assert!(verifier.verify(token, &alone, now()).is_err(), "accepted without a key");
    }
}

fn key_set(bytes: &[u8]) {
    let Ok((set, skipped)) = KeySet::from_jwks(bytes) else { return };
    assert!(set.kids().count() <= set.len());
    assert!(set.kids().all(|kid| set.has_kid(kid)));
    let _ = format!("{skipped:?} {set:?}");
}

fn certificate(der: &[u8]) {
    let rules = CertificateRules {
        issuer: IssuerId(0),
        iss: "x509:test".to_owned(),
        trust_domain: der.first().is_some_and(|byte| byte & 1 == 1).then(|| "test".to_owned()),
    };
    if let Ok(principal) = from_certificate(&rules, der, now()) {
        assert_eq!(principal.iss(), "x509:test");
        assert!(!principal.sub().is_empty() && principal.expires_s() >= NOW_S);
    }
}
