//! Event streams: plain, OpenAI, Anthropic.

use super::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[test]
fn plain_events_are_masked_each_for_itself() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let body = ": ping b@c.de\n\nevent: x\r\ndata: {\"ssn\":\"1\",\"m\":\"b@c.de\"}\r\n\r\n\
                data: call b@c.de\ndata: now\n\ndata: 4111111111111111\nid: 7\n\ndata: [DONE]";
    assert_eq!(
        however_cut(&plan, Content::Sse(Shape::Plain), body.as_bytes()),
        ": ping [EMAIL]\n\nevent: x\ndata: {\"ssn\":\"[REDACTED]\",\"m\":\"[EMAIL]\"}\n\n\
         data: call [EMAIL]\ndata: now\n\nid: 7\ndata: null\n\ndata: [DONE]\n\n"
    );
    let broken = b"data: {\"ssn\":\"1\",}\n\n";
    assert!(masked(&plan, Content::Sse(Shape::Plain), &[broken]).is_err());
}

/// All texts of an OpenAI stream as a caller puts them together.
fn openai_texts(stream: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut finished = Vec::new();
    for line in stream.lines().filter_map(|line| line.strip_prefix("data: ")) {
        if line == "[DONE]" {
            continue;
        }
        let event: Value = serde_json::from_str(line).unwrap();
        for choice in event["choices"].as_array().into_iter().flatten() {
            let index = &choice["index"];
            let mut add = |key: String, text: &Value| {
                if let Some(text) = text.as_str() {
                    texts.entry(key).or_insert_with(String::new).push_str(text);
                    assert!(!finished.contains(index), "text behind the finish: {stream}");
                }
            };
            let delta = &choice["delta"];
            for name in ["content", "refusal", "reasoning_content"] {
                add(format!("{index} {name}"), &delta[name]);
            }
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                add(format!("{index} call {}", call["index"]), &call["function"]["arguments"]);
            }
            add(format!("{index} function"), &delta["function_call"]["arguments"]);
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                add(format!("{index} custom {}", call["index"]), &call["custom"]["input"]);
            }
            add(format!("{index} audio"), &delta["audio"]["transcript"]);
            if !choice["finish_reason"].is_null() {
                finished.push(index.clone());
            }
        }
    }
    texts
}

fn chunk(choices: &Value) -> String {
    let chunk = json!({"id": "c-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
        "model": "m", "obfuscation": "xyz", "choices": choices});
    format!("data: {chunk}\n\n")
}

fn delta(index: u64, delta: &Value) -> String {
    chunk(&json!([{"index": index, "delta": delta, "finish_reason": null,
        "logprobs": {"content": [{"token": "bob@example.com"}]}}]))
}

fn finish(index: u64) -> String {
    chunk(&json!([{"index": index, "delta": {}, "finish_reason": "stop"}]))
}

const OPENAI: Content = Content::Sse(Shape::OpenAi);
const ANTHROPIC: Content = Content::Sse(Shape::Anthropic);
const SAID: &str = "Hi \"Bob\"\n: bob@example.com, 4111 1111 1111 1111\u{1f600} or 415-555-2671";
const MASKED: &str = "Hi \"Bob\"\n: [EMAIL], [PAN]\u{1f600} or [PHONE]";

/// Cuts a text into parts of one to `most` characters.
fn tokens(random: &mut Random, text: &str, most: usize) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut rest = chars.as_slice();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, tail) = rest.split_at((1 + random.below(most)).min(rest.len()));
        parts.push(part.iter().collect());
        rest = tail;
    }
    parts
}

#[test]
fn openai_values_are_found_over_any_tokens() {
    let plan = plan(ALL, &[], "redact");
    let mut random = Random(77);
    for most in [1, 2, 3, 5, 9, 40, 400] {
        let mut stream = delta(0, &json!({"role": "assistant", "content": ""}));
        let parts = tokens(&mut random, SAID, most);
        let other = tokens(&mut random, SAID, most);
        for index in 0..parts.len().max(other.len()) {
            if let Some(part) = parts.get(index) {
                stream += &delta(0, &json!({"content": part}));
            }
            if let Some(part) = other.get(index) {
                stream += &delta(1, &json!({"reasoning_content": part}));
            }
        }
        stream += &finish(0);
        stream += &finish(1);
        stream += &chunk(&json!([]));
        stream += "data: [DONE]\n\n";
        let out = masked(&plan, OPENAI, &[stream.as_bytes()]).unwrap();
        let out = String::from_utf8(out).unwrap();
        let texts = openai_texts(&out);
        assert_eq!(texts["0 content"], MASKED);
        assert_eq!(texts["1 reasoning_content"], MASKED);
        assert!(!out.contains("bob@") && !out.contains("xyz"), "{out}");
        assert!(out.ends_with("data: [DONE]\n\n"));
        assert_eq!(out.matches("assistant").count(), 1);
    }
}

