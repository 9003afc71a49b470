use super::shelf::Shelf;
use super::*;
use crate::base::{ConnectionId, ExchangeId, Now};
use crate::control::drain::{Drain, Settings, open};
use crate::record::fields::{Tag, Writer};
use crate::record::summary::Row;
use crate::record::{EntryMeta, Journal, Kind};
use crate::runtime::map::RingJournal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const START: u64 = 1_700_000_000_000_000_000;
const MILLI: u64 = 1_000_000;

/// A record of two workers in small segments, which is being written.
struct Record {
    _dir: tempfile::TempDir,
    data: PathBuf,
    drain: Option<Drain>,
    journals: Vec<RingJournal>,
    now_ns: u64,
}

impl Record {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(&dir.path().join("data"), dir.path(), 2);
        (settings.ring_bytes, settings.segment_bytes) = (1 << 20, 256 << 10);
        let opened = open(&settings).unwrap();
        Self {
            data: settings.data_dir,
            _dir: dir,
            drain: Some(opened.drain),
            journals: opened.journals,
            now_ns: START,
        }
    }

    fn put(&mut self, id: u128, kind: Kind, body: &[u8]) {
        self.now_ns += MILLI;
        let meta = EntryMeta::new(kind, ConnectionId(1), ExchangeId(id));
        let now = Now { mono_ns: 0, wall_ns: self.now_ns };
        let worker = usize::from(id % 2 == 1);
        // The drain makes room.
        for _ in 0..1_000 {
            if self.journals[worker].append(meta, std::iter::once(body), now).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the drain stands still");
    }

    fn facts(&mut self, id: u128, kind: Kind, write: impl FnOnce(&mut Writer<'_>)) {
        let mut body = Vec::new();
        write(&mut Writer::new(&mut body));
        self.put(id, kind, &body);
    }

    fn begin(&mut self, id: u128, sub: &str) {
        self.facts(id, Kind::Open, |writer| {
            writer.text(Tag::Sub, sub).text(Tag::Resource, "tickets").text(Tag::Path, "/a/Path");
        });
    }

    fn end(&mut self, id: u128) {
        self.facts(id, Kind::Close, |writer| {
            writer.number(Tag::Status, 200).number(Tag::BytesOut, 7);
        });
    }

    fn stop(&mut self) {
        self.journals.clear();
        assert!(self.drain.take().unwrap().stop());
    }
}

fn plenty() -> Budget {
    Budget::new(u64::MAX, Duration::from_secs(60))
}

/// All pages, one after the other, under the same budget.
fn pages(data: &Path, filter: &Filter, count: usize, budget: impl Fn() -> Budget) -> Vec<Row> {
    let (mut all, mut before) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = search(data, filter, before, count, budget()).unwrap();
        assert!(page.rows.len() <= count);
        all.extend(page.rows);
        match page.next {
            Some(next) => {
                assert!(before.is_none_or(|before| next < before), "it gets on");
                before = Some(next);
            }
            None => return all,
        }
    }
    panic!("there is no end of pages");
}

/// Many exchanges that overlap: 120, of which every tenth lasts over ten others.
fn busy() -> Record {
    let mut record = Record::new();
    let body = vec![b'x'; 20_000];
    for id in 1..=120u128 {
        record.begin(id, if id % 3 == 0 { "ana" } else { "bob" });
        record.put(id, Kind::RequestBody, &body);
        if id % 10 != 0 {
            record.end(id);
        } else if let Some(old) = id.checked_sub(10).filter(|old| *old > 0) {
            record.put(old, Kind::ResponseBody, &body);
            record.end(old);
        }
    }
    record
}

