//! How one side's end reaches the other, and what a slow one costs.

use crate::kit::upstream::{chunk, chunked_head};
use crate::kit::{Caller, Home, PATIENCE, Served, Upstream, eventually};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// "At once", on a machine that does much else.
const AT_ONCE: Duration = Duration::from_secs(2);

/// An upstream whose answer never ends, and that tells when its connection does.
fn endless() -> (Upstream, Receiver<Instant>) {
    let (ends, ended) = mpsc::channel();
    let upstream = Upstream::start(move |_, stream| {
        chunked_head(stream, "text/event-stream")?;
        chunk(stream, b"data: first\n\n")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let end = stream.read(&mut [0; 64]);
        let timed_out = matches!(&end, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        if !timed_out {
            let _ = ends.send(Instant::now());
        }
        Err(io::ErrorKind::Other.into())
    });
    (upstream, ended)
}

#[test]
fn a_caller_that_goes_away_ends_the_upstreams_work_at_once() {
    let (home, (upstream, ended)) = (Home::new(), endless());
    home.configure(upstream.address, "");
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    for resource in ["plain", "masked"] {
        // Closed in order: the gateway sees an end.
        let mut caller = Caller::open(address).unwrap();
        caller.send("GET", &format!("/{resource}/endless"), &home.reader("ana"), None).unwrap();
        let head = caller.head().unwrap();
        assert_eq!(head.status, 200);
        if resource == "plain" {
            // Head of the chunk, and the chunk.
            caller.take(17, &mut Vec::new()).unwrap();
        }
        let gone = Instant::now();
        drop(caller);
        let took = ended.recv_timeout(PATIENCE).unwrap().saturating_duration_since(gone);
        assert!(took < AT_ONCE, "{resource}: {took:?} after an end");

        // Closed with bytes unread: the gateway sees a reset.
        let mut caller = Caller::open(address).unwrap();
        caller.send("GET", &format!("/{resource}/endless"), &home.reader("ana"), None).unwrap();
        assert!(caller.stream.peek(&mut [0; 16]).unwrap() > 0);
        let gone = Instant::now();
        drop(caller);
        let took = ended.recv_timeout(PATIENCE).unwrap().saturating_duration_since(gone);
        assert!(took < AT_ONCE, "{resource}: {took:?} after a reset");
    }
    assert!(gateway.stop());
    home.verify(&home.data());
}

#[test]
fn an_answer_that_the_upstream_cuts_is_seen_cut() {
    let home = Home::new();
    let upstream = Upstream::start(|heard, stream| {
        if heard.path.contains("chunked") {
            chunked_head(stream, "text/plain")?;
            chunk(stream, b"ten bytes.")?;
            if heard.path.contains("inside") {
                stream.write_all(b"a\r\nfive.")?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n")?;
            stream.write_all(b"content-length: 100\r\n\r\nten bytes.")?;
        }
        Err(io::ErrorKind::Other.into())
    });
    home.configure(upstream.address, "");
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    for resource in ["plain", "masked"] {
        for path in ["length", "chunked", "chunked-inside"] {
            let mut caller = Caller::open(address).unwrap();
            let token = home.reader("ana");
            caller.send("GET", &format!("/{resource}/{path}"), &token, None).unwrap();
            let whole = caller.answer();
            // A filter may hold all of it when the end comes: then it can still be an error.
            let seen = whole.as_ref().is_ok_and(|answer| answer.status != 502);
            assert!(!seen, "{resource}/{path}: {whole:?}");
            if resource == "plain" {
                assert!(whole.is_err(), "{resource}/{path}: {whole:?}");
            }
        }
    }
    assert!(gateway.stop());
    home.verify(&home.data());
}

#[test]
fn a_slow_reader_of_64_mib_costs_the_gateway_no_memory() {
    const WHOLE: u64 = 64 << 20;
    const MOST: u64 = 8 << 20;
    let (home, sent) = (Home::new(), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&sent);
    let upstream = Upstream::start(move |heard, stream: &mut TcpStream| {
        let len = if heard.path == "/large" { WHOLE } else { 1 << 20 };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let piece = [b'x'; 64 << 10];
        for _ in 0..len / piece.len() as u64 {
            stream.write_all(&piece)?;
            count.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    });
    home.configure(upstream.address, "");
    let mut served = Served::start(&home.config(), &[]);
    let address = served.address("api");
    let token = home.reader("ana");
    let mut caller = Caller::open(address).unwrap();
    caller.send("GET", "/plain/small", &token, None).unwrap();
    assert_eq!(caller.answer().unwrap().body.len(), 1 << 20);
    let before = served.anonymous_memory();

    caller.send("GET", "/plain/large", &token, None).unwrap();
    let head = caller.head().unwrap();
    assert_eq!(head.status, 200);
    sent.store(0, Ordering::Relaxed);
    // Nothing is read until the upstream can write no more.
    let mut last = (u64::MAX, Instant::now());
    eventually("the upstream is held back", PATIENCE, || {
        let now = sent.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(())
    });
    assert!(last.0 < WHOLE / 2, "{} bytes went while nobody read", last.0);
    let (mut read, mut most) = (0, served.anonymous_memory());
    while read < WHOLE {
        let mut piece = Vec::new();
        caller.take(1 << 20, &mut piece).unwrap();
        assert!(piece.iter().all(|byte| *byte == b'x'));
        read += piece.len() as u64;
        most = most.max(served.anonymous_memory());
    }
    let grown = most.saturating_sub(before);
    assert!(grown < MOST, "{grown} bytes more than before");
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    home.verify(&home.data());
}
