//! Requests that are refused, each with its label and status.

use super::request;
use crate::base::Limits;

/// `H` in a text stands for a good start line and `Host`.
const GOOD: &str = "POST /a HTTP/1.1\r\nHost: h\r\n";

const REFUSED: &[(&str, &str, u16)] = &[
    // Line ends.
    ("GET / HTTP/1.1\nHost: h\r\n\r\n", "bare_line_feed", 400),
    ("GET / HTTP/1.1\r\nHost: h\n\r\n", "bare_line_feed", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\n\n", "bare_line_feed", 400),
    ("GET / HTTP/1.1\n\nHost: h\r\n\r\n", "bare_line_feed", 400),
    ("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "bare_line_feed", 400),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "empty_line", 400),
    ("Ha: b\rc: d\r\n\r\n", "field_value", 400),
    ("Ha: b\r\r\n\r\n", "field_value", 400),
    ("H\r\r\n\r\n", "line_end", 400),
    ("GET / HTTP/1.1\rHost: h\r\n\r\n", "line_end", 400),
    ("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n", "line_end", 400),
    // Start line.
    (" GET / HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET /  HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / HTTP/1.1 \r\nHost: h\r\n\r\n", "line_end", 400),
    ("GET / x HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET /\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET\r\n\r\n", "start_line", 400),
    ("G\u{0}T / HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("G(T / HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / http/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / HTTP/1.x\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / HTTP/1.10\r\nHost: h\r\n\r\n", "line_end", 400),
    ("GET / HTTP/01.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / XTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", "version", 505),
    ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", "version", 505),
    ("GET / HTTP/0.9\r\nHost: h\r\n\r\n", "version", 505),
    ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http2_preface", 400),
    ("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", "method_not_offered", 405),
    ("trace / HTTP/1.1\r\nHost: h\r\n\r\n", "method_not_offered", 405),
    ("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n", "method_not_offered", 405),
    // Target.
    ("GET * HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("OPTIONS *a HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("GET a HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("GET http:/h/ HTTP/1.1\r\nHost: h\r\n\r\n", "target_form", 400),
    ("GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n", "host_malformed", 400),
    ("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n", "host_malformed", 400),
    ("GET http://other/ HTTP/1.1\r\nHost: h\r\n\r\n", "host_mismatch", 400),
    ("GET http://h:80/ HTTP/1.1\r\nHost: h\r\n\r\n", "host_mismatch", 400),
    ("GET http://h#f HTTP/1.1\r\nHost: h\r\n\r\n", "host_malformed", 400),
    ("GET /a#f HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a?b#f HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a?%zz HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a?x=[1] HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a?\u{e9} HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a\\b HTTP/1.1\r\nHost: h\r\n\r\n", "target_byte", 400),
    ("GET /a%2Fb HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous", 400),
    ("GET /%2e%2e/b HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous", 400),
    ("GET /a%00 HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous", 400),
    ("GET /a/..;/b HTTP/1.1\r\nHost: h\r\n\r\n", "path_ambiguous", 400),
    ("GET /a\u{7f} HTTP/1.1\r\nHost: h\r\n\r\n", "start_line", 400),
    // Host.
    ("GET / HTTP/1.1\r\n\r\n", "host_missing", 400),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.1\r\nHost: h\r\nhost: h\r\n\r\n", "duplicate_field", 400),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.1\r\nHost: h:99999\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.1\r\nHost: h:\r\n\r\n", "host_malformed", 400),
    ("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "host_malformed", 400),
    // Fields.
    ("Ha : b\r\n\r\n", "field_name", 400),
    ("H a: b\r\n\r\n", "field_name", 400),
    ("Ha: b\r\n c\r\n\r\n", "field_name", 400),
    ("Ha: b\r\n\tc\r\n\r\n", "field_name", 400),
    ("H: b\r\n\r\n", "field_name", 400),
    ("Ha\r\n\r\n", "field_name", 400),
    ("Ha(b): c\r\n\r\n", "field_name", 400),
    ("H\u{e9}: c\r\n\r\n", "field_name", 400),
    ("Ha: b\u{0}\r\n\r\n", "field_value", 400),
    ("Ha: b\u{1}c\r\n\r\n", "field_value", 400),
    ("Ha: b\u{7f}\r\n\r\n", "field_value", 400),
    ("HAuthorization: Bearer a\r\nAuthorization: Bearer a\r\n\r\n", "duplicate_field", 400),
    ("HX-Api-Key: a\r\nx-api-key: b\r\n\r\n", "duplicate_field", 400),
    ("HPrivate-Token: a\r\nprivate-token: b\r\n\r\n", "duplicate_field", 400),
    ("HX-Weirgate-A: a\r\nx-weirgate-a: b\r\n\r\n", "duplicate_field", 400),
    ("HContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n", "duplicate_field", 400),
    ("HCookie: a=b\r\nCookie: c=d\r\n\r\n", "duplicate_field", 400),
    ("HContent_Length: 1\r\n\r\n", "underscore_alias", 400),
    ("HTransfer_Encoding: chunked\r\n\r\n", "underscore_alias", 400),
    ("HContent!Length: 1\r\n\r\n", "underscore_alias", 400),
    ("HX_Api-Key: a\r\n\r\n", "underscore_alias", 400),
    ("Hx_weirgate_subject: a\r\n\r\n", "underscore_alias", 400),
    // Framing.
    ("HContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous_length", 400),
    ("HTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", "ambiguous_length", 400),
    ("HContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "duplicate_field", 400),
    ("HContent-Length: 1, 1\r\n\r\n", "content_length", 400),
    ("HContent-Length: +1\r\n\r\n", "content_length", 400),
    ("HContent-Length: -1\r\n\r\n", "content_length", 400),
    ("HContent-Length: 0x1\r\n\r\n", "content_length", 400),
    ("HContent-Length: 1 2\r\n\r\n", "content_length", 400),
    ("HContent-Length:\r\n\r\n", "content_length", 400),
    ("HContent-Length: 18446744073709551616\r\n\r\n", "content_length", 400),
    ("HContent-Length: 18446744073709551615\r\n\r\n", "body_too_large", 413),
    ("HTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "duplicate_field", 400),
    ("HTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: chunked, identity\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: chunked;a=b\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: \"chunked\"\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding:\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: ,chunked\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: chun ked\r\n\r\n", "transfer_encoding", 400),
    ("HTransfer-Encoding: identity\r\n\r\n", "unknown_transfer_coding", 501),
    ("HTransfer-Encoding: xchunked\r\n\r\n", "unknown_transfer_coding", 501),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding", 400),
    // Connection and Expect.
    ("HConnection: Host\r\n\r\n", "connection_names_field", 400),
    ("HConnection: close, content-length\r\n\r\n", "connection_names_field", 400),
    ("HConnection: transfer-encoding\r\n\r\n", "connection_names_field", 400),
    ("HConnection: authorization\r\n\r\n", "connection_names_field", 400),
    ("HConnection: X-API-Key\r\n\r\n", "connection_names_field", 400),
    ("HConnection: x-weirgate-subject\r\n\r\n", "connection_names_field", 400),
    ("HConnection: a b\r\n\r\n", "connection", 400),
    ("HConnection: \"close\"\r\n\r\n", "connection", 400),
    ("HExpect: 200-ok\r\n\r\n", "expectation", 417),
    ("HExpect: 100-continue, a\r\n\r\n", "expectation", 417),
];

fn full(text: &str) -> String {
    // `HTTP`, `Host` and `Http` do not begin a text of the table.
    match text.strip_prefix('H') {
        Some(rest) => format!("{GOOD}{rest}"),
        None => text.to_owned(),
    }
}

#[test]
fn each_ambiguous_or_malformed_request_is_refused_with_its_label() {
    assert!(REFUSED.len() >= 60);
    let limits = Limits::default();
    let mut wrong = Vec::new();
    for (text, label, status) in REFUSED {
        let text = full(text);
        let found = request(text.as_bytes(), &limits).map_err(|e| (e.label(), e.status()));
        if found.as_ref().err() != Some(&(*label, *status)) {
            wrong.push(format!("{text:?}: {found:?}, not {label} {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_bound_is_met_at_its_byte() {
    let limits = Limits {
        request_line_max: 20,
        field_max: 30,
        request_head_max: 120,
        fields_max: 4,
        ..Limits::default()
    };
    let host = "Host: h\r\n";
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(len));
    let field = |len: usize| format!("GET / HTTP/1.1\r\n{host}a: {}\r\n\r\n", "b".repeat(len));
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{host}{}\r\n", "a: b\r\n".repeat(count));
    let long = |len: usize| {
        let four = format!("a: {}\r\n", "b".repeat(27)).repeat(2);
        format!("GET / HTTP/1.1\r\n{host}{four}c: {}\r\n\r\n", "d".repeat(len))
    };
    let outcome = |text: String| {
        request(text.as_bytes(), &limits)
            .map(|head| head.is_some())
            .map_err(|e| (e.label(), e.status()))
    };
    assert_eq!(outcome(line(6)), Ok(true));
    assert_eq!(outcome(line(7)), Err(("line_too_long", 414)));
    assert_eq!(outcome(field(27)), Ok(true));
    assert_eq!(outcome(field(28)), Err(("field_too_long", 431)));
    assert_eq!(outcome(fields(3)), Ok(true));
    assert_eq!(outcome(fields(4)), Err(("too_many_fields", 431)));
    assert_eq!(long(24).len(), 120);
    assert_eq!(outcome(long(24)), Ok(true));
    assert_eq!(outcome(long(25)), Err(("head_too_long", 431)));
}

#[test]
fn a_line_without_an_end_is_refused_when_it_is_too_long() {
    let limits = Limits { request_line_max: 20, ..Limits::default() };
    assert_eq!(request(&[b'a'; 21], &limits), Ok(None));
    let error = request(&[b'a'; 22], &limits).map_err(|error| error.status());
    assert_eq!(error, Err(414));
}

#[test]
fn connection_may_not_name_too_many() {
    let many = format!("{GOOD}Connection: {}\r\n\r\n", "a,".repeat(33));
    let error = request(many.as_bytes(), &Limits::default()).map_err(|error| error.label());
    assert_eq!(error, Err("connection"));
}
