//! Messages of the frontend: what a caller sends after the start.

use super::WireError;
use super::cursor::Cursor;
use super::lists::{Formats, Types, Values, known};
use std::fmt;

/// A message of the frontend. Names and texts stand without their zero byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// `Q`: a text of any number of statements.
    Query(&'a [u8]),
    /// `P`: prepares a statement.
    Parse {
        /// Its name; empty for the unnamed one.
        name: &'a [u8],
        /// The text.
        text: &'a [u8],
        /// Types of parameters, as far as they are given.
        types: Types<'a>,
    },
    /// `B`: binds values to a statement, which makes a portal.
    Bind(Bind<'a>),
    /// `D`: asks what a statement or portal returns.
    Describe {
        /// Whether of a portal; else of a statement.
        portal: bool,
        /// Its name.
        name: &'a [u8],
    },
    /// `E`: runs a portal.
    Execute {
        /// Its name.
        portal: &'a [u8],
        /// Most rows; 0 for all.
        rows_max: u32,
    },
    /// `C`: closes a statement or portal.
    Close {
        /// Whether a portal; else a statement.
        portal: bool,
        /// Its name.
        name: &'a [u8],
    },
    /// `H`.
    Flush,
    /// `S`.
    Sync,
    /// `X`.
    Terminate,
    /// `d`: a part of COPY data, cut anywhere.
    CopyData(&'a [u8]),
    /// `c`.
    CopyDone,
    /// `f`: ends a COPY with an error of this text.
    CopyFail(&'a [u8]),
    /// `F`.
    FunctionCall(Call<'a>),
    /// `p`: a password, or an answer of SASL; only the state of the connection says which, so the
    /// body stands as it is. See [`password`] and [`sasl_initial`].
    Secret(&'a [u8]),
}

/// A Bind message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Name of the portal that is made.
    pub portal: &'a [u8],
    /// Name of the statement.
    pub statement: &'a [u8],
    /// Formats of the values: none, one for all, or one for each.
    pub formats: Formats<'a>,
    /// The values.
    pub values: Values<'a>,
    /// Formats of the result's columns, whose number only the server knows.
    pub results: Formats<'a>,
}

/// A FunctionCall message: no SQL text, an OID.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Call<'a> {
    /// OID of the function.
    pub function: u32,
    /// Formats of the arguments: none, one for all, or one for each.
    pub formats: Formats<'a>,
    /// The arguments.
    pub values: Values<'a>,
    /// Format of the result.
    pub result: i16,
}

impl Frontend<'_> {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Query(_) => "query",
            Self::Parse { .. } => "parse",
            Self::Bind(_) => "bind",
            Self::Describe { .. } => "describe",
            Self::Execute { .. } => "execute",
            Self::Close { .. } => "close",
            Self::Flush => "flush",
            Self::Sync => "sync",
            Self::Terminate => "terminate",
            Self::CopyData(_) => "copy_data",
            Self::CopyDone => "copy_done",
            Self::CopyFail(_) => "copy_fail",
            Self::FunctionCall(_) => "function_call",
            Self::Secret(_) => "secret",
        }
    }
}

/// Texts, values and secrets are not printed.
impl fmt::Debug for Frontend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl fmt::Debug for Bind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bind({} values)", self.values.len())
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({}, {} values)", self.function, self.values.len())
    }
}

/// Reads the body of a message that the frontend sent, exactly to its end.
///
/// # Errors
/// [`WireError::UnknownTag`] for a tag that a frontend has not; else what is wrong with the body.
/// A negative number of rows (Execute), which servers take for "all", is [`WireError::Count`].
pub fn frontend(tag: u8, body: &[u8]) -> Result<Frontend<'_>, WireError> {
    let mut cursor = Cursor::new(body);
    let message = match tag {
        b'Q' => Frontend::Query(cursor.string()?),
        b'P' => {
            let (name, text) = (cursor.string()?, cursor.string()?);
            return Ok(Frontend::Parse { name, text, types: Types::parse(cursor)? });
        }
        b'B' => Frontend::Bind(bind(&mut cursor)?),
        b'D' => {
            let (portal, name) = target(&mut cursor)?;
            Frontend::Describe { portal, name }
        }
        b'C' => {
            let (portal, name) = target(&mut cursor)?;
            Frontend::Close { portal, name }
        }
        b'E' => {
            let portal = cursor.string()?;
            let rows_max = u32::try_from(cursor.i32()?).map_err(|_| WireError::Count)?;
            Frontend::Execute { portal, rows_max }
        }
        b'H' => Frontend::Flush,
        b'S' => Frontend::Sync,
        b'X' => Frontend::Terminate,
        b'd' => return Ok(Frontend::CopyData(body)),
        b'c' => Frontend::CopyDone,
        b'f' => Frontend::CopyFail(cursor.string()?),
        b'F' => Frontend::FunctionCall(call(&mut cursor)?),
        b'p' => return Ok(Frontend::Secret(body)),
        _ => return Err(WireError::UnknownTag),
    };
    cursor.end()?;
    Ok(message)
}

fn bind<'a>(cursor: &mut Cursor<'a>) -> Result<Bind<'a>, WireError> {
    let (portal, statement) = (cursor.string()?, cursor.string()?);
    let (formats, values) = arguments(cursor)?;
    let count = cursor.u16()?;
    let results = Formats::parse(cursor, count)?;
    Ok(Bind { portal, statement, formats, values, results })
}

fn call<'a>(cursor: &mut Cursor<'a>) -> Result<Call<'a>, WireError> {
    let function = cursor.u32()?;
    let (formats, values) = arguments(cursor)?;
    let result = cursor.i16()?;
    known(result)?;
    Ok(Call { function, formats, values, result })
}

/// Formats and values, whose numbers must fit each other.
fn arguments<'a>(cursor: &mut Cursor<'a>) -> Result<(Formats<'a>, Values<'a>), WireError> {
    let count = cursor.u16()?;
    let formats = Formats::parse(cursor, count)?;
    let values = Values::parse(cursor)?;
    if formats.len() > 1 && formats.len() != values.len() {
        return Err(WireError::Count);
    }
    Ok((formats, values))
}

/// What a Describe or Close names.
fn target<'a>(cursor: &mut Cursor<'a>) -> Result<(bool, &'a [u8]), WireError> {
    let portal = match cursor.byte()? {
        b'P' => true,
        b'S' => false,
        _ => return Err(WireError::Target),
    };
    Ok((portal, cursor.string()?))
}

/// The text of a [`Frontend::Secret`] that is a PasswordMessage, without its zero byte.
///
/// # Errors
/// [`WireError::Terminator`] without the zero byte, [`WireError::Trailing`] with bytes after it.
pub fn password(body: &[u8]) -> Result<&[u8], WireError> {
    let mut cursor = Cursor::new(body);
    let text = cursor.string()?;
    cursor.end()?;
    Ok(text)
}

/// A SASLInitialResponse.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that was picked.
    pub mechanism: &'a [u8],
    /// The first message of the mechanism; `None` where there is none, which is not an empty one.
    pub data: Option<&'a [u8]>,
}

impl fmt::Debug for SaslInitial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaslInitial(..)")
    }
}

/// Reads a [`Frontend::Secret`] that is a SASLInitialResponse. A SASLResponse is the body as it is.
///
/// # Errors
/// What is wrong with the body.
pub fn sasl_initial(body: &[u8]) -> Result<SaslInitial<'_>, WireError> {
    let mut cursor = Cursor::new(body);
    let mechanism = cursor.string()?;
    let data = cursor.value()?;
    cursor.end()?;
    Ok(SaslInitial { mechanism, data })
}
