//! What a session masks: by which plan, by which columns of the database, and what that forbids.
//!
//! The plan is the union of all masks that a statement of the caller could owe. The numbers of its
//! columns are read from the catalog before the caller is let in, and again after a statement that
//! may have changed definitions, and from time to time. A relation, or a column of one, that was made
//! meanwhile gives out NULL until then. Where the columns were found before, in any session, they are
//! looked for again: a name is not all that a mask goes by.

use super::columns::{Before, CatalogError, Columns, Reading};
use super::judge::Analysis;
use super::kin;
use super::passage::Passage;
use super::rows::{RowMask, RowPlan};
use crate::base::{ExchangeId, Now};
use crate::mask::{ColumnRule, Level, Plan};
use crate::session::relations::{Relations, Spot};
use crate::sql::{Access, Act, Kind, Statement};
use crate::wire::postgres::{self as wire, Fields, TxStatus, write};
use std::sync::Arc;

/// See the module.
pub(super) struct Masking {
    pub(super) plan: Arc<Plan>,
    pub(super) columns: Columns,
    /// Rules that deny columns ask which tables belong to others; and whether that was read.
    asks_kin: bool,
    has_kin: bool,
    /// The catalog may have changed since it was read.
    stale: bool,
    /// A definition went since it was read.
    pub(super) defined: bool,
    /// It was read in a transaction, which may undo what it says.
    open: bool,
    read_ns: u64,
    pub(super) refresh: Option<Refresh>,
    /// Of the rows that come, and the plan that it was made by.
    pub(super) rows: Option<RowPlan>,
    pub(super) rows_by: Arc<Plan>,
    pub(super) mask: RowMask,
    /// Rows that were rewritten and are not released yet.
    pub(super) written: Vec<u8>,
    /// Of rows that are masked while they come.
    pub(super) passage: Passage,
}

/// The catalog is being read.
pub(super) struct Refresh {
    rows: Vec<Vec<u8>>,
    bytes: usize,
    failed: bool,
    /// Where the columns were found before.
    known: Vec<Before>,
    pub(super) asks_kin: bool,
    /// What the caller is told when it was read for the first time.
    pub(super) first: Option<(Vec<u8>, TxStatus)>,
}

impl Masking {
    pub(super) fn new(plan: Arc<Plan>, asks_kin: bool) -> Self {
        Self {
            stale: plan.has_columns() || asks_kin,
            rows_by: Arc::clone(&plan),
            plan,
            columns: Columns::default(),
            defined: false,
            open: false,
            asks_kin,
            has_kin: false,
            read_ns: 0,
            refresh: None,
            rows: None,
            mask: RowMask::default(),
            written: Vec::new(),
            passage: Passage::default(),
        }
    }

    /// Another plan is in force, or other rules: what they need of the catalog is not known yet.
    pub(super) fn replace(&mut self, plan: Arc<Plan>, asks_kin: bool) {
        if !Arc::ptr_eq(&self.plan, &plan) || asks_kin && !self.has_kin {
            self.stale = plan.has_columns() || asks_kin;
            self.columns = Columns::default();
            self.has_kin = false;
            self.plan = plan;
        }
        self.asks_kin = asks_kin;
    }

    fn asks_catalog(&self) -> bool {
        self.plan.has_columns() || self.asks_kin
    }

    /// Whether what rules that deny columns ask for is known.
    pub(super) fn knows_kin(&self) -> bool {
        self.has_kin || !self.asks_kin
    }

    /// The statement may change what the catalog says.
    pub(super) fn noticed(&mut self, statement: &Statement) {
        let changes = [Kind::Ddl, Kind::Do, Kind::Call, Kind::Unknown];
        let kinds = changes.into_iter().any(|kind| statement.kinds.contains(kind));
        let undoes = matches!(statement.act, Act::RollbackTo { .. }) && self.open;
        if kinds || undoes || statement.functions.iter().any(|function| !function.plain) {
            self.stale = self.asks_catalog();
        }
    }

    /// No transaction is open any more.
    pub(super) fn settled(&mut self) {
        self.stale |= std::mem::take(&mut self.open);
    }

    /// Whether the columns of the plan in force are known.
    pub(super) fn is_ready(&self) -> bool {
        self.columns.fits(self.plan.columns())
    }

    /// Whether the catalog is to be read.
    pub(super) fn is_due(&self, now: Now) -> bool {
        let old = now.mono_ns.saturating_sub(self.read_ns) > READ_NS;
        self.asks_catalog() && (self.stale || old) && self.refresh.is_none()
    }

