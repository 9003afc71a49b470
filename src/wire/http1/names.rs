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
    /// The id of `name`, whose letters may be of any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        Self::read(name).0
    }

    /// As [`Self::of`], and whether some byte of it is neither a letter, a digit nor `-`.
    #[inline]
    pub(super) fn read(name: &[u8]) -> (Self, bool) {
        if name.iter().all(|byte| is_plain(*byte)) {
            (known(name), false)
        } else {
            (family(name), true)
        }
    }

    /// As [`Self::of`] for a name that is known to be of letters, digits and `-` only.
    #[inline]
    pub(super) fn of_plain(name: &[u8]) -> Self {
        debug_assert!(name.iter().all(|byte| is_plain(*byte)));
        known(name)
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

/// A byte that each known name is made of.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// The names that are known, in lower case.
const NAMES: [(&[u8], FieldId); 80] = [
    (b"host", FieldId::Host),
    (b"content-length", FieldId::ContentLength),
    (b"transfer-encoding", FieldId::TransferEncoding),
    (b"connection", FieldId::Connection),
    (b"keep-alive", FieldId::KeepAlive),
    (b"proxy-connection", FieldId::ProxyConnection),
    (b"proxy-authenticate", FieldId::ProxyAuthenticate),
    (b"proxy-authorization", FieldId::ProxyAuthorization),
    (b"te", FieldId::Te),
    (b"trailer", FieldId::Trailer),
    (b"upgrade", FieldId::Upgrade),
    (b"http2-settings", FieldId::Http2Settings),
    (b"expect", FieldId::Expect),
    (b"authorization", FieldId::Authorization),
    (b"x-api-key", FieldId::XApiKey),
    (b"api-key", FieldId::ApiKey),
    (b"x-goog-api-key", FieldId::XGoogApiKey),
    (b"cookie", FieldId::Cookie),
    (b"private-token", FieldId::OtherCredential),
    (b"job-token", FieldId::OtherCredential),
    (b"deploy-token", FieldId::OtherCredential),
    (b"x-auth-token", FieldId::OtherCredential),
    (b"x-access-token", FieldId::OtherCredential),
    (b"x-auth-key", FieldId::OtherCredential),
    (b"x-vault-token", FieldId::OtherCredential),
    (b"x-amz-security-token", FieldId::OtherCredential),
    (b"x-amz-access-token", FieldId::OtherCredential),
    (b"x-apikey", FieldId::OtherCredential),
    (b"apikey", FieldId::OtherCredential),
    (b"x-subscription-token", FieldId::OtherCredential),
    (b"ocp-apim-subscription-key", FieldId::OtherCredential),
    (b"content-type", FieldId::ContentType),
    (b"content-encoding", FieldId::ContentEncoding),
    (b"content-range", FieldId::ContentRange),
    (b"content-location", FieldId::ContentLocation),
    (b"accept-encoding", FieldId::AcceptEncoding),
    (b"accept", FieldId::Accept),
    (b"accept-ranges", FieldId::AcceptRanges),
    (b"range", FieldId::Range),
    (b"if-range", FieldId::IfRange),
    (b"if-match", FieldId::IfMatch),
    (b"if-none-match", FieldId::IfNoneMatch),
    (b"etag", FieldId::ETag),
    (b"last-modified", FieldId::LastModified),
    (b"digest", FieldId::Digest),
    (b"content-digest", FieldId::Digest),
    (b"repr-digest", FieldId::Digest),
    (b"content-md5", FieldId::Digest),
    (b"location", FieldId::Location),
    (b"set-cookie", FieldId::SetCookie),
    (b"www-authenticate", FieldId::WwwAuthenticate),
    (b"alt-svc", FieldId::AltSvc),
    (b"server", FieldId::Server),
    (b"date", FieldId::Date),
    (b"user-agent", FieldId::UserAgent),
    (b"forwarded", FieldId::Forwarded),
    (b"x-real-ip", FieldId::XForwarded),
    (b"x-client-ip", FieldId::XForwarded),
    (b"x-cluster-client-ip", FieldId::XForwarded),
    (b"x-remote-ip", FieldId::XForwarded),
    (b"x-remote-addr", FieldId::XForwarded),
    (b"x-original-forwarded-for", FieldId::XForwarded),
    (b"x-original-host", FieldId::XForwarded),
    (b"x-host", FieldId::XForwarded),
    (b"true-client-ip", FieldId::XForwarded),
    (b"client-ip", FieldId::XForwarded),
    (b"cf-connecting-ip", FieldId::XForwarded),
    (b"fastly-client-ip", FieldId::XForwarded),
    (b"via", FieldId::Via),
    (b"x-http-method", FieldId::MethodOverride),
    (b"x-http-method-override", FieldId::MethodOverride),
    (b"x-method-override", FieldId::MethodOverride),
    (b"x-original-url", FieldId::PathOverride),
    (b"x-original-uri", FieldId::PathOverride),
    (b"x-rewrite-url", FieldId::PathOverride),
    (b"x-rewrite-uri", FieldId::PathOverride),
    (b"x-override-url", FieldId::PathOverride),
    (b"x-http-path-override", FieldId::PathOverride),
    (b"x-http-destinationurl", FieldId::PathOverride),
    (b"x-envoy-original-path", FieldId::PathOverride),
];

/// Where a name's hash leads: a place in [`NAMES`] and one more, 0 for none.
static SLOTS: [u8; 1 << SLOT_BITS] = SEARCHED.1;
/// A factor under which no two names share a slot.
const FACTOR: u64 = SEARCHED.0;
const SEARCHED: (u64, [u8; 1 << SLOT_BITS]) = perfect();
const SLOT_BITS: u32 = 10;

/// What [`known`] looks at first: both ends of a name of letters, digits and `-`, in lower case,
/// and its length.
#[inline]
const fn ends(name: &[u8]) -> (u64, u64) {
    let first = match name.first_chunk::<8>() {
        Some(first) => u64::from_le_bytes(*first),
        None => short(name),
    };
    let last = match name.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => 0,
    };
    (first | LOWER, last | LOWER)
}

