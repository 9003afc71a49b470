//! Whole HTTP sessions, with both drivers of bytes: no cut of either side changes what goes out,
//! nothing goes up without a recorded permit, everything that goes out is recorded, and neither
//! the real key nor a caller's token is ever where it must not be.
//!
//! First byte: `m` the caller is masked, anything else is not. What stands before a line `---`
//! comes from the caller, what stands behind it from the upstream. `TOKEN` is a sound token in
//! the first, `KEY` the real key in the second.

use super::{cuts, token};
use std::sync::{Arc, OnceLock};
use weirgate::base::{
    ConnectionId, CredentialId, Limits, ListenerId, MaskId, MaskSet, Now, Pieces, Protocol,
    ResourceId, Secret,
};
use weirgate::credential::{AuthMethods, Credential, Form};
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::identity::{KeySnapshot, Verifier};
use weirgate::mask::{Detector, JsonPath, MaskSpec, Operators, Plans, Shape};
use weirgate::policy::{Effect, Pattern, RuleSpec, Table};
use weirgate::record::{Kind, MemoryJournal};
use weirgate::session::http::Session;
use weirgate::session::{Act, Ending, Input, ListenerView, Out, ResourceView, Snapshot, Worker};

const KEY: &[u8] = b"sk-real-key-of-the-provider-0123456789";
const BREAK: &[u8] = b"\n---\n";
/// Turns of one conversation; each takes at least one byte or ends it.
const TURNS_MAX: usize = 4_096;

struct Kit {
    snapshot: Arc<Snapshot>,
    keys: Arc<KeySnapshot>,
    tokens: [String; 2],
}

/// What a conversation came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    to_caller: Vec<u8>,
    to_upstream: Vec<u8>,
    closed: bool,
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some((mode, text)) = cuts::mode(data) else { return };
    let kit = kit();
    let masked = mode == b'm';
    let token = kit.tokens.get(usize::from(!masked)).map_or("", String::as_str);
    let at = text.windows(BREAK.len()).position(|window| window == BREAK);
    let (caller, upstream) = match at {
        Some(at) => (text.get(..at), text.get(at + BREAK.len()..)),
        None => (Some(text), None),
    };
    let caller = filled(caller.unwrap_or_default(), b"TOKEN", token.as_bytes());
    let upstream = filled(upstream.unwrap_or_default(), b"KEY", KEY);
    // A caller does not know the key; a fuzzer that sees comparisons does.
    if has(&caller, KEY) {
        return;
    }
    let whole = converse(kit, token, &caller, &[caller.len()], &upstream, &[upstream.len()]);
    let ways = cuts::ways(&caller).into_iter().zip(cuts::ways(&upstream));
    for (down, up) in ways {
        let cut = converse(kit, token, &caller, &down, &upstream, &up);
        // How a stream that ends in a fault is cut depends on where its parts end; what is sent
        // of it does not go back on itself.
        let refused = |one: &Outcome| has(&one.to_caller, b"application/problem+json");
        if refused(&whole) || refused(&cut) {
            // A body that is found broken at its end was begun to be sent when it came in parts.
        } else if whole.closed || cut.closed {
            let len = whole.to_upstream.len().min(cut.to_upstream.len());
            assert_eq!(whole.to_upstream.get(..len), cut.to_upstream.get(..len));
        } else {
            assert_eq!(unchunked(&cut.to_caller), unchunked(&whole.to_caller), "{down:?} {up:?}");
            assert_eq!(cut.to_upstream, whole.to_upstream, "{down:?} {up:?}");
        }
    }
}

/// One conversation: the caller's parts first, then the upstream's, each as far as it is wanted.
fn converse(
    kit: &Kit,
    token: &str,
    caller: &[u8],
    down: &[usize],
    upstream: &[u8],
    up: &[usize],
) -> Outcome {
    let journal = MemoryJournal::new();
    let mut worker =
        Worker::new(Arc::clone(&kit.snapshot), Arc::clone(&kit.keys), journal, [1, 2, 3, 4]);
    let now = now();
    let mut session =
        Session::new(ListenerId(0), ConnectionId(1), ([192, 0, 2, 1], 9).into(), None, now);
    let mut out = Out::new();
    let mut exchange = None;
    let (mut to_caller, mut to_upstream) = (Vec::new(), Vec::new());
    let mut take =
        |out: &mut Out, of_caller: &[u8], of_upstream: &[u8], exchange: &mut Option<_>| {
            let mut pieces = Pieces::new();
            out.swap_caller(&mut pieces);
            to_caller.extend(pieces.to_vec(of_upstream));
            pieces.clear();
            out.swap_upstream(&mut pieces);
            to_upstream.extend(pieces.to_vec(of_caller));
            while let Some(act) = out.next_act() {
                match act {
                    Act::Connect { exchange: id, .. } => *exchange = Some(id),
                    Act::Release { .. } => *exchange = None,
                    _ => {}
                }
            }
        };
    let (mut caller_at, mut upstream_at, mut caller_end, mut upstream_end) = (0, 0, 0, 0);
    let (mut down, mut up) = (down.iter().copied(), up.iter().copied());
    for _ in 0..TURNS_MAX {
        if session.is_closed() {
            break;
        }
        let interest = session.interest();
        if interest.caller {
            let bytes = caller.get(caller_at..caller_end).unwrap_or_default();
            let used = session.handle(Input::Caller(bytes), now, &mut worker, &mut out);
            assert!(used <= bytes.len());
            take(&mut out, bytes, b"", &mut exchange);
            caller_at += used;
            if used == 0 && session.interest() == interest {
                match down.next() {
                    Some(end) => caller_end = end,
                    None if !interest.upstream => {
                        session.handle(Input::CallerEnd, now, &mut worker, &mut out);
                        take(&mut out, b"", b"", &mut exchange);
                        break;
                    }
                    None => {}
                }
            } else {
                continue;
            }
        }
        let Some(id) = exchange.filter(|_| session.interest().upstream) else { continue };
        let bytes = upstream.get(upstream_at..upstream_end).unwrap_or_default();
        let used = session.handle(Input::Upstream(id, bytes), now, &mut worker, &mut out);
        assert!(used <= bytes.len());
        take(&mut out, b"", bytes, &mut exchange);
        upstream_at += used;
        if used == 0 {
            match up.next() {
                Some(end) => upstream_end = end,
                None => {
                    let end = Input::UpstreamEnd(id, Ending::Clean);
                    session.handle(end, now, &mut worker, &mut out);
                    take(&mut out, b"", b"", &mut exchange);
                }
            }
        }
    }
    // A caller that writes its token elsewhere than in the slot passes it on by its own will.
    let once =
        caller.windows(token.len()).filter(|window| *window == token.as_bytes()).count() == 1;
    check(&worker, token.as_bytes(), once, &to_caller, &to_upstream);
    Outcome { to_caller, to_upstream, closed: session.is_closed() }
}

