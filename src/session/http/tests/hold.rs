//! A request that waits for a person, with the real book of approvals behind it.

use super::*;
use crate::base::{ApprovalId, CredentialId, ExchangeId, MaskId, MaskSet};
use crate::policy::approval::{
    Ballot, Book, Bounds, By, Party, Revoker, Scope, Selector, Staged, State, Synced, Terms,
    Verdict, shown_digest,
};
use crate::policy::{Effect, Pattern, RuleSpec};
use crate::session::Petition;
use crate::session::kit::{NARROW_KEY, snapshot_with};

const SECOND: u64 = 1_000_000_000;

fn terms() -> Terms {
    Terms {
        approvers: ["lead".into()].into(),
        count: 1,
        distinct_groups: false,
        wait_ns: 900 * SECOND,
        ttl_ns: 900 * SECOND,
        uses: 1,
        scope: Scope::Exact,
        reason: false,
        break_glass: false,
        reveal: [].into(),
        estimate: false,
    }
}

/// Asks about what members of `plain` post, masks it for the approver, and opens another key.
fn rule(terms: Terms) -> RuleSpec {
    let mut rule = RuleSpec::new("ask-first", Effect::RequireApproval);
    rule.who.groups = Some(vec![Pattern::new("plain")]);
    rule.what.method = Some(vec![Pattern::new("POST")]);
    rule.then.masks = MaskSet::EMPTY.with(MaskId(0));
    rule.then.credential = Some(CredentialId(1));
    rule.then.approval = Some(terms);
    rule
}

/// A connection, its worker, and the owner of approvals.
struct Held {
    kit: Kit,
    wire: Wire,
    book: Book,
    ids: u128,
    /// Acts that were looked at.
    seen: usize,
    told: Vec<Petition>,
}

fn open<T>(staged: Staged<T>) -> T {
    staged.open(Synced::up_to(u64::MAX)).unwrap()
}

impl Held {
    fn new(rules: Vec<RuleSpec>) -> Self {
        Self::bounded(rules, Limits::default())
    }

    fn bounded(rules: Vec<RuleSpec>, limits: Limits) -> Self {
        let mut kit = kit_with(MemoryJournal::default(), limits.clone());
        kit.worker.reload(Arc::new(snapshot_with(rules, 2, limits.clone())));
        let book = Book::new(Bounds::of(&limits));
        Self { kit, wire: Wire::new(), book, ids: 0, seen: 0, told: Vec::new() }
    }

    fn connect_anew(&mut self) {
        let now = self.wire.now;
        let session =
            Session::new(ListenerId(0), ConnectionId(9), "127.0.0.1:9".parse().unwrap(), None, now);
        (self.wire, self.seen) = (Wire { now, session, ..Wire::new() }, 0);
    }

    fn post(&mut self, body: &str) {
        let token = self.kit.token("ana", &["plain"]);
        self.send(&chat(&token, body));
    }

    fn send(&mut self, bytes: &[u8]) {
        self.wire.caller(&mut self.kit, bytes);
        self.answer();
    }

    /// Lets the owner answer everything that was put to it.
    fn answer(&mut self) {
        while let Some(act) = self.wire.acts.get(self.seen).cloned() {
            self.seen += 1;
            let Act::Petition { exchange, petition } = act else { continue };
            self.told.push((*petition).clone());
            let about = match &*petition {
                Petition::Look { id } => Some(*id),
                Petition::TakeBack { id, who } => {
                    let own = self.book.get(*id).is_some_and(|it| it.ask.who.is_same_caller(who));
                    if own {
                        self.book.cancel(*id, By::Caller, None, self.wire.now.wall_ns);
                    }
                    Some(*id)
                }
                _ => None,
            };
            if let Some(id) = about {
                let found = self.book.get(id).cloned();
                let shown = Input::Shown(exchange, found.as_ref());
                self.wire.event(&mut self.kit, shown);
                continue;
            }
            if let Some(verdict) = self.put(*petition) {
                self.say(exchange, verdict);
            }
        }
    }

