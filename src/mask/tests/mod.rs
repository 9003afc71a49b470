//! Claims about whole bodies: any cut gives the same, nothing leaks, what is clean stays.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod bodies;
mod oracle;
mod stencil;
mod streams;

use super::*;
use crate::base::{Limits, Piece, Pieces, Secret};
use std::sync::Arc;

/// A plan from the words of a config: detectors, field paths, the operator of all.
pub(super) fn plan(detect: &[&str], fields: &[&str], operator: &str) -> Arc<Plan> {
    Arc::new(Plan::compile(&[spec(detect, fields, operator)]).unwrap())
}

pub(super) fn spec(detect: &[&str], fields: &[&str], operator: &str) -> MaskSpec {
    MaskSpec {
        name: "test".to_owned(),
        detect: detect.iter().map(|name| Detector::parse(name).unwrap()).collect(),
        fields: fields.iter().map(|path| JsonPath::parse(path).unwrap()).collect(),
        operators: Operators {
            default: Some(Operator::parse(operator).unwrap()),
            ..Default::default()
        },
        key: Secret::new(b"a key of the tests".to_vec()),
        ..MaskSpec::default()
    }
}

pub(super) const ALL: &[&str] = &["secrets", "email", "pan", "iban", "us_ssn", "phone"];

/// Masks a body that comes in parts, checking after each what a filter promises.
pub(super) fn masked(
    plan: &Arc<Plan>,
    content: Content,
    parts: &[&[u8]],
) -> Result<Vec<u8>, MaskError> {
    let mut filter = Filter::new(plan, content, &Limits::default()).unwrap();
    let mut all = Vec::new();
    let mut pieces = Pieces::new();
    let (mut fed, mut settled) = (0, 0);
    for (index, part) in parts.iter().enumerate() {
        pieces.clear();
        let end = index + 1 == parts.len();
        let cleared = filter.push(part, end, &mut pieces)?;
        all.extend_from_slice(&cleared.pieces().to_vec(part));
        fed += part.len() as u64;
        assert!(filter.cleared() >= settled && filter.cleared() <= fed, "settled only grows");
        settled = filter.cleared();
    }
    assert_eq!(settled, fed, "all is settled at the end");
    Ok(all)
}

/// A small generator with a seed that is printed by whoever fails.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    pub(super) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Whole, byte by byte, every two-way cut and some random cuts give the same; returns it.
pub(super) fn however_cut(plan: &Arc<Plan>, content: Content, body: &[u8]) -> String {
    let whole = masked(plan, content, &[body]);
    let shown = |out: &Result<Vec<u8>, MaskError>| match out {
        Ok(out) => String::from_utf8_lossy(out).into_owned(),
        Err(error) => format!("error: {error}"),
    };
    let same = |parts: &[&[u8]], how: &str| {
        let out = masked(plan, content, parts);
        assert_eq!(shown(&out), shown(&whole), "{how}: {}", String::from_utf8_lossy(body));
    };
    same(&body.chunks(1).chain([&b""[..]]).collect::<Vec<_>>(), "byte by byte");
    for cut in 0..=body.len() {
        same(&[&body[..cut], &body[cut..]], &format!("cut at {cut}"));
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ body.len() as u64);
    for round in 0..20 {
        let most = 1 + random.below(40);
        let mut parts = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (part, tail) = rest.split_at((1 + random.below(most)).min(rest.len()));
            parts.push(part);
            rest = tail;
        }
        parts.push(&[]);
        same(&parts, &format!("random cuts, round {round}"));
    }
    shown(&whole)
}

#[test]
fn a_pass_plan_names_the_input_and_copies_nothing() {
    let plan = Arc::new(Plan::pass());
    let mut filter = Filter::new(&plan, Content::Opaque, &Limits::default()).unwrap();
    let mut pieces = Pieces::new();
    let cleared = filter.push(b"\x00\xff bob@example.com", true, &mut pieces).unwrap();
    assert_eq!(cleared.pieces().list(), [Piece::Source(0..18)]);
    assert_eq!(filter.cleared(), 18);
}

