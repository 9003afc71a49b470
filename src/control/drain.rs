//! The drain: one plain thread that moves the workers' rings into segment files.
//!
//! Every tick it takes what is committed in each ring, writes it to the worker's segment file
//! (durable on return), hashes it, and gives the room back, wiped. Once a second it signs a
//! checkpoint for each segment that grew. A worker never waits for it: while it cannot write, the
//! rings fill, [`DrainHandle::refusing`] tells the workers to take no new work,
//! and it tries again until there is room. Who waits for the disk (`durable = "each"`) does not wait
//! for the tick: [`DrainHandle::hurry`] begins a round at once, and all who asked share its write.
//!
//! Estimate: 10 ms tick; for each MiB one or more O_DIRECT writes and 0.7 ms of SHA-256.

mod files;
mod folder;
mod home;
mod lane;
mod pace;
mod recover;
mod retain;
mod ring_dir;
mod storage;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::base::Now;
use crate::record::Position;
use crate::record::ring::{Cursor, RingSetup};
use crate::runtime;
use crate::runtime::map::{self, RingJournal};

pub use files::{parse_segment_name, segment_name, segments};
pub(in crate::control) use folder::read_ring;
pub use folder::{FolderReport, RingReport, verify_folder, walk_folder};
pub use home::{is_live, public_key, public_keys, ring_paths};
pub use pace::RATE_NS;
pub use recover::{Recovered, tombs_path};
pub use retain::{Kept, Retention};
pub use ring_dir::{RingDir, ring_dir_kind};
pub use storage::{Files, Storage};

use home::Home;
use lane::Lane;
use pace::Pace;
use recover::Next;

/// How a drain works. [`Settings::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where segments go.
    pub data_dir: PathBuf,
    /// Where rings are: memory-backed, and outliving the process. `None`: the machine's memory
    /// where it does, else the data folder.
    pub ring_dir: Option<PathBuf>,
    /// One ring and journal for each.
    pub workers: u32,
    /// One more, behind the workers', for what control records. It is short, as are its segments.
    pub control: bool,
    /// Bytes of a ring.
    pub ring_bytes: u64,
    /// Most bytes of a segment.
    pub segment_bytes: u64,
    /// How often rings are drained.
    pub tick_ms: u64,
    /// How often a segment that grew is signed.
    pub checkpoint_ms: u64,
    /// How often a segment that did not grow is signed: silence is provable, too.
    pub heartbeat_ms: u64,
    /// A segment that is older than this rolls at the next entry.
    pub roll_ms: u64,
    /// Write with O_DIRECT where the file system takes it; off only to measure what it brings.
    pub direct: bool,
    /// What to keep.
    pub retention: Retention,
    /// Digest of the policy, for the segment headers.
    pub policy_digest: [u8; 32],
    /// How bytes get to the disk.
    pub storage: Arc<dyn Storage>,
}

impl Settings {
    /// 16 MiB rings, 64 MiB segments, 20 ms ticks, no retention.
    #[must_use]
    pub fn new(data_dir: &Path, ring_dir: &Path, workers: u32) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            ring_dir: Some(ring_dir.to_owned()),
            workers,
            control: false,
            ring_bytes: 16 << 20,
            segment_bytes: 64 << 20,
            tick_ms: 20,
            checkpoint_ms: 1_000,
            heartbeat_ms: 60_000,
            roll_ms: 3_600_000,
            direct: true,
            retention: Retention::default(),
            policy_digest: [0; 32],
            storage: Arc::new(Files),
        }
    }

    /// How many rings there are.
    fn lanes(&self) -> u32 {
        self.workers.saturating_add(u32::from(self.control))
    }

    /// Bytes of a ring, and the most of a segment.
    fn sizes(&self, lane: u32) -> (u64, u64) {
        if lane < self.workers {
            (self.ring_bytes, self.segment_bytes)
        } else {
            (self.ring_bytes.min(CONTROL_RING_BYTES), self.segment_bytes.min(CONTROL_SEGMENT_BYTES))
        }
    }
}

