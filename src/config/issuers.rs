//! `[[issuer]]`: whose tokens and certificates name a caller.

use super::names::Names;
use super::reader::{Section, choose};
use super::report::{Report, Spot};
use super::settings::path;
use super::source::Source;
use super::types::{CertificateIssuer, KeySource, TokenIssuer};
use super::url;
use crate::base::IssuerId;
use crate::identity::{
    Algorithm, CertificateRules, IssuerRules, KeySet, KeySetError, Profile, SKEW_S_DEFAULT,
    SKEW_S_MAX,
};

/// `[[issuer]]` by kind. A certificate issuer's id follows those of the token issuers.
#[derive(Debug)]
pub(super) struct Split<'a> {
    pub(super) tokens: Vec<Section<'a>>,
    pub(super) certificates: Vec<Section<'a>>,
}

impl<'a> Split<'a> {
    pub(super) fn new(sections: Vec<Section<'a>>, report: &mut Report) -> Self {
        let mut split = Self { tokens: Vec::new(), certificates: Vec::new() };
        for mut section in sections {
            let kind = section.text("kind", report).and_then(|text| {
                choose("issuer kind", text, &[("token", false), ("x509", true)], report)
            });
            if kind == Some(true) {
                split.certificates.push(section);
            } else {
                split.tokens.push(section);
            }
        }
        split
    }
}

pub(super) fn tokens(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    source: &dyn Source,
    report: &mut Report,
) -> Vec<TokenIssuer> {
    let mut issuers: Vec<TokenIssuer> = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let spot = section.spot_of("issuer");
        let rules = rules(&mut section, names.name(place), report);
        let keys = keys(&mut section, &rules.issuer, source, report);
        section.finish(report);
        let twin = issuers.iter().find(|one| one.rules.issuer == rules.issuer);
        if let Some(twin) = twin.filter(|_| !rules.issuer.is_empty()) {
            report.error(
                spot,
                format!("issuer `{}` is configured twice", rules.issuer),
                format!("`{}` has the same `issuer`; a token could mean either", twin.rules.name),
            );
        }
        issuers.push(TokenIssuer { rules, keys });
    }
    issuers
}

fn rules(section: &mut Section<'_>, name: &str, report: &mut Report) -> IssuerRules {
    let issuer = section.required("issuer", report).map(|text| {
        if text.text.is_empty() || text.text.chars().any(|c| c.is_control() || c == ' ') {
            report.error(
                text.spot,
                "`issuer` is no issuer name",
                "write what tokens have in `iss`",
            );
        }
        text.text.to_owned()
    });
    if !section.has("audience") {
        section.missing("audience", report);
    }
    let audience = section.texts("audience", report).unwrap_or_default();
    for text in audience.iter().filter(|text| text.text.is_empty()) {
        report.error(text.spot, "an empty `audience` matches nothing", "write this gateway's name");
    }
    if !section.has("algorithms") {
        section.missing("algorithms", report);
    }
    let known = Algorithm::ALL.map(|one| (one.name(), one));
    let mut algorithms = Vec::new();
    for text in section.texts("algorithms", report).unwrap_or_default() {
        match Algorithm::parse(text.text) {
            Some(algorithm) if algorithms.contains(&algorithm) => {}
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                choose("signature algorithm", text, &known, report);
            }
        }
    }
    let known = Profile::ALL.map(|one| (one.name(), one));
    let profile = section
        .required("profile", report)
        .and_then(|text| choose("token profile", text, &known, report));
    let clients = section.texts("clients", report).unwrap_or_default();
    let owned = |list: &[super::reader::Text<'_>]| {
        list.iter().map(|text| text.text.to_owned()).collect::<Vec<_>>()
    };
    IssuerRules {
        name: name.to_owned(),
        issuer: issuer.unwrap_or_default(),
        audience: owned(&audience),
        algorithms,
        profile: profile.unwrap_or(Profile::Rfc9068),
        groups_claim: section
            .text("groups_claim", report)
            .map_or_else(|| "groups".to_owned(), |text| text.text.to_owned()),
        clients: owned(&clients),
        skew_s: section.number("skew_s", 0..=SKEW_S_MAX, report).unwrap_or(SKEW_S_DEFAULT),
        age_max_s: section.number("age_max_s", 1..=31_536_000, report),
    }
}

