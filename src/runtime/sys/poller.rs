//! The driver on epoll, where io_uring is refused: each operation is tried at once, and again when
//! its descriptor is said to be ready.
//!
//! A descriptor is registered once, edge-triggered, when an operation on it first has to wait. One
//! operation that reads and one that writes may wait on it at a time.

use super::flight::{Done, Flights, Key, Waits, Work};
use crate::runtime::buffer::{Buffer, Buffers};
use crate::runtime::reactor::TaskId;
use ahash::AHashMap;
use socket2::SockRef;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// See the module.
pub(in crate::runtime) struct Poller {
    epoll: OwnedFd,
    flights: Flights,
    waiting: AHashMap<RawFd, Waiting>,
    events: Vec<libc::epoll_event>,
    buffers: Rc<RefCell<Buffers>>,
}

/// Which operations wait on a descriptor.
#[derive(Clone, Copy, Default)]
struct Waiting {
    reads: Option<Key>,
    writes: Option<Key>,
}

/// What a try came to: bytes and a connection, or an error.
type Tried = (Option<Buffer>, Option<OwnedFd>, io::Result<usize>);

impl Poller {
    pub(super) fn new(buffers: Rc<RefCell<Buffers>>) -> io::Result<Self> {
        // SAFETY: a call without pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            // SAFETY: it was just made, and nobody else has it.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            flights: Flights::default(),
            waiting: AHashMap::default(),
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS],
            buffers,
        })
    }

    pub(super) fn start(&mut self, fd: RawFd, work: Work) -> Key {
        let writes = matches!(work, Work::Send(_) | Work::Connect(_));
        let first = matches!(work, Work::Connect(_));
        let key = self.flights.add(fd, work);
        let tried = if first { self.connect(key) } else { self.attempt(key) };
        match tried {
            Some((buffer, accepted, result)) => {
                // Nobody waits yet: whoever started it looks before it does.
                self.flights.complete(key, buffer, accepted, result);
            }
            None => {
                if let Err(error) = self.register(fd) {
                    self.flights.complete(key, None, None, Err(error));
                    return key;
                }
                let waiting = self.waiting.entry(fd).or_default();
                let place = if writes { &mut waiting.writes } else { &mut waiting.reads };
                debug_assert!(place.is_none(), "two operations of a kind on one descriptor");
                *place = Some(key);
            }
        }
        key
    }

    fn register(&mut self, fd: RawFd) -> io::Result<()> {
        if self.waiting.contains_key(&fd) {
            return Ok(());
        }
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let data = u64::try_from(fd).unwrap_or(u64::MAX);
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: `event` lives for the time of the call.
        let result = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        self.waiting.insert(fd, Waiting::default());
        Ok(())
    }

    /// The first step of a connect.
    fn connect(&mut self, key: Key) -> Option<Tried> {
        let Some((Work::Connect(address), fd)) = self.flights.work(key) else { return None };
        // SAFETY: whoever started the operation keeps the descriptor open.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        let socket = SockRef::from(&socket);
        let result = socket.set_nonblocking(true).and_then(|()| socket.connect(address));
        match result {
            Ok(()) => Some((None, None, Ok(0))),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => None,
            Err(error) => Some((None, None, Err(error))),
        }
    }

    /// Tries an operation. `None`: it would have to wait.
    fn attempt(&mut self, key: Key) -> Option<Tried> {
        let (work, fd) = self.flights.work(key)?;
        let (mut buffer, mut accepted) = (None, None);
        let result = match work {
            Work::Receive(class) => {
                let mut pool = self.buffers.borrow_mut();
                let mut taken = pool.take(*class);
                let result = super::receive_now(fd, taken.room(), false);
                match result {
                    Ok(count) if count > 0 => {
                        taken.extend(count);
                        buffer = Some(taken);
                    }
                    _ => pool.put(taken),
                }
                result
            }
            Work::Readable => super::receive_now(fd, &mut [0], true).map(|_| 0),
            Work::Send(gather) => {
                gather.aim();
                let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
                // SAFETY: the message names memory that the operation's slot owns, which nothing
                // touches during the call.
                let count = unsafe { libc::sendmsg(fd, gather.message(), flags) };
                usize::try_from(count).map_err(|_| io::Error::last_os_error())
            }
            Work::Accept => {
                let none = std::ptr::null_mut();
                // SAFETY: no address is asked for.
                let fd = unsafe { libc::accept4(fd, none, none.cast(), libc::SOCK_CLOEXEC) };
                if fd < 0 {
                    Err(io::Error::last_os_error())
                } else {
                    // SAFETY: it was just made, and nobody else has it.
                    accepted = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                    Ok(0)
                }
            }
            Work::Connect(_) => {
                // SAFETY: whoever started the operation keeps the descriptor open.
                let socket = unsafe { BorrowedFd::borrow_raw(fd) };
                let socket = SockRef::from(&socket);
                match socket.take_error() {
                    Ok(None) if socket.peer_addr().is_err() => return None,
                    Ok(None) => Ok(0),
                    Ok(Some(error)) | Err(error) => Err(error),
                }
            }
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.attempt(key),
            result => Some((buffer, accepted, result)),
        }
    }

    pub(super) fn take(&mut self, key: Key, waits: Waits) -> Option<Done> {
        self.flights.take(key, waits)
    }

    pub(super) fn abandon(&mut self, key: Key) {
        let fd = self.flights.work(key).map(|(_, fd)| fd);
        if let Some(waiting) = fd.and_then(|fd| self.waiting.get_mut(&fd)) {
            waiting.reads.take_if(|waits| *waits == key);
            waiting.writes.take_if(|waits| *waits == key);
        }
        if self.flights.abandon(key) {
            // Nothing of it is the kernel's.
            self.flights.complete(key, None, None, Err(io::ErrorKind::Interrupted.into()));
        }
    }

    pub(super) fn close(&mut self, fd: OwnedFd) {
        // The kernel forgets it with its last copy, and none was made.
        self.waiting.remove(&fd.as_raw_fd());
        drop(fd);
    }

    pub(super) fn wait(
        &mut self,
        within: Option<Duration>,
        woken: &mut impl FnMut(TaskId),
    ) -> io::Result<()> {
        // Rounded up: one that wakes too early would look again and again.
        let ms = within.map_or(-1, |within| {
            i32::try_from(within.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX)
        });
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        // SAFETY: pointer and count are those of `events`.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, ms) };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        };
        for index in 0..count {
            let Some(event) = self.events.get(index).copied() else { break };
            let (events, data) = (event.events, event.u64);
            let Ok(fd) = RawFd::try_from(data) else { continue };
            let Some(waiting) = self.waiting.get(&fd).copied() else { continue };
            let is = |bits: i32| events & bits.unsigned_abs() != 0;
            let broken = is(libc::EPOLLERR | libc::EPOLLHUP);
            if broken || is(libc::EPOLLIN | libc::EPOLLRDHUP) {
                self.again(fd, waiting.reads, woken);
            }
            if broken || is(libc::EPOLLOUT) {
                self.again(fd, waiting.writes, woken);
            }
        }
        Ok(())
    }

    fn again(&mut self, fd: RawFd, key: Option<Key>, woken: &mut impl FnMut(TaskId)) {
        let Some(key) = key else { return };
        let Some((buffer, accepted, result)) = self.attempt(key) else { return };
        if let Some(waiting) = self.waiting.get_mut(&fd) {
            waiting.reads.take_if(|waits| *waits == key);
            waiting.writes.take_if(|waits| *waits == key);
        }
        if let Some(task) = self.flights.complete(key, buffer, accepted, result) {
            woken(task);
        }
    }
}

/// Events that one wait takes.
const EVENTS: usize = 256;
