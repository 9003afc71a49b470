//! PostgreSQL's messages: what is read is written again byte for byte, and no cut changes a row.
//!
//! First byte: `o` a packet before the start, `f` messages of the frontend, `b` of the backend, `r`
//! the body of a DataRow, `c` the certificate that a login is bound to.

use super::cuts;
use weirgate::credential::server_end_point;
use weirgate::wire::postgres::{
    Auth, Backend, Cells, FRAME_HEAD, Frontend, Opening, RowStep, RowWalk, WireError, backend,
    frame, frontend, opening, password, sasl_initial, write,
};

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, data)) = cuts::mode(data) else { return };
    match mode {
        b'f' => messages(data, one_of_frontend),
        b'b' => messages(data, one_of_backend),
        b'r' => row(data),
        b'c' => certificate(data),
        _ => before(data),
    }
}

fn before(data: &[u8]) {
    let whole = opening(data);
    let Ok(Some((packet, len))) = whole else {
        return;
    };
    for end in 0..len {
        let part = data.get(..end).unwrap_or_default();
        assert_eq!(opening(part), Ok(None), "{end} of {len} bytes");
    }
    let mut again = Vec::new();
    match packet {
        Opening::Ssl => again.extend_from_slice(&write::SSL_REQUEST),
        Opening::Gss => again.extend_from_slice(&write::GSS_REQUEST),
        Opening::Cancel { pid, secret } => write::cancel(pid, secret, &mut again),
        Opening::Startup(start) => {
            let params: Vec<_> = start.params().collect();
            write::startup(start.minor, &params, &mut again);
            for (name, value) in &params {
                assert_eq!(start.get(name), Some(*value), "a name stands once");
            }
            assert!(start.options_unknown().count() <= params.len());
        }
    }
    assert_eq!(data.get(..len), Some(&again[..]), "written again");
}

/// Messages one after the other, until one is refused or not whole.
fn messages(mut data: &[u8], one: fn(u8, &[u8]) -> Result<Vec<u8>, WireError>) {
    loop {
        for len in 0..FRAME_HEAD.min(data.len()) {
            assert_eq!(frame(data.get(..len).unwrap_or_default()), Ok(None));
        }
        let Ok(Some(head)) = frame(data) else { return };
        let Some(body) = data.get(FRAME_HEAD..FRAME_HEAD + head.len) else { return };
        let Some(message) = data.get(..FRAME_HEAD + head.len) else { return };
        match one(head.tag, body) {
            Ok(again) => assert_eq!(again, message, "written again"),
            Err(_) => return,
        }
        data = data.get(message.len()..).unwrap_or_default();
    }
}

fn one_of_frontend(tag: u8, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let message = frontend(tag, body)?;
    let mut again = Vec::new();
    message.write(&mut again);
    match message {
        Frontend::Bind(bind) => {
            assert_eq!(bind.values.iter().count(), bind.values.len());
            let formats = (0..bind.values.len()).map(|place| bind.formats.of(place));
            assert!(formats.into_iter().all(|format| matches!(format, Some(0 | 1))));
        }
        Frontend::FunctionCall(call) => {
            assert_eq!(call.values.iter().count(), call.values.len());
        }
        Frontend::Parse { types, .. } => assert_eq!(types.iter().count(), types.len()),
        Frontend::Secret(secret) => {
            if let Ok(text) = password(secret) {
                let mut own = Vec::new();
                write::secret(text, &mut own);
                assert_eq!(own, again);
            }
            if let Ok(first) = sasl_initial(secret)
                && let (Ok(name), Some(data)) = (std::str::from_utf8(first.mechanism), first.data)
            {
                let mut own = Vec::new();
                write::sasl_initial(name, data, &mut own);
                assert_eq!(own, again);
            }
        }
        _ => {}
    }
    Ok(again)
}

fn one_of_backend(tag: u8, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let message = backend(tag, body)?;
    let mut again = Vec::new();
    message.write(&mut again);
    match message {
        Backend::RowDescription(columns) => {
            let all: Vec<_> = columns.iter().collect();
            assert_eq!(all.len(), columns.len());
            let mut own = Vec::new();
            write::row_description(&all, &mut own);
            assert_eq!(own, again);
        }
        Backend::DataRow(body) => row(body),
        Backend::Error(fields) | Backend::Notice(fields) => {
            for (code, value) in fields.iter() {
                assert_eq!(fields.get(code), Some(value), "a field stands once");
            }
        }
        // Its data is not kept.
        Backend::Auth(Auth::Other(_)) => return Err(WireError::UnknownTag),
        _ => {}
    }
    Ok(again)
}

type Cell = Option<Vec<u8>>;

fn row(body: &[u8]) {
    let whole = cells(body);
    for ends in cuts::ways(body) {
        let walked = walk(body, &ends);
        match (&whole, &walked) {
            (Ok(whole), Ok(walked)) => assert_eq!(whole, walked, "cut at {ends:?}"),
            (Err(_), Err(_)) => {}
            _ => panic!("{whole:?}, but {walked:?} when cut at {ends:?}"),
        }
    }
    if let Ok(row) = whole {
        let row: Vec<Option<&[u8]>> = row.iter().map(Option::as_deref).collect();
        let mut again = Vec::new();
        write::data_row(&row, &mut again);
        assert_eq!(again.get(FRAME_HEAD..), Some(body), "written again");
    }
}

fn cells(body: &[u8]) -> Result<Vec<Cell>, WireError> {
    let mut cells = Cells::new(body)?;
    let mut row = Vec::new();
    while let Some(cell) = cells.next()? {
        assert_eq!(body.get(cells.range()), Some(cell.unwrap_or_default()));
        row.push(cell.map(<[u8]>::to_vec));
    }
    Ok(row)
}

fn walk(body: &[u8], ends: &[usize]) -> Result<Vec<Cell>, WireError> {
    let mut walk = RowWalk::new(body.len());
    let mut row: Vec<Cell> = Vec::new();
    for part in cuts::parts(body, ends) {
        let mut at = 0;
        while let Some(step) = walk.next(part, &mut at)? {
            match step {
                RowStep::Cell { index, len } => {
                    assert_eq!(usize::from(index), row.len());
                    row.push(len.map(|_| Vec::new()));
                }
                RowStep::Bytes { range, .. } => {
                    let bytes = part.get(range).expect("a range of this input");
                    let cell = row.last_mut().and_then(Option::as_mut).expect("a cell began");
                    cell.extend_from_slice(bytes);
                }
                RowStep::Count(_) | RowStep::End => {}
            }
        }
        assert_eq!(at, part.len());
    }
    assert!(walk.is_done(), "a body that is all there is done");
    Ok(row)
}

/// A certificate is bound to by a hash of it, or refused.
fn certificate(der: &[u8]) {
    if let Ok(hash) = server_end_point(der) {
        assert!(matches!(hash.len(), 32 | 48 | 64));
    }
}
