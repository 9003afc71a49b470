//! Notices: signed, tried again, told once, over kills and restarts.

use super::*;
use crate::approvals::call;
use crate::certificates::issue;
use crate::kit::{Scrape, Served};
use serde_json::json;
use weirgate::policy::approval::{Party, Revoker, Selector};

#[test]
fn a_notice_is_tried_until_it_is_taken_under_one_id_and_holds_no_secret() {
    let (home, receiver) = (Home::new(), Receiver::new(503));
    configure(&home, &chat(&receiver.url(), ""));
    let (gateway, admin) = start(&home);
    let id = asked(&gateway, "ana", 1);
    receiver.hears(1);
    receiver.set(0);
    receiver.hears(2);
    receiver.set(204);
    let heard = receiver.hears(3);
    for notice in &heard {
        assert!(notice.head.contains(":path: /hooks/x"), "{}", notice.head);
        assert_eq!(notice.field("webhook-id"), heard[0].field("webhook-id"), "one id");
        assert_eq!(notice.body, heard[0].body, "the same bytes");
        assert!(notice.is_signed_by(KEY) && !notice.is_signed_by(&KEY.replace('c', "d")));
        let text = format!("{}{}", notice.head, String::from_utf8_lossy(&notice.body));
        assert!(!text.contains(KEY) && !text.contains("the-admin-token"), "{text}");
    }
    let told = heard[0].json();
    assert_eq!(told["type"], "approval.requested");
    let data = &told["data"];
    assert_eq!(data["approval"]["id"], json!(id.to_string()));
    assert_eq!(data["approval"]["summary"], "delete from orders where id = $1");
    assert_eq!(data["approval"]["summary_cut"], false);
    let token = home.token("dora", &["dba"]);
    let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &token, None);
    for key in ["digest", "deadline", "votes", "sub", "rule", "approvers", "node"] {
        assert_eq!(data["approval"][key], shown[key], "{key}");
    }
    assert_eq!(data["links"]["open"], json!(format!("{URL}/approvals/{id}")));
    // Nothing more comes, and the numbers agree.
    let list = eventually("the last note", PATIENCE, || {
        let (_, list) = call(admin, "GET /api/v1/webhooks", "the-admin-token", None);
        (list[0]["queued"] == 0).then_some(list)
    });
    let counted = (&list[0]["delivered"], &list[0]["failed"], &list[0]["failing"]);
    assert_eq!(counted, (&json!(1), &json!(2), &json!(false)));
    let error = list[0]["last_error"]["text"].as_str().unwrap();
    assert!(!error.contains("hooks/x"), "{error}");
    let scrape = Scrape::of(admin);
    let name = "weirgate_webhook_notices_total";
    assert_eq!(scrape.sum(name, &[("webhook", "chat"), ("outcome", "delivered")]), 1.0);
    assert_eq!(receiver.heard.lock().unwrap().len(), 3);
    let eve = home.token("eve", &["readers"]);
    assert_eq!(call(admin, "GET /api/v1/webhooks", &eve, None).0, 403, "no viewer");
    assert!(gateway.stop());
}

#[test]
fn every_step_is_told_to_whom_it_concerns_and_to_nobody_else() {
    let (home, all, few) = (Home::new(), Receiver::new(200), Receiver::new(200));
    let hooks = chat(&all.url(), "")
        + &format!(
            "[[webhook]]\nname = \"few\"\nurl = \"{}\"\nsecret = \"file:chat.key\"\n\
         events = [\"requested\"]\nresource = [\"plain\"]\n",
            few.url()
        );
    configure(&home, &hooks);
    let (gateway, admin) = start(&home);
    let session = Session::of(&gateway, 1);
    let id = session.asks(&ask("ana", 1));
    all.hears(1);
    let dora = home.token("dora", &["dba"]);
    let (_, shown) = call(admin, &format!("GET /api/v1/approvals/{id}"), &dora, None);
    let yes = json!({ "reason": "ticket 7", "digest": shown["digest"] });
    assert_eq!(
        call(admin, &format!("POST /api/v1/approvals/{id}/approve"), &dora, Some(&yes)).0,
        200
    );
    all.hears(2);
    let take_back = json!({ "id": id.to_string(), "reason": "over" });
    assert_eq!(call(admin, "POST /api/v1/grants/revoke", &dora, Some(&take_back)).0, 200);
    let heard = all.hears(3);
    let events: Vec<Value> = heard.iter().map(|one| one.json()["data"]["event"].clone()).collect();
    assert_eq!(events, [json!("requested"), json!("approved"), json!("revoked")]);
    assert_eq!(heard[1].json()["data"]["approval"]["votes"][0]["sub"], "dora");
    assert!(heard[1].json()["data"]["links"]["approve"].is_null(), "nothing to decide any more");
    // Break-glass, at once.
    let mut glass = ask("ana", 2);
    glass.terms.break_glass = true;
    glass.reason = Some("fire".into());
    Session::of(&gateway, 2).asks(&glass);
    let told = all.hears(4)[3].json();
    assert_eq!(told["data"]["event"], "break_glass");
    assert_eq!(told["data"]["approval"]["reason"], "fire");
    assert!(few.heard.lock().unwrap().is_empty(), "of another resource");
    assert!(gateway.stop());
}

