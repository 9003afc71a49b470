//! One direction's messages: those that are shown whole, those that are kept until they are, and
//! those that pass in parts.

use crate::wire::postgres::{FRAME_HEAD, WireError, frame};

/// What stands next in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// So many bytes that belong to a message that passes in parts.
    Part(usize),
    /// A whole message of so many bytes stands in the input.
    Whole { tag: u8, len: usize },
    /// A long message begins that may pass in parts; so many of its bytes are there, and so many its
    /// body has.
    Begins { tag: u8, len: usize, body: usize },
    /// So many bytes are kept; nothing is whole yet.
    Kept(usize),
    /// So many bytes complete the message that is kept.
    Completes(usize),
    /// More bytes are needed.
    More,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leg {
    /// Bytes that are still to come of a message that passes in parts.
    left: usize,
    /// The beginning of a message that is longer than what the runtime shows at a time.
    pub(super) kept: Vec<u8>,
    /// Its whole length.
    wanted: usize,
}

impl Leg {
    /// Whether a part of a message passed, and the rest is to come.
    pub(super) fn is_passing(&self) -> bool {
        self.left > 0
    }

    /// So many bytes that were shown last, of a message that passes in parts or a whole one, are
    /// shown again as a part.
    pub(super) fn unread(&mut self, len: usize) {
        self.left += len;
    }

    /// Whether a message is in the middle.
    pub(super) fn is_within(&self) -> bool {
        self.left > 0 || !self.kept.is_empty()
    }

    /// Looks at what stands next in `input`. `streams` says by tag and body length which
    /// messages may pass in parts; `len_max` bounds all others.
    ///
    /// # Errors
    /// [`WireError`] for a length that cannot be, [`WireError::TooLong`] above `len_max`.
    pub(super) fn next(
        &mut self,
        input: &[u8],
        streams: impl FnOnce(u8, usize) -> bool,
        len_max: usize,
    ) -> Result<Next, WireError> {
        if input.is_empty() {
            return Ok(Next::More);
        }
        if self.left > 0 {
            let part = self.left.min(input.len());
            self.left -= part;
            return Ok(Next::Part(part));
        }
        if self.wanted > 0 {
            let part = (self.wanted - self.kept.len()).min(input.len());
            self.kept.extend_from_slice(input.get(..part).unwrap_or_default());
            let whole = self.kept.len() == self.wanted;
            return Ok(if whole { Next::Completes(part) } else { Next::Kept(part) });
        }
        let Some(head) = frame(input)? else { return Ok(Next::More) };
        let len = FRAME_HEAD.saturating_add(head.len);
        if len <= input.len() {
            return Ok(Next::Whole { tag: head.tag, len });
        }
        if streams(head.tag, head.len) {
            self.left = len - input.len();
            return Ok(Next::Begins { tag: head.tag, len: input.len(), body: head.len });
        }
        if len > len_max {
            return Err(WireError::TooLong);
        }
        if len <= SHOWN_MAX {
            return Ok(Next::More);
        }
        self.wanted = len;
        self.kept.extend_from_slice(input);
        Ok(Next::Kept(input.len()))
    }

    /// Takes the message that was completed.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.wanted = 0;
        std::mem::take(&mut self.kept)
    }
}

/// A message up to this length is waited for in the runtime's buffer.
pub(super) const SHOWN_MAX: usize = 8 << 10;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn message(tag: u8, body: usize) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&u32::try_from(body + 4).unwrap().to_be_bytes());
        bytes.resize(FRAME_HEAD + body, b'x');
        bytes
    }

    /// Feeds `input` in pieces of `step`; what comes out is tags of whole ones and all bytes.
    fn walk(input: &[u8], step: usize) -> (Vec<u8>, usize) {
        let (mut leg, mut tags, mut bytes) = (Leg::default(), Vec::new(), 0);
        let (mut at, mut shown) = (0, 0);
        while at < input.len() {
            shown = (shown + step).min(input.len());
            loop {
                let rest = input.get(at..shown).unwrap();
                match leg.next(rest, |tag, _| tag == b'D', 1 << 20).unwrap() {
                    Next::More => break,
                    Next::Part(len) | Next::Kept(len) => at += len,
                    Next::Completes(len) => {
                        at += len;
                        let whole = leg.take();
                        tags.push(*whole.first().unwrap());
                        bytes += whole.len();
                        continue;
                    }
                    Next::Whole { tag, len } => {
                        at += len;
                        tags.push(tag);
                        bytes += len;
                    }
                    Next::Begins { tag, len, .. } => {
                        at += len;
                        tags.push(tag);
                    }
                }
            }
        }
        assert!(!leg.is_within());
        (tags, bytes)
    }

    #[test]
    fn any_split_shows_the_same_messages() {
        let mut input = Vec::new();
        for (tag, len) in [(b'Q', 3), (b'P', 20_000), (b'S', 0), (b'B', 9_000), (b'C', 100)] {
            input.extend(message(tag, len));
        }
        let whole = walk(&input, input.len());
        assert_eq!(whole, (b"QPSBC".to_vec(), input.len()));
        for step in [1, 2, 3, 7, 1_000, 8_192, 20_010] {
            assert_eq!(walk(&input, step), whole, "{step}");
        }
        let mut rows = message(b'D', 50_000);
        rows.extend(message(b'C', 5));
        for step in [1, 4, 5, 999, 60_000] {
            assert_eq!(walk(&rows, step).0, b"DC", "{step}");
        }
    }

    #[test]
    fn a_message_that_cannot_pass_in_parts_is_bounded() {
        let long = message(b'Q', 2_000);
        let mut leg = Leg::default();
        let begun = long.get(..100).unwrap();
        assert_eq!(leg.next(begun, |_, _| false, 1_000), Err(WireError::TooLong));
    }
}
