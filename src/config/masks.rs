//! `[[mask]]`: what is hidden, and how.

use super::names::Names;
use super::reader::{Section, Text};
use super::report::{Report, Spot, suggestion};
use super::settings::secret;
use super::types::MaskSettings;
use crate::base::{MaskSet, Secret};
use crate::mask::{Detector, JsonPath, MaskSpec, Operator, Operators, Plan, detectors};
use toml::de::DeValue;

pub(super) fn masks(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    report: &mut Report,
) -> Vec<MaskSettings> {
    let mut masks = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let spot = section.spot();
        if usize::from(place) == MaskSet::CAPACITY {
            let most = MaskSet::CAPACITY;
            report.error(spot, format!("more than {most} masks"), "join some of them");
        }
        masks.push(mask(&mut section, names.name(place), report));
        section.finish(report);
    }
    // Each union of masks is a plan of its own; if all of them together are one, each union is.
    let before = report.errors.is_empty();
    let all: Vec<MaskSpec> = masks.iter().map(|mask| keyed(&mask.spec)).collect();
    if let (true, Err(message)) = (before, Plan::compile(&all))
        && let Some(spot) = names.first_spot()
    {
        report.error(spot, message, "all masks together have too many field paths");
    }
    masks
}

fn mask(section: &mut Section<'_>, name: &str, report: &mut Report) -> MaskSettings {
    let (spot, before) = (section.spot(), report.errors.len());
    let detect = detect(section, report);
    let fields = fields(section, report);
    if detect.is_empty() && fields.is_empty() && !section.has("columns") {
        report.error(
            spot,
            format!("mask `{name}` looks for nothing"),
            "write `detect = [..]`, `fields = [..]` or both",
        );
    }
    section.refuse("columns", "database columns: leave it out", report);
    section.refuse("level", "it is about database columns: leave it out", report);
    let operators = match section.table("operator", report) {
        Some(table) => operators(table, &detect, report),
        None => Operators::default(),
    };
    let key = section.text("key", report).and_then(|text| secret(text, report));
    let hashes = operators
        .each
        .iter()
        .map(|(_, operator)| operator)
        .chain(&operators.default)
        .chain(&operators.fields)
        .any(|operator| *operator == Operator::Hash);
    if hashes && !section.has("key") {
        report.error(
            spot,
            format!("mask `{name}` uses `hash` and has no `key`"),
            "write `key = \"env:VARIABLE\"` or `key = \"file:PATH\"`",
        );
    }
    let spec = MaskSpec { name: name.to_owned(), detect, fields, operators, ..MaskSpec::default() };
    if before == report.errors.len()
        && let Err(message) = Plan::compile(&[keyed(&spec)])
    {
        report.error(spot, message, "");
    }
    MaskSettings { name: name.to_owned(), spec, key }
}

/// With some key, so that a plan can be tried before secrets are resolved.
fn keyed(spec: &MaskSpec) -> MaskSpec {
    MaskSpec { key: Secret::new(vec![0; 32]), ..spec.clone() }
}

fn detect(section: &mut Section<'_>, report: &mut Report) -> Vec<Detector> {
    let mut detect = Vec::new();
    for text in section.texts("detect", report).unwrap_or_default() {
        match Detector::parse(text.text) {
            Ok(found) if detect.contains(&found) => {}
            Ok(found) => detect.push(found),
            Err(_) => {
                let known: Vec<&str> = detectors().iter().map(|one| one.name()).collect();
                report.error(
                    text.spot,
                    format!("there is no detector `{}`", text.text),
                    suggestion(text.text, &known),
                );
            }
        }
    }
    detect
}

fn fields(section: &mut Section<'_>, report: &mut Report) -> Vec<JsonPath> {
    let mut fields = Vec::new();
    for text in section.texts("fields", report).unwrap_or_default() {
        match JsonPath::parse(text.text) {
            Ok(path) => fields.push(path),
            Err(message) => {
                report.error(text.spot, message, "as in `$..ssn` or `$.user.email`");
            }
        }
    }
    fields
}

fn operators(table: Section<'_>, detect: &[Detector], report: &mut Report) -> Operators {
    let mut operators = Operators::default();
    for (key, value) in table.entries() {
        let DeValue::String(text) = value.get_ref() else {
            report.error(key.spot, format!("`{}` must be a string", key.text), "as in \"redact\"");
            continue;
        };
        let spot = Spot { offset: value.span().start, ..key.spot };
        let operator = match Operator::parse(text) {
            Ok(operator) => operator,
            Err(message) => {
                report.error(spot, message, "");
                continue;
            }
        };
        match key.text {
            "default" => operators.default = Some(operator),
            "fields" => operators.fields = Some(operator),
            "columns" => {
                report.error(key.spot, "`columns` is not in this build", "leave it out");
            }
            _ => of_detector(key, operator, detect, &mut operators, report),
        }
    }
    operators
}

fn of_detector(
    key: Text<'_>,
    operator: Operator,
    detect: &[Detector],
    operators: &mut Operators,
    report: &mut Report,
) {
    match Detector::parse(key.text) {
        Ok(detector) if detect.contains(&detector) => operators.each.push((detector, operator)),
        Ok(detector) => report.error(
            key.spot,
            format!("an operator for `{detector}`, which `detect` does not name"),
            format!("add \"{detector}\" to `detect`, or leave the operator out"),
        ),
        Err(_) => {
            let mut known: Vec<&str> = detectors().iter().map(|one| one.name()).collect();
            known.extend(["fields", "default"]);
            report.error(
                key.spot,
                format!("unknown key `{}` in `operator`", key.text),
                suggestion(key.text, &known),
            );
        }
    }
}
