//! TLS on both legs, with much in few and in many pieces.

use crate::certificates::{connect, issue};
use crate::kit::upstream::{chunk, chunked_head};
use crate::kit::{Caller, Home, Upstream};
use std::io::Write as _;

/// Lengths of the chunks that an upstream sends at once.
fn chunks() -> Vec<Vec<u8>> {
    let lens = (1..200usize).map(|n| n * 7 % 61 + 1).chain([20_000, 1, 16_384, 16_385, 3]);
    let text = |len: usize| (0..len).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
    lens.map(text).collect()
}

#[test]
fn over_tls_on_both_legs_every_byte_comes_whatever_the_pieces_are() {
    let home = Home::new();
    let made = issue(&home.path("certs"), None);
    let upstream = Upstream::secure(&made.cert, &made.key, |heard, stream| {
        let mut all = Vec::new();
        chunked_head(&mut all, "text/plain")?;
        for one in chunks() {
            chunk(&mut all, &one)?;
        }
        chunk(&mut all, &heard.body)?;
        chunk(&mut all, b"")?;
        stream.write_all(&all)
    });
    let more = "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
                tls = { cert = \"certs/cert.pem\", key = \"certs/key.pem\" }\n";
    home.configure(upstream.address, more);
    let text = std::fs::read_to_string(home.config()).unwrap();
    let (plain, secure) = (
        format!("upstream = \"http://{}\"", upstream.address),
        format!(
            "upstream = \"https://{}\"\ntls = {{ ca = \"certs/ca.pem\", server_name = \"localhost\" }}",
            upstream.address
        ),
    );
    home.write("gateway.toml", &text.replace(&plain, &secure));
    let gateway = home.start();
    let address = gateway.address("tls").unwrap();
    let token = home.reader("ana");
    let mut caller = Caller::over(connect(address, &made.ca, None).unwrap());
    let body: Vec<u8> = (0..50_000u32).map(|at| b'0' + u8::try_from(at % 10).unwrap()).collect();
    let whole = [chunks().concat(), body.clone()].concat();
    for path in ["/plain/x", "/masked/x", "/plain/x"] {
        caller.send("POST", path, &token, Some(("text/plain", &body))).unwrap();
        let answer = caller.answer().unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == whole, "{path}: {} of {} bytes", answer.body.len(), whole.len());
    }
    assert!(gateway.stop());
    home.verify(&home.data());
}
