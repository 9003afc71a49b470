//! SELECT, INSERT, UPDATE, DELETE, MERGE and their WITH.
//!
//! Scope of a CTE: it hides a table of its name in all that follows it in its WITH and in the
//! statement that the WITH belongs to; with RECURSIVE in the whole WITH, itself included. It
//! never hides the table that is written: `WITH t AS (...) DELETE FROM t` removes rows of `t`.

use super::columns::Outputs;
use super::owners::Owner;
use super::{Done, Kind, Node, Walk, nodes};
use pg_raw_parse::raw;

impl<'a> Walk<'a> {
    pub(super) fn select(&mut self, select: &'a nodes::SelectStmt) -> Done {
        let outputs = self.outermost();
        self.within(Kind::Select, |walk| walk.arms(select, outputs))
    }

    /// The arms of a set operation, or the one SELECT.
    ///
    /// A long UNION leans to the left: its right arms are walked first and the left one last, in
    /// a loop, so that a WITH of the left arm is in scope for that arm alone.
    fn arms(&mut self, mut select: &'a nodes::SelectStmt, mut outputs: Outputs) -> Done {
        let outer = self.ctes.len();
        loop {
            self.count_query();
            self.with(select.with_clause())?;
            outputs = Self::how(select, outputs);
            let arms = (select.larg(), select.rarg());
            // Only an arm has targets.
            let own = if arms.0.is_some() { Outputs::Within } else { outputs };
            self.clauses(select, own)?;
            let (Some(left), Some(right)) = arms else { break };
            self.deeper(|walk| walk.arms(right, outputs))?;
            select = left;
        }
        self.ctes.truncate(outer);
        Ok(())
    }

    /// All clauses of one SELECT but its WITH and its arms.
    fn clauses(&mut self, select: &'a nodes::SelectStmt, outputs: Outputs) -> Done {
        let read_before = self.found.accesses.len();
        self.each(select.from_clause())?;
        if !select.locking_clause().is_empty() {
            self.lock_rows(read_before);
        }
        self.each(select.distinct_clause())?;
        if select.values_lists().is_empty() {
            self.outputs(select.target_list(), outputs)?;
        } else if outputs != Outputs::Within {
            self.unite_outputs(None);
        }
        self.node(select.where_clause())?;
        self.each(select.group_clause())?;
        self.node(select.having_clause())?;
        self.each(select.window_clause())?;
        self.each(select.values_lists())?;
        self.order(select)?;
        self.node(select.limit_offset())?;
        self.node(select.limit_count())?;
        self.new_table(select.into_clause())
    }

    /// `FOR UPDATE` and its kin lock rows, for which the server asks the right to update. Which
    /// of the FROM items they name is not looked at: all tables in it count as written.
    fn lock_rows(&mut self, read_before: usize) {
        let mut locked = self.found.accesses.get(read_before..).unwrap_or_default().to_vec();
        for access in &mut locked {
            access.write = true;
        }
        self.found.accesses.append(&mut locked);
    }

    /// SELECT INTO, CREATE TABLE AS: a table comes to be.
    pub(super) fn new_table(&mut self, into: Option<&'a nodes::IntoClause>) -> Done {
        let Some(into) = into else { return Ok(()) };
        self.found.kinds.insert(Kind::Ddl);
        self.target(into.rel(), Kind::Ddl);
        self.each(into.options())
    }

    pub(super) fn insert(&mut self, insert: &'a nodes::InsertStmt) -> Done {
        let outer = self.ctes.len();
        self.count_query();
        let outputs = self.outermost();
        self.within(Kind::Insert, |walk| {
            walk.with(insert.with_clause())?;
            walk.target(insert.relation(), Kind::Insert);
            walk.name_targets(insert.relation(), insert.cols());
            walk.each(insert.cols())?;
            match insert.select_stmt() {
                // The VALUES of an insert read nothing by themselves.
                Node::SelectStmt(values) if !values.values_lists().is_empty() => {
                    walk.deeper(|walk| walk.arms(values, Outputs::Within))?;
                }
                other => walk.node(other)?,
            }
            if let Some(conflict) = insert.on_conflict_clause() {
                walk.on_conflict(insert, conflict)?;
            }
            walk.returning(insert.returning_clause(), outputs)
        })?;
        self.ctes.truncate(outer);
        Ok(())
    }

    fn on_conflict(
        &mut self,
        insert: &'a nodes::InsertStmt,
        conflict: &'a nodes::OnConflictClause,
    ) -> Done {
        if let Some(infer) = conflict.infer() {
            for element in infer.index_elems() {
                if let Node::IndexElem(element) = element
                    && let Some(column) = element.name()
                {
                    self.used(column);
                }
            }
            self.name_targets(insert.relation(), infer.index_elems());
            self.each(infer.index_elems())?;
            self.node(infer.where_clause())?;
        }
        let named = conflict.infer().is_some_and(|infer| !infer.index_elems().is_empty());
        self.found.columns.conflicts |= !named;
        self.found.columns.unnamed |= !named;
        if conflict.action == raw::OnConflictAction::ONCONFLICT_NOTHING {
            return Ok(());
        }
        self.within(Kind::Update, |walk| {
            if let Some(relation) = insert.relation() {
                walk.access(
                    relation.schemaname(),
                    relation.relname().unwrap_or_default(),
                    Kind::Update,
                    true,
                );
            }
            walk.name_targets(insert.relation(), conflict.target_list());
            walk.each(conflict.target_list())?;
            walk.node(conflict.where_clause())
        })
    }

