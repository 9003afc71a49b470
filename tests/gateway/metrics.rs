//! What `/metrics` of a gateway says after traffic.

use crate::kit::home::POLICY;
use crate::kit::upstream::{answer, chunk, chunked_head};
use crate::kit::{Caller, Home, PATIENCE, Scrape, Upstream, eventually, get};
use std::io::Write;

/// A rule that asks for the model, so that a decision waits for the body.
const CHAT: &str = r#"
[[rule]]
id = "chat"
effect = "allow"
who = { groups = ["readers"] }
what = { resource = ["plain"], method = ["POST"], model = ["gpt-*"] }
"#;

const STAGES: [&str; 4] = ["decide", "connect", "release", "total"];

fn stage(scrape: &Scrape, what: &str, stage: &str) -> f64 {
    scrape.sum(&format!("weirgate_added_latency_seconds_{what}"), &[("stage", stage)])
}

#[test]
fn the_added_latency_is_told_by_stage_and_every_exchange_is_in_it() {
    let home = Home::new();
    let upstream = Upstream::start(|heard, stream| {
        if heard.path.contains("stream") {
            chunked_head(stream, "text/plain")?;
            for _ in 0..100 {
                chunk(stream, b"write to ana@example.com ")?;
            }
            return chunk(stream, b"");
        }
        answer(stream, "text/plain", b"fine")
    });
    home.configure(upstream.address, "[admin]\naddress = \"127.0.0.1:0\"\n");
    home.write("policy.toml", &format!("{POLICY}{CHAT}"));
    let gateway = home.start();
    let (address, admin) = (gateway.address("api").unwrap(), gateway.admin_address().unwrap());
    let token = home.reader("ana");

    let before = Scrape::of(admin);
    for name in STAGES {
        assert_eq!(stage(&before, "count", name), 0.0, "{name}");
    }
    assert_eq!(before.sum("weirgate_caller_connections", &[]), 0.0);

    let mut caller = Caller::open(address).unwrap();
    for _ in 0..8 {
        caller.send("GET", "/plain/one", &token, None).unwrap();
        assert_eq!(caller.answer().unwrap().text(), "fine");
    }
    // The head first, and the body that the decision waits for behind it.
    let body = br#"{"model":"gpt-4"}"#;
    let head = format!(
        "POST /plain/two HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    caller.stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(caller.head().unwrap().status, 100, "the head is read");
    caller.stream.write_all(body).unwrap();
    assert_eq!(caller.answer().unwrap().status, 200);
    caller.send("GET", "/masked/stream", &token, None).unwrap();
    assert!(caller.answer().unwrap().text().ends_with("write to [EMAIL] "));
    // Neither is in the histograms: nothing of them went upstream.
    assert_eq!(get(address, "/plain/closed", &token).unwrap().status, 403);
    assert_eq!(get(address, "/plain/one", "no-token").unwrap().status, 401);

    // Counts of sessions and levels are as old as the last tick.
    let scrape = eventually("the counts", PATIENCE, || {
        let scrape = Scrape::of(admin);
        let permitted = scrape.sum("weirgate_requests_total", &[("decision", "permit")]);
        let idle = scrape.sum("weirgate_upstream_connections", &[("state", "idle")]);
        let refused = scrape.sum("weirgate_refusals_total", &[]);
        (permitted >= 10.0 && refused >= 2.0 && idle >= 1.0).then_some(scrape)
    });
    for name in ["decide", "connect", "total"] {
        assert_eq!(stage(&scrape, "count", name), 10.0, "{name}: {scrape:?}");
    }
    let released = stage(&scrape, "count", "release");
    assert!((10.0..20.0).contains(&released), "the first of each, and few of the stream's");
    for name in STAGES {
        let all =
            scrape.sum("weirgate_added_latency_seconds_bucket", &[("stage", name), ("le", "+Inf")]);
        assert_eq!(all, stage(&scrape, "count", name));
        let bounds = scrape.labels("weirgate_added_latency_seconds_bucket", "le");
        assert_eq!((bounds.len(), bounds[0].as_str()), (17, "0.00001"), "{bounds:?}");
        assert!(bounds.contains(&"1".to_owned()));
    }
    let sum = |name| stage(&scrape, "sum", name);
    assert!(sum("decide") > 0.0 && sum("release") > 0.0);
    assert!(sum("total") >= sum("decide") + sum("connect"), "{scrape:?}");
    assert!(sum("total") < 10.0, "the upstream's own time is not in it");

    assert_eq!(scrape.sum("weirgate_refusals_total", &[("kind", "denied")]), 1.0);
    assert_eq!(scrape.sum("weirgate_refusals_total", &[("kind", "unauthenticated")]), 1.0);
    assert_eq!(scrape.sum("weirgate_connections_accepted_total", &[]), 3.0);
    assert_eq!(scrape.sum("weirgate_upstream_connections", &[("state", "busy")]), 0.0);
    let (made, reused) = (
        scrape.sum("weirgate_upstream_made_total", &[]),
        scrape.sum("weirgate_upstream_reused_total", &[]),
    );
    assert_eq!(made + reused, 10.0);
    assert!(scrape.has("weirgate_journal_lag_bytes"));
    drop(caller);
    assert!(gateway.stop());
}

#[test]
fn levels_go_up_with_what_is_in_hand_and_down_again() {
    let home = Home::new();
    // More than is taken, so that the gateway has some of it in hand until the callers are gone.
    let upstream = Upstream::start(|_, stream| {
        chunked_head(stream, "text/plain")?;
        loop {
            chunk(stream, &[b'x'; 16 << 10])?;
        }
    });
    home.configure(upstream.address, "[admin]\naddress = \"127.0.0.1:0\"\n");
    let gateway = home.start();
    let (address, admin) = (gateway.address("api").unwrap(), gateway.admin_address().unwrap());
    let token = home.reader("ana");
    let busy = [("state", "busy")];
    let lent = [("state", "lent")];

    let mut callers: Vec<_> = (0..3).map(|_| Caller::open(address).unwrap()).collect();
    for caller in &mut callers {
        caller.send("GET", "/plain/one", &token, None).unwrap();
        assert_eq!(caller.head().unwrap().status, 200);
    }
    eventually("three of each", PATIENCE, || {
        let scrape = Scrape::of(admin);
        let three = ["weirgate_caller_connections", "weirgate_upstream_connections"]
            .map(|name| scrape.sum(name, if name.contains("caller") { &[] } else { &busy }));
        let bytes = scrape.sum("weirgate_buffer_bytes", &[]);
        let held = scrape.sum("weirgate_buffers", &lent);
        (three == [3.0, 3.0] && held >= 3.0 && bytes >= 3.0 * 16_384.0).then_some(())
    });
    drop(callers);
    eventually("none of each", PATIENCE, || {
        let scrape = Scrape::of(admin);
        let none = scrape.sum("weirgate_caller_connections", &[])
            + scrape.sum("weirgate_upstream_connections", &busy)
            + scrape.sum("weirgate_buffers", &lent);
        let free = scrape.sum("weirgate_buffers", &[("state", "free")]);
        (none == 0.0 && free >= 1.0).then_some(())
    });
    assert!(gateway.stop());
}
