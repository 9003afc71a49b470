//! How a worker's sessions reach the owner of approvals, and how its answers find back to them.
//!
//! A session's petition goes to the desk at once; nothing blocks. The answer comes on another
//! thread: it is laid into the session's letter box, and the worker's mailbox rings. The session
//! hears it in its own turn, as any other input.

use crate::base::ExchangeId;
use crate::control::approvals::{Desk, Waiter};
use crate::policy::approval::{Request, Verdict};
use crate::runtime::Mailbox;
use crate::session::Petition;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// One worker's way to the desk.
pub(super) struct Bridge {
    pub(super) desk: Desk,
    pub(super) mailbox: Arc<Mailbox>,
    /// The worker's number.
    pub(super) place: u32,
    /// Where what can wait waits.
    pub(super) control: Handle,
}

/// One answer.
pub(super) enum Letter {
    /// Of what became of a question.
    Verdict(ExchangeId, Verdict),
    /// What was looked for; nothing where there is no such thing, or no answer.
    Shown(ExchangeId, Option<Box<Request>>),
}

/// Answers that a session has not heard yet.
#[derive(Clone, Default)]
pub(super) struct LetterBox(Arc<Mutex<Vec<Letter>>>);

impl LetterBox {
    pub(super) fn take(&self) -> Vec<Letter> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, letter: Letter) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
    }
}

impl Bridge {
    /// Puts a petition of the exchange of a session, which `post` names in the worker's mailbox.
    pub(super) fn put(
        &self,
        exchange: ExchangeId,
        petition: Petition,
        post: u64,
        letters: &LetterBox,
    ) {
        match petition {
            Petition::Ask(ask) => self.desk.ask(*ask, self.waiter(exchange, post, letters)),
            Petition::Spend { id, binding, who } => {
                self.desk.spend(id, binding, *who, self.waiter(exchange, post, letters));
            }
            Petition::Void { id } => self.desk.void(id, None),
            Petition::Leave { id, cancel } => self.desk.leave(id, self.waiter_id(post), cancel),
            Petition::Look { id } => {
                let desk = self.desk.clone();
                self.show(exchange, post, letters, async move { desk.show(id).await.ok() });
            }
            Petition::TakeBack { id, who } => {
                let desk = self.desk.clone();
                let taken = async move {
                    let found = desk.cancel(id, *who).await.ok();
                    // One that has ended is not taken back, and is told all the same.
                    if found.is_some() { found } else { desk.show(id).await.ok() }
                };
                self.show(exchange, post, letters, taken);
            }
        }
    }

    fn show(
        &self,
        exchange: ExchangeId,
        post: u64,
        letters: &LetterBox,
        found: impl Future<Output = Option<Request>> + Send + 'static,
    ) {
        let (letters, mailbox) = (letters.clone(), Arc::clone(&self.mailbox));
        let place = self.place as usize;
        self.control.spawn(async move {
            letters.put(Letter::Shown(exchange, found.await.map(Box::new)));
            mailbox.news(place, post);
        });
    }

    fn waiter(&self, exchange: ExchangeId, post: u64, letters: &LetterBox) -> Waiter {
        let (letters, mailbox) = (letters.clone(), Arc::clone(&self.mailbox));
        let place = self.place as usize;
        let tell = move |verdict| {
            letters.put(Letter::Verdict(exchange, verdict));
            mailbox.news(place, post);
        };
        Waiter { id: self.waiter_id(post), tell: Arc::new(tell) }
    }

    /// Connections are counted up for each worker: no other session of the process has it.
    fn waiter_id(&self, post: u64) -> u64 {
        u64::from(self.place) << 48 | post & 0xffff_ffff_ffff
    }
}
