//! The owner: takes what is queued, decides, writes, answers.

use super::apart::Apart;
use super::audit::Audit;
use super::change::{self, Change};
use super::desk::{Brief, Desk, Inbox, Message, Reply, Seen, Waiter};
use super::log::{Log, LogError};
use super::numbers::Numbers;
use crate::base::{ApprovalId, Now, Secret};
use crate::control::drain::Storage;
use crate::policy::approval::{
    Act, ActFault, Book, Bounds, By, Entry, Party, Refused, Request, Staged, State, Synced,
    TakenBack, Verdict,
};
use crate::runtime::{self, map::RingJournal};
use ahash::AHashMap;
use ring::rand::{SecureRandom, SystemRandom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::broadcast;

/// The running owner. A drop ends it.
#[derive(Debug)]
pub struct Approvals {
    desk: Desk,
    thread: Option<JoinHandle<()>>,
}

impl Approvals {
    /// Reads the log in `dir` and starts the thread. What happens is recorded in `journal`.
    ///
    /// Whoever calls it owns the data folder: nobody else may write there.
    ///
    /// # Errors
    /// [`LogError`]; nothing runs then.
    pub fn start(
        dir: &Path,
        bounds: Bounds,
        journal: Option<RingJournal>,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, LogError> {
        let (log, book, last_ns) = Log::open(dir, bounds, &storage)?;
        let numbers = Arc::new(Numbers::default());
        let (desk, inbox) = Desk::new(Arc::clone(&numbers));
        let owner = Owner {
            changes: desk.changes_sender(),
            dir: dir.to_owned(),
            bounds,
            storage,
            log: Some(log),
            book,
            apart: Apart::default(),
            audit: Audit::new(journal),
            clock: Clock::after(last_ns),
            numbers,
            waiting: AHashMap::new(),
            waiters: 0,
            retry_ns: 0,
            random: SystemRandom::new(),
        };
        let spawned = std::thread::Builder::new()
            .name("approvals".to_owned())
            .spawn(move || owner.run(&inbox))
            .map_err(|error| LogError::Io {
                what: "start the owner of",
                path: dir.into(),
                error,
            })?;
        Ok(Self { desk, thread: Some(spawned) })
    }

    /// A handle.
    #[must_use]
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }
}

impl Drop for Approvals {
    fn drop(&mut self) {
        self.desk.stop();
        if let Some(thread) = self.thread.take() {
            // A panic there was logged there.
            let _ = thread.join();
        }
    }
}

/// Wall time that never runs backwards, and never slower than the monotonic clock: a clock that is
/// set back makes no grant live longer.
#[derive(Debug)]
struct Clock {
    wall_ns: u64,
    mono_ns: u64,
}

impl Clock {
    /// Goes on after the last entry of the log.
    fn after(last_ns: u64) -> Self {
        Self { wall_ns: last_ns, mono_ns: runtime::now().mono_ns }
    }

    fn read(&mut self, now: Now) -> Now {
        let passed = now.mono_ns.saturating_sub(self.mono_ns);
        self.wall_ns = now.wall_ns.max(self.wall_ns.saturating_add(passed));
        self.mono_ns = self.mono_ns.max(now.mono_ns);
        Now { mono_ns: now.mono_ns, wall_ns: self.wall_ns }
    }
}

/// Somebody who is told of a request.
#[derive(Debug)]
struct Waiting {
    waiter: Waiter,
    /// A use was spent: it runs.
    runs: bool,
}

/// What is done when the disk has the round, in its order.
enum Effect {
    Tell(ApprovalId, Waiter, Staged<Verdict>),
    /// An ask that is no request.
    Answer(Waiter, Staged<Verdict>),
    News(ApprovalId, News),
    Reply(Box<dyn FnOnce(Option<Synced>) + Send>),
    /// What a person did, which is recorded also where it does not count.
    Person(ApprovalId, Box<Party>, Box<Staged<Result<Request, ActFault>>>, Reply<Request>),
    /// The originals for a person, who may not have them all the same.
    Reveal(ApprovalId, Box<Party>, Staged<Result<Secret, ActFault>>, Reply<Secret>),
    /// A waiter is not there any more.
    Left(ApprovalId, u64),
    /// What runs under it is told that it was revoked.
    Cut(ApprovalId),
    CutAll(Staged<Result<TakenBack, ActFault>>, Reply<TakenBack>),
}

/// What whoever waits is told of a request.
enum News {
    Approved,
    Denied(Option<Box<str>>),
    Expired,
    Cancelled,
    Revoked,
}

impl News {
    fn of(entry: &Entry) -> Option<Self> {
        Some(match &entry.act {
            Act::Voted { state: State::Approved, .. } => Self::Approved,
            Act::Voted { state: State::Denied, vote, .. } => Self::Denied(vote.reason.clone()),
            Act::Expired {} => Self::Expired,
            Act::Cancelled { .. } => Self::Cancelled,
            Act::Revoked { .. } => Self::Revoked,
            _ => return None,
        })
    }

    fn verdict(&self, id: ApprovalId) -> Verdict {
        match self {
            Self::Approved => Verdict::Approved { id },
            Self::Denied(reason) => Verdict::Denied { id, reason: reason.clone() },
            Self::Expired => Verdict::Expired { id },
            Self::Cancelled => Verdict::Cancelled { id },
            Self::Revoked => Verdict::Revoked { id },
        }
    }
}

struct Owner {
    /// Who is told of what is on the disk.
    changes: broadcast::Sender<Change>,
    dir: PathBuf,
    bounds: Bounds,
    storage: Arc<dyn Storage>,
    /// `None` after it could not be written, until it was opened anew.
    log: Option<Log>,
    book: Book,
    apart: Apart,
    audit: Audit,
    clock: Clock,
    numbers: Arc<Numbers>,
    waiting: AHashMap<ApprovalId, Vec<Waiting>>,
    waiters: usize,
    retry_ns: u64,
    random: SystemRandom,
}

/// A round, as it is gathered.
#[derive(Default)]
struct Round {
    entries: Vec<Entry>,
    effects: Vec<Effect>,
    given: u64,
}

impl Owner {
    fn run(mut self, inbox: &Inbox) {
        self.numbers.set_levels(self.book.levels());
        loop {
            let now = self.clock.read(runtime::now());
            let due_ns = self.book.next_due_ns().map_or(u64::MAX, |due| due - now.wall_ns.min(due));
            let first = inbox.next(Duration::from_nanos(due_ns).clamp(WAIT_MIN, WAIT_MAX));
            let now = self.clock.read(runtime::now());
            if self.log.is_none() && now.mono_ns >= self.retry_ns {
                self.open_again(now);
            }
            let mut round = Round::default();
            let mut stop = false;
            let more = std::iter::from_fn(|| inbox.more());
            for message in first.into_iter().chain(more).take(ROUND_MAX) {
                stop |= matches!(message, Message::Stop);
                self.take(message, now, &mut round);
            }
            self.book.expire(now.wall_ns);
            self.gather(&mut round);
            self.finish(round, now);
            self.numbers.set_waiters(self.waiters);
            if stop {
                return;
            }
        }
    }

    /// Takes what the book has to write, behind the effects of before.
    fn gather(&mut self, round: &mut Round) {
        let (entries, given) = self.book.take_entries();
        round.given = given;
        let news = entries.iter().filter_map(|entry| Some((entry.id, News::of(entry)?)));
        round.effects.extend(news.map(|(id, news)| Effect::News(id, news)));
        for entry in &entries {
            self.apart.settle(entry.id, self.book.get(entry.id));
        }
        round.entries.extend(entries);
    }

    fn take(&mut self, message: Message, now: Now, round: &mut Round) {
        let effect = self.act(message, now);
        // An answer goes before what follows from it: pending before approved.
        let first = matches!(effect, Some(Effect::Tell(..) | Effect::Answer(..)));
        if first {
            round.effects.extend(effect);
            self.gather(round);
        } else {
            self.gather(round);
            round.effects.extend(effect);
        }
    }

    fn act(&mut self, message: Message, now: Now) -> Option<Effect> {
        let now_ns = now.wall_ns;
        Some(match message {
            Message::Ask { mut ask, waiter } => {
                let originals = std::mem::take(&mut ask.originals);
                let fingerprint = ask.fingerprint;
                let Some(drawn) = self.draw() else {
                    let refused = Verdict::Refused(Refused::Unavailable);
                    return Some(Effect::Answer(waiter, self.book.staged(refused)));
                };
                if self.waiters >= WAITERS_MAX {
                    let refused = Verdict::Refused(Refused::Full);
                    return Some(Effect::Answer(waiter, self.book.staged(refused)));
                }
                let (id, staged) = self.book.ask(*ask, drawn, now_ns);
                match id {
                    Some(id) => {
                        if let Some(request) = self.book.get(id) {
                            self.apart.put(request, &fingerprint, originals);
                        }
                        self.wait(id, &waiter);
                        Effect::Tell(id, waiter, staged)
                    }
                    None => Effect::Answer(waiter, staged),
                }
            }
            Message::Spend { id, binding, who, waiter } => {
                let staged = self.book.spend(id, &binding, &who, now_ns);
                Effect::Tell(id, waiter, staged)
            }
            Message::Leave { id, waiter, cancel } => {
                let others = |one: &Waiting| one.waiter.id != waiter;
                if cancel && !self.waiting.get(&id).is_some_and(|list| list.iter().any(others)) {
                    self.book.cancel(id, By::Caller, None, now_ns);
                }
                // Behind the answer to what it asked in this round, which would list it again.
                Effect::Left(id, waiter)
            }
            Message::Void { id, why } => {
                if !self.book.void(id, why, now_ns) {
                    return None;
                }
                Effect::Cut(id)
            }
            Message::Vote { id, person, ballot, reply } => {
                let staged = self.book.vote(id, &person, ballot, now_ns);
                Effect::Person(id, person, Box::new(staged), reply)
            }
            Message::Review { id, person, reason, reply } => {
                let staged = self.book.review(id, &person, reason, now_ns);
                Effect::Person(id, person, Box::new(staged), reply)
            }
            Message::Reveal { id, person, reply } => {
                let answer = match self.apart.summary(id) {
                    Some(original) => {
                        let looked = self.book.reveal(id, &person, now_ns);
                        looked.map(|looked| looked.map(|()| original.clone()))
                    }
                    None => {
                        let known = self.book.get(id).is_some();
                        let fault = if known { ActFault::NoOriginals } else { ActFault::Unknown };
                        self.book.staged(Err(fault))
                    }
                };
                Effect::Reveal(id, person, answer, reply)
            }
            Message::Statement { id, reply } => {
                let statement = self.apart.of(id).and_then(|kept| kept.statement.clone());
                replied(self.book.staged(statement.ok_or(ActFault::NoOriginals)), reply)
            }
            Message::Cancel { id, who, reply } => {
                let own = |request: &&Request| request.ask.who.is_same_caller(&who);
                if self.book.get(id).filter(own).is_some() {
                    self.book.cancel(id, By::Caller, None, now_ns);
                }
                let own = self.book.get(id).filter(own).cloned().ok_or(ActFault::Unknown);
                replied(self.book.staged(own), reply)
            }
            Message::Revoke { selector, revoker, why, reply } => {
                Effect::CutAll(self.book.revoke(&selector, &revoker, why, now_ns), reply)
            }
            Message::Show { id, reply } => {
                self.book.expire(now_ns);
                let originals = self.apart.summary(id).is_some();
                let found = self.book.get(id).cloned().map(|request| Seen { request, originals });
                replied(self.book.staged(found.ok_or(ActFault::Unknown)), reply)
            }
            Message::List { wanted, reply } => {
                self.book.expire(now_ns);
                let listed = self.listed(&*wanted).into_iter().cloned().collect();
                replied(self.book.staged(Ok(listed)), reply)
            }
            Message::Brief { wanted, max, reply } => {
                self.book.expire(now_ns);
                let brief = |one: &Request| Brief {
                    request: one.brief(max),
                    cut: one.ask.summary.len() > max,
                };
                let listed = self.listed(&*wanted).into_iter().map(brief).collect();
                replied(self.book.staged(Ok(listed)), reply)
            }
            Message::Bounds(bounds) => {
                self.bounds = bounds;
                self.book.set_bounds(bounds);
                return None;
            }
            Message::Stop => return None,
        })
    }

    fn listed(&self, wanted: &dyn Fn(&Request) -> bool) -> Vec<&Request> {
        let mut found: Vec<&Request> = self.book.requests().filter(|one| wanted(one)).collect();
        found.sort_unstable_by_key(|one| std::cmp::Reverse((one.requested_ns, one.id)));
        found.truncate(LISTED_MAX);
        found
    }

    /// Writes the round and does what it brings; or tells everybody that it was not.
    fn finish(&mut self, round: Round, now: Now) {
        let written = self.written(&round, now);
        self.numbers.set_levels(self.book.levels());
        match written {
            Ok(()) => {
                let synced = Synced::up_to(round.given);
                round.entries.iter().for_each(|entry| self.numbers.happened(entry));
                change::tell(&self.changes, &round.entries, &self.book);
                for effect in round.effects {
                    self.effect(effect, synced);
                }
                self.shorten(now);
            }
            Err(()) => {
                for effect in round.effects {
                    self.unwritten(effect);
                }
            }
        }
    }

    fn written(&mut self, round: &Round, now: Now) -> Result<(), ()> {
        let Some(log) = &mut self.log else { return Err(()) };
        if round.entries.is_empty() {
            return Ok(());
        }
        let mut why = None;
        for entry in &round.entries {
            if self.audit.record(entry, self.book.get(entry.id), now).is_err() {
                why = Some("the record has no room".to_owned());
                break;
            }
        }
        if why.is_none() {
            why = log.append(&round.entries).err().map(|error| error.to_string());
        }
        let Some(why) = why else {
            self.numbers.synced(log.len());
            return Ok(());
        };
        tracing::error!(error = %why, "approvals cannot be written: every one is refused");
        self.log = None;
        self.numbers.set_broken(true);
        self.retry_ns = now.after_ms(RETRY_MS);
        Err(())
    }

    /// Makes the book anew of what the log has, after a round that was not written. The log is
    /// written anew, too: what a disk that failed says it has need not be on it.
    fn open_again(&mut self, now: Now) {
        self.retry_ns = now.after_ms(RETRY_MS);
        let opened = Log::open(&self.dir, self.bounds, &self.storage);
        let opened = opened.map_err(|error| error.to_string());
        let opened = opened.and_then(|(mut log, book, _)| {
            log.rewrite(book.snapshot(now.wall_ns)).map_err(|error| error.to_string())?;
            Ok((log, book))
        });
        match opened {
            Ok((log, book)) => {
                self.numbers.synced(log.len());
                (self.log, self.book) = (Some(log), book);
                for id in self.apart.ids() {
                    self.apart.settle(id, self.book.get(id));
                }
                for (id, list) in &self.waiting {
                    list.iter().filter(|one| one.runs).for_each(|_| self.book.runs(*id));
                }
                self.numbers.set_broken(false);
                self.numbers.set_levels(self.book.levels());
                tracing::info!("approvals are written again");
            }
            Err(error) => tracing::debug!(%error, "approvals cannot be written yet"),
        }
    }

    fn shorten(&mut self, now: Now) {
        let Some(log) = self.log.as_mut().filter(|log| log.is_long()) else { return };
        if let Err(error) = log.rewrite(self.book.snapshot(now.wall_ns)) {
            tracing::error!(%error, "the log of approvals cannot be written anew");
            // Which of the two files has the name is not known.
            self.log = None;
            self.numbers.set_broken(true);
            self.retry_ns = now.after_ms(RETRY_MS);
        }
    }

    fn effect(&mut self, effect: Effect, synced: Synced) {
        match effect {
            Effect::Tell(id, waiter, staged) => {
                let verdict = staged.open(synced).unwrap_or(UNAVAILABLE);
                self.told(id, &waiter, &verdict);
                (waiter.tell)(verdict);
            }
            Effect::Answer(waiter, staged) => {
                let verdict = staged.open(synced).unwrap_or(UNAVAILABLE);
                self.numbers.refused();
                (waiter.tell)(verdict);
            }
            Effect::News(id, news) => self.news(id, &news),
            Effect::Reply(reply) => reply(Some(synced)),
            Effect::Person(id, person, staged, reply) => {
                let answer = staged.open(synced).unwrap_or(Err(ActFault::Unavailable));
                if let Err(fault) = &answer {
                    self.audit.refused(id, &person, *fault, runtime::now());
                }
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
            Effect::Reveal(id, person, staged, reply) => {
                let answer = staged.open(synced).unwrap_or(Err(ActFault::Unavailable));
                if let Err(fault) = &answer {
                    self.audit.refused(id, &person, *fault, runtime::now());
                }
                let _ = reply.send(answer);
            }
            Effect::Left(id, waiter) => self.leave(id, waiter),
            Effect::Cut(id) => self.cut(id),
            Effect::CutAll(staged, reply) => {
                let taken = staged.open(synced).unwrap_or(Err(ActFault::Unavailable));
                for id in taken.iter().flat_map(|taken| &taken.running) {
                    self.cut(*id);
                }
                let _ = reply.send(taken);
            }
        }
    }

    /// The round is not on the disk: nothing of it is so.
    fn unwritten(&mut self, effect: Effect) {
        match effect {
            Effect::Tell(id, waiter, _) => {
                self.leave(id, waiter.id);
                self.numbers.refused();
                (waiter.tell)(UNAVAILABLE);
            }
            Effect::Answer(waiter, _) => (waiter.tell)(UNAVAILABLE),
            Effect::Reply(reply) => reply(None),
            Effect::Person(.., reply) => drop(reply.send(Err(ActFault::Unavailable))),
            Effect::Reveal(.., reply) => drop(reply.send(Err(ActFault::Unavailable))),
            Effect::CutAll(_, reply) => drop(reply.send(Err(ActFault::Unavailable))),
            // To end what runs is right also where it cannot be written down.
            Effect::Cut(id) => self.cut(id),
            Effect::Left(id, waiter) => self.leave(id, waiter),
            Effect::News(..) => {}
        }
    }
}

impl Owner {
    /// Puts a waiter on the list of a request, once.
    fn wait(&mut self, id: ApprovalId, waiter: &Waiter) {
        let list = self.waiting.entry(id).or_default();
        if list.iter().all(|one| one.waiter.id != waiter.id) {
            list.push(Waiting { waiter: waiter.clone(), runs: false });
            self.waiters = self.waiters.saturating_add(1);
        }
    }

    fn leave(&mut self, id: ApprovalId, waiter: u64) {
        let Some(list) = self.waiting.get_mut(&id) else { return };
        let Some(place) = list.iter().position(|one| one.waiter.id == waiter) else { return };
        let gone = list.swap_remove(place);
        if list.is_empty() {
            self.waiting.remove(&id);
        }
        self.left(id, &gone);
    }

    fn left(&mut self, id: ApprovalId, gone: &Waiting) {
        self.waiters = self.waiters.saturating_sub(1);
        if gone.runs {
            self.book.ends(id);
        }
    }

    /// What a verdict makes of the one that hears it.
    fn told(&mut self, id: ApprovalId, waiter: &Waiter, verdict: &Verdict) {
        match verdict {
            Verdict::Pending { .. } | Verdict::Approved { .. } => {}
            Verdict::Spent(_) => {
                self.wait(id, waiter);
                let list = self.waiting.get_mut(&id).into_iter().flatten();
                for one in list.filter(|one| one.waiter.id == waiter.id && !one.runs) {
                    one.runs = true;
                    self.book.runs(id);
                }
            }
            Verdict::Refused(_) => {
                self.numbers.refused();
                // Whoever runs under an earlier use goes on.
                if !self.runs(id, waiter.id) {
                    self.leave(id, waiter.id);
                }
            }
            _ if self.runs(id, waiter.id) => {}
            _ => self.leave(id, waiter.id),
        }
    }

    fn runs(&self, id: ApprovalId, waiter: u64) -> bool {
        let mut list = self.waiting.get(&id).into_iter().flatten();
        list.any(|one| one.waiter.id == waiter && one.runs)
    }

    /// Tells everybody on the list of a request what happened, as far as it is theirs to hear:
    /// what runs ends when its grant is revoked, and for nothing else.
    fn news(&mut self, id: ApprovalId, news: &News) {
        let hears = |one: &Waiting| !one.runs || matches!(news, News::Revoked);
        if matches!(news, News::Approved) {
            let list = self.waiting.get(&id).into_iter().flatten();
            list.filter(|one| hears(one)).for_each(|one| (one.waiter.tell)(news.verdict(id)));
        } else {
            let gone = self.take_off(id, hears);
            gone.iter().for_each(|one| (one.waiter.tell)(news.verdict(id)));
        }
    }

    /// What runs under a grant, and who waits for it, hears that it was revoked.
    fn cut(&mut self, id: ApprovalId) {
        for gone in self.take_off(id, |_| true) {
            (gone.waiter.tell)(Verdict::Revoked { id });
        }
    }

    fn take_off(&mut self, id: ApprovalId, which: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let Some(list) = self.waiting.get_mut(&id) else { return Vec::new() };
        let gone: Vec<Waiting> = list.extract_if(.., |one| which(one)).collect();
        if list.is_empty() {
            self.waiting.remove(&id);
        }
        gone.iter().for_each(|one| self.left(id, one));
        gone
    }

    /// An id that nobody guesses.
    fn draw(&self) -> Option<ApprovalId> {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes).ok()?;
        Some(ApprovalId(u128::from_le_bytes(bytes)))
    }
}

fn replied<T: Send + 'static>(staged: Staged<Result<T, ActFault>>, reply: Reply<T>) -> Effect {
    Effect::Reply(Box::new(move |synced| {
        let answer = synced.and_then(|synced| staged.open(synced));
        // Whoever asked may be gone.
        let _ = reply.send(answer.unwrap_or(Err(ActFault::Unavailable)));
    }))
}

const UNAVAILABLE: Verdict = Verdict::Refused(Refused::Unavailable);

/// Most messages of one round.
pub const ROUND_MAX: usize = 512;
/// Most requests of one list.
pub(super) const LISTED_MAX: usize = 1_000;
/// Most waiters of all requests.
const WAITERS_MAX: usize = 65_536;
/// How long a log that could not be written is left alone.
const RETRY_MS: u64 = 1_000;
/// A round ends what is due at the latest so long after it.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// And looks at the clock as often: the wall clock may be set forward.
const WAIT_MAX: Duration = Duration::from_secs(1);
