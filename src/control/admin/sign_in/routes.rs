//! The routes of sign-in, and who one is.

use super::links::{self, LinkFault};
use super::{Kind, Outcome, Way, cookie, enter, oidc, page};
use crate::base::time_text;
use crate::control::admin::approvals::read;
use crate::control::admin::{Access, Admin, Standing, problem};
use crate::runtime;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

pub(super) type Shared = State<Arc<Admin>>;

/// What needs no token: it asks for nothing but what it is given, and a `GET` changes nothing.
pub(in crate::control::admin) fn open(admin: &Arc<Admin>) -> Router<Arc<Admin>> {
    Router::new()
        .route("/sign-in", get(oidc::start))
        .route("/sign-in/callback", get(oidc::callback).post(oidc::finish))
        .route("/sign-in/link", get(page::link).post(take))
        .route("/sign-in/link/look", post(look))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(admin), own_pages))
}

/// What a token or a session opens, of anybody of the issuer.
pub(in crate::control::admin) fn guarded() -> Router<Arc<Admin>> {
    Router::new()
        .route("/api/v1/me", get(me))
        .route("/api/v1/sign-in-links", post(make))
        .route("/sign-out", post(sign_out))
        .layer(DefaultBodyLimit::max(BODY_MAX))
}

/// A link as the page of it has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown {
    link: Box<str>,
}

/// What is ended.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Out {
    #[serde(default)]
    everywhere: bool,
}

/// Lets through what comes under a name of the surface, and what changes something only from its
/// own pages.
async fn own_pages(State(admin): Shared, request: Request, next: Next) -> Response {
    let navigates = matches!(*request.method(), Method::GET | Method::HEAD);
    match (admin.site)().check(request.headers(), navigates) {
        Ok(()) => next.run(request).await,
        Err(why) => {
            if !navigates {
                let link = request.uri().path().starts_with("/sign-in/link");
                let way = if link { Way::Link } else { Way::Oidc };
                admin.sign_in.tell(way, Outcome::Foreign, None);
            }
            why.answer()
        }
    }
}

/// Who one is, and what a page of the browser needs to act.
async fn me(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Extension(standing): Extension<Standing>,
) -> Response {
    let party = match &access {
        Access::Person { party, .. } => Some(party),
        _ => None,
    };
    Json(json!({
        "iss": party.map(|party| &party.iss),
        "sub": party.map(|party| &party.sub),
        "groups": party.map_or(&[][..], |party| &party.groups),
        "viewer": access.views(),
        "csrf": standing.session().map(|session| &*session.csrf),
        "expires_at": standing.until_s().map(|s| time_text(s.saturating_mul(1_000_000_000))),
        "sign_in": admin.sign_in_ways(),
    }))
    .into_response()
}

/// A link for whoever shows its own token.
async fn make(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Extension(standing): Extension<Standing>,
    headers: HeaderMap,
) -> Response {
    let token = match (&access, standing.session()) {
        (Access::Person { .. }, None) => standing.token(),
        _ => {
            return problem(
                StatusCode::FORBIDDEN,
                "not-a-person",
                "A link is made for a person, by its own token of the admin issuer.",
            );
        }
    };
    let Some(base) = (admin.site)().base(&headers) else {
        return problem(
            StatusCode::CONFLICT,
            "no-sign-in",
            "Browsers sign in over https or on loopback: write [admin] public_url.",
        );
    };
    // It was verified a moment ago; what counts from here on is what is found now.
    let Some(person) = admin.person(Kind::Bearer, token.expose()).await else {
        return problem(StatusCode::UNAUTHORIZED, "admin-token", "The token is over.");
    };
    let now = runtime::now();
    match admin.sign_in.links.make(token, &person, now) {
        Ok(link) => {
            let (iss, sub) = (&person.party.iss, &person.party.sub);
            tracing::info!(%iss, %sub, "a sign-in link was made");
            let until_s = now.wall_s().saturating_add(links::LIFE_S).min(person.expires_s);
            let until = time_text(until_s.saturating_mul(1_000_000_000));
            Json(json!({ "url": format!("{base}/sign-in/link#{link}"), "expires_at": until }))
                .into_response()
        }
        Err(LinkFault::Full | LinkFault::NoRandom) => unavailable(),
    }
}

/// For whom a link is, so that nobody signs in as somebody else without seeing it.
async fn look(State(admin): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let shown: Shown = match read(&headers, &body) {
        Ok(shown) => shown,
        Err(answer) => return *answer,
    };
    match admin.sign_in.links.look(&shown.link, runtime::now()) {
        Some(link) => Json(json!({ "iss": link.party.iss, "sub": link.party.sub })).into_response(),
        None => over(),
    }
}

/// Uses a link up and begins a session.
async fn take(State(admin): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let shown: Shown = match read(&headers, &body) {
        Ok(shown) => shown,
        Err(answer) => return *answer,
    };
    let Some(link) = admin.sign_in.links.take(&shown.link, runtime::now()) else {
        admin.sign_in.tell(Way::Link, Outcome::LinkOver, None);
        return over();
    };
    match enter(&admin, &headers, Way::Link, (link.token, Kind::Bearer), &link.party).await {
        Ok(cookie) => (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response(),
        Err(Outcome::TokenOver) => {
            let detail = "The token that the link was made with does not count any more.";
            problem(StatusCode::FORBIDDEN, Outcome::TokenOver.label(), detail)
        }
        Err(_) => unavailable(),
    }
}

/// Ends the session that asks for it, or all of the person.
async fn sign_out(
    State(admin): Shared,
    Extension(access): Extension<Access>,
    Extension(standing): Extension<Standing>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let wanted = if body.is_empty() { Ok(Out::default()) } else { read(&headers, &body) };
    let everywhere = match wanted {
        Ok(Out { everywhere }) => everywhere,
        Err(answer) => return *answer,
    };
    match (&access, standing.session()) {
        (Access::Person { party, .. }, _) if everywhere => admin.sign_in.end_all_of(party),
        (_, Some(session)) => admin.sign_in.end(session, "signed out"),
        _ => {
            let detail = "There is no browser session: a token ends by itself.";
            return problem(StatusCode::BAD_REQUEST, "no-session", detail);
        }
    }
    (StatusCode::NO_CONTENT, forget(&admin)).into_response()
}

/// The header that takes the cookie away.
pub(in crate::control::admin) fn forget(admin: &Admin) -> [(header::HeaderName, HeaderValue); 1] {
    let site = (admin.site)();
    let gone = cookie::set(&site, site.cookie(), "", 0);
    [(header::SET_COOKIE, gone.unwrap_or(HeaderValue::from_static("")))]
}

fn over() -> Response {
    let detail = "The link was used, or its two minutes are over: make another.";
    problem(StatusCode::GONE, Outcome::LinkOver.label(), detail)
}

fn unavailable() -> Response {
    let detail = "There are too many sign-ins at the moment; try again later.";
    problem(StatusCode::SERVICE_UNAVAILABLE, "too-many-sign-ins", detail)
}

/// More than any body here.
const BODY_MAX: usize = 16 << 10;
