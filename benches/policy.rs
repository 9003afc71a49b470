//! What a decision costs, with 100, 1,000 and 10,000 rules over 50 resources.
//!
//! A quarter of the paths have an inner `*`, a fifth of the rules are deny rules on a model.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use weirgate::base::{Now, ResourceId};
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::identity::{Principal, Verifier};
use weirgate::policy::{Action, Asserted, Attr, Effect, Pattern, RuleSpec, Table};

const RESOURCES: u16 = 50;

/// xorshift64; the same draw in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn resource(&mut self) -> ResourceId {
        ResourceId(u16::try_from(self.below(u64::from(RESOURCES))).unwrap())
    }
}

fn one(text: String) -> Option<Vec<Pattern>> {
    Some(vec![Pattern::new(text)])
}

fn rules(count: u64) -> Vec<RuleSpec> {
    let mut dice = Dice(7);
    (0..count)
        .map(|place| {
            let deny = dice.below(5) == 0;
            let effect = if deny { Effect::Deny } else { Effect::Allow };
            let mut rule = RuleSpec::new(format!("r{place}"), effect);
            if dice.below(2) == 0 {
                rule.who.groups = one(format!("group-{}", dice.below(count / 4 + 12)));
            }
            rule.what.resource = Some(vec![dice.resource()]);
            rule.what.method = Some(vec![Pattern::new("POST"), Pattern::new("GET")]);
            let n = dice.below(200);
            rule.what.path = one(match dice.below(4) {
                0 => format!("/v1/api{n}/*"),
                1 => format!("/v1/*/item{n}"),
                2 => format!("/v1/api{n}/completions"),
                _ => "/v1/*".to_owned(),
            });
            if deny {
                rule.what.model = one(format!("model-{}*", dice.below(50)));
            }
            rule
        })
        .collect()
}

fn principal() -> Principal {
    let key = DevKey::generate().unwrap();
    let verifier = Verifier::new(vec![DevKey::rules("dev", "https://dev", "gate")]);
    let token = key.mint(&DevClaims {
        issuer: "https://dev".to_owned(),
        subject: "ana".to_owned(),
        audience: vec!["gate".to_owned()],
        client_id: "demo".to_owned(),
        groups: (0..12).map(|place| format!("group-{place}")).collect(),
        issued_s: 1_000,
        lifetime_s: 60,
        ..DevClaims::default()
    });
    let now = Now { mono_ns: 0, wall_ns: 1_010_000_000_000 };
    verifier.verify(token.as_bytes(), &key.snapshot(1), now).unwrap()
}

fn decisions(c: &mut Criterion) {
    let principal = principal();
    for count in [100, 1_000, 10_000] {
        let table = Table::compile(rules(count), usize::from(RESOURCES), 1).unwrap();
        let row = table.row(&principal);
        let mut dice = Dice(11);
        let asked: Vec<(ResourceId, String, String)> = (0..1_024)
            .map(|_| {
                let resource = dice.resource();
                let tail = *["completions", "item7", "x/y/z"].get((dice.0 % 3) as usize).unwrap();
                let path = format!("/v1/api{}/{tail}", dice.below(200));
                (resource, path, format!("model-{}", dice.below(100)))
            })
            .collect();
        let mut next = asked.iter().cycle();
        c.bench_function(&format!("decide/{count}"), |b| {
            b.iter(|| {
                let (resource, path, model) = next.next().unwrap();
                black_box(table.decide(
                    &row,
                    &Action {
                        resource: *resource,
                        method: b"POST",
                        path: path.as_bytes(),
                        model: Attr::Value(model.as_bytes()),
                        sql: None,
                        asserted: Asserted::NONE,
                    },
                ))
            });
        });
        c.bench_function(&format!("row/{count}"), |b| {
            b.iter(|| table.row(black_box(&principal)));
        });
    }
}

criterion_group!(benches, decisions);
criterion_main!(benches);