#[test]
fn pages_of_any_length_and_budget_tell_each_exchange_once_and_in_order() {
    for live in [true, false] {
        let mut record = busy();
        if !live {
            record.stop();
        }
        let mut budget = plenty();
        let shelf = Shelf::open(&record.data, &mut budget).unwrap();
        assert!(live || shelf.lanes.iter().all(|lane| lane.parts.len() > 3), "many segments");
        for (count, bytes) in [(200, u64::MAX), (7, u64::MAX), (1, 1), (50, 1), (200, 600 << 10)] {
            let rows = pages(&record.data, &Filter::default(), count, || {
                Budget::new(bytes, Duration::from_secs(60))
            });
            let ids: Vec<u128> = rows.iter().map(|row| row.id).collect();
            let wanted: Vec<u128> = (1..=120).rev().collect();
            assert_eq!(ids, wanted, "{count} {bytes} {live}");
        }
        let rows = pages(&record.data, &Filter::default(), 200, plenty);
        let open: Vec<u128> = rows.iter().filter(|row| !row.closed).map(|row| row.id).collect();
        assert_eq!(open, [120], "an end in a later segment is found");
        assert!(rows.iter().filter(|row| row.closed).all(|row| row.bytes_out == 7));
    }
}

#[test]
fn a_filter_takes_what_it_says() {
    let mut record = busy();
    record.stop();
    let count = |filter: Filter| pages(&record.data, &filter, 50, plenty).len();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter { caller: some("ana"), ..Filter::default() }), 40);
    assert_eq!(count(Filter { resource: some("none"), ..Filter::default() }), 0);
    let words = |list: &[&str]| Filter {
        words: list.iter().map(|word| (*word).to_owned()).collect(),
        ..Filter::default()
    };
    assert_eq!(count(words(&["a/path", "BOB"])), 80, "in any case of letters");
    assert_eq!(count(words(&["ana", "bob"])), 0, "all of them");
    assert_eq!(count(words(&["anatickets"])), 0, "no word is made of two values");
    let middle = START + 180 * MILLI;
    let late = count(Filter { since_ns: Some(middle), ..Filter::default() });
    let early = count(Filter { until_ns: Some(middle), ..Filter::default() });
    assert!(late > 0 && early > 0 && late + early == 120, "{late} {early}");
}

#[test]
fn an_exchange_is_found_whole_wherever_it_lies_with_and_without_a_time() {
    for live in [true, false] {
        let mut record = busy();
        if !live {
            record.stop();
        }
        for id in 1..=120u128 {
            let find = |began: Option<u64>| {
                let found = find(&record.data, ExchangeId(id), began, 1 << 20, plenty());
                found.unwrap().unwrap().entries
            };
            let entries = find(None);
            assert_eq!(entries.first().unwrap().meta.kind, Kind::Open);
            assert_eq!(
                entries.len(),
                if id % 10 == 0 && id != 120 { 4 } else { 2 + usize::from(id != 120) }
            );
            // To the millisecond, as lists tell it, and one that is wrong.
            let began = entries.first().unwrap().time_ns;
            for hint in [began - began % MILLI, began, 1, u64::MAX] {
                assert_eq!(find(Some(hint)), entries, "{id} {hint}");
            }
        }
        let missing = find(&record.data, ExchangeId(999), None, 1, plenty()).unwrap();
        assert!(missing.is_none());
        let spent = find(&record.data, ExchangeId(999), None, 1, Budget::new(0, Duration::ZERO));
        assert!(matches!(spent, Err(ArchiveError::Spent)), "not known is not missing");
    }
}

#[test]
fn bodies_are_bounded_and_the_facts_are_told_all_the_same() {
    let mut record = Record::new();
    record.begin(4, "ana");
    for _ in 0..30 {
        record.put(4, Kind::ResponseBody, &[b'y'; 50_000]);
    }
    record.end(4);
    let found = find(&record.data, ExchangeId(4), None, 200_000, plenty()).unwrap().unwrap();
    assert!(found.cut && found.entries.len() == 6);
    assert_eq!(found.entries.last().unwrap().meta.kind, Kind::Close);
    let told = whole(&found);
    assert_eq!((&told["cut"], &told["session"]["status"]), (&Value::Bool(true), &200.into()));
    assert_eq!(told["response"]["bytes"], 200_000);
}

