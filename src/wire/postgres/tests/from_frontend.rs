//! Messages of the frontend.

use super::{check, frontend_again, read_frontend, split};
use crate::wire::postgres::{
    Frontend, WireError, frame, frontend, frontend_len_max, password, sasl_initial, write,
};

/// One message of each kind and of each shape, by its writer.
fn messages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut add = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut message = Vec::new();
        fill(&mut message);
        all.push(message);
    };
    add(&|to| write::query(b"select 1; select 2", to));
    add(&|to| write::query(b"", to));
    add(&|to| write::parse(b"s1", b"select $1", &[], to));
    add(&|to| write::parse(b"", b"select $1, $2", &[23, 0], to));
    add(&|to| write::bind(b"", b"", &[], &[], &[], to));
    add(&|to| write::bind(b"p", b"s", &[1], &[Some(b"\0\0\0\x07"), None, Some(b"")], &[0], to));
    add(&|to| write::bind(b"p", b"s", &[0, 1], &[Some(b"a"), Some(b"b")], &[0, 1, 1], to));
    add(&|to| write::describe(true, b"p", to));
    add(&|to| write::describe(false, b"", to));
    add(&|to| write::close(true, b"", to));
    add(&|to| write::close(false, b"s1", to));
    add(&|to| write::execute(b"p", 0, to));
    add(&|to| write::execute(b"", 0x7fff_ffff, to));
    add(&write::flush);
    add(&write::sync);
    add(&write::terminate);
    add(&|to| write::copy_data(b"1\tana\n", to));
    add(&|to| write::copy_data(b"", to));
    add(&write::copy_done);
    add(&|to| write::copy_fail(b"no more", to));
    add(&|to| write::secret(b"hunter2", to));
    add(&|to| write::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc", to));
    add(&|to| write::sasl_response(b"c=biws,r=abc", to));
    // FunctionCall: function 957, one format, two arguments of which one is NULL, text result.
    let call = [
        &[0, 0, 3, 0xbd, 0, 1, 0, 1, 0, 2][..],
        &[0, 0, 0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff, 0, 0],
    ]
    .concat();
    all.push([&b"F"[..], &(call.len() as u32 + 4).to_be_bytes(), &call].concat());
    all
}

#[test]
fn every_message_is_read_exactly() {
    let messages = messages();
    let mut tags: Vec<u8> = messages.iter().map(|message| message[0]).collect();
    messages.iter().for_each(|message| check(message, frontend_again));
    tags.sort_unstable();
    tags.dedup();
    for tag in 0..=u8::MAX {
        let known = tags.contains(&tag);
        assert_eq!(known, frontend_len_max(tag).is_some(), "{tag}");
        assert_eq!(known, frontend(tag, b"") != Err(WireError::UnknownTag), "{tag}");
    }
}

#[test]
fn the_fields_are_what_was_written() {
    let mut to = Vec::new();
    write::parse(b"s1", b"select $1", &[23, 0x8000_0000], &mut to);
    let Frontend::Parse { name, text, types } = read_frontend(&to) else { panic!() };
    assert_eq!((name, text), (&b"s1"[..], &b"select $1"[..]));
    assert_eq!(types.iter().collect::<Vec<_>>(), [23, 0x8000_0000]);
    assert_eq!((types.get(1), types.get(2), types.len()), (Some(0x8000_0000), None, 2));

    to.clear();
    write::bind(b"p", b"s", &[0, 1], &[Some(b"a"), None], &[1], &mut to);
    let Frontend::Bind(bind) = read_frontend(&to) else { panic!() };
    assert_eq!((bind.portal, bind.statement), (&b"p"[..], &b"s"[..]));
    assert_eq!((0..3).map(|n| bind.formats.of(n)).collect::<Vec<_>>(), [Some(0), Some(1), None]);
    assert_eq!((bind.results.of(0), bind.results.of(1_600)), (Some(1), Some(1)));
    assert_eq!(bind.values.iter().collect::<Vec<_>>(), [Some(&b"a"[..]), None]);
    assert_eq!(bind.values.len(), 2);

    to.clear();
    write::execute(b"p", 50, &mut to);
    assert_eq!(read_frontend(&to), Frontend::Execute { portal: b"p", rows_max: 50 });
    to.clear();
    write::describe(true, b"p", &mut to);
    assert_eq!(read_frontend(&to), Frontend::Describe { portal: true, name: b"p" });
    to.clear();
    write::close(false, b"s", &mut to);
    assert_eq!(read_frontend(&to), Frontend::Close { portal: false, name: b"s" });

    let messages = messages();
    let call = messages.last().unwrap();
    let Frontend::FunctionCall(call) = read_frontend(call) else { panic!() };
    assert_eq!((call.function, call.result, call.formats.of(1)), (957, 0, Some(1)));
    assert_eq!(call.values.iter().collect::<Vec<_>>(), [Some(&b"ab"[..]), None]);
}

