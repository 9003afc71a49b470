//! Proving a record: entries, blocks, signatures, and the chain of segments of each worker.

use crate::record::Kind;
use crate::record::gap::Gap;
use crate::record::proof::{self, Checkpoint, Leaf, Record, Records, State};
use crate::record::reader::Entries;
use crate::record::segment::{ENTRIES_START, EntryError, HEADER_LEN, HeaderError, SegmentHeader};
use crate::record::tree::{self, Digest, Frontier};

/// Which file of a segment a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The segment file.
    Segment,
    /// The proof file beside it.
    Proof,
}

/// One thing that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub place: Place,
    /// Where in it.
    pub offset: u64,
    /// The first entry that it touches, where one can be named.
    pub sequence: Option<u64>,
    /// What is wrong.
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// Neither copy of the header can be read.
    Header(HeaderError),
    /// One copy of the header is damaged.
    HeaderCopy,
    /// No entry where one must be.
    Entry(EntryError),
    /// Bytes behind the last entry of a segment that are neither zero nor an entry.
    Tail,
    /// The file ends before, or goes on behind, what the closing checkpoint says.
    Length,
    /// The bytes of a block are not those that were hashed.
    Block,
    /// No record of the proof file.
    Record,
    /// Blocks do not follow each other.
    BlockOrder,
    /// A checkpoint says something else than segment and blocks.
    Checkpoint,
    /// A checkpoint that no trusted key signed.
    Signature,
    /// No checkpoint at all.
    Unproved,
    /// Segments are missing before this one.
    Missing,
    /// Not the root that the segment before ended with.
    Chain,
    /// Not the sequence that the segment before ended with.
    ChainSequence,
    /// A segment that has a follower was never closed.
    NotClosed,
}

impl What {
    /// What to tell an operator.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Header(HeaderError::Short) => "the file is too short for a segment header",
            Self::Header(HeaderError::Magic) => "this is no segment file",
            Self::Header(HeaderError::Version(_)) => "written by a version this one cannot read",
            Self::Header(HeaderError::Crc) => "both copies of the segment header are damaged",
            Self::HeaderCopy => "one copy of the segment header is damaged",
            Self::Entry(error) => error.text(),
            Self::Tail => "bytes behind the last entry are not zero",
            Self::Length => "the file's length is not what the closing checkpoint says",
            Self::Block => "the bytes are not those that were hashed",
            Self::Record => "no leaf and no checkpoint",
            Self::BlockOrder => "leaves do not follow each other",
            Self::Checkpoint => "a checkpoint contradicts segment or leaves",
            Self::Signature => "a checkpoint is not signed by a trusted key",
            Self::Unproved => "no checkpoint covers the segment",
            Self::Missing => "segments before this one are missing, without a tombstone",
            Self::Chain => "not the root that the segment before ended with",
            Self::ChainSequence => "entries are missing between this segment and the one before",
            Self::NotClosed => "a later segment exists, but this one was never closed",
        }
    }
}

/// What verifying one segment brought.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// Its header, where one could be read.
    pub header: Option<SegmentHeader>,
    /// Good entries.
    pub entries: u64,
    /// Bytes up to behind the last good entry.
    pub bytes: u64,
    /// Bytes of `bytes` that the last good checkpoint covers.
    pub proved: u64,
    /// Good checkpoints.
    pub checkpoints: u64,
    /// How the last checkpoint left it.
    pub state: State,
    /// Bytes that a start cut off behind a torn tail.
    pub dropped: u64,
    /// Sequence that must follow.
    pub next_sequence: u64,
    /// Time of the last entry, 0 without.
    pub last_ns: u64,
    /// What its gap entries say was not recorded.
    pub gap: Gap,
    /// Gap entries, and the sequence of the first of them.
    pub gaps: Option<(u64, u64)>,
    /// Root over its leaves.
    pub root: Digest,
    /// What is wrong, by offset; empty: nothing.
    pub findings: Vec<Finding>,
}

impl SegmentReport {
    fn new() -> Self {
        Self {
            header: None,
            entries: 0,
            bytes: 0,
            proved: 0,
            checkpoints: 0,
            state: State::Open,
            dropped: 0,
            next_sequence: 0,
            last_ns: 0,
            gap: Gap::default(),
            gaps: None,
            root: Frontier::new().root(),
            findings: Vec::new(),
        }
    }

    fn find(&mut self, place: Place, offset: u64, sequence: Option<u64>, what: What) {
        self.findings.push(Finding { place, offset, sequence, what });
    }
}

/// What the verifier takes as given.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Public keys that may sign.
    pub keys: &'a [Digest],
    /// A gateway is writing: what lies behind the last checkpoint of an open segment may move.
    pub live: bool,
}

