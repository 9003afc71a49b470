//! What entries make which statements, with which answers.

use super::*;
use crate::base::ConnectionId;
use crate::cli::sessions::answers::End;
use crate::record::EntryMeta;
use crate::record::fields::Writer;
use crate::wire::postgres::write;

const LINK: ExchangeId = ExchangeId(1);

#[derive(Default)]
struct Record(Vec<OwnedEntry>);

impl Record {
    fn entry(&mut self, id: u128, kind: Kind, masked: bool, body: Vec<u8>) -> &mut Self {
        let mut meta = EntryMeta::new(kind, ConnectionId(1), ExchangeId(id));
        meta.flags = if masked { Flags::MASKED } else { Flags::NONE };
        let sequence = self.0.len() as u64;
        self.0.push(OwnedEntry { worker: 0, sequence, time_ns: sequence, meta, body });
        self
    }

    fn up(&mut self, id: u128, make: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let mut body = Vec::new();
        make(&mut body);
        self.entry(id, Kind::RequestBody, false, body)
    }

    fn down(&mut self, id: u128, make: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let mut body = Vec::new();
        make(&mut body);
        self.entry(id, Kind::ResponseBody, false, body)
    }

    fn note(&mut self, id: u128, decision: &str, text: &str) -> &mut Self {
        let mut body = Vec::new();
        Writer::new(&mut body).bytes(Tag::Statement, text.as_bytes()).text(Tag::Decision, decision);
        self.entry(id, Kind::Open, false, body)
    }

    fn units(&self, only: Option<u128>) -> Vec<Unit> {
        let recorded = Recorded::of(&self.0, LINK, only.map(ExchangeId));
        recorded.cycles.into_iter().flat_map(|cycle| cycle.units).collect()
    }
}

fn ends(unit: &Unit) -> Vec<End> {
    unit.parts.iter().map(|part| part.end.clone()).collect()
}

fn done(tag: &str) -> End {
    End::Complete(tag.to_owned())
}

/// A connection that prepares, executes twice in one cycle, and asks once by a simple query.
fn connection() -> Record {
    let mut record = Record::default();
    record.down(1, |to| {
        write::auth_ok(to);
        write::status(b"DateStyle", b"German", to);
        write::ready(TxStatus::Idle, to);
    });
    record.up(2, |to| write::parse(b"s", b"select $1", &[], to));
    record.up(2, write::sync).down(2, |to| {
        write::parse_done(to);
        write::ready(TxStatus::Idle, to);
    });
    for value in [b"a", b"b"] {
        record.up(3, |to| write::bind(b"", b"s", &[], &[Some(value)], &[], to));
        // The gateway's own, which has no answer in the record.
        record.up(3, |to| write::describe(true, b"", to));
        record.up(3, |to| write::execute(b"", 0, to));
    }
    record.up(3, write::sync).down(3, |to| {
        write::bind_done(to);
        write::data_row(&[Some(b"a")], to);
        write::complete(b"SELECT 1", to);
        write::bind_done(to);
        write::error("ERROR", "22P02", "x", None, None, to);
        write::ready(TxStatus::Idle, to);
    });
    record.up(4, |to| write::query(b"select 1; select 2", to)).down(4, |to| {
        write::complete(b"SELECT 1", to);
        write::complete(b"SELECT 1", to);
        write::status(b"TimeZone", b"UTC", to);
        write::ready(TxStatus::Idle, to);
    });
    record
}

#[test]
fn messages_become_statements_with_their_own_answers() {
    let record = connection();
    let units = record.units(None);
    let texts: Vec<_> = units.iter().map(|unit| String::from_utf8_lossy(&unit.text)).collect();
    assert_eq!(texts, ["select $1", "select $1", "select $1", "select 1; select 2"]);
    assert_eq!(ends(&units[0]), [End::Prepared]);
    assert_eq!(ends(&units[1]), [done("SELECT 1")]);
    assert_eq!((units[1].parts[0].count, units[2].parts[0].count), (1, 0));
    assert_eq!(ends(&units[2]), [End::Error("22P02".to_owned())]);
    assert_eq!(ends(&units[3]), [done("SELECT 1"), done("SELECT 1")]);
    assert!(units.iter().all(|unit| unit.cannot.is_none() && !unit.masked));
    assert_eq!(units[2].needs.as_ref().unwrap().text, b"select $1");
}

