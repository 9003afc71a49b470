//! The rows of held requests: what thousands that wait for a person cost those that do not wait, and
//! how soon one goes on when it was approved.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::Outcome;
use crate::args::Timing;
use crate::caller::Caller;
use crate::drive::{self, Sample, Target, histogram, nanos};
use crate::material::{BODY_HELD, Material};
use crate::process::Memory;
use crate::rows::{Load, Subject};

/// The path that is not held: far below what the gateway could do, so that what is seen is the wait.
const FREE: Load = Load::Open { connections: 64, rate: 1_000 };
/// Requests that are sent before it is looked whether they wait.
const STEP: usize = 250;
/// How long so many may take to be asked.
const STEP_MAX: Duration = Duration::from_secs(30);
/// From one approval to the next.
const PACE: Duration = Duration::from_millis(20);
/// Ends of held connections are seen by then.
const SETTLE: Duration = Duration::from_secs(2);

/// What one row gave on one subject.
pub(crate) struct Held {
    count: usize,
    without: Free,
    with: Free,
    /// Anonymous bytes for each that is held.
    bytes: u64,
    /// From sending the approval to the first byte of the answer, nanoseconds.
    approved: Histogram<u64>,
}

/// The path that is not held.
struct Free {
    latency: Histogram<u64>,
    count: f64,
    cpu_ns: u64,
}

impl Free {
    fn new() -> Outcome<Self> {
        Ok(Self { latency: histogram()?, count: 0.0, cpu_ns: 0 })
    }

    fn add(&mut self, sample: &Sample) -> Outcome<()> {
        self.latency.add(&sample.latency)?;
        self.count += sample.count;
        self.cpu_ns += sample.cpu_ns.values().sum::<u64>();
        Ok(())
    }

    fn micros(&self, quantile: f64) -> u64 {
        self.latency.value_at_quantile(quantile) / 1_000
    }

    fn cost(&self) -> f64 {
        let micros = u32::try_from(self.cpu_ns / 1_000).unwrap_or(u32::MAX);
        f64::from(micros) / self.count.max(1.0)
    }
}

/// Measures in turns without and with what is held, then approves some of it under the same load.
///
/// # Errors
/// Any answer that is not as it should be.
pub(crate) async fn cell(
    load: &Load,
    target: &Target,
    pid: u32,
    material: &Material,
    timing: &Timing,
) -> Outcome<Held> {
    let Load::Held { count, beats } = *load else { return Err("not a row of held ones".into()) };
    let admin = Admin { address: target.admin.ok_or("no admin address")?, material };
    let (mut without, mut with) = (Free::new()?, Free::new()?);
    let (mut bytes, mut approved) = (0, histogram()?);
    let free = async |timing: &Timing| -> Outcome<Sample> {
        let sample = drive::cell(&FREE, false, target, Some(pid), timing).await?;
        sample.ok_or_else(|| "nothing answered".into())
    };
    for round in 0..timing.rounds {
        without.add(&free(timing).await?)?;
        let before = Memory::of(pid).anon;
        let mut callers = hold(count, beats, target, &admin).await?;
        if round == 0 {
            let grown = Memory::of(pid).anon.saturating_sub(before);
            bytes = grown / u64::try_from(count.max(1))?;
        }
        with.add(&free(timing).await?)?;
        if round + 1 == timing.rounds {
            let long =
                Timing { rounds: 1, warm: timing.warm, measure: timing.measure.max(PACE * 300) };
            let over = Rc::new(Cell::new(false));
            let approving = approve(&mut callers, &admin, &over, &mut approved);
            let (measured, done) = tokio::join!(
                async {
                    let measured = free(&long).await;
                    over.set(true);
                    measured
                },
                approving
            );
            measured?;
            done?;
        }
        drop(callers);
        tokio::time::sleep(SETTLE).await;
    }
    Ok(Held { count, without, with, bytes, approved })
}

