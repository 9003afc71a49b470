//! Every byte of a log cut off, and every bit of it turned.

use super::*;

/// A log of four rounds, and how many entries each ended with.
fn written(dir: &Path) -> (Vec<u8>, Vec<Entry>) {
    let (mut log, mut book, _) = Log::open(dir, bounds(), &files()).unwrap();
    let mut all = Vec::new();
    let mut round = |book: &mut Book, log: &mut Log| {
        let entries = book.take_entries().0;
        log.append(&entries).unwrap();
        all.extend(entries);
    };
    let ids = [1, 2].map(ApprovalId);
    for (id, what) in ids.into_iter().zip(0..) {
        drop(book.ask(ask("ana", what, 2), id, 5 * SECOND));
    }
    round(&mut book, &mut log);
    let digest = shown_digest(book.get(ids[0]).unwrap());
    let ballot = Ballot { approve: true, reason: None, digest, via: None };
    drop(book.vote(ids[0], &party("dora", &["dba"]), ballot, 6 * SECOND));
    round(&mut book, &mut log);
    drop(book.spend(ids[0], &[0; 32], &party("ana", &[]), 7 * SECOND));
    drop(book.spend(ids[0], &[0; 32], &party("ana", &[]), 8 * SECOND));
    round(&mut book, &mut log);
    book.cancel(ids[1], By::Caller, Some("no".into()), 9 * SECOND);
    round(&mut book, &mut log);
    assert_eq!(all.len(), 6);
    (std::fs::read(dir.join("log")).unwrap(), all)
}

/// Thousands of logs are opened here, each with a sync.
fn memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::TempDir::new_in(memory) } else { tempfile::tempdir() }.unwrap()
}

fn of(entries: &[Entry]) -> Book {
    let mut book = Book::new(bounds());
    entries.iter().for_each(|entry| book.apply(entry).unwrap());
    book
}

fn same(one: &Book, other: &Book) -> bool {
    one.requests().len() == other.requests().len()
        && one.requests().all(|request| other.get(request.id) == Some(request))
}

fn reopened(dir: &Path, bytes: &[u8]) -> Result<Book, LogError> {
    std::fs::write(dir.join("log"), bytes).unwrap();
    Log::open(dir, bounds(), &files()).map(|(_, book, _)| book)
}

#[test]
fn a_log_is_read_as_it_was_written() {
    let dir = memory();
    let (_, entries) = written(dir.path());
    let (_, book, last_ns) = Log::open(dir.path(), bounds(), &files()).unwrap();
    assert!(same(&book, &of(&entries)));
    assert_eq!(last_ns, 9 * SECOND);
    assert_eq!(book.get(ApprovalId(1)).unwrap().state, State::Consumed);
}

#[test]
fn a_log_that_is_cut_anywhere_has_what_came_before_and_goes_on() {
    let dir = memory();
    let (bytes, entries) = written(dir.path());
    let prefixes: Vec<Book> = (0..=entries.len()).map(|len| of(&entries[..len])).collect();
    let mut last = 0;
    for cut in 0..=bytes.len() {
        let read = reopened(dir.path(), &bytes[..cut]);
        if cut < 16 {
            assert!(matches!(read, Err(LogError::Header(_))), "cut at {cut}");
            continue;
        }
        let book = read.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let place = prefixes.iter().position(|prefix| same(prefix, &book));
        let place = place.unwrap_or_else(|| panic!("cut at {cut}: nothing that ever was"));
        assert!(place >= last, "cut at {cut}: more bytes, fewer entries");
        last = place;
    }
    assert_eq!(last, entries.len());
    // What was cut is gone for good: what follows stands where it was.
    drop(reopened(dir.path(), &bytes[..bytes.len() - 20]).unwrap());
    let (mut log, book, _) = Log::open(dir.path(), bounds(), &files()).unwrap();
    assert!(same(&book, &prefixes[5]));
    log.append(&entries[5..]).unwrap();
    let (_, book, _) = Log::open(dir.path(), bounds(), &files()).unwrap();
    assert!(same(&book, &prefixes[6]));
}

