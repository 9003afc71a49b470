//! Messages of the frontend: what goes to an upstream.

use super::{Body, message, packet};
use crate::wire::postgres::opening::{CANCEL, GSS, SSL};
use crate::wire::postgres::{Bind, Call, Frontend};

/// SSLRequest.
pub const SSL_REQUEST: [u8; 8] = request(SSL);
/// GSSENCRequest.
pub const GSS_REQUEST: [u8; 8] = request(GSS);

const fn request(code: u32) -> [u8; 8] {
    let [a, b, c, d] = code.to_be_bytes();
    [0, 0, 0, 8, a, b, c, d]
}

/// Appends a StartupMessage of protocol 3 with these names and values.
pub fn startup(minor: u16, params: &[(&[u8], &[u8])], to: &mut Vec<u8>) {
    packet(to, |body| {
        body.u32(3 << 16 | u32::from(minor));
        for (name, value) in params {
            // An empty name would end the list.
            body.untrue |= name.is_empty();
            body.string(name);
            body.string(value);
        }
        body.byte(0);
    });
}

/// Appends a CancelRequest, which stands alone on a connection.
pub fn cancel(pid: u32, secret: &[u8], to: &mut Vec<u8>) {
    packet(to, |body| {
        body.u32(CANCEL);
        body.u32(pid);
        body.secret(secret);
    });
}

/// Appends a PasswordMessage: the answer to clear text and to MD5, with its zero byte.
pub fn secret(text: &[u8], to: &mut Vec<u8>) {
    message(b'p', to, |body| body.string(text));
}

/// Appends a SASLInitialResponse.
pub fn sasl_initial(mechanism: &str, data: &[u8], to: &mut Vec<u8>) {
    message(b'p', to, |body| {
        body.string(mechanism.as_bytes());
        body.value(Some(data));
    });
}

/// Appends a SASLResponse: the bytes as they are, without a zero byte.
pub fn sasl_response(data: &[u8], to: &mut Vec<u8>) {
    message(b'p', to, |body| body.bytes(data));
}

/// Appends a Query.
pub fn query(text: &[u8], to: &mut Vec<u8>) {
    message(b'Q', to, |body| body.string(text));
}

/// Appends a Parse; `types` may be fewer than the parameters.
pub fn parse(name: &[u8], text: &[u8], types: &[u32], to: &mut Vec<u8>) {
    message(b'P', to, |body| {
        body.string(name);
        body.string(text);
        body.count(types.len());
        types.iter().for_each(|oid| body.u32(*oid));
    });
}

/// Appends a Bind. `formats` and `results` hold no code, one for all or one for each.
pub fn bind(
    portal: &[u8],
    statement: &[u8],
    formats: &[i16],
    values: &[Option<&[u8]>],
    results: &[i16],
    to: &mut Vec<u8>,
) {
    message(b'B', to, |body| {
        body.string(portal);
        body.string(statement);
        body.count(formats.len());
        formats.iter().for_each(|format| body.i16(*format));
        body.count(values.len());
        values.iter().for_each(|value| body.value(*value));
        body.count(results.len());
        results.iter().for_each(|format| body.i16(*format));
    });
}

/// Appends a Describe of a portal or a statement.
pub fn describe(portal: bool, name: &[u8], to: &mut Vec<u8>) {
    target(b'D', portal, name, to);
}

/// Appends a Close of a portal or a statement.
pub fn close(portal: bool, name: &[u8], to: &mut Vec<u8>) {
    target(b'C', portal, name, to);
}

fn target(tag: u8, portal: bool, name: &[u8], to: &mut Vec<u8>) {
    message(tag, to, |body| {
        body.byte(if portal { b'P' } else { b'S' });
        body.string(name);
    });
}

/// Appends an Execute of at most `rows_max` rows, 0 for all.
pub fn execute(portal: &[u8], rows_max: u32, to: &mut Vec<u8>) {
    message(b'E', to, |body| {
        body.string(portal);
        // A number with the sign bit would mean all of them.
        body.untrue |= i32::try_from(rows_max).is_err();
        body.u32(rows_max);
    });
}

/// Appends a Sync.
pub fn sync(to: &mut Vec<u8>) {
    message(b'S', to, |_| {});
}

/// Appends a Flush.
pub fn flush(to: &mut Vec<u8>) {
    message(b'H', to, |_| {});
}

/// Appends a Terminate.
pub fn terminate(to: &mut Vec<u8>) {
    message(b'X', to, |_| {});
}

/// Appends a CopyDone, of either side.
pub fn copy_done(to: &mut Vec<u8>) {
    message(b'c', to, |_| {});
}

/// Appends a CopyFail with the text of the error that the server then reports.
pub fn copy_fail(text: &[u8], to: &mut Vec<u8>) {
    message(b'f', to, |body| body.string(text));
}

impl Frontend<'_> {
    /// Appends the message, byte for byte as it was when it was parsed.
    pub fn write(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Query(text) => query(text, to),
            Self::Parse { name, text, types } => message(b'P', to, |body| {
                body.string(name);
                body.string(text);
                body.count(types.len());
                body.bytes(types.raw());
            }),
            Self::Bind(bind) => message(b'B', to, |body| write_bind(bind, body)),
            Self::Describe { portal, name } => describe(portal, name, to),
            Self::Execute { portal, rows_max } => execute(portal, rows_max, to),
            Self::Close { portal, name } => close(portal, name, to),
            Self::Flush => flush(to),
            Self::Sync => sync(to),
            Self::Terminate => terminate(to),
            Self::CopyData(data) => super::copy_data(data, to),
            Self::CopyDone => copy_done(to),
            Self::CopyFail(text) => copy_fail(text, to),
            Self::FunctionCall(call) => message(b'F', to, |body| write_call(call, body)),
            Self::Secret(data) => sasl_response(data, to),
        }
    }
}

fn write_bind(bind: Bind<'_>, body: &mut Body<'_>) {
    body.string(bind.portal);
    body.string(bind.statement);
    body.count(bind.formats.len());
    body.bytes(bind.formats.raw());
    body.count(bind.values.len());
    body.bytes(bind.values.raw());
    body.count(bind.results.len());
    body.bytes(bind.results.raw());
}

fn write_call(call: Call<'_>, body: &mut Body<'_>) {
    body.u32(call.function);
    body.count(call.formats.len());
    body.bytes(call.formats.raw());
    body.count(call.values.len());
    body.bytes(call.values.raw());
    body.i16(call.result);
}
