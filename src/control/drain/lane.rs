//! One worker's way from its ring to its segment files.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::files::{SegmentFile, Spare, WRITE_MAX};
use super::home::Home;
use super::recover::Next;
use super::storage::Storage;
use super::{Settings, Shared};
use crate::base::Now;
use crate::record::proof::State;
use crate::record::ring::RingSetup;
use crate::record::segment::{SegmentHeader, SegmentId};
use crate::runtime::map::Tail;

/// How long to wait before a preallocation or checkpoint that failed is tried again.
const RETRY_MS: u64 = 100;

/// See the module. A lane without a tail is not started yet.
#[derive(Debug)]
pub(super) struct Lane {
    setup: RingSetup,
    tail: Option<(Tail, PathBuf)>,
    segment: Option<SegmentFile>,
    /// What the next segment begins with, once the present one is closed.
    next: Next,
    spare: Option<Spare>,
    lag: u64,
    stuck: bool,
    retry_ns: u64,
    sign_ns: u64,
    direct: bool,
    storage: Arc<dyn Storage>,
}

impl Lane {
    /// Makes the worker's first segment of this start.
    pub(super) fn open(
        home: &Home,
        setup: &RingSetup,
        next: Next,
        settings: &Settings,
        now: Now,
    ) -> io::Result<Self> {
        let mut lane = Self {
            setup: *setup,
            tail: None,
            segment: None,
            next,
            spare: None,
            lag: 0,
            stuck: false,
            retry_ns: 0,
            sign_ns: 0,
            direct: settings.direct,
            storage: Arc::clone(&settings.storage),
        };
        lane.begin(home, settings.policy_digest, now)?;
        if let Some(segment) = &mut lane.segment {
            segment.checkpoint(&home.pair, now.wall_ns)?;
        }
        Ok(lane)
    }

    pub(super) fn with_tail(mut self, tail: Tail, path: PathBuf) -> Self {
        self.tail = Some((tail, path));
        self
    }

    /// Bytes that the last tick found in the ring.
    pub(super) fn lag(&self) -> u64 {
        self.lag
    }

    /// Whether entries wait for room on the disk, or soon will.
    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Drains, signs, prepares. Returns whether a segment was closed.
    pub(super) fn tick(
        &mut self,
        home: &Home,
        settings: &Settings,
        shared: &Shared,
        now: Now,
    ) -> bool {
        if now.mono_ns < self.retry_ns && self.stuck {
            return false;
        }
        let moved = self.drain(home, shared, now);
        let moved = moved.and_then(|rolled| {
            self.sign(home, settings, shared, now)?;
            self.prepare(home)?;
            Ok(rolled)
        });
        match moved {
            Ok(rolled) => {
                self.stuck = false;
                rolled
            }
            Err(e) => {
                shared.errors.fetch_add(1, Ordering::Relaxed);
                if !self.stuck {
                    let worker = self.setup.worker;
                    tracing::error!(worker, error = %e, "the record cannot be written");
                }
                self.stuck = true;
                self.retry_ns = now.after_ms(RETRY_MS);
                false
            }
        }
    }

