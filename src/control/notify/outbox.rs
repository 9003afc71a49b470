//! What is to be sent, what could not be, and what was used up: everything that outlives the
//! process.
//!
//! Every change is a [`Note`] that is on the disk before it takes effect. A notice is there until
//! its receiver took it or it is a dead letter; so it is sent at least once, under one id. `seen`
//! says up to where the table of approvals was looked through: after a start, what happened behind
//! that is told, whether or not the process was there to hear of it.

use super::frames::{Frames, OutboxError};
use crate::config::WebhookEvent;
use crate::control::drain::Storage;
use ahash::{AHashMap, AHashSet};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One notice for one webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivery {
    /// The id that the receiver sees, the same at each try.
    pub(super) id: Box<str>,
    /// The webhook's name.
    pub(super) hook: Box<str>,
    /// The request that it is about.
    pub(super) approval: Box<str>,
    /// What happened, by [`WebhookEvent::label`].
    pub(super) event: Box<str>,
    /// When, wall nanoseconds.
    pub(super) at_ns: u64,
    /// Until when it is worth sending.
    pub(super) until_ns: u64,
    /// What is sent, byte for byte.
    pub(super) body: Box<str>,
    /// How often it was tried.
    pub(super) tries: u32,
    /// When it is tried next.
    pub(super) next_ns: u64,
    /// Why it is not there yet, without any secret.
    pub(super) error: Option<Box<str>>,
}

impl Delivery {
    /// Whether it goes before all others.
    pub(super) fn is_urgent(&self) -> bool {
        *self.event == *WebhookEvent::BreakGlass.label()
    }
}

/// A notice that is not sent any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dead {
    pub(super) delivery: Delivery,
    pub(super) dead_ns: u64,
}

/// One change of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Note {
    /// A notice is to be sent.
    Queued { delivery: Box<Delivery> },
    /// It was tried in vain.
    Tried { id: Box<str>, tries: u32, next_ns: u64, error: Box<str> },
    /// Its receiver took it.
    Taken { id: Box<str> },
    /// It is a dead letter.
    Died { id: Box<str>, at_ns: u64, error: Box<str> },
    /// A dead letter as it stands, or one that never was anything else.
    Buried { dead: Box<Dead> },
    /// A dead letter is to be sent again.
    Raised { id: Box<str>, at_ns: u64, until_ns: u64 },
    /// Everything that happened up to here is queued.
    Seen { at_ns: u64 },
    /// A notice of what happened behind that was queued.
    Told { id: Box<str>, at_ns: u64 },
    /// A link or a callback was used; it could be shown again until then, wall seconds.
    Used { what: Box<str>, until_s: u64 },
    /// It was not used after all.
    Freed { what: Box<str> },
}

/// The tables that the notes make.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) queue: AHashMap<Box<str>, Delivery>,
    pub(super) dead: BTreeMap<(u64, Box<str>), Delivery>,
    pub(super) seen_ns: u64,
    /// Ids of notices of what happened after `seen_ns`.
    told: AHashMap<Box<str>, u64>,
    used: AHashMap<Box<str>, u64>,
    used_until: BTreeSet<(u64, Box<str>)>,
    /// What somebody is about to use.
    reserved: AHashSet<Box<str>>,
    /// Dead letters that made room for others.
    pub(super) forgotten: u64,
}

/// The outbox: its tables and its file. Whoever writes holds the file for as long as the disk takes,
/// and the tables for a moment after that, so that nobody who looks at them waits for a disk.
#[derive(Debug)]
pub(super) struct Outbox {
    tables: Mutex<Tables>,
    frames: Mutex<Frames>,
}

impl Outbox {
    /// Reads what is in `dir`, or begins it.
    pub(super) fn open(dir: &Path, storage: &Arc<dyn Storage>) -> Result<Self, OutboxError> {
        let path = Frames::path(dir);
        let Some((frames, bodies)) = Frames::open(dir, storage)? else {
            let frames = Frames::create(dir, std::iter::empty(), storage);
            let frames = frames.map_err(|error| OutboxError::Io { what: "write", path, error })?;
            return Ok(Self { tables: Mutex::default(), frames: Mutex::new(frames) });
        };
        let mut tables = Tables::default();
        for (offset, body) in bodies {
            let damaged = || OutboxError::Damaged { path: PathBuf::clone(&path), offset };
            let note: Note = serde_json::from_slice(&body).map_err(|_| damaged())?;
            tables.apply(note);
        }
        Ok(Self { tables: Mutex::new(tables), frames: Mutex::new(frames) })
    }