/// Why the record cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum DrainError {
    /// Another gateway owns the data folder.
    Locked(PathBuf),
    /// Others may read the signing key.
    KeyMode(PathBuf),
    /// The operating system refused.
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

impl DrainError {
    fn io(what: &'static str, path: &Path, error: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), error }
    }
}

impl std::fmt::Display for DrainError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Locked(dir) => write!(
                f,
                "another gateway owns {}; stop it or give this one its own data_dir",
                dir.display()
            ),
            Self::KeyMode(path) => {
                write!(f, "{0} may be read by others; chmod 600 {0}", path.display())
            }
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for DrainError {}

/// What the drain and its handles share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    full: AtomicBool,
    /// Somebody waits for the disk: the next round begins at once.
    hurry: AtomicBool,
    thread: OnceLock<Thread>,
    /// By worker.
    durable: Vec<Durable>,
    drained_bytes: AtomicU64,
    lag_bytes: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
    checkpoints: AtomicU64,
    cpu_ns: AtomicU64,
    kept_bytes: AtomicU64,
    kept_segments: AtomicU64,
    oldest_ns: AtomicU64,
    slowest_ns: AtomicU64,
    buffered: AtomicBool,
    /// Room on the file system of the segments; `u64::MAX` where it is not known.
    free_bytes: AtomicU64,
    /// Bytes a second, an `f64` by its bits.
    rate: AtomicU64,
    policy: Mutex<[u8; 32]>,
    retention: Mutex<Retention>,
}

/// How far one worker's record is on the disk, and who wants to hear of it.
#[derive(Debug, Default)]
struct Durable {
    position: AtomicU64,
    awaited: AtomicBool,
    bell: OnceLock<UnixStream>,
    /// Where `position` stood when the bell was last rung; the drain's own.
    rung: AtomicU64,
}

impl Durable {
    /// Tells the worker that there was progress, where somebody waits for it.
    fn ring(&self) {
        if !self.awaited.load(Ordering::Acquire) {
            return;
        }
        let position = self.position.load(Ordering::Relaxed);
        if self.rung.swap(position, Ordering::Relaxed) == position {
            return;
        }
        // Before the bell: who waits for more asks anew.
        self.awaited.store(false, Ordering::Release);
        if let Some(mut bell) = self.bell.get() {
            // A full buffer means that the worker has a ring to hear yet.
            let _ = bell.write(&[1]);
        }
    }
}

/// A reading of the drain's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Bytes that the last tick found in all rings.
    pub lag_bytes: u64,
    /// Bytes moved since the start.
    pub drained_bytes: u64,
    /// Writes to segment files.
    pub writes: u64,
    /// Writes, checkpoints and preallocations that failed.
    pub errors: u64,
    /// Checkpoints signed.
    pub checkpoints: u64,
    /// CPU time of the thread.
    pub cpu_ns: u64,
    /// Bytes of all segment files at the last look.
    pub kept_bytes: u64,
    /// How many there were.
    pub kept_segments: u64,
    /// When the oldest closed segment was closed, wall nanoseconds; 0 without.
    pub oldest_ns: u64,
    /// What is kept; see [`Retention`].
    pub retention: Retention,
    /// Room on the file system of the segments at the last look.
    pub free_bytes: Option<u64>,
    /// Bytes a second that go into segments: a mean that forgets with [`RATE_NS`].
    pub rate: f64,
    /// The slowest write so far.
    pub slowest_ns: u64,
    /// The disk is full or failing: no new work.
    pub refusing: bool,
    /// Some segment is written without O_DIRECT.
    pub buffered: bool,
}

/// What workers and control see of the drain. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DrainHandle(Arc<Shared>);

