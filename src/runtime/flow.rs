//! One direction of a connection: the buffer that is read into, and the message that goes out.

use super::buffer::{Buffer, Class};
use super::shared::Shared;
use super::socket::{Half, Socket, WriteDone, Writing};
use super::sys::Gather;
use crate::base::{Now, Piece, Pieces};
use crate::session::io::Ending;
use std::io;

/// How far the end of a direction went on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum HalfClose {
    #[default]
    Open,
    /// After what is queued.
    Wanted,
    Done,
}

/// Bytes of one side on their way through the session to the other side.
///
/// What was read is in `buffer`, and what is on its way out is lent to `gather`; a read may go on
/// meanwhile, unless what is lent has a rest that comes before what would be read.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) buffer: Option<Buffer>,
    /// A buffer is away with the gather.
    pub(super) lent: bool,
    /// It has bytes that are not consumed.
    lent_rest: bool,
    /// Something changed since the session last left all of it unconsumed.
    pub(super) fresh: bool,
    /// The socket is known to have bytes.
    pub(super) ready: bool,
    /// Reads in a row that filled the buffer.
    streak: u8,
    /// What is left when the buffer comes back belongs to an exchange that is over.
    drop_rest: bool,
    pub(super) end: Option<Ending>,
    pub(super) told: bool,
    /// Boxed once for the connection, so that a write in flight is small.
    gather: Option<Box<Gather>>,
    queued: Pieces,
    spare: Pieces,
    sealed: bool,
    /// The write in flight was looked for in vain: its end is news.
    pub(super) overdue: bool,
    /// When the write in flight started.
    pub(super) since_ns: u64,
    pub(super) half_close: HalfClose,
    /// The way out is broken; what is meant for it is dropped.
    pub(super) dead: bool,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self { gather: Some(Box::default()), fresh: true, ..Self::default() }
    }

    /// Unconsumed bytes that stand ready to be shown.
    pub(super) fn rest(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], Buffer::filled)
    }

    /// Whether nothing is on its way out.
    pub(super) fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.gather.as_ref().is_some_and(|gather| gather.is_empty())
    }

    /// Whether so much waits behind what is on its way out that no more should be made.
    pub(super) fn is_backed_up(&self) -> bool {
        self.queued.len() > QUEUED_MAX
    }

    /// Takes what the session made; `swap` gets it, `base` is where its input started.
    ///
    /// Returns whether the pieces could be kept; they name a buffer that is not there otherwise.
    pub(super) fn take(
        &mut self,
        base: Option<usize>,
        shared: &Shared,
        swap: impl FnOnce(&mut Pieces),
    ) -> bool {
        let idle = self.is_idle();
        let to = match self.gather.as_mut() {
            Some(gather) if idle => {
                gather.clear();
                gather.pieces_mut()
            }
            _ => &mut self.spare,
        };
        swap(to);
        if self.dead {
            self.forget(shared);
            return true;
        }
        let named = to.list().iter().any(|piece| matches!(piece, Piece::Source(_)));
        if idle {
            if !named {
                return true;
            }
            let (Some(base), Some(buffer)) = (base, self.buffer.take()) else { return false };
            self.lent = true;
            self.lent_rest = !buffer.is_empty();
            if let Some(gather) = self.gather.as_mut() {
                gather.lend(buffer, base);
            }
            return true;
        }
        self.queued.append_at(&self.spare, 0);
        self.spare.clear();
        !named
    }

    /// Drops what is on its way out and not in flight.
    pub(super) fn forget(&mut self, shared: &Shared) {
        self.queued.clear();
        self.spare.clear();
        if let Some(mut gather) = self.gather.take() {
            gather.clear();
            self.take_back(&mut gather, shared);
            self.gather = Some(gather);
            self.sealed = false;
        }
    }

    /// Drops what the session left of an exchange that is over.
    pub(super) fn drop_rest(&mut self) {
        self.drop_rest = self.lent;
        if let Some(buffer) = self.buffer.as_mut() {
            let count = buffer.filled().len();
            buffer.consume(count);
        }
    }

    /// Gives the buffer to the worker when nothing is in it.
    pub(super) fn return_buffer(&mut self, shared: &Shared) {
        if let Some(buffer) = self.buffer.take_if(|buffer| buffer.is_empty()) {
            shared.put(buffer);
        }
    }

    /// A new connection feeds this direction.
    pub(super) fn restart_in(&mut self) {
        self.end = None;
        self.told = false;
        self.ready = false;
        self.streak = 0;
        self.fresh = true;
    }

    /// A new connection takes what this direction sends.
    pub(super) fn restart_out(&mut self) {
        self.dead = false;
        self.half_close = HalfClose::Open;
    }

    fn take_back(&mut self, gather: &mut Gather, shared: &Shared) {
        if let Some(source) = gather.reclaim() {
            self.give_back(source, shared);
        }
    }

    fn give_back(&mut self, source: Buffer, shared: &Shared) {
        debug_assert!(self.lent);
        self.lent = false;
        if self.buffer.is_some() {
            // Read meanwhile, so nothing was left of this one; see `is_hungry`.
            debug_assert!(!self.lent_rest && source.is_empty());
            shared.put(source);
            self.drop_rest = false;
            return;
        }
        self.buffer = Some(source);
        self.lent_rest = false;
        if self.drop_rest {
            self.drop_rest();
        }
    }

    /// The next write to `socket`, when there is something to write and nothing in flight.
    pub(super) fn start_write(
        &mut self,
        socket: &mut Socket,
        shared: &Shared,
        now: Now,
    ) -> Option<Writing> {
        if self.dead {
            return None;
        }
        socket.write.as_ref()?;
        let gather = self.gather.as_mut()?;
        if gather.is_empty() && !self.queued.is_empty() {
            gather.clear();
            std::mem::swap(gather.pieces_mut(), &mut self.queued);
        }
        if let Some(tls) = socket.tls.as_mut().filter(|_| !self.sealed)
            && (!gather.is_empty() || tls.wants_write())
        {
            self.sealed = true;
            match tls.seal(gather) {
                Ok(Some(source)) => self.give_back(source, shared),
                Ok(None) => {}
                Err(_) => {
                    self.dead = true;
                    self.forget(shared);
                    return None;
                }
            }
        }
        if self.gather.as_ref().is_none_or(|gather| gather.is_empty()) {
            self.sealed = false;
            return None;
        }
        let half = socket.write.take()?;
        let gather = self.gather.take()?;
        self.since_ns = now.mono_ns;
        self.overdue = false;
        Some(Writing::start(half, gather))
    }

    /// Whether the end of the write in flight would let something go on.
    pub(super) fn awaits_write(&self) -> bool {
        self.overdue
            || self.lent_rest
            || self.dead
            || self.end.is_some()
            || self.half_close == HalfClose::Wanted
            || !self.queued.is_empty()
            || !self.rest().is_empty()
    }

    /// Notes what came of a write; `stale`: what it was for is over.
    pub(super) fn wrote(&mut self, done: WriteDone, stale: bool, shared: &Shared) -> Option<Half> {
        let WriteDone { half, mut gather, result } = done;
        match result {
            Ok(count) if count > 0 && !stale => gather.advance(count),
            _ if stale => gather.clear(),
            _ => {
                self.dead = true;
                gather.clear();
            }
        }
        if gather.is_empty() {
            gather.clear();
            gather.pieces_mut().shrink_arena(ARENA_KEEP);
            self.take_back(&mut gather, shared);
            self.sealed = false;
        }
        self.gather = Some(gather);
        if self.dead {
            self.queued.clear();
        }
        (!stale).then_some(half)
    }

    /// Whether more bytes would help a session that wants them, and can be kept.
    pub(super) fn is_hungry(&self) -> bool {
        !self.lent_rest && (self.rest().is_empty() || !self.fresh)
    }

    /// Whether the buffer that is away has bytes that are not consumed.
    pub(super) fn lent_rest(&self) -> bool {
        self.lent_rest
    }

    /// Which buffers the next read is to fill.
    pub(super) fn class(&self) -> Class {
        if self.streak >= STREAK { Class::Large } else { Class::Small }
    }

    /// A buffer with room for opened bytes. `None`: it is lent, or can grow no more.
    fn room(&mut self, shared: &Shared) -> Option<Buffer> {
        if self.lent {
            return None;
        }
        let Some(mut buffer) = self.buffer.take() else { return Some(shared.take(self.class())) };
        if buffer.is_empty() && !buffer.is_of(self.class()) {
            shared.put(buffer);
            return Some(shared.take(self.class()));
        }
        buffer.compact();
        if !buffer.room().is_empty() {
            return Some(buffer);
        }
        match shared.grow(buffer) {
            Ok(buffer) => Some(buffer),
            Err(buffer) => {
                self.buffer = Some(buffer);
                None
            }
        }
    }

    /// Notes what came of a read that was not a wait. Returns whether it could be kept.
    pub(super) fn filled(
        &mut self,
        socket: &mut Socket,
        buffer: Option<Buffer>,
        result: &io::Result<usize>,
        shared: &Shared,
    ) -> bool {
        self.ready = false;
        let Some(mut buffer) = buffer else {
            let ending = match (result, &socket.tls) {
                (Ok(_), None) => Ending::Clean,
                // A FIN that no close_notify came before, or an error.
                _ => Ending::Cut,
            };
            self.end = self.end.or(Some(ending));
            return true;
        };
        let full = buffer.room().is_empty();
        self.streak = if full { self.streak.saturating_add(1) } else { 0 };
        if let Some(tls) = socket.tls.as_mut() {
            tls.take_sealed(buffer);
            return true;
        }
        self.fresh = true;
        let (whole, kept) = match self.buffer.take() {
            None => (buffer, true),
            Some(first) => match shared.join(first, buffer) {
                Ok(joined) => (joined, true),
                Err(first) => (first, false),
            },
        };
        self.buffer = Some(whole);
        kept
    }

    /// Opens what came under TLS, as far as there is room for it: several records at once, so
    /// that they go out in one write. Returns whether there will be room for what is left.
    pub(super) fn pump(&mut self, socket: &mut Socket, wanted: bool, shared: &Shared) -> bool {
        let Some(tls) = socket.tls.as_mut() else { return true };
        let mut room = self.is_hungry();
        let mut first = true;
        loop {
            if tls.open().is_err() {
                self.end = self.end.or(Some(Ending::Cut));
                if let Some(buffer) = tls.abandon() {
                    shared.put(buffer);
                }
                return true;
            }
            if let Some(buffer) = tls.spent() {
                shared.put(buffer);
            }
            if tls.is_ended() {
                self.end = self.end.or(Some(Ending::Clean));
            }
            if tls.opened() == 0 || !wanted || !room {
                return true;
            }
            let buffer = if first { self.room(shared) } else { self.buffer.take() };
            let Some(mut buffer) = buffer else { return self.lent };
            first = false;
            self.fresh |= tls.read(&mut buffer) > 0;
            room = !buffer.room().is_empty();
            self.buffer = Some(buffer);
        }
    }

    /// Gives everything back at the end of the connection.
    pub(super) fn finish(&mut self, shared: &Shared) {
        self.forget(shared);
        self.drop_rest();
        self.return_buffer(shared);
    }
}

/// Reads in a row that fill a buffer before a larger one is taken.
const STREAK: u8 = 2;
/// Bytes that may wait behind a write before a session is shown no more to answer.
const QUEUED_MAX: usize = 64 << 10;
/// Room of an arena that is kept between messages.
const ARENA_KEEP: usize = 80 << 10;
