//! Opens the secrets that a config names. Only `serve` does this, and `check --connect` for the
//! credentials that it tries.

use super::report::Diagnostic;
use super::source::Source;
use super::types::{Config, CredentialKind, SecretFrom, SecretRef};
use super::webhooks::{Webhook, WebhookUrl};
use crate::base::{CredentialId, Secret};
use crate::mask::MaskSpec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Shortest secret. What is shorter is a mistake, or too easy to find in an answer by chance.
pub const SECRET_LEN_MIN: usize = 8;
/// Shortest key of a signature.
pub const KEY_LEN_MIN: usize = 32;
/// Longest secret.
pub const SECRET_LEN_MAX: usize = 16 << 10;

/// All secrets of a config.
#[derive(Debug)]
pub struct Secrets {
    /// By [`CredentialId`]; `None` for credentials of kind `none`.
    credentials: Vec<Option<Secret>>,
    masks: Vec<MaskSpec>,
    admin_token: Option<Secret>,
    sign_in: Option<Secret>,
    webhooks: Vec<WebhookSecrets>,
}

/// What a `[[webhook]]` needs.
#[derive(Clone, Debug)]
pub struct WebhookSecrets {
    /// Where notices go; a secret also where it is written plainly.
    pub url: Secret,
    /// Keys of signatures, the one in use first.
    pub keys: Vec<Secret>,
    /// Key of Slack's callbacks.
    pub signing: Option<Secret>,
}

impl Secrets {
    /// The secret of a credential.
    #[must_use]
    pub fn credential(&self, id: CredentialId) -> Option<&Secret> {
        self.credentials.get(id.index()).and_then(Option::as_ref)
    }

    /// All masks by id, with their keys, as `mask::Plans` takes them.
    #[must_use]
    pub fn masks(&self) -> &[MaskSpec] {
        &self.masks
    }

    /// Of the webhooks, in their order.
    #[must_use]
    pub fn webhooks(&self) -> &[WebhookSecrets] {
        &self.webhooks
    }

    /// The fixed token of the admin address.
    #[must_use]
    pub fn admin_token(&self) -> Option<&Secret> {
        self.admin_token.as_ref()
    }

    /// The secret that the gateway shows to the issuer when a browser signs in.
    #[must_use]
    pub fn sign_in(&self) -> Option<&Secret> {
        self.sign_in.as_ref()
    }
}

impl Config {
    /// Opens every secret that is named.
    ///
    /// A file must not be readable by group or others. One line end at the end of a file is no
    /// part of the secret.
    ///
    /// # Errors
    /// Every secret that is missing, too short, too long, too open or not fit for where it goes. No
    /// message holds a byte of a secret.
    pub fn resolve_secrets(&self, source: &dyn Source) -> Result<Secrets, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let mut open = |secret: &SecretRef, fit: Fit| match resolve(secret, fit, source) {
            Ok(secret) => Some(secret),
            Err(error) => {
                errors.push(error);
                None
            }
        };
        let mut credentials = Vec::new();
        for credential in &self.credentials {
            let fit = fit(&credential.kind);
            credentials.push(credential.kind.secret().and_then(|secret| open(secret, fit)));
        }
        let mut masks = Vec::new();
        for mask in &self.masks {
            let key = mask.key.as_ref().and_then(|key| open(key, Fit::Any));
            let key = key.unwrap_or_else(|| Secret::new(Vec::new()));
            masks.push(MaskSpec { key, ..mask.spec.clone() });
        }
        let admin = self.admin.as_ref().and_then(|admin| admin.token.as_ref());
        let admin_token = admin.and_then(|token| open(token, Fit::Header));
        let sign_in = self.admin.as_ref().and_then(|admin| admin.sign_in.as_ref());
        let sign_in = sign_in.and_then(|one| one.client_secret.as_ref());
        let sign_in = sign_in.and_then(|secret| open(secret, Fit::Any));
        let mut webhooks = Vec::new();
        for hook in &self.webhooks {
            let url = match &hook.url {
                WebhookUrl::Plain(text) => Some(Secret::new(text.clone().into_bytes())),
                WebhookUrl::Secret(secret) => open(secret, Fit::Header),
            };
            let keys = hook.secret.iter().chain(&hook.previous_secret);
            let keys = keys.filter_map(|key| open(key, Fit::Key)).collect();
            let signing = hook.signing_secret.as_ref().and_then(|key| open(key, Fit::Key));
            webhooks.extend(url.map(|url| WebhookSecrets { url, keys, signing }));
        }
        let opened = self.webhooks.iter().zip(&webhooks);
        if errors.is_empty() {
            errors.extend(opened.filter_map(|(hook, opened)| fault(hook, &opened.url)));
        }
        if errors.is_empty() {
            Ok(Secrets { credentials, masks, admin_token, sign_in, webhooks })
        } else {
            Err(errors)
        }
    }

    /// Opens the secret of one credential; `None` for one of kind `none`, or of another config.
    ///
    /// # Errors
    /// As [`Self::resolve_secrets`].
    pub fn resolve_credential(
        &self,
        id: CredentialId,
        source: &dyn Source,
    ) -> Result<Option<Secret>, Diagnostic> {
        let Some(credential) = self.credentials.get(id.index()) else { return Ok(None) };
        let secret = credential.kind.secret();
        secret.map(|secret| resolve(secret, fit(&credential.kind), source)).transpose()
    }
}

