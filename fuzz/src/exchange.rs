//! Whole HTTP sessions by script: both sides' bytes, ends, faults, time and a full journal in any
//! order. After every step: what went out was recorded, or is framing or a refusal of somebody
//! unknown. After all: each upstream connection saw one well-formed request that a recorded permit
//! covers, the key and masked values never came down, and nothing is left over.
//!
//! The input is a list of steps. A line `@` with a letter begins one, what follows up to the next
//! is its text; see [`Run::step`]. `TOKEN` (masked, `gpt-*` only), `PLAIN`, `KEY` and `MAIL` stand
//! for what they name. In the steps `)` and `(` each line end becomes `\r\n`.

use super::token;
use std::sync::{Arc, OnceLock};
use weirgate::base::{
    ConnectionId, CredentialId, ExchangeId, Limits, ListenerId, MaskId, MaskSet, Now, Protocol,
    ResourceId, Secret,
};
use weirgate::credential::{AuthMethods, Credential, Form};
use weirgate::identity::dev::DevKey;
use weirgate::identity::{KeySnapshot, Verifier};
use weirgate::mask::{Detector, JsonPath, MaskSpec, Operators, Plan, Plans, Shape, clear_value};
use weirgate::policy::{Effect, Pattern, RuleSpec, Table};
use weirgate::record::fields::{Reader, Tag};
use weirgate::record::{Flags, Kind, MemoryEntry, MemoryJournal};
use weirgate::session::http::Session;
use weirgate::session::{
    Act, Ending, Input, ListenerView, Out, ResourceView, Snapshot, UpstreamFault, Worker,
};
use weirgate::wire::http1::{
    BodyDecoder, BodyStep, Framing, HeadScan, RequestHead, chunk_head, parse_request,
};

const KEY: &str = "sk-real-key-of-the-provider-0123456789";
const MAIL: &str = " bob@corp.example.com ";
/// Longest event that is read.
const EVENT_MAX: u32 = 4 << 10;
/// Inputs of one session; more are cut off.
const STEPS_MAX: usize = 64;
/// Nanoseconds that pass with a step.
const MOMENT: u64 = 2_000_000;

struct Kit {
    snapshot: Arc<Snapshot>,
    keys: Arc<KeySnapshot>,
    masked: String,
    plain: String,
    plan: Arc<Plan>,
}

/// One upstream connection and what was written to it.
struct Sent {
    exchange: ExchangeId,
    bytes: Vec<u8>,
}

struct Run {
    kit: &'static Kit,
    worker: Worker<MemoryJournal>,
    session: Session,
    out: Out,
    now: Now,
    caller: Vec<u8>,
    /// All that the caller ever sent.
    asked: Vec<u8>,
    upstream: Vec<u8>,
    connected: Option<ExchangeId>,
    to_caller: Vec<u8>,
    sent: Vec<Sent>,
    over: bool,
    was_full: bool,
}

/// See the module.
pub fn run(data: &[u8]) {
    let kit = kit();
    let worker = Worker::new(
        Arc::clone(&kit.snapshot),
        Arc::clone(&kit.keys),
        MemoryJournal::new(),
        [1, 2, 3, 4],
    );
    let now = token::now();
    let mut run = Run {
        kit,
        worker,
        session: Session::new(
            ListenerId(0),
            ConnectionId(1),
            ([192, 0, 2, 1], 9).into(),
            None,
            now,
        ),
        out: Out::new(),
        now,
        caller: Vec::new(),
        asked: Vec::new(),
        upstream: Vec::new(),
        connected: None,
        to_caller: Vec::new(),
        sent: Vec::new(),
        over: false,
        was_full: false,
    };
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        let Some((b'@', tail)) = rest.split_first().map(|(at, tail)| (*at, tail)) else { break };
        let len = tail.windows(2).position(|two| two == b"\n@").unwrap_or(tail.len());
        let (step, behind) = tail.split_at(len);
        rest = behind.get(1..).unwrap_or_default();
        if let Some((op, text)) = step.split_first() {
            run.step(*op, text);
        }
        if run.session.is_closed() {
            break;
        }
    }
    run.finish();
}

