//! The timed cells: puts one load on one subject and takes what came of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::args::Timing;
use crate::caller::{Answer, Caller};
use crate::material::{EVENTS, Kind, Material, PERSONAL, UPSTREAM_KEY};
use crate::process::Cpu;
use crate::rows::Load;
use crate::upstream;

/// How long the connections may take to finish what is under way when a cell ends.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// How long all connections of a cell may take to stand.
const READY_MAX: Duration = Duration::from_secs(10);
const ECHO_LEN: usize = 64;
const BLOCK_LEN: usize = 64 * 1024;

/// Where a subject listens, what it is sent and what must come back.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// echo, source, sink
    pub(crate) relays: Option<[SocketAddr; 3]>,
    pub(crate) answer: Rc<[u8]>,
    pub(crate) stream: Rc<[u8]>,
    pub(crate) hold: Rc<[u8]>,
    pub(crate) caller_tls: Arc<rustls::ClientConfig>,
    pub(crate) caller_tls_known: Arc<rustls::ClientConfig>,
    answer_len: u64,
    stream_len: u64,
}

impl Target {
    /// A subject that listens there and is shown `bearer`.
    pub(crate) fn new(
        [plain, tls]: [SocketAddr; 2],
        relays: Option<[SocketAddr; 3]>,
        bearer: &str,
        material: &Material,
    ) -> Self {
        Self {
            plain,
            tls,
            relays,
            answer: Material::request(bearer, Kind::Answer).into(),
            stream: Material::request(bearer, Kind::Stream).into(),
            hold: Material::request(bearer, Kind::Hold).into(),
            caller_tls: Arc::clone(&material.caller_tls),
            caller_tls_known: Arc::clone(&material.caller_tls_known),
            answer_len: 0,
            stream_len: 0,
        }
    }

    /// The upstream itself.
    pub(crate) fn direct(upstream: &upstream::Addresses, material: &Material) -> Self {
        Self::new([upstream.http, upstream.https], None, UPSTREAM_KEY, material)
    }

    /// Every address that must accept before anything is sent.
    pub(crate) fn listening(&self) -> Vec<SocketAddr> {
        let mut all = vec![self.plain, self.tls];
        all.extend(self.relays.into_iter().flatten());
        all
    }

    /// Connects to one of the two HTTP listeners.
    ///
    /// # Errors
    /// What [`Caller::connect`] says.
    pub(crate) async fn connect(&self, tls: bool) -> io::Result<Caller> {
        if tls {
            Caller::connect(self.tls, Some(&self.caller_tls)).await
        } else {
            Caller::connect(self.plain, None).await
        }
    }

    async fn relay(&self, which: usize) -> io::Result<Caller> {
        let address = self.relays.and_then(|all| all.get(which).copied());
        let address = address.ok_or_else(|| io::Error::other("no relay on this subject"))?;
        Caller::connect(address, Some(&self.caller_tls_known)).await
    }
}

/// What one cell gave in its measured time.
pub(crate) struct Sample {
    /// Requests, events, echoes, handshakes; bytes for bulk.
    pub(crate) count: f64,
    pub(crate) wall: Duration,
    /// By thread name; empty when there is no proxy.
    pub(crate) cpu_ns: BTreeMap<String, u64>,
    /// Nanoseconds, from the send (open loop: from when it was due) to the last byte.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds to the first byte of the body, for streams.
    pub(crate) first: Histogram<u64>,
    pub(crate) memory: crate::process::Memory,
}

/// Shared by the connections of one cell.
struct Tally {
    target: Target,
    tls: bool,
    /// Connections that stand.
    ready: Cell<usize>,
    on: Cell<bool>,
    stop: Cell<bool>,
    count: Cell<f64>,
    latency: RefCell<Histogram<u64>>,
    first: RefCell<Histogram<u64>>,
}

impl Tally {
    fn ready(&self) {
        self.ready.set(self.ready.get() + 1);
    }

    fn add(&self, count: f64, started: Instant) {
        if self.on.get() {
            self.count.set(self.count.get() + count);
            self.latency.borrow_mut().saturating_record(nanos(started.elapsed()));
        }
    }

