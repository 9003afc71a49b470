//! Files that are replaced while the gateway runs.

use crate::certificates::{Tls, connect, issue};
use crate::kit::home::KEY;
use crate::kit::{Answer, Caller, Home, Served, Upstream, eventually, get};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weirgate::cli::source::System;
use weirgate::config::Source;

const SOON: Duration = Duration::from_secs(5);

fn ask(address: SocketAddr, ca: &Path, token: &str) -> (Answer, Vec<u8>) {
    let mut caller: Caller<Tls> = Caller::over(connect(address, ca, None).unwrap());
    caller.send("GET", "/plain/x", token, None).unwrap();
    let answer = caller.answer().unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let shown = caller.stream.conn.peer_certificates().unwrap()[0].to_vec();
    (answer, shown)
}

/// Whether the upstream heard this key; see [`Upstream::echo`].
fn has(answer: &Answer, key: &str) -> bool {
    let backward: String = key.chars().rev().collect();
    answer.text().starts_with(&format!("{backward} "))
}

#[test]
fn a_renewed_certificate_and_a_renewed_secret_are_in_use_within_seconds() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let certs = home.path("certs");
    let made = issue(&certs, None);
    let more = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
                tls = { cert = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    home.configure(upstream.address, more);
    let gateway = home.start();
    let address = gateway.address("tls").unwrap();
    let token = home.reader("ana");
    let mut kept = Caller::over(connect(address, &made.ca, None).unwrap());
    let old = CertificateDer::from_pem_file(&made.cert).unwrap().to_vec();
    let (answer, shown) = ask(address, &made.ca, &token);
    assert_eq!((shown, has(&answer, KEY)), (old.clone(), true), "{}", answer.text());

    let new = CertificateDer::from_pem_file(issue(&certs, None).cert).unwrap().to_vec();
    assert_ne!(old, new);
    eventually("the renewed certificate", SOON, || {
        let (_, shown) = ask(address, &made.ca, &token);
        assert!(shown == old || shown == new);
        (shown == new).then_some(())
    });
    home.write("upstream.key", "another-key-of-the-upstream\n");
    eventually("the renewed secret", SOON, || {
        let (answer, _) = ask(address, &made.ca, &token);
        assert!(has(&answer, KEY) || has(&answer, "another-key-of-the-upstream"), "{answer:?}");
        has(&answer, "another-key-of-the-upstream").then_some(())
    });
    // A connection of the old certificate goes on, with the secret that is in use.
    kept.send("GET", "/plain/x", &token, None).unwrap();
    assert!(has(&kept.answer().unwrap(), "another-key-of-the-upstream"));

    // What cannot be used changes nothing; when it is right again, it is taken.
    let good = std::fs::read_to_string(certs.join("cert.pem")).unwrap();
    std::fs::write(certs.join("cert.pem"), "no certificate").unwrap();
    home.write("upstream.key", "short");
    std::thread::sleep(Duration::from_millis(1_200));
    let (answer, shown) = ask(address, &made.ca, &token);
    assert_eq!(shown, new);
    assert!(has(&answer, "another-key-of-the-upstream"));
    std::fs::write(certs.join("cert.pem"), good).unwrap();
    home.write("upstream.key", "the-third-key-of-the-upstream");
    eventually("the third secret", SOON, || {
        has(&ask(address, &made.ca, &token).0, "the-third-key-of-the-upstream").then_some(())
    });
    assert!(gateway.stop());
    home.verify(&home.data());
}

/// Masks e-mail addresses by the keyed hash of what they were.
fn hashing(home: &Home, upstream: &Upstream) {
    let more = "key = \"file:mask.key\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
                token = \"file:admin.token\"\n";
    home.write("mask.key", "the-first-key-of-the-mask");
    home.write("admin.token", "the-first-admin-token");
    home.configure(upstream.address, more);
    let text = std::fs::read_to_string(home.config()).unwrap();
    let hash = "detect = [\"email\"]\noperator = { default = \"hash\" }";
    home.write("gateway.toml", &text.replace("detect = [\"email\"]", hash));
}

