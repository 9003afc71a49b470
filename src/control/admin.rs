//! The admin surface: health, metrics, and the API behind a token.
//!
//! It has its own listener and is never reached over a data listener. `/healthz`, `/readyz` and
//! `/metrics` need no token; **everything else** does, unknown paths too, so that a route that is
//! added later is behind the token unless it is named here. Without a token or an issuer in the
//! config nothing else is served.
//!
//! The admin token and the viewers see everything. A person of the admin issuer who is no viewer
//! sees approvals only: those that it may decide, and its own. Only a person decides.
//!
//! A token is asked for in `Authorization` and nowhere else, so that no page of another origin can
//! make a browser act here; and nothing that a `GET` asks for changes anything.

mod approvals;
mod estimate;
mod openapi;
mod view;

use super::approvals::Desk;
use super::metrics::Text;
use crate::base::Secret;
use crate::policy::approval::Party;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
pub use estimate::Plan;
use ring::digest;
use serde_json::{Value, json};
use std::io;
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
    /// Neither: 401.
    Unknown,
}

impl Access {
    /// Whether it may look at everything.
    fn views(&self) -> bool {
        matches!(self, Self::Script | Self::Person { viewer: true, .. })
    }
}

/// Verifies an IAM token for the admin surface.
pub type Verify = dyn Fn(&[u8]) -> Access + Send + Sync;

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
    /// Has a database plan a statement.
    pub plan: Box<Plan>,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    let admin = Arc::new(admin);
    let guarded = Router::new()
        .route("/api/v1/resources", get(resources))
        .route("/api/v1/openapi.json", get(openapi::document))
        .fallback(not_found)
        .layer(middleware::from_fn(views))
        .merge(approvals::routes())
        .method_not_allowed_fallback(not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), guard));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .layer(middleware::map_response(harden))
        .with_state(admin)
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
    axum::serve(listener, router(admin)).with_graceful_shutdown(stop).await
}

/// Lets in whose token is known, and says who it is to what follows.
async fn guard(State(admin): State<Arc<Admin>>, mut request: Request, next: Next) -> Response {
    let access = admin.access(request.headers());
    if access == Access::Unknown {
        let mut answer = problem(
            StatusCode::UNAUTHORIZED,
            "admin-token",
            "Send `Authorization: Bearer` with the admin token or a token of the admin issuer.",
        );
        let wanted = HeaderValue::from_static("Bearer realm=\"weirgate-admin\"");
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, wanted);
        return answer;
    }
    request.extensions_mut().insert(access);
    next.run(request).await
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
    /// Anything but exactly one well-formed `Authorization` is unknown.
    fn access(&self, headers: &HeaderMap) -> Access {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Access::Unknown };
        let Some((scheme, token)) = value.to_str().ok().and_then(|text| text.split_once(' '))
        else {
            return Access::Unknown;
        };
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
            return Access::Unknown;
        }
        // Digests are of one length, so that not even the token's length shows in the time.
        let hash = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
        if let Some(wanted) = (self.token)().filter(|wanted| !wanted.is_empty())
            && super::same_bytes(hash(token.as_bytes()).as_ref(), hash(wanted.expose()).as_ref())
        {
            return Access::Script;
        }
        self.verify.as_ref().map_or(Access::Unknown, |verify| verify(token.as_bytes()))
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
    let body = json!({
        "type": format!("https://weirgate.dev/problems/{kind}"),
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let fields = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, fields, body.to_string()).into_response()
}

/// Nothing of the surface is kept by caches, framed, or guessed at.
async fn harden(mut answer: Response) -> Response {
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
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

    fn person(viewer: bool) -> Access {
        let none = || [].into();
        let (iss, sub, client_id) = ("i".into(), "s".into(), None);
        let party = Party { iss, sub, client_id, actors: none(), groups: none() };
        Access::Person { party: Arc::new(party), viewer }
    }

    #[test]
    fn three_pages_are_open_and_nothing_else_is() {
        let open = ["/healthz", "/readyz", "/metrics"];
        let closed =
            ["/", "/api/v1/resources", "/api/v1/openapi.json", "/api/v1/none", "/metrics/"];
        for page in open {
            let answer = answers(admin(None, None, true), &[&format!("{page} {V}")]);
            assert_eq!(status(answer.first().unwrap()), "200", "{page}");
        }
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
            _ => Access::Unknown,
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