/// A name of less than eight bytes.
#[inline]
const fn short(mut name: &[u8]) -> u64 {
    let mut word = 0;
    while let [rest @ .., last] = name {
        word = word << 8 | *last as u64;
        name = rest;
    }
    word
}

/// The bit that makes a letter a small one, and that digits and `-` have anyway.
const LOWER: u64 = 0x2020_2020_2020_2020;

#[inline]
const fn slot((first, last): (u64, u64), len: usize, factor: u64) -> usize {
    let mixed = first ^ last.rotate_left(29) ^ (len as u64) << 56;
    (mixed.wrapping_mul(factor) >> (64 - SLOT_BITS)) as usize
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn perfect() -> (u64, [u8; 1 << SLOT_BITS]) {
    let mut factor = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let mut slots = [0u8; 1 << SLOT_BITS];
        let mut at = 0;
        while at < NAMES.len() {
            let name = NAMES[at].0;
            let slot = slot(ends(name), name.len(), factor);
            if slots[slot] != 0 {
                break;
            }
            at += 1;
            slots[slot] = at as u8;
        }
        if at == NAMES.len() {
            return (factor, slots);
        }
        factor = factor.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(2);
    }
}

/// The id of `name`, all of whose bytes are letters, digits or `-`.
#[inline]
fn known(name: &[u8]) -> FieldId {
    let both = ends(name);
    let place = SLOTS.get(slot(both, name.len(), FACTOR)).copied().unwrap_or(0);
    let entry = NAMES.get(usize::from(place).wrapping_sub(1));
    let same = |known: &[u8]| {
        let words = name.as_chunks::<8>().0.iter().zip(known.as_chunks::<8>().0);
        known.len() == name.len()
            && ends(known) == both
            && words
                .map(|(a, b)| (u64::from_le_bytes(*a) | LOWER) ^ u64::from_le_bytes(*b))
                .fold(0, |all, differs| all | differs)
                == 0
    };
    match entry {
        Some((known, id)) if same(known) => *id,
        _ => family(name),
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
    fn each_name_is_found_in_any_case_and_no_other_one() {
        for (name, id) in &NAMES {
            assert_eq!(FieldId::of(name), *id);
            assert_eq!(FieldId::of_plain(&name.to_ascii_uppercase()), *id);
            for place in 0..name.len() {
                for byte in 0..=255u8 {
                    let mut other = name.to_vec();
                    if let Some(slot) = other.get_mut(place) {
                        *slot = byte;
                    }
                    let listed = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(&other));
                    let expected = listed.map_or_else(|| family(&other), |(_, id)| *id);
                    assert_eq!(FieldId::of(&other), expected, "{other:?}");
                }
            }
            let cut = name.get(1..).unwrap_or_default();
            for other in [cut.to_vec(), [name, &b"-"[..]].concat(), [b"x-", *name].concat()] {
                let listed = NAMES.iter().find(|(name, _)| *name == other);
                let expected = listed.map_or_else(|| family(&other), |(_, id)| *id);
                assert_eq!(FieldId::of(&other), expected, "{other:?}");
            }
        }
    }

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
