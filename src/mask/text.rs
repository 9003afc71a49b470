//! The engine for one text: finds values, however the text is cut, and keeps what is between.
//!
//! The rule of the total order: the earliest start wins, then secrets, then the longest, then the
//! order of [`detectors`](super::detectors). A place is passed only when every verifier has answered for it
//! without [`Found::More`], so what comes out depends on the text alone. What cannot be passed is
//! the *carry*; it is held with its written form (escapes) and never exceeds [`HOLD_MAX`] by more
//! than one step. Estimate: one table lookup and one compare for each clean byte, one memchr for
//! `@`; a clean text is neither copied nor allocated for.

use super::detector::{Detector, Finds, What};
use super::find::{Found, HOLD_MAX, LOCAL_MAX, Tail, VALUE_MIN, View, domain_end, is_escape};
use super::operator::Replacer;
use super::{MaskError, Plan};
use crate::scan::class;
use std::ops::Range;

/// Where masked bytes go.
pub(super) trait Sink {
    /// Bytes of the input of this call, as they are.
    fn keep(&mut self, range: Range<usize>);
    /// Other bytes.
    fn put(&mut self, bytes: &[u8]);
}

/// Joins what is kept one behind the other: most tokens of a text are. What was kept last is handed
/// on by [`Self::flush`].
pub(super) struct Joined<'a, S> {
    sink: &'a mut S,
    kept: Range<usize>,
}

impl<'a, S: Sink> Joined<'a, S> {
    pub(super) fn new(sink: &'a mut S) -> Self {
        Self { sink, kept: 0..0 }
    }

    pub(super) fn flush(&mut self) {
        let kept = std::mem::replace(&mut self.kept, 0..0);
        if !kept.is_empty() {
            self.sink.keep(kept);
        }
    }
}

impl<S: Sink> Sink for Joined<'_, S> {
    #[inline]
    fn keep(&mut self, range: Range<usize>) {
        if range.start != self.kept.end {
            self.flush();
            self.kept = range;
        } else {
            self.kept.end = range.end;
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.flush();
        self.sink.put(bytes);
    }
}

/// What every step needs: what to do, and where to count.
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    pub(super) finds: &'a mut Finds,
}

/// One text on its way through the detectors.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Held bytes, un-escaped.
    carry: Vec<u8>,
    /// Held bytes as they were written.
    raw: Vec<u8>,
    /// For each byte of `carry`, how many of `raw` it was written with.
    map: Vec<u8>,
    /// From which byte of `carry` on all stand in the input of this call, and where.
    fresh: Option<(usize, usize)>,
    left: [u8; 2],
    swallow: Option<Swallow>,
    replacer: Replacer,
}

/// A value that goes on.
#[derive(Clone, Copy, Debug)]
struct Swallow {
    tail: Tail,
    pem: PemEnd,
}

/// Looks for the end of a PEM block.
#[derive(Clone, Copy, Debug, Default)]
struct PemEnd {
    matched: usize,
    dashes: usize,
    len: usize,
}

const PEM_END: &[u8] = b"-----END";
/// A private key without an end within so many bytes ends the exchange.
const PEM_MAX: usize = 64 << 10;
/// How much of new bytes joins the carry at a time.
const STEP: usize = 64;

impl Channel {
    /// Forgets everything; the next byte begins a text.
    pub(super) fn begin(&mut self) {
        self.carry.clear();
        self.raw.clear();
        self.map.clear();
        self.fresh = None;
        self.left = [0; 2];
        if self.swallow.take().is_some() {
            self.replacer.forget();
        }
    }

    /// Tells that a fresh input begins, so that no held byte is named as part of it.
    pub(super) fn fresh_input(&mut self) {
        self.fresh = None;
    }

    /// Bytes of the message that wait for what comes.
    pub(super) fn held(&self) -> usize {
        self.raw.len()
    }

    /// Whether all that is still to come out is of the bytes that are held.
    pub(super) fn holds_all(&self) -> bool {
        self.swallow.is_none() || !self.replacer.is_holding()
    }

