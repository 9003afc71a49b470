//! A config, compiled: plain owned data with names and ids, ready for a runtime.
//!
//! An id is the place in the list of its kind. Nothing in here is a secret: secrets are named by
//! [`SecretRef`] and opened by [`Config::resolve_secrets`](super::Config::resolve_secrets).

use super::report::{Diagnostic, Place};
use super::webhooks::Webhook;
use crate::base::{CredentialId, IssuerId, Limits, ListenerId, MaskId, ResourceId};
use crate::credential::AuthMethods;
use crate::identity::{CertificateRules, IssuerRules, Verifier};
use crate::mask::{MaskSpec, Shape};
use crate::policy::{Case, Table};
use crate::record::OnFull;
use core::net::SocketAddr;
use std::path::PathBuf;

pub use crate::base::Protocol;

/// Everything that a gateway is started with.
#[derive(Debug)]
pub struct Config {
    /// The files it was read from, the main one first.
    pub files: Vec<PathBuf>,
    /// `[gateway]`
    pub gateway: GatewaySettings,
    /// `[admin]`; without it there is no admin listener.
    pub admin: Option<AdminSettings>,
    /// `[record]`
    pub record: RecordSettings,
    /// `[limits]`
    pub limits: Limits,
    /// `[[issuer]]` of tokens, by [`IssuerId`] from 0.
    pub token_issuers: Vec<TokenIssuer>,
    /// `[[issuer]]` with `kind = "x509"`; their ids follow those of the token issuers.
    pub certificate_issuers: Vec<CertificateIssuer>,
    /// `[[listener]]`, by [`ListenerId`].
    pub listeners: Vec<Listener>,
    /// `[[credential]]` and the inline ones, by [`CredentialId`].
    pub credentials: Vec<CredentialSpec>,
    /// `[[resource]]`, by [`ResourceId`].
    pub resources: Vec<Resource>,
    /// `[[mask]]`, by [`MaskId`].
    pub masks: Vec<MaskSettings>,
    /// `[[rule]]`, compiled, with generation 0.
    pub table: Table,
    /// `[[webhook]]`
    pub webhooks: Vec<Webhook>,
    /// `[[case]]`, each with its place.
    pub cases: Vec<(Case, Place)>,
    /// Where each rule of the table stands, by its id in the file.
    pub rule_places: Vec<(String, Place)>,
    /// What works and should be looked at: plain text beyond loopback, rules without `who`.
    pub warnings: Vec<Diagnostic>,
}

impl Config {
    /// The verifier of all token issuers, its ids being those of this config.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        let rules = self.token_issuers.iter().map(|issuer| issuer.rules.clone()).collect();
        Verifier::new(rules).with_token_max(self.limits.token_max as usize)
    }

    /// Finds a resource by its name. Cost: linear; a router builds its own map.
    #[must_use]
    pub fn resource_id(&self, name: &str) -> Option<ResourceId> {
        place(self.resources.iter().map(|resource| resource.name.as_str()), name).map(ResourceId)
    }

    /// Finds a listener by its name.
    #[must_use]
    pub fn listener_id(&self, name: &str) -> Option<ListenerId> {
        place(self.listeners.iter().map(|listener| listener.name.as_str()), name).map(ListenerId)
    }

    /// Finds a mask by its name.
    #[must_use]
    pub fn mask_id(&self, name: &str) -> Option<MaskId> {
        place(self.masks.iter().map(|mask| mask.name.as_str()), name).map(MaskId)
    }

    /// Finds a credential by its name.
    #[must_use]
    pub fn credential_id(&self, name: &str) -> Option<CredentialId> {
        place(self.credentials.iter().map(|one| one.name.as_str()), name).map(CredentialId)
    }

    /// Finds an issuer by its name, or by what stands in `iss`.
    #[must_use]
    pub fn issuer_id(&self, name: &str) -> Option<IssuerId> {
        let named = |wanted: &str, of: fn(&IssuerRules) -> &str| {
            place(self.token_issuers.iter().map(|issuer| of(&issuer.rules)), wanted).map(IssuerId)
        };
        let certificate = || {
            let mut list = self.certificate_issuers.iter();
            list.find(|one| one.name == name || one.rules.iss == name).map(|one| one.rules.issuer)
        };
        named(name, |rules| &rules.name)
            .or_else(|| named(name, |rules| &rules.issuer))
            .or_else(certificate)
    }

    /// The issuer that is meant where none is named: the only one.
    #[must_use]
    pub fn only_issuer(&self) -> Option<IssuerId> {
        match (self.token_issuers.as_slice(), self.certificate_issuers.as_slice()) {
            ([_], []) => Some(IssuerId(0)),
            ([], [only]) => Some(only.rules.issuer),
            _ => None,
        }
    }

    /// The name of an issuer of either kind; empty for an id of another config.
    #[must_use]
    pub fn issuer_name(&self, id: IssuerId) -> &str {
        match self.token_issuers.get(id.index()) {
            Some(issuer) => &issuer.rules.name,
            None => {
                let mut list = self.certificate_issuers.iter();
                list.find(|one| one.rules.issuer == id).map_or("", |one| &one.name)
            }
        }
    }
}