#[test]
fn a_kill_loses_no_notice_and_what_was_asked_unheard_is_told_at_the_next_start() {
    let (home, receiver) = (Home::new(), Receiver::new(503));
    configure(&home, &chat(&receiver.url(), ""));
    // Before there was any webhook in force: the config has none at first.
    let with = std::fs::read_to_string(home.config()).unwrap();
    let without = with.split("[[webhook]]").next().unwrap().to_owned();
    home.write("gateway.toml", &without);
    let (gateway, _) = start(&home);
    let old = asked(&gateway, "ana", 1);
    assert!(gateway.stop());
    home.write("gateway.toml", &with);
    // The program, killed while the receiver refuses.
    let mut served = Served::start(&home.config(), &[]);
    served.says("a notice was not taken");
    served.kill();
    let first = receiver.hears(1)[0].clone();
    assert_eq!(first.json()["data"]["approval"]["id"], json!(old.to_string()));
    // Asked while the gateway has no webhook: heard of by nobody.
    home.write("gateway.toml", &without);
    let (gateway, _) = start(&home);
    let unheard = asked(&gateway, "ana", 2);
    assert!(gateway.stop());
    home.write("gateway.toml", &with);
    receiver.set(200);
    let (gateway, _) = start(&home);
    let heard = eventually("both notices", PATIENCE, || {
        let heard = receiver.heard.lock().unwrap().clone();
        let told = |id: ApprovalId| {
            let of = |one: &&Notice| one.json()["data"]["approval"]["id"] == id.to_string();
            heard.iter().rfind(of).cloned()
        };
        told(unheard).zip(told(old).filter(|one| one.is_signed_by(KEY)))
    });
    assert_eq!(heard.1.field("webhook-id"), first.field("webhook-id"), "the same notice");
    assert_eq!(heard.1.body, first.body);
    assert!(gateway.stop());
    // Nothing is told twice by a start alone.
    let count = receiver.heard.lock().unwrap().len();
    let (gateway, admin) = start(&home);
    let next = asked(&gateway, "ana", 3);
    let last = receiver.hears(count + 1)[count].json();
    assert_eq!(last["data"]["approval"]["id"], json!(next.to_string()));
    let (_, list) = call(admin, "GET /api/v1/webhooks", "the-admin-token", None);
    assert_eq!(list[0]["dead"], 0);
    assert!(gateway.stop());
}

