//! A stand-in LLM provider: real OpenAI and Anthropic shapes, no model.
//!
//! The demo and the tests of real clients talk to it through the gateway. It demands its own API
//! key, so that an answer proves that the gateway put the key in, and its answers hold personal
//! data that is split over token deltas, so that a masked stream proves that the masker joined it.
//! It speaks plain HTTP/1.1 on a loopback address only.
//!
//! | route | answer |
//! |---|---|
//! | `POST /v1/chat/completions` | OpenAI chat: whole, or `stream`; tool calls when `tools` is given |
//! | `POST /v1/messages` | Anthropic messages: the same |
//! | `GET /v1/models` | the list, in the shape of the SDK that asks |
//! | `GET /__last`, `GET /__all` | heads and bodies that came, and how many answers were cut by their reader; for tests, no key needed |
//!
//! The answer is what follows `echo:` in the last prompt, else [`text::STORY`]. A request may set
//! its own pace with `x-stand-in-delay-ms` and `x-stand-in-events`.

mod anthropic;
mod http;
mod openai;
mod seen;
pub mod text;

use crate::base::Secret;
use seen::Seen;
use serde_json::Value;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// How a stand-in runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; loopback only. Port 0 takes a free one.
    pub address: SocketAddr,
    /// The key that it demands: as a bearer token, on Anthropic's routes also as `x-api-key`.
    pub api_key: Secret,
    /// Pause before each event of a stream.
    pub delay: Duration,
    /// Text deltas of each answer; unset: as many as the text needs.
    pub events: Option<u32>,
}

impl Options {
    /// A free port, no delay, events as the text needs.
    #[must_use]
    pub fn new(api_key: Secret) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            api_key,
            delay: Duration::ZERO,
            events: None,
        }
    }
}

