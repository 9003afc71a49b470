//! The driver on io_uring: one ring, and two rings of buffers that the kernel fills when bytes come.
//!
//! An operation is a submission entry now and a completion entry later; in between, what it owns
//! lies in [`Flights`]. Entries go to the kernel together, with the wait for completions, so that
//! the calls for each request shrink with the load.

use super::flight::{Done, Flights, Key, Waits, Work};
use super::provided::Provided;
use crate::runtime::buffer::{Buffer, Buffers, Class};
use crate::runtime::reactor::TaskId;
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};
use std::cell::RefCell;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module.
pub(in crate::runtime) struct Ring {
    ring: IoUring,
    small: Provided,
    large: Provided,
    flights: Flights,
    /// Closes on their way.
    closing: usize,
    buffers: Rc<RefCell<Buffers>>,
    /// Completions of one turn.
    reaped: Vec<(u64, i32, u32)>,
}

impl Ring {
    /// A ring with the best of the settings that this kernel takes; also says which.
    ///
    /// # Errors
    /// The kernel refuses every one of them, or buffer rings (before 5.19).
    pub(super) fn new(buffers: Rc<RefCell<Buffers>>) -> io::Result<(Self, &'static str)> {
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for (name, builder) in SETTINGS {
            match builder().build(ENTRIES) {
                Ok(ring) => return Self::with(ring, buffers).map(|ring| (ring, name)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn with(ring: IoUring, buffers: Rc<RefCell<Buffers>>) -> io::Result<Self> {
        if !ring.params().is_feature_ext_arg() || !ring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut pool = buffers.borrow_mut();
        let small = Provided::new(Class::Small, SMALL_COUNT, &mut pool);
        let large = Provided::new(Class::Large, LARGE_COUNT, &mut pool);
        drop(pool);
        let whole = Self {
            ring,
            small,
            large,
            flights: Flights::default(),
            closing: 0,
            buffers,
            reaped: Vec::with_capacity(ENTRIES as usize),
        };
        for provided in [&whole.small, &whole.large] {
            let (address, count, group) = provided.registration();
            // SAFETY: the entries and the buffers that they name live in `whole`, which drops them
            // after the ring (see `drop`).
            unsafe {
                let submitter = whole.ring.submitter();
                submitter.register_buf_ring_with_flags(address, count, group, 0)?;
            }
        }
        Ok(whole)
    }

    pub(super) fn start(&mut self, fd: RawFd, work: Work) -> Key {
        let key = self.flights.add(fd, work);
        self.submit(key);
        key
    }

    fn submit(&mut self, key: Key) {
        let Some((work, fd)) = self.flights.work(key) else { return };
        let fd = types::Fd(fd);
        let entry = match work {
            Work::Receive(class) => opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                .buf_group(class.group())
                .ioprio(POLL_FIRST)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
            Work::Readable => opcode::PollAdd::new(fd, READABLE).build(),
            Work::Send(gather) => {
                gather.aim();
                match gather.single() {
                    Some((address, len)) => {
                        let len = u32::try_from(len).unwrap_or(u32::MAX);
                        opcode::Send::new(fd, address, len).flags(libc::MSG_NOSIGNAL).build()
                    }
                    None => {
                        let flags = libc::MSG_NOSIGNAL.unsigned_abs();
                        opcode::SendMsg::new(fd, gather.message()).flags(flags).build()
                    }
                }
            }
            Work::Accept => opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut())
                .flags(libc::SOCK_CLOEXEC)
                .build(),
            Work::Connect(address) => {
                opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build()
            }
        };
        // SAFETY: what the entry names by pointer is owned by the operation's slot in `flights`, on
        // the heap, and stays there untouched until its completion is seen.
        unsafe { self.push(&entry.user_data(key.to_bits())) };
    }

    /// # Safety
    ///
    /// What the entry names must outlive the operation.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller's promise.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // Full: the kernel takes what is there. It may be out of memory for a moment only.
            if let Err(error) = self.ring.submit()
                && error.raw_os_error() == Some(libc::EBUSY)
            {
                self.reap_into_overflow();
            }
        }
    }

    /// Makes room among the completions, which the kernel wants before it takes more.
    fn reap_into_overflow(&mut self) {
        let completions = self.ring.completion();
        self.reaped.extend(completions.map(|one| (one.user_data(), one.result(), one.flags())));
    }

    pub(super) fn take(&mut self, key: Key, waits: Waits) -> Option<Done> {
        self.flights.take(key, waits)
    }

    pub(super) fn abandon(&mut self, key: Key) {
        if self.flights.abandon(key) {
            let cancel = opcode::AsyncCancel::new(key.to_bits()).build().user_data(IGNORED);
            // SAFETY: it names nothing by pointer.
            unsafe { self.push(&cancel) };
        }
    }

    /// Closes after everything that was started on `fd` before.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        let close = opcode::Close::new(types::Fd(fd.into_raw_fd())).build().user_data(CLOSED);
        self.closing = self.closing.saturating_add(1);
        // SAFETY: it names nothing by pointer.
        unsafe { self.push(&close) };
    }

