//! What the gateway itself adds to an exchange, by stage.
//!
//! The clock is read where an exchange must be told apart from the turn of its connection: once
//! behind a head that waits for its body, once behind the admission, once behind the first bytes
//! of the answer, and then behind one in [`SAMPLE`] writes of the answer. All other times are those
//! that the turns have anyway. A turn begins when its worker hears of an event: what waited in the
//! kernel before that, because the worker was at work elsewhere, is in no stage.

use super::clock;
use super::counters::Count;
use crate::base::{ExchangeId, Now};
use std::time::Duration;

/// A part of the way of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the caller's bytes to the admission: parse, identify, decide, mask and record the
    /// head. Waiting for the caller's body, where the decision needs it, is left out.
    Decide,
    /// Waiting for an upstream connection; nothing where an idle one was there.
    Connect,
    /// From the upstream's bytes to the write toward the caller: mask, record, seal.
    Release,
    /// What the first byte of the answer came later by: the three for the first bytes together.
    Total,
}

impl Stage {
    /// All of them, in the order of the histograms.
    pub const ALL: [Self; 4] = [Self::Decide, Self::Connect, Self::Release, Self::Total];

    /// The fixed label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Connect => "connect",
            Self::Release => "release",
            Self::Total => "total",
        }
    }
}

/// Upper bounds of the buckets; what is above the last one stands in a bucket of its own.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(10),
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// How many times of each length; one thread writes, any may read.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Count; BOUNDS.len() + 1],
    sum_ns: Count,
}

impl Histogram {
    /// Counts by bucket, each for itself; the last one is all above [`BOUNDS`].
    pub fn buckets(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Count::get)
    }

    /// Nanoseconds of all of them together.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.get()
    }

    fn note(&self, ns: u64) {
        let span = Duration::from_nanos(ns);
        let place = BOUNDS.partition_point(|bound| *bound < span);
        if let Some(bucket) = self.buckets.get(place) {
            bucket.add();
            self.sum_ns.add_many(ns);
        }
    }
}

/// The histograms of one worker.
#[derive(Debug, Default)]
pub struct Latency([Histogram; Stage::ALL.len()]);

impl Latency {
    /// One stage's.
    #[must_use]
    pub fn of(&self, stage: Stage) -> &Histogram {
        let [decide, connect, release, total] = &self.0;
        match stage {
            Stage::Decide => decide,
            Stage::Connect => connect,
            Stage::Release => release,
            Stage::Total => total,
        }
    }
}

/// The times of the exchange that a connection has in hand; 32 bytes of each connection.
///
/// ```text
/// head_read? -> admitted -> connected -> answering -> written -> (answering -> written)*
///                   ^----------+ (it was dead: another)
/// ```
#[derive(Debug, Default)]
pub(super) struct Lap {
    /// The low half of the exchange's id, which counts up; 0 before it is admitted.
    exchange: u64,
    /// The stages of the exchange so far; before it is admitted, what its head took.
    spent_ns: u64,
    /// The turn that a stage under way began in.
    turn_ns: u64,
    /// Writes of the answer so far.
    writes: u32,
    under_way: UnderWay,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum UnderWay {
    #[default]
    Nothing,
    Connect,
    Release,
}

impl Lap {
    /// A head was read and identified in this turn, and its decision waits.
    pub(super) fn head_read(&mut self, now: Now) {
        *self = Self { spent_ns: since(now.mono_ns), ..Self::default() };
    }

    /// An exchange was admitted and asks for a connection; or asks again, for another.
    pub(super) fn admitted(&mut self, exchange: ExchangeId, now: Now, to: &Latency) {
        let id = exchange.0 as u64;
        if self.exchange != id {
            let before_ns = if self.exchange == 0 { self.spent_ns } else { 0 };
            let spent_ns = since(now.mono_ns).saturating_add(before_ns);
            to.of(Stage::Decide).note(spent_ns);
            *self = Self { exchange: id, spent_ns, ..Self::default() };
        }
        (self.turn_ns, self.under_way) = (now.mono_ns, UnderWay::Connect);
    }

    /// Its connection is there.
    pub(super) fn connected(&mut self, now: Now, to: &Latency) {
        if self.ends(UnderWay::Connect) {
            let ns = now.mono_ns.saturating_sub(self.turn_ns);
            to.of(Stage::Connect).note(ns);
            self.spent_ns = self.spent_ns.saturating_add(ns);
        }
    }

    /// Bytes of the upstream led to bytes for the caller in this turn.
    pub(super) fn answering(&mut self, now: Now) {
        if self.writes.is_multiple_of(SAMPLE) {
            (self.turn_ns, self.under_way) = (now.mono_ns, UnderWay::Release);
        }
        self.writes = self.writes.wrapping_add(1);
    }

    /// A write to the caller begins; or none does, in this turn.
    pub(super) fn written(&mut self, began: bool, to: &Latency) {
        if !self.ends(UnderWay::Release) || !began {
            return;
        }
        let ns = since(self.turn_ns);
        to.of(Stage::Release).note(ns);
        if self.writes == 1 {
            to.of(Stage::Total).note(self.spent_ns.saturating_add(ns));
        }
    }

    fn ends(&mut self, stage: UnderWay) -> bool {
        let ends = self.under_way == stage;
        if ends {
            self.under_way = UnderWay::Nothing;
        }
        ends
    }
}

fn since(mono_ns: u64) -> u64 {
    clock::mono_ns().saturating_sub(mono_ns)
}

/// One in so many writes of an answer is timed: a stream of tokens has hundreds.
const SAMPLE: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(latency: &Latency) -> [u64; 4] {
        Stage::ALL.map(|stage| latency.of(stage).buckets().sum())
    }

    #[test]
    fn a_time_stands_in_the_bucket_that_holds_it() {
        assert!(BOUNDS.is_sorted());
        let histogram = Histogram::default();
        for ns in [0, 10_000, 10_001, 1_000_000_000, 1_000_000_001, u64::MAX >> 1] {
            histogram.note(ns);
        }
        let buckets: Vec<u64> = histogram.buckets().collect();
        assert_eq!(buckets.first(), Some(&2));
        assert_eq!(buckets.get(1), Some(&1));
        assert_eq!(buckets.iter().rev().take(2).copied().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(buckets.iter().sum::<u64>(), 6);
    }

    #[test]
    fn each_stage_of_an_exchange_is_noted_once_and_a_second_try_waits_again() {
        let (latency, mut lap) = (Latency::default(), Lap::default());
        assert_eq!(size_of::<Lap>(), 32);
        let now = clock::now();
        lap.head_read(now);
        assert_eq!(counts(&latency), [0; 4]);
        lap.admitted(ExchangeId(1), now, &latency);
        lap.connected(now, &latency);
        assert_eq!(counts(&latency), [1, 1, 0, 0]);
        // The connection was dead: the exchange asks for another, but it is decided already.
        lap.admitted(ExchangeId(1), now, &latency);
        lap.connected(now, &latency);
        lap.connected(now, &latency);
        assert_eq!(counts(&latency), [1, 2, 0, 0]);
        for _ in 0..=SAMPLE {
            lap.answering(now);
            lap.written(true, &latency);
        }
        assert_eq!(counts(&latency), [1, 2, 2, 1], "one in {SAMPLE}, and the first");
        lap.admitted(ExchangeId(2), now, &latency);
        lap.answering(now);
        // What does not go out in its turn waits for the caller, and that is not ours.
        lap.written(false, &latency);
        lap.written(true, &latency);
        assert_eq!(counts(&latency), [2, 2, 2, 1]);
    }
}
