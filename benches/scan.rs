//! What it costs to look at bytes: class runs, JSON tokens, events.
//!
//! Estimates: a class run is one table lookup and one compare for each byte, 1 GB/s; JSON one
//! state step for each structural byte and one pass over the inside of strings, 0.3 to 1 GB/s by
//! how dense it is; an event two searches for line ends and two copies, 2 GB/s. All kernels of
//! `scan` are portable ones; a vector kernel belongs beside the one that it replaces here.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use weirgate::scan::class;
use weirgate::scan::json::Tokenizer;
use weirgate::scan::sse::SseParser;

/// A run that ends with its last byte, at each start within a vector.
fn classes(c: &mut Criterion) {
    let mut group = c.benchmark_group("class");
    for len in [7usize, 31, 64, 1 << 10, 16 << 10] {
        for start in [0usize, 1, 17, 31] {
            let mut room = vec![b'x'; start + len];
            *room.last_mut().unwrap() = b' ';
            group.throughput(Throughput::Bytes(len as u64));
            group.bench_function(BenchmarkId::new(format!("word/{len}"), start), |b| {
                let text = room.get(start..).unwrap();
                b.iter(|| black_box(text).iter().position(|byte| !class::is(*byte, class::WORD)));
            });
        }
    }
    group.finish();
}

fn prose(len: usize) -> String {
    let text = r"The amount that is open stands in the second row of the table.\n";
    let text = text.repeat(len.div_ceil(text.len()));
    format!(r#"{{"choices":[{{"message":{{"role":"assistant","content":"{text}"}}}}]}}"#)
}

fn rows(len: usize) -> String {
    let row = |n: usize| {
        format!(
            r#"{{"id":{},"at":"2026-05-13T10:{:02}:00Z","amount":{}.{:02},"open":true,"of":null}}"#,
            1_000_000 + n,
            n % 60,
            n * 37 % 9_999,
            n % 100
        )
    };
    let rows: Vec<String> = (0..len.div_ceil(90)).map(row).collect();
    format!("[{}]", rows.join(","))
}

fn json(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for len in [1usize << 10, 64 << 10] {
        for (name, text) in [("prose", prose(len)), ("rows", rows(len))] {
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(name, len), |b| {
                b.iter(|| {
                    let mut tokens = Tokenizer::new(false);
                    let (mut at, mut count) = (0, 0u32);
                    while tokens.next(black_box(text.as_bytes()), &mut at).unwrap().is_some() {
                        count += 1;
                    }
                    tokens.finish().unwrap();
                    count
                });
            });
        }
    }
    group.finish();
}

fn events(c: &mut Criterion) {
    let mut group = c.benchmark_group("sse");
    for len in [16usize, 250, 4_000] {
        let event = format!("data: {}\n\n", "x".repeat(len));
        let stream = event.repeat(64);
        for start in [0usize, 1, 17] {
            let room = [vec![b' '; start], stream.clone().into_bytes()].concat();
            group.throughput(Throughput::Bytes(stream.len() as u64));
            group.bench_function(BenchmarkId::new(format!("event/{len}"), start), |b| {
                let mut parser = SseParser::new(1 << 20);
                let text = room.get(start..).unwrap();
                b.iter(|| {
                    parser.reset();
                    let (mut at, mut count) = (0, 0u32);
                    while parser.next(black_box(text), &mut at).unwrap().is_some() {
                        count += 1;
                    }
                    assert_eq!(count, 64);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, classes, json, events);
criterion_main!(benches);
