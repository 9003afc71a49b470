//! Recorded messages of PostgreSQL, told as psql would show them.

use super::text::escape;
use crate::record::Kind;
use crate::record::reader::OwnedEntry;
use crate::wire::postgres::{
    Backend, Bind, Cells, FRAME_HEAD, Fields, Frontend, backend, frame, frontend,
};
use std::io::{self, Write};

/// Puts the messages of both directions together again from the parts that were recorded, and
/// prints what they say.
#[derive(Debug, Default)]
pub struct Transcript {
    up: Vec<u8>,
    down: Vec<u8>,
    /// Names of the columns in hand.
    columns: Vec<String>,
    /// Rows that are printed once their widths are known.
    rows: Vec<Vec<Option<String>>>,
    described: bool,
}

impl Transcript {
    /// Takes one entry of bytes and prints what is whole by it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn entry(&mut self, entry: &OwnedEntry, out: &mut dyn Write) -> io::Result<()> {
        match entry.meta.kind {
            Kind::RequestBody => self.push_up(&entry.body, out),
            _ => self.push_down(&entry.body, out),
        }
    }

    /// Bytes that went to the server.
    fn push_up(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.up.extend_from_slice(bytes);
        while let Some(message) = whole(&mut self.up) {
            let (tag, body) = split(&message);
            match frontend(tag, body) {
                Ok(parsed) => asked(&parsed, out)?,
                Err(_) => writeln!(out, "(a message that cannot be read)")?,
            }
        }
        Ok(())
    }

    /// Bytes that went to the caller.
    fn push_down(&mut self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        self.down.extend_from_slice(bytes);
        while let Some(message) = whole(&mut self.down) {
            let (tag, body) = split(&message);
            match backend(tag, body) {
                Ok(parsed) => self.told(&parsed, out)?,
                Err(_) => writeln!(out, "(a message that cannot be read)")?,
            }
        }
        Ok(())
    }

    /// Prints what is left at the end of the record.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.print_rows(out)?;
        for (what, rest) in [("to the server", &self.up), ("to the caller", &self.down)] {
            if !rest.is_empty() {
                writeln!(out, "({} bytes of a message {what} that is cut short)", rest.len())?;
            }
        }
        Ok(())
    }

    fn told(&mut self, message: &Backend<'_>, out: &mut dyn Write) -> io::Result<()> {
        match message {
            Backend::RowDescription(columns) => {
                self.print_rows(out)?;
                self.columns = columns.iter().map(|column| shown(column.name)).collect();
                self.described = true;
            }
            Backend::DataRow(body) => {
                let Ok(mut cells) = Cells::new(body) else {
                    return writeln!(out, "(a row that cannot be read)");
                };
                let mut row = Vec::new();
                while let Ok(Some(cell)) = cells.next() {
                    row.push(cell.map(shown));
                }
                self.rows.push(row);
                if self.rows.len() >= ROWS_MAX {
                    self.print_rows(out)?;
                }
            }
            Backend::Complete(tag) => {
                self.print_rows(out)?;
                self.described = false;
                writeln!(out, "{}", shown(tag))?;
            }
            Backend::Error(fields) | Backend::Notice(fields) => {
                self.print_rows(out)?;
                self.described = false;
                complaint(fields, out)?;
            }
            Backend::Notification { channel, payload, .. } => {
                writeln!(out, "NOTIFY {}: {}", shown(channel), shown(payload))?;
            }
            Backend::CopyData(bytes) => {
                out.write_all(escape(&String::from_utf8_lossy(bytes), true).as_bytes())?
            }
            Backend::Suspended => {
                self.print_rows(out)?;
                writeln!(out, "(more rows wait)")?;
            }
            _ => {}
        }
        Ok(())
    }

    fn print_rows(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() && !self.described {
            return Ok(());
        }
        let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
        let columns = rows.first().map_or(self.columns.len(), Vec::len);
        let mut widths = vec![0; columns];
        let all = std::iter::once(self.columns.iter().map(|name| name.chars().count()).collect())
            .chain(rows.iter().map(|row| {
                row.iter().map(|cell| text(cell).chars().count()).collect::<Vec<usize>>()
            }));
        for row in all {
            for (width, len) in widths.iter_mut().zip(row) {
                *width = len.max(*width).min(WIDTH_MAX);
            }
        }
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} "));
            padded.collect::<Vec<_>>().join("|").trim_end().to_owned()
        };
        if self.described {
            writeln!(out, "{}", line(&self.columns))?;
            let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
            writeln!(out, "{}", rule.join("+"))?;
        }
        for row in &rows {
            writeln!(out, "{}", line(&row.iter().map(text).collect::<Vec<_>>()))?;
        }
        self.described = false;
        Ok(())
    }
}

fn asked(message: &Frontend<'_>, out: &mut dyn Write) -> io::Result<()> {
    match message {
        Frontend::Query(text) | Frontend::Parse { text, .. } => {
            let shown = shown_lines(text);
            let mut lines = shown.lines();
            writeln!(out, "=> {}", lines.next().unwrap_or_default())?;
            lines.try_for_each(|line| writeln!(out, "-> {line}"))
        }
        Frontend::Bind(bind) => bound(bind, out),
        Frontend::CopyData(bytes) => {
            out.write_all(escape(&String::from_utf8_lossy(bytes), true).as_bytes())
        }
        Frontend::CopyFail(reason) => {
            writeln!(out, "(the caller ends the copy: {})", shown(reason))
        }
        _ => Ok(()),
    }
}

fn bound(bind: &Bind<'_>, out: &mut dyn Write) -> io::Result<()> {
    for (place, value) in bind.values.iter().enumerate() {
        let value = value.map_or_else(|| "NULL".to_owned(), |bytes| format!("'{}'", shown(bytes)));
        writeln!(out, "   ${} = {value}", place + 1)?;
    }
    Ok(())
}

fn complaint(fields: &Fields<'_>, out: &mut dyn Write) -> io::Result<()> {
    let of = |code| fields.get(code).map(shown);
    let severity = of(b'S').unwrap_or_else(|| "ERROR".to_owned());
    let code = of(b'C').unwrap_or_default();
    writeln!(out, "{severity}:  {code}: {}", of(b'M').unwrap_or_default())?;
    for (code, name) in [(b'D', "DETAIL"), (b'H', "HINT")] {
        if let Some(text) = of(code) {
            writeln!(out, "{name}:  {text}")?;
        }
    }
    Ok(())
}

/// Takes the first whole message off.
fn whole(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = FRAME_HEAD.checked_add(frame(bytes).ok().flatten()?.len)?;
    (bytes.len() >= len).then(|| bytes.drain(..len).collect())
}

fn split(message: &[u8]) -> (u8, &[u8]) {
    let tag = message.first().copied().unwrap_or_default();
    (tag, message.get(FRAME_HEAD..).unwrap_or_default())
}

/// Text for one place of a line; binary values in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => escape(text, false),
        _ => {
            let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            let digits = digits.filter_map(|nibble| char::from_digit(nibble.into(), 16));
            "\\x".chars().chain(digits).collect()
        }
    }
}

fn shown_lines(bytes: &[u8]) -> String {
    escape(&String::from_utf8_lossy(bytes), true)
}

/// Rows that are kept for their widths.
const ROWS_MAX: usize = 1_000;
/// A wider column is not lined up.
const WIDTH_MAX: usize = 60;
