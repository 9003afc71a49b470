//! The session against a server that the test plays.

mod attack;
mod beside;
mod columns;
mod elsewhere;
mod held;
mod held_elsewhere;
mod held_random;
mod long;
mod masked;
mod moved;
mod parameters;
mod refused;
mod said;
mod split;
mod sways;

use super::{Opened, Session};
use crate::base::{
    ConnectionId, CredentialId, ExchangeId, Limits, ListenerId, Now, Pieces, Protocol, ResourceId,
    Secret,
};
use crate::credential::{AuthMethod, AuthMethods, Credential, Form};
use crate::identity::Verifier;
use crate::identity::dev::{DevClaims, DevKey};
use crate::mask::{Plans, Shape};
use crate::policy::{Effect, Pattern, RuleSpec, Table};
use crate::record::{Kind, MemoryJournal};
use crate::session::io::{Act, Ending, Input, Out};
use crate::session::worker::{ListenerView, ResourceView, Snapshot, Worker};
use crate::wire::postgres::{FRAME_HEAD, TxStatus, frame, write};
use ahash::AHashMap;
use std::sync::Arc;

pub(super) const ISSUER: &str = "https://idp.test";
const WALL_S: u64 = 1_800_000_000;
const PASSWORD: &[u8] = b"the-real-password-0123456789";

pub(super) fn at(ms: u64) -> Now {
    Now { mono_ns: ms * 1_000_000 + 1, wall_ns: (WALL_S * 1_000 + ms) * 1_000_000 }
}

/// One caller, the gateway between, and what the server would see.
pub(super) struct Line {
    pub(super) key: DevKey,
    pub(super) worker: Worker<MemoryJournal>,
    pub(super) session: Session,
    out: Out,
    /// Bytes that are not consumed yet.
    caller_rest: Vec<u8>,
    upstream_rest: Vec<u8>,
    /// What went to the server, and to the caller.
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<u8>,
    pub(super) acts: Vec<Act>,
    pub(super) exchange: ExchangeId,
    pub(super) now: Now,
}

fn patterns(list: &[&str]) -> Option<Vec<Pattern>> {
    Some(list.iter().map(Pattern::new).collect())
}

/// `readers` may select from `public.t`, `writers` do anything that is known; nobody deletes all.
pub(super) fn rules() -> Vec<RuleSpec> {
    let mut read = RuleSpec::new("read", Effect::Allow);
    read.who.groups = patterns(&["readers"]);
    read.what.statement = patterns(&["select", "insert"]);
    read.what.table = patterns(&["public.t"]);
    let mut write = RuleSpec::new("write", Effect::Allow);
    write.who.groups = patterns(&["writers"]);
    let mut deny = RuleSpec::new("no-mass-delete", Effect::Deny);
    deny.what.statement = patterns(&["delete"]);
    deny.what.missing_where = true;
    vec![read, write, deny]
}

pub(super) fn snapshot(rules: Vec<RuleSpec>, generation: u64) -> Snapshot {
    let form = Form::Password {
        user: "app".to_owned(),
        secret: Secret::new(PASSWORD.to_vec()),
        role: Some("readonly".to_owned()),
    };
    Snapshot {
        generation,
        limits: Limits::default(),
        on_full: crate::record::OnFull::Refuse,
        verifier: Verifier::new(vec![DevKey::rules("corp", ISSUER, "weirgate")]),
        policy: Table::compile(rules, 1, generation).unwrap(),
        plans: Plans::new(Vec::new()).unwrap(),
        resources: vec![ResourceView {
            name: "orders".to_owned(),
            protocol: Protocol::Postgres,
            database: "orders_prod".to_owned(),
            auth: AuthMethods::default().with(AuthMethod::Cleartext),
            shape: Shape::Plain,
            credential: CredentialId(0),
            base_path: String::new(),
            authority: "db.internal:5432".to_owned(),
            body_max: 0,
            sql_text_max: 64 << 10,
            message_max: 16 << 20,
            cookies: false,
        }],
        names: AHashMap::new(),
        databases: [("orders".to_owned(), ResourceId(0))].into(),
        listeners: vec![ListenerView {
            name: "db".to_owned(),
            protocol: Protocol::Postgres,
            secure: false,
            oauth: false,
            resource: None,
            hosts: Vec::new(),
        }],
        public_url: None,
        credentials: vec![Credential::new("orders-app".to_owned(), &form)],
    }
}

