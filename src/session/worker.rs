//! What the sessions of one worker share: the snapshot they decide by, and the worker's own state.

use super::approving::Places;
use super::gaps::{Books, Gaps};
use super::gate::Counted;
use super::postgres::Texts;
use super::refusal::Refusal;
use super::relations::Relations;
use super::watch::Watch;
use crate::base::{
    Budgets, ConnectionId, CredentialId, ExchangeId, Limits, ListenerId, Now, Protocol, ResourceId,
};
use crate::credential::{AuthMethods, Credential};
use crate::identity::{Cached, KeySnapshot, Principal, TokenCache, TokenError, Verifier};
use crate::mask::{Content, Filter, MaskError, Plan, Plans, Shape};
use crate::policy::{Row, Table};
use crate::record::fields::{Tag, Writer};
use crate::record::{EntryMeta, Flags, Journal, Kind, OnFull};
use ahash::{AHashMap, RandomState};
use core::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

/// A generation as the exchanges of one worker hold it. Each takes it up many times: that is
/// counted on the worker, and the count that all workers share is touched by a reload only.
pub type Held = Rc<Arc<Snapshot>>;

/// A resource, as a session sees it.
#[derive(Debug)]
pub struct ResourceView {
    /// Its name: the first path segment, or the database that callers connect to.
    pub name: String,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How its bodies are built.
    pub shape: Shape,
    /// The credential where no rule names another.
    pub credential: CredentialId,
    /// Path in front of what callers ask for, without a trailing slash; often empty.
    pub base_path: String,
    /// Value of the `Host` field toward it.
    pub authority: String,
    /// Bytes of a request body (413).
    pub body_max: u64,
    /// Whether cookies pass in either direction.
    pub cookies: bool,
    /// The database at the upstream; empty but on postgres.
    pub database: String,
    /// How the upstream may ask for the password, on postgres.
    pub auth: AuthMethods,
    /// Bytes of a statement's text.
    pub sql_text_max: u32,
    /// Bytes of a database message that must be looked at whole.
    pub message_max: u32,
}

/// A listener, as a session sees it.
#[derive(Debug)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// What callers speak.
    pub protocol: Protocol,
    /// Whether callers speak TLS; each of them does then.
    pub secure: bool,
    /// Whether callers of a database show their token by OAUTHBEARER, and not as a password.
    pub oauth: bool,
    /// The resource that it is pinned to.
    pub resource: Option<ResourceId>,
    /// Host names served, lower case; empty: any well-formed one.
    pub hosts: Vec<String>,
}

/// One generation of everything that is decided by. Immutable; exchanges keep theirs to the end.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every reload.
    pub generation: u64,
    /// The bounds.
    pub limits: Limits,
    /// What happens to what the journal has no room for.
    pub on_full: OnFull,
    /// The issuers' rules.
    pub verifier: Verifier,
    /// The compiled rules.
    pub policy: Table,
    /// The compiled masks.
    pub plans: Plans,
    /// By [`ResourceId`].
    pub resources: Vec<ResourceView>,
    /// First path segment to resource that speaks http.
    pub names: AHashMap<String, ResourceId>,
    /// Database that a caller connects to, to resource that speaks postgres.
    pub databases: AHashMap<String, ResourceId>,
    /// By [`ListenerId`].
    pub listeners: Vec<ListenerView>,
    /// By [`CredentialId`].
    pub credentials: Vec<Credential>,
    /// Where people reach the page of approvals, without a slash at its end.
    pub public_url: Option<String>,
}

impl Snapshot {
    /// A resource by id.
    #[must_use]
    pub fn resource(&self, id: ResourceId) -> Option<&ResourceView> {
        self.resources.get(id.index())
    }

    /// A listener by id.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&ListenerView> {
        self.listeners.get(id.index())
    }

    /// A credential by id.
    #[must_use]
    pub fn credential(&self, id: CredentialId) -> Option<&Credential> {
        self.credentials.get(id.index())
    }
}

/// Who calls, with what is known beside it.
pub type Identified = (Rc<Principal>, Rc<Known>);

/// What a token leads to on this worker, made once and kept beside its principal.
#[derive(Debug)]
pub struct Known {
    /// The rules that could ever match.
    pub row: Row,
    /// The principal as fields of the record.
    pub facts: Vec<u8>,
}

impl Known {
    fn of(principal: &Principal, policy: &Table) -> Self {
        let mut facts = Vec::with_capacity(256);
        let mut writer = Writer::new(&mut facts);
        writer.text(Tag::Iss, principal.iss());
        writer.text(Tag::Sub, principal.sub());
        for group in principal.groups() {
            writer.text(Tag::Group, group);
        }
        for actor in principal.actors() {
            writer.text(Tag::Actor, actor);
        }
        if let Some(client) = principal.client_id() {
            writer.text(Tag::ClientId, client);
        }
        writer.bytes(Tag::TokenDigest, principal.token_digest());
        Self { row: policy.row(principal), facts }
    }
}

