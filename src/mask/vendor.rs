//! Events of OpenAI chat completions and of Anthropic messages.
//!
//! A value may be split over many token deltas, so each text of a stream has a [`Slot`] that
//! outlives the event. What a delta's string becomes is what its slot lets out; a tail that is
//! held when the text ends goes out in a delta that is inserted before the event that ends it.
//! Tool-call arguments are JSON in fragments: they go through a JSON mask of their own, so that
//! field rules work in them with `$` as the root of the arguments. `logprobs` repeats every token
//! in clear and `obfuscation` is padding of a length that tells: both are emptied.
//! All that is not known here is masked as any JSON, each string for itself; a text that is known
//! to come in parts of an unknown form ends the stream.

use super::filter::VecSink;
use super::json::JsonMask;
use super::slot::{Site, Slot, Slots};
use super::stencil::{Parts, Stencil};
use super::tail;
use super::tape::{Kind, Tape, inside};
use super::text::Context;
use super::{MaskError, Shape};
use crate::scan::json::{escape_into, unescape};
use std::ops::Range;

/// The state of one vendor's stream.
#[derive(Debug)]
pub(super) struct Vendor {
    slots: Slots,
    tape: Tape,
    json: JsonMask,
    edits: Vec<Edit>,
    /// Texts that end with the event in hand.
    ends: Vec<End>,
    /// Members of the last chunk that an inserted chunk repeats, as they were written.
    envelope: Vec<u8>,
    decoded: Vec<u8>,
    part: Vec<u8>,
    /// The masked event before.
    stencil: Stencil,
}

/// One value of an event that something else stands for.
#[derive(Debug)]
struct Edit {
    range: Range<usize>,
    to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Null,
    Empty,
    /// Itself: a number that counts events, told by [`Vendor::varying`].
    Count,
    /// Text in parts of an unknown form: no detector can follow it.
    Parts,
    /// What this slot lets out; with `last`, its tail too.
    Slot {
        index: usize,
        last: bool,
    },
}

/// What differs from event to event at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Varies {
    /// A string: a part of the text at this place.
    Text(usize),
    /// A string that says nothing.
    Padding,
    /// A number.
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Place(u64),
    All,
}

/// String members of a delta that are no text of the model.
const NO_TEXT: &[&[u8]] = &[b"role", b"id", b"type", b"name", b"tool_call_id", b"signature"];
/// Members that every chunk of a completion repeats.
const REPEATED: &[&[u8]] = &[b"id", b"object", b"created", b"model", b"system_fingerprint"];

impl Default for Vendor {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
            tape: Tape::default(),
            json: JsonMask::new(false),
            edits: Vec::new(),
            ends: Vec::new(),
            envelope: Vec::new(),
            decoded: Vec::new(),
            part: Vec::new(),
            stencil: Stencil::default(),
        }
    }
}

impl Vendor {
    /// Back to the start of a stream; drops what is held.
    pub(super) fn reset(&mut self) {
        self.slots.reset();
        self.envelope.clear();
        self.stencil.forget();
    }

    /// The offset of the first event of which something is still held.
    pub(super) fn waits_since(&self) -> Option<u64> {
        self.slots.waits_since()
    }

    /// Masks the data of one event, which began at `offset`, into `masked`; events that must come
    /// before it are appended to `out`.
    pub(super) fn event(
        &mut self,
        context: &mut Context<'_>,
        shape: Shape,
        data: &[u8],
        offset: u64,
        out: &mut Vec<u8>,
        masked: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        match data.trim_ascii() {
            b"" => return Ok(()),
            b"[DONE]" => {
                self.close_all(context, shape, out)?;
                masked.extend_from_slice(b"[DONE]");
                return Ok(());
            }
            _ => {}
        }
        if let Some(parts) = self.stencil.parts(data) {
            return self.fill(context, data, &parts, offset, masked);
        }
        self.stencil.forget();
        self.tape.read(data)?;
        self.edits.clear();
        self.ends.clear();
        match shape {
            Shape::Anthropic => self.read_anthropic(data)?,
            _ => self.read_openai(data)?,
        }
        if !self.ends.is_empty() {
            self.stencil.spoil();
        }
        self.close_ended(context, shape, out)?;
        self.rewrite(context, data, offset, masked)
    }

