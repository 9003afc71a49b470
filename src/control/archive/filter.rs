//! Which exchanges are meant, and how one is told.

use crate::base::{ExchangeId, time_text};
use crate::record::summary::Row;
use serde_json::{Value, json};

/// Which sessions to list. Empty: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Subject of the caller.
    pub caller: Option<String>,
    /// Resource name.
    pub resource: Option<String>,
    /// Decision, or label of the refusal.
    pub decision: Option<String>,
    /// Started at or after, wall nanoseconds.
    pub since_ns: Option<u64>,
    /// Started before, wall nanoseconds.
    pub until_ns: Option<u64>,
    /// Only the newest of these; `None`: all.
    pub newest: Option<usize>,
    /// Words, each of which stands in what the row tells, in any case of letters.
    pub words: Vec<String>,
}

impl Filter {
    /// Whether `row` is meant.
    #[must_use]
    pub fn takes(&self, row: &Row) -> bool {
        let same = |want: &Option<String>, is: &Option<String>| want.is_none() || want == is;
        same(&self.caller, &row.sub)
            && same(&self.resource, &row.resource)
            && (same(&self.decision, &row.decision) || same(&self.decision, &row.refusal))
            && self.since_ns.is_none_or(|since| row.start_ns >= since)
            && self.until_ns.is_none_or(|until| row.start_ns < until)
            && (self.words.is_empty() || self.finds(row))
    }

    fn finds(&self, row: &Row) -> bool {
        let texts = [
            &row.sub,
            &row.client_id,
            &row.resource,
            &row.rule,
            &row.decision,
            &row.refusal,
            &row.method,
            &row.path,
            &row.model,
            &row.statement,
            &row.sqlstate,
            &row.node,
            &row.run,
            &row.thread,
            &row.peer,
            &row.credential,
        ];
        let mut all = ExchangeId(row.id).to_string();
        let status = row.status.map(|status| status.to_string());
        for text in texts.into_iter().flatten().chain(&status).chain(&row.actors) {
            // No word spans two of them.
            all.push('\n');
            all.push_str(&text.to_lowercase());
        }
        self.words.iter().all(|word| all.contains(&word.to_lowercase()))
    }
}

/// A row with the keys that scripts rely on.
#[must_use]
pub fn row_json(row: &Row) -> Value {
    let id = ExchangeId(row.id).to_string();
    json!({
        "id": id, "start": time_text(row.start_ns),
        "end": row.closed.then(|| time_text(row.last_ns)),
        "iss": row.iss, "sub": row.sub, "actors": row.actors, "client_id": row.client_id,
        "node": row.node, "run": row.run, "thread": row.thread,
        "resource": row.resource, "listener": row.listener, "protocol": row.protocol,
        "rule": row.rule, "decision": row.decision, "refusal": row.refusal,
        "method": row.method, "path": row.path, "model": row.model,
        "credential": row.credential, "peer": row.peer, "status": row.status,
        "bytes_in": row.bytes_in, "bytes_out": row.bytes_out, "masked": row.masked,
        "ending": row.ending, "gap_entries": row.gap_entries, "gap_bytes": row.gap_bytes,
        "request_ids": [id],
    })
}
