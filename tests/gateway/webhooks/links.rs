//! Votes that come by a signed link: beside the person's own login, once, for what it was made for.

use super::*;
use crate::approvals::{call, raw};
use serde_json::json;
use std::net::SocketAddr;

/// The link of a notice: the query of one of its answers.
fn query(notice: &Notice, answer: &str) -> String {
    let link = notice.json()["data"]["links"][answer].as_str().unwrap().to_owned();
    link.split_once('?').unwrap().1.to_owned()
}

#[test]
fn a_link_counts_once_for_its_own_vote_and_never_without_a_login() {
    let (home, receiver) = (Home::new(), Receiver::new(200));
    configure(&home, &chat(&receiver.url(), ""));
    let (gateway, admin) = start(&home);
    let mut wanted = ask("ana", 1);
    wanted.terms.count = 3;
    let session = Session::of(&gateway, 1);
    let id = session.asks(&wanted);
    let other = session.asks(&ask("ana", 2));
    let heard = receiver.hears(2);
    let of = |id: ApprovalId| {
        let of = |one: &&Notice| one.json()["data"]["approval"]["id"] == id.to_string();
        heard.iter().find(of).unwrap()
    };
    let approve = query(of(id), "approve");
    let digest = of(id).json()["data"]["approval"]["digest"].clone();
    let body = |link: &str| json!({ "digest": digest, "reason": "t 7", "link": link });
    let post = |id: ApprovalId, word: &str| format!("POST /api/v1/approvals/{id}/{word}");
    let dora = home.token("dora", &["dba"]);
    let refused = |token: &str, line: &str, body: &Value, status: u16, kind: &str| {
        let (found, problem) = call(admin, line, token, Some(body));
        assert_eq!(found, status, "{kind}: {problem}");
        assert!(problem["type"].as_str().unwrap().ends_with(kind), "{problem}");
    };
    // A link is no login, and a GET of it changes nothing.
    let kind = "content-type: application/json\r\n";
    let (status, _) = raw(admin, &post(id, "approve"), kind, &body(&approve).to_string());
    assert_eq!(status, 401);
    let page = shell(admin, &format!("/approvals/{id}?{approve}"));
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("<!doctype html>"), "{page}");
    // Every part of it counts.
    let changed = |from: &str, to: &str| {
        assert!(approve.contains(from), "{approve}");
        approve.replacen(from, to, 1)
    };
    for link in [
        changed("vote=approve", "vote=deny"),
        changed("h=chat", "h=chad"),
        changed("&n=", "&n=A"),
        changed("&e=", "&e=9"),
        changed("&s=", "&s=A"),
        changed("&s=", "&x="),
        String::new(),
        query(of(other), "approve"),
        query(of(id), "deny"),
    ] {
        refused(&dora, &post(id, "approve"), &body(&link), 403, "link-tampered");
    }
    refused(&dora, &post(id, "deny"), &body(&approve), 403, "link-tampered");
    let mut wrong = body(&approve);
    wrong["digest"] = json!("0".repeat(64));
    refused(&dora, &post(id, "approve"), &wrong, 409, "digest");
    // Who may not decide may not by a link either, and leaves it as it was.
    refused(
        &home.token("ana", &["dba"]),
        &post(id, "approve"),
        &body(&approve),
        403,
        "own-request",
    );
    refused(
        &home.token("eve", &["x"]),
        &post(id, "approve"),
        &body(&approve),
        403,
        "not-an-approver",
    );
    let (status, voted) = call(admin, &post(id, "approve"), &dora, Some(&body(&approve)));
    assert_eq!((status, &voted["votes"][0]["via"]), (200, &json!("link:chat")), "{voted}");
    // Nobody else votes by it, neither at once nor after a restart.
    let mia = home.token("mia", &["dba"]);
    refused(&mia, &post(id, "approve"), &body(&approve), 409, "link-used");
    assert!(gateway.stop());
    let (gateway, admin) = start(&home);
    let (status, problem) = call(admin, &post(id, "approve"), &mia, Some(&body(&approve)));
    assert!(status == 409 && problem["type"].as_str().unwrap().ends_with("link-used"), "{problem}");
    // Without it, by its own login, it does; and a link of another key never.
    let (status, voted) = call(admin, &post(id, "approve"), &mia, Some(&body("vote=approve")));
    assert_eq!(status, 403, "{voted}");
    let plain = json!({ "digest": digest, "reason": "t 7" });
    let (status, voted) = call(admin, &post(id, "approve"), &mia, Some(&plain));
    assert_eq!((status, &voted["votes"][1]["via"]), (200, &Value::Null), "{voted}");
    assert!(gateway.stop());
    home.verify(&home.data());
    let entries = home.show(&home.data(), &id.to_string());
    let text = entries.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("link:chat"), "{text}");
}

#[test]
fn two_people_who_race_by_one_link_are_one_vote() {
    let (home, receiver) = (Home::new(), Receiver::new(200));
    configure(&home, &chat(&receiver.url(), ""));
    let (gateway, admin) = start(&home);
    let mut wanted = ask("ana", 1);
    wanted.terms.count = 16;
    let id = Session::of(&gateway, 1).asks(&wanted);
    let notice = receiver.hears(1)[0].clone();
    let link = query(&notice, "approve");
    let digest = notice.json()["data"]["approval"]["digest"].clone();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let voters: Vec<_> = (0..8)
            .map(|n| {
                let token = home.token(&format!("voter-{n}"), &["dba"]);
                let body = json!({ "digest": digest, "reason": "t", "link": link });
                scope.spawn(move || {
                    let line = format!("POST /api/v1/approvals/{id}/approve");
                    call(admin, &line, &token, Some(&body)).0
                })
            })
            .collect();
        voters.into_iter().map(|voter| voter.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
    assert!(gateway.stop());
}

/// The page that a link opens, without a login.
fn shell(admin: SocketAddr, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(admin).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
