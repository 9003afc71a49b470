//! From statement text to a decision.
//!
//! A text that comes again is kept by its exact bytes ([`Texts`](super::texts::Texts)); what it does
//! is turned into the actions that policy knows: one for each table and the way it is touched, so
//! that every kind and every table of a statement must be permitted. A name without a schema is
//! looked up where the server looks: system tables first, then the schemas that the gateway pinned
//! as search path. No catalog is read for it, so no change of the catalog can make it stale.
//!
//! What has no effect beyond the session (transaction control, settings that are free, a select
//! without tables) is permitted wherever connecting is, unless a rule denies it.

use super::atoms::{Atom, atoms, functions, is_set_config, weight};
use super::bound::{Bound, Kinds};
use super::kin::Kin;
use super::queue::Named;
use super::refuse::Denied;
use super::ruling::Approved;
use super::settings::{self, Setting};
use super::texts::ENTRY_COST;
use super::values::Values;
use crate::base::{ResourceId, RuleId};
use crate::policy::{
    self, Action, Attr, Columns, Decision, DenialKind, Functions, Grant, Need, Parent, Row, Sql,
    SqlFunction, Table,
};
use crate::session::asserted::Asserted;
use crate::session::gate;
use crate::session::refusal::Refusal;
use crate::sql::{self, Act, Function, Kind, SqlError, SqlLimits, Statement};
use std::rc::Rc;

/// What one text does.
pub(in crate::session) struct Analysis {
    /// The text itself, for the record.
    pub(super) text: Box<[u8]>,
    /// Its statements in order; empty for an empty text.
    pub(super) statements: Vec<Statement>,
    /// By statement.
    atoms: Vec<Vec<Atom>>,
    /// By statement: the functions that it calls, as policy names them.
    functions: Vec<Vec<(Box<[u8]>, bool)>>,
    /// About how many bytes of memory it is.
    pub(super) weight: usize,
    /// It could not be read; what policy decides is whether such texts may go at all.
    pub(super) unread: Option<SqlError>,
}

/// A statement that a name stands for.
pub(super) struct Prepared {
    pub(super) analysis: Rc<Analysis>,
    /// Which statement of the text.
    pub(super) place: usize,
    /// What its own comment says of the work that it is for.
    pub(super) said: Asserted,
    /// The name is of Parse: it stands for the statement itself, also where that is a PREPARE.
    pub(super) parsed: bool,
    /// Of its parameters, where rules ask for their values.
    pub(super) kinds: Kinds,
    /// What a portal runs it with.
    pub(super) bound: Bound,
    /// A person may have to approve of what it is run with: it was prepared at home, whatever
    /// session it will run in.
    pub(super) asks: bool,
    /// All that a portal runs it with, where a person has to approve of that.
    pub(super) values: Option<Rc<Values>>,
    /// By whose approval the portal was made.
    pub(super) approved: Option<Rc<Approved>>,
}

impl Prepared {
    /// What a PREPARE holds.
    pub(super) fn new(analysis: Rc<Analysis>, place: usize) -> Rc<Self> {
        Self::declared(analysis, place, Bound::Later)
    }

    /// A statement without a comment of its own that runs with these values: that of a DECLARE.
    pub(super) fn declared(analysis: Rc<Analysis>, place: usize, bound: Bound) -> Rc<Self> {
        Rc::new(Self {
            analysis,
            place,
            said: Asserted::default(),
            parsed: false,
            kinds: Kinds::default(),
            bound,
            asks: false,
            values: None,
            approved: None,
        })
    }

    /// What a DECLARE opens that `by` stands for: it has its values, and its approval.
    pub(super) fn opened(by: &Self) -> Rc<Self> {
        let (values, approved) = (by.values.clone(), by.approved.clone());
        let declared = Self::declared(Rc::clone(&by.analysis), by.place, by.bound.clone());
        match (values, approved) {
            (None, None) => declared,
            (values, approved) => Rc::new(Self { values, approved, ..declared.again() }),
        }
    }

    fn again(&self) -> Self {
        Self {
            analysis: Rc::clone(&self.analysis),
            place: self.place,
            said: self.said.clone(),
            parsed: self.parsed,
            kinds: Kinds::default(),
            bound: self.bound.clone(),
            asks: self.asks,
            values: self.values.clone(),
            approved: self.approved.clone(),
        }
    }

