//! What happened, a line for each exchange: entries of a worker folded into rows.

use std::collections::HashMap;

use crate::base::{ConnectionId, ExchangeId};
use crate::record::Kind;
use crate::record::fields::{Field, Reader, Tag};
use crate::record::gap::Gap;
use crate::record::reader::OwnedEntry;

/// One exchange, as far as the record tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The exchange: the request id that the caller saw.
    pub id: u128,
    /// Whose worker.
    pub worker: u32,
    /// The caller's connection.
    pub connection: u64,
    /// Hybrid clock of its first entry, nanoseconds.
    pub start_ns: u64,
    /// Hybrid clock of its last entry.
    pub last_ns: u64,
    /// Whether its first entry is among those that were read.
    pub opened: bool,
    /// Whether a close was recorded.
    pub closed: bool,
    /// Issuer of the caller's token.
    pub iss: Option<String>,
    /// Subject.
    pub sub: Option<String>,
    /// Actors, outermost first.
    pub actors: Vec<String>,
    /// Groups.
    pub groups: Vec<String>,
    /// Client id.
    pub client_id: Option<String>,
    /// Resource.
    pub resource: Option<String>,
    /// Listener.
    pub listener: Option<String>,
    /// Protocol.
    pub protocol: Option<String>,
    /// Rule that decided.
    pub rule: Option<String>,
    /// The decision.
    pub decision: Option<String>,
    /// Label of the refusal.
    pub refusal: Option<String>,
    /// Request method.
    pub method: Option<String>,
    /// Path after the resource segment.
    pub path: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Statement text, the first one's.
    pub statement: Option<String>,
    /// SQLSTATE of an error that it ended with.
    pub sqlstate: Option<String>,
    /// Rows that went to the caller.
    pub rows: Option<u64>,
    /// Credential that was put in.
    pub credential: Option<String>,
    /// Address of the caller.
    pub peer: Option<String>,
    /// Status of the answer.
    pub status: Option<u64>,
    /// Node that the caller said it runs.
    pub node: Option<String>,
    /// Run that it said it is.
    pub run: Option<String>,
    /// Thread that it said it belongs to.
    pub thread: Option<String>,
    /// Body bytes from the caller: as the close says, else as recorded.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    /// How many values were masked.
    pub masked: u64,
    /// Entries that were not recorded, for want of room.
    pub gap_entries: u64,
    /// Their body bytes.
    pub gap_bytes: u64,
    /// How it ended or failed.
    pub ending: Option<String>,
}

impl Row {
    /// Takes over what later entries of the same exchange told, which were read apart.
    pub fn go_on(&mut self, later: Self) {
        let totals = later.closed;
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        for (sum, more) in
            [(&mut self.bytes_in, later.bytes_in), (&mut self.bytes_out, later.bytes_out)]
        {
            // A close tells the whole.
            if totals { *sum = more } else { add(sum, more) }
        }
        add(&mut self.masked, later.masked);
        add(&mut self.gap_entries, later.gap_entries);
        add(&mut self.gap_bytes, later.gap_bytes);
        self.last_ns = self.last_ns.max(later.last_ns);
        self.closed |= later.closed;
        for (list, more) in [(&mut self.actors, later.actors), (&mut self.groups, later.groups)] {
            for one in more {
                if !list.contains(&one) {
                    list.push(one);
                }
            }
        }
        let newer = |old: &mut Option<String>, new: Option<String>| {
            if new.is_some() {
                *old = new;
            }
        };
        newer(&mut self.iss, later.iss);
        newer(&mut self.sub, later.sub);
        newer(&mut self.client_id, later.client_id);
        newer(&mut self.resource, later.resource);
        newer(&mut self.listener, later.listener);
        newer(&mut self.protocol, later.protocol);
        newer(&mut self.rule, later.rule);
        newer(&mut self.decision, later.decision);
        newer(&mut self.refusal, later.refusal);
        newer(&mut self.method, later.method);
        newer(&mut self.path, later.path);
        newer(&mut self.model, later.model);
        newer(&mut self.sqlstate, later.sqlstate);
        newer(&mut self.credential, later.credential);
        newer(&mut self.peer, later.peer);
        newer(&mut self.node, later.node);
        newer(&mut self.run, later.run);
        newer(&mut self.thread, later.thread);
        newer(&mut self.ending, later.ending);
        if self.statement.is_none() {
            self.statement = later.statement;
        }
        self.rows = later.rows.or(self.rows);
        self.status = later.status.or(self.status);
    }

    fn take(&mut self, kind: Kind, field: &Field<'_>) {
        let Some(tag) = field.tag() else { return };
        let text = |to: &mut Option<String>| *to = Some(field.as_text().into_owned());
        match tag {
            Tag::Iss => text(&mut self.iss),
            Tag::Sub => text(&mut self.sub),
            Tag::ClientId => text(&mut self.client_id),
            Tag::Node => text(&mut self.node),
            Tag::Run => text(&mut self.run),
            Tag::Thread => text(&mut self.thread),
            Tag::Resource => text(&mut self.resource),
            Tag::Listener => text(&mut self.listener),
            Tag::Protocol => text(&mut self.protocol),
            Tag::Rule => text(&mut self.rule),
            Tag::Decision => text(&mut self.decision),
            Tag::Refusal => text(&mut self.refusal),
            Tag::Method => text(&mut self.method),
            Tag::Path => text(&mut self.path),
            Tag::Model => text(&mut self.model),
            Tag::Statement if self.statement.is_none() => text(&mut self.statement),
            Tag::SqlState => text(&mut self.sqlstate),
            Tag::Rows => self.rows = field.as_number(),
            Tag::Credential => text(&mut self.credential),
            Tag::Peer => text(&mut self.peer),
            Tag::Ending | Tag::Failure => text(&mut self.ending),
            Tag::Actor => {
                let actor = field.as_text().into_owned();
                if !self.actors.contains(&actor) {
                    self.actors.push(actor);
                }
            }
            Tag::Group => {
                let group = field.as_text().into_owned();
                if !self.groups.contains(&group) {
                    self.groups.push(group);
                }
            }
            Tag::Status => self.status = field.as_number(),
            Tag::BytesIn => self.bytes_in = field.as_number().unwrap_or(0),
            Tag::BytesOut => self.bytes_out = field.as_number().unwrap_or(0),
            Tag::Count if kind == Kind::MaskEvents => {
                self.masked = self.masked.saturating_add(field.as_number().unwrap_or(0));
            }
            _ => {}
        }
    }
}

