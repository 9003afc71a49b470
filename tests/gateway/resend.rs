//! `weirgate sessions replay ID --to URL`: what goes to the upstream, and what does not.

use crate::certificates::issue;
use crate::kit::home::POLICY;
use crate::kit::upstream::{Heard, answer};
use crate::kit::{Caller, Home, PATIENCE, Upstream, eventually, get};
use serde_json::Value;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const META: &str = r#"
[[rule]]
id = "heads-only"
effect = "allow"
who = { groups = ["heads"] }
what = { resource = ["plain"] }
then = { record = "meta" }
"#;

const NEW_KEY: &str = "a-key-of-the-one-who-replays";
const BODY: &str = r#"{"ask":"mail ana@example.com"}"#;

/// What an upstream heard.
type All = Arc<Mutex<Vec<Heard>>>;

/// Answers everything with `text`.
fn upstream(text: &'static str) -> (Upstream, All) {
    let all = All::default();
    let to = Arc::clone(&all);
    let upstream = Upstream::start(move |heard, stream| {
        let (path, head, body) = (heard.path.clone(), heard.head.clone(), heard.body.clone());
        to.lock().unwrap().push(Heard { path, head, body });
        if heard.path.ends_with("/moved") {
            return stream.write_all(
                b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
            );
        }
        answer(stream, "text/plain", text.as_bytes())
    });
    (upstream, all)
}

fn replay(home: &Home, id: &str, to: SocketAddr, more: &[&str]) -> (i32, String, String) {
    let url = format!("http://{to}");
    replay_to(home, id, &url, more)
}