    /// The same for a portal that runs it with `bound`.
    pub(super) fn with(&self, bound: Bound) -> Rc<Self> {
        Rc::new(Self { bound, ..self.again() })
    }

    /// The same for a portal whose values may be asked about, and that was made by an approval.
    pub(super) fn kept(
        &self,
        values: Option<Rc<Values>>,
        approved: Option<Rc<Approved>>,
    ) -> Rc<Self> {
        Rc::new(Self { values, approved, ..self.again() })
    }

    /// About how many bytes of memory a name keeps.
    pub(super) fn name_weight(&self) -> usize {
        self.analysis.weight + self.kinds.weight()
    }

    /// About how many bytes of memory a portal keeps beside its statement.
    pub(super) fn run_weight(&self) -> usize {
        self.bound.weight() + self.values.as_ref().map_or(0, |values| values.weight())
    }

    /// What counts of the values that it is run with: a PREPARE that was parsed is run without any,
    /// and what it holds is not run by that.
    pub(super) fn runs_with(&self, bound: Bound) -> Bound {
        let prepares = |statement: &Statement| matches!(statement.act, Act::Prepare { .. });
        if self.parsed && self.statement().is_some_and(prepares) { Bound::Later } else { bound }
    }

    pub(super) fn statement(&self) -> Option<&Statement> {
        self.analysis.statements.get(self.place)
    }
}

impl Analysis {
    pub(super) fn of(text: &[u8], limits: &SqlLimits) -> Self {
        let (statements, unread) = match sql::parse(text, limits) {
            Ok(statements) => (statements, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let atoms = statements.iter().map(atoms).collect();
        let functions = statements.iter().map(functions).collect();
        let weight = text.len() + ENTRY_COST + statements.iter().map(weight).sum::<usize>();
        Self { text: text.into(), statements, atoms, functions, weight, unread }
    }

    /// What `name` stands for behind this text, where the text says so by PREPARE or DEALLOCATE.
    #[expect(clippy::option_option, reason = "nothing said, said to be gone, said to be this")]
    pub(super) fn prepares(self: &Rc<Self>, name: &[u8]) -> Option<Option<Rc<Prepared>>> {
        let found =
            self.statements.iter().enumerate().rev().find_map(
                |(place, statement)| match &statement.act {
                    Act::Prepare { name: made } if made.as_bytes() == name => Some(Some(place)),
                    Act::Deallocate { name: None } | Act::Discard { all: true } => Some(None),
                    Act::Deallocate { name: Some(gone) } if gone.as_bytes() == name => Some(None),
                    _ => None,
                },
            )?;
        Some(found.map(|place| Prepared::new(Rc::clone(self), place)))
    }

    /// The kinds of all statements, as a word for the record: the strongest one.
    pub(super) fn label(&self) -> &'static str {
        let kinds = || self.statements.iter().flat_map(|statement| statement.kinds.iter());
        match (&self.unread, kinds().next()) {
            (Some(_), _) => Kind::Unknown.label(),
            (None, None) => "empty",
            (None, Some(first)) => {
                kinds().find(|kind| !matches!(kind, Kind::Select)).unwrap_or(first).label()
            }
        }
    }
}

/// What a decision says of a text or a part of it.
pub(super) enum Verdict {
    /// It may go, under these obligations.
    Permit(Rc<Grant>),
    Deny(Denied),
    /// It may go when a person approves.
    Hold(Box<Need>),
    /// It runs what a name stands for, and that is open until what is in flight is answered.
    Open,
}

/// Looks up what a name stands for.
pub(super) struct Names<S, P> {
    pub(super) statement: S,
    pub(super) portal: P,
}

/// Who asks, by what, where.
pub(super) struct Court<'s> {
    pub(super) policy: &'s Table,
    pub(super) row: &'s Row,
    pub(super) principal: &'s crate::identity::Principal,
    pub(super) resource: ResourceId,
    /// Of connecting: for what has no effect beyond the session.
    pub(super) connect: &'s Rc<Grant>,
    /// What the caller says of the work that the statement is for.
    pub(super) asserted: policy::Asserted<'s>,
    /// The text in hand has more than one statement.
    pub(super) multi_statement: bool,
    /// Which tables belong to others, where rules ask for that.
    pub(super) kin: Option<&'s Kin>,
}