    fn put(&mut self, petition: Petition) -> Option<Verdict> {
        let now_ns = self.wire.now.wall_ns;
        match petition {
            Petition::Ask(ask) => {
                self.ids += 1;
                Some(open(self.book.ask(*ask, ApprovalId(self.ids), now_ns).1))
            }
            Petition::Spend { id, binding, who } => {
                Some(open(self.book.spend(id, &binding, &who, now_ns)))
            }
            Petition::Void { id } => {
                self.book.void(id, None, now_ns);
                None
            }
            Petition::Leave { .. } | Petition::Look { .. } | Petition::TakeBack { .. } => None,
        }
    }

    fn say(&mut self, exchange: ExchangeId, verdict: Verdict) {
        self.wire.event(&mut self.kit, Input::Verdict(exchange, verdict));
        self.answer();
    }

    /// The exchange of the first question, and the last request.
    fn asked(&self) -> (ExchangeId, ApprovalId) {
        let exchange = self.wire.acts.iter().rev().find_map(|act| match act {
            Act::Petition { exchange, .. } => Some(*exchange),
            _ => None,
        });
        (exchange.unwrap(), ApprovalId(self.ids))
    }

    fn vote(&mut self, approve: bool) {
        let id = ApprovalId(self.ids);
        let lead = Party {
            iss: "https://idp.test".into(),
            sub: "lea".into(),
            client_id: None,
            actors: [].into(),
            groups: ["lead".into()].into(),
        };
        let digest = shown_digest(self.book.get(id).unwrap());
        let ballot = Ballot { approve, reason: None, digest, via: None };
        open(self.book.vote(id, &lead, ballot, self.wire.now.wall_ns)).unwrap();
    }

    fn approve(&mut self) {
        self.vote(true);
        let (exchange, id) = self.asked();
        self.say(exchange, Verdict::Approved { id });
    }

    fn state(&self, id: u128) -> State {
        self.book.get(ApprovalId(id)).unwrap().state
    }

    fn later(&mut self, ms: u64) {
        let ns = ms * 1_000_000;
        let now = self.wire.now;
        self.wire.now = Now { mono_ns: now.mono_ns + ns, wall_ns: now.wall_ns + ns };
        self.wire.event(&mut self.kit, Input::Timer);
        self.answer();
    }

    fn heard(&self) -> String {
        String::from_utf8(self.wire.to_caller.clone()).unwrap()
    }

    fn sent(&self) -> String {
        String::from_utf8(self.wire.to_upstream.clone()).unwrap()
    }

    fn connects(&self) -> usize {
        self.wire.acts.iter().filter(|act| matches!(act, Act::Connect { .. })).count()
    }
}

const BODY: &str = r#"{"model":"gpt-4","text":"pay bob@example.com 4111111111111111"}"#;

#[test]
fn nothing_goes_before_it_is_approved_and_then_the_very_bytes_by_the_rules_own_key() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    assert_eq!((held.connects(), held.heard().as_str(), held.sent().as_str()), (0, "", ""));
    assert_eq!(held.state(1), State::Pending);
    assert_eq!(held.kit.worker.places.taken(), 1);
    let request = held.book.get(ApprovalId(1)).unwrap().clone();
    let summary = &request.ask.summary;
    let head = "POST /base/v1/chat/completions?x=1\n";
    assert!(summary.starts_with(head) && summary.contains("\n\n{"), "{summary}");
    let fields = summary.to_ascii_lowercase();
    assert!(
        fields.contains("\nx-custom: kept\n")
            && fields.contains("\ncontent-type: application/json\n")
    );
    assert!(summary.contains("[EMAIL]") && !summary.contains("bob@example.com"), "{summary}");
    assert_eq!(request.ask.credential.as_deref(), Some("narrow-key"));
    assert_eq!((&*request.ask.who.sub, &*request.ask.rule), ("ana", "ask-first"));
    held.approve();
    let sent = held.sent();
    assert!(sent.ends_with(BODY) && sent.contains(std::str::from_utf8(NARROW_KEY).unwrap()));
    assert!(!sent.contains(std::str::from_utf8(REAL_KEY).unwrap()));
    assert_eq!((held.connects(), held.state(1)), (1, State::Consumed));
    assert_eq!(held.kit.worker.places.taken(), 0);
    held.wire.upstream(&mut held.kit, &answer("application/json", "{\"ok\":1}"));
    held.answer();
    assert_eq!(held.wire.status(), "200");
    let facts = recorded(&held.kit.worker, Kind::Decision);
    assert!(facts.windows(32).any(|part| part == ApprovalId(1).hex()), "by whose approval");
    let told = held.told.last();
    assert_eq!(told, Some(&Petition::Leave { id: ApprovalId(1), cancel: false }));
    // The connection goes on; the same again is another operation.
    held.post(BODY);
    assert_eq!((held.connects(), held.state(2)), (1, State::Pending));
}

