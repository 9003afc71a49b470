//! When an issuer's keys are fetched again: pure arithmetic over time.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Least time between two fetches that unknown keys ask for.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(10);
/// How long a name that a fetch did not bring is known to be absent.
pub(super) const ABSENT_FOR: Duration = Duration::from_secs(30);
/// How long a request waits for a fetch.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// Names that are remembered as absent, or wait for a fetch.
const NAMES_MAX: usize = 1_024;
const AGE_MIN: Duration = Duration::from_secs(60);
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);
const AGE_DEFAULT: Duration = Duration::from_secs(600);
/// How long keys serve after their age, while their issuer cannot be reached.
const STALE_MAX: Duration = Duration::from_secs(6 * 3600);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// How long fetched keys are fresh.
pub(super) fn age(max_age: Option<Duration>) -> Duration {
    max_age.unwrap_or(AGE_DEFAULT).clamp(AGE_MIN, AGE_MAX)
}

/// Until the next fetch after one that went well: at 80 % of the age, up to a tenth of it earlier.
/// `jitter` is in `0.0..=1.0`.
pub(super) fn ahead(age: Duration, jitter: f64) -> Duration {
    age.mul_f64(0.8 - 0.1 * jitter.clamp(0.0, 1.0))
}

/// Until the next fetch after `failures` in a row: 1 s doubled up to a minute, halved at most by
/// the jitter.
pub(super) fn retry(failures: u32, jitter: f64) -> Duration {
    let doubled = 1u64.checked_shl(failures.saturating_sub(1).min(30)).unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(RETRY_MAX).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}

/// Until when keys of this age serve at most.
pub(super) fn stale_until(fetched: Instant, age: Duration) -> Instant {
    fetched + age + STALE_MAX
}

/// What a worker hears when it asks for a key that its set lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The set of control has it already: look at the snapshot again.
    Present,
    /// A fetch runs or will within [`WAIT_MAX`]: look again once `attempts` reaches this number.
    Fetching(u64),
    /// A fetch ran a moment ago, the next one is due later: refuse this request.
    Later,
    /// A fetch showed that the issuer has no such key: refuse.
    Absent,
}

/// The names that callers asked for, of one issuer.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Waiting for the next fetch.
    wanted: Vec<u64>,
    /// What the fetch under way is for.
    looked_for: Vec<u64>,
    running: bool,
    absent: HashMap<u64, Instant>,
    last_attempt: Option<Instant>,
    attempts: u64,
}

impl Names {
    pub(super) fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Notes that `name` is wanted and tells what the caller can do.
    pub(super) fn ask(&mut self, name: u64, now: Instant) -> Asked {
        if self.absent.get(&name).is_some_and(|until| *until > now) {
            return Asked::Absent;
        }
        if self.running {
            self.want(name);
            return Asked::Fetching(self.attempts + 1);
        }
        if !self.want(name) {
            return Asked::Later;
        }
        let allowed = self.allowed(now);
        if allowed <= now + WAIT_MAX { Asked::Fetching(self.attempts + 1) } else { Asked::Later }
    }

