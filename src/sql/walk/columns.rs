//! Which columns are used, and which outputs depend on no row: what masks by column need.
//!
//! A column that stands alone in the outputs of the outermost query is not used by it: its value
//! comes out as it is, with its origin, and can be masked there. Anywhere else (a condition, an
//! argument, the outputs of a query within) it may be renamed, compared or copied, and counts.

use super::names::dotted;
use super::{Done, Node, Walk, is_plain, nodes};

/// How the outputs of a query count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outputs {
    /// Those of a query within another: all used.
    Within,
    /// Those of the outermost query: a bare column is not used.
    Bare,
    /// As `Bare`, but the query compares or orders its outputs.
    Compared,
}

impl<'a> Walk<'a> {
    /// Whether this is the outermost query; asked once.
    pub(super) fn outermost(&mut self) -> Outputs {
        if std::mem::take(&mut self.top) { Outputs::Bare } else { Outputs::Within }
    }

    /// The targets of a SELECT or of a RETURNING.
    pub(super) fn outputs<I>(&mut self, targets: I, how: Outputs) -> Done
    where
        I: IntoIterator,
        I::Item: Into<Node<'a>>,
    {
        if how == Outputs::Within {
            return self.each(targets);
        }
        let mut independent = Some(Vec::new());
        for target in targets {
            let Node::ResTarget(target) = target.into() else { return self.unknown() };
            match target.val() {
                Node::ColumnRef(column) if how == Outputs::Bare => {
                    self.qualified(column);
                    self.name_column(column);
                }
                value => self.node(value)?,
            }
            if is_many(target.val()) {
                independent = None;
            } else if let Some(known) = &mut independent {
                known.push(is_independent(target.val()));
            }
        }
        self.unite_outputs(independent);
        Ok(())
    }

    /// An output of a set operation is independent where it is so in every arm.
    pub(super) fn unite_outputs(&mut self, arm: Option<Vec<bool>>) {
        self.found.columns.outputs = match (self.found.columns.outputs.take(), arm) {
            (None, arm) if !self.has_outputs => arm,
            (Some(before), Some(arm)) if before.len() == arm.len() => {
                Some(before.iter().zip(&arm).map(|(one, other)| *one && *other).collect())
            }
            _ => None,
        };
        self.has_outputs = true;
        self.found.columns.returns = true;
    }

    /// How the outputs of a SELECT count when `outer` is how those of its set operation do.
    pub(super) fn how(select: &'a nodes::SelectStmt, outer: Outputs) -> Outputs {
        // A name there may be that of an output, which may be another than the column's.
        let names = |name: &str| is_of(select, name);
        let by_output = select.sort_clause().into_iter().any(|sort| is_output(sort.node(), &names))
            || select.group_clause().into_iter().any(|node| is_output(node, &names));
        let arms = select.larg().is_some();
        let merges = arms && !(select.all && is_union(select));
        let compares = by_output
            || arms && !select.sort_clause().is_empty()
            || merges
            || !select.distinct_clause().is_empty();
        if outer == Outputs::Bare && compares { Outputs::Compared } else { outer }
    }

    /// A column, or a row, outside the outputs.
    pub(super) fn column(&mut self, column: &'a nodes::ColumnRef) {
        self.name_column(column);
        self.use_column(column);
    }

    /// The same for what is named elsewhere.
    fn use_column(&mut self, column: &'a nodes::ColumnRef) {
        self.qualified(column);
        match dotted(column.fields()) {
            Some((before, name)) => {
                self.found.columns.whole |= before.is_some() && TAKE_ROWS.contains(&name);
                self.used.push((before, name));
            }
            // A star.
            None => self.found.columns.whole = true,
        }
    }

    /// ORDER BY: a bare name is that of an output first, which is named where it is computed.
    pub(super) fn order(&mut self, select: &'a nodes::SelectStmt) -> Done {
        for sort in select.sort_clause() {
            match sort.node() {
                Node::ColumnRef(column) if is_output(sort.node(), &|name| is_of(select, name)) => {
                    self.operator(sort.use_op());
                    self.use_column(column);
                }
                _ => self.node(sort.into())?,
            }
        }
        Ok(())
    }

    pub(super) fn used(&mut self, name: &'a str) {
        self.used.push((None, name));
    }

    /// A name by which a row can be called, `(t)::text`, and new names of columns.
    pub(super) fn alias(&mut self, alias: Option<&'a nodes::Alias>) {
        let Some(alias) = alias else { return };
        if let Some(name) = alias.aliasname() {
            self.ranges.push(name);
        }
        if !alias.colnames().is_empty() {
            self.found.columns.whole = true;
        }
    }
}

/// Whether an output is given this name.
fn is_of(select: &nodes::SelectStmt, name: &str) -> bool {
    select.target_list().into_iter().any(|target| target.name() == Some(name))
}

/// `*`, `t.*`, `(row).*`: one target, but as many outputs as the row has columns.
fn is_many(target: Node<'_>) -> bool {
    let last = match target {
        Node::ColumnRef(column) => column.fields().into_iter().next_back(),
        Node::A_Indirection(path) => path.indirection().into_iter().next_back(),
        _ => None,
    };
    matches!(last, Some(Node::A_Star(_)))
}

/// `ORDER BY 2`, `ORDER BY x` where an output is called so; `GROUP BY (1, x)` and grouping sets hold
/// such places and names, too.
fn is_output(node: Node<'_>, names: &dyn Fn(&str) -> bool) -> bool {
    match node {
        Node::A_Const(_) | Node::GroupingSet(_) | Node::RowExpr(_) => true,
        Node::ColumnRef(column) => {
            let mut fields = column.fields().into_iter();
            match (fields.next(), fields.next()) {
                (Some(Node::String(name)), None) => names(name.sval().unwrap_or_default()),
                _ => false,
            }
        }
        _ => false,
    }
}

/// The server's functions that take a row of any table and tell of its values; `t.to_json` calls one
/// where the table has no such column.
pub(super) const TAKE_ROWS: &[&str] = &[
    "any_out",
    "any_value",
    "anycompatible_out",
    "anycompatiblenonarray_out",
    "anyelement_out",
    "anynonarray_out",
    "array_agg",
    "concat",
    "hash_record",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "max",
    "min",
    "num_nonnulls",
    "num_nulls",
    "pg_column_compression",
    "pg_column_size",
    "pg_column_toast_chunk_id",
    "quote_literal",
    "quote_nullable",
    "record_out",
    "record_send",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

fn is_union(select: &nodes::SelectStmt) -> bool {
    select.op == pg_raw_parse::raw::SetOperation::SETOP_UNION
}

/// Whether an expression has the same value whatever the rows are: constants, parameters,
/// `count(*)`, the time, and what is made of them.
fn is_independent(node: Node<'_>) -> bool {
    match node {
        Node::A_Const(_) | Node::ParamRef(_) | Node::SQLValueFunction(_) => true,
        Node::TypeCast(cast) => is_independent(cast.arg()),
        Node::FuncCall(call) => {
            let name = dotted(call.funcname());
            let is_count = call.agg_star && matches!(name, Some((_, "count")));
            let is_clock = call.args().is_empty() && matches!(name, Some((_, "now" | "version")));
            (is_count || is_clock)
                && name.is_some_and(|(schema, name)| is_plain(schema, name))
                && matches!(call.agg_filter(), Node::None)
                && call.over().is_none()
        }
        _ => false,
    }
}
