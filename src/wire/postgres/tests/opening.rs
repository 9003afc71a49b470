//! Packets before the start.

use crate::wire::postgres::{
    MINOR_MAX, OPENING_LEN_MAX, Opening, PARAMS_MAX, Startup, WireError, opening, write,
};

/// The packet in `packet`; every shorter part of it must ask for more.
fn read(packet: &[u8]) -> Result<Opening<'_>, WireError> {
    let whole = opening(packet);
    for len in 0..packet.len() {
        match opening(&packet[..len]) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("a packet of {len} of {} bytes", packet.len()),
            Err(error) => assert_eq!(Err(error), whole, "cut at {len}"),
        }
    }
    let mut more = packet.to_vec();
    more.extend_from_slice(b"\0\0\0\x08more");
    assert_eq!(opening(&more), whole, "what follows changes nothing");
    let (packet_read, len) = whole?.unwrap();
    assert_eq!(len, packet.len());
    Ok(packet_read)
}

fn startup(minor: u16, params: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut to = Vec::new();
    write::startup(minor, params, &mut to);
    to
}

fn of(packet: &[u8]) -> Startup<'_> {
    match read(packet) {
        Ok(Opening::Startup(startup)) => startup,
        other => panic!("{other:?}"),
    }
}

/// A packet of this body behind its length.
fn raw(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).unwrap();
    [&len.to_be_bytes()[..], body].concat()
}

const V3: &[u8] = &[0, 3, 0, 0];

#[test]
fn the_requests_are_read() {
    assert_eq!(write::SSL_REQUEST, [0, 0, 0, 8, 4, 210, 22, 47]);
    assert_eq!(read(&write::SSL_REQUEST), Ok(Opening::Ssl));
    assert_eq!(read(&write::GSS_REQUEST), Ok(Opening::Gss));
    for len in [4, 32, 256] {
        let secret = vec![7; len];
        let mut packet = Vec::new();
        write::cancel(0x8000_0001, &secret, &mut packet);
        assert_eq!(read(&packet), Ok(Opening::Cancel { pid: 0x8000_0001, secret: &secret }));
    }
}

#[test]
fn a_request_has_its_length_and_no_other() {
    let with = |code: u32, len: usize| raw(&[&code.to_be_bytes()[..], &vec![0; len]].concat());
    assert_eq!(read(&with(80_877_103, 1)), Err(WireError::Length));
    assert_eq!(read(&with(80_877_104, 4)), Err(WireError::Length));
    assert_eq!(read(&with(80_877_105, 0)), Err(WireError::UnknownRequest));
    assert_eq!(read(&with(80_877_101, 0)), Err(WireError::UnknownRequest));
    for secret in [0, 3, 257, 1_000] {
        assert_eq!(read(&with(80_877_102, 4 + secret)), Err(WireError::Secret), "{secret}");
    }
    for len in 0..4u32 {
        assert_eq!(opening(&len.to_be_bytes()), Err(WireError::Length));
    }
    assert_eq!(opening(&7u32.to_be_bytes()), Err(WireError::Length));
    // A TLS record, an HTTP request and a negative length are lengths beyond the limit.
    for hostile in [b"\x16\x03\x01\x02\x00", b"GET /", b"\xff\xff\xff\xff\0"] {
        assert_eq!(opening(hostile), Err(WireError::TooLong));
    }
}

#[test]
fn a_start_of_any_minor_version_is_read() {
    let params: &[(&[u8], &[u8])] =
        &[(b"user", b"ana"), (b"database", b"orders"), (b"options", b"-c a=b"), (b"x", b"")];
    for minor in [0, 1, 2, 9_999] {
        let packet = startup(minor, params);
        let start = of(&packet);
        assert_eq!(start.minor, minor);
        assert_eq!(start.params().collect::<Vec<_>>(), params);
        assert_eq!(start.get(b"database"), Some(&b"orders"[..]));
        assert_eq!(start.get(b"x"), Some(&b""[..]));
        assert_eq!((start.get(b"USER"), start.get(b"use"), start.get(b"")), (None, None, None));
        assert_eq!(start.negotiates(), minor > MINOR_MAX);
    }
    assert_eq!(of(&startup(0, &[])).params().count(), 0);
}

