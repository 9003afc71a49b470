//! The one order of checks, for every protocol.
//!
//! To the upstream: identify, decide, (hold, identify, decide, redeem,) clear, admit, credential, forward.
//! To the caller: clear, release.
//!
//! Each step hands out a proof that the next one asks for, and each proof has one constructor:
//! `Principal` (only `identity` makes one) -> `Grant` (only `policy`; of a `Need` by a `Use`, which only
//! the book of approvals makes when it is on the disk: [`redeem`]) -> [`Admission`] and
//! [`Admitted`] (only [`admit`]) toward the upstream, `Cleared` (only `mask`) -> [`Released`]
//! (only [`release`]) toward the caller. `Out` takes nothing else. Protocols call these functions
//! and have no order of their own. What a full journal leads to is decided in [`Books`], below the
//! gate and in the same way for all of them. Under `durable = "each"` the proofs carry the position
//! that must be on the disk before their bytes go; `Out` hands nothing out before.

use super::gaps::Books;
use crate::base::{ConnectionId, ExchangeId, Now, Pieces, ResourceId};
use crate::credential::Credential;
use crate::identity::Principal;
use crate::mask::Cleared;
use crate::policy::approval::Use;
use crate::policy::{Action, Decision, Durable, Grant, Need, RecordLevel, Row, Table};
use crate::record::{EntryMeta, Flags, Full, Journal, Kind, Position};

/// Bytes for the caller that are masked and recorded. Only [`release`] makes one.
#[must_use]
pub struct Released<'p> {
    pieces: &'p mut Pieces,
    wrap: Wrap,
    after: Option<Position>,
}

/// Bytes for the upstream that a grant covers and that are recorded. Only an [`Admission`] makes
/// one.
#[must_use]
pub struct Admitted<'p> {
    pieces: &'p mut Pieces,
    wrap: Wrap,
    after: Option<Position>,
}

/// How the bytes stand in the output: where their source begins in the input of this call, and
/// whether they are one chunk (RFC 9112, section 7.1). Framing is no content: it is not recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrap {
    /// Offset of the pieces' source in the input of the call.
    pub offset: usize,
    /// Write a chunk head before and a line end behind.
    pub chunked: bool,
    /// The source is not the input of the call but a buffer that does not outlive it.
    pub detach: bool,
}

impl Wrap {
    fn move_to(self, from: &mut Pieces, to: &mut Pieces) {
        if !from.is_empty() {
            if self.chunked {
                let len = from.len();
                to.write_with(|arena| crate::wire::http1::chunk_head(len, arena));
            }
            to.append_at(from, self.offset);
            if self.chunked {
                to.literal(b"\r\n");
            }
        }
        from.clear();
    }
}

impl Released<'_> {
    /// What must be durable before these bytes go.
    pub(super) fn after(&self) -> Option<Position> {
        self.after
    }

    pub(super) fn move_to(self, to: &mut Pieces) {
        self.wrap.move_to(self.pieces, to);
    }
}

impl Admitted<'_> {
    /// What must be durable before these bytes go.
    pub(super) fn after(&self) -> Option<Position> {
        self.after
    }

    pub(super) fn move_to(self, to: &mut Pieces) {
        self.wrap.move_to(self.pieces, to);
    }
}

/// Which exchange an entry belongs to, and how much of it the record takes.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The caller's connection.
    pub connection: ConnectionId,
    /// The exchange.
    pub exchange: ExchangeId,
    /// Bodies too, or only what they weigh.
    pub level: RecordLevel,
    /// Whether its bytes go only after their entries are on the disk.
    pub durable: Durable,
}

impl Subject {
    fn meta(self, kind: Kind, masked: bool) -> EntryMeta {
        let mut flags = if masked { Flags::MASKED } else { Flags::NONE };
        if self.durable == Durable::Each {
            flags = flags.with(Flags::DURABLE);
        }
        EntryMeta { kind, flags, connection: self.connection, exchange: self.exchange }
    }