/// A statement that runs, by itself or by its name, and what it runs with.
pub(super) struct Part {
    pub(super) analysis: Rc<Analysis>,
    pub(super) place: usize,
    bound: Bound,
    /// All the values of the portal that it is run by, where these were kept.
    pub(super) values: Option<Rc<Values>>,
    /// The types that Parse declared, where it is run by its name.
    pub(super) types: Box<[(u16, u32)]>,
}

impl Part {
    pub(super) fn statement(&self) -> Option<&Statement> {
        self.analysis.statements.get(self.place)
    }

    /// Whether it runs with values that nobody kept.
    pub(super) fn is_untold(&self) -> bool {
        self.values.is_none() && self.bound == Bound::UNREAD
    }
}

impl Court<'_> {
    /// Judges all statements of a text, or one of them, with what they run by its name. `bound`: the
    /// values that the text is run with.
    pub(super) fn judge<S, P>(
        &self,
        analysis: &Rc<Analysis>,
        place: Option<usize>,
        bound: &Bound,
        names: &Names<S, P>,
    ) -> Verdict
    where
        S: Fn(&[u8]) -> Named,
        P: Fn(&[u8]) -> Named,
    {
        if let Some(error) = &analysis.unread {
            return self.judge_unread(error);
        }
        let range = place.map_or(0..analysis.statements.len(), |place| place..place + 1);
        let mut collector = Collector { names, named: self.policy.parameters(), parts: Vec::new() };
        for at in range {
            // What a PREPARE in a text holds is run later, with the values of then.
            let later = place.is_none() && analysis.prepares_at(at);
            let bound = if later { &Bound::Later } else { bound };
            if let Err(verdict) = collector.collect(analysis, at, (bound, None), 0) {
                return verdict;
            }
        }
        let parts = collector.parts;
        // What only touches the session needs no rule of its own; rules that deny are heard.
        let mut judged = Vec::with_capacity(parts.len());
        let mut found = None;
        for part in &parts {
            match self.decide(std::slice::from_ref(&part), None) {
                Decision::Permit(grant) => {
                    found = Some(Verdict::Permit(Rc::new(grant)));
                    judged.push(part);
                }
                Decision::Hold(need) => {
                    found = Some(Verdict::Hold(Box::new(need)));
                    judged.push(part);
                }
                Decision::Deny(denial) => {
                    let harmless = part.analysis.is_harmless(part.place);
                    if denial.kind != DenialKind::NoRule || !harmless {
                        let denied = denied(denial.rule);
                        return Verdict::Deny(self.for_its_values(denied, part));
                    }
                }
            }
        }
        // The obligations of several parts unite.
        if judged.len() > 1 {
            match self.decide(&judged, None) {
                Decision::Permit(grant) => found = Some(Verdict::Permit(Rc::new(grant))),
                Decision::Hold(need) => found = Some(Verdict::Hold(Box::new(need))),
                Decision::Deny(denial) => return Verdict::Deny(denied(denial.rule)),
            }
        }
        found.unwrap_or_else(|| Verdict::Permit(Rc::clone(self.connect)))
    }

    /// Says that the values of a part are why it is refused, where that is so.
    fn for_its_values(&self, denied: Denied, part: &Part) -> Denied {
        let asked = !self.policy.parameters().is_empty() && part.bound != Bound::Later;
        let some = |decision| matches!(decision, Decision::Permit(_) | Decision::Hold(_));
        if asked && some(self.decide(&[part], Some(&Bound::Later))) {
            let detail = "It is refused for the values of its parameters.";
            return Denied { detail, ..denied };
        }
        denied
    }

    fn judge_unread(&self, error: &SqlError) -> Verdict {
        if matches!(error, SqlError::TooLong) {
            let detail = "The statement is longer than [limits] sql_text_max.";
            return Verdict::Deny(Denied::of(Refusal::BodyTooLarge, detail));
        }
        let action = self.action(Sql::UNREADABLE);
        match gate::decide_all(self.policy, self.principal, self.row, [action]) {
            Decision::Permit(grant) => Verdict::Permit(Rc::new(grant)),
            Decision::Hold(need) => Verdict::Hold(Box::new(need)),
            Decision::Deny(denial) => Verdict::Deny(Denied {
                rule: denial.rule,
                by_policy: true,
                ..Denied::of(Refusal::Denied, "The statement cannot be read.")
            }),
        }
    }

    /// Decides what the parts do; with `bound` in the place of the values that each has.
    fn decide(&self, parts: &[&Part], bound: Option<&Bound>) -> Decision {
        let functions: Vec<Vec<SqlFunction<'_>>> =
            parts.iter().map(|part| part.analysis.named_functions(part.place)).collect();
        let parents = self.parents(parts);
        let mut parents = parents.iter();
        let actions = parts.iter().zip(&functions).flat_map(|(part, functions)| {
            let (analysis, place) = (&part.analysis, part.place);
            let missing_where =
                analysis.statements.get(place).is_some_and(|statement| statement.missing_where);
            let atoms = analysis.atoms.get(place).map(Vec::as_slice).unwrap_or_default();
            let parameters = bound.unwrap_or(&part.bound).lend();
            // Of each thing that is done, in order; none where rules do not ask.
            let parents = atoms.iter().map(|_| parents.next()).collect::<Vec<_>>();
            atoms.iter().zip(parents).map(move |(atom, parents)| {
                self.action(Sql {
                    statement: atom.kind.label().as_bytes(),
                    table: atom.table.as_deref().map_or(Attr::Absent, Attr::Value),
                    write: atom.write,
                    columns: atom.columns.as_deref().map_or(Columns::Unreadable, Columns::Known),
                    parents: parents.map(Vec::as_slice).unwrap_or_default(),
                    functions: Functions::Known(functions),
                    missing_where,
                    multi_statement: self.multi_statement,
                    parameters,
                })
            })
        });
        gate::decide_all(self.policy, self.principal, self.row, actions)
    }

    /// For each thing that the parts do the tables that its table belongs to; nothing at all where
    /// rules do not ask.
    fn parents(&self, parts: &[&Part]) -> Vec<Vec<Parent>> {
        let Some(kin) = self.kin.filter(|kin| !kin.is_empty()) else { return Vec::new() };
        let atoms = parts.iter().flat_map(|part| part.analysis.atoms.get(part.place)).flatten();
        let of = |atom: &Atom| match &atom.table {
            Some(table) => kin.parents(table, atom.columns.as_deref()),
            None => Vec::new(),
        };
        atoms.map(of).collect()
    }

    fn action<'a>(&'a self, sql: Sql<'a>) -> Action<'a> {
        Action {
            resource: self.resource,
            method: b"",
            path: b"",
            model: Attr::Absent,
            sql: Some(sql),
            asserted: self.asserted,
        }
    }
}

