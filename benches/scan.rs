//! What it costs to look at bytes: class runs, JSON tokens, events.
//!
//! Every kernel of `scan` in this build is a portable one; a vector kernel belongs beside the one
//! that it replaces here.
//!
//! | what | estimate | measured |
//! |---|---|---|
//! | class run, from 64 B on | a lookup and a compare a byte, 1 GB/s | 0.96 to 1.3 GB/s, 2.0 GB/s at 31 and 64 B; no start within a vector differs beyond noise |
//! | JSON, prose in long strings | one pass over the inside of strings, 1 GB/s | 0.36 GB/s at 1 KiB, 0.45 GB/s at 64 KiB |
//! | JSON, rows of numbers and dates | a state step a token, 0.3 GB/s | 0.11 and 0.17 GB/s |
//! | events of 16, 250, 4,000 B | two searches and two copies | 50, 55, 210 ns an event |
//!
//! One run (release build, 2-core x86-64 VM with AVX-512, load average 3 to 4 beside it: the ratios
//! hold, the absolutes are high by a third or so).
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