/// Why nobody is known by a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unidentified {
    /// What is wrong with it; the caller hears only that it does not hold.
    Token(TokenError),
    /// It was not looked at: too many of its address did not hold.
    Spent,
}

/// What a worker counts; read by metrics.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Exchanges begun.
    pub exchanges: u64,
    /// Refusals by [`Refusal::index`].
    pub refusals: [u64; Refusal::ALL.len()],
    /// By resource: permitted, denied.
    pub decisions: Vec<[u64; 2]>,
    /// Bytes from callers and to callers.
    pub bytes: [u64; 2],
    /// Values masked.
    pub masked: u64,
    /// Exchanges cut after their head was out.
    pub cuts: u64,
    /// Entries that went on unrecorded, and their body bytes.
    pub unrecorded: [u64; 2],
}

impl Counts {
    /// Nothing counted, with room for so many resources.
    #[must_use]
    pub fn of(resources: usize) -> Self {
        Self { decisions: vec![[0; 2]; resources], ..Self::default() }
    }

    /// Counts a decision on a resource.
    pub fn decided(&mut self, resource: ResourceId, permitted: bool) {
        if let Some([permits, denials]) = self.decisions.get_mut(resource.index()) {
            *(if permitted { permits } else { denials }) += 1;
        }
    }

    /// Takes the values of another over; keeps the room.
    pub fn copy_from(&mut self, other: &Self) {
        let Self { exchanges, refusals, decisions, bytes, masked, cuts, unrecorded } = other;
        self.decisions.clone_from(decisions);
        (self.exchanges, self.refusals, self.bytes) = (*exchanges, *refusals, *bytes);
        (self.masked, self.cuts, self.unrecorded) = (*masked, *cuts, *unrecorded);
    }

    /// Adds another worker's, of the same generation.
    pub fn add(&mut self, other: &Self) {
        self.exchanges += other.exchanges;
        self.masked += other.masked;
        self.cuts += other.cuts;
        for (sum, more) in self.refusals.iter_mut().zip(other.refusals) {
            *sum += more;
        }
        let pairs = self.decisions.iter_mut().zip(&other.decisions);
        let all = pairs
            .chain([(&mut self.bytes, &other.bytes), (&mut self.unrecorded, &other.unrecorded)]);
        for (sum, more) in all {
            let ([a, b], [c, d]) = (sum, more);
            *a += c;
            *b += d;
        }
    }
}

/// The state that the sessions of one worker share. One thread, no locks.
pub struct Worker<J> {
    /// The generation in force.
    pub snapshot: Held,
    /// The key sets in force.
    pub keys: Arc<KeySnapshot>,
    /// Verified tokens.
    pub tokens: TokenCache<Rc<Known>>,
    /// The journal.
    pub journal: J,
    /// What metrics read.
    pub counts: Counts,
    /// Issuers whose key set lacks a key that a token names; control fetches it.
    pub key_wanted: Option<(crate::base::IssuerId, u64)>,
    /// The disk is full: the record takes nothing new, or less.
    pub record_full: bool,
    /// Bytes held for look-ahead by all sessions.
    pub lookahead: u64,
    /// Where masked columns of databases were found, by any worker: the default is this one's own.
    pub relations: Arc<Relations>,
    /// Places of requests that wait for a person's approval.
    pub(super) places: Places,
    /// Statements that were read.
    pub(super) texts: Texts,
    gaps: Gaps,
    /// Tokens that did not hold, by address.
    failures: Budgets,
    filters: Filters,
    watches: Watches,
    exchange_high: u64,
    exchange_low: u64,
    connections: u64,
    unknown: [u32; Refusal::ALL.len()],
    unknown_since_ns: u64,
}

impl<J: Journal> Worker<J> {
    /// A worker's state; `seed` is random for each worker and start.
    pub fn new(
        snapshot: Arc<Snapshot>,
        keys: Arc<KeySnapshot>,
        journal: J,
        seed: [u64; 4],
    ) -> Self {
        let limits = &snapshot.limits;
        let tokens = TokenCache::new(
            limits.token_cache_entries as usize,
            limits.token_cache_bytes as usize,
            seed,
        );
        let [high, a, b, c] = seed;
        let hasher = RandomState::with_seeds(high.rotate_left(32), a, b, c);
        let failures = Budgets::new(limits.addresses_max as usize, hasher.clone());
        let counts = Counts::of(snapshot.resources.len());
        Self {
            tokens,
            counts,
            snapshot: Rc::new(snapshot),
            keys,
            journal,
            key_wanted: None,
            record_full: false,
            lookahead: 0,
            relations: Arc::default(),
            places: Places::default(),
            texts: Texts::new(hasher.clone()),
            gaps: Gaps::default(),
            failures,
            filters: Filters::new(),
            watches: Watches::new(),
            exchange_high: high,
            exchange_low: 0,
            connections: high & 0xffff_ffff_0000_0000,
            unknown: [0; Refusal::ALL.len()],
            unknown_since_ns: 0,
        }
    }

