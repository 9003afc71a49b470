//! How a secret is placed in a request, and how its echo is found in an answer.
//!
//! A [`Credential`] is compiled once, when its secret is resolved. Only a `&Grant` opens it: no
//! code path without a decision can reach the bytes.

mod echo;
mod methods;

pub use echo::{Echo, EchoFound, EchoState, EchoStep};
pub use methods::{AuthMethod, AuthMethods};

use crate::base::Secret;
use crate::policy::Grant;
use base64::Engine as _;

/// What a credential is, with its secret.
#[derive(Debug)]
pub enum Form {
    /// `Authorization: Bearer SECRET`.
    Bearer(Secret),
    /// `NAME: PREFIX SECRET`, the prefix as written in the config.
    Header {
        /// Lower-case field name.
        name: String,
        /// Text before the secret, usually empty.
        prefix: String,
        /// The secret.
        secret: Secret,
    },
    /// `Authorization: Basic base64(USER:SECRET)` (RFC 7617).
    Basic {
        /// The user part; may not hold a colon.
        user: String,
        /// The password.
        secret: Secret,
    },
    /// A database user with its password.
    Password {
        /// The user to log in as.
        user: String,
        /// The password.
        secret: Secret,
        /// The role to take on after the login, for good.
        role: Option<String>,
    },
    /// Nothing is placed.
    None,
}

/// A credential ready to be placed.
#[derive(Debug)]
pub struct Credential {
    name: String,
    line: Secret,
    /// Bytes of the field's name, at the start of `line`.
    field_len: usize,
    echo: Option<Echo>,
}

impl Credential {
    /// Compiles `form`; `name` is what the record calls it.
    #[must_use]
    pub fn new(name: String, form: &Form) -> Self {
        let line = |field: &str, parts: &[&[u8]]| {
            let mut bytes = Vec::with_capacity(64);
            bytes.extend_from_slice(field.as_bytes());
            bytes.extend_from_slice(b": ");
            parts.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.extend_from_slice(b"\r\n");
            Secret::new(bytes)
        };
        let (line, echo) = match form {
            // It is no header line.
            Form::None | Form::Password { .. } => (Secret::new(Vec::new()), None),
            Form::Bearer(secret) => (
                line("authorization", &[b"Bearer ", secret.expose()]),
                Some(Echo::new(&[secret.expose()])),
            ),
            Form::Header { name, prefix, secret } => (
                line(name, &[prefix.as_bytes(), secret.expose()]),
                Some(Echo::new(&[secret.expose()])),
            ),
            Form::Basic { user, secret } => {
                let mut pair = user.clone().into_bytes();
                pair.push(b':');
                pair.extend_from_slice(secret.expose());
                let encoded =
                    Secret::new(base64::engine::general_purpose::STANDARD.encode(&pair).into());
                let pair = Secret::new(pair);
                (
                    line("authorization", &[b"Basic ", encoded.expose()]),
                    Some(Echo::new(&[secret.expose(), pair.expose()])),
                )
            }
        };
        let field_len = memchr::memchr(b':', line.expose()).unwrap_or(0);
        Self { name, line, field_len, echo }
    }

    /// Its name; never secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The field that carries it, lower case; empty where nothing is placed.
    #[must_use]
    pub fn field(&self) -> &[u8] {
        self.line.expose().get(..self.field_len).unwrap_or_default()
    }

    /// What to look for in answers; `None` where nothing is placed.
    #[must_use]
    pub fn echo(&self) -> Option<&Echo> {
        self.echo.as_ref()
    }

    /// Appends the header line that carries the secret, with its line end. The grant is the
    /// proof that a decision was made.
    pub fn place(&self, _grant: &Grant, head: &mut Vec<u8>) {
        head.extend_from_slice(self.line.expose());
    }
}