    /// Masks the data of an event that fits the stencil.
    fn fill(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
        parts: &Parts,
        offset: u64,
        masked: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let mut from = 0;
        for (place, (start, end)) in parts.iter().enumerate() {
            let Some(value) = self.stencil.at(place) else { break };
            masked.extend_from_slice(self.stencil.masked(from, Some(value.masked_until)));
            from = value.masked_until;
            if let Some(slot) = value.slot.and_then(|index| self.slots.at(index)) {
                self.part.clear();
                let part = data.get(*start..*end).unwrap_or_default();
                slot.feed(context, part, offset, &mut self.part)?;
                escape_into(&self.part, masked);
            }
        }
        masked.extend_from_slice(self.stencil.masked(from, None));
        Ok(())
    }

    /// Reads the data of one event and masks nothing: `told` gets each part of a text, un-escaped,
    /// with the place of the text, and `None` for a text that ends. Returns whether one ended.
    pub(super) fn follow(
        &mut self,
        shape: Shape,
        data: &[u8],
        told: &mut impl FnMut(usize, Option<&[u8]>),
    ) -> Result<bool, MaskError> {
        self.edits.clear();
        self.ends.clear();
        match data.trim_ascii() {
            b"" => return Ok(false),
            b"[DONE]" => self.ends.push(End::All),
            _ => {
                self.tape.read(data)?;
                match shape {
                    Shape::Anthropic => self.read_anthropic(data)?,
                    _ if !self.read_response(data)? => self.read_openai(data)?,
                    _ => {}
                }
            }
        }
        for (at, edit) in self.edits.iter().enumerate() {
            let To::Slot { index, .. } = edit.to else { continue };
            // Of a name that stands twice most readers take the last: which it is, is not known.
            if self.edits.iter().take(at).any(|before| before.to == edit.to) {
                return Err(MaskError::Unsupported);
            }
            self.decoded.clear();
            unescape(inside(data, edit.range.clone()), &mut self.decoded);
            told(index, Some(&self.decoded));
        }
        // An Anthropic block is never in the event that ends it; what begins there is a new one.
        let goes_on = |at: usize, edits: &[Edit]| {
            let mine = |edit: &Edit| matches!(edit.to, To::Slot { index, .. } if index == at);
            shape == Shape::Anthropic && edits.iter().any(mine)
        };
        for end in &self.ends {
            let place = match end {
                End::Place(place) => Some(*place),
                End::All => None,
            };
            for (at, slot) in self.slots.of(place) {
                if !goes_on(at, &self.edits) {
                    slot.drop_text();
                    told(at, None);
                }
            }
        }
        Ok(!self.ends.is_empty())
    }

    /// The values of the event that was read last that differ from event to event.
    pub(super) fn varying(&self) -> impl Iterator<Item = (Range<usize>, Varies)> {
        self.edits.iter().filter_map(|edit| {
            let varies = match edit.to {
                To::Slot { index, .. } => Varies::Text(index),
                To::Empty => Varies::Padding,
                To::Count => Varies::Count,
                To::Null | To::Parts => return None,
            };
            Some((edit.range.clone(), varies))
        })
    }

