//! The part of the tour where a person is asked.

use super::{content, request_id, text, title};
use crate::cli::demo::setup::{ASKED_MODEL, Setup};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Runs it, its titles beginning at `number`.
pub(super) async fn run(setup: &Setup, client: &Client, number: u32) -> Result<bool, String> {
    let admin = setup.admin.ok_or("the demo has no admin address")?;
    title(number, "ana asks for a model that needs a person; the call waits on the wire");
    let url = format!("http://{}/openai/v1/chat/completions", setup.plain);
    let body = json!({
        "model": ASKED_MODEL,
        "messages": [{ "role": "user", "content": "Close the ticket of bob@example.com." }],
    });
    let call = client.post(url).bearer_auth(&setup.ana).header("content-type", "application/json");
    let started = Instant::now();
    let held = tokio::spawn(call.body(body.to_string()).send());
    let desk = Desk { client, admin, token: &setup.lea };
    let one = desk.waiting().await?;
    let said = |key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    println!("   request {} by {}, rule {}", said("id"), said("sub"), said("rule"));
    let summary = said("summary");
    for line in summary.lines().filter(|line| !line.is_empty()) {
        println!("   | {}", line.chars().take(110).collect::<String>());
    }
    let mut fine = summary.contains("[EMAIL]") && !held.is_finished();

    title(number + 1, "lea approves exactly that; the same bytes go, and ana's call returns");
    let path = format!("approvals/{}/approve", said("id"));
    let vote = json!({ "digest": said("digest"), "reason": "the ticket is done" });
    let voted = desk.call(Method::POST, &path, Some(&vote)).await?;
    let state = voted.get("state").and_then(Value::as_str).unwrap_or("?").to_owned();
    let answer = held.await.map_err(|error| error.to_string())?.map_err(text)?;
    let (status, id) = (answer.status(), request_id(&answer));
    let body: Value = serde_json::from_slice(&answer.bytes().await.map_err(text)?)
        .map_err(|error| error.to_string())?;
    println!("   {state}; {status} after {} ms, request {id}", started.elapsed().as_millis());
    println!("   {}", content(&body, "message"));
    fine &= status.is_success() && state == "approved";
    Ok(fine)
}

/// The admin API, as lea.
struct Desk<'d> {
    client: &'d Client,
    admin: SocketAddr,
    token: &'d str,
}

impl Desk<'_> {
    /// The request that waits, as a person is shown it.
    async fn waiting(&self) -> Result<Value, String> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let list = self.call(Method::GET, "approvals?state=pending", None).await?;
            let id = list.get(0).and_then(|one| one.get("id")).and_then(Value::as_str);
            if let Some(id) = id {
                return self.call(Method::GET, &format!("approvals/{id}"), None).await;
            }
            tokio::time::sleep(LOOK).await;
        }
        Err("the call does not wait for anybody".to_owned())
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let url = format!("http://{}/api/v1/{path}", self.admin);
        let mut asked = self.client.request(method, url).bearer_auth(self.token);
        if let Some(body) = body {
            asked = asked.header("content-type", "application/json").body(body.to_string());
        }
        let answer = asked.send().await.map_err(text)?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(text)?;
        if !status.is_success() {
            let said = String::from_utf8_lossy(&bytes).into_owned();
            return Err(format!("the admin API says {status}: {said}"));
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);