fn keys(
    section: &mut Section<'_>,
    issuer: &str,
    source: &dyn Source,
    report: &mut Report,
) -> KeySource {
    if section.has("jwks_url") && section.has("jwks_file") {
        report.error(
            section.spot_of("jwks_file"),
            "`jwks_url` and `jwks_file` together",
            "keys come from one place: leave one out",
        );
    }
    if let Some(text) = section.text("jwks_url", report) {
        fetchable(text.text, text.spot, "`jwks_url`", report);
        return KeySource::Url(text.text.to_owned());
    }
    let spot = section.spot_of("jwks_file");
    if let Some(path) = path(section, "jwks_file", report) {
        match source.read(&path) {
            Err(error) => report.error(
                spot,
                format!("{}: {error}", path.display()),
                "`jwks_file` names a key set that can be read",
            ),
            Ok(bytes) => match KeySet::from_jwks(&bytes) {
                Err(error) => {
                    let fault = key_set_fault(&error);
                    report.error(spot, format!("{} {fault}", path.display()), "see RFC 7517");
                }
                Ok((_, skipped)) if !skipped.is_empty() => {
                    let count = skipped.len();
                    report.warn(spot, format!("{}: {count} keys skipped", path.display()), "");
                }
                Ok(_) => {}
            },
        }
        return KeySource::File(path);
    }
    if !issuer.is_empty() {
        fetchable(issuer, section.spot_of("issuer"), "discovery: `issuer`", report);
    }
    KeySource::Discovery
}

fn key_set_fault(error: &KeySetError) -> String {
    match error {
        KeySetError::TooLong => "is too long for a key set".to_owned(),
        KeySetError::NoKeys => "has no `keys` array".to_owned(),
        KeySetError::TooManyKeys => "has too many keys".to_owned(),
        KeySetError::NothingUsable => "has no key that can be used".to_owned(),
        KeySetError::Json(fault) => format!("is not strict JSON ({fault:?})"),
    }
}

/// Keys come over https, or from this machine.
fn fetchable(text: &str, spot: Spot<'_>, what: &str, report: &mut Report) {
    let fault = match url::parse(text) {
        Ok(parsed) if parsed.scheme == url::Scheme::Https => None,
        Ok(parsed) if parsed.scheme == url::Scheme::Http && url::is_loopback(&parsed.host) => None,
        Ok(_) => Some("is neither https nor http on loopback".to_owned()),
        Err(fault) => Some(fault.says().to_owned()),
    };
    if let Some(fault) = fault {
        report.error(
            spot,
            format!("{what} `{text}` {fault}"),
            "write an https URL, or name the keys by `jwks_url` or `jwks_file`",
        );
    }
}

pub(super) fn certificates(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    tokens: &[TokenIssuer],
    source: &dyn Source,
    report: &mut Report,
) -> Vec<CertificateIssuer> {
    let mut issuers: Vec<CertificateIssuer> = Vec::new();
    for (place, mut section) in (0..).zip(sections) {
        let name = names.name(place).to_owned();
        let iss = section.text("issuer", report);
        if let Some(text) = iss
            && tokens.iter().any(|one| one.rules.issuer == text.text)
        {
            report.error(
                text.spot,
                format!("`{}` is an issuer of tokens too", text.text),
                "records and rules could not tell them apart: leave `issuer` out",
            );
        }
        let iss = iss.map(|text| text.text.to_owned());
        let trust_domain = section.text("trust_domain", report).map(|text| text.text.to_owned());
        if !section.has("ca") {
            section.missing("ca", report);
        }
        let ca_spot = section.spot_of("ca");
        let ca = readable(&mut section, "ca", source, report);
        section.finish(report);
        if let Some(twin) = issuers.iter().find(|one| ca.as_ref() == Some(&one.ca)) {
            report.error(
                ca_spot,
                format!("`{}` has the same `ca`", twin.name),
                "a certificate could mean either issuer: one authority is one [[issuer]]",
            );
        }
        let id = u16::try_from(tokens.len() + usize::from(place)).unwrap_or(u16::MAX);
        let rules = CertificateRules {
            issuer: IssuerId(id),
            iss: iss.unwrap_or_else(|| format!("x509:{name}")),
            trust_domain,
        };
        issuers.push(CertificateIssuer { name, rules, ca: ca.unwrap_or_default() });
    }
    issuers
}

/// A path to a file that must be there.
pub(super) fn readable(
    section: &mut Section<'_>,
    key: &'static str,
    source: &dyn Source,
    report: &mut Report,
) -> Option<std::path::PathBuf> {
    let spot = section.spot_of(key);
    let path = path(section, key, report)?;
    if !source.exists(&path) {
        report.error(
            spot,
            format!("`{key}`: there is no file {}", path.display()),
            "paths are relative to the file that names them",
        );
    }
    Some(path)
}
