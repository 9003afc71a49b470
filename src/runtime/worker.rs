//! One worker: a thread with its own driver, listeners, connections, pool and buffers.
//!
//! It accepts until it is told to stop, then finishes what is in hand within the drain time, ends
//! the rest, and leaves no thread and no descriptor behind.

use super::counters::Counters;
use super::driver::{self, DriverKind};
use super::published::Published;
use super::shared::Shared;
use super::signal::Phase;
use super::upstreams::{Addresses, Upstreams};
use super::{Sessions, accept, bell, clock, sys};
use crate::base::{Limits, ListenerId};
use monoio::io::AsyncReadRent;
use monoio::net::{ListenerOpts, TcpListener, UnixStream};
use monoio::time::sleep;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use rustls::ServerConfig;
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct ListenerPlan {
    /// What the sessions know it by.
    pub id: ListenerId,
    /// Where; port 0 takes any, see [`Worker::addresses`].
    pub address: SocketAddr,
    /// What it shows; a swap holds for handshakes that start after it.
    pub tls: Option<Arc<Published<ServerConfig>>>,
}

/// What a worker is to be.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
    /// The thread's name.
    pub name: String,
    /// The core to stay on.
    pub core: Option<usize>,
    /// Use epoll even where io_uring is offered.
    pub force_legacy: bool,
    /// Bounds and times.
    pub limits: Limits,
    /// Where to listen. Several workers may listen on one address; the kernel spreads.
    pub listeners: Vec<ListenerPlan>,
    /// Where resources are. Idle upstream connections end when another table is published.
    pub upstreams: Arc<Published<Upstreams>>,
    /// What names resolve to.
    pub addresses: Arc<Published<Addresses>>,
    /// Where it counts; a set of its own for each worker.
    pub counters: Arc<Counters>,
}

/// A running worker. A drop ends it at once; [`Worker::stop`] lets it drain.
#[derive(Debug)]
pub struct Worker {
    command: std::os::unix::net::UnixStream,
    thread: Option<JoinHandle<()>>,
    driver: DriverKind,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
}

const DRAIN: &[u8] = b"d";
const STOP: &[u8] = b"x";

struct Ready {
    driver: DriverKind,
    addresses: Vec<SocketAddr>,
}

impl Worker {
    /// Starts the thread and returns when it listens. `make` runs on the thread, so the sessions
    /// need not be `Send`.
    ///
    /// # Errors
    /// The thread, the driver or a listening socket could not be made.
    pub fn start<K, F>(plan: WorkerPlan, make: F) -> io::Result<Self>
    where
        K: Sessions + 'static,
        F: FnOnce() -> K + Send + 'static,
    {
        let counters = Arc::clone(&plan.counters);
        let (command, inner) = std::os::unix::net::UnixStream::pair()?;
        let (sender, ready) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(plan.name.clone())
            .spawn(move || run(plan, make, inner, &sender))?;
        let mut worker = Self {
            command,
            thread: Some(thread),
            driver: DriverKind::Legacy,
            addresses: Vec::new(),
            counters,
        };
        match ready.recv() {
            Ok(Ok(ready)) => {
                worker.driver = ready.driver;
                worker.addresses = ready.addresses;
                Ok(worker)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the worker ended before it listened")),
        }
    }

    /// What it runs on.
    #[must_use]
    pub fn driver(&self) -> DriverKind {
        self.driver
    }

    /// Where it listens, in the order of the plan.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it counts.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Tells it to accept no more and to finish what is in hand, within `limits.drain_ms`.
    pub fn drain(&self) {
        // A worker that is gone already needs no command.
        let _ = (&self.command).write_all(DRAIN);
    }

    /// Drains and waits for the end. Returns whether the thread ended without a panic.
    #[must_use]
    pub fn stop(mut self) -> bool {
        self.drain();
        self.join()
    }

    /// Ends every connection and waits. Returns whether the thread ended without a panic.
    #[must_use]
    pub fn kill(mut self) -> bool {
        let _ = (&self.command).write_all(STOP);
        self.join()
    }

    /// Whether its thread is still there.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn join(&mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = (&self.command).write_all(STOP);
            self.join();
        }
    }
}