impl Run {
    fn step(&mut self, op: u8, text: &[u8]) {
        let line = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |at| at + 1);
        let (arguments, body) = text.split_at(line);
        let digit = arguments.first().map_or(0, |byte| u32::from(byte % 8));
        match op {
            // Bytes of the caller.
            b'>' => self.ask(body),
            b')' => self.ask(&lines(body)),
            // Bytes of the upstream.
            b'<' => self.tell(body),
            b'(' => self.tell(&lines(body)),
            // Both, a few bytes at a time.
            b'=' => {
                for part in body.chunks(1 + digit as usize) {
                    self.ask(part);
                }
            }
            b'-' => {
                for part in self.filled(body, true).chunks(1 + digit as usize) {
                    self.tell_plain(part);
                }
            }
            b'c' => self.with_connection(|id| Input::Connected(id, None)),
            b'f' => {
                let faults = [
                    UpstreamFault::Unresolved,
                    UpstreamFault::Refused,
                    UpstreamFault::TimedOut,
                    UpstreamFault::Exhausted,
                ];
                let fault = faults.get(digit as usize % 4).copied().unwrap_or(UpstreamFault::Tls);
                self.with_connection(|id| Input::ConnectFailed(id, fault));
            }
            // The upstream ends: in order, or cut.
            b'e' => self.with_connection(|id| Input::UpstreamEnd(id, Ending::Clean)),
            b'x' => self.with_connection(|id| Input::UpstreamEnd(id, Ending::Cut)),
            // The caller ends, or is gone.
            b'h' if !self.over => {
                self.over = true;
                self.handle(&[], false, |_| Input::CallerEnd);
            }
            b'g' => {
                self.handle(&[], false, |_| Input::CallerGone);
                assert!(self.session.is_closed(), "a session without its caller is over");
            }
            // Time passes.
            b't' => {
                let ns = 10u64.pow(digit) * 1_000_000;
                self.now.mono_ns += ns;
                self.now.wall_ns += ns;
                self.handle(&[], false, |_| Input::Timer);
            }
            b'd' => {
                self.handle(&[], false, |_| Input::Drain);
            }
            // The journal has so much room, or no bound.
            b'j' => {
                self.was_full = true;
                self.worker.journal.set_room(Some(128 << digit));
            }
            b'J' => self.worker.journal.set_room(None),
            b'r' => {
                self.was_full = true;
                self.worker.record_full = !self.worker.record_full;
            }
            _ => {}
        }
        self.pump();
        // A session that waits for room in the journal looks again after a moment.
        let due = self.session.deadline(&self.worker).filter(|at| *at <= self.now.mono_ns + MOMENT);
        if let Some(at) = due {
            self.now.mono_ns = self.now.mono_ns.max(at);
            self.handle(&[], false, |_| Input::Timer);
            self.pump();
        }
    }

    fn ask(&mut self, text: &[u8]) {
        if self.over {
            return;
        }
        let text = self.filled(text, false);
        self.asked.extend_from_slice(&text);
        // A caller does not know the key, a fuzzer that sees comparisons does.
        if find(&self.asked, KEY.as_bytes()).is_some() {
            self.over = true;
            return;
        }
        self.caller.extend_from_slice(&text);
        self.pump();
    }

    fn tell(&mut self, text: &[u8]) {
        let text = self.filled(text, true);
        self.tell_plain(&text);
    }

    /// Without a connection there is nobody to say it.
    fn tell_plain(&mut self, text: &[u8]) {
        if self.connected.is_some() {
            self.upstream.extend_from_slice(text);
            self.pump();
        }
    }

    fn with_connection<'a>(&mut self, input: impl FnOnce(ExchangeId) -> Input<'a>) {
        let Some(id) = self.connected else { return };
        let input = input(id);
        if matches!(input, Input::ConnectFailed(..) | Input::UpstreamEnd(..)) {
            self.connected = None;
            self.upstream.clear();
        }
        self.handle(&[], false, |_| input);
    }

    /// Shows both sides' bytes as long as they are wanted and something happens.
    fn pump(&mut self) {
        loop {
            let before = (self.caller.len(), self.upstream.len(), self.session.interest());
            if self.session.interest().caller && !self.caller.is_empty() {
                let bytes = std::mem::take(&mut self.caller);
                let used = self.handle(&bytes, false, Input::Caller);
                self.caller = bytes.get(used..).expect("no more is used than there is").to_vec();
            }
            if self.session.interest().upstream
                && !self.upstream.is_empty()
                && let Some(id) = self.connected
            {
                let bytes = std::mem::take(&mut self.upstream);
                let used = self.handle(&bytes, true, |bytes| Input::Upstream(id, bytes));
                let rest = bytes.get(used..).expect("no more is used than there is");
                // A connection that was let go takes its unread bytes along.
                if self.connected == Some(id) {
                    self.upstream = rest.to_vec();
                }
            }
            if before == (self.caller.len(), self.upstream.len(), self.session.interest()) {
                return;
            }
        }
    }

    /// One input, and what must hold of all that it brought about.
    fn handle<'b>(
        &mut self,
        bytes: &'b [u8],
        of_upstream: bool,
        input: impl FnOnce(&'b [u8]) -> Input<'b>,
    ) -> usize {
        let before = self.worker.journal.entries().len();
        let used = self.session.handle(input(bytes), self.now, &mut self.worker, &mut self.out);
        let (down, up) = if of_upstream { (bytes, &b""[..]) } else { (&b""[..], bytes) };
        let to_caller = self.out.caller().to_vec(down);
        let to_upstream = self.out.upstream().to_vec(up);
        while let Some(act) = self.out.next_act() {
            match act {
                Act::Connect { exchange, .. } => {
                    self.connected = Some(exchange);
                    self.upstream.clear();
                    self.sent.push(Sent { exchange, bytes: Vec::new() });
                }
                Act::Release { exchange, .. } if self.connected == Some(exchange) => {
                    self.connected = None;
                    self.upstream.clear();
                }
                Act::CloseCaller { .. } | Act::AbortCaller => {
                    assert!(self.session.is_closed(), "closed toward the caller and still going");
                }
                _ => {}
            }
        }
        self.out = Out::new();
        let fresh = joined(self.worker.journal.entries().get(before..).unwrap_or_default());
        let left = unrecorded(&to_caller, &fresh, &[Kind::ResponseHead, Kind::ResponseBody]);
        assert!(
            left.is_empty() || (!of_upstream && is_refusal(left)),
            "not recorded: {}",
            String::from_utf8_lossy(left)
        );
        self.to_caller.extend_from_slice(&to_caller);
        if !to_upstream.is_empty() {
            self.admitted(&to_upstream, &fresh);
        }
        if !self.session.is_closed() {
            assert!(self.session.deadline(&self.worker).is_some(), "nothing ends it");
        }
        used
    }

    /// What goes up belongs to a recorded permit, and is recorded itself.
    fn admitted(&mut self, bytes: &[u8], fresh: &[(Kind, Vec<u8>)]) {
        let sent = self.sent.last_mut().expect("bytes for an upstream follow a connect");
        sent.bytes.extend_from_slice(bytes);
        let who = permitted(self.worker.journal.entries(), sent.exchange);
        let who = who.expect("bytes for an upstream follow a recorded permit");
        let mut body = bytes;
        if let Some((_, recorded)) = fresh.iter().find(|(kind, _)| *kind == Kind::RequestHead) {
            let line = format!("authorization: Bearer {KEY}\r\n\r\n");
            let at = find(bytes, line.as_bytes()).expect("a head carries the credential");
            let head = bytes.get(..at).unwrap_or_default();
            let mut cleared = Vec::new();
            let masks = who == "ana";
            clear_value(if masks { &self.kit.plan } else { &NO_PLAN }, head, &mut cleared)
                .expect("nothing is blocked");
            assert_eq!(recorded, &cleared, "the head is recorded, cleared");
            body = bytes.get(at + line.len()..).unwrap_or_default();
        }
        // Requests are recorded masked and sent as they are: only without a mask they are equal.
        if who == "eve" {
            let left = unrecorded(body, fresh, &[Kind::RequestBody]);
            assert!(left.is_empty(), "not recorded: {}", String::from_utf8_lossy(left));
        }
    }

    fn finish(mut self) {
        if !self.session.is_closed() {
            self.handle(&[], false, |_| Input::CallerGone);
            assert!(self.session.is_closed(), "a session without its caller is over");
        }
        assert_eq!(self.worker.lookahead, 0, "room for look-ahead is given back");
        assert!(find(&self.to_caller, KEY.as_bytes()).is_none(), "the key came down");
        for sent in &self.sent {
            self.check_sent(sent);
        }
        let entries = self.worker.journal.entries();
        let mut exchanges: Vec<ExchangeId> =
            entries.iter().map(|entry| entry.meta.exchange).collect();
        exchanges.dedup();
        for id in exchanges.into_iter().filter(|id| *id != ExchangeId(0)) {
            let of = |kind: Kind| {
                entries
                    .iter()
                    .filter(move |entry| entry.meta.exchange == id && entry.meta.kind == kind)
            };
            assert!(of(Kind::Open).count() <= 1, "an exchange begins once");
            if !self.was_full && of(Kind::Open).count() == 1 {
                assert_eq!(of(Kind::Close).count(), 1, "what began ends");
            }
            let answer: Vec<u8> = entries
                .iter()
                .filter(|entry| entry.meta.exchange == id && entry.meta.flags.has(Flags::TO_CALLER))
                .flat_map(|entry| entry.body.iter().copied())
                .collect();
            assert!(find(&answer, KEY.as_bytes()).is_none(), "the key came down in pieces");
            assert!(find(&told(&answer), KEY.as_bytes()).is_none(), "the key was told");
            if permitted(entries, id).as_deref() == Some("ana") {
                assert!(find(&answer, MAIL.as_bytes()).is_none(), "an address came down");
            }
        }
    }

    /// One upstream connection saw one request, however the caller wrote it.
    fn check_sent(&self, sent: &Sent) {
        let bytes = sent.bytes.as_slice();
        if bytes.is_empty() {
            return;
        }
        let limits = Limits { request_head_max: 64 << 10, ..Limits::default() };
        let (mut head, mut scan) = (RequestHead::new(), HeadScan::new());
        let whole = parse_request(&mut head, &mut scan, bytes, &limits);
        assert_eq!(whole, Ok(true), "no head: {}", String::from_utf8_lossy(bytes));
        let path = &head.target.path;
        assert!(path.starts_with(b"/base/"), "{}", String::from_utf8_lossy(path));
        let (text, mut rest) = bytes.split_at(head.head_len as usize);
        assert_eq!(text.windows(KEY.len()).filter(|part| *part == KEY.as_bytes()).count(), 1);
        for token in [&self.kit.masked, &self.kit.plain] {
            let token = token.as_bytes();
            assert!(
                elsewhere(&self.asked, token) || find(text, token).is_none(),
                "the caller's token went up"
            );
        }
        let mut body = Vec::new();
        let mut decoder = BodyDecoder::new(head.framing, &limits);
        let ended = loop {
            if head.framing == Framing::None {
                break true;
            }
            match decoder.next(rest).expect("a sound body goes up") {
                BodyStep::Data { range, consumed } => {
                    body.extend_from_slice(rest.get(range).unwrap_or_default());
                    rest = rest.get(consumed..).unwrap_or_default();
                }
                BodyStep::NeedMore { .. } => break false,
                BodyStep::End { consumed } => {
                    rest = rest.get(consumed..).unwrap_or_default();
                    break true;
                }
            }
        };
        assert!(!ended || rest.is_empty(), "bytes behind a request: a second one");
        let value = serde_json::from_slice::<serde_json::Value>(&body).ok().filter(|_| ended);
        if let Some(model) = value.as_ref().and_then(|body| body.get("model")?.as_str()) {
            let who = permitted(self.worker.journal.entries(), sent.exchange);
            assert!(!model.starts_with("secret-"), "a denied model went up");
            assert!(who.as_deref() != Some("ana") || model.starts_with("gpt-"), "{model} went up");
        }
    }

    /// The text with its names replaced.
    fn filled(&self, text: &[u8], of_upstream: bool) -> Vec<u8> {
        let mut filled = Vec::with_capacity(text.len());
        let mut rest = text;
        let key = if of_upstream { KEY } else { "KEY" };
        let names = [
            ("TOKEN", self.kit.masked.as_str()),
            ("PLAIN", &self.kit.plain),
            ("KEY", key),
            ("MAIL", MAIL),
        ];
        while let Some((&first, tail)) = rest.split_first() {
            let found = names.iter().find_map(|(name, value)| {
                Some((rest.strip_prefix(name.as_bytes())?, value.as_bytes()))
            });
            match found {
                Some((behind, value)) => {
                    filled.extend_from_slice(value);
                    rest = behind;
                }
                None => {
                    filled.push(first);
                    rest = tail;
                }
            }
        }
        filled
    }
}

