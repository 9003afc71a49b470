//! Acts that concern the whole process: the file system and environment as a config source.

use crate::config::Source;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Files and environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Source for System {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        std::fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}
