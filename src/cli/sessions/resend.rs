//! `weirgate sessions replay ID --to URL`: the recorded request once more, to an upstream that the
//! user names, and how its answer differs from the recorded one.
//!
//! What goes is the request as it was recorded: method, target, fields and body. Its framing is
//! made anew (it is sent with the length of its body), the host is that of the URL, and where no
//! `accept` was recorded the client says `*/*`. No recorded credential goes, since none is in the
//! record; what looks like one is left out all the same. Redirects are told and never followed.

use super::recorded::{Answer, Body, Recorded, Request};
use super::{entries_of, finish, missing, unwritten};
use crate::base::Secret;
use crate::config::Source;
use crate::control::archive::clean;
use crate::control::{fetch, tls};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Where to send it, and what to add.
#[derive(Clone, Debug, Default)]
pub struct To {
    /// The upstream: `https://`, or `http://` on a loopback address. The recorded target is put
    /// behind its path.
    pub url: String,
    /// Fields to add, as `Name: value`; each takes the place of a recorded one.
    pub headers: Vec<String>,
    /// `env:NAME` or `file:PATH`.
    pub credential: Option<String>,
    /// The field that takes the credential as it is; else it is the bearer of `Authorization`.
    pub credential_header: Option<String>,
    /// Send the masked form, where that is all that was recorded.
    pub masked: bool,
    /// Print one JSON object.
    pub json: bool,
}

/// Sends the request of a session. Returns 0 where the answer is the recorded one, 1 where it
/// differs or the session is not in the record, 2 where nothing could be sent.
pub fn resend(
    data: &Path,
    id: &str,
    to: &To,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let found = entries_of(data, id, errors);
    let outcome = found.and_then(|entries| {
        if entries.is_empty() {
            return missing(id, errors);
        }
        let recorded = Recorded::of(&entries)?;
        recorded.request.may_be_sent(to.masked)?;
        let url = target(&to.url, &recorded.request.target)?;
        let fields = fields(&recorded.request, to, source)?;
        let answer = send(&recorded.request, url.clone(), fields)?;
        let report = Report { recorded: &recorded, url: &url, answer: &answer };
        let text = if to.json { report.json() + "\n" } else { report.text() };
        out.write_all(text.as_bytes()).map_err(unwritten)?;
        Ok(u8::from(!report.differences().is_empty()))
    });
    finish(outcome, errors)
}

/// The URL for a recorded target. One that a URL would spell otherwise is not sent: it would not
/// be the recorded request.
fn target(base: &str, target: &str) -> Result<Url, String> {
    let wrong = |why: String| format!("--to {why}");
    let base = fetch::fetchable(base).map_err(|error| wrong(error.to_string()))?;
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong(format!("`{base}`: write it without query or fragment")));
    }
    let spelled = format!("{}{target}", base.path().trim_end_matches('/'));
    let mut url = base;
    let (path, query) = match spelled.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (spelled.as_str(), None),
    };
    url.set_path(path);
    url.set_query(query);
    if url.path() != path || url.query() != query {
        return Err(format!(
            "the recorded target `{}` cannot be sent as it is: a URL would spell it `{}`",
            clean(target),
            clean(url.path())
        ));
    }
    Ok(url)
}

/// The recorded fields less framing and credentials, and what the user adds.
fn fields(request: &Request, to: &To, source: &dyn Source) -> Result<HeaderMap, String> {
    let mut fields = HeaderMap::new();
    for (name, value) in &request.fields {
        if NOT_SENT.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let (name, value) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err("a recorded field cannot be sent as it is".to_owned());
        };
        fields.append(name, value);
    }
    for text in &to.headers {
        let wrong = || "--header: write `Name: value`".to_owned();
        let (name, value) = text.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        fields.insert(name, value);
    }
    if let Some(from) = &to.credential {
        let secret = credential(from, source)?;
        let (name, text) = match &to.credential_header {
            Some(name) => (name.as_str(), secret.expose().to_vec()),
            None => ("authorization", [b"Bearer ", secret.expose()].concat()),
        };
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| "--credential-header is no field name".to_owned())?;
        let mut value = HeaderValue::from_bytes(&text)
            .map_err(|_| format!("--credential {from}: it cannot stand in a header"))?;
        value.set_sensitive(true);
        fields.insert(name, value);
    }
    Ok(fields)
}

