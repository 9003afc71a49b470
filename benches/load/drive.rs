//! The timed cells: puts one load on one subject and takes what came of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::args::Timing;
use crate::caller::{Answer, Caller};
use crate::loops;
use crate::material::{Kind, Material, PERSONAL, UPSTREAM_KEY};
use crate::process::{Cpu, Memory};
use crate::rows::Load;
use crate::upstream;

/// How long the connections may take to finish what is under way when a cell ends.
const FINISH_MAX: Duration = Duration::from_secs(5);
/// How long all connections of a cell may take to stand.
const READY_MAX: Duration = Duration::from_secs(10);

/// Where a subject listens, what it is sent and what must come back.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// Of a gateway.
    pub(crate) admin: Option<SocketAddr>,
    /// echo, source, sink
    pub(crate) relays: Option<[SocketAddr; 3]>,
    pub(crate) answer: Rc<[u8]>,
    pub(crate) stream: Rc<[u8]>,
    pub(crate) hold: Rc<[u8]>,
    pub(crate) caller_tls: Arc<rustls::ClientConfig>,
    pub(crate) caller_tls_known: Arc<rustls::ClientConfig>,
    pub(crate) answer_len: u64,
    pub(crate) stream_len: u64,
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
            admin: None,
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

    /// Connects to echo (0), source (1) or sink (2) with the client certificate.
    ///
    /// # Errors
    /// The subject has no relays, or what [`Caller::connect`] says.
    pub(crate) async fn relay(&self, which: usize) -> io::Result<Caller> {
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
    /// At the start of the measured time.
    pub(crate) memory_before: Memory,
    /// At its end, or the most that was seen in a big result.
    pub(crate) memory: Memory,
}

/// Shared by the connections of one cell.
pub(crate) struct Tally {
    pub(crate) target: Target,
    pub(crate) tls: bool,
    /// Connections that stand.
    ready: Cell<usize>,
    pub(crate) on: Cell<bool>,
    pub(crate) stop: Cell<bool>,
    pub(crate) count: Cell<f64>,
    latency: RefCell<Histogram<u64>>,
    pub(crate) first: RefCell<Histogram<u64>>,
}

impl Tally {
    /// One more connection stands.
    pub(crate) fn ready(&self) {
        self.ready.set(self.ready.get() + 1);
    }

    /// Counts an answer that began at `started`, when the clock runs.
    pub(crate) fn add(&self, count: f64, started: Instant) {
        if self.on.get() {
            self.count.set(self.count.get() + count);
            self.latency.borrow_mut().saturating_record(nanos(started.elapsed()));
        }
    }

    /// Is the answer the whole right one?
    ///
    /// # Errors
    /// What came instead.
    pub(crate) fn check(&self, answer: &Answer, expected: u64) -> io::Result<()> {
        if answer.status == 200 && answer.body_len == expected {
            return Ok(());
        }
        let (status, len) = (answer.status, answer.body_len);
        Err(io::Error::other(format!("status {status}, {len} bytes instead of {expected}")))
    }
}

/// A duration in nanoseconds.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An empty one: up to a minute, three digits.
///
/// # Errors
/// None with these bounds.
pub(crate) fn histogram() -> Outcome<Histogram<u64>> {
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
    let mut tasks = loops::spawn(load, &tally)?;
    let cpu = || pid.map(Cpu::of);
    let memory = || pid.map(Memory::of).unwrap_or_default();
    let measure = async {
        // Hundreds of handshakes must not reach into the measured time.
        let end = Instant::now() + READY_MAX;
        while tally.ready.get() < load.connections() && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(timing.warm).await;
        let before = (cpu(), memory());
        let start = Instant::now();
        tally.on.set(true);
        tokio::time::sleep(timing.measure).await;
        tally.on.set(false);
        (before, start, cpu(), Instant::now())
    };
    // A connection that ends before the time is one that failed.
    let ((before, memory_before), start, after, end) = tokio::select! {
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
    Ok(Some(Sample {
        count: tally.count.get(),
        wall: end - start,
        cpu_ns,
        latency: tally.latency.borrow().clone(),
        first: tally.first.borrow().clone(),
        memory_before,
        memory: memory(),
    }))
}