    /// Bytes of `input` that mean themselves; with `end`, the last of this text.
    pub(super) fn plain(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        range: Range<usize>,
        end: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        let idle = self.carry.is_empty() && self.swallow.is_none();
        if idle && end && range.len() < VALUE_MIN {
            sink.keep(range);
            return Ok(());
        }
        let mut at = range.start;
        while !self.carry.is_empty() && at < range.end {
            let step = at..range.end.min(at + STEP);
            let bytes = input.get(step.clone()).unwrap_or_default();
            self.fresh.get_or_insert((self.carry.len(), at));
            self.carry.extend_from_slice(bytes);
            self.raw.extend_from_slice(bytes);
            self.map.resize(self.carry.len(), 1);
            at = step.end;
            self.scan_carry(context, end && at == range.end, sink)?;
            // What is left is all of this run: go on in place.
            if let Some((0, source)) = self.fresh
                && source >= range.start
                && at - source == self.carry.len()
            {
                at = source;
                self.forget_carry();
            }
        }
        if at < range.end {
            debug_assert!(self.carry.is_empty());
            let text = input.get(at..range.end).unwrap_or_default();
            let used = self.scan(context, text, end, &mut InPlace { sink, base: at })?;
            let rest = text.get(used..).unwrap_or_default();
            if !rest.is_empty() {
                self.carry.extend_from_slice(rest);
                self.raw.extend_from_slice(rest);
                self.map.resize(rest.len(), 1);
                self.fresh = Some((0, at + used));
            }
        }
        debug_assert!(self.carry.len() <= HOLD_MAX, "a verifier looked too far");
        Ok(())
    }

    /// One character that was written as `raw`, which ends at `source_end` of the input if all of
    /// it stands there.
    pub(super) fn escape(
        &mut self,
        context: &mut Context<'_>,
        decoded: &[u8],
        raw: &[u8],
        source_end: Option<usize>,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        match source_end.and_then(|end| end.checked_sub(raw.len())) {
            Some(start) => {
                self.fresh.get_or_insert((self.carry.len(), start));
            }
            None => self.fresh = None,
        }
        self.carry.extend_from_slice(decoded);
        self.raw.extend_from_slice(raw);
        for index in 0..decoded.len() {
            let len = if index == 0 { raw.len() } else { 0 };
            self.map.push(u8::try_from(len).unwrap_or(u8::MAX));
        }
        self.scan_carry(context, false, sink)
    }

    /// Ends the text: what is held is decided and comes out.
    pub(super) fn finish(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if !self.carry.is_empty() {
            self.scan_carry(context, true, sink)?;
        }
        if self.swallow.take().is_some() {
            self.replacer.end(|bytes| sink.put(bytes));
        }
        debug_assert!(self.carry.is_empty());
        self.begin();
        Ok(())
    }

    fn forget_carry(&mut self) {
        self.carry.clear();
        self.raw.clear();
        self.map.clear();
        self.fresh = None;
    }

    fn scan_carry(
        &mut self,
        context: &mut Context<'_>,
        end: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        let (mut carry, mut raw, mut map) = (
            std::mem::take(&mut self.carry),
            std::mem::take(&mut self.raw),
            std::mem::take(&mut self.map),
        );
        let fresh = self.fresh;
        let mut spans = Carried { sink, raw: &raw, map: &map, fresh };
        let used = self.scan(context, &carry, end, &mut spans)?;
        self.fresh = fresh.map(|(index, source)| match index.checked_sub(used) {
            Some(index) => (index, source),
            None => (0, source + spans.raw_len(index..used)),
        });
        let raw_used = spans.raw_len(0..used);
        carry.drain(..used);
        raw.drain(..raw_used);
        map.drain(..used);
        if carry.is_empty() {
            self.fresh = None;
        }
        (self.carry, self.raw, self.map) = (carry, raw, map);
        Ok(())
    }

    /// Scans `text` and returns how much of it is decided; all of it at the `end`.
    fn scan(
        &mut self,
        context: &mut Context<'_>,
        text: &[u8],
        end: bool,
        spans: &mut impl Spans,
    ) -> Result<usize, MaskError> {
        let used = self.scan_inner(context, text, end, spans)?;
        debug_assert!(!end || used == text.len());
        match text.get(..used).unwrap_or_default() {
            [] => {}
            [only] => self.left = [self.left[1], *only],
            [.., far, near] => self.left = [*far, *near],
        }
        Ok(used)
    }

