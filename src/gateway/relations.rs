//! The file of where masked columns were found (`session::relations`), so that a restart knows it, too.
//!
//! `columns.json` in `data_dir` holds by server and database, and by column as a mask writes it, pairs of
//! a table's OID and a column's number. It is written anew when something changed, beside the old one and
//! then in its place, by the control thread; what is found in the last moment before a kill is not in it.
//! It holds names and numbers, no value of a column.

use super::StartError;
use crate::config::Source;
use crate::session::relations::Relations;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Reads what a gateway with this `data_dir` knew. No file is nothing known.
///
/// # Errors
/// The file cannot be read, or is none of a gateway's: masks would not follow what they followed.
pub fn known_relations(data_dir: &Path, source: &dyn Source) -> Result<Relations, StartError> {
    let path = data_dir.join(FILE);
    let wrong = |error: String| StartError::File { path: path.clone(), error };
    match source.read(&path) {
        Ok(bytes) => {
            let places = serde_json::from_slice(&bytes);
            places.map(Relations::of).map_err(|error| wrong(error.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Relations::default()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Writes what changed.
pub(super) struct Keeper {
    relations: Arc<Relations>,
    data_dir: PathBuf,
    written: u64,
}

impl Keeper {
    pub(super) fn new(relations: Arc<Relations>, data_dir: PathBuf) -> Self {
        Self { written: relations.changes(), relations, data_dir }
    }

    /// Writes the file where something is known that is not in it. A failure is logged, and tried
    /// again at the next look.
    pub(super) fn keep(&mut self) {
        let changes = self.relations.changes();
        if changes == self.written {
            return;
        }
        match write(&self.data_dir, &self.relations) {
            Ok(()) => self.written = changes,
            Err(error) => tracing::error!(%error, "{FILE} cannot be written"),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.keep();
    }
}

fn write(data_dir: &Path, relations: &Relations) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&relations.all()).map_err(io::Error::other)?;
    let (path, beside) = (data_dir.join(FILE), data_dir.join(BESIDE));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&beside, &path)
}

const FILE: &str = "columns.json";
const BESIDE: &str = "columns.json.new";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The files of the system.
    struct System;

    impl Source for System {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            fs::read(path)
        }

        fn exists(&self, path: &Path) -> bool {
            path.exists()
        }

        fn mode(&self, _: &Path) -> Option<u32> {
            None
        }

        fn env(&self, _: &str) -> Option<String> {
            None
        }
    }

    #[test]
    fn what_was_found_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let relations = Arc::new(known_relations(dir.path(), &System).unwrap());
        let mut keeper = Keeper::new(Arc::clone(&relations), dir.path().to_owned());
        keeper.keep();
        assert!(!dir.path().join(FILE).exists(), "nothing is known");
        relations.learn("db:5432/orders", "public.t.\"odd.name\"", &[], &[(20_000, 2)]);
        drop(keeper);
        let again = known_relations(dir.path(), &System).unwrap();
        assert_eq!(again.all(), relations.all());
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(known_relations(dir.path(), &System).is_err());
    }
}
