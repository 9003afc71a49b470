//! Bodies: where each ends, and which bytes of the input are data.
//!
//! The chunk parser keeps its whole state between calls, so every byte is looked at once and none is
//! held. It knows the grammar only (RFC 9112, section 7.1): 1 to 16 hex digits, extensions that are
//! read and dropped, CRLF everywhere. Trailers are read by the rules of fields and dropped.
//!
//! ```text
//! Size -> [Name -> Value | Quoted] -> LineFeed -> Data -> DataCr -> DataLf -> Size
//!                                       | size 0
//!                                       v
//!         TrailerStart -> TrailerName -> TrailerValue -> TrailerLf -> TrailerStart
//!              | CR
//!              v
//!           LastLf -> Done
//! ```

use super::error::BodyError;
use super::fields::{Framing, is_token};
use super::path::hex;
use crate::base::Limits;
use std::ops::Range;

/// What ends the data of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a chunked body, without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends the size line of a chunk of `len` bytes. `len` must not be 0: that ends the body.
pub fn chunk_head(len: usize, out: &mut Vec<u8>) {
    debug_assert!(len > 0, "an empty chunk ends a body");
    let mut started = false;
    for shift in (0..usize::BITS / 4).rev() {
        let nibble = (len >> (shift * 4)) & 0xf;
        started |= nibble != 0 || shift == 0;
        if started {
            out.push(b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0'));
        }
    }
    out.extend_from_slice(CHUNK_END);
}

/// What the next bytes of a body are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// `range` of the input is data (never empty); `consumed` bytes, framing included, are used.
    Data {
        /// Names the input.
        range: Range<usize>,
        /// At least the end of `range`.
        consumed: usize,
    },
    /// All of the input is used and the body goes on.
    NeedMore {
        /// The length of the input.
        consumed: usize,
    },
    /// The body is over; bytes behind `consumed` belong to what comes next.
    End {
        /// Bytes of framing that were used.
        consumed: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    /// So many bytes of a body with a length.
    Length(u64),
    UntilClose,
    Size {
        digits: u8,
    },
    ExtensionName {
        begun: bool,
    },
    ExtensionValue {
        begun: bool,
    },
    Quoted,
    Escaped,
    QuoteEnd,
    LineFeed,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Failed(BodyError),
}

/// Splits the bytes of a connection into the data of one body and what is behind it.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
    /// Bytes left of the chunk, or its size while that is being read.
    chunk: u64,
    /// Data that the body may still have.
    room: u64,
    line: u32,
    line_max: u32,
    extensions: u32,
    trailers: u32,
    trailer_bytes: u32,
    trailers_max: u32,
    trailer_bytes_max: u32,
}

