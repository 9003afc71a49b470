//! The program: how it ends, and the other driver.

use crate::kit::upstream::answer;
use crate::kit::{Caller, Home, Served, Upstream, eventually, get};
use std::io::Write;
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

#[test]
fn sigterm_lets_an_answer_in_hand_end_and_takes_nothing_new() {
    let home = Home::new();
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let upstream = Upstream::start(move |heard, stream| {
        if heard.path != "/slow" {
            return answer(stream, "text/plain", b"quick");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nbegin")?;
        let _ = gate.lock().unwrap().recv();
        stream.write_all(b"-begun")
    });
    home.configure(upstream.address, "");
    let token = home.reader("ana");
    let mut served = Served::start(&home.config(), &[]);
    let address = served.address("api");
    let mut slow = Caller::open(address).unwrap();
    slow.send("GET", "/plain/slow", &token, None).unwrap();
    let head = slow.head().unwrap();
    let mut body = Vec::new();
    // No end of it may be the beginning of the upstream's key: that would be held back.
    slow.take(5, &mut body).unwrap();
    let mut idle = Caller::open(address).unwrap();
    idle.send("GET", "/plain/quick", &token, None).unwrap();
    assert_eq!(idle.answer().unwrap().text(), "quick");

    served.signal("TERM");
    served.says("draining");
    eventually("new connections are refused", Duration::from_secs(10), || {
        get(address, "/plain/quick", &token).is_err().then_some(())
    });
    // What has nothing in hand is closed, not kept until the end.
    assert!(idle.send("GET", "/plain/quick", &token, None).and_then(|()| idle.answer()).is_err());
    go.send(()).unwrap();
    slow.take(6, &mut body).unwrap();
    assert_eq!(body, b"begin-begun");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
    let shown = home.run(&["sessions", "show", &head.id, "--json", "-c", "gateway.toml"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("-begun") && shown.contains("\"close\""), "{shown}");
    home.verify(&home.data());
}

#[test]
fn the_epoll_driver_masks_and_records_the_same() {
    let home = Home::new();
    let upstream = Upstream::start(|heard, stream| {
        let key =
            heard.head.to_ascii_lowercase().contains("authorization: bearer the-upstream-key");
        let body = format!(r#"{{"mail":"ana@example.com","ssn":"078-05-1120","key":{key}}}"#);
        answer(stream, "application/json", body.as_bytes())
    });
    home.configure(upstream.address, "");
    for (environment, driver) in [(vec![("WEIRGATE_FORCE_EPOLL", "1")], "epoll"), (vec![], "")] {
        let mut served = Served::start(&home.config(), &environment);
        let address = served.address("api");
        let answer = get(address, "/masked/person", &home.reader("ana")).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let text = answer.text();
        assert!(!text.contains("ana@example.com") && !text.contains("078-05-1120"), "{text}");
        assert!(text.contains("\"key\":true"), "{text}");
        served.logged("the driver", |fields| {
            fields["message"] == "worker started"
                && fields["driver"].as_str().is_some_and(|name| name.contains(driver))
        });
        served.signal("TERM");
        assert_eq!(served.ended().code(), Some(0), "{}", served.log());
        let shown = home.run(&["sessions", "show", &answer.id, "--json", "-c", "gateway.toml"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let recorded = serde_json::Value::from(text).to_string();
        assert!(shown.contains(&recorded), "{recorded} in {shown}");
        assert!(!shown.contains("ana@example.com"), "{shown}");
    }
    home.verify(&home.data());
}

#[test]
fn an_address_in_use_is_an_error_and_not_a_wait() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.configure(upstream.address, "");
    let text = std::fs::read_to_string(home.config()).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.write("gateway.toml", &text.replace("127.0.0.1:0", &address));
    let mut served = Served::start(&home.config(), &[]);
    assert_eq!(served.ended().code(), Some(2), "{}", served.log());
    assert!(TcpStream::connect(&address).is_ok(), "whoever had it, has it");
    home.verify(&home.data());
}
