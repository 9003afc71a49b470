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

/// Answers that a session has not heard yet; nothing once it is over.
#[derive(Clone)]
pub(super) struct LetterBox(Arc<Mutex<Option<Vec<Letter>>>>);

impl Default for LetterBox {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }
}

impl LetterBox {
    pub(super) fn take(&self) -> Vec<Letter> {
        let mut letters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        letters.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The session is over: what it did not hear, and nothing is taken any more.
    fn close(&self) -> Vec<Letter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Gives the letter back where nobody will read it.
    fn put(&self, letter: Letter) -> Option<Letter> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(letters) => {
                letters.push(letter);
                None
            }
            None => Some(letter),
        }
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
            Petition::Leave { id, cancel } => {
                self.desk.leave(id, waiter_id(self.place, exchange), cancel)
            }
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

    /// A session is over, maybe before it heard what it waits for.
    pub(super) fn close(&self, letters: &LetterBox) {
        for letter in letters.close() {
            leave(&self.desk, self.place, &letter);
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
            let letter = Letter::Shown(exchange, found.await.map(Box::new));
            if letters.put(letter).is_none() {
                mailbox.news(place, post);
            }
        });
    }

    fn waiter(&self, exchange: ExchangeId, post: u64, letters: &LetterBox) -> Waiter {
        let (letters, mailbox) = (letters.clone(), Arc::clone(&self.mailbox));
        let (desk, place) = (self.desk.clone(), self.place);
        let tell = move |verdict: Verdict| match letters.put(Letter::Verdict(exchange, verdict)) {
            None => {
                mailbox.news(place as usize, post);
            }
            Some(unread) => leave(&desk, place, &unread),
        };
        Waiter { id: waiter_id(self.place, exchange), tell: Arc::new(tell) }
    }
}

/// Nobody waits for what an unread letter is about.
fn leave(desk: &Desk, place: u32, unread: &Letter) {
    if let Letter::Verdict(exchange, verdict) = unread
        && let Some(request) = verdict.id()
    {
        desk.leave(request, waiter_id(place, *exchange), false);
    }
}

/// Exchanges are counted up for each worker: no other one of the process has it.
fn waiter_id(place: u32, exchange: ExchangeId) -> u64 {
    u64::from(place) << 48 | (exchange.0 & 0xffff_ffff_ffff) as u64
}
