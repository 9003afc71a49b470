//! `weirgate approvals` and `weirgate grants`: the admin API of a running gateway, from a terminal.
//!
//! Whoever is on the host is nobody in particular: the token says who decides.

use crate::base::Secret;
use crate::config::Source;
use crate::control::{fetch, tls};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Which gateway is asked, and by whom.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// A config; its `[admin] address` is asked.
    pub config: Option<PathBuf>,
    /// The admin surface itself.
    pub admin: Option<String>,
    /// A file with the token; without it the token is in WEIRGATE_TOKEN.
    pub token_file: Option<PathBuf>,
    /// JSON, one object a line.
    pub json: bool,
}

/// What is taken back.
#[derive(Clone, Debug)]
pub enum Which {
    /// One.
    Id(String),
    /// Those of a subject.
    Caller {
        /// Who.
        sub: String,
        /// Of this issuer only.
        iss: Option<String>,
    },
    /// Those for a resource.
    Resource(String),
    /// All.
    All,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Act {
    /// Requests.
    List {
        /// In these states.
        state: Option<String>,
        /// Those that owe a review.
        review_owed: bool,
    },
    /// One request.
    Show {
        /// Which.
        id: String,
    },
    /// A vote.
    Vote {
        /// On which.
        id: String,
        /// Yes or no.
        approve: bool,
        /// Why.
        reason: Option<String>,
        /// What was shown before.
        digest: Option<String>,
    },
    /// The summary with nothing masked.
    Reveal {
        /// Of which.
        id: String,
    },
    /// What the same caller had approved before.
    Before {
        /// Which request.
        id: String,
    },
    /// What the database says that a statement would touch.
    Estimate {
        /// Of which request.
        id: String,
    },
    /// A review.
    Review {
        /// Of which.
        id: String,
        /// What is said of it.
        reason: Option<String>,
    },
    /// A link that signs a browser in.
    Open,
    /// Grants.
    Grants,
    /// Taking back.
    Revoke {
        /// What.
        which: Which,
        /// Why.
        reason: Option<String>,
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
    told(Gateway::reach(reach, source).and_then(|gateway| gateway.act(act, out)), errors)
}

/// The exit code of an outcome, and why it is not 0.
pub(super) fn told(outcome: Result<(), Failed>, errors: &mut dyn Write) -> u8 {
    match outcome {
        Ok(()) => 0,
        Err(Failed::No(text)) => {
            let _ = writeln!(errors, "no: {text}");
            1
        }
        Err(Failed::Could(text)) => {
            let _ = writeln!(errors, "error: {text}");
            2
        }
    }
}

/// Why there is no good answer.
pub(super) enum Failed {
    /// The gateway said no.
    No(String),
    /// It could not be asked.
    Could(String),
}

impl From<String> for Failed {
    fn from(text: String) -> Self {
        Self::Could(text)
    }
}

/// A gateway that can be asked.
pub(super) struct Gateway {
    base: Url,
    token: HeaderValue,
    client: Client,
    runtime: tokio::runtime::Runtime,
    json: bool,
}

impl Gateway {
    pub(super) fn reach(reach: &Reach, source: &dyn Source) -> Result<Self, Failed> {
        let base = match &reach.admin {
            Some(url) => url.clone(),
            None => address(reach, source)?,
        };
        let base = fetch::fetchable(&base).map_err(|error| format!("--admin {error}"))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls::client_config(&[])?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let token = token(reach, source)?;
        Ok(Self { base, token, client, runtime, json: reach.json })
    }

    /// Whether objects are wanted.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    fn act(&self, act: &Act, out: &mut dyn Write) -> Result<(), Failed> {
        let text = match act {
            Act::List { state, review_owed } => {
                let mut query = Vec::new();
                query.extend(state.as_deref().map(|state| ("state", state)));
                query.extend(review_owed.then_some(("review", "owed")));
                self.table(&self.call(Method::GET, "approvals", &query, None)?)
            }
            Act::Open => {
                let link = self.call(Method::POST, "sign-in-links", &[], None)?;
                if self.json {
                    format!("{link}\n")
                } else {
                    let (url, until) = (said(member(&link, "url")), member(&link, "expires_at"));
                    format!(
                        "{url}\n\nIt signs one browser in as you, once, until {}. \
                        Open it yourself; send it to nobody.\n",
                        said(until)
                    )
                }
            }
            Act::Grants => self.table(&self.call(Method::GET, "grants", &[], None)?),
            Act::Show { id } => self.one(&self.show(id)?),
            Act::Vote { id, approve, reason, digest } => {
                let word = if *approve { "approve" } else { "deny" };
                let digest = match digest {
                    Some(digest) => json!(digest),
                    None => {
                        // What is voted about is on the screen before the vote.
                        let shown = self.show(id)?;
                        if !self.json {
                            out.write_all(self.one(&shown).as_bytes()).map_err(unwritten)?;
                        }
                        member(&shown, "digest").clone()
                    }
                };
                let body = json!({ "reason": reason, "digest": digest });
                let path = format!("approvals/{}/{word}", segment(id)?);
                self.outcome(&self.call(Method::POST, &path, &[], Some(&body))?)
            }
            Act::Reveal { id } => {
                let path = format!("approvals/{}/reveal", segment(id)?);
                let seen = self.call(Method::POST, &path, &[], Some(&json!({})))?;
                self.text(&seen, "original")
            }
            Act::Before { id } => {
                let path = format!("approvals/{}/before", segment(id)?);
                self.before(&self.call(Method::GET, &path, &[], None)?)
            }
            Act::Estimate { id } => {
                let path = format!("approvals/{}/estimate", segment(id)?);
                let found = self.call(Method::GET, &path, &[], None)?;
                let rows = member(&found, "rows").as_f64().unwrap_or_default();
                let plan = self.text(&found, "plan");
                if self.json { plan } else { format!("about {rows} rows\n\n{plan}") }
            }
            Act::Review { id, reason } => {
                let path = format!("approvals/{}/review", segment(id)?);
                let body = json!({ "reason": reason });
                self.outcome(&self.call(Method::POST, &path, &[], Some(&body))?)
            }
            Act::Revoke { which, reason } => return self.revoke(which, reason, out),
        };
        Ok(out.write_all(text.as_bytes()).map_err(unwritten)?)
    }

    fn revoke(
        &self,
        which: &Which,
        reason: &Option<String>,
        out: &mut dyn Write,
    ) -> Result<(), Failed> {
        let mut body = match which {
            Which::Id(id) => json!({ "id": id }),
            Which::Caller { sub, iss } => json!({ "caller": { "sub": sub, "iss": iss } }),
            Which::Resource(name) => json!({ "resource": name }),
            Which::All => json!({ "all": true }),
        };
        if let (Value::Object(members), Some(reason)) = (&mut body, reason) {
            members.insert("reason".to_owned(), json!(reason));
        }
        let taken = self.call(Method::POST, "grants/revoke", &[], Some(&body))?;
        let count = |key| member(&taken, key).as_array().map_or(0, Vec::len);
        let [revoked, cancelled, cut] = ["revoked", "cancelled", "cut"].map(count);
        let withheld = member(&taken, "withheld").as_u64().unwrap_or(0);
        let text = if self.json {
            format!("{taken}\n")
        } else {
            format!("{revoked} revoked, {cancelled} cancelled, {cut} cut\n")
        };
        out.write_all(text.as_bytes()).map_err(unwritten)?;
        if revoked + cancelled + cut == 0 {
            return Err(Failed::No(match withheld {
                0 => "there is nothing to take back".to_owned(),
                count => format!("{count} more are not yours to take back"),
            }));
        }
        Ok(())
    }

    fn show(&self, id: &str) -> Result<Value, Failed> {
        self.call(Method::GET, &format!("approvals/{}", segment(id)?), &[], None)
    }

    /// One call; an answer that is no is [`Failed::No`], with what the gateway says.
    pub(super) fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, Failed> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}/api/v1/{path}", self.base.path().trim_end_matches('/')));
        for (key, value) in query {
            url.query_pairs_mut().append_pair(key, value);
        }
        let mut asked = self.client.request(method, url).header(AUTHORIZATION, self.token.clone());
        if let Some(body) = body {
            asked = asked.header("content-type", "application/json").body(body.to_string());
        }
        let origin = self.base.origin().ascii_serialization();
        let failed = |error: reqwest::Error| {
            format!("{origin} does not answer: {error}; is the gateway running?")
        };
        let (status, bytes) = self.runtime.block_on(async {
            let mut answer = asked.send().await.map_err(failed)?;
            let mut bytes = Vec::new();
            while let Some(part) = answer.chunk().await.map_err(failed)? {
                if bytes.len().saturating_add(part.len()) > ANSWER_MAX {
                    return Err(format!("{origin}: the answer is too long"));
                }
                bytes.extend_from_slice(&part);
            }
            Ok((answer.status(), bytes))
        })?;
        let value: Result<Value, _> = serde_json::from_slice(&bytes);
        match value {
            Ok(value) if status.is_success() => Ok(value),
            Ok(value) if status.is_client_error() && status.as_u16() != 401 => {
                Err(Failed::No(clean(member(&value, "detail").as_str().unwrap_or("refused"))))
            }
            Ok(value) => {
                let detail = member(&value, "detail").as_str().unwrap_or_default();
                Err(Failed::Could(format!(
                    "{origin}: status {}: {}",
                    status.as_u16(),
                    clean(detail)
                )))
            }
            Err(_) => Err(Failed::Could(format!(
                "{origin}: status {}, and no JSON; is that the admin address?",
                status.as_u16()
            ))),
        }
    }

    fn table(&self, list: &Value) -> String {
        let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if self.json {
            return rows.iter().map(|row| format!("{row}\n")).collect();
        }
        let mut text = format!(
            "{:<32} {:<9} {:<24} {:<20} {:<16} {}\n",
            "ID", "STATE", "DEADLINE", "CALLER", "RESOURCE", "WHAT"
        );
        for row in rows {
            let of = |key| clean(member(row, key).as_str().unwrap_or_default()).replace('\n', " ");
            let grant = member(row, "until").as_str().is_some();
            let time = of(if grant { "until" } else { "deadline" });
            let owed = if member(row, "review_owed") == true { " [review owed]" } else { "" };
            let what: String = of("summary").chars().take(WHAT_MAX).collect();
            text += &format!(
                "{:<32} {:<9} {time:<24} {:<20} {:<16} {what}{owed}\n",
                of("id"),
                of("state"),
                of("sub"),
                of("resource")
            );
        }
        text
    }

    /// One member of an answer, or all of it as JSON.
    fn text(&self, answer: &Value, key: &str) -> String {
        if self.json { format!("{answer}\n") } else { format!("{}\n", said(member(answer, key))) }
    }

    fn before(&self, list: &Value) -> String {
        let rows = list.as_array().map(Vec::as_slice).unwrap_or_default();
        if self.json {
            return rows.iter().map(|row| format!("{row}\n")).collect();
        }
        let mut text =
            format!("{:<32} {:<9} {:<24} {:<16} {}\n", "ID", "STATE", "ASKED", "RESOURCE", "WHAT");
        for row in rows {
            let of = |key| clean(member(row, key).as_str().unwrap_or_default()).replace('\n', " ");
            let same = if member(row, "same_operation") == true { " [the same]" } else { "" };
            let what: String = of("summary_head").chars().take(WHAT_MAX).collect();
            text += &format!(
                "{:<32} {:<9} {:<24} {:<16} {what}{same}\n",
                of("id"),
                of("state"),
                of("requested_at"),
                of("resource")
            );
        }
        text
    }

    fn one(&self, request: &Value) -> String {
        if self.json {
            return format!("{request}\n");
        }
        let empty = Map::new();
        let members = request.as_object().unwrap_or(&empty);
        let mut text = String::new();
        for key in FIRST {
            if let Some(value) = members.get(key).filter(|value| !value.is_null()) {
                text += &format!("{key:<16} {}\n", said(value));
            }
        }
        let rest = members.iter().filter(|(key, value)| {
            !FIRST.contains(&key.as_str()) && !value.is_null() && *key != "summary"
        });
        for (key, value) in rest {
            text += &format!("{key:<16} {}\n", said(value));
        }
        text += &format!("\n{}\n\n", said(member(request, "summary")));
        text
    }

    fn outcome(&self, request: &Value) -> String {
        if self.json {
            return format!("{request}\n");
        }
        let yes = member(request, "votes").as_array().map(Vec::as_slice).unwrap_or_default();
        let yes = yes.iter().filter(|vote| member(vote, "decision") == "approve").count();
        let count = member(request, "count").as_u64().unwrap_or(0);
        let state = said(member(request, "state"));
        format!("{} is {state} ({yes} of {count} approvals)\n", said(member(request, "id")))
    }
}