#[test]
fn a_renewed_mask_key_and_admin_token_are_in_use_and_bad_ones_are_not() {
    let home = Home::new();
    let upstream = Upstream::start(|_, stream| {
        crate::kit::upstream::answer(stream, "text/plain", b"write to ana@example.com today")
    });
    hashing(&home, &upstream);
    let mut served = Served::start(&home.config(), &[]);
    let address = served.address("api");
    let admin = served.says("admin surface")["address"].as_str().unwrap().parse().unwrap();
    let token = home.reader("ana");
    // One connection from the first key to the last.
    let mut kept = Caller::open(address).unwrap();
    let mut ask = || {
        kept.send("GET", "/masked/x", &token, None).unwrap();
        let answer = kept.answer().unwrap();
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("ana@example.com"), "{}", answer.text());
        answer.text()
    };
    let opens = |token: &str| get(admin, "/api/v1/resources", token).unwrap().status == 200;

    let first = ask();
    assert_eq!(first, ask(), "the same value has the same hash");
    assert!(opens("the-first-admin-token") && !opens("the-second-admin-token"));
    home.write("mask.key", "the-second-key-of-the-mask");
    let second = eventually("the hash of the second key", SOON, || {
        let answer = ask();
        (answer != first).then_some(answer)
    });
    home.write("admin.token", "the-second-admin-token");
    eventually("the second token", SOON, || opens("the-second-admin-token").then_some(()));
    assert!(!opens("the-first-admin-token"), "the one before is out of use");
    assert_eq!(ask(), second);

    // What cannot be used changes nothing and is told, file and reason.
    home.write("mask.key", "short");
    let said = served.logged("the reason", |fields| {
        let text = fields["message"].as_str().unwrap_or_default();
        text.contains("cannot be used") && text.contains("mask.key")
    });
    assert!(said["message"].as_str().unwrap().contains("5 bytes"), "{said}");
    assert!(!said.to_string().contains("short"), "{said}");
    home.write("admin.token", "tiny");
    served.logged("the other reason", |fields| {
        let text = fields["message"].as_str().unwrap_or_default();
        text.contains("cannot be used") && text.contains("admin.token")
    });
    assert_eq!(ask(), second);
    assert!(opens("the-second-admin-token") && !opens("tiny"));

    home.write("admin.token", "the-third-admin-token");
    home.write("mask.key", "the-first-key-of-the-mask");
    eventually("the first key again", SOON, || (ask() == first).then_some(()));
    eventually("the third token", SOON, || opens("the-third-admin-token").then_some(()));
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    home.verify(&home.data());
}

#[test]
fn a_renewed_certificate_does_not_wait_for_a_bad_secret() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let certs = home.path("certs");
    let made = issue(&certs, None);
    let more = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
                tls = { cert = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    home.configure(upstream.address, more);
    let gateway = home.start();
    let address = gateway.address("tls").unwrap();
    let token = home.reader("ana");
    home.write("upstream.key", "short");
    let new = CertificateDer::from_pem_file(issue(&certs, None).cert).unwrap().to_vec();
    eventually("the renewed certificate", SOON, || {
        let (answer, shown) = ask(address, &made.ca, &token);
        assert!(has(&answer, KEY));
        (shown == new).then_some(())
    });
    assert!(gateway.stop());
}

/// The files of this machine; the upstream's key is replaced as soon as it was read once, with one
/// of the same length and the same time.
struct Hasty {
    home: Arc<Home>,
    done: AtomicBool,
}

const NEXT: &str = "the-replaced-key";

impl Source for Hasty {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = System.read(path)?;
        if path.ends_with("upstream.key") && !self.done.swap(true, Ordering::SeqCst) {
            let time = std::fs::metadata(path)?.modified()?;
            self.home.write("upstream.key", NEXT);
            std::fs::File::options().write(true).open(path)?.set_modified(time)?;
        }
        Ok(found)
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
fn a_secret_that_is_replaced_while_the_start_reads_it_is_in_use_soon() {
    assert_eq!(NEXT.len(), KEY.len());
    let (home, upstream) = (Arc::new(Home::new()), Upstream::echo());
    home.configure(upstream.address, "");
    let source = Hasty { home: Arc::clone(&home), done: AtomicBool::new(false) };
    let gateway = home.start_from(Arc::new(source));
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    eventually("the key that took the place of the one that was read", SOON, || {
        let answer = get(address, "/plain/x", &token).unwrap();
        assert!(has(&answer, KEY) || has(&answer, NEXT), "{answer:?}");
        has(&answer, NEXT).then_some(())
    });
    assert!(gateway.stop());
}

#[test]
fn a_key_set_that_is_replaced_as_soon_as_the_start_has_read_it_is_in_use_soon() {
    let (mut home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "");
    let old = home.reader("ana");
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    home.rotate();
    let new = home.reader("ana");
    // The file is looked at every five seconds.
    eventually("the key set that took the place of the other", 3 * SOON, || {
        (get(address, "/plain/x", &new).unwrap().status == 200).then_some(())
    });
    assert_eq!(get(address, "/plain/x", &old).unwrap().status, 401);
    assert!(gateway.stop());
}