impl BodyDecoder {
    /// For the body of a request: data is bounded by `limits.body_max`.
    #[must_use]
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        Self::bounded(framing, limits, limits.body_max)
    }

    /// For the body of a response, which may be an endless stream.
    #[must_use]
    pub fn for_response(framing: Framing, limits: &Limits) -> Self {
        Self::bounded(framing, limits, u64::MAX)
    }

    /// With at most `body_max` bytes of data.
    #[must_use]
    pub fn bounded(framing: Framing, limits: &Limits, body_max: u64) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > body_max => State::Failed(BodyError::TooLarge),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { digits: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        Self {
            state,
            chunk: 0,
            room: body_max,
            line: 0,
            line_max: limits.chunk_line_max,
            extensions: limits.chunk_extensions_max,
            trailers: 0,
            trailer_bytes: 0,
            trailers_max: limits.trailer_fields_max,
            trailer_bytes_max: limits.trailers_max,
        }
    }

    /// Whether the body is over, so that nothing more need be read for it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Looks at the next bytes. After [`BodyStep::Data`] call again with the rest of the input, even
    /// if nothing is left of it: the end may be known already.
    ///
    /// # Errors
    /// [`BodyError`]; it stays, whatever comes after.
    pub fn next(&mut self, input: &[u8]) -> Result<BodyStep, BodyError> {
        let step = self.step(input);
        if let Err(error) = step {
            self.state = State::Failed(error);
        }
        step
    }

    /// The peer ended: is the body whole?
    ///
    /// # Errors
    /// [`BodyError::Incomplete`] unless the body was over or lasts until the end.
    pub fn on_eof(&self) -> Result<(), BodyError> {
        match self.state {
            State::Done | State::UntilClose => Ok(()),
            State::Failed(error) => Err(error),
            _ => Err(BodyError::Incomplete),
        }
    }

    fn step(&mut self, input: &[u8]) -> Result<BodyStep, BodyError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Done => return Ok(BodyStep::End { consumed: at }),
                State::Failed(error) => return Err(error),
                _ if at >= input.len() => return Ok(BodyStep::NeedMore { consumed: at }),
                State::Length(left) => {
                    let len = take(input.len() - at, left);
                    let left = left - len as u64;
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(BodyStep::Data { range: at..at + len, consumed: at + len });
                }
                State::UntilClose => {
                    let len = input.len() - at;
                    self.spend(len as u64)?;
                    return Ok(BodyStep::Data { range: at..at + len, consumed: at + len });
                }
                State::Data => {
                    let len = take(input.len() - at, self.chunk);
                    self.chunk -= len as u64;
                    if self.chunk == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(BodyStep::Data { range: at..at + len, consumed: at + len });
                }
                state => {
                    let Some(byte) = input.get(at) else {
                        return Ok(BodyStep::NeedMore { consumed: at });
                    };
                    self.state = self.framing_byte(state, *byte)?;
                    at += 1;
                }
            }
        }
    }

    fn spend(&mut self, len: u64) -> Result<(), BodyError> {
        self.room = self.room.checked_sub(len).ok_or(BodyError::TooLarge)?;
        Ok(())
    }

    /// One byte that is no data.
    fn framing_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match state {
            State::Size { .. } | State::LineFeed => self.size_byte(state, byte),
            State::ExtensionName { .. }
            | State::ExtensionValue { .. }
            | State::Quoted
            | State::Escaped
            | State::QuoteEnd => self.extension_byte(state, byte),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0 }),
            State::DataCr | State::DataLf => Err(BodyError::ChunkData),
            State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLf
            | State::LastLf => self.trailer_byte(state, byte),
            // `step` handles them; none has framing.
            State::Done | State::Length(_) | State::UntilClose | State::Data => Ok(state),
            State::Failed(error) => Err(error),
        }
    }

    fn size_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match (state, byte) {
            (State::Size { digits: 0 }, _) if hex(byte).is_none() => Err(BodyError::ChunkSize),
            (State::Size { .. }, b'\r') => Ok(State::LineFeed),
            (State::Size { .. }, b';') => {
                self.extension_spend()?;
                Ok(State::ExtensionName { begun: false })
            }
            (State::Size { digits }, _) => {
                let digit = hex(byte).filter(|_| digits < 16).ok_or(BodyError::ChunkSize)?;
                if digits == 0 {
                    (self.chunk, self.line) = (0, 0);
                }
                self.line_spend()?;
                // 16 digits are 64 bits: nothing is shifted out.
                self.chunk = self.chunk << 4 | u64::from(digit);
                Ok(State::Size { digits: digits + 1 })
            }
            (_, b'\n') if self.chunk == 0 => Ok(State::TrailerStart),
            (_, b'\n') => {
                self.spend(self.chunk)?;
                Ok(State::Data)
            }
            _ => Err(BodyError::ChunkLineEnd),
        }
    }

    fn extension_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        let next = match (state, byte) {
            (State::ExtensionName { .. }, byte) if is_token(byte) => {
                State::ExtensionName { begun: true }
            }
            (State::ExtensionName { begun: true }, b'=') => State::ExtensionValue { begun: false },
            (State::ExtensionValue { .. }, byte) if is_token(byte) => {
                State::ExtensionValue { begun: true }
            }
            (State::ExtensionValue { begun: false }, b'"') => State::Quoted,
            (State::Quoted, b'"') => State::QuoteEnd,
            (State::Quoted, b'\\') => State::Escaped,
            // `qdtext` and `quoted-pair` (RFC 9110, section 5.6.4).
            (State::Quoted | State::Escaped, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (
                State::ExtensionName { begun: true }
                | State::ExtensionValue { begun: true }
                | State::QuoteEnd,
                b'\r',
            ) => return Ok(State::LineFeed),
            (
                State::ExtensionName { begun: true }
                | State::ExtensionValue { begun: true }
                | State::QuoteEnd,
                b';',
            ) => State::ExtensionName { begun: false },
            (_, b'\n') => return Err(BodyError::ChunkLineEnd),
            _ => return Err(BodyError::ChunkExtension),
        };
        self.extension_spend()?;
        Ok(next)
    }

    fn trailer_byte(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        let next = match (state, byte) {
            (State::TrailerStart, b'\r') => return Ok(State::LastLf),
            (State::LastLf, b'\n') => return Ok(State::Done),
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::TrailerStart, byte) if is_token(byte) => {
                self.trailers += 1;
                if self.trailers > self.trailers_max {
                    return Err(BodyError::TrailersTooLong);
                }
                State::TrailerName
            }
            (State::TrailerName, byte) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::LastLf | State::TrailerLf, _) | (_, b'\n') => {
                return Err(BodyError::ChunkLineEnd);
            }
            _ => return Err(BodyError::Trailer),
        };
        self.trailer_bytes += 1;
        if self.trailer_bytes > self.trailer_bytes_max {
            return Err(BodyError::TrailersTooLong);
        }
        Ok(next)
    }

    fn line_spend(&mut self) -> Result<(), BodyError> {
        self.line = self.line.saturating_add(1);
        if self.line > self.line_max { Err(BodyError::ChunkLineTooLong) } else { Ok(()) }
    }

    fn extension_spend(&mut self) -> Result<(), BodyError> {
        self.extensions = self.extensions.checked_sub(1).ok_or(BodyError::ChunkLineTooLong)?;
        self.line_spend()
    }
}

/// The smaller of what is there and what is left.
fn take(there: usize, left: u64) -> usize {
    usize::try_from(left).map_or(there, |left| left.min(there))
}
