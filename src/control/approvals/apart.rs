//! What masks took out of what is asked, in memory and nowhere else, while it may be looked at.

use crate::base::{ApprovalId, Secret};
use crate::policy::approval::{Originals, Request, State};
use ahash::AHashMap;

/// The originals of the requests that wait or owe a review. A restart forgets them.
#[derive(Debug, Default)]
pub(super) struct Apart {
    kept: AHashMap<ApprovalId, Originals>,
    bytes: usize,
}

impl Apart {
    /// Keeps those of `request`, where there is room and they are of its very operation.
    pub(super) fn put(&mut self, request: &Request, fingerprint: &[u8; 32], originals: Originals) {
        let len = originals.len();
        let fits = self.bytes.saturating_add(len) <= BYTES_MAX;
        let same = request.ask.fingerprint == *fingerprint;
        if originals.is_empty() || !wants(request) || !fits || !same {
            return;
        }
        self.kept.entry(request.id).or_insert_with(|| {
            self.bytes = self.bytes.saturating_add(len);
            originals
        });
    }

    /// The summary with nothing masked.
    pub(super) fn summary(&self, id: ApprovalId) -> Option<&Secret> {
        self.kept.get(&id)?.summary.as_ref()
    }

    /// All of one request.
    pub(super) fn of(&self, id: ApprovalId) -> Option<&Originals> {
        self.kept.get(&id)
    }

    /// Forgets those of a request that nobody has to look at any more.
    pub(super) fn settle(&mut self, id: ApprovalId, request: Option<&Request>) {
        if request.is_some_and(wants) {
            return;
        }
        if let Some(gone) = self.kept.remove(&id) {
            self.bytes = self.bytes.saturating_sub(gone.len());
        }
    }

    /// The ids of what is kept.
    pub(super) fn ids(&self) -> Vec<ApprovalId> {
        self.kept.keys().copied().collect()
    }
}

fn wants(request: &Request) -> bool {
    request.state == State::Pending || request.owes_review()
}

/// Most bytes of all; what comes when they are taken cannot be revealed.
const BYTES_MAX: usize = 64 << 20;
