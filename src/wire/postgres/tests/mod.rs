//! Every message through the public doors: written, read, cut, stretched and bent.

mod from_backend;
mod from_frontend;
mod opening;
mod rows;
mod written;

use super::{Auth, Backend, FRAME_HEAD, Frontend, WireError, backend, frame, frontend};

/// Head and body of the one message in `message`.
fn split(message: &[u8]) -> (u8, &[u8]) {
    let head = frame(message).unwrap().unwrap();
    assert_eq!(message.len(), FRAME_HEAD + head.len, "one whole message");
    (head.tag, &message[FRAME_HEAD..])
}

fn read_frontend(message: &[u8]) -> Frontend<'_> {
    let (tag, body) = split(message);
    frontend(tag, body).unwrap()
}

fn read_backend(message: &[u8]) -> Backend<'_> {
    let (tag, body) = split(message);
    backend(tag, body).unwrap()
}

/// Reads a message of either side and writes it again.
type Again = fn(u8, &[u8]) -> Result<Vec<u8>, WireError>;

fn frontend_again(tag: u8, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut to = Vec::new();
    frontend(tag, body)?.write(&mut to);
    Ok(to)
}

/// The data of a way to authenticate that is not spoken is not kept: it counts as refused here.
fn backend_again(tag: u8, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let message = backend(tag, body)?;
    if matches!(message, Backend::Auth(Auth::Other(_))) {
        return Err(WireError::UnknownTag);
    }
    let mut to = Vec::new();
    message.write(&mut to);
    Ok(to)
}

/// Whether any body of this tag is taken.
fn is_raw(tag: u8, body: &[u8]) -> bool {
    let sasl = tag == b'R' && matches!(body.get(..4), Some([0, 0, 0, 11 | 12]));
    // `D` with a zero byte in front is a DataRow, else a Describe.
    sasl || matches!(tag, b'd' | b'p') || tag == b'D' && body.first() == Some(&0)
}

/// What holds for every message: it is read and written as it was; a byte less or more is refused;
/// with any byte changed it is refused, or it is another message of one encoding.
fn check(message: &[u8], again: Again) {
    for len in 0..FRAME_HEAD {
        assert_eq!(frame(&message[..len]), Ok(None));
    }
    let (tag, body) = split(message);
    assert_eq!(again(tag, body).unwrap(), message, "written again: {message:?}");
    if !is_raw(tag, body) {
        for len in 0..body.len() {
            // A secret may have any of many lengths.
            if tag == b'K' && len >= 8 {
                continue;
            }
            assert!(again(tag, &body[..len]).is_err(), "{message:?} cut at {len}");
        }
        for more in [0, 1, b'S', 0xff].into_iter().filter(|_| tag != b'K') {
            assert!(again(tag, &[body, &[more]].concat()).is_err(), "{message:?} and {more}");
        }
    }
    for place in 0..body.len() {
        for bit in 0..8 {
            let mut bent = body.to_vec();
            bent[place] ^= 1 << bit;
            if let Ok(written) = again(tag, &bent) {
                assert_eq!(split(&written), (tag, &bent[..]), "bit {bit} of {place}");
            }
        }
    }
}
