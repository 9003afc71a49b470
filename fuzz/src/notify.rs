//! What comes back to the gateway of its notices: queries of links, forms of Slack, signatures.

use weirgate::base::Secret;
use weirgate::control::notify::signature::{verify_slack, verify_standard};
use weirgate::control::notify::{Link, press};

/// The first byte chooses: `l` a link, `f` a form, `s` the fields of a signature, a line each, and
/// the body behind them.
pub fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode {
        b'l' => link(&String::from_utf8_lossy(rest)),
        b'f' => {
            if let Ok(Some(pressed)) = press(rest) {
                let id = pressed.id.to_string();
                let body = format!("payload={{\"actions\":[{{\"value\":\"{id}\"}}]}}");
                let again = press(body.as_bytes());
                assert_eq!(again.ok().flatten().map(|again| again.id), Some(pressed.id));
            }
        }
        b's' => signature(rest),
        _ => {}
    }
}

/// A query that is read has each of its parts once.
fn link(query: &str) {
    let Some(link) = Link::parse(query) else { return };
    assert!(!link.nonce().is_empty());
    assert_eq!(query.strip_prefix('?').unwrap_or(query).split('&').count(), 5);
    assert_eq!(Link::parse(&format!("{query}&n=x")), None);
    let turned: Vec<&str> = query.strip_prefix('?').unwrap_or(query).split('&').rev().collect();
    assert_eq!(Link::parse(&turned.join("&")), Some(link));
}

/// Nobody guesses a signature.
fn signature(rest: &[u8]) {
    let text = String::from_utf8_lossy(rest);
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (id, time, signatures, body) = (next(), next(), next(), next());
    let key = Secret::new(b"a key that nobody has, of 32 bytes".to_vec());
    let now_s = time.parse().unwrap_or(0);
    let fields = [id, time, signatures];
    assert!(verify_standard(std::slice::from_ref(&key), fields, body.as_bytes(), now_s).is_err());
    assert!(verify_slack(&key, [time, signatures], body.as_bytes(), now_s).is_err());
}
