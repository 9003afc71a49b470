//! The event that brings the tail of a text, where the text ends and something of it was held.

use super::event::mask_json;
use super::json::JsonMask;
use super::slot::{Site, Slot};
use super::text::Context;
use super::{MaskError, Shape};
use crate::scan::json::escape_into;
use std::io::Write as _;

/// Writes an event that brings the tail of a text.
pub(super) fn insert(
    context: &mut Context<'_>,
    shape: Shape,
    slot: &Slot,
    tail: &[u8],
    envelope: &mut Vec<u8>,
    json: &mut JsonMask,
    out: &mut Vec<u8>,
) -> Result<(), MaskError> {
    let text = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"\"");
        escape_into(&slot.member, out);
        out.extend_from_slice(b"\":\"");
        escape_into(tail, out);
        out.extend_from_slice(b"\"");
    };
    if shape == Shape::Anthropic {
        out.extend_from_slice(b"event: content_block_delta\n");
        out.extend_from_slice(b"data: {\"type\":\"content_block_delta\",\"index\":");
        number(slot.place, out);
        out.extend_from_slice(b",\"delta\":{");
        if !slot.kind.is_empty() {
            out.extend_from_slice(b"\"type\":\"");
            out.extend_from_slice(&slot.kind);
            out.extend_from_slice(b"\",");
        }
        text(out);
        out.extend_from_slice(b"}}\n\n");
        return Ok(());
    }
    out.extend_from_slice(b"data: ");
    if envelope.is_empty() {
        out.push(b'{');
    } else {
        envelope.push(b'}');
        let masked = mask_json(context, json, envelope, out);
        envelope.pop();
        masked?;
        out.pop();
        out.push(b',');
    }
    out.extend_from_slice(b"\"choices\":[{\"index\":");
    number(slot.place, out);
    out.push(b',');
    let close: &[u8] = match slot.site {
        Site::Choice => b"",
        Site::Delta | Site::DeltaJson => {
            out.extend_from_slice(b"\"delta\":{");
            b"}"
        }
        Site::FunctionCall => {
            out.extend_from_slice(b"\"delta\":{\"function_call\":{");
            b"}}"
        }
        Site::ToolCall(index) => {
            out.extend_from_slice(b"\"delta\":{\"tool_calls\":[{\"index\":");
            number(index, out);
            out.extend_from_slice(b",\"function\":{");
            b"}}]}"
        }
        Site::CustomCall(index) => {
            out.extend_from_slice(b"\"delta\":{\"tool_calls\":[{\"index\":");
            number(index, out);
            out.extend_from_slice(b",\"custom\":{");
            b"}}]}"
        }
        Site::Audio => {
            out.extend_from_slice(b"\"delta\":{\"audio\":{");
            b"}}"
        }
    };
    text(out);
    out.extend_from_slice(close);
    out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
    Ok(())
}

/// Appends a number in digits; a `Vec` takes all that is written.
fn number(number: u64, out: &mut Vec<u8>) {
    let _ = write!(out, "{number}");
}
