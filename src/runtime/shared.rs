//! What the connections of one worker share: limits, free buffers, idle upstream connections.
//!
//! Nothing here is borrowed across an await.

use super::bell::Bell;
use super::buffer::{Buffer, Class};
use super::counters::Counters;
use super::mailbox::Posts;
use super::published::{Published, Watch};
use super::reactor::Reactor;
use super::signal::Signal;
use super::socket::{ConnectJob, Socket};
use super::upstreams::{Addresses, Upstreams};
use super::{clock, tls};
use crate::base::{Budgets, CredentialId, Hold, Limits, Now, ResourceId};
use crate::session::io::UpstreamFault;
use ahash::AHashMap;
use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a pooled connection may serve: one resource with one credential, of one config.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) resource: ResourceId,
    pub(super) credential: CredentialId,
    pub(super) generation: u64,
}

struct Idle {
    socket: Socket,
    since_ns: u64,
}

/// One worker's shared state; `Rc`.
pub(super) struct Shared {
    pub(super) reactor: Rc<Reactor>,
    pub(super) limits: Limits,
    pub(super) signal: Signal,
    /// Who waits for the disk.
    pub(super) bell: Bell,
    pub(super) counters: Arc<Counters>,
    /// Handshakes of callers, by address.
    handshakes: RefCell<Budgets>,
    upstreams: RefCell<Watch<Upstreams>>,
    addresses: RefCell<Watch<Addresses>>,
    idle: RefCell<AHashMap<Key, Vec<Idle>>>,
    counts: Rc<RefCell<AHashMap<ResourceId, Count>>>,
    /// Caller connections that are open.
    pub(super) connections: Cell<u32>,
    /// Connections beside those, see [`side`](super::side).
    pub(super) sides: Cell<u32>,
    pub(super) posts: Posts,
}

#[derive(Clone, Copy, Default)]
struct Count {
    open: u32,
    idle: u32,
}

/// A place among the upstream connections that a resource may have; given back when dropped.
pub(super) struct Place {
    counts: Rc<RefCell<AHashMap<ResourceId, Count>>>,
    resource: ResourceId,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.resource).finish()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(count) = self.counts.borrow_mut().get_mut(&self.resource) {
            count.open = count.open.saturating_sub(1);
        }
    }
}

/// A handshake of a caller in flight; over when dropped, however it ends.
pub(super) struct Handshake {
    shared: Rc<Shared>,
    hold: Hold,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.shared.handshakes.borrow_mut().give_back(&self.hold);
    }
}

/// What a wish for an upstream connection comes to.
pub(super) enum Found {
    /// An idle one was there.
    Pooled(Socket),
    /// One must be made.
    Connect(ConnectJob),
}

impl Shared {
    pub(super) fn new(
        reactor: Rc<Reactor>,
        limits: Limits,
        upstreams: Arc<Published<Upstreams>>,
        addresses: Arc<Published<Addresses>>,
        counters: Arc<Counters>,
    ) -> Rc<Self> {
        let addresses_max = usize::try_from(limits.addresses_max).unwrap_or(usize::MAX);
        let handshakes = Budgets::new(addresses_max, ahash::RandomState::new());
        Rc::new(Self {
            signal: Signal::new(Rc::clone(&reactor)),
            reactor,
            limits,
            bell: Bell::default(),
            counters,
            handshakes: RefCell::new(handshakes),
            upstreams: RefCell::new(Watch::new(upstreams)),
            addresses: RefCell::new(Watch::new(addresses)),
            idle: RefCell::default(),
            counts: Rc::default(),
            connections: Cell::new(0),
            sides: Cell::new(0),
            posts: Posts::default(),
        })
    }

    /// Whether every caller's connection is over, and everything that was begun for one.
    pub(super) fn is_empty(&self) -> bool {
        self.connections.get() == 0 && self.sides.get() == 0
    }

    /// Lets a caller begin a handshake, if its address may.
    pub(super) fn handshake(self: &Rc<Self>, from: IpAddr) -> Option<Handshake> {
        let (pace, held_max) = (self.limits.handshakes(), self.limits.address_handshakes_max);
        let mut handshakes = self.handshakes.borrow_mut();
        let hold = handshakes.hold(from, pace, held_max, clock::mono_ns())?;
        Some(Handshake { shared: Rc::clone(self), hold })
    }

    pub(super) fn take(&self, class: Class) -> Buffer {
        self.reactor.buffers.borrow_mut().take(class)
    }

    pub(super) fn join(&self, first: Buffer, second: Buffer) -> Result<Buffer, Buffer> {
        self.reactor.buffers.borrow_mut().join(first, second)
    }

    pub(super) fn grow(&self, buffer: Buffer) -> Result<Buffer, Buffer> {
        self.reactor.buffers.borrow_mut().grow(buffer)
    }

    pub(super) fn put(&self, buffer: Buffer) {
        self.reactor.buffers.borrow_mut().put(buffer);
    }

