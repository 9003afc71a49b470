//! Is what was appended on the disk, whatever happens to the process and the disk?
#![cfg(test)]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::base::{ConnectionId, ExchangeId};
use crate::record::reader::Entries;
use crate::record::ring::{DATA_START, RING_BYTES_MIN, RingImage, SEGMENT_BYTES_MIN};
use crate::record::segment::{ENTRIES_START, SegmentHeader};
use crate::record::verify::{Trust, What, verify_segment};
use crate::record::{EntryMeta, Journal, Kind};

fn small(dir: &Path, workers: u32) -> Settings {
    let mut settings = Settings::new(&dir.join("data"), dir, workers);
    settings.ring_bytes = RING_BYTES_MIN;
    settings.segment_bytes = SEGMENT_BYTES_MIN;
    settings.checkpoint_ms = 10;
    settings
}

fn body(seed: u64) -> Vec<u8> {
    let len = (seed * 7919 % 3_000) as usize;
    let mut body = seed.to_le_bytes().to_vec();
    body.extend((0..len).map(|i| (i as u64 * 31 + seed) as u8));
    body
}

fn meta(worker: u64) -> EntryMeta {
    EntryMeta::new(Kind::ResponseBody, ConnectionId(worker), ExchangeId(u128::from(worker)))
}

fn now() -> Now {
    Clock::new().now()
}

/// Appends, and waits where the ring is full.
fn append(journal: &mut RingJournal, worker: u64, body: &[u8]) {
    let start = Instant::now();
    while journal.append(meta(worker), std::iter::once(body), now()).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "the drain does not move");
        std::thread::yield_now();
    }
}

/// All bodies of the folder's response entries, by worker.
fn bodies(dir: &Path) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut found: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    let bad = walk_folder(dir, |worker, entry| {
        if entry.meta.kind == Kind::ResponseBody {
            found.entry(worker).or_default().push(entry.body.to_vec());
        }
    });
    assert!(bad.unwrap().is_empty());
    found
}

fn assert_clean(dir: &Path) -> FolderReport {
    let report = verify_folder(dir, &public_keys(dir), |_| ()).unwrap();
    let found: Vec<_> = report.findings().map(|(name, f)| format!("{name}: {f:?}")).collect();
    assert!(report.is_clean(), "{found:?} {:?}", report.rings);
    report
}

#[test]
fn drained_files_hold_what_was_appended_and_verify_live_and_after_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 2);
    let data = &settings.data_dir;
    let mut sent: BTreeMap<u32, Vec<Vec<u8>>> = BTreeMap::new();
    for round in 0..3u64 {
        let mut opened = open(&settings).unwrap();
        assert_eq!(opened.recovered, Recovered::default());
        for seed in 0..700u64 {
            for (worker, journal) in (0u32..).zip(&mut opened.journals) {
                let body = body(seed + round * 10_000 + u64::from(worker));
                append(journal, u64::from(worker), &body);
                sent.entry(worker).or_default().push(body);
            }
            if seed == 350 {
                let report = verify_folder(data, &public_keys(data), |_| ()).unwrap();
                assert!(report.live && report.is_clean(), "{:?}", report.segments);
            }
            // Whatever the drain does meanwhile.
            if seed % 25 == 10 {
                assert!(bodies(data) == sent, "rings and segments together hold everything");
            }
        }
        let handle = opened.drain.handle();
        let end = opened.journals[0].position();
        assert!(opened.drain.stop());
        let late = opened.journals[0].append(meta(0), std::iter::empty(), now());
        assert!(late.is_err(), "nothing is released without a drain");
        assert_eq!(handle.durable(0), end);
        assert_eq!(handle.metrics().errors, 0);
        assert!(ring_paths(data).iter().all(|ring| !ring.exists()));
    }
    assert!(bodies(data) == sent);
    let report = assert_clean(data);
    assert!(report.segments.len() > 10, "{} segments", report.segments.len());
    assert!(!report.live);
    assert!(report.segments.iter().all(|(_, s)| s.proved == s.bytes));
    // A key that is not trusted, and a segment that is taken away.
    let report = verify_folder(data, &[[1; 32]], |_| ()).unwrap();
    assert!(report.findings().any(|(_, f)| f.what == What::Signature));
    std::fs::remove_file(data.join("w00-00000002.seg")).unwrap();
    let report = verify_folder(data, &public_keys(data), |_| ()).unwrap();
    let first = report.findings().next().map(|(name, f)| (name.to_owned(), f.what));
    assert_eq!(first, Some(("w00-00000003".to_owned(), What::Missing)));
}

