//! `[limits]`: one key for each field of `Limits`, and the few that a resource may set itself.

use super::reader::Section;
use super::report::Report;
use crate::base::{Limits, Protocol};

/// Reads one key: the number in the file, or what stood there before.
fn read<N: TryFrom<u64>>(
    section: &mut Section<'_>,
    key: &'static str,
    range: (u64, u64),
    old: N,
    report: &mut Report,
) -> N {
    let number = section.number(key, range.0..=range.1, report);
    number.and_then(|number| N::try_from(number).ok()).unwrap_or(old)
}

macro_rules! limits {
    ($($field:ident $low:literal .. $high:expr;)*) => {
        /// All keys of `[limits]`.
        pub(super) const KEYS: &[&str] = &[$(stringify!($field)),*];

        /// Reads the keys that `wanted` takes. Written without `..`, so that a bound without a
        /// key does not compile.
        fn apply(
            section: &mut Section<'_>,
            old: &Limits,
            wanted: impl Fn(&str) -> bool,
            report: &mut Report,
        ) -> Limits {
            Limits {
                $($field: if wanted(stringify!($field)) {
                    read(section, stringify!($field), ($low, $high), old.$field, report)
                } else {
                    old.$field
                },)*
            }
        }
    };
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY_MS: u64 = 86_400_000;

limits! {
    request_line_max 64 .. MIB;
    request_head_max 256 .. MIB;
    field_max 64 .. MIB;
    fields_max 1 .. 10_000;
    response_head_max 256 .. 4 * MIB;
    response_fields_max 1 .. 10_000;
    chunk_line_max 16 .. 64 * KIB;
    chunk_extensions_max 0 .. MIB;
    trailer_fields_max 0 .. 1_000;
    trailers_max 0 .. MIB;
    body_max 0 .. 1 << 50;
    lookahead_max 0 .. GIB;
    lookahead_worker_max 0 .. 64 * GIB;
    event_max 256 .. GIB;
    interim_max 0 .. 1_000;
    expansion_ratio_max 1 .. 100_000;
    sql_text_max 64 .. 16 * MIB;
    message_max 1_024 .. GIB;
    connections_max 1 .. 10_000_000;
    addresses_max 8 .. 10_000_000;
    address_handshakes_max 1 .. 10_000_000;
    address_handshakes_per_s 1 .. 10_000_000;
    address_handshakes_burst 1 .. 10_000_000;
    address_failures_per_s 1 .. 10_000_000;
    address_failures_burst 1 .. 10_000_000;
    upstream_idle_max 0 .. 1_000_000;
    upstream_connections_max 1 .. 1_000_000;
    token_max 128 .. MIB;
    token_cache_entries 0 .. 1_000_000;
    token_cache_bytes 0 .. GIB;
    approvals_max 0 .. 1_000_000;
    approvals_caller_max 0 .. 1_000_000;
    approvals_kept_max 0 .. 1_000_000;
    held_max 0 .. 1_000_000;
    held_caller_max 0 .. 1_000_000;
    held_body_max 0 .. 16 * MIB;
    hold_ms 0 .. 300_000;
    hold_transaction_ms 0 .. 300_000;
    head_ms 1 .. DAY_MS;
    handshake_ms 1 .. DAY_MS;
    body_idle_ms 1 .. DAY_MS;
    connect_ms 1 .. DAY_MS;
    first_byte_ms 1 .. DAY_MS;
    answer_idle_ms 1 .. DAY_MS;
    exchange_ms 1 .. 30 * DAY_MS;
    idle_ms 1 .. DAY_MS;
    session_idle_ms 1 .. 30 * DAY_MS;
    session_credentials_max 0 .. 1_000;
    token_grace_ms 0 .. DAY_MS;
    approvals_kept_ms 0 .. 366 * DAY_MS;
    upstream_idle_ms 0 .. DAY_MS;
    write_ms 1 .. DAY_MS;
    drain_ms 0 .. DAY_MS;
    linger_ms 0 .. 60_000;
    linger_max 0 .. 64 * MIB;
}

/// What a resource may set for itself under `limits`: what sessions ask the resource for. A bound
/// that only the gateway has, or only another protocol, would be taken and not hold.
fn of_protocol(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Http => &["body_max"],
        Protocol::Tcp => &[],
        Protocol::Postgres => &["sql_text_max", "message_max"],
    }
}

/// `[limits]`
pub(super) fn global(section: Option<Section<'_>>, report: &mut Report) -> Limits {
    let Some(mut section) = section else { return Limits::default() };
    let limits = apply(&mut section, &Limits::default(), |_| true, report);
    consistent(&mut section, &limits, report);
    section.finish(report);
    limits
}

/// `limits = { .. }` of a resource, over those of the gateway.
pub(super) fn of_resource(
    section: Option<Section<'_>>,
    protocol: Protocol,
    gateway: &Limits,
    report: &mut Report,
) -> Limits {
    let Some(mut section) = section else { return gateway.clone() };
    let own = of_protocol(protocol);
    let limits = apply(&mut section, gateway, |key| own.contains(&key), report);
    for key in KEYS.iter().filter(|key| !own.contains(key)) {
        if let Some(field) = section.field(key) {
            let has = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
            report.error(
                field.spot,
                format!("`{key}` cannot be set for one resource that speaks {}", protocol.label()),
                format!("set it under [limits]; such a resource has {has}"),
            );
        }
    }
    consistent(&mut section, &limits, report);
    section.finish(report);
    limits
}

/// Bounds that contradict each other would refuse everything, or never hold. The defaults do not:
/// one of two that do is written, here or where it has been reported.
fn consistent(section: &mut Section<'_>, limits: &Limits, report: &mut Report) {
    let pairs = [
        ("request_line_max", limits.request_line_max, "request_head_max", limits.request_head_max),
        ("field_max", limits.field_max, "request_head_max", limits.request_head_max),
        ("token_max", limits.token_max, "field_max", limits.field_max),
        ("sql_text_max", limits.sql_text_max, "message_max", limits.message_max),
    ];
    for (small, small_value, large, large_value) in pairs {
        if small_value > large_value && (section.has(small) || section.has(large)) {
            let written = if section.has(small) { small } else { large };
            let spot = section.spot_of(written);
            report.error(
                spot,
                format!("`{small}` ({small_value}) is above `{large}` ({large_value})"),
                format!("lower `{small}` or raise `{large}`"),
            );
        }
    }
}
