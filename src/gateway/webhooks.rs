//! From `[[webhook]]` to what notices are sent by.

use super::{StartError, compile};
use crate::base::Protocol;
use crate::config::{Config, Secrets, Source};
use crate::control::notify::{Hook, Notifier};
use crate::runtime::upstream_tls;

/// The webhooks of a config, each with its client.
pub(super) fn hooks(
    config: &Config,
    secrets: &Secrets,
    source: &dyn Source,
) -> Result<Vec<Hook>, StartError> {
    let both = config.webhooks.iter().zip(secrets.webhooks());
    both.map(|(settings, secrets)| {
        let wrong = |error: &dyn std::fmt::Display| format!("webhook `{}`: {error}", settings.name);
        let ca = settings.ca.as_deref().map(|path| compile::read(source, path)).transpose()?;
        let tls = upstream_tls(ca.as_deref(), compile::opening(Protocol::Http))
            .map_err(|error| StartError::Tls(wrong(&error)))?;
        let hook = Hook::new(settings.clone(), secrets.clone(), (*tls).clone());
        hook.map_err(StartError::Webhook)
    })
    .collect()
}

/// Opens the outbox for a config that has webhooks. One that never had any has no outbox.
pub(super) fn open(notifier: &Notifier, config: &Config) -> Result<(), StartError> {
    if config.webhooks.is_empty() {
        return Ok(());
    }
    notifier.open().map_err(StartError::Outbox)
}

/// The same, and puts the webhooks in force.
pub(super) fn take_over(
    notifier: &Notifier,
    hooks: Vec<Hook>,
    config: &Config,
) -> Result<(), StartError> {
    open(notifier, config)?;
    notifier.set_hooks(hooks, public_url(config));
    Ok(())
}

/// Where people reach the admin surface.
pub(super) fn public_url(config: &Config) -> Option<String> {
    config.admin.as_ref().and_then(|admin| admin.public_url.clone())
}
