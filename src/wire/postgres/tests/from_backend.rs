//! Messages of the backend.

use super::{backend_again, check, read_backend, split};
use crate::wire::postgres::{
    Auth, Backend, Column, CopyFormat, Formats, TxStatus, WireError, backend, write,
};

const COLUMN: Column<'_> = Column {
    name: b"email",
    table: 16_384,
    attribute: 2,
    kind: 25,
    kind_len: -1,
    modifier: -1,
    format: 0,
};

/// A message of this tag and body.
fn raw(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    write::head(tag, body.len(), &mut to).unwrap();
    to.extend_from_slice(body);
    to
}

/// One message of each kind and of each shape.
fn messages() -> Vec<Vec<u8>> {
    let mut all = vec![
        raw(b'G', &[0, 0, 2, 0, 0, 0, 0]),
        raw(b'W', &[1, 0, 0]),
        raw(b'H', &[1, 0, 2, 0, 0, 0, 1]),
        raw(b'V', &[0, 0, 0, 1, b'x']),
        raw(b'V', &[0xff; 4]),
        raw(b'v', &[0, 3, 0, 2, 0, 0, 0, 1, b'x', 0]),
        raw(b'E', &[0]),
    ];
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut message = Vec::new();
        fill(&mut message);
        all.push(message);
    };
    add(&write::auth_ok);
    add(&write::auth_cleartext);
    add(&|to| write::auth_md5([1, 2, 0, 4], to));
    add(&|to| write::auth_sasl(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"], to));
    add(&|to| write::auth_sasl(&[], to));
    add(&|to| write::auth_continue(b"r=a,s=b,i=4096", to));
    add(&|to| write::auth_final(b"v=a", to));
    add(&|to| write::status(b"client_encoding", b"UTF8", to));
    add(&|to| write::key(77, &[1, 0, 0, 2], to));
    add(&|to| write::key(77, &[9; 256], to));
    add(&|to| write::ready(TxStatus::Idle, to));
    add(&|to| write::ready(TxStatus::Transaction, to));
    add(&|to| write::ready(TxStatus::Failed, to));
    add(&|to| write::row_description(&[], to));
    add(&|to| write::row_description(&[COLUMN, Column { attribute: -1, format: 1, ..COLUMN }], to));
    add(&|to| write::data_row(&[Some(b"a"), None, Some(b"")], to));
    add(&|to| write::complete(b"INSERT 0 1", to));
    add(&write::empty);
    add(&write::suspended);
    add(&write::parse_done);
    add(&write::bind_done);
    add(&write::close_done);
    add(&write::no_data);
    add(&|to| write::parameters(&[23, 25], to));
    add(&|to| write::error("ERROR", "42501", "not permitted", Some("rule x"), Some("ask"), to));
    add(&|to| write::notice("NOTICE", "00000", "waiting", None, None, to));
    add(&|to| write::notification(5, b"jobs", b"", to));
    add(&|to| write::copy_out(CopyFormat { format: 0, columns: Formats::default() }, to));
    add(&|to| write::copy_data(b"x\n", to));
    add(&write::copy_done);
    add(&|to| write::negotiate(2, &[b"_pq_.a", b"_pq_.b"], to));
    add(&|to| write::negotiate(0, &[], to));
    all
}

#[test]
fn every_message_is_read_exactly() {
    let messages = messages();
    let mut tags: Vec<u8> = messages.iter().map(|message| message[0]).collect();
    messages.iter().for_each(|message| check(message, backend_again));
    tags.sort_unstable();
    tags.dedup();
    for tag in 0..=u8::MAX {
        let known = backend(tag, b"") != Err(WireError::UnknownTag);
        assert_eq!(known, tags.contains(&tag), "{tag}");
    }
}

#[test]
fn the_fields_are_what_was_written() {
    let mut to = Vec::new();
    write::row_description(&[COLUMN, Column { name: b"", format: 1, ..COLUMN }], &mut to);
    let Backend::RowDescription(columns) = read_backend(&to) else { panic!() };
    assert_eq!(columns.len(), 2);
    let all: Vec<_> = columns.iter().collect();
    assert_eq!(all, [COLUMN, Column { name: b"", format: 1, ..COLUMN }]);

    to.clear();
    write::error("FATAL", "28000", "no", None, Some("ask"), &mut to);
    let Backend::Error(fields) = read_backend(&to) else { panic!() };
    let all: Vec<_> = fields.iter().map(|(code, value)| (code, value.to_vec())).collect();
    let own = |code, text: &str| (code, text.as_bytes().to_vec());
    let (s, v, c) = (own(b'S', "FATAL"), own(b'V', "FATAL"), own(b'C', "28000"));
    assert_eq!(all, [s, v, c, own(b'M', "no"), own(b'H', "ask")]);
    assert_eq!((fields.get(b'C'), fields.get(b'D')), (Some(&b"28000"[..]), None));

    to.clear();
    write::auth_sasl(&["A", "B"], &mut to);
    let Backend::Auth(Auth::Sasl { mechanisms }) = read_backend(&to) else { panic!() };
    assert_eq!(mechanisms.collect::<Vec<_>>(), [b"A", b"B"]);

    to.clear();
    write::negotiate(2, &[b"_pq_.a", b"_pq_.b"], &mut to);
    let Backend::Negotiate { version, options } = read_backend(&to) else { panic!() };
    assert_eq!(version, 0x0003_0002);
    assert_eq!(options.collect::<Vec<_>>(), [b"_pq_.a", b"_pq_.b"]);

    to.clear();
    write::key(u32::MAX, &[7; 32], &mut to);
    assert_eq!(read_backend(&to), Backend::Key { pid: u32::MAX, secret: &[7; 32] });
    to.clear();
    write::status(b"TimeZone", b"UTC", &mut to);
    assert_eq!(read_backend(&to), Backend::Status { name: b"TimeZone", value: b"UTC" });
    to.clear();
    write::notification(5, b"jobs", b"42", &mut to);
    let heard = Backend::Notification { pid: 5, channel: b"jobs", payload: b"42" };
    assert_eq!(read_backend(&to), heard);
    assert_eq!(
        backend(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]),
        Ok(Backend::Auth(Auth::Md5 { salt: [1, 2, 3, 4] }))
    );
    assert_eq!(backend(b'R', &[0, 0, 0, 9, 1]), Ok(Backend::Auth(Auth::Other(9))));
    let body = [1, 0, 2, 0, 1, 0, 0];
    let Ok(Backend::CopyOut(form)) = backend(b'H', &body) else { panic!() };
    assert_eq!((form.format, form.columns.iter().collect::<Vec<_>>()), (1, vec![1, 0]));
}

