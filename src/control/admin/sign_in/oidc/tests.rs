//! Sign-in at an issuer that does what no sound one does.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
use super::*;
use crate::base::IssuerId;
use crate::control::admin::sign_in::tests::{Answer as Heard, Surface, on_runtime};
use crate::control::admin::{Person, SignIn, Site};
use crate::control::tls;
use crate::identity::dev::{DevClaims, DevKey};
use crate::identity::{KeySnapshot, Principal, TokenError, Verifier};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::net::TcpListener;

type Asked = (HashMap<String, String>, Option<String>);

/// A stand-in issuer: what it does wrong is changed by the tests.
#[derive(Default)]
struct Idp {
    url: Mutex<String>,
    /// Changes the ID token's claims.
    id: Mutex<Value>,
    /// Changes the token endpoint's answer.
    answer: Mutex<Value>,
    /// Changes the discovery document.
    document: Mutex<Value>,
    /// Whom the access token names.
    access_sub: Mutex<String>,
    nonce: Mutex<String>,
    /// Forms that reached the token endpoint, with their `Authorization`.
    asked: Mutex<Vec<Asked>>,
}

fn merged(mut value: Value, change: &Value) -> Value {
    if let (Some(value), Some(change)) = (value.as_object_mut(), change.as_object()) {
        for (name, change) in change {
            value.insert(name.clone(), change.clone());
        }
    }
    value
}

