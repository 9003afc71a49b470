//! The admin surface: health, metrics, and the API behind a token.
//!
//! It has its own listener and is never reached over a data listener. `/healthz`, `/readyz`,
//! `/metrics`, the page and those to sign in by need no token; **everything else** does, unknown paths
//! too, so that a route that is added later is behind the token unless it is named here. Without a
//! token or an issuer in the config nothing else is served. `/callback/{webhook}` has a signature
//! in the place of a token.
//!
//! The admin token and the viewers see everything. A person of the admin issuer who is no viewer
//! sees approvals only: those that it may decide, and its own. Only a person decides.
//!
//! A request shows a token in `Authorization`, or the cookie of a browser's session, which stands
//! for a person's token; never both. With a cookie a request must come from a page of
//! the surface itself, and bring the session's CSRF value unless it is a `GET`. Nothing that a
//! `GET` asks for changes anything.

mod approvals;
mod by_link;
mod callback;
mod charts;
mod doors;
mod estimate;
mod events;
mod insight;
mod openapi;
mod page;
mod sessions;
mod sign_in;
mod site;
pub(super) mod view;
mod webhooks;

pub use charts::{Latency, Sample};
pub use insight::Insight;
pub use sign_in::SignIn;
pub use sign_in::oidc::{Oidc, Settings as OidcSettings, VerifyAnswer};
pub use site::Site;

use super::approvals::Desk;
use super::metrics::Text;
use super::notify::Notifier;
use crate::base::Secret;
use crate::policy::approval::Party;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use doors::Doors;
pub use estimate::Plan;
use ring::digest;
use serde_json::{Value, json};
use sign_in::Kind;
use sign_in::cookie::{self, Cookie};
use site::Foreign;
use std::future::IntoFuture;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever holds the admin token: may look at everything, and take back; decides nothing.
    Script,
    /// A person, by its token of the admin issuer.
    Person {
        /// Who.
        party: Arc<Party>,
        /// Whether it may look at everything.
        viewer: bool,
    },
}

impl Access {
    /// Whether it may look at everything.
    fn views(&self) -> bool {
        matches!(self, Self::Script | Self::Person { viewer: true, .. })
    }
}

/// Whose token of the admin issuer was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub party: Arc<Party>,
    /// Whether it may look at everything.
    pub viewer: bool,
    /// `exp` of the token, in seconds since the epoch.
    pub expires_s: u64,
}

