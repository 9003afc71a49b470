//! Is what is recorded of a request the masked form, also of one that is refused?

use super::*;
use crate::base::{MaskId, MaskSet, Secret};
use crate::mask::{Detector, MaskSpec, Operator, Operators, Plans};
use crate::policy::{Effect, Pattern, RecordLevel, RuleSpec, Table};
use crate::record::fields::{Reader, Tag};

fn get(token: &str, target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n\r\n")
        .into_bytes()
}

/// Of each entry of a kind: its body as text, and whether a mask was in force.
fn entries(kit: &Kit, kind: Kind) -> Vec<(String, bool)> {
    let all = kit.worker.journal.entries().iter().filter(|entry| entry.meta.kind == kind);
    all.map(|entry| {
        let text = String::from_utf8_lossy(&entry.body).into_owned();
        (text, entry.meta.flags.has(Flags::MASKED))
    })
    .collect()
}

/// The path of the last open entry, its decision, and whether a mask was in force.
fn opened(kit: &Kit) -> (String, String, bool) {
    let mut all = kit.worker.journal.entries().iter();
    let entry = all.rfind(|entry| entry.meta.kind == Kind::Open).unwrap();
    let text = |tag| Reader::find(&entry.body, tag).unwrap().as_text().into_owned();
    (text(Tag::Path), text(Tag::Decision), entry.meta.flags.has(Flags::MASKED))
}

/// Nothing in the record says `secret`, in whatever form it was sent.
fn is_nowhere(kit: &Kit, secret: &str) -> bool {
    let escaped = secret.replace('@', "%40");
    let has = |body: &[u8], text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
    !kit.worker
        .journal
        .entries()
        .iter()
        .any(|entry| has(&entry.body, secret) || has(&entry.body, &escaped))
}