impl Idp {
    async fn start(key: Arc<DevKey>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let idp = Arc::new(Self::default());
        *idp.url.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        let (told, asked) = (Arc::clone(&idp), Arc::clone(&idp));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(async move || told.document()))
            .route(
                "/token",
                post(async move |headers: HeaderMap, body: String| {
                    asked.tokens(&key, &headers, &body)
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        idp
    }

    fn url(&self) -> String {
        self.url.lock().unwrap().clone()
    }

    fn document(&self) -> Json<Value> {
        let url = self.url();
        let document = json!({"issuer": url, "jwks_uri": format!("{url}/jwks"),
            "authorization_endpoint": format!("{url}/auth?tenant=1"),
            "token_endpoint": format!("{url}/token"),
            "authorization_response_iss_parameter_supported": true});
        Json(merged(document, &self.document.lock().unwrap()))
    }

    fn tokens(&self, key: &DevKey, headers: &HeaderMap, body: &str) -> Response {
        let mut form = Url::parse("http://x/").unwrap();
        form.set_query(Some(body));
        let form = form.query_pairs().into_owned().collect();
        let basic = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        self.asked.lock().unwrap().push((form, basic));
        let now_s = runtime::now().wall_s();
        let access = key.mint(&DevClaims {
            issuer: self.url(),
            subject: self.access_sub.lock().unwrap().clone(),
            audience: vec!["gate".to_owned()],
            client_id: "page".to_owned(),
            issued_s: now_s,
            lifetime_s: 60,
            ..DevClaims::default()
        });
        let claims = json!({"iss": self.url(), "sub": "dora", "aud": "page", "iat": now_s,
            "exp": now_s + 60, "nonce": *self.nonce.lock().unwrap()});
        let claims = merged(claims, &self.id.lock().unwrap());
        let header = json!({"alg": "EdDSA", "kid": key.kid()}).to_string();
        let id = key.sign(&header, &claims.to_string());
        let answer = json!({"access_token": access, "token_type": "Bearer", "id_token": id});
        let answer = merged(answer, &self.answer.lock().unwrap());
        let status = answer["status"].as_u64().and_then(|code| u16::try_from(code).ok());
        (StatusCode::from_u16(status.unwrap_or(200)).unwrap(), Json(answer)).into_response()
    }
}

struct Page {
    surface: Surface,
    idp: Arc<Idp>,
}

impl Page {
    async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let key = Arc::new(DevKey::generate().unwrap());
        let idp = Idp::start(Arc::clone(&key)).await;
        *idp.access_sub.lock().unwrap() = "dora".to_owned();
        let mut settings = crate::control::admin::sign_in::kit::settings(&idp.url());
        change(&mut settings);
        let verifier = Arc::new(Verifier::new(vec![DevKey::rules("idp", &idp.url(), "gate")]));
        let ids = Arc::new(verifier.of_id_tokens(IssuerId(0), "page", true));
        let keys: Arc<KeySnapshot> = Arc::new(key.snapshot(1));
        let (answering, known) = (Arc::clone(&ids), Arc::clone(&keys));
        let (holding, held) = (ids, Arc::clone(&keys));
        let oidc = Oidc::new(
            Box::new(move || Some(settings.clone())),
            Box::new(move |token, question| {
                shown(answering.verify_answer(token, &known, runtime::now(), question))
            }),
            Box::new(move |token| shown(holding.verify(token, &held, runtime::now()))),
            tls::client_config(&[]).unwrap(),
        );
        let bearer = move |token: &[u8]| shown(verifier.verify(token, &keys, runtime::now()));
        let sign_in = SignIn::new(Some(oidc.unwrap()));
        let surface = Surface::with(Box::new(bearer), sign_in, |bound| Site {
            public_url: Some(format!("http://{bound}/")),
            bound,
        });
        Self { surface: surface.await, idp }
    }

    /// Sends a browser to the issuer; returns the query it went with, and its cookie.
    async fn begin(&self) -> (HashMap<String, String>, String) {
        let sent = self.surface.ask("GET /sign-in", &[], None).await;
        assert_eq!(sent.status, 303, "{sent:?}");
        let to = sent.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
        let query: HashMap<_, _> = Url::parse(to).unwrap().query_pairs().into_owned().collect();
        *self.idp.nonce.lock().unwrap() = query["nonce"].clone();
        (query, sent.cookie().unwrap().to_owned())
    }

    async fn finish(&self, cookie: &str, query: &str) -> Heard {
        let body = Some(json!({ "query": query }));
        self.surface.ask("POST /sign-in/callback", &[("cookie", cookie)], body).await
    }

    /// The whole of it, with what the issuer does at the moment.
    async fn sign_in(&self) -> Heard {
        let (query, cookie) = self.begin().await;
        let back = format!("?code=c&state={}&iss={}", query["state"], self.idp.url());
        self.finish(&cookie, &back).await
    }
}

fn shown(found: Result<Principal, TokenError>) -> Shown {
    found.map_or(Shown::Unknown, |principal| {
        let party = Arc::new(Party::of(&principal));
        Shown::Person(Person { party, viewer: false, expires_s: principal.expires_s() })
    })
}

#[test]
fn a_browser_goes_to_the_issuer_and_comes_back_as_a_person() {
    on_runtime(async {
        let page = Page::start(|settings| {
            settings.client_secret = Some(Secret::new(b"page-secret".to_vec()));
            settings.resource = Some("https://gate.test".to_owned());
        });
        let page = page.await;
        let (query, cookie) = page.begin().await;
        let redirect = format!("http://{}/sign-in/callback", page.surface.address);
        for (name, value) in [
            ("tenant", "1"),
            ("response_type", "code"),
            ("client_id", "page"),
            ("redirect_uri", &redirect),
            ("scope", "openid"),
            ("code_challenge_method", "S256"),
            ("resource", "https://gate.test"),
        ] {
            assert_eq!(query[name], value);
        }
        let static_page = page.surface.ask("GET /sign-in/callback?code=c", &[], None).await;
        assert_eq!((static_page.status, static_page.cookie()), (200, None));
        let back = format!("?code=c&state={}&iss={}", query["state"], page.idp.url());
        let done = page.finish(&cookie, &back).await;
        assert_eq!(done.status, 200, "{done:?}");
        let session = done.cookie().unwrap();
        let me = page.surface.ask("GET /api/v1/me", &[("cookie", session)], None).await;
        assert_eq!(me.body["sub"], "dora");
        let asked = page.idp.asked.lock().unwrap();
        let (form, basic) = &asked[0];
        assert_eq!(basic.as_deref(), Some("Basic cGFnZTpwYWdlLXNlY3JldA=="));
        assert_eq!((form["code"].as_str(), &form["redirect_uri"]), ("c", &redirect));
        assert!(form.contains_key("code_verifier") && !form.contains_key("client_secret"));
    });
}

#[test]
fn tokens_that_are_not_the_answer_sign_nobody_in() {
    on_runtime(async {
        let page = Page::start(|_| ()).await;
        assert_eq!(page.sign_in().await.status, 200);
        for (claims, answer, kind) in [
            (json!({"nonce": "another"}), json!({}), "mixed-up"),
            (json!({"aud": "someone"}), json!({}), "mixed-up"),
            (json!({"at_hash": "AAAA"}), json!({}), "mixed-up"),
            (json!({"iss": "https://evil.example"}), json!({}), "mixed-up"),
            (json!({"exp": 1}), json!({}), "mixed-up"),
            (json!({"sub": "eve"}), json!({}), "mixed-up"),
            (json!({}), json!({"id_token": "a.b.c"}), "mixed-up"),
            (json!({}), json!({"id_token": null}), "issuer-unreachable"),
            (json!({}), json!({"token_type": "DPoP"}), "issuer-unreachable"),
            (json!({}), json!({"access_token": "opaque"}), "token-over"),
            (json!({}), json!({"access_token": ""}), "issuer-unreachable"),
            (json!({}), json!({"status": 400, "error": "invalid_grant"}), "denied"),
            (json!({}), json!({"status": 307}), "issuer-unreachable"),
            (json!({}), json!({"status": 500}), "issuer-unreachable"),
        ] {
            (*page.idp.id.lock().unwrap(), *page.idp.answer.lock().unwrap()) =
                (claims.clone(), answer.clone());
            let refused = page.sign_in().await;
            assert_eq!(refused.kind(), kind, "{claims} {answer}: {refused:?}");
            assert!(refused.status >= 400 && refused.cookie().is_none(), "{refused:?}");
        }
    });
}

#[test]
fn an_access_token_of_somebody_else_signs_nobody_in() {
    on_runtime(async {
        let page = Page::start(|_| ()).await;
        *page.idp.access_sub.lock().unwrap() = "eve".to_owned();
        let refused = page.sign_in().await;
        assert_eq!((refused.status, refused.kind()), (403, "mixed-up"));
        // Where the ID token tells who it is, nobody looks at the other one.
        let page = Page::start(|settings| settings.by_access_token = false).await;
        *page.idp.access_sub.lock().unwrap() = "eve".to_owned();
        let done = page.sign_in().await;
        let cookie = done.cookie().unwrap();
        let me = page.surface.ask("GET /api/v1/me", &[("cookie", cookie)], None).await;
        assert_eq!(me.body["sub"], "dora");
    });
}

#[test]
fn an_answer_names_its_issuer_where_the_issuer_says_that_it_does() {
    on_runtime(async {
        for (supported, iss, status) in [
            (true, None, 403),
            (true, Some("https://evil.example"), 403),
            (false, Some("https://evil.example"), 403),
            (false, None, 200),
        ] {
            let page = Page::start(|_| ()).await;
            *page.idp.document.lock().unwrap() =
                json!({ "authorization_response_iss_parameter_supported": supported });
            let (query, cookie) = page.begin().await;
            let iss = iss.map(|iss| format!("&iss={iss}")).unwrap_or_default();
            let back = format!("?code=c&state={}{iss}", query["state"]);
            let done = page.finish(&cookie, &back).await;
            assert_eq!(done.status, status, "{supported} {iss}: {done:?}");
            let asked = page.idp.asked.lock().unwrap().len();
            assert_eq!(asked, usize::from(status == 200), "the code goes nowhere");
        }
    });
}

#[test]
fn a_document_of_another_issuer_or_without_pkce_sends_nobody_anywhere() {
    on_runtime(async {
        for change in [
            json!({ "issuer": "https://evil.example" }),
            json!({ "code_challenge_methods_supported": ["plain"] }),
            json!({ "authorization_endpoint": "http://evil.example/auth" }),
            json!({ "token_endpoint": null }),
        ] {
            let page = Page::start(|_| ()).await;
            *page.idp.document.lock().unwrap() = change.clone();
            let told = page.surface.ask("GET /sign-in", &[], None).await;
            assert_eq!((told.status, told.cookie()), (502, None), "{change}");
        }
    });
}

#[test]
fn an_answer_has_each_member_once() {
    let answer = Answer::parse("?code=a%2Bb&state=s&iss=https%3A%2F%2Fidp&session_state=x");
    let wanted = Answer {
        state: Some("s".to_owned()),
        code: Some("a+b".to_owned()),
        iss: Some("https://idp".to_owned()),
        error: None,
    };
    assert_eq!(answer.unwrap(), wanted);
    assert_eq!(Answer::parse("").unwrap(), Answer::default());
    for twice in ["code=a&code=b", "state=a&state=a", "iss=a&x=1&iss=b", "error=a&error=b"] {
        assert_eq!(Answer::parse(twice), None, "{twice}");
    }
}

#[test]
fn a_sign_in_leads_to_a_request_or_to_the_start() {
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(next(&format!("next=/approvals/{id}")), Some(format!("approvals/{id}")));
    for wrong in [
        "",
        "next=https://evil.example",
        "next=//evil.example",
        "next=/approvals/../x",
        "next=/approvals/",
        "next=/approvals/javascript:x",
    ] {
        assert_eq!(next(wrong), None, "{wrong}");
    }
    assert_eq!(next(&format!("next=/approvals/{id}&next=//evil")), None);
}