fn run<K, F>(
    plan: WorkerPlan,
    make: F,
    command: std::os::unix::net::UnixStream,
    sender: &mpsc::SyncSender<io::Result<Ready>>,
) where
    K: Sessions + 'static,
    F: FnOnce() -> K,
{
    if let Some(core) = plan.core
        && let Err(error) = sys::pin_to_core(core)
    {
        tracing::warn!(core, %error, "a worker cannot stay on its core");
    }
    let probed = driver::probe();
    if !plan.force_legacy && probed.driver == DriverKind::Uring {
        let built = RINGS.iter().find_map(|(flags, builder)| {
            let runtime = RuntimeBuilder::<IoUringDriver>::new()
                .with_entries(RING_ENTRIES)
                .uring_builder(builder())
                .enable_timer()
                .build();
            match runtime {
                Ok(runtime) => Some(Ok((flags, runtime))),
                // The last and plainest one has the last word.
                Err(error) if *flags == PLAIN => Some(Err(error)),
                Err(_) => None,
            }
        });
        match built.unwrap_or_else(|| Err(io::ErrorKind::Unsupported.into())) {
            Ok((flags, mut runtime)) => {
                tracing::debug!(flags, "io_uring is set up");
                runtime.block_on(work(plan, make, command, sender, DriverKind::Uring));
                return;
            }
            Err(error) => tracing::warn!(%error, "io_uring failed; the worker runs on epoll"),
        }
    } else if let (false, Some(reason)) = (plan.force_legacy, &probed.reason) {
        tracing::warn!(reason, "the worker runs on epoll");
    }
    match RuntimeBuilder::<LegacyDriver>::new().enable_timer().build() {
        Ok(mut runtime) => {
            runtime.block_on(work(plan, make, command, sender, DriverKind::Legacy));
        }
        Err(error) => {
            let _ = sender.send(Err(error));
        }
    }
}

/// Everything that happens on the worker's thread.
async fn work<K, F>(
    plan: WorkerPlan,
    make: F,
    command: std::os::unix::net::UnixStream,
    sender: &mpsc::SyncSender<io::Result<Ready>>,
    driver: DriverKind,
) where
    K: Sessions + 'static,
    F: FnOnce() -> K,
{
    let opened = open(&plan, command, driver);
    let (listeners, addresses, command) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            flush_closes().await;
            let _ = sender.send(Err(error));
            return;
        }
    };
    let drain_ms = plan.limits.drain_ms;
    let shared = Shared::new(plan.limits, plan.upstreams, plan.addresses, plan.counters);
    let sessions = Rc::new(make());
    let fds: Vec<_> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
    let bell = match sessions.bell().map(|bell| adopt(bell, driver)).transpose() {
        Ok(bell) => bell,
        Err(error) => {
            flush_closes().await;
            let _ = sender.send(Err(error));
            return;
        }
    };
    let bell = bell.map(|stream| monoio::spawn(bell::listen(stream, Rc::clone(&shared))));
    let loops: Vec<_> = listeners
        .into_iter()
        .zip(plan.listeners)
        .map(|(listener, plan)| {
            let (shared, sessions) = (Rc::clone(&shared), Rc::clone(&sessions));
            monoio::spawn(accept::accept_loop(listener, plan, shared, sessions))
        })
        .collect();
    if sender.send(Ok(Ready { driver, addresses })).is_err() {
        return;
    }
    let mut order = Order::Serve;
    let mut until_ns = u64::MAX;
    {
        let mut read = pin!(Some(next_order(command)));
        let listener = shared.signal.listen();
        while order != Order::Stop {
            let mut tick = pin!(sleep(Duration::from_millis(TICK_MS)));
            let heard = poll_fn(|cx| {
                listener.register(cx.waker());
                let heard = read.as_mut().as_pin_mut().map(|read| read.poll(cx));
                if let Some(Poll::Ready((order, command))) = heard {
                    read.set((order != Order::Stop).then(|| next_order(command)));
                    return Poll::Ready(Some(order));
                }
                if order == Order::Drain && shared.connections.get() == 0 {
                    return Poll::Ready(Some(Order::Stop));
                }
                tick.as_mut().poll(cx).map(|()| None)
            })
            .await;
            let now = clock::now();
            match heard {
                Some(Order::Drain) if order == Order::Serve => {
                    order = Order::Drain;
                    until_ns = now.after_ms(drain_ms);
                    shared.signal.advance(Phase::Draining);
                    fds.iter().for_each(|fd| sys::shutdown_both(*fd));
                    shared.sweep(now);
                }
                Some(Order::Serve | Order::Drain) => {}
                Some(Order::Stop) => order = Order::Stop,
                None => {
                    shared.signal.wake_due(now);
                    shared.sweep(now);
                    shared.note_levels();
                    sessions.tick(now);
                    if now.mono_ns >= until_ns {
                        tracing::warn!(
                            connections = shared.connections.get(),
                            "the drain time is over; connections are cut"
                        );
                        order = Order::Stop;
                    }
                }
            }
        }
    }
    if !shared.signal.is_draining() {
        // Once only: after it the loops close the descriptors, and others may get their numbers.
        fds.iter().for_each(|fd| sys::shutdown_both(*fd));
    }
    shared.signal.advance(Phase::Stopped);
    for accepts in loops {
        accepts.await;
    }
    if let Some(bell) = bell {
        bell.await;
    }
    wait_until_empty(&shared).await;
    shared.sweep(clock::now());
    drop((shared, sessions));
    flush_closes().await;
}