    fn scan_inner(
        &mut self,
        context: &mut Context<'_>,
        text: &[u8],
        end: bool,
        spans: &mut impl Spans,
    ) -> Result<usize, MaskError> {
        let view = View { text, left: self.left, end };
        let Some(mut at) = self.swallow_on(text, 0, end, spans)? else { return Ok(text.len()) };
        let triggers = context.plan.triggers();
        let mut kept = at;
        let mut email = Email::find(triggers.email(), &view, at);
        loop {
            if email.start().is_some_and(|start| start < at) {
                email = Email::find(triggers.email(), &view, at);
            }
            let limit = email.start().unwrap_or(text.len());
            let to = text.len().min(limit + 1);
            let decided = match triggers.next(&view, at, to) {
                Some(place) => decide(context.plan, &view, place, &email),
                None => email.decide(text.len()),
            };
            let value = match decided {
                Decided::Nothing(place) => {
                    at = place + 1;
                    continue;
                }
                Decided::Hold(place) => {
                    spans.keep(kept..place);
                    return Ok(place);
                }
                Decided::Value(value) => value,
            };
            spans.keep(kept..value.start);
            let what = What::Entity(value.detector);
            let Some(act) = context.plan.act(value.detector) else {
                return Err(MaskError::Blocked(what));
            };
            context.finds.add(what);
            self.replacer.begin(act, what, |bytes| spans.put(bytes))?;
            let bytes = text.get(value.start..value.end).unwrap_or_default();
            let raw_len = spans.raw_len(value.start..value.end);
            self.replacer.feed(bytes, raw_len, |bytes| spans.put(bytes));
            at = value.end;
            match value.tail {
                None => self.replacer.end(|bytes| spans.put(bytes)),
                Some(tail) => {
                    self.swallow = Some(Swallow { tail, pem: PemEnd::default() });
                    match self.swallow_on(text, at, end, spans)? {
                        Some(place) => at = place,
                        None => return Ok(text.len()),
                    }
                }
            }
            kept = at;
        }
    }

    /// Goes on with a value that is being swallowed. Returns where the text goes on behind it,
    /// `from` when there was none, `None` when `text` ends first.
    fn swallow_on(
        &mut self,
        text: &[u8],
        from: usize,
        end: bool,
        spans: &mut impl Spans,
    ) -> Result<Option<usize>, MaskError> {
        let Some(swallow) = &mut self.swallow else { return Ok(Some(from)) };
        let rest = text.get(from..).unwrap_or_default();
        let stop = match swallow.tail {
            Tail::Class(classes) => rest.iter().position(|b| !class::is(*b, classes)),
            Tail::Dotted(classes) => {
                rest.iter().position(|b| !class::is(*b, classes) && *b != b'.')
            }
            Tail::Pem => swallow.pem.end(rest)?,
        };
        let len = stop.unwrap_or(rest.len());
        let raw_len = spans.raw_len(from..from + len);
        let value = rest.get(..len).unwrap_or_default();
        self.replacer.feed(value, raw_len, |bytes| spans.put(bytes));
        if stop.is_none() && !end {
            return Ok(None);
        }
        self.swallow = None;
        self.replacer.end(|bytes| spans.put(bytes));
        Ok(Some(from + len))
    }
}

impl PemEnd {
    /// Where the block ends in `rest`, if it does: behind the dashes of its end line, or before
    /// the line end.
    fn end(&mut self, rest: &[u8]) -> Result<Option<usize>, MaskError> {
        for (place, &byte) in rest.iter().enumerate() {
            self.len += 1;
            if self.len > PEM_MAX {
                return Err(MaskError::Endless);
            }
            if self.matched == PEM_END.len() {
                if matches!(byte, b'\n' | b'\r') {
                    return Ok(Some(place));
                }
                self.dashes = if byte == b'-' { self.dashes + 1 } else { 0 };
                if self.dashes == 5 {
                    return Ok(Some(place + 1));
                }
            } else if PEM_END.get(self.matched) == Some(&byte) {
                self.matched += 1;
            } else if byte != b'-' {
                self.matched = 0;
            } else if self.matched != 5 {
                self.matched = 1;
            }
        }
        Ok(None)
    }
}

/// A value that was found.
#[derive(Clone, Copy, Debug)]
struct Value {
    detector: Detector,
    start: usize,
    end: usize,
    tail: Option<Tail>,
}

/// What is known about a place.
#[derive(Clone, Copy, Debug)]
enum Decided {
    Nothing(usize),
    Hold(usize),
    Value(Value),
}

/// What begins at `place`, which is not behind the start of `email`.
fn decide(plan: &Plan, view: &View<'_>, place: usize, email: &Email) -> Decided {
    let value = |detector, end, tail| Decided::Value(Value { detector, start: place, end, tail });
    match plan.triggers().secret(view, place) {
        Found::More => return Decided::Hold(place),
        Found::Value(end) => return value(Detector::Secrets, end, None),
        Found::Swallow(end, tail) => return value(Detector::Secrets, end, Some(tail)),
        Found::No => {}
    }
    let Ok(other) = plan.triggers().other(view, place) else { return Decided::Hold(place) };
    match (email, other) {
        (Email::Open(start), _) if *start == place => Decided::Hold(place),
        (Email::Value(email), Some(hit)) if email.start == place && hit.end > email.end => {
            value(hit.detector, hit.end, None)
        }
        (Email::Value(email), _) if email.start == place => Decided::Value(*email),
        (_, Some(hit)) => value(hit.detector, hit.end, None),
        (_, None) => Decided::Nothing(place),
    }
}

