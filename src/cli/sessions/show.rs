//! Everything that one session recorded, entry by entry.

use super::replay::{Replay, write_body};
use super::{entries_of, finish, missing, unwritten};
use crate::control::archive::{
    Transcript, clean, field_name, field_value, fields_json, is_database, time_text,
};
use crate::record::Flags;
use crate::record::fields::Reader;
use crate::record::reader::OwnedEntry;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::path::Path;

/// Prints everything that one session recorded. Returns 1 where it is not in the record.
pub fn show(
    data: &Path,
    id: &str,
    as_json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let found = entries_of(data, id, errors);
    let outcome = found.and_then(|entries| {
        let Some(first) = entries.first() else { return missing(id, errors) };
        let mut transcript = is_database(&entries).then(Transcript::default);
        for entry in &entries {
            if as_json {
                writeln!(out, "{}", entry_json(entry)).map_err(unwritten)?;
            } else {
                show_entry(entry, first.time_ns, &mut transcript, out).map_err(unwritten)?;
            }
        }
        if let (Some(transcript), false) = (&mut transcript, as_json) {
            transcript.finish(out).map_err(unwritten)?;
        }
        Ok(0)
    });
    finish(outcome, errors)
}

fn show_entry(
    entry: &OwnedEntry,
    start_ns: u64,
    transcript: &mut Option<Transcript>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let micros = entry.time_ns.saturating_sub(start_ns) / 1_000;
    let masked = if entry.meta.flags.has(Flags::MASKED) { " masked" } else { "" };
    writeln!(
        out,
        "+{:>6}.{:03} ms  {:<15} worker {} sequence {}, {} bytes{masked}",
        micros / 1_000,
        micros % 1_000,
        entry.meta.kind.label(),
        entry.worker,
        entry.sequence,
        entry.body.len(),
    )?;
    if let (Some(transcript), true) = (transcript.as_mut(), entry.meta.kind.is_raw()) {
        return transcript.entry(entry, out);
    }
    if entry.meta.kind.is_raw() {
        write_body(&entry.body, Replay::default(), out)?;
        return if entry.body.ends_with(b"\n") { Ok(()) } else { writeln!(out) };
    }
    for field in Reader::new(&entry.body) {
        let Ok(field) = field else { return writeln!(out, "    (fields are damaged)") };
        match field_value(&field) {
            Value::String(text) => {
                let mut lines = text.lines();
                writeln!(out, "    {}: {}", field_name(&field), clean(lines.next().unwrap_or("")))?;
                for line in lines {
                    writeln!(out, "        {}", clean(line))?;
                }
            }
            value => writeln!(out, "    {}: {value}", field_name(&field))?,
        }
    }
    Ok(())
}

fn entry_json(entry: &OwnedEntry) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("time", json!(time_text(entry.time_ns)));
    put("time_ns", json!(entry.time_ns));
    put("worker", json!(entry.worker));
    put("sequence", json!(entry.sequence));
    put("kind", json!(entry.meta.kind.label()));
    put("request_id", json!(entry.meta.exchange.to_string()));
    put("masked", json!(entry.meta.flags.has(Flags::MASKED)));
    if entry.meta.kind.is_raw() {
        match std::str::from_utf8(&entry.body) {
            Ok(text) => put("body", json!(text)),
            Err(_) => put("body_base64", json!(STANDARD.encode(&entry.body))),
        };
        return Value::Object(object);
    }
    put("fields", fields_json(&entry.body));
    Value::Object(object)
}