/// What a streamed answer tells in its first choice, with a line end where that ends.
fn told(answer: &[u8]) -> Vec<u8> {
    let mut told = Vec::new();
    let head = find(answer, b"\r\n\r\n").unwrap_or(answer.len());
    let (head, body) = answer.split_at(head);
    let stream = find(&head.to_ascii_lowercase(), b"\r\ncontent-type: text/event-stream\r\n");
    // Events above the limit pass unread.
    if stream.is_none() || body.len() > EVENT_MAX as usize {
        return told;
    }
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        let Ok(event) = serde_json::from_slice::<serde_json::Value>(data) else { continue };
        let choices = event.get("choices").and_then(serde_json::Value::as_array);
        for choice in choices.into_iter().flatten() {
            if choice.get("index").and_then(serde_json::Value::as_u64) != Some(0) {
                continue;
            }
            let text = choice.get("delta").and_then(|delta| delta.get("content")?.as_str());
            told.extend_from_slice(text.unwrap_or_default().as_bytes());
            if choice.get("finish_reason").is_some_and(|reason| !reason.is_null()) {
                told.push(b'\n');
            }
        }
    }
    told
}

/// The subject of an exchange whose permit is recorded.
fn permitted(entries: &[MemoryEntry], id: ExchangeId) -> Option<String> {
    let open =
        entries.iter().find(|entry| entry.meta.exchange == id && entry.meta.kind == Kind::Open)?;
    let text = |tag| Reader::find(&open.body, tag).map(|field| field.as_text().into_owned());
    (text(Tag::Decision).as_deref() == Some("permit")).then(|| text(Tag::Sub))?
}

