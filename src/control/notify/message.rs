//! What a notice says, in our own JSON.
//!
//! ```text
//! {"type": "approval.requested", "timestamp": "2026-..Z", "data": {
//!     "webhook": "chat", "event": "requested", "approval": {..}, "links": {..} | null}}
//! ```
//!
//! `approval` is what `/api/v1/approvals/{id}` tells, less what is long: the masked summary is cut at
//! [`SUMMARY_HEAD`] bytes, and then there is no digest to vote by; groups and binding are left out. There is no token in it, and nothing that
//! is not masked there.

use crate::base::time_text;
use crate::config::WebhookEvent;
use crate::control::admin::view;
use crate::policy::approval::Request;
use serde_json::{Value, json};

/// Where a notice sends people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Links {
    /// The request's page.
    pub(in crate::control) open: String,
    /// The same with an answer ready; there while it can be decided.
    pub(in crate::control) answers: Option<Answers>,
}

/// Links with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Answers {
    pub(in crate::control) approve: String,
    pub(in crate::control) deny: String,
}

/// The body of a notice.
pub(super) fn generic(
    hook: &str,
    (event, at_ns): (WebhookEvent, u64),
    request: &Request,
    links: Option<&Links>,
) -> String {
    let mut approval = view::request(request);
    let (head, cut) = head(&request.ask.summary, SUMMARY_HEAD);
    if let Value::Object(members) = &mut approval {
        members.remove("groups");
        members.remove("binding");
        members.insert("summary".to_owned(), json!(head));
        members.insert("summary_cut".to_owned(), json!(cut));
        if cut {
            members.insert("digest".to_owned(), Value::Null);
        }
    }
    let links = links.map(|links| {
        let (approve, deny) = links.answers.as_ref().map(|one| (&one.approve, &one.deny)).unzip();
        json!({ "open": links.open, "approve": approve, "deny": deny })
    });
    json!({
        "type": format!("approval.{}", event.label()),
        "timestamp": time_text(at_ns),
        "data": {
            "webhook": hook, "event": event.label(), "approval": approval, "links": links,
        },
    })
    .to_string()
}

/// At most `len` bytes of a text, and whether that is not all.
pub(super) fn head(text: &str, len: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(len);
    (text.get(..end).unwrap_or_default(), end < text.len())
}

/// Bytes of a summary that a notice holds.
pub(super) const SUMMARY_HEAD: usize = 2_000;