    /// A new generation is in force for every exchange that begins from here.
    pub fn reload(&mut self, snapshot: Arc<Snapshot>) {
        self.counts.decisions.resize(snapshot.resources.len(), [0; 2]);
        self.texts.clear();
        self.snapshot = Rc::new(snapshot);
    }

    /// Whether the journal has room for what `len` bytes of input may lead to: their record in
    /// either form, heads and facts.
    pub fn has_room(&mut self, len: usize) -> bool {
        let wanted = (len as u64).saturating_mul(2).saturating_add(ROOM_SPARE);
        self.journal.room(Kind::Data) >= wanted
    }

    /// The journal as the gate writes to it.
    pub fn books(&mut self) -> Books<'_, J> {
        Books {
            journal: &mut self.journal,
            gaps: &mut self.gaps,
            on_full: self.snapshot.on_full,
            full: self.record_full,
        }
    }

    /// Whether an exchange that begins could not be recorded as far as the config wants it.
    pub fn refuses_work(&mut self) -> bool {
        self.record_full
            && match self.snapshot.on_full {
                OnFull::Refuse => true,
                // What is left is for the refusals themselves.
                OnFull::ShedBodies => self.journal.room(Kind::Open) < REFUSAL_SPARE,
                OnFull::Drop => false,
            }
    }

    /// A filter for one body, reused where one is free.
    ///
    /// # Errors
    /// [`MaskError`] for content that the plan cannot be kept on.
    pub fn take_filter(
        &mut self,
        plan: &Arc<Plan>,
        content: Content,
        limits: &Limits,
    ) -> Result<Box<Filter>, MaskError> {
        match self.filters.pop() {
            Some(mut filter) => filter.reset(plan, content, limits).map(|()| filter),
            None => Filter::new(plan, content, limits).map(Box::new),
        }
    }

    /// Takes a filter back; what it holds is dropped when it is reset.
    pub fn give_filter(&mut self, filter: Option<Box<Filter>>) {
        let Some(filter) = filter else { return };
        if self.filters.len() < FILTERS_KEPT && filter.room() <= ROOM_KEPT {
            self.filters.push(filter);
        }
    }

    /// A watch for one stream, reused where one is free.
    pub(super) fn take_watch(&mut self, shape: Shape, limits: &Limits) -> Box<Watch> {
        let mut watch = self.watches.pop().unwrap_or_default();
        watch.begin(shape, limits);
        watch
    }

    /// Takes a watch back, without what it holds.
    pub(super) fn give_watch(&mut self, watch: Option<Box<Watch>>) {
        let Some(mut watch) = watch else { return };
        watch.forget();
        if self.watches.len() < FILTERS_KEPT && watch.room() <= ROOM_KEPT {
            self.watches.push(watch);
        }
    }

    /// The id of the next exchange.
    pub fn next_exchange(&mut self) -> ExchangeId {
        self.exchange_low += 1;
        self.counts.exchanges += 1;
        ExchangeId(u128::from(self.exchange_high) << 64 | u128::from(self.exchange_low))
    }

    /// The id of the next connection.
    pub fn next_connection(&mut self) -> ConnectionId {
        self.connections += 1;
        ConnectionId(self.connections)
    }

    /// Step one of the gate: whose token is it? `from` is the caller's address: a signature costs
    /// more than all else of a refused request, so that only so many may fail.
    ///
    /// # Errors
    /// [`Unidentified`]
    pub fn identify(
        &mut self,
        token: &[u8],
        from: IpAddr,
        now: Now,
    ) -> Result<Identified, Unidentified> {
        let generation = self.snapshot.generation;
        let keys = self.keys.generation;
        match self.tokens.get(token, now, keys, generation) {
            Some(Cached::Verified(principal, known)) => {
                return Ok((Rc::clone(principal), Rc::clone(known)));
            }
            Some(Cached::Refused(error)) => return Err(Unidentified::Token(error)),
            None => {}
        }
        let pace = self.snapshot.limits.failures();
        if self.failures.is_spent(from, pace, now.mono_ns) {
            return Err(Unidentified::Spent);
        }
        match self.snapshot.verifier.verify(token, &self.keys, now) {
            Ok(principal) => {
                let known = Rc::new(Known::of(&principal, &self.snapshot.policy));
                let principal = Rc::new(principal);
                let (who, what) = (Rc::clone(&principal), Rc::clone(&known));
                self.tokens.insert(token, who, what, now, keys, generation);
                Ok((principal, known))
            }
            Err(error) => {
                match error {
                    TokenError::UnknownKey { issuer, kid_hash } => {
                        self.key_wanted = Some((issuer, kid_hash));
                    }
                    TokenError::NoKeys { issuer } => self.key_wanted = Some((issuer, 0)),
                    _ => {}
                }
                // Keys that are missing are nobody's fault out there (a rotation is seen first by
                // callers), and cost no signature.
                let missing =
                    matches!(error, TokenError::NoKeys { .. } | TokenError::UnknownKey { .. });
                if !missing {
                    self.failures.spend(from, pace, now.mono_ns);
                }
                self.tokens.insert_refused(token, error, now, keys, generation);
                Err(Unidentified::Token(error))
            }
        }
    }

    /// Whether so much of this address failed that nothing more of it is looked at.
    pub(super) fn is_spent(&mut self, from: IpAddr, now: Now) -> bool {
        let pace = self.snapshot.limits.failures();
        self.failures.is_spent(from, pace, now.mono_ns)
    }

    /// Something of this address failed.
    pub(super) fn spend(&mut self, from: IpAddr, now: Now) {
        let pace = self.snapshot.limits.failures();
        self.failures.spend(from, pace, now.mono_ns);
    }

    /// What is known of a principal that a certificate proves.
    pub(super) fn know(&self, principal: Principal) -> Identified {
        let known = Rc::new(Known::of(&principal, &self.snapshot.policy));
        (Rc::new(principal), known)
    }

    /// The same by the policy in force, of one that was known before.
    pub(super) fn know_again(&self, principal: &Rc<Principal>) -> Identified {
        (Rc::clone(principal), Rc::new(Known::of(principal, &self.snapshot.policy)))
    }

    /// Counts a refusal of somebody who is not identified.
    pub fn count_unknown(&mut self, refusal: Refusal, now: Now) -> Counted {
        self.count(refusal);
        if let Some(count) = self.unknown.get_mut(refusal.index()) {
            *count = count.saturating_add(1);
        }
        self.summarise(now);
        Counted(())
    }

    /// Counts a refusal for the metrics.
    pub fn count(&mut self, refusal: Refusal) {
        if let Some(count) = self.counts.refusals.get_mut(refusal.index()) {
            *count += 1;
        }
    }

    /// What is due by time: gap entries that had no room, counts of refusals.
    pub fn tick(&mut self, now: Now) {
        if self.gaps.owes() {
            self.books().settle(now);
        }
        let gap = self.gaps.total();
        self.counts.unrecorded = [gap.entries, gap.bytes()];
        self.summarise(now);
    }

    /// Writes the counts of unidentified refusals when the last ones are a second old. The
    /// runtime calls it on its own tick too, so that the last of a burst are not kept back.
    pub fn summarise(&mut self, now: Now) {
        const EVERY_NS: u64 = 1_000_000_000;
        if self.unknown.iter().all(|count| *count == 0)
            || now.mono_ns.saturating_sub(self.unknown_since_ns) < EVERY_NS
        {
            return;
        }
        let mut facts = Vec::with_capacity(256);
        let mut writer = Writer::new(&mut facts);
        for refusal in Refusal::ALL {
            let count = self.unknown.get(refusal.index()).copied().unwrap_or(0);
            if count > 0 {
                writer.text(Tag::Refusal, refusal.label());
                writer.number(Tag::Count, u64::from(count));
            }
        }
        let meta = EntryMeta {
            kind: Kind::RefusalSummary,
            flags: Flags::NONE,
            connection: ConnectionId(0),
            exchange: ExchangeId(0),
        };
        // With a full journal the counts stay and are written when there is room again.
        if self.journal.append(meta, std::iter::once(facts.as_slice()), now).is_ok() {
            self.unknown = [0; Refusal::ALL.len()];
            self.unknown_since_ns = now.mono_ns;
        }
    }
}

/// Boxed: a filter is too large to be moved for each body.
type Filters = Vec<Box<Filter>>;
type Watches = Vec<Box<Watch>>;

/// Free filters and watches that a worker keeps; each holds a few KiB.
const FILTERS_KEPT: usize = 256;
/// Room of a watch or a filter that a long event made larger is not kept.
const ROOM_KEPT: usize = 64 << 10;

/// Room of the journal that new work leaves to the refusals of what follows it.
const REFUSAL_SPARE: u64 = 32 << 10;

/// Room for heads, facts and held bytes beside the input itself.
const ROOM_SPARE: u64 = 256 << 10;
