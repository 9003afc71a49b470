//! Do callers of one live worker see anything of each other, on either end of the gateway?

use crate::kit::upstream::{answer, chunk, chunked_head};
use crate::kit::{Caller, Home, Random, Upstream};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use weirgate::cli::sessions;
use weirgate::record::Kind;
use weirgate::record::fields::{Reader, Tag};

const NAMES: [&str; 5] = ["ALFA", "BRAVO", "CHARLIE", "DELTA", "ECHO"];
/// Exchanges of one caller.
const ROUNDS: usize = 24;

fn mark(caller: usize) -> String {
    format!("mark{}x", NAMES[caller])
}

/// Two callers at most have the same.
fn key(caller: usize) -> String {
    format!("the-key-of-{}-and-its-neighbour", NAMES[caller / 2 * 2])
}

/// Of one upstream connection: the key that came, and the paths that were asked.
type Heard = BTreeMap<SocketAddr, Vec<(String, String)>>;

fn configure(home: &Home, upstream: SocketAddr) {
    let (mut more, mut policy) = (String::new(), String::new());
    for (caller, name) in NAMES.iter().enumerate() {
        let mark = mark(caller);
        let pair = caller / 2;
        if caller % 2 == 0 {
            home.write(&format!("key-{pair}"), &key(caller));
            write!(
                more,
                "[[credential]]\nname = \"key-{pair}\"\nkind = \"bearer\"\nsecret = \"file:key-{pair}\"\n"
            )
            .unwrap();
        }
        write!(
            more,
            "[[mask]]\nname = \"mask-{caller}\"\ndetect = [\"email\"]\n\
             operator = {{ default = 'replace(\"[OF-{mark}]\")' }}\n"
        )
        .unwrap();
        let masked = if caller % 3 == 2 { "" } else { &format!("mask = [\"mask-{caller}\"], ") };
        write!(
            policy,
            "[[rule]]\nid = \"rule-{mark}\"\neffect = \"allow\"\nwho = {{ groups = [\"{name}\"] }}\n\
             what = {{ resource = [\"plain\"] }}\nthen = {{ {masked}credential = \"key-{pair}\" }}\n"
        )
        .unwrap();
    }
    home.write("policy.toml", &policy);
    home.configure(upstream, &more);
    let text = std::fs::read_to_string(home.config()).unwrap();
    home.write("gateway.toml", &text.replace("workers = 2", "workers = 1"));
}

/// Answers with what the path says, in the way that its number says.
fn upstream(heard: &Arc<Mutex<Heard>>) -> Upstream {
    let heard = Arc::clone(heard);
    Upstream::start(move |request, stream| {
        let field = request.head.lines().find_map(|line| line.strip_prefix("authorization: "));
        let place = stream.peer_addr()?;
        let seen = (field.unwrap_or_default().trim_end().to_owned(), request.path.clone());
        heard.lock().unwrap().entry(place).or_default().push(seen);
        let text = format!("{} is told to bob@corp.example.com; ", request.path);
        let body = String::from_utf8_lossy(&request.body).replace("ask", "answer");
        match request.path.bytes().last().unwrap_or(0) % 3 {
            0 => answer(stream, "text/plain", format!("{text}{body}").as_bytes()),
            1 => {
                chunked_head(stream, "text/plain")?;
                for part in format!("{text}{text}{body}").as_bytes().chunks(7) {
                    chunk(stream, part)?;
                }
                chunk(stream, b"")
            }
            _ => {
                chunked_head(stream, "text/plain")?;
                chunk(stream, text.repeat(300).as_bytes())?;
                chunk(stream, b"")
            }
        }
    })
}

