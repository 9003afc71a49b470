//! What must hold, one claim each.

use super::*;

struct Desk {
    book: Book,
    time: u64,
    last: u128,
}

impl Desk {
    fn new() -> Self {
        Self { book: Book::new(bounds()), time: START, last: 0 }
    }

    fn asks(&mut self, ask: &Ask) -> Verdict {
        self.last += 1;
        let (id, staged) = self.book.ask(ask.clone(), ApprovalId(self.last), self.time);
        let verdict = now(staged);
        assert_eq!(id.is_none(), matches!(verdict, Verdict::Refused(_)));
        self.book.check_invariants();
        verdict
    }

    fn pending(&mut self, ask: &Ask) -> ApprovalId {
        match self.asks(ask) {
            Verdict::Pending { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn votes(&mut self, id: ApprovalId, who: &Party, approve: bool) -> Result<State, ActFault> {
        let ballot = ballot(&self.book, id, approve);
        self.ballots(id, who, ballot)
    }

    fn ballots(&mut self, id: ApprovalId, who: &Party, b: Ballot) -> Result<State, ActFault> {
        let voted = now(self.book.vote(id, who, b, self.time));
        self.book.check_invariants();
        voted.map(|request| request.state)
    }

    fn spends(&mut self, id: ApprovalId, ask: &Ask) -> Verdict {
        let verdict = now(self.book.spend(id, &ask.binding, &ask.who, self.time));
        self.book.check_invariants();
        verdict
    }

    fn state(&self, id: ApprovalId) -> State {
        self.book.get(id).unwrap().state
    }
}

fn dba() -> Party {
    party("dora", &["staff", "dba"])
}

#[test]
fn an_approved_operation_is_done_once_and_by_its_caller_only() {
    let mut desk = Desk::new();
    let (ana, bob) = (party("ana", &["dev"]), party("bob", &["dev"]));
    let wanted = ask(&ana, 0);
    let id = desk.pending(&wanted);
    assert_eq!(desk.spends(id, &wanted), Verdict::Refused(Refused::NotApproved));
    assert_eq!(desk.votes(id, &dba(), true), Ok(State::Approved));
    assert_eq!(desk.spends(id, &ask(&bob, 0)), Verdict::Refused(Refused::Foreign));
    assert_eq!(
        desk.spends(id, &ask(&party("ana/agent", &[]), 0)),
        Verdict::Refused(Refused::Foreign)
    );
    assert_eq!(desk.spends(id, &ask(&ana, 2)), Verdict::Refused(Refused::Foreign));
    assert_eq!(desk.spends(ApprovalId(99), &wanted), Verdict::Refused(Refused::Unknown));
    let Verdict::Spent(one) = desk.spends(id, &wanted) else { panic!("not spent") };
    assert!(one.covers(&[0; 32], "writes") && one.number() == 1 && one.id() == id);
    assert!(!one.covers(&[1; 32], "writes") && !one.covers(&[0; 32], "reads"));
    assert_eq!(one.credential(), Some("orders-writer"));
    assert_eq!(one.approvers().collect::<Vec<_>>(), ["dora"]);
    assert_eq!(desk.spends(id, &wanted), Verdict::Refused(Refused::UsedUp));
    assert_eq!(desk.state(id), State::Consumed);
}

#[test]
fn nobody_approves_their_own_request_whatever_their_role() {
    let all = ["dba", "lead"];
    let mut asker = party("ana/agent/app", &all);
    asker.client_id = Some("portal".into());
    let other_issuer = Party { iss: "https://other".into(), ..party("ana", &all) };
    let through = |client: &str| Party { client_id: Some(client.into()), ..party("dora", &all) };
    for (who, fault) in [
        (party("ana", &all), ActFault::Own),
        (other_issuer, ActFault::Own),
        (party("agent", &all), ActFault::Own),
        (party("app", &all), ActFault::Own),
        (party("portal", &all), ActFault::Own),
        (party("dora/agent", &all), ActFault::Own),
        (party("dora/ana", &all), ActFault::Own),
        (party("dora/portal", &all), ActFault::Own),
        (through("ana"), ActFault::Own),
        (through("agent"), ActFault::Own),
        (party("dora/helper", &all), ActFault::Delegated),
        (party("dora", &["staff"]), ActFault::NotApprover),
        (party("dora", &[]), ActFault::NotApprover),
    ] {
        let mut desk = Desk::new();
        let id = desk.pending(&ask(&asker, 0));
        for approve in [true, false] {
            assert_eq!(desk.votes(id, &who, approve), Err(fault), "{}", who.sub);
        }
        assert_eq!(desk.state(id), State::Pending);
        assert_eq!(desk.votes(id, &through("portal"), true), Ok(State::Approved));
    }
}

#[test]
fn a_vote_about_something_else_does_not_count() {
    let mut desk = Desk::new();
    let id = desk.pending(&ask(&party("ana", &[]), 0));
    let other = desk.pending(&ask(&party("ana", &[]), 2));
    let mut wrong = yes(&desk.book, id);
    wrong.digest[31] ^= 1;
    assert_eq!(desk.ballots(id, &dba(), wrong), Err(ActFault::Digest));
    let replayed = yes(&desk.book, other);
    assert_eq!(desk.ballots(id, &dba(), replayed), Err(ActFault::Digest));
    assert_eq!(desk.state(id), State::Pending);
}

#[test]
fn what_is_shown_is_canonical_and_every_part_of_it_counts() {
    let mut desk = Desk::new();
    let id = desk.pending(&ask(&party("ana/agent", &["dev"]), 0));
    let request = desk.book.get(id).unwrap().clone();
    let text = shown(&request);
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    keys.sort();
    let place = |key: &&String| text.find(&format!("\"{key}\":")).unwrap();
    assert!(keys.iter().map(place).is_sorted() && keys.len() == 29);
    assert!(!text.contains(": ") && !text.contains(", "), "no white space");
    let changes: [fn(&mut Request); 24] = [
        |r| r.id.0 += 1,
        |r| r.requested_ns += 1_000_000,
        |r| r.deadline_ns += 1_000_000,
        |r| r.ask.who.iss = "x".into(),
        |r| r.ask.who.sub = "x".into(),
        |r| r.ask.who.client_id = Some("x".into()),
        |r| r.ask.who.actors = [].into(),
        |r| r.ask.who.groups = [].into(),
        |r| r.ask.resource = "x".into(),
        |r| r.ask.protocol = "x".into(),
        |r| r.ask.rule = "x".into(),
        |r| r.ask.credential = None,
        |r| r.ask.binding[0] ^= 1,
        |r| r.ask.fingerprint[0] ^= 1,
        |r| r.ask.summary = "x".into(),
        |r| r.ask.reason = Some("x".into()),
        |r| r.ask.asserted.node = Some("x".into()),
        |r| r.ask.asserted.run = Some("x".into()),
        |r| r.ask.asserted.thread = Some("x".into()),
        |r| r.ask.terms.scope = Scope::Shape,
        |r| r.ask.terms.uses += 1,
        |r| r.ask.terms.ttl_ns += 1_000_000,
        |r| r.ask.terms.count += 1,
        |r| r.ask.exchange = "y".into(),
    ];
    let digest = shown_digest(&request);
    for (place, change) in changes.iter().enumerate() {
        let mut changed = request.clone();
        change(&mut changed);
        assert_ne!(shown_digest(&changed), digest, "change {place}");
    }
    let mut voted = request;
    voted.state = State::Denied;
    assert_eq!(shown_digest(&voted), digest, "what changes while people vote is not in it");
}

#[test]
fn several_people_each_count_once_and_one_no_ends_it() {
    let mut desk = Desk::new();
    let mut wanted = ask(&party("ana", &[]), 0);
    wanted.terms.count = 2;
    let id = desk.pending(&wanted);
    assert_eq!(desk.votes(id, &dba(), true), Ok(State::Pending));
    assert_eq!(desk.votes(id, &dba(), true), Err(ActFault::Again));
    assert_eq!(desk.votes(id, &dba(), false), Err(ActFault::Again));
    let elsewhere = Party { iss: "https://other".into(), ..dba() };
    assert_eq!(desk.votes(id, &elsewhere, true), Ok(State::Approved));
    wanted.binding = [9; 32];
    let id = desk.pending(&wanted);
    assert_eq!(desk.votes(id, &dba(), true), Ok(State::Pending));
    assert_eq!(desk.votes(id, &party("lea", &["lead"]), false), Ok(State::Denied));
    assert_eq!(desk.votes(id, &party("leo", &["lead"]), true), Err(ActFault::Ended(State::Denied)));
    assert_eq!(desk.spends(id, &wanted), Verdict::Denied { id, reason: None });
}

#[test]
fn distinct_groups_are_spoken_for_by_different_people() {
    let mut desk = Desk::new();
    let mut wanted = ask(&party("ana", &[]), 0);
    (wanted.terms.count, wanted.terms.distinct_groups) = (2, true);
    let id = desk.pending(&wanted);
    let both = party("bea", &["dba", "lead"]);
    assert_eq!(desk.votes(id, &both, true), Ok(State::Pending));
    assert_eq!(desk.votes(id, &party("lea", &["lead"]), true), Ok(State::Approved));
    wanted.binding = [9; 32];
    let id = desk.pending(&wanted);
    assert_eq!(desk.votes(id, &dba(), true), Ok(State::Pending));
    assert_eq!(desk.votes(id, &party("dan", &["dba"]), true), Err(ActFault::GroupTaken));
    assert_eq!(desk.votes(id, &party("dan", &["dba"]), false), Ok(State::Denied));
}

#[test]
fn a_reason_is_given_where_the_rule_wants_one() {
    let mut desk = Desk::new();
    let mut wanted = ask(&party("ana", &[]), 0);
    wanted.terms.reason = true;
    let id = desk.pending(&wanted);
    for reason in [None, Some(" ".into())] {
        let ballot = Ballot { reason, ..yes(&desk.book, id) };
        assert_eq!(desk.ballots(id, &dba(), ballot), Err(ActFault::NoReason));
    }
    let ballot = Ballot { reason: Some("ticket 7".into()), ..yes(&desk.book, id) };
    assert_eq!(desk.ballots(id, &dba(), ballot), Ok(State::Approved));
}

#[test]
fn the_same_ask_is_the_same_request_and_any_other_is_another() {
    let mut desk = Desk::new();
    let wanted = ask(&party("ana", &[]), 0);
    let id = desk.pending(&wanted);
    let mut again = wanted.clone();
    again.summary = "other words".into();
    again.exchange = "y".into();
    again.generation = 2;
    assert_eq!(desk.pending(&again), id);
    let changes: [fn(&mut Ask); 15] = [
        |a| a.who.sub = "eve".into(),
        |a| a.who.iss = "https://other".into(),
        |a| a.who.client_id = Some("ana".into()),
        |a| a.who.actors = ["agent".into()].into(),
        |a| a.resource = "x".into(),
        |a| a.protocol = "http".into(),
        |a| a.rule = "x".into(),
        |a| a.credential = None,
        |a| a.binding[7] ^= 1,
        |a| a.terms.count = 2,
        |a| a.terms.uses = 2,
        |a| a.terms.scope = Scope::Session,
        |a| a.terms.reason = true,
        |a| a.terms.approvers = ["dba".into()].into(),
        |a| a.terms.ttl_ns -= 1,
    ];
    let mut seen = vec![id];
    for change in changes {
        let mut other = wanted.clone();
        change(&mut other);
        let other = desk.pending(&other);
        assert!(!seen.contains(&other), "{}", seen.len());
        seen.push(other);
    }
    desk.votes(id, &dba(), true).unwrap();
    assert_eq!(desk.asks(&wanted), Verdict::Approved { id });
    assert!(matches!(desk.spends(id, &wanted), Verdict::Spent(_)));
    assert_ne!(desk.pending(&wanted), id, "what is used up opens nothing");
}

#[test]
fn a_denial_is_the_answer_for_a_while() {
    let mut desk = Desk::new();
    let mut wanted = ask(&party("ana", &[]), 0);
    wanted.terms.wait_ns = 3_600 * SECOND;
    let id = desk.pending(&wanted);
    let no = Ballot { reason: Some("no".into()), ..ballot(&desk.book, id, false) };
    desk.ballots(id, &dba(), no).unwrap();
    desk.time += 299 * SECOND;
    assert_eq!(desk.asks(&wanted), Verdict::Denied { id, reason: Some("no".into()) });
    desk.time += SECOND;
    assert_ne!(desk.pending(&wanted), id);
}

#[test]
fn both_clocks_end_at_their_instant() {
    let mut desk = Desk::new();
    let wanted = ask(&party("ana", &[]), 0);
    let id = desk.pending(&wanted);
    desk.time += 60 * SECOND;
    assert_eq!(desk.votes(id, &dba(), true), Err(ActFault::Ended(State::Expired)));
    let id = desk.pending(&wanted);
    desk.time += 60 * SECOND - 1;
    assert_eq!(desk.votes(id, &dba(), true), Ok(State::Approved));
    desk.time += 600 * SECOND - 1;
    assert_eq!(desk.asks(&wanted), Verdict::Approved { id });
    assert_eq!(desk.book.next_due_ns(), Some(desk.time + 1));
    desk.time += 1;
    assert_eq!(desk.spends(id, &wanted), Verdict::Expired { id });
    assert_eq!(desk.book.next_due_ns(), None);
}

#[test]
fn break_glass_opens_at_once_and_owes_a_review_by_another() {
    let mut desk = Desk::new();
    let ana = party("ana", &["dba"]);
    let mut wanted = ask(&ana, 0);
    wanted.terms.break_glass = true;
    assert_eq!(desk.asks(&wanted), Verdict::Refused(Refused::Fault(AskFault::NoReason)));
    wanted.reason = Some("the site is down".into());
    let Verdict::Approved { id } = desk.asks(&wanted) else { panic!("not at once") };
    assert!(matches!(desk.spends(id, &wanted), Verdict::Spent(_)));
    // Long after everything else would have been forgotten.
    desk.time += 100 * 3_600 * SECOND;
    desk.book.expire(desk.time);
    assert!(desk.book.get(id).unwrap().owes_review());
    let review = |desk: &mut Desk, who: &Party| {
        let reviewed = now(desk.book.review(id, who, Some("fine".into()), desk.time));
        desk.book.check_invariants();
        reviewed.map(|request| request.owes_review())
    };
    assert_eq!(review(&mut desk, &ana), Err(ActFault::Own));
    assert_eq!(review(&mut desk, &party("sid", &["staff"])), Err(ActFault::NotApprover));
    let ended_ns = desk.book.get(id).unwrap().ended_ns.unwrap();
    assert_eq!(review(&mut desk, &dba()), Ok(false));
    desk.time = ended_ns + 1;
    assert_eq!(review(&mut desk, &dba()), Err(ActFault::Again));
    desk.time += 100 * 3_600 * SECOND;
    desk.book.expire(desk.time);
    assert!(desk.book.get(id).is_none(), "forgotten when it was looked at");
    let waits = desk.pending(&ask(&ana, 2));
    assert_eq!(review(&mut desk, &dba()), Err(ActFault::Unknown));
    assert!(now(desk.book.review(waits, &dba(), None, desk.time)).is_err());
}

#[test]
fn what_owes_a_review_takes_a_place() {
    let mut desk = Desk::new();
    desk.book.set_bounds(Bounds { caller_max: 1, ..bounds() });
    let mut wanted = ask(&party("ana", &[]), 0);
    wanted.terms.break_glass = true;
    wanted.reason = Some("x".into());
    let Verdict::Approved { id } = desk.asks(&wanted) else { panic!("not at once") };
    assert!(matches!(desk.spends(id, &wanted), Verdict::Spent(_)));
    assert_eq!(desk.asks(&wanted), Verdict::Refused(Refused::CallerFull));
}

#[test]
fn the_table_is_bounded_for_all_and_for_each() {
    let mut desk = Desk::new();
    desk.book.set_bounds(Bounds { open_max: 3, caller_max: 2, kept_max: 1, ..bounds() });
    let (ana, bob) = (party("ana", &[]), party("bob", &[]));
    let first = desk.pending(&ask(&ana, 0));
    let second = desk.pending(&ask(&ana, 1));
    assert_eq!(desk.asks(&ask(&ana, 2)), Verdict::Refused(Refused::CallerFull));
    // Through another actor it is the same caller's share.
    let through = ask(&party("ana/agent", &[]), 0);
    assert_eq!(desk.asks(&through), Verdict::Refused(Refused::CallerFull));
    desk.pending(&ask(&bob, 0));
    assert_eq!(desk.asks(&ask(&bob, 1)), Verdict::Refused(Refused::Full));
    assert_eq!(desk.pending(&ask(&ana, 0)), first, "what is there needs no place");
    desk.time += 1;
    for id in [first, second] {
        desk.book.cancel(id, By::Caller, None, desk.time);
        desk.time += 1;
    }
    desk.book.expire(desk.time);
    assert_eq!(desk.book.requests().len(), 2, "one that is open, one that has ended");
    assert_eq!(desk.state(second), State::Cancelled);
    let mut long = ask(&bob, 1);
    long.summary = "x".repeat(SUMMARY_MAX + 1).into();
    assert_eq!(desk.asks(&long), Verdict::Refused(Refused::Fault(AskFault::TooLong)));
}

#[test]
fn what_runs_is_found_by_whoever_revokes() {
    let mut desk = Desk::new();
    desk.book.set_bounds(Bounds { kept_max: 0, ..bounds() });
    let wanted = ask(&party("ana", &[]), 0);
    let id = desk.pending(&wanted);
    desk.votes(id, &dba(), true).unwrap();
    assert!(matches!(desk.spends(id, &wanted), Verdict::Spent(_)));
    desk.book.runs(id);
    desk.time += 1_000_000 * SECOND;
    desk.book.expire(desk.time);
    let revoke = |desk: &mut Desk, selector: &Selector| {
        now(desk.book.revoke(selector, &Revoker::Script, None, desk.time))
    };
    for selector in [
        Selector::All,
        Selector::Id(id),
        Selector::Resource("orders".into()),
        Selector::Caller { iss: None, sub: "ana".into() },
    ] {
        assert_eq!(revoke(&mut desk, &selector).unwrap().running, [id], "{selector:?}");
    }
    assert_eq!(desk.state(id), State::Consumed, "an end stays");
    desk.book.ends(id);
    desk.book.check_invariants();
    assert_eq!(revoke(&mut desk, &Selector::Id(id)), Err(ActFault::Unknown), "forgotten");
}

#[test]
fn a_person_takes_back_its_own_and_what_it_may_decide() {
    let mut desk = Desk::new();
    let (ana, bob) = (party("ana", &[]), party("bob", &[]));
    let mut leads = ask(&bob, 1);
    leads.terms.approvers = ["lead".into()].into();
    let [one, two, three] = [ask(&ana, 0), ask(&bob, 0), leads].map(|ask| desk.pending(&ask));
    desk.votes(two, &dba(), true).unwrap();
    let person = |who: Party| Revoker::Person(who);
    let mut revoke = |selector: Selector, who: Revoker| {
        let taken = now(desk.book.revoke(&selector, &who, Some("x".into()), desk.time));
        desk.book.check_invariants();
        taken
    };
    let withheld = |withheld| TakenBack { withheld, ..TakenBack::default() };
    assert_eq!(revoke(Selector::All, person(party("sid", &["staff"]))), Ok(withheld(3)));
    assert_eq!(revoke(Selector::Id(one), person(bob.clone())), Err(ActFault::NotApprover));
    let taken = revoke(Selector::All, person(dba())).unwrap();
    let list = |id| vec![id];
    let wanted =
        TakenBack { cancelled: list(one), revoked: list(two), withheld: 1, running: vec![] };
    assert_eq!(taken, wanted);
    assert_eq!(revoke(Selector::Id(one), person(ana)), Err(ActFault::Ended(State::Cancelled)));
    assert_eq!(revoke(Selector::All, person(bob)).unwrap().cancelled, [three]);
}

#[test]
fn a_policy_that_denies_ends_both_requests_and_grants() {
    let mut desk = Desk::new();
    let ana = party("ana", &[]);
    let (waits, granted) = (desk.pending(&ask(&ana, 0)), desk.pending(&ask(&ana, 2)));
    desk.votes(granted, &dba(), true).unwrap();
    for id in [waits, granted] {
        assert!(!desk.book.void(id, Some("policy".into()), desk.time));
    }
    assert_eq!((desk.state(waits), desk.state(granted)), (State::Cancelled, State::Revoked));
    assert_eq!(desk.book.get(granted).unwrap().end.as_ref().unwrap().by, By::Policy);
}

#[test]
fn entries_that_do_not_follow_are_refused_and_change_nothing() {
    let mut desk = Desk::new();
    let wanted = ask(&party("ana", &[]), 0);
    let id = desk.pending(&wanted);
    desk.votes(id, &dba(), true).unwrap();
    assert!(matches!(desk.spends(id, &wanted), Verdict::Spent(_)));
    let (entries, given) = desk.book.take_entries();
    assert_eq!(entries.len() as u64, given);
    let end = |act| Entry { at_ns: START, id, act };
    let by = By::Script;
    for wrong in [
        entries[0].clone(),
        entries[1].clone(),
        entries[2].clone(),
        end(Act::Used { number: 2 }),
        end(Act::Expired {}),
        end(Act::Cancelled { by: by.clone(), why: None }),
        end(Act::Revoked { by, why: None }),
        end(Act::Kept { request: Box::new(desk.book.get(id).unwrap().clone()) }),
        Entry { id: ApprovalId(77), ..end(Act::Expired {}) },
        Entry {
            id: ApprovalId(77),
            ..end(Act::Kept { request: Box::new(desk.book.get(id).unwrap().clone()) })
        },
    ] {
        let before = desk.book.get(id).cloned();
        assert_eq!(desk.book.apply(&wrong), Err(Misplaced), "{:?}", wrong.act.label());
        assert_eq!(desk.book.get(id).cloned(), before);
        desk.book.check_invariants();
    }
    let mut skipped = Book::new(bounds());
    skipped.apply(&entries[0]).unwrap();
    assert_eq!(skipped.apply(&entries[2]), Err(Misplaced), "a use before the approval");
}

#[test]
fn a_retry_in_other_bytes_takes_the_place_of_what_waits_and_of_nothing_else() {
    let mut desk = Desk::new();
    let ana = party("ana", &[]);
    let tried = |bytes: u8, retry: u8| {
        let mut wanted = ask(&ana, 0);
        (wanted.binding, wanted.fingerprint, wanted.retry) =
            ([bytes; 32], [bytes; 32], Some([retry; 32]));
        wanted
    };
    let first = desk.pending(&tried(1, 9));
    let other = desk.pending(&tried(2, 8));
    assert_eq!(desk.pending(&tried(1, 9)), first, "the very same bytes");
    let again = desk.pending(&tried(3, 9));
    assert_eq!((desk.state(first), desk.state(other)), (State::Cancelled, State::Pending));
    // Of another caller it is another request, and so is what was decided.
    let mut eves = tried(4, 9);
    eves.who.sub = "eve".into();
    let eves = desk.pending(&eves);
    assert_eq!(desk.votes(again, &dba(), true), Ok(State::Approved));
    let later = desk.pending(&tried(5, 9));
    assert_eq!((desk.state(again), desk.state(eves)), (State::Approved, State::Pending));
    // A book that is read again knows it, too.
    let mut read = Book::new(bounds());
    for entry in desk.book.snapshot(desk.time) {
        read.apply(&entry).unwrap();
    }
    let verdict = now(read.ask(tried(6, 9), ApprovalId(77), desk.time).1);
    assert!(matches!(verdict, Verdict::Pending { .. }));
    assert_eq!(read.get(later).unwrap().state, State::Cancelled);
    read.check_invariants();
}
