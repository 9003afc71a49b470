//! Why a login at an upstream failed.

use std::fmt;

/// Why an authentication by SCRAM failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScramError {
    /// The server offers no mechanism that may be used. The upstream's fault.
    Mechanism,
    /// The upstream's certificate does not say how it is to be bound to.
    Certificate,
    /// The credential has no password. The configuration's fault.
    NoPassword,
    /// A message out of order. The upstream's fault, as all that follow.
    Order,
    /// A message longer than it may be.
    TooLong,
    /// A message that is not of its grammar, or has an extension.
    Malformed,
    /// A nonce that does not begin with the own one or adds nothing to it.
    Nonce,
    /// A salt that is no Base64, is empty or too long.
    Salt,
    /// A number of iterations out of bounds.
    Iterations,
    /// The server refused: it sent an error in place of its message.
    Server,
    /// The server's signature is wrong: it does not know the password's verifier.
    Signature,
}

impl ScramError {
    /// Every variant, for metrics that are made ahead.
    pub const ALL: &'static [Self] = &[
        Self::Mechanism,
        Self::Certificate,
        Self::NoPassword,
        Self::Order,
        Self::TooLong,
        Self::Malformed,
        Self::Nonce,
        Self::Salt,
        Self::Iterations,
        Self::Server,
        Self::Signature,
    ];

    /// A fixed label for metrics and the record; never bytes of the peer.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Mechanism => "mechanism",
            Self::Certificate => "certificate",
            Self::NoPassword => "no_password",
            Self::Order => "order",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Nonce => "nonce",
            Self::Salt => "salt",
            Self::Iterations => "iterations",
            Self::Server => "server",
            Self::Signature => "signature",
        }
    }
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for ScramError {}