#[test]
fn one_exchange_knows_what_was_prepared_and_set_before_it() {
    let record = connection();
    let units = record.units(Some(3));
    assert_eq!(units.len(), 2);
    assert_eq!(units[0].needs.as_ref().unwrap().name, b"s");
    let recorded = Recorded::of(&record.0, LINK, Some(ExchangeId(3)));
    assert_eq!(recorded.settings, [("DateStyle", "German".to_owned())]);
}

#[test]
fn any_cut_of_the_entries_is_the_same_record() {
    let whole = connection();
    let mut cut = Record::default();
    for entry in &whole.0 {
        for byte in entry.body.chunks(1) {
            let (id, kind) = (entry.meta.exchange.0, entry.meta.kind);
            cut.entry(id, kind, false, byte.to_vec());
        }
    }
    let told = |record: &Record| {
        let units = record.units(None);
        units.into_iter().map(|unit| (unit.text, unit.sent.len(), unit.parts)).collect::<Vec<_>>()
    };
    assert_eq!(told(&whole), told(&cut));
}

#[test]
fn what_cannot_be_run_says_why() {
    let mut record = Record::default();
    record.note(2, "deny", "delete from t").up(2, |to| write::query(POISON, to)).down(2, |to| {
        write::error("ERROR", "42501", "x", None, None, to);
        write::ready(TxStatus::Failed, to);
    });
    let mut masked = Vec::new();
    write::query(b"select '[REDACTED]'", &mut masked);
    record.entry(3, Kind::RequestBody, true, masked).down(3, |to| {
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Failed, to);
    });
    record.up(4, |to| write::query(b"select 2", to)).down(4, |to| write::complete(b"x", to));
    record.up(5, |to| write::query(b"select 3", to));
    record.up(6, |to| write::bind(b"", b"unknown", &[], &[], &[], to));
    record.up(7, |to| write::query(b"copy t to stdout", to));
    let mut gap = Vec::new();
    crate::record::gap::Gap { entries: 1, bytes_in: 0, bytes_out: 9 }.write(&mut gap);
    record.up(8, |to| write::query(b"select 8", to)).entry(8, Kind::Gap, false, gap);
    record.down(8, |to| {
        write::complete(b"SELECT 1", to);
        write::ready(TxStatus::Idle, to);
    });
    let units = record.units(None);
    let whys: Vec<_> = units.iter().map(|unit| unit.cannot.unwrap_or("")).collect();
    assert_eq!(
        whys,
        [
            "it was refused then",
            "",
            "its answer was cut short",
            "no answer to it is recorded",
            "what it runs was prepared before the record begins",
            "data of COPY is not replayed",
            "some of it had no room in the record",
        ]
    );
    assert!(units[1].masked);
    let recorded = Recorded::of(&record.0, LINK, None);
    assert_eq!(recorded.cycles[0].status, Some(TxStatus::Failed));
}

#[test]
fn a_portal_is_of_the_statement_that_it_was_bound_to() {
    let mut record = Record::default();
    for name in [b"a", b"b"] {
        let text = [b"select '", &name[..], b"'"].concat();
        record.up(2, |to| write::parse(name, &text, &[], to));
    }
    record.up(2, write::sync).down(2, |to| {
        write::parse_done(to);
        write::parse_done(to);
        write::ready(TxStatus::Idle, to);
    });
    // What a driver does that keeps portals: both are bound, then both are run.
    record.up(3, |to| write::describe(false, b"a", to));
    record.up(3, |to| write::bind(b"pa", b"a", &[], &[], &[], to));
    record.up(3, |to| write::bind(b"pb", b"b", &[], &[], &[], to));
    record.up(3, |to| write::execute(b"pa", 0, to)).up(3, |to| write::execute(b"pb", 0, to));
    record.up(3, write::sync).down(3, |to| {
        write::parameters(&[], to);
        write::no_data(to);
        write::bind_done(to);
        write::bind_done(to);
        write::complete(b"SELECT 1", to);
        write::complete(b"SELECT 2", to);
        write::ready(TxStatus::Idle, to);
    });
    let units = record.units(Some(3));
    let told: Vec<_> = units
        .iter()
        .map(|unit| (String::from_utf8_lossy(&unit.text).into_owned(), ends(unit)))
        .collect();
    let (a, b) = ("select 'a'".to_owned(), "select 'b'".to_owned());
    assert_eq!(
        told,
        [
            (a.clone(), vec![End::Prepared]),
            (b.clone(), vec![End::Prepared]),
            (a, vec![done("SELECT 1")]),
            (b, vec![done("SELECT 2")]),
        ]
    );
}
