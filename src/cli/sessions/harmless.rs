//! Which recorded statements may run against a server without `--write`.

use crate::sql::{self, Act, Kind, SqlLimits, Statement};

/// Why a text may not run where nothing is to be changed; `Ok`: it only reads.
///
/// It must be known to only read: what the grammar does not know, a function that is no plain
/// built-in, and every utility statement that is not one of the session's own are left out. The
/// server is asked to refuse writes as well (`default_transaction_read_only`), so a statement that
/// ends that is left out, too.
pub(super) fn only_reads(text: &[u8]) -> Result<(), &'static str> {
    let limits = SqlLimits { text_max: TEXT_MAX, ..SqlLimits::default() };
    let statements = sql::parse(text, &limits).map_err(|_| "it cannot be read, and may write")?;
    statements.iter().try_for_each(reads)
}

fn reads(statement: &Statement) -> Result<(), &'static str> {
    let kinds = [Kind::Select, Kind::Set, Kind::Transaction, Kind::Utility];
    if !statement.kinds.iter().all(|kind| kinds.contains(&kind)) {
        return Err("it may write");
    }
    if statement.accesses.iter().any(|access| access.write) {
        return Err("it writes or locks rows");
    }
    let sequence = |name: &str| matches!(name, "nextval" | "setval");
    let special = |function: &sql::Function| !function.plain || sequence(&function.name.name);
    if statement.functions.iter().any(special) || !statement.settings.is_empty() {
        return Err("it calls a function that may write");
    }
    if is_of_session(&statement.act) { Ok(()) } else { Err("it does more than to read") }
}

fn is_of_session(act: &Act) -> bool {
    let held = |name: &str| {
        name.ends_with("read_only") || matches!(name, "role" | "session_authorization")
    };
    match act {
        Act::None
        | Act::Commit { .. }
        | Act::Rollback { .. }
        | Act::Savepoint { .. }
        | Act::Release { .. }
        | Act::RollbackTo { .. }
        | Act::Show { .. }
        | Act::Prepare { .. }
        | Act::Execute { .. }
        | Act::Deallocate { .. }
        | Act::Declare { .. }
        | Act::Fetch { .. }
        | Act::ClosePortal { .. }
        | Act::Explain { .. } => true,
        Act::Begin { read_only } | Act::SetTransaction { read_only, snapshot: false, .. } => {
            *read_only != Some(false)
        }
        Act::Set { name, .. } | Act::Reset { name: Some(name) } => !held(name),
        _ => false,
    }
}

/// Whether data of COPY belongs to a text.
pub(super) fn copies(text: &[u8]) -> bool {
    let limits = SqlLimits { text_max: TEXT_MAX, ..SqlLimits::default() };
    let is_copy = |one: &Statement| matches!(one.act, Act::Copy { .. });
    sql::parse(text, &limits).is_ok_and(|statements| statements.iter().any(is_copy))
}

/// Longest text that is looked at.
const TEXT_MAX: u32 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_runs() {
        for text in [
            "select * from a join b using (id) where lower(a.x) = $1",
            "begin",
            "begin read only; select 1; commit",
            "set datestyle to 'ISO'",
            "prepare p as select 1; execute p",
            "declare c cursor for select * from a; fetch 5 from c; close c",
            "explain (analyze) select * from a",
            "show server_version",
            "",
        ] {
            assert_eq!(only_reads(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_may_write_does_not() {
        for text in [
            "insert into a values (1)",
            "select 1; delete from a",
            "with gone as (delete from a returning *) select * from gone",
            "explain analyze update a set x = 1",
            "select nextval('s')",
            "select my_function(1)",
            "select pg_terminate_backend(1)",
            "select set_config('transaction_read_only', 'off', false)",
            "select * from a for update",
            "begin read write",
            "set transaction read write",
            "set session characteristics as transaction read write",
            "set default_transaction_read_only to off",
            "set role admin",
            "prepare p as insert into a values (1)",
            "create table x (a int)",
            "select * into b from a",
            "do $$ begin end $$",
            "call p()",
            "vacuum",
            "lock table a",
            "notify x",
            "listen x",
            "copy a from stdin",
            "copy a to stdout",
            "prepare transaction 'x'",
            "commit prepared 'x'",
            "discard all",
            "reset all",
            "no sql",
        ] {
            assert!(only_reads(text.as_bytes()).is_err(), "{text}");
        }
        assert!(copies(b"copy a to stdout") && !copies(b"select 1"));
    }
}
