//! What the tests of sessions share: a small gateway without sockets.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::worker::{ListenerView, ResourceView, Snapshot, Worker};
use crate::base::{CredentialId, Limits, MaskId, MaskSet, Now, Protocol, ResourceId, Secret};
use crate::credential::{AuthMethods, Credential, Form};
use crate::identity::dev::{DevClaims, DevKey};
use crate::identity::{
    Algorithm, IssuerRules, KeySet, KeySnapshot, Profile, SKEW_S_DEFAULT, Verifier,
};
use crate::mask::{Detector, JsonPath, MaskSpec, Operators, Plans, Shape};
use crate::policy::{Durable, Effect, Pattern, RuleSpec, Table};
use crate::record::{Journal, MemoryJournal};
use std::sync::Arc;

pub(super) const REAL_KEY: &[u8] = b"sk-real-key-of-the-provider-0123456789";
/// Of the credential that only a rule names.
pub(super) const NARROW_KEY: &[u8] = b"sk-narrow-key-of-the-provider-01234";
pub(super) const WALL_S: u64 = 1_800_000_000;

pub(super) fn at(ms: u64) -> Now {
    Now { mono_ns: ms * 1_000_000 + 1, wall_ns: (WALL_S * 1_000 + ms) * 1_000_000 }
}

pub(super) struct Kit {
    pub(super) key: DevKey,
    pub(super) worker: Worker<MemoryJournal>,
}

/// Two groups: `analysts` may use `gpt-*` and get masked answers, `plain` may use anything and
/// get them as they are, `careful` too, with their record on the disk before. A deny rule keeps `secret-*` models from everybody.
pub(super) fn kit() -> Kit {
    kit_with(MemoryJournal::default(), Limits::default())
}

pub(super) fn kit_with(journal: MemoryJournal, limits: Limits) -> Kit {
    let key = DevKey::generate().unwrap();
    let (set, _) = KeySet::from_jwks(key.jwks().as_bytes()).unwrap();
    let keys = KeySnapshot { generation: 1, sets: vec![Some(Arc::new(set))] };
    let snapshot = snapshot(rules(), limits);
    Kit { key, worker: Worker::new(Arc::new(snapshot), Arc::new(keys), journal, [7, 8, 9, 10]) }
}

fn rules() -> Vec<RuleSpec> {
    let patterns = |list: &[&str]| Some(list.iter().map(Pattern::new).collect());
    let mut masked = RuleSpec::new("analysts-chat", Effect::Allow);
    masked.who.groups = patterns(&["analysts"]);
    masked.what.model = patterns(&["gpt-*"]);
    masked.then.masks = MaskSet::EMPTY.with(MaskId(0));
    let mut open = RuleSpec::new("plain-all", Effect::Allow);
    open.who.groups = patterns(&["plain"]);
    let mut careful = RuleSpec::new("careful-all", Effect::Allow);
    careful.who.groups = patterns(&["careful"]);
    careful.then.durable = Durable::Each;
    let mut deny = RuleSpec::new("no-secret-models", Effect::Deny);
    deny.what.model = patterns(&["secret-*"]);
    vec![masked, open, careful, deny]
}

/// A generation with these rules beside those of [`kit`].
pub(super) fn snapshot_with(more: Vec<RuleSpec>, generation: u64, limits: Limits) -> Snapshot {
    let mut all = rules();
    all.extend(more);
    let mut made = snapshot(all, limits);
    made.generation = generation;
    made
}

fn snapshot(rules: Vec<RuleSpec>, limits: Limits) -> Snapshot {
    let spec = MaskSpec {
        name: "pii".into(),
        detect: vec![Detector::parse("email").unwrap(), Detector::parse("pan").unwrap()],
        fields: vec![JsonPath::parse("$..ssn").unwrap()],
        operators: Operators::default(),
        key: Secret::new(b"0123456789abcdef".to_vec()),
        ..MaskSpec::default()
    };
    let form = Form::Bearer(Secret::new(REAL_KEY.to_vec()));
    Snapshot {
        generation: 1,
        limits,
        on_full: crate::record::OnFull::Refuse,
        verifier: Verifier::new(vec![IssuerRules {
            name: "corp".into(),
            issuer: "https://idp.test".into(),
            audience: vec!["weirgate".into()],
            algorithms: vec![Algorithm::EdDsa],
            profile: Profile::Rfc9068,
            groups_claim: "groups".into(),
            clients: Vec::new(),
            skew_s: SKEW_S_DEFAULT,
            age_max_s: None,
        }]),
        policy: Table::compile(rules, 1, 1).unwrap(),
        plans: Plans::new(vec![spec]).unwrap(),
        resources: vec![ResourceView {
            name: "llm".into(),
            protocol: Protocol::Http,
            shape: Shape::OpenAi,
            credential: CredentialId(0),
            base_path: "/base".into(),
            authority: "llm.internal".into(),
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
            name: "api".into(),
            protocol: Protocol::Http,
            secure: false,
            oauth: false,
            resource: None,
            hosts: Vec::new(),
        }],
        public_url: None,
        credentials: vec![
            Credential::new("llm-key".into(), &form),
            Credential::new("narrow-key".into(), &Form::Bearer(Secret::new(NARROW_KEY.to_vec()))),
        ],
    }
}

impl Kit {
    pub(super) fn token(&self, subject: &str, groups: &[&str]) -> String {
        self.key.mint(&DevClaims {
            issuer: "https://idp.test".into(),
            subject: subject.into(),
            audience: vec!["weirgate".into()],
            client_id: "tests".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            actors: Vec::new(),
            issued_s: WALL_S - 10,
            lifetime_s: 3_600,
        })
    }
}

/// All record bytes of one kind, in order.
pub(super) fn recorded(worker: &Worker<MemoryJournal>, kind: crate::record::Kind) -> Vec<u8> {
    let entries = worker.journal.entries();
    entries
        .iter()
        .filter(|entry| entry.meta.kind == kind)
        .flat_map(|entry| entry.body.clone())
        .collect()
}

/// A bound that a journal cannot pass, for tests of a full one.
pub(super) fn is_journal<J: Journal>(_: &J) {}
