//! OpenAI's chat completions and model list.

use super::{Pace, Reply, json_reply, quoted, text};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// What all parts of one answer repeat.
struct Answer<'a> {
    id: &'a str,
    model: String,
    created: u64,
    with_usage: bool,
}

pub(super) fn answer(body: &Value, pace: Pace, id: &str) -> Reply {
    let flag = |pointer: &str| body.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let answer = Answer {
        id,
        model: quoted(body.get("model").and_then(Value::as_str).unwrap_or_default()),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        with_usage: flag("/stream_options/include_usage"),
    };
    let said = text::answer_to(body);
    let call = tool_call(body, &said);
    let told = call.as_ref().map_or(said.as_str(), |(_, arguments)| arguments.as_str());
    let pieces = text::pieces(told, pace.events.filter(|_| call.is_none()));
    let choices = body.get("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, 8);
    let tokens = (body.to_string().len() / 4, pieces.len() * usize::try_from(choices).unwrap_or(1));
    let name = call.as_ref().map(|(name, _)| name.as_str());
    if flag("/stream") {
        let events = answer.events(name, &pieces, choices, flag("/logprobs"), tokens);
        return Reply::Events {
            fields: fields("text/event-stream", id),
            events,
            delay: pace.delay,
        };
    }
    let whole = answer.whole(name, &pieces, choices, flag("/logprobs"), tokens);
    Reply::Whole { status: 200, fields: fields("application/json", id), body: whole }
}

/// The name and the arguments of the call that is due, if one is.
fn tool_call(body: &Value, said: &str) -> Option<(String, String)> {
    let tools = body.get("tools")?.as_array()?;
    let choice = body.get("tool_choice");
    if choice.and_then(Value::as_str) == Some("none") || text::is_tool_result(body) {
        return None;
    }
    let wanted = choice.and_then(|c| c.pointer("/function/name")).and_then(Value::as_str);
    let tool = tools.iter().filter_map(|tool| tool.get("function")).find(|function| {
        wanted.is_none_or(|name| function.get("name").and_then(Value::as_str) == Some(name))
    })?;
    let name = tool.get("name")?.as_str()?.to_owned();
    let schema = tool.get("parameters").unwrap_or(&Value::Null);
    Some((name, text::arguments(schema, said).to_string()))
}

impl Answer<'_> {
    fn chunk(&self, choices: &str, usage: &str, padding: usize) -> String {
        let usage = if self.with_usage { format!(r#","usage":{usage}"#) } else { String::new() };
        // The real service pads events so that their length does not tell the token.
        let padding = "Xb4tq0aLz9".get(..padding % 10).unwrap_or_default();
        format!(
            "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":{},\
             \"model\":{},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_stand_in\",\
             \"choices\":[{choices}]{usage},\"obfuscation\":\"{padding}\"}}\n\n",
            self.id, self.created, self.model
        )
    }

    fn delta(&self, index: u64, delta: &str, logprobs: &str, finish: &str, pad: usize) -> String {
        let choice = format!(
            r#"{{"index":{index},"delta":{delta},"logprobs":{logprobs},"finish_reason":{finish}}}"#
        );
        self.chunk(&choice, "null", pad)
    }

    fn events(
        &self,
        tool: Option<&str>,
        pieces: &[&str],
        choices: u64,
        logprobs: bool,
        tokens: (usize, usize),
    ) -> Vec<String> {
        let mut events = Vec::with_capacity(pieces.len() + 4);
        for index in 0..choices {
            let first = match tool {
                None => r#"{"role":"assistant","content":"","refusal":null}"#.to_owned(),
                Some(name) => format!(
                    r#"{{"role":"assistant","content":null,"tool_calls":[{{"index":0,"id":"call_{}_{index}","type":"function","function":{{"name":{},"arguments":""}}}}],"refusal":null}}"#,
                    self.id,
                    quoted(name)
                ),
            };
            events.push(self.delta(index, &first, "null", "null", 3));
        }
        for (place, piece) in pieces.iter().enumerate() {
            for index in 0..choices {
                let quoted = quoted(piece);
                let delta = match tool {
                    None => format!(r#"{{"content":{quoted}}}"#),
                    Some(_) => format!(
                        r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{quoted}}}}}]}}"#
                    ),
                };
                let logprobs = if logprobs && tool.is_none() {
                    format!(r#"{{"content":[{}],"refusal":null}}"#, logprob(piece))
                } else {
                    "null".to_owned()
                };
                events.push(self.delta(index, &delta, &logprobs, "null", place));
            }
        }
        let finish = if tool.is_some() { r#""tool_calls""# } else { r#""stop""# };
        for index in 0..choices {
            events.push(self.delta(index, "{}", "null", finish, 5));
        }
        if self.with_usage {
            events.push(self.chunk("", &usage(tokens), 1));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    fn whole(
        &self,
        tool: Option<&str>,
        pieces: &[&str],
        choices: u64,
        logprobs: bool,
        tokens: (usize, usize),
    ) -> String {
        let told = quoted(&pieces.concat());
        let list: Vec<String> = (0..choices)
            .map(|index| {
                let (content, calls, finish) = match tool {
                    None => (told.as_str(), String::new(), "stop"),
                    Some(name) => (
                        "null",
                        format!(
                            r#","tool_calls":[{{"id":"call_{}_{index}","type":"function","function":{{"name":{},"arguments":{told}}}}}]"#,
                            self.id,
                            quoted(name)
                        ),
                        "tool_calls",
                    ),
                };
                let logprobs = if logprobs && tool.is_none() {
                    let all: Vec<String> = pieces.iter().map(|piece| logprob(piece)).collect();
                    format!(r#"{{"content":[{}],"refusal":null}}"#, all.join(","))
                } else {
                    "null".to_owned()
                };
                format!(
                    r#"{{"index":{index},"message":{{"role":"assistant","content":{content}{calls},"refusal":null,"annotations":[]}},"logprobs":{logprobs},"finish_reason":"{finish}"}}"#
                )
            })
            .collect();
        format!(
            r#"{{"id":"chatcmpl-{}","object":"chat.completion","created":{},"model":{},"choices":[{}],"usage":{},"service_tier":"default","system_fingerprint":"fp_stand_in"}}"#,
            self.id,
            self.created,
            self.model,
            list.join(","),
            usage(tokens)
        )
    }
}

fn logprob(piece: &str) -> String {
    let token = quoted(piece);
    let bytes: Vec<String> = piece.bytes().map(|byte| byte.to_string()).collect();
    format!(
        r#"{{"token":{token},"logprob":-0.25,"bytes":[{}],"top_logprobs":[]}}"#,
        bytes.join(",")
    )
}

fn usage((prompt, completion): (usize, usize)) -> String {
    format!(
        r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        prompt + completion
    )
}

fn fields(content_type: &str, id: &str) -> Vec<(&'static str, String)> {
    vec![
        ("content-type", content_type.to_owned()),
        ("x-request-id", format!("req_{id}")),
        ("openai-processing-ms", "7".to_owned()),
    ]
}

pub(super) fn models(id: &str) -> Reply {
    let body = r#"{"object":"list","data":[{"id":"gpt-stand-in","object":"model","created":1700000000,"owned_by":"stand-in"}]}"#;
    Reply::Whole { status: 200, fields: fields("application/json", id), body: body.to_owned() }
}

pub(super) fn error(status: u16, kind: &str, code: &str, message: &str, id: &str) -> Reply {
    let body = format!(
        r#"{{"error":{{"message":{},"type":"{kind}","param":null,"code":"{code}"}}}}"#,
        quoted(message)
    );
    match json_reply(status, body) {
        Reply::Whole { status, mut fields, body } => {
            fields.push(("x-request-id", format!("req_{id}")));
            Reply::Whole { status, fields, body }
        }
        events => events,
    }
}
