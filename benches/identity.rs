//! What a token costs: verified, refused, and found in the cache.
//!
//! Estimate for a token of 1.2 KiB: a hit is one pass of ahash and one compare, 100 to 200 ns; a
//! miss is the signature check (Ed25519 about 50 us) and 6 us for everything else.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::rc::Rc;
use weirgate::base::Now;
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::identity::{TokenCache, Verifier};

const NOW: Now = Now { mono_ns: 0, wall_ns: 1_800_000_000_000_000_000 };

fn tokens(c: &mut Criterion) {
    let key = DevKey::generate().unwrap();
    let keys = key.snapshot(1);
    let verifier = Verifier::new(vec![DevKey::rules("dev", "https://dev.example", "gate")]);
    let mint = |subject: String| {
        key.mint(&DevClaims {
            issuer: "https://dev.example".to_owned(),
            subject,
            audience: vec!["gate".to_owned()],
            client_id: "agent".to_owned(),
            groups: (0..12).map(|n| format!("group-{n}-of-a-long-list-of-groups")).collect(),
            actors: vec!["planner".to_owned()],
            issued_s: NOW.wall_s(),
            lifetime_s: 600,
        })
    };
    let token = mint("alice".to_owned()).into_bytes();
    c.bench_function("verify/ed25519", |b| {
        b.iter(|| verifier.verify(black_box(&token), &keys, NOW).unwrap());
    });
    let late = Now { wall_ns: NOW.wall_ns + 3_600_000_000_000, ..NOW };
    c.bench_function("verify/expired", |b| {
        b.iter(|| verifier.verify(black_box(&token), &keys, late).unwrap_err());
    });
    let principal = Rc::new(verifier.verify(&token, &keys, NOW).unwrap());
    let mut cache = TokenCache::new(4_096, 64 << 20, [1, 2, 3, 4]);
    cache.insert(&token, Rc::clone(&principal), (), NOW, 1, 1);
    c.bench_function("cache/hot", |b| {
        b.iter(|| assert!(cache.get(black_box(&token), NOW, 1, 1).is_some()));
    });
    let many: Vec<Vec<u8>> = (0..2_048).map(|n| mint(format!("u{n}")).into_bytes()).collect();
    for token in &many {
        cache.insert(token, Rc::clone(&principal), (), NOW, 1, 1);
    }
    let mut at = 0usize;
    c.bench_function("cache/cold", |b| {
        b.iter(|| {
            at = (at + 1_117) % many.len();
            assert!(many.get(at).is_some_and(|token| cache.get(token, NOW, 1, 1).is_some()));
        });
    });
}

criterion_group!(benches, tokens);
criterion_main!(benches);
