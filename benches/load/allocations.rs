//! The allocation rows: what a gateway under load allocates for an exchange, in steady state.

use std::cell::Cell;
use std::fmt::{self, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::Outcome;
use crate::caller::Caller;
use crate::counted::{Count, Counts};
use crate::drive::Target;
use crate::loops::ECHO_LEN;
use crate::material::EVENTS;
use crate::rows::{Exchange, Load, Subject};

/// How long all exchanges of a cell may take.
const CELL_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether there were enough.
const LOOK: Duration = Duration::from_millis(1);

impl Exchange {
    /// Exchanges for each connection that warm up, and those that are counted. A stream lasts as
    /// long as its events, and has many of them.
    fn times(self) -> (u32, u32) {
        match self {
            Self::Post | Self::Echo => (100, 400),
            Self::Stream => (4, 8),
        }
    }

    /// Events of one, for streams.
    fn events(self) -> Option<u32> {
        // `[DONE]` is one too.
        (self == Self::Stream).then(|| u32::try_from(EVENTS + 1).unwrap_or(u32::MAX))
    }
}

/// What was allocated, and for how many exchanges.
pub(crate) struct Allocated {
    exchange: Exchange,
    connections: u32,
    exchanges: u32,
    counts: Counts,
}

/// Shared by the connections of one cell.
struct Running {
    target: Target,
    exchange: Exchange,
    /// Exchanges that are over.
    done: Cell<u32>,
    stop: Cell<bool>,
}

/// Opens the connections, warms up, and counts between two moments of a load that goes on: a
/// pause would make idle connections of them, whose buffers go and come back. What is under way
/// at the first moment is counted less, what is at the second more: as much, give or take a part
/// of one exchange in hundreds.
///
/// # Errors
/// Any exchange that fails, a connection that the gateway ends, or a gateway that does not tell.
pub(crate) async fn cell(
    load: &Load,
    tls: bool,
    target: &Target,
    socket: &Path,
) -> Outcome<Allocated> {
    let Load::Count { exchange, connections } = *load else {
        return Err("not an allocation row".into());
    };
    let mut tasks = JoinSet::new();
    let running = Rc::new(Running {
        target: target.clone(),
        exchange,
        done: Cell::new(0),
        stop: Cell::new(false),
    });
    let mut callers = Vec::with_capacity(connections);
    for _ in 0..connections {
        callers.push(match exchange {
            Exchange::Echo => target.relay(0).await?,
            Exchange::Post | Exchange::Stream => target.connect(tls).await?,
        });
    }
    for caller in callers {
        tasks.spawn_local(again(caller, Rc::clone(&running)));
    }
    let connections = u32::try_from(connections)?;
    let measure = async {
        let (warm, counted) = exchange.times();
        let until = async |total: u32| {
            while running.done.get() < total {
                tokio::time::sleep(LOOK).await;
            }
        };
        until(warm.saturating_mul(connections)).await;
        // The first who asks starts the counters, the allocations of the answer among them.
        Counts::of(socket)?;
        let before = Counts::of(socket)?;
        let start = running.done.get();
        until(start.saturating_add(counted.saturating_mul(connections))).await;
        let counts = Counts::of(socket)?.since(&before);
        let exchanges = running.done.get() - start;
        Ok(Allocated { exchange, connections, exchanges, counts })
    };
    let allocated = tokio::select! {
        measured = tokio::time::timeout(CELL_MAX, measure) => {
            measured.map_err(|_| "the exchanges did not end in time")?
        }
        Some(ended) = tasks.join_next() => {
            return Err(ended?.err().unwrap_or("a connection ended before its time".into()).into());
        }
    };
    running.stop.set(true);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    allocated
}

/// One exchange after the other, until it is enough.
async fn again(mut caller: Caller, running: Rc<Running>) -> Result<(), String> {
    while !running.stop.get() {
        let done = one(&mut caller, &running.target, running.exchange).await;
        done.map_err(|error| error.to_string())?;
        running.done.set(running.done.get() + 1);
    }
    caller.close().await;
    Ok(())
}

async fn one(caller: &mut Caller, target: &Target, exchange: Exchange) -> Outcome<()> {
    let (request, expected) = match exchange {
        Exchange::Echo => {
            caller.send(&[b'e'; ECHO_LEN]).await?;
            return Ok(caller.take_raw(ECHO_LEN).await?);
        }
        Exchange::Post => (&target.answer, target.answer_len),
        Exchange::Stream => (&target.stream, target.stream_len),
    };
    caller.send(request).await?;
    let answer = caller.answer(|_| ()).await?;
    if answer.status != 200 || answer.body_len != expected {
        return Err(format!("status {}, {} bytes", answer.status, answer.body_len).into());
    }
    if answer.close {
        return Err("the gateway ends a connection of a caller".into());
    }
    Ok(())
}

/// The table of what was counted.
///
/// # Errors
/// None: a string takes what it is given.
pub(crate) fn table(text: &mut String, counted: &[(String, Subject, Allocated)]) -> fmt::Result {
    writeln!(
        text,
        "\n| row | subject | connections | exchanges | allocations per exchange, worker | bytes \
         | per event of a stream | drain | control and others |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|")?;
    for (row, subject, allocated) in counted {
        let Allocated { exchange, connections, exchanges, counts } = allocated;
        let each = |count: u64| ratio(count, u64::from(*exchanges));
        let calls = |count: &Count| each(count.calls);
        let event = exchange.events().map_or("-".to_owned(), |events| {
            ratio(counts.workers.calls, u64::from(*exchanges) * u64::from(events))
        });
        writeln!(
            text,
            "| {row} | {} | {connections} | {exchanges} | {} | {} | {event} | {} | {} |",
            subject.label(),
            calls(&counts.workers),
            each(counts.workers.bytes),
            calls(&counts.drain),
            calls(&counts.others),
        )?;
    }
    writeln!(
        text,
        "\nAllocations: calls of the allocator, growth of a block included, by kind of thread, in steady \
         state, under a load that goes on. Counted in a gateway of its own, which the timed rows never see: \
         the same library in a program with a counting allocator. Exchanges are a 1 KiB POST, a stream \
         of {EVENTS} events, or 64 B there and back on a relay."
    )?;
    for (row, subject, allocated) in counted {
        for origin in &allocated.counts.origins {
            writeln!(text, "- {row} {}: {origin}", subject.label())?;
        }
    }
    Ok(())
}

/// Three decimals, and every digit of a whole number: one in a thousand exchanges shows.
fn ratio(count: u64, of: u64) -> String {
    let thousandths = count.saturating_mul(1_000).checked_div(of).unwrap_or(0);
    match (count, thousandths) {
        (0, _) => "0".to_owned(),
        (_, 0) => "< 0.001".to_owned(),
        (_, n) => format!("{}.{:03}", n / 1_000, n % 1_000),
    }
}
