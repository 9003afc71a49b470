//! Masks event streams: parses events, masks what they carry, writes events again.
//!
//! Lines that are not data are masked each for itself; they come before the data of their event.

use super::filter::{VecSink, clear_text};
use super::json::JsonMask;
use super::text::Context;
use super::vendor::Vendor;
use super::{MaskError, Shape};
use crate::base::Pieces;
use crate::scan::json::{JsonError, is_valid};
use crate::scan::sse::{Event, SseParser, write_data};

/// Masks one event stream.
#[derive(Debug)]
pub(super) struct EventMask {
    parser: SseParser,
    writer: Writer,
    /// Where the event begins that is being collected.
    event_start: u64,
}

/// What one event after the other goes through.
#[derive(Debug)]
struct Writer {
    shape: Shape,
    vendor: Vendor,
    json: JsonMask,
    data: Vec<u8>,
    out: Vec<u8>,
}

impl EventMask {
    pub(super) fn new(event_max: u32) -> Self {
        Self {
            parser: SseParser::new(event_max),
            writer: Writer {
                shape: Shape::Plain,
                vendor: Vendor::default(),
                json: JsonMask::new(false),
                data: Vec::new(),
                out: Vec::new(),
            },
            event_start: 0,
        }
    }

    /// Back to the start of a stream; drops what is held.
    pub(super) fn reset(&mut self) {
        self.parser.reset();
        self.writer.vendor.reset();
        self.writer.out.clear();
        self.event_start = 0;
    }

    /// Bytes of room that it keeps for an event.
    pub(super) fn room(&self) -> usize {
        self.parser.room() + self.writer.data.capacity() + self.writer.out.capacity()
    }

    pub(super) fn begin(&mut self, shape: Shape) {
        self.reset();
        self.writer.shape = shape;
    }

    /// Masks all of `input`, `offset` bytes into the stream. Returns how many bytes of the stream
    /// are settled.
    pub(super) fn push(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        offset: u64,
        end: bool,
        out: &mut Pieces,
    ) -> Result<u64, MaskError> {
        let mut at = 0;
        self.writer.out.clear();
        while let Some(event) = self.parser.next(input, &mut at)? {
            self.writer.write(context, &event, self.event_start)?;
            self.event_start = offset.saturating_add(at as u64);
        }
        if !self.parser.is_within_event() {
            self.event_start = offset.saturating_add(at as u64);
        }
        if end {
            if let Some(event) = self.parser.finish() {
                self.writer.write(context, &event, self.event_start)?;
            }
            self.writer.vendor.close_all(context, self.writer.shape, &mut self.writer.out)?;
        }
        out.text(&self.writer.out);
        let waits = self.writer.vendor.waits_since().unwrap_or(u64::MAX);
        Ok(self.event_start.min(waits))
    }
}

impl Writer {
    /// Masks one event that began `start` bytes into the stream.
    fn write(
        &mut self,
        context: &mut Context<'_>,
        event: &Event<'_>,
        start: u64,
    ) -> Result<(), MaskError> {
        self.data.clear();
        if let Some(data) = event.data {
            match self.shape {
                Shape::Plain => self.plain(context, data)?,
                shape => {
                    let (out, masked) = (&mut self.out, &mut self.data);
                    self.vendor.event(context, shape, data, start, out, masked)?;
                }
            }
        }
        for line in event.others.split_inclusive(|&byte| byte == b'\n') {
            clear_text(context, line.trim_ascii_end(), &mut self.out)?;
            self.out.push(b'\n');
        }
        if event.data.is_some() {
            write_data(&self.data, &mut self.out);
        }
        self.out.push(b'\n');
        Ok(())
    }

    /// Data of no known shape: JSON if it is valid JSON, else text.
    fn plain(&mut self, context: &mut Context<'_>, data: &[u8]) -> Result<(), MaskError> {
        if is_valid(data) {
            return mask_json(context, &mut self.json, data, &mut self.data);
        }
        if context.plan.fields().has_rules() && memchr::memchr2(b'{', b'"', data).is_some() {
            // It could be JSON to a reader who is less strict, and hold a field.
            return Err(MaskError::Broken(JsonError::Unexpected));
        }
        clear_text(context, data, &mut self.data)
    }
}

/// Masks one whole JSON text.
pub(super) fn mask_json(
    context: &mut Context<'_>,
    json: &mut JsonMask,
    data: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), MaskError> {
    json.reset(false);
    let mut sink = VecSink { input: data, out };
    json.push(context, data, &mut sink)?;
    json.finish(context, &mut sink)
}