/// The statement of a text and what it runs by its name, that first; `None`: a name is open.
pub(super) fn parts<S, P>(
    analysis: &Rc<Analysis>,
    place: usize,
    names: &Names<S, P>,
) -> Option<Vec<Part>>
where
    S: Fn(&[u8]) -> Named,
    P: Fn(&[u8]) -> Named,
{
    let mut collector = Collector { names, named: &[], parts: Vec::new() };
    let bound = (&Bound::Later, None);
    collector.collect(analysis, place, bound, 0).is_ok().then_some(collector.parts)
}

/// Writes down what a statement runs.
struct Collector<'n, S, P> {
    names: &'n Names<S, P>,
    /// Parameters whose values count.
    named: &'n [u16],
    parts: Vec<Part>,
}

impl<S, P> Collector<'_, S, P>
where
    S: Fn(&[u8]) -> Named,
    P: Fn(&[u8]) -> Named,
{
    /// Writes down a statement behind what it runs by its name, and what that runs.
    fn collect(
        &mut self,
        analysis: &Rc<Analysis>,
        place: usize,
        (bound, values): (&Bound, Option<&Rc<Values>>),
        depth: u32,
    ) -> Result<(), Verdict> {
        let refuse = |detail| Err(Verdict::Deny(Denied::of(Refusal::Denied, detail)));
        let Some(statement) = analysis.statements.get(place) else { return Ok(()) };
        if depth > RUNS_MAX {
            return refuse("A name stands for what runs a name, too often.");
        }
        own_rules(statement).map_err(Verdict::Deny)?;
        let (mut inner, mut kept) = (Bound::NOTHING, None);
        let found = match &statement.act {
            Act::Execute { name, arguments } => {
                inner = Bound::of_arguments(arguments, self.named);
                let earlier = analysis.prepared_before(place, name.as_bytes());
                match earlier.map_or_else(|| (self.names.statement)(name.as_bytes()), Named::Is) {
                    Named::Nothing => {
                        return refuse(
                            "EXECUTE of a statement that this session has not prepared.",
                        );
                    }
                    found => found,
                }
            }
            // A cursor that is not known was opened by a function, which was judged when it was called.
            Act::Fetch { name, .. } => {
                let earlier = analysis.declared_before(place, name.as_bytes(), bound);
                let found = earlier.map_or_else(|| (self.names.portal)(name.as_bytes()), Named::Is);
                if let Named::Is(found) = &found {
                    inner = found.bound.of_portal();
                    kept = found.values.clone();
                }
                found
            }
            _ => Named::Nothing,
        };
        match found {
            Named::Open => return Err(Verdict::Open),
            // A portal that fetches from itself, which fails.
            Named::Is(found) if Rc::ptr_eq(&found.analysis, analysis) && found.place == place => {}
            Named::Is(found) => {
                let own = self.parts.len();
                self.collect(&found.analysis, found.place, (&inner, kept.as_ref()), depth + 1)?;
                // What it runs by a name of its own stands before it.
                if let Some(part) = self.parts.get_mut(own..).and_then(<[Part]>::last_mut) {
                    part.types = found.kinds.of_parse().into();
                }
            }
            Named::Nothing => {}
        }
        let (analysis, bound, values) = (Rc::clone(analysis), bound.clone(), values.cloned());
        self.parts.push(Part { analysis, place, bound, values, types: [].into() });
        Ok(())
    }
}

