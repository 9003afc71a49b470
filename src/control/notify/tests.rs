//! What notices say, in both formats, of what callers wrote.

use super::happened::{delivery_id, happened};
use super::message::{Answers, Links, SUMMARY_HEAD, generic};
use super::slack::{NoPayload, blocks, only_to_you, press};
use crate::config::WebhookEvent;
use crate::policy::approval::*;
use serde_json::{Value, json};

const SECOND: u64 = 1_000_000_000;

fn request(summary: &str) -> Request {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).into()).collect();
    Request {
        id: ApprovalId(7),
        ask: Ask {
            who: Party {
                iss: "https://idp.example.com".into(),
                sub: "ana & <@U1>".into(),
                client_id: None,
                actors: [].into(),
                groups: texts(&["analysts"]),
            },
            resource: "orders".into(),
            protocol: "http".into(),
            rule: "writes".into(),
            credential: Some("narrow".into()),
            generation: 1,
            binding: [1; 32],
            fingerprint: [2; 32],
            retry: None,
            summary: summary.into(),
            terms: Terms {
                approvers: texts(&["dba"]),
                count: 2,
                distinct_groups: false,
                wait_ns: 600 * SECOND,
                ttl_ns: 600 * SECOND,
                uses: 1,
                scope: Scope::Exact,
                reason: false,
                break_glass: false,
                estimate: false,
                reveal: [].into(),
            },
            asserted: Claims { node: Some("tools".into()), ..Claims::default() },
            reason: Some("*please* `now`".into()),
            exchange: "x".into(),
            originals: Originals::default(),
        },
        requested_ns: 1_000 * SECOND,
        deadline_ns: 1_600 * SECOND,
        state: State::Pending,
        votes: Vec::new(),
        until_ns: None,
        used: 0,
        ended_ns: None,
        end: None,
        review: None,
        looks: Vec::new(),
    }
}

fn vote(approve: bool, at_s: u64) -> Vote {
    Vote {
        iss: "https://idp.example.com".into(),
        sub: format!("voter-{at_s}").into(),
        groups: ["dba".into()].into(),
        approve,
        reason: None,
        digest: [0; 32],
        via: None,
        at_ns: at_s * SECOND,
    }
}

fn links() -> Links {
    let of = |answer: &str| format!("https://gw.example.com/approvals/7?vote={answer}&n=x");
    let answers = Some(Answers { approve: of("approve"), deny: of("deny") });
    Links { open: "https://gw.example.com/approvals/7".into(), answers }
}

#[test]
fn what_happened_to_a_request_follows_from_how_it_stands() {
    use WebhookEvent::*;
    let events = |request: &Request| -> Vec<(WebhookEvent, u64)> {
        happened(request).into_iter().map(|(event, at_ns)| (event, at_ns / SECOND)).collect()
    };
    let mut one = request("x");
    assert_eq!(events(&one), [(Requested, 1_000)]);
    one.votes = vec![vote(true, 1_001), vote(true, 1_002)];
    assert_eq!(events(&one), [(Requested, 1_000), (Voted, 1_001), (Approved, 1_002)]);
    (one.state, one.until_ns, one.ended_ns) = (State::Expired, Some(1), Some(1_003 * SECOND));
    assert_eq!(events(&one).len(), 3, "a grant whose time is over");
    one.state = State::Revoked;
    assert_eq!(events(&one).last(), Some(&(Revoked, 1_003)));
    let mut late = request("x");
    (late.state, late.ended_ns) = (State::Expired, Some(1_600 * SECOND));
    assert_eq!(events(&late), [(Requested, 1_000), (Expired, 1_600)]);
    late.votes = vec![vote(true, 1_001), vote(false, 1_002)];
    (late.state, late.ended_ns) = (State::Denied, Some(1_002 * SECOND));
    assert_eq!(events(&late)[1..], [(Voted, 1_001), (Denied, 1_002)]);
    let mut glass = request("x");
    (glass.ask.terms.break_glass, glass.state) = (true, State::Approved);
    glass.review =
        Some(Review { iss: "i".into(), sub: "s".into(), reason: None, at_ns: 1_009 * SECOND });
    assert_eq!(events(&glass), [(BreakGlass, 1_000), (Reviewed, 1_009)]);
}

#[test]
fn an_id_is_the_same_for_the_same_and_for_nothing_else() {
    let mut other = request("x");
    other.id = ApprovalId(8);
    let one = request("x");
    let id = delivery_id("chat", &one, WebhookEvent::Voted, 5);
    assert_eq!(id, delivery_id("chat", &one, WebhookEvent::Voted, 5));
    assert!(id.len() == 36 && id.starts_with("msg_"), "{id}");
    for other in [
        delivery_id("chat2", &one, WebhookEvent::Voted, 5),
        delivery_id("chat", &other, WebhookEvent::Voted, 5),
        delivery_id("chat", &one, WebhookEvent::Denied, 5),
        delivery_id("chat", &one, WebhookEvent::Voted, 6),
    ] {
        assert_ne!(id, other);
    }
}

