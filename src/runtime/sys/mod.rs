//! What needs `unsafe`: memory lent to the kernel, and calls that the standard library lacks.

#![expect(
    unsafe_code,
    reason = "the one place of the runtime that speaks to the kernel by pointer"
)]

#[cfg(test)]
mod drivers;
mod flight;
mod gather;
mod poller;
mod provided;
mod ring;
mod stream;

pub(super) use flight::{Done, Key, Waits, Work};
pub(super) use gather::Gather;

use super::DriverKind;
use super::buffer::{Buffer, Buffers};
use super::reactor::TaskId;
use poller::Poller;
use ring::Ring;
use socket2::SockRef;
use std::cell::RefCell;
use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;
use std::time::Duration;

/// What carries out operations on descriptors, and says when they are done.
///
/// Operations that were started on a descriptor are over, or cancelled, before it is closed.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a worker")]
pub(super) enum Driver {
    /// io_uring.
    Ring(Ring),
    /// epoll.
    Poller(Poller),
}

impl Driver {
    /// A driver on io_uring.
    ///
    /// # Errors
    /// The kernel's: `EINVAL` from one that knows less than Linux 6.1.
    pub(super) fn ring(buffers: Rc<RefCell<Buffers>>) -> io::Result<Self> {
        Ring::new(buffers).map(Self::Ring)
    }

    /// A driver on epoll.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn poller(buffers: Rc<RefCell<Buffers>>) -> io::Result<Self> {
        Poller::new(buffers).map(Self::Poller)
    }

    pub(super) fn kind(&self) -> DriverKind {
        match self {
            Self::Ring(_) => DriverKind::Uring,
            Self::Poller(_) => DriverKind::Legacy,
        }
    }

    /// Starts an operation. The descriptor must stay open until it is over or abandoned.
    pub(super) fn start(&mut self, fd: RawFd, work: Work) -> Key {
        match self {
            Self::Ring(ring) => ring.start(fd, work),
            Self::Poller(poller) => poller.start(fd, work),
        }
    }

    /// What came of an operation, once; until then notes who waits.
    pub(super) fn take(&mut self, key: Key, waits: Waits) -> Option<Done> {
        match self {
            Self::Ring(ring) => ring.take(key, waits),
            Self::Poller(poller) => poller.take(key, waits),
        }
    }

    /// Gives up an operation: it is cancelled where it can be, and nobody hears of it.
    /// Bytes that it has read by then may be lost, so the descriptor is for closing only.
    pub(super) fn abandon(&mut self, key: Key) {
        match self {
            Self::Ring(ring) => ring.abandon(key),
            Self::Poller(poller) => poller.abandon(key),
        }
    }

    /// Closes a descriptor, behind what was started on it.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        match self {
            Self::Ring(ring) => ring.close(fd),
            Self::Poller(poller) => poller.close(fd),
        }
    }

    /// What waits for no operation: bytes (how many at least), or an end (zero). Takes nothing.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits; else the socket's error.
    pub(super) fn peek(&mut self, fd: RawFd) -> io::Result<usize> {
        let kept = match self {
            Self::Ring(ring) => ring.kept(fd),
            Self::Poller(_) => None,
        };
        kept.unwrap_or_else(|| receive_now(fd, &mut [0], true))
    }

    /// Takes bytes that a peek saw. `None`: the kernel has them, and may yield them at any time.
    pub(super) fn take_peeked(&mut self, fd: RawFd) -> Option<Buffer> {
        match self {
            Self::Ring(ring) => ring.take_kept(fd),
            Self::Poller(poller) => poller.take_now(fd),
        }
    }

    /// Gives up every operation, and waits until every descriptor is closed that should be.
    pub(super) fn settle(&mut self) {
        match self {
            Self::Ring(ring) => {
                ring.settle();
            }
            Self::Poller(_) => {}
        }
    }

    /// Waits until something is done; `woken` hears whom that concerns.
    ///
    /// # Errors
    /// The kernel's, when the driver can go on no more.
    pub(super) fn wait(
        &mut self,
        within: Option<Duration>,
        woken: &mut impl FnMut(TaskId),
    ) -> io::Result<()> {
        match self {
            Self::Ring(ring) => ring.wait(within, woken),
            Self::Poller(poller) => poller.wait(within, woken),
        }
    }
}

