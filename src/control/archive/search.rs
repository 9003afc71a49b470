//! The newest exchanges that a filter takes, page by page.
//!
//! Each worker's record is read backwards, piece by piece. An exchange is known once its first entry
//! was read; what was read of it before that, in later pieces, is kept until then. What is known of
//! all workers back to a time is in order, and is given out.

use super::filter::Filter;
use super::shelf::{ArchiveError, Budget, Lane, Shelf};
use crate::record::reader::Joiner;
use crate::record::summary::{Row, Summaries};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;

/// Where a page ended: the exchange that began then, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Wall nanoseconds.
    pub start_ns: u64,
    /// The id, as a number.
    pub id: u128,
}

/// Some exchanges, the newest first.
#[derive(Debug, Default)]
pub struct Page {
    /// What was found.
    pub rows: Vec<Row>,
    /// Where to go on; nothing when all was looked at.
    pub next: Option<Place>,
    /// Back to when everything was looked at, wall nanoseconds; 0 for the beginning.
    pub reached_ns: u64,
}

/// How far the reading of one lane got.
struct Reading<'s> {
    lane: &'s Lane,
    /// The piece to read next; one above it.
    left: usize,
    /// Exchanges whose first entry was not read yet.
    tails: HashMap<u128, Row>,
    /// Everything from here on is known.
    reached_ns: u64,
}

/// The newest `count` exchanges before `before` that `filter` takes.
///
/// # Errors
/// [`ArchiveError`].
pub fn search(
    dir: &Path,
    filter: &Filter,
    before: Option<Place>,
    count: usize,
    mut budget: Budget,
) -> Result<Page, ArchiveError> {
    let shelf = Shelf::open(dir, &mut budget)?;
    let top = Place { start_ns: u64::MAX, id: u128::MAX };
    let before = before.unwrap_or(top).min(until(filter));
    let mut lanes: Vec<Reading<'_>> = shelf.lanes.iter().map(|lane| start(lane, before)).collect();
    let mut found: Vec<Row> = Vec::new();
    let since = filter.since_ns.unwrap_or(0);
    loop {
        let reached = lanes.iter().map(|lane| lane.reached_ns).max().unwrap_or(0);
        let ready = found.iter().filter(|row| row.start_ns >= reached).count();
        let some = reached < before.start_ns;
        if reached == 0 || reached <= since || ready > count || (some && budget.is_spent()) {
            return Ok(page(found, reached.max(since), count, reached == 0 || reached <= since));
        }
        let Some(lane) = lanes.iter_mut().max_by_key(|lane| lane.reached_ns) else {
            return Ok(Page::default());
        };
        let rows = lane.step(&shelf, &mut budget)?;
        found.extend(rows.into_iter().filter(|row| place(row) < before && filter.takes(row)));
    }
}

fn until(filter: &Filter) -> Place {
    Place {
        start_ns: filter.until_ns.unwrap_or(u64::MAX),
        id: filter.until_ns.map_or(u128::MAX, |_| 0),
    }
}

fn place(row: &Row) -> Place {
    Place { start_ns: row.start_ns, id: row.id }
}

/// Begins one piece above the one that is asked about: an exchange of it may end there.
fn start(lane: &Lane, before: Place) -> Reading<'_> {
    let left = lane.pieces().min(lane.at(before.start_ns) + 2);
    let reached_ns = if left == 0 { 0 } else { u64::MAX };
    Reading { lane, left, tails: HashMap::new(), reached_ns }
}

impl Reading<'_> {
    /// Reads one piece more; returns the exchanges that began in it.
    fn step(&mut self, shelf: &Shelf, budget: &mut Budget) -> Result<Vec<Row>, ArchiveError> {
        self.left = self.left.saturating_sub(1);
        let (mut all, mut joiner) = (Summaries::new(), Joiner::new());
        shelf.read(self.lane, self.left, budget, |entry| {
            if let Some(whole) = joiner.push(self.lane.worker, entry) {
                all.push(&whole);
            }
            ControlFlow::Continue(())
        })?;
        let mut begun = Vec::new();
        for mut row in all.into_rows() {
            if let Some(tail) = self.tails.remove(&row.id) {
                row.go_on(tail);
            }
            if row.opened {
                begun.push(row);
            } else if self.tails.len() < TAILS_MAX {
                self.tails.insert(row.id, row);
            }
        }
        self.reached_ns = self.lane.begins(self.left);
        Ok(begun)
    }
}

fn page(mut rows: Vec<Row>, reached_ns: u64, count: usize, all: bool) -> Page {
    rows.retain(|row| row.start_ns >= reached_ns);
    let mut page = Page { rows, next: None, reached_ns: if all { 0 } else { reached_ns } };
    page.finish(count);
    if page.next.is_none() && !all {
        page.next = Some(Place { start_ns: reached_ns, id: 0 });
    }
    page
}

impl Page {
    /// Puts the rows in order and keeps the newest `count`.
    pub(super) fn finish(&mut self, count: usize) {
        self.rows.sort_unstable_by_key(|row| std::cmp::Reverse(place(row)));
        let more = self.rows.len() > count;
        self.rows.truncate(count);
        self.next = self.rows.last().filter(|_| more).map(place);
    }
}

/// Exchanges of one worker whose beginning was not read yet.
const TAILS_MAX: usize = 100_000;
