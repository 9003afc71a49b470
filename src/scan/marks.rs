//! Which bytes of a message head end its lines, end its names, or stop a quick look: one bit for
//! each, 64 bytes at a time.
//!
//! Only where the CPU has AVX2; elsewhere there is no [`Marker`], and no quick look. Estimate: 15
//! instructions for each 16 bytes.

#[cfg(target_arch = "x86_64")]
use super::avx2::Kernel;

/// Bytes of one [`Marks`].
pub const BLOCK: usize = 64;

/// Bit `n` is for byte `n` of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// LF.
    pub feeds: u64,
    /// CR.
    pub returns: u64,
    /// `:`
    pub colons: u64,
    /// Letters, digits and `-`.
    pub names: u64,
    /// DEL, and what is below the space but HTAB, LF and CR.
    pub controls: u64,
}

/// Marks blocks of text.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    #[cfg(target_arch = "x86_64")]
    kernel: Kernel,
}

impl Marker {
    /// `None` where the CPU lacks AVX2.
    #[must_use]
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Kernel::detect().map(|kernel| Self { kernel });
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Marks `text` block by block, each with its place, as long as `next` returns `true`. Behind
    /// the end of the text the last block has controls.
    #[inline]
    pub fn walk(self, text: &[u8], next: impl FnMut(usize, &Marks) -> bool) {
        #[cfg(target_arch = "x86_64")]
        self.kernel.walk_marks(text, next);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (text, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(block: &[u8]) -> Marks {
        let mut marks = Marks::default();
        for (n, byte) in block.iter().enumerate() {
            marks.feeds |= u64::from(*byte == b'\n') << n;
            marks.returns |= u64::from(*byte == b'\r') << n;
            marks.colons |= u64::from(*byte == b':') << n;
            marks.names |= u64::from(byte.is_ascii_alphanumeric() || *byte == b'-') << n;
            let stops = byte.is_ascii_control() && !b"\t\n\r".contains(byte);
            marks.controls |= u64::from(stops) << n;
        }
        marks
    }

    #[test]
    fn each_byte_at_each_place_is_marked_as_the_definition_says() {
        let Some(marker) = Marker::detect() else { return };
        let all: Vec<u8> = (0..=255).collect();
        for start in 0..BLOCK {
            for end in [all.len(), all.len() - 1, start + BLOCK, start + 1, start] {
                let text = all.get(start..end).unwrap_or_default();
                let mut places = Vec::new();
                marker.walk(text, |place, marks| {
                    let mut block = [0; BLOCK];
                    let rest = text.get(place..).unwrap_or_default();
                    for (to, from) in block.iter_mut().zip(rest) {
                        *to = *from;
                    }
                    assert_eq!(*marks, plain(&block), "{start}..{end} at {place}");
                    places.push(place);
                    true
                });
                let expected: Vec<usize> = (0..text.len()).step_by(BLOCK).collect();
                assert_eq!(places, expected);
            }
        }
        let mut calls = 0;
        marker.walk(&all, |_, _| {
            calls += 1;
            calls < 2
        });
        assert_eq!(calls, 2);
    }
}
