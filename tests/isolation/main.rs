//! Do callers whose sessions share a worker ever see anything of each other?
//!
//! Every caller has marks of its own in all that it sends and gets: token, path, fields, bodies,
//! mask, rule, and a key that it shares with one other caller at most. Their sessions run on one
//! worker in a random order, cut at random places, with aborts, pipelines and reloads between.
//! Each must then have got, sent and left in the record what it has when it runs alone.
//!
//! `WEIRGATE_SEED` replays a run, `WEIRGATE_CASES` sets how many there are.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../kit/mod.rs"]
mod kit;
mod line;
mod script;

use line::{Line, hide_ids};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use script::{Case, NAMES, Op, case, key_mark, mark};
use std::collections::HashSet;
use std::sync::Arc;
use weirgate::base::{ConnectionId, ExchangeId, Limits, Pieces};
use weirgate::identity::dev::DevKey;
use weirgate::record::fields::{Reader, Tag};
use weirgate::record::{Kind, MemoryEntry, MemoryJournal};
use weirgate::session::{Counts, Out, Snapshot, Worker};

/// All that sessions share.
struct Shared {
    worker: Worker<MemoryJournal>,
    out: Out,
    spare: [Pieces; 2],
    ms: u64,
}

/// What is the same for all runs of a case.
struct World {
    key: DevKey,
    tokens: Vec<String>,
    /// By reload: what each caller may do differs.
    snapshots: Vec<Arc<Snapshot>>,
}

impl World {
    fn new(case: &Case) -> Self {
        let key = DevKey::generate().unwrap();
        let token = |caller: usize| {
            let mark = mark(caller);
            kit::token(&key, &format!("sub-{mark}"), &[&format!("group-{}", NAMES[caller])])
        };
        let tokens = (0..case.callers).map(token).collect();
        // A cache of few tokens, so that entries come and go.
        let limits = Limits {
            token_cache_entries: 2,
            lookahead_worker_max: if case.tight { 6 << 10 } else { 64 << 20 },
            ..Limits::default()
        };
        let snapshots =
            (0..2).map(|turn| Arc::new(script::site(turn, &limits).snapshot(1 + turn))).collect();
        Self { key, tokens, snapshots }
    }

    fn shared(&self) -> Shared {
        let worker = kit::worker(&self.snapshots[0], &self.key, MemoryJournal::new());
        Shared { worker, out: Out::new(), spare: Default::default(), ms: 1 }
    }

    /// The lines of a case, or the one of them that runs alone.
    fn run(&self, case: &Case, only: Option<usize>) -> (Vec<Line>, Shared) {
        let mut shared = self.shared();
        let mut lines: Vec<Line> =
            (0..case.lines.len()).map(|place| Line::new(place, case, &self.tokens)).collect();
        let mut reloads = 0usize;
        for op in &case.ops {
            match op {
                Op::Pass(ms) => {
                    shared.ms += u64::from(*ms);
                    for line in &mut lines {
                        line.tick(&mut shared);
                    }
                }
                Op::Reload => {
                    reloads += 1;
                    let next = &self.snapshots[reloads % self.snapshots.len()];
                    shared.worker.reload(Arc::clone(next));
                    shared.worker.keys = Arc::new(self.key.snapshot(1 + reloads as u64));
                }
                Op::Line(place, step) => {
                    let place = usize::from(*place) % lines.len();
                    if only.is_none_or(|only| only == place) {
                        lines[place].step(step, &mut shared);
                    }
                }
            }
        }
        for (place, line) in lines.iter_mut().enumerate() {
            if only.is_none_or(|only| only == place) {
                line.finish(&mut shared);
            }
        }
        assert_eq!(shared.worker.lookahead, 0, "room for look-ahead is given back");
        (lines, shared)
    }
}

fn entries_of(shared: &Shared, line: &Line) -> Vec<MemoryEntry> {
    let all = shared.worker.journal.entries().iter();
    all.filter(|entry| entry.meta.connection == line.connection).cloned().collect()
}

/// Entries without what differs from run to run: sequence and exchange.
fn comparable(entries: &[MemoryEntry]) -> Vec<(Kind, u16, Vec<u8>)> {
    let one = |entry: &MemoryEntry| (entry.meta.kind, entry.meta.flags.0, hide_ids(&entry.body));
    entries.iter().map(one).collect()
}

/// What is in it that is another's or, where none may be, a key.
fn foreign(bytes: &[u8], caller: usize, key: bool) -> Option<String> {
    let has = |text: &String| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let others = (0..NAMES.len()).filter(|other| *other != caller).map(mark);
    let keys = (0..NAMES.len()).map(key_mark).filter(|one| !key || *one != key_mark(caller));
    others.chain(keys).find(has)
}

