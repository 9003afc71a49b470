//! What a reload takes over, and what it refuses since it takes a restart.

use crate::certificates::issue;
use crate::kit::home::POLICY;
use crate::kit::{Caller, Home, Served, Upstream, get};
use weirgate::gateway::StartError;

/// A config with one of everything.
fn configure(home: &Home, upstream: &Upstream) -> String {
    let made = issue(&home.path("certs"), None);
    std::fs::copy(&made.ca, home.path("other-ca.pem")).unwrap();
    let more = r#"
[admin]
address = "127.0.0.1:0"
[[issuer]]
name = "workloads"
kind = "x509"
ca = "certs/ca.pem"
trust_domain = "demo"
[[issuer]]
name = "others"
kind = "x509"
ca = "other-ca.pem"
[[listener]]
name = "tls"
address = "127.0.0.1:0"
protocol = "http"
tls = { cert = "certs/cert.pem", key = "certs/key.pem", client_ca = "certs/ca.pem" }
"#;
    home.configure(upstream.address, more);
    std::fs::read_to_string(home.config()).unwrap()
}

#[test]
fn a_reload_that_takes_a_restart_names_the_key_and_takes_nothing() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let good = configure(&home, &upstream);
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let opened =
        POLICY.replace("id = \"closed\"\neffect = \"deny\"", "id = \"x\"\neffect = \"allow\"");
    home.write("policy.toml", &opened);
    home.write("keys.json", &std::fs::read_to_string(home.path("jwks.json")).unwrap());
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n";
    let api = "name = \"api\"\naddress = \"127.0.0.1:0\"\n";
    let tls = good.split_at(good.find("[[listener]]\nname = \"tls\"").unwrap()).1;
    let tls = tls.to_owned();
    let limits = |key: &str| (String::new(), format!("[limits]\n{key}\n"));
    let text = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let mut cases = vec![
        (text("workers = 2", "workers = 1"), "[gateway] workers".to_owned()),
        (text("/data\"", "/elsewhere\""), "[gateway] data_dir".to_owned()),
        (text("ring_dir = \"", "ring_dir = \"/tmp"), "[gateway] ring_dir".to_owned()),
        (text(admin, ""), "[admin] (removed)".to_owned()),
        (text(admin, "[admin]\naddress = \"127.0.0.1:1\"\n"), "[admin] address".to_owned()),
        (text("issuer.test", "other.test"), "[[issuer]] (added, removed".to_owned()),
        (text("jwks.json", "keys.json"), "[[issuer]] `dev` jwks_file".to_owned()),
        (text("jwks_file = \"jwks.json\"\n", ""), "[[issuer]] `dev` jwks_file".to_owned()),
        (text("\"demo\"", "\"other\""), "[[issuer]] `workloads` trust_domain".to_owned()),
        (
            text("[[issuer]]\nname = \"others\"\nkind = \"x509\"\nca = \"other-ca.pem\"\n", ""),
            "[[issuer]] of kind x509 (added or removed)".to_owned(),
        ),
        (
            text("ca = \"other-ca.pem\"", "ca = \"other-ca.pem\"\nissuer = \"x509:new\""),
            "[[issuer]] `others` issuer".to_owned(),
        ),
        (text(&tls, ""), "[[listener]] `tls` (removed)".to_owned()),
        (text("name = \"tls\"", "name = \"new\""), "[[listener]] `new` (added)".to_owned()),
        (text(api, &api.replace(":0", ":1")), "[[listener]] `api` address".to_owned()),
        (
            // Its certificates would be taken for those of the authority before.
            text("client_ca = \"certs/ca.pem\"", "client_ca = \"other-ca.pem\""),
            "[[listener]] `tls` tls.client_ca".to_owned(),
        ),
        (text("tls = { cert = \"certs/cert.pem\"", "# "), "[[listener]] `tls` tls".to_owned()),
    ];
    let held = "connections_max addresses_max address_handshakes_max address_handshakes_per_s \
                address_handshakes_burst upstream_idle_max upstream_connections_max \
                token_cache_entries token_cache_bytes handshake_ms connect_ms upstream_idle_ms \
                write_ms drain_ms linger_ms linger_max";
    cases.push((
        (String::new(), "[record]\nwindow = \"30ms\"\n".to_owned()),
        "[record] window".to_owned(),
    ));
    for key in held.split_whitespace() {
        cases.push((limits(&format!("{key} = 77")), format!("[limits] {key}")));
    }
    for ((from, to), key) in cases {
        let changed = if from.is_empty() {
            format!("{good}{to}")
        } else {
            let changed = good.replacen(&from, &to, 1);
            assert_ne!(changed, good, "{key}");
            changed
        };
        home.write("gateway.toml", &changed);
        let error = gateway.reload(home.load()).unwrap_err();
        assert!(matches!(error, StartError::Restart(_)), "{key}: {error}");
        let said = error.to_string();
        assert!(said.contains(&key) && said.contains("restart"), "{key}: {said}");
        assert_eq!(get(address, "/plain/closed", &token).unwrap().status, 403, "{key}");
    }
    // All of them at once.
    let many = good.replace("workers = 2", "workers = 1").replace(admin, "");
    home.write("gateway.toml", &many);
    let said = gateway.reload(home.load()).unwrap_err().to_string();
    assert!(said.contains("[gateway] workers") && said.contains("[admin] (removed)"), "{said}");
    home.write("gateway.toml", &good);
    gateway.reload(home.load()).unwrap();
    assert_eq!(get(address, "/plain/closed", &token).unwrap().status, 200);
    assert!(gateway.stop());
}

