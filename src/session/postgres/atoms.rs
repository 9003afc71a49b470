//! From what a statement does to the words that policy has for it: tables, columns, functions.

use super::judge::is_of_session;
use super::settings::SEARCH_PATH;
use crate::sql::{self, Act, Function, Kind, Statement};
use std::rc::Rc;

/// One way in which a statement touches something.
pub(super) struct Atom {
    pub(super) kind: Kind,
    /// `schema.name`; `None`: no table.
    pub(super) table: Option<Box<[u8]>>,
    pub(super) write: bool,
    /// The columns of the table that may be meant, as `schema.table.column`; `None`: not to be told.
    pub(super) columns: Option<Rc<[Box<str>]>>,
}

/// About what the memory of a statement is: names and what is made of them.
pub(super) fn weight(statement: &Statement) -> usize {
    let columns = statement.columns.named.len();
    let arguments = match &statement.act {
        Act::Execute { arguments, .. } => arguments.len(),
        _ => 0,
    };
    let names = 2 * (statement.accesses.len() + statement.functions.len())
        + statement.columns.used.len()
        + columns
        + (columns * statement.accesses.len()).min(CANDIDATES_MAX)
        + statement.types.len()
        + statement.settings.len()
        + arguments;
    size_of::<Statement>() + names * NAME_COST
}

/// The ways in which a statement touches something.
pub(super) fn atoms(statement: &Statement) -> Vec<Atom> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut candidates = Candidates::of(statement);
    for access in &statement.accesses {
        let table = full_name(&access.table);
        // A definition uses columns in ways that its text does not tell.
        let columns = if access.kind == Kind::Ddl { None } else { candidates.columns(&table) };
        let table = Some(table.into_bytes().into());
        atoms.push(Atom { kind: access.kind, table, write: access.write, columns });
    }
    for kind in statement.kinds.iter() {
        let seen = atoms.iter().any(|atom| atom.kind == kind);
        // A select without tables is nothing beside what has some, its functions count for all;
        // and what only wraps another statement is nothing beside it.
        let beside = match kind {
            Kind::Select => !statement.accesses.is_empty(),
            Kind::Utility => is_of_session(&statement.act) && !atoms.is_empty(),
            _ => false,
        };
        if !seen && !beside {
            // ANALYZE without a table reads the columns of all.
            let all = kind == Kind::Utility
                && statement.columns.unnamed
                && statement.accesses.is_empty()
                && !is_of_session(&statement.act);
            let columns = (kind != Kind::Unknown && !all).then(|| Rc::from([]));
            atoms.push(Atom { kind, table: None, write: false, columns });
        }
    }
    atoms
}

/// `schema.name`, looked up where the server looks.
fn full_name(table: &sql::Name) -> String {
    let name = &table.name;
    match &table.schema {
        Some(schema) => format!("{schema}.{name}"),
        None if sql::is_system_table(name) => format!("pg_catalog.{name}"),
        None => format!("{SEARCH_PATH}.{name}"),
    }
}

/// Which columns of which table a statement may mean.
struct Candidates<'s> {
    /// With the table where it is told.
    named: Vec<(Option<String>, &'s str)>,
    /// They can be told.
    told: bool,
    /// Of the table that was asked about last: one table stands in several accesses, side by side.
    last: Option<(String, Rc<[Box<str>]>)>,
}

impl<'s> Candidates<'s> {
    fn of(statement: &'s Statement) -> Self {
        let columns = &statement.columns;
        // Else a short text could make many names.
        let few = columns.named.len() * statement.accesses.len() <= CANDIDATES_MAX;
        let told = few && !columns.unnamed && !statement.is_unknown();
        let named = columns.named.iter().filter(|_| told);
        let named = named.map(|(table, name)| (table.as_ref().map(full_name), &**name)).collect();
        Self { named, told, last: None }
    }

    fn columns(&mut self, table: &str) -> Option<Rc<[Box<str>]>> {
        if !self.told {
            return None;
        }
        if let Some((last, columns)) = &self.last
            && last == table
        {
            return Some(Rc::clone(columns));
        }
        let of = self.named.iter().filter(|(of, _)| of.as_ref().is_none_or(|of| of == table));
        let mut columns: Vec<Box<str>> =
            of.map(|(_, name)| format!("{table}.{name}").into()).collect();
        columns.sort_unstable();
        columns.dedup();
        let columns: Rc<[Box<str>]> = columns.into();
        self.last = Some((table.to_owned(), Rc::clone(&columns)));
        Some(columns)
    }
}

/// Names of tables by names of columns in one statement; with more no rule about columns allows it.
pub(super) const CANDIDATES_MAX: usize = 4_096;

/// The functions as policy names them. What `set_config` sets is judged as SET is.
pub(super) fn functions(statement: &Statement) -> Vec<(Box<[u8]>, bool)> {
    let named = statement.functions.iter().filter(|function| !is_set_config(function));
    let named = named.map(|function| {
        let name = &function.name;
        let text = match name.schema.as_deref() {
            None | Some("pg_catalog") => name.name.to_string(),
            Some(schema) => format!("{schema}.{}", name.name),
        };
        (text.into_bytes().into(), function.plain)
    });
    named.collect()
}

pub(super) fn is_set_config(function: &Function) -> bool {
    let schema = function.name.schema.as_deref();
    matches!(schema, None | Some("pg_catalog")) && &*function.name.name == "set_config"
}

/// About what a name is with its allocation.
const NAME_COST: usize = 96;
