//! Sign-in at the issuer: OpenID Connect by authorization code, with PKCE.
//!
//! ```text
//! browser   GET /sign-in           state, nonce and PKCE are kept, a cookie binds them to it
//!   -> issuer                      its own pages
//!   -> GET /sign-in/callback       a static page, which changes nothing
//!   -> POST /sign-in/callback      its script hands the answer over, with the cookie
//!        state known, of this browser, once -> issuer named -> code for tokens -> ID token is the
//!        answer to the nonce -> the token that counts is of the same person -> session
//! ```
//!
//! The answer is posted by a page of the surface itself, so that both cookies can be
//! `SameSite=Strict`, no `GET` begins a session, and the code leaves the address bar at once.

mod pending;
mod provider;

use super::routes::Shared;
use super::{Kind, Outcome, Way, cookie, enter, page};
use crate::base::Secret;
use crate::control::admin::approvals::read;
use crate::control::admin::{Admin, Shown, Verify, problem};
use crate::control::fetch::Fetcher;
use crate::identity::Question;
use crate::policy::approval::{ApprovalId, Party};
use crate::runtime;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use cookie::Cookie;
use pending::{LIFE_S, Pending, Pendings};
use provider::{ExchangeFault, Providers, Tokens};
use reqwest::Url;
use serde::Deserialize;
use serde_json::json;
use std::fmt;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// `[admin] sign_in`, as it is at the moment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuer, as it stands in `iss`.
    pub issuer: String,
    /// The gateway's name there.
    pub client_id: String,
    /// Its secret; without one it is a public client.
    pub client_secret: Option<Secret>,
    /// What is asked for.
    pub scope: String,
    /// Whether the access token tells who it is, or the ID token.
    pub by_access_token: bool,
    /// For whom the access token is (RFC 8707).
    pub resource: Option<String>,
}

/// Verifies an ID token as the answer to a question.
pub type VerifyAnswer = dyn Fn(&[u8], Question<'_>) -> Shown + Send + Sync;

/// Sign-in at the issuer.
pub struct Oidc {
    settings: Box<dyn Fn() -> Option<Settings> + Send + Sync>,
    answer: Box<VerifyAnswer>,
    id: Box<Verify>,
    providers: Providers,
    pendings: Pendings,
    /// How many codes may be exchanged at once: whoever can reach the surface can ask for it.
    exchanges: Semaphore,
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("pendings", &self.pendings).finish_non_exhaustive()
    }
}

impl Oidc {
    /// Sign-in as `settings` say at the moment. `answer` verifies ID tokens that come from the
    /// issuer, `id` those that sessions hold, where they are what tells who it is.
    ///
    /// # Errors
    /// A TLS set-up that cannot be used.
    pub fn new(
        settings: Box<dyn Fn() -> Option<Settings> + Send + Sync>,
        answer: Box<VerifyAnswer>,
        id: Box<Verify>,
        tls: rustls::ClientConfig,
    ) -> Result<Self, String> {
        let fetcher = Fetcher::without_redirects(tls).map_err(|why| why.to_string())?;
        Ok(Self {
            settings,
            answer,
            id,
            providers: Providers::new(fetcher),
            pendings: Pendings::default(),
            exchanges: Semaphore::new(EXCHANGES_MAX),
        })
    }

    pub(in crate::control::admin) fn is_on(&self) -> bool {
        (self.settings)().is_some()
    }

    /// Whose ID token a session holds.
    pub(in crate::control::admin) fn person(&self, token: &[u8]) -> Shown {
        (self.id)(token)
    }
}

/// Why there is no session. The text is for operators.
struct Fault(Outcome, String);

impl Fault {
    fn of(outcome: Outcome, why: &str) -> Self {
        Self(outcome, why.to_owned())
    }

    fn answer(&self) -> Response {
        let (status, detail) = match self.0 {
            Outcome::StateOver => (
                StatusCode::FORBIDDEN,
                "This answer is to no sign-in of this browser that is still open: sign in again.",
            ),
            Outcome::Denied => (
                StatusCode::FORBIDDEN,
                "The issuer did not sign you in: try again, or ask whom it is of.",
            ),
            Outcome::Unreachable => (
                StatusCode::BAD_GATEWAY,
                "The issuer does not answer as it should: try again later.",
            ),
            Outcome::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "There are too many sign-ins at the moment; try again later.",
            ),
            _ => (
                StatusCode::FORBIDDEN,
                "The issuer's answer is not one to this question, or its token does not count here.",
            ),
        };
        problem(status, self.0.label(), detail)
    }
}