/// What a token is.
pub enum Shown {
    /// A person's.
    Person(Person),
    /// None that counts.
    Unknown,
    /// Signed by a key that the issuer's set lacks: worth another look when this ends.
    Fetching(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Verifies an IAM token for the admin surface.
pub type Verify = dyn Fn(&[u8]) -> Shown + Send + Sync;

/// On what a request stands: kept by an answer that lasts, so that it can ask whether it still
/// does.
#[derive(Clone, Debug)]
struct Standing {
    token: Arc<Secret>,
    session: Option<sign_in::Found>,
    until_s: Option<u64>,
}

impl Standing {
    /// The token, the browser's as well as the caller's own.
    fn token(&self) -> Arc<Secret> {
        Arc::clone(&self.token)
    }

    /// The browser's session, if it came by one.
    fn session(&self) -> Option<&sign_in::Found> {
        self.session.as_ref()
    }

    /// Wall-clock second at which it ends; `None` for the admin token.
    fn until_s(&self) -> Option<u64> {
        self.until_s
    }
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// No token that counts, and no cookie.
    Token,
    /// A cookie of no session: it ended, or was never one.
    Session,
    /// A token and a cookie.
    Both,
    /// Another page asks, or under another name.
    Foreign(Foreign),
    /// The session's CSRF value is missing.
    Csrf,
}

/// What the surface shows, and to whom.
pub struct Admin {
    /// `[admin] token`, for scripts, as it is at the moment: its file may be replaced.
    pub token: Box<dyn Fn() -> Option<Secret> + Send + Sync>,
    /// Tokens of `[admin] issuer`. Never says [`Access::Script`].
    pub verify: Option<Box<Verify>>,
    /// Why the gateway is not ready; nothing when it is.
    pub not_ready: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// `/api/v1/resources`: a list of objects, without any secret.
    pub resources: Box<dyn Fn() -> Value + Send + Sync>,
    /// Adds what the gateway counts to `/metrics`.
    pub metrics: Box<dyn Fn(&mut Text) + Send + Sync>,
    /// Where approvals are decided.
    pub desk: Desk,
    /// What the views of the record stand on.
    pub insight: Insight,
    /// Under which names browsers come.
    pub site: Box<dyn Fn() -> Site + Send + Sync>,
    /// Who is signed in.
    pub sign_in: SignIn,
    /// Webhooks, and the links and callbacks that come of them.
    pub notifier: Arc<Notifier>,
    /// Has a database plan a statement.
    pub plan: Box<Plan>,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    routes(&Arc::new(admin))
}

fn routes(admin: &Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/api/v1/resources", get(resources))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/charts", get(charts::show))
        .merge(sessions::routes())
        .merge(webhooks::routes())
        .fallback(not_found)
        .layer(middleware::from_fn(views))
        .merge(approvals::routes())
        .route("/api/v1/events", get(events::listen))
        .merge(sign_in::guarded())
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(admin), guard));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(page::routes())
        .merge(sign_in::open(admin))
        .merge(callback::routes())
        .merge(guarded)
        .layer(middleware::map_response(harden))
        .with_state(Arc::clone(admin))
}

/// Serves on `listener` until `stop` ends, then finishes what is under way.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let admin = Arc::new(admin);
    let served = axum::serve(Doors::new(listener), routes(&admin)).with_graceful_shutdown(stop);
    tokio::select! {
        served = served.into_future() => served,
        () = charts::sample(admin) => Ok(()),
    }
}

/// Lets in whose token or session is known, and says who it is to what follows.
async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    // What a page asks by itself to show news is no sign that somebody is there.
    let used = !LIVE.contains(&request.uri().path());
    match admin.access(request.method(), request.headers(), used).await {
        Ok((access, standing)) => {
            request.extensions_mut().insert(access);
            request.extensions_mut().insert(standing);
            next.run(request).await
        }
        Err(refused) => refused.answer(&admin),
    }
}

/// Lets in who may look at everything.
async fn views(request: Request, next: Next) -> Response {
    if request.extensions().get::<Access>().is_some_and(Access::views) {
        return next.run(request).await;
    }
    problem(
        StatusCode::FORBIDDEN,
        "not-a-viewer",
        "The token is valid, but its groups are none of the admin viewers.",
    )
}

impl Admin {
    /// Who asks: by exactly one well-formed `Authorization`, or by a session's cookie.
    async fn access(
        &self,
        method: &Method,
        headers: &HeaderMap,
        used: bool,
    ) -> Result<(Access, Standing), Refused> {
        let site = (self.site)();
        let cookie = match cookie::read(headers, site.cookie()) {
            Cookie::None => return self.by_token(bearer(headers).ok_or(Refused::Token)?).await,
            _ if headers.contains_key(header::AUTHORIZATION) => return Err(Refused::Both),
            Cookie::Several => return Err(Refused::Session),
            Cookie::One(id) => id,
        };
        site.check(headers, false).map_err(Refused::Foreign)?;
        let session = self.sign_in.find(cookie, used).ok_or(Refused::Session)?;
        if !matches!(*method, Method::GET | Method::HEAD) && !has_csrf(headers, &session.csrf) {
            return Err(Refused::Csrf);
        }
        self.by_session(session).await
    }

