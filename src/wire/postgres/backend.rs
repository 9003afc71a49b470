//! Messages of the backend: what an upstream sends after the start.

use super::WireError;
use super::cursor::Cursor;
use super::lists::{Formats, Strings, TEXT, Types, known};
use super::opening::{SECRET_LEN_MAX, SECRET_LEN_MIN};
use std::fmt;

/// A message of the backend. Names and texts stand without their zero byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Backend<'a> {
    /// `R`: authentication.
    Auth(Auth<'a>),
    /// `S`: the value of a setting.
    Status {
        /// The setting.
        name: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// `K`: the key for a CancelRequest.
    Key {
        /// The process.
        pid: u32,
        /// Its secret: 4 bytes, in protocol 3.2 up to 256.
        secret: &'a [u8],
    },
    /// `Z`.
    Ready(TxStatus),
    /// `T`.
    RowDescription(Columns<'a>),
    /// `D`: the body as it is; [`Cells`](super::Cells) or [`RowWalk`](super::RowWalk) reads it.
    DataRow(&'a [u8]),
    /// `C`: the tag of the command that is done.
    Complete(&'a [u8]),
    /// `I`: the answer to an empty text.
    Empty,
    /// `s`: the portal has more rows than Execute asked for.
    Suspended,
    /// `1`.
    ParseDone,
    /// `2`.
    BindDone,
    /// `3`.
    CloseDone,
    /// `n`.
    NoData,
    /// `t`: the types of a statement's parameters.
    Parameters(Types<'a>),
    /// `E`.
    Error(Fields<'a>),
    /// `N`.
    Notice(Fields<'a>),
    /// `A`.
    Notification {
        /// The process that notified.
        pid: u32,
        /// The channel.
        channel: &'a [u8],
        /// What was sent with it.
        payload: &'a [u8],
    },
    /// `G`: the caller may send COPY data.
    CopyIn(CopyFormat<'a>),
    /// `H`: COPY data follows.
    CopyOut(CopyFormat<'a>),
    /// `W`: both, which only replication has.
    CopyBoth(CopyFormat<'a>),
    /// `d`.
    CopyData(&'a [u8]),
    /// `c`.
    CopyDone,
    /// `V`: the result of a FunctionCall; `None` is NULL.
    FunctionResult(Option<&'a [u8]>),
    /// `v`: the server speaks an older minor version, or not all options.
    Negotiate {
        /// The newest version that it speaks, major and minor as in the start-up packet.
        version: u32,
        /// Names of the options that it does not know.
        options: Strings<'a>,
    },
}

/// A message of authentication.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Auth<'a> {
    /// 0: authenticated.
    Ok,
    /// 3: the password in clear text is asked for.
    Cleartext,
    /// 5: the password, hashed by MD5 with this salt.
    Md5 {
        /// The salt.
        salt: [u8; 4],
    },
    /// 10: SASL begins.
    Sasl {
        /// The mechanisms that the server offers, by its preference.
        mechanisms: Strings<'a>,
    },
    /// 11: the server's next message of the mechanism.
    SaslContinue(&'a [u8]),
    /// 12: its last one.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSS, SSPI or one that is not known; its data was not looked at.
    Other(u32),
}

/// Where the connection stands, from ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// `I`: in no transaction.
    Idle,
    /// `T`: in a transaction.
    Transaction,
    /// `E`: in a transaction that failed.
    Failed,
}

impl TxStatus {
    /// Its byte.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Transaction => b'T',
            Self::Failed => b'E',
        }
    }

    fn parse(byte: u8) -> Result<Self, WireError> {
        match byte {
            b'I' => Ok(Self::Idle),
            b'T' => Ok(Self::Transaction),
            b'E' => Ok(Self::Failed),
            _ => Err(WireError::Status),
        }
    }
}

/// A column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Its name, which the statement chose.
    pub name: &'a [u8],
    /// OID of the table that it comes from; 0 when it is computed.
    pub table: u32,
    /// Number of the table's column; 0 when it is computed or a whole row, negative for a system
    /// column.
    pub attribute: i16,
    /// OID of the type.
    pub kind: u32,
    /// Size of the type (`pg_type.typlen`); negative for one of varying size.
    pub kind_len: i16,
    /// Modifier of the type (`pg_attribute.atttypmod`).
    pub modifier: i32,
    /// [`TEXT`](super::TEXT) or [`BINARY`](super::BINARY); always text when a statement was
    /// described.
    pub format: i16,
}

/// The columns of a RowDescription.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Columns<'a> {
    count: u16,
    body: &'a [u8],
}

impl<'a> Columns<'a> {
    fn parse(mut cursor: Cursor<'a>) -> Result<Self, WireError> {
        let count = cursor.columns()?;
        let body = cursor.rest();
        for _ in 0..count {
            column(&mut cursor)?;
        }
        cursor.end()?;
        Ok(Self { count, body })
    }

    pub(super) fn raw(self) -> &'a [u8] {
        self.body
    }

    /// How many there are.
    #[must_use]
    pub fn len(self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// All of them in order.
    pub fn iter(self) -> impl Iterator<Item = Column<'a>> {
        let mut cursor = Cursor::new(self.body);
        (0..self.count).map_while(move |_| column(&mut cursor).ok())
    }
}

impl fmt::Debug for Columns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Columns({})", self.count)
    }
}

fn column<'a>(cursor: &mut Cursor<'a>) -> Result<Column<'a>, WireError> {
    let column = Column {
        name: cursor.string()?,
        table: cursor.u32()?,
        attribute: cursor.i16()?,
        kind: cursor.u32()?,
        kind_len: cursor.i16()?,
        modifier: cursor.i32()?,
        format: cursor.i16()?,
    };
    known(column.format)?;
    Ok(column)
}

/// The fields of an error or a notice (manual: "Error and Notice Message Fields").
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn parse(mut cursor: Cursor<'a>) -> Result<Self, WireError> {
        let body = cursor.rest();
        let mut seen = [false; 256];
        let mut len = 0;
        loop {
            let code = cursor.byte().map_err(|_| WireError::Terminator)?;
            if code == 0 {
                break;
            }
            let seen = seen.get_mut(usize::from(code)).ok_or(WireError::DuplicateField)?;
            if std::mem::replace(seen, true) {
                return Err(WireError::DuplicateField);
            }
            cursor.string()?;
            len = body.len() - cursor.rest().len();
        }
        cursor.end()?;
        Ok(Self(body.get(..len).unwrap_or_default()))
    }

    /// Code and value of each field, in order. No code stands twice.
    #[must_use]
    pub fn iter(self) -> FieldIter<'a> {
        FieldIter(Cursor::new(self.0))
    }

    /// The value of the field with this code: `b'C'` is the SQLSTATE, `b'M'` the message.
    #[must_use]
    pub fn get(self, code: u8) -> Option<&'a [u8]> {
        self.iter().find(|(own, _)| *own == code).map(|(_, value)| value)
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fields(..)")
    }
}

