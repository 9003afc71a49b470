//! Who may see what the masks took out of a summary, and that it was looked at.

use super::book::Book;
use super::entry::{Act, Staged};
use super::people::{self, ActFault};
use super::request::Look;
use super::{ApprovalId, Ask, Party};

impl Book {
    /// A person looks at the originals: that it does is on the disk before it sees them.
    pub fn reveal(
        &mut self,
        id: ApprovalId,
        person: &Party,
        now_ns: u64,
    ) -> Staged<Result<(), ActFault>> {
        self.expire(now_ns);
        let looked = self.looked(id, person);
        if looked.is_ok() {
            let (iss, sub) = (person.iss.clone(), person.sub.clone());
            self.record(id, now_ns, Act::Revealed { look: Look { iss, sub, at_ns: now_ns } });
        }
        self.staged(looked)
    }

    fn looked(&self, id: ApprovalId, person: &Party) -> Result<(), ActFault> {
        let request = self.get(id).ok_or(ActFault::Unknown)?;
        if !may_reveal(person, &request.ask)? {
            return Err(ActFault::NotRevealer);
        }
        let known = |look: &&Look| look.iss == person.iss && look.sub == person.sub;
        let looks = &request.looks;
        if looks.len() >= LOOKS_MAX && looks.iter().find(known).is_none() {
            return Err(ActFault::Again);
        }
        Ok(())
    }
}

/// Whether the person's groups are such as the terms name.
///
/// # Errors
/// Why it may not, whatever its groups.
fn may_reveal(person: &Party, ask: &Ask) -> Result<bool, ActFault> {
    people::is_another(person, ask)?;
    Ok(ask.terms.reveal.iter().any(|group| person.groups.contains(group)))
}

/// Most people who looked at the originals of one request.
pub const LOOKS_MAX: usize = 64;
