//! A row that is masked while it comes: what is known of its new length, and what waits for that.
//!
//! ```text
//!   cells --> held until nothing behind can change its length --head with the new length--> told
//! ```
//!
//! A DataRow has its length before its cells, and a masked cell has another one. So nothing of a row
//! goes before the new length of each of its cells is known: from the length of the cell as it came,
//! or from all of its bytes where the operator asks for them. What stands before that is held; what
//! stands behind goes as it comes. A cell whose replacement does not depend on it is dropped while it
//! comes. Of the last cell the length is known ahead, too: it is what is left of the row.
//!
//! What is held is the masked form, at most `max` bytes of it and a cell that is being looked at
//! whole. A row that fits into `max` always does; one that asks for more is an error before a byte
//! of it went. What comes out does not depend on how the row was cut.

use super::rows::{Act, RowError, RowMask, RowPlan, TooLong};
use crate::mask::{Ahead, Cell, Plan};
use crate::wire::postgres::{FRAME_HEAD, RowStep, RowWalk, WireError};
use std::ops::Range;

/// What a [`LongRow`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These bytes of the input go as they are, behind what was written before.
    Source(Range<usize>),
    /// The length is known: what was held goes.
    Told(Vec<u8>),
    /// The input is used up.
    More,
    /// The row is whole.
    End,
}

/// What is done to the bytes of the cell in hand.
#[derive(Clone, Copy, Debug)]
enum Doing {
    Pass,
    Drop,
    /// The mask writes what stands for it while it comes.
    Replace,
    /// It is kept until it is whole.
    Gather(Act),
}

/// What a row is masked by.
pub(super) struct By<'a> {
    pub(super) rows: &'a RowPlan,
    pub(super) plan: &'a Plan,
    pub(super) mask: &'a mut RowMask,
}

/// See the module.
#[derive(Debug)]
pub(super) struct LongRow {
    walk: RowWalk,
    /// Bytes of the message as it comes, without its tag.
    len: usize,
    /// By so much what goes is longer.
    grown: i64,
    /// What may be held; `None`: all of it, for it is within the bound.
    max: Option<usize>,
    /// The last column that is not given out as it is.
    last: Option<usize>,
    /// The message so far, until its length is known.
    held: Vec<u8>,
    told: bool,
    /// The length was told before the last cell's own was read.
    ahead: bool,
    doing: Doing,
    /// The cell in hand, where it must be whole.
    cell: Vec<u8>,
}

impl LongRow {
    /// Begins a row whose body has `len` bytes. Above `max` bytes it is held in part only.
    pub(super) fn new(len: usize, max: usize, rows: &RowPlan) -> Self {
        Self {
            walk: RowWalk::new(len),
            len: len + 4,
            grown: 0,
            max: (len + FRAME_HEAD > max).then_some(max),
            last: rows.acts().iter().rposition(|act| *act != Act::Pass),
            held: vec![b'D', 0, 0, 0, 0],
            told: false,
            ahead: false,
            doing: Doing::Pass,
            cell: Vec::new(),
        }
    }

    /// Whether the caller has a part of it.
    pub(super) fn is_told(&self) -> bool {
        self.told
    }

