//! `/api/v1/charts`: what happened in the last minutes, from counters that are read every few seconds.
//!
//! The series is in memory, bounded, and begins with the start of the gateway. Estimate: 181 samples of
//! some 150 numbers, 300 KiB.

use super::Admin;
use crate::base::time_text;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Counts since the start of the gateway, and levels, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Exchanges begun.
    pub exchanges: u64,
    /// Decisions that permitted.
    pub permitted: u64,
    /// Decisions that denied.
    pub denied: u64,
    /// Refusals by their label.
    pub refusals: Vec<(&'static str, u64)>,
    /// Body bytes of callers, and to callers.
    pub bytes: [u64; 2],
    /// Values masked.
    pub masked: u64,
    /// Latency that the gateway added, by stage.
    pub stages: Vec<Latency>,
    /// Level: connections of callers.
    pub connections: u64,
    /// Level: upstream connections, busy and idle.
    pub upstream: [u64; 2],
    /// Level: requests that wait for a person.
    pub pending: u64,
    /// Level: grants with uses left.
    pub granted: u64,
    /// Level: sessions that wait for a word, or run under a grant.
    pub waiters: u64,
}

/// A histogram of one stage.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// The stage's label.
    pub stage: &'static str,
    /// Upper bounds of the buckets.
    pub bounds: &'static [Duration],
    /// Counts by bucket, each for itself, and of those above the last bound.
    pub counts: Vec<u64>,
    /// Sum of all, in nanoseconds.
    pub sum_ns: u64,
}

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct Series(VecDeque<(u64, Sample)>);

impl Series {
    pub(super) fn push(&mut self, at_ns: u64, sample: Sample) {
        if self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((at_ns, sample));
    }

    /// A point for each time between two samples.
    pub(super) fn value(&self) -> Value {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let points: Vec<Value> = pairs
            .map(|((from_ns, from), (to_ns, to))| {
                point(to_ns.saturating_sub(*from_ns), *to_ns, from, to)
            })
            .collect();
        json!({ "step_ms": EVERY.as_millis() as u64, "points": points })
    }
}

pub(super) async fn show(State(admin): State<Arc<Admin>>) -> Response {
    Json(admin.insight.charts()).into_response()
}

/// Reads the counters for ever.
pub(super) async fn sample(admin: Arc<Admin>) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        admin.insight.tick(crate::runtime::now().wall_ns);
    }
}

/// Counters that went back were counted anew, after a reload: from there on they count from zero.
fn more(from: u64, to: u64) -> u64 {
    to.checked_sub(from).unwrap_or(to)
}

fn point(ns: u64, at_ns: u64, from: &Sample, to: &Sample) -> Value {
    let refusals: Map<String, Value> = to
        .refusals
        .iter()
        .filter_map(|(label, count)| {
            let before = from.refusals.iter().find(|(known, _)| known == label);
            let count = more(before.map_or(0, |(_, count)| *count), *count);
            (count > 0).then(|| ((*label).to_owned(), json!(count)))
        })
        .collect();
    let stages: Map<String, Value> = to
        .stages
        .iter()
        .filter_map(|stage| {
            let before = from.stages.iter().find(|known| known.stage == stage.stage);
            Some((stage.stage.to_owned(), latency(before, stage)?))
        })
        .collect();
    let [bytes_in, bytes_out] = [0, 1].map(|side: usize| {
        let of = |sample: &Sample| sample.bytes.get(side).copied().unwrap_or(0);
        more(of(from), of(to))
    });
    let [busy, idle] = to.upstream;
    json!({
        "at": time_text(at_ns), "ms": ns / 1_000_000,
        "exchanges": more(from.exchanges, to.exchanges),
        "permitted": more(from.permitted, to.permitted), "denied": more(from.denied, to.denied),
        "refusals": refusals, "stages": stages, "bytes_in": bytes_in, "bytes_out": bytes_out,
        "masked": more(from.masked, to.masked), "connections": to.connections,
        "upstream_busy": busy, "upstream_idle": idle,
        "pending": to.pending, "granted": to.granted, "waiters": to.waiters,
    })
}

/// Count, mean and two quantiles, in microseconds; a quantile is the bound of its bucket, and nothing
/// where that has none.
fn latency(before: Option<&Latency>, stage: &Latency) -> Option<Value> {
    let counts: Vec<u64> = stage
        .counts
        .iter()
        .enumerate()
        .map(|(place, count)| {
            let old = before.and_then(|before| before.counts.get(place)).copied().unwrap_or(0);
            more(old, *count)
        })
        .collect();
    let count: u64 = counts.iter().sum();
    if count == 0 {
        return None;
    }
    let sum_ns = more(before.map_or(0, |before| before.sum_ns), stage.sum_ns);
    let quantile = |part: f64| {
        let wanted = (count as f64 * part).ceil() as u64;
        let mut seen = 0u64;
        let place = counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= wanted
        })?;
        stage.bounds.get(place).map(|bound| bound.as_micros() as u64)
    };
    Some(json!({
        "count": count, "mean_us": sum_ns as f64 / count as f64 / 1_000.0,
        "p50_us": quantile(0.5), "p99_us": quantile(0.99),
    }))
}

/// How often the counters are read.
const EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: 15 minutes of points.
const SAMPLES_MAX: usize = 181;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_micros(10), Duration::from_micros(100)];

    fn sample(exchanges: u64, refused: u64, counts: [u64; 3], sum_ns: u64) -> Sample {
        let latency = Latency { stage: "total", bounds: BOUNDS, counts: counts.to_vec(), sum_ns };
        Sample {
            exchanges,
            refusals: vec![("denied", refused), ("expired", 0)],
            stages: vec![latency],
            pending: 3,
            ..Sample::default()
        }
    }

    #[test]
    fn points_are_what_came_between_two_samples() {
        let mut series = Series::default();
        series.push(0, sample(10, 1, [5, 0, 0], 1_000));
        assert_eq!(series.value()["points"], json!([]), "one sample is no time");
        series.push(5_000_000_000, sample(15, 3, [6, 97, 2], 1_050_000));
        let point = &series.value()["points"][0];
        assert_eq!((&point["exchanges"], &point["ms"]), (&json!(5), &json!(5_000)));
        assert_eq!(point["refusals"], json!({ "denied": 2 }));
        assert_eq!(point["pending"], 3, "a level is as it is");
        let total = &point["stages"]["total"];
        assert_eq!((&total["count"], &total["p50_us"]), (&json!(100), &json!(100)));
        assert_eq!((&total["mean_us"], &total["p99_us"]), (&json!(10.49), &Value::Null));
    }

    #[test]
    fn counters_that_began_anew_and_the_bound_are_heeded() {
        let mut series = Series::default();
        series.push(0, sample(100, 9, [50, 0, 0], 9_000));
        series.push(1, sample(4, 0, [1, 0, 0], 5_000));
        let point = &series.value()["points"][0];
        assert_eq!(
            (&point["exchanges"], &point["stages"]["total"]["count"]),
            (&json!(4), &json!(1))
        );
        for at in 2..500 {
            series.push(at, Sample::default());
        }
        assert_eq!(series.0.len(), SAMPLES_MAX);
        assert_eq!(series.value()["points"].as_array().map(Vec::len), Some(SAMPLES_MAX - 1));
    }
}
