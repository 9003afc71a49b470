//! What goes into a session and what comes out of it.
//!
//! A session is a pure function of its inputs. The runtime calls [`handle`](super::http::Session::handle)
//! with one [`Input`], takes what stands in [`Out`], and asks for `interest` and `deadline` again.
//! Byte inputs report how many bytes were consumed; the runtime keeps the rest at the front of the
//! same buffer and shows it again, with more behind it, when the session is interested.
//! Pieces for the upstream name ranges of the caller's buffer and the other way round, so the
//! buffer of a direction stays lent until what was made from it is written. That is the
//! back-pressure: one buffer for each direction, read again only after it was written.
//!
//! A message may be left unconsumed until it is whole if it is no longer than [`WHOLE_MAX`]. Of a
//! longer one the session consumes what came, and keeps what it needs.

use super::approving::Petition;
use crate::base::{CredentialId, ExchangeId, Pieces, ResourceId};
use crate::policy::approval::{self, Verdict};
use crate::record::Position;

/// Bytes that a session may leave unconsumed and see again with more behind them. A session that
/// leaves more than the largest buffer holds is broken off.
pub const WHOLE_MAX: usize = 192 << 10;

/// One thing that happened to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// Bytes of the caller, in plain text: all that are unconsumed so far.
    Caller(&'a [u8]),
    /// The caller will send no more (half-close). It may still read.
    CallerEnd,
    /// The caller is gone: reset, or a write failed.
    CallerGone,
    /// The upstream connection for this exchange stands; under TLS with the upstream's leaf
    /// certificate, DER, verified.
    Connected(ExchangeId, Option<&'a [u8]>),
    /// No upstream connection could be made, or the pool is full.
    ConnectFailed(ExchangeId, UpstreamFault),
    /// Bytes of the upstream, in plain text: all that are unconsumed so far.
    Upstream(ExchangeId, &'a [u8]),
    /// The upstream ended. `clean`: a FIN, and under TLS a `close_notify` before it.
    UpstreamEnd(ExchangeId, Ending),
    /// The owner of approvals says what became of what this exchange asked.
    Verdict(ExchangeId, Verdict),
    /// What the owner of approvals has of the request that this exchange asked about.
    Shown(ExchangeId, Option<&'a approval::Request>),
    /// Letters may have come for the session; whoever keeps its letter box turns them into
    /// [`Self::Verdict`] and [`Self::Shown`].
    News,
    /// The record is on the disk up to there: what waits for that may go.
    Durable(Position),
    /// A deadline that [`deadline`](super::http::Session::deadline) named may have passed.
    Timer,
    /// Somebody who may asked for what is in hand to be cancelled; nothing may be in hand.
    Cancel,
    /// The gateway drains: finish the exchange in hand, then close.
    Drain,
}

/// How an upstream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order, so that a body that lasts until the close is whole.
    Clean,
    /// Reset, or cut without `close_notify`.
    Cut,
}

/// Why there is no upstream connection. The caller hears 502, 503 or 504.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpstreamFault {
    /// The name has no address (yet).
    Unresolved,
    /// Every address refused.
    Refused,
    /// Not in time.
    TimedOut,
    /// The certificate or handshake was not accepted.
    Tls,
    /// As many connections as the limit allows are busy.
    Exhausted,
}

/// What the runtime must do beside writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Take a pooled connection or make one. Pieces for the upstream wait for it.
    Connect {
        /// The exchange that it serves.
        exchange: ExchangeId,
        /// Where to.
        resource: ResourceId,
        /// Part of the pool's key: connections never serve two credentials.
        credential: CredentialId,
        /// Of the snapshot that decided: ids and credentials of another are not mixed.
        generation: u64,
        /// Only a fresh connection will do (a retry after a pooled one died).
        fresh: bool,
    },
    /// Make one beside the connection in hand, which is kept aside as it stands: nothing of it is
    /// shown until [`Act::Resume`]. Nothing may be under way on that one.
    Beside {
        /// What the other connection is known by from here on.
        exchange: ExchangeId,
        /// Where to.
        resource: ResourceId,
        /// Whose it is.
        credential: CredentialId,
        /// See [`Act::Connect`].
        generation: u64,
    },
    /// Go on with the connection that was kept aside for this exchange; the one in hand is kept
    /// aside in its place. What came meanwhile is shown first, then [`Input::Connected`] says that
    /// it is in hand.
    Resume {
        /// The exchange.
        exchange: ExchangeId,
    },
    /// End the connection that is kept aside for this exchange.
    EndAside {
        /// The exchange.
        exchange: ExchangeId,
    },
    /// The exchange is done with its upstream connection, which is in hand.
    Release {
        /// The exchange.
        exchange: ExchangeId,
        /// Whether the connection may serve another; else it is closed at once.
        reuse: bool,
    },
    /// Write what is queued for the caller, then close. With `linger`, shut the write side and
    /// read and drop for a while first, so that the answer is not reset away.
    CloseCaller {
        /// See above.
        linger: bool,
    },
    /// Shut the write side toward the upstream after what is queued; its answer is still read.
    EndUpstream {
        /// The exchange.
        exchange: ExchangeId,
    },
    /// Say what is queued aside to the exchange's upstream by a connection of its own, which is
    /// made as the first was, to the same address, and ended by the upstream. Nobody hears what
    /// comes of it. One at a time for a caller: a second one is dropped.
    Cancel {
        /// The exchange.
        exchange: ExchangeId,
    },
    /// Put something to the owner of approvals; what it says comes back as
    /// [`Input::Verdict`].
    Petition {
        /// The exchange.
        exchange: ExchangeId,
        /// What.
        petition: Box<Petition>,
    },
    /// Shut the write side toward the caller after what is queued; it may still send.
    EndCaller,
    /// Reset the caller without a clean end, after what is queued.
    AbortCaller,
}