/// Folds entries into rows. Feed the entries of each worker in their order.
#[derive(Debug, Default)]
pub struct Summaries {
    rows: HashMap<u128, Row>,
    /// What an open entry said about a connection as a whole.
    connections: HashMap<(u32, ConnectionId), Row>,
}

impl Summaries {
    /// Without rows.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next whole entry.
    pub fn push(&mut self, entry: &OwnedEntry) {
        let meta = &entry.meta;
        let connection = (entry.worker, meta.connection);
        if meta.exchange == ExchangeId(0) {
            match meta.kind {
                Kind::Open => {
                    let mut row = Row::default();
                    read_fields(&mut row, entry);
                    self.connections.insert(connection, row);
                }
                Kind::Close => {
                    self.connections.remove(&connection);
                }
                _ => {}
            }
            return;
        }
        let row = self.rows.entry(meta.exchange.0).or_insert_with(|| Row {
            id: meta.exchange.0,
            worker: entry.worker,
            connection: meta.connection.0,
            start_ns: entry.time_ns,
            ..self.connections.get(&connection).cloned().unwrap_or_default()
        });
        row.last_ns = entry.time_ns;
        let len = entry.body.len() as u64;
        match meta.kind {
            Kind::RequestBody => row.bytes_in += len,
            Kind::ResponseBody => row.bytes_out += len,
            Kind::Data if meta.flags.has(crate::record::Flags::TO_CALLER) => row.bytes_out += len,
            Kind::Data => row.bytes_in += len,
            Kind::Gap => {
                let gap = Gap::read(&entry.body);
                row.gap_entries = row.gap_entries.saturating_add(gap.entries);
                row.gap_bytes = row.gap_bytes.saturating_add(gap.bytes());
                // A close counts them already.
                if !row.closed {
                    row.bytes_in = row.bytes_in.saturating_add(gap.bytes_in);
                    row.bytes_out = row.bytes_out.saturating_add(gap.bytes_out);
                }
            }
            _ => read_fields(row, entry),
        }
        row.opened |= meta.kind == Kind::Open;
        row.closed |= meta.kind == Kind::Close;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as they stand, in no order.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// Lets go of the rows of exchanges that have ended.
    pub fn forget_closed(&mut self) {
        self.rows.retain(|_, row| !row.closed);
    }

    /// The rows, oldest first.
    #[must_use]
    pub fn into_rows(self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.rows.into_values().collect();
        rows.sort_by_key(|row| (row.start_ns, row.id));
        rows
    }
}

fn read_fields(row: &mut Row, entry: &OwnedEntry) {
    for field in Reader::new(&entry.body).map_while(Result::ok) {
        row.take(entry.meta.kind, &field);
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::record::EntryMeta;
    use crate::record::fields::Writer;

    fn entry(sequence: u64, kind: Kind, exchange: u128, body: Vec<u8>) -> OwnedEntry {
        let meta = EntryMeta::new(kind, ConnectionId(4), ExchangeId(exchange));
        OwnedEntry { worker: 0, sequence, time_ns: 100 + sequence, meta, body }
    }

    #[test]
    fn rows_take_from_connection_heads_decisions_and_bodies() {
        let mut body = Vec::new();
        let mut all = Summaries::new();
        Writer::new(&mut body).text(Tag::Peer, "10.0.0.1:5").text(Tag::Listener, "api");
        all.push(&entry(1, Kind::Open, 0, body.clone()));
        Writer::new(&mut body)
            .text(Tag::Sub, "ana")
            .text(Tag::Actor, "agent")
            .text(Tag::Decision, "permit");
        all.push(&entry(2, Kind::Decision, 9, body.clone()));
        all.push(&entry(3, Kind::RequestBody, 9, vec![1; 10]));
        all.push(&entry(4, Kind::ResponseBody, 9, vec![1; 20]));
        Gap { entries: 2, bytes_in: 5, bytes_out: 7 }.write(&mut body);
        all.push(&entry(5, Kind::Gap, 9, body.clone()));
        Writer::new(&mut body).text(Tag::Detector, "email").number(Tag::Count, 3);
        all.push(&entry(5, Kind::MaskEvents, 9, body.clone()));
        Writer::new(&mut body).number(Tag::Status, 200).number(Tag::BytesOut, 25);
        all.push(&entry(6, Kind::Close, 9, body));
        let rows = all.into_rows();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!((row.start_ns, row.last_ns, row.closed), (102, 106, true));
        assert_eq!((row.bytes_in, row.bytes_out, row.masked), (15, 25, 3));
        assert_eq!((row.gap_entries, row.gap_bytes), (2, 12));
        assert_eq!((row.status, row.actors.len()), (Some(200), 1));
        assert_eq!(row.peer.as_deref(), Some("10.0.0.1:5"));
        assert_eq!(row.sub.as_deref(), Some("ana"));
    }
}