/// Walks [`Fields`].
#[derive(Clone, Copy)]
pub struct FieldIter<'a>(Cursor<'a>);

impl<'a> Iterator for FieldIter<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.byte().ok()?, self.0.string().ok()?))
    }
}

/// The form of COPY data. It names no columns and no types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFormat<'a> {
    /// The form of the whole: [`TEXT`](super::TEXT), which is lines also of CSV, or
    /// [`BINARY`](super::BINARY).
    pub format: i16,
    /// The form of each column; all text when the whole is.
    pub columns: Formats<'a>,
}

impl<'a> CopyFormat<'a> {
    fn parse(mut cursor: Cursor<'a>) -> Result<Self, WireError> {
        let format = i16::from(cursor.byte()?);
        known(format)?;
        let count = cursor.columns()?;
        let columns = Formats::parse(&mut cursor, count)?;
        cursor.end()?;
        if format == TEXT && columns.iter().any(|column| column != TEXT) {
            return Err(WireError::Format);
        }
        Ok(Self { format, columns })
    }
}

impl Backend<'_> {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Auth(_) => "auth",
            Self::Status { .. } => "status",
            Self::Key { .. } => "key",
            Self::Ready(_) => "ready",
            Self::RowDescription(_) => "row_description",
            Self::DataRow(_) => "data_row",
            Self::Complete(_) => "complete",
            Self::Empty => "empty",
            Self::Suspended => "suspended",
            Self::ParseDone => "parse_done",
            Self::BindDone => "bind_done",
            Self::CloseDone => "close_done",
            Self::NoData => "no_data",
            Self::Parameters(_) => "parameters",
            Self::Error(_) => "error",
            Self::Notice(_) => "notice",
            Self::Notification { .. } => "notification",
            Self::CopyIn(_) => "copy_in",
            Self::CopyOut(_) => "copy_out",
            Self::CopyBoth(_) => "copy_both",
            Self::CopyData(_) => "copy_data",
            Self::CopyDone => "copy_done",
            Self::FunctionResult(_) => "function_result",
            Self::Negotiate { .. } => "negotiate",
        }
    }
}

