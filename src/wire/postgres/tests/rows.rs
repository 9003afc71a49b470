//! Rows, whole and in parts.

use super::split;
use crate::wire::postgres::{Cells, RowStep, RowWalk, WireError, write};

type Row = Vec<Option<Vec<u8>>>;

fn body(cells: &[Option<&[u8]>]) -> Vec<u8> {
    let mut to = Vec::new();
    write::data_row(cells, &mut to);
    split(&to).1.to_vec()
}

/// The cells of a whole row, each also by its range.
fn whole(body: &[u8]) -> Result<Row, WireError> {
    let mut cells = Cells::new(body)?;
    let mut row = Vec::new();
    let count = cells.left();
    while let Some(cell) = cells.next()? {
        let range = cells.range();
        assert_eq!(cell.unwrap_or_default(), &body[range.clone()]);
        let len = cell.map_or(-1, |cell| i32::try_from(cell.len()).unwrap());
        assert_eq!(body[range.start - 4..range.start], len.to_be_bytes());
        row.push(cell.map(<[u8]>::to_vec));
        assert_eq!(cells.left() + row.len(), count);
    }
    assert_eq!(cells.next(), Ok(None), "the end stays");
    Ok(row)
}

/// The cells of a row of `len` bytes that comes in `parts`, and how many bytes were read.
fn walked(len: usize, parts: &[&[u8]]) -> Result<(Row, usize, bool), WireError> {
    let mut walk = RowWalk::new(len);
    let (mut row, mut read, mut count, mut due) = (Row::new(), 0, None, 0);
    for part in parts {
        let mut at = 0;
        while let Some(step) = match walk.next(part, &mut at) {
            Ok(step) => step,
            Err(error) => {
                assert_eq!(walk.next(part, &mut at), Err(error), "an error stays");
                return Err(error);
            }
        } {
            match step {
                RowStep::Count(cells) => count = Some(cells),
                RowStep::Cell { index, len } => {
                    assert_eq!((usize::from(index), due), (row.len(), 0));
                    row.push(len.map(|_| Vec::new()));
                    due = len.unwrap_or(0);
                }
                RowStep::Bytes { index, range, last } => {
                    assert_eq!(usize::from(index) + 1, row.len());
                    due -= u32::try_from(range.len()).unwrap();
                    assert_eq!((last, range.is_empty()), (due == 0, false));
                    row.last_mut().unwrap().as_mut().unwrap().extend_from_slice(&part[range]);
                }
                RowStep::End => assert_eq!((count, due), (Some(row.len() as u16), 0)),
            }
        }
        read += at;
    }
    Ok((row, read, walk.is_done()))
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        body(&[]),
        body(&[None]),
        body(&[Some(b"")]),
        body(&[Some(b"a"), None, Some(b""), Some(b"\xff\xff\xff\xff\0"), None]),
        body(&[Some(b""), Some(b""), Some(b"last")]),
        // Hostile ones.
        vec![],
        vec![0],
        vec![0xff, 0xff],
        vec![0x7f, 0xff],
        vec![0, 0, 0],
        b"\0\x01\xff\xff\xff\xff\0".to_vec(),
        b"\0\x01\xff\xff\xff\xfe".to_vec(),
        b"\0\x01\x80\0\0\0".to_vec(),
        b"\0\x01\x7f\xff\xff\xffabc".to_vec(),
        b"\0\x02\0\0\0\x01a\0\0\0\x02b".to_vec(),
        b"\0\x02\0\0\0\x04a\0\0\0\x01b".to_vec(),
        b"\0\x02\0\0\0\x01a".to_vec(),
    ]
}

#[test]
fn a_row_in_parts_is_the_row() {
    for body in samples() {
        let expected = whole(&body);
        let once = walked(body.len(), &[&body]);
        match (&expected, &once) {
            (Ok(row), Ok(seen)) => assert_eq!((row, body.len(), true), (&seen.0, seen.1, seen.2)),
            (Err(_), Err(_)) => {}
            other => panic!("{body:?}: {other:?}"),
        }
        for cut in 0..=body.len() {
            let parts = [&body[..cut], &[], &body[cut..], b"D\0\0\0\x08the next message"];
            match (walked(body.len(), &parts), &once) {
                (Err(error), Err(whole)) => assert_eq!(error, *whole, "cut at {cut}"),
                (Ok(seen), Ok(_)) => assert_eq!(seen, once.clone().unwrap(), "cut at {cut}"),
                other => panic!("{body:?} cut at {cut}: {other:?}"),
            }
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        match walked(body.len(), &bytes) {
            // No byte, no step: the row that is none at all is heard of with the next byte.
            Ok((row, 0, false)) => assert!(row.is_empty() && body.is_empty()),
            seen => assert_eq!(seen.clone().err(), once.clone().err(), "byte by byte: {body:?}"),
        }
    }
}

#[test]
fn bytes_behind_the_row_are_not_read() {
    let row = body(&[Some(b"abc"), None]);
    let both = [&row[..], &row[..]].concat();
    let (cells, read, done) = walked(row.len(), &[&both]).unwrap();
    assert_eq!((cells.len(), read, done), (2, row.len(), true));
}

#[test]
fn a_row_cut_short_is_never_done() {
    let row = body(&[Some(b"abc"), None, Some(b"de")]);
    for len in 0..row.len() {
        assert!(whole(&row[..len]).is_err(), "cut at {len}");
        assert!(walked(len, &[&row[..len]]).is_err(), "a body of {len}");
        let (_, read, done) = walked(row.len(), &[&row[..len]]).unwrap();
        assert_eq!((read, done), (len, false));
    }
}

#[test]
fn a_bad_length_is_heard_before_its_cell() {
    // The second cell claims more than the row has; the first one more than leaves room for it.
    let mut walk = RowWalk::new(2 + 4 + 1 + 4 + 1);
    let mut at = 0;
    let second = b"\0\x02\0\0\0\x01a\0\0\0\x02";
    let mut steps = 0;
    let error = loop {
        match walk.next(second, &mut at) {
            Ok(Some(_)) => steps += 1,
            Ok(None) => panic!("no error"),
            Err(error) => break error,
        }
    };
    assert_eq!((error, steps), (WireError::Truncated, 3));
    let mut walk = RowWalk::new(2 + 4 + 1 + 4 + 1);
    let mut at = 0;
    let first = b"\0\x02\0\0\0\x03";
    assert_eq!(walk.next(first, &mut at), Ok(Some(RowStep::Count(2))));
    assert_eq!(walk.next(first, &mut at), Err(WireError::Truncated));
}

#[test]
fn a_cell_larger_than_any_buffer_goes_by_in_parts() {
    let len = 300 << 20;
    let mut walk = RowWalk::new(2 + 4 + len);
    let mut at = 0;
    let head = [&[0, 1][..], &u32::try_from(len).unwrap().to_be_bytes()].concat();
    assert_eq!(walk.next(&head, &mut at), Ok(Some(RowStep::Count(1))));
    let cell = RowStep::Cell { index: 0, len: Some(300 << 20) };
    assert_eq!(walk.next(&head, &mut at), Ok(Some(cell)));
    let part = vec![b'x'; 1 << 20];
    for n in 1..=300 {
        let mut at = 0;
        let step = RowStep::Bytes { index: 0, range: 0..1 << 20, last: n == 300 };
        assert_eq!(walk.next(&part, &mut at), Ok(Some(step)));
    }
    assert_eq!(walk.next(&[], &mut 0), Ok(Some(RowStep::End)));
    assert!(walk.is_done());
}