    /// Finds the text of an event of the OpenAI Responses API, if it is one that brings text.
    fn read_response(&mut self, data: &[u8]) -> Result<bool, MaskError> {
        let tape = &self.tape;
        let number = |name: &'static [u8]| tape.number(0, name, data);
        let part = number(b"content_index").or_else(|| number(b"summary_index"));
        let part = part.or_else(|| number(b"command_index")).unwrap_or(0) & 0xffff;
        let place = number(b"output_index").unwrap_or(0) << 16 | part;
        let kind = tape.text(0, b"type", data);
        let mut found = kind.starts_with(b"response.");
        for delta in tape.members(0, b"delta").filter(|at| tape.kind(*at) == Some(Kind::Text)) {
            found = true;
            let index = self.slots.open(place, Site::Delta, kind, b"delta")?;
            self.edits.push(edit(tape, delta, To::Slot { index, last: false }));
        }
        for member in tape.children(0) {
            match tape.name(member) {
                b"sequence_number" => self.edits.push(edit(tape, member, To::Count)),
                b"obfuscation" => self.edits.push(edit(tape, member, To::Empty)),
                _ => {}
            }
        }
        self.edits.sort_unstable_by_key(|edit| edit.range.start);
        match kind {
            b"response.completed" | b"response.failed" | b"response.incomplete" => {
                self.ends.push(End::All);
            }
            kind if kind.ends_with(b".done") => {
                let stem = kind.strip_suffix(b".done").unwrap_or_default();
                let ends = |slot: &Slot| slot.kind.strip_suffix(b".delta") == Some(stem);
                if self.slots.of(Some(place)).any(|(_, slot)| ends(slot)) {
                    self.ends.push(End::Place(place));
                }
            }
            _ => {}
        }
        if !found {
            self.edits.clear();
        }
        Ok(found)
    }

    /// Ends every text that is open; the tails go out in inserted events.
    pub(super) fn close_all(
        &mut self,
        context: &mut Context<'_>,
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        self.edits.clear();
        self.ends.clear();
        self.ends.push(End::All);
        self.close_ended(context, shape, out)
    }

    /// Finds what an OpenAI chunk holds.
    fn read_openai(&mut self, data: &[u8]) -> Result<(), MaskError> {
        let tape = &self.tape;
        let mut chunk = false;
        for member in tape.children(0) {
            match (tape.name(member), tape.kind(member)) {
                (b"obfuscation", _) => self.edits.push(edit(tape, member, To::Empty)),
                (b"logprobs", _) => self.edits.push(edit(tape, member, To::Null)),
                // The form of the Responses API, whose texts are not followed here.
                (b"delta", Some(Kind::Text)) => return Err(MaskError::Unsupported),
                (b"choices", Some(Kind::Array)) => {
                    chunk = true;
                    for (position, choice) in tape.children(member).enumerate() {
                        let place = tape.number(choice, b"index", data);
                        let place = place.unwrap_or(position as u64);
                        let (edits, slots) = (&mut self.edits, &mut self.slots);
                        read_choice(tape, choice, place, data, slots, edits)?;
                        let ends = tape.members(choice, b"finish_reason").any(|reason| {
                            !matches!(data.get(tape.range(reason)), Some(b"null" | b"\"\""))
                        });
                        if ends {
                            self.ends.push(End::Place(place));
                        }
                    }
                }
                _ => {}
            }
        }
        if chunk {
            self.envelope.clear();
            for member in tape.children(0).filter(|m| REPEATED.contains(&tape.name(*m))) {
                self.envelope.push(if self.envelope.is_empty() { b'{' } else { b',' });
                self.envelope.push(b'"');
                escape_into(tape.name(member), &mut self.envelope);
                self.envelope.extend_from_slice(b"\":");
                let value = data.get(tape.range(member)).unwrap_or_default();
                self.envelope.extend_from_slice(value);
            }
        }
        Ok(())
    }

