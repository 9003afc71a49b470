//! What sessions, people and operators hear at the desk.

use super::*;
use crate::control::approvals::numbers::Numbers;
use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;

#[test]
fn a_session_hears_pending_then_the_end_then_its_use() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let desk = approvals.desk();
    let (first, second) = (Session::new(), Session::new());
    let wanted = ask("ana", 0, 1);
    let id = first.pending(&desk, &wanted);
    assert_eq!(second.pending(&desk, &wanted), id, "the retry finds it");
    assert_eq!(first.spends(&desk, id, &wanted), Verdict::Refused(Refused::NotApproved));
    // Refused is no end of waiting for whoever asks again.
    assert_eq!(first.pending(&desk, &wanted), id);
    assert_eq!(vote(&desk, id, "dora", true), Ok(State::Approved));
    for session in [&first, &second] {
        assert_eq!(session.hears(), Verdict::Approved { id });
    }
    assert!(matches!(first.spends(&desk, id, &wanted), Verdict::Spent(_)));
    assert_eq!(second.spends(&desk, id, &wanted), Verdict::Refused(Refused::UsedUp));
    let reading = desk.reading();
    let count = |event| reading.events.iter().find(|(name, _)| *name == event).unwrap().1;
    assert_eq!([count("asked"), count("approved"), count("used"), count("denied")], [1, 1, 1, 0]);
    assert_eq!((reading.pending, reading.grants), (0, 0));
}

#[test]
fn what_runs_is_cut_by_a_revocation_until_it_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let desk = approvals.desk();
    let wanted = ask("ana", 0, 2);
    let (runs, left, waits) = (Session::new(), Session::new(), Session::new());
    let id = runs.pending(&desk, &wanted);
    assert_eq!(left.pending(&desk, &wanted), id);
    vote(&desk, id, "dora", true).unwrap();
    for session in [&runs, &left] {
        assert_eq!(session.hears(), Verdict::Approved { id });
        assert!(matches!(session.spends(&desk, id, &wanted), Verdict::Spent(_)));
    }
    desk.leave(id, left.waiter.id, false);
    let other = ask("ana", 1, 1);
    let pending = waits.pending(&desk, &other);
    let selector = Selector::Caller { iss: None, sub: "ana".into() };
    let taken = wait(desk.revoke(selector, Revoker::Script, Some("stolen".into()))).unwrap();
    assert_eq!((taken.running, taken.cancelled), (vec![id], vec![pending]));
    assert_eq!(runs.hears(), Verdict::Revoked { id });
    assert_eq!(waits.hears(), Verdict::Cancelled { id: pending });
    left.hears_nothing();
    let again = wait(desk.revoke(Selector::Id(id), Revoker::Script, None));
    assert_eq!(again, Err(ActFault::Ended(State::Consumed)), "nothing runs any more");
}

#[test]
fn the_last_one_that_waits_may_take_the_request_back() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let desk = approvals.desk();
    let wanted = ask("ana", 0, 1);
    let (one, two) = (Session::new(), Session::new());
    let id = one.pending(&desk, &wanted);
    two.pending(&desk, &wanted);
    desk.leave(id, one.waiter.id, true);
    assert_eq!(wait(desk.show(id)).unwrap().state, State::Pending);
    // Whoever goes without a word leaves the request there.
    desk.leave(id, two.waiter.id, false);
    assert_eq!(wait(desk.show(id)).unwrap().state, State::Pending);
    two.pending(&desk, &wanted);
    desk.leave(id, two.waiter.id, true);
    assert_eq!(wait(desk.show(id)).unwrap().state, State::Cancelled);
    let id = one.pending(&desk, &wanted);
    let foreign = wait(desk.cancel(id, party("eve", &[])));
    assert_eq!(foreign.map(|request| request.state), Err(ActFault::Unknown));
    let own = wait(desk.cancel(id, wanted.who.clone()));
    assert_eq!(own.map(|request| request.state), Ok(State::Cancelled));
    assert_eq!(one.hears(), Verdict::Cancelled { id });
}

#[test]
fn time_ends_a_request_without_anybody_asking() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let (desk, session) = (approvals.desk(), Session::new());
    let mut wanted = ask("ana", 0, 1);
    wanted.terms.wait_ns = SECOND / 20;
    let id = session.pending(&desk, &wanted);
    assert_eq!(session.hears(), Verdict::Expired { id });
    assert_eq!(vote(&desk, id, "dora", true), Err(ActFault::Ended(State::Expired)));
    wanted.terms.wait_ns = 600 * SECOND;
    wanted.terms.ttl_ns = SECOND / 20;
    let id = session.pending(&desk, &wanted);
    vote(&desk, id, "dora", true).unwrap();
    assert_eq!(session.hears(), Verdict::Approved { id });
    assert_eq!(session.hears(), Verdict::Expired { id });
}

