//! Places at which a value may open, found over-approximately: verifiers look at each.
//!
//! An [`Opening`] says what the first three bytes of a value may be. A place qualifies when some
//! opening fits there, as far as the text is there, and no word goes on from the left, unless
//! the byte is no part of words or a backslash stands two places before (`\n` of text within
//! text). [`Openings::next`] is one AVX2 pass where the CPU has it: eight nibble lookups for 32
//! bytes, estimated at 4 ns; the portable walk says what it must find.

#[cfg(target_arch = "x86_64")]
use super::avx2::Kernel;
use super::class;

/// Bytes whose high nibble is in one set and whose low nibble is in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Bit `n` for the high nibble `n`.
    high: u16,
    /// Bit `n` for the low nibble `n`.
    low: u16,
}

impl Bytes {
    /// Every byte.
    pub const ANY: Self = Self { high: u16::MAX, low: u16::MAX };
    /// `0` to `9`.
    pub const DIGITS: Self = Self { high: 1 << 3, low: 0x03ff };
    /// Every letter, and what stands beside them: `@[\]^_` and from the grave accent on.
    pub const LETTERS: Self = Self { high: 0x00f0, low: u16::MAX };

    /// The smallest set of this kind that holds all of `bytes`.
    #[must_use]
    pub const fn of(bytes: &[u8]) -> Self {
        let (mut high, mut low) = (0, 0);
        let mut rest = bytes;
        while let [first, others @ ..] = rest {
            high |= 1 << (*first >> 4);
            low |= 1 << (*first & 15);
            rest = others;
        }
        Self { high, low }
    }

    /// Whether `byte` is in it.
    #[must_use]
    pub const fn has(self, byte: u8) -> bool {
        self.high >> (byte >> 4) & 1 == 1 && self.low >> (byte & 15) & 1 == 1
    }
}

/// What the first three bytes of a value may be.
pub type Opening = [Bytes; 3];

/// Most openings of one [`Openings`]: one bit of a lookup's byte for each.
pub const OPENINGS_MAX: usize = 8;

/// Up to [`OPENINGS_MAX`] openings, looked for at once.
#[derive(Clone, Debug)]
pub struct Openings {
    list: Vec<Opening>,
    /// For each of the three places: which openings a high and a low nibble fit.
    nibbles: [[[u8; 16]; 2]; 3],
    #[cfg(target_arch = "x86_64")]
    kernel: Option<Kernel>,
}

impl Openings {
    /// Of the first [`OPENINGS_MAX`] of `list`; there must be no more.
    #[must_use]
    pub fn new(list: &[Opening]) -> Self {
        debug_assert!(list.len() <= OPENINGS_MAX);
        let mut nibbles = [[[0u8; 16]; 2]; 3];
        for (index, opening) in list.iter().take(OPENINGS_MAX).enumerate() {
            for (tables, bytes) in nibbles.iter_mut().zip(opening) {
                for (table, bits) in tables.iter_mut().zip([bytes.high, bytes.low]) {
                    for (nibble, slot) in table.iter_mut().enumerate() {
                        *slot |= u8::from(bits >> nibble & 1 == 1) << index;
                    }
                }
            }
        }
        Self {
            list: list.iter().take(OPENINGS_MAX).copied().collect(),
            nibbles,
            #[cfg(target_arch = "x86_64")]
            kernel: Kernel::detect(),
        }
    }

