//! Heads that the gateway writes, and what it reads out of those that it got.
//!
//! A head that goes on is built from the parsed form, field by field; nothing of it is a copy of
//! the peer's bytes as a whole.

use super::Framed;
use super::escape::clear_escaped;
use crate::base::{ApprovalId, ExchangeId};
use crate::credential::Credential;
use crate::mask::{MaskError, Plan};
use crate::session::refusal::Refusal;
use crate::session::worker::ResourceView;
use crate::wire::coding::Coding;
use crate::wire::http1::{FieldId, Form, Framing, RequestHead, ResponseHead, write_query};
use std::sync::Arc;

/// The credential slots of a request (facts: exactly one may be filled).
pub(super) enum Slots<'a> {
    None,
    One(&'a [u8]),
    Several,
}

/// Reads the token out of whichever slot holds one.
pub(super) fn token<'a>(head: &RequestHead, bytes: &'a [u8]) -> Slots<'a> {
    let mut found = Slots::None;
    for field in &head.fields {
        let slot = matches!(
            field.id,
            FieldId::Authorization | FieldId::XApiKey | FieldId::ApiKey | FieldId::XGoogApiKey
        );
        if !slot {
            continue;
        }
        if !matches!(found, Slots::None) {
            return Slots::Several;
        }
        let value = field.value(bytes);
        found = Slots::One(match (field.id, value.split_at_checked(7)) {
            (FieldId::Authorization, Some((scheme, rest)))
                if scheme.eq_ignore_ascii_case(b"bearer ") =>
            {
                rest.trim_ascii()
            }
            // Any other scheme is a credential that is no token: it fails as one.
            (FieldId::Authorization, _) => b"",
            _ => value,
        });
    }
    found
}

/// The refusal for a status that the parser chose.
pub(super) fn refusal_of(status: u16) -> Refusal {
    match status {
        405 => Refusal::MethodNotAllowed,
        408 => Refusal::RequestTimeout,
        413 => Refusal::BodyTooLarge,
        414 => Refusal::TargetTooLong,
        417 => Refusal::ExpectationFailed,
        431 => Refusal::HeadTooLarge,
        501 => Refusal::NotImplemented,
        505 => Refusal::BadVersion,
        _ => Refusal::BadRequest,
    }
}

/// The name that the request is for: its host without the port and without a dot at the end.
pub(super) fn host_name<'a>(head: &RequestHead, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let host = head.host(bytes)?;
    let name = match host.iter().rposition(|byte| *byte == b':') {
        Some(colon) if host.last() != Some(&b']') => host.get(..colon).unwrap_or_default(),
        _ => host,
    };
    Some(name.strip_suffix(b".").unwrap_or(name))
}

/// Whether a request for `host` may come here, over a connection that was made for `server_name`.
///
/// With `hosts` (lower case) only those are served, over a connection for any of them. Without,
/// any is, but a connection that was made for one name carries no request for another: what chose
/// or checked the certificate by its name would have been passed by (RFC 9110, sections 7.4 and
/// 15.5.20). A caller that named none, or a request without a host (HTTP/1.0), is not compared.
pub(super) fn is_served(host: Option<&[u8]>, server_name: Option<&str>, hosts: &[String]) -> bool {
    let Some(host) = host else { return hosts.is_empty() };
    let listed = |name: &[u8]| hosts.iter().any(|one| one.as_bytes().eq_ignore_ascii_case(name));
    if !hosts.is_empty() && !listed(host) {
        return false;
    }
    server_name.is_none_or(|name| {
        let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
        name.eq_ignore_ascii_case(host) || listed(name)
    })
}

/// RFC 9110, section 9.2.2, less the methods that are not offered.
pub(super) fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"PUT" | b"DELETE")
}

/// The request's media type, or nothing.
pub(super) fn content_type<'a>(head: &RequestHead, bytes: &'a [u8]) -> &'a [u8] {
    head.value(bytes, FieldId::ContentType).unwrap_or_default()
}

