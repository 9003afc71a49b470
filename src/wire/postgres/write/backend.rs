//! Messages of the backend: what goes to a caller.

use super::{Body, message};
use crate::wire::postgres::{Auth, Backend, Column, CopyFormat, TxStatus};

/// Appends an ErrorResponse. `severity` is `ERROR` (the command failed) or `FATAL` (the connection
/// ends).
pub fn error(
    severity: &str,
    sqlstate: &str,
    text: &str,
    detail: Option<&str>,
    hint: Option<&str>,
    to: &mut Vec<u8>,
) {
    report(b'E', severity, sqlstate, text, detail, hint, to);
}

/// Appends a NoticeResponse. `severity` is `WARNING`, `NOTICE`, `INFO` or the like.
pub fn notice(
    severity: &str,
    sqlstate: &str,
    text: &str,
    detail: Option<&str>,
    hint: Option<&str>,
    to: &mut Vec<u8>,
) {
    report(b'N', severity, sqlstate, text, detail, hint, to);
}

fn report(
    tag: u8,
    severity: &str,
    sqlstate: &str,
    text: &str,
    detail: Option<&str>,
    hint: Option<&str>,
    to: &mut Vec<u8>,
) {
    message(tag, to, |body| {
        let fields = [
            // As the server would translate it, and as it never is.
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(sqlstate)),
            (b'M', Some(text)),
            (b'D', detail),
            (b'H', hint),
        ];
        for (code, value) in fields {
            if let Some(value) = value {
                body.byte(code);
                body.text(value.as_bytes());
            }
        }
        body.byte(0);
    });
}

/// Appends an ErrorResponse of these fields: for one that goes on without some of its own.
pub fn error_fields<'a>(fields: impl IntoIterator<Item = (u8, &'a [u8])>, to: &mut Vec<u8>) {
    message(b'E', to, |body| write_fields(fields, body));
}

/// Likewise a NoticeResponse.
pub fn notice_fields<'a>(fields: impl IntoIterator<Item = (u8, &'a [u8])>, to: &mut Vec<u8>) {
    message(b'N', to, |body| write_fields(fields, body));
}

fn write_fields<'a>(fields: impl IntoIterator<Item = (u8, &'a [u8])>, body: &mut Body<'_>) {
    for (code, value) in fields {
        body.untrue |= code == 0;
        body.byte(code);
        body.text(value);
    }
    body.byte(0);
}

/// Appends a ReadyForQuery.
pub fn ready(status: TxStatus, to: &mut Vec<u8>) {
    message(b'Z', to, |body| body.byte(status.byte()));
}

/// Appends an AuthenticationOk.
pub fn auth_ok(to: &mut Vec<u8>) {
    auth(0, &[], to);
}

/// Appends an AuthenticationCleartextPassword.
pub fn auth_cleartext(to: &mut Vec<u8>) {
    auth(3, &[], to);
}

/// Appends an AuthenticationMD5Password.
pub fn auth_md5(salt: [u8; 4], to: &mut Vec<u8>) {
    auth(5, &salt, to);
}

/// Appends an AuthenticationSASL with the names of the mechanisms, the preferred one first.
pub fn auth_sasl(mechanisms: &[&str], to: &mut Vec<u8>) {
    message(b'R', to, |body| {
        body.u32(10);
        for name in mechanisms {
            // An empty name would end the list.
            body.untrue |= name.is_empty();
            body.string(name.as_bytes());
        }
        body.byte(0);
    });
}

/// Appends an AuthenticationSASLContinue.
pub fn auth_continue(data: &[u8], to: &mut Vec<u8>) {
    auth(11, data, to);
}

/// Appends an AuthenticationSASLFinal.
pub fn auth_final(data: &[u8], to: &mut Vec<u8>) {
    auth(12, data, to);
}

fn auth(kind: u32, data: &[u8], to: &mut Vec<u8>) {
    message(b'R', to, |body| {
        body.u32(kind);
        body.bytes(data);
    });
}

/// Appends a ParameterStatus.
pub fn status(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    message(b'S', to, |body| {
        body.string(name);
        body.string(value);
    });
}

/// Appends a BackendKeyData. The secret is of 4 bytes up to protocol 3.1, of 4 to 256 in 3.2.
pub fn key(pid: u32, secret: &[u8], to: &mut Vec<u8>) {
    message(b'K', to, |body| {
        body.u32(pid);
        body.secret(secret);
    });
}

/// Appends a NegotiateProtocolVersion: protocol 3 up to `minor`, and `options` that are not known.
pub fn negotiate(minor: u16, options: &[&[u8]], to: &mut Vec<u8>) {
    message(b'v', to, |body| {
        body.u32(3 << 16 | u32::from(minor));
        let count = u32::try_from(options.len());
        body.untrue |= count.is_err();
        body.u32(count.unwrap_or(0));
        options.iter().for_each(|name| body.string(name));
    });
}

