//! All checks of a token side by side, for an operator who asks why it is refused.

use super::TokenError;
use super::claims;
use super::compact::Compact;
use super::json::{Doc, Duplicates, Value};
use super::keys::KeySnapshot;
use super::profile::Profile;
use super::rules::IssuerRules;
use super::verify::{
    CLAIMS_DEPTH_MAX, Header, Verifier, check_parties, check_signature, check_times,
};
use crate::base::Now;

/// One check and how it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it holds.
    pub ok: bool,
    /// What was found. Names of the config and claims' names and times; never a part of the token
    /// that could be used.
    pub detail: String,
}

impl Check {
    fn of<T>(
        name: &'static str,
        result: &Result<T, TokenError>,
        good: impl FnOnce(&T) -> String,
    ) -> Self {
        match result {
            Ok(value) => Self { name, ok: true, detail: good(value) },
            Err(error) => Self { name, ok: false, detail: error.to_string() },
        }
    }
}

impl Verifier {
    /// Runs every check that can be run, in the order of [`Verifier::verify`], also past one that
    /// fails. The last line, `verdict`, is what `verify` says.
    #[must_use]
    pub fn inspect(&self, token: &[u8], keys: &KeySnapshot, now: Now) -> Vec<Check> {
        let mut checks = Vec::new();
        self.look(token, keys, now, &mut checks);
        let verdict = self.verify(token, keys, now);
        checks.push(Check::of("verdict", &verdict, |principal| {
            format!("accepted; expires in {} s", principal.expires_s().saturating_sub(now.wall_s()))
        }));
        checks
    }

    fn look(&self, token: &[u8], keys: &KeySnapshot, now: Now, checks: &mut Vec<Check>) {
        let compact = Compact::split(token, self.token_max);
        checks.push(Check::of("form", &compact, |_| format!("{} bytes, three parts", token.len())));
        let Ok(compact) = compact else { return };
        let header = compact.header().and_then(|bytes| Header::read(&bytes));
        checks.push(Check::of("header", &header, |header| {
            let kid = if header.kid.is_some() { "with kid" } else { "without kid" };
            let extra = if header.carried_key { ", a key in the header is ignored" } else { "" };
            format!("{}, {kid}{extra}", header.algorithm.name())
        }));
        let bytes = compact.claims();
        let doc = bytes.as_ref().map_err(|error| *error).and_then(|bytes| {
            Doc::parse(bytes, CLAIMS_DEPTH_MAX, Duplicates::Refuse).map_err(TokenError::ClaimsJson)
        });
        checks.push(Check::of("claims", &doc, |doc| {
            format!("{} claims", doc.root().members().count())
        }));
        let Ok(doc) = doc else { return };
        let root = doc.root();
        let found = claims::required(root, "iss").and_then(|iss| self.issuer(&iss));
        checks.push(Check::of("issuer", &found, |(_, rules)| rules.name.clone()));
        if let (Ok((issuer, rules)), Ok(header)) = (&found, &header) {
            let signature = check_signature(&compact, header, *issuer, rules, keys);
            checks.push(Check::of("signature", &signature, |()| "the issuer's key".to_owned()));
        }
        if let Ok((_, rules)) = found {
            look_at_claims(root, header.as_ref().ok(), rules, now, checks);
        }
        if let Ok(header) = &header {
            checks.push(fitting(root, header));
        }
    }
}

fn look_at_claims(
    root: Value<'_>,
    header: Option<&Header>,
    rules: &IssuerRules,
    now: Now,
    checks: &mut Vec<Check>,
) {
    let times = check_times(root, rules, now);
    checks.push(Check::of("times", &times, |times| {
        format!("good for {} s, skew included", times.until_s.saturating_sub(now.wall_s()))
    }));
    let audience = claims::audience(root).and_then(|found| {
        if rules.accepts_audience(&found) { Ok(found.len()) } else { Err(TokenError::Audience) }
    });
    checks.push(Check::of("audience", &audience, |count| format!("one of {count}")));
    if let Some(header) = header {
        let parties = check_parties(root, header, rules);
        checks.push(Check::of("profile", &parties, |client| {
            let client = if client.is_some() { "with a client" } else { "without a client" };
            format!("{}, {client}", rules.profile.name())
        }));
    }
    let binding = claims::binding(root);
    checks.push(Check::of("binding", &binding, |bound| match bound {
        Some(_) => "to a client certificate, which must be shown".to_owned(),
        None => "none".to_owned(),
    }));
    let groups = claims::groups(root, &rules.groups_claim);
    checks.push(Check::of("groups", &groups, |groups| format!("{}", groups.len())));
    let actors = claims::required(root, "iss").and_then(|iss| {
        claims::required(root, "sub").and_then(|sub| claims::actors(root, &iss, &sub))
    });
    checks.push(Check::of("actors", &actors, |actors| format!("{}", actors.len())));
}

/// Which profiles the token could be configured for.
fn fitting(root: Value<'_>, header: &Header) -> Check {
    let fits = |profile: &Profile| {
        let client = claims::client(root);
        client
            .and_then(|client| profile.check(header.typ, header.kid.as_deref(), root, client))
            .is_ok()
    };
    let names: Vec<&str> = Profile::ALL.into_iter().filter(fits).map(Profile::name).collect();
    let detail = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    Check { name: "fits profiles", ok: !names.is_empty(), detail }
}
