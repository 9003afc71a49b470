//! Masks: no cut changes what comes out, what is settled only grows, an address that stands free
//! never comes out, and what passes as JSON stays JSON.
//!
//! First byte: `t` text, `j` JSON, `n` NDJSON, `o` `a` `p` events of OpenAI, Anthropic, others.
//! Second byte: the operator, one of `OPERATORS`, by its place from `0` on.

use super::cuts;
use std::sync::{Arc, OnceLock};
use weirgate::base::{Limits, Pieces, Secret};
use weirgate::mask::{
    Content, Detector, Filter, JsonPath, MaskError, MaskSpec, Operator, Operators, Plan, Shape,
    detectors,
};

const OPERATORS: [&str; 9] = [
    "redact",
    "replace(\"***\")",
    "keep_first(3)",
    "keep_last(4)",
    "same_length",
    "hash",
    "null",
    "drop",
    "block",
];
/// An address that no operator lets through whole.
const CANARY: &str = "ana.canary@corp.example.com";

fn plan(detect: &[Detector], fields: &[&str], operator: &str) -> Arc<Plan> {
    let spec = MaskSpec {
        name: "fuzz".to_owned(),
        detect: detect.to_vec(),
        fields: fields.iter().map(|path| JsonPath::parse(path).expect("a path")).collect(),
        operators: Operators {
            default: Some(Operator::parse(operator).expect("an operator")),
            ..Operators::default()
        },
        key: Secret::new(b"a key of the fuzzer".to_vec()),
        ..MaskSpec::default()
    };
    Arc::new(Plan::compile(&[spec]).expect("a sound plan"))
}

/// With and without field rules, for each operator.
fn plans() -> &'static [Arc<Plan>] {
    static PLANS: OnceLock<Vec<Arc<Plan>>> = OnceLock::new();
    PLANS.get_or_init(|| {
        let all = detectors();
        let email = [Detector::parse("email").expect("a detector")];
        let usable = |operator: &&&str| Operator::parse(operator).is_ok();
        let with = |operator: &&str| plan(all, &["$..ssn", "$.user.email"], operator);
        let mut plans: Vec<_> = OPERATORS.iter().filter(usable).map(with).collect();
        plans.push(plan(all, &[], "redact"));
        plans.push(plan(&email, &["$.a"], "null"));
        plans.push(plan(&email, &[], "same_length"));
        plans
    })
}

/// See the module.
pub fn run(data: &[u8]) {
    let [kind, which, body @ ..] = data else { return };
    let content = match kind {
        b't' => Content::Text,
        b'j' => Content::Json,
        b'n' => Content::Ndjson,
        b'o' => Content::Sse(Shape::OpenAi),
        b'a' => Content::Sse(Shape::Anthropic),
        _ => Content::Sse(Shape::Plain),
    };
    let place = usize::from(which.wrapping_sub(b'0')) % plans().len();
    let Some(plan) = plans().get(place) else { return };
    check(plan, content, body);
    check(plan, content, &with_canary(content, body));
}

/// The body with the address in a place of its own.
fn with_canary(content: Content, body: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(body);
    match content {
        Content::Json => {
            let text = serde_json::to_string(&text).expect("a string");
            format!(r#"{{"x":{text},"y":"to {CANARY} at once"}}"#).into_bytes()
        }
        Content::Ndjson => [body, format!("\n\"to {CANARY} at once\"\n").as_bytes()].concat(),
        Content::Sse(Shape::OpenAi) => {
            let delta = serde_json::json!({"choices": [{"index": 0, "delta": {"content": format!(" to {CANARY} at once")}}]});
            [body, format!("\n\ndata: {delta}\n\n").as_bytes()].concat()
        }
        Content::Sse(_) => [body, format!("\n\ndata: to {CANARY} at once\n\n").as_bytes()].concat(),
        _ => [body, format!(" to {CANARY} at once").as_bytes()].concat(),
    }
}

fn check(plan: &Arc<Plan>, content: Content, body: &[u8]) {
    let whole = masked(plan, content, body, &[body.len()]);
    for ends in cuts::ways(body) {
        let parts = masked(plan, content, body, &ends);
        // Of two faults in one body either may be named first; both refuse it.
        let both_refuse = parts.is_err() && whole.is_err();
        if parts != whole && !both_refuse {
            let show = |out: &Result<Vec<u8>, MaskError>| match out {
                Ok(out) => String::from_utf8_lossy(out).into_owned(),
                Err(error) => format!("error: {error}"),
            };
            panic!("cut at {ends:?}\nwhole: {}\nparts: {}", show(&whole), show(&parts));
        }
    }
    let Ok(out) = whole else { return };
    let canary = CANARY.as_bytes();
    assert!(!out.windows(canary.len()).any(|part| part == canary), "the address came out");
    if content == Content::Json && std::str::from_utf8(body).is_ok() && !body.is_empty() {
        let valid = |text: &[u8]| serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
        assert_eq!(valid(body), valid(&out), "{}", String::from_utf8_lossy(&out));
    }
}

fn masked(
    plan: &Arc<Plan>,
    content: Content,
    body: &[u8],
    ends: &[usize],
) -> Result<Vec<u8>, MaskError> {
    let limits = Limits { event_max: 4 << 10, ..Limits::default() };
    let mut filter = Filter::new(plan, content, &limits)?;
    let mut all = Vec::new();
    let mut pieces = Pieces::new();
    let (mut fed, mut settled) = (0u64, 0);
    for (index, part) in cuts::parts(body, ends).enumerate() {
        pieces.clear();
        let end = index + 1 == ends.len();
        let cleared = filter.push(part, end, &mut pieces)?;
        let out = cleared.pieces().to_vec(part);
        assert_eq!(out.len(), cleared.pieces().len());
        all.extend_from_slice(&out);
        fed += part.len() as u64;
        assert!(filter.cleared() >= settled && filter.cleared() <= fed, "settled only grows");
        settled = filter.cleared();
    }
    assert_eq!(settled, fed, "all is settled at the end");
    Ok(all)
}