impl DrainHandle {
    /// Whether no new work may be taken: it could not be recorded to its end.
    #[must_use]
    pub fn refusing(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    /// Up to where the worker's entries survive a power loss.
    #[must_use]
    pub fn durable(&self, worker: u32) -> Position {
        let found = self.0.durable.get(worker as usize);
        Position(found.map_or(0, |one| one.position.load(Ordering::Acquire)))
    }

    /// Drains at once instead of at the next tick, and rings the worker's bell when its record has
    /// got further. Whoever asks while a write is under way shares the one that follows it.
    pub fn hurry(&self, worker: u32) {
        if let Some(one) = self.0.durable.get(worker as usize) {
            one.awaited.store(true, Ordering::Release);
        }
        if !self.0.hurry.swap(true, Ordering::AcqRel)
            && let Some(thread) = self.0.thread.get()
        {
            thread.unpark();
        }
    }

    /// What is written to, without blocking, when the worker's record has got further and
    /// somebody asked. Once for each worker, before it starts.
    pub fn set_bell(&self, worker: u32, bell: UnixStream) {
        if let Some(one) = self.0.durable.get(worker as usize) {
            // A second bell would be an error of the gateway; the first one stays.
            let _ = one.bell.set(bell);
        }
    }

    /// The digest that headers of segments made from now on carry.
    pub fn set_policy_digest(&self, digest: [u8; 32]) {
        *self.0.policy.lock().unwrap_or_else(PoisonError::into_inner) = digest;
    }

    /// What is kept from the next look on.
    pub fn set_retention(&self, retention: Retention) {
        *self.0.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention;
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Metrics {
            lag_bytes: of(&self.0.lag_bytes),
            drained_bytes: of(&self.0.drained_bytes),
            writes: of(&self.0.writes),
            errors: of(&self.0.errors),
            checkpoints: of(&self.0.checkpoints),
            cpu_ns: of(&self.0.cpu_ns),
            kept_bytes: of(&self.0.kept_bytes),
            kept_segments: of(&self.0.kept_segments),
            oldest_ns: of(&self.0.oldest_ns),
            retention: *self.0.retention.lock().unwrap_or_else(PoisonError::into_inner),
            free_bytes: Some(of(&self.0.free_bytes)).filter(|bytes| *bytes != u64::MAX),
            rate: f64::from_bits(of(&self.0.rate)),
            slowest_ns: of(&self.0.slowest_ns),
            refusing: self.refusing(),
            buffered: self.0.buffered.load(Ordering::Relaxed),
        }
    }
}

/// A running drain.
#[derive(Debug)]
pub struct Drain {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<bool>>,
}

/// An open record: what [`open`] brings.
#[derive(Debug)]
pub struct Opened {
    /// One for each worker, in their order.
    pub journals: Vec<RingJournal>,
    /// Control's, where it was asked for.
    pub control: Option<RingJournal>,
    /// The running drain.
    pub drain: Drain,
    /// What was left by a process that died.
    pub recovered: Recovered,
}

/// Takes the data folder, drains what a killed process left, makes the rings, starts the thread.
///
/// # Errors
/// [`DrainError`]; nothing runs then.
pub fn open(settings: &Settings) -> Result<Opened, DrainError> {
    let home = Home::open(&settings.data_dir)?;
    let clock = Clock::new();
    let (next, recovered) = recover::recover(&home, clock.now())?;
    if recovered != Recovered::default() {
        tracing::warn!(
            entries = recovered.ring_entries,
            closed = recovered.closed,
            dropped_bytes = recovered.dropped,
            damaged = recovered.damaged,
            "the record of a process that died was closed"
        );
    }
    if recovered.lost_rings > 0 {
        tracing::error!(
            rings = recovered.lost_rings,
            "rings of a process that was killed are gone, and with them what it had recorded and \
             not drained; the machine was restarted, or ring_dir went with its container"
        );
    }
    let ring_dir = ring_dir_of(settings);
    let rings: Vec<PathBuf> =
        (0..settings.lanes()).map(|worker| home.ring_path(&ring_dir, worker)).collect();
    home.point_to(&rings).map_err(|e| DrainError::io("write the ring list in", &home.dir, e))?;
    let mut journals = Vec::new();
    let mut lanes = Vec::new();
    for (worker, path) in (0..settings.lanes()).zip(rings) {
        let (ring_bytes, segment_bytes) = settings.sizes(worker);
        let next = next.get(&worker).copied().unwrap_or(Next::FIRST);
        let random = home::random().map_err(|e| DrainError::io("draw an id for", &path, e))?;
        let setup = RingSetup {
            worker,
            ring_bytes,
            segment_bytes,
            stream: random,
            boot: home::boot_id(),
            process: u64::from(std::process::id()),
        };
        // The segment is made before the ring: a ring always has the segment of its cursor.
        let lane = Lane::open(&home, &setup, next, settings, clock.now())
            .map_err(|e| DrainError::io("make the first segment in", &home.dir, e))?;
        let start = Cursor::start(next.number, next.sequence);
        let made = map::create(&path, &setup, start);
        let (mut journal, tail) = made.map_err(|e| DrainError::io("make the ring", &path, e))?;
        journal.roll_after_ms(settings.roll_ms);
        journals.push(journal);
        lanes.push(lane.with_tail(tail, path));
    }
    let shared = Arc::new(Shared {
        durable: lanes.iter().map(|_| Durable::default()).collect(),
        policy: Mutex::new(settings.policy_digest),
        retention: Mutex::new(settings.retention),
        free_bytes: AtomicU64::new(u64::MAX),
        ..Shared::default()
    });
    let run = Run { home, lanes, settings: settings.clone(), shared: Arc::clone(&shared), clock };
    let thread = std::thread::Builder::new().name("drain".to_owned()).spawn(move || run.run());
    let thread = thread.map_err(|e| DrainError::io("start the drain of", &settings.data_dir, e))?;
    let _ = shared.thread.set(thread.thread().clone());
    let drain = Drain { shared, thread: Some(thread) };
    let control = if settings.control { journals.pop() } else { None };
    Ok(Opened { journals, control, drain, recovered })
}

/// Where the rings are to be, after the old ones are gone.
fn ring_dir_of(settings: &Settings) -> PathBuf {
    let Some(dir) = &settings.ring_dir else {
        let ring = |lane| settings.sizes(lane).0.saturating_add(RING_SPARE);
        let bytes = (0..settings.lanes()).map(ring).fold(0, u64::saturating_add);
        return ring_dir::choose(&settings.data_dir, bytes);
    };
    if ring_dir_kind(dir) == RingDir::ContainerMemory {
        tracing::warn!(
            ring_dir = %dir.display(),
            "not promised here: that what was recorded survives the end of the container; this \
             memory goes with it, and what is not drained yet too. Leave ring_dir out to have the \
             rings in data_dir, or name a folder on a volume"
        );
    }
    dir.clone()
}

impl Drain {
    /// A handle for workers and metrics.
    #[must_use]
    pub fn handle(&self) -> DrainHandle {
        DrainHandle(Arc::clone(&self.shared))
    }

