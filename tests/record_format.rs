//! Do records of format version 1 still read, byte for byte as they were written?
//!
//! The golden files were written by this test's own `write`; with `WEIRGATE_WRITE_GOLDEN=1` it
//! writes them again. A change of them is a change of the format, and needs another version.

use ring::signature::{Ed25519KeyPair, KeyPair};
use weirgate::base::{ConnectionId, ExchangeId, Now};
use weirgate::record::fields::{Reader, Tag, Writer};
use weirgate::record::proof::{Checkpoint, Leaf, State};
use weirgate::record::reader::Entries;
use weirgate::record::segment::{EntryHeader, SegmentHeader, SegmentId, encode_entry};
use weirgate::record::tree::{Frontier, leaf};
use weirgate::record::verify::{Trust, verify_chain, verify_segment};
use weirgate::record::{EntryMeta, Flags, Kind};

const SEGMENT: &[u8] = include_bytes!("golden/record-1.seg");
const PROOF: &[u8] = include_bytes!("golden/record-1.proof");

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[42; 32]).expect("a seed of 32 bytes")
}

fn key() -> [u8; 32] {
    pair().public_key().as_ref().try_into().expect("a key of 32 bytes")
}

/// One entry of each kind, then the proof over it.
fn write() -> (Vec<u8>, Vec<u8>) {
    let header = SegmentHeader {
        worker: 3,
        id: SegmentId::of([0xf0; 16], 0),
        number: 0,
        first_sequence: 1,
        boot: [0xb0; 16],
        anchor: Now { mono_ns: 5_000_000_000, wall_ns: 1_767_225_600_000_000_000 },
        policy: [0xd1; 32],
        key: key(),
        previous_root: [0; 32],
        segment_bytes: 1 << 20,
    };
    let mut bytes = [header.encode(), header.encode()].concat();
    let mut fields = Vec::new();
    Writer::new(&mut fields).text(Tag::Sub, "ana").number(Tag::Status, 200);
    for (sequence, kind) in (1..).zip(Kind::ALL) {
        let body: &[u8] = match kind {
            Kind::Roll => b"",
            kind if kind.is_raw() => b"data: {\"a\":1}\n\n",
            _ => &fields,
        };
        let flags = if kind == Kind::ResponseBody { Flags::MASKED } else { Flags::NONE };
        let entry = EntryHeader {
            sequence,
            time_ns: 1_767_225_600_000_000_000 + sequence,
            meta: EntryMeta {
                kind,
                flags,
                connection: ConnectionId(7),
                exchange: ExchangeId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            },
            part: 0,
        };
        let offset = bytes.len() as u64;
        encode_entry(header.id, offset, &entry, body, &mut bytes);
    }
    let (front, entries) = bytes.split_at(8192);
    let mut frontier = Frontier::new();
    let mut proof = Vec::new();
    for (index, (offset, block)) in (0u64..).zip([(0, front), (8192, entries)]) {
        let digest = leaf(block);
        let len = u32::try_from(block.len()).expect("a small block");
        frontier.push(digest);
        proof.extend_from_slice(&Leaf { index, offset, len, digest }.encode());
    }
    let checkpoint = Checkpoint {
        id: header.id,
        number: 0,
        worker: 3,
        state: State::Closed,
        end: bytes.len() as u64,
        leaves: 2,
        next_sequence: 17,
        wall_ns: 1_767_225_601_000_000_000,
        dropped: 0,
        root: frontier.root(),
        previous_root: [0; 32],
    };
    proof.extend_from_slice(&checkpoint.sign(&pair()));
    (bytes, proof)
}

#[test]
fn the_golden_segment_is_what_this_version_writes() {
    let (segment, proof) = write();
    if std::env::var_os("WEIRGATE_WRITE_GOLDEN").is_some() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        std::fs::write(dir.join("record-1.seg"), &segment).expect("the golden segment is written");
        std::fs::write(dir.join("record-1.proof"), &proof).expect("the golden proof is written");
        return;
    }
    assert!(segment == SEGMENT, "the segment format changed");
    assert!(proof == PROOF, "the proof format changed");
}

#[test]
fn the_golden_segment_reads_and_verifies() {
    let keys = [key()];
    let trust = Trust { keys: &keys, live: false };
    let mut reports = [verify_segment(SEGMENT, PROOF, &trust)];
    assert!(verify_chain(&mut reports, &[], &trust).is_empty());
    let [report] = reports;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.entries, report.checkpoints, report.state), (16, 1, State::Closed));
    let header = report.header.expect("the header reads");
    assert_eq!((header.worker, header.policy), (3, [0xd1; 32]));
    let entries: Vec<_> =
        Entries::new(SEGMENT, &header).collect::<Result<_, _>>().expect("every entry reads");
    let kinds: Vec<Kind> = entries.iter().map(|entry| entry.meta.kind).collect();
    assert_eq!(kinds, Kind::ALL);
    for entry in entries.iter().filter(|entry| !entry.meta.kind.is_raw()) {
        if entry.meta.kind != Kind::Roll {
            let status = Reader::find(entry.body, Tag::Status).and_then(|field| field.as_number());
            assert_eq!(status, Some(200));
        }
    }
}
