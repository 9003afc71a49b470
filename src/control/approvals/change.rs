//! What has happened to requests, for whoever wants to tell others of it.

use crate::policy::approval::{Act, ApprovalId, Book, Entry, State};
use tokio::sync::broadcast;

/// One entry that is on the disk: of which request, what, and where the request stands after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The request.
    pub id: ApprovalId,
    /// What happened, by [`Act::label`].
    pub act: &'static str,
    /// Where it stands after the round that the entry is of; nothing where it is forgotten by then.
    pub state: Option<State>,
    /// When, wall nanoseconds: the same for all entries of a round, and later in a later one.
    pub at_ns: u64,
}

impl Change {
    fn of(entry: &Entry, book: &Book) -> Self {
        let state = book.get(entry.id).map(|request| request.state);
        Self { id: entry.id, act: Act::label(&entry.act), state, at_ns: entry.at_ns }
    }
}

/// Tells every listener of a round, which is on the disk. Never waits: a listener that is more than
/// [`BEHIND_MAX`] changes behind hears that it is, and looks at the table itself.
pub(super) fn tell(to: &broadcast::Sender<Change>, entries: &[Entry], book: &Book) {
    if to.receiver_count() > 0 {
        for entry in entries {
            // The last listener may be gone meanwhile.
            let _ = to.send(Change::of(entry, book));
        }
    }
}

/// Changes that a listener may be behind.
pub(super) const BEHIND_MAX: usize = 1_024;
