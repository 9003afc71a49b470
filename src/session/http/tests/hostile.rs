//! What masks and budgets must hold against: values that never end.

use super::{Wire, chat};
use crate::base::Limits;
use crate::mask::{MaskSpec, Operator, Plans};
use crate::record::MemoryJournal;
use crate::session::kit::{Kit, kit_with};
use std::sync::Arc;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same gateway, whose mask does something else with what it finds.
fn with_operator(limits: Limits, operator: &str) -> Kit {
    let mut kit = kit_with(MemoryJournal::default(), limits);
    let snapshot = Arc::get_mut(&mut kit.worker.snapshot).unwrap();
    let mut spec = MaskSpec {
        name: "pii".into(),
        detect: vec![crate::mask::Detector::parse("email").unwrap()],
        fields: vec![crate::mask::JsonPath::parse("$..ssn").unwrap()],
        operators: crate::mask::Operators::default(),
        key: crate::base::Secret::new(b"0123456789abcdef".to_vec()),
    };
    spec.operators.default = Some(Operator::parse(operator).unwrap());
    snapshot.plans = Plans::new(vec![spec]).unwrap();
    kit
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
