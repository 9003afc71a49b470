//! The file below the outbox. Integers are little-endian. Version 1:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `WGNOTI01` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | CRC32C of bytes 0..12 |
//! | 16 | .. | frames, without gaps |
//!
//! A frame, which is one of the log of approvals:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | length of the body |
//! | 4 | 4 | CRC32C of the length, the number and the body |
//! | 8 | 8 | number of the frame, from 0, gapless |
//! | 16 | .. | body: a note, as JSON; or nothing, which is a mark |
//!
//! Notes that belong together are written, then `fdatasync`, then a mark, which says that all before
//! it are on the disk. What is not good at the end, without a mark behind it, was being written when
//! the machine died, and is cut off at the next start; before a mark it is damage, and an error.

use crate::control::approvals::{frame, promised, whole};
use crate::control::drain::Storage;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the outbox cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum OutboxError {
    /// The operating system refused.
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// It is none, or one of another version.
    Header(PathBuf),
    /// Bytes that were promised are not what was written.
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the first frame begins that is not good.
        offset: u64,
    },
}

impl fmt::Display for OutboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HELP: &str = "links and callbacks that were used could be used again: restore it, or \
             move it away, and the key beside it, which ends every link";
        match self {
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
            Self::Header(path) => {
                write!(f, "{} is no outbox that this version reads; {HELP}", path.display())
            }
            Self::Damaged { path, offset } => {
                write!(f, "{} is damaged at byte {offset}; {HELP}", path.display())
            }
        }
    }
}

impl std::error::Error for OutboxError {}

/// An open file. After an error nothing more is written.
#[derive(Debug)]
pub(super) struct Frames {
    dir: PathBuf,
    file: File,
    /// Where the next frame goes, and its number.
    end: u64,
    number: u64,
    /// How long the file was when it was written anew.
    base: u64,
    broken: bool,
    storage: Arc<dyn Storage>,
}

/// The bodies of a file, with the places of their frames.
pub(super) type Bodies = Vec<(u64, Vec<u8>)>;

impl Frames {
    /// Reads the file in `dir`; nothing where there is none yet.
    pub(super) fn open(
        dir: &Path,
        storage: &Arc<dyn Storage>,
    ) -> Result<Option<(Self, Bodies)>, OutboxError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| OutboxError::Io { what, path, error }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("make the folder", dir))?;
        let path = dir.join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let (bodies, end, number) = read(&bytes, &path)?;
        let file = OpenOptions::new().write(true).open(&path).map_err(failed("open", &path))?;
        if end < u64::try_from(bytes.len()).unwrap_or(u64::MAX) {
            file.set_len(end).map_err(failed("cut", &path))?;
        }
        // What a process that was killed had written and not synced counts from here on.
        file.sync_all().map_err(failed("sync", &path))?;
        let (dir, storage) = (dir.to_owned(), Arc::clone(storage));
        Ok(Some((Self { dir, file, end, number, base: end, broken: false, storage }, bodies)))
    }

    /// Where the file is.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Appends bodies; they are on the disk when this returns. After an error some may be.
    pub(super) fn append(&mut self, bodies: &[Vec<u8>]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("it could not be written before"));
        }
        let written = self.write(bodies);
        self.broken = written.is_err();
        written
    }

    fn write(&mut self, bodies: &[Vec<u8>]) -> io::Result<()> {
        let (mut bytes, mut number) = (Vec::new(), self.number);
        for body in bodies {
            frame(&mut bytes, number, body)?;
            number = number.saturating_add(1);
        }
        self.storage.write(&self.file, false, &bytes, self.end)?;
        let mut mark = Vec::new();
        frame(&mut mark, number, &[])?;
        let end = self.end.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.file.write_all_at(&mark, end)?;
        self.end = end.saturating_add(HEAD_LEN);
        self.number = number.saturating_add(1);
        Ok(())
    }

    /// Whether it should be written anew: it has grown much, or cannot be appended to.
    pub(super) fn is_long(&self) -> bool {
        self.broken || self.end > LONG_MIN.max(self.base.saturating_mul(4))
    }

    /// A new file of these bodies takes the place of the one that is there, once it is on the disk.
    pub(super) fn create(
        dir: &Path,
        bodies: impl Iterator<Item = Vec<u8>>,
        storage: &Arc<dyn Storage>,
    ) -> io::Result<Self> {
        let (aside, path) = (dir.join(NEW), dir.join(NAME));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        let mut writer = io::BufWriter::with_capacity(WRITE_LEN, file);
        writer.write_all(&header())?;
        let (mut number, mut end, mut bytes) = (0, HEADER_LEN, Vec::new());
        // The last one is a mark.
        for body in bodies.chain([Vec::new()]) {
            bytes.clear();
            frame(&mut bytes, number, &body)?;
            writer.write_all(&bytes)?;
            number += 1;
            end += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        }
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        for folder in [Some(dir), dir.parent()].into_iter().flatten() {
            File::open(folder)?.sync_all()?;
        }
        let (dir, storage) = (dir.to_owned(), Arc::clone(storage));
        Ok(Self { dir, file, end, number, base: end, broken: false, storage })
    }

    /// The same, in the place of this one.
    pub(super) fn rewrite(&mut self, bodies: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let made = Self::create(&self.dir, bodies, &self.storage);
        // Which of the two files has the name is not known.
        self.broken = made.is_err();
        *self = made?;
        Ok(())
    }
}

fn header() -> [u8; HEADER_LEN as usize] {
    let mut bytes = [0; HEADER_LEN as usize];
    let [first, second] = [&b"WGNOTI01"[..], &VERSION.to_le_bytes()];
    let crc = crc32c::crc32c_append(crc32c::crc32c(first), second).to_le_bytes();
    for (place, byte) in bytes.iter_mut().zip(first.iter().chain(second).chain(&crc)) {
        *place = *byte;
    }
    bytes
}

/// The bodies, where those end, and the number of what comes next.
fn read(bytes: &[u8], path: &Path) -> Result<(Bodies, u64, u64), OutboxError> {
    let head = header();
    if bytes.get(..head.len()) != Some(&head) {
        return Err(OutboxError::Header(path.to_owned()));
    }
    let offset = |at: usize| u64::try_from(at).unwrap_or(u64::MAX);
    let damaged = |at: usize| OutboxError::Damaged { path: path.to_owned(), offset: offset(at) };
    let (mut at, mut number) = (head.len(), 0u64);
    let mut bodies = Bodies::new();
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((_, body)) = whole(rest).filter(|(found, _)| *found == number) else {
            if promised(rest, number) {
                return Err(damaged(at));
            }
            break;
        };
        if !body.is_empty() {
            bodies.push((offset(at), body.to_vec()));
        }
        at = at.saturating_add(body.len()).saturating_add(HEAD_LEN as usize);
        number = number.saturating_add(1);
    }
    Ok((bodies, offset(at), number))
}

const NAME: &str = "outbox";
const NEW: &str = "outbox.new";
const VERSION: u32 = 1;
const HEADER_LEN: u64 = 16;
pub(super) const HEAD_LEN: u64 = 16;
/// Below it a file is not worth writing anew.
const LONG_MIN: u64 = 4 << 20;
/// How much of a file that is written anew is in memory at a time.
const WRITE_LEN: usize = 1 << 20;
