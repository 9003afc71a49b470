//! Sessions seen from outside, without sockets: what tests and benches of them share.

#![allow(dead_code, reason = "each of them uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use weirgate::base::{
    ConnectionId, CredentialId, ExchangeId, Limits, ListenerId, MaskId, MaskSet, Now, Pieces,
    Protocol, ResourceId, Secret,
};
use weirgate::credential::{AuthMethods, Credential, Form};
use weirgate::identity::Verifier;
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::mask::{Detector, JsonPath, MaskSpec, Operator, Operators, Plans, Shape};
use weirgate::policy::{Effect, Pattern, RecordLevel, RuleSpec, Table};
use weirgate::record::Journal;
use weirgate::record::ring::{Cursor, RingSetup};
use weirgate::runtime::map::{self, RingJournal, Tail};
use weirgate::session::http::Session;
use weirgate::session::{Act, Input, ListenerView, Out, ResourceView, Snapshot, Worker};

const WALL_S: u64 = 1_800_000_000;
const ISSUER: &str = "https://idp.test";
/// The upper half of each exchange id, which the worker takes from its seed.
pub(crate) const ID_HIGH: u64 = 7;

pub(crate) fn at(ms: u64) -> Now {
    Now { mono_ns: ms * 1_000_000 + 1, wall_ns: (WALL_S * 1_000 + ms) * 1_000_000 }
}

/// What a snapshot is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Site {
    pub(crate) rules: Vec<RuleSpec>,
    pub(crate) masks: Vec<MaskSpec>,
    /// Names with their shapes; each uses the first secret where no rule names another.
    pub(crate) resources: Vec<(String, Shape)>,
    pub(crate) secrets: Vec<String>,
    pub(crate) limits: Limits,
}

impl Site {
    pub(crate) fn snapshot(self, generation: u64) -> Snapshot {
        let view = |(name, shape): &(String, Shape)| ResourceView {
            name: name.clone(),
            protocol: Protocol::Http,
            shape: *shape,
            credential: CredentialId(0),
            base_path: "/base".to_owned(),
            authority: format!("{name}.internal"),
            body_max: 1 << 20,
            cookies: false,
            database: String::new(),
            auth: AuthMethods::NONE,
            sql_text_max: 0,
            message_max: 0,
        };
        let id = |(place, (name, _)): (usize, &(String, Shape))| {
            (name.clone(), ResourceId(u16::try_from(place).unwrap()))
        };
        let credential = |(place, secret): (usize, &String)| {
            let form = Form::Bearer(Secret::new(secret.clone().into_bytes()));
            Credential::new(format!("credential-{place}"), &form)
        };
        let resources = self.resources.len();
        Snapshot {
            generation,
            limits: self.limits,
            on_full: weirgate::record::OnFull::Refuse,
            verifier: Verifier::new(vec![DevKey::rules("corp", ISSUER, "weirgate")]),
            policy: Table::compile(self.rules, resources, generation).unwrap(),
            plans: Plans::new(self.masks).unwrap(),
            resources: self.resources.iter().map(view).collect(),
            names: self.resources.iter().enumerate().map(id).collect(),
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
            credentials: self.secrets.iter().enumerate().map(credential).collect(),
        }
    }
}

/// An allow rule of one group.
pub(crate) fn allow(id: &str, group: &str) -> RuleSpec {
    let mut rule = RuleSpec::new(id, Effect::Allow);
    rule.who.groups = Some(vec![Pattern::new(group)]);
    rule
}

pub(crate) fn patterns(list: &[&str]) -> Option<Vec<Pattern>> {
    Some(list.iter().map(|text| Pattern::new(*text)).collect())
}

pub(crate) fn masks(ids: &[u16]) -> MaskSet {
    ids.iter().fold(MaskSet::EMPTY, |set, id| set.with(MaskId(*id)))
}

/// A mask of these detectors and of `$..ssn`.
pub(crate) fn mask(name: &str, detect: &[&str], operator: &str) -> MaskSpec {
    let operator = Some(Operator::parse(operator).unwrap());
    MaskSpec {
        name: name.to_owned(),
        detect: detect.iter().map(|name| Detector::parse(name).unwrap()).collect(),
        fields: vec![JsonPath::parse("$..ssn").unwrap()],
        operators: Operators { default: operator, ..Operators::default() },
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    }
}