#[test]
fn opaque_content_is_refused_under_a_mask() {
    let plan = plan(&["email"], &[], "redact");
    let new = Filter::new(&plan, Content::Opaque, &Limits::default());
    assert_eq!(new.err(), Some(MaskError::Unsupported));
}

#[test]
fn clean_text_and_json_go_out_as_one_source_range() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    for (content, body) in [
        (Content::Text, "It was a clean, well lighted place; 42 of them. "),
        (Content::Json, "{\"a\": [1, 2.5e3, \"x\\ny \\u00e9\", null], \"b\": {\"c\": true}} "),
    ] {
        let mut filter = Filter::new(&plan, content, &Limits::default()).unwrap();
        let mut pieces = Pieces::new();
        let cleared = filter.push(body.as_bytes(), true, &mut pieces).unwrap();
        assert_eq!(cleared.pieces().list(), [Piece::Source(0..body.len() as u32)], "{body}");
        assert_eq!(filter.finds().total(), 0);
    }
}

#[test]
fn a_dropped_or_reset_filter_lets_nothing_go() {
    let plan = plan(ALL, &[], "redact");
    let mut filter = Filter::new(&plan, Content::Text, &Limits::default()).unwrap();
    let mut pieces = Pieces::new();
    let cleared = filter.push(b"mail bob@exam", false, &mut pieces).unwrap();
    assert_eq!(cleared.pieces().to_vec(b"mail bob@exam"), b"mail ");
    assert_eq!(filter.cleared(), 5);
    filter.reset(&plan, Content::Text, &Limits::default()).unwrap();
    pieces.clear();
    let cleared = filter.push(b"x", true, &mut pieces).unwrap();
    assert_eq!(cleared.pieces().to_vec(b"x"), b"x");
}

#[test]
fn a_value_that_was_begun_does_not_reach_the_next_body() {
    for (operator, content, start) in [
        ("keep_last(4)", Content::Json, "{\"ssn\":\"123456789"),
        ("hash", Content::Json, "{\"ssn\":\"123456789"),
        ("keep_last(4)", Content::Text, "sk-Abcdefghij0123456789abcdefgh"),
        ("redact", Content::Json, "{\"a\":4111"),
        ("same_length", Content::Json, "{\"ssn\":[1,[2"),
    ] {
        let plan = plan(ALL, &["$..ssn"], operator);
        let mut filter = Filter::new(&plan, content, &Limits::default()).unwrap();
        let mut pieces = Pieces::new();
        let _cleared = filter.push(start.as_bytes(), false, &mut pieces).unwrap();
        filter.reset(&plan, content, &Limits::default()).unwrap();
        pieces.clear();
        let body = b" [1, \"x\"] ";
        let cleared = filter.push(body, true, &mut pieces).unwrap();
        assert_eq!(cleared.pieces().to_vec(body), body);
        assert_eq!((filter.cleared(), filter.finds().total()), (10, 0));
    }
}

#[test]
fn after_an_error_every_push_fails() {
    let plan = plan(ALL, &[], "redact");
    let mut filter = Filter::new(&plan, Content::Json, &Limits::default()).unwrap();
    let mut pieces = Pieces::new();
    assert!(matches!(filter.push(b"{]", false, &mut pieces), Err(MaskError::Broken(_))));
    assert!(matches!(filter.push(b"{}", true, &mut pieces), Err(MaskError::Broken(_))));
}

#[test]
fn a_header_value_is_masked_whole() {
    let plan = plan(&["email"], &[], "redact");
    let mut out = Vec::new();
    clear_value(&plan, b"/u?m=bob@example.com&x", &mut out).unwrap();
    assert_eq!(out, b"/u?m=[EMAIL]&x");
}
