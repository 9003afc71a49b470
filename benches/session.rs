//! What one whole exchange costs a session: heads, token, decision, mask, record, credential. No
//! socket and no thread; the ring is a real one, and emptying it is not in the figure.
//!
//! | exchange | estimate | measured |
//! |---|---|---|
//! | bare, 1 KiB each way | heads parsed and written, a cached token, a decision, four entries: 3 us | 3.1 us |
//! | the same, recorded | two bodies copied and summed more: 3.3 us | 3.0 us |
//! | everything on: 1,000 rules, model, mask, record | both bodies masked, 2 us a KiB: 12 us | 16 us |
//! | stream of 200 events, `plain`, weighed | 0.3 us an event | 0.43 us an event |
//! | the same, `openai`: told credentials are looked for | 0.1 us more | 0.40 us an event; `perf`: the search is a seventh of it |
//! | the same, recorded | an entry an event, 0.1 us more | 0.90 us an event |
//! | the same, everything on | 4 us an event | 4.9 us an event |
//!
//! One run of this bench, medians, on a 2-core x86-64 VM with a load average of 3 to 4 beside it: a
//! difference below a fifth is noise. It was made before the masks' vector pass. By `perf` the
//! search for the credential in raw bytes was 28 % of the unmasked stream then; it has since become
//! twice as fast (`credential::Echo`: 175 to 95 ns for an event of 250 B).
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kit::{Road, Site};
use std::time::{Duration, Instant};
use weirgate::identity::dev::DevKey;
use weirgate::mask::Shape;
use weirgate::policy::RecordLevel;

/// Exchanges between two drains, which are not timed.
const BATCH: u64 = 16;

fn bench(c: &mut Criterion, name: &str, site: Site, answer: &[Vec<u8>], per: u64) {
    let key = DevKey::generate().unwrap();
    let mut road = Road::new(site, &key);
    let request = kit::chat(&kit::token(&key, "ana", &["analysts"]), 1 << 10);
    let answer: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
    let [up, down] = road.exchange(&request, &answer);
    assert!(up > 1 << 10 && down > 1 << 10, "{name}: {up} up, {down} down");
    let mut group = c.benchmark_group("exchange");
    group.throughput(Throughput::Elements(per));
    group.bench_function(name, |b| {
        b.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count;
            while left > 0 {
                let batch = left.min(BATCH);
                road.drain();
                let start = Instant::now();
                for _ in 0..batch {
                    assert_eq!(road.exchange(&request, &answer), [up, down]);
                }
                spent += start.elapsed();
                left -= batch;
            }
            spent
        });
    });
    group.finish();
}

fn exchanges(c: &mut Criterion) {
    let json = [kit::json_answer(1 << 10)];
    let stream = kit::stream_answer(200);
    let full = || {
        let mut site = kit::bare();
        site.rules.iter_mut().for_each(|rule| rule.then.record = RecordLevel::Full);
        site
    };
    let plain = || {
        let mut site = kit::bare();
        site.resources.iter_mut().for_each(|(_, shape)| *shape = Shape::Plain);
        site
    };
    bench(c, "bare/json", kit::bare(), &json, 1);
    bench(c, "recorded/json", full(), &json, 1);
    bench(c, "everything/json", kit::everything(), &json, 1);
    bench(c, "plain/events", plain(), &stream, 200);
    bench(c, "bare/events", kit::bare(), &stream, 200);
    bench(c, "recorded/events", full(), &stream, 200);
    bench(c, "everything/events", kit::everything(), &stream, 200);
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
