//! Does an exchange allocate, in steady state? By an allocator that counts.
//!
//! What is found is told with its place in the source, innermost first.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod allocator;
mod count;
#[path = "../gateway/kit/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of the gateway use all of it")]
mod gateway;
#[path = "../kit/mod.rs"]
mod kit;

use allocator::Told;
use count::{Counted, alone, during, note};
use gateway::upstream::{Heard, answer, chunk, chunked_head};
use gateway::{Caller, Home, Upstream};
use kit::{Road, Site};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Write};
use std::sync::Arc;
use weirgate::cli::cert::{Dev, make};
use weirgate::identity::dev::DevKey;
use weirgate::policy::RecordLevel;

#[global_allocator]
static ALLOCATOR: Told = Told(note);

/// Exchanges before counting begins, and between two drains.
const WARM: usize = 24;
const BATCH: usize = 8;
/// Behind the path of an answer that comes by one write.
const AT_ONCE: &str = "/at-once";
/// Exchanges that are counted on a live worker.
const EXCHANGES: u64 = 300;

fn told(what: &str, counted: &Counted) -> String {
    let places: Vec<String> =
        counted.origins.iter().map(|(place, count)| format!("{count} x {place}")).collect();
    format!("{what}: {} allocations\n{}", counted.count, places.join("\n"))
}

/// Allocations of some exchanges behind as many that warm up.
fn measure(site: Site, request: impl Fn(&str) -> Vec<u8>, answer: &[Vec<u8>]) -> Counted {
    let key = DevKey::generate().unwrap();
    let mut road = Road::new(site, &key);
    let request = request(&kit::token(&key, "ana", &["analysts"]));
    let answer: Vec<&[u8]> = answer.iter().map(Vec::as_slice).collect();
    let exchange = |road: &mut Road| {
        let moved = road.exchange(&request, &answer);
        if road.is_closed() {
            road.reconnect();
        }
        moved
    };
    let first = exchange(&mut road);
    for n in 0..WARM {
        if n % BATCH == 0 {
            road.drain();
        }
        assert_eq!(exchange(&mut road), first);
    }
    road.drain();
    during(false, || {
        for _ in 0..BATCH {
            assert_eq!(exchange(&mut road), first);
        }
    })
}

