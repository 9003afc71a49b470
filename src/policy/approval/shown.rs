//! What a person is shown of a request, and its digest, which stands in the vote.
//!
//! Whoever votes sends the digest back: a vote about something else than what the request is does
//! not count. What changes while people vote - state, votes - is not part of it.

use super::hex32;
use super::request::Request;
use crate::base::time_text;
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// JSON without white space, its keys in the order of their bytes. The fields stand in that order.
#[derive(Serialize)]
struct Shown<'r> {
    actors: &'r [Box<str>],
    approvers: &'r [Box<str>],
    binding: String,
    break_glass: bool,
    client_id: Option<&'r str>,
    count: u32,
    credential: Option<&'r str>,
    deadline: String,
    distinct_groups: bool,
    exchange: &'r str,
    fingerprint: String,
    generation: u64,
    groups: &'r [Box<str>],
    id: String,
    iss: &'r str,
    node: Option<&'r str>,
    protocol: &'r str,
    reason: Option<&'r str>,
    requested_at: String,
    resource: &'r str,
    rule: &'r str,
    run: Option<&'r str>,
    scope: &'r str,
    sub: &'r str,
    summary: &'r str,
    thread: Option<&'r str>,
    ttl_ms: u64,
    uses: u32,
    version: u32,
}

/// The canonical text of what is shown of `request`.
///
/// # Panics
/// Never: there is no map with keys that are no texts, and no writer that fails.
#[must_use]
pub fn shown(request: &Request) -> String {
    let (ask, terms) = (&request.ask, &request.ask.terms);
    let shown = Shown {
        actors: &ask.who.actors,
        approvers: &terms.approvers,
        binding: hex32::text(&ask.binding),
        break_glass: terms.break_glass,
        client_id: ask.who.client_id.as_deref(),
        count: terms.count,
        credential: ask.credential.as_deref(),
        deadline: time_text(request.deadline_ns),
        distinct_groups: terms.distinct_groups,
        exchange: &ask.exchange,
        fingerprint: hex32::text(&ask.fingerprint),
        generation: ask.generation,
        groups: &ask.who.groups,
        id: request.id.to_string(),
        iss: &ask.who.iss,
        node: ask.asserted.node.as_deref(),
        protocol: &ask.protocol,
        reason: ask.reason.as_deref(),
        requested_at: time_text(request.requested_ns),
        resource: &ask.resource,
        rule: &ask.rule,
        run: ask.asserted.run.as_deref(),
        scope: terms.scope.label(),
        sub: &ask.who.sub,
        summary: &ask.summary,
        thread: ask.asserted.thread.as_deref(),
        ttl_ms: terms.ttl_ns / 1_000_000,
        uses: terms.uses,
        version: 1,
    };
    serde_json::to_string(&shown).expect("plain structs are written to memory")
}

/// SHA-256 of [`shown`].
#[must_use]
pub fn shown_digest(request: &Request) -> [u8; 32] {
    let digest = digest(&SHA256, shown(request).as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}
