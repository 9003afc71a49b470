//! The client against a small server on a thread.

use super::*;
use crate::base::Secret;
use crate::wire::postgres::{Column, Frontend, Opening, frontend, opening};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

/// Answers the start-up packet and the first message behind it with these bytes.
fn server(start: Vec<u8>, then: Vec<u8>) -> (Target, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a caller");
        let mut got = packet(&mut socket);
        assert!(matches!(opening(&got), Ok(Some((Opening::Startup(_), _)))));
        socket.write_all(&start).expect("written");
        let mut more = Vec::new();
        let mut room = [0; 4096];
        if let Ok(count) = socket.read(&mut room) {
            more.extend_from_slice(room.get(..count).unwrap_or_default());
        }
        let _ = socket.write_all(&then);
        got.extend(more);
        got
    });
    let target = Target {
        host: "127.0.0.1".into(),
        port,
        database: "d".into(),
        tls: None,
        auth: AuthMethods::default(),
    };
    (target, thread)
}

fn packet(socket: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut byte = [0];
    while !matches!(opening(&got), Ok(Some(_))) {
        socket.read_exact(&mut byte).expect("a packet");
        got.push(byte[0]);
    }
    got
}

fn open() -> Vec<u8> {
    let mut bytes = Vec::new();
    write::auth_ok(&mut bytes);
    write::status(b"server_version", b"15.4", &mut bytes);
    write::ready(TxStatus::Idle, &mut bytes);
    bytes
}

fn nobody() -> OperatorLogin {
    OperatorLogin::new("app".into(), Secret::new(Vec::new()), None)
}

const SILENCE: Duration = Duration::from_secs(5);

#[test]
fn a_query_is_answered_by_columns_rows_and_a_tag_or_an_error() {
    let mut then = Vec::new();
    let column = Column {
        name: b"a",
        table: 0,
        attribute: 0,
        kind: 25,
        kind_len: -1,
        modifier: -1,
        format: 0,
    };
    write::notice("NOTICE", "00000", "aside", None, None, &mut then);
    write::row_description(&[column], &mut then);
    write::data_row(&[Some(b"x")], &mut then);
    write::complete(b"SELECT 1", &mut then);
    write::error("ERROR", "42601", "syntax", None, None, &mut then);
    write::ready(TxStatus::Failed, &mut then);
    let (target, thread) = server(open(), then);
    let mut database =
        Database::connect(&target, &nobody(), &[("search_path", "public")], Times::of(SILENCE))
            .expect("in");
    assert_eq!((database.version(), database.encryption().as_str()), ("15.4", "plain text"));
    let answers = database.query("select a; x").expect("answers");
    let [first, second] = answers.as_slice() else { panic!("two answers") };
    assert_eq!((first.columns.as_slice(), first.rows.len()), (&["a".to_owned()][..], 1));
    assert_eq!(first.outcome, Ok("SELECT 1".to_owned()));
    assert_eq!(second.outcome.as_ref().map_err(|error| error.code.as_str()), Err("42601"));
    assert_eq!(database.status(), TxStatus::Failed);
    let got = thread.join().expect("the server");
    let len = got.len() - "select a; x".len() - 6;
    let sent = frontend(b'Q', got.get(len + 5..).unwrap_or_default());
    assert_eq!(sent, Ok(Frontend::Query(b"select a; x")));
}

#[test]
fn a_server_that_is_not_one_lets_nobody_wait_or_in() {
    for (start, says) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "no message"),
        (b"Z\0\0\0\x05I".to_vec(), "out of order"),
        (b"R\0\0\0\x08\0\0\0\x03".to_vec(), "none is given"),
        (Vec::new(), "ended"),
    ] {
        let (target, thread) = server(start, Vec::new());
        let error =
            Database::connect(&target, &nobody(), &[], Times::of(SILENCE)).err().expect("refused");
        // What was not read may reset the connection before its end is seen.
        let told = error.to_string();
        assert!(told.contains(says) || says == "ended", "{told}");
        drop(thread);
    }
    let login = OperatorLogin::new("app".into(), Secret::new(b"hunter2-hunter2".to_vec()), None);
    let (target, _thread) = server(open(), Vec::new());
    let error = Database::connect(&target, &login, &[], Times::of(SILENCE)).err().expect("refused");
    assert!(matches!(error, DatabaseError::NoProof), "{error}");
}

#[test]
fn a_code_is_five_letters_and_digits_and_nothing_else_that_a_server_says() {
    assert_eq!(code(b"42P01"), "42P01");
    for other in
        [&b""[..], b"42p01", b"42P0", b"42P011", b"S3cretPassw0rd-xyz", b"\xff\xff\xff\xff\xff"]
    {
        assert_eq!(code(other), "?????");
    }
}

/// A server that says the same again and again: at the start, or behind it.
fn endless(start: Vec<u8>, again: Vec<u8>) -> Target {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().expect("a caller");
        packet(&mut socket);
        socket.write_all(&start).expect("written");
        while socket.write_all(&again).is_ok() {}
    });
    let (host, database) = ("127.0.0.1".into(), "d".into());
    Target { host, port, database, tls: None, auth: AuthMethods::default() }
}

#[test]
fn a_server_that_always_says_something_has_its_time() {
    let short = Duration::from_millis(300);
    let times = Times { login: short, silence: SILENCE, statement: short };
    let mut notice = Vec::new();
    write::notice("NOTICE", "00000", "wait", None, None, &mut notice);
    let target = endless(Vec::new(), notice.clone());
    let error = Database::connect(&target, &nobody(), &[], times).err().expect("late");
    assert!(error.to_string().contains("in time"), "{error}");
    let times = Times { login: SILENCE, ..times };
    let target = endless(open(), notice);
    let mut database = Database::connect(&target, &nobody(), &[], times).expect("in");
    let error = database.query("select 1").expect_err("late");
    assert!(error.to_string().contains("in time"), "{error}");
}

#[test]
fn a_password_that_was_told_is_in_no_words_of_the_server() {
    let secret = "hunter2-hunter2";
    let login = OperatorLogin::new("app".into(), Secret::new(secret.into()), None);
    let mut start = Vec::new();
    write::auth_cleartext(&mut start);
    let mut then = Vec::new();
    write::auth_ok(&mut then);
    write::status(b"server_version", secret.as_bytes(), &mut then);
    write::ready(TxStatus::Idle, &mut then);
    let (name, kind) = (secret.as_bytes(), 25);
    let column =
        Column { name, table: 0, attribute: 0, kind, kind_len: -1, modifier: -1, format: 0 };
    write::row_description(&[column], &mut then);
    write::complete(secret.as_bytes(), &mut then);
    write::error("ERROR", "42601", secret, Some(secret), None, &mut then);
    write::complete(b"SELECT 1", &mut then);
    write::ready(TxStatus::Idle, &mut then);
    let (mut target, _thread) = server(start, then);
    target.auth = AuthMethods::default().with(crate::credential::AuthMethod::Cleartext);
    let mut database = Database::connect(&target, &login, &[], Times::of(SILENCE)).expect("in");
    assert!(!database.version().contains("hunter"));
    let answers = database.query("select 1").expect("answers");
    let told = format!("{answers:?}");
    assert!(!told.contains("hunter") && told.contains("withheld"), "{told}");
    assert!(told.contains("SELECT 1"), "{told}");
}
