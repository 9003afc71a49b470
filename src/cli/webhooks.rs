//! `weirgate webhooks`: how notices get on, what could not be delivered, and sending it again.

use super::approvals::{Failed, Gateway, Reach, clean, member, told, unwritten};
use crate::config::Source;
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write;

/// What is asked.
#[derive(Clone, Debug)]
pub enum Act {
    /// One line for each webhook.
    List,
    /// One line for each dead letter.
    Dead,
    /// Sends a dead letter again.
    Retry {
        /// Which.
        id: String,
    },
}

/// Asks the gateway. Returns 0; 1 where the answer is no; 2 where it could not be asked.
pub fn run(
    reach: &Reach,
    act: &Act,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    told(Gateway::reach(reach, source).and_then(|gateway| asked(&gateway, act, out)), errors)
}

fn asked(gateway: &Gateway, act: &Act, out: &mut dyn Write) -> Result<(), Failed> {
    let text = match act {
        Act::List => rows(gateway, &gateway.call(Method::GET, "webhooks", &[], None)?, hook),
        Act::Dead => rows(gateway, &gateway.call(Method::GET, "webhooks/dead", &[], None)?, letter),
        Act::Retry { id } => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if id.is_empty() || !id.bytes().all(plain) {
                return Err(Failed::Could("an id is as `webhooks dead` tells it".to_owned()));
            }
            let path = format!("webhooks/dead/{id}/retry");
            let answer = gateway.call(Method::POST, &path, &[], Some(&json!({})))?;
            if gateway.is_json() { format!("{answer}\n") } else { format!("{id} is sent again\n") }
        }
    };
    Ok(out.write_all(text.as_bytes()).map_err(unwritten)?)
}

/// A heading and a line for each; with `--json` the objects alone.
fn rows(gateway: &Gateway, list: &Value, line: fn(Option<&Value>) -> String) -> String {
    let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
    if gateway.is_json() {
        return rows.iter().map(|row| format!("{row}\n")).collect();
    }
    std::iter::once(None).chain(rows.iter().map(Some)).map(line).collect()
}

fn hook(row: Option<&Value>) -> String {
    let Some(row) = row else {
        return format!(
            "{:<20} {:<8} {:>9} {:>7} {:>7} {:>5} LAST ERROR\n",
            "NAME", "STATE", "DELIVERED", "FAILED", "QUEUED", "DEAD"
        );
    };
    let number = |key| member(row, key).as_u64().unwrap_or(0);
    let state = if member(row, "failing") == true { "failing" } else { "ok" };
    let error = member(row, "last_error");
    let error = match (member(error, "at").as_str(), member(error, "text").as_str()) {
        (Some(at), Some(text)) => clean(&format!("{at} {text}")),
        _ => "-".to_owned(),
    };
    format!(
        "{:<20} {state:<8} {:>9} {:>7} {:>7} {:>5} {error}\n",
        clean(member(row, "name").as_str().unwrap_or_default()),
        number("delivered"),
        number("failed"),
        number("queued"),
        number("dead"),
    )
}

fn letter(row: Option<&Value>) -> String {
    let Some(row) = row else {
        return format!(
            "{:<36} {:<20} {:<12} {:<32} {:>5} {:<24} WHY\n",
            "ID", "WEBHOOK", "EVENT", "APPROVAL", "TRIES", "DIED"
        );
    };
    let of = |key| clean(member(row, key).as_str().unwrap_or_default()).replace('\n', " ");
    format!(
        "{:<36} {:<20} {:<12} {:<32} {:>5} {:<24} {}\n",
        of("id"),
        of("webhook"),
        of("event"),
        of("approval"),
        member(row, "tries").as_u64().unwrap_or(0),
        of("dead_at"),
        of("error"),
    )
}