#[test]
fn an_openai_stream_is_the_same_however_its_bytes_are_cut() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let mut stream = String::new();
    for part in ["a bo", "b@exa", "mple.", "com"] {
        stream += &delta(0, &json!({"content": part}));
    }
    for part in ["{\"ss", "n\":\"1", "2\",\"m\":\"b@c", ".de\"}"] {
        stream +=
            &delta(0, &json!({"tool_calls": [{"index": 1, "function": {"arguments": part}}]}));
    }
    stream += &finish(0);
    let out = however_cut(&plan, OPENAI, stream.as_bytes());
    let texts = openai_texts(&out);
    assert_eq!(texts["0 content"], "a [EMAIL]");
    assert_eq!(texts["0 call 1"], "{\"ssn\":\"[REDACTED]\",\"m\":\"[EMAIL]\"}");
}

#[test]
fn tool_call_arguments_are_masked_as_json_in_fragments() {
    let plan = plan(ALL, &["$.to[*]", "$..ssn"], "redact");
    let said = json!({"to": ["x", "y"], "text": SAID, "n": 4_111_111_111_111_111_u64,
        "a": {"ssn": {"b": 1}}});
    let expected = json!({"to": ["[REDACTED]", "[REDACTED]"], "text": MASKED, "n": null,
        "a": {"ssn": null}});
    // Once with every character beyond ASCII escaped, as some models write it.
    let plain = said.to_string();
    let escaped = plain.replace('\u{1f600}', "\\ud83d\\ude00").replace('@', "\\u0040");
    let mut random = Random(5);
    for text in [plain, escaped] {
        for most in [1, 2, 5, 11, 500] {
            let mut stream = String::new();
            for part in tokens(&mut random, &text, most) {
                let call = json!({"index": 0, "id": "t", "function": {"arguments": part}});
                stream += &delta(0, &json!({"tool_calls": [call]}));
                stream += &delta(1, &json!({"function_call": {"arguments": part}}));
            }
            stream += &finish(0);
            let out = masked(&plan, OPENAI, &[stream.as_bytes()]).unwrap();
            let texts = openai_texts(&String::from_utf8(out).unwrap());
            for key in ["0 call 0", "1 function"] {
                assert_eq!(serde_json::from_str::<Value>(&texts[key]).unwrap(), expected);
            }
        }
    }
}

#[test]
fn a_custom_tools_input_and_a_transcript_are_texts_too() {
    let plan = plan(ALL, &[], "redact");
    let custom = |text: &str| {
        delta(
            0,
            &json!({"tool_calls": [{"index": 1, "type": "custom", "custom": {"input": text}}]}),
        )
    };
    let audio = |text: &str| delta(0, &json!({"audio": {"id": "a", "transcript": text}}));
    for (write, name) in [(&custom as &dyn Fn(&str) -> String, "0 custom 1"), (&audio, "0 audio")] {
        let mut stream = String::new();
        for part in ["mail an", "a@exam", "ple.com, not {\"", "and b@", "c.de"] {
            stream += &write(part);
        }
        stream += &finish(0);
        let out = however_cut(&plan, Content::Sse(Shape::OpenAi), stream.as_bytes());
        let texts = openai_texts(&out);
        assert_eq!(texts[name], "mail [EMAIL], not {\"and [EMAIL]", "{out}");
    }
}

