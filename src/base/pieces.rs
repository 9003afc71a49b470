//! A message as pieces: ranges of an input buffer, ranges of an own arena, static text.
//!
//! The pure code names bytes of the buffer that it was given by their range, so that an owned
//! buffer goes on to the socket without a copy; only text that it made itself is in the arena.

use std::ops::Range;

/// Pieces that a list has room for from its first on.
const LIST_ROOM: usize = 32;

/// One run of bytes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A range of the input that the current call was given.
    Source(Range<u32>),
    /// A range of the arena of the [`Pieces`] that holds it.
    Arena(Range<u32>),
    /// Text of the program.
    Static(&'static [u8]),
}

/// An ordered list of pieces with the arena that some of them name.
///
/// Reused from call to call: [`Pieces::clear`] keeps the room.
#[derive(Clone, Debug, Default)]
pub struct Pieces {
    arena: Vec<u8>,
    list: Vec<Piece>,
    len: usize,
}

impl Pieces {
    /// An empty list; allocates with the first piece.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all pieces and keeps the room.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.list.clear();
        self.len = 0;
    }

    /// Total bytes of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pieces in order.
    #[must_use]
    pub fn list(&self) -> &[Piece] {
        &self.list
    }

    /// The arena that [`Piece::Arena`] ranges name.
    #[must_use]
    pub fn arena(&self) -> &[u8] {
        &self.arena
    }

    /// Room that the arena holds on to, in bytes.
    #[must_use]
    pub fn arena_capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Gives room above `max` bytes back; call it on an empty list.
    pub fn shrink_arena(&mut self, max: usize) {
        debug_assert!(self.is_empty());
        if self.arena.capacity() > max {
            self.arena = Vec::with_capacity(max);
        }
    }

    /// The list takes its usual room at once: how far it grows is a matter of timing.
    fn push(&mut self, piece: Piece) {
        if self.list.capacity() == 0 {
            self.list.reserve(LIST_ROOM);
        }
        self.list.push(piece);
    }

    /// Appends a range of the input; joins it with the piece before where they touch.
    pub fn source(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        self.len += range.len();
        let range = narrow(range);
        if let Some(Piece::Source(last)) = self.list.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.push(Piece::Source(range));
    }

    /// Appends a copy of `bytes` by way of the arena.
    pub fn text(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.mark(start);
    }

    /// Appends program text.
    pub fn literal(&mut self, bytes: &'static [u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len += bytes.len();
        self.push(Piece::Static(bytes));
    }

    /// Lets `write` append to the arena, and appends what it wrote as a piece.
    pub fn write_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(&mut self.arena);
        debug_assert!(self.arena.len() >= start, "the arena only grows");
        self.mark(start);
    }

    fn mark(&mut self, start: usize) {
        let range = start..self.arena.len();
        if range.is_empty() {
            return;
        }
        self.len += range.len();
        let range = narrow(range);
        if let Some(Piece::Arena(last)) = self.list.last_mut()
            && last.end == range.start
        {
            last.end = range.end;
            return;
        }
        self.push(Piece::Arena(range));
    }

    /// The slices that the pieces stand for, `source` being the input that ranges name.
    ///
    /// A range outside `source` yields an empty slice; that is a bug of the maker and asserted.
    pub fn slices<'a>(&'a self, source: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.list.iter().map(move |piece| resolve(piece, &self.arena, source))
    }

    /// Appends all pieces of `other`, whose source ranges name the input from `offset` on.
    pub fn append_at(&mut self, other: &Self, offset: usize) {
        for piece in &other.list {
            match piece {
                Piece::Source(range) => {
                    self.source(range.start as usize + offset..range.end as usize + offset);
                }
                Piece::Static(text) => self.literal(text),
                Piece::Arena(range) => {
                    let range = range.start as usize..range.end as usize;
                    self.text(other.arena.get(range).unwrap_or_default());
                }
            }
        }
    }

    /// Moves all pieces of `other` behind the own ones, free of the input `source` that they name.
    pub fn take_detached(&mut self, other: &mut Self, source: &[u8]) {
        let named = other.list.iter().any(|piece| matches!(piece, Piece::Source(_)));
        if self.is_empty() && !named {
            self.clear();
            std::mem::swap(self, other);
            return;
        }
        for slice in other.slices(source) {
            self.text(slice);
        }
        other.clear();
    }

    /// Copies what names `source` into the arena, so that the pieces stand without it.
    pub fn detach(&mut self, source: &[u8]) {
        let Self { arena, list, .. } = self;
        for piece in list {
            let Piece::Source(range) = piece else { continue };
            let bytes = source.get(range.start as usize..range.end as usize);
            debug_assert!(bytes.is_some(), "a piece names bytes that are not there");
            let start = arena.len();
            arena.extend_from_slice(bytes.unwrap_or_default());
            *piece = Piece::Arena(narrow(start..arena.len()));
        }
    }

    /// Copies everything out; for tests and cold paths.
    #[must_use]
    pub fn to_vec(&self, source: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len);
        self.slices(source).for_each(|slice| bytes.extend_from_slice(slice));
        bytes
    }
}

fn resolve<'a>(piece: &'a Piece, arena: &'a [u8], source: &'a [u8]) -> &'a [u8] {
    let found = match piece {
        Piece::Source(range) => source.get(range.start as usize..range.end as usize),
        Piece::Arena(range) => arena.get(range.start as usize..range.end as usize),
        Piece::Static(text) => Some(*text),
    };
    debug_assert!(found.is_some(), "a piece names bytes that are not there");
    found.unwrap_or_default()
}

/// Buffers are far below 4 GiB (`Limits`); a larger one would be a bug and is cut to nothing.
fn narrow(range: Range<usize>) -> Range<u32> {
    match (u32::try_from(range.start), u32::try_from(range.end)) {
        (Ok(start), Ok(end)) => start..end,
        _ => {
            debug_assert!(false, "a buffer beyond 4 GiB");
            0..0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touching_pieces_join_and_all_bytes_come_out_in_order() {
        let source = b"hello cruel world";
        let mut pieces = Pieces::new();
        pieces.source(0..3);
        pieces.source(3..6);
        pieces.literal(b"kind");
        pieces.text(b" new");
        pieces.write_with(|arena| arena.extend_from_slice(b"er"));
        pieces.source(11..17);
        assert_eq!(pieces.to_vec(source), b"hello kind newer world");
        assert_eq!(pieces.len(), 22);
        assert_eq!(pieces.list().len(), 4);
        let mut other = Pieces::new();
        other.text(b">");
        other.append_at(&pieces, 0);
        assert_eq!(other.to_vec(source), b">hello kind newer world");
        let (mut moved, mut first) = (Pieces::new(), pieces.clone());
        moved.take_detached(&mut first, source);
        assert!(first.is_empty());
        assert_eq!(moved.to_vec(b""), b"hello kind newer world");
        first.text(b"!");
        moved.take_detached(&mut first, b"");
        first.take_detached(&mut moved, b"");
        assert_eq!(first.to_vec(b""), b"hello kind newer world!");
        assert!(moved.is_empty());
        pieces.detach(source);
        assert_eq!(pieces.to_vec(b""), b"hello kind newer world");
        assert_eq!(pieces.len(), 22);
        pieces.clear();
        assert!(pieces.is_empty() && pieces.to_vec(source).is_empty());
    }
}
