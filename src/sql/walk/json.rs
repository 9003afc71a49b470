//! The SQL/JSON constructors, queries and JSON_TABLE.

use super::{Done, Node, Walk, nodes};

impl<'a> Walk<'a> {
    /// Any node of the SQL/JSON grammar; what is none is unknown.
    pub(super) fn json(&mut self, node: Node<'a>) -> Done {
        match node {
            Node::JsonFuncExpr(call) => self.json_call(call),
            Node::JsonValueExpr(value) => {
                self.node(value.raw_expr())?;
                self.node(value.formatted_expr())
            }
            Node::JsonArgument(argument) => self.node(argument.val().into()),
            Node::JsonBehavior(behavior) => self.node(behavior.expr()),
            Node::JsonOutput(output) => self.type_name(output.type_name()),
            Node::JsonTablePathSpec(path) => self.node(path.string()),
            Node::JsonTable(table) => self.json_table(table),
            Node::JsonTableColumn(column) => self.json_column(column),
            Node::JsonKeyValue(pair) => {
                self.node(pair.key())?;
                self.node(pair.value().into())
            }
            Node::JsonParseExpr(parse) => {
                self.node(parse.expr().into())?;
                self.node(parse.output().into())
            }
            Node::JsonScalarExpr(scalar) => {
                self.node(scalar.expr())?;
                self.node(scalar.output().into())
            }
            Node::JsonSerializeExpr(text) => {
                self.node(text.expr().into())?;
                self.node(text.output().into())
            }
            Node::JsonObjectConstructor(object) => {
                self.each(object.exprs())?;
                self.node(object.output().into())
            }
            Node::JsonArrayConstructor(array) => {
                self.each(array.exprs())?;
                self.node(array.output().into())
            }
            Node::JsonArrayQueryConstructor(array) => {
                self.node(array.query())?;
                self.node(array.output().into())
            }
            Node::JsonObjectAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor())?;
                self.node(aggregate.arg().into())
            }
            Node::JsonArrayAgg(aggregate) => {
                self.json_aggregate(aggregate.constructor())?;
                self.node(aggregate.arg().into())
            }
            Node::JsonIsPredicate(test) => self.node(test.expr()),
            _ => self.unknown(),
        }
    }

    /// JSON_VALUE, JSON_QUERY, JSON_EXISTS.
    fn json_call(&mut self, call: &'a nodes::JsonFuncExpr) -> Done {
        self.node(call.context_item().into())?;
        self.node(call.pathspec())?;
        self.each(call.passing())?;
        self.node(call.output().into())?;
        self.node(call.on_empty().into())?;
        self.node(call.on_error().into())
    }

    fn json_table(&mut self, table: &'a nodes::JsonTable) -> Done {
        self.node(table.context_item().into())?;
        self.node(table.pathspec().into())?;
        self.each(table.passing())?;
        self.each(table.columns())?;
        self.node(table.on_error().into())
    }

    fn json_column(&mut self, column: &'a nodes::JsonTableColumn) -> Done {
        self.type_name(column.type_name())?;
        self.node(column.pathspec().into())?;
        self.each(column.columns())?;
        self.node(column.on_empty().into())?;
        self.node(column.on_error().into())
    }

    fn json_aggregate(&mut self, aggregate: Option<&'a nodes::JsonAggConstructor>) -> Done {
        let Some(aggregate) = aggregate else { return Ok(()) };
        self.node(aggregate.output().into())?;
        self.node(aggregate.agg_filter())?;
        self.each(aggregate.agg_order())?;
        self.node(aggregate.over().into())
    }
}
