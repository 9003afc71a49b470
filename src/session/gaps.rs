//! What goes on although the journal has no room for it, where the config says so.
//!
//! The gate appends through [`Books`]. With `on_full = "refuse"` a full journal is an error there,
//! and nothing is let go. With `shed_bodies` a body is left out and a gap entry stands in its
//! place before the bytes go; where not even that fits, it is an error again. With `drop` all of
//! it goes on, and the gap entry follows when there is room. Bodies are left out as soon as the
//! disk is full, so that what room there is lasts for heads and decisions.
//!
//! ```text
//! whole --left out, gap entry--> in a gap --left out--> counted --any entry, tick--> gap entry
//!   ^------------ a body is recorded again, or the exchange ends -------------------/
//! ```

use crate::base::{ConnectionId, ExchangeId, Now};
use crate::record::gap::Gap;
use crate::record::{BODY_MAX, EntryMeta, Flags, Full, Journal, Kind, OnFull, Position};
use ahash::AHashMap;

/// The gaps that are open on one worker. Empty while there is room: then it costs one look.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    runs: AHashMap<ExchangeId, Run>,
    /// What was left out and belongs to no run, for want of room to tell them apart.
    rest: Gap,
    total: Gap,
    facts: Vec<u8>,
    told_ns: Option<u64>,
}

/// An exchange whose last bodies, or last entries of any kind, are not in the record.
#[derive(Debug)]
struct Run {
    connection: ConnectionId,
    /// Left out and in no gap entry so far.
    pending: Gap,
    /// Nothing more comes: the run goes with its last gap entry.
    over: bool,
}

/// A worker's journal with what is to happen when it is full.
#[derive(Debug)]
pub struct Books<'w, J> {
    pub(super) journal: &'w mut J,
    pub(super) gaps: &'w mut Gaps,
    pub(super) on_full: OnFull,
    /// The disk is full, or fails.
    pub(super) full: bool,
}

impl Gaps {
    /// What was left out since the worker began.
    pub(super) fn total(&self) -> Gap {
        self.total
    }

    /// Whether a gap entry is owed that had no room.
    pub(super) fn owes(&self) -> bool {
        !self.rest.is_empty() || self.runs.values().any(|run| !run.pending.is_empty() || run.over)
    }
}

