//! Expressions, and the parts of definitions that hold some.

use super::owners::Owner;
use super::{Done, Node, Walk, nodes};

impl<'a> Walk<'a> {
    /// An expression, a FROM item, a list of them, or nothing.
    pub(super) fn node(&mut self, node: Node<'a>) -> Done {
        match node {
            Node::None => Ok(()),
            node => self.deeper(|walk| walk.expression(node)),
        }
    }

    fn expression(&mut self, mut node: Node<'a>) -> Done {
        // `a || b || c` leans to the left.
        while let Node::A_Expr(expr) = node {
            self.operator(expr.name());
            self.node(expr.rexpr())?;
            node = expr.lexpr();
        }
        match node {
            // Nothing of interest within.
            Node::None
            | Node::A_Const(_)
            | Node::A_Star(_)
            | Node::BitString(_)
            | Node::Boolean(_)
            | Node::CurrentOfExpr(_)
            | Node::Float(_)
            | Node::Integer(_)
            | Node::MergeSupportFunc(_)
            | Node::ParamRef(_)
            | Node::RoleSpec(_)
            | Node::SQLValueFunction(_)
            | Node::SetToDefault(_)
            | Node::String(_) => Ok(()),

            Node::ColumnRef(column) => {
                self.column(column);
                Ok(())
            }
            Node::NodeList(list) => self.each(list),
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => self.statement(node),

            Node::RangeVar(table) => {
                self.source(table);
                Ok(())
            }
            Node::JoinExpr(join) => self.join(join),
            Node::RangeSubselect(range) => {
                self.alias(range.alias());
                self.own(range.alias().and_then(|alias| alias.aliasname()), Owner::Derived);
                self.node(range.subquery())
            }
            Node::RangeFunction(range) => self.range_function(range),
            Node::RangeTableSample(sample) => self.sample(sample),
            Node::RangeTableFunc(table) => self.xml_table(table),
            Node::RangeTableFuncCol(column) => self.xml_column(column),

            Node::FuncCall(call) => self.call(call),
            Node::SubLink(link) => {
                self.node(link.testexpr())?;
                self.operator(link.oper_name());
                self.node(link.subselect())
            }
            Node::BoolExpr(expr) => self.each(expr.args()),
            Node::NullTest(test) => self.node(test.arg()),
            Node::BooleanTest(test) => self.node(test.arg()),
            Node::CaseExpr(case) => {
                self.node(case.arg())?;
                self.each(case.args())?;
                self.node(case.defresult())
            }
            Node::CaseWhen(when) => {
                self.node(when.expr())?;
                self.node(when.result())
            }
            Node::CoalesceExpr(expr) => self.each(expr.args()),
            Node::MinMaxExpr(expr) => self.each(expr.args()),
            Node::TypeCast(cast) => {
                self.node(cast.arg())?;
                self.type_name(cast.type_name())
            }
            Node::TypeName(name) => self.type_name(Some(name)),
            Node::CollateClause(collate) => self.node(collate.arg()),
            Node::A_ArrayExpr(array) => self.each(array.elements()),
            Node::RowExpr(row) => self.each(row.args()),
            Node::A_Indirection(indirection) => {
                self.fields(indirection);
                self.node(indirection.arg())?;
                self.each(indirection.indirection())
            }
            Node::A_Indices(indices) => {
                self.node(indices.lidx())?;
                self.node(indices.uidx())
            }
            Node::MultiAssignRef(assign) => {
                // `(a, b) = (SELECT ...)` has one such node a column, all with the same source.
                if assign.colno == 1 { self.node(assign.source()) } else { Ok(()) }
            }
            Node::ResTarget(target) => {
                self.each(target.indirection())?;
                self.node(target.val())
            }
            Node::NamedArgExpr(argument) => self.node(argument.arg()),
            Node::GroupingFunc(grouping) => self.each(grouping.args()),
            Node::GroupingSet(set) => self.each(set.content()),
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                self.node(sort.node())
            }
            Node::WindowDef(window) => self.window(window),
            Node::XmlExpr(xml) => {
                self.each(xml.named_args())?;
                self.each(xml.args())
            }
            Node::XmlSerialize(xml) => {
                self.node(xml.expr())?;
                self.type_name(xml.type_name())
            }
            Node::DefElem(option) => self.node(option.arg()),
            other => self.part(other),
        }
    }

    /// A call, also of an aggregate or a window function.
    pub(super) fn call(&mut self, call: &'a nodes::FuncCall) -> Done {
        #[cfg(test)]
        {
            self.met.functions += 1;
        }
        self.function(call.funcname())?;
        self.note_set_config(call);
        self.each(call.args())?;
        self.each(call.agg_order())?;
        self.node(call.agg_filter())?;
        self.node(call.over().into())
    }

    fn window(&mut self, window: &'a nodes::WindowDef) -> Done {
        self.each(window.partition_clause())?;
        self.each(window.order_clause())?;
        self.node(window.start_offset())?;
        self.node(window.end_offset())
    }
}