#[test]
fn what_is_being_written_is_no_damage_and_what_stays_broken_is() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let mut opened = open(&settings).unwrap();
    let data = settings.data_dir.clone();
    append(&mut opened.journals[0], 0, b"first");
    let path = data.join("w00-00000000.seg");
    let end = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let header = SegmentHeader::of_file(&bytes).unwrap();
        let mut entries = Entries::new(&bytes, &header);
        while let Some(Ok(_)) = entries.next() {}
        entries.offset()
    };
    let start = Instant::now();
    while !path.exists() || end(&path) == ENTRIES_START {
        assert!(start.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(1));
    }
    // Half an entry, as a reader may see one that is being written.
    let (file, at) = (std::fs::File::options().write(true).open(&path).unwrap(), end(&path));
    file.write_all_at(&[0x40, 0, 0, 0, 1, 2, 3, 4], at).unwrap();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(40));
        file.write_all_at(&[0; 8], at).unwrap();
        file
    });
    assert_eq!(bodies(&data)[&0], [b"first"]);
    let file = writer.join().unwrap();
    file.write_all_at(&[0x40, 0, 0, 0, 1, 2, 3, 4], at).unwrap();
    let mut seen = Vec::new();
    let bad = walk_folder(&data, |_, entry| seen.push(entry.body.to_vec())).unwrap();
    assert_eq!(bad, ["w00-00000000"]);
    assert!(seen.iter().any(|body| body == b"first"), "what stands before it is told");
}

#[test]
fn a_second_gateway_on_the_folder_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let first = open(&settings).unwrap();
    assert!(matches!(open(&settings), Err(DrainError::Locked(_))));
    assert!(is_live(&settings.data_dir));
    drop(first);
    assert!(!is_live(&settings.data_dir));
    open(&settings).unwrap();
}

#[test]
fn each_flipped_bit_and_each_cut_of_segment_and_proof_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let mut opened = open(&settings).unwrap();
    for seed in [1, 50, 900u64] {
        append(&mut opened.journals[0], 0, &body(seed)[..200.min(body(seed).len())]);
    }
    assert!(opened.drain.stop());
    let data = &settings.data_dir;
    let mut bytes = std::fs::read(data.join("w00-00000000.seg")).unwrap();
    let mut proof = std::fs::read(data.join("w00-00000000.proof")).unwrap();
    let keys = public_keys(data);
    let trust = Trust { keys: &keys, live: false };
    let clean = verify_segment(&bytes, &proof, &trust);
    assert!(clean.findings.is_empty(), "{:?}", clean.findings);
    assert_eq!(clean.entries, 3);
    let header = clean.header.unwrap();
    let starts: Vec<(u64, u64)> = Entries::new(&bytes, &header)
        .map(|entry| entry.map(|entry| (entry.offset, entry.sequence)).unwrap())
        .collect();
    for bit in 0..8 * bytes.len() {
        let place = bit / 8;
        // In the headers, one bit of each byte: their CRC does not care which.
        if place < 8192 && bit % 8 != place % 8 {
            continue;
        }
        bytes[place] ^= 1 << (bit % 8);
        let report = verify_segment(&bytes, &proof, &trust);
        let first = report.findings.first().expect("a flipped bit is found");
        // It is located: in the copy of the header, or in the entry that holds the byte.
        if place < 8192 {
            assert!(report.findings.iter().any(|f| f.what == What::HeaderCopy), "{place}");
            assert!(report.findings.iter().any(|f| f.offset == (place / 4096 * 4096) as u64));
            assert_eq!(report.entries, 3, "the other copy still opens the segment");
        } else {
            let named = report.findings.iter().find(|f| matches!(f.what, What::Entry(_)));
            let named = named.unwrap_or(first);
            let holds = starts.iter().rev().find(|start| start.0 as usize <= place).unwrap();
            assert_eq!((named.offset, named.sequence), (holds.0, Some(holds.1)), "byte {place}");
        }
        bytes[place] ^= 1 << (bit % 8);
    }
    for cut in 0..bytes.len() {
        let report = verify_segment(&bytes[..cut], &proof, &trust);
        assert!(!report.findings.is_empty(), "cut at {cut}");
    }
    for place in 0..proof.len() {
        proof[place] ^= 1 << (place % 8);
        let report = verify_segment(&bytes, &proof, &trust);
        assert!(!report.findings.is_empty(), "proof byte {place}");
        proof[place] ^= 1 << (place % 8);
    }
    for cut in 1..proof.len() {
        let report = verify_segment(&bytes, &proof[..cut], &trust);
        let shorter = report.state == crate::record::proof::State::Open;
        assert!(shorter || !report.findings.is_empty(), "proof cut at {cut}");
    }
    assert!(!verify_segment(&bytes, &[], &trust).findings.is_empty());
}