#[test]
fn no_format_code_means_text_for_all() {
    let mut to = Vec::new();
    write::bind(b"", b"", &[], &[Some(b"a"), None], &[], &mut to);
    let Frontend::Bind(bind) = read_frontend(&to) else { panic!() };
    assert_eq!((bind.formats.of(1), bind.results.of(99)), (Some(0), Some(0)));
}

#[test]
fn counts_are_read_as_the_server_reads_them() {
    let values = vec![Some(&b"1"[..]); 65_535];
    let mut to = Vec::new();
    write::bind(b"", b"", &[], &values, &[], &mut to);
    let Frontend::Bind(bind) = read_frontend(&to) else { panic!() };
    assert_eq!((bind.values.len(), bind.values.iter().count()), (65_535, 65_535));
}

#[test]
fn a_body_that_contradicts_itself_is_refused() {
    let long = [&b"s\0q\0"[..], &[0xff, 0xff], &[0; 8]].concat();
    for (tag, body, error) in [
        (b'Q', &b"select 1"[..], WireError::Terminator),
        (b'Q', b"select 1\0drop table t\0", WireError::Trailing),
        (b'Q', b"", WireError::Terminator),
        (b'P', b"s\0q", WireError::Terminator),
        (b'P', b"s\0q\0\0", WireError::Truncated),
        (b'P', &long, WireError::Truncated),
        (b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0", WireError::Length),
        (b'B', b"\0\0\0\0\0\x01\x80\0\0\0\0\0", WireError::Length),
        (b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0", WireError::Truncated),
        (b'B', b"\0\0\0\x01\0\x02\0\0\0\0", WireError::Format),
        (b'B', b"\0\0\0\0\0\0\0\x01\xff\xff", WireError::Format),
        (b'B', b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0", WireError::Count),
        (b'B', b"\0\0\0\x02\0\0\0\0\0\0\0\0", WireError::Count),
        (b'B', b"\0\0\xff\xff\0\0", WireError::Truncated),
        (b'D', b"X\0", WireError::Target),
        (b'D', b"s\0", WireError::Target),
        (b'C', b"P", WireError::Terminator),
        (b'E', b"\0\xff\xff\xff\xff", WireError::Count),
        (b'S', b"\0", WireError::Trailing),
        (b'X', b"X", WireError::Trailing),
        (b'F', b"\0\0\0\x01\0\0\0\0\0\x02", WireError::Format),
    ] {
        assert_eq!(frontend(tag, body), Err(error), "{} {body:?}", char::from(tag));
    }
}

#[test]
fn a_length_is_looked_at_before_its_body() {
    for (field, error) in [
        (0u32, WireError::Length),
        (3, WireError::Length),
        ((1 << 30) + 1, WireError::TooLong),
        (0x8000_0000, WireError::TooLong),
        (u32::MAX, WireError::TooLong),
    ] {
        let head = [&b"Q"[..], &field.to_be_bytes()].concat();
        assert_eq!(frame(&head), Err(error), "{field}");
    }
    let head = frame(b"Q\x40\0\0\0").unwrap().unwrap();
    assert_eq!((head.tag, head.len), (b'Q', (1 << 30) - 4));
    assert_eq!(frame(b"S\0\0\0\x04rest").unwrap().unwrap().len, 0);
}

#[test]
fn the_three_kinds_of_secret_are_told_apart_by_the_reader() {
    let mut to = Vec::new();
    write::secret(b"hunter2", &mut to);
    assert_eq!(password(split(&to).1), Ok(&b"hunter2"[..]));
    assert_eq!(password(b"hunter2"), Err(WireError::Terminator));
    assert_eq!(password(b"hunter2\0more\0"), Err(WireError::Trailing));

    to.clear();
    write::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=a", &mut to);
    let body = split(&to).1.to_vec();
    let first = sasl_initial(&body).unwrap();
    assert_eq!((first.mechanism, first.data), (&b"SCRAM-SHA-256"[..], Some(&b"n,,n=,r=a"[..])));
    for len in 0..body.len() {
        assert!(sasl_initial(&body[..len]).is_err(), "cut at {len}");
    }
    assert_eq!(sasl_initial(&[&body[..], b"x"].concat()), Err(WireError::Trailing));
    assert_eq!(sasl_initial(b"X\0\xff\xff\xff\xff").unwrap().data, None);
    assert_eq!(sasl_initial(b"X\0\xff\xff\xff\xfe"), Err(WireError::Length));

    to.clear();
    write::sasl_response(b"c=biws", &mut to);
    assert_eq!(split(&to), (b'p', &b"c=biws"[..]));
}

#[test]
fn texts_and_secrets_are_not_printed() {
    for message in messages() {
        let shown = format!("{:?}", read_frontend(&message));
        assert!(shown.len() < 16 && !shown.contains("select"), "{shown}");
    }
}
