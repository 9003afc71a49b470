//! `[[credential]]`, and credentials inside a resource.

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::Report;
use super::settings::secret;
use super::types::{CredentialKind, CredentialSpec, SecretRef};

#[derive(Clone, Copy)]
enum Kind {
    Bearer,
    Header,
    Basic,
    None,
}

const KINDS: [(&str, Kind); 4] = [
    ("bearer", Kind::Bearer),
    ("header", Kind::Header),
    ("basic", Kind::Basic),
    ("none", Kind::None),
];

/// Fields that frame or route a message; a credential in them would change what it means.
const NOT_A_CREDENTIAL: [&str; 14] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "accept-encoding",
    "proxy-connection",
    "via",
];

pub(super) fn named(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    report: &mut Report,
) -> Vec<CredentialSpec> {
    let mut credentials = Vec::new();
    for (place, section) in (0..).zip(sections) {
        let kind = kind(section, report).unwrap_or(CredentialKind::None);
        credentials.push(CredentialSpec { name: names.name(place).to_owned(), kind });
    }
    credentials
}

/// Reads the table of one credential, its name apart.
pub(super) fn kind(mut section: Section<'_>, report: &mut Report) -> Option<CredentialKind> {
    let text = section.required("kind", report)?;
    if text.text == "password" {
        report.error(
            text.spot,
            "credential kind `password` is not in this build",
            "it is for databases; http takes bearer, header, basic or none",
        );
        return None;
    }
    let kind = choose("credential kind", text, &KINDS, report)?;
    let kind = match kind {
        Kind::None => Some(CredentialKind::None),
        Kind::Bearer => {
            required_secret(&mut section, report).map(|secret| CredentialKind::Bearer { secret })
        }
        Kind::Basic => {
            let user = section.required("user", report);
            if let Some(user) = user.filter(|user| user.text.contains([':', '\r', '\n', '\0'])) {
                report.error(user.spot, "`user` holds a colon or a line end", "");
            }
            required_secret(&mut section, report)
                .zip(user)
                .map(|(secret, user)| CredentialKind::Basic { user: user.text.to_owned(), secret })
        }
        Kind::Header => {
            let name = match section.has("header") {
                true => section.text("header", report),
                false => section.required(header_key(&section), report),
            };
            let name = name.and_then(|name| field_name(name, report));
            let prefix = section.text("prefix", report);
            if let Some(prefix) =
                prefix.filter(|prefix| !prefix.text.bytes().all(|b| (b' '..=b'~').contains(&b)))
            {
                report.error(prefix.spot, "`prefix` is not printable ASCII", "");
            }
            let prefix = prefix.map_or("", |prefix| prefix.text).to_owned();
            required_secret(&mut section, report)
                .zip(name)
                .map(|(secret, name)| CredentialKind::Header { name, prefix, secret })
        }
    };
    section.finish(report);
    kind
}

/// The field's name: `header` in a `[[credential]]`, whose `name` is its own; `name` or `header`
/// in a table inside a resource.
fn header_key(section: &Section<'_>) -> &'static str {
    if section.name().starts_with("[[") { "header" } else { "name" }
}

fn field_name(text: Text<'_>, report: &mut Report) -> Option<String> {
    let name = text.text.to_ascii_lowercase();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || !name.bytes().all(good) {
        report.error(
            text.spot,
            format!("`{}` is no header name", text.text.escape_default()),
            "letters, digits and `-`",
        );
        return None;
    }
    if NOT_A_CREDENTIAL.contains(&name.as_str()) || name.starts_with("x-weirgate-") {
        report.error(text.spot, format!("a credential cannot be in `{name}`"), "");
        return None;
    }
    Some(name)
}

fn required_secret(section: &mut Section<'_>, report: &mut Report) -> Option<SecretRef> {
    section.required("secret", report).and_then(|text| secret(text, report))
}