/// Verifies one segment file with its proof file.
///
/// Cost: one CRC32C and one SHA-256 pass over the bytes.
#[must_use]
pub fn verify_segment(bytes: &[u8], proof: &[u8], trust: &Trust<'_>) -> SegmentReport {
    let mut report = SegmentReport::new();
    let header = match SegmentHeader::of_file(bytes) {
        Ok(header) => header,
        Err(e) => {
            report.find(Place::Segment, 0, None, What::Header(e));
            return report;
        }
    };
    for copy in 0..2usize {
        let read = SegmentHeader::decode(bytes.get(copy * HEADER_LEN..).unwrap_or_default());
        if read.as_ref() != Ok(&header) {
            report.find(Place::Segment, (copy * HEADER_LEN) as u64, None, What::HeaderCopy);
        }
    }
    // Where entries begin, with their sequences; the last is where the next one would.
    let mut starts = Vec::new();
    let mut walk = Entries::new(bytes, &header);
    let mut bad = None;
    loop {
        let (offset, sequence) = (walk.offset(), walk.sequence());
        starts.push((offset, sequence));
        match walk.next() {
            Some(Ok(entry)) => {
                report.entries += 1;
                if entry.meta.kind == Kind::Gap {
                    report.gap.add(&Gap::read(entry.body));
                    let (count, first) = report.gaps.unwrap_or((0, sequence));
                    report.gaps = Some((count + 1, first));
                }
            }
            Some(Err(e)) => {
                bad = Some(e);
                break;
            }
            None => break,
        }
    }
    // A file that ends within its headers has no entries, and no more bytes than it has.
    report.bytes = walk.offset().min(bytes.len() as u64);
    report.next_sequence = walk.sequence();
    report.last_ns = walk.time_ns();
    check_proof(&mut report, bytes, proof, &header, &starts, trust);
    let moving = trust.live && report.state == State::Open && report.bytes >= report.proved;
    match bad {
        Some(_) if moving => {}
        Some(e) => {
            report.find(Place::Segment, e.offset, Some(e.sequence), What::Entry(e.what));
        }
        None => check_tail(&mut report, bytes, moving),
    }
    report.findings.sort_by_key(|finding| (finding.place == Place::Proof, finding.offset));
    report.header = Some(header);
    report
}

fn check_tail(report: &mut SegmentReport, bytes: &[u8], moving: bool) {
    let end = usize::try_from(report.bytes).unwrap_or(usize::MAX);
    let rest = bytes.get(end..).unwrap_or_default();
    let (sequence, offset) = (Some(report.next_sequence), report.bytes);
    if report.state == State::Open {
        if !moving && let Some(place) = rest.iter().position(|byte| *byte != 0) {
            report.find(Place::Segment, offset + place as u64, sequence, What::Tail);
        }
        if report.bytes < report.proved {
            report.find(Place::Segment, offset, sequence, What::Length);
        }
    } else if !rest.is_empty() || report.bytes != report.proved {
        report.find(Place::Segment, offset, sequence, What::Length);
    }
}

/// Walks leaves and checkpoints beside the segment's bytes.
fn check_proof(
    report: &mut SegmentReport,
    bytes: &[u8],
    proof: &[u8],
    header: &SegmentHeader,
    starts: &[(u64, u64)],
    trust: &Trust<'_>,
) {
    let mut frontier = Frontier::new();
    let mut end = 0u64;
    let mut walk = Records::new(proof);
    loop {
        let offset = walk.offset();
        // The closing checkpoint is the last word.
        let closed = report.state != State::Open;
        match walk.next() {
            None => break,
            // The last record may be half written.
            Some(Err(_)) if trust.live && !closed => break,
            Some(Err(_)) => {
                report.find(Place::Proof, offset, None, What::Record);
                break;
            }
            Some(Ok(_)) if closed => {
                report.find(Place::Proof, offset, None, What::Record);
                break;
            }
            Some(Ok(Record::Leaf(leaf))) => {
                let sequence = sequence_at(starts, leaf.offset);
                if !follows(&leaf, &frontier, end) {
                    report.find(Place::Proof, offset, sequence, What::BlockOrder);
                    break;
                }
                if block(bytes, &leaf).is_none_or(|block| tree::leaf(block) != leaf.digest) {
                    report.find(Place::Segment, leaf.offset, sequence, What::Block);
                }
                end = leaf.offset + u64::from(leaf.len);
                frontier.push(leaf.digest);
            }
            Some(Ok(Record::Checkpoint(checkpoint, raw))) => {
                let sequence = starts.binary_search_by_key(&checkpoint.end, |start| start.0);
                let sequence = sequence.ok().and_then(|at| starts.get(at)).map(|start| start.1);
                let right = agrees(&checkpoint, header, &frontier, end)
                    && sequence.is_none_or(|sequence| sequence == checkpoint.next_sequence);
                if !right {
                    report.find(Place::Proof, offset, sequence, What::Checkpoint);
                } else if !signed(&raw, header, trust) {
                    report.find(Place::Proof, offset, sequence, What::Signature);
                } else {
                    report.checkpoints += 1;
                    report.proved = checkpoint.end;
                    report.state = checkpoint.state;
                    report.dropped = checkpoint.dropped;
                }
            }
        }
    }
    report.root = frontier.root();
    // A start that died between header and first checkpoint leaves an empty, unproved segment.
    if report.checkpoints == 0 && report.entries > 0 && !trust.live {
        report.find(Place::Proof, 0, Some(header.first_sequence), What::Unproved);
    }
}

