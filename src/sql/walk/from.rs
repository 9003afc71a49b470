//! What stands in FROM.

use super::owners::Owner;
use super::{Done, Node, Walk, nodes};

impl<'a> Walk<'a> {
    /// Nested joins lean to the left, and long ones are common: walked in a loop.
    pub(super) fn join(&mut self, mut join: &'a nodes::JoinExpr) -> Done {
        loop {
            for alias in [join.alias(), join.join_using_alias()].into_iter().flatten() {
                self.alias(Some(alias));
                self.own(alias.aliasname(), Owner::Any);
                self.found.columns.unnamed |= !alias.colnames().is_empty();
            }
            for column in join.using_clause() {
                self.used(column.sval().unwrap_or_default());
                self.named.extend(column.sval().map(|name| (None, name)));
            }
            self.found.columns.whole |= join.is_natural;
            self.found.columns.unnamed |= join.is_natural;
            self.node(join.rarg())?;
            self.node(join.quals())?;
            match join.larg() {
                Node::JoinExpr(left) => join = left,
                other => return self.node(other),
            }
        }
    }

    /// `f(...)`, `ROWS FROM (f(...) AS (...), ...)`.
    pub(super) fn range_function(&mut self, range: &'a nodes::RangeFunction) -> Done {
        self.note_call(range);
        self.own(range.alias().and_then(|alias| alias.aliasname()), Owner::Derived);
        self.each(range.functions())?;
        self.each(range.coldeflist())
    }

    /// `t TABLESAMPLE method (...)`: the method is a function by its name.
    pub(super) fn sample(&mut self, sample: &'a nodes::RangeTableSample) -> Done {
        self.node(sample.relation())?;
        self.function(sample.method())?;
        self.each(sample.args())?;
        self.node(sample.repeatable())
    }

    /// XMLTABLE.
    pub(super) fn xml_table(&mut self, table: &'a nodes::RangeTableFunc) -> Done {
        self.own(table.alias().and_then(|alias| alias.aliasname()), Owner::Derived);
        self.node(table.docexpr())?;
        self.node(table.rowexpr())?;
        self.each(table.namespaces())?;
        self.each(table.columns())
    }

    /// A column of XMLTABLE.
    pub(super) fn xml_column(&mut self, column: &'a nodes::RangeTableFuncCol) -> Done {
        self.type_name(column.type_name())?;
        self.node(column.colexpr())?;
        self.node(column.coldefexpr())
    }
}
