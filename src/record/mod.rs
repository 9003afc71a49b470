//! The record: entry and segment formats, the trait that sessions append to, reader and verify.
//!
//! Everything here is a pure function of bytes. `runtime::map` holds the mapped ring that a worker
//! appends to, `control::drain` the thread that moves ring bytes into segment files. All integers
//! are little-endian. Version 1, byte by byte:
//!
//! # Segment file (`w<worker>-<number>.seg`)
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4096 | segment header |
//! | 4096 | 4096 | the same bytes again, so that one torn sector cannot orphan a segment |
//! | 8192 | .. | entries, each on a multiple of 64, without gaps |
//!
//! A closed segment ends with a [`Kind::Roll`] entry or by a signed checkpoint that says
//! `closed`, and the file is cut there. An open one goes on with zeros up to its preallocated size.
//!
//! ## Segment header (4096 bytes)
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 8 | `WGSEGM01` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | worker |
//! | 16 | 16 | segment id: 128 random bits of the ring plus the segment number, wrapping |
//! | 32 | 8 | segment number; counts per worker, gapless, over restarts |
//! | 40 | 8 | sequence of the first entry |
//! | 48 | 16 | boot id of the machine |
//! | 64 | 8 | clock anchor: wall nanoseconds |
//! | 72 | 8 | clock anchor: monotonic nanoseconds at the same instant |
//! | 80 | 32 | digest of the policy in force |
//! | 112 | 32 | Ed25519 public key that signs the checkpoints |
//! | 144 | 32 | root of the segment before (zero for the first of a worker) |
//! | 176 | 8 | most bytes that the file may have |
//! | 184 | 3908 | zero |
//! | 4092 | 4 | CRC32C of bytes 0..4092 |
//!
//! ## Entry (64 bytes, then the body, then zeros up to a multiple of 64)
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | length of header and body without the zeros: the **commit word**, stored last; 0 = end |
//! | 4 | 4 | CRC32C, below |
//! | 8 | 8 | sequence; counts per worker, gapless, over segments and restarts |
//! | 16 | 8 | hybrid clock: wall nanoseconds, but always above the entry before of this worker |
//! | 24 | 8 | connection |
//! | 32 | 16 | exchange |
//! | 48 | 1 | [`Kind`] |
//! | 49 | 1 | schema of the body, 1 |
//! | 50 | 2 | [`Flags`] |
//! | 52 | 4 | part number of a body that is split over entries, from 0 |
//! | 56 | 8 | zero |
//! | 64 | .. | body: raw bytes, or fields (below), at most [`BODY_MAX`] |
//!
//! The CRC32C covers, in this order: segment id (16), offset of the entry in the segment file (8),
//! the commit word (4), bytes 8..64 of the header, the body. The id and the offset make stale
//! bytes of a recycled file and misplaced writes visible.
//!
//! ## Fields
//!
//! Bodies of all kinds but [`Kind::RequestBody`], [`Kind::ResponseBody`] and [`Kind::Data`] are
//! lists of fields: tag (1 byte, [`fields::Tag`]), length (4), bytes. Numbers are 8 bytes.
//! A [`Kind::Gap`] entry stands where entries are missing; see [`gap`] for its fields.
//!
//! # Proof file (`w<worker>-<number>.proof`, beside the segment)
//!
//! Records of 64 bytes (leaf) and 256 bytes (checkpoint), in the order they were made. A leaf is
//! the digest of at most 64 KiB of whole entries; leaf 0 covers both headers. Leaves follow each
//! other without gaps. See [`proof`] for the bytes. The root is that of RFC 9162, section 2.1.1:
//! leaf = SHA-256(0x00 || bytes), node = SHA-256(0x01 || left || right).
//!
//! A checkpoint signs segment id, number, end offset, leaf count, last sequence, time, root and
//! the root of the segment before. It is made only after the bytes it vouches for are on the disk.
//! `w<worker>.tombs` holds the closing checkpoint of every segment that retention deleted.
//!
//! # Ring file
//!
//! See [`ring`]. Its data bytes are entries exactly as they will stand in the segment.

pub mod fields;
pub mod gap;
mod memory;
pub mod proof;
pub mod reader;
pub mod ring;
pub mod segment;
pub mod summary;
pub mod tree;
pub mod verify;

use crate::base::{ConnectionId, ExchangeId, Now};

pub use memory::{MemoryEntry, MemoryJournal};

/// Most body bytes of one entry; longer bodies are split by `append`.
pub const BODY_MAX: usize = 60 << 10;

/// Where the record of a worker stands: bytes appended since the gateway started.
///
/// An entry is durable when the drain's position has reached the one that its `append` returned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub u64);

/// The journal has no room: nothing may be sent that is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What happens to what the journal has no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// It is refused.
    #[default]
    Refuse,
    /// Bodies go on unrecorded, heads and decisions do not; gap entries say how much is missing.
    ShedBodies,
    /// All of it goes on unrecorded; gap entries follow when there is room.
    Drop,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum Kind {
    /// A session opens: principal, token digest, peer, listener, policy generation.
    Open = 1,
    /// A request head, as it goes upstream but without credentials and the blank line. Raw.
    RequestHead = 2,
    /// Bytes of a request body, masked where a rule says so. Raw.
    RequestBody = 3,
    /// The decision: rule, permit or refusal kind.
    Decision = 4,
    /// A credential was put in; its name only.
    Credential = 5,
    /// A response head as it goes to the caller. Raw.
    ResponseHead = 6,
    /// Bytes of a response body after masking. Raw.
    ResponseBody = 7,
    /// What was masked: counts per detector, keyed hashes.
    MaskEvents = 8,
    /// An exchange failed.
    Error = 9,
    /// A session or exchange ends: counts, totals, timings.
    Close = 10,
    /// Refusals of callers that were not identified, counted over a time.
    RefusalSummary = 11,
    /// Entries that were not recorded, how many and why.
    Gap = 12,
    /// Both clocks at one instant.
    Clock = 13,
    /// An act of an operator.
    Admin = 14,
    /// Bytes of a connection that is forwarded as it is. Raw.
    Data = 15,
    /// The segment ends here; the next entry stands in the next segment. Written by the journal.
    Roll = 16,
}

