//! `POST /callback/{webhook}`: what a receiver of notices sends back.
//!
//! There is no token in `Authorization` here. A generic callback is signed by the webhook's secret,
//! is good for five minutes and once, and holds the approver's own token, by which the vote is cast
//! as it would be at the API: whoever runs the receiver votes for nobody. What Slack sends is signed
//! by Slack, and never votes: it is answered with a link.

use super::approvals::refused;
use super::sign_in::Kind;
use super::{Admin, Person, problem};
use crate::control::notify::signature::{SKEW_S, SignatureError, verify_slack, verify_standard};
use crate::control::notify::{Hook, LinkError, Press, only_to_you, press, to_its_end};
use crate::policy::approval::{ActFault, ApprovalId, Ballot, Party, State as Stands, hex32};
use crate::runtime;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/callback/{webhook}", post(callback))
        .method_not_allowed_fallback(super::not_allowed)
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// A generic callback.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    approval: String,
    vote: Word,
    digest: String,
    reason: Option<Box<str>>,
    /// The approver's own token.
    token: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Approve,
    Deny,
}

/// Why a callback is not taken.
enum Refusal {
    Signature(SignatureError),
    Replayed,
    Spent,
    Unavailable,
    Body(&'static str),
    TooLong,
    Token,
    Vote(ActFault),
}

impl Refusal {
    /// A fixed word for the log and the metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Signature(error) => error.label(),
            Self::Replayed => "replayed",
            Self::Spent => "too-many",
            Self::Unavailable => "unavailable",
            Self::Body(_) => "body",
            Self::TooLong => "too-long",
            Self::Token => "token",
            Self::Vote(fault) => fault.label(),
        }
    }

    fn answer(&self) -> Response {
        let (status, kind, detail) = match self {
            Self::Signature(SignatureError::Fields) => (
                StatusCode::BAD_REQUEST,
                "callback-fields",
                "The fields of the signature are missing, or cannot be read.",
            ),
            Self::Signature(SignatureError::Time) => (
                StatusCode::FORBIDDEN,
                "callback-time",
                "The time of the callback is more than five minutes from ours.",
            ),
            Self::Signature(_) => (
                StatusCode::FORBIDDEN,
                "callback-signature",
                "It is not signed by a key of this webhook.",
            ),
            Self::Replayed => {
                (StatusCode::CONFLICT, "callback-replayed", "This callback was sent before.")
            }
            Self::Spent => {
                (StatusCode::TOO_MANY_REQUESTS, "callback-pace", "Too many callbacks; slow down.")
            }
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "A callback cannot be noted at the moment; try again.",
            ),
            Self::Body(detail) => (StatusCode::BAD_REQUEST, "callback-body", *detail),
            Self::TooLong => {
                (StatusCode::PAYLOAD_TOO_LARGE, "callback-body", "The body is above 64 KiB.")
            }
            Self::Token => (
                StatusCode::FORBIDDEN,
                "callback-token",
                "`token` is no valid token of the admin issuer.",
            ),
            Self::Vote(fault) => return refused(*fault),
        };
        problem(status, kind, detail)
    }
}

async fn callback(
    State(admin): State<Arc<Admin>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let unknown = || {
        if admin.notifier.take("", false).is_ok() {
            tracing::warn!("a callback for a webhook that there is not, or that takes none");
        }
        problem(StatusCode::NOT_FOUND, "not-found", "There is no such webhook.")
    };
    let Some(hook) = admin.notifier.hook(&name) else { return unknown() };
    let takes = if hook.is_slack() { hook.signing().is_some() } else { !hook.keys().is_empty() };
    if !takes {
        return unknown();
    }
    let Ok(body) = body else { return told(&admin, &hook, Err(Refusal::TooLong)) };
    let answered = to_its_end(async move {
        let done = if hook.is_slack() {
            slack(&admin, &hook, &headers, &body).await
        } else {
            generic(&admin, &hook, &headers, &body).await
        };
        told(&admin, &hook, done)
    });
    answered.await.unwrap_or_else(|| Refusal::Unavailable.answer())
}

/// Counts and logs what became of a callback, and answers.
fn told(admin: &Admin, hook: &Hook, done: Done) -> Response {
    let name = hook.name();
    match done {
        Ok((outcome, answer)) => {
            admin.notifier.called(name, outcome);
            tracing::info!(webhook = name, outcome, "a callback");
            answer
        }
        Err(refusal) => {
            let signed = !matches!(refusal, Refusal::Signature(_) | Refusal::TooLong);
            admin.notifier.called(name, refusal.label());
            // Whoever has no key fills no log.
            if !signed && admin.notifier.take(name, false).is_err() {
                return Refusal::Spent.answer();
            }
            tracing::warn!(webhook = name, refused = refusal.label(), "a callback was refused");
            refusal.answer()
        }
    }
}

