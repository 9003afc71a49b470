//! The kernels for AVX2. Each has its plain version beside its caller, and a test that compares.

#![expect(unsafe_code, reason = "loads of 32 bytes through a pointer")]

use super::marks::{self, Marks};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2; [`Kernel::detect`] is the only constructor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kernel(());

/// Bytes looked at together.
const BLOCK: usize = 32;
/// A block and the two bytes behind its last.
const SPAN: usize = BLOCK + 2;

/// Letters, digits and `_`, as four sets of nibbles: one bit for each pair.
const WORD_HIGH: [u8; 16] = [0, 0, 0, 1, 2, 4, 2, 8, 0, 0, 0, 0, 0, 0, 0, 0];
const WORD_LOW: [u8; 16] = [13, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 2, 2, 2, 2, 6];

/// Letters, digits and `-` as four sets of nibbles in the lower bits, DEL and controls as three in
/// the upper ones: a byte is of those whose bit both of its nibbles have.
const HEAD_HIGH: [u8; 16] = [16, 32, 8, 4, 1, 2, 1, 2 | 64, 0, 0, 0, 0, 0, 0, 0, 0];
const HEAD_LOW: [u8; 16] = {
    let mut low = [0; 16];
    let mut nibble = 0u8;
    let mut rest: &mut [u8] = &mut low;
    while let [first, others @ ..] = rest {
        let letters = (nibble > 0) as u8 | ((nibble <= 10) as u8) << 1;
        let others_of_names = ((nibble <= 9) as u8) << 2 | ((nibble == 13) as u8) << 3;
        let controls = (!matches!(nibble, 9 | 10 | 13)) as u8;
        *first = letters | others_of_names | controls << 4 | 32 | ((nibble == 15) as u8) << 6;
        nibble += 1;
        rest = others;
    }
    low
};

/// 32 bytes from place `32 - n` on are set from byte `n` on.
static SLIDE: [u8; 2 * BLOCK] = {
    let mut slide = [0; 2 * BLOCK];
    let (_, set) = slide.split_at_mut(BLOCK);
    let mut rest = set;
    while let [first, others @ ..] = rest {
        *first = 0xff;
        rest = others;
    }
    slide
};