#[test]
fn an_exchange_of_a_session_allocates_nothing() {
    let _alone = alone();
    let full = || {
        let mut site = kit::bare();
        site.rules.iter_mut().for_each(|rule| rule.then.record = RecordLevel::Full);
        site
    };
    let chat = |token: &str| kit::chat(token, 1 << 10);
    let chunked = |token: &str| {
        let text = String::from_utf8(kit::chat(token, 1 << 10)).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let head = head.split("\r\nContent-Length").next().unwrap();
        format!(
            "{head}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
        .into_bytes()
    };
    let get = |token: &str| {
        format!("GET /llm/v1/models?limit=3 HTTP/1.1\r\nHost: gw\r\nx-api-key: {token}\r\n\r\n")
            .into_bytes()
    };
    let (json, stream) = (vec![kit::json_answer(1 << 10)], kit::stream_answer(40));
    // Cut within events, so that something is held at the end of each read.
    let whole = stream.concat();
    let cut: Vec<Vec<u8>> = whole.chunks(333).map(<[u8]>::to_vec).collect();
    let mut found = Vec::new();
    let mut check = |what: &str, counted: Counted| {
        if counted.count > 0 {
            found.push(told(what, &counted));
        }
    };
    check("bare", measure(kit::bare(), chat, &json));
    check("a GET", measure(kit::bare(), get, &json));
    check("recorded", measure(full(), chat, &json));
    check("a chunked request", measure(full(), chunked, &json));
    check("a stream", measure(full(), chat, &stream));
    check("a stream cut within events", measure(full(), chat, &cut));
    check("everything on", measure(kit::everything(), chat, &json));
    check("everything on, chunked", measure(kit::everything(), chunked, &json));
    check("everything on, a stream", measure(kit::everything(), chat, &stream));
    check("everything on, a stream cut within events", measure(kit::everything(), chat, &cut));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_refused_request_allocates_within_a_bound() {
    let _alone = alone();
    let denied = |token: &str| {
        let text = String::from_utf8(kit::chat(token, 1 << 10)).unwrap();
        text.replace("gpt-4o", "opus-1").into_bytes()
    };
    let unknown = |_: &str| kit::chat("nonsense", 1 << 10);
    let broken = |_: &str| b"GET /llm/x HTTP/1.1\r\nHost: a b\r\n\r\n".to_vec();
    // A connection that is closed is made anew, which is its own few.
    for (what, counted, most) in [
        ("denied", measure(kit::everything(), denied, &[]), 8),
        ("unknown", measure(kit::everything(), unknown, &[]), 40),
        ("broken", measure(kit::everything(), broken, &[]), 40),
    ] {
        let each = counted.count / BATCH as u64;
        assert!(each <= most, "{}", told(what, &counted));
    }
}

/// The events of a live worker's upstream, `times` over.
fn tell_events(path: &str, times: usize, stream: &mut impl Write) -> io::Result<()> {
    chunked_head(stream, "text/event-stream")?;
    for n in 0..20 * times {
        if path == "/events" {
            chunk(stream, format!("data: part {n} for bob@corp.example.com\n\n").as_bytes())?;
        } else {
            const WORDS: [&str; 8] =
                ["Ask", " ana", "@corp", ".example", ".com", " or s", "k-", "live"];
            chunk(stream, kit::chat_event(WORDS[n % WORDS.len()]).as_bytes())?;
        }
    }
    if path == "/chat" {
        chunk(stream, b"data: [DONE]\n\n")?;
    }
    chunk(stream, b"")
}

/// What the upstream of a live worker answers. In a path that ends so, twice as much by one write.
fn tell(heard: &Heard, stream: &mut impl Write) -> io::Result<()> {
    let (path, at_once) = match heard.path.strip_suffix(AT_ONCE) {
        Some(path) => (path, true),
        None => (heard.path.as_str(), false),
    };
    match path {
        "/events" | "/chat" if at_once => {
            let mut whole = Vec::new();
            tell_events(path, 2, &mut whole)?;
            stream.write_all(&whole)
        }
        "/events" | "/chat" => tell_events(path, 1, stream),
        _ => answer(stream, "application/json", br#"{"to":"bob@corp.example.com","ssn":"1"}"#),
    }
}

/// Path and group of the caller, of what is counted on a live worker.
const PATHS: [(&str, &str); 6] = [
    ("/plain/json", "readers"),
    ("/masked/json", "readers"),
    ("/plain/events", "readers"),
    ("/masked/events", "readers"),
    ("/models/chat", "open"),
    ("/models/chat", "held"),
];

/// A gateway of one worker, with the resource `models` and who may use it.
fn live(home: &Home, upstream: &Upstream, more: &str) {
    let resource = format!(
        "[[resource]]\nname = \"models\"\nprotocol = \"http\"\nupstream = \"http://{}\"\n\
         shape = \"openai\"\ncredential = {{ kind = \"bearer\", secret = \"file:upstream.key\" }}\n",
        upstream.address
    );
    home.configure(upstream.address, &format!("{resource}{more}"));
    let rule = |name: &str, then: &str| {
        format!(
            "\n[[rule]]\nid = \"{name}\"\neffect = \"allow\"\nwho = {{ groups = [\"{name}\"] }}\n\
             what = {{ resource = [\"models\"], model = [\"gpt-*\"] }}\n{then}"
        )
    };
    let (open, masked) = (rule("open", ""), rule("held", "then = { mask = [\"pii\"] }\n"));
    home.write("policy.toml", &format!("{}{open}{masked}", gateway::home::POLICY));
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
}

/// What [`EXCHANGES`] of one kind allocate on the worker's thread, behind some that warm up.
fn count<S: io::Read + Write>(caller: &mut Caller<S>, path: &str, token: &str) -> Counted {
    let body = r#"{"model":"gpt-4o","input":"for ana@corp.example.com"}"#;
    let request = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let (at_once, usual) = (request(&format!("{path}{AT_ONCE}")), request(path));
    let mut exchange = |request: &str| {
        caller.stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(caller.answer().unwrap().status, 200);
    };
    // How many chunks one read brings is a matter of timing: room is made for more than ever come.
    for _ in 0..50 {
        exchange(&at_once);
        exchange(&usual);
    }
    during(true, || (0..EXCHANGES).for_each(|_| exchange(&usual)))
}

#[test]
fn a_live_worker_allocates_nothing_for_an_exchange() {
    let _alone = alone();
    let (home, upstream) = (Home::new(), Upstream::start(tell));
    live(&home, &upstream, "");
    let running = home.start();
    let mut caller = Caller::open(running.address("api").unwrap()).unwrap();
    let mut found = Vec::new();
    for (path, group) in PATHS {
        let counted = count(&mut caller, path, &home.token("ana", &[group]));
        // The ticks of the worker are among them, four a second: they allocate nothing either.
        if counted.count > 0 {
            found.push(told(&format!("{path} of {group}"), &counted));
        }
    }
    assert!(running.stop());
    assert!(found.is_empty(), "{EXCHANGES} exchanges each: {}", found.join("\n"));
}

#[test]
fn over_tls_a_live_worker_allocates_what_rustls_does_for_its_records_and_no_more() {
    let _alone = alone();
    let home = Home::new();
    let made = make(&Dev {
        dir: home.path("certs"),
        names: Vec::new(),
        client: None,
        days: 2,
        force: false,
        json: false,
    })
    .unwrap();
    let upstream = Upstream::secure(&made.cert, &made.key, tell);
    let listener = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
                    tls = { cert = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    live(&home, &upstream, listener);
    let text = std::fs::read_to_string(home.config()).unwrap();
    let secure = text.replace(
        &format!("upstream = \"http://{}\"", upstream.address),
        &format!(
            "upstream = \"https://{}\"\ntls = {{ ca = \"certs/ca.pem\", server_name = \"localhost\" }}",
            upstream.address
        ),
    );
    home.write("gateway.toml", &secure);
    let running = home.start();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&made.ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(client), name).unwrap();
    let plain = Caller::open(running.address("tls").unwrap()).unwrap().stream;
    let mut caller = Caller::over(StreamOwned::new(connection, plain));
    let mut found = Vec::new();
    for (path, group) in PATHS {
        let counted = count(&mut caller, path, &home.token("ana", &[group]));
        // One for each record that is opened, two for each that is sealed and a third where it is
        // of several pieces: `MessageEncrypter` and `take_received_plaintext` of rustls own what
        // they make. At most as many records are sealed for the caller as came of the upstream.
        let records = match path.rsplit('/').next() {
            Some("events") => 22,
            Some("chat") => 11,
            _ => 1,
        };
        let (opened, sealed) = (records + 1, records + 1);
        let others = counted.origins.keys().any(|place| !place.starts_with("runtime/tls.rs:"));
        if others || counted.count > EXCHANGES * (opened + 3 * sealed) {
            found.push(told(&format!("{path} of {group}"), &counted));
        }
    }
    assert!(running.stop());
    assert!(found.is_empty(), "{EXCHANGES} exchanges each: {}", found.join("\n"));
}

#[test]
fn the_counter_counts() {
    let _alone = alone();
    let counted = during(false, || drop(std::hint::black_box(vec![1u8; 100])));
    assert_eq!(counted.count, 1);
    assert_eq!(during(false, || ()).count, 0);
    let counted = during(true, || {
        let name = "worker-of-the-test".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let work = || drop(std::hint::black_box(Box::new(7)));
        thread.spawn(work).unwrap().join().unwrap();
    });
    assert!(counted.count > 0);
}