#[test]
fn a_refusal_has_its_own_kind_and_names_the_request() {
    for (verdict, kind) in [
        (Verdict::Denied { id: ApprovalId(1), reason: None }, "approval-denied"),
        (Verdict::Expired { id: ApprovalId(1) }, "approval-expired"),
        (Verdict::Cancelled { id: ApprovalId(1) }, "approval-expired"),
        (Verdict::Revoked { id: ApprovalId(1) }, "approval-expired"),
    ] {
        let mut held = Held::new(vec![rule(terms())]);
        held.post(BODY);
        let (exchange, id) = held.asked();
        held.say(exchange, verdict);
        let heard = held.heard();
        assert!(heard.starts_with("HTTP/1.1 403 "), "{heard}");
        assert!(heard.contains(&format!("x-approval-request: {id}\r\n")), "{heard}");
        assert!(heard.contains(&format!("problems/{kind}\"")), "{heard}");
        assert!(heard.contains("x-should-retry: false"));
        assert!(heard.contains("\"rule\":\"ask-first\""), "{heard}");
        assert_eq!((held.connects(), held.kit.worker.places.taken()), (0, 0));
        // The connection lives, and its next request is looked at.
        let token = held.kit.token("ana", &["plain"]);
        held.send(
            format!("GET /llm/v1/models HTTP/1.1\r\nHost: gw\r\nx-api-key: {token}\r\n\r\n")
                .as_bytes(),
        );
        assert_eq!(held.connects(), 1);
    }
}

#[test]
fn the_end_of_the_wait_and_of_the_caller_leave_the_request_and_the_next_try_finds_it() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.later(119_000);
    assert_eq!(held.heard(), "");
    held.later(2_000);
    assert!(held.heard().contains("problems/approval-required\""), "{}", held.heard());
    assert_eq!(held.state(1), State::Pending);
    held.connect_anew();
    held.post(BODY);
    held.wire.event(&mut held.kit, Input::CallerGone);
    held.answer();
    assert_eq!((held.ids, held.state(1), held.kit.worker.places.taken()), (2, State::Pending, 0));
    // Approved while nobody waits.
    held.ids = 1;
    held.vote(true);
    held.connect_anew();
    held.post(BODY);
    assert_eq!((held.connects(), held.state(1)), (1, State::Consumed));
    assert!(held.sent().ends_with(BODY));
}

