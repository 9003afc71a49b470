//! `[[rule]]` and `[[case]]`: names become ids, and what cannot be enforced is refused.

mod approval;
mod case;
mod enforce;
mod parameters;
mod sql;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub(super) use case::cases;

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Place, Report, suggestion};
use super::types::{CertificateIssuer, CredentialSpec, Resource, TokenIssuer};
use crate::base::{CredentialId, IssuerId, MaskId, MaskSet, ResourceId};
use crate::policy::{
    Durable, Effect, Pattern, RecordLevel, RuleFault, RuleSpec, Table, Then, What, WhoRule,
};

/// What rules may refer to.
pub(super) struct Around<'c, 'a> {
    pub(super) token_issuers: &'c [TokenIssuer],
    pub(super) certificate_issuers: &'c [CertificateIssuer],
    pub(super) resource_names: &'c Names<'a>,
    pub(super) resources: &'c [Option<Resource>],
    pub(super) mask_names: &'c Names<'a>,
    pub(super) credential_names: &'c Names<'a>,
    pub(super) credentials: &'c [CredentialSpec],
    /// Tokens of somebody count on the admin address.
    pub(super) people: bool,
}

/// Compiles all rules; an empty table, which denies everything, where there are errors.
pub(super) fn table(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> (Table, Vec<(String, Place)>) {
    let mut specs = Vec::new();
    let mut spots = Vec::new();
    let mut places = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let spot = section.spot_of("id");
        let id = names.name(place).to_owned();
        places.push((id.clone(), spot.place()));
        let effect = effect(&mut section, report);
        if section.has("effect") && effect.is_none() {
            continue;
        }
        let spec = rule(&mut section, id, effect.unwrap_or(Effect::Deny), around, report);
        section.finish(report);
        specs.push(spec);
        spots.push(spot);
    }
    match Table::compile(specs, around.resources.len(), 0) {
        Ok(table) => (table, places),
        Err(errors) => {
            for error in errors {
                // Names and references have been checked, with better words.
                let said = matches!(
                    error.fault,
                    RuleFault::DuplicateId | RuleFault::NoId | RuleFault::ApprovalWithoutEffect
                );
                if let (Some(spot), false) = (spots.get(error.rule), said) {
                    report.error(*spot, error.fault.to_string(), "");
                }
            }
            (Table::empty(), places)
        }
    }
}

fn effect(section: &mut Section<'_>, report: &mut Report) -> Option<Effect> {
    let text = section.required("effect", report)?;
    let words = [
        ("allow", Effect::Allow),
        ("require_approval", Effect::RequireApproval),
        ("deny", Effect::Deny),
    ];
    choose("effect", text, &words, report)
}