#[test]
fn content_in_an_unknown_form_ends_the_stream_where_something_is_detected() {
    let parts = |text: &str| delta(0, &json!({"content": [{"type": "text", "text": text}]}));
    let stream = parts("mail ana@exam") + &parts("ple.com");
    let kind = Content::Sse(Shape::OpenAi);
    assert!(masked(&plan(ALL, &[], "redact"), kind, &[stream.as_bytes()]).is_err());
    let fields = plan(&[], &["$..ssn"], "redact");
    assert!(masked(&fields, kind, &[stream.as_bytes()]).is_ok());
    let twice = delta(0, &json!({"reasoning": "ana", "reasoning_details": [{"text": "ana"}]}));
    let out = however_cut(&plan(ALL, &[], "redact"), kind, twice.as_bytes());
    assert!(out.contains("\"reasoning_details\":null"), "{out}");
}

#[test]
fn a_tail_comes_before_what_ends_its_text() {
    let plan = plan(&["email"], &[], "redact");
    let start = delta(0, &json!({"content": "see bob"}));
    for end in [finish(0), "data: [DONE]\n\n".to_owned(), String::new()] {
        let out = masked(&plan, OPENAI, &[start.as_bytes(), end.as_bytes()]).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(openai_texts(&out)["0 content"], "see bob", "{out}");
        assert!(out.contains("\"created\":1700000000"), "the inserted chunk repeats the head");
        assert!(out.matches("\"model\":\"m\"").count() >= 2);
    }
    // A last part in the chunk that finishes needs no inserted chunk.
    let last =
        chunk(&json!([{"index": 0, "delta": {"content": "@c.de"}, "finish_reason": "stop"}]));
    let out = masked(&plan, OPENAI, &[start.as_bytes(), last.as_bytes()]).unwrap();
    let out = String::from_utf8(out).unwrap();
    assert_eq!(openai_texts(&out)["0 content"], "see [EMAIL]");
    assert_eq!(out.matches("data:").count(), 2);
}

#[test]
fn what_is_settled_follows_the_held_token_of_a_stream() {
    let plan = plan(&["email"], &[], "redact");
    let mut filter = Filter::new(&plan, OPENAI, &Limits::default()).unwrap();
    let mut pieces = Pieces::new();
    let mut starts = Vec::new();
    let mut fed = 0;
    for part in ["one ", "two", " three", " four", "@c"] {
        let event = delta(0, &json!({"content": part}));
        starts.push(fed);
        fed += event.len() as u64;
        let _cleared = filter.push(event.as_bytes(), false, &mut pieces).unwrap();
        let expected = match part {
            "one " => fed,
            "@c" => starts[3],
            _ => *starts.last().unwrap(),
        };
        assert_eq!(filter.cleared(), expected, "{part}");
    }
}

#[test]
fn field_rules_and_unknown_events_hold_in_openai_streams() {
    let content = plan(ALL, &["$..content"], "redact");
    let stream =
        [delta(0, &json!({"content": "secr"})), delta(0, &json!({"content": "et"}))].concat();
    let out = masked(&content, OPENAI, &[stream.as_bytes()]).unwrap();
    assert_eq!(openai_texts(&String::from_utf8(out).unwrap())["0 content"], "[REDACTED][REDACTED]");
    let plan = plan(ALL, &[], "redact");
    let other = "data: {\"error\":{\"message\":\"no bob@example.com\"}}\n\n";
    let out = however_cut(&plan, OPENAI, other.as_bytes());
    assert_eq!(out, "data: {\"error\":{\"message\":\"no [EMAIL]\"}}\n\n");
    for refused in [
        "data: {\"choices\":[\n\n",
        "data: x\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"delta\":\"bob@\"}\n\n",
    ] {
        assert!(masked(&plan, OPENAI, &[refused.as_bytes()]).is_err(), "{refused}");
    }
}

fn anthropic(value: &Value) -> String {
    format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap())
}

fn anthropic_texts(stream: &str) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    let mut open = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
        let index = data["index"].clone();
        match data["type"].as_str().unwrap() {
            "content_block_start" => open.push(index),
            "content_block_stop" => open.retain(|open| *open != index),
            "content_block_delta" => {
                assert!(open.contains(&index), "a delta outside its block: {stream}");
                for name in ["text", "partial_json", "thinking"] {
                    if let Some(text) = data["delta"][name].as_str() {
                        let kind = data["delta"]["type"].as_str().unwrap();
                        let key = format!("{index} {kind}");
                        texts.entry(key).or_insert_with(String::new).push_str(text);
                    }
                }
            }
            _ => {}
        }
    }
    texts
}

