//! `weirgate sessions list|show|replay`: what the record tells.

mod answers;
mod compare;
mod database;
mod harmless;
mod recorded;
mod replay;
mod rerun;
mod resend;
mod show;
mod statements;

use crate::base::ExchangeId;
use crate::control::archive::clean;
use crate::control::drain::walk_folder;
use crate::record::reader::{Joiner, OwnedEntry, merge};
use crate::record::summary::{Row, Summaries};
#[cfg(test)]
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

pub use crate::control::archive::{Filter, parse_time, row_json, time_text};
pub use database::{ToDatabase, rerun};
pub use replay::{Replay, replay};
pub use resend::{To, resend};
pub use show::show;

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

/// Digits of an id, from either of its ends: all exchanges of a worker begin alike, and the last
/// digits are what tells them apart.
struct Digits {
    text: String,
    value: u128,
}

impl Digits {
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.to_ascii_lowercase();
        let hex = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u128::from_str_radix(&text, 16).ok().filter(|_| hex && text.len() <= ID_LEN);
        let wrong =
            || format!("`{}` is no session id (up to {ID_LEN} hex digits of it)", clean(&text));
        value.ok_or_else(wrong).map(|value| Self { text, value })
    }

    fn begin_or_end(&self, id: ExchangeId) -> bool {
        let bits = self.text.len() * 4;
        let others = ID_LEN * 4 - bits;
        id.0 >> others == self.value || (id.0 << others) >> others == self.value
    }
}

/// The entries of the one exchange whose id begins or ends with `id`, in order.
fn entries_of(data: &Path, id: &str, errors: &mut dyn Write) -> Result<Vec<OwnedEntry>, String> {
    let digits = Digits::parse(id)?;
    // When each of those that fit began.
    let mut fit: BTreeMap<ExchangeId, u64> = BTreeMap::new();
    let mut entries = Vec::new();
    let bad = each_whole(data, |entry| {
        let exchange = entry.meta.exchange;
        if exchange == ExchangeId(0) || !digits.begin_or_end(exchange) {
            return;
        }
        fit.entry(exchange).or_insert(entry.time_ns);
        if fit.len() > 1 {
            // There will be none to show; a short id may fit all that is recorded.
            entries = Vec::new();
        } else {
            entries.push(entry);
        }
    })?;
    warn(&bad, errors);
    if fit.len() > 1 { Err(ambiguous(&digits.text, &fit)) } else { Ok(merge(vec![entries])) }
}

fn ambiguous(digits: &str, fit: &BTreeMap<ExchangeId, u64>) -> String {
    let mut newest: Vec<_> = fit.iter().collect();
    newest.sort_by_key(|(_, time_ns)| std::cmp::Reverse(**time_ns));
    let mut text = format!(
        "{} sessions begin or end with {digits}; give more digits, of the end best. The newest:",
        fit.len()
    );
    for (id, time_ns) in newest.iter().take(CANDIDATES) {
        text.push_str(&format!("\n  {id}  {}", time_text(**time_ns)));
    }
    text
}

/// Hex digits of an id.
const ID_LEN: usize = 32;
/// Sessions that are named where an id is short of digits.
const CANDIDATES: usize = 8;

fn missing(id: &str, errors: &mut dyn Write) -> Outcome {
    let _ = writeln!(errors, "no session {} in the record (deleted by retention?)", clean(id));
    Ok(1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::base::{ConnectionId, Now};
    use crate::cli::verify;
    use crate::control::drain::{Settings, open};
    use crate::record::fields::{Tag, Writer};
    use crate::record::gap::Gap;
    use crate::record::{EntryMeta, Journal, Kind};
    use std::path::PathBuf;

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

    #[test]
    fn a_session_is_found_by_either_end_of_its_id_and_several_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(&dir.path().join("data"), dir.path(), 1);
        (settings.ring_bytes, settings.segment_bytes) = (1 << 20, 1 << 20);
        let mut opened = open(&settings).unwrap();
        // The ids of one worker, whose first half is the same; one of another ends as one of it.
        let worker = 0x0ace_0000_0000_00c5_u128 << 64;
        let other = 0x7777_0000_0000_0001_u128 << 64 | 0x1a;
        let ids: Vec<u128> = (1..=20).map(|low| worker | low).chain([other]).collect();
        for (at, id) in (1u64..).zip(&ids) {
            let mut body = Vec::new();
            Writer::new(&mut body).text(Tag::Sub, &format!("caller-{id:x}"));
            let meta = EntryMeta::new(Kind::Open, ConnectionId(1), ExchangeId(*id));
            let now = Now { mono_ns: 0, wall_ns: 1_700_000_000 * SECOND + at * SECOND };
            opened.journals[0].append(meta, std::iter::once(&body[..]), now).unwrap();
        }
        assert!(opened.drain.stop());
        let data = &settings.data_dir;
        let shown = |id: &str| text(|o, e| show(data, id, false, o, e));
        let full = ExchangeId(ids[2]).to_string();
        for id in ["003", "0000000000000003", &full, &full.to_uppercase(), "0000003"] {
            let (code, out, errors) = shown(id);
            assert!(code == 0 && out.contains(&format!("caller-{:x}", ids[2])), "{id}: {errors}");
            let (code, out, _) = text(|o, e| replay(data, id, Replay::default(), o, e));
            assert!(code == 0 && out.contains(&format!("caller-{:x}", ids[2])), "{id}");
        }
        assert!(shown("7777").1.contains(&format!("caller-{other:x}")), "a beginning");
        // What all of a worker begin with, the beginning of one and the end of another, one end.
        let (code, out, errors) = shown("0ace");
        assert!(code == 2 && out.is_empty() && errors.contains("20 sessions"), "{errors}");
        assert_eq!(errors.lines().count(), 1 + 8, "{errors}");
        let newest = format!("{}  2023-11-14T22:13:40", ExchangeId(ids[19]));
        assert!(errors.lines().nth(1).unwrap().contains(&newest), "{errors}");
        let (code, _, errors) = shown("3");
        assert!(code == 2 && errors.contains("2 sessions"), "0x3 and 0x13: {errors}");
        assert_eq!(shown("ffff").0, 1);
        for wrong in ["", "xyz", "+3", &"0".repeat(33)] {
            assert_eq!(shown(wrong).0, 2, "{wrong}");
        }
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
}
