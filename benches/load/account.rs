//! The account of servers that refuse to be root's: PostgreSQL and PgBouncer.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use crate::Outcome;

/// Made by Debian's package of PostgreSQL.
const NAME: &str = "postgres";

/// Somebody else's account.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Whose the servers are: `None` when this process is not root's, and they are its own.
    ///
    /// # Errors
    /// Root's process, and there is no such account.
    pub(crate) fn of_servers() -> Outcome<Option<Self>> {
        if fs::metadata("/proc/self")?.uid() != 0 {
            return Ok(None);
        }
        let known = fs::read_to_string("/etc/passwd")?;
        let found = known.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(NAME) {
                return None;
            }
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            Some(Self { uid, gid })
        });
        Ok(Some(found.ok_or("there is no account `postgres` (scripts/bench.sh makes one)")?))
    }

    /// Gives it a file or directory.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn own(self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }

    /// What makes `setpriv` run a program by this account.
    pub(crate) fn options(self) -> [String; 3] {
        let Self { uid, gid } = self;
        [format!("--reuid={uid}"), format!("--regid={gid}"), "--init-groups".to_owned()]
    }
}