#[test]
fn a_changed_operation_is_another_request() {
    let token = |held: &Held| held.kit.token("ana", &["plain"]);
    let base = |token: &str| String::from_utf8(chat(token, BODY)).unwrap();
    type Change = fn(String) -> String;
    let changes: [(Change, bool); 17] = [
        (|it| it.replace("/v1/chat", "/v1/chatt"), true),
        (|it| it.replace("x=1", "x=2"), true),
        (|it| it.replace("x=1", "y=1"), true),
        (|it| it.replace("x=1&", ""), true),
        (|it| it.replace("X-Custom: kept", "X-Custom: other"), true),
        (|it| it.replace("X-Custom: kept", "X-Other: kept"), true),
        (|it| it.replace("application/json", "application/json; a=b"), true),
        (|it| it.replace("4111111111111111", "4111111111111112"), true),
        (|it| it.replace("\r\nX-Custom", "\r\nRange: bytes=0-1\r\nX-Custom"), true),
        (|it| it.replace("X-Custom", "User-Agent: other\r\nX-Custom"), false),
        (|it| it.replace("X-Custom", "x-stainless-retry-count: 1\r\nX-Custom"), false),
        (|it| it.replace("x=1", "x=1&&"), false),
        (|it| it.replace("X-Custom", "Prefer: wait=9\r\nX-Custom"), false),
        (|it| it.replace("X-Custom", "Prefer: wait=9, resolution=merge\r\nX-Custom"), true),
        (|it| it.replace("x=1", "x=1;y=2"), true),
        (|it| it.replace("x=1", "x=1&%78=2"), true),
        (|it| it.replace("x=1", "b=2&x=1").replace("b=2&x=1", "x=1&b=2"), true),
    ];
    for (place, (change, other)) in changes.into_iter().enumerate() {
        let mut held = Held::new(vec![rule(terms())]);
        let first = base(&token(&held));
        held.send(first.as_bytes());
        held.connect_anew();
        let second = change(first.clone());
        assert_ne!(first, second, "change {place} changes");
        held.send(second.as_bytes());
        let both = held.book.requests().len();
        assert_eq!(both, if other { 2 } else { 1 }, "change {place}");
    }
    // Another caller's is another one, too.
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.connect_anew();
    let bob = held.kit.token("bob", &["plain"]);
    held.send(&chat(&bob, BODY));
    assert_eq!(held.book.requests().len(), 2);
}

#[test]
fn scopes_cover_what_they_say() {
    let ask = |scope, second: &str, fresh: bool| {
        let mut held = Held::new(vec![rule(Terms { scope, uses: 9, ..terms() })]);
        held.post(BODY);
        held.approve();
        held.wire.upstream(&mut held.kit, &answer("application/json", "{}"));
        if fresh {
            held.connect_anew();
        }
        let before = held.connects();
        held.post(second);
        held.connects() > before
    };
    let literals = r#"{"model":"gpt-5","text":"other"}"#;
    let names = r#"{"model":"gpt-5","text":"other","more":1}"#;
    assert!(ask(Scope::Exact, BODY, true) && !ask(Scope::Exact, literals, true));
    assert!(ask(Scope::Shape, literals, true) && !ask(Scope::Shape, names, true));
    assert!(ask(Scope::Resource, names, true));
    assert!(ask(Scope::Session, names, false) && !ask(Scope::Session, names, true));
}

#[test]
fn everything_is_decided_again_when_it_is_approved() {
    let deny = || {
        let mut deny = RuleSpec::new("no-more", Effect::Deny);
        deny.who.sub = Some(vec![Pattern::new("ana")]);
        deny
    };
    // A new policy denies: the grant is void.
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let limits = Limits::default();
    held.kit.worker.reload(Arc::new(snapshot_with(vec![rule(terms()), deny()], 3, limits.clone())));
    held.approve();
    assert!(held.heard().contains("problems/denied\"") && held.heard().contains("no-more"));
    assert_eq!((held.connects(), held.state(1)), (0, State::Revoked));
    // A new policy asks for more: what was approved does not count.
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let more = Terms { count: 2, ..terms() };
    held.kit.worker.reload(Arc::new(snapshot_with(vec![rule(more)], 3, limits.clone())));
    held.approve();
    assert_eq!(
        (held.connects(), held.state(1), held.state(2)),
        (0, State::Revoked, State::Pending)
    );
    // A new policy asks no more.
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.kit.worker.reload(Arc::new(snapshot_with(vec![], 3, limits)));
    held.approve();
    assert_eq!(held.connects(), 1);
    assert!(held.sent().contains(std::str::from_utf8(REAL_KEY).unwrap()));
    // The token ran out.
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let now = held.wire.now;
    held.wire.now = Now { wall_ns: now.wall_ns + 4_000 * SECOND, ..now };
    let (exchange, id) = held.asked();
    held.say(exchange, Verdict::Approved { id });
    assert!(held.heard().starts_with("HTTP/1.1 401 "), "{}", held.heard());
    assert_eq!(held.connects(), 0);
}

