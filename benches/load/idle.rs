//! The memory rows: how much a process grows for each idle connection.

use std::time::Duration;

use crate::Outcome;
use crate::caller::Caller;
use crate::drive::Target;
use crate::process::{Memory, files_max};
use crate::rows::Load;

/// Connections opened first, so that pools and tables of the start are not counted.
const WARM: usize = 200;
/// Descriptors that the bench needs for itself.
const SPARE: usize = 200;
/// Idle is who was silent for a while: rooms and buffers of the exchange are given back by then.
const SETTLE: Duration = Duration::from_millis(3_000);

/// Growth of one process over its idle connections.
#[derive(Clone, Copy)]
pub(crate) struct Growth {
    pub(crate) connections: usize,
    pub(crate) before: Memory,
    pub(crate) after: Memory,
}

impl Growth {
    /// Bytes per connection, by one of the counters.
    pub(crate) fn per_connection(&self, of: impl Fn(&Memory) -> u64) -> i64 {
        let grown = i64::try_from(of(&self.after)).unwrap_or(i64::MAX)
            - i64::try_from(of(&self.before)).unwrap_or(0);
        grown / i64::try_from(self.connections.max(1)).unwrap_or(1)
    }
}

/// Opens the connections one after the other, each with its one exchange, and reads the growth.
///
/// # Errors
/// Any connection that fails.
pub(crate) async fn cell(load: &Load, tls: bool, target: &Target, pid: u32) -> Outcome<Growth> {
    let (wanted, stream) = match load {
        Load::IdleKeepAlive { connections } => (*connections, false),
        Load::IdleStream { connections } => (*connections, true),
        _ => return Err("not a memory row".into()),
    };
    // Caller and upstream end of a stream both live in this process.
    let room = files_max().saturating_sub(SPARE) / 2;
    let connections = wanted.min(room.saturating_sub(WARM)).max(1);
    let mut open = Vec::with_capacity(WARM + connections);
    for _ in 0..WARM {
        open.push(one(target, tls, stream).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let before = Memory::of(pid);
    for _ in 0..connections {
        open.push(one(target, tls, stream).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let after = Memory::of(pid);
    drop(open);
    Ok(Growth { connections, before, after })
}

async fn one(target: &Target, tls: bool, stream: bool) -> Outcome<Caller> {
    let mut caller = target.connect(tls).await?;
    let status = if stream {
        caller.send(&target.hold).await?;
        caller.first_bytes().await?
    } else {
        caller.send(&target.answer).await?;
        caller.answer(|_| ()).await?.status
    };
    if status == 200 { Ok(caller) } else { Err(format!("status {status}").into()) }
}
