//! The log of the book, in `data_dir/approvals/log`. Integers are little-endian. Version 1:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `WGAPPR01` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | CRC32C of bytes 0..12 |
//! | 16 | .. | frames, without gaps |
//!
//! A frame:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | length of the body |
//! | 4 | 4 | CRC32C of the length, the number and the body |
//! | 8 | 8 | number of the frame, from 0, gapless |
//! | 16 | .. | body: an entry, as JSON; or nothing, which is a mark |
//!
//! A round of entries is written, then `fdatasync`, then a mark is written, which says that
//! everything before it is on the disk. So the end of a round that was under way when the machine
//! died, which is cut off at the next start (nobody was told of it), is told from damage of what was
//! promised, behind which there is a mark: that is an error, and the gateway does not start.
//!
//! The log is written anew as the entries that make the book, to another file that takes its name,
//! when it is much longer than they are.

use crate::control::drain::Storage;
use crate::policy::approval::{Book, Bounds, Entry};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
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

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
            Self::Header(path) => write!(
                f,
                "{} is no log of approvals that this version reads; without it grants that were \
                 used could be used again: restore it, or move it away, which ends every approval",
                path.display()
            ),
            Self::Damaged { path, offset } => write!(
                f,
                "{} is damaged at byte {offset}: grants that were used could be used again; \
                 restore it, or move it away, which ends every approval",
                path.display()
            ),
        }
    }
}

impl std::error::Error for LogError {}

/// An open log. After an error nothing more is written: it is opened anew.
#[derive(Debug)]
pub(super) struct Log {
    dir: PathBuf,
    file: File,
    /// Where the next frame goes, and its number.
    end: u64,
    number: u64,
    /// How long the log was when it was written anew.
    base: u64,
    storage: Arc<dyn Storage>,
}

/// What is read of a log.
struct Found {
    /// With the places of their frames.
    entries: Vec<(u64, Entry)>,
    end: u64,
    number: u64,
}

impl Log {
    /// Reads the log in `dir`, or begins one, and makes the book that it tells of. Returns the
    /// time of its last entry, too.
    ///
    /// # Errors
    /// [`LogError`]; nothing was changed then.
    pub(super) fn open(
        dir: &Path,
        bounds: Bounds,
        storage: &Arc<dyn Storage>,
    ) -> Result<(Self, Book, u64), LogError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |error| LogError::Io { what, path, error }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("make the folder", dir))?;
        let path = dir.join(NAME);
        let mut book = Book::new(bounds);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let log = Self::write(dir, std::iter::empty(), storage);
                let log = log.map_err(failed("write", &path))?;
                return Ok((log, book, 0));
            }
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let found = read(&bytes, &path)?;
        let mut last_ns = 0;
        for (offset, entry) in &found.entries {
            let damaged = |_| LogError::Damaged { path: path.clone(), offset: *offset };
            book.apply(entry).map_err(damaged)?;
            last_ns = last_ns.max(entry.at_ns);
        }
        let file = OpenOptions::new().write(true).open(&path).map_err(failed("open", &path))?;
        let cut = u64::try_from(bytes.len()).unwrap_or(u64::MAX).saturating_sub(found.end);
        if cut > 0 {
            tracing::warn!(bytes = cut, "the log of approvals ended in an unfinished round; cut");
            file.set_len(found.end).map_err(failed("cut", &path))?;
        }
        // What a process that was killed had written and not synced counts from here on.
        file.sync_all().map_err(failed("sync", &path))?;
        let (end, number, storage) = (found.end, found.number, Arc::clone(storage));
        let log = Self { dir: dir.to_owned(), file, end, number, base: end, storage };
        Ok((log, book, last_ns))
    }

    /// Appends a round of entries; they are on the disk when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut number = self.number;
        for entry in entries {
            frame(&mut bytes, number, &entry.encode())?;
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

    /// Whether it has grown so much since it was written anew that it should be again.
    pub(super) fn is_long(&self) -> bool {
        self.end > LONG_MIN.max(self.base.saturating_mul(4))
    }

    /// Bytes.
    pub(super) fn len(&self) -> u64 {
        self.end
    }

    /// Writes it anew. The old one stays until the new one is on the disk.
    pub(super) fn rewrite(&mut self, entries: impl Iterator<Item = Entry>) -> io::Result<()> {
        *self = Self::write(&self.dir, entries, &self.storage)?;
        Ok(())
    }

    fn write(
        dir: &Path,
        entries: impl Iterator<Item = Entry>,
        storage: &Arc<dyn Storage>,
    ) -> io::Result<Self> {
        let (aside, path) = (dir.join(NEW), dir.join(NAME));
        let mut bytes = header().to_vec();
        let mut number = 0;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        let mut end = 0u64;
        for entry in entries {
            frame(&mut bytes, number, &entry.encode())?;
            number += 1;
            if bytes.len() > WRITE_LEN {
                file.write_all(&bytes)?;
                end += bytes.len() as u64;
                bytes.clear();
            }
        }
        frame(&mut bytes, number, &[])?;
        file.write_all(&bytes)?;
        end += bytes.len() as u64;
        file.sync_all()?;
        std::fs::rename(&aside, &path)?;
        File::open(dir)?.sync_all()?;
        // The folder's own name, where this was the first file in it.
        if let Some(above) = dir.parent() {
            File::open(above)?.sync_all()?;
        }
        let (dir, storage) = (dir.to_owned(), Arc::clone(storage));
        Ok(Self { dir, file, end, number: number + 1, base: end, storage })
    }
}

