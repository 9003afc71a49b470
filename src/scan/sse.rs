//! Event streams: an incremental parser and a writer (WHATWG HTML, section 9.2).
//!
//! The parser takes lines that end with `\n`, `\r\n` or `\r`, joins the `data` lines of an event
//! with `\n`, and keeps all other lines (`event`, `id`, `retry`, comments) as they came.

/// Why an event was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SseError {
    /// No event ended within the bound.
    TooLong,
}

/// A complete event; it lends the parser's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The last `event` line's value, or nothing.
    pub event: &'a [u8],
    /// All `data` lines, joined with `\n`; `None` when there was none.
    pub data: Option<&'a [u8]>,
    /// All other lines, each with `\n` behind it.
    pub others: &'a [u8],
}

/// Collects bytes into events.
#[derive(Clone, Debug)]
pub struct SseParser {
    line: Vec<u8>,
    data: Vec<u8>,
    others: Vec<u8>,
    event: Vec<u8>,
    has_data: bool,
    skip_lf: bool,
    first: bool,
    /// The event in the buffers was handed out; the next call forgets it.
    taken: bool,
    event_max: usize,
}

impl SseParser {
    /// A parser for events of at most `event_max` bytes.
    #[must_use]
    pub fn new(event_max: u32) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            others: Vec::new(),
            event: Vec::new(),
            has_data: false,
            skip_lf: false,
            first: true,
            taken: false,
            event_max: usize::try_from(event_max).unwrap_or(usize::MAX),
        }
    }

    /// Back to the start of a stream; keeps the room.
    pub fn reset(&mut self) {
        self.line.clear();
        self.forget();
        self.skip_lf = false;
        self.first = true;
    }

    /// Bytes of room that it keeps.
    #[must_use]
    pub fn room(&self) -> usize {
        [&self.line, &self.data, &self.others, &self.event].iter().map(|part| part.capacity()).sum()
    }

    /// Whether bytes of an unfinished event are held.
    #[must_use]
    pub fn is_within_event(&self) -> bool {
        !self.line.is_empty() || (!self.taken && (self.has_data || !self.others.is_empty()))
    }

    /// Reads `input` from `at` on, moves `at`, and returns the next event that ends in it.
    ///
    /// Blank lines without an event before them are skipped. Cost: one pass and one copy.
    ///
    /// # Errors
    /// [`SseError::TooLong`] above the bound.
    pub fn next(&mut self, input: &[u8], at: &mut usize) -> Result<Option<Event<'_>>, SseError> {
        if self.taken {
            self.forget();
        }
        loop {
            if self.skip_lf && *at < input.len() {
                self.skip_lf = false;
                *at += usize::from(input.get(*at) == Some(&b'\n'));
            }
            let rest = input.get(*at..).unwrap_or_default();
            let Some(len) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                *at = input.len();
                self.check()?;
                return Ok(None);
            };
            self.line.extend_from_slice(rest.get(..len).unwrap_or_default());
            self.check()?;
            self.skip_lf = rest.get(len) == Some(&b'\r');
            *at += len + 1;
            if self.take_line() {
                return Ok(Some(self.take_event()));
            }
        }
    }

    /// Ends the stream: an event without its blank line, if one is held.
    pub fn finish(&mut self) -> Option<Event<'_>> {
        if self.taken {
            self.forget();
        }
        if !self.line.is_empty() {
            self.take_line();
        }
        (self.has_data || !self.others.is_empty()).then(|| self.take_event())
    }

    fn check(&self) -> Result<(), SseError> {
        let held = self.line.len() + self.data.len() + self.others.len();
        if held > self.event_max { Err(SseError::TooLong) } else { Ok(()) }
    }

    fn take_event(&mut self) -> Event<'_> {
        self.taken = true;
        Event {
            event: &self.event,
            data: self.has_data.then_some(&*self.data),
            others: &self.others,
        }
    }

    fn forget(&mut self) {
        self.data.clear();
        self.others.clear();
        self.event.clear();
        self.has_data = false;
        self.taken = false;
    }

    /// Files the line in hand; `true` when it was blank and an event stands before it.
    fn take_line(&mut self) -> bool {
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.first) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            self.line.clear();
            return self.has_data || !self.others.is_empty();
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => line.split_at(colon),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if name == b"data" {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
            self.has_data = true;
        } else {
            if name == b"event" {
                self.event.clear();
                self.event.extend_from_slice(value);
            }
            self.others.extend_from_slice(line);
            self.others.push(b'\n');
        }
        self.line.clear();
        false
    }
}

/// Appends `data` as `data:` lines, without the blank line that ends an event.
pub fn write_data(data: &[u8], out: &mut Vec<u8>) {
    let mut rest = data;
    loop {
        out.extend_from_slice(b"data: ");
        let end = memchr::memchr(b'\n', rest);
        out.extend_from_slice(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
        out.push(b'\n');
        let Some(end) = end else { return };
        rest = rest.get(end + 1..).unwrap_or_default();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    type Owned = (Vec<u8>, Option<Vec<u8>>, Vec<u8>);

    fn events(parts: &[&[u8]]) -> Vec<Owned> {
        let mut parser = SseParser::new(1 << 16);
        let own = |e: Event<'_>| (e.event.to_vec(), e.data.map(<[u8]>::to_vec), e.others.to_vec());
        let mut seen = Vec::new();
        for part in parts {
            let mut at = 0;
            while let Some(event) = parser.next(part, &mut at).unwrap() {
                seen.push(own(event));
            }
            assert_eq!(at, part.len());
        }
        seen.extend(parser.finish().map(own));
        seen
    }

    #[test]
    fn any_split_gives_the_same_events() {
        let text =
            b"\xef\xbb\xbf: hi\r\n\r\nevent: a\rdata:x\rdata: y\r\r\n\ndata\n\nid: 7\ndata: tail";
        let whole = events(&[text]);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], (b"a".to_vec(), Some(b"x\ny".to_vec()), b"event: a\n".to_vec()));
        assert_eq!(whole[2].1, Some(Vec::new()));
        for cut in 0..=text.len() {
            assert_eq!(events(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
        }
        assert_eq!(events(&text.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn an_event_is_bounded() {
        let mut parser = SseParser::new(64);
        assert_eq!(parser.next(&[b'x'; 65], &mut 0), Err(SseError::TooLong));
    }
}
