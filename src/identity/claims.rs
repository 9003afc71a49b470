//! Claims of a token, read one by one with their type, range and characters checked.

use super::TokenError;
use super::json::{Kind, Value};
use std::borrow::Cow;

/// How many may act for the subject.
pub(super) const ACTORS_MAX: usize = 4;

/// Whether a text that names somebody holds what no name has.
pub(super) fn is_clean(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// A string claim: absent is `None`; `null`, empty and control characters are refused.
pub(super) fn text<'d>(
    claims: Value<'d>,
    name: &'static str,
) -> Result<Option<Cow<'d, str>>, TokenError> {
    claims.member(name).map(|value| clean(value, name)).transpose()
}

/// [`text`] that must be there.
pub(super) fn required<'d>(
    claims: Value<'d>,
    name: &'static str,
) -> Result<Cow<'d, str>, TokenError> {
    text(claims, name)?.ok_or(TokenError::MissingClaim(name))
}

fn clean<'d>(value: Value<'d>, name: &'static str) -> Result<Cow<'d, str>, TokenError> {
    let text = value.text().filter(|text| !text.is_empty()).ok_or(TokenError::ClaimType(name))?;
    if is_clean(&text) { Ok(text) } else { Err(TokenError::ControlCharacter(name)) }
}

/// A NumericDate; stricter than RFC 7519, section 2: whole seconds only.
pub(super) fn seconds(claims: Value<'_>, name: &'static str) -> Result<Option<u64>, TokenError> {
    let value = claims.member(name);
    value.map(|value| value.integer().ok_or(TokenError::ClaimType(name))).transpose()
}

/// The texts of a claim that is one string or an array of strings.
fn list<'d>(value: Value<'d>, name: &'static str) -> Result<Vec<Cow<'d, str>>, TokenError> {
    match value.kind() {
        Kind::Array => value.items().map(|item| clean(item, name)).collect(),
        _ => Ok(vec![clean(value, name)?]),
    }
}

/// `aud` with at least one member.
pub(super) fn audience(claims: Value<'_>) -> Result<Vec<Cow<'_, str>>, TokenError> {
    let value = claims.member("aud").ok_or(TokenError::MissingClaim("aud"))?;
    let list = list(value, "aud")?;
    if list.is_empty() { Err(TokenError::ClaimType("aud")) } else { Ok(list) }
}

/// The claim at `path`: the member of that very name, else parts at dots, the longest name first.
/// So `realm_access.roles` goes down, and `kubernetes.io` or a URL is found as it stands.
pub(super) fn at_path<'d>(claims: Value<'d>, path: &str) -> Option<Value<'d>> {
    if let Some(value) = claims.member(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let (name, rest) = (path.get(..dot)?, path.get(dot + 1..)?);
        at_path(claims.member(name).filter(|value| value.is_object())?, rest)
    })
}

/// The groups at `path`. `scope` and `scp` as one string are lists with spaces (RFC 6749,
/// section 3.3).
///
/// # Errors
/// [`TokenError::GroupsElsewhere`] when the token says that they did not fit into it.
pub(super) fn groups(claims: Value<'_>, path: &str) -> Result<Box<[Box<str>]>, TokenError> {
    if path.is_empty() {
        return Ok(Box::default());
    }
    let Some(value) = at_path(claims, path) else {
        let elsewhere = claims.member("_claim_names").and_then(|names| names.member(path));
        let implicit = path == "groups" && claims.member("hasgroups").is_some();
        return if elsewhere.is_some() || implicit {
            Err(TokenError::GroupsElsewhere)
        } else {
            Ok(Box::default())
        };
    };
    let found = list(value, "groups")?;
    if matches!(path, "scope" | "scp") && value.kind() != Kind::Array {
        let words = found.iter().flat_map(|text| text.split(' ')).filter(|word| !word.is_empty());
        return Ok(words.map(Box::from).collect());
    }
    Ok(found.iter().map(|text| Box::from(text.as_ref())).collect())
}

