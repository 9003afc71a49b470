//! Who may decide: not who asked, one of the approvers, each person once.

use super::ask::{Ask, Party, REASON_MAX};
use super::request::{Request, State, Vote};
use std::fmt;

/// What a person says of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Ballot {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: Option<Box<str>>,
    /// Digest of what the person was shown ([`shown`](super::shown)).
    pub digest: [u8; 32],
    /// By what it came, where that is not the API itself: `link:HOOK`, `callback:HOOK`.
    pub via: Option<Box<str>>,
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ballot").field("approve", &self.approve).finish_non_exhaustive()
    }
}

/// Why an act of a person is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActFault {
    /// There is no such request.
    Unknown,
    /// It is the person's own, or one it has part in.
    Own,
    /// The token says that somebody acts for the person: to decide is the person's own act.
    Delegated,
    /// The person is in none of the groups.
    NotApprover,
    /// There is nothing to decide any more.
    Ended(State),
    /// The person was shown something else.
    Digest,
    /// The rule wants a reason.
    NoReason,
    /// The reason is above [`REASON_MAX`] bytes, or steers a terminal.
    Reason,
    /// The person has voted.
    Again,
    /// Each group of the person has been spoken for, and distinct ones are asked for.
    GroupTaken,
    /// It was not granted under break-glass.
    NotBreakGlass,
    /// The person is in none of the groups that may see the originals.
    NotRevealer,
    /// There are no originals: nothing was masked, or they are not kept any more.
    NoOriginals,
    /// The owner is gone, or cannot write its log, or has too much to do.
    Unavailable,
}

impl ActFault {
    /// A fixed word for the API and the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Own => "own-request",
            Self::Delegated => "delegated",
            Self::NotApprover => "not-an-approver",
            Self::Ended(_) => "ended",
            Self::Digest => "digest",
            Self::NoReason => "no-reason",
            Self::Reason => "reason",
            Self::Again => "voted",
            Self::GroupTaken => "group-taken",
            Self::NotBreakGlass => "not-break-glass",
            Self::NotRevealer => "not-a-revealer",
            Self::NoOriginals => "no-originals",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The approvers' groups that `person` is in.
///
/// # Errors
/// Why it may not decide about `ask`, whatever its groups.
pub(super) fn groups_of(person: &Party, ask: &Ask) -> Result<Box<[Box<str>]>, ActFault> {
    is_another(person, ask)?;
    let approvers = ask.terms.approvers.iter();
    let groups: Box<[_]> =
        approvers.filter(|group| person.groups.contains(group)).cloned().collect();
    if groups.is_empty() { Err(ActFault::NotApprover) } else { Ok(groups) }
}

/// That the person has no part in what it looks at, and nobody acts for it.
///
/// # Errors
/// [`ActFault::Own`], [`ActFault::Delegated`].
pub fn is_another(person: &Party, ask: &Ask) -> Result<(), ActFault> {
    if person.has_part_in(&ask.who) {
        return Err(ActFault::Own);
    }
    if person.actors.is_empty() { Ok(()) } else { Err(ActFault::Delegated) }
}

/// The vote, if it may be cast on `request`, which is pending.
pub(super) fn vote(
    person: &Party,
    ballot: Ballot,
    groups: Box<[Box<str>]>,
    (request, shown): (&Request, [u8; 32]),
    at_ns: u64,
) -> Result<Vote, ActFault> {
    if ballot.digest != shown {
        return Err(ActFault::Digest);
    }
    let reason = reason(ballot.reason)?;
    if request.ask.terms.reason && reason.is_none() {
        return Err(ActFault::NoReason);
    }
    if request.votes.iter().any(|vote| vote.iss == person.iss && vote.sub == person.sub) {
        return Err(ActFault::Again);
    }
    let Ballot { approve, digest, via, .. } = ballot;
    let (iss, sub) = (person.iss.clone(), person.sub.clone());
    let vote = Vote { iss, sub, groups, approve, reason, digest, via, at_ns };
    if approve && request.ask.terms.distinct_groups {
        let voices: Vec<&[Box<str>]> =
            request.approvals().chain([&vote]).map(|vote| &*vote.groups).collect();
        if !each_has_its_own(&voices) {
            return Err(ActFault::GroupTaken);
        }
    }
    Ok(vote)
}

/// A reason as it is kept: `None` for one that says nothing.
pub(super) fn reason(reason: Option<Box<str>>) -> Result<Option<Box<str>>, ActFault> {
    let Some(text) = reason.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    if text.len() > REASON_MAX || text.chars().any(steers) {
        return Err(ActFault::Reason);
    }
    Ok(Some(text.into()))
}

/// Whether every voice can speak for a group of its own: a matching, by augmenting paths. Voices
/// and groups are few.
fn each_has_its_own(voices: &[&[Box<str>]]) -> bool {
    let mut taken: Vec<(&str, usize)> = Vec::new();
    (0..voices.len()).all(|voice| place(voice, voices, &mut taken, &mut Vec::new()))
}

/// Finds a group for `voice`, by sending others to another of theirs where it must.
fn place<'v>(
    voice: usize,
    voices: &[&'v [Box<str>]],
    taken: &mut Vec<(&'v str, usize)>,
    tried: &mut Vec<&'v str>,
) -> bool {
    for group in voices.get(voice).copied().unwrap_or_default() {
        if tried.contains(&&**group) {
            continue;
        }
        tried.push(group);
        let Some(at) = taken.iter().position(|(name, _)| **name == **group) else {
            taken.push((group, voice));
            return true;
        };
        let holder = taken.get(at).map(|(_, holder)| *holder).unwrap_or_default();
        if place(holder, voices, taken, tried) {
            // What the holder took is another group: this place stands where it stood.
            if let Some(slot) = taken.get_mut(at) {
                slot.1 = voice;
            }
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(voices: &[&[&str]]) -> bool {
        let voices: Vec<Vec<Box<str>>> =
            voices.iter().map(|list| list.iter().map(|text| (*text).into()).collect()).collect();
        each_has_its_own(&voices.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn distinct_groups_are_found_where_there_are_any() {
        assert!(own(&[]) && own(&[&["a"]]) && own(&[&["a"], &["b"]]));
        assert!(!own(&[&[]]) && !own(&[&["a"], &["a"]]));
        assert!(own(&[&["a", "b"], &["a"]]), "the first gives way");
        assert!(own(&[&["a", "b"], &["a", "c"], &["a"]]), "both do");
        assert!(own(&[&["a", "b"], &["b", "c"], &["a"], &["c", "d"]]), "in a row");
        assert!(!own(&[&["a", "b"], &["a", "b"], &["b", "a"]]));
    }

    #[test]
    fn a_reason_is_kept_without_its_edges() {
        assert_eq!(reason(None), Ok(None));
        assert_eq!(reason(Some(" \n".into())), Ok(None));
        assert_eq!(reason(Some(" a\nb ".into())), Ok(Some("a\nb".into())));
        assert_eq!(reason(Some("a\u{1b}[2J".into())), Err(ActFault::Reason));
        assert_eq!(reason(Some("x".repeat(REASON_MAX + 1).into())), Err(ActFault::Reason));
    }
}
