//! Masks a stream of JSON: field rules by path, detectors on each string, cards in numbers.
//!
//! The walk keeps one [`Frame`] for each open container. A value that a rule names is replaced
//! whole, whatever it holds; every other string, names of members included, is one text for the
//! detectors. Bytes that are not masked leave exactly as they came, escapes and white space too.

use super::ahead::Ahead;
use super::detector::{Detector, What};
use super::find::is_pan;
use super::operator::{Act, Operator, Replacer, spaces};
use super::path::{Child, KEY_LEN_MAX, States};
use super::text::{Channel, Context, Joined, Sink};
use super::{MaskError, Plan};
use crate::scan::json::{Escape, Token, Tokenizer};
use std::ops::Range;

/// Masks one JSON text, or many with white space between.
#[derive(Debug)]
pub(super) struct JsonMask {
    tokens: Tokenizer,
    stack: Vec<Frame>,
    /// The name of the member in hand, un-escaped.
    key: Vec<u8>,
    long_key: bool,
    string: StringMode,
    scalar: ScalarMode,
    /// Open containers of a value that is left out; 0 when none is.
    skipped: u32,
    /// What is left out leaves as many spaces behind.
    blank: bool,
    channel: Channel,
    replacer: Replacer,
    /// Digits of a number that may be a card's.
    number: Vec<u8>,
    /// Stands for the next value, if it is armed.
    instead: Vec<u8>,
    armed: bool,
    ahead: Ahead,
    /// Where the string in hand began in the input of this call.
    opened: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    states: States,
    index: u64,
    array: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringMode {
    Key,
    Value,
    /// A field's value; the operator replaces it between its quotes.
    Field,
    /// Left out with its quotes.
    Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScalarMode {
    Keep,
    /// Maybe a card; held in `number`.
    Hold,
    /// Left out; so many bytes so far.
    Left(usize),
}

impl JsonMask {
    pub(super) fn new(many: bool) -> Self {
        Self {
            tokens: Tokenizer::new(many),
            stack: Vec::new(),
            key: Vec::new(),
            long_key: false,
            string: StringMode::Value,
            scalar: ScalarMode::Keep,
            skipped: 0,
            blank: false,
            channel: Channel::default(),
            replacer: Replacer::default(),
            number: Vec::new(),
            instead: Vec::new(),
            armed: false,
            ahead: Ahead::default(),
            opened: None,
        }
    }

    /// Back to the start of a text; keeps the room.
    pub(super) fn reset(&mut self, many: bool) {
        self.tokens = Tokenizer::new(many);
        self.stack.clear();
        self.key.clear();
        self.long_key = false;
        self.string = StringMode::Value;
        self.scalar = ScalarMode::Keep;
        self.skipped = 0;
        self.blank = false;
        self.channel.begin();
        self.replacer.forget();
        self.number.clear();
        self.armed = false;
        (self.ahead, self.opened) = (Ahead::default(), None);
    }

    /// Bytes of the message that wait for what comes.
    pub(super) fn held(&self) -> usize {
        self.tokens.held() + self.channel.held() + self.number.len()
    }

    /// Whether all that is still to come out is of the bytes that are held.
    pub(super) fn holds_all(&self) -> bool {
        let counting = self.blank && matches!(self.scalar, ScalarMode::Left(_));
        self.channel.holds_all() && !self.replacer.is_holding() && !counting
    }

    /// Whether nothing that was fed is still to come out.
    pub(super) fn is_settled(&self) -> bool {
        self.held() == 0 && self.holds_all()
    }

    /// Whether a field rule names the value that begins next.
    pub(super) fn rule_is_next(&self, plan: &Plan) -> bool {
        self.skipped > 0 || self.child(plan).1.is_some()
    }

    /// Lets `write` say what stands for the value that begins next, unless a field rule names it.
    pub(super) fn replace_next(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.instead.clear();
        write(&mut self.instead);
        self.armed = true;
    }

    /// Masks all of `input`.
    pub(super) fn push(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        self.fresh_input();
        self.step(context, input, 0, sink)
    }

    /// Tells that a fresh input begins, so that no held byte is named as part of it.
    pub(super) fn fresh_input(&mut self) {
        self.tokens.fresh_input();
        self.channel.fresh_input();
        (self.ahead, self.opened) = (Ahead::default(), None);
    }

    /// Masks `input` from `from` on, an earlier part of which was masked before in pieces; those
    /// calls since the fresh input were given a part of the same bytes.
    pub(super) fn step(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        from: usize,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        let mut at = from;
        let sink = &mut Joined::new(sink);
        while let Some(token) = self.tokens.next(input, &mut at)? {
            match token {
                Token::Gap(range) => self.pass(range, sink),
                Token::Open { at, array } => self.open(context, at, array, sink)?,
                Token::Close(at) => self.close(at, sink),
                Token::Quote { at, key } => self.quote(context, at, key, sink)?,
                Token::Text { range, closes } => {
                    self.text(context, input, range, closes, sink)?;
                }
                Token::Escape(escape) => self.escape(context, &escape, at, sink)?,
                Token::Scalar { range, first, last } => {
                    if first {
                        self.begin_scalar(context, input, &range, sink)?;
                    }
                    self.scalar(context, input, range, last, sink)?;
                }
            }
        }
        sink.flush();
        Ok(())
    }

    /// Ends the text; it must be complete.
    pub(super) fn finish(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if self.tokens.finish()? {
            self.scalar(context, b"", 0..0, true, sink)?;
        }
        debug_assert!(self.is_settled());
        Ok(())
    }

    /// Ends the text where it stands, maybe within a value: what is held is decided.
    pub(super) fn cut(
        &mut self,
        context: &mut Context<'_>,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        self.channel.finish(context, sink)?;
        if self.replacer.is_holding() {
            self.replacer.end(|bytes| sink.put(bytes));
        }
        if self.scalar == ScalarMode::Hold {
            self.scalar(context, b"", 0..0, true, sink)?;
        }
        self.reset(false);
        Ok(())
    }

    /// The states and the rule of the value that begins next.
    fn child<'p>(&self, plan: &'p Plan) -> (States, Option<&'p Act>) {
        let Some(frame) = self.stack.last() else { return (plan.fields().starts(), None) };
        if frame.states.is_empty() {
            return (States::default(), None);
        }
        let child = match (frame.array, self.long_key) {
            (true, _) => Child::Index(frame.index),
            (false, true) => Child::LongKey,
            (false, false) => Child::Key(&self.key),
        };
        plan.fields().enter(&frame.states, child)
    }

    /// As [`Self::child`], and goes on to the next place.
    fn enter<'p>(&mut self, plan: &'p Plan) -> (States, Option<&'p Act>) {
        let found = self.child(plan);
        if let Some(frame) = self.stack.last_mut() {
            frame.index = frame.index.saturating_add(1);
        }
        found
    }

