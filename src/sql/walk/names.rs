//! Names of tables, functions, operators and types, as the tree has them.

use super::{Access, Done, Function, Kind, Name, Node, Walk, is_plain, nodes};
use pg_raw_parse::list::NodeList;

/// The schema of the server's own functions, operators and types.
pub(super) const CATALOG: &str = "pg_catalog";

/// The last two parts of a dotted name; a database before them is dropped. `None` for a list
/// that is empty or holds anything but strings.
pub(super) fn dotted<'n, I>(list: I) -> Option<(Option<&'n str>, &'n str)>
where
    I: IntoIterator,
    I::Item: Into<Node<'n>>,
{
    let (mut schema, mut name) = (None, None);
    for part in list {
        let Node::String(part) = part.into() else { return None };
        schema = name;
        name = Some(part.sval().unwrap_or_default());
    }
    Some((schema, name?))
}

impl<'a> Walk<'a> {
    /// A table in FROM, or that a CTE may hide.
    pub(super) fn source(&mut self, table: &'a nodes::RangeVar) {
        self.alias(table.alias());
        let bare = table.schemaname().is_none() && table.catalogname().is_none();
        let name = table.relname().unwrap_or_default();
        self.ranges.push(name);
        let hidden = bare && self.ctes.contains(&name);
        self.own_table(table, hidden);
        if hidden {
            self.count_table();
        } else {
            self.table(table, self.kind, false);
        }
    }

    /// A table that is written, or whose definition is: never a CTE, whatever its name.
    pub(super) fn target(&mut self, table: Option<&'a nodes::RangeVar>, kind: Kind) {
        if let Some(table) = table {
            self.alias(table.alias());
            self.ranges.push(table.relname().unwrap_or_default());
            self.own_table(table, false);
            self.table(table, kind, true);
        }
    }

    /// A table that no CTE can hide.
    pub(super) fn table(&mut self, table: &'a nodes::RangeVar, kind: Kind, write: bool) {
        self.count_table();
        self.access(table.schemaname(), table.relname().unwrap_or_default(), kind, write);
    }

    /// A table by its parts.
    pub(super) fn access(&mut self, schema: Option<&str>, name: &str, kind: Kind, write: bool) {
        self.found.accesses.push(Access { kind, table: Name::new(schema, name), write });
    }

    /// A function that is called.
    pub(super) fn function(&mut self, list: &'a NodeList) -> Done {
        match dotted(list) {
            Some((schema, name)) => {
                let plain = is_plain(schema, name);
                self.found.functions.push(Function { name: Name::new(schema, name), plain });
                Ok(())
            }
            None => self.unknown(),
        }
    }

    /// An operator. Without a schema it is taken for one of the server's; with another schema
    /// than the server's it is a function by another name.
    pub(super) fn operator(&mut self, list: &'a NodeList) {
        if let Some((schema @ Some(named), sign)) = dotted(list)
            && named != CATALOG
        {
            self.found.functions.push(Function { name: Name::new(schema, sign), plain: false });
        }
    }

    /// A type; its modifiers are expressions to the grammar.
    pub(super) fn type_name(&mut self, name: Option<&'a nodes::TypeName>) -> Done {
        let Some(name) = name else { return Ok(()) };
        if let Some((schema @ Some(named), last)) = dotted(name.names())
            && named != CATALOG
            && !name.pct_type
        {
            self.found.types.push(Name::new(schema, last));
        }
        self.each(name.typmods())
    }

    fn count_table(&mut self) {
        #[cfg(test)]
        {
            self.met.tables += 1;
        }
    }
}
