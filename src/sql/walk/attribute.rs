//! Calls that look like columns: `(x).f` and `g.f` are `f(x)` where they are no column.
//!
//! The server takes what stands behind a point for a column of the row before it, and where there
//! is none for the function of that name with one argument (`ParseFuncOrColumn`), whatever the
//! argument's type is: `('SELECT ...').ts_stat` runs SQL text. The same holds for the alias of a
//! function in FROM that gives a scalar: `SELECT q.ts_stat FROM lower('SELECT ...') q`. Of a name
//! that is no known column the text cannot tell, so it counts as a call; a field of a composite
//! type, too. A row of a table is another matter: see the module of `sql`.

use super::names::dotted;
use super::{Function, Name, Node, Walk, is_plain, nodes};
use crate::sql::builtins::{is_special_builtin, outputs_of};

/// A function in FROM, by the name of its rows.
pub(super) struct Call<'a> {
    /// `None`: the text does not tell.
    row: Option<&'a str>,
    columns: Vec<&'a str>,
    /// The columns are all that it has.
    known: bool,
}

impl<'a> Walk<'a> {
    /// `(x).f`.
    pub(super) fn fields(&mut self, path: &'a nodes::A_Indirection) {
        let mut columns = match path.arg() {
            Node::FuncCall(call) => columns_of(call),
            _ => Vec::new(),
        };
        for step in path.indirection() {
            if let Node::String(name) = step {
                let name = name.sval().unwrap_or_default();
                if !columns.contains(&name) {
                    self.call_by_point(name);
                }
            }
            columns.clear();
        }
    }

    /// `g.f`: looked at when all of FROM is known.
    pub(super) fn qualified(&mut self, column: &'a nodes::ColumnRef) {
        let mut parts = column.fields().into_iter().map(|part| match part {
            Node::String(part) => part.sval(),
            _ => None,
        });
        if let (Some(Some(row)), Some(Some(name)), None) =
            (parts.next(), parts.next(), parts.next())
        {
            self.qualified.push((row, name));
        }
    }

    /// Writes down what the rows of a function in FROM are called, and their columns.
    pub(super) fn note_call(&mut self, range: &'a nodes::RangeFunction) {
        let mut call = Call { row: None, columns: Vec::new(), known: true };
        for function in range.functions() {
            // Each with a list of its columns, which may be empty.
            let Node::NodeList(parts) = function else { continue };
            for part in parts {
                match part {
                    Node::FuncCall(function) => {
                        let (schema, name) = dotted(function.funcname()).unwrap_or_default();
                        call.known &= is_plain(schema, name) && !GIVES_ROWS.contains(&name);
                        call.columns.extend(columns_of(function));
                        call.columns.push(name);
                        call.row = call.row.or(Some(name));
                    }
                    Node::NodeList(columns) => call.add_columns(columns),
                    _ => {}
                }
            }
        }
        call.columns.extend(range.coldeflist().into_iter().filter_map(|column| column.colname()));
        if range.ordinality {
            call.columns.push("ordinality");
        }
        if let Some(alias) = range.alias() {
            call.row = alias.aliasname();
            call.columns.extend(call.row);
            call.columns.extend(alias.colnames().into_iter().filter_map(|name| match name {
                Node::String(name) => name.sval(),
                _ => None,
            }));
        }
        self.calls.push(call);
    }

    /// Finds the calls among qualified names.
    pub(super) fn settle_calls(&mut self) {
        for (row, name) in std::mem::take(&mut self.qualified) {
            let called = self.calls.iter().any(|call| {
                call.row.is_none_or(|own| own == row)
                    && !call.columns.contains(&name)
                    && (call.known || is_special_builtin(name))
            });
            if called {
                self.call_by_point(name);
            }
        }
    }

    fn call_by_point(&mut self, name: &str) {
        let plain = is_plain(None, name);
        self.found.functions.push(Function { name: Name::new(None, name), plain });
    }
}

/// These give rows of the type of their argument, never a scalar.
const GIVES_ROWS: [&str; 8] = [
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
];

impl<'a> Call<'a> {
    fn add_columns(&mut self, columns: &'a pg_raw_parse::list::NodeList) {
        for column in columns {
            if let Node::ColumnDef(column) = column {
                self.columns.extend(column.colname());
            }
        }
    }
}

/// The columns of what a call gives, where it is a function of the server's.
fn columns_of(call: &nodes::FuncCall) -> Vec<&'static str> {
    let (schema, name) = dotted(call.funcname()).unwrap_or_default();
    outputs_of(schema, name).collect()
}