    /// Drains the rest, closes the segments and removes the rings. Call it when the workers have
    /// stopped; the journal of one that has not is full from here on. Returns whether all of it could be written; if not, the rings stay for the next
    /// start.
    pub fn stop(mut self) -> bool {
        self.join()
    }

    fn join(&mut self) -> bool {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.shared.thread.get() {
            thread.unpark();
        }
        self.thread.take().is_none_or(|thread| thread.join().unwrap_or(false))
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.join();
    }
}

/// Both clocks, for control.
#[derive(Clone, Copy, Debug)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let narrow = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Now { mono_ns: narrow(self.0.elapsed()), wall_ns: narrow(wall) }
    }
}

/// What the thread owns.
struct Run {
    home: Home,
    lanes: Vec<Lane>,
    settings: Settings,
    shared: Arc<Shared>,
    clock: Clock,
}

/// How often retention looks at the folder, and the CPU clock is read.
const LOOK_MS: u64 = 60_000;
/// What a ring file has beside the ring, and some room.
const RING_SPARE: u64 = 64 << 10;
/// Control records what people do: little, and seldom.
const CONTROL_RING_BYTES: u64 = 1 << 20;
const CONTROL_SEGMENT_BYTES: u64 = 4 << 20;
/// A round that brings this part of a ring is followed sooner: the next may bring more than fits.
const CROWDED_PART: u64 = 8;
/// How much sooner.
const CROWDED_PACE: u32 = 4;
/// How often the pace is measured.
const PACE_MS: u64 = 5_000;
/// How long a stop goes on trying to write.
const STOP_MS: u64 = 5_000;