    fn pass(&mut self, range: Range<usize>, sink: &mut impl Sink) {
        if self.skipped == 0 {
            sink.keep(range);
        } else if self.blank {
            spaces(range.len(), |bytes| sink.put(bytes));
        }
    }

    /// Leaves bytes of a value out, or blanks them.
    fn leave(&mut self, len: usize, sink: &mut impl Sink) {
        if self.blank {
            spaces(len, |bytes| sink.put(bytes));
        }
    }

    fn open(
        &mut self,
        context: &mut Context<'_>,
        at: usize,
        array: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if self.skipped > 0 {
            self.skipped += 1;
            self.leave(1, sink);
            return Ok(());
        }
        let (states, rule) = self.enter(context.plan);
        let armed = std::mem::take(&mut self.armed);
        if let Some(act) = rule {
            field(context, act)?;
            self.skipped = 1;
            self.blank = act.operator == Operator::SameLength;
            if self.blank { sink.keep(at..at + 1) } else { sink.put(b"null") }
        } else if armed {
            self.skipped = 1;
            self.blank = false;
            sink.put(&self.instead);
        } else {
            self.stack.push(Frame { states, index: 0, array });
            sink.keep(at..at + 1);
        }
        Ok(())
    }

    fn close(&mut self, at: usize, sink: &mut impl Sink) {
        match self.skipped {
            0 => {
                self.stack.pop();
                sink.keep(at..at + 1);
            }
            1 => {
                self.skipped = 0;
                if self.blank {
                    sink.keep(at..at + 1);
                }
            }
            _ => {
                self.skipped -= 1;
                self.leave(1, sink);
            }
        }
    }