#[test]
fn what_is_refused_for_good_is_a_dead_letter_that_people_see_and_send_again() {
    let (home, receiver) = (Home::new(), Receiver::new(410));
    configure(&home, &chat(&receiver.url(), ""));
    let (gateway, admin) = start(&home);
    let id = asked(&gateway, "ana", 1);
    let dead = eventually("a dead letter", PATIENCE, || {
        let (_, dead) = call(admin, "GET /api/v1/webhooks/dead", "the-admin-token", None);
        (!dead.as_array().unwrap().is_empty()).then_some(dead)
    });
    assert_eq!(dead[0]["approval"], json!(id.to_string()));
    assert_eq!((&dead[0]["error"], &dead[0]["tries"]), (&json!("status 410"), &json!(0)));
    assert!(gateway.stop());
    let (gateway, admin) = start(&home);
    let url = format!("http://{admin}");
    home.write("sid.token", &home.token("sid", &["security"]));
    home.write("eve.token", &home.token("eve", &["readers"]));
    let run = |who: &str, words: &[&str]| {
        let file = format!("{who}.token");
        let output = home.run(&[words, &["--admin", &url, "--token-file", &file]].concat());
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let letter = dead[0]["id"].as_str().unwrap();
    let (code, out, errors) = run("sid", &["webhooks", "dead"]);
    assert!(code == 0 && out.contains(letter) && out.contains("status 410"), "{out}{errors}");
    assert_eq!(run("eve", &["webhooks", "retry", letter]).0, 1, "no viewer");
    assert_eq!(run("sid", &["webhooks", "retry", "msg_0"]).0, 1, "no such letter");
    assert_eq!(run("sid", &["webhooks", "retry", "../x"]).0, 2);
    receiver.set(200);
    let (code, out, errors) = run("sid", &["webhooks", "retry", letter]);
    assert!(code == 0 && out.contains("is sent again"), "{out}{errors}");
    let heard = receiver.hears(2);
    assert_eq!(heard[1].field("webhook-id"), letter);
    assert_eq!(heard[1].body, heard[0].body);
    let row = eventually("an empty queue", PATIENCE, || {
        let (_, out, _) = run("sid", &["webhooks", "list", "--json"]);
        let row: Value = serde_json::from_str(out.lines().next()?).ok()?;
        (row["delivered"] == 1).then_some(row)
    });
    assert_eq!((&row["dead"], &row["queued"]), (&json!(0), &json!(0)));
    let (code, out, _) = run("sid", &["webhooks", "list"]);
    assert!(code == 0 && out.contains("chat"), "{out}");
    assert!(gateway.stop());
}

#[test]
fn a_receiver_that_hangs_holds_nobody_up_and_a_reload_takes_webhooks_over() {
    let home = Home::new();
    // Accepts, and never answers.
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hangs.local_addr().unwrap();
    configure(&home, &chat(&format!("http://{address}/"), ""));
    let (gateway, admin) = start(&home);
    let begun = std::time::Instant::now();
    for what in 1..40 {
        asked(&gateway, "ana", what);
    }
    let all = Party {
        iss: "https://issuer.test.invalid".into(),
        sub: "dora".into(),
        client_id: None,
        actors: [].into(),
        groups: ["dba".into()].into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let desk = gateway.desk();
    let taken = runtime.block_on(desk.revoke(Selector::All, Revoker::Person(all), None)).unwrap();
    assert_eq!(taken.cancelled.len(), 39);
    assert!(begun.elapsed() < std::time::Duration::from_secs(9), "nobody waits for a receiver");
    let receiver = Receiver::new(200);
    configure(&home, &chat(&receiver.url(), "events = [\"requested\"]"));
    gateway.reload(home.load()).unwrap();
    let id = asked(&gateway, "bob", 50);
    eventually("the notice at the other place", PATIENCE, || {
        let heard = receiver.heard.lock().unwrap().clone();
        let of = |one: &Notice| one.json()["data"]["approval"]["id"] == id.to_string();
        heard.iter().any(of).then_some(())
    });
    configure(&home, "");
    gateway.reload(home.load()).unwrap();
    let (_, list) = call(admin, "GET /api/v1/webhooks", "the-admin-token", None);
    assert_eq!(list, json!([]));
    assert!(gateway.stop());
    drop(hangs);
}

#[test]
fn a_receiver_over_tls_is_one_that_its_authority_vouches_for() {
    let home = Home::new();
    let [good, other] = ["good", "other"].map(|name| issue(&home.path(name), None));
    let receiver = Receiver::secure(&good);
    let hook = |ca: &std::path::Path| {
        let url = format!("https://localhost:{}/hooks/x", receiver.upstream.address.port());
        chat(&url, &format!("tls = {{ ca = \"{}\" }}", ca.display()))
    };
    configure(&home, &hook(&other.ca));
    let (gateway, admin) = start(&home);
    asked(&gateway, "ana", 1);
    let error = eventually("a try in vain", PATIENCE, || {
        let (_, list) = call(admin, "GET /api/v1/webhooks", "the-admin-token", None);
        list[0]["last_error"]["text"].as_str().map(str::to_owned)
    });
    assert!(error.contains("certificate"), "{error}");
    assert!(receiver.heard.lock().unwrap().is_empty());
    configure(&home, &hook(&good.ca));
    gateway.reload(home.load()).unwrap();
    assert!(receiver.hears(1)[0].is_signed_by(KEY));
    assert!(gateway.stop());
}
