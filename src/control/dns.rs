//! Resolves upstream names off the workers and publishes their addresses.
//!
//! Each name is asked for again when its TTL is over (5 s to 5 min). Old addresses serve on for an
//! hour while no answer comes; a name without any is not in the snapshot, and its exchanges are
//! refused as unresolved. DNS is asked directly, for its TTLs; where that gives nothing, the
//! system's own resolver is asked on a thread of its own (hosts file, NSS).

use crate::runtime::Published;
use hickory_resolver::TokioResolver;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// The addresses of every name that has some, best first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(BTreeMap<String, Vec<IpAddr>>);

impl Addresses {
    /// The addresses of `name`; empty when there are none (yet).
    #[must_use]
    pub fn of(&self, name: &str) -> &[IpAddr] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every name with its addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        self.0.iter().map(|(name, list)| (name.as_str(), list.as_slice()))
    }
}

/// The running resolution; it ends when this is dropped.
#[derive(Debug)]
pub struct Dns {
    published: Arc<Published<Addresses>>,
    names: watch::Sender<BTreeSet<String>>,
    task: JoinHandle<()>,
}

impl Dns {
    /// Starts on the tokio runtime of the caller. IP addresses among `names` are there at once.
    #[must_use]
    pub fn start(names: impl IntoIterator<Item = String>) -> Self {
        let resolver = system_resolver();
        Self::start_with(names, move |name| {
            let resolver = resolver.clone();
            async move { look_up(resolver, name).await }
        })
    }

