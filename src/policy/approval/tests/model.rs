//! Random work of several callers and approvers, against a model that keeps a plain list.

use super::*;

const CALLERS: [&str; 4] = ["ana", "bob", "dora", "eve/agent"];
/// Who votes, with groups. `dora` asks and decides; `agent` acts for `eve`.
const PEOPLE: [(&str, &[&str]); 6] = [
    ("dora", &["dba"]),
    ("lea", &["lead", "dba"]),
    ("leo", &["lead"]),
    ("agent", &["dba", "lead"]),
    ("sid", &["staff"]),
    ("dora/helper", &["dba"]),
];
/// Who may never decide about whom, by the places above.
const OWN: [(usize, usize); 3] = [(0, 2), (5, 2), (3, 3)];

/// One request as the model sees it.
#[derive(Debug)]
struct Row {
    id: ApprovalId,
    caller: usize,
    what: u8,
    asked: u64,
    state: State,
    yes: Vec<usize>,
    until: u64,
    used: u32,
    ended: u64,
}

struct Model {
    rows: Vec<Row>,
    time: u64,
}

/// What is asked for by number: uses, people, distinct groups.
fn shape(what: u8) -> (u32, u32, bool) {
    [(1, 1, false), (3, 1, false), (1, 2, false), (2, 2, true)][usize::from(what % 4)]
}

fn wanted(caller: usize, what: u8) -> Ask {
    let mut ask = ask(&party(CALLERS[caller], &["dba", "lead"]), what);
    let (uses, count, distinct) = shape(what);
    (ask.terms.uses, ask.terms.count, ask.terms.distinct_groups) = (uses, count, distinct);
    ask
}

impl Model {
    fn tick(&mut self) {
        let time = self.time;
        for row in &mut self.rows {
            let due = match row.state {
                State::Pending => row.asked + 60 * SECOND,
                State::Approved | State::Active => row.until,
                _ => continue,
            };
            if due <= time {
                (row.state, row.ended) = (State::Expired, time);
            }
        }
    }

    fn ask(&mut self, id: ApprovalId, caller: usize, what: u8) -> Verdict {
        let same = self.rows.iter().rfind(|row| (row.caller, row.what) == (caller, what));
        match same.map(|row| (row.state, row)) {
            Some((State::Pending, row)) => {
                Verdict::Pending { id: row.id, deadline_ns: row.asked + 60 * SECOND }
            }
            Some((State::Approved | State::Active, row)) => Verdict::Approved { id: row.id },
            Some((State::Denied, row)) if self.time < row.asked + 60 * SECOND => {
                Verdict::Denied { id: row.id, reason: None }
            }
            _ => {
                let asked = self.time;
                let (state, yes) = (State::Pending, Vec::new());
                self.rows.push(Row {
                    id,
                    caller,
                    what,
                    asked,
                    state,
                    yes,
                    until: 0,
                    used: 0,
                    ended: 0,
                });
                Verdict::Pending { id, deadline_ns: asked + 60 * SECOND }
            }
        }
    }

    fn vote(&mut self, place: usize, person: usize, approve: bool) -> Result<State, ActFault> {
        let time = self.time;
        let row = &mut self.rows[place];
        let (_, count, distinct) = shape(row.what);
        if OWN.contains(&(person, row.caller)) {
            return Err(ActFault::Own);
        }
        match person {
            4 => return Err(ActFault::NotApprover),
            5 => return Err(ActFault::Delegated),
            _ => {}
        }
        if row.state != State::Pending {
            return Err(ActFault::Ended(row.state));
        }
        if row.yes.contains(&person) {
            return Err(ActFault::Again);
        }
        if !approve {
            (row.state, row.ended) = (State::Denied, time);
            return Ok(State::Denied);
        }
        // Of two people who decide, both may be for `dba` only, or both for `lead` only.
        let clash = |other: &usize| matches!((person, *other), (2, 2) | (0, 0));
        if distinct && row.yes.iter().any(clash) {
            return Err(ActFault::GroupTaken);
        }
        row.yes.push(person);
        if row.yes.len() == count as usize {
            (row.state, row.until) = (State::Approved, time + 600 * SECOND);
        }
        Ok(row.state)
    }

    fn spend(&mut self, place: usize, caller: usize, what: u8) -> Result<u32, State> {
        let time = self.time;
        let row = &mut self.rows[place];
        let (uses, ..) = shape(row.what);
        if (row.caller, row.what) != (caller, what) || !row.state.is_grant() {
            return Err(row.state);
        }
        row.used += 1;
        row.state = if row.used == uses { State::Consumed } else { State::Active };
        row.ended = if row.used == uses { time } else { 0 };
        Ok(row.used)
    }

    fn end(&mut self, which: impl Fn(&Row) -> bool) {
        let time = self.time;
        for row in self.rows.iter_mut().filter(|row| which(row) && !row.state.is_final()) {
            let waits = row.state == State::Pending;
            row.state = if waits { State::Cancelled } else { State::Revoked };
            row.ended = time;
        }
    }
}

/// Xorshift; a failure prints the seed that it had.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

struct Run {
    book: Book,
    model: Model,
    log: Vec<Entry>,
    random: Random,
    /// Uses that were handed out, by request.
    spent: std::collections::BTreeMap<ApprovalId, u32>,
}

