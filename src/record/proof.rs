//! The proof file: leaves and signed checkpoints of one segment.
//!
//! Leaf, 64 bytes:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | `LEAF` |
//! | 4 | 4 | CRC32C of bytes 8..64 |
//! | 8 | 8 | index, from 0 |
//! | 16 | 8 | offset in the segment file |
//! | 24 | 4 | length: at most 64 KiB of whole entries; leaf 0 is the 8192 bytes of both headers |
//! | 28 | 4 | zero |
//! | 32 | 32 | SHA-256(0x00 and the bytes) |
//!
//! Checkpoint, 256 bytes:
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | `CHKP` |
//! | 4 | 4 | CRC32C of bytes 8..256 |
//! | 8 | 16 | segment id |
//! | 24 | 8 | segment number |
//! | 32 | 4 | worker |
//! | 36 | 4 | 1: closed, 2: closed by the start after the process died |
//! | 40 | 8 | end: bytes of the segment file that the leaves cover |
//! | 48 | 8 | count of leaves |
//! | 56 | 8 | sequence of the entry that would follow |
//! | 64 | 8 | wall nanoseconds |
//! | 72 | 8 | bytes behind the end that were no entry and were cut off by the start |
//! | 80 | 32 | root |
//! | 112 | 32 | root of the segment before |
//! | 144 | 8 | key id: the first bytes of SHA-256(public key) |
//! | 152 | 40 | zero |
//! | 192 | 64 | Ed25519 over `weirgate checkpoint 1`, a zero byte, and bytes 8..192 |

use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};

use crate::record::segment::{SegmentId, array_at, put, u32_at, u64_at};
use crate::record::tree::Digest;

/// Bytes of a leaf record.
pub const LEAF_LEN: usize = 64;
/// Bytes of a checkpoint record.
pub const CHECKPOINT_LEN: usize = 256;
/// Most bytes that a leaf covers.
pub const BLOCK_MAX: usize = 64 << 10;

const LEAF: &[u8; 4] = b"LEAF";
const CHECKPOINT: &[u8; 4] = b"CHKP";
const CONTEXT: &[u8] = b"weirgate checkpoint 1\0";
const SIGNED_END: usize = 192;

/// The digest of one block of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Counts from 0.
    pub index: u64,
    /// Where the block begins.
    pub offset: u64,
    /// Its bytes.
    pub len: u32,
    /// SHA-256(0x00 and the bytes).
    pub digest: Digest,
}

impl Leaf {
    /// The record.
    #[must_use]
    pub fn encode(&self) -> [u8; LEAF_LEN] {
        let mut bytes = [0; LEAF_LEN];
        put(&mut bytes, 0, LEAF);
        put(&mut bytes, 8, &self.index.to_le_bytes());
        put(&mut bytes, 16, &self.offset.to_le_bytes());
        put(&mut bytes, 24, &self.len.to_le_bytes());
        put(&mut bytes, 32, &self.digest);
        seal_crc(&mut bytes);
        bytes
    }
}

/// Whether and how a segment was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// More may follow.
    Open,
    /// Closed in order.
    Closed,
    /// Closed by the start after the process died.
    Recovered,
}

/// What a signature vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of which segment.
    pub id: SegmentId,
    /// Its number.
    pub number: u64,
    /// Its worker.
    pub worker: u32,
    /// Whether more may follow.
    pub state: State,
    /// Bytes that the leaves cover.
    pub end: u64,
    /// How many leaves.
    pub leaves: u64,
    /// Sequence of the entry that would follow.
    pub next_sequence: u64,
    /// When it was signed.
    pub wall_ns: u64,
    /// Bytes that were cut off behind `end`.
    pub dropped: u64,
    /// Root over the leaves.
    pub root: Digest,
    /// Root of the segment before.
    pub previous_root: Digest,
}

impl Checkpoint {
    fn body(&self, key: &Digest) -> [u8; CHECKPOINT_LEN] {
        let mut bytes = [0; CHECKPOINT_LEN];
        let state: u32 = match self.state {
            State::Open => 0,
            State::Closed => 1,
            State::Recovered => 3,
        };
        put(&mut bytes, 0, CHECKPOINT);
        put(&mut bytes, 8, &self.id.0);
        put(&mut bytes, 24, &self.number.to_le_bytes());
        put(&mut bytes, 32, &self.worker.to_le_bytes());
        put(&mut bytes, 36, &state.to_le_bytes());
        put(&mut bytes, 40, &self.end.to_le_bytes());
        put(&mut bytes, 48, &self.leaves.to_le_bytes());
        put(&mut bytes, 56, &self.next_sequence.to_le_bytes());
        put(&mut bytes, 64, &self.wall_ns.to_le_bytes());
        put(&mut bytes, 72, &self.dropped.to_le_bytes());
        put(&mut bytes, 80, &self.root);
        put(&mut bytes, 112, &self.previous_root);
        put(&mut bytes, 144, &key_id(key));
        bytes
    }

    /// The record, signed. Sign only what is on the disk: a checkpoint must not vouch for bytes
    /// that a power loss may take.
    #[must_use]
    pub fn sign(&self, pair: &Ed25519KeyPair) -> [u8; CHECKPOINT_LEN] {
        use ring::signature::KeyPair;
        let key: Digest = pair.public_key().as_ref().try_into().unwrap_or([0; 32]);
        let mut bytes = self.body(&key);
        let signature = pair.sign(&signed(&bytes));
        put(&mut bytes, SIGNED_END, signature.as_ref());
        seal_crc(&mut bytes);
        bytes
    }
}