    /// Finds what an Anthropic event holds.
    fn read_anthropic(&mut self, data: &[u8]) -> Result<(), MaskError> {
        let tape = &self.tape;
        let place = tape.number(0, b"index", data).unwrap_or(0);
        match tape.text(0, b"type", data) {
            b"content_block_start" => {
                self.ends.push(End::Place(place));
                for member in tape.below(0, b"content_block", Kind::Object) {
                    let kind: &[u8] = match tape.name(member) {
                        b"text" => b"text_delta",
                        b"thinking" => b"thinking_delta",
                        _ => continue,
                    };
                    let name = tape.name(member);
                    let empty = tape.range(member).len() <= 2;
                    if tape.kind(member) == Some(Kind::Text) && !empty {
                        let index = self.slots.open(place, Site::Delta, kind, name)?;
                        self.edits.push(edit(tape, member, To::Slot { index, last: false }));
                    }
                }
            }
            b"content_block_delta" => {
                for delta in tape.members(0, b"delta") {
                    let kind = tape.text(delta, b"type", data);
                    for member in texts(tape, delta) {
                        let name = tape.name(member);
                        let json = name == b"partial_json";
                        let site = if json { Site::DeltaJson } else { Site::Delta };
                        let index = self.slots.open(place, site, kind, name)?;
                        self.edits.push(edit(tape, member, To::Slot { index, last: false }));
                    }
                }
            }
            b"content_block_stop" => self.ends.push(End::Place(place)),
            b"message_delta" | b"message_stop" | b"error" => self.ends.push(End::All),
            _ => {}
        }
        Ok(())
    }

