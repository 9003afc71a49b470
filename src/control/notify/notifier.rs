//! The handle of everything here: what the admin surface, the gateway and the two tasks share.

use super::frames::OutboxError;
use super::hook::Hook;
use super::link::{Bound, Link, LinkError, LinkKey};
use super::message::{Answers, Links};
use super::numbers::{HookReading, Numbers};
use super::outbox::{Delivery, Note, Outbox};
use super::pace::Spent;
use super::{courier, scout};
use crate::control::approvals::Desk;
use crate::control::drain::Storage;
use crate::policy::approval::{Request, State, shown_digest};
use crate::runtime;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::Notify;

/// The webhooks in force, and where links lead.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) list: Vec<Arc<Hook>>,
    public_url: Option<String>,
}

impl Hooks {
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Hook>> {
        self.list.iter().find(|hook| hook.name() == name)
    }
}

/// What is there once a webhook is.
pub(super) struct Opened {
    pub(super) outbox: Outbox,
    key: LinkKey,
}

/// Cheap to share; nothing here blocks but [`Self::open`].
pub struct Notifier {
    pub(super) desk: Desk,
    dir: PathBuf,
    storage: Arc<dyn Storage>,
    opened: OnceLock<Opened>,
    hooks: Mutex<Arc<Hooks>>,
    pub(super) numbers: Numbers,
    /// There may be something to send.
    pub(super) wake: Notify,
    /// The webhooks are others.
    pub(super) changed: Notify,
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Notifier {
    /// One without webhooks, which touches no file.
    #[must_use]
    pub fn new(desk: Desk, dir: PathBuf, storage: Arc<dyn Storage>) -> Self {
        Self {
            desk,
            dir,
            storage,
            opened: OnceLock::new(),
            hooks: Mutex::default(),
            numbers: Numbers::default(),
            wake: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// One that nobody hears, for tests of what stands beside it.
    #[cfg(test)]
    pub(in crate::control) fn idle() -> Arc<Self> {
        let storage = Arc::new(crate::control::drain::Files);
        Arc::new(Self::new(Desk::closed(), PathBuf::new(), storage))
    }

    /// Opens the outbox and the key of links, where that was not done; whoever calls it owns the
    /// data folder, and calls it in one thread at a time. Blocks for the disk.
    ///
    /// # Errors
    /// [`OutboxError`]
    pub fn open(&self) -> Result<(), OutboxError> {
        if self.opened.get().is_some() {
            return Ok(());
        }
        let outbox = Outbox::open(&self.dir, &self.storage)?;
        let key = LinkKey::open(&self.dir).map_err(|error| OutboxError::Io {
            what: "use the key of links in",
            path: self.dir.clone(),
            error,
        })?;
        // Nobody else opens it.
        let _ = self.opened.set(Opened { outbox, key });
        Ok(())
    }

    /// Takes webhooks over; [`Self::open`] was called where there are any.
    pub fn set_hooks(&self, list: Vec<Hook>, public_url: Option<String>) {
        let hooks = Hooks { list: list.into_iter().map(Arc::new).collect(), public_url };
        *self.hooks.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(hooks);
        self.changed.notify_one();
        self.wake.notify_one();
    }

    /// Finds out what is to be told, and sends it, for ever.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(scout::run(&self), courier::run(&self));
    }

    pub(super) fn hooks(&self) -> Arc<Hooks> {
        Arc::clone(&self.hooks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// A webhook in force.
    #[must_use]
    pub fn hook(&self, name: &str) -> Option<Arc<Hook>> {
        self.hooks().find(name).cloned()
    }

    /// Writes notes; they are on the disk and in force when this returns. Another thread waits for
    /// the disk.
    pub(super) async fn note(self: &Arc<Self>, notes: Vec<Note>) -> io::Result<()> {
        let this = Arc::clone(self);
        let written = tokio::task::spawn_blocking(move || {
            let opened = this.opened().ok_or_else(|| io::Error::other("there is no outbox"))?;
            opened.outbox.note(notes, runtime::now().wall_s())
        });
        written.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Notes that a link or a callback is used, if it was not.
    ///
    /// # Errors
    /// [`LinkError::Used`], [`LinkError::Unavailable`]; it may not be used then.
    pub async fn use_up(self: &Arc<Self>, what: &str, until_s: u64) -> Result<(), LinkError> {
        let opened = self.opened().ok_or(LinkError::Unavailable)?;
        if !opened.outbox.reserve(what) {
            return Err(LinkError::Used);
        }
        let noted = self.note(vec![Note::Used { what: what.into(), until_s }]).await;
        opened.outbox.release(what);
        noted.map_err(|error| {
            tracing::error!(%error, "a link or callback cannot be noted, and is refused");
            LinkError::Unavailable
        })
    }

    /// It was not used after all.
    pub async fn free(self: &Arc<Self>, what: &str) {
        if let Err(error) = self.note(vec![Note::Freed { what: what.into() }]).await {
            tracing::warn!(%error, "a link that did not count cannot be used again");
        }
    }

    /// Whether a link is ours and for this vote. [`Self::use_up`] its [`Link::nonce`] then.
    ///
    /// # Errors
    /// [`LinkError`]
    pub fn check_link(
        &self,
        link: &Link,
        request: &Request,
        approve: bool,
    ) -> Result<(), LinkError> {
        let opened = self.opened().ok_or(LinkError::Tampered)?;
        // A webhook that is in the config no more has no links either.
        if !self.hook(&link.hook).is_some_and(|hook| hook.covers(request)) {
            return Err(LinkError::Tampered);
        }
        let shown = (request.id, &shown_digest(request), approve);
        opened.key.verify(link, shown, runtime::now().wall_s())
    }

    /// Where a notice of this webhook sends people; nothing where the config says no `public_url`.
    pub(in crate::control) fn links(&self, hook: &str, request: &Request) -> Option<Links> {
        let hooks = self.hooks();
        let base = hooks.public_url.as_deref()?;
        let open = format!("{base}/approvals/{}", request.id);
        let digest = shown_digest(request);
        let answer = |approve| {
            let bound = Bound { id: request.id, digest: &digest, approve, hook };
            let expiry_s = request.deadline_ns / 1_000_000_000;
            let query = self.opened()?.key.sign(bound, expiry_s).ok()?;
            Some(format!("{open}?{query}"))
        };
        let waits = request.state == State::Pending;
        let answers = waits.then(|| answer(true).zip(answer(false))).flatten();
        let answers = answers.map(|(approve, deny)| Answers { approve, deny });
        Some(Links { open, answers })
    }

    /// Takes one callback of a webhook's budget.
    pub(in crate::control) fn take(&self, hook: &str, good: bool) -> Result<(), Spent> {
        self.numbers.take(hook, good, runtime::now().mono_ns)
    }

    /// Counts a callback.
    pub(in crate::control) fn called(&self, hook: &str, outcome: &'static str) {
        self.numbers.called(hook, outcome);
    }

    /// The webhooks in force: name, what it did, notices that wait, dead letters.
    #[must_use]
    pub fn readings(&self) -> Vec<(String, HookReading, usize, usize)> {
        let hooks = self.hooks();
        let of = |hook: &Arc<Hook>| {
            let name = hook.name();
            let (queued, dead) = self.opened().map_or((0, 0), |opened| {
                opened.outbox.read(|tables| {
                    let mine = |one: &&Delivery| *one.hook == *name;
                    let queued = tables.queue.values().filter(mine).count();
                    (queued, tables.dead.values().filter(mine).count())
                })
            });
            (name.to_owned(), self.numbers.reading(name), queued, dead)
        };
        hooks.list.iter().map(of).collect()
    }

    /// Dead letters that made room for others since the start.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.opened().map_or(0, |opened| opened.outbox.read(|tables| tables.forgotten))
    }

    /// Dead letters, the newest first, with when they died.
    pub(in crate::control) fn dead(&self) -> Vec<DeadLetter> {
        let of = |((dead_ns, _), one): (&(u64, Box<str>), &Delivery)| DeadLetter {
            id: one.id.clone(),
            hook: one.hook.clone(),
            approval: one.approval.clone(),
            event: one.event.clone(),
            at_ns: one.at_ns,
            dead_ns: *dead_ns,
            tries: one.tries,
            error: one.error.clone(),
        };
        self.opened().map_or_else(Vec::new, |opened| {
            opened.outbox.read(|tables| tables.dead.iter().rev().map(of).collect())
        })
    }

    /// Puts a dead letter back into the queue. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn retry(self: &Arc<Self>, id: &str) -> io::Result<bool> {
        let dead = |opened: &Opened| opened.outbox.read(|tables| tables.dead_key(id)).is_some();
        if !self.opened().is_some_and(dead) {
            return Ok(false);
        }
        let at_ns = runtime::now().wall_ns;
        let until_ns = at_ns.saturating_add(scout::WORTH_NS);
        self.note(vec![Note::Raised { id: id.into(), at_ns, until_ns }]).await?;
        self.wake.notify_one();
        Ok(true)
    }
}

/// A notice that is not sent any more, as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct DeadLetter {
    pub(in crate::control) id: Box<str>,
    pub(in crate::control) hook: Box<str>,
    pub(in crate::control) approval: Box<str>,
    pub(in crate::control) event: Box<str>,
    pub(in crate::control) at_ns: u64,
    pub(in crate::control) dead_ns: u64,
    pub(in crate::control) tries: u32,
    pub(in crate::control) error: Option<Box<str>>,
}
