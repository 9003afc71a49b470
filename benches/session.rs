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
use kit::Road;
use weirgate::identity::dev::DevKey;

fn bench(c: &mut Criterion, site: &str, answer: &str, per: u64) {
    let key = DevKey::generate().unwrap();
    let mut road = Road::new(kit::site(site), &key);
    let request = kit::chat(&kit::token(&key, "ana", &["analysts"]), 1 << 10);
    let reads =
        if answer == "json" { vec![kit::json_answer(1 << 10)] } else { kit::stream_answer(200) };
    let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
    let moved = road.exchange(&request, &reads);
    assert!(moved.iter().all(|bytes| *bytes > 1 << 10), "{site}/{answer}: {moved:?}");
    let mut group = c.benchmark_group("exchange");
    group.throughput(Throughput::Elements(per));
    group.bench_function(format!("{site}/{answer}"), |b| {
        b.iter_custom(|count| {
            let [spent, _] = road.timed(&request, &reads, moved, count);
            spent
        });
    });
    group.finish();
}

fn exchanges(c: &mut Criterion) {
    for site in ["bare", "recorded", "everything"] {
        bench(c, site, "json", 1);
    }
    for site in ["plain", "bare", "recorded", "everything"] {
        bench(c, site, "events", 200);
    }
}

criterion_group!(benches, exchanges);
criterion_main!(benches);
