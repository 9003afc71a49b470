//! Rows that go in parts although they are masked, and what becomes of a result with a row that
//! cannot.
//!
//! A row that would have to be kept for longer than `message_max` allows is refused in the place of
//! its statement: an error with SQLSTATE 54000, and what is left of the result is dropped. The server
//! knows nothing of that, and goes on as if the statement were a success. So this is done only where
//! that comes to the same as a failure: the statement stands alone before its Sync, and either it
//! only reads, or it is within a transaction, which is made fail behind it as behind any refused
//! statement. Elsewhere the error is fatal.
//!
//! ```text
//! row --too long--> Refused --ready, in a transaction--> poisoned --ready, failed--> over
//!                      '----ready, idle or failed-------------------------------------^
//! ```

use super::leg::SHOWN_MAX;
use super::long::{By, LongRow, Step};
use super::queue::Expect;
use super::refuse::{Denied, POISON};
use super::rows::{RowError, TooLong};
use super::upstream::{Fate, OutOfOrder};
use super::{Phase, Session, Skip};
use crate::base::Now;
use crate::record::Journal;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::wire::postgres::{Backend, FRAME_HEAD, TxStatus, backend};
use std::ops::Range;
use std::rc::Rc;

/// What is to be done with a row that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pass,
    Mask,
    /// It is the catalog's answer to the gateway.
    Read,
    /// It is of a result that was refused.
    Drop,
    /// It owes a mask, and nothing is known of its columns.
    Never,
}

