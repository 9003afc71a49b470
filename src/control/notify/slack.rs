//! Notices as Slack's incoming webhooks take them, and what its buttons send.
//!
//! What callers wrote stands in `plain_text`, where nothing is markup, but for the summary, which is
//! a code block with `&`, `<` and `>` escaped: nobody mentions a channel or dresses a link up by what
//! it asks for. Characters that cannot be seen, or that turn the order of others around, are told by
//! their number.
//!
//! The buttons are links: a person of Slack is no person of the admin issuer. A button of another
//! message may carry `ID`, `ID:approve` or `ID:deny` as its value; whoever presses it is answered
//! with the link, which nobody else sees.

use super::message::{Links, head};
use crate::config::WebhookEvent;
use crate::policy::approval::{ApprovalId, Request};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};

/// The body of a notice.
pub(super) fn blocks(event: WebhookEvent, request: &Request, links: Option<&Links>) -> String {
    let ask = &request.ask;
    let title = title(event, request);
    let mut blocks = vec![json!({"type": "header", "text": plain(&title, HEADER_MAX)})];
    let mut fields = vec![
        field("Caller", &ask.who.sub),
        field("Resource", &ask.resource),
        field("Rule", &ask.rule),
        field("Scope", ask.terms.scope.label()),
    ];
    let more = [
        ("Node", ask.asserted.node.as_deref()),
        ("Run", ask.asserted.run.as_deref()),
        ("Reason", ask.reason.as_deref()),
        ("Credential", ask.credential.as_deref()),
    ];
    fields.extend(more.iter().filter_map(|(name, text)| Some(field(name, (*text)?))));
    fields.truncate(FIELDS_MAX);
    blocks.push(json!({"type": "section", "fields": fields}));
    blocks.push(json!({"type": "section",
        "text": {"type": "mrkdwn", "text": code(&ask.summary), "verbatim": true}}));
    let said = request.votes.iter().rev().take(VOTES_MAX).map(|vote| {
        let word = if vote.approve { "Approved" } else { "Denied" };
        let why = vote.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        plain(&format!("{word} by {}{why}", vote.sub), FIELD_MAX)
    });
    let mut context: Vec<Value> = said.collect();
    let until = crate::base::time_text(request.deadline_ns);
    context
        .push(plain(&format!("{} | {} | until {until}", request.id, request.state.label()), 300));
    blocks.push(json!({"type": "context", "elements": context}));
    if let Some(links) = links {
        blocks.push(json!({"type": "actions", "elements": buttons(links)}));
    }
    json!({
        "text": escaped(&title), "blocks": blocks, "unfurl_links": false, "unfurl_media": false,
    })
    .to_string()
}

fn title(event: WebhookEvent, request: &Request) -> String {
    let what = match event {
        WebhookEvent::Requested => "Approval requested",
        WebhookEvent::BreakGlass => "BREAK-GLASS: granted without approval",
        WebhookEvent::Voted => "One more approval",
        WebhookEvent::Approved => "Approved",
        WebhookEvent::Denied => "Denied",
        WebhookEvent::Expired => "Nobody decided in time",
        WebhookEvent::Cancelled => "Taken back",
        WebhookEvent::Revoked => "Grant revoked",
        WebhookEvent::Reviewed => "Break-glass reviewed",
    };
    format!("{what}: {}", request.ask.resource)
}

fn buttons(links: &Links) -> Vec<Value> {
    let button = |text: &str, url: &str, style: Option<&str>| {
        let id = text.to_ascii_lowercase();
        let mut made = json!({"type": "button", "action_id": format!("weirgate-link-{id}"),
            "text": plain(text, 75), "url": url});
        if let (Value::Object(members), Some(style)) = (&mut made, style) {
            members.insert("style".to_owned(), json!(style));
        }
        made
    };
    let mut buttons = Vec::new();
    if let Some(answers) = &links.answers {
        buttons.push(button("Approve", &answers.approve, Some("primary")));
        buttons.push(button("Deny", &answers.deny, Some("danger")));
    }
    buttons.push(button("Open", &links.open, None));
    buttons
}

