//! How an answer of now differs from the recorded one.

use super::answers::{Column, End, Part, Row};
use crate::wire::postgres::Cells;
use std::collections::HashMap;

/// What came of a statement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// What differs; empty: nothing that can be told.
    pub(super) differences: Vec<&'static str>,
    /// Columns whose recorded values are not those of the server, since a mask changed them.
    pub(super) not_compared: Vec<String>,
}

/// Compares the answers to one statement, of which a simple query may have several.
pub(super) fn compare(was: &[Part], is: &[Part]) -> Comparison {
    let mut found = Comparison::default();
    if was.len() != is.len() {
        found.differs("results");
    }
    for (was, is) in was.iter().zip(is) {
        found.part(was, is);
    }
    found
}

impl Comparison {
    fn differs(&mut self, what: &'static str) {
        if !self.differences.contains(&what) {
            self.differences.push(what);
        }
    }

    fn part(&mut self, was: &Part, is: &Part) {
        match (&was.end, &is.end) {
            (End::Error(was), End::Error(is)) if was != is => self.differs("sqlstate"),
            (End::Complete(was), End::Complete(is)) if was != is => self.differs("tag"),
            (was, is) if std::mem::discriminant(was) != std::mem::discriminant(is) => {
                self.differs("outcome");
            }
            _ => {}
        }
        if let (Some(was), Some(is)) = (&was.columns, &is.columns)
            && !was.iter().map(|column| &column.name).eq(is.iter().map(|column| &column.name))
        {
            self.differs("columns");
        }
        if was.count != is.count {
            self.differs("rows");
            return;
        }
        if u64::try_from(is.rows.len()) != Ok(is.count) {
            // More bytes than are kept, and so more than there were.
            self.differs("values");
            return;
        }
        let equal = was.rows.iter().zip(&is.rows).all(|(was, is)| was.body == is.body);
        if equal {
            return;
        }
        if was.rows.iter().all(|row| !row.masked) && is_other_order(&was.rows, &is.rows) {
            self.differs("order");
            return;
        }
        let columns = is.columns.as_ref().or(was.columns.as_ref());
        for (was, is) in was.rows.iter().zip(&is.rows) {
            self.row(was, is, columns.map(Vec::as_slice).unwrap_or_default());
        }
    }

    /// A value that a mask changed is text, or NULL in place of what is no text.
    fn row(&mut self, was: &Row, is: &Row, columns: &[Column]) {
        if was.body == is.body {
            return;
        }
        let (Some(before), Some(after)) = (cells(&was.body), cells(&is.body)) else {
            return self.differs("values");
        };
        if !was.masked || before.len() != after.len() {
            return self.differs("values");
        }
        for (place, (before, after)) in before.into_iter().zip(after).enumerate() {
            if before == after {
                continue;
            }
            let column = columns.get(place);
            let is_plain = column.is_none_or(|column| PLAIN.contains(&column.kind));
            if before.is_some() && is_plain {
                self.differs("values");
                continue;
            }
            let name = column.map_or_else(|| format!("#{}", place + 1), |one| one.name.clone());
            if !self.not_compared.contains(&name) {
                self.not_compared.push(name);
            }
        }
    }
}

fn is_other_order(was: &[Row], is: &[Row]) -> bool {
    let mut counts: HashMap<&[u8], i64> = HashMap::new();
    was.iter().for_each(|row| *counts.entry(&row.body).or_default() += 1);
    is.iter().for_each(|row| *counts.entry(&row.body).or_default() -= 1);
    counts.values().all(|count| *count == 0)
}

fn cells(body: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let mut cells = Cells::new(body).ok()?;
    let mut all = Vec::new();
    while let Some(cell) = cells.next().ok()? {
        all.push(cell);
    }
    Some(all)
}

/// Types of which a mask leaves a value as it is or NULL: bool, the numbers, oid, dates and times,
/// uuid.
const PLAIN: [u32; 15] =
    [16, 20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266, 1700, 2950];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::postgres::write;

    fn row(masked: bool, cells: &[Option<&str>]) -> Row {
        let cells: Vec<_> = cells.iter().map(|cell| cell.map(str::as_bytes)).collect();
        let mut message = Vec::new();
        write::data_row(&cells, &mut message);
        Row { body: message.split_off(5), masked }
    }

    fn part(rows: Vec<Row>, end: End) -> Part {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        let columns = Some(vec![column("id", 23), column("email", 25)]);
        Part { columns, count: rows.len() as u64, rows, end }
    }

    fn differences(was: Part, is: Part) -> (Vec<&'static str>, Vec<String>) {
        let found = compare(&[was], &[is]);
        (found.differences, found.not_compared)
    }

    fn done(tag: &str) -> End {
        End::Complete(tag.to_owned())
    }

    #[test]
    fn what_is_the_same_differs_in_nothing() {
        let one = || part(vec![row(false, &[Some("1"), None])], done("SELECT 1"));
        assert_eq!(differences(one(), one()), (Vec::new(), Vec::new()));
        let error = || part(Vec::new(), End::Error("42P01".to_owned()));
        assert_eq!(differences(error(), error()).0, Vec::<&str>::new());
        assert_eq!(compare(&[one()], &[]).differences, ["results"]);
    }

    #[test]
    fn each_difference_has_its_name() {
        let two = |a: &str, b: &str| {
            vec![row(false, &[Some(a), Some("x")]), row(false, &[Some(b), Some("x")])]
        };
        let was = || part(two("1", "2"), done("SELECT 2"));
        assert_eq!(differences(was(), part(two("2", "1"), done("SELECT 2"))).0, ["order"]);
        assert_eq!(differences(was(), part(two("1", "3"), done("SELECT 2"))).0, ["values"]);
        let fewer = part(vec![row(false, &[Some("1"), Some("x")])], done("SELECT 1"));
        assert_eq!(differences(was(), fewer).0, ["tag", "rows"]);
        let mut renamed = was();
        renamed.columns.iter_mut().flatten().for_each(|column| column.name.push('!'));
        assert_eq!(differences(was(), renamed).0, ["columns"]);
        let error = |code: &str| part(Vec::new(), End::Error(code.to_owned()));
        assert_eq!(differences(error("42501"), error("42P01")).0, ["sqlstate"]);
        assert_eq!(differences(was(), error("42P01")).0, ["outcome", "rows"]);
    }

    #[test]
    fn masked_values_are_named_and_others_in_their_row_compared() {
        let was = |id, email| part(vec![row(true, &[id, email])], done("SELECT 1"));
        let is = |id, email| part(vec![row(false, &[id, email])], done("SELECT 1"));
        let masked = was(Some("1"), Some("[REDACTED]"));
        let (differs, unseen) = differences(masked, is(Some("1"), Some("a@b.example")));
        assert_eq!((differs, unseen), (Vec::new(), vec!["email".to_owned()]));
        // A mask makes no other number of a number.
        let masked = was(Some("1"), Some("[REDACTED]"));
        assert_eq!(differences(masked, is(Some("2"), Some("x"))).0, ["values"]);
        let null = was(None, Some("x"));
        assert_eq!(differences(null, is(Some("2"), Some("x"))).1, ["id"]);
        let plain = part(vec![row(false, &[Some("1"), Some("a")])], done("SELECT 1"));
        assert_eq!(differences(plain, is(Some("1"), Some("b"))).0, ["values"]);
    }
}
