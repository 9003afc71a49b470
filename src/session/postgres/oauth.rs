//! OAUTHBEARER (RFC 7628): the caller's token by SASL, as libpq 18 sends it.
//!
//! A caller that has no token yet asks by an empty one what to get; it is told the issuer's
//! metadata, confirms that with one byte, is refused, and comes again with a token.

use crate::wire::postgres::sasl_initial;

/// AuthenticationSASL with the one mechanism.
pub(super) const OFFER: &[u8] = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";
/// What a caller confirms a failure with (RFC 7628, section 3.2.3).
pub(super) const CONFIRMED: &[u8] = b"\x01";

/// The token in the body of a SASLInitialResponse; empty where the caller asks for the metadata.
/// `None`: it is no such response.
pub(super) fn token(body: &[u8]) -> Option<&[u8]> {
    let initial = sasl_initial(body).ok()?;
    if initial.mechanism != b"OAUTHBEARER" {
        return None;
    }
    let data = initial.data?;
    // The header of GS2: no channel binding, any authorization identity; `user` counts for nothing.
    let rest = data.strip_prefix(b"n,").or_else(|| data.strip_prefix(b"y,"))?;
    let comma = memchr::memchr(b',', rest)?;
    let pairs = rest.get(comma + 1..)?.strip_prefix(b"\x01")?.strip_suffix(b"\x01")?;
    let mut token = None;
    for pair in pairs.split(|byte| *byte == 1).filter(|pair| !pair.is_empty()) {
        if let Some(value) = pair.strip_prefix(b"auth=") {
            // Said twice, it could be read in two ways.
            if token.replace(value).is_some() {
                return None;
            }
        }
    }
    let value = token?;
    if value.is_empty() {
        return Some(value);
    }
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    let good = |byte: &u8| byte.is_ascii_graphic();
    let fits = scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty();
    (fits && token.iter().all(good)).then_some(token)
}

/// What a caller is told whose token does not hold: where it gets one.
pub(super) fn failure(issuer: &str) -> String {
    let metadata = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    serde_json::json!({
        "status": "invalid_token",
        "scope": "",
        "openid-configuration": metadata,
    })
    .to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use crate::wire::postgres::{FRAME_HEAD, frame, write};

    fn read(mechanism: &str, data: &str) -> Option<String> {
        let mut bytes = Vec::new();
        write::sasl_initial(mechanism, data.as_bytes(), &mut bytes);
        assert_eq!(frame(&bytes).unwrap().unwrap().tag, b'p');
        token(&bytes[FRAME_HEAD..]).map(|token| String::from_utf8_lossy(token).into_owned())
    }

    #[test]
    fn a_token_is_read_as_libpq_sends_it_and_nothing_else() {
        let oauth = |data: &str| read("OAUTHBEARER", data);
        assert_eq!(oauth("n,,\x01auth=Bearer abc.def\x01\x01").as_deref(), Some("abc.def"));
        assert_eq!(oauth("y,a=ana,\x01host=x\x01auth=bearer t\x01\x01").as_deref(), Some("t"));
        assert_eq!(oauth("n,,\x01auth=\x01\x01").as_deref(), Some(""));
        for wrong in [
            "",
            "n,,",
            "p=tls-server-end-point,,\x01auth=Bearer t\x01\x01",
            "n,,\x01auth=Bearer t",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Basic t\x01\x01",
            "n,,\x01auth=Bearer a b\x01\x01",
            "n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
            "n,,\x01host=x\x01\x01",
        ] {
            assert_eq!(oauth(wrong), None, "{wrong:?}");
        }
        assert_eq!(read("SCRAM-SHA-256", "n,,\x01auth=Bearer t\x01\x01"), None);
    }

    #[test]
    fn the_offer_is_a_whole_message() {
        let mut bytes = Vec::new();
        write::auth_sasl(&["OAUTHBEARER"], &mut bytes);
        assert_eq!(bytes, OFFER);
    }
}
