//! `[[webhook]]`: who is told of approvals, of which, and how.

use super::issuers::readable;
use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::{Diagnostic, Place, Report};
use super::settings::{plain_beyond_loopback, secret};
use super::source::Source;
use super::types::SecretRef;
use super::url::{self, Fault, Scheme};
use std::path::PathBuf;

/// A `[[webhook]]`, its secrets unopened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name, and the last segment of the path that its callbacks come to.
    pub name: String,
    /// Where notices go.
    pub url: WebhookUrl,
    /// Key of the signatures, of notices and of generic callbacks.
    pub secret: Option<SecretRef>,
    /// The key of before, which callbacks may still be signed by.
    pub previous_secret: Option<SecretRef>,
    /// Key that Slack signs its callbacks with.
    pub signing_secret: Option<SecretRef>,
    /// What notices look like.
    pub format: WebhookFormat,
    /// Of what it is told.
    pub events: Vec<WebhookEvent>,
    /// Of which resources only; of all without any.
    pub resources: Vec<String>,
    /// Of which rules only; of all without any.
    pub rules: Vec<String>,
    /// Authorities, PEM; those of the system without.
    pub ca: Option<PathBuf>,
    /// Plain text beyond loopback is meant.
    pub insecure: bool,
    /// Where it stands.
    pub place: Place,
}

impl Webhook {
    /// Whether it is told of requests of this resource and rule, and may act on them.
    #[must_use]
    pub fn covers(&self, resource: &str, rule: &str) -> bool {
        let has =
            |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        has(&self.resources, resource) && has(&self.rules, rule)
    }

    /// Whether `text`, which was opened as a secret, is a URL to send notices to.
    ///
    /// # Errors
    /// What is wrong with it; nothing of the text is repeated.
    pub fn check_url(&self, text: &str) -> Result<(), Diagnostic> {
        let wrong =
            |fault: &str| self.place.says(format!("the `url` of `{}` {fault}", self.name), HELP);
        // What is a secret may say so in its query.
        let (text, _) = text.split_once('?').unwrap_or((text, ""));
        let exposed = is_exposed(text).map_err(wrong)?;
        if exposed && !self.insecure {
            return Err(wrong("would be in plain text beyond loopback"));
        }
        Ok(())
    }
}

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookUrl {
    /// As written.
    Plain(String),
    /// A URL that is a secret itself, as Slack's are.
    Secret(SecretRef),
}

/// What notices look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// JSON of our own, signed as the Standard Webhooks specification says.
    Generic,
    /// Blocks that Slack's incoming webhooks take.
    Slack,
}

/// What may be told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WebhookEvent {
    /// It waits for a person.
    Requested,
    /// It was granted by asking, under break-glass.
    BreakGlass,
    /// A person voted, and it waits for more.
    Voted,
    /// It is a grant.
    Approved,
    /// A person said no.
    Denied,
    /// Nobody decided in time.
    Expired,
    /// It was taken back before a decision.
    Cancelled,
    /// The grant was taken back.
    Revoked,
    /// A person looked at what was done under break-glass.
    Reviewed,
}

impl WebhookEvent {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Requested,
        Self::BreakGlass,
        Self::Voted,
        Self::Approved,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Revoked,
        Self::Reviewed,
    ];

    /// The word of the config and of notices.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::BreakGlass => "break_glass",
            Self::Voted => "voted",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Revoked => "revoked",
            Self::Reviewed => "reviewed",
        }
    }

    /// Reads what [`Self::label`] writes.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.label() == label)
    }
}

/// What webhooks are checked against.
pub(super) struct Around<'c, 'a> {
    pub(super) names: &'c Names<'a>,
    pub(super) resource_names: &'c Names<'a>,
    pub(super) rule_names: &'c Names<'a>,
    /// Whether notices can say where to look.
    pub(super) links: bool,
    pub(super) source: &'c dyn Source,
}

pub(super) fn webhooks(
    sections: Vec<Section<'_>>,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Vec<Webhook> {
    let mut found = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let name = around.names.name(place).to_owned();
        if !around.links {
            report.warn(
                section.spot(),
                format!("notices of `{name}` have no link to what they are about"),
                "write `public_url` under [admin]",
            );
        }
        found.extend(webhook(&mut section, name, around, report));
        section.finish(report);
    }
    found
}

