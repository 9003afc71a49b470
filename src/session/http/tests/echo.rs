//! The injected key told back over the events of a stream, on routes with and without a mask.

use super::{ASK, Wire, chat, split_head};
use crate::record::Kind;
use crate::session::kit::{REAL_KEY, kit, recorded};

fn events(parts: &[String]) -> Vec<u8> {
    let mut bytes =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
    for part in parts {
        let event = format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{part}\"}}}}]}}\n\n"
        );
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    bytes
}

/// What was told to a caller, all deltas joined.
fn told(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.split("\"content\":\"").skip(1).filter_map(|part| part.split('"').next()).collect()
}

#[test]
fn a_key_that_is_told_token_by_token_ends_the_stream_with_and_without_a_mask() {
    let key = String::from_utf8(REAL_KEY.to_vec()).unwrap();
    for (group, body) in [("plain", r#"{"model":"m"}"#), ("analysts", ASK)] {
        for len in [1, 2, 3, 5, 9, key.len()] {
            for step in [1usize, 7, 64, 100_000] {
                let mut kit = kit();
                let token = kit.token("ana", &[group]);
                let mut wire = Wire::new();
                wire.caller(&mut kit, &chat(&token, body));
                let mut parts = vec!["it is ".to_owned()];
                parts.extend(
                    key.as_bytes()
                        .chunks(len)
                        .map(|part| String::from_utf8(part.to_vec()).unwrap()),
                );
                parts.push(" then".to_owned());
                events(&parts).chunks(step).for_each(|bytes| wire.upstream(&mut kit, bytes));
                let (head, _) = split_head(&wire.to_caller);
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                assert!(wire.session.is_closed(), "{group} {len} {step}");
                assert!(!wire.to_caller.ends_with(b"0\r\n\r\n"), "it looks cut");
                let told = told(&wire.to_caller);
                assert!("it is sk-".starts_with(&told), "{group} {len} {step}: {told}");
                let kept = recorded(&kit.worker, Kind::ResponseBody);
                assert!(!String::from_utf8_lossy(&kept).contains("real"), "{group} {len}");
            }
        }
    }
}

#[test]
fn a_stream_that_only_begins_like_the_key_comes_whole() {
    for step in [1usize, 7, 64, 100_000] {
        let mut kit = kit();
        let token = kit.token("eve", &["plain"]);
        let mut wire = Wire::new();
        wire.caller(&mut kit, &chat(&token, r#"{"model":"m"}"#));
        let parts = ["keys like ", "sk-", "real", "-key-of", " others end"].map(str::to_owned);
        events(&parts).chunks(step).for_each(|bytes| wire.upstream(&mut kit, bytes));
        assert!(wire.to_caller.ends_with(b"0\r\n\r\n") && !wire.session.is_closed());
        assert_eq!(told(&wire.to_caller), parts.concat());
    }
}
