//! A login that an operator makes by hand, with a secret of its own naming.

use super::Echo;
use super::login::Login;
use crate::base::Secret;

/// A user and a password for a server that an operator calls from the command line.
///
/// A [`Credential`](super::Credential) is opened by a `&Grant` only, since it is used for a caller,
/// whom somebody must have permitted that. Here nobody asks: who runs the program named server and
/// secret, and could read the secret as well. So it is another type, which no session can hold in
/// the place of a credential; `tests/layering.rs` sees to it that nothing on the path of a caller
/// names it.
#[derive(Debug)]
pub struct OperatorLogin(Login);

impl OperatorLogin {
    /// `role` is taken on behind the login, where there is one.
    #[must_use]
    pub fn new(user: String, secret: Secret, role: Option<String>) -> Self {
        Self(Login::new(user, secret, role))
    }

    /// The user, who is not secret.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// The role that the session takes on after the login.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        self.0.role.as_deref()
    }

    /// Whether there is a password at all.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        !self.0.secret.is_empty()
    }

    /// Appends the password as it is; who lends the buffer wipes it.
    pub fn password(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.0.secret.expose());
    }

    /// Appends the answer to a server that asks for MD5 with this salt.
    pub fn md5(&self, salt: [u8; 4], to: &mut Vec<u8>) {
        self.0.md5(salt, to);
    }

    /// The password as it could be told back; `None` without one.
    #[must_use]
    pub fn echo(&self) -> Option<Echo> {
        self.has_secret().then(|| Echo::new(&[self.0.secret.expose()]))
    }

    /// Whether the password stands in a text, as it is or in the forms that [`Echo`] knows.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.echo().is_some_and(|echo| echo.in_text(text.as_bytes()))
    }

    pub(super) fn login(&self) -> &Login {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_who_and_not_by_what() {
        let secret = Secret::new(b"hunter2-hunter2".to_vec());
        let login = OperatorLogin::new("app".into(), secret, Some("reader".into()));
        assert_eq!((login.user(), login.role(), login.has_secret()), ("app", Some("reader"), true));
        assert!(!format!("{login:?}").contains("hunter"));
        assert!(login.is_in("it is hunter2-hunter2.") && !login.is_in("hunter"));
        let none = OperatorLogin::new("app".into(), Secret::new(Vec::new()), None);
        assert!(!none.is_in("anything") && !none.is_in(""));
    }
}
