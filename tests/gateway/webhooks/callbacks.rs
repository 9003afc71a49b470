//! What receivers send back: signed, once, in time, and with the approver's own token.

use super::*;
use crate::approvals::{call, raw};
use ring::hmac;
use serde_json::json;
use std::net::TcpStream;
use weirgate::control::notify::signature::standard;

fn now_s() -> u64 {
    weirgate::runtime::now().wall_s()
}

/// Fields of a callback, signed by `key`.
fn signed(key: &str, id: &str, time_s: u64, body: &str) -> String {
    let key = Secret::new(key.as_bytes().to_vec());
    let signature = standard(&key, id, time_s, body.as_bytes());
    format!("webhook-id: {id}\r\nwebhook-timestamp: {time_s}\r\nwebhook-signature: {signature}\r\n")
}

#[track_caller]
fn refused(answer: (u16, Value), status: u16, kind: &str) {
    let (found, problem) = answer;
    assert_eq!(found, status, "{kind}: {problem}");
    assert!(problem["type"].as_str().unwrap().ends_with(kind), "{kind}: {problem}");
}

#[test]
fn a_callback_is_the_vote_of_whose_token_it_holds_and_of_nobody_else() {
    let (home, receiver) = (Home::new(), Receiver::new(200));
    home.write("old.key", "the-key-of-before-0123456789abcdef");
    configure(&home, &chat(&receiver.url(), "previous_secret = \"file:old.key\""));
    let (gateway, admin) = start(&home);
    let mut wanted = ask("ana", 1);
    wanted.terms.count = 3;
    let id = Session::of(&gateway, 1).asks(&wanted);
    let digest = receiver.hears(1)[0].json()["data"]["approval"]["digest"].clone();
    let body = |token: &str| {
        json!({ "approval": id.to_string(), "vote": "approve", "digest": digest,
            "reason": "in the chat", "token": token })
    };
    let to = "POST /callback/chat";
    let send = |fields: &str, body: &str| raw(admin, to, fields, body);
    let dora = body(&home.token("dora", &["dba"])).to_string();
    let good = |id: &str, body: &str| signed(KEY, id, now_s(), body);
    // Not signed, by another key, changed after it, too old, too new.
    refused(send("", &dora), 400, "callback-fields");
    let bearer = format!("authorization: Bearer {}\r\n", home.token("dora", &["dba"]));
    refused(send(&bearer, &dora), 400, "callback-fields");
    let other = signed("another-key-another-key-another-k", "m0", now_s(), &dora);
    refused(send(&other, &dora), 403, "callback-signature");
    let changed = dora.replace("approve", "approvE");
    refused(send(&good("m1", &dora), &changed), 403, "callback-signature");
    let moved = good("m1", &dora).replace("webhook-id: m1", "webhook-id: m2");
    refused(send(&moved, &dora), 403, "callback-signature");
    for time_s in [now_s() - 302, now_s() + 330] {
        refused(send(&signed(KEY, "m1", time_s, &dora), &dora), 403, "callback-time");
    }
    let twice = good("m1", &dora) + "webhook-id: m1\r\n";
    refused(send(&twice, &dora), 400, "callback-fields");
    // Signed, and the token is none, is the caller's own, or is no approver's.
    for (n, (token, status, kind)) in [
        ("nonsense".to_owned(), 403, "callback-token"),
        ("the-admin-token".to_owned(), 403, "callback-token"),
        (String::new(), 403, "callback-token"),
        (home.token("ana", &["dba"]), 403, "own-request"),
        (home.token("eve", &["readers"]), 403, "not-an-approver"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = body(&token).to_string();
        refused(send(&good(&format!("t{n}"), &body), &body), status, kind);
    }
    // Signed, and not what is taken.
    let double = dora.replacen('{', "{\"vote\":\"deny\",", 1);
    let more = dora.replacen('{', "{\"more\":1,", 1);
    for (n, wrong) in [double.as_str(), &more, "{}", "", "[1]"].into_iter().enumerate() {
        refused(send(&good(&format!("b{n}"), wrong), wrong), 400, "callback-body");
    }
    let long = format!("{}{dora}", " ".repeat(64 << 10));
    refused(send(&good("b9", &long), &long), 413, "callback-body");
    refused(raw(admin, "POST /callback/none", &good("m1", &dora), &dora), 404, "not-found");
    assert_eq!(raw(admin, "GET /callback/chat", &good("m1", &dora), "").0, 405);
    let (_, shown) =
        call(admin, &format!("GET /api/v1/approvals/{id}"), &home.token("dora", &["dba"]), None);
    assert_eq!(shown["votes"], json!([]), "none of it is a vote");
    // And then one is.
    let fields = good("m1", &dora);
    let (status, voted) = send(&fields, &dora);
    assert_eq!((status, &voted["state"]), (200, &json!("pending")), "{voted}");
    refused(send(&fields, &dora), 409, "callback-replayed");
    // By the key of before, too, while that is in the config.
    let mia = body(&home.token("mia", &["dba"])).to_string();
    let old = signed("the-key-of-before-0123456789abcdef", "o1", now_s(), &mia);
    assert_eq!(send(&old, &mia).0, 200);
    refused(send(&good("m3", &mia), &mia), 409, "voted");
    assert!(gateway.stop());
    let (gateway, admin) = start(&home);
    refused(raw(admin, to, &fields, &dora), 409, "callback-replayed");
    let (_, list) = call(admin, "GET /api/v1/webhooks", "the-admin-token", None);
    assert_eq!(list[0]["callbacks"]["replayed"], 1, "{list}");
    assert!(gateway.stop());
    home.verify(&home.data());
    let entries = home.show(&home.data(), &id.to_string());
    let text = entries.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("callback:chat") && text.contains("in the chat"), "{text}");
}

