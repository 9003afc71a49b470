//! Runs the tasks of one worker: a driver that says what is done, timers, and a queue.
//!
//! One thread and no atomics: tasks are woken by number, by the operations and timers that they
//! polled, and not by a [`std::task::Waker`]. So a future of another runtime would never be woken
//! here; only what this module and those above it make may be awaited.
//!
//! ```text
//! turn: run every ready task once -> hand over what they started and wait for a completion, until
//!       the first timer at most -> what is done and whose time has come makes tasks ready
//! ```

mod tasks;
mod timers;

pub(super) use tasks::TaskId;

use super::buffer::{Buffer, Buffers};
use super::sys::{Done, Driver, Key, Waits, Work};
use super::{DriverKind, clock};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tasks::Tasks;
use timers::{TimerKey, Timers};

/// See the module.
pub(super) struct Reactor {
    driver: RefCell<Driver>,
    kind: DriverKind,
    tasks: RefCell<Tasks>,
    timers: RefCell<Timers>,
    /// Who runs.
    current: Cell<TaskId>,
    /// The worker's free buffers, which the driver fills.
    pub(super) buffers: Rc<RefCell<Buffers>>,
}

impl Reactor {
    /// On io_uring.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ring() -> io::Result<Rc<Self>> {
        let buffers = Rc::default();
        let driver = Driver::ring(Rc::clone(&buffers))?;
        Ok(Self::with(driver, buffers))
    }

    /// On epoll.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn poller() -> io::Result<Rc<Self>> {
        let buffers = Rc::default();
        let driver = Driver::poller(Rc::clone(&buffers))?;
        Ok(Self::with(driver, buffers))
    }

    fn with(driver: Driver, buffers: Rc<RefCell<Buffers>>) -> Rc<Self> {
        Rc::new(Self {
            kind: driver.kind(),
            driver: RefCell::new(driver),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            current: Cell::new(TaskId::MAIN),
            buffers,
        })
    }

    pub(super) fn kind(&self) -> DriverKind {
        self.kind
    }

    /// Who runs; to be kept by whatever will wake it.
    pub(super) fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Has a task run at the next turn.
    pub(super) fn wake(&self, task: TaskId) {
        self.tasks.borrow_mut().wake(task);
    }

    /// Starts a task beside the others.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) -> Join {
        let id = self.tasks.borrow_mut().add(Box::pin(task));
        Join { reactor: Rc::clone(self), id }
    }

    /// Takes over a descriptor.
    pub(super) fn adopt(self: &Rc<Self>, fd: impl Into<OwnedFd>) -> Descriptor {
        Descriptor { fd: Some(fd.into()), reactor: Rc::clone(self) }
    }

    /// Runs `main` and the tasks that it starts, until `main` is over. What is left then is dropped.
    pub(super) fn block_on<F: Future>(self: &Rc<Self>, main: F) -> io::Result<F::Output> {
        // Behind `main` in the order of drops, and also when it panics.
        let _left = Left(self);
        let mut main = pin!(main);
        let mut context = Context::from_waker(Waker::noop());
        self.wake(TaskId::MAIN);
        loop {
            if self.tasks.borrow_mut().take_main() {
                self.current.set(TaskId::MAIN);
                if let Poll::Ready(output) = main.as_mut().poll(&mut context) {
                    break Ok(output);
                }
            }
            self.run_ready(&mut context);
            if let Err(error) = self.wait() {
                break Err(error);
            }
        }
    }

    /// Waits until every descriptor that was given up is closed.
    pub(super) fn settle(&self) {
        self.driver.borrow_mut().settle();
    }

    /// Every task that is ready, once; one that makes itself ready again waits for the next turn.
    fn run_ready(&self, context: &mut Context<'_>) {
        let count = self.tasks.borrow().ready();
        for _ in 0..count {
            let Some((id, mut task)) = self.tasks.borrow_mut().next() else { return };
            self.current.set(id);
            match task.as_mut().poll(context) {
                Poll::Pending => self.tasks.borrow_mut().put_back(id, task),
                Poll::Ready(()) => {
                    // Dropped without a borrow: it may start, wake and close.
                    drop(task);
                    self.tasks.borrow_mut().end(id);
                }
            }
        }
    }

    fn wait(&self) -> io::Result<()> {
        let next_ns = self.timers.borrow_mut().next();
        let within = if self.tasks.borrow().is_ready() {
            Some(Duration::ZERO)
        } else {
            next_ns.map(|at_ns| Duration::from_nanos(at_ns.saturating_sub(clock::mono_ns())))
        };
        let mut tasks = self.tasks.borrow_mut();
        self.driver.borrow_mut().wait(within, &mut |task| tasks.wake(task))?;
        if let Some(next_ns) = next_ns {
            let now_ns = clock::mono_ns();
            if next_ns <= now_ns {
                let mut timers = self.timers.borrow_mut();
                while let Some(task) = timers.fire(now_ns) {
                    tasks.wake(task);
                }
            }
        }
        Ok(())
    }

    /// A wait until [`crate::base::Now::mono_ns`] is `at_ns`.
    pub(super) fn sleep_until(self: &Rc<Self>, at_ns: u64) -> Sleep {
        let timer = self.timers.borrow_mut().arm(at_ns, self.current());
        Sleep { reactor: Rc::clone(self), timer }
    }

    /// A wait.
    pub(super) fn sleep(self: &Rc<Self>, span: Duration) -> Sleep {
        let span_ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.sleep_until(clock::mono_ns().saturating_add(span_ns))
    }

    /// Runs `task` for so long at most. `None`: it took longer.
    pub(super) async fn within<F: Future>(
        self: &Rc<Self>,
        span: Duration,
        task: F,
    ) -> Option<F::Output> {
        let mut sleep = self.sleep(span);
        let mut task = pin!(task);
        std::future::poll_fn(|cx| match task.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| None),
        })
        .await
    }

    /// Lets every other ready task run first.
    pub(super) async fn yield_now(&self) {
        let mut yielded = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            self.wake(self.current());
            Poll::Pending
        })
        .await;
    }
}

