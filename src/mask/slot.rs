//! Texts that come in many events: one for each choice, content block or tool call, and field.

use super::MaskError;
use super::filter::VecSink;
use super::json::JsonMask;
use super::text::{Channel, Context};

/// Where the text of a slot stands in its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Site {
    /// A string member of a delta.
    Delta,
    /// A string member of a choice itself.
    Choice,
    /// `function.arguments` of a tool call with this index.
    ToolCall(u64),
    /// `function_call.arguments`.
    FunctionCall,
    /// `custom.input` of a tool call with this index: any text.
    CustomCall(u64),
    /// `audio.transcript` of a delta.
    Audio,
    /// JSON in a string member of a delta.
    DeltaJson,
}

/// One text that comes in many events.
#[derive(Debug)]
pub(super) struct Slot {
    open: bool,
    /// Index of the choice or the content block.
    pub(super) place: u64,
    pub(super) site: Site,
    /// Name of the member that holds the text.
    pub(super) member: Vec<u8>,
    /// Value of `type` of the delta, where there is one.
    pub(super) kind: Vec<u8>,
    text: Channel,
    json: Option<Box<JsonMask>>,
    /// Offset of the event that began with what is held.
    since: Option<u64>,
}

/// The slots of one stream; closed ones are used again.
#[derive(Debug, Default)]
pub(super) struct Slots(Vec<Slot>);

/// Texts open at a time.
const SLOTS_MAX: usize = 256;

impl Slots {
    pub(super) fn reset(&mut self) {
        self.0.iter_mut().for_each(Slot::drop_text);
    }

    /// The open slot of this key, opened if need be.
    pub(super) fn open(
        &mut self,
        place: u64,
        site: Site,
        kind: &[u8],
        member: &[u8],
    ) -> Result<usize, MaskError> {
        let is = |slot: &Slot| {
            slot.open
                && (slot.place, slot.site) == (place, site)
                && slot.member == member
                && slot.kind == kind
        };
        if let Some(found) = self.0.iter().position(is) {
            return Ok(found);
        }
        let index = match self.0.iter().position(|slot| !slot.open) {
            Some(index) => index,
            None if self.0.len() < SLOTS_MAX => {
                self.0.push(Slot::new());
                self.0.len() - 1
            }
            None => return Err(MaskError::TooManyTexts),
        };
        if let Some(slot) = self.0.get_mut(index) {
            slot.drop_text();
            (slot.open, slot.place, slot.site) = (true, place, site);
            slot.member.extend_from_slice(member);
            slot.kind.extend_from_slice(kind);
        }
        Ok(index)
    }

    pub(super) fn at(&mut self, index: usize) -> Option<&mut Slot> {
        self.0.get_mut(index)
    }

    /// The open slots of `place`, or of all places.
    pub(super) fn of(&mut self, place: Option<u64>) -> impl Iterator<Item = (usize, &mut Slot)> {
        let is = move |slot: &Slot| slot.open && place.is_none_or(|place| slot.place == place);
        self.0.iter_mut().enumerate().filter(move |(_, slot)| is(slot))
    }

    /// The offset of the first event of which something is still held.
    pub(super) fn waits_since(&self) -> Option<u64> {
        self.0.iter().filter(|slot| slot.open).filter_map(|slot| slot.since).min()
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            open: false,
            place: 0,
            site: Site::Delta,
            member: Vec::new(),
            kind: Vec::new(),
            text: Channel::default(),
            json: None,
            since: None,
        }
    }

    pub(super) fn drop_text(&mut self) {
        self.open = false;
        self.member.clear();
        self.kind.clear();
        self.text.begin();
        if let Some(json) = &mut self.json {
            json.reset(false);
        }
        self.since = None;
    }

    fn is_json(&self) -> bool {
        matches!(self.site, Site::ToolCall(_) | Site::FunctionCall | Site::DeltaJson)
    }

    /// Masks one more part of the text, which came with the event at `offset`.
    pub(super) fn feed(
        &mut self,
        context: &mut Context<'_>,
        part: &[u8],
        offset: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let mut sink = VecSink { input: part, out };
        let (held, known) = if self.is_json() {
            let json = self.json.get_or_insert_with(|| Box::new(JsonMask::new(false)));
            json.push(context, part, &mut sink)?;
            (json.held(), json.holds_all())
        } else {
            self.text.fresh_input();
            self.text.plain(context, part, 0..part.len(), false, &mut sink)?;
            (self.text.held(), self.text.holds_all())
        };
        self.since = match (held, known) {
            (0, true) => None,
            (held, true) if held <= part.len() => Some(offset),
            _ => self.since.or(Some(offset)),
        };
        Ok(())
    }

    /// Ends the text: what was held comes out, masked. JSON may end within a value: a model that
    /// ran out of tokens leaves it so.
    pub(super) fn close(
        &mut self,
        context: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let mut sink = VecSink { input: b"", out };
        self.text.fresh_input();
        let is_json = self.is_json();
        if let Some(json) = self.json.as_mut().filter(|_| is_json) {
            json.fresh_input();
            json.cut(context, &mut sink)?;
        } else {
            self.text.finish(context, &mut sink)?;
        }
        self.open = false;
        self.since = None;
        Ok(())
    }
}
