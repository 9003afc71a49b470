//! Names of fields that the gateway knows, and what kind of field each is.

/// A well-known field name, or a family of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
#[expect(missing_docs, reason = "each is named as its field is")]
pub enum FieldId {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    ProxyAuthenticate,
    ProxyAuthorization,
    Te,
    Trailer,
    Upgrade,
    Http2Settings,
    Expect,
    Authorization,
    XApiKey,
    ApiKey,
    XGoogApiKey,
    Cookie,
    /// Other slots in which services look for a credential: `private-token`, `x-auth-token` and
    /// kin.
    OtherCredential,
    ContentType,
    ContentEncoding,
    ContentRange,
    ContentLocation,
    AcceptEncoding,
    Accept,
    AcceptRanges,
    Range,
    IfRange,
    IfMatch,
    IfNoneMatch,
    ETag,
    LastModified,
    /// `Digest`, `Content-Digest`, `Repr-Digest`, `Content-MD5`: they break when a body changes.
    Digest,
    Location,
    SetCookie,
    WwwAuthenticate,
    AltSvc,
    Server,
    Date,
    UserAgent,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-*`, `X-Real-IP` and other names by which proxies tell a caller's address.
    XForwarded,
    Via,
    /// `X-HTTP-Method-Override` and kin: a method that policy would not see.
    MethodOverride,
    /// `X-Original-URL` and kin: a path that policy would not see.
    PathOverride,
    /// `X-Weirgate-*`: the gateway's own.
    Weirgate,
    /// Everything else.
    Other,
}

impl FieldId {
    /// The id of `name`, whose letters may be of any case. Names above 40 bytes have none.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self::read(name).0
    }

    /// As [`Self::of`], and whether some byte of it is neither a letter, a digit nor `-`.
    #[inline]
    pub(super) fn read(name: &[u8]) -> (Self, bool) {
        let mut lower = [0u8; NAME_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return (family(name), name.iter().any(|byte| letter(*byte) & ODD != 0));
        };
        let mut all = 0;
        for (to, from) in lower.iter_mut().zip(name) {
            let byte = letter(*from);
            all |= byte;
            *to = byte & !ODD;
        }
        (known(lower), all & ODD != 0)
    }

    /// Fields that concern one connection only (RFC 9110, section 7.6.1).
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::Trailer
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }

    /// Fields in which a request may carry a credential.
    #[must_use]
    pub fn is_credential(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::ProxyAuthorization
                | Self::XApiKey
                | Self::ApiKey
                | Self::XGoogApiKey
                | Self::Cookie
                | Self::OtherCredential
        )
    }

    /// Fields that decide where a message ends.
    #[must_use]
    pub fn is_framing(self) -> bool {
        matches!(self, Self::ContentLength | Self::TransferEncoding)
    }

    /// Whether a request may have one line of it only (for families: of each name).
    pub(super) fn is_single_in_request(self) -> bool {
        self.is_credential()
            || self.is_framing()
            || matches!(
                self,
                Self::Host
                    | Self::ContentType
                    | Self::ContentEncoding
                    | Self::ContentRange
                    | Self::Expect
                    | Self::Range
                    | Self::IfRange
                    | Self::Weirgate
            )
    }

    /// Whether a response may have one line of it only.
    pub(super) fn is_single_in_response(self) -> bool {
        self.is_framing()
            || matches!(
                self,
                Self::ContentType | Self::ContentEncoding | Self::ContentRange | Self::Location
            )
    }

    /// Whether the id stands for more than one name.
    pub(super) fn is_family(self) -> bool {
        matches!(self, Self::OtherCredential | Self::Weirgate)
    }

    /// Whether `Connection` may not name it: taking it away would change what a message means.
    pub(super) fn is_end_to_end_by_force(self) -> bool {
        self.is_framing()
            || (self.is_credential() && self != Self::ProxyAuthorization)
            || matches!(
                self,
                Self::Host
                    | Self::ContentType
                    | Self::ContentEncoding
                    | Self::ContentRange
                    | Self::Expect
                    | Self::Range
                    | Self::Weirgate
            )
    }

    /// Whether a request's name with `_` for `-` is refused rather than dropped.
    pub(super) fn is_refused_as_alias(self) -> bool {
        self.is_framing()
            || self.is_credential()
            || self.is_hop_by_hop()
            || matches!(self, Self::Host | Self::Weirgate | Self::Expect)
    }

    /// Whether the field of a request never goes upstream.
    pub(super) fn is_dropped_from_request(self) -> bool {
        self.is_hop_by_hop()
            || matches!(
                self,
                Self::Expect
                    | Self::Forwarded
                    | Self::XForwarded
                    | Self::Via
                    | Self::MethodOverride
                    | Self::PathOverride
                    | Self::Weirgate
            )
    }

    /// Whether the field of a response never goes to the caller. `Alt-Svc` would lead it around
    /// the gateway, and only the gateway speaks as itself.
    pub(super) fn is_dropped_from_response(self) -> bool {
        self.is_hop_by_hop() || matches!(self, Self::AltSvc | Self::Weirgate)
    }
}

/// Marks a byte that is neither a letter, a digit nor `-`.
const ODD: u8 = 0x80;

/// `byte` in lower case; above ASCII, a byte that no known name has.
#[inline]
fn letter(byte: u8) -> u8 {
    LETTERS.get(usize::from(byte)).copied().unwrap_or(ODD)
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, within 256 entries")]
static LETTERS: [u8; 256] = {
    let mut table = [ODD; 256];
    let mut at = 0u8;
    while at < 0x80 {
        let odd = !at.is_ascii_alphanumeric() && at != b'-';
        table[at as usize] = at.to_ascii_lowercase() | if odd { ODD } else { 0 };
        at += 1;
    }
    table
};

/// Longest name that is looked up.
const NAME_MAX: usize = 40;

/// `lower` is in lower case. The match compares lengths first, then bytes.
fn known(lower: &[u8]) -> FieldId {
    match lower {
        b"host" => FieldId::Host,
        b"content-length" => FieldId::ContentLength,
        b"transfer-encoding" => FieldId::TransferEncoding,
        b"connection" => FieldId::Connection,
        b"keep-alive" => FieldId::KeepAlive,
        b"proxy-connection" => FieldId::ProxyConnection,
        b"proxy-authenticate" => FieldId::ProxyAuthenticate,
        b"proxy-authorization" => FieldId::ProxyAuthorization,
        b"te" => FieldId::Te,
        b"trailer" => FieldId::Trailer,
        b"upgrade" => FieldId::Upgrade,
        b"http2-settings" => FieldId::Http2Settings,
        b"expect" => FieldId::Expect,
        b"authorization" => FieldId::Authorization,
        b"x-api-key" => FieldId::XApiKey,
        b"api-key" => FieldId::ApiKey,
        b"x-goog-api-key" => FieldId::XGoogApiKey,
        b"cookie" => FieldId::Cookie,
        b"private-token"
        | b"job-token"
        | b"deploy-token"
        | b"x-auth-token"
        | b"x-access-token"
        | b"x-auth-key"
        | b"x-vault-token"
        | b"x-amz-security-token"
        | b"x-amz-access-token"
        | b"x-apikey"
        | b"apikey"
        | b"x-subscription-token"
        | b"ocp-apim-subscription-key" => FieldId::OtherCredential,
        b"content-type" => FieldId::ContentType,
        b"content-encoding" => FieldId::ContentEncoding,
        b"content-range" => FieldId::ContentRange,
        b"content-location" => FieldId::ContentLocation,
        b"accept-encoding" => FieldId::AcceptEncoding,
        b"accept" => FieldId::Accept,
        b"accept-ranges" => FieldId::AcceptRanges,
        b"range" => FieldId::Range,
        b"if-range" => FieldId::IfRange,
        b"if-match" => FieldId::IfMatch,
        b"if-none-match" => FieldId::IfNoneMatch,
        b"etag" => FieldId::ETag,
        b"last-modified" => FieldId::LastModified,
        b"digest" | b"content-digest" | b"repr-digest" | b"content-md5" => FieldId::Digest,
        b"location" => FieldId::Location,
        b"set-cookie" => FieldId::SetCookie,
        b"www-authenticate" => FieldId::WwwAuthenticate,
        b"alt-svc" => FieldId::AltSvc,
        b"server" => FieldId::Server,
        b"date" => FieldId::Date,
        b"user-agent" => FieldId::UserAgent,
        b"forwarded" => FieldId::Forwarded,
        b"x-real-ip"
        | b"x-client-ip"
        | b"x-cluster-client-ip"
        | b"x-remote-ip"
        | b"x-remote-addr"
        | b"x-original-forwarded-for"
        | b"x-original-host"
        | b"x-host"
        | b"true-client-ip"
        | b"client-ip"
        | b"cf-connecting-ip"
        | b"fastly-client-ip" => FieldId::XForwarded,
        b"via" => FieldId::Via,
        b"x-http-method" | b"x-http-method-override" | b"x-method-override" => {
            FieldId::MethodOverride
        }
        b"x-original-url"
        | b"x-original-uri"
        | b"x-rewrite-url"
        | b"x-rewrite-uri"
        | b"x-override-url"
        | b"x-http-path-override"
        | b"x-http-destinationurl"
        | b"x-envoy-original-path" => FieldId::PathOverride,
        _ => family(lower),
    }
}

/// Families that are known by how their names begin.
fn family(name: &[u8]) -> FieldId {
    let begins =
        |with: &[u8]| name.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    if begins(b"x-forwarded-") {
        FieldId::XForwarded
    } else if begins(b"x-weirgate-") {
        FieldId::Weirgate
    } else {
        FieldId::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_only_whole() {
        for (name, id) in [
            (&b"Host"[..], FieldId::Host),
            (b"CONTENT-LENGTH", FieldId::ContentLength),
            (b"content-lengt", FieldId::Other),
            (b"content-lengthx", FieldId::Other),
            (b"X-Forwarded-For", FieldId::XForwarded),
            (b"x-forwarded", FieldId::Other),
            (b"X-WEIRGATE-token", FieldId::Weirgate),
            (b"x-weirgate-0123456789012345678901234567890123456789", FieldId::Weirgate),
            (b"", FieldId::Other),
            (b"X-Http-Method-Override", FieldId::MethodOverride),
        ] {
            assert_eq!(FieldId::of(name), id, "{}", String::from_utf8_lossy(name));
        }
        assert!((FieldId::Other as u8) < 64, "ids fit a set of 64 bits");
    }
}
