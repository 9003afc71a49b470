//! Where the config gets its bytes from: passed in, so that this layer touches no system.

use std::io;
use std::path::Path;

/// Files and the environment, as whoever loads a config sees them.
pub trait Source {
    /// The whole of a file.
    ///
    /// # Errors
    /// Whatever reading met.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether there is a file that could be read. Its bytes are not looked at, so that checking
    /// a config never loads a private key.
    fn exists(&self, path: &Path) -> bool;

    /// Permission bits of a file (`0o600`); `None` where the system has none.
    fn mode(&self, path: &Path) -> Option<u32>;

    /// A variable of the environment.
    fn env(&self, name: &str) -> Option<String>;
}
