//! The book of all requests: what may happen to them, and what happened.

use super::ask::{Ask, Party};
use super::entry::{Act, Entry, Staged};
use super::people::{self, ActFault, Ballot};
use super::request::{By, End, Request, Review, State};
use super::shown::shown_digest;
use super::verdict::{Refused, Use, Verdict};
use crate::base::{ApprovalId, Limits};
use ahash::AHashMap;
use std::collections::BTreeSet;
use std::fmt;

/// How much a book takes, and how long it keeps what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that wait, grants, and what owes a review.
    pub open_max: u32,
    /// The same, of one caller.
    pub caller_max: u32,
    /// Requests that have ended.
    pub kept_max: u32,
    /// How long they are kept.
    pub kept_ns: u64,
}

impl Bounds {
    /// Those of the config.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        Self {
            open_max: limits.approvals_max,
            caller_max: limits.approvals_caller_max,
            kept_max: limits.approvals_kept_max,
            kept_ns: limits.approvals_kept_ms.saturating_mul(1_000_000),
        }
    }
}

/// Which grants and requests are taken back.
#[derive(Clone, PartialEq, Eq)]
pub enum Selector {
    /// This one.
    Id(ApprovalId),
    /// Those of a caller; of any issuer where none is named.
    Caller {
        /// Issuer.
        iss: Option<Box<str>>,
        /// Subject.
        sub: Box<str>,
    },
    /// Those for a resource, by its name.
    Resource(Box<str>),
    /// All.
    All,
}

impl Selector {
    fn takes(&self, request: &Request) -> bool {
        match self {
            Self::Id(id) => request.id == *id,
            Self::Caller { iss, sub } => {
                let who = &request.ask.who;
                who.sub == *sub && iss.as_ref().is_none_or(|iss| who.iss == *iss)
            }
            Self::Resource(name) => request.ask.resource == *name,
            Self::All => true,
        }
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Id(_) => "Id",
            Self::Caller { .. } => "Caller",
            Self::Resource(_) => "Resource",
            Self::All => "All",
        })
    }
}

/// Who takes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoker {
    /// Whoever holds the admin token: everything.
    Script,
    /// A person: what it asked for itself, and what its groups may decide about.
    Person(Party),
}

impl Revoker {
    fn may(&self, request: &Request) -> bool {
        let Self::Person(person) = self else { return true };
        let who = &request.ask.who;
        let approvers = &request.ask.terms.approvers;
        (who.iss == person.iss && who.sub == person.sub)
            || approvers.iter().any(|group| person.groups.contains(group))
    }

    fn by(&self) -> By {
        match self {
            Self::Script => By::Script,
            Self::Person(person) => By::Person { iss: person.iss.clone(), sub: person.sub.clone() },
        }
    }
}

/// What was taken back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenBack {
    /// Requests that waited.
    pub cancelled: Vec<ApprovalId>,
    /// Grants.
    pub revoked: Vec<ApprovalId>,
    /// Grants that are used up or over: what still runs under them ends too.
    pub running: Vec<ApprovalId>,
    /// How many more there are that whoever asked may not take back.
    pub withheld: u32,
}

/// How much of what stands in a book.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Requests that wait for a person.
    pub pending: u64,
    /// Grants with uses left.
    pub grants: u64,
    /// Break-glass grants that nobody has looked at.
    pub reviews: u64,
    /// When the oldest request that waits was asked.
    pub oldest_ns: Option<u64>,
}

/// An entry that cannot follow those before it: the log is not one of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced;

