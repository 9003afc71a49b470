//! How fast the record grows: a mean over the last minutes.

/// After this time what was measured before weighs a third (1/e).
pub const RATE_NS: u64 = 600_000_000_000;

/// The mean so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// When, and at which count, the last look was.
    last: Option<(u64, u64)>,
    first_ns: u64,
    rate: f64,
}

impl Pace {
    /// Takes a count of all bytes so far; returns bytes a second. Looks may be irregular.
    ///
    /// A step of `dt` weighs `1 - exp(-dt / RATE_NS)`, but in the first minutes as much as all
    /// before it: the mean of what there is.
    pub(super) fn look(&mut self, bytes: u64, now_ns: u64) -> f64 {
        let Some((then_ns, before)) = self.last.replace((now_ns, bytes)) else {
            self.first_ns = now_ns;
            return 0.0;
        };
        let step = now_ns.saturating_sub(then_ns) as f64;
        if step > 0.0 {
            let present = bytes.saturating_sub(before) as f64 * 1e9 / step;
            let all = now_ns.saturating_sub(self.first_ns) as f64;
            let weight = (1.0 - (-step / RATE_NS as f64).exp()).max(step / all);
            self.rate += (present - self.rate) * weight;
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_mean_is_exact_at_first_and_follows_later() {
        let mut pace = Pace::default();
        assert_eq!(pace.look(5_000, 7 * SECOND), 0.0);
        assert_eq!(pace.look(6_000, 8 * SECOND), 1_000.0);
        assert!((pace.look(6_000, 9 * SECOND) - 500.0).abs() < 1e-6, "half the time nothing");
        assert!((pace.look(6_000, 9 * SECOND) - 500.0).abs() < 1e-6, "no time, no change");
        let mut bytes = 6_000;
        for second in 10..10_000 {
            bytes += 2_000;
            pace.look(bytes, second * SECOND);
        }
        assert!((pace.look(bytes + 2_000, 10_000 * SECOND) - 2_000.0).abs() < 1.0);
        // An hour of silence.
        let quiet = pace.look(bytes + 2_000, 13_600 * SECOND);
        assert!(quiet < 10.0, "{quiet}");
    }
}
