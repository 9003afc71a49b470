//! The head of a request.

use super::error::{HeadError, HeadFault};
use super::fields::{
    self, Direction, FIELDS_MAX, Field, Framing, Present, fault_of, list, narrow, range_of, slice,
};
use super::host::Authority;
use super::names::FieldId;
use super::path::{canonical_path, is_query_byte, unescape};
use super::plain::{self, Usual};
use super::scan::{Bounds, HeadScan};
use crate::base::Limits;
use std::ops::Range;

/// In which form a target came (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`, whose authority equals `Host`; handled as origin form.
    Absolute,
    /// `*`, with `OPTIONS` only.
    Asterisk,
}

/// What a request is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Canonical, with its leading `/`; `*` in asterisk form.
    pub path: Vec<u8>,
    /// The path as it came.
    pub raw_path: Range<u32>,
    /// What follows the first `?`, checked but as it came.
    pub query: Option<Range<u32>>,
    /// See [`Form`].
    pub form: Form,
}

/// A request head: ranges of the buffer that it was parsed from, and what they mean.
///
/// Meaningful after [`parse_request`] returned `true`, and used again for the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// Case-sensitive.
    pub method: Range<u32>,
    /// See [`Target`].
    pub target: Target,
    /// 0 or 1, for HTTP/1.0 and HTTP/1.1.
    pub version_minor: u8,
    /// In their order.
    pub fields: Vec<Field>,
    /// Bytes of the buffer that the head takes, with an empty line before and the one behind.
    pub head_len: u32,
    /// Never [`Framing::UntilClose`].
    pub framing: Framing,
    /// The value of `Host`, or the authority of an absolute target in HTTP/1.0 without `Host`.
    pub host: Option<Range<u32>>,
    /// Whether the caller wants the connection to go on.
    pub keep_alive: bool,
    /// `Expect: 100-continue` in HTTP/1.1.
    pub expect_continue: bool,
    /// An offer to change to a protocol other than HTTP/2 and TLS, made by `Connection: upgrade`
    /// and `Upgrade` together. Other offers may be passed over (RFC 9110, section 7.8).
    pub upgrade: bool,
}

impl RequestHead {
    /// An empty head, to be filled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The method.
    #[must_use]
    pub fn method<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        slice(buf, &self.method)
    }

    /// The query without `?`, if the target has one.
    #[must_use]
    pub fn query<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.target.query.as_ref().map(|range| slice(buf, range))
    }

    /// The value of the first field with `id`.
    #[must_use]
    pub fn value<'b>(&self, buf: &'b [u8], id: FieldId) -> Option<&'b [u8]> {
        fields::value(&self.fields, buf, id)
    }

    /// The value of the one field named `name`, in any case of letters; for slots that only a
    /// config knows.
    ///
    /// # Errors
    /// [`HeadFault::DuplicateField`] when there is more than one line of it.
    pub fn single<'b>(&self, buf: &'b [u8], name: &[u8]) -> Result<Option<&'b [u8]>, HeadFault> {
        let mut lines =
            self.fields.iter().filter(|field| field.name(buf).eq_ignore_ascii_case(name));
        match (lines.next(), lines.next()) {
            (first, None) => Ok(first.map(|field| field.value(buf))),
            _ => Err(HeadFault::DuplicateField),
        }
    }

    /// `Host` as it came.
    #[must_use]
    pub fn host<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.host.as_ref().map(|range| slice(buf, range))
    }

    /// Forgets the request and keeps the room.
    pub fn clear(&mut self) {
        let (mut fields, mut path) =
            (std::mem::take(&mut self.fields), std::mem::take(&mut self.target.path));
        fields.clear();
        path.clear();
        *self = Self { fields, target: Target { path, ..Target::default() }, ..Self::default() };
    }
}

/// Looks for a whole request head at the start of `buf` and parses it into `head`.
///
/// `false` means that more bytes are needed; show the same buffer again when it has grown. With
/// `true` the head is in `head`, `head.head_len` bytes are used, and `scan` is ready for the next.
///
/// # Errors
/// [`HeadError`] with status and label: answer and close, whatever follows in the buffer.
pub fn parse_request(
    head: &mut RequestHead,
    scan: &mut HeadScan,
    buf: &[u8],
    limits: &Limits,
) -> Result<bool, HeadError> {
    parse(head, scan, buf, limits).map_err(HeadError::request)
}