#[test]
fn a_generic_notice_is_what_the_api_tells_less_what_is_long() {
    let long = format!("{}\u{e9}{}", "x".repeat(SUMMARY_HEAD - 1), "y".repeat(60_000));
    let body = generic("chat", (WebhookEvent::Requested, 5), &request(&long), Some(&links()));
    let told: Value = serde_json::from_str(&body).unwrap();
    let approval = &told["data"]["approval"];
    assert_eq!(approval["summary"].as_str().unwrap(), "x".repeat(SUMMARY_HEAD - 1));
    assert_eq!(approval["summary_cut"], true);
    assert!(approval.get("groups").is_none() && approval.get("binding").is_none());
    assert!(approval["digest"].is_null(), "nobody votes about what is not shown whole");
    assert!(approval["deadline"].is_string());
    assert_eq!(told["data"]["links"]["deny"], links().answers.unwrap().deny.as_str());
    assert!(body.len() < 5_000);
    let body = generic("chat", (WebhookEvent::Requested, 5), &request("short"), None);
    let told: Value = serde_json::from_str(&body).unwrap();
    let approval = &told["data"]["approval"];
    assert_eq!((&approval["summary"], &approval["summary_cut"]), (&json!("short"), &json!(false)));
    assert!(approval["digest"].is_string());
    assert!(told["data"]["links"].is_null());
}

/// What Slack's documentation asks of blocks.
fn check_blocks(message: &Value) {
    let list = message["blocks"].as_array().unwrap();
    assert!(list.len() <= 50);
    let text = |value: &Value, max: usize| {
        let kind = value["type"].as_str().unwrap();
        assert!(["plain_text", "mrkdwn"].contains(&kind));
        let text = value["text"].as_str().unwrap();
        assert!((1..=max).contains(&text.chars().count()), "{}", text.len());
        if kind == "mrkdwn" {
            assert!(!text.contains('<') && !text.contains('>'), "{text}");
            assert_eq!(text.matches("```").count(), 2, "{text}");
            assert!(
                !text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains('&')
            );
        }
    };
    for block in list {
        match block["type"].as_str().unwrap() {
            "header" => text(&block["text"], 150),
            "section" => {
                assert!(block["text"].is_object() || block["fields"].is_array());
                if block["text"].is_object() {
                    text(&block["text"], 3_000);
                }
                let fields = block["fields"].as_array().cloned().unwrap_or_default();
                assert!(fields.len() <= 10);
                fields.iter().for_each(|field| text(field, 2_000));
            }
            "context" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=10).contains(&elements.len()));
                elements.iter().for_each(|element| text(element, 3_000));
            }
            "actions" => {
                let elements = block["elements"].as_array().unwrap();
                assert!((1..=25).contains(&elements.len()));
                for button in elements {
                    assert_eq!(button["type"], "button");
                    text(&button["text"], 75);
                    assert!(button["url"].as_str().unwrap().len() <= 3_000);
                }
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn blocks_keep_slacks_bounds_and_nothing_in_them_is_markup_of_a_caller() {
    let all = |text: &str| text.repeat(60_000 / text.len());
    for summary in [
        "GET /x".to_owned(),
        all("&"),
        all("<"),
        all("`"),
        all("\u{1f980}"),
        all("\u{202e}"),
        all("a```b"),
        format!("{}`", "x".repeat(2_938)),
        String::new(),
    ] {
        let mut one = request(&summary);
        one.ask.reason = Some("&".repeat(1_024).into());
        one.ask.who.sub = "\u{1f980}".repeat(4_000).into();
        one.votes = (0..16).map(|at_s| vote(true, at_s)).collect();
        for event in WebhookEvent::ALL {
            for links in [None, Some(links())] {
                let body = blocks(event, &one, links.as_ref());
                check_blocks(&serde_json::from_str(&body).unwrap());
            }
        }
    }
    let body = blocks(WebhookEvent::Requested, &request("a<b"), Some(&links()));
    let told: Value = serde_json::from_str(&body).unwrap();
    // A name that would mention somebody stands where nothing is markup.
    let field = &told["blocks"][1]["fields"][0];
    assert_eq!(
        (&field["type"], &field["text"]),
        (&json!("plain_text"), &json!("Caller: ana & <@U1>"))
    );
    assert_eq!(told["blocks"][2]["text"]["text"], "```\na&lt;b\n```");
    assert!(told["text"].as_str().unwrap().starts_with("Approval requested"));
    check_blocks(&only_to_you("It is denied.", Some(&links())));
}

#[test]
fn a_button_names_a_request_and_nothing_else_is_read_of_it() {
    let body = |payload: &Value| {
        let bytes = payload.to_string();
        let escaped: String = bytes.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("payload={escaped}")
    };
    let id = ApprovalId(7);
    let found = |value: &Value| press(body(value).as_bytes());
    let actions = |value: &str| json!({ "actions": [{ "value": value }], "response_url": "u" });
    for value in [id.to_string(), format!("{id}:approve"), format!("{id}:deny")] {
        let pressed = found(&actions(&value)).unwrap().unwrap();
        assert_eq!((pressed.id, pressed.response_url.as_deref()), (id, Some("u")));
    }
    for none in [actions("x"), json!({}), json!({ "actions": [{ "url": "x" }] })] {
        assert_eq!(found(&none), Ok(None), "{none}");
    }
    for wrong in [&b""[..], b"payload=", b"payload=%7b", b"payload={}&payload={}", b"\xff", b"{}"] {
        assert_eq!(press(wrong), Err(NoPayload), "{wrong:?}");
    }
}
