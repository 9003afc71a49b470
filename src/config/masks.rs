//! `[[mask]]`: what is hidden, and how.

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Report, Spot, suggestion};
use super::settings::secret;
use super::types::MaskSettings;
use crate::base::{MaskSet, Secret};
use crate::mask::{
    ColumnName, Detector, JsonPath, Level, MaskSpec, Operator, Operators, Plan, detectors,
};
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
        report.error(spot, message, "the masks of a config must fit together in one plan");
    }
    masks
}

fn mask(section: &mut Section<'_>, name: &str, report: &mut Report) -> MaskSettings {
    let (spot, before) = (section.spot(), report.errors.len());
    let detect = detect(section, report);
    let fields = fields(section, report);
    let place = section.spot_of("columns").place();
    let columns = columns(section, report);
    let level = level(section, report);
    if !["detect", "fields", "columns"].into_iter().any(|key| section.has(key)) {
        report.error(
            spot,
            format!("mask `{name}` looks for nothing"),
            "write `detect = [..]`, `fields = [..]` or `columns = [..]`",
        );
    }
    let has_columns = section.has("columns");
    let operators = match section.table("operator", report) {
        Some(table) => operators(table, &detect, has_columns, report),
        None => Operators::default(),
    };
    let key = section.text("key", report).and_then(|text| secret(text, report));
    let hashes = operators
        .each
        .iter()
        .map(|(_, operator)| operator)
        .chain(&operators.default)
        .chain(&operators.fields)
        .chain(&operators.columns)
        .any(|operator| *operator == Operator::Hash);
    if hashes && !section.has("key") {
        report.error(
            spot,
            format!("mask `{name}` uses `hash` and has no `key`"),
            "write `key = \"env:VARIABLE\"` or `key = \"file:PATH\"`",
        );
    }
    let spec = MaskSpec {
        name: name.to_owned(),
        detect,
        fields,
        columns,
        level,
        operators,
        key: Secret::new(Vec::new()),
    };
    if before == report.errors.len()
        && let Err(message) = Plan::compile(&[keyed(&spec)])
    {
        report.error(spot, message, "");
    }
    MaskSettings { name: name.to_owned(), spec, key, place }
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

fn columns(section: &mut Section<'_>, report: &mut Report) -> Vec<ColumnName> {
    let mut columns = Vec::new();
    for text in section.texts("columns", report).unwrap_or_default() {
        match ColumnName::parse(text.text) {
            Ok(name) if columns.contains(&name) => {}
            Ok(name) => columns.push(name),
            Err(message) => {
                report.error(text.spot, message, "as in `public.customers.email`");
            }
        }
    }
    columns
}

fn level(section: &mut Section<'_>, report: &mut Report) -> Level {
    let Some(text) = section.text("level", report) else { return Level::default() };
    if !section.has("columns") {
        report.error(
            text.spot,
            "`level` is about `columns`, which the mask has not",
            "leave it out, or write `columns = [..]`",
        );
    }
    let words = Level::ALL.map(|level| (level.label(), level));
    choose("level of a mask", text, &words, report).unwrap_or_default()
}

fn operators(
    table: Section<'_>,
    detect: &[Detector],
    has_columns: bool,
    report: &mut Report,
) -> Operators {
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
            "columns" if has_columns => operators.columns = Some(operator),
            "columns" => report.error(
                key.spot,
                "an operator for `columns`, which the mask has not",
                "write `columns = [..]`, or leave the operator out",
            ),
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
            known.extend(["fields", "columns", "default"]);
            report.error(
                key.spot,
                format!("unknown key `{}` in `operator`", key.text),
                suggestion(key.text, &known),
            );
        }
    }
}
