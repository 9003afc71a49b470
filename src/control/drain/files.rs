//! One segment file with its proof file, written to the end, block by block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::signature::Ed25519KeyPair;

use super::storage::{Files, Storage};
use crate::record::Kind;
use crate::record::proof::{BLOCK_MAX, Checkpoint, LEAF_LEN, Leaf, Record, Records, State};
use crate::record::reader::Entries;
use crate::record::segment::{self, ENTRIES_START, KIND_PLACE, SegmentHeader};
use crate::record::tree::{Digest, Frontier, LeafHasher};
use crate::runtime::map::preallocate;

/// Sectors are at most this; O_DIRECT wants offsets, lengths and memory aligned to them.
const PAGE: usize = 4096;
/// Most new bytes of one write.
pub(super) const WRITE_MAX: usize = 1 << 20;

/// `w<worker>-<number>`, without the ending.
#[must_use]
pub fn segment_name(worker: u32, number: u64) -> String {
    format!("w{worker:02}-{number:08}")
}

/// Worker and number of a segment's file name.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<(u32, u64)> {
    let (worker, number) = name.strip_prefix('w')?.strip_suffix(".seg")?.split_once('-')?;
    Some((worker.parse().ok()?, number.parse().ok()?))
}

/// The segments of `dir`, by worker and number.
///
/// # Errors
/// The folder cannot be read.
pub fn segments(dir: &Path) -> io::Result<Vec<(u32, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(parse_segment_name));
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes what was created, renamed or removed in `dir` last.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A buffer whose bytes begin on a page, without unsafe: it skips to the first such byte.
#[derive(Debug, Default)]
struct Aligned {
    bytes: Vec<u8>,
    skip: usize,
}

impl Aligned {
    /// With room for `len` bytes.
    fn new(len: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(len + 2 * PAGE);
        let skip = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        bytes.resize(skip, 0);
        Self { bytes, skip }
    }

    fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.skip)
    }

    /// Keeps the first `len` bytes; what follows is appended to the vector.
    fn keep(&mut self, len: usize) -> &mut Vec<u8> {
        self.bytes.truncate(self.skip + len);
        &mut self.bytes
    }

    fn slice(&self) -> &[u8] {
        self.bytes.get(self.skip..).unwrap_or_default()
    }

    /// Moves the bytes from `from` on to the front and forgets the rest.
    fn advance(&mut self, from: usize, len: usize) {
        let start = self.skip + from;
        self.bytes.copy_within(start..start + len, self.skip);
        self.keep(len);
    }

    /// Whole pages: the bytes with zeroes behind them.
    fn pages(&mut self) -> &[u8] {
        let whole = self.len().next_multiple_of(PAGE);
        self.bytes.resize(self.skip + whole, 0);
        // A vector that had to grow begins elsewhere.
        let skip = self.bytes.as_ptr().align_offset(PAGE).min(PAGE);
        if skip != self.skip {
            self.bytes.resize(whole + PAGE, 0);
            let skip = self.bytes.as_ptr().align_offset(PAGE).min(PAGE);
            self.bytes.copy_within(self.skip..self.skip + whole, skip);
            self.bytes.truncate(skip + whole);
            self.skip = skip;
        }
        self.slice()
    }
}

/// How a segment file is written.
#[derive(Debug)]
struct Disk {
    file: File,
    /// O_DIRECT | O_DSYNC; else buffered, with fdatasync.
    direct: bool,
    storage: Arc<dyn Storage>,
}

impl Disk {
    fn open(path: &Path, storage: &Arc<dyn Storage>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let direct = options
            .clone()
            .custom_flags(libc::O_DIRECT | libc::O_DSYNC | libc::O_NOFOLLOW)
            .open(path);
        match direct {
            Ok(file) => Ok(Self { file, direct: true, storage: Arc::clone(storage) }),
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                warn_buffered(path);
                Self::buffered(path, storage)
            }
            Err(e) => Err(e),
        }
    }

    fn buffered(path: &Path, storage: &Arc<dyn Storage>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        Ok(Self { file, direct: false, storage: Arc::clone(storage) })
    }

    /// Writes whole pages, durable on return. May be called again with the same bytes after an
    /// error: they are all written again, so nothing rests on pages that a failed sync dropped.
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        debug_assert!(bytes.len().is_multiple_of(PAGE) && offset.is_multiple_of(PAGE as u64));
        self.storage.write(&self.file, self.direct, bytes, offset)
    }
}

fn warn_buffered(path: &Path) {
    tracing::warn!(path = %path.display(), "O_DIRECT is refused: writing with fdatasync");
}

