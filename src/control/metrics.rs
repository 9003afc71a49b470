//! Counters of the workers, and their text for Prometheus.
//!
//! Each worker writes its own shard and nobody else does, so that a count is a load and a
//! store, without a locked instruction; the admin surface adds the shards up when it is asked. The
//! labels are fixed tables, chosen at start: no label comes from traffic.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What came of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forwarded.
    Permit,
    /// Denied by policy.
    Deny,
    /// Held for an approval.
    Hold,
    /// Refused before a decision: malformed, unauthenticated, over a limit.
    Refuse,
}

/// The label tables. An index into one is what the workers count by.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    /// Kinds of refusals.
    pub refusals: &'static [&'static str],
    /// Stages of the added latency.
    pub stages: &'static [&'static str],
}

/// A value of one worker that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gauge {
    /// Connections of callers.
    CallerConnections,
    /// Connections to upstreams, idle ones included.
    UpstreamConnections,
    /// Pooled upstream connections that wait for work.
    UpstreamIdle,
    /// Read buffers in use.
    Buffers,
    /// Bytes of them.
    BufferBytes,
    /// Bytes held for look-ahead.
    LookaheadBytes,
    /// Entries of the verified-token cache.
    TokenCacheEntries,
    /// Journal bytes that no drain has taken yet.
    JournalLagBytes,
}

/// A count of one worker that has no other label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections of callers that were accepted.
    Accepted,
    /// Bytes from callers.
    BytesIn,
    /// Bytes to callers.
    BytesOut,
    /// Bytes appended to the journal.
    JournalBytes,
    /// Entries appended to the journal.
    JournalEntries,
    /// Entries that a full journal refused.
    JournalFull,
    /// Values that were masked.
    Masked,
    /// Tokens found in the cache.
    TokenHits,
    /// Tokens that were verified in full.
    TokenMisses,
}

/// All shards of a gateway and the resources that they are labelled with.
#[derive(Debug)]
pub struct Metrics {
    labels: Labels,
    /// Names by slot; slots are never taken away, so that a reload keeps all counts.
    resources: Mutex<Vec<String>>,
    shards: Vec<Arc<Shard>>,
}

/// The counters of one worker. Written through its [`Writer`] only.
#[derive(Debug)]
struct Shard {
    taken: AtomicBool,
    /// By slot and outcome.
    requests: Vec<AtomicU64>,
    /// By slot and refusal kind.
    refusals: Vec<AtomicU64>,
    /// By stage and bucket, the last bucket being all above.
    buckets: Vec<AtomicU64>,
    /// Nanoseconds by stage.
    sums: Vec<AtomicU64>,
    gauges: [AtomicI64; GAUGES.len()],
    counters: [AtomicU64; COUNTERS.len()],
}

/// The pen of one worker: it can be moved to the worker's thread and not be copied.
#[derive(Debug)]
pub struct Writer {
    shard: Arc<Shard>,
    refusals: usize,
    stages: usize,
}

impl Metrics {
    /// Shards for so many workers.
    #[must_use]
    pub fn new(workers: usize, labels: Labels) -> Arc<Self> {
        let shards = (0..workers).map(|_| Arc::new(Shard::new(labels))).collect();
        let resources = Mutex::new(vec![NO_RESOURCE.to_owned()]);
        Arc::new(Self { labels, resources, shards })
    }

    /// The slot of the resource `name`; the same name has the same slot for ever. When all are
    /// taken, the one of unknown resources.
    #[must_use]
    pub fn slot(&self, name: &str) -> usize {
        let mut names = self.names();
        if let Some(slot) = names.iter().position(|known| known == name) {
            return slot;
        }
        if names.len() >= SLOTS {
            return UNKNOWN_SLOT;
        }
        names.push(name.to_owned());
        names.len() - 1
    }

