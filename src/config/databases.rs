//! What only a `[[resource]]` that is a database has.

use super::reader::{Section, choose};
use super::report::Report;
use super::types::Protocol;
use crate::credential::{AuthMethod, AuthMethods};

/// How to write the credential of a database.
pub(super) const PASSWORD: &str =
    "write `credential = { kind = \"password\", user = \"..\", secret = \"env:VARIABLE\" }`";

/// `auth`: how the server may ask for the password. `exposed` is whether the password would leave
/// the machine for all to read.
pub(super) fn auth(
    section: &mut Section<'_>,
    name: &str,
    protocol: Protocol,
    exposed: bool,
    report: &mut Report,
) -> AuthMethods {
    let Some(texts) = section.texts("auth", report) else { return AuthMethods::default() };
    if protocol != Protocol::Postgres {
        let spot = section.spot_of("auth");
        let fault = format!("resource `{name}` speaks {} and has no `auth`", protocol.label());
        report.error(spot, fault, "leave it out: it is how a database may ask for its password");
        return AuthMethods::default();
    }
    let words = AuthMethod::ALL.map(|method| (method.label(), method));
    let mut methods = AuthMethods::NONE;
    for text in texts {
        if text.text == "scram-sha-256-plus" {
            report.error(
                text.spot,
                "channel binding is not chosen by name",
                "write `scram-sha-256`: it is bound wherever TLS is spoken and the server offers it",
            );
            continue;
        }
        let Some(method) = choose("`auth` method", text, &words, report) else { continue };
        if method == AuthMethod::Cleartext && exposed {
            report.error(
                text.spot,
                format!("the password of `{name}` would be sent in plain text beyond loopback"),
                "write `tls = { .. }` too, or leave `cleartext` out",
            );
        }
        methods = methods.with(method);
    }
    methods
}
