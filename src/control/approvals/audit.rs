//! What happens to requests, in the record: [`Kind::Admin`] entries under the request's id.

use crate::base::{ApprovalId, ConnectionId, ExchangeId, Now};
use crate::policy::approval::{Act, ActFault, Ask, By, Entry, Party, Request};
use crate::record::fields::{Tag, Writer};
use crate::record::{EntryMeta, Full, Journal, Kind};
use crate::runtime::map::RingJournal;
use std::time::{Duration, Instant};

/// The owner's journal. Without one (in tests) nothing is recorded.
#[derive(Debug)]
pub(super) struct Audit {
    journal: Option<RingJournal>,
    fields: Vec<u8>,
}

impl Audit {
    pub(super) fn new(journal: Option<RingJournal>) -> Self {
        Self { journal, fields: Vec::new() }
    }

    /// Records `entry`; of `request`, where it is not forgotten already.
    pub(super) fn record(
        &mut self,
        entry: &Entry,
        request: Option<&Request>,
        now: Now,
    ) -> Result<(), Full> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        fields(entry, request, &mut Writer::new(&mut self.fields));
        // A burst of long questions is more than the ring holds; the drain makes room meanwhile.
        let until = Instant::now() + ROOM_WAIT;
        loop {
            match append(journal, entry.id, &self.fields, now) {
                Err(Full) if Instant::now() < until => std::thread::sleep(ROOM_PAUSE),
                done => return done,
            }
        }
    }

    /// Records what a person tried and may not. It takes no effect, so that it need not be there.
    pub(super) fn refused(&mut self, id: ApprovalId, who: &Party, fault: ActFault, now: Now) {
        let Some(journal) = &mut self.journal else { return };
        let mut into = Writer::new(&mut self.fields);
        into.text(Tag::Approval, &id.to_string()).text(Tag::Note, "refused");
        operator(Some((&who.iss, &who.sub)), &mut into);
        into.text(Tag::Refusal, fault.label());
        if append(journal, id, &self.fields, now).is_err() {
            tracing::warn!(approval = %id, "a refused act was not recorded: there is no room");
        }
    }
}

fn append(journal: &mut RingJournal, id: ApprovalId, fields: &[u8], now: Now) -> Result<(), Full> {
    let meta = EntryMeta::new(Kind::Admin, ConnectionId(0), ExchangeId(id.0));
    journal.append(meta, std::iter::once(fields), now).map(drop)
}

fn fields(entry: &Entry, request: Option<&Request>, into: &mut Writer<'_>) {
    into.text(Tag::Approval, &entry.id.to_string()).text(Tag::Note, entry.act.label());
    if let Some(Request { ask, .. }) = request {
        into.text(Tag::Rule, &ask.rule)
            .text(Tag::Resource, &ask.resource)
            .text(Tag::Iss, &ask.who.iss)
            .text(Tag::Sub, &ask.who.sub);
    }
    match &entry.act {
        Act::Asked { ask, .. } => asked(ask, into),
        Act::Voted { vote, state, .. } => {
            operator(Some((&vote.iss, &vote.sub)), into);
            let said = if vote.approve { "approve" } else { "deny" };
            into.text(Tag::Decision, said).text(Tag::Ending, state.label());
            into.bytes(Tag::Shown, &vote.digest);
            into.maybe(Tag::Reason, vote.reason.as_deref()).maybe(Tag::Via, vote.via.as_deref());
        }
        Act::Used { number } => {
            into.number(Tag::Count, u64::from(*number));
        }
        Act::Cancelled { by, why } | Act::Revoked { by, why } => {
            match by {
                By::Person { iss, sub } => operator(Some((iss, sub)), into),
                By::Caller => {
                    into.text(Tag::Operator, "caller");
                }
                By::Policy => {
                    into.text(Tag::Operator, "policy");
                }
                By::Script => operator(None, into),
            }
            into.maybe(Tag::Reason, why.as_deref());
        }
        Act::Reviewed { review } => {
            operator(Some((&review.iss, &review.sub)), into);
            into.maybe(Tag::Reason, review.reason.as_deref());
        }
        Act::Revealed { look } => operator(Some((&look.iss, &look.sub)), into),
        Act::Expired {} | Act::Kept { .. } => {}
    }
}

fn asked(ask: &Ask, into: &mut Writer<'_>) {
    ask.who.actors.iter().for_each(|actor| {
        into.text(Tag::Actor, actor);
    });
    into.maybe(Tag::ClientId, ask.who.client_id.as_deref())
        .text(Tag::Protocol, &ask.protocol)
        .text(Tag::Level, ask.terms.scope.label())
        .maybe(Tag::Credential, ask.credential.as_deref())
        .number(Tag::PolicyGeneration, ask.generation)
        .bytes(Tag::Fingerprint, &ask.fingerprint)
        .maybe(Tag::Reason, ask.reason.as_deref())
        .bytes(Tag::Statement, ask.summary.as_bytes());
}

/// Who acted: `sub iss` of a token; without one, whoever holds the admin token.
fn operator(who: Option<(&str, &str)>, into: &mut Writer<'_>) {
    match who {
        Some((iss, sub)) => into.text(Tag::Operator, &format!("{sub} {iss}")),
        None => into.text(Tag::Operator, "admin token"),
    };
}

/// How long one entry waits for room in the ring before it is given up.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// How often it is tried meanwhile; the drain goes round every few milliseconds.
const ROOM_PAUSE: Duration = Duration::from_millis(2);