    fn quote(
        &mut self,
        context: &mut Context<'_>,
        at: usize,
        key: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if self.skipped > 0 {
            self.string = StringMode::Left;
            self.leave(1, sink);
            return Ok(());
        }
        self.channel.begin();
        self.opened = Some(at + 1);
        if key {
            self.key.clear();
            self.long_key = false;
            self.string = StringMode::Key;
            sink.keep(at..at + 1);
            return Ok(());
        }
        let (_, rule) = self.enter(context.plan);
        let armed = std::mem::take(&mut self.armed);
        self.blank = false;
        if let Some(act) = rule {
            field(context, act)?;
            if matches!(act.operator, Operator::Null | Operator::Drop) {
                self.string = StringMode::Left;
                sink.put(b"null");
                return Ok(());
            }
            self.string = StringMode::Field;
            sink.keep(at..at + 1);
            return self.replacer.begin(act, What::Field, |bytes| sink.put(bytes));
        }
        if armed {
            self.string = StringMode::Left;
            sink.put(&self.instead);
        } else {
            self.string = StringMode::Value;
            sink.keep(at..at + 1);
        }
        Ok(())
    }

    fn text(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        range: Range<usize>,
        closes: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        let quote = range.end..range.end + usize::from(closes);
        let bytes = input.get(range.clone()).unwrap_or_default();
        match self.string {
            StringMode::Left => {
                self.leave(range.len() + quote.len(), sink);
                return Ok(());
            }
            StringMode::Field => {
                self.replacer.feed(bytes, bytes.len(), |bytes| sink.put(bytes));
                if closes {
                    self.replacer.end(|bytes| sink.put(bytes));
                }
            }
            StringMode::Key | StringMode::Value => {
                if self.string == StringMode::Key {
                    self.add_key(bytes);
                }
                let whole = closes && self.opened == Some(range.start);
                let triggers = context.plan.triggers();
                if whole && self.ahead.is_clear(triggers, input, &range) {
                    // The channel was emptied at the opening quote.
                    sink.keep(range);
                } else if context.plan.detects() {
                    self.channel.plain(context, input, range, closes, sink)?;
                    if closes {
                        self.channel.finish(context, sink)?;
                    }
                } else {
                    sink.keep(range);
                }
            }
        }
        if closes {
            sink.keep(quote);
        }
        Ok(())
    }

    fn escape(
        &mut self,
        context: &mut Context<'_>,
        escape: &Escape,
        end: usize,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        let (decoded, raw) = (escape.decoded(), escape.raw());
        match self.string {
            StringMode::Left => self.leave(raw.len(), sink),
            StringMode::Field => {
                self.replacer.feed(decoded, raw.len(), |bytes| sink.put(bytes));
            }
            StringMode::Key | StringMode::Value => {
                if self.string == StringMode::Key {
                    self.add_key(decoded);
                }
                let source_end = escape.is_whole().then_some(end);
                if context.plan.detects() {
                    return self.channel.escape(context, decoded, raw, source_end, sink);
                }
                match source_end {
                    Some(end) => sink.keep(end.saturating_sub(raw.len())..end),
                    None => sink.put(raw),
                }
            }
        }
        Ok(())
    }

