//! Sends what is in the outbox, each notice until it is taken or a dead letter.

use super::backoff::{Answer, Next, next, retry_after};
use super::hook::Hook;
use super::notifier::{Hooks, Notifier};
use super::outbox::{Delivery, Note, Tables};
use super::signature;
use crate::control::fetch::root_cause;
use crate::runtime;
use ahash::{AHashMap, AHashSet};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};

/// Sends for ever.
pub(super) async fn run(notifier: &Arc<Notifier>) {
    let mut hand = Hand::default();
    loop {
        let now_ns = runtime::now().wall_ns;
        let hooks = notifier.hooks();
        let plan = notifier.opened().map(|opened| {
            opened.outbox.read(|tables| plan(tables, &hooks, notifier, &hand, now_ns))
        });
        let Plan { send, bury, next_ns } = plan.unwrap_or_default();
        for delivery in send {
            if let Some(hook) = hooks.find(&delivery.hook) {
                hand.send(Arc::clone(notifier), Arc::clone(hook), delivery);
            }
        }
        for (id, hook, error) in bury {
            tracing::error!(webhook = %hook, delivery = %id, %error, "a notice is a dead letter");
            notifier.numbers.died(&hook);
            hand.ids.insert(id.clone());
            let note = Note::Died { id: id.clone(), at_ns: now_ns, error };
            hand.unwritten.push((id, note));
        }
        if !hand.unwritten.is_empty() {
            if !hand.write(notifier).await {
                tokio::time::sleep(RETRY).await;
            }
            continue;
        }
        let wait = next_ns.map(|next_ns| Duration::from_nanos(next_ns.saturating_sub(now_ns)));
        // The wall clock may be set forward.
        let wait = wait.unwrap_or(LOOK_MAX).clamp(LOOK_MIN, LOOK_MAX);
        tokio::select! {
            Some(done) = hand.tries.join_next_with_id() => hand.finished(done),
            () = notifier.wake.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What is under way.
#[derive(Default)]
struct Hand {
    tries: JoinSet<Note>,
    /// Whose tries they are, and of which webhook.
    running: AHashMap<Id, (Box<str>, Box<str>)>,
    /// What became of notices, where the disk did not take it yet: they are not sent again for that.
    unwritten: Vec<(Box<str>, Note)>,
    /// All of these.
    ids: AHashSet<Box<str>>,
}

impl Hand {
    fn send(&mut self, notifier: Arc<Notifier>, hook: Arc<Hook>, delivery: Delivery) {
        let (id, name) = (delivery.id.clone(), delivery.hook.clone());
        self.ids.insert(id.clone());
        let task = self.tries.spawn(async move { attempt(&notifier, &hook, &delivery).await });
        self.running.insert(task.id(), (id, name));
    }

    fn finished(&mut self, done: Result<(Id, Note), JoinError>) {
        let (task, note) = match done {
            Ok((task, note)) => (task, Some(note)),
            // A panic there was logged there; the next round tries again.
            Err(error) => (error.id(), None),
        };
        let Some((id, _)) = self.running.remove(&task) else { return };
        match note {
            Some(note) => self.unwritten.push((id, note)),
            None => drop(self.ids.remove(&id)),
        }
    }

    /// Notes what became of notices. Returns whether the disk took it.
    async fn write(&mut self, notifier: &Arc<Notifier>) -> bool {
        let notes = self.unwritten.iter().map(|(_, note)| note.clone()).collect();
        if let Err(error) = notifier.note(notes).await {
            tracing::error!(%error, "what became of notices cannot be noted");
            return false;
        }
        for (id, _) in self.unwritten.drain(..) {
            self.ids.remove(&id);
        }
        true
    }

    fn of_hook(&self, hook: &str) -> usize {
        self.running.values().filter(|(_, name)| **name == *hook).count()
    }
}

/// What is to be done now, and when to look again.
#[derive(Default)]
struct Plan {
    send: Vec<Delivery>,
    /// Id, webhook, and why.
    bury: Vec<(Box<str>, Box<str>, Box<str>)>,
    next_ns: Option<u64>,
}

/// Break-glass goes first, and is not held up by a webhook that fails: of any other notice one at a
/// time is tried there.
fn plan(tables: &Tables, hooks: &Hooks, notifier: &Notifier, hand: &Hand, now_ns: u64) -> Plan {
    let mut plan = Plan::default();
    let waits = tables.queue.values().filter(|one| !hand.ids.contains(&one.id));
    let mut due: Vec<&Delivery> = Vec::new();
    for one in waits {
        if hooks.find(&one.hook).is_none() {
            let error = "the config has no such webhook any more".into();
            plan.bury.push((one.id.clone(), one.hook.clone(), error));
        } else if one.until_ns <= now_ns {
            let last = one.error.as_deref().unwrap_or("it was never tried");
            let error = format!("not taken in time: {last}").into();
            plan.bury.push((one.id.clone(), one.hook.clone(), error));
        } else if one.next_ns <= now_ns || one.next_ns > now_ns.saturating_add(CLOCK_NS) {
            due.push(one);
        } else {
            let next_ns = one.next_ns.min(one.until_ns);
            plan.next_ns = Some(plan.next_ns.map_or(next_ns, |known| known.min(next_ns)));
        }
    }
    due.sort_unstable_by_key(|one| (!one.is_urgent(), one.next_ns, one.at_ns));
    let mut rooms: AHashMap<&str, usize> = AHashMap::new();
    let mut all = TRIES_MAX.saturating_sub(hand.running.len());
    for one in due {
        let room = rooms.entry(&one.hook).or_insert_with(|| {
            let most = if notifier.numbers.is_failing(&one.hook) { 1 } else { HOOK_TRIES_MAX };
            most.saturating_sub(hand.of_hook(&one.hook))
        });
        if !one.is_urgent() {
            if *room == 0 || all == 0 {
                continue;
            }
            *room -= 1;
            all -= 1;
        }
        plan.send.push(one.clone());
    }
    plan
}

/// Tries once. Returns the note of what became of it.
async fn attempt(notifier: &Notifier, hook: &Hook, delivery: &Delivery) -> Note {
    let (answer, error) = send(hook, delivery).await;
    let tries = delivery.tries.saturating_add(1);
    let now_ns = runtime::now().wall_ns;
    let (name, id) = (hook.name(), &delivery.id);
    match next(answer, tries, chance()) {
        Next::Done => {
            notifier.numbers.delivered(name, now_ns);
            tracing::info!(webhook = name, delivery = %id, event = %delivery.event,
                approval = %delivery.approval, tries, "a notice was delivered");
            Note::Taken { id: id.clone() }
        }
        Next::Again(after) => {
            notifier.numbers.failed(name, &error, now_ns);
            tracing::warn!(webhook = name, delivery = %id, tries, error, "a notice was not taken");
            let after_ns = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            let next_ns = now_ns.saturating_add(after_ns);
            Note::Tried { id: id.clone(), tries, next_ns, error: error.into() }
        }
        Next::Dead => {
            notifier.numbers.failed(name, &error, now_ns);
            notifier.numbers.died(name);
            tracing::error!(webhook = name, delivery = %id, tries, error,
                "a notice was refused for good: a dead letter");
            Note::Died { id: id.clone(), at_ns: now_ns, error: error.into() }
        }
    }
}

/// Sends, and says what came of it; the text holds nothing of URL, signature or body.
async fn send(hook: &Hook, delivery: &Delivery) -> (Answer, String) {
    let now_s = runtime::now().wall_s();
    let mut request = hook
        .client()
        .post(hook.url().clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-id", &*delivery.id)
        .header("webhook-timestamp", now_s.to_string());
    if let Some(key) = hook.key() {
        let signature = signature::standard(key, &delivery.id, now_s, delivery.body.as_bytes());
        request = request.header("webhook-signature", signature);
    }
    match request.body(delivery.body.to_string()).send().await {
        Ok(mut answer) => {
            let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let asked = asked.and_then(|value| retry_after(value, now_s));
            let status = answer.status().as_u16();
            // What it says is nobody's business; read a little, so that the connection can be used
            // again.
            let mut left = ANSWER_MAX;
            while let Ok(Some(part)) = answer.chunk().await {
                let Some(less) = left.checked_sub(part.len()) else { break };
                left = less;
            }
            (Answer::Status(status, asked), format!("status {status}"))
        }
        Err(error) if error.is_timeout() => (Answer::None, "no answer in time".to_owned()),
        Err(error) => (Answer::None, root_cause(&error.without_url())),
    }
}

fn chance() -> u32 {
    let mut bytes = [0; 4];
    // Without random numbers all wait for the shortest time.
    let _ = SystemRandom::new().fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

/// Notices that are tried at a time, of one webhook and of all.
const HOOK_TRIES_MAX: usize = 4;
const TRIES_MAX: usize = 16;
/// Bytes of an answer that are read.
const ANSWER_MAX: usize = 16 << 10;
/// A time of the next try that is further away was made by another clock.
const CLOCK_NS: u64 = 2 * 3_600 * 1_000_000_000;
/// After the disk refused.
const RETRY: Duration = Duration::from_secs(1);
/// How often the queue is looked at.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_secs(30);
