//! One worker: a thread with its own driver, listeners, connections, pool and buffers.
//!
//! It accepts until it is told to stop, then finishes what is in hand within the drain time, ends
//! the rest, and leaves no thread and no descriptor behind.

use super::buffer::Class;
use super::counters::Counters;
use super::driver::{self, DriverKind};
use super::opening::Opening;
use super::published::Published;
use super::reactor::{Descriptor, Join, Reactor};
use super::shared::Shared;
use super::signal::Phase;
use super::sys::Work;
use super::upstreams::{Addresses, Upstreams};
use super::{Sessions, accept, bell, clock, mailbox, sys};
use crate::base::{Limits, ListenerId};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Type};
use std::future::{Future, poll_fn};
use std::io::{self, Write};
use std::net::SocketAddr;
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
    /// How its connections begin.
    pub opening: Opening,
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
    let reactor = match reactor(plan.force_legacy) {
        Ok(reactor) => reactor,
        Err(error) => {
            let _ = sender.send(Err(error));
            return;
        }
    };
    if let Err(error) = reactor.block_on(work(plan, make, command, sender, Rc::clone(&reactor))) {
        tracing::error!(%error, "a worker's driver failed");
    }
}

/// On io_uring, unless that is refused or not wanted.
fn reactor(force_legacy: bool) -> io::Result<Rc<Reactor>> {
    if force_legacy {
        return Reactor::poller();
    }
    match driver::open() {
        Ok(reactor) => Ok(reactor),
        Err(reason) => {
            tracing::warn!(reason, "the worker runs on epoll");
            Reactor::poller()
        }
    }
}

/// Everything that happens on the worker's thread.
async fn work<K, F>(
    plan: WorkerPlan,
    make: F,
    command: std::os::unix::net::UnixStream,
    sender: &mpsc::SyncSender<io::Result<Ready>>,
    reactor: Rc<Reactor>,
) where
    K: Sessions + 'static,
    F: FnOnce() -> K,
{
    let command = reactor.adopt(command);
    let (listeners, addresses) = match open(&plan, &reactor) {
        Ok(opened) => opened,
        Err(error) => {
            reactor.settle();
            let _ = sender.send(Err(error));
            return;
        }
    };
    let drain_ms = plan.limits.drain_ms;
    let (limits, counters) = (plan.limits, plan.counters);
    let shared = Shared::new(Rc::clone(&reactor), limits, plan.upstreams, plan.addresses, counters);
    let sessions = Rc::new(make());
    let fds: Vec<_> = listeners.iter().map(Descriptor::raw).collect();
    let bell = sessions.bell().map(|stream| {
        let stream = reactor.adopt(stream);
        reactor.spawn(bell::listen(stream, Rc::clone(&shared)))
    });
    let mail = sessions.mail().map(|mail| {
        let (letters, stream) = mail.split(&reactor);
        reactor.spawn(mailbox::listen(letters, stream, Rc::clone(&shared)))
    });
    let loops: Vec<Join> = listeners
        .into_iter()
        .zip(plan.listeners)
        .map(|(listener, plan)| {
            let (shared, sessions) = (Rc::clone(&shared), Rc::clone(&sessions));
            reactor.spawn(accept::accept_loop(listener, plan, shared, sessions))
        })
        .collect();
    if sender.send(Ok(Ready { driver: reactor.kind(), addresses })).is_err() {
        return;
    }
    let mut order = Order::Serve;
    let mut until_ns = u64::MAX;
    {
        let mut read = pin!(Some(next_order(command)));
        let listener = shared.signal.listen();
        while order != Order::Stop {
            let mut tick = pin!(reactor.sleep(Duration::from_millis(TICK_MS)));
            let heard = poll_fn(|cx| {
                listener.register();
                let heard = read.as_mut().as_pin_mut().map(|read| read.poll(cx));
                if let Some(Poll::Ready((order, command))) = heard {
                    read.set((order != Order::Stop).then(|| next_order(command)));
                    return Poll::Ready(Some(order));
                }
                if order == Order::Drain && shared.is_empty() {
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
    for rings in bell.into_iter().chain(mail) {
        rings.await;
    }
    wait_until_empty(&shared).await;
    shared.sweep(clock::now());
    drop((shared, sessions));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    Drain,
    Stop,
}

/// The next command; the stream goes in and comes back, so that the read owns it.
async fn next_order(stream: Descriptor) -> (Order, Descriptor) {
    let done = stream.start(Work::Receive(Class::Small)).await;
    let order = match done.buffer.as_ref().map(|buffer| buffer.filled()) {
        Some(bytes) if !bytes.is_empty() && bytes.iter().all(|byte| [*byte] == DRAIN) => {
            Order::Drain
        }
        // An end of the stream, too: whoever held the handle is gone.
        _ => Order::Stop,
    };
    (order, stream)
}

fn open(
    plan: &WorkerPlan,
    reactor: &Rc<Reactor>,
) -> io::Result<(Vec<Descriptor>, Vec<SocketAddr>)> {
    let mut listeners = Vec::new();
    let mut addresses = Vec::new();
    for listener in &plan.listeners {
        let (opened, address) = listen(listener.address, reactor)?;
        addresses.push(address);
        listeners.push(opened);
    }
    Ok((listeners, addresses))
}

fn listen(address: SocketAddr, reactor: &Rc<Reactor>) -> io::Result<(Descriptor, SocketAddr)> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Under epoll an accept must not block the thread; under io_uring it must not fail instead of
    // waiting.
    socket.set_nonblocking(reactor.kind() == DriverKind::Legacy)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let socket = std::net::TcpListener::from(socket);
    let address = socket.local_addr()?;
    Ok((reactor.adopt(socket), address))
}

/// Every connection was told to end; none holds out longer than its sockets do.
async fn wait_until_empty(shared: &Rc<Shared>) {
    let listener = shared.signal.listen();
    let mut bound = pin!(shared.reactor.sleep(Duration::from_millis(HOLD_OUT_MS)));
    poll_fn(|cx| {
        listener.register();
        if shared.is_empty() {
            return Poll::Ready(());
        }
        bound.as_mut().poll(cx).map(|()| {
            tracing::error!(left = shared.connections.get(), "connections outlive their worker");
        })
    })
    .await;
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;
/// How often idle connections and times are looked at.
const TICK_MS: u64 = 250;
/// How long connections that were told to end may take.
const HOLD_OUT_MS: u64 = 5_000;
