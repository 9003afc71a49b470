//! Finds out what is to be told, and puts it into the outbox.

use super::happened::{asked, delivery_id, happened};
use super::hook::Hook;
use super::notifier::Notifier;
use super::outbox::{Dead, Delivery, Note};
use super::{message, slack};
use crate::config::{WebhookEvent, WebhookFormat};
use crate::control::approvals::Change;
use crate::policy::approval::{ActFault, ApprovalId, Request, State};
use crate::runtime;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Why it could not be looked at; it is tried again.
enum Missed {
    /// The table cannot be read.
    Table(ActFault),
    /// The outbox cannot be written.
    Outbox(io::Error),
}

/// Listens, and looks.
pub(super) async fn run(notifier: &Arc<Notifier>) {
    let mut changes = notifier.desk.changes();
    loop {
        // Also after a start: the process was not there to hear of everything.
        if let Err(missed) = look_through(notifier).await {
            match missed {
                Missed::Table(fault) => tracing::debug!(fault = fault.label(), "no look at it"),
                Missed::Outbox(error) => tracing::error!(%error, "notices cannot be queued"),
            }
            tokio::time::sleep(RETRY).await;
            continue;
        }
        loop {
            let first = tokio::select! {
                change = changes.recv() => change,
                () = notifier.changed.notified() => break,
            };
            let first = match first {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => break,
                // The owner of approvals is gone: nothing happens any more.
                Err(RecvError::Closed) => return std::future::pending().await,
            };
            let (mut batch, mut missed) = (vec![first], false);
            while batch.len() < BATCH_MAX {
                match changes.try_recv() {
                    Ok(change) => batch.push(change),
                    Err(error) => {
                        missed = matches!(error, TryRecvError::Lagged(_));
                        break;
                    }
                }
            }
            if missed || heard(notifier, &batch).await.is_err() {
                break;
            }
        }
    }
}

/// Looks at the requests that changed.
async fn heard(notifier: &Arc<Notifier>, batch: &[Change]) -> Result<(), Missed> {
    if notifier.opened().is_none() {
        return Ok(());
    }
    // A use is told of to nobody, and a grant may have very many.
    let told = batch.iter().filter(|change| change.act != USED);
    let ids: BTreeSet<ApprovalId> = told.map(|change| change.id).collect();
    let newest_ns = batch.iter().map(|change| change.at_ns).max().unwrap_or(0);
    let mut notes = Vec::new();
    for id in ids {
        notes.extend(look(notifier, id, Ended::Told).await?);
    }
    seen(notifier, notes, newest_ns).await
}

/// Whether what has ended is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Told,
    /// Only what waits for somebody, and how it began: there were no webhooks before.
    Past,
}

/// When the newest thing happened, and what is to be looked at, the oldest first.
type Found = (u64, BTreeSet<(u64, ApprovalId)>);

/// Looks at everything that happened since the last look.
async fn look_through(notifier: &Arc<Notifier>) -> Result<(), Missed> {
    let Some(opened) = notifier.opened() else { return Ok(()) };
    let seen_ns = opened.outbox.read(|tables| tables.seen_ns);
    let ended = if seen_ns == 0 { Ended::Past } else { Ended::Told };
    // Filled where the table is, so that no request is copied that is not wanted.
    let found: Arc<Mutex<Found>> = Arc::default();
    let filled = Arc::clone(&found);
    let list = move |request: &Request| {
        let mut found = filled.lock().unwrap_or_else(PoisonError::into_inner);
        let last_ns = happened(request).iter().map(|(_, at_ns)| *at_ns).max().unwrap_or(0);
        found.0 = found.0.max(last_ns);
        let waits = request.state == State::Pending || request.owes_review();
        if last_ns > seen_ns && (ended == Ended::Told || waits) {
            found.1.insert((last_ns, request.id));
        }
        false
    };
    notifier.desk.list(list).await.map_err(Missed::Table)?;
    let (newest_ns, ids) =
        std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    let ids: Vec<ApprovalId> = ids.into_iter().map(|(_, id)| id).collect();
    for some in ids.chunks(BATCH_MAX) {
        let mut notes = Vec::new();
        for id in some {
            notes.extend(look(notifier, *id, ended).await?);
        }
        queue(notifier, notes).await?;
    }
    // Even where there is nothing: from here on, everything is told.
    seen(notifier, Vec::new(), newest_ns.max(2)).await
}

