//! Approvals of a live gateway: by its API, by the command line, in its record, over a restart.

use crate::kit::{Home, PATIENCE, Scrape};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use weirgate::base::Secret;
use weirgate::control::approvals::{Desk, Waiter};
use weirgate::gateway::Gateway;
use weirgate::policy::approval::{
    ApprovalId, Ask, Claims, Originals, Party, Scope, Terms, Verdict,
};

const SECOND: u64 = 1_000_000_000;
const ISSUER: &str = "https://issuer.test.invalid";

fn start(home: &Home) -> (Gateway, SocketAddr) {
    home.write("admin.token", "the-admin-token");
    home.configure(
        ([127, 0, 0, 1], 9).into(),
        "[admin]\naddress = \"127.0.0.1:0\"\nissuer = \"dev\"\nviewers = [\"security\"]\n\
         token = \"file:admin.token\"\n",
    );
    let gateway = home.start();
    let admin = gateway.admin_address().unwrap();
    (gateway, admin)
}

pub(crate) fn ask(sub: &str, what: u8) -> Ask {
    Ask {
        who: Party {
            iss: ISSUER.into(),
            sub: sub.into(),
            client_id: None,
            actors: ["agent".into()].into(),
            groups: ["readers".into()].into(),
        },
        resource: "orders".into(),
        protocol: "postgres".into(),
        rule: "writes".into(),
        credential: None,
        generation: 1,
        binding: [what; 32],
        fingerprint: [what; 32],
        retry: None,
        summary: "delete from orders where id = $1".into(),
        terms: Terms {
            approvers: ["dba".into()].into(),
            count: 1,
            distinct_groups: false,
            wait_ns: 600 * SECOND,
            ttl_ns: 600 * SECOND,
            uses: 1,
            scope: Scope::Exact,
            reason: true,
            break_glass: false,
            reveal: [].into(),
            estimate: false,
        },
        asserted: Claims { node: Some("tools".into()), ..Claims::default() },
        reason: None,
        exchange: "x".into(),
        originals: Originals::default(),
    }
}

/// A session at the desk of a gateway.
pub(crate) struct Session(Desk, Waiter, mpsc::Receiver<Verdict>);

impl Session {
    pub(crate) fn of(gateway: &Gateway, id: u64) -> Self {
        let (sender, heard) = mpsc::channel();
        let tell = Arc::new(move |verdict| drop(sender.send(verdict)));
        Self(gateway.desk(), Waiter { id, tell }, heard)
    }

    pub(crate) fn hears(&self) -> Verdict {
        self.2.recv_timeout(PATIENCE).unwrap()
    }

    pub(crate) fn asks(&self, ask: &Ask) -> ApprovalId {
        self.0.ask(ask.clone(), self.1.clone());
        match self.hears() {
            Verdict::Pending { id, .. } | Verdict::Approved { id } => id,
            other => panic!("{other:?}"),
        }
    }

    fn spends(&self, id: ApprovalId, ask: &Ask) -> Verdict {
        self.0.spend(id, ask.binding, ask.who.clone(), self.1.clone());
        self.hears()
    }
}

/// One call; status and body.
pub(crate) fn call(
    admin: SocketAddr,
    line: &str,
    token: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    raw(admin, line, &format!("authorization: Bearer {token}\r\n{kind}"), &body)
}