impl Run {
    fn step(&mut self, number: u128) {
        let random = &mut self.random;
        let (caller, what) = (random.below(CALLERS.len()), random.below(4) as u8);
        let place =
            self.model.rows.len().checked_sub(1).map(|last| last - random.below((last + 1).min(6)));
        let act = random.below(200);
        self.model.time += random.below(3) as u64 * SECOND * if act == 199 { 100 } else { 1 };
        let time = self.model.time;
        self.model.tick();
        match (act, place) {
            (0..20, _) | (_, None) => {
                let id = ApprovalId(number);
                let (_, verdict) = self.book.ask(wanted(caller, what), id, time);
                assert_eq!(now(verdict), self.model.ask(id, caller, what));
            }
            (20..80, Some(place)) => {
                let (person, approve) = (random.below(PEOPLE.len()), random.below(5) > 0);
                let id = self.model.rows[place].id;
                let (name, groups) = PEOPLE[person];
                let ballot = ballot(&self.book, id, approve);
                let voted = now(self.book.vote(id, &party(name, groups), ballot, time));
                let wanted = self.model.vote(place, person, approve);
                assert_eq!(voted.map(|request| request.state), wanted, "{name}");
            }
            (80..180, Some(place)) => self.spend(place, caller, what),
            (180..183, Some(place)) => {
                let id = self.model.rows[place].id;
                self.book.cancel(id, By::Caller, None, time);
                self.model.end(|row| row.id == id && row.state == State::Pending);
            }
            (183..186, Some(place)) => {
                let id = self.model.rows[place].id;
                self.book.void(id, None, time);
                self.model.end(|row| row.id == id);
            }
            (186..190, Some(_)) => {
                let sub: Box<str> = CALLERS[caller].split('/').next().unwrap().into();
                let selector = Selector::Caller { iss: None, sub };
                let _ = now(self.book.revoke(&selector, &Revoker::Script, None, time)).unwrap();
                self.model.end(|row| row.caller == caller);
            }
            (190, Some(_)) => {
                let _ =
                    now(self.book.revoke(&Selector::All, &Revoker::Script, None, time)).unwrap();
                self.model.end(|_| true);
            }
            _ => self.book.expire(time),
        }
    }

    fn spend(&mut self, place: usize, caller: usize, what: u8) {
        let row = &self.model.rows[place];
        // Mostly the one whose grant it is.
        let (caller, what) =
            if self.random.below(5) > 0 { (row.caller, row.what) } else { (caller, what) };
        let (id, foreign) = (row.id, (row.caller, row.what) != (caller, what));
        let who = wanted(caller, what).who;
        let verdict = now(self.book.spend(id, &[what; 32], &who, self.model.time));
        match (self.model.spend(place, caller, what), verdict) {
            (Ok(number), Verdict::Spent(one)) => {
                assert_eq!((one.number(), one.id()), (number, id));
                *self.spent.entry(id).or_default() += 1;
            }
            (Err(_), Verdict::Refused(Refused::Foreign)) => assert!(foreign),
            (Err(State::Pending), Verdict::Refused(Refused::NotApproved))
            | (Err(State::Consumed), Verdict::Refused(Refused::UsedUp))
            | (Err(State::Denied), Verdict::Denied { .. })
            | (Err(State::Expired), Verdict::Expired { .. })
            | (Err(State::Cancelled), Verdict::Cancelled { .. })
            | (Err(State::Revoked), Verdict::Revoked { .. }) => {}
            (wanted, found) => panic!("{found:?} where the model has {wanted:?}"),
        }
    }

    /// Book, model and what the log makes agree.
    fn check(&mut self) {
        self.book.check_invariants();
        self.log.extend(self.book.take_entries().0);
        assert_eq!(self.book.requests().len(), self.model.rows.len());
        for row in &self.model.rows {
            let found = self.book.get(row.id).unwrap();
            assert_eq!((found.state, found.used), (row.state, row.used));
            assert_eq!(found.ended_ns.unwrap_or(0), row.ended);
            assert_eq!(self.spent.get(&row.id).copied().unwrap_or(0), row.used);
            assert!(row.used <= shape(row.what).0, "more uses than there are");
        }
    }

    fn restored(&self) {
        let wide = Bounds {
            open_max: u32::MAX,
            caller_max: u32::MAX,
            kept_max: u32::MAX,
            kept_ns: u64::MAX,
        };
        let mut again = Book::new(wide);
        for entry in &self.log {
            let read = Entry::decode(&entry.encode()).unwrap();
            assert_eq!(read, *entry);
            again.apply(&read).unwrap();
        }
        let mut anew = Book::new(wide);
        self.book.snapshot(self.model.time).for_each(|entry| anew.apply(&entry).unwrap());
        for made in [&again, &anew] {
            made.check_invariants();
            assert_eq!(made.requests().len(), self.book.requests().len());
            assert!(self.book.requests().all(|one| made.get(one.id) == Some(one)));
            assert_eq!(made.next_due_ns(), self.book.next_due_ns());
        }
        // The same asks find the same requests.
        for (caller, what) in
            (0..CALLERS.len()).flat_map(|caller| (0..4).map(move |what| (caller, what)))
        {
            let ask = |book: &mut Book| {
                now(book
                    .ask(
                        wanted(caller, what),
                        ApprovalId(u128::MAX - u128::from(what)),
                        self.model.time,
                    )
                    .1)
            };
            assert_eq!(ask(&mut again), ask(&mut anew));
        }
    }
}

#[test]
fn the_book_does_what_a_list_would() {
    let mut spent = 0;
    for seed in 1..=60u64 {
        println!("seed {seed}");
        let wide =
            Bounds { open_max: 10_000, caller_max: 10_000, kept_max: 10_000, kept_ns: u64::MAX };
        let mut run = Run {
            book: Book::new(wide),
            model: Model { rows: Vec::new(), time: START },
            log: Vec::new(),
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            spent: std::collections::BTreeMap::new(),
        };
        for number in 0..400 {
            run.step(number);
            run.check();
        }
        run.restored();
        spent += run.spent.values().sum::<u32>();
    }
    assert!(spent > 500, "runs in which nothing is spent show nothing");
}
