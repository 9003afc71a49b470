//! Does a byte go before its record is on the disk, where a rule says that it may not?

use crate::kit::upstream::answer;
use crate::kit::{Caller, Home, PATIENCE, Served, Upstream, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;
use weirgate::cli::sessions;
use weirgate::cli::source::System;
use weirgate::control::drain::{Files, Storage};
use weirgate::gateway::Gateway;
use weirgate::record::{Flags, Kind};

/// Readers may read `plain` when the record of it is on the disk, and `masked` at once.
const POLICY: &str = r#"
[[rule]]
id = "careful"
effect = "allow"
who = { groups = ["readers"] }
what = { resource = ["plain"] }
then = { durable = "each" }

[[rule]]
id = "quick"
effect = "allow"
who = { groups = ["readers"] }
what = { resource = ["masked"] }
"#;

/// A disk whose writes wait for a permit each, where it has a count of them.
#[derive(Debug, Default)]
struct Slow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    permits: Option<u64>,
    done: u64,
}

impl Slow {
    fn permit(&self, permits: Option<u64>) {
        self.state.lock().unwrap().permits = permits;
        self.changed.notify_all();
    }

    fn done(&self) -> u64 {
        self.state.lock().unwrap().done
    }
}

impl Storage for Slow {
    fn write(&self, file: &File, direct: bool, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        while state.permits == Some(0) {
            state = self.changed.wait(state).unwrap();
        }
        state.permits = state.permits.map(|permits| permits - 1);
        drop(state);
        Files.write(file, direct, bytes, offset)?;
        self.state.lock().unwrap().done += 1;
        Ok(())
    }
}

struct Setup {
    home: Home,
    disk: Arc<Slow>,
    gateway: Gateway,
    heard: Arc<Mutex<Vec<String>>>,
    token: String,
    _upstream: Upstream,
}

impl Setup {
    fn start() -> Self {
        let home = Home::new();
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let hears = Arc::clone(&heard);
        let upstream = Upstream::start(move |request, stream| {
            hears.lock().unwrap().push(request.path.clone());
            answer(stream, "text/plain", b"what the upstream said")
        });
        home.write("policy.toml", POLICY);
        home.configure(upstream.address, "");
        let text = std::fs::read_to_string(home.config()).unwrap();
        home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
        let disk = Arc::new(Slow::default());
        let storage: Arc<dyn Storage> = disk.clone();
        let started = Gateway::start_on(home.load(), Arc::new(System), storage);
        let gateway = started.unwrap_or_else(|error| panic!("{error}"));
        let token = home.reader("ana");
        Self { home, disk, gateway, heard, token, _upstream: upstream }
    }

    fn ask(&self, path: &str) -> Caller<std::net::TcpStream> {
        let mut caller = Caller::open(self.gateway.address("api").unwrap()).unwrap();
        caller.send("GET", path, &self.token, None).unwrap();
        caller
    }

    fn hears(&self, path: &str) -> bool {
        self.heard.lock().unwrap().iter().any(|heard| heard.starts_with(path))
    }

    /// How many entries of a kind are recorded, on the disk or in the ring.
    fn recorded(&self, kind: Kind, text: &str) -> usize {
        let mut count = 0;
        sessions::each_whole(&self.home.data(), |entry| {
            let has = memchr::memmem::find(&entry.body, text.as_bytes()).is_some();
            count += usize::from(entry.meta.kind == kind && has);
        })
        .unwrap();
        count
    }
}