    fn after(self, position: Option<Position>) -> Option<Position> {
        position.filter(|_| self.durable == Durable::Each)
    }

    fn takes(self, kind: Kind) -> bool {
        let body = matches!(kind, Kind::RequestBody | Kind::ResponseBody | Kind::Data);
        !body || self.level == RecordLevel::Full
    }
}

/// Decides one action of a principal. The `Row` came out of the same principal's token.
pub fn decide(policy: &Table, _of: &Principal, row: &Row, action: &Action<'_>) -> Decision {
    policy.decide(row, action)
}

/// Decides an operation that is several actions at once, a statement on several tables say: each
/// must be permitted, and their obligations unite.
pub fn decide_all<'a>(
    policy: &Table,
    _of: &Principal,
    row: &Row,
    actions: impl IntoIterator<Item = Action<'a>>,
) -> Decision {
    policy.decide_all(row, actions)
}

/// Decides whether a principal may connect to a resource at all: where some rule could permit it
/// something.
pub fn decide_connect(
    policy: &Table,
    _of: &Principal,
    row: &Row,
    resource: ResourceId,
) -> Decision {
    policy.decide_connect(row, resource)
}

/// Why what was held back is not permitted after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unredeemed {
    /// The use is one of another operation.
    Foreign,
    /// The journal has no room; the exchange must be refused.
    Full,
}

/// Turns what a rule held back into a grant, by a use that was spent on exactly that: on what the
/// binding stands for, under the rule of that name (`covers`). `facts` say by whose approval; they
/// are recorded before there is a grant.
///
/// # Errors
/// [`Unredeemed`]
pub fn redeem(
    need: Need,
    spent: &Use,
    covers: (&[u8; 32], &str),
    subject: Subject,
    facts: &[u8],
    books: Books<'_, impl Journal>,
    now: Now,
) -> Result<Grant, Unredeemed> {
    let (binding, rule) = covers;
    let grant = need.grant(spent, binding, rule).map_err(|_| Unredeemed::Foreign)?;
    note(subject, Kind::Decision, facts, false, books, now).map_err(|_| Unredeemed::Full)?;
    Ok(grant)
}

/// Writes an entry of facts (who, what, why) that stands before the bytes it speaks of. `masked`
/// says that a mask changed something in them.
///
/// # Errors
/// [`Full`] when the journal has no room; the exchange must be refused.
pub fn note(
    subject: Subject,
    kind: Kind,
    facts: &[u8],
    masked: bool,
    mut books: Books<'_, impl Journal>,
    now: Now,
) -> Result<(), Full> {
    books.append(subject.meta(kind, masked), std::iter::once(facts), now).map(drop)
}

/// Records bytes that a grant lets to the upstream, in their cleared form, and hands out the
/// proof with which the bytes themselves may go.
///
/// # Errors
/// [`Full`] when the journal has no room and the config sheds nothing; nothing may be sent then.
pub fn admit(
    _grant: &Grant,
    subject: Subject,
    kind: Kind,
    cleared: Cleared<'_>,
    source: &[u8],
    mut books: Books<'_, impl Journal>,
    now: Now,
) -> Result<Admission, Full> {
    let masked = cleared.is_masked();
    let mut position = None;
    if subject.takes(kind) && !cleared.pieces().is_empty() {
        let body = cleared.pieces().slices(source);
        position = books.append(subject.meta(kind, masked), body, now)?;
    }
    Ok(Admission { after: subject.after(position) })
}

/// The right to send the bytes whose cleared form was recorded; used once.
#[must_use]
pub struct Admission {
    after: Option<Position>,
}

impl Admission {
    /// The bytes go as they are.
    pub fn forward(self, pieces: &mut Pieces, wrap: Wrap) -> Admitted<'_> {
        Admitted { pieces, wrap, after: self.after }
    }

    /// A head goes, with the credential that the grant opens put in behind its last field. `head`
    /// ends with the line end of that field; the blank line is added here.
    pub fn forward_head<'p>(
        self,
        head: &[u8],
        grant: &Grant,
        credential: &Credential,
        pieces: &'p mut Pieces,
    ) -> Admitted<'p> {
        pieces.clear();
        pieces.write_with(|arena| {
            arena.extend_from_slice(head);
            credential.place(grant, arena);
            arena.extend_from_slice(b"\r\n");
        });
        Admitted { pieces, wrap: Wrap::default(), after: self.after }
    }
}

