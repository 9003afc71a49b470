//! What the callers do, drawn at random, and the rules they do it under.

use super::kit::{Site, allow, mask, masks, patterns};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use weirgate::base::{CredentialId, Limits};
use weirgate::mask::Shape;
use weirgate::policy::{Effect, RuleSpec};

pub(crate) const NAMES: [&str; 5] = ["ALFA", "BRAVO", "CHARLIE", "DELTA", "ECHO"];

/// Stands in all that a caller sends and gets, and in its rule, mask and token.
pub(crate) fn mark(caller: usize) -> String {
    format!("mark{}x", NAMES[caller])
}

/// Stands in the key that two callers share.
pub(crate) fn key_mark(caller: usize) -> String {
    format!("keyof{}x", NAMES[caller / 2 * 2])
}

pub(crate) fn secret(caller: usize) -> String {
    format!("sk-{}-0123456789", key_mark(caller))
}

/// One case: some callers, what each of their connections asks and hears, and the order of it all.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) callers: usize,
    pub(crate) lines: Vec<LineSpec>,
    pub(crate) ops: Vec<Op>,
    /// So little room for look-ahead that callers take it from each other.
    pub(crate) tight: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct LineSpec {
    pub(crate) caller: u8,
    pub(crate) asks: Vec<Ask>,
    pub(crate) tells: Vec<Tell>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Chat,
    Chunked,
    Get,
    Long,
    WrongModel,
    DeniedModel,
    BadToken,
    Smuggled,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Tell {
    Json,
    Events,
    Text,
    Empty,
    UntilEnd,
    Echo,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Line(u8, Step),
    Pass(u16),
    Reload,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Ask(u16),
    Tell(u16),
    Gone,
    End { clean: bool },
    NoConnection,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let ask = prop_oneof![
        6 => proptest::prelude::Just(Ask::Chat),
        3 => proptest::prelude::Just(Ask::Chunked),
        2 => proptest::prelude::Just(Ask::Get),
        2 => proptest::prelude::Just(Ask::Long),
        1 => proptest::prelude::Just(Ask::WrongModel),
        1 => proptest::prelude::Just(Ask::DeniedModel),
        1 => proptest::prelude::Just(Ask::BadToken),
        1 => proptest::prelude::Just(Ask::Smuggled),
    ];
    let tell = prop_oneof![
        4 => proptest::prelude::Just(Tell::Json),
        4 => proptest::prelude::Just(Tell::Events),
        2 => proptest::prelude::Just(Tell::Text),
        1 => proptest::prelude::Just(Tell::Empty),
        1 => proptest::prelude::Just(Tell::UntilEnd),
        1 => proptest::prelude::Just(Tell::Echo),
    ];
    let len = prop_oneof![2 => 1u16..40, 4 => 40u16..900, 2 => 900u16..9_000];
    let step = prop_oneof![
        20 => len.clone().prop_map(Step::Ask),
        20 => len.prop_map(Step::Tell),
        1 => proptest::prelude::Just(Step::Gone),
        1 => any::<bool>().prop_map(|clean| Step::End { clean }),
        1 => proptest::prelude::Just(Step::NoConnection),
    ];
    let op = prop_oneof![
        60 => (any::<u8>(), step).prop_map(|(line, step)| Op::Line(line, step)),
        2 => (1u16..400).prop_map(Op::Pass),
        1 => proptest::prelude::Just(Op::Reload),
    ];
    (2usize..=NAMES.len()).prop_flat_map(move |callers| {
        let caller = 0u8..u8::try_from(callers).unwrap_or(1);
        let asks = vec(ask.clone(), 1..5);
        let line = (caller, asks, vec(tell.clone(), 1..4))
            .prop_map(|(caller, asks, tells)| LineSpec { caller, asks, tells });
        (vec(line, 2..9), vec(op.clone(), 0..160), proptest::bool::weighted(0.2))
            .prop_map(move |(lines, ops, tight)| Case { callers, lines, ops, tight })
    })
}

/// The rules in turn: masked and plain callers change places.
pub(crate) fn site(turn: u64, limits: &Limits) -> Site {
    let mut rules: Vec<RuleSpec> = NAMES
        .iter()
        .enumerate()
        .map(|(caller, name)| {
            let mut rule = allow(&format!("rule-{}", mark(caller)), &format!("group-{name}"));
            rule.what.model = patterns(&[&format!("gpt-{name}*")]);
            rule.then.credential = Some(CredentialId(u16::try_from(caller / 2).unwrap_or(0)));
            if !(caller as u64 + turn).is_multiple_of(3) {
                rule.then.masks = masks(&[u16::try_from(caller).unwrap_or(0)]);
            }
            rule
        })
        .collect();
    // Requests without a body name no model.
    rules.extend(NAMES.iter().enumerate().map(|(caller, name)| {
        let mut rule = allow(&format!("get-{}", mark(caller)), &format!("group-{name}"));
        rule.what.method = patterns(&["GET"]);
        rule.then.credential = Some(CredentialId(u16::try_from(caller / 2).unwrap_or(0)));
        rule
    }));
    let mut deny = RuleSpec::new("deny-all-secret", Effect::Deny);
    deny.what.model = patterns(&["*-secret"]);
    rules.push(deny);
    let masks = (0..NAMES.len()).map(|caller| {
        let operator = format!("replace(\"[OF-{}]\")", mark(caller));
        mask(&format!("mask-{caller}"), &["email"], &operator)
    });
    Site {
        rules,
        masks: masks.collect(),
        resources: vec![("llm".to_owned(), Shape::OpenAi), ("files".to_owned(), Shape::Plain)],
        secrets: (0..NAMES.len().div_ceil(2)).map(|pair| secret(pair * 2)).collect(),
        limits: limits.clone(),
    }
}

impl Ask {
    /// The request as it is written.
    pub(crate) fn bytes(self, caller: usize, token: &str, serial: usize) -> Vec<u8> {
        let (name, mark) = (NAMES[caller], mark(caller));
        let text = format!("{mark} {serial} asks for {name}.person@corp.example.com");
        let model = match self {
            Self::WrongModel => "gpt-of-nobody".to_owned(),
            Self::DeniedModel => format!("gpt-{name}-secret"),
            _ => format!("gpt-{name}-{serial}"),
        };
        let mut body = format!(r#"{{"model":"{model}","ssn":"{mark}","text":"{text}"}}"#);
        if matches!(self, Self::Long) {
            let long = format!("{text}; ").repeat(60);
            body = format!(r#"{{"text":"{long}","model":"{model}"}}"#);
        }
        let slot = match self {
            Self::BadToken => format!("Bearer nonsense.of.{mark}"),
            _ => format!("Bearer {token}"),
        };
        let fields = format!(
            "Host: gw\r\nAuthorization: {slot}\r\nX-Of: {mark}\r\nCookie: of={mark}\r\n\
             Content-Type: application/json\r\n"
        );
        let resource = if serial % 4 == 3 { "files" } else { "llm" };
        let post = format!("POST /{resource}/v1/{mark}/chat HTTP/1.1\r\n{fields}");
        match self {
            Self::Get => {
                format!("GET /{resource}/v1/{mark}?q={mark} HTTP/1.1\r\n{fields}\r\n").into_bytes()
            }
            Self::Chunked => {
                let (one, two) = body.split_at(body.len() / 3);
                format!(
                    "{post}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                    one.len(),
                    two.len()
                )
                .into_bytes()
            }
            Self::Smuggled => {
                format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
                    .into_bytes()
            }
            _ => format!("{post}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes(),
        }
    }
}

impl Tell {
    /// The answer as the upstream writes it.
    pub(crate) fn bytes(self, caller: usize, serial: usize) -> Vec<u8> {
        let (name, mark) = (NAMES[caller], mark(caller));
        let mail = format!("{name}.person@corp.example.com");
        let head = |kind: &str, more: &str| {
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-From: {mark}\r\n{more}\r\n")
        };
        let counted = |kind: &str, body: &str| {
            let length = format!("Content-Length: {}\r\n", body.len());
            format!("{}{body}", head(kind, &length)).into_bytes()
        };
        match self {
            Self::Json => counted(
                "application/json",
                &format!(r#"{{"n":{serial},"to":"{mail}","of":"{mark}","ssn":"1"}}"#),
            ),
            Self::Text => {
                let body = format!("{mark} writes to {mail} and {mail}. ").repeat(5);
                let (one, two) = body.split_at(body.len() / 2);
                let head = head("text/plain", "Transfer-Encoding: chunked\r\n");
                format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len())
                    .into_bytes()
            }
            Self::Events => {
                let text = format!("{mark} tells {mail} of it");
                let mut bytes = head("text/event-stream", "Transfer-Encoding: chunked\r\n");
                let mut event = |data: &str| {
                    let event = format!("data: {data}\n\n");
                    bytes.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
                };
                let mut rest = text.as_str();
                while !rest.is_empty() {
                    let (part, behind) = rest.split_at(rest.len().min(3));
                    event(&format!(
                        r#"{{"id":"{serial}","choices":[{{"index":0,"delta":{{"content":"{part}"}}}}]}}"#
                    ));
                    rest = behind;
                }
                event("[DONE]");
                bytes.push_str("0\r\n\r\n");
                bytes.into_bytes()
            }
            Self::Empty => {
                format!("HTTP/1.1 204 No Content\r\nX-From: {mark}\r\n\r\n").into_bytes()
            }
            Self::UntilEnd => format!("{}{mark} for {mail}", head("text/plain", "")).into_bytes(),
            Self::Echo => counted("text/plain", &format!("{mark}: {} it was", secret(caller))),
        }
    }
}
