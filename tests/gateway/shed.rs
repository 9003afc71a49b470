//! What goes on although the disk is full, where the config says so, and how the record tells it.

use crate::disk::Disk;
use crate::kit::upstream::answer;
use crate::kit::{Answer, Caller, Home, PATIENCE, Served, Upstream, eventually};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

/// A gateway whose record is on a small disk, with one worker.
struct Small {
    home: Home,
    served: Served,
    address: SocketAddr,
    admin: SocketAddr,
    token: String,
    _upstream: Upstream,
    /// Last, so that nobody is on it when it goes.
    disk: Disk,
}

const TEXT: &str = "write to bob@corp.example.com soon; ";

impl Small {
    fn start(on_full: &str) -> Option<Self> {
        let Some(disk) = Disk::mount("300m") else {
            eprintln!("SKIPPED: no mount here; run the tests as root to see a full disk");
            return None;
        };
        let body = TEXT.repeat((1 << 20) / TEXT.len());
        let upstream = Upstream::start(move |heard, stream| {
            let body = if heard.path.starts_with("/empty") { "" } else { &body };
            answer(stream, "text/plain", body.as_bytes())
        });
        let home = Home::new();
        let data = disk.0.path().join("data");
        let more =
            format!("[record]\non_full = \"{on_full}\"\n[admin]\naddress = \"127.0.0.1:0\"\n");
        home.configure_at(upstream.address, &data, disk.0.path(), &more);
        let text = fs::read_to_string(home.config()).unwrap();
        home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
        let mut served = Served::start(&home.config(), &[]);
        let address = served.address("api");
        let admin = served.says("admin surface");
        let admin = admin["address"].as_str().unwrap().parse().unwrap();
        let token = home.reader("ana");
        Some(Self { disk, home, served, address, admin, token, _upstream: upstream })
    }

    fn data(&self) -> PathBuf {
        self.disk.0.path().join("data")
    }

    /// Asks for a MiB of text with an address in each line, which the caller must not see.
    fn ask(&self) -> Answer {
        let mut caller = Caller::open(self.address).unwrap();
        let body = br#"{"mail":"ana@corp.example.com"}"#;
        caller.send("POST", "/masked/x", &self.token, Some(("application/json", body))).unwrap();
        let answer = caller.answer().unwrap();
        assert!(!answer.text().contains("bob@corp"), "masked, recorded or not");
        answer
    }

    fn metric(&self, name: &str) -> u64 {
        self.gauge(name).parse().unwrap()
    }

    fn gauge(&self, name: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let ask = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).to_owned()
    }

    /// Stops in order, and what `verify` says of gaps.
    fn stop(&mut self) -> Value {
        self.served.signal("TERM");
        assert_eq!(self.served.ended().code(), Some(0), "{}", self.served.log());
        self.home.verify(&self.data());
        let output = self.home.run(&["verify", "--json", self.data().to_str().unwrap()]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

fn of_kind<'a>(shown: &'a [Value], kind: &str) -> Vec<&'a Value> {
    shown.iter().filter(|entry| entry["kind"] == kind).collect()
}

/// Gap entries of one request: entries, bytes from and to the caller.
fn gaps(shown: &[Value]) -> [u64; 3] {
    let mut sum = [0; 3];
    for gap in of_kind(shown, "gap") {
        for (sum, key) in sum.iter_mut().zip(["count", "bytes_in", "bytes_out"]) {
            *sum += gap["fields"][key].as_u64().unwrap();
        }
    }
    sum
}