#[test]
fn a_use_of_something_else_opens_nothing() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let (exchange, _) = held.asked();
    // The book of another gateway, with another operation approved.
    let mut other = Held::new(vec![rule(terms())]);
    other.post(r#"{"model":"gpt-4"}"#);
    other.vote(true);
    let (binding, who) = other
        .told
        .iter()
        .find_map(|petition| match petition {
            Petition::Ask(ask) => Some((ask.binding, ask.who.clone())),
            _ => None,
        })
        .unwrap();
    let now_ns = other.wire.now.wall_ns;
    let spent = open(other.book.spend(ApprovalId(1), &binding, &who, now_ns));
    assert!(matches!(spent, Verdict::Spent(_)));
    held.vote(true);
    let id = ApprovalId(1);
    held.wire.event(&mut held.kit, Input::Verdict(exchange, Verdict::Approved { id }));
    held.wire.event(&mut held.kit, Input::Verdict(exchange, spent));
    assert!(held.heard().contains("problems/denied\""), "{}", held.heard());
    assert_eq!(held.connects(), 0);
}

#[test]
fn uses_are_spent_one_by_one_and_the_rest_ask_anew() {
    let mut held = Held::new(vec![rule(Terms { uses: 2, ..terms() })]);
    held.post(BODY);
    held.approve();
    for _ in 0..3 {
        held.wire.upstream(&mut held.kit, &answer("application/json", "{}"));
        held.connect_anew();
        held.post(BODY);
    }
    assert_eq!((held.connects(), held.state(1)), (0, State::Consumed));
    assert!(held.book.requests().any(|request| request.state == State::Pending));
}

#[test]
fn a_revoked_grant_cuts_what_runs_under_it() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.approve();
    let (exchange, id) = held.asked();
    let selector = Selector::Id(id);
    let now_ns = held.wire.now.wall_ns;
    let _ = open(held.book.revoke(&selector, &Revoker::Script, None, now_ns));
    held.say(exchange, Verdict::Revoked { id });
    assert!(held.wire.session.is_closed());
    assert!(held.wire.acts.contains(&Act::AbortCaller));
}

