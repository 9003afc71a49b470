//! Requests that are taken, and what is read from them.

use super::{request, request_in_steps};
use crate::base::Limits;
use crate::wire::http1::{
    FieldId, Form, Framing, HeadFault, HeadScan, RequestHead, parse_request, slice,
};

fn taken(text: &str) -> RequestHead {
    let head = request(text.as_bytes(), &Limits::default()).expect("taken").expect("whole");
    assert_eq!(head.head_len as usize, text.find("\r\n\r\n").expect("an end") + 4);
    head
}

fn dropped(text: &str) -> Vec<String> {
    let head = taken(text);
    let names = head.fields.iter().filter(|field| field.drop);
    names.map(|f| String::from_utf8_lossy(slice(text.as_bytes(), &f.name)).into_owned()).collect()
}

#[test]
fn a_usual_request_is_read() {
    let text = "POST /openai/v1/chat?a=1&b HTTP/1.1\r\nHost: Gate.example:8443\r\nauthorization:Bearer x\r\n\
        Content-Type:  application/json \t\r\nEmpty:\r\nContent-Length: 0012\r\n\r\nhello world!";
    let buf = text.as_bytes();
    let head = taken(text);
    assert_eq!(head.method(buf), b"POST");
    assert_eq!(head.target.path, b"/openai/v1/chat");
    assert_eq!(head.query(buf), Some(&b"a=1&b"[..]));
    assert_eq!(head.target.form, Form::Origin);
    assert_eq!((head.version_minor, head.framing), (1, Framing::Length(12)));
    assert_eq!(head.host(buf), Some(&b"Gate.example:8443"[..]));
    assert_eq!(head.value(buf, FieldId::Authorization), Some(&b"Bearer x"[..]));
    assert_eq!(head.value(buf, FieldId::ContentType), Some(&b"application/json"[..]));
    assert_eq!(head.value(buf, FieldId::Other), Some(&b""[..]));
    assert_eq!(head.value(buf, FieldId::Cookie), None);
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    assert!(head.fields.iter().all(|field| !field.drop));
}

#[test]
fn framing_does_not_depend_on_the_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST", "FROB"] {
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(taken(&text).framing, Framing::None);
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n");
        assert_eq!(taken(&text).framing, Framing::Length(3));
        let text = format!("{method} / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n");
        assert_eq!(taken(&text).framing, Framing::Chunked);
    }
}

#[test]
fn target_forms_are_brought_to_one() {
    let text = "GET HTTP://H.example:80/a/../b?q HTTP/1.1\r\nHost: h.EXAMPLE:80\r\n\r\n";
    let head = taken(text);
    assert_eq!((head.target.form, &head.target.path[..]), (Form::Absolute, &b"/b"[..]));
    assert_eq!(head.query(text.as_bytes()), Some(&b"q"[..]));
    assert_eq!(slice(text.as_bytes(), &head.target.raw_path), b"/a/../b");

    let text = "GET http://h?q=/? HTTP/1.1\r\nHost: h\r\n\r\n";
    let head = taken(text);
    assert_eq!(head.target.path, b"/");
    assert_eq!(head.query(text.as_bytes()), Some(&b"q=/?"[..]));

    let text = "GET http://h/x HTTP/1.0\r\n\r\n";
    assert_eq!(taken(text).host(text.as_bytes()), Some(&b"h"[..]));

    let head = taken("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((head.target.form, &head.target.path[..]), (Form::Asterisk, &b"*"[..]));

    let text = "GET /a? HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(taken(text).query(text.as_bytes()), Some(&b""[..]));
    let text = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(taken(text).query(text.as_bytes()), None);
}

#[test]
fn connections_persist_as_the_version_says() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n");
        assert_eq!(taken(&text).keep_alive, expected, "{text}");
    }
    assert_eq!(taken("GET / HTTP/1.0\r\n\r\n").host, None);
}

