//! How a secret is placed in a request, or proved to a database, and how its echo is found in an
//! answer.
//!
//! A [`Credential`] is compiled once, when its secret is resolved. Only a `&Grant` opens it: no
//! code path without a decision can reach the bytes. An [`OperatorLogin`] is for the command line.

mod echo;
mod endpoint;
mod error;
mod login;
mod methods;
mod operator;
mod scram;

pub use echo::{Echo, EchoFound, EchoState, EchoStep};
pub use endpoint::server_end_point;
pub use error::ScramError;
pub use methods::{AuthMethod, AuthMethods};
pub use operator::OperatorLogin;
pub use scram::{
    ITERATIONS_MAX, ITERATIONS_MIN, NONCE_LEN, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, Scram, nonce_of,
};

use crate::base::Secret;
use crate::policy::Grant;
use base64::Engine as _;
use login::Login;

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
    /// A login of a database: nothing is placed in a head.
    Password {
        /// The user.
        user: String,
        /// The password.
        secret: Secret,
        /// The role that a session takes on after the login, and keeps.
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
    login: Option<Login>,
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
        let mut login = None;
        let (line, echo) = match form {
            Form::Password { user, secret, role } => {
                login = Some(Login::new(user.clone(), secret.clone(), role.clone()));
                (Secret::new(Vec::new()), Some(Echo::new(&[secret.expose()])))
            }
            Form::None => (Secret::new(Vec::new()), None),
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
        Self { name, line, field_len, echo, login }
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

    /// The user of a login, who is not secret; `None` for other forms.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| login.user.as_str())
    }

    /// The role that a session takes on after the login.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.login.as_ref().and_then(|login| login.role.as_deref())
    }

    /// What to look for in answers; `None` where there is no secret.
    #[must_use]
    pub fn echo(&self) -> Option<&Echo> {
        self.echo.as_ref()
    }

    /// Appends the header line that carries the secret, with its line end; nothing for a login. The
    /// grant is the proof that a decision was made.
    pub fn place(&self, _grant: &Grant, head: &mut Vec<u8>) {
        head.extend_from_slice(self.line.expose());
    }

    /// Appends the password of a login as it is, for a server that asks for clear text: only over
    /// TLS that was verified, and only where the configuration allows it. Nothing for other forms.
    /// Who lends the buffer wipes it.
    pub fn password(&self, _grant: &Grant, to: &mut Vec<u8>) {
        if let Some(login) = &self.login {
            to.extend_from_slice(login.secret.expose());
        }
    }

    /// Appends the answer to a server that asks for MD5 with this salt; nothing for other forms. A
    /// weak proof: who hears it can guess the password at leisure, and a rogue server can ask for
    /// it under the salt of the true one and pass it on. So the same holds as for
    /// [`Self::password`].
    pub fn md5(&self, _grant: &Grant, salt: [u8; 4], to: &mut Vec<u8>) {
        if let Some(login) = &self.login {
            login.md5(salt, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_puts_nothing_in_a_head_and_its_echo_is_found() {
        let secret = Secret::new(b"hunter2-hunter2".to_vec());
        let form = Form::Password { user: "app".into(), secret, role: Some("reader".into()) };
        let login = Credential::new("orders".into(), &form);
        assert_eq!((login.line.len(), login.field()), (0, &b""[..]));
        assert_eq!((login.user(), login.role()), (Some("app"), Some("reader")));
        let echo = login.echo().map(|echo| echo.in_text(b"role \"app\", hunter2-hunter2"));
        assert_eq!(echo, Some(true));
        assert!(!format!("{form:?} {login:?}").contains("hunter"));
    }

    #[test]
    fn other_forms_have_no_login() {
        for form in [Form::None, Form::Bearer(Secret::new(b"sk-12345678".to_vec()))] {
            let other = Credential::new("x".into(), &form);
            assert!(other.login.is_none() && other.user().is_none() && other.role().is_none());
        }
    }
}
