//! From a config with its secrets to what the workers decide by and connect to.

use super::StartError;
use crate::base::{CredentialId, Limits, Protocol, ResourceId};
use crate::config::{
    Config, CredentialKind, Listener, Resource, SecretFrom, Secrets, Source, WebhookUrl,
};
use crate::credential::{Credential, Form};
use crate::identity::CertificateRules;
use crate::mask::Plans;
use crate::runtime::{Opening, Upstream, Upstreams, listener_tls, upstream_tls};
use crate::session::{ListenerView, ResourceView, Snapshot};
use ahash::AHashMap;
use rustls::ServerConfig;
use rustls_pki_types::ServerName;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that the sessions decide by.
pub(super) fn snapshot(
    config: &Config,
    secrets: &Secrets,
    generation: u64,
) -> Result<Snapshot, StartError> {
    let credentials = config
        .credentials
        .iter()
        .enumerate()
        .map(|(place, spec)| {
            let id = u16::try_from(place).map(CredentialId).map_err(|_| StartError::Secret)?;
            let secret = || secrets.credential(id).cloned().ok_or(StartError::Secret);
            let form = match &spec.kind {
                CredentialKind::Bearer { .. } => Form::Bearer(secret()?),
                CredentialKind::Header { name, prefix, .. } => {
                    Form::Header { name: name.clone(), prefix: prefix.clone(), secret: secret()? }
                }
                CredentialKind::Basic { user, .. } => {
                    Form::Basic { user: user.clone(), secret: secret()? }
                }
                CredentialKind::Password { user, role, .. } => {
                    Form::Password { user: user.clone(), secret: secret()?, role: role.clone() }
                }
                CredentialKind::None => Form::None,
            };
            Ok(Credential::new(spec.name.clone(), &form))
        })
        .collect::<Result<_, StartError>>()?;
    let plans = Plans::new(secrets.masks().to_vec()).map_err(StartError::Mask)?;
    Ok(Snapshot {
        generation,
        limits: config.limits.clone(),
        on_full: config.record.on_full,
        verifier: config.verifier(),
        policy: config.table.clone().with_generation(generation),
        plans,
        resources: config.resources.iter().map(resource_view).collect(),
        names: speaking(config, Protocol::Http),
        databases: speaking(config, Protocol::Postgres),
        listeners: config.listeners.iter().map(listener_view).collect(),
        credentials,
        public_url: config.admin.as_ref().and_then(|admin| admin.public_url.clone()),
    })
}

fn resource_view(resource: &Resource) -> ResourceView {
    ResourceView {
        name: resource.name.clone(),
        protocol: resource.protocol,
        shape: resource.shape,
        credential: resource.credential,
        base_path: resource.upstream.base_path.clone(),
        authority: resource.upstream.authority.clone(),
        body_max: resource.limits.body_max,
        cookies: false,
        database: resource.database.clone(),
        auth: resource.auth,
        sql_text_max: resource.limits.sql_text_max,
        message_max: resource.limits.message_max,
    }
}

/// The resources that speak `protocol`, by name. A caller of one protocol finds none of another.
fn speaking(config: &Config, protocol: Protocol) -> AHashMap<String, ResourceId> {
    let places = (0u16..).map(ResourceId).zip(&config.resources);
    places
        .filter(|(_, resource)| resource.protocol == protocol)
        .map(|(id, resource)| (resource.name.clone(), id))
        .collect()
}

/// How TLS begins on a connection of a protocol.
pub(super) fn opening(protocol: Protocol) -> Opening {
    match protocol {
        Protocol::Postgres => Opening::Postgres,
        Protocol::Http | Protocol::Tcp => Opening::Direct,
    }
}

fn listener_view(listener: &Listener) -> ListenerView {
    ListenerView {
        name: listener.name.clone(),
        protocol: listener.protocol,
        secure: listener.tls.is_some(),
        oauth: listener.login == crate::config::Login::OauthBearer,
        resource: listener.resource,
        hosts: listener.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
    }
}

