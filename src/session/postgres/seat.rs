//! In which upstream session a statement runs, and when it may not.
//!
//! What a rule permits by a credential of its own runs in the session of that credential
//! ([`beside`](super::beside)), and only by itself: a transaction is of one session. So a statement
//! that is to be elsewhere is refused in a transaction, and in a cycle of which something ran
//! already. What only made, described or closed names does not count: that is settled by a Sync of
//! the gateway's own, behind which the cycle goes on elsewhere. Transaction control is home's, and so is what a grant without a credential permits. Names
//! of statements and cursors are one space, as the caller sees one session: each lives where it was
//! made, and is used by what is decided for that session alone.

use super::Session;
use super::beside::Wanted;
use super::caller::Bytes;
use super::judge::Analysis;
use super::queue::Named;
use super::refuse::{self, Denied, POISON_NAME};
use crate::base::{CredentialId, Now, RuleId};
use crate::record::Journal;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use crate::sql::{Act, Kind, Statement};
use crate::wire::postgres::TxStatus;
use std::rc::Rc;

/// What the message that runs a statement says of its names.
#[derive(Clone, Copy)]
pub(super) enum About<'a> {
    /// It is a text.
    Text,
    /// It makes this name stand for the statement.
    Makes(&'a [u8]),
    /// It names what lives in the session of this credential.
    Lives(Option<CredentialId>),
    /// It runs already, in the session in hand, and is judged once more.
    Runs,
}

/// Where a statement may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// In the session in hand.
    Here,
    /// That is to be seen when what is under way is answered.
    Wait,
    /// That is to be seen when the names are settled that the cycle made so far: it can go on in
    /// another session then.
    Settle,
    /// In the session of this credential, which is to be taken in hand.
    Turn(Option<CredentialId>),
}

impl Session {
    /// Where a statement runs that `rule` permits, by a credential of its own where it `names` one.
    /// `alone` says which credential one statement of a text asks for by itself.
    ///
    /// # Errors
    /// Why it can run nowhere.
    pub(super) fn seat(
        &self,
        (rule, names): (RuleId, Option<CredentialId>),
        (analysis, place): (&Rc<Analysis>, Option<usize>),
        about: About<'_>,
        alone: impl Fn(usize) -> Option<CredentialId>,
    ) -> Result<Seat, Denied> {
        let named = names.filter(|named| *named != self.credential);
        if matches!(about, About::Runs) && named != self.serves.credential {
            let denied = Denied::of(refuse::DENIED, RUNS_ELSEWHERE);
            return Err(Denied { rule: Some(rule), ..denied });
        }
        if matches!(about, About::Runs) || named.is_none() && self.beside.is_empty() {
            return Ok(Seat::Here);
        }
        self.target(named, (analysis, place), about, alone)
            .and_then(|target| self.reach(target))
            .map_err(|denied| Denied { rule: Some(rule), ..denied })
    }

    /// The credential of the session that a statement is to run in.
    fn target(
        &self,
        named: Option<CredentialId>,
        (analysis, place): (&Rc<Analysis>, Option<usize>),
        about: About<'_>,
        alone: impl Fn(usize) -> Option<CredentialId>,
    ) -> Result<Option<CredentialId>, Denied> {
        let all = || {
            let all = analysis.statements.iter().enumerate();
            all.filter(|(at, _)| place.is_none_or(|place| place == *at))
        };
        let controls = |one: &Statement| one.kinds.contains(Kind::Transaction);
        let control = all().any(|(_, one)| controls(one));
        let mut target = named;
        if control && all().all(|(_, one)| controls(one)) {
            target = None;
        }
        if target.is_some() {
            let self_contained = analysis.unread.is_none() && !control;
            let one = all().count() == 1;
            if !self_contained || !one && all().any(|(at, _)| alone(at) != target) {
                return Err(Denied::hinted(MIXED_TEXT, SEND_ALONE));
            }
        }
        let lives = self.lives(analysis, &all, about, target)?;
        match lives {
            Some(lives) if lives != target => {
                // What only ends a name goes where that is.
                let ends = |act: &Act| {
                    matches!(act, Act::Deallocate { name: Some(_) } | Act::ClosePortal { .. })
                };
                let ends = all().all(|(_, one)| ends(&one.act));
                if ends && named.is_none() {
                    Ok(lives)
                } else {
                    Err(Denied::hinted(LIVES_ELSEWHERE, MAKE_AGAIN))
                }
            }
            _ => Ok(target),
        }
    }

