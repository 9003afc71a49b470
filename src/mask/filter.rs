//! The filter of one body, and the proof that bytes went through it.

use super::detector::Finds;
use super::event::EventMask;
use super::find::{VALUE_MIN, View};
use super::json::JsonMask;
use super::text::{Channel, Context, Sink};
use super::{Content, MaskError, Plan};
use crate::base::{Limits, Pieces};
use std::ops::Range;
use std::sync::Arc;

/// Pieces that went through a filter, or that the gateway wrote itself.
#[derive(Debug)]
#[must_use]
pub struct Cleared<'p> {
    pieces: &'p mut Pieces,
    masked: bool,
}

impl<'p> Cleared<'p> {
    /// Vouches for text that the gateway wrote itself: refusals, heads that it built.
    pub fn generated(pieces: &'p mut Pieces) -> Self {
        Self { pieces, masked: false }
    }

    /// The same for text that was masked as it was written; `changed` says whether it shows.
    pub fn generated_masked(pieces: &'p mut Pieces, changed: bool) -> Self {
        Self { pieces, masked: changed }
    }

    /// All `len` bytes of the input as they are, where no mask applies: appends one source range.
    pub fn pass(len: usize, out: &'p mut Pieces) -> Self {
        out.source(0..len);
        Self { pieces: out, masked: false }
    }

    /// Whether a plan that masks something was applied; for heads, whether it changed something.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.masked
    }

    /// What is cleared.
    #[must_use]
    pub fn pieces(&self) -> &Pieces {
        self.pieces
    }

    /// Gives the pieces on, for the next step to vouch for.
    #[must_use]
    pub fn into_pieces(self) -> &'p mut Pieces {
        self.pieces
    }
}

/// Masks one body after the other.
///
/// Held bytes are never let go unmasked: dropping or resetting a filter drops them.
#[derive(Debug)]
pub struct Filter {
    plan: Arc<Plan>,
    engine: Engine,
    finds: Finds,
    /// Bytes of the body that were pushed.
    fed: u64,
    settled: u64,
    failed: Option<MaskError>,
    event_max: u32,
    channel: Channel,
    json: JsonMask,
    events: Option<Box<EventMask>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Pass,
    /// Text under field rules: what begins like JSON is taken as JSON, or the label of a body
    /// would be a way around the rules.
    Undecided,
    Text,
    Json,
    Events,
}

impl Filter {
    /// A filter for one body of this content.
    ///
    /// # Errors
    /// [`MaskError::Unsupported`] for opaque content, unless the plan masks nothing.
    pub fn new(plan: &Arc<Plan>, content: Content, limits: &Limits) -> Result<Self, MaskError> {
        let mut filter = Self {
            plan: Arc::clone(plan),
            engine: Engine::Pass,
            finds: Finds::default(),
            fed: 0,
            settled: 0,
            failed: None,
            event_max: limits.event_max,
            channel: Channel::default(),
            json: JsonMask::new(false),
            events: None,
        };
        filter.reset(plan, content, limits)?;
        Ok(filter)
    }

    /// Makes it ready for another body; keeps the room.
    ///
    /// # Errors
    /// As [`Self::new`]; every push fails then, too.
    pub fn reset(
        &mut self,
        plan: &Arc<Plan>,
        content: Content,
        limits: &Limits,
    ) -> Result<(), MaskError> {
        if self.event_max != limits.event_max {
            self.event_max = limits.event_max;
            self.events = None;
        }
        if !Arc::ptr_eq(&self.plan, plan) {
            self.plan = Arc::clone(plan);
        }
        self.finds = Finds::default();
        (self.fed, self.settled, self.failed) = (0, 0, None);
        self.channel.begin();
        self.json.reset(content == Content::Ndjson);
        if let Some(events) = &mut self.events {
            events.reset();
        }
        self.engine = match content {
            _ if plan.is_pass() => Engine::Pass,
            Content::Text if plan.fields().has_rules() => Engine::Undecided,
            Content::Text => Engine::Text,
            Content::Json | Content::Ndjson => Engine::Json,
            Content::Sse(shape) => {
                let event_max = self.event_max;
                self.events.get_or_insert_with(|| Box::new(EventMask::new(event_max))).begin(shape);
                Engine::Events
            }
            Content::Opaque => {
                self.failed = Some(MaskError::Unsupported);
                return Err(MaskError::Unsupported);
            }
        };
        Ok(())
    }

