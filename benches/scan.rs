//! What it costs to look at bytes: class runs, places where a value may open, JSON tokens, events.
//!
//! | what | estimate | measured |
//! |---|---|---|
//! | class run, from 31 B on | a lookup and a compare a byte, 1 GB/s | 2.3 GB/s |
//! | `openings`, by vectors, prose / digits | 4 ns for 32 B, 8 GB/s | 16 KiB: 7.0 / 3.6 GB/s; 1 KiB: 6.6 / 3.8; 64 B: 3.0 / 2.2; 7 B: 21 ns |
//! | `openings`, portable | eight compares a byte, 0.2 GB/s | 0.20 / 0.23 GB/s from 31 B on, 24 to 49 ns for 7 B |
//! | `run`, eight bytes at a time / byte by byte | 1.5 cycles a byte / 3 | 1 KiB: 91 / 815 ns; 31 B: 8 / 25 ns; 7 B: 6 / 6 ns |
//! | JSON, prose in long strings | as `run`, 3 GB/s | 2.1 GB/s at 1 KiB, 2.9 GB/s at 64 KiB |
//! | JSON, rows of numbers and dates | a state step a token, 0.3 GB/s | 0.47 GB/s |
//! | events of 16, 250, 4,000 B | two searches and two copies | 28, 31, 166 ns an event |
//!
//! No start within a vector differs beyond noise. Measured on a 2-core x86-64 VM with a load
//! average of 3 to 4 beside it: the least of 300 runs of 200, with the optimizer on and the modules
//! of `scan` compiled alone.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use weirgate::scan::class;
use weirgate::scan::json::Tokenizer;
use weirgate::scan::opening::{Bytes, Openings};
use weirgate::scan::run;
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

/// All places of a text at which a value may open: by vectors, where the CPU has them, and by the
/// portable walk that says what they must find.
fn openings(c: &mut Criterion) {
    // Those of all detectors.
    let openings = Openings::new(&[
        [Bytes::DIGITS, Bytes::ANY, Bytes::ANY],
        [Bytes::of(b"+("), Bytes::ANY, Bytes::ANY],
        [Bytes::LETTERS, Bytes::LETTERS, Bytes::DIGITS],
        [Bytes::of(b"A"), Bytes::of(b"KS"), Bytes::of(b"I")],
        [Bytes::of(b"g"), Bytes::of(b"hi"), Bytes::of(b"poustr")],
        [Bytes::of(b"s"), Bytes::of(b"k"), Bytes::of(b"-")],
        [Bytes::of(b"e"), Bytes::of(b"y"), Bytes::of(b"J")],
        [Bytes::of(b"-"), Bytes::of(b"-"), Bytes::of(b"-")],
    ]);
    let words = "the amount that is open stands in the second row of the table as agreed ";
    let digits = "2026-05-13 10:17:42 4111 371.99 18 ";
    for (name, text) in [("prose", words), ("digits", digits)] {
        let mut group = c.benchmark_group(format!("openings/{name}"));
        for len in [7usize, 31, 32, 64, 1 << 10, 16 << 10] {
            for start in [0usize, 1, 17, 31] {
                let text = text.repeat((start + len).div_ceil(text.len()));
                let text = text.get(start..start + len).unwrap().as_bytes();
                group.throughput(Throughput::Bytes(len as u64));
                let all = |vectors: bool| {
                    let mut count = 0u32;
                    let accept = |_| {
                        count += 1;
                        false
                    };
                    let text = black_box(text);
                    let none = if vectors {
                        openings.next(text, 0, len, [0; 2], accept)
                    } else {
                        openings.next_portable(text, 0, len, [0; 2], accept)
                    };
                    assert!(none.is_none());
                    count
                };
                assert_eq!(all(true), all(false));
                group.bench_function(BenchmarkId::new(format!("vector/{len}"), start), |b| {
                    b.iter(|| all(true));
                });
                group.bench_function(BenchmarkId::new(format!("portable/{len}"), start), |b| {
                    b.iter(|| all(false));
                });
            }
        }
        group.finish();
    }
}

/// The inside of a string up to its quote: eight bytes at a time, and byte by byte.
fn runs(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    for len in [7usize, 31, 64, 1 << 10] {
        for start in [0usize, 1, 5] {
            let mut room = vec![b'x'; start + len];
            *room.last_mut().unwrap() = b'"';
            group.throughput(Throughput::Bytes(len as u64));
            let text = room.get(start..).unwrap();
            group.bench_function(BenchmarkId::new(format!("words/{len}"), start), |b| {
                b.iter(|| run::plain_ascii(black_box(text)));
            });
            group.bench_function(BenchmarkId::new(format!("bytes/{len}"), start), |b| {
                let stops = |byte: &u8| matches!(*byte, ..0x20 | b'"' | b'\\' | 0x80..);
                b.iter(|| black_box(text).iter().position(stops));
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

criterion_group!(benches, classes, openings, runs, json, events);
criterion_main!(benches);