    fn check(&self, answer: &Answer, expected: u64) -> io::Result<()> {
        if answer.status == 200 && answer.body_len == expected {
            return Ok(());
        }
        let (status, len) = (answer.status, answer.body_len);
        Err(io::Error::other(format!("status {status}, {len} bytes instead of {expected}")))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Proves that the subject answers right, and learns how long right answers are.
///
/// # Errors
/// What is wrong with the answers.
pub(crate) async fn probe(target: &mut Target, masked: bool, tls: bool) -> Outcome<()> {
    let work = async {
        for tls in [false, true].into_iter().take(if tls { 2 } else { 1 }) {
            let mut caller = target.connect(tls).await?;
            for stream in [false, true] {
                let mut body = Vec::new();
                caller.send(if stream { &target.stream } else { &target.answer }).await?;
                let answer = caller.answer(|bytes| body.extend_from_slice(bytes)).await?;
                let text = String::from_utf8_lossy(&body).into_owned();
                if answer.status != 200 {
                    return Err(format!("tls={tls}: status {}: {text}", answer.status).into());
                }
                let whole = text.contains(PERSONAL) || (stream && text.contains("doe@exam"));
                let redacted = text.contains("[EMAIL]");
                if masked != redacted || masked == whole {
                    return Err(format!(
                        "tls={tls} stream={stream}: masking is not what it should be: {text}"
                    )
                    .into());
                }
                if stream && !text.ends_with("data: [DONE]\n\n") {
                    return Err("the stream does not end with its last event".into());
                }
                let len = if stream { &mut target.stream_len } else { &mut target.answer_len };
                if tls && *len != answer.body_len {
                    return Err("plain text and TLS give answers of different length".into());
                }
                *len = answer.body_len;
            }
            caller.close().await;
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(10), work).await.map_err(|_| "no answer in 10 s")?
}

/// Runs one cell: warm up, measure, finish. `None` when nothing was answered in the measured time:
/// a starved round, not a wrong one.
///
/// # Errors
/// The first thing that went wrong on any connection: a cell with a wrong answer has no figures.
pub(crate) async fn cell(
    load: &Load,
    tls: bool,
    target: &Target,
    pid: Option<u32>,
    timing: &Timing,
) -> Outcome<Option<Sample>> {
    let tally = Rc::new(Tally {
        target: target.clone(),
        tls,
        ready: Cell::new(0),
        on: Cell::new(false),
        stop: Cell::new(false),
        count: Cell::new(0.0),
        latency: RefCell::new(histogram()?),
        first: RefCell::new(histogram()?),
    });
    let mut tasks = spawn(load, &tally)?;
    let cpu = || pid.map(Cpu::of);
    let measure = async {
        // Hundreds of handshakes must not reach into the measured time.
        let end = Instant::now() + READY_MAX;
        while tally.ready.get() < load.connections() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(timing.warm).await;
        let before = cpu();
        let start = Instant::now();
        tally.on.set(true);
        tokio::time::sleep(timing.measure).await;
        tally.on.set(false);
        (before, start, cpu(), Instant::now())
    };
    // A connection that ends before the time is one that failed.
    let (before, start, after, end) = tokio::select! {
        measured = measure => measured,
        Some(ended) = tasks.join_next() => {
            let text = match ended {
                Ok(Ok(())) => "a connection ended before its time".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            return Err(text.into());
        }
    };
    tally.stop.set(true);
    if matches!(load, Load::BulkDown { .. } | Load::BulkUp { .. }) {
        // Endless by design: cut off.
        tasks.shutdown().await;
    } else {
        let finish = async {
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        };
        tokio::time::timeout(FINISH_MAX, finish).await.map_err(|_| "an answer never came")??;
    }
    let cpu_ns = match (before, after) {
        (Some(before), Some(after)) => after.since(&before),
        _ => BTreeMap::new(),
    };
    if tally.count.get() == 0.0 {
        return Ok(None);
    }
    let memory = pid.map(crate::process::Memory::of).unwrap_or_default();
    Ok(Some(Sample {
        count: tally.count.get(),
        wall: end - start,
        cpu_ns,
        latency: tally.latency.borrow().clone(),
        first: tally.first.borrow().clone(),
        memory,
    }))
}

fn spawn(load: &Load, tally: &Rc<Tally>) -> Outcome<JoinSet<io::Result<()>>> {
    let mut tasks = JoinSet::new();
    match *load {
        Load::Closed { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(closed(Rc::clone(tally)));
            }
        }
        Load::Open { connections, rate } => {
            let mut senders = Vec::with_capacity(connections);
            for _ in 0..connections {
                let (sender, due) = mpsc::unbounded_channel();
                senders.push(sender);
                tasks.spawn_local(open(Rc::clone(tally), due));
            }
            std::thread::Builder::new()
                .name("ticker".to_owned())
                .spawn(move || tick(&senders, rate))?;
        }
        Load::Stream { connections } => {
            for index in 0..connections {
                tasks.spawn_local(streams(Rc::clone(tally), index));
            }
        }
        Load::Handshake { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(handshakes(Rc::clone(tally)));
            }
        }
        Load::Echo { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(echo(Rc::clone(tally)));
            }
        }
        Load::BulkDown { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(bulk_down(Rc::clone(tally)));
            }
        }
        Load::BulkUp { connections } => {
            for _ in 0..connections {
                tasks.spawn_local(bulk_up(Rc::clone(tally)));
            }
        }
        Load::IdleKeepAlive { .. } | Load::IdleStream { .. } => {
            return Err("a memory row is not timed".into());
        }
    }
    Ok(tasks)
}

