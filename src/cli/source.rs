//! The files and the environment of this process, as a config sees them.

use crate::config::Source;
use std::path::Path;
use std::{env, fs, io};

/// Longest file that a config may name; far above any certificate bundle or key set.
const FILE_LEN_MAX: u64 = 16 << 20;

/// The real [`Source`].
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Source for System {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = fs::metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        if found.len() > FILE_LEN_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long"));
        }
        fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| found.is_file())
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777)
    }

    fn env(&self, name: &str) -> Option<String> {
        env::var(name).ok()
    }
}
