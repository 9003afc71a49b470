//! `weirgate token`: mint with a dev key, and say check by check why a token is refused.

use super::process::System;
use crate::base::{IssuerId, Now};
use crate::identity::dev::{DevClaims, DevKey};
use crate::identity::{KeySet, KeySnapshot};
use crate::config::KeySource;
use clap::Subcommand;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Mint a token with a dev issuer's key (`weirgate demo` keeps one as `issuer.p8`).
    Mint {
        /// The issuer's private key (PKCS #8, Ed25519).
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// `iss`.
        #[arg(long)]
        issuer: String,
        /// `sub`.
        #[arg(long)]
        sub: String,
        /// `aud`.
        #[arg(long, default_value = "weirgate")]
        audience: String,
        /// A group; may be given several times.
        #[arg(long = "group")]
        groups: Vec<String>,
        /// `client_id`.
        #[arg(long, default_value = "weirgate-dev")]
        client_id: String,
        /// Life in seconds.
        #[arg(long, default_value_t = 3_600)]
        ttl: u64,
    },
    /// Read a token from standard input and print every check, and which profile would fit.
    Inspect {
        /// The gateway's config.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
        /// A key set file for issuers whose keys come over the network.
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

/// Runs it; 1 when the token is refused.
pub fn run(act: Act) -> ExitCode {
    let done = match act {
        Act::Mint { key, issuer, sub, audience, groups, client_id, ttl } => {
            let claims = DevClaims {
                issuer,
                subject: sub,
                audience: vec![audience],
                client_id,
                groups,
                actors: Vec::new(),
                issued_s: now().wall_s(),
                lifetime_s: ttl,
            };
            mint(&key, &claims).map(|token| {
                println!("{token}");
                true
            })
        }
        Act::Inspect { config, jwks, json } => inspect(&config, jwks.as_deref(), json),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("weirgate token: {error}");
            ExitCode::from(2)
        }
    }
}

fn mint(key: &std::path::Path, claims: &DevClaims) -> Result<String, String> {
    let document = std::fs::read(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let key = DevKey::from_pkcs8(&document).map_err(|error| format!("{error:?}"))?;
    Ok(key.mint(claims))
}

fn inspect(
    config: &std::path::Path,
    jwks: Option<&std::path::Path>,
    json: bool,
) -> Result<bool, String> {
    let config = crate::config::load(config, &System)
        .map_err(|errors| errors.iter().map(|one| format!("{one}\n")).collect::<String>())?;
    let mut sets = Vec::new();
    for issuer in &config.token_issuers {
        let path = match (&issuer.keys, jwks) {
            (KeySource::File(path), _) => Some(path.as_path()),
            (_, other) => other,
        };
        let Some(path) = path else {
            sets.push(None);
            continue;
        };
        let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (set, _) = KeySet::from_jwks(&bytes).map_err(|error| format!("{error:?}"))?;
        sets.push(Some(Arc::new(set)));
    }
    let _ = IssuerId(0);
    let keys = KeySnapshot { generation: 1, sets };
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token).map_err(|error| error.to_string())?;
    let checks = config.verifier().inspect(token.trim().as_bytes(), &keys, now());
    let mut fine = true;
    for check in &checks {
        fine &= check.ok;
        if json {
            println!(
                "{}",
                serde_json::json!({ "name": check.name, "ok": check.ok, "detail": check.detail })
            );
        } else {
            println!("{} {:<12} {}", if check.ok { "ok  " } else { "FAIL" }, check.name, check.detail);
        }
    }
    Ok(fine)
}

fn now() -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ns: 0, wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
}