pub(crate) fn token(key: &DevKey, subject: &str, groups: &[&str]) -> String {
    key.mint(&DevClaims {
        issuer: ISSUER.to_owned(),
        subject: subject.to_owned(),
        audience: vec!["weirgate".to_owned()],
        client_id: "tests".to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        actors: Vec::new(),
        issued_s: WALL_S - 10,
        lifetime_s: 3_600,
    })
}

pub(crate) fn worker<J: Journal>(snapshot: &Arc<Snapshot>, key: &DevKey, journal: J) -> Worker<J> {
    let keys = Arc::new(key.snapshot(1));
    Worker::new(Arc::clone(snapshot), keys, journal, [ID_HIGH, 8, 9, 10])
}

/// One caller's connection on a worker with a real ring; a call is a whole exchange.
pub(crate) struct Road {
    pub(crate) worker: Worker<RingJournal>,
    session: Session,
    out: Out,
    to_caller: Pieces,
    to_upstream: Pieces,
    now: Now,
    tail: Tail,
    scratch: Vec<u8>,
    _dir: TempDir,
}

impl Road {
    pub(crate) fn new(site: Site, key: &DevKey) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let setup = RingSetup {
            worker: 0,
            ring_bytes: 8 << 20,
            segment_bytes: 1 << 40,
            stream: [1; 16],
            boot: [0; 16],
            process: 0,
        };
        let start = Cursor::start(0, 1);
        let (journal, tail) = map::create(&dir.path().join("ring"), &setup, start).unwrap();
        let worker = worker(&Arc::new(site.snapshot(1)), key, journal);
        let peer = ([127, 0, 0, 1], 40_000).into();
        Self {
            worker,
            session: Session::new(ListenerId(0), ConnectionId(1), peer, None, at(0)),
            out: Out::new(),
            to_caller: Pieces::new(),
            to_upstream: Pieces::new(),
            now: at(1),
            tail,
            scratch: Vec::new(),
            _dir: dir,
        }
    }

    /// Sends `request`, answers with `answer` read by read, and returns how many bytes went up and
    /// down. A refused request is not answered.
    // A function of its own for the tools that count by function.
    #[inline(never)]
    pub(crate) fn exchange(&mut self, request: &[u8], answer: &[&[u8]]) -> [usize; 2] {
        self.now.mono_ns += 1_000;
        self.now.wall_ns += 1_000;
        let mut moved = [0; 2];
        let mut id = None;
        let used = self.handle(Input::Caller(request), &mut moved, &mut id);
        assert_eq!(used, request.len(), "the request is one read");
        for read in answer {
            let Some(id) = id else { break };
            let used = self.handle(Input::Upstream(id, read), &mut moved, &mut None);
            assert_eq!(used, read.len());
        }
        moved
    }

    /// Opens another connection, as after a refusal that closes.
    pub(crate) fn reconnect(&mut self) {
        let peer = ([127, 0, 0, 1], 40_000).into();
        self.session = Session::new(ListenerId(0), ConnectionId(1), peer, None, self.now);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// Runs so many exchanges; returns what all of them took, and one of the fastest batch. The ring
    /// is emptied between batches, which is not timed. Each must move `moved` bytes up and down.
    pub(crate) fn timed(
        &mut self,
        request: &[u8],
        answer: &[&[u8]],
        moved: [usize; 2],
        count: u64,
    ) -> [Duration; 2] {
        const BATCH: u64 = 16;
        let (mut spent, mut best) = (Duration::ZERO, Duration::MAX);
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            self.drain();
            let start = Instant::now();
            for _ in 0..batch {
                assert_eq!(self.exchange(request, answer), moved);
            }
            let took = start.elapsed();
            (spent, best) = (spent + took, best.min(took / u32::try_from(batch).unwrap()));
            left -= batch;
        }
        [spent, best]
    }

    /// Empties the ring, as the drain does.
    pub(crate) fn drain(&mut self) {
        self.scratch.clear();
        let batch = self.tail.read(usize::MAX, &mut self.scratch, &mut Vec::new()).unwrap();
        self.tail.release(batch.end);
    }

    fn handle(
        &mut self,
        input: Input<'_>,
        moved: &mut [usize; 2],
        id: &mut Option<ExchangeId>,
    ) -> usize {
        let used = self.session.handle(input, self.now, &mut self.worker, &mut self.out);
        while let Some(act) = self.out.next_act() {
            if let Act::Connect { exchange, .. } = act {
                *id = Some(exchange);
            }
        }
        self.out.swap_upstream(&mut self.to_upstream);
        self.out.swap_caller(&mut self.to_caller);
        moved[0] += self.to_upstream.len();
        moved[1] += self.to_caller.len();
        self.to_upstream.clear();
        self.to_caller.clear();
        used
    }
}