#[test]
fn signs_of_life_are_what_the_client_takes() {
    let beat = |agent: &str, version: &str| {
        let mut held = Held::new(vec![rule(terms())]);
        let token = held.kit.token("ana", &["plain"]);
        held.send(
            format!(
                "POST /llm/v1/x HTTP/{version}\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
                 User-Agent: {agent}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
            )
            .as_bytes(),
        );
        held.later(1_900);
        assert_eq!(held.heard(), "");
        held.later(200);
        let one = held.heard();
        held.later(5_000);
        assert_eq!(held.heard(), one.repeat(2));
        held.approve();
        held.wire.upstream(&mut held.kit, &answer("application/json", "{}"));
        assert!(held.heard().contains("HTTP/1.1 200 OK"));
        one
    };
    assert_eq!(beat("OpenAI/Python 2.1", "1.1"), "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(beat("Python/3.12 aiohttp/3.9", "1.1"), "HTTP/1.1 102 Processing\r\n\r\n");
    assert_eq!(beat("python-requests/2.32", "1.1"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(beat("MyBrowser/1", "1.1"), "");
    assert_eq!(beat("curl/8", "1.0"), "");
}

#[test]
fn the_caller_says_how_long_it_waits() {
    let wait = |prefer: &str| {
        let mut held = Held::new(vec![rule(terms())]);
        let token = held.kit.token("ana", &["plain"]);
        let head = format!(
            "Authorization: Bearer {token}\r\nPrefer: {prefer}\r\nContent-Type: application/json\r\n"
        );
        held.send(
            format!("POST /llm/x HTTP/1.1\r\nHost: gw\r\n{head}Content-Length: 2\r\n\r\n{{}}")
                .as_bytes(),
        );
        (0..400).find(|_| {
            let over = held.heard().contains("approval-required");
            held.later(1_000);
            over
        })
    };
    assert_eq!(wait("wait=0"), Some(0));
    assert_eq!(wait("respond-async, wait=7"), Some(7));
    assert_eq!(wait("wait=100000"), Some(300));
    assert_eq!(wait("wait=x"), Some(120));
}

#[test]
fn what_cannot_be_held_is_refused_before_it_is_read() {
    let limits = Limits { held_body_max: 100, held_max: 1, ..Limits::default() };
    let mut held = Held::bounded(vec![rule(terms())], limits.clone());
    held.post(&format!("{{\"a\":\"{}\"}}", "x".repeat(100)));
    assert!(held.heard().starts_with("HTTP/1.1 413 "), "{}", held.heard());
    // By its length as soon as it is decided; in chunks when it passes the bound.
    let mut held = Held::bounded(vec![rule(terms())], limits.clone());
    let token = held.kit.token("ana", &["plain"]);
    let head = format!(
        "POST /llm/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\n"
    );
    held.send(format!("{head}Content-Length: 101\r\n\r\n{{\"model\":\"gpt-4\",").as_bytes());
    assert!(held.heard().starts_with("HTTP/1.1 413 "), "{}", held.heard());
    held.connect_anew();
    let text = format!("{{\"model\":\"gpt-4\",\"a\":\"{}", "x".repeat(78));
    let chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n10\r\n{}\r\n", &text[..16]);
    held.send(chunks.as_bytes());
    assert_eq!(held.heard(), "");
    held.send(format!("{:x}\r\n{}\r\n", text.len() - 16, &text[16..]).as_bytes());
    assert_eq!(held.heard(), "", "{}", text.len());
    held.send(b"1\r\nx\r\n");
    assert!(held.heard().starts_with("HTTP/1.1 413 "), "{}", held.heard());
    // One more than the worker holds.
    let mut held = Held::bounded(vec![rule(terms())], limits);
    held.post("{}");
    let first = std::mem::replace(&mut held.wire, Wire::new());
    held.seen = 0;
    held.post("{}");
    assert!(held.heard().starts_with("HTTP/1.1 503 "), "{}", held.heard());
    held.wire = first;
    held.wire.event(&mut held.kit, Input::CallerGone);
    held.connect_anew();
    held.post("{}");
    assert_eq!(held.heard(), "");
    assert_eq!(held.kit.worker.places.taken(), 1);
}

#[test]
fn breaking_the_glass_takes_a_reason() {
    let glass = || rule(Terms { break_glass: true, ..terms() });
    let mut held = Held::new(vec![glass()]);
    held.post(BODY);
    assert!(held.heard().contains("problems/reason-required\""), "{}", held.heard());
    let mut held = Held::new(vec![glass()]);
    let token = held.kit.token("ana", &["plain"]);
    let said = String::from_utf8(chat(&token, BODY)).unwrap();
    let said = said.replace("X-Custom", "X-Weirgate-Reason: pager 7, bob@example.com\r\nX-Custom");
    held.send(said.as_bytes());
    assert_eq!(held.connects(), 1);
    let request = held.book.get(ApprovalId(1)).unwrap();
    assert_eq!(request.ask.reason.as_deref(), Some("pager 7, [EMAIL]"));
    assert!(!held.sent().to_ascii_lowercase().contains("weirgate"));
}

#[test]
fn a_chunked_body_and_one_that_a_rule_looks_into_are_held_whole() {
    let mut by_model = rule(terms());
    by_model.what.model = Some(vec![Pattern::new("gpt-*")]);
    for rule in [rule(terms()), by_model] {
        for cut in 1..BODY.len() {
            let mut held = Held::new(vec![rule.clone()]);
            let token = held.kit.token("ana", &["plain"]);
            let (one, other) = BODY.split_at(cut);
            held.send(
                format!(
                    "POST /llm/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
                     Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {:x}\r\n{one}\r\n",
                    one.len()
                )
                .as_bytes(),
            );
            held.send(format!("{:x}\r\n{other}\r\n0\r\n\r\n", other.len()).as_bytes());
            assert_eq!((held.connects(), held.ids), (0, 1), "cut at {cut}");
            held.approve();
            assert!(held.sent().contains(&format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())));
        }
    }
}

#[test]
fn what_comes_behind_a_held_request_waits_unread() {
    let mut held = Held::new(vec![rule(terms())]);
    let token = held.kit.token("ana", &["plain"]);
    let next = format!("GET /llm/v1/next HTTP/1.1\r\nHost: gw\r\nx-api-key: {token}\r\n\r\n");
    let both = [chat(&token, BODY), next.into_bytes()].concat();
    held.send(&both);
    assert!(!held.wire.session.interest().caller, "nothing more is read");
    held.approve();
    assert!(!held.sent().contains("/v1/next"));
    held.wire.upstream(&mut held.kit, &answer("application/json", "{}"));
    held.wire.caller(&mut held.kit, b"");
    assert!(held.sent().contains("/v1/next"));
    assert_eq!(held.connects(), 2);
}

#[test]
fn the_token_is_kept_only_while_it_waits_and_never_shown() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let token = held.kit.token("ana", &["plain"]);
    let shown = format!("{:?}", held.told);
    assert!(!shown.contains(&token) && !shown.contains("bob@example.com"));
    let ask = serde_json::to_string(&held.book.get(ApprovalId(1)).unwrap().ask).unwrap();
    assert!(!ask.contains(&token) && !ask.contains("bob@example.com") && !ask.contains("4111"));
}

#[test]
fn a_caller_sees_its_own_requests_takes_them_back_and_learns_of_no_others() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let ask = |held: &mut Held, who: &str, method: &str, path: &str| {
        held.connect_anew();
        let token = held.kit.token(who, &["plain"]);
        held.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\r\n"
            )
            .as_bytes(),
        );
        assert_eq!(held.connects(), 0);
        held.heard()
    };
    let path = format!("/.weirgate/approvals/{}", ApprovalId(1));
    let heard = ask(&mut held, "ana", "GET", &path);
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    let (_, body) = heard.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["state"], &body["rule"]), (&"pending".into(), &"ask-first".into()));
    assert!(ask(&mut held, "bob", "GET", &path).starts_with("HTTP/1.1 404 "));
    assert!(ask(&mut held, "bob", "DELETE", &path).starts_with("HTTP/1.1 404 "));
    assert_eq!(held.state(1), State::Pending);
    let other = format!("/.weirgate/approvals/{}", ApprovalId(9));
    assert!(ask(&mut held, "ana", "GET", &other).starts_with("HTTP/1.1 404 "));
    assert!(ask(&mut held, "ana", "PUT", &path).starts_with("HTTP/1.1 405 "));
    assert!(ask(&mut held, "ana", "GET", "/.weirgate/x").starts_with("HTTP/1.1 404 "));
    let gone = ask(&mut held, "ana", "DELETE", &path);
    assert!(gone.contains("\"state\":\"cancelled\""), "{gone}");
    assert_eq!(held.state(1), State::Cancelled);
}