#[test]
fn retention_buries_the_oldest_and_verify_understands_the_tombstones() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = small(dir.path(), 1);
    settings.retention.bytes = Some(3 * SEGMENT_BYTES_MIN);
    let data = settings.data_dir.clone();
    for _ in 0..2 {
        let mut opened = open(&settings).unwrap();
        for seed in 0..1_000u64 {
            append(&mut opened.journals[0], 0, &body(seed));
        }
        assert!(opened.drain.stop());
    }
    let report = assert_clean(&data);
    assert!(report.segments.len() <= 5, "{}", report.segments.len());
    let tombs = std::fs::read(tombs_path(&data, 0)).unwrap();
    assert!(tombs.len() >= 256 * 4);
    // Everything old: all closed segments go, and the chain still begins at the last stone.
    settings.retention = Retention { age_s: Some(0), bytes: None };
    let opened = open(&settings).unwrap();
    let start = Instant::now();
    while opened.drain.handle().metrics().kept_segments != 1 {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
    assert!(opened.drain.stop());
    assert_clean(&data);
    // Without the stones, segments are missing.
    std::fs::remove_file(tombs_path(&data, 0)).unwrap();
    let report = verify_folder(&data, &public_keys(&data), |_| ()).unwrap();
    assert!(report.findings().any(|(_, f)| f.what == What::Missing));
}

#[test]
fn a_torn_tail_without_a_ring_is_cut_at_the_start_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let data = settings.data_dir.clone();
    let mut child = Child::spawn(dir.path());
    let acked = child.kill_after(200);
    assert!(acked > 0);
    // The machine lost its power: the ring is gone, and a write was torn.
    ring_paths(&data).iter().for_each(|ring| std::fs::remove_file(ring).unwrap());
    let last = segments(&data).unwrap().pop().unwrap();
    let path = data.join(format!("{}.seg", segment_name(last.0, last.1)));
    let mut bytes = std::fs::read(&path).unwrap();
    let header = SegmentHeader::of_file(&bytes).unwrap();
    let mut walk = Entries::new(&bytes, &header);
    while walk.next().is_some() {}
    let end = walk.offset() as usize;
    if end + 100 < bytes.len() {
        bytes[end..end + 100].fill(0x5a);
        std::fs::write(&path, &bytes).unwrap();
        let opened = open(&settings).unwrap();
        assert_eq!(opened.recovered.dropped, 100);
        assert!(opened.drain.stop());
    } else {
        open(&settings).unwrap();
    }
    assert_clean(&data);
}

#[test]
fn a_ring_on_a_disk_that_lost_its_power_ends_where_it_is_torn_and_one_that_is_gone_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let data = settings.data_dir.clone();
    Child::spawn(dir.path()).kill_after(200);
    let ring = ring_paths(&data).remove(0);
    let image = std::fs::read(&ring).unwrap();
    let parsed = RingImage::parse(&image).unwrap();
    let (setup, cursor) = (*parsed.setup(), parsed.cursor());
    // What stands at the cursor is a page that never got to the disk whole.
    let mut torn = image.clone();
    let place = DATA_START + usize::try_from(cursor.position.0 % setup.ring_bytes).unwrap();
    torn[place..place + 64].fill(0x5a);
    let lay = |boot: [u8; 16]| {
        let mut file = torn.clone();
        file[..512].copy_from_slice(&RingSetup { boot, ..setup }.encode());
        std::fs::write(&ring, file).unwrap();
    };
    lay([7; 16]);
    let opened = open(&settings).unwrap();
    assert_eq!((opened.recovered.damaged, opened.recovered.lost_rings), (0, 0));
    assert!(opened.drain.stop());
    // A clean end removes the ring, and nobody misses it.
    assert_eq!(open(&settings).unwrap().recovered, Recovered::default());
    // The same in a machine that did not go down is damage, and is kept.
    Child::spawn(dir.path()).kill_after(200);
    let ring_now = ring_paths(&data).remove(0);
    let mut file = std::fs::read(&ring_now).unwrap();
    let cursor = RingImage::parse(&file).unwrap().cursor();
    let place = DATA_START + usize::try_from(cursor.position.0 % setup.ring_bytes).unwrap();
    file[place..place + 64].fill(0x5a);
    std::fs::write(&ring_now, file).unwrap();
    assert_eq!(open(&settings).unwrap().recovered.damaged, 1);
    Child::spawn(dir.path()).kill_after(200);
    std::fs::remove_file(ring_paths(&data).remove(0)).unwrap();
    assert_eq!(open(&settings).unwrap().recovered.lost_rings, 1);
    assert_clean(&data);
}

/// A process that appends as fast as it can, and says what was acknowledged.
struct Child {
    process: std::process::Child,
    lines: io::Lines<BufReader<std::process::ChildStdout>>,
}

const CHILD_DIR: &str = "WEIRGATE_TEST_APPEND_TO";