/// All requests. One owner; every change is an [`Entry`] that [`Self::take_entries`] gives out.
///
/// What a method answers is [`Staged`]: it holds once those entries are on the disk. The book
/// itself is ahead of the disk. When the disk fails, it is dropped, and what its log has is read
/// again: nobody has heard of more.
#[derive(Debug)]
pub struct Book {
    bounds: Bounds,
    requests: AHashMap<ApprovalId, Request>,
    /// The last request of each [`Ask::key`].
    keys: AHashMap<[u8; 32], ApprovalId>,
    /// What waits for a person, by [`Ask::retry_key`].
    retries: AHashMap<[u8; 32], ApprovalId>,
    /// Places taken by each caller.
    shares: AHashMap<[u8; 32], u32>,
    /// All of them.
    places: u32,
    /// What ends by itself, by when.
    due: BTreeSet<(u64, ApprovalId)>,
    /// What waits for a person, by when it was asked.
    pending: BTreeSet<(u64, ApprovalId)>,
    levels: Levels,
    /// What has ended and may be forgotten, by when it ended.
    ended: BTreeSet<(u64, ApprovalId)>,
    /// What runs under a grant at the moment; not forgotten meanwhile.
    running: AHashMap<ApprovalId, u32>,
    entries: Vec<Entry>,
    given: u64,
}

