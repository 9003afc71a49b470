//! One run of `pgbench -S`, and what it told of itself.
//!
//! pgbench tells each second how many transactions it did in it. The first second warms up; at the
//! end of it and of the last one the proxy's CPU is read. So connecting and logging in, which cost
//! more than a hundred transactions, are in neither figure.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{DATABASE, Target};
use crate::Outcome;
use crate::args::Timing;
use crate::drive::{self, Sample};
use crate::process::{Cpu, Memory, Running, pinned};
use crate::rows::Mode;

/// How often it is looked whether pgbench told something.
const LOOK: Duration = Duration::from_millis(2);
/// How much longer than its time it may take: connects, and a machine that does other things.
const OVER_MAX: Duration = Duration::from_secs(20);
/// Share of the transactions whose latency it writes down.
const SAMPLED: &str = "0.1";

/// A second, as pgbench told it.
struct Second {
    /// Since 1970.
    end: Duration,
    per_second: f64,
}

/// Runs one cell. `None` when nothing was done in the measured time.
///
/// # Errors
/// pgbench fails, or tells what cannot be read.
pub(crate) async fn cell(
    (mode, clients): (Mode, usize),
    program: &Path,
    core: usize,
    target: &Target,
    pid: Option<u32>,
    plan: &Timing,
) -> Outcome<Option<Sample>> {
    let directory = tempfile::Builder::new().prefix("weirgate-bench-pgbench-").tempdir()?;
    let at = directory.path().to_owned();
    let seconds = plan.warm.saturating_add(plan.measure);
    let mut command = pinned(program, core, None);
    command
        .args(["-n", "-S", "-P", "1", "--progress-timestamp", "-M", mode.name()])
        .args(["-c", &clients.to_string(), "-T", &seconds.as_secs().to_string()])
        .args(["-l", "--sampling-rate", SAMPLED, "--log-prefix"])
        .arg(at.join("latency"))
        .args(["-h", &target.address.ip().to_string()])
        .args(["-p", &target.address.port().to_string()])
        .args(["-U", target.user, DATABASE])
        .env("PGPASSWORD", &target.password)
        .env("PGSSLMODE", "disable")
        .env("PGGSSENCMODE", "disable");
    let mut run = Running::spawn(command, at.join("told"), vec![directory])?;

    let deadline = Instant::now() + seconds + OVER_MAX;
    let read = || (pid.map(Cpu::of), pid.map(Memory::of).unwrap_or_default());
    let mut told = Vec::new();
    let mut first = None;
    let mut last = None;
    let ended = loop {
        let ended = run.ended()?;
        let all = progress(&run.log());
        if all.len() > told.len() {
            last = Some(read());
            if told.is_empty() {
                first = Some(read());
            }
            told = all;
        }
        if let Some(ended) = ended {
            break ended;
        }
        if Instant::now() > deadline {
            return Err(format!("pgbench does not end: {}", run.log_tail()).into());
        }
        tokio::time::sleep(LOOK).await;
    };
    if !ended.success() {
        return Err(format!("pgbench: {}", run.log_tail()).into());
    }
    let (Some((before, memory_before)), Some((after, memory))) = (first, last) else {
        return Err(format!("pgbench told no progress: {}", run.log_tail()).into());
    };
    let Some((count, wall, from)) = measured(&told) else { return Ok(None) };
    let cpu_ns = match (before, after) {
        (Some(before), Some(after)) => after.since(&before),
        _ => BTreeMap::new(),
    };
    let latency = latencies(&at, from)?;
    let first = drive::histogram()?;
    Ok(Some(Sample { count, wall, cpu_ns, latency, first, memory_before, memory }))
}

/// The whole lines like `progress: 1795821327.638 s, 12522.7 tps, lat 0.582 ms stddev 0.970, ...`.
fn progress(told: &str) -> Vec<Second> {
    let whole = told.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let read = |line: &str| {
        let (end, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
        let per_second = rest.split_once(" tps")?.0.parse().ok()?;
        Some(Second { end: Duration::try_from_secs_f64(end.parse().ok()?).ok()?, per_second })
    };
    whole.lines().filter_map(read).collect()
}

/// Transactions after the first second, the time they took, and when that began.
fn measured(told: &[Second]) -> Option<(f64, Duration, Duration)> {
    let (from, rest) = told.split_first()?;
    let mut count = 0.0;
    let mut end = from.end;
    for second in rest {
        count += second.per_second * second.end.saturating_sub(end).as_secs_f64();
        end = second.end;
    }
    (count > 0.0).then_some((count, end.saturating_sub(from.end), from.end))
}

/// The latencies that were written down since `from`: client, number, us, script, seconds and
/// microseconds since 1970.
fn latencies(directory: &Path, from: Duration) -> Outcome<Histogram<u64>> {
    let mut all = drive::histogram()?;
    for file in fs::read_dir(directory)?.flatten() {
        if !file.file_name().as_encoded_bytes().starts_with(b"latency") {
            continue;
        }
        for line in fs::read_to_string(file.path())?.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, _, took, _, seconds, micros, ..] = fields.as_slice() else {
                return Err(format!("pgbench's log says `{line}`").into());
            };
            let ended =
                Duration::from_secs(seconds.parse()?) + Duration::from_micros(micros.parse()?);
            if ended > from {
                all.saturating_record(took.parse::<u64>()?.saturating_mul(1_000));
            }
        }
    }
    Ok(all)
}