    pub(super) fn update(&mut self, update: &'a nodes::UpdateStmt) -> Done {
        let outer = self.ctes.len();
        self.count_query();
        let outputs = self.outermost();
        self.within(Kind::Update, |walk| {
            walk.with(update.with_clause())?;
            walk.target(update.relation(), Kind::Update);
            walk.name_targets(update.relation(), update.target_list());
            walk.each(update.target_list())?;
            walk.each(update.from_clause())?;
            walk.condition(update.where_clause())?;
            walk.returning(update.returning_clause(), outputs)
        })?;
        self.ctes.truncate(outer);
        Ok(())
    }

    pub(super) fn delete(&mut self, delete: &'a nodes::DeleteStmt) -> Done {
        let outer = self.ctes.len();
        self.count_query();
        let outputs = self.outermost();
        self.within(Kind::Delete, |walk| {
            walk.with(delete.with_clause())?;
            walk.target(delete.relation(), Kind::Delete);
            walk.each(delete.using_clause())?;
            walk.condition(delete.where_clause())?;
            walk.returning(delete.returning_clause(), outputs)
        })?;
        self.ctes.truncate(outer);
        Ok(())
    }

    pub(super) fn merge(&mut self, merge: &'a nodes::MergeStmt) -> Done {
        let outer = self.ctes.len();
        self.count_query();
        let outputs = self.outermost();
        self.within(Kind::Merge, |walk| {
            walk.with(merge.with_clause())?;
            walk.target(merge.relation(), Kind::Merge);
            walk.node(merge.source_relation())?;
            walk.node(merge.join_condition())?;
            for clause in merge.merge_when_clauses() {
                walk.merge_when(merge, clause)?;
            }
            walk.returning(merge.returning_clause(), outputs)
        })?;
        self.ctes.truncate(outer);
        Ok(())
    }

    /// An action counts with its own kind, too: who may not delete may not by MERGE.
    fn merge_when(
        &mut self,
        merge: &'a nodes::MergeStmt,
        clause: &'a nodes::MergeWhenClause,
    ) -> Done {
        let kind = match clause.command_type {
            raw::CmdType::CMD_INSERT => Some(Kind::Insert),
            raw::CmdType::CMD_UPDATE => Some(Kind::Update),
            raw::CmdType::CMD_DELETE => Some(Kind::Delete),
            raw::CmdType::CMD_NOTHING => None,
            _ => Some(Kind::Unknown),
        };
        if let (Some(kind), Some(relation)) = (kind, merge.relation()) {
            self.found.kinds.insert(kind);
            let name = relation.relname().unwrap_or_default();
            self.access(relation.schemaname(), name, kind, true);
        }
        self.node(clause.condition())?;
        if matches!(kind, Some(Kind::Insert | Kind::Update)) {
            self.name_targets(merge.relation(), clause.target_list());
        }
        self.each(clause.target_list())?;
        self.each(clause.values())
    }

    /// The WHERE of an UPDATE or DELETE.
    fn condition(&mut self, condition: Node<'a>) -> Done {
        if matches!(condition, Node::None) {
            self.found.missing_where = true;
        }
        self.node(condition)
    }

    fn returning(&mut self, clause: Option<&'a nodes::ReturningClause>, outputs: Outputs) -> Done {
        let Some(clause) = clause else { return Ok(()) };
        // The row before and the row behind, as PostgreSQL 18 knows them; options only rename them.
        self.ranges.extend(["old", "new"]);
        for option in clause.options() {
            self.own(option.value(), Owner::Any);
            self.ranges.extend(option.value());
        }
        self.outputs(clause.exprs(), outputs)
    }

    /// Walks the queries of a WITH and leaves their names in scope; the statement that it
    /// belongs to takes them out.
    fn with(&mut self, clause: Option<&'a nodes::WithClause>) -> Done {
        let Some(clause) = clause else { return Ok(()) };
        if clause.recursive {
            for cte in clause.ctes() {
                self.ctes.push(cte.ctename().unwrap_or_default());
            }
        }
        for cte in clause.ctes() {
            self.statement(cte.ctequery())?;
            if let Some(cycle) = cte.cycle_clause() {
                self.node(cycle.cycle_mark_value())?;
                self.node(cycle.cycle_mark_default())?;
            }
            if !clause.recursive {
                self.ctes.push(cte.ctename().unwrap_or_default());
            }
        }
        Ok(())
    }

    fn count_query(&mut self) {
        #[cfg(test)]
        {
            self.met.queries += 1;
        }
    }
}