pub(crate) fn raw(admin: SocketAddr, line: &str, fields: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let len = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{fields}\r\n"
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    if !head.starts_with("HTTP/1.1 200") {
        assert!(head.contains("application/problem+json"), "{head}");
    }
    (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
}

#[test]
fn a_person_who_is_not_the_caller_decides_by_the_api_and_nobody_else_does() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let wanted = ask("ana", 1);
    let id = session.asks(&wanted);
    let dora = home.token("dora", &["dba"]);
    let (status, list) = call(admin, "GET /api/v1/approvals?state=pending", &dora, None);
    assert_eq!((status, list[0]["id"].as_str()), (200, Some(id.to_string().as_str())));
    for key in [
        "id",
        "state",
        "iss",
        "sub",
        "actors",
        "resource",
        "rule",
        "scope",
        "summary",
        "fingerprint",
        "requested_at",
        "deadline",
        "votes",
    ] {
        assert!(!list[0][key].is_null(), "{key}");
    }
    let one = format!("/api/v1/approvals/{id}");
    let digest = list[0]["digest"].clone();
    let yes = json!({ "reason": "ticket 7", "digest": digest });
    let approve = format!("POST {one}/approve");
    // Who may not, each for a reason of its own.
    for (token, status, kind) in [
        (home.token("ana", &["dba"]), 403, "own-request"),
        (home.token("agent", &["dba"]), 403, "own-request"),
        (home.token("sid", &["security"]), 403, "not-an-approver"),
        ("the-admin-token".to_owned(), 403, "not-a-person"),
        ("nonsense".to_owned(), 401, "admin-token"),
    ] {
        let (found, problem) = call(admin, &approve, &token, Some(&yes));
        assert_eq!(found, status, "{kind}: {problem}");
        assert!(problem["type"].as_str().unwrap().ends_with(kind), "{problem}");
    }
    // What does not count, though the person may.
    let mut other = digest.as_str().unwrap().to_owned();
    let last = other.pop().unwrap();
    other.push(if last == '0' { '1' } else { '0' });
    for (body, status) in [
        (json!({ "reason": "x", "digest": other }), 409),
        (json!({ "reason": "x" }), 400),
        (json!({ "digest": digest }), 422),
        (json!({ "reason": "x", "digest": digest, "more": 1 }), 400),
    ] {
        assert_eq!(call(admin, &approve, &dora, Some(&body)).0, status, "{body}");
    }
    assert_eq!(call(admin, &format!("GET {one}/approve"), &dora, None).0, 405, "a link");
    let form = format!("authorization: Bearer {dora}\r\ncontent-type: text/plain\r\n");
    assert_eq!(raw(admin, &approve, &form, &yes.to_string()).0, 415, "a form");
    let (_, shown) = call(admin, &format!("GET {one}"), &dora, None);
    assert_eq!((&shown["state"], &shown["votes"]), (&json!("pending"), &json!([])));
    // And then it does.
    let (status, approved) = call(admin, &approve, &dora, Some(&yes));
    assert_eq!((status, &approved["state"]), (200, &json!("approved")));
    assert_eq!(approved["votes"][0]["sub"], "dora");
    assert_eq!(call(admin, &approve, &dora, Some(&yes)).0, 409, "a vote that is sent again");
    assert_eq!(session.hears(), Verdict::Approved { id });
    let Verdict::Spent(one) = session.spends(id, &wanted) else { panic!("not spent") };
    assert_eq!(one.approvers().collect::<Vec<_>>(), ["dora"]);
    assert!(gateway.stop());
    record_tells(&home, id);
}

/// Every act is in the record, which is whole.
fn record_tells(home: &Home, id: ApprovalId) {
    home.verify(&home.data());
    let entries = home.show(&home.data(), &id.to_string());
    let text = |entry: &Value, key: &str| {
        entry["fields"][key].as_str().or(entry[key].as_str()).map(ToOwned::to_owned)
    };
    let acts: Vec<_> = entries.iter().filter_map(|entry| text(entry, "note")).collect();
    let (done, refused): (Vec<_>, Vec<_>) = acts.iter().partition(|act| *act != "refused");
    assert_eq!(done, ["asked", "voted", "used"], "{entries:#?}");
    // Three who may not, another digest, no reason, and the vote that was sent again.
    assert_eq!(refused.len(), 6, "{entries:#?}");
    let voted = entries.iter().find(|entry| text(entry, "note").as_deref() == Some("voted"));
    let said = voted.unwrap().to_string();
    assert!(said.contains("dora") && said.contains("ticket 7") && said.contains("approve"));
}