#[test]
fn everything_is_there_after_a_restart_and_waits_on() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let (desk, session) = (approvals.desk(), Session::new());
    let (used, waits) = (ask("ana", 0, 3), ask("bob", 1, 1));
    let id = session.pending(&desk, &used);
    vote(&desk, id, "dora", true).unwrap();
    assert_eq!(session.hears(), Verdict::Approved { id });
    assert!(matches!(session.spends(&desk, id, &used), Verdict::Spent(_)));
    let pending = Session::new().pending(&desk, &waits);
    drop(approvals);
    let gone = Session::new();
    assert_eq!(gone.asks(&desk, &used), Verdict::Refused(Refused::Unavailable));
    assert_eq!(wait(desk.show(id)), Err(ActFault::Unavailable));
    let approvals = start(dir.path());
    let desk = approvals.desk();
    assert_eq!(session.asks(&desk, &used), Verdict::Approved { id });
    let Verdict::Spent(one) = session.spends(&desk, id, &used) else { panic!("not spent") };
    assert_eq!(one.number(), 2);
    assert_eq!(Session::new().pending(&desk, &waits), pending);
    assert_eq!(desk.reading().pending, 1);
}

#[test]
fn a_full_queue_is_a_refusal_at_once_and_what_must_not_be_lost_is_not() {
    // Nobody takes from this queue.
    let (desk, inbox) = Desk::new(Arc::new(Numbers::default()));
    let session = Session::new();
    let wanted = ask("ana", 0, 1);
    for _ in 0..4_096 {
        desk.ask(wanted.clone(), session.waiter.clone());
    }
    session.hears_nothing();
    assert_eq!(session.asks(&desk, &wanted), Verdict::Refused(Refused::Full));
    assert_eq!(session.spends(&desk, ApprovalId(1), &wanted), Verdict::Refused(Refused::Full));
    assert_eq!(wait(desk.show(ApprovalId(1))), Err(ActFault::Unavailable));
    desk.leave(ApprovalId(1), 1, true);
    let left = std::iter::from_fn(|| inbox.more()).count();
    assert_eq!(left, 4_097);
    desk.ask(wanted.clone(), session.waiter.clone());
    assert!(inbox.more().is_some(), "there is room again");
}

/// Two approvers and a revoker at once, many times: what anybody was told fits together.
#[test]
fn approvers_and_a_revoker_who_race_agree_with_what_the_caller_hears() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    for round in 0..40u8 {
        let desk = approvals.desk();
        let mut wanted = ask(&format!("caller-{round}"), round, 1);
        wanted.terms.count = 2;
        let session = Session::new();
        let id = session.pending(&desk, &wanted);
        let (votes, taken) = std::thread::scope(|scope| {
            let people = ["dora", "dan"].map(|sub| {
                let desk = desk.clone();
                scope.spawn(move || vote(&desk, id, sub, true))
            });
            let revoker = scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(u64::from(round) * 40));
                wait(desk.revoke(Selector::Id(id), Revoker::Script, None))
            });
            (people.map(|one| one.join().unwrap()), revoker.join().unwrap().unwrap())
        });
        let approved = votes.contains(&Ok(State::Approved));
        let spent = session.spends(&desk, id, &wanted);
        let mut heard = vec![spent];
        heard.extend(session.heard.try_iter());
        if approved {
            assert_eq!(taken.revoked, [id]);
            assert!(
                heard.contains(&Verdict::Approved { id })
                    && heard.contains(&Verdict::Revoked { id })
            );
        } else {
            assert_eq!(taken.cancelled, [id]);
            assert!(heard.contains(&Verdict::Cancelled { id }));
        }
        assert!(!heard.iter().any(|verdict| matches!(verdict, Verdict::Spent(_))));
    }
}

/// Many sessions drain a grant of `n` uses: `n` of them get one.
#[test]
fn a_grant_is_drained_by_many_to_its_last_use_and_no_further() {
    const USES: u32 = 64;
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let wanted = ask("ana", 0, USES);
    let id = Session::new().pending(&approvals.desk(), &wanted);
    vote(&approvals.desk(), id, "dora", true).unwrap();
    let mut numbers: Vec<u32> = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let (desk, mut held) = (approvals.desk(), Vec::new());
                    loop {
                        let session = Session::new();
                        match session.spends(&desk, id, &wanted) {
                            Verdict::Spent(one) => held.push(one.number()),
                            Verdict::Refused(Refused::UsedUp) => return held,
                            other => panic!("{other:?}"),
                        }
                    }
                })
            })
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=USES).collect::<Vec<_>>());
}

/// A disk that fails when it is told to.
#[derive(Debug, Default)]
struct Failing(AtomicBool);