fn webhook(
    section: &mut Section<'_>,
    name: String,
    around: &Around<'_, '_>,
    report: &mut Report,
) -> Option<Webhook> {
    let place = section.spot().place();
    let insecure = section.flag("insecure", report).unwrap_or(false);
    let url = section.required("url", report).and_then(|text| url(text, &name, insecure, report));
    let formats = [("generic", WebhookFormat::Generic), ("slack", WebhookFormat::Slack)];
    let format = match section.text("format", report) {
        Some(text) => choose("format", text, &formats, report),
        None => Some(WebhookFormat::Generic),
    };
    let [key, previous, signing] = ["secret", "previous_secret", "signing_secret"]
        .map(|key| section.text(key, report).map(|text| secret(text, report)));
    if format == Some(WebhookFormat::Generic) {
        if key.is_none() {
            section.missing("secret", report);
        }
        if signing.is_some() {
            report.error(
                section.spot_of("signing_secret"),
                "`signing_secret` is what Slack signs with",
                "callbacks of a generic webhook are signed by `secret`: leave it out",
            );
        }
    }
    if previous.is_some() && key.is_none() {
        report.error(section.spot_of("previous_secret"), "`previous_secret` needs `secret`", "");
    }
    let words = WebhookEvent::ALL.map(|event| (event.label(), event));
    let events = match section.texts("events", report) {
        Some(list) => {
            list.into_iter().filter_map(|text| choose("event", text, &words, report)).collect()
        }
        None => DEFAULT.to_vec(),
    };
    let refer = |list: Option<Vec<Text<'_>>>, names: &Names<'_>, report: &mut Report| {
        let list = list.unwrap_or_default().into_iter();
        let known = list.filter_map(|text| Some((text, names.refer(text, report)?)));
        known.map(|(text, _)| text.text.to_owned()).collect::<Vec<_>>()
    };
    let resources = section.texts("resource", report);
    let resources = refer(resources, around.resource_names, report);
    let rules = section.texts("rule", report);
    let rules = refer(rules, around.rule_names, report);
    let ca = section.table("tls", report).and_then(|mut tls| {
        let ca = readable(&mut tls, "ca", around.source, report);
        tls.finish(report);
        ca
    });
    Some(Webhook {
        name,
        url: url?,
        secret: key.map_or(Some(None), |key| key.map(Some))?,
        previous_secret: previous.map_or(Some(None), |key| key.map(Some))?,
        signing_secret: signing.map_or(Some(None), |key| key.map(Some))?,
        format: format?,
        events,
        resources,
        rules,
        ca,
        insecure,
        place,
    })
}

fn url(text: Text<'_>, name: &str, insecure: bool, report: &mut Report) -> Option<WebhookUrl> {
    if text.text.starts_with("env:") || text.text.starts_with("file:") {
        return secret(text, report).map(WebhookUrl::Secret);
    }
    match is_exposed(text.text) {
        Ok(false) => {}
        Ok(true) => {
            let what = format!("the `url` of `{name}`");
            plain_beyond_loopback(text.spot, insecure, &what, "https", report);
        }
        Err(fault) => {
            report.error(text.spot, format!("the `url` of `{name}` {fault}"), HELP);
            return None;
        }
    }
    Some(WebhookUrl::Plain(text.text.to_owned()))
}

/// Whether what is sent there can be read on its way.
fn is_exposed(text: &str) -> Result<bool, &'static str> {
    let url = url::parse(text).map_err(Fault::says)?;
    match url.scheme {
        Scheme::Https => Ok(false),
        Scheme::Http => Ok(!url::is_loopback(&url.host)),
        _ => Err("is neither https nor http"),
    }
}

const HELP: &str =
    "write `https://HOST/PATH`, or `env:VARIABLE` or `file:PATH` of a URL that is a secret";
/// Of what is told where nothing is said.
const DEFAULT: [WebhookEvent; 7] = [
    WebhookEvent::Requested,
    WebhookEvent::BreakGlass,
    WebhookEvent::Approved,
    WebhookEvent::Denied,
    WebhookEvent::Expired,
    WebhookEvent::Cancelled,
    WebhookEvent::Revoked,
];
