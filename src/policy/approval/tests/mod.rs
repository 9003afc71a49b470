//! The book by cases, and against a naive model of itself.

mod cases;
mod model;

use super::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

/// A person: `sub`, or `sub` with those who act for it behind a slash, and groups.
fn party(name: &str, groups: &[&str]) -> Party {
    let mut names = name.split('/').map(Into::into);
    Party {
        iss: "https://idp.example.com".into(),
        sub: names.next().unwrap(),
        client_id: None,
        actors: names.collect(),
        groups: groups.iter().map(|group| (*group).into()).collect(),
    }
}

fn terms() -> Terms {
    Terms {
        approvers: ["dba".into(), "lead".into()].into(),
        count: 1,
        distinct_groups: false,
        wait_ns: 60 * SECOND,
        ttl_ns: 600 * SECOND,
        uses: 1,
        scope: Scope::Exact,
        reason: false,
        break_glass: false,
        reveal: [].into(),
        estimate: false,
    }
}

fn ask(who: &Party, what: u8) -> Ask {
    Ask {
        who: who.clone(),
        resource: if what.is_multiple_of(2) { "orders" } else { "users" }.into(),
        protocol: "postgres".into(),
        rule: "writes".into(),
        credential: Some("orders-writer".into()),
        generation: 1,
        binding: [what; 32],
        fingerprint: [what; 32],
        retry: None,
        summary: "delete from orders".into(),
        terms: terms(),
        asserted: Claims::default(),
        reason: None,
        exchange: "x".into(),
        originals: Originals::default(),
    }
}

fn bounds() -> Bounds {
    Bounds { open_max: 100, caller_max: 50, kept_max: 100, kept_ns: 3_600 * SECOND }
}

/// What holds as soon as the disk has everything.
fn now<T>(staged: Staged<T>) -> T {
    staged.open(Synced::up_to(u64::MAX)).unwrap()
}

fn yes(book: &Book, id: ApprovalId) -> Ballot {
    ballot(book, id, true)
}

fn ballot(book: &Book, id: ApprovalId, approve: bool) -> Ballot {
    let digest = book.get(id).map(shown_digest).unwrap_or_default();
    Ballot { approve, reason: None, digest, via: None }
}
