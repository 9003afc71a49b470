//! Is every byte that a caller received in the record, whenever the program is killed?

use crate::kit::upstream::{answer, chunk, chunked_head};
use crate::kit::{Caller, Home, Random, Served, Upstream, eventually};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weirgate::cli::sessions;
use weirgate::record::Kind;

/// What callers got, by request id, and what the upstream heard, by path.
#[derive(Default)]
struct Seen {
    bodies: Mutex<BTreeMap<String, Vec<u8>>>,
    paths: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Answers of which a kill left a part only.
    cut: AtomicU64,
}

/// What the record tells of one exchange.
#[derive(Default)]
struct Kept {
    head: String,
    asked: Vec<u8>,
    answered: Vec<u8>,
}

/// Keeps the folder of a failed run, which no seed brings back: kills fall where the clock says.
struct Evidence<'h> {
    home: &'h Home,
    seed: u64,
}

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kills-{}", self.seed));
            let copied = Command::new("cp").arg("-a").arg(self.home.path(".")).arg(&to).status();
            println!("the record of this run: {} ({copied:?})", to.display());
        }
    }
}

/// Calls until the connection is gone; each call's body is kept as far as it came.
fn call(address: SocketAddr, token: &str, stop: &AtomicBool, serial: &AtomicU64, seen: &Seen) {
    let Ok(mut caller) = Caller::open(address) else { return };
    while !stop.load(Ordering::Acquire) {
        let path = format!("/masked/{}", serial.fetch_add(1, Ordering::Relaxed));
        let body = format!(r#"{{"mail":"a@b.example","path":"{path}"}}"#);
        let body = Some(("application/json", body.as_bytes()));
        if caller.send("POST", &path, token, body).is_err() {
            return;
        }
        let Ok(head) = caller.head() else { return };
        assert_eq!(head.status, 200, "{}", head.text);
        let mut got = Vec::new();
        let ended = caller.body(&head, &mut got);
        seen.bodies.lock().unwrap().insert(head.id.clone(), got);
        if ended.is_err() {
            seen.cut.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

/// The record by request id.
fn recorded(home: &Home) -> BTreeMap<String, Kept> {
    let mut all = BTreeMap::<String, Kept>::new();
    let bad = sessions::each_whole(&home.data(), |entry| {
        let kept = all.entry(entry.meta.exchange.to_string()).or_default();
        match entry.meta.kind {
            Kind::RequestHead => kept.head = String::from_utf8_lossy(&entry.body).into_owned(),
            Kind::RequestBody => kept.asked.extend_from_slice(&entry.body),
            Kind::ResponseBody => kept.answered.extend_from_slice(&entry.body),
            _ => {}
        }
    });
    assert_eq!(bad.unwrap(), Vec::<String>::new());
    all
}

#[test]
fn kill_at_any_instant_loses_nothing_that_was_released_or_admitted() {
    let kills = std::env::var("WEIRGATE_KILLS").ok();
    let kills = kills.map_or(30, |text| text.parse().expect("WEIRGATE_KILLS is a number"));
    let home = Home::new();
    let config = home.config();
    kills_lose_nothing(&home, |to| home.configure(to, ""), kills, || Served::start(&config, &[]));
}

/// Starts the program, calls it and kills it, over and over; then looks for every byte that a
/// caller or the upstream got.
pub(crate) fn kills_lose_nothing(
    home: &Home,
    configure: impl Fn(SocketAddr),
    kills: u32,
    start: impl Fn() -> Served,
) {
    let seed = Random::seed("WEIRGATE_SEED");
    println!("WEIRGATE_SEED={seed} WEIRGATE_KILLS={kills}");
    let _evidence = Evidence { home, seed };
    let mut random = Random::new(seed);
    let seen = Arc::new(Seen::default());
    let heard = Arc::clone(&seen);
    let upstream = Upstream::start(move |request, stream| {
        let mut paths = heard.paths.lock().unwrap();
        paths.insert(request.path.clone(), request.body.clone());
        drop(paths);
        if request.path.ends_with('0') {
            let text = format!("{} for bob@corp.example.com; ", request.path).repeat(2_000);
            return answer(stream, "text/plain", text.as_bytes());
        }
        chunked_head(stream, "text/plain")?;
        for n in 0..12 {
            let text = format!("{} part {n} for bob{n}@corp.example.com and more; ", request.path);
            chunk(stream, text.as_bytes())?;
        }
        chunk(stream, b"")
    });
    configure(upstream.address);
    let serial = Arc::new(AtomicU64::new(0));
    let mut calls = 0;
    let mut starts = 0;
    for round in 0..kills {
        if round > 0 && round % 50 == 0 {
            println!("{round} kills of {kills}, {calls} answers");
        }
        if round % 5 == 4 {
            // It dies while it starts, perhaps in the middle of closing what the last one left.
            let served = start();
            std::thread::sleep(Duration::from_micros(random.below(400_000)));
            served.kill();
            starts += 1;
            continue;
        }
        let mut served = start();
        let address = served.address("api");
        // Of each round: a night is longer than a token lives.
        let token = home.reader("ana");
        home.verify(&home.data());
        let stop = Arc::new(AtomicBool::new(false));
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let (token, stop) = (token.clone(), Arc::clone(&stop));
                let (serial, seen) = (Arc::clone(&serial), Arc::clone(&seen));
                std::thread::spawn(move || call(address, &token, &stop, &serial, &seen))
            })
            .collect();
        let before = seen.bodies.lock().unwrap().len();
        eventually("traffic", Duration::from_secs(20), || {
            (seen.bodies.lock().unwrap().len() > before).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        served.kill();
        stop.store(true, Ordering::Release);
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        calls = seen.bodies.lock().unwrap().len();
    }
    // One more start drains what the last kill left.
    let mut served = start();
    served.address("api");
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    home.verify(&home.data());
    let kept = recorded(home);
    assert!(calls > kills as usize, "there was traffic");
    let bodies = seen.bodies.lock().unwrap();
    for (id, got) in bodies.iter() {
        let answered = kept.get(id).map(|kept| kept.answered.as_slice()).unwrap_or_default();
        assert!(
            answered.starts_with(got),
            "{id}: the caller got {} bytes, {} are kept",
            got.len(),
            answered.len()
        );
        let bare = memchr::memmem::find(answered, b"@corp.example.com");
        assert!(bare.is_none(), "{id}: masked");
    }
    let by_line: BTreeMap<&str, &Kept> =
        kept.values().filter_map(|kept| Some((kept.head.lines().next()?, kept))).collect();
    let paths = seen.paths.lock().unwrap();
    for (path, body) in paths.iter() {
        let kept = by_line.get(format!("POST {path} HTTP/1.1").as_str());
        let kept = kept.unwrap_or_else(|| panic!("{path} went up unrecorded"));
        // The record has the masked form of what went up as it was.
        let heard = String::from_utf8_lossy(body).replace("a@b.example", "[EMAIL]");
        let kept = String::from_utf8_lossy(&kept.asked);
        assert_eq!(kept, heard, "{path}: its body went up unrecorded");
    }
    // scripts/nightly.sh looks for this line.
    println!(
        "kills: {kills}, {starts} of them during a start; checked in the record: {} answers that callers \
         got, {} of them cut short, {} bytes; {} requests that the upstream got; none is missing",
        bodies.len(),
        seen.cut.load(Ordering::Relaxed),
        bodies.values().map(Vec::len).sum::<usize>(),
        paths.len(),
    );
}
