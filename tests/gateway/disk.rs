//! A disk without room.

use crate::kit::upstream::answer;
use crate::kit::{Caller, Home, Upstream, eventually};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A small file system of its own; gone with the value.
pub(crate) struct Disk(pub(crate) tempfile::TempDir);

impl Disk {
    /// `None` where the test may not mount.
    pub(crate) fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "weirgate-test"]).arg(dir.path());
        command.output().is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    /// Takes all room that is left. Returns how much it was.
    pub(crate) fn fill(&self) -> u64 {
        let mut file = File::create(self.ballast()).unwrap();
        let mut filled = 0;
        let mut piece = vec![1u8; 1 << 20];
        while !piece.is_empty() {
            match file.write(&piece) {
                Ok(len) => filled += len as u64,
                Err(e) if e.kind() == io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
                Err(e) => panic!("{e}"),
            }
        }
        filled
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.0.path().join("ballast")
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let path: &Path = self.0.path();
        let _ = Command::new("umount").arg(path).status();
    }
}

/// Most MiB that may be recorded after the disk is full: what is left of the segment when the next one
/// is prepared (a half of 64 MiB), three quarters of that one, and what the ring takes (16 MiB)
/// before the drain finds out.
const ROOM_IN_HAND: u32 = 32 + 48 + 16;

#[test]
fn without_room_for_the_record_new_work_is_refused_until_there_is_room() {
    // A ring of 16 MiB, a segment of 64 MiB, the segment after it, the one that is prepared, and room besides.
    let Some(disk) = Disk::mount("300m") else {
        eprintln!("SKIPPED: no mount here; run the tests as root to see a full disk");
        return;
    };
    let body = vec![b'x'; 1 << 20];
    let sent = body.clone();
    let upstream = Upstream::start(move |_, stream| answer(stream, "text/plain", &sent));
    let home = Home::new();
    let data = disk.0.path().join("data");
    home.configure_at(upstream.address, &data, disk.0.path(), "");
    let text = fs::read_to_string(home.config()).unwrap();
    home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let mut caller = Caller::open(address).unwrap();
    let mut ask = || {
        let asked = caller.send("GET", "/plain/x", &token, None).and_then(|()| caller.answer());
        if let Ok(answer) = &asked
            && answer.status == 200
        {
            assert_eq!(answer.body, body, "an answer is whole or refused");
            return 200;
        }
        // A refused connection may be closed.
        caller = Caller::open(address).unwrap();
        match asked {
            Ok(answer) => answer.status,
            Err(error) => panic!("neither an answer nor a refusal: {error}"),
        }
    };
    assert_eq!(ask(), 200);
    for round in 0..2 {
        assert!(disk.fill() > 0);
        // The proof may have no room at once; the next segment has none at three quarters of the last
        // one that could be made.
        let mut taken = 0;
        eventually("new work is refused", Duration::from_secs(60), || match ask() {
            200 => {
                taken += 1;
                assert!(taken <= ROOM_IN_HAND, "more than the room in hand was recorded");
                None
            }
            503 => Some(()),
            other => panic!("{other}"),
        });
        assert_eq!(ask(), 503, "it stays refused, round {round}");
        disk.free();
        eventually("work is taken again", Duration::from_secs(30), || (ask() == 200).then_some(()));
    }
    // Enough for a new segment: the record goes on where it was.
    for _ in 0..70 {
        assert_eq!(ask(), 200);
    }
    assert!(gateway.stop());
    let segments = fs::read_dir(&data).unwrap().filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().ends_with(".seg"))
    });
    assert!(segments.count() >= 2, "it went on in another segment");
    home.verify(&data);
}