type Done = Result<(&'static str, Response), Refusal>;

async fn generic(admin: &Admin, hook: &Hook, headers: &HeaderMap, body: &Bytes) -> Done {
    let fields = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let fields = fields.map(|name| single(headers, name));
    let [Some(id), Some(time), Some(signatures)] = fields else {
        return Err(Refusal::Signature(SignatureError::Fields));
    };
    let now_s = runtime::now().wall_s();
    verify_standard(hook.keys(), [id, time, signatures], body, now_s)
        .map_err(Refusal::Signature)?;
    once(admin, hook, id, now_s).await?;
    // A member that stands there twice is an error, as an unknown one is.
    let said: Said = serde_json::from_slice(body).map_err(|_| {
        Refusal::Body("The body is JSON: approval, vote (approve or deny), digest, reason, token.")
    })?;
    let digest = hex32::parse(&said.digest);
    let digest = digest.ok_or(Refusal::Body("`digest` is 64 hex digits."))?;
    let person = admin.person(Kind::Bearer, said.token.as_bytes()).await;
    let Person { party, .. } = person.ok_or(Refusal::Token)?;
    let id = ApprovalId::parse(&said.approval).ok_or(Refusal::Vote(ActFault::Unknown))?;
    let request = admin.desk.show(id).await.map_err(Refusal::Vote)?;
    if !hook.covers(&request) {
        return Err(Refusal::Vote(ActFault::Unknown));
    }
    let approve = said.vote == Word::Approve;
    let via = Some(format!("callback:{}", hook.name()).into());
    let ballot = Ballot { approve, reason: said.reason, digest, via };
    let voted = admin.desk.vote(id, Party::clone(&party), ballot).await;
    let voted = voted.map_err(Refusal::Vote)?;
    let outcome = if approve { "approve" } else { "deny" };
    let answer = Json(json!({ "approval": id.to_string(), "state": voted.state.label() }));
    Ok((outcome, answer.into_response()))
}

async fn slack(admin: &Admin, hook: &Hook, headers: &HeaderMap, body: &Bytes) -> Done {
    let fields = ["x-slack-request-timestamp", "x-slack-signature"];
    let fields = fields.map(|name| single(headers, name));
    let ([Some(time), Some(signature)], Some(key)) = (fields, hook.signing()) else {
        return Err(Refusal::Signature(SignatureError::Fields));
    };
    let now_s = runtime::now().wall_s();
    verify_slack(key, [time, signature], body, now_s).map_err(Refusal::Signature)?;
    // Its digits say the same in either case.
    once(admin, hook, &signature.to_ascii_lowercase(), now_s).await?;
    let kind = single(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Refusal::Body("Slack sends a form."));
    }
    let pressed = press(body).map_err(|_| Refusal::Body("The form has no `payload` of JSON."))?;
    let Some(Press { id, response_url }) = pressed else {
        // One of our own buttons, which is a link: there is nothing to do.
        return Ok(("pressed", StatusCode::OK.into_response()));
    };
    let request = admin.desk.show(id).await.ok().filter(|request| hook.covers(request));
    let (text, links) = match &request {
        None => ("There is no such request.".to_owned(), None),
        Some(request) => {
            let links = admin.notifier.links(hook.name(), request);
            let state = request.state.label();
            let text = match (request.state, links.is_some()) {
                (Stands::Pending, true) => {
                    "Sign in to decide: nobody votes by a button.".to_owned()
                }
                (Stands::Pending, false) => {
                    "Decide with `weirgate approvals`: the gateway has no `public_url`.".to_owned()
                }
                _ => format!("It is {state}."),
            };
            (text, links)
        }
    };
    let message = only_to_you(&text, links.as_ref());
    // Slack shows what is posted there; without such a place, the answer itself.
    match response_url {
        Some(to) if hook.is_of_its_origin(&to) => {
            hook.post_aside(to, message);
            Ok(("link", StatusCode::OK.into_response()))
        }
        _ => Ok(("link", Json(message).into_response())),
    }
}

/// Notes that this callback was sent; it is taken once.
async fn once(admin: &Admin, hook: &Hook, id: &str, now_s: u64) -> Result<(), Refusal> {
    if admin.notifier.take(hook.name(), true).is_err() {
        return Err(Refusal::Spent);
    }
    let what = format!("callback:{}:{id}", hook.name());
    // Its own time is at most so far ahead, and counts as long again.
    admin.notifier.use_up(&what, now_s + 2 * SKEW_S).await.map_err(|error| match error {
        LinkError::Used => Refusal::Replayed,
        _ => Refusal::Unavailable,
    })
}

/// A field that stands there once, as text.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Most bytes of a callback.
const BODY_MAX: usize = 64 << 10;
