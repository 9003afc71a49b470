//! Reading a data folder, of a stopped or a running gateway: its entries, and whether it is whole.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::{segment_name, segments};
use super::home::{is_live, ring_paths};
use super::recover::tombs_path;
use crate::record::reader::Entries;
use crate::record::ring::{DATA_START, RingImage};
use crate::record::segment::{Entry, EntryError, SegmentHeader};
use crate::record::tree::Digest;
use crate::record::verify::{Finding, SegmentReport, Trust, verify_chain, verify_segment};

/// What [`verify_folder`] brings.
#[derive(Clone, Debug, Default)]
pub struct FolderReport {
    /// Each segment with its file name, by worker and number.
    pub segments: Vec<(String, SegmentReport)>,
    /// What is wrong with files of tombstones.
    pub tombs: Vec<(String, Finding)>,
    /// Rings that are still there.
    pub rings: Vec<RingReport>,
    /// A gateway was writing meanwhile.
    pub live: bool,
}

/// What stands in a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingReport {
    /// The ring file.
    pub path: PathBuf,
    /// Good entries that are in no segment yet.
    pub entries: u64,
    /// Where, in the stream, bytes stand that are no entry.
    pub bad: Option<(u64, u64, EntryError)>,
    /// It cannot be read at all.
    pub unreadable: bool,
}

impl FolderReport {
    /// Every finding with the file that it is in.
    pub fn findings(&self) -> impl Iterator<Item = (&str, &Finding)> {
        let segments = self.segments.iter().flat_map(|(name, report)| {
            report.findings.iter().map(move |finding| (name.as_str(), finding))
        });
        segments.chain(self.tombs.iter().map(|(name, finding)| (name.as_str(), finding)))
    }

    /// Whether nothing is wrong. A ring that is written meanwhile may look torn.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let rings = self.rings.iter().all(|ring| ring.bad.is_none() && !ring.unreadable);
        self.findings().next().is_none() && (rings || self.live)
    }
}