    fn drain(&mut self, home: &Home, shared: &Shared, now: Now) -> io::Result<bool> {
        self.lag = 0;
        let mut rolled_any = false;
        // What is appended while this runs waits for the next tick at the latest after one ring.
        let mut budget = self.setup.ring_bytes;
        loop {
            if self.segment.is_none() {
                let policy = *shared.policy.lock().unwrap_or_else(PoisonError::into_inner);
                self.begin(home, policy, now)?;
            }
            let (Some((tail, _)), Some(segment)) = (&mut self.tail, &mut self.segment) else {
                return Ok(rolled_any);
            };
            // Before anything is read: a close that failed, for want of room, is made up for first,
            // or what belongs to the next segment would go behind the end of this one.
            if segment.rolled() {
                let checkpoint = segment.close(&home.pair, now.wall_ns, State::Closed, 0)?;
                self.next = Next::behind(&checkpoint);
                self.segment = None;
                rolled_any = true;
                continue;
            }
            let (room, spans) = segment.room();
            let before = room.len();
            let read = tail.read(WRITE_MAX, room, spans);
            let batch = read.map_err(|e| io::Error::other(e.text()))?;
            let len = (room.len() - before) as u64;
            self.lag += len;
            if len > 0 {
                let start = Instant::now();
                segment.commit()?;
                let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                shared.slowest_ns.fetch_max(took, Ordering::Relaxed);
                shared.writes.fetch_add(1, Ordering::Relaxed);
                shared.drained_bytes.fetch_add(len, Ordering::Relaxed);
                shared.buffered.fetch_or(!segment.is_direct(), Ordering::Relaxed);
                tail.release(batch.end);
                if let Some(durable) = shared.durable.get(self.setup.worker as usize) {
                    durable.position.store(batch.end.position.0, Ordering::Release);
                }
            }
            debug_assert_eq!(batch.rolled, segment.rolled(), "a batch ends with a roll entry");
            if segment.rolled() {
                continue;
            }
            budget = budget.saturating_sub(len);
            if len < WRITE_MAX as u64 || budget == 0 {
                return Ok(rolled_any);
            }
        }
    }

    /// Makes the segment that [`Self::next`] describes.
    fn begin(&mut self, home: &Home, policy: [u8; 32], now: Now) -> io::Result<()> {
        let spare = match self.spare.take() {
            Some(spare) => spare,
            None => Spare::create(
                &home.dir,
                self.setup.worker,
                self.setup.segment_bytes,
                self.direct,
                &self.storage,
            )?,
        };
        let header = SegmentHeader {
            worker: self.setup.worker,
            id: SegmentId::of(self.setup.stream, self.next.number),
            number: self.next.number,
            first_sequence: self.next.sequence,
            boot: self.setup.boot,
            anchor: now,
            policy,
            key: home.key,
            previous_root: self.next.previous_root,
            segment_bytes: self.setup.segment_bytes,
        };
        self.segment = Some(SegmentFile::create(&home.dir, spare, header)?);
        Ok(())
    }

    fn sign(
        &mut self,
        home: &Home,
        settings: &Settings,
        shared: &Shared,
        now: Now,
    ) -> io::Result<()> {
        let Some(segment) = &mut self.segment else { return Ok(()) };
        let wait = if segment.unsigned() { settings.checkpoint_ms } else { settings.heartbeat_ms };
        if now.mono_ns < self.sign_ns.saturating_add(wait.saturating_mul(1_000_000)) {
            return Ok(());
        }
        segment.checkpoint(&home.pair, now.wall_ns)?;
        self.sign_ns = now.mono_ns;
        shared.checkpoints.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps a preallocated segment ready. No room for it is an error from three quarters of the
    /// present segment on: what is in hand still has the last quarter.
    fn prepare(&mut self, home: &Home) -> io::Result<()> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let (used, all) = (segment.end(), self.setup.segment_bytes);
        if self.spare.is_some() || used < all / 2 {
            return Ok(());
        }
        match Spare::create(&home.dir, self.setup.worker, all, self.direct, &self.storage) {
            Ok(spare) => self.spare = Some(spare),
            Err(e) if used >= all / 4 * 3 => return Err(e),
            Err(_) => {}
        }
        Ok(())
    }

    /// Lets the worker append no more.
    pub(super) fn shut(&self) {
        if let Some((tail, _)) = &self.tail {
            tail.shut();
        }
    }

    /// Closes the segment for good and removes the ring. The ring must be empty.
    pub(super) fn close(&mut self, home: &Home, now: Now) -> io::Result<()> {
        let Some((tail, path)) = &self.tail else { return Ok(()) };
        let rest = tail
            .read(1, &mut Vec::new(), &mut Vec::new())
            .map_err(|e| io::Error::other(e.text()))?;
        if rest.end != tail.cursor() {
            return Err(io::Error::other("entries are left in the ring"));
        }
        if let Some(segment) = &mut self.segment {
            segment.close(&home.pair, now.wall_ns, State::Closed, 0)?;
        }
        std::fs::remove_file(path)?;
        self.tail = None;
        self.segment = None;
        Ok(())
    }
}
