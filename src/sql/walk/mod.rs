//! The walk over a raw tree: from what the text says to what it does.
//!
//! Fail closed: a node that no arm below names makes the statement [`Kind::Unknown`]; nothing is
//! skipped in silence. Every sub-tree that can hold a table, a function or a statement is
//! visited, and the test `nothing_of_a_tree_is_missed` compares what was visited with the crate's
//! own print of the tree.
//!
//! Depth is bounded: each nested node counts one; chains that generated SQL makes long (operators
//! and set operations lean to the left) are walked in a loop and count once.

mod attribute;
mod columns;
mod ddl;
mod expr;
mod from;
mod json;
mod names;
mod owners;
mod query;
mod set;
mod utility;

use super::{Access, Act, Function, Kind, Name, Setting, SqlError, Statement, is_plain};
use pg_raw_parse::{Node, nodes};

/// What each step of the walk returns.
type Done = Result<(), SqlError>;

/// Walks one statement and writes down what it does.
pub(super) struct Walk<'a> {
    found: Statement,
    /// Names of CTEs in scope, the innermost last. A table name without a schema that is one of
    /// them is no table.
    ctes: Vec<&'a str>,
    /// The kind of the sub-statement that the walk is in.
    kind: Kind,
    /// Whether the next query is the outermost one, whose outputs go to the caller.
    top: bool,
    /// Whether an arm of the outermost query was met.
    has_outputs: bool,
    /// Names by which rows can be called: tables and aliases.
    ranges: Vec<&'a str>,
    /// Functions in FROM.
    calls: Vec<attribute::Call<'a>>,
    /// Columns with the name of a row before them.
    qualified: Vec<(&'a str, &'a str)>,
    /// What names before a column can mean.
    owners: Vec<(&'a str, owners::Owner<'a>)>,
    /// Columns that are named, each with the name before it.
    named: Vec<(Option<&'a str>, &'a str)>,
    /// Those that are used otherwise than as an output.
    used: Vec<(Option<&'a str>, &'a str)>,
    depth: u32,
    depth_max: u32,
    /// Tables, functions and queries that were met, for the test of completeness.
    #[cfg(test)]
    pub(super) met: Met,
}

/// Counts of nodes; see [`Walk`].
#[cfg(test)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) tables: usize,
    pub(super) functions: usize,
    pub(super) queries: usize,
}

impl<'a> Walk<'a> {
    /// A walk whose statement is `len` bytes from `start` of its text.
    pub(super) fn new(start: u32, len: u32, depth_max: u32) -> Self {
        Self {
            found: Statement::new(start, len),
            ctes: Vec::new(),
            kind: Kind::Unknown,
            top: true,
            has_outputs: false,
            ranges: Vec::new(),
            calls: Vec::new(),
            qualified: Vec::new(),
            owners: Vec::new(),
            named: Vec::new(),
            used: Vec::new(),
            depth: 0,
            depth_max,
            #[cfg(test)]
            met: Met::default(),
        }
    }

    /// Walks the whole of a statement.
    ///
    /// # Errors
    /// [`SqlError::TooDeep`].
    pub(super) fn run(&mut self, node: Node<'a>) -> Done {
        self.statement(node)?;
        debug_assert!(self.ctes.is_empty(), "a scope was left open");
        debug_assert_eq!(self.depth, 0, "a level was left open");
        Ok(())
    }

    /// What was found.
    pub(super) fn finish(mut self) -> Statement {
        if self.found.kinds.is_empty() {
            self.found.kinds.insert(Kind::Unknown);
        }
        self.settle_calls();
        self.settle_names();
        self.found.accesses.sort_unstable();
        self.found.accesses.dedup();
        self.found.functions.sort_unstable();
        self.found.functions.dedup();
        self.found.types.sort_unstable();
        self.found.types.dedup();
        self.found
    }

    /// A statement, on top or within another.
    fn statement(&mut self, node: Node<'a>) -> Done {
        self.deeper(|walk| match node {
            Node::SelectStmt(select) => walk.select(select),
            Node::InsertStmt(insert) => walk.insert(insert),
            Node::UpdateStmt(update) => walk.update(update),
            Node::DeleteStmt(delete) => walk.delete(delete),
            Node::MergeStmt(merge) => walk.merge(merge),
            other => walk.utility(other),
        })
    }

    /// Runs `step` one level down.
    fn deeper(&mut self, step: impl FnOnce(&mut Self) -> Done) -> Done {
        if self.depth >= self.depth_max {
            return Err(SqlError::TooDeep);
        }
        self.depth += 1;
        let done = step(self);
        self.depth -= 1;
        done
    }

    /// Runs `step` as a part of kind `kind`.
    fn within(&mut self, kind: Kind, step: impl FnOnce(&mut Self) -> Done) -> Done {
        self.found.kinds.insert(kind);
        let outer = std::mem::replace(&mut self.kind, kind);
        let done = step(self);
        self.kind = outer;
        done
    }

    /// Walks each of `nodes` as a part of an expression.
    fn each<I>(&mut self, nodes: I) -> Done
    where
        I: IntoIterator,
        I::Item: Into<Node<'a>>,
    {
        nodes.into_iter().try_for_each(|node| self.node(node.into()))
    }

    /// What this build does not know: nothing may let it through by a pattern.
    #[cold]
    fn unknown(&mut self) -> Done {
        self.found.kinds.insert(Kind::Unknown);
        Ok(())
    }
}
