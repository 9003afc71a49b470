//! The compact form of a token (RFC 7515, section 7.1), and base64url in its one canonical form.

use super::TokenError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A token cut at its two dots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compact<'t> {
    /// What the signature is over: header, dot, claims, as they were sent.
    pub(super) signed: &'t [u8],
    header: &'t [u8],
    claims: &'t [u8],
    signature: &'t [u8],
}

impl<'t> Compact<'t> {
    /// Cuts `token`; the alphabet is checked by decoding.
    ///
    /// # Errors
    /// [`TokenError::TooLong`], [`TokenError::Segments`].
    pub(super) fn split(token: &'t [u8], len_max: usize) -> Result<Self, TokenError> {
        if token.len() > len_max {
            return Err(TokenError::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', token);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(TokenError::Segments);
        };
        let part = |range: std::ops::Range<usize>| token.get(range).unwrap_or_default();
        let parts = Self {
            signed: part(0..second),
            header: part(0..first),
            claims: part(first + 1..second),
            signature: part(second + 1..token.len()),
        };
        if parts.header.is_empty() || parts.claims.is_empty() || parts.signature.is_empty() {
            return Err(TokenError::Segments);
        }
        Ok(parts)
    }

    pub(super) fn header(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.header).ok_or(TokenError::Encoding)
    }

    pub(super) fn claims(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.claims).ok_or(TokenError::Encoding)
    }

    pub(super) fn signature(&self) -> Result<Vec<u8>, TokenError> {
        decode(self.signature).ok_or(TokenError::Encoding)
    }
}

/// Decodes base64url without padding; a last character with unused bits set is refused, so that
/// one text has one encoding.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Encodes what [`decode`] reads.
pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_encoding_decodes() {
        assert_eq!(decode(b"AQ").as_deref(), Some(&[1u8][..]));
        for text in
            ["AR", "AQ==", "AQ=", "A", "A+A", "A/AA", "AQ\n", " AQ", "AQ.", "\u{e9}A", "AAAAA"]
        {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(decode(encode(&[0xfb, 0xff, 0xfe]).as_bytes()), Some(vec![0xfb, 0xff, 0xfe]));
    }

    #[test]
    fn a_token_has_three_parts_with_something_in_each() {
        for text in ["", ".", "..", "a.b", "a.b.", "a..c", ".b.c", "a.b.c.d", "a.b.c.d.e"] {
            let cut = Compact::split(text.as_bytes(), 100);
            assert_eq!(cut.err(), Some(TokenError::Segments), "{text:?}");
        }
        assert!(Compact::split(b"a.b.c", 5).is_ok());
        assert_eq!(Compact::split(b"a.b.cd", 5).err(), Some(TokenError::TooLong));
    }
}