/// Queues notes, and says that everything before `newest_ns` is queued. What has that very time may
/// be of a round that is heard of in parts.
async fn seen(
    notifier: &Arc<Notifier>,
    mut notes: Vec<Note>,
    newest_ns: u64,
) -> Result<(), Missed> {
    let before_ns = newest_ns.saturating_sub(1);
    let seen_ns = notifier.opened().map(|opened| opened.outbox.read(|tables| tables.seen_ns));
    if !notes.is_empty() || seen_ns.is_some_and(|seen_ns| seen_ns == 0) {
        notes.push(Note::Seen { at_ns: before_ns });
    }
    queue(notifier, notes).await
}

async fn queue(notifier: &Arc<Notifier>, notes: Vec<Note>) -> Result<(), Missed> {
    if notes.is_empty() {
        return Ok(());
    }
    for note in &notes {
        if let Note::Buried { dead } = note {
            notifier.numbers.died(&dead.delivery.hook);
            let Delivery { id, hook, .. } = &dead.delivery;
            tracing::error!(webhook = %hook, delivery = %id, "a notice found its queue full");
        }
    }
    notifier.note(notes).await.map_err(Missed::Outbox)?;
    notifier.wake.notify_one();
    Ok(())
}

/// Notes of what is to be told of a request and was not.
async fn look(notifier: &Arc<Notifier>, id: ApprovalId, ended: Ended) -> Result<Vec<Note>, Missed> {
    let request = match notifier.desk.show(id).await {
        Ok(request) => request,
        // Forgotten meanwhile.
        Err(ActFault::Unknown) => return Ok(Vec::new()),
        Err(fault) => return Err(Missed::Table(fault)),
    };
    let hooks = notifier.hooks();
    let mut notes = Vec::new();
    for hook in hooks.list.iter().filter(|hook| hook.covers(&request)) {
        let all = match ended {
            Ended::Told => happened(&request),
            Ended::Past => vec![asked(&request)],
        };
        for (event, at_ns) in all.into_iter().filter(|(event, _)| hook.wants(*event)) {
            notes.extend(note(notifier, hook, &request, (event, at_ns)));
        }
    }
    Ok(notes)
}

/// The note of one event for one webhook, where it was not made before.
fn note(
    notifier: &Notifier,
    hook: &Hook,
    request: &Request,
    (event, at_ns): (WebhookEvent, u64),
) -> Option<Note> {
    let opened = notifier.opened()?;
    let id = delivery_id(hook.name(), request, event, at_ns);
    let now_ns = runtime::now().wall_ns;
    let mut until_ns = at_ns.saturating_add(WORTH_NS);
    if event == WebhookEvent::Requested {
        until_ns = until_ns.min(request.deadline_ns);
    }
    let queued = opened.outbox.read(|tables| {
        let told = at_ns <= tables.seen_ns || tables.is_told(&id);
        let mine = |one: &&Delivery| *one.hook == *hook.name();
        (!told).then(|| tables.queue.values().filter(mine).count())
    })?;
    if until_ns <= now_ns {
        return None;
    }
    let links = notifier.links(hook.name(), request);
    let body = match hook.format() {
        WebhookFormat::Generic => {
            message::generic(hook.name(), (event, at_ns), request, links.as_ref())
        }
        WebhookFormat::Slack => slack::blocks(event, request, links.as_ref()),
    };
    let delivery = Delivery {
        id: id.into(),
        hook: hook.name().into(),
        approval: request.id.to_string().into(),
        event: event.label().into(),
        at_ns,
        until_ns,
        body: body.into(),
        tries: 0,
        next_ns: now_ns,
        error: None,
    };
    if queued >= QUEUE_MAX && !delivery.is_urgent() {
        let error = Some("the queue of the webhook is full".into());
        let dead = Dead { delivery: Delivery { error, ..delivery }, dead_ns: now_ns };
        return Some(Note::Buried { dead: Box::new(dead) });
    }
    Some(Note::Queued { delivery: Box::new(delivery) })
}

/// The act of a use, by its label.
const USED: &str = "used";
/// How long what happened is worth telling.
pub(super) const WORTH_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Requests that are looked at before what is found is queued.
const BATCH_MAX: usize = 64;
/// Notices of one webhook that wait; above it they are dead letters, but for break-glass.
const QUEUE_MAX: usize = 1_024;
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(1);
