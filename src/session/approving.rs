//! What a session asks the owner of approvals for, and by which bytes an approval is bound.
//!
//! An approval is for one operation. Its *fingerprint* is a digest over every part of the operation
//! that its upstream sees, each with its length before it. What a grant covers is its *binding*, a
//! digest over the scope and what the scope keeps of the operation.

use crate::base::{ApprovalId, Limits};
use crate::identity::Principal;
use crate::policy::approval::{Ask, Party, Scope};
use ahash::AHashMap;
use ring::digest::{Context, SHA256};

/// One word to the owner of approvals; the answer is [`Input::Verdict`](super::Input::Verdict).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Petition {
    /// Ask for an approval, or find the one that there is.
    Ask(Box<Ask>),
    /// Spend one use of a grant.
    Spend {
        /// The grant.
        id: ApprovalId,
        /// What it is to cover.
        binding: [u8; 32],
        /// Whose it must be.
        who: Box<Party>,
    },
    /// The policy now denies what was asked or granted.
    Void {
        /// The request or grant.
        id: ApprovalId,
    },
    /// Tell where a request stands; the answer is [`Input::Shown`](super::Input::Shown).
    Look {
        /// The request.
        id: ApprovalId,
    },
    /// Its caller takes a request back; the answer is [`Input::Shown`](super::Input::Shown).
    TakeBack {
        /// The request.
        id: ApprovalId,
        /// Whose it must be.
        who: Box<Party>,
    },
    /// Nobody waits here any more.
    Leave {
        /// The request or grant.
        id: ApprovalId,
        /// The request is taken back, too; else it stays until its deadline.
        cancel: bool,
    },
}

/// Places of requests that wait for a person, on one worker: so many in all, and so many of a caller.
#[derive(Debug, Default)]
pub(super) struct Places {
    all: u32,
    callers: AHashMap<Box<str>, u32>,
}

/// One place, as its caller's. Given back by [`Places::give`].
#[derive(Debug)]
pub(super) struct Place(Box<str>);

impl Places {
    /// A place, where there is one.
    pub(super) fn take(&mut self, who: &Principal, limits: &Limits) -> Option<Place> {
        let caller: Box<str> = [who.iss(), "\n", who.sub()].concat().into();
        let own = self.callers.get(&caller).copied().unwrap_or(0);
        if self.all >= limits.held_max || own >= limits.held_caller_max {
            return None;
        }
        self.all += 1;
        self.callers.insert(caller.clone(), own + 1);
        Some(Place(caller))
    }

    /// Takes a place back.
    pub(super) fn give(&mut self, place: Option<Place>) {
        let Some(Place(caller)) = place else { return };
        self.all = self.all.saturating_sub(1);
        if let Some(own) = self.callers.get_mut(&caller) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.callers.remove(&caller);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u32 {
        self.all
    }
}

/// A digest over parts, each with its length before it.
pub(super) struct Fingerprint(Context);

impl Fingerprint {
    /// Of an operation on a resource.
    pub(super) fn new(protocol: &str, resource: &str) -> Self {
        let mut made = Self(Context::new(&SHA256));
        made.part(b"weirgate operation 1");
        made.part(protocol.as_bytes());
        made.part(resource.as_bytes());
        made
    }

    pub(super) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> [u8; 32] {
        self.0.finish().as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// What a grant of a scope covers: `kept` is what the scope keeps of the operation.
pub(super) fn binding(protocol: &str, resource: &str, scope: Scope, kept: &[u8]) -> [u8; 32] {
    let mut made = Fingerprint::new(protocol, resource);
    made.part(scope.label().as_bytes());
    made.part(kept);
    made.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut made = Fingerprint::new("http", "r");
            parts.iter().for_each(|part| made.part(part.as_bytes()));
            made.finish()
        };
        let all = [of(&["ab", "c"]), of(&["a", "bc"]), of(&["abc"]), of(&["abc", ""]), of(&[])];
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(unique.len(), all.len());
        let bound = |scope| binding("http", "r", scope, b"x");
        assert_ne!(bound(Scope::Exact), bound(Scope::Shape));
    }
}