    /// When a fetch is due for what is wanted; `None` when nothing is.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.wanted.is_empty() { None } else { Some(self.allowed(now)) }
    }

    pub(super) fn start(&mut self, now: Instant) {
        debug_assert!(!self.running, "one fetch at a time");
        self.running = true;
        self.last_attempt = Some(now);
        self.looked_for = std::mem::take(&mut self.wanted);
    }

    /// Ends a fetch. Only a fetch that brought a set tells what is absent, and a set that
    /// `changed` makes all that was known before void.
    pub(super) fn end(&mut self, found: Option<&dyn Fn(u64) -> bool>, changed: bool, now: Instant) {
        self.running = false;
        self.attempts += 1;
        let looked_for = std::mem::take(&mut self.looked_for);
        if changed {
            self.absent.clear();
        }
        self.absent.retain(|_, until| *until > now);
        let Some(found) = found else { return };
        self.wanted.retain(|name| !found(*name));
        for name in looked_for.into_iter().filter(|name| !found(*name)) {
            if self.absent.len() < NAMES_MAX {
                self.absent.insert(name, now + ABSENT_FOR);
            }
        }
    }

    fn allowed(&self, now: Instant) -> Instant {
        self.last_attempt.map_or(now, |last| (last + ASKED_EVERY).max(now))
    }

    fn want(&mut self, name: u64) -> bool {
        if self.wanted.contains(&name) {
            return true;
        }
        if self.wanted.len() >= NAMES_MAX {
            return false;
        }
        self.wanted.push(name);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn ages_are_clamped_and_refreshed_ahead() {
        assert_eq!(age(None), seconds(600));
        assert_eq!(age(Some(Duration::ZERO)), seconds(60));
        assert_eq!(age(Some(seconds(1 << 30))), seconds(24 * 3600));
        for jitter in [0.0, 0.5, 1.0] {
            let next = ahead(seconds(600), jitter);
            assert!(next >= seconds(419) && next <= seconds(480), "{next:?}");
        }
        assert_eq!(retry(1, 0.0), seconds(1));
        assert_eq!(retry(4, 0.0), seconds(8));
        assert_eq!(retry(u32::MAX, 0.0), seconds(60));
        assert_eq!(retry(0, 1.0), Duration::from_millis(500));
    }

    #[test]
    fn one_fetch_serves_all_that_ask_and_names_absent_only_what_it_lacked() {
        let start = Instant::now();
        let mut names = Names::default();
        assert_eq!(names.ask(1, start), Asked::Fetching(1));
        assert_eq!(names.ask(2, start), Asked::Fetching(1));
        assert_eq!(names.due(start), Some(start));
        names.start(start);
        // Asked while it runs: the document may be older than the key.
        assert_eq!(names.ask(3, start), Asked::Fetching(1));
        names.end(Some(&|name| name == 2), true, start);
        assert_eq!(names.attempts(), 1);
        assert_eq!(names.ask(1, start), Asked::Absent);
        assert_eq!(names.ask(3, start), Asked::Later, "not absent: no fetch has looked for it");
        assert_eq!(names.due(start), Some(start + ASKED_EVERY));
        let later = start + seconds(9);
        assert_eq!(names.ask(3, later), Asked::Fetching(2), "within what a request may wait");
        assert_eq!(names.ask(1, start + seconds(31)), Asked::Fetching(2), "30 s are over");
    }

    #[test]
    fn a_name_that_the_rate_limit_refused_is_not_absent() {
        let start = Instant::now();
        let mut names = Names::default();
        names.start(start);
        names.end(Some(&|_| false), true, start);
        assert_eq!(names.ask(7, start + seconds(1)), Asked::Later);
        names.start(start + seconds(10));
        names.end(Some(&|name| name == 7), true, start + seconds(10));
        assert_eq!(names.due(start + seconds(10)), None);
    }

    #[test]
    fn a_failed_fetch_tells_nothing_and_a_change_clears_what_was_absent() {
        let start = Instant::now();
        let mut names = Names::default();
        names.ask(1, start);
        names.start(start);
        names.end(None, false, start);
        assert_ne!(names.ask(1, start + seconds(9)), Asked::Absent);
        names.start(start + seconds(10));
        names.end(Some(&|_| false), false, start + seconds(10));
        assert_eq!(names.ask(1, start + seconds(11)), Asked::Absent);
        names.start(start + seconds(12));
        names.end(Some(&|_| false), true, start + seconds(12));
        assert_ne!(names.ask(1, start + seconds(13)), Asked::Absent);
    }

    #[test]
    fn a_flood_of_names_is_bounded() {
        let start = Instant::now();
        let mut names = Names::default();
        for name in 0..10_000 {
            names.ask(name, start);
        }
        assert_eq!(names.wanted.len(), NAMES_MAX);
        names.start(start);
        names.end(Some(&|_| false), true, start);
        assert_eq!(names.absent.len(), NAMES_MAX);
    }
}
