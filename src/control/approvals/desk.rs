//! The desk: what workers and the admin surface hand to the owner, and how they hear of it.

use super::change::{BEHIND_MAX, Change};
use super::numbers::{Numbers, Reading};
use crate::base::Secret;
use crate::policy::approval::{
    ActFault, ApprovalId, Ask, Ballot, Bounds, Party, Refused, Request, Revoker, Selector,
    Statement, TakenBack, Verdict,
};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use tokio::sync::{broadcast, oneshot};

/// Whoever waits for a verdict.
///
/// It is told of [`Verdict::Pending`] once, then of the end. After [`Verdict::Approved`] it hears
/// when the grant is over before a use was spent; after [`Verdict::Spent`] of
/// [`Verdict::Revoked`] only, until it leaves. What was on its way when it left may still come.
#[derive(Clone)]
pub struct Waiter {
    /// One of a kind in the process.
    pub id: u64,
    /// Called on the owner's thread, or on the caller's for a refusal at once. Must not block.
    pub tell: Arc<dyn Fn(Verdict) + Send + Sync>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What is answered to somebody who can wait.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ActFault>>;

/// What the owner is asked to do.
pub(super) enum Message {
    Ask { ask: Box<Ask>, waiter: Waiter },
    Spend { id: ApprovalId, binding: [u8; 32], who: Box<Party>, waiter: Waiter },
    Leave { id: ApprovalId, waiter: u64, cancel: bool },
    Void { id: ApprovalId, why: Option<Box<str>> },
    Vote { id: ApprovalId, person: Box<Party>, ballot: Ballot, reply: Reply<Request> },
    Review { id: ApprovalId, person: Box<Party>, reason: Option<Box<str>>, reply: Reply<Request> },
    Cancel { id: ApprovalId, who: Box<Party>, reply: Reply<Request> },
    Revoke { selector: Selector, revoker: Revoker, why: Option<Box<str>>, reply: Reply<TakenBack> },
    Reveal { id: ApprovalId, person: Box<Party>, reply: Reply<Secret> },
    Statement { id: ApprovalId, reply: Reply<Statement> },
    Show { id: ApprovalId, reply: Reply<Seen> },
    List { wanted: Box<Wanted>, reply: Reply<Vec<Request>> },
    Brief { wanted: Box<Wanted>, max: usize, reply: Reply<Vec<Brief>> },
    Bounds(Bounds),
    Stop,
}

/// One request, with what the owner keeps beside the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The request.
    pub request: Request,
    /// Whether its originals are at hand, and differ from what is shown.
    pub originals: bool,
}

/// One request of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// The request, with the head of its summary.
    pub request: Request,
    /// Whether there is more of the summary.
    pub cut: bool,
}

/// Which requests are listed.
pub(super) type Wanted = dyn Fn(&Request) -> bool + Send;

/// A handle of the owner. Cheap to clone; nothing here blocks.
#[derive(Clone)]
pub struct Desk {
    queue: mpsc::Sender<Message>,
    queued: Arc<AtomicUsize>,
    numbers: Arc<Numbers>,
    changes: broadcast::Sender<Change>,
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("queued", &self.queued).finish_non_exhaustive()
    }
}

/// The owner's end of the queue.
pub(super) struct Inbox {
    queue: mpsc::Receiver<Message>,
    queued: Arc<AtomicUsize>,
}

