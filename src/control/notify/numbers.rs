//! What is counted of webhooks, by name.

use super::pace::{Budget, Spent};
use crate::base::Pace;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a webhook did since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookReading {
    /// Notices that were taken.
    pub delivered: u64,
    /// Tries in vain.
    pub failed: u64,
    /// Notices that became dead letters.
    pub died: u64,
    /// The last try was in vain.
    pub failing: bool,
    /// When a notice was taken last, wall nanoseconds.
    pub delivered_ns: Option<u64>,
    /// Why the last try that failed did, and when.
    pub error: Option<(Arc<str>, u64)>,
    /// Callbacks by their outcome.
    pub callbacks: BTreeMap<&'static str, u64>,
}

/// One webhook's numbers and budgets.
#[derive(Debug, Default)]
struct Slot {
    reading: HookReading,
    good: Arc<Budget>,
    bad: Arc<Budget>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Numbers(Mutex<BTreeMap<String, Slot>>);

impl Numbers {
    fn with<T>(&self, hook: &str, act: impl FnOnce(&mut Slot) -> T) -> T {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.get_mut(hook) {
            Some(slot) => act(slot),
            None => act(slots.entry(hook.to_owned()).or_default()),
        }
    }

    pub(super) fn delivered(&self, hook: &str, now_ns: u64) {
        self.with(hook, |Slot { reading, .. }| {
            reading.delivered += 1;
            reading.failing = false;
            reading.delivered_ns = Some(now_ns);
        });
    }

    pub(super) fn failed(&self, hook: &str, error: &str, now_ns: u64) {
        self.with(hook, |Slot { reading, .. }| {
            reading.failed += 1;
            reading.failing = true;
            reading.error = Some((error.into(), now_ns));
        });
    }

    pub(super) fn died(&self, hook: &str) {
        self.with(hook, |slot| slot.reading.died += 1);
    }

    pub(super) fn is_failing(&self, hook: &str) -> bool {
        self.with(hook, |slot| slot.reading.failing)
    }

    pub(super) fn called(&self, hook: &str, outcome: &'static str) {
        self.with(hook, |slot| *slot.reading.callbacks.entry(outcome).or_default() += 1);
    }

    /// Takes one callback of a webhook's budget: `good` for one that is signed.
    pub(super) fn take(&self, hook: &str, good: bool, now_ns: u64) -> Result<(), Spent> {
        let budget = self.with(hook, |slot| Arc::clone(if good { &slot.good } else { &slot.bad }));
        budget.take(CALLBACKS, now_ns)
    }

    pub(super) fn reading(&self, hook: &str) -> HookReading {
        self.with(hook, |slot| slot.reading.clone())
    }
}

/// Callbacks of one webhook. Those that are not signed have a budget of their own, so that
/// whoever has no key takes nothing from who has.
const CALLBACKS: Pace = Pace { per_s: 10, burst: 60 };
