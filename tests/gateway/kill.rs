//! Is every byte that a caller received in the record, whenever the program is killed?

use crate::kit::upstream::{chunk, chunked_head};
use crate::kit::{Caller, Home, Random, Served, Upstream, eventually};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weirgate::cli::sessions;
use weirgate::record::Kind;

/// What callers got, by request id, and what the upstream heard, by path.
#[derive(Default)]
struct Seen {
    bodies: Mutex<BTreeMap<String, Vec<u8>>>,
    paths: Mutex<Vec<String>>,
}

/// Calls until the connection is gone; each call's body is kept as far as it came.
fn call(address: SocketAddr, token: &str, stop: &AtomicBool, serial: &AtomicU64, seen: &Seen) {
    let Ok(mut caller) = Caller::open(address) else { return };
    while !stop.load(Ordering::Acquire) {
        let path = format!("/masked/{}", serial.fetch_add(1, Ordering::Relaxed));
        let body: Option<(&str, &[u8])> = Some(("application/json", br#"{"mail":"a@b.example"}"#));
        if caller.send("POST", &path, token, body).is_err() {
            return;
        }
        let Ok(head) = caller.head() else { return };
        assert_eq!(head.status, 200, "{}", head.text);
        let mut got = Vec::new();
        let ended = caller.body(&head, &mut got);
        seen.bodies.lock().unwrap().insert(head.id.clone(), got);
        if ended.is_err() {
            return;
        }
    }
}

/// Recorded answers by request id, and recorded request heads.
fn recorded(home: &Home) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (mut bodies, mut heads) = (BTreeMap::<String, Vec<u8>>::new(), Vec::new());
    sessions::each_whole(&home.data(), |entry| {
        let id = entry.meta.exchange.to_string();
        match entry.meta.kind {
            Kind::ResponseBody => bodies.entry(id).or_default().extend_from_slice(&entry.body),
            Kind::RequestHead => heads.push(String::from_utf8_lossy(&entry.body).into_owned()),
            _ => {}
        }
    })
    .unwrap();
    (bodies, heads)
}

#[test]
fn kill_at_any_instant_loses_nothing_that_was_released_or_admitted() {
    let seed = Random::seed("WEIRGATE_SEED");
    let kills = std::env::var("WEIRGATE_KILLS").ok().and_then(|text| text.parse().ok());
    let kills: u32 = kills.unwrap_or(30);
    println!("WEIRGATE_SEED={seed} WEIRGATE_KILLS={kills}");
    let mut random = Random::new(seed);
    let (home, seen) = (Home::new(), Arc::new(Seen::default()));
    let heard = Arc::clone(&seen);
    let upstream = Upstream::start(move |request, stream| {
        heard.paths.lock().unwrap().push(request.path.clone());
        chunked_head(stream, "text/plain")?;
        for n in 0..12 {
            let text = format!("{} part {n} for bob{n}@corp.example.com and more; ", request.path);
            chunk(stream, text.as_bytes())?;
        }
        chunk(stream, b"")
    });
    home.configure(upstream.address, "");
    let token = home.reader("ana");
    let serial = Arc::new(AtomicU64::new(0));
    let mut calls = 0;
    for _ in 0..kills {
        let mut served = Served::start(&home.config(), &[]);
        let address = served.address("api");
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
    let mut served = Served::start(&home.config(), &[]);
    served.address("api");
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    home.verify(&home.data());
    let (bodies, heads) = recorded(&home);
    assert!(calls > kills as usize, "there was traffic");
    for (id, got) in seen.bodies.lock().unwrap().iter() {
        let kept = bodies.get(id).map(Vec::as_slice).unwrap_or_default();
        assert!(
            kept.starts_with(got),
            "{id}: the caller got {} bytes, {} are kept",
            got.len(),
            kept.len()
        );
        assert!(memchr::memmem::find(kept, b"@corp.example.com").is_none(), "{id}: masked");
    }
    for path in seen.paths.lock().unwrap().iter() {
        let line = format!("POST {path} HTTP/1.1\r\n");
        assert!(heads.iter().any(|head| head.starts_with(&line)), "{path} went up unrecorded");
    }
}