/// A POST of about `len` bytes that asks a model.
pub(crate) fn chat(token: &str, len: usize) -> Vec<u8> {
    let text = "Please look at the invoice of last month and tell me what is open. ";
    let text = text.repeat(len.div_ceil(text.len()));
    let body = format!(
        r#"{{"model":"gpt-4o","stream":true,"messages":[{{"role":"user","content":"{}"}}]}}"#,
        text.get(..len.saturating_sub(80)).unwrap_or_default()
    );
    let length = body.len();
    format!(
        "POST /llm/v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nAccept: application/json\r\nUser-Agent: tests/1\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A JSON answer of about `len` bytes with one address and one card in it.
pub(crate) fn json_answer(len: usize) -> Vec<u8> {
    let text = "The amount that is open stands in the second row of the table. ";
    let text = text.repeat(len.div_ceil(text.len()));
    let body = format!(
        r#"{{"id":"c-1","object":"chat.completion","created":1800000000,"choices":[{{"index":0,"message":{{"role":"assistant","content":"Write to ana@corp.example.com, card 4111 1111 1111 1111. {}"}},"finish_reason":"stop"}}],"usage":{{"total_tokens":42}}}}"#,
        text.get(..len.saturating_sub(260)).unwrap_or_default()
    );
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: upstream\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// The head of a streamed answer, then each chunk with one event of one token.
pub(crate) fn stream_answer(events: usize) -> Vec<Vec<u8>> {
    const WORDS: [&str; 8] =
        ["The", " open", " amount", " stands", " in", " the", " second", " row."];
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nServer: upstream\r\n\
                 Transfer-Encoding: chunked\r\n\r\n";
    let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len()).into_bytes();
    let mut reads = vec![head.to_vec()];
    reads.extend(WORDS.iter().cycle().take(events).map(|word| chunk(&chat_event(word))));
    reads.push([&chunk("data: [DONE]\n\n")[..], b"0\r\n\r\n"].concat());
    reads
}

/// One event of a chat completion.
pub(crate) fn chat_event(word: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-9x8y7z6w5v4u3t2s1r0q\",\"object\":\"chat.completion.chunk\",\
         \"created\":1800000000,\"model\":\"gpt-4o-2026-05-13\",\"system_fingerprint\":\"fp_0123abcd\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\
         \"finish_reason\":null}}]}}\n\n"
    )
}

/// One rule, no mask, bodies weighed and not kept.
pub(crate) fn bare() -> Site {
    let mut rule = allow("all", "analysts");
    rule.then.record = RecordLevel::Meta;
    Site {
        rules: vec![rule],
        resources: vec![("llm".to_owned(), Shape::OpenAi)],
        secrets: vec!["sk-the-real-key-of-the-provider-0123456789".to_owned()],
        ..Site::default()
    }
}

/// A site by the name that benches know it by: `bare`, `recorded` (with bodies), `plain` (no shape
/// is known), `everything`.
pub(crate) fn site(name: &str) -> Site {
    let mut site = if name == "everything" { everything() } else { bare() };
    match name {
        "bare" | "everything" => {}
        "recorded" => {
            site.rules.iter_mut().for_each(|rule| rule.then.record = RecordLevel::Full);
        }
        "plain" => site.resources.iter_mut().for_each(|(_, shape)| *shape = Shape::Plain),
        other => panic!("no site `{other}`"),
    }
    site
}

/// A thousand rules with one that names the model, all detectors, a field, the full record.
pub(crate) fn everything() -> Site {
    let mut rules: Vec<RuleSpec> = (0..999)
        .map(|n| {
            let mut rule = allow(&format!("rule-{n}"), &format!("group-{n}"));
            rule.what.path = patterns(&[&format!("/v1/api{n}/*")]);
            rule
        })
        .collect();
    let mut rule = allow("chat", "analysts");
    rule.what.model = patterns(&["gpt-*"]);
    rule.then.masks = masks(&[0]);
    rules.push(rule);
    let detect = ["email", "pan", "iban", "us_ssn", "secrets"];
    Site { rules, masks: vec![mask("pii", &detect, "redact")], ..bare() }
}