fn replay_to(home: &Home, id: &str, url: &str, more: &[&str]) -> (i32, String, String) {
    let arguments = ["sessions", "replay", id, "-c", "gateway.toml", "--to", url];
    let Output { status, stdout, stderr } = home.run(&[&arguments[..], more].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A gateway with its record: one session each of `plain`, `masked`, `meta`, `cut`, `refused`,
/// `moved`. It is stopped when it comes back.
fn recorded(home: &Home, upstream: &Upstream) -> [String; 6] {
    home.configure(upstream.address, "");
    home.write("policy.toml", &format!("{POLICY}{META}"));
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let post = |path: &str, token: &str| {
        let mut caller = Caller::open(address).unwrap();
        caller.send("POST", path, token, Some(("application/json", BODY.as_bytes()))).unwrap();
        let answer = caller.answer().unwrap();
        assert_eq!(answer.status, 200);
        answer.id
    };
    let plain = post("/plain/v1/ask?x=%41b&y=1", &token);
    let masked = post("/masked/v1/ask", &token);
    let meta = post("/plain/v1/ask", &home.token("bob", &["heads"]));
    let refused = get(address, "/plain/closed", &token).unwrap().id;
    let moved = get(address, "/plain/moved", &token).unwrap().id;
    let mut caller = Caller::open(address).unwrap();
    let head = format!(
        "POST /plain/v1/cut HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-length: 100\r\n\r\nonly the beginning"
    );
    caller.stream.write_all(head.as_bytes()).unwrap();
    drop(caller);
    let rows = || {
        let output = home.run(&["sessions", "list", "-c", "gateway.toml", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let cut = eventually("the cut request", PATIENCE, || {
        let row =
            rows().into_iter().find(|row| row["path"] == "/v1/cut" && row["ending"] == "cut")?;
        Some(row["id"].as_str()?.to_owned())
    });
    assert!(gateway.stop());
    [plain, masked, meta, cut, refused, moved]
}

#[test]
fn a_recorded_request_goes_out_as_it_was_with_the_users_key_only() {
    let home = Home::new();
    let (first, asked) = upstream("fine");
    let [plain, masked, meta, cut, refused, moved] = recorded(&home, &first);
    let (same, heard) = upstream("fine");
    let (other, _) = upstream("otherwise");
    home.write("new.key", &format!("{NEW_KEY}\n"));
    let key = ["--credential", "file:new.key"];

    // As it was: byte for byte, but for the key and the host.
    let more = [&key[..], &["--header", "X-Extra: 1", "--json"]].concat();
    let (code, out, errors) = replay(&home, &plain, same.address, &more);
    assert_eq!(code, 0, "{out}{errors}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["same"], &told["id"]), (&Value::Bool(true), &Value::from(plain.as_str())));
    assert_eq!(told["recorded"]["sha256"], told["replayed"]["sha256"]);
    assert_eq!(
        (&told["replayed"]["status"], &told["replayed"]["length"]),
        (&200.into(), &4.into())
    );
    let (then, now) = (asked.lock().unwrap().remove(0), heard.lock().unwrap().remove(0));
    assert_eq!((&then.path, &then.body), (&now.path, &now.body));
    assert_eq!(now.body, BODY.as_bytes());
    let fields = |heard: &Heard, without: &[&str]| {
        let mut fields: Vec<String> = heard
            .head
            .lines()
            .skip(1)
            .map(|line| line.trim_end().to_owned())
            .filter(|line| !line.is_empty())
            .filter(|line| !without.iter().any(|name| line.to_ascii_lowercase().starts_with(name)))
            .collect();
        fields.sort_by_key(|line| line.to_ascii_lowercase());
        fields.iter().map(|line| line.to_ascii_lowercase()).collect::<Vec<String>>()
    };
    let ours = ["authorization:", "host:", "x-extra:", "accept:"];
    assert_eq!(fields(&then, &ours), fields(&now, &ours));
    let head = now.head.to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nauthorization: bearer {NEW_KEY}\r\n")), "{head}");
    assert!(head.contains("\r\nx-extra: 1\r\n") && !head.contains("the-upstream-key"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", same.address)), "{head}");

    // Another answer is told, and so is a key in another field, and a path in front.
    let url = format!("http://{}/base/", other.address);
    let (code, out, _) = replay_to(&home, &plain, &url, &["--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["differences"]), (1, &serde_json::json!(["length", "sha256"])));
    assert!(told["url"].as_str().unwrap().contains("/base/v1/ask?"), "{told}");
    let (code, out, _) = replay(&home, &plain, other.address, &[]);
    assert!(code == 1 && out.contains("differs") && out.contains("same"), "{out}");

    // What is not there in full is not sent, and the reason is told.
    for (id, why) in [
        (&masked, "--masked"),
        (&meta, "record = \"meta\""),
        (&cut, "incomplete"),
        (&refused, "nothing of this request went upstream"),
    ] {
        let (code, out, errors) = replay(&home, id, same.address, &key);
        assert_eq!((code, out.as_str()), (2, ""), "{why}");
        assert!(errors.contains(why), "{errors}");
    }
    assert_eq!(replay(&home, &"0".repeat(32), same.address, &key).0, 1, "no such session");
    // A redirect is an answer like any other.
    let (code, out, _) = replay(&home, &moved, same.address, &[&key[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["replayed"]["status"]), (0, &302.into()));
    home.verify(&home.data());
}

#[test]
fn an_https_upstream_must_be_who_it_says() {
    let (home, (first, _)) = (Home::new(), upstream("fine"));
    let made = issue(&home.path("certs"), None);
    let more = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
                tls = { cert = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    home.configure(first.address, more);
    let gateway = home.start();
    let token = home.reader("ana");
    let id = get(gateway.address("api").unwrap(), "/plain/v1/ask", &token).unwrap().id;
    // The gateway itself is the upstream: what was recorded goes through it once more.
    let url = format!("https://localhost:{}/plain", gateway.address("tls").unwrap().port());
    home.write("new.key", &token);
    let run = |roots: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weirgate"));
        command.args(["sessions", "replay", &id, "-c", "gateway.toml", "--to", &url]);
        command.args(["--credential", "file:new.key"]).env("SSL_CERT_FILE", roots);
        let output = command.current_dir(home.path("")).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    // Until it is drained it may not be seen.
    let (code, text) = eventually("the session", PATIENCE, || {
        let (code, text) = run(&made.ca);
        (!text.contains("no session")).then_some((code, text))
    });
    assert!(code == Some(0) && text.contains("same"), "{text}");
    let stranger = issue(&home.path("elsewhere"), None);
    let (code, text) = run(&stranger.ca);
    assert!(code == Some(2) && text.to_ascii_lowercase().contains("certificate"), "{text}");
    assert!(gateway.stop());
}

#[test]
fn a_masked_request_goes_out_masked_where_that_is_asked_for_and_no_key_leaves_otherwise() {
    let home = Home::new();
    let (first, _) = upstream("write to ana@example.com");
    let [plain, masked, ..] = recorded(&home, &first);
    let (same, heard) = upstream("write to ana@example.com");
    home.write("new.key", NEW_KEY);
    let (code, out, errors) = replay(&home, &masked, same.address, &["--masked"]);
    // The caller got a masked answer, so this one differs.
    assert_eq!(code, 1, "{errors}");
    assert!(
        out.contains("masked form of the request") && out.contains("is the masked one"),
        "{out}"
    );
    let one = heard.lock().unwrap().pop().unwrap();
    assert_eq!(String::from_utf8(one.body).unwrap(), BODY.replace("ana@example.com", "[EMAIL]"));
    assert!(!one.head.to_ascii_lowercase().contains("\r\nauthorization:"), "{}", one.head);

    // Keys are given by name, and go nowhere in plain text beyond this machine.
    let key = ["--credential", "file:new.key"];
    for (url, more, why) in [
        ("http://192.0.2.1", &key[..], "loopback"),
        ("ftp://127.0.0.1", &key[..], "neither https"),
        ("http://user@127.0.0.1", &key[..], "user"),
        ("http://127.0.0.1/?q=1", &key[..], "without query"),
        ("http://127.0.0.1:1", &["--credential", "env:NO_SUCH_VARIABLE"], "not set"),
        ("http://127.0.0.1:1", &["--credential", NEW_KEY], "name where it is"),
        ("http://127.0.0.1:1", &["--header", "no colon"], "Name: value"),
        ("http://127.0.0.1:1", &key[..], "127.0.0.1:1"),
    ] {
        let (code, out, errors) = replay_to(&home, &plain, url, more);
        assert_eq!((code, out.as_str()), (2, ""), "{url}");
        assert!(errors.contains(why) && !errors.contains(NEW_KEY), "{url}: {errors}");
    }
    std::fs::set_permissions(
        home.path("new.key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let (code, _, errors) = replay(&home, &plain, same.address, &key);
    assert!(code == 2 && errors.contains("open to others"), "{errors}");
    let as_is = ["--credential", "file:new.key", "--credential-header", "x-api-key"];
    home.write("new.key", NEW_KEY);
    assert_eq!(replay(&home, &plain, same.address, &as_is).0, 0);
    let one = heard.lock().unwrap().pop().unwrap();
    assert!(one.head.contains(&format!("x-api-key: {NEW_KEY}\r\n")), "{}", one.head);
    assert!(heard.lock().unwrap().is_empty(), "nothing else was sent");
}
