//! What the catalog of a database says of masked columns, for who asks outside of a session: the
//! query and the reader are those that sessions mask by.

use super::columns::{self, Reading};
use crate::mask::Plan;

/// A masked column that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingColumn {
    /// `schema.table.column`.
    pub name: String,
    /// Whether its table is there.
    pub table: bool,
}

/// The text that asks the catalog about the columns of a plan, for the simple protocol; `None` where
/// it has none. The connection's `client_encoding` must be UTF8.
#[must_use]
pub fn catalog_query(plan: &Plan) -> Option<String> {
    columns::query(plan.columns())
}

/// Reads the rows of the answer: which columns of the plan are not there.
///
/// # Errors
/// The answer is not one: no session of this database could mask by it.
pub fn missing_columns<'a>(
    plan: &Plan,
    rows: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<MissingColumn>, String> {
    let unread = |error| format!("the catalog's answer cannot be used: {error:?}");
    let mut reading = Reading::new(plan.columns());
    for row in rows {
        reading.row(row).map_err(unread)?;
    }
    let known = reading.finish().map_err(unread)?;
    let missing = known.missing().iter().filter_map(|missing| {
        let rule = plan.columns().get(missing.rule)?;
        Some(MissingColumn { name: rule.name().to_string(), table: missing.table })
    });
    Ok(missing.collect())
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
        let missing = missing_columns(&plan, rows.iter().map(Vec::as_slice)).unwrap();
        let told: Vec<_> = missing.iter().map(|one| (one.name.as_str(), one.table)).collect();
        assert_eq!(told, [("a.t.gone", true), ("a.nope.x", false)]);
        assert!(missing_columns(&plan, []).unwrap_err().contains("cannot be used"));
        assert!(catalog_query(&plan).unwrap().contains("'gone'"));
    }
}
