//! `[[rule]]` and `[[case]]`: names become ids, and what cannot be enforced is refused.

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Place, Report, Spot, suggestion};
use super::types::{
    CertificateIssuer, CredentialKind, CredentialSpec, Protocol, Resource, TokenIssuer,
};
use crate::base::{CredentialId, IssuerId, MaskId, MaskSet, ResourceId};
use crate::policy::{
    Case, CaseAction, CaseWho, Durable, Effect, Expect, Pattern, RecordLevel, RuleFault, RuleSpec,
    Table, Then, What, WhoRule,
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
                let said = matches!(error.fault, RuleFault::DuplicateId | RuleFault::NoId);
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
    if text.text == "require_approval" {
        report.error(
            text.spot,
            "effect `require_approval` is not in this build",
            "known: allow, deny",
        );
        return None;
    }
    choose("effect", text, &[("allow", Effect::Allow), ("deny", Effect::Deny)], report)
}

fn rule(
    section: &mut Section<'_>,
    id: String,
    effect: Effect,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> RuleSpec {
    let mut spec = RuleSpec::new(id, effect);
    if effect == Effect::Allow && !section.has("who") {
        report.warn(
            section.spot(),
            format!("rule `{}` allows every caller with a valid token", spec.id),
            "write `who = { .. }`, or `who = {}` if that is meant",
        );
    }
    if let Some(table) = section.table("who", report) {
        spec.who = who(table, around, report);
    }
    let mut named = Vec::new();
    if let Some(table) = section.table("what", report) {
        (spec.what, named) = what(table, around, report);
    }
    section.refuse("when", "leave it out: times and addresses are not decided on", report);
    let then_spot = section.spot_of("then");
    if let Some(table) = section.table("then", report) {
        if effect == Effect::Deny {
            report.error(then_spot, "a deny rule has no `then`", "nothing happens after a deny");
        } else {
            spec.then = then(table, around, report);
        }
    }
    enforceable(&spec, &named, section.spot(), then_spot, around, report);
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
    };
    for key in ["node", "run", "thread"] {
        if let Some(field) = table.field(key) {
            report.error(
                field.spot,
                format!("`{key}` is not enforced by this build"),
                "leave it out: a rule that is not enforced would promise too much",
            );
        }
    }
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
    for key in ["statement", "table", "reads", "writes", "column", "function", "where"] {
        table.refuse(key, "it is about databases: leave the rule out", report);
    }
    table.finish(report);
    let what = What {
        resource: resource.filter(|list| !list.is_empty()),
        method: patterns(method),
        path: patterns(path),
        model: patterns(model),
    };
    (what, named)
}

fn then(mut table: Section<'_>, around: &Around<'_, '_>, report: &mut Report) -> Then {
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
    table.refuse("approval", "leave it out: it belongs to `require_approval`", report);
    table.finish(report);
    then
}

/// A rule whose effect or obligation cannot hold on a resource would promise what is not done.
fn enforceable(
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

pub(super) fn cases(
    sections: Vec<Section<'_>>,
    rule_names: &Names<'_>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Vec<(Case, Place)> {
    let mut cases = Vec::new();
    for mut section in sections {
        let place = section.spot().place();
        let case = case(&mut section, rule_names, around, report);
        section.finish(report);
        cases.extend(case.map(|case| (case, place)));
    }
    cases
}

fn case(
    section: &mut Section<'_>,
    rule_names: &Names<'_>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Option<Case> {
    let expect = section.required("expect", report).and_then(|text| {
        if text.text == "require_approval" {
            report.error(
                text.spot,
                "`require_approval` is not in this build",
                "expect `allow` or `deny`",
            );
            return None;
        }
        choose("expectation", text, &[("allow", Expect::Allow), ("deny", Expect::Deny)], report)
    });
    let who = match section.table("who", report) {
        Some(table) => case_who(table, around, report),
        None => CaseWho { issuer: only_issuer(around), ..CaseWho::default() },
    };
    if !section.has("what") {
        section.missing("what", report);
    }
    let action = section.table("what", report).and_then(|what| case_what(what, around, report));
    let rule = section.text("rule", report).map(|text| {
        rule_names.refer(text, report);
        text.text.to_owned()
    });
    Some(Case { who, action: action?, expect: expect?, rule })
}

/// A case that names no issuer means the only one.
fn only_issuer(around: &Around<'_, '_>) -> Option<IssuerId> {
    match (around.token_issuers, around.certificate_issuers) {
        ([_], []) => Some(IssuerId(0)),
        ([], [only]) => Some(only.rules.issuer),
        _ => None,
    }
}

fn case_who(mut table: Section<'_>, around: &Around<'_, '_>, report: &mut Report) -> CaseWho {
    let owned = |text: Option<Text<'_>>| text.map(|text| text.text.to_owned());
    let iss = table.text("iss", report);
    let who = CaseWho {
        issuer: match iss {
            Some(text) => issuer(text, around, report),
            None => only_issuer(around),
        },
        sub: owned(table.text("sub", report)),
        groups: (table.texts("groups", report).unwrap_or_default().iter())
            .map(|text| text.text.into())
            .collect(),
        client_id: owned(table.text("client_id", report)),
        actors: (table.texts("actor", report).unwrap_or_default().iter())
            .map(|text| text.text.to_owned())
            .collect(),
    };
    table.finish(report);
    who
}

fn case_what(
    mut table: Section<'_>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Option<CaseAction> {
    let owned = |text: Option<Text<'_>>| text.map(|text| text.text.to_owned());
    let resource = table.required("resource", report);
    let resource = resource.and_then(|text| around.resource_names.refer(text, report));
    let mut unreadable = false;
    for text in table.texts("unreadable", report).unwrap_or_default() {
        unreadable |= choose("attribute", text, &[("model", ())], report).is_some();
    }
    let method = owned(table.text("method", report)).unwrap_or_default();
    let path = owned(table.text("path", report)).unwrap_or_default();
    let model = owned(table.text("model", report));
    for key in ["statement", "table", "reads", "writes", "column", "function", "where"] {
        table.refuse(key, "it is about databases: leave the case out", report);
    }
    table.finish(report);
    Some(CaseAction { resource: ResourceId(resource?), method, path, model, unreadable })
}
