//! What the catalog of a database says of masked columns, for who asks outside of a session: the
//! query and the reader are those that sessions mask by.

use super::columns::{self, Before, Reading};
use super::masking::before;
use super::refresh::place;
use crate::mask::Plan;
use crate::session::relations::Relations;

/// A masked column that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingColumn {
    /// `schema.table.column`.
    pub name: String,
    /// Whether its table is there.
    pub table: bool,
}

/// A masked column that has another name, and that its mask follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedColumn {
    /// `schema.table.column`, as the mask has it.
    pub name: String,
    /// As it is called, without quotes.
    pub now: String,
    /// Nothing has the name that the mask says.
    pub only: bool,
}

/// What the catalog says of the columns of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that are not there.
    pub missing: Vec<MissingColumn>,
    /// Those that are there by another name, too, or only.
    pub moved: Vec<MovedColumn>,
}

/// Asks the catalog of one database about the columns of a plan.
#[derive(Debug)]
pub struct CatalogQuery<'p> {
    plan: &'p Plan,
    known: Vec<Before>,
}

impl<'p> CatalogQuery<'p> {
    /// For the database that the upstream `authority` has; `relations` says where the columns were.
    #[must_use]
    pub fn new(plan: &'p Plan, authority: &str, database: &str, relations: &Relations) -> Self {
        Self { plan, known: before(plan, &place(authority, database), relations) }
    }

    /// The text, for the simple protocol; `None` where the plan has no columns. The connection's
    /// `client_encoding` must be UTF8.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        columns::query(self.plan.columns(), &self.known)
    }

    /// Reads the rows of the answer.
    ///
    /// # Errors
    /// The answer is not one: no session of this database could mask by it.
    pub fn read<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Found, String> {
        let unread = |error| format!("the catalog's answer cannot be used: {error:?}");
        let mut reading = Reading::new(self.plan.columns(), &self.known);
        for row in rows {
            reading.row(row).map_err(unread)?;
        }
        let known = reading.finish().map_err(unread)?;
        let name = |rule: usize| Some(self.plan.columns().get(rule)?.name().to_string());
        let missing = known.missing().iter().filter_map(|missing| {
            Some(MissingColumn { name: name(missing.rule)?, table: missing.table })
        });
        let moved = known.moved().iter().filter_map(|moved| {
            let now = moved.name.clone();
            Some(MovedColumn { name: name(moved.rule)?, now, only: moved.only })
        });
        Ok(Found { missing: missing.collect(), moved: moved.collect() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::session::postgres::columns::tests::plan;
    use crate::wire::postgres::write;

    fn row(cells: [&str; 7]) -> Vec<u8> {
        let cells = cells.map(|cell| (!cell.is_empty()).then_some(cell.as_bytes()));
        let mut message = Vec::new();
        write::data_row(&cells, &mut message);
        message.split_off(5)
    }

    #[test]
    fn columns_that_are_not_there_are_told_with_or_without_their_table() {
        let plan = plan(&["a.t.x", "a.t.gone", "a.nope.x"], "redact");
        let rows = [
            row(["rule", "0", "20000", "1", "", "", ""]),
            row(["rule", "1", "20000", "", "", "", ""]),
            row(["rule", "2", "", "", "", "", ""]),
            row(["column", "0", "20000", "1", "a", "t", "x"]),
            row(["newest", "", "20001", "", "", "", ""]),
        ];
        let asked = CatalogQuery::new(&plan, "db", "orders", &Relations::default());
        let found = asked.read(rows.iter().map(Vec::as_slice)).unwrap();
        let told: Vec<_> = found.missing.iter().map(|one| (one.name.as_str(), one.table)).collect();
        assert_eq!(told, [("a.t.gone", true), ("a.nope.x", false)]);
        assert!(found.moved.is_empty());
        assert!(asked.read([]).unwrap_err().contains("cannot be used"));
        assert!(asked.text().unwrap().contains("'gone'"));
    }

    #[test]
    fn a_column_that_has_another_name_is_told_by_both() {
        let plan = plan(&["a.t.x"], "redact");
        let relations = Relations::default();
        relations.learn("db/orders", "a.t.x", &[], &[(20_000, 1)]);
        let asked = CatalogQuery::new(&plan, "db", "orders", &relations);
        assert!(asked.text().unwrap().contains("(0, 20000, 1)"));
        let rows = [
            row(["rule", "0", "", "", "", "", ""]),
            row(["kept", "0", "20000", "1", "b", "u", "x"]),
            row(["column", "0", "20000", "1", "b", "u", "x"]),
            row(["newest", "", "20001", "", "", "", ""]),
        ];
        let found = asked.read(rows.iter().map(Vec::as_slice)).unwrap();
        assert!(found.missing.is_empty());
        let (name, now) = ("a.t.x".to_owned(), "b.u.x".to_owned());
        let moved = MovedColumn { name, now, only: true };
        assert_eq!(found.moved, [moved]);
    }
}