#[test]
fn a_webhook_acts_on_nothing_that_it_is_not_told_of() {
    let (home, receiver) = (Home::new(), Receiver::new(200));
    configure(&home, &chat(&receiver.url(), "resource = [\"plain\"]"));
    let (gateway, admin) = start(&home);
    let id = asked(&gateway, "ana", 1);
    let token = home.token("dora", &["dba"]);
    let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &token, None);
    let body = json!({ "approval": id.to_string(), "vote": "approve", "digest": shown["digest"],
        "reason": "x", "token": token })
    .to_string();
    let answer = raw(admin, "POST /callback/chat", &signed(KEY, "m1", now_s(), &body), &body);
    refused(answer, 404, "unknown");
    // More than the budget of one webhook: those without a key spend none of it.
    let forged = signed("another-key-another-key-another-k", "f", now_s(), &body);
    let statuses: Vec<u16> =
        (0..90).map(|_| raw(admin, "POST /callback/chat", &forged, &body).0).collect();
    assert!(statuses.contains(&429), "{statuses:?}");
    let answer = raw(admin, "POST /callback/chat", &signed(KEY, "m2", now_s(), &body), &body);
    refused(answer, 404, "unknown");
    assert!(gateway.stop());
}

#[test]
fn slack_is_told_in_blocks_and_its_buttons_are_answered_with_a_link_and_never_vote() {
    let (home, receiver) = (Home::new(), Receiver::new(200));
    home.write("slack.key", "8f742231b10e8888abcd99yyyzzz85a5");
    home.write("slack.url", &receiver.url());
    let hook = "[[webhook]]\nname = \"slack\"\nurl = \"file:slack.url\"\nformat = \"slack\"\n\
        signing_secret = \"file:slack.key\"\n";
    configure(&home, hook);
    let (gateway, admin) = start(&home);
    let mut wanted = ask("<!channel>", 1);
    wanted.summary = "select '<https://evil.example|x>' & ```\u{202e}".into();
    let id = Session::of(&gateway, 1).asks(&wanted);
    let told = receiver.hears(1)[0].json();
    let text = told.to_string();
    assert!(!text.contains("<!channel>\"") || !text.contains("mrkdwn\",\"text\":\"Caller"));
    let code = told["blocks"].as_array().unwrap().iter().find_map(|block| {
        block["text"]["text"].as_str().filter(|_| block["text"]["type"] == "mrkdwn")
    });
    assert_eq!(
        code.unwrap(),
        "```\nselect '&lt;https://evil.example|x&gt;' &amp; '''\\u{202e}\n```"
    );
    let buttons = told["blocks"].as_array().unwrap().last().unwrap()["elements"].clone();
    let url = buttons[0]["url"].as_str().unwrap();
    assert!(url.starts_with(&format!("{URL}/approvals/{id}?vote=approve&h=slack&")), "{url}");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"8f742231b10e8888abcd99yyyzzz85a5");
    let sign = |time_s: u64, body: &str| {
        let tag = hmac::sign(&key, format!("v0:{time_s}:{body}").as_bytes());
        let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "x-slack-request-timestamp: {time_s}\r\nx-slack-signature: v0={hex}\r\n\
             content-type: application/x-www-form-urlencoded\r\n"
        )
    };
    let press = |response: Option<&str>, value: &str| {
        let mut payload = json!({ "type": "block_actions", "user": {"id": "U1"},
            "actions": [{"action_id": "x", "value": value}] });
        if let Some(response) = response {
            payload["response_url"] = json!(response);
        }
        let escaped: String =
            payload.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("payload={escaped}")
    };
    let to = "POST /callback/slack";
    let body = press(None, &format!("{id}:approve"));
    let fields = sign(now_s(), &body);
    let (status, answer) = raw(admin, to, &fields, &body);
    assert_eq!((status, &answer["response_type"]), (200, &json!("ephemeral")));
    assert!(answer.to_string().contains(&format!("/approvals/{id}?vote=approve&h=slack")));
    refused(raw(admin, to, &fields, &body), 409, "callback-replayed");
    refused(raw(admin, to, &fields, &(body.clone() + "&x=1")), 403, "callback-signature");
    refused(raw(admin, to, &sign(now_s() - 301, &body), &body), 403, "callback-time");
    let double = format!("{body}&{body}");
    refused(raw(admin, to, &sign(now_s(), &double), &double), 400, "callback-body");
    // Where Slack says where to post it, it goes there, and nowhere but to the receiver itself.
    let elsewhere = Receiver::new(200);
    for (receiver, count, is_told) in [(&elsewhere, 1, false), (&receiver, 2, true)] {
        let url = format!("http://{}/actions/1", receiver.upstream.address);
        let body = press(Some(&url), &id.to_string());
        let mut stream = TcpStream::connect(admin).unwrap();
        let head = format!(
            "{to} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{}\r\n",
            body.len(),
            sign(now_s(), &body)
        );
        Write::write_all(&mut stream, (head + &body).as_bytes()).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert_eq!(text.contains("ephemeral"), !is_told);
        if is_told {
            let heard = receiver.hears(count).pop().unwrap();
            assert!(heard.head.contains(":path: /actions/1"), "{}", heard.head);
            assert_eq!(heard.json()["response_type"], "ephemeral");
        }
    }
    assert!(elsewhere.heard.lock().unwrap().is_empty());
    let token = home.token("dora", &["dba"]);
    let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &token, None);
    assert_eq!((&shown["state"], &shown["votes"]), (&json!("pending"), &json!([])));
    // The link of a button counts as any.
    let query = url.split_once('?').unwrap().1;
    let vote = json!({ "digest": shown["digest"], "reason": "t", "link": query });
    let line = format!("POST /api/v1/approvals/{id}/approve");
    let (status, voted) = call(admin, &line, &token, Some(&vote));
    assert_eq!((status, &voted["votes"][0]["via"]), (200, &json!("link:slack")), "{voted}");
    assert!(gateway.stop());
}
