//! What a mask costs a body, and what the texts of a stream cost where no mask applies.
//!
//! | what | estimate | measured, reads of 64 B / 1 KiB / 16 KiB |
//! |---|---|---|
//! | clean text, email, pan, iban, us_ssn and secrets | one vector pass, a search for `@`: 5 GB/s | 0.30 / 2.4 / 4.8 GB/s |
//! | one detector alone | a search for `@`, or the vector pass | email 0.52 / 4.8 / 41, iban 0.65 / 3.5 / 5.5, others 1.2 to 1.3 / 3.7 to 4.6 / 4.6 to 5.5 GB/s |
//! | text with an address and a card in each line | a verifier and a replacement each, 0.3 GB/s | 0.12 / 0.27 / 0.30 GB/s |
//! | digit-dense JSON | a verifier at each number, 0.1 to 0.3 GB/s | 0.12 / 0.09 / 0.08 GB/s |
//! | an OpenAI event of 290 B, its token held for the next (email) | parsed, masked, written again: 3 us | 4.6 us |
//! | the same without email | less: nothing is held | 2.7 us |
//! | `follow`, as the event before | 100 ns | 60 ns |
//! | `follow`, unlike the event before | 1.5 us | 2.4 us |
//!
//! `follow` is what the search for a told credential (`session::watch`) adds to an event of a
//! stream that no mask applies to. Conditions as in `benches/scan.rs`, with `base` and `mask`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use weirgate::base::{Limits, Pieces};
use weirgate::credential::{Echo, EchoState};
use weirgate::mask::{Content, Filter, Plan, Shape, TextReader, Told, detectors};

const ALL: [&str; 5] = ["email", "pan", "iban", "us_ssn", "secrets"];

fn plan(detect: &[&str]) -> Arc<Plan> {
    Arc::new(Plan::compile(&[kit::mask("bench", detect, "redact")]).unwrap())
}

/// Masks `body` in reads of `read` bytes.
fn run(filter: &mut Filter, plan: &Arc<Plan>, content: Content, body: &[u8], read: usize) -> usize {
    filter.reset(plan, content, &Limits::default()).unwrap();
    let mut out = Pieces::new();
    let mut len = 0;
    for part in body.chunks(read) {
        out.clear();
        len += filter.push(part, false, &mut out).unwrap().pieces().len();
    }
    out.clear();
    len + filter.push(b"", true, &mut out).unwrap().pieces().len()
}

fn bench(c: &mut Criterion, name: &str, detect: &[&str], content: Content, body: &[u8]) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(body.len() as u64));
    let plan = plan(detect);
    let mut filter = Filter::new(&plan, content, &Limits::default()).unwrap();
    for read in [64usize, 1 << 10, 16 << 10] {
        group.bench_function(BenchmarkId::from_parameter(read), |b| {
            b.iter(|| run(&mut filter, &plan, content, black_box(body), read));
        });
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let prose = "The amount that is open stands in the second row of the table, as agreed.\n";
    let prose = prose.repeat(220);
    bench(c, "text/clean", &ALL, Content::Text, prose.as_bytes());
    for detector in detectors() {
        let name = detector.name();
        bench(c, &format!("text/clean/{name}"), &[name], Content::Text, prose.as_bytes());
    }
    let found = "Write to ana@corp.example.com about card 4111 1111 1111 1111 by next Monday. ";
    bench(c, "text/found", &ALL, Content::Text, found.repeat(210).as_bytes());
    let row = |n: u64| {
        format!(
            r#"{{"id":{},"at":"2026-05-13T10:{:02}:00Z","amount":{}.{:02},"iban":"no","n":[{n},{n}]}}"#,
            4_000_000_000_000_000 + n,
            n % 60,
            n * 37 % 9_999,
            n % 100
        )
    };
    let rows: Vec<String> = (0..180).map(row).collect();
    let rows = format!("[{}]", rows.join(","));
    bench(c, "json/digits", &ALL, Content::Json, rows.as_bytes());
}

const EVENTS: u64 = 200;

fn stream() -> Vec<String> {
    let words = ["The", " open", " amount", " is", " in", " row", " two", "."];
    let events = words.iter().cycle().take(EVENTS as usize);
    events.map(|word| kit::chat_event(word)).collect()
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("events");
    group.throughput(Throughput::Elements(EVENTS));
    let events = stream();
    let content = Content::Sse(Shape::OpenAi);
    for (name, detect) in [("all", &ALL[..]), ("no_email", &["pan", "iban", "us_ssn", "secrets"])] {
        let plan = plan(detect);
        let mut filter = Filter::new(&plan, content, &Limits::default()).unwrap();
        let mut out = Pieces::new();
        group.bench_function(BenchmarkId::new("openai", name), |b| {
            b.iter(|| {
                filter.reset(&plan, content, &Limits::default()).unwrap();
                for event in &events {
                    out.clear();
                    let cleared = filter.push(event.as_bytes(), false, &mut out).unwrap();
                    black_box(cleared.pieces().len());
                }
            });
        });
    }
    let echo = Echo::new(&[b"sk-the-real-key-of-the-provider-0123456789"]);
    // With two choices in turn no event is like the one before.
    let turns: Vec<String> = events
        .iter()
        .enumerate()
        .map(|(n, event)| event.replace("\"index\":0", &format!("\"index\":{}", n % 2)))
        .collect();
    for (name, events) in [("template", &events), ("parsed", &turns)] {
        let mut reader = TextReader::new();
        let mut texts = [EchoState::default(), EchoState::default()];
        group.bench_function(BenchmarkId::new("follow", name), |b| {
            b.iter(|| {
                reader.begin(Shape::OpenAi, 1 << 20);
                texts.iter_mut().for_each(EchoState::reset);
                let mut alive = 0;
                for event in events {
                    let mut told = |told: Told<'_>| {
                        if let Told::Part(place, part) = told {
                            let text = texts.get_mut(place).unwrap();
                            alive += echo.follow(text, part).unwrap();
                        }
                    };
                    let bytes = black_box(event.as_bytes());
                    assert!(reader.next(bytes, 0, false, &mut told).unwrap().is_some());
                }
                alive
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bodies, events);
criterion_main!(benches);
