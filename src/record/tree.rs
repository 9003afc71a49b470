//! The hash tree over a segment's blocks (RFC 9162, section 2.1.1), kept as its right edge.

use ring::digest::{Context, SHA256, digest};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Hashes one leaf, in as many pieces as it comes.
#[derive(Clone)]
pub struct LeafHasher(Context);

impl std::fmt::Debug for LeafHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeafHasher")
    }
}

impl Default for LeafHasher {
    fn default() -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        Self(context)
    }
}

impl LeafHasher {
    /// Takes the next bytes of the leaf.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The leaf's digest; starts the next leaf.
    pub fn finish(&mut self) -> Digest {
        let whole = std::mem::take(self);
        narrow(whole.0.finish().as_ref())
    }
}

/// The digest of a leaf that is at hand as a whole.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    let mut hasher = LeafHasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&[1]);
    context.update(left);
    context.update(right);
    narrow(context.finish().as_ref())
}

fn narrow(bytes: &[u8]) -> Digest {
    bytes.try_into().unwrap_or([0; 32])
}

/// The roots of the whole subtrees of a growing tree, largest first: one for each 1-bit of the
/// count of leaves.
#[derive(Clone, Debug, Default)]
pub struct Frontier {
    roots: Vec<Digest>,
    leaves: u64,
}

impl Frontier {
    /// Of a tree without leaves.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many leaves are in the tree.
    #[must_use]
    pub fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Adds a leaf's digest. Cost: one node on average.
    pub fn push(&mut self, leaf: Digest) {
        let mut right = leaf;
        for _ in 0..self.leaves.trailing_ones() {
            match self.roots.pop() {
                Some(left) => right = node(&left, &right),
                None => debug_assert!(false, "a root for each 1-bit"),
            }
        }
        self.roots.push(right);
        self.leaves += 1;
    }

    /// The root over all leaves.
    #[must_use]
    pub fn root(&self) -> Digest {
        let mut roots = self.roots.iter().rev();
        match roots.next() {
            Some(last) => roots.fold(*last, |right, left| node(left, &right)),
            None => narrow(digest(&SHA256, &[]).as_ref()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    /// The definition of RFC 9162, word for word.
    fn plain(leaves: &[Vec<u8>]) -> Digest {
        match leaves {
            [] => narrow(digest(&SHA256, &[]).as_ref()),
            [one] => leaf(one),
            many => {
                let split = many.len().next_power_of_two() / 2;
                node(&plain(&many[..split]), &plain(&many[split..]))
            }
        }
    }

    #[test]
    fn the_frontier_has_the_root_of_the_definition() {
        let leaves: Vec<Vec<u8>> = (0..70u8).map(|i| vec![i; usize::from(i)]).collect();
        let mut frontier = Frontier::new();
        for count in 0..leaves.len() {
            assert_eq!(frontier.root(), plain(&leaves[..count]), "{count} leaves");
            frontier.push(leaf(&leaves[count]));
        }
        assert_eq!(frontier.leaves(), 70);
    }

    #[test]
    fn a_leaf_in_pieces_is_the_leaf_as_a_whole() {
        let mut hasher = LeafHasher::default();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), leaf(b"abc"));
        assert_eq!(hasher.finish(), leaf(b""));
        // Known answer: the empty leaf of RFC 6962 test vectors.
        let hex: String = leaf(b"").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
        assert!(!format!("{hasher:?}").is_empty());
    }
}
