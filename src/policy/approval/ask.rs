//! What a caller asks a person for.

use super::hex32;
use super::originals::Originals;
use super::terms::{Terms, TermsFault};
use crate::identity::Principal;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Somebody whose token was verified, as a request names who asks and who decides.
///
/// Its texts outlive the token: the owner of the book has the principal's names, not the principal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Issuer, as the token says it.
    pub iss: Box<str>,
    /// Subject; unique within the issuer.
    pub sub: Box<str>,
    /// The OAuth client.
    pub client_id: Option<Box<str>>,
    /// Who acts for the subject, the one that acts last first. Of the same issuer.
    pub actors: Box<[Box<str>]>,
    /// Groups.
    pub groups: Box<[Box<str>]>,
}

impl Party {
    /// The names of a verified principal.
    #[must_use]
    pub fn of(principal: &Principal) -> Self {
        Self {
            iss: principal.iss().into(),
            sub: principal.sub().into(),
            client_id: principal.client_id().map(Into::into),
            actors: principal.actors().map(Into::into).collect(),
            groups: principal.groups().into(),
        }
    }

    /// Whether both are the same subject, through the same client and the same chain of actors.
    /// What was granted to one of them is not the other's.
    #[must_use]
    pub fn is_same_caller(&self, other: &Self) -> bool {
        (&self.iss, &self.sub, &self.client_id, &self.actors)
            == (&other.iss, &other.sub, &other.client_id, &other.actors)
    }

    /// Whether `self` could be deciding about what it asked for itself: under its own name, under
    /// that of one who acts for it or for whom it acts, or through the client that asked.
    ///
    /// By the names alone, whoever issued them: two issuers that give one name to two people keep
    /// them from deciding for each other, which is the safe error.
    #[must_use]
    pub fn has_part_in(&self, asker: &Self) -> bool {
        let asking = || asker.actors.iter().chain([&asker.sub]);
        let mut deciding = self.actors.iter().chain([&self.sub]);
        deciding.any(|name| asking().chain(&asker.client_id).any(|one| one == name))
            || self.client_id.as_ref().is_some_and(|client| asking().any(|one| one == client))
    }

    fn is_bounded(&self) -> bool {
        let lists = [&self.actors, &self.groups];
        let texts = lists.iter().flat_map(|list| list.iter()).chain(&self.client_id);
        let bytes: usize = texts.map(|text| text.len()).sum();
        bytes.saturating_add(self.iss.len()).saturating_add(self.sub.len()) <= PARTY_BYTES_MAX
    }

    fn digest(&self, into: &mut Context) {
        part(into, self.iss.as_bytes());
        part(into, self.sub.as_bytes());
        optional(into, self.client_id.as_deref());
        count(into, self.actors.len());
        self.actors.iter().for_each(|actor| part(into, actor.as_bytes()));
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Party").field("sub", &"..").finish_non_exhaustive()
    }
}

/// What the caller says of the work that it does, which nobody verified. Empty texts are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Node of the graph that runs.
    pub node: Option<Box<str>>,
    /// Run of the graph.
    pub run: Option<Box<str>>,
    /// Thread, which is the conversation that runs belong to.
    pub thread: Option<Box<str>>,
}

/// One operation for which a rule wants an approval.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Who asks.
    pub who: Party,
    /// Name of the resource.
    pub resource: Box<str>,
    /// Its protocol, by the word of the config.
    pub protocol: Box<str>,
    /// Id of the rule.
    pub rule: Box<str>,
    /// The credential that the grant opens in place of the resource's own.
    pub credential: Option<Box<str>>,
    /// Generation of the policy that was asked.
    pub generation: u64,
    /// Digest of what the grant covers under its scope.
    #[serde(with = "hex32")]
    pub binding: [u8; 32],
    /// Digest of the exact operation.
    #[serde(with = "hex32")]
    pub fingerprint: [u8; 32],
    /// Digest of the operation by which a retry in other bytes is known; only of scope `exact`.
    #[serde(default, with = "hex32::maybe", skip_serializing_if = "Option::is_none")]
    pub retry: Option<[u8; 32]>,
    /// What will happen, for people; masked, at most [`SUMMARY_MAX`] bytes.
    pub summary: Box<str>,
    /// Under which terms.
    pub terms: Terms,
    /// What the caller says of its work.
    pub asserted: Claims,
    /// Why the caller wants it, in its words; at most [`REASON_MAX`] bytes.
    pub reason: Option<Box<str>>,
    /// The exchange that asked, as its request id; of a database the cycle's.
    pub exchange: Box<str>,
    /// What the owner of the book takes off and keeps in memory; empty in the book.
    #[serde(skip)]
    pub originals: Originals,
}

