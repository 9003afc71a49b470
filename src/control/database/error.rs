//! Why a server could not be asked.

use super::ServerError;
use crate::credential::ScramError;
use crate::wire::postgres::WireError;
use std::{fmt, io};

/// Why a connection to a server did not come about, or ended. No text holds a byte of a secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum DatabaseError {
    /// The socket: no such name, nobody there, a time that passed.
    Io(io::Error),
    /// TLS is wanted, and the server speaks none.
    NoTls,
    /// The handshake failed; mostly a certificate that is not trusted or of another name.
    Tls(String),
    /// The server sent what is no message.
    Wire(WireError),
    /// The server sent what has no place where it came.
    Order(&'static str),
    /// A message, or an answer, that is longer than is kept.
    TooLong,
    /// The server ended the connection.
    Ended,
    /// The server asks for the password in a way that is not allowed.
    Method(&'static str),
    /// A proof of SCRAM failed.
    Scram(ScramError),
    /// The server asks for a password, and there is none.
    NoSecret,
    /// The server let us in without asking for a proof, and so gave none of its own.
    NoProof,
    /// The system has no random numbers.
    NoRandom,
    /// The server refused the login.
    Refused(ServerError),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
            {
                f.write_str("the server does not answer in time")
            }
            Self::Io(error) => write!(f, "the server cannot be reached: {error}"),
            Self::NoTls => f.write_str("the server speaks no TLS"),
            Self::Tls(error) => write!(f, "TLS failed: {error}"),
            Self::Wire(error) => write!(f, "the server sent what is no message: {error:?}"),
            Self::Order(what) => write!(f, "the server is out of order: {what}"),
            Self::TooLong => f.write_str("the server's answer is too long"),
            Self::Ended => f.write_str("the server ended the connection"),
            Self::Method(method) => {
                write!(f, "the server asks for the password by {method}, which is not allowed")
            }
            Self::Scram(ScramError::Mechanism) => {
                f.write_str("the server offers no SASL mechanism that is known here")
            }
            Self::Scram(error) => write!(f, "the login by SCRAM failed: {error}"),
            Self::NoSecret => f.write_str("the server asks for a password, and none is given"),
            Self::NoProof => f.write_str("the server asks for no password, and so proves nothing"),
            Self::NoRandom => f.write_str("the system has no random numbers"),
            Self::Refused(error) => write!(f, "the server refused the login: {error}"),
        }
    }
}

impl std::error::Error for DatabaseError {}

impl From<io::Error> for DatabaseError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WireError> for DatabaseError {
    fn from(error: WireError) -> Self {
        Self::Wire(error)
    }
}

impl From<ScramError> for DatabaseError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}
