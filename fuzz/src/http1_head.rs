//! Request and response heads: no cut changes the outcome, what is accepted is canonical, and
//! what would be sent on parses to the same.
//!
//! First byte: `<` a response, `=` a response to `HEAD`, anything else a request.

use super::cuts;
use weirgate::base::Limits;
use weirgate::wire::http1::{
    Field, Framing, HeadError, HeadScan, RequestHead, ResponseHead, canonical_path, parse_request,
    parse_response,
};

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, text)) = cuts::mode(data) else { return };
    let limits =
        Limits { request_head_max: 4 << 10, response_head_max: 4 << 10, ..Limits::default() };
    match mode {
        b'<' => response(text, false, &limits),
        b'=' => response(text, true, &limits),
        _ => request(text, &limits),
    }
}

fn request(text: &[u8], limits: &Limits) {
    let whole = request_in_steps(text, &[text.len()], limits);
    for ends in cuts::ways(text) {
        assert_eq!(request_in_steps(text, &ends, limits), whole, "cut at {ends:?}");
    }
    let Ok(Some(head)) = whole else { return };
    check_len(head.head_len, text, limits.request_head_max);
    check_fields(&head.fields, text);
    let path = &head.target.path;
    if path != b"*" {
        let mut again = Vec::new();
        assert_eq!(canonical_path(path, &mut again), Ok(()), "the canonical path is a path");
        assert_eq!(&again, path, "canonical twice is canonical once");
        for bad in [&b"/../"[..], b"/./", b"%2f", b"%2F", b"%2e", b"%2E", b"\\", b"?", b"#"] {
            assert!(!path.windows(bad.len()).any(|part| part == bad), "{path:?} holds {bad:?}");
        }
        assert!(!path.ends_with(b"/..") && !path.ends_with(b"/."));
    }
    assert_ne!(head.framing, Framing::UntilClose, "a request does not last until the close");
    assert!(head.version_minor <= 1);
    forwarded(&head, text, limits);
}

/// The head as another server would see it: the kept fields and the framing as it was read.
fn forwarded(head: &RequestHead, text: &[u8], limits: &Limits) {
    let mut sent = head.method(text).to_vec();
    sent.push(b' ');
    sent.extend_from_slice(&head.target.path);
    if let Some(query) = head.query(text) {
        sent.push(b'?');
        sent.extend_from_slice(query);
    }
    sent.extend_from_slice(b" HTTP/1.1\r\nhost: x\r\n");
    match head.framing {
        Framing::Length(length) => {
            sent.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        Framing::Chunked => sent.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    let own = [&b"host"[..], b"content-length", b"transfer-encoding", b"expect"];
    for field in head.fields.iter().filter(|field| !field.drop) {
        if !own.iter().any(|name| field.name(text).eq_ignore_ascii_case(name)) {
            field.write(text, &mut sent);
        }
    }
    sent.extend_from_slice(b"\r\n");
    // A head may grow by being written anew; only its meaning must stay.
    let limits = Limits { request_head_max: 32 << 10, ..limits.clone() };
    let again = request_in_steps(&sent, &[sent.len()], &limits);
    let Ok(Some(again)) = again else {
        panic!("sent on, it is no head: {again:?}: {}", String::from_utf8_lossy(&sent))
    };
    assert_eq!(again.head_len as usize, sent.len(), "sent on, it is one head");
    assert_eq!(again.framing, head.framing);
    assert_eq!(again.method(&sent), head.method(text));
    assert_eq!(again.target.path, head.target.path);
    assert_eq!(again.query(&sent), head.query(text));
}

fn response(text: &[u8], to_head: bool, limits: &Limits) {
    let whole = response_in_steps(text, &[text.len()], limits, to_head);
    for ends in cuts::ways(text) {
        assert_eq!(response_in_steps(text, &ends, limits, to_head), whole, "cut at {ends:?}");
    }
    let Ok(Some(head)) = whole else { return };
    check_len(head.head_len, text, limits.response_head_max);
    check_fields(&head.fields, text);
    assert!((100..=599).contains(&head.status) && head.status != 101);
    if to_head || head.is_interim() || matches!(head.status, 204 | 304) {
        assert_eq!(head.framing, Framing::None);
    }
    assert!(!head.keep_alive || head.framing != Framing::UntilClose);
}

fn check_len(head_len: u32, text: &[u8], max: u32) {
    assert!(head_len as usize <= text.len() && head_len <= max + 4);
    let head = text.get(..head_len as usize).unwrap_or_default();
    assert!(head.ends_with(b"\n"), "a head ends with a line end");
}

fn check_fields(fields: &[Field], text: &[u8]) {
    for field in fields {
        let (name, value) = (field.name(text), field.value(text));
        assert!(!name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic()));
        assert!(!name.contains(&b':'));
        let bad = |byte: &u8| matches!(byte, b'\r' | b'\n' | 0);
        assert!(!value.iter().any(bad), "a value holds no line end");
        assert_eq!(value.trim_ascii(), value, "blanks around a value are no part of it");
    }
}

fn request_in_steps(
    text: &[u8],
    ends: &[usize],
    limits: &Limits,
) -> Result<Option<RequestHead>, HeadError> {
    let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
    for end in ends {
        let buf = text.get(..*end).unwrap_or(text);
        if parse_request(&mut head, &mut scan, buf, limits)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

fn response_in_steps(
    text: &[u8],
    ends: &[usize],
    limits: &Limits,
    to_head: bool,
) -> Result<Option<ResponseHead>, HeadError> {
    let (mut head, mut scan) = (ResponseHead::new(), HeadScan::new());
    for end in ends {
        let buf = text.get(..*end).unwrap_or(text);
        if parse_response(&mut head, &mut scan, buf, limits, to_head)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}
