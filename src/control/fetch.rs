//! Bounded HTTP fetches of the control plane: key sets and discovery documents.
//!
//! Only https, or plain http to a loopback address. A redirect is followed only within its own
//! origin, so that no answer can send us to another host.

use reqwest::header::HeaderValue;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, Url, header};
use std::fmt;
use std::time::Duration;

/// Why there is no document. The text is for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum FetchError {
    /// Not a URL, or one that must not be fetched.
    Url(String),
    /// No answer, or not in time.
    Unreachable(String),
    /// Another status than 200.
    Status(u16),
    /// Longer than the bound.
    TooLong,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(why) => write!(f, "{why}"),
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::TooLong => write!(f, "the document is too long"),
        }
    }
}

/// A document and how long it may be kept.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) body: Vec<u8>,
    pub(super) max_age: Option<Duration>,
}

/// Fetches over one client; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(Client);

impl Fetcher {
    pub(super) fn new(tls: rustls::ClientConfig) -> Result<Self, FetchError> {
        Self::with(tls, Policy::custom(follow))
    }

    /// One that follows nothing: what is posted holds secrets, and goes where it is meant to go.
    pub(super) fn without_redirects(tls: rustls::ClientConfig) -> Result<Self, FetchError> {
        Self::with(tls, Policy::none())
    }

    fn with(tls: rustls::ClientConfig, redirects: Policy) -> Result<Self, FetchError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .redirect(redirects)
            .no_proxy()
            .pool_idle_timeout(Duration::from_secs(15))
            .user_agent(concat!("weirgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| FetchError::Unreachable(root_cause(&error)))?;
        Ok(Self(client))
    }

    /// Fetches `url`, `len_max` bytes of body at most.
    pub(super) async fn fetch(&self, url: Url, len_max: usize) -> Result<Fetched, FetchError> {
        let sent = self.0.get(url).header(header::ACCEPT, "application/json").send().await;
        let answer = sent.map_err(|error| FetchError::Unreachable(root_cause(&error)))?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let max_age = answer
            .headers()
            .get(header::CACHE_CONTROL)
            .and_then(|value| value.to_str().ok())
            .and_then(max_age);
        Ok(Fetched { body: body(answer, len_max).await?, max_age })
    }

    /// Posts a form to `url`; status and body, of `len_max` bytes at most.
    pub(super) async fn post_form(
        &self,
        url: Url,
        authorization: Option<HeaderValue>,
        form: String,
        len_max: usize,
    ) -> Result<(u16, Vec<u8>), FetchError> {
        let mut asked = self
            .0
            .post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        if let Some(value) = authorization {
            asked = asked.header(header::AUTHORIZATION, value);
        }
        let sent = asked.send().await;
        let answer = sent.map_err(|error| FetchError::Unreachable(root_cause(&error)))?;
        let status = answer.status().as_u16();
        Ok((status, body(answer, len_max).await?))
    }
}

async fn body(mut answer: Response, len_max: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    loop {
        let part = answer.chunk().await;
        match part.map_err(|error| FetchError::Unreachable(root_cause(&error)))? {
            Some(part) if body.len().saturating_add(part.len()) > len_max => {
                return Err(FetchError::TooLong);
            }
            Some(part) => body.extend_from_slice(&part),
            None => return Ok(body),
        }
    }
}

fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let stays =
        attempt.previous().first().is_some_and(|from| from.origin() == attempt.url().origin());
    match attempt.previous().len() {
        // Left as an answer, the redirect is a status that is not 200.
        hops if hops > REDIRECTS_MAX || !stays => attempt.stop(),
        _ => attempt.follow(),
    }
}

/// Reads `text` as a URL that may be asked: https, or http on a loopback address; no user in it.
pub(crate) fn fetchable(text: &str) -> Result<Url, FetchError> {
    let url = Url::parse(text).map_err(|why| FetchError::Url(format!("`{text}`: {why}")))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(FetchError::Url("a URL with a user or a password in it".to_owned()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(FetchError::Url(format!("`{text}` is neither https nor on a loopback address"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `max-age` of a `Cache-Control` value; `no-store` and `no-cache` are an age of zero.
fn max_age(value: &str) -> Option<Duration> {
    let mut age = None;
    for directive in value.split(',') {
        let directive = directive.trim();
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache")
        {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = directive.split_once('=')
            && name.eq_ignore_ascii_case("max-age")
        {
            age = seconds.trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    age
}

/// The innermost reason: the outer ones repeat the URL.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// For the whole fetch.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Within one origin.
const REDIRECTS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_and_loopback_are_fetched() {
        for good in [
            "https://idp.example.com/x",
            "http://127.0.0.1:9/x",
            "http://[::1]:9/",
            "http://localhost/",
        ] {
            assert!(fetchable(good).is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example.com/x",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "https://user:pw@idp.example.com/",
            "idp.example.com",
            "",
        ] {
            assert!(fetchable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cache_control_is_read_as_it_is_meant() {
        assert_eq!(max_age("public, max-age=300"), Some(Duration::from_secs(300)));
        assert_eq!(max_age("Max-Age=\"60\", must-revalidate"), Some(Duration::from_secs(60)));
        assert_eq!(max_age("no-store, max-age=300"), Some(Duration::ZERO));
        assert_eq!(max_age("public"), None);
        assert_eq!(max_age("max-age=-1"), None);
    }
}
