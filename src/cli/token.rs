//! `weirgate token`: mint with a dev issuer's key; say which check of a token fails, and show
//! nothing of the token.

use super::source::System;
use crate::base::Now;
use crate::config::KeySource;
use crate::identity::dev::{DevClaims, DevKey};
use crate::identity::{Check, KeySet, KeySnapshot, Verifier};
use clap::Args;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What `token mint` was asked.
#[derive(Clone, Debug, Args)]
pub struct Mint {
    /// The issuer's private key (PKCS #8, Ed25519).
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// `iss`.
    #[arg(long)]
    pub issuer: String,
    /// `sub`.
    #[arg(long)]
    pub sub: String,
    /// `aud`.
    #[arg(long, default_value = "weirgate")]
    pub audience: String,
    /// A group; may be given several times.
    #[arg(long = "group")]
    pub groups: Vec<String>,
    /// `client_id`.
    #[arg(long, default_value = "weirgate-dev")]
    pub client_id: String,
    /// Life in seconds.
    #[arg(long, default_value_t = 3_600)]
    pub ttl: u64,
}

/// Mints and prints a token. Returns 0, or 2 when the key cannot be used.
pub(super) fn mint(ask: &Mint) -> u8 {
    let key = std::fs::read(&ask.key)
        .map_err(|error| error.to_string())
        .and_then(|document| DevKey::from_pkcs8(&document).map_err(|error| format!("{error:?}")));
    match key {
        Ok(key) => {
            println!(
                "{}",
                key.mint(&DevClaims {
                    issuer: ask.issuer.clone(),
                    subject: ask.sub.clone(),
                    audience: vec![ask.audience.clone()],
                    client_id: ask.client_id.clone(),
                    groups: ask.groups.clone(),
                    actors: Vec::new(),
                    issued_s: crate::runtime::now().wall_s(),
                    lifetime_s: ask.ttl,
                })
            );
            0
        }
        Err(error) => {
            eprintln!("weirgate token mint: {}: {error}", ask.key.display());
            2
        }
    }
}

/// Inspects the token on standard input. Returns 0: accepted; 1: refused; 2: it could not run.
pub(super) fn inspect_input(config: &Path, jwks: Option<&Path>) -> u8 {
    let inspected = keys(config, jwks).and_then(|(verifier, keys)| {
        let mut input = Vec::new();
        let limit = u64::try_from(crate::identity::TOKEN_LEN_MAX).unwrap_or(u64::MAX) * 2;
        std::io::stdin().take(limit).read_to_end(&mut input).map_err(|error| error.to_string())?;
        Ok(inspect(&verifier, &input, &keys, crate::runtime::now()))
    });
    match inspected {
        Ok(inspection) => {
            print!("{}", inspection.text);
            u8::from(!inspection.accepted)
        }
        Err(error) => {
            eprintln!("weirgate token inspect: {error}");
            2
        }
    }
}

fn keys(config: &Path, jwks: Option<&Path>) -> Result<(Verifier, KeySnapshot), String> {
    let config = crate::config::load(config, &System)
        .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect::<String>())?;
    let mut sets = Vec::new();
    for issuer in &config.token_issuers {
        let path = match &issuer.keys {
            KeySource::File(path) => Some(path.as_path()),
            _ => jwks,
        };
        let read = |path: &Path| {
            let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
            KeySet::from_jwks(&bytes).map(|(set, _)| set).map_err(|error| format!("{error:?}"))
        };
        let set = path
            .map(|path| read(path).map_err(|error| format!("{}: {error}", path.display())))
            .transpose()?;
        sets.push(set.map(Arc::new));
    }
    Ok((config.verifier(), KeySnapshot { generation: 1, sets }))
}

/// What `token inspect` prints, and whether the token is accepted (exit status 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Lines for the terminal.
    pub text: String,
    /// Whether the gateway would accept the token.
    pub accepted: bool,
}

/// Inspects what stands in a file or was piped in: a token, blanks around it and `Bearer` before
/// it are left out, since people copy those along. The gateway itself takes nothing away.
#[must_use]
pub fn inspect(verifier: &Verifier, input: &[u8], keys: &KeySnapshot, now: Now) -> Inspection {
    let token = input.trim_ascii();
    let token = match token.split_at_checked("Bearer ".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"Bearer ") => rest.trim_ascii(),
        _ => token,
    };
    let checks = verifier.inspect(token, keys, now);
    let accepted = checks.iter().any(|check| check.name == "verdict" && check.ok);
    Inspection { text: table(&checks), accepted }
}

fn table(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        // Writing to a `String` does not fail.
        let _ = writeln!(text, "{mark}  {:width$}  {}", check.name, check.detail);
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::dev::{DevClaims, DevKey};

    #[test]
    fn the_table_tells_the_failing_check_and_shows_no_token() {
        let key = DevKey::generate().unwrap();
        let keys = key.snapshot(1);
        let verifier = Verifier::new(vec![DevKey::rules("dev", "https://dev", "gate")]);
        let token = key.mint(&DevClaims {
            issuer: "https://dev".to_owned(),
            subject: "alice".to_owned(),
            audience: vec!["gate".to_owned()],
            client_id: "demo".to_owned(),
            issued_s: 1_000,
            lifetime_s: 60,
            ..DevClaims::default()
        });
        let at = |wall_s: u64| Now { mono_ns: 0, wall_ns: wall_s * 1_000_000_000 };
        for input in [token.clone(), format!("bearer {token}\n"), format!("  {token}\r\n")] {
            let good = inspect(&verifier, input.as_bytes(), &keys, at(1_010));
            assert!(good.accepted && !good.text.contains("FAIL"), "{}", good.text);
        }
        let late = inspect(&verifier, token.as_bytes(), &keys, at(2_000));
        assert!(!late.accepted);
        assert!(late.text.contains("FAIL  times          expired"), "{}", late.text);
        assert!(!late.text.contains("alice") && !late.text.contains(token.get(..16).unwrap()));
        assert!(!inspect(&verifier, b"", &keys, at(1_010)).accepted);
    }
}
