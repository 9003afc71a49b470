//! How segment bytes get to the disk, as a trait: what stands behind every promise of the record.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes of a segment file. An own one can slow down, fail or watch what is written.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// Writes whole pages at `offset`; durable on return. `direct` says that `file` was opened with
    /// O_DIRECT and O_DSYNC. May be called again with the same bytes after an error: they are all
    /// written again, so nothing rests on pages that a failed sync dropped.
    ///
    /// # Errors
    /// What the system said; nothing counts as written then.
    fn write(&self, file: &File, direct: bool, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// The file system as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl Storage for Files {
    fn write(&self, file: &File, direct: bool, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)?;
        if direct { Ok(()) } else { file.sync_data() }
    }
}