    async fn by_token(&self, token: &[u8]) -> Result<(Access, Standing), Refused> {
        let kept = || Arc::new(Secret::new(token.to_vec()));
        // Digests are of one length, so that not even the token's length shows in the time.
        let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
        if let Some(wanted) = (self.token)().filter(|wanted| !wanted.is_empty())
            && super::same_bytes(hash(token).as_ref(), hash(wanted.expose()).as_ref())
        {
            let standing = Standing { token: kept(), session: None, until_s: None };
            return Ok((Access::Script, standing));
        }
        let Person { party, viewer, expires_s } =
            self.person(Kind::Bearer, token).await.ok_or(Refused::Token)?;
        let standing = Standing { token: kept(), session: None, until_s: Some(expires_s) };
        Ok((Access::Person { party, viewer }, standing))
    }

    /// The token of a session is verified each time: what does not count any more ends it.
    async fn by_session(&self, session: sign_in::Found) -> Result<(Access, Standing), Refused> {
        let found = self.person(session.kind, session.token.expose()).await;
        let Some(Person { party, viewer, .. }) = found else {
            self.sign_in.end(&session, "its token does not count any more");
            return Err(Refused::Session);
        };
        let (token, until_s) = (Arc::clone(&session.token), Some(session.until_s));
        Ok((Access::Person { party, viewer }, Standing { token, session: Some(session), until_s }))
    }

    /// Whose token this is, with a look at the issuer's keys of this moment where they are new.
    async fn person(&self, kind: Kind, token: &[u8]) -> Option<Person> {
        let look = || match kind {
            Kind::Bearer => self.verify.as_ref().map(|verify| verify(token)),
            Kind::Id => self.sign_in.oidc.as_ref().map(|oidc| oidc.person(token)),
        };
        let shown = match look()? {
            Shown::Fetching(fetch) => {
                fetch.await;
                look()?
            }
            shown => shown,
        };
        match shown {
            Shown::Person(person) => Some(person),
            Shown::Unknown | Shown::Fetching(_) => None,
        }
    }

    /// Who an answer that lasts is for, asked anew; `None` when it has to end.
    async fn still(&self, standing: &Standing) -> Option<Access> {
        let found = match &standing.session {
            Some(session) if !self.sign_in.holds(session) => return None,
            Some(session) => self.by_session(session.clone()).await,
            None => self.by_token(standing.token.expose()).await,
        };
        found.ok().map(|(access, _)| access)
    }

    /// How browsers can sign in, for a page that has to offer it.
    fn sign_in_ways(&self) -> Value {
        json!({ "oidc": self.sign_in.oidc.as_ref().is_some_and(Oidc::is_on) })
    }
}

impl Refused {
    fn answer(self, admin: &Admin) -> Response {
        let unknown = |kind: &str, detail: &str| {
            let mut answer = told(
                StatusCode::UNAUTHORIZED,
                kind,
                detail,
                // Where a page that is refused sends the person.
                &[("sign_in", admin.sign_in_ways())],
            );
            let wanted = HeaderValue::from_static("Bearer realm=\"weirgate-admin\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
            answer
        };
        match self {
            Self::Token => unknown(
                "admin-token",
                "Send `Authorization: Bearer` with the admin token or a token of the admin issuer.",
            ),
            Self::Session => {
                let detail = "The browser's session is over: sign in again.";
                (sign_in::forget(admin), unknown("session-over", detail)).into_response()
            }
            Self::Both => problem(
                StatusCode::BAD_REQUEST,
                "two-credentials",
                "There are a token and a session's cookie: send one of them.",
            ),
            Self::Foreign(why) => why.answer(),
            Self::Csrf => problem(
                StatusCode::FORBIDDEN,
                "csrf",
                "A session acts with `x-weirgate-csrf`, whose value is told by /api/v1/me.",
            ),
        }
    }
}

impl Foreign {
    fn answer(self) -> Response {
        match self {
            Self::Host => problem(
                StatusCode::MISDIRECTED_REQUEST,
                "host",
                "Browsers are served under [admin] public_url or a loopback address.",
            ),
            Self::Origin => problem(
                StatusCode::FORBIDDEN,
                "origin",
                "A page of another origin asks for this: it is not answered.",
            ),
        }
    }
}

/// The token of exactly one well-formed `Authorization`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token.as_bytes())
}