impl Child {
    fn spawn(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "control::drain::tests::child_that_appends", "--nocapture"])
            .env(CHILD_DIR, dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Kills it at the first sign of life: while it recovers, or makes its files.
    fn kill_at_once(&mut self) {
        self.lines.next();
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Kills it after it acknowledged about `count` entries; returns the last acknowledged seed.
    fn kill_after(&mut self, count: u64) -> u64 {
        let mut last = 0;
        let mut seen = 0;
        while let Some(Ok(line)) = self.lines.next() {
            if let Some(seed) = line.strip_prefix("ack ").and_then(|seed| seed.parse().ok()) {
                last = seed;
                seen += 1;
            }
            if seen == count {
                self.process.kill().unwrap();
            }
        }
        self.process.wait().unwrap();
        last
    }
}

#[test]
fn child_that_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let settings = small(Path::new(&dir), 1);
    let mut opened = open(&settings).unwrap();
    let journal = &mut opened.journals[0];
    let begin = u64::from(std::process::id()) << 32;
    let mut out = io::stdout().lock();
    writeln!(out).unwrap();
    for seed in begin.. {
        while journal.append(meta(0), std::iter::once(&body(seed)[..]), now()).is_err() {}
        writeln!(out, "ack {seed}").unwrap();
    }
}

#[test]
fn a_killed_process_loses_no_acknowledged_entry() {
    const KILLS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let settings = small(dir.path(), 1);
    let data = settings.data_dir.clone();
    let mut acked = Vec::new();
    let mut from_ring = 0;
    // On an idle machine the drain is fast: a few more kills then, until one left something.
    let mut kills = 0..KILLS * 10;
    while let Some(kill) = kills.next().filter(|kill| *kill < KILLS || from_ring == 0) {
        let mut child = Child::spawn(dir.path());
        let last = child.kill_after(1 + kill * 37 % 700);
        if last > 0 {
            acked.push(last);
        }
        if kill % 3 == 0 {
            // This one dies while it recovers the one before.
            Child::spawn(dir.path()).kill_at_once();
        }
        if kill % 20 == 19 {
            let opened = open(&settings).unwrap();
            from_ring += opened.recovered.ring_entries;
            assert_eq!(opened.recovered.damaged, 0);
            assert!(opened.drain.stop());
            assert_clean(&data);
        }
    }
    assert!(acked.len() as u64 >= KILLS);
    let aside =
        |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == "damaged");
    assert!(!std::fs::read_dir(dir.path()).unwrap().flatten().any(|entry| aside(&entry)));
    assert!(from_ring > 0, "kills must leave something in the ring");
    // Every child's entries are there from its first to the last acknowledged, once, in order.
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for one in bodies(&data).remove(&0).unwrap() {
        let seed = u64::from_le_bytes(one[..8].try_into().unwrap());
        assert!(one == body(seed), "seed {seed}");
        found.entry(seed >> 32).or_default().push(seed);
    }
    let mut total = 0;
    for last in acked {
        let seeds = found.remove(&(last >> 32)).unwrap();
        assert!(seeds.windows(2).all(|pair| pair[0] + 1 == pair[1]), "each once, in order");
        assert_eq!(seeds[0], last >> 32 << 32);
        assert!(*seeds.last().unwrap() >= last, "acknowledged and lost");
        total += seeds.len();
    }
    assert!(total > 1_000, "{total} entries");
}

#[test]
fn a_full_disk_refuses_new_work_and_resumes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a_full_disk_refuses_new_work_and_resumes_by_itself needs mount (root)");
        return;
    }
    let mut settings = small(dir.path(), 1);
    settings.data_dir = disk.join("data");
    let mut sent = Vec::new();
    let mut opened = open(&settings).unwrap();
    let handle = opened.drain.handle();
    let journal = &mut opened.journals[0];
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    // Append until the ring is full: the disk has no room for more segments.
    let start = Instant::now();
    let mut seed = 0;
    let mut refused = false;
    while !refused {
        assert!(start.elapsed() < Duration::from_secs(30), "the disk never fills");
        let one = body(seed);
        if journal.append(meta(0), std::iter::once(&one[..]), now()).is_ok() {
            sent.push(one);
            seed += 1;
        } else {
            refused = handle.refusing();
        }
    }
    assert!(handle.metrics().errors > 0);
    std::fs::remove_file(&ballast).unwrap();
    let freed = Instant::now();
    while handle.refusing() {
        assert!(freed.elapsed() < Duration::from_secs(2), "it does not resume");
        std::thread::yield_now();
    }
    append(journal, 0, &body(seed));
    sent.push(body(seed));
    let stopped = opened.drain.stop();
    let found = bodies(&settings.data_dir).remove(&0).unwrap();
    let report = assert_clean(&settings.data_dir);
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(stopped && unmounted.success());
    assert!(found == sent, "{} of {}", found.len(), sent.len());
    assert!(report.segments.len() > 2);
}