/// A preallocated file that becomes the next segment of a worker.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    disk: Disk,
}

impl Spare {
    /// Makes `w<worker>.next` with `bytes` bytes.
    pub(super) fn create(
        dir: &Path,
        worker: u32,
        bytes: u64,
        direct: bool,
        storage: &Arc<dyn Storage>,
    ) -> io::Result<Self> {
        let path = dir.join(format!("w{worker:02}.next"));
        let open = if direct { Disk::open(&path, storage) } else { Disk::buffered(&path, storage) };
        let made = open.and_then(|disk| {
            disk.file.set_len(0)?;
            preallocate(&disk.file, bytes)?;
            Ok(disk)
        });
        match made {
            Ok(disk) => Ok(Self { path, disk }),
            Err(e) => {
                // What was taken of a full disk is given back.
                let _ = std::fs::remove_file(&path);
                Err(e)
            }
        }
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct SegmentFile {
    disk: Disk,
    header: SegmentHeader,
    buffer: Aligned,
    /// The file offset of the buffer's first byte; behind the last whole page on disk.
    base: u64,
    /// Bytes of the last, partial page at the buffer's front.
    partial: usize,
    /// Bytes of each entry in the buffer behind `partial`.
    spans: Vec<usize>,
    next_sequence: u64,
    rolled: bool,
    frontier: Frontier,
    hasher: LeafHasher,
    leaf_start: u64,
    leaf_len: usize,
    proof: File,
    proof_len: u64,
    /// Records that are not in the proof file yet.
    pending: Vec<u8>,
    signed_end: u64,
}

/// What [`SegmentFile::reopen`] found.
pub(super) enum Reopened {
    /// Goes on at the end of its entries.
    Open(Box<SegmentFile>, u64),
    /// It has a closing checkpoint.
    Closed(Checkpoint),
    /// Damaged below what was signed; left as it is.
    Damaged {
        /// Root over the leaves that can be read.
        root: Digest,
        /// Sequence behind the last good entry.
        next_sequence: u64,
    },
}

impl SegmentFile {
    /// Turns `spare` into the segment of `header`: both headers written, then renamed.
    pub(super) fn create(dir: &Path, spare: Spare, header: SegmentHeader) -> io::Result<Self> {
        let name = segment_name(header.worker, header.number);
        let path = dir.join(format!("{name}.seg"));
        if path.exists() {
            // The folder is locked, so nobody makes it meanwhile.
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the segment exists"));
        }
        let mut buffer = Aligned::new(WRITE_MAX + 2 * BLOCK_MAX);
        let copy = header.encode();
        let both = [copy.as_slice(), copy.as_slice()].concat();
        buffer.keep(0).extend_from_slice(&both);
        let mut disk = spare.disk;
        let first = buffer.pages();
        debug_assert_eq!(first.len(), both.len(), "headers are whole pages");
        match disk.write(first, 0) {
            // Some file systems take the flag and refuse the write.
            Err(e) if disk.direct && e.raw_os_error() == Some(libc::EINVAL) => {
                warn_buffered(&spare.path);
                disk = Disk::buffered(&spare.path, &disk.storage)?;
                disk.write(first, 0)?;
            }
            done => done?,
        }
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let proof = options.open(dir.join(format!("{name}.proof")))?;
        std::fs::rename(&spare.path, path)?;
        sync_dir(dir)?;
        let mut made = Self {
            disk,
            buffer,
            base: ENTRIES_START,
            partial: 0,
            spans: Vec::new(),
            next_sequence: header.first_sequence,
            rolled: false,
            frontier: Frontier::new(),
            hasher: LeafHasher::default(),
            leaf_start: 0,
            leaf_len: 0,
            proof,
            proof_len: 0,
            pending: Vec::new(),
            signed_end: 0,
            header,
        };
        made.hash_piece(&both);
        made.finish_leaf();
        Ok(made)
    }

    /// Opens a segment that a dead process left. Reads the whole file.
    pub(super) fn reopen(dir: &Path, worker: u32, number: u64) -> io::Result<Reopened> {
        let name = segment_name(worker, number);
        let path = dir.join(format!("{name}.seg"));
        let bytes = std::fs::read(&path)?;
        let proof_path = dir.join(format!("{name}.proof"));
        let proof_bytes = match std::fs::read(&proof_path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let damaged = |root, next_sequence| Ok(Reopened::Damaged { root, next_sequence });
        let mut frontier = Frontier::new();
        let (mut leaf_end, mut signed_end, mut last) = (0u64, 0u64, None);
        let mut records = Records::new(&proof_bytes);
        let mut good = 0;
        while let Some(Ok(record)) = records.next() {
            match record {
                Record::Leaf(leaf) if leaf.offset == leaf_end => {
                    frontier.push(leaf.digest);
                    leaf_end = leaf.offset.saturating_add(u64::from(leaf.len));
                }
                Record::Checkpoint(checkpoint, _) if checkpoint.end == leaf_end => {
                    signed_end = checkpoint.end;
                    last = Some(checkpoint);
                }
                _ => break,
            }
            good = records.offset();
        }
        if let Some(last) = last
            && last.state != State::Open
        {
            return Ok(Reopened::Closed(last));
        }
        let Ok(header) = SegmentHeader::of_file(&bytes) else {
            return damaged(frontier.root(), last.map_or(0, |last| last.next_sequence));
        };
        let mut walk = Entries::new(&bytes, &header);
        let rehash_from = leaf_end;
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        while let Some(Ok(_)) = walk.next() {}
        let end = walk.offset();
        // Half a record at the end is what a power loss leaves; a good one behind it is damage.
        let lost = proof_bytes.get(at(good)..).unwrap_or_default();
        let later = (0..lost.len()).step_by(LEAF_LEN).any(|place| {
            let mut rest = Records::new(lost.get(place..).unwrap_or_default());
            matches!(rest.next(), Some(Ok(Record::Checkpoint(..))))
        });
        if later || end < leaf_end || (header.worker, header.number) != (worker, number) {
            return damaged(frontier.root(), walk.sequence());
        }
        let rest = bytes.get(at(end)..).unwrap_or_default();
        let dropped = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        // Nobody waits for what a recovery writes.
        let storage: Arc<dyn Storage> = Arc::new(Files);
        let disk = Disk::open(&path, &storage)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let proof = options.open(&proof_path)?;
        proof.set_len(good)?;
        let mut buffer = Aligned::new(WRITE_MAX + 2 * BLOCK_MAX);
        let base = end - end % PAGE as u64;
        let tail = bytes.get(at(base)..at(end)).unwrap_or_default();
        buffer.keep(0).extend_from_slice(tail);
        let mut made = Self {
            disk,
            buffer,
            base,
            partial: tail.len(),
            spans: Vec::new(),
            next_sequence: header.first_sequence,
            rolled: false,
            frontier,
            hasher: LeafHasher::default(),
            leaf_start: leaf_end,
            leaf_len: 0,
            proof,
            proof_len: good,
            pending: Vec::new(),
            signed_end,
            header,
        };
        if rehash_from == 0 {
            made.hash_piece(bytes.get(..at(ENTRIES_START)).unwrap_or_default());
            made.finish_leaf();
        }
        let from = at(rehash_from.max(ENTRIES_START));
        let entries = bytes.get(from..at(end)).unwrap_or_default();
        made.hash_entries(entries, segment::spans(entries));
        made.next_sequence = walk.sequence();
        made.rolled = walk.rolled();
        Ok(Reopened::Open(Box::new(made), dropped))
    }

    /// Behind the last entry.
    pub(super) fn end(&self) -> u64 {
        self.base + self.partial as u64
    }

    pub(super) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    pub(super) fn is_direct(&self) -> bool {
        self.disk.direct
    }

    /// Whether bytes or leaves wait for a checkpoint.
    pub(super) fn unsigned(&self) -> bool {
        self.end() > self.signed_end || !self.pending.is_empty()
    }

    /// Where the next entries go: whole ones are appended to the first vector, at most
    /// [`WRITE_MAX`] and one entry, the bytes of each to the second, and [`Self::commit`] writes
    /// them. What is not committed is forgotten.
    pub(super) fn room(&mut self) -> (&mut Vec<u8>, &mut Vec<usize>) {
        self.spans.clear();
        (self.buffer.keep(self.partial), &mut self.spans)
    }

    /// Writes what was appended to [`Self::room`], durable on return.
    ///
    /// # Errors
    /// Nothing has changed then, and the same bytes may be appended again.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        let (partial, filled) = (self.partial, self.buffer.len());
        self.disk.write(self.buffer.pages(), self.base)?;
        let buffer = std::mem::take(&mut self.buffer);
        let spans = std::mem::take(&mut self.spans);
        let entries = buffer.slice().get(partial..filled).unwrap_or_default();
        self.hash_entries(entries, spans.iter().copied());
        self.spans = spans;
        self.buffer = buffer;
        let done = filled - filled % PAGE;
        self.buffer.advance(done, filled - done);
        self.base += done as u64;
        self.partial = filled - done;
        Ok(())
    }

    /// Takes entries of `spans` bytes each. Their heads are not looked at: behind a write they are
    /// in no cache near, and one after the other is a wait for memory each.
    fn hash_entries(&mut self, entries: &[u8], spans: impl Iterator<Item = usize>) {
        let mut rest = entries;
        let (mut run, mut last) = (0, 0);
        // Runs of whole entries up to a block are hashed in one go.
        for span in spans {
            if self.leaf_len + run + span > BLOCK_MAX {
                self.hash_piece(rest.get(..run).unwrap_or_default());
                self.finish_leaf();
                rest = rest.get(run..).unwrap_or_default();
                run = 0;
            }
            run += span;
            last = span;
            self.next_sequence += 1;
        }
        debug_assert_eq!(run, rest.len(), "whole entries only");
        self.hash_piece(rest);
        if last > 0 {
            let kind = entries.get(entries.len() - last + KIND_PLACE);
            self.rolled = kind == Some(&(Kind::Roll as u8));
        }
    }

    fn hash_piece(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.leaf_len += bytes.len();
    }

    fn finish_leaf(&mut self) {
        if self.leaf_len == 0 {
            return;
        }
        let leaf = Leaf {
            index: self.frontier.leaves(),
            offset: self.leaf_start,
            // At most BLOCK_MAX.
            len: u32::try_from(self.leaf_len).unwrap_or(u32::MAX),
            digest: self.hasher.finish(),
        };
        self.frontier.push(leaf.digest);
        self.pending.extend_from_slice(&leaf.encode());
        self.leaf_start += self.leaf_len as u64;
        self.leaf_len = 0;
    }

    /// Signs all that was appended, and makes the proof file durable.
    ///
    /// # Errors
    /// The records stay pending; the next checkpoint writes them.
    pub(super) fn checkpoint(&mut self, pair: &Ed25519KeyPair, wall_ns: u64) -> io::Result<()> {
        self.sign(pair, wall_ns, State::Open, 0).map(|_| ())
    }

    fn sign(
        &mut self,
        pair: &Ed25519KeyPair,
        wall_ns: u64,
        state: State,
        dropped: u64,
    ) -> io::Result<Checkpoint> {
        self.finish_leaf();
        let checkpoint = Checkpoint {
            id: self.header.id,
            number: self.header.number,
            worker: self.header.worker,
            state,
            end: self.end(),
            leaves: self.frontier.leaves(),
            next_sequence: self.next_sequence,
            wall_ns,
            dropped,
            root: self.frontier.root(),
            previous_root: self.header.previous_root,
        };
        let leaves = self.pending.len();
        self.pending.extend_from_slice(&checkpoint.sign(pair));
        let written = self
            .proof
            .write_all_at(&self.pending, self.proof_len)
            .and_then(|()| self.proof.sync_data());
        if let Err(e) = written {
            self.pending.truncate(leaves);
            return Err(e);
        }
        self.proof_len += self.pending.len() as u64;
        self.pending.clear();
        self.signed_end = checkpoint.end;
        Ok(checkpoint)
    }

    /// Cuts the file at its end and signs that nothing follows.
    ///
    /// # Errors
    /// May be called again.
    pub(super) fn close(
        &mut self,
        pair: &Ed25519KeyPair,
        wall_ns: u64,
        state: State,
        dropped: u64,
    ) -> io::Result<Checkpoint> {
        debug_assert!(state != State::Open);
        self.disk.file.set_len(self.end())?;
        self.disk.file.sync_all()?;
        self.sign(pair, wall_ns, state, dropped)
    }

    /// Whether the last entry is a roll entry: nothing may follow but the close.
    pub(super) fn rolled(&self) -> bool {
        self.rolled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_begin_on_a_page_however_the_vector_grew() {
        let mut buffer = Aligned::new(PAGE);
        for round in 1..=40usize {
            let bytes = vec![round as u8; round * 1_777];
            buffer.keep(0).extend_from_slice(&bytes);
            let pages = buffer.pages();
            assert_eq!(pages.as_ptr().align_offset(PAGE), 0);
            assert_eq!(pages.len() % PAGE, 0);
            let (start, rest) = pages.split_at(bytes.len());
            assert!(start == bytes && rest.iter().all(|byte| *byte == 0));
            buffer.advance(round, 3);
            assert_eq!(buffer.slice(), [round as u8; 3]);
        }
    }
}
