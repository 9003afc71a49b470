//! The driver on io_uring: one ring, and two rings of buffers that the kernel fills when bytes come.
//!
//! An operation is a submission entry now and a completion entry later; in between, what it owns
//! lies in [`Flights`]. Entries go to the kernel together, with the wait for completions, so that
//! the calls for each request shrink with the load.

use super::flight::{Done, Flights, Key, Waits, Work};
use super::provided::Provided;
use super::stream::{Came, Kind, Next, Stream, Streams};
use crate::runtime::buffer::{Buffer, Buffers, Class};
use crate::runtime::reactor::TaskId;
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue, types};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// See the module.
pub(in crate::runtime) struct Ring {
    ring: IoUring,
    small: Provided,
    large: Provided,
    flights: Flights,
    streams: Streams,
    /// Standing reads that the kernel has, of closed descriptors too.
    standing: usize,
    /// Closes on their way.
    closing: usize,
    buffers: Rc<RefCell<Buffers>>,
    /// Completions of one turn.
    reaped: Vec<(u64, i32, u32)>,
}

impl Ring {
    /// # Errors
    /// The kernel's: `EINVAL` from one that knows less than Linux 6.1.
    pub(super) fn new(buffers: Rc<RefCell<Buffers>>) -> io::Result<Self> {
        let mut builder = IoUring::builder();
        // What completes is looked at when the worker waits, and does not interrupt it: a third of
        // its CPU time at 64 connections went to signals and interprocessor interrupts.
        builder.setup_cqsize(COMPLETIONS).setup_single_issuer().setup_defer_taskrun();
        Self::with(builder.build(ENTRIES)?, buffers)
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
            streams: Streams::default(),
            standing: 0,
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
        let reads = work.reads().map(|kind| self.streams.allowed(kind));
        let key = self.flights.add(fd, work);
        let Some((kind, stream)) = reads.zip(self.streams.at(fd)) else {
            self.submit(key);
            return key;
        };
        if stream.kept().is_none() {
            let next = stream.wait(key, kind);
            self.go_on(fd, next);
        } else if kind == Kind::Readable {
            // Nobody waits yet: whoever started it looks before it does.
            self.flights.complete(key, None, None, Ok(0));
        } else if let Some(came) = self.streams.take_kept(fd) {
            self.hand_over(key, came);
        }
        key
    }