fn parse(
    head: &mut RequestHead,
    scan: &mut HeadScan,
    buf: &[u8],
    limits: &Limits,
) -> Result<bool, HeadFault> {
    let bounds = Bounds {
        line_max: limits.request_line_max,
        field_max: limits.field_max,
        head_max: limits.request_head_max,
        fields_max: limits.fields_max.min(FIELDS_MAX as u32),
        empty_first: true,
    };
    head.clear();
    if scan.is_idle()
        && let Some(usual) = plain::read(&mut head.fields, buf, &bounds, Direction::Request)
        && let Some(target) = usual_start(head, buf, &usual)
    {
        interpret(head, usual.present, buf, &target, limits)?;
        return Ok(true);
    }
    let Some(found) = scan.find(buf, &bounds)? else { return Ok(false) };
    head.clear();
    head.head_len = narrow(0..found.head.end).ok_or(HeadFault::HeadTooLong)?.end;
    let text = buf.get(found.head).unwrap_or_default();
    // The array is cleared each time, so a small one for the usual head.
    let (target, present) = if found.fields <= 32 {
        start_and_fields::<32>(head, buf, text)?
    } else {
        start_and_fields::<FIELDS_MAX>(head, buf, text)?
    };
    interpret(head, present, buf, &target, limits)?;
    Ok(true)
}

/// Reads a start line such as most are: a method in upper case and a target of visible ASCII.
/// Returns the range of the target. `None`: httparse decides.
fn usual_start(head: &mut RequestHead, buf: &[u8], usual: &Usual) -> Option<Range<u32>> {
    let line = buf.get(..usual.line as usize)?;
    let (line, version_minor) = match line {
        [line @ .., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1')] => {
            (line, *minor - b'0')
        }
        _ => return None,
    };
    let method = line.iter().position(|byte| !byte.is_ascii_uppercase()).filter(|at| *at > 0)?;
    let target = line.get(method..)?.strip_prefix(b" ")?;
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    head.method = narrow(0..method)?;
    head.version_minor = version_minor;
    head.head_len = usual.head;
    narrow(method + 1..line.len())
}

/// Runs httparse over `text`, a whole head; returns the range of the target, and which fields came.
fn start_and_fields<const N: usize>(
    head: &mut RequestHead,
    buf: &[u8],
    text: &[u8],
) -> Result<(Range<u32>, Present), HeadFault> {
    let mut room = [httparse::EMPTY_HEADER; N];
    let mut request = httparse::Request::new(&mut room);
    match request.parse(text) {
        Ok(httparse::Status::Complete(len)) if len == text.len() => {}
        Ok(_) => return Err(HeadFault::LineEnd),
        Err(httparse::Error::Version) => return Err(version_fault(text)),
        Err(error) => return Err(fault_of(error)),
    }
    let (Some(method), Some(target), Some(version @ (0 | 1))) =
        (request.method, request.path, request.version)
    else {
        return Err(HeadFault::StartLine);
    };
    head.method = range_of(buf, method.as_bytes())?;
    head.version_minor = version;
    let present = fields::fill(&mut head.fields, buf, request.headers, Direction::Request)?;
    Ok((range_of(buf, target.as_bytes())?, present))
}

/// Tells a version that is well-formed but not spoken from text that is none.
fn version_fault(text: &[u8]) -> HeadFault {
    let line = text.split(|byte| *byte == b'\r').next().unwrap_or_default();
    if line == b"PRI * HTTP/2.0" {
        return HeadFault::Http2Preface;
    }
    let mut parts = line.split(|byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (
            Some([_, ..]),
            Some([_, ..]),
            Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor]),
            None,
        ) if major.is_ascii_digit() && minor.is_ascii_digit() => HeadFault::Version,
        _ => HeadFault::StartLine,
    }
}