    /// Closes the texts that end with this event. A text of which the event itself brings the
    /// last part gets its tail there, every other in an inserted event.
    fn close_ended(
        &mut self,
        context: &mut Context<'_>,
        shape: Shape,
        out: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        // An Anthropic block is never in the event that ends it; what begins there is a new one.
        let in_event = shape != Shape::Anthropic;
        for end in self.ends.drain(..) {
            let place = match end {
                End::Place(place) => Some(place),
                End::All => None,
            };
            for (at, slot) in self.slots.of(place) {
                let mine = |to: To| matches!(to, To::Slot { index, .. } if index == at);
                let found = self.edits.iter_mut().rev().find(|edit| mine(edit.to));
                match found {
                    Some(edit) if in_event => edit.to = To::Slot { index: at, last: true },
                    Some(_) => {}
                    None => {
                        self.part.clear();
                        slot.close(context, &mut self.part)?;
                        if !self.part.is_empty() {
                            let (envelope, json) = (&mut self.envelope, &mut self.json);
                            tail::insert(context, shape, slot, &self.part, envelope, json, out)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Masks the event with all that is edited in it.
    fn rewrite(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
        offset: u64,
        masked: &mut Vec<u8>,
    ) -> Result<(), MaskError> {
        let (json, stencil) = (&mut self.json, &mut self.stencil);
        json.reset(false);
        json.fresh_input();
        let mut from = 0;
        // What is found in the parts of texts.
        let (before, mut in_parts) = (context.finds.total(), 0);
        for edit in &self.edits {
            let before = data.get(..edit.range.start).unwrap_or_default();
            json.step(context, before, from, &mut VecSink { input: data, out: masked })?;
            from = edit.range.start;
            if json.rule_is_next(context.plan) {
                // The field rule speaks for the whole value, and the slot never sees it.
                if matches!(edit.to, To::Slot { .. } | To::Empty) {
                    stencil.spoil();
                }
                continue;
            }
            let (index, last) = match edit.to {
                To::Count => continue,
                To::Parts if context.plan.detects() => return Err(MaskError::Unsupported),
                To::Parts => continue,
                To::Null => {
                    json.replace_next(|instead| instead.extend_from_slice(b"null"));
                    continue;
                }
                To::Empty => {
                    json.replace_next(|instead| instead.extend_from_slice(b"\"\""));
                    let new = masked.len()..masked.len() + 2;
                    stencil.value(edit.range.clone(), new, None);
                    continue;
                }
                To::Slot { index, last } => (index, last),
            };
            let Some(slot) = self.slots.at(index) else { continue };
            self.decoded.clear();
            self.part.clear();
            unescape(inside(data, edit.range.clone()), &mut self.decoded);
            let outside = context.finds.total();
            slot.feed(context, &self.decoded, offset, &mut self.part)?;
            if last {
                slot.close(context, &mut self.part)?;
            }
            in_parts += context.finds.total() - outside;
            let mut len = 0;
            json.replace_next(|instead| {
                instead.push(b'"');
                escape_into(&self.part, instead);
                instead.push(b'"');
                len = instead.len();
            });
            let new = masked.len()..masked.len() + len;
            stencil.value(edit.range.clone(), new, Some(index));
        }
        let mut sink = VecSink { input: data, out: masked };
        json.step(context, data, from, &mut sink)?;
        json.finish(context, &mut sink)?;
        if context.finds.total() - before != in_parts {
            self.stencil.spoil();
        }
        self.stencil.finish(data, masked);
        Ok(())
    }
}

#[cfg(test)]
impl Vendor {
    /// Lets the next event fit nothing.
    pub(super) fn forget_stencil(&mut self) {
        self.stencil.forget();
    }

    /// Whether the next event fits the one before.
    pub(super) fn fits_stencil(&self, data: &[u8]) -> bool {
        self.stencil.parts(data).is_some()
    }
}

fn edit(tape: &Tape, at: usize, to: To) -> Edit {
    Edit { range: tape.range(at), to }
}

/// The string members of a delta that are text.
fn texts(tape: &Tape, delta: usize) -> impl Iterator<Item = usize> {
    tape.children(delta).filter(|member| {
        tape.kind(*member) == Some(Kind::Text) && !NO_TEXT.contains(&tape.name(*member))
    })
}

fn read_choice(
    tape: &Tape,
    choice: usize,
    place: u64,
    data: &[u8],
    slots: &mut Slots,
    edits: &mut Vec<Edit>,
) -> Result<(), MaskError> {
    let mut open = |member: usize, site: Site, edits: &mut Vec<Edit>| {
        let index = slots.open(place, site, b"", tape.name(member))?;
        edits.push(edit(tape, member, To::Slot { index, last: false }));
        Ok::<(), MaskError>(())
    };
    for member in tape.children(choice) {
        match (tape.name(member), tape.kind(member)) {
            (b"logprobs", _) => edits.push(edit(tape, member, To::Null)),
            (b"text", Some(Kind::Text)) => open(member, Site::Choice, edits)?,
            (b"delta", Some(Kind::Object)) => {
                for part in tape.children(member) {
                    match (tape.name(part), tape.kind(part)) {
                        (b"tool_calls", Some(Kind::Array)) => {
                            for (position, call) in tape.children(part).enumerate() {
                                let index = tape.number(call, b"index", data);
                                let site = Site::ToolCall(index.unwrap_or(position as u64));
                                let custom = Site::CustomCall(index.unwrap_or(position as u64));
                                for member in tape.children(call) {
                                    let (name, site) = match tape.name(member) {
                                        b"function" => (b"arguments".as_slice(), site),
                                        b"custom" => (b"input".as_slice(), custom),
                                        _ => continue,
                                    };
                                    for text in strings(tape, member, name) {
                                        open(text, site, edits)?;
                                    }
                                }
                            }
                        }
                        (b"function_call", Some(Kind::Object)) => {
                            for argument in tape.members(part, b"arguments") {
                                if tape.kind(argument) == Some(Kind::Text) {
                                    open(argument, Site::FunctionCall, edits)?;
                                }
                            }
                        }
                        // Services that think aloud: it repeats `reasoning`.
                        (b"reasoning_details", _) => edits.push(edit(tape, part, To::Null)),
                        (b"content", Some(Kind::Array | Kind::Object)) => {
                            edits.push(edit(tape, part, To::Parts));
                        }
                        (b"audio", Some(Kind::Object)) => {
                            for text in strings(tape, part, b"transcript") {
                                open(text, Site::Audio, edits)?;
                            }
                        }
                        (name, Some(Kind::Text)) if !NO_TEXT.contains(&name) => {
                            open(part, Site::Delta, edits)?;
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The strings of an object that have this name.
fn strings(tape: &Tape, object: usize, name: &'static [u8]) -> impl Iterator<Item = usize> {
    let object = (tape.kind(object) == Some(Kind::Object)).then_some(object);
    let members = object.into_iter().flat_map(move |object| tape.members(object, name));
    members.filter(|member| tape.kind(*member) == Some(Kind::Text))
}
