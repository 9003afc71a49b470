//! The answers that are due, and the names that they make or end.
//!
//! One entry for each message that went to the upstream and is answered; notices and settings may
//! come between any two. After an error the upstream skips to the next Sync, and so does this
//! queue. A name of a statement or portal counts from the answer that confirms it: what a message
//! in flight will make is looked up here, behind it in the queue, and an error that skips it takes
//! it back. What is in flight before a Sync or a simple query may fail without an end to what
//! stands behind that: who asks for such a name must wait. Names by wire and by SQL (PREPARE,
//! DECLARE) are one space, as they are upstream.
//!
//! In COPY FROM STDIN the server reads past Sync, so none may be sent while it may be in one.

use super::bound::Bound;
use super::judge::{Analysis, Prepared};
use super::refuse::Denied;
use super::ruling::Approved;
use crate::sql::{Act, Statement};
use ahash::AHashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// An answer that is due.
pub(super) enum Expect {
    /// Of Parse: the name stands for this statement.
    Parse { name: Box<[u8]>, prepared: Rc<Prepared> },
    /// Of Bind: the portal runs this statement.
    Bind { name: Box<[u8]>, prepared: Rc<Prepared> },
    /// Of Describe of a statement (its parameters come first) or portal; the statement, where rules
    /// ask for values of parameters.
    Describe { of: Option<Rc<Prepared>> },
    /// Of a Describe of the gateway's own, of the portal that is executed next.
    OwnDescribe { prepared: Rc<Prepared> },
    /// Of Execute; whether its rows are masked.
    Execute { prepared: Rc<Prepared>, masked: bool },
    /// Of what makes a statement of another session known in this one (`moved`): nobody hears it.
    Own(Own),
    /// Of Close.
    Close { portal: bool, name: Box<[u8]> },
    /// Of Sync: ready for the next query.
    Sync,
    /// Of a Sync of the gateway's own, in the middle of a cycle of the caller's.
    OwnSync,
    /// Of a simple query, which ends by ready for query; so many of its statements are complete.
    Simple {
        analysis: Rc<Analysis>,
        complete: usize,
        masked: bool,
        /// By whose approval it goes.
        approved: Option<Rc<Approved>>,
    },
    /// Of what was sent in the place of a refused message: an error, which is told in our words.
    Poison { denied: Denied },
    /// The same for a refused simple query, which ends by ready for query.
    PoisonSimple { denied: Denied },
}

/// A message of the gateway's own of the extended protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Close,
    Parse,
}

impl Expect {
    /// Whether the server may ask for the data of a COPY to answer it: of a text that was not read
    /// nobody knows, and EXECUTE runs what Parse named, too.
    fn copies_in(&self) -> bool {
        let is_copy = |statement: &Statement| {
            matches!(statement.act, Act::Copy { out: false, .. } | Act::Execute { .. })
        };
        match self {
            Self::Execute { prepared, .. } => {
                prepared.analysis.unread.is_some() || prepared.statement().is_some_and(is_copy)
            }
            Self::Simple { analysis, .. } => {
                analysis.unread.is_some() || analysis.statements.iter().any(is_copy)
            }
            _ => false,
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Parse { prepared, name } => prepared.name_weight() + name.len(),
            Self::Simple { analysis, .. } => analysis.weight,
            Self::Bind { prepared, .. } => prepared.run_weight(),
            _ => 0,
        }
    }

    fn is_sync(&self) -> bool {
        matches!(self, Self::Sync)
    }

    /// Whether ready for query ends it.
    fn is_last(&self) -> bool {
        matches!(self, Self::Sync | Self::OwnSync | Self::Simple { .. } | Self::PoisonSimple { .. })
    }
}

/// What a name stands for when the message that names it gets there.
pub(super) enum Named {
    /// This, or the message is skipped.
    Is(Rc<Prepared>),
    Nothing,
    /// That is open until what is in flight is answered.
    Open,
}

/// What a message does to a name.
enum Change {
    None,
    Gone,
    Is(Rc<Prepared>),
}

/// A COPY FROM STDIN that may be under way.
#[derive(Clone, Copy, Default)]
struct Copying {
    /// So often the server asked for data.
    begun: u32,
    /// So often the caller said that it was all.
    ended: u32,
}

/// How a failure leaves what was sent behind it.
pub(super) struct Failure {
    /// The refusal that the error stands for.
    pub(super) denied: Option<Denied>,
    /// The server skips what comes, up to a Sync that was not sent so far.
    pub(super) skips: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    due: VecDeque<Expect>,
    /// What the texts that are due weigh.
    due_weight: usize,
    statements: AHashMap<Box<[u8]>, Rc<Prepared>>,
    portals: AHashMap<Box<[u8]>, Rc<Prepared>>,
    /// What the texts of the statements weigh.
    names_weight: usize,
    /// Of the values that portals run with.
    portals_weight: usize,
    copying: Option<Copying>,
    /// Simple queries that the server skips up to the next ready for query.
    skipped: usize,
}