#[test]
fn a_body_that_contradicts_itself_is_refused() {
    let secret = |len: usize| vec![0; 4 + len];
    for (tag, body, error) in [
        (b'Z', &b"X"[..], WireError::Status),
        (b'Z', b"II", WireError::Trailing),
        (b'K', &secret(3), WireError::Secret),
        (b'K', &secret(0), WireError::Secret),
        (b'K', &secret(257), WireError::Secret),
        (b'T', b"\xff\xff", WireError::Count),
        (b'T', b"\x7f\xff", WireError::Terminator),
        (b'T', b"\0\x01a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", WireError::Format),
        (b'T', b"\0\0a", WireError::Trailing),
        (b't', b"\0\x01\0\0\0", WireError::Truncated),
        (b'E', b"Mtext\0", WireError::Terminator),
        (b'E', b"Mtext", WireError::Terminator),
        (b'E', b"", WireError::Terminator),
        (b'E', b"Ma\0Mb\0\0", WireError::DuplicateField),
        (b'N', b"Ma\0\0Cb\0\0", WireError::Trailing),
        (b'R', b"\0\0\0\0\0", WireError::Trailing),
        (b'R', b"\0\0\0\x05abc", WireError::Truncated),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256", WireError::Terminator),
        (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0", WireError::Terminator),
        (b'R', b"\0\0\0\x0aA\0\0B\0\0", WireError::Trailing),
        (b'R', b"\0\0\0\x0a", WireError::Terminator),
        (b'v', b"\0\x03\0\0\0\0\0\x02a\0", WireError::Count),
        (b'v', b"\0\x03\0\0\xff\xff\xff\xff", WireError::Count),
        (b'v', b"\0\x03\0\0\0\0\0\x01a", WireError::Terminator),
        (b'G', b"\x02\0\0", WireError::Format),
        (b'G', b"\0\0\x01\0\x01", WireError::Format),
        (b'G', b"\0\x80\0", WireError::Count),
        (b'V', b"\xff\xff\xff\xfe", WireError::Length),
        (b'C', b"SELECT 1\0\0", WireError::Trailing),
        (b'1', b"\0", WireError::Trailing),
    ] {
        assert_eq!(backend(tag, body), Err(error), "{} {body:?}", char::from(tag));
    }
}

#[test]
fn a_text_for_people_ends_at_its_zero_byte() {
    let mut to = Vec::new();
    write::error("ERROR", "42501", "no\0Mforged", None, None, &mut to);
    let Backend::Error(fields) = read_backend(&to) else { panic!() };
    assert_eq!(fields.get(b'M'), Some(&b"no"[..]));
    assert_eq!(fields.iter().count(), 4);
}

#[test]
fn fields_can_be_left_out() {
    let mut from = Vec::new();
    write::error(
        "ERROR",
        "23502",
        "null value",
        Some("Failing row contains (..)"),
        None,
        &mut from,
    );
    let Backend::Error(fields) = read_backend(&from) else { panic!() };
    let mut to = Vec::new();
    write::error_fields(fields.iter().filter(|(code, _)| *code != b'D'), &mut to);
    let mut expected = Vec::new();
    write::error("ERROR", "23502", "null value", None, None, &mut expected);
    assert_eq!(to, expected);
    assert_eq!(split(&to).0, b'E');
}

#[test]
fn values_are_not_printed() {
    for message in messages() {
        let shown = format!("{:?}", read_backend(&message));
        assert!(shown.len() < 20, "{shown}");
    }
}
