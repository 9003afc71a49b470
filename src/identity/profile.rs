//! What kind of token an issuer gives out, and how to tell that one is of another kind.
//!
//! A token that was made for another use (an ID token at an API, a logout token, a token of a
//! workload where a person's is expected) is refused, not interpreted (RFC 8725, sections 3.11
//! and 3.12).

use super::TokenError;
use super::claims::{required, seconds, text};
use super::json::Value;
use std::borrow::Cow;

/// The kind of token that an issuer is configured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Access tokens of RFC 9068: header `typ` is `at+jwt`.
    Rfc9068,
    /// Access tokens as Entra, Okta, Auth0 and Keycloak issue them, with or without `at+jwt`.
    OidcAccess,
    /// OpenID Connect ID tokens; also what Google gives to service accounts.
    IdToken,
    /// Projected tokens of Kubernetes service accounts.
    K8sSa,
    /// Tokens of GitHub Actions jobs. The client is the repository.
    GithubActions,
    /// SPIFFE JWT-SVIDs with an `iss`.
    SpiffeJwt,
    /// Access tokens for an MCP server: `aud` is the resource's canonical URI.
    Mcp,
}

/// `typ` of the header (RFC 7515, section 4.1.9), without case and `application/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typ {
    Absent,
    Jwt,
    AccessToken,
    Jose,
    Other,
}

impl Typ {
    pub(super) fn read(text: &str) -> Self {
        let bare = match text.split_at_checked("application/".len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
            _ => text,
        };
        match bare {
            _ if bare.eq_ignore_ascii_case("jwt") => Self::Jwt,
            _ if bare.eq_ignore_ascii_case("at+jwt") => Self::AccessToken,
            _ if bare.eq_ignore_ascii_case("jose") => Self::Jose,
            _ => Self::Other,
        }
    }
}

/// Marks of logout tokens and security events; no profile takes them.
const EVENT_MARKS: [&str; 2] = ["events", "toe"];
/// Marks of ID tokens (OpenID Connect Core, sections 2 and 3.3.2.11).
const ID_MARKS: [&str; 5] = ["nonce", "at_hash", "c_hash", "s_hash", "sub_jwk"];
/// Marks of access tokens of the issuers named above.
const ACCESS_MARKS: [&str; 6] = ["scope", "scp", "appid", "cid", "gty", "client_id"];
/// Marks of workload tokens.
const WORKLOAD_MARKS: [&str; 2] = ["kubernetes.io", "job_workflow_ref"];

impl Profile {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Rfc9068,
        Self::OidcAccess,
        Self::IdToken,
        Self::K8sSa,
        Self::GithubActions,
        Self::SpiffeJwt,
        Self::Mcp,
    ];

    /// Reads the name that the config uses.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// The name in the config.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rfc9068 => "rfc9068",
            Self::OidcAccess => "oidc_access",
            Self::IdToken => "id_token",
            Self::K8sSa => "k8s_sa",
            Self::GithubActions => "github_actions",
            Self::SpiffeJwt => "spiffe_jwt",
            Self::Mcp => "mcp",
        }
    }

    /// Whether `sub`, `typ` and the rest are those of this profile; the times, `iss` and `aud` are
    /// checked for all profiles alike elsewhere. `client` is what the common claims say; the
    /// profile's own reading of it comes back.
    pub(super) fn check<'d>(
        self,
        typ: Typ,
        kid: Option<&str>,
        claims: Value<'d>,
        client: Option<Cow<'d, str>>,
    ) -> Result<Option<Cow<'d, str>>, TokenError> {
        none_of(claims, &EVENT_MARKS)?;
        let sub = required(claims, "sub")?;
        match self {
            Self::Rfc9068 => {
                typ_is(typ, &[Typ::AccessToken])?;
                required(claims, "jti")?;
                required(claims, "client_id")?;
                none_of(claims, &WORKLOAD_MARKS)?;
                issued(claims)?;
                Ok(client)
            }
            Self::OidcAccess | Self::Mcp => {
                typ_is(typ, &[Typ::Absent, Typ::Jwt, Typ::AccessToken])?;
                none_of(claims, &ID_MARKS)?;
                none_of(claims, &WORKLOAD_MARKS)?;
                // Keycloak and Cognito name the kind in the claims too.
                inner_is(claims, "typ", "Bearer")?;
                inner_is(claims, "token_use", "access")?;
                issued(claims)?;
                // ID tokens of Entra, Okta and Auth0 have none of the client claims.
                if client.is_none() {
                    return Err(TokenError::MissingClaim("client_id"));
                }
                Ok(client)
            }
            Self::IdToken => {
                typ_is(typ, &[Typ::Absent, Typ::Jwt])?;
                none_of(claims, &ACCESS_MARKS)?;
                none_of(claims, &WORKLOAD_MARKS)?;
                // A JWT-SVID has no mark but its subject.
                if spiffe_scheme(&sub) {
                    return Err(TokenError::Profile("sub"));
                }
                inner_is(claims, "typ", "ID")?;
                inner_is(claims, "token_use", "id")?;
                issued(claims)?;
                id_client(claims, client)
            }
            Self::K8sSa => {
                typ_is(typ, &[Typ::Absent, Typ::Jwt])?;
                issued(claims)?;
                service_account(claims, &sub)?;
                Ok(client)
            }
            Self::GithubActions => {
                typ_is(typ, &[Typ::Jwt])?;
                issued(claims)?;
                for name in ["jti", "repository_id", "repository_owner", "actor", "run_id"] {
                    required(claims, name)?;
                }
                required(claims, "job_workflow_ref")?;
                required(claims, "repository").map(Some)
            }
            Self::SpiffeJwt => {
                typ_is(typ, &[Typ::Absent, Typ::Jwt, Typ::Jose])?;
                if kid.is_none() {
                    return Err(TokenError::HeaderField("kid"));
                }
                let domain = spiffe_domain(&sub).ok_or(TokenError::Profile("sub"))?;
                let iss = required(claims, "iss")?;
                if spiffe_scheme(&iss) && spiffe_domain(&iss) != Some(domain) {
                    return Err(TokenError::Profile("trust domain"));
                }
                Ok(client)
            }
        }
    }
}