/// So many times a statement may run another one by its name, which only Parse can bring about.
const RUNS_MAX: u32 = 4;

impl Analysis {
    fn named_functions(&self, place: usize) -> Vec<SqlFunction<'_>> {
        let found = self.functions.get(place).map(Vec::as_slice).unwrap_or_default();
        found.iter().map(|(name, plain)| SqlFunction { name, plain: *plain }).collect()
    }

    /// A PREPARE of that name that stands before `place` in the same text.
    pub(super) fn prepared_before(
        self: &Rc<Self>,
        place: usize,
        name: &[u8],
    ) -> Option<Rc<Prepared>> {
        let before = self.statements.get(..place)?;
        let found = before.iter().rposition(
            |statement| matches!(&statement.act, Act::Prepare { name: made } if made.as_bytes() == name),
        )?;
        Some(Prepared::new(Rc::clone(self), found))
    }

    /// A DECLARE of that name that stands before `place` in the same text.
    fn declared_before(
        self: &Rc<Self>,
        place: usize,
        name: &[u8],
        bound: &Bound,
    ) -> Option<Rc<Prepared>> {
        let before = self.statements.get(..place)?;
        let found = before.iter().rposition(
            |statement| matches!(&statement.act, Act::Declare { name: made, .. } if made.as_bytes() == name),
        )?;
        Some(Prepared::declared(Rc::clone(self), found, bound.clone()))
    }

    pub(super) fn prepares_at(&self, place: usize) -> bool {
        let statement = self.statements.get(place);
        statement.is_some_and(|statement| matches!(statement.act, Act::Prepare { .. }))
    }

    /// Whether names of statements or portals come to be.
    pub(super) fn makes_names(&self) -> bool {
        let makes = |act: &Act| matches!(act, Act::Prepare { .. } | Act::Declare { .. });
        self.statements.iter().any(|statement| makes(&statement.act))
    }

    /// Whether the statement does nothing beyond its session.
    fn is_harmless(&self, place: usize) -> bool {
        let Some(statement) = self.statements.get(place) else { return false };
        let no_table = statement.accesses.is_empty();
        let plain = |function: &Function| {
            let own = function.plain && !BEYOND.contains(&&*function.name.name);
            own || is_set_config(function)
        };
        let plain = statement.functions.iter().all(plain);
        let kinds = statement.kinds.iter().all(|kind| match kind {
            Kind::Select | Kind::Set => true,
            Kind::Transaction => {
                !matches!(statement.act, Act::PrepareTransaction | Act::EndPrepared { .. })
            }
            Kind::Utility => is_of_session(&statement.act),
            _ => false,
        });
        no_table && plain && kinds
    }
}