/// Entries with the parts of split bodies joined.
fn joined(entries: &[MemoryEntry]) -> Vec<(Kind, Vec<u8>)> {
    let mut all: Vec<(Kind, Vec<u8>)> = Vec::new();
    for entry in entries {
        match all.last_mut() {
            Some((_, body)) if entry.meta.flags.has(Flags::CONTINUED) => {
                body.extend_from_slice(&entry.body);
            }
            _ => all.push((entry.meta.kind, entry.body.clone())),
        }
    }
    all
}

/// What is left of `bytes` without the recorded bodies of `kinds`, in order, each plain or as one
/// chunk, and without framing, which is not recorded.
fn unrecorded<'b>(bytes: &'b [u8], entries: &[(Kind, Vec<u8>)], kinds: &[Kind]) -> &'b [u8] {
    const FRAMING: [&[u8]; 2] = [b"0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"];
    let mut rest = bytes;
    for (_, body) in entries.iter().filter(|(kind, _)| kinds.contains(kind)) {
        let mut chunk = Vec::new();
        if !body.is_empty() {
            chunk_head(body.len(), &mut chunk);
        }
        chunk.extend_from_slice(body);
        chunk.extend_from_slice(b"\r\n");
        while let Some(behind) = FRAMING.iter().find_map(|text| rest.strip_prefix(*text)) {
            rest = behind;
        }
        if let Some(behind) = rest.strip_prefix(chunk.as_slice()) {
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix(body.as_slice()) {
            rest = behind;
        }
    }
    while let Some(behind) = FRAMING.iter().find_map(|text| rest.strip_prefix(*text)) {
        rest = behind;
    }
    rest
}