impl Ask {
    /// Two asks of one key are the same request: same caller, rule, resource, credential, terms,
    /// and what the grant would cover.
    ///
    /// Terms and credential are in it so that a policy that changes them asks anew.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        self.keyed(b"weirgate approval key 1", &self.binding)
    }

    /// Two asks of one such key are two tries of one request, in other bytes.
    #[must_use]
    pub(super) fn retry_key(&self) -> Option<[u8; 32]> {
        Some(self.keyed(b"weirgate approval retry 1", self.retry.as_ref()?))
    }

    fn keyed(&self, purpose: &[u8], covered: &[u8; 32]) -> [u8; 32] {
        let mut into = Context::new(&SHA256);
        part(&mut into, purpose);
        self.who.digest(&mut into);
        for text in [&self.resource, &self.protocol, &self.rule] {
            part(&mut into, text.as_bytes());
        }
        optional(&mut into, self.credential.as_deref());
        part(&mut into, covered);
        let terms = &self.terms;
        count(&mut into, terms.approvers.len());
        terms.approvers.iter().for_each(|group| part(&mut into, group.as_bytes()));
        for number in [u64::from(terms.count), terms.wait_ns, terms.ttl_ns, terms.uses.into()] {
            into.update(&number.to_le_bytes());
        }
        part(&mut into, terms.scope.label().as_bytes());
        let Terms { distinct_groups, reason, break_glass, estimate, .. } = *terms;
        into.update(&[distinct_groups, reason, break_glass, estimate].map(u8::from));
        terms.reveal.iter().for_each(|group| part(&mut into, group.as_bytes()));
        finish(into)
    }

    /// Whose share of the table it counts in.
    #[must_use]
    pub fn caller(&self) -> [u8; 32] {
        let mut into = Context::new(&SHA256);
        part(&mut into, self.who.iss.as_bytes());
        part(&mut into, self.who.sub.as_bytes());
        finish(into)
    }

    /// Why it is not taken.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), AskFault> {
        if let Some(fault) = self.terms.fault() {
            return Err(AskFault::Terms(fault));
        }
        let claims = [&self.asserted.node, &self.asserted.run, &self.asserted.thread];
        let names = [&self.resource, &self.protocol, &self.rule, &self.exchange];
        let groups = self.terms.approvers.iter().chain(&self.terms.reveal);
        let names = names.into_iter().chain(&self.credential).chain(groups);
        let short = names.chain(claims.into_iter().flatten()).all(|text| text.len() <= NAME_MAX);
        let reason = self.reason.as_deref().unwrap_or_default();
        if !short
            || !self.who.is_bounded()
            || self.summary.len() > SUMMARY_MAX
            || reason.len() > REASON_MAX
        {
            return Err(AskFault::TooLong);
        }
        if self.terms.break_glass && reason.trim().is_empty() {
            return Err(AskFault::NoReason);
        }
        Ok(())
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask")
            .field("resource", &self.resource)
            .field("rule", &self.rule)
            .field("generation", &self.generation)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}

/// Why an [`Ask`] is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AskFault {
    /// Its terms; the config lets no such rule in.
    Terms(TermsFault),
    /// A text is above its bound.
    TooLong,
    /// Break-glass without the caller's reason.
    NoReason,
}

/// Every part with its length before it, so that no two lists of parts have the same bytes.
fn part(into: &mut Context, bytes: &[u8]) {
    count(into, bytes.len());
    into.update(bytes);
}

fn count(into: &mut Context, count: usize) {
    into.update(&u64::try_from(count).unwrap_or(u64::MAX).to_le_bytes());
}

fn optional(into: &mut Context, text: Option<&str>) {
    into.update(&[u8::from(text.is_some())]);
    part(into, text.unwrap_or_default().as_bytes());
}

fn finish(context: Context) -> [u8; 32] {
    context.finish().as_ref().first_chunk().copied().unwrap_or_default()
}

/// Most bytes of a summary.
pub const SUMMARY_MAX: usize = 64 << 10;
/// Most bytes of a reason, of a caller's as of an approver's.
pub const REASON_MAX: usize = 1 << 10;
/// Most bytes of a name and of what the caller asserts.
const NAME_MAX: usize = 1 << 10;
/// Most bytes of all names of a party; more than a token has room for.
const PARTY_BYTES_MAX: usize = 16 << 10;
