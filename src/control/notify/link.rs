//! Signed links: where a notice sends a person who is to decide.
//!
//! ```text
//! PUBLIC_URL/approvals/ID?vote=approve&h=HOOK&n=NONCE&e=EXPIRY&s=SIGNATURE
//! ```
//!
//! The signature is HMAC-SHA256, by a key that the gateway draws itself and keeps in its data
//! folder, over the request's id, the digest of what is shown of it, vote, webhook, nonce and
//! expiry, each with its length before it. A link is a pointer: it opens the page with one answer
//! ready, and a vote that came by it is cast by whoever signs in there, once.

use crate::policy::approval::ApprovalId;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac::{self, HMAC_SHA256, Key};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The key of all links.
pub(super) struct LinkKey(Key);

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

/// What a link is bound to beside its nonce and its expiry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'b> {
    /// The request.
    pub(super) id: ApprovalId,
    /// Digest of what is shown of it.
    pub(super) digest: &'b [u8; 32],
    /// Yes or no.
    pub(super) approve: bool,
    /// The webhook that it was sent by.
    pub(super) hook: &'b str,
}

/// The query of a link, taken apart and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Yes or no.
    pub approve: bool,
    /// The webhook that it says it was sent by.
    pub hook: String,
    nonce: String,
    /// Seconds since the epoch.
    expiry_s: u64,
    signature: String,
}

/// Why a link does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkError {
    /// It is none, or was changed, or is for something else.
    Tampered,
    /// Its time is over.
    Expired,
    /// A vote has come by it.
    Used,
    /// That cannot be noted at the moment.
    Unavailable,
}

impl LinkError {
    /// A fixed word for the API and the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Tampered => "link-tampered",
            Self::Expired => "link-expired",
            Self::Used => "link-used",
            Self::Unavailable => "unavailable",
        }
    }
}

impl Link {
    /// Reads the query of a link: each of its parts once, in any order, and nothing else.
    #[must_use]
    pub fn parse(query: &str) -> Option<Self> {
        if query.len() > QUERY_MAX {
            return None;
        }
        let keys = ["vote", "h", "n", "e", "s"];
        let mut found: [Option<&str>; 5] = [None; 5];
        for part in query.strip_prefix('?').unwrap_or(query).split('&') {
            let (key, value) = part.split_once('=')?;
            let place = keys.iter().position(|known| *known == key)?;
            let slot = found.get_mut(place)?;
            if slot.replace(value).is_some() {
                return None;
            }
        }
        let [vote, hook, nonce, expiry, signature] = found;
        let digits = |text: &&str| text.len() <= 12 && text.bytes().all(|b| b.is_ascii_digit());
        Some(Self {
            approve: match vote? {
                "approve" => true,
                "deny" => false,
                _ => return None,
            },
            hook: hook?.to_owned(),
            nonce: nonce.filter(|text| !text.is_empty())?.to_owned(),
            expiry_s: expiry.filter(digits)?.parse().ok()?,
            signature: signature?.to_owned(),
        })
    }

    /// By what a use of it is noted.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// Until when it may be used, seconds since the epoch.
    #[must_use]
    pub fn expiry_s(&self) -> u64 {
        self.expiry_s
    }

    fn query(&self) -> String {
        let vote = if self.approve { "approve" } else { "deny" };
        let Self { hook, nonce, expiry_s, signature, .. } = self;
        format!("vote={vote}&h={hook}&n={nonce}&e={expiry_s}&s={signature}")
    }
}

impl LinkKey {
    /// The key in `dir`, which is drawn where there is none.
    ///
    /// # Errors
    /// Those of the system, and a key that is not one or that others may read.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let mut key = Zeroizing::new([0u8; KEY_LEN]);
        match File::open(&path) {
            Ok(mut file) => {
                let found = file.metadata()?;
                if found.len() != KEY_LEN as u64 || found.mode() & 0o077 != 0 {
                    return Err(io::Error::other(
                        "it is no key of 32 bytes that only its owner reads",
                    ));
                }
                file.read_exact(&mut *key)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let random = SystemRandom::new().fill(&mut *key);
                random.map_err(|_| io::Error::other("the system has no random numbers"))?;
                let aside = dir.join(NEW);
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let mut file = options.open(&aside)?;
                file.write_all(&*key)?;
                file.sync_all()?;
                std::fs::rename(&aside, &path)?;
                File::open(dir)?.sync_all()?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self(Key::new(HMAC_SHA256, &*key)))
    }

    /// The query of a link that is good until `expiry_s`.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(super) fn sign(&self, bound: Bound<'_>, expiry_s: u64) -> io::Result<String> {
        let mut nonce = [0u8; 16];
        let random = SystemRandom::new().fill(&mut nonce);
        random.map_err(|_| io::Error::other("the system has no random numbers"))?;
        let nonce = URL_SAFE_NO_PAD.encode(nonce);
        let tag = hmac::sign(&self.0, &signed(bound, &nonce, expiry_s));
        let (approve, hook) = (bound.approve, bound.hook.to_owned());
        let signature = URL_SAFE_NO_PAD.encode(tag);
        Ok(Link { approve, hook, nonce, expiry_s, signature }.query())
    }

    /// Whether a link is ours, is for this vote on what is shown, and in time.
    ///
    /// # Errors
    /// [`LinkError::Tampered`], [`LinkError::Expired`]
    pub(super) fn verify(
        &self,
        link: &Link,
        (id, digest, approve): (ApprovalId, &[u8; 32], bool),
        now_s: u64,
    ) -> Result<(), LinkError> {
        let bound = Bound { id, digest, approve, hook: &link.hook };
        let tag = URL_SAFE_NO_PAD.decode(&link.signature).map_err(|_| LinkError::Tampered)?;
        let signed = signed(bound, &link.nonce, link.expiry_s);
        let good = hmac::verify(&self.0, &signed, &tag).is_ok();
        if !good || link.approve != approve {
            return Err(LinkError::Tampered);
        }
        if now_s >= link.expiry_s { Err(LinkError::Expired) } else { Ok(()) }
    }
}