/// The OAuth client. Issuers name it differently: `client_id` (RFC 9068), `azp` (OpenID Connect,
/// Keycloak, Auth0, Entra v2), `appid` (Entra v1), `cid` (Okta). All that are there must be equal.
pub(super) fn client(claims: Value<'_>) -> Result<Option<Cow<'_, str>>, TokenError> {
    let mut found: Option<Cow<'_, str>> = None;
    for name in ["client_id", "azp", "appid", "cid"] {
        let Some(client) = text(claims, name)? else { continue };
        if found.as_ref().is_some_and(|before| *before != client) {
            return Err(TokenError::Party);
        }
        found = Some(client);
    }
    Ok(found)
}

/// The chain of actors, the last to act first.
///
/// An actor of another issuer is refused: by its name alone it would pass for one of this issuer.
pub(super) fn actors(
    claims: Value<'_>,
    iss: &str,
    sub: &str,
) -> Result<Box<[Box<str>]>, TokenError> {
    let mut chain: Vec<Box<str>> = Vec::new();
    let mut next = claims.member("act");
    while let Some(act) = next {
        if !act.is_object() || chain.len() >= ACTORS_MAX {
            return Err(TokenError::Actor);
        }
        let actor = required(act, "sub").map_err(|_| TokenError::Actor)?;
        let vouched = text(act, "iss").map_err(|_| TokenError::Actor)?;
        if vouched.is_some_and(|by| by != iss)
            || actor == sub
            || chain.iter().any(|before| **before == *actor)
        {
            return Err(TokenError::Actor);
        }
        chain.push(actor.into());
        next = act.member("act");
    }
    Ok(chain.into_boxed_slice())
}

/// What `cnf` (RFC 7800) demands: `None`, or the thumbprint of a certificate.
///
/// # Errors
/// [`TokenError::Bound`] for every other demand, since nothing here can meet it.
pub(super) fn binding(claims: Value<'_>) -> Result<Option<[u8; 32]>, TokenError> {
    let Some(confirmation) = claims.member("cnf") else { return Ok(None) };
    let only = confirmation.members().count() == 1;
    let thumbprint = confirmation
        .member("x5t#S256")
        .filter(|_| only)
        .and_then(|text| super::compact::decode(text.text()?.as_bytes())?.try_into().ok());
    thumbprint.map(Some).ok_or(TokenError::Bound)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::json::{Doc, Duplicates};

    fn with<T>(text: &str, read: impl FnOnce(Value<'_>) -> T) -> T {
        read(Doc::parse(text.as_bytes(), 12, Duplicates::Refuse).unwrap().root())
    }

    fn groups_at(path: &str, text: &str) -> Result<Vec<String>, TokenError> {
        with(text, |claims| {
            groups(claims, path).map(|found| found.iter().map(ToString::to_string).collect())
        })
    }

    #[test]
    fn groups_come_from_strings_arrays_and_paths() {
        let keycloak = r#"{"realm_access":{"roles":["dev","ops"]},"resource_access":
            {"my.app":{"roles":["x"]}},"https://example.com/roles":["y"],"scp":"a b"}"#;
        assert_eq!(groups_at("realm_access.roles", keycloak).unwrap(), ["dev", "ops"]);
        assert_eq!(groups_at("resource_access.my.app.roles", keycloak).unwrap(), ["x"]);
        assert_eq!(groups_at("https://example.com/roles", keycloak).unwrap(), ["y"]);
        assert_eq!(groups_at("scp", keycloak).unwrap(), ["a", "b"]);
        assert!(groups_at("groups", keycloak).unwrap().is_empty());
        assert!(groups_at("", keycloak).unwrap().is_empty());
        assert_eq!(groups_at("g", r#"{"g":"one two"}"#).unwrap(), ["one two"]);
        for wrong in [r#"{"g":1}"#, r#"{"g":[1]}"#, r#"{"g":[""]}"#, r#"{"g":{}}"#, r#"{"g":null}"#]
        {
            assert_eq!(groups_at("g", wrong), Err(TokenError::ClaimType("groups")), "{wrong}");
        }
        let control = groups_at("g", r#"{"g":["a\u0000b"]}"#);
        assert_eq!(control, Err(TokenError::ControlCharacter("groups")));
    }

    #[test]
    fn groups_that_did_not_fit_are_not_taken_for_none() {
        let overage = r#"{"_claim_names":{"groups":"src1"},"_claim_sources":{"src1":{}}}"#;
        assert_eq!(groups_at("groups", overage), Err(TokenError::GroupsElsewhere));
        assert_eq!(groups_at("roles", overage), Ok(vec![]));
        let implicit = groups_at("groups", r#"{"hasgroups":true}"#);
        assert_eq!(implicit, Err(TokenError::GroupsElsewhere));
    }

    #[test]
    fn the_chain_of_actors_is_whole_or_refused() {
        let chain = |text: &str| {
            with(text, |claims| {
                actors(claims, "iss", "me")
                    .map(|found| found.iter().map(ToString::to_string).collect())
            })
        };
        let good: Result<Vec<String>, _> =
            chain(r#"{"act":{"sub":"agent","act":{"sub":"app","iss":"iss"}}}"#);
        assert_eq!(good.unwrap(), ["agent", "app"]);
        for wrong in [
            r#"{"act":"agent"}"#,
            r#"{"act":null}"#,
            r#"{"act":{}}"#,
            r#"{"act":{"sub":7}}"#,
            r#"{"act":{"sub":"a\u0000"}}"#,
            r#"{"act":{"sub":"me"}}"#,
            r#"{"act":{"sub":"a","act":{"sub":"a"}}}"#,
            r#"{"act":{"sub":"a","iss":"other"}}"#,
            r#"{"act":{"sub":"a","act":{"sub":"b","act":{"sub":"c","act":{"sub":"d",
                "act":{"sub":"e"}}}}}}"#,
        ] {
            assert_eq!(chain(wrong), Err::<Vec<String>, _>(TokenError::Actor), "{wrong}");
        }
    }

    #[test]
    fn a_binding_is_a_thumbprint_or_a_refusal() {
        let print = crate::identity::compact::encode(&[9; 32]);
        let good = format!(r#"{{"cnf":{{"x5t#S256":"{print}"}}}}"#);
        assert_eq!(with(&good, binding), Ok(Some([9; 32])));
        assert_eq!(with("{}", binding), Ok(None));
        for wrong in [
            r#"{"cnf":{}}"#.to_owned(),
            r#"{"cnf":null}"#.to_owned(),
            r#"{"cnf":{"jkt":"abc"}}"#.to_owned(),
            format!(r#"{{"cnf":{{"x5t#S256":"{print}","jkt":"abc"}}}}"#),
            r#"{"cnf":{"x5t#S256":"AAAA"}}"#.to_owned(),
        ] {
            assert_eq!(with(&wrong, binding), Err(TokenError::Bound), "{wrong}");
        }
    }
}