/// Proof that the record has the name of the credential that a login is made with.
#[must_use]
pub struct Opened {
    after: Option<Position>,
}

/// Opens a credential for a login of several messages; `facts` name it.
///
/// # Errors
/// [`Full`] when the journal has no room; no login may be made then.
pub fn open(
    _grant: &Grant,
    subject: Subject,
    facts: &[u8],
    mut books: Books<'_, impl Journal>,
    now: Now,
) -> Result<Opened, Full> {
    let meta = subject.meta(Kind::Credential, false);
    let position = books.append(meta, std::iter::once(facts), now)?;
    Ok(Opened { after: subject.after(position) })
}

impl Opened {
    /// A message of the login goes. It is in no record: it may hold what proves the secret.
    ///
    /// # Errors
    /// What `write` says; nothing goes then.
    pub fn say<'p, E>(
        &self,
        pieces: &'p mut Pieces,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Admitted<'p>, E> {
        pieces.clear();
        let mut told = Ok(());
        pieces.write_with(|arena| told = write(arena));
        told?;
        Ok(Admitted { pieces, wrap: Wrap::default(), after: self.after })
    }
}

/// Records bytes for the caller and lets them go.
///
/// # Errors
/// [`Full`] when the journal has no room and the config sheds nothing; nothing may be sent then.
pub fn release<'p>(
    cleared: Cleared<'p>,
    subject: Subject,
    kind: Kind,
    source: &[u8],
    wrap: Wrap,
    mut books: Books<'_, impl Journal>,
    now: Now,
) -> Result<Released<'p>, Full> {
    let masked = cleared.is_masked();
    let mut position = None;
    if subject.takes(kind) && !cleared.pieces().is_empty() {
        let mut meta = subject.meta(kind, masked);
        meta.flags = meta.flags.with(Flags::TO_CALLER);
        position = books.append(meta, cleared.pieces().slices(source), now)?;
    }
    let pieces = cleared.into_pieces();
    if wrap.detach {
        pieces.detach(source);
    }
    Ok(Released { pieces, wrap, after: subject.after(position) })
}

/// Proof that a refusal of somebody unknown was counted; the worker writes the counts to the
/// record at most once a second, so that a flood cannot fill the disk.
#[must_use]
pub struct Counted(pub(super) ());

/// Lets a refusal of the gateway's own making go to a caller who is not identified.
pub fn release_counted<'p>(cleared: Cleared<'p>, _counted: Counted) -> Released<'p> {
    Released { pieces: cleared.into_pieces(), wrap: Wrap::default(), after: None }
}

/// Lets the framing of what was released go: the last chunk, an interim `100`. Text of the
/// program only, never content.
pub fn release_framing<'p>(pieces: &'p mut Pieces, text: &'static [u8]) -> Released<'p> {
    pieces.clear();
    pieces.literal(text);
    Released { pieces, wrap: Wrap::default(), after: None }
}

/// Lets the gateway's own part of a negotiation go, before it is known who calls: at most the
/// caller's own words are in it.
pub fn release_negotiation<'p>(
    pieces: &'p mut Pieces,
    write: impl FnOnce(&mut Vec<u8>),
) -> Released<'p> {
    pieces.clear();
    pieces.write_with(write);
    Released { pieces, wrap: Wrap::default(), after: None }
}

/// Lets the framing of what was admitted go upstream: the last chunk.
pub fn admit_framing<'p>(
    _grant: &Grant,
    pieces: &'p mut Pieces,
    text: &'static [u8],
) -> Admitted<'p> {
    pieces.clear();
    pieces.literal(text);
    Admitted { pieces, wrap: Wrap::default(), after: None }
}
