//! The outbox over restarts, cuts and turned bits.

use super::*;
use crate::control::drain::Files;
use crate::control::notify::frames::HEAD_LEN;
use std::fs;

/// In memory where there is such a place: most tests wait for the disk very often.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

fn storage() -> Arc<dyn Storage> {
    Arc::new(Files)
}

fn open(dir: &Path) -> Outbox {
    Outbox::open(dir, &storage()).unwrap()
}

fn delivery(id: &str, at_ns: u64) -> Delivery {
    Delivery {
        id: id.into(),
        hook: "chat".into(),
        approval: "00".into(),
        event: "requested".into(),
        at_ns,
        until_ns: 1_000,
        body: "{\"a\": \"\u{e9}\"}".into(),
        tries: 0,
        next_ns: at_ns,
        error: None,
    }
}

fn queued(id: &str, at_ns: u64) -> Note {
    Note::Queued { delivery: Box::new(delivery(id, at_ns)) }
}

/// Everything that the tables say, in an order of its own.
fn state(outbox: &Outbox) -> Vec<String> {
    let tables = outbox.tables();
    let mut notes: Vec<String> = tables.snapshot().map(|note| format!("{note:?}")).collect();
    notes.sort();
    notes
}

/// Rounds of notes of every kind.
fn rounds() -> Vec<Vec<Note>> {
    let id = |text: &str| -> Box<str> { text.into() };
    vec![
        vec![queued("a", 5), queued("b", 5), Note::Seen { at_ns: 4 }],
        vec![Note::Tried { id: id("a"), tries: 1, next_ns: 9, error: id("status 500") }],
        vec![Note::Taken { id: id("b") }, Note::Used { what: id("link:x"), until_s: 7 }],
        vec![queued("c", 8), Note::Seen { at_ns: 7 }],
        vec![Note::Died { id: id("a"), at_ns: 10, error: id("status 410") }],
        vec![Note::Died { id: id("c"), at_ns: 11, error: id("too late") }],
        vec![Note::Raised { id: id("a"), at_ns: 12, until_ns: 99 }],
        vec![Note::Used { what: id("link:y"), until_s: 8 }, Note::Freed { what: id("link:x") }],
    ]
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = folder();
    let outbox = open(dir.path());
    for round in rounds() {
        outbox.note(round, 0).unwrap();
        let before = state(&outbox);
        assert_eq!(state(&open(dir.path())), before);
    }
    let tables = outbox.tables();
    assert_eq!(tables.queue.len(), 1);
    let raised = &tables.queue["a"];
    assert_eq!((raised.tries, raised.next_ns, raised.until_ns), (0, 12, 99));
    assert_eq!(tables.dead.len(), 1);
    assert!(tables.is_told("c") && !tables.is_told("b"), "what is seen need not be kept");
    drop(tables);
    assert!(outbox.reserve("link:x") && !outbox.reserve("link:x"), "one at a time");
    outbox.release("link:x");
    assert!(outbox.reserve("link:x") && !outbox.reserve("link:y"), "used is used");
    // Written anew, it says the same.
    let before = state(&outbox);
    let notes: Vec<Vec<u8>> = outbox.tables().snapshot().map(|note| encoded(&note)).collect();
    outbox.frames.lock().unwrap().rewrite(notes.into_iter()).unwrap();
    assert_eq!(state(&open(dir.path())), before);
    outbox.note(vec![queued("d", 20)], 0).unwrap();
    assert_eq!(state(&open(dir.path())), state(&outbox));
}

/// A file of all rounds, and what it says up to the end of each frame.
fn stages() -> (Vec<u8>, Vec<(usize, Vec<String>)>) {
    let dir = folder();
    let outbox = open(dir.path());
    let path = Frames::path(dir.path());
    let mut stages = vec![(fs::read(&path).unwrap().len(), state(&outbox))];
    for round in rounds() {
        let mut end = stages.last().unwrap().0;
        let copy = folder();
        fs::copy(&path, Frames::path(copy.path())).unwrap();
        let one_by_one = open(copy.path());
        for note in &round {
            end += HEAD_LEN as usize + encoded(note).len();
            one_by_one.note(vec![note.clone()], 0).unwrap();
            stages.push((end, state(&one_by_one)));
        }
        outbox.note(round, 0).unwrap();
        assert_eq!(stages.last().unwrap().1, state(&outbox));
        stages.push((fs::read(&path).unwrap().len(), state(&outbox)));
    }
    (fs::read(path).unwrap(), stages)
}

