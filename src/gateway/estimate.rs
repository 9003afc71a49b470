//! The plan of a held statement, asked of its database by the credential that it would run under.

use super::Live;
use crate::config::{Config, CredentialKind, Resource, Source};
use crate::control::database::Target;
use crate::control::database::plan::{Estimate, Login, estimate};
use crate::policy::approval::{Ask, Statement};
use crate::runtime::{Opening, upstream_tls};
use rustls_pki_types::ServerName;

/// Where a database is, as the gateway connects to it.
///
/// # Errors
/// What is wrong with its TLS, for people.
pub fn database_target(resource: &Resource, source: &dyn Source) -> Result<Target, String> {
    let tls = match &resource.tls {
        None => None,
        Some(tls) => {
            let read = |path: &std::path::PathBuf| {
                source.read(path).map_err(|error| format!("{}: {error}", path.display()))
            };
            let ca = tls.ca.as_ref().map(read).transpose()?;
            let config = upstream_tls(ca.as_deref(), Opening::Postgres)
                .map_err(|error| error.to_string())?;
            let name =
                ServerName::try_from(tls.server_name.clone()).map_err(|error| error.to_string())?;
            Some((config, name))
        }
    };
    Ok(Target {
        host: resource.upstream.host.clone(),
        port: resource.upstream.port,
        database: resource.database.clone(),
        tls,
        auth: resource.auth,
    })
}

/// Blocks until the database has answered.
pub(super) fn plan(live: &Live, ask: &Ask, statement: &Statement) -> Result<Estimate, String> {
    let config = live.config();
    let resource = config.resources.iter().find(|one| *one.name == *ask.resource);
    let resource = resource.ok_or("the resource is gone")?;
    let login = login(&config, resource, ask, &*live.source)?;
    let target = database_target(resource, &*live.source)?;
    estimate(&target, login, statement).map_err(|error| error.to_string())
}

fn login(
    config: &Config,
    resource: &Resource,
    ask: &Ask,
    source: &dyn Source,
) -> Result<Login, String> {
    let id = match &ask.credential {
        None => resource.credential,
        Some(name) => {
            let place = config.credentials.iter().position(|one| *one.name == **name);
            let place = place.and_then(|place| u16::try_from(place).ok());
            crate::base::CredentialId(place.ok_or("the credential is gone")?)
        }
    };
    let spec = config.credentials.get(id.index()).ok_or("the credential is gone")?;
    let CredentialKind::Password { user, role, .. } = &spec.kind else {
        return Err("the credential is no password".to_owned());
    };
    let secret = config.resolve_credential(id, source);
    let secret = secret.map_err(|_| "the credential's secret cannot be read")?;
    Ok(Login {
        user: user.clone(),
        secret: secret.ok_or("the credential has no secret")?,
        role: role.clone(),
    })
}
