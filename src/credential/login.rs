//! A user and a password for a database.

use super::scram::ITERATIONS_MAX;
use crate::base::Secret;
use md5::{Digest as _, Md5};
use ring::pbkdf2;
use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::OnceLock;
use zeroize::{Zeroize as _, Zeroizing};

/// The key that SCRAM makes of a password.
pub(super) type SaltedKey = Zeroizing<[u8; ring::digest::SHA256_OUTPUT_LEN]>;

/// What a [`Form::Password`](super::Form::Password) keeps.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) secret: Secret,
    pub(super) role: Option<String>,
    /// The secret as SASLprep has it, where that is something else.
    prepared: Option<Secret>,
    salted: OnceLock<Salted>,
}

/// The salted password of the first server that asked. 4096 rounds are about 1 ms in which a worker
/// does nothing else; a server sends the same salt for as long as it stores the same verifier, so a
/// credential pays them once. One that is used for several servers, or whose verifier was made
/// anew, pays each time again for all but the first, which is slow and never wrong.
struct Salted {
    salt: Vec<u8>,
    rounds: NonZeroU32,
    key: SaltedKey,
}

impl std::fmt::Debug for Salted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salted(..)")
    }
}

impl Login {
    pub(super) fn new(user: String, secret: Secret, role: Option<String>) -> Self {
        Self { prepared: prepared(&secret), user, secret, role, salted: OnceLock::new() }
    }

    /// `Hi(password, salt, rounds)` of RFC 5802, which is PBKDF2 with HMAC-SHA-256, of the password
    /// as SASLprep has it. One that cannot be prepared is used as it is, as PostgreSQL does.
    pub(super) fn salted(&self, salt: &[u8], rounds: NonZeroU32) -> SaltedKey {
        debug_assert!(rounds.get() <= ITERATIONS_MAX, "nobody waits for more");
        if let Some(known) = self.salted.get()
            && known.rounds == rounds
            && known.salt == salt
        {
            return known.key.clone();
        }
        let mut key = SaltedKey::default();
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let password = self.prepared.as_ref().unwrap_or(&self.secret);
        pbkdf2::derive(algorithm, rounds, salt, password.expose(), &mut key[..]);
        // Another one may be there: then that stays.
        let _ = self.salted.set(Salted { salt: salt.to_vec(), rounds, key: key.clone() });
        key
    }

    /// Appends `md5` and the hex of `md5(hex(md5(password user)) salt)` (manual, "Message Flow",
    /// AuthenticationMD5Password).
    pub(super) fn md5(&self, salt: [u8; 4], to: &mut Vec<u8>) {
        let stored = hex(&[self.secret.expose(), self.user.as_bytes()]);
        let answer = hex(&[&stored[..], &salt]);
        to.extend_from_slice(b"md5");
        to.extend_from_slice(&answer[..]);
    }
}

/// A password prepared by SASLprep (RFC 4013). `None`: that is the password itself, or it is not
/// text or has characters that must not be in one.
fn prepared(secret: &Secret) -> Option<Secret> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    match stringprep::saslprep(text).ok()? {
        Cow::Borrowed(_) => None,
        Cow::Owned(mut prepared) => {
            let secret = Secret::new(prepared.as_bytes().to_vec());
            prepared.zeroize();
            (!secret.expose().is_empty()).then_some(secret)
        }
    }
}

/// MD5 of `parts` in lower-case hex.
fn hex(parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    let digest = Zeroizing::new(<[u8; 16]>::from(hash.finalize()));
    let mut text = Zeroizing::new([0; 32]);
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest.iter()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::credential::ITERATIONS_MIN;

    fn login(secret: &[u8]) -> Login {
        Login::new("app".into(), Secret::new(secret.to_vec()), None)
    }

    #[test]
    fn md5_is_what_a_server_stores_with_its_salt() {
        // pg_authid has md5 || md5('hunter2-hunter2app'); this is that with the salt, by OpenSSL.
        let mut to = b"x".to_vec();
        login(b"hunter2-hunter2").md5([1, 2, 0, 0xff], &mut to);
        assert_eq!(to, b"xmd5ab1955a7e3b6af33c7254b64a5f30056");
        // RFC 1321, appendix A.5.
        assert_eq!(&hex(&[b"message ", b"digest"])[..], b"f96b697d7cb7938d525a2f31aaf161d0");
    }

    #[test]
    fn a_password_is_prepared_for_scram_where_it_can_be() {
        let key = |secret: &str| {
            let rounds = NonZeroU32::new(ITERATIONS_MIN).unwrap();
            login(secret.as_bytes()).salted(b"salt-of-a-server", rounds)
        };
        // RFC 4013, section 3: a soft hyphen is dropped, a roman numeral is its letters; and a
        // letter with a combining mark is composed, a no-break space is a space.
        for (written, prepared) in [
            ("I\u{ad}X-pass", "IX-pass"),
            ("\u{2168}-pass", "IX-pass"),
            ("e\u{301}tait une fois", "\u{e9}tait une fois"),
            ("a\u{a0}b-pass", "a b-pass"),
        ] {
            assert_eq!(key(written), key(prepared), "{prepared}");
        }
        // A control character is in none, and a password is not what another one is.
        assert_ne!(key("a\u{7}b-pass"), key("ab-pass"));
        assert_ne!(key("USER-pass"), key("user-pass"));
        let raw = prepared(&Secret::new(b"\xff\xfe-pass".to_vec()));
        assert!(raw.is_none(), "what is no text is used as it is");
    }

    #[test]
    fn the_first_salt_is_remembered_and_others_are_right_too() {
        let login = login(b"pencil");
        let rounds = NonZeroU32::new(4_096).unwrap();
        let derived = |salt: &[u8], rounds| {
            let mut key = SaltedKey::default();
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, b"pencil", &mut key[..]);
            key
        };
        for salt in [b"one", b"one", b"two", b"one"] {
            assert_eq!(login.salted(salt, rounds), derived(salt, rounds));
            assert_eq!(login.salted.get().unwrap().salt, b"one");
        }
        let more = NonZeroU32::new(4_097).unwrap();
        assert_eq!(login.salted(b"one", more), derived(b"one", more));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let login = login(b"hunter2-hunter2");
        login.salted(b"salt", NonZeroU32::MIN);
        assert!(!format!("{login:?}").contains("hunter"));
        assert!(format!("{login:?}").contains("Salted(..)"));
    }
}
