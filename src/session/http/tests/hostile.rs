//! What masks and budgets must hold against: other encodings, values that never end.

use super::{Wire, answer, chat};
use crate::base::{Limits, MaskId, MaskSet};
use crate::mask::{Content, MaskSpec, Operator, Plans, Shape};
use crate::record::MemoryJournal;
use crate::session::kit::{Kit, kit, kit_with};
use std::sync::Arc;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same gateway, whose mask does something else with what it finds.
fn with_operator(limits: Limits, operator: &str) -> Kit {
    let mut kit = kit_with(MemoryJournal::default(), limits);
    let snapshot = std::rc::Rc::get_mut(&mut kit.worker.snapshot).and_then(Arc::get_mut).unwrap();
    let mut spec = MaskSpec {
        name: "pii".into(),
        detect: vec![crate::mask::Detector::parse("email").unwrap()],
        fields: vec![crate::mask::JsonPath::parse("$..ssn").unwrap()],
        operators: crate::mask::Operators::default(),
        key: crate::base::Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    spec.operators.default = Some(Operator::parse(operator).unwrap());
    snapshot.plans = Plans::new(vec![spec]).unwrap();
    kit
}

#[test]
fn text_in_utf_16_does_not_pass_a_mask() {
    for bom in [true, false] {
        let mut kit = kit();
        let token = kit.token("ana", &["analysts"]);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"gpt-4"}"#));
        let mut body = if bom { vec![0xff, 0xfe] } else { Vec::new() };
        body.extend("mail ana@example.com ok".encode_utf16().flat_map(u16::to_le_bytes));
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(&body);
        wire.upstream(&mut kit, &bytes);
        let out: Vec<u8> = wire.to_caller.iter().copied().filter(|b| *b != 0).collect();
        assert!(!text(&out).contains("ana@example.com"), "bom {bom}: {}", text(&out));
    }
}

#[test]
fn what_a_request_filter_waits_for_counts_against_the_budget() {
    let limits = Limits { lookahead_worker_max: 256 << 10, ..Limits::default() };
    let mut kit = with_operator(limits, "hash");
    let token = kit.token("ana", &["analysts"]);
    let mut wires = Vec::new();
    for _ in 0..8 {
        let head = format!(
            "POST /llm/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{{\"model\":\"gpt-4\",\"ssn\":\"{}",
            "A".repeat(100 << 10)
        );
        let mut wire = Wire::new();
        wire.caller(&mut kit, head.as_bytes());
        wires.push(wire);
    }
    let held: usize = wires.iter().map(|wire| wire.session.held.len()).sum();
    assert!(held <= 256 << 10, "{held} bytes are held");
    assert_eq!(kit.worker.lookahead, held as u64);
    for wire in &mut wires {
        wire.event(&mut kit, crate::session::io::Input::CallerGone);
        assert!(wire.session.held.capacity() <= 64 << 10, "room is kept");
    }
    assert_eq!(kit.worker.lookahead, 0);
}

#[test]
fn a_filter_that_a_long_event_made_large_is_not_kept() {
    let mut kit = kit();
    let token = kit.token("ana", &["analysts"]);
    let mut wire = Wire::new();
    wire.caller(&mut kit, &chat(&token, r#"{"model":"gpt-4"}"#));
    let long = format!("data: {{\"choices\":[],\"x\":\"{}\"}}\n\n", "a".repeat(500 << 10));
    wire.upstream(&mut kit, &answer("text/event-stream", &long));
    assert_eq!(wire.status(), "200");
    let limits = Limits::default();
    let plan = kit.worker.snapshot.plans.united(MaskSet::EMPTY.with(MaskId(0)));
    let kinds = Content::of(b"text/event-stream", Shape::OpenAi);
    for _ in 0..3 {
        let filter = kit.worker.take_filter(&plan, kinds, &limits).unwrap();
        assert!(filter.room() <= 64 << 10, "{}", filter.room());
    }
}
