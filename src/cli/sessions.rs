//! `weirgate sessions list|show|replay`: what the record tells.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::base::ExchangeId;
use crate::control::drain::walk_folder;
use crate::record::fields::{Field, Reader, Tag};
use crate::record::reader::{Joiner, OwnedEntry, merge};
use crate::record::summary::{Row, Summaries};
use crate::record::{Flags, Kind};

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
    }
}

/// How to replay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// Wait as long as the answer's parts did, divided by this.
    pub speed: Option<f64>,
    /// Bytes as they are; else what would steer a terminal is escaped.
    pub raw: bool,
}

type Outcome = Result<u8, String>;

fn finish(outcome: Outcome, errors: &mut dyn Write) -> u8 {
    outcome.unwrap_or_else(|text| {
        // Nothing is left to do where even this cannot be written.
        let _ = writeln!(errors, "error: {text}");
        2
    })
}

fn unwritten(e: io::Error) -> String {
    format!("cannot write the answer: {e}")
}

/// The rows of a data folder that `filter` takes, oldest first, and segments that are damaged.
///
/// # Errors
/// What to tell the user.
pub fn rows(data: &Path, filter: &Filter) -> Result<(Vec<Row>, Vec<String>), String> {
    let mut all = Summaries::new();
    let bad = each_whole(data, |entry| all.push(&entry))?;
    let mut rows = all.into_rows();
    rows.retain(|row| filter.takes(row));
    if let Some(newest) = filter.newest {
        rows.drain(..rows.len().saturating_sub(newest));
    }
    Ok((rows, bad))
}

/// Hands every entry of a record to `each`, parts joined, worker by worker in their order. Returns
/// the files that could not be read to their end.
///
/// # Errors
/// The folder cannot be read.
pub fn each_whole(data: &Path, mut each: impl FnMut(OwnedEntry)) -> Result<Vec<String>, String> {
    let mut joiner = (0, Joiner::new());
    walk_folder(data, |worker, entry| {
        if joiner.0 != worker {
            joiner = (worker, Joiner::new());
        }
        if let Some(whole) = joiner.1.push(worker, entry) {
            each(whole);
        }
    })
    .map_err(|e| format!("cannot read the record in {}: {e}; pass --data DIR", data.display()))
}

fn warn(bad: &[String], errors: &mut dyn Write) {
    for name in bad {
        let _ = writeln!(errors, "warning: {name} is damaged; `weirgate verify` names the place");
    }
}

/// Prints a line for each session. Returns the exit code.
pub fn list(
    data: &Path,
    filter: &Filter,
    as_json: bool,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let outcome = rows(data, filter).and_then(|(rows, bad)| {
        warn(&bad, errors);
        print_rows(&rows, as_json, out).map_err(unwritten)?;
        Ok(0)
    });
    finish(outcome, errors)
}

fn print_rows(rows: &[Row], as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        for row in rows {
            writeln!(out, "{}", row_json(row))?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:<32} {:<24} {:<20} {:<16} {:<8} {:<20} {:>6} {:>10} {:>10}",
        "ID", "START", "CALLER", "RESOURCE", "DECISION", "RULE", "STATUS", "IN", "OUT"
    )?;
    let or = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
    for row in rows {
        let status = row.status.map_or("-".to_owned(), |status| status.to_string());
        writeln!(
            out,
            "{:<32} {:<24} {:<20} {:<16} {:<8} {:<20} {:>6} {:>10} {:>10}",
            ExchangeId(row.id).to_string(),
            time_text(row.start_ns),
            or(&row.sub),
            or(&row.resource),
            or(&row.decision),
            or(&row.rule),
            status,
            row.bytes_in,
            row.bytes_out
        )?;
    }
    Ok(())
}

/// A row with the keys that scripts rely on.
#[must_use]
pub fn row_json(row: &Row) -> Value {
    let id = ExchangeId(row.id).to_string();
    json!({
        "id": id, "start": time_text(row.start_ns),
        "end": row.closed.then(|| time_text(row.last_ns)),
        "iss": row.iss, "sub": row.sub, "actors": row.actors, "client_id": row.client_id,
        "resource": row.resource, "listener": row.listener, "protocol": row.protocol,
        "rule": row.rule, "decision": row.decision, "refusal": row.refusal,
        "method": row.method, "path": row.path, "model": row.model,
        "credential": row.credential, "peer": row.peer, "status": row.status,
        "bytes_in": row.bytes_in, "bytes_out": row.bytes_out, "masked": row.masked,
        "ending": row.ending, "gap_entries": row.gap_entries, "gap_bytes": row.gap_bytes,
        "request_ids": [id],
    })
}

