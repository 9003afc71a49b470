//! `/api/v1/approvals` and `/api/v1/grants`.

use super::{Access, Admin, by_link, estimate, problem, view};
use crate::policy::approval::{
    ActFault, ApprovalId, Ballot, Party, Request, Revoker, Selector, State as Stands, hex32,
};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

type Shared = State<Arc<Admin>>;

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/approvals", get(list))
        .route("/api/v1/approvals/{id}", get(show))
        .route("/api/v1/approvals/{id}/approve", post(approve))
        .route("/api/v1/approvals/{id}/deny", post(deny))
        .route("/api/v1/approvals/{id}/review", post(review))
        .route("/api/v1/approvals/{id}/reveal", post(reveal))
        .route("/api/v1/approvals/{id}/before", get(before))
        .route("/api/v1/approvals/{id}/estimate", get(estimate::estimate))
        .route("/api/v1/grants", get(grants))
        .route("/api/v1/grants/revoke", post(revoke))
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// What a list asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    /// States, with commas between them.
    state: Option<String>,
    /// `owed`: what was done under break-glass and nobody has looked at.
    review: Option<String>,
}

/// What a voter or reviewer says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    reason: Option<Box<str>>,
    digest: Option<String>,
    /// The query of a signed link that the vote comes by.
    link: Option<String>,
}

/// An object without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// What is taken back: one of the four.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    id: Option<String>,
    caller: Option<Caller>,
    resource: Option<Box<str>>,
    all: Option<bool>,
    reason: Option<Box<str>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Caller {
    sub: Box<str>,
    iss: Option<Box<str>>,
}

async fn list(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let Ok(Query(wanted)) = wanted else {
        return bad("The query takes `state` and `review`.");
    };
    let owed = match wanted.review.as_deref() {
        None => false,
        Some("owed") => true,
        Some(_) => return bad("`review` is `owed`, or left out."),
    };
    let words = wanted.state.iter().flat_map(|text| text.split(','));
    let Some(states) = words.map(Stands::parse).collect::<Option<Vec<_>>>() else {
        let all = Stands::ALL.map(Stands::label).join(", ");
        return bad(&format!("`state` is one or more of {all}, with commas between them."));
    };
    let takes = move |one: &Request| {
        (states.is_empty() || states.contains(&one.state)) && (!owed || one.owes_review())
    };
    listed(&admin, access, takes).await
}

async fn grants(State(admin): Shared, Extension(access): Extension<Access>) -> Response {
    listed(&admin, access, |one| one.state.is_grant()).await
}

async fn listed(
    admin: &Admin,
    access: Access,
    takes: impl Fn(&Request) -> bool + Send + 'static,
) -> Response {
    // Few at a time: each copies what it lists.
    let Ok(_permit) = LISTING.acquire().await else { return refused(ActFault::Unavailable) };
    let takes = move |one: &Request| takes(one) && sees(&access, one);
    let found = admin.desk.list_brief(view::HEAD_MAX, takes).await;
    match found {
        Ok(found) => Json(found.iter().map(view::brief).collect::<Value>()).into_response(),
        Err(fault) => refused(fault),
    }
}

async fn show(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
) -> Response {
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    match admin.desk.see(id).await {
        Ok(found) if sees(&access, &found.request) => Json(view::whole(&found)).into_response(),
        Ok(_) => refused(ActFault::Unknown),
        Err(fault) => refused(fault),
    }
}

/// What the same caller had approved before, on any resource, as far as whoever asks sees it.
async fn before(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
) -> Response {
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    let one = match admin.desk.show(id).await {
        Ok(found) if sees(&access, &found) => found,
        Ok(_) => return refused(ActFault::Unknown),
        Err(fault) => return refused(fault),
    };
    let (who, asked_ns) = (one.ask.who.clone(), one.requested_ns);
    let takes = move |other: &Request| {
        other.ask.who.is_same_caller(&who)
            && other.id != id
            && other.requested_ns <= asked_ns
            && other.approvals().next().is_some()
            && sees(&access, other)
    };
    let Ok(_permit) = LISTING.acquire().await else { return refused(ActFault::Unavailable) };
    match admin.desk.list_brief(view::HEAD_MAX, takes).await {
        Ok(found) => {
            let found = found.iter().take(BEFORE_MAX);
            let rows = found.map(|other| view::before(&other.request, &one));
            Json(rows.collect::<Value>()).into_response()
        }
        Err(fault) => refused(fault),
    }
}