impl Queue {
    /// So many answers may be due before the caller must wait.
    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= DUE_MAX || self.due_weight >= DUE_WEIGHT_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn push(&mut self, expect: Expect) {
        if expect.copies_in() {
            self.copying = Some(Copying::default());
        }
        self.due_weight += expect.weight();
        self.due.push_back(expect);
    }

    fn pop(&mut self) -> Option<Expect> {
        let expect = self.due.pop_front()?;
        self.due_weight = self.due_weight.saturating_sub(expect.weight());
        if expect.copies_in() {
            self.copying = None;
        }
        Some(expect)
    }

    pub(super) fn front(&mut self) -> Option<&mut Expect> {
        self.due.front_mut()
    }

    /// Whether a Sync of the gateway's own is under way.
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.due.back(), Some(Expect::OwnSync))
    }

    /// The statement that is running.
    pub(super) fn running(&self) -> Option<&Statement> {
        match self.due.front()? {
            Expect::Execute { prepared, .. } => prepared.statement(),
            Expect::Simple { analysis, complete, .. } => analysis.statements.get(*complete),
            _ => None,
        }
    }

    /// The statement whose data may be asked for, and its place in the text; without: all of it.
    pub(super) fn copying(&self) -> Option<(Rc<Analysis>, Option<usize>)> {
        match self.due.iter().find(|expect| expect.copies_in())? {
            Expect::Execute { prepared, .. } => {
                Some((Rc::clone(&prepared.analysis), Some(prepared.place)))
            }
            Expect::Simple { analysis, .. } => Some((Rc::clone(analysis), None)),
            _ => None,
        }
    }

    /// Whether nothing is under way between what is running and its end.
    pub(super) fn is_alone(&self) -> bool {
        match (self.due.front(), self.due.get(1)) {
            (Some(Expect::Simple { analysis, .. }), _) => analysis.statements.len() == 1,
            (Some(Expect::Execute { .. }), next) => next.is_none_or(|next| next.is_sync()),
            _ => false,
        }
    }

    /// Whether nothing is under way behind the end of what is running.
    pub(super) fn is_last(&self) -> bool {
        self.due.len() == 1 || self.due.len() == 2 && self.due.get(1).is_some_and(Expect::is_sync)
    }

    /// Whether the end of what is running went up.
    pub(super) fn has_end(&self) -> bool {
        self.due.iter().any(Expect::is_last)
    }

    /// Whether a COPY FROM STDIN may be under way.
    pub(super) fn may_copy(&self) -> bool {
        self.copying.is_some()
    }

    /// Whether the server waits for data of a COPY.
    pub(super) fn is_copying(&self) -> bool {
        self.copying.is_some_and(|copying| copying.begun > copying.ended)
    }

    /// The server asks for data. `false`: no statement that is due could make it.
    pub(super) fn begin_copy(&mut self) -> bool {
        let Some(copying) = &mut self.copying else { return false };
        copying.begun += 1;
        true
    }

    /// The caller says that this was all data, or that it gives up.
    pub(super) fn end_copy(&mut self) {
        if let Some(copying) = &mut self.copying {
            copying.ended += 1;
        }
    }

    /// Whether there is no room for more names.
    pub(super) fn names_full(&self) -> bool {
        self.statements.len() >= NAMES_MAX
            || self.portals.len() >= NAMES_MAX
            || self.names_weight + self.portals_weight >= NAMES_WEIGHT_MAX
    }

    /// The statement that `name` stands for.
    pub(super) fn statement(&self, name: &[u8]) -> Named {
        let name = key(name);
        let change = |expect: &Expect| match expect {
            // Where the name is taken this fails, and so does what asks for it.
            Expect::Parse { name: made, prepared } if **made == *name => {
                Change::Is(Rc::clone(prepared))
            }
            Expect::Close { portal: false, name: gone } if **gone == *name => Change::Gone,
            Expect::Simple { analysis, .. } => match analysis.prepares(name) {
                Some(Some(prepared)) => Change::Is(prepared),
                Some(None) => Change::Gone,
                None => Change::None,
            },
            Expect::Execute { prepared, .. } => match prepared.statement().map(|one| &one.act) {
                Some(Act::Prepare { name: made }) if made.as_bytes() == name => {
                    Change::Is(Prepared::new(Rc::clone(&prepared.analysis), prepared.place))
                }
                Some(Act::Deallocate { name: None }) => Change::Gone,
                Some(Act::Deallocate { name: Some(gone) }) if gone.as_bytes() == name => {
                    Change::Gone
                }
                _ => Change::None,
            },
            _ => Change::None,
        };
        self.named(change, self.statements.get(name))
    }

    /// The statement that `name` stands for by the answers that are in: that is what runs at the front.
    pub(super) fn confirmed(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        self.statements.get(key(name))
    }

    /// The statement that the portal runs.
    pub(super) fn portal(&self, name: &[u8]) -> Named {
        let name = key(name);
        let of = |statement: &Statement, opened: &dyn Fn() -> Rc<Prepared>| match &statement.act {
            Act::Declare { name: new, .. } if new.as_bytes() == name => Change::Is(opened()),
            Act::ClosePortal { name: None } => Change::Gone,
            Act::ClosePortal { name: Some(gone) } if gone.as_bytes() == name => Change::Gone,
            Act::Commit { .. } | Act::Rollback { .. } | Act::RollbackTo { .. } => Change::Gone,
            _ => Change::None,
        };
        let change = |expect: &Expect| match expect {
            Expect::Bind { name: made, prepared } if **made == *name => {
                Change::Is(Rc::clone(prepared))
            }
            Expect::Close { portal: true, name: gone } if **gone == *name => Change::Gone,
            Expect::Execute { prepared, .. } => prepared
                .statement()
                .map_or(Change::None, |one| of(one, &|| Prepared::opened(prepared))),
            Expect::Simple { analysis, approved, .. } => {
                let changes = analysis.statements.iter().enumerate().rev();
                let mut changes = changes
                    .map(|(place, one)| of(one, &|| opened_by(analysis, place, approved.as_ref())));
                changes.find(|change| !matches!(change, Change::None)).unwrap_or(Change::None)
            }
            _ => Change::None,
        };
        self.named(change, self.portals.get(name))
    }

    /// What stands behind the last Sync or simple query counts, since a failure there skips who
    /// asks, too. Before it nothing may be in flight that is about the name.
    fn named(&self, change: impl Fn(&Expect) -> Change, known: Option<&Rc<Prepared>>) -> Named {
        let mut behind = true;
        for expect in self.due.iter().rev() {
            behind &= !expect.is_last();
            match change(expect) {
                Change::None => {}
                _ if !behind => return Named::Open,
                Change::Is(prepared) => return Named::Is(prepared),
                Change::Gone => return Named::Nothing,
            }
        }
        known.map_or(Named::Nothing, |known| Named::Is(Rc::clone(known)))
    }

    /// Takes the answer off that a message of the gateway's own is due.
    pub(super) fn take_own(&mut self, own: Own) -> bool {
        self.answered(|expect| matches!(expect, Expect::Own(one) if *one == own)).is_some()
    }

    /// Takes the front off when it is what `fits` says; `None`: the upstream is out of order.
    pub(super) fn answered(&mut self, fits: impl FnOnce(&Expect) -> bool) -> Option<Expect> {
        if !self.due.front().is_some_and(fits) {
            return None;
        }
        self.pop()
    }

    /// Takes over what a confirmed message made or ended.
    pub(super) fn confirm(&mut self, expect: Expect) {
        match expect {
            Expect::Parse { name, prepared } => self.prepare(name, prepared),
            Expect::Bind { name, prepared } => self.open_portal(name, prepared),
            Expect::Close { portal: true, name } => {
                self.portals.remove(&name);
                self.weigh_portals();
            }
            Expect::Close { portal: false, name } => {
                self.deallocate(&name);
            }
            Expect::Execute { prepared, .. } => {
                if let Some(statement) = prepared.statement() {
                    let (analysis, place) = (&prepared.analysis, prepared.place);
                    let opened = || Prepared::opened(&prepared);
                    self.effect(&statement.act, analysis, place, opened);
                }
            }
            _ => {}
        }
    }

    /// One statement of the simple query at the front is complete.
    pub(super) fn complete_simple(&mut self) {
        let Some(Expect::Simple { analysis, complete, approved, .. }) = self.due.front_mut() else {
            return;
        };
        let (analysis, place, approved) = (Rc::clone(analysis), *complete, approved.clone());
        *complete += 1;
        if let Some(statement) = analysis.statements.get(place) {
            let opened = || opened_by(&analysis, place, approved.as_ref());
            self.effect(&statement.act, &analysis, place, opened);
        }
    }

    /// An error came. In the extended protocol the server skips all up to the next Sync, simple
    /// queries too.
    pub(super) fn failed(&mut self) -> Failure {
        let denied = match self.due.front() {
            Some(Expect::PoisonSimple { denied } | Expect::Poison { denied }) => {
                Some(denied.clone())
            }
            _ => None,
        };
        if self.due.front().is_none_or(Expect::is_last) {
            return Failure { denied, skips: false };
        }
        loop {
            match self.due.front() {
                Some(Expect::Sync | Expect::OwnSync) => return Failure { denied, skips: false },
                Some(expect) => self.skipped += usize::from(expect.is_last()),
                None => return Failure { denied, skips: true },
            }
            self.pop();
        }
    }

    /// Ready for query came, with the transaction open or not: how many cycles are over. `None`:
    /// nothing that it could end was due.
    pub(super) fn ready(&mut self, idle: bool) -> Option<usize> {
        self.answered(Expect::is_last)?;
        if idle {
            self.end_transaction();
        }
        Some(1 + std::mem::take(&mut self.skipped))
    }

    /// Portals end with their transaction, but for cursors that are held.
    fn end_transaction(&mut self) {
        self.portals.retain(|_, prepared| {
            let act = prepared.statement().map(|statement| &statement.act);
            matches!(act, Some(Act::Declare { hold: true, .. }))
        });
        self.weigh_portals();
    }

    fn open_portal(&mut self, name: Box<[u8]>, prepared: Rc<Prepared>) {
        self.portals_weight += prepared.run_weight();
        let before = self.portals.insert(name, prepared);
        let weight = before.map_or(0, |before| before.run_weight());
        self.portals_weight = self.portals_weight.saturating_sub(weight);
    }

    /// Some portals are gone: most hold nothing.
    fn weigh_portals(&mut self) {
        if self.portals_weight > 0 {
            self.portals_weight = self.portals.values().map(|one| one.run_weight()).sum();
        }
    }

    fn prepare(&mut self, name: Box<[u8]>, prepared: Rc<Prepared>) {
        self.names_weight += prepared.name_weight() + name.len();
        let len = name.len();
        if let Some(before) = self.statements.insert(name, prepared) {
            self.lighten(&before, len);
        }
    }

    pub(super) fn deallocate(&mut self, name: &[u8]) {
        if let Some(before) = self.statements.remove(name) {
            self.lighten(&before, name.len());
        }
    }

    fn lighten(&mut self, before: &Prepared, name_len: usize) {
        self.names_weight = self.names_weight.saturating_sub(before.name_weight() + name_len);
    }

    fn effect(
        &mut self,
        act: &Act,
        analysis: &Rc<Analysis>,
        place: usize,
        opened: impl FnOnce() -> Rc<Prepared>,
    ) {
        let this = || Prepared::new(Rc::clone(analysis), place);
        match act {
            Act::Prepare { name } => self.prepare(name.as_bytes().into(), this()),
            Act::Deallocate { name: Some(name) } => self.deallocate(name.as_bytes()),
            Act::Deallocate { name: None } => {
                self.statements.clear();
                self.names_weight = 0;
            }
            Act::Declare { name, .. } => {
                self.open_portal(name.as_bytes().into(), opened());
            }
            Act::ClosePortal { name: Some(name) } => {
                self.portals.remove(name.as_bytes());
                self.weigh_portals();
            }
            Act::ClosePortal { name: None } => {
                self.portals.clear();
                self.portals_weight = 0;
            }
            Act::Commit { .. } | Act::Rollback { .. } => self.end_transaction(),
            _ => {}
        }
    }
}

/// What a DECLARE in a text opens.
fn opened_by(
    analysis: &Rc<Analysis>,
    place: usize,
    approved: Option<&Rc<Approved>>,
) -> Rc<Prepared> {
    let declared = Prepared::declared(Rc::clone(analysis), place, Bound::NOTHING);
    match approved {
        None => declared,
        Some(approved) => declared.kept(None, Some(Rc::clone(approved))),
    }
}

/// What counts of a name: the server's tables of names cut them there, whoever gives them.
pub(super) fn key(name: &[u8]) -> &[u8] {
    name.get(..NAME_LEN_MAX).unwrap_or(name)
}

/// `NAMEDATALEN` without the zero byte.
const NAME_LEN_MAX: usize = 63;
/// What the texts in flight may weigh.
const DUE_WEIGHT_MAX: usize = 8 << 20;
/// What the texts that names stand for may weigh.
const NAMES_WEIGHT_MAX: usize = 32 << 20;
/// Answers that may be due: each pipelined lookup of a name walks them.
const DUE_MAX: usize = 1_024;
/// Names of statements, and of portals, that one session may have.
const NAMES_MAX: usize = 8_192;
