//! Sign-in over the surface's own routes.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
use super::kit::person;
use super::*;
use crate::control::admin::{Shown, Verify, router};
use crate::control::approvals::Desk;
use crate::control::notify::Notifier;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const NEVER_S: u64 = 4_000_000_000;

/// What the issuer says of tokens at the moment: `ana` is a viewer's token, `eve` somebody's.
#[derive(Default)]
struct Issuer {
    refused: Mutex<Vec<&'static str>>,
}

impl Issuer {
    fn shown(&self, token: &[u8]) -> Shown {
        let known = ["ana", "eve"].into_iter().find(|name| name.as_bytes() == token);
        match known {
            Some(name) if !self.refused.lock().unwrap().contains(&name) => {
                Shown::Person(Person { viewer: name == "ana", ..person(name, NEVER_S) })
            }
            _ => Shown::Unknown,
        }
    }
}

fn surface(verify: Box<Verify>, sign_in: SignIn, site: Site) -> Admin {
    Admin {
        token: Box::new(|| Some(Secret::new(b"script".to_vec()))),
        verify: Some(verify),
        not_ready: Box::new(Vec::new),
        resources: Box::new(|| json!([])),
        metrics: Box::new(|_| ()),
        desk: Desk::closed(),
        notifier: Notifier::idle(),
        plan: Box::new(|_, _| Err("there is no database".to_owned())),
        site: Box::new(move || site.clone()),
        sign_in,
    }
}

/// A surface that listens.
pub(super) struct Surface {
    pub(super) address: SocketAddr,
    issuer: Arc<Issuer>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Value,
}

impl Answer {
    /// The value of the cookie that it sets.
    pub(super) fn cookie(&self) -> Option<&str> {
        let line = self.head.lines().find_map(|line| line.strip_prefix("set-cookie: "))?;
        line.split(';').next()
    }

    pub(super) fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
    }
}

impl Surface {
    async fn start() -> Self {
        let issuer = Arc::new(Issuer::default());
        let asked = Arc::clone(&issuer);
        let verify = Box::new(move |token: &[u8]| asked.shown(token));
        let site = |bound| Site { public_url: None, bound };
        let started = Self::with(verify, SignIn::default(), site).await;
        Self { issuer, ..started }
    }

    pub(super) async fn with(
        verify: Box<Verify>,
        sign_in: SignIn,
        site: impl FnOnce(SocketAddr) -> Site,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bound = listener.local_addr().unwrap();
        let site = site(bound);
        let admin = surface(verify, sign_in, site);
        tokio::spawn(async move { axum::serve(listener, router(admin)).await });
        Self { address: bound, issuer: Arc::default() }
    }