/// `GET /sign-in`: to the issuer.
pub(super) async fn start(State(admin): Shared, RawQuery(query): RawQuery) -> Response {
    let oidc = admin.sign_in.oidc.as_ref();
    let Some((oidc, settings)) = oidc.and_then(|oidc| Some((oidc, (oidc.settings)()?))) else {
        return page::notice(StatusCode::NOT_FOUND, "Sign in by a link: weirgate approvals open");
    };
    let site = (admin.site)();
    let Some(base) = site.public_base() else {
        return page::notice(StatusCode::NOT_FOUND, "There is no public_url to come back to.");
    };
    let provider = match oidc.providers.find(&settings).await {
        Ok(provider) => provider,
        Err(why) => {
            admin.sign_in.tell(Way::Oidc, Outcome::Unreachable, None);
            tracing::error!("nobody can sign in at the issuer: {why}");
            let text = "The issuer cannot be reached at the moment. Try again in a while.";
            return page::notice(StatusCode::BAD_GATEWAY, text);
        }
    };
    let next = query.as_deref().and_then(next);
    let Some(started) = oidc.pendings.start(&settings, &base, next, runtime::now()) else {
        return page::notice(StatusCode::SERVICE_UNAVAILABLE, "There are no random numbers.");
    };
    let mut to = provider.authorization.clone();
    to.set_fragment(None);
    to.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", &settings.client_id),
        ("redirect_uri", &started.redirect_uri),
        ("scope", &settings.scope),
        ("state", &started.state),
        ("nonce", &started.nonce),
        ("code_challenge", &started.challenge),
        ("code_challenge_method", "S256"),
    ]);
    if let Some(resource) = &settings.resource {
        to.query_pairs_mut().append_pair("resource", resource);
    }
    let cookie = cookie::set(&site, site.question_cookie(), &started.browser, LIFE_S);
    let (Some(cookie), Ok(to)) = (cookie, HeaderValue::from_str(to.as_str())) else {
        return page::notice(StatusCode::BAD_GATEWAY, "The issuer's address cannot be used.");
    };
    (StatusCode::SEE_OTHER, [(header::LOCATION, to), (header::SET_COOKIE, cookie)]).into_response()
}

/// `GET /sign-in/callback`: a page that hands over what the issuer put into its address.
pub(super) async fn callback() -> Response {
    page::page("Signing in", CALLBACK_BODY, CALLBACK_SCRIPT)
}

/// The address's query, as the page of the callback has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    query: Box<str>,
}

/// `POST /sign-in/callback`: the issuer's answer.
pub(super) async fn finish(State(admin): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let back: Back = match read(&headers, &body) {
        Ok(back) => back,
        Err(answer) => return *answer,
    };
    let Some(oidc) = &admin.sign_in.oidc else {
        return problem(StatusCode::NOT_FOUND, "not-found", "There is no sign-in at an issuer.");
    };
    match signed_in(&admin, oidc, &headers, &back.query).await {
        Ok((session, next)) => {
            let (site, next) = ((admin.site)(), next.unwrap_or_default());
            // The question is answered.
            let gone = cookie::set(&site, site.question_cookie(), "", 0);
            let cookies = [Some(session), gone].into_iter().flatten();
            let cookies = AppendHeaders(cookies.map(|cookie| (header::SET_COOKIE, cookie)));
            (cookies, Json(json!({ "next": next }))).into_response()
        }
        Err(fault) => {
            let Fault(outcome, why) = &fault;
            tracing::warn!(refused = outcome.label(), "sign-in at the issuer: {why}");
            fault.answer()
        }
    }
}

async fn signed_in(
    admin: &Admin,
    oidc: &Oidc,
    headers: &HeaderMap,
    query: &str,
) -> Result<(HeaderValue, Option<String>), Fault> {
    let counted = |fault: Fault| {
        admin.sign_in.tell(Way::Oidc, fault.0, None);
        fault
    };
    let (pending, kind, token, party) =
        answered(admin, oidc, headers, query).await.map_err(counted)?;
    // It counts and tells by itself.
    let cookie = enter(admin, headers, Way::Oidc, (token, kind), &party).await;
    let cookie = cookie.map_err(|outcome| Fault::of(outcome, "the token does not count here"))?;
    Ok((cookie, pending.next))
}

