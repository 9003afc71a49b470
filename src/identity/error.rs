//! Why a token is not accepted.

use super::json::JsonFault;
use crate::base::IssuerId;
use std::fmt;

/// Why there is no [`Principal`](super::Principal). The caller hears 401 and nothing of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Longer than the bound.
    TooLong,
    /// Not three parts, or an empty one. An encrypted token has five.
    Segments,
    /// Not canonical base64url: alphabet, padding or unused bits.
    Encoding,
    /// The header is not strict JSON.
    HeaderJson(JsonFault),
    /// A header field that is missing, of a wrong type, or changes what the token means.
    HeaderField(&'static str),
    /// Any `crit`, also an empty one.
    Critical,
    /// `alg` is unknown, or not on the issuer's list.
    Algorithm,
    /// The claims are not strict JSON.
    ClaimsJson(JsonFault),
    /// `iss` is none of the configured issuers.
    UnknownIssuer,
    /// The issuer's key set is not there (yet).
    NoKeys {
        /// Whose keys are missing.
        issuer: IssuerId,
    },
    /// The issuer's key set has no such key; a fetch may bring it.
    UnknownKey {
        /// Whose key it should be.
        issuer: IssuerId,
        /// First eight bytes of the SHA-256 of `kid`; zero when the token has none.
        kid_hash: u64,
    },
    /// Several keys could be meant.
    AmbiguousKey,
    /// The key is there and does not agree with `alg` or with the profile.
    KeyMismatch,
    /// The signature is not the key's.
    Signature,
    /// A claim that must be there is not.
    MissingClaim(&'static str),
    /// A claim has another type or range than it must.
    ClaimType(&'static str),
    /// A claim that names somebody holds NUL or a control character.
    ControlCharacter(&'static str),
    /// Past `exp` and skew.
    Expired,
    /// Before `nbf`, skew granted.
    NotYetValid,
    /// `iat` lies ahead, skew granted.
    IssuedInFuture,
    /// Issued longer ago than the issuer's age bound.
    TooOld,
    /// Not a token of the issuer's profile; the text is the mark that tells.
    Profile(&'static str),
    /// `aud` does not name this gateway.
    Audience,
    /// `azp` / `client_id` is not on the issuer's list, or two of them differ.
    Party,
    /// The chain of `act` is broken, too deep, foreign or a cycle.
    Actor,
    /// The groups are elsewhere (Entra's overage), so no rule on groups can be decided.
    GroupsElsewhere,
    /// The token is bound to a key that was not shown.
    Bound,
    /// An ID token that answers another sign-in; the text is the claim that tells.
    Answer(&'static str),
    /// A certificate does not parse, or is outside its time.
    Certificate,
    /// A certificate has no name to use, or more than one.
    CertificateName,
}

impl TokenError {
    /// A fixed word for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Segments => "segments",
            Self::Encoding => "encoding",
            Self::HeaderJson(_) => "header_json",
            Self::HeaderField(_) => "header_field",
            Self::Critical => "crit",
            Self::Algorithm => "algorithm",
            Self::ClaimsJson(_) => "claims_json",
            Self::UnknownIssuer => "unknown_issuer",
            Self::NoKeys { .. } => "no_keys",
            Self::UnknownKey { .. } => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::KeyMismatch => "key_mismatch",
            Self::Signature => "signature",
            Self::MissingClaim(_) => "missing_claim",
            Self::ClaimType(_) => "claim_type",
            Self::ControlCharacter(_) => "control_character",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::TooOld => "too_old",
            Self::Profile(_) => "profile",
            Self::Audience => "audience",
            Self::Party => "party",
            Self::Actor => "actor",
            Self::GroupsElsewhere => "groups_elsewhere",
            Self::Bound => "bound",
            Self::Answer(_) => "answer",
            Self::Certificate => "certificate",
            Self::CertificateName => "certificate_name",
        }
    }

    /// Whether the same token is refused again under the same keys and rules at any later time,
    /// whoever shows it. Only such a refusal may be kept.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(
            self,
            Self::NoKeys { .. }
                | Self::UnknownKey { .. }
                | Self::NotYetValid
                | Self::IssuedInFuture
                | Self::Bound
        )
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderJson(fault) | Self::ClaimsJson(fault) => {
                write!(f, "{} ({fault:?})", self.label())
            }
            Self::HeaderField(name)
            | Self::MissingClaim(name)
            | Self::ClaimType(name)
            | Self::ControlCharacter(name)
            | Self::Answer(name)
            | Self::Profile(name) => write!(f, "{} ({name})", self.label()),
            _ => f.write_str(self.label()),
        }
    }
}

impl std::error::Error for TokenError {}
