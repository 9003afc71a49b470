//! The answers that are due, and the names that they make or end.
//!
//! One entry for each message that went to the upstream and is answered; notices and settings may
//! come between any two. After an error the upstream skips to the next Sync, and so does this
//! queue. A name of a statement or portal counts from the answer that confirms it: what a message
//! in flight will make is looked up here, behind it in the queue, and an error that skips it takes
//! it back. Names by wire and by SQL (PREPARE, DECLARE) are one space, as they are upstream.

use super::judge::{Analysis, Prepared};
use super::refuse::Denied;
use crate::sql::Act;
use ahash::AHashMap;
use std::collections::VecDeque;
use std::rc::Rc;

/// An answer that is due.
pub(super) enum Expect {
    /// Of Parse: the name stands for this statement.
    Parse { name: Box<[u8]>, prepared: Rc<Prepared> },
    /// Of Bind: the portal runs this statement.
    Bind { name: Box<[u8]>, prepared: Rc<Prepared> },
    /// Of Describe of a statement (its parameters come first) or portal.
    Describe,
    /// Of a Describe of the gateway's own, of the portal that is executed next.
    OwnDescribe { prepared: Rc<Prepared> },
    /// Of Execute; whether its rows are masked.
    Execute { prepared: Rc<Prepared>, masked: bool },
    /// Of Close.
    Close { portal: bool, name: Box<[u8]> },
    /// Of Sync: ready for the next query.
    Sync,
    /// Of a simple query, which ends by ready for query; so many of its statements are complete.
    Simple { analysis: Rc<Analysis>, complete: usize, masked: bool },
    /// Of what was sent in the place of a refused message: an error, which is told in our words.
    Poison { denied: Denied },
    /// The same for a refused simple query, which ends by ready for query.
    PoisonSimple { denied: Denied },
}

impl Expect {
    /// Whether ready for query ends it.
    fn is_last(&self) -> bool {
        matches!(self, Self::Sync | Self::Simple { .. } | Self::PoisonSimple { .. })
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    due: VecDeque<Expect>,
    statements: AHashMap<Box<[u8]>, Rc<Prepared>>,
    portals: AHashMap<Box<[u8]>, Rc<Prepared>>,
}

impl Queue {
    /// So many answers may be due before the caller must wait.
    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= DUE_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn push(&mut self, expect: Expect) {
        self.due.push_back(expect);
    }

    pub(super) fn front(&mut self) -> Option<&mut Expect> {
        self.due.front_mut()
    }

    /// Whether there is no room for more names.
    pub(super) fn names_full(&self) -> bool {
        self.statements.len() >= NAMES_MAX || self.portals.len() >= NAMES_MAX
    }

    /// The statement that `name` will stand for when what is in flight is answered well.
    pub(super) fn statement(&self, name: &[u8]) -> Option<Rc<Prepared>> {
        for expect in self.due.iter().rev() {
            match expect {
                // A name that is taken stays what it is: the upstream refuses to give it anew.
                Expect::Parse { name: made, prepared } if **made == *name => {
                    let earlier = self.statements.get(name).filter(|_| !name.is_empty());
                    return Some(Rc::clone(earlier.unwrap_or(prepared)));
                }
                Expect::Simple { analysis, .. } => {
                    if let Some(found) = analysis.prepares(name) {
                        return found;
                    }
                }
                _ => {}
            }
        }
        self.statements.get(name).map(Rc::clone)
    }

    /// The statement that the portal will run; see [`Self::statement`].
    pub(super) fn portal(&self, name: &[u8]) -> Option<Rc<Prepared>> {
        let made = self.due.iter().rev().find_map(|expect| match expect {
            Expect::Bind { name: made, prepared } if **made == *name => Some(prepared),
            _ => None,
        });
        made.or_else(|| self.portals.get(name)).map(Rc::clone)
    }

    /// Takes the front off when it is what `fits` says; `None`: the upstream is out of order.
    pub(super) fn answered(&mut self, fits: impl FnOnce(&Expect) -> bool) -> Option<Expect> {
        if !self.due.front().is_some_and(fits) {
            return None;
        }
        self.due.pop_front()
    }

    /// Takes over what a confirmed message made or ended.
    pub(super) fn confirm(&mut self, expect: Expect) {
        match expect {
            Expect::Parse { name, prepared } => {
                self.statements.insert(name, prepared);
            }
            Expect::Bind { name, prepared } => {
                self.portals.insert(name, prepared);
            }
            Expect::Close { portal: true, name } => {
                self.portals.remove(&name);
            }
            Expect::Close { portal: false, name } => {
                self.statements.remove(&name);
            }
            Expect::Execute { prepared, .. } => {
                if let Some(statement) = prepared.statement() {
                    self.effect(&statement.act, &prepared.analysis, prepared.place);
                }
            }
            _ => {}
        }
    }

    /// One statement of the simple query at the front is complete.
    pub(super) fn complete_simple(&mut self) {
        let Some(Expect::Simple { analysis, complete, .. }) = self.due.front_mut() else { return };
        let (analysis, place) = (Rc::clone(analysis), *complete);
        *complete += 1;
        if let Some(statement) = analysis.statements.get(place) {
            self.effect(&statement.act, &analysis, place);
        }
    }

    /// An error came. Skips what the upstream skips: in the extended protocol all up to the next
    /// Sync. Returns the refusal that the error stands for.
    pub(super) fn failed(&mut self) -> Option<Denied> {
        match self.due.front_mut() {
            Some(Expect::PoisonSimple { denied } | Expect::Poison { denied }) => {
                let denied = denied.clone();
                self.skip();
                Some(denied)
            }
            _ => {
                self.skip();
                None
            }
        }
    }

    fn skip(&mut self) {
        while self.due.front().is_some_and(|expect| !expect.is_last()) {
            self.due.pop_front();
        }
    }

    /// Ready for query came: what it ends is over. `false`: nothing that it could end was due.
    pub(super) fn ready(&mut self) -> bool {
        self.answered(Expect::is_last).is_some()
    }

    fn effect(&mut self, act: &Act, analysis: &Rc<Analysis>, place: usize) {
        match act {
            Act::Prepare { name } => {
                let prepared = Prepared { analysis: Rc::clone(analysis), place };
                self.statements.insert(name.as_bytes().into(), Rc::new(prepared));
            }
            Act::Deallocate { name: Some(name) } => {
                self.statements.remove(name.as_bytes());
            }
            Act::Deallocate { name: None } => self.statements.clear(),
            Act::Discard { all: true } => {
                self.statements.clear();
                self.portals.clear();
            }
            _ => {}
        }
    }
}

/// Answers that may be due: each pipelined lookup of a name walks them.
const DUE_MAX: usize = 1_024;
/// Names of statements, and of portals, that one session may have.
const NAMES_MAX: usize = 8_192;