/// Closes both directions at once, so that every operation in flight completes.
pub(super) fn shutdown_both(fd: RawFd) {
    // SAFETY: a call without pointers; a descriptor that is no socket is an error, not a fault.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

/// Sends a FIN.
pub(super) fn shutdown_write(fd: RawFd) {
    // SAFETY: as above.
    unsafe { libc::shutdown(fd, libc::SHUT_WR) };
}

/// Resets a connection at once; what is in flight on it completes with an error.
///
/// A close would not do: dropping a half sends a FIN first, and an end in order is what the peer
/// must not see.
pub(super) fn reset(fd: RawFd) {
    // All zeroes is `AF_UNSPEC`: the connection is dissolved (connect(2)), by a RST under TCP.
    let nobody = [0u64; 2];
    // SAFETY: the pointer and length are those of `nobody`, which outlives the call.
    unsafe {
        libc::connect(fd, nobody.as_ptr().cast(), size_of_val(&nobody) as libc::socklen_t);
    }
}

/// Who is at the other end of a connection.
///
/// # Errors
/// The kernel's; it is gone already.
pub(super) fn peer_address(fd: RawFd) -> io::Result<SocketAddr> {
    // SAFETY: the call only asks; of a number that is no descriptor any more it is an error.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    SockRef::from(&socket)
        .peer_addr()?
        .as_socket()
        .ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// Whether the peer will send no more, whatever of it still stands in the socket.
pub(super) fn is_hung_up(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the pointer is to one structure, which outlives the call.
    unsafe { libc::poll(&raw mut asked, 1, 0) > 0 }
}

/// Reads what is there at once; `peek` leaves it there. Zero is the end. Only where no read is in
/// flight or was, since a standing one takes what comes.
///
/// # Errors
/// `WouldBlock` when nothing is there; else the socket's error.
pub(super) fn receive_now(fd: RawFd, into: &mut [u8], peek: bool) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: the pointer and length are those of `into`.
    let count = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// The kernel's: the core does not exist or is not allowed.
pub(super) fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: all zeroes is an empty set; `core` is below the set's size; the length is the set's.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The cores that the calling thread may run on.
pub(super) fn allowed_cores() -> Vec<usize> {
    // SAFETY: as above; the kernel fills the set within its length.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let result = libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        if result != 0 {
            return Vec::new();
        }
        set
    };
    // SAFETY: every index is below the set's size.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, &set) }).collect()
}

/// Bytes that may still be written to the file system that `path` is on, without root's reserve.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a zero byte; the kernel fills the structure within its size, and
    // all zeroes is a valid one before.
    let found = unsafe {
        let mut found: libc::statvfs = std::mem::zeroed();
        if libc::statvfs(path.as_ptr(), &raw mut found) != 0 {
            return Err(io::Error::last_os_error());
        }
        found
    };
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Memory of its own pages: freed, it goes back to the system at once, where the heap would keep
/// it between smaller things. Pages that were never written are not there at all.
#[derive(Debug)]
pub(super) struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    /// `len` bytes of zeroes.
    pub(super) fn new(len: usize) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping that replaces none; nothing is read through the null address.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, -1, 0) };
        match NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED) {
            Some(base) => Self { base, len },
            // As any allocation that fails.
            None => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 1 << 14]>()),
        }
    }
}

impl std::ops::Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `base` are mapped and zero or written, for as long as `self` is.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl std::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what mmap returned and was given, and nobody else is left.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Core size limit 0 and not dumpable (prctl(2)).
pub(super) fn protect_memory() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit for the time of the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: PR_SET_DUMPABLE takes one integer and no pointer.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn pages_are_zero_hold_what_is_written_and_may_move() {
        let mut all: Vec<Pages> = (1..6).map(|n| Pages::new(n * 5_000)).collect();
        for (n, pages) in (1..).zip(&mut all) {
            assert!(pages.iter().all(|byte| *byte == 0));
            pages.fill(n);
        }
        all.swap(0, 4);
        assert!(all[0].len() == 25_000 && all[0].iter().all(|byte| *byte == 5));
        assert!(all[4].len() == 5_000 && all[4].iter().all(|byte| *byte == 1));
    }

    #[test]
    fn a_peek_leaves_what_it_saw() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let mut one = std::net::TcpStream::connect(address).expect("connect");
        let (other, _) = listener.accept().expect("accept");
        let mut byte = [0; 4];
        let fd = other.as_raw_fd();
        let nothing = receive_now(fd, &mut byte, true).expect_err("nothing there");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        io::Write::write_all(&mut one, b"x").expect("write");
        while receive_now(fd, &mut byte, true).is_err() {}
        assert_eq!(receive_now(fd, &mut byte, false).expect("there"), 1);
        io::Write::write_all(&mut one, b"y").expect("write");
        assert!(!is_hung_up(fd));
        drop(one);
        // The end shows behind what was not read.
        while !is_hung_up(fd) {}
        assert_eq!(receive_now(fd, &mut byte, false).expect("there"), 1);
        assert_eq!(receive_now(fd, &mut byte, true).expect("the end"), 0);
    }
}