    /// Writes down the levels, for whoever reads the counters.
    pub(super) fn note_levels(&self) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let held = self.reactor.buffers.borrow().held();
        let counters = &self.counters;
        for (place, free) in counters.buffers_free.iter().zip(held.free) {
            place.set(count(free));
        }
        for (place, lent) in counters.buffers_lent.iter().zip(held.lent) {
            place.set(count(lent));
        }
        counters.buffer_bytes.set(count(held.bytes));
        let (open, idle) = self.counts.borrow().values().fold((0, 0), |(open, idle), one| {
            (open + u64::from(one.open), idle + u64::from(one.idle))
        });
        counters.upstream_busy.set(open.saturating_sub(idle));
        counters.upstream_idle.set(idle);
    }

    /// Finds an idle connection, or says how to make one. With `fresh` only the second.
    pub(super) fn find(&self, key: Key, fresh: bool, now: Now) -> Result<Found, UpstreamFault> {
        let reusable = || if fresh { None } else { self.take_idle(key) };
        while let Some(idle) = reusable() {
            let age_ns = now.mono_ns.saturating_sub(idle.since_ns);
            let young = age_ns < self.limits.upstream_idle_ms.saturating_mul(1_000_000);
            let mut socket = idle.socket;
            if young && self.is_healthy(&mut socket) {
                return Ok(Found::Pooled(socket));
            }
        }
        self.job(key, None).map(Found::Connect)
    }

    /// How to make a connection as `key` says: to one address, or to any that the resource has.
    pub(super) fn job(
        &self,
        key: Key,
        address: Option<SocketAddr>,
    ) -> Result<ConnectJob, UpstreamFault> {
        let mut upstreams = self.upstreams.borrow_mut();
        let upstream = upstreams
            .get()
            .0
            .find(key.generation, key.resource)
            .ok_or(UpstreamFault::Unresolved)?;
        let addresses = match address {
            Some(address) => vec![address],
            None => self.addresses.borrow_mut().get().0.of(upstream),
        };
        if addresses.is_empty() {
            return Err(UpstreamFault::Unresolved);
        }
        let tls = match &upstream.tls {
            None => None,
            Some((config, name)) => {
                let made = tls::client(config, name).map_err(|_| UpstreamFault::Tls)?;
                Some(Box::new(made))
            }
        };
        let opening = upstream.opening;
        drop(upstreams);
        let place = self.place(key.resource)?;
        let within = Duration::from_millis(self.limits.connect_ms);
        Ok(ConnectJob { addresses, tls, opening, place, within })
    }

    /// Keeps a connection for another exchange, or closes it when there are enough.
    pub(super) fn keep(&self, key: Key, socket: Socket, now: Now) {
        let stale = self.upstreams.borrow_mut().get().0.generation() != key.generation;
        if stale || !socket.is_whole() || self.signal.is_draining() {
            return;
        }
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(key.resource).or_default();
        if count.idle >= self.limits.upstream_idle_max {
            drop(counts);
            return;
        }
        count.idle = count.idle.saturating_add(1);
        drop(counts);
        let idle = Idle { socket, since_ns: now.mono_ns };
        self.idle.borrow_mut().entry(key).or_default().push(idle);
    }

    /// Closes what is idle for too long or was made under an older config. The room of a list
    /// stays for as long as its key may be kept: the next exchange puts its connection there.
    pub(super) fn sweep(&self, now: Now) {
        let bound_ns = self.limits.upstream_idle_ms.saturating_mul(1_000_000);
        let draining = self.signal.is_draining();
        let generation = self.upstreams.borrow_mut().get().0.generation();
        let mut closed = Vec::new();
        self.idle.borrow_mut().retain(|key, list| {
            let current = key.generation == generation && !draining;
            let keep =
                |idle: &Idle| current && now.mono_ns.saturating_sub(idle.since_ns) < bound_ns;
            let old = list.extract_if(.., |idle| !keep(idle));
            closed.extend(old.map(|idle| (key.resource, idle)));
            current
        });
        let mut counts = self.counts.borrow_mut();
        for (resource, _) in &closed {
            if let Some(count) = counts.get_mut(resource) {
                count.idle = count.idle.saturating_sub(1);
            }
        }
        // Places are given back as the sockets are dropped.
        drop(counts);
        drop(closed);
    }

    fn take_idle(&self, key: Key) -> Option<Idle> {
        let idle = self.idle.borrow_mut().get_mut(&key)?.pop()?;
        if let Some(count) = self.counts.borrow_mut().get_mut(&key.resource) {
            count.idle = count.idle.saturating_sub(1);
        }
        Some(idle)
    }

    fn place(&self, resource: ResourceId) -> Result<Place, UpstreamFault> {
        let full = |count: Count| count.open >= self.limits.upstream_connections_max;
        let now = self.counts.borrow().get(&resource).copied().unwrap_or_default();
        if full(now) {
            // Idle ones of other credentials hold places too; one of them has to go.
            let victim = self
                .idle
                .borrow()
                .iter()
                .find(|(key, list)| key.resource == resource && !list.is_empty())
                .map(|(key, _)| *key);
            drop(victim.and_then(|key| self.take_idle(key)));
        }
        let mut counts = self.counts.borrow_mut();
        let count = counts.entry(resource).or_default();
        if full(*count) {
            return Err(UpstreamFault::Exhausted);
        }
        count.open = count.open.saturating_add(1);
        Ok(Place { counts: Rc::clone(&self.counts), resource })
    }

    /// Whether an idle connection may serve again: nothing came meanwhile, neither bytes nor an
    /// end. Under TLS session tickets may come and are taken in.
    ///
    /// The kernel is asked each time: what came since it was last heard is an answer to nobody, and
    /// must not become the next caller's.
    fn is_healthy(&self, socket: &mut Socket) -> bool {
        loop {
            match socket.peek() {
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
                Ok(0) => return false,
                Ok(_) => {}
            }
            let Some(tls) = socket.tls.as_mut() else { return false };
            let Some(buffer) = socket.read.as_ref().and_then(|half| half.take_peeked()) else {
                return false;
            };
            tls.take_sealed(buffer);
            let opened = tls.open();
            if let Some(buffer) = tls.spent() {
                self.put(buffer);
            }
            if opened.is_err() || !tls.is_drained() || tls.is_ended() || tls.wants_write() {
                return false;
            }
        }
    }
}