impl Run {
    fn run(mut self) -> bool {
        let tick = Duration::from_millis(self.settings.tick_ms.max(1));
        let mut look_ns = 0;
        let mut stop_ns = None;
        let mut pace = Pace::default();
        let mut pace_ns = 0;
        loop {
            let started = Instant::now();
            let before = self.shared.drained_bytes.load(Ordering::Relaxed);
            // Read before the rings: what was appended before the stop is drained by this tick.
            let stopping = self.shared.stop.load(Ordering::Acquire);
            self.shared.hurry.swap(false, Ordering::AcqRel);
            let now = self.clock.now();
            let mut rolled = false;
            for lane in &mut self.lanes {
                rolled |= lane.tick(&self.home, &self.settings, &self.shared, now);
            }
            let full = self.lanes.iter().any(Lane::is_stuck);
            if full != self.shared.full.swap(full, Ordering::Relaxed) {
                if full {
                    tracing::error!("the record cannot be written: new work is refused");
                } else {
                    tracing::info!("the record is written again: work is taken");
                }
            }
            let lag = self.lanes.iter().map(Lane::lag).sum();
            self.shared.lag_bytes.store(lag, Ordering::Relaxed);
            if rolled || full || now.mono_ns >= look_ns {
                look_ns = now.after_ms(if full { 1_000 } else { LOOK_MS });
                self.retain(now);
            }
            if now.mono_ns >= pace_ns {
                pace_ns = now.after_ms(PACE_MS);
                self.shared.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
                self.measure(&mut pace, now);
            }
            if stopping {
                let until = *stop_ns.get_or_insert(now.after_ms(STOP_MS));
                if !full || now.mono_ns >= until {
                    return self.close();
                }
            }
            self.shared.durable.iter().for_each(Durable::ring);
            // Whoever is in a hurry since the round began has unparked it already.
            let drained = self.shared.drained_bytes.load(Ordering::Relaxed).saturating_sub(before);
            let crowded = drained >= self.settings.ring_bytes / CROWDED_PART;
            let pause = if crowded { tick / CROWDED_PACE } else { tick };
            std::thread::park_timeout(pause.saturating_sub(started.elapsed()));
        }
    }

    fn retain(&self, now: Now) {
        let retention = *self.shared.retention.lock().unwrap_or_else(PoisonError::into_inner);
        match retain::retain(&self.home.dir, retention, now.wall_ns) {
            Ok(kept) => {
                self.shared.kept_bytes.store(kept.bytes, Ordering::Relaxed);
                self.shared.kept_segments.store(kept.segments, Ordering::Relaxed);
                self.shared.oldest_ns.store(kept.oldest_ns, Ordering::Relaxed);
            }
            Err(e) => {
                self.shared.errors.fetch_add(1, Ordering::Relaxed);
                tracing::error!(error = %e, "retention failed");
            }
        }
    }

    /// How fast the record grows, and how much room there is for it.
    fn measure(&self, pace: &mut Pace, now: Now) {
        let drained = self.shared.drained_bytes.load(Ordering::Relaxed);
        let rate = pace.look(drained, now.mono_ns);
        self.shared.rate.store(rate.to_bits(), Ordering::Relaxed);
        // What is not known is not told.
        let free = runtime::free_bytes(&self.home.dir).unwrap_or(u64::MAX);
        self.shared.free_bytes.store(free, Ordering::Relaxed);
    }

    fn close(&mut self) -> bool {
        let now = self.clock.now();
        let mut whole = true;
        for lane in &mut self.lanes {
            // A worker that still runs hears `Full` from here on and releases nothing.
            lane.shut();
            lane.tick(&self.home, &self.settings, &self.shared, now);
            if let Err(e) = lane.close(&self.home, now) {
                tracing::error!(error = %e, "a segment cannot be closed; the next start does it");
                whole = false;
            }
        }
        self.shared.cpu_ns.store(thread_cpu_ns(), Ordering::Relaxed);
        whole
    }
}

/// CPU time of this thread, as the kernel counts it; 0 where it does not.
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}