fn interpret(
    head: &mut RequestHead,
    present: Present,
    buf: &[u8],
    target: &Range<u32>,
    limits: &Limits,
) -> Result<(), HeadFault> {
    let method = slice(buf, &head.method);
    // Frameworks are known to raise a method to upper case: no rule could name it as it was sent.
    if method.iter().any(u8::is_ascii_lowercase) {
        return Err(HeadFault::MethodNotOffered);
    }
    if [&b"CONNECT"[..], b"TRACE", b"TRACK"].iter().any(|no| method.eq_ignore_ascii_case(no)) {
        return Err(HeadFault::MethodNotOffered);
    }
    if present.has(FieldId::Host) {
        let host = head.fields.iter().find(|field| field.id == FieldId::Host);
        head.host = host.map(|field| field.value.clone());
    }
    match head.host.as_ref().map(|range| slice(buf, range)) {
        Some(host) if Authority::parse(host).is_none() => return Err(HeadFault::HostMalformed),
        None if head.version_minor >= 1 => return Err(HeadFault::HostMissing),
        _ => {}
    }
    read_target(head, buf, target)?;

    head.framing =
        fields::framing(&head.fields, present, buf, head.version_minor)?.unwrap_or(Framing::None);
    if matches!(head.framing, Framing::Length(length) if length > limits.body_max) {
        return Err(HeadFault::BodyTooLarge);
    }

    let wishes = fields::connection(&mut head.fields, present, buf)?;
    head.keep_alive = wishes.persists(head.version_minor);
    head.upgrade = wishes.upgrade
        && head
            .fields
            .iter()
            .filter(|field| field.id == FieldId::Upgrade)
            .flat_map(|field| list(slice(buf, &field.value)))
            .any(|protocol| !may_pass_over(protocol));
    if !present.has(FieldId::Expect) {
        return Ok(());
    }
    match head.value(buf, FieldId::Expect) {
        Some(what) if !what.eq_ignore_ascii_case(b"100-continue") => Err(HeadFault::Expectation),
        // A server passes over the expectation of an HTTP/1.0 caller (RFC 9110, section 10.1.1).
        what => {
            head.expect_continue = what.is_some() && head.version_minor >= 1;
            Ok(())
        }
    }
}

/// Offers that are no wish of the caller's program but a habit of its library.
fn may_pass_over(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    [&b"h2c"[..], b"h2", b"HTTP", b"TLS"].iter().any(|habit| name.eq_ignore_ascii_case(habit))
}

fn read_target(head: &mut RequestHead, buf: &[u8], range: &Range<u32>) -> Result<(), HeadFault> {
    let text = slice(buf, range);
    if text == b"*" {
        if slice(buf, &head.method) != b"OPTIONS" {
            return Err(HeadFault::TargetForm);
        }
        head.target.form = Form::Asterisk;
        head.target.raw_path = range.clone();
        head.target.path.push(b'*');
        return Ok(());
    }
    let rest = if text.first() == Some(&b'/') {
        text
    } else {
        head.target.form = Form::Absolute;
        read_authority(head, buf, text)?
    };
    let (path, query) = match memchr::memchr(b'?', rest).and_then(|at| rest.split_at_checked(at)) {
        Some((path, query)) => (path, query.get(1..)),
        None => (rest, None),
    };
    head.target.raw_path = range_of(buf, path)?;
    if let Some(query) = query {
        check_query(query)?;
        head.target.query = Some(range_of(buf, query)?);
    }
    // `http://host` and `http://host?query` mean the root (RFC 9110, section 4.2.3).
    canonical_path(if path.is_empty() { b"/" } else { path }, &mut head.target.path)
}

/// Takes `scheme://authority` off an absolute target and compares it with `Host`.
fn read_authority<'b>(
    head: &mut RequestHead,
    buf: &'b [u8],
    text: &'b [u8],
) -> Result<&'b [u8], HeadFault> {
    let after = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (begin, rest) = text.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let after = after.ok_or(HeadFault::TargetForm)?;
    let end = after.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after.len());
    let (authority, rest) = after.split_at_checked(end).ok_or(HeadFault::TargetForm)?;
    if Authority::parse(authority).is_none() {
        return Err(HeadFault::HostMalformed);
    }
    match head.host(buf) {
        Some(host) if !host.eq_ignore_ascii_case(authority) => return Err(HeadFault::HostMismatch),
        Some(_) => {}
        None => head.host = Some(range_of(buf, authority)?),
    }
    Ok(rest)
}

fn check_query(mut query: &[u8]) -> Result<(), HeadFault> {
    loop {
        query = match query {
            [] => return Ok(()),
            [b'%', high, low, rest @ ..] if unescape(*high, *low).is_some() => rest,
            [byte, rest @ ..] if is_query_byte(*byte) => rest,
            _ => return Err(HeadFault::TargetByte),
        };
    }
}
