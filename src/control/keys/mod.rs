//! Keeps the key sets of issuers fresh and publishes them as one immutable snapshot.
//!
//! One task for each issuer fetches ahead of expiry, tries again when it fails, and fetches when a
//! worker asks for a key that its set lacks: one fetch for all that ask, one in ten seconds at
//! most. Keys serve six hours past their age while their issuer is down; then they are dropped,
//! and its tokens are refused.
//!
//! Nothing here knows what a key is: a [`Format`] reads the document.

pub(super) mod discovery;
mod schedule;

pub use schedule::{Asked, WAIT_MAX};

use super::fetch::{Fetched, Fetcher, fetchable};
use crate::base::IssuerId;
use crate::runtime::Published;
use reqwest::Url;
use schedule::Names;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// By the issuer's discovery document.
    Discovery,
    /// From this address.
    Url(String),
    /// From this file, looked at every few seconds.
    File(PathBuf),
}

/// One issuer; its place in the list is its [`IssuerId`].
#[derive(Clone, Debug)]
pub struct Source {
    /// The issuer, as it stands in `iss`.
    pub issuer: String,
    /// See [`Location`].
    pub location: Location,
}

/// Reads key sets and makes the snapshot that is published.
pub trait Format: Send + Sync + 'static {
    /// The keys of one issuer.
    type Set: Send + Sync + 'static;
    /// What the workers read.
    type Snapshot: Send + Sync + 'static;

    /// Reads a document. A key that cannot be used is skipped, not an error.
    ///
    /// # Errors
    /// The document is no key set; the text is for operators.
    fn parse(&self, document: &[u8]) -> Result<Self::Set, String>;

    /// Whether a key with this name is in the set; the name is [`name_hash`] of its `kid`, or 0
    /// for a token that names none.
    fn contains(&self, set: &Self::Set, name: u64) -> bool;

    /// Makes the snapshot of this generation.
    fn snapshot(&self, generation: u64, sets: &[Option<Arc<Self::Set>>]) -> Self::Snapshot;
}

/// The first eight bytes of the SHA-256 of a `kid`.
#[must_use]
pub fn name_hash(kid: &str) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA256, kid.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

/// How one issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The issuer, as configured.
    pub issuer: String,
    /// Whether there are keys to verify with.
    pub ready: bool,
    /// Seconds since they were fetched.
    pub age_s: Option<u64>,
    /// Whether they are past their age.
    pub stale: bool,
    /// Fetches that failed since the last one that went well.
    pub failures: u32,
    /// Why the last one failed.
    pub error: Option<String>,
}

/// The running refresh of all issuers; it ends when this is dropped.
pub struct Keys<F: Format> {
    shared: Arc<Shared<F>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared<F: Format> {
    format: F,
    fetcher: Fetcher,
    published: Arc<Published<F::Snapshot>>,
    issuers: Vec<Issuer<F::Set>>,
    /// Held while a snapshot is made from all sets, so that the last one made has them all.
    publishing: Mutex<u64>,
    attempted: Notify,
}

struct Issuer<S> {
    source: Source,
    state: Mutex<State<S>>,
    /// A name was asked for.
    asked: Notify,
}

struct State<S> {
    set: Option<Arc<S>>,
    digest: Option<[u8; 32]>,
    fetched: Option<Instant>,
    age: Duration,
    failures: u32,
    error: Option<String>,
    names: Names,
    /// The address that discovery gave, and when.
    found: Option<(Url, Instant)>,
}

impl<F: Format> Keys<F> {
    /// Starts one task for each source on the tokio runtime of the caller.
    ///
    /// # Errors
    /// A TLS set-up that cannot be used.
    pub fn start(
        sources: Vec<Source>,
        format: F,
        tls: rustls::ClientConfig,
    ) -> Result<Self, String> {
        let fetcher = Fetcher::new(tls).map_err(|why| why.to_string())?;
        let none: Vec<Option<Arc<F::Set>>> = sources.iter().map(|_| None).collect();
        let published = Published::new(format.snapshot(1, &none));
        let issuers = sources.into_iter().map(Issuer::new).collect();
        let shared = Arc::new(Shared {
            format,
            fetcher,
            published,
            issuers,
            publishing: Mutex::new(1),
            attempted: Notify::new(),
        });
        let tasks = (0..shared.issuers.len())
            .map(|index| tokio::spawn(run(Arc::clone(&shared), index)))
            .collect();
        Ok(Self { shared, tasks })
    }