/// Every part with its length before it, so that no two links have the same bytes.
fn signed(bound: Bound<'_>, nonce: &str, expiry_s: u64) -> Vec<u8> {
    let (id, expiry) = (bound.id.hex(), expiry_s.to_le_bytes());
    let parts: [&[u8]; 7] = [
        b"weirgate approval link 1",
        &id,
        bound.digest,
        if bound.approve { b"approve" } else { b"deny" },
        bound.hook.as_bytes(),
        nonce.as_bytes(),
        &expiry,
    ];
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

const NAME: &str = "link.key";
const NEW: &str = "link.key.new";
const KEY_LEN: usize = 32;
/// Longer than any query of ours.
const QUERY_MAX: usize = 512;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ID: ApprovalId = ApprovalId(0x1234);
    const DIGEST: [u8; 32] = [9; 32];
    const BOUND: Bound<'_> = Bound { id: ID, digest: &DIGEST, approve: true, hook: "chat" };

    #[test]
    fn a_link_counts_for_what_it_was_made_for_and_a_change_of_any_part_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let key = LinkKey::open(dir.path()).unwrap();
        let query = key.sign(BOUND, 1_000).unwrap();
        let good = Link::parse(&query).unwrap();
        assert_eq!(good.query(), query);
        let verify = |key: &LinkKey, link: &Link, id, digest: &[u8; 32], approve, now_s| {
            key.verify(link, (id, digest, approve), now_s)
        };
        assert_eq!(verify(&key, &good, ID, &DIGEST, true, 999), Ok(()));
        assert_eq!(verify(&key, &good, ID, &DIGEST, true, 1_000), Err(LinkError::Expired));
        let tampered = Err(LinkError::Tampered);
        assert_eq!(verify(&key, &good, ApprovalId(1), &DIGEST, true, 0), tampered, "id");
        assert_eq!(verify(&key, &good, ID, &[8; 32], true, 0), tampered, "digest");
        assert_eq!(verify(&key, &good, ID, &DIGEST, false, 0), tampered, "the other vote");
        let mut turned = good.signature.clone().into_bytes();
        turned.reverse();
        let changes: [(&str, Link); 6] = [
            ("vote", Link { approve: false, ..good.clone() }),
            ("hook", Link { hook: "chat2".into(), ..good.clone() }),
            ("nonce", Link { nonce: format!("{}x", good.nonce), ..good.clone() }),
            ("expiry", Link { expiry_s: 2_000, ..good.clone() }),
            ("signature", Link { signature: String::from_utf8(turned).unwrap(), ..good.clone() }),
            ("no signature", Link { signature: String::new(), ..good.clone() }),
        ];
        for (what, link) in changes {
            assert_eq!(verify(&key, &link, ID, &DIGEST, link.approve, 0), tampered, "{what}");
        }
        let other = tempfile::tempdir().unwrap();
        let other = LinkKey::open(other.path()).unwrap();
        assert_eq!(verify(&other, &good, ID, &DIGEST, true, 0), tampered, "another gateway's");
        let again = LinkKey::open(dir.path()).unwrap();
        assert_eq!(verify(&again, &good, ID, &DIGEST, true, 0), Ok(()), "after a restart");
        assert_ne!(key.sign(BOUND, 1_000).unwrap(), query, "a nonce of its own");
    }

    #[test]
    fn a_query_is_read_in_one_way() {
        let good = "vote=deny&h=chat&n=abc&e=17&s=xyz";
        assert_eq!(Link::parse(good).unwrap().query(), good);
        assert_eq!(Link::parse(&format!("?{good}")).unwrap().query(), good);
        assert!(Link::parse("s=xyz&e=17&n=abc&h=chat&vote=deny").is_some());
        for wrong in [
            "",
            "vote=deny&h=chat&n=abc&e=17",
            "vote=deny&h=chat&n=abc&e=17&s=xyz&s=xyz",
            "vote=deny&h=chat&n=abc&e=17&s=xyz&more=1",
            "vote=maybe&h=chat&n=abc&e=17&s=xyz",
            "vote=deny&h=chat&n=abc&e=+17&s=xyz",
            "vote=deny&h=chat&n=&e=17&s=xyz",
            "vote=deny&h=chat&n=abc&e=17&s=xyz&",
        ] {
            assert_eq!(Link::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Link::parse(&format!("{good}{}", "x".repeat(QUERY_MAX))), None);
    }

    #[test]
    fn a_key_that_others_read_or_that_is_cut_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        LinkKey::open(dir.path()).unwrap();
        let path = dir.path().join(NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(LinkKey::open(dir.path()).is_err());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(&path, [1; 31]).unwrap();
        assert!(LinkKey::open(dir.path()).is_err());
    }
}