impl Book {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            requests: AHashMap::new(),
            keys: AHashMap::new(),
            retries: AHashMap::new(),
            shares: AHashMap::new(),
            places: 0,
            due: BTreeSet::new(),
            pending: BTreeSet::new(),
            levels: Levels::default(),
            ended: BTreeSet::new(),
            running: AHashMap::new(),
            entries: Vec::new(),
            given: 0,
        }
    }

    /// Takes over other bounds. What is above them stays until it ends.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// A caller wants something. `id` is drawn at random for what may be a new request; the one
    /// that it is comes back, where there is one.
    pub fn ask(
        &mut self,
        ask: Ask,
        id: ApprovalId,
        now_ns: u64,
    ) -> (Option<ApprovalId>, Staged<Verdict>) {
        self.expire(now_ns);
        let (id, verdict) = match self.asked(ask, id, now_ns) {
            Ok((id, verdict)) => (Some(id), verdict),
            Err(refused) => (None, Verdict::Refused(refused)),
        };
        (id, self.staged(verdict))
    }

    fn asked(
        &mut self,
        ask: Ask,
        id: ApprovalId,
        now_ns: u64,
    ) -> Result<(ApprovalId, Verdict), Refused> {
        ask.check().map_err(Refused::Fault)?;
        if let Some(found) = self.standing(&ask.key(), now_ns) {
            return Ok(found);
        }
        // The same in other bytes, which nobody was shown: what waits gives way, so that people are
        // asked once.
        let before = ask.retry_key().and_then(|key| self.retries.get(&key).copied());
        if let Some(before) = before {
            let why = Some("asked again in other bytes".into());
            self.record(before, now_ns, Act::Cancelled { by: By::Caller, why });
        }
        if self.places >= self.bounds.open_max {
            return Err(Refused::Full);
        }
        if self.shares.get(&ask.caller()).copied().unwrap_or(0) >= self.bounds.caller_max {
            return Err(Refused::CallerFull);
        }
        if self.requests.contains_key(&id) {
            return Err(Refused::Unavailable);
        }
        let deadline_ns = now_ns.saturating_add(ask.terms.wait_ns);
        let at_once = ask.terms.break_glass;
        let until_ns = at_once.then(|| now_ns.saturating_add(ask.terms.ttl_ns));
        self.record(id, now_ns, Act::Asked { ask: Box::new(ask), deadline_ns, until_ns });
        let verdict =
            if at_once { Verdict::Approved { id } } else { Verdict::Pending { id, deadline_ns } };
        Ok((id, verdict))
    }

    /// What an ask of this key gets without being a new request.
    fn standing(&self, key: &[u8; 32], now_ns: u64) -> Option<(ApprovalId, Verdict)> {
        let request = self.requests.get(self.keys.get(key)?)?;
        let id = request.id;
        let verdict = match request.state {
            State::Pending => Verdict::Pending { id, deadline_ns: request.deadline_ns },
            State::Approved | State::Active => Verdict::Approved { id },
            // Else who is told no could wear people out by asking on.
            State::Denied if now_ns < denied_until_ns(request) => denied(request),
            _ => return None,
        };
        Some((id, verdict))
    }

    /// Counts down one use of a grant, for the caller that it is of and what it covers.
    pub fn spend(
        &mut self,
        id: ApprovalId,
        binding: &[u8; 32],
        who: &Party,
        now_ns: u64,
    ) -> Staged<Verdict> {
        self.expire(now_ns);
        let verdict = self.spent(id, binding, who, now_ns).unwrap_or_else(Verdict::Refused);
        self.staged(verdict)
    }

    fn spent(
        &mut self,
        id: ApprovalId,
        binding: &[u8; 32],
        who: &Party,
        now_ns: u64,
    ) -> Result<Verdict, Refused> {
        let request = self.requests.get(&id).ok_or(Refused::Unknown)?;
        if request.ask.binding != *binding || !request.ask.who.is_same_caller(who) {
            return Err(Refused::Foreign);
        }
        match request.state {
            State::Approved | State::Active => {}
            State::Pending => return Err(Refused::NotApproved),
            State::Consumed => return Err(Refused::UsedUp),
            State::Denied => return Ok(denied(request)),
            State::Expired => return Ok(Verdict::Expired { id }),
            State::Cancelled => return Ok(Verdict::Cancelled { id }),
            State::Revoked => return Ok(Verdict::Revoked { id }),
        }
        let number = request.used.saturating_add(1);
        let one = Use {
            id,
            binding: *binding,
            rule: request.ask.rule.clone(),
            credential: request.ask.credential.clone(),
            number,
            approvers: request.approvals().map(|vote| vote.sub.clone()).collect(),
        };
        self.record(id, now_ns, Act::Used { number });
        Ok(Verdict::Spent(one))
    }

    /// A person votes. The request comes back as it stands then.
    pub fn vote(
        &mut self,
        id: ApprovalId,
        person: &Party,
        ballot: Ballot,
        now_ns: u64,
    ) -> Staged<Result<Request, ActFault>> {
        self.expire(now_ns);
        let voted = self.voted(id, person, ballot, now_ns);
        let answer = voted.and_then(|()| self.get(id).cloned().ok_or(ActFault::Unknown));
        self.staged(answer)
    }

    fn voted(
        &mut self,
        id: ApprovalId,
        person: &Party,
        ballot: Ballot,
        now_ns: u64,
    ) -> Result<(), ActFault> {
        let request = self.requests.get(&id).ok_or(ActFault::Unknown)?;
        let groups = people::groups_of(person, &request.ask)?;
        if request.state != State::Pending {
            return Err(ActFault::Ended(request.state));
        }
        let shown = (request, shown_digest(request));
        let vote = people::vote(person, ballot, groups, shown, now_ns)?;
        let voices = request.approvals().count().saturating_add(1);
        let (state, until_ns) = if !vote.approve {
            (State::Denied, None)
        } else if voices >= request.ask.terms.count as usize {
            (State::Approved, Some(now_ns.saturating_add(request.ask.terms.ttl_ns)))
        } else {
            (State::Pending, None)
        };
        self.record(id, now_ns, Act::Voted { vote, state, until_ns });
        Ok(())
    }

    /// Takes one pending request back, for its caller or the policy. Whatever is not pending stays.
    pub fn cancel(&mut self, id: ApprovalId, by: By, why: Option<Box<str>>, now_ns: u64) {
        self.expire(now_ns);
        if self.get(id).is_some_and(|request| request.state == State::Pending) {
            self.record(id, now_ns, Act::Cancelled { by, why });
        }
    }

    /// The policy denies what was asked: a pending request and a grant end. Returns whether what
    /// runs under the grant must.
    pub fn void(&mut self, id: ApprovalId, why: Option<Box<str>>, now_ns: u64) -> bool {
        self.expire(now_ns);
        let Some(state) = self.get(id).map(|request| request.state) else { return false };
        match state {
            State::Pending => self.record(id, now_ns, Act::Cancelled { by: By::Policy, why }),
            State::Approved | State::Active => {
                self.record(id, now_ns, Act::Revoked { by: By::Policy, why });
            }
            _ => {}
        }
        self.running.contains_key(&id)
    }

    /// Takes back what `selector` names, as far as `revoker` may.
    pub fn revoke(
        &mut self,
        selector: &Selector,
        revoker: &Revoker,
        why: Option<Box<str>>,
        now_ns: u64,
    ) -> Staged<Result<TakenBack, ActFault>> {
        self.expire(now_ns);
        let answer = people::reason(why).and_then(|why| {
            let taken = self.taken(selector, revoker)?;
            let by = || revoker.by();
            for id in &taken.cancelled {
                self.record(*id, now_ns, Act::Cancelled { by: by(), why: why.clone() });
            }
            for id in &taken.revoked {
                self.record(*id, now_ns, Act::Revoked { by: by(), why: why.clone() });
            }
            Ok(taken)
        });
        self.staged(answer)
    }

    fn taken(&self, selector: &Selector, revoker: &Revoker) -> Result<TakenBack, ActFault> {
        let one = match selector {
            Selector::Id(id) => Some(self.get(*id).ok_or(ActFault::Unknown)?),
            _ => None,
        };
        if let Some(request) = one {
            let running = self.running.contains_key(&request.id);
            if !revoker.may(request) {
                return Err(ActFault::NotApprover);
            }
            if request.state.is_final() && !running {
                return Err(ActFault::Ended(request.state));
            }
        }
        let mut taken = TakenBack::default();
        let all = one.is_none().then(|| self.requests.values()).into_iter().flatten();
        for request in one.into_iter().chain(all).filter(|request| selector.takes(request)) {
            let running = self.running.contains_key(&request.id);
            let list = match request.state {
                State::Pending => &mut taken.cancelled,
                State::Approved | State::Active => &mut taken.revoked,
                _ if running => &mut taken.running,
                _ => continue,
            };
            if revoker.may(request) {
                list.push(request.id);
            } else {
                taken.withheld = taken.withheld.saturating_add(1);
            }
        }
        Ok(taken)
    }

    /// A person has looked at what was done under break-glass.
    pub fn review(
        &mut self,
        id: ApprovalId,
        person: &Party,
        reason: Option<Box<str>>,
        now_ns: u64,
    ) -> Staged<Result<Request, ActFault>> {
        self.expire(now_ns);
        let reviewed = self.reviewed(id, person, reason, now_ns);
        let answer = reviewed.and_then(|()| self.get(id).cloned().ok_or(ActFault::Unknown));
        self.staged(answer)
    }

    fn reviewed(
        &mut self,
        id: ApprovalId,
        person: &Party,
        reason: Option<Box<str>>,
        now_ns: u64,
    ) -> Result<(), ActFault> {
        let request = self.requests.get(&id).ok_or(ActFault::Unknown)?;
        people::groups_of(person, &request.ask)?;
        if !request.ask.terms.break_glass {
            return Err(ActFault::NotBreakGlass);
        }
        if request.review.is_some() {
            return Err(ActFault::Again);
        }
        let reason = people::reason(reason)?;
        if request.ask.terms.reason && reason.is_none() {
            return Err(ActFault::NoReason);
        }
        let (iss, sub) = (person.iss.clone(), person.sub.clone());
        let review = Review { iss, sub, reason, at_ns: now_ns };
        self.record(id, now_ns, Act::Reviewed { review });
        Ok(())
    }

    /// Ends what is due, and forgets what ended long ago.
    pub fn expire(&mut self, now_ns: u64) {
        while self.due.first().is_some_and(|(due_ns, _)| *due_ns <= now_ns) {
            if let Some((_, id)) = self.due.pop_first() {
                self.record(id, now_ns, Act::Expired {});
            }
        }
        let kept = |ended: &BTreeSet<_>| u32::try_from(ended.len()).unwrap_or(u32::MAX);
        while let Some((ended_ns, id)) = self.ended.first().copied() {
            let old = ended_ns.saturating_add(self.bounds.kept_ns) <= now_ns;
            if !old && kept(&self.ended) <= self.bounds.kept_max {
                break;
            }
            self.ended.remove(&(ended_ns, id));
            if let Some(gone) = self.requests.remove(&id) {
                let key = gone.ask.key();
                if self.keys.get(&key) == Some(&id) {
                    self.keys.remove(&key);
                }
            }
        }
    }

    /// When [`Self::expire`] has something to end.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Something runs under a grant: it is not forgotten until [`Self::ends`] was called as often.
    pub fn runs(&mut self, id: ApprovalId) {
        self.unkept(id);
        let count = self.running.entry(id).or_default();
        *count = count.saturating_add(1);
    }

    /// What ran has ended.
    pub fn ends(&mut self, id: ApprovalId) {
        let Some(count) = self.running.get_mut(&id) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.running.remove(&id);
            self.kept(id);
        }
    }

    /// One request.
    #[must_use]
    pub fn get(&self, id: ApprovalId) -> Option<&Request> {
        self.requests.get(&id)
    }

    /// All of them, in no order.
    pub fn requests(&self) -> impl ExactSizeIterator<Item = &Request> {
        self.requests.values()
    }

    /// How much there is.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let pending = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        let oldest_ns = self.pending.first().map(|(asked_ns, _)| *asked_ns);
        Levels { pending, oldest_ns, ..self.levels }
    }

    /// What happened since the last look, in its order, and how many entries were given out by
    /// then: what [`Synced::up_to`](super::Synced::up_to) takes.
    pub fn take_entries(&mut self) -> (Vec<Entry>, u64) {
        (std::mem::take(&mut self.entries), self.given)
    }

    /// Entries that make this book again: a log that begins with them needs none before.
    pub fn snapshot(&self, now_ns: u64) -> impl Iterator<Item = Entry> {
        let kept = |request: &Request| Act::Kept { request: Box::new(request.clone()) };
        self.requests.values().map(move |request| Entry {
            at_ns: now_ns,
            id: request.id,
            act: kept(request),
        })
    }

    /// An answer that rests on everything that happened until now.
    pub fn staged<T>(&self, value: T) -> Staged<T> {
        Staged::new(value, self.given)
    }

    /// Makes the change and keeps it for the log.
    pub(super) fn record(&mut self, id: ApprovalId, at_ns: u64, act: Act) {
        let entry = Entry { at_ns, id, act };
        let applied = self.apply(&entry);
        debug_assert_eq!(applied, Ok(()), "a change that the book makes itself");
        self.given = self.given.saturating_add(1);
        self.entries.push(entry);
    }

    /// Makes the change that an entry of the log says.
    ///
    /// # Errors
    /// [`Misplaced`]; nothing was changed then.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Misplaced> {
        let begun = match &entry.act {
            Act::Asked { ask, deadline_ns, until_ns } => {
                asked(entry, ask, *deadline_ns, *until_ns)?
            }
            Act::Kept { request } if request.id == entry.id => (**request).clone(),
            Act::Kept { .. } => return Err(Misplaced),
            act => {
                self.unfile(entry.id);
                let mut request = self.requests.remove(&entry.id).ok_or(Misplaced)?;
                let changed = change(&mut request, act, entry.at_ns);
                self.file(request);
                return changed;
            }
        };
        if self.requests.contains_key(&entry.id) {
            return Err(Misplaced);
        }
        self.file(begun);
        Ok(())
    }

    /// Takes a request out of what is derived from the table.
    fn unfile(&mut self, id: ApprovalId) {
        let Some(request) = self.requests.get(&id) else { return };
        if let Some(due_ns) = request.due_ns() {
            self.due.remove(&(due_ns, id));
        }
        self.pending.remove(&(request.requested_ns, id));
        if let Some(key) = request.ask.retry_key()
            && self.retries.get(&key) == Some(&id)
        {
            self.retries.remove(&key);
        }
        self.levels.grants -= u64::from(request.state.is_grant());
        self.levels.reviews -= u64::from(request.owes_review());
        if request.takes_place() {
            self.places = self.places.saturating_sub(1);
            let caller = request.ask.caller();
            if let Some(share) = self.shares.get_mut(&caller) {
                *share = share.saturating_sub(1);
                if *share == 0 {
                    self.shares.remove(&caller);
                }
            }
        }
        self.unkept(id);
    }

    /// Puts a request into the table and what is derived from it.
    fn file(&mut self, request: Request) {
        let id = request.id;
        if let Some(due_ns) = request.due_ns() {
            self.due.insert((due_ns, id));
        }
        if request.state == State::Pending {
            self.pending.insert((request.requested_ns, id));
            self.retries.extend(request.ask.retry_key().map(|key| (key, id)));
        }
        self.levels.grants += u64::from(request.state.is_grant());
        self.levels.reviews += u64::from(request.owes_review());
        if request.takes_place() {
            self.places = self.places.saturating_add(1);
            let share = self.shares.entry(request.ask.caller()).or_default();
            *share = share.saturating_add(1);
        }
        // A log that was written anew has its requests in no order: what can be used goes first.
        let key = request.ask.key();
        let before = self.keys.get(&key).and_then(|id| self.requests.get(id));
        let rank = |request: &Request| (!request.state.is_final(), request.requested_ns);
        if before.is_none_or(|before| before.id == id || rank(before) <= rank(&request)) {
            self.keys.insert(key, id);
        }
        self.requests.insert(id, request);
        self.kept(id);
    }

    /// Lines a request up to be forgotten, where it may be.
    fn kept(&mut self, id: ApprovalId) {
        let Some(request) = self.requests.get(&id) else { return };
        if let Some(ended_ns) = request.ended_ns
            && !request.takes_place()
            && !self.running.contains_key(&id)
        {
            self.ended.insert((ended_ns, id));
        }
    }

    fn unkept(&mut self, id: ApprovalId) {
        if let Some(ended_ns) = self.requests.get(&id).and_then(|request| request.ended_ns) {
            self.ended.remove(&(ended_ns, id));
        }
    }

    /// Checks that everything derived agrees with the table.
    ///
    /// # Panics
    /// Where it does not.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let taking = self.requests.values().filter(|request| request.takes_place());
        assert_eq!(taking.count(), self.places as usize);
        assert_eq!(self.shares.values().sum::<u32>(), self.places);
        for (id, request) in &self.requests {
            assert_eq!(*id, request.id);
            let due = request.due_ns().is_some_and(|due| self.due.contains(&(due, *id)));
            assert_eq!(due, !request.state.is_final(), "what is open ends by itself");
            assert_eq!(request.ended_ns.is_some(), request.state.is_final());
            assert!(request.used <= request.ask.terms.uses);
            assert_eq!(request.state == State::Consumed, request.used == request.ask.terms.uses);
            let yes = request.approvals().count();
            let enough = yes == request.ask.terms.count as usize;
            assert_eq!(request.until_ns.is_some(), enough || request.ask.terms.break_glass);
            let lined = request.ended_ns.is_some_and(|at| self.ended.contains(&(at, *id)));
            let free = !request.takes_place() && !self.running.contains_key(id);
            assert_eq!(lined, free);
        }
        let count =
            |which: fn(&&Request) -> bool| self.requests.values().filter(which).count() as u64;
        let waits = |request: &&Request| request.state == State::Pending;
        let levels = Levels {
            pending: count(|request| request.state == State::Pending),
            grants: count(|request| request.state.is_grant()),
            reviews: count(|request| request.owes_review()),
            oldest_ns: self.requests.values().filter(waits).map(|one| one.requested_ns).min(),
        };
        assert_eq!(self.levels(), levels);
        for (key, id) in &self.retries {
            let waits =
                |one: &Request| one.state == State::Pending && one.ask.retry_key() == Some(*key);
            assert!(self.requests.get(id).is_some_and(waits));
        }
        let open = self.requests.values().filter(|request| !request.state.is_final());
        assert_eq!(self.due.len(), open.count());
        for (key, id) in &self.keys {
            assert_eq!(self.requests.get(id).map(|request| request.ask.key()), Some(*key));
        }
    }
}

