//! The log byte by byte, the owner by its desk, and a process that is killed while it spends.

mod killed;
mod log;
mod owner;

use super::desk::{Desk, Waiter};
use super::log::{Log, LogError};
use super::owner::Approvals;
use crate::base::{ApprovalId, Secret};
use crate::control::drain::{Files, Storage};
use crate::policy::approval::*;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const SECOND: u64 = 1_000_000_000;
/// The longest that anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn bounds() -> Bounds {
    Bounds { open_max: 100, caller_max: 100, kept_max: 100, kept_ns: 3_600 * SECOND }
}

fn party(sub: &str, groups: &[&str]) -> Party {
    Party {
        iss: "https://idp.example.com".into(),
        sub: sub.into(),
        client_id: None,
        actors: [].into(),
        groups: groups.iter().map(|group| (*group).into()).collect(),
    }
}

fn ask(sub: &str, what: u8, uses: u32) -> Ask {
    Ask {
        who: party(sub, &[]),
        resource: "orders".into(),
        protocol: "postgres".into(),
        rule: "writes".into(),
        credential: None,
        generation: 1,
        binding: [what; 32],
        fingerprint: [what; 32],
        retry: None,
        summary: "delete from orders".into(),
        terms: Terms {
            approvers: ["dba".into()].into(),
            count: 1,
            distinct_groups: false,
            wait_ns: 600 * SECOND,
            ttl_ns: 600 * SECOND,
            uses,
            scope: Scope::Exact,
            reason: false,
            break_glass: false,
            reveal: [].into(),
            estimate: false,
        },
        asserted: Claims::default(),
        reason: Some("because".into()),
        exchange: "x".into(),
        originals: Originals::default(),
    }
}

fn files() -> Arc<dyn Storage> {
    Arc::new(Files)
}

fn start(dir: &Path) -> Approvals {
    Approvals::start(dir, bounds(), None, files()).unwrap()
}

/// A session that waits, and what it hears.
struct Session {
    waiter: Waiter,
    heard: mpsc::Receiver<Verdict>,
}

impl Session {
    fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(1);
        let (sender, heard) = mpsc::channel();
        let id = LAST.fetch_add(1, Ordering::Relaxed);
        let tell = Arc::new(move |verdict| drop(sender.send(verdict)));
        Self { waiter: Waiter { id, tell }, heard }
    }

    fn hears(&self) -> Verdict {
        self.heard.recv_timeout(PATIENCE).unwrap()
    }

    fn hears_nothing(&self) {
        assert_eq!(self.heard.try_recv().ok(), None);
    }

    fn asks(&self, desk: &Desk, ask: &Ask) -> Verdict {
        desk.ask(ask.clone(), self.waiter.clone());
        self.hears()
    }

    fn pending(&self, desk: &Desk, ask: &Ask) -> ApprovalId {
        match self.asks(desk, ask) {
            Verdict::Pending { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn spends(&self, desk: &Desk, id: ApprovalId, ask: &Ask) -> Verdict {
        desk.spend(id, ask.binding, ask.who.clone(), self.waiter.clone());
        self.hears()
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn vote(desk: &Desk, id: ApprovalId, sub: &str, approve: bool) -> Result<State, ActFault> {
    wait(async {
        let digest = shown_digest(&desk.show(id).await?);
        let ballot = Ballot { approve, reason: None, digest, via: None };
        desk.vote(id, party(sub, &["dba"]), ballot).await.map(|request| request.state)
    })
}
