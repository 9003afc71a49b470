//! Rows that are longer than what may be kept: told, or refused in the place of their statement.

use super::masked::{TABLE, column, login_with, masked_snapshot, shown};
use super::*;
use crate::mask::Level;
use crate::wire::postgres as wire;

pub(super) const MAX: u32 = 16 << 10;
const SECRET: &[u8] = b"ana@example.com";

/// `select email from t` is under way, and longer rows than [`MAX`] are not kept.
fn asked() -> Line {
    let mut made = masked_snapshot(2, Level::default());
    made.resources[0].message_max = MAX;
    let line = login_with(made);
    assert_eq!(tags(&line.down), "");
    line
}

/// The first answer is in.
fn ready_line() -> Line {
    let mut line = asked();
    line.server(&message(|to| {
        write::row_description(&[column(TABLE, 1)], to);
        write::complete(b"SELECT 0", to);
        write::ready(TxStatus::Idle, to);
    }));
    line.up.clear();
    line.down.clear();
    line
}

pub(super) fn described() -> Vec<u8> {
    message(|to| {
        let named = |name, attribute| wire::Column { name, ..column(TABLE, attribute) };
        write::row_description(&[named(b"blob", 1), named(b"mail", 2), named(b"id", 1)], to);
    })
}

/// A row whose masked column stands behind a long one, with one behind it.
pub(super) fn bad_row() -> Vec<u8> {
    message(|to| write::data_row(&[Some(&[b'b'; 50_000]), Some(SECRET), Some(b"7")], to))
}

fn good_row() -> Vec<u8> {
    message(|to| write::data_row(&[Some(b"b"), Some(SECRET), Some(&[b'i'; 50_000])], to))
}

fn done(status: TxStatus) -> Vec<u8> {
    message(|to| {
        write::complete(b"SELECT 2", to);
        write::ready(status, to);
    })
}

#[test]
fn any_split_of_long_rows_gives_the_same_bytes_and_the_same_record() {
    let long = [b'l'; 30_000];
    let mut bytes = described();
    for last in [&b"7"[..], &long] {
        bytes.extend(good_row());
        write::data_row(&[Some(b"b"), Some(&long), Some(last)], &mut bytes);
        write::data_row(&[Some(&long[..12_000]), Some(SECRET), Some(last)], &mut bytes);
        write::data_row(&[None, None, Some(last)], &mut bytes);
    }
    bytes.extend(bad_row());
    bytes.extend(good_row());
    bytes.extend(done(TxStatus::Idle));
    let run = |step: usize| {
        let mut line = asked();
        bytes.chunks(step).for_each(|part| line.server(part));
        assert!(!line.session.is_closed());
        (line.down.clone(), line.recorded(Kind::ResponseBody))
    };
    let whole = run(usize::MAX);
    assert_eq!(tags(&whole.0), "TDDDDDDDDEZ");
    let told = String::from_utf8_lossy(&whole.0);
    assert!(!told.contains("ana@") && told.matches("[REDACTED]").count() == 6);
    assert!(whole.1.ends_with(&*told), "what is told is recorded");
    for step in [1, 7, 1_000, 8_191, 20_000] {
        assert!(run(step) == whole, "{step}");
    }
}

#[test]
fn a_row_that_is_too_long_fails_its_statement_and_the_connection_lives() {
    let mut line = asked();
    line.server(&[described(), good_row(), bad_row(), good_row()].concat());
    assert_eq!(tags(&line.down), "TDE");
    let told = shown(&line);
    for part in ["ERROR", "54000", "\"mail\" is masked", "\"blob\"", "message_max, 16384 bytes"] {
        assert!(told.contains(part), "{told:?}");
    }
    assert!(!told.contains("FATAL") && !told.contains("bbbbb"));
    // What the caller sends waits for the end of what it was told to be over.
    line.caller(&query("select id from t"));
    assert_eq!(line.up, b"");
    line.server(&done(TxStatus::Idle));
    line.caller(b"");
    assert_eq!((tags(&line.down).as_str(), tags(&line.up).as_str()), ("TDEZ", "Q"));
    assert!(line.recorded(Kind::Close).contains("54000"));
    assert!(!line.recorded(Kind::ResponseBody).contains("ana@"));
}

