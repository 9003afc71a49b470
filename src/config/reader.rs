//! Reads typed values out of a TOML table and remembers which keys were asked for, so that a
//! key which nobody knows is an error.

use super::report::{File, Report, Spot, suggestion};
use std::ops::RangeInclusive;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A string with its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a> {
    pub(super) text: &'a str,
    pub(super) spot: Spot<'a>,
}

/// One table while it is being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    file: &'a File,
    /// How it is called in messages: `[[listener]]`, `tls`.
    name: String,
    spot: Spot<'a>,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

/// A value with its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) key: &'static str,
    pub(super) spot: Spot<'a>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        file: &'a File,
        name: impl Into<String>,
        offset: usize,
        table: &'a DeTable<'a>,
    ) -> Self {
        Self { file, name: name.into(), spot: Spot { file, offset }, table, known: Vec::new() }
    }

    pub(super) fn spot(&self) -> Spot<'a> {
        self.spot
    }

    pub(super) fn file(&self) -> &'a File {
        self.file
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The value of a key, which is known from here on.
    pub(super) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let (key_spanned, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        let spot = Spot { file: self.file, offset: key_spanned.span().start };
        Some(Field { key, spot, value: value.get_ref() })
    }

    /// Whether a key is written, without a look at its value.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.field(key).is_some()
    }

    /// Place of a key, or of the table where the key is not written.
    pub(super) fn spot_of(&mut self, key: &'static str) -> Spot<'a> {
        self.field(key).map_or(self.spot, |field| field.spot)
    }

    pub(super) fn text(&mut self, key: &'static str, report: &mut Report) -> Option<Text<'a>> {
        let field = self.field(key)?;
        match field.value {
            DeValue::String(text) => Some(Text { text, spot: field.spot }),
            other => wrong_type(field, "a string", other, report),
        }
    }

    pub(super) fn required(&mut self, key: &'static str, report: &mut Report) -> Option<Text<'a>> {
        if !self.has(key) {
            self.missing(key, report);
        }
        self.text(key, report)
    }

    pub(super) fn missing(&self, key: &str, report: &mut Report) {
        report.error(
            self.spot,
            format!("{} needs `{key}`", self.name),
            format!("write `{key} = ...` in it"),
        );
    }

    /// A list of strings; one string is a list of one. A list without entries is an error.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        report: &mut Report,
    ) -> Option<Vec<Text<'a>>> {
        let field = self.field(key)?;
        let list = match field.value {
            DeValue::String(text) => return Some(vec![Text { text, spot: field.spot }]),
            DeValue::Array(list) => list,
            other => return wrong_type(field, "a list of strings", other, report),
        };
        if list.is_empty() {
            report.error(
                field.spot,
                format!("`{key}` is an empty list"),
                format!("name something, or leave `{key}` out"),
            );
            return None;
        }
        let mut texts = Vec::with_capacity(list.len());
        for entry in list.iter() {
            let spot = Spot { file: self.file, offset: entry.span().start };
            match entry.get_ref() {
                DeValue::String(text) => texts.push(Text { text, spot }),
                other => {
                    let field = Field { spot, ..field };
                    wrong_type::<()>(field, "a list of strings", other, report);
                }
            }
        }
        Some(texts)
    }

    pub(super) fn flag(&mut self, key: &'static str, report: &mut Report) -> Option<bool> {
        let field = self.field(key)?;
        match field.value {
            DeValue::Boolean(value) => Some(*value),
            other => wrong_type(field, "true or false", other, report),
        }
    }

    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        report: &mut Report,
    ) -> Option<u64> {
        let field = self.field(key)?;
        let DeValue::Integer(integer) = field.value else {
            return wrong_type(field, "a whole number", field.value, report);
        };
        let value = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match value.filter(|value| range.contains(value)) {
            Some(value) => Some(value),
            None => {
                report.error(
                    field.spot,
                    format!("`{key}` is out of range"),
                    format!("write a number from {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    pub(super) fn table(&mut self, key: &'static str, report: &mut Report) -> Option<Section<'a>> {
        let field = self.field(key)?;
        match field.value {
            DeValue::Table(table) => {
                Some(Section::new(self.file, format!("`{key}`"), field.spot.offset, table))
            }
            other => wrong_type(field, "a table", other, report),
        }
    }

    /// `[[key]]` tables.
    pub(super) fn tables(&mut self, key: &'static str, report: &mut Report) -> Vec<Section<'a>> {
        let Some(field) = self.field(key) else { return Vec::new() };
        let DeValue::Array(list) = field.value else {
            wrong_type::<()>(field, &format!("a list of tables, `[[{key}]]`"), field.value, report);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(list.len());
        for entry in list.iter() {
            let offset = entry.span().start;
            match entry.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(self.file, format!("[[{key}]]"), offset, table));
                }
                other => {
                    let field = Field { spot: Spot { file: self.file, offset }, ..field };
                    wrong_type::<()>(field, "a table", other, report);
                }
            }
        }
        sections
    }

    /// The keys as written, with their places and values; for tables with free keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Text<'a>, &'a Spanned<DeValue<'a>>)> {
        let (file, table) = (self.file, self.table);
        table.iter().map(move |(key, value)| {
            let spot = Spot { file, offset: key.span().start };
            (Text { text: key.get_ref(), spot }, value)
        })
    }

    /// Says that a key is known to the design and not to this build.
    pub(super) fn refuse(&mut self, key: &'static str, help: &str, report: &mut Report) {
        if let Some(field) = self.field(key) {
            report.error(field.spot, format!("`{key}` is not in this build"), help);
        }
    }

    /// Ends the reading: what was not asked for is unknown.
    pub(super) fn finish(self, report: &mut Report) {
        #[cfg(test)]
        report.asked.extend(self.known.iter().map(|key| (self.name.clone(), *key)));
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let spot = Spot { file: self.file, offset: key.span().start };
                report.error(
                    spot,
                    format!("unknown key `{name}` in {}", self.name),
                    suggestion(name, &self.known),
                );
            }
        }
    }
}

fn wrong_type<T>(
    field: Field<'_>,
    expected: &str,
    found: &DeValue<'_>,
    report: &mut Report,
) -> Option<T> {
    report.error(
        field.spot,
        format!("`{}` must be {expected}, not {}", field.key, article(found.type_str())),
        "",
    );
    None
}

fn article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}

/// One of a few words.
pub(super) fn choose<T: Copy>(
    what: &str,
    text: Text<'_>,
    words: &[(&str, T)],
    report: &mut Report,
) -> Option<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.text) {
        return Some(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    report.error(
        text.spot,
        format!("`{}` is no {what} of this build", text.text),
        suggestion(text.text, &known),
    );
    None
}
