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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read(coding: Coding, parts: &[&[u8]]) -> Result<Vec<u8>, CodingError> {
        let mut decoder = Decoder::new(coding, 64 << 20);
        let mut out = Vec::new();
        for part in parts {
            decoder.push(part, &mut out, &Limits::default())?;
        }
        decoder.finish()?;
        assert_eq!(decoder.output(), out.len() as u64);
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 9).to_le_bytes()).collect()
    }

    /// A header with every optional part.
    fn full_header(data: &[u8]) -> Vec<u8> {
        let mut head = vec![0x1f, 0x8b, 8, 0x1f, 0, 0, 0, 0, 0, 255, 3, 0];
        head.extend_from_slice(b"abcname\0comment\0");
        let mut crc = Crc::new();
        crc.update(&head);
        head.extend_from_slice(&(crc.sum() as u16).to_le_bytes());
        head.extend_from_slice(&gzip(data)[10..]);
        head
    }

    #[test]
    fn labels_name_codings() {
        assert_eq!(Coding::of(b"GZIP"), Some(Coding::Gzip));
        assert_eq!(Coding::of(b"x-gzip"), Some(Coding::Gzip));
        assert_eq!(Coding::of(b"deflate"), Some(Coding::Deflate));
        assert_eq!(Coding::of(b""), Some(Coding::Identity));
        assert_eq!(Coding::of(b"identity"), Some(Coding::Identity));
        assert_eq!(Coding::of(b"br"), None);
        assert_eq!(Coding::of(b"gzip, gzip"), None);
    }

    #[test]
    fn any_split_gives_the_whole() {
        let short = b"hello hello hello, world".repeat(3);
        for (coding, coded) in [
            (Coding::Gzip, gzip(&short)),
            (Coding::Gzip, full_header(&short)),
            (Coding::Gzip, [gzip(&short[..10]), gzip(b""), full_header(&short[10..])].concat()),
            (Coding::Deflate, zlib(&short)),
            (Coding::Identity, short.clone()),
        ] {
            assert_eq!(read(coding, &[&coded]).unwrap(), short);
            for cut in 0..=coded.len() {
                assert_eq!(read(coding, &[&coded[..cut], &coded[cut..]]).unwrap(), short);
            }
            assert_eq!(read(coding, &coded.chunks(1).collect::<Vec<_>>()).unwrap(), short);
        }
        let long = text();
        for (coding, coded) in [(Coding::Gzip, gzip(&long)), (Coding::Deflate, zlib(&long))] {
            assert_eq!(read(coding, &[&coded]).unwrap(), long);
            assert_eq!(read(coding, &coded.chunks(777).collect::<Vec<_>>()).unwrap(), long);
        }
    }

    #[test]
    fn all_that_came_in_comes_out_at_once() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        let mut decoder = Decoder::new(Coding::Gzip, 1 << 20);
        let mut out = Vec::new();
        decoder.push(encoder.get_ref(), &mut out, &Limits::default()).unwrap();
        assert_eq!(out, b"data: one\n\n");
        assert_eq!(decoder.finish(), Err(CodingError::Incomplete));
    }

    #[test]
    fn a_cut_or_changed_body_is_refused() {
        let data = b"some text, some text, some more text";
        for (coding, coded) in [
            (Coding::Gzip, full_header(data)),
            (Coding::Gzip, gzip(data)),
            (Coding::Deflate, zlib(data)),
        ] {
            for len in 0..coded.len() {
                assert_eq!(read(coding, &[&coded[..len]]), Err(CodingError::Incomplete), "{len}");
            }
            for place in 0..coded.len() {
                for bit in 0..8 {
                    let mut changed = coded.clone();
                    changed[place] ^= 1 << bit;
                    // Some bits mean nothing: time and system in a header without a checksum,
                    // and the padding behind the last block.
                    if let Ok(found) = read(coding, &[&changed]) {
                        assert_eq!(found, data);
                    }
                }
            }
            let trailing = [&coded[..], b"x"].concat();
            assert!(read(coding, &[&trailing]).is_err());
        }
        let raw = &zlib(data)[2..];
        assert!(read(Coding::Deflate, &[raw]).is_err());
        assert!(read(Coding::Deflate, &[&gzip(data)]).is_err());
        assert!(read(Coding::Gzip, &[data]).is_err());
        assert_eq!(read(Coding::Gzip, &[b""]), Err(CodingError::Incomplete));
    }

    #[test]
    fn bombs_are_found_early() {
        let zeros = vec![0u8; 8 << 20];
        for (coding, coded) in [(Coding::Gzip, gzip(&zeros)), (Coding::Deflate, zlib(&zeros))] {
            let mut decoder = Decoder::new(coding, 64 << 20);
            let mut out = Vec::new();
            let mut pushed = Ok(());
            for part in coded.chunks(100) {
                pushed = decoder.push(part, &mut out, &Limits::default());
                if pushed.is_err() {
                    break;
                }
            }
            assert_eq!(pushed, Err(CodingError::Expansion));
            assert!(out.len() < 256 << 10, "{} bytes came out", out.len());
            assert_eq!(decoder.push(b"", &mut out, &Limits::default()), pushed);
            assert_eq!(decoder.finish(), pushed);
        }
        let mut decoder = Decoder::new(Coding::Gzip, 1_000);
        let pushed = decoder.push(&gzip(&zeros[..2_000]), &mut Vec::new(), &Limits::default());
        assert_eq!(pushed, Err(CodingError::TooLarge));
        let members = gzip(b"").repeat(300);
        assert_eq!(read(Coding::Gzip, &[&members]), Err(CodingError::Malformed));
        let mut named = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 255];
        named.resize(10_000, b'a');
        assert_eq!(read(Coding::Gzip, &[&named]), Err(CodingError::Malformed));
    }
}
