//! `weirgate verify DIR`: proves the record, and names the first bad entry.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use serde_json::json;

use crate::control::drain::{FolderReport, public_key, public_keys, verify_folder};
use crate::record::gap::Gap;
use crate::record::verify::Place;

/// What `verify` was asked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The data folder.
    pub data: PathBuf,
    /// Public keys to trust; empty: those of the folder itself.
    pub keys: Vec<PathBuf>,
    /// One JSON object a line.
    pub json: bool,
}

/// Verifies and prints. Returns 0: whole; 1: damage; 2: it could not run.
pub fn run(options: &Options, out: &mut dyn Write, errors: &mut dyn Write) -> u8 {
    match prove(options, errors).and_then(|report| {
        print(&report, options, out).map_err(|e| format!("cannot write the answer: {e}"))?;
        Ok(u8::from(!report.is_clean()))
    }) {
        Ok(code) => code,
        Err(text) => {
            // Nothing is left to do where even this cannot be written.
            let _ = writeln!(errors, "error: {text}");
            2
        }
    }
}

fn prove(options: &Options, errors: &mut dyn Write) -> Result<FolderReport, String> {
    let dir = &options.data;
    let mut keys = Vec::new();
    for path in &options.keys {
        let key = public_key(path);
        keys.push(key.ok_or(format!("{}: no public key (64 hex digits)", path.display()))?);
    }
    if keys.is_empty() {
        keys = public_keys(dir);
    }
    let shown = io::stderr().is_terminal() && !options.json;
    let mut line = |name: &str| {
        if shown {
            let _ = write!(errors, "\r{name} ");
        }
    };
    let report = verify_folder(dir, &keys, &mut line)
        .map_err(|e| format!("cannot read the record in {}: {e}", dir.display()))?;
    if shown {
        let _ = write!(errors, "\r\x1b[K");
    }
    if report.segments.is_empty() && report.rings.is_empty() && report.tombs.is_empty() {
        return Err(format!(
            "{} holds no record; pass the gateway's data_dir (or -c with its config)",
            dir.display()
        ));
    }
    if keys.is_empty() {
        return Err(format!(
            "no public key to verify with; pass --key, or restore {}",
            dir.join("keys").display()
        ));
    }
    Ok(report)
}

/// Sums over all segments.
#[derive(Default)]
struct Totals {
    entries: u64,
    bytes: u64,
    proved: u64,
    dropped: u64,
    checkpoints: u64,
    ring_entries: u64,
    gaps: u64,
    gap: Gap,
}

fn totals(report: &FolderReport) -> Totals {
    let mut sum = Totals::default();
    for (_, segment) in &report.segments {
        sum.entries += segment.entries;
        sum.bytes += segment.bytes;
        sum.proved += segment.proved;
        sum.dropped += segment.dropped;
        sum.checkpoints += segment.checkpoints;
        sum.gaps += segment.gaps.map_or(0, |(count, _)| count);
        sum.gap.add(&segment.gap);
    }
    sum.ring_entries = report.rings.iter().map(|ring| ring.entries).sum();
    sum
}

fn print(report: &FolderReport, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let sum = totals(report);
    let mut count = 0u64;
    for (name, finding) in report.findings() {
        count += 1;
        let file = match finding.place {
            _ if name.ends_with(".tombs") => name.to_owned(),
            Place::Segment => format!("{name}.seg"),
            Place::Proof => format!("{name}.proof"),
        };
        line(out, options.json, &file, finding.offset, finding.sequence, finding.what.text())?;
    }
    for ring in &report.rings {
        let file = ring.path.display().to_string();
        if ring.unreadable {
            count += 1;
            line(out, options.json, &file, 0, None, "this is no ring, or its header is damaged")?;
        } else if let Some((position, sequence, what)) = ring.bad
            && !report.live
        {
            count += 1;
            line(out, options.json, &file, position, Some(sequence), what.text())?;
        }
    }
    for (name, segment) in &report.segments {
        let Some((gaps, first)) = segment.gaps else { continue };
        print_gaps(out, options.json, name, gaps, first, &segment.gap)?;
    }
    if options.json {
        let summary = json!({
            "segments": report.segments.len(), "entries": sum.entries, "bytes": sum.bytes,
            "proved_bytes": sum.proved, "checkpoints": sum.checkpoints,
            "dropped_bytes": sum.dropped, "ring_entries": sum.ring_entries,
            "gaps": sum.gaps, "gap_entries": sum.gap.entries, "gap_bytes": sum.gap.bytes(),
            "live": report.live, "findings": count, "ok": report.is_clean(),
        });
        return writeln!(out, "{summary}");
    }
    writeln!(
        out,
        "{}: {} segments, {} entries, {} bytes, {} of them under {} signed checkpoints",
        if report.is_clean() { "ok" } else { "DAMAGED" },
        report.segments.len(),
        sum.entries,
        sum.bytes,
        sum.proved,
        sum.checkpoints,
    )?;
    if sum.ring_entries > 0 {
        writeln!(out, "{} entries are only in a ring so far", sum.ring_entries)?;
    }
    if sum.dropped > 0 {
        writeln!(out, "{} torn bytes were cut off by starts after a power loss", sum.dropped)?;
    }
    if report.live {
        writeln!(out, "a gateway is writing: what is behind the last checkpoint may move")?;
    }
    if options.keys.is_empty() {
        writeln!(out, "keys: the folder's own; pass --key FILE to trust only one kept elsewhere")?;
    }
    Ok(())
}

/// Gaps are no damage: the record itself says what is missing.
fn print_gaps(
    out: &mut dyn Write,
    as_json: bool,
    name: &str,
    gaps: u64,
    first: u64,
    gap: &Gap,
) -> io::Result<()> {
    let (entries, bytes) = (gap.entries, gap.bytes());
    if as_json {
        let told = json!({
            "file": format!("{name}.seg"), "gaps": gaps, "sequence": first,
            "gap_entries": entries, "gap_bytes": bytes,
        });
        return writeln!(out, "{told}");
    }
    writeln!(
        out,
        "{name}.seg: {gaps} gaps, the first at sequence {first}: {entries} entries with {bytes} \
         body bytes were not recorded for want of room"
    )
}

fn line(
    out: &mut dyn Write,
    as_json: bool,
    file: &str,
    offset: u64,
    sequence: Option<u64>,
    what: &str,
) -> io::Result<()> {
    if as_json {
        let finding = json!({ "file": file, "offset": offset, "sequence": sequence, "what": what });
        return writeln!(out, "{finding}");
    }
    match sequence {
        Some(sequence) => writeln!(out, "{file}: offset {offset}, sequence {sequence}: {what}"),
        None => writeln!(out, "{file}: offset {offset}: {what}"),
    }
}
