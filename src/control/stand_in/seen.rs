//! What came to the stand-in, so that a test can ask which credential arrived.

use super::http::Request;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The last requests and the count of all.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    count: u64,
    cut: u64,
    last: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    method: String,
    path: String,
    head: Vec<u8>,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    /// Keeps `request` and returns its number.
    pub(super) fn add(&self, request: &Request) -> u64 {
        let mut log = self.log();
        log.count += 1;
        if log.last.len() >= KEPT {
            log.last.pop_front();
        }
        let body = request.body.get(..request.body.len().min(BODY_KEPT)).unwrap_or_default();
        log.last.push_back(Entry {
            method: request.method.clone(),
            path: request.path.clone(),
            head: request.head.clone(),
            fields: request.fields.clone(),
            body: body.to_vec(),
        });
        log.count
    }

    /// Counts an answer whose reader went away.
    pub(super) fn add_cut(&self) {
        self.log().cut += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.log().count
    }

    pub(super) fn last_head(&self) -> Option<Vec<u8>> {
        self.log().last.back().map(|entry| entry.head.clone())
    }

    /// `{"requests": N, "cut": N, "last": {...} | null}`.
    pub(super) fn last(&self) -> String {
        let log = self.log();
        json!({"requests": log.count, "cut": log.cut, "last": log.last.back().map(Entry::json)})
            .to_string()
    }

    /// `{"requests": N, "cut": N, "all": [...]}`, oldest first, the last [`KEPT`] of them.
    pub(super) fn all(&self) -> String {
        let log = self.log();
        let all: Vec<Value> = log.last.iter().map(Entry::json).collect();
        json!({"requests": log.count, "cut": log.cut, "all": all}).to_string()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn json(&self) -> Value {
        let mut fields = Map::new();
        for (name, value) in &self.fields {
            fields.insert(name.clone(), Value::from(value.as_str()));
        }
        json!({
            "method": self.method,
            "path": self.path,
            "head": String::from_utf8_lossy(&self.head),
            "fields": fields,
            "body": String::from_utf8_lossy(&self.body),
        })
    }
}

/// Requests that are kept.
const KEPT: usize = 512;
/// Bytes of a body that are kept.
const BODY_KEPT: usize = 16 << 10;
