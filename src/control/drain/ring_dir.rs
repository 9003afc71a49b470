//! Where rings are, and what they survive there.
//!
//! A ring in memory outlives the process and is gone with the machine, which the drain window
//! covers. But the memory file system of a container goes with the container, however often its
//! process was killed before: what was only in a ring then is lost. So what the folder is decides
//! whether `recorded` may be promised; where it may not, the rings go to the data disk, or the log
//! says so.

use std::path::{Path, PathBuf};

use crate::runtime;

/// What a ring folder is, which decides what a ring in it survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingDir {
    /// Memory-backed and the machine's own: survives the process, not the machine. The usual choice.
    Memory,
    /// Memory-backed inside a container, or on a mount that the machine's first process does not
    /// have: it may go with whoever made it.
    ContainerMemory,
    /// On a disk: survives a container, too; now and then the kernel's writeback costs faults.
    Disk,
}

/// Looks at the mount that `dir` is on.
#[must_use]
pub fn ring_dir_kind(dir: &Path) -> RingDir {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo");
    let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let Some(mount) = innermost(&mounts, &dir).filter(Mount::is_memory) else {
        return RingDir::Disk;
    };
    let marked = ["/.dockerenv", "/run/.containerenv"].iter().any(|p| Path::new(p).exists());
    // The pid namespace of the machine has a fixed number (include/linux/proc_ns.h).
    let pids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let inside = !pids.as_os_str().is_empty() && pids != Path::new("pid:[4026531836]");
    let private = is_private(&mount, &read("/proc/1/mountinfo"));
    if marked || inside || private { RingDir::ContainerMemory } else { RingDir::Memory }
}

/// The folder where the config names none: the machine's memory where it lasts and has room for
/// `bytes`, else the data folder.
#[must_use]
pub(super) fn choose(data_dir: &Path, bytes: u64) -> PathBuf {
    let memory = Path::new(MEMORY);
    let lasts = ring_dir_kind(memory) == RingDir::Memory;
    let roomy = runtime::free_bytes(memory).is_ok_and(|free| free > bytes);
    if lasts && roomy {
        return memory.to_owned();
    }
    tracing::info!(
        lasts,
        roomy,
        "the rings are in data_dir: {MEMORY} goes with this container, or has no room; a disk's \
         writeback may delay an append now and then"
    );
    data_dir.to_owned()
}

/// Where rings stand when nothing speaks against it.
const MEMORY: &str = "/dev/shm";

/// A line of mountinfo (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// `major:minor` of the file system.
    device: &'a str,
    kind: &'a str,
}

impl Mount<'_> {
    fn is_memory(&self) -> bool {
        matches!(self.kind, "tmpfs" | "ramfs")
    }
}

fn parse(line: &str) -> Option<(&str, Mount<'_>)> {
    let mut left = line.split(' ');
    let (device, point) = (left.nth(2)?, left.nth(1)?);
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    Some((point, Mount { device, kind }))
}

/// The innermost mount above `dir`.
fn innermost<'a>(mounts: &'a str, dir: &Path) -> Option<Mount<'a>> {
    let mut best: Option<(usize, Mount<'_>)> = None;
    for (point, mount) in mounts.lines().filter_map(parse) {
        // A later mount on the same point hides the one before.
        if dir.starts_with(point) && best.is_none_or(|(len, _)| point.len() >= len) {
            best = Some((point.len(), mount));
        }
    }
    best.map(|(_, mount)| mount)
}

/// Whether the machine's first process, whose mounts these are, does not have the file system.
/// Where it cannot be asked, nothing is known.
fn is_private(mount: &Mount<'_>, first: &str) -> bool {
    !first.is_empty() && !first.lines().filter_map(parse).any(|(_, one)| one.device == mount.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "1 0 8:1 / / rw shared:1 - ext4 /dev/a rw\n\
                          2 1 0:5 / /dev/shm rw - tmpfs tmpfs rw\n\
                          3 1 8:2 / /dev/shm/disk rw - xfs /dev/b rw\n\
                          4 1 0:9 / /dev/shm/own rw - tmpfs tmpfs rw\n";

    #[test]
    fn the_innermost_mount_decides() {
        let kind = |dir: &str| innermost(MOUNTS, Path::new(dir)).map(|mount| mount.kind);
        assert_eq!(kind("/var/lib"), Some("ext4"));
        assert_eq!(kind("/dev/shm"), Some("tmpfs"));
        assert_eq!(kind("/dev/shmx"), Some("ext4"));
        assert_eq!(kind("/dev/shm/disk/rings"), Some("xfs"));
        assert_eq!(innermost("", Path::new("/")), None);
        assert_eq!(innermost("nonsense\n1 2 3 - x", Path::new("/")), None);
    }

    #[test]
    fn a_memory_that_the_first_process_does_not_have_is_private() {
        let first = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /run/shm rw - tmpfs tmpfs rw\n";
        let private = |dir: &str| {
            innermost(MOUNTS, Path::new(dir)).is_some_and(|mount| is_private(&mount, first))
        };
        assert!(!private("/dev/shm"), "the same file system elsewhere");
        assert!(private("/dev/shm/own"));
        let own = Mount { device: "0:9", kind: "tmpfs" };
        assert!(!is_private(&own, ""), "nothing is known");
    }
}