    /// Whether there is none, so that nothing qualifies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first place in `text[from..to]` that qualifies and that `accept` takes. `before` are
    /// the two bytes before `from`, the nearer last, 0 where there is none.
    #[inline]
    pub fn next(
        &self,
        text: &[u8],
        from: usize,
        to: usize,
        before: [u8; 2],
        accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        if self.list.is_empty() || from >= to.min(text.len()) {
            return None;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = self.kernel {
            return kernel.next_opening(&self.nibbles, text, from, to, before, accept);
        }
        self.next_portable(text, from, to, before, accept)
    }

    /// As [`Self::next`], byte by byte: the definition.
    pub fn next_portable(
        &self,
        text: &[u8],
        from: usize,
        to: usize,
        before: [u8; 2],
        mut accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let [mut far, mut near] = before;
        for place in from..to.min(text.len()) {
            let rest = text.get(place..).unwrap_or_default();
            let Some(&byte) = rest.first() else { break };
            let starts = !class::is(byte, class::WORD) || !class::is(near, class::WORD);
            if (starts || far == b'\\') && self.fits(rest) && accept(place) {
                return Some(place);
            }
            (far, near) = (near, byte);
        }
        None
    }

    fn fits(&self, rest: &[u8]) -> bool {
        self.list.iter().any(|opening| opening.iter().zip(rest).all(|(set, byte)| set.has(*byte)))
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn openings() -> Openings {
        Openings::new(&[
            [Bytes::DIGITS, Bytes::ANY, Bytes::ANY],
            [Bytes::LETTERS, Bytes::LETTERS, Bytes::DIGITS],
            [Bytes::of(b"A"), Bytes::of(b"KS"), Bytes::of(b"I")],
            [Bytes::of(b"-"), Bytes::of(b"-"), Bytes::of(b"-")],
            [Bytes::of(b"+("), Bytes::ANY, Bytes::ANY],
        ])
    }

    fn all(
        find: impl Fn(usize, [u8; 2]) -> Option<usize>,
        text: &[u8],
        left: [u8; 2],
    ) -> Vec<usize> {
        let byte = |place: usize, back: usize| match place.checked_sub(back) {
            Some(at) => text[at],
            None => left[2 - (back - place)],
        };
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(place) = find(from, [byte(from, 2), byte(from, 1)]) {
            found.push(place);
            from = place + 1;
        }
        found
    }

    #[test]
    fn a_set_holds_what_it_was_made_of() {
        for byte in 0..=255u8 {
            assert_eq!(Bytes::DIGITS.has(byte), byte.is_ascii_digit());
            assert!(!byte.is_ascii_alphabetic() || Bytes::LETTERS.has(byte));
            assert!(Bytes::ANY.has(byte));
            assert_eq!(Bytes::of(b"+(").has(byte), matches!(byte, b'+' | b'('));
        }
    }

    #[test]
    fn a_place_qualifies_by_three_bytes_at_the_start_of_a_word() {
        let openings = openings();
        let places = |text: &[u8]| {
            all(|from, left| openings.next(text, from, text.len(), left, |_| true), text, [0; 2])
        };
        assert_eq!(places(b"id 12 x34 (5"), [3, 10, 11]);
        assert_eq!(places(b"an AKIA AKxx ASI"), [3, 13]);
        // What is not there yet may be anything.
        assert_eq!(places(b"the DE8 A"), [4, 8]);
        // Behind a backslash, a word may begin with the second byte. A backslash is near a letter.
        assert_eq!(places(br"a\n4 b\\n4"), [1, 3, 7, 9]);
        assert_eq!(places(b"----"), [0, 1, 2, 3]);
        let some = openings.next(b"1 2 3", 0, 5, [0; 2], |place| place > 1);
        assert_eq!(some, Some(2));
        assert_eq!(openings.next(b"x4", 1, 2, [b'\\', b'n'], |_| true), Some(1));
        assert_eq!(Openings::new(&[]).next(b"1", 0, 1, [0; 2], |_| true), None);
    }

    #[test]
    fn the_kernel_finds_what_the_portable_walk_finds() {
        let openings = openings();
        let letters = br#"aA1-\nKI+(" _Z9@`."#;
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        let mut dice = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        for len in 0..140 {
            for round in 0..24 {
                let any = round % 3 == 0;
                let mut draw = || {
                    let roll = dice();
                    if any { roll as u8 } else { letters[roll as usize % letters.len()] }
                };
                let text: Vec<u8> = (0..len).map(|_| draw()).collect();
                let left = [draw(), draw()];
                let from = if len == 0 { 0 } else { dice() as usize % len };
                let to = from + dice() as usize % (len - from + 2);
                let kernel = all(
                    |at, left| openings.next(&text, at.max(from), to, left, |_| true),
                    &text,
                    left,
                );
                let plain = all(
                    |at, left| openings.next_portable(&text, at.max(from), to, left, |_| true),
                    &text,
                    left,
                );
                if from == 0 {
                    assert_eq!(kernel, plain, "{:?}", String::from_utf8_lossy(&text));
                }
                let first = openings.next(&text, from, to, left, |_| true);
                assert_eq!(first, openings.next_portable(&text, from, to, left, |_| true));
            }
        }
    }
}