/// Drops the tasks that are left: they hold the reactor, and it holds them.
struct Left<'r>(&'r Reactor);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let left = self.0.tasks.borrow_mut().drain();
        drop(left);
    }
}

/// A descriptor that is closed behind the operations on it.
pub(super) struct Descriptor {
    fd: Option<OwnedFd>,
    reactor: Rc<Reactor>,
}

impl Descriptor {
    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// What came that no operation is to take: bytes (how many of them at least), or an end (zero).
    ///
    /// # Errors
    /// `WouldBlock` when nothing came; else the socket's error.
    pub(super) fn peek(&self) -> io::Result<usize> {
        self.reactor.driver.borrow_mut().peek(self.raw())
    }

    /// Takes bytes that [`Self::peek`] saw, if that is possible in their order.
    pub(super) fn take_peeked(&self) -> Option<Buffer> {
        self.reactor.driver.borrow_mut().take_peeked(self.raw())
    }

    /// Starts an operation. Whoever has it keeps the descriptor.
    pub(super) fn start(&self, work: Work) -> Op {
        let key = self.reactor.driver.borrow_mut().start(self.raw(), work);
        Op { reactor: Rc::clone(&self.reactor), key: Some(key) }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            self.reactor.driver.borrow_mut().close(fd);
        }
    }
}

impl std::fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Descriptor").field(&self.raw()).finish()
    }
}

/// An operation that was started. A drop gives it up.
pub(super) struct Op {
    reactor: Rc<Reactor>,
    /// `None` once its outcome was taken.
    key: Option<Key>,
}

impl Op {
    /// What came of it; until it is done the task that runs is woken, with `quiet` only if it does
    /// not come off whole.
    pub(super) fn outcome(&mut self, quiet: bool) -> Option<Done> {
        let waits = Waits { task: self.reactor.current(), quiet };
        let done = self.reactor.driver.borrow_mut().take(self.key?, waits)?;
        self.key = None;
        Some(done)
    }
}

impl Future for Op {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Done> {
        self.outcome(false).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.reactor.driver.borrow_mut().abandon(key);
        }
    }
}

/// See [`Reactor::sleep_until`].
pub(super) struct Sleep {
    reactor: Rc<Reactor>,
    timer: TimerKey,
}

impl Sleep {
    /// Starts over.
    pub(super) fn reset(&mut self, at_ns: u64) {
        let mut timers = self.reactor.timers.borrow_mut();
        timers.give_up(self.timer);
        self.timer = timers.arm(at_ns, self.reactor.current());
    }

    /// Whether its time came; until then the task that runs is woken.
    pub(super) fn is_over(&mut self) -> bool {
        let task = self.reactor.current();
        self.reactor.timers.borrow_mut().is_fired(self.timer, task)
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.is_over() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.reactor.timers.borrow_mut().give_up(self.timer);
    }
}

/// A task that was started; it runs also when this is dropped. Ready when it is over.
pub(super) struct Join {
    reactor: Rc<Reactor>,
    id: TaskId,
}

impl Future for Join {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let waiter = self.reactor.current();
        let over = self.reactor.tasks.borrow_mut().is_over(self.id, waiter);
        if over { Poll::Ready(()) } else { Poll::Pending }
    }
}