#[test]
fn with_shed_bodies_a_full_disk_costs_bodies_and_says_how_much() {
    let Some(mut small) = Small::start("shed_bodies") else { return };
    assert_eq!(small.ask().status, 200);
    assert!(small.disk.fill() > 0);
    let mut taken = 0;
    let shed = eventually("bodies are shed", PATIENCE * 2, || {
        taken += 1;
        assert!(taken < 100, "more than a segment was recorded on a full disk");
        let answer = small.ask();
        assert_eq!(answer.status, 200, "work goes on");
        (small.metric("weirgate_unrecorded_bytes_total") > 0).then_some(answer)
    });
    let shed = if gaps(&small.home.show(&small.data(), &shed.id))[2] == shed.body.len() as u64 {
        shed
    } else {
        // The disk filled up in the middle of that one.
        small.ask()
    };
    let shown = small.home.show(&small.data(), &shed.id);
    for kind in ["open", "request_head", "response_head", "close"] {
        assert_eq!(of_kind(&shown, kind).len(), 1, "{kind} in {shown:#?}");
    }
    for kind in ["request_body", "response_body"] {
        assert_eq!(of_kind(&shown, kind).len(), 0, "{kind} in {shown:#?}");
    }
    let [entries, bytes_in, bytes_out] = gaps(&shown);
    assert!(entries >= 2);
    assert_eq!(bytes_in, r#"{"mail":"[EMAIL]"}"#.len() as u64, "in the masked form");
    assert_eq!(bytes_out, shed.body.len() as u64);
    let left = "weirgate_record_days_left{until=\"disk\"}";
    eventually("no room is no day", PATIENCE, || (small.gauge(left) == "0.000000").then_some(()));
    small.disk.free();
    eventually("bodies are recorded again", PATIENCE, || {
        let answer = small.ask();
        let shown = small.home.show(&small.data(), &answer.id);
        (gaps(&shown) == [0; 3] && !of_kind(&shown, "response_body").is_empty()).then_some(())
    });
    let counted = small.metric("weirgate_unrecorded_bytes_total");
    let verified = small.stop();
    assert_eq!(verified["gap_bytes"], counted);
    assert!(verified["gaps"].as_u64() > Some(0));
}

#[test]
fn with_drop_work_goes_on_whatever_is_full_and_the_gap_is_told_when_there_is_room() {
    let Some(mut small) = Small::start("drop") else { return };
    assert_eq!(small.ask().status, 200);
    assert!(small.disk.fill() > 0);
    // Past the end of the segment and of the ring: not even heads have room then.
    let mut dropped = None;
    eventually("heads are dropped, too", PATIENCE * 4, || {
        let mut caller = Caller::open(small.address).unwrap();
        for _ in 0..200 {
            let path = format!("/plain/empty{}", "x".repeat(6_000));
            caller.send("GET", &path, &small.token, None).unwrap();
            let answer = caller.answer().unwrap();
            assert_eq!(answer.status, 200, "work goes on");
            dropped = Some(answer.id);
        }
        let entries = small.metric("weirgate_unrecorded_entries_total");
        let bytes = small.metric("weirgate_unrecorded_bytes_total");
        (entries > 0 && bytes == 0).then_some(())
    });
    let last = small.ask();
    assert_eq!(last.status, 200);
    let shown = small.home.show(&small.data(), &last.id);
    // Gaps and ends may use the last of the ring.
    let told = shown.iter().all(|entry| entry["kind"] == "gap" || entry["kind"] == "close");
    assert!(told, "nothing else has room: {shown:#?}");
    small.disk.free();
    eventually("the gap is told", PATIENCE, || {
        let shown = small.home.show(&small.data(), &last.id);
        (gaps(&shown)[2] == last.body.len() as u64).then_some(())
    });
    let head = small.home.show(&small.data(), &dropped.unwrap());
    assert!(gaps(&head)[0] > 0, "{head:#?}");
    eventually("the record is whole again", PATIENCE, || {
        let answer = small.ask();
        assert_eq!(answer.status, 200);
        let shown = small.home.show(&small.data(), &answer.id);
        (gaps(&shown) == [0; 3] && !of_kind(&shown, "close").is_empty()).then_some(())
    });
    let counted = small.metric("weirgate_unrecorded_entries_total");
    let verified = small.stop();
    assert_eq!(verified["gap_entries"], counted, "every entry that was dropped is in a gap");
}
