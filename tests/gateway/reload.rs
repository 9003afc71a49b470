//! A config that changes under load.

use crate::kit::home::POLICY;
use crate::kit::{Caller, Home, PATIENCE, Served, Upstream, get};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use weirgate::cli::source::System;
use weirgate::config::Source;

const DOOR: &str = r#"
[[rule]]
id = "door"
effect = "deny"
what = { resource = ["plain"], path = ["/door"] }
"#;

#[test]
fn a_new_policy_holds_from_the_next_request_on_and_no_request_fails() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (stop, count, token) = (&stop, &count, &token);
            scope.spawn(move || {
                let mut caller = Caller::open(address).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let path = format!("/plain/open/{thread}");
                    caller.send("GET", &path, token, None).unwrap();
                    let answer = caller.answer().unwrap();
                    assert_eq!(answer.status, 200, "{answer:?}");
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut kept = Caller::open(address).unwrap();
        for round in 0..20 {
            let shut = round % 2 == 0;
            home.write("policy.toml", &format!("{POLICY}{}", if shut { DOOR } else { "" }));
            gateway.reload(home.load()).unwrap();
            let expected = if shut { 403 } else { 200 };
            kept.send("GET", "/plain/door", &token, None).unwrap();
            assert_eq!(kept.answer().unwrap().status, expected, "an old connection, {round}");
            assert_eq!(get(address, "/plain/door", &token).unwrap().status, expected, "{round}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(count.load(Ordering::Relaxed) > 0);
    assert!(gateway.stop());
    home.verify(&home.data());
}

#[test]
fn what_is_wrong_with_a_new_config_keeps_the_old_one() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let good = std::fs::read_to_string(home.config()).unwrap();
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let opened =
        POLICY.replace("id = \"closed\"\neffect = \"deny\"", "id = \"x\"\neffect = \"allow\"");
    home.write("policy.toml", &opened);
    let refused = [
        // A secret that is not there, one that others can read, and what takes a restart.
        good.replace("upstream.key", "nowhere.key"),
        good.replace("upstream.key", "open.key"),
        good.replace("name = \"api\"", "name = \"other\""),
        good.replace("workers = 2", "workers = 1"),
        good.replace("issuer.test", "other.test"),
    ];
    std::fs::write(home.path("open.key"), "long enough").unwrap();
    for text in refused {
        assert_ne!(text, good);
        home.write("gateway.toml", &text);
        assert!(gateway.reload(home.load()).is_err(), "{text}");
        assert_eq!(get(address, "/plain/closed", &token).unwrap().status, 403);
        assert_eq!(get(address, "/plain/open", &token).unwrap().status, 200);
    }
    home.write("gateway.toml", &good);
    gateway.reload(home.load()).unwrap();
    assert_eq!(get(address, "/plain/closed", &token).unwrap().status, 200);
    assert!(gateway.stop());
}

#[test]
fn the_program_takes_a_good_file_at_sighup_and_keeps_the_old_one_at_a_bad_one() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let token = home.reader("ana");
    let mut served = Served::start(&home.config(), &[]);
    let address = served.address("api");
    home.write("policy.toml", "[[rule]]\nid = 7\n");
    served.signal("HUP");
    served.says("the old config stays in force");
    assert_eq!(get(address, "/plain/door", &token).unwrap().status, 200);
    home.write("policy.toml", &format!("{POLICY}{DOOR}"));
    served.signal("HUP");
    served.says("config taken over");
    assert_eq!(get(address, "/plain/door", &token).unwrap().status, 403);
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
}

/// The files of this machine; but control, when it reads a secret again, says so and waits.
struct Paused {
    reads: Mutex<mpsc::Sender<()>>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Source for Paused {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path.ends_with("upstream.key") && std::thread::current().name() == Some("control") {
            let _ = self.reads.lock().unwrap().send(());
            let _ = self.go.lock().unwrap().recv_timeout(PATIENCE);
        }
        System.read(path)
    }

    fn exists(&self, path: &Path) -> bool {
        System.exists(path)
    }

    fn mode(&self, path: &Path) -> Option<u32> {
        System.mode(path)
    }

    fn env(&self, name: &str) -> Option<String> {
        System.env(name)
    }
}

#[test]
fn a_secret_that_is_read_again_during_a_reload_does_not_bring_the_old_policy_back() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let ((reads, reading), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let gateway =
        home.start_from(Arc::new(Paused { reads: Mutex::new(reads), go: Mutex::new(wait) }));
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    assert_eq!(get(address, "/plain/door", &token).unwrap().status, 200);
    home.write("upstream.key", "another-key-of-the-upstream");
    reading.recv_timeout(PATIENCE).unwrap();
    // Control has the old config in hand and is not done with it.
    home.write("policy.toml", &format!("{POLICY}{DOOR}"));
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| gateway.reload(home.load()));
        // Time for a reload that does not wait to be over; one that waits goes on after `go`.
        let until = Instant::now() + Duration::from_secs(1);
        while !reload.is_finished() && Instant::now() < until {
            std::thread::yield_now();
        }
        // Reads after this one do not wait.
        drop(go);
        reload.join().unwrap().unwrap();
    });
    // Control looks at the files twice in that time.
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        assert_eq!(get(address, "/plain/door", &token).unwrap().status, 403);
    }
    assert!(gateway.stop());
}

#[test]
fn a_reload_that_names_another_admin_token_shuts_the_old_one_out() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.write("one.token", "the-first-admin-token");
    home.write("two.token", "the-second-admin-token");
    let admin = |token: &str| format!("[admin]\naddress = \"127.0.0.1:0\"\n{token}");
    home.configure(upstream.address, &admin("token = \"file:one.token\"\n"));
    let gateway = home.start();
    let address = gateway.admin_address().unwrap();
    let opens = |token: &str| get(address, "/api/v1/resources", token).unwrap().status == 200;
    assert!(opens("the-first-admin-token") && !opens("the-second-admin-token"));
    home.configure(upstream.address, &admin("token = \"file:two.token\"\n"));
    gateway.reload(home.load()).unwrap();
    assert!(!opens("the-first-admin-token") && opens("the-second-admin-token"));
    home.configure(upstream.address, &admin(""));
    gateway.reload(home.load()).unwrap();
    assert!(!opens("the-second-admin-token"), "without a token nothing is open");
    assert!(gateway.stop());
}
