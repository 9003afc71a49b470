//! A rule that cannot be enforced on a resource that it meets is refused.

use super::Around;
use crate::base::ResourceId;
use crate::config::report::{Report, Spot};
use crate::config::types::{CredentialKind, Protocol, Resource};
use crate::policy::{Effect, RuleSpec, What};

/// A rule whose effect or obligation cannot hold on a resource would promise what is not done.
pub(super) fn enforceable(
    spec: &RuleSpec,
    named: &[ResourceId],
    spot: Spot<'_>,
    then_spot: Spot<'_>,
    around: &Around<'_, '_>,
    report: &mut Report,
) {
    let resource = |id: ResourceId| around.resources.get(id.index()).and_then(Option::as_ref);
    for found in named.iter().filter_map(|id| resource(*id)) {
        for (key, _) in keys(&spec.what).filter(|(_, of)| *of != found.protocol) {
            report.error(
                spot,
                format!("rule `{}`: `{}` has no `{key}`", spec.id, found.name),
                format!("it speaks {}: leave the resource out of this rule", word(found.protocol)),
            );
        }
    }
    if spec.who.names_asserted()
        && let Some(found) =
            named.iter().filter_map(|id| resource(*id)).find(|one| one.protocol == Protocol::Tcp)
    {
        report.error(
            spot,
            format!("rule `{}`: nobody says node, run or thread on `{}`", spec.id, found.name),
            "it speaks tcp: leave the resource out of this rule",
        );
    }
    // What a protocol does not have is absent there, so a rule that names it never meets it.
    let of = keys(&spec.what).next().map(|(_, protocol)| protocol);
    let covers = |id: &ResourceId| spec.what.resource.as_ref().is_none_or(|all| all.contains(id));
    let met: Vec<&Resource> = (0..around.resources.len())
        .filter_map(|place| u16::try_from(place).ok().map(ResourceId))
        .filter(covers)
        .filter_map(resource)
        .filter(|found| of.is_none_or(|of| of == found.protocol))
        .collect();
    let mut refuse = |found: &Resource, what: &str, help: &str| {
        let (id, protocol) = (&spec.id, word(found.protocol));
        report.error(
            then_spot,
            format!("rule `{id}`: {what} on the {protocol} resource `{}`", found.name),
            format!("name the {help} resources that are meant by `what = {{ resource = [..] }}`"),
        );
    };
    if spec.effect == Effect::RequireApproval
        && let Some(found) = met.iter().find(|found| !holds(found.protocol))
    {
        refuse(found, "`require_approval` cannot be enforced", "http and postgres");
    }
    if !spec.then.masks.is_empty()
        && let Some(found) = met.iter().find(|found| !masks(found.protocol))
    {
        refuse(found, "`mask` cannot be enforced", "http");
    }
    let credential = spec.then.credential.and_then(|id| around.credentials.get(id.index()));
    if let Some(credential) = credential
        && let Some(found) = met.iter().find(|found| !takes(found.protocol, &credential.kind))
    {
        let password = matches!(credential.kind, CredentialKind::Password { .. });
        let (what, help) = match found.protocol {
            Protocol::Postgres => ("`credential` must be of kind `password`", "http"),
            _ if password => ("`credential` of kind `password` has no place", "postgres"),
            _ => ("`credential` has no place", "http"),
        };
        refuse(found, what, help);
    }
}

/// The keys of a rule that only one protocol has, with that protocol.
fn keys(what: &What) -> impl Iterator<Item = (&'static str, Protocol)> {
    let keys = [
        ("method", Protocol::Http, what.method.is_some()),
        ("path", Protocol::Http, what.path.is_some()),
        ("model", Protocol::Http, what.model.is_some()),
        ("statement", Protocol::Postgres, what.statement.is_some()),
        ("table", Protocol::Postgres, what.table.is_some()),
        ("reads", Protocol::Postgres, what.reads.is_some()),
        ("writes", Protocol::Postgres, what.writes.is_some()),
        ("column", Protocol::Postgres, what.column.is_some()),
        ("function", Protocol::Postgres, what.function.is_some()),
        ("where", Protocol::Postgres, what.missing_where),
        ("multi_statement", Protocol::Postgres, what.multi_statement),
        ("parameters", Protocol::Postgres, !what.parameters.is_empty()),
    ];
    keys.into_iter().filter(|(_, _, named)| *named).map(|(key, of, _)| (key, of))
}

/// Whether what a rule asks about can wait for a person.
fn holds(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http | Protocol::Postgres => true,
        Protocol::Tcp => false,
    }
}

/// Whether a mask of a rule is kept.
fn masks(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Http | Protocol::Postgres => true,
        Protocol::Tcp => false,
    }
}

/// Whether a credential of a rule has a place.
fn takes(protocol: Protocol, kind: &CredentialKind) -> bool {
    let password = matches!(kind, CredentialKind::Password { .. });
    match protocol {
        Protocol::Http => !password,
        Protocol::Tcp => *kind == CredentialKind::None,
        Protocol::Postgres => password,
    }
}

/// The word in a config.
pub(super) fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::Postgres => "postgres",
    }
}
