//! `[[case]]`: what is asked, and what must be answered.

use super::enforce::word;
use super::{Around, issuer, sql};
use crate::base::{IssuerId, ResourceId};
use crate::config::names::Names;
use crate::config::reader::{Section, Text, choose};
use crate::config::report::{Place, Report};
use crate::config::types::Protocol;
use crate::policy::{Case, CaseAction, CaseWho, Expect};

pub(in crate::config) fn cases(
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
    let words = [Expect::Allow, Expect::RequireApproval, Expect::Deny];
    let words = words.map(|expect| (expect.name(), expect));
    let expect = section
        .required("expect", report)
        .and_then(|text| choose("expectation", text, &words, report));
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
        node: owned(table.text("node", report)),
        run: owned(table.text("run", report)),
        thread: owned(table.text("thread", report)),
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
    let spot = table.spot();
    let resource = table.required("resource", report);
    let resource = resource.and_then(|text| around.resource_names.refer(text, report));
    let mut unreadable = Vec::new();
    for text in table.texts("unreadable", report).unwrap_or_default() {
        let words = ["model", "table", "column", "function", "parameters"].map(|word| (word, word));
        unreadable.extend(choose("attribute", text, &words, report));
    }
    let mut here = |keys: &[&'static str]| -> Vec<&'static str> {
        let named = |key: &&'static str| table.has(key) || unreadable.contains(key);
        keys.iter().copied().filter(named).collect()
    };
    let http = here(&["method", "path", "model"]);
    let statement = here(&[
        "statement",
        "table",
        "access",
        "column",
        "function",
        "where",
        "multi_statement",
        "parameters",
    ]);
    let found = resource.and_then(|id| around.resources.get(usize::from(id))?.as_ref());
    if let Some(found) = found {
        let database = found.protocol == Protocol::Postgres;
        for key in if database { http } else { statement } {
            report.error(
                spot,
                format!("the case asks for `{key}`, which `{}` does not have", found.name),
                format!("it speaks {}", word(found.protocol)),
            );
        }
        if database && !table.has("statement") {
            table.missing("statement", report);
        }
    }
    let method = owned(table.text("method", report)).unwrap_or_default();
    let path = owned(table.text("path", report)).unwrap_or_default();
    let model = owned(table.text("model", report));
    let sql = sql::case(&mut table, &unreadable, report);
    table.finish(report);
    Some(CaseAction {
        resource: ResourceId(resource?),
        method,
        path,
        model,
        unreadable: unreadable.contains(&"model"),
        sql,
    })
}
