//! The bytes of segment headers and entries (table in [`record`](crate::record)).

use crate::base::{ConnectionId, ExchangeId, Now};
use crate::record::{BODY_MAX, EntryMeta, Flags, Kind};

/// Bytes of one copy of the segment header.
pub const HEADER_LEN: usize = 4096;
/// Where the first entry of a segment file stands: after both copies of the header.
pub const ENTRIES_START: u64 = 8192;
/// Bytes of an entry's header, and the alignment of entries.
pub const ENTRY_HEADER_LEN: usize = 64;
/// Where the kind stands in an entry.
pub const KIND_PLACE: usize = 48;
/// Longest entry: header and a full body.
pub const ENTRY_LEN_MAX: usize = ENTRY_HEADER_LEN + BODY_MAX;
/// The version that this build writes.
pub const VERSION: u32 = 1;

const MAGIC: &[u8; 8] = b"WGSEGM01";
const SCHEMA: u8 = 1;
const CRC_PLACE: usize = 4092;

/// A segment's id: the ring's random stream id plus the segment number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentId(pub [u8; 16]);

impl SegmentId {
    /// The id of segment `number` of the stream that began with `stream`.
    #[must_use]
    pub fn of(stream: [u8; 16], number: u64) -> Self {
        Self(u128::from_le_bytes(stream).wrapping_add(u128::from(number)).to_le_bytes())
    }
}

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which worker wrote it.
    pub worker: u32,
    /// Goes into every CRC.
    pub id: SegmentId,
    /// Counts per worker.
    pub number: u64,
    /// Sequence of the first entry.
    pub first_sequence: u64,
    /// The machine's boot.
    pub boot: [u8; 16],
    /// Both clocks when the segment was made.
    pub anchor: Now,
    /// Digest of the policy in force.
    pub policy: [u8; 32],
    /// Ed25519 public key of the checkpoints.
    pub key: [u8; 32],
    /// Root of the segment before.
    pub previous_root: [u8; 32],
    /// Most bytes that the file may have.
    pub segment_bytes: u64,
}

/// Why a segment header cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer than 4096 bytes.
    Short,
    /// Other magic bytes: not a segment.
    Magic,
    /// A version that this build does not know.
    Version(u32),
    /// The CRC does not fit.
    Crc,
}