/// Plain functions that reach beyond the session all the same: where a rule permits a statement
/// they are a part of it, but no statement goes without a rule for their sake.
const BEYOND: [&str; 1] = ["nextval"];

fn denied(rule: Option<RuleId>) -> Denied {
    Denied { rule, by_policy: true, ..Denied::of(Refusal::Denied, "") }
}

/// What no rule can permit, since it would undo what the gateway holds for the session.
fn own_rules(statement: &Statement) -> Result<(), Denied> {
    let refuse = |detail| Err(Denied::of(Refusal::Denied, detail));
    for setting in &statement.settings {
        let literal =
            |part: &Option<Box<str>>| part.as_deref().map(|text| text.as_bytes().to_vec());
        let (name, value) = (literal(&setting.name), literal(&setting.value));
        let judged = name.map(|name| settings::judge(&name, value.as_deref()));
        if !matches!(judged, Some(Setting::Free | Setting::Held)) {
            return refuse("This call of set_config cannot be made through the gateway.");
        }
    }
    // Its rules make an UPDATE of it a call of set_config.
    let sets = |access: &sql::Access| access.write && &*access.table.name == "pg_settings";
    if statement.accesses.iter().any(sets) {
        return refuse("Settings cannot be changed by way of pg_settings.");
    }
    match &statement.act {
        Act::Set { name, value, .. } => {
            let value = value.as_deref().map(str::as_bytes);
            match settings::judge(name.as_bytes(), value) {
                Setting::Refused => refuse("This setting cannot be changed through the gateway."),
                Setting::Free | Setting::Held => Ok(()),
            }
        }
        Act::Reset { name: Some(name) } if !settings::may_reset(name.as_bytes()) => {
            refuse("This setting cannot be changed through the gateway.")
        }
        Act::Discard { all: true } => {
            refuse("DISCARD ALL would undo the role of the session; use RESET ALL.")
        }
        Act::Copy { program: true, .. } | Act::Copy { file: true, .. } => {
            refuse("COPY with files or programs of the server is not offered.")
        }
        _ => Ok(()),
    }
}

/// Whether a utility statement does nothing but by way of its session. What PREPARE, DECLARE and
/// EXPLAIN hold is judged by itself, and so is what EXECUTE runs.
pub(super) fn is_of_session(act: &Act) -> bool {
    matches!(
        act,
        Act::Prepare { .. }
            | Act::Execute { .. }
            | Act::Deallocate { .. }
            | Act::Declare { .. }
            | Act::Fetch { .. }
            | Act::ClosePortal { .. }
            | Act::Explain { .. }
            | Act::Discard { .. }
            | Act::Show { .. }
            | Act::Unlisten { .. }
    )
}

/// What policy is asked about a text, for who wants to know why it was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The kind of statement.
    pub statement: &'static str,
    /// `schema.name`, where it is about a table.
    pub table: Option<String>,
    /// Whether the table is written.
    pub write: bool,
    /// The columns of the table that it may mean; `None`: not to be told.
    pub columns: Option<Vec<Box<str>>>,
    /// The functions of the statement; `true` for those that need no rule.
    pub functions: Vec<(String, bool)>,
    /// It changes or deletes every row.
    pub missing_where: bool,
    /// The text has more statements.
    pub multi_statement: bool,
    /// It is a PREPARE: what it holds runs later.
    pub prepares: bool,
    /// It has no effect beyond its session: no rule need allow it.
    pub harmless: bool,
}