#[test]
fn a_transaction_fails_with_it() {
    let mut line = ready_line();
    line.caller(&query("begin"));
    line.server(&message(|to| write::complete(b"BEGIN", to)));
    line.server(&ready(TxStatus::Transaction));
    line.up.clear();
    line.down.clear();
    line.caller(&query("update t set id = 1 where id = 2 returning *"));
    line.up.clear();
    line.server(&[described(), bad_row(), done(TxStatus::Transaction)].concat());
    assert_eq!(tags(&line.down), "TE");
    assert_eq!(line.up, message(|to| write::query(crate::session::postgres::POISON, to)));
    line.up.clear();
    line.caller(&query("commit"));
    assert_eq!(line.up, b"", "nothing goes before the transaction has failed");
    line.server(&syntax_error());
    line.server(&ready(TxStatus::Failed));
    line.caller(b"");
    assert_eq!((tags(&line.down).as_str(), tags(&line.up).as_str()), ("TEZ", "Q"));
    assert!(line.down.ends_with(&ready(TxStatus::Failed)));
}

#[test]
fn a_transaction_that_does_not_fail_with_it_ends_the_connection() {
    let mut line = ready_line();
    line.caller(&query("begin"));
    line.server(&message(|to| write::complete(b"BEGIN", to)));
    line.server(&ready(TxStatus::Transaction));
    line.caller(&query("select id from t"));
    line.server(&[described(), bad_row(), done(TxStatus::Transaction)].concat());
    line.server(&[syntax_error(), ready(TxStatus::Transaction)].concat());
    assert!(line.session.is_closed() && shown(&line).contains("FATAL"));
}

fn executed(text: &str) -> Vec<u8> {
    [parse("", text), bind_execute("")].concat()
}

fn begun() -> Vec<u8> {
    message(|to| {
        write::parse_done(to);
        write::bind_done(to);
    })
}

#[test]
fn behind_it_a_pipeline_is_skipped_up_to_its_sync() {
    for early in [true, false] {
        let mut line = ready_line();
        line.caller(&executed("select id from t"));
        if early {
            line.caller(&sync());
        }
        line.server(&[begun(), described(), good_row(), bad_row(), good_row()].concat());
        assert_eq!(tags(&line.down), "12DE");
        if !early {
            line.caller(&executed("select id from t"));
            assert_eq!(tags(&line.up), "PBDE", "what is behind it is skipped");
            line.caller(&sync());
        }
        line.caller(&query("select 1"));
        assert_eq!(tags(&line.up), "PBDES");
        line.server(&message(write::suspended));
        line.server(&ready(TxStatus::Idle));
        line.caller(b"");
        assert_eq!((tags(&line.down).as_str(), tags(&line.up).as_str()), ("12DEZ", "PBDESQ"));
    }
}

#[test]
fn an_error_of_the_server_behind_it_is_not_told_again() {
    let mut line = asked();
    line.server(&[described(), bad_row()].concat());
    line.server(&message(|to| write::error("ERROR", "57014", "canceled", None, None, to)));
    line.server(&ready(TxStatus::Idle));
    assert_eq!(tags(&line.down), "TEZ");
    let close = line.recorded(Kind::Close);
    assert!(close.contains("54000") && !close.contains("57014"), "{close:?}");
    let mut line = asked();
    line.server(&[described(), bad_row()].concat());
    line.server(&message(|to| write::error("FATAL", "57P01", "shut down", None, None, to)));
    assert_eq!(tags(&line.down), "TEE");
}

/// What has changed something, or has something behind it that would, did not fail at the server.
#[test]
fn where_it_is_no_failure_at_the_server_it_ends_the_connection() {
    let twice = [executed("select id from t"), executed("select id from t"), sync()].concat();
    let before = [begun(), message(|to| write::complete(b"SELECT 0", to)), begun()].concat();
    let update = [executed("update t set id = 1 where id = 2 returning *"), sync()].concat();
    for (what, sent, first) in [
        ("behind it", &twice, begun()),
        ("before it", &twice, before),
        ("itself", &update, begun()),
        ("simple", &query("update t set id = 1 where id = 2 returning *"), Vec::new()),
        ("a lock", &query("select id from t for update"), Vec::new()),
        ("two", &query("select id from t; select id from t"), Vec::new()),
    ] {
        let mut line = ready_line();
        line.caller(sent);
        assert!(!line.up.is_empty(), "{what}");
        let mut answer = first;
        if what == "before it" {
            // Its own description comes before the first rows.
            let at = answer.len() - begun().len();
            let done = message(|to| write::complete(b"SELECT 0", to)).len();
            let described = described();
            answer.splice(at - done..at - done, described);
        }
        line.server(&[answer, described(), bad_row()].concat());
        assert!(line.session.is_closed(), "{what}");
        let told = shown(&line);
        assert!(told.contains("FATAL") && told.contains("54000"), "{what} {told:?}");
        assert!(told.contains("\"mail\" is masked") && !told.contains("bbbbb"), "{what}");
    }
}

