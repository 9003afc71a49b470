//! Bench number one: what an append costs the worker, by where its bytes go and how they get to
//! the disk.
//!
//!     cargo bench --bench record
//!     cargo bench --bench record exchanges    # only what the drain spends on an exchange
//!
//! | design | the worker appends to | the other thread, every 5 or 20 ms |
//! |---|---|---|
//! | A | a mapped file on the data disk | fdatasync of that file |
//! | B | a mapped ring in memory (`/dev/shm`) | O_DIRECT, O_DSYNC writes to a segment |
//! | B-buffered | as B | buffered writes and fdatasync |
//! | C | a mapped ring on the data disk | as B |
//!
//! 50 MB/s of bodies of 256 B or 4 KiB. Percentiles include two readings of the clock. B and C are
//! the drain of the gateway, hashing and signing included; afterwards every body is compared with
//! what was appended, and the folder is verified. `WEIRGATE_BENCH_SECONDS` sets the time of one
//! cell (5), `WEIRGATE_BENCH_DIR` the data disk.
//!
//! One run on a 2-core VM (x86-64 with SHA-NI, Linux 6.18, ext4 on a virtual disk) with a load
//! average of 11 beside it, so ratios only; content was the same in all cells:
//!
//! | design | every ms | body B | p50 ns | p99 | p99.9 | p99.99 | faults per 1000 | drain CPU ms/MiB |
//! |---|---|---|---|---|---|---|---|---|
//! | A | 5 | 256 | 119 | 1,102 | 6,891 | 119,999 | 11.2 | 0.41 |
//! | A | 5 | 4096 | 628 | 28,991 | 133,503 | 5,750,783 | 177.6 | 0.47 |
//! | A | 20 | 256 | 126 | 1,265 | 6,783 | 114,751 | 10.7 | 0.26 |
//! | A | 20 | 4096 | 629 | 10,359 | 308,991 | 14,155,775 | 173.3 | 0.33 |
//! | **B** | 5 | 256 | 105 | 348 | 818 | 515,839 | 0 | 1.40 |
//! | **B** | 5 | 4096 | 556 | 1,529 | 64,607 | 2,979,839 | 0 | 1.27 |
//! | **B** | 20 | 256 | 103 | 354 | 1,077 | 45,599 | 0 | 1.32 |
//! | **B** | 20 | 4096 | 537 | 1,235 | 2,517 | 92,671 | 0 | 1.23 |
//! | B-buffered | 5 | 256 | 103 | 370 | 1,032 | 340,479 | 0 | 2.52 |
//! | B-buffered | 5 | 4096 | 598 | 1,756 | 9,511 | 1,426,431 | 0 | 1.59 |
//! | B-buffered | 20 | 256 | 103 | 340 | 585 | 55,935 | 0 | 2.19 |
//! | B-buffered | 20 | 4096 | 617 | 1,987 | 51,135 | 3,667,967 | 0 | 1.53 |
//! | C | 5 | 256 | 104 | 359 | 812 | 72,831 | 0 | 1.45 |
//! | C | 5 | 4096 | 567 | 1,604 | 7,575 | 285,183 | 0 | 1.37 |
//! | C | 20 | 256 | 103 | 386 | 917 | 54,879 | 0 | 1.39 |
//! | C | 20 | 4096 | 562 | 1,456 | 13,615 | 1,305,599 | 0 | 1.36 |
//!
//! Back to back 105 ns CPU for 256 B (2.4 GB/s), 565 ns for 4 KiB (7.3 GB/s); 16 KiB over all
//! 4,096 relations of source and target: median 1,368 ns, slowest 1,737 ns; verify 1.00 GB/s.
//!
//! What it decides: a synced mapping (A) costs the worker page faults and p99 3 to 19 times as
//! high, so B is used. B's drain CPU is hashing (half of it, by `perf`), A has none. Buffered
//! writes cost up to 1.8 times the drain CPU, and at 256 B the ring was full at times. C is as
//! good as B while the kernel's own writeback (every 30 s) is not in the cell: it is the choice
//! where memory does not outlive the process. p99.99 differs from run to run with the other load.
//!
//! What the one drain thread spends on an exchange of 1 KiB up and 1 KiB back (six entries, 3.6
//! KiB), one run on the same machine with a load average of 5 beside it:
//!
//! | workers | offered | exchanges/s | MiB/s | drain CPU us/exchange | of one core | waits | slowest write ms |
//! |---|---|---|---|---|---|---|---|
//! | 1 | 1000/s | 999 | 4 | 24.25 | 2 % | 0 | 38.2 |
//! | 1 | 20000/s | 19771 | 70 | 5.30 | 10 % | 0 | 55.8 |
//! | 1 | as drained | 57935 | 205 | 5.13 | 30 % | 11025 | 27.4 |
//! | 8 | 1000/s | 983 | 3 | 82.16 | 8 % | 0 | 14.7 |
//! | 8 | 20000/s | 19958 | 71 | 9.06 | 18 % | 0 | 12.1 |
//! | 8 | as drained | 86066 | 305 | 5.03 | 43 % | 9241 | 54.4 |
//!
//! 5 us under load: its CPU would do for 200,000 exchanges/s. It waits for its own writes more than
//! half of the time, so what it keeps up with is the disk: 86,000/s here, which is 8 workers at
//! 10,700/s each. Beyond that the rings fill, and work is held back. At rest the cost is the tick
//! (a page for each worker that has something), 8 % of a core for 8 workers that do little.
#![expect(clippy::indexing_slicing, reason = "a bench: its own tables")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use weirgate::base::{ConnectionId, ExchangeId, Now};
use weirgate::control::drain::{Settings, open, public_keys, verify_folder, walk_folder};
use weirgate::record::ring::{Cursor, RingImage, RingSetup};
use weirgate::record::verify::{Trust, verify_segment};
use weirgate::record::{EntryMeta, Journal, Kind};
use weirgate::runtime::map::{self, RingJournal};

