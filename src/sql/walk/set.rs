//! Settings and transactions.

use super::names::{CATALOG, dotted};
use super::{Act, Done, Kind, Node, Setting, Walk, nodes, utility::text};
use pg_raw_parse::list::NodeList;
use pg_raw_parse::{ConstValue, raw};

impl<'a> Walk<'a> {
    pub(super) fn transaction(&mut self, statement: &'a nodes::TransactionStmt) -> Done {
        self.found.kinds.insert(Kind::Transaction);
        let name = || text(statement.savepoint_name());
        let chain = statement.chain;
        self.found.act = match statement.kind {
            raw::TransactionStmtKind::TRANS_STMT_BEGIN
            | raw::TransactionStmtKind::TRANS_STMT_START => {
                Act::Begin { read_only: read_only(statement.options()) }
            }
            raw::TransactionStmtKind::TRANS_STMT_COMMIT => Act::Commit { chain },
            raw::TransactionStmtKind::TRANS_STMT_ROLLBACK => Act::Rollback { chain },
            raw::TransactionStmtKind::TRANS_STMT_SAVEPOINT => Act::Savepoint { name: name() },
            raw::TransactionStmtKind::TRANS_STMT_RELEASE => Act::Release { name: name() },
            raw::TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Act::RollbackTo { name: name() },
            raw::TransactionStmtKind::TRANS_STMT_PREPARE => Act::PrepareTransaction,
            raw::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => {
                Act::EndPrepared { commit: true }
            }
            raw::TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => {
                Act::EndPrepared { commit: false }
            }
            _ => {
                self.found.act = Act::Other;
                return self.unknown();
            }
        };
        Ok(())
    }

    pub(super) fn set(&mut self, set: &'a nodes::VariableSetStmt) -> Done {
        let name: Box<str> = set.name().unwrap_or_default().to_ascii_lowercase().into();
        let (kind, act) = match set.kind {
            raw::VariableSetKind::VAR_SET_VALUE => {
                let value = value(&name, set.args());
                (Kind::Set, Act::Set { name, value, local: set.is_local })
            }
            raw::VariableSetKind::VAR_SET_DEFAULT | raw::VariableSetKind::VAR_RESET => {
                (Kind::Set, Act::Reset { name: Some(name) })
            }
            raw::VariableSetKind::VAR_RESET_ALL => (Kind::Set, Act::Reset { name: None }),
            // SET TRANSACTION and its kin: the name says which.
            raw::VariableSetKind::VAR_SET_MULTI => (
                Kind::Transaction,
                Act::SetTransaction {
                    session: &*name == "session characteristics",
                    read_only: read_only(set.args()),
                    snapshot: &*name == "transaction snapshot",
                },
            ),
            // FROM CURRENT stands in definitions of functions alone.
            _ => (Kind::Unknown, Act::Other),
        };
        self.found.kinds.insert(kind);
        self.found.act = act;
        Ok(())
    }
}

impl<'a> Walk<'a> {
    /// Writes down what a call of `set_config` sets, as far as the text tells.
    pub(super) fn note_set_config(&mut self, call: &'a nodes::FuncCall) {
        let Some((schema, "set_config")) = dotted(call.funcname()) else { return };
        if schema.is_some_and(|schema| schema != CATALOG) {
            return;
        }
        let mut arguments = call.args().into_iter().map(literal);
        let name = arguments.next().flatten();
        let value = arguments.next().flatten();
        self.found.settings.push(Setting {
            name: name.map(|name| name.to_ascii_lowercase().into()),
            value: value.map(Into::into),
        });
    }
}

/// A string literal; not one with a cast or a name (`setting_name => 'x'`).
fn literal(node: Node<'_>) -> Option<&str> {
    let Node::A_Const(literal) = node else { return None };
    match literal.val()? {
        ConstValue::String(text) => Some(text),
        _ => None,
    }
}

/// What a list of transaction modes says of READ ONLY; the last one counts.
fn read_only(modes: &NodeList) -> Option<bool> {
    let mut said = None;
    for mode in modes {
        if let Node::DefElem(mode) = mode
            && mode.defname() == Some("transaction_read_only")
        {
            said = match mode.arg() {
                Node::A_Const(value) => match value.val() {
                    Some(ConstValue::Integer(value)) => Some(value != 0),
                    Some(ConstValue::Boolean(value)) => Some(value),
                    _ => None,
                },
                _ => None,
            };
        }
    }
    said
}

/// Settings whose elements the server quotes when it joins them (`GUC_LIST_QUOTE`).
const LISTS_OF_NAMES: [&str; 6] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
    "unix_socket_directories",
];

/// The value that the server makes of literals; `None` when one of them is none.
fn value(name: &str, literals: &NodeList) -> Option<Box<str>> {
    let quotes = LISTS_OF_NAMES.contains(&name);
    let mut value = String::new();
    for literal in literals {
        let Node::A_Const(literal) = literal else { return None };
        if !value.is_empty() {
            value.push_str(", ");
        }
        match literal.val()? {
            ConstValue::Integer(number) => value.push_str(&number.to_string()),
            ConstValue::Float(number) => value.push_str(number),
            ConstValue::Boolean(flag) => value.push_str(if flag { "true" } else { "false" }),
            ConstValue::String(word) if quotes => quote(word, &mut value),
            ConstValue::String(word) => value.push_str(word),
            _ => return None,
        }
    }
    Some(value.into())
}

/// As the server quotes a name, but that key words are left bare.
fn quote(word: &str, to: &mut String) {
    let bare = word.bytes().next().is_some_and(|first| first.is_ascii_lowercase() || first == b'_')
        && word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if bare {
        to.push_str(word);
    } else {
        to.push('"');
        to.push_str(&word.replace('"', "\"\""));
        to.push('"');
    }
}