    /// Begins to read the catalog of the database at `place`: the text that asks it.
    pub(super) fn begin(
        &mut self,
        first: Option<(Vec<u8>, TxStatus)>,
        place: &str,
        relations: &Relations,
    ) -> Option<String> {
        let known = before(&self.plan, place, relations);
        let asks_kin = self.asks_kin;
        let columns = super::columns::query(self.plan.columns(), &known);
        let kin = asks_kin.then(kin::query);
        let texts: Vec<_> = columns.into_iter().chain(kin).collect();
        if texts.is_empty() {
            return None;
        }
        let rows = Vec::new();
        self.refresh = Some(Refresh { rows, bytes: 0, failed: false, known, asks_kin, first });
        Some(texts.join(";\n"))
    }

    /// Takes the rows that were read over. What an open transaction says is not kept for others, for
    /// it may not come to be.
    pub(super) fn finish(
        &mut self,
        refresh: &Refresh,
        now: Now,
        (place, keeps): (&str, bool),
        relations: &Relations,
    ) -> Result<(), CatalogError> {
        if refresh.failed {
            return Err(CatalogError::Unexpected);
        }
        let mut reading = Reading::new(self.plan.columns(), &refresh.known);
        for row in &refresh.rows {
            reading.row(row)?;
        }
        self.columns = reading.finish()?;
        (self.stale, self.read_ns) = (false, now.mono_ns);
        self.defined = false;
        self.open |= !keeps;
        for (rule, column) in self.plan.columns().iter().enumerate().filter(|_| keeps) {
            let asked: Vec<_> = of_rule(&refresh.known, rule).collect();
            let found = self.columns.spots(rule);
            relations.learn(place, &column.name().to_string(), &asked, found);
        }
        self.has_kin = refresh.asks_kin;
        Ok(())
    }

    /// Whether a column that was there is nowhere any more.
    pub(super) fn is_lost(&self, place: &str, relations: &Relations) -> bool {
        let gone = |(rule, column): (usize, &ColumnRule)| {
            let known = || relations.known(place, &column.name().to_string());
            self.columns.spots(rule).is_empty() && known().is_some()
        };
        self.plan.columns().iter().enumerate().any(gone)
    }

    /// Says which columns are not where their masks have them.
    pub(super) fn warn(&self, link: ExchangeId) {
        let name = |rule: usize| self.plan.columns().get(rule).map(ColumnRule::name);
        for missing in self.columns.missing() {
            if let Some(column) = name(missing.rule) {
                tracing::warn!(request = %link, %column, "a masked column is not there");
            }
        }
        for moved in self.columns.moved() {
            if let Some(column) = name(moved.rule) {
                let now = &moved.name;
                tracing::warn!(request = %link, %column, %now, "a masked column has another name");
            }
        }
    }

    /// Plans for the rows of these columns, which a statement gives out. `runs` is what it executes by
    /// its name, or itself; `None`: that is not known.
    pub(super) fn plan_rows(
        &mut self,
        columns: wire::Columns<'_>,
        statement: Option<&Statement>,
        runs: Option<&Statement>,
    ) {
        let count = columns.len();
        let outputs = statement.and_then(|statement| statement.columns.outputs.as_ref());
        let outputs = outputs.filter(|outputs| outputs.len() == count);
        let independent =
            |place: usize| outputs.is_some_and(|all| all.get(place).copied().unwrap_or(false));
        let tainted = statement.is_none_or(|statement| self.is_tainted(statement));
        let mut plan =
            RowPlan::of(columns.iter(), &self.columns, &self.plan, tainted, &independent);
        self.stale |= plan.has_unknown();
        match runs {
            _ if !self.hides() => {}
            Some(statement) => self.hide_ruled(&mut plan, columns, statement),
            None => plan.hide(|_| true),
        }
        self.rows = Some(plan);
        // Another one may be in force before they have come.
        self.rows_by = Arc::clone(&self.plan);
    }

    /// Whether rows may be withheld by what their statement is.
    fn hides(&self) -> bool {
        self.plan.has_columns() && !self.plan.blocks_all()
    }

    /// What a rewrite rule puts into the answer to a write has the names and origins that it likes.
    fn hide_ruled(&self, plan: &mut RowPlan, columns: wire::Columns<'_>, statement: &Statement) {
        let writes = [Kind::Insert, Kind::Update, Kind::Delete, Kind::Merge];
        let writes = writes.into_iter().any(|kind| statement.kinds.contains(kind));
        if !writes || matches!(statement.act, Act::Explain { .. }) {
            return;
        }
        let ruled: Vec<bool> =
            columns.iter().map(|column| self.columns.is_ruled(column.table)).collect();
        let all = !statement.columns.returns;
        plan.hide(|place| all || ruled.get(place).copied().unwrap_or(true));
    }