impl Way {
    /// Whether a message of the server, with a body of `len` bytes, may pass in parts; whole ones
    /// have `max` at most.
    pub(super) fn streams(self, tag: u8, len: usize, max: usize) -> bool {
        let rows = match self {
            Self::Pass | Self::Drop => true,
            Self::Mask => len > SHOWN_MAX || len + FRAME_HEAD > max,
            Self::Read | Self::Never => false,
        };
        tag == b'd' || tag == b'D' && rows
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Passage {
    /// The row that is masked while it comes.
    row: Option<Box<LongRow>>,
    /// What was held of it, and goes from the second place on as there is room in the journal.
    paced: (Vec<u8>, usize),
    refused: Option<Refused>,
}

struct Refused {
    denied: Denied,
    /// So many cycles are over behind the failure that the server is made tell.
    poisoned: Option<usize>,
}

impl Session {
    /// What is to be done with a row now.
    pub(super) fn way(&mut self) -> Way {
        if self.is_refreshing() {
            return Way::Read;
        }
        if self.is_refused() {
            return Way::Drop;
        }
        let masked = match self.queue.front() {
            Some(Expect::Execute { masked, .. } | Expect::Simple { masked, .. }) => *masked,
            _ => false,
        };
        if !masked {
            return Way::Pass;
        }
        match self.masking.as_ref().and_then(|masking| masking.rows.as_ref()) {
            // Rows that nothing is known of are not given out.
            None => Way::Never,
            Some(rows) if rows.is_pass() => Way::Pass,
            Some(_) => Way::Mask,
        }
    }

    fn passage(&mut self) -> Option<&mut Passage> {
        self.masking.as_mut().map(|masking| &mut masking.passage)
    }

    /// The server's session ended, and so did the result that it was in.
    pub(super) fn forget_result(&mut self) {
        if let Some(masking) = &mut self.masking {
            masking.passage = Passage::default();
            masking.written.clear();
            masking.rows = None;
        }
    }

    fn is_refused(&self) -> bool {
        self.masking.as_ref().is_some_and(|masking| masking.passage.refused.is_some())
    }

    /// Whether the caller must wait until a refused result is over.
    pub(super) fn is_settling(&self) -> bool {
        self.is_refused() && self.skip.is_none()
    }

    /// Whether the caller has a part of a message, which an error would be read as a part of.
    pub(super) fn is_told_in_part(&self) -> bool {
        match self.masking.as_ref().map(|masking| &masking.passage) {
            // What was held of it may go still, when all of it is there.
            Some(Passage { row: Some(row), .. }) => row.is_told(),
            Some(Passage { refused: Some(_), .. }) => false,
            _ => self.down.is_passing(),
        }
    }

    /// A row begins that is masked while it comes; its body has `len` bytes.
    pub(super) fn begin_row(&mut self, len: usize, max: usize) -> Result<(), OutOfOrder> {
        self.running()?;
        let Some(masking) = &mut self.masking else { return Err(OutOfOrder) };
        let Some(rows) = &masking.rows else { return Err(OutOfOrder) };
        masking.passage.row = Some(Box::new(LongRow::new(len, max, rows)));
        Ok(())
    }

    /// Whether a row is masked while it comes.
    pub(super) fn is_in_row(&self) -> bool {
        self.masking.as_ref().is_some_and(|masking| masking.passage.row.is_some())
    }

    /// Masks a part of the row, the bytes of the input at `range`, and lets it go as far as it may.
    /// Returns how many it took, and whether what was held of the row waits for room in the journal:
    /// nothing else may go then.
    pub(super) fn on_row_part<J: Journal>(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> (usize, bool) {
        let input = bytes.get(..range.end).unwrap_or_default();
        let (mut at, mut run) = (range.start, range.start..range.start);
        while matches!(self.phase, Phase::Ready) {
            let Some(masking) = &mut self.masking else { break };
            let (Some(row), Some(rows)) = (&mut masking.passage.row, &masking.rows) else { break };
            let mut by = By { rows, plan: &masking.rows_by, mask: &mut masking.mask };
            let step = row.next(input, &mut at, &mut by, &mut masking.written);
            if let (Ok(Step::Source(next)), true) = (&step, masking.written.is_empty())
                && next.start == run.end
            {
                run.end = next.end;
                continue;
            }
            if matches!(step, Ok(Step::Source(_) | Step::More | Step::End)) {
                self.release_run(bytes, run.clone(), now, worker, out);
                self.release_rows(now, worker, out);
            }
            match step {
                Ok(Step::Source(next)) => run = next,
                Ok(Step::Told(held)) => {
                    if let Some(cycle) = self.cycles.answered() {
                        cycle.rows += 1;
                    }
                    if let Some(passage) = self.passage() {
                        passage.paced = (held, 0);
                    }
                    run = at..at;
                    if !self.release_paced(now, worker, out) {
                        return (at - range.start, true);
                    }
                }
                Ok(Step::More) => break,
                Ok(Step::End) => {
                    if let Some(masking) = &mut self.masking {
                        masking.passage.row = None;
                        worker.counts.masked += masking.take_finds();
                    }
                    break;
                }
                Err(RowError::Long(long)) => self.refuse_row(long, now, worker, out),
                Err(_) => self.unmaskable(now, worker, out),
            }
        }
        (range.len(), false)
    }

    /// Lets what was held of a row go, as there is room in the journal; `false`: some of it waits.
    pub(super) fn release_paced<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        while let Some(passage) = self.passage() {
            let (held, at) = std::mem::take(&mut passage.paced);
            let rest = held.get(at..).unwrap_or_default();
            let part = rest.get(..PACED_MAX).unwrap_or(rest);
            if part.is_empty() || matches!(self.phase, Phase::Closed) {
                break;
            }
            let waits = self.stall.must_wait(part.len(), now, worker);
            if !waits {
                self.release_masked(part, now, worker, out);
            }
            let at = at + if waits { 0 } else { part.len() };
            if let Some(passage) = self.passage() {
                passage.paced = (held, at);
            }
            if waits {
                return false;
            }
        }
        true
    }

    /// A value in a row is blocked, or the row is none.
    pub(super) fn unmaskable<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        tracing::warn!(request = %self.link, "a row cannot be masked");
        self.refuse_all(&Denied::of(Refusal::Unmaskable, ""), now, worker, out);
    }

    /// A row that would have to be kept for too long: its statement fails.
    fn refuse_row<J: Journal>(
        &mut self,
        long: TooLong,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) {
        let max = self.message_max(worker);
        let Some(masking) = &mut self.masking else { return };
        masking.passage.row = None;
        let name = |place| masking.rows.as_ref().map_or_else(String::new, |rows| rows.name(place));
        let column = name(long.column);
        let told = match long.behind {
            Some(behind) => (
                format!(
                    "Column \"{}\" is masked, and stands behind column \"{column}\", which is longer \
                     than what may be kept until then ([limits] message_max, {max} bytes).",
                    name(behind)
                ),
                "Name masked columns before long ones.",
            ),
            None => (
                format!(
                    "Column \"{column}\" must be whole to be masked, and is longer than what may be \
                     kept ([limits] message_max, {max} bytes)."
                ),
                "Leave the column out.",
            ),
        };
        let denied = Denied {
            code: Some(TOO_LONG),
            told: Some(Rc::new(told)),
            ..Denied::of(Refusal::Unmaskable, "The row is too long to be masked")
        };
        // The rest of the row is not told, and no part of it was.
        let alone = self.fails_alone();
        if let Some(passage) = self.passage() {
            passage.refused = Some(Refused { denied: denied.clone(), poisoned: None });
        }
        if !alone {
            return self.refuse_all(&denied, now, worker, out);
        }
        worker.count(denied.refusal);
        let id = self.subject(false).exchange;
        tracing::info!(request = %id, refusal = denied.refusal.label(), "a row is too long");
        if !self.queue.has_end() && self.skip.is_none() {
            self.skip = Some(Skip::Upstream);
        }
        self.tell_refusal(&denied, now, worker, out);
    }

    /// Whether the statement whose rows come can be told to have failed, and nothing stays or goes on
    /// that a failure would have ended.
    fn fails_alone(&mut self) -> bool {
        let runs = self.cycles.answered().map_or(0, |cycle| cycle.runs);
        let reads = self.queue.running().is_some_and(|statement| statement.only_reads());
        runs == 1
            && match self.tx {
                TxStatus::Idle => reads && self.queue.is_alone(),
                TxStatus::Transaction => self.queue.is_alone() && self.queue.is_last(),
                TxStatus::Failed => false,
            }
    }

    /// What becomes of a whole message behind a row that was refused: the caller heard of it.
    pub(super) fn fate_refused(
        &mut self,
        message: &[u8],
        named: &[u16],
    ) -> Result<Fate, OutOfOrder> {
        let body = message.get(FRAME_HEAD..).unwrap_or_default();
        match message.first() {
            Some(b'D') => self.running().map(|()| Fate::Swallow),
            Some(b'C' | b'I' | b's') => self.fate_plain(message, named).map(|_| Fate::Swallow),
            Some(b'E') => match backend(b'E', body) {
                Ok(Backend::Error(fields))
                    if fields.get(b'V').is_some_and(|v| v == b"ERROR" || v == b"LOG") =>
                {
                    self.forget_rows();
                    let failure = self.queue.failed();
                    if failure.skips && self.skip.is_none() {
                        self.skip = Some(Skip::Upstream);
                    }
                    Ok(Fate::Swallow)
                }
                _ => self.fate_plain(message, named),
            },
            Some(b'Z') => match backend(b'Z', body) {
                Ok(Backend::Ready(status)) => self.ready_refused(status),
                _ => Err(OutOfOrder),
            },
            _ => self.fate_plain(message, named),
        }
    }

    fn ready_refused(&mut self, status: TxStatus) -> Result<Fate, OutOfOrder> {
        if !self.is_home() && status != TxStatus::Idle {
            return Err(OutOfOrder);
        }
        let ended = self.queue.ready(status == TxStatus::Idle).ok_or(OutOfOrder)?;
        self.tx = status;
        let goes_on = status == TxStatus::Transaction && !self.caller_ended;
        let Some(passage) = self.passage() else { return Err(OutOfOrder) };
        let Some(refused) = &mut passage.refused else { return Err(OutOfOrder) };
        match refused.poisoned {
            // A transaction that is told to have failed has failed.
            Some(_) if status != TxStatus::Failed => Err(OutOfOrder),
            Some(before) => {
                passage.refused = None;
                Ok(Fate::Ends(before))
            }
            None if goes_on => {
                refused.poisoned = Some(ended);
                let denied = refused.denied.clone();
                self.queue.push(Expect::PoisonSimple { denied });
                Ok(Fate::Poison)
            }
            None => {
                passage.refused = None;
                Ok(Fate::Ends(ended))
            }
        }
    }

    /// What makes the transaction fail that a refused result stands in.
    pub(super) fn poison<J: Journal>(&mut self, now: Now, worker: &mut Worker<J>, out: &mut Out) {
        self.say_link(&String::from_utf8_lossy(POISON), now, worker, out);
    }
}

/// Bytes of what was held that are recorded and let go at a time.
const PACED_MAX: usize = 256 << 10;
/// The SQLSTATE of `program_limit_exceeded`.
const TOO_LONG: &str = "54000";
