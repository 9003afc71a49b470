//! Requests that wait for a person, in a live gateway.

use crate::kit::home::POLICY;
use crate::kit::upstream::answer;
use crate::kit::{Caller, Home, PATIENCE, Upstream, eventually};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use weirgate::gateway::Gateway;
use weirgate::policy::approval::{Ballot, Party, Request, Revoker, Selector, State, shown_digest};

/// Readers post to `plain` with a lead's approval, by another key.
fn rule(approval: &str) -> String {
    format!(
        "{POLICY}\n[[rule]]\nid = \"posts\"\neffect = \"require_approval\"\n\
         who = {{ groups = [\"readers\"] }}\nwhat = {{ resource = [\"plain\"], method = [\"POST\"] }}\n\
         then = {{ credential = \"narrow\", approval = {{ approvers = [\"leads\"], {approval} }} }}\n"
    )
}

const NARROW: &str = "the-narrow-upstream-key";

/// Head and body of a request.
type Heard = (String, Vec<u8>);

/// An upstream that keeps what it heard, a gateway in front of it, and its leads.
struct Site {
    home: Home,
    upstream: Upstream,
    heard: Arc<Mutex<Vec<Heard>>>,
    people: tokio::runtime::Runtime,
}

impl Site {
    fn new(approval: &str) -> Self {
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let hears = Arc::clone(&heard);
        let upstream = Upstream::start(move |request, stream| {
            hears.lock().unwrap().push((request.head.clone(), request.body.clone()));
            answer(stream, "text/plain", b"done")
        });
        let home = Home::new();
        home.write("narrow.key", NARROW);
        let more = "[admin]\naddress = \"127.0.0.1:0\"\nissuer = \"dev\"\n\
            [[credential]]\nname = \"narrow\"\nkind = \"bearer\"\nsecret = \"file:narrow.key\"\n";
        home.write("policy.toml", &rule(approval));
        home.configure(upstream.address, more);
        let people = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { home, upstream, heard, people }
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    fn requests(&self, gateway: &Gateway, state: State) -> Vec<Request> {
        let desk = gateway.desk();
        self.people.block_on(desk.list(move |one| one.state == state)).unwrap()
    }

    /// Waits for so many requests that wait.
    fn pending(&self, gateway: &Gateway, count: usize) -> Vec<Request> {
        eventually("requests that wait", PATIENCE, || {
            let found = self.requests(gateway, State::Pending);
            (found.len() == count).then_some(found)
        })
    }

    fn vote(&self, gateway: &Gateway, request: &Request, approve: bool) {
        let lead = Party {
            iss: "https://idp.test.invalid".into(),
            sub: "lea".into(),
            client_id: None,
            actors: [].into(),
            groups: ["leads".into()].into(),
        };
        let reason = Some("seen".into());
        let ballot = Ballot { approve, reason, digest: shown_digest(request), via: None };
        self.people.block_on(gateway.desk().vote(request.id, lead, ballot)).unwrap();
    }

    fn post(&self, address: SocketAddr, body: &str) -> Caller<std::net::TcpStream> {
        let mut caller = Caller::open(address).unwrap();
        let body = Some(("application/json", body.as_bytes()));
        caller.send("POST", "/plain/pay?to=bob", &self.home.reader("ana"), body).unwrap();
        caller
    }
}

#[test]
fn a_request_goes_when_it_is_approved_and_not_before() {
    let site = Site::new("uses = 1");
    let gateway = site.home.start();
    let address = gateway.address("api").unwrap();
    let mut caller = site.post(address, "{\"sum\":7}");
    let pending = site.pending(&gateway, 1);
    assert_eq!((site.heard(), pending[0].ask.rule.as_ref()), (0, "posts"));
    assert!(pending[0].ask.summary.starts_with("POST /pay?to=bob\n"), "{}", pending[0].ask.summary);
    site.vote(&gateway, &pending[0], true);
    let told = caller.answer().unwrap();
    assert_eq!((told.status, told.text().as_str()), (200, "done"));
    let heard = site.heard.lock().unwrap().clone();
    assert_eq!((heard.len(), heard[0].1.as_slice()), (1, b"{\"sum\":7}".as_slice()));
    assert!(heard[0].0.contains(NARROW) && !heard[0].0.contains(crate::kit::home::KEY));
    assert_eq!(site.requests(&gateway, State::Consumed).len(), 1);
    // The next one waits again, and is denied; the connection lives.
    caller
        .send("POST", "/plain/pay", &site.home.reader("ana"), Some(("application/json", b"{}")))
        .unwrap();
    let pending = site.pending(&gateway, 1);
    site.vote(&gateway, &pending[0], false);
    let told = caller.answer().unwrap();
    assert!(told.status == 403 && told.text().contains("approval-denied"), "{}", told.text());
    caller.send("GET", "/plain/read", &site.home.reader("ana"), None).unwrap();
    assert_eq!(caller.answer().unwrap().status, 200);
    assert!(gateway.stop());
    site.home.verify(&site.home.data());
    drop(site.upstream);
}

#[test]
fn what_was_asked_outlives_its_caller_and_the_gateway() {
    let site = Site::new("uses = 1");
    let gateway = site.home.start();
    let first = site.post(gateway.address("api").unwrap(), "{\"a\":1}");
    let asked = site.pending(&gateway, 1);
    drop(first);
    assert!(gateway.stop());
    let gateway = site.home.start();
    let again = site.pending(&gateway, 1);
    assert_eq!(again[0].id, asked[0].id);
    site.vote(&gateway, &again[0], true);
    assert_eq!(site.heard(), 0, "nobody is there whose request could go");
    let mut caller = site.post(gateway.address("api").unwrap(), "{\"a\":1}");
    assert_eq!(caller.answer().unwrap().status, 200);
    // Once.
    let mut other = site.post(gateway.address("api").unwrap(), "{\"a\":1}");
    let pending = site.pending(&gateway, 1);
    assert_ne!(pending[0].id, asked[0].id);
    let path = format!("/.weirgate/approvals/{}", pending[0].id);
    let own = |method: &str, who: &str| {
        let mut caller = Caller::open(gateway.address("api").unwrap()).unwrap();
        caller.send(method, &path, &site.home.reader(who), None).unwrap();
        caller.answer().unwrap()
    };
    assert_eq!(own("GET", "eve").status, 404);
    assert_eq!(own("DELETE", "eve").status, 404);
    let told = own("GET", "ana");
    assert!(told.status == 200 && told.text().contains("\"pending\""), "{}", told.text());
    let told = own("DELETE", "ana");
    assert!(told.status == 200 && told.text().contains("\"cancelled\""), "{}", told.text());
    let told = other.answer().unwrap();
    assert!(told.status == 403 && told.text().contains("approval-expired"), "{}", told.text());
    assert_eq!(site.heard(), 1);
    assert!(gateway.stop());
}

#[test]
fn many_connections_of_all_workers_spend_exactly_as_many_uses_as_there_are() {
    const USES: usize = 17;
    const CALLERS: usize = 40;
    let site = Site::new(&format!("uses = {USES}"));
    let gateway = site.home.start();
    let address = gateway.address("api").unwrap();
    let mut callers: Vec<_> = (0..CALLERS).map(|_| site.post(address, "{\"n\":1}")).collect();
    // All of them are one request.
    let pending = site.pending(&gateway, 1);
    site.vote(&gateway, &pending[0], true);
    // The rest asked anew.
    let rest = eventually("the rest asks anew", PATIENCE, || {
        let all = site.requests(&gateway, State::Pending);
        (site.heard() == USES && all.len() == 1).then_some(all)
    });
    assert_ne!(rest[0].id, pending[0].id);
    site.vote(&gateway, &rest[0], false);
    let (mut done, mut refused) = (0, 0);
    for caller in &mut callers {
        match caller.answer().unwrap().status {
            200 => done += 1,
            403 => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((done, refused, site.heard()), (USES, CALLERS - USES, USES));
    assert!(gateway.stop());
}

#[test]
fn a_new_policy_and_a_revocation_count_for_what_is_held_and_for_what_runs() {
    let site = Site::new("uses = 5");
    let gateway = site.home.start();
    let address = gateway.address("api").unwrap();
    let mut caller = site.post(address, "{\"a\":1}");
    let pending = site.pending(&gateway, 1);
    let deny = "[[rule]]\nid = \"stop\"\neffect = \"deny\"\nwhat = { resource = [\"plain\"] }\n";
    site.home.write("policy.toml", &format!("{}\n{deny}", rule("uses = 5")));
    gateway.reload(site.home.load()).unwrap();
    site.vote(&gateway, &pending[0], true);
    let told = caller.answer().unwrap();
    assert!(told.status == 403 && told.text().contains("\"stop\""), "{}", told.text());
    let void =
        eventually("the grant is void", PATIENCE, || site.requests(&gateway, State::Revoked).pop());
    assert_eq!((void.id, site.heard()), (pending[0].id, 0));
    site.home.write("policy.toml", &rule("uses = 5"));
    gateway.reload(site.home.load()).unwrap();
    let mut caller = site.post(address, "{\"a\":2}");
    let pending = site.pending(&gateway, 1);
    let selector = Selector::Id(pending[0].id);
    let desk = gateway.desk();
    site.people.block_on(desk.revoke(selector, Revoker::Script, None)).unwrap();
    let told = caller.answer().unwrap();
    assert!(told.status == 403 && told.text().contains("approval-expired"), "{}", told.text());
    assert_eq!(site.heard(), 0);
    assert!(gateway.stop());
    site.home.verify(&site.home.data());
}

#[test]
fn callers_that_vanish_at_once_are_not_waited_with() {
    let site = Site::new("uses = 1");
    let gateway = site.home.start();
    let address = gateway.address("api").unwrap();
    for _ in 0..50 {
        drop(site.post(address, "{\"a\":1}"));
    }
    site.pending(&gateway, 1);
    eventually("nobody waits", PATIENCE, || (gateway.desk().reading().waiters == 0).then_some(()));
    let mut caller = site.post(address, "{\"a\":1}");
    eventually("one waits", PATIENCE, || (gateway.desk().reading().waiters == 1).then_some(()));
    let pending = site.pending(&gateway, 1);
    site.vote(&gateway, &pending[0], true);
    assert_eq!(caller.answer().unwrap().status, 200);
    eventually("nobody waits", PATIENCE, || (gateway.desk().reading().waiters == 0).then_some(()));
    assert!(gateway.stop());
}

#[test]
fn terms_that_change_while_it_waits_are_asked_anew_and_the_caller_waits_on() {
    let site = Site::new("uses = 5");
    let gateway = site.home.start();
    let mut caller = site.post(gateway.address("api").unwrap(), "{\"a\":1}");
    let first = site.pending(&gateway, 1);
    site.home.write("policy.toml", &rule("uses = 5, reason = true"));
    gateway.reload(site.home.load()).unwrap();
    site.vote(&gateway, &first[0], true);
    let second = eventually("it is asked anew", PATIENCE, || {
        let found = site.requests(&gateway, State::Pending);
        found.into_iter().find(|one| one.id != first[0].id)
    });
    assert_eq!((site.heard(), site.requests(&gateway, State::Revoked).len()), (0, 1));
    site.vote(&gateway, &second, true);
    assert_eq!(caller.answer().unwrap().status, 200);
    drop(caller);
    eventually("nobody waits", PATIENCE, || (gateway.desk().reading().waiters == 0).then_some(()));
    assert!(gateway.stop());
}

#[test]
fn what_masks_take_out_is_revealed_to_whom_the_rule_names_and_kept_nowhere() {
    let site = Site::new("uses = 1");
    let masked = "[[rule]]\nid = \"pays\"\neffect = \"require_approval\"\n\
        who = { groups = [\"readers\"] }\nwhat = { resource = [\"masked\"], method = [\"POST\"] }\n\
        then = { approval = { approvers = [\"leads\"], reveal = [\"eyes\"] } }\n";
    site.home.write("policy.toml", &format!("{POLICY}\n{masked}"));
    let gateway = site.home.start();
    let mut caller = Caller::open(gateway.address("api").unwrap()).unwrap();
    let body = br#"{"to":"bob.original@example.com"}"#;
    let sent = Some(("application/json", body.as_slice()));
    caller.send("POST", "/masked/pay", &site.home.reader("ana"), sent).unwrap();
    let pending = site.pending(&gateway, 1).remove(0);
    assert!(pending.ask.summary.contains("[EMAIL]"), "{}", pending.ask.summary);
    let eve = Party {
        iss: "https://idp.test.invalid".into(),
        sub: "eve".into(),
        client_id: None,
        actors: [].into(),
        groups: ["eyes".into()].into(),
    };
    let original = site.people.block_on(gateway.desk().reveal(pending.id, eve)).unwrap();
    let original = String::from_utf8(original.expose().to_vec()).unwrap();
    assert!(original.starts_with("POST /pay\n") && original.contains("bob.original@example.com"));
    site.vote(&gateway, &pending, true);
    assert_eq!(caller.answer().unwrap().status, 200);
    let heard = site.heard.lock().unwrap().clone();
    assert_eq!(heard[0].1, body, "what goes is what came");
    assert!(gateway.stop());
    let (mut folders, mut files) = (vec![site.home.data()], 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|one| one.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            assert!(memchr::memmem::find(&bytes, b"bob.original").is_none(), "{}", path.display());
        }
    }
    assert!(files > 2, "log and segments");
}

#[test]
fn a_retry_in_other_bytes_is_asked_in_place_of_the_first_and_a_body_of_two_meanings_never() {
    let site = Site::new("uses = 1");
    let gateway = site.home.start();
    let address = gateway.address("api").unwrap();
    let mut twice = site.post(address, r#"{"sum":7,"sum":7000000}"#);
    let told = twice.answer().unwrap();
    assert!(told.status == 400 && told.text().contains("ambiguous-body"), "{}", told.text());
    let mut first = site.post(address, r#"{"sum":7,"to":"bob"}"#);
    let before = site.pending(&gateway, 1).remove(0);
    let mut again = site.post(address, "{ \"to\": \"bob\", \"sum\": 7 }");
    let told = first.answer().unwrap();
    assert_eq!((told.status, told.text().contains(&before.id.to_string())), (403, true));
    let pending = site.pending(&gateway, 1).remove(0);
    assert_ne!(pending.id, before.id);
    assert!(pending.ask.summary.contains("{ \"to\": \"bob\", \"sum\": 7 }"));
    site.vote(&gateway, &pending, true);
    assert_eq!(again.answer().unwrap().status, 200);
    let heard = site.heard.lock().unwrap().clone();
    assert_eq!((heard.len(), heard[0].1.as_slice()), (1, &b"{ \"to\": \"bob\", \"sum\": 7 }"[..]));
    assert!(gateway.stop());
}
