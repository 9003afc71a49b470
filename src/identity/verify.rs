//! From a token's bytes to a [`Principal`], step by step, each of them failing closed.
//!
//! ```text
//! bounds -> header -> claims parse -> issuer -> key -> algorithm -> signature
//!        -> times -> audience -> profile -> parties -> binding -> groups, actors -> Principal
//! ```
//!
//! The issuer is read before the signature is checked, and only to choose whose keys are used: a
//! key name means something inside its issuer's set alone.

use super::TokenError;
use super::algorithm::Algorithm;
use super::claims;
use super::compact::Compact;
use super::json::{Doc, Duplicates, Value};
use super::jwk::KID_LEN_MAX;
use super::keys::KeySnapshot;
use super::principal::{Principal, Verified};
use super::profile::{Profile, Typ};
use super::rules::IssuerRules;
use crate::base::{IssuerId, Now};
use ring::digest;
use std::borrow::Cow;

/// Largest token, unless [`Verifier::with_token_max`] says less or more.
pub const TOKEN_LEN_MAX: usize = 16 << 10;
/// Nesting of a header.
pub(super) const HEADER_DEPTH_MAX: u32 = 4;
/// Nesting of claims; Keycloak's and Kubernetes' go to 4, a chain of actors to 5.
pub(super) const CLAIMS_DEPTH_MAX: u32 = 12;

/// Checks tokens of the configured issuers. Immutable; share it by `Arc`.
#[derive(Clone, Debug)]
pub struct Verifier {
    rules: Vec<IssuerRules>,
    pub(super) token_max: usize,
}

/// The header fields that mean something here.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) typ: Typ,
    pub(super) carried_key: bool,
}

/// Times of a token that hold at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub(super) expires_s: u64,
    /// First second at which they hold no more.
    pub(super) until_s: u64,
}

impl Header {
    /// # Errors
    /// Everything that changes how a token is to be read, and `alg` that is none of ours.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, TokenError> {
        let doc = Doc::parse(bytes, HEADER_DEPTH_MAX, Duplicates::Refuse)
            .map_err(TokenError::HeaderJson)?;
        let root = doc.root();
        // RFC 7515, section 4.1.11: what is critical and not understood is refused; none is.
        if root.member("crit").is_some() {
            return Err(TokenError::Critical);
        }
        for name in ["b64", "zip", "enc", "epk"] {
            if root.member(name).is_some() {
                return Err(TokenError::HeaderField(name));
            }
        }
        let field = |name: &'static str| match root.member(name) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or(TokenError::HeaderField(name)),
        };
        let algorithm = field("alg")?.and_then(|name| Algorithm::parse(&name));
        let kid = field("kid")?.map(Cow::into_owned);
        if kid.as_ref().is_some_and(|kid| kid.len() > KID_LEN_MAX || !claims::is_clean(kid)) {
            return Err(TokenError::HeaderField("kid"));
        }
        Ok(Self {
            algorithm: algorithm.ok_or(TokenError::Algorithm)?,
            kid,
            typ: field("typ")?.map_or(Typ::Absent, |typ| Typ::read(&typ)),
            carried_key: ["jku", "x5u", "jwk", "x5c"].iter().any(|f| root.member(f).is_some()),
        })
    }
}

impl Verifier {
    /// A verifier for these issuers, [`IssuerId`] being the place in the list.
    #[must_use]
    pub fn new(rules: Vec<IssuerRules>) -> Self {
        Self { rules, token_max: TOKEN_LEN_MAX }
    }

    /// The same with another bound on the length of a token.
    #[must_use]
    pub fn with_token_max(mut self, bytes: usize) -> Self {
        self.token_max = bytes;
        self
    }

    /// The rules, by [`IssuerId`].
    #[must_use]
    pub fn rules(&self) -> &[IssuerRules] {
        &self.rules
    }