impl SegmentHeader {
    /// The bytes of one copy.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.worker.to_le_bytes());
        bytes.extend_from_slice(&self.id.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_le_bytes());
        bytes.extend_from_slice(&self.boot);
        bytes.extend_from_slice(&self.anchor.wall_ns.to_le_bytes());
        bytes.extend_from_slice(&self.anchor.mono_ns.to_le_bytes());
        bytes.extend_from_slice(&self.policy);
        bytes.extend_from_slice(&self.key);
        bytes.extend_from_slice(&self.previous_root);
        bytes.extend_from_slice(&self.segment_bytes.to_le_bytes());
        bytes.resize(CRC_PLACE, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads one copy from the front of `bytes`.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes = bytes.get(..HEADER_LEN).ok_or(HeaderError::Short)?;
        if bytes.get(..8) != Some(MAGIC) {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(bytes.get(..CRC_PLACE).unwrap_or_default()) != u32_at(bytes, CRC_PLACE) {
            return Err(HeaderError::Crc);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        Ok(Self {
            worker: u32_at(bytes, 12),
            id: SegmentId(array_at(bytes, 16)),
            number: u64_at(bytes, 32),
            first_sequence: u64_at(bytes, 40),
            boot: array_at(bytes, 48),
            anchor: Now { wall_ns: u64_at(bytes, 64), mono_ns: u64_at(bytes, 72) },
            policy: array_at(bytes, 80),
            key: array_at(bytes, 112),
            previous_root: array_at(bytes, 144),
            segment_bytes: u64_at(bytes, 176),
        })
    }

    /// Reads the first whole copy of a segment file.
    ///
    /// # Errors
    /// What is wrong with the first copy, when the second is no better.
    pub fn of_file(bytes: &[u8]) -> Result<Self, HeaderError> {
        Self::decode(bytes)
            .or_else(|e| Self::decode(bytes.get(HEADER_LEN..).unwrap_or_default()).map_err(|_| e))
    }
}

/// The header of one entry, without commit word and CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Counts per worker.
    pub sequence: u64,
    /// Hybrid clock, nanoseconds.
    pub time_ns: u64,
    /// What the session said.
    pub meta: EntryMeta,
    /// Part of a split body.
    pub part: u32,
}

impl EntryHeader {
    /// The 64 bytes with commit word and CRC still zero.
    #[inline]
    #[must_use]
    pub fn encode(&self) -> [u8; ENTRY_HEADER_LEN] {
        let mut bytes = [0u8; ENTRY_HEADER_LEN];
        put(&mut bytes, 8, &self.sequence.to_le_bytes());
        put(&mut bytes, 16, &self.time_ns.to_le_bytes());
        put(&mut bytes, 24, &self.meta.connection.0.to_le_bytes());
        put(&mut bytes, 32, &self.meta.exchange.0.to_le_bytes());
        put(&mut bytes, 48, &[self.meta.kind as u8, SCHEMA]);
        put(&mut bytes, 50, &self.meta.flags.0.to_le_bytes());
        put(&mut bytes, 52, &self.part.to_le_bytes());
        bytes
    }
}

/// The CRC of an entry up to its body; go on with [`crc32c::crc32c_append`] over the body.
#[inline]
#[must_use]
pub fn crc_start(id: SegmentId, offset: u64, len: u32, header: &[u8; ENTRY_HEADER_LEN]) -> u32 {
    let mut bytes = Aligned([0u8; 84]);
    put(&mut bytes.0, 0, &id.0);
    put(&mut bytes.0, 16, &offset.to_le_bytes());
    put(&mut bytes.0, 24, &len.to_le_bytes());
    put(&mut bytes.0, 28, header.get(8..).unwrap_or_default());
    crc32c::crc32c(&bytes.0)
}

/// Eight bytes are summed in one step where they stand on a multiple of eight.
#[repr(align(8))]
struct Aligned([u8; 84]);

/// Bytes that an entry with `body` body bytes takes, its zeros included.
#[must_use]
pub fn padded(body: usize) -> usize {
    (ENTRY_HEADER_LEN + body).next_multiple_of(ENTRY_HEADER_LEN)
}

/// Appends a whole entry to `out`: the plain form of what the ring journal does in place.
pub fn encode_entry(
    id: SegmentId,
    offset: u64,
    header: &EntryHeader,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    debug_assert!(body.len() <= BODY_MAX);
    let mut head = header.encode();
    let len = u32::try_from(ENTRY_HEADER_LEN + body.len()).unwrap_or(0);
    let crc = crc32c::crc32c_append(crc_start(id, offset, len, &head), body);
    put(&mut head, 0, &len.to_le_bytes());
    put(&mut head, 4, &crc.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(body);
    let rest = padded(body.len()) - ENTRY_HEADER_LEN - body.len();
    out.extend_from_slice([0u8; ENTRY_HEADER_LEN].get(..rest).unwrap_or_default());
}

/// One entry as it stands in the bytes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it begins in the segment file.
    pub offset: u64,
    /// Counts per worker.
    pub sequence: u64,
    /// Hybrid clock, nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// What the session said.
    pub meta: EntryMeta,
    /// Part of a split body.
    pub part: u32,
    /// The body.
    pub body: &'a [u8],
}

/// What is wrong with the bytes where an entry should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryError {
    /// The file ends inside the entry.
    Cut,
    /// A length that no entry has.
    Length,
    /// The CRC does not fit.
    Crc,
    /// A kind, schema or mark that this version does not know, under a right CRC.
    Unknown,
    /// Bytes after the body, or reserved ones, are not zero.
    Padding,
    /// Not the sequence that must follow.
    Sequence,
    /// Not later than the entry before.
    Time,
}

impl EntryError {
    /// What to tell an operator.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Cut => "the file ends inside the entry",
            Self::Length => "no possible length",
            Self::Crc => "the checksum does not fit",
            Self::Unknown => "unknown kind, schema or flag",
            Self::Padding => "bytes that must be zero are not",
            Self::Sequence => "not the sequence that must follow",
            Self::Time => "not later than the entry before",
        }
    }
}

/// The bytes that the entry at the front of `bytes` takes, or 0 where the commit word is 0.
///
/// # Errors
/// [`EntryError::Length`] and [`EntryError::Cut`]; nothing else is looked at.
pub fn span(bytes: &[u8]) -> Result<usize, EntryError> {
    let word = bytes.get(..4).ok_or(EntryError::Cut)?;
    let len = u32_at(word, 0) as usize;
    if len == 0 {
        return Ok(0);
    }
    if !(ENTRY_HEADER_LEN..=ENTRY_LEN_MAX).contains(&len) {
        return Err(EntryError::Length);
    }
    let whole = len.next_multiple_of(ENTRY_HEADER_LEN);
    if bytes.len() < whole {
        return Err(EntryError::Cut);
    }
    Ok(whole)
}

/// The [`span`] of each entry of `bytes` in order, up to the first that is none.
pub fn spans(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let span = span(rest).ok().filter(|span| *span > 0)?;
        rest = rest.get(span..)?;
        Some(span)
    })
}

