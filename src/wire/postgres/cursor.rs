//! Takes fields off the front of a body; everything that is taken is checked to be there.

use super::WireError;

/// What is left of a body. All numbers are big-endian.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    /// What was not taken yet.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let (front, rest) = self.0.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (front, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*front)
    }

    /// `count` units of `N` bytes.
    pub(super) fn units<const N: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; N]], WireError> {
        let len = count.checked_mul(N).ok_or(WireError::Count)?;
        Ok(self.take(len)?.as_chunks().0)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WireError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn bytes4(&mut self) -> Result<[u8; 4], WireError> {
        self.array()
    }

    pub(super) fn i16(&mut self) -> Result<i16, WireError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A count of columns: at most 1664 in a server, so none has the sign bit.
    pub(super) fn columns(&mut self) -> Result<u16, WireError> {
        u16::try_from(self.i16()?).map_err(|_| WireError::Count)
    }

    /// A string, without its zero byte.
    pub(super) fn string(&mut self) -> Result<&'a [u8], WireError> {
        let len = memchr::memchr(0, self.0).ok_or(WireError::Terminator)?;
        let text = self.take(len)?;
        self.byte()?;
        Ok(text)
    }

    /// A length and so many bytes; a length of -1 is NULL.
    pub(super) fn value(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        match self.i32()? {
            -1 => Ok(None),
            len => self.take(usize::try_from(len).map_err(|_| WireError::Length)?).map(Some),
        }
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::Trailing) }
    }
}