    fn start_with<R, A>(names: impl IntoIterator<Item = String>, resolve: R) -> Self
    where
        R: Fn(String) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        let names: BTreeSet<String> = names.into_iter().collect();
        let published = Published::new(literals(&names));
        let (sender, receiver) = watch::channel(names);
        let task = tokio::spawn(run(Arc::clone(&published), receiver, resolve));
        Self { published, names: sender, task }
    }

    /// Where the addresses are published.
    #[must_use]
    pub fn published(&self) -> Arc<Published<Addresses>> {
        Arc::clone(&self.published)
    }

    /// Takes other names, after a reload; those that stay keep their addresses.
    pub fn set_names(&self, names: impl IntoIterator<Item = String>) {
        self.names.send_replace(names.into_iter().collect());
    }

    /// Waits until every name has an address, `limit` at most; tells whether it has.
    pub async fn first_answers(&self, limit: Duration) -> bool {
        let all = async {
            loop {
                let (addresses, _) = self.published.load();
                if self.names.borrow().iter().all(|name| !addresses.of(name).is_empty()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(limit, all).await.is_ok()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Addresses and how long they hold, or why there are none.
type Answer = Result<(Vec<IpAddr>, Duration), String>;

/// What is known of one name.
struct Known {
    due: Instant,
    answered: Option<Instant>,
    failures: u32,
    running: bool,
}

async fn run<R, A>(
    published: Arc<Published<Addresses>>,
    mut names: watch::Receiver<BTreeSet<String>>,
    resolve: R,
) where
    R: Fn(String) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut running: JoinSet<(String, Answer)> = JoinSet::new();
    loop {
        adopt(&names.borrow_and_update(), &mut known, &published);
        let now = Instant::now();
        for (name, entry) in known.iter_mut().filter(|(_, e)| !e.running && e.due <= now) {
            entry.running = true;
            let (name, answer) = (name.clone(), resolve(name.clone()));
            running.spawn(async move {
                let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
                (name, answer.unwrap_or_else(|_| Err("no answer in time".to_owned())))
            });
        }
        let due = known.values().filter(|entry| !entry.running).map(|entry| entry.due).min();
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            Some(ended) = running.join_next(), if !running.is_empty() => {
                if let Ok((name, answer)) = ended
                    && let Some(entry) = known.get_mut(&name)
                {
                    entry.settle(&name, answer, &published);
                }
            }
            changed = names.changed() => if changed.is_err() { return },
        }
    }
}

/// Makes `known` and what is published agree with the names that are wanted.
fn adopt(
    names: &BTreeSet<String>,
    known: &mut BTreeMap<String, Known>,
    published: &Published<Addresses>,
) {
    known.retain(|name, _| names.contains(name));
    let now = Instant::now();
    for name in names.iter().filter(|name| literal(name).is_none()) {
        known.entry(name.clone()).or_insert(Known {
            due: now,
            answered: None,
            failures: 0,
            running: false,
        });
    }
    let (current, _) = published.load();
    let mut next = literals(names);
    for (name, list) in &current.0 {
        if names.contains(name) {
            next.0.insert(name.clone(), list.clone());
        }
    }
    if next != *current {
        published.publish(Arc::new(next));
    }
}

impl Known {
    fn settle(&mut self, name: &str, answer: Answer, published: &Published<Addresses>) {
        let now = Instant::now();
        self.running = false;
        match answer {
            Ok((list, ttl)) if !list.is_empty() => {
                self.failures = 0;
                self.answered = Some(now);
                self.due = now + ttl.clamp(TTL_MIN, TTL_MAX);
                put(name, list, published);
            }
            other => {
                self.failures = self.failures.saturating_add(1);
                let wait = Duration::from_secs(1u64 << self.failures.min(6));
                self.due = now + wait.min(TTL_MAX);
                let why = other.err().unwrap_or_else(|| "no address".to_owned());
                tracing::warn!(name, failures = self.failures, "upstream not resolved: {why}");
                if self.answered.is_some_and(|last| now.duration_since(last) > STALE_MAX) {
                    self.answered = None;
                    put(name, Vec::new(), published);
                }
            }
        }
    }
}

/// Publishes `list` for `name` when it holds other addresses: DNS servers change only their order
/// from answer to answer, and that is no change.
fn put(name: &str, list: Vec<IpAddr>, published: &Published<Addresses>) {
    let (current, _) = published.load();
    let before: BTreeSet<&IpAddr> = current.of(name).iter().collect();
    if before == list.iter().collect() {
        return;
    }
    let mut next = (*current).clone();
    if list.is_empty() {
        next.0.remove(name);
    } else {
        tracing::debug!(name, addresses = list.len(), "upstream resolved");
        next.0.insert(name.to_owned(), list);
    }
    published.publish(Arc::new(next));
}

fn literal(name: &str) -> Option<IpAddr> {
    name.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn literals(names: &BTreeSet<String>) -> Addresses {
    let list = names.iter().filter_map(|name| Some((name.clone(), vec![literal(name)?])));
    Addresses(list.collect())
}

fn system_resolver() -> Option<TokioResolver> {
    let builder = TokioResolver::builder_tokio();
    let built = builder.and_then(|builder| builder.build());
    if let Err(why) = &built {
        tracing::warn!("no DNS configuration, the system's resolver is used: {why}");
    }
    built.ok()
}

async fn look_up(resolver: Option<TokioResolver>, name: String) -> Answer {
    if let Some(resolver) = resolver
        && let Ok(found) = resolver.lookup_ip(name.as_str()).await
    {
        let list = ordered(found.iter());
        if !list.is_empty() {
            return Ok((list, found.valid_until().saturating_duration_since(Instant::now())));
        }
    }
    let asked = tokio::task::spawn_blocking(move || {
        std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0))
            .map(|found| ordered(found.map(|address| address.ip())))
    });
    match asked.await {
        Ok(Ok(list)) => Ok((list, SYSTEM_TTL)),
        Ok(Err(why)) => Err(why.to_string()),
        Err(why) => Err(why.to_string()),
    }
}

/// IPv4 and IPv6 in turn, each in the order given, so that a family that does not work costs one
/// attempt (RFC 8305 without the race).
fn ordered(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for address in found {
        let list = if address.is_ipv4() { &mut old } else { &mut new };
        if !list.contains(&address) {
            list.push(address);
        }
    }
    let (mut old, mut new) = (old.into_iter(), new.into_iter());
    let mut list = Vec::new();
    loop {
        match (old.next(), new.next()) {
            (None, None) => return list,
            (one, other) => list.extend(one.into_iter().chain(other)),
        }
        if list.len() >= ADDRESSES_MAX {
            list.truncate(ADDRESSES_MAX);
            return list;
        }
    }
}

const TTL_MIN: Duration = Duration::from_secs(5);
const TTL_MAX: Duration = Duration::from_secs(300);
/// The system's resolver tells no TTL.
const SYSTEM_TTL: Duration = Duration::from_secs(30);
const STALE_MAX: Duration = Duration::from_secs(3600);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const ADDRESSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::sync::Mutex;

    fn on_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn literals_are_there_at_once_and_names_follow() {
        on_runtime(async {
            let names = ["127.0.0.9", "[::1]", "localhost"].map(str::to_owned);
            let dns = Dns::start(names);
            let (addresses, _) = dns.published().load();
            assert_eq!(addresses.of("127.0.0.9"), [ip("127.0.0.9")]);
            assert_eq!(addresses.of("[::1]"), [ip("::1")]);
            assert!(dns.first_answers(Duration::from_secs(20)).await);
            let (addresses, _) = dns.published().load();
            assert!(addresses.of("localhost").iter().all(IpAddr::is_loopback));
            assert!(addresses.of("elsewhere").is_empty());
        });
    }

    #[test]
    fn a_reload_drops_what_is_not_wanted_and_asks_for_what_is_new() {
        on_runtime(async {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let log = Arc::clone(&asked);
            let dns = Dns::start_with(["a".to_owned(), "b".to_owned()], move |name| {
                log.lock().unwrap().push(name.clone());
                async move {
                    match name.as_str() {
                        "b" => Err("no such name".to_owned()),
                        _ => Ok((vec![IpAddr::from([10, 0, 0, 1])], Duration::from_secs(60))),
                    }
                }
            });
            assert!(!dns.first_answers(Duration::from_millis(100)).await, "b has none");
            dns.set_names(["a".to_owned(), "c".to_owned()]);
            assert!(dns.first_answers(Duration::from_secs(10)).await);
            let (addresses, _) = dns.published().load();
            assert_eq!(addresses.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c"]);
            let asked = asked.lock().unwrap();
            assert_eq!(
                asked.iter().filter(|name| *name == "a").count(),
                1,
                "kept, not asked again"
            );
        });
    }

    #[test]
    fn another_order_is_no_change_and_failures_keep_what_was() {
        let published = Published::new(Addresses::default());
        let mut known = Known { due: Instant::now(), answered: None, failures: 0, running: true };
        let (one, two) = (ip("10.0.0.1"), ip("10.0.0.2"));
        known.settle("x", Ok((vec![one, two], Duration::ZERO)), &published);
        let before = published.generation();
        known.settle("x", Ok((vec![two, one], Duration::from_secs(9))), &published);
        known.settle("x", Err("down".to_owned()), &published);
        known.settle("x", Ok((Vec::new(), Duration::ZERO)), &published);
        assert_eq!(published.generation(), before);
        assert_eq!(published.load().0.of("x"), [one, two]);
        assert_eq!(known.failures, 2);
        known.settle("x", Ok((vec![two], Duration::ZERO)), &published);
        assert_eq!(published.load().0.of("x"), [two]);
        assert!(
            known.due >= Instant::now() + Duration::from_secs(4),
            "never asked in a tight loop"
        );
    }

    #[test]
    fn families_come_in_turn_and_lists_are_bounded() {
        let found = ["::1", "::2", "10.0.0.1", "10.0.0.1"].map(ip);
        assert_eq!(ordered(found.into_iter()), ["10.0.0.1", "::1", "::2"].map(ip));
        let many = (0..200u8).map(|last| IpAddr::from([10, 0, 0, last]));
        assert_eq!(ordered(many).len(), ADDRESSES_MAX);
    }
}