impl Kernel {
    pub(super) fn detect() -> Option<Self> {
        std::arch::is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// See [`Openings::next`](super::opening::Openings::next).
    #[inline]
    pub(super) fn next_opening(
        self,
        nibbles: &[[[u8; 16]; 2]; 3],
        text: &[u8],
        from: usize,
        to: usize,
        before: [u8; 2],
        accept: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        // SAFETY: holding a `Kernel` proves that the CPU has AVX2.
        unsafe { next_opening(nibbles, text, from, to, before, accept) }
    }

    /// See [`Marker::walk`](super::marks::Marker::walk).
    #[inline]
    pub(super) fn walk_marks(self, text: &[u8], next: impl FnMut(usize, &Marks) -> bool) {
        // SAFETY: holding a `Kernel` proves that the CPU has AVX2.
        unsafe { walk_marks(text, next) }
    }

    /// How many bytes at the start of `bytes`, a multiple of 32 or up to the first that is not
    /// plain, are; see [`plain_ascii`](super::run::plain_ascii).
    #[inline]
    pub(super) fn plain_ascii(self, bytes: &[u8]) -> usize {
        // SAFETY: holding a `Kernel` proves that the CPU has AVX2.
        unsafe { plain_ascii(bytes) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn next_opening(
    nibbles: &[[[u8; 16]; 2]; 3],
    text: &[u8],
    from: usize,
    to: usize,
    before: [u8; 2],
    mut accept: impl FnMut(usize) -> bool,
) -> Option<usize> {
    let [[h0, l0], [h1, l1], [h2, l2]] = nibbles;
    let tables = [
        [twice(h0), twice(l0)],
        [twice(h1), twice(l1)],
        [twice(h2), twice(l2)],
        [twice(&WORD_HIGH), twice(&WORD_LOW)],
    ];
    let [[h0, l0], [h1, l1], [h2, l2], [wh, wl]] = tables;
    let zero = _mm256_setzero_si256();
    let backslash = _mm256_set1_epi8(b'\\' as i8);
    // What the two bytes before a block say: a word goes on; a backslash stands there.
    let [far, near] = before;
    let mut word_before = u32::from(super::class::is(near, super::class::WORD));
    let mut slash_before = u32::from(far == b'\\') | u32::from(near == b'\\') << 1;
    let to = to.min(text.len());
    let mut at = from;
    while at < to {
        let rest = text.get(at..).unwrap_or_default();
        let mut copy = [0u8; SPAN];
        let (span, known) = match rest.first_chunk::<SPAN>() {
            Some(span) => (span, SPAN),
            None => {
                if let Some(start) = copy.get_mut(..rest.len()) {
                    start.copy_from_slice(rest);
                }
                (&copy, rest.len())
            }
        };
        let here = load(span, 0);
        let mut second = fits(load(span, 1), h1, l1);
        let mut third = fits(load(span, 2), h2, l2);
        if known < SPAN {
            // A byte that is not there may be anything.
            second = _mm256_or_si256(second, from_byte(known - 1));
            third = _mm256_or_si256(third, from_byte(known.saturating_sub(2)));
        }
        let opens = _mm256_and_si256(fits(here, h0, l0), _mm256_and_si256(second, third));
        let opens = !mask(_mm256_cmpeq_epi8(opens, zero));
        let word = !mask(_mm256_cmpeq_epi8(fits(here, wh, wl), zero));
        let slash = mask(_mm256_cmpeq_epi8(here, backslash));
        let joined = word & (word << 1 | word_before) & !(slash << 2 | slash_before);
        word_before = word >> 31;
        slash_before = slash >> 30;
        let left = to - at;
        let within = if left < BLOCK { (1u32 << left) - 1 } else { u32::MAX };
        let mut found = opens & !joined & within;
        while found != 0 {
            let place = at + found.trailing_zeros() as usize;
            if accept(place) {
                return Some(place);
            }
            found &= found - 1;
        }
        at += BLOCK;
    }
    None
}

#[target_feature(enable = "avx2")]
fn plain_ascii(bytes: &[u8]) -> usize {
    let (quote, backslash) = (_mm256_set1_epi8(b'"' as i8), _mm256_set1_epi8(b'\\' as i8));
    let space = _mm256_set1_epi8(b' ' as i8);
    let mut len = 0;
    for block in bytes.as_chunks::<BLOCK>().0 {
        // SAFETY: the pointer names 32 bytes.
        let here = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
        let means =
            _mm256_or_si256(_mm256_cmpeq_epi8(here, quote), _mm256_cmpeq_epi8(here, backslash));
        // Signed: bytes from 0x80 on are below the space too.
        let stops = mask(_mm256_or_si256(means, _mm256_cmpgt_epi8(space, here)));
        if stops != 0 {
            return len + stops.trailing_zeros() as usize;
        }
        len += BLOCK;
    }
    len
}

#[inline]
#[target_feature(enable = "avx2")]
fn walk_marks(text: &[u8], mut next: impl FnMut(usize, &Marks) -> bool) {
    let (whole, rest) = text.as_chunks::<{ marks::BLOCK }>();
    let mut place = 0;
    for block in whole {
        if !next(place, &mark(block)) {
            return;
        }
        place += marks::BLOCK;
    }
    if !rest.is_empty() {
        let mut block = [0; marks::BLOCK];
        if let Some(start) = block.get_mut(..rest.len()) {
            start.copy_from_slice(rest);
        }
        next(place, &mark(&block));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn mark(block: &[u8; marks::BLOCK]) -> Marks {
    let (high, low) = (twice(&HEAD_HIGH), twice(&HEAD_LOW));
    let zero = _mm256_setzero_si256();
    let names = _mm256_set1_epi8(15);
    let mut marks = Marks::default();
    for (half, shift) in block.as_chunks::<BLOCK>().0.iter().zip([0, 32]) {
        // SAFETY: the pointer names 32 bytes.
        let here = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
        let is = |byte: u8| u64::from(mask(_mm256_cmpeq_epi8(here, _mm256_set1_epi8(byte as i8))));
        let class = fits(here, high, low);
        // The top bit is of no class, so a signed comparison is one of sizes.
        let control = mask(_mm256_cmpgt_epi8(class, names));
        let other = mask(_mm256_cmpeq_epi8(_mm256_and_si256(class, names), zero));
        marks.feeds |= is(b'\n') << shift;
        marks.returns |= is(b'\r') << shift;
        marks.colons |= is(b':') << shift;
        marks.names |= u64::from(!other) << shift;
        marks.controls |= u64::from(control) << shift;
    }
    marks
}

/// A table for both halves of a vector.
#[inline]
#[target_feature(enable = "avx2")]
fn twice(table: &[u8; 16]) -> __m256i {
    // SAFETY: the pointer names 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// 32 bytes from `skip` on.
#[inline]
#[target_feature(enable = "avx2")]
fn load(span: &[u8; SPAN], skip: usize) -> __m256i {
    debug_assert!(skip <= 2);
    // SAFETY: `skip` is 2 at most, so the 32 bytes end within the 34 of `span`.
    unsafe { _mm256_loadu_si256(span.as_ptr().add(skip.min(2)).cast()) }
}

/// All bits set from byte `place` on.
#[inline]
#[target_feature(enable = "avx2")]
fn from_byte(place: usize) -> __m256i {
    let start = BLOCK - place.min(BLOCK);
    // SAFETY: `start` is 32 at most, so the 32 bytes end within the 64 of `SLIDE`.
    unsafe { _mm256_loadu_si256(SLIDE.as_ptr().add(start).cast()) }
}

/// For each byte the bits that both of its nibbles have.
#[inline]
#[target_feature(enable = "avx2")]
fn fits(bytes: __m256i, high: __m256i, low: __m256i) -> __m256i {
    let nibble = _mm256_set1_epi8(15);
    let upper = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
    let lower = _mm256_and_si256(bytes, nibble);
    _mm256_and_si256(_mm256_shuffle_epi8(high, upper), _mm256_shuffle_epi8(low, lower))
}

/// The top bit of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(bytes: __m256i) -> u32 {
    _mm256_movemask_epi8(bytes).cast_unsigned()
}
