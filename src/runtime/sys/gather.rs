//! A message on its way to a socket, as the kernel takes it: as one run of memory, or several.
//!
//! The slices name the arena of `pieces`, the memory of `source` and statics. All three are on the
//! heap or static, so they do not move with the value, and every method that could change one of
//! them empties `slices` first. While a write is in flight the value is the driver's.

use crate::base::{Piece, Pieces};
use crate::runtime::buffer::Buffer;
use std::ops::Range;

/// A message on its way to a socket: pieces with the buffer that they name, and how far it got.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Gather {
    pieces: Pieces,
    source: Option<Buffer>,
    base: usize,
    done: usize,
    /// Where in `source` the whole message stands, if it was put together there.
    joined: Option<Range<usize>>,
    slices: Vec<libc::iovec>,
    header: Header,
}

/// What names several slices to the kernel.
struct Header(libc::msghdr);

impl Default for Header {
    fn default() -> Self {
        // SAFETY: all zeroes is a message of nothing, to nobody.
        Self(unsafe { std::mem::zeroed() })
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Header")
    }
}

impl Gather {
    /// Whether nothing is left to write.
    pub(in crate::runtime) fn is_empty(&self) -> bool {
        self.done >= self.pieces.len()
    }

    /// Whether pieces name a buffer.
    pub(in crate::runtime) fn names_source(&self) -> bool {
        self.pieces.list().iter().any(|piece| matches!(piece, Piece::Source(_)))
    }

    /// The pieces, to be filled; only while nothing of them is aimed at.
    pub(in crate::runtime) fn pieces_mut(&mut self) -> &mut Pieces {
        self.slices.clear();
        self.joined = None;
        &mut self.pieces
    }

    /// Lends the buffer that the pieces name, `base` being where its input started.
    pub(in crate::runtime) fn lend(&mut self, source: Buffer, base: usize) {
        debug_assert!(self.source.is_none());
        self.source = Some(source);
        self.base = base;
    }

    /// Every slice from the start; for a layer that seals them.
    pub(in crate::runtime) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let source = self.source.as_ref().map_or(&[][..], |buffer| buffer.from(self.base));
        self.pieces.slices(source)
    }

    /// Takes the lent buffer back. What names it must be written or given up.
    pub(in crate::runtime) fn reclaim(&mut self) -> Option<Buffer> {
        self.slices.clear();
        self.joined = None;
        self.source.take()
    }

    /// Forgets all pieces.
    pub(in crate::runtime) fn clear(&mut self) {
        self.slices.clear();
        self.joined = None;
        self.pieces.clear();
        self.done = 0;
    }

    /// Notes that `count` bytes went out.
    pub(in crate::runtime) fn advance(&mut self, count: usize) {
        self.slices.clear();
        self.done = self.done.saturating_add(count);
    }

    /// Puts the head of a message before its body where that came from, if the message is no more
    /// and there is room: the kernel takes one run of memory for less than two.
    ///
    /// What was there was consumed, and nothing but the pieces names the buffer any more. They stay
    /// true of it.
    fn put_together(&mut self) -> Option<Range<usize>> {
        let [Piece::Arena(head), Piece::Source(body)] = self.pieces.list() else { return None };
        let head = self.pieces.arena().get(head.start as usize..head.end as usize)?;
        let at = self.base.checked_add(body.start as usize)?;
        let len = head.len().checked_add(body.len())?;
        let start = self.source.as_mut()?.write_before(at, head)?;
        Some(start..start.checked_add(len)?)
    }

    /// Lays out the slices of what is left.
    pub(super) fn aim(&mut self) {
        self.slices.clear();
        if self.done == 0 {
            self.joined = self.put_together();
        }
        let joined = self.joined.as_ref().and_then(|range| {
            let rest = range.start.checked_add(self.done)?..range.end;
            self.source.as_ref()?.from(0).get(rest)
        });
        if let Some(rest) = joined {
            self.slices.extend(vector(rest));
            return;
        }
        let source = self.source.as_ref().map_or(&[][..], |buffer| buffer.from(self.base));
        let mut skip = self.done;
        for slice in self.pieces.slices(source) {
            let Some(rest) = slice.get(skip..) else {
                skip = skip.saturating_sub(slice.len());
                continue;
            };
            skip = 0;
            if self.slices.len() >= SLICES_MAX {
                break;
            }
            self.slices.extend(vector(rest));
        }
    }

    /// The one slice that [`Self::aim`] laid out, where a plain send does.
    pub(super) fn single(&self) -> Option<(*const u8, usize)> {
        match self.slices.as_slice() {
            [one] => Some((one.iov_base.cast_const().cast(), one.iov_len)),
            _ => None,
        }
    }

    /// All slices that [`Self::aim`] laid out; holds as long as the value neither moves nor changes.
    pub(super) fn message(&mut self) -> *const libc::msghdr {
        self.header.0.msg_iov = self.slices.as_mut_ptr();
        self.header.0.msg_iovlen = self.slices.len();
        &raw const self.header.0
    }

    /// Bytes that are left to write.
    pub(in crate::runtime) fn left(&self) -> usize {
        self.pieces.len().saturating_sub(self.done)
    }
}

