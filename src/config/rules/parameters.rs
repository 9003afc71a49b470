//! `parameters = { "1" = ["eu-*"] }` of rules, and `parameters = { "1" = "eu-1" }` of cases.

use crate::config::reader::{Section, Text};
use crate::config::report::{Report, Spot};
use crate::policy::{CaseParameters, Pattern};
use toml::de::DeValue;

const HELP: &str =
    "write the number of a parameter and its patterns: `{ \"1\" = [\"eu-*\"] }` is about $1";

/// The patterns of a rule by the numbers of the parameters.
pub(super) fn rule(table: &mut Section<'_>, report: &mut Report) -> Vec<(u16, Vec<Pattern>)> {
    let mut named = Vec::new();
    for (number, spot, texts) in entries(table, report) {
        if texts.is_empty() {
            report.error(spot, format!("`parameters` says nothing of ${number}"), HELP);
        }
        named.push((number, texts.iter().map(Pattern::new).collect()));
    }
    named
}

/// The values of a case; none where the case does not give them.
pub(super) fn case(
    table: &mut Section<'_>,
    unreadable: bool,
    report: &mut Report,
) -> CaseParameters {
    let mut values = Vec::new();
    for (number, spot, texts) in entries(table, report) {
        let [text] = texts.as_slice() else {
            report.error(
                spot,
                format!("${number} of a case is one value"),
                "as in `{ \"1\" = \"eu-1\" }`",
            );
            continue;
        };
        values.push((number, text.as_bytes().into()));
    }
    if unreadable { CaseParameters::Unreadable } else { CaseParameters::Known(values) }
}

/// Each number with what stands behind it: one string, or a list of them.
fn entries<'a>(
    section: &mut Section<'a>,
    report: &mut Report,
) -> Vec<(u16, Spot<'a>, Vec<&'a str>)> {
    let spot = section.spot_of("parameters");
    let Some(table) = section.table("parameters", report) else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in table.entries() {
        let Some(number) = number(key) else {
            let message = format!("`{}` is no number of a parameter", key.text.escape_default());
            report.error(key.spot, message, HELP);
            continue;
        };
        let texts = match value.get_ref() {
            DeValue::String(text) => Some(vec![&**text]),
            DeValue::Array(list) => list
                .iter()
                .map(|one| match one.get_ref() {
                    DeValue::String(text) => Some(&**text),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        match texts {
            Some(texts) => found.push((number, key.spot, texts)),
            None => report.error(key.spot, format!("`{number}` must be a list of strings"), HELP),
        }
    }
    if table.entries().next().is_none() {
        report.error(spot, "`parameters` names none", HELP);
    }
    found.sort_by_key(|(number, ..)| *number);
    found
}

/// As the text of a statement has it behind the `$`.
fn number(key: Text<'_>) -> Option<u16> {
    let number = key.text.parse::<u16>().ok().filter(|number| *number > 0);
    number.filter(|number| number.to_string() == key.text)
}
