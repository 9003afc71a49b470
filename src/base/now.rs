//! Time as a value: whoever drives the pure code reads the clocks and passes both in.

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Monotonic nanoseconds since an arbitrary start; for deadlines and durations.
    pub mono_ns: u64,
    /// Nanoseconds since the Unix epoch; for token times and the record.
    pub wall_ns: u64,
}

impl Now {
    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn wall_s(self) -> u64 {
        self.wall_ns / 1_000_000_000
    }

    /// The monotonic time `ms` milliseconds from here.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> u64 {
        self.mono_ns.saturating_add(ms.saturating_mul(1_000_000))
    }
}
