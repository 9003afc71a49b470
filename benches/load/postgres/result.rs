//! A big result, read by a bare client that drops it: throughput, and a proxy that stays small.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Client, Target};
use crate::Outcome;
use crate::drive::{self, Sample};
use crate::process::{Cpu, Memory};

/// Bytes of the one value of a row.
const VALUE_LEN: u64 = 1_000;
/// How often the proxy's memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Asks once and reads all. The memory of the sample is the most that was seen.
///
/// # Errors
/// Another number of rows, or too few bytes in them.
pub(crate) async fn cell(rows: u32, target: &Target, pid: Option<u32>) -> Outcome<Option<Sample>> {
    let target = target.clone();
    let look = || pid.map(Memory::of).unwrap_or_default();
    let mut client = tokio::task::spawn_blocking(move || {
        Client::connect(&target).map_err(|error| error.to_string())
    })
    .await??;
    let statement = format!("select repeat('x', {VALUE_LEN}) from generate_series(1, {rows})");
    let memory_before = look();
    let before = pid.map(Cpu::of);
    let start = Instant::now();
    let mut asked = tokio::task::spawn_blocking(move || {
        client.ask(&statement).map_err(|error| error.to_string())
    });
    let mut memory = memory_before;
    let answer = loop {
        tokio::select! {
            answer = &mut asked => break answer??,
            () = tokio::time::sleep(LOOK) => {
                let seen = look();
                if seen.rss > memory.rss {
                    memory = seen;
                }
            }
        }
    };
    let wall = start.elapsed();
    let cpu_ns = match (before, pid.map(Cpu::of)) {
        (Some(before), Some(after)) => after.since(&before),
        _ => BTreeMap::new(),
    };
    if answer.rows != u64::from(rows) || answer.bytes < u64::from(rows) * VALUE_LEN {
        return Err(format!("not the whole result: {answer:?}").into());
    }
    let count = f64::from(u32::try_from(answer.bytes / 1_000)?) * 1e3;
    let (latency, first) = (drive::histogram()?, drive::histogram()?);
    Ok(Some(Sample { count, wall, cpu_ns, latency, first, memory_before, memory }))
}