    /// Masks all of `input`, and with `end` the body's end; appends to `out`, whose source ranges
    /// name `input`. What must wait is held and comes out of a later call, through the arena.
    ///
    /// # Errors
    /// [`MaskError`]; what was appended to `out` by this call is masked, but the body must end
    /// there. Every later call fails alike.
    pub fn push<'p>(
        &mut self,
        input: &[u8],
        end: bool,
        out: &'p mut Pieces,
    ) -> Result<Cleared<'p>, MaskError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if let Err(error) = self.mask(input, end, out) {
            self.failed = Some(error);
            return Err(error);
        }
        Ok(Cleared { pieces: out, masked: self.engine != Engine::Pass })
    }

    /// Bytes of room that it keeps for events, of which one may be long.
    #[must_use]
    pub fn room(&self) -> usize {
        self.events.as_ref().map_or(0, |events| events.room())
    }

    /// How many bytes from the start of the body are settled: all that they become is out.
    #[must_use]
    pub fn cleared(&self) -> u64 {
        self.settled
    }

    /// What was masked so far.
    #[must_use]
    pub fn finds(&self) -> Finds {
        self.finds
    }

    fn mask(&mut self, input: &[u8], end: bool, out: &mut Pieces) -> Result<(), MaskError> {
        let before = self.fed;
        self.fed = self.fed.saturating_add(input.len() as u64);
        if self.engine == Engine::Pass {
            out.source(0..input.len());
            self.settled = self.fed;
            return Ok(());
        }
        // No text has this byte but one in UTF-16 or UTF-32, which a byte order mark or a guess
        // tells its reader; there no detector sees a value. JSON may not hold it either.
        if memchr::memchr(0, input).is_some() {
            return Err(MaskError::Unsupported);
        }
        let mut context = Context { plan: &self.plan, finds: &mut self.finds };
        let mut sink = PieceSink(out);
        let mut start = 0;
        if self.engine == Engine::Undecided {
            let blank =
                |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf);
            start = input.iter().position(|byte| !blank(byte)).unwrap_or(input.len());
            sink.keep(0..start);
            match input.get(start) {
                Some(b'{' | b'[') => {
                    self.json.reset(true);
                    self.engine = Engine::Json;
                }
                Some(_) => self.engine = Engine::Text,
                None => {}
            }
        }
        let held = match self.engine {
            Engine::Pass | Engine::Undecided => Some(0),
            Engine::Text => {
                self.channel.fresh_input();
                self.channel.plain(&mut context, input, start..input.len(), end, &mut sink)?;
                if end {
                    self.channel.finish(&mut context, &mut sink)?;
                }
                self.channel.holds_all().then(|| self.channel.held())
            }
            Engine::Json => {
                self.json.fresh_input();
                self.json.step(&mut context, input, start, &mut sink)?;
                if end {
                    self.json.finish(&mut context, &mut sink)?;
                }
                self.json.holds_all().then(|| self.json.held())
            }
            Engine::Events => {
                let Some(events) = &mut self.events else { return Err(MaskError::Unsupported) };
                let settled = events.push(&mut context, input, before, end, out)?;
                self.settled = if end { self.fed } else { settled };
                return Ok(());
            }
        };
        if end {
            self.settled = self.fed;
        } else if let Some(held) = held {
            self.settled = self.fed.saturating_sub(held as u64);
        }
        Ok(())
    }
}

/// Masks one whole text, a header's value say, and appends it to `out`.
///
/// # Errors
/// [`MaskError`]; `out` holds nothing of a blocked value then, but may hold what was before it.
pub fn clear_value(plan: &Plan, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), MaskError> {
    let mut finds = Finds::default();
    let mut context = Context { plan, finds: &mut finds };
    clear_text(&mut context, bytes, out)
}

/// As [`clear_value`], counted.
pub(super) fn clear_text(
    context: &mut Context<'_>,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), MaskError> {
    // Most values of heads hold nothing: then no channel need be made.
    if !may_hold(context.plan, bytes) {
        out.extend_from_slice(bytes);
        return Ok(());
    }
    let mut channel = Channel::default();
    let mut sink = VecSink { input: bytes, out };
    channel.plain(context, bytes, 0..bytes.len(), true, &mut sink)?;
    channel.finish(context, &mut sink)
}

/// Whether a whole text may hold a value that some detector finds.
pub(super) fn may_hold(plan: &Plan, bytes: &[u8]) -> bool {
    let triggers = plan.triggers();
    let view = View { text: bytes, left: [0; 2], end: true };
    let sign = || triggers.email() && memchr::memchr(b'@', bytes).is_some();
    let long = bytes.len() >= VALUE_MIN;
    plan.detects() && long && (sign() || triggers.next(&view, 0, bytes.len()).is_some())
}

struct PieceSink<'a>(&'a mut Pieces);

impl Sink for PieceSink<'_> {
    fn keep(&mut self, range: Range<usize>) {
        self.0.source(range);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.text(bytes);
    }
}

/// Copies everything into one vector.
pub(super) struct VecSink<'a> {
    pub(super) input: &'a [u8],
    pub(super) out: &'a mut Vec<u8>,
}

impl Sink for VecSink<'_> {
    fn keep(&mut self, range: Range<usize>) {
        self.out.extend_from_slice(self.input.get(range).unwrap_or_default());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}