    /// Masks a row; what comes of it is in `written`.
    ///
    /// # Errors
    /// It cannot be given out.
    pub(super) fn row(&mut self, message: &[u8]) -> Result<(), ()> {
        let body = message.get(wire::FRAME_HEAD..).unwrap_or_default();
        let Some(rows) = &self.rows else { return Err(()) };
        match rows.rewrite(body, &self.rows_by, &mut self.mask, &mut self.written) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.written.extend_from_slice(message);
                Ok(())
            }
            Err(_) => Err(()),
        }
    }

    /// How many values were masked since this was asked.
    pub(super) fn take_finds(&mut self) -> u64 {
        let total = self.mask.finds().total();
        self.mask.forget();
        total
    }

    fn is_closed(&self) -> bool {
        self.plan.has_columns() && self.plan.level() >= Level::DerivedClosed
    }

    fn touches(&self, access: &Access) -> bool {
        match &access.table.schema {
            Some(schema) => {
                self.columns.touches(format!("{schema}.{}", access.table.name).as_bytes())
            }
            None => self.columns.touches_bare(access.table.name.as_bytes()),
        }
    }

    /// Whether a column by this name of a relation is masked.
    fn names(&self, access: &Access, column: &str) -> bool {
        let (table, column) = (&access.table.name, column.as_bytes());
        match &access.table.schema {
            Some(schema) => self.columns.names(format!("{schema}.{table}").as_bytes(), column),
            None => self.columns.names_bare(table.as_bytes(), column),
        }
    }

    /// Whether a masked column may be used otherwise than as an output. A name counts for every table
    /// that the statement touches, where it does not say which.
    fn uses(&self, statement: &Statement) -> bool {
        let columns = &statement.columns;
        let touched = || statement.accesses.iter().filter(|access| self.touches(access));
        touched().next().is_some()
            && (columns.whole
                || columns.used.iter().any(|(table, column)| {
                    let may = |access: &&Access| {
                        table.as_ref().is_none_or(|table| *table == access.table)
                    };
                    touched().filter(may).any(|access| self.names(access, column))
                }))
    }

    /// Whether what the statement computes may be of masked columns.
    pub(super) fn is_tainted(&self, statement: &Statement) -> bool {
        let opaque = [Kind::Call, Kind::Do, Kind::Unknown].into_iter();
        opaque.into_iter().any(|kind| statement.kinds.contains(kind))
            || matches!(statement.act, Act::Fetch { .. } | Act::Execute { .. })
            || statement.functions.iter().any(|function| !function.plain)
            || statement.accesses.iter().any(|access| self.touches(access))
            || statement.accesses.iter().any(|access| access.write && self.is_ruled(access))
    }

    /// Whether rewrite rules make of a write what they like.
    fn is_ruled(&self, access: &Access) -> bool {
        let name = access.table.to_string();
        self.columns.is_ruled_by_name(name.as_bytes())
    }

    /// Whether values in a text may be those of masked columns.
    pub(super) fn is_of_columns(&self, analysis: &Analysis) -> bool {
        let any = || analysis.statements.iter().any(|statement| self.is_tainted(statement));
        self.plan.has_columns() && (analysis.unread.is_some() || any())
    }

    /// Why a statement that is permitted cannot be masked; `None`: it can.
    pub(super) fn forbids(&self, statement: &Statement) -> Option<&'static str> {
        let touched = || statement.accesses.iter().filter(|access| self.touches(access));
        let has = |kind| statement.kinds.contains(kind);
        if has(Kind::CopyIn) || has(Kind::CopyOut) {
            return Some(
                "COPY has rows without the names of their columns, which cannot be masked.",
            );
        }
        if matches!(statement.act, Act::Listen { .. }) {
            return Some("What NOTIFY carries cannot be masked.");
        }
        if statement.settings.iter().any(|setting| setting.value.is_none()) {
            return Some("A setting that is computed would be told back.");
        }
        if touched().any(|access| access.kind == Kind::Ddl && access.write) {
            return Some("A definition may take masked columns to where nothing masks them.");
        }
        if !self.is_closed() {
            return None;
        }
        // What is kept for the session is read back without the column that it came from.
        let keeps = |name: &str| {
            name.starts_with("pg_advisory_")
                || name.starts_with("pg_try_advisory_")
                || name == "setseed"
        };
        if touched().next().is_some()
            && statement.functions.iter().any(|function| keeps(&function.name.name))
        {
            return Some("It may keep masked values where nothing masks them.");
        }
        let reads = touched().any(|access| !access.write);
        // A row that is locked is not written.
        let writes =
            statement.accesses.iter().any(|access| access.write && access.kind != Kind::Select);
        if reads && (writes || has(Kind::Ddl)) {
            return Some(
                "It would copy from a table with masked columns to where nothing masks them.",
            );
        }
        // What it runs is looked at by itself; whether that reads masked columns is not known here.
        if has(Kind::Ddl) && matches!(statement.act, Act::Execute { .. }) {
            return Some(
                "It would copy what a prepared statement gives to where nothing masks it.",
            );
        }
        let changes = touched().any(|access| access.write && access.kind != Kind::Select);
        if changes && [Kind::Update, Kind::Merge].into_iter().any(has) && self.uses(statement) {
            return Some("It uses a masked column of the rows that it changes.");
        }
        if has(Kind::Do) || has(Kind::Call) {
            return Some("What a block or a procedure gives out cannot be masked.");
        }
        if self.plan.level() >= Level::NoUse { self.forbids_use(statement) } else { None }
    }

    /// The same for what only the level `no-use` forbids.
    fn forbids_use(&self, statement: &Statement) -> Option<&'static str> {
        let touched = |kind: Kind| {
            statement.accesses.iter().any(|access| access.kind == kind && self.touches(access))
        };
        if touched(Kind::Ddl) {
            return Some(
                "A definition may use masked columns in ways that its text does not tell.",
            );
        }
        if statement.columns.conflicts && touched(Kind::Insert) {
            return Some(
                "ON CONFLICT without its columns may tell which values of masked columns are there; \
                 name the columns.",
            );
        }
        if self.uses(statement) {
            return Some(
                "It may use a masked column otherwise than as an output: name the columns that it \
                 needs, and none that is masked but among its outputs.",
            );
        }
        None
    }

    /// An error or notice without what it may quote, where the level asks for that; `None`: as it is.
    pub(super) fn complaint(&self, is_error: bool, fields: Fields<'_>) -> Option<Vec<u8>> {
        if !self.is_closed() {
            return self.cleared_complaint(is_error, fields);
        }
        // Detail, hint, context, internal query: words of values. What is left are codes and names.
        let kept = fields.iter().filter(|(code, _)| !b"MDHWq".contains(code));
        let text: &[u8] = b"The server's words are withheld: they may quote masked columns";
        let fields = kept.chain(std::iter::once((b'M', text)));
        let mut told = Vec::new();
        if is_error {
            write::error_fields(fields, &mut told);
        } else {
            write::notice_fields(fields, &mut told);
        }
        Some(told)
    }

    /// The same with what the detectors find in it masked.
    fn cleared_complaint(&self, is_error: bool, fields: Fields<'_>) -> Option<Vec<u8>> {
        if self.plan.is_pass() {
            return None;
        }
        let cleared: Vec<(u8, Vec<u8>)> = fields
            .iter()
            .map(|(code, value)| {
                let mut text = Vec::new();
                self.plan.clear_statement(value, &mut text);
                (code, text)
            })
            .collect();
        let fields = cleared.iter().map(|(code, text)| (*code, text.as_slice()));
        let mut told = Vec::new();
        if is_error {
            write::error_fields(fields, &mut told);
        } else {
            write::notice_fields(fields, &mut told);
        }
        Some(told)
    }
}

