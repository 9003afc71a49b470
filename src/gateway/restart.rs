//! What a reload does not take over: workers, sockets and files that are made once, at the start.
//!
//! A new config that changes any of it is refused whole. To take over the rest would leave a
//! gateway that runs by neither file.

use crate::base::Limits;
use crate::config::{Config, KeySource, Listener};

/// The keys that differ and take a restart, as they are written in the file; none when the new
/// config can be taken over.
pub(super) fn needed(old: &Config, new: &Config) -> Vec<String> {
    let mut keys = Vec::new();
    gateway(old, new, &mut keys);
    record(old, new, &mut keys);
    admin(old, new, &mut keys);
    limits(&old.limits, &new.limits, &mut keys);
    issuers(old, new, &mut keys);
    listeners(old, new, &mut keys);
    keys
}

fn gateway(old: &Config, new: &Config, keys: &mut Vec<String>) {
    let (old, new) = (&old.gateway, &new.gateway);
    let differing = [
        ("workers", old.workers != new.workers),
        ("data_dir", old.data_dir != new.data_dir),
        ("ring_dir", old.ring_dir != new.ring_dir),
    ];
    add("[gateway]", &differing, keys);
}

fn record(old: &Config, new: &Config, keys: &mut Vec<String>) {
    let differing = [("window", old.record.window_ms != new.record.window_ms)];
    add("[record]", &differing, keys);
}

fn admin(old: &Config, new: &Config, keys: &mut Vec<String>) {
    match (&old.admin, &new.admin) {
        (None, None) => {}
        (Some(old), Some(new)) => add("[admin]", &[("address", old.address != new.address)], keys),
        (None, Some(_)) => keys.push("[admin] (added)".to_owned()),
        (Some(_), None) => keys.push("[admin] (removed)".to_owned()),
    }
}

/// The bounds that workers and their sockets are made with. All others are read from the snapshot
/// of each exchange.
fn limits(old: &Limits, new: &Limits, keys: &mut Vec<String>) {
    macro_rules! differing {
        ($($field:ident)*) => { [$((stringify!($field), old.$field != new.$field)),*] };
    }
    let differing = differing!(
        connections_max addresses_max
        address_handshakes_max address_handshakes_per_s address_handshakes_burst
        upstream_idle_max upstream_connections_max token_cache_entries token_cache_bytes
        handshake_ms connect_ms upstream_idle_ms write_ms drain_ms linger_ms linger_max
    );
    add("[limits]", &differing, keys);
}

/// Key sets are fetched and found by the issuer's place; a certificate's rules belong to the
/// listener whose handshake has verified it, and must not be put on one of another authority.
fn issuers(old: &Config, new: &Config, keys: &mut Vec<String>) {
    let named = |config: &Config| -> Vec<String> {
        config.token_issuers.iter().map(|one| one.rules.issuer.clone()).collect()
    };
    if named(old) == named(new) {
        for (old, new) in old.token_issuers.iter().zip(&new.token_issuers) {
            if old.keys != new.keys {
                let key = match (&old.keys, &new.keys) {
                    (KeySource::File(_), _) | (_, KeySource::File(_)) => "jwks_file",
                    _ => "jwks_url",
                };
                keys.push(format!("[[issuer]] `{}` {key}", new.rules.name));
            }
        }
    } else {
        keys.push("[[issuer]] (added, removed, reordered, or another `issuer`)".to_owned());
    }
    let (old, new) = (&old.certificate_issuers, &new.certificate_issuers);
    if old.len() != new.len() {
        return keys.push("[[issuer]] of kind x509 (added or removed)".to_owned());
    }
    for (old, new) in old.iter().zip(new) {
        let differing = [
            ("ca", old.ca != new.ca),
            ("issuer", old.rules.iss != new.rules.iss),
            ("trust_domain", old.rules.trust_domain != new.rules.trust_domain),
        ];
        add(&format!("[[issuer]] `{}`", new.name), &differing, keys);
    }
}

fn listeners(old: &Config, new: &Config, keys: &mut Vec<String>) {
    let (old, new) = (&old.listeners, &new.listeners);
    let has = |list: &[Listener], name: &str| list.iter().any(|one| one.name == name);
    let before = keys.len();
    let added = new.iter().filter(|one| !has(old, &one.name));
    keys.extend(added.map(|one| format!("[[listener]] `{}` (added)", one.name)));
    let removed = old.iter().filter(|one| !has(new, &one.name));
    keys.extend(removed.map(|one| format!("[[listener]] `{}` (removed)", one.name)));
    if keys.len() > before {
        return;
    }
    for (old, new) in old.iter().zip(new) {
        if old.name != new.name {
            return keys.push("the order of [[listener]]".to_owned());
        }
        let ca = |one: &Listener| one.tls.as_ref().and_then(|tls| tls.client_ca.clone());
        let both = old.tls.is_some() && new.tls.is_some();
        let differing = [
            ("address", old.address != new.address),
            ("protocol", old.protocol != new.protocol),
            ("tls", old.tls.is_some() != new.tls.is_some()),
            ("tls.client_ca", both && ca(old) != ca(new)),
        ];
        add(&format!("[[listener]] `{}`", new.name), &differing, keys);
    }
}

fn add(of: &str, differing: &[(&str, bool)], keys: &mut Vec<String>) {
    let found = differing.iter().filter(|(_, differs)| *differs);
    keys.extend(found.map(|(key, _)| format!("{of} {key}")));
}
