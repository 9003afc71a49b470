//! What was written is what is read, and what cannot be written truly is refused by every reader.

use super::{backend_again, frontend_again, read_backend, read_frontend, split};
use crate::wire::postgres::{
    Backend, Cells, Column, FRAME_LEN_MAX, Frontend, Opening, RowStep, RowWalk, WireError, frame,
    opening, write,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// The tags of both sides.
const TAGS: &[u8] = b"QPBDECHSXdcfFpRSKZTDCIs123ntENAGHWVv";

/// A byte that lengths, counts and codes are made of, or any.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0), Just(1), Just(2), Just(0xff), Just(b'P'), any::<u8>()]
}

/// A text without a zero byte.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(1..=u8::MAX, 0..24)
}

fn value() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(vec(any::<u8>(), 0..24))
}

fn views(values: &[Option<Vec<u8>>]) -> Vec<Option<&[u8]>> {
    values.iter().map(Option::as_deref).collect()
}

proptest! {
    #[test]
    fn a_bind_is_read_as_written(
        portal in text(), statement in text(), values in vec(value(), 0..8),
        binary in any::<bool>(), results in vec(0i16..=1, 0..8),
    ) {
        let formats = vec![i16::from(binary); values.len()];
        let mut to = Vec::new();
        write::bind(&portal, &statement, &formats, &views(&values), &results, &mut to);
        let Frontend::Bind(bind) = read_frontend(&to) else { panic!() };
        prop_assert_eq!((bind.portal, bind.statement), (&portal[..], &statement[..]));
        prop_assert_eq!(bind.values.iter().collect::<Vec<_>>(), views(&values));
        prop_assert_eq!(bind.formats.iter().collect::<Vec<_>>(), formats);
        prop_assert_eq!(bind.results.iter().collect::<Vec<_>>(), results);
    }

    #[test]
    fn a_row_is_read_as_written_in_any_parts(
        values in vec(value(), 0..12), ends in vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut to = Vec::new();
        write::data_row(&views(&values), &mut to);
        let (_, body) = split(&to);
        let mut cells = Cells::new(body).unwrap();
        let mut row = Vec::new();
        while let Some(cell) = cells.next().unwrap() {
            row.push(cell.map(<[u8]>::to_vec));
        }
        prop_assert_eq!(&row, &values);

        let mut ends: Vec<usize> = ends.iter().map(|end| end.index(body.len() + 1)).collect();
        ends.push(body.len());
        ends.sort_unstable();
        let mut walk = RowWalk::new(body.len());
        let (mut row, mut start) = (Vec::new(), 0);
        for end in ends {
            let part = &body[start..end];
            let mut at = 0;
            while let Some(step) = walk.next(part, &mut at).unwrap() {
                match step {
                    RowStep::Cell { len, .. } => row.push(len.map(|_| Vec::new())),
                    RowStep::Bytes { range, .. } => {
                        row.last_mut().unwrap().as_mut().unwrap().extend_from_slice(&part[range]);
                    }
                    RowStep::Count(_) | RowStep::End => {}
                }
            }
            prop_assert_eq!(at, part.len());
            start = end;
        }
        prop_assert!(walk.is_done());
        prop_assert_eq!(row, values);
    }

    #[test]
    fn columns_are_read_as_written(
        columns in vec((text(), any::<u32>(), any::<i16>(), any::<i32>(), 0i16..=1), 0..8),
    ) {
        let columns: Vec<Column<'_>> = columns
            .iter()
            .map(|(name, number, small, modifier, format)| Column {
                name, table: *number, attribute: *small, kind: !number, kind_len: !small,
                modifier: *modifier, format: *format,
            })
            .collect();
        let mut to = Vec::new();
        write::row_description(&columns, &mut to);
        let Backend::RowDescription(read) = read_backend(&to) else { panic!() };
        prop_assert_eq!(read.iter().collect::<Vec<_>>(), columns);
    }

    #[test]
    fn a_start_is_read_as_written(
        minor in any::<u16>(), values in vec(text(), 0..12), prefix in "[a-z_.]{1,8}",
    ) {
        let names: Vec<String> = (0..values.len()).map(|n| format!("{prefix}{n}")).collect();
        let params: Vec<(&[u8], &[u8])> =
            names.iter().zip(&values).map(|(name, value)| (name.as_bytes(), &value[..])).collect();
        let mut to = Vec::new();
        write::startup(minor, &params, &mut to);
        let Ok(Some((Opening::Startup(start), len))) = opening(&to) else { panic!() };
        prop_assert_eq!((start.minor, len), (minor, to.len()));
        prop_assert_eq!(start.params().collect::<Vec<_>>(), params);
    }

    #[test]
    fn any_body_is_refused_or_has_one_encoding(
        tag in prop::sample::select(TAGS),
        body in vec(byte(), 0..40),
    ) {
        for again in [frontend_again, backend_again] {
            if let Ok(written) = again(tag, &body) {
                prop_assert_eq!(split(&written), (tag, &body[..]));
            }
        }
    }
}

#[test]
fn what_cannot_be_said_is_refused_by_every_reader() {
    let untrue = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut to = b"S\0\0\0\x04".to_vec();
        fill(&mut to);
        assert_eq!(frame(&to[..5]).unwrap().unwrap().len, 0, "what stood before it stays");
        assert_eq!(frame(&to[5..]), Err(WireError::TooLong));
    };
    untrue(&|to| write::query(b"select 1\0; drop table t", to));
    untrue(&|to| write::parse(b"a\0b", b"", &[], to));
    untrue(&|to| write::parse(b"", b"", &[0; 65_536], to));
    untrue(&|to| write::bind(b"", b"", &[], &[None; 65_536], &[], to));
    untrue(&|to| write::describe(true, b"\0", to));
    untrue(&|to| write::execute(b"", 0x8000_0000, to));
    untrue(&|to| write::secret(b"hunter\0two", to));
    untrue(&|to| write::data_row(&[None; 32_768], to));
    untrue(&|to| write::key(1, b"abc", to));
    untrue(&|to| write::key(1, &[0; 257], to));
    untrue(&|to| write::auth_sasl(&["A", ""], to));
    untrue(&|to| write::error_fields([(0, &b"x"[..])], to));
    untrue(&|to| write::status(b"a", b"b\0", to));

    for params in [[(&b"user"[..], &b"a\0role\0b"[..])], [(b"", b"a")]] {
        let mut to = Vec::new();
        write::startup(0, &params, &mut to);
        assert_eq!(opening(&to), Err(WireError::TooLong));
    }
    let mut to = Vec::new();
    write::cancel(1, b"", &mut to);
    assert_eq!(opening(&to), Err(WireError::TooLong));
}

#[test]
fn a_head_alone_is_written_up_to_the_limit() {
    let most = usize::try_from(FRAME_LEN_MAX).unwrap() - 4;
    let mut to = Vec::new();
    write::head(b'D', most, &mut to).unwrap();
    assert_eq!(frame(&to).unwrap().unwrap().len, most);
    for len in [most + 1, usize::MAX] {
        assert_eq!(write::head(b'D', len, &mut to), Err(WireError::TooLong));
    }
    assert_eq!(to.len(), 5);
}
