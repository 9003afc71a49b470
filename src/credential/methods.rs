//! How an upstream may ask for a password.

/// A way in which a PostgreSQL server asks for a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// SCRAM-SHA-256 (RFC 7677), with channel binding wherever TLS is spoken and the server offers
    /// it. The server proves that it knows the password, too.
    ScramSha256,
    /// A salted MD5 of password and user. Who hears it can guess the password offline.
    Md5,
    /// The password itself.
    Cleartext,
}

impl AuthMethod {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::ScramSha256, Self::Md5, Self::Cleartext];

    /// Its word in a config.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ScramSha256 => "scram-sha-256",
            Self::Md5 => "md5",
            Self::Cleartext => "cleartext",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::ScramSha256 => 1,
            Self::Md5 => 2,
            Self::Cleartext => 4,
        }
    }
}

/// The methods that an upstream may ask for. A server that asks for another one is not answered:
/// whoever stands in its place could otherwise ask for the password in clear text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethods(u8);

impl AuthMethods {
    /// No method: nothing that asks for a password is answered.
    pub const NONE: Self = Self(0);

    /// Adds a method.
    #[must_use]
    pub const fn with(self, method: AuthMethod) -> Self {
        Self(self.0 | method.bit())
    }

    /// Whether a server may ask by this method.
    #[must_use]
    pub const fn allows(self, method: AuthMethod) -> bool {
        self.0 & method.bit() != 0
    }
}

/// SCRAM-SHA-256 only.
impl Default for AuthMethods {
    fn default() -> Self {
        Self::NONE.with(AuthMethod::ScramSha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_allows_what_was_put_in_and_nothing_else() {
        for method in AuthMethod::ALL {
            assert!(!AuthMethods::NONE.allows(method));
            for other in AuthMethod::ALL {
                let set = AuthMethods::NONE.with(method);
                assert_eq!(set.allows(other), other == method, "{}", other.label());
                assert!(set.with(other).allows(method) && set.with(other).allows(other));
            }
        }
        let usual = AuthMethods::default();
        assert!(usual.allows(AuthMethod::ScramSha256));
        assert!(!usual.allows(AuthMethod::Md5) && !usual.allows(AuthMethod::Cleartext));
    }
}
