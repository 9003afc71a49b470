//! Packets before the start, which have a length and no tag (manual: "Message Formats", SSLRequest,
//! GSSENCRequest, CancelRequest, StartupMessage).

use super::WireError;
use super::cursor::Cursor;
use super::lists::Strings;
use std::fmt;

/// The newest minor version of protocol 3 that is spoken; a newer one, or any `_pq_.` option, is
/// answered by [`write::negotiate`](super::write::negotiate).
pub const MINOR_MAX: u16 = 2;
/// Longest packet before the start, its length field included: 10,000 bytes and the field, as in
/// the server (`MAX_STARTUP_PACKET_LENGTH`).
pub const OPENING_LEN_MAX: usize = 10_004;
/// Most parameters of a start-up packet. Drivers send fewer than 20; each is compared with each,
/// before anybody is authenticated.
pub const PARAMS_MAX: usize = 64;
/// Shortest cancel secret: the one of protocol 3.0.
pub const SECRET_LEN_MIN: usize = 4;
/// Longest cancel secret of protocol 3.2.
pub const SECRET_LEN_MAX: usize = 256;

pub(super) const CANCEL: u32 = 80_877_102;
pub(super) const SSL: u32 = 80_877_103;
pub(super) const GSS: u32 = 80_877_104;
/// The major version of the requests that are no start.
const REQUESTS: u32 = 1234;
/// Length field and code.
const HEAD: usize = 8;

/// A packet before the start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Opening<'a> {
    /// SSLRequest. Bytes behind it in the buffer were sent in the clear and must never be read as
    /// if they had come by TLS (CVE-2021-23214): the caller of [`opening`] refuses them.
    Ssl,
    /// GSSENCRequest; the same holds.
    Gss,
    /// CancelRequest.
    Cancel {
        /// The process that BackendKeyData named.
        pid: u32,
        /// Its secret, [`SECRET_LEN_MIN`] to [`SECRET_LEN_MAX`] bytes.
        secret: &'a [u8],
    },
    /// StartupMessage of protocol 3.
    Startup(Startup<'a>),
}

impl fmt::Debug for Opening<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssl => f.write_str("Ssl"),
            Self::Gss => f.write_str("Gss"),
            Self::Cancel { .. } => f.write_str("Cancel(..)"),
            Self::Startup(startup) => startup.fmt(f),
        }
    }
}

/// A start-up packet of protocol 3, of any minor version.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Startup<'a> {
    /// The minor version that was asked for.
    pub minor: u16,
    /// Names and values in turn; names are not empty.
    params: Strings<'a>,
}

impl<'a> Startup<'a> {
    /// All parameters in order, `_pq_.` options too.
    pub fn params(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut strings = self.params;
        std::iter::from_fn(move || Some((strings.next()?, strings.next()?)))
    }

    /// The value of the parameter with exactly this name. The server compares names of settings
    /// without regard to case and those of its own parameters (`user`, `database`, `options`,
    /// `replication`) as they are; [`opening`] refuses two names that differ in case alone.
    #[must_use]
    pub fn get(self, name: &[u8]) -> Option<&'a [u8]> {
        self.params().find(|(own, _)| *own == name).map(|(_, value)| value)
    }

    /// Names of the protocol options (`_pq_.*`) that were asked for. None is known here, so all of
    /// them go into the NegotiateProtocolVersion.
    pub fn options_unknown(self) -> impl Iterator<Item = &'a [u8]> {
        self.params().map(|(name, _)| name).filter(|name| name.starts_with(b"_pq_."))
    }

    /// Whether a NegotiateProtocolVersion is due: a minor version above [`MINOR_MAX`], or an
    /// option.
    #[must_use]
    pub fn negotiates(self) -> bool {
        self.minor > MINOR_MAX || self.options_unknown().next().is_some()
    }

    /// Reads names and values up to the empty name that must be the last byte.
    fn parse(minor: u16, body: &'a [u8]) -> Result<Self, WireError> {
        let params = body.strip_suffix(&[0]).ok_or(WireError::Terminator)?;
        let mut cursor = Cursor::new(params);
        let mut names: [&[u8]; PARAMS_MAX] = [&[]; PARAMS_MAX];
        let mut count = 0;
        while !cursor.rest().is_empty() {
            let name = cursor.string()?;
            if name.is_empty() {
                return Err(WireError::Trailing);
            }
            cursor.string()?;
            let seen = names.get(..count).unwrap_or_default();
            if seen.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                return Err(WireError::DuplicateParameter);
            }
            *names.get_mut(count).ok_or(WireError::TooManyParameters)? = name;
            count += 1;
        }
        Ok(Self { minor, params: Strings::parse(params)? })
    }
}

impl fmt::Debug for Startup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Startup(3.{})", self.minor)
    }
}

/// Reads the packet at the front of `buf` and gives its whole length; `None` when more bytes are
/// needed.
///
/// What is wrong with the first eight bytes is said as soon as they are there.
///
/// # Errors
/// [`WireError::Length`] below 8 bytes or for a request that is not of its length,
/// [`WireError::TooLong`] above [`OPENING_LEN_MAX`], [`WireError::Version`] for a start of another
/// major version, [`WireError::UnknownRequest`], [`WireError::Secret`], and for the parameters
/// [`WireError::Terminator`], [`WireError::Trailing`] (an empty name before the end),
/// [`WireError::DuplicateParameter`] and [`WireError::TooManyParameters`].
pub fn opening(buf: &[u8]) -> Result<Option<(Opening<'_>, usize)>, WireError> {
    let mut cursor = Cursor::new(buf);
    let Ok(len) = cursor.u32() else { return Ok(None) };
    let len = usize::try_from(len).map_err(|_| WireError::TooLong)?;
    if len > OPENING_LEN_MAX {
        return Err(WireError::TooLong);
    }
    let body_len = len.checked_sub(HEAD).ok_or(WireError::Length)?;
    let Ok(code) = cursor.u32() else { return Ok(None) };
    match (code, code >> 16) {
        (SSL | GSS, _) if body_len != 0 => return Err(WireError::Length),
        (CANCEL, _) if !(4 + SECRET_LEN_MIN..=4 + SECRET_LEN_MAX).contains(&body_len) => {
            return Err(WireError::Secret);
        }
        (SSL | GSS | CANCEL, _) | (_, 3) => {}
        (_, REQUESTS) => return Err(WireError::UnknownRequest),
        _ => return Err(WireError::Version),
    }
    let Ok(body) = cursor.take(body_len) else { return Ok(None) };
    let packet = match code {
        SSL => Opening::Ssl,
        GSS => Opening::Gss,
        CANCEL => {
            let mut cursor = Cursor::new(body);
            Opening::Cancel { pid: cursor.u32()?, secret: cursor.rest() }
        }
        version => {
            let minor = u16::try_from(version & 0xffff).map_err(|_| WireError::Version)?;
            Opening::Startup(Startup::parse(minor, body)?)
        }
    };
    Ok(Some((packet, len)))
}
