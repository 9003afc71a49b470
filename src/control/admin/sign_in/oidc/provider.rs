//! What the issuer says of itself, and the exchange of a code for tokens.

use super::Settings;
use crate::base::Secret;
use crate::control::fetch::{FetchError, Fetcher, fetchable};
use crate::control::keys::discovery;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// The members that count here (OpenID Connect Discovery 1.0, RFC 8414, RFC 9207).
#[derive(Debug, Deserialize)]
struct Document {
    authorization_endpoint: String,
    token_endpoint: String,
    code_challenge_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// Where an issuer signs people in.
#[derive(Clone, Debug)]
pub(super) struct Provider {
    pub(super) authorization: Url,
    token: Url,
    /// It names itself in every answer: one that does not is not its own.
    pub(super) names_itself: bool,
    /// The secret goes into the form, not into a header.
    posts_secret: bool,
}

/// What is known of issuers: one at a time, found once for all that ask.
#[derive(Debug)]
pub(super) struct Providers {
    fetcher: Fetcher,
    known: Mutex<Option<Known>>,
}

#[derive(Debug)]
struct Known {
    issuer: String,
    when: Instant,
    /// What failed is remembered for a moment, too: a flood of browsers asks an issuer that is
    /// down no more often than one of them.
    found: Result<Arc<Provider>, String>,
}

/// Tokens, as the issuer gave them.
pub(super) struct Tokens {
    pub(super) access: Option<Arc<Secret>>,
    pub(super) id: Arc<Secret>,
}

/// Why there are none. The text is for operators, and holds nothing of what was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ExchangeFault {
    /// The issuer does not answer, or with what is no answer.
    Unreachable(String),
    /// It refuses the code.
    Refused(String),
}

impl Provider {
    fn of(document: Document, secret: bool) -> Result<Self, String> {
        let url = |name: &str, text: &str| {
            fetchable(text).map_err(|why| format!("discovery document: {name}: {why}"))
        };
        let has = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|one| one == word))
        };
        // Some say nothing of PKCE and know it; one that names other methods does not.
        if !has(&document.code_challenge_methods_supported, "S256") {
            return Err("discovery document: the issuer knows no PKCE by S256".to_owned());
        }
        let methods = &document.token_endpoint_auth_methods_supported;
        let posts_secret = secret && !has(methods, "client_secret_basic");
        if posts_secret && !has(methods, "client_secret_post") {
            return Err("discovery document: the issuer takes no client secret".to_owned());
        }
        Ok(Self {
            authorization: url("authorization_endpoint", &document.authorization_endpoint)?,
            token: url("token_endpoint", &document.token_endpoint)?,
            names_itself: document.authorization_response_iss_parameter_supported,
            posts_secret,
        })
    }
}

impl Providers {
    pub(super) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, known: Mutex::new(None) }
    }

    /// Where the issuer signs people in, as it said within the last [`AGE`].
    pub(super) async fn find(&self, settings: &Settings) -> Result<Arc<Provider>, String> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.issuer == settings.issuer) {
            let age = if known.found.is_ok() { AGE } else { FAILED_AGE };
            if known.when.elapsed() < age {
                return known.found.clone();
            }
        }
        let found = discovery::metadata(&self.fetcher, &settings.issuer).await;
        let found = found
            .and_then(|document| Provider::of(document, settings.client_secret.is_some()))
            .map(Arc::new);
        let (issuer, when) = (settings.issuer.clone(), Instant::now());
        *known = Some(Known { issuer, when, found: found.clone() });
        found
    }

    /// Changes a code into tokens (RFC 6749, section 4.1.3; RFC 7636, section 4.5).
    pub(super) async fn exchange(
        &self,
        provider: &Provider,
        settings: &Settings,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, ExchangeFault> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ];
        let secret = settings.client_secret.as_ref();
        let secret = secret.map(|secret| String::from_utf8_lossy(secret.expose()));
        let authorization = match &secret {
            Some(secret) if !provider.posts_secret => Some(basic(&settings.client_id, secret)?),
            _ => {
                form.push(("client_id", &settings.client_id));
                form.extend(secret.as_deref().map(|secret| ("client_secret", secret)));
                None
            }
        };
        form.extend(settings.resource.as_deref().map(|resource| ("resource", resource)));
        let form = encoded(&form);
        let answer =
            self.fetcher.post_form(provider.token.clone(), authorization, form, ANSWER_MAX).await;
        let (status, body) = answer.map_err(|why: FetchError| {
            ExchangeFault::Unreachable(format!("token endpoint: {why}"))
        })?;
        let body = Secret::new(body);
        if status != 200 {
            return Err(refusal(status, body.expose()));
        }
        read(body.expose())
    }
}

/// The words of RFC 6749, section 5.1, that count here.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    token_type: String,
    id_token: Option<String>,
}