async fn closed(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, started);
        tally.check(&answer, tally.target.answer_len)?;
        if answer.close {
            // nginx and others end a connection after so many requests: part of their price.
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

/// Sends each connection its due times, in turn, until they are gone. A thread of its own: the
/// runtime's timers are a millisecond coarse and would send in bursts.
fn tick(senders: &[mpsc::UnboundedSender<Instant>], rate: u32) {
    let step = Duration::from_secs(1) / rate.max(1);
    let mut due = Instant::now() + step;
    for sender in senders.iter().cycle() {
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        // From when the tick was sent: lateness of this thread is not the proxy's.
        if sender.send(Instant::now()).is_err() {
            return;
        }
        due += step;
    }
}

async fn open(tally: Rc<Tally>, mut due: mpsc::UnboundedReceiver<Instant>) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    while !tally.stop.get() {
        let Some(at) = due.recv().await else { break };
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, at);
        tally.check(&answer, tally.target.answer_len)?;
        if answer.close {
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

async fn streams(tally: Rc<Tally>, index: usize) -> io::Result<()> {
    let mut caller = tally.target.connect(tally.tls).await?;
    tally.ready();
    // Spread the starts: callers of a model do not begin in step.
    let step = u32::try_from(index).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(5).saturating_mul(step)).await;
    let total = u32::try_from(EVENTS).map_or(1.0, f64::from) + 1.0;
    let len = tally.target.stream_len;
    let per_byte = total / u32::try_from(len).map_or(1.0, f64::from).max(1.0);
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&tally.target.stream).await?;
        let counted = &tally;
        let read = caller.answer(|bytes| {
            if counted.on.get() {
                // Streams outlast the measured time: count events by their bytes.
                let events = per_byte * u32::try_from(bytes.len()).map_or(0.0, f64::from);
                counted.count.set(counted.count.get() + events);
            }
        });
        let answer = read.await?;
        if let (true, Some(first)) = (tally.on.get(), answer.first) {
            tally.first.borrow_mut().saturating_record(nanos(first - started));
        }
        tally.add(0.0, started);
        tally.check(&answer, len)?;
        if answer.close {
            caller = tally.target.connect(tally.tls).await?;
        }
    }
    caller.close().await;
    Ok(())
}

async fn handshakes(tally: Rc<Tally>) -> io::Result<()> {
    tally.ready();
    while !tally.stop.get() {
        let started = Instant::now();
        let mut caller = tally.target.connect(true).await?;
        caller.send(&tally.target.answer).await?;
        let answer = caller.answer(|_| ()).await?;
        tally.add(1.0, started);
        tally.check(&answer, tally.target.answer_len)?;
        caller.close().await;
    }
    Ok(())
}

async fn echo(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(0).await?;
    tally.ready();
    let message = [b'e'; ECHO_LEN];
    while !tally.stop.get() {
        let started = Instant::now();
        caller.send(&message).await?;
        caller.take_raw(ECHO_LEN).await?;
        tally.add(1.0, started);
    }
    caller.close().await;
    Ok(())
}

async fn bulk_down(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(1).await?;
    tally.ready();
    caller.send(b"g").await?;
    loop {
        let started = Instant::now();
        let len = caller.take_some().await?;
        tally.add(u32::try_from(len).map_or(0.0, f64::from), started);
    }
}

async fn bulk_up(tally: Rc<Tally>) -> io::Result<()> {
    let mut caller = tally.target.relay(2).await?;
    tally.ready();
    let block = vec![b'u'; BLOCK_LEN];
    loop {
        let started = Instant::now();
        caller.send(&block).await?;
        tally.add(u32::try_from(BLOCK_LEN).map_or(0.0, f64::from), started);
        // A socket that always takes more would never let the clock run.
        tokio::task::consume_budget().await;
    }
}
