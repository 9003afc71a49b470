//! What is wrong with a config, all of it, with file and line.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing to change in a config.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1; 1 also where the file as a whole is meant.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty where the message says it.
    pub help: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(f, "\n    {}", self.help) }
    }
}

/// A place in a config, kept for errors that are found later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: u32,
}

impl Place {
    /// A diagnostic about this place.
    #[must_use]
    pub fn says(&self, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        Diagnostic {
            file: self.file.clone(),
            line: self.line,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// A file with its text.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    /// A path that is written in this file: relative to the directory of the file.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }
}

/// A byte of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    pub(super) file: &'a File,
    pub(super) offset: usize,
}

impl Spot<'_> {
    pub(super) fn place(&self) -> Place {
        let before = self.file.text.as_bytes().iter().take(self.offset);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Place { file: self.file.path.clone(), line: u32::try_from(line).unwrap_or(u32::MAX) }
    }
}

/// Collects; nothing stops at the first error.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) errors: Vec<Diagnostic>,
    pub(super) warnings: Vec<Diagnostic>,
    /// Every key that is known, with the table it belongs to.
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<(String, &'static str)>,
}

impl Report {
    pub(super) fn error(
        &mut self,
        spot: Spot<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.errors.push(spot.place().says(message, help));
    }

    pub(super) fn warn(
        &mut self,
        spot: Spot<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.warnings.push(spot.place().says(message, help));
    }
}

/// How many known words a message lists.
const KNOWN_MAX: usize = 40;

/// What somebody probably meant, or all there is.
pub(super) fn suggestion(found: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (distance(found, word), word))
        .min()
        // Half of a word may be wrong, and three letters of a long one.
        .filter(|(distance, word)| *distance <= found.len().min(word.len()).div_ceil(2).min(3));
    let mut all = known.iter().take(KNOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    if known.len() > KNOWN_MAX {
        all.push_str(", ...");
    }
    match (near, known) {
        (_, []) => String::new(),
        (Some((_, word)), _) => format!("did you mean `{word}`? known: {all}"),
        (None, _) => format!("known: {all}"),
    }
}

/// Edits that turn one word into the other (Levenshtein), for short words.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for (j, (b, pair)) in other.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, above] = pair else { continue };
            let left = next.get(j).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(a != *b)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        for (one, other, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("lisener", "listener", 1),
            ("abc", "acb", 2),
        ] {
            assert_eq!(distance(one, other), edits, "{one} {other}");
        }
        assert!(
            suggestion("lisener", &["admin", "listener"]).starts_with("did you mean `listener`")
        );
        assert_eq!(suggestion("zzz", &["admin", "me"]), "known: admin, me");
        assert_eq!(suggestion("x", &[]), "");
    }

    #[test]
    fn lines_count_from_one() {
        let file = File { path: "x/y.toml".into(), text: "a\nbc\n\nd".to_owned() };
        for (offset, line) in [(0, 1), (1, 1), (2, 2), (5, 3), (6, 4), (99, 4)] {
            assert_eq!(Spot { file: &file, offset }.place().line, line);
        }
        assert_eq!(file.beside("k.pem"), Path::new("x/k.pem"));
        assert_eq!(file.beside("/k.pem"), Path::new("/k.pem"));
    }
}