    fn add_key(&mut self, bytes: &[u8]) {
        if self.stack.last().is_none_or(|frame| frame.states.is_empty()) {
            return;
        }
        if self.key.len() + bytes.len() > KEY_LEN_MAX {
            self.long_key = true;
        } else {
            self.key.extend_from_slice(bytes);
        }
    }

    fn begin_scalar(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        range: &Range<usize>,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if self.skipped > 0 {
            // `scalar` passes it as any other byte of a value that is left out.
            self.scalar = ScalarMode::Keep;
            return Ok(());
        }
        let (_, rule) = self.enter(context.plan);
        let armed = std::mem::take(&mut self.armed);
        let number = matches!(input.get(range.start), Some(b'-' | b'0'..=b'9'));
        self.blank = false;
        self.scalar = if let Some(act) = rule {
            field(context, act)?;
            self.leave_scalar(act, sink);
            ScalarMode::Left(0)
        } else if armed {
            sink.put(&self.instead);
            ScalarMode::Left(0)
        } else if number && context.plan.act(Detector::Pan).is_some() {
            self.number.clear();
            ScalarMode::Hold
        } else {
            ScalarMode::Keep
        };
        Ok(())
    }

    /// `null` at once, or, where the length must stay, at the end of the scalar.
    fn leave_scalar(&mut self, act: &Act, sink: &mut impl Sink) {
        self.blank = act.operator == Operator::SameLength;
        if !self.blank {
            sink.put(b"null");
        }
    }

    fn scalar(
        &mut self,
        context: &mut Context<'_>,
        input: &[u8],
        range: Range<usize>,
        last: bool,
        sink: &mut impl Sink,
    ) -> Result<(), MaskError> {
        if self.scalar == ScalarMode::Hold {
            let bytes = input.get(range.clone()).unwrap_or_default();
            let fresh = self.number.is_empty();
            self.number.extend_from_slice(bytes);
            let (digits, over) = integer(&self.number);
            if !over && !last && digits.len() <= PAN_DIGITS_MAX {
                return Ok(());
            }
            if let Some(act) = context.plan.act(Detector::Pan).filter(|_| is_pan(digits)) {
                let what = What::Entity(Detector::Pan);
                if act.operator == Operator::Block {
                    return Err(MaskError::Blocked(what));
                }
                context.finds.add(what);
                self.scalar = ScalarMode::Left(self.number.len());
                self.number.clear();
                self.leave_scalar(act, sink);
                self.end_scalar(last, sink);
                return Ok(());
            }
            if fresh {
                sink.keep(range)
            } else {
                sink.put(&self.number)
            }
            self.number.clear();
            self.scalar = ScalarMode::Keep;
            return Ok(());
        }
        if let ScalarMode::Left(len) = &mut self.scalar {
            *len += range.len();
            self.end_scalar(last, sink);
        } else {
            self.pass(range, sink);
        }
        Ok(())
    }

    /// Where the length must stay: `null` and spaces, or a digit and spaces.
    fn end_scalar(&mut self, last: bool, sink: &mut impl Sink) {
        let ScalarMode::Left(len) = self.scalar else { return };
        if last && self.blank {
            let text: &[u8] = if len >= 4 { b"null" } else { b"0" };
            sink.put(text);
            spaces(len.saturating_sub(text.len()), |bytes| sink.put(bytes));
        }
        if last {
            self.scalar = ScalarMode::Keep;
        }
    }
}

const PAN_DIGITS_MAX: usize = 19;

/// The digits before a point or an exponent, and whether those are all.
fn integer(number: &[u8]) -> (&[u8], bool) {
    let number = number.strip_prefix(b"-").unwrap_or(number);
    let len = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (number.get(..len).unwrap_or_default(), len < number.len())
}

/// Counts a value that a rule names, or ends the exchange for it.
fn field(context: &mut Context<'_>, act: &Act) -> Result<(), MaskError> {
    if act.operator == Operator::Block {
        return Err(MaskError::Blocked(What::Field));
    }
    if act.counted {
        context.finds.add(What::Field);
    }
    Ok(())
}