/// Which sides a session wants to hear bytes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Read the caller.
    pub caller: bool,
    /// Read the upstream.
    pub upstream: bool,
    /// Nothing is in hand: the caller's connection is idle, and no buffer need be held.
    pub idle: bool,
}

/// What a call of `handle` produced. The runtime takes it all before the next call.
#[derive(Debug, Default)]
pub struct Out {
    caller: Pieces,
    upstream: Pieces,
    /// For a connection beside the upstream's.
    side: Pieces,
    acts: Vec<Act>,
    /// What must be durable before any of it goes; a session that leaves it set is broken.
    after: Option<Position>,
    head_read: bool,
}

impl Out {
    /// Nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes for the caller; source ranges name the upstream's input.
    #[must_use]
    pub fn caller(&self) -> &Pieces {
        &self.caller
    }

    /// Bytes for the upstream; source ranges name the caller's input.
    #[must_use]
    pub fn upstream(&self) -> &Pieces {
        &self.upstream
    }

    /// Swaps the caller's pieces with an empty list that the runtime reuses.
    pub fn swap_caller(&mut self, other: &mut Pieces) {
        debug_assert!(other.list().is_empty());
        if self.is_fit() {
            std::mem::swap(&mut self.caller, other);
        }
    }

    /// Swaps the upstream's pieces with an empty list that the runtime reuses.
    pub fn swap_upstream(&mut self, other: &mut Pieces) {
        debug_assert!(other.list().is_empty());
        if self.is_fit() {
            std::mem::swap(&mut self.upstream, other);
        }
    }

    /// Bytes for [`Act::Cancel`], free of any input.
    #[must_use]
    pub fn side(&self) -> &Pieces {
        &self.side
    }

    /// Swaps the pieces of [`Act::Cancel`] with an empty list.
    pub fn swap_side(&mut self, other: &mut Pieces) {
        debug_assert!(other.list().is_empty());
        if self.is_fit() {
            std::mem::swap(&mut self.side, other);
        }
    }

    /// Takes the next act, in order.
    pub fn next_act(&mut self) -> Option<Act> {
        if self.acts.is_empty() { None } else { Some(self.acts.remove(0)) }
    }

    /// Whether a head was read in this call and its decision waits for the body. For the metrics
    /// only.
    pub fn take_head_read(&mut self) -> bool {
        std::mem::take(&mut self.head_read)
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let lists = [&self.caller, &self.upstream, &self.side];
        lists.iter().all(|pieces| pieces.list().is_empty()) && self.acts.is_empty()
    }