#[test]
fn an_escaped_value_of_a_query_goes_up_as_it_is_and_is_recorded_masked() {
    let mut kit = kit();
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    let ask = chat(&token, r#"{"model":"gpt-4"}"#);
    let ask = String::from_utf8(ask).unwrap().replace("?x=1", "?who=bob%40example.com&x=1");
    let ask = ask.replace("X-Custom: kept", "X-Custom: https://x/?m=bob%40example.com");
    wire.caller(&mut kit, ask.as_bytes());
    let (sent, _) = split_head(&wire.to_upstream);
    assert_eq!(sent.matches("bob%40example.com").count(), 2, "{sent}");
    let heads = entries(&kit, Kind::RequestHead);
    assert!(heads[0].0.contains("?who=[EMAIL]&x=1 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].1 && is_nowhere(&kit, "bob@example.com"), "{heads:?}");
    let head =
        "HTTP/1.1 302 Found\r\nLocation: /x?m=bob%40example.com\r\nContent-Length: 0\r\n\r\n";
    wire.upstream(&mut kit, head.as_bytes());
    let got = String::from_utf8(wire.to_caller.clone()).unwrap();
    assert!(got.contains("[EMAIL]") && !got.contains("bob"), "{got}");
    assert!(entries(&kit, Kind::ResponseHead)[0].1);
}

#[test]
fn what_is_refused_is_recorded_under_the_masks_that_a_permit_would_have_had() {
    let mut kit = kit();
    let (ana, eve) = (kit.token("ana", &["analysts"]), kit.token("eve", &["plain"]));
    let mut ask = |token: &str, target: &str, status: &str| {
        let mut wire = Wire::new();
        wire.caller(&mut kit, &get(token, target));
        assert_eq!(wire.status(), status, "{target}");
        (opened(&kit), is_nowhere(&kit, "bob@example.com"))
    };
    let said = |path: &str, decision: &str, masked| (path.to_owned(), decision.to_owned(), masked);
    // No model, so that the one rule with a mask does not match.
    let found = ask(&ana, "/llm/u/bob%40example.com", "403");
    assert_eq!(found, (said("/u/[EMAIL]", "deny", true), true));
    // No resource: the masks of all that the caller may meet.
    let found = ask(&ana, "/nowhere/bob@example.com", "404");
    assert_eq!(found, (said("/nowhere/[EMAIL]", "refuse", true), true));
    let found = ask(&ana, "/llm/a//bob@example.com", "400");
    assert_eq!(found, (said("/a//[EMAIL]", "refuse", true), true));
    // Nobody asks for a mask on what this caller does.
    let found = ask(&eve, "/nowhere/bob@example.com", "404");
    assert_eq!(found, (said("/nowhere/bob@example.com", "refuse", false), false));
}

#[test]
fn the_record_of_a_refusal_holds_nothing_of_the_exchange_before() {
    let mut kit = kit();
    let token = kit.token("eve", &["plain"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &get(&token, "/llm/first"));
    wire.upstream(&mut kit, &answer("text/plain", "fine"));
    wire.caller(&mut kit, &get(&token, "/nowhere"));
    assert_eq!(opened(&kit).0, "/nowhere");
}

#[test]
fn a_path_that_a_mask_blocks_is_refused_and_recorded_as_blocked() {
    let mut kit = kit();
    let operators =
        Operators { default: Some(Operator::parse("block").unwrap()), ..Operators::default() };
    let spec = MaskSpec {
        name: "pii".into(),
        detect: vec![Detector::parse("email").unwrap()],
        fields: Vec::new(),
        operators,
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    std::rc::Rc::get_mut(&mut kit.worker.snapshot).and_then(Arc::get_mut).unwrap().plans =
        Plans::new(vec![spec]).unwrap();
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    let ask = String::from_utf8(chat(&token, r#"{"model":"gpt-4"}"#)).unwrap();
    wire.caller(&mut kit, ask.replace("/completions", "/bob%40example.com").as_bytes());
    assert_eq!(wire.status(), "403");
    assert!(wire.to_upstream.is_empty());
    assert_eq!(opened(&kit), ("[BLOCKED]".to_owned(), "refuse".to_owned(), true));
    assert!(is_nowhere(&kit, "bob@example.com"));
    let sub = entries(&kit, Kind::Open)[0].0.contains("ana");
    assert!(sub, "who asked is recorded");
}

/// The endings and states of all exchanges that are over, in order.
fn ended(kit: &Kit) -> Vec<(String, u64)> {
    let all = kit.worker.journal.entries().iter().filter(|entry| entry.meta.kind == Kind::Close);
    all.map(|entry| {
        let ending = Reader::find(&entry.body, Tag::Ending).unwrap().as_text().into_owned();
        (ending, Reader::find(&entry.body, Tag::Status).unwrap().as_number().unwrap())
    })
    .collect()
}

/// A request for the model, in its head `more` and behind it `body`.
fn post(token: &str, path: &str, more: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: gw\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\n{more}\r\n\r\n{body}"
    )
    .into_bytes()
}

#[test]
fn a_refused_request_that_was_read_whole_ends_whole_with_its_refusal() {
    let mut kit = kit();
    let (bob, ana) = (kit.token("bob", &[]), kit.token("ana", &["analysts"]));
    let (chat, bad) = ("/llm/v1/chat", r#"{"model":"secret-1"}"#);
    let length = format!("content-length: {}", bad.len());
    // Without a model, which only the last chunk tells.
    let chunks = "7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let zip = "content-encoding: gzip\r\ncontent-length: 17";
    for (what, request, status) in [
        ("a denied GET", get(&bob, "/llm/x"), 403),
        ("a GET of nothing", get(&bob, "/nowhere"), 404),
        ("an ambiguous path", get(&bob, "/llm/a//b"), 400),
        ("an empty body", post(&bob, chat, "content-length: 0", ""), 403),
        ("a body, at once", post(&bob, chat, &length, bad), 403),
        ("a body that is read for its model", post(&ana, chat, &length, bad), 403),
        ("a chunked one", post(&ana, chat, "transfer-encoding: chunked", chunks), 403),
        ("one that cannot be read", post(&ana, chat, zip, r#"{"model":"gpt-4"}"#), 403),
    ] {
        for cut in [request.len(), request.len() - 1, request.len() / 2] {
            kit.worker.journal.take();
            let mut wire = Wire::new();
            for part in [&request[..cut], &request[cut..]] {
                wire.caller(&mut kit, part);
            }
            assert_eq!(wire.status(), status.to_string(), "{what}, {cut}");
            assert_eq!(ended(&kit), [("whole".to_owned(), status)], "{what}, {cut}");
            assert_eq!(kit.worker.lookahead, 0, "{what}");
            // The connection is as it was before: silence on it is no timeout of a request.
            let refused = kit.worker.counts.refusals;
            wire.to_caller.clear();
            wire.caller(&mut kit, &get(&bob, "/llm/y"));
            assert_eq!(wire.status(), "403", "{what}");
            assert_eq!(ended(&kit).len(), 2, "{what}");
            wire.now = at(100_000);
            wire.event(&mut kit, Input::Timer);
            assert!(wire.session.is_closed(), "{what}");
            let late: u64 = kit.worker.counts.refusals.iter().sum::<u64>();
            assert_eq!(late, refused.iter().sum::<u64>() + 1, "{what}");
        }
    }
}

#[test]
fn a_refused_request_that_is_never_whole_ends_cut() {
    let mut kit = kit();
    let bob = kit.token("bob", &[]);
    let chat = "/nowhere";
    for (what, request) in [
        ("half a body", post(&bob, chat, "content-length: 10", "12345")),
        ("a body too long to be dropped", post(&bob, chat, "content-length: 1000000", "1")),
        ("half a chunked one", post(&bob, chat, "transfer-encoding: chunked", "5\r\n12")),
        ("one that waits", post(&bob, chat, "expect: 100-continue\r\ncontent-length: 9", "")),
    ] {
        kit.worker.journal.take();
        let mut wire = Wire::new();
        wire.caller(&mut kit, &request);
        assert_eq!(wire.status(), "404", "{what}");
        if !wire.session.is_closed() {
            assert!(ended(&kit).is_empty(), "{what}: the rest may come");
            wire.event(&mut kit, Input::CallerEnd);
        }
        assert_eq!(ended(&kit), [("cut".to_owned(), 404)], "{what}");
    }
}

#[test]
fn what_the_upstream_is_to_blame_for_ends_whole_until_the_answer_has_begun() {
    let mut kit = kit();
    let eve = kit.token("eve", &["plain"]);
    for (what, began, status, ending) in [
        ("no connection", "", 502, "whole"),
        ("no answer in time", "", 504, "whole"),
        ("an end before the head", "HTTP/1.1 200 O", 502, "whole"),
        ("an end within the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", 200, "cut"),
    ] {
        kit.worker.journal.take();
        let mut wire = Wire::new();
        wire.caller(&mut kit, &post(&eve, "/llm/x", "content-length: 1", "1"));
        wire.upstream(&mut kit, began.as_bytes());
        let id = wire.exchange().unwrap();
        match (what, status) {
            ("no connection", _) => {
                let fault = crate::session::io::UpstreamFault::Refused;
                wire.event(&mut kit, Input::ConnectFailed(id, fault));
            }
            (_, 504) => {
                wire.now = at(10_000_000);
                wire.event(&mut kit, Input::Timer);
            }
            _ => wire.event(&mut kit, Input::UpstreamEnd(id, Ending::Clean)),
        }
        assert_eq!(ended(&kit), [(ending.to_owned(), status)], "{what}");
    }
}

#[test]
fn what_a_caller_says_of_its_work_narrows_and_is_recorded_masked() {
    let mut kit = kit();
    let mut open = RuleSpec::new("open", Effect::Allow);
    open.then.record = RecordLevel::Meta;
    let mut masked = RuleSpec::new("masked", Effect::Allow);
    masked.who.run = Some(vec![Pattern::new("*")]);
    masked.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut tools = RuleSpec::new("no-tools", Effect::Deny);
    tools.who.node = Some(vec![Pattern::new("tool:*")]);
    std::rc::Rc::get_mut(&mut kit.worker.snapshot).and_then(Arc::get_mut).unwrap().policy =
        Table::compile(vec![open, masked, tools], 1, 1).unwrap();
    let token = kit.token("eve", &[]);
    let mut ask = |fields: &str| {
        let mut wire = Wire::new();
        let request = String::from_utf8(get(&token, "/llm/x")).unwrap();
        wire.caller(&mut kit, request.replace("\r\n\r\n", fields).as_bytes());
        let sent = String::from_utf8(wire.to_upstream.clone()).unwrap();
        assert!(!sent.to_ascii_lowercase().contains("weirgate"), "{sent}");
        let (text, masked) = entries(&kit, Kind::Open).pop().unwrap();
        (!sent.is_empty(), text, masked)
    };
    let (went, _, _) = ask("\r\n\r\n");
    assert!(went);
    let (went, text, _) = ask("\r\nX-Weirgate-Node: plan\r\nx-weirgate-thread: t-1\r\n\r\n");
    assert!(went && text.contains("plan") && text.contains("t-1"), "{text}");
    let (went, text, _) = ask("\r\nx-weirgate-node: tool:rm\r\n\r\n");
    assert!(!went && text.contains("no-tools") && !text.contains("plan"), "{text}");
    let (went, text, masked) = ask("\r\nx-weirgate-run: of bob@example.com\r\n\r\n");
    assert!(went && masked && text.contains("of [EMAIL]") && !text.contains("bob"), "{text}");
    // Too long to be read, so that it may be a tool.
    let (went, _, _) = ask(&format!("\r\nx-weirgate-node: {}\r\n\r\n", "x".repeat(200)));
    assert!(!went);
}