pub(super) fn member<'v>(value: &'v Value, key: &str) -> &'v Value {
    value.get(key).unwrap_or(&Value::Null)
}

fn said(value: &Value) -> String {
    clean(&value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
}

/// Text of callers on a terminal: nothing that steers it, nothing that turns the order of what is
/// read around or hides in it.
pub(super) fn clean(text: &str) -> String {
    let hides = |c: char| {
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}' | '\u{61c}' | '\u{ad}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() && c != '\n') || hides(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// An id as a segment of a path.
fn segment(id: &str) -> Result<&str, Failed> {
    let good = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    good.then_some(id).ok_or_else(|| Failed::Could("an id is 32 hex digits".to_owned()))
}

/// Where the gateway of a config is.
fn address(reach: &Reach, source: &dyn Source) -> Result<String, Failed> {
    let path = reach.config.clone().unwrap_or_default();
    let config = crate::config::load(&path, source)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let admin = config.admin.ok_or_else(|| {
        format!("{}: there is no [admin]: write its `address` and `issuer`", path.display())
    })?;
    let mut address = admin.address;
    // It listens on all addresses, so on this one.
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { [127, 0, 0, 1].into() } else { LOOPBACK6.into() };
        address.set_ip(loopback);
    }
    Ok(format!("http://{address}"))
}

/// The token as a header. Nothing of it is ever printed.
fn token(reach: &Reach, source: &dyn Source) -> Result<HeaderValue, Failed> {
    let (from, bytes) = match &reach.token_file {
        Some(path) => {
            let from = format!("--token-file {}", path.display());
            if source.mode(path).is_some_and(|mode| mode & 0o077 != 0) {
                return Err(Failed::Could(format!("{from}: open to others; chmod 600")));
            }
            let bytes = source.read(path).map_err(|error| format!("{from}: {error}"))?;
            (from, bytes)
        }
        None => {
            let missing = || "no token: set WEIRGATE_TOKEN, or give --token-file".to_owned();
            let text = source.env("WEIRGATE_TOKEN").filter(|text| !text.trim().is_empty());
            ("WEIRGATE_TOKEN".to_owned(), text.ok_or_else(missing)?.into_bytes())
        }
    };
    let secret = Secret::new(bytes);
    let text = [b"Bearer ", secret.expose().trim_ascii()].concat();
    let mut value = HeaderValue::from_bytes(&text)
        .map_err(|_| format!("{from}: it cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

pub(super) fn unwritten(error: std::io::Error) -> String {
    format!("the output cannot be written: {error}")
}

/// What is told of a request first, in this order.
const FIRST: [&str; 14] = [
    "id",
    "state",
    "sub",
    "iss",
    "actors",
    "resource",
    "rule",
    "scope",
    "uses",
    "reason",
    "requested_at",
    "deadline",
    "break_glass",
    "digest",
];
/// For the whole answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest answer that is read: a full list.
const ANSWER_MAX: usize = 64 << 20;
/// How much of a summary stands in a list.
const WHAT_MAX: usize = 80;
const LOOPBACK6: [u16; 8] = [0, 0, 0, 0, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_wrote_does_not_steer_or_deceive_a_terminal() {
        let shown = clean("a\u{1b}[2Jb\u{202e}c\u{200b}\u{7}\r\nd");
        assert_eq!(shown, "a\\u{1b}[2Jb\\u{202e}c\\u{200b}\\u{7}\\u{d}\nd");
    }

    #[test]
    fn an_id_stays_in_its_segment() {
        for wrong in ["", "..", "a/b", "a?b", "a%2fb"] {
            assert!(segment(wrong).is_err(), "{wrong}");
        }
        assert!(segment("3f0c").is_ok());
    }
}
