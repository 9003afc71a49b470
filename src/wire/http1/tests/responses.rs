//! Responses: framing by status, and a hostile upstream.

use super::{response, response_in_steps};
use crate::base::Limits;
use crate::wire::http1::{FieldId, Framing, ResponseHead, slice};

fn taken(text: &str, to_head: bool) -> ResponseHead {
    response(text.as_bytes(), &Limits::default(), to_head).expect("taken").expect("whole")
}

#[test]
fn framing_follows_status_and_fields() {
    for (text, to_head, framing, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Framing::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Framing::None, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", false, Framing::Chunked, true),
        ("HTTP/1.1 200 OK\r\n\r\n", false, Framing::UntilClose, false),
        ("HTTP/1.1 200 OK\r\n\r\n", true, Framing::None, true),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false, Framing::None, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, Framing::None, true),
        ("HTTP/1.1 100 Continue\r\n\r\n", false, Framing::None, true),
        ("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n", false, Framing::None, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, Framing::Length(5), false),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
            false,
            Framing::Length(0),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            false,
            Framing::Length(0),
            false,
        ),
        ("HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", false, Framing::Length(0), true),
        ("HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", false, Framing::Length(0), true),
        (
            "HTTP/1.1 599 X\r\nContent-Length: 99999999999\r\n\r\n",
            false,
            Framing::Length(99_999_999_999),
            true,
        ),
    ] {
        let head = taken(text, to_head);
        assert_eq!((head.framing, head.keep_alive), (framing, keep_alive), "{text}");
        assert_eq!(head.head_len as usize, text.len());
    }
}

#[test]
fn a_response_is_read_and_its_hop_fields_are_marked() {
    let text = "HTTP/1.1 201 Made \u{e9}\r\nConnection: x-a\r\nX-A: 1\r\nServer: s\r\nSet-Cookie: a\r\n\
        Set-Cookie: b\r\nkeep-alive: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: a\r\nAlt-Svc: a\r\n\
        X-Weirgate-Request: f\r\na_b: c\r\nContent-Length: 0\r\n\r\n";
    let head = taken(text, false);
    assert_eq!((head.status, head.version_minor), (201, 1));
    assert_eq!(slice(text.as_bytes(), &head.reason), "Made \u{e9}".as_bytes());
    let kept: Vec<_> =
        head.fields.iter().filter(|field| !field.drop).map(|field| field.id).collect();
    use FieldId::{ContentLength, Other, Server, SetCookie};
    assert_eq!(kept, [Server, SetCookie, SetCookie, Other, ContentLength]);
    assert!(!head.is_interim() && taken("HTTP/1.1 102 P\r\n\r\n", false).is_interim());
}

#[test]
fn a_malformed_response_is_a_bad_gateway() {
    for (text, label) in [
        ("HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", "bare_line_feed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n", "bare_line_feed"),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", "empty_line"),
        ("HTTP/2.0 200 OK\r\n\r\n", "start_line"),
        ("HTTP/1.2 200 OK\r\n\r\n", "start_line"),
        ("ICY 200 OK\r\n\r\n", "start_line"),
        ("HTTP/1.1  200 OK\r\n\r\n", "start_line"),
        ("HTTP/1.1 20 OK\r\n\r\n", "start_line"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "start_line"),
        ("HTTP/1.1 +20 OK\r\n\r\n", "start_line"),
        ("HTTP/1.1 200 O\u{1}K\r\n\r\n", "start_line"),
        ("HTTP/1.1 099 Low\r\n\r\n", "status"),
        ("HTTP/1.1 600 High\r\n\r\n", "status"),
        ("HTTP/1.1 000 None\r\n\r\n", "status"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "unasked_upgrade"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "field_name"),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "field_name"),
        ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "field_value"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "duplicate_field"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ambiguous_length",
        ),
        (
            "HTTP/1.1 204 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "ambiguous_length",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "content_length"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer_encoding"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "unknown_transfer_coding"),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding"),
        ("HTTP/1.1 200 OK\r\nConnection: content-length\r\n\r\n", "connection_names_field"),
        ("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n", "duplicate_field"),
        ("HTTP/1.1 302 F\r\nLocation: /a\r\nLocation: /b\r\n\r\n", "duplicate_field"),
    ] {
        let found = response(text.as_bytes(), &Limits::default(), false);
        let found = found.map_err(|error| (error.label(), error.status()));
        assert_eq!(found, Err((label, 502)), "{text:?}");
    }
}

#[test]
fn the_head_of_a_response_is_bounded() {
    let limits = Limits { response_head_max: 100, response_fields_max: 2, ..Limits::default() };
    let three = b"HTTP/1.1 200 OK\r\na: b\r\na: b\r\na: b\r\n\r\n";
    assert_eq!(response(three, &limits, false).map_err(|e| e.label()), Err("too_many_fields"));
    let long = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(90));
    let found = response(long.as_bytes(), &limits, false).map_err(|e| (e.label(), e.status()));
    assert_eq!(found, Err(("head_too_long", 502)));
}

#[test]
fn a_response_with_any_byte_changed_is_the_same_the_quick_and_the_strict_way() {
    let limits = Limits::default();
    let mut heads = 0;
    for pad in (0..66).step_by(5) {
        let head = format!(
            "HTTP/1.1 200 OK{}\r\ncontent-type: text/plain\r\nServer:x\r\nContent-Length: 3\r\n\r\nabc",
            "k".repeat(pad)
        );
        for place in 0..head.len() {
            for byte in *b"\0\t\r\n :-_/\x7f\x80Zz90" {
                let mut text = head.clone().into_bytes();
                text.splice(place..=place, [byte]);
                let whole = response_in_steps(&text, [text.len()], &limits, false);
                let split = response_in_steps(&text, [1, text.len()], &limits, false);
                heads += u32::from(matches!(whole, Ok(Some(_))));
                assert_eq!(whole, split, "{}", String::from_utf8_lossy(&text));
            }
        }
    }
    assert!(heads > 5_000, "{heads} of them are heads");
}
