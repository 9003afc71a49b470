//! Standing reads: one request of the kernel that yields bytes whenever some come
//! (`IORING_RECV_MULTISHOT`, Linux 6.0), instead of one request for each read.
//!
//! ```text
//!            read, not armed              bytes, nobody reads: kept
//!   (idle) -------------------> (armed) <-----------------------.
//!      ^                          | bytes, a read waits: its own |
//!      |   last completion        +------------------------------'
//!      +--------- (ending) <------' too much kept, or a read of another kind, or a close
//! ```
//!
//! What was kept is read first, so bytes keep their order. A standing read has no back-pressure of
//! its own: it is cancelled once [`KEPT_MAX`] buffers are kept, and when nobody wants bytes. What the
//! kernel yields before it hears of that is kept too, and may be all buffers that it has in hand.
//! Once all descriptors together keep [`CROWDED`], nothing stands any more: each read is a request
//! of its own until half of it is gone.

use super::flight::Key;
use crate::runtime::buffer::Buffer;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

/// What came while nobody read.
#[derive(Debug)]
pub(super) enum Came {
    Bytes(Buffer),
    End,
    Broken(io::Error),
}

/// The standing read of one descriptor.
#[derive(Debug, Default)]
pub(super) struct Stream {
    generation: u32,
    /// The kernel has a request.
    armed: bool,
    /// It was told to end it.
    ending: bool,
    kept: VecDeque<Came>,
    /// The read that waits.
    waiting: Option<Key>,
}

/// What the ring is to do about a standing read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// Ask the kernel for one.
    Arm,
    /// Tell the kernel to end it.
    Cancel,
    /// Start the read as a request of its own; nothing stands.
    Alone(Key),
}

/// How a read is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By a standing read.
    Standing,
    /// By a request of its own: too much is kept for another standing read.
    Single,
    /// By a request of its own, into buffers of another size.
    Large,
    /// For the presence of bytes only.
    Readable,
}

impl Stream {
    /// What was kept first.
    pub(super) fn kept(&self) -> Option<&Came> {
        self.kept.front()
    }

    /// A read that finds nothing kept.
    pub(super) fn wait(&mut self, key: Key, kind: Kind) -> Next {
        debug_assert!(self.waiting.is_none(), "two reads of one descriptor");
        debug_assert!(self.kept.is_empty());
        self.waiting = Some(key);
        match (self.armed, kind) {
            // Bytes that nobody wants stay with the kernel, which holds the peer back.
            (true, Kind::Single | Kind::Large | Kind::Readable) => self.cancel(),
            (true, Kind::Standing) => Next::Nothing,
            (false, kind) => self.restart(kind),
        }
    }

    /// Goes on without a request in the kernel.
    fn restart(&mut self, kind: Kind) -> Next {
        match (kind, self.waiting) {
            (_, None) => Next::Nothing,
            (Kind::Standing, Some(_)) => {
                // Once for a descriptor, so that no exchange makes room.
                self.kept.reserve(KEPT_MAX);
                self.armed = true;
                Next::Arm
            }
            (Kind::Single | Kind::Large | Kind::Readable, Some(key)) => {
                self.waiting = None;
                Next::Alone(key)
            }
        }
    }

    fn cancel(&mut self) -> Next {
        if std::mem::replace(&mut self.ending, true) { Next::Nothing } else { Next::Cancel }
    }

    /// The read that waits, and takes what comes.
    pub(super) fn waiting(&self) -> Option<Key> {
        self.waiting
    }

    pub(super) fn take_waiting(&mut self) -> Option<Key> {
        self.waiting.take()
    }

    /// Puts bytes behind those that were kept last, where there is room: what comes in small pieces
    /// takes no buffer for each.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        match self.kept.back_mut() {
            Some(Came::Bytes(last)) => last.add(bytes),
            _ => false,
        }
    }

    /// Keeps what came while nobody read.
    fn keep(&mut self, came: Came) -> Next {
        self.kept.push_back(came);
        if self.armed && self.kept.len() >= KEPT_MAX { self.cancel() } else { Next::Nothing }
    }

    /// The kernel's request is over; `kind` is that of the read that waits.
    pub(super) fn ended(&mut self, kind: Kind) -> Next {
        self.armed = false;
        self.ending = false;
        self.restart(kind)
    }

    /// Gives up a read. Returns whether it was the one that waits.
    pub(super) fn abandon(&mut self, key: Key) -> bool {
        self.waiting.take_if(|waiting| *waiting == key).is_some()
    }

    /// The descriptor is to be closed. Returns whether the kernel's request must be cancelled
    /// before, since it would keep the descriptor open.
    pub(super) fn close(&mut self) -> bool {
        debug_assert!(self.waiting.is_none(), "a read outlives its descriptor");
        self.generation = (self.generation + 1) & GENERATIONS;
        self.waiting = None;
        std::mem::take(&mut self.ending);
        std::mem::take(&mut self.armed)
    }
}

