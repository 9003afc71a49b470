//! Segments and proofs: any bytes are read without a fault, and a sound segment that is not what
//! was written is always found out.
//!
//! First byte: `s` a segment file, `e` its entries alone, `p` a proof file, `f` fields of an
//! entry, `h` changes of a sound segment, four bytes each: file, offset (two bytes, little end
//! first) and what the byte there is XORed with; `t` is `h` with the first two bytes as length.

use super::cuts;
use ring::signature::{Ed25519KeyPair, KeyPair};
use std::sync::OnceLock;
use weirgate::base::{ConnectionId, ExchangeId, Now};
use weirgate::record::fields::{Reader, Tag, Writer};
use weirgate::record::proof::{Checkpoint, Leaf, Records, State};
use weirgate::record::reader::{Entries, Joiner};
use weirgate::record::segment::{EntryHeader, SegmentHeader, SegmentId, encode_entry};
use weirgate::record::summary::Summaries;
use weirgate::record::tree::{Frontier, leaf};
use weirgate::record::verify::{SegmentReport, Trust, verify_chain, verify_segment};
use weirgate::record::{EntryMeta, Flags, Kind};

struct Sound {
    key: [u8; 32],
    header: SegmentHeader,
    segment: Vec<u8>,
    proof: Vec<u8>,
}

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(write)
}

/// One entry of each kind, then the proof over it.
fn write() -> Sound {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[42; 32]).expect("a seed of 32 bytes");
    let key = pair.public_key().as_ref().try_into().expect("a key of 32 bytes");
    let header = SegmentHeader {
        worker: 3,
        id: SegmentId::of([0xf0; 16], 0),
        number: 0,
        first_sequence: 1,
        boot: [0xb0; 16],
        anchor: Now { mono_ns: 5_000_000_000, wall_ns: 1_767_225_600_000_000_000 },
        policy: [0xd1; 32],
        key,
        previous_root: [0; 32],
        segment_bytes: 1 << 20,
    };
    let mut segment = [header.encode(), header.encode()].concat();
    let mut fields = Vec::new();
    Writer::new(&mut fields).text(Tag::Sub, "ana").number(Tag::Status, 200);
    for (sequence, kind) in (1..).zip(Kind::ALL) {
        let body: &[u8] = match kind {
            Kind::Roll => b"",
            kind if kind.is_raw() => b"data: {\"a\":1}\n\n",
            _ => &fields,
        };
        let entry = EntryHeader {
            sequence,
            time_ns: 1_767_225_600_000_000_000 + sequence,
            meta: EntryMeta {
                kind,
                flags: Flags::NONE,
                connection: ConnectionId(7),
                exchange: ExchangeId(0x0123_4567_89ab_cdef_0011_2233_4455_6677),
            },
            part: 0,
        };
        let offset = segment.len() as u64;
        encode_entry(header.id, offset, &entry, body, &mut segment);
    }
    let (front, entries) = segment.split_at(8192);
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
        end: segment.len() as u64,
        leaves: 2,
        next_sequence: 17,
        wall_ns: 1_767_225_601_000_000_000,
        dropped: 0,
        root: frontier.root(),
        previous_root: [0; 32],
    };
    proof.extend_from_slice(&checkpoint.sign(&pair));
    Sound { key, header, segment, proof }
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, rest)) = cuts::mode(data) else { return };
    let sound = sound();
    match mode {
        b's' => drop(look(rest, &sound.proof)),
        b'e' => {
            let front = sound.segment.get(..8192).unwrap_or_default();
            drop(look(&[front, rest].concat(), &sound.proof));
        }
        b'p' => {
            records(rest);
            drop(look(&sound.segment, rest));
            let trust = Trust { keys: &[sound.key], live: false };
            let mut none: [SegmentReport; 0] = [];
            let _ = verify_chain(&mut none, rest, &trust);
        }
        b'f' => fields(rest),
        b't' => {
            let [low, high, rest @ ..] = rest else { return };
            let len = usize::from(u16::from_le_bytes([*low, *high])) % sound.segment.len();
            changed(sound.segment.get(..len).unwrap_or_default().to_vec(), rest);
        }
        _ => changed(sound.segment.clone(), rest),
    }
}

/// A sound segment, its first bytes, with bytes changed, is sound only if nothing is.
fn changed(mut segment: Vec<u8>, changes: &[u8]) {
    let sound = sound();
    let mut proof = sound.proof.clone();
    for change in changes.chunks_exact(4) {
        let [file, low, high, with] = change else { return };
        let bytes = if file & 1 == 1 { &mut proof } else { &mut segment };
        let len = bytes.len().max(1);
        let offset = usize::from(u16::from_le_bytes([*low, *high])) % len;
        if let Some(byte) = bytes.get_mut(offset) {
            *byte ^= with;
        }
    }
    let same = segment == sound.segment && proof == sound.proof;
    let report = look(&segment, &proof);
    let mut reports = [report];
    let trust = Trust { keys: &[sound.key], live: false };
    let more = verify_chain(&mut reports, &[], &trust);
    let [report] = reports;
    assert_eq!(
        report.findings.is_empty() && more.is_empty(),
        same,
        "changed and not found, or found and not changed: {:?}",
        report.findings
    );
}

fn look(segment: &[u8], proof: &[u8]) -> SegmentReport {
    let sound = sound();
    let trust = Trust { keys: &[sound.key], live: false };
    let live = verify_segment(segment, proof, &Trust { live: true, ..trust });
    let report = verify_segment(segment, proof, &trust);
    assert!(live.findings.len() <= report.findings.len(), "more is found while it is live");
    assert!(report.bytes <= segment.len() as u64);
    let short = report.proved > segment.len() as u64;
    assert!(!short || !report.findings.is_empty(), "a cut behind a checkpoint is found");
    for finding in &report.findings {
        assert!(!finding.what.text().is_empty());
    }
    let header = SegmentHeader::of_file(segment).unwrap_or_else(|_| sound.header.clone());
    let mut entries = Entries::new(segment, &header);
    let mut joiner = Joiner::new();
    let mut summaries = Summaries::new();
    let mut sequence = header.first_sequence;
    for entry in entries.by_ref() {
        let Ok(entry) = entry else { break };
        assert_eq!(entry.sequence, sequence, "sequences have no gap");
        sequence = sequence.wrapping_add(1);
        if !entry.meta.kind.is_raw() {
            fields(entry.body);
        }
        if let Some(whole) = joiner.push(header.worker, &entry) {
            summaries.push(&whole);
        }
    }
    assert!(entries.offset() <= segment.len().max(8192) as u64);
    let _ = summaries.into_rows();
    report
}

fn records(proof: &[u8]) {
    let mut walk = Records::new(proof);
    let mut before = 0;
    while let Some(record) = walk.next() {
        assert!(walk.offset() >= before && walk.offset() <= proof.len() as u64);
        before = walk.offset();
        if record.is_err() {
            break;
        }
    }
}

fn fields(body: &[u8]) {
    for field in Reader::new(body) {
        let Ok(field) = field else { break };
        let _ = (field.tag(), field.as_number(), field.as_text());
    }
    let _ = Reader::find(body, Tag::Status);
}