fn header() -> [u8; HEADER_LEN as usize] {
    let mut bytes = [0; HEADER_LEN as usize];
    let [first, second] = [&b"WGAPPR01"[..], &VERSION.to_le_bytes()];
    let crc = crc32c::crc32c_append(crc32c::crc32c(first), second).to_le_bytes();
    for (place, byte) in bytes.iter_mut().zip(first.iter().chain(second).chain(&crc)) {
        *place = *byte;
    }
    bytes
}

/// Appends a frame.
pub(in crate::control) fn frame(into: &mut Vec<u8>, number: u64, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).ok().filter(|len| *len <= BODY_MAX);
    let len = len.ok_or_else(|| io::Error::other("an entry is too long"))?;
    let (len, number) = (len.to_le_bytes(), number.to_le_bytes());
    into.extend_from_slice(&len);
    into.extend_from_slice(&crc(&len, &number, body).to_le_bytes());
    into.extend_from_slice(&number);
    into.extend_from_slice(body);
    Ok(())
}

fn crc(len: &[u8], number: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(len), number), body)
}

/// The frame at the beginning of `bytes`: its number and its body.
pub(in crate::control) fn whole(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    let (stored, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let body_len = u32::from_le_bytes(*len);
    let body = rest.get(..usize::try_from(body_len).ok()?)?;
    let good = body_len <= BODY_MAX && crc(len, number, body) == u32::from_le_bytes(*stored);
    good.then(|| (u64::from_le_bytes(*number), body))
}

fn read(bytes: &[u8], path: &Path) -> Result<Found, LogError> {
    let head = header();
    if bytes.get(..head.len()) != Some(&head) {
        return Err(LogError::Header(path.to_owned()));
    }
    let (mut at, mut number) = (head.len(), 0u64);
    let mut entries = Vec::new();
    let offset = |at: usize| u64::try_from(at).unwrap_or(u64::MAX);
    let damaged = |at: usize| LogError::Damaged { path: path.to_owned(), offset: offset(at) };
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((_, body)) = whole(rest).filter(|(found, _)| *found == number) else {
            if promised(rest, number) {
                return Err(damaged(at));
            }
            break;
        };
        if !body.is_empty() {
            entries.push((offset(at), Entry::decode(body).ok_or_else(|| damaged(at))?));
        }
        at = at.saturating_add(body.len()).saturating_add(HEAD_LEN as usize);
        number = number.saturating_add(1);
    }
    Ok(Found { entries, end: offset(at), number })
}

/// Whether a mark stands anywhere behind the frame that is not good, which should have had
/// `number`: then that frame was on the disk. The frames of one round may come there in any order.
pub(in crate::control) fn promised(bytes: &[u8], number: u64) -> bool {
    let frames_max = u64::try_from(bytes.len()).unwrap_or(u64::MAX) / HEAD_LEN;
    let marks = |bytes: &[u8; HEAD_LEN as usize]| {
        whole(bytes).is_some_and(|(found, _)| {
            found.checked_sub(number).is_some_and(|ahead| ahead <= frames_max)
        })
    };
    // A mark has no body: its length is zero.
    bytes.array_windows().any(|window| window.starts_with(&[0; 4]) && marks(window))
}

const NAME: &str = "log";
const NEW: &str = "log.new";
const VERSION: u32 = 1;
const HEADER_LEN: u64 = 16;
const HEAD_LEN: u64 = 16;
/// Longer than any entry: all bounds of an ask together, and JSON's escapes.
const BODY_MAX: u32 = 16 << 20;
/// Below it a log is not worth writing anew.
const LONG_MIN: u64 = 4 << 20;
/// How much of a log that is written anew is in memory at a time.
const WRITE_LEN: usize = 1 << 20;