#[test]
fn fields_of_the_hop_and_around_policy_are_marked() {
    let text = "GET / HTTP/1.1\r\nHost: h\r\nConnection: x-one, TE,, Upgrade\r\nX-One: 1\r\nX-Two: 2\r\n\
        TE: trailers\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\nHTTP2-Settings: a\r\nTrailer: a\r\n\
        Proxy-Connection: a\r\nProxy-Authorization: a\r\nX-HTTP-Method-Override: PUT\r\n\
        X-Original-URL: /b\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1\r\nVia: x\r\nX-Real-IP: 1\r\n\
        x-weirgate-subject: root\r\nsome_thing: a\r\nX_Forwarded_For: 1\r\nExpect: 100-continue\r\n\
        x-one: again\r\nAccept: */*\r\n\r\n";
    let head = taken(text);
    let kept: Vec<_> = head
        .fields
        .iter()
        .filter(|field| !field.drop)
        .map(|field| slice(text.as_bytes(), &field.name))
        .collect();
    assert_eq!(kept, [&b"Host"[..], b"X-Two", b"Accept"]);
    assert!(head.expect_continue && !head.upgrade);
    assert_eq!(
        dropped("GET / HTTP/1.1\r\nHost: h\r\nX.Real~IP: 1\r\na.b: c\r\n\r\n"),
        ["X.Real~IP"]
    );
    assert_eq!(dropped("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n"), ["Upgrade"]);
}

#[test]
fn only_a_real_wish_to_upgrade_counts() {
    for (offer, expected) in [
        ("Upgrade: websocket\r\nConnection: Upgrade\r\n", true),
        ("Upgrade: websocket\r\n", false),
        ("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n", false),
        ("Upgrade: TLS/1.2, HTTP/2.0\r\nConnection: upgrade\r\n", false),
        ("Upgrade: h2c, websocket\r\nConnection: upgrade\r\n", true),
        ("Upgrade: SPDY/3.1\r\nConnection: upgrade\r\n", true),
    ] {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{offer}\r\n");
        assert_eq!(taken(&text).upgrade, expected, "{text}");
    }
    let text = "POST / HTTP/1.0\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    assert!(!taken(text).expect_continue);
}

#[test]
fn pipelined_heads_are_read_one_by_one_into_the_same_head() {
    let text = b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b?c HTTP/1.1\r\nHost: i\r\nCookie: x\r\n\r\nGET";
    let limits = Limits::default();
    let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
    assert_eq!(parse_request(&mut head, &mut scan, text, &limits), Ok(true));
    assert!(scan.is_idle());
    assert_eq!(head.target.path, b"/a");
    let rest = text.get(head.head_len as usize..).expect("more");
    assert_eq!(parse_request(&mut head, &mut scan, rest, &limits), Ok(true));
    assert_eq!((&head.target.path[..], head.host(rest)), (&b"/b"[..], Some(&b"i"[..])));
    assert_eq!(head.fields.len(), 2);
    let rest = rest.get(head.head_len as usize..).expect("more");
    assert_eq!(parse_request(&mut head, &mut scan, rest, &limits), Ok(false));
    assert!(!scan.is_idle());
}

#[test]
fn a_head_that_is_used_again_allocates_nothing() {
    let text = b"GET /a/%62/../c?d HTTP/1.1\r\nHost: h\r\nA: b\r\nConnection: a\r\n\r\n";
    let limits = Limits::default();
    let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
    assert_eq!(parse_request(&mut head, &mut scan, text, &limits), Ok(true));
    let room = (head.fields.as_ptr(), head.target.path.as_ptr());
    let first = head.clone();
    for _ in 0..3 {
        assert_eq!(parse_request(&mut head, &mut scan, text, &limits), Ok(true));
        assert_eq!((head.fields.as_ptr(), head.target.path.as_ptr()), room);
        assert_eq!(head, first);
    }
}