impl<J: Journal> Books<'_, J> {
    /// Appends an entry, or leaves it out where that is permitted. `None`: it was left out.
    ///
    /// # Errors
    /// [`Full`] when there is no room and it may not be left out; nothing may be sent then.
    pub(super) fn append<'a, I>(
        &mut self,
        meta: EntryMeta,
        body: I,
        now: Now,
    ) -> Result<Option<Position>, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        // What a rule wants on the disk before it goes is not left out.
        if meta.flags.has(Flags::DURABLE) {
            return self.journal.append(meta, body, now).map(Some);
        }
        let sheds = self.full && self.on_full != OnFull::Refuse && meta.kind.is_body();
        if self.gaps.runs.is_empty() && !sheds {
            match self.journal.append(meta, body.clone(), now) {
                Ok(position) => return Ok(Some(position)),
                Err(Full) if self.on_full == OnFull::Refuse => return Err(Full),
                Err(Full) => {}
            }
        }
        self.append_by_gaps(meta, body, sheds, now)
    }

    #[cold]
    fn append_by_gaps<'a, I>(
        &mut self,
        meta: EntryMeta,
        body: I,
        sheds: bool,
        now: Now,
    ) -> Result<Option<Position>, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let ends = meta.kind == Kind::Close;
        // What is missing stands before what follows it, but not before what has no room itself:
        // that goes into the same gap.
        if !sheds
            && self.fits(&meta, body.clone())
            && self.write_gap(meta.exchange, now).is_ok()
            && let Ok(position) = self.journal.append(meta, body.clone(), now)
        {
            if ends || meta.kind.is_body() {
                self.gaps.runs.remove(&meta.exchange);
            }
            return Ok(Some(position));
        }
        let left_out = match self.on_full {
            OnFull::Refuse => Err(Full),
            OnFull::ShedBodies if !meta.kind.is_body() => Err(Full),
            OnFull::ShedBodies | OnFull::Drop => self.leave_out(meta, body, now),
        };
        if ends && let Some(run) = self.gaps.runs.get_mut(&meta.exchange) {
            run.over = true;
        }
        left_out.map(|()| None)
    }

    /// Whether an entry and the gap entry before it have room.
    fn fits<'a>(&mut self, meta: &EntryMeta, body: impl Iterator<Item = &'a [u8]>) -> bool {
        let bytes: usize = body.map(<[u8]>::len).sum();
        let need = bytes + (bytes / BODY_MAX + 1) * HEADS + GAP_LEN;
        self.journal.room(meta.kind) >= need as u64
    }

    /// Counts an entry that is left out. The first of a run is told at once, under `shed_bodies`
    /// or it is not left out.
    fn leave_out<'a, I>(&mut self, meta: EntryMeta, body: I, now: Now) -> Result<(), Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        let bytes: usize = body.map(<[u8]>::len).sum();
        let mut gap = Gap { entries: bytes.div_ceil(BODY_MAX).max(1) as u64, ..Gap::default() };
        let to_caller = meta.flags.has(Flags::TO_CALLER);
        if meta.kind.is_body() {
            *(if to_caller { &mut gap.bytes_out } else { &mut gap.bytes_in }) = bytes as u64;
        }
        if let Some(run) = self.gaps.runs.get_mut(&meta.exchange) {
            run.pending.add(&gap);
        } else if self.gaps.runs.len() < RUNS_MAX {
            let run = Run { connection: meta.connection, pending: gap, over: false };
            self.gaps.runs.insert(meta.exchange, run);
            if self.write_gap(meta.exchange, now).is_err() && self.on_full == OnFull::ShedBodies {
                self.gaps.runs.remove(&meta.exchange);
                return Err(Full);
            }
        } else if self.append_gap(meta.exchange, meta.connection, gap, now).is_err() {
            if self.on_full == OnFull::ShedBodies {
                return Err(Full);
            }
            self.gaps.rest.add(&gap);
        }
        self.gaps.total.add(&gap);
        if self.gaps.told_ns.is_none_or(|at| now.mono_ns.saturating_sub(at) >= TELL_NS) {
            self.gaps.told_ns = Some(now.mono_ns);
            tracing::error!(
                entries = self.gaps.total.entries,
                bytes = self.gaps.total.bytes(),
                "the record has no room: this much went on unrecorded so far"
            );
        }
        Ok(())
    }

    /// Writes the gap entry that an exchange owes.
    fn write_gap(&mut self, exchange: ExchangeId, now: Now) -> Result<(), Full> {
        let Some(run) = self.gaps.runs.get(&exchange) else { return Ok(()) };
        if run.pending.is_empty() {
            return Ok(());
        }
        let (connection, gap) = (run.connection, run.pending);
        self.append_gap(exchange, connection, gap, now)?;
        if let Some(run) = self.gaps.runs.get_mut(&exchange) {
            run.pending = Gap::default();
        }
        Ok(())
    }

    fn append_gap(
        &mut self,
        exchange: ExchangeId,
        connection: ConnectionId,
        gap: Gap,
        now: Now,
    ) -> Result<(), Full> {
        gap.write(&mut self.gaps.facts);
        let meta = EntryMeta::new(Kind::Gap, connection, exchange);
        self.journal.append(meta, std::iter::once(self.gaps.facts.as_slice()), now).map(drop)
    }

    /// Writes what gap entries are owed, as far as there is room. The runtime's tick asks for it,
    /// so that what an exchange left behind is told without it.
    pub(super) fn settle(&mut self, now: Now) {
        let gap = self.gaps.rest;
        if !gap.is_empty() {
            if self.append_gap(ExchangeId(0), ConnectionId(0), gap, now).is_err() {
                return;
            }
            self.gaps.rest = Gap::default();
        }
        let owing =
            |(id, run): (&ExchangeId, &Run)| (run.over || !run.pending.is_empty()).then_some(*id);
        let exchanges: Vec<ExchangeId> = self.gaps.runs.iter().filter_map(owing).collect();
        for exchange in exchanges {
            if self.write_gap(exchange, now).is_err() {
                return;
            }
            if self.gaps.runs.get(&exchange).is_some_and(|run| run.over) {
                self.gaps.runs.remove(&exchange);
            }
        }
    }
}

