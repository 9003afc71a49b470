//! The guided tour: real calls through the gateway that just started, and what came of them.

mod approval;
mod database;

use super::Options;
use super::setup::Setup;
use crate::cli::{sessions, verify};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Runs it. `Ok(false)` when something did not come out as it should.
pub(super) async fn run(setup: &Setup, options: &Options) -> Result<bool, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(60))
        .tls_backend_preconfigured(crate::control::tls::client_config(&[])?)
        .build()
        .map_err(|error| error.to_string())?;
    let url = format!("http://{}/openai/v1/chat/completions", setup.plain);
    let ask = |token: &str, stream: bool| {
        client.post(&url).bearer_auth(token).header("content-type", "application/json").body(
            json!({
                "model": options.model,
                "stream": stream,
                "messages": [{ "role": "user", "content": "Tell me about the ticket." }],
            })
            .to_string(),
        )
    };
    let mut fine = true;

    title(1, "ana calls the model with her own token; the gateway puts the provider's key in");
    let answer = ask(&setup.ana, false).send().await.map_err(text)?;
    let (status, id) = (answer.status(), request_id(&answer));
    let body = answer.bytes().await.map_err(text)?;
    let body: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    println!("   {status}, request {id}");
    println!("   {}", content(&body, "message"));
    fine &= status.is_success();

    title(2, "the same as a stream: values that are split over many tokens are masked too");
    let mut answer = ask(&setup.ana, true).send().await.map_err(text)?;
    let streamed = request_id(&answer);
    let started = Instant::now();
    let (mut events, mut pending) = (0u32, Vec::new());
    let mut said = String::new();
    while let Some(chunk) = answer.chunk().await.map_err(text)? {
        pending.extend_from_slice(chunk.as_ref());
        while let Some(end) = memchr::memmem::find(&pending, b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            events += 1;
            if let Some(data) = event.strip_prefix(b"data: ")
                && let Ok(value) = serde_json::from_slice::<Value>(data)
            {
                said.push_str(&content(&value, "delta"));
            }
        }
    }
    println!("   {events} events in {} ms: {said}", started.elapsed().as_millis());
    fine &= events > 1;
    if setup.stand_in.is_some() {
        let leaked = [crate::control::stand_in::text::EMAIL, crate::control::stand_in::text::CARD]
            .iter()
            .any(|value| said.contains(value));
        fine &= !leaked && said.contains("[EMAIL]");
    }

    title(3, "bob has a valid token, but no rule for him: refused, with a reason and an id");
    let answer = ask(&setup.bob, false).send().await.map_err(text)?;
    let (status, refused) = (answer.status(), request_id(&answer));
    println!("   {status} {}", answer.text().await.map_err(text)?);
    fine &= status.as_u16() == 403;

    fine &= approval::run(setup, &client, 4).await?;

    let next = match database::run(setup, 6).await? {
        Some(well) => {
            fine &= well;
            9
        }
        None => {
            println!("\n   {}", setup.no_database);
            6
        }
    };

    title(next, "what the record holds");
    let data = setup.data();
    // The drain moves entries to disk every few milliseconds.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (mut out, mut errors) = (std::io::stdout(), std::io::stderr());
    let everything = sessions::Filter::default();
    fine &= sessions::list(&data, &everything, false, &mut out, &mut errors) == 0;

    title(next + 1, "the streamed session, replayed from the record as the caller got it");
    let mut replayed = Vec::new();
    let how = sessions::Replay::default();
    fine &= sessions::replay(&data, &streamed, how, &mut replayed, &mut errors) == 0;
    let replayed = String::from_utf8_lossy(&replayed);
    for line in replayed.lines().filter(|line| !line.trim().is_empty()).take(LINES) {
        println!("   {}", line.chars().take(150).collect::<String>());
    }
    println!("   ... ({} bytes)", replayed.len());

    title(next + 2, "the proof: every block hashed, every checkpoint signed");
    let ask = verify::Options { data, ..verify::Options::default() };
    fine &= verify::run(&ask, &mut out, &mut errors) == 0;

    println!(
        "\n   why was bob refused?  weirgate policy explain -c {}/gateway.toml --request {refused}",
        setup.dir.display()
    );
    if !fine {
        eprintln!("weirgate demo: the tour did not come out as it should");
    }
    Ok(fine)
}

/// Lines of a session that are shown.
const LINES: usize = 12;

fn title(number: u32, what: &str) {
    println!("\n{number}. {what}");
}

fn request_id(answer: &reqwest::Response) -> String {
    let id = answer.headers().get("x-request-id").and_then(|value| value.to_str().ok());
    id.unwrap_or("-").to_owned()
}

fn content(value: &Value, of: &str) -> String {
    let text = value.pointer(&format!("/choices/0/{of}/content")).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

#[expect(clippy::needless_pass_by_value, reason = "an adapter for map_err")]
fn text(error: reqwest::Error) -> String {
    error.to_string()
}