const RATE: f64 = 50e6;

#[derive(Clone, Copy, PartialEq)]
enum Design {
    A,
    B,
    BBuffered,
    C,
}

impl Design {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A mapped segment, fdatasync",
            Self::B => "B memory ring, O_DIRECT",
            Self::BBuffered => "B-buffered memory ring, fdatasync",
            Self::C => "C disk ring, O_DIRECT",
        }
    }
}

/// What one cell measured.
struct Cell {
    appends: Histogram<u64>,
    entries: u64,
    waits: u64,
    faults: u64,
    drain_ns: u64,
    mib: f64,
    slowest_ns: u64,
    content: bool,
}

/// The body of entry `index`: its number, then bytes that depend on it.
fn fill(index: u64, body: &mut [u8]) {
    let (head, rest) = body.split_first_chunk_mut::<8>().expect("bodies are longer");
    *head = index.to_le_bytes();
    if let Some(last) = rest.last_mut() {
        *last = index as u8;
    }
}

fn is_body(index: u64, body: &[u8], len: usize) -> bool {
    let mut want = vec![0x61; len];
    fill(index, &mut want);
    body == want
}

fn meta() -> EntryMeta {
    EntryMeta::new(Kind::ResponseBody, ConnectionId(1), ExchangeId(2))
}