/// One caller's calls: whole, in pieces, two at once, or given up.
fn call(address: SocketAddr, home: &Home, caller: usize, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed + caller as u64);
    let token = home.token(&format!("sub-{}", mark(caller)), &[NAMES[caller]]);
    let mut got = Vec::new();
    let mut connection = Caller::open(address).unwrap();
    for round in 0..ROUNDS {
        let path = format!("/plain/{}/{round}", mark(caller));
        let body = format!("{} asks {round} of {}", mark(caller), "ask ".repeat(40));
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nx-api-key: {token}\r\nx-of: {}\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            mark(caller),
            body.len()
        );
        let way = random.below(8);
        let twice = way == 0;
        let bytes = if twice { request.repeat(2) } else { request };
        let pieces = if way < 3 { 1 } else { 1 + random.below(40) as usize };
        for piece in bytes.as_bytes().chunks(bytes.len().div_ceil(pieces)) {
            connection.stream.write_all(piece).unwrap();
        }
        if way == 7 {
            // Given up: before the answer, or in its midst.
            if random.below(2) == 0 {
                got.push(connection.head().unwrap().text);
            }
            connection = Caller::open(address).unwrap();
            continue;
        }
        for _ in 0..1 + usize::from(twice) {
            let head = connection.head().unwrap();
            assert_eq!(head.status, 200, "{}", head.text);
            let mut body = Vec::new();
            connection.body(&head, &mut body).unwrap();
            let body = String::from_utf8(body).unwrap();
            assert!(body.starts_with(&format!("/{}/{round} is told to ", mark(caller))), "{body}");
            let bare = body.contains("bob@corp.example.com");
            assert_eq!(bare, caller % 3 == 2, "{body}");
            got.push(format!("{}{body}", head.text));
        }
    }
    got
}

/// Whose marks are in it.
fn marks(text: &str) -> BTreeSet<usize> {
    let text = text.to_ascii_lowercase();
    let has = |caller: &usize| text.contains(&mark(*caller).to_ascii_lowercase());
    (0..NAMES.len()).filter(has).collect()
}

#[test]
fn callers_of_one_worker_share_connections_of_their_own_key_only_and_nothing_else() {
    let seed = Random::seed("WEIRGATE_SEED");
    println!("WEIRGATE_SEED={seed}");
    let heard = Arc::new(Mutex::new(Heard::new()));
    let upstream = upstream(&heard);
    let home = Home::new();
    configure(&home, upstream.address);
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let got: Vec<Vec<String>> = std::thread::scope(|scope| {
        let home = &home;
        let callers: Vec<_> = (0..NAMES.len())
            .map(|caller| scope.spawn(move || call(address, home, caller, seed)))
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    assert!(gateway.stop());
    home.verify(&home.data());
    for (caller, texts) in got.iter().enumerate() {
        for text in texts {
            assert!(marks(text).iter().all(|other| *other == caller), "{text}");
            assert!(!text.contains("the-key-of-"), "{text}");
        }
    }
    // The other end: one key for each connection, and requests of those only who have that key.
    let mut shared = 0;
    for requests in heard.lock().unwrap().values() {
        let keys: BTreeSet<&str> = requests.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys.len(), 1, "a connection with more than one key: {requests:#?}");
        let of: BTreeSet<usize> = requests.iter().flat_map(|(_, path)| marks(path)).collect();
        for caller in &of {
            assert_eq!(requests[0].0, format!("Bearer {}", key(*caller)), "{requests:#?}");
        }
        shared += usize::from(of.len() > 1);
    }
    assert!(shared > 0, "no connection served two callers: nothing was tried");
    check_record(&home);
}

/// Each exchange is of one principal, and holds no mark of another.
fn check_record(home: &Home) {
    let mut of = BTreeMap::<String, (String, BTreeSet<usize>)>::new();
    let bad = sessions::each_whole(&home.data(), |entry| {
        let kept = of.entry(entry.meta.exchange.to_string()).or_default();
        let text = String::from_utf8_lossy(&entry.body);
        assert!(!text.contains("the-key-of-"), "a key in the record");
        kept.1.extend(marks(&text));
        if entry.meta.kind == Kind::Open {
            kept.0 = Reader::find(&entry.body, Tag::Sub).unwrap().as_text().into_owned();
        }
    });
    assert_eq!(bad.unwrap(), Vec::<String>::new());
    let mut opened = BTreeMap::<String, usize>::new();
    for (sub, marks) in of.into_values().filter(|(sub, _)| !sub.is_empty()) {
        let caller: Vec<usize> = marks.into_iter().collect();
        assert_eq!(caller.len(), 1, "an exchange of {sub} with marks of {caller:?}");
        assert_eq!(sub, format!("sub-{}", mark(caller[0])));
        *opened.entry(sub).or_default() += 1;
    }
    assert_eq!(opened.len(), NAMES.len());
    // What was given up at once may never have been read.
    assert!(opened.values().all(|count| *count >= ROUNDS / 2), "{opened:?}");
}