/// All standing reads of a ring, by descriptor.
#[derive(Debug, Default)]
pub(super) struct Streams {
    places: Vec<Stream>,
    /// What all of them keep.
    kept: usize,
    crowded: bool,
}

impl Streams {
    /// The place of a descriptor. `None` for no descriptor.
    pub(super) fn at(&mut self, fd: RawFd) -> Option<&mut Stream> {
        let index = usize::try_from(fd).ok()?;
        if index >= self.places.len() {
            self.places.resize_with(index.saturating_add(1), Stream::default);
        }
        self.places.get_mut(index)
    }

    /// Keeps what came for a descriptor while nobody read.
    pub(super) fn keep(&mut self, fd: RawFd, came: Came) -> Next {
        let Some(stream) = self.at(fd) else { return Next::Nothing };
        let next = stream.keep(came);
        self.kept = self.kept.saturating_add(1);
        next
    }

    pub(super) fn take_kept(&mut self, fd: RawFd) -> Option<Came> {
        let came = self.at(fd)?.kept.pop_front()?;
        self.kept = self.kept.saturating_sub(1);
        self.crowded &= self.kept > CROWDED / 2;
        Some(came)
    }

    /// How a read of a kind may be done now.
    pub(super) fn allowed(&self, kind: Kind) -> Kind {
        match kind {
            Kind::Standing if self.crowded => Kind::Single,
            kind => kind,
        }
    }

    /// The descriptors whose standing reads must be cancelled since too much is kept.
    pub(super) fn crowd_out(&mut self) -> Vec<RawFd> {
        if self.crowded || self.kept < CROWDED {
            return Vec::new();
        }
        self.crowded = true;
        let out = (0..).zip(&mut self.places).filter_map(|(fd, stream)| {
            (stream.armed && stream.cancel() == Next::Cancel).then_some(fd)
        });
        out.collect()
    }

    /// The number that its request has in the kernel; no [`Key`] has the bit that it has.
    pub(super) fn name(&mut self, fd: RawFd) -> u64 {
        let generation = self.at(fd).map_or(0, |stream| stream.generation);
        STANDING | u64::from(generation) << 32 | u64::from(fd.unsigned_abs())
    }

    /// Whose request a completion is of. `Some(None)`: one of a descriptor that was closed.
    pub(super) fn named(&mut self, bits: u64) -> Option<Option<RawFd>> {
        if bits & STANDING == 0 {
            return None;
        }
        let fd = RawFd::try_from(bits & u64::from(u32::MAX)).ok();
        let generation = bits >> 32 & u64::from(GENERATIONS);
        let place = fd.and_then(|fd| usize::try_from(fd).ok()).and_then(|at| self.places.get(at));
        let current = place.is_some_and(|place| u64::from(place.generation) == generation);
        Some(fd.filter(|_| current))
    }
}