#[test]
fn what_somebody_sees_is_what_is_theirs_to_see() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let id = session.asks(&ask("ana", 1)).to_string();
    session.asks(&ask("bob", 2));
    let seen = |token: &str| {
        let (status, list) = call(admin, "GET /api/v1/approvals", token, None);
        assert_eq!(status, 200);
        list.as_array().unwrap().len()
    };
    assert_eq!(seen("the-admin-token"), 2);
    assert_eq!(seen(&home.token("sid", &["security"])), 2);
    assert_eq!(seen(&home.token("dora", &["dba"])), 2);
    assert_eq!(seen(&home.token("ana", &["readers"])), 1);
    let eve = home.token("eve", &["readers"]);
    assert_eq!(seen(&eve), 0);
    let one = format!("GET /api/v1/approvals/{id}");
    assert_eq!(call(admin, &one, &eve, None).0, 404);
    assert_eq!(call(admin, "GET /api/v1/resources", &eve, None).0, 403);
    assert_eq!(call(admin, "GET /api/v1/approvals?state=lost", &eve, None).0, 400);
    assert_eq!(call(admin, "GET /api/v1/approvals?stat=denied", &eve, None).0, 400);
    let (_, document) = call(admin, "GET /api/v1/openapi.json", "the-admin-token", None);
    let paths = document["paths"].as_object().unwrap();
    for (path, wanted) in [("/api/v1/approvals", "get"), ("/api/v1/grants/revoke", "post")] {
        assert!(paths[path][wanted].is_object(), "{path}");
    }
    // What is shown has no member that the document does not name.
    let (_, shown) = call(admin, &one, "the-admin-token", None);
    let known = document["components"]["schemas"]["Approval"]["properties"].as_object().unwrap();
    let mut missing = shown.as_object().unwrap().keys().filter(|key| !known.contains_key(*key));
    assert_eq!(missing.next(), None);
    let scrape = Scrape::of(admin);
    assert_eq!(scrape.sum("weirgate_approvals", &[("state", "pending")]), 2.0);
    assert_eq!(scrape.sum("weirgate_approval_events_total", &[("event", "asked")]), 2.0);
    assert!(gateway.stop());
}

#[test]
fn grants_outlive_a_restart_and_are_taken_back_by_whom_they_may() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let wanted = ask("ana", 1);
    let id = session.asks(&wanted);
    let dora = home.token("dora", &["dba"]);
    let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &dora, None);
    let yes = json!({ "reason": "x", "digest": shown["digest"] });
    let approve = format!("POST /api/v1/approvals/{id}/approve");
    assert_eq!(call(admin, &approve, &dora, Some(&yes)).0, 200);
    assert!(gateway.stop());
    let gateway = home.start();
    let admin = gateway.admin_address().unwrap();
    let session = Session::of(&gateway, 2);
    assert_eq!(session.asks(&wanted), id, "the same request, approved");
    let (_, grants) = call(admin, "GET /api/v1/grants", &dora, None);
    assert_eq!(grants[0]["id"], json!(id.to_string()));
    let caller = json!({ "caller": { "sub": "ana" }, "reason": "left" });
    let revoke = "POST /api/v1/grants/revoke";
    let eve = home.token("eve", &["readers"]);
    let (_, nothing) = call(admin, revoke, &eve, Some(&caller));
    assert_eq!((&nothing["revoked"], &nothing["withheld"]), (&json!([]), &json!(1)));
    for wrong in [json!({}), json!({ "all": false }), json!({ "all": true, "resource": "x" })] {
        assert_eq!(call(admin, revoke, &dora, Some(&wrong)).0, 400, "{wrong}");
    }
    let (_, taken) = call(admin, revoke, "the-admin-token", Some(&caller));
    assert_eq!(taken["revoked"], json!([id.to_string()]));
    assert_eq!(session.hears(), Verdict::Revoked { id });
    assert_eq!(session.spends(id, &wanted), Verdict::Revoked { id });
    assert!(gateway.stop());
}

