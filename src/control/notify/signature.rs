//! Signatures of what goes out and comes in.
//!
//! Notices, and callbacks of generic webhooks, are signed as the Standard Webhooks specification
//! says (version 1 of its symmetric signatures):
//!
//! ```text
//! signed    = webhook-id "." webhook-timestamp "." body
//! signature = "v1," base64(HMAC-SHA256(key, signed))
//! ```
//!
//! `webhook-signature` holds one or more of them with blanks between them; one that is good is
//! enough. Slack signs what it sends in its own way (`v0`).

use crate::base::Secret;
use crate::control::same_bytes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac::{self, HMAC_SHA256, Key};

/// How far the time of a callback may be from ours, seconds.
pub const SKEW_S: u64 = 300;
/// Most signatures that one callback may show.
const SIGNATURES_MAX: usize = 8;
/// Longest id of a callback.
const ID_MAX: usize = 128;

/// Why a callback's signature is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// A field is missing, stands twice, or cannot be read.
    Fields,
    /// The time is too far from ours.
    Time,
    /// None of the signatures is by one of our keys over these bytes.
    Signature,
}

impl SignatureError {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Fields => "fields",
            Self::Time => "time",
            Self::Signature => "signature",
        }
    }
}

/// The value of `webhook-signature` for a message.
#[must_use]
pub fn standard(key: &Secret, id: &str, timestamp_s: u64, body: &[u8]) -> String {
    let key = Key::new(HMAC_SHA256, key.expose());
    let tag = hmac::sign(&key, &signed(id, &timestamp_s.to_string(), body));
    format!("v1,{}", STANDARD.encode(tag))
}

/// Verifies a message that came in: `id`, `timestamp` and `signatures` are its fields.
///
/// # Errors
/// [`SignatureError`]. The time that it takes tells nothing of the right signature.
pub fn verify_standard(
    keys: &[Secret],
    [id, timestamp, signatures]: [&str; 3],
    body: &[u8],
    now_s: u64,
) -> Result<(), SignatureError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(plain) {
        return Err(SignatureError::Fields);
    }
    recent(timestamp, now_s)?;
    let signed = signed(id, timestamp, body);
    // One for each key, whatever is shown beside.
    let right: Vec<hmac::Tag> =
        keys.iter().map(|key| hmac::sign(&Key::new(HMAC_SHA256, key.expose()), &signed)).collect();
    for signature in signatures.split(' ').take(SIGNATURES_MAX) {
        let Some(text) = signature.strip_prefix("v1,") else { continue };
        let Ok(tag) = STANDARD.decode(text) else { continue };
        if right.iter().any(|right| same_bytes(right.as_ref(), &tag)) {
            return Ok(());
        }
    }
    Err(SignatureError::Signature)
}

/// Verifies what Slack sent: `X-Slack-Request-Timestamp` and `X-Slack-Signature`.
///
/// # Errors
/// [`SignatureError`]
pub fn verify_slack(
    key: &Secret,
    [timestamp, signature]: [&str; 2],
    body: &[u8],
    now_s: u64,
) -> Result<(), SignatureError> {
    recent(timestamp, now_s)?;
    let hex = signature.strip_prefix("v0=").ok_or(SignatureError::Fields)?;
    let tag = crate::policy::approval::hex32::parse(hex).ok_or(SignatureError::Fields)?;
    let key = Key::new(HMAC_SHA256, key.expose());
    let signed = [b"v0:", timestamp.as_bytes(), b":", body].concat();
    hmac::verify(&key, &signed, &tag).map_err(|_| SignatureError::Signature)
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}

/// Seconds since the epoch in decimal digits, near `now_s`.
fn recent(timestamp: &str, now_s: u64) -> Result<(), SignatureError> {
    if timestamp.len() > 12 || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(SignatureError::Fields);
    }
    let sent_s: u64 = timestamp.parse().map_err(|_| SignatureError::Fields)?;
    if sent_s.abs_diff(now_s) > SKEW_S { Err(SignatureError::Time) } else { Ok(()) }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// The example of the makers of the specification.
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn key() -> Secret {
        Secret::new(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap())
    }

    fn check(fields: [&str; 3], body: &[u8], now_s: u64) -> Result<(), SignatureError> {
        verify_standard(&[Secret::new(vec![7; 32]), key()], fields, body, now_s)
    }

    #[test]
    fn the_published_example_has_the_published_signature() {
        assert_eq!(standard(&key(), ID, TIME, BODY), SIGNATURE);
        let time = TIME.to_string();
        assert_eq!(check([ID, &time, SIGNATURE], BODY, TIME), Ok(()));
        let list = format!("v1a,xyz v1,AAAA {SIGNATURE}");
        assert_eq!(check([ID, &time, &list], BODY, TIME + SKEW_S), Ok(()));
    }

    #[test]
    fn nothing_else_is_taken() {
        use SignatureError::{Fields, Signature, Time};
        let time = TIME.to_string();
        for now_s in [TIME - SKEW_S - 1, TIME + SKEW_S + 1, 0, u64::MAX] {
            assert_eq!(check([ID, &time, SIGNATURE], BODY, now_s), Err(Time));
        }
        let later = (TIME + 1).to_string();
        let other = ID.replace('p', "q");
        let unsigned = SIGNATURE.strip_prefix("v1,").unwrap();
        for (fields, error) in [
            ([other.as_str(), &time, SIGNATURE], Signature),
            ([ID, &later, SIGNATURE], Signature),
            ([ID, &time, unsigned], Signature),
            ([ID, &time, ""], Signature),
            ([ID, &time, "v1,"], Signature),
            ([ID, &time, &SIGNATURE.replace("v1", "v2")], Signature),
            (["", &time, SIGNATURE], Fields),
            (["a.b", &time, SIGNATURE], Fields),
            ([ID, &format!("+{time}"), SIGNATURE], Fields),
            ([ID, "", SIGNATURE], Fields),
        ] {
            assert_eq!(check(fields, BODY, TIME), Err(error), "{fields:?}");
        }
        for place in 0..BODY.len() {
            let mut body = BODY.to_vec();
            body[place] ^= 1;
            assert_eq!(check([ID, &time, SIGNATURE], &body, TIME), Err(Signature));
        }
        // What would be the same bytes with the dot elsewhere.
        let moved = standard(&key(), "a", 1, b"x");
        assert_eq!(check(["a.1", "1", &moved], b"x", 1), Err(Fields));
        assert_eq!(verify_standard(&[], [ID, &time, SIGNATURE], BODY, TIME), Err(Signature));
    }

    #[test]
    fn slacks_own_example_is_taken_and_a_change_of_it_is_not() {
        let key = Secret::new(b"8f742231b10e8888abcd99yyyzzz85a5".to_vec());
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&\
                    channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&\
                    user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F\
                    %2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F\
                    96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.\
                    803a0bc887a14d10d2c447fce8b6703c";
        let time = "1531420618";
        let signature = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
        let now_s = 1_531_420_618;
        let check = |fields, body: &str| verify_slack(&key, fields, body.as_bytes(), now_s);
        assert_eq!(check([time, signature], body), Ok(()));
        assert_eq!(check([time, signature], &body[1..]), Err(SignatureError::Signature));
        assert_eq!(check(["1531420617", signature], body), Err(SignatureError::Signature));
        assert_eq!(check(["1531420000", signature], body), Err(SignatureError::Time));
        assert_eq!(check([time, &signature[3..]], body), Err(SignatureError::Fields));
        assert_eq!(check([time, &signature[..66]], body), Err(SignatureError::Fields));
    }
}