/// Buffers that are kept before a standing read is cancelled.
pub(super) const KEPT_MAX: usize = 2;
/// Buffers that all descriptors keep before nothing stands any more: 4 MiB.
pub(super) const CROWDED: usize = 256;
/// The bit of a request's number that makes it one of a standing read.
const STANDING: u64 = 1 << 63;
/// Generations that there are room for.
pub(super) const GENERATIONS: u32 = u32::MAX >> 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sys::flight::{Flights, Work};

    fn keys() -> [Key; 3] {
        let mut flights = Flights::default();
        [(); 3].map(|()| flights.add(3, Work::Readable))
    }

    #[test]
    fn one_request_serves_many_reads() {
        let [one, two, _] = keys();
        let mut stream = Stream::default();
        assert_eq!(stream.wait(one, Kind::Standing), Next::Arm);
        assert_eq!(stream.take_waiting(), Some(one));
        assert_eq!(stream.wait(two, Kind::Standing), Next::Nothing);
        assert_eq!(stream.take_waiting(), Some(two));
        assert_eq!(stream.ended(Kind::Standing), Next::Nothing);
        assert_eq!(stream.wait(one, Kind::Standing), Next::Arm);
        // One that ends while a read waits is asked for again.
        assert_eq!(stream.ended(Kind::Standing), Next::Arm);
    }

    #[test]
    fn what_nobody_reads_is_bounded_by_a_cancel() {
        let [one, two, _] = keys();
        let mut stream = Stream::default();
        stream.wait(one, Kind::Standing);
        stream.take_waiting();
        assert_eq!(stream.keep(Came::End), Next::Nothing);
        assert_eq!(stream.keep(Came::End), Next::Cancel);
        assert_eq!(stream.keep(Came::End), Next::Nothing);
        stream.kept.clear();
        // The cancel is on its way: the read that waits now gets what comes before it, or a new one.
        assert_eq!(stream.wait(two, Kind::Standing), Next::Nothing);
        assert_eq!(stream.ended(Kind::Standing), Next::Arm);
    }

    #[test]
    fn a_crowd_ends_all_standing_reads_until_half_of_it_is_gone() {
        let [one, two, three] = keys();
        let mut streams = Streams::default();
        for (fd, key) in [(3, one), (5, two)] {
            let next = streams.at(fd).map(|stream| stream.wait(key, Kind::Standing));
            assert_eq!(next, Some(Next::Arm));
        }
        streams.at(3).map(Stream::take_waiting);
        assert_eq!(streams.keep(3, Came::End), Next::Nothing);
        assert_eq!(streams.keep(3, Came::End), Next::Cancel);
        for _ in 2..CROWDED {
            assert!(streams.crowd_out().is_empty());
            assert_eq!(streams.allowed(Kind::Standing), Kind::Standing);
            assert_eq!(streams.keep(3, Came::End), Next::Nothing);
        }
        // That of the first was told already; the second has a read that waits.
        assert_eq!(streams.crowd_out(), [5]);
        assert!(streams.crowd_out().is_empty());
        let kind = streams.allowed(Kind::Standing);
        assert_eq!(streams.at(5).map(|stream| stream.ended(kind)), Some(Next::Alone(two)));
        assert_eq!(streams.at(7).map(|stream| stream.wait(three, kind)), Some(Next::Alone(three)));
        for left in (CROWDED / 2..CROWDED).rev() {
            assert_eq!(streams.allowed(Kind::Standing), Kind::Single, "{left}");
            assert!(streams.take_kept(3).is_some());
        }
        assert_eq!(streams.allowed(Kind::Standing), Kind::Standing);
        assert_eq!(streams.allowed(Kind::Large), Kind::Large);
    }

    #[test]
    fn small_pieces_share_a_buffer_and_keep_their_order() {
        let mut pool = crate::runtime::buffer::Buffers::default();
        let mut stream = Stream::default();
        assert!(!stream.add(b"nothing to add to"));
        let mut first = pool.take(crate::runtime::buffer::Class::Small);
        assert!(first.add(b"one"));
        stream.keep(Came::Bytes(first));
        assert!(stream.add(b"two") && !stream.add(&[0; 20_000]));
        stream.keep(Came::End);
        assert!(!stream.add(b"behind the end"));
        let Some(Came::Bytes(kept)) = stream.kept.pop_front() else { panic!("bytes first") };
        assert_eq!(kept.filled(), b"onetwo");
        assert!(matches!(stream.kept.pop_front(), Some(Came::End)));
    }

    #[test]
    fn a_read_of_another_kind_waits_for_the_end_of_the_standing_one() {
        let [one, two, three] = keys();
        let mut stream = Stream::default();
        assert_eq!(stream.wait(one, Kind::Large), Next::Alone(one));
        assert_eq!(stream.wait(two, Kind::Standing), Next::Arm);
        stream.take_waiting();
        assert_eq!(stream.wait(three, Kind::Large), Next::Cancel);
        assert_eq!(stream.ended(Kind::Large), Next::Alone(three));
        assert_eq!(stream.wait(one, Kind::Standing), Next::Arm);
        stream.take_waiting();
        assert_eq!(stream.wait(two, Kind::Readable), Next::Cancel);
        assert_eq!(stream.ended(Kind::Readable), Next::Alone(two));
        assert_eq!(stream.wait(one, Kind::Readable), Next::Alone(one));
    }

    #[test]
    fn a_completion_for_a_closed_descriptor_hits_no_other() {
        let [one, ..] = keys();
        let mut streams = Streams::default();
        assert_eq!(streams.at(7).map(|stream| stream.wait(one, Kind::Standing)), Some(Next::Arm));
        let name = streams.name(7);
        assert_eq!(streams.named(name), Some(Some(7)));
        assert_eq!(streams.named(one.to_bits()), None);
        let stream = streams.at(7).expect("a place");
        assert!(stream.abandon(one) && stream.close() && !stream.close());
        assert_eq!(streams.named(name), Some(None));
        assert!(streams.at(-1).is_none());
    }
}