/// Verifies every segment, the chain of each worker, and what stands in rings.
///
/// Memory: one segment at a time. Cost: one CRC32C and one SHA-256 pass. `progress` hears the
/// name of each segment before it is read.
///
/// # Errors
/// A folder or file cannot be read.
pub fn verify_folder(
    dir: &Path,
    keys: &[Digest],
    mut progress: impl FnMut(&str),
) -> io::Result<FolderReport> {
    let live = is_live(dir);
    let trust = Trust { keys, live };
    let mut report = FolderReport { live, ..FolderReport::default() };
    let found = segments(dir)?;
    let mut workers: Vec<u32> = found.iter().map(|segment| segment.0).collect();
    workers.dedup();
    for worker in workers {
        let mut names = Vec::new();
        let mut reports = Vec::new();
        for (_, number) in found.iter().filter(|segment| segment.0 == worker) {
            let name = segment_name(worker, *number);
            progress(&name);
            // The proof first: the segment may be longer than it says, never shorter.
            let proof = read_or_empty(&dir.join(format!("{name}.proof")))?;
            let file = dir.join(format!("{name}.seg"));
            let bytes = match std::fs::read(&file) {
                // Retention was faster.
                Err(e) if live && e.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            names.push(name);
            reports.push(verify_segment(&bytes, &proof, &trust));
        }
        let tombs = tombs_path(dir, worker);
        let name = tombs.file_name().map(|name| name.to_string_lossy().into_owned());
        let wrong = verify_chain(&mut reports, &read_or_empty(&tombs)?, &trust);
        report.tombs.extend(wrong.into_iter().map(|f| (name.clone().unwrap_or_default(), f)));
        report.segments.extend(names.into_iter().zip(reports));
    }
    for path in ring_paths(dir) {
        let Ok(bytes) = read_ring(&path) else { continue };
        report.rings.push(check_ring(path, &bytes));
    }
    Ok(report)
}

fn check_ring(path: PathBuf, bytes: &[u8]) -> RingReport {
    let mut report = RingReport { path, entries: 0, bad: None, unreadable: false };
    let Ok(image) = RingImage::parse(bytes) else {
        report.unreadable = true;
        return report;
    };
    let mut walk = image.entries();
    loop {
        match walk.step() {
            Ok(Some(_)) => report.entries += 1,
            Ok(None) => return report,
            Err(e) => {
                let at = walk.cursor();
                report.bad = Some((at.position.0, at.sequence, e));
                return report;
            }
        }
    }
}

fn read_or_empty(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

/// A ring, of a running gateway too.
///
/// What the drain wipes behind its cursor while the file is read would look like the end of the
/// entries. So the header is read last: what is wiped by then lies before the cursor that it names.
pub(in crate::control) fn read_ring(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    (&file).read_to_end(&mut bytes)?;
    let Some(header) = bytes.get_mut(..DATA_START) else { return Ok(bytes) };
    let mut again = [0; DATA_START];
    for _ in 0..MOVING_LOOKS {
        file.read_exact_at(header, 0)?;
        file.read_exact_at(&mut again, 0)?;
        // Neither read caught the drain at its cursors.
        if *header == again {
            break;
        }
    }
    Ok(bytes)
}

/// A segment, and whether a bad entry in it is one that was being written; `written`: somebody
/// may write to it meanwhile. An entry that stays bad is damage.
fn read_segment(path: &Path, written: bool) -> io::Result<(Vec<u8>, bool)> {
    let mut bytes = std::fs::read(path)?;
    let mut bad = if written { first_bad(&bytes) } else { None };
    for _ in 0..MOVING_LOOKS {
        if bad.is_none() {
            break;
        }
        std::thread::sleep(MOVING_PAUSE);
        bytes = std::fs::read(path)?;
        let now = first_bad(&bytes);
        if now != bad {
            return Ok((bytes, true));
        }
        bad = now;
    }
    Ok((bytes, false))
}

/// Where the first bad entry of a segment begins.
fn first_bad(bytes: &[u8]) -> Option<u64> {
    let header = SegmentHeader::of_file(bytes).ok()?;
    Entries::new(bytes, &header).find_map(|entry| Some(entry.err()?.offset))
}

/// How often a bad entry of a running gateway is looked at, and how long apart.
const MOVING_LOOKS: u32 = 20;
const MOVING_PAUSE: Duration = Duration::from_millis(10);

/// Calls `each` with every entry of the folder: worker by worker, each in its order, those that
/// are only in a ring last. Returns the segments whose walk ended at a bad entry; an entry that a
/// running gateway is about to write is none.
///
/// # Errors
/// The folder cannot be read.
pub fn walk_folder(dir: &Path, mut each: impl FnMut(u32, &Entry<'_>)) -> io::Result<Vec<String>> {
    let live = is_live(dir);
    // Rings before segments: what moves meanwhile is then seen twice, not missed.
    let rings: Vec<Vec<u8>> =
        ring_paths(dir).iter().filter_map(|path| read_ring(path).ok()).collect();
    let images: Vec<RingImage<'_>> =
        rings.iter().filter_map(|bytes| RingImage::parse(bytes).ok()).collect();
    let found = segments(dir)?;
    let mut workers: Vec<u32> = found.iter().map(|segment| segment.0).collect();
    workers.extend(images.iter().map(|image| image.setup().worker));
    workers.sort_unstable();
    workers.dedup();
    let mut bad = Vec::new();
    for worker in workers {
        let mut next = 0;
        let mut numbers =
            found.iter().filter(|segment| segment.0 == worker).map(|segment| segment.1).peekable();
        while let Some(number) = numbers.next() {
            let name = segment_name(worker, number);
            let path = dir.join(format!("{name}.seg"));
            let written = live && numbers.peek().is_none();
            let (bytes, moving) = match read_segment(&path, written) {
                // Retention was faster.
                Err(e) if live && e.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            let Ok(header) = SegmentHeader::of_file(&bytes) else {
                bad.push(name);
                continue;
            };
            for entry in Entries::new(&bytes, &header) {
                match entry {
                    Ok(entry) => {
                        each(worker, &entry);
                        next = entry.sequence + 1;
                    }
                    Err(_) if moving => {}
                    Err(_) => bad.push(name.clone()),
                }
            }
        }
        for image in images.iter().filter(|image| image.setup().worker == worker) {
            let mut walk = image.entries();
            while let Ok(Some(found)) = walk.step() {
                if let Some(entry) = found.entry()
                    && entry.sequence >= next
                {
                    each(worker, &entry);
                }
            }
        }
    }
    Ok(bad)
}