fn check(
    worker: &Worker<MemoryJournal>,
    token: &[u8],
    once: bool,
    to_caller: &[u8],
    to_upstream: &[u8],
) {
    let entries = worker.journal.entries();
    let permits =
        entries.iter().filter(|one| one.meta.kind == Kind::Open && has(&one.body, b"permit"));
    assert!(to_upstream.is_empty() || permits.count() > 0, "nothing goes up without a permit");
    assert!(!has(to_caller, KEY), "the real key came back");
    assert!(!once || !has(to_upstream, token), "the caller's token went up");
    for entry in entries {
        assert!(!has(&entry.body, KEY), "the real key is recorded");
        assert!(!once || !has(&entry.body, token), "the caller's token is recorded");
    }
    let recorded: usize = entries
        .iter()
        .filter(|one| matches!(one.meta.kind, Kind::RequestHead | Kind::RequestBody))
        .map(|one| one.body.len())
        .sum();
    // Masked forms and chunk lines differ in length; without any entry nothing may go.
    assert!(to_upstream.is_empty() || recorded > 0, "what went up is recorded");
}

fn has(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// The text without chunk lines: their places depend on how the input came.
fn unchunked(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    let is_chunk = |line: &&[u8]| {
        let line = line.trim_ascii_end();
        !line.is_empty() && line.len() <= 8 && line.iter().all(u8::is_ascii_hexdigit)
    };
    let kept: Vec<u8> = lines.filter(|line| !is_chunk(line)).flatten().copied().collect();
    kept.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect()
}

/// The text with a name replaced by what it stands for.
fn filled(text: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut filled = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        match rest.strip_prefix(name) {
            Some(behind) => {
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

fn now() -> Now {
    token::now()
}

fn kit() -> &'static Kit {
    static KIT: OnceLock<Kit> = OnceLock::new();
    KIT.get_or_init(|| {
        let key = token::key();
        let mint = |subject: &str, group: &str| {
            key.mint(&DevClaims {
                issuer: token::ISSUER.to_owned(),
                subject: subject.to_owned(),
                audience: vec!["weirgate".to_owned()],
                client_id: "fuzz".to_owned(),
                groups: vec![group.to_owned()],
                actors: Vec::new(),
                issued_s: token::NOW_S - 10,
                lifetime_s: 3_600,
            })
        };
        let tokens = [mint("ana", "masked"), mint("eve", "plain")];
        Kit { snapshot: Arc::new(snapshot()), keys: Arc::new(key.snapshot(1)), tokens }
    })
}

fn snapshot() -> Snapshot {
    let groups = |name: &str| Some(vec![Pattern::new(name)]);
    let mut masked = RuleSpec::new("masked", Effect::Allow);
    masked.who.groups = groups("masked");
    masked.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut plain = RuleSpec::new("plain", Effect::Allow);
    plain.who.groups = groups("plain");
    let mut deny = RuleSpec::new("deny", Effect::Deny);
    deny.what.model = groups("secret-*");
    let spec = MaskSpec {
        name: "pii".to_owned(),
        detect: vec![Detector::parse("email").expect("a detector")],
        fields: vec![JsonPath::parse("$..ssn").expect("a path")],
        operators: Operators::default(),
        key: Secret::new(Vec::new()),
        ..MaskSpec::default()
    };
    Snapshot {
        generation: 1,
        on_full: weirgate::record::OnFull::Refuse,
        limits: Limits::default(),
        verifier: Verifier::new(vec![DevKey::rules("dev", token::ISSUER, "weirgate")]),
        policy: Table::compile(vec![masked, plain, deny], 1, 1).expect("sound rules"),
        plans: Plans::new(vec![spec]).expect("a sound mask"),
        resources: vec![ResourceView {
            name: "llm".to_owned(),
            protocol: Protocol::Http,
            shape: Shape::OpenAi,
            credential: CredentialId(0),
            base_path: String::new(),
            authority: "llm.internal".to_owned(),
            body_max: 1 << 20,
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
            "key".to_owned(),
            &Form::Bearer(Secret::new(KEY.to_vec())),
        )],
    }
}
