//! Retention: the oldest closed segments go, a tombstone stays.

use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::files::{segment_name, segments, sync_dir};
use super::recover::{closing_checkpoint, tombs_path};
use crate::record::proof::{CHECKPOINT_LEN, Record, Records};

/// How long and how much to keep. `None`: without end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments that were closed longer ago than this go.
    pub age_s: Option<u64>,
    /// Above this total, the oldest go.
    pub bytes: Option<u64>,
}

/// What stands in the data folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes of all segment files.
    pub bytes: u64,
    /// How many there are.
    pub segments: u64,
    /// How many were deleted by this call.
    pub deleted: u64,
    /// When the oldest closed one was closed, wall nanoseconds; 0 without.
    pub oldest_ns: u64,
}

struct Closed {
    worker: u32,
    number: u64,
    bytes: u64,
    wall_ns: u64,
}

/// Deletes what retention does not keep: closed and checkpointed segments only, per worker from
/// the lowest number up, over the workers by age. A damaged segment stays, and so does what follows it.
pub(super) fn retain(dir: &Path, keep: Retention, now_ns: u64) -> io::Result<Kept> {
    let mut kept = Kept::default();
    let mut closed = Vec::new();
    let mut blocked = None;
    for (worker, number) in segments(dir)? {
        let path = dir.join(format!("{}.seg", segment_name(worker, number)));
        let bytes = std::fs::metadata(&path)?.len();
        kept.bytes += bytes;
        kept.segments += 1;
        if blocked == Some(worker) {
            continue;
        }
        match closing_checkpoint(dir, worker, number) {
            Some(checkpoint) => {
                closed.push(Closed { worker, number, bytes, wall_ns: checkpoint.wall_ns });
            }
            None => blocked = Some(worker),
        }
    }
    let mut queues: BTreeMap<u32, VecDeque<Closed>> = BTreeMap::new();
    for one in closed {
        queues.entry(one.worker).or_default().push_back(one);
    }
    loop {
        let fronts = queues.values_mut().filter(|queue| !queue.is_empty());
        let oldest = fronts.min_by_key(|queue| queue.front().map(|one| one.wall_ns));
        let Some((queue, one)) = oldest.and_then(|queue| queue.pop_front().map(|one| (queue, one)))
        else {
            break;
        };
        let old = keep.age_s.is_some_and(|age| {
            one.wall_ns.saturating_add(age.saturating_mul(1_000_000_000)) < now_ns
        });
        if !old && keep.bytes.is_none_or(|most| kept.bytes <= most) {
            kept.oldest_ns = one.wall_ns;
            queue.push_front(one);
            break;
        }
        bury(dir, one.worker, one.number)?;
        kept.bytes = kept.bytes.saturating_sub(one.bytes);
        kept.segments = kept.segments.saturating_sub(1);
        kept.deleted += 1;
    }
    Ok(kept)
}

/// Tombstone first, then the files: a death between leaves both, which verify accepts.
fn bury(dir: &Path, worker: u32, number: u64) -> io::Result<()> {
    let name = segment_name(worker, number);
    let proof = std::fs::read(dir.join(format!("{name}.proof")))?;
    let start = proof.len().saturating_sub(CHECKPOINT_LEN);
    let stone = proof.get(start..).unwrap_or_default();
    let path = tombs_path(dir, worker);
    let standing = std::fs::read(&path).unwrap_or_default();
    let already = Records::new(&standing).map_while(Result::ok).any(
        |record| matches!(record, Record::Checkpoint(checkpoint, _) if checkpoint.number == number),
    );
    if !already {
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(stone)?;
        file.sync_all()?;
    }
    sync_dir(dir)?;
    std::fs::remove_file(dir.join(format!("{name}.seg")))?;
    std::fs::remove_file(dir.join(format!("{name}.proof")))?;
    sync_dir(dir)
}