/// The answer's media type, or nothing.
pub(super) fn answer_content_type<'a>(head: &ResponseHead, bytes: &'a [u8]) -> &'a [u8] {
    head.value(bytes, FieldId::ContentType).unwrap_or_default()
}

/// The coding that the answer's body must be freed of; `Err` for one that is not known.
pub(super) fn content_coding(head: &ResponseHead, bytes: &[u8]) -> Result<Option<Coding>, ()> {
    match head.value(bytes, FieldId::ContentEncoding) {
        None => Ok(None),
        Some(value) if value.eq_ignore_ascii_case(b"identity") => Ok(None),
        Some(value) => Coding::of(value).map(Some).ok_or(()),
    }
}

/// Whether servers are known to read a path in more than one way: empty segments, which some
/// merge and some take for a host, and parameters behind `;`, which some cut off.
pub(super) fn is_ambiguous(path: &[u8]) -> bool {
    // Paths are short: a searcher costs more than the walk.
    path.windows(2).any(|pair| pair == b"//")
        || path.contains(&b';')
        || path.contains(&b'%') && path.windows(3).any(|escape| escape == b"%3B")
}

/// Writes the head toward the upstream, up to the last field's line end: no credential, no blank
/// line. What asks for ranges goes to `ranges`, for the case that nothing is masked.
pub(super) fn write_upstream(
    head: &RequestHead,
    bytes: &[u8],
    path: &[u8],
    view: &ResourceView,
    credentials: &[Credential],
    to: &mut Vec<u8>,
    ranges: &mut Vec<u8>,
) {
    to.clear();
    ranges.clear();
    to.extend_from_slice(head.method(bytes));
    to.push(b' ');
    if head.target.form != Form::Asterisk {
        to.extend_from_slice(view.base_path.as_bytes());
    }
    to.extend_from_slice(path);
    if let Some(query) = head.query(bytes) {
        write_query(query, &[], to);
    }
    to.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    to.extend_from_slice(view.authority.as_bytes());
    to.extend_from_slice(b"\r\naccept-encoding: identity\r\n");
    match head.framing {
        Framing::Length(length) => write_length(length, to),
        Framing::Chunked => to.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    for field in &head.fields {
        // The slot of any credential of the config is the gateway's alone to fill.
        let name = field.name(bytes);
        let slot = |one: &Credential| one.field().eq_ignore_ascii_case(name);
        if field.drop || credentials.iter().any(slot) {
            continue;
        }
        match field.id {
            FieldId::Host
            | FieldId::ContentLength
            | FieldId::TransferEncoding
            | FieldId::AcceptEncoding
            | FieldId::Expect
            | FieldId::Authorization
            | FieldId::XApiKey
            | FieldId::ApiKey
            | FieldId::XGoogApiKey
            | FieldId::ProxyAuthorization
            | FieldId::OtherCredential
            | FieldId::Weirgate => {}
            FieldId::Cookie if !view.cookies => {}
            FieldId::Range | FieldId::IfRange => {
                field.write(bytes, ranges);
            }
            _ => field.write(bytes, to),
        }
    }
}

/// How an answer's head is to be written.
pub(super) struct AnswerForm {
    pub(super) id: ExchangeId,
    pub(super) keep_alive: bool,
    pub(super) version_minor: u8,
    pub(super) framed: Framed,
    pub(super) is_head: bool,
    /// The body is not what the upstream sent, byte for byte.
    pub(super) changed: bool,
    pub(super) masked: bool,
    pub(super) cookies: bool,
}

/// Writes the head of an answer toward the caller, blank line included. Returns whether a mask
/// changed something in it.
///
/// # Errors
/// [`MaskError`] when the mask blocks a field.
pub(super) fn write_answer(
    head: &ResponseHead,
    bytes: &[u8],
    form: &AnswerForm,
    plan: &Arc<Plan>,
    to: &mut Vec<u8>,
) -> Result<bool, MaskError> {
    write_status(head.status, to);
    let mut shows = false;
    for field in &head.fields {
        if field.drop {
            continue;
        }
        match field.id {
            FieldId::ContentLength | FieldId::TransferEncoding => {}
            FieldId::Other if field.name(bytes).eq_ignore_ascii_case(b"x-request-id") => {}
            FieldId::ContentEncoding if form.changed => {}
            // They speak of bytes that the caller does not get (facts: masking, section 8).
            FieldId::ETag | FieldId::Digest | FieldId::AcceptRanges | FieldId::ContentRange
                if form.changed => {}
            FieldId::Other
                if form.masked && field.name(bytes).eq_ignore_ascii_case(b"cache-control") => {}
            FieldId::SetCookie if !form.cookies => {}
            _ => {
                if form.masked {
                    field.write_name(bytes, to);
                    let (start, value) = (to.len(), field.value(bytes));
                    clear_escaped(plan, value, false, to)?;
                    shows |= to.get(start..) != Some(value);
                    to.extend_from_slice(b"\r\n");
                } else {
                    field.write(bytes, to);
                }
            }
        }
    }
    if form.masked {
        to.extend_from_slice(b"cache-control: private\r\n");
    }
    to.extend_from_slice(b"x-request-id: ");
    to.extend_from_slice(&form.id.hex());
    to.extend_from_slice(b"\r\n");
    match (form.framed, head.framing) {
        // What a body would weigh is not told where it would be another body.
        (Framed::Length, Framing::None) if head.status < 200 || head.status == 204 => {}
        (Framed::Length, Framing::None) if form.is_head || head.status == 304 => {}
        (Framed::Length, Framing::Length(length)) => write_length(length, to),
        (Framed::Length, _) => write_length(0, to),
        (Framed::Chunks, _) => to.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        (Framed::Close, _) => {}
    }
    if !form.keep_alive {
        to.extend_from_slice(b"connection: close\r\n");
    } else if form.version_minor == 0 {
        to.extend_from_slice(b"connection: keep-alive\r\n");
    }
    to.extend_from_slice(b"\r\n");
    Ok(shows)
}

/// Writes the head of a refusal, blank line included.
pub(super) fn write_refusal(
    refusal: Refusal,
    id: ExchangeId,
    approval: Option<ApprovalId>,
    length: usize,
    keep_alive: bool,
    to: &mut Vec<u8>,
) {
    write_status(refusal.status(), to);
    to.extend_from_slice(b"content-type: application/problem+json\r\ncache-control: no-store\r\nx-should-retry: false\r\n");
    match refusal {
        Refusal::Unauthenticated => {
            to.extend_from_slice(b"www-authenticate: Bearer error=\"invalid_token\"\r\n");
        }
        Refusal::MethodNotAllowed => {
            to.extend_from_slice(b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
        }
        // A budget has one more within a second, since its pace is at least one in a second.
        Refusal::Unrecordable | Refusal::Overloaded | Refusal::TooManyFailures => {
            to.extend_from_slice(b"retry-after: 1\r\n");
        }
        _ => {}
    }
    if let Some(id) = approval {
        to.extend_from_slice(b"x-approval-request: ");
        to.extend_from_slice(&id.hex());
        to.extend_from_slice(b"\r\n");
    }
    to.extend_from_slice(b"x-request-id: ");
    to.extend_from_slice(&id.hex());
    to.extend_from_slice(b"\r\n");
    write_length(length as u64, to);
    if !keep_alive {
        to.extend_from_slice(b"connection: close\r\n");
    }
    to.extend_from_slice(b"\r\n");
}

pub(super) fn write_length(length: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(b"content-length: ");
    write_number(length, to);
    to.extend_from_slice(b"\r\n");
}

fn write_number(mut number: u64, to: &mut Vec<u8>) {
    let start = to.len();
    loop {
        to.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = to.get_mut(start..) {
        digits.reverse();
    }
}

pub(super) fn write_status(status: u16, to: &mut Vec<u8>) {
    to.extend_from_slice(b"HTTP/1.1 ");
    write_number(u64::from(status), to);
    to.push(b' ');
    to.extend_from_slice(reason(status).as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// The phrase of a registered status; empty for others (RFC 9112, section 4: it may be).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
