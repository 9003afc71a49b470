//! Column rules: which columns of a database are masked, by their names in its catalog.

use super::operator::{Act, Operator};
use std::fmt;

/// A column by the names of its schema, its table and itself: `public.customers.email`.
///
/// Each part is the name as the catalog has it, in the same case; one that holds a dot, a blank or
/// a quote stands in double quotes, a quote in it written twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ColumnName {
    schema: Box<str>,
    table: Box<str>,
    column: Box<str>,
}

/// Longest name in PostgreSQL (`NAMEDATALEN` - 1).
const NAME_LEN_MAX: usize = 63;
/// Columns of all masks together.
const COLUMNS_MAX: usize = 1_024;

impl ColumnName {
    /// Reads a name.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("column `{}`: {what}", text.escape_debug());
        let three = "it has three parts: schema, table and column";
        let (schema, rest) = part(text).map_err(|what| wrong(&what))?;
        let rest = rest.ok_or_else(|| wrong(three))?;
        let (table, rest) = part(rest).map_err(|what| wrong(&what))?;
        let rest = rest.ok_or_else(|| wrong(three))?;
        let (column, rest) = part(rest).map_err(|what| wrong(&what))?;
        if rest.is_some() {
            return Err(wrong(
                "it has more than three parts; leave the database out, and quote a part that \
                 holds a dot, as in `public.\"a.b\".email`",
            ));
        }
        if schema.starts_with("pg_") || &*schema == "information_schema" {
            return Err(wrong(
                "the system's own tables cannot be masked, for its views do not say what they \
                 read; deny the table by a rule",
            ));
        }
        Ok(Self { schema, table, column })
    }

    /// The schema's name.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The column's name.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, part) in [&self.schema, &self.table, &self.column].into_iter().enumerate() {
            if place > 0 {
                f.write_str(".")?;
            }
            if part.chars().any(is_special) {
                write!(f, "\"{}\"", part.replace('"', "\"\""))?;
            } else {
                f.write_str(part)?;
            }
        }
        Ok(())
    }
}

/// What stands in a name only between quotes: the dot that ends a part, what a reader would take for
/// a pattern, and what is not seen.
fn is_special(letter: char) -> bool {
    matches!(letter, '.' | '"' | '*' | '?' | '%') || letter.is_whitespace()
}

/// The next part of a name, and what follows its dot where there is one.
fn part(text: &str) -> Result<(Box<str>, Option<&str>), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(inner) => quoted(inner)?,
        None => {
            let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
            if name.contains(['*', '?', '%']) {
                return Err("there are no patterns here; name each column".to_owned());
            }
            if name.chars().any(is_special) {
                return Err(format!("write `\"{}\"` in quotes", name.replace('"', "\"\"")));
            }
            (name.to_owned(), rest)
        }
    };
    if name.is_empty() {
        return Err("a part is empty; write schema, table and column".to_owned());
    }
    if name.len() > NAME_LEN_MAX {
        return Err(format!("no name of a database is longer than {NAME_LEN_MAX} bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err("a name holds a control character".to_owned());
    }
    match rest.strip_prefix('.') {
        Some(rest) => Ok((name.into(), Some(rest))),
        None if rest.is_empty() => Ok((name.into(), None)),
        None => Err("behind a closing quote stands a dot, or nothing".to_owned()),
    }
}

/// A name up to its closing quote, and what is behind that.
fn quoted(inner: &str) -> Result<(String, &str), String> {
    let (mut name, mut rest) = (String::new(), inner);
    loop {
        let end = rest.find('"').ok_or("the closing quote is missing")?;
        name.push_str(rest.get(..end).unwrap_or_default());
        rest = rest.get(end + 1..).unwrap_or_default();
        match rest.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Ok((name, rest)),
        }
    }
}

/// What a mask of columns promises. None of them holds against somebody who writes hostile SQL:
/// only rights in the database itself do. They stop accidents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Level {
    /// A column is masked wherever it is given out as itself; what is computed of it is not.
    Direct,
    /// Besides, a statement that touches a table with masked columns gives out nothing computed.
    #[default]
    DerivedClosed,
    /// Besides, a statement uses no masked column otherwise than as an output.
    NoUse,
}