/// Values and texts are not printed.
impl fmt::Debug for Backend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Debug for Auth<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self {
            Self::Ok => "ok",
            Self::Cleartext => "cleartext",
            Self::Md5 { .. } => "md5",
            Self::Sasl { .. } => "sasl",
            Self::SaslContinue(_) => "sasl_continue",
            Self::SaslFinal(_) => "sasl_final",
            Self::Other(kind) => return write!(f, "other({kind})"),
        };
        f.write_str(label)
    }
}

/// Reads the body of a message that the backend sent, exactly to its end. A DataRow is not looked
/// into.
///
/// # Errors
/// [`WireError::UnknownTag`] for a tag that a backend has not; else what is wrong with the body.
pub fn backend(tag: u8, body: &[u8]) -> Result<Backend<'_>, WireError> {
    let mut cursor = Cursor::new(body);
    let message = match tag {
        b'D' => return Ok(Backend::DataRow(body)),
        b'd' => return Ok(Backend::CopyData(body)),
        b'C' => Backend::Complete(cursor.string()?),
        b'Z' => Backend::Ready(TxStatus::parse(cursor.byte()?)?),
        b'1' => Backend::ParseDone,
        b'2' => Backend::BindDone,
        b'3' => Backend::CloseDone,
        b'n' => Backend::NoData,
        b'I' => Backend::Empty,
        b's' => Backend::Suspended,
        b'c' => Backend::CopyDone,
        b'T' => return Columns::parse(cursor).map(Backend::RowDescription),
        b't' => return Types::parse(cursor).map(Backend::Parameters),
        b'E' => return Fields::parse(cursor).map(Backend::Error),
        b'N' => return Fields::parse(cursor).map(Backend::Notice),
        b'G' => return CopyFormat::parse(cursor).map(Backend::CopyIn),
        b'H' => return CopyFormat::parse(cursor).map(Backend::CopyOut),
        b'W' => return CopyFormat::parse(cursor).map(Backend::CopyBoth),
        b'R' => return auth(cursor).map(Backend::Auth),
        b'K' => return key(cursor),
        b'v' => return negotiate(cursor),
        b'S' => Backend::Status { name: cursor.string()?, value: cursor.string()? },
        b'A' => Backend::Notification {
            pid: cursor.u32()?,
            channel: cursor.string()?,
            payload: cursor.string()?,
        },
        b'V' => Backend::FunctionResult(cursor.value()?),
        _ => return Err(WireError::UnknownTag),
    };
    cursor.end()?;
    Ok(message)
}

fn auth(mut cursor: Cursor<'_>) -> Result<Auth<'_>, WireError> {
    let message = match cursor.u32()? {
        0 => Auth::Ok,
        3 => Auth::Cleartext,
        5 => Auth::Md5 { salt: cursor.bytes4()? },
        10 => return mechanisms(cursor).map(|mechanisms| Auth::Sasl { mechanisms }),
        11 => return Ok(Auth::SaslContinue(cursor.rest())),
        12 => return Ok(Auth::SaslFinal(cursor.rest())),
        kind => return Ok(Auth::Other(kind)),
    };
    cursor.end()?;
    Ok(message)
}

/// Names that are not empty, up to an empty one that must be the last byte.
fn mechanisms(cursor: Cursor<'_>) -> Result<Strings<'_>, WireError> {
    let names = cursor.rest().strip_suffix(&[0]).ok_or(WireError::Terminator)?;
    let names = Strings::parse(names)?;
    if names.into_iter().any(<[u8]>::is_empty) { Err(WireError::Trailing) } else { Ok(names) }
}

fn key(mut cursor: Cursor<'_>) -> Result<Backend<'_>, WireError> {
    let (pid, secret) = (cursor.u32()?, cursor.rest());
    if !(SECRET_LEN_MIN..=SECRET_LEN_MAX).contains(&secret.len()) {
        return Err(WireError::Secret);
    }
    Ok(Backend::Key { pid, secret })
}

fn negotiate(mut cursor: Cursor<'_>) -> Result<Backend<'_>, WireError> {
    let version = cursor.u32()?;
    let count = usize::try_from(cursor.i32()?).map_err(|_| WireError::Count)?;
    let options = Strings::parse(cursor.rest())?;
    if options.count() != count {
        return Err(WireError::Count);
    }
    Ok(Backend::Negotiate { version, options })
}
