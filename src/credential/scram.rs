//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a client (RFC 5802, RFC 7677), for PostgreSQL's SASL.
//!
//! ```text
//! new -- first --> (server-first) -- answer --> (server-final) -- finish --> the server is known
//! ```
//!
//! Both sides prove that they know the password (the server: something made of it) and neither
//! shows it. With a binding they also prove that they speak over the same TLS connection: a man in
//! the middle with a certificate of its own cannot pass the proofs on.
//!
//! The server is a stranger until [`Scram::finish`]: everything that it sends is bounded, and what
//! it may make a worker compute is too.

use super::login::Login;
use super::{Credential, OperatorLogin, ScramError};
use crate::policy::Grant;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac};
use std::fmt;
use std::num::NonZeroU32;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Random bytes that a caller of [`Scram::new`] should give: as many as libpq takes.
pub const NONCE_LEN: usize = 18;
/// Fewest of them that are used.
const NONCE_LEN_MIN: usize = 15;

/// Fewest iterations that a server may ask for: the least of RFC 7677 (section 4) and PostgreSQL's
/// default. One that asks for fewer could guess the password from the proof so much faster.
pub const ITERATIONS_MIN: u32 = 4_096;
/// Most iterations that a server may ask for. They are computed on the worker, which does nothing
/// else meanwhile: 4096 are 0.9 ms measured, so many are 60 ms, once for each credential.
pub const ITERATIONS_MAX: u32 = 250_000;
/// Longest message of a server; PostgreSQL's are below 100 bytes.
const MESSAGE_LEN_MAX: usize = 1_024;
/// Longest salt; PostgreSQL's has 16 bytes.
const SALT_LEN_MAX: usize = 256;

/// One authentication.
pub struct Scram {
    /// The binding's data, where the mechanism is the one with binding.
    binding: Option<Vec<u8>>,
    /// `gs2-header`: what is bound, or why nothing is.
    header: &'static str,
    /// The own nonce, as text.
    nonce: String,
    /// `client-first-message-bare`.
    bare: String,
    /// What the server must prove, from [`Self::answer`] on.
    due: Option<Due>,
}

/// The server's key and the text that it must have signed with it.
struct Due {
    server_key: hmac::Key,
    exchange: Vec<u8>,
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scram({})", self.mechanism())
    }
}

impl Scram {
    /// Begins an authentication.
    ///
    /// `binding` is what [`server_end_point`](super::server_end_point) made of the upstream's
    /// certificate, or `None` where no TLS is spoken. With a binding and `server_offers_plus` the
    /// channel is bound; with a binding alone the server is told that it could have been (`y,,`),
    /// so that it finds out when somebody took its offer away. `nonce` is [`NONCE_LEN`] random
    /// bytes, for this authentication alone.
    #[must_use]
    pub fn new(binding: Option<Vec<u8>>, server_offers_plus: bool, nonce: &[u8]) -> Self {
        Self::with_user("", binding, server_offers_plus, nonce)
    }

