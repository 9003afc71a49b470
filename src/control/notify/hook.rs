//! A webhook as it is used: its settings with its secrets opened and its client made.

use crate::base::Secret;
use crate::config::{Webhook, WebhookEvent, WebhookFormat, WebhookSecrets};
use crate::control::fetch::root_cause;
use crate::policy::approval::Request;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url, redirect};
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// One webhook.
pub struct Hook {
    settings: Webhook,
    secrets: WebhookSecrets,
    url: Url,
    client: Client,
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("name", &self.settings.name).finish_non_exhaustive()
    }
}

/// Why a webhook cannot be used. It holds nothing of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HookError {
    /// Its URL is none.
    Url(String),
    /// Its client cannot be made.
    Client(String),
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(name) => write!(f, "webhook `{name}`: its `url` is no URL"),
            Self::Client(name) => write!(f, "webhook `{name}`: its client cannot be made"),
        }
    }
}

impl std::error::Error for HookError {}

impl Hook {
    /// A webhook over `tls`.
    ///
    /// # Errors
    /// [`HookError`]
    pub fn new(
        settings: Webhook,
        secrets: WebhookSecrets,
        tls: rustls::ClientConfig,
    ) -> Result<Self, HookError> {
        let text = core::str::from_utf8(secrets.url.expose()).unwrap_or_default();
        let url = Url::parse(text).map_err(|_| HookError::Url(settings.name.clone()))?;
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .timeout(PATIENCE)
            .connect_timeout(CONNECT)
            // A notice goes where the config says, and its signature with it.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .http1_only()
            .pool_idle_timeout(Duration::from_secs(15))
            .user_agent(concat!("weirgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|_| HookError::Client(settings.name.clone()))?;
        Ok(Self { settings, secrets, url, client })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub(super) fn format(&self) -> WebhookFormat {
        self.settings.format
    }

    /// Whether it is told of, and may act on, this request.
    #[must_use]
    pub fn covers(&self, request: &Request) -> bool {
        self.settings.covers(&request.ask.resource, &request.ask.rule)
    }

    pub(super) fn wants(&self, event: WebhookEvent) -> bool {
        self.settings.events.contains(&event)
    }

    /// The key that notices are signed by.
    pub(super) fn key(&self) -> Option<&Secret> {
        self.secrets.keys.first()
    }

    /// The keys that callbacks may be signed by; none for one that takes none.
    #[must_use]
    pub fn keys(&self) -> &[Secret] {
        &self.secrets.keys
    }

    /// The key that Slack signs by.
    #[must_use]
    pub fn signing(&self) -> Option<&Secret> {
        self.secrets.signing.as_ref()
    }

    /// Whether callbacks come as Slack's do.
    #[must_use]
    pub fn is_slack(&self) -> bool {
        self.settings.format == WebhookFormat::Slack
    }

    /// Whether `text` is a URL at the receiver itself: what is to be shown there goes nowhere else.
    pub(in crate::control) fn is_of_its_origin(&self, text: &str) -> bool {
        Url::parse(text).is_ok_and(|url| url.origin() == self.url.origin())
    }

    /// Posts JSON there, once; nobody waits for it.
    pub(in crate::control) fn post_aside(&self, to: String, body: Value) {
        let (name, request) = (self.settings.name.clone(), self.client.post(to));
        tokio::spawn(async move {
            let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            match request.send().await {
                Ok(answer) if answer.status().is_success() => {}
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    tracing::warn!(webhook = name, status, "an answer to a button was not taken");
                }
                Err(error) => {
                    let error = root_cause(&error.without_url());
                    tracing::warn!(webhook = name, error, "an answer to a button was not taken");
                }
            }
        });
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// For a whole try.
const PATIENCE: Duration = Duration::from_secs(10);
/// For its connection.
const CONNECT: Duration = Duration::from_secs(5);
