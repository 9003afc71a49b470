//! `weirgate mask grants`: the rights in the database itself that make the promise of a column mask
//! hold also against whoever writes the SQL.

use super::check::print_one;
use crate::config::{Config, CredentialKind, Protocol, Source, load};
use crate::mask::ColumnName;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What `mask grants` was asked.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// The config.
    pub config: PathBuf,
    /// Only this mask; all without.
    pub mask: Option<String>,
    /// The role whose rights are taken; those of the credentials of postgres resources without.
    pub role: Option<String>,
}

/// Prints the script. Returns 0; 1 where no mask names a column; 2 where it could not run.
pub fn grants(
    options: &Grants,
    source: &dyn Source,
    out: &mut dyn Write,
    errors: &mut dyn Write,
) -> u8 {
    let Some(config) = loaded(&options.config, source, errors) else { return 2 };
    let mut say = |text: &str| {
        // Nothing is left to do where even this cannot be written.
        let _ = writeln!(errors, "error: {text}");
    };
    if let Some(name) = &options.mask
        && config.mask_id(name).is_none()
    {
        say(&format!("no [[mask]] is named `{name}`"));
        return 2;
    }
    let tables = tables(&config, options.mask.as_deref());
    if tables.is_empty() {
        say("no mask names a column of a database: nothing is to be granted");
        return 1;
    }
    let roles = match &options.role {
        Some(role) => vec![role.clone()],
        None => roles(&config),
    };
    if roles.is_empty() {
        say("no credential of a postgres resource names a role: write --role NAME");
        return 2;
    }
    match print(&tables, &roles, out) {
        Ok(()) => 0,
        Err(error) => {
            say(&format!("cannot write the script: {error}"));
            2
        }
    }
}

fn loaded(path: &Path, source: &dyn Source, errors: &mut dyn Write) -> Option<Config> {
    match load(path, source) {
        Ok(config) => Some(config),
        Err(diagnostics) => {
            for diagnostic in &diagnostics {
                let _ = print_one("error", diagnostic, false, errors);
            }
            None
        }
    }
}

type Tables<'c> = BTreeMap<(&'c str, &'c str), Vec<&'c str>>;

/// The masked columns of each table.
fn tables<'c>(config: &'c Config, mask: Option<&str>) -> Tables<'c> {
    let mut tables = Tables::new();
    let masks = config.masks.iter().filter(|one| mask.is_none_or(|name| one.name == name));
    let columns = masks.flat_map(|one| &one.spec.columns);
    for name in columns {
        let name: &ColumnName = name;
        let columns = tables.entry((name.schema(), name.table())).or_default();
        if !columns.contains(&name.column()) {
            columns.push(name.column());
        }
    }
    tables
}

/// Whose rights a session has: the role that it takes on, else the user that it logs in as.
fn roles(config: &Config) -> Vec<String> {
    let databases = config.resources.iter().filter(|one| one.protocol == Protocol::Postgres);
    let named = databases.filter_map(|resource| {
        match &config.credentials.get(resource.credential.index())?.kind {
            CredentialKind::Password { user, role, .. } => {
                Some(role.clone().unwrap_or_else(|| user.clone()))
            }
            _ => None,
        }
    });
    let mut roles: Vec<String> = named.collect();
    roles.sort();
    roles.dedup();
    roles
}

fn print(tables: &Tables<'_>, roles: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "-- Rights that keep masked columns from whoever writes the SQL. Look at it first: `select *`"
    )?;
    writeln!(
        out,
        "-- and whatever else reads these columns fails afterwards. Run it as the tables' owner, once in"
    )?;
    writeln!(
        out,
        "-- each database. What PUBLIC, other roles of the user, and views of other owners may read is"
    )?;
    writeln!(out, "-- not in it.")?;
    writeln!(out, "begin;")?;
    for ((schema, table), columns) in tables {
        let relation = format!("{}.{}", identifier(schema), identifier(table));
        let masked: Vec<String> = columns.iter().map(|column| literal(column)).collect();
        for role in roles {
            writeln!(out, "revoke select on table {relation} from {};", identifier(role))?;
            writeln!(out, "do $weirgate$")?;
            writeln!(out, "declare others text;")?;
            writeln!(out, "begin")?;
            writeln!(
                out,
                "  select string_agg(quote_ident(attname), ', ' order by attnum) into others"
            )?;
            writeln!(out, "    from pg_catalog.pg_attribute")?;
            writeln!(out, "    where attrelid = {}::pg_catalog.regclass", literal(&relation))?;
            writeln!(out, "      and attnum > 0 and not attisdropped")?;
            writeln!(out, "      and attname not in ({});", masked.join(", "))?;
            writeln!(out, "  if others is not null then")?;
            writeln!(
                out,
                "    execute format('grant select (%s) on table %s to %s', others, {}, {});",
                literal(&relation),
                literal(&identifier(role)),
            )?;
            writeln!(out, "  end if;")?;
            writeln!(out, "end $weirgate$;")?;
        }
    }
    writeln!(out, "commit;")
}

pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal that reads the same whether or not backslashes are plain in strings. A name that holds
/// the mark of the block around it would end that.
pub(super) fn literal(text: &str) -> String {
    let text = text.replace('\'', "''").replace('\\', "\\\\").replace("$weirgate$", "$weirgate\\$");
    if text.contains('\\') { format!("E'{text}'") } else { format!("'{text}'") }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::cli::source::System;

    const CONFIG: &str = r#"
[[issuer]]
name = "corp"
issuer = "https://idp.example.com"
audience = ["weirgate"]
algorithms = ["ES256"]
profile = "rfc9068"
[[listener]]
name = "db"
address = "127.0.0.1:0"
protocol = "postgres"
insecure = true
[[resource]]
name = "orders"
protocol = "postgres"
upstream = "postgres://127.0.0.1:1/orders"
credential = { kind = "password", user = "app", secret = "env:X" }
[[mask]]
name = "pii"
columns = ["public.customers.email", "public.customers.ssn", "public.\"it's\".a"]
[[mask]]
name = "other"
detect = ["email"]
"#;

    fn run(text: &str, mask: Option<&str>) -> (u8, String) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("gw.toml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let options = Grants { config, mask: mask.map(str::to_owned), role: None };
        let code = grants(&options, &System, &mut out, &mut errors);
        out.append(&mut errors);
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn every_table_with_masked_columns_is_in_the_script() {
        let (code, text) = run(CONFIG, None);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("revoke select on table \"public\".\"customers\" from \"app\";"));
        assert!(text.contains("attname not in ('email', 'ssn')"));
        assert!(text.contains("'\"public\".\"it''s\"'::pg_catalog.regclass"));
    }

    #[test]
    fn what_names_no_column_has_no_script() {
        assert_eq!(run(CONFIG, Some("other")).0, 1);
        assert_eq!(run(CONFIG, Some("none")).0, 2);
    }
}