    /// One request under the surface's own name, unless `fields` bring a host.
    pub(super) async fn ask(
        &self,
        line: &str,
        fields: &[(&str, &str)],
        body: Option<Value>,
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let body = body.map(|body| body.to_string());
        let mut head = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
        if !fields.iter().any(|(name, _)| *name == "host") {
            head += &format!("host: {}\r\n", self.address);
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &body {
            let len = body.len();
            head += &format!("content-type: application/json\r\ncontent-length: {len}\r\n");
        }
        head += "\r\n";
        stream.write_all((head + &body.unwrap_or_default()).as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_owned(),
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        }
    }

    /// A link of `who`, by its token.
    async fn link(&self, who: &str) -> String {
        let bearer = format!("Bearer {who}");
        let made =
            self.ask("POST /api/v1/sign-in-links", &[("authorization", &bearer)], None).await;
        assert_eq!(made.status, 200, "{made:?}");
        let url = made.body["url"].as_str().unwrap();
        let (page, link) = url.split_once('#').unwrap();
        assert_eq!(page, format!("http://{}/sign-in/link", self.address));
        link.to_owned()
    }

    /// Cookie and CSRF value of a session of `who`.
    async fn sign_in(&self, who: &str) -> (String, String) {
        let link = self.link(who).await;
        let taken = self.ask("POST /sign-in/link", &[], Some(json!({ "link": link }))).await;
        assert_eq!(taken.status, 204, "{taken:?}");
        let cookie = taken.cookie().unwrap().to_owned();
        let me = self.ask("GET /api/v1/me", &[("cookie", &cookie)], None).await;
        assert_eq!((me.status, me.body["sub"].as_str()), (200, Some(who)));
        (cookie, me.body["csrf"].as_str().unwrap().to_owned())
    }
}

pub(super) fn on_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_link_signs_one_browser_in_as_its_person_and_no_second() {
    on_runtime(async {
        let surface = Surface::start().await;
        let link = surface.link("ana").await;
        let shown = || Some(json!({ "link": link }));
        let page = surface.ask("GET /sign-in/link", &[("sec-fetch-site", "cross-site")], None);
        assert_eq!(page.await.status, 200, "a link of a mail");
        for _ in 0..2 {
            let look = surface.ask("POST /sign-in/link/look", &[], shown()).await;
            assert_eq!((look.status, look.body["sub"].as_str()), (200, Some("ana")));
        }
        let taken = surface.ask("POST /sign-in/link", &[], shown()).await;
        assert_eq!(taken.status, 204);
        assert!(taken.head.contains("HttpOnly; SameSite=Strict"), "{}", taken.head);
        for line in ["POST /sign-in/link", "POST /sign-in/link/look"] {
            let again = surface.ask(line, &[], shown()).await;
            assert_eq!((again.status, again.kind()), (410, "link-over"));
            assert_eq!(again.cookie(), None);
        }
        let cookie = taken.cookie().unwrap();
        let list = surface.ask("GET /api/v1/resources", &[("cookie", cookie)], None).await;
        assert_eq!(list.status, 200);
        let (eve, _) = surface.sign_in("eve").await;
        let list = surface.ask("GET /api/v1/resources", &[("cookie", &eve)], None).await;
        assert_eq!(list.status, 403, "the session has the rights of its person");
    });
}

#[test]
fn two_browsers_that_race_for_a_link_make_one_session() {
    on_runtime(async {
        let surface = Surface::start().await;
        for _ in 0..20 {
            let body = Some(json!({ "link": surface.link("ana").await }));
            let (one, other) = tokio::join!(
                surface.ask("POST /sign-in/link", &[], body.clone()),
                surface.ask("POST /sign-in/link", &[], body.clone()),
            );
            let mut statuses = [one.status, other.status];
            statuses.sort_unstable();
            assert_eq!(statuses, [204, 410]);
        }
    });
}

#[test]
fn only_a_person_with_its_own_token_makes_a_link() {
    on_runtime(async {
        let surface = Surface::start().await;
        let make = "POST /api/v1/sign-in-links";
        for (token, status) in [("script", 403), ("nobody", 401)] {
            let bearer = format!("Bearer {token}");
            let made = surface.ask(make, &[("authorization", &bearer)], None).await;
            assert_eq!(made.status, status, "{token}");
        }
        let (cookie, csrf) = surface.sign_in("ana").await;
        let fields = [("cookie", cookie.as_str()), ("x-weirgate-csrf", &csrf)];
        assert_eq!(surface.ask(make, &fields, None).await.status, 403, "a session makes no other");
        // Nobody is sent to a name that is not the surface's.
        let fields = [("authorization", "Bearer ana"), ("host", "evil.example")];
        let made = surface.ask(make, &fields, None).await;
        assert_eq!((made.status, made.kind()), (409, "no-sign-in"));
    });
}

#[test]
fn a_session_acts_only_with_its_csrf_value_from_a_page_of_its_own() {
    on_runtime(async {
        let surface = Surface::start().await;
        let (cookie, csrf) = surface.sign_in("ana").await;
        let (_, other) = surface.sign_in("ana").await;
        let act = "POST /api/v1/grants/revoke";
        let body = || Some(json!({ "all": true }));
        let origin = format!("http://{}", surface.address);
        let elsewhere = format!("http://127.0.0.1:{}", surface.address.port() ^ 1);
        let own = [("cookie", cookie.as_str()), ("x-weirgate-csrf", csrf.as_str())];
        // Past the guard nothing decides here: the desk is closed.
        for more in [&[][..], &[("origin", origin.as_str())], &[("sec-fetch-site", "same-origin")]]
        {
            let done = surface.ask(act, &[&own, more].concat(), body()).await;
            assert_eq!(done.status, 503, "{more:?}: {done:?}");
        }
        for (fields, status, kind) in [
            (vec![own[0]], 403, "csrf"),
            (vec![own[0], ("x-weirgate-csrf", "")], 403, "csrf"),
            (vec![own[0], ("x-weirgate-csrf", &other)], 403, "csrf"),
            (vec![own[0], own[1], own[1]], 403, "csrf"),
            (vec![own[0], own[1], ("origin", "https://evil.example")], 403, "origin"),
            (vec![own[0], own[1], ("origin", &elsewhere)], 403, "origin"),
            (vec![own[0], own[1], ("origin", "null")], 403, "origin"),
            (vec![own[0], own[1], ("sec-fetch-site", "same-site")], 403, "origin"),
            (vec![own[0], own[1], ("host", "evil.example")], 421, "host"),
            (vec![own[0], own[1], ("authorization", "Bearer ana")], 400, "two-credentials"),
            (vec![own[0], own[0], own[1]], 401, "session-over"),
            (vec![("cookie", "weirgate=x"), own[1]], 401, "session-over"),
            (vec![own[1]], 401, "admin-token"),
        ] {
            let refused = surface.ask(act, &fields, body()).await;
            assert_eq!((refused.status, refused.kind()), (status, kind), "{fields:?}");
        }
        // Not even to be read by a page elsewhere, or under another name.
        for (more, status) in [(("sec-fetch-site", "cross-site"), 403), (("host", "evil:1"), 421)] {
            let read = surface.ask("GET /api/v1/me", &[own[0], more], None).await;
            assert_eq!(read.status, status);
        }
        assert_eq!(surface.ask("GET /api/v1/me", &own, None).await.status, 200);
    });
}

#[test]
fn nobody_signs_a_browser_in_from_another_page() {
    on_runtime(async {
        let surface = Surface::start().await;
        let link = surface.link("eve").await;
        let body = || Some(json!({ "link": link }));
        for (field, status) in [
            (("origin", "https://evil.example"), 403),
            (("sec-fetch-site", "cross-site"), 403),
            (("host", "evil.example"), 421),
        ] {
            for line in ["POST /sign-in/link", "POST /sign-in/link/look"] {
                let refused = surface.ask(line, &[field], body()).await;
                assert_eq!((refused.status, refused.cookie()), (status, None), "{field:?}");
            }
        }
        let form = [("content-type", "text/plain"), ("content-length", "0")];
        assert_eq!(surface.ask("POST /sign-in/link", &form, None).await.status, 415, "a form");
        assert_eq!(surface.ask("GET /sign-in/link", &[("host", "evil")], None).await.status, 421);
        assert_eq!(surface.ask("POST /sign-in/link", &[], body()).await.status, 204, "unused");
    });
}

#[test]
fn a_sign_in_takes_the_place_of_the_browsers_session() {
    on_runtime(async {
        let surface = Surface::start().await;
        let (old, _) = surface.sign_in("eve").await;
        let body = Some(json!({ "link": surface.link("ana").await }));
        let taken = surface.ask("POST /sign-in/link", &[("cookie", &old)], body).await;
        assert_eq!(taken.status, 204);
        let me = surface.ask("GET /api/v1/me", &[("cookie", &old)], None).await;
        assert_eq!((me.status, me.kind()), (401, "session-over"));
        assert!(me.head.contains("weirgate=; Path=/; Max-Age=0"), "{}", me.head);
        assert_eq!(me.body["sign_in"]["oidc"], false);
    });
}

#[test]
fn a_session_ends_when_its_person_signs_out_and_when_its_token_counts_no_more() {
    on_runtime(async {
        let surface = Surface::start().await;
        let (cookie, csrf) = surface.sign_in("ana").await;
        let own = [("cookie", cookie.as_str()), ("x-weirgate-csrf", csrf.as_str())];
        assert_eq!(surface.ask("POST /sign-out", &own[..1], None).await.status, 403);
        assert_eq!(surface.ask("GET /sign-out", &own[..1], None).await.status, 405);
        assert_eq!(surface.ask("POST /sign-out", &own, None).await.status, 204);
        assert_eq!(surface.ask("GET /api/v1/me", &own, None).await.status, 401);
        let bearer = [("authorization", "Bearer ana")];
        assert_eq!(surface.ask("POST /sign-out", &bearer, None).await.status, 400);
        // Its key is removed, or its issuer, or its group.
        let (cookie, _) = surface.sign_in("ana").await;
        let own = [("cookie", cookie.as_str())];
        surface.issuer.refused.lock().unwrap().push("ana");
        assert_eq!(surface.ask("GET /api/v1/me", &own, None).await.status, 401);
        surface.issuer.refused.lock().unwrap().clear();
        assert_eq!(surface.ask("GET /api/v1/me", &own, None).await.status, 401, "it is over");
        // A link of a token that ended meanwhile is used up for nothing.
        let body = Some(json!({ "link": surface.link("ana").await }));
        surface.issuer.refused.lock().unwrap().push("ana");
        let taken = surface.ask("POST /sign-in/link", &[], body).await;
        assert_eq!((taken.status, taken.kind(), taken.cookie()), (403, "token-over", None));
        let counted = surface.ask("GET /metrics", &[], None).await;
        assert_eq!(counted.status, 200);
    });
}

#[test]
fn a_person_ends_all_of_its_own_sessions_and_links_from_anywhere() {
    on_runtime(async {
        let surface = Surface::start().await;
        let (one, csrf) = surface.sign_in("ana").await;
        let (other, _) = surface.sign_in("ana").await;
        let (eve, _) = surface.sign_in("eve").await;
        let link = Some(json!({ "link": surface.link("ana").await }));
        let all = || Some(json!({ "everywhere": true }));
        let fields = [("cookie", one.as_str()), ("x-weirgate-csrf", csrf.as_str())];
        assert_eq!(surface.ask("POST /sign-out", &fields, all()).await.status, 204);
        for (cookie, status) in [(&one, 401), (&other, 401), (&eve, 200)] {
            let me = surface.ask("GET /api/v1/me", &[("cookie", cookie)], None).await;
            assert_eq!(me.status, status);
        }
        assert_eq!(surface.ask("POST /sign-in/link", &[], link).await.status, 410);
        for (token, status) in [("eve", 204), ("script", 400)] {
            let bearer = format!("Bearer {token}");
            let fields = [("authorization", bearer.as_str())];
            assert_eq!(surface.ask("POST /sign-out", &fields, all()).await.status, status);
        }
        let me = surface.ask("GET /api/v1/me", &[("cookie", &eve)], None).await;
        assert_eq!(me.status, 401);
    });
}

#[test]
fn who_one_is_is_told_to_a_token_without_a_session_too() {
    on_runtime(async {
        let surface = Surface::start().await;
        let me = surface.ask("GET /api/v1/me", &[("authorization", "Bearer eve")], None).await;
        assert_eq!(me.body["sub"], "eve");
        assert_eq!((&me.body["csrf"], &me.body["viewer"]), (&Value::Null, &json!(false)));
        let me = surface.ask("GET /api/v1/me", &[("authorization", "Bearer script")], None).await;
        assert_eq!((&me.body["sub"], &me.body["viewer"]), (&Value::Null, &json!(true)));
        let none = surface.ask("GET /api/v1/me", &[], None).await;
        assert_eq!((none.status, &none.body["sign_in"]), (401, &json!({ "oidc": false })));
    });
}

#[test]
fn an_answer_that_lasts_hears_when_its_session_is_over() {
    on_runtime(async {
        let issuer = Arc::new(Issuer::default());
        let asked = Arc::clone(&issuer);
        let verify = Box::new(move |token: &[u8]| asked.shown(token));
        let site = Site { public_url: None, bound: ([127, 0, 0, 1], 1).into() };
        let admin = surface(verify, SignIn::default(), site);
        let token = Arc::new(Secret::new(b"ana".to_vec()));
        let begin = || {
            let person = person("ana", NEVER_S);
            let begun = admin.sign_in.sessions.begin(
                (Arc::clone(&token), Kind::Bearer),
                &person,
                runtime::now(),
            );
            admin.sign_in.find(&begun.unwrap().id, true).unwrap()
        };
        for refuse in [false, true] {
            let found = begin();
            let (_, standing) = admin.by_session(found.clone()).await.unwrap();
            assert!(admin.still(&standing).await.is_some());
            if refuse {
                issuer.refused.lock().unwrap().push("ana");
            } else {
                admin.sign_in.end(&found, "signed out");
            }
            assert!(admin.still(&standing).await.is_none());
        }
    });
}