    /// Does what a standing read wants.
    fn go_on(&mut self, fd: RawFd, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Arm => {
                let group = Class::Small.group();
                let name = self.streams.name(fd);
                let entry = opcode::RecvMulti::new(types::Fd(fd), group).build().user_data(name);
                self.standing = self.standing.saturating_add(1);
                // SAFETY: what it writes to are buffers of its group, which the ring owns.
                unsafe { self.push(&entry) };
            }
            Next::Cancel => {
                let name = self.streams.name(fd);
                self.cancel(name);
            }
            Next::Alone(key) => self.submit(key),
        }
    }

    fn cancel(&mut self, name: u64) {
        let cancel = opcode::AsyncCancel::new(name).build().user_data(IGNORED);
        // SAFETY: it names nothing by pointer.
        unsafe { self.push(&cancel) };
    }

    /// Ends a read with what came; returns whom to wake.
    fn hand_over(&mut self, key: Key, came: Came) -> Option<TaskId> {
        let (buffer, result) = match came {
            Came::Bytes(buffer) => {
                let count = buffer.filled().len();
                (Some(buffer), Ok(count))
            }
            Came::End => (None, Ok(0)),
            Came::Broken(error) => (None, Err(error)),
        };
        self.flights.complete(key, buffer, None, result)
    }

    /// What came first of what nobody read: bytes, an end (zero), or an error.
    pub(super) fn kept(&mut self, fd: RawFd) -> Option<io::Result<usize>> {
        match self.streams.at(fd)?.kept()? {
            Came::Bytes(buffer) => Some(Ok(buffer.filled().len())),
            Came::End => Some(Ok(0)),
            Came::Broken(error) => Some(Err(error.kind().into())),
        }
    }

    /// Takes the first bytes that nobody read.
    pub(super) fn take_kept(&mut self, fd: RawFd) -> Option<Buffer> {
        match self.streams.take_kept(fd)? {
            Came::Bytes(buffer) => Some(buffer),
            Came::End | Came::Broken(_) => None,
        }
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
            match self.ring.submit() {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    self.reap_into_overflow();
                }
                Err(_) => std::thread::sleep(SCARCE),
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
        let fd = self.flights.work(key).map(|(_, fd)| fd);
        let stands =
            fd.and_then(|fd| self.streams.at(fd)).is_some_and(|stream| stream.abandon(key));
        if !self.flights.abandon(key) {
            return;
        }
        if stands {
            // The kernel never heard of it.
            self.flights.complete(key, None, None, Err(io::ErrorKind::Interrupted.into()));
        } else {
            self.cancel(key.to_bits());
        }
    }

    /// Closes after everything that was started on `fd` before.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        let raw = fd.as_raw_fd();
        let name = self.streams.name(raw);
        while let Some(came) = self.streams.take_kept(raw) {
            if let Came::Bytes(buffer) = came {
                self.buffers.borrow_mut().put(buffer);
            }
        }
        if self.streams.at(raw).is_some_and(Stream::close) {
            self.cancel(name);
        }
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
            // No memory for requests: it is asked again, but not at once.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => std::thread::sleep(SCARCE),
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
                bits => {
                    let task = match self.streams.named(bits) {
                        Some(fd) => self.came(fd, result, flags),
                        None => self.complete(Key::from_bits(bits), result, flags),
                    };
                    if let Some(task) = task {
                        woken(task);
                    }
                }
            }
        }
        for fd in self.streams.crowd_out() {
            self.go_on(fd, Next::Cancel);
        }
        // What came while entries were pushed is kept too.
        reaped.append(&mut self.reaped);
        self.reaped = reaped;
    }

    /// A completion of a standing read; `None`: its descriptor is closed.
    fn came(&mut self, fd: Option<RawFd>, result: i32, flags: u32) -> Option<TaskId> {
        let over = !cqueue::more(flags);
        if over {
            self.standing = self.standing.saturating_sub(1);
        }
        let result = outcome(result);
        let count = *result.as_ref().unwrap_or(&0);
        let buffer =
            cqueue::buffer_select(flags).and_then(|id| self.taken(Class::Small, id, count));
        let Some((fd, stream)) = fd.and_then(|fd| Some((fd, self.streams.at(fd)?))) else {
            buffer.into_iter().for_each(|buffer| self.buffers.borrow_mut().put(buffer));
            return None;
        };
        let came = match (buffer, result) {
            (Some(buffer), _) => Some(Came::Bytes(buffer)),
            (None, Ok(_)) => Some(Came::End),
            // Ended by us, or for want of buffers: there are some by the next turn.
            (None, Err(error)) => {
                let passing = [libc::ECANCELED, libc::ENOBUFS].map(Some);
                (!passing.contains(&error.raw_os_error())).then_some(Came::Broken(error))
            }
        };
        let waiting = stream.waiting();
        let kind = waiting.and_then(|key| self.flights.work(key)?.0.reads());
        let (mut woken, mut next) = (None, Next::Nothing);
        match (came, waiting) {
            (None, _) => {}
            (Some(Came::Bytes(buffer)), None) if stream.add(buffer.filled()) => {
                self.buffers.borrow_mut().put(buffer);
            }
            (Some(came), Some(key)) if kind == Some(Kind::Readable) => {
                stream.take_waiting();
                next = self.streams.keep(fd, came);
                woken = self.flights.complete(key, None, None, Ok(0));
            }
            (Some(came), Some(key)) => {
                stream.take_waiting();
                woken = self.hand_over(key, came);
            }
            (Some(came), None) => next = self.streams.keep(fd, came),
        }
        if over {
            let kind = self.streams.allowed(kind.unwrap_or(Kind::Standing));
            next = self.streams.at(fd)?.ended(kind);
        }
        self.go_on(fd, next);
        woken
    }

    fn complete(&mut self, key: Key, result: i32, flags: u32) -> Option<TaskId> {
        let result = outcome(result);
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
                    self.submit(key);
                    return None;
                }
            }
            (Some((Work::Accept, _)), Ok(fd)) => {
                let fd = RawFd::try_from(*fd).ok();
                // SAFETY: the kernel just made it, and nobody else has it.
                accepted = fd.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
            }
            _ => {}
        }
        self.flights.complete(key, buffer, accepted, result)
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
        while self.flights.flying() > 0 || self.standing > 0 || self.closing > 0 {
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

fn outcome(result: i32) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(result.saturating_neg()))
}

/// Waits for one completion, also when there shall be no wait: deferred work is not run otherwise.
fn enter(submitter: &Submitter<'_>, within: Option<Duration>) -> io::Result<usize> {
    let Some(within) = within else { return submitter.submit_and_wait(1) };
    let within = types::Timespec::from(within);
    submitter.submit_with_args(1, &types::SubmitArgs::new().timespec(&within))
}

/// The time is over, a signal came, or completions must be taken first.
fn is_passing(error: &io::Error) -> bool {
    let codes = [libc::ETIME, libc::EINTR, libc::EBUSY];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

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
/// A pause while the kernel has no memory.
const SCARCE: Duration = Duration::from_millis(1);
/// How long the kernel may take to let go of everything.
const SETTLE: Duration = Duration::from_secs(2);