fn field(name: &str, text: &str) -> Value {
    plain(&format!("{name}: {text}"), FIELD_MAX)
}

/// Text that is shown as it is; at most `max` characters.
fn plain(text: &str, max: usize) -> Value {
    json!({"type": "plain_text", "emoji": false, "text": cut(&seen(text), max)})
}

/// A code block of at most [`TEXT_MAX`] characters.
fn code(summary: &str) -> String {
    let (text, mut is_cut) = head(summary, TEXT_MAX);
    // A fence inside would end the block.
    let text = seen(text).replace("```", "'''");
    let room = TEXT_MAX - "```\n\n```\n_cut: open the request to see all of it_".len();
    let mut shown = String::new();
    for c in text.chars() {
        let mut bytes = [0; 4];
        let piece = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => c.encode_utf8(&mut bytes),
        };
        if shown.len() + piece.len() > room {
            is_cut = true;
            break;
        }
        shown += piece;
    }
    // Three fences must not come of a backtick at the end of the text.
    if shown.ends_with('`') {
        shown.push(' ');
    }
    let note = if is_cut { "\n_cut: open the request to see all of it_" } else { "" };
    format!("```\n{shown}\n```{note}")
}

fn escaped(text: &str) -> String {
    seen(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Nothing that steers, hides, or turns the order of what is read around.
fn seen(text: &str) -> String {
    let hides = |c: char| {
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}' | '\u{61c}' | '\u{ad}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n' && c != '\t') || hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(3)).chain("...".chars()).collect()
}

/// A body that is no form with one `payload` of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoPayload;

/// A button that somebody pressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Press {
    /// The request.
    pub id: ApprovalId,
    /// Where the answer goes, as Slack says.
    pub response_url: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    actions: Vec<Action>,
    response_url: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    value: Option<String>,
}

/// What a body of Slack's asks for: nothing where a button of ours was pressed, which is a link.
///
/// # Errors
/// [`NoPayload`]
pub fn press(body: &[u8]) -> Result<Option<Press>, NoPayload> {
    let text = core::str::from_utf8(body).map_err(|_| NoPayload)?;
    // A form is written as a query is.
    let mut form = Url::parse("http://localhost/").map_err(|_| NoPayload)?;
    form.set_query(Some(text));
    let mut payload = None;
    for (key, value) in form.query_pairs() {
        if key == "payload" && payload.replace(value).is_some() {
            return Err(NoPayload);
        }
    }
    let payload: Payload =
        serde_json::from_str(&payload.ok_or(NoPayload)?).map_err(|_| NoPayload)?;
    let Payload { actions, response_url } = payload;
    let id = actions.iter().find_map(|action| {
        let value = action.value.as_deref()?;
        let id = value.split_once(':').map_or(value, |(id, _)| id);
        ApprovalId::parse(id)
    });
    Ok(id.map(|id| Press { id, response_url }))
}

/// What whoever pressed a button is told, alone.
pub(in crate::control) fn only_to_you(text: &str, links: Option<&Links>) -> Value {
    let mut blocks = vec![json!({"type": "section", "text": plain(text, TEXT_MAX)})];
    if let Some(links) = links {
        blocks.push(json!({"type": "actions", "elements": buttons(links)}));
    }
    json!({"response_type": "ephemeral", "replace_original": false, "text": text, "blocks": blocks})
}

/// Slack's bounds: characters of a header, of a field, of a text; fields of a section.
const HEADER_MAX: usize = 150;
const FIELD_MAX: usize = 2_000;
const TEXT_MAX: usize = 3_000;
const FIELDS_MAX: usize = 10;
/// Elements of a context are 10 at most.
const VOTES_MAX: usize = 9;
