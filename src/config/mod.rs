//! From TOML to everything compiled, or to a list of all errors with file and line.
//!
//! [`load`] reads the main file and those that it includes through a [`Source`], checks every key
//! and every reference, compiles the policy and tries the masks. Nothing stops at the first
//! error, an unknown key is one, and so is a rule that this build cannot enforce. Secrets are
//! named, not opened; [`Config::resolve_secrets`] opens them when a gateway is started.
//!
//! What this module does not know: sessions, sockets, files (it sees a [`Source`]).

mod cases;
mod credentials;
mod databases;
mod issuers;
mod limits;
mod listeners;
mod load;
mod masks;
mod names;
mod reader;
mod report;
mod resources;
mod rules;
mod secrets;
mod settings;
mod sign_in;
mod source;
mod types;
mod units;
mod upstreams;
mod url;
mod webhooks;

#[cfg(test)]
mod broken;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests;

pub use load::load;
pub use report::{Diagnostic, Place};
pub use secrets::{KEY_LEN_MIN, SECRET_LEN_MAX, SECRET_LEN_MIN, Secrets, WebhookSecrets};
pub use source::Source;
pub use types::{
    AdminSettings, CertificateIssuer, Config, CredentialKind, CredentialSpec, GatewaySettings,
    KeySource, Listener, Login, MaskSettings, Protocol, RecordSettings, Resource, SecretFrom,
    SecretRef, ServerTls, SignInSettings, SignInToken, TokenIssuer, Upstream, UpstreamTls,
};
pub use url::DatabaseUrl;
pub use webhooks::{Webhook, WebhookEvent, WebhookFormat, WebhookUrl};
