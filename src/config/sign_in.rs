//! `[admin] sign_in`: browsers by OpenID Connect.

use super::reader::{Section, Text, choose};
use super::report::Report;
use super::settings::secret;
use super::types::{SignInSettings, SignInToken, TokenIssuer};
use super::url;
use crate::base::IssuerId;
use crate::identity::Profile;

/// What of `[admin]` a sign-in rests on.
pub(super) struct Around<'a> {
    pub(super) issuer: Option<IssuerId>,
    pub(super) issuers: &'a [TokenIssuer],
    pub(super) public_url: Option<&'a str>,
}

pub(super) fn sign_in(
    mut section: Section<'_>,
    around: &Around<'_>,
    report: &mut Report,
) -> Option<SignInSettings> {
    let before = report.errors.len();
    let spot = section.spot();
    let client_id = section.required("client_id", report);
    if let Some(text) = client_id.filter(|text| !is_plain(text.text)) {
        report.error(text.spot, "`client_id` is no client's name", "printable ASCII");
    }
    let client_secret = section.text("client_secret", report).and_then(|text| secret(text, report));
    let scope = section.text("scope", report);
    if let Some(text) = scope {
        check_scope(text, report);
    }
    let words = [("access", SignInToken::Access), ("id", SignInToken::Id)];
    let token_spot = section.spot_of("token");
    let token = section.text("token", report);
    let token = token.and_then(|text| choose("`token`", text, &words, report)).unwrap_or_default();
    let resource = section.text("resource", report);
    if let Some(text) = resource {
        if !is_plain(text.text) || text.text.contains('#') || !text.text.contains(':') {
            report.error(text.spot, "`resource` is no URI (RFC 8707)", "`https://gw.example.com`");
        }
        if token == SignInToken::Id {
            let help = "an ID token is for its client: leave `resource` out";
            report.error(text.spot, "`resource` with `token = \"id\"`", help);
        }
    }
    section.finish(report);
    match around.public_url {
        None => report.error(
            spot,
            "`sign_in` needs `public_url`",
            "the issuer sends browsers back to it: write `public_url = \"https://...\"`",
        ),
        Some(text) if !is_guarded(text) => report.error(
            spot,
            "`sign_in` needs a `public_url` with https",
            "a session's cookie goes in plain text to a loopback address only",
        ),
        Some(_) => {}
    }
    let issuer = around.issuer.and_then(|id| around.issuers.get(id.index()));
    let Some(issuer) = issuer else {
        let help = "browsers are sent to it: write `issuer = \"NAME\"`";
        report.error(spot, "`sign_in` needs `issuer`", help);
        return None;
    };
    if !is_guarded(&issuer.rules.issuer) {
        let message = format!("issuer `{}` cannot be discovered", issuer.rules.name);
        report.error(spot, message, "its `issuer` must be https, or http on loopback");
    }
    let client_id = client_id?.text;
    let rules = &issuer.rules;
    let persons = matches!(rules.profile, Profile::Rfc9068 | Profile::OidcAccess | Profile::Mcp);
    if token == SignInToken::Access && !persons {
        let message = format!("tokens of `{}` are no access tokens of people", rules.name);
        let help = "write `token = \"id\"`: the ID token tells who signs in";
        report.error(token_spot, message, help);
    }
    let listed = rules.clients.is_empty() || rules.clients.iter().any(|one| one == client_id);
    if token == SignInToken::Access && !listed {
        let message = format!("`{client_id}` is not among `clients` of issuer `{}`", rules.name);
        report.error(spot, message, "none of its tokens would be taken: add it there");
    }
    (report.errors.len() == before).then(|| SignInSettings {
        client_id: client_id.to_owned(),
        client_secret,
        scope: scope.map_or("openid", |text| text.text).to_owned(),
        token,
        resource: resource.map(|text| text.text.to_owned()),
    })
}

/// `openid` makes the issuer answer with an ID token, which binds the answer to the question.
fn check_scope(text: Text<'_>, report: &mut Report) {
    let plain =
        text.text.bytes().all(|b| b == b' ' || b.is_ascii_graphic() && !b"\"\\".contains(&b));
    if !plain || !text.text.split(' ').any(|word| word == "openid") {
        report.error(text.spot, "`scope` lacks `openid`", "words with blanks: `openid groups`");
    }
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether nobody on the network reads along: https, or a loopback address.
fn is_guarded(text: &str) -> bool {
    url::parse(text).is_ok_and(|parsed| {
        parsed.scheme == url::Scheme::Https
            || parsed.scheme == url::Scheme::Http && url::is_loopback(&parsed.host)
    })
}
