//! Which of the kernel's interfaces the workers run on.

use super::reactor::Reactor;
use std::fmt;
use std::io;
use std::rc::Rc;

/// How a worker hears of completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring.
    Uring,
    /// epoll: about a fifth more CPU for each request.
    Legacy,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Legacy => "epoll",
        })
    }
}

/// What the kernel offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What a worker would run on.
    pub driver: DriverKind,
    /// Why not io_uring, and what helps; for the operator.
    pub reason: Option<String>,
}

/// The environment's wish for epoll.
const FORCE_LEGACY: &str = "WEIRGATE_FORCE_EPOLL";

/// Asks the kernel for what a worker would run on.
#[must_use]
pub fn probe() -> Probe {
    match open() {
        Ok(_) => Probe { driver: DriverKind::Uring, reason: None },
        Err(reason) => Probe { driver: DriverKind::Legacy, reason: Some(reason) },
    }
}

/// A ring, or why there is none.
pub(super) fn open() -> Result<Rc<Reactor>, String> {
    let forced = std::env::var(FORCE_LEGACY)
        .is_ok_and(|value| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes"));
    if forced {
        return Err(format!("{FORCE_LEGACY} is set"));
    }
    Reactor::ring().map_err(|error| explain(&error))
}

fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "io_uring is refused ({error}): a container's seccomp filter or the sysctl \
             kernel.io_uring_disabled; run with --security-opt seccomp=config/seccomp.json"
        ),
        Some(libc::ENOSYS) => {
            format!("this kernel has no io_uring ({error}), or a sandbox hides it")
        }
        Some(libc::EINVAL) => {
            format!("this kernel's io_uring is too old ({error}): Linux 6.1 or newer will do")
        }
        Some(libc::ENOMEM) => format!("io_uring found no locked memory ({error}): raise memlock"),
        _ => format!("io_uring cannot be set up ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_cure() {
        let text = explain(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(text.contains("config/seccomp.json"), "{text}");
        assert!(explain(&io::Error::from_raw_os_error(libc::ENOMEM)).contains("memlock"));
    }

    #[test]
    fn a_probe_leaves_nothing_open_and_says_why_not() {
        let found = probe();
        assert_eq!(found.driver == DriverKind::Uring, found.reason.is_none());
    }
}