    /// Hands over what waits, and waits for a completion; `None`: for as long as it takes.
    pub(super) fn wait(
        &mut self,
        within: Option<Duration>,
        woken: &mut impl FnMut(TaskId),
    ) -> io::Result<()> {
        // What was reaped to make room is not waited for.
        let within = if self.reaped.is_empty() { within } else { Some(Duration::ZERO) };
        match enter(&self.ring.submitter(), within) {
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        self.reap(woken);
        Ok(())
    }

    fn reap(&mut self, woken: &mut impl FnMut(TaskId)) {
        self.reap_into_overflow();
        let mut reaped = std::mem::take(&mut self.reaped);
        for (bits, result, flags) in reaped.drain(..) {
            match bits {
                IGNORED => {}
                CLOSED => self.closing = self.closing.saturating_sub(1),
                bits => self.complete(Key::from_bits(bits), result, flags, woken),
            }
        }
        // What came while entries were pushed is kept too.
        reaped.append(&mut self.reaped);
        self.reaped = reaped;
    }

    fn complete(&mut self, key: Key, result: i32, flags: u32, woken: &mut impl FnMut(TaskId)) {
        let result = match usize::try_from(result) {
            Ok(count) => Ok(count),
            Err(_) => Err(io::Error::from_raw_os_error(result.saturating_neg())),
        };
        let (mut buffer, mut accepted) = (None, None);
        match (self.flights.work(key), &result) {
            // A completion says what became of a buffer, whatever else it says.
            (Some((Work::Receive(class), _)), result) => {
                if let Some(id) = cqueue::buffer_select(flags) {
                    let count = *result.as_ref().unwrap_or(&0);
                    let class = *class;
                    buffer = self.taken(class, id, count);
                }
                let none = |error: &io::Error| error.raw_os_error() == Some(libc::ENOBUFS);
                if result.as_ref().is_err_and(none) && self.flights.is_wanted(key) {
                    // More came in one turn than there were buffers; there are by the next.
                    return self.submit(key);
                }
            }
            (Some((Work::Accept, _)), Ok(fd)) => {
                let fd = RawFd::try_from(*fd).ok();
                // SAFETY: the kernel just made it, and nobody else has it.
                accepted = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
            }
            _ => {}
        }
        if let Some(task) = self.flights.complete(key, buffer, accepted, result) {
            woken(task);
        }
    }

    /// The buffer that the kernel chose, with `count` bytes. Another one takes its place.
    fn taken(&mut self, class: Class, id: u16, count: usize) -> Option<Buffer> {
        let provided = match class {
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        };
        let mut pool = self.buffers.borrow_mut();
        let mut buffer = provided.replace(id, &mut pool)?;
        if count == 0 {
            pool.put(buffer);
            return None;
        }
        buffer.extend(count);
        Some(buffer)
    }

    /// Cancels everything and waits until the kernel has let go of all memory and descriptors.
    /// Returns whether it did.
    pub(super) fn settle(&mut self) -> bool {
        let cancel = types::CancelBuilder::any().all();
        let cancel = opcode::AsyncCancel2::new(cancel).build().user_data(IGNORED);
        // SAFETY: it names nothing by pointer.
        unsafe { self.push(&cancel) };
        let until = Instant::now() + SETTLE;
        while self.flights.flying() > 0 || self.closing > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.wait(Some(left), &mut |_| {}).is_err() {
                return false;
            }
        }
        true
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if !self.settle() {
            // The kernel may write to it still: memory that is lost is better than memory that is
            // somebody else's.
            tracing::error!("operations outlive their ring; their memory is not given back");
            std::mem::forget(std::mem::take(&mut self.flights));
            self.small.leak();
            self.large.leak();
        }
    }
}

/// Waits for one completion, also when there shall be no wait: deferred work is not run otherwise.
fn enter(submitter: &Submitter<'_>, within: Option<Duration>) -> io::Result<usize> {
    let Some(within) = within else { return submitter.submit_and_wait(1) };
    let within = types::Timespec::from(within);
    submitter.submit_with_args(1, &types::SubmitArgs::new().timespec(&within))
}

/// The time is over, a signal came, or completions must be taken first.
fn is_passing(error: &io::Error) -> bool {
    let codes = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

type Builder = io_uring::Builder;
type Setting = (&'static str, fn() -> Builder);

/// How a ring is asked for, the best first; older kernels refuse what they do not know.
///
/// Without one of the first two each completion interrupts the worker: a third of its CPU time at
/// 64 connections went to signals and interprocessor interrupts.
const SETTINGS: [Setting; 3] = [
    ("defer_taskrun", || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun();
        builder
    }),
    ("coop_taskrun", || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS).setup_coop_taskrun();
        builder
    }),
    ("plain", || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(COMPLETIONS);
        builder
    }),
];
/// Entries that wait for one turn.
const ENTRIES: u32 = 1_024;
const COMPLETIONS: u32 = 4_096;
/// Buffers that the kernel has in hand, by size. Each is replaced as soon as it is filled; more
/// would wander through more of the cache, fewer would run out within one turn.
const SMALL_COUNT: u16 = 128;
const LARGE_COUNT: u16 = 16;
/// `IORING_RECVSEND_POLL_FIRST`: a peer rarely answers before it was asked, so the first look is
/// for readiness and not for bytes.
const POLL_FIRST: u16 = 1;
const READABLE: u32 = (libc::POLLIN | libc::POLLRDHUP) as u32;
/// What no operation's key is: their generation would be the last of 4 billion.
const IGNORED: u64 = u64::MAX;
const CLOSED: u64 = u64::MAX - 1;
/// How long the kernel may take to let go of everything.
const SETTLE: Duration = Duration::from_secs(2);
