//! Statements that are no queries: the state of the session, cursors, COPY, EXPLAIN, ...
//!
//! Definitions are in `ddl`, settings and transactions in `set`.

use super::{Act, Done, Kind, Node, Walk, nodes};
use pg_raw_parse::{ConstValue, raw};

impl<'a> Walk<'a> {
    pub(super) fn utility(&mut self, node: Node<'a>) -> Done {
        // Of PREPARE and DECLARE the outputs go to the caller later.
        self.top &= matches!(node, Node::PrepareStmt(_) | Node::DeclareCursorStmt(_));
        match node {
            Node::TransactionStmt(statement) => self.transaction(statement),
            Node::VariableSetStmt(statement) => self.set(statement),
            Node::VariableShowStmt(show) => {
                let name = show.name().unwrap_or_default().to_ascii_lowercase();
                let name = (name != "all").then(|| name.into());
                self.plain_utility(Act::Show { name })
            }
            Node::ConstraintsSetStmt(_) => {
                self.found.kinds.insert(Kind::Transaction);
                self.found.act = Act::Other;
                Ok(())
            }
            Node::CopyStmt(copy) => self.copy(copy),
            Node::ExplainStmt(explain) => self.explain(explain),
            Node::PrepareStmt(prepare) => {
                self.statement(prepare.query())?;
                self.each(prepare.argtypes())?;
                self.found.act = Act::Prepare { name: text(prepare.name()) };
                Ok(())
            }
            Node::ExecuteStmt(execute) => self.within(Kind::Utility, |walk| {
                walk.each(execute.params())?;
                let arguments = execute.params().into_iter().map(argument).collect();
                walk.found.act = Act::Execute { name: text(execute.name()), arguments };
                Ok(())
            }),
            Node::DeallocateStmt(deallocate) => {
                self.plain_utility(Act::Deallocate { name: deallocate.name().map(Into::into) })
            }
            Node::DeclareCursorStmt(declare) => {
                self.statement(declare.query())?;
                self.found.act = Act::Declare {
                    name: text(declare.portalname()),
                    hold: declare.options & CURSOR_OPT_HOLD != 0,
                };
                Ok(())
            }
            Node::FetchStmt(fetch) => self
                .plain_utility(Act::Fetch { name: text(fetch.portalname()), skip: fetch.ismove }),
            Node::ClosePortalStmt(close) => {
                self.plain_utility(Act::ClosePortal { name: close.portalname().map(Into::into) })
            }
            Node::DiscardStmt(discard) => self.plain_utility(Act::Discard {
                all: discard.target == raw::DiscardMode::DISCARD_ALL,
            }),
            Node::ListenStmt(listen) => {
                self.plain_utility(Act::Listen { channel: text(listen.conditionname()) })
            }
            Node::UnlistenStmt(unlisten) => self
                .plain_utility(Act::Unlisten { channel: unlisten.conditionname().map(Into::into) }),
            Node::NotifyStmt(notify) => {
                self.plain_utility(Act::Notify { channel: text(notify.conditionname()) })
            }
            Node::CallStmt(call) => self.within(Kind::Call, |walk| {
                walk.found.act = Act::Other;
                walk.node(call.funccall().into())
            }),
            Node::DoStmt(_) => {
                self.found.kinds.insert(Kind::Do);
                self.found.act = Act::Other;
                Ok(())
            }
            Node::TruncateStmt(truncate) => self.within(Kind::Delete, |walk| {
                walk.found.missing_where = true;
                walk.found.act = Act::Other;
                walk.targets(truncate.relations(), Kind::Delete)
            }),
            Node::LockStmt(lock) => self.lock(lock),
            Node::VacuumStmt(vacuum) => self.vacuum(vacuum),
            Node::CheckPointStmt(_) => self.plain_utility(Act::Other),
            // A library of the server's file system, into its process.
            Node::LoadStmt(_) => {
                self.found.act = Act::Other;
                self.unknown()
            }
            // The body of a function that is written as statements.
            Node::NodeList(list) => {
                list.into_iter().try_for_each(|statement| self.statement(statement))
            }
            Node::None => Ok(()),
            Node::ReturnStmt(body) => self.node(body.returnval()),
            other => self.definition(other),
        }
    }

