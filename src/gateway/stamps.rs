//! How the files were whose change is picked up while a gateway runs.

use super::compile;
use crate::config::Config;
use ring::digest::{SHA256, digest};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What tells that one of some files was replaced, written or made readable.
///
/// By what the system says about them: private keys are not read twice a second.
pub(super) struct Stamps(Vec<Stamp>);

struct Stamp {
    path: PathBuf,
    /// `None` for a file that is not there.
    file: Option<File>,
    /// What is in it, where it changed so shortly before that another change may have the same
    /// time.
    fresh: Option<Contents>,
}

/// A rename brings another inode, a write another time; so does a change of the mode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct File {
    device: u64,
    inode: u64,
    len: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

/// SHA-256; `None` where it cannot be read.
type Contents = Option<[u8; 32]>;

impl Stamps {
    /// Looks at every file that the config names and that is read again when it changes.
    ///
    /// Taken before the files are read, they differ from the next ones if a file was replaced
    /// while it was read or at any time after.
    pub(super) fn of(config: &Config) -> Self {
        Self(compile::files(config).into_iter().map(Stamp::of).collect())
    }

    /// Whether the files must be read again. Those that were fresh before are looked into.
    pub(super) fn differ(&self, before: &Self) -> bool {
        self.0.len() != before.0.len()
            || self.0.iter().zip(&before.0).any(|(now, then)| now.differs(then))
    }
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let file = File::of(&path);
        let fresh = file.is_some_and(|file| file.is_fresh()).then(|| contents(&path));
        Self { path, file, fresh }
    }

    fn differs(&self, before: &Self) -> bool {
        self.path != before.path
            || self.file != before.file
            || before.fresh.is_some_and(|then| contents(&self.path) != then)
    }
}

fn contents(path: &Path) -> Contents {
    // What is no file might never end.
    let read = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    let bytes = read.then(|| std::fs::read(path).ok()).flatten()?;
    digest(&SHA256, &bytes).as_ref().first_chunk().copied()
}

impl File {
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            written: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    fn is_fresh(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed =
            Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A time ahead of this clock (a file server's) says nothing.
        now.checked_sub(changed).is_some_and(|age| age < CLOCK_TICK)
    }
}

/// Longer than a file system's clock stands still: two changes within it may have one time.
const CLOCK_TICK: Duration = Duration::from_millis(50);

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;

    fn stamps(path: &Path) -> Stamps {
        Stamps(vec![Stamp::of(path.to_owned())])
    }

    /// Waits until the file's clock has gone on, as it has for any file that is not just written.
    fn settled(path: &Path) -> Stamps {
        loop {
            let found = stamps(path);
            if found.0.iter().all(|stamp| stamp.fresh.is_none()) {
                return found;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_file_differs_when_it_was_replaced_written_opened_or_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("key"), dir.path().join("other"));
        fs::write(&path, "one").unwrap();
        let mut before = stamps(&path);
        assert!(!stamps(&path).differ(&before));
        // Two writes within one tick of the clock have one time.
        fs::write(&path, "two").unwrap();
        before.0[0].file = File::of(&path);
        before.0[0].fresh = before.0[0].fresh.or(Some(contents(&dir.path().join("none"))));
        assert!(stamps(&path).differ(&before), "a write in the same tick");
        let before = settled(&path);
        assert!(!stamps(&path).differ(&before));
        // Of the same length, and with the time of the one before.
        fs::write(&other, "six").unwrap();
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(stamps(&path).differ(&before), "a rename");
        let before = settled(&path);
        fs::write(&path, "ten").unwrap();
        assert!(stamps(&path).differ(&before), "a write of the same length");
        let before = settled(&path);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&path, mode).unwrap();
        assert!(stamps(&path).differ(&before), "a mode");
        let before = settled(&path);
        fs::remove_file(&path).unwrap();
        assert!(stamps(&path).differ(&before), "a file that is gone");
        assert!(settled(&other).differ(&before), "another path");
        assert!(Stamps(Vec::new()).differ(&before), "another number");
    }
}
