//! Random secrets that are handed out once and kept as a digest.

use crate::base::Secret;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

/// SHA-256 of a handed-out secret: what is looked up. Who reads the memory cannot sign in by it,
/// and how long a look-up takes tells nothing of the secret.
pub(super) type Key = [u8; 32];

/// A new secret of 256 bits as text, with its key; `None` when the system has no random numbers.
pub(super) fn make() -> Option<(String, Key)> {
    let mut bytes = [0u8; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    let secret = Secret::new(bytes.to_vec());
    let text = URL_SAFE_NO_PAD.encode(secret.expose());
    let key = key(&text)?;
    Some((text, key))
}

/// The key of what a browser shows; `None` for what is no secret of ours by its form.
pub(super) fn key(text: &str) -> Option<Key> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.len() != TEXT_LEN || !text.bytes().all(good) {
        return None;
    }
    digest(&SHA256, text.as_bytes()).as_ref().first_chunk().copied()
}

/// 32 bytes in base64 without padding.
const TEXT_LEN: usize = 43;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_secret_is_found_by_its_text_and_by_nothing_near_it() {
        let (text, found) = make().unwrap();
        assert_eq!((text.len(), key(&text)), (TEXT_LEN, Some(found)));
        assert_ne!(make().unwrap().1, found);
        for wrong in ["", &text[1..], &format!("{text}A"), &format!("{}=", &text[1..])] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }
}