    /// Where the snapshots are published.
    #[must_use]
    pub fn published(&self) -> Arc<Published<F::Snapshot>> {
        Arc::clone(&self.shared.published)
    }

    /// A handle for the workers; it keeps nothing running.
    #[must_use]
    pub fn asker(&self) -> Asker<F> {
        Asker(Arc::clone(&self.shared))
    }

    /// How each issuer's keys are, by [`IssuerId`].
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        self.shared.issuers.iter().map(Issuer::status).collect()
    }

    /// Whether every issuer has keys: not so at a cold start whose issuer is down.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.issuers.iter().all(|issuer| issuer.state().set.is_some())
    }

    /// Waits until each issuer's first fetch has ended, well or not.
    pub async fn first_attempts(&self) {
        loop {
            let ended = self.shared.attempted.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.shared.issuers.iter().all(|issuer| issuer.state().names.attempts() > 0) {
                return;
            }
            ended.await;
        }
    }
}

impl<F: Format> Drop for Keys<F> {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Asks for keys that a worker's set lacks. Never waits; any thread may use it.
pub struct Asker<F: Format>(Arc<Shared<F>>);

impl<F: Format> Clone for Asker<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Format> Asker<F> {
    /// Asks for the key named `name` (see [`name_hash`]).
    #[must_use]
    pub fn ask(&self, issuer: IssuerId, name: u64) -> Asked {
        let Some(issuer) = self.0.issuers.get(issuer.index()) else { return Asked::Absent };
        let mut state = issuer.state();
        if state.set.as_ref().is_some_and(|set| self.0.format.contains(set, name)) {
            return Asked::Present;
        }
        let asked = state.names.ask(name, Instant::now());
        drop(state);
        issuer.asked.notify_one();
        asked
    }