#[test]
fn the_command_line_lists_shows_approves_denies_and_revokes() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let [yes, no] = [ask("ana", 1), ask("ana", 2)].map(|ask| session.asks(&ask));
    home.write("dora.token", &home.token("dora", &["dba"]));
    home.write("ana.token", &home.token("ana", &["dba"]));
    let url = format!("http://{admin}");
    let run = |who: &str, words: &[&str]| {
        let file = format!("{who}.token");
        let reach = ["--admin", &url, "--token-file", &file];
        let output = home.run(&[words, &reach].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (yes_text, no_text) = (yes.to_string(), no.to_string());
    let (code, out, errors) = run("dora", &["approvals", "list", "--state", "pending"]);
    assert!(code == 0 && out.contains(&yes_text) && out.contains(&no_text), "{out}{errors}");
    let (code, out, _) = run("dora", &["approvals", "list", "--json"]);
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, rows.len()), (0, 2));
    let (code, out, _) = run("dora", &["approvals", "show", &yes_text]);
    assert!(code == 0 && out.contains("delete from orders"), "{out}");
    let (code, _, errors) = run("ana", &["approvals", "approve", &yes_text, "--reason", "x"]);
    assert!(code == 1 && errors.contains("their own"), "{errors}");
    let (code, _, errors) = run("dora", &["approvals", "approve", &yes_text]);
    assert!(code == 1 && errors.contains("reason"), "{errors}");
    let (code, out, errors) = run("dora", &["approvals", "approve", &yes_text, "--reason", "t 7"]);
    assert!(code == 0 && out.contains("is approved (1 of 1"), "{out}{errors}");
    assert!(out.contains("delete from orders"), "what was voted about is told");
    let (code, out, _) = run("dora", &["approvals", "deny", &no_text, "--reason", "no", "--json"]);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &row["state"]), (0, &json!("denied")));
    let (code, ..) = run("dora", &["approvals", "deny", &no_text, "--reason", "no"]);
    assert_eq!(code, 1, "decided already");
    let (code, out, _) = run("dora", &["grants", "list", "--json"]);
    assert!(code == 0 && out.contains(&yes_text) && !out.contains(&no_text), "{out}");
    let (code, out, _) = run("dora", &["grants", "revoke", "--resource", "orders"]);
    assert!(code == 0 && out.contains("1 revoked"), "{out}");
    let (code, _, errors) = run("dora", &["grants", "revoke", "--all"]);
    assert!(code == 1 && errors.contains("nothing"), "{errors}");
    let none = home.run(&["approvals", "list", "--admin", &url]);
    assert_eq!(none.status.code(), Some(2), "no token");
    let both = home.run(&["grants", "revoke", "x", "--all", "--admin", &url]);
    assert_eq!(both.status.code(), Some(2), "two ways to name it");
    let heard: Vec<_> = std::iter::from_fn(|| session.2.try_recv().ok()).collect();
    assert!(heard.contains(&Verdict::Revoked { id: yes }));
    assert!(heard.contains(&Verdict::Denied { id: no, reason: Some("no".into()) }));
    assert!(gateway.stop());
}

#[test]
fn a_damaged_log_keeps_the_gateway_from_starting_and_says_what_to_do() {
    let home = Home::new();
    let (gateway, _) = start(&home);
    Session::of(&gateway, 1).asks(&ask("ana", 1));
    assert!(gateway.stop());
    let log = home.data().join("approvals/log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[60] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let refused = Gateway::start(home.load(), Arc::new(weirgate::cli::source::System));
    let error = refused.map(Gateway::stop).unwrap_err().to_string();
    assert!(error.contains("damaged at byte 32") && error.contains("move it away"), "{error}");
    std::fs::remove_file(&log).unwrap();
    assert!(home.start().stop());
}

#[test]
fn originals_are_seen_by_whom_the_rule_names_and_lists_are_short() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let mut wanted = ask("ana", 1);
    wanted.terms.reveal = ["eyes".into()].into();
    wanted.summary = format!("POST /pay\n{{\"to\":\"[EMAIL]\"}}{}", "\u{e9}".repeat(400)).into();
    let original = Secret::new(b"POST /pay\n{\"to\":\"bob@example.com\"}".to_vec());
    wanted.originals.summary = Some(original);
    let id = session.asks(&wanted);
    let one = format!("/api/v1/approvals/{id}");
    let (eve, dora) = (home.token("eve", &["eyes"]), home.token("dora", &["dba"]));
    let (_, list) = call(admin, "GET /api/v1/approvals", &dora, None);
    let cut = list[0]["summary"].as_str().unwrap();
    assert!(cut.len() <= 512 && wanted.summary.starts_with(cut), "{cut}");
    assert_eq!((&list[0]["summary_cut"], &list[0]["digest"]), (&json!(true), &Value::Null));
    let (_, shown) = call(admin, &format!("GET {one}"), &eve, None);
    assert_eq!(
        (shown["summary"].as_str(), &shown["revealable"]),
        (Some(&*wanted.summary), &json!(true))
    );
    let reveal = format!("POST {one}/reveal");
    for (token, status, kind) in [
        (dora.clone(), 403, "not-a-revealer"),
        (home.token("ana", &["eyes"]), 403, "own-request"),
        (home.token("sid", &["security"]), 403, "not-a-revealer"),
        (home.token("zoe", &[]), 404, "unknown"),
        ("the-admin-token".to_owned(), 403, "not-a-person"),
    ] {
        let (found, problem) = call(admin, &reveal, &token, Some(&json!({})));
        assert_eq!(found, status, "{kind}: {problem}");
        assert!(problem["type"].as_str().unwrap().ends_with(kind), "{problem}");
    }
    assert_eq!(call(admin, &format!("GET {one}/reveal"), &eve, None).0, 405, "a link");
    let (status, seen) = call(admin, &reveal, &eve, Some(&json!({})));
    assert_eq!(
        (status, seen["original"].as_str()),
        (200, Some("POST /pay\n{\"to\":\"bob@example.com\"}"))
    );
    let (_, shown) = call(admin, &format!("GET {one}"), &dora, None);
    assert_eq!(shown["looks"][0]["sub"], "eve");
    // It says what is shown: who looked is no part of that.
    let yes = json!({ "reason": "x", "digest": shown["digest"] });
    assert_eq!(call(admin, &format!("POST {one}/approve"), &dora, Some(&yes)).0, 200);
    assert_eq!(call(admin, &reveal, &eve, Some(&json!({}))).0, 410, "it is decided");
    assert!(gateway.stop());
    let entries = home.show(&home.data(), &id.to_string());
    let looked = entries.iter().filter(|entry| entry["fields"]["note"] == "revealed").count();
    assert_eq!(looked, 1, "{entries:#?}");
    assert!(!entries.iter().any(|entry| entry.to_string().contains("bob@example.com")));
    let log = std::fs::read(home.data().join("approvals/log")).unwrap();
    assert!(!String::from_utf8_lossy(&log).contains("bob@example.com"));
}