fn place<'a>(mut names: impl Iterator<Item = &'a str>, wanted: &str) -> Option<u16> {
    names.position(|name| name == wanted).and_then(|place| u16::try_from(place).ok())
}

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Worker threads; 0 is one for each core.
    pub workers: u16,
    /// Record segments and other state.
    pub data_dir: PathBuf,
    /// Mapped journals; `None`: in memory that outlives the process, else in the data folder.
    pub ring_dir: Option<PathBuf>,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose tokens open it; a token issuer.
    pub issuer: Option<IssuerId>,
    /// Groups that may look.
    pub viewers: Vec<String>,
    /// A fixed token for scripts.
    pub token: Option<SecretRef>,
    /// How the outside names it, without a slash at the end.
    pub public_url: Option<String>,
    /// How browsers sign in at [`Self::issuer`].
    pub sign_in: Option<SignInSettings>,
}

/// `[admin] sign_in`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInSettings {
    /// The gateway as a client of the issuer.
    pub client_id: String,
    /// Its secret; without one it is a public client.
    pub client_secret: Option<SecretRef>,
    /// What is asked for; `openid` is among it.
    pub scope: String,
    /// Which token tells who signed in.
    pub token: SignInToken,
    /// For whom an access token is asked (RFC 8707).
    pub resource: Option<String>,
}

/// Which token of a sign-in counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignInToken {
    /// The access token, by the issuer's profile and audience, as any caller's.
    #[default]
    Access,
    /// The ID token, whose audience is the client; no caller shows one like it.
    Id,
}

/// `[record]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSettings {
    /// Oldest age of a segment in milliseconds; `None` for no bound.
    pub retain_age_ms: Option<u64>,
    /// Most bytes of all segments; `None` for no bound.
    pub retain_bytes: Option<u64>,
    /// What happens when the journal has no room.
    pub on_full: OnFull,
    /// How long an entry may be in memory before it is on the disk, in milliseconds; the time of
    /// the write itself comes on top.
    pub window_ms: u64,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self { retain_age_ms: None, retain_bytes: None, on_full: OnFull::default(), window_ms: 20 }
    }
}

/// An `[[issuer]]` of tokens.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    /// What is accepted from it.
    pub rules: IssuerRules,
    /// Where its keys come from.
    pub keys: KeySource,
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The metadata document of the issuer (OpenID Connect Discovery, RFC 8414).
    Discovery,
    /// A key set by URL; https, or http on loopback.
    Url(String),
    /// A key set in a file.
    File(PathBuf),
}

/// An `[[issuer]]` with `kind = "x509"`.
#[derive(Clone, Debug)]
pub struct CertificateIssuer {
    /// Its name.
    pub name: String,
    /// What is accepted from it, with its id.
    pub rules: CertificateRules,
    /// The authority's certificates, PEM.
    pub ca: PathBuf,
}

/// The protocols by their words.
pub(super) const PROTOCOLS: [(&str, Protocol); 3] = [
    (Protocol::Http.label(), Protocol::Http),
    (Protocol::Postgres.label(), Protocol::Postgres),
    (Protocol::Tcp.label(), Protocol::Tcp),
];