    /// Whether nothing in it must wait for the disk; bytes that must are dropped, not sent.
    fn is_fit(&mut self) -> bool {
        debug_assert!(self.after.is_none(), "what waits for the disk is not handed out");
        if self.after.is_some() {
            self.caller.clear();
            self.upstream.clear();
            self.side.clear();
        }
        self.after.is_none()
    }

    /// What must be durable before what is in it goes, from here on the session's concern.
    pub(super) fn take_after(&mut self) -> Option<Position> {
        self.after.take()
    }

    /// Moves all of it behind what is in `to`, free of the input `source`.
    pub(super) fn move_to(&mut self, to: &mut Self, source: &[u8]) {
        for act in self.acts.drain(..) {
            to.act(act);
        }
        if !self.side.list().is_empty() {
            to.side.clear();
        }
        for (from, to) in [
            (&mut self.caller, &mut to.caller),
            (&mut self.upstream, &mut to.upstream),
            (&mut self.side, &mut to.side),
        ] {
            to.take_detached(from, source);
        }
    }

    /// Moves what is put to the owner of approvals behind what is in `to`.
    pub(super) fn move_petitions(&mut self, to: &mut Self) {
        let petitions = self.acts.drain(..).filter(|act| matches!(act, Act::Petition { .. }));
        to.acts.extend(petitions);
    }

    pub(super) fn head_read(&mut self) {
        self.head_read = true;
    }

    pub(super) fn act(&mut self, act: Act) {
        // What an exchange that ends had left for its upstream must never reach another's.
        let other = matches!(act, Act::Connect { .. } | Act::Beside { .. } | Act::Resume { .. });
        if other || matches!(act, Act::Release { .. }) {
            self.upstream.clear();
        }
        self.acts.push(act);
    }

    /// The one door to the caller: only bytes that are masked and recorded go through it.
    pub(super) fn push_caller(&mut self, released: super::gate::Released<'_>) {
        self.after = self.after.max(released.after());
        released.move_to(&mut self.caller);
    }

    /// The one door to the upstream: only bytes of a grant, recorded, go through it.
    pub(super) fn push_upstream(&mut self, admitted: super::gate::Admitted<'_>) {
        self.after = self.after.max(admitted.after());
        admitted.move_to(&mut self.upstream);
    }

    /// The door to the upstream by another connection, for [`Act::Cancel`]: as narrow as the first.
    /// What was queued before and not asked for is dropped; the bytes must not name the input.
    pub(super) fn push_side(&mut self, admitted: super::gate::Admitted<'_>) {
        self.after = self.after.max(admitted.after());
        self.side.clear();
        admitted.move_to(&mut self.side);
    }
}

/// Doors for sessions that tests of the runtime make up.
#[cfg(test)]
impl Out {
    pub(crate) fn test_act(&mut self, act: Act) {
        self.acts.push(act);
    }

    pub(crate) fn test_caller(&mut self) -> &mut Pieces {
        &mut self.caller
    }

    pub(crate) fn test_upstream(&mut self) -> &mut Pieces {
        &mut self.upstream
    }

    pub(crate) fn test_side(&mut self) -> &mut Pieces {
        &mut self.side
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_aside_waits_with_the_rest_and_is_not_a_releases_to_drop() {
        let cancel = Act::Cancel { exchange: ExchangeId(1) };
        let release = Act::Release { exchange: ExchangeId(1), reuse: false };
        let (mut out, mut held) = (Out::new(), Out::new());
        out.side.text(b"word");
        out.act(cancel.clone());
        out.upstream.text(b"query");
        out.act(release.clone());
        assert!(out.upstream().is_empty() && !out.is_empty());
        out.move_to(&mut held, b"");
        assert!(out.is_empty());
        // A second one while the first waits is said in its place, and not behind it.
        out.side.text(b"word");
        out.move_to(&mut held, b"");
        held.move_to(&mut out, b"");
        assert_eq!(out.side().to_vec(b""), b"word");
        assert_eq!((out.next_act(), out.next_act()), (Some(cancel), Some(release)));
        let mut taken = Pieces::new();
        out.swap_side(&mut taken);
        assert!(taken.to_vec(b"") == b"word" && out.is_empty());
    }
}