/// A person sees what the masks took out; it is a `POST`, since that it was seen is written down.
async fn reveal(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let said = person(&access).and_then(|one| Ok((one, read::<Nothing>(&headers, &body)?)));
    let person = match said {
        Ok((person, Nothing {})) => person,
        Err(answer) => return *answer,
    };
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    match admin.desk.show(id).await {
        Ok(found) if sees(&access, &found) => {}
        Ok(_) => return refused(ActFault::Unknown),
        Err(fault) => return refused(fault),
    }
    match admin.desk.reveal(id, person).await {
        Ok(original) => {
            tracing::info!(approval = %id, "originals were revealed to a person");
            let text = String::from_utf8_lossy(original.expose());
            Json(json!({ "original": text })).into_response()
        }
        Err(fault) => {
            tracing::warn!(approval = %id, refused = fault.label(), "a reveal was refused");
            refused(fault)
        }
    }
}

async fn approve(
    state: Shared,
    access: Extension<Access>,
    id: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    vote(state, access, id, (&headers, &body), true).await
}

async fn deny(
    state: Shared,
    access: Extension<Access>,
    id: Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    vote(state, access, id, (&headers, &body), false).await
}

async fn vote(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    (headers, body): (&HeaderMap, &Bytes),
    approve: bool,
) -> Response {
    let act = if approve { "approve" } else { "deny" };
    let (person, said) = match person(&access).and_then(|one| Ok((one, read(headers, body)?))) {
        Ok(both) => both,
        Err(answer) => return *answer,
    };
    let Said { reason, digest, link } = said;
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    let Some(digest) = digest.as_deref().and_then(hex32::parse) else {
        return bad("`digest` is that of the request as it was shown: 64 hex digits.");
    };
    let ballot = Ballot { approve, reason, digest, via: None };
    let voted = match link {
        None => admin.desk.vote(id, person, ballot).await,
        Some(link) => match by_link::vote(admin, id, person, ballot, &link).await {
            Ok(request) => Ok(request),
            Err(by_link::Refusal::Vote(fault)) => Err(fault),
            Err(by_link::Refusal::Link(error)) => {
                tracing::warn!(approval = %id, act, refused = error.label(), "a link was refused");
                return by_link::refused(error);
            }
        },
    };
    done(id, act, voted)
}

async fn review(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let said = person(&access).and_then(|one| Ok((one, read::<Said>(&headers, &body)?)));
    let (person, said) = match said {
        Ok(both) => both,
        Err(answer) => return *answer,
    };
    let Some(id) = ApprovalId::parse(&id) else { return refused(ActFault::Unknown) };
    if said.digest.is_some() || said.link.is_some() {
        return bad("A review has a `reason`, and no `digest` or `link`.");
    }
    done(id, "review", admin.desk.review(id, person, said.reason).await)
}

async fn revoke(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let back: Back = match read(&headers, &body) {
        Ok(back) => back,
        Err(answer) => return *answer,
    };
    let selector = match (back.id, back.caller, back.resource, back.all) {
        (Some(id), None, None, None) => match ApprovalId::parse(&id) {
            Some(id) => Selector::Id(id),
            None => return refused(ActFault::Unknown),
        },
        (None, Some(Caller { sub, iss }), None, None) => Selector::Caller { iss, sub },
        (None, None, Some(name), None) => Selector::Resource(name),
        (None, None, None, Some(true)) => Selector::All,
        _ => return bad("Name one of `id`, `caller` (`sub`, `iss`), `resource`, `all` (true)."),
    };
    let revoker = match &access {
        Access::Person { party, .. } => Revoker::Person(Party::clone(party)),
        _ => Revoker::Script,
    };
    match admin.desk.revoke(selector, revoker, back.reason).await {
        Ok(taken) => {
            tracing::info!(
                revoked = taken.revoked.len(),
                cancelled = taken.cancelled.len(),
                cut = taken.running.len(),
                withheld = taken.withheld,
                "approvals taken back"
            );
            let ids = |list: &[ApprovalId]| list.iter().map(ToString::to_string).collect::<Value>();
            Json(json!({
                "revoked": ids(&taken.revoked), "cancelled": ids(&taken.cancelled),
                "cut": ids(&taken.running), "withheld": taken.withheld,
            }))
            .into_response()
        }
        Err(fault) => refused(fault),
    }
}

