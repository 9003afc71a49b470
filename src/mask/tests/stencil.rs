//! A stream that fits stencils is masked as one that never does.

use super::*;
use crate::mask::text::Context;
use crate::mask::vendor::Vendor;

const TEXTS: &[&str] = &[
    "",
    "Ask",
    " ana",
    "@corp",
    ".example",
    ".com",
    " or 4111 1111",
    " 1111 1111",
    ".",
    " s",
    "k-live",
    r"\n",
    r"caf\u00e9",
    "caf\u{e9}",
    r#"\"x\""#,
    "bob@example.com, ",
    "{",
    r#"{\"ssn\":\"1"#,
    r#"2\"}"#,
];

/// One event, mostly like others: the shape of a chat completion or of a message.
fn event(random: &mut Random, shape: Shape) -> String {
    let text = random.pick(TEXTS);
    let index = usize::from(random.below(9) == 0);
    if shape == Shape::Anthropic {
        return match random.below(30) {
            0 => format!(r#"{{"type":"content_block_stop","index":{index}}}"#),
            1 => format!(
                r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"input_json_delta","partial_json":"{text}"}}}}"#
            ),
            _ => format!(
                r#"{{"type":"content_block_delta","index":{index},"delta":{{"type":"text_delta","text":"{text}"}}}}"#
            ),
        };
    }
    let id = if random.below(12) == 0 { "eve@example.com" } else { "c-1" };
    let end = if random.below(12) == 0 { r#""stop""# } else { "null" };
    let delta = match random.below(40) {
        0 => format!(
            r#""tool_calls":[{{"index":0,"function":{{"arguments":"{text}"}}}}],"content":"x""#
        ),
        1 => format!(r#""ssn":"123","content":"{text}""#),
        2 => format!(r#""content":"{text}","content":"{}""#, random.pick(TEXTS)),
        _ => format!(r#""content":"{text}""#),
    };
    let padding = if shape == Shape::OpenAi && random.below(9) == 0 {
        ""
    } else {
        random.pick(&[r#","obfuscation":"a""#, r#","obfuscation":"bcd""#])
    };
    format!(
        r#"{{"id":"{id}","created":1700000000,"choices":[{{"index":{index},"delta":{{{delta}}},"logprobs":null,"finish_reason":{end}}}]{padding}}}"#
    )
}

#[test]
fn an_event_that_fits_is_masked_as_one_that_does_not() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let mut fitted = 0;
    for seed in 1..400u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let shape = [Shape::OpenAi, Shape::Anthropic][random.below(2)];
        let mut vendors = [Vendor::default(), Vendor::default()];
        let mut finds = [Finds::default(); 2];
        for place in 0..40u64 {
            let data = event(&mut random, shape);
            let [fast, slow] = &mut vendors;
            slow.forget_stencil();
            fitted += usize::from(fast.fits_stencil(data.as_bytes()));
            let run = |vendor: &mut Vendor, finds: &mut Finds| {
                let (mut before, mut masked) = (Vec::new(), Vec::new());
                let mut context = Context { plan: &plan, finds };
                let data = data.as_bytes();
                let done = vendor.event(&mut context, shape, data, place, &mut before, &mut masked);
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                done.map(|()| (text(&before), text(&masked), vendor.waits_since()))
            };
            let [of_fast, of_slow] = &mut finds;
            let (one, other) = (run(fast, of_fast), run(slow, of_slow));
            assert_eq!(one, other, "seed {seed}, event {place}: {data}");
            if one.is_err() {
                break;
            }
        }
        assert_eq!(finds[0], finds[1], "seed {seed}");
    }
    assert!(fitted > 1_000, "{fitted} events fitted");
}
