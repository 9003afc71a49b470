//! One exchange whole: found by its id, told as facts and bodies, or step by step as it went by.

use super::row_json;
use super::shelf::{ArchiveError, Budget, Lane, Shelf};
use super::text::fields_json;
use super::transcript::Transcript;
use crate::base::{ExchangeId, time_text};
use crate::record::fields::{Reader, Tag};
use crate::record::reader::{Joiner, OwnedEntry};
use crate::record::summary::Summaries;
use crate::record::{Flags, Kind};
use serde_json::{Map, Value, json};
use std::ops::ControlFlow;
use std::path::Path;

/// The entries of one exchange.
#[derive(Debug, Default)]
pub struct Found {
    /// In their order, from the first.
    pub entries: Vec<OwnedEntry>,
    /// There are more than fit in the bound, or the time was up.
    pub cut: bool,
}

/// Looks for the exchange `id`, which began at about `began_ns` where that is known, and reads what was
/// recorded of it, at most `bytes_max` bytes of bodies. `None`: it is not in the record.
///
/// # Errors
/// [`ArchiveError`].
pub fn find(
    dir: &Path,
    id: ExchangeId,
    began_ns: Option<u64>,
    bytes_max: usize,
    mut budget: Budget,
) -> Result<Option<Found>, ArchiveError> {
    let shelf = Shelf::open(dir, &mut budget)?;
    let Some((lane, first)) = locate(&shelf, id, began_ns, &mut budget)? else { return Ok(None) };
    let (mut found, mut bytes, mut closed) = (Found::default(), 0usize, false);
    let mut joiner = Joiner::new();
    for piece in first..lane.pieces() {
        shelf.read(lane, piece, &mut budget, |entry| {
            if entry.meta.exchange != id {
                return ControlFlow::Continue(());
            }
            let Some(whole) = joiner.push(lane.worker, entry) else {
                return ControlFlow::Continue(());
            };
            closed |= whole.meta.kind == Kind::Close;
            if whole.meta.kind.is_body() {
                bytes = bytes.saturating_add(whole.body.len());
                if bytes > bytes_max {
                    // The facts behind it are told yet.
                    found.cut = true;
                    return ControlFlow::Continue(());
                }
            }
            found.entries.push(whole);
            if found.entries.len() >= ENTRIES_MAX {
                found.cut = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if closed || found.entries.len() >= ENTRIES_MAX {
            break;
        }
        if budget.is_spent() {
            found.cut = true;
            break;
        }
    }
    Ok(Some(found))
}

/// The lane that the exchange is in, and the piece that it begins in.
fn locate<'s>(
    shelf: &'s Shelf,
    id: ExchangeId,
    began_ns: Option<u64>,
    budget: &mut Budget,
) -> Result<Option<(&'s Lane, usize)>, ArchiveError> {
    let mut order: Vec<(&Lane, usize)> = shelf
        .lanes
        .iter()
        .flat_map(|lane| (0..lane.pieces()).map(move |piece| (lane, piece)))
        .collect();
    // Those first where it must be; else the newest first.
    order.sort_by_key(|(lane, piece)| {
        let begins = lane.begins(*piece);
        let near = began_ns.is_some_and(|ns| lane.at(ns) == *piece || lane.at(ns) + 1 == *piece);
        (!near, std::cmp::Reverse(begins))
    });
    for (lane, piece) in order {
        let Some(mut opened) = holds(shelf, lane, piece, id, budget)? else {
            if budget.is_spent() {
                return Err(ArchiveError::Spent);
            }
            continue;
        };
        // It may have begun in an earlier one.
        let (mut first, mut look) = (piece, piece);
        while let (false, Some(earlier)) = (opened || budget.is_spent(), look.checked_sub(1)) {
            look = earlier;
            if let Some(begins) = holds(shelf, lane, earlier, id, budget)? {
                (first, opened) = (earlier, begins);
            }
        }
        return Ok(Some((lane, first)));
    }
    Ok(None)
}

/// Whether a piece has entries of the exchange, and then whether its first is there.
fn holds(
    shelf: &Shelf,
    lane: &Lane,
    piece: usize,
    id: ExchangeId,
    budget: &mut Budget,
) -> Result<Option<bool>, ArchiveError> {
    let mut seen = None;
    shelf.read(lane, piece, budget, |entry| {
        if entry.meta.exchange != id {
            return ControlFlow::Continue(());
        }
        seen = Some(entry.meta.kind == Kind::Open);
        ControlFlow::Break(())
    })?;
    Ok(seen)
}

/// Whether bodies of the exchange are messages of PostgreSQL.
#[must_use]
pub fn is_database(entries: &[OwnedEntry]) -> bool {
    let facts = entries.iter().filter(|entry| !entry.meta.kind.is_raw());
    facts.into_iter().any(|entry| {
        Reader::find(&entry.body, Tag::Protocol).is_some_and(|field| field.value == b"postgres")
    })
}

/// One exchange: its row, the facts of each entry, and both directions as they were recorded.
#[must_use]
pub fn whole(found: &Found) -> Value {
    let entries = &found.entries;
    let mut summaries = Summaries::new();
    entries.iter().for_each(|entry| summaries.push(entry));
    let row = summaries.into_rows().into_iter().next().unwrap_or_default();
    let mut session = row_json(&row);
    let more = [
        ("statement", json!(row.statement.as_deref().map(|text| cut_text(text, TEXT_MAX).0))),
        ("sqlstate", json!(row.sqlstate)),
        ("rows", json!(row.rows)),
    ];
    if let Value::Object(object) = &mut session {
        object.extend(more.map(|(key, value)| (key.to_owned(), value)));
    }
    let start_ns = entries.first().map_or(0, |entry| entry.time_ns);
    let facts = entries.iter().filter(|entry| !entry.meta.kind.is_raw());
    let facts: Vec<Value> = facts
        .map(|entry| {
            json!({
                "at_ms": millis(entry, start_ns), "time": time_text(entry.time_ns),
                "kind": entry.meta.kind.label(), "sequence": entry.sequence,
                "worker": entry.worker, "fields": fields_json(&entry.body),
            })
        })
        .collect();
    json!({
        "session": session, "facts": facts, "cut": found.cut,
        "transcript": is_database(entries).then(|| transcript(entries)),
        "request": direction(entries, Kind::RequestHead, Kind::RequestBody, false),
        "response": direction(entries, Kind::ResponseHead, Kind::ResponseBody, true),
    })
}

/// Head and body of one direction.
fn direction(entries: &[OwnedEntry], head: Kind, body: Kind, to_caller: bool) -> Value {
    let (mut heads, mut bytes, mut len, mut masked) = (Vec::new(), Vec::new(), 0usize, false);
    for entry in entries {
        let data =
            entry.meta.kind == Kind::Data && entry.meta.flags.has(Flags::TO_CALLER) == to_caller;
        if entry.meta.kind == head {
            heads.extend_from_slice(&entry.body);
        } else if entry.meta.kind == body || data {
            len = len.saturating_add(entry.body.len());
            let room = TEXT_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(entry.body.get(..room).unwrap_or(&entry.body));
        } else {
            continue;
        }
        masked |= entry.meta.flags.has(Flags::MASKED);
    }
    let cut = bytes.len() < len;
    let is_text = match std::str::from_utf8(&bytes) {
        Ok(_) => true,
        // A character that the bound cut in two.
        Err(error) => cut && error.error_len().is_none(),
    };
    json!({
        "head": String::from_utf8_lossy(&heads).trim_end(), "bytes": len, "cut": cut,
        "masked": masked, "text": is_text.then(|| String::from_utf8_lossy(&bytes)),
        "hex": (!is_text).then(|| hex(&bytes)),
    })
}

fn transcript(entries: &[OwnedEntry]) -> Value {
    let mut text = Vec::new();
    let mut transcript = Transcript::default();
    for entry in entries.iter().filter(|entry| entry.meta.kind.is_body()) {
        // Writing to memory does not fail.
        let _ = transcript.entry(entry, &mut text);
        if text.len() > TEXT_MAX {
            break;
        }
    }
    let _ = transcript.finish(&mut text);
    let text = String::from_utf8_lossy(&text);
    let (text, cut) = cut_text(&text, TEXT_MAX);
    json!({ "text": text, "cut": cut })
}

/// The steps of an exchange behind the entry `after`, with their times: what went by, and what the
/// gateway did. `next` is what to ask for next.
#[must_use]
pub fn replay(found: &Found, after: Option<u64>) -> Value {
    let start_ns = found.entries.first().map_or(0, |entry| entry.time_ns);
    let mut database = is_database(&found.entries).then(Transcript::default);
    let (mut steps, mut len, mut next) = (Vec::new(), 0usize, None);
    for entry in &found.entries {
        let kind = entry.meta.kind;
        // A transcript needs what stood before.
        let told = match database.as_mut().filter(|_| kind.is_body()) {
            Some(transcript) => {
                let mut text = Vec::new();
                let _ = transcript.entry(entry, &mut text);
                Some(text)
            }
            None => None,
        };
        if after.is_some_and(|after| entry.sequence <= after) {
            continue;
        }
        if len > STEPS_LEN_MAX || steps.len() >= STEPS_MAX {
            break;
        }
        let mut step = Map::new();
        let mut put = |key: &str, value: Value| step.insert(key.to_owned(), value);
        put("at_ms", json!(millis(entry, start_ns)));
        put("kind", json!(kind.label()));
        put("sequence", json!(entry.sequence));
        put("masked", json!(entry.meta.flags.has(Flags::MASKED)));
        put("side", json!(side(entry)));
        if kind.is_raw() {
            let text = told.as_deref().unwrap_or(&entry.body);
            let text = String::from_utf8_lossy(text);
            let (text, cut) = cut_text(&text, STEP_LEN_MAX);
            len = len.saturating_add(text.len());
            put("bytes", json!(entry.body.len()));
            put("cut", json!(cut));
            put("text", json!(text));
        } else {
            put("fields", fields_json(&entry.body));
        }
        next = Some(entry.sequence);
        steps.push(Value::Object(step));
    }
    let last = found.entries.last().map(|entry| entry.sequence);
    json!({ "steps": steps, "next": next.filter(|_| next != last), "cut": found.cut })
}

/// Who an entry is of: the caller, the upstream, or the gateway.
fn side(entry: &OwnedEntry) -> &'static str {
    match entry.meta.kind {
        Kind::RequestHead | Kind::RequestBody => "caller",
        Kind::ResponseHead | Kind::ResponseBody => "upstream",
        Kind::Data if entry.meta.flags.has(Flags::TO_CALLER) => "upstream",
        Kind::Data => "caller",
        _ => "gateway",
    }
}

fn millis(entry: &OwnedEntry, start_ns: u64) -> f64 {
    (entry.time_ns.saturating_sub(start_ns) / 1_000) as f64 / 1_000.0
}

/// The beginning of a text, and whether anything is left out.
fn cut_text(text: &str, max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(max.min(text.len()));
    (text.get(..end).unwrap_or_default(), end < text.len())
}

fn hex(bytes: &[u8]) -> String {
    let shown = bytes.get(..HEX_MAX).unwrap_or(bytes);
    shown.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Entries of one exchange that are told.
const ENTRIES_MAX: usize = 50_000;
/// Of one body, what is told.
const TEXT_MAX: usize = 512 << 10;
/// Of one that is no text.
const HEX_MAX: usize = 2 << 10;
/// Steps of one answer, and bytes of their texts.
const STEPS_MAX: usize = 2_000;
/// See [`STEPS_MAX`].
const STEPS_LEN_MAX: usize = 1 << 20;
/// Of one step.
const STEP_LEN_MAX: usize = 128 << 10;
