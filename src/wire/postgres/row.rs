//! The cells of a DataRow: a count, then for each cell a length (-1 for NULL) and so many bytes.

use super::WireError;
use super::cursor::Cursor;
use std::ops::Range;

/// Walks the cells of one whole DataRow body.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    body: &'a [u8],
    cursor: usize,
    left: u16,
    range: Range<usize>,
}

impl<'a> Cells<'a> {
    /// Begins at the first cell.
    ///
    /// # Errors
    /// [`WireError::Truncated`] without a count, [`WireError::Count`] for a negative one.
    pub fn new(body: &'a [u8]) -> Result<Self, WireError> {
        let left = Cursor::new(body).columns()?;
        Ok(Self { body, cursor: 2, left, range: 2..2 })
    }

    /// How many cells are still to come.
    #[must_use]
    pub fn left(&self) -> usize {
        usize::from(self.left)
    }

    /// The next cell: `None` after the last one, `Some(None)` for NULL.
    ///
    /// # Errors
    /// [`WireError::Truncated`] for a cell beyond the body, [`WireError::Length`] for a negative
    /// length other than that of NULL, and after the last cell [`WireError::Trailing`] when bytes
    /// are left.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and the row with it")]
    pub fn next(&mut self) -> Result<Option<Option<&'a [u8]>>, WireError> {
        let mut cursor = Cursor::new(self.body.get(self.cursor..).unwrap_or_default());
        let Some(left) = self.left.checked_sub(1) else {
            cursor.end()?;
            return Ok(None);
        };
        let cell = cursor.value()?;
        let end = self.body.len() - cursor.rest().len();
        self.range = end - cell.map_or(0, <[u8]>::len)..end;
        (self.cursor, self.left) = (end, left);
        Ok(Some(cell))
    }

    /// Where in the body the bytes of the cell stand that [`Self::next`] gave last; empty, behind
    /// its length, for NULL. The length is the four bytes before it.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

/// Reads a DataRow body that comes in parts, cut anywhere.
///
/// ```text
/// Count -> Length -> Bytes -> Length ... -> End
///             '------------------^ (NULL, or no bytes)
/// ```
///
/// Lengths are checked against the body's as soon as they are read: no cell begins that would not
/// leave room for the rest of the row, and the last one ends where the body does.
#[derive(Clone, Debug)]
pub struct RowWalk {
    state: State,
    /// Bytes of the body after what was read and after the current cell.
    body: usize,
    /// Cells that did not begin yet.
    left: u16,
    /// Number of the current cell, and after it of the next one.
    index: u16,
    /// The first bytes of a number that a cut has split.
    number: [u8; 4],
    have: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Count,
    Length,
    Bytes(usize),
    End,
    Done,
    Failed(WireError),
}

/// What a [`RowWalk`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowStep {
    /// So many cells follow.
    Count(u16),
    /// A cell begins.
    Cell {
        /// Its place in the row, from 0.
        index: u16,
        /// Its length; `None` for NULL. Bytes follow only where it is above 0.
        len: Option<u32>,
    },
    /// The next bytes of the cell.
    Bytes {
        /// The cell's place in the row.
        index: u16,
        /// Where in this input they stand; never empty.
        range: Range<usize>,
        /// Whether they are the cell's last ones.
        last: bool,
    },
    /// The row is whole; what follows in the input is not of it.
    End,
}

impl RowWalk {
    /// Begins a row whose body has `len` bytes.
    #[must_use]
    pub fn new(len: usize) -> Self {
        let (number, have) = ([0; 4], 0);
        Self { state: State::Count, body: len, left: 0, index: 0, number, have }
    }

    /// Bytes of the body behind the cell that began last; the lengths of the cells there are of
    /// them.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.body
    }

    /// Whether the row is whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The next step in `input` from `*at` on, which moves behind what was read; `None` when the
    /// input is used up or the row is done. Bytes behind the row are not read.
    ///
    /// # Errors
    /// The kinds of [`Cells`], if not always the same one; the same at every cut. It stays.
    pub fn next(&mut self, input: &[u8], at: &mut usize) -> Result<Option<RowStep>, WireError> {
        let step = match self.state {
            State::Count => self.count(input, at),
            State::Length => self.length(input, at),
            State::Bytes(left) => Ok(self.bytes(left, input, at)),
            State::End => {
                self.state = State::Done;
                Ok(Some(RowStep::End))
            }
            State::Done => Ok(None),
            State::Failed(error) => Err(error),
        };
        if let Err(error) = step {
            self.state = State::Failed(error);
        }
        step
    }

    fn count(&mut self, input: &[u8], at: &mut usize) -> Result<Option<RowStep>, WireError> {
        let rest = self.body.checked_sub(2).ok_or(WireError::Truncated)?;
        let Some([high, low]) = self.number::<2>(input, at) else { return Ok(None) };
        let count = u16::try_from(i16::from_be_bytes([high, low])).map_err(|_| WireError::Count)?;
        (self.body, self.left) = (rest, count);
        self.room()?;
        self.state = if count == 0 { State::End } else { State::Length };
        Ok(Some(RowStep::Count(count)))
    }

    fn length(&mut self, input: &[u8], at: &mut usize) -> Result<Option<RowStep>, WireError> {
        let Some(number) = self.number::<4>(input, at) else { return Ok(None) };
        let len = match i32::from_be_bytes(number) {
            -1 => None,
            len => Some(u32::try_from(len).map_err(|_| WireError::Length)?),
        };
        let size = usize::try_from(len.unwrap_or(0)).map_err(|_| WireError::Truncated)?;
        self.left = self.left.checked_sub(1).ok_or(WireError::Trailing)?;
        let after = self.body.checked_sub(4).and_then(|body| body.checked_sub(size));
        self.body = after.ok_or(WireError::Truncated)?;
        self.room()?;
        let index = self.index;
        self.state = State::Bytes(size);
        if size == 0 {
            self.leave();
        }
        Ok(Some(RowStep::Cell { index, len }))
    }

    fn bytes(&mut self, left: usize, input: &[u8], at: &mut usize) -> Option<RowStep> {
        let there = input.len().saturating_sub(*at).min(left);
        if there == 0 {
            return None;
        }
        let (index, last) = (self.index, there == left);
        let range = *at..*at + there;
        *at = range.end;
        self.state = State::Bytes(left - there);
        if last {
            self.leave();
        }
        Some(RowStep::Bytes { index, range, last })
    }

    /// The current cell is over.
    fn leave(&mut self) {
        // As many as the count at most, which has 15 bits.
        self.index = self.index.saturating_add(1);
        self.state = if self.left == 0 { State::End } else { State::Length };
    }

    /// Whether what is left of the body can hold the cells that are left.
    fn room(&self) -> Result<(), WireError> {
        match (self.left, self.body) {
            (0, 0) => Ok(()),
            (0, _) => Err(WireError::Trailing),
            (left, body) if usize::from(left) * 4 > body => Err(WireError::Truncated),
            _ => Ok(()),
        }
    }

    /// The next `N` bytes as a number, which a cut may have split.
    fn number<const N: usize>(&mut self, input: &[u8], at: &mut usize) -> Option<[u8; N]> {
        let rest = input.get(*at..).unwrap_or_default();
        if self.have == 0
            && let Some((number, _)) = rest.split_first_chunk::<N>()
        {
            *at += N;
            return Some(*number);
        }
        for byte in rest.iter().take(N - self.have) {
            if let Some(place) = self.number.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            *at += 1;
        }
        let (number, _) = self.number.split_first_chunk::<N>()?;
        (self.have == N).then(|| {
            self.have = 0;
            *number
        })
    }
}