fn anthropic_stream(random: &mut Random, most: usize) -> String {
    let mut stream = anthropic(&json!({"type": "message_start", "message": {"id": "m",
        "role": "assistant", "content": [], "usage": {"input_tokens": 1}}}));
    let args = json!({"q": SAID, "ssn": "1"}).to_string();
    for (index, kind, member, text, block) in [
        (0, "thinking_delta", "thinking", SAID, json!({"type": "thinking", "thinking": ""})),
        (1, "text_delta", "text", SAID, json!({"type": "text", "text": ""})),
        (
            2,
            "input_json_delta",
            "partial_json",
            args.as_str(),
            json!({"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        ),
        (3, "text_delta", "text", "see bob", json!({"type": "text", "text": ""})),
    ] {
        stream += &anthropic(&json!({"type": "content_block_start", "index": index,
            "content_block": block}));
        stream += &anthropic(&json!({"type": "ping"}));
        for part in tokens(random, text, most) {
            let delta = json!({"type": kind, member: part});
            stream +=
                &anthropic(&json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        stream += &anthropic(&json!({"type": "content_block_stop", "index": index}));
    }
    stream += &anthropic(&json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}));
    stream + &anthropic(&json!({"type": "message_stop"}))
}

#[test]
fn anthropic_values_are_found_over_any_tokens() {
    let plan = plan(ALL, &["$..ssn"], "redact");
    let mut random = Random(9);
    for most in [1, 2, 3, 5, 9, 40, 400] {
        let stream = anthropic_stream(&mut random, most);
        let out = masked(&plan, ANTHROPIC, &[stream.as_bytes()]).unwrap();
        let texts = anthropic_texts(&String::from_utf8(out).unwrap());
        assert_eq!(texts["0 thinking_delta"], MASKED);
        assert_eq!(texts["1 text_delta"], MASKED);
        let args: Value = serde_json::from_str(&texts["2 input_json_delta"]).unwrap();
        assert_eq!(args, json!({"q": MASKED, "ssn": "[REDACTED]"}));
        assert_eq!(texts["3 text_delta"], "see bob");
    }
}

#[test]
fn an_anthropic_stream_is_the_same_however_its_bytes_are_cut() {
    let plan = plan(ALL, &["$..ssn"], "keep_last(4)");
    let stream = anthropic_stream(&mut Random(3), 60);
    assert!(!however_cut(&plan, ANTHROPIC, stream.as_bytes()).starts_with("error"));
}

#[test]
fn a_stream_that_is_cut_off_lets_nothing_go() {
    let plan = plan(&["email"], &[], "redact");
    let mut filter = Filter::new(&plan, OPENAI, &Limits::default()).unwrap();
    let mut pieces = Pieces::new();
    let event = delta(0, &json!({"content": "see bob@exam"}));
    let cleared = filter.push(event.as_bytes(), false, &mut pieces).unwrap();
    let out = String::from_utf8(cleared.pieces().to_vec(event.as_bytes())).unwrap();
    assert_eq!(openai_texts(&out)["0 content"], "see ");
    drop(filter);
}

#[test]
fn an_event_above_the_bound_ends_the_stream() {
    let plan = plan(&["email"], &[], "redact");
    let limits = Limits { event_max: 100, ..Limits::default() };
    let mut filter = Filter::new(&plan, OPENAI, &limits).unwrap();
    let body = format!("data: {}", "x".repeat(200));
    let out = filter.push(body.as_bytes(), false, &mut Pieces::new()).err();
    assert_eq!(out, Some(MaskError::EventTooLong));
}

#[test]
fn a_filter_that_is_used_again_has_the_bounds_of_its_new_body() {
    let plan = plan(&["email"], &[], "redact");
    let mut filter = Filter::new(&plan, OPENAI, &Limits::default()).unwrap();
    let body = format!("data: {}", "x".repeat(200));
    let _cleared = filter.push(body.as_bytes(), false, &mut Pieces::new()).unwrap();
    let limits = Limits { event_max: 100, ..Limits::default() };
    filter.reset(&plan, OPENAI, &limits).unwrap();
    let out = filter.push(body.as_bytes(), false, &mut Pieces::new()).err();
    assert_eq!(out, Some(MaskError::EventTooLong));
}