    /// The pen of a worker; `None` when it is taken or there is no such worker.
    #[must_use]
    pub fn writer(&self, worker: usize) -> Option<Writer> {
        let shard = self.shards.get(worker)?;
        if shard.taken.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Writer {
            shard: Arc::clone(shard),
            refusals: self.labels.refusals.len(),
            stages: self.labels.stages.len(),
        })
    }

    /// Everything in Prometheus' text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text::default();
        let names = self.names().clone();
        text.family("weirgate_requests_total", "counter", "Exchanges by resource and decision.");
        for (slot, name) in names.iter().enumerate() {
            for (column, outcome) in OUTCOMES.iter().enumerate() {
                let value = self.sum(|shard| at(&shard.requests, slot * OUTCOMES.len() + column));
                if value > 0 || slot > 0 {
                    let labels = [("resource", name.as_str()), ("decision", outcome)];
                    text.sample("weirgate_requests_total", &labels, value);
                }
            }
        }
        text.family("weirgate_refusals_total", "counter", "Refusals by resource and kind.");
        for (slot, name) in names.iter().enumerate() {
            for (column, kind) in self.labels.refusals.iter().enumerate() {
                let place = slot * self.labels.refusals.len() + column;
                let value = self.sum(|shard| at(&shard.refusals, place));
                if value > 0 {
                    let labels = [("resource", name.as_str()), ("kind", kind)];
                    text.sample("weirgate_refusals_total", &labels, value);
                }
            }
        }
        self.render_latency(&mut text);
        for (place, (name, help)) in COUNTERS.iter().enumerate() {
            text.family(name, "counter", help);
            let of = |shard: &Shard| shard.counters.get(place).map_or(0, load);
            text.sample(name, &[], self.sum(of));
        }
        for (place, (name, help)) in GAUGES.iter().enumerate() {
            text.family(name, "gauge", help);
            for (worker, shard) in self.shards.iter().enumerate() {
                let value = shard.gauges.get(place).map_or(0, |g| g.load(Ordering::Relaxed));
                text.sample(name, &[("worker", &worker.to_string())], value);
            }
        }
        text.0
    }

    fn render_latency(&self, text: &mut Text) {
        let name = "weirgate_added_latency_seconds";
        text.family(name, "histogram", "Time that the gateway itself added, by stage.");
        for (stage, label) in self.labels.stages.iter().enumerate() {
            let mut total = 0u64;
            for column in 0..=BOUNDS_NS.len() {
                let place = stage * (BOUNDS_NS.len() + 1) + column;
                total = total.saturating_add(self.sum(|shard| at(&shard.buckets, place)));
                let bound = BOUNDS_NS.get(column).map_or("+Inf".to_owned(), |ns| seconds(*ns));
                let labels = [("stage", *label), ("le", bound.as_str())];
                text.sample(&format!("{name}_bucket"), &labels, total);
            }
            let sum = seconds(self.sum(|shard| at(&shard.sums, stage)));
            text.sample(&format!("{name}_sum"), &[("stage", label)], sum);
            text.sample(&format!("{name}_count"), &[("stage", label)], total);
        }
    }

    fn sum(&self, of: impl Fn(&Shard) -> u64) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.wrapping_add(of(shard)))
    }

    fn names(&self) -> MutexGuard<'_, Vec<String>> {
        self.resources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn new(labels: Labels) -> Self {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        Self {
            taken: AtomicBool::new(false),
            requests: zeros(SLOTS * OUTCOMES.len()),
            refusals: zeros(SLOTS * labels.refusals.len()),
            buckets: zeros(labels.stages.len() * (BOUNDS_NS.len() + 1)),
            sums: zeros(labels.stages.len()),
            gauges: std::array::from_fn(|_| AtomicI64::new(0)),
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Writer {
    /// Counts an exchange of the resource in `slot` (see [`Metrics::slot`]).
    pub fn request(&mut self, slot: usize, outcome: Outcome) {
        let column = match outcome {
            Outcome::Permit => 0,
            Outcome::Deny => 1,
            Outcome::Hold => 2,
            Outcome::Refuse => 3,
        };
        add(self.shard.requests.get(slot * OUTCOMES.len() + column), 1);
    }

    /// Counts a refusal; `kind` is an index into [`Labels::refusals`].
    pub fn refusal(&mut self, slot: usize, kind: usize) {
        if kind < self.refusals {
            add(self.shard.refusals.get(slot * self.refusals + kind), 1);
        }
    }

    /// Notes added latency; `stage` is an index into [`Labels::stages`].
    pub fn latency(&mut self, stage: usize, ns: u64) {
        if stage < self.stages {
            let column = BOUNDS_NS.partition_point(|bound| *bound < ns);
            add(self.shard.buckets.get(stage * (BOUNDS_NS.len() + 1) + column), 1);
            add(self.shard.sums.get(stage), ns);
        }
    }

    /// Adds to a count.
    pub fn count(&mut self, counter: Counter, by: u64) {
        add(self.shard.counters.get(counter as usize), by);
    }

    /// Sets a gauge.
    pub fn set(&mut self, gauge: Gauge, value: u64) {
        if let Some(place) = self.shard.gauges.get(gauge as usize) {
            place.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    /// Moves a gauge up or down.
    pub fn shift(&mut self, gauge: Gauge, by: i64) {
        if let Some(place) = self.shard.gauges.get(gauge as usize) {
            let value = place.load(Ordering::Relaxed).saturating_add(by);
            place.store(value, Ordering::Relaxed);
        }
    }
}

impl Drop for Writer {
    /// Gives the pen back, so that a worker that is started anew goes on counting.
    fn drop(&mut self) {
        self.shard.taken.store(false, Ordering::Release);
    }
}

/// One writer, so that nothing is lost between the load and the store.
fn add(place: Option<&AtomicU64>, by: u64) {
    if let Some(place) = place {
        place.store(place.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }
}

fn load(place: &AtomicU64) -> u64 {
    place.load(Ordering::Relaxed)
}

fn at(list: &[AtomicU64], place: usize) -> u64 {
    list.get(place).map_or(0, load)
}

/// What bounds the record, and how fast it grows towards that.
#[derive(Clone, Copy, Debug, Default)]
pub struct Horizon {
    /// Wall nanoseconds.
    pub now_ns: u64,
    /// Bytes a second.
    pub rate: f64,
    /// Bytes that are kept.
    pub kept_bytes: u64,
    /// When the oldest closed segment was closed, wall nanoseconds; 0 without.
    pub oldest_ns: u64,
    /// `retain.age` in seconds.
    pub age_s: Option<u64>,
    /// `retain.bytes`.
    pub bytes: Option<u64>,
    /// Room on the disk, where it is known.
    pub free_bytes: Option<u64>,
}

impl Horizon {
    /// Days until the oldest segment is deleted, by `age` and by `bytes`, and until the `disk` is
    /// full, at the present rate:
    ///
    /// - age: the age that is left to the oldest closed segment; without one the whole of it
    /// - bytes: `(retain.bytes - bytes kept) / rate`
    /// - disk: `free bytes / rate`
    ///
    /// Not below 0: retention is at work, or the disk is full. Infinite without such a bound, and
    /// at a rate below a byte a second; not a number where the room is not known. Segments count as long as they are on the disk, with the
    /// part that is only preallocated: both are right to a segment for each worker.
    #[must_use]
    pub fn days(&self) -> [(&'static str, f64); 3] {
        let at_rate = |left: u64| match left {
            0 => 0.0,
            _ if self.rate < 1.0 => f64::INFINITY,
            left => left as f64 / self.rate / DAY_S,
        };
        let age = self.age_s.map(|age_s| {
            let since = if self.oldest_ns == 0 { self.now_ns } else { self.oldest_ns };
            let end = since.saturating_add(age_s.saturating_mul(1_000_000_000));
            end.saturating_sub(self.now_ns) as f64 / 1e9 / DAY_S
        });
        let bytes = self.bytes.map(|most| at_rate(most.saturating_sub(self.kept_bytes)));
        let disk = self.free_bytes.map_or(f64::NAN, at_rate);
        let or_never = |days: Option<f64>| days.unwrap_or(f64::INFINITY);
        [("age", or_never(age)), ("bytes", or_never(bytes)), ("disk", disk)]
    }

    /// Writes them as a gauge.
    pub fn render(&self, text: &mut Text) {
        let name = "weirgate_record_days_left";
        text.family(name, "gauge", "Days until retention deletes or the disk is full.");
        for (until, days) in self.days() {
            let value = match days {
                days if days.is_nan() => "NaN".to_owned(),
                days if days.is_infinite() => "+Inf".to_owned(),
                days => format!("{days:.6}"),
            };
            text.sample(name, &[("until", until)], value);
        }
    }
}

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;

/// Prometheus' text, as it grows.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins a family of samples; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample. Label values may hold any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (place, (key, label)) in labels.iter().enumerate() {
            self.0.push(if place == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{key}=\"");
            for c in label.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// The text so far.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u64) -> String {
    let time = Duration::from_nanos(ns);
    let text = format!("{}.{:09}", time.as_secs(), time.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const OUTCOMES: [&str; 4] = ["permit", "deny", "hold", "refuse"];
/// Resources that have counts of their own.
const SLOTS: usize = 256;
/// The slot of exchanges that name no resource that is known.
pub const UNKNOWN_SLOT: usize = 0;
const NO_RESOURCE: &str = "-";
/// Upper bounds of the latency buckets: what a gateway adds is microseconds, what it waits for is
/// more.
const BOUNDS_NS: [u64; 16] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    10_000_000,
    50_000_000,
    250_000_000,
    1_000_000_000,
    5_000_000_000,
];
/// In the order of [`Counter`].
const COUNTERS: [(&str, &str); 9] = [
    ("weirgate_connections_accepted_total", "Connections of callers that were accepted."),
    ("weirgate_received_bytes_total", "Bytes from callers."),
    ("weirgate_sent_bytes_total", "Bytes to callers."),
    ("weirgate_journal_bytes_total", "Bytes appended to the journals."),
    ("weirgate_journal_entries_total", "Entries appended to the journals."),
    ("weirgate_journal_full_total", "Entries that a full journal refused."),
    ("weirgate_masked_values_total", "Values that were masked."),
    ("weirgate_token_cache_hits_total", "Tokens found in the cache."),
    ("weirgate_token_cache_misses_total", "Tokens that were verified in full."),
];
/// In the order of [`Gauge`].
const GAUGES: [(&str, &str); 8] = [
    ("weirgate_caller_connections", "Connections of callers."),
    ("weirgate_upstream_connections", "Connections to upstreams, idle ones included."),
    ("weirgate_upstream_idle_connections", "Upstream connections that wait for work."),
    ("weirgate_buffers", "Read buffers in use."),
    ("weirgate_buffer_bytes", "Bytes of the read buffers in use."),
    ("weirgate_lookahead_bytes", "Bytes held for look-ahead."),
    ("weirgate_token_cache_entries", "Entries of the verified-token cache."),
    ("weirgate_journal_lag_bytes", "Journal bytes that are not drained yet."),
];

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LABELS: Labels =
        Labels { refusals: &["denied", "bad_token"], stages: &["identify", "total"] };

    #[test]
    fn shards_add_up_by_label() {
        let metrics = Metrics::new(2, LABELS);
        let openai = metrics.slot("openai");
        let mut one = metrics.writer(0).unwrap();
        let mut two = metrics.writer(1).unwrap();
        for writer in [&mut one, &mut two] {
            writer.request(openai, Outcome::Permit);
            writer.refusal(openai, 0);
            writer.latency(1, 1_500);
            writer.count(Counter::Masked, 3);
        }
        two.request(UNKNOWN_SLOT, Outcome::Refuse);
        two.latency(1, u64::MAX / 4);
        two.set(Gauge::JournalLagBytes, 77);
        two.shift(Gauge::CallerConnections, -1);
        let text = metrics.render();
        for line in [
            r#"weirgate_requests_total{resource="openai",decision="permit"} 2"#,
            r#"weirgate_requests_total{resource="-",decision="refuse"} 1"#,
            r#"weirgate_refusals_total{resource="openai",kind="denied"} 2"#,
            r#"weirgate_added_latency_seconds_bucket{stage="total",le="0.000001"} 0"#,
            r#"weirgate_added_latency_seconds_bucket{stage="total",le="0.0000025"} 2"#,
            r#"weirgate_added_latency_seconds_bucket{stage="total",le="+Inf"} 3"#,
            r#"weirgate_added_latency_seconds_count{stage="identify"} 0"#,
            "weirgate_masked_values_total 6",
            r#"weirgate_journal_lag_bytes{worker="1"} 77"#,
            r#"weirgate_caller_connections{worker="1"} -1"#,
        ] {
            assert!(text.lines().any(|have| have == line), "no `{line}` in\n{text}");
        }
    }

    #[test]
    fn days_left_follow_the_rate_and_each_bound() {
        let day_ns = 86_400_000_000_000;
        let free = Horizon { now_ns: 100 * day_ns, free_bytes: Some(1), ..Horizon::default() };
        assert!(free.days().iter().all(|(_, days)| days.is_infinite()), "no bound");
        let mut text = Text::default();
        free.render(&mut text);
        assert!(text.into_string().ends_with("weirgate_record_days_left{until=\"disk\"} +Inf\n"));
        let bound = Horizon {
            rate: 1_000.0,
            kept_bytes: 14 * 86_400_000,
            oldest_ns: 90 * day_ns,
            age_s: Some(30 * 86_400),
            bytes: Some(20 * 86_400_000),
            free_bytes: Some(3 * 86_400_000),
            ..free
        };
        let days = |horizon: Horizon| horizon.days().map(|(_, days)| days);
        assert_eq!(days(bound), [20.0, 6.0, 3.0]);
        // At rest only age runs on.
        let quiet = Horizon { rate: 0.5, ..bound };
        assert_eq!(days(quiet), [20.0, f64::INFINITY, f64::INFINITY]);
        assert_eq!(days(Horizon { oldest_ns: 0, ..bound })[0], 30.0, "nothing is closed yet");
        let over = Horizon { kept_bytes: u64::MAX, oldest_ns: 1, free_bytes: Some(0), ..quiet };
        assert_eq!(days(over), [0.0, 0.0, 0.0]);
        assert!(days(Horizon { free_bytes: None, ..bound })[2].is_nan());
    }

    #[test]
    fn a_pen_exists_once_and_out_of_range_counts_nothing() {
        let metrics = Metrics::new(1, LABELS);
        let mut pen = metrics.writer(0).unwrap();
        assert!(metrics.writer(0).is_none() && metrics.writer(1).is_none());
        pen.refusal(0, 2);
        pen.latency(2, 1);
        pen.request(usize::from(u16::MAX), Outcome::Deny);
        assert!(!metrics.render().contains("weirgate_refusals_total{"));
        drop(pen);
        assert!(metrics.writer(0).is_some());
    }

    #[test]
    fn slots_are_kept_over_reloads_and_bounded() {
        let metrics = Metrics::new(1, LABELS);
        let first = metrics.slot("a");
        for number in 0..2 * SLOTS {
            let _ = metrics.slot(&format!("r{number}"));
        }
        assert_eq!(metrics.slot("a"), first);
        assert_eq!(metrics.slot("one more"), UNKNOWN_SLOT);
    }

    #[test]
    fn the_tables_have_the_order_of_their_enums() {
        assert_eq!(COUNTERS.len(), Counter::TokenMisses as usize + 1);
        assert_eq!(GAUGES.len(), Gauge::JournalLagBytes as usize + 1);
        let (name, _) = GAUGES.last().unwrap();
        assert!(name.contains("journal_lag"));
        assert!(BOUNDS_NS.is_sorted());
        let mut text = Text::default();
        text.sample("x", &[("a", "q\"\\\nz")], 1);
        assert_eq!(text.into_string(), "x{a=\"q\\\"\\\\\\nz\"} 1\n");
        assert_eq!(seconds(1_500_000_000), "1.5");
        assert_eq!(seconds(0), "0");
    }
}
