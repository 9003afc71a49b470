//! Which tables are partitions or inheritance children of others: what a rule denies of columns of
//! a table it denies of those of its partitions by their own names, too.
//!
//! Read from the catalog beside the masked columns, and as old as they: a partition that somebody
//! else made since then is a table of its own until the next reading.

use crate::policy::Parent;

/// The query, but for its comments. Its rows are as wide as those about columns.
const QUERY: &str = include_str!("kin.sql");

/// The text that asks the catalog, for the simple protocol.
pub(super) fn query() -> String {
    let lines = QUERY.lines().filter(|line| !line.trim_start().starts_with("--"));
    lines.collect::<Vec<_>>().join("\n")
}

/// `schema.name` of tables with those of their ancestors.
#[derive(Debug, Default)]
pub(in crate::session) struct Kin(Vec<(Box<[u8]>, Box<str>)>);

impl Kin {
    /// Adds a table; `None`: its name cannot be one.
    pub(super) fn add(&mut self, schema: &[u8], name: &[u8], ancestor: &[u8]) -> Option<()> {
        let ancestor = std::str::from_utf8(ancestor).ok()?;
        self.0.push(([schema, b".", name].concat().into(), ancestor.into()));
        Some(())
    }

    /// Puts the tables in order, to be found.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
        self.0.dedup();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ancestors of a table, with the columns that a statement names of it as theirs.
    pub(super) fn parents(&self, table: &[u8], columns: Option<&[Box<str>]>) -> Vec<Parent> {
        let from = self.0.partition_point(|(known, _)| **known < *table);
        let rest = self.0.get(from..).unwrap_or_default().iter();
        let of = rest.take_while(|(known, _)| **known == *table);
        let parent = |ancestor: &str| {
            let name = |column: &str| -> Box<str> {
                let bare = column.get(table.len()..).unwrap_or_default();
                debug_assert!(bare.starts_with('.'));
                format!("{ancestor}{bare}").into()
            };
            let columns =
                columns.map(|columns| columns.iter().map(|column| name(column)).collect());
            Parent { table: ancestor.into(), columns }
        };
        of.map(|(_, ancestor)| parent(ancestor)).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_found_with_all_its_ancestors() {
        let mut kin = Kin::default();
        for (name, ancestor) in [("p_1_a", "a.p"), ("p_1", "a.p"), ("p_1_a", "a.p_1"), ("q", "a.z")]
        {
            kin.add(b"b", name.as_bytes(), ancestor.as_bytes()).unwrap();
        }
        assert_eq!(kin.add(b"b", b"q", b"\xff"), None);
        kin.sort();
        let columns: [Box<str>; 2] = ["b.p_1_a.id".into(), "b.p_1_a.card".into()];
        let parents = kin.parents(b"b.p_1_a", Some(&columns));
        let told: Vec<_> = parents
            .iter()
            .map(|one| format!("{} {}", one.table, one.columns.as_ref().unwrap().join(" ")))
            .collect();
        assert_eq!(told, ["a.p a.p.id a.p.card", "a.p_1 a.p_1.id a.p_1.card"]);
        let untold = [Parent { table: "a.p".into(), columns: None }];
        assert_eq!(kin.parents(b"b.p_1", None), untold);
        assert_eq!(kin.parents(b"a.p", None), []);
        assert_eq!(kin.parents(b"b.p_", None), []);
    }

    #[test]
    fn the_query_names_nothing_that_a_search_path_could_change() {
        let text = query();
        for operator in ["=", ">"] {
            let bare = text.replace(&format!("OPERATOR(pg_catalog.{operator})"), " ");
            assert!(!bare.contains(&format!(" {operator} ")) && !text.contains("--"));
        }
        for place in ["FROM ", "JOIN "] {
            for rest in text.split(place).skip(1) {
                assert!(
                    rest.starts_with("pg_catalog.pg_") || rest.starts_with("above a"),
                    "{rest}"
                );
            }
        }
        assert!(text.split("::").skip(1).all(|cast| cast.starts_with("pg_catalog.")));
    }
}