/// A whole answer of the gateway's own making.
fn is_refusal(text: &[u8]) -> bool {
    let status = text.strip_prefix(b"HTTP/1.1 ").and_then(|status| status.first());
    matches!(status, Some(b'4' | b'5'))
        && find(text, b"\r\ncontent-type: application/problem+json\r\n").is_some()
        && find(text, b"\r\nx-should-retry: false\r\n").is_some()
}

/// Whether the caller writes its token outside of a slot too: then it passes it on by its own will.
fn elsewhere(asked: &[u8], token: &[u8]) -> bool {
    let slot = |at: usize| {
        let before = asked.get(at.saturating_sub(24)..at).unwrap_or_default().to_ascii_lowercase();
        before.ends_with(b"\nauthorization: bearer ") || before.ends_with(b"\nx-api-key: ")
    };
    let mut places = asked.windows(token.len()).enumerate();
    places.any(|(at, part)| part == token && !slot(at))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn lines(text: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(text.len() + 16);
    for byte in text {
        if *byte == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

static NO_PLAN: std::sync::LazyLock<Plan> = std::sync::LazyLock::new(Plan::pass);

fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let key = token::key();
        let sign = |subject: &str, group: &str| {
            let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{}"}}"#, key.kid());
            let claims = format!(
                r#"{{"iss":"{}","sub":"{subject}","aud":"weirgate","client_id":"c","jti":"1",
                "iat":{},"exp":{},"groups":["{group}"]}}"#,
                token::ISSUER,
                token::NOW_S - 10,
                token::NOW_S + 3_600
            );
            key.sign(&header, &claims)
        };
        let (masked, plain) = (sign("ana", "analysts"), sign("eve", "plain"));
        let snapshot = snapshot();
        let plan = snapshot.plans.united(MaskSet::EMPTY.with(MaskId(0)));
        let (snapshot, keys) = (Arc::new(snapshot), Arc::new(key.snapshot(1)));
        Kit { snapshot, keys, masked, plain, plan }
    })
}

