//! How connections end: refused, cut, given up, too slow, drained, killed.

use super::fake::Fakes;
use super::peers::{PATIENCE, ask, dial, pattern, receive, send, upstream};
use super::{eventually, on_both_drivers, plan, start};
use crate::base::Limits;
use crate::runtime::Count;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

fn has(fakes: &Fakes, text: &str) -> bool {
    fakes.log.lock().expect("log").iter().any(|line| line == text)
}

/// Resident bytes of this process that are no file.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    let kib: usize = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib << 10
}

fn refused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address")
}

#[test]
fn a_refused_connect_is_told_and_the_answer_is_not_reset_away() {
    on_both_drivers(|legacy| {
        let fakes = Fakes::new();
        let (worker, address) = start(plan(refused_address(), legacy), &fakes);
        let mut caller = dial(address);
        // More than the session ever reads: a plain close would reset the answer away.
        send(&mut caller, 'e', &pattern(40_000)).expect("sent");
        assert_eq!(receive(&mut caller).expect("an answer"), ('x', b"Refused".to_vec()));
        assert_eq!(caller.read(&mut [0; 8]).expect("a clean end"), 0);
        assert!(worker.stop());
    });
}

#[test]
fn a_name_without_an_address_is_told() {
    on_both_drivers(|legacy| {
        let fakes = Fakes::new();
        let mut plan = plan(refused_address(), legacy);
        let mut there = super::at(refused_address());
        there.host = "nowhere.example".to_owned();
        plan.upstreams = super::Published::new(super::Upstreams::new(1, vec![there]));
        let addresses = std::sync::Arc::clone(&plan.addresses);
        let (worker, address) = start(plan, &fakes);
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"Unresolved");
        let mut found = super::Addresses::default();
        found.insert("nowhere.example", vec!["127.0.0.1".parse().expect("literal")]);
        addresses.publish(std::sync::Arc::new(found));
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"Refused");
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_goes_cancels_its_upstream() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let mut caller = dial(address);
        send(&mut caller, 's', b"").expect("sent");
        eventually("connected", || has(&fakes, "connected"));
        let mut reset = dial(address);
        send(&mut reset, 's', b"").expect("sent");
        eventually("two upstreams", || peer.accepted.load(Ordering::SeqCst) == 2);
        crate::runtime::sys::reset(std::os::fd::AsRawFd::as_raw_fd(&reset));
        drop(reset);
        peer.cancelled.recv_timeout(PATIENCE).expect("the upstream hears of it");
        eventually("told", || has(&fakes, "caller gone"));
        drop(caller);
        eventually("told of the end", || has(&fakes, "caller end"));
        assert!(worker.kill());
    });
}

#[test]
fn a_half_closed_caller_still_gets_its_answer() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut caller = dial(address);
        send(&mut caller, 'e', b"last words").expect("sent");
        caller.shutdown(Shutdown::Write).expect("half-close");
        assert_eq!(receive(&mut caller).expect("an answer").1, b"last words");
        assert_eq!(caller.read(&mut [0; 8]).expect("a clean end"), 0);
        assert!(worker.stop());
    });
}

#[test]
fn an_upstream_that_ends_early_is_told_and_the_caller_sees_a_cut() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let answer = ask(&mut dial(address), 'c', b"").expect("an answer");
        assert_eq!(answer, b"upstream Clean");
        let mut caller = dial(address);
        send(&mut caller, 'h', b"").expect("sent");
        let mut got = Vec::new();
        let end = caller.read_to_end(&mut got);
        assert!(end.is_err(), "half an answer must not look whole");
        assert!(worker.stop());
    });
}

#[test]
fn a_kept_connection_that_died_is_not_used_again() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        plan.limits.upstream_idle_ms = 300;
        let (worker, address) = start(plan, &Fakes::new());
        let mut caller = dial(address);
        assert_eq!(ask(&mut caller, 'e', b"one").expect("an answer"), b"one");
        thread::sleep(Duration::from_millis(400));
        assert_eq!(ask(&mut caller, 'e', b"two").expect("an answer"), b"two");
        assert_eq!(peer.accepted.load(Ordering::SeqCst), 2);
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn more_upstream_connections_than_allowed_are_refused() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        plan.limits.upstream_connections_max = 2;
        let fakes = Fakes::new();
        let (worker, address) = start(plan, &fakes);
        let mut busy: Vec<_> = (0..2).map(|_| dial(address)).collect();
        busy.iter_mut().for_each(|caller| send(caller, 's', b"").expect("sent"));
        eventually("both busy", || peer.accepted.load(Ordering::SeqCst) == 2);
        assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"Exhausted");
        drop(busy);
        assert!(worker.kill());
    });
}