    /// Looks at the tables, for a moment.
    pub(super) fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.tables())
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be used for oneself, until [`Self::release`]. Returns whether nobody has
    /// it, and it was not used.
    pub(super) fn reserve(&self, what: &str) -> bool {
        let mut tables = self.tables();
        !tables.used.contains_key(what) && tables.reserved.insert(what.into())
    }

    /// Others may try.
    pub(super) fn release(&self, what: &str) {
        self.tables().reserved.remove(what);
    }

    /// Writes notes, waits for the disk, and makes the changes.
    ///
    /// # Errors
    /// Those of the disk; nothing has changed then.
    pub(super) fn note(&self, notes: Vec<Note>, now_s: u64) -> io::Result<()> {
        let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        if frames.is_long() {
            let kept: Vec<Vec<u8>> = {
                let mut tables = self.tables();
                tables.forget_used(now_s);
                tables.snapshot().map(|note| encoded(&note)).collect()
            };
            frames.rewrite(kept.into_iter())?;
        }
        let bodies: Vec<Vec<u8>> = notes.iter().map(encoded).collect();
        frames.append(&bodies)?;
        let mut tables = self.tables();
        notes.into_iter().for_each(|note| tables.apply(note));
        Ok(())
    }
}

fn encoded(note: &Note) -> Vec<u8> {
    serde_json::to_vec(note).expect("plain enums are written to memory")
}

impl Tables {
    /// Makes a change. One about what is not there changes nothing: each stands for itself.
    fn apply(&mut self, note: Note) {
        match note {
            Note::Queued { delivery } => {
                self.tell(delivery.id.clone(), delivery.at_ns);
                self.queue.insert(delivery.id.clone(), *delivery);
            }
            Note::Tried { id, tries, next_ns, error } => {
                if let Some(found) = self.queue.get_mut(&id) {
                    (found.tries, found.next_ns, found.error) = (tries, next_ns, Some(error));
                }
            }
            Note::Taken { id } => drop(self.queue.remove(&id)),
            Note::Died { id, at_ns, error } => {
                if let Some(mut found) = self.queue.remove(&id) {
                    found.error = Some(error);
                    self.bury(found, at_ns);
                }
            }
            Note::Buried { dead } => {
                self.tell(dead.delivery.id.clone(), dead.delivery.at_ns);
                self.bury(dead.delivery, dead.dead_ns);
            }
            Note::Raised { id, at_ns, until_ns } => {
                if let Some(key) = self.dead_key(&id)
                    && let Some(mut found) = self.dead.remove(&key)
                {
                    (found.tries, found.next_ns, found.until_ns) = (0, at_ns, until_ns);
                    self.queue.insert(found.id.clone(), found);
                }
            }
            Note::Seen { at_ns } => {
                self.seen_ns = self.seen_ns.max(at_ns);
                let seen_ns = self.seen_ns;
                self.told.retain(|_, told_ns| *told_ns > seen_ns);
            }
            Note::Told { id, at_ns } => self.tell(id, at_ns),
            Note::Used { what, until_s } => {
                self.reserved.remove(&what);
                self.used_until.insert((until_s, what.clone()));
                self.used.insert(what, until_s);
            }
            Note::Freed { what } => {
                if let Some(until_s) = self.used.remove(&what) {
                    self.used_until.remove(&(until_s, what));
                }
            }
        }
    }

    fn tell(&mut self, id: Box<str>, at_ns: u64) {
        if at_ns > self.seen_ns {
            self.told.insert(id, at_ns);
        }
    }

    fn bury(&mut self, delivery: Delivery, at_ns: u64) {
        self.dead.insert((at_ns, delivery.id.clone()), delivery);
        while self.dead.len() > DEAD_MAX {
            self.dead.pop_first();
            self.forgotten = self.forgotten.saturating_add(1);
        }
    }

    /// Whether this notice was queued, ever.
    pub(super) fn is_told(&self, id: &str) -> bool {
        self.told.contains_key(id)
    }

    pub(super) fn dead_key(&self, id: &str) -> Option<(u64, Box<str>)> {
        self.dead.keys().find(|(_, known)| **known == *id).cloned()
    }

    /// Forgets what is refused for its time alone.
    fn forget_used(&mut self, now_s: u64) {
        while let Some((until_s, what)) = self.used_until.pop_first() {
            if until_s.saturating_add(USED_SPARE_S) >= now_s {
                self.used_until.insert((until_s, what));
                break;
            }
            self.used.remove(&what);
        }
    }

    /// Notes that make these tables.
    fn snapshot(&self) -> impl Iterator<Item = Note> {
        let queued = |one: &Delivery| Note::Queued { delivery: Box::new(one.clone()) };
        let buried = |((dead_ns, _), delivery): (&(u64, Box<str>), &Delivery)| Note::Buried {
            dead: Box::new(Dead { delivery: delivery.clone(), dead_ns: *dead_ns }),
        };
        let used = |(until_s, what): &(u64, Box<str>)| Note::Used {
            what: what.clone(),
            until_s: *until_s,
        };
        let seen = (self.seen_ns > 0).then_some(Note::Seen { at_ns: self.seen_ns });
        seen.into_iter()
            .chain(self.told.iter().map(|(id, at_ns)| Note::Told { id: id.clone(), at_ns: *at_ns }))
            .chain(self.queue.values().map(queued))
            .chain(self.dead.iter().map(buried))
            .chain(self.used_until.iter().map(used))
    }
}

/// Dead letters that are kept; the oldest make room.
const DEAD_MAX: usize = 1_000;
/// How much longer a use is kept than it could be shown again: the wall clock may be set back.
const USED_SPARE_S: u64 = 86_400;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;