#[test]
fn options_of_the_protocol_are_named() {
    let packet = startup(
        2,
        &[
            (b"user", b"a"),
            (b"_pq_.test_protocol_negotiation", b""),
            (b"_PQ_.x", b""),
            (b"_pq_.", b"1"),
        ],
    );
    let start = of(&packet);
    let names: Vec<_> = start.options_unknown().collect();
    assert_eq!(names, [&b"_pq_.test_protocol_negotiation"[..], b"_pq_."]);
    assert!(start.negotiates());
    assert!(!of(&startup(2, &[(b"user", b"a")])).negotiates());
}

#[test]
fn another_major_version_is_refused_before_its_body_came() {
    for version in [[0, 2, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0x80, 3, 0, 0], [0, 1, 0, 3]] {
        let packet = raw(&[&version[..], b"user\0a\0\0"].concat());
        assert_eq!(read(&packet), Err(WireError::Version), "{version:?}");
        assert_eq!(opening(&packet[..8]), Err(WireError::Version), "{version:?}");
    }
}

#[test]
fn a_list_that_does_not_end_as_it_must_is_refused() {
    for (body, error) in [
        (&b""[..], WireError::Terminator),
        (b"user\0a\0", WireError::Terminator),
        (b"user\0a", WireError::Terminator),
        (b"user\0\0", WireError::Terminator),
        (b"user\0a\0\0\0", WireError::Trailing),
        (b"\0\0", WireError::Trailing),
        (b"user\0a\0\0database\0b\0\0", WireError::Trailing),
    ] {
        assert_eq!(read(&raw(&[V3, body].concat())), Err(error), "{body:?}");
    }
}

#[test]
fn a_name_stands_once_in_any_case() {
    for (one, other) in [("user", "user"), ("search_path", "Search_Path"), ("_pq_.a", "_pq_.A")] {
        let packet =
            startup(0, &[(one.as_bytes(), b"a"), (b"database", b"b"), (other.as_bytes(), b"a")]);
        assert_eq!(read(&packet), Err(WireError::DuplicateParameter), "{other}");
    }
}

#[test]
fn number_and_size_of_parameters_are_bounded() {
    let names: Vec<String> = (0..=PARAMS_MAX).map(|n| format!("p{n}")).collect();
    let params: Vec<(&[u8], &[u8])> = names.iter().map(|n| (n.as_bytes(), &b"v"[..])).collect();
    assert_eq!(of(&startup(0, &params[..PARAMS_MAX])).params().count(), PARAMS_MAX);
    assert_eq!(opening(&startup(0, &params)), Err(WireError::TooManyParameters));

    // Head, "user", two zero bytes of strings and the last one.
    let room = OPENING_LEN_MAX - 8 - 4 - 2 - 1;
    let longest = startup(0, &[(b"user", &vec![b'a'; room])]);
    assert_eq!(longest.len(), OPENING_LEN_MAX);
    assert!(matches!(opening(&longest), Ok(Some((Opening::Startup(_), OPENING_LEN_MAX)))));
    let longer = startup(0, &[(b"user", &vec![b'a'; room + 1])]);
    assert_eq!(opening(&longer), Err(WireError::TooLong));
    assert_eq!(opening(&longer[..4]), Err(WireError::TooLong));
}

#[test]
fn nothing_of_it_is_printed() {
    let packet = startup(2, &[(b"user", b"hunter2")]);
    let mut cancel = Vec::new();
    write::cancel(1, b"hunter2", &mut cancel);
    assert_eq!(
        format!("{:?} {:?}", of(&packet), read(&cancel).unwrap()),
        "Startup(3.2) Cancel(..)"
    );
}
