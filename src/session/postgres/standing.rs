//! Whether a session still stands: its token holds, and it is what a new one would be.

use super::Session;
use super::refuse::Denied;
use crate::base::Now;
use crate::policy::Decision;
use crate::record::Journal;
use crate::session::gate;
use crate::session::io::Out;
use crate::session::refusal::Refusal;
use crate::session::worker::Worker;
use std::rc::Rc;

impl Session {
    /// Whether rules and keys are those that the caller was last known by.
    pub(super) fn is_of_now<J: Journal>(&self, worker: &Worker<J>) -> bool {
        self.known_by == (worker.snapshot.generation, worker.keys.generation)
    }

    /// Whether the caller's token still holds, and its rules are of the policy in force. Ends the
    /// session where it does not.
    pub(super) fn still_known<J: Journal>(
        &mut self,
        now: Now,
        worker: &mut Worker<J>,
        out: &mut Out,
    ) -> bool {
        let generations = (worker.snapshot.generation, worker.keys.generation);
        let fresh = self.is_of_now(worker);
        let until_s = self.who.as_ref().map_or(0, |(principal, _)| principal.valid_until_s());
        let grace_s = worker.snapshot.limits.token_grace_ms / 1_000;
        if fresh && now.wall_ns / 1_000_000_000 < until_s.saturating_add(grace_s) {
            return true;
        }
        let again = match (&self.token, &self.who) {
            (Some(token), _) => worker.identify(token.expose(), self.opened.caller.ip(), now).ok(),
            // Known by a certificate: as long as it is valid.
            (None, Some((principal, _))) if now.wall_ns / 1_000_000_000 < until_s => {
                Some(worker.know_again(principal))
            }
            _ => None,
        };
        let known = again.is_some();
        if known {
            self.who = again;
            self.known_by = generations;
            self.verdicts.clear();
            if self.stands_again(worker).is_some() {
                return true;
            }
        }
        let denied = if known {
            Denied::of(Refusal::Overloaded, "The configuration changed; connect again.")
        } else {
            Denied::of(Refusal::Unauthenticated, "The token is no longer valid.")
        };
        self.refuse_all(&denied, now, worker, out);
        false
    }

    /// Connecting by the configuration in force. A reload may number resources and credentials
    /// anew, so they are known by their names. `None`: the server, or who the session is there, is
    /// not what it would be for a new session.
    fn stands_again<J: Journal>(&mut self, worker: &Worker<J>) -> Option<()> {
        let (old, new) = (self.snapshot.clone()?, &worker.snapshot);
        if old.generation == new.generation {
            return Some(());
        }
        let before = old.resource(self.resource?)?;
        let resource = new.databases.get(before.name.as_str()).copied()?;
        let view = new.resource(resource)?;
        let (principal, known) = self.who.as_ref()?;
        let decision = gate::decide_connect(&new.policy, principal, &known.row, resource);
        let Decision::Permit(grant) = decision else { return None };
        let credential = grant.credential().unwrap_or(view.credential);
        let (was, is) = (old.credential(self.credential)?, new.credential(credential)?);
        let stands = view.authority == before.authority
            && view.database == before.database
            && (is.name(), is.user(), is.role()) == (was.name(), was.user(), was.role());
        if !stands {
            return None;
        }
        self.number_again(&old, new)?;
        (self.resource, self.credential) = (Some(resource), credential);
        self.connect = Some(Rc::new(grant));
        let new = Rc::clone(new);
        self.arm(&new);
        self.snapshot = Some(new);
        Some(())
    }
}
