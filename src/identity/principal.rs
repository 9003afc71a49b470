//! Somebody whose token or certificate was verified.

use crate::base::IssuerId;
use std::fmt;

/// A verified caller. Only [`Verifier::verify`](super::Verifier::verify) and
/// [`from_certificate`](super::from_certificate) make one; there is no anonymous principal.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    pub(super) issuer: IssuerId,
    pub(super) iss: Box<str>,
    pub(super) sub: Box<str>,
    pub(super) groups: Box<[Box<str>]>,
    pub(super) client_id: Option<Box<str>>,
    pub(super) actors: Box<[Box<str>]>,
    pub(super) expires_s: u64,
    pub(super) valid_until_s: u64,
    pub(super) token_digest: [u8; 32],
    pub(super) certificate: Option<[u8; 32]>,
    pub(super) carried_key: bool,
    /// Keeps other modules from writing a literal, also through struct update.
    pub(super) verified: Verified,
}

/// Made where the checks end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Verified;

impl Principal {
    /// The configured issuer that vouches.
    #[must_use]
    pub fn issuer(&self) -> IssuerId {
        self.issuer
    }

    /// `iss` of the token, or the configured name of the certificate authority.
    #[must_use]
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// Whom it is about: `sub`, or the name in the certificate. Unique within [`Self::iss`] only.
    #[must_use]
    pub fn sub(&self) -> &str {
        &self.sub
    }

    /// What the issuer's groups claim holds, in its order; empty when the token has none.
    #[must_use]
    pub fn groups(&self) -> &[Box<str>] {
        &self.groups
    }

    /// The OAuth client (`client_id`, `azp`, `appid` or `cid`); for GitHub Actions the repository.
    #[must_use]
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Who acts for the subject (RFC 8693, section 4.1), the one that acts last first.
    pub fn actors(&self) -> impl ExactSizeIterator<Item = &str> {
        self.actors.iter().map(AsRef::as_ref)
    }

    /// `exp`, in seconds since the epoch.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        self.expires_s
    }

    /// The first second at which the same token would be refused: `exp` and skew, or the age bound.
    #[must_use]
    pub fn valid_until_s(&self) -> u64 {
        self.valid_until_s
    }

    /// SHA-256 of the token's bytes (of the certificate's DER), for the record.
    #[must_use]
    pub fn token_digest(&self) -> &[u8; 32] {
        &self.token_digest
    }

    /// Thumbprint of the certificate that the token is bound to (RFC 8705, section 3.1). The
    /// principal counts only on a connection that showed this certificate.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8; 32]> {
        self.certificate.as_ref()
    }

    /// Whether the header brought `jku`, `x5u`, `jwk` or `x5c`. They were not used; count them.
    #[must_use]
    pub fn carried_key(&self) -> bool {
        self.carried_key
    }

    /// Bytes of its texts, for the bounds of a cache.
    pub(super) fn len_bytes(&self) -> usize {
        let texts = self.groups.iter().chain(&self.actors).chain(&self.client_id);
        let texts: usize = texts.map(|text| text.len() + size_of::<Box<str>>()).sum();
        size_of::<Self>() + self.iss.len() + self.sub.len() + texts
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal")
            .field("issuer", &self.issuer)
            .field("sub", &"..")
            .field("groups", &self.groups.len())
            .field("actors", &self.actors.len())
            .field("expires_s", &self.expires_s)
            .finish_non_exhaustive()
    }
}