/// Sends so many requests that wait, each on a connection of its own.
async fn hold(
    count: usize,
    beats: bool,
    target: &Target,
    admin: &Admin<'_>,
) -> Outcome<Vec<Option<Caller>>> {
    let mut callers = Vec::with_capacity(count);
    while callers.len() < count {
        for number in callers.len()..(callers.len() + STEP).min(count) {
            let mut caller = Caller::connect(target.plain, None).await?;
            caller.send(&admin.material.held(number, beats)).await?;
            callers.push(Some(caller));
        }
        let until = Instant::now() + STEP_MAX;
        while admin.waiting().await? < callers.len() {
            if Instant::now() > until {
                return Err(format!("{} of {} wait", admin.waiting().await?, callers.len()).into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(callers)
}

/// Approves one after the other, and waits for each answer.
async fn approve(
    callers: &mut [Option<Caller>],
    admin: &Admin<'_>,
    over: &Cell<bool>,
    approved: &mut Histogram<u64>,
) -> Outcome<()> {
    let list = admin.call("GET", "/api/v1/approvals?state=pending", None).await?;
    for one in list.as_array().ok_or("no list")? {
        if over.get() {
            break;
        }
        let path =
            format!("/api/v1/approvals/{}", one.get("id").and_then(Value::as_str).ok_or("no id")?);
        let shown = admin.call("GET", &path, None).await?;
        let number = number_of(shown.get("summary").and_then(Value::as_str).unwrap_or_default());
        let caller = number.and_then(|number| callers.get_mut(number)?.take());
        let mut caller = caller.ok_or("a request of nobody")?;
        let yes = json!({ "digest": shown.get("digest") });
        let approve = format!("{path}/approve");
        let started = Instant::now();
        let (voted, answer) = tokio::join!(admin.call("POST", &approve, Some(&yes)), async {
            let answer = caller.answer(|_| ()).await?;
            Ok::<_, std::io::Error>((answer.status, answer.first.unwrap_or_else(Instant::now)))
        });
        voted?;
        let (status, first) = answer?;
        if status != 200 {
            return Err(format!("status {status} after an approval").into());
        }
        approved.saturating_record(nanos(first - started));
        tokio::time::sleep(PACE).await;
    }
    if approved.is_empty() { Err("nothing was approved".into()) } else { Ok(()) }
}

/// The number that [`Material::held`] wrote.
fn number_of(summary: &str) -> Option<usize> {
    let (_, rest) = summary.split_once("\"number\":\"")?;
    rest.split('"').next()?.parse().ok()
}

/// The admin surface of the gateway, asked by an approver.
struct Admin<'m> {
    address: SocketAddr,
    material: &'m Material,
}

impl Admin<'_> {
    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let text = self.text(method, path, body).await?;
        Ok(serde_json::from_slice(&text)?)
    }

    async fn text(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Vec<u8>> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            self.material.approver,
            body.len()
        );
        let mut caller = Caller::connect(self.address, None).await?;
        caller.send(request.as_bytes()).await?;
        let mut text = Vec::new();
        let answer = caller.answer(|bytes| text.extend_from_slice(bytes)).await?;
        if answer.status != 200 {
            let said = String::from_utf8_lossy(&text);
            return Err(format!("{method} {path}: status {}: {said}", answer.status).into());
        }
        Ok(text)
    }

    /// Sessions that wait for a word.
    async fn waiting(&self) -> Outcome<usize> {
        let text = String::from_utf8(self.text("GET", "/metrics", None).await?)?;
        let line = text.lines().find_map(|line| line.strip_prefix("weirgate_approval_waiters "));
        Ok(line.and_then(|count| count.trim().parse().ok()).unwrap_or(0))
    }
}

/// The table of what was measured.
///
/// # Errors
/// None: a string takes what it is given.
pub(crate) fn table(text: &mut String, held: &[(String, Subject, Held)]) -> fmt::Result {
    writeln!(
        text,
        "\n| row | subject | held | p50 us without / with | p99 us without / with | p99.9 us without / with \
         | us/request without / with | bytes of memory each | approve to first byte ms, p50 / p99 / most |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|")?;
    for (row, subject, one) in held {
        let both = |quantile: f64| {
            format!("{} / {}", one.without.micros(quantile), one.with.micros(quantile))
        };
        let ms = |ns: u64| f64::from(u32::try_from(ns / 1_000).unwrap_or(u32::MAX)) / 1_000.0;
        let at = |quantile: f64| ms(one.approved.value_at_quantile(quantile));
        writeln!(
            text,
            "| {row} | {} | {} | {} | {} | {} | {:.1} / {:.1} | {} | {:.1} / {:.1} / {:.1} (n={}) |",
            subject.label(),
            one.count,
            both(0.5),
            both(0.99),
            both(0.999),
            one.without.cost(),
            one.with.cost(),
            one.bytes,
            at(0.5),
            at(0.99),
            ms(one.approved.max()),
            one.approved.len(),
        )?;
    }
    writeln!(
        text,
        "\nHeld: requests with a body of {BODY_HELD} bytes that wait for a person, each on a connection of its \
         own, on one worker. Beside them 64 connections send 1,000 requests a second that nobody is asked \
         about, without and with what is held in turns. Approved is one every {} ms under that load; its \
         time runs from sending the vote to the first byte of the caller's answer, two syncs of the disk and \
         the upstream included.",
        PACE.as_millis()
    )
}
