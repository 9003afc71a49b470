//! `[[credential]]`, and credentials inside a resource.

use super::names::Names;
use super::reader::{Section, Text, choose};
use super::report::Report;
use super::settings::secret;
use super::types::{CredentialKind, CredentialSpec, SecretRef};
use super::url::POSTGRES_NAME_LEN_MAX;

#[derive(Clone, Copy)]
enum Kind {
    Bearer,
    Header,
    Basic,
    Password,
    None,
}

const KINDS: [(&str, Kind); 5] = [
    ("bearer", Kind::Bearer),
    ("header", Kind::Header),
    ("basic", Kind::Basic),
    ("password", Kind::Password),
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

/// All `[[credential]]`, and the places of those that have errors: something stands there, so that
/// ids stay what they are.
pub(super) fn named(
    sections: Vec<Section<'_>>,
    names: &Names<'_>,
    report: &mut Report,
) -> (Vec<CredentialSpec>, Vec<u16>) {
    let mut credentials = Vec::new();
    let mut broken = Vec::new();
    for (place, section) in (0..).zip(sections) {
        let kind = kind(section, report).unwrap_or_else(|| {
            broken.push(place);
            CredentialKind::None
        });
        credentials.push(CredentialSpec { name: names.name(place).to_owned(), kind });
    }
    (credentials, broken)
}

/// Reads the table of one credential, its name apart.
pub(super) fn kind(mut section: Section<'_>, report: &mut Report) -> Option<CredentialKind> {
    let text = section.required("kind", report)?;
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
        Kind::Password => {
            let user = section.required("user", report);
            let user = user.and_then(|text| database_name("user", text, report));
            let role = match section.text("role", report) {
                Some(text) => role(text, report).map(Some),
                None => Some(None),
            };
            let secret = required_secret(&mut section, report);
            match (secret, user, role) {
                (Some(secret), Some(user), Some(role)) => {
                    Some(CredentialKind::Password { user, secret, role })
                }
                _ => None,
            }
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

/// The name of a user or a role of a database, as the database would keep it.
fn database_name(key: &str, text: Text<'_>, report: &mut Report) -> Option<String> {
    let long = text.text.len() > POSTGRES_NAME_LEN_MAX;
    if long || text.text.is_empty() || text.text.chars().any(char::is_control) {
        report.error(
            text.spot,
            format!("`{key}` is no name of a database user"),
            format!("1 to {POSTGRES_NAME_LEN_MAX} bytes, without control characters"),
        );
        return None;
    }
    Some(text.text.to_owned())
}

/// PostgreSQL takes the role `none`, however it is quoted, for no role at all: a session with it
/// would have all rights of its user.
fn role(text: Text<'_>, report: &mut Report) -> Option<String> {
    if text.text.eq_ignore_ascii_case("none") {
        report.error(
            text.spot,
            "`none` is no role: it gives the session all rights of `user`",
            "leave `role` out if that is meant",
        );
        return None;
    }
    database_name("role", text, report)
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