fn read(body: &[u8]) -> Result<Tokens, ExchangeFault> {
    let unread = |why: &str| ExchangeFault::Unreachable(format!("token endpoint: {why}"));
    // What serde says may repeat a part of a token.
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| unread("its answer is no tokens"))?;
    let keep = |text: String| Arc::new(Secret::new(text.into_bytes()));
    let (access, id) = (keep(answer.access_token), answer.id_token.map(keep));
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err(unread("its token is not of the type Bearer"));
    }
    let id = id.ok_or_else(|| unread("there is no ID token in its answer"))?;
    Ok(Tokens { access: Some(access).filter(|access| !access.is_empty()), id })
}

fn refusal(status: u16, body: &[u8]) -> ExchangeFault {
    #[derive(Deserialize)]
    struct Problem {
        error: String,
    }
    let told: Option<Problem> = serde_json::from_slice(body).ok();
    let code = told.map(|told| word(&told.error)).unwrap_or_default();
    if (400..500).contains(&status) && !code.is_empty() {
        ExchangeFault::Refused(code)
    } else {
        ExchangeFault::Unreachable(format!("token endpoint: status {status}"))
    }
}

/// An error code of the issuer, as far as it is one: nothing else of its words goes to a log.
pub(super) fn word(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_lowercase() || *c == '_').take(64).collect()
}

/// RFC 6749, section 2.3.1: both are encoded as in a form before they are joined.
fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, ExchangeFault> {
    let part = |text: &str| encoded(&[("", text)]).trim_start_matches('=').to_owned();
    let joined = Secret::new(format!("{}:{}", part(client_id), part(secret)).into_bytes());
    let text = format!("Basic {}", STANDARD.encode(joined.expose()));
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| ExchangeFault::Unreachable("the client's secret".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// `application/x-www-form-urlencoded`
fn encoded(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form.invalid/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    url.and_then(|url| url.query().map(ToOwned::to_owned)).unwrap_or_default()
}

/// How long what the issuer says is taken for true.
const AGE: Duration = Duration::from_secs(600);
/// How long nobody asks an issuer again that did not answer.
const FAILED_AGE: Duration = Duration::from_secs(3);
/// Longest answer with tokens.
const ANSWER_MAX: usize = 128 << 10;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    fn provider(more: &serde_json::Value, secret: bool) -> Result<Provider, String> {
        let mut document = json!({"authorization_endpoint": "https://idp.example/auth?tenant=1",
            "token_endpoint": "https://idp.example/token"});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Provider::of(serde_json::from_value(document).unwrap(), secret)
    }

    #[test]
    fn an_issuer_without_pkce_or_a_safe_address_is_not_used() {
        assert!(!provider(&json!({}), false).unwrap().names_itself);
        let named = json!({"authorization_response_iss_parameter_supported": true,
            "code_challenge_methods_supported": ["plain", "S256"]});
        assert!(provider(&named, false).unwrap().names_itself);
        for wrong in [
            json!({"code_challenge_methods_supported": ["plain"]}),
            json!({"token_endpoint": "http://idp.example/token"}),
            json!({"authorization_endpoint": "javascript:alert(1)"}),
        ] {
            assert!(provider(&wrong, false).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_goes_where_the_issuer_takes_it() {
        let of = |list: &[&str], secret| {
            let methods = json!({ "token_endpoint_auth_methods_supported": list });
            provider(&methods, secret).map(|provider| provider.posts_secret)
        };
        assert_eq!(of(&["client_secret_post", "client_secret_basic"], true), Ok(false));
        assert_eq!(of(&["client_secret_post"], true), Ok(true));
        assert!(of(&["private_key_jwt"], true).is_err());
        assert_eq!(of(&["private_key_jwt"], false), Ok(false));
        let value = basic("a:b c", "p%&").unwrap();
        let text = value.to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        assert_eq!(STANDARD.decode(text).unwrap(), b"a%3Ab+c:p%25%26");
        assert!(value.is_sensitive());
    }

    #[test]
    fn an_answer_is_tokens_or_a_word_and_nothing_of_it_is_told() {
        let good = json!({"access_token": "a", "token_type": "bearer", "id_token": "i"});
        let tokens = read(good.to_string().as_bytes()).unwrap();
        assert_eq!(tokens.id.expose(), b"i");
        for wrong in [
            json!({"access_token": "sekret", "token_type": "DPoP", "id_token": "i"}),
            json!({"access_token": "sekret", "token_type": "Bearer"}),
            json!({"access_token": ["sekret"], "token_type": "Bearer", "id_token": "i"}),
            json!("sekret"),
        ] {
            let Err(fault) = read(wrong.to_string().as_bytes()) else { panic!("{wrong}") };
            assert!(!format!("{fault:?}").contains("sekret"), "{fault:?}");
        }
        let twice =
            r#"{"access_token":"a","access_token":"b","token_type":"Bearer","id_token":"i"}"#;
        assert!(read(twice.as_bytes()).is_err());
        let refused = refusal(400, br#"{"error":"invalid_grant","error_description":"x"}"#);
        assert_eq!(refused, ExchangeFault::Refused("invalid_grant".to_owned()));
        assert!(matches!(refusal(502, b"<html>"), ExchangeFault::Unreachable(_)));
        assert_eq!(word("a\u{1b}[2J_b"), "a_b");
    }
}
