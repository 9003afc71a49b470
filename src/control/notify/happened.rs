//! What is to be told of a request, as it stands.

use crate::config::WebhookEvent;
use crate::policy::approval::{Request, State};
use ring::digest::{Context, SHA256};

/// Everything that happened to a request and can be told, in its order: what, and when.
pub(super) fn happened(request: &Request) -> Vec<(WebhookEvent, u64)> {
    let mut found = vec![asked(request)];
    let needed = request.ask.terms.count as usize;
    let mut yes = 0usize;
    for vote in &request.votes {
        yes += usize::from(vote.approve);
        let event = match vote.approve {
            false => WebhookEvent::Denied,
            true if yes >= needed => WebhookEvent::Approved,
            true => WebhookEvent::Voted,
        };
        found.push((event, vote.at_ns));
    }
    let ended = match request.state {
        // A grant whose time is over is no news to anybody who waits.
        State::Expired if request.until_ns.is_none() => Some(WebhookEvent::Expired),
        State::Cancelled => Some(WebhookEvent::Cancelled),
        State::Revoked => Some(WebhookEvent::Revoked),
        _ => None,
    };
    found.extend(ended.zip(request.ended_ns));
    found.extend(request.review.as_ref().map(|one| (WebhookEvent::Reviewed, one.at_ns)));
    found
}

/// How it began.
pub(super) fn asked(request: &Request) -> (WebhookEvent, u64) {
    let at_once = request.ask.terms.break_glass;
    let event = if at_once { WebhookEvent::BreakGlass } else { WebhookEvent::Requested };
    (event, request.requested_ns)
}

/// The id of a notice: the same for the same, also after a restart.
pub(super) fn delivery_id(
    hook: &str,
    request: &Request,
    event: WebhookEvent,
    at_ns: u64,
) -> String {
    let mut into = Context::new(&SHA256);
    let (id, at) = (request.id.hex(), at_ns.to_le_bytes());
    for part in [b"weirgate notice 1", hook.as_bytes(), &id, event.label().as_bytes(), &at] {
        into.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        into.update(part);
    }
    let digest = into.finish();
    let half = digest.as_ref().first_chunk::<16>().copied().unwrap_or_default();
    format!("msg_{:032x}", u128::from_be_bytes(half))
}
