//! Columns by name, and whose they are: what rules by column need.
//!
//! A name before a column is looked up among all of the statement, not only where it is in scope: what is
//! found is never less than what the server finds. A name that means only queries within or functions
//! gives outputs of these, whose own columns are named there.

use super::columns::TAKE_ROWS;
use super::names::dotted;
use super::{Name, Node, Walk, nodes};

/// What a name before a column can mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner<'a> {
    /// A table, with the schema that it is named by.
    Table(Option<&'a str>, &'a str),
    /// A query within, a CTE, a function: no column of a table.
    Derived,
    /// Columns of any table.
    Any,
}

/// Columns of a statement with their tables; of one with more it is not told which.
const NAMED_MAX: usize = 1 << 14;

/// These mean the rows of the target by themselves.
const ROWS_OF_TARGET: [&str; 3] = ["excluded", "new", "old"];

impl<'a> Walk<'a> {
    /// A column where it is read.
    pub(super) fn name_column(&mut self, column: &'a nodes::ColumnRef) {
        match dotted(column.fields()) {
            Some((before, name)) => {
                self.found.columns.unnamed |= before.is_some() && TAKE_ROWS.contains(&name);
                self.named.push((before, name));
            }
            // A star.
            None => self.found.columns.unnamed = true,
        }
    }

    /// Columns that are written, by a list of targets. None at all: it is not told which.
    pub(super) fn name_targets<I>(&mut self, table: Option<&'a nodes::RangeVar>, targets: I)
    where
        I: IntoIterator,
        I::Item: Into<Node<'a>>,
    {
        let mut any = false;
        for target in targets {
            any = true;
            match target.into() {
                Node::ResTarget(target) => self.name_target(table, target.name()),
                Node::String(name) => self.name_target(table, name.sval()),
                Node::IndexElem(element) => self.name_target(table, element.name()),
                _ => self.found.columns.unnamed = true,
            }
        }
        self.found.columns.unnamed |= !any;
    }

    fn name_target(&mut self, table: Option<&'a nodes::RangeVar>, column: Option<&'a str>) {
        // An index may be of an expression, which is walked as such.
        let Some(column) = column else { return };
        let table =
            table.map(|table| Name::new(table.schemaname(), table.relname().unwrap_or_default()));
        self.found.columns.named.push((table, column.into()));
    }

    /// What `name` before a column means from here on.
    pub(super) fn own(&mut self, name: Option<&'a str>, owner: Owner<'a>) {
        if let Some(name) = name {
            self.owners.push((name, owner));
        }
    }

    /// A table, by its own name and its alias; `derived`: it is a CTE.
    pub(super) fn own_table(&mut self, table: &'a nodes::RangeVar, derived: bool) {
        let name = table.relname().unwrap_or_default();
        let owner = if derived { Owner::Derived } else { Owner::Table(table.schemaname(), name) };
        self.own(Some(name), owner);
        if let Some(alias) = table.alias() {
            self.own(alias.aliasname(), owner);
            self.found.columns.unnamed |= !derived && !alias.colnames().is_empty();
        }
    }

    /// Finds out whose the columns are.
    pub(super) fn settle_names(&mut self) {
        self.ranges.sort_unstable();
        self.ranges.dedup();
        self.owners.sort_unstable();
        self.owners.dedup();
        let written = std::mem::take(&mut self.found.columns.named);
        let (named, used) = (std::mem::take(&mut self.named), std::mem::take(&mut self.used));
        let (named, used) = (self.settled(named, written), self.settled(used, Vec::new()));
        let columns = &mut self.found.columns;
        columns.unnamed |= named.is_none();
        columns.whole |= used.is_none();
        columns.named = named.unwrap_or_default();
        columns.used = used.unwrap_or_default();
    }

    /// The columns with their tables, sorted; `None`: some are a whole row, or they are too many.
    fn settled(
        &self,
        mut columns: Vec<(Option<&'a str>, &'a str)>,
        mut found: Vec<Column>,
    ) -> Option<Vec<Column>> {
        columns.sort_unstable();
        columns.dedup();
        for (before, column) in columns {
            let Some(before) = before else {
                // A row by its name is all of its columns.
                if self.ranges.binary_search(&column).is_ok() {
                    return None;
                }
                found.push((None, column.into()));
                continue;
            };
            let from = self.owners.partition_point(|(name, _)| *name < before);
            let owners = self.owners.get(from..).unwrap_or_default();
            let owners = owners.iter().take_while(|(name, _)| *name == before);
            let mut any = ROWS_OF_TARGET.contains(&before);
            let mut none = true;
            for (_, owner) in owners {
                none = false;
                match owner {
                    Owner::Table(schema, name) => {
                        found.push((Some(Name::new(*schema, name)), column.into()));
                    }
                    Owner::Derived => {}
                    Owner::Any => any = true,
                }
            }
            if any || none {
                found.push((None, column.into()));
            }
            // Many tables under one name, and many columns behind it.
            if found.len() > NAMED_MAX {
                return None;
            }
        }
        found.sort_unstable();
        found.dedup();
        Some(found)
    }
}

/// A column, with its table where that is told.
type Column = (Option<Name>, Box<str>);
