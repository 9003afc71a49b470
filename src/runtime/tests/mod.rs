//! Whole workers between real sockets, with a session that is made up.

#![expect(clippy::indexing_slicing, reason = "tests")]

mod aside;
mod attacks;
mod duplex;
mod ends;
mod fake;
mod leaks;
mod opening;
mod peers;
mod plain;
mod relay;
mod secure;
mod side;

use super::{
    Addresses, ListenerPlan, Opening, Published, Sessions, Upstream, Upstreams, Worker, WorkerPlan,
};
use crate::base::{Limits, ListenerId};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Runs `test` on each driver that this kernel offers.
fn on_both_drivers(test: impl Fn(bool)) {
    test(false);
    test(true);
}

fn at(upstream: SocketAddr) -> Upstream {
    let (host, port) = (upstream.ip().to_string(), upstream.port());
    Upstream { host, port, tls: None, opening: Opening::Direct }
}

fn plan(upstream: SocketAddr, force_legacy: bool) -> WorkerPlan {
    let there = at(upstream);
    WorkerPlan {
        name: "worker-test".to_owned(),
        core: None,
        force_legacy,
        limits: Limits { drain_ms: 5_000, linger_ms: 300, ..Limits::default() },
        listeners: vec![ListenerPlan {
            id: ListenerId(0),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            opening: Opening::Direct,
        }],
        upstreams: Published::new(Upstreams::new(1, vec![there])),
        addresses: Published::new(Addresses::default()),
        counters: Arc::default(),
    }
}

fn start<K>(plan: WorkerPlan, sessions: &K) -> (Worker, SocketAddr)
where
    K: Sessions + Clone + Send + 'static,
{
    let sessions = sessions.clone();
    let worker = Worker::start(plan, move || sessions).expect("the worker starts");
    let address = *worker.addresses().first().expect("one listener");
    (worker, address)
}

/// Waits until `done` holds.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < peers::PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