    /// Likewise, by the names of the mechanisms that the server offers.
    ///
    /// # Errors
    /// [`ScramError::Mechanism`] when none fits: no SCRAM at all, or only the one with binding
    /// although there is no TLS. The latter offered without TLS is refused in any case, as libpq
    /// does.
    pub fn offered<'a>(
        mechanisms: impl IntoIterator<Item = &'a [u8]>,
        binding: Option<Vec<u8>>,
        nonce: &[u8],
    ) -> Result<Self, ScramError> {
        let (mut plain, mut plus) = (false, false);
        for name in mechanisms {
            plain |= name == SCRAM_SHA_256.as_bytes();
            plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        }
        match (&binding, plus) {
            (Some(_), true) => {}
            (_, false) if plain => {}
            _ => return Err(ScramError::Mechanism),
        }
        Ok(Self::new(binding, plus, nonce))
    }

    /// PostgreSQL takes the user from the start-up packet and ignores the one of SCRAM, so it is
    /// empty.
    fn with_user(
        user: &str,
        binding: Option<Vec<u8>>,
        server_offers_plus: bool,
        nonce: &[u8],
    ) -> Self {
        debug_assert!(nonce.len() >= NONCE_LEN_MIN, "a nonce that can be guessed");
        let (header, binding) = match binding {
            Some(data) if server_offers_plus => ("p=tls-server-end-point,,", Some(data)),
            Some(_) => ("y,,", None),
            None => ("n,,", None),
        };
        let nonce = STANDARD.encode(nonce);
        let bare = format!("n={user},r={nonce}");
        Self { binding, header, nonce, bare, due: None }
    }

    /// The mechanism to name in the SASLInitialResponse.
    #[must_use]
    pub fn mechanism(&self) -> &'static str {
        if self.binding.is_some() { SCRAM_SHA_256_PLUS } else { SCRAM_SHA_256 }
    }

    /// Appends the client's first message.
    pub fn first(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.header.as_bytes());
        to.extend_from_slice(self.bare.as_bytes());
    }

    /// Appends the client's answer to the server's first message: the proof that it knows the
    /// password. The grant is the proof that a decision was made.
    ///
    /// Costs the iterations that the server asks for, about 1 ms for the usual 4096, unless the
    /// credential remembers them for this salt (20 us then).
    ///
    /// # Errors
    /// What is wrong with the message; [`ScramError::NoPassword`] for a credential of another form,
    /// [`ScramError::Order`] when an answer was given before. Nothing is appended then.
    pub fn answer(
        &mut self,
        _grant: &Grant,
        credential: &Credential,
        server_first: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), ScramError> {
        let login = credential.login.as_ref().ok_or(ScramError::NoPassword)?;
        self.prove(login, server_first, to)
    }

    /// The same for the login of an operator, who needs nobody's grant.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub fn answer_for_operator(
        &mut self,
        login: &OperatorLogin,
        server_first: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), ScramError> {
        self.prove(login.login(), server_first, to)
    }

    fn prove(
        &mut self,
        login: &Login,
        server_first: &[u8],
        to: &mut Vec<u8>,
    ) -> Result<(), ScramError> {
        if self.due.is_some() {
            return Err(ScramError::Order);
        }
        let first = ServerFirst::parse(server_first, &self.nonce)?;
        let mut bound = self.header.as_bytes().to_vec();
        bound.extend_from_slice(self.binding.as_deref().unwrap_or_default());
        let bare = format!("c={},r={}", STANDARD.encode(&bound), first.nonce);
        let exchange = [self.bare.as_bytes(), server_first, bare.as_bytes()].join(&b',');

        let salted =
            hmac::Key::new(hmac::HMAC_SHA256, &login.salted(&first.salt, first.rounds)[..]);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let stored_key = hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref());
        let signature = hmac::sign(&stored_key, &exchange);
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(key, mask)| key ^ mask).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let server_key = hmac::Key::new(hmac::HMAC_SHA256, server_key.as_ref());

        to.extend_from_slice(bare.as_bytes());
        to.extend_from_slice(b",p=");
        to.extend_from_slice(STANDARD.encode(&proof).as_bytes());
        self.due = Some(Due { server_key, exchange });
        Ok(())
    }

    /// Verifies the server's last message: that it knows what was made of the password too.
    ///
    /// An AuthenticationOk that comes before this was called and was `Ok` is no authentication of
    /// the server; refuse it.
    ///
    /// # Errors
    /// [`ScramError::Server`] when the server says that it refuses, [`ScramError::Signature`] when
    /// its proof is wrong (compared in constant time), [`ScramError::Order`] when no answer was
    /// given yet, else what is wrong with the message.
    pub fn finish(&self, server_final: &[u8]) -> Result<(), ScramError> {
        let due = self.due.as_ref().ok_or(ScramError::Order)?;
        let text = message(server_final)?;
        let signature = text.strip_prefix("v=").ok_or(ScramError::Malformed)?;
        let signature = STANDARD.decode(signature).map_err(|_| ScramError::Malformed)?;
        hmac::verify(&due.server_key, &due.exchange, &signature).map_err(|_| ScramError::Signature)
    }
}

/// The server's first message.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    rounds: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    /// Reads `r=NONCE,s=SALT,i=ITERATIONS`. Extensions are refused, the mandatory ones (`m=`) as
    /// RFC 5802 asks and the others as libpq does.
    fn parse(bytes: &'a [u8], own: &str) -> Result<Self, ScramError> {
        let mut parts = message(bytes)?.split(',');
        let mut attribute = |name: &str| {
            parts.next().and_then(|part| part.strip_prefix(name)).ok_or(ScramError::Malformed)
        };
        let (nonce, salt, rounds) = (attribute("r=")?, attribute("s=")?, attribute("i=")?);
        if parts.next().is_some() {
            return Err(ScramError::Malformed);
        }
        let added = nonce.strip_prefix(own).ok_or(ScramError::Nonce)?;
        if added.is_empty() || !added.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Nonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Salt)?;
        if salt.is_empty() || salt.len() > SALT_LEN_MAX {
            return Err(ScramError::Salt);
        }
        Ok(Self { nonce, salt, rounds: iterations(rounds)? })
    }
}

/// A `posit-number` (RFC 5802, section 7) within the bounds.
fn iterations(text: &str) -> Result<NonZeroU32, ScramError> {
    if text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ScramError::Iterations);
    }
    let rounds: NonZeroU32 = text.parse().map_err(|_| ScramError::Iterations)?;
    let allowed = ITERATIONS_MIN..=ITERATIONS_MAX;
    if allowed.contains(&rounds.get()) { Ok(rounds) } else { Err(ScramError::Iterations) }
}

/// A message of the server that is no refusal, as text.
fn message(bytes: &[u8]) -> Result<&str, ScramError> {
    if bytes.len() > MESSAGE_LEN_MAX {
        return Err(ScramError::TooLong);
    }
    if bytes.starts_with(b"e=") {
        return Err(ScramError::Server);
    }
    std::str::from_utf8(bytes).map_err(|_| ScramError::Malformed)
}

/// The nonce of login number `number` of those that share a `seed` of random bytes, which nobody
/// hears of: each login must have its own (RFC 5802, section 5.1).
#[must_use]
pub fn nonce_of(seed: &[u8], number: u64) -> [u8; NONCE_LEN] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
    let made = hmac::sign(&key, &number.to_be_bytes());
    let mut nonce = [0; NONCE_LEN];
    nonce.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
    nonce
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