impl Level {
    /// All of them, the weakest first.
    pub const ALL: [Self; 3] = [Self::Direct, Self::DerivedClosed, Self::NoUse];

    /// The word of the config and of records.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::DerivedClosed => "derived-closed",
            Self::NoUse => "no-use",
        }
    }
}

/// A column, and what is put in the place of its values.
#[derive(Clone, Debug)]
pub struct ColumnRule {
    name: ColumnName,
    pub(super) act: Act,
}

impl ColumnRule {
    /// Which column.
    #[must_use]
    pub fn name(&self) -> &ColumnName {
        &self.name
    }

    /// How.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.act.operator
    }

    /// Whether it leaves less of a value than `other`.
    #[must_use]
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        self.act.operator.strictness() > other.act.operator.strictness()
    }
}

/// The column rules of a plan, each column once.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnRules {
    rules: Vec<ColumnRule>,
    level: Option<Level>,
}

impl ColumnRules {
    pub(super) fn rules(&self) -> &[ColumnRule] {
        &self.rules
    }

    /// The strictest level of the masks that have columns.
    pub(super) fn level(&self) -> Level {
        self.level.unwrap_or(Level::Direct)
    }

    /// Adds a rule; of two for one column the stricter stays, or the first.
    ///
    /// # Errors
    /// When there are too many.
    pub(super) fn add(&mut self, name: &ColumnName, act: Act, level: Level) -> Result<(), String> {
        self.level = self.level.max(Some(level));
        if let Some(rule) = self.rules.iter_mut().find(|rule| rule.name == *name) {
            if act.operator.strictness() > rule.act.operator.strictness() {
                rule.act = act;
            }
            return Ok(());
        }
        if self.rules.len() == COLUMNS_MAX {
            return Err(format!(
                "column `{name}`: all masks together have more than {COLUMNS_MAX} columns"
            ));
        }
        self.rules.push(ColumnRule { name: name.clone(), act });
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        for (text, schema, table, column) in [
            ("public.customers.email", "public", "customers", "email"),
            ("Sales.\"a.b\".\"e \"\"mail\"\"\"", "Sales", "a.b", "e \"mail\""),
            ("a-b.c$d.\u{e9}", "a-b", "c$d", "\u{e9}"),
            ("\"*\".\"?\".\"100%\"", "*", "?", "100%"),
        ] {
            let name = ColumnName::parse(text).unwrap();
            assert_eq!((name.schema(), name.table(), name.column()), (schema, table, column));
            assert_eq!(name.to_string(), text);
        }
        let same = ColumnName::parse("\"public\".\"t\".\"c\"").unwrap();
        assert_eq!(same, ColumnName::parse("public.t.c").unwrap());
    }

    #[test]
    fn an_unclear_name_is_explained() {
        let long = format!("a.b.{}", "c".repeat(64));
        for (text, says) in [
            ("email", "three parts"),
            ("customers.email", "three parts"),
            ("db.public.customers.email", "leave the database out"),
            ("public..email", "a part is empty"),
            ("public.t.", "a part is empty"),
            ("", "a part is empty"),
            ("public.\"\".c", "a part is empty"),
            ("public.customers.*", "no patterns"),
            ("public.cust%.email", "no patterns"),
            ("public.my table.c", "write `\"my table\"` in quotes"),
            ("public.a\"b.c", "write `\"a\"\"b\"` in quotes"),
            ("public.\"t.c", "closing quote is missing"),
            ("public.\"t\"x.c", "behind a closing quote"),
            ("public.t.\"a\u{0}b\"", "control character"),
            ("pg_catalog.pg_stats.most_common_vals", "deny the table"),
            ("information_schema.a.b", "deny the table"),
            (&long, "longer than 63 bytes"),
        ] {
            let message = ColumnName::parse(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn levels_are_in_the_order_of_their_strictness() {
        assert!(Level::NoUse > Level::DerivedClosed && Level::DerivedClosed > Level::Direct);
        assert_eq!(Level::default().label(), "derived-closed");
        assert_eq!(ColumnRules::default().level(), Level::Direct);
    }
}