fn denied(request: &Request) -> Verdict {
    let reason = request.denial().and_then(|vote| vote.reason.clone());
    Verdict::Denied { id: request.id, reason }
}

/// Until when the same ask is answered by the denial of before.
fn denied_until_ns(request: &Request) -> u64 {
    let ended_ns = request.ended_ns.unwrap_or(0);
    request.deadline_ns.min(ended_ns.saturating_add(DENIAL_NS))
}

fn asked(
    entry: &Entry,
    ask: &Ask,
    deadline_ns: u64,
    until_ns: Option<u64>,
) -> Result<Request, Misplaced> {
    if until_ns.is_some() != ask.terms.break_glass {
        return Err(Misplaced);
    }
    Ok(Request {
        id: entry.id,
        ask: ask.clone(),
        requested_ns: entry.at_ns,
        deadline_ns,
        state: if until_ns.is_some() { State::Approved } else { State::Pending },
        votes: Vec::new(),
        until_ns,
        used: 0,
        ended_ns: None,
        end: None,
        review: None,
        looks: Vec::new(),
    })
}

/// Every change of a request that is there; none where it is an error.
fn change(request: &mut Request, act: &Act, at_ns: u64) -> Result<(), Misplaced> {
    let state = match (request.state, act) {
        (State::Pending, Act::Voted { vote, state, until_ns }) => {
            let fits = match state {
                State::Pending => vote.approve && until_ns.is_none(),
                State::Approved => vote.approve && until_ns.is_some(),
                State::Denied => !vote.approve && until_ns.is_none(),
                _ => false,
            };
            if !fits {
                return Err(Misplaced);
            }
            request.votes.push(vote.clone());
            request.until_ns = *until_ns;
            *state
        }
        (State::Approved | State::Active, Act::Used { number }) => {
            if request.used.checked_add(1) != Some(*number) || *number > request.ask.terms.uses {
                return Err(Misplaced);
            }
            request.used = *number;
            if *number == request.ask.terms.uses { State::Consumed } else { State::Active }
        }
        (State::Pending | State::Approved | State::Active, Act::Expired {}) => State::Expired,
        (State::Pending, Act::Cancelled { by, why }) => {
            request.end = Some(End { by: by.clone(), why: why.clone() });
            State::Cancelled
        }
        (State::Approved | State::Active, Act::Revoked { by, why }) => {
            request.end = Some(End { by: by.clone(), why: why.clone() });
            State::Revoked
        }
        (state, Act::Revealed { look }) => {
            request.looks.retain(|one| (&one.iss, &one.sub) != (&look.iss, &look.sub));
            request.looks.push(look.clone());
            state
        }
        (state, Act::Reviewed { review }) if request.owes_review() => {
            request.review = Some(review.clone());
            state
        }
        _ => return Err(Misplaced),
    };
    if state.is_final() && !request.state.is_final() {
        request.ended_ns = Some(at_ns);
    }
    request.state = state;
    Ok(())
}

/// How long a denial is the answer to the same ask, at most.
const DENIAL_NS: u64 = 5 * 60 * 1_000_000_000;
