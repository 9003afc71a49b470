//! Anthropic's messages and model list.

use super::{Pace, Reply, quoted, text};
use serde_json::Value;

/// One content block of an answer.
enum Block {
    Text(String),
    ToolUse { id: String, name: String, input: String },
}

pub(super) fn answer(body: &Value, pace: Pace, id: &str) -> Reply {
    let model = quoted(body.get("model").and_then(Value::as_str).unwrap_or_default());
    let said = text::answer_to(body);
    let mut blocks = Vec::new();
    match tool_use(body, &said, id) {
        Some(call) => {
            blocks.push(Block::Text(format!("I will look that up for {}.", text::EMAIL)));
            blocks.push(call);
        }
        None => blocks.push(Block::Text(said)),
    }
    let input_tokens = body.to_string().len() / 4;
    let calls = blocks.len() > 1;
    let stop = if calls { "tool_use" } else { "end_turn" };
    if body.get("stream").and_then(Value::as_bool) == Some(true) {
        let pace_events = pace.events.filter(|_| !calls);
        let events = events(&blocks, pace_events, &model, id, stop, input_tokens);
        return Reply::Events {
            fields: fields("text/event-stream", id),
            events,
            delay: pace.delay,
        };
    }
    let mut output_tokens = 0;
    let list: Vec<String> = blocks
        .iter()
        .map(|block| match block {
            Block::Text(said) => {
                let pieces = text::pieces(said, pace.events.filter(|_| !calls));
                output_tokens += pieces.len();
                format!(r#"{{"type":"text","text":{}}}"#, quoted(&pieces.concat()))
            }
            Block::ToolUse { id, name, input } => {
                output_tokens += text::pieces(input, None).len();
                format!(
                    r#"{{"type":"tool_use","id":"{id}","name":{},"input":{input}}}"#,
                    quoted(name)
                )
            }
        })
        .collect();
    let whole = format!(
        r#"{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[{}],"stop_reason":"{stop}","stop_sequence":null,"usage":{{"input_tokens":{input_tokens},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output_tokens},"service_tier":"standard"}}}}"#,
        list.join(",")
    );
    Reply::Whole { status: 200, fields: fields("application/json", id), body: whole }
}

fn tool_use(body: &Value, said: &str, id: &str) -> Option<Block> {
    let tools = body.get("tools")?.as_array()?;
    let choice = body.get("tool_choice");
    let kind = choice.and_then(|choice| choice.get("type")).and_then(Value::as_str);
    if kind == Some("none") || text::is_tool_result(body) {
        return None;
    }
    let wanted = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
    let tool = tools.iter().find(|tool| {
        wanted.is_none_or(|name| tool.get("name").and_then(Value::as_str) == Some(name))
    })?;
    let schema = tool.get("input_schema").unwrap_or(&Value::Null);
    Some(Block::ToolUse {
        id: format!("toolu_{id}"),
        name: tool.get("name")?.as_str()?.to_owned(),
        input: text::arguments(schema, said).to_string(),
    })
}

fn events(
    blocks: &[Block],
    count: Option<u32>,
    model: &str,
    id: &str,
    stop: &str,
    input_tokens: usize,
) -> Vec<String> {
    let mut events = vec![event(
        "message_start",
        &format!(
            r#""message":{{"id":"msg_{id}","type":"message","role":"assistant","model":{model},"content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{input_tokens},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":1,"service_tier":"standard"}}}}"#
        ),
    )];
    let mut output_tokens = 0;
    for (index, block) in blocks.iter().enumerate() {
        let (start, pieces) = match block {
            Block::Text(said) => {
                (r#"{"type":"text","text":""}"#.to_owned(), text::pieces(said, count))
            }
            Block::ToolUse { id, name, input } => {
                let name = quoted(name);
                let start =
                    format!(r#"{{"type":"tool_use","id":"{id}","name":{name},"input":{{}}}}"#);
                // The real service begins with an empty piece.
                (start, std::iter::once("").chain(text::pieces(input, None)).collect())
            }
        };
        events.push(event(
            "content_block_start",
            &format!(r#""index":{index},"content_block":{start}"#),
        ));
        if index == 0 {
            events.push("event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned());
        }
        output_tokens += pieces.len();
        for piece in pieces {
            let piece = quoted(piece);
            let delta = match block {
                Block::Text(_) => format!(r#"{{"type":"text_delta","text":{piece}}}"#),
                Block::ToolUse { .. } => {
                    format!(r#"{{"type":"input_json_delta","partial_json":{piece}}}"#)
                }
            };
            events
                .push(event("content_block_delta", &format!(r#""index":{index},"delta":{delta}"#)));
        }
        events.push(event("content_block_stop", &format!(r#""index":{index}"#)));
    }
    events.push(event(
        "message_delta",
        &format!(
            r#""delta":{{"stop_reason":"{stop}","stop_sequence":null}},"usage":{{"output_tokens":{output_tokens}}}"#
        ),
    ));
    events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned());
    events
}

fn event(kind: &str, members: &str) -> String {
    format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{members}}}\n\n")
}

fn fields(content_type: &str, id: &str) -> Vec<(&'static str, String)> {
    vec![("content-type", content_type.to_owned()), ("request-id", format!("req_{id}"))]
}

pub(super) fn models(id: &str) -> Reply {
    let body = r#"{"data":[{"type":"model","id":"claude-stand-in","display_name":"Stand-in","created_at":"2026-01-01T00:00:00Z"}],"has_more":false,"first_id":"claude-stand-in","last_id":"claude-stand-in"}"#;
    Reply::Whole { status: 200, fields: fields("application/json", id), body: body.to_owned() }
}

pub(super) fn error(status: u16, kind: &str, message: &str, id: &str) -> Reply {
    let body = format!(
        r#"{{"type":"error","error":{{"type":"{kind}","message":{}}},"request_id":"req_{id}"}}"#,
        quoted(message)
    );
    Reply::Whole { status, fields: fields("application/json", id), body }
}
