//! Names of things, their ids, and references to them.

use super::reader::{Section, Text};
use super::report::{Report, Spot, suggestion};

/// All names of one kind; an id is a place in the list.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// `resource`, as in `[[resource]]`.
    kind: &'static str,
    list: Vec<(String, Spot<'a>)>,
}

/// Longest name.
const NAME_LEN_MAX: usize = 64;

impl<'a> Names<'a> {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, list: Vec::new() }
    }

    /// Takes the names of all sections. A section without one still takes its place.
    pub(super) fn read(
        kind: &'static str,
        key: &'static str,
        sections: &mut [Section<'a>],
        report: &mut Report,
    ) -> Self {
        let mut names = Self::new(kind);
        for section in sections {
            let text = section.required(key, report);
            if let Some(text) = text {
                check_name(kind, key, text, report);
            }
            let spot = text.map_or(section.spot(), |text| text.spot);
            names.add(text.map_or("", |text| text.text), spot, report);
        }
        names
    }

    /// Adds a name; a second one of the same text is an error.
    pub(super) fn add(&mut self, name: &str, spot: Spot<'a>, report: &mut Report) -> u16 {
        if let Some((_, first)) =
            self.list.iter().find(|(known, _)| !name.is_empty() && known == name)
        {
            let first = first.place();
            report.error(
                spot,
                format!("a second [[{}]] is named `{name}`", self.kind),
                format!("the first is at {}:{}; rename one", first.file.display(), first.line),
            );
        }
        let id = u16::try_from(self.list.len()).unwrap_or(u16::MAX);
        if id == u16::MAX {
            report.error(spot, format!("too many [[{}]]", self.kind), "at most 65534");
        }
        self.list.push((name.to_owned(), spot));
        id
    }

    /// Says that a name of `other` is one of these too.
    pub(super) fn clashes(&self, name: &str, other: &Names<'_>, report: &mut Report) {
        let theirs = other.list.iter().find(|(known, _)| known == name);
        if let (Some(_), Some((_, spot))) = (self.find(name), theirs) {
            report.error(
                *spot,
                format!("a second [[{}]] is named `{name}`", self.kind),
                "rename one",
            );
        }
    }

    /// Where the first one stands.
    pub(super) fn first_spot(&self) -> Option<Spot<'a>> {
        self.list.first().map(|(_, spot)| *spot)
    }

    pub(super) fn name(&self, id: u16) -> &str {
        self.list.get(usize::from(id)).map_or("", |(name, _)| name)
    }

    pub(super) fn find(&self, name: &str) -> Option<u16> {
        let place = self.list.iter().position(|(known, _)| !name.is_empty() && known == name)?;
        u16::try_from(place).ok()
    }

    pub(super) fn all(&self) -> Vec<&str> {
        self.list.iter().map(|(name, _)| name.as_str()).filter(|name| !name.is_empty()).collect()
    }

    /// The id of what a text names; an error where nothing has the name.
    pub(super) fn refer(&self, text: Text<'_>, report: &mut Report) -> Option<u16> {
        let found = self.find(text.text);
        if found.is_none() {
            self.dangling(text, report);
        }
        found
    }

    pub(super) fn dangling(&self, text: Text<'_>, report: &mut Report) {
        let help = match self.all() {
            all if all.is_empty() => format!("there is no [[{}]] at all", self.kind),
            all => suggestion(text.text, &all),
        };
        report.error(text.spot, format!("no [[{}]] is named `{}`", self.kind, text.text), help);
    }
}

fn check_name(kind: &str, key: &str, text: Text<'_>, report: &mut Report) {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let starts = text.text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts || text.text.len() > NAME_LEN_MAX || !text.text.bytes().all(good) {
        report.error(
            text.spot,
            format!("`{}` is no `{key}` for a [[{kind}]]", text.text.escape_default()),
            "1 to 64 letters, digits, `-`, `_` and `.`, a letter or digit first",
        );
    }
}