fn typ_is(typ: Typ, allowed: &[Typ]) -> Result<(), TokenError> {
    if allowed.contains(&typ) { Ok(()) } else { Err(TokenError::Profile("typ")) }
}

fn none_of(claims: Value<'_>, marks: &[&'static str]) -> Result<(), TokenError> {
    match marks.iter().find(|mark| claims.member(mark).is_some()) {
        Some(mark) => Err(TokenError::Profile(mark)),
        None => Ok(()),
    }
}

fn inner_is(claims: Value<'_>, name: &'static str, kind: &str) -> Result<(), TokenError> {
    match text(claims, name)? {
        Some(found) if found != kind => Err(TokenError::Profile(name)),
        _ => Ok(()),
    }
}

fn issued(claims: Value<'_>) -> Result<(), TokenError> {
    seconds(claims, "iat")?.map(|_| ()).ok_or(TokenError::MissingClaim("iat"))
}

/// With several audiences `azp` must tell who asked (OpenID Connect Core, section 3.1.3.7); with
/// one, that one is the client.
fn id_client<'d>(
    claims: Value<'d>,
    client: Option<Cow<'d, str>>,
) -> Result<Option<Cow<'d, str>>, TokenError> {
    if client.is_some() {
        return Ok(client);
    }
    let mut audience = super::claims::audience(claims)?;
    if audience.len() > 1 {
        return Err(TokenError::MissingClaim("azp"));
    }
    Ok(audience.pop())
}

/// `sub` and the bound object must tell the same namespace and account.
fn service_account(claims: Value<'_>, sub: &str) -> Result<(), TokenError> {
    let wrong = TokenError::Profile("kubernetes.io");
    let bound = claims.member("kubernetes.io").filter(|v| v.is_object()).ok_or(wrong)?;
    let namespace = required(bound, "namespace").map_err(|_| wrong)?;
    let account = bound.member("serviceaccount").ok_or(wrong)?;
    let name = required(account, "name").map_err(|_| wrong)?;
    required(account, "uid").map_err(|_| wrong)?;
    let told = sub.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    if told == Some((namespace.as_ref(), name.as_ref())) {
        Ok(())
    } else {
        Err(TokenError::Profile("sub"))
    }
}

fn spiffe_scheme(text: &str) -> bool {
    text.split_at_checked("spiffe:".len())
        .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// The trust domain of a SPIFFE ID that names a workload or a domain (SPIFFE-ID, section 2):
/// lower-case scheme and domain, no port, user, query, fragment, empty or dot segment, no escape.
pub(super) fn spiffe_domain(id: &str) -> Option<&str> {
    if id.len() > 2048 {
        return None;
    }
    let rest = id.strip_prefix("spiffe://")?;
    let (domain, path) = rest.split_once('/').map_or((rest, None), |(d, p)| (d, Some(p)));
    let in_domain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let in_path = |b: u8| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
        return None;
    }
    let good = path.is_none_or(|path| {
        path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(in_path))
    });
    good.then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for profile in Profile::ALL {
            assert_eq!(Profile::parse(profile.name()), Some(profile));
        }
        assert_eq!(Profile::parse("RFC9068"), None);
    }

    #[test]
    fn typ_is_read_without_case_and_prefix() {
        assert_eq!(Typ::read("JWT"), Typ::Jwt);
        assert_eq!(Typ::read("Application/AT+JWT"), Typ::AccessToken);
        assert_eq!(Typ::read("at+jwt"), Typ::AccessToken);
        for other in ["", "logout+jwt", "dpop+jwt", "application/", "jwt ", "\u{212a}wt"] {
            assert_eq!(Typ::read(other), Typ::Other, "{other:?}");
        }
    }

    #[test]
    fn spiffe_ids_are_strict() {
        assert_eq!(spiffe_domain("spiffe://prod.acme/ns/a/sa/b"), Some("prod.acme"));
        assert_eq!(spiffe_domain("spiffe://prod.acme"), Some("prod.acme"));
        for wrong in [
            "spiffe://",
            "spiffe:///a",
            "SPIFFE://prod/a",
            "spiffe://Prod/a",
            "spiffe://prod/",
            "spiffe://prod//a",
            "spiffe://prod/../a",
            "spiffe://prod/a/.",
            "spiffe://prod:80/a",
            "spiffe://u@prod/a",
            "spiffe://prod/a?b",
            "spiffe://prod/a#b",
            "spiffe://prod/%61",
            "https://prod/a",
        ] {
            assert_eq!(spiffe_domain(wrong), None, "{wrong}");
        }
    }
}