#[test]
fn a_held_body_is_never_left_out_of_a_second_try() {
    let mut held = Held::new(vec![{
        let mut puts = rule(terms());
        puts.what.method = Some(vec![Pattern::new("PUT")]);
        puts
    }]);
    let token = held.kit.token("ana", &["plain"]);
    let put = String::from_utf8(chat(&token, BODY)).unwrap().replacen("POST", "PUT", 1);
    held.send(put.as_bytes());
    held.approve();
    assert_eq!(held.connects(), 1);
    let (exchange, _) = held.asked();
    held.wire.event(&mut held.kit, Input::UpstreamEnd(exchange, Ending::Cut));
    assert_eq!(held.connects(), 1, "the head alone is another request");
    assert!(held.heard().starts_with("HTTP/1.1 502 "), "{}", held.heard());
}

#[test]
fn a_word_for_an_exchange_that_is_over_is_answered_by_leaving() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.approve();
    let (exchange, id) = held.asked();
    held.wire.upstream(&mut held.kit, &answer("application/json", "{}"));
    held.answer();
    let before = held.told.len();
    held.say(exchange, Verdict::Approved { id });
    assert_eq!(held.told.len(), before + 1);
    assert_eq!(held.told.last(), Some(&Petition::Leave { id, cancel: false }));
    assert_eq!(held.connects(), 1);
}

