//! What the stand-in says: a fixed story with personal data, or an echo, cut into token deltas.

use serde_json::{Map, Value};

/// An e-mail address, at a domain that is reserved for examples.
pub const EMAIL: &str = "ana.berg@example.com";
/// A card number for tests: a real prefix and a right check digit, never issued.
pub const CARD: &str = "4111 1111 1111 1111";
/// A social security number of a possible form.
pub const SSN: &str = "536-90-4399";
/// The answer to a prompt that asks for no echo. It holds [`EMAIL`], [`CARD`] and [`SSN`].
pub const STORY: &str = "Sure. The ticket was opened by Ana Berg <ana.berg@example.com>. \
She paid with card 4111 1111 1111 1111, and her social security number is 536-90-4399. \
Shall I write an answer for her?";

/// The text that a request is answered with.
pub(super) fn answer_to(body: &Value) -> String {
    let last = body.get("messages").and_then(Value::as_array).and_then(|list| list.last());
    let Some(last) = last else { return STORY.to_owned() };
    if let Some(result) = tool_result(last) {
        return format!("The tool said: {result}");
    }
    let prompt = content_text(last.get("content").unwrap_or(&Value::Null));
    match prompt.trim_start().strip_prefix("echo:") {
        Some(echo) => echo.trim_start().to_owned(),
        None => STORY.to_owned(),
    }
}

/// Whether the last message brings the result of a tool, so that text is due and no further call.
pub(super) fn is_tool_result(body: &Value) -> bool {
    let last = body.get("messages").and_then(Value::as_array).and_then(|list| list.last());
    last.is_some_and(|last| tool_result(last).is_some())
}

fn tool_result(message: &Value) -> Option<String> {
    let content = message.get("content").unwrap_or(&Value::Null);
    if message.get("role").and_then(Value::as_str) == Some("tool") {
        return Some(content_text(content));
    }
    let block = content
        .as_array()?
        .iter()
        .find(|block| block.get("type").and_then(Value::as_str) == Some("tool_result"))?;
    Some(content_text(block.get("content").unwrap_or(&Value::Null)))
}

/// The text of a `content` member: a string, or blocks of which some are text.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks
            .iter()
            .filter_map(|block| block.get("text").and_then(Value::as_str))
            .collect::<Vec<_>>()
            .join(" "),
        _ => String::new(),
    }
}

/// Cuts `text` into deltas of one to five characters; with `count`, exactly so many, the text
/// being repeated or cut short for it.
pub(super) fn pieces(text: &str, count: Option<u32>) -> Vec<&str> {
    let mut list = Vec::new();
    let mut rest = text;
    let mut widths = [3usize, 4, 2, 5, 1, 4, 3].iter().cycle();
    while !rest.is_empty() {
        let width = widths.next().copied().unwrap_or(1);
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(place, _)| place);
        let (piece, tail) = rest.split_at(end);
        list.push(piece);
        rest = tail;
    }
    match count {
        Some(_) if list.is_empty() => list,
        Some(count) => list.iter().copied().cycle().take(count as usize).collect(),
        None => list,
    }
}

/// Arguments that fit a tool's JSON schema: personal data where the name asks for it, else `seed`.
pub(super) fn arguments(schema: &Value, seed: &str) -> Value {
    let mut made = Map::new();
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, property) in properties {
            made.insert(name.clone(), argument(name, property, seed));
        }
    }
    Value::Object(made)
}

fn argument(name: &str, property: &Value, seed: &str) -> Value {
    if let Some(first) = property.get("enum").and_then(Value::as_array).and_then(|e| e.first()) {
        return first.clone();
    }
    match property.get("type").and_then(Value::as_str) {
        Some("integer") => Value::from(3),
        Some("number") => Value::from(1.5),
        Some("boolean") => Value::from(true),
        Some("array") => Value::Array(Vec::new()),
        Some("object") => arguments(property, seed),
        _ if name.contains("mail") => Value::from(EMAIL),
        _ if name.contains("card") => Value::from(CARD),
        _ if name.contains("ssn") => Value::from(SSN),
        _ => Value::from(seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_prompt_decides_the_answer() {
        let ask = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        assert_eq!(answer_to(&ask(json!("echo: hi"))), "hi");
        assert_eq!(answer_to(&ask(json!([{"type": "text", "text": "echo:hi"}]))), "hi");
        assert_eq!(answer_to(&ask(json!("tell me"))), STORY);
        assert_eq!(answer_to(&json!({})), STORY);
        let tool = json!({"messages": [{"role": "tool", "content": "rain"}]});
        assert_eq!(answer_to(&tool), "The tool said: rain");
        let block = ask(json!([{"type": "tool_result", "content": "rain"}]));
        assert!(is_tool_result(&block) && answer_to(&block).ends_with("rain"));
    }

    #[test]
    fn pieces_join_to_the_text_and_cut_no_character() {
        let text = "x\u{e9}\u{1f600}".repeat(9);
        assert_eq!(pieces(&text, None).concat(), text);
        assert_eq!(pieces(&text, Some(100)).len(), 100);
        assert_eq!(pieces(&text, Some(2)).len(), 2);
        assert!(pieces("", Some(5)).is_empty());
        assert!(pieces(STORY, None).iter().all(|piece| piece.len() <= 5));
    }
}