/// `None` for no bytes.
fn vector(bytes: &[u8]) -> Option<libc::iovec> {
    let iov_base = bytes.as_ptr().cast_mut().cast();
    (!bytes.is_empty()).then_some(libc::iovec { iov_base, iov_len: bytes.len() })
}

/// Slices of one write; more go into the next.
const SLICES_MAX: usize = 256;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::runtime::buffer::Buffers;

    /// The bytes that the kernel would take.
    fn aimed_at(gather: &Gather) -> Vec<u8> {
        let mut bytes = Vec::new();
        for slice in &gather.slices {
            // SAFETY: the gather is alive and unchanged, so its slices are what it owns.
            bytes.extend_from_slice(unsafe {
                std::slice::from_raw_parts(slice.iov_base.cast::<u8>(), slice.iov_len)
            });
        }
        bytes
    }

    #[test]
    fn a_gather_names_what_is_left_after_any_short_write() {
        let mut buffer = Buffers::default().take_small();
        buffer.room()[..10].copy_from_slice(b"0123456789");
        buffer.extend(10);
        buffer.consume(2);
        let base = buffer.start();
        let mut whole = Pieces::new();
        whole.text(b"head ");
        whole.source(0..3);
        whole.literal(b" tail");
        whole.source(5..8);
        let expected = whole.to_vec(buffer.from(base));
        assert_eq!(expected, b"head 234 tail789");
        let mut gather = Gather::default();
        *gather.pieces_mut() = whole;
        gather.lend(buffer, base);
        for done in 0..=expected.len() {
            gather.done = done;
            gather.aim();
            assert_eq!(aimed_at(&gather), expected[done..]);
        }
        assert!(gather.is_empty());
        gather.clear();
        assert!(gather.reclaim().is_some_and(|buffer| buffer.filled() == b"23456789"));
    }

    #[test]
    fn a_head_goes_before_its_body_where_there_is_room_for_it() {
        let body = b"0123456789";
        for (old, new) in [(0, 40), (60, 40), (60, 316), (60, 317), (0, 300)] {
            let mut buffer = Buffers::default().take_small();
            buffer.room()[old..old + body.len()].copy_from_slice(body);
            buffer.extend(old + body.len());
            let base = buffer.start();
            buffer.consume(old + 8);
            let mut gather = Gather::default();
            gather.pieces_mut().text(&vec![b'h'; new]);
            gather.pieces_mut().source(old..old + 8);
            gather.lend(buffer, base);
            let whole = [vec![b'h'; new], body[..8].to_vec()].concat();
            for done in 0..whole.len() {
                gather.done = done;
                gather.aim();
                assert_eq!(aimed_at(&gather), whole[done..], "{old} {new} {done}");
                assert!(done > 0 || gather.single().is_some() == (new <= old + 256));
            }
            // What is left in the buffer, and what a layer that seals would take, is as it was.
            assert_eq!(gather.slices().collect::<Vec<_>>().concat(), whole);
            assert_eq!(gather.reclaim().expect("lent").filled(), b"89");
        }
    }
}
