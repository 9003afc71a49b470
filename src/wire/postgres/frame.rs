//! Where a message ends, from its first five bytes.

use super::WireError;

/// Bytes of a message before its body: the tag and the length.
pub const FRAME_HEAD: usize = 5;

/// Largest length field: no server or driver has longer messages (`MaxAllocSize`).
pub const FRAME_LEN_MAX: u32 = 1 << 30;

/// The head of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The kind of message.
    pub tag: u8,
    /// Bytes of the body, which follows the head of [`FRAME_HEAD`] bytes.
    pub len: usize,
}

/// Reads tag and body length of the next message; `None` with fewer than [`FRAME_HEAD`] bytes.
///
/// The length on the wire counts itself and not the tag; [`Frame::len`] counts neither. Nothing is
/// said of the tag: [`frontend`](super::frontend) and [`backend`](super::backend) know theirs.
///
/// # Errors
/// [`WireError::Length`] for a field below 4, [`WireError::TooLong`] above [`FRAME_LEN_MAX`] (so
/// also for a negative one).
pub fn frame(buf: &[u8]) -> Result<Option<Frame>, WireError> {
    let Some(([tag, a, b, c, d], _)) = buf.split_first_chunk::<FRAME_HEAD>() else {
        return Ok(None);
    };
    let field = u32::from_be_bytes([*a, *b, *c, *d]);
    if field > FRAME_LEN_MAX {
        return Err(WireError::TooLong);
    }
    let len = field.checked_sub(4).ok_or(WireError::Length)?;
    let len = usize::try_from(len).map_err(|_| WireError::TooLong)?;
    Ok(Some(Frame { tag: *tag, len }))
}

/// The longest body that a server takes for a tag of the frontend; `None` for a tag that it does
/// not know. So a caller is refused by the head, before a body that nobody would read is waited
/// for.
///
/// The limits are the server's own (`PQ_SMALL_MESSAGE_LIMIT`, `PQ_LARGE_MESSAGE_LIMIT` and
/// `PG_MAX_AUTH_TOKEN_LENGTH` of its sources), which count the length field.
#[must_use]
pub fn frontend_len_max(tag: u8) -> Option<usize> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(0x3fff_fffe - 4),
        b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(10_000 - 4),
        b'p' => Some(65_535 - 4),
        _ => None,
    }
}