fn rule(
    section: &mut Section<'_>,
    id: String,
    effect: Effect,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> RuleSpec {
    let mut spec = RuleSpec::new(id, effect);
    if effect != Effect::Deny && !section.has("who") {
        report.warn(
            section.spot(),
            format!("rule `{}` is about every caller with a valid token", spec.id),
            "write `who = { .. }`, or `who = {}` if that is meant",
        );
    }
    if let Some(table) = section.table("who", report) {
        spec.who = who(table, around, report);
    }
    let mut named = Vec::new();
    if let Some(table) = section.table("what", report) {
        (spec.what, named) = what(table, effect, around, report);
    }
    section.refuse("when", "leave it out: times and addresses are not decided on", report);
    let then_spot = section.spot_of("then");
    if let Some(table) = section.table("then", report) {
        if effect == Effect::Deny {
            report.error(then_spot, "a deny rule has no `then`", "nothing happens after a deny");
        } else {
            spec.then = then(table, effect, around, report);
        }
    }
    if effect == Effect::RequireApproval && !section.has("then") {
        report.error(
            section.spot(),
            format!("rule `{}` says not who approves", spec.id),
            "write `then = { approval = { approvers = [\"..\"] } }`",
        );
    }
    if effect == Effect::Allow && spec.who.names_asserted() && !section.has("then") {
        report.error(
            section.spot(),
            format!("rule `{}` would do nothing", spec.id),
            "`node`, `run` and `thread` are what the caller only says: a rule that names them can \
             deny, or oblige by `then`, and permits nothing",
        );
    }
    if spec.then.approval.is_some() && !around.people {
        report.error(
            then_spot,
            format!("rule `{}`: nobody could approve", spec.id),
            "people approve at the admin address, by tokens of its issuer: write `[admin]` with \
             `address` and `issuer`",
        );
    }
    enforce::enforceable(&spec, &named, section.spot(), then_spot, around, report);
    spec
}

fn patterns(texts: Option<Vec<Text<'_>>>) -> Option<Vec<Pattern>> {
    texts.map(|texts| texts.iter().map(|text| Pattern::new(text.text)).collect())
}

fn who(mut table: Section<'_>, around: &Around<'_, '_>, report: &mut Report) -> WhoRule {
    let iss = table.texts("iss", report).map(|texts| {
        texts.into_iter().filter_map(|text| issuer(text, around, report)).collect::<Vec<_>>()
    });
    let who = WhoRule {
        // A reference that dangles has been reported; an empty list would be a second report.
        iss: iss.filter(|list| !list.is_empty()),
        sub: patterns(table.texts("sub", report)),
        groups: patterns(table.texts("groups", report)),
        not_groups: patterns(table.texts("not_groups", report)),
        client_id: patterns(table.texts("client_id", report)),
        actor: patterns(table.texts("actor", report)),
        node: patterns(table.texts("node", report)),
        run: patterns(table.texts("run", report)),
        thread: patterns(table.texts("thread", report)),
    };
    table.finish(report);
    who
}

/// An issuer by its name, or by what stands in `iss`.
fn issuer(text: Text<'_>, around: &Around<'_, '_>, report: &mut Report) -> Option<IssuerId> {
    let tokens = (0..).zip(around.token_issuers).find(|(_, issuer)| {
        !text.text.is_empty()
            && [&issuer.rules.name, &issuer.rules.issuer].contains(&&text.text.to_owned())
    });
    if let Some((id, _)) = tokens {
        return Some(IssuerId(id));
    }
    let mut certificates = around.certificate_issuers.iter();
    let found =
        certificates.find(|issuer| issuer.name == text.text || issuer.rules.iss == text.text);
    if found.is_none() {
        let known: Vec<&str> = (around.token_issuers.iter().map(|one| one.rules.name.as_str()))
            .chain(around.certificate_issuers.iter().map(|one| one.name.as_str()))
            .collect();
        report.error(
            text.spot,
            format!("no [[issuer]] is named `{}`", text.text),
            suggestion(text.text, &known),
        );
    }
    found.map(|issuer| issuer.rules.issuer)
}

/// The what-part, and the resources that it names by their full name.
fn what(
    mut table: Section<'_>,
    effect: Effect,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> (What, Vec<ResourceId>) {
    let mut named = Vec::new();
    let resource = table.texts("resource", report).map(|texts| {
        let mut ids = Vec::new();
        for text in texts {
            let pattern = Pattern::new(text.text);
            if pattern.is_exact() {
                named.extend(around.resource_names.refer(text, report).map(ResourceId));
                continue;
            }
            let before = ids.len();
            let all = (0..).zip(around.resources.iter());
            ids.extend(
                all.map(|(id, _)| ResourceId(id))
                    .filter(|id| pattern.matches(around.resource_names.name(id.0).as_bytes())),
            );
            if ids.len() == before {
                around.resource_names.dangling(text, report);
            }
        }
        ids.extend(&named);
        ids.sort();
        ids.dedup();
        ids
    });
    let method = table.texts("method", report);
    for text in method.iter().flatten() {
        let good = |b: u8| b.is_ascii_uppercase() || matches!(b, b'-' | b'_' | b'*' | b'?');
        if text.text.is_empty() || !text.text.bytes().all(good) {
            report.error(
                text.spot,
                format!("`{}` is no method", text.text.escape_default()),
                "methods are upper case, as in `GET`",
            );
        }
    }
    let path = table.texts("path", report);
    for text in path.iter().flatten() {
        if !text.text.starts_with(['/', '*', '?']) {
            report.error(
                text.spot,
                format!("`{}` matches no path", text.text.escape_default()),
                "a path begins with `/`, after the resource segment: `/v1/chat/completions`",
            );
        } else if text.text.contains("//") || text.text.split('/').any(|s| s == "." || s == "..") {
            report.error(
                text.spot,
                format!("`{}` matches no path", text.text.escape_default()),
                "paths are matched in canonical form, without `//`, `.` and `..`",
            );
        }
    }
    let model = table.texts("model", report);
    let statements = sql::rule(&mut table, effect, report);
    table.finish(report);
    let what = What {
        resource: resource.filter(|list| !list.is_empty()),
        method: patterns(method),
        path: patterns(path),
        model: patterns(model),
        ..statements
    };
    (what, named)
}

fn then(
    mut table: Section<'_>,
    effect: Effect,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Then {
    let mut then = Then::default();
    for text in table.texts("mask", report).unwrap_or_default() {
        if let Some(id) = around.mask_names.refer(text, report)
            && usize::from(id) < MaskSet::CAPACITY
        {
            then.masks = then.masks.with(MaskId(id));
        }
    }
    let words = [("full", RecordLevel::Full), ("meta", RecordLevel::Meta)];
    if let Some(text) = table.text("record", report) {
        then.record = choose("record level", text, &words, report).unwrap_or_default();
    }
    if let Some(text) = table.text("credential", report) {
        then.credential = around.credential_names.refer(text, report).map(CredentialId);
    }
    if let Some(text) = table.text("durable", report) {
        let durable = choose("`durable`", text, &[("each", Durable::Each)], report);
        then.durable = durable.unwrap_or_default();
    }
    if effect == Effect::RequireApproval {
        if !table.has("approval") {
            table.missing("approval", report);
        }
        let terms = table.table("approval", report);
        then.approval = terms.and_then(|terms| approval::approval(terms, report));
    } else if table.has("approval") {
        report.error(
            table.spot_of("approval"),
            "`approval` belongs to a rule with `effect = \"require_approval\"`",
            "",
        );
    }
    table.finish(report);
    then
}
