//! What one address may ask of a gateway before it is asked who it is.

use crate::certificates::{connect, issue};
use crate::kit::{Caller, Home, PATIENCE, Scrape, Upstream, eventually, get};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;
use weirgate::gateway::Gateway;

/// One worker, so that all connections meet the same budgets.
fn start(home: &Home, upstream: &Upstream, limits: &str) -> (Gateway, SocketAddr) {
    let more = format!(
        "[limits]\n{limits}\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
         tls = {{ cert = \"certs/cert.pem\", key = \"certs/key.pem\" }}\n"
    );
    home.configure(upstream.address, &more);
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
    let gateway = home.start();
    let admin = gateway.admin_address().unwrap();
    (gateway, admin)
}

#[test]
fn a_flood_of_bad_tokens_is_told_to_wait_and_known_callers_are_served() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    issue(&home.path("certs"), None);
    let limits = "address_failures_burst = 8\naddress_failures_per_s = 1";
    let (gateway, admin) = start(&home, &upstream, limits);
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    assert_eq!(get(address, "/plain/one", &token).unwrap().status, 200);

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (mut statuses, start) = (Vec::new(), Instant::now());
    for number in 0..40 {
        let forged = format!("{signed}.{number:08}{}", &signature[8..]);
        let mut caller = Caller::open(address).unwrap();
        caller.send("GET", "/plain/one", &forged, None).unwrap();
        let head = caller.head().unwrap();
        if head.status == 429 {
            assert!(head.text.contains("\r\nretry-after: 1\r\n"), "{}", head.text);
            let mut body = Vec::new();
            caller.body(&head, &mut body).unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["type"], "https://weirgate.dev/problems/too-many-failures");
            assert_eq!(problem["request_id"], head.id);
        }
        statuses.push(head.status);
    }
    assert_eq!(statuses[..8], [401; 8]);
    let told_to_wait = statuses.iter().filter(|status| **status == 429).count();
    // One comes free each second, however long this takes.
    let free = 8 + start.elapsed().as_secs() as usize + 1;
    assert!(told_to_wait > 0 && told_to_wait + free >= 40, "{statuses:?}");
    assert_eq!(get(address, "/plain/one", &token).unwrap().status, 200, "it is known");
    let told = eventually("the count", PATIENCE, || {
        let scrape = Scrape::of(admin);
        let count = scrape.sum("weirgate_refusals_total", &[("kind", "too-many-failures")]);
        (count as usize == told_to_wait).then_some(count)
    });
    assert!(told > 0.0);
    assert!(gateway.stop());
}

#[test]
fn handshakes_of_one_address_are_bounded_in_flight_and_in_time() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let made = issue(&home.path("certs"), None);
    let limits = "address_handshakes_max = 2\naddress_handshakes_burst = 6\n\
                  address_handshakes_per_s = 1\nhandshake_ms = 60000";
    let (gateway, admin) = start(&home, &upstream, limits);
    let address = gateway.address("tls").unwrap();
    let token = home.reader("ana");
    let spent = || Scrape::of(admin).sum("weirgate_handshakes_spent_total", &[]);
    let accepted = || Scrape::of(admin).sum("weirgate_connections_accepted_total", &[]);
    let served = || {
        let mut caller = Caller::over(connect(address, &made.ca, None).ok()?);
        caller.send("GET", "/plain/one", &token, None).ok()?;
        Some(caller.answer().ok()?.status)
    };

    // Two that say nothing are two in flight; a third is one too many.
    let silent = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    eventually("two in flight", PATIENCE, || (accepted() == 2.0).then_some(()));
    let mut third = TcpStream::connect(address).unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!matches!(third.read(&mut [0; 1]), Ok(1..)), "closed without a byte");
    assert_eq!((spent(), accepted()), (1.0, 2.0));
    // A listener in plain text has no handshake to spend.
    assert_eq!(get(gateway.address("api").unwrap(), "/plain/one", &token).unwrap().status, 200);

    drop(silent);
    assert_eq!(eventually("a place again", PATIENCE, served), 200);
    // What was left at once is soon gone, and one comes free each second.
    let (mut fine, start) = (0, Instant::now());
    for _ in 0..30 {
        fine += u64::from(served().is_some());
    }
    assert!(fine <= 6 + start.elapsed().as_secs() + 1, "{fine}");
    let again = eventually("a second later", PATIENCE, served);
    assert_eq!(again, 200);
    assert!(spent() > 1.0);
    assert!(gateway.stop());
}
