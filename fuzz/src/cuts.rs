//! Ways to cut one input into parts, all of them functions of the input alone.

/// Longest input that is also tried byte by byte.
const EACH_MAX: usize = 2 << 10;

/// A small generator; its seed is the input, so that every crash replays.
pub struct Random(u64);

impl Random {
    /// Seeded by `data` (FNV-1a).
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        let hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(hash | 1)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (bound as u64)).unwrap_or(0)
    }
}

/// Ends of the parts of `data`, for each way to cut it: once somewhere, in runs of random
/// lengths, and byte by byte when it is short. The last end is always the length of `data`.
#[must_use]
pub fn ways(data: &[u8]) -> Vec<Vec<usize>> {
    let mut random = Random::of(data);
    let len = data.len();
    let mut ways = vec![vec![random.below(len + 1), len]];
    let most = 1 + random.below(40);
    let mut ends = Vec::new();
    let mut end = 0;
    while end < len {
        end = (end + 1 + random.below(most)).min(len);
        ends.push(end);
    }
    ends.push(len);
    ways.push(ends);
    if len <= EACH_MAX {
        ways.push((1..=len).chain([len]).collect());
    }
    ways
}

/// The parts of `data` that end at `ends`.
pub fn parts<'a>(data: &'a [u8], ends: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut start = 0;
    ends.iter().map(move |&end| {
        let part = data.get(start..end).unwrap_or_default();
        start = end;
        part
    })
}

/// The first byte and the rest; `None` for nothing.
#[must_use]
pub fn mode(data: &[u8]) -> Option<(u8, &[u8])> {
    data.split_first().map(|(mode, rest)| (*mode, rest))
}