/// The entries of the one exchange whose id begins with `id`, in order.
fn entries_of(data: &Path, id: &str, errors: &mut dyn Write) -> Result<Vec<OwnedEntry>, String> {
    let id = id.to_ascii_lowercase();
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{}` is no session id (up to 32 hex digits)", clean(&id)));
    }
    let mut found: Vec<Vec<OwnedEntry>> = Vec::new();
    let bad = each_whole(data, |entry| {
        let exchange = entry.meta.exchange;
        if exchange == ExchangeId(0) || !exchange.to_string().starts_with(&id) {
            return;
        }
        match found.iter_mut().find(|one| one.iter().all(|e| e.meta.exchange == exchange)) {
            Some(one) => one.push(entry),
            None => found.push(vec![entry]),
        }
    })?;
    warn(&bad, errors);
    if found.len() > 1 {
        return Err(format!("{} sessions begin with {id}; give more digits", found.len()));
    }
    Ok(merge(found))
}

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
        for entry in &entries {
            if as_json {
                writeln!(out, "{}", entry_json(entry)).map_err(unwritten)?;
            } else {
                show_entry(entry, first.time_ns, out).map_err(unwritten)?;
            }
        }
        Ok(0)
    });
    finish(outcome, errors)
}

fn missing(id: &str, errors: &mut dyn Write) -> Outcome {
    let _ = writeln!(errors, "no session {} in the record (deleted by retention?)", clean(id));
    Ok(1)
}

fn show_entry(entry: &OwnedEntry, start_ns: u64, out: &mut dyn Write) -> io::Result<()> {
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

fn field_name(field: &Field<'_>) -> String {
    field.tag().map_or_else(|| format!("field_{}", field.number), |tag| tag.name().to_owned())
}

fn field_value(field: &Field<'_>) -> Value {
    match field.tag() {
        Some(tag) if tag.is_number() => json!(field.as_number()),
        Some(Tag::TokenDigest | Tag::PolicyDigest | Tag::MaskHash) => {
            Value::String(field.value.iter().map(|byte| format!("{byte:02x}")).collect())
        }
        _ => Value::String(field.as_text().into_owned()),
    }
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
    let mut fields: Map<String, Value> = Map::new();
    for field in Reader::new(&entry.body).map_while(Result::ok) {
        let value = field_value(&field);
        match fields.get_mut(&field_name(&field)) {
            // A field that repeats becomes a list.
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
            None => {
                fields.insert(field_name(&field), value);
            }
        }
    }
    put("fields", Value::Object(fields));
    Value::Object(object)
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
fn write_body(body: &[u8], how: Replay, out: &mut dyn Write) -> io::Result<()> {
    if how.raw {
        return out.write_all(body);
    }
    out.write_all(escape(&String::from_utf8_lossy(body), true).as_bytes())
}

fn clean(text: &str) -> String {
    escape(text, false)
}

fn escape(text: &str, lines: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' if lines => shown.push(c),
            '\r' if lines => {}
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// A time as RFC 3339 in UTC with milliseconds.
#[must_use]
pub fn time_text(ns: u64) -> String {
    let (days, rest) = (ns / 86_400_000_000_000, ns % 86_400_000_000_000 / 1_000_000);
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1_000 % 60, rest % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian calendar).
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut left = days;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    loop {
        let len = if leap(year) { 366 } else { 365 };
        if left < len {
            break;
        }
        left -= len;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

/// Reads `2026-01-31`, `2026-01-31T10:20:30Z`, or an age like `90m`, `12h`, `7d` before `now_ns`.
#[must_use]
pub fn parse_time(text: &str, now_ns: u64) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    if let Some(unit) = text.chars().last().filter(|c| "smhd".contains(*c)) {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            _ => 86_400,
        };
        return Some(now_ns.saturating_sub(count.checked_mul(seconds)?.checked_mul(SECOND)?));
    }
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, time.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let numbers = |text: &str, mark| -> Option<Vec<u64>> {
        text.split(mark).map(|part| part.parse().ok()).collect()
    };
    let ([year, month, day], [hour, minute, second]) = (
        <[u64; 3]>::try_from(numbers(date, '-')?).ok()?,
        <[u64; 3]>::try_from(numbers(time, ':')?).ok()?,
    );
    if !(1970..2500).contains(&year) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let from = (year - 1970) * 365;
    let days = (from..from + 600).find(|days| civil(*days) == (year, month, day))?;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * SECOND)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::base::{ConnectionId, Now};
    use crate::cli::verify;
    use crate::control::drain::{Settings, open};
    use crate::record::fields::Writer;
    use crate::record::gap::Gap;
    use crate::record::{EntryMeta, Journal};

    const SECOND: u64 = 1_000_000_000;

    /// A record of one exchange with a gap; the gateway is stopped.
    fn record(dir: &Path) -> PathBuf {
        let mut settings = Settings::new(&dir.join("data"), dir, 1);
        settings.ring_bytes = 1 << 20;
        settings.segment_bytes = 1 << 20;
        let mut opened = open(&settings).unwrap();
        let journal = &mut opened.journals[0];
        let mut time = 1_700_000_000 * SECOND;
        let mut put = |kind, body: &[u8]| {
            time += 1_000_000;
            let meta = EntryMeta::new(kind, ConnectionId(1), ExchangeId(0xabcd << 112 | 5));
            let now = Now { mono_ns: 0, wall_ns: time };
            journal.append(meta, std::iter::once(body), now).unwrap();
        };
        let mut body = Vec::new();
        Writer::new(&mut body).text(Tag::Sub, "ana").text(Tag::Decision, "permit");
        put(Kind::Decision, &body);
        put(Kind::RequestHead, b"POST /v1/x HTTP/1.1\r\n");
        put(Kind::RequestBody, b"ask \x1b[31m me");
        put(Kind::ResponseHead, b"HTTP/1.1 200 OK\r\n\r\n");
        put(Kind::ResponseBody, &vec![b'z'; 100_000]);
        Gap { entries: 1, bytes_in: 0, bytes_out: 333 }.write(&mut body);
        put(Kind::Gap, &body);
        Writer::new(&mut body).number(Tag::Status, 200);
        put(Kind::Close, &body);
        assert!(opened.drain.stop());
        settings.data_dir
    }

    fn text(run: impl FnOnce(&mut dyn Write, &mut dyn Write) -> u8) -> (u8, String, String) {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = run(&mut out, &mut errors);
        (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn list_show_and_replay_tell_what_was_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let data = record(dir.path());
        let id = "abcd0000000000000000000000000005";
        let (code, out, _) = text(|o, e| list(&data, &Filter::default(), true, o, e));
        let row: Value = serde_json::from_str(out.trim()).unwrap();
        assert_eq!(
            (code, row["id"].as_str(), row["bytes_out"].as_u64()),
            (0, Some(id), Some(100_333))
        );
        assert_eq!(row["start"], "2023-11-14T22:13:20.001Z");
        assert_eq!((&row["gap_entries"], &row["gap_bytes"]), (&json!(1), &json!(333)));
        let filter = Filter { caller: Some("bob".to_owned()), ..Filter::default() };
        assert_eq!(text(|o, e| list(&data, &filter, true, o, e)).1, "");
        assert!(text(|o, e| list(&data, &Filter::default(), false, o, e)).1.contains(" ana "));
        let (code, out, _) = text(|o, e| replay(&data, "abcd", Replay::default(), o, e));
        assert_eq!(code, 0);
        assert!(out.contains("POST /v1/x HTTP/1.1") && out.contains("HTTP/1.1 200 OK"));
        assert!(out.contains("ask \\u{1b}[31m me"), "nothing steers the terminal");
        assert!(out.contains(&"z".repeat(100_000)), "parts are joined");
        assert!(out.contains("-- gap count=1 bytes_in=0 bytes_out=333 failure=no_room"), "{out}");
        let (code, out, _) = text(|o, e| show(&data, id, true, o, e));
        assert_eq!((code, out.lines().count()), (0, 7));
        assert!(out.contains("\"count\":1") && out.contains("no_room"), "{out}");
        assert!(text(|o, e| show(&data, id, false, o, e)).1.contains("decision: permit"));
        assert_eq!(text(|o, e| show(&data, "ffff", false, o, e)).0, 1);
        assert_eq!(text(|o, e| show(&data, "xyz", false, o, e)).0, 2);
        assert_eq!(text(|o, e| list(Path::new("/nowhere"), &Filter::default(), false, o, e)).0, 2);
    }

    #[test]
    fn verify_says_yes_names_the_bad_entry_and_says_when_it_cannot_run() {
        let dir = tempfile::tempdir().unwrap();
        let data = record(dir.path());
        let mut options = verify::Options { data: data.clone(), ..verify::Options::default() };
        let (code, out, _) = text(|o, e| verify::run(&options, o, e));
        assert!(code == 0 && out.contains("ok: 1 segments, 8 entries"), "{out}");
        let gap =
            "w00-00000000.seg: 1 gaps, the first at sequence 7: 1 entries with 333 body bytes";
        assert!(out.starts_with(gap), "{out}");
        let path = data.join("w00-00000000.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9_000] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (code, out, _) = text(|o, e| verify::run(&options, o, e));
        assert_eq!(code, 1);
        let first = out.lines().next().unwrap();
        assert!(first.contains("w00-00000000.seg: offset ") && first.contains("sequence"), "{out}");
        options.json = true;
        let (_, out, _) = text(|o, e| verify::run(&options, o, e));
        let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(last["ok"], false);
        options.data = dir.path().to_owned();
        assert_eq!(text(|o, e| verify::run(&options, o, e)).0, 2);
    }

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(time_text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_text(951_782_400 * SECOND), "2000-02-29T00:00:00.000Z");
        assert_eq!(parse_time("2000-02-29", 0), Some(951_782_400 * SECOND));
        assert_eq!(parse_time("2000-02-29T00:00:07Z", 0), Some(951_782_407 * SECOND));
        assert_eq!(parse_time("2h", 7_201 * SECOND), Some(SECOND));
        for wrong in ["", "2001-02-29", "x", "2000-02-29T25:00:00Z", "99999999999999999999d", "d"] {
            assert_eq!(parse_time(wrong, 0), None, "{wrong}");
        }
    }
}