#[test]
fn what_a_caller_had_approved_before_is_told_to_whom_may_see_it() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let dora = home.token("dora", &["dba"]);
    let approve = |what: &Ask| {
        let id = session.asks(what);
        let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &dora, None);
        let yes = json!({ "reason": "x", "digest": shown["digest"] });
        assert_eq!(
            call(admin, &format!("POST /api/v1/approvals/{id}/approve"), &dora, Some(&yes)).0,
            200
        );
        assert_eq!(session.hears(), Verdict::Approved { id });
        id
    };
    let (first, other) = (approve(&ask("ana", 1)), approve(&ask("ana", 2)));
    assert!(matches!(session.spends(first, &ask("ana", 1)), Verdict::Spent(_)));
    approve(&ask("bob", 1));
    session.asks(&ask("ana", 3));
    let again = session.asks(&ask("ana", 1));
    let line = format!("GET /api/v1/approvals/{again}/before");
    let (status, before) = call(admin, &line, &dora, None);
    let ids: Vec<_> = before.as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!((status, ids), (200, vec![json!(other.to_string()), json!(first.to_string())]));
    assert_eq!(
        (&before[0]["same_operation"], &before[1]["same_operation"]),
        (&json!(false), &json!(true))
    );
    assert_eq!((&before[1]["votes"][0]["sub"], &before[1]["used"]), (&json!("dora"), &json!(1)));
    let eve = home.token("eve", &["readers"]);
    assert_eq!(call(admin, &line, &eve, None).0, 404);
    assert!(gateway.stop());
}

#[test]
fn a_burst_of_questions_that_is_more_than_the_ring_holds_is_asked_and_recorded() {
    let home = Home::new();
    let (gateway, admin) = start(&home);
    // Three times the ring of control.
    let asked: Vec<_> = (0..96u8)
        .map(|number| {
            let session = Session::of(&gateway, u64::from(number));
            let summary = format!("{number}:{}", "long ".repeat(6_500)).into();
            let wanted = Ask { summary, ..ask(&format!("ana-{number}"), number) };
            session.0.ask(wanted, session.1.clone());
            session
        })
        .collect();
    let pending = asked.iter().filter(|one| matches!(one.hears(), Verdict::Pending { .. })).count();
    assert_eq!(pending, 96);
    assert_eq!(Scrape::of(admin).sum("weirgate_approval_broken", &[]), 0.0);
    assert!(gateway.stop());
    home.verify(&home.data());
}
