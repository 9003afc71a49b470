//! The name that a connection was made for, and the one that its requests are for.

use crate::certificates::connect;
use crate::kit::{Caller, Home, Upstream};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use weirgate::cli::cert::{Dev, make};

/// What curl says: the status of each URL. `to` is where every connection goes, whatever the URL
/// says; the name in the handshake is that of the URL.
fn curl(ca: &Path, to: SocketAddr, token: &str, arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "20", "-o", "/dev/null"]);
    command.args(["-w", "%{http_code} %{num_connects}\n", "--cacert"]).arg(ca);
    command.args(["--connect-to", &format!("::{to}")]);
    command.args(["-H", &format!("authorization: Bearer {token}")]).args(arguments);
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn curl_reaches_a_name_and_not_another_behind_it() {
    let (home, upstream) = (Home::new(), Upstream::echo());
    let names = ["a.example", "b.example"].map(str::to_owned).to_vec();
    let dir = home.path("certs");
    let made = make(&Dev { dir, names, client: None, days: 2, force: false, json: false }).unwrap();
    let listener = |name: &str, hosts: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
             tls = {{ cert = \"certs/cert.pem\", key = \"certs/key.pem\" }}\n{hosts}"
        )
    };
    let both = "hosts = [\"a.example\", \"b.example\"]\n";
    home.configure(upstream.address, &(listener("any", "") + &listener("both", both)));
    let gateway = home.start();
    let [any, both] = ["any", "both"].map(|name| gateway.address(name).unwrap());
    let token = home.reader("ana");
    let ask = |to, arguments: &[&str]| curl(&made.ca, to, &token, arguments);
    let url = "https://a.example/plain/x";

    assert_eq!(ask(any, &[url]), ["200 1"]);
    assert_eq!(ask(any, &["https://b.example:8443/plain/x"]), ["200 1"]);
    assert_eq!(ask(any, &["-H", "host: b.example", url]), ["421 1"]);
    assert_eq!(ask(any, &["-H", "host: A.EXAMPLE:8443", url]), ["200 1"]);
    assert_eq!(ask(both, &["-H", "host: b.example", url]), ["200 1"]);
    assert_eq!(ask(both, &["-H", "host: c.example", url]), ["421 1"]);
    // An address is no name: nothing is asked for in the handshake.
    let mut bare = Command::new("curl");
    bare.args(["-sS", "--noproxy", "*", "-k", "-o", "/dev/null", "-w", "%{http_code}"]);
    bare.args(["-H", &format!("authorization: Bearer {token}"), "-H", "host: c.example"]);
    let output = bare.arg(format!("https://{any}/plain/x")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");

    // A second request on a connection that the first one was right on.
    let mut caller = Caller::over(connect(any, &made.ca, None).unwrap());
    caller.send("GET", "/plain/x", &token, None).unwrap();
    assert_eq!(caller.answer().unwrap().status, 200);
    let head = format!(
        "GET /plain/x HTTP/1.1\r\nhost: b.example\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    caller.stream.write_all(head.as_bytes()).unwrap();
    let answer = caller.answer().unwrap();
    assert_eq!(answer.status, 421);
    assert!(answer.text().contains("problems/misdirected"), "{}", answer.text());
    assert!(gateway.stop());
}