/// The secret that `--credential` names.
pub(super) fn credential(from: &str, source: &dyn Source) -> Result<Secret, String> {
    let wrong = |why: &str| format!("--credential {}: {why}", clean(from));
    if let Some(name) = from.strip_prefix("env:") {
        let value = source.env(name).ok_or_else(|| wrong("the variable is not set"))?;
        return Ok(Secret::new(value.into_bytes()));
    }
    // What is written is not repeated: it may be the secret itself.
    let path = from
        .strip_prefix("file:")
        .map(Path::new)
        .ok_or("--credential: name where it is, `env:VARIABLE` or `file:PATH`")?;
    if source.mode(path).is_some_and(|mode| mode & 0o077 != 0) {
        return Err(wrong("the file is open to others; chmod 600"));
    }
    let mut bytes = source.read(path).map_err(|error| wrong(&error.to_string()))?;
    let len = bytes.trim_ascii_end().len();
    bytes.truncate(len);
    Ok(Secret::new(bytes))
}

fn send(request: &Request, url: Url, fields: HeaderMap) -> Result<Answer, String> {
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| "the recorded method cannot be sent".to_owned())?;
    let client = Client::builder()
        .tls_backend_preconfigured(tls::client_config(&[])?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build()
        .map_err(|error| cause(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut asked = client.request(method, url.clone()).headers(fields);
        if !request.body.is_empty() {
            asked = asked.body(request.body.clone());
        }
        let failed = |error: reqwest::Error| {
            format!("{}: {}", url.origin().ascii_serialization(), cause(&error))
        };
        let mut answer = asked.send().await.map_err(failed)?;
        let mut body = Body::default();
        while let Some(part) = answer.chunk().await.map_err(failed)? {
            body.push(&part);
        }
        Ok(Answer { status: answer.status().as_u16(), body: body.finish(), masked: false })
    })
}

/// The innermost reason: the outer ones repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

struct Report<'r> {
    recorded: &'r Recorded,
    url: &'r Url,
    answer: &'r Answer,
}

impl Report<'_> {
    /// What is not as it was recorded. An answer that was not recorded is no difference.
    fn differences(&self) -> Vec<&'static str> {
        let Some(recorded) = &self.recorded.answer else { return Vec::new() };
        let (was, is) = (recorded, self.answer);
        let pairs = [
            ("status", was.status != is.status),
            ("length", was.body.len != is.body.len),
            ("sha256", was.body.sha256 != is.body.sha256),
        ];
        pairs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    fn json(&self) -> String {
        let answer = |answer: &Answer| {
            json!({ "status": answer.status, "length": answer.body.len,
                "sha256": answer.body.sha256, "masked": answer.masked })
        };
        let was = self.recorded.answer.as_ref();
        json!({
            "id": self.recorded.id.to_string(), "method": self.recorded.request.method, "url": self.url.as_str(),
            "request_masked": self.recorded.request.masked,
            "recorded": was.map(answer), "replayed": answer(self.answer),
            "same": was.map_or(Value::Null, |_| json!(self.differences().is_empty())),
            "differences": self.differences(),
        })
        .to_string()
    }

    fn text(&self) -> String {
        let differs = self.differences();
        let mut text = format!("{} {}\n", clean(&self.recorded.request.method), self.url);
        text += &format!("{:<8} {:<64} {:<64}\n", "", "RECORDED", "REPLAYED");
        let was = self.recorded.answer.as_ref();
        let or = |was: Option<String>| was.unwrap_or_else(|| "-".to_owned());
        let is = self.answer;
        for (name, was, is) in [
            ("status", was.map(|a| a.status.to_string()), is.status.to_string()),
            ("length", was.map(|a| a.body.len.to_string()), is.body.len.to_string()),
            ("sha256", was.map(|a| a.body.sha256.clone()), is.body.sha256.clone()),
        ] {
            let verdict = match &was {
                None => "not recorded",
                Some(_) if differs.contains(&name) => "differs",
                Some(_) => "same",
            };
            text += &format!("{name:<8} {:<64} {is:<64} {verdict}\n", or(was));
        }
        if self.recorded.request.masked {
            text += "note: what was sent is the masked form of the request\n";
        }
        if was.is_some_and(|answer| answer.masked) {
            text += "note: the recorded answer is the masked one, as the caller got it\n";
        }
        text
    }
}

/// Framing and the hop are made anew; a credential is never taken out of a record.
const NOT_SENT: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "cookie",
];
/// To make the connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Between two bytes of the answer.
const SILENCE: Duration = Duration::from_secs(300);