#[test]
fn rows_that_were_not_described_do_not_pass_in_parts() {
    let mut line = ready_line();
    line.caller(&[executed("select id from t"), sync()].concat());
    line.server(&begun());
    line.server(&message(write::no_data));
    for part in bad_row().chunks(10_000) {
        line.server(part);
    }
    assert!(line.session.is_closed());
    assert!(!shown(&line).contains("bbbbb"));
}

/// A reload may take the masks away, or give others, while a row comes that was begun under them.
#[test]
fn a_row_is_masked_as_it_was_begun() {
    let long = message(|to| write::data_row(&[Some(b"b"), Some(&[b's'; 50_000]), Some(b"7")], to));
    let (first, rest) = long.split_at(20_000);
    for (rules, closed) in [(rules(), true), (Vec::new(), true), (Vec::new(), false)] {
        let mut made = masked_snapshot(3, Level::NoUse);
        if closed {
            let mut all = RuleSpec::new("all", Effect::Allow);
            all.then.masks = crate::base::MaskSet::EMPTY;
            made.policy = Table::compile([rules, vec![all]].concat(), 1, 3).unwrap();
        }
        let mut line = asked();
        line.server(&[&described(), first].concat());
        line.worker.reload(Arc::new(made));
        line.caller(&query("select id from t"));
        line.server(&[rest, &good_row()].concat());
        assert_eq!(line.session.is_closed(), closed);
        assert!(!shown(&line).contains("ss"), "{:?}", shown(&line));
        if !closed {
            assert_eq!(tags(&line.down), "TDD");
        }
    }
}

/// The end of a row that passes in parts may stand in one input with what is no answer.
#[test]
fn what_stands_before_a_broken_message_is_told_whole() {
    let mut line = asked();
    let row = message(|to| write::data_row(&[Some(&[b'i'; 50_000])], to));
    let described = message(|to| write::row_description(&[column(TABLE, 1)], to));
    let (first, rest) = row.split_at(20_000);
    line.server(&[&described, first].concat());
    line.server(&[rest, &message(write::parse_done)].concat());
    assert_eq!(tags(&line.down), "TDE");
    assert!(line.session.is_closed() && shown(&line).contains("FATAL"));
}

/// What is held of a row is more than the journal has room for at a time.
#[test]
fn what_was_held_goes_as_the_journal_has_room() {
    let mut made = masked_snapshot(2, Level::default());
    made.resources[0].message_max = 16 << 20;
    let mut line = login_with(made);
    line.worker.journal.take();
    line.worker.journal.set_room(Some(1 << 20));
    let blob = vec![b'b'; 3_000_000];
    let row = message(|to| write::data_row(&[Some(&blob), Some(SECRET), Some(b"7")], to));
    let answer = [described(), row, done(TxStatus::Idle)].concat();
    let (mut record, mut waits) = (Vec::new(), 0);
    // What the drain does: it takes what is there, and there is room again.
    let mut drain = |line: &mut Line| {
        for entry in line.worker.journal.take() {
            if entry.meta.kind == Kind::ResponseBody {
                record.extend(entry.body);
            }
        }
        line.worker.journal.set_room(Some(1 << 20));
    };
    for part in answer.chunks(100_000) {
        line.server(part);
        while !line.session.interest().upstream && !line.session.is_closed() {
            waits += 1;
            drain(&mut line);
            let due = line.session.deadline(&line.worker).unwrap();
            line.now = Now { mono_ns: due, ..line.now };
            line.tell(Input::Timer);
            line.server(b"");
        }
    }
    drain(&mut line);
    assert!(waits > 5 && !line.session.is_closed(), "{waits}");
    assert_eq!(tags(&line.down), "TDCZ");
    assert!(line.down.len() > 3_000_000 && record == line.down);
}