fn fit(kind: &CredentialKind) -> Fit {
    match kind {
        CredentialKind::Basic { .. } => Fit::Any,
        CredentialKind::Password { .. } => Fit::Password,
        _ => Fit::Header,
    }
}

/// What a secret must be fit for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// It is encoded, or never sent.
    Any,
    /// It stands in a header as it is.
    Header,
    /// It goes before a zero byte.
    Password,
    /// It is the key of a signature; `whsec_` stands before one in base64.
    Key,
}

fn fault(hook: &Webhook, url: &Secret) -> Option<Diagnostic> {
    // What is no UTF-8 is no URL.
    hook.check_url(core::str::from_utf8(url.expose()).unwrap_or_default()).err()
}

fn resolve(secret: &SecretRef, fit: Fit, source: &dyn Source) -> Result<Secret, Diagnostic> {
    let wrong = |message: String, help: &str| secret.place.says(message, help);
    let (value, name) = match &secret.from {
        SecretFrom::Env(name) => {
            let value = source.env(name).ok_or_else(|| {
                wrong(format!("the variable {name} is not set"), "set it before `serve` starts")
            })?;
            (Secret::new(value.into_bytes()), format!("the variable {name}"))
        }
        SecretFrom::File(path) => {
            let name = format!("the file {}", path.display());
            let open = source.mode(path).is_some_and(|mode| mode & 0o077 != 0);
            if open {
                let help = format!("chmod 600 {}", path.display());
                return Err(wrong(format!("{name} is open to others"), &help));
            }
            let mut bytes =
                source.read(path).map_err(|error| wrong(format!("{name}: {error}"), ""))?;
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            (Secret::new(bytes), name)
        }
    };
    if value.len() < SECRET_LEN_MIN {
        let help = format!("a secret has at least {SECRET_LEN_MIN} bytes");
        return Err(wrong(format!("{name} holds {} bytes", value.len()), &help));
    }
    if value.len() > SECRET_LEN_MAX {
        let help = format!("a secret has at most {SECRET_LEN_MAX} bytes");
        return Err(wrong(format!("{name} holds {} bytes", value.len()), &help));
    }
    if fit == Fit::Key {
        let key = match value.expose().strip_prefix(b"whsec_") {
            Some(text) => Secret::new(STANDARD.decode(text).map_err(|_| {
                wrong(
                    format!("{name} holds no base64 behind `whsec_`"),
                    "as in `whsec_MfKQ9r8G...`",
                )
            })?),
            None => value,
        };
        if key.len() < KEY_LEN_MIN {
            let help = format!("a key of signatures has at least {KEY_LEN_MIN} bytes");
            return Err(wrong(format!("{name} holds a key of {} bytes", key.len()), &help));
        }
        return Ok(key);
    }
    let visible = |byte: &u8| (b' '..=b'~').contains(byte);
    if fit == Fit::Password && value.expose().contains(&0) {
        return Err(wrong(format!("{name} holds a zero byte"), "it would end the password there"));
    }
    if fit == Fit::Header && !value.expose().iter().all(visible) {
        return Err(wrong(
            format!("{name} holds a byte that cannot be in a header"),
            "printable ASCII, in one line",
        ));
    }
    Ok(value)
}
