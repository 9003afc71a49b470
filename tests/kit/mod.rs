//! Sessions seen from outside, without sockets: what tests and benches of them share.

#![allow(dead_code, reason = "each of them uses a part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use weirgate::base::{CredentialId, Limits, MaskId, MaskSet, Now, ResourceId, Secret};
use weirgate::credential::{Credential, Form};
use weirgate::identity::Verifier;
use weirgate::identity::dev::{DevClaims, DevKey};
use weirgate::mask::{Detector, JsonPath, MaskSpec, Operator, Operators, Plans, Shape};
use weirgate::policy::{Effect, Pattern, RuleSpec, Table};
use weirgate::record::Journal;
use weirgate::session::{ListenerView, ResourceView, Snapshot, Worker};

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
            shape: *shape,
            credential: CredentialId(0),
            base_path: "/base".to_owned(),
            authority: format!("{name}.internal"),
            body_max: 1 << 20,
            cookies: false,
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
            verifier: Verifier::new(vec![DevKey::rules("corp", ISSUER, "weirgate")]),
            policy: Table::compile(self.rules, resources, generation).unwrap(),
            plans: Plans::new(self.masks).unwrap(),
            resources: self.resources.iter().map(view).collect(),
            names: self.resources.iter().enumerate().map(id).collect(),
            listeners: vec![ListenerView {
                name: "api".to_owned(),
                resource: None,
                hosts: Vec::new(),
            }],
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