/// The first bytes of SHA-256 over a public key.
#[must_use]
pub fn key_id(key: &Digest) -> [u8; 8] {
    array_at(digest(&SHA256, key).as_ref(), 0)
}

/// Whether the checkpoint record `bytes` is signed by `key`.
#[must_use]
pub fn is_signed(bytes: &[u8; CHECKPOINT_LEN], key: &Digest) -> bool {
    let id: [u8; 8] = array_at(bytes, 144);
    let signature: [u8; 64] = array_at(bytes, SIGNED_END);
    id == key_id(key)
        && UnparsedPublicKey::new(&ED25519, key).verify(&signed(bytes), &signature).is_ok()
}

fn signed(bytes: &[u8; CHECKPOINT_LEN]) -> Vec<u8> {
    [CONTEXT, bytes.get(8..SIGNED_END).unwrap_or_default()].concat()
}

fn seal_crc(bytes: &mut [u8]) {
    let crc = crc32c::crc32c(bytes.get(8..).unwrap_or_default());
    put(bytes, 4, &crc.to_le_bytes());
}

/// One record of a proof file.
#[expect(clippy::large_enum_variant, reason = "looked at one by one, never kept in lists")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A block's digest.
    Leaf(Leaf),
    /// A checkpoint, with the bytes that [`is_signed`] needs.
    Checkpoint(Checkpoint, [u8; CHECKPOINT_LEN]),
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// Where in the proof file.
    pub offset: u64,
}

/// Walks a proof file; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Records<'a> {
    /// Over a whole proof file, or a file of tombstones.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Behind the last good record.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    fn step(&self) -> Option<(Record, usize)> {
        let rest = self.bytes.get(self.offset..)?;
        let magic = rest.first_chunk::<4>()?;
        if magic == LEAF {
            let bytes = rest.first_chunk::<LEAF_LEN>()?;
            Some((Record::Leaf(decode_leaf(bytes)?), LEAF_LEN))
        } else if magic == CHECKPOINT {
            let bytes = rest.first_chunk::<CHECKPOINT_LEN>()?;
            Some((Record::Checkpoint(decode_checkpoint(bytes)?, *bytes), CHECKPOINT_LEN))
        } else {
            None
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        match self.step() {
            Some((record, len)) => {
                self.offset += len;
                Some(Ok(record))
            }
            None => {
                let bad = BadRecord { offset: self.offset as u64 };
                self.bytes = self.bytes.get(..self.offset).unwrap_or_default();
                Some(Err(bad))
            }
        }
    }
}

fn decode_leaf(bytes: &[u8; LEAF_LEN]) -> Option<Leaf> {
    let whole = crc32c::crc32c(bytes.get(8..)?) == u32_at(bytes, 4) && u32_at(bytes, 28) == 0;
    whole.then(|| Leaf {
        index: u64_at(bytes, 8),
        offset: u64_at(bytes, 16),
        len: u32_at(bytes, 24),
        digest: array_at(bytes, 32),
    })
}

fn decode_checkpoint(bytes: &[u8; CHECKPOINT_LEN]) -> Option<Checkpoint> {
    if crc32c::crc32c(bytes.get(8..)?) != u32_at(bytes, 4) {
        return None;
    }
    let state = match u32_at(bytes, 36) {
        0 => State::Open,
        1 => State::Closed,
        3 => State::Recovered,
        _ => return None,
    };
    Some(Checkpoint {
        id: SegmentId(array_at(bytes, 8)),
        number: u64_at(bytes, 24),
        worker: u32_at(bytes, 32),
        state,
        end: u64_at(bytes, 40),
        leaves: u64_at(bytes, 48),
        next_sequence: u64_at(bytes, 56),
        wall_ns: u64_at(bytes, 64),
        dropped: u64_at(bytes, 72),
        root: array_at(bytes, 80),
        previous_root: array_at(bytes, 112),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;
    use ring::signature::KeyPair;

    #[test]
    fn records_read_back_and_each_flipped_bit_is_found() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let key: Digest = pair.public_key().as_ref().try_into().unwrap();
        let leaf = Leaf { index: 3, offset: 8192, len: 640, digest: [4; 32] };
        let checkpoint = Checkpoint {
            id: SegmentId([1; 16]),
            number: 2,
            worker: 3,
            state: State::Recovered,
            end: 8832,
            leaves: 4,
            next_sequence: 10,
            wall_ns: 11,
            dropped: 12,
            root: [5; 32],
            previous_root: [6; 32],
        };
        let mut file = leaf.encode().to_vec();
        file.extend_from_slice(&checkpoint.sign(&pair));
        let read: Vec<_> = Records::new(&file).collect::<Result<_, _>>().unwrap();
        assert_eq!(read[0], Record::Leaf(leaf));
        let Record::Checkpoint(again, bytes) = read[1] else { unreachable!("a checkpoint") };
        assert_eq!(again, checkpoint);
        assert!(is_signed(&bytes, &key) && !is_signed(&bytes, &[0; 32]));
        for place in 0..file.len() {
            file[place] ^= 0x20;
            assert!(Records::new(&file).any(|record| record.is_err()), "byte {place}");
            file[place] ^= 0x20;
        }
        for cut in 0..file.len() {
            let clean = Records::new(&file[..cut]).all(|record| record.is_ok());
            assert_eq!(clean, cut == 0 || cut == LEAF_LEN, "cut at {cut}");
        }
        // A repaired CRC does not help: the signature covers the rest.
        let mut forged = bytes;
        forged[40] ^= 1;
        seal_crc(&mut forged);
        assert!(decode_checkpoint(&forged).is_some() && !is_signed(&forged, &key));
    }
}