    /// A statement of kind utility with nothing below it.
    fn plain_utility(&mut self, act: Act) -> Done {
        self.found.kinds.insert(Kind::Utility);
        self.found.act = act;
        Ok(())
    }

    /// A program and a file of the server are no COPY that a rule of `copy_in` or `copy_out`
    /// means: they are unknown as well.
    fn copy(&mut self, copy: &'a nodes::CopyStmt) -> Done {
        let kind = if copy.is_from { Kind::CopyIn } else { Kind::CopyOut };
        let file = copy.filename().is_some();
        if file || copy.is_program {
            self.found.kinds.insert(Kind::Unknown);
        }
        self.within(kind, |walk| {
            if let Some(table) = copy.relation() {
                walk.found.columns.whole |= !copy.is_from;
                walk.own_table(table, false);
                walk.name_targets(Some(table), copy.attlist());
                walk.table(table, kind, copy.is_from);
            }
            if !matches!(copy.query(), Node::None) {
                walk.statement(copy.query())?;
            }
            walk.each(copy.options())?;
            walk.node(copy.where_clause())
        })?;
        self.found.act = Act::Copy { out: !copy.is_from, program: copy.is_program, file };
        Ok(())
    }

    fn explain(&mut self, explain: &'a nodes::ExplainStmt) -> Done {
        self.found.kinds.insert(Kind::Utility);
        self.statement(explain.query())?;
        let mut analyze = false;
        for option in explain.options() {
            if option.defname() == Some("analyze") {
                // The last one counts.
                analyze = is_on(option.arg());
            }
        }
        if !matches!(self.found.act, Act::Execute { .. }) {
            self.found.act = Act::Explain { analyze };
        }
        Ok(())
    }

    /// The weakest mode asks for the right to read, every other for one to write.
    fn lock(&mut self, lock: &'a nodes::LockStmt) -> Done {
        self.found.kinds.insert(Kind::Utility);
        self.found.act = Act::Other;
        for table in lock.relations() {
            match table {
                Node::RangeVar(table) => {
                    self.table(table, Kind::Utility, lock.mode > ACCESS_SHARE_LOCK);
                }
                _ => self.unknown()?,
            }
        }
        Ok(())
    }

    fn vacuum(&mut self, vacuum: &'a nodes::VacuumStmt) -> Done {
        self.found.kinds.insert(Kind::Utility);
        self.found.act = Act::Other;
        // What is analyzed is read: all columns, where the text names none.
        let on =
            |option: &nodes::DefElem| option.defname() == Some("analyze") && is_on(option.arg());
        let analyzes = !vacuum.is_vacuumcmd || vacuum.options().into_iter().any(on);
        for table in vacuum.rels() {
            self.target(table.relation(), Kind::Utility);
            if analyzes {
                self.name_targets(table.relation(), table.va_cols());
            }
        }
        self.found.columns.unnamed |= analyzes && vacuum.rels().is_empty();
        Ok(())
    }
}

/// A literal that has the same text whatever the type is that it is taken for.
fn argument(node: Node<'_>) -> Option<Box<str>> {
    let Node::A_Const(literal) = node else { return None };
    match literal.val()? {
        ConstValue::String(text) => Some(text.into()),
        ConstValue::Integer(number) => Some(number.to_string().into()),
        // A whole number that is longer than an `int4`.
        ConstValue::Float(number) => {
            let digits = number.strip_prefix('-').unwrap_or(number);
            let whole =
                !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
            whole.then(|| number.into())
        }
        ConstValue::Boolean(flag) => Some(if flag { "true" } else { "false" }.into()),
        _ => None,
    }
}

/// `nodes/parsenodes.h`.
const CURSOR_OPT_HOLD: i32 = 0x0020;
/// `storage/lockdefs.h`.
const ACCESS_SHARE_LOCK: i32 = 1;

/// A name that the grammar always gives.
pub(super) fn text(name: Option<&str>) -> Box<str> {
    name.unwrap_or_default().into()
}

/// The server's reading of a boolean option; what it would refuse counts as on.
fn is_on(value: Node<'_>) -> bool {
    match value {
        Node::Integer(value) => value.ival != 0,
        Node::Boolean(value) => value.boolval,
        Node::String(value) => {
            let value = value.sval().unwrap_or_default();
            !["false", "off"].iter().any(|off| value.eq_ignore_ascii_case(off))
        }
        _ => true,
    }
}
