//! The head of a response. The upstream is a stranger too: as strict, with 502 as the answer.

use super::error::{HeadError, HeadFault};
use super::fields::{
    self, Direction, FIELDS_MAX, Field, Framing, Present, fault_of, narrow, range_of, slice,
};
use super::names::FieldId;
use super::plain::{self, Usual};
use super::scan::{Bounds, HeadScan};
use crate::base::Limits;
use std::ops::Range;

/// A response head: ranges of the buffer that it was parsed from, and what they mean.
///
/// Meaningful after [`parse_response`] returned `true`, and used again for the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 599, never 101.
    pub status: u16,
    /// The reason phrase, often empty. Never sent on: the gateway writes its own status line.
    pub reason: Range<u32>,
    /// 0 or 1, for HTTP/1.0 and HTTP/1.1.
    pub version_minor: u8,
    /// In their order.
    pub fields: Vec<Field>,
    /// Bytes of the buffer that the head takes.
    pub head_len: u32,
    /// [`Framing::None`] for answers to `HEAD`, 1xx, 204 and 304, whatever their fields claim.
    pub framing: Framing,
    /// Whether the connection could serve another exchange; never with [`Framing::UntilClose`].
    pub keep_alive: bool,
}

impl ResponseHead {
    /// An empty head, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// 1xx: another head follows.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// The value of the first field with `id`.
    #[must_use]
    pub fn value<'b>(&self, buf: &'b [u8], id: FieldId) -> Option<&'b [u8]> {
        fields::value(&self.fields, buf, id)
    }

    /// Forgets the response and keeps the room.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }
}

/// Looks for a whole response head at the start of `buf` and parses it into `head`.
///
/// As [`parse_request`](super::parse_request); `request_was_head` tells whether the answer is to a
/// `HEAD`, which has no body (RFC 9112, section 6.3).
///
/// # Errors
/// [`HeadError`], whose status is 502. The connection must not be used again.
pub fn parse_response(
    head: &mut ResponseHead,
    scan: &mut HeadScan,
    buf: &[u8],
    limits: &Limits,
    request_was_head: bool,
) -> Result<bool, HeadError> {
    parse(head, scan, buf, limits, request_was_head).map_err(HeadError::response)
}

fn parse(
    head: &mut ResponseHead,
    scan: &mut HeadScan,
    buf: &[u8],
    limits: &Limits,
    request_was_head: bool,
) -> Result<bool, HeadFault> {
    let bounds = Bounds {
        line_max: limits.request_line_max,
        // Policies and cookies of upstreams are longer than what callers send.
        field_max: limits.response_head_max,
        head_max: limits.response_head_max,
        fields_max: limits.response_fields_max.min(FIELDS_MAX as u32),
        empty_first: false,
    };
    head.clear();
    if scan.is_idle()
        && let Some(usual) = plain::read(&mut head.fields, buf, &bounds, Direction::Response)
        && usual_start(head, buf, &usual).is_some()
    {
        interpret(head, usual.present, buf, request_was_head)?;
        return Ok(true);
    }
    let Some(found) = scan.find(buf, &bounds)? else { return Ok(false) };
    head.clear();
    head.head_len = narrow(0..found.head.end).ok_or(HeadFault::HeadTooLong)?.end;
    let text = buf.get(found.head).unwrap_or_default();
    let present = if found.fields <= 32 {
        start_and_fields::<32>(head, buf, text)?
    } else {
        start_and_fields::<FIELDS_MAX>(head, buf, text)?
    };
    interpret(head, present, buf, request_was_head)?;
    Ok(true)
}

/// Reads a status line such as most are. `None`: httparse decides.
fn usual_start(head: &mut ResponseHead, buf: &[u8], usual: &Usual) -> Option<()> {
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', code @ ..] =
        buf.get(..usual.line as usize)?
    else {
        return None;
    };
    let [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ', reason @ ..] = code else {
        return None;
    };
    let digit = |byte: &u8| u16::from(*byte - b'0');
    head.status = digit(a) * 100 + digit(b) * 10 + digit(c);
    head.version_minor = *minor - b'0';
    head.reason = range_of(buf, reason).ok()?;
    head.head_len = usual.head;
    Some(())
}

fn interpret(
    head: &mut ResponseHead,
    present: Present,
    buf: &[u8],
    request_was_head: bool,
) -> Result<(), HeadFault> {
    match head.status {
        101 => return Err(HeadFault::UnaskedUpgrade),
        100..=599 => {}
        _ => return Err(HeadFault::Status),
    }
    // Read even where there is no body: an upstream that is odd here is odd elsewhere.
    let framing = fields::framing(&head.fields, present, buf, head.version_minor)?;
    let bodiless = request_was_head || head.is_interim() || matches!(head.status, 204 | 304);
    head.framing = if bodiless { Framing::None } else { framing.unwrap_or(Framing::UntilClose) };
    let wishes = fields::connection(&mut head.fields, present, buf)?;
    head.keep_alive = wishes.persists(head.version_minor) && head.framing != Framing::UntilClose;
    Ok(())
}

/// Runs httparse over `text`, a whole head. A status line without the space before its reason
/// phrase passes: nobody can read it in another way, and it is not sent on.
fn start_and_fields<const N: usize>(
    head: &mut ResponseHead,
    buf: &[u8],
    text: &[u8],
) -> Result<Present, HeadFault> {
    let mut room = [httparse::EMPTY_HEADER; N];
    let mut response = httparse::Response::new(&mut room);
    match response.parse(text) {
        Ok(httparse::Status::Complete(len)) if len == text.len() => {}
        Ok(_) => return Err(HeadFault::LineEnd),
        Err(error) => return Err(fault_of(error)),
    }
    let (Some(status), Some(version @ (0 | 1))) = (response.code, response.version) else {
        return Err(HeadFault::StartLine);
    };
    head.status = status;
    head.version_minor = version;
    head.reason = reason(buf, text)?;
    fields::fill(&mut head.fields, buf, response.headers, Direction::Response)
}

/// The rest of the status line. httparse gives an empty phrase for one with bytes above 0x7f.
fn reason(buf: &[u8], text: &[u8]) -> Result<Range<u32>, HeadFault> {
    let line = text.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let range = range_of(buf, line.get(b"HTTP/1.1 200 ".len()..).unwrap_or_default())?;
    debug_assert!(!slice(buf, &range).contains(&b'\n'));
    Ok(range)
}