#[test]
fn a_reload_takes_over_what_is_asked_of_requests_and_tokens() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let good = configure(&home, &upstream);
    let gateway = home.start();
    let address = gateway.address("api").unwrap();
    let token = home.reader("ana");
    let ask = || {
        let mut caller = Caller::open(address).unwrap();
        let body = ("text/plain", &b"more than four bytes"[..]);
        caller.send("POST", "/plain/x", &token, Some(body)).unwrap();
        caller.answer().unwrap().status
    };
    assert_eq!(ask(), 200);
    for (changed, status) in [
        (good.replace("audience = [\"weirgate\"]", "audience = [\"other\"]"), 401),
        (format!("{good}[limits]\nbody_max = 4\n"), 413),
        (
            good.replacen(
                "protocol = \"http\"\n[[",
                "protocol = \"http\"\nhosts = [\"gw.example\"]\n[[",
                1,
            ),
            421,
        ),
        (good.clone(), 200),
    ] {
        home.write("gateway.toml", &changed);
        gateway.reload(home.load()).unwrap();
        assert_eq!(ask(), status, "{changed}");
    }
    assert!(gateway.stop());
}

#[test]
fn a_reload_takes_over_what_the_record_keeps() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let admin = "[admin]\naddress = \"127.0.0.1:0\"\n";
    home.configure(upstream.address, admin);
    let gateway = home.start();
    let address = gateway.admin_address().unwrap();
    let left = || {
        let text = get(address, "/metrics", "").unwrap().text();
        let line = text.lines().find(|line| line.contains("days_left{until=\"age\"}"));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(left(), "+Inf", "nothing is bound");
    let retain = format!("{admin}[record]\nretain = {{ age = \"30d\" }}\n");
    home.configure(upstream.address, &retain);
    gateway.reload(home.load()).unwrap();
    assert!(left().parse::<f64>().unwrap() <= 30.0, "{}", left());
    assert!(gateway.stop());
}

#[test]
fn the_program_says_at_sighup_which_key_takes_a_restart() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    home.configure(upstream.address, "[admin]\naddress = \"127.0.0.1:0\"\n");
    let mut served = Served::start(&home.config(), &[]);
    let address = served.address("api");
    home.configure(upstream.address, "[admin]\naddress = \"127.0.0.1:1\"\n");
    served.signal("HUP");
    let said = served.says("the old config stays in force");
    let text = said["message"].as_str().unwrap();
    assert!(text.contains("[admin] address") && text.contains("restart"), "{text}");
    assert_eq!(get(address, "/plain/x", &home.reader("ana")).unwrap().status, 200);
    served.signal("TERM");
    assert_eq!(served.ended().code(), Some(0), "{}", served.log());
}
