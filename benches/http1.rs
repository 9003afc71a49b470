//! What it costs to read a head: as an SDK sends it, as a provider answers it; the quick way and
//! the strict one, which a head that comes in two parts takes.
//!
//! | head | estimate | quick | strict |
//! |---|---|---|---|
//! | small, 3 fields, 130 B | 100 ns and 300 ns | 300 ns | 380 ns |
//! | SDK, 17 fields, 1.6 KiB | 400 ns and 1.5 us | 720 ns | 1.44 us |
//! | answer, 8 fields, 300 B | 200 ns and 500 ns | 250 ns | 520 ns |
//!
//! On a quiet 2-core x86-64 VM. What both ways share (target, host, framing) is about 150 ns.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use weirgate::base::Limits;
use weirgate::wire::http1::{HeadScan, RequestHead, ResponseHead, parse_request, parse_response};

fn small() -> String {
    "POST /llm/v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n\
     Content-Length: 1024\r\n\r\n"
        .to_owned()
}

/// As the OpenAI SDK for Python sends it, with a token of 900 bytes.
fn sdk() -> String {
    format!(
        "POST /llm/v1/chat/completions HTTP/1.1\r\nHost: gateway.example:8443\r\n\
         Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nUser-Agent: OpenAI/Python 1.99.0\r\n\
         X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.99.0\r\nX-Stainless-OS: Linux\r\n\
         X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.11.2\r\n\
         Authorization: Bearer {}\r\nX-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\n\
         x-stainless-read-timeout: 600\r\nContent-Length: 1024\r\n\r\n",
        "eyJhbGciOi".repeat(90)
    )
}

fn answer() -> String {
    "HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n\
     Content-Length: 1024\r\nConnection: keep-alive\r\nx-request-id: req_0123456789abcdef\r\n\
     openai-processing-ms: 412\r\nopenai-version: 2020-10-01\r\nServer: cloudflare\r\n\r\n"
        .to_owned()
}

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("head");
    for (name, text) in [("small", small()), ("sdk", sdk())] {
        let text = text.as_bytes();
        for (way, first) in [("quick", text.len()), ("strict", 1)] {
            let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
            group.bench_function(format!("{name}/{way}"), |b| {
                b.iter(|| {
                    let start = text.get(..first).unwrap();
                    parse_request(&mut head, &mut scan, black_box(start), &limits).unwrap()
                        || parse_request(&mut head, &mut scan, black_box(text), &limits).unwrap()
                });
            });
            assert_eq!(head.head_len as usize, text.len());
        }
    }
    let text = answer();
    let text = text.as_bytes();
    for (way, first) in [("quick", text.len()), ("strict", 1)] {
        let (mut head, mut scan) = (ResponseHead::new(), HeadScan::new());
        group.bench_function(format!("answer/{way}"), |b| {
            b.iter(|| {
                let start = black_box(text.get(..first).unwrap());
                parse_response(&mut head, &mut scan, start, &limits, false).unwrap()
                    || parse_response(&mut head, &mut scan, black_box(text), &limits, false)
                        .unwrap()
            });
        });
        assert_eq!(head.head_len as usize, text.len());
    }
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
