//! The whole flow of HTTP/1 as a pure function: what goes in, what comes out of both sides.

mod edges;
mod full;
mod hold;
mod hostile;
mod record;

use crate::base::{ConnectionId, ListenerId};
use crate::base::{Limits, Now};
use crate::record::gap::Gap;
use crate::record::{Flags, Kind, MemoryJournal, OnFull, Position};
use crate::session::http::Session;
use crate::session::io::{Act, Ending, Input, Interest, Out};
use crate::session::kit::{self, Kit, REAL_KEY, at, kit, kit_with, recorded};
use std::sync::Arc;

mod echo;

/// A connection with both of its buffers, as the runtime keeps them.
struct Wire {
    session: Session,
    out: Out,
    caller: Vec<u8>,
    upstream: Vec<u8>,
    to_caller: Vec<u8>,
    to_upstream: Vec<u8>,
    acts: Vec<Act>,
    now: Now,
}

impl Wire {
    fn new() -> Self {
        let peer = "127.0.0.1:9".parse().unwrap();
        Self {
            session: Session::new(ListenerId(0), ConnectionId(1), peer, None, at(0)),
            out: Out::new(),
            caller: Vec::new(),
            upstream: Vec::new(),
            to_caller: Vec::new(),
            to_upstream: Vec::new(),
            acts: Vec::new(),
            now: at(1),
        }
    }

    fn take(&mut self, source: &[u8], to_upstream: bool) {
        if to_upstream {
            self.to_upstream.extend(self.out.upstream().to_vec(source));
            self.to_caller.extend(self.out.caller().to_vec(b""));
        } else {
            self.to_caller.extend(self.out.caller().to_vec(source));
            self.to_upstream.extend(self.out.upstream().to_vec(b""));
        }
        while let Some(act) = self.out.next_act() {
            self.acts.push(act);
        }
        self.out = Out::new();
    }

    /// What was appended so far is on the disk.
    fn durable(&mut self, kit: &mut Kit) {
        let at = kit.worker.journal.position();
        self.event(kit, Input::Durable(at));
    }

    fn caller(&mut self, kit: &mut Kit, bytes: &[u8]) {
        self.caller.extend_from_slice(bytes);
        while self.session.interest().caller && !self.caller.is_empty() {
            let input = std::mem::take(&mut self.caller);
            let used = self.session.handle(
                Input::Caller(&input),
                self.now,
                &mut kit.worker,
                &mut self.out,
            );
            self.take(&input, true);
            self.caller = input[used..].to_vec();
            if used == 0 {
                break;
            }
        }
    }

    fn upstream(&mut self, kit: &mut Kit, bytes: &[u8]) {
        self.upstream.extend_from_slice(bytes);
        let Some(id) = self.exchange() else { return };
        let input = std::mem::take(&mut self.upstream);
        let used = self.session.handle(
            Input::Upstream(id, &input),
            self.now,
            &mut kit.worker,
            &mut self.out,
        );
        self.take(&input, false);
        self.upstream = input[used..].to_vec();
    }

    fn event(&mut self, kit: &mut Kit, input: Input<'_>) {
        self.session.handle(input, self.now, &mut kit.worker, &mut self.out);
        self.take(b"", true);
    }

    /// Lets the wait for room in the journal pass, and shows what was left unconsumed.
    fn wait_out(&mut self, kit: &mut Kit) {
        self.now = Now { mono_ns: self.now.mono_ns + 3_000_000, ..self.now };
        self.event(kit, Input::Timer);
        self.now = Now { mono_ns: self.now.mono_ns + 6_000_000_000, ..self.now };
        self.caller(kit, b"");
        if self.session.interest().upstream {
            self.upstream(kit, b"");
        }
    }

    fn exchange(&self) -> Option<crate::base::ExchangeId> {
        self.acts.iter().rev().find_map(|act| match act {
            Act::Connect { exchange, .. } => Some(*exchange),
            _ => None,
        })
    }

    fn status(&self) -> &str {
        std::str::from_utf8(self.to_caller.get(9..12).unwrap_or(b"---")).unwrap()
    }
}