/// A running stand-in; it ends with [`StandIn::stop`] or when it is dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl StandIn {
    /// Binds and serves on the tokio runtime of the caller.
    ///
    /// # Errors
    /// An address that is not loopback (`InvalidInput`), or one that cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        if !options.address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the stand-in provider listens on loopback addresses only",
            ));
        }
        let listener = TcpListener::bind(options.address).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let server = Arc::new(Server { options, seen: Arc::clone(&seen) });
        let task = tokio::spawn(accept(listener, server));
        Ok(Self { address, seen, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests so far, refused ones included, without those for `/__last` and `/__all`.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.seen.count()
    }

    /// The head of the last request, byte for byte.
    #[must_use]
    pub fn last_head(&self) -> Option<Vec<u8>> {
        self.seen.last_head()
    }

    /// Closes the listener and every connection.
    pub async fn stop(mut self) {
        self.task.abort();
        // The task ends by the abort; its result says only that.
        let _ = (&mut self.task).await;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the connections share.
struct Server {
    options: Options,
    seen: Arc<Seen>,
}

/// Dropping the set at the end of this task ends every connection.
async fn accept(listener: TcpListener, server: Arc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let server = Arc::clone(&server);
                    connections.spawn(http::serve(stream, server));
                }
                // Out of descriptors: those in use come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// What is sent back.
enum Reply {
    Whole { status: u16, fields: Vec<(&'static str, String)>, body: String },
    Events { fields: Vec<(&'static str, String)>, events: Vec<String>, delay: Duration },
}

/// How an answer is paced: the options, or what the request asks instead.
#[derive(Clone, Copy)]
struct Pace {
    delay: Duration,
    events: Option<u32>,
}

impl Server {
    fn answer(&self, request: &http::Request) -> Reply {
        let path = request.path.split('?').next().unwrap_or_default();
        if request.method == "GET" && path == "/__last" {
            return json_reply(200, self.seen.last());
        }
        if request.method == "GET" && path == "/__all" {
            return json_reply(200, self.seen.all());
        }
        let number = self.seen.add(request);
        let id = format!("{number:012x}");
        let anthropic = path == "/v1/messages" || request.field("anthropic-version").is_some();
        if !self.admits(request, anthropic) {
            return if anthropic {
                anthropic::error(401, "authentication_error", "invalid x-api-key", &id)
            } else {
                openai::error(
                    401,
                    "invalid_request_error",
                    "invalid_api_key",
                    "Incorrect API key provided.",
                    &id,
                )
            };
        }
        let pace = self.pace(request);
        match (request.method.as_str(), path) {
            ("GET", "/v1/models") if anthropic => anthropic::models(&id),
            ("GET", "/v1/models") => openai::models(&id),
            ("POST", "/v1/messages") => match parse(request) {
                Ok(body) => anthropic::answer(&body, pace, &id),
                Err(why) => anthropic::error(400, "invalid_request_error", why, &id),
            },
            ("POST", "/v1/chat/completions") => match parse(request) {
                Ok(body) => openai::answer(&body, pace, &id),
                Err(why) => {
                    openai::error(400, "invalid_request_error", "invalid_request", why, &id)
                }
            },
            _ if anthropic => anthropic::error(404, "not_found_error", "Not found", &id),
            _ => openai::error(404, "invalid_request_error", "unknown_url", "Unknown URL", &id),
        }
    }

    fn admits(&self, request: &http::Request, anthropic: bool) -> bool {
        let bearer = request.field("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let sent = match (request.field("x-api-key"), bearer) {
            // SDKs up to 1.x fill the first slot, from 2.x the second; both at once are a fault.
            (Some(key), None) if anthropic => Some(key),
            (None, Some(key)) => Some(key),
            _ => None,
        };
        sent.is_some_and(|sent| {
            crate::control::same_bytes(sent.as_bytes(), self.options.api_key.expose())
        })
    }

    fn pace(&self, request: &http::Request) -> Pace {
        let delay = request.field("x-stand-in-delay-ms").and_then(|text| text.parse().ok());
        let events = request.field("x-stand-in-events").and_then(|text| text.parse().ok());
        Pace {
            delay: delay.map_or(self.options.delay, |ms: u16| Duration::from_millis(ms.into())),
            events: events.or(self.options.events).map(|count| count.min(EVENTS_MAX)),
        }
    }
}

fn parse(request: &http::Request) -> Result<Value, &'static str> {
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|_| "We could not parse the JSON body of your request.")?;
    if !body.get("model").is_some_and(Value::is_string) {
        return Err("model: Field required");
    }
    if body.get("messages").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err("messages: Field required");
    }
    Ok(body)
}

fn json_reply(status: u16, body: String) -> Reply {
    Reply::Whole { status, fields: vec![("content-type", "application/json".to_owned())], body }
}

/// A JSON string literal.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Bounds the memory of one scripted answer.
const EVENTS_MAX: u32 = 100_000;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const KEY: &str = "sk-stand-in-0123456789";

    fn on_runtime(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    async fn exchange(stand_in: &StandIn, request: &str) -> String {
        let mut stream = TcpStream::connect(stand_in.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn post(path: &str, key: &str, body: &str) -> String {
        format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\n{key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// The data of every event, chunk framing undone.
    fn data(answer: &str) -> Vec<String> {
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let mut text = String::new();
        let mut rest = body;
        loop {
            let (size, tail) = rest.split_once("\r\n").unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                break;
            }
            text.push_str(&tail[..size]);
            rest = &tail[size + 2..];
        }
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    async fn started(events: Option<u32>) -> StandIn {
        let key = Secret::new(KEY.as_bytes().to_vec());
        StandIn::start(Options { events, ..Options::new(key) }).await.unwrap()
    }

    #[test]
    fn it_wants_its_own_key_and_remembers_what_came() {
        on_runtime(async {
            let stand_in = started(None).await;
            let body = r#"{"model":"gpt-x","messages":[{"role":"user","content":"echo:hello"}]}"#;
            let path = "/v1/chat/completions";
            let answer =
                exchange(&stand_in, &post(path, "authorization: Bearer other", body)).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            let key = format!("authorization: Bearer {KEY}");
            let answer = exchange(&stand_in, &post(path, &key, body)).await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""content":"hello""#));
            assert_eq!(stand_in.requests(), 2);
            assert!(String::from_utf8(stand_in.last_head().unwrap()).unwrap().contains(KEY));
            let last = "GET /__last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            assert!(exchange(&stand_in, last).await.contains(&key.replace(": ", r#"":""#)));
            let x_api_key = format!("x-api-key: {KEY}");
            let answer = exchange(&stand_in, &post(path, &x_api_key, body)).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "the other SDK's slot: {answer}");
            stand_in.stop().await;
        });
    }

    #[test]
    fn personal_data_is_split_over_deltas_and_joins_again() {
        on_runtime(async {
            let stand_in = started(None).await;
            let key = format!("authorization: Bearer {KEY}");
            let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},
                "messages":[{"role":"user","content":"tell me"}]}"#;
            let answer = exchange(&stand_in, &post("/v1/chat/completions", &key, body)).await;
            let data = data(&answer);
            assert_eq!(data.last().map(String::as_str), Some("[DONE]"));
            assert!(!data.iter().any(|event| event.contains(text::EMAIL)));
            let mut joined = String::new();
            for event in &data[..data.len() - 1] {
                let event: Value = serde_json::from_str(event).unwrap();
                if let Some(piece) = event["choices"][0]["delta"]["content"].as_str() {
                    joined.push_str(piece);
                }
            }
            assert_eq!(joined, text::STORY);
            for datum in [text::EMAIL, text::CARD, text::SSN] {
                assert!(joined.contains(datum));
            }
            stand_in.stop().await;
        });
    }

    #[test]
    fn an_anthropic_stream_has_its_events_in_order_and_joins_tool_input() {
        on_runtime(async {
            let stand_in = started(None).await;
            let key = format!("x-api-key: {KEY}\r\nanthropic-version: 2023-06-01");
            let body = r#"{"model":"claude-x","max_tokens":9,"stream":true,
                "tools":[{"name":"mail","input_schema":{"type":"object","properties":{"email":{"type":"string"}}}}],
                "messages":[{"role":"user","content":[{"type":"text","text":"echo:hi"}]}]}"#;
            let answer = exchange(&stand_in, &post("/v1/messages", &key, body)).await;
            let events: Vec<Value> =
                data(&answer).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
            let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
            assert_eq!(kinds.first(), Some(&"message_start"));
            assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
            let input: String =
                events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
            let input: Value = serde_json::from_str(&input).unwrap();
            assert_eq!(input["email"], text::EMAIL);
            stand_in.stop().await;
        });
    }

    #[test]
    fn the_number_of_deltas_is_what_was_asked() {
        on_runtime(async {
            let stand_in = started(Some(200)).await;
            let key = format!("authorization: Bearer {KEY}");
            let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
            let answer = exchange(&stand_in, &post("/v1/chat/completions", &key, body)).await;
            let deltas = data(&answer).iter().filter(|e| e.contains(r#""content":""#)).count();
            assert_eq!(deltas, 201, "200 pieces and the role");
            stand_in.stop().await;
        });
    }

    #[test]
    fn a_reader_that_goes_away_is_counted() {
        on_runtime(async {
            let stand_in = started(Some(1000)).await;
            let key = format!("authorization: Bearer {KEY}\r\nx-stand-in-delay-ms: 1");
            let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
            let mut stream = TcpStream::connect(stand_in.address()).await.unwrap();
            stream.write_all(post("/v1/chat/completions", &key, body).as_bytes()).await.unwrap();
            assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
            drop(stream);
            while !stand_in.seen.last().contains(r#""cut":1"#) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }

    #[test]
    fn only_loopback_is_served() {
        on_runtime(async {
            let key = Secret::new(KEY.as_bytes().to_vec());
            let options =
                Options { address: SocketAddr::from(([0, 0, 0, 0], 0)), ..Options::new(key) };
            let refused = StandIn::start(options).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        });
    }
}
