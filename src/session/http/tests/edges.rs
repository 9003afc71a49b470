//! What is refused for whence it comes: addresses whose tokens do not hold, connections that were
//! made for another name.

use super::Wire;
use crate::base::{ConnectionId, Limits, ListenerId};
use crate::record::MemoryJournal;
use crate::session::Refusal;
use crate::session::http::Session;
use crate::session::kit::{Kit, at, kit_with};

fn ask(kit: &mut Kit, from: &str, token: &str, ms: u64) -> String {
    let mut wire = Wire::new();
    let caller = (from.parse::<core::net::IpAddr>().unwrap(), 9).into();
    wire.session = Session::new(ListenerId(0), ConnectionId(1), caller, None, at(ms));
    wire.now = at(ms);
    let head = format!("GET /llm/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {token}\r\n\r\n");
    wire.caller(kit, head.as_bytes());
    String::from_utf8(wire.to_caller).unwrap() + &String::from_utf8(wire.to_upstream).unwrap()
}

/// A token of a known issuer whose signature is none; each `number` makes another.
fn forged(good: &str, number: usize) -> String {
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let changed = format!("{number:08}");
    format!("{signed}.{changed}{}", &signature[8..])
}

#[test]
fn an_address_has_so_many_tokens_that_fail_and_its_neighbour_its_own() {
    let limits =
        Limits { address_failures_burst: 5, address_failures_per_s: 2, ..Limits::default() };
    let mut kit = kit_with(MemoryJournal::default(), limits);
    let known = kit.token("eve", &["plain"]);
    let fresh = kit.token("mia", &["plain"]);
    assert!(ask(&mut kit, "192.0.2.1", &known, 1_000).starts_with("GET /base/x "));
    for number in 0..5 {
        let answer = ask(&mut kit, "192.0.2.1", &forged(&known, number), 1_000);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
    let answer = ask(&mut kit, "192.0.2.1", &forged(&known, 5), 1_000);
    assert!(answer.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{answer}");
    for text in ["\r\nretry-after: 1\r\n", "application/problem+json", "problems/too-many-failures"]
    {
        assert!(answer.contains(text), "{answer}");
    }
    // Not even a good one is looked at, but for one that is known already.
    assert!(ask(&mut kit, "192.0.2.1", &fresh, 1_000).starts_with("HTTP/1.1 429 "));
    assert!(ask(&mut kit, "192.0.2.1", &known, 1_000).starts_with("GET /base/x "));
    // One that was refused before costs nothing, and says the same as before.
    let again = forged(&known, 0);
    assert!(ask(&mut kit, "192.0.2.1", &again, 1_000).starts_with("HTTP/1.1 401 "));
    assert!(ask(&mut kit, "192.0.2.2", &fresh, 1_000).starts_with("GET /base/x "));
    // Half a second later there is one more, as the answer promised.
    assert!(ask(&mut kit, "192.0.2.1", &forged(&known, 6), 1_500).starts_with("HTTP/1.1 401 "));
    assert!(ask(&mut kit, "192.0.2.1", &forged(&known, 7), 1_500).starts_with("HTTP/1.1 429 "));
    assert_eq!(kit.worker.counts.refusals[Refusal::TooManyFailures.index()], 3);
}

#[test]
fn a_good_token_costs_no_budget() {
    let limits = Limits { address_failures_burst: 1, ..Limits::default() };
    let mut kit = kit_with(MemoryJournal::default(), limits);
    for number in 0..20 {
        let token = kit.token(&format!("user-{number}"), &["plain"]);
        assert!(ask(&mut kit, "2001:db8::1", &token, 1_000).starts_with("GET /base/x "));
    }
}

#[test]
fn a_request_over_a_connection_for_another_name_is_misdirected() {
    let ask = |hosts: &[&str], sni: Option<&str>, host: &str| {
        let Kit { key, mut worker } = kit_with(MemoryJournal::default(), Limits::default());
        let snapshot =
            std::rc::Rc::get_mut(&mut worker.snapshot).and_then(std::sync::Arc::get_mut).unwrap();
        snapshot.listeners[0].hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut kit = Kit { key, worker };
        let token = kit.token("eve", &["plain"]);
        let mut wire = Wire::new();
        let (caller, sni) = (([192, 0, 2, 1], 9).into(), sni.map(str::to_owned));
        wire.session = Session::new(ListenerId(0), ConnectionId(1), caller, sni, at(1));
        let head = format!("GET /llm/x HTTP/1.1\r\n{host}authorization: Bearer {token}\r\n\r\n");
        wire.caller(&mut kit, head.as_bytes());
        match wire.status() {
            "421" => assert!(wire.to_upstream.is_empty()),
            status => assert!(status == "---" && !wire.to_upstream.is_empty(), "{status}"),
        }
        wire.to_caller.is_empty()
    };
    // No name was asked for, as in plain text: nothing to compare.
    assert!(ask(&[], None, "host: a.test\r\n"));
    for same in ["a.test", "A.Test", "a.test:8443", "a.test.", "a.test.:8443"] {
        assert!(ask(&[], Some("a.test"), &format!("host: {same}\r\n")), "{same}");
    }
    for other in ["b.test", "a.test.evil", "test", "127.0.0.1", "[::1]:443", "xa.test"] {
        assert!(!ask(&[], Some("a.test"), &format!("host: {other}\r\n")), "{other}");
    }
    // Both are served: a client may use one connection for the two.
    let both = ["a.test", "b.test"];
    assert!(ask(&both, Some("a.test"), "host: b.test\r\n"));
    assert!(!ask(&both, Some("a.test"), "host: c.test\r\n"));
    assert!(!ask(&both, Some("c.test"), "host: b.test\r\n"), "asked for a name not served");
    assert!(!ask(&both, None, "host: c.test\r\n"));
}