#[track_caller]
fn check_marks(what: &str, bytes: &[u8], caller: usize, key: bool) {
    let found = foreign(bytes, caller, key);
    assert_eq!(found, None, "{what} of {}", NAMES[caller]);
}

fn check(case: &Case) {
    let world = World::new(case);
    let (lines, shared) = world.run(case, None);
    let mut sum = Counts::default();
    let mut same = true;
    let mut seen = HashSet::new();
    for (place, line) in lines.iter().enumerate() {
        let entries = entries_of(&shared, line);
        check_marks("the answer", &line.to_caller, line.caller, false);
        for sent in &line.sent {
            check_marks("the upstream", &sent.bytes, line.caller, true);
            assert_eq!(usize::from(sent.credential.0), line.caller / 2, "the credential");
        }
        for entry in &entries {
            check_marks("the record", &entry.body, line.caller, false);
            if entry.meta.kind == Kind::Open {
                let sub = Reader::find(&entry.body, Tag::Sub).unwrap().as_text().into_owned();
                assert_eq!(sub, format!("sub-{}", mark(line.caller)), "the principal");
                let peer = Reader::find(&entry.body, Tag::Peer).unwrap().as_text().into_owned();
                assert_eq!(peer, Line::peer(line.caller), "the address");
                assert!(seen.insert(entry.meta.exchange), "an exchange of two connections");
            }
        }
        let (alone, own) = world.run(case, Some(place));
        let alone = &alone[place];
        add(&mut sum, &own.worker.counts);
        if case.tight && line.text() != alone.text() {
            // Others took the room: it may be refused for that, and for nothing else.
            let text = line.text();
            assert!(text.contains("HTTP/1.1 413 "), "{text}\n--- alone:\n{}", alone.text());
            same = false;
            continue;
        }
        assert_eq!(line.text(), alone.text(), "the answer of {} alone", NAMES[line.caller]);
        let sent = |line: &Line| line.sent.iter().map(|one| one.text()).collect::<Vec<_>>();
        assert_eq!(sent(line), sent(alone), "what went up for {} alone", NAMES[line.caller]);
        let own = entries_of(&own, alone);
        assert_eq!(comparable(&entries), comparable(&own), "the record of {}", NAMES[line.caller]);
    }
    // What belongs to no connection tells of refusals only.
    let connections: HashSet<ConnectionId> = lines.iter().map(|line| line.connection).collect();
    for entry in shared.worker.journal.entries() {
        if !connections.contains(&entry.meta.connection) {
            assert_eq!(entry.meta.kind, Kind::RefusalSummary);
            assert_eq!(entry.meta.exchange, ExchangeId(0));
            (0..NAMES.len()).for_each(|caller| {
                let text = mark(caller);
                assert!(memchr::memmem::find(&entry.body, text.as_bytes()).is_none());
            });
        }
    }
    if same {
        let of = |counts: &Counts| {
            let Counts { exchanges, masked, cuts, refusals, decisions, bytes, .. } = counts;
            (*exchanges, *masked, *cuts, *refusals, decisions.clone(), *bytes)
        };
        assert_eq!(of(&shared.worker.counts), of(&sum), "the counts are those of all, summed");
    }
}

fn add(sum: &mut Counts, more: &Counts) {
    sum.decisions.resize(more.decisions.len(), [0; 2]);
    sum.add(more);
}

/// Runs `check` on drawn cases; tells the seed first, and the smallest case that fails.
fn draw(cases: u32) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("WEIRGATE_SEED").unwrap_or(u64::try_from(clock.as_nanos()).unwrap_or(1));
    let cases = number("WEIRGATE_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap());
    println!("WEIRGATE_SEED={seed} WEIRGATE_CASES={cases}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let ran = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        check(&case);
        Ok::<(), TestCaseError>(())
    });
    if let Err(error) = ran {
        panic!("WEIRGATE_SEED={seed} WEIRGATE_CASES={cases}: {error}");
    }
}

#[test]
fn interleaved_callers_get_send_and_leave_what_they_do_alone() {
    draw(64);
}

#[test]
fn the_check_sees_marks_that_are_anothers() {
    let seen = |bytes: &str, caller, key| foreign(bytes.as_bytes(), caller, key).is_some();
    assert!(seen(&format!("a {} b", mark(1)), 0, true));
    assert!(seen(&key_mark(0), 0, false) && !seen(&key_mark(0), 0, true));
    assert!(!seen(&key_mark(1), 0, true) && seen(&key_mark(2), 0, true));
    assert!(!seen(&mark(0), 0, false));
}