fn follows(leaf: &Leaf, frontier: &Frontier, end: u64) -> bool {
    let sized = if leaf.index == 0 {
        u64::from(leaf.len) == ENTRIES_START
    } else {
        (1..=proof::BLOCK_MAX).contains(&(leaf.len as usize))
    };
    leaf.index == frontier.leaves() && leaf.offset == end && sized
}

fn block<'a>(bytes: &'a [u8], leaf: &Leaf) -> Option<&'a [u8]> {
    let start = usize::try_from(leaf.offset).ok()?;
    bytes.get(start..)?.get(..leaf.len as usize)
}

fn agrees(checkpoint: &Checkpoint, header: &SegmentHeader, tree: &Frontier, end: u64) -> bool {
    checkpoint.id == header.id
        && checkpoint.number == header.number
        && checkpoint.worker == header.worker
        && checkpoint.previous_root == header.previous_root
        && checkpoint.leaves == tree.leaves()
        && checkpoint.end == end
        && checkpoint.root == tree.root()
}

fn signed(raw: &[u8; proof::CHECKPOINT_LEN], header: &SegmentHeader, trust: &Trust<'_>) -> bool {
    trust.keys.contains(&header.key) && proof::is_signed(raw, &header.key)
}

/// The sequence of the first entry that begins at or behind `offset`.
fn sequence_at(starts: &[(u64, u64)], offset: u64) -> Option<u64> {
    let at = starts.partition_point(|start| start.0 < offset);
    starts.get(at).map(|start| start.1)
}

/// Verifies that the segments of one worker follow each other; `reports` are in the order of
/// their numbers, `tombs` is the worker's file of tombstones.
///
/// Adds what it finds to the reports; what is wrong with the tombstones is returned.
pub fn verify_chain(
    reports: &mut [SegmentReport],
    tombs: &[u8],
    trust: &Trust<'_>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let buried = read_tombs(tombs, trust, &mut findings);
    let mut before: Option<End> = None;
    let last = reports.len().saturating_sub(1);
    for (index, report) in reports.iter_mut().enumerate() {
        let Some(header) = report.header.clone() else {
            // What cannot be read cannot be followed; it is a finding already.
            before = None;
            continue;
        };
        let before_it = match before.take() {
            Some(end) => Some(end),
            None if index == 0 => buried_before(&buried, header.number),
            None => None,
        };
        let wrong = match &before_it {
            Some(end) if end.number + 1 != header.number => Some(What::Missing),
            Some(end) if end.root != header.previous_root => Some(What::Chain),
            Some(end) if end.next_sequence != header.first_sequence => Some(What::ChainSequence),
            Some(_) => None,
            None if index > 0 => None,
            None if header.number != 0 => Some(What::Missing),
            None if header.previous_root != [0; 32] => Some(What::Chain),
            None => None,
        };
        if let Some(what) = wrong {
            report.find(Place::Segment, 0, Some(header.first_sequence), what);
        }
        if index < last && report.state == State::Open {
            let sequence = Some(report.next_sequence);
            report.find(Place::Proof, report.bytes, sequence, What::NotClosed);
        }
        before = Some(End {
            number: header.number,
            root: report.root,
            next_sequence: report.next_sequence,
        });
    }
    findings
}

/// How a segment ended.
#[derive(Clone, Debug)]
struct End {
    number: u64,
    root: Digest,
    next_sequence: u64,
}

fn read_tombs(bytes: &[u8], trust: &Trust<'_>, findings: &mut Vec<Finding>) -> Vec<End> {
    let mut ends: Vec<End> = Vec::new();
    let mut walk = Records::new(bytes);
    loop {
        let offset = walk.offset();
        let mut wrong = |what| {
            findings.push(Finding { place: Place::Proof, offset, sequence: None, what });
        };
        match walk.next() {
            None => return ends,
            Some(Ok(Record::Checkpoint(checkpoint, raw))) => {
                if !trust.keys.iter().any(|key| proof::is_signed(&raw, key)) {
                    wrong(What::Signature);
                }
                if let Some(before) = ends.last() {
                    if before.number + 1 != checkpoint.number {
                        wrong(What::Missing);
                    } else if before.root != checkpoint.previous_root {
                        wrong(What::Chain);
                    }
                }
                ends.push(End {
                    number: checkpoint.number,
                    root: checkpoint.root,
                    next_sequence: checkpoint.next_sequence,
                });
            }
            Some(_) => {
                wrong(What::Record);
                return ends;
            }
        }
    }
}

/// The tombstone of the segment before `number`. A segment may stand although it has a tombstone:
/// the process died between the two.
fn buried_before(buried: &[End], number: u64) -> Option<End> {
    buried.iter().find(|end| end.number + 1 == number).or(buried.last()).cloned()
}