/// The token that tells who it is, and who that is by the ID token.
async fn answered(
    admin: &Admin,
    oidc: &Oidc,
    headers: &HeaderMap,
    query: &str,
) -> Result<(Pending, Kind, Arc<Secret>, Party), Fault> {
    let answer = Answer::parse(query)
        .ok_or_else(|| Fault::of(Outcome::Mixed, "an answer with a member twice or none"))?;
    let over = || Fault::of(Outcome::StateOver, "its state is not one of this browser");
    let Cookie::One(browser) = cookie::read(headers, (admin.site)().question_cookie()) else {
        return Err(over());
    };
    let state = answer.state.as_deref().unwrap_or_default();
    let pending = oidc.pendings.take(state, browser, runtime::now()).ok_or_else(over)?;
    let settings = (oidc.settings)()
        .filter(|now| now.issuer == pending.issuer && now.client_id == pending.client_id);
    let settings = settings
        .ok_or_else(|| Fault::of(Outcome::StateOver, "the config has changed meanwhile"))?;
    let _permit = oidc
        .exchanges
        .try_acquire()
        .map_err(|_| Fault::of(Outcome::Unavailable, "too many at once"))?;
    let provider = oidc.providers.find(&settings).await;
    let provider = provider.map_err(|why| Fault(Outcome::Unreachable, why))?;
    let named = answer.iss.as_deref();
    if named.is_some_and(|iss| iss != settings.issuer) || named.is_none() && provider.names_itself {
        return Err(Fault::of(Outcome::Mixed, "the answer is of another issuer"));
    }
    let code = match (&answer.error, &answer.code) {
        (Some(error), _) => return Err(Fault(Outcome::Denied, provider::word(error))),
        (None, Some(code)) => code,
        (None, None) => return Err(Fault::of(Outcome::Mixed, "there is no code in the answer")),
    };
    let tokens = oidc
        .providers
        .exchange(&provider, &settings, code, &pending.verifier, &pending.redirect_uri)
        .await
        .map_err(|fault| match fault {
            ExchangeFault::Unreachable(why) => Fault(Outcome::Unreachable, why),
            ExchangeFault::Refused(code) => Fault(Outcome::Denied, code),
        })?;
    let party = identified(oidc, &tokens, &pending.nonce).await?;
    let (kind, token) = if settings.by_access_token {
        let access = tokens.access.ok_or_else(|| {
            Fault::of(Outcome::Unreachable, "there is no access token in the answer")
        })?;
        (Kind::Bearer, access)
    } else {
        (Kind::Id, tokens.id)
    };
    Ok((pending, kind, token, party))
}

/// Who the ID token says it is, if it is the answer to this very question.
async fn identified(oidc: &Oidc, tokens: &Tokens, nonce: &str) -> Result<Party, Fault> {
    let access_token = tokens.access.as_ref().map(|token| token.expose());
    let look = || (oidc.answer)(tokens.id.expose(), Question { nonce, access_token });
    let shown = match look() {
        Shown::Fetching(fetch) => {
            fetch.await;
            look()
        }
        shown => shown,
    };
    match shown {
        Shown::Person(person) => Ok(Party::clone(&person.party)),
        _ => Err(Fault::of(Outcome::Mixed, "the ID token is not the answer")),
    }
}

/// What the issuer answers by way of the browser; each member once at most.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    state: Option<String>,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
}

impl Answer {
    fn parse(query: &str) -> Option<Self> {
        let query = query.strip_prefix('?').unwrap_or(query);
        let mut url = Url::parse("http://query.invalid/").ok()?;
        url.set_query(Some(query));
        let mut answer = Self::default();
        for (name, value) in url.query_pairs() {
            let slot = match &*name {
                "state" => &mut answer.state,
                "code" => &mut answer.code,
                "iss" => &mut answer.iss,
                "error" => &mut answer.error,
                // Issuers add what they like (`session_state`, `scope`).
                _ => continue,
            };
            if slot.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(answer)
    }
}

/// The page that the browser came for: a request's, and nothing else, so that no link leads
/// anywhere by way of a sign-in.
fn next(query: &str) -> Option<String> {
    let wanted = query.strip_prefix("next=/approvals/")?;
    ApprovalId::parse(wanted).map(|id| format!("approvals/{id}"))
}

const CALLBACK_SCRIPT: &str = include_str!("callback.js");
const CALLBACK_BODY: &str = "<main>
<h1>Sign in to Weirgate</h1>
<p id=\"say\" role=\"status\">Signing in ...</p>
<p id=\"again\" hidden><a href=\"../sign-in\">Sign in again</a></p>
<noscript><p>This page needs JavaScript.</p></noscript>
</main>";
/// Each takes five seconds at most.
const EXCHANGES_MAX: usize = 16;

#[cfg(test)]
mod tests;
