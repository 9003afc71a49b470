//! Tells the texts of an event stream part by part, and changes nothing.
//!
//! For whoever must know what a model says over many events, mask or no mask. Events of a stream
//! are mostly the same but for a string or two, so the one before serves as a template: an event
//! that is byte by byte the same around them has the same members, and is not parsed. Estimate
//! for an event of 250 bytes: 30 ns by template, 1 us parsed; measured with the search in its part
//! (`benches/mask.rs`): 60 ns, and 2.4 us where no event is like the one before.

use super::vendor::{Varies, Vendor};
use super::{MaskError, Shape};
use crate::scan::sse::SseParser;

/// What an event says about one text. Texts are known by their place, which a text that ended
/// leaves to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a> {
    /// The next part of a text, un-escaped.
    Part(usize, &'a [u8]),
    /// Nothing more comes of it.
    End(usize),
}

/// Reads the events of one stream.
#[derive(Debug)]
pub struct TextReader {
    shape: Shape,
    event_max: usize,
    parser: SseParser,
    vendor: Vendor,
    template: Template,
    /// Bytes of the event in hand whose line ends were looked for.
    scanned: usize,
    /// Bytes of its last line among them.
    line_len: usize,
    /// The event in hand is above the bound: it passes unread.
    skipping: bool,
}

/// The event before: its bytes without the values that vary, and what those are.
#[derive(Debug, Default)]
struct Template {
    bytes: Vec<u8>,
    /// For each value: how many of `bytes` are before it, and what it is.
    values: Vec<(usize, Varies)>,
}