#[test]
fn a_field_of_any_name_is_read_once_and_written_canonically() {
    let text = b"GET / HTTP/1.1\r\nHost: h\r\nX-My-Key:  a b \r\nX-Twice: 1\r\nx-twice: 2\r\n\r\n";
    let head = taken(&String::from_utf8_lossy(text));
    assert_eq!(head.single(text, b"x-my-key"), Ok(Some(&b"a b"[..])));
    assert_eq!(head.single(text, b"x-none"), Ok(None));
    assert_eq!(head.single(text, b"X-Twice"), Err(HeadFault::DuplicateField));
    let mut out = Vec::new();
    head.fields.iter().for_each(|field| field.write(text, &mut out));
    assert_eq!(out, b"host: h\r\nx-my-key: a b\r\nx-twice: 1\r\nx-twice: 2\r\n");
}

#[test]
fn as_many_fields_as_the_limit_allows_are_read() {
    let limits = Limits { fields_max: 1_000, ..Limits::default() };
    for (count, taken) in [(1, true), (31, true), (32, true), (33, true), (255, true), (256, false)]
    {
        let fields = "a: b\r\n".repeat(count);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
        let found = parse_request(&mut head, &mut scan, text.as_bytes(), &limits);
        assert_eq!(found.is_ok(), taken, "{count}");
        assert!(!taken || head.fields.len() == count + 1);
    }
}

proptest::proptest! {
    /// Nothing panics, no split matters, and ranges are within the buffer.
    #[test]
    fn any_bytes_are_read_the_same_in_any_split(
        text in "(GET|POST|[A-Z]{0,3})[ \t]{1,2}[/a-z%.2eF;?*:]{0,12} HTTP/1\\.[0-2]\r?\n\
            ((Host: h|Content-Length: [0-9]{0,3}|Transfer-Encoding: chunked|[a-zA-Z_-]{0,5}: ?[ -~]{0,9})\r\n){0,4}\r\n.{0,3}"
    ) {
        let text = text.as_bytes();
        if let Ok(Some(head)) = request(text, &Limits::default()) {
            for field in &head.fields {
                proptest::prop_assert!(field.name.end as usize <= text.len());
                proptest::prop_assert!(field.value.end as usize <= text.len());
            }
            proptest::prop_assert!(!head.target.path.is_empty());
        }
    }
}

#[test]
fn a_head_with_any_byte_changed_is_the_same_the_quick_and_the_strict_way() {
    let limits = Limits { request_head_max: 300, ..Limits::default() };
    let mut quick = 0;
    let mut check = |text: &[u8]| {
        // Whole it may go the quick way; a byte that came before rules that out.
        let whole = request_in_steps(text, [text.len()], &limits);
        let split = request_in_steps(text, [1, text.len()], &limits);
        quick += u32::from(matches!(whole, Ok(Some(_))));
        assert_eq!(whole, split, "{}", String::from_utf8_lossy(text));
    };
    for pad in (0..70).step_by(7) {
        let head = format!(
            "POST /{}?q=1 HTTP/1.1\r\nHost: example.org\r\nContent-Type:application/json \t\r\n\
             X-Empty:\r\nuser-AGENT:\t a: b\r\ncontent-length: 2\r\n\r\n{{\0",
            "p".repeat(pad)
        );
        let head = head.as_bytes();
        check(head);
        for place in 0..head.len() {
            let mut text = head.to_vec();
            let bytes: Vec<u8> = match pad {
                0 | 42 => (0..=255).collect(),
                _ => b"\0\t\r\n :-_/\x7f\x80Zz9".to_vec(),
            };
            for byte in bytes {
                text.splice(place..=place, [byte]);
                check(&text);
            }
            text.remove(place);
            check(&text);
            text.splice(place..place, *b"\r\n");
            check(&text);
        }
    }
    assert!(quick > 5_000, "{quick} of them are heads");
}
