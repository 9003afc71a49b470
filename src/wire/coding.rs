//! Content codings that the gateway can undo, so that masks and detectors see what the peer means.
//!
//! `gzip` (RFC 1952) and `deflate` (RFC 1950: zlib, as RFC 9110, section 8.4.1.2 has it; raw deflate
//! under that label is refused). Checksums are checked. What comes out is bounded twice: by bytes in
//! all, and by bytes per byte of input, so a bomb is found after its first few kilobytes.

use crate::base::Limits;
use flate2::{Crc, Decompress, FlushDecompress, Status};
use std::fmt;

/// Output that is allowed before the expansion ratio counts: short repetitive texts pack well.
const RATIO_FREE: u64 = 64 << 10;
/// Longest header of one gzip member, with its name and comment.
const GZIP_HEADER_MAX: u32 = 8 << 10;
/// Members of one gzip body: each costs a reset of the decoder's window.
const GZIP_MEMBERS_MAX: u32 = 256;
/// Room that is made for output at a time.
const STEP: usize = 16 << 10;

/// A content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// None at all.
    Identity,
    /// `gzip` or `x-gzip`.
    Gzip,
    /// `deflate`.
    Deflate,
}

impl Coding {
    /// What a `Content-Encoding` value names; `None` for codings that cannot be undone here, and
    /// for lists of more than one.
    #[must_use]
    pub fn of(value: &[u8]) -> Option<Self> {
        let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
        if value.is_empty() || is(b"identity") {
            Some(Self::Identity)
        } else if is(b"gzip") || is(b"x-gzip") {
            Some(Self::Gzip)
        } else if is(b"deflate") {
            Some(Self::Deflate)
        } else {
            None
        }
    }
}

/// Why a coded body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodingError {
    /// Not of the coding that its label says, or a checksum that does not fit.
    Malformed,
    /// Ended before its end.
    Incomplete,
    /// Bytes behind the end.
    Trailing,
    /// More output per byte of input than the limit.
    Expansion,
    /// More output than the limit.
    TooLarge,
}

impl CodingError {
    /// A fixed label for metrics and the record.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "coding_malformed",
            Self::Incomplete => "coding_incomplete",
            Self::Trailing => "coding_trailing",
            Self::Expansion => "coding_expansion",
            Self::TooLarge => "coding_too_large",
        }
    }

    /// The status that a caller hears when the body is its own; for an upstream's it is 502.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Expansion | Self::TooLarge => 413,
            Self::Malformed | Self::Incomplete | Self::Trailing => 400,
        }
    }
}

impl fmt::Display for CodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl std::error::Error for CodingError {}

/// Where in a body the decoder is. Gzip goes from `Fixed` down to `Check` and back for a next
/// member; zlib, whose checksum its decoder checks, is `Inflate` then `End`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ten bytes of a gzip header, so many of which were seen.
    Fixed(u8),
    /// Two bytes: how long the extra field is.
    ExtraLen(u8),
    Extra(u16),
    Name,
    Comment,
    /// Two bytes of checksum over the header.
    HeaderCheck(u8),
    Inflate,
    /// Eight bytes: checksum and length.
    Check(u8),
    End,
    /// Between members: the body may end here.
    Between,
    Failed(CodingError),
}

/// Undoes one coding of one body, as its bytes come.
pub struct Decoder {
    coding: Coding,
    state: State,
    inflate: Decompress,
    crc: Crc,
    header_crc: Crc,
    flags: u8,
    header_len: u32,
    members: u32,
    /// Two bytes of a number that is being read, little end first; or eight.
    number: u64,
    input: u64,
    output: u64,
    output_max: u64,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { coding, state, input, output, .. } = self;
        write!(f, "Decoder({coding:?}, {state:?}, {input} -> {output})")
    }
}