#[test]
fn a_file_that_is_cut_anywhere_has_what_came_before_and_goes_on() {
    let (bytes, stages) = stages();
    let first = stages[0].0;
    for len in 0..bytes.len() {
        let dir = folder();
        fs::write(Frames::path(dir.path()), &bytes[..len]).unwrap();
        if len < first - HEAD_LEN as usize {
            assert!(matches!(Outbox::open(dir.path(), &storage()), Err(OutboxError::Header(_))));
            continue;
        }
        let outbox = open(dir.path());
        let whole = stages.iter().rev().find(|(end, _)| *end <= len);
        let (_, expected) = whole.unwrap_or(&stages[0]);
        assert_eq!(state(&outbox), *expected, "cut at {len}");
        outbox.note(vec![queued("z", 50)], 0).unwrap();
        assert_eq!(state(&open(dir.path())), state(&outbox), "after a cut at {len}");
    }
}

#[test]
fn a_bit_that_turned_is_found_at_every_byte() {
    let (bytes, stages) = stages();
    for place in 0..bytes.len() {
        for bit in [0u8, 5] {
            let mut turned = bytes.clone();
            turned[place] ^= 1 << bit;
            let dir = folder();
            fs::write(Frames::path(dir.path()), &turned).unwrap();
            match Outbox::open(dir.path(), &storage()) {
                Err(OutboxError::Header(_)) => assert!(place < 16),
                Err(OutboxError::Damaged { .. }) => assert!(place >= 16),
                // Of the last mark, which says nothing but that the rest is there.
                Ok(outbox) => {
                    assert!(place >= bytes.len() - HEAD_LEN as usize, "taken with {place} turned");
                    assert_eq!(state(&outbox), stages.last().unwrap().1);
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_disk_that_fails_changes_nothing_and_is_written_anew_when_it_is_well() {
    use std::sync::atomic::{AtomicBool, Ordering};
    #[derive(Debug, Default)]
    struct Failing(AtomicBool);
    impl Storage for Failing {
        fn write(&self, to: &fs::File, direct: bool, bytes: &[u8], at: u64) -> io::Result<()> {
            if self.0.load(Ordering::Acquire) {
                Files.write(to, direct, &bytes[..bytes.len() / 2], at)?;
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            Files.write(to, direct, bytes, at)
        }
    }
    let dir = folder();
    let disk = Arc::new(Failing::default());
    let storage: Arc<dyn Storage> = Arc::clone(&disk) as _;
    let outbox = Outbox::open(dir.path(), &storage).unwrap();
    outbox.note(vec![queued("a", 5)], 0).unwrap();
    let before = state(&outbox);
    disk.0.store(true, Ordering::Release);
    assert!(outbox.note(vec![Note::Taken { id: "a".into() }], 0).is_err());
    assert_eq!(state(&outbox), before);
    assert_eq!(state(&open(dir.path())), before);
    disk.0.store(false, Ordering::Release);
    outbox.note(vec![Note::Taken { id: "a".into() }], 0).unwrap();
    assert_eq!(state(&open(dir.path())), state(&outbox));
    assert!(outbox.tables().queue.is_empty());
}

#[test]
fn what_was_used_is_kept_past_its_time_and_not_for_ever() {
    let mut tables = Tables::default();
    let used = |what: &str, until_s| Note::Used { what: what.into(), until_s };
    tables.apply(used("a", 100));
    tables.apply(used("b", 200));
    tables.forget_used(100 + USED_SPARE_S);
    assert!(tables.used.contains_key("a") && tables.used.contains_key("b"));
    tables.forget_used(101 + USED_SPARE_S);
    assert!(!tables.used.contains_key("a") && tables.used.contains_key("b"));
    for number in 0..=DEAD_MAX as u64 {
        let dead = Dead { delivery: delivery(&number.to_string(), 1), dead_ns: number };
        tables.apply(Note::Buried { dead: Box::new(dead) });
    }
    assert_eq!((tables.dead.len(), tables.forgotten), (DEAD_MAX, 1));
}