    /// Fetches that have ended, for [`Asked::Fetching`].
    #[must_use]
    pub fn attempts(&self, issuer: IssuerId) -> u64 {
        self.0.issuers.get(issuer.index()).map_or(u64::MAX, |one| one.state().names.attempts())
    }
}

impl<S> Issuer<S> {
    fn new(source: Source) -> Self {
        let state = State {
            set: None,
            digest: None,
            fetched: None,
            age: Duration::ZERO,
            failures: 0,
            error: None,
            names: Names::default(),
            found: None,
        };
        Self { source, state: Mutex::new(state), asked: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Status {
        let state = self.state();
        let age = state.fetched.map(|fetched| fetched.elapsed());
        Status {
            issuer: self.source.issuer.clone(),
            ready: state.set.is_some(),
            age_s: age.map(|age| age.as_secs()),
            stale: state.set.is_some() && age.is_some_and(|age| age > state.age),
            failures: state.failures,
            error: state.error.clone(),
        }
    }
}

/// The task of one issuer.
async fn run<F: Format>(shared: Arc<Shared<F>>, index: usize) {
    let Some(issuer) = shared.issuers.get(index) else { return };
    loop {
        issuer.state().names.start(Instant::now());
        let outcome = fetch(&shared, issuer).await;
        let mut next = shared.settle(index, issuer, outcome);
        shared.attempted.notify_waiters();
        loop {
            let now = Instant::now();
            let due = issuer.state().names.due(now).map_or(next, |due| due.min(next));
            let expiry = issuer.state().expiry();
            if expiry.is_some_and(|expiry| expiry <= now) {
                shared.drop_stale(index, issuer);
                next = next.min(now);
                continue;
            }
            if due <= now {
                break;
            }
            let until = expiry.map_or(due, |expiry| expiry.min(due));
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = issuer.asked.notified() => {}
            }
        }
    }
}

impl<S> State<S> {
    /// When the set must go, if there is one.
    fn expiry(&self) -> Option<Instant> {
        self.set.as_ref()?;
        Some(schedule::stale_until(self.fetched?, self.age))
    }
}

async fn fetch<F: Format>(shared: &Shared<F>, issuer: &Issuer<F::Set>) -> Result<Fetched, String> {
    match &issuer.source.location {
        Location::File(path) => read_file(path).await,
        Location::Url(url) => {
            let url = fetchable(url).map_err(|why| why.to_string())?;
            shared.fetcher.fetch(url, SET_MAX).await.map_err(|why| why.to_string())
        }
        Location::Discovery => {
            let known = issuer.state().found.clone();
            let url = match known {
                Some((url, when)) if when.elapsed() < DISCOVERY_AGE => url,
                _ => {
                    let url = discovery::key_url(&shared.fetcher, &issuer.source.issuer).await?;
                    issuer.state().found = Some((url.clone(), Instant::now()));
                    url
                }
            };
            let fetched = shared.fetcher.fetch(url, SET_MAX).await;
            if fetched.is_err() {
                // The keys may have moved.
                issuer.state().found = None;
            }
            fetched.map_err(|why| why.to_string())
        }
    }
}

async fn read_file(path: &std::path::Path) -> Result<Fetched, String> {
    let name = path.display();
    let file = tokio::fs::File::open(path).await.map_err(|why| format!("{name}: {why}"))?;
    let mut body = Vec::new();
    let limit = u64::try_from(SET_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = file.take(limit).read_to_end(&mut body).await;
    read.map_err(|why| format!("{name}: {why}"))?;
    if body.len() > SET_MAX {
        return Err(format!("{name}: longer than {SET_MAX} bytes"));
    }
    Ok(Fetched { body, max_age: None })
}

impl<F: Format> Shared<F> {
    /// Takes the end of a fetch in, publishes what changed, and says when the next one is due.
    fn settle(
        &self,
        index: usize,
        issuer: &Issuer<F::Set>,
        outcome: Result<Fetched, String>,
    ) -> Instant {
        let now = Instant::now();
        let jitter = jitter();
        let parsed = outcome.and_then(|fetched| {
            let digest = digest(&fetched.body);
            let state = issuer.state();
            // The same document makes no generation: cached tokens would drop for nothing.
            let same = state.set.clone().filter(|_| state.digest == Some(digest));
            drop(state);
            match same {
                Some(set) => Ok((set, digest, fetched.max_age, false)),
                None => self
                    .format
                    .parse(&fetched.body)
                    .map(|set| (Arc::new(set), digest, fetched.max_age, true)),
            }
        });
        let mut state = issuer.state();
        match parsed {
            Ok((set, digest, max_age, changed)) => {
                state.set = Some(Arc::clone(&set));
                state.digest = Some(digest);
                state.fetched = Some(now);
                state.age = schedule::age(max_age);
                state.failures = 0;
                state.error = None;
                let found = |name| self.format.contains(&set, name);
                state.names.end(Some(&found), changed, now);
                let file = matches!(issuer.source.location, Location::File(_));
                let wait = if file { FILE_EVERY } else { schedule::ahead(state.age, jitter) };
                drop(state);
                if changed {
                    let generation = self.publish();
                    tracing::info!(issuer = %issuer.source.issuer, index, generation, "key set changed");
                }
                now + wait
            }
            Err(why) => {
                state.failures = state.failures.saturating_add(1);
                state.names.end(None, false, now);
                let failures = state.failures;
                let kept = state.set.is_some();
                state.error = Some(why.clone());
                drop(state);
                tracing::warn!(issuer = %issuer.source.issuer, failures, kept, "keys not fetched: {why}");
                now + schedule::retry(failures, jitter)
            }
        }
    }

    fn drop_stale(&self, index: usize, issuer: &Issuer<F::Set>) {
        let mut state = issuer.state();
        state.set = None;
        state.digest = None;
        drop(state);
        let generation = self.publish();
        tracing::error!(
            issuer = %issuer.source.issuer, index, generation,
            "keys are too old and were dropped: tokens of this issuer are refused"
        );
    }

    fn publish(&self) -> u64 {
        let mut generation = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        let sets: Vec<_> = self.issuers.iter().map(|one| one.state().set.clone()).collect();
        self.published.publish(Arc::new(self.format.snapshot(*generation, &sets)));
        *generation
    }
}

fn digest(body: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

/// Even in `0.0..1.0`; spreads the fetches of many gateways.
fn jitter() -> f64 {
    let mut byte = [0u8; 2];
    // Without randomness there is no spread, and nothing else is lost.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut byte);
    f64::from(u16::from_le_bytes(byte)) / 65_536.0
}

const SET_MAX: usize = 512 << 10;
const FILE_EVERY: Duration = Duration::from_secs(5);
const DISCOVERY_AGE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