impl Decoder {
    /// For a body of which at most `output_max` bytes may come out. Takes some 45 KiB.
    #[must_use]
    pub fn new(coding: Coding, output_max: u64) -> Self {
        let state = match coding {
            Coding::Identity | Coding::Deflate => State::Inflate,
            Coding::Gzip => State::Fixed(0),
        };
        Self {
            coding,
            state,
            inflate: Decompress::new(coding == Coding::Deflate),
            crc: Crc::new(),
            header_crc: Crc::new(),
            flags: 0,
            header_len: 0,
            members: 0,
            number: 0,
            input: 0,
            output: 0,
            output_max,
        }
    }

    /// Bytes that came out so far.
    #[must_use]
    pub fn output(&self) -> u64 {
        self.output
    }

    /// Decodes all of `input` and appends to `out` everything that it yields: at most
    /// `limits.expansion_ratio_max` bytes per byte of input so far, and 64 KiB.
    ///
    /// # Errors
    /// [`CodingError`]; it stays, and what is in `out` must not be used.
    pub fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        limits: &Limits,
    ) -> Result<(), CodingError> {
        self.input = self.input.saturating_add(input.len() as u64);
        let ratio = u64::from(limits.expansion_ratio_max);
        let ratio_max = self.input.saturating_mul(ratio).saturating_add(RATIO_FREE);
        let pushed = if self.coding == Coding::Identity {
            out.extend_from_slice(input);
            self.spend(input.len() as u64, ratio_max)
        } else {
            self.run(input, out, ratio_max)
        };
        if let Err(error) = pushed {
            self.state = State::Failed(error);
        }
        pushed
    }

    /// The body ended: was the coding whole?
    ///
    /// # Errors
    /// [`CodingError::Incomplete`] if not. An empty body is no gzip and no zlib.
    pub fn finish(&self) -> Result<(), CodingError> {
        match self.state {
            State::End | State::Between => Ok(()),
            State::Failed(error) => Err(error),
            _ if self.coding == Coding::Identity => Ok(()),
            _ => Err(CodingError::Incomplete),
        }
    }

    fn spend(&mut self, len: u64, ratio_max: u64) -> Result<(), CodingError> {
        self.output = self.output.saturating_add(len);
        if self.output > self.output_max {
            return Err(CodingError::TooLarge);
        }
        if self.output > ratio_max { Err(CodingError::Expansion) } else { Ok(()) }
    }

    fn run(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        ratio_max: u64,
    ) -> Result<(), CodingError> {
        loop {
            match (self.state, input) {
                (State::Failed(error), _) => return Err(error),
                (State::Inflate, _) => {
                    let used = self.inflate_step(input, out, ratio_max)?;
                    input = input.get(used..).unwrap_or_default();
                    if self.state == State::Inflate && input.is_empty() {
                        return Ok(());
                    }
                }
                (_, []) => return Ok(()),
                (State::End, _) => return Err(CodingError::Trailing),
                (state, [byte, rest @ ..]) => {
                    self.state = self.gzip_byte(state, *byte)?;
                    input = rest;
                }
            }
        }
    }

    /// Inflates until the input is used and nothing more comes out, or the stream ends.
    fn inflate_step(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        ratio_max: u64,
    ) -> Result<usize, CodingError> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            out.reserve(STEP);
            let start = out.len();
            let before = self.inflate.total_in();
            let status = self
                .inflate
                .decompress_vec(rest, out, FlushDecompress::None)
                .map_err(|_| CodingError::Malformed)?;
            let taken = usize::try_from(self.inflate.total_in().saturating_sub(before))
                .map_err(|_| CodingError::Malformed)?;
            used += taken;
            let made = out.get(start..).unwrap_or_default();
            if self.coding == Coding::Gzip {
                self.crc.update(made);
            }
            let made = made.len();
            self.spend(made as u64, ratio_max)?;
            match status {
                Status::StreamEnd => {
                    self.state = match self.coding {
                        Coding::Gzip => State::Check(0),
                        Coding::Identity | Coding::Deflate => State::End,
                    };
                    self.number = 0;
                    return Ok(used);
                }
                // Output was cut by its room only if the room is full.
                Status::Ok | Status::BufError if taken == 0 && made == 0 => {
                    return if used == input.len() {
                        Ok(used)
                    } else {
                        Err(CodingError::Malformed)
                    };
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// One byte of gzip's own header or trailer (RFC 1952, section 2.3).
    fn gzip_byte(&mut self, state: State, byte: u8) -> Result<State, CodingError> {
        if !matches!(state, State::Check(_)) {
            self.header_len += 1;
            if self.header_len > GZIP_HEADER_MAX {
                return Err(CodingError::Malformed);
            }
            if !matches!(state, State::HeaderCheck(_)) {
                self.header_crc.update(&[byte]);
            }
        }
        match state {
            State::Between => {
                self.members += 1;
                if self.members >= GZIP_MEMBERS_MAX {
                    return Err(CodingError::Malformed);
                }
                self.inflate.reset(false);
                self.crc.reset();
                self.header_crc.reset();
                self.header_crc.update(&[byte]);
                self.header_len = 1;
                self.fixed_byte(0, byte)
            }
            State::Fixed(place) => self.fixed_byte(place, byte),
            State::ExtraLen(0) => {
                self.number = u64::from(byte);
                Ok(State::ExtraLen(1))
            }
            State::ExtraLen(_) => match u16::from_le_bytes([self.number as u8, byte]) {
                0 => Ok(self.after_extra()),
                len => Ok(State::Extra(len)),
            },
            State::Extra(left) if left > 1 => Ok(State::Extra(left - 1)),
            State::Extra(_) => Ok(self.after_extra()),
            State::Name if byte == 0 => Ok(self.after_name()),
            State::Comment if byte == 0 => Ok(self.after_comment()),
            State::HeaderCheck(0) => {
                self.number = u64::from(byte);
                Ok(State::HeaderCheck(1))
            }
            State::HeaderCheck(_) => {
                let said = u16::from_le_bytes([self.number as u8, byte]);
                let is = (self.header_crc.sum() & 0xffff) as u16;
                if said == is { Ok(State::Inflate) } else { Err(CodingError::Malformed) }
            }
            State::Check(place) => {
                self.number |= u64::from(byte) << (8 * u32::from(place.min(7)));
                if place < 7 {
                    return Ok(State::Check(place + 1));
                }
                let is = u64::from(self.crc.sum()) | u64::from(self.crc.amount()) << 32;
                if self.number == is { Ok(State::Between) } else { Err(CodingError::Malformed) }
            }
            State::Name | State::Comment | State::Inflate | State::End | State::Failed(_) => {
                Ok(state)
            }
        }
    }

    fn fixed_byte(&mut self, place: u8, byte: u8) -> Result<State, CodingError> {
        match (place, byte) {
            (0, 0x1f) | (1, 0x8b) | (2, 8) | (4..=9, _) => {}
            // The upper three flags are reserved.
            (3, flags) if flags & 0xe0 == 0 => self.flags = flags,
            _ => return Err(CodingError::Malformed),
        }
        match place {
            0..=8 => Ok(State::Fixed(place + 1)),
            _ if self.flags & FLAG_EXTRA != 0 => Ok(State::ExtraLen(0)),
            _ => Ok(self.after_extra()),
        }
    }

    fn after_extra(&mut self) -> State {
        if self.flags & FLAG_NAME != 0 { State::Name } else { self.after_name() }
    }

    fn after_name(&mut self) -> State {
        if self.flags & FLAG_COMMENT != 0 { State::Comment } else { self.after_comment() }
    }

    fn after_comment(&mut self) -> State {
        if self.flags & FLAG_CHECK != 0 { State::HeaderCheck(0) } else { State::Inflate }
    }
}

const FLAG_CHECK: u8 = 2;
const FLAG_EXTRA: u8 = 4;
const FLAG_NAME: u8 = 8;
const FLAG_COMMENT: u8 = 16;