#[test]
fn a_bit_that_turned_is_found_wherever_it_was_promised() {
    let dir = memory();
    let (bytes, entries) = written(dir.path());
    let whole = of(&entries);
    let mark = bytes.len() - 16;
    for place in 0..bytes.len() {
        for bit in [0, 3, 7] {
            let mut turned = bytes.clone();
            turned[place] ^= 1 << bit;
            match reopened(dir.path(), &turned) {
                Err(LogError::Header(_)) => assert!(place < 16, "at {place}"),
                Err(LogError::Damaged { offset, .. }) => {
                    assert!((16..mark).contains(&place) && offset <= place as u64, "at {place}");
                }
                Err(other) => panic!("at {place}: {other}"),
                // The last mark promises nothing that is not there.
                Ok(book) => assert!(place >= mark && same(&book, &whole), "at {place}"),
            }
        }
    }
}

#[test]
fn a_round_that_was_not_finished_is_cut_in_whatever_order_it_came_to_the_disk() {
    let dir = memory();
    let (bytes, entries) = written(dir.path());
    // A mark, two entries, mark, entry, mark, two entries, mark, entry, mark.
    let first: std::ops::Range<usize> = 16..32;
    let mut frames = vec![first];
    while let Some(last) = frames.last().filter(|last| last.end < bytes.len()).cloned() {
        let len = bytes[last.end..].first_chunk().map(|len| u32::from_le_bytes(*len)).unwrap();
        frames.push(last.end..last.end + 16 + len as usize);
    }
    assert_eq!(frames.len(), 11);
    // Of the third round the second frame is there, and of the first nothing.
    let mut torn = bytes[..frames[7].end].to_vec();
    torn[frames[6].clone()].fill(0);
    let book = reopened(dir.path(), &torn).unwrap();
    assert!(same(&book, &of(&entries[..3])), "the approval, and no use");
    // With its mark it was promised.
    torn.extend_from_slice(&bytes[frames[8].clone()]);
    assert!(matches!(reopened(dir.path(), &torn), Err(LogError::Damaged { .. })));
}

#[test]
fn a_log_of_another_version_or_of_entries_that_cannot_be_is_refused() {
    let dir = memory();
    let (bytes, entries) = written(dir.path());
    assert!(matches!(reopened(dir.path(), b""), Err(LogError::Header(_))));
    let mut other = bytes.clone();
    other[8] = 2;
    assert!(matches!(reopened(dir.path(), &other), Err(LogError::Header(_))));
    // Whole frames of a use that nobody approved.
    let (mut log, ..) = {
        std::fs::remove_file(dir.path().join("log")).unwrap();
        Log::open(dir.path(), bounds(), &files()).unwrap()
    };
    log.append(&[entries[0].clone(), entries[3].clone()]).unwrap();
    let read = Log::open(dir.path(), bounds(), &files());
    assert!(matches!(read, Err(LogError::Damaged { .. })));
}

#[test]
fn a_log_that_is_written_anew_says_the_same_and_leaves_no_half_of_it() {
    let dir = memory();
    let (bytes, entries) = written(dir.path());
    let (mut log, book, _) = Log::open(dir.path(), bounds(), &files()).unwrap();
    log.rewrite(book.snapshot(10 * SECOND)).unwrap();
    assert!(log.len() < bytes.len() as u64);
    let (_, again, _) = Log::open(dir.path(), bounds(), &files()).unwrap();
    assert!(same(&again, &of(&entries)));
    // A process that died while it wrote the new one left the old one, and a file of no meaning.
    std::fs::write(dir.path().join("log.new"), b"half").unwrap();
    assert!(same(&reopened(dir.path(), &bytes).unwrap(), &of(&entries)));
}