/// All that policy is asked about `text`; empty for one that does nothing.
///
/// # Errors
/// Why no rule could permit it: it undoes what the gateway holds, or it cannot be read.
pub fn asked(text: &[u8], limits: &SqlLimits) -> Result<Vec<Asked>, String> {
    let analysis = Analysis::of(text, limits);
    if let Some(error) = &analysis.unread {
        return Err(format!("it cannot be read ({error:?}); only a rule for `unknown` permits it"));
    }
    let mut all = Vec::new();
    for (place, statement) in analysis.statements.iter().enumerate() {
        own_rules(statement).map_err(|denied| denied.detail.to_owned())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let functions = analysis.functions.get(place).into_iter().flatten();
        let functions: Vec<_> = functions.map(|(name, plain)| (text(name), *plain)).collect();
        let atoms = analysis.atoms.get(place).into_iter().flatten();
        all.extend(atoms.map(|atom| Asked {
            statement: atom.kind.label(),
            table: atom.table.as_deref().map(text),
            write: atom.write,
            columns: atom.columns.as_ref().map(|columns| columns.to_vec()),
            functions: functions.clone(),
            missing_where: statement.missing_where,
            multi_statement: analysis.statements.len() > 1,
            prepares: analysis.prepares_at(place),
            harmless: analysis.is_harmless(place),
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::STATEMENTS;
    use crate::session::postgres::atoms::CANDIDATES_MAX;

    #[test]
    fn the_grammar_and_the_rules_use_the_same_words() {
        assert_eq!(Kind::ALL.map(Kind::label), STATEMENTS);
    }

    #[test]
    fn names_are_looked_up_where_the_server_looks() {
        let asked = |text: &str| {
            let all = asked(text.as_bytes(), &SqlLimits::default()).unwrap_or_default();
            let tables = all.into_iter().map(|one| (one.statement, one.table.unwrap_or_default()));
            tables.collect::<Vec<_>>()
        };
        let table = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(asked("select * from T"), [table("select", "public.t")]);
        assert_eq!(asked("table pg_class"), [table("select", "pg_catalog.pg_class")]);
        assert_eq!(asked("select * from other.\"pg_class\""), [table("select", "other.pg_class")]);
        assert_eq!(asked("select 1"), [table("select", "")]);
        assert_eq!(
            asked("insert into a select * from b"),
            [table("select", "public.b"), table("insert", "public.a")]
        );
        assert_eq!(asked("declare c cursor for select * from a"), [table("select", "public.a")]);
        assert_eq!(asked("begin"), [table("transaction", "")]);
    }

    #[test]
    fn a_bare_column_counts_for_each_table_and_a_dotted_one_for_its_own() {
        let asked = |text: &str| {
            let all = asked(text.as_bytes(), &SqlLimits::default()).unwrap_or_default();
            let told = |one: Asked| {
                one.columns.map_or_else(|| "?".to_owned(), |columns| columns.join(" "))
            };
            all.into_iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(asked("select t.a, b from t"), ["public.t.a public.t.b"]);
        assert_eq!(
            asked("select t.a, x.b, c from public.t, s.u x"),
            ["public.t.a public.t.c", "s.u.b s.u.c"]
        );
        assert_eq!(asked("select oid from pg_class"), ["pg_catalog.pg_class.oid"]);
        assert_eq!(asked("insert into t (a) select u.b from u"), ["public.u.b", "public.t.a"]);
        assert_eq!(asked("select count(*) from t"), [""]);
        assert_eq!(asked("select * from t"), ["?"]);
        assert_eq!(asked("create view v as select t.a from t"), ["public.t.a", "?"]);
        assert_eq!(asked("alter table t add check (a > 1)"), ["?"]);
        assert_eq!(asked("analyze t (a, b)"), ["public.t.a public.t.b"]);
        assert_eq!([asked("analyze t"), asked("analyze")], [["?"], ["?"]]);
        assert_eq!([asked("explain select * from f()"), asked("vacuum")], [[""], [""]]);
        let many = |count: usize| {
            let names: Vec<_> = (0..count).map(|name| format!("c{name}")).collect();
            asked(&format!("select {} from t, u", names.join(",")))
        };
        let told = many(CANDIDATES_MAX / 2);
        let counts = told.iter().map(|columns| columns.split(' ').count());
        assert_eq!(counts.collect::<Vec<_>>(), [CANDIDATES_MAX / 2; 2]);
        assert_eq!(many(CANDIDATES_MAX / 2 + 1), ["?", "?"]);
    }
}
