//! Writers: each appends one whole message.
//!
//! A message that cannot be written truly - longer than [`FRAME_LEN_MAX`], a list longer than its
//! count can say, a zero byte within a string, a cancel secret of a strange length - is not cut to
//! fit, since it would say something else then. It gets the length field `0xffff_ffff` in place of
//! its own, which every reader refuses: the connection ends. Nothing that was parsed can come to
//! that, and a text that comes from elsewhere is looked at by who configures it.
//!
//! The texts of errors and notices are for people: there a zero byte ends the text.

mod backend;
mod frontend;

pub use backend::{
    auth_cleartext, auth_continue, auth_final, auth_md5, auth_ok, auth_sasl, bind_done, close_done,
    complete, copy_out, data_row, empty, error, error_fields, key, negotiate, no_data, notice,
    notice_fields, notification, parameters, parse_done, ready, row_description, status, suspended,
};
pub use frontend::{
    GSS_REQUEST, SSL_REQUEST, bind, cancel, close, copy_done, copy_fail, describe, execute, flush,
    parse, query, sasl_initial, sasl_response, secret, startup, sync, terminate,
};

use super::{FRAME_LEN_MAX, SECRET_LEN_MAX, SECRET_LEN_MIN, WireError};

/// Appends the head of a message whose body of `len` bytes follows by other ways: for bodies that
/// are sent on in parts.
///
/// # Errors
/// [`WireError::TooLong`], with nothing written, when the length field would be above
/// [`FRAME_LEN_MAX`].
pub fn head(tag: u8, len: usize, to: &mut Vec<u8>) -> Result<(), WireError> {
    let field = field(len.checked_add(4)).ok_or(WireError::TooLong)?;
    to.push(tag);
    to.extend_from_slice(&field.to_be_bytes());
    Ok(())
}

/// Appends CopyData, of either side.
pub fn copy_data(data: &[u8], to: &mut Vec<u8>) {
    message(b'd', to, |body| body.bytes(data));
}

/// A length field that a reader takes.
fn field(len: Option<usize>) -> Option<u32> {
    len.and_then(|len| u32::try_from(len).ok()).filter(|field| *field <= FRAME_LEN_MAX)
}

/// Appends a message: `fill` writes the body, the length is put in after it.
fn message(tag: u8, to: &mut Vec<u8>, fill: impl FnOnce(&mut Body<'_>)) {
    to.push(tag);
    packet(to, fill);
}

/// Likewise without a tag, for what comes before the start.
fn packet(to: &mut Vec<u8>, fill: impl FnOnce(&mut Body<'_>)) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    let mut body = Body { to, untrue: false };
    fill(&mut body);
    let untrue = body.untrue;
    let len = field(to.len().checked_sub(start)).filter(|_| !untrue).unwrap_or(u32::MAX);
    if let Some(place) = to.get_mut(start..).and_then(|message| message.first_chunk_mut()) {
        *place = len.to_be_bytes();
    }
}

/// The body of a message that is being written.
struct Body<'a> {
    to: &'a mut Vec<u8>,
    /// Something cannot be said; see the module.
    untrue: bool,
}

impl Body<'_> {
    fn byte(&mut self, byte: u8) {
        self.to.push(byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.to.extend_from_slice(bytes);
    }

    fn i16(&mut self, number: i16) {
        self.bytes(&number.to_be_bytes());
    }

    fn u16(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    fn i32(&mut self, number: i32) {
        self.bytes(&number.to_be_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    /// A string with its zero byte.
    fn string(&mut self, text: &[u8]) {
        self.untrue |= memchr::memchr(0, text).is_some();
        self.bytes(text);
        self.byte(0);
    }

    /// The secret of a cancel key.
    fn secret(&mut self, secret: &[u8]) {
        self.untrue |= !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len());
        self.bytes(secret);
    }

    /// A text for people, up to its first zero byte.
    fn text(&mut self, text: &[u8]) {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        self.bytes(text.get(..end).unwrap_or_default());
        self.byte(0);
    }

    /// A count that a reader takes as unsigned.
    fn count(&mut self, count: usize) {
        let number = u16::try_from(count);
        self.untrue |= number.is_err();
        self.u16(number.unwrap_or(0));
    }

    /// A count of columns, which has no sign.
    fn columns(&mut self, count: usize) {
        let number = i16::try_from(count);
        self.untrue |= number.is_err();
        self.i16(number.unwrap_or(0));
    }

    /// A length and so many bytes; -1 for NULL.
    fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.i32(-1),
            Some(value) => {
                let len = i32::try_from(value.len());
                self.untrue |= len.is_err();
                self.i32(len.unwrap_or(-1));
                self.bytes(value);
            }
        }
    }
}