    /// Where the names live that statements use; `None`: they use none. What makes a name that
    /// lives in another session than `target` is refused as the server would.
    #[expect(clippy::option_option, reason = "no name, a name at home, a name of a credential")]
    fn lives<'s, I>(
        &self,
        analysis: &Rc<Analysis>,
        all: &impl Fn() -> I,
        about: About<'_>,
        target: Option<CredentialId>,
    ) -> Result<Option<Option<CredentialId>>, Denied>
    where
        I: Iterator<Item = (usize, &'s Statement)>,
    {
        let mut lives = match about {
            About::Lives(lives) => Some(lives),
            About::Text | About::Makes(_) | About::Runs => None,
        };
        if let About::Makes(name) = about
            && !name.is_empty()
        {
            self.is_free(false, name, target)?;
        }
        for (at, one) in all() {
            let (portal, name) = match &one.act {
                Act::Prepare { name } => {
                    self.is_free(false, name.as_bytes(), target)?;
                    continue;
                }
                Act::Declare { name, .. } => {
                    self.is_free(true, name.as_bytes(), target)?;
                    continue;
                }
                Act::Execute { name, .. } | Act::Deallocate { name: Some(name) } => (false, name),
                Act::Fetch { name, .. } | Act::ClosePortal { name: Some(name) } => (true, name),
                _ => continue,
            };
            let name = name.as_bytes();
            let (named, of) = self.find(portal, name);
            if analysis.makes_before(at, portal, name) || matches!(named, Named::Nothing) {
                continue;
            }
            if lives.is_some_and(|lives| lives != of) {
                return Err(match about {
                    About::Lives(_) => Denied::hinted(LIVES_ELSEWHERE, MAKE_AGAIN),
                    About::Text | About::Makes(_) | About::Runs => {
                        Denied::hinted(MIXED_TEXT, SEND_ALONE)
                    }
                });
            }
            lives = Some(of);
        }
        Ok(lives)
    }

    /// Whether no other session than that of `target` has the name.
    fn is_free(
        &self,
        portal: bool,
        name: &[u8],
        target: Option<CredentialId>,
    ) -> Result<(), Denied> {
        let (named, of) = self.find(portal, name);
        if matches!(named, Named::Nothing) || of == target {
            return Ok(());
        }
        let (code, detail) = if portal {
            ("42P03", "The cursor exists already, in the session of another credential")
        } else {
            ("42P05", "The prepared statement exists already, in the session of another credential")
        };
        Err(Denied { code: Some(code), ..Denied::of(Refusal::BadRequest, detail) })
    }

    /// Whether the session of `target` is in hand or can be taken in hand.
    fn reach(&self, target: Option<CredentialId>) -> Result<Seat, Denied> {
        if self.serves.credential == target {
            return Ok(Seat::Here);
        }
        // No more than the cycle in hand is under way, so that it is known where it stands.
        let known = self.cycles.is_known();
        if known && self.tx != TxStatus::Idle {
            return Err(Denied::hinted(IN_TRANSACTION, RUN_OUTSIDE));
        }
        if self.cycles.is_begun() {
            // A cycle is one transaction, and what ran of it did so elsewhere.
            if self.cycles.has_run() {
                return Err(Denied::hinted(IN_CYCLE, RUN_OUTSIDE));
            }
            let settles = known && !self.queue.is_settling();
            return Ok(if settles { Seat::Settle } else { Seat::Wait });
        }
        Ok(if self.is_between() { Seat::Turn(target) } else { Seat::Wait })
    }

    /// Whether a message that names something needs no other session, or none can be had: it was
    /// parked or refused then.
    pub(super) fn is_at<J: Journal>(
        &mut self,
        (portal, name): (bool, &[u8]),
        message: Bytes<'_>,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        if self.beside.is_empty() {
            return true;
        }
        let (Named::Is(prepared), lives) = self.find(portal, name) else { return true };
        match self.reach(lives) {
            Ok(Seat::Here) => return true,
            Ok(Seat::Wait) => self.park(message),
            Ok(Seat::Settle) => {
                self.park(message);
                self.settles = true;
            }
            Ok(Seat::Turn(credential)) => {
                self.park(message);
                self.wanted = Some(Wanted { credential, grant: None });
            }
            Err(denied) => {
                self.refuse_extended(denied, &prepared, POISON_NAME, now, worker, out);
            }
        }
        false
    }
}

impl Analysis {
    /// Whether the text makes the name before its statement `place`.
    fn makes_before(&self, place: usize, portal: bool, name: &[u8]) -> bool {
        self.statements.iter().take(place).any(|one| match &one.act {
            Act::Prepare { name: made } => !portal && made.as_bytes() == name,
            Act::Declare { name: made, .. } => portal && made.as_bytes() == name,
            _ => false,
        })
    }
}

const IN_TRANSACTION: &str = "The rule asks for a credential of its own, and what runs by that is \
                              not a part of the transaction that is open.";
const IN_CYCLE: &str = "What was sent before in the same pipeline runs by another credential, and \
                        both would have to be one transaction.";
const RUNS_ELSEWHERE: &str = "The rule asks for another credential than the one that it runs by.";
const RUN_OUTSIDE: &str = "Run it outside of a transaction block, and behind a Sync.";
const MIXED_TEXT: &str = "Its statements ask for different credentials, or for one of the rule's \
                          own beside transaction control or what needs none.";
const SEND_ALONE: &str = "Send the statements one by one.";
const LIVES_ELSEWHERE: &str = "What it names was made in the session of another credential than \
                               the one that the rule asks for.";
const MAKE_AGAIN: &str = "Prepare or declare it again.";