impl Kind {
    /// Every kind, in the order of the numbers.
    pub const ALL: [Self; 16] = [
        Self::Open,
        Self::RequestHead,
        Self::RequestBody,
        Self::Decision,
        Self::Credential,
        Self::ResponseHead,
        Self::ResponseBody,
        Self::MaskEvents,
        Self::Error,
        Self::Close,
        Self::RefusalSummary,
        Self::Gap,
        Self::Clock,
        Self::Admin,
        Self::Data,
        Self::Roll,
    ];

    /// The kind of a stored number.
    #[must_use]
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }

    /// Whether the body is raw bytes and not fields.
    #[must_use]
    pub fn is_raw(self) -> bool {
        matches!(
            self,
            Self::RequestHead
                | Self::RequestBody
                | Self::ResponseHead
                | Self::ResponseBody
                | Self::Data
        )
    }

    /// Whether it is bytes of a body, which weigh most and explain least.
    #[must_use]
    pub fn is_body(self) -> bool {
        matches!(self, Self::RequestBody | Self::ResponseBody | Self::Data)
    }

    /// How many shares of a journal's reserve an entry of this kind leaves alone: what ends or
    /// explains work in hand may use all of it, heads and decisions all but one, bodies none.
    #[must_use]
    pub fn shares_kept(self) -> u64 {
        match self {
            Self::Error | Self::Close | Self::RefusalSummary | Self::Gap | Self::Roll => 0,
            kind if kind.is_body() => 2,
            _ => 1,
        }
    }

    /// A fixed name for listings and labels.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::RequestHead => "request_head",
            Self::RequestBody => "request_body",
            Self::Decision => "decision",
            Self::Credential => "credential",
            Self::ResponseHead => "response_head",
            Self::ResponseBody => "response_body",
            Self::MaskEvents => "mask_events",
            Self::Error => "error",
            Self::Close => "close",
            Self::RefusalSummary => "refusal_summary",
            Self::Gap => "gap",
            Self::Clock => "clock",
            Self::Admin => "admin",
            Self::Data => "data",
            Self::Roll => "roll",
        }
    }
}

/// Marks of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Flags {
    /// No mark.
    pub const NONE: Self = Self(0);
    /// The body began in an entry before; set by `append` when it splits.
    pub const CONTINUED: Self = Self(1);
    /// The body goes on in the next entry; set by `append` when it splits.
    pub const MORE: Self = Self(2);
    /// A mask was in force for the body, or changed something in the head or the facts.
    pub const MASKED: Self = Self(4);
    /// The exchange was cut here: what follows never came.
    pub const CUT: Self = Self(8);
    /// Nothing is released before this entry is durable.
    pub const DURABLE: Self = Self(16);
    /// Bytes from the upstream to the caller; else from the caller ([`Kind::Data`]).
    pub const TO_CALLER: Self = Self(32);
    /// The last piece of a message body.
    pub const END: Self = Self(64);
    /// All marks that this version knows.
    pub const KNOWN: Self = Self(127);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every mark of `other` is set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a session says about an entry beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// What it is about.
    pub kind: Kind,
    /// Marks.
    pub flags: Flags,
    /// The caller's connection.
    pub connection: ConnectionId,
    /// The exchange; 0 for what belongs to the connection as a whole.
    pub exchange: ExchangeId,
}

impl EntryMeta {
    /// Without marks.
    #[must_use]
    pub fn new(kind: Kind, connection: ConnectionId, exchange: ExchangeId) -> Self {
        Self { kind, flags: Flags::NONE, connection, exchange }
    }
}

/// What sessions append to.
pub trait Journal {
    /// Appends one entry whose body is all of `body` in order.
    ///
    /// Never blocks. A body above [`BODY_MAX`] becomes several entries, all or none. When this
    /// returns, the entry survives the death of the process.
    ///
    /// # Errors
    /// [`Full`] when there is no room; nothing was appended then.
    fn append<'a, I>(&mut self, meta: EntryMeta, body: I, now: Now) -> Result<Position, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone;

    /// Bytes that entries of `kind` may still take, their heads included. It grows as the journal
    /// is drained.
    fn room(&mut self, kind: Kind) -> u64;
}

impl<J: Journal + ?Sized> Journal for &mut J {
    fn append<'a, I>(&mut self, meta: EntryMeta, body: I, now: Now) -> Result<Position, Full>
    where
        I: Iterator<Item = &'a [u8]> + Clone,
    {
        (**self).append(meta, body, now)
    }

    fn room(&mut self, kind: Kind) -> u64 {
        (**self).room(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_keep_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind as u8), Some(kind));
        }
        assert_eq!(Kind::of(0), None);
        assert_eq!(Kind::of(17), None);
        assert!(Flags::MASKED.with(Flags::END).has(Flags::END));
        assert!(!Flags::MASKED.has(Flags::END.with(Flags::MASKED)));
    }
}
