//! A rule that cannot be enforced on a resource that it meets is refused.

use super::Around;
use crate::base::ResourceId;
use crate::config::report::{Report, Spot};
use crate::config::types::{CredentialKind, Protocol, Resource};
use crate::policy::RuleSpec;

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
    let tcp = |found: &&Resource| found.protocol == Protocol::Tcp;
    for found in named.iter().filter_map(|id| resource(*id)).filter(tcp) {
        let what = [
            ("method", spec.what.method.is_some()),
            ("path", spec.what.path.is_some()),
            ("model", spec.what.model.is_some()),
        ];
        for (key, _) in what.iter().filter(|(_, named)| *named) {
            report.error(
                spot,
                format!("rule `{}`: `{}` has no `{key}`", spec.id, found.name),
                "it speaks tcp: leave the resource out of this rule",
            );
        }
    }
    // Bytes have no method, path or model, so a rule that names one never meets them.
    let meets_tcp =
        spec.what.method.is_none() && spec.what.path.is_none() && spec.what.model.is_none();
    let covers = |id: &ResourceId| spec.what.resource.as_ref().is_none_or(|all| all.contains(id));
    let met = (0..around.resources.len())
        .filter_map(|place| u16::try_from(place).ok().map(ResourceId))
        .filter(covers)
        .filter_map(resource)
        .find(tcp);
    if let (true, Some(found)) = (meets_tcp, met) {
        let credential = spec.then.credential.and_then(|id| around.credentials.get(id.index()));
        let places = credential.is_some_and(|one| one.kind != CredentialKind::None);
        let wrong = [
            (!spec.then.masks.is_empty(), "`mask` cannot be enforced"),
            (places, "`credential` has no place"),
        ];
        for (_, what) in wrong.iter().filter(|(wrong, _)| *wrong) {
            report.error(
                then_spot,
                format!("rule `{}`: {what} on the tcp resource `{}`", spec.id, found.name),
                "name the http resources that are meant by `what = { resource = [..] }`",
            );
        }
    }
}