/// Closes are queued in the ring; a pass through the driver carries them out.
async fn flush_closes() {
    sleep(Duration::from_millis(2)).await;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    Drain,
    Stop,
}

/// The next command; the stream goes in and comes back, so that the read owns it.
async fn next_order(mut stream: UnixStream) -> (Order, UnixStream) {
    let (result, byte) = stream.read(Vec::with_capacity(1)).await;
    let order = match (result, byte.as_slice()) {
        (Ok(1), DRAIN) => Order::Drain,
        // An end of the stream, too: whoever held the handle is gone.
        _ => Order::Stop,
    };
    (order, stream)
}

type Opened = (Vec<TcpListener>, Vec<SocketAddr>, UnixStream);

fn open(
    plan: &WorkerPlan,
    command: std::os::unix::net::UnixStream,
    driver: DriverKind,
) -> io::Result<Opened> {
    let command = adopt(command, driver)?;
    let options = ListenerOpts::new().reuse_port(true).reuse_addr(true).backlog(BACKLOG);
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listener in &plan.listeners {
        let opened = TcpListener::bind_with_config(listener.address, &options)?;
        addresses.push(opened.local_addr()?);
        listeners.push(opened);
    }
    Ok((listeners, addresses, command))
}

fn adopt(stream: std::os::unix::net::UnixStream, driver: DriverKind) -> io::Result<UnixStream> {
    // A blocking descriptor would block the whole thread under epoll; under io_uring a
    // non-blocking one would fail instead of waiting.
    stream.set_nonblocking(driver == DriverKind::Legacy)?;
    UnixStream::from_std(stream)
}

/// Every connection was told to end; none holds out longer than its sockets do.
async fn wait_until_empty(shared: &Rc<Shared>) {
    let listener = shared.signal.listen();
    let mut bound = pin!(sleep(Duration::from_millis(HOLD_OUT_MS)));
    poll_fn(|cx| {
        listener.register(cx.waker());
        if shared.connections.get() == 0 {
            return Poll::Ready(());
        }
        bound.as_mut().poll(cx).map(|()| {
            tracing::error!(left = shared.connections.get(), "connections outlive their worker");
        })
    })
    .await;
}

type RingBuilder = fn() -> io_uring::Builder;

/// How a ring is asked for, the best first; older kernels refuse what they do not know.
///
/// Without one of the first two each completion interrupts the worker: a third of its CPU time at
/// 64 connections went to signals and interprocessor interrupts.
const RINGS: [(&str, RingBuilder); 3] = [
    ("defer_taskrun", || {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun();
        builder
    }),
    ("coop_taskrun", || {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_coop_taskrun();
        builder
    }),
    (PLAIN, io_uring::IoUring::builder),
];
const PLAIN: &str = "plain";
/// Entries of a worker's ring.
const RING_ENTRIES: u32 = 2_048;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// How often idle connections and times are looked at.
const TICK_MS: u64 = 250;
/// How long connections that were told to end may take.
const HOLD_OUT_MS: u64 = 5_000;