/// Where the resources are, with the TLS that each asks for.
pub(super) fn upstreams(
    config: &Config,
    source: &dyn Source,
    generation: u64,
) -> Result<Upstreams, StartError> {
    let each = config.resources.iter().map(|resource| upstream(resource, source));
    Ok(Upstreams::new(generation, each.collect::<Result<_, _>>()?))
}

/// Where one resource is.
pub(super) fn upstream(resource: &Resource, source: &dyn Source) -> Result<Upstream, StartError> {
    let opening = opening(resource.protocol);
    let wrong = |error: &dyn std::fmt::Display| {
        StartError::Tls(format!("resource `{}`: {error}", resource.name))
    };
    let tls = match &resource.tls {
        None => None,
        Some(tls) => {
            let ca = tls.ca.as_deref().map(|path| read(source, path)).transpose()?;
            let made = upstream_tls(ca.as_deref(), opening).map_err(|error| wrong(&error))?;
            let name =
                ServerName::try_from(tls.server_name.clone()).map_err(|error| wrong(&error))?;
            Some((made, name))
        }
    };
    let (host, port) = (resource.upstream.host.clone(), resource.upstream.port);
    Ok(Upstream { host, port, tls, opening })
}

/// What a listener shows.
pub(super) fn server(
    listener: &Listener,
    source: &dyn Source,
) -> Result<Option<Arc<ServerConfig>>, StartError> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let (cert, key) = (read(source, &tls.cert)?, read(source, &tls.key)?);
    let ca = tls.client_ca.as_deref().map(|path| read(source, path)).transpose()?;
    listener_tls(&cert, &key, ca.as_deref(), opening(listener.protocol))
        .map(Some)
        .map_err(|error| StartError::Tls(format!("listener `{}`: {error}", listener.name)))
}

/// The issuer of a listener's client certificates: the one whose CA file the listener names.
pub(super) fn certificate_rules(config: &Config, listener: &Listener) -> Option<CertificateRules> {
    let ca = listener.tls.as_ref()?.client_ca.as_ref()?;
    let mut issuers = config.certificate_issuers.iter();
    issuers.find(|issuer| issuer.ca == *ca).map(|issuer| issuer.rules.clone())
}

/// Names that must be resolved.
pub(super) fn names(config: &Config) -> Vec<String> {
    config.resources.iter().map(|resource| resource.upstream.host.clone()).collect()
}

/// The bounds of the workers' sockets.
pub(super) fn limits(config: &Config) -> Limits {
    config.limits.clone()
}

pub(super) fn read(source: &dyn Source, path: &Path) -> Result<Vec<u8>, StartError> {
    source
        .read(path)
        .map_err(|error| StartError::File { path: path.to_owned(), error: error.to_string() })
}

/// Files whose change is picked up while running: certificates and secrets of every kind.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for tls in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        files.extend([tls.cert.clone(), tls.key.clone()]);
        files.extend(tls.client_ca.clone());
    }
    files.extend(config.resources.iter().filter_map(|one| one.tls.as_ref()?.ca.clone()));
    let credentials = config.credentials.iter().filter_map(|spec| spec.kind.secret());
    let masks = config.masks.iter().filter_map(|mask| mask.key.as_ref());
    let admin = config.admin.iter().filter_map(|admin| admin.token.as_ref());
    let sign_in = config.admin.iter().filter_map(|admin| admin.sign_in.as_ref());
    let sign_in = sign_in.filter_map(|one| one.client_secret.as_ref());
    let hooks = config.webhooks.iter().flat_map(|hook| {
        let url = match &hook.url {
            WebhookUrl::Secret(secret) => Some(secret),
            WebhookUrl::Plain(_) => None,
        };
        let keys = [&hook.secret, &hook.previous_secret, &hook.signing_secret];
        keys.into_iter().flatten().chain(url)
    });
    files.extend(config.webhooks.iter().filter_map(|hook| hook.ca.clone()));
    let secrets = credentials.chain(masks).chain(admin).chain(sign_in).chain(hooks);
    files.extend(secrets.filter_map(|secret| match &secret.from {
        SecretFrom::File(path) => Some(path.clone()),
        SecretFrom::Env(_) => None,
    }));
    files
}