    /// The next step in `input` from `*at` on. What is written to `out` goes before the bytes of the
    /// step; nothing is, before the step that tells the length.
    ///
    /// # Errors
    /// [`RowError`]; nothing went of a row unless it is one of [`RowError::Wire`].
    pub(super) fn next(
        &mut self,
        input: &[u8],
        at: &mut usize,
        by: &mut By<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Step, RowError> {
        loop {
            let was_told = self.told;
            let start = *at;
            let Some(step) = self.walk.next(input, at)? else { return Ok(Step::More) };
            match step {
                RowStep::Count(count) => {
                    if usize::from(count) != by.rows.acts().len() {
                        return Err(WireError::Count.into());
                    }
                    self.put(&count.to_be_bytes(), out);
                }
                RowStep::Cell { index, len } => {
                    let passes = self.begin(usize::from(index), len, by, out)?;
                    // Its length goes as it came, where that was not cut.
                    if passes {
                        if *at - start == 4 {
                            return Ok(Step::Source(start..*at));
                        }
                        self.put(&written_len(len), out);
                    }
                }
                RowStep::Bytes { index, range, last } => {
                    let bytes = input.get(range.clone()).unwrap_or_default();
                    match self.doing {
                        Doing::Pass if was_told => return Ok(Step::Source(range)),
                        Doing::Pass => self.held.extend_from_slice(bytes),
                        Doing::Drop => {}
                        Doing::Replace => self.replace(bytes, last, by, out),
                        Doing::Gather(act) => {
                            self.cell.extend_from_slice(bytes);
                            if last {
                                self.gathered(act, usize::from(index), by)?;
                            }
                        }
                    }
                }
                RowStep::End if self.told => return Ok(Step::End),
                // Without a column that may change it would not be here.
                RowStep::End => return Err(WireError::Count.into()),
            }
            if self.told && !was_told {
                return Ok(Step::Told(std::mem::take(&mut self.held)));
            }
        }
    }

    /// A cell begins; `true`: it goes as it comes, and its length was not written, for the caller
    /// has what stands before it.
    fn begin(
        &mut self,
        index: usize,
        len: Option<u32>,
        by: &mut By<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, RowError> {
        let act = by.rows.acts().get(index).copied().ok_or(WireError::Count)?;
        let size = usize::try_from(len.unwrap_or(0)).map_err(|_| WireError::TooLong)?;
        // NULL tells nothing that the mask could hide.
        let ahead = if len.is_none() { Ahead::Same } else { act.ahead(by.plan, size)? };
        // Where it was taken for NULL, what has no bytes is.
        let nothing = self.ahead && self.last == Some(index) && size == 0;
        match ahead {
            _ if nothing => {
                self.doing = Doing::Drop;
                self.put(&NULL, out);
            }
            Ahead::Same => {
                self.doing = Doing::Pass;
                if self.told {
                    return Ok(true);
                }
                self.room(index, size, by)?;
                self.held.extend_from_slice(&written_len(len));
            }
            Ahead::Null => {
                self.doing = Doing::Drop;
                if act.rule(by.plan).is_some() {
                    by.mask.cells.count();
                }
                self.grow(size, 0);
                self.put(&NULL, out);
            }
            Ahead::Becomes(new) => {
                self.doing = Doing::Replace;
                self.grow(size, new);
                self.room(index, new, by)?;
                let new = i32::try_from(new).map_err(|_| WireError::TooLong)?;
                self.put(&new.to_be_bytes(), out);
                let Some(rule) = act.rule(by.plan) else { return Err(WireError::Count.into()) };
                let to = if self.told { &mut *out } else { &mut self.held };
                by.mask.cells.begin(rule, |part| to.extend_from_slice(part))?;
                if size == 0 {
                    self.replace(b"", true, by, out);
                }
            }
            Ahead::Whole => {
                self.doing = Doing::Gather(act);
                if self.max.is_some_and(|max| self.held.len().saturating_add(size) > max) {
                    return Err(RowError::Long(TooLong { column: index, behind: None }));
                }
                if size == 0 {
                    self.gathered(act, index, by)?;
                }
                return Ok(false);
            }
        }
        self.settle(index)?;
        Ok(false)
    }

    /// Makes sure that `size` bytes of the cell can be held, where they must be.
    fn room(&mut self, index: usize, size: usize, by: &By<'_>) -> Result<(), RowError> {
        let open = self.last.filter(|last| *last > index && !self.told);
        let (Some(last), Some(max)) = (open, self.max) else { return Ok(()) };
        if self.held.len().saturating_add(size) <= max || self.look_ahead(index, last, by)? {
            return Ok(());
        }
        let acts = by.rows.acts().iter().enumerate().skip(index + 1);
        let behind = acts.filter(|(_, act)| **act != Act::Pass).map(|(place, _)| place).next();
        Err(RowError::Long(TooLong { column: index, behind }))
    }

    /// Whether the one cell behind this one has a length that is known by now: what is left of the
    /// row is its own length and its bytes. Without bytes it may be NULL, and is told to be.
    fn look_ahead(&mut self, index: usize, last: usize, by: &By<'_>) -> Result<bool, RowError> {
        let is_next = last == index + 1 && by.rows.acts().len() == last + 1;
        let (true, Some(size)) = (is_next, self.walk.behind().checked_sub(4)) else {
            return Ok(false);
        };
        let act = by.rows.acts().get(last).copied().unwrap_or(Act::Null);
        let new = match act.ahead(by.plan, size) {
            // A value that is blocked is one, NULL is not.
            Err(error) if size > 0 => return Err(error.into()),
            Err(_) | Ok(Ahead::Whole) => return Ok(false),
            Ok(_) if size == 0 => 0,
            Ok(Ahead::Same) => size,
            Ok(Ahead::Null) => 0,
            Ok(Ahead::Becomes(new)) => new,
        };
        self.grow(size, new);
        self.ahead = true;
        Ok(true)
    }

    /// A cell of `size` bytes becomes one of `new`.
    fn grow(&mut self, size: usize, new: usize) {
        // Neither is above 1 GiB.
        let of = |len: usize| i64::try_from(len).unwrap_or(i64::MAX / 4);
        self.grown += of(new) - of(size);
    }

    /// The next bytes of a cell that something stands for.
    fn replace(&mut self, bytes: &[u8], last: bool, by: &mut By<'_>, out: &mut Vec<u8>) {
        let to = if self.told { out } else { &mut self.held };
        by.mask.cells.feed(bytes, |part| to.extend_from_slice(part));
        if last {
            by.mask.cells.end(|part| to.extend_from_slice(part));
        }
    }

    /// A cell that had to be whole is.
    fn gathered(&mut self, act: Act, index: usize, by: &mut By<'_>) -> Result<(), RowError> {
        let size = self.cell.len();
        let new = match by.mask.whole(act, by.plan, &self.cell)? {
            Cell::Null => None,
            Cell::Same => Some(&self.cell),
            Cell::Changed => Some(&by.mask.cell),
        };
        match new {
            None => self.held.extend_from_slice(&NULL),
            Some(new) => {
                let len = i32::try_from(new.len()).map_err(|_| WireError::TooLong)?;
                self.held.extend_from_slice(&len.to_be_bytes());
                self.held.extend_from_slice(new);
            }
        }
        let new = new.map_or(0, Vec::len);
        self.grow(size, new);
        // What a cell was is not kept for longer, nor the room of a long one.
        self.cell = Vec::new();
        by.mask.cell.clear();
        by.mask.cell.shrink_to(ROOM_MAX);
        self.settle(index)
    }

    /// Tells the length where no cell behind this one can change it.
    fn settle(&mut self, index: usize) -> Result<(), RowError> {
        if self.told || self.last.is_some_and(|last| last > index) && !self.ahead {
            return Ok(());
        }
        let len = i64::try_from(self.len).unwrap_or(i64::MAX / 4) + self.grown;
        let len = i32::try_from(len).map_err(|_| WireError::TooLong)?;
        if let Some(head) = self.held.get_mut(1..FRAME_HEAD) {
            head.copy_from_slice(&len.to_be_bytes());
        }
        self.told = true;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.told { out } else { &mut self.held }.extend_from_slice(bytes);
    }
}

/// Room for cells that stays.
const ROOM_MAX: usize = 64 << 10;
/// The length of NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();

fn written_len(len: Option<u32>) -> [u8; 4] {
    len.map_or(NULL, u32::to_be_bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::mask::{Detector, MaskSpec, Operator, Operators};
    use crate::session::postgres::columns::Columns;
    use crate::session::postgres::columns::tests::{plan as ruled, read};
    use crate::wire::postgres::{Cells, Column, write};

    const TEXT: u32 = 25;
    const BYTEA: u32 = 17;

    fn columns(plan: &Plan) -> Columns {
        let known = ["rule|0|20000|2|||", "column|0|20000|2|public|t|email", "newest||20010||||"];
        read(plan, &known).unwrap()
    }

    fn column(attribute: i16, kind: u32) -> Column<'static> {
        let (name, table) = (&b"x"[..], 20000);
        Column { name, table, attribute, kind, kind_len: -1, modifier: -1, format: 0 }
    }

    /// `m` is the masked column, `d` a text that detectors look through, `p` passes, `n` is NULL.
    fn rows(plan: &Plan, kinds: &str) -> RowPlan {
        let described = kinds.bytes().map(|kind| match kind {
            b'm' => column(2, TEXT),
            b'd' => column(1, TEXT),
            b'n' => column(0, TEXT),
            _ => column(1, BYTEA),
        });
        let columns = columns(plan);
        RowPlan::of(described, &columns, plan, false, &|_| false)
    }

    fn message(cells: &[Option<&[u8]>]) -> Vec<u8> {
        let mut message = Vec::new();
        write::data_row(cells, &mut message);
        message
    }

    fn whole(rows: &RowPlan, plan: &Plan, message: &[u8]) -> Result<Vec<u8>, RowError> {
        let mut out = Vec::new();
        let changed = rows.rewrite(&message[5..], plan, &mut RowMask::default(), &mut out)?;
        Ok(if changed { out } else { message.to_vec() })
    }

    /// What goes, and the most that was held at a time.
    fn parts(
        rows: &RowPlan,
        plan: &Plan,
        message: &[u8],
        max: usize,
        ends: impl Iterator<Item = usize>,
    ) -> Result<(Vec<u8>, usize), RowError> {
        let body = &message[5..];
        let mut mask = RowMask::default();
        let mut row = LongRow::new(body.len(), max, rows);
        let (mut gone, mut start, mut held) = (Vec::new(), 0, 0);
        for end in ends.chain([body.len()]) {
            let (input, mut at) = (&body[start..end], 0);
            loop {
                let mut out = Vec::new();
                let mut by = By { rows, plan, mask: &mut mask };
                let step = row.next(input, &mut at, &mut by, &mut out);
                held = held.max(row.held.len() + row.cell.len());
                if step.is_err() {
                    assert!(gone.is_empty(), "a part of a row that is refused");
                }
                gone.extend(out);
                match step? {
                    Step::Source(range) => gone.extend_from_slice(&input[range]),
                    Step::Told(told) => {
                        assert!(gone.is_empty());
                        held = held.max(told.len());
                        gone = told;
                    }
                    Step::More => break,
                    Step::End => {
                        assert_eq!((end, at), (body.len(), input.len()));
                        return Ok((gone, held));
                    }
                }
            }
            start = end;
        }
        panic!("no end");
    }

    fn detecting(operator: &str) -> Plan {
        let name = "public.t.email";
        let specs = [MaskSpec {
            columns: vec![crate::mask::ColumnName::parse(name).unwrap()],
            detect: vec![Detector::Email],
            operators: Operators {
                columns: Some(Operator::parse(operator).unwrap()),
                ..Operators::default()
            },
            key: crate::base::Secret::new(b"0123456789abcdef".to_vec()),
            ..MaskSpec::default()
        }];
        Plan::compile(&specs).unwrap()
    }

    /// A small generator with a seed that is printed by whoever fails.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }

        fn cell(&mut self) -> Option<Vec<u8>> {
            let len = [0, 1, 9, 40, 300][self.below(5)];
            let text = b"to ana@example.com, 12-34 \xc3\xa9! ";
            (self.below(6) > 0).then(|| text.iter().copied().cycle().take(len).collect())
        }
    }

    const OPERATORS: [&str; 9] = [
        "redact",
        "replace(\"(gone)\")",
        "keep_first(3)",
        "keep_last(3)",
        "same_length",
        "hash",
        "null",
        "drop",
        "block",
    ];

    /// A row that comes in parts is the row, however it is cut and whether it must be held in part
    /// or not; or it is refused, at the same place for every cut, and nothing of it went.
    #[test]
    fn a_row_in_parts_is_the_row_or_is_refused() {
        let seed = 0x5eed_0006;
        let mut random = Random(seed);
        let (mut refused, mut told) = (0, 0);
        for round in 0..6_000 {
            let plan = detecting(OPERATORS[round % OPERATORS.len()]);
            let count = 1 + random.below(6);
            let kinds: String =
                (0..count).map(|_| ['m', 'd', 'p', 'p', 'p', 'n'][random.below(6)]).collect();
            let rows = rows(&plan, &kinds);
            if rows.is_pass() {
                continue;
            }
            let cells: Vec<_> = kinds.bytes().map(|_| random.cell()).collect();
            let bytes = message(&cells.iter().map(Option::as_deref).collect::<Vec<_>>());
            let expected = whole(&rows, &plan, &bytes);
            let max = [usize::MAX, 0, 20, 60, 200][random.below(5)];
            let says = format!("seed {seed:x}, round {round}: {kinds} {max} {cells:?}");
            let mut outcomes = Vec::new();
            for way in 0..3 {
                let ends: Vec<usize> = (0..bytes.len() - 5)
                    .filter(|_| way == 1 || way == 2 && random.below(12) == 0)
                    .collect();
                outcomes.push(parts(&rows, &plan, &bytes, max, ends.into_iter()));
            }
            let bare = |one: &Result<(Vec<u8>, usize), RowError>| one.clone().map(|one| one.0);
            assert!(outcomes.iter().all(|one| bare(one) == bare(&outcomes[0])), "{says}");
            match (&outcomes[0], &expected) {
                (Ok((row, held)), Ok(expected)) => {
                    told += 1;
                    // A last value without bytes may be taken for NULL.
                    let empty = cells.last().unwrap().as_deref() == Some(b"") && bytes.len() > max;
                    if !empty || kinds.ends_with('p') {
                        assert_eq!(row, expected, "{says}");
                    }
                    let message = crate::wire::postgres::frame(row).unwrap().unwrap();
                    assert_eq!(message.len + 5, row.len(), "{says}");
                    // What stands for a cell may be longer than it was, by the label.
                    assert!(bytes.len() <= max || *held <= max + 5 + 6 * 400, "{says}");
                }
                (Err(RowError::Long(_)), _) => {
                    refused += 1;
                    assert!(bytes.len() > max, "{says}");
                }
                (Err(RowError::Mask(_)), Err(RowError::Mask(_))) => {}
                other => panic!("{says}: {other:?}"),
            }
        }
        assert!(refused > 300 && told > 2_000, "{refused} {told}");
    }

    fn long(kinds: &str, operator: &str, cells: &[Option<&[u8]>]) -> Result<usize, RowError> {
        let plan = ruled(&["public.t.email"], operator);
        let plan = if kinds.contains('d') { detecting(operator) } else { plan };
        let rows = rows(&plan, kinds);
        let bytes = message(cells);
        let (row, held) = parts(&rows, &plan, &bytes, 1_000, (0..bytes.len() - 5).step_by(700))?;
        let expected = whole(&rows, &plan, &bytes).unwrap();
        assert!(row == expected, "{kinds} {operator}");
        Ok(held)
    }

    #[test]
    fn what_is_held_is_what_stands_before_the_last_column_that_changes() {
        let big = vec![b'7'; 100_000];
        let (big, small) = (Some(big.as_slice()), Some(&b"ana@example.com"[..]));
        for (kinds, operator, cells) in [
            // Behind the last masked column everything goes as it comes.
            ("pmp", "redact", &[small, small, big][..]),
            ("pmp", "keep_last(3)", &[small, small, big]),
            ("mpp", "hash", &[small, big, big]),
            ("dpp", "redact", &[small, big, None]),
            // What stands for a long value is known before it comes.
            ("pm", "redact", &[small, big]),
            ("pmm", "redact", &[small, big, big]),
            ("pmm", "null", &[small, big, small]),
            ("mnd", "hash", &[big, big, small]),
            ("pmp", "same_length", &[small, big, big]),
            // Of the last column the length is what is left.
            ("ppm", "redact", &[small, big, small]),
            ("ppm", "hash", &[small, big, None]),
            ("pmm", "same_length", &[small, big, big]),
            ("ppn", "redact", &[small, big, big]),
        ] {
            assert!(long(kinds, operator, cells).unwrap() < 200, "{kinds} {operator}");
        }
    }

    #[test]
    fn what_cannot_be_known_is_refused_and_says_why() {
        let big = vec![b'7'; 100_000];
        let (big, small) = (Some(big.as_slice()), Some(&b"ana@example.com"[..]));
        let whole = |column| TooLong { column, behind: None };
        let behind = |column, behind| TooLong { column, behind: Some(behind) };
        for (kinds, operator, cells, why) in [
            ("pm", "keep_last(3)", &[small, big][..], whole(1)),
            ("dp", "redact", &[big, small], whole(0)),
            ("pmp", "redact", &[big, small, small], behind(0, 1)),
            ("pmm", "redact", &[big, small, small], behind(0, 1)),
            ("pm", "keep_first(3)", &[big, small], behind(0, 1)),
            ("mpm", "same_length", &[big, small, small], behind(0, 2)),
            ("pd", "redact", &[big, small], behind(0, 1)),
        ] {
            let told = long(kinds, operator, cells);
            assert_eq!(told, Err(RowError::Long(why)), "{kinds} {operator}");
        }
        // A value that is blocked is so before a byte of its row went.
        for (kinds, cells) in [("mp", [big, big]), ("pm", [big, small])] {
            let told = long(kinds, "block", &cells);
            assert!(matches!(told, Err(RowError::Mask(_))), "{kinds}");
        }
        let told = long("pm", "block", &[big, None]);
        assert_eq!(told, Err(RowError::Long(behind(0, 1))), "NULL, or empty and blocked");
    }

    /// Of a last cell that takes no bytes nothing says whether it is NULL before it comes.
    #[test]
    fn an_empty_last_cell_is_told_to_be_null() {
        let plan = ruled(&["public.t.email"], "redact");
        let rows = rows(&plan, "pm");
        let big = vec![b'7'; 5_000];
        for (last, max) in [(Some(&b""[..]), 1_000), (None, 1_000), (None, 10_000)] {
            let bytes = message(&[Some(&big), last]);
            let (row, _) = parts(&rows, &plan, &bytes, max, [5_004, 5_007].into_iter()).unwrap();
            let mut cells = Cells::new(&row[5..]).unwrap();
            assert_eq!(cells.next().unwrap(), Some(Some(big.as_slice())));
            assert_eq!(cells.next().unwrap(), Some(None));
        }
        let bytes = message(&[Some(&big), Some(b"")]);
        let (row, _) = parts(&rows, &plan, &bytes, 10_000, std::iter::empty()).unwrap();
        assert!(row.ends_with(b"[REDACTED]"), "what fits is as if it were whole");
    }
}