/// The next e-mail address of a text.
#[derive(Clone, Copy, Debug)]
enum Email {
    None,
    /// One may begin here; that depends on what follows.
    Open(usize),
    Value(Value),
}

impl Email {
    fn find(on: bool, view: &View<'_>, from: usize) -> Self {
        if !on {
            return Self::None;
        }
        let mut search = from;
        while let Some(found) = memchr::memchr(b'@', view.text.get(search..).unwrap_or_default()) {
            let sign = search + found;
            search = sign + 1;
            let start = local_start(view, from, sign);
            let local = view.text.get(start..sign).unwrap_or_default();
            if !local.iter().any(|byte| byte.is_ascii_alphanumeric()) {
                continue;
            }
            let value = |end, tail| Value { detector: Detector::Email, start, end, tail };
            match domain_end(view, sign + 1) {
                Found::No => {}
                Found::More => return Self::Open(start),
                Found::Value(end) => return Self::Value(value(end, None)),
                Found::Swallow(end, tail) => return Self::Value(value(end, Some(tail))),
            }
        }
        if view.end {
            return Self::None;
        }
        let start = local_start(view, from, view.text.len());
        if start == view.text.len() { Self::None } else { Self::Open(start) }
    }

    fn start(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Open(start) => Some(*start),
            Self::Value(value) => Some(value.start),
        }
    }

    /// When nothing else begins before it.
    fn decide(&self, len: usize) -> Decided {
        match self {
            Self::None => Decided::Hold(len),
            Self::Open(start) => Decided::Hold(*start),
            Self::Value(value) => Decided::Value(*value),
        }
    }
}

/// The start of the local part that ends before `end`.
fn local_start(view: &View<'_>, from: usize, end: usize) -> usize {
    let lowest = from.max(end.saturating_sub(LOCAL_MAX));
    let run = view.text.get(lowest..end).unwrap_or_default();
    let len = run.iter().rev().take_while(|byte| class::is(**byte, class::LOCAL)).count();
    let start = end - len;
    let letter = view.text.get(start..end).and_then(|run| run.first());
    let escaped = letter.is_some_and(|b| is_escape(*b)) && view.before(start, 1) == b'\\';
    start + usize::from(escaped)
}

/// How the places of a scanned text come out.
trait Spans {
    fn keep(&mut self, range: Range<usize>);
    fn put(&mut self, bytes: &[u8]);
    /// Bytes of the message that a part of the text takes.
    fn raw_len(&self, range: Range<usize>) -> usize;
}

/// A text that stands in the input as it is.
struct InPlace<'a, S> {
    sink: &'a mut S,
    base: usize,
}

impl<S: Sink> Spans for InPlace<'_, S> {
    fn keep(&mut self, range: Range<usize>) {
        if !range.is_empty() {
            self.sink.keep(self.base + range.start..self.base + range.end);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    fn raw_len(&self, range: Range<usize>) -> usize {
        range.len()
    }
}

/// A text that was carried over, or was written with escapes.
struct Carried<'a, S> {
    sink: &'a mut S,
    raw: &'a [u8],
    map: &'a [u8],
    fresh: Option<(usize, usize)>,
}

impl<S: Sink> Spans for Carried<'_, S> {
    fn keep(&mut self, range: Range<usize>) {
        let (fresh, source) = self.fresh.unwrap_or((usize::MAX, 0));
        let middle = fresh.clamp(range.start, range.end);
        if range.start < middle {
            let start = self.raw_len(0..range.start);
            let end = start + self.raw_len(range.start..middle);
            self.sink.put(self.raw.get(start..end).unwrap_or_default());
        }
        if middle < range.end {
            let start = source + self.raw_len(fresh..middle);
            self.sink.keep(start..start + self.raw_len(middle..range.end));
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.sink.put(bytes);
    }

    fn raw_len(&self, range: Range<usize>) -> usize {
        let map = self.map.get(range).unwrap_or_default();
        map.iter().map(|len| usize::from(*len)).sum()
    }
}
