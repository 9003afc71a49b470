//! `weirgate check --connect`: logs in to each database as the gateway would, and asks its catalog
//! for every column that a mask names there.
//!
//! A column that is gone from its table lets nobody in (`session::postgres`), and one that never
//! was there is masked nowhere: both are errors. So is one that a gateway with this `data_dir` follows
//! to another name, for a gateway without would not. A table that is in none of the databases where the
//! mask applies is one as well; one mask may list the tables of several databases.

use super::print_one;
use crate::base::{CredentialId, MaskId, MaskSet, ResourceId};
use crate::cli::mask::{identifier, literal};
use crate::config::{Config, CredentialKind, Diagnostic, MaskSettings, Place, Resource, Source};
use crate::control::database::{Answer, Database, DatabaseError, Times};
use crate::credential::OperatorLogin;
use crate::gateway::{database_target, known_relations};
use crate::mask::{ColumnName, MaskSpec, Plan};
use crate::policy::{Effect, RuleSpec};
use crate::session::postgres::{CatalogQuery, Found};
use crate::session::relations::Relations;
use crate::wire::postgres::Cells;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// Asks and prints. Returns whether all is well.
pub(super) fn ask(
    config: &Config,
    source: &dyn Source,
    json: bool,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let relations = known_relations(&config.gateway.data_dir, source).map_err(io::Error::other)?;
    let tables = BTreeMap::new();
    let mut check = Check { config, source, json, out, relations, errors: 0, tables };
    let databases: Vec<_> = (0u16..)
        .map(ResourceId)
        .zip(&config.resources)
        .filter(|(_, one)| one.protocol == crate::config::Protocol::Postgres)
        .collect();
    if databases.is_empty() && !json {
        writeln!(check.out, "no resource is a database: nothing to connect to")?;
    }
    for (id, resource) in databases {
        check.resource(id, resource)?;
    }
    check.finish()
}

struct Check<'c> {
    config: &'c Config,
    source: &'c dyn Source,
    json: bool,
    out: &'c mut dyn Write,
    /// Where the columns were, as the gateway of this config found them.
    relations: Relations,
    errors: usize,
    /// By mask and column whose table is not in a database: the resources that were asked, and
    /// whether one of them has it.
    tables: BTreeMap<(u16, String), (Vec<String>, bool)>,
}

impl Check<'_> {
    fn resource(&mut self, id: ResourceId, resource: &Resource) -> io::Result<()> {
        let config = self.config;
        let rules = || config.table.rules().map(|(_, rule)| rule).filter(|rule| meets(rule, id));
        let masks = rules().fold(MaskSet::EMPTY, |all, rule| all.union(rule.then.masks));
        let mut credentials = vec![resource.credential];
        credentials.extend(rules().filter_map(|rule| rule.then.credential));
        credentials.sort_unstable();
        credentials.dedup();
        for credential in credentials {
            if let Err(diagnostic) = self.credential(resource, credential, masks)? {
                self.error(&diagnostic)?;
            }
        }
        Ok(())
    }

    /// Logs in by one credential, and looks for the columns.
    fn credential(
        &mut self,
        resource: &Resource,
        id: CredentialId,
        masks: MaskSet,
    ) -> io::Result<Result<(), Diagnostic>> {
        let config = self.config;
        let Some(spec) = config.credentials.get(id.index()) else { return Ok(Ok(())) };
        let CredentialKind::Password { user, secret, role } = &spec.kind else { return Ok(Ok(())) };
        let opened = match config.resolve_credential(id, self.source) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Ok(())),
            Err(diagnostic) => return Ok(Err(diagnostic)),
        };
        let login = OperatorLogin::new(user.clone(), opened, role.clone());
        let failed = |place: &Place, error: &dyn std::fmt::Display| {
            let (name, to) = (&resource.name, &resource.upstream.authority);
            place.says(
                format!("resource `{name}`: no login as `{user}` at {to}: {error}"),
                "`serve` would refuse every caller of it",
            )
        };
        let target = match database_target(resource, self.source) {
            Ok(target) => target,
            Err(error) => return Ok(Err(failed(&secret.place, &error))),
        };
        let mut database = match Database::connect(&target, &login, PINNED, Times::of(SILENCE)) {
            Ok(database) => database,
            Err(error) => return Ok(Err(failed(&secret.place, &error))),
        };
        let found = self.columns(resource, masks, &mut database)?;
        let found = match found {
            Ok(found) => found,
            Err(error) => return Ok(Err(failed(&secret.place, &error))),
        };
        let open = readable(&found, &mut database).unwrap_or_default();
        self.good(
            resource,
            (role.as_deref().unwrap_or(user), &spec.name),
            &database,
            &found,
            &open,
        )?;
        database.end();
        Ok(Ok(()))
    }

    /// The masked columns that are there; those that are not are printed, or kept for the end.
    fn columns(
        &mut self,
        resource: &Resource,
        masks: MaskSet,
        database: &mut Database,
    ) -> io::Result<Result<Vec<ColumnName>, String>> {
        let config = self.config;
        let mut found: Vec<ColumnName> = Vec::new();
        for id in masks.iter() {
            let Some(mask) = config.masks.get(id.index()) else { continue };
            let seen = match seen(mask, resource, &self.relations, database) {
                Ok(seen) => seen,
                Err(error) => return Ok(Err(error)),
            };
            for column in &mask.spec.columns {
                let name = column.to_string();
                let gone = seen.missing.iter().find(|one| one.name == name);
                let moved: Vec<_> = seen.moved.iter().filter(|one| one.name == name).collect();
                for one in &moved {
                    self.error(&mask.place.says(
                        format!(
                            "mask `{}`: the column `{name}` is `{}` by now in `{}`",
                            mask.name, one.now, resource.name
                        ),
                        "only a gateway that found it before, by its data_dir, follows it there; \
                         write the name of today",
                    ))?;
                }
                if gone.is_some_and(|one| one.table) {
                    self.error(&mask.place.says(
                        format!(
                            "mask `{}`: the column `{name}` is not in its table in `{}`",
                            mask.name, resource.name
                        ),
                        "nobody who owes the mask is let in; write the column's name of today",
                    ))?;
                    continue;
                }
                self.table(id, &name, resource, gone.is_none());
                let named = gone.is_none() && !moved.iter().any(|one| one.only);
                if named && !found.contains(column) {
                    found.push(column.clone());
                }
            }
        }
        Ok(Ok(found))
    }

    fn table(&mut self, mask: MaskId, column: &str, resource: &Resource, is_there: bool) {
        let entry = self.tables.entry((mask.0, column.to_owned())).or_default();
        entry.0.push(resource.name.clone());
        entry.1 |= is_there;
    }

    fn good(
        &mut self,
        resource: &Resource,
        (role, credential): (&str, &str),
        database: &Database,
        found: &[ColumnName],
        open: &[&ColumnName],
    ) -> io::Result<()> {
        let names = |names: &mut dyn Iterator<Item = &ColumnName>| -> Vec<String> {
            names.map(ToString::to_string).collect()
        };
        let open = names(&mut open.iter().copied());
        let (version, encryption) = (database.version(), database.encryption());
        if self.json {
            return writeln!(
                self.out,
                "{}",
                json!({
                    "level": "ok", "resource": resource.name, "upstream": resource.upstream.authority,
                    "database": resource.database, "credential": credential, "role": role,
                    "server_version": version, "encryption": encryption,
                    "masked_columns": names(&mut found.iter()), "readable_columns": open,
                })
            );
        }
        writeln!(
            self.out,
            "resource {}: ok ({}/{} as {role}, PostgreSQL {version}, {encryption}, {} masked columns \
             there)",
            resource.name,
            resource.upstream.authority,
            resource.database,
            found.len()
        )?;
        if open.is_empty() {
            return Ok(());
        }
        writeln!(
            self.out,
            "    note: {role} may read {} in the database itself; `weirgate mask grants` prints what \
             takes that",
            open.join(", ")
        )
    }

    fn error(&mut self, diagnostic: &Diagnostic) -> io::Result<()> {
        self.errors += 1;
        print_one("error", diagnostic, self.json, self.out)
    }

    fn finish(mut self) -> io::Result<bool> {
        let nowhere: Vec<_> =
            std::mem::take(&mut self.tables).into_iter().filter(|(_, (_, found))| !found).collect();
        for ((mask, column), (mut asked, _)) in nowhere {
            let Some(mask) = self.config.masks.get(usize::from(mask)) else { continue };
            asked.dedup();
            let resources = asked.join("`, `");
            self.error(&mask.place.says(
                format!("mask `{}`: `{column}` has no table in `{resources}`", mask.name),
                "nothing is masked by it; write the schema and the table as the database has them",
            ))?;
        }
        if self.errors > 0 && !self.json {
            let plural = if self.errors == 1 { "" } else { "s" };
            writeln!(self.out, "{} error{plural}", self.errors)?;
        }
        Ok(self.errors == 0)
    }
}