/// A `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// What callers speak.
    pub protocol: Protocol,
    /// TLS towards callers; plain text without. On postgres each caller must speak it then.
    pub tls: Option<ServerTls>,
    /// Plain text was asked for where it needs that: beyond loopback, and always on postgres.
    pub insecure: bool,
    /// How callers of a database show their token.
    pub login: Login,
    /// The only resource; else the first path segment names it, or the database of the start-up
    /// packet. Always there for tcp.
    pub resource: Option<ResourceId>,
    /// Accepted host names, lower case, without port; empty for any. Only on http.
    pub hosts: Vec<String>,
}

/// How callers of a database show their token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Login {
    /// As the password.
    #[default]
    Password,
    /// By SASL (RFC 7628).
    OauthBearer,
}

/// TLS towards callers. All files are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key of the leaf.
    pub key: PathBuf,
    /// Authority of client certificates. On tcp a certificate must then be shown, else it may.
    pub client_ca: Option<PathBuf>,
}

/// A `[[credential]]`, its secret unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSpec {
    /// Its name; of an inline one `NAME.credential`, NAME being the resource.
    pub name: String,
    /// How it is placed.
    pub kind: CredentialKind,
}

/// How a credential is placed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialKind {
    /// `Authorization: Bearer SECRET`
    Bearer {
        /// The token.
        secret: SecretRef,
    },
    /// `NAME: PREFIX SECRET`
    Header {
        /// Field name, lower case.
        name: String,
        /// What stands before the secret, a blank included where one is wanted.
        prefix: String,
        /// The value.
        secret: SecretRef,
    },
    /// `Authorization: Basic` (RFC 7617).
    Basic {
        /// User.
        user: String,
        /// Password.
        secret: SecretRef,
    },
    /// A database user.
    Password {
        /// The user to log in as.
        user: String,
        /// Its password.
        secret: SecretRef,
        /// The role that the session takes on after the login, and keeps.
        role: Option<String>,
    },
    /// The upstream wants none; the caller's is removed all the same.
    None,
}

impl CredentialKind {
    /// The secret, where the kind has one.
    #[must_use]
    pub fn secret(&self) -> Option<&SecretRef> {
        match self {
            Self::Bearer { secret }
            | Self::Header { secret, .. }
            | Self::Basic { secret, .. }
            | Self::Password { secret, .. } => Some(secret),
            Self::None => None,
        }
    }

    /// Whether a resource that speaks `protocol` has a place for it.
    #[must_use]
    pub fn suits(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Http => !matches!(self, Self::Password { .. }),
            Protocol::Tcp => *self == Self::None,
            Protocol::Postgres => matches!(self, Self::Password { .. }),
        }
    }
}

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRef {
    /// Variable or file.
    pub from: SecretFrom,
    /// Where the config says so.
    pub place: Place,
}

/// See [`SecretRef`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFrom {
    /// `env:NAME`
    Env(String),
    /// `file:PATH`; one line end at the end is no part of the secret.
    File(PathBuf),
}

/// A `[[resource]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, and the first path segment.
    pub name: String,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// Where it is.
    pub upstream: Upstream,
    /// The database there; empty but for postgres.
    pub database: String,
    /// What its bodies mean; plain for tcp and postgres.
    pub shape: Shape,
    /// What is put in unless a rule says otherwise.
    pub credential: CredentialId,
    /// How it may ask for the password, on postgres.
    pub auth: AuthMethods,
    /// TLS towards it; plain text without.
    pub tls: Option<UpstreamTls>,
    /// The gateway's bounds, with those that the resource sets for itself.
    pub limits: Limits,
}

/// Where a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// DNS name in lower case, or an IP address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path before that of a request: empty, or with a slash at its start and none at its end.
    pub base_path: String,
    /// Host and port as in `Host`: brackets round IPv6, no port where it is the scheme's own.
    pub authority: String,
}

/// TLS towards an upstream. The name is always verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Authorities, PEM; those of the system without.
    pub ca: Option<PathBuf>,
    /// The name that the certificate must have.
    pub server_name: String,
}

/// A `[[mask]]`, its key unopened.
#[derive(Clone, Debug)]
pub struct MaskSettings {
    /// Its name.
    pub name: String,
    /// What it does; the key in it is empty until secrets are resolved.
    pub spec: MaskSpec,
    /// Key of `hash`; there whenever an operator is `hash`.
    pub key: Option<SecretRef>,
    /// Where its columns are listed; where it begins, without any.
    pub place: Place,
}
