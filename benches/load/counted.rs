//! The gateway with an allocator that counts: this program, started anew as `weirgate`.
//!
//! The timed cells run the real binary, which has no counter. What is counted here is the same
//! library, built with the same profile, with a counter for each kind of thread; whoever connects
//! to a Unix socket of its own is told how they stand. Threads are told apart by their names, as
//! `tests/allocations` does it.

use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::iter;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Outcome;
use crate::allocator::{Told, ours, thread_name};

#[global_allocator]
static ALLOCATOR: Told = Told(note);

/// First argument of a program that is to be a gateway. The socket's path is the second, how many
/// allocations of workers are traced the third, and those of `weirgate` follow.
pub(crate) const FLAG: &str = "--counted-gateway";

/// Kinds of threads: workers, the drain, and control with all the others.
const KINDS: usize = 3;
const PREFIXES: [&[u8]; 2] = [b"worker-", b"drain"];

/// Off until somebody asks: threads have their names by then, and the bench's own are not counted.
static ARMED: AtomicBool = AtomicBool::new(false);
static CALLS: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];
static BYTES: [AtomicU64; KINDS] = [const { AtomicU64::new(0) }; KINDS];

/// Traces that are still to be taken, and those that were.
static TRACES_LEFT: AtomicUsize = AtomicUsize::new(0);
static TRACES: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

thread_local! {
    /// Has no destructor and no lazy part, so that it can be used within the allocator.
    static KIND: Cell<Option<usize>> = const { Cell::new(None) };
    /// It is taking down where an allocation came from.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

fn note(len: usize) {
    if !ARMED.load(Ordering::Relaxed) || WITHIN.try_with(Cell::get).unwrap_or(true) {
        return;
    }
    let kind = KIND.try_with(|known| {
        known.get().unwrap_or_else(|| {
            let name = thread_name();
            let kind = PREFIXES.iter().position(|prefix| name.starts_with(prefix));
            let kind = kind.unwrap_or(KINDS - 1);
            known.set(Some(kind));
            kind
        })
    });
    let kind = kind.unwrap_or(KINDS - 1);
    if let (Some(calls), Some(bytes)) = (CALLS.get(kind), BYTES.get(kind)) {
        calls.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(len as u64, Ordering::Relaxed);
    }
    if kind == 0 && TRACES_LEFT.load(Ordering::Relaxed) > 0 {
        let _ = WITHIN.try_with(|within| {
            within.set(true);
            TRACES_LEFT.fetch_sub(1, Ordering::Relaxed);
            let trace = Backtrace::force_capture();
            TRACES.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
            within.set(false);
        });
    }
}

/// Runs as a gateway that counts, when that is what this process was started for.
pub(crate) fn run() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != FLAG {
        return None;
    }
    let socket = arguments.next()?;
    let traces: usize = arguments.next()?.to_str()?.parse().ok()?;
    let told = UnixListener::bind(socket).and_then(|listener| {
        let thread = std::thread::Builder::new().name("counts".to_owned());
        thread.spawn(move || tell(&listener, traces))
    });
    if let Err(error) = told {
        eprintln!("load: the counts cannot be told: {error}");
        return Some(ExitCode::from(2));
    }
    Some(weirgate::cli::run(iter::once(OsString::from("weirgate")).chain(arguments)))
}

/// Writes the counters to each who connects, and where they came from on lines of their own. The
/// first starts the counters, the second the traces.
fn tell(listener: &UnixListener, traces: usize) {
    for (asked, stream) in listener.incoming().enumerate() {
        ARMED.store(true, Ordering::SeqCst);
        let all = CALLS.iter().chain(&BYTES).map(|count| count.load(Ordering::Relaxed).to_string());
        let mut text = all.collect::<Vec<_>>().join(" ");
        let taken = std::mem::take(&mut *TRACES.lock().unwrap_or_else(PoisonError::into_inner));
        let mut origins = BTreeMap::<String, usize>::new();
        for trace in taken {
            *origins.entry(ours(&trace.to_string())).or_default() += 1;
        }
        for (place, count) in origins {
            text.push_str(&format!("\n{count} x {place}"));
        }
        TRACES_LEFT.store(if asked == 1 { traces } else { 0 }, Ordering::Relaxed);
        // Who went away needs no answer.
        let _ = stream.and_then(|mut stream| stream.write_all(text.as_bytes()));
    }
}

/// What one kind of threads allocated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
}

/// What all threads of a gateway allocated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) workers: Count,
    pub(crate) drain: Count,
    pub(crate) others: Count,
    /// Where workers allocated, innermost first, and how often.
    pub(crate) origins: Vec<String>,
}

impl Counts {
    /// Asks the gateway that tells on `socket`.
    ///
    /// # Errors
    /// It does not answer, or not with its counters.
    pub(crate) fn of(socket: &Path) -> Outcome<Self> {
        let mut text = String::new();
        UnixStream::connect(socket)?.read_to_string(&mut text)?;
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let numbers = first.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [a, b, c, d, e, f] = numbers.as_slice() else {
            return Err(
                io::Error::other(format!("`{first}` is not what counters look like")).into()
            );
        };
        let count = |calls: &u64, bytes: &u64| Count { calls: *calls, bytes: *bytes };
        let origins = lines.map(str::to_owned).collect();
        Ok(Self { workers: count(a, d), drain: count(b, e), others: count(c, f), origins })
    }

    /// What came since `before`.
    pub(crate) fn since(self, before: &Self) -> Self {
        let less = |after: Count, before: Count| Count {
            calls: after.calls.saturating_sub(before.calls),
            bytes: after.bytes.saturating_sub(before.bytes),
        };
        Self {
            workers: less(self.workers, before.workers),
            drain: less(self.drain, before.drain),
            others: less(self.others, before.others),
            origins: self.origins,
        }
    }
}
