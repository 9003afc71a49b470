//! Counts what is allocated, and tells where it came from.

use crate::allocator::{ours, thread_name};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Allocations whose origin is kept.
const TRACES_MAX: usize = 256;

thread_local! {
    /// Has no destructor and no lazy part, so that it can be used within the allocator.
    static STATE: Cell<State> = const { Cell::new(State::Unknown) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Counted,
    Ignored,
    /// It is taking down where an allocation came from.
    Within,
}

/// Counts while it is armed, on the threads that are asked for.
pub(crate) fn note(_len: usize) {
    if !ARMED.load(Ordering::Relaxed) {
        return;
    }
    let state = STATE.try_with(Cell::get).unwrap_or(State::Ignored);
    let state = if state == State::Unknown { classify() } else { state };
    if state != State::Counted {
        return;
    }
    let before = COUNT.fetch_add(1, Ordering::Relaxed);
    if before < TRACES_MAX as u64 {
        set(State::Within);
        let trace = Backtrace::force_capture();
        TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
        set(State::Counted);
    }
}

fn set(state: State) {
    let _ = STATE.try_with(|cell| cell.set(state));
}

/// Workers are known by the name of their thread.
fn classify() -> State {
    let state = if thread_name().starts_with(b"worker-") { State::Counted } else { State::Ignored };
    set(state);
    state
}

/// What was counted.
pub(crate) struct Counted {
    pub(crate) count: u64,
    /// Frames of our own, innermost first, and how often.
    pub(crate) origins: BTreeMap<String, u64>,
}

/// Counts what `run` allocates: on this thread, or on threads named `worker-*`.
pub(crate) fn during(of_workers: bool, run: impl FnOnce()) -> Counted {
    set(if of_workers { State::Ignored } else { State::Counted });
    COUNT.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
    run();
    ARMED.store(false, Ordering::SeqCst);
    set(State::Ignored);
    let mut origins = BTreeMap::new();
    for trace in std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner)) {
        *origins.entry(ours(&trace.to_string())).or_default() += 1;
    }
    Counted { count: COUNT.load(Ordering::Relaxed), origins }
}

/// One test at a time: there is one counter.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}