/// Bytes of a gap entry.
const GAP_LEN: usize = 192;
/// Bytes that an entry may take beside its body: its head, zeros behind, a roll entry.
const HEADS: usize = 192;
/// Exchanges whose gaps are told apart; of more than these, a sum is told.
const RUNS_MAX: usize = 4_096;
/// How often the log says that entries are left out.
const TELL_NS: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MemoryJournal;

    struct Desk {
        journal: MemoryJournal,
        gaps: Gaps,
        on_full: OnFull,
        full: bool,
    }

    impl Desk {
        fn new(on_full: OnFull) -> Self {
            Self { journal: MemoryJournal::new(), gaps: Gaps::default(), on_full, full: false }
        }

        fn books(&mut self) -> Books<'_, MemoryJournal> {
            Books {
                journal: &mut self.journal,
                gaps: &mut self.gaps,
                on_full: self.on_full,
                full: self.full,
            }
        }

        fn put(&mut self, kind: Kind, exchange: u128, len: usize) -> Result<bool, Full> {
            let meta = EntryMeta::new(kind, ConnectionId(1), ExchangeId(exchange));
            let body = vec![7; len];
            let done = self.books().append(meta, std::iter::once(&body[..]), Now::default());
            done.map(|position| position.is_some())
        }

        /// Kind, exchange and, of a gap, entries and bytes of all that was recorded.
        fn told(&self) -> Vec<(Kind, u128, u64, u64)> {
            let entries = self.journal.entries().iter();
            entries
                .map(|entry| {
                    let gap = match entry.meta.kind {
                        Kind::Gap => Gap::read(&entry.body),
                        _ => Gap::default(),
                    };
                    (entry.meta.kind, entry.meta.exchange.0, gap.entries, gap.bytes())
                })
                .collect()
        }
    }

    #[test]
    fn refuse_leaves_nothing_out() {
        let mut desk = Desk::new(OnFull::Refuse);
        desk.journal.set_room(Some(64));
        desk.full = true;
        assert_eq!(desk.put(Kind::Data, 1, 100), Err(Full));
        assert_eq!(desk.put(Kind::Open, 1, 1), Err(Full));
        assert_eq!(desk.gaps.total(), Gap::default());
        desk.journal.set_room(None);
        assert_eq!(desk.put(Kind::Data, 1, 100), Ok(true), "a full disk still has what is in hand");
    }

    #[test]
    fn a_shed_body_leaves_a_gap_where_it_would_stand() {
        let mut desk = Desk::new(OnFull::ShedBodies);
        assert_eq!(desk.put(Kind::Open, 1, 10), Ok(true));
        desk.full = true;
        assert_eq!(desk.put(Kind::RequestBody, 1, 100), Ok(false));
        assert_eq!(desk.put(Kind::RequestBody, 1, BODY_MAX + 1), Ok(false));
        assert_eq!(desk.put(Kind::ResponseHead, 1, 10), Ok(true), "heads go on");
        desk.full = false;
        assert_eq!(desk.put(Kind::ResponseBody, 1, 100), Ok(true));
        assert_eq!(desk.put(Kind::Close, 1, 10), Ok(true));
        let told = [
            (Kind::Open, 1, 0, 0),
            (Kind::Gap, 1, 1, 100),
            (Kind::Gap, 1, 2, BODY_MAX as u64 + 1),
            (Kind::ResponseHead, 1, 0, 0),
            (Kind::ResponseBody, 1, 0, 0),
            (Kind::Close, 1, 0, 0),
        ];
        assert_eq!(desk.told(), told);
        assert!(desk.gaps.runs.is_empty());
        assert_eq!(desk.gaps.total().entries, 3);
    }

    #[test]
    fn a_body_whose_gap_has_no_room_is_not_shed() {
        let mut desk = Desk::new(OnFull::ShedBodies);
        desk.journal.set_share(1_000);
        // Room for one gap entry in the reserve, and for no head.
        desk.journal.set_room(Some(200));
        assert_eq!(desk.put(Kind::Open, 2, 10), Err(Full));
        assert_eq!(desk.put(Kind::Data, 1, 100), Ok(false));
        assert_eq!(desk.put(Kind::Data, 2, 100), Err(Full));
        assert_eq!(desk.told(), [(Kind::Gap, 1, 1, 100)]);
        assert_eq!(desk.put(Kind::Close, 1, 10), Err(Full));
        desk.journal.set_room(None);
        desk.books().settle(Now::default());
        assert!(desk.gaps.runs.is_empty() && !desk.gaps.owes());
    }

    #[test]
    fn what_is_dropped_is_counted_when_there_is_room() {
        let mut desk = Desk::new(OnFull::Drop);
        desk.journal.set_room(Some(0));
        for kind in [Kind::Open, Kind::Data, Kind::Close] {
            assert_eq!(desk.put(kind, 1, 50), Ok(false));
        }
        assert_eq!(desk.put(Kind::Open, 2, 50), Ok(false));
        assert!(desk.gaps.owes());
        desk.books().settle(Now::default());
        assert_eq!(desk.told(), []);
        desk.journal.set_room(None);
        desk.books().settle(Now::default());
        let mut told = desk.told();
        told.sort_by_key(|told| told.1);
        assert_eq!(told, [(Kind::Gap, 1, 3, 50), (Kind::Gap, 2, 1, 0)]);
        assert!(!desk.gaps.owes());
        // Exchange 2 goes on, whole again from here.
        assert_eq!(desk.put(Kind::Data, 2, 50), Ok(true));
        assert!(desk.gaps.runs.is_empty());
    }

    #[test]
    fn the_gaps_of_a_flood_are_bounded_and_all_counted() {
        let mut desk = Desk::new(OnFull::Drop);
        desk.journal.set_room(Some(0));
        let many = RUNS_MAX as u128 + 10;
        for exchange in 1..=many {
            assert_eq!(desk.put(Kind::Open, exchange, 50), Ok(false));
            assert_eq!(desk.put(Kind::Close, exchange, 50), Ok(false));
        }
        assert_eq!(desk.gaps.runs.len(), RUNS_MAX);
        desk.journal.set_room(None);
        desk.books().settle(Now::default());
        assert!(desk.gaps.runs.is_empty());
        assert_eq!(desk.told().iter().map(|told| told.2).sum::<u64>(), 2 * many as u64);
    }
}
