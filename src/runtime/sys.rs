//! What needs `unsafe`: memory lent to the kernel, and calls that the standard library lacks.

#![expect(
    unsafe_code,
    reason = "the one place of the runtime that speaks to the kernel by pointer"
)]

use super::buffer::Buffer;
use crate::base::Pieces;
use monoio::buf::{IoBuf, IoBufMut, IoVecBuf};
use monoio::io::{OwnedReadHalf, OwnedWriteHalf};
use monoio::net::TcpStream;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// The half of a socket that a read in flight owns.
pub(super) type ReadHalf = OwnedReadHalf<TcpStream>;
/// The half of a socket that a write in flight owns.
pub(super) type WriteHalf = OwnedWriteHalf<TcpStream>;

/// Slices of one write; more go into the next.
const SLICES_MAX: usize = 256;

// SAFETY: the pointer names `room()` of pages of their own, which do not move with the value;
// `bytes_total` is that room's length; all of it is initialised.
unsafe impl IoBufMut for Buffer {
    fn write_ptr(&mut self) -> *mut u8 {
        self.room().as_mut_ptr()
    }

    fn bytes_total(&mut self) -> usize {
        self.room().len()
    }

    unsafe fn set_init(&mut self, count: usize) {
        self.extend(count);
    }
}

/// A message on its way to a socket: pieces with the buffer that they name, and how far it got.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: Pieces,
    source: Option<Buffer>,
    base: usize,
    done: usize,
    slices: Vec<libc::iovec>,
}

impl Gather {
    /// Whether nothing is left to write.
    pub(super) fn is_empty(&self) -> bool {
        self.done >= self.pieces.len()
    }

    /// The pieces, to be filled; only while nothing of them is aimed at.
    pub(super) fn pieces_mut(&mut self) -> &mut Pieces {
        self.slices.clear();
        &mut self.pieces
    }

    /// Lends the buffer that the pieces name, `base` being where its input started.
    pub(super) fn lend(&mut self, source: Buffer, base: usize) {
        debug_assert!(self.source.is_none());
        self.source = Some(source);
        self.base = base;
    }

    /// Every slice from the start; for a layer that seals them.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let source = self.source.as_ref().map_or(&[][..], |buffer| buffer.from(self.base));
        self.pieces.slices(source)
    }

    /// Takes the lent buffer back. What names it must be written or given up.
    pub(super) fn reclaim(&mut self) -> Option<Buffer> {
        self.slices.clear();
        self.source.take()
    }

    /// Forgets all pieces.
    pub(super) fn clear(&mut self) {
        self.slices.clear();
        self.pieces.clear();
        self.done = 0;
    }

    /// Notes that `count` bytes went out.
    pub(super) fn advance(&mut self, count: usize) {
        self.slices.clear();
        self.done = self.done.saturating_add(count);
    }

    /// Lays out the slices of what is left.
    pub(super) fn aim(&mut self) {
        self.slices.clear();
        let source = self.source.as_ref().map_or(&[][..], |buffer| buffer.from(self.base));
        let mut skip = self.done;
        for slice in self.pieces.slices(source) {
            let Some(rest) = slice.get(skip..) else {
                skip = skip.saturating_sub(slice.len());
                continue;
            };
            skip = 0;
            if rest.is_empty() {
                continue;
            }
            if self.slices.len() >= SLICES_MAX {
                break;
            }
            self.slices.push(libc::iovec {
                iov_base: rest.as_ptr().cast_mut().cast(),
                iov_len: rest.len(),
            });
        }
    }

    /// Whether a plain send does.
    pub(super) fn is_single(&self) -> bool {
        self.slices.len() == 1
    }
}

// SAFETY: the slices name the arena of `pieces`, the memory of `source` and statics. All three are
// on the heap or static, so they do not move with the value, and every method that could change
// one of them empties `slices` first. While a write is in flight the value is inside of it.
unsafe impl IoVecBuf for Box<Gather> {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.slices.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.slices.len()
    }
}

// SAFETY: as above, for the first slice alone.
unsafe impl IoBuf for Box<Gather> {
    fn read_ptr(&self) -> *const u8 {
        self.slices.first().map_or(std::ptr::null(), |slice| slice.iov_base.cast_const().cast())
    }

    fn bytes_init(&self) -> usize {
        self.slices.first().map_or(0, |slice| slice.iov_len)
    }
}

/// Waits until `half` has something to read, without a buffer.
pub(super) async fn readable(half: &ReadHalf) -> io::Result<()> {
    // SAFETY: the stream lives as long as `half`, and monoio's halves never replace it; `readable`
    // reads its descriptor only.
    let stream = unsafe { &*half.0.get() };
    stream.readable(false).await
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

/// Reads what is there at once; `peek` leaves it there. Zero is the end.
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

/// Asks for a small ring and gives it back.
///
/// # Errors
/// The kernel's refusal: `EPERM` under a seccomp filter or sysctl, `ENOSYS` without support.
pub(super) fn try_ring() -> io::Result<()> {
    // `struct io_uring_params` is 120 bytes; all zeroes asks for the defaults.
    let mut params = [0u64; 15];
    // SAFETY: the kernel writes no more than the structure's 120 bytes, which `params` has.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2u32, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and nobody else has it.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
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
    use crate::runtime::buffer::Buffers;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_gather_names_what_is_left_after_any_short_write() {
        let mut buffer = Buffers::default().take_small();
        buffer.room()[..10].copy_from_slice(b"0123456789");
        buffer.extend(10);
        buffer.consume(2);
        let base = buffer.start();
        let mut whole = Pieces::new();
        whole.text(b"head ");
        whole.source(0..3);
        whole.literal(b" tail");
        whole.source(5..8);
        let expected = whole.to_vec(buffer.from(base));
        assert_eq!(expected, b"head 234 tail789");
        let mut gather = Gather::default();
        *gather.pieces_mut() = whole;
        gather.lend(buffer, base);
        for done in 0..=expected.len() {
            gather.done = done;
            gather.aim();
            let mut left = Vec::new();
            for slice in &gather.slices {
                // SAFETY: the gather is alive and unchanged, so its slices are what it owns.
                left.extend_from_slice(unsafe {
                    std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), slice.iov_len)
                });
            }
            assert_eq!(left, expected[done..]);
        }
        assert!(gather.is_empty());
        gather.clear();
        assert!(gather.reclaim().is_some_and(|buffer| buffer.filled() == b"23456789"));
    }

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
        drop(one);
        while receive_now(fd, &mut byte, true).is_err() {}
        assert_eq!(receive_now(fd, &mut byte, true).expect("the end"), 0);
    }
}