/// Appends a RowDescription.
pub fn row_description(columns: &[Column<'_>], to: &mut Vec<u8>) {
    message(b'T', to, |body| {
        body.columns(columns.len());
        for column in columns {
            body.string(column.name);
            body.u32(column.table);
            body.i16(column.attribute);
            body.u32(column.kind);
            body.i16(column.kind_len);
            body.i32(column.modifier);
            body.i16(column.format);
        }
    });
}

/// Appends a DataRow; for one that goes on in parts there is [`head`](super::head).
pub fn data_row(cells: &[Option<&[u8]>], to: &mut Vec<u8>) {
    message(b'D', to, |body| {
        body.columns(cells.len());
        cells.iter().for_each(|cell| body.value(*cell));
    });
}

/// Appends a CommandComplete with its tag, `SELECT 1` for one.
pub fn complete(tag: &[u8], to: &mut Vec<u8>) {
    message(b'C', to, |body| body.string(tag));
}

/// Appends an EmptyQueryResponse.
pub fn empty(to: &mut Vec<u8>) {
    message(b'I', to, |_| {});
}

/// Appends a PortalSuspended.
pub fn suspended(to: &mut Vec<u8>) {
    message(b's', to, |_| {});
}

/// Appends a ParseComplete.
pub fn parse_done(to: &mut Vec<u8>) {
    message(b'1', to, |_| {});
}

/// Appends a BindComplete.
pub fn bind_done(to: &mut Vec<u8>) {
    message(b'2', to, |_| {});
}

/// Appends a CloseComplete.
pub fn close_done(to: &mut Vec<u8>) {
    message(b'3', to, |_| {});
}

/// Appends a NoData.
pub fn no_data(to: &mut Vec<u8>) {
    message(b'n', to, |_| {});
}

/// Appends a ParameterDescription.
pub fn parameters(types: &[u32], to: &mut Vec<u8>) {
    message(b't', to, |body| {
        body.count(types.len());
        types.iter().for_each(|oid| body.u32(*oid));
    });
}

/// Appends a NotificationResponse.
pub fn notification(pid: u32, channel: &[u8], payload: &[u8], to: &mut Vec<u8>) {
    message(b'A', to, |body| {
        body.u32(pid);
        body.string(channel);
        body.string(payload);
    });
}

/// Appends a CopyOutResponse.
pub fn copy_out(form: CopyFormat<'_>, to: &mut Vec<u8>) {
    copy(b'H', form, to);
}

fn copy(tag: u8, form: CopyFormat<'_>, to: &mut Vec<u8>) {
    message(tag, to, |body| {
        let whole = u8::try_from(form.format);
        body.untrue |= whole.is_err();
        body.byte(whole.unwrap_or(0));
        body.columns(form.columns.len());
        body.bytes(form.columns.raw());
    });
}

impl Backend<'_> {
    /// Appends the message, byte for byte as it was when it was parsed; only of an authentication
    /// of another kind ([`Auth::Other`]) the data is left out.
    pub fn write(&self, to: &mut Vec<u8>) {
        match *self {
            Self::Auth(message) => write_auth(message, to),
            Self::Status { name, value } => status(name, value, to),
            Self::Key { pid, secret } => key(pid, secret, to),
            Self::Ready(status) => ready(status, to),
            Self::RowDescription(columns) => message(b'T', to, |body| {
                body.columns(columns.len());
                body.bytes(columns.raw());
            }),
            Self::DataRow(row) => message(b'D', to, |body| body.bytes(row)),
            Self::Complete(tag) => complete(tag, to),
            Self::Empty => empty(to),
            Self::Suspended => suspended(to),
            Self::ParseDone => parse_done(to),
            Self::BindDone => bind_done(to),
            Self::CloseDone => close_done(to),
            Self::NoData => no_data(to),
            Self::Parameters(types) => message(b't', to, |body| {
                body.count(types.len());
                body.bytes(types.raw());
            }),
            Self::Error(fields) => error_fields(fields.iter(), to),
            Self::Notice(fields) => notice_fields(fields.iter(), to),
            Self::Notification { pid, channel, payload } => {
                notification(pid, channel, payload, to);
            }
            Self::CopyIn(form) => copy(b'G', form, to),
            Self::CopyOut(form) => copy_out(form, to),
            Self::CopyBoth(form) => copy(b'W', form, to),
            Self::CopyData(data) => super::copy_data(data, to),
            Self::CopyDone => super::copy_done(to),
            Self::FunctionResult(value) => message(b'V', to, |body| body.value(value)),
            Self::Negotiate { version, options } => message(b'v', to, |body| {
                body.u32(version);
                // It was an Int32 that says as much.
                let count = u32::try_from(options.count());
                body.untrue |= count.is_err();
                body.u32(count.unwrap_or(0));
                body.bytes(options.raw());
            }),
        }
    }
}

fn write_auth(message: Auth<'_>, to: &mut Vec<u8>) {
    match message {
        Auth::Ok => auth_ok(to),
        Auth::Cleartext => auth_cleartext(to),
        Auth::Md5 { salt } => auth_md5(salt, to),
        Auth::Sasl { mechanisms } => super::message(b'R', to, |body| {
            body.u32(10);
            body.bytes(mechanisms.raw());
            body.byte(0);
        }),
        Auth::SaslContinue(data) => auth_continue(data, to),
        Auth::SaslFinal(data) => auth_final(data, to),
        Auth::Other(kind) => auth(kind, &[], to),
    }
}