/// Appends at the steady rate for `time`.
fn load(journal: &mut RingJournal, len: usize, time: Duration) -> (Histogram<u64>, u64, u64) {
    let mut appends = Histogram::new_with_max(60_000_000_000, 3).expect("a histogram");
    let mut body = vec![0x61; len];
    let gap = Duration::from_secs_f64(len as f64 / RATE);
    let start = Instant::now();
    let (mut index, mut waits) = (0u64, 0);
    while start.elapsed() < time {
        let due = gap * u32::try_from(index).expect("a short run");
        while start.elapsed() < due {
            std::hint::spin_loop();
        }
        fill(index, &mut body);
        let wall_ns = 1_700_000_000_000_000_000 + index;
        let now = Now { mono_ns: index, wall_ns };
        let before = Instant::now();
        let done = journal.append(meta(), std::iter::once(&body[..]), now);
        let took = before.elapsed().as_nanos() as u64;
        if done.is_ok() {
            appends.saturating_record(took);
            index += 1;
        } else {
            waits += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    (appends, index, waits)
}

/// Minor page faults of this thread.
fn faults() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap_or_default();
    let rest = text.rsplit(") ").next().unwrap_or_default().to_owned();
    rest.split(' ').nth(7).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// CPU time of this thread up to date: a yield makes the kernel count what runs.
fn cpu_ns() -> u64 {
    std::thread::yield_now();
    thread_cpu_ns()
}

fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn drained(design: Design, tick_ms: u64, len: usize, time: Duration, disk: &Path) -> Cell {
    let memory = tempfile::tempdir_in("/dev/shm").expect("a memory-backed folder");
    let data = tempfile::tempdir_in(disk).expect("a folder on the data disk");
    let ring_dir = if design == Design::C { data.path() } else { memory.path() };
    let mut settings = Settings::new(&data.path().join("data"), ring_dir, 1);
    settings.tick_ms = tick_ms;
    settings.direct = design != Design::BBuffered;
    let mut opened = open(&settings).expect("the record opens");
    let handle = opened.drain.handle();
    let before = faults();
    let (appends, entries, waits) = load(&mut opened.journals[0], len, time);
    let faults = faults() - before;
    assert!(opened.drain.stop(), "everything is drained");
    let metrics = handle.metrics();
    let mut next = 0;
    let mut same = true;
    let bad = walk_folder(&settings.data_dir, |_, entry| {
        if entry.meta.kind == Kind::ResponseBody {
            same &= is_body(next, entry.body, len);
            next += 1;
        }
    });
    let keys = public_keys(&settings.data_dir);
    let report = verify_folder(&settings.data_dir, &keys, |_| ()).expect("verify runs");
    let content =
        same && next == entries && bad.is_ok_and(|bad| bad.is_empty()) && report.is_clean();
    Cell {
        appends,
        entries,
        waits,
        faults,
        drain_ns: metrics.cpu_ns,
        mib: metrics.drained_bytes as f64 / (1 << 20) as f64,
        slowest_ns: metrics.slowest_ns,
        content,
    }
}

/// Design A: the mapped file is the segment; it is as long as the run and never wraps.
fn mapped(tick_ms: u64, len: usize, time: Duration, disk: &Path) -> Cell {
    let data = tempfile::tempdir_in(disk).expect("a folder on the data disk");
    let path = data.path().join("segment");
    let bytes = ((time.as_secs_f64() * RATE * 1.4) as u64 + (8 << 20)).next_multiple_of(4096);
    let setup = RingSetup {
        worker: 0,
        ring_bytes: bytes,
        segment_bytes: bytes + 8192,
        stream: [1; 16],
        boot: [0; 16],
        process: 0,
    };
    let made = map::create(&path, &setup, Cursor::start(0, 1));
    let (mut journal, _tail) = made.expect("the segment is mapped");
    let file = File::open(&path).expect("the segment opens");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let sync = std::thread::spawn(move || {
        let mut slowest = 0;
        while !stopped.load(Ordering::Relaxed) {
            let start = Instant::now();
            file.sync_data().expect("the segment syncs");
            slowest = slowest.max(start.elapsed().as_nanos() as u64);
            std::thread::sleep(Duration::from_millis(tick_ms).saturating_sub(start.elapsed()));
        }
        (thread_cpu_ns(), slowest)
    });
    let before = faults();
    let (appends, entries, waits) = load(&mut journal, len, time);
    let faults = faults() - before;
    stop.store(true, Ordering::Relaxed);
    let (drain_ns, slowest_ns) = sync.join().expect("the sync thread ends");
    let image = std::fs::read(&path).expect("the segment reads");
    let mut walk = RingImage::parse(&image).expect("a ring").entries();
    let mut next = 0;
    let mut same = true;
    while let Ok(Some(found)) = walk.step() {
        same &= found.entry().is_some_and(|entry| is_body(next, entry.body, len));
        next += 1;
    }
    let mib = journal.position().0 as f64 / (1 << 20) as f64;
    let content = same && next == entries;
    Cell { appends, entries, waits, faults, drain_ns, mib, slowest_ns, content }
}

fn print(design: Design, tick_ms: u64, len: usize, cell: &Cell) {
    let at = |quantile| cell.appends.value_at_quantile(quantile);
    println!(
        "| {} | {tick_ms} | {len} | {} | {} | {} | {} | {:.1} | {:.2} | {:.1} | {} | {} |",
        design.name(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        cell.faults as f64 / cell.entries.max(1) as f64 * 1_000.0,
        cell.drain_ns as f64 / 1e6 / cell.mib.max(0.001),
        cell.slowest_ns as f64 / 1e6,
        cell.waits,
        if cell.content { "same" } else { "DIFFERS" },
    );
}

/// A ring in memory whose other half is read and released by the caller.
fn bare(bytes: u64) -> (tempfile::TempDir, RingJournal, map::Tail) {
    let dir = tempfile::tempdir_in("/dev/shm").expect("a memory-backed folder");
    let setup = RingSetup {
        worker: 0,
        ring_bytes: bytes,
        segment_bytes: 1 << 40,
        stream: [1; 16],
        boot: [0; 16],
        process: 0,
    };
    let made = map::create(&dir.path().join("ring"), &setup, Cursor::start(0, 1));
    let (journal, tail) = made.expect("a ring");
    (dir, journal, tail)
}

fn empty(tail: &mut map::Tail, scratch: &mut Vec<u8>) {
    scratch.clear();
    let batch = tail.read(usize::MAX, scratch, &mut Vec::new()).expect("whole entries");
    tail.release(batch.end);
}

/// Appends back to back, without a clock between them.
fn full_speed(len: usize, rounds: u32) {
    let (_dir, mut journal, mut tail) = bare(16 << 20);
    let body = vec![0x61; len];
    let mut scratch = Vec::new();
    let (mut spent, mut count) = (0, 0u64);
    for round in 0..rounds {
        let now = Now { mono_ns: 0, wall_ns: u64::from(round) };
        let start = cpu_ns();
        while journal.append(meta(), std::iter::once(&body[..]), now).is_ok() {
            count += 1;
        }
        if round > 0 {
            spent += cpu_ns() - start;
        } else {
            count = 0;
        }
        empty(&mut tail, &mut scratch);
    }
    let each = spent as f64 / count.max(1) as f64;
    println!("append back to back, {len} B: {each:.0} ns CPU, {:.1} GB/s", len as f64 / each);
}

/// Does any of the 4,096 relations of source and target make the copy slow?
fn relations() {
    let (_dir, mut journal, mut tail) = bare(1 << 20);
    let source = vec![0x61; 4096 + 16_384];
    let mut scratch = Vec::new();
    let mut times = Vec::new();
    for shift in 0..4096 {
        let body = &source[shift..shift + 16_384];
        let mut best = u64::MAX;
        for _ in 0..20 {
            let start = Instant::now();
            let done = journal.append(meta(), std::iter::once(body), Now::default());
            best = best.min(start.elapsed().as_nanos() as u64);
            done.expect("an empty ring has room");
            empty(&mut tail, &mut scratch);
        }
        times.push(best);
    }
    times.sort_unstable();
    println!(
        "append of 16 KiB over all 4096 relations of source and target: median {} ns, slowest {} ns",
        times[2048], times[4095]
    );
}

/// Kinds and body bytes of one call of a model: what is recorded of 1 KiB up and 1 KiB back.
const EXCHANGE: [(Kind, usize); 6] = [
    (Kind::Open, 420),
    (Kind::RequestHead, 330),
    (Kind::RequestBody, 1024),
    (Kind::ResponseHead, 280),
    (Kind::ResponseBody, 1024),
    (Kind::Close, 75),
];

/// The same where a rule asks for `record = "meta"`.
const HEADS: [(Kind, usize); 4] =
    [(Kind::RequestHead, 330), (Kind::Decision, 60), (Kind::ResponseHead, 200), (Kind::Close, 75)];

/// What the one drain thread spends on an exchange: at a steady rate over all workers, or with
/// the rings filled as fast as it empties them (`None`).
fn exchanges(
    workers: u32,
    rate: Option<f64>,
    exchange: &[(Kind, usize)],
    time: Duration,
    disk: &Path,
) {
    let memory = tempfile::tempdir_in("/dev/shm").expect("a memory-backed folder");
    let data = tempfile::tempdir_in(disk).expect("a folder on the data disk");
    let settings = Settings::new(&data.path().join("data"), memory.path(), workers);
    let mut opened = open(&settings).expect("the record opens");
    let handle = opened.drain.handle();
    let body = [0x61; 1024];
    let (mut count, mut waits) = (0u64, 0u64);
    let start = Instant::now();
    while start.elapsed() < time {
        let due = rate.map_or(0.0, |rate| count as f64 / rate);
        if start.elapsed().as_secs_f64() < due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        let place = (count % u64::from(workers)) as usize;
        for &(kind, len) in exchange {
            let meta = EntryMeta::new(kind, ConnectionId(1), ExchangeId(u128::from(count)));
            let now = Now { mono_ns: count, wall_ns: 1_700_000_000_000_000_000 + count };
            let body = std::iter::once(&body[..len]);
            while opened.journals[place].append(meta, body.clone(), now).is_err() {
                waits += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        count += 1;
    }
    assert!(opened.drain.stop(), "everything is drained");
    let took = start.elapsed().as_secs_f64();
    let metrics = handle.metrics();
    println!(
        "| {workers} | {} | {:.0} | {:.0} | {:.2} | {:.0} % | {waits} | {:.1} |",
        rate.map_or("as drained".to_owned(), |rate| format!("{rate:.0}/s")),
        count as f64 / took,
        metrics.drained_bytes as f64 / (1 << 20) as f64 / took,
        metrics.cpu_ns as f64 / 1e3 / count as f64,
        metrics.cpu_ns as f64 / 1e7 / took,
        metrics.slowest_ns as f64 / 1e6,
    );
}

fn drain_speed(time: Duration, disk: &Path) {
    println!(
        "| workers | offered | exchanges/s | MiB/s | drain CPU us/exchange | of one core | waits | \
         slowest write ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for exchange in [&HEADS[..], &EXCHANGE] {
        exchanges(1, Some(15_000.0), exchange, time, disk);
    }
    for workers in [1, 8] {
        for rate in [Some(1_000.0), Some(20_000.0), None] {
            exchanges(workers, rate, &EXCHANGE, time, disk);
        }
    }
}

fn verify_speed(disk: &Path, seconds: Duration) {
    let data = tempfile::tempdir_in(disk).expect("a folder on the data disk");
    let mut settings = Settings::new(&data.path().join("data"), data.path(), 1);
    settings.segment_bytes = 64 << 20;
    let mut opened = open(&settings).expect("the record opens");
    load(&mut opened.journals[0], 256, seconds);
    assert!(opened.drain.stop(), "everything is drained");
    let file = |end| settings.data_dir.join(format!("w00-00000000.{end}"));
    let bytes = std::fs::read(file("seg")).expect("the segment reads");
    let proof = std::fs::read(file("proof")).expect("the proof reads");
    let keys = public_keys(&settings.data_dir);
    let start = cpu_ns();
    let report = verify_segment(&bytes, &proof, &Trust { keys: &keys, live: false });
    let took = (cpu_ns() - start) as f64 / 1e9;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    println!(
        "verify, 256 B entries: {:.1} MiB at {:.2} GB/s of CPU time",
        bytes.len() as f64 / (1 << 20) as f64,
        bytes.len() as f64 / took / 1e9
    );
}

fn main() {
    // `cargo test --benches` runs this without `--bench`: a glance that it works.
    let whole = std::env::args().any(|arg| arg == "--bench");
    let seconds = std::env::var("WEIRGATE_BENCH_SECONDS").ok().and_then(|s| s.parse().ok());
    let time = Duration::from_secs_f64(seconds.unwrap_or(if whole { 5.0 } else { 0.1 }));
    let disk =
        std::env::var_os("WEIRGATE_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    if std::env::args().any(|arg| arg == "exchanges") {
        return drain_speed(time, &disk);
    }
    println!(
        "| design | every ms | body B | append p50 ns | p99 | p99.9 | p99.99 | faults per 1000 | \
         drain CPU ms/MiB | slowest sync ms | waits | content |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for design in [Design::A, Design::B, Design::BBuffered, Design::C] {
        for tick_ms in [5, 20] {
            for len in [256, 4096] {
                let cell = match design {
                    Design::A => mapped(tick_ms, len, time, &disk),
                    _ => drained(design, tick_ms, len, time, &disk),
                };
                print(design, tick_ms, len, &cell);
            }
        }
    }
    println!();
    full_speed(256, if whole { 50 } else { 2 });
    full_speed(4096, if whole { 50 } else { 2 });
    if whole {
        relations();
    }
    println!();
    drain_speed(time, &disk);
    verify_speed(&disk, time.min(Duration::from_secs(1)));
}