#[test]
fn nothing_goes_up_or_back_before_the_write_is_done_and_nobody_else_waits() {
    let setup = Setup::start();
    assert_eq!(setup.ask("/plain/first").answer().unwrap().status, 200);
    setup.disk.permit(Some(0));
    let mut careful = setup.ask("/plain/careful");
    eventually("the request is recorded", PATIENCE, || {
        (setup.recorded(Kind::RequestHead, "GET /careful ") == 1).then_some(())
    });
    // The one worker is not blocked by it.
    assert_eq!(setup.ask("/masked/quick").answer().unwrap().status, 200);
    assert!(setup.hears("/quick") && !setup.hears("/careful"), "it went up too early");
    // One write: the request may go. Its answer waits for the next.
    setup.disk.permit(Some(1));
    eventually("the answer is recorded", PATIENCE, || {
        (setup.hears("/careful") && setup.recorded(Kind::ResponseBody, "what the") == 3)
            .then_some(())
    });
    assert_eq!(setup.ask("/masked/again").answer().unwrap().status, 200);
    careful.stream.set_nonblocking(true).unwrap();
    let came = careful.stream.read(&mut [0; 1]);
    assert_eq!(came.unwrap_err().kind(), io::ErrorKind::WouldBlock, "it came back too early");
    careful.stream.set_nonblocking(false).unwrap();
    setup.disk.permit(None);
    assert_eq!(careful.answer().unwrap().text(), "what the upstream said");
    let mut flags: BTreeMap<u128, BTreeSet<bool>> = BTreeMap::new();
    sessions::each_whole(&setup.home.data(), |entry| {
        let durable = entry.meta.flags.has(Flags::DURABLE);
        flags.entry(entry.meta.exchange.0).or_default().insert(durable);
    })
    .unwrap();
    let mut kinds: Vec<Vec<bool>> = flags.into_values().map(Vec::from_iter).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [[false], [false], [true], [true]], "the record says which were careful");
    assert!(setup.gateway.stop());
    setup.home.verify(&setup.home.data());
}

#[test]
fn exchanges_that_wait_share_one_write() {
    const MANY: usize = 16;
    let setup = Setup::start();
    setup.disk.permit(Some(0));
    let mut callers: Vec<_> = (0..MANY).map(|n| setup.ask(&format!("/plain/many-{n}"))).collect();
    eventually("all are recorded", PATIENCE, || {
        (setup.recorded(Kind::RequestHead, "GET /many-") == MANY).then_some(())
    });
    assert!(!setup.hears("/many-"));
    // One write is under way with what came first, one takes all the rest.
    let before = setup.disk.done();
    setup.disk.permit(Some(2));
    eventually("all went up", PATIENCE, || {
        (setup.heard.lock().unwrap().len() == MANY).then_some(())
    });
    assert!(setup.disk.done() - before <= 2);
    setup.disk.permit(None);
    for caller in &mut callers {
        assert_eq!(caller.answer().unwrap().status, 200);
    }
    assert!(setup.gateway.stop());
    setup.home.verify(&setup.home.data());
}

#[test]
fn a_careful_caller_is_served_at_the_pace_of_the_disk_and_not_of_the_tick() {
    let setup = Setup::start();
    let mut caller = Caller::open(setup.gateway.address("api").unwrap()).unwrap();
    let mut took = Vec::new();
    for n in 0..200 {
        let start = Instant::now();
        caller.send("GET", &format!("/plain/{n}"), &setup.token, None).unwrap();
        let answer = caller.answer().unwrap();
        assert_eq!((answer.status, answer.text().len()), (200, 22));
        took.push(start.elapsed());
    }
    took.sort_unstable();
    // For whoever looks: a machine decides it, not the test.
    println!("careful exchanges: median {:?}, slowest {:?}", took[100], took[199]);
    assert!(setup.gateway.stop());
    setup.home.verify(&setup.home.data());
}

#[test]
fn the_program_serves_careful_callers_on_both_drivers() {
    let home = Home::new();
    let upstream = Upstream::echo();
    home.write("policy.toml", POLICY);
    home.configure(upstream.address, "");
    let token = home.reader("ana");
    for environment in [vec![("WEIRGATE_FORCE_EPOLL", "1")], vec![]] {
        let mut served = Served::start(&home.config(), &environment);
        let address = served.address("api");
        let mut caller = Caller::open(address).unwrap();
        for n in 0..50 {
            let path = format!("/plain/{n}");
            caller.send("POST", &path, &token, Some(("text/plain", &[b'x'; 100_000]))).unwrap();
            let answer = caller.answer().unwrap();
            assert_eq!(answer.status, 200);
            assert!(answer.text().ends_with(&format!(" /{n}")), "{}", answer.text());
        }
        served.signal("TERM");
        assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    }
    home.verify(&home.data());
}