impl Line {
    pub(super) fn new() -> Self {
        let key = DevKey::generate().unwrap();
        let keys = Arc::new(key.snapshot(1));
        let journal = MemoryJournal::default();
        let worker = Worker::new(Arc::new(snapshot(rules(), 1)), keys, journal, [7, 8, 9, 10]);
        let opened = Opened {
            listener: ListenerId(0),
            connection: ConnectionId(1),
            caller: "127.0.0.1:5000".parse().unwrap(),
            secure: false,
            principal: None,
            random: Some([7; super::RANDOM_LEN]),
            cancels: None,
        };
        Self {
            key,
            worker,
            session: Session::new(opened, at(0)),
            out: Out::new(),
            caller_rest: Vec::new(),
            upstream_rest: Vec::new(),
            up: Vec::new(),
            down: Vec::new(),
            acts: Vec::new(),
            exchange: ExchangeId(0),
            now: at(0),
        }
    }

    pub(super) fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.key.mint(&DevClaims {
            issuer: ISSUER.into(),
            subject: subject.into(),
            audience: vec!["weirgate".into()],
            client_id: "tests".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            actors: Vec::new(),
            issued_s: WALL_S - 10,
            lifetime_s: 3_600,
        })
    }

    /// Shows an input until nothing of it is consumed any more.
    pub(super) fn tell(&mut self, input: Input<'_>) {
        let used = self.session.handle(input, self.now, &mut self.worker, &mut self.out);
        assert_eq!(used, 0);
        self.collect(b"");
    }

    fn collect(&mut self, source: &[u8]) {
        while let Some(act) = self.out.next_act() {
            if let Act::Connect { exchange, .. }
            | Act::Beside { exchange, .. }
            | Act::Resume { exchange } = &act
            {
                self.exchange = *exchange;
            }
            self.acts.push(act);
        }
        let (mut caller, mut upstream) = (Pieces::new(), Pieces::new());
        self.out.swap_caller(&mut caller);
        self.out.swap_upstream(&mut upstream);
        self.down.extend(caller.to_vec(source));
        self.up.extend(upstream.to_vec(source));
    }

    pub(super) fn caller(&mut self, bytes: &[u8]) {
        self.caller_rest.extend_from_slice(bytes);
        while self.session.interest().caller && !self.caller_rest.is_empty() {
            let input = self.caller_rest.clone();
            let used = self.session.handle(
                Input::Caller(&input),
                self.now,
                &mut self.worker,
                &mut self.out,
            );
            self.collect(&input);
            self.caller_rest.drain(..used);
            if used == 0 {
                return;
            }
        }
    }

    pub(super) fn server(&mut self, bytes: &[u8]) {
        self.upstream_rest.extend_from_slice(bytes);
        while self.session.interest().upstream && !self.upstream_rest.is_empty() {
            let input = self.upstream_rest.clone();
            let used = self.session.handle(
                Input::Upstream(self.exchange, &input),
                self.now,
                &mut self.worker,
                &mut self.out,
            );
            self.collect(&input);
            self.upstream_rest.drain(..used);
            if used == 0 {
                return;
            }
        }
    }

    /// Lets the caller in, and forgets what was said for it.
    pub(super) fn login(groups: &[&str]) -> Self {
        Self::new().enter(groups)
    }

    pub(super) fn enter(mut self, groups: &[&str]) -> Self {
        let line = &mut self;
        line.caller(&startup(&[("user", "x"), ("database", "orders")]));
        assert_eq!(tags(&line.down), "R");
        let token = line.token("ana", groups);
        line.caller(&message(|to| write::secret(token.as_bytes(), to)));
        let link = line.exchange;
        line.tell(Input::Connected(link, None));
        line.server(&message(write::auth_cleartext));
        line.server(&message(write::auth_ok));
        line.server(&message(|to| write::status(b"server_version", b"15.20", to)));
        line.server(&message(|to| write::status(b"session_authorization", b"app", to)));
        line.server(&message(|to| write::key(7, b"abcd", to)));
        line.server(&ready(TxStatus::Idle));
        assert_eq!(tags(&line.down), "RRSZ");
        line.up.clear();
        line.down.clear();
        self
    }

    pub(super) fn recorded(&self, kind: Kind) -> String {
        let entries = self.worker.journal.entries();
        let bodies = entries.iter().filter(|entry| entry.meta.kind == kind);
        let bytes: Vec<u8> = bodies.flat_map(|entry| entry.body.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

pub(super) fn message(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes);
    bytes
}

pub(super) fn startup(params: &[(&str, &str)]) -> Vec<u8> {
    let params: Vec<_> = params.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
    message(|to| write::startup(0, &params, to))
}

pub(super) fn query(text: &str) -> Vec<u8> {
    message(|to| write::query(text.as_bytes(), to))
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(|to| write::parse(name.as_bytes(), text.as_bytes(), &[], to))
}

pub(super) fn bind_execute(statement: &str) -> Vec<u8> {
    message(|to| {
        write::bind(b"", statement.as_bytes(), &[], &[Some(b"17")], &[], to);
        write::execute(b"", 0, to);
    })
}

pub(super) fn sync() -> Vec<u8> {
    message(write::sync)
}

pub(super) fn ready(status: TxStatus) -> Vec<u8> {
    message(|to| write::ready(status, to))
}

pub(super) fn rows(count: usize) -> Vec<u8> {
    message(|to| {
        for _ in 0..count {
            write::data_row(&[Some(b"17"), None], to);
        }
        write::complete(b"SELECT", to);
    })
}

pub(super) fn syntax_error() -> Vec<u8> {
    message(|to| write::error("ERROR", "42601", "syntax error at or near \"!\"", None, None, to))
}

/// The tags of the messages in `bytes`, which must be whole.
pub(super) fn tags(bytes: &[u8]) -> String {
    let (mut rest, mut tags) = (bytes, String::new());
    while let Some(head) = frame(rest).unwrap() {
        tags.push(char::from(head.tag));
        rest = &rest[FRAME_HEAD + head.len..];
    }
    assert!(rest.is_empty(), "{rest:?}");
    tags
}

#[test]
fn the_token_stays_and_the_gateway_logs_in_by_itself() {
    let mut line = Line::new();
    line.caller(&startup(&[
        ("user", "ana"),
        ("database", "orders"),
        ("application_name", "psql"),
        ("client_encoding", "UTF8"),
    ]));
    assert!(line.up.is_empty(), "nothing goes before the token was verified");
    let token = line.token("ana", &["readers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    assert!(line.up.is_empty());
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    let hello = String::from_utf8_lossy(&line.up).into_owned();
    for part in ["user\0app\0", "database\0orders_prod\0", "role\0readonly\0", "psql\0"] {
        assert!(hello.contains(part), "{hello:?}");
    }
    assert!(hello.contains("search_path\0public\0") && !hello.contains("ana"));
    line.up.clear();
    line.server(&message(write::auth_cleartext));
    assert_eq!(line.up, message(|to| write::secret(PASSWORD, to)));
    let everything = format!("{:?}", line.worker.journal.entries());
    let secret = format!("{:?}", PASSWORD).trim_matches(['[', ']']).to_owned();
    assert!(!everything.contains(&secret), "the record has the secret");
    assert!(line.recorded(Kind::Open).contains("ana"));
    assert!(line.recorded(Kind::Credential).contains("orders-app"));
}

#[test]
fn statements_and_rows_pass_as_they_are_and_stand_in_the_record() {
    let mut line = Line::login(&["readers"]);
    let asked = query("select * from t where id = 17");
    line.caller(&asked);
    assert_eq!(line.up, asked);
    let answer = [rows(3), ready(TxStatus::Idle)].concat();
    line.server(&answer);
    assert_eq!(line.down, answer);
    assert!(line.recorded(Kind::Open).contains("select * from t where id = 17"));
    assert!(line.recorded(Kind::RequestBody).contains("where id = 17"));
    assert!(line.recorded(Kind::ResponseBody).contains("17"));
    let close = line.recorded(Kind::Close);
    assert!(close.contains("whole"), "{close:?}");
    line.caller(&message(write::terminate));
    assert_eq!(tags(&line.up), "QX");
    let link = line.exchange;
    line.tell(Input::UpstreamEnd(link, Ending::Clean));
    assert!(line.session.is_closed());
}

#[test]
fn settings_of_the_server_that_name_its_role_stay() {
    let mut line = Line::login(&["readers"]);
    line.server(&message(|to| write::status(b"is_superuser", b"off", to)));
    line.server(&message(|to| write::status(b"TimeZone", b"UTC", to)));
    assert_eq!(tags(&line.down), "S");
}

#[test]
fn a_server_that_asks_for_a_method_that_is_not_allowed_gets_nothing() {
    let mut line = Line::new();
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["readers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.up.clear();
    line.server(&message(|to| write::auth_md5(*b"salt", to)));
    assert!(!tags(&line.up).contains('p'));
    let told = String::from_utf8_lossy(&line.down).into_owned();
    assert!(told.contains("FATAL") && told.contains("08006"), "{told:?}");
    assert!(line.session.is_closed());
}

#[test]
fn a_server_that_lets_the_gateway_in_without_any_proof_is_not_trusted() {
    let mut line = Line::new();
    line.caller(&startup(&[("user", "x"), ("database", "orders")]));
    let token = line.token("ana", &["readers"]);
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    let link = line.exchange;
    line.tell(Input::Connected(link, None));
    line.server(&message(write::auth_ok));
    assert!(line.session.is_closed());
}

#[test]
fn an_answer_that_nobody_asked_for_ends_the_connection() {
    for answer in [rows(1), ready(TxStatus::Idle), message(write::parse_done)] {
        let mut line = Line::login(&["readers"]);
        line.server(&answer);
        assert!(line.session.is_closed());
        assert!(String::from_utf8_lossy(&line.down).contains("FATAL"));
    }
}

#[test]
fn an_upstream_that_ends_in_the_middle_is_no_clean_end() {
    let mut line = Line::login(&["readers"]);
    line.caller(&query("select * from t"));
    let link = line.exchange;
    line.tell(Input::UpstreamEnd(link, Ending::Clean));
    assert!(line.acts.contains(&Act::AbortCaller), "{:?}", line.acts);
    assert!(line.recorded(Kind::Close).contains("cut"));
}

#[test]
fn a_token_that_expired_ends_the_session_at_the_next_statement() {
    let mut line = Line::login(&["readers"]);
    line.now = at(4_000_000);
    line.caller(&query("select 1"));
    let told = String::from_utf8_lossy(&line.down).into_owned();
    assert!(told.contains("FATAL") && told.contains("28000"), "{told:?}");
    assert!(line.up.is_empty() && line.session.is_closed());
}

#[test]
fn a_token_comes_by_oauthbearer_where_the_listener_says_so() {
    let begin = || {
        let mut line = Line::new();
        let mut made = snapshot(rules(), 2);
        made.listeners[0].oauth = true;
        line.worker.reload(Arc::new(made));
        line.caller(&startup(&[("user", "x"), ("database", "orders")]));
        assert!(line.down.ends_with(b"OAUTHBEARER\0\0"));
        line.down.clear();
        line
    };
    let say = |token: &str| {
        let data = format!("n,,\x01auth={token}\x01\x01");
        message(|to| write::sasl_initial("OAUTHBEARER", data.as_bytes(), to))
    };
    let mut line = begin();
    let token = line.token("ana", &["readers"]);
    line.caller(&say(&format!("Bearer {token}")));
    assert!(line.acts.iter().any(|act| matches!(act, Act::Connect { .. })));
    for bad in ["", "Bearer no.such.token"] {
        let mut line = begin();
        line.caller(&say(bad));
        let told = String::from_utf8_lossy(&line.down).into_owned();
        assert!(told.contains("https://idp.test/.well-known/openid-configuration"), "{told:?}");
        assert!(!line.session.is_closed());
        line.caller(&message(|to| write::sasl_response(b"\x01", to)));
        assert!(line.session.is_closed());
        assert!(String::from_utf8_lossy(&line.down).contains("28000"));
        assert!(line.acts.iter().all(|act| !matches!(act, Act::Connect { .. })));
    }
    let mut line = begin();
    line.caller(&message(|to| write::secret(token.as_bytes(), to)));
    assert!(line.session.is_closed());
}

#[test]
fn the_config_may_grant_an_expired_token_some_time() {
    let mut line = Line::login(&["readers"]);
    let mut lenient = snapshot(rules(), 2);
    lenient.limits.token_grace_ms = 1_000_000;
    line.worker.reload(Arc::new(lenient));
    line.caller(&query("select 1"));
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    // An hour and the skew, and then some.
    line.now = at(4_000_000);
    line.caller(&query("select 1"));
    assert_eq!(tags(&line.up), "QQ");
    line.server(&[rows(1), ready(TxStatus::Idle)].concat());
    line.now = at(4_700_000);
    line.caller(&query("select 1"));
    assert!(line.session.is_closed());
}

#[test]
fn an_idle_session_ends_after_its_time() {
    let mut line = Line::login(&["readers"]);
    let due = line.session.deadline(&line.worker).unwrap();
    assert_eq!(due, at(0).after_ms(Limits::default().session_idle_ms));
    line.now = Now { mono_ns: due, ..line.now };
    line.tell(Input::Timer);
    assert!(line.session.is_closed());
}