impl TextReader {
    /// A reader; [`Self::begin`] makes it ready.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shape: Shape::Plain,
            event_max: 0,
            parser: SseParser::new(u32::MAX),
            vendor: Vendor::default(),
            template: Template::default(),
            scanned: 0,
            line_len: 0,
            skipping: false,
        }
    }

    /// Makes it ready for a stream; keeps the room.
    pub fn begin(&mut self, shape: Shape, event_max: u32) {
        self.shape = shape;
        self.event_max = usize::try_from(event_max).unwrap_or(usize::MAX);
        self.vendor.reset();
        self.template.forget();
        (self.scanned, self.line_len, self.skipping) = (0, 0, false);
    }

    /// Reads the event that begins at `at` of `buf`, and returns where it ends; `None` while it
    /// is incomplete, which it never is with `end`, unless nothing is left. Called again for the
    /// same event, `buf` goes on behind the bytes of the call before.
    ///
    /// # Errors
    /// [`MaskError`] for data that begins like JSON and is none, and for too many texts at a time.
    pub fn next(
        &mut self,
        buf: &[u8],
        at: usize,
        end: bool,
        told: &mut impl FnMut(Told<'_>),
    ) -> Result<Option<usize>, MaskError> {
        let rest = buf.get(at..).unwrap_or_default();
        if self.scanned == 0
            && !self.skipping
            && let Some(len) = self.template.read(rest, told)
        {
            return Ok(Some(at + len));
        }
        let len = match self.event_len(rest, end) {
            Some(len) => len,
            None if end && !rest.is_empty() => rest.len(),
            None => {
                self.skipping |= self.scanned > self.event_max;
                return Ok(None);
            }
        };
        let skipped = std::mem::take(&mut self.skipping) || len > self.event_max;
        (self.scanned, self.line_len) = (0, 0);
        if !skipped {
            self.read(rest.get(..len).unwrap_or_default(), told)?;
        }
        Ok(Some(at + len))
    }

    /// Bytes of the event in hand that need not be shown again: of one above the bound, which
    /// passes unread, what was looked at.
    pub fn pass(&mut self) -> usize {
        if self.skipping { std::mem::take(&mut self.scanned) } else { 0 }
    }

    /// Looks for the blank line that ends the event, or the end of a comment before it.
    fn event_len(&mut self, event: &[u8], end: bool) -> Option<usize> {
        loop {
            let rest = event.get(self.scanned..)?;
            let Some(line) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line_len += rest.len();
                self.scanned += rest.len();
                return None;
            };
            // What follows a `\r` decides whether the line end is one byte or two.
            let line_end = match (rest.get(line), rest.get(line + 1)) {
                (Some(b'\n'), _) => 1,
                (_, Some(b'\n')) => 2,
                (_, None) if !end => {
                    self.line_len += line;
                    self.scanned += line;
                    return None;
                }
                _ => 1,
            };
            let blank = self.line_len + line == 0;
            self.scanned += line + line_end;
            self.line_len = 0;
            // A comment before an event is no part of it: it keeps the connection alive, and need
            // not wait for what may come much later.
            let comment = event.first() == Some(&b':') && !self.skipping;
            if blank || comment {
                return Some(self.scanned);
            }
        }
    }

    fn read(&mut self, event: &[u8], told: &mut impl FnMut(Told<'_>)) -> Result<(), MaskError> {
        self.parser.reset();
        let found = self.parser.next(event, &mut 0)?.map(|found| found.data);
        let data = match found {
            Some(data) => data,
            None => self.parser.finish().and_then(|found| found.data),
        };
        let Some(data) = data else { return Ok(()) };
        let mut tell = |place: usize, part: Option<&[u8]>| match part {
            Some(part) => told(Told::Part(place, part)),
            None => told(Told::End(place)),
        };
        match self.vendor.follow(self.shape, data, &mut tell) {
            Ok(false) => self.template.take(event, data, &self.vendor),
            Ok(true) => self.template.forget(),
            Err(MaskError::Broken(_)) if !data.trim_ascii_start().starts_with(b"{") => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Default for TextReader {
    fn default() -> Self {
        Self::new()
    }
}

impl Template {
    fn forget(&mut self) {
        self.bytes.clear();
        self.values.clear();
    }

    /// Takes an event over whose data stands in it as one line.
    fn take(&mut self, event: &[u8], data: &[u8], vendor: &Vendor) {
        self.forget();
        let Some(start) = memchr::memmem::find(event, data) else { return };
        // Behind a single `\r` a line end may still come that belongs to it.
        if !event.ends_with(b"\n") {
            return;
        }
        let mut from = 0;
        for (range, varies) in vendor.varying() {
            // Of a string the quotes stay.
            let quote = usize::from(varies != Varies::Count);
            let first = data.get(range.start);
            let fits = match varies {
                Varies::Count => first.is_some_and(u8::is_ascii_digit),
                _ => first == Some(&b'"'),
            };
            let (open, close) = (start + range.start + quote, start + range.end - quote);
            let Some(before) = event.get(from..open).filter(|_| fits && open <= close) else {
                return self.forget();
            };
            self.bytes.extend_from_slice(before);
            self.values.push((self.bytes.len(), varies));
            from = close;
        }
        self.bytes.extend_from_slice(event.get(from..).unwrap_or_default());
    }

    /// Reads the event at the start of `buf` if it is the template with other values, strings
    /// without escapes; returns its length.
    fn read(&self, buf: &[u8], told: &mut impl FnMut(Told<'_>)) -> Option<usize> {
        if self.values.is_empty() || self.values.len() > VALUES_MAX {
            return None;
        }
        // Nothing is told before all of it is seen to fit.
        let mut parts = [(0, 0); VALUES_MAX];
        let (mut at, mut from) = (0, 0);
        for ((until, varies), part) in self.values.iter().zip(&mut parts) {
            let before = self.bytes.get(from..*until)?;
            let rest = buf.get(at..)?.strip_prefix(before)?;
            at += before.len();
            let len = match varies {
                Varies::Count => rest.iter().position(|byte| !byte.is_ascii_digit())?,
                _ => rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?,
            };
            *part = (at, at + len);
            at += len;
            from = *until;
        }
        let behind = self.bytes.get(from..)?;
        if !buf.get(at..)?.starts_with(behind) {
            return None;
        }
        for ((_, varies), (start, end)) in self.values.iter().zip(parts) {
            if let Varies::Text(text) = varies {
                told(Told::Part(*text, buf.get(start..end)?));
            }
        }
        Some(at + behind.len())
    }
}

/// Values that vary in an event that serves as a template.
const VALUES_MAX: usize = 4;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// The parts as `place:text`, ends as `place.`; cut into `parts`.
    fn read(shape: Shape, parts: &[&[u8]], templates: bool) -> Result<Vec<String>, MaskError> {
        let mut reader = TextReader::new();
        reader.begin(shape, 1 << 10);
        let mut seen = Vec::new();
        let (mut buf, mut at) = (Vec::new(), 0);
        for (place, part) in parts.iter().enumerate() {
            buf.extend_from_slice(part);
            let end = place + 1 == parts.len();
            loop {
                if !templates {
                    reader.template.forget();
                }
                let mut told = |told: Told<'_>| {
                    seen.push(match told {
                        Told::Part(at, text) => format!("{at}:{}", String::from_utf8_lossy(text)),
                        Told::End(at) => format!("{at}."),
                    });
                };
                match reader.next(&buf, at, end, &mut told)? {
                    Some(next) => at = next,
                    None => break,
                }
            }
        }
        assert_eq!(at, buf.len());
        Ok(seen)
    }

    const CHAT: &str = concat!(
        "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"se\"}}],\"obfuscation\":\"x\"}\n\n",
        "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"cr\"}}],\"obfuscation\":\"yz\"}\n\n",
        "data: {\"id\":\"a\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u0065\"}}],\"obfuscation\":\"\"}\n\n",
        ": ping\n\n: ping\n: a long one\r\n",
        "data: {\"id\":\"a\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\r\n\r\n",
        "data: {\"id\":\"a\",\"choices\":[{\"index\":1,\"delta\":{\"content\":\" one\"}}]}\r\n\r\n",
        "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"t\"},\"finish_reason\":\"stop\"}]}\n\n",
        "data: [DONE]\n\n",
    );

    #[test]
    fn parts_are_told_by_text_whatever_the_cut_and_with_or_without_a_template() {
        let whole = read(Shape::OpenAi, &[CHAT.as_bytes()], true).unwrap();
        let expected = ["0:", "0:se", "0:cr", "0:e", "1:other", "1: one", "0:t", "0.", "1."];
        assert_eq!(whole, expected);
        assert_eq!(read(Shape::OpenAi, &[CHAT.as_bytes()], false).unwrap(), expected);
        for cut in 0..CHAT.len() {
            let parts = [&CHAT.as_bytes()[..cut], &CHAT.as_bytes()[cut..]];
            assert_eq!(read(Shape::OpenAi, &parts, true).unwrap(), expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = CHAT.as_bytes().chunks(1).collect();
        assert_eq!(read(Shape::OpenAi, &bytes, true).unwrap(), expected);
    }

    #[test]
    fn a_template_fits_only_what_is_the_same_around_its_strings() {
        let event = |data: &str| format!("data: {data}\n\n");
        let first = event(r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#);
        for (second, expected) in [
            (r#"{"choices":[{"index":0,"delta":{"content":"b","x":"c"}}]}"#, vec!["0:b", "1:c"]),
            (r#"{"choices":[{"index":1,"delta":{"content":"b"}}]}"#, vec!["1:b"]),
            (r#"{"choices":[{"index":0,"delta":{"content":"b\"}}]}"}}]}"#, vec!["0:b\"}}]}"]),
            (r#"{"choices":[{"index":0,"delta":{"content":""}}]}"#, vec!["0:"]),
        ] {
            let text = format!("{first}{}", event(second));
            let seen = read(Shape::OpenAi, &[text.as_bytes()], true).unwrap();
            assert_eq!(seen[1..seen.len()], expected, "{second}");
        }
    }

    #[test]
    fn blocks_and_responses_have_their_texts_too() {
        let anthropic = concat!(
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"se\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"cret\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        );
        let seen = read(Shape::Anthropic, &[anthropic.as_bytes()], true).unwrap();
        assert_eq!(seen, ["0:se", "0:cret", "0."]);
        let responses = concat!(
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"se\"}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":1,\"content_index\":0,\"delta\":\"x\"}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"cret\"}\n\n",
            "data: {\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"secret\"}\n\n",
        );
        let seen = read(Shape::OpenAi, &[responses.as_bytes()], true).unwrap();
        assert_eq!(seen, ["0:se", "1:x", "0:cret", "0."]);
    }

    #[test]
    fn a_number_that_counts_events_does_not_undo_the_template() {
        let event = |n: u32, text: &str| {
            format!(
                "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\
                 \"sequence_number\":{n},\"item_id\":\"m\",\"output_index\":0,\"content_index\":0,\
                 \"delta\":\"{text}\",\"obfuscation\":\"{n}x\"}}\n\n"
            )
        };
        let mut reader = TextReader::new();
        reader.begin(Shape::OpenAi, 1 << 10);
        assert!(reader.next(event(9, "se").as_bytes(), 0, false, &mut |_| ()).unwrap().is_some());
        let mut seen = Vec::new();
        let mut told = |told: Told<'_>| match told {
            Told::Part(0, text) => seen.extend_from_slice(text),
            told => panic!("{told:?}"),
        };
        let next = event(10, "cret");
        assert_eq!(reader.template.read(next.as_bytes(), &mut told), Some(next.len()));
        assert_eq!(seen, b"cret");
        let other = next.replace("\"output_index\":0", "\"output_index\":1");
        assert_eq!(reader.template.read(other.as_bytes(), &mut |_| ()), None);
    }

    #[test]
    fn what_cannot_be_read_is_an_error_or_nothing_and_what_is_too_long_passes() {
        assert!(read(Shape::OpenAi, &[b"data: {\"choices\":[NaN]}\n\n"], true).is_err());
        assert_eq!(read(Shape::OpenAi, &[b"data: hello\n\n"], true), Ok(Vec::new()));
        let long = format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
            "a".repeat(2_000)
        );
        let text = format!("{long}{CHAT}");
        let seen = read(Shape::OpenAi, &[text.as_bytes()], true).unwrap();
        assert_eq!(seen.len(), 9);
        let mut reader = TextReader::new();
        reader.begin(Shape::OpenAi, 1 << 10);
        let comment = b": still here\nda";
        assert_eq!(reader.next(comment, 0, false, &mut |_| ()), Ok(Some(comment.len() - 2)));
        for cut in (0..text.len()).step_by(97) {
            let parts = [&text.as_bytes()[..cut], &text.as_bytes()[cut..]];
            assert_eq!(read(Shape::OpenAi, &parts, true).unwrap(), seen, "cut at {cut}");
        }
    }
}
