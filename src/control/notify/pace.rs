//! How often something may be done: the generic cell rate algorithm, for one thing.

use crate::base::Pace;
use std::sync::{Mutex, PoisonError};

/// There is no more for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Spent;

/// A budget.
#[derive(Debug, Default)]
pub(in crate::control) struct Budget {
    /// Everything that was granted is paid for at this time.
    paid_ns: Mutex<u64>,
}

impl Budget {
    /// Takes one.
    pub(in crate::control) fn take(&self, pace: Pace, now_ns: u64) -> Result<(), Spent> {
        let cost_ns = 1_000_000_000 / u64::from(pace.per_s.max(1));
        let mut paid_ns = self.paid_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead_ns = cost_ns.saturating_mul(u64::from(pace.burst.max(1)) - 1);
        if paid_ns.saturating_sub(now_ns) > ahead_ns {
            return Err(Spent);
        }
        *paid_ns = (*paid_ns).max(now_ns).saturating_add(cost_ns);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_one_at_a_time() {
        let (budget, pace) = (Budget::default(), Pace { per_s: 10, burst: 3 });
        let now_ns = 5_000_000_000;
        assert_eq!([(); 4].map(|()| budget.take(pace, now_ns).is_ok()), [true, true, true, false]);
        assert_eq!(budget.take(pace, now_ns + 99_999_999), Err(Spent));
        assert_eq!(budget.take(pace, now_ns + 100_000_000), Ok(()));
        assert_eq!(budget.take(pace, now_ns + 100_000_000), Err(Spent));
    }
}