fn snapshot() -> Snapshot {
    let patterns = |name: &str| Some(vec![Pattern::new(name)]);
    let mut masked = RuleSpec::new("analysts-chat", Effect::Allow);
    masked.who.groups = patterns("analysts");
    masked.what.model = patterns("gpt-*");
    masked.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut plain = RuleSpec::new("plain-all", Effect::Allow);
    plain.who.groups = patterns("plain");
    let mut deny = RuleSpec::new("no-secret-models", Effect::Deny);
    deny.what.model = patterns("secret-*");
    let spec = MaskSpec {
        name: "pii".to_owned(),
        detect: vec![Detector::parse("email").expect("a detector")],
        fields: vec![JsonPath::parse("$..ssn").expect("a path")],
        operators: Operators::default(),
        key: Secret::new(b"a key of the fuzzer".to_vec()),
        ..MaskSpec::default()
    };
    Snapshot {
        generation: 1,
        on_full: weirgate::record::OnFull::Refuse,
        limits: Limits {
            lookahead_max: 4 << 10,
            lookahead_worker_max: 6 << 10,
            event_max: EVENT_MAX,
            ..Limits::default()
        },
        verifier: Verifier::new(vec![DevKey::rules("corp", token::ISSUER, "weirgate")]),
        policy: Table::compile(vec![masked, plain, deny], 1, 1).expect("sound rules"),
        plans: Plans::new(vec![spec]).expect("a sound mask"),
        resources: vec![ResourceView {
            name: "llm".to_owned(),
            protocol: Protocol::Http,
            shape: Shape::OpenAi,
            credential: CredentialId(0),
            base_path: "/base".to_owned(),
            authority: "llm.internal".to_owned(),
            body_max: 64 << 10,
            cookies: false,
            database: String::new(),
            auth: AuthMethods::NONE,
            sql_text_max: 0,
            message_max: 0,
        }],
        names: [("llm".to_owned(), ResourceId(0))].into(),
        databases: [].into(),
        listeners: vec![ListenerView {
            name: "api".to_owned(),
            protocol: Protocol::Http,
            secure: false,
            oauth: false,
            resource: None,
            hosts: Vec::new(),
        }],
        public_url: None,
        credentials: vec![Credential::new(
            "llm-key".to_owned(),
            &Form::Bearer(Secret::new(KEY.as_bytes().to_vec())),
        )],
    }
}