fn chat(token: &str, body: &str) -> Vec<u8> {
    format!(
        "POST /llm/v1/chat/completions?x=1&api_key=mine HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nCookie: a=b\r\nX-Custom: kept\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn answer(content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nEtag: \"1\"\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The chunks of a chunked body, joined.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = memchr::memmem::find(bytes, b"\r\n").expect("a chunk line");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        bytes = &bytes[end + 2..];
        if size == 0 {
            assert_eq!(bytes, b"\r\n");
            return body;
        }
        body.extend_from_slice(&bytes[..size]);
        assert_eq!(&bytes[size..size + 2], b"\r\n");
        bytes = &bytes[size + 2..];
    }
}

fn split_head(bytes: &[u8]) -> (String, &[u8]) {
    let end = memchr::memmem::find(bytes, b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), &bytes[end..])
}

const ASK: &str =
    r#"{"messages":[{"role":"user","content":"I am ana@corp.example.com"}],"model":"gpt-4"}"#;
const TELL: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"mail bob@corp.example.com, card 4111 1111 1111 1111","ssn":"x"}}]}"#;

#[test]
fn a_masked_exchange_has_the_key_put_in_and_the_values_taken_out() {
    let mut kit = kit();
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, ASK));
    let (head, body) = split_head(&wire.to_upstream);
    assert!(
        head.starts_with("POST /base/v1/chat/completions?x=1 HTTP/1.1\r\nhost: llm.internal\r\n"),
        "{head}"
    );
    assert!(
        head.contains(&format!("authorization: Bearer {}\r\n", String::from_utf8_lossy(REAL_KEY)))
    );
    assert!(head.contains("x-custom: kept\r\n") && !head.contains("cookie"), "{head}");
    assert!(!head.contains(&token) && !head.contains("mine"), "{head}");
    assert_eq!(body, ASK.as_bytes());
    wire.upstream(&mut kit, &answer("application/json", TELL));
    let (head, body) = split_head(&wire.to_caller);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("x-request-id: "), "{head}");
    assert!(!head.to_lowercase().contains("etag") && !head.contains("content-length"), "{head}");
    let body = String::from_utf8(dechunk(body)).unwrap();
    assert!(
        body.contains("mail [EMAIL], card ") && body.contains("\"ssn\":\"[REDACTED]\""),
        "{body}"
    );
    assert!(!body.contains("bob@") && !body.contains("4111 1111 1111 1111"), "{body}");
    assert_eq!(recorded(&kit.worker, Kind::ResponseBody), body.as_bytes());
    let request = String::from_utf8(recorded(&kit.worker, Kind::RequestBody)).unwrap();
    assert!(request.contains("I am [EMAIL]"), "{request}");
    let all: Vec<u8> = kit.worker.journal.entries().iter().flat_map(|e| e.body.clone()).collect();
    assert!(memchr::memmem::find(&all, REAL_KEY).is_none());
    assert!(memchr::memmem::find(&all, token.as_bytes()).is_none());
    assert!(matches!(wire.acts.last(), Some(Act::Release { reuse: true, .. })));
}

#[test]
fn any_split_of_both_sides_gives_the_same_bytes() {
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n{:x};e=1\r\n{}\r\n0\r\nT: x\r\n\r\n",
        70,
        &TELL[..70],
        TELL.len() - 70,
        &TELL[70..]
    );
    for group in ["analysts", "plain"] {
        let run = |caller: &[usize], upstream: &[usize]| {
            let mut kit = kit();
            let token = kit.token("ana", &[group]);
            let mut wire = Wire::new();
            let request = chat(&token, ASK);
            let mut from = 0;
            for cut in caller.iter().copied().chain([request.len()]) {
                let cut = cut.min(request.len());
                wire.caller(&mut kit, &request[from..cut]);
                from = cut;
            }
            from = 0;
            for cut in upstream.iter().copied().chain([chunked.len()]) {
                wire.upstream(&mut kit, &chunked.as_bytes()[from..cut]);
                from = cut;
            }
            let token_free =
                String::from_utf8(wire.to_upstream.clone()).unwrap().replace(&token, "T");
            let (head, body) = split_head(&wire.to_caller);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            (
                token_free,
                dechunk(body),
                recorded(&kit.worker, Kind::ResponseBody),
                recorded(&kit.worker, Kind::RequestBody),
            )
        };
        let whole = run(&[], &[]);
        assert_eq!(whole.1, whole.2);
        for cut in (1..900).step_by(7) {
            assert_eq!(run(&[cut], &[]), whole, "caller cut at {cut}");
        }
        for cut in 1..chunked.len() {
            assert_eq!(run(&[], &[cut]), whole, "upstream cut at {cut}");
        }
        let every: Vec<usize> = (1..chunked.len()).collect();
        let each: Vec<usize> = (1..1_000).collect();
        assert_eq!(run(&each, &every), whole, "byte by byte");
    }
}