#[test]
fn the_order_of_names_that_could_be_one_another_counts() {
    let both = |one: &str, other: &str| {
        let mut held = Held::new(vec![rule(terms())]);
        for query in [one, other] {
            held.connect_anew();
            let token = held.kit.token("ana", &["plain"]);
            let text = String::from_utf8(chat(&token, BODY)).unwrap().replace("x=1", query);
            held.send(text.as_bytes());
        }
        held.book.requests().len()
    };
    assert_eq!(both("a=1&b=2", "b=2&a=1"), 1);
    assert_eq!(both("a=1&a=2", "a=2&a=1"), 2);
    assert_eq!(both("a=1&%61=2", "%61=2&a=1"), 2);
    assert_eq!(both("a=1&A=2", "A=2&a=1"), 2);
    assert_eq!(both("a_b=1&a.b=2", "a.b=2&a_b=1"), 2);
}

#[test]
fn what_a_person_cannot_be_shown_is_not_held() {
    let mut held = Held::new(vec![rule(terms())]);
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(65_450));
    held.post(&long);
    assert!(held.heard().starts_with("HTTP/1.1 413 "), "{}", held.heard());
    assert_eq!((held.book.requests().len(), held.kit.worker.places.taken()), (0, 0));
    let mut bare = rule(terms());
    bare.then.masks = MaskSet::EMPTY;
    let mut held = Held::new(vec![bare]);
    let token = held.kit.token("ana", &["plain"]);
    let mut bytes = format!(
        "POST /llm/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/octet-stream\r\nX-HTTP-Method-Override: DELETE\r\n\
         Content-Length: 3\r\n\r\n"
    )
    .into_bytes();
    bytes.extend([0xff, 0, 1]);
    held.send(&bytes);
    if let Some(request) = held.book.get(ApprovalId(1)) {
        let summary = &request.ask.summary;
        assert!(summary.contains("[3 bytes that are no text, SHA-256 "), "{summary}");
        assert!(summary.to_ascii_lowercase().contains("x-http-method-override: delete"));
    } else {
        // A deny rule that names models meets what cannot be read.
        assert!(held.heard().contains("problems/denied\""), "{}", held.heard());
    }
}

#[test]
fn word_that_comes_twice_or_too_late_spends_nothing() {
    let mut held = Held::new(vec![rule(Terms { uses: 2, ..terms() })]);
    held.post(BODY);
    held.vote(true);
    let (exchange, id) = held.asked();
    held.wire.event(&mut held.kit, Input::Verdict(exchange, Verdict::Approved { id }));
    held.wire.event(&mut held.kit, Input::Verdict(exchange, Verdict::Approved { id }));
    held.answer();
    let spends = held.told.iter().filter(|one| matches!(one, Petition::Spend { .. })).count();
    assert_eq!((spends, held.connects(), held.state(1)), (1, 1, State::Active));
}

#[test]
fn a_reload_while_a_use_is_spent_counts() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    held.vote(true);
    let (exchange, id) = held.asked();
    held.wire.event(&mut held.kit, Input::Verdict(exchange, Verdict::Approved { id }));
    let mut deny = RuleSpec::new("no-more", Effect::Deny);
    deny.who.sub = Some(vec![Pattern::new("ana")]);
    let made = snapshot_with(vec![rule(terms()), deny], 3, Limits::default());
    held.kit.worker.reload(Arc::new(made));
    held.answer();
    assert_eq!(held.connects(), 0);
    assert!(held.heard().contains("problems/denied\""), "{}", held.heard());
}

#[test]
fn who_is_refused_at_the_end_is_recorded_to_the_end() {
    let mut held = Held::new(vec![rule(terms())]);
    held.post(BODY);
    let now = held.wire.now;
    held.wire.now = Now { wall_ns: now.wall_ns + 4_000 * SECOND, ..now };
    let (exchange, id) = held.asked();
    held.say(exchange, Verdict::Approved { id });
    assert!(held.heard().starts_with("HTTP/1.1 401 "), "{}", held.heard());
    let kinds: Vec<Kind> =
        held.kit.worker.journal.entries().iter().map(|entry| entry.meta.kind).collect();
    assert_eq!(kinds, [Kind::Open, Kind::ResponseHead, Kind::Close]);
}