/// Whether a statement on the resource could meet the rule.
fn meets(rule: &RuleSpec, id: ResourceId) -> bool {
    let about = rule.what.resource.as_ref().is_none_or(|list| list.contains(&id));
    rule.effect == Effect::Allow && about && !rule.what.names_http()
}

/// What the catalog says of a mask's columns.
fn seen(
    mask: &MaskSettings,
    resource: &Resource,
    relations: &Relations,
    database: &mut Database,
) -> Result<Found, String> {
    let (name, columns) = (mask.name.clone(), mask.spec.columns.clone());
    let plan = Plan::compile(&[MaskSpec { name, columns, ..MaskSpec::default() }])?;
    let authority = &resource.upstream.authority;
    let asked = CatalogQuery::new(&plan, authority, &resource.database, relations);
    let Some(query) = asked.text() else { return Ok(Found::default()) };
    let answer = one(database.query(&query))?;
    asked.read(answer.rows.iter().map(Vec::as_slice))
}

/// Which of the columns the role may read in the database itself.
fn readable<'n>(
    columns: &'n [ColumnName],
    database: &mut Database,
) -> Result<Vec<&'n ColumnName>, String> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let asked = columns.iter().map(|name| {
        let table = format!("{}.{}", identifier(name.schema()), identifier(name.table()));
        let column = literal(name.column());
        format!("pg_catalog.has_column_privilege({}, {column}, 'select')", literal(&table))
    });
    let answer = one(database.query(&format!("select {}", asked.collect::<Vec<_>>().join(", "))))?;
    let row = answer.rows.first().ok_or("no row")?;
    let mut cells = Cells::new(row).map_err(|error| format!("{error:?}"))?;
    let mut open = Vec::new();
    for column in columns {
        if cells.next().ok().flatten().flatten() == Some(b"t") {
            open.push(column);
        }
    }
    Ok(open)
}

fn one(answers: Result<Vec<Answer>, DatabaseError>) -> Result<Answer, String> {
    let answer = answers.map_err(|error| error.to_string())?.pop().ok_or("no answer")?;
    match &answer.outcome {
        Ok(_) => Ok(answer),
        Err(error) => Err(error.to_string()),
    }
}

/// What the gateway pins as well.
const PINNED: &[(&str, &str)] = &[
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("search_path", "public"),
    ("application_name", "weirgate check"),
];
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