/// Whether the request brings the CSRF value of its session, once.
fn has_csrf(headers: &HeaderMap, wanted: &str) -> bool {
    let mut values = headers.get_all("x-weirgate-csrf").iter();
    match (values.next(), values.next()) {
        (Some(value), None) => super::same_bytes(value.as_bytes(), wanted.as_bytes()),
        _ => false,
    }
}

async fn readyz(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = (admin.not_ready)();
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let mut text = Text::default();
    process_metrics(&mut text);
    (admin.metrics)(&mut text);
    admin.sign_in.metrics(&mut text);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text.into_string()).into_response()
}

async fn resources(State(admin): State<Arc<Admin>>) -> Response {
    axum::Json((admin.resources)()).into_response()
}

async fn not_found() -> Response {
    problem(StatusCode::NOT_FOUND, "not-found", "There is no such admin page.")
}

async fn not_allowed() -> Response {
    let detail = "This page does not take that method; see /api/v1/openapi.json.";
    problem(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
}

fn problem(status: StatusCode, kind: &str, detail: &str) -> Response {
    told(status, kind, detail, &[])
}

/// A problem with members of its own.
fn told(status: StatusCode, kind: &str, detail: &str, more: &[(&str, Value)]) -> Response {
    let mut body = json!({
        "type": format!("https://weirgate.dev/problems/{kind}"),
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if let Value::Object(members) = &mut body {
        members.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
    let fields = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, fields, body.to_string()).into_response()
}

/// Nothing of the surface is kept by caches, framed, or guessed at.
async fn harden(mut answer: Response) -> Response {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}

/// Memory and CPU of the process, by the names that Prometheus' own libraries use.
fn process_metrics(text: &mut Text) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let memory = [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory."),
        ("RssAnon:", "weirgate_anonymous_memory_bytes", "Resident memory without mapped files."),
    ];
    for (key, name, help) in memory {
        if let Some(kib) = kib(key) {
            text.single(name, "gauge", help, kib.saturating_mul(1024));
        }
    }
    if let Ok(list) = std::fs::read_dir("/proc/self/fd") {
        text.single("process_open_fds", "gauge", "Open file descriptors.", list.count());
    }
}

/// What pages ask again and again by themselves.
const LIVE: [&str; 3] = ["/api/v1/charts", "/api/v1/events", "/api/v1/live"];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    fn admin(token: Option<&str>, verify: Option<Box<Verify>>, ready: bool) -> Admin {
        let reasons = move || if ready { Vec::new() } else { vec!["no keys of corp".to_owned()] };
        Admin {
            token: {
                let token = token.map(|token| Secret::new(token.as_bytes().to_vec()));
                Box::new(move || token.clone())
            },
            verify,
            not_ready: Box::new(reasons),
            resources: Box::new(|| json!([{"name": "openai"}])),
            metrics: Box::new(|text| text.single("more", "counter", "More.", 1)),
            desk: Desk::closed(),
            insight: Insight::new("/nowhere".into(), 0, Sample::default),
            site: Box::new(|| Site { public_url: None, bound: ([127, 0, 0, 1], 9901).into() }),
            sign_in: SignIn::default(),
            notifier: Notifier::idle(),
            plan: Box::new(|_, _| Err("there is no database".to_owned())),
        }
    }

    /// Sends each request head on a connection of its own; returns the answers' texts.
    fn answers(admin: Admin, requests: &[&str]) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let server = tokio::spawn(serve(listener, admin, async {
                let _ = stopped.await;
            }));
            let mut texts = Vec::new();
            for request in requests {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let head = format!("GET {request}host: x\r\nconnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).await.unwrap();
                texts.push(text);
            }
            stop.send(()).unwrap();
            server.await.unwrap().unwrap();
            texts
        })
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap()
    }

    const V: &str = "HTTP/1.1\r\n";

    fn person(viewer: bool) -> Shown {
        Shown::Person(Person { viewer, ..sign_in::kit::person("s", u64::MAX) })
    }

    #[test]
    fn what_holds_no_data_is_open_and_nothing_else_is() {
        let open = ["/healthz", "/readyz", "/metrics", "/", "/approvals/x", "/page/main.js"];
        let closed = [
            "/api/v1/sessions",
            "/api/v1/events",
            "/api/v1/charts",
            "/api/v1/live",
            "/page",
            "/api/v1/me",
            "/api/v1/resources",
            "/api/v1/openapi.json",
            "/api/v1/none",
            "/metrics/",
            "/sign-in/none",
            "/sign-out",
        ];
        for page in open {
            let answer = answers(admin(None, None, true), &[&format!("{page} {V}")]);
            assert_eq!(status(answer.first().unwrap()), "200", "{page}");
        }
        // A page to sign in by needs none either; it is served under the surface's own names.
        let texts = answers(admin(None, None, true), &[&format!("/sign-in/link {V}")]);
        assert_eq!(status(texts.first().unwrap()), "421");
        for page in closed {
            for admin in [admin(None, None, true), admin(Some(""), None, true)] {
                let empty = format!("{page} {V}authorization: Bearer \r\n");
                let texts = answers(admin, &[&format!("{page} {V}"), &empty]);
                assert!(texts.iter().all(|text| status(text) == "401"), "{page}: {texts:?}");
            }
        }
    }

    #[test]
    fn the_token_opens_the_rest_and_only_the_token() {
        let path = format!("/api/v1/resources {V}");
        let head = |fields: &str| format!("{path}{fields}");
        let texts = answers(
            admin(Some("admin-token-1"), None, true),
            &[
                &head("authorization: Bearer admin-token-1\r\n"),
                &head("authorization: Bearer admin-token-2\r\n"),
                &head("authorization: Bearer admin-token-1x\r\n"),
                &head("authorization: Basic admin-token-1\r\n"),
                &head("authorization: Bearer admin-token-1\r\nauthorization: Bearer x\r\n"),
                &format!("/none {V}authorization: Bearer admin-token-1\r\n"),
            ],
        );
        let statuses: Vec<&str> = texts.iter().map(|text| status(text)).collect();
        assert_eq!(statuses, ["200", "401", "401", "401", "401", "404"]);
        let first = texts.first().unwrap();
        assert!(first.contains(r#"[{"name":"openai"}]"#) && first.contains("no-store"));
        assert!(texts.iter().skip(1).all(|text| text.contains("application/problem+json")));
    }

    #[test]
    fn a_token_of_the_issuer_counts_by_its_groups() {
        let verify: Box<Verify> = Box::new(|token| match token {
            b"viewer" => person(true),
            b"other" => person(false),
            _ => Shown::Unknown,
        });
        let texts = answers(
            admin(None, Some(verify), true),
            &["viewer", "other", "else"]
                .map(|token| format!("/api/v1/resources {V}authorization: bearer {token}\r\n"))
                .each_ref()
                .map(String::as_str),
        );
        let statuses: Vec<&str> = texts.iter().map(|text| status(text)).collect();
        assert_eq!(statuses, ["200", "403", "401"]);
    }

    #[test]
    fn readiness_names_its_reasons_and_metrics_are_joined() {
        let texts =
            answers(admin(None, None, false), &[&format!("/readyz {V}"), &format!("/metrics {V}")]);
        let [ready, metrics] = texts.try_into().unwrap();
        assert_eq!(status(&ready), "503");
        assert!(ready.contains("no keys of corp"));
        assert!(metrics.contains("more 1\n") && metrics.contains("process_resident_memory_bytes"));
        assert!(metrics.contains("# TYPE more counter\n"));
    }
}