impl Refresh {
    /// Takes a message of the answer; `Some`: the answer is whole, and where that leaves the server.
    pub(super) fn take(&mut self, message: &wire::Backend<'_>) -> Option<TxStatus> {
        match message {
            wire::Backend::DataRow(body) => {
                self.bytes += body.len();
                self.failed |= self.bytes > BYTES_MAX;
                if !self.failed {
                    self.rows.push(body.to_vec());
                }
            }
            wire::Backend::Error(fields) => {
                let code = fields.get(b'C').unwrap_or_default();
                tracing::warn!(
                    sqlstate = %String::from_utf8_lossy(code),
                    "the catalog cannot be read"
                );
                self.failed = true;
            }
            wire::Backend::Ready(status) => return Some(*status),
            _ => {}
        }
        None
    }
}

/// Where the columns of a plan were found before.
pub(super) fn before(plan: &Plan, place: &str, relations: &Relations) -> Vec<Before> {
    let of = |(rule, column): (usize, &ColumnRule)| {
        let spots = relations.known(place, &column.name().to_string()).unwrap_or_default();
        spots.into_iter().map(move |spot| (rule, spot)).collect::<Vec<_>>()
    };
    plan.columns().iter().enumerate().flat_map(of).collect()
}

fn of_rule(known: &[Before], rule: usize) -> impl Iterator<Item = Spot> + '_ {
    known.iter().filter(move |(of, _)| *of == rule).map(|(_, spot)| *spot)
}

/// How old what was read may be.
const READ_NS: u64 = 60_000_000_000;
/// Bytes of an answer of the catalog.
const BYTES_MAX: usize = 16 << 20;
