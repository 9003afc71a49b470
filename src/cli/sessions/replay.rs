//! A session on the terminal, as it went by.

use super::{entries_of, finish, missing, unwritten};
use crate::control::archive::{Transcript, clean, escape, field_name, field_value, is_database};
use crate::record::Kind;
use crate::record::fields::{Reader, Tag};
use crate::record::reader::OwnedEntry;
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// How to replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// Wait as long as the answer's parts did, divided by this.
    pub speed: Option<f64>,
    /// Bytes as they are; else what would steer a terminal is escaped.
    pub raw: bool,
}

/// Prints request and answer of one session as they went by. Returns 1 where it is not there.
pub fn replay(
    data: &Path,
    id: &str,
    how: Replay,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let found = entries_of(data, id, errors);
    let outcome = found.and_then(|entries| {
        if entries.is_empty() {
            return missing(id, errors);
        }
        replay_entries(&entries, how, out).map_err(unwritten)?;
        Ok(0)
    });
    finish(outcome, errors)
}

fn replay_entries(entries: &[OwnedEntry], how: Replay, out: &mut dyn Write) -> io::Result<()> {
    let mut before = entries.first().map_or(0, |entry| entry.time_ns);
    let mut in_body = false;
    let mut transcript = is_database(entries).then(Transcript::default).filter(|_| !how.raw);
    for entry in entries {
        if let Some(speed) = how.speed
            && speed > 0.0
        {
            let ns = entry.time_ns.saturating_sub(before) as f64 / speed;
            out.flush()?;
            std::thread::sleep(Duration::from_nanos(ns as u64));
        }
        before = entry.time_ns;
        let head = matches!(entry.meta.kind, Kind::RequestHead | Kind::ResponseHead);
        let raw = entry.meta.kind.is_raw() && !head;
        if let (Some(transcript), true) = (&mut transcript, raw) {
            transcript.entry(entry, out)?;
            continue;
        }
        if in_body && !raw {
            writeln!(out)?;
        }
        in_body = raw;
        match entry.meta.kind {
            Kind::RequestHead | Kind::ResponseHead => replay_head(entry, how, out)?,
            Kind::RequestBody | Kind::ResponseBody | Kind::Data => {
                write_body(&entry.body, how, out)?;
            }
            Kind::Open | Kind::Decision | Kind::Error | Kind::Close | Kind::Gap => {
                note(entry, out)?
            }
            _ => {}
        }
    }
    if let Some(transcript) = &mut transcript {
        transcript.finish(out)?;
    }
    if in_body {
        writeln!(out)?;
    }
    out.flush()
}

/// A head and the blank line behind it, which a recorded request head is without.
fn replay_head(entry: &OwnedEntry, how: Replay, out: &mut dyn Write) -> io::Result<()> {
    write_body(&entry.body, how, out)?;
    if memchr::memmem::find(&entry.body, b"\r\n\r\n").is_some() { Ok(()) } else { writeln!(out) }
}

/// A line about what the gateway did, marked so that it is not taken for traffic.
fn note(entry: &OwnedEntry, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "-- {}", entry.meta.kind.label())?;
    for field in Reader::new(&entry.body).map_while(Result::ok) {
        let gap = entry.meta.kind == Kind::Gap;
        let wanted = matches!(
            field.tag(),
            Some(Tag::Count | Tag::BytesIn | Tag::BytesOut) if gap
        ) || matches!(
            field.tag(),
            Some(Tag::Sub | Tag::Rule | Tag::Decision | Tag::Refusal | Tag::Failure | Tag::Ending)
                | Some(Tag::Status | Tag::TotalNs)
        );
        if wanted {
            match field_value(&field) {
                Value::String(text) => write!(out, " {}={}", field_name(&field), clean(&text))?,
                value => write!(out, " {}={value}", field_name(&field))?,
            }
        }
    }
    writeln!(out)
}

/// Recorded bytes may hold what steers a terminal; only line ends and tabs pass.
pub(super) fn write_body(body: &[u8], how: Replay, out: &mut dyn Write) -> io::Result<()> {
    if how.raw {
        return out.write_all(body);
    }
    out.write_all(escape(&String::from_utf8_lossy(body), true).as_bytes())
}