#[test]
fn a_slow_reader_of_a_long_answer_costs_no_memory() {
    on_both_drivers(|legacy| {
        const LEN: usize = 64 << 20;
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut caller = dial(address);
        send(&mut caller, 'g', LEN.to_string().as_bytes()).expect("sent");
        let mut head = [0; 9];
        caller.read_exact(&mut head).expect("a head");
        let expected = pattern(LEN);
        let before = resident();
        let mut chunk = vec![0; 1 << 20];
        let mut most = 0;
        for (round, wanted) in expected.chunks(chunk.len()).enumerate() {
            if round % 16 == 0 {
                thread::sleep(Duration::from_millis(30));
            }
            caller.read_exact(&mut chunk).expect("the body");
            assert!(chunk == wanted, "the body is whole and in order");
            most = most.max(resident());
        }
        // Other tests of this process run at the same time and hold some, too.
        assert!(most.saturating_sub(before) < LEN / 2, "{} bytes more", most - before);
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_takes_nothing_is_cut() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let mut plan = plan(peer.address, legacy);
        plan.limits.write_ms = 200;
        let (worker, address) = start(plan, &fakes);
        let mut caller = dial(address);
        send(&mut caller, 'g', b"50000000").expect("sent");
        eventually("cut", || has(&fakes, "caller gone"));
        peer.cancelled.recv_timeout(PATIENCE).expect("the upstream hears of it");
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn a_session_hears_its_deadline() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes { answer_ms: Some(100), ..Fakes::new() };
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let mut caller = dial(address);
        // A deadline that passed over is not told.
        assert_eq!(ask(&mut caller, 'e', b"quick").expect("an answer"), b"quick");
        let start = Instant::now();
        assert_eq!(ask(&mut caller, 's', b"").expect("an answer"), b"late");
        assert!(start.elapsed() >= Duration::from_millis(95));
        peer.cancelled.recv_timeout(PATIENCE).expect("the upstream is given up");
        assert!(worker.stop());
    });
}

#[test]
fn a_connection_that_was_put_aside_serves_ends_and_drains_as_before() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let lines =
            |text: &str| fakes.log.lock().expect("log").iter().filter(|line| *line == text).count();
        let mut caller = dial(address);
        for round in 1..=3 {
            eventually("put aside", || lines("tidy") == round);
            let body = pattern(round * 40_000);
            assert!(ask(&mut caller, 'e', &body).expect("an answer") == body);
        }
        eventually("put aside", || lines("tidy") == 4);
        // Part of a head, and silence: that is no idle connection.
        caller.write_all(b"0000").expect("sent");
        thread::sleep(Duration::from_millis(200));
        caller.write_all(b"0001ex").expect("sent");
        assert_eq!(receive(&mut caller).expect("an answer").1, b"x");
        eventually("put aside", || lines("tidy") >= 5);
        drop(caller);
        eventually("an end", || lines("caller end") == 1);
        let mut idle = dial(address);
        let before = lines("tidy");
        eventually("put aside", || lines("tidy") > before);
        worker.drain();
        assert_eq!(idle.read(&mut [0; 8]).expect("a clean end"), 0);
        assert!(worker.stop());
    });
}

#[test]
fn a_caller_that_listens_to_a_silent_answer_holds_no_buffer() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let mut caller = dial(address);
        eventually("put aside", || has(&fakes, "tidy"));
        send(&mut caller, 's', b"").expect("sent");
        eventually("connected", || has(&fakes, "connected"));
        let sum = |counts: &[Count]| counts.iter().map(Count::get).sum::<u64>();
        eventually("every buffer given back", || {
            let counters = worker.counters();
            sum(&counters.buffers_free) > 0 && sum(&counters.buffers_lent) == 0
        });
        drop(caller);
        assert!(worker.stop());
    });
}

#[test]
fn more_callers_than_allowed_are_refused() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let mut plan = plan(peer.address, legacy);
        plan.limits.connections_max = 2;
        let (worker, address) = start(plan, &Fakes::new());
        let mut one = dial(address);
        let mut two = dial(address);
        assert_eq!(ask(&mut one, 'e', b"1").expect("an answer"), b"1");
        assert_eq!(ask(&mut two, 'e', b"2").expect("an answer"), b"2");
        let mut three = dial(address);
        assert!(ask(&mut three, 'e', b"3").is_err());
        drop(one);
        eventually("a place", || ask(&mut dial(address), 'e', b"4").is_ok());
        drop(two);
        assert!(worker.stop());
    });
}

#[test]
fn a_drain_finishes_what_is_in_hand_and_takes_nothing_new() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let (worker, address) = start(plan(peer.address, legacy), &fakes);
        let mut idle = dial(address);
        assert_eq!(ask(&mut idle, 'e', b"1").expect("an answer"), b"1");
        let mut busy = dial(address);
        let body = pattern(100_000);
        busy.write_all(b"00100000e").expect("sent");
        busy.write_all(&body[..50_000]).expect("sent");
        eventually("a second upstream", || {
            fakes.log.lock().expect("log").iter().filter(|line| *line == "connected").count() == 2
        });
        worker.drain();
        assert_eq!(idle.read(&mut [0; 8]).expect("a clean end"), 0);
        eventually("no listener", || std::net::TcpStream::connect(address).is_err());
        assert!(worker.is_running());
        busy.write_all(&body[50_000..]).expect("sent");
        assert!(receive(&mut busy).expect("an answer").1 == body);
        assert_eq!(busy.read(&mut [0; 8]).expect("a clean end"), 0);
        assert!(worker.stop());
    });
}

#[test]
fn what_outlasts_the_drain_is_cut() {
    on_both_drivers(|legacy| {
        let peer = upstream();
        let fakes = Fakes::new();
        let mut plan = plan(peer.address, legacy);
        plan.limits = Limits { drain_ms: 300, ..plan.limits };
        let (worker, address) = start(plan, &fakes);
        let mut caller = dial(address);
        send(&mut caller, 's', b"").expect("sent");
        eventually("connected", || has(&fakes, "connected"));
        let start = Instant::now();
        assert!(worker.stop());
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(has(&fakes, "caller gone"));
        assert_eq!(caller.read(&mut [0; 8]).unwrap_or(0), 0);
        peer.cancelled.recv_timeout(PATIENCE).expect("the upstream hears of it");
    });
}
