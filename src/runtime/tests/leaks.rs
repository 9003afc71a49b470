//! What is left of a worker: nothing.
//!
//! The count of a process's threads and descriptors means something only when no other test runs,
//! so the test starts itself once more, alone.

use super::fake::Fakes;
use super::peers::{ask, dial, pattern, send, upstream};
use super::{eventually, plan, start};
use crate::runtime::Worker;
use std::process::Command;

const ALONE: &str = "WEIRGATE_TEST_ALONE";

/// Runs `test` in a process of its own.
fn alone(name: &str, test: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let program = std::env::current_exe().expect("the test program");
    let name = format!("{}::{name}", module_path!().split_once("::").expect("a crate").1);
    let output = Command::new(program)
        .args(["--exact", &name, "--test-threads", "1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("the test program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
}

fn count(of: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{of}")).expect("proc").count()
}

/// A worker's whole life: kept, idle, busy and broken connections at its end.
fn live(legacy: bool, end: impl FnOnce(Worker) -> bool) {
    let peer = upstream();
    let mut plan = plan(peer.address, legacy);
    plan.limits.drain_ms = 200;
    let (worker, address) = start(plan, &Fakes::new());
    let mut idle: Vec<_> = (0..8).map(|_| dial(address)).collect();
    for caller in &mut idle {
        assert_eq!(ask(caller, 'e', b"x").expect("an answer"), b"x");
    }
    let mut busy = dial(address);
    send(&mut busy, 's', b"").expect("sent");
    let mut flooded = dial(address);
    send(&mut flooded, 'g', b"30000000").expect("sent");
    assert!(ask(&mut dial(address), 'p', b"").is_err());
    assert!(ask(&mut dial(address), 'h', &pattern(9)).is_err());
    assert!(end(worker));
}

#[test]
fn a_worker_leaves_no_thread_and_no_descriptor() {
    alone("a_worker_leaves_no_thread_and_no_descriptor", || {
        // Each round's upstream keeps its own thread and listener: one of each for a round.
        let mut left = Vec::new();
        for round in 0..6 {
            live(
                round % 2 == 0,
                |worker| if round % 4 < 2 { worker.stop() } else { worker.kill() },
            );
            let threads = count("task");
            eventually("the peers' own threads end", || count("task") <= threads.min(3 + round));
            left.push((count("task"), count("fd")));
        }
        for (one, two) in left.iter().zip(left.iter().skip(1)) {
            assert!(two.0 <= one.0 + 1 && two.1 <= one.1 + 1, "{left:?}");
        }
    });
}

#[test]
fn a_worker_that_cannot_listen_says_so_and_holds_no_port() {
    super::on_both_drivers(|legacy| {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let taken = taken.local_addr().map(|address| (taken, address)).expect("address");
        let mut wanted = plan(taken.1, legacy);
        let free = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
            listener.local_addr().expect("address")
        };
        wanted.listeners[0].address = free;
        let mut second = wanted.listeners[0].clone();
        second.address = taken.1;
        wanted.listeners.push(second);
        assert!(Worker::start(wanted, Fakes::new).is_err());
        assert!(std::net::TcpStream::connect(free).is_err(), "the first listener is closed");
    });
}

#[test]
fn a_bug_in_a_session_ends_its_connection_only() {
    super::on_both_drivers(|legacy| {
        let peer = upstream();
        let (worker, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut other = dial(address);
        assert_eq!(ask(&mut other, 'e', b"1").expect("an answer"), b"1");
        assert!(ask(&mut dial(address), 'p', b"").is_err());
        assert_eq!(ask(&mut other, 'e', b"2").expect("an answer"), b"2");
        let counters = worker.counters();
        eventually("one is left", || counters.open.get() == 1);
        assert_eq!((counters.failed.get(), counters.accepted.get()), (1, 2));
        assert_eq!((counters.upstream_made.get(), counters.upstream_reused.get()), (1, 1));
        drop(other);
        assert!(worker.stop());
    });
}

#[test]
fn workers_share_an_address() {
    super::on_both_drivers(|legacy| {
        let peer = upstream();
        let (one, address) = start(plan(peer.address, legacy), &Fakes::new());
        let mut second = plan(peer.address, legacy);
        second.listeners[0].address = address;
        second.core = crate::runtime::cores().first().copied();
        let (two, same) = start(second, &Fakes::new());
        assert_eq!(address, same);
        for _ in 0..16 {
            assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"x");
        }
        assert!(one.stop());
        for _ in 0..16 {
            assert_eq!(ask(&mut dial(address), 'e', b"x").expect("an answer"), b"x");
        }
        assert!(two.stop());
        assert!(std::net::TcpStream::connect(address).is_err());
    });
}

#[test]
fn a_connection_costs_little_memory_of_its_own() {
    let upstreams = crate::runtime::Published::new(crate::runtime::Upstreams::default());
    let addresses = crate::runtime::Published::new(crate::runtime::Addresses::default());
    let (limits, counters) = (crate::base::Limits::default(), std::sync::Arc::default());
    let reactor = crate::runtime::reactor::Reactor::poller().expect("epoll");
    let shared =
        crate::runtime::shared::Shared::new(reactor, limits, upstreams, addresses, counters);
    // Only its size is looked at; it is never run.
    let made = |seat| crate::runtime::drive::serve::<super::fake::Fake>(shared, seat);
    let size = future_size(made);
    assert!(size <= 3_584, "{size} bytes while it is served");
    let size = crate::runtime::accept::admitted_size::<Fakes>();
    assert!(size <= 896, "{size} bytes between requests");
}

fn future_size<A, F>(_make: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}
