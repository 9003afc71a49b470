//! The refresh against a provider on loopback.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
use super::*;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A set is the names in a document like `"a b c"`.
struct Words;

impl Format for Words {
    type Set = Vec<u64>;
    type Snapshot = (u64, Vec<Option<Arc<Vec<u64>>>>);

    fn parse(&self, document: &[u8]) -> Result<Self::Set, String> {
        let text = std::str::from_utf8(document).map_err(|why| why.to_string())?;
        if text.is_empty() {
            return Err("empty".to_owned());
        }
        Ok(text.split_whitespace().map(name_hash).collect())
    }

    fn contains(&self, set: &Self::Set, name: u64) -> bool {
        set.contains(&name)
    }

    fn snapshot(&self, generation: u64, sets: &[Option<Arc<Self::Set>>]) -> Self::Snapshot {
        (generation, sets.to_vec())
    }
}

#[derive(Default)]
struct Provider {
    down: AtomicBool,
    fetches: AtomicU64,
    keys: Mutex<String>,
}

impl Provider {
    async fn start(self: &Arc<Self>) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let issuer = base.clone();
        let this = Arc::clone(self);
        let keys = move || {
            let this = Arc::clone(&this);
            async move {
                this.fetches.fetch_add(1, Ordering::SeqCst);
                if this.down.load(Ordering::SeqCst) {
                    return (StatusCode::SERVICE_UNAVAILABLE, String::new());
                }
                (StatusCode::OK, this.keys.lock().unwrap().clone())
            }
        };
        let document = format!(r#"{{"issuer":"{issuer}","jwks_uri":"{issuer}/keys"}}"#);
        let elsewhere = axum::response::Redirect::temporary("http://127.0.0.1:1/keys");
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(|| async { document }))
            .route("/keys", get(keys))
            .route("/here", get(|| async { axum::response::Redirect::temporary("/keys") }))
            .route("/elsewhere", get(|| async { elsewhere }))
            .route("/long", get(|| async { "k ".repeat(SET_MAX) }));
        tokio::spawn(async { axum::serve(listener, router).await });
        base
    }
}

fn on_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

fn start(sources: Vec<Source>) -> Keys<Words> {
    Keys::start(sources, Words, crate::control::tls::client_config(&[]).unwrap()).unwrap()
}

fn source(issuer: &str, location: Location) -> Source {
    Source { issuer: issuer.to_owned(), location }
}

#[test]
fn keys_come_by_discovery_and_an_unknown_one_brings_one_fetch() {
    on_runtime(async {
        let provider = Arc::new(Provider::default());
        *provider.keys.lock().unwrap() = "one two".to_owned();
        let url = provider.start().await;
        let keys = start(vec![source(&url, Location::Discovery)]);
        assert!(!keys.is_ready(), "a cold start is not ready");
        keys.first_attempts().await;
        assert!(keys.is_ready(), "{:?}", keys.status());
        let (snapshot, _) = keys.published().load();
        assert_eq!(snapshot.0, 2);
        assert_eq!(snapshot.1[0].as_ref().unwrap().len(), 2);
        let asker = keys.asker();
        assert_eq!(asker.ask(IssuerId(0), name_hash("two")), Asked::Present);
        // A fetch ran just before, so that this one is due in ten seconds.
        for name in ["three", "four"] {
            assert_eq!(asker.ask(IssuerId(0), name_hash(name)), Asked::Later);
        }
        assert_eq!(provider.fetches.load(Ordering::SeqCst), 1);
        assert_eq!(asker.ask(IssuerId(9), 1), Asked::Absent);
    });
}

#[test]
fn keys_outlive_their_provider_and_one_dead_issuer_hides_no_other() {
    on_runtime(async {
        let provider = Arc::new(Provider::default());
        *provider.keys.lock().unwrap() = "one".to_owned();
        let url = provider.start().await;
        let keys = start(vec![
            source("a", Location::Url(format!("{url}/keys"))),
            source("b", Location::Url("http://127.0.0.1:1/keys".to_owned())),
        ]);
        keys.first_attempts().await;
        let status = keys.status();
        assert!(status[0].ready && !status[1].ready && !keys.is_ready());
        assert!(status[1].error.is_some() && status[1].failures == 1, "{status:?}");
        provider.down.store(true, Ordering::SeqCst);
        let issuer = &keys.shared.issuers[0];
        issuer.state().names.start(Instant::now());
        let outcome = fetch(&keys.shared, issuer).await;
        assert_eq!(outcome.as_ref().unwrap_err(), "status 503");
        keys.shared.settle(0, issuer, outcome);
        assert!(keys.status()[0].ready, "the last keys serve on");
        keys.shared.drop_stale(0, issuer);
        assert!(keys.published().load().0.1[0].is_none());
    });
}

#[test]
fn the_same_document_makes_no_generation_and_another_does() {
    on_runtime(async {
        let provider = Arc::new(Provider::default());
        *provider.keys.lock().unwrap() = "one".to_owned();
        let url = provider.start().await;
        let keys = start(vec![source("a", Location::Url(format!("{url}/here")))]);
        keys.first_attempts().await;
        let issuer = &keys.shared.issuers[0];
        let published = keys.published();
        let before = published.generation();
        for (document, moved) in [("one", 0), ("one two", 1), ("", 1), ("two", 2)] {
            *provider.keys.lock().unwrap() = document.to_owned();
            issuer.state().names.start(Instant::now());
            let outcome = fetch(&keys.shared, issuer).await;
            keys.shared.settle(0, issuer, outcome);
            assert_eq!(published.generation(), before + moved, "{document:?}");
        }
    });
}

#[test]
fn redirects_to_another_origin_and_long_documents_are_refused() {
    on_runtime(async {
        let provider = Arc::new(Provider::default());
        let url = provider.start().await;
        for path in ["elsewhere", "long", "nothing"] {
            let keys = start(vec![source("a", Location::Url(format!("{url}/{path}")))]);
            keys.first_attempts().await;
            assert!(!keys.is_ready());
            let error = keys.status()[0].error.clone().unwrap();
            let wanted = match path {
                "elsewhere" => "status 307",
                "long" => "the document is too long",
                _ => "status 404",
            };
            assert_eq!(error, wanted);
        }
    });
}

#[test]
fn keys_come_from_a_file() {
    on_runtime(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        std::fs::write(&path, "one").unwrap();
        let keys = start(vec![
            source("a", Location::File(path)),
            source("b", Location::File(dir.path().join("none"))),
        ]);
        keys.first_attempts().await;
        let status = keys.status();
        assert!(status[0].ready && !status[1].ready);
        assert!(status[1].error.as_ref().unwrap().contains("none"));
    });
}