impl Desk {
    pub(super) fn new(numbers: Arc<Numbers>) -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let inbox = Inbox { queue: receiver, queued: Arc::clone(&queued) };
        let changes = broadcast::Sender::new(BEHIND_MAX);
        (Self { queue: sender, queued, numbers, changes }, inbox)
    }

    /// The desk of an owner that is gone: everything is refused.
    #[must_use]
    pub fn closed() -> Self {
        Self::new(Arc::default()).0
    }

    /// A caller wants something. The same ask is the same request, also of another waiter.
    pub fn ask(&self, ask: Ask, waiter: Waiter) {
        let tell = Arc::clone(&waiter.tell);
        if let Err(refused) = self.send(Message::Ask { ask: Box::new(ask), waiter }) {
            self.numbers.refused();
            tell(Verdict::Refused(refused));
        }
    }

    /// Counts down one use of a grant, for the caller that it is of. Told is
    /// [`Verdict::Spent`], or why not.
    pub fn spend(&self, id: ApprovalId, binding: [u8; 32], who: Party, waiter: Waiter) {
        let tell = Arc::clone(&waiter.tell);
        let message = Message::Spend { id, binding, who: Box::new(who), waiter };
        if let Err(refused) = self.send(message) {
            self.numbers.refused();
            tell(Verdict::Refused(refused));
        }
    }

    /// A waiter waits no more, or what it did has ended. With `cancel` a request that nobody else
    /// waits for is taken back.
    pub fn leave(&self, id: ApprovalId, waiter_id: u64, cancel: bool) {
        self.send_anyhow(Message::Leave { id, waiter: waiter_id, cancel });
    }

    /// The policy denies what was asked: request and grant are over.
    pub fn void(&self, id: ApprovalId, why: Option<Box<str>>) {
        self.send_anyhow(Message::Void { id, why });
    }

    /// Takes other bounds over.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.send_anyhow(Message::Bounds(bounds));
    }

    /// A person votes.
    ///
    /// # Errors
    /// Why the vote does not count.
    pub async fn vote(
        &self,
        id: ApprovalId,
        person: Party,
        ballot: Ballot,
    ) -> Result<Request, ActFault> {
        let person = Box::new(person);
        self.call(|reply| Message::Vote { id, person, ballot, reply }).await
    }

    /// A person has looked at what was done under break-glass.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn review(
        &self,
        id: ApprovalId,
        person: Party,
        reason: Option<Box<str>>,
    ) -> Result<Request, ActFault> {
        let person = Box::new(person);
        self.call(|reply| Message::Review { id, person, reason, reply }).await
    }

    /// The caller takes its own pending request back, whoever waits for it.
    ///
    /// # Errors
    /// [`ActFault::Unknown`] for a request of somebody else, too.
    pub async fn cancel(&self, id: ApprovalId, who: Party) -> Result<Request, ActFault> {
        let who = Box::new(who);
        self.call(|reply| Message::Cancel { id, who, reply }).await
    }

    /// Takes back what `selector` names, as far as `revoker` may.
    ///
    /// # Errors
    /// Why one that was named by its id stays.
    pub async fn revoke(
        &self,
        selector: Selector,
        revoker: Revoker,
        why: Option<Box<str>>,
    ) -> Result<TakenBack, ActFault> {
        self.call(|reply| Message::Revoke { selector, revoker, why, reply }).await
    }

    /// One request.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn show(&self, id: ApprovalId) -> Result<Request, ActFault> {
        self.see(id).await.map(|seen| seen.request)
    }

    /// One request, and what there is beside it.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn see(&self, id: ApprovalId) -> Result<Seen, ActFault> {
        self.call(|reply| Message::Show { id, reply }).await
    }

    /// A person looks at what the masks took out of the summary; that it did is written before.
    ///
    /// # Errors
    /// Why it may not, or there is nothing to see.
    pub async fn reveal(&self, id: ApprovalId, person: Party) -> Result<Secret, ActFault> {
        let person = Box::new(person);
        self.call(|reply| Message::Reveal { id, person, reply }).await
    }

    /// The statement that is asked for, to be planned.
    ///
    /// # Errors
    /// [`ActFault::NoOriginals`] where it is none, or is not kept any more.
    pub async fn statement(&self, id: ApprovalId) -> Result<Statement, ActFault> {
        self.call(|reply| Message::Statement { id, reply }).await
    }

    /// Those that are wanted, the newest first, 1,000 at most.
    ///
    /// # Errors
    /// [`ActFault::Unavailable`].
    pub async fn list(
        &self,
        wanted: impl Fn(&Request) -> bool + Send + 'static,
    ) -> Result<Vec<Request>, ActFault> {
        let wanted: Box<Wanted> = Box::new(wanted);
        self.call(|reply| Message::List { wanted, reply }).await
    }

    /// The same with no more of each summary than `max` bytes.
    ///
    /// # Errors
    /// [`ActFault::Unavailable`].
    pub async fn list_brief(
        &self,
        max: usize,
        wanted: impl Fn(&Request) -> bool + Send + 'static,
    ) -> Result<Vec<Brief>, ActFault> {
        let wanted: Box<Wanted> = Box::new(wanted);
        self.call(|reply| Message::Brief { wanted, max, reply }).await
    }

    /// What the owner counts.
    #[must_use]
    pub fn reading(&self) -> Reading {
        self.numbers.reading()
    }

    /// Every change from here on, once it is on the disk. Whoever falls behind is told so
    /// (`RecvError::Lagged`), and holds up nobody.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    pub(super) fn changes_sender(&self) -> broadcast::Sender<Change> {
        self.changes.clone()
    }

    pub(super) fn stop(&self) {
        self.send_anyhow(Message::Stop);
    }

    async fn call<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, ActFault> {
        let (reply, answer) = oneshot::channel();
        self.send(message(reply)).map_err(|_| ActFault::Unavailable)?;
        answer.await.unwrap_or(Err(ActFault::Unavailable))
    }

    fn send(&self, message: Message) -> Result<(), Refused> {
        if self.queued.fetch_add(1, Ordering::AcqRel) >= QUEUE_MAX {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            return Err(Refused::Full);
        }
        self.queue.send(message).map_err(|_| Refused::Unavailable)
    }

    /// What must not be lost is queued above the bound, too: there is one for each waiter at most,
    /// or one for each act of an operator. An owner that is gone has nothing to forget.
    fn send_anyhow(&self, message: Message) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        let _ = self.queue.send(message);
    }
}

impl Inbox {
    /// The next message, within `wait`. A desk that is gone has said its last.
    pub(super) fn next(&self, wait: std::time::Duration) -> Option<Message> {
        let found = match self.queue.recv_timeout(wait) {
            Ok(message) => message,
            Err(mpsc::RecvTimeoutError::Timeout) => return None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return Some(Message::Stop),
        };
        self.queued.fetch_sub(1, Ordering::AcqRel);
        Some(found)
    }

    /// One that is there.
    pub(super) fn more(&self) -> Option<Message> {
        let found = self.queue.try_recv().ok()?;
        self.queued.fetch_sub(1, Ordering::AcqRel);
        Some(found)
    }
}

/// Most messages that wait for the owner.
const QUEUE_MAX: usize = 4_096;