#[test]
fn a_replay_has_every_step_once_in_pages_with_its_time() {
    let mut record = Record::new();
    record.begin(2, "ana");
    record.put(2, Kind::RequestHead, b"POST /x HTTP/1.1\r\n\r\n");
    for _ in 0..40 {
        record.put(2, Kind::ResponseBody, &[b'z'; 60_000]);
    }
    record.end(2);
    let found = find(&record.data, ExchangeId(2), None, 8 << 20, plenty()).unwrap().unwrap();
    let (mut steps, mut after) = (Vec::new(), None);
    loop {
        let told = replay(&found, after);
        steps.extend(told["steps"].as_array().unwrap().clone());
        after = told["next"].as_u64();
        if after.is_none() {
            break;
        }
    }
    assert_eq!(steps.len(), 43);
    let times: Vec<f64> = steps.iter().map(|step| step["at_ms"].as_f64().unwrap()).collect();
    assert!(times.is_sorted() && times[0] == 0.0 && times[42] >= 42.0, "{times:?}");
    let sides = [&steps[0], &steps[1], &steps[2]].map(|step| step["side"].as_str().unwrap());
    assert_eq!(sides, ["gateway", "caller", "upstream"]);
    assert_eq!(steps[42]["fields"]["status"], 200);
}

#[test]
fn what_is_no_text_is_told_in_hexadecimal_and_a_cut_character_is_text() {
    let mut record = Record::new();
    record.begin(6, "ana");
    record.put(6, Kind::RequestBody, &[0, 255, 16]);
    record.put(6, Kind::ResponseBody, "a\u{e4}".repeat(300_000).as_bytes());
    record.end(6);
    let found = find(&record.data, ExchangeId(6), None, 8 << 20, plenty()).unwrap().unwrap();
    let told = whole(&found);
    assert_eq!(
        (&told["request"]["hex"], &told["request"]["text"]),
        (&"00ff10".into(), &Value::Null)
    );
    let text = told["response"]["text"].as_str().unwrap();
    assert!(text.starts_with("a\u{e4}a") && told["response"]["cut"] == true);
}

#[test]
fn what_runs_is_followed_through_rings_and_segments_and_forgotten_at_its_end() {
    let mut record = Record::new();
    let mut running = Running::default();
    let body = vec![b'x'; 30_000];
    let mut look = |record: &Record, since: u64| {
        let page = running.look(&record.data, since, 100).unwrap();
        assert_eq!((page.next, page.reached_ns), (None, 0));
        page.rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert!(look(&record, 0).is_empty());
    for id in 1..=60u128 {
        record.begin(id, "ana");
        record.put(id, Kind::RequestBody, &body);
        if id > 2 {
            record.put(id - 2, Kind::ResponseBody, &body);
            record.end(id - 2);
        }
        let wanted = if id == 1 { vec![1] } else { vec![id, id - 1] };
        assert_eq!(look(&record, 0), wanted, "as soon as it is recorded");
    }
    assert!(look(&record, u64::MAX).is_empty(), "what began before the start of the gateway");
    // Who looks for the first time knows the same.
    let page = Running::default().look(&record.data, record.now_ns - 20 * MILLI, 1).unwrap();
    assert_eq!((page.rows.len(), page.next.is_some()), (1, true));
    assert_eq!(page.rows[0].id, 60);
    // One that fell behind begins anew, and says from when on.
    for id in 61..=300u128 {
        record.begin(id, "ana");
        record.put(id, Kind::RequestBody, &body);
        record.end(id);
    }
    let page = running.look(&record.data, 0, 100).unwrap();
    assert!(page.rows.iter().all(|row| [59, 60].contains(&row.id)));
    record.end(59);
    record.end(60);
    let page = running.look(&record.data, 0, 100).unwrap();
    assert!(page.rows.is_empty() && page.reached_ns > 0, "{:?}", page.rows);
    record.stop();
}
