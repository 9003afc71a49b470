//! A request as the API tells it: what people are shown and vote about, and where it stands.

use crate::base::time_text;
use crate::control::approvals::{Brief, Seen};
use crate::policy::approval::{By, End, Look, Request, Review, Vote, hex32, shown, shown_digest};
use serde_json::{Map, Value, json};

/// One request of a list: its summary is cut, and where it is, there is no digest to vote by.
pub(super) fn brief(one: &Brief) -> Value {
    let mut object = request(&one.request);
    if let Value::Object(members) = &mut object {
        members.insert("summary_cut".to_owned(), json!(one.cut));
        if one.cut {
            members.insert("digest".to_owned(), Value::Null);
        }
    }
    object
}

/// One request by itself, with what may be asked of it.
pub(super) fn whole(seen: &Seen) -> Value {
    let mut object = request(&seen.request);
    if let Value::Object(members) = &mut object {
        let revealable = seen.originals && !seen.request.ask.terms.reveal.is_empty();
        members.insert("summary_cut".to_owned(), json!(false));
        members.insert("revealable".to_owned(), json!(revealable));
    }
    object
}

/// What was approved before `one` for the same caller.
pub(super) fn before(other: &Request, one: &Request) -> Value {
    json!({
        "id": other.id.to_string(), "state": other.state.label(), "rule": other.ask.rule,
        "resource": other.ask.resource, "summary_head": head(&other.ask.summary),
        "same_operation": other.ask.fingerprint == one.ask.fingerprint,
        "requested_at": time_text(other.requested_ns),
        "ended_at": other.ended_ns.map(time_text), "used": other.used,
        "votes": other.votes.iter().map(vote).collect::<Value>(),
    })
}

/// The beginning of a summary, for lists.
fn head(summary: &str) -> &str {
    summary.get(..summary.floor_char_boundary(HEAD_MAX)).unwrap_or(summary)
}

/// One object. What the digest is about comes from the canonical text itself, so that nothing is
/// shown that the digest does not cover but what may change while people vote.
pub(in crate::control) fn request(request: &Request) -> Value {
    let text = shown(request);
    let mut object: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    object.remove("version");
    let more = [
        ("digest", json!(hex32::text(&shown_digest(request)))),
        ("state", json!(request.state.label())),
        ("votes", request.votes.iter().map(vote).collect()),
        ("looks", request.looks.iter().map(look).collect()),
        ("reveal", json!(request.ask.terms.reveal)),
        ("reason_required", json!(request.ask.terms.reason)),
        ("used", json!(request.used)),
        ("uses_left", json!(request.uses_left())),
        ("until", json!(request.until_ns.map(time_text))),
        ("ended_at", json!(request.ended_ns.map(time_text))),
        ("ended_by", request.end.as_ref().map_or(Value::Null, end)),
        ("review_owed", json!(request.owes_review())),
        ("review", request.review.as_ref().map_or(Value::Null, review)),
    ];
    object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    Value::Object(object)
}

fn look(look: &Look) -> Value {
    json!({ "iss": look.iss, "sub": look.sub, "at": time_text(look.at_ns) })
}

fn vote(vote: &Vote) -> Value {
    json!({
        "iss": vote.iss, "sub": vote.sub, "groups": vote.groups,
        "decision": if vote.approve { "approve" } else { "deny" },
        "reason": vote.reason, "digest": hex32::text(&vote.digest), "at": time_text(vote.at_ns),
        "via": vote.via,
    })
}

fn end(end: &End) -> Value {
    let (by, iss, sub) = match &end.by {
        By::Caller => ("caller", None, None),
        By::Policy => ("policy", None, None),
        By::Script => ("admin_token", None, None),
        By::Person { iss, sub } => ("person", Some(iss), Some(sub)),
    };
    json!({ "by": by, "iss": iss, "sub": sub, "why": end.why })
}

fn review(review: &Review) -> Value {
    json!({ "iss": review.iss, "sub": review.sub, "reason": review.reason,
        "at": time_text(review.at_ns) })
}

/// Bytes of a summary in a list.
pub(super) const HEAD_MAX: usize = 512;