impl Storage for Failing {
    fn write(&self, file: &File, direct: bool, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.0.load(Ordering::Acquire) {
            // Half of it is there.
            Files.write(file, direct, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Files.write(file, direct, bytes, offset)
    }
}

#[test]
fn nothing_is_told_that_the_disk_does_not_have_and_all_goes_on_when_it_is_well() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Failing::default());
    let storage: Arc<dyn Storage> = Arc::clone(&disk) as _;
    let approvals = Approvals::start(dir.path(), bounds(), None, storage).unwrap();
    let (desk, session) = (approvals.desk(), Session::new());
    let wanted = ask("ana", 0, 2);
    let id = session.pending(&desk, &wanted);
    disk.0.store(true, Ordering::Release);
    assert_eq!(vote(&desk, id, "dora", true), Err(ActFault::Unavailable));
    assert!(desk.reading().broken);
    let other = Session::new();
    assert_eq!(other.asks(&desk, &ask("bob", 1, 1)), Verdict::Refused(Refused::Unavailable));
    disk.0.store(false, Ordering::Release);
    let until = std::time::Instant::now() + PATIENCE;
    while desk.reading().broken {
        assert!(std::time::Instant::now() < until, "never well again");
        std::thread::sleep(Duration::from_millis(10));
    }
    session.hears_nothing();
    let found = wait(desk.show(id)).unwrap();
    assert_eq!((found.state, found.votes.len()), (State::Pending, 0));
    assert_eq!(vote(&desk, id, "dora", true), Ok(State::Approved));
    assert_eq!(session.hears(), Verdict::Approved { id }, "it waits on");
    // A use that the disk refuses is not held by anybody.
    disk.0.store(true, Ordering::Release);
    assert_eq!(session.spends(&desk, id, &wanted), Verdict::Refused(Refused::Unavailable));
    drop(approvals);
    let approvals = start(dir.path());
    let Verdict::Spent(one) = session.spends(&approvals.desk(), id, &wanted) else {
        panic!("not spent")
    };
    assert_eq!(one.number(), 1);
}

#[test]
fn listeners_hear_of_every_round_that_is_on_the_disk_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Failing::default());
    let storage: Arc<dyn Storage> = Arc::clone(&disk) as _;
    let approvals = Approvals::start(dir.path(), bounds(), None, storage).unwrap();
    let desk = approvals.desk();
    let mut changes = desk.changes();
    let session = Session::new();
    let wanted = ask("ana", 0, 1);
    let id = session.pending(&desk, &wanted);
    vote(&desk, id, "dora", true).unwrap();
    assert_eq!(session.hears(), Verdict::Approved { id });
    let heard: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    let told: Vec<_> = heard.iter().map(|one| (one.id, one.act, one.state)).collect();
    assert_eq!(told, [(id, "asked", Some(State::Pending)), (id, "voted", Some(State::Approved))]);
    assert!(heard[0].at_ns < heard[1].at_ns, "a later round is later");
    disk.0.store(true, Ordering::Release);
    assert_eq!(session.spends(&desk, id, &wanted), Verdict::Refused(Refused::Unavailable));
    assert!(changes.try_recv().is_err(), "nothing of it is so");
}

#[test]
fn originals_are_in_memory_only_and_every_look_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let approvals = start(dir.path());
    let desk = approvals.desk();
    let session = Session::new();
    let mut wanted = ask("ana", 0, 1);
    wanted.terms.reveal = ["eyes".into()].into();
    wanted.originals.summary = Some(Secret::new(b"the original words".to_vec()));
    let id = session.pending(&desk, &wanted);
    let seen = wait(desk.see(id)).unwrap();
    assert!(seen.originals && seen.request.ask.originals.is_empty(), "the book has none");
    let look = |who: &Party| wait(desk.reveal(id, who.clone()));
    let eve = party("eve", &["eyes"]);
    assert_eq!(look(&eve).unwrap().expose(), b"the original words");
    let delegated = Party { actors: ["bot".into()].into(), ..eve.clone() };
    for (who, fault) in [
        (party("dora", &["dba"]), ActFault::NotRevealer),
        (party("ana", &["eyes"]), ActFault::Own),
        (delegated, ActFault::Delegated),
    ] {
        assert_eq!(look(&who).err(), Some(fault));
    }
    assert_eq!(wait(desk.reveal(ApprovalId(7), eve.clone())).err(), Some(ActFault::Unknown));
    // The same again counts in the log, and is one line of who looked.
    assert!(look(&eve).is_ok());
    drop((approvals, session));
    let log = std::fs::read(dir.path().join("log")).unwrap();
    let has = |text: &str| memchr::memmem::find(&log, text.as_bytes()).is_some();
    assert!(has("revealed") && !has("the original words"));
    let approvals = start(dir.path());
    let seen = wait(approvals.desk().see(id)).unwrap();
    assert_eq!((seen.originals, seen.request.looks.len()), (false, 1));
    assert_eq!(wait(approvals.desk().reveal(id, eve)).err(), Some(ActFault::NoOriginals));
    // A retry of the very operation brings them back; one that the grant only covers does not.
    let session = Session::new();
    let mut retry = wanted.clone();
    retry.fingerprint = [9; 32];
    assert_eq!(session.pending(&approvals.desk(), &retry), id);
    assert!(!wait(approvals.desk().see(id)).unwrap().originals);
    assert_eq!(session.pending(&approvals.desk(), &wanted), id);
    assert!(wait(approvals.desk().see(id)).unwrap().originals);
    assert_eq!(vote(&approvals.desk(), id, "dora", true), Ok(State::Approved));
    assert!(!wait(approvals.desk().see(id)).unwrap().originals, "decided");
}
