//! What the tests share: a home with a config, an upstream, callers, the program.

pub(crate) mod caller;
pub(crate) mod home;
pub(crate) mod scrape;
pub(crate) mod served;
pub(crate) mod upstream;

pub(crate) use caller::{Answer, Caller, get};
pub(crate) use home::Home;
pub(crate) use scrape::Scrape;
pub(crate) use served::Served;
pub(crate) use upstream::Upstream;

use std::time::{Duration, Instant};

/// The longest that anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until there is an answer; what never comes is a failure that says what it was.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers that differ from run to run, and come again from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A seed of the environment's variable, else of the clock.
    pub(crate) fn seed(variable: &str) -> u64 {
        let given = std::env::var(variable).ok().and_then(|text| text.parse().ok());
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        given.unwrap_or_else(|| u64::from(now.subsec_nanos()) ^ now.as_secs())
    }

    /// Below `end` (xorshift64).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