    /// Checks a token that came without a client certificate.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn verify(
        &self,
        token: &[u8],
        keys: &KeySnapshot,
        now: Now,
    ) -> Result<Principal, TokenError> {
        self.verify_bound(token, keys, now, None)
    }

    /// Checks a token that came on a connection whose peer proved to hold the certificate with
    /// this SHA-256 thumbprint; a token bound to a certificate (RFC 8705) needs it.
    ///
    /// # Errors
    /// The first step that fails.
    pub fn verify_bound(
        &self,
        token: &[u8],
        keys: &KeySnapshot,
        now: Now,
        certificate: Option<&[u8; 32]>,
    ) -> Result<Principal, TokenError> {
        let compact = Compact::split(token, self.token_max)?;
        let header = Header::read(&compact.header()?)?;
        let bytes = compact.claims()?;
        let doc = Doc::parse(&bytes, CLAIMS_DEPTH_MAX, Duplicates::Refuse)
            .map_err(TokenError::ClaimsJson)?;
        let root = doc.root();
        let iss = claims::required(root, "iss")?;
        let (issuer, rules) = self.issuer(&iss)?;
        check_signature(&compact, &header, issuer, rules, keys)?;

        // From here on the claims are the issuer's.
        let times = check_times(root, rules, now)?;
        if !rules.accepts_audience(&claims::audience(root)?) {
            return Err(TokenError::Audience);
        }
        let client = check_parties(root, &header, rules)?;
        let bound = claims::binding(root)?;
        if bound.is_some() && bound.as_ref() != certificate {
            return Err(TokenError::Bound);
        }
        let sub = claims::required(root, "sub")?;
        Ok(Principal {
            issuer,
            groups: claims::groups(root, &rules.groups_claim)?,
            actors: claims::actors(root, &iss, &sub)?,
            client_id: client.map(|client| client.as_ref().into()),
            iss: iss.into(),
            sub: sub.into(),
            expires_s: times.expires_s,
            valid_until_s: times.until_s,
            token_digest: sha256(token),
            certificate: bound,
            carried_key: header.carried_key,
            verified: Verified,
        })
    }

    /// The rules of the issuer whose name is exactly this.
    pub(super) fn issuer(&self, iss: &str) -> Result<(IssuerId, &IssuerRules), TokenError> {
        let place = self.rules.iter().position(|rules| rules.issuer == iss);
        place
            .and_then(|place| Some((IssuerId(u16::try_from(place).ok()?), self.rules.get(place)?)))
            .ok_or(TokenError::UnknownIssuer)
    }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap_or([0; 32])
}

/// Key and algorithm agree, and the signature is the key's.
pub(super) fn check_signature(
    compact: &Compact<'_>,
    header: &Header,
    issuer: IssuerId,
    rules: &IssuerRules,
    keys: &KeySnapshot,
) -> Result<(), TokenError> {
    if !rules.algorithms.contains(&header.algorithm) {
        return Err(TokenError::Algorithm);
    }
    let set = keys.set(issuer).ok_or(TokenError::NoKeys { issuer })?;
    let svid = rules.profile == Profile::SpiffeJwt;
    let key = set.choose(issuer, header.kid.as_deref(), header.algorithm, svid)?;
    let signature = compact.signature()?;
    if header.algorithm.verify(&key.material, compact.signed, &signature) {
        Ok(())
    } else {
        Err(TokenError::Signature)
    }
}

/// `exp`, `nbf`, `iat` and age.
pub(super) fn check_times(
    root: Value<'_>,
    rules: &IssuerRules,
    now: Now,
) -> Result<Times, TokenError> {
    let (now_s, skew) = (now.wall_s(), rules.skew());
    let expires_s = claims::seconds(root, "exp")?.ok_or(TokenError::MissingClaim("exp"))?;
    let mut until_s = expires_s.saturating_add(skew);
    if now_s >= until_s {
        return Err(TokenError::Expired);
    }
    if claims::seconds(root, "nbf")?.is_some_and(|from| from > now_s.saturating_add(skew)) {
        return Err(TokenError::NotYetValid);
    }
    let issued = claims::seconds(root, "iat")?;
    if issued.is_some_and(|at| at > now_s.saturating_add(skew)) {
        return Err(TokenError::IssuedInFuture);
    }
    if let Some(age_max) = rules.age_max_s {
        let issued = issued.ok_or(TokenError::MissingClaim("iat"))?;
        let old = issued.saturating_add(age_max).saturating_add(skew);
        if now_s >= old {
            return Err(TokenError::TooOld);
        }
        until_s = until_s.min(old);
    }
    Ok(Times { expires_s, until_s })
}

/// Profile and client.
pub(super) fn check_parties<'d>(
    root: Value<'d>,
    header: &Header,
    rules: &IssuerRules,
) -> Result<Option<Cow<'d, str>>, TokenError> {
    let client = claims::client(root)?;
    let client = rules.profile.check(header.typ, header.kid.as_deref(), root, client)?;
    let allowed = rules.clients.is_empty()
        || client.as_ref().is_some_and(|client| rules.clients.iter().any(|own| own == client));
    if allowed { Ok(client) } else { Err(TokenError::Party) }
}
