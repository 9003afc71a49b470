//! Files that are replaced while the gateway runs.

use crate::certificates::{Tls, connect, issue};
use crate::kit::home::KEY;
use crate::kit::{Answer, Caller, Home, Upstream, eventually};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

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