/// What a person sees: a viewer everything, others what they may decide or have revealed, and what
/// they asked for.
pub(super) fn sees(access: &Access, request: &Request) -> bool {
    let Access::Person { party, viewer } = access else { return true };
    let (who, terms) = (&request.ask.who, &request.ask.terms);
    let mut groups = terms.approvers.iter().chain(&terms.reveal);
    *viewer
        || (who.iss == party.iss && who.sub == party.sub)
        || groups.any(|group| party.groups.contains(group))
}

/// Who decides: a person, by its own token.
fn person(access: &Access) -> Result<Party, Box<Response>> {
    match access {
        Access::Person { party, .. } => Ok(Party::clone(party)),
        Access::Script => Err(Box::new(problem(
            StatusCode::FORBIDDEN,
            "not-a-person",
            "The admin token is for scripts: a person decides, by a token of the admin issuer.",
        ))),
    }
}

/// A body of JSON, which no form of another page can be.
pub(super) fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<T, Box<Response>> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Err(Box::new(problem(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "Send `content-type: application/json`.",
        )));
    }
    serde_json::from_slice(body)
        .map_err(|error| Box::new(bad(&format!("The body is not what is taken here: {error}."))))
}

fn done(id: ApprovalId, act: &'static str, answer: Result<Request, ActFault>) -> Response {
    match answer {
        Ok(request) => {
            let state = request.state.label();
            tracing::info!(approval = %id, act, state, "a person acted on an approval");
            Json(view::request(&request)).into_response()
        }
        Err(fault) => {
            tracing::warn!(approval = %id, act, refused = fault.label(), "an act was refused");
            refused(fault)
        }
    }
}

pub(super) fn refused(fault: ActFault) -> Response {
    let (status, detail) = match fault {
        ActFault::Unknown => (StatusCode::NOT_FOUND, "There is no such request."),
        ActFault::Own => {
            (StatusCode::FORBIDDEN, "Nobody decides about a request that is their own.")
        }
        ActFault::Delegated => (
            StatusCode::FORBIDDEN,
            "The token says that somebody acts for the person: sign in as yourself to decide.",
        ),
        ActFault::NotApprover => {
            (StatusCode::FORBIDDEN, "The token's groups are none of the rule's approvers.")
        }
        ActFault::Ended(state) => {
            let detail = format!("It is {} already.", state.label());
            return problem(StatusCode::CONFLICT, fault.label(), &detail);
        }
        ActFault::Digest => (
            StatusCode::CONFLICT,
            "The digest is not that of this request: look at it again, then vote.",
        ),
        ActFault::NoReason => (StatusCode::UNPROCESSABLE_ENTITY, "The rule wants a `reason`."),
        ActFault::Reason => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "`reason` is at most 1024 bytes, without control characters.",
        ),
        ActFault::Again => (StatusCode::CONFLICT, "You have done that already."),
        ActFault::GroupTaken => (
            StatusCode::CONFLICT,
            "Each approval is for another group, and yours have one already.",
        ),
        ActFault::NotRevealer => {
            (StatusCode::FORBIDDEN, "The rule lets none of the token's groups see what was masked.")
        }
        ActFault::NoOriginals => (
            StatusCode::GONE,
            "There is no original: nothing was masked, the request has ended, or the gateway was \
             started anew.",
        ),
        ActFault::NotBreakGlass => {
            (StatusCode::CONFLICT, "It was not granted under break-glass: nothing to review.")
        }
        _ => (
            StatusCode::SERVICE_UNAVAILABLE,
            "Approvals cannot be read or written at the moment; try again.",
        ),
    };
    problem(status, fault.label(), detail)
}

fn bad(detail: &str) -> Response {
    problem(StatusCode::BAD_REQUEST, "request", detail)
}

/// Lists that are made at a time.
static LISTING: Semaphore = Semaphore::const_new(4);
/// Most requests of what was approved before.
const BEFORE_MAX: usize = 20;
/// A reason and a digest, and names.
const BODY_MAX: usize = 16 << 10;