#[test]
fn who_and_what_decide() {
    let mut kit = kit();
    let ana = kit.token("ana", &["analysts"]);
    let eve = kit.token("eve", &["plain"]);
    let nobody = kit.token("bob", &[]);
    let with = |kit: &mut Kit, request: &[u8]| {
        let mut wire = Wire::new();
        wire.caller(kit, request);
        wire
    };
    let plain = |token: &str, body: &str| chat(token, body);
    assert_eq!(with(&mut kit, &plain(&nobody, ASK)).status(), "403");
    assert_eq!(with(&mut kit, &plain("nonsense", ASK)).status(), "401");
    assert_eq!(with(&mut kit, &plain(&ana, r#"{"model":"claude-3"}"#)).status(), "403");
    assert_eq!(with(&mut kit, &plain(&eve, r#"{"model":"secret-1"}"#)).status(), "403");
    assert_eq!(
        with(&mut kit, &plain(&eve, r#"{"model":"a","mod\u0065l":"secret-1"}"#)).status(),
        "400"
    );
    // Not readable: the deny rule that names the model matches.
    assert_eq!(with(&mut kit, &plain(&eve, r#"{"model":"a""#)).status(), "403");
    let permitted = with(&mut kit, &plain(&eve, r#"{"model":"claude-3"}"#));
    assert!(permitted.to_caller.is_empty() && !permitted.to_upstream.is_empty());
    let twice = format!(
        "GET /llm/x HTTP/1.1\r\nhost: g\r\nx-api-key: {ana}\r\nauthorization: Bearer {ana}\r\n\r\n"
    );
    assert_eq!(with(&mut kit, twice.as_bytes()).status(), "401");
    let elsewhere = format!("GET /other/x HTTP/1.1\r\nhost: g\r\nx-api-key: {ana}\r\n\r\n");
    assert_eq!(with(&mut kit, elsewhere.as_bytes()).status(), "404");
    let smuggled = format!(
        "POST /llm/x HTTP/1.1\r\nhost: g\r\nx-api-key: {ana}\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let wire = with(&mut kit, smuggled.as_bytes());
    assert_eq!(wire.status(), "400");
    assert!(wire.to_upstream.is_empty() && wire.session.is_closed());
}

#[test]
fn a_refused_call_with_a_short_body_leaves_the_connection_usable() {
    let mut kit = kit();
    let nobody = kit.token("bob", &[]);
    let eve = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    let both = [chat(&nobody, ASK), chat(&eve, r#"{"model":"m"}"#)].concat();
    wire.caller(&mut kit, &both);
    let (head, rest) = split_head(&wire.to_caller);
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("x-should-retry: false"), "{head}");
    let problem: serde_json::Value = serde_json::from_slice(rest).unwrap();
    assert_eq!(problem["error"]["code"], "denied");
    assert!(!wire.session.is_closed());
    assert!(split_head(&wire.to_upstream).1 == br#"{"model":"m"}"#);
}

#[test]
fn a_cut_answer_looks_cut_and_holds_nothing_raw() {
    let mut kit = kit();
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, ASK));
    let whole = answer("application/json", TELL);
    let cut = memchr::memmem::find(&whole, b"corp.example").unwrap();
    wire.upstream(&mut kit, &whole[..cut]);
    let id = wire.exchange().unwrap();
    wire.event(&mut kit, Input::UpstreamEnd(id, Ending::Clean));
    assert!(wire.session.is_closed());
    assert!(matches!(wire.acts.last(), Some(Act::AbortCaller)));
    assert!(!wire.to_caller.ends_with(b"0\r\n\r\n"));
    assert!(memchr::memmem::find(&wire.to_caller, b"bob@").is_none());
}

#[test]
fn the_key_never_comes_back() {
    for split in [0, 5, 20] {
        let mut kit = kit();
        let token = kit.token("eve", &["plain"]);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        let body = format!("your key is {} ok", String::from_utf8_lossy(REAL_KEY));
        let whole = answer("text/plain", &body);
        let place = memchr::memmem::find(&whole, REAL_KEY).unwrap() + split;
        wire.upstream(&mut kit, &whole[..place]);
        wire.upstream(&mut kit, &whole[place..]);
        assert!(memchr::memmem::find(&wire.to_caller, b"sk-real").is_none());
        assert!(wire.session.is_closed());
    }
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Echo: {}\r\nContent-Length: 0\r\n\r\n",
        String::from_utf8_lossy(REAL_KEY)
    );
    wire.upstream(&mut kit, head.as_bytes());
    assert_eq!(wire.status(), "502");
}

#[test]
fn unknown_callers_are_counted_and_summed_up() {
    let mut kit = kit();
    for n in 0..50u64 {
        let mut wire = Wire::new();
        wire.now = at(2_000 + n);
        wire.caller(&mut kit, b"GET /llm/x HTTP/1.1\r\nhost: g\r\n\r\n");
        assert_eq!(wire.status(), "401");
    }
    assert_eq!(kit.worker.journal.entries().len(), 1);
    kit.worker.summarise(at(4_000));
    assert_eq!(kit.worker.journal.entries().len(), 2);
    kit::is_journal(&kit.worker.journal);
}

#[test]
fn deadlines_end_what_hangs() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, b"GET /llm/x HT");
    wire.now = at(11_000);
    wire.event(&mut kit, Input::Timer);
    assert_eq!(wire.status(), "408");
    assert!(wire.session.is_closed());
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    let due = wire.session.deadline(&kit.worker).unwrap();
    assert_eq!(due / 1_000_000, 300_001);
    wire.now = at(300_002);
    wire.event(&mut kit, Input::Timer);
    assert_eq!(wire.status(), "504");
    let mut idle = Wire::new();
    idle.now = at(61_000);
    idle.event(&mut kit, Input::Timer);
    assert!(idle.session.is_closed() && idle.to_caller.is_empty());
}

#[test]
fn a_pooled_connection_that_died_is_replaced_for_what_may_be_repeated() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    let get = format!("GET /llm/models HTTP/1.1\r\nhost: g\r\nx-api-key: {token}\r\n\r\n");
    wire.caller(&mut kit, get.as_bytes());
    let first = wire.to_upstream.clone();
    let id = wire.exchange().unwrap();
    wire.event(&mut kit, Input::UpstreamEnd(id, Ending::Clean));
    assert_eq!(wire.to_upstream.len(), 2 * first.len());
    assert!(matches!(wire.acts.last(), Some(Act::Connect { fresh: true, .. })));
    wire.event(&mut kit, Input::UpstreamEnd(id, Ending::Clean));
    assert_eq!(wire.status(), "502");
}

#[test]
fn what_a_refused_exchange_left_for_its_upstream_never_reaches_another() {
    let mut kit = kit();
    let ana = kit.token("ana", &["analysts"]);
    let eve = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    // The model is there, so the head goes out; then the body breaks under the mask.
    let broken = r#"{"model":"gpt-4","x":"a@b.example" }}"#;
    let next = format!(
        "GET /llm/models HTTP/1.1\r\nhost: g\r\nx-api-key: {eve}\r\nx-a: GET /admin HTTP/1.0\r\n\r\n"
    );
    wire.caller(&mut kit, &[chat(&ana, broken), next.into_bytes()].concat());
    let (head, rest) = split_head(&wire.to_upstream);
    assert!(head.starts_with("GET /base/models HTTP/1.1"), "{head}");
    assert!(rest.is_empty());
}

#[test]
fn the_look_ahead_budget_is_given_back_by_every_refusal() {
    let mut kit = kit();
    let eve = kit.token("eve", &["plain"]);
    for ending in [r#","model":"x","model":"y"}"#, r#","model":"secret-1"}"#, "}"] {
        let mut wire = Wire::new();
        let body = format!(r#"{{"a":"{}"{ending}"#, "b".repeat(100_000));
        let request = chat(&eve, &body);
        let cut = request.len() - ending.len();
        wire.caller(&mut kit, &request[..cut]);
        assert!(kit.worker.lookahead > 0);
        wire.caller(&mut kit, &request[cut..]);
        assert_eq!(kit.worker.lookahead, 0, "{ending}");
    }
}

#[test]
fn paths_that_servers_read_in_two_ways_and_lower_case_methods_are_refused() {
    let mut kit = kit();
    let eve = kit.token("eve", &["plain"]);
    for (line, status) in [
        ("GET /llm//admin", "400"),
        ("GET /llm/admin;x=1", "400"),
        ("GET /llm/admin%3bx", "400"),
        ("delete /llm/x", "405"),
        ("OPTIONS *", "400"),
    ] {
        let mut wire = Wire::new();
        let request = format!("{line} HTTP/1.1\r\nhost: g\r\nx-api-key: {eve}\r\n\r\n");
        wire.caller(&mut kit, request.as_bytes());
        assert_eq!(wire.status(), status, "{line}");
        assert!(wire.to_upstream.is_empty());
    }
}

#[test]
fn a_model_in_a_body_that_is_not_called_json_is_unreadable() {
    let mut kit = kit();
    let eve = kit.token("eve", &["plain"]);
    for field in ["content-type: application/x-www-form-urlencoded", "content-encoding: deflate"] {
        let body = r#"{"model":"cheap","x":"&model=secret-1&y="}"#;
        let request = format!(
            "POST /llm/x HTTP/1.1\r\nhost: g\r\nx-api-key: {eve}\r\n{field}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut wire = Wire::new();
        wire.caller(&mut kit, request.as_bytes());
        assert_eq!(wire.status(), "403", "{field}");
    }
}

#[test]
fn every_refusal_of_a_known_caller_is_recorded_with_its_name() {
    let mut kit = kit();
    let eve = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    let request = format!("GET /nowhere/x HTTP/1.1\r\nhost: g\r\nx-api-key: {eve}\r\n\r\n");
    wire.caller(&mut kit, request.as_bytes());
    assert_eq!(wire.status(), "404");
    let open = recorded(&kit.worker, Kind::Open);
    assert!(memchr::memmem::find(&open, b"eve").is_some());
}

#[test]
fn a_refused_expectation_closes_the_connection() {
    let mut kit = kit();
    let nobody = kit.token("bob", &[]);
    let mut wire = Wire::new();
    let request = format!(
        "POST /llm/x HTTP/1.1\r\nhost: g\r\nx-api-key: {nobody}\r\nexpect: 100-continue\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\n"
    );
    wire.caller(&mut kit, request.as_bytes());
    wire.caller(&mut kit, b"");
    if wire.to_caller.starts_with(b"HTTP/1.1 100") {
        return;
    }
    assert_eq!(wire.status(), "403");
    assert!(wire.session.is_closed());
}

#[test]
fn a_compressed_answer_is_decoded_masked_and_sent_whole() {
    use std::io::Write as _;
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let text = format!("{}bob@corp.example.com{}", " ".repeat(20_000), " ".repeat(20_000));
    coded.write_all(text.as_bytes()).unwrap();
    let coded = coded.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        coded.len()
    );
    let whole = [head.as_bytes(), &coded].concat();
    for cut in [head.len(), head.len() + 1, whole.len() - 9, whole.len()] {
        let mut kit = kit();
        let token = kit.token("ana", &["analysts"]);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, ASK));
        wire.upstream(&mut kit, &whole[..cut]);
        wire.upstream(&mut kit, &whole[cut..]);
        let (head, body) = split_head(&wire.to_caller);
        assert!(!head.contains("content-encoding"), "{head}");
        let body = String::from_utf8(dechunk(body)).unwrap();
        assert_eq!(body, text.replace("bob@corp.example.com", "[EMAIL]"));
    }
}

#[test]
fn an_end_of_the_caller_is_a_half_close_soon_after_the_request_and_an_abort_later() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    for (ms, begun, gone) in [(10, false, false), (5_000, false, true), (10, true, true)] {
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        if begun {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
            wire.upstream(&mut kit, head);
        }
        wire.now = at(1 + ms);
        wire.event(&mut kit, Input::CallerEnd);
        assert_eq!(wire.session.is_closed(), gone, "{ms} {begun}");
        if !gone {
            wire.upstream(&mut kit, &answer("text/plain", "fine"));
            assert!(wire.to_caller.ends_with(b"fine"));
        }
    }
}

#[test]
fn a_caller_that_ended_and_is_refused_is_not_waited_for() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
    wire.event(&mut kit, Input::CallerEnd);
    let id = wire.exchange().unwrap();
    wire.event(&mut kit, Input::ConnectFailed(id, crate::session::io::UpstreamFault::Refused));
    assert_eq!(wire.status(), "502");
    assert!(wire.session.is_closed() && wire.acts.contains(&Act::CloseCaller { linger: false }));
}