/// Reads the entry at the front of `bytes`, which stand at `offset` of segment `id`.
///
/// `None` where the commit word is zero.
///
/// # Errors
/// [`EntryError`], but for the sequence and the time, which need the entry before.
pub fn decode_entry(
    id: SegmentId,
    offset: u64,
    bytes: &[u8],
) -> Result<Option<(Entry<'_>, usize)>, EntryError> {
    let whole = span(bytes)?;
    if whole == 0 {
        return Ok(None);
    }
    let len = u32_at(bytes, 0);
    let head: [u8; ENTRY_HEADER_LEN] = array_at(bytes, 0);
    let body = bytes.get(ENTRY_HEADER_LEN..len as usize).ok_or(EntryError::Cut)?;
    if crc32c::crc32c_append(crc_start(id, offset, len, &head), body) != u32_at(bytes, 4) {
        return Err(EntryError::Crc);
    }
    let rest = bytes.get(len as usize..whole).unwrap_or_default();
    if rest.iter().any(|b| *b != 0) || u64_at(&head, 56) != 0 {
        return Err(EntryError::Padding);
    }
    let [kind, schema] = array_at(&head, 48);
    let flags = u16::from_le_bytes(array_at(&head, 50));
    let kind = Kind::of(kind).ok_or(EntryError::Unknown)?;
    if schema != SCHEMA || flags & !Flags::KNOWN.0 != 0 {
        return Err(EntryError::Unknown);
    }
    let entry = Entry {
        offset,
        sequence: u64_at(&head, 8),
        time_ns: u64_at(&head, 16),
        meta: EntryMeta {
            kind,
            flags: Flags(flags),
            connection: ConnectionId(u64_at(&head, 24)),
            exchange: ExchangeId(u128::from_le_bytes(array_at(&head, 32))),
        },
        part: u32_at(&head, 52),
        body,
    };
    Ok(Some((entry, whole)))
}

/// The `N` bytes at `place`; zeros where they are not all there.
pub(super) fn array_at<const N: usize>(bytes: &[u8], place: usize) -> [u8; N] {
    bytes.get(place..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

pub(super) fn u32_at(bytes: &[u8], place: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, place))
}

pub(super) fn u64_at(bytes: &[u8], place: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, place))
}

/// Copies `value` to `place`; the callers' places are constants inside the array.
#[inline]
pub(super) fn put(bytes: &mut [u8], place: usize, value: &[u8]) {
    debug_assert!(place + value.len() <= bytes.len());
    if let Some(room) = bytes.get_mut(place..place + value.len()) {
        room.copy_from_slice(value);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn header() -> EntryHeader {
        EntryHeader {
            sequence: 7,
            time_ns: 1_700_000_000_000_000_000,
            meta: EntryMeta {
                kind: Kind::ResponseBody,
                flags: Flags::MASKED,
                connection: ConnectionId(3),
                exchange: ExchangeId(0xabc),
            },
            part: 0,
        }
    }

    #[test]
    fn an_entry_reads_back_at_its_place_and_nowhere_else() {
        let id = SegmentId([9; 16]);
        for len in [0, 1, 63, 64, 65, 1000, BODY_MAX] {
            let body: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut bytes = Vec::new();
            encode_entry(id, 8192, &header(), &body, &mut bytes);
            assert_eq!(bytes.len(), padded(len));
            let (entry, whole) = decode_entry(id, 8192, &bytes).unwrap().unwrap();
            assert_eq!((entry.body, whole), (&body[..], bytes.len()));
            assert_eq!(entry.meta, header().meta);
            assert_eq!((entry.sequence, entry.time_ns), (7, header().time_ns));
            assert_eq!(decode_entry(id, 8256, &bytes), Err(EntryError::Crc));
            assert_eq!(decode_entry(SegmentId([8; 16]), 8192, &bytes), Err(EntryError::Crc));
        }
    }

    #[test]
    fn each_cut_and_each_flipped_bit_of_an_entry_is_found() {
        let id = SegmentId([1; 16]);
        let mut bytes = Vec::new();
        encode_entry(id, 64, &header(), b"the body of it, seventy bytes or so, more", &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode_entry(id, 64, &bytes[..cut]), Err(EntryError::Cut), "{cut}");
        }
        for place in 0..bytes.len() {
            for bit in 0..8 {
                bytes[place] ^= 1 << bit;
                assert!(decode_entry(id, 64, &bytes).is_err(), "byte {place} bit {bit}");
                bytes[place] ^= 1 << bit;
            }
        }
    }

    #[test]
    fn a_header_reads_back_from_either_copy() {
        let header = SegmentHeader {
            worker: 1,
            id: SegmentId::of([5; 16], 12),
            number: 12,
            first_sequence: 99,
            boot: [6; 16],
            anchor: Now { mono_ns: 1, wall_ns: 2 },
            policy: [7; 32],
            key: [8; 32],
            previous_root: [9; 32],
            segment_bytes: 1 << 20,
        };
        let copy = header.encode();
        assert_eq!(copy.len(), HEADER_LEN);
        let mut file = [copy.clone(), copy].concat();
        assert_eq!(SegmentHeader::of_file(&file), Ok(header.clone()));
        for place in 0..HEADER_LEN {
            file[place] ^= 4;
            assert!(SegmentHeader::decode(&file).is_err());
            assert_eq!(SegmentHeader::of_file(&file), Ok(header.clone()));
            file[place] ^= 4;
        }
        assert_eq!(SegmentHeader::decode(&file[..4095]), Err(HeaderError::Short));
        assert_ne!(SegmentId::of([5; 16], 12), SegmentId::of([5; 16], 13));
    }
}
